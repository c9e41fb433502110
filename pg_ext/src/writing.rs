//! From rows of Postgres to batches of a store.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BinaryViewBuilder, BooleanBuilder, Date32Builder, Decimal128Array, DurationMicrosecondBuilder,
    FixedSizeBinaryBuilder, Float64Builder, Int64Builder, ListArray, NullBufferBuilder, PrimitiveBuilder, RecordBatch,
    RecordBatchOptions, StringViewBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder, UInt64Builder,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType as ArrowType, Decimal128Type, Field as ArrowField, Schema as ArrowSchema};
use pgrx::PgSqlErrorCode;
use soa_core::schema::{DAY_MICROS, DataType, Schema};

use crate::error::{PgError, Result};
use crate::numeric::Floor;
use crate::table::Table;
use crate::types::{EPOCH_DAYS, EPOCH_MICROS, PgValue};

/// The rows of a batch.
const BATCH_ROWS: usize = 8_192;
/// And about the bytes of texts.
const BATCH_BYTES: usize = 16 << 20;
const UUID_BYTES: i32 = 16;

/// Collects rows into batches.
#[derive(Debug)]
pub(crate) struct RowWriter {
    columns: Vec<Column>,
    rows: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Column {
    /// In a row of the foreign table, from 0.
    place: usize,
    /// In the foreign table.
    shown: String,
    /// In the store.
    name: String,
    /// In the store.
    is_nullable: bool,
    builder: Builder,
}

/// Values of a column, in an Arrow type that the store converts without loss, or refuses.
#[derive(Debug)]
enum Builder {
    Bool(BooleanBuilder),
    Integer(Int64Builder),
    Unsigned(UInt64Builder),
    Float(Float64Builder),
    Decimal {
        values: PrimitiveBuilder<Decimal128Type>,
        precision: u8,
        scale: u8,
    },
    Text(StringViewBuilder),
    Bytes(BinaryViewBuilder),
    Date(Date32Builder),
    Timestamp {
        values: TimestampMicrosecondBuilder,
        utc: bool,
    },
    Time(Time64MicrosecondBuilder),
    Interval(DurationMicrosecondBuilder),
    Uuid(FixedSizeBinaryBuilder),
    List {
        values: Box<Builder>,
        ends: Vec<i32>,
        nulls: NullBufferBuilder,
    },
    /// Values that cannot be written: NULL alone.
    Nulls {
        data_type: ArrowType,
        rows: usize,
    },
}

impl RowWriter {
    /// For rows of a foreign table over a store of this schema.
    pub(crate) fn new(table: &Table, schema: &Schema) -> Result<Self> {
        let mut columns = Vec::new();
        for attribute in &table.attributes {
            let name = attribute.store_name();
            let Some(position) = schema.index_of(name) else { return Err(table.no_column(name, schema)) };
            let place = usize::try_from(attribute.number - 1);
            let place = place.map_err(|_| PgError::internal("a column has no place"))?;
            let field = schema.field(position);
            let builder = Builder::new(field.data_type());
            let (shown, name) = (attribute.declared.name.clone(), name.to_owned());
            columns.push(Column { place, shown, name, is_nullable: field.is_nullable(), builder });
        }
        Ok(Self { columns, rows: 0, bytes: 0 })
    }

    /// The columns of a row that are written, by their places.
    pub(crate) fn places(&self) -> Vec<usize> {
        self.columns.iter().map(|column| column.place).collect()
    }

    /// Adds a row: the values of its columns, in the order of [`places`](Self::places).
    ///
    /// # Errors
    ///
    /// When a value cannot be stored; the error names the column.
    pub(crate) fn push(&mut self, values: impl IntoIterator<Item = PgValue>) -> Result<()> {
        for (column, value) in self.columns.iter_mut().zip(values) {
            if matches!(value, PgValue::Null) && !column.is_nullable {
                return Err(Refused::Null.of(&column.shown));
            }
            self.bytes += column.builder.push(value).map_err(|refused| refused.of(&column.shown))?;
        }
        self.rows += 1;
        Ok(())
    }

    /// Whether it is time for a batch.
    pub(crate) fn is_full(&self) -> bool {
        self.rows >= BATCH_ROWS || self.bytes >= BATCH_BYTES
    }

    /// The rows since the last batch; `None` if there are none.
    pub(crate) fn take(&mut self) -> Result<Option<RecordBatch>> {
        let rows = std::mem::take(&mut self.rows);
        self.bytes = 0;
        if rows == 0 {
            return Ok(None);
        }
        let arrays: Vec<ArrayRef> = self.columns.iter_mut().map(|column| column.builder.finish()).collect();
        let fields = self.columns.iter().zip(&arrays);
        let fields = fields.map(|(column, array)| ArrowField::new(&column.name, array.data_type().clone(), true));
        let schema = Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()));
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(schema, arrays, &options);
        batch.map(Some).map_err(|error| PgError::internal(format!("rows cannot be put together: {error}")))
    }
}

/// Why a value cannot be stored.
enum Refused {
    /// Its type has values that the column's has not.
    OutOfRange(&'static str),
    /// The column has a value in each row.
    Null,
    /// There is no way yet.
    Unsupported,
}

impl Refused {
    fn of(self, column: &str) -> PgError {
        match self {
            Self::OutOfRange(reason) => {
                let message = format!("a value of column \"{column}\" cannot be stored: {reason}");
                PgError::new(PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE, message)
            }
            Self::Null => {
                let message = format!("column \"{column}\" has no NULL values in the store");
                PgError::new(PgSqlErrorCode::ERRCODE_NOT_NULL_VIOLATION, message)
            }
            Self::Unsupported => {
                let message = format!("values of the type of column \"{column}\" cannot be written from Postgres");
                PgError::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
                    .with_hint("Leave the column NULL, or import such rows with the command \"soa import\".")
            }
        }
    }
}

impl Builder {
    fn new(data_type: &DataType) -> Self {
        match data_type {
            DataType::Bool => Self::Bool(BooleanBuilder::new()),
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32 => Self::Integer(Int64Builder::new()),
            DataType::UInt64 => Self::Unsigned(UInt64Builder::new()),
            DataType::Float32 | DataType::Float64 => Self::Float(Float64Builder::new()),
            DataType::Decimal { precision, scale } => {
                Self::Decimal { values: PrimitiveBuilder::new(), precision: *precision, scale: *scale }
            }
            DataType::Utf8 | DataType::Enum(_) => Self::Text(StringViewBuilder::new()),
            DataType::Binary => Self::Bytes(BinaryViewBuilder::new()),
            DataType::Date => Self::Date(Date32Builder::new()),
            DataType::Timestamp { utc } => Self::Timestamp { values: TimestampMicrosecondBuilder::new(), utc: *utc },
            DataType::Time => Self::Time(Time64MicrosecondBuilder::new()),
            DataType::Duration => Self::Interval(DurationMicrosecondBuilder::new()),
            DataType::Uuid => Self::Uuid(FixedSizeBinaryBuilder::new(UUID_BYTES)),
            DataType::List(element) | DataType::FixedList(element, _) if !element.data_type().is_nested() => {
                let values = Box::new(Self::new(element.data_type()));
                Self::List { values, ends: vec![0], nulls: NullBufferBuilder::new(0) }
            }
            DataType::List(_) | DataType::FixedList(..) | DataType::Struct(_) | DataType::Map { .. } => {
                Self::Nulls { data_type: data_type.to_arrow(), rows: 0 }
            }
        }
    }

    /// Adds a value; the bytes that it takes beside its place.
    fn push(&mut self, value: PgValue) -> Result<usize, Refused> {
        let mut bytes = 0;
        match (self, value) {
            (Self::Bool(values), PgValue::Bool(value)) => values.append_value(value),
            (Self::Bool(values), PgValue::Null) => values.append_null(),
            (Self::Integer(values), PgValue::Integer(value)) => values.append_value(value),
            (Self::Integer(values), PgValue::Null) => values.append_null(),
            (Self::Unsigned(values), value) => values.append_option(unsigned(&value)?),
            (Self::Float(values), PgValue::Float(value)) => values.append_value(value),
            (Self::Float(values), PgValue::Null) => values.append_null(),
            (Self::Decimal { values, scale, .. }, value) => values.append_option(digits(&value, *scale)?),
            (Self::Text(values), PgValue::Text(value)) => {
                bytes = value.len();
                values.append_value(value);
            }
            (Self::Text(_), PgValue::Other) => return Err(Refused::OutOfRange("it is no text of UTF-8")),
            (Self::Text(values), PgValue::Null) => values.append_null(),
            (Self::Bytes(values), PgValue::Bytea(value)) => {
                bytes = value.len();
                values.append_value(value);
            }
            (Self::Bytes(values), PgValue::Null) => values.append_null(),
            (Self::Date(values), PgValue::Date(value)) => {
                values.append_value(finite(value.checked_add(EPOCH_DAYS), value == i32::MAX || value == i32::MIN)?);
            }
            (Self::Date(values), PgValue::Null) => values.append_null(),
            (Self::Timestamp { values, utc: false }, PgValue::Timestamp(value))
            | (Self::Timestamp { values, utc: true }, PgValue::TimestampTz(value)) => {
                values.append_value(finite(value.checked_add(EPOCH_MICROS), value == i64::MAX || value == i64::MIN)?);
            }
            (Self::Timestamp { values, .. }, PgValue::Null) => values.append_null(),
            (Self::Time(values), PgValue::Time(value)) if value < DAY_MICROS => values.append_value(value),
            (Self::Time(_), PgValue::Time(_)) => return Err(Refused::OutOfRange("24:00 is no time of a day")),
            (Self::Time(values), PgValue::Null) => values.append_null(),
            (Self::Interval(values), PgValue::Interval { months: 0, days, micros }) => {
                let all = i64::from(days).checked_mul(DAY_MICROS).and_then(|whole| whole.checked_add(micros));
                values.append_value(all.ok_or(Refused::OutOfRange("it is longer than a duration can be"))?);
            }
            (Self::Interval(_), PgValue::Interval { .. }) => {
                return Err(Refused::OutOfRange("a duration has no months, which are of different lengths"));
            }
            (Self::Interval(values), PgValue::Null) => values.append_null(),
            (Self::Uuid(values), PgValue::Uuid(value)) => {
                values.append_value(value).map_err(|_| Refused::Unsupported)?;
            }
            (Self::Uuid(values), PgValue::Null) => values.append_null(),
            (Self::List { values, ends, nulls }, PgValue::Array(elements)) => {
                let before = ends.last().copied().unwrap_or(0);
                let count = i32::try_from(elements.len()).ok().and_then(|count| before.checked_add(count));
                for element in elements {
                    bytes += values.push(element)? + size_of::<i64>();
                }
                ends.push(count.ok_or(Refused::OutOfRange("it is too long"))?);
                nulls.append_non_null();
            }
            (Self::List { ends, nulls, .. }, PgValue::Null) => {
                ends.push(ends.last().copied().unwrap_or(0));
                nulls.append_null();
            }
            (Self::List { .. }, PgValue::Other) => {
                return Err(Refused::OutOfRange("lists have one dimension, and elements from 1"));
            }
            (Self::Nulls { rows, .. }, PgValue::Null) => *rows += 1,
            _ => return Err(Refused::Unsupported),
        }
        Ok(bytes)
    }

    fn finish(&mut self) -> ArrayRef {
        match self {
            Self::Bool(values) => Arc::new(values.finish()),
            Self::Integer(values) => Arc::new(values.finish()),
            Self::Unsigned(values) => Arc::new(values.finish()),
            Self::Float(values) => Arc::new(values.finish()),
            Self::Decimal { values, precision, scale } => {
                let array: Decimal128Array = values.finish();
                let typed = array.clone().with_precision_and_scale(*precision, scale.cast_signed());
                // A store's decimals have digits and a scale that Arrow's have.
                Arc::new(typed.unwrap_or(array))
            }
            Self::Text(values) => Arc::new(values.finish()),
            Self::Bytes(values) => Arc::new(values.finish()),
            Self::Date(values) => Arc::new(values.finish()),
            Self::Timestamp { values, utc } => {
                let array = values.finish();
                if *utc { Arc::new(array.with_timezone("UTC")) } else { Arc::new(array) }
            }
            Self::Time(values) => Arc::new(values.finish()),
            Self::Interval(values) => Arc::new(values.finish()),
            Self::Uuid(values) => Arc::new(values.finish()),
            Self::List { values, ends, nulls } => {
                let values = values.finish();
                let offsets = OffsetBuffer::new(std::mem::replace(ends, vec![0]).into());
                let element = Arc::new(ArrowField::new("item", values.data_type().clone(), true));
                Arc::new(ListArray::new(element, offsets, values, nulls.finish()))
            }
            Self::Nulls { data_type, rows } => arrow::array::new_null_array(data_type, std::mem::take(rows)),
        }
    }
}

fn finite<T>(value: Option<T>, is_infinity: bool) -> Result<T, Refused> {
    let infinity = || Refused::OutOfRange("infinity is no point in time");
    if is_infinity { Err(infinity()) } else { value.ok_or(Refused::OutOfRange("it is too far in the future")) }
}

fn unsigned(value: &PgValue) -> Result<Option<u64>, Refused> {
    let beyond = || Refused::OutOfRange("it is no integer from 0 to 18446744073709551615");
    match value {
        PgValue::Null => Ok(None),
        PgValue::Integer(value) => u64::try_from(*value).map(Some).map_err(|_| beyond()),
        PgValue::Numeric(value) => match value.floor_at(0) {
            Floor::At(value, true) => u64::try_from(value).map(Some).map_err(|_| beyond()),
            _ => Err(beyond()),
        },
        _ => Err(beyond()),
    }
}

/// A numeric without its point.
fn digits(value: &PgValue, scale: u8) -> Result<Option<i128>, Refused> {
    match value {
        PgValue::Null => Ok(None),
        PgValue::Numeric(value) => match value.floor_at(scale.into()) {
            Floor::At(value, true) => Ok(Some(value)),
            Floor::At(_, false) => Err(Refused::OutOfRange("it has more digits after the point than the store keeps")),
            Floor::Above | Floor::Below => Err(Refused::OutOfRange("it has more digits than the store keeps")),
        },
        _ => Err(Refused::OutOfRange("it has more digits than the store keeps, or is no number")),
    }
}
