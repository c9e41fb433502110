//! Between the store's types and DuckDB's, in both directions.
//!
//! | store | DuckDB | in a vector |
//! |---|---|---|
//! | `Bool` | `BOOLEAN` | one byte, 0 or 1 |
//! | `Int8` … `Int64` | `TINYINT` `SMALLINT` `INTEGER` `BIGINT` | itself |
//! | `UInt8` … `UInt64` | `UTINYINT` `USMALLINT` `UINTEGER` `UBIGINT` | itself |
//! | `Float32` `Float64` | `FLOAT` `DOUBLE` | itself |
//! | `Decimal { precision, scale }` | `DECIMAL(precision, scale)` | the narrowest of 16, 32, 64, 128 bits |
//! | `Utf8` | `VARCHAR` | 16-byte string |
//! | `Binary` | `BLOB` | 16-byte string |
//! | `Enum` | `VARCHAR` | 16-byte string |
//! | `Date` | `DATE` | days since 1970-01-01 |
//! | `Timestamp { utc: false }` | `TIMESTAMP` | microseconds since 1970-01-01T00:00 |
//! | `Timestamp { utc: true }` | `TIMESTAMP WITH TIME ZONE` | microseconds since 1970-01-01T00:00Z |
//! | `Time` | `TIME` | microseconds since midnight |
//! | `Duration` | `INTERVAL` | months and days, which are 0, and microseconds |
//! | `Uuid` | `UUID` | 128 bits, the highest inverted |
//! | `List` `FixedList` | `T[]` `T[n]` | handed over as Arrow has them |
//! | `Struct` `Map` | `STRUCT(…)` `MAP(K, V)` | the same |
//!
//! [`logical_type`] goes from the store to DuckDB, [`store_type`] the other way; [`scalar`] takes DuckDB's constants to the store, and
//! [`Column::new`] chooses once per column how its values are written into vectors.

use std::borrow::Cow;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, RecordBatch, StringArray, StringViewArray,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::compute::cast;
use arrow::datatypes::{
    ArrowPrimitiveType, DataType as ArrowType, Date32Type, Decimal32Type, Decimal64Type, Decimal128Type,
    DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type,
    IntervalMonthDayNanoType, Time64MicrosecondType, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type,
    UInt64Type,
};
use duckdb_neo::connection::{Context, FFILink};
use duckdb_neo::data_chunk::DataChunkRef;
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};
use duckdb_neo::types::{
    BlobValue, DateValue, DecimalValue, IntervalValue, TimeValue, TimestampTzValue, TimestampValue, UuidValueRaw,
};
use duckdb_neo::value::Value;
use duckdb_neo::{Parameters, QueryParameter};
use soa_core::predicate::Scalar;
use soa_core::schema::{DataType, Field, MAX_DECIMAL_PRECISION, Schema, Variants, without_dictionaries};

use crate::error::{Result, invalid};
use crate::ffi::{ArrowFeed, InlineOr, OutputVector, StringCell};

/// The most decimal digits that DuckDB keeps in 16, 32 and 64 bits; more take 128.
const DIGITS_IN_16_BITS: u8 = 4;
const DIGITS_IN_32_BITS: u8 = 9;
const DIGITS_IN_64_BITS: u8 = 18;

/// The bit that DuckDB inverts in a UUID.
const UUID_SIGN: u128 = 1 << 127;

/// DuckDB's type for a column.
pub(crate) fn logical_type<C: FFILink + ?Sized>(link: &C, data_type: &DataType) -> Result<LogicalType> {
    let id = match data_type {
        DataType::Decimal { precision, scale } => {
            let (precision, scale) = (i32::from(*precision), i32::from(*scale));
            let parameters: [&dyn QueryParameter; 2] = [&precision, &scale];
            return LogicalType::create_from_id(link, LogicalTypeID::Decimal, Parameters::positional(&parameters));
        }
        DataType::Bool => LogicalTypeID::Boolean,
        DataType::Int8 => LogicalTypeID::TinyInt,
        DataType::Int16 => LogicalTypeID::SmallInt,
        DataType::Int32 => LogicalTypeID::Integer,
        DataType::Int64 => LogicalTypeID::BigInt,
        DataType::UInt8 => LogicalTypeID::UTinyInt,
        DataType::UInt16 => LogicalTypeID::USmallInt,
        DataType::UInt32 => LogicalTypeID::UInteger,
        DataType::UInt64 => LogicalTypeID::UBigInt,
        DataType::Float32 => LogicalTypeID::Float,
        DataType::Float64 => LogicalTypeID::Double,
        DataType::Utf8 | DataType::Enum(_) => LogicalTypeID::Varchar,
        DataType::Binary => LogicalTypeID::Blob,
        DataType::Date => LogicalTypeID::Date,
        DataType::Timestamp { utc: false } => LogicalTypeID::Timestamp,
        DataType::Timestamp { utc: true } => LogicalTypeID::TimestampTz,
        DataType::Time => LogicalTypeID::Time,
        DataType::Duration => LogicalTypeID::Interval,
        DataType::Uuid => LogicalTypeID::Uuid,
        DataType::List(_) | DataType::FixedList(..) | DataType::Struct(_) | DataType::Map { .. } => {
            return nested_type(link, data_type);
        }
    };
    LogicalType::create_from_id(link, id, Parameters::None)
}

/// DuckDB's own enum with these variants.
pub(crate) fn enum_type<C: FFILink + ?Sized>(link: &C, variants: &Variants) -> Result<LogicalType> {
    let names: Vec<&dyn QueryParameter> = variants.names().iter().map(|name| name as &dyn QueryParameter).collect();
    LogicalType::create_from_id(link, LogicalTypeID::Enum, Parameters::positional(&names))
}

/// DuckDB's type for a column whose values have others inside.
fn nested_type<C: FFILink + ?Sized>(link: &C, data_type: &DataType) -> Result<LogicalType> {
    let inside = |field: &Field| Value::from_logical_type(link, &logical_type(link, field.data_type())?);
    match data_type {
        DataType::List(element) => {
            let parameters: [&dyn QueryParameter; 1] = [&inside(element)?];
            LogicalType::create_from_id(link, LogicalTypeID::List, Parameters::positional(&parameters))
        }
        DataType::FixedList(element, len) => {
            let parameters: [&dyn QueryParameter; 2] = [&inside(element)?, &i64::from(*len)];
            LogicalType::create_from_id(link, LogicalTypeID::Array, Parameters::positional(&parameters))
        }
        DataType::Struct(fields) => {
            let types = fields.iter().map(inside).collect::<Result<Vec<_>>>()?;
            let named = fields.iter().zip(&types).map(|(field, value)| (field.name(), value as &dyn QueryParameter));
            let named: Vec<(&str, &dyn QueryParameter)> = named.collect();
            LogicalType::create_from_id(link, LogicalTypeID::Struct, Parameters::named(&named))
        }
        DataType::Map { key, value } => {
            let parameters: [&dyn QueryParameter; 2] = [&inside(key)?, &inside(value)?];
            LogicalType::create_from_id(link, LogicalTypeID::Map, Parameters::positional(&parameters))
        }
        _ => logical_type(link, data_type),
    }
}

/// The type that a column of DuckDB has in a store.
///
/// # Errors
///
/// When a store has none for its values; the error names the column.
pub(crate) fn store_type(column: &str, logical_type: &LogicalType) -> Result<DataType> {
    let inside = |value: &Value| match value.get::<LogicalType>()? {
        Some(inner) => store_type(column, &inner),
        None => Err(untyped(column, logical_type, "")),
    };
    let parameters = logical_type.get_params()?;
    let number = |index: usize| -> Result<Option<i128>> {
        parameters.get(index).map_or(Ok(None), |(_, value)| value.get::<i128>())
    };
    Ok(match logical_type.id()? {
        LogicalTypeID::Boolean => DataType::Bool,
        LogicalTypeID::TinyInt => DataType::Int8,
        LogicalTypeID::SmallInt => DataType::Int16,
        LogicalTypeID::Integer => DataType::Int32,
        LogicalTypeID::BigInt => DataType::Int64,
        LogicalTypeID::UTinyInt => DataType::UInt8,
        LogicalTypeID::USmallInt => DataType::UInt16,
        LogicalTypeID::UInteger => DataType::UInt32,
        LogicalTypeID::UBigInt => DataType::UInt64,
        // Sums of integers are such; a value of 39 digits is refused when it comes.
        LogicalTypeID::HugeInt => DataType::Decimal { precision: MAX_DECIMAL_PRECISION, scale: 0 },
        LogicalTypeID::Float => DataType::Float32,
        LogicalTypeID::Double => DataType::Float64,
        LogicalTypeID::Decimal => {
            let small = |number: Option<i128>| number.and_then(|number| u8::try_from(number).ok());
            match (small(number(0)?), small(number(1)?)) {
                (Some(precision), Some(scale)) => DataType::Decimal { precision, scale },
                _ => return Err(untyped(column, logical_type, "")),
            }
        }
        LogicalTypeID::Varchar => DataType::Utf8,
        LogicalTypeID::Enum => {
            let names = parameters.iter().map(|(_, value)| value.get::<String>()).collect::<Result<Vec<_>>>()?;
            // One with more variants than a store's enums can have is text there.
            Variants::new(names.into_iter().flatten()).map_or(DataType::Utf8, DataType::Enum)
        }
        LogicalTypeID::Blob => DataType::Binary,
        LogicalTypeID::Date => DataType::Date,
        LogicalTypeID::Time => DataType::Time,
        LogicalTypeID::TimestampSec
        | LogicalTypeID::TimestampMs
        | LogicalTypeID::Timestamp
        | LogicalTypeID::TimestampNs => DataType::Timestamp { utc: false },
        LogicalTypeID::TimestampTz => DataType::Timestamp { utc: true },
        LogicalTypeID::Interval => DataType::Duration,
        LogicalTypeID::Uuid => DataType::Uuid,
        LogicalTypeID::List => match parameters.as_slice() {
            [(_, element)] => DataType::list(not_interval(column, logical_type, inside(element)?)?, true),
            _ => return Err(untyped(column, logical_type, "")),
        },
        LogicalTypeID::Array => match (parameters.as_slice(), number(1)?.and_then(|len| u32::try_from(len).ok())) {
            ([(_, element), _], Some(len)) => {
                DataType::fixed_list(not_interval(column, logical_type, inside(element)?)?, true, len)
            }
            _ => return Err(untyped(column, logical_type, "")),
        },
        LogicalTypeID::Struct => {
            let field = |(name, value): &(String, Value)| {
                let data_type = not_interval(column, logical_type, inside(value)?)?;
                Ok(Field::new(name, data_type).with_nullable(true))
            };
            DataType::Struct(parameters.iter().map(field).collect::<Result<_>>()?)
        }
        LogicalTypeID::Map => match parameters.as_slice() {
            [(_, key), (_, value)] => {
                let (key, value) = (inside(key)?, not_interval(column, logical_type, inside(value)?)?);
                DataType::map(not_interval(column, logical_type, key)?, value, true)
            }
            _ => return Err(untyped(column, logical_type, "")),
        },
        LogicalTypeID::SqlNull => return Err(untyped(column, logical_type, ": give it a type, as in NULL::BIGINT")),
        _ => return Err(untyped(column, logical_type, ": cast it to another type, such as VARCHAR")),
    })
}

fn untyped(column: &str, logical_type: &LogicalType, hint: &str) -> duckdb_neo::Error {
    invalid(format!("a store has no type for the column \"{column}\" of type {logical_type}{hint}"))
}

/// Intervals come as months, days and nanoseconds, of which [`durations`] makes microseconds in whole columns only.
fn not_interval(column: &str, logical_type: &LogicalType, inside: DataType) -> Result<DataType> {
    match inside {
        DataType::Duration => Err(untyped(column, logical_type, ": intervals inside others are not written")),
        inside => Ok(inside),
    }
}

/// DuckDB hands intervals over as nanoseconds, and does not look whether there are so many.
///
/// # Errors
///
/// When an interval is of more than 2^63 nanoseconds, about 292 years.
pub(crate) fn check_intervals(columns: &[(&str, LogicalType)], chunk: &DataChunkRef<'_>) -> Result<()> {
    for (index, (name, logical_type)) in columns.iter().enumerate() {
        if logical_type.id()? != LogicalTypeID::Interval {
            continue;
        }
        for interval in chunk.get_vector_at::<IntervalValue>(index)?.reader()?.iter() {
            if let Some(interval) = interval
                && interval.micros.checked_mul(1_000).is_none()
            {
                return Err(invalid(format!(
                    "an interval of {} microseconds in \"{name}\" is longer than the 292 years that DuckDB hands over",
                    interval.micros
                )));
            }
        }
    }
    Ok(())
}

/// The same rows, with DuckDB's intervals as durations.
///
/// # Errors
///
/// When one has months or days, which are of no fixed length, or is not whole microseconds.
pub(crate) fn durations(batch: &RecordBatch) -> Result<RecordBatch> {
    let mut fields = batch.schema_ref().fields().to_vec();
    let mut columns = batch.columns().to_vec();
    for (field, column) in fields.iter_mut().zip(&mut columns) {
        let Some(intervals) = column.as_primitive_opt::<IntervalMonthDayNanoType>() else { continue };
        let name = field.name();
        let microseconds = intervals.try_unary::<_, DurationMicrosecondType, _>(|interval| {
            match (interval.months, interval.days, interval.nanoseconds % 1_000) {
                (0, 0, 0) => Ok(interval.nanoseconds / 1_000),
                _ => Err(arrow::error::ArrowError::CastError(format!(
                    "the interval {} months {} days {} ns in \"{name}\" is no number of microseconds, as which a store keeps it; \
                     months and days have no fixed length",
                    interval.months, interval.days, interval.nanoseconds
                ))),
            }
        });
        *column = Arc::new(microseconds.map_err(|error| invalid(error.to_string()))?);
        *field = Arc::new(field.as_ref().clone().with_data_type(column.data_type().clone()));
    }
    let schema = Arc::new(arrow::datatypes::Schema::new(fields));
    RecordBatch::try_new(schema, columns).map_err(|error| invalid(format!("rows cannot be put together: {error}")))
}

/// Whether two schemas look the same to DuckDB: a longer list of an enum's variants makes no difference.
pub(crate) fn look_the_same(left: &Schema, right: &Schema) -> bool {
    left.len() == right.len()
        && left.fields().iter().zip(right.fields()).all(|(left, right)| {
            let same_type = match (left.data_type(), right.data_type()) {
                (DataType::Enum(_) | DataType::Utf8, DataType::Enum(_) | DataType::Utf8) => true,
                (left, right) => left == right,
            };
            left.name() == right.name() && same_type
        })
}

/// The type that a column has where an expression compares it, given the casts around the column.
///
/// `None` when the cast may change values or their order. What is allowed widens integers and floats,
/// which keeps every value, so that a constant of the wider type compares with the column's own values.
pub(crate) fn cast_keeps_values(column: &DataType, target: LogicalTypeID) -> bool {
    let Some((signed, bits)) = integer_shape(column) else {
        return matches!((column, target), (DataType::Float32, LogicalTypeID::Double));
    };
    match integer_id_shape(target) {
        Some((true, target_bits)) => target_bits > bits || (signed && target_bits == bits),
        Some((false, target_bits)) => !signed && target_bits >= bits,
        None => false,
    }
}

/// Whether an integer type has a sign, and its bits.
fn integer_shape(data_type: &DataType) -> Option<(bool, u32)> {
    match data_type {
        DataType::Int8 => Some((true, 8)),
        DataType::Int16 => Some((true, 16)),
        DataType::Int32 => Some((true, 32)),
        DataType::Int64 => Some((true, 64)),
        DataType::UInt8 => Some((false, 8)),
        DataType::UInt16 => Some((false, 16)),
        DataType::UInt32 => Some((false, 32)),
        DataType::UInt64 => Some((false, 64)),
        DataType::Bool
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal { .. }
        | DataType::Utf8
        | DataType::Binary
        | DataType::Enum(_)
        | DataType::Date
        | DataType::Timestamp { .. }
        | DataType::Time
        | DataType::Duration
        | DataType::Uuid
        | DataType::List(_)
        | DataType::FixedList(..)
        | DataType::Struct(_)
        | DataType::Map { .. } => None,
    }
}

/// The same for DuckDB's types; every one that is not an integer is `None`.
fn integer_id_shape(id: LogicalTypeID) -> Option<(bool, u32)> {
    const INTEGERS: [(LogicalTypeID, bool, u32); 10] = [
        (LogicalTypeID::TinyInt, true, 8),
        (LogicalTypeID::SmallInt, true, 16),
        (LogicalTypeID::Integer, true, 32),
        (LogicalTypeID::BigInt, true, 64),
        (LogicalTypeID::HugeInt, true, 128),
        (LogicalTypeID::UTinyInt, false, 8),
        (LogicalTypeID::USmallInt, false, 16),
        (LogicalTypeID::UInteger, false, 32),
        (LogicalTypeID::UBigInt, false, 64),
        (LogicalTypeID::UHugeInt, false, 128),
    ];
    INTEGERS.iter().find(|(known, ..)| *known == id).map(|(_, signed, bits)| (*signed, *bits))
}

/// A constant of DuckDB as one that a column of `data_type` can be compared with.
///
/// `None` for NULL and for every type whose values do not correspond one to one.
pub(crate) fn scalar(data_type: &DataType, value: &Value) -> Result<Option<Scalar>> {
    if value.is_null()? {
        return Ok(None);
    }
    let found = value.logical_type()?;
    let id = found.id()?;
    Ok(match data_type {
        DataType::Bool => match id {
            LogicalTypeID::Boolean => value.get::<bool>()?.map(Scalar::Bool),
            _ => None,
        },
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => match integer_id_shape(id) {
            // An unsigned constant of 128 bits may not fit the store's, and no column holds such values.
            Some((_, 128)) if id == LogicalTypeID::UHugeInt => None,
            Some(_) => value.get::<i128>()?.map(Scalar::Int),
            None => None,
        },
        DataType::Float32 | DataType::Float64 => match id {
            LogicalTypeID::Float => value.get::<f32>()?.map(|float| Scalar::Float(f64::from(float))),
            LogicalTypeID::Double => value.get::<f64>()?.map(Scalar::Float),
            _ => None,
        },
        DataType::Decimal { scale, .. } => match id {
            LogicalTypeID::Decimal => {
                value.get::<DecimalValue>()?.filter(|found| found.scale == *scale).map(|found| Scalar::Int(found.value))
            }
            _ => None,
        },
        DataType::Utf8 | DataType::Enum(_) => match id {
            LogicalTypeID::Varchar => value.get::<String>()?.map(Scalar::Utf8),
            _ => None,
        },
        DataType::Binary => match id {
            LogicalTypeID::Blob => value.get::<BlobValue>()?.map(|BlobValue(bytes)| Scalar::Binary(bytes)),
            _ => None,
        },
        DataType::Date => match id {
            LogicalTypeID::Date => value.get::<DateValue>()?.map(|DateValue(days)| Scalar::Int(i128::from(days))),
            _ => None,
        },
        DataType::Timestamp { utc: false } => match id {
            LogicalTypeID::Timestamp => value.get::<TimestampValue>()?.map(|time| Scalar::Int(i128::from(time.0))),
            _ => None,
        },
        DataType::Time => match id {
            LogicalTypeID::Time => value.get::<TimeValue>()?.map(|TimeValue(micros)| Scalar::Int(i128::from(micros))),
            _ => None,
        },
        DataType::Uuid => match id {
            LogicalTypeID::Uuid => value
                .get::<UuidValueRaw>()?
                .map(|UuidValueRaw(bits)| Scalar::Binary((bits.cast_unsigned() ^ UUID_SIGN).to_be_bytes().to_vec())),
            _ => None,
        },
        // An interval of months or days equals microseconds by a rule of DuckDB's own.
        DataType::Duration => None,
        DataType::List(_) | DataType::FixedList(..) | DataType::Struct(_) | DataType::Map { .. } => None,
        DataType::Timestamp { utc: true } => match id {
            LogicalTypeID::TimestampTz => value.get::<TimestampTzValue>()?.map(|time| Scalar::Int(i128::from(time.0))),
            _ => None,
        },
    })
}

/// A column of a record batch and how its values get into a DuckDB vector.
#[derive(Debug)]
pub(crate) struct Column {
    nulls: Option<NullBuffer>,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// One bit per value.
    Bits(BooleanArray),
    /// The bytes that DuckDB wants, `width` of them per value.
    Fixed {
        bytes: Buffer,
        width: usize,
    },
    /// 128-bit decimals of which DuckDB keeps the low 16, 32 or 64 bits: their precision says they fit.
    Narrow {
        bytes: Buffer,
        width: usize,
    },
    /// 32-bit decimals of which DuckDB keeps the low 16.
    Half {
        bytes: Buffer,
    },
    Text(StringViewArray),
    Bytes(BinaryViewArray),
    /// In place: an enum or texts of few values as DuckDB's dictionary vectors, long texts, lists, structs and maps.
    InPlace(ArrowFeed),
    /// An index per value, and what stands behind each index.
    Names {
        keys: Buffer,
        names: Vec<InlineOr<Box<str>>>,
    },
}

impl Column {
    /// Whether a column is handed over in place by [`new`](Self::new): then it must have no other rows than those wanted.
    pub(crate) fn is_in_place(data_type: &DataType, array: &ArrayRef) -> bool {
        data_type.is_nested() || (matches!(data_type, DataType::Enum(_) | DataType::Utf8) && is_shared(array))
    }

    /// Chooses the way for a column that the store has declared as `data_type`.
    ///
    /// # Errors
    ///
    /// When the array is not of the type that [`DataType`] documents; the error names the column.
    pub(crate) fn new(context: &Context, name: &str, data_type: &DataType, array: &ArrayRef) -> Result<Self> {
        let values = match data_type {
            DataType::Bool => array.as_boolean_opt().cloned().map(Values::Bits),
            DataType::Int8 => fixed::<Int8Type>(array),
            DataType::Int16 => fixed::<Int16Type>(array),
            DataType::Int32 => fixed::<Int32Type>(array),
            DataType::Int64 => fixed::<Int64Type>(array),
            DataType::UInt8 => fixed::<UInt8Type>(array),
            DataType::UInt16 => fixed::<UInt16Type>(array),
            DataType::UInt32 => fixed::<UInt32Type>(array),
            DataType::UInt64 => fixed::<UInt64Type>(array),
            DataType::Float32 => fixed::<Float32Type>(array),
            DataType::Float64 => fixed::<Float64Type>(array),
            DataType::Decimal { precision, .. } => decimal(array, *precision),
            DataType::Binary => array.as_binary_view_opt().cloned().map(Values::Bytes),
            DataType::Enum(_) | DataType::Utf8 if is_shared(array) => {
                Some(Values::InPlace(ArrowFeed::new(context, array)?))
            }
            DataType::Utf8 => array.as_string_view_opt().cloned().map(Values::Text).or_else(|| names(array)),
            DataType::Enum(_) => names(array),
            DataType::Date => fixed::<Date32Type>(array),
            DataType::Timestamp { .. } => fixed::<TimestampMicrosecondType>(array),
            DataType::Time => fixed::<Time64MicrosecondType>(array),
            DataType::Duration => intervals(array),
            DataType::Uuid => uuids(array),
            DataType::List(_) | DataType::FixedList(..) | DataType::Struct(_) | DataType::Map { .. } => {
                let array = without_enums(array)?;
                Some(Values::InPlace(ArrowFeed::new(context, &array)?))
            }
        };
        let values = values
            .ok_or_else(|| invalid(format!("column \"{name}\" of type {data_type} came as {}", array.data_type())))?;
        // What is handed over in place has its own, of fewer rows perhaps.
        let own = !matches!(values, Values::InPlace(_));
        let nulls = array.nulls().filter(|nulls| own && nulls.null_count() > 0).cloned();
        Ok(Self { nulls, values })
    }

    /// An enum as DuckDB's with `variants`: numbers, of one byte unless there are too many for DuckDB's.
    ///
    /// # Errors
    ///
    /// When the array is no enum's, or has a variant that is not one of `variants`; the error names the column.
    pub(crate) fn ranks(name: &str, variants: &Variants, array: &ArrayRef) -> Result<Self> {
        let other = || invalid(format!("column \"{name}\", an enum, came as {}", array.data_type()));
        let dictionary = array.as_dictionary_opt::<UInt8Type>().ok_or_else(other)?;
        let names: &StringArray = dictionary.values().as_string_opt().ok_or_else(other)?;
        let rank_of = |name: Option<&str>| variants.index_of(name?).and_then(|rank| u16::try_from(rank).ok());
        let ranks: Vec<Option<u16>> = names.iter().map(rank_of).collect();
        let keys = dictionary.keys();
        let nulls = keys.nulls().filter(|nulls| nulls.null_count() > 0).cloned();
        let is_narrow = variants.len() <= usize::from(u8::MAX);
        if is_narrow && ranks.iter().enumerate().all(|(key, rank)| rank.is_some_and(|rank| usize::from(rank) == key)) {
            let bytes = keys.values().inner().clone();
            return Ok(Self { nulls, values: Values::Fixed { bytes, width: 1 } });
        }
        let rank = |key: Option<u8>| match key {
            // Nobody looks at it.
            None => Ok(0),
            Some(key) => ranks.get(usize::from(key)).copied().flatten().ok_or_else(|| {
                let variant = names.value(usize::from(key));
                invalid(format!(
                    "\"{name}\" has got the variant \"{variant}\" since the statement was prepared; prepare it again"
                ))
            }),
        };
        let ranks = keys.iter().map(rank).collect::<Result<Vec<u16>>>()?;
        let values = match is_narrow {
            true => {
                let bytes: Vec<u8> = ranks.iter().map(|rank| rank.to_le_bytes()[0]).collect();
                Values::Fixed { bytes: Buffer::from_vec(bytes), width: 1 }
            }
            false => Values::Fixed { bytes: Buffer::from_vec(ranks), width: size_of::<u16>() },
        };
        Ok(Self { nulls, values })
    }

    /// Writes rows to the beginning of `vector`. Chunks must be asked for in order; a column that is handed over in place
    /// has no other rows than those asked for.
    pub(crate) fn write(&mut self, rows: &Rows, vector: &mut OutputVector<'_>) -> Result<()> {
        let nulls = self.nulls.as_ref().map(|nulls| NullBuffer::new(rows.bits_of(nulls.inner())));
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        match &mut self.values {
            // With its NULLs.
            Values::InPlace(feed) => return feed.write_next(vector),
            Values::Bits(bits) => vector.write_bits(&rows.bits_of(bits.values()))?,
            Values::Fixed { bytes, width } => {
                vector.write_bytes(&bytes[rows.range.start * *width..rows.range.end * *width], *width, rows.live())?;
            }
            Values::Narrow { bytes, width } => {
                let (values, _) = bytes.as_chunks::<{ size_of::<i128>() }>();
                vector.write_narrowed(&rows.of(values), *width)?;
            }
            Values::Half { bytes } => {
                let (values, _) = bytes.as_chunks::<{ size_of::<i32>() }>();
                vector.write_narrowed(&rows.of(values), size_of::<i16>())?;
            }
            Values::Text(text) => vector.write_views(&rows.of(text.views()), text.data_buffers(), nulls.as_ref())?,
            Values::Bytes(bytes) => {
                vector.write_views(&rows.of(bytes.views()), bytes.data_buffers(), nulls.as_ref())?
            }
            Values::Names { keys, names } => vector.write_names(&rows.of(keys), names, nulls.as_ref())?,
        }
        match nulls {
            Some(nulls) => vector.write_validity(&nulls),
            None => Ok(()),
        }
    }
}

/// The rows of a chunk: a range of a batch's rows, without those that are deleted.
#[derive(Debug)]
pub(crate) struct Rows {
    pub(crate) range: Range<usize>,
    /// Which rows of the range are left, if not all. The last one is.
    pub(crate) live: Option<BooleanBuffer>,
    /// How many that is.
    pub(crate) count: usize,
}

impl Rows {
    fn live(&self) -> Option<&BooleanBuffer> {
        self.live.as_ref()
    }

    /// The values of these rows.
    fn of<'a, T: Copy>(&self, values: &'a [T]) -> Cow<'a, [T]> {
        let values = &values[self.range.clone()];
        match &self.live {
            None => Cow::Borrowed(values),
            Some(live) => {
                Cow::Owned(values.iter().zip(live).filter_map(|(value, live)| live.then_some(*value)).collect())
            }
        }
    }

    fn bits_of(&self, bits: &BooleanBuffer) -> BooleanBuffer {
        let bits = bits.slice(self.range.start, self.range.len());
        match &self.live {
            None => bits,
            Some(live) => bits.iter().zip(live).filter_map(|(bit, live)| live.then_some(bit)).collect(),
        }
    }
}

fn fixed<T: ArrowPrimitiveType>(array: &ArrayRef) -> Option<Values> {
    let bytes = array.as_primitive_opt::<T>()?.values().inner().clone();
    Some(Values::Fixed { bytes, width: size_of::<T::Native>() })
}

/// Lists, structs and maps with texts in the place of enums inside them. (DuckDB's importer does not take every dictionary
/// inside a list: one without any row ends the database, and in lists of one length the types do not match.)
fn without_enums(array: &ArrayRef) -> Result<ArrayRef> {
    let plain = without_dictionaries(array.data_type());
    match plain == *array.data_type() {
        true => Ok(Arc::clone(array)),
        false => cast(array, &plain).map_err(|error| invalid(format!("enums cannot be made texts: {error}"))),
    }
}

/// DuckDB's intervals: months, days and microseconds, 16 bytes in all.
fn intervals(array: &ArrayRef) -> Option<Values> {
    let micros = array.as_primitive_opt::<DurationMicrosecondType>()?.values();
    let bytes: Vec<i64> = micros.iter().flat_map(|micros| [0, *micros]).collect();
    Some(Values::Fixed { bytes: Buffer::from_vec(bytes), width: size_of::<[i64; 2]>() })
}

/// DuckDB's UUIDs: integers of 128 bits, whose order is that of the bytes because the highest bit is inverted.
fn uuids(array: &ArrayRef) -> Option<Values> {
    let (bytes, _) = array.as_fixed_size_binary_opt()?.value_data().as_chunks::<{ size_of::<u128>() }>();
    let numbers: Vec<i128> = bytes.iter().map(|uuid| (u128::from_be_bytes(*uuid) ^ UUID_SIGN).cast_signed()).collect();
    Some(Values::Fixed { bytes: Buffer::from_vec(numbers), width: size_of::<i128>() })
}

fn decimal(array: &ArrayRef, precision: u8) -> Option<Values> {
    // In an Arrow form they may be shorter.
    match array.data_type() {
        ArrowType::Decimal32(_, _) if precision <= DIGITS_IN_16_BITS => {
            let bytes = array.as_primitive::<Decimal32Type>().values().inner().clone();
            return Some(Values::Half { bytes });
        }
        ArrowType::Decimal32(_, _) => return fixed::<Decimal32Type>(array),
        ArrowType::Decimal64(_, _) => return fixed::<Decimal64Type>(array),
        _ => {}
    }
    let bytes = array.as_primitive_opt::<Decimal128Type>()?.values().inner().clone();
    Some(if precision <= DIGITS_IN_16_BITS {
        Values::Narrow { bytes, width: size_of::<i16>() }
    } else if precision <= DIGITS_IN_32_BITS {
        Values::Narrow { bytes, width: size_of::<i32>() }
    } else if precision <= DIGITS_IN_64_BITS {
        Values::Narrow { bytes, width: size_of::<i64>() }
    } else {
        Values::Fixed { bytes, width: size_of::<i128>() }
    })
}

/// The most variants or texts for which a dictionary vector pays: DuckDB makes each chunk's entries anew.
const DICTIONARY_ENTRIES_MAX: usize = 64;

/// Whether the texts of an array are handed over in place.
fn is_shared(array: &ArrayRef) -> bool {
    is_small(array) || has_long_texts(array)
}

/// Whether there are texts that are not in their views: referring to them takes less than copying them.
fn has_long_texts(array: &ArrayRef) -> bool {
    array.as_string_view_opt().is_some_and(|texts| !texts.data_buffers().is_empty())
}

fn is_small(array: &ArrayRef) -> bool {
    array.as_dictionary_opt::<UInt8Type>().is_some_and(|dictionary| dictionary.values().len() <= DICTIONARY_ENTRIES_MAX)
}

fn names(array: &ArrayRef) -> Option<Values> {
    let dictionary = array.as_dictionary_opt::<UInt8Type>()?;
    let names: &StringArray = dictionary.values().as_string_opt()?;
    let names = names
        .iter()
        .map(|name| {
            let name = name.unwrap_or_default();
            StringCell::inline(name.as_bytes()).map_or_else(|| InlineOr::Long(name.into()), InlineOr::Inline)
        })
        .collect();
    Some(Values::Names { keys: dictionary.keys().values().inner().clone(), names })
}
