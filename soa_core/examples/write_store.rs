//! Writes Arrow files into a store, one commit for each, and makes the store if need be.
//!
//! ```text
//! write_store STORE [--partition-by COLUMN,…] [--sort-by COLUMN,…] [--key COLUMN] [--upsert] FILE.arrow…
//! ```
//!
//! With `--upsert` the rows take the place of those with the same keys. Dictionaries of text become enum columns whose variants are those of the first file.

use std::error::Error;
use std::fs::File;
use std::path::Path;

use soa_core::arrow::array::{ArrayRef, AsArray, RecordBatch};
use soa_core::arrow::datatypes::{DataType as ArrowType, Field as ArrowField, UInt8Type};
use soa_core::arrow::ipc::reader::FileReader;
use soa_core::schema::{DataType, Field, Schema, Variants, field_from_arrow};
use soa_core::store::Store;

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let path = arguments.next().ok_or("usage: write_store STORE [OPTIONS] FILE.arrow…")?;
    let (mut partition_by, mut sort_by, mut key, mut files) = (Vec::new(), Vec::new(), None, Vec::new());
    let mut upsert = false;
    while let Some(argument) = arguments.next() {
        let mut columns = || arguments.next().ok_or(format!("{argument} names no column"));
        match argument.as_str() {
            "--partition-by" => partition_by = columns()?.split(',').map(str::to_owned).collect(),
            "--sort-by" => sort_by = columns()?.split(',').map(str::to_owned).collect(),
            "--key" => key = Some(columns()?),
            "--upsert" => upsert = true,
            _ => files.push(argument),
        }
    }
    for file in &files {
        let mut reader = FileReader::try_new_buffered(File::open(file)?, None)?;
        let columns = reader.schema();
        let batches = reader.by_ref().collect::<Result<Vec<RecordBatch>, _>>()?;
        let store = if Path::new(&path).exists() {
            Store::open(&path)?
        } else {
            let fields = columns.fields().iter().enumerate();
            let fields = fields.map(|(index, column)| field(column, batches.first().map(|batch| batch.column(index))));
            let mut schema = Schema::new(fields.collect::<Result<Vec<_>, _>>()?)?;
            if let Some(key) = &key {
                schema = schema.with_key(key)?;
            }
            Store::create(&path, schema.with_sort_by(&sort_by)?.with_partition_by(&partition_by)?)?
        };
        let version = if upsert { store.upsert(&batches)?.version } else { store.append(&batches)? };
        println!("version {version}");
    }
    Ok(())
}

/// The store's column for an Arrow column and the first values there are.
fn field(column: &ArrowField, values: Option<&ArrayRef>) -> Result<Field, Box<dyn Error>> {
    let plain = field_from_arrow(column)?;
    let (ArrowType::Dictionary(_, _), Some(values)) = (column.data_type(), values) else { return Ok(plain) };
    let names = values.as_dictionary_opt::<UInt8Type>().ok_or("a dictionary's keys must be of type UInt8")?.values();
    let names = names.as_string_opt::<i32>().ok_or("a dictionary's values must be of type Utf8")?;
    Ok(plain.with_type(DataType::Enum(Variants::new(names.iter().flatten())?)))
}
