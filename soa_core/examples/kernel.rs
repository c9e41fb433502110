//! Fills columns and a keyed store with orders and says what that costs.
//!
//! `cargo run --release --example kernel -- 10000000`

#[path = "support/orders.rs"]
mod orders;

use std::time::Instant;

use orders::{OrderSoA, OrderStore, orders};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let count: usize = std::env::args().nth(1).map_or(Ok(1_000_000), |count| count.parse())?;
    let per_row = |bytes: usize| bytes as f64 / count.max(1) as f64;

    let start = Instant::now();
    let mut soa = OrderSoA::new();
    soa.extend(orders(count));
    println!("{count} orders made and pushed in {:?}", start.elapsed());
    soa.shrink_to_fit();
    println!("columns: {:.2} bytes per order", per_row(soa.memory_bytes()));

    let start = Instant::now();
    let batch = soa.to_record_batch();
    println!("shared as a record batch of {} columns in {:?}", batch.num_columns(), start.elapsed());

    let start = Instant::now();
    let total: f64 = soa.total_amount_raw_array().iter().sum();
    println!("summed one column to {total:.2} in {:?}", start.elapsed());

    let start = Instant::now();
    let mut store = OrderStore::from_kernel(soa)?;
    println!(
        "indexed by key in {:?}; with the index {:.2} bytes per order",
        start.elapsed(),
        per_row(store.memory_bytes())
    );

    let start = Instant::now();
    let mut found = 0_usize;
    for key in (0..count as u64).step_by(7) {
        found += usize::from(store.get(&key).is_some_and(|order| order.order_id == key));
    }
    println!("{found} of them found by key in {:?}", start.elapsed());

    store.update(&0, |mut order| *order.quantity() += 1)?;
    println!("after a change, the first order in the store is {:?}", store.get(&0));
    println!("the record batch still has {} rows and the old quantity", batch.num_rows());
    Ok(())
}
