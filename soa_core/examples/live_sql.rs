//! This process adds orders one at a time while another one queries them with SQL.
//!
//! `cargo run -p soa_core --example live_sql [FOLDER]`. The other process is this program again, which reads the folder with
//! DataFusion; `soa sql FOLDER "SELECT …"`, DuckDB with the extension and Postgres would see the same rows.

#[path = "support/orders.rs"]
mod orders;

use std::error::Error;
use std::io::{BufRead, BufReader, Write, stdin, stdout};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;

use datafusion::arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::SessionContext;
use orders::{OrderStatus, PersistentOrderStore, order, orders};
use soa_core::datafusion::SnapshotTable;
use soa_core::persistence::ParquetPersistence;
use soa_core::store::Store;

const QUERY: &str = "SELECT status, count(*) AS orders, round(sum(total_amount), 2) AS revenue
    FROM orders GROUP BY status ORDER BY status";
const ROUNDS: u64 = 3;
const ORDERS_A_ROUND: u64 = 50;
/// The other process ends what it says with it.
const END: &str = "--";

type Answer = Result<(), Box<dyn Error>>;

fn main() -> Answer {
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    let mut arguments = std::env::args().skip(1);
    match (arguments.next(), arguments.next()) {
        (Some(option), Some(folder)) if option == "--query" => runtime.block_on(query(Path::new(&folder))),
        (folder, _) => {
            let temporary = tempfile::tempdir()?;
            let folder = folder.map_or_else(|| temporary.path().join("orders.soa"), PathBuf::from);
            runtime.block_on(write(&folder))
        }
    }
}

/// Adds orders, and after some asks the other process what it sees.
async fn write(folder: &Path) -> Answer {
    let mut shop = PersistentOrderStore::with_persistence(ParquetPersistence::new(folder));
    shop.clear().await?;
    shop.add_batch(orders(1_000)).await?;
    let mut other = Command::new(std::env::current_exe()?)
        .args(["--query".as_ref(), folder.as_os_str()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut questions = other.stdin.take().ok_or("the other process has no input")?;
    let mut answers = BufReader::new(other.stdout.take().ok_or("the other process has no output")?).lines();
    println!("process {} writes, process {} queries", std::process::id(), other.id());
    for round in 0..ROUNDS {
        for number in 0..ORDERS_A_ROUND {
            shop.add(order(1_000 + round * ORDERS_A_ROUND + number, 10_000)).await?;
        }
        shop.update(&round, |mut order| order.set_status(OrderStatus::Cancelled)).await?;
        println!("{} orders written; the other process sees:", shop.count().await?);
        questions.write_all(b"\n")?;
        let answer = answers.by_ref().take_while(|line| line.as_ref().is_ok_and(|line| line != END));
        answer.collect::<Result<Vec<String>, _>>()?.iter().for_each(|line| println!("  {line}"));
    }
    // Without questions the other process ends.
    drop(questions);
    shop.close().await?;
    if !other.wait()?.success() {
        return Err("the other process has failed".into());
    }
    Ok(())
}

/// Answers whenever it is asked: what is in the folder at that moment.
async fn query(folder: &Path) -> Answer {
    let store = Store::open(folder)?;
    for _ in stdin().lines() {
        let snapshot = store.snapshot()?;
        let (rows, in_log) = (snapshot.row_count(), snapshot.log_row_count());
        let session = SessionContext::new();
        session.register_table("orders", Arc::new(SnapshotTable::new(snapshot)))?;
        let found = session.sql(QUERY).await?.collect().await?;
        println!("{rows} orders, {in_log} of them not yet published\n{}\n{END}", pretty_format_batches(&found)?);
        stdout().flush()?;
    }
    Ok(())
}
