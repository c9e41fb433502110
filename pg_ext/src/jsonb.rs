//! Structs, maps and lists of them as Postgres' `jsonb`, as its `to_jsonb` would have them: numbers as numerics, times in
//! ISO 8601 and in UTC, bytes in hexadecimal.
//!
//! The format (`jsonb.h`): a container has a header word with the number of its elements or pairs and its kind, then a word
//! for each element, or for all keys and then all values: its kind and its length, or every 32nd one where it ends; then the
//! contents. Numerics and containers begin at multiples of four bytes, and what they are filled up by counts as theirs. Keys
//! are ordered by length, then by their bytes. A value that is no container is the one element of an array that says so.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow::util::display::{ArrayFormatter, FormatOptions};

use soa_core::schema::DAY_MICROS;

use crate::array::integer;
use crate::numeric;
use crate::varlena::{Misfit, Texts, VARLENA_HEADER, header, text_of};

const SCALAR: u32 = 0x1000_0000;
const OBJECT: u32 = 0x2000_0000;
const ARRAY: u32 = 0x4000_0000;
/// The greatest count of elements or pairs, length and offset.
const MASK: u32 = 0x0FFF_FFFF;

const STRING: u32 = 0x0000_0000;
const NUMERIC: u32 = 0x1000_0000;
const FALSE: u32 = 0x2000_0000;
const TRUE: u32 = 0x3000_0000;
const NULL: u32 = 0x4000_0000;
const CONTAINER: u32 = 0x5000_0000;
const HAS_OFFSET: u32 = 0x8000_0000;
/// So often an element says where it ends.
const OFFSET_STRIDE: usize = 32;

/// UUIDs have no other array in a store.
const UUID_BYTES: i32 = 16;

/// A value.
#[derive(Debug, Clone, PartialEq)]
enum Json {
    Null,
    Bool(bool),
    /// The bytes of a numeric.
    Numeric(Vec<u8>),
    String(Vec<u8>),
    Array(Vec<Json>),
    /// Keys in the order that the format asks for, no two equal.
    Object(Vec<(Vec<u8>, Json)>),
}

/// The content of the value at an index of an array, behind the header of a variable-length value.
///
/// # Errors
///
/// When Postgres cannot hold it.
pub(crate) fn encode(array: &ArrayRef, index: usize, texts: Texts<'_>) -> Result<Vec<u8>, Misfit> {
    let json = read(array, index, texts)?;
    let mut out = Vec::new();
    match json {
        Json::Array(_) | Json::Object(_) => drop(push(&mut out, &json)?),
        scalar => push_container(&mut out, 1 | SCALAR | ARRAY, &[&scalar])?,
    }
    Ok(out)
}

/// Reads the value at an index of an array.
fn read(array: &ArrayRef, index: usize, texts: Texts<'_>) -> Result<Json, Misfit> {
    if array.is_null(index) {
        return Ok(Json::Null);
    }
    let unexpected = || Misfit::Unexpected(array.data_type().to_string());
    let string = |text: &str| Ok(Json::String(texts.encode(text)?.into_owned()));
    let all =
        |values: &ArrayRef| (0..values.len()).map(|index| read(values, index, texts)).collect::<Result<Vec<_>, _>>();
    match array.data_type() {
        ArrowType::Boolean => Ok(Json::Bool(array.as_boolean().value(index))),
        ArrowType::Float32 => float(array.as_primitive::<Float32Type>().value(index), texts),
        ArrowType::Float64 => float(array.as_primitive::<Float64Type>().value(index), texts),
        ArrowType::Decimal128(_, scale) => {
            let digits = array.as_primitive::<Decimal128Type>().value(index);
            let scale = u8::try_from(*scale).map_err(|_| unexpected())?;
            Ok(Json::Numeric(numeric::encode(digits, scale).as_slice().to_vec()))
        }
        ArrowType::Utf8View | ArrowType::Dictionary(_, _) => string(text_of(array, index).ok_or_else(unexpected)?),
        ArrowType::BinaryView => {
            let digits = array.as_binary_view().value(index).iter().map(|byte| format!("{byte:02x}"));
            string(&format!("\\x{}", digits.collect::<String>()))
        }
        ArrowType::FixedSizeBinary(UUID_BYTES) => string(&uuid(array.as_fixed_size_binary().value(index))),
        ArrowType::Duration(_) => string(&interval(array.as_primitive::<DurationMicrosecondType>().value(index))),
        ArrowType::Date32 => {
            let (date, era) = date(array.as_primitive::<Date32Type>().value(index).into());
            string(&format!("{date}{era}"))
        }
        ArrowType::Time64(_) => {
            string(&clock(array.as_primitive::<Time64MicrosecondType>().value(index).unsigned_abs()))
        }
        ArrowType::Timestamp(_, zone) => {
            let micros = array.as_primitive::<TimestampMicrosecondType>().value(index);
            let (date, era) = date(micros.div_euclid(DAY_MICROS));
            let zone = if zone.is_some() { "+00:00" } else { "" };
            string(&format!("{date}T{}{zone}{era}", clock(micros.rem_euclid(DAY_MICROS).unsigned_abs())))
        }
        ArrowType::List(_) => Ok(Json::Array(all(&array.as_list::<i32>().value(index))?)),
        ArrowType::FixedSizeList(_, _) => Ok(Json::Array(all(&array.as_fixed_size_list().value(index))?)),
        ArrowType::Struct(_) => {
            let rows = array.as_struct();
            let fields = rows
                .fields()
                .iter()
                .zip(rows.columns())
                .map(|(field, column)| Ok((texts.encode(field.name())?.into_owned(), read(column, index, texts)?)));
            Ok(object(fields.collect::<Result<_, Misfit>>()?))
        }
        ArrowType::Map(_, _) => {
            let entries = array.as_map().value(index);
            let (keys, values) = (entries.column(0), entries.column(1));
            let entries = (0..entries.len()).map(|entry| Ok((key(keys, entry, texts)?, read(values, entry, texts)?)));
            Ok(object(entries.collect::<Result<_, Misfit>>()?))
        }
        _ => {
            let value = integer(array, index).ok_or_else(unexpected)?;
            Ok(Json::Numeric(numeric::encode(value, 0).as_slice().to_vec()))
        }
    }
}

/// A key of a map, which is a text in JSON.
fn key(keys: &ArrayRef, index: usize, texts: Texts<'_>) -> Result<Vec<u8>, Misfit> {
    match read(keys, index, texts)? {
        Json::String(text) => Ok(text),
        _ => {
            let options = FormatOptions::new();
            let unexpected = |_| Misfit::Unexpected(keys.data_type().to_string());
            let format = ArrayFormatter::try_new(keys.as_ref(), &options).map_err(unexpected)?;
            let text = format.value(index).try_to_string().map_err(unexpected)?;
            Ok(texts.encode(&text)?.into_owned())
        }
    }
}

fn object(mut pairs: Vec<(Vec<u8>, Json)>) -> Json {
    // Of several with one key the last one counts.
    pairs.reverse();
    pairs.sort_by(|(left, _), (right, _)| left.len().cmp(&right.len()).then_with(|| left.cmp(right)));
    pairs.dedup_by(|(later, _), (first, _)| later == first);
    Json::Object(pairs)
}

/// A float by its shortest digits, as Postgres would read them; JSON has no other name for what is no number.
fn float<T: Into<f64> + std::fmt::LowerExp + Copy>(value: T, texts: Texts<'_>) -> Result<Json, Misfit> {
    let wide: f64 = value.into();
    let odd = match wide {
        _ if wide.is_nan() => "NaN",
        _ if wide == f64::INFINITY => "Infinity",
        _ if wide == f64::NEG_INFINITY => "-Infinity",
        _ => {
            let text = format!("{value:e}");
            return numeric::from_scientific(&text).map(Json::Numeric).ok_or(Misfit::OutOfRange(text));
        }
    };
    Ok(Json::String(texts.encode(odd)?.into_owned()))
}

fn uuid(bytes: &[u8]) -> String {
    let digits: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    [&digits[..8], &digits[8..12], &digits[12..16], &digits[16..20], &digits[20..]].join("-")
}

/// A length of time as Postgres writes an interval of no days: hours, minutes and seconds.
fn interval(micros: i64) -> String {
    format!("{}{}", if micros < 0 { "-" } else { "" }, clock(micros.unsigned_abs()))
}

/// Hours, minutes and seconds, without zeros at their end.
fn clock(micros: u64) -> String {
    let (seconds, fraction) = (micros / 1_000_000, micros % 1_000_000);
    let fraction = if fraction == 0 { String::new() } else { format!(".{fraction:06}") };
    let fraction = fraction.trim_end_matches('0');
    format!("{:02}:{:02}:{:02}{fraction}", seconds / 3_600, seconds / 60 % 60, seconds % 60)
}

/// A day as Postgres writes it in ISO 8601, and what stands behind it in years before the first one.
fn date(days_since_1970: i64) -> (String, &'static str) {
    // Years that begin in March have the leap day last; 400 of them always have as many days.
    let days = days_since_1970 + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = if month < 10 { month + 3 } else { month - 9 };
    let year = year + era * 400 + i64::from(month <= 2);
    let (year, era) = if year > 0 { (year, "") } else { (1 - year, " BC") };
    (format!("{year:04}-{month:02}-{day:02}"), era)
}

/// Writes a value; gives its kind.
fn push(out: &mut Vec<u8>, json: &Json) -> Result<u32, Misfit> {
    let count = |len: usize| u32::try_from(len).ok().filter(|len| *len <= MASK).ok_or(Misfit::TooLarge(len));
    match json {
        Json::Null => Ok(NULL),
        Json::Bool(true) => Ok(TRUE),
        Json::Bool(false) => Ok(FALSE),
        Json::Numeric(bytes) => {
            pad(out);
            let size = VARLENA_HEADER + bytes.len();
            out.extend_from_slice(&header(size).ok_or(Misfit::TooLarge(size))?);
            out.extend_from_slice(bytes);
            Ok(NUMERIC)
        }
        Json::String(bytes) => {
            out.extend_from_slice(bytes);
            Ok(STRING)
        }
        Json::Array(elements) => {
            push_container(out, count(elements.len())? | ARRAY, &elements.iter().collect::<Vec<_>>())?;
            Ok(CONTAINER)
        }
        Json::Object(pairs) => {
            let keys: Vec<Json> = pairs.iter().map(|(key, _)| Json::String(key.clone())).collect();
            let children: Vec<&Json> = keys.iter().chain(pairs.iter().map(|(_, value)| value)).collect();
            push_container(out, count(pairs.len())? | OBJECT, &children)?;
            Ok(CONTAINER)
        }
    }
}

fn push_container(out: &mut Vec<u8>, head: u32, children: &[&Json]) -> Result<(), Misfit> {
    pad(out);
    out.extend_from_slice(&head.to_ne_bytes());
    let entries_at = out.len();
    out.resize(entries_at + children.len() * size_of::<u32>(), 0);
    let start = out.len();
    for (index, child) in children.iter().enumerate() {
        let from = out.len();
        let kind = push(out, child)?;
        let (length, end) = (out.len() - from, out.len() - start);
        let fits = |len: usize| u32::try_from(len).ok().filter(|len| *len <= MASK).ok_or(Misfit::TooLarge(len));
        let end = fits(end)?;
        let entry = if index % OFFSET_STRIDE == 0 { kind | HAS_OFFSET | end } else { kind | fits(length)? };
        let at = entries_at + index * size_of::<u32>();
        out[at..at + size_of::<u32>()].copy_from_slice(&entry.to_ne_bytes());
    }
    Ok(())
}

fn pad(out: &mut Vec<u8>) {
    out.resize(out.len().next_multiple_of(size_of::<u32>()), 0);
}
