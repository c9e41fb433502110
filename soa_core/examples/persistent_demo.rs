//! A shop's orders through their whole life: kept as they come, changed, queried, and there again after a restart.
//!
//! `cargo run -p soa_core --example persistent_demo [FOLDER]`

#[path = "support/orders.rs"]
mod orders;
#[path = "support/reports.rs"]
mod reports;

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Instant;

use orders::{Order, OrderStatus, PersistentOrderStore, order, orders};
use soa_core::persistence::{ParquetPersistence, Query, SoAPersistence};
use soa_core::store::Store;

/// A day's orders.
const COUNT: u64 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let folder = std::env::args().nth(1).map_or_else(|| temporary.path().join("orders.soa"), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    runtime.block_on(async {
        first_day(&folder).await?;
        second_day(&folder).await
    })
}

async fn first_day(folder: &Path) -> Result<(), Box<dyn Error>> {
    println!("-- the first day, in {}", folder.display());
    let kept = ParquetPersistence::<Order>::new(folder);
    kept.save(&orders(COUNT as usize).collect()).await?;
    println!("{} orders saved in one commit", kept.count().await?);

    let mut shop = PersistentOrderStore::with_persistence(kept);
    let start = Instant::now();
    for number in 0..100 {
        shop.add(order(COUNT + number, COUNT)).await?;
    }
    println!("100 more, each on disk before the next one came, in {:?}", start.elapsed());
    for number in 0..10 {
        shop.update(&number, |mut order| order.set_status(OrderStatus::Delivered)).await?;
    }
    shop.remove(&10).await?;
    println!("10 delivered, 1 removed; {} orders now, and none was loaded: {}", shop.count().await?, !shop.is_loaded());
    // Whoever opens the folder now sees all of this, although most of it is in the write-ahead log alone.
    let snapshot = Store::open(folder)?.snapshot()?;
    println!("a reader sees {} orders, {} of them in the log", snapshot.row_count(), snapshot.log_row_count());
    // The program ends here without a word. Nothing would be lost in a crash, either: what is in the log is on disk.
    Ok(())
}

async fn second_day(folder: &Path) -> Result<(), Box<dyn Error>> {
    println!("-- after a restart");
    let start = Instant::now();
    let mut shop = PersistentOrderStore::with_persistence(ParquetPersistence::new(folder));
    let one = shop.get(&(COUNT + 99)).await?.ok_or("the last order is not there")?;
    println!("opened, and order {} found among {}, in {:?}", one.order_id, shop.count().await?, start.elapsed());
    let large = shop.query(Query::parse::<Order>("total_amount > 4900 AND status <> 'Cancelled'")?.limit(3)).await?;
    for order in large.iter() {
        println!("order {} of {:.2} is {:?}", order.order_id, order.total_amount, order.status);
    }

    let start = Instant::now();
    let rows = shop.kernel().await?.len();
    println!("all {rows} loaded in {:?}", start.elapsed());
    for (customer, spent) in reports::top_customers(shop.kernel().await?, 3) {
        println!("customer {customer:>6} has spent {spent:>10.2}");
    }
    for month in reports::monthly_trends(shop.kernel().await?).iter().take(3) {
        println!("{}-{:02} {:>6} orders {:>12.2}", month.year, month.month, month.orders, month.revenue);
    }
    let (memory, disk) = (shop.memory_stats(), shop.persistence().memory_stats().await?);
    println!("{} bytes in memory, {} on disk in {} pieces", memory.total_bytes, disk.total_bytes, disk.num_batches);
    let kept = shop.count().await?;
    shop.close().await?;
    println!("closed with {kept} orders; every reader of Delta Lake sees them");
    Ok(())
}
