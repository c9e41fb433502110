//! A snapshot's columns and segments, as the rows of a [`Report`](super::Report).

use std::sync::Arc;

use arrow::array::{
    ArrayRef, BooleanArray, Int64Array, ListBuilder, MapArray, StringViewArray, StringViewBuilder, StructArray,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::DataType as ArrowType;
use arrow::util::display::array_value_to_string;

use super::report::{numbers, texts};
use super::segment::{Form, PartitionValue, Segment};
use super::snapshot::Snapshot;
use crate::error::{Error, Result};
use crate::predicate::Scalar;
use crate::schema::{DataType, Field, arrow_field};

/// The columns of a row that tells of a column.
pub(super) fn columns_schema() -> Vec<Field> {
    vec![
        Field::new("column_name", DataType::Utf8),
        Field::new("column_type", DataType::Utf8),
        Field::new("is_nullable", DataType::Bool),
        Field::new("is_key", DataType::Bool),
        Field::nullable("partition_position", DataType::Int64),
        Field::nullable("sort_position", DataType::Int64),
        Field::nullable("variants", DataType::list(DataType::Utf8, false)),
    ]
}

pub(super) fn columns(snapshot: &Snapshot) -> Vec<ArrayRef> {
    let schema = snapshot.schema();
    let fields = || schema.fields().iter();
    // Counted from 1, as SQL does.
    let positions = |list: &[usize]| -> ArrayRef {
        let at = |column: usize| list.iter().position(|known| *known == column).map(|at| at as i64 + 1);
        Arc::new((0..schema.len()).map(at).collect::<Int64Array>())
    };
    let ArrowType::List(element) = DataType::list(DataType::Utf8, false).to_arrow() else {
        unreachable!("a list's type in Arrow is a list")
    };
    let mut variants = ListBuilder::new(StringViewBuilder::new()).with_field(element);
    for field in fields() {
        let is_enum = if let DataType::Enum(names) = field.data_type() {
            names.names().iter().for_each(|name| variants.values().append_value(name));
            true
        } else {
            false
        };
        variants.append(is_enum);
    }
    vec![
        texts(fields().map(|field| field.name().to_owned())),
        // The names of an enum's variants have a column of their own.
        texts(fields().map(|field| match field.data_type() {
            DataType::Enum(_) => "enum".to_owned(),
            data_type => data_type.to_string(),
        })),
        Arc::new(fields().map(|field| Some(field.is_nullable())).collect::<BooleanArray>()),
        Arc::new((0..schema.len()).map(|column| Some(schema.key() == Some(column))).collect::<BooleanArray>()),
        positions(schema.partition_by()),
        positions(schema.sort_by()),
        Arc::new(variants.finish()),
    ]
}

/// The columns of a row that tells of a segment.
pub(super) fn segments_schema() -> Vec<Field> {
    vec![
        Field::new("path", DataType::Utf8),
        Field::new("row_count", DataType::Int64),
        Field::new("form", DataType::Utf8),
        Field::new("parquet_bytes", DataType::Int64),
        Field::nullable("arrow_bytes", DataType::Int64),
        Field::new("partition", DataType::map(DataType::Utf8, DataType::Utf8, true)),
        Field::new("deleted_count", DataType::Int64),
        Field::new("min", DataType::map(DataType::Utf8, DataType::Utf8, false)),
        Field::new("max", DataType::map(DataType::Utf8, DataType::Utf8, false)),
    ]
}

pub(super) fn segments(snapshot: &Snapshot) -> Result<Vec<ArrayRef>> {
    let (schema, segments) = (snapshot.schema(), snapshot.segments());
    let partitions = segments.iter().map(|segment| {
        segment.partition_values().map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect()
    });
    let partitioned = |column: &usize| schema.partition_by().contains(column);
    let bounds = |segment: &Segment, of: fn(crate::predicate::Bounds) -> Option<Scalar>| -> Entries {
        let columns = (0..schema.len()).filter(|column| !partitioned(column));
        let known = columns.filter_map(|column| {
            let field = schema.field(column);
            Some((field.name().to_owned(), Some(text_of(field.data_type(), of(segment.bounds(column))?))))
        });
        known.collect()
    };
    let form = |segment: &Arc<Segment>| match segment.form() {
        Form::Arrow => "arrow".to_owned(),
        Form::Parquet => "parquet".to_owned(),
    };
    let fields = segments_schema();
    Ok(vec![
        texts(segments.iter().map(|segment| segment.path().to_owned())),
        numbers(segments.iter().map(|segment| Some(segment.row_count()))),
        texts(segments.iter().map(form)),
        numbers(segments.iter().map(|segment| Some(segment.parquet_bytes()))),
        numbers(segments.iter().map(|segment| segment.arrow_bytes())),
        map(&fields[5], partitions.collect())?,
        numbers(segments.iter().map(|segment| Some(segment.deleted_count()))),
        map(&fields[7], segments.iter().map(|segment| bounds(segment, |bounds| bounds.min)).collect())?,
        map(&fields[8], segments.iter().map(|segment| bounds(segment, |bounds| bounds.max)).collect())?,
    ])
}

/// Names and what stands behind them.
type Entries = Vec<(String, Option<String>)>;

fn map(field: &Field, rows: Vec<Entries>) -> Result<ArrayRef> {
    let ArrowType::Map(entries, is_ordered) = arrow_field(field).data_type().clone() else {
        unreachable!("a map's type in Arrow is a map")
    };
    let ArrowType::Struct(fields) = entries.data_type().clone() else {
        unreachable!("a map's entries in Arrow are structs")
    };
    let offsets = OffsetBuffer::from_lengths(rows.iter().map(Vec::len));
    let (names, values): (Vec<_>, Vec<_>) = rows.into_iter().flatten().unzip();
    let columns: Vec<ArrayRef> = vec![texts(names), Arc::new(values.into_iter().collect::<StringViewArray>())];
    let map = StructArray::try_new(fields, columns, None)
        .and_then(|rows| MapArray::try_new(entries, offsets, rows, None, is_ordered));
    Ok(Arc::new(map.map_err(Error::arrow("cannot put columns together"))?))
}

/// A value as SQL engines show it.
fn text_of(data_type: &DataType, value: Scalar) -> String {
    let shown = match (&value, data_type) {
        (Scalar::Utf8(text), _) => Some(text.clone()),
        (Scalar::Binary(bytes), DataType::Uuid) => uuid::Uuid::from_slice(bytes).ok().map(|uuid| uuid.to_string()),
        (Scalar::Int(_), _) => {
            let array = PartitionValue { text: None, value: Some(value.clone()) }.to_array(data_type, 1);
            array.and_then(|array| array_value_to_string(&array, 0).ok())
        }
        _ => None,
    };
    shown.unwrap_or_else(|| value.to_string())
}
