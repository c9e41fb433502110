//! Lists as Postgres' arrays.
//!
//! The format (`array.h`): after the header of a variable-length value the number of dimensions, where the elements begin or
//! 0 if none is NULL, the OID of their type, and for the one dimension that lists have its length and its first index; bits
//! of which elements are there, if one is NULL; then the elements that are, each where the alignment of its type asks. A list
//! without elements is an array without dimensions.

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray};
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};

use crate::numeric;
use crate::types::{DATE_RANGE, EPOCH_DAYS, EPOCH_MICROS, PgType, TIMESTAMP_RANGE};
use crate::varlena::{Misfit, Texts, VARLENA_HEADER, header};

/// How elements get into arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elements {
    /// Their type in Postgres.
    pub(crate) pg_type: PgType,
    /// Its OID.
    pub(crate) oid: u32,
    /// The digits after the point of a decimal.
    pub(crate) scale: u8,
}

/// The most elements that an array can have (`MaxArraySize`).
const ELEMENTS_MAX: i32 = 134_217_727;
/// Where the elements begin, from the beginning of the value.
const ALIGNMENT: usize = 8;

/// The content of an array, behind the header of a variable-length value.
///
/// # Errors
///
/// When Postgres cannot hold an element.
pub(crate) fn encode(list: &ArrayRef, elements: Elements, texts: Texts<'_>) -> Result<Vec<u8>, Misfit> {
    let mut out = Vec::new();
    let mut word = |value: i32| out.extend_from_slice(&value.to_ne_bytes());
    let count = i32::try_from(list.len()).ok().filter(|count| *count <= ELEMENTS_MAX);
    let count = count.ok_or(Misfit::TooManyElements(list.len()))?;
    word(i32::from(count > 0));
    let bits = list.logical_nulls().filter(|nulls| nulls.null_count() > 0);
    let head = VARLENA_HEADER + 5 * size_of::<i32>();
    let start = (head + list.len().div_ceil(8)).next_multiple_of(ALIGNMENT);
    word(if bits.is_some() { i32::try_from(start).map_err(|_| Misfit::TooLarge(start))? } else { 0 });
    word(elements.oid.cast_signed());
    if count == 0 {
        return Ok(out);
    }
    word(count);
    word(1);
    if let Some(nulls) = &bits {
        let mut bytes = vec![0_u8; list.len().div_ceil(8)];
        nulls.valid_indices().for_each(|index| bytes[index / 8] |= 1 << (index % 8));
        out.extend_from_slice(&bytes);
    }
    align(&mut out, ALIGNMENT);
    for index in 0..list.len() {
        if bits.as_ref().is_none_or(|nulls| nulls.is_valid(index)) {
            push(&mut out, list, index, elements, texts)?;
        }
    }
    Ok(out)
}

/// Fills up to a multiple of so many bytes from the beginning of the value.
fn align(out: &mut Vec<u8>, alignment: usize) {
    let end = (VARLENA_HEADER + out.len()).next_multiple_of(alignment) - VARLENA_HEADER;
    out.resize(end, 0);
}

fn push(out: &mut Vec<u8>, list: &ArrayRef, index: usize, elements: Elements, texts: Texts<'_>) -> Result<(), Misfit> {
    let fixed = |out: &mut Vec<u8>, bytes: &[u8]| {
        align(out, bytes.len());
        out.extend_from_slice(bytes);
    };
    let unexpected = || Misfit::Unexpected(list.data_type().to_string());
    let beyond = |value: String| Misfit::OutOfRange(value);
    match elements.pg_type {
        PgType::Bool => out.push(list.as_boolean_opt().ok_or_else(unexpected)?.value(index).into()),
        PgType::Int2 => fixed(out, &(integer(list, index).ok_or_else(unexpected)? as i16).to_ne_bytes()),
        PgType::Int4 => fixed(out, &(integer(list, index).ok_or_else(unexpected)? as i32).to_ne_bytes()),
        PgType::Int8 => {
            let value = integer(list, index).ok_or_else(unexpected)?;
            fixed(out, &i64::try_from(value).map_err(|_| beyond(value.to_string()))?.to_ne_bytes());
        }
        PgType::Float4 => fixed(out, &value::<Float32Type>(list, index)?.to_ne_bytes()),
        PgType::Float8 => {
            let value = match list.data_type() {
                ArrowType::Float32 => value::<Float32Type>(list, index)?.into(),
                _ => value::<Float64Type>(list, index)?,
            };
            fixed(out, &f64::to_ne_bytes(value));
        }
        PgType::Numeric => {
            let digits = match list.data_type() {
                ArrowType::Decimal128(_, _) => value::<Decimal128Type>(list, index)?,
                _ => integer(list, index).ok_or_else(unexpected)?,
            };
            push_long(out, numeric::encode(digits, elements.scale).as_slice())?;
        }
        PgType::Text => push_long(out, &texts.text_at(list, index)?)?,
        PgType::Bytea => push_long(out, list.as_binary_view_opt().ok_or_else(unexpected)?.value(index))?,
        PgType::Date => {
            let days = value::<Date32Type>(list, index)?;
            let from_2000 = days.checked_sub(EPOCH_DAYS).filter(|days| DATE_RANGE.contains(days));
            fixed(out, &from_2000.ok_or_else(|| beyond(days.to_string()))?.to_ne_bytes());
        }
        PgType::Timestamp | PgType::TimestampTz => {
            let micros = value::<TimestampMicrosecondType>(list, index)?;
            let from_2000 = micros.checked_sub(EPOCH_MICROS).filter(|micros| TIMESTAMP_RANGE.contains(micros));
            fixed(out, &from_2000.ok_or_else(|| beyond(micros.to_string()))?.to_ne_bytes());
        }
        PgType::Time => fixed(out, &value::<Time64MicrosecondType>(list, index)?.to_ne_bytes()),
        PgType::Interval => {
            // `timestamp.h`: microseconds, days, months.
            fixed(out, &value::<DurationMicrosecondType>(list, index)?.to_ne_bytes());
            out.extend_from_slice(&[0; 8]);
        }
        PgType::Uuid => out.extend_from_slice(list.as_fixed_size_binary_opt().ok_or_else(unexpected)?.value(index)),
        PgType::Jsonb => return Err(unexpected()),
    }
    Ok(())
}

fn push_long(out: &mut Vec<u8>, content: &[u8]) -> Result<(), Misfit> {
    align(out, size_of::<i32>());
    out.extend_from_slice(&header(VARLENA_HEADER + content.len()).ok_or(Misfit::TooLarge(content.len()))?);
    out.extend_from_slice(content);
    // Behind the last one as well, as Postgres has it.
    align(out, size_of::<i32>());
    Ok(())
}

fn value<T: ArrowPrimitiveType>(array: &ArrayRef, index: usize) -> Result<T::Native, Misfit> {
    let values = array.as_primitive_opt::<T>().ok_or_else(|| Misfit::Unexpected(array.data_type().to_string()))?;
    Ok(values.value(index))
}

/// An integer of any width.
pub(crate) fn integer(array: &ArrayRef, index: usize) -> Option<i128> {
    fn of<T: ArrowPrimitiveType<Native: Into<i128>>>(array: &ArrayRef, index: usize) -> Option<i128> {
        Some(array.as_primitive_opt::<T>()?.value(index).into())
    }
    match array.data_type() {
        ArrowType::Int8 => of::<Int8Type>(array, index),
        ArrowType::Int16 => of::<Int16Type>(array, index),
        ArrowType::Int32 => of::<Int32Type>(array, index),
        ArrowType::Int64 => of::<Int64Type>(array, index),
        ArrowType::UInt8 => of::<UInt8Type>(array, index),
        ArrowType::UInt16 => of::<UInt16Type>(array, index),
        ArrowType::UInt32 => of::<UInt32Type>(array, index),
        ArrowType::UInt64 => of::<UInt64Type>(array, index),
        _ => None,
    }
}
