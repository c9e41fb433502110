//! The column of `String` fields.

use std::hash::BuildHasher;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::NullBuffer;
use arrow::compute::cast;
use arrow::datatypes::DataType as ArrowType;

use super::buffer::{MAX_TEXT_BYTES, Text};
use super::field::{FieldColumn, KeyColumn, SoaField, SoaKey, SoaPartition, SoaValue, ValueColumn};
use super::wrong_type;
use crate::error::{Error, Result};
use crate::schema::DataType;

impl SoaField for String {
    type Column = Text;
}

impl SoaValue for String {}
impl SoaKey for String {}
impl SoaPartition for String {}

impl FieldColumn for Text {
    type Value = String;
    type Stored = String;
    type Ref<'a> = &'a str;
    type Raw<'a> = &'a Text;
    type Outcome = Result<()>;

    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    #[inline]
    fn len(&self) -> usize {
        Text::len(self)
    }

    #[inline]
    fn get(&self, row: usize) -> &str {
        Text::get(self, row)
    }

    #[inline]
    fn to_value(value: &str) -> String {
        value.to_owned()
    }

    #[inline]
    fn encode(value: String) -> Result<String, String> {
        if value.len() > MAX_TEXT_BYTES {
            return Err(format!("a text of {} bytes is too long; at most {MAX_TEXT_BYTES} bytes fit", value.len()));
        }
        Ok(value)
    }

    #[inline]
    fn push(&mut self, value: String) {
        Text::push(self, &value);
    }

    fn set(&mut self, row: usize, value: String) {
        Text::set(self, row, &value);
    }

    fn swap(&mut self, left: usize, right: usize) {
        Text::swap(self, left, right);
    }

    fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        Text::extend_from(self, other, rows);
    }

    fn slice(&self, rows: Range<usize>) -> Self {
        Text::slice(self, rows)
    }

    fn keep(&mut self, ranges: &[Range<usize>]) {
        Text::keep(self, ranges);
    }

    fn rearrange(&mut self, rows: &[usize]) {
        Text::rearrange(self, rows);
    }

    fn sort_rows(&self, rows: &mut [usize]) {
        rows.sort_by(|&left, &right| self.get(left).cmp(self.get(right)));
    }

    fn swap_remove(&mut self, row: usize) {
        Text::swap_remove(self, row);
    }

    fn truncate(&mut self, len: usize) {
        Text::truncate(self, len);
    }

    fn clear(&mut self) {
        Text::clear(self);
    }

    fn reserve(&mut self, additional: usize) {
        Text::reserve(self, additional);
    }

    fn shrink_to_fit(&mut self) {
        Text::shrink_to_fit(self);
    }

    #[inline]
    fn raw(&self) -> &Text {
        self
    }

    fn memory_bytes(&self) -> usize {
        Text::memory_bytes(self)
    }

    fn to_array_with(&self, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(Text::to_array(self, nulls))
    }

    fn from_array(array: &ArrayRef, column: &str) -> Result<Self> {
        match array.data_type() {
            ArrowType::Utf8View => Ok(Text::from_array(array.as_string_view())),
            // The same text in another layout: copied, but no value can fail to fit.
            ArrowType::Utf8 | ArrowType::LargeUtf8 => {
                let views = cast(array, &ArrowType::Utf8View)
                    .map_err(Error::arrow(format!("column \"{column}\" cannot be read as text")))?;
                Ok(Text::from_array(views.as_string_view()))
            }
            found => Err(wrong_type::<Self>(column, found)),
        }
    }
}

impl ValueColumn for Text {
    fn blank() -> String {
        String::new()
    }
}

impl KeyColumn for Text {
    type Key = str;

    #[inline]
    fn key(value: &String) -> &str {
        value
    }

    fn stored(key: &str) -> String {
        key.to_owned()
    }

    #[inline]
    fn is_at(&self, row: usize, key: &str) -> bool {
        self.get(row) == key
    }

    #[inline]
    fn hash_at(&self, row: usize, hasher: &impl BuildHasher) -> u64 {
        hasher.hash_one(self.get(row))
    }
}
