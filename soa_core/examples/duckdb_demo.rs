//! Orders in a table of a DuckDB database, and DuckDB's SQL over them.
//!
//! `cargo run --release --package soa_core --features duckdb-bundled --example duckdb_demo [FILE]`, which compiles DuckDB the
//! first time; with `--features duckdb` and DUCKDB_LIB_DIR it is linked with one that is there.

#[path = "support/orders.rs"]
mod orders;
#[path = "support/reports.rs"]
mod reports;

use std::error::Error;
use std::path::PathBuf;

use datafusion::arrow::util::pretty::pretty_format_batches;
use orders::{Order, OrderStatus, PersistentOrderStore, order, orders};
use soa_core::persistence::{DuckDBPersistence, PersistenceError, Query, SoAPersistence};

const COUNT: u64 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let temporary = tempfile::tempdir()?;
    let file = std::env::args().nth(1).map_or_else(|| temporary.path().join("shop.duckdb"), PathBuf::from);
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    runtime.block_on(async {
        let kept = DuckDBPersistence::<Order>::new(Some(&file), "orders");
        kept.save(&orders(COUNT as usize).collect()).await?;
        println!("{} orders in the table orders of {}", kept.count().await?, file.display());
        sql(&kept).await?;
        helpers(&kept).await?;
        kept.close().await?;
        changes(DuckDBPersistence::new(Some(&file), "orders")).await
    })
}

async fn sql(kept: &DuckDBPersistence<Order>) -> Result<(), Box<dyn Error>> {
    println!("-- any SQL, as record batches");
    let batches = kept
        .query_sql("SELECT payment_method, count(*) AS orders, avg(total_amount) AS mean FROM orders GROUP BY ALL ORDER BY ALL")
        .await?;
    println!("{}", pretty_format_batches(&batches)?);
    println!("-- or as JSON");
    let values = kept
        .analytics_query(
            "SELECT customer_id, round(sum(total_amount), 2) AS spent FROM orders GROUP BY ALL ORDER BY spent DESC LIMIT 3",
        )
        .await?;
    values.iter().for_each(|value| println!("{value}"));
    Ok(())
}

/// The same questions, asked of the columns.
async fn helpers(kept: &DuckDBPersistence<Order>) -> Result<(), PersistenceError> {
    println!("-- the same from the columns");
    let rows = kept.load().await?;
    for (customer, spent) in reports::top_customers(&rows, 3) {
        println!("customer {customer} has spent {spent:.2}");
    }
    for (status, revenue) in reports::revenue_by_status(&rows) {
        println!("{:>12} {revenue:>14.2}", format!("{status:?}"));
    }
    let large = kept.query(Query::parse::<Order>("total_amount > 4900 AND status = 'Pending'")?.limit(2)).await?;
    println!("{} large orders are pending, such as {:?}", large.len(), large.get(0).map(|order| order.order_id));
    Ok(())
}

async fn changes(kept: DuckDBPersistence<Order>) -> Result<(), Box<dyn Error>> {
    println!("-- opened again");
    let mut shop = PersistentOrderStore::with_persistence(kept);
    shop.add(order(COUNT, COUNT + 1)).await?;
    shop.update(&7, |mut order| order.set_status(OrderStatus::Cancelled)).await?;
    shop.remove(&8).await?;
    let sql = "SELECT count(*) AS orders, count(*) FILTER (status = 'Cancelled') AS cancelled FROM orders";
    println!("after three changes: {}", shop.persistence().analytics_query(sql).await?[0]);
    Ok(shop.close().await?)
}
