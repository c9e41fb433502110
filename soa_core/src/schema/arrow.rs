//! [`DataType`] ↔ Arrow's types, both directions.
//!
//! The table is in [`DataType`]'s documentation. From Arrow, wider or equivalent encodings of the same
//! values are taken too (`Utf8` and `LargeUtf8` for text, any dictionary, timestamps in other units):
//! those columns are cast when rows are appended, and a value that does not fit is an error then.

use std::sync::Arc;

use arrow::datatypes::{
    DataType as ArrowType, Field as ArrowField, FieldRef, Schema as ArrowSchema, SchemaRef, TimeUnit,
};

use super::{DataType, Field, Schema};
use crate::error::{Error, Result};

/// By this metadata Arrow names what a type means beyond its bytes.
const EXTENSION_NAME_KEY: &str = "ARROW:extension:name";
/// Arrow's name for UUIDs.
const UUID_EXTENSION: &str = "arrow.uuid";
const UUID_LEN: i32 = 16;

impl DataType {
    /// The Arrow type in which columns of this type are handed out.
    pub fn to_arrow(&self) -> ArrowType {
        match self {
            Self::Bool => ArrowType::Boolean,
            Self::Int8 => ArrowType::Int8,
            Self::Int16 => ArrowType::Int16,
            Self::Int32 => ArrowType::Int32,
            Self::Int64 => ArrowType::Int64,
            Self::UInt8 => ArrowType::UInt8,
            Self::UInt16 => ArrowType::UInt16,
            Self::UInt32 => ArrowType::UInt32,
            Self::UInt64 => ArrowType::UInt64,
            Self::Float32 => ArrowType::Float32,
            Self::Float64 => ArrowType::Float64,
            // Both are at most 38 (checked when the schema is made), so neither cast can lose anything.
            Self::Decimal { precision, scale } => ArrowType::Decimal128(*precision, *scale as i8),
            Self::Utf8 => ArrowType::Utf8View,
            Self::Binary => ArrowType::BinaryView,
            Self::Enum(_) => ArrowType::Dictionary(Box::new(ArrowType::UInt8), Box::new(ArrowType::Utf8)),
            Self::Date => ArrowType::Date32,
            Self::Timestamp { utc } => ArrowType::Timestamp(TimeUnit::Microsecond, utc.then(|| Arc::from("UTC"))),
            Self::Time => ArrowType::Time64(TimeUnit::Microsecond),
            Self::Duration => ArrowType::Duration(TimeUnit::Microsecond),
            Self::Uuid => ArrowType::FixedSizeBinary(UUID_LEN),
            Self::List(element) => ArrowType::List(Arc::new(arrow_field(element))),
            // At most as many (checked when the schema is made).
            Self::FixedList(element, len) => ArrowType::FixedSizeList(Arc::new(arrow_field(element)), *len as i32),
            Self::Struct(fields) => ArrowType::Struct(fields.iter().map(arrow_field).collect()),
            Self::Map { key, value } => arrow_map(arrow_field(key), arrow_field(value)),
        }
    }

    /// The type that holds the values of an Arrow column, or `None` if there is none.
    ///
    /// A dictionary of text becomes text: an Arrow type does not say which names there are.
    pub fn from_arrow(arrow: &ArrowType) -> Option<Self> {
        Some(match arrow {
            ArrowType::Boolean => Self::Bool,
            ArrowType::Int8 => Self::Int8,
            ArrowType::Int16 => Self::Int16,
            ArrowType::Int32 => Self::Int32,
            ArrowType::Int64 => Self::Int64,
            ArrowType::UInt8 => Self::UInt8,
            ArrowType::UInt16 => Self::UInt16,
            ArrowType::UInt32 => Self::UInt32,
            ArrowType::UInt64 => Self::UInt64,
            ArrowType::Float16 | ArrowType::Float32 => Self::Float32,
            ArrowType::Float64 => Self::Float64,
            ArrowType::Decimal32(precision, scale)
            | ArrowType::Decimal64(precision, scale)
            | ArrowType::Decimal128(precision, scale)
            | ArrowType::Decimal256(precision, scale) => {
                Self::Decimal { precision: *precision, scale: u8::try_from(*scale).ok()? }
            }
            ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => Self::Utf8,
            ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_) => {
                Self::Binary
            }
            ArrowType::Date32 | ArrowType::Date64 => Self::Date,
            ArrowType::Timestamp(_, zone) => Self::Timestamp { utc: zone.is_some() },
            ArrowType::Time32(_) | ArrowType::Time64(_) => Self::Time,
            ArrowType::Duration(_) => Self::Duration,
            ArrowType::Dictionary(_, values) => Self::from_arrow(values).filter(|values| !values.is_nested())?,
            ArrowType::List(element)
            | ArrowType::ListView(element)
            | ArrowType::LargeList(element)
            | ArrowType::LargeListView(element) => {
                let element = field_from_arrow(element).ok()?;
                Self::list(element.data_type().clone(), element.is_nullable())
            }
            ArrowType::FixedSizeList(element, len) => {
                let element = field_from_arrow(element).ok()?;
                Self::fixed_list(element.data_type().clone(), element.is_nullable(), u32::try_from(*len).ok()?)
            }
            ArrowType::Struct(fields) => {
                Self::Struct(fields.iter().map(|field| field_from_arrow(field).ok()).collect::<Option<_>>()?)
            }
            ArrowType::Map(entries, _) => {
                let ArrowType::Struct(fields) = entries.data_type() else { return None };
                let [key, value] = fields.iter().as_slice() else { return None };
                let (key, value) = (field_from_arrow(key).ok()?, field_from_arrow(value).ok()?);
                Self::map(key.data_type().clone(), value.data_type().clone(), value.is_nullable())
            }
            ArrowType::Null | ArrowType::Interval(_) | ArrowType::Union(_, _) | ArrowType::RunEndEncoded(_, _) => {
                return None;
            }
        })
    }
}

/// Arrow's type of maps, whose entries are named as in Parquet.
pub(crate) fn arrow_map(key: ArrowField, value: ArrowField) -> ArrowType {
    let entries = ArrowType::Struct(vec![key, value].into());
    ArrowType::Map(Arc::new(ArrowField::new("key_value", entries, false)), false)
}

/// The Arrow field of a column.
pub fn arrow_field(field: &Field) -> ArrowField {
    arrow_field_of(field, field.data_type().to_arrow())
}

/// The Arrow field of a column whose values are in an array of this type.
pub(crate) fn arrow_field_of(field: &Field, data_type: ArrowType) -> ArrowField {
    let is_uuid = *field.data_type() == DataType::Uuid && data_type == ArrowType::FixedSizeBinary(UUID_LEN);
    let arrow = ArrowField::new(field.name(), data_type, field.is_nullable());
    match is_uuid {
        true => arrow.with_metadata([(EXTENSION_NAME_KEY.to_owned(), UUID_EXTENSION.to_owned())].into()),
        false => arrow,
    }
}

/// The Arrow type with text in the place of the dictionaries of enums, for readers who do not take these inside lists.
pub fn without_dictionaries(arrow: &ArrowType) -> ArrowType {
    let field =
        |field: &FieldRef| Arc::new(field.as_ref().clone().with_data_type(without_dictionaries(field.data_type())));
    match arrow {
        ArrowType::Dictionary(_, _) => ArrowType::Utf8View,
        ArrowType::List(element) => ArrowType::List(field(element)),
        ArrowType::FixedSizeList(element, len) => ArrowType::FixedSizeList(field(element), *len),
        ArrowType::Struct(fields) => ArrowType::Struct(fields.iter().map(field).collect()),
        ArrowType::Map(entries, ordered) => ArrowType::Map(field(entries), *ordered),
        other => other.clone(),
    }
}

/// The Arrow schema in which a table's rows are handed out.
pub fn arrow_schema(schema: &Schema) -> SchemaRef {
    Arc::new(ArrowSchema::new(schema.fields().iter().map(arrow_field).collect::<Vec<_>>()))
}

/// The column that holds the values of an Arrow field.
///
/// # Errors
///
/// When the store has no type for it; the error names the column.
pub fn field_from_arrow(field: &ArrowField) -> Result<Field> {
    let is_uuid = field.metadata().get(EXTENSION_NAME_KEY).is_some_and(|name| name == UUID_EXTENSION)
        && *field.data_type() == ArrowType::FixedSizeBinary(UUID_LEN);
    let data_type = is_uuid.then_some(DataType::Uuid).or_else(|| DataType::from_arrow(field.data_type()));
    let data_type = data_type
        .ok_or_else(|| Error::UnsupportedType { column: field.name().clone(), found: field.data_type().to_string() })?;
    data_type.check(field.name())?;
    Ok(Field::new(field.name(), data_type).with_nullable(field.is_nullable()))
}

/// The table that holds the values of an Arrow schema, without key, order or partitions.
///
/// # Errors
///
/// When a column's type has no counterpart, or the names do not make a table.
pub fn schema_from_arrow(schema: &ArrowSchema) -> Result<Schema> {
    Schema::new(schema.fields().iter().map(|field| field_from_arrow(field)).collect::<Result<Vec<_>>>()?)
}
