//! A table and conditions as SQL.
//!
//! | store | DuckDB |
//! |---|---|
//! | `Bool` | `BOOLEAN` |
//! | `Int8` … `Int64`, `UInt8` … `UInt64` | `TINYINT` … `BIGINT`, `UTINYINT` … `UBIGINT` |
//! | `Float32` `Float64` | `FLOAT` `DOUBLE` |
//! | `Decimal { precision, scale }` | `DECIMAL(precision, scale)` |
//! | `Utf8`, `Enum` | `VARCHAR` |
//! | `Binary` | `BLOB` |
//! | `Date` `Time` | `DATE` `TIME` |
//! | `Timestamp { utc }` | `TIMESTAMP`, in UTC `TIMESTAMP WITH TIME ZONE` |
//! | `Duration` | `INTERVAL` |
//! | `Uuid` | `UUID` |
//!
//! Names are quoted, and constants are parameters: neither is ever SQL.

use std::fmt::Write as _;

use duckdb_neo::QueryParameter;
use duckdb_neo::types::{
    BlobValue, DateValue, DecimalValue, IntervalValue, TimeValue, TimestampTzValue, TimestampValue, UuidValueRaw,
};

use crate::predicate::{CompareOp, Predicate, Scalar};
use crate::schema::{DataType, Field, MAX_DECIMAL_PRECISION, Schema};

/// A name, quoted.
pub(super) fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// DuckDB's type for a column: as DuckDB shows it, but for a struct's fields, whose names are all quoted here.
pub(super) fn type_name(data_type: &DataType) -> String {
    let name = match data_type {
        DataType::Decimal { precision, scale } => return format!("DECIMAL({precision},{scale})"),
        DataType::Bool => "BOOLEAN",
        DataType::Int8 => "TINYINT",
        DataType::Int16 => "SMALLINT",
        DataType::Int32 => "INTEGER",
        DataType::Int64 => "BIGINT",
        DataType::UInt8 => "UTINYINT",
        DataType::UInt16 => "USMALLINT",
        DataType::UInt32 => "UINTEGER",
        DataType::UInt64 => "UBIGINT",
        DataType::Float32 => "FLOAT",
        DataType::Float64 => "DOUBLE",
        DataType::Utf8 | DataType::Enum(_) => "VARCHAR",
        DataType::Binary => "BLOB",
        DataType::Date => "DATE",
        DataType::Timestamp { utc: false } => "TIMESTAMP",
        DataType::Timestamp { utc: true } => "TIMESTAMP WITH TIME ZONE",
        DataType::Time => "TIME",
        DataType::Duration => "INTERVAL",
        DataType::Uuid => "UUID",
        DataType::List(element) => return format!("{}[]", type_name(element.data_type())),
        DataType::FixedList(element, len) => return format!("{}[{len}]", type_name(element.data_type())),
        DataType::Struct(fields) => {
            let field = |field: &Field| format!("{} {}", quoted(field.name()), type_name(field.data_type()));
            return format!("STRUCT({})", fields.iter().map(field).collect::<Vec<_>>().join(", "));
        }
        DataType::Map { key, value } => {
            return format!("MAP({}, {})", type_name(key.data_type()), type_name(value.data_type()));
        }
    };
    name.to_owned()
}

/// A column as `CREATE TABLE` has it.
fn column_definition(field: &Field) -> String {
    let not_null = if field.is_nullable() { "" } else { " NOT NULL" };
    format!("{} {}{not_null}", quoted(field.name()), type_name(field.data_type()))
}

/// What makes the table.
pub(super) fn create_table(table: &str, schema: &Schema) -> String {
    let mut parts: Vec<String> = schema.fields().iter().map(column_definition).collect();
    if let Some(key) = schema.key() {
        parts.push(format!("PRIMARY KEY ({})", quoted(schema.field(key).name())));
    }
    format!("CREATE TABLE {table} ({})", parts.join(", "))
}

/// What adds a column to it.
pub(super) fn add_column(table: &str, field: &Field) -> String {
    format!("ALTER TABLE {table} ADD COLUMN {}", column_definition(field))
}

/// A condition, and the parameters in it.
#[derive(Default)]
pub(super) struct Condition {
    pub(super) sql: String,
    pub(super) parameters: Vec<Box<dyn QueryParameter>>,
}

impl Condition {
    /// A predicate on a table; `column` is what stands for a column of it.
    pub(super) fn of(predicate: &Predicate, schema: &Schema, column: &dyn Fn(&Field) -> String) -> Self {
        let mut condition = Self::default();
        condition.push(predicate, schema, column);
        condition
    }

    fn push(&mut self, predicate: &Predicate, schema: &Schema, column: &dyn Fn(&Field) -> String) {
        match predicate {
            Predicate::And(parts) => self.push_all(parts, " AND ", "TRUE", schema, column),
            Predicate::Or(parts) => self.push_all(parts, " OR ", "FALSE", schema, column),
            Predicate::Not(part) => {
                self.sql.push_str("(NOT ");
                self.push(part, schema, column);
                self.sql.push(')');
            }
            Predicate::Compare { column: at, op, value } => {
                let field = schema.field(*at);
                self.sql.push_str(&column(field));
                self.sql.push_str(match op {
                    CompareOp::Eq => " = ",
                    CompareOp::NotEq => " <> ",
                    CompareOp::Lt => " < ",
                    CompareOp::LtEq => " <= ",
                    CompareOp::Gt => " > ",
                    CompareOp::GtEq => " >= ",
                });
                self.push_constant(value, field.data_type());
            }
            // Without constants it is false, of NULL too.
            Predicate::In { values, .. } if values.is_empty() => self.sql.push_str("FALSE"),
            Predicate::In { column: at, values } => {
                let field = schema.field(*at);
                self.sql.push_str(&column(field));
                for (number, value) in values.iter().enumerate() {
                    self.sql.push_str(if number == 0 { " IN (" } else { ", " });
                    self.push_constant(value, field.data_type());
                }
                self.sql.push(')');
            }
            Predicate::IsNull(at) => {
                self.sql.push_str(&column(schema.field(*at)));
                self.sql.push_str(" IS NULL");
            }
            Predicate::StartsWith { column: at, prefix } => {
                let field = schema.field(*at);
                let _ = write!(self.sql, "starts_with({}, ", column(field));
                self.push_constant(&Scalar::Utf8(prefix.clone()), field.data_type());
                self.sql.push(')');
            }
        }
    }

    fn push_all(
        &mut self,
        parts: &[Predicate],
        between: &str,
        without: &str,
        schema: &Schema,
        column: &dyn Fn(&Field) -> String,
    ) {
        self.sql.push('(');
        for (number, part) in parts.iter().enumerate() {
            self.sql.push_str(if number == 0 { "" } else { between });
            self.push(part, schema, column);
        }
        self.sql.push_str(if parts.is_empty() { without } else { "" });
        self.sql.push(')');
    }

    fn push_constant(&mut self, value: &Scalar, data_type: &DataType) {
        self.parameters.push(parameter(value, data_type));
        let _ = write!(self.sql, "${}", self.parameters.len());
    }
}

/// A constant in the type of its column; an integer that is none of its type's as a larger one, which it is compared as.
fn parameter(value: &Scalar, data_type: &DataType) -> Box<dyn QueryParameter> {
    match (value, data_type) {
        (Scalar::Bool(value), _) => Box::new(*value),
        (Scalar::Float(value), _) => Box::new(*value),
        (Scalar::Utf8(value), _) => Box::new(value.clone()),
        (Scalar::Binary(bytes), DataType::Uuid) => match <[u8; 16]>::try_from(bytes.as_slice()) {
            Ok(bytes) => Box::new(UuidValueRaw::from_bytes(bytes)),
            Err(_) => Box::new(BlobValue(bytes.clone())),
        },
        (Scalar::Binary(bytes), _) => Box::new(BlobValue(bytes.clone())),
        // It may have more digits than the column.
        (Scalar::Int(value), DataType::Decimal { scale, .. }) => {
            Box::new(DecimalValue::new(*value, MAX_DECIMAL_PRECISION, *scale))
        }
        (Scalar::Int(value), data_type) => integer(*value, data_type).unwrap_or_else(|| Box::new(*value)),
    }
}

/// An integer as a value of the column's type, if it is one.
fn integer(value: i128, data_type: &DataType) -> Option<Box<dyn QueryParameter>> {
    let long = || i64::try_from(value).ok();
    Some(match data_type {
        DataType::Int8 => Box::new(i8::try_from(value).ok()?),
        DataType::Int16 => Box::new(i16::try_from(value).ok()?),
        DataType::Int32 => Box::new(i32::try_from(value).ok()?),
        DataType::Int64 => Box::new(long()?),
        DataType::UInt8 => Box::new(u8::try_from(value).ok()?),
        DataType::UInt16 => Box::new(u16::try_from(value).ok()?),
        DataType::UInt32 => Box::new(u32::try_from(value).ok()?),
        DataType::UInt64 => Box::new(u64::try_from(value).ok()?),
        DataType::Date => Box::new(DateValue(i32::try_from(value).ok()?)),
        DataType::Time => Box::new(TimeValue(long()?)),
        DataType::Timestamp { utc: false } => Box::new(TimestampValue(long()?)),
        DataType::Timestamp { utc: true } => Box::new(TimestampTzValue(long()?)),
        DataType::Duration => Box::new(IntervalValue { months: 0, days: 0, micros: long()? }),
        _ => return None,
    })
}
