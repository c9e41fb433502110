//! Fills a store with the orders in a Parquet file, status and payment method as enums; the benchmark reads the store.
//!
//! `orders_store FILE STORE`

use std::error::Error;
use std::fs::File;

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use soa_core::schema::{DataType, Field, Schema, Variants};
use soa_core::store::{Store, UNIT_ROWS};

const STATUSES: [&str; 5] = ["Pending", "Processing", "Shipped", "Delivered", "Cancelled"];
const PAYMENT_METHODS: [&str; 4] = ["CreditCard", "DebitCard", "PayPal", "BankTransfer"];

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [file, store] = arguments.as_slice() else {
        return Err("give FILE STORE".into());
    };
    let batches = ParquetRecordBatchReaderBuilder::try_new(File::open(file)?)?.with_batch_size(UNIT_ROWS).build()?;
    let store = Store::create(store, schema()?)?;
    let mut appender = store.appender()?;
    for batch in batches {
        appender.write(&batch?)?;
    }
    let rows = appender.row_count();
    appender.commit()?;
    println!("{rows} orders in {}", store.path().display());
    Ok(())
}

fn schema() -> Result<Schema, Box<dyn Error>> {
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>();
    let instant = DataType::Timestamp { utc: true };
    let columns = [
        ("order_id", DataType::UInt64),
        ("customer_id", DataType::UInt64),
        ("product_id", DataType::UInt64),
        ("quantity", DataType::UInt32),
        ("unit_price", DataType::Float64),
        ("total_amount", DataType::Float64),
        ("status", DataType::Enum(Variants::new(names(&STATUSES))?)),
        ("payment_method", DataType::Enum(Variants::new(names(&PAYMENT_METHODS))?)),
        ("ordered_at", instant.clone()),
        ("updated_at", instant),
    ];
    Ok(Schema::new(columns.map(|(name, data_type)| Field::new(name, data_type)))?)
}
