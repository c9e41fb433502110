//! Lists, structs and maps: going through an array to the values inside it.

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, ListArray, MapArray, OffsetSizeTrait, StructArray, UInt64Array,
    make_comparator, new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::compute::{CastOptions, SortOptions, cast_with_options, take};
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, FieldRef, Fields};
use arrow::error::ArrowError;
use arrow::util::display::array_value_to_string;

use crate::schema::{DataType, Field, arrow_field_of, elements_of, null_beneath};

const CHECKED: CastOptions<'static> =
    CastOptions { safe: false, format_options: arrow::util::display::FormatOptions::new() };

/// What becomes of the values inside an array.
pub(super) struct Change<'a, E> {
    /// What an array of values becomes: they are not nested, and the field is theirs. What must not be NULL is checked
    /// afterwards, as what is inside a NULL does not count.
    pub(super) values: &'a dyn Fn(&ArrayRef, &Field) -> Result<ArrayRef, E>,
    /// The error for a field and a reason.
    pub(super) refuse: &'a dyn Fn(&Field, String) -> E,
    /// Whether the rows come from elsewhere: then nothing in them may be left out, and no map may have a key twice.
    pub(super) is_foreign: bool,
}

impl<E> Change<'_, E> {
    /// The same rows, with the values inside changed; in the layout of the field's type.
    ///
    /// # Errors
    ///
    /// When the array's layout is another kind than the type's, a field of a struct is missing that must not be NULL, or
    /// something inside is NULL that must not be.
    pub(super) fn apply(&self, array: &ArrayRef, field: &Field) -> Result<ArrayRef, E> {
        let arrow = |error: ArrowError| (self.refuse)(field, reason(&error));
        let nulls = || array.logical_nulls();
        match field.data_type() {
            DataType::List(element) => {
                let array = self.as_list(array, field)?;
                let list = array.as_list::<i32>();
                let (values, offsets) = elements_of(list.values(), list.offsets(), list.nulls()).map_err(arrow)?;
                let values = self.apply(&values, &inside(field, element))?;
                let list = ListArray::try_new(child(element, &values), offsets, values, list.nulls().cloned());
                list.map(|list| Arc::new(list) as ArrayRef).map_err(arrow)
            }
            DataType::FixedList(element, len) => {
                let array = self.as_fixed_list(array, field, *len)?;
                let list = array.as_fixed_size_list();
                let outer = list.nulls().map(|nulls| nulls.expand(*len as usize));
                let values = null_beneath(list.values(), outer.as_ref()).map_err(arrow)?;
                let values = self.apply(&values, &inside(field, element))?;
                let (element, size) = (child(element, &values), list.value_length());
                let list = FixedSizeListArray::try_new(element, size, values, list.nulls().cloned());
                list.map(|list| Arc::new(list) as ArrayRef).map_err(arrow)
            }
            DataType::Struct(fields) => {
                let rows = array.as_struct_opt().ok_or_else(|| self.other_kind(array, field))?;
                if self.is_foreign {
                    self.check_names(rows, field, fields)?;
                }
                let columns = fields.iter().map(|inner| self.field_of(rows, field, inner));
                let columns = columns.collect::<Result<Vec<_>, E>>()?;
                let fields: Fields = fields.iter().zip(&columns).map(|(field, column)| child(field, column)).collect();
                let rows = StructArray::try_new_with_length(fields, columns, nulls(), rows.len());
                rows.map(|rows| Arc::new(rows) as ArrayRef).map_err(arrow)
            }
            DataType::Map { key, value } => {
                let map = array.as_map_opt().ok_or_else(|| self.other_kind(array, field))?;
                let elements = |side: &ArrayRef| elements_of(side, map.offsets(), map.nulls()).map_err(arrow);
                let ((keys, offsets), (values, _)) = (elements(map.keys())?, elements(map.values())?);
                let keys = self.apply(&keys, &inside(field, key))?;
                let values = self.apply(&values, &inside(field, value))?;
                if self.is_foreign {
                    self.check_keys(&keys, &offsets, field)?;
                }
                let fields: Fields = vec![child(key, &keys), child(value, &values)].into();
                let entries = StructArray::try_new(fields.clone(), vec![keys, values], None).map_err(arrow)?;
                let entries_field = Arc::new(ArrowField::new("key_value", ArrowType::Struct(fields), false));
                let map = MapArray::try_new(entries_field, offsets, entries, map.nulls().cloned(), false);
                map.map(|map| Arc::new(map) as ArrayRef).map_err(arrow)
            }
            _ => (self.values)(array, field),
        }
    }

    /// A field of a struct's rows.
    fn field_of(&self, rows: &StructArray, field: &Field, inner: &Field) -> Result<ArrayRef, E> {
        match rows.column_by_name(inner.name()) {
            Some(column) => {
                let column =
                    null_beneath(column, rows.nulls()).map_err(|error| (self.refuse)(field, reason(&error)))?;
                self.apply(&column, &inside(field, inner))
            }
            None if inner.is_nullable() => {
                // Of the type that the change makes of it.
                self.apply(&new_null_array(&inner.data_type().to_arrow(), rows.len()), &inside(field, inner))
            }
            None => Err((self.refuse)(field, format!("its rows have no \"{}\", which must not be NULL", inner.name()))),
        }
    }

    /// Lists of any layout as lists with offsets of 32 bits.
    fn as_list(&self, array: &ArrayRef, field: &Field) -> Result<ArrayRef, E> {
        match array.data_type() {
            ArrowType::List(_) => Ok(Arc::clone(array)),
            ArrowType::LargeList(element)
            | ArrowType::ListView(element)
            | ArrowType::LargeListView(element)
            | ArrowType::FixedSizeList(element, _) => self.cast(array, field, &ArrowType::List(Arc::clone(element))),
            _ => Err(self.other_kind(array, field)),
        }
    }

    /// Lists of any layout, all of one length, as such.
    fn as_fixed_list(&self, array: &ArrayRef, field: &Field, len: u32) -> Result<ArrayRef, E> {
        let size = i32::try_from(len).map_err(|_| self.other_kind(array, field))?;
        match array.data_type() {
            ArrowType::FixedSizeList(_, found) if *found == size => Ok(Arc::clone(array)),
            ArrowType::List(element) => self.fixed::<i32>(array, field, element, len),
            ArrowType::LargeList(element) => self.fixed::<i64>(array, field, element, len),
            _ => Err(self.other_kind(array, field)),
        }
    }

    fn fixed<O: OffsetSizeTrait>(
        &self,
        array: &ArrayRef,
        field: &Field,
        element: &FieldRef,
        len: u32,
    ) -> Result<ArrayRef, E> {
        let arrow = |error: ArrowError| (self.refuse)(field, reason(&error));
        let list = array.as_list::<O>();
        let len = len as usize;
        let odd = (0..list.len()).find(|&row| list.is_valid(row) && list.value_length(row).as_usize() != len);
        if let Some(row) = odd {
            let found = list.value_length(row).as_usize();
            return Err((self.refuse)(field, format!("a list of {found} elements is not one of {len}")));
        }
        let start = |row: usize| list.value_offsets()[row].as_usize();
        let values = match list.null_count() {
            0 => list.values().slice(start(0), list.len() * len),
            // Where a row is NULL the lists of one length have elements as well.
            _ => {
                let elements = (0..list.len()).flat_map(|row| {
                    let is_valid = list.is_valid(row);
                    (0..len).map(move |element| is_valid.then(|| (start(row) + element) as u64))
                });
                take(list.values(), &elements.collect::<UInt64Array>(), None).map_err(arrow)?
            }
        };
        let element = Arc::new(element.as_ref().clone().with_nullable(true));
        let fixed = FixedSizeListArray::try_new(element, len as i32, values, list.nulls().cloned());
        fixed.map(|fixed| Arc::new(fixed) as ArrayRef).map_err(arrow)
    }

    /// Refuses structs with fields that the type does not have, or with one of them twice.
    fn check_names(&self, rows: &StructArray, field: &Field, fields: &[Field]) -> Result<(), E> {
        let names: Vec<&str> = rows.fields().iter().map(|found| found.name().as_str()).collect();
        for (index, name) in names.iter().enumerate() {
            if !fields.iter().any(|field| field.name() == *name) {
                return Err((self.refuse)(
                    field,
                    format!("its rows have a field \"{name}\", which the table's have not"),
                ));
            }
            if names[..index].contains(name) {
                return Err((self.refuse)(field, format!("its rows have two fields \"{name}\"")));
            }
        }
        Ok(())
    }

    /// Refuses maps with a key twice: of two values only one could count.
    fn check_keys(&self, keys: &ArrayRef, offsets: &OffsetBuffer<i32>, field: &Field) -> Result<(), E> {
        let compare = make_comparator(keys, keys, SortOptions::default());
        let compare = compare.map_err(|error| (self.refuse)(field, reason(&error)))?;
        for row in 0..offsets.len() - 1 {
            let mut entries: Vec<usize> = list_range(offsets, row).collect();
            // Mostly they are in order.
            if entries.windows(2).all(|pair| compare(pair[0], pair[1]).is_lt()) {
                continue;
            }
            entries.sort_unstable_by(|left, right| compare(*left, *right));
            if let Some(twice) = entries.windows(2).find(|pair| compare(pair[0], pair[1]).is_eq()) {
                let key = array_value_to_string(keys, twice[0]).unwrap_or_default();
                return Err((self.refuse)(field, format!("a map has the key {key} twice")));
            }
        }
        Ok(())
    }

    fn cast(&self, array: &ArrayRef, field: &Field, to: &ArrowType) -> Result<ArrayRef, E> {
        cast_with_options(array, to, &CHECKED).map_err(|error| (self.refuse)(field, reason(&error)))
    }

    fn other_kind(&self, array: &ArrayRef, field: &Field) -> E {
        (self.refuse)(field, format!("it is {}; the table's is {}", array.data_type(), field.data_type()))
    }
}

/// Arrow's message without the kind of error in front.
pub(super) fn reason(error: &ArrowError) -> String {
    let text = error.to_string();
    text.split_once(": ").map_or(text.clone(), |(_, reason)| reason.to_owned())
}

/// A field inside another, under a name that says where; NULL is looked for when the two are put together.
fn inside(outer: &Field, inner: &Field) -> Field {
    inner.clone().with_name(format!("{}.{}", outer.name(), inner.name())).with_nullable(true)
}

/// The Arrow field of values inside others.
fn child(field: &Field, values: &ArrayRef) -> FieldRef {
    Arc::new(arrow_field_of(field, values.data_type().clone()))
}

/// The values that rows refer to, and where each row's are among them.
fn trimmed(values: &ArrayRef, offsets: &OffsetBuffer<i32>) -> (ArrayRef, OffsetBuffer<i32>) {
    let (first, last) = (offsets[0], offsets[offsets.len() - 1]);
    let range = first as usize..last as usize;
    if range == (0..values.len()) {
        return (Arc::clone(values), offsets.clone());
    }
    let offsets = offsets.iter().map(|offset| offset - first).collect::<Vec<_>>();
    // They ascend as they did.
    (values.slice(range.start, range.len()), OffsetBuffer::new(offsets.into()))
}

/// The bytes that the values of an array take, whatever it shares its buffers with: at least one for each value.
pub(crate) fn memory_of(array: &ArrayRef) -> usize {
    let rows = array.len();
    match array.data_type() {
        ArrowType::Utf8View => 16 * rows + array.as_string_view().total_buffer_bytes_used(),
        ArrowType::BinaryView => 16 * rows + array.as_binary_view().total_buffer_bytes_used(),
        ArrowType::FixedSizeBinary(width) => usize::try_from(*width).unwrap_or(1) * rows,
        ArrowType::List(_) => {
            let list = array.as_list::<i32>();
            4 * rows + memory_of(&trimmed(list.values(), list.offsets()).0)
        }
        ArrowType::FixedSizeList(_, _) => rows + memory_of(array.as_fixed_size_list().values()),
        ArrowType::Struct(_) => rows + array.as_struct().columns().iter().map(memory_of).sum::<usize>(),
        ArrowType::Map(_, _) => {
            let map = array.as_map();
            let side = |side: &ArrayRef| memory_of(&trimmed(side, map.offsets()).0);
            4 * rows + side(map.keys()) + side(map.values())
        }
        other => other.primitive_width().unwrap_or(1) * rows,
    }
}

/// How many elements the lists and maps in arrays have, level by level, from left to right.
pub(super) fn element_counts(array: &ArrayRef, counts: &mut Vec<usize>) {
    match array.data_type() {
        ArrowType::List(_) => {
            let list = array.as_list::<i32>();
            let (values, _) = trimmed(list.values(), list.offsets());
            counts.push(values.len());
            element_counts(&values, counts);
        }
        ArrowType::Map(_, _) => {
            let map = array.as_map();
            let (keys, _) = trimmed(map.keys(), map.offsets());
            counts.push(keys.len());
            element_counts(&keys, counts);
            element_counts(&trimmed(map.values(), map.offsets()).0, counts);
        }
        ArrowType::FixedSizeList(_, _) => element_counts(array.as_fixed_size_list().values(), counts),
        ArrowType::Struct(_) => array.as_struct().columns().iter().for_each(|column| element_counts(column, counts)),
        _ => {}
    }
}

/// The arrays of values inside an array, from left to right, each with no more than the rows refer to.
pub(crate) fn leaves_of(array: &ArrayRef) -> Vec<ArrayRef> {
    match array.data_type() {
        ArrowType::List(_) => {
            let list = array.as_list::<i32>();
            leaves_of(&trimmed(list.values(), list.offsets()).0)
        }
        ArrowType::FixedSizeList(_, _) => leaves_of(array.as_fixed_size_list().values()),
        ArrowType::Struct(_) => array.as_struct().columns().iter().flat_map(leaves_of).collect(),
        ArrowType::Map(_, _) => {
            let map = array.as_map();
            let sides = [map.keys(), map.values()].map(|side| leaves_of(&trimmed(side, map.offsets()).0));
            sides.concat()
        }
        _ => vec![Arc::clone(array)],
    }
}

/// The same rows in arrays of their own: views refer to no more text than the rows have, and lists to no more elements.
pub(crate) fn compact_array(array: &ArrayRef) -> ArrayRef {
    let nulls = array.nulls().cloned();
    // What is put together again had the types and lengths it has.
    match array.data_type() {
        ArrowType::Utf8View => Arc::new(array.as_string_view().gc()),
        ArrowType::BinaryView => Arc::new(array.as_binary_view().gc()),
        ArrowType::List(element) => {
            let list = array.as_list::<i32>();
            let (values, offsets) = trimmed(list.values(), list.offsets());
            Arc::new(ListArray::new(Arc::clone(element), offsets, compact_array(&values), nulls))
        }
        ArrowType::FixedSizeList(element, size) => {
            let values = compact_array(array.as_fixed_size_list().values());
            Arc::new(FixedSizeListArray::new(Arc::clone(element), *size, values, nulls))
        }
        ArrowType::Struct(fields) => {
            let columns = array.as_struct().columns().iter().map(compact_array).collect();
            Arc::new(StructArray::new(fields.clone(), columns, nulls))
        }
        ArrowType::Map(entries, ordered) => {
            let map = array.as_map();
            let (keys, offsets) = trimmed(map.keys(), map.offsets());
            let (values, _) = trimmed(map.values(), map.offsets());
            let columns = vec![compact_array(&keys), compact_array(&values)];
            let rows = StructArray::new(map.entries().fields().clone(), columns, None);
            Arc::new(MapArray::new(Arc::clone(entries), offsets, rows, nulls, *ordered))
        }
        _ => Arc::clone(array),
    }
}

/// Where the elements of a row are.
pub(crate) fn list_range(offsets: &OffsetBuffer<i32>, row: usize) -> Range<usize> {
    // Offsets are not negative.
    offsets[row] as usize..offsets[row + 1] as usize
}
