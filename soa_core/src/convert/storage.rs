//! [`DataType`] ↔ the Arrow type in which Parquet stores it, both directions.
//!
//! Delta Lake has no unsigned integers: a `u8` is stored as a short, and so on; a `u64` as the long of the
//! same 64 bits. Text is stored plain, enums as their names (format.md, section 1).

use std::ops::BitOr;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{CastOptions, cast_with_options};
use arrow::datatypes::{
    DataType as ArrowType, DurationMicrosecondType, Field as ArrowField, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use arrow::error::ArrowError;

use super::cast::{check_time, dictionary_to_enum, strings_to_enum, uuids};
use super::nested::Change;
use crate::error::{Error, Result};
use crate::schema::{DataType, Field, arrow_map};

const CHECKED: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// The Arrow type whose Parquet form is the column's.
pub(crate) fn storage_type(data_type: &DataType) -> ArrowType {
    match data_type {
        DataType::UInt8 => ArrowType::Int16,
        DataType::UInt16 => ArrowType::Int32,
        DataType::UInt32 | DataType::UInt64 | DataType::Time | DataType::Duration => ArrowType::Int64,
        DataType::Utf8 => ArrowType::Utf8View,
        DataType::Enum(_) => ArrowType::Dictionary(Box::new(ArrowType::UInt8), Box::new(ArrowType::Utf8)),
        DataType::Binary | DataType::Uuid => ArrowType::BinaryView,
        DataType::List(element) => ArrowType::List(Arc::new(storage_field(element))),
        DataType::FixedList(element, len) => ArrowType::FixedSizeList(Arc::new(storage_field(element)), *len as i32),
        DataType::Struct(fields) => ArrowType::Struct(fields.iter().map(storage_field).collect()),
        DataType::Map { key, value } => arrow_map(storage_field(key), storage_field(value)),
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

/// The Arrow field whose Parquet form is the column's.
pub(crate) fn storage_field(field: &Field) -> ArrowField {
    ArrowField::new(field.name(), storage_type(field.data_type()), field.is_nullable())
}

/// A column as Parquet stores it.
pub(crate) fn to_storage(array: &ArrayRef, field: &Field) -> Result<ArrayRef, ArrowError> {
    let change = Change {
        values: &|array: &ArrayRef, field: &Field| values_to_storage(array, field.data_type()),
        refuse: &|field: &Field, reason: String| {
            ArrowError::CastError(format!("column \"{}\": {reason}", field.name()))
        },
        is_foreign: false,
    };
    change.apply(array, field)
}

fn values_to_storage(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef, ArrowError> {
    match data_type {
        DataType::UInt64 => Ok(same_bits::<UInt64Type, Int64Type>(array)),
        DataType::Time => Ok(same_bits::<Time64MicrosecondType, Int64Type>(array)),
        DataType::Duration => Ok(same_bits::<DurationMicrosecondType, Int64Type>(array)),
        // Arrow takes bytes of one length to views by way of others only.
        DataType::Uuid => cast_with_options(
            &cast_with_options(array, &ArrowType::Binary, &CHECKED)?,
            &ArrowType::BinaryView,
            &CHECKED,
        ),
        _ => cast_with_options(array, &storage_type(data_type), &CHECKED),
    }
}

/// The same 64 bits as the other of the two integers that have them.
fn same_bits<From: ArrowPrimitiveType, To: ArrowPrimitiveType>(array: &ArrayRef) -> ArrayRef {
    let array = array.as_primitive::<From>();
    let values = ScalarBuffer::new(array.values().inner().clone(), 0, array.len());
    Arc::new(PrimitiveArray::<To>::new(values, array.nulls().cloned()))
}

/// The same integers in an unsigned type of half the width; by `cast`, which refuses what does not fit, where something
/// may not: then what is NULL has perhaps such a value.
fn narrowed<From, To>(array: &ArrayRef, cast: &dyn Fn(&ArrowType) -> Result<ArrayRef>) -> Result<ArrayRef>
where
    From: ArrowPrimitiveType,
    From::Native: BitOr<Output = From::Native>,
    To: ArrowPrimitiveType,
    To::Native: TryFrom<From::Native>,
{
    let found = array.as_primitive::<From>();
    // A negative value or a larger one has a bit that sets one in here which does not fit.
    let bits = found.values().iter().fold(From::Native::default(), |bits, value| bits | *value);
    if To::Native::try_from(bits).is_err() {
        return cast(&To::DATA_TYPE);
    }
    let values = found.values().iter().map(|value| To::Native::try_from(*value).unwrap_or_default());
    Ok(Arc::new(PrimitiveArray::<To>::new(values.collect(), found.nulls().cloned())))
}

/// A column as it is handed out, from what a Parquet file stores.
///
/// # Errors
///
/// When the file's type is not the column's, or a value does not fit.
pub(crate) fn from_storage(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let change = Change {
        values: &values_from_storage,
        refuse: &|field: &Field, reason: String| Error::value(field.name(), format!("in its file {reason}")),
        is_foreign: false,
    };
    let result = change.apply(array, field)?;
    if result.logical_null_count() > 0 && !field.is_nullable() {
        return Err(Error::value(field.name(), "its file holds NULL where there must be none"));
    }
    Ok(result)
}

fn values_from_storage(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let refuse = || Error::UnsupportedType {
        column: field.name().to_owned(),
        found: format!("{} in its file", array.data_type()),
    };
    let cast = |to: &ArrowType| {
        cast_with_options(array, to, &CHECKED).map_err(|error| Error::value(field.name(), error.to_string()))
    };
    let found = array.data_type();
    Ok(match (field.data_type(), found) {
        (DataType::UInt64, ArrowType::Int64) => same_bits::<Int64Type, UInt64Type>(array),
        (DataType::Duration, ArrowType::Int64) => same_bits::<Int64Type, DurationMicrosecondType>(array),
        (DataType::Time, ArrowType::Int64) => {
            let array = same_bits::<Int64Type, Time64MicrosecondType>(array);
            check_time(&array, field.name())?;
            array
        }
        (DataType::Uuid, ArrowType::Binary | ArrowType::BinaryView | ArrowType::LargeBinary) => {
            uuids(&cast(&ArrowType::BinaryView)?, field.name())?
        }
        (DataType::UInt32, ArrowType::Int64) => narrowed::<Int64Type, UInt32Type>(array, &cast)?,
        (DataType::UInt16, ArrowType::Int32) => narrowed::<Int32Type, UInt16Type>(array, &cast)?,
        (DataType::UInt8, ArrowType::Int16) => narrowed::<Int16Type, UInt8Type>(array, &cast)?,
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
    })
}

#[cfg(test)]
mod tests {
    use arrow::array::{Int16Array, Int32Array, Int64Array, UInt8Array, UInt16Array, UInt32Array};

    use super::*;

    fn read(data_type: DataType, array: impl Array + 'static) -> Result<ArrayRef> {
        from_storage(&(Arc::new(array) as ArrayRef), &Field::nullable("c", data_type))
    }

    #[test]
    fn unsigned_integers_come_back_from_wider_ones() {
        let (most, more) = (u32::MAX.into(), i64::from(u32::MAX) + 1);
        let read32 = |values: Vec<Option<i64>>| read(DataType::UInt32, Int64Array::from(values));
        let array = read32(vec![Some(0), None, Some(most)]).unwrap();
        assert_eq!(array.to_data(), UInt32Array::from(vec![Some(0), None, Some(u32::MAX)]).to_data());
        for bad in [-1, more, i64::MIN, i64::MAX] {
            let error = read32(vec![Some(1), Some(bad)]).unwrap_err().to_string();
            assert!(error.contains("\"c\"") && error.contains(&bad.to_string()), "{error}");
            // What is below a NULL does not count.
            let hidden = Int64Array::new(vec![1, bad].into(), Some(vec![true, false].into()));
            let array = read(DataType::UInt32, hidden).unwrap();
            assert_eq!(array.as_primitive::<UInt32Type>(), &UInt32Array::from(vec![Some(1), None]));
        }
        let array = read(DataType::UInt16, Int32Array::from(vec![7, 65_535])).unwrap();
        assert_eq!(array.to_data(), UInt16Array::from(vec![7, 65_535]).to_data());
        assert!(read(DataType::UInt16, Int32Array::from(vec![65_536])).is_err());
        let array = read(DataType::UInt8, Int16Array::from(vec![0, 255])).unwrap();
        assert_eq!(array.to_data(), UInt8Array::from(vec![0, 255]).to_data());
        assert!(read(DataType::UInt8, Int16Array::from(vec![-128])).is_err());
    }
}
