//! The same small shop twice: with its orders in memory alone, and with orders that are kept.
//!
//! `cargo run -p soa_core --example example_app [FOLDER]`

#[path = "support/orders.rs"]
mod orders;
#[path = "support/reports.rs"]
mod reports;

use std::error::Error;
use std::path::PathBuf;

use orders::{OrderSoA, OrderStatus, OrderStore, PersistentOrderStore, order, orders};
use soa_core::persistence::ParquetPersistence;

const COUNT: u64 = 1_000;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = std::env::args().nth(1).map(PathBuf::from);
    // A folder that was not given is a temporary one, which goes with the program.
    let temporary = tempfile::tempdir()?;
    let folder = folder.unwrap_or_else(|| temporary.path().join("orders.soa"));
    let in_memory = in_memory()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().build()?;
    let kept = runtime.block_on(kept(folder))?;
    println!("both shops have the same orders: {}", sorted(in_memory) == sorted(kept));
    Ok(())
}

/// Orders that are gone with the program.
fn in_memory() -> Result<OrderSoA, Box<dyn Error>> {
    println!("-- in memory");
    let mut store = OrderStore::new();
    store.add_batch(orders(COUNT as usize))?;
    store.add(order(COUNT, COUNT + 1))?;
    store.update(&7, |mut order| order.set_status(OrderStatus::Cancelled))?;
    let removed = store.remove(&8).map(|order| order.order_id);
    println!("order {removed:?} is gone; order 7 is {:?}", store.get(&7).map(|order| order.status));
    let cancelled = store.iter().filter(|order| order.status == OrderStatus::Cancelled).count();
    println!("{} orders, {cancelled} of them cancelled", store.len());
    report(store.kernel());
    Ok(store.into_kernel())
}

/// Orders that are there the next time, and that others query meanwhile: the same calls, with `.await`.
async fn kept(folder: PathBuf) -> Result<OrderSoA, Box<dyn Error>> {
    println!("-- kept in {}", folder.display());
    let mut store = PersistentOrderStore::with_persistence(ParquetPersistence::new(&folder));
    // What an earlier run has left.
    store.clear().await?;
    store.add_batch(orders(COUNT as usize)).await?;
    store.add(order(COUNT, COUNT + 1)).await?;
    store.update(&7, |mut order| order.set_status(OrderStatus::Cancelled)).await?;
    let removed = store.remove(&8).await?.map(|order| order.order_id);
    println!("order {removed:?} is gone; order 7 is {:?}", store.get(&7).await?.map(|order| order.status));
    let cancelled = store.query(soa_core::persistence::Query::parse::<orders::Order>("status = 'Cancelled'")?).await?;
    println!("{} orders, {} of them cancelled", store.count().await?, cancelled.len());
    println!("so far nothing was loaded: {}", !store.is_loaded());
    let rows = store.kernel().await?.clone();
    report(&rows);
    store.close().await?;
    Ok(rows)
}

fn report(orders: &OrderSoA) {
    for (status, revenue) in reports::revenue_by_status(orders) {
        println!("{:>12} {revenue:>12.2}", format!("{status:?}"));
    }
}

fn sorted(mut orders: OrderSoA) -> Vec<orders::Order> {
    orders.sort_by_order_id();
    orders.to_vec()
}
