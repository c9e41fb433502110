//! What a file's footer and its page index say of a column, as bounds.
//!
//! Only of files of our own: their bounds are outward where they are not exact, and a checksum in the log covers them.

use parquet::data_type::AsBytes;
use parquet::file::metadata::ColumnChunkMetaData;
use parquet::file::page_index::column_index::{ColumnIndexMetaData, PrimitiveColumnIndex};
use parquet::file::statistics::{Statistics, ValueStatistics};

use crate::predicate::{Bounds, Scalar};
use crate::schema::DataType;

/// A bound as Parquet has it.
#[derive(Debug, Clone, Copy)]
enum Stored<'a> {
    Bool(bool),
    Int(i64),
    Float(f64),
    Bytes(&'a [u8]),
}

type Ends<'a> = (Option<Stored<'a>>, Option<Stored<'a>>);

/// The bounds of a column chunk.
pub(super) fn of_chunk(chunk: &ColumnChunkMetaData, data_type: &DataType) -> Bounds {
    fn ends<'a, T>(of: &'a ValueStatistics<T>, to: impl Fn(&'a T) -> Stored<'a>) -> Ends<'a> {
        (of.min_opt().map(&to), of.max_opt().map(&to))
    }
    let rows = u64::try_from(chunk.num_values()).unwrap_or(0);
    let Some(statistics) = chunk.statistics() else { return Bounds::unknown(rows) };
    let ends = match statistics {
        Statistics::Boolean(of) => ends(of, |value| Stored::Bool(*value)),
        Statistics::Int32(of) => ends(of, |value| Stored::Int((*value).into())),
        Statistics::Int64(of) => ends(of, |value| Stored::Int(*value)),
        Statistics::Float(of) => ends(of, |value| Stored::Float((*value).into())),
        Statistics::Double(of) => ends(of, |value| Stored::Float(*value)),
        Statistics::ByteArray(of) => ends(of, |value| Stored::Bytes(value.as_bytes())),
        Statistics::FixedLenByteArray(of) => ends(of, |value| Stored::Bytes(value.as_bytes())),
        Statistics::Int96(_) => (None, None),
    };
    bounds(data_type, rows, statistics.null_count_opt(), ends)
}

/// The bounds of a page of `rows` rows.
pub(super) fn of_page(index: &ColumnIndexMetaData, page: usize, rows: u64, data_type: &DataType) -> Bounds {
    fn ends<'a, T: Copy>(of: &PrimitiveColumnIndex<T>, page: usize, to: impl Fn(T) -> Stored<'a>) -> Ends<'a> {
        (of.min_value(page).copied().map(&to), of.max_value(page).copied().map(&to))
    }
    let ends = match index {
        ColumnIndexMetaData::BOOLEAN(of) => ends(of, page, Stored::Bool),
        ColumnIndexMetaData::INT32(of) => ends(of, page, |value| Stored::Int(value.into())),
        ColumnIndexMetaData::INT64(of) => ends(of, page, Stored::Int),
        ColumnIndexMetaData::FLOAT(of) => ends(of, page, |value| Stored::Float(value.into())),
        ColumnIndexMetaData::DOUBLE(of) => ends(of, page, Stored::Float),
        ColumnIndexMetaData::BYTE_ARRAY(of) | ColumnIndexMetaData::FIXED_LEN_BYTE_ARRAY(of) => {
            (of.min_value(page).map(Stored::Bytes), of.max_value(page).map(Stored::Bytes))
        }
        ColumnIndexMetaData::INT96(_) | ColumnIndexMetaData::NONE => return Bounds::unknown(rows),
    };
    let nulls = index.null_count(page).and_then(|nulls| u64::try_from(nulls).ok());
    bounds(data_type, rows, nulls, ends)
}

fn bounds(data_type: &DataType, rows: u64, nulls: Option<u64>, (min, max): Ends<'_>) -> Bounds {
    let scalar = |stored: Option<Stored<'_>>| stored.and_then(|stored| scalar(data_type, stored));
    let (mut min, mut max) = (scalar(min), scalar(max));
    // The order of the bounds is that of signed integers, and values from 2^63 on are negative there.
    let is_sure = |bound: &Option<Scalar>| matches!(bound, Some(Scalar::Int(value)) if *value >= 0);
    if *data_type == DataType::UInt64 && !(is_sure(&min) && is_sure(&max)) {
        (min, max) = (None, None);
    }
    let may_hold_nan = matches!(data_type, DataType::Float32 | DataType::Float64);
    Bounds { rows, nulls: nulls.filter(|nulls| *nulls <= rows), min, max, may_hold_nan }
}

/// The bound as a constant that values of the column are compared with.
fn scalar(data_type: &DataType, stored: Stored<'_>) -> Option<Scalar> {
    match (data_type, stored) {
        (DataType::Bool, Stored::Bool(value)) => Some(Scalar::Bool(value)),
        (
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64
            | DataType::Date
            | DataType::Timestamp { .. }
            | DataType::Time
            | DataType::Duration
            | DataType::Decimal { .. },
            Stored::Int(value),
        ) => Some(Scalar::Int(value.into())),
        (DataType::Decimal { .. }, Stored::Bytes(bytes)) => big_endian(bytes).map(Scalar::Int),
        (DataType::Float32 | DataType::Float64, Stored::Float(value)) => {
            (!value.is_nan()).then_some(Scalar::Float(value))
        }
        (DataType::Utf8 | DataType::Enum(_), Stored::Bytes(bytes)) => {
            std::str::from_utf8(bytes).ok().map(|text| Scalar::Utf8(text.to_owned()))
        }
        (DataType::Binary | DataType::Uuid, Stored::Bytes(bytes)) => Some(Scalar::Binary(bytes.to_vec())),
        // Not how columns of this type are stored.
        (_, Stored::Bool(_) | Stored::Int(_) | Stored::Float(_) | Stored::Bytes(_)) => None,
    }
}

/// Two's complement, the highest byte first.
fn big_endian(bytes: &[u8]) -> Option<i128> {
    let mut full = [if *bytes.first()? >= 0x80 { 0xff } else { 0 }; size_of::<i128>()];
    let at = full.len().checked_sub(bytes.len())?;
    full[at..].copy_from_slice(bytes);
    Some(i128::from_be_bytes(full))
}
