//! The column of `Option` fields.

use std::ops::Range;

use arrow::array::{Array, ArrayRef};
use arrow::buffer::NullBuffer;

use super::field::{FieldColumn, ValueColumn};
use super::validity::Validity;
use crate::error::Result;
use crate::schema::DataType;

/// A column and, once a value is NULL, one bit per row that says which are there.
#[derive(Clone, Default, Debug)]
pub struct Nullable<C> {
    values: C,
    validity: Validity,
}

impl<C> Nullable<C> {
    /// Which values are there.
    pub fn validity(&self) -> &Validity {
        &self.validity
    }
}

impl<C: ValueColumn> FieldColumn for Nullable<C> {
    type Value = Option<C::Value>;
    type Stored = Option<C::Stored>;
    type Ref<'a> = Option<C::Ref<'a>>;
    type Raw<'a> = C::Raw<'a>;
    type Outcome = C::Outcome;

    const NULLABLE: bool = true;

    fn data_type() -> DataType {
        C::data_type()
    }

    #[inline]
    fn len(&self) -> usize {
        self.values.len()
    }

    #[inline]
    fn get(&self, row: usize) -> Self::Ref<'_> {
        self.validity.is_valid(row).then(|| self.values.get(row))
    }

    fn to_value(value: Self::Ref<'_>) -> Self::Value {
        value.map(C::to_value)
    }

    #[inline]
    fn encode(value: Self::Value) -> Result<Self::Stored, String> {
        value.map(C::encode).transpose()
    }

    fn blank() -> Self::Stored {
        None
    }

    #[inline]
    fn push(&mut self, value: Self::Stored) {
        self.validity.push(value.is_some());
        self.values.push(value.unwrap_or_else(C::blank));
    }

    #[inline]
    fn set(&mut self, row: usize, value: Self::Stored) {
        let valid = value.is_some();
        self.values.set(row, value.unwrap_or_else(C::blank));
        self.validity.set(row, valid);
    }

    fn swap(&mut self, left: usize, right: usize) {
        self.values.swap(left, right);
        self.validity.swap(left, right);
    }

    fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        self.values.extend_from(&other.values, rows.clone());
        self.validity.extend_from(&other.validity, rows);
    }

    fn slice(&self, rows: Range<usize>) -> Self {
        Self { values: self.values.slice(rows.clone()), validity: self.validity.slice(rows) }
    }

    fn keep(&mut self, ranges: &[Range<usize>]) {
        self.values.keep(ranges);
        self.validity.rearrange(ranges.iter().cloned().flatten());
    }

    fn rearrange(&mut self, rows: &[usize]) {
        self.values.rearrange(rows);
        self.validity.rearrange(rows.iter().copied());
    }

    fn sort_rows(&self, rows: &mut [usize]) {
        let (valid, null): (Vec<usize>, Vec<usize>) = rows.iter().partition(|&&row| self.validity.is_valid(row));
        let (to_null, to_valid) = rows.split_at_mut(null.len());
        to_null.copy_from_slice(&null);
        to_valid.copy_from_slice(&valid);
        self.values.sort_rows(to_valid);
    }

    fn swap_remove(&mut self, row: usize) {
        self.values.swap_remove(row);
        self.validity.swap_remove(row);
    }

    fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        self.validity.truncate(len);
    }

    fn clear(&mut self) {
        self.values.clear();
        self.validity.clear();
    }

    fn reserve(&mut self, additional: usize) {
        self.values.reserve(additional);
    }

    fn shrink_to_fit(&mut self) {
        self.values.shrink_to_fit();
        self.validity.shrink_to_fit();
    }

    fn raw(&self) -> Self::Raw<'_> {
        self.values.raw()
    }

    fn memory_bytes(&self) -> usize {
        self.values.memory_bytes() + self.validity.memory_bytes()
    }

    fn to_array_with(&self, nulls: Option<NullBuffer>) -> ArrayRef {
        let nulls = NullBuffer::union(self.validity.to_nulls().as_ref(), nulls.as_ref());
        self.values.to_array_with(nulls)
    }

    fn to_array(&self) -> ArrayRef {
        self.values.to_array_with(self.validity.to_nulls())
    }

    fn from_array(array: &ArrayRef, column: &str) -> Result<Self> {
        let values = C::from_array(array, column)?;
        Ok(Self { values, validity: Validity::from_nulls(array.logical_nulls().as_ref(), array.len()) })
    }
}
