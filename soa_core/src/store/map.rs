//! Mapping files into memory.
#![expect(unsafe_code, reason = "mapping a file is unsafe: another process could change it underneath")]

use std::fs::File;
use std::io;
use std::sync::Arc;

use arrow::buffer::Buffer;

/// Owns a mapping for as long as a buffer refers to it.
struct Mapping(memmap2::Mmap);

/// The content of a file as a buffer that refers to a mapping of it. No byte is read yet.
///
/// An empty file gives an empty buffer: there is nothing to map.
pub(super) fn map(file: &File) -> io::Result<Buffer> {
    if file.metadata()?.len() == 0 {
        return Ok(Buffer::from_vec(Vec::<u8>::new()));
    }
    // SAFETY: `Mmap::map` asks that the file is not changed or cut while it is mapped. Only published
    // Arrow forms are mapped: they are renamed into place complete, never changed afterwards, and removed
    // by unlinking, which leaves existing mappings whole (format.md, sections 3 and 7).
    let mapping = unsafe { memmap2::Mmap::map(file) }?;
    let mapping = Arc::new(Mapping(mapping));
    let bytes = std::ptr::NonNull::from(&mapping.0[..]);
    let len = bytes.len();
    // SAFETY: `bytes` is the mapping's whole slice: valid for reads of `len` bytes, never written, and alive
    // until its owner, which the buffer holds, is dropped. The slice does not move with the `Arc`.
    Ok(unsafe { Buffer::from_custom_allocation(bytes.cast::<u8>(), len, mapping) })
}

/// A part of a buffer as a buffer of that length. A slice has the same bytes, but whoever reckons with memory takes it for all
/// that it is a slice of.
///
/// # Panics
///
/// When the buffer does not have so many bytes.
pub(super) fn part(whole: &Buffer, offset: usize, len: usize) -> Buffer {
    let bytes = std::ptr::NonNull::from(&whole[offset..offset + len]);
    // SAFETY: `bytes` is a slice of what `whole` holds: valid for reads of `len` bytes, and alive until its owner, a clone of
    // `whole` which the new buffer holds, is dropped. A buffer's bytes neither move nor change while it is shared.
    unsafe { Buffer::from_custom_allocation(bytes.cast::<u8>(), len, Arc::new(whole.clone())) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_counts_for_itself_and_keeps_the_whole() {
        let whole = Buffer::from_vec((0..100_u8).collect());
        let part = part(&whole, 10, 5);
        assert_eq!((part.as_slice(), part.capacity()), (&[10, 11, 12, 13, 14][..], 5));
        drop(whole);
        assert_eq!(part.as_slice(), [10, 11, 12, 13, 14]);
        assert!(super::part(&part, 5, 0).is_empty());
    }
}
