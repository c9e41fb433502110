//! The column of UUIDs.

use std::cmp::Ordering;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, FixedSizeBinaryArray};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use uuid::Uuid;

use super::buffer::Column;
use super::field::{SoaField, SoaKey, SoaValue};
use super::fixed::{Fixed, FixedKind};
use super::list::List;
use crate::error::Result;
use crate::schema::DataType;

/// Stored as its 16 bytes in order, which a `raw_array` shows as integers of this machine's byte order.
impl FixedKind for Uuid {
    type Value = Uuid;
    type Native = i128;
    type Outcome = ();

    fn data_type() -> DataType {
        DataType::Uuid
    }

    #[inline]
    fn encode(value: Uuid) -> Result<i128, String> {
        Ok(i128::from_ne_bytes(value.into_bytes()))
    }

    #[inline]
    fn decode(native: i128) -> Uuid {
        Uuid::from_bytes(native.to_ne_bytes())
    }

    /// That of the bytes, whatever this machine's order of bytes is.
    #[inline]
    fn order(left: i128, right: i128) -> Ordering {
        left.to_ne_bytes().cmp(&right.to_ne_bytes())
    }

    fn to_array(values: &Column<i128>, nulls: Option<NullBuffer>) -> ArrayRef {
        let bytes = values.share().into_inner();
        Arc::new(FixedSizeBinaryArray::new(size_of::<i128>() as i32, bytes, nulls))
    }

    fn from_array(array: &ArrayRef, _: &str) -> Result<Column<i128>> {
        let bytes = array.as_fixed_size_binary().value_data();
        let shared = array.to_data().buffers()[0].slice_with_length(array.offset() * size_of::<i128>(), bytes.len());
        let is_aligned = shared.as_ptr().cast::<i128>().is_aligned();
        // Arrow asks no alignment of bytes.
        let buffer = if is_aligned { shared } else { Buffer::from_vec(words(bytes)) };
        Ok(Column::from_scalar_buffer(ScalarBuffer::new(buffer, 0, bytes.len() / size_of::<i128>())))
    }
}

fn words(bytes: &[u8]) -> Vec<i128> {
    let (words, _) = bytes.as_chunks::<{ size_of::<i128>() }>();
    words.iter().map(|word| i128::from_ne_bytes(*word)).collect()
}

impl SoaField for Uuid {
    type Column = Fixed<Uuid>;
    type List = List<Fixed<Uuid>>;
}

impl SoaValue for Uuid {}
impl SoaKey for Uuid {}
