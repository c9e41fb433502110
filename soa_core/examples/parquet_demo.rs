//! Orders in Parquet files: compressed in several ways, partitioned, and read as far as a query needs.
//!
//! `cargo run -p soa_core --example parquet_demo [FOLDER]`

#[path = "support/orders.rs"]
mod orders;

use std::error::Error;
use std::path::{Path, PathBuf};

use orders::{Order, OrderSoA, order, orders};
use soa_core::persistence::{
    Compression, ParquetPersistence, PartitionedParquetPersistence, PersistenceError, Query, SoAPersistence,
};
use soa_core::scan::ScanRequest;

const COUNT: u64 = 200_000;

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = std::env::args().nth(1).map_or_else(|| temporary.path().to_owned(), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    runtime.block_on(async {
        let rows: OrderSoA = orders(COUNT as usize).collect();
        compressed(&folder, &rows).await?;
        partitioned(&folder, &rows).await?;
        appended(&folder).await
    })
}

async fn compressed(folder: &Path, rows: &OrderSoA) -> Result<(), Box<dyn Error>> {
    println!("-- {} orders, which take {} bytes in memory", rows.len(), rows.memory_bytes());
    for compression in [Compression::Zstd, Compression::Lz4, Compression::Snappy, Compression::Uncompressed] {
        let folder = folder.join(format!("{compression:?}.soa").to_lowercase());
        let kept = ParquetPersistence::<Order>::new(&folder).with_compression(compression);
        kept.save(rows).await?;
        let snapshot = kept.store().await?.store().snapshot()?;
        let bytes: u64 = snapshot.segments().iter().map(|segment| segment.parquet_bytes()).sum();
        println!("{:>20} {bytes:>9} bytes of Parquet", folder.file_name().unwrap_or_default().display());
    }
    Ok(())
}

async fn partitioned(folder: &Path, rows: &OrderSoA) -> Result<(), Box<dyn Error>> {
    println!("-- one folder for each status");
    let folder = folder.join("partitioned.soa");
    let kept = PartitionedParquetPersistence::<Order>::new(&folder, "status");
    kept.save(rows).await?;
    let mut folders: Vec<String> = std::fs::read_dir(&folder)?
        .filter_map(|entry| entry.ok().and_then(|entry| entry.file_name().into_string().ok()))
        .filter(|name| name.starts_with("status="))
        .collect();
    folders.sort();
    println!("{}", folders.join("  "));
    let query = Query::parse::<Order>("status = 'Pending' AND total_amount > 4500")?;
    println!("{} pending orders of more than 4500", kept.query(query.clone()).await?.len());
    let request = ScanRequest { columns: vec![0], predicate: query.predicate, limit: None };
    let counters = kept.store().await?.store().snapshot()?.plan(&request)?.counters();
    println!("for which {} of {} files were read", counters.segments_read, counters.segments_total);
    Ok(())
}

async fn appended(folder: &Path) -> Result<(), Box<dyn Error>> {
    println!("-- appending writes what is new");
    let kept = ParquetPersistence::<Order>::new(folder.join("zstd.soa"));
    let before = kept.memory_stats().await?;
    kept.append(&(COUNT..COUNT + 1_000).map(|row| order(row, COUNT)).collect()).await?;
    let after = kept.memory_stats().await?;
    println!(
        "{} bytes for 1000 orders more, beside {} that stay as they are",
        after.total_bytes - before.total_bytes,
        before.total_bytes
    );
    // A folder holds one kind of records. Another one is refused, and nothing is lost.
    let error = PartitionedParquetPersistence::<Order>::new(kept.path(), "status").clear().await;
    match error {
        Err(error @ PersistenceError::OtherTable { .. }) => println!("refused: {error}"),
        other => return Err(format!("it should have been refused: {other:?}").into()),
    }
    println!("{} orders are there", kept.count().await?);
    Ok(kept.close().await?)
}
