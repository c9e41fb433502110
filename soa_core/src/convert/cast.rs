//! Bringing rows of any source into a table's types. What does not fit is an error, never rounded.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, BooleanArray, DictionaryArray, FixedSizeBinaryBuilder, Int64Array,
    RecordBatch, UInt8Array, new_null_array,
};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{CastOptions, cast_with_options, concat_batches};
use arrow::datatypes::{DataType as ArrowType, Int32Type, SchemaRef, Time64MicrosecondType, TimeUnit, UInt8Type};

use uuid::Uuid;

use super::nested::{Change, element_counts, reason};
use crate::error::{Error, Result};
use crate::schema::{DAY_MICROS, DataType, Field, Schema, Variants, arrow_schema};

const CHECKED: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// The rows of `batch` with exactly the table's columns, matched by name, in its Arrow types.
///
/// A column that the batch lacks becomes NULL where the table allows it.
///
/// # Errors
///
/// When a column is unknown to the table, missing or there twice, cannot be converted, or a value does not fit.
pub(crate) fn cast_batch(batch: &RecordBatch, schema: &Schema) -> Result<RecordBatch> {
    for found in batch.schema_ref().fields() {
        schema.require_column(found.name())?;
    }
    let mut found = 0;
    let columns = schema
        .fields()
        .iter()
        .map(|field| match batch.column_by_name(field.name()) {
            Some(array) => {
                found += 1;
                cast_column(array, field)
            }
            None if field.is_nullable() => null_column(field, batch.num_rows()),
            None => {
                Err(Error::mismatch(format!("the rows have no column \"{}\", which must not be NULL", field.name())))
            }
        })
        .collect::<Result<Vec<_>>>()?;
    if found != batch.num_columns() {
        return Err(two_of_one_name(batch));
    }
    RecordBatch::try_new(arrow_schema(schema), columns).map_err(Error::arrow("cannot put the columns together"))
}

/// Of two columns of one name only one could count.
fn two_of_one_name(batch: &RecordBatch) -> Error {
    let names: Vec<&String> = batch.schema_ref().fields().iter().map(|field| field.name()).collect();
    let twice = names.iter().enumerate().find(|(at, name)| names[..*at].contains(name)).map(|(_, name)| name.as_str());
    Error::mismatch(format!("the rows have two columns \"{}\"", twice.unwrap_or_default()))
}

/// Rows that are all NULL, an enum's with the table's dictionary.
pub(crate) fn null_column(field: &Field, rows: usize) -> Result<ArrayRef> {
    remap_enums(&new_null_array(&field.data_type().to_arrow(), rows), field)
}

/// An array in the Arrow type of a column.
///
/// # Errors
///
/// When it cannot be converted, or a value does not fit.
pub(crate) fn cast_column(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let refuse = |field: &Field, reason: String| Error::mismatch(format!("column \"{}\": {reason}", field.name()));
    let result = Change { values: &cast_values, refuse: &refuse, is_foreign: true }.apply(array, field)?;
    if !field.is_nullable() && result.logical_null_count() > 0 {
        return Err(Error::value(field.name(), "a value is NULL, which the column must not hold"));
    }
    Ok(result)
}

fn cast_values(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    let name = field.name();
    let target = field.data_type().to_arrow();
    let cast = |array: &ArrayRef, to: &ArrowType| {
        cast_with_options(array, to, &CHECKED).map_err(|error| Error::value(name, reason(&error)))
    };
    let result = match (field.data_type(), array.data_type()) {
        (DataType::Enum(variants), ArrowType::Dictionary(keys, _)) if **keys == ArrowType::UInt8 => {
            match array.as_dictionary::<UInt8Type>().values().data_type() {
                ArrowType::Utf8 => remap_enum(array, name, variants)?,
                _ => strings_to_enum(&cast(array, &ArrowType::Utf8View)?, name, variants)?,
            }
        }
        (DataType::Enum(variants), from) if is_text(from) => {
            strings_to_enum(&cast(array, &ArrowType::Utf8View)?, name, variants)?
        }
        (_, from) if *from == target => Arc::clone(array),
        (DataType::Uuid, ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView) => {
            uuids(&cast(array, &ArrowType::BinaryView)?, name)?
        }
        (DataType::Uuid, from) if is_text(from) => uuids_of_texts(&cast(array, &ArrowType::Utf8View)?, name)?,
        (data_type, from) => {
            if !converts(from, data_type) {
                return Err(Error::mismatch(format!("column \"{name}\" is {from}; the table's is {data_type}")));
            }
            check_exact(array, field)?;
            cast(array, &target)?
        }
    };
    check_range(&result, field)?;
    Ok(result)
}

fn is_text(from: &ArrowType) -> bool {
    match from {
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => true,
        ArrowType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

/// Whether values of an Arrow type are of the same kind as the column's, so that each either fits or is refused.
fn converts(from: &ArrowType, to: &DataType) -> bool {
    if let ArrowType::Dictionary(_, values) = from {
        return converts(values, to);
    }
    match to {
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => from.is_integer(),
        DataType::Float32 => matches!(from, ArrowType::Float16 | ArrowType::Float32 | ArrowType::Float64),
        DataType::Float64 => from.is_floating() || from.is_integer(),
        DataType::Decimal { .. } => from.is_integer() || from.is_decimal(),
        DataType::Utf8 | DataType::Enum(_) => is_text(from),
        DataType::Binary => {
            matches!(
                from,
                ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_)
            )
        }
        DataType::Date => matches!(from, ArrowType::Date32 | ArrowType::Date64),
        DataType::Timestamp { utc } => matches!(from, ArrowType::Timestamp(_, zone) if zone.is_some() == *utc),
        DataType::Time => matches!(from, ArrowType::Time32(_) | ArrowType::Time64(_)),
        DataType::Duration => matches!(from, ArrowType::Duration(_)),
        // Taken before, whatever the layout.
        DataType::Uuid | DataType::List(_) | DataType::FixedList(..) | DataType::Struct(_) | DataType::Map { .. } => {
            false
        }
        DataType::Bool => *from == ArrowType::Boolean,
    }
}

/// Refuses values that a cast would round.
fn check_exact(array: &ArrayRef, field: &Field) -> Result<()> {
    let name = field.name();
    match (array.data_type(), field.data_type()) {
        (ArrowType::Timestamp(TimeUnit::Nanosecond, _), DataType::Timestamp { .. })
        | (ArrowType::Time64(TimeUnit::Nanosecond), DataType::Time)
        | (ArrowType::Duration(TimeUnit::Nanosecond), DataType::Duration) => check_whole_micros(array, name),
        (ArrowType::Date64, DataType::Date) => {
            let days = array.as_primitive::<arrow::datatypes::Date64Type>();
            match days.iter().flatten().find(|ms| ms % 86_400_000 != 0) {
                Some(ms) => Err(Error::value(name, format!("{ms} ms since 1970 is not a whole day"))),
                None => Ok(()),
            }
        }
        (from, DataType::Float64) if from.is_integer() => round_trips(array, name, &ArrowType::Float64),
        (ArrowType::Float64, DataType::Float32) => round_trips(array, name, &ArrowType::Float32),
        (from, DataType::Decimal { .. }) if from.is_decimal() => {
            round_trips(array, name, &field.data_type().to_arrow())
        }
        _ => Ok(()),
    }
}

/// Refuses values that are not the same after a cast there and back.
fn round_trips(array: &ArrayRef, name: &str, through: &ArrowType) -> Result<()> {
    // Values that cannot be cast at all become NULL, which is not the value they were.
    let lenient = CastOptions { safe: true, ..CHECKED };
    let cast = |array: &ArrayRef, to: &ArrowType| {
        cast_with_options(array, to, &lenient).map_err(|error| Error::value(name, reason(&error)))
    };
    let back = cast(&cast(array, through)?, array.data_type())?;
    let same: BooleanArray =
        arrow::compute::kernels::cmp::eq(array, &back).map_err(Error::arrow("cannot compare a column with itself"))?;
    match same.iter().enumerate().position(|(row, same)| same != Some(true) && array.is_valid(row)) {
        Some(row) => {
            let value = arrow::util::display::array_value_to_string(array, row).unwrap_or_default();
            Err(Error::value(name, format!("{value} does not fit {through} without rounding")))
        }
        None => Ok(()),
    }
}

/// Refuses nanoseconds that are not whole microseconds.
pub(super) fn check_whole_micros(array: &ArrayRef, name: &str) -> Result<()> {
    let bits = array.to_data().into_builder().data_type(ArrowType::Int64).build();
    let nanos = Int64Array::from(bits.map_err(Error::arrow("cannot look at nanoseconds"))?);
    match nanos.iter().flatten().find(|nanos| nanos % 1000 != 0) {
        Some(nanos) => Err(Error::value(name, format!("{nanos} ns is not a whole number of microseconds"))),
        None => Ok(()),
    }
}

/// Refuses times of day before 00:00 or after 24:00.
pub(super) fn check_time(array: &ArrayRef, name: &str) -> Result<()> {
    let micros = array.as_primitive::<Time64MicrosecondType>();
    match micros.iter().flatten().find(|micros| !(0..=DAY_MICROS).contains(micros)) {
        Some(micros) => Err(Error::value(name, format!("{micros} µs after midnight is no time of day"))),
        None => Ok(()),
    }
}

/// UUIDs from bytes, which must be 16 each.
pub(super) fn uuids(array: &ArrayRef, name: &str) -> Result<ArrayRef> {
    let mut uuids = FixedSizeBinaryBuilder::with_capacity(array.len(), 16);
    for bytes in array.as_binary_view() {
        let Some(bytes) = bytes else {
            uuids.append_null();
            continue;
        };
        uuids
            .append_value(bytes)
            .map_err(|_| Error::value(name, format!("{} bytes are no UUID, which has 16", bytes.len())))?;
    }
    Ok(Arc::new(uuids.finish()))
}

/// UUIDs from their texts.
fn uuids_of_texts(array: &ArrayRef, name: &str) -> Result<ArrayRef> {
    let read = |text: &str| {
        let uuid = Uuid::try_parse(text).map_err(|_| Error::value(name, format!("\"{text}\" is no UUID")));
        uuid.map(|uuid| uuid.into_bytes().to_vec())
    };
    let bytes = array.as_string_view().iter().map(|text| text.map(read).transpose()).collect::<Result<Vec<_>>>()?;
    let bytes: ArrayRef = Arc::new(BinaryViewArray::from_iter(bytes));
    uuids(&bytes, name)
}

/// Refuses decimals with more digits than the column has, and times that no day has: Arrow does not check those it is handed
/// as such.
fn check_range(array: &ArrayRef, field: &Field) -> Result<()> {
    if *field.data_type() == DataType::Time {
        return check_time(array, field.name());
    }
    let DataType::Decimal { precision, .. } = field.data_type() else { return Ok(()) };
    array
        .as_primitive::<arrow::datatypes::Decimal128Type>()
        .validate_decimal_precision(*precision)
        .map_err(|error| Error::value(field.name(), reason(&error)))
}

/// The dictionary of an enum: its names in the order of their indices. All its arrays should have this very one: where there
/// are several, Arrow may take their names together for too many when it joins arrays.
pub(crate) fn enum_dictionary(variants: &Variants) -> ArrayRef {
    Arc::clone(variants.dictionary())
}

/// Batches with the columns of a table, one after the other.
///
/// # Errors
///
/// When one has other columns.
pub(crate) fn join_batches<'a>(
    schema: &Schema,
    batches: impl IntoIterator<Item = &'a RecordBatch>,
) -> Result<RecordBatch> {
    let batches = batches.into_iter().map(|batch| with_dictionaries(schema, batch)).collect::<Result<Vec<_>>>()?;
    concat_rows(&arrow_schema(schema), &batches)
}

/// Batches of one schema, one after the other.
///
/// # Errors
///
/// When their lists have more elements together than one array can have.
pub(crate) fn concat_rows<'a>(
    schema: &SchemaRef,
    batches: impl IntoIterator<Item = &'a RecordBatch>,
) -> Result<RecordBatch> {
    let batches: Vec<&RecordBatch> = batches.into_iter().collect();
    for (column, field) in schema.fields().iter().enumerate().filter(|(_, field)| field.data_type().is_nested()) {
        let mut totals: Vec<usize> = Vec::new();
        for batch in &batches {
            let mut counts = Vec::new();
            element_counts(batch.column(column), &mut counts);
            totals.resize(totals.len().max(counts.len()), 0);
            totals.iter_mut().zip(counts).for_each(|(total, count)| *total += count);
        }
        if let Some(most) = totals.into_iter().find(|total| i32::try_from(*total).is_err()) {
            let message = format!(
                "its lists have {most} elements together, more than a segment can hold; append fewer rows at once"
            );
            return Err(Error::value(field.name(), message));
        }
    }
    concat_batches(schema, batches).map_err(Error::arrow("cannot join batches"))
}

/// The same rows, with the table's own dictionaries.
fn with_dictionaries(schema: &Schema, batch: &RecordBatch) -> Result<RecordBatch> {
    if !schema.fields().iter().any(has_enums) {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, array)| remap_enums(array, field));
    RecordBatch::try_new(arrow_schema(schema), columns.collect::<Result<_>>()?)
        .map_err(Error::arrow("cannot put columns together"))
}

fn has_enums(field: &Field) -> bool {
    field.data_type().any(&|data_type| matches!(data_type, DataType::Enum(_)))
}

/// The same rows, with the table's own dictionaries for all enums in the column. Names decide, not indices.
///
/// # Errors
///
/// When a name is none of the table's.
pub(crate) fn remap_enums(array: &ArrayRef, field: &Field) -> Result<ArrayRef> {
    if !has_enums(field) {
        return Ok(Arc::clone(array));
    }
    let values = |array: &ArrayRef, field: &Field| match field.data_type() {
        DataType::Enum(variants) => remap_enum(array, field.name(), variants),
        _ => Ok(Arc::clone(array)),
    };
    let refuse = |field: &Field, reason: String| Error::mismatch(format!("column \"{}\": {reason}", field.name()));
    Change { values: &values, refuse: &refuse, is_foreign: false }.apply(array, field)
}

/// An enum column from its names.
pub(super) fn strings_to_enum(array: &ArrayRef, name: &str, variants: &Variants) -> Result<ArrayRef> {
    let index: HashMap<&str, u8> = variants.names().iter().map(String::as_str).zip(0..=u8::MAX).collect();
    let text = array.as_string_view();
    let keys = text
        .iter()
        .map(|value| match value {
            None => Ok(None),
            Some(value) => index.get(value).copied().map(Some).ok_or_else(|| unknown_variant(name, value, variants)),
        })
        .collect::<Result<UInt8Array>>()?;
    dictionary(keys, variants)
}

fn dictionary(keys: UInt8Array, variants: &Variants) -> Result<ArrayRef> {
    let array = DictionaryArray::try_new(keys, enum_dictionary(variants))
        .map_err(Error::arrow("cannot make an enum column"))?;
    Ok(Arc::new(array))
}

fn unknown_variant(name: &str, value: &str, variants: &Variants) -> Error {
    Error::value(name, format!("\"{value}\" is not one of its variants: {}", variants.names().join(", ")))
}

/// An enum column over the table's variants, from one over another dictionary. Names decide, not indices.
fn remap_enum(array: &ArrayRef, name: &str, variants: &Variants) -> Result<ArrayRef> {
    let found = array.as_dictionary::<UInt8Type>();
    let names = found.values().as_string::<i32>();
    if Arc::ptr_eq(found.values(), variants.dictionary()) {
        return Ok(Arc::clone(array));
    }
    if names.len() == variants.len() && names.iter().zip(variants.names()).all(|(found, known)| found == Some(known)) {
        return dictionary(found.keys().clone(), variants);
    }
    let mut used = [false; 256];
    found.keys().iter().flatten().for_each(|key| used[usize::from(key)] = true);
    let mut map: [Option<u8>; 256] = [None; 256];
    for (index, used) in used.iter().enumerate().filter(|(_, used)| **used) {
        debug_assert!(used);
        if names.is_null(index) {
            continue;
        }
        let position = variants.index_of(names.value(index)).and_then(|position| u8::try_from(position).ok());
        map[index] = Some(position.ok_or_else(|| unknown_variant(name, names.value(index), variants))?);
    }
    let keys: UInt8Array = found.keys().iter().map(|key| key.and_then(|key| map[usize::from(key)])).collect();
    dictionary(keys, variants)
}

/// An enum column from a dictionary of a Parquet file's own. Names decide, not positions; those that no row has may be any.
pub(super) fn dictionary_to_enum(array: &ArrayRef, name: &str, variants: &Variants) -> Result<ArrayRef> {
    let found = array.as_dictionary::<Int32Type>();
    let (names, keys) = (found.values().as_string::<i32>(), found.keys());
    let index = |found: Option<&str>| found.and_then(|found| u8::try_from(variants.index_of(found)?).ok());
    let map: Vec<Option<u8>> = names.iter().map(index).collect();
    let values = match known_keys(keys.values(), &map) {
        Some(values) => values,
        None => {
            let known = |key: i32| usize::try_from(key).ok().and_then(|key| map.get(key).copied().flatten());
            // Where a row is NULL any key may be.
            if let Some(key) = keys.iter().flatten().find(|key| known(*key).is_none()) {
                let key = usize::try_from(key).ok().filter(|key| *key < names.len());
                return Err(unknown_variant(name, key.map_or("", |key| names.value(key)), variants));
            }
            keys.values().iter().map(|key| known(*key).unwrap_or(0)).collect()
        }
    };
    dictionary(UInt8Array::new(values, keys.nulls().cloned()), variants)
}

/// What the keys are mapped to, where all entries of the map are known and all keys are in it; without a branch for each.
fn known_keys(keys: &[i32], map: &[Option<u8>]) -> Option<ScalarBuffer<u8>> {
    let mut table = [0; 1 << u8::BITS];
    for (index, known) in map.iter().enumerate() {
        *table.get_mut(index)? = (*known)?;
    }
    let greatest = keys.iter().fold(0, |greatest, key| greatest.max(key.cast_unsigned()));
    let all_in = keys.is_empty() || usize::try_from(greatest).is_ok_and(|greatest| greatest < map.len());
    all_in.then(|| keys.iter().map(|key| table[usize::from(*key as u8)]).collect())
}

#[cfg(test)]
mod tests {
    use arrow::array::{Float64Array, Int64Array, StringArray, TimestampNanosecondArray, UInt64Array};

    use super::*;

    fn cast_one(data_type: DataType, array: impl Array + 'static) -> Result<ArrayRef> {
        let schema = Schema::new(vec![Field::new("c", data_type)])?;
        let batch = RecordBatch::try_from_iter([("c", Arc::new(array) as ArrayRef)]).unwrap();
        cast_batch(&batch, &schema).map(|batch| Arc::clone(batch.column(0)))
    }

    #[test]
    fn of_columns_with_one_name_none_is_chosen() {
        let schema =
            Schema::new(vec![Field::new("a", DataType::Int64), Field::nullable("b", DataType::Int64)]).unwrap();
        let numbers = || Arc::new(Int64Array::from(vec![1])) as ArrayRef;
        let batch = RecordBatch::try_from_iter([("a", numbers()), ("a", numbers())]).unwrap();
        assert_eq!(cast_batch(&batch, &schema).unwrap_err().to_string(), "the rows have two columns \"a\"");
        assert!(cast_batch(&RecordBatch::try_from_iter([("a", numbers())]).unwrap(), &schema).is_ok());
    }

    #[test]
    fn values_that_fit_are_converted() {
        let array = cast_one(DataType::UInt64, Int64Array::from(vec![0, i64::MAX])).unwrap();
        assert_eq!(array.as_ref(), &UInt64Array::from(vec![0, i64::MAX as u64]) as &dyn Array);
        let variants = Variants::new(["a", "b"]).unwrap();
        let array = cast_one(DataType::Enum(variants), StringArray::from(vec!["b", "a"])).unwrap();
        assert_eq!(array.as_dictionary::<UInt8Type>().keys().values(), &[1, 0]);
    }

    #[test]
    fn values_that_do_not_fit_are_refused_by_column_and_value() {
        let message = |result: Result<ArrayRef>| result.unwrap_err().to_string();
        for (error, value) in [
            (message(cast_one(DataType::UInt8, Int64Array::from(vec![-1]))), "-1"),
            (message(cast_one(DataType::UInt8, Int64Array::from(vec![256]))), "256"),
            (message(cast_one(DataType::Float64, Int64Array::from(vec![i64::MAX]))), "9223372036854775807"),
            (message(cast_one(DataType::Float32, Float64Array::from(vec![0.1]))), "0.1"),
            (message(cast_one(DataType::Timestamp { utc: false }, TimestampNanosecondArray::from(vec![1001]))), "1001"),
            (message(cast_one(DataType::Enum(Variants::new(["a"]).unwrap()), StringArray::from(vec!["z"]))), "\"z\""),
            (message(cast_one(DataType::Int64, Int64Array::from(vec![None]))), "NULL"),
        ] {
            assert!(error.contains("\"c\"") && error.contains(value), "{error}");
        }
        let error = message(cast_one(DataType::Int64, StringArray::from(vec!["1"])));
        assert!(error.contains("\"c\"") && error.contains("i64"), "{error}");
    }

    #[test]
    fn uuids_are_read_from_texts() {
        let text = "67e55044-10b1-426f-9247-bb680e5fe0c8";
        let array = cast_one(DataType::Uuid, StringArray::from(vec![text])).unwrap();
        assert_eq!(array.as_fixed_size_binary().value(0), Uuid::parse_str(text).unwrap().as_bytes());
        let error = cast_one(DataType::Uuid, StringArray::from(vec!["67e55044"])).unwrap_err().to_string();
        assert!(error.contains("\"c\"") && error.contains("67e55044"), "{error}");
    }

    #[test]
    fn enums_are_matched_by_name() {
        let other = DictionaryArray::<UInt8Type>::from_iter(["x", "y", "x"]);
        let variants = Variants::new(["z", "y", "x"]).unwrap();
        let array = cast_one(DataType::Enum(variants), other).unwrap();
        assert_eq!(array.as_dictionary::<UInt8Type>().keys().values(), &[2, 1, 2]);
    }

    #[test]
    fn a_dictionary_of_a_file_may_have_names_that_no_row_has() {
        use arrow::array::Int32Array;

        let variants = Variants::new(["z", "y", "x"]).unwrap();
        let enum_of = |keys: Int32Array, names: &[&str]| {
            let dictionary = DictionaryArray::try_new(keys, Arc::new(StringArray::from(names.to_vec()))).unwrap();
            dictionary_to_enum(&(Arc::new(dictionary) as ArrayRef), "c", &variants)
        };
        let names = ["x", "unknown", "z"];
        let array = enum_of(Int32Array::from(vec![Some(2), None, Some(0), Some(2)]), &names).unwrap();
        let keys = array.as_dictionary::<UInt8Type>().keys();
        assert_eq!(keys, &UInt8Array::from(vec![Some(0), None, Some(2), Some(0)]));
        let nulls = Some(vec![true, false].into());
        let array = enum_of(Int32Array::new(vec![0, 1].into(), nulls), &names).unwrap();
        assert_eq!(array.as_dictionary::<UInt8Type>().keys(), &UInt8Array::from(vec![Some(2), None]));
        let error = enum_of(Int32Array::from(vec![0, 1]), &names).unwrap_err().to_string();
        assert!(error.contains("\"c\"") && error.contains("\"unknown\""), "{error}");
        assert_eq!(enum_of(Int32Array::from(vec![None, None]), &[]).unwrap().null_count(), 2);
    }
}
