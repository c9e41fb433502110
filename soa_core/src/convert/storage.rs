//! [`DataType`] ↔ the Arrow type in which Parquet stores it, both directions.
//!
//! Delta Lake has no unsigned integers: a `u8` is stored as a short, and so on; a `u64` as the long of the
//! same 64 bits. Text is stored plain, enums as their names (format.md, section 1).

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{DataType as ArrowType, Int64Type, TimeUnit, UInt64Type};
use arrow::error::ArrowError;

use super::cast::{dictionary_to_enum, strings_to_enum};
use crate::error::{Error, Result};
use crate::schema::{DataType, Field};

const CHECKED: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// The Arrow type whose Parquet form is the column's.
pub(crate) fn storage_type(data_type: &DataType) -> ArrowType {
    match data_type {
        DataType::UInt8 => ArrowType::Int16,
        DataType::UInt16 => ArrowType::Int32,
        DataType::UInt32 | DataType::UInt64 => ArrowType::Int64,
        DataType::Utf8 => ArrowType::Utf8View,
        DataType::Enum(_) => ArrowType::Dictionary(Box::new(ArrowType::UInt8), Box::new(ArrowType::Utf8)),
        DataType::Binary => ArrowType::BinaryView,
        DataType::Bool
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal { .. }
        | DataType::Date
        | DataType::Timestamp { .. } => data_type.to_arrow(),
    }
}

/// A column as Parquet stores it.
pub(crate) fn to_storage(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    match data_type {
        DataType::UInt64 => Ok(same_bits::<UInt64Type, Int64Type>(array)),
        _ => cast_with_options(array, &storage_type(data_type), &CHECKED),
    }
}

/// The same 64 bits as the other of the two integers that have them.
fn same_bits<From: ArrowPrimitiveType, To: ArrowPrimitiveType>(array: &ArrayRef) -> ArrayRef {
    let array = array.as_primitive::<From>();
    let values = ScalarBuffer::new(array.values().inner().clone(), 0, array.len());
    Arc::new(PrimitiveArray::<To>::new(values, array.nulls().cloned()))
}

/// A column as it is handed out, from what a Parquet file stores.
///
/// # Errors
///
/// When the file's type is not the column's, or a value does not fit.
pub(crate) fn from_storage(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let refuse = || Error::UnsupportedType {
        column: field.name().to_owned(),
        found: format!("{} in its file", array.data_type()),
    };
    let cast = |to: &ArrowType| {
        cast_with_options(array, to, &CHECKED).map_err(|error| Error::value(field.name(), error.to_string()))
    };
    let found = array.data_type();
    let result = match (field.data_type(), found) {
        (DataType::UInt64, ArrowType::Int64) => same_bits::<Int64Type, UInt64Type>(array),
        // Narrower integers than Delta's type asks for are what engines write before a column was widened.
        (
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32,
            ArrowType::Int8 | ArrowType::Int16 | ArrowType::Int32 | ArrowType::Int64,
        )
        | (DataType::Utf8, ArrowType::Utf8 | ArrowType::Utf8View | ArrowType::LargeUtf8)
        | (
            DataType::Binary,
            ArrowType::Binary | ArrowType::BinaryView | ArrowType::LargeBinary | ArrowType::FixedSizeBinary(_),
        )
        | (DataType::Float64, ArrowType::Float32)
        | (DataType::Decimal { .. }, ArrowType::Decimal32(..) | ArrowType::Decimal64(..) | ArrowType::Decimal128(..)) => {
            cast(&field.data_type().to_arrow())?
        }
        (DataType::Enum(variants), ArrowType::Utf8 | ArrowType::Utf8View | ArrowType::LargeUtf8) => {
            strings_to_enum(&cast(&ArrowType::Utf8View)?, field.name(), variants)?
        }
        (DataType::Enum(variants), ArrowType::Dictionary(keys, names))
            if **keys == ArrowType::Int32 && **names == ArrowType::Utf8 =>
        {
            dictionary_to_enum(array, field.name(), variants)?
        }
        (DataType::Timestamp { .. }, ArrowType::Timestamp(unit, _)) => {
            if *unit == TimeUnit::Nanosecond {
                super::cast::check_whole_micros(array, field.name())?;
            }
            cast(&field.data_type().to_arrow())?
        }
        (expected, found) if expected.to_arrow() == *found => Arc::clone(array),
        _ => return Err(refuse()),
    };
    if result.logical_null_count() > 0 && !field.is_nullable() {
        return Err(Error::value(field.name(), "its file holds NULL where there must be none"));
    }
    Ok(result)
}
