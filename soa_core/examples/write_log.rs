//! Writes to a store's write-ahead log what it is told to, line by line; the tests query the store between two lines.
//!
//! `write_log STORE` makes the store of orders if there is none and answers each line with `ok` and a number:
//! `add FROM TO` adds the orders of these numbers (the last not included), one at a time; `batch FROM TO` adds them at once;
//! `delete FROM TO` deletes them; `flush` publishes; `close` publishes and ends; `abandon` ends at once, as a crash would.

#[path = "support/orders.rs"]
mod orders;

use std::error::Error;
use std::io::BufRead;
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use orders::{Order, OrderSoA, order};
use soa_core::arrow::array::UInt64Array;
use soa_core::kernel::StoredRecord;
use soa_core::store::{Store, WriterOptions};

/// As many orders as the year that the orders are spread over has room for.
const ORDERS_A_YEAR: u64 = 10_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let path = std::env::args().nth(1).ok_or("give a store")?;
    let store = Store::open_or_create(path, Order::table_schema())?;
    let mut options = WriterOptions::default();
    // Only what it is told to.
    options.publish_age = Duration::from_secs(24 * 3600);
    let writer = store.writer(options)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let words: Vec<&str> = line.split(' ').collect();
        let answer = match words.as_slice() {
            ["add", from, to] => {
                numbers(from, to)?.try_for_each(|row| writer.add(order(row, ORDERS_A_YEAR)))?;
                0
            }
            ["batch", from, to] => {
                let rows: OrderSoA = numbers(from, to)?.map(|row| order(row, ORDERS_A_YEAR)).collect();
                writer.add_batch(&rows.to_record_batch())?;
                rows.len() as u64
            }
            ["delete", from, to] => {
                writer.delete(&(Arc::new(UInt64Array::from_iter_values(numbers(from, to)?)) as _))?;
                0
            }
            ["flush"] => writer.flush()?,
            ["close"] => {
                let version = writer.close()?;
                println!("ok {version}");
                return Ok(());
            }
            ["abandon"] => std::process::abort(),
            _ => return Err(format!("\"{line}\" is no command").into()),
        };
        println!("ok {answer}");
    }
    Ok(())
}

fn numbers(from: &str, to: &str) -> Result<Range<u64>, std::num::ParseIntError> {
    Ok(from.parse()?..to.parse()?)
}
