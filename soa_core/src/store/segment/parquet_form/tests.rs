//! What is written is read, whatever the columns hold.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array,
    Int8Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray, UInt8Array,
    UInt16Array, UInt32Array, UInt64Array, new_null_array,
};
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::convert::enum_dictionary;
use crate::schema::{DataType, Schema, Variants, arrow_schema};
use crate::store::UNIT_ROWS;
use crate::store::io::OsBackend;

const ROWS: usize = 2 * UNIT_ROWS + 777;

fn variants() -> Variants {
    Variants::new(["red", "green", "", "ultramarine and more"]).unwrap()
}

/// Columns of every type, and of every kind of values that is encoded in its own way.
pub(super) fn columns() -> Vec<Field> {
    let decimal = |precision| DataType::Decimal { precision, scale: 2 };
    vec![
        Field::new("ascending", DataType::UInt64),
        Field::nullable("text", DataType::Utf8),
        Field::new("names", DataType::Utf8),
        Field::new("bool", DataType::Bool),
        Field::nullable("maybe", DataType::Bool),
        Field::new("i8", DataType::Int8),
        Field::nullable("i16", DataType::Int16),
        Field::new("i32", DataType::Int32),
        Field::nullable("i64", DataType::Int64),
        Field::new("few", DataType::Int64),
        Field::nullable("u8", DataType::UInt8),
        Field::new("u16", DataType::UInt16),
        Field::new("u32", DataType::UInt32),
        Field::new("u64", DataType::UInt64),
        Field::nullable("f32", DataType::Float32),
        Field::new("f64", DataType::Float64),
        Field::nullable("prices", DataType::Float64),
        Field::nullable("decimal9", decimal(9)),
        Field::new("decimal18", decimal(18)),
        Field::nullable("decimal38", decimal(38)),
        Field::nullable("bytes", DataType::Binary),
        Field::new("enum", DataType::Enum(variants())),
        Field::nullable("maybe_enum", DataType::Enum(variants())),
        Field::nullable("date", DataType::Date),
        Field::new("time", DataType::Timestamp { utc: true }),
        Field::nullable("wall", DataType::Timestamp { utc: false }),
        Field::nullable("nothing", DataType::Int64),
        Field::nullable("no_text", DataType::Utf8),
    ]
}

fn random(row: usize, of: u64) -> u64 {
    xxh3_64(&[row as u64, of].map(u64::to_le_bytes).concat())
}

fn column(field: &Field) -> ArrayRef {
    let rows = 0..ROWS;
    let salt = xxh3_64(field.name().as_bytes());
    let number = |row: usize| random(row, salt);
    // Rows are NULL in runs and here and there.
    let is_null = |row: &usize| field.is_nullable() && (row / 5000 % 3 == 1 || number(*row) % 11 == 0);
    let maybe = |row: usize| (!is_null(&row)).then(|| number(row));
    let text = |number: u64| format!("{number:x} of a text that is longer than a view");
    let decimals = |digits: u32| {
        rows.clone().map(move |row| maybe(row).map(|value| i128::from(value as i64) % 10_i128.pow(digits)))
    };
    match field.name() {
        "ascending" => Arc::new(UInt64Array::from_iter_values(rows.map(|row| row as u64 * 3))),
        "text" => Arc::new(rows.map(|row| maybe(row).map(text)).collect::<StringViewArray>()),
        "names" => Arc::new(StringViewArray::from_iter_values(rows.map(|row| text(number(row) % 1000)))),
        "bool" => Arc::new(rows.map(|row| Some(number(row) % 3 == 0)).collect::<BooleanArray>()),
        "maybe" => Arc::new(rows.map(|row| maybe(row).map(|value| value % 2 == 0)).collect::<BooleanArray>()),
        "i8" => Arc::new(Int8Array::from_iter_values(rows.map(|row| number(row) as i8))),
        "i16" => Arc::new(rows.map(|row| maybe(row).map(|value| value as i16)).collect::<Int16Array>()),
        "i32" => Arc::new(Int32Array::from_iter_values(rows.map(|row| number(row) as i32))),
        "i64" => Arc::new(rows.map(|row| maybe(row).map(|value| value as i64)).collect::<Int64Array>()),
        "few" => Arc::new(Int64Array::from_iter_values(rows.map(|row| i64::MAX - (number(row) % 9) as i64))),
        "u8" => Arc::new(rows.map(|row| maybe(row).map(|value| value as u8)).collect::<UInt8Array>()),
        "u16" => Arc::new(UInt16Array::from_iter_values(rows.map(|row| number(row) as u16))),
        "u32" => Arc::new(UInt32Array::from_iter_values(rows.map(|row| number(row) as u32))),
        "u64" => Arc::new(UInt64Array::from_iter_values(rows.map(number))),
        "f32" => {
            Arc::new(rows.map(|row| maybe(row).map(|value| f32::from_bits(value as u32))).collect::<Float32Array>())
        }
        "f64" => Arc::new(Float64Array::from_iter_values(rows.map(|row| number(row) as f64 / 7.0))),
        "prices" => {
            Arc::new(rows.map(|row| maybe(row).map(|value| (value % 999) as f64 / 100.0)).collect::<Float64Array>())
        }
        "decimal9" => Arc::new(decimals(9).collect::<Decimal128Array>().with_precision_and_scale(9, 2).unwrap()),
        "decimal18" => Arc::new(decimals(18).collect::<Decimal128Array>().with_precision_and_scale(18, 2).unwrap()),
        "decimal38" => Arc::new(decimals(19).collect::<Decimal128Array>().with_precision_and_scale(38, 2).unwrap()),
        "bytes" => Arc::new(
            rows.map(|row| maybe(row).map(|value| value.to_le_bytes()[..(value % 9) as usize].to_vec()))
                .collect::<BinaryViewArray>(),
        ),
        "enum" | "maybe_enum" => {
            let keys = rows.map(|row| maybe(row).map(|value| (value % 4) as u8)).collect::<UInt8Array>();
            Arc::new(DictionaryArray::try_new(keys, enum_dictionary(&variants())).unwrap())
        }
        "date" => Arc::new(rows.map(|row| maybe(row).map(|value| value as i32 % 1_000_000)).collect::<Date32Array>()),
        "time" => {
            let times = rows.map(|row| row as i64 * 1_000_000 + (number(row) % 1_000_000) as i64);
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
        }
        "wall" => Arc::new(rows.map(|row| maybe(row).map(|value| value as i64)).collect::<TimestampMicrosecondArray>()),
        _ => new_null_array(&field.data_type().to_arrow(), ROWS),
    }
}

/// Three units of rows, the last of which is not full.
pub(super) fn batches() -> Vec<RecordBatch> {
    let schema = Schema::new(columns()).unwrap();
    let arrays = columns().iter().map(column).collect();
    let batch = RecordBatch::try_new(arrow_schema(&schema), arrays).unwrap();
    (0..ROWS).step_by(UNIT_ROWS).map(|at| batch.slice(at, UNIT_ROWS.min(ROWS - at))).collect()
}

fn write_file(path: &Path) -> Encoded {
    let mut file = std::fs::File::create(path).unwrap();
    write(&batches(), &Schema::new(columns()).unwrap(), &columns(), &mut file).unwrap()
}

#[test]
fn rows_of_every_type_are_read_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.parquet");
    let encoded = write_file(&path);
    let backend: Arc<dyn Backend> = Arc::new(OsBackend);
    let form = ParquetForm::open(&backend, &path, &columns(), encoded.bytes, Some(encoded.checksums)).unwrap();
    assert_eq!(form.unit_rows(), [UNIT_ROWS as u64, UNIT_ROWS as u64, 777]);
    let all: Vec<usize> = (0..columns().len()).collect();
    for (unit, batch) in batches().iter().enumerate() {
        for (index, array) in form.columns(unit, &all).unwrap().iter().enumerate() {
            assert!(array.to_data() == batch.column(index).to_data(), "unit {unit}, {}", columns()[index].name());
        }
    }
}
