//! The column of fields that are arrays.

use std::array;
use std::fmt::{self, Debug};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, FixedSizeListArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType as ArrowType;

use super::field::{FieldColumn, SoaField, SoaValue, ValueColumn};
use super::list::{List, ListRef, elements_from};
use super::wrong_type;
use crate::error::Result;
use crate::schema::{DataType, arrow_field_of};

/// A column of arrays of `N` elements: those of all rows, one after the other.
#[derive(Clone)]
pub struct FixedList<C, const N: usize> {
    elements: C,
    len: usize,
}

impl<C: Default, const N: usize> Default for FixedList<C, N> {
    fn default() -> Self {
        Self { elements: C::default(), len: 0 }
    }
}

impl<C: FieldColumn, const N: usize> FixedList<C, N> {
    /// The arrays' length, as a schema has it; an array without elements is refused when the code is compiled.
    const LEN: u32 = {
        assert!(N > 0 && N <= i32::MAX as usize, "an array that is a column has an element, and at most 2^31 - 1");
        N as u32
    };

    fn elements_of(rows: Range<usize>) -> Range<usize> {
        rows.start * N..rows.end * N
    }
}

impl<C: FieldColumn, const N: usize> Debug for FixedList<C, N> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.len).map(|row| self.get(row))).finish()
    }
}

impl<C: FieldColumn, const N: usize> FieldColumn for FixedList<C, N> {
    type Value = [C::Value; N];
    type Stored = [C::Stored; N];
    type Ref<'a> = ListRef<'a, C>;
    type Raw<'a> = C::Raw<'a>;
    type Outcome = Result<()>;

    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        DataType::fixed_list(C::data_type(), C::NULLABLE, Self::LEN)
    }

    #[inline]
    fn len(&self) -> usize {
        self.len
    }

    #[inline]
    fn get(&self, row: usize) -> ListRef<'_, C> {
        assert!(row < self.len, "there is no row {row}: there are {}", self.len);
        ListRef::new(&self.elements, Self::elements_of(row..row + 1))
    }

    fn to_value(value: ListRef<'_, C>) -> [C::Value; N] {
        let mut elements = value.iter().map(C::to_value);
        array::from_fn(|_| elements.next().expect("a row has as many elements as the array"))
    }

    #[inline]
    fn encode(value: [C::Value; N]) -> Result<[C::Stored; N], String> {
        let mut wrong = None;
        let mut index = 0;
        let encoded = value.map(|value| {
            let encoded = C::encode(value);
            index += 1;
            encoded.map_err(|message| wrong.get_or_insert(format!("element {}: {message}", index - 1)).len()).ok()
        });
        match wrong {
            Some(message) => Err(message),
            None => Ok(encoded.map(|encoded| encoded.expect("each was encoded"))),
        }
    }

    fn blank() -> [C::Stored; N] {
        array::from_fn(|_| C::blank())
    }

    #[inline]
    fn push(&mut self, value: [C::Stored; N]) {
        value.into_iter().for_each(|value| self.elements.push(value));
        self.len += 1;
    }

    fn set(&mut self, row: usize, value: [C::Stored; N]) {
        assert!(row < self.len, "there is no row {row}: there are {}", self.len);
        value.into_iter().enumerate().for_each(|(index, value)| self.elements.set(row * N + index, value));
    }

    fn swap(&mut self, left: usize, right: usize) {
        (0..N).for_each(|index| self.elements.swap(left * N + index, right * N + index));
    }

    fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        self.len += rows.len();
        self.elements.extend_from(&other.elements, Self::elements_of(rows));
    }

    fn slice(&self, rows: Range<usize>) -> Self {
        Self { len: rows.len(), elements: self.elements.slice(Self::elements_of(rows)) }
    }

    fn keep(&mut self, ranges: &[Range<usize>]) {
        let elements: Vec<Range<usize>> = ranges.iter().cloned().map(Self::elements_of).collect();
        self.elements.keep(&elements);
        self.len = ranges.iter().map(Range::len).sum();
    }

    fn rearrange(&mut self, rows: &[usize]) {
        let elements: Vec<usize> = rows.iter().flat_map(|&row| Self::elements_of(row..row + 1)).collect();
        self.elements.rearrange(&elements);
        self.len = rows.len();
    }

    fn swap_remove(&mut self, row: usize) {
        let last = self.len - 1;
        if row != last {
            self.swap(row, last);
        }
        self.truncate(last);
    }

    fn truncate(&mut self, len: usize) {
        self.len = self.len.min(len);
        self.elements.truncate(self.len * N);
    }

    fn clear(&mut self) {
        self.len = 0;
        self.elements.clear();
    }

    fn reserve(&mut self, additional: usize) {
        self.elements.reserve(additional * N);
    }

    fn shrink_to_fit(&mut self) {
        self.elements.shrink_to_fit();
    }

    fn raw(&self) -> C::Raw<'_> {
        self.elements.raw()
    }

    fn memory_bytes(&self) -> usize {
        self.elements.memory_bytes()
    }

    fn to_array_with(&self, nulls: Option<NullBuffer>) -> ArrayRef {
        let values = self.elements.to_array();
        let field = Arc::new(arrow_field_of(&C::field("element"), values.data_type().clone()));
        // Both fit an i32: the length was checked.
        Arc::new(FixedSizeListArray::new(field, Self::LEN as i32, values, nulls))
    }

    fn from_array(array: &ArrayRef, column: &str) -> Result<Self> {
        match array.data_type() {
            ArrowType::FixedSizeList(_, len) if u32::try_from(*len) == Ok(Self::LEN) => {
                let lists = array.as_fixed_size_list();
                let outer = lists.nulls().map(|nulls| nulls.expand(N));
                let elements = elements_from::<C>(lists.values(), outer.as_ref(), column)?;
                Ok(Self { len: array.len(), elements })
            }
            found => Err(wrong_type::<Self>(column, found)),
        }
    }
}

impl<C: FieldColumn, const N: usize> ValueColumn for FixedList<C, N> {}

impl<T: SoaField, const N: usize> SoaField for [T; N] {
    type Column = FixedList<T::Column, N>;
    type List = List<FixedList<T::Column, N>>;
}

impl<T: SoaField, const N: usize> SoaValue for [T; N] {}
