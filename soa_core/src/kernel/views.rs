//! The columns of `String` and `Vec<u8>` fields.

use std::borrow::Borrow;
use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;

use super::buffer::{MAX_VIEW_BYTES, Text, ViewKind, Views};
use super::field::{FieldColumn, KeyColumn, SoaField, SoaKey, SoaPartition, SoaValue, ValueColumn};
use super::list::List;
use super::wrong_type;
use crate::error::{Error, Result};
use crate::schema::DataType;

impl SoaField for String {
    type Column = Text;
    type List = List<Text>;
}

impl SoaValue for String {}
impl SoaKey for String {}
impl SoaPartition for String {}

/// Bytes are no list of small integers: their column is that of one value.
impl SoaKey for Vec<u8> {}

impl<K: ViewKind> FieldColumn for Views<K> {
    type Value = K::Owned;
    type Stored = K::Owned;
    type Ref<'a> = &'a K::Value;
    type Raw<'a> = &'a Self;
    type Outcome = Result<()>;

    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        K::data_type()
    }

    #[inline]
    fn len(&self) -> usize {
        Views::len(self)
    }

    #[inline]
    fn get(&self, row: usize) -> &K::Value {
        Views::get(self, row)
    }

    #[inline]
    fn to_value(value: &K::Value) -> K::Owned {
        value.to_owned()
    }

    #[inline]
    fn encode(value: K::Owned) -> Result<K::Owned, String> {
        let len = K::bytes(value.borrow()).len();
        if len > MAX_VIEW_BYTES {
            return Err(format!("a value of {len} bytes is too long; at most {MAX_VIEW_BYTES} bytes fit"));
        }
        Ok(value)
    }

    fn blank() -> K::Owned {
        K::Owned::default()
    }

    #[inline]
    fn push(&mut self, value: K::Owned) {
        Views::push(self, value.borrow());
    }

    fn set(&mut self, row: usize, value: K::Owned) {
        Views::set(self, row, value.borrow());
    }

    fn swap(&mut self, left: usize, right: usize) {
        Views::swap(self, left, right);
    }

    fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        Views::extend_from(self, other, rows);
    }

    fn slice(&self, rows: Range<usize>) -> Self {
        Views::slice(self, rows)
    }

    fn keep(&mut self, ranges: &[Range<usize>]) {
        Views::keep(self, ranges);
    }

    fn rearrange(&mut self, rows: &[usize]) {
        Views::rearrange(self, rows);
    }

    fn sort_rows(&self, rows: &mut [usize]) {
        rows.sort_by(|&left, &right| self.get(left).cmp(self.get(right)));
    }

    fn swap_remove(&mut self, row: usize) {
        Views::swap_remove(self, row);
    }

    fn truncate(&mut self, len: usize) {
        Views::truncate(self, len);
    }

    fn clear(&mut self) {
        Views::clear(self);
    }

    fn reserve(&mut self, additional: usize) {
        Views::reserve(self, additional);
    }

    fn shrink_to_fit(&mut self) {
        Views::shrink_to_fit(self);
    }

    #[inline]
    fn raw(&self) -> &Self {
        self
    }

    fn memory_bytes(&self) -> usize {
        Views::memory_bytes(self)
    }

    fn to_array_with(&self, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(Views::to_array(self, nulls))
    }

    fn from_array(array: &ArrayRef, column: &str) -> Result<Self> {
        if let Some(views) = array.as_byte_view_opt::<K::Arrow>() {
            return Ok(Self::from_array(views));
        }
        if !K::has_layout(array.data_type()) {
            return Err(wrong_type::<Self>(column, array.data_type()));
        }
        // The same values in another layout: copied, but none can fail to fit.
        let views = cast(array, &K::data_type().to_arrow())
            .map_err(Error::arrow(format!("column \"{column}\" cannot be read as {}", K::data_type())))?;
        Ok(Self::from_array(views.as_byte_view()))
    }
}

impl<K: ViewKind> ValueColumn for Views<K> {}

impl<K: ViewKind> KeyColumn for Views<K> {
    type Key = K::Value;

    #[inline]
    fn key(value: &K::Owned) -> &K::Value {
        value.borrow()
    }

    fn stored(key: &K::Value) -> K::Owned {
        key.to_owned()
    }

    fn find_stored(key: &K::Value) -> Option<K::Owned> {
        Self::encode(key.to_owned()).ok()
    }

    #[inline]
    fn is_at(&self, row: usize, key: &K::Value) -> bool {
        self.get(row) == key
    }

    #[inline]
    fn hash_at(&self, row: usize, hasher: &impl BuildHasher) -> u64 {
        hasher.hash_one(self.get(row))
    }
}
