//! Appends numbered batches to a store, each in one commit; the tests read the store meanwhile.
//!
//! `append_batches STORE --batches N --rows R` makes the store if there is none, and goes on with the number of the batch after
//! those that are there. Batch `b` has the values `b * R` to `(b + 1) * R - 1`.

use std::error::Error;
use std::sync::Arc;

use soa_core::arrow::array::{ArrayRef, RecordBatch, StringArray, UInt64Array};
use soa_core::schema::{DataType, Field, Schema};
use soa_core::store::Store;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [store, batches_option, batches, rows_option, rows] = arguments.as_slice() else {
        return Err("give STORE --batches N --rows R".into());
    };
    if batches_option != "--batches" || rows_option != "--rows" {
        return Err("give STORE --batches N --rows R".into());
    }
    let (batches, rows): (u64, u64) = (batches.parse()?, rows.parse()?);
    if rows == 0 {
        return Err("--rows must not be 0".into());
    }
    let store = Store::open_or_create(
        store,
        Schema::new([
            Field::new("batch", DataType::UInt64),
            Field::new("value", DataType::UInt64),
            Field::new("text", DataType::Utf8),
        ])?,
    )?;
    let first = store.snapshot()?.row_count() / rows;
    for batch in first..first + batches {
        store.append(&[batch_of(batch, rows)?])?;
    }
    println!("{batches} batches of {rows} rows appended after {first}");
    Ok(())
}

fn batch_of(batch: u64, rows: u64) -> Result<RecordBatch, Box<dyn Error>> {
    let values = batch * rows..(batch + 1) * rows;
    let columns: [(&str, ArrayRef); 3] = [
        ("batch", Arc::new(UInt64Array::from_iter_values(values.clone().map(|_| batch)))),
        ("value", Arc::new(UInt64Array::from_iter_values(values.clone()))),
        ("text", Arc::new(StringArray::from_iter_values(values.map(|value| format!("value {value} of batch {batch}"))))),
    ];
    Ok(RecordBatch::try_from_iter(columns)?)
}
