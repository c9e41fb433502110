//! Keeps adding orders to a store for a while; the demo queries the store meanwhile.
//!
//! `live_orders STORE --seconds S --batch N` adds N orders at a time, a few times a second, each time in one commit.

#[path = "support/orders.rs"]
mod orders;

use std::error::Error;
use std::time::{Duration, Instant};

use orders::{Order, OrderSoA, order};
use soa_core::kernel::StoredRecord;
use soa_core::store::Store;

/// The time between two batches.
const PAUSE: Duration = Duration::from_millis(50);
/// As many orders as the year that the orders are spread over has room for.
const ORDERS_A_YEAR: u64 = 10_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [path, seconds_option, seconds, batch_option, batch] = arguments.as_slice() else {
        return Err("give STORE --seconds S --batch N".into());
    };
    if seconds_option != "--seconds" || batch_option != "--batch" {
        return Err("give STORE --seconds S --batch N".into());
    }
    let (duration, batch): (Duration, u64) = (Duration::from_secs(seconds.parse()?), batch.parse()?);
    let store = Store::open_or_create(path, Order::table_schema())?;
    let start = Instant::now();
    let (mut count, mut commits) = (store.snapshot()?.row_count(), 0_u64);
    while start.elapsed() < duration {
        let new: OrderSoA = (count..count + batch).map(|row| order(row, ORDERS_A_YEAR)).collect();
        store.append(&[new.to_record_batch()])?;
        count += batch;
        commits += 1;
        std::thread::sleep(PAUSE);
    }
    println!("{count} orders are in the store, added in {commits} commits");
    Ok(())
}
