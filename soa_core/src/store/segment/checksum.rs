//! The checksum of a column's buffers (format.md, section 3.2).

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::buffer::{BooleanBuffer, Buffer};
use arrow::datatypes::{DataType as ArrowType, UInt8Type};

/// CRC-32C over the validity bits, if any value is NULL, then each buffer of the array, and then the arrays inside it. Of a
/// text column (`declared` says whether it is one) with a dictionary, then over this.
///
/// The array must not be a slice of a larger one.
pub(super) fn column_checksum(array: &ArrayRef, declared: &ArrowType) -> u32 {
    let crc = append(0, array);
    match (declared, array.as_dictionary_opt::<UInt8Type>()) {
        (ArrowType::Utf8View, Some(dictionary)) => {
            dictionary.values().as_string::<i32>().iter().flatten().fold(crc, append_text)
        }
        _ => crc,
    }
}

/// Its length, so that no two lists of texts are the same bytes, and the text.
fn append_text(crc: u32, text: &str) -> u32 {
    let crc = crc32c::crc32c_append(crc, &(text.len() as u32).to_le_bytes());
    crc32c::crc32c_append(crc, text.as_bytes())
}

fn append(mut crc: u32, array: &ArrayRef) -> u32 {
    if array.is_empty() {
        // Inside lists that are all empty: its offsets may be written or not.
        return crc;
    }
    if let Some(nulls) = array.nulls().filter(|nulls| nulls.null_count() > 0) {
        crc = append_bits(crc, nulls.inner());
    }
    match array.data_type() {
        ArrowType::Boolean => append_bits(crc, array.as_boolean().values()),
        ArrowType::Utf8View => {
            append_views(crc, array.as_string_view().views().inner(), array.as_string_view().data_buffers())
        }
        ArrowType::BinaryView => {
            append_views(crc, array.as_binary_view().views().inner(), array.as_binary_view().data_buffers())
        }
        ArrowType::List(_) => {
            let list = array.as_list::<i32>();
            append(crc32c::crc32c_append(crc, list.offsets().inner().inner()), list.values())
        }
        ArrowType::FixedSizeList(_, _) => append(crc, array.as_fixed_size_list().values()),
        ArrowType::Struct(_) => array.as_struct().columns().iter().fold(crc, append),
        ArrowType::Map(_, _) => {
            let map = array.as_map();
            let crc = crc32c::crc32c_append(crc, map.offsets().inner().inner());
            append(append(crc, map.keys()), map.values())
        }
        ArrowType::Dictionary(_, _) => {
            let keys = array.as_dictionary::<UInt8Type>().keys().values().inner();
            crc32c::crc32c_append(crc, keys)
        }
        _ => array.to_data().buffers().iter().fold(crc, |crc, buffer| crc32c::crc32c_append(crc, buffer)),
    }
}

fn append_views(crc: u32, views: &Buffer, data: &[Buffer]) -> u32 {
    data.iter().fold(crc32c::crc32c_append(crc, views), |crc, buffer| crc32c::crc32c_append(crc, buffer))
}

/// The bits of the last byte that are after the last row are nobody's: they count as 0.
fn append_bits(crc: u32, bits: &BooleanBuffer) -> u32 {
    if bits.offset() != 0 {
        return append_bits(crc, &BooleanBuffer::new(bits.sliced(), 0, bits.len()));
    }
    let bytes = &bits.values()[..bits.len().div_ceil(8)];
    match (bits.len() % 8, bytes.split_last()) {
        (0, _) | (_, None) => crc32c::crc32c_append(crc, bytes),
        (used, Some((last, whole))) => {
            let crc = crc32c::crc32c_append(crc, whole);
            crc32c::crc32c_append(crc, &[last & ((1 << used) - 1)])
        }
    }
}
