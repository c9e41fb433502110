//! The types of columns.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, StringArray};

use super::{Field, check_fields};
use crate::error::{Error, Result};

/// The most decimal digits a [`DataType::Decimal`] holds: 10^38 - 1 is the largest power that fits an i128.
pub const MAX_DECIMAL_PRECISION: u8 = 38;

/// The type of a column.
///
/// | type | in memory | Arrow | Delta / Parquet |
/// |---|---|---|---|
/// | `Bool` | u8 | Boolean | boolean |
/// | `Int8` … `Int64` | itself | Int8 … Int64 | byte short integer long |
/// | `UInt8` `UInt16` `UInt32` | itself | UInt8 … UInt32 | short integer long |
/// | `UInt64` | itself | UInt64 | long with the same 64 bits |
/// | `Float32` `Float64` | itself | Float32 Float64 | float double |
/// | `Decimal` | i128 | Decimal128(p, s) | decimal(p, s) |
/// | `Utf8` | 16-byte view | Utf8View | string |
/// | `Binary` | 16-byte view | BinaryView | binary |
/// | `Enum` | u8 | Dictionary(UInt8, Utf8) | string |
/// | `Date` | i32, days since 1970-01-01 | Date32 | date |
/// | `Timestamp` | i64, µs since 1970-01-01T00:00 | Timestamp(µs\[, UTC\]) | timestamp_ntz, timestamp |
/// | `Time` | i64, µs since midnight | Time64(µs) | long |
/// | `Duration` | i64, µs | Duration(µs) | long |
/// | `Uuid` | 16 bytes | FixedSizeBinary(16), `arrow.uuid` | binary |
/// | `List` | ends of the rows, and the elements | List | array |
/// | `FixedList` | the elements | FixedSizeList | array |
/// | `Struct` | a column for each field | Struct | struct |
/// | `Map` | ends of the rows, the keys and the values | Map | map |
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum DataType {
    /// True or false.
    Bool,
    /// A signed integer of 8 bits.
    Int8,
    /// A signed integer of 16 bits.
    Int16,
    /// A signed integer of 32 bits.
    Int32,
    /// A signed integer of 64 bits.
    Int64,
    /// An unsigned integer of 8 bits.
    UInt8,
    /// An unsigned integer of 16 bits.
    UInt16,
    /// An unsigned integer of 32 bits.
    UInt32,
    /// An unsigned integer of 64 bits.
    UInt64,
    /// A float of 32 bits.
    Float32,
    /// A float of 64 bits.
    Float64,
    /// A decimal number of `precision` digits, `scale` of them after the point.
    Decimal {
        /// Digits in all, 1 to [`MAX_DECIMAL_PRECISION`].
        precision: u8,
        /// Digits after the point, 0 to `precision`.
        scale: u8,
    },
    /// Text.
    Utf8,
    /// Bytes.
    Binary,
    /// One of at most 256 named variants.
    Enum(Variants),
    /// A calendar day.
    Date,
    /// A point in time (`utc`) or a wall-clock reading (not `utc`), to the microsecond.
    Timestamp {
        /// Whether it is a point in time; otherwise it has no time zone.
        utc: bool,
    },
    /// A time of day, to the microsecond: 0 to [`DAY_MICROS`], which is the end of the day.
    Time,
    /// A length of time, to the microsecond; it may be negative.
    Duration,
    /// A UUID.
    Uuid,
    /// As many values of one type as a row has. The field is theirs; its name is `element`.
    List(Arc<Field>),
    /// The same number of values of one type in each row, at least one. The field is theirs; its name is `element`.
    FixedList(Arc<Field>, u32),
    /// A value for each of these fields, at least one.
    Struct(Arc<[Field]>),
    /// Values that are found by keys. The fields' names are `key`, which is never NULL, and `value`.
    Map {
        /// The keys.
        key: Arc<Field>,
        /// The values.
        value: Arc<Field>,
    },
}

/// The names of the fields inside lists and maps.
const ELEMENT: &str = "element";
const KEY: &str = "key";
const VALUE: &str = "value";

/// The most values that a row has in lists of one length, also in NULL (DuckDB's own limit).
const MAX_FIXED_VALUES: u64 = 100_000;

/// The microseconds of a day.
pub const DAY_MICROS: i64 = 86_400_000_000;

impl DataType {
    /// Lists of values of a type, which may be NULL or not.
    pub fn list(element: Self, nullable: bool) -> Self {
        Self::List(Arc::new(Field::new(ELEMENT, element).with_nullable(nullable)))
    }

    /// Lists of `len` values of a type, which may be NULL or not.
    pub fn fixed_list(element: Self, nullable: bool, len: u32) -> Self {
        Self::FixedList(Arc::new(Field::new(ELEMENT, element).with_nullable(nullable)), len)
    }

    /// Maps from keys of a type to values of another, which may be NULL or not.
    pub fn map(key: Self, value: Self, nullable: bool) -> Self {
        Self::Map {
            key: Arc::new(Field::new(KEY, key)),
            value: Arc::new(Field::new(VALUE, value).with_nullable(nullable)),
        }
    }

    /// Whether values of the type have others inside them.
    pub fn is_nested(&self) -> bool {
        matches!(self, Self::List(_) | Self::FixedList(..) | Self::Struct(_) | Self::Map { .. })
    }

    /// Whether the type or one inside it is such.
    pub(crate) fn any(&self, is_such: &dyn Fn(&Self) -> bool) -> bool {
        is_such(self)
            || match self {
                Self::List(element) | Self::FixedList(element, _) => element.data_type().any(is_such),
                Self::Struct(fields) => fields.iter().any(|field| field.data_type().any(is_such)),
                Self::Map { key, value } => key.data_type().any(is_such) || value.data_type().any(is_such),
                _ => false,
            }
    }

    /// Whether rows can be told apart by a column of this type. Floats cannot: NaN and -0.0.
    pub fn can_be_key(&self) -> bool {
        !matches!(self, Self::Float32 | Self::Float64 | Self::Bool | Self::Enum(_)) && !self.is_nested()
    }

    /// Whether the type's values can name a folder.
    pub fn can_partition(&self) -> bool {
        !matches!(self, Self::Float32 | Self::Float64 | Self::Binary | Self::Uuid) && !self.is_nested()
    }

    /// Whether rows can be sorted by a column of this type.
    pub fn can_sort(&self) -> bool {
        !self.is_nested()
    }

    /// How many values a row of the type always has.
    fn width(&self) -> u64 {
        match self {
            Self::FixedList(element, len) => element.data_type().width().saturating_mul((*len).into()),
            Self::Struct(fields) => fields.iter().fold(0, |sum, field| field.data_type().width().saturating_add(sum)),
            _ => 1,
        }
    }

    /// Refuses parameters that no column can have.
    pub(crate) fn check(&self, column: &str) -> Result<()> {
        match self {
            Self::Decimal { precision, scale }
                if *precision == 0 || *precision > MAX_DECIMAL_PRECISION || scale > precision =>
            {
                Err(Error::schema(format!(
                    "the column \"{column}\" is {self}; decimals have 1 to {MAX_DECIMAL_PRECISION} digits, at most all of them after the point"
                )))
            }
            Self::Enum(variants) if variants.len() > Variants::MAX => Err(Error::schema(format!(
                "the enum of column \"{column}\" has {} variants; at most {} are supported",
                variants.len(),
                Variants::MAX
            ))),
            Self::FixedList(_, 0) => Err(Error::schema(format!("the lists of column \"{column}\" have no element"))),
            Self::FixedList(..) if self.width() > MAX_FIXED_VALUES => Err(Error::schema(format!(
                "the column \"{column}\" is {self}, {} values in each row; at most {MAX_FIXED_VALUES} fit into lists of one length",
                self.width()
            ))),
            Self::List(element) | Self::FixedList(element, _) => element.data_type().check(column),
            Self::Struct(fields) if fields.is_empty() => {
                Err(Error::schema(format!("the structs of column \"{column}\" have no field")))
            }
            Self::Struct(fields) => check_fields(fields),
            Self::Map { key, .. } if key.is_nullable() => {
                Err(Error::schema(format!("the keys of the maps of column \"{column}\" may be NULL; a key must not")))
            }
            Self::Map { key, value } => {
                key.data_type().check(column)?;
                value.data_type().check(column)
            }
            _ => Ok(()),
        }
    }
}

impl fmt::Display for DataType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match self {
            Self::Bool => "bool",
            Self::Int8 => "i8",
            Self::Int16 => "i16",
            Self::Int32 => "i32",
            Self::Int64 => "i64",
            Self::UInt8 => "u8",
            Self::UInt16 => "u16",
            Self::UInt32 => "u32",
            Self::UInt64 => "u64",
            Self::Float32 => "f32",
            Self::Float64 => "f64",
            Self::Decimal { precision, scale } => return write!(f, "decimal({precision},{scale})"),
            Self::Utf8 => "string",
            Self::Binary => "binary",
            Self::Enum(_) => "enum",
            Self::Date => "date",
            Self::Timestamp { utc: true } => "timestamp with time zone",
            Self::Timestamp { utc: false } => "timestamp",
            Self::Time => "time",
            Self::Duration => "duration",
            Self::Uuid => "uuid",
            Self::List(element) => return write!(f, "list({})", Inside(element)),
            Self::FixedList(element, len) => return write!(f, "array({}, {len})", Inside(element)),
            Self::Struct(fields) => {
                f.write_str("struct(")?;
                for (index, field) in fields.iter().enumerate() {
                    let comma = if index > 0 { ", " } else { "" };
                    write!(f, "{comma}{}: {}", field.name(), Inside(field))?;
                }
                return f.write_str(")");
            }
            Self::Map { key, value } => return write!(f, "map({}, {})", Inside(key), Inside(value)),
        };
        f.write_str(name)
    }
}

/// A type inside another, with a question mark if it may be NULL.
struct Inside<'a>(&'a Field);

impl fmt::Display for Inside<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mark = if self.0.is_nullable() { "?" } else { "" };
        write!(f, "{}{mark}", self.0.data_type())
    }
}

/// The parts of a text between the commas that are in no parentheses.
fn parts_of(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut start) = (Vec::new(), 0_usize, 0);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            ',' if depth == 0 => {
                parts.push(text[start..at].trim());
                start = at + 1;
            }
            _ => {}
        }
    }
    parts.push(text[start..].trim());
    parts
}

/// Reads what [`Inside`] writes.
fn inside(text: &str) -> Result<(DataType, bool)> {
    let (text, nullable) = text.strip_suffix('?').map_or((text, false), |text| (text, true));
    Ok((text.parse()?, nullable))
}

impl FromStr for DataType {
    type Err = Error;

    /// Reads a type as [`Display`](fmt::Display) writes it, and an enum with its variants: `enum(low,high)`. What is inside
    /// a nested type and may be NULL has a question mark: `list(string?)`, `struct(id: u64, note: string?)`.
    fn from_str(text: &str) -> Result<Self> {
        let known = match text {
            "bool" => Some(Self::Bool),
            "i8" => Some(Self::Int8),
            "i16" => Some(Self::Int16),
            "i32" => Some(Self::Int32),
            "i64" => Some(Self::Int64),
            "u8" => Some(Self::UInt8),
            "u16" => Some(Self::UInt16),
            "u32" => Some(Self::UInt32),
            "u64" => Some(Self::UInt64),
            "f32" => Some(Self::Float32),
            "f64" => Some(Self::Float64),
            "string" => Some(Self::Utf8),
            "binary" => Some(Self::Binary),
            "date" => Some(Self::Date),
            "timestamp" => Some(Self::Timestamp { utc: false }),
            "timestamp with time zone" => Some(Self::Timestamp { utc: true }),
            "time" => Some(Self::Time),
            "duration" => Some(Self::Duration),
            "uuid" => Some(Self::Uuid),
            _ => None,
        };
        let unknown = || {
            Error::schema(format!(
                "there is no type \"{text}\"; the types are bool, i8 to i64, u8 to u64, f32, f64, decimal(9,2), string, binary, \
                 date, timestamp, timestamp with time zone, time, duration, uuid, enum(low,high), list(string), \
                 array(f32, 3), struct(id: u64, note: string?) and map(string, i64)"
            ))
        };
        if let Some(known) = known {
            return Ok(known);
        }
        let (name, rest) = text.split_once('(').ok_or_else(unknown)?;
        let parts = parts_of(rest.strip_suffix(')').ok_or_else(unknown)?);
        match (name, parts.as_slice()) {
            ("decimal", [precision, scale]) => {
                let (precision, scale) = precision.parse().ok().zip(scale.parse().ok()).ok_or_else(unknown)?;
                Ok(Self::Decimal { precision, scale })
            }
            ("enum", names) if names.iter().all(|name| !name.is_empty()) => {
                Variants::new(names.iter().copied()).map(Self::Enum)
            }
            ("list", [element]) => inside(element).map(|(element, nullable)| Self::list(element, nullable)),
            ("array", [element, len]) => {
                let (element, nullable) = inside(element)?;
                Ok(Self::fixed_list(element, nullable, len.parse().map_err(|_| unknown())?))
            }
            ("struct", fields) => {
                let field = |text: &&str| -> Result<Field> {
                    let (name, text) = text.split_once(": ").ok_or_else(unknown)?;
                    let (data_type, nullable) = inside(text.trim())?;
                    Ok(Field::new(name, data_type).with_nullable(nullable))
                };
                Ok(Self::Struct(fields.iter().map(field).collect::<Result<_>>()?))
            }
            ("map", [key, value]) => {
                let (value, nullable) = inside(value)?;
                Ok(Self::map(key.parse()?, value, nullable))
            }
            _ => Err(unknown()),
        }
    }
}

/// The names of an enum's variants: a value is stored as the index of its name.
///
/// Cheap to clone. The list of a table only grows.
#[derive(Clone)]
pub struct Variants(Arc<Named>);

struct Named {
    names: Vec<String>,
    /// The dictionary of all arrays of this type: Arrow joins those with one in common without looking into it.
    dictionary: OnceLock<ArrayRef>,
}

impl Variants {
    /// The most variants an enum may have: an index is one byte.
    pub const MAX: usize = 256;

    /// A list of names, in the order of their indices.
    ///
    /// # Errors
    ///
    /// When there is none or more than [`MAX`](Self::MAX), or two are equal.
    pub fn new<S: Into<String>>(names: impl IntoIterator<Item = S>) -> Result<Self> {
        let names: Vec<String> = names.into_iter().map(Into::into).collect();
        if names.is_empty() {
            return Err(Error::schema("an enum needs at least one variant"));
        }
        if names.len() > Self::MAX {
            return Err(Error::schema(format!(
                "an enum has {} variants; at most {} are supported",
                names.len(),
                Self::MAX
            )));
        }
        let mut seen = std::collections::HashSet::new();
        for name in &names {
            if !seen.insert(name.as_str()) {
                return Err(Error::schema(format!("two variants of an enum are named \"{name}\"")));
            }
        }
        Ok(Self(Arc::new(Named { names, dictionary: OnceLock::new() })))
    }

    /// The names.
    pub fn names(&self) -> &[String] {
        &self.0.names
    }

    /// The names as an array, which is the same one each time.
    pub(crate) fn dictionary(&self) -> &ArrayRef {
        self.0.dictionary.get_or_init(|| Arc::new(StringArray::from_iter_values(&self.0.names)))
    }

    /// How many variants there are.
    pub fn len(&self) -> usize {
        self.0.names.len()
    }

    /// Never true: an enum has at least one variant.
    pub fn is_empty(&self) -> bool {
        self.0.names.is_empty()
    }

    /// The name at `index`.
    pub fn get(&self, index: usize) -> Option<&str> {
        self.0.names.get(index).map(String::as_str)
    }

    /// The index of `name`.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.0.names.iter().position(|known| known == name)
    }
}

impl PartialEq for Variants {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0) || self.names() == other.names()
    }
}

impl Eq for Variants {}

impl Hash for Variants {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.names().hash(state);
    }
}

impl fmt::Debug for Variants {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Variants").field(&self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_read_as_they_are_written() {
        for text in [
            "u64",
            "decimal(9,2)",
            "list(u64)",
            "list(string?)",
            "array(f32, 3)",
            "array(list(uuid?)?, 2)",
            "struct(id: u64, note: string?)",
            "struct(a:b: list(struct(x: f64?, y: decimal(9,2)))?, c: time)",
            "map(string, i64)",
            "map(date, struct(a: list(timestamp with time zone), b: map(i32, bool?)?)?)",
        ] {
            let data_type: DataType = text.parse().unwrap();
            assert_eq!(data_type.to_string(), text);
        }
        assert_eq!(
            "list( enum(a, b) )".parse::<DataType>().unwrap(),
            DataType::list("enum(a,b)".parse().unwrap(), false)
        );
        for text in
            ["list()", "list(u64", "list(u64, u64)", "array(f32)", "array(f32, x)", "struct()", "struct(id)", "map(u8)"]
        {
            assert!(text.parse::<DataType>().is_err(), "{text}");
        }
    }

    #[test]
    fn nested_types_that_no_column_can_have_are_refused() {
        let message = |text: &str| {
            let data_type: DataType = text.parse().unwrap();
            data_type.check("c").unwrap_err().to_string()
        };
        assert!(message("array(u8, 0)").contains("no element"));
        assert!(message("array(u8, 4294967295)").contains("4294967295"));
        assert!(message("array(struct(a: u8, b: array(u8, 1000)), 100)").contains("100100 values"));
        assert!(message("struct(a: u8, A: u8)").contains("\"A\""));
        assert!(message("list(struct(a: map(u8, decimal(39,0))))").contains("decimal(39,0)"));
        assert!(DataType::Struct(Arc::new([])).check("c").unwrap_err().to_string().contains("no field"));
    }
}
