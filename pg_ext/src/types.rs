//! Between the store's types and Postgres', in both directions.
//!
//! | store | imported as | may also be declared as | in a slot |
//! |---|---|---|---|
//! | `Bool` | `boolean` | | itself |
//! | `Int8` `Int16` `UInt8` | `smallint` | `integer`, `bigint` | itself |
//! | `Int32` `UInt16` | `integer` | `bigint` | itself |
//! | `Int64` `UInt32` | `bigint` | | itself |
//! | `UInt64` | `bigint` where every value fits, else `numeric(20,0)` | the other; `numeric` | itself, checked; digit groups |
//! | `Float32` | `real` | `double precision` | itself |
//! | `Float64` | `double precision` | | itself |
//! | `Decimal { precision, scale }` | `numeric(precision,scale)` | `numeric`, more digits before the point | digit groups |
//! | `Utf8`, `Enum` | `text` | `varchar` | varlena |
//! | `Binary` | `bytea` | | varlena |
//! | `Date` | `date` | | days since 2000-01-01 |
//! | `Timestamp { utc: false }` | `timestamp` | | microseconds since 2000-01-01T00:00 |
//! | `Timestamp { utc: true }` | `timestamptz` | | microseconds since 2000-01-01T00:00Z |
//! | `Time` | `time` | | microseconds since midnight |
//! | `Duration` | `interval` | | microseconds, and days and months, which are 0 |
//! | `Uuid` | `uuid` | | its 16 bytes |
//! | `List`, `FixedList` of values without others inside | arrays of these types | as theirs | varlena |
//! | other `List` and `FixedList`, `Struct`, `Map` | `jsonb` | | varlena |
//!
//! [`declaration`] goes from the store to Postgres, [`Conversion::new`] chooses once per column how its values are
//! written into slots, and [`compare`] takes a comparison with a Postgres value to the store.

use pgrx::PgSqlErrorCode;
use soa_core::predicate::{CompareOp, Predicate, Scalar};
use soa_core::schema::{DAY_MICROS, DataType, Field};

use crate::array::Elements;
use crate::error::{PgError, Result};
use crate::numeric::{Decimal, Floor};
use crate::options::U64;
use crate::query::ValueType;

/// Days from 1970-01-01 to 2000-01-01.
pub(crate) const EPOCH_DAYS: i32 = 10_957;
/// Microseconds from 1970-01-01T00:00 to 2000-01-01T00:00.
pub(crate) const EPOCH_MICROS: i64 = EPOCH_DAYS as i64 * 86_400 * 1_000_000;
/// The days that a `date` can be, from 2000-01-01 (`datatype/timestamp.h`): 4714-11-24 BC to 5874897-12-31.
pub(crate) const DATE_RANGE: std::ops::Range<i32> = -2_451_545..2_145_031_949;
/// The microseconds that a `timestamp` can be, from 2000-01-01T00:00: 4714-11-24 BC to 294276-12-31.
pub(crate) const TIMESTAMP_RANGE: std::ops::Range<i64> = -211_813_488_000_000_000..9_223_371_331_200_000_000;

/// The most digits of a `Decimal`.
const DECIMAL_DIGITS: u8 = 38;
/// Digits of the greatest integer of 64 unsigned bits.
const U64_DIGITS: u32 = 20;

/// The types of Postgres that columns of stores can be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PgType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    Numeric,
    Text,
    Bytea,
    Date,
    Timestamp,
    TimestampTz,
    Time,
    Interval,
    Uuid,
    Jsonb,
}

/// A column of a foreign table as it was declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Declared {
    /// Its name.
    pub(crate) name: String,
    /// Its type; `None` for every one that no column of a store can be.
    pub(crate) pg_type: Option<PgType>,
    /// For an array the type of its elements and that type's OID, if columns can be of it.
    pub(crate) element: Option<(PgType, u32)>,
    /// The type as Postgres writes it, for messages.
    pub(crate) type_text: String,
    /// The parameters of its type.
    pub(crate) modifier: Modifier,
    /// Whether it was declared `NOT NULL`.
    pub(crate) not_null: bool,
}

/// The parameters of a type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Modifier {
    /// There are none.
    None,
    /// `numeric(precision, scale)`.
    Numeric { precision: u32, scale: i32 },
    /// Another, such as the length of a `varchar`.
    Other,
}

/// The type that a column is imported as. `max` is a bound of the values of a `UInt64` column, if one is known.
pub(crate) fn declaration(field: &Field, u64: U64, max: Option<u64>) -> String {
    let name = match field.data_type() {
        DataType::Bool => "boolean",
        DataType::Int8 | DataType::Int16 | DataType::UInt8 => "smallint",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 => "bigint",
        DataType::UInt64 => match u64 {
            U64::BigInt => "bigint",
            U64::Auto if max.is_some_and(|max| i64::try_from(max).is_ok()) => "bigint",
            U64::Auto | U64::Numeric => "numeric(20,0)",
        },
        DataType::Float32 => "real",
        DataType::Float64 => "double precision",
        DataType::Decimal { precision, scale } => return format!("numeric({precision},{scale})"),
        DataType::Utf8 | DataType::Enum(_) => "text",
        DataType::Binary => "bytea",
        DataType::Date => "date",
        DataType::Timestamp { utc: false } => "timestamp",
        DataType::Timestamp { utc: true } => "timestamp with time zone",
        DataType::Time => "time",
        DataType::Duration => "interval",
        DataType::Uuid => "uuid",
        DataType::List(element) | DataType::FixedList(element, _) if !element.data_type().is_nested() => {
            // Elements are looked at as they come: nothing says that they fit a bigint.
            let u64 = if u64 == U64::Auto { U64::Numeric } else { u64 };
            return format!("{}[]", declaration(element, u64, None));
        }
        DataType::List(_) | DataType::FixedList(..) | DataType::Struct(_) | DataType::Map { .. } => "jsonb",
    };
    name.to_owned()
}

/// The column of a new store that a column of a foreign table is kept in: of the type that would be imported as this one.
///
/// # Errors
///
/// When no column of a store holds all values of the declared type.
pub(crate) fn field(name: &str, declared: &Declared) -> Result<Field> {
    let found = match declared.element {
        Some((element, _)) => stored_as(element, declared.modifier).map(|element| DataType::list(element, true)),
        None => declared.pg_type.and_then(|pg_type| stored_as(pg_type, declared.modifier)),
    };
    let found = found.ok_or_else(|| {
        let Declared { name, type_text, .. } = declared;
        let message = format!("no column of a store is like column \"{name}\", which is declared as {type_text}");
        PgError::new(PgSqlErrorCode::ERRCODE_FDW_INVALID_DATA_TYPE, message).with_hint(
            "Stores have numeric with a precision of up to 38, text without a length and times without a precision.",
        )
    })?;
    Ok(Field::new(name, found).with_nullable(!declared.not_null))
}

fn stored_as(pg_type: PgType, modifier: Modifier) -> Option<DataType> {
    if let (PgType::Numeric, Modifier::Numeric { precision, scale }) = (pg_type, modifier) {
        let (precision, scale) = (u8::try_from(precision).ok()?, u8::try_from(scale).ok()?);
        return (precision <= DECIMAL_DIGITS && scale <= precision).then_some(DataType::Decimal { precision, scale });
    }
    if modifier != Modifier::None {
        return None;
    }
    Some(match pg_type {
        PgType::Bool => DataType::Bool,
        PgType::Int2 => DataType::Int16,
        PgType::Int4 => DataType::Int32,
        PgType::Int8 => DataType::Int64,
        PgType::Float4 => DataType::Float32,
        PgType::Float8 => DataType::Float64,
        PgType::Text => DataType::Utf8,
        PgType::Bytea => DataType::Binary,
        PgType::Date => DataType::Date,
        PgType::Timestamp => DataType::Timestamp { utc: false },
        PgType::TimestampTz => DataType::Timestamp { utc: true },
        PgType::Time => DataType::Time,
        PgType::Interval => DataType::Duration,
        PgType::Uuid => DataType::Uuid,
        PgType::Numeric | PgType::Jsonb => return None,
    })
}

/// How the values of a column get into a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Conversion {
    /// One byte, 0 or 1.
    Bool,
    /// An integer of any width, extended to 64 bits with its sign.
    Integer,
    /// An integer of 64 unsigned bits that must fit into 63.
    U64ToBigInt,
    /// An integer of 64 unsigned bits.
    U64ToNumeric,
    Float4,
    Float4ToFloat8,
    Float8,
    /// Digits and how many of them are after the point.
    Numeric {
        scale: u8,
    },
    Text,
    /// Text that is one of few.
    Enum,
    Bytea,
    Date,
    Timestamp,
    /// Microseconds since midnight.
    Time,
    /// Microseconds, in a value of 16 bytes.
    Interval,
    Uuid,
    /// An array.
    Array(Elements),
    Jsonb,
}

impl Conversion {
    /// Chooses the way for a column of the store and its declaration.
    ///
    /// # Errors
    ///
    /// When the declared type cannot hold the column's values; the error names both.
    pub(crate) fn new(field: &Field, declared: &Declared) -> Result<Self> {
        let found = match (field.data_type(), declared.element) {
            (DataType::List(element) | DataType::FixedList(element, _), Some((pg_type, oid))) => {
                // Its elements are converted as columns of their type are.
                let conversion = Self::between(element.data_type(), pg_type, declared.modifier);
                conversion.filter(|conversion| *conversion != Self::Jsonb).map(|conversion| {
                    let scale = if let Self::Numeric { scale } = conversion { scale } else { 0 };
                    Self::Array(Elements { pg_type, oid, scale })
                })
            }
            (data_type, _) => declared.pg_type.and_then(|pg_type| Self::between(data_type, pg_type, declared.modifier)),
        };
        found.ok_or_else(|| {
            let message = format!(
                "column \"{}\" is declared as {}, which cannot hold the store's type {}",
                declared.name,
                declared.type_text,
                field.data_type()
            );
            PgError::new(PgSqlErrorCode::ERRCODE_FDW_INVALID_DATA_TYPE, message)
                .with_hint(format!("Declare it as {}.", declaration(field, U64::Auto, None)))
        })
    }

    /// The type that values of a column of `data_type`, declared as `pg_type`, have in expressions, if in any.
    pub(crate) fn value_type(self, data_type: &DataType, pg_type: Option<PgType>) -> Option<ValueType> {
        Some(match self {
            Self::Bool => ValueType::Bool,
            Self::Integer => match pg_type? {
                PgType::Int2 => ValueType::Int2,
                PgType::Int4 => ValueType::Int4,
                _ => ValueType::Int8,
            },
            Self::U64ToNumeric => ValueType::Numeric { precision: U64_DIGITS as u8, scale: 0 },
            Self::Float4 => ValueType::Float4,
            Self::Float4ToFloat8 | Self::Float8 => ValueType::Float8,
            Self::Numeric { scale } => match data_type {
                DataType::Decimal { precision, .. } => ValueType::Numeric { precision: *precision, scale },
                _ => return None,
            },
            Self::Text | Self::Enum => ValueType::Text,
            Self::Bytea => ValueType::Bytea,
            Self::Date => ValueType::Date,
            Self::Timestamp => match pg_type? {
                PgType::TimestampTz => ValueType::TimestampTz,
                _ => ValueType::Timestamp,
            },
            Self::Time => ValueType::Time,
            Self::Uuid => ValueType::Uuid,
            Self::U64ToBigInt => ValueType::Int8,
            Self::Interval | Self::Array(_) | Self::Jsonb => return None,
        })
    }

    fn between(data_type: &DataType, pg_type: PgType, modifier: Modifier) -> Option<Self> {
        let plain = modifier == Modifier::None;
        match (data_type, pg_type) {
            (DataType::Bool, PgType::Bool) => Some(Self::Bool),
            (DataType::Int8 | DataType::Int16 | DataType::UInt8, PgType::Int2 | PgType::Int4 | PgType::Int8)
            | (DataType::Int32 | DataType::UInt16, PgType::Int4 | PgType::Int8)
            | (DataType::Int64 | DataType::UInt32, PgType::Int8) => Some(Self::Integer),
            (DataType::UInt64, PgType::Int8) => Some(Self::U64ToBigInt),
            (DataType::UInt64, PgType::Numeric) => holds(modifier, U64_DIGITS, 0).then_some(Self::U64ToNumeric),
            (DataType::Float32, PgType::Float4) => Some(Self::Float4),
            (DataType::Float32, PgType::Float8) => Some(Self::Float4ToFloat8),
            (DataType::Float64, PgType::Float8) => Some(Self::Float8),
            (DataType::Decimal { precision, scale }, PgType::Numeric) => {
                holds(modifier, u32::from(*precision), i32::from(*scale)).then_some(Self::Numeric { scale: *scale })
            }
            (DataType::Utf8, PgType::Text) if plain => Some(Self::Text),
            (DataType::Enum(_), PgType::Text) if plain => Some(Self::Enum),
            (DataType::Binary, PgType::Bytea) => Some(Self::Bytea),
            (DataType::Date, PgType::Date) => Some(Self::Date),
            (DataType::Timestamp { utc: false }, PgType::Timestamp)
            | (DataType::Timestamp { utc: true }, PgType::TimestampTz)
                if plain =>
            {
                Some(Self::Timestamp)
            }
            (DataType::Time, PgType::Time) if plain => Some(Self::Time),
            (DataType::Duration, PgType::Interval) if plain => Some(Self::Interval),
            (DataType::Uuid, PgType::Uuid) => Some(Self::Uuid),
            (
                DataType::List(_) | DataType::FixedList(..) | DataType::Struct(_) | DataType::Map { .. },
                PgType::Jsonb,
            ) => Some(Self::Jsonb),
            (
                DataType::Bool
                | DataType::Int8
                | DataType::Int16
                | DataType::Int32
                | DataType::Int64
                | DataType::UInt8
                | DataType::UInt16
                | DataType::UInt32
                | DataType::UInt64
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
                | DataType::Map { .. },
                _,
            ) => None,
        }
    }
}

/// Whether a `numeric` holds every number of so many digits, `scale` of them after the point, and shows no more.
fn holds(modifier: Modifier, precision: u32, scale: i32) -> bool {
    match modifier {
        Modifier::None => true,
        Modifier::Numeric { precision: declared, scale: declared_scale } => {
            declared_scale == scale && declared >= precision
        }
        Modifier::Other => false,
    }
}

/// A value of Postgres, as far as columns can be compared with it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum PgValue {
    Null,
    Bool(bool),
    /// `smallint`, `integer`, `bigint`.
    Integer(i64),
    /// `real`, `double precision`.
    Float(f64),
    /// A numeric of no more digits before the point than columns have.
    Numeric(Decimal),
    /// A numeric that is above (NaN, infinity, more digits than a column has) or below all numbers of columns.
    NumericBeyond {
        above: bool,
    },
    Text(String),
    Bytea(Vec<u8>),
    /// Days since 2000-01-01; an infinity is the least or greatest i32.
    Date(i32),
    /// Microseconds since 2000-01-01T00:00.
    Timestamp(i64),
    /// Microseconds since 2000-01-01T00:00Z.
    TimestampTz(i64),
    /// Microseconds since midnight.
    Time(i64),
    Interval {
        months: i32,
        days: i32,
        micros: i64,
    },
    Uuid([u8; 16]),
    /// The elements of an array.
    Array(Vec<PgValue>),
    /// Anything else.
    Other,
}

/// A predicate that is true, false and NULL where `column op value` is.
///
/// `None` where there is none. The operator has passed the allow-list, so the types are comparable for Postgres.
pub(crate) fn compare(column: usize, data_type: &DataType, op: CompareOp, value: &PgValue) -> Option<Predicate> {
    let exact = |value: Scalar| Some(Predicate::compare(column, op, value));
    match (data_type, value) {
        (DataType::Bool, PgValue::Bool(value)) => exact(Scalar::Bool(*value)),
        (
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64,
            PgValue::Integer(value),
        ) => exact(Scalar::Int(i128::from(*value))),
        (
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64,
            PgValue::Numeric(value),
        ) => compare_decimal(column, op, *value, 0),
        (DataType::Decimal { scale, .. }, PgValue::Numeric(value)) => {
            compare_decimal(column, op, *value, u32::from(*scale))
        }
        (
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64
            | DataType::Decimal { .. },
            PgValue::NumericBeyond { above },
        ) => Some(compare_beyond(column, op, *above)),
        (DataType::Float32 | DataType::Float64, PgValue::Float(value)) => exact(Scalar::Float(*value)),
        (DataType::Utf8 | DataType::Enum(_), PgValue::Text(value)) => exact(Scalar::Utf8(value.clone())),
        (DataType::Binary, PgValue::Bytea(value)) => exact(Scalar::Binary(value.clone())),
        (DataType::Date, PgValue::Date(days)) => exact(Scalar::Int(i128::from(*days) + i128::from(EPOCH_DAYS))),
        // A date is its first moment. The infinities are far from every date in either unit.
        (DataType::Date, PgValue::Timestamp(micros)) => {
            let micros = i128::from(*micros) + i128::from(EPOCH_MICROS);
            let day = i128::from(DAY_MICROS);
            Some(compare_floor(column, op, micros.div_euclid(day), micros.rem_euclid(day) == 0))
        }
        (DataType::Timestamp { utc: false }, PgValue::Date(days)) => {
            exact(Scalar::Int((i128::from(*days) + i128::from(EPOCH_DAYS)) * i128::from(DAY_MICROS)))
        }
        (DataType::Timestamp { utc: false }, PgValue::Timestamp(micros))
        | (DataType::Timestamp { utc: true }, PgValue::TimestampTz(micros)) => {
            exact(Scalar::Int(i128::from(*micros) + i128::from(EPOCH_MICROS)))
        }
        (DataType::Time, PgValue::Time(micros)) => exact(Scalar::Int((*micros).into())),
        (DataType::Uuid, PgValue::Uuid(bytes)) => exact(Scalar::Binary(bytes.to_vec())),
        // Of an interval of a month or a day it is a rule of Postgres' own how long it is.
        (
            DataType::Bool
            | DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64
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
            | DataType::Map { .. },
            _,
        ) => None,
    }
}

/// Compares a column of multiples of `10^-scale` with a number that may lie between two of them.
fn compare_decimal(column: usize, op: CompareOp, value: Decimal, scale: u32) -> Option<Predicate> {
    Some(match value.floor_at(scale) {
        Floor::At(floor, is_equal) => compare_floor(column, op, floor, is_equal),
        Floor::Above => compare_beyond(column, op, true),
        Floor::Below => compare_beyond(column, op, false),
    })
}

/// Compares a column of integers with a number of which `floor` is the greatest integer that is not above it.
fn compare_floor(column: usize, op: CompareOp, floor: i128, is_equal: bool) -> Predicate {
    let op = match (op, is_equal) {
        (op, true) => op,
        // Above the floor and below the next: nothing equals it.
        (CompareOp::Lt | CompareOp::LtEq, false) => CompareOp::LtEq,
        (CompareOp::Gt | CompareOp::GtEq, false) => CompareOp::Gt,
        (CompareOp::Eq, false) => return always(column, false),
        (CompareOp::NotEq, false) => return always(column, true),
    };
    Predicate::compare(column, op, Scalar::Int(floor))
}

/// Compares a column with something that is above all its values, or below them.
fn compare_beyond(column: usize, op: CompareOp, above: bool) -> Predicate {
    match op {
        CompareOp::Eq => always(column, false),
        CompareOp::NotEq => always(column, true),
        CompareOp::Lt | CompareOp::LtEq => always(column, above),
        CompareOp::Gt | CompareOp::GtEq => always(column, !above),
    }
}

/// True, or false, for every value of a column of integers, and NULL for NULL.
fn always(column: usize, result: bool) -> Predicate {
    let op = if result { CompareOp::GtEq } else { CompareOp::Lt };
    Predicate::compare(column, op, Scalar::Int(i128::MIN))
}
