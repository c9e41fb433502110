//! The value of a partition column, which all rows of a segment have.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, DurationMicrosecondArray,
    Int8Array, Int16Array, Int32Array, Int64Array, StringViewArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    UInt8Array, UInt16Array, UInt32Array, UInt64Array, new_null_array,
};

use crate::convert::enum_dictionary;
use crate::predicate::Scalar;
use crate::schema::{DAY_MICROS, DataType, Field};
use crate::store::logged_stats::{date_from_text, timestamp_from_text};

/// The value that all rows of a segment have in a partition column.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store) struct PartitionValue {
    pub(in crate::store) text: Option<String>,
    pub(in crate::store) value: Option<Scalar>,
}

impl PartitionValue {
    /// Reads a partition value as Delta serializes it. The empty text is NULL.
    pub(in crate::store) fn parse(field: &Field, text: Option<&str>) -> Option<Self> {
        let Some(text) = text.filter(|text| !text.is_empty()) else { return Some(Self { text: None, value: None }) };
        let value = match field.data_type() {
            DataType::Bool => Scalar::Bool(text.to_ascii_lowercase().parse().ok()?),
            DataType::UInt64 => {
                // As a long, the value's 64 bits; a value from 2^63 on is negative there.
                let bits: i128 = text.parse().ok()?;
                Scalar::Int(if bits < 0 { bits + (1 << 64) } else { bits })
            }
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::Duration => Scalar::Int(text.parse().ok()?),
            DataType::Time => Scalar::Int(text.parse().ok().filter(|micros| (0..=DAY_MICROS.into()).contains(micros))?),
            DataType::Decimal { scale, .. } => Scalar::Int(parse_decimal(text, *scale)?),
            DataType::Utf8 => Scalar::Utf8(text.to_owned()),
            DataType::Enum(variants) => {
                variants.index_of(text)?;
                Scalar::Utf8(text.to_owned())
            }
            DataType::Date => Scalar::Int(date_from_text(text)?),
            DataType::Timestamp { .. } => Scalar::Int(timestamp_from_text(text)?),
            DataType::Float32
            | DataType::Float64
            | DataType::Binary
            | DataType::Uuid
            | DataType::List(_)
            | DataType::FixedList(..)
            | DataType::Struct(_)
            | DataType::Map { .. } => return None,
        };
        Some(Self { text: Some(text.to_owned()), value: Some(value) })
    }
}

impl PartitionValue {
    /// `rows` times the value, or `None` if the type cannot hold it.
    pub(in crate::store) fn to_array(&self, data_type: &DataType, rows: usize) -> Option<ArrayRef> {
        constant_array(data_type, self.value.as_ref(), rows)
    }
}

fn parse_decimal(text: &str, scale: u8) -> Option<i128> {
    let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
    let missing = usize::from(scale).checked_sub(fraction.len())?;
    format!("{whole}{fraction}{}", "0".repeat(missing)).parse().ok()
}

/// `rows` times the same value, or `None` if the type cannot hold it.
fn constant_array(data_type: &DataType, value: Option<&Scalar>, rows: usize) -> Option<ArrayRef> {
    let Some(value) = value else { return Some(new_null_array(&data_type.to_arrow(), rows)) };
    macro_rules! ints {
        ($array:ident, $value:expr) => {
            Arc::new($array::from_value(<_>::try_from(*$value).ok()?, rows)) as ArrayRef
        };
    }
    Some(match (data_type, value) {
        (DataType::Bool, Scalar::Bool(value)) => Arc::new(BooleanArray::from(vec![*value; rows])),
        (DataType::Int8, Scalar::Int(value)) => ints!(Int8Array, value),
        (DataType::Int16, Scalar::Int(value)) => ints!(Int16Array, value),
        (DataType::Int32, Scalar::Int(value)) => ints!(Int32Array, value),
        (DataType::Int64, Scalar::Int(value)) => ints!(Int64Array, value),
        (DataType::UInt8, Scalar::Int(value)) => ints!(UInt8Array, value),
        (DataType::UInt16, Scalar::Int(value)) => ints!(UInt16Array, value),
        (DataType::UInt32, Scalar::Int(value)) => ints!(UInt32Array, value),
        (DataType::UInt64, Scalar::Int(value)) => ints!(UInt64Array, value),
        (DataType::Date, Scalar::Int(value)) => ints!(Date32Array, value),
        (DataType::Time, Scalar::Int(value)) => ints!(Time64MicrosecondArray, value),
        (DataType::Duration, Scalar::Int(value)) => ints!(DurationMicrosecondArray, value),
        (DataType::Timestamp { utc }, Scalar::Int(value)) => {
            let array = TimestampMicrosecondArray::from_value(i64::try_from(*value).ok()?, rows);
            Arc::new(array.with_timezone_opt(utc.then_some("UTC")))
        }
        (DataType::Decimal { precision, scale }, Scalar::Int(value)) => {
            let array = Decimal128Array::from_value(*value, rows);
            Arc::new(array.with_precision_and_scale(*precision, i8::try_from(*scale).ok()?).ok()?)
        }
        (DataType::Utf8, Scalar::Utf8(value)) => {
            Arc::new(StringViewArray::from_iter_values(std::iter::repeat_n(value, rows)))
        }
        (DataType::Binary, Scalar::Binary(value)) => {
            Arc::new(BinaryViewArray::from_iter_values(std::iter::repeat_n(value, rows)))
        }
        (DataType::Enum(variants), Scalar::Utf8(value)) => {
            let key = u8::try_from(variants.index_of(value)?).ok()?;
            let keys = UInt8Array::from_value(key, rows);
            Arc::new(DictionaryArray::try_new(keys, enum_dictionary(variants)).ok()?)
        }
        _ => return None,
    })
}
