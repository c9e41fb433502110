//! The column of fields that are records themselves.

use std::fmt::{self, Debug};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::DataType as ArrowType;

use super::field::{FieldColumn, ValueColumn};
use super::record::{Record, Rows};
use super::wrong_type;
use crate::error::Result;
use crate::schema::DataType;

/// A column of records: their own columns.
#[derive(Clone, Default)]
pub struct Nested<S>(S);

impl<S: Rows> Nested<S> {
    /// The columns.
    pub fn rows(&self) -> &S {
        &self.0
    }
}

impl<S: Rows> Debug for Nested<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<S: Rows> FieldColumn for Nested<S> {
    type Value = S::Record;
    type Stored = S::Stored;
    type Ref<'a> = S::View<'a>;
    type Raw<'a> = &'a S;
    type Outcome = Result<()>;

    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        DataType::Struct(<S::Record as Record>::schema().fields().into())
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn get(&self, row: usize) -> S::View<'_> {
        self.0.view(row)
    }

    fn to_value(value: S::View<'_>) -> S::Record {
        S::to_record(value)
    }

    fn encode(value: S::Record) -> Result<S::Stored, String> {
        S::encode(value).map_err(|error| error.to_string())
    }

    fn blank() -> S::Stored {
        S::blank()
    }

    #[inline]
    fn push(&mut self, value: S::Stored) {
        self.0.push_stored(value);
    }

    fn set(&mut self, row: usize, value: S::Stored) {
        self.0.set_stored(row, value);
    }

    fn swap(&mut self, left: usize, right: usize) {
        self.0.swap(left, right);
    }

    fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        self.0.extend_from(&other.0, rows);
    }

    fn slice(&self, rows: Range<usize>) -> Self {
        Self(self.0.slice(rows))
    }

    fn keep(&mut self, ranges: &[Range<usize>]) {
        self.0.keep_ranges(ranges);
    }

    fn rearrange(&mut self, rows: &[usize]) {
        self.0.rearrange(rows);
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
    fn raw(&self) -> &S {
        &self.0
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    fn to_array_with(&self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (schema, columns, _) = self.0.to_record_batch().into_parts();
        Arc::new(StructArray::new(schema.fields().clone(), columns, nulls))
    }

    fn from_array(array: &ArrayRef, column: &str) -> Result<Self> {
        match array.data_type() {
            ArrowType::Struct(_) => S::from_struct(array.as_struct(), column).map(Self),
            found => Err(wrong_type::<Self>(column, found)),
        }
    }
}

impl<S: Rows> ValueColumn for Nested<S> {}
