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
