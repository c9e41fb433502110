//! The column of `Vec` fields.

use std::fmt::{self, Debug};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, ListArray};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::cast;
use arrow::datatypes::DataType as ArrowType;

use super::field::{FieldColumn, SoaField, SoaValue, ValueColumn};
use super::fixed::{Fixed, FixedKind};
use super::spans::{Elements, Spans};
use super::wrong_type;
use crate::error::{Error, Result};
use crate::schema::{DataType, arrow_field_of, elements_of, null_beneath};

/// A column of lists: the elements of all rows in one column, and where each row's end.
///
/// While rows are only appended this is Arrow's layout, and shared with it. A row in the middle that gets other elements, or
/// is swapped, leaves its place: the lists are then gathered when they are shared, each time until `shrink_to_fit`. Arrow's
/// arrays of lists have fewer than 2^31 elements: rows with more are shared in slices.
#[derive(Clone, Default)]
pub struct List<C>(Spans<C>);

impl<C: FieldColumn> Elements for C {
    fn element_count(&self) -> usize {
        FieldColumn::len(self)
    }

    fn append_from(&mut self, other: &Self, elements: Range<usize>) {
        FieldColumn::extend_from(self, other, elements);
    }

    fn keep_first(&mut self, len: usize) {
        FieldColumn::truncate(self, len);
    }

    fn make_room(&mut self, additional: usize) {
        FieldColumn::reserve(self, additional);
    }

    fn give_back(&mut self) {
        FieldColumn::shrink_to_fit(self);
    }

    fn byte_count(&self) -> usize {
        FieldColumn::memory_bytes(self)
    }
}

/// The elements of a row.
pub struct ListRef<'a, C> {
    elements: &'a C,
    start: usize,
    end: usize,
}

impl<C> Clone for ListRef<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for ListRef<'_, C> {}

impl<'a, C: FieldColumn> ListRef<'a, C> {
    pub(super) fn new(elements: &'a C, span: Range<usize>) -> Self {
        Self { elements, start: span.start, end: span.end }
    }

    /// How many elements there are.
    pub fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether there is no element.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The element at `index`, if there is one.
    pub fn get(self, index: usize) -> Option<C::Ref<'a>> {
        (index < self.len()).then(|| self.elements.get(self.start + index))
    }

    /// The elements, in order.
    pub fn iter(self) -> ListIter<'a, C> {
        self.into_iter()
    }

    /// The elements as a vector of their own.
    pub fn to_vec(self) -> Vec<C::Value> {
        self.iter().map(C::to_value).collect()
    }
}

impl<'a, C: FieldColumn> IntoIterator for ListRef<'a, C> {
    type Item = C::Ref<'a>;
    type IntoIter = ListIter<'a, C>;

    fn into_iter(self) -> ListIter<'a, C> {
        ListIter { elements: self.elements, left: self.start..self.end }
    }
}

/// The elements of a row, in order.
pub struct ListIter<'a, C> {
    elements: &'a C,
    left: Range<usize>,
}

impl<C> Debug for ListIter<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ListIter").field("left", &self.left).finish_non_exhaustive()
    }
}

impl<'a, C: FieldColumn> Iterator for ListIter<'a, C> {
    type Item = C::Ref<'a>;

    #[inline]
    fn next(&mut self) -> Option<C::Ref<'a>> {
        self.left.next().map(|element| self.elements.get(element))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.left.size_hint()
    }
}

impl<C: FieldColumn> DoubleEndedIterator for ListIter<'_, C> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.left.next_back().map(|element| self.elements.get(element))
    }
}

impl<C: FieldColumn> ExactSizeIterator for ListIter<'_, C> {}

impl<'a, K: FixedKind> ListRef<'a, Fixed<K>> {
    /// The elements as they are stored.
    pub fn as_slice(self) -> &'a [K::Native] {
        &self.elements.raw()[self.start..self.end]
    }
}

impl<C: FieldColumn> Debug for ListRef<'_, C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

impl<C: FieldColumn> PartialEq for ListRef<'_, C> {
    fn eq(&self, other: &Self) -> bool {
        self.len() == other.len() && self.iter().zip(other.iter()).all(|(left, right)| left == right)
    }
}

impl<C: FieldColumn> List<C> {
    /// The elements of all rows. They are in the order of the rows unless a row in the middle was changed.
    pub fn elements(&self) -> &C {
        self.0.elements()
    }
}

impl<C: FieldColumn> Debug for List<C> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.len()).map(|row| self.get(row))).finish()
    }
}

impl<C: FieldColumn> FieldColumn for List<C> {
    type Value = Vec<C::Value>;
    type Stored = Vec<C::Stored>;
    type Ref<'a> = ListRef<'a, C>;
    type Raw<'a> = &'a Self;
    type Outcome = Result<()>;

    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        DataType::list(C::data_type(), C::NULLABLE)
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn get(&self, row: usize) -> ListRef<'_, C> {
        ListRef::new(self.0.elements(), self.0.span(row))
    }

    fn to_value(value: ListRef<'_, C>) -> Vec<C::Value> {
        value.to_vec()
    }

    fn encode(value: Vec<C::Value>) -> Result<Vec<C::Stored>, String> {
        let encoded = value
            .into_iter()
            .enumerate()
            .map(|(index, value)| C::encode(value).map_err(|message| format!("element {index}: {message}")));
        encoded.collect()
    }

    fn blank() -> Vec<C::Stored> {
        Vec::new()
    }

    #[inline]
    fn push(&mut self, value: Vec<C::Stored>) {
        self.0.push(|elements| value.into_iter().for_each(|value| elements.push(value)));
    }

    fn set(&mut self, row: usize, value: Vec<C::Stored>) {
        self.0.replace(row, |elements| value.into_iter().for_each(|value| elements.push(value)));
    }

    fn swap(&mut self, left: usize, right: usize) {
        self.0.swap(left, right);
    }

    fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        self.0.extend_from(&other.0, rows);
    }

    fn slice(&self, rows: Range<usize>) -> Self {
        match self.0.slice(rows.clone()) {
            Some(slice) => Self(slice),
            None => Self::from_array(&self.to_array().slice(rows.start, rows.len()), "")
                .expect("values that were in a column fit it"),
        }
    }

    fn keep(&mut self, ranges: &[Range<usize>]) {
        self.0.rearrange(ranges.iter().cloned().flatten());
    }

    fn rearrange(&mut self, rows: &[usize]) {
        self.0.rearrange(rows.iter().copied());
    }

    fn swap_remove(&mut self, row: usize) {
        self.0.swap_remove(row);
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn reserve(&mut self, additional: usize) {
        self.0.reserve(additional);
    }

    fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }

    #[inline]
    fn raw(&self) -> &Self {
        self
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    fn to_array_with(&self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (offsets, elements) = self.0.in_order();
        let values = elements.to_array();
        let field = Arc::new(arrow_field_of(&C::field("element"), values.data_type().clone()));
        Arc::new(ListArray::new(field, offsets, values, nulls))
    }

    fn from_array(array: &ArrayRef, column: &str) -> Result<Self> {
        let lists = match array.data_type() {
            ArrowType::List(_) => Arc::clone(array),
            // The same elements in another layout.
            ArrowType::LargeList(element)
            | ArrowType::ListView(element)
            | ArrowType::LargeListView(element)
            | ArrowType::FixedSizeList(element, _) => cast(array, &ArrowType::List(Arc::clone(element)))
                .map_err(Error::arrow(format!("column \"{column}\" cannot be read as lists")))?,
            found => return Err(wrong_type::<Self>(column, found)),
        };
        let lists = lists.as_list::<i32>();
        let (elements, offsets) = shared_elements(lists.values(), lists.offsets(), lists.nulls(), column)?;
        Ok(Self(Spans::from_offsets(&offsets, elements_from::<C>(&elements, None, column)?)))
    }
}

/// The elements that rows of lists or maps have, and where they are, shared where they begin at the first one.
pub(super) fn shared_elements(
    elements: &ArrayRef,
    offsets: &OffsetBuffer<i32>,
    nulls: Option<&NullBuffer>,
    column: &str,
) -> Result<(ArrayRef, OffsetBuffer<i32>)> {
    if nulls.is_none_or(|nulls| nulls.null_count() == 0) && offsets[0] == 0 {
        // Elements behind those of the last row are nobody's.
        let end = offsets[offsets.len() - 1] as usize;
        return Ok((elements.slice(0, end), offsets.clone()));
    }
    elements_of(elements, offsets, nulls)
        .map_err(Error::arrow(format!("the values inside column \"{column}\" cannot be read")))
}

/// The column of elements that are in other values, of which those are not looked at that are beneath a NULL.
///
/// # Errors
///
/// When their type or one of them does not fit, or one is NULL that must not be.
pub(super) fn elements_from<C: FieldColumn>(array: &ArrayRef, outer: Option<&NullBuffer>, column: &str) -> Result<C> {
    let array = null_beneath(array, outer)
        .map_err(Error::arrow(format!("the values inside column \"{column}\" cannot be read")))?;
    let nulls = array.logical_null_count();
    if !C::NULLABLE && nulls > outer.map_or(0, NullBuffer::null_count) {
        return Err(Error::value(column, "a value inside is NULL; make the inner type an Option, or replace it first"));
    }
    C::from_array(&array, column)
}

impl<C: FieldColumn> ValueColumn for List<C> {}

impl<T: SoaField> SoaField for Vec<T> {
    type Column = T::List;
    type List = List<T::List>;
}

impl<T: SoaField> SoaValue for Vec<T> {}
