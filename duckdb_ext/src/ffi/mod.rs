//! Writing into DuckDB's vectors: all unsafe code of this extension.
//!
//! The safe wrapper of DuckDB's C API writes value by value. Here whole columns are copied, which is what
//! makes a scan as fast as DuckDB's own.
//!
//! **Invariant.** A vector's memory holds one value of its logical type per row, and
//! [`OutputChunk::check_types`] has compared those types with what the columns were declared to be, so
//! that the width which a caller passes is the width that DuckDB allocated.
#![expect(unsafe_code, reason = "vectors are DuckDB's memory, reached through its C API")]

mod feed;
mod strings;

use std::marker::PhantomData;
use std::mem::MaybeUninit;
use std::ptr;
use std::slice;

use arrow::buffer::{BooleanBuffer, NullBuffer};
use duckdb_neo::connection::Context;
use duckdb_neo::data_chunk::DataChunkRef;
use duckdb_neo::error::DuckDBError;
use duckdb_neo::ffi;
use duckdb_neo::logical_type::LogicalType;
use duckdb_neo::{AsRaw, Error, FromRaw};

use crate::error::{Result, invalid};

pub(crate) use self::feed::{ArrowFeed, arrow_batches};
pub(crate) use self::strings::{InlineOr, StringCell};

/// The most rows a chunk may hold. DuckDB takes more for a defect of its own and refuses all further queries.
pub(crate) const CHUNK_ROWS: usize = 2048;

/// A number that no two connections share while both are open.
///
/// DuckDB's C API has none, so this looks behind one of its handles. In the one release that this extension loads in,
/// `duckdb_v2_file_system_handle` points to `struct CV2FileSystem { FileSystem &fs; QueryContext query; }`, and the
/// context's `fs` is the file system that its connection owns (`ClientData::client_file_system`).
pub(crate) fn connection_address(context: &Context) -> Result<usize> {
    // SAFETY: the handle is used only while `context` is borrowed, and is not destroyed.
    let context = unsafe { context.get_raw() };
    let mut handle = ptr::null_mut();
    // SAFETY: the context's handle is valid while it is borrowed, and the result is a place of the type asked for.
    check(|error| unsafe { ffi::duckdb_v2_context_get_file_system(context, &mut handle, error) })?;
    // SAFETY: the call above succeeded, so `handle` points to an object that the context keeps alive, whose first
    // member is a reference (see above): an initialized, aligned word. It is read as a number and not followed.
    Ok(unsafe { handle.cast::<usize>().read() })
}

/// The chunk that a scan fills.
#[derive(Debug)]
pub(crate) struct OutputChunk<'chunk> {
    handle: ffi::duckdb_v2_data_chunk_handle,
    columns: usize,
    _chunk: PhantomData<&'chunk mut ()>,
}

impl<'chunk> OutputChunk<'chunk> {
    /// Wraps the chunk that DuckDB lends to a callback.
    pub(crate) fn new(chunk: &'chunk mut DataChunkRef<'_>) -> Self {
        // SAFETY: the handle is used only while `chunk` is borrowed, and is not destroyed.
        let handle = unsafe { chunk.get_raw() };
        Self { handle, columns: chunk.col_count(), _chunk: PhantomData }
    }

    /// Refuses a chunk whose columns are not of the `expected` types.
    pub(crate) fn check_types(&self, expected: &[LogicalType]) -> Result<()> {
        if self.columns != expected.len() {
            return Err(invalid(format!("DuckDB asks for {} columns instead of {}", self.columns, expected.len())));
        }
        for (index, expected) in expected.iter().enumerate() {
            let vector = self.vector_handle(index)?;
            let mut found = ptr::null_mut();
            // SAFETY: the vector's handle is valid while the chunk is, and the result is a place of the type asked for.
            check(|error| unsafe { ffi::duckdb_v2_vector_get_logical_type(vector, &mut found, error) })?;
            // SAFETY: the call above succeeded, so `found` is a type that belongs to the caller, who wraps it once.
            let found = unsafe { LogicalType::from_raw(found) };
            if found != *expected {
                return Err(invalid(format!("DuckDB asks for column {index} as {found} instead of {expected}")));
            }
        }
        Ok(())
    }

    /// Says that the scan has ended.
    pub(crate) fn set_empty(&mut self) -> Result<()> {
        self.column(0, 0).map(|_| ())
    }

    /// The column at `index`, to hold `rows` values. The rows of a chunk are those of its first column.
    ///
    /// # Panics
    ///
    /// When `rows` is above [`CHUNK_ROWS`].
    pub(crate) fn column(&mut self, index: usize, rows: usize) -> Result<OutputVector<'_>> {
        assert!(rows <= CHUNK_ROWS, "a chunk holds at most {CHUNK_ROWS} rows, not {rows}");
        let handle = self.vector_handle(index)?;
        // SAFETY: the vector's handle is valid while the chunk is.
        check(|error| unsafe { ffi::duckdb_v2_vector_set_size(handle, rows as u64, error) })?;
        Ok(OutputVector { handle, rows, _chunk: PhantomData })
    }

    fn vector_handle(&self, index: usize) -> Result<ffi::duckdb_v2_vector_handle> {
        let mut handle = ptr::null_mut();
        // SAFETY: the chunk's handle is valid while `self` is, and the result is a place of the type asked for;
        // an index that is too large is refused by the call.
        check(|error| unsafe { ffi::duckdb_v2_data_chunk_get_vector(self.handle, index as u64, &mut handle, error) })?;
        Ok(handle)
    }
}

/// Among 64 values as many may be gone at most for the runs between them to be copied at once: more runs take longer than
/// copying value by value.
const GAPS_MAX: usize = 3;

/// A column of an [`OutputChunk`], with room for its rows.
#[derive(Debug)]
pub(crate) struct OutputVector<'chunk> {
    handle: ffi::duckdb_v2_vector_handle,
    rows: usize,
    _chunk: PhantomData<&'chunk mut ()>,
}

impl OutputVector<'_> {
    /// Copies values of `width` bytes; without those that are not live, where not all are. The last one is live.
    ///
    /// # Panics
    ///
    /// When there are not as many values, or live ones, as rows, or `width` is not 1, 2, 4, 8 or 16.
    pub(crate) fn write_bytes(&mut self, values: &[u8], width: usize, live: Option<&BooleanBuffer>) -> Result<()> {
        match (live, width) {
            (None, _) => self.copy_bytes(values, width),
            (Some(live), 1) => self.copy_live::<1>(values, live),
            (Some(live), 2) => self.copy_live::<2>(values, live),
            (Some(live), 4) => self.copy_live::<4>(values, live),
            (Some(live), 8) => self.copy_live::<8>(values, live),
            (Some(live), 16) => self.copy_live::<16>(values, live),
            (Some(_), other) => panic!("values have 1, 2, 4, 8 or 16 bytes, not {other}"),
        }
    }

    fn copy_bytes(&mut self, values: &[u8], width: usize) -> Result<()> {
        assert_eq!(values.len(), self.rows * width, "one value per row");
        let target = self.data()?;
        // SAFETY: the vector has room for `rows` values of `width` bytes (the module's invariant), which is the
        // length of `values`; DuckDB's memory and Arrow's do not overlap.
        unsafe { ptr::copy_nonoverlapping(values.as_ptr(), target, values.len()) };
        Ok(())
    }

    /// Copies the values that are live. The last one is.
    fn copy_live<const WIDTH: usize>(&mut self, values: &[u8], live: &BooleanBuffer) -> Result<()> {
        let (values, rest) = values.as_chunks::<WIDTH>();
        assert!(values.len() == live.len() && rest.is_empty(), "a bit for each value");
        assert_eq!(live.count_set_bits(), self.rows, "one live value per row");
        let target = self.slots::<[u8; WIDTH]>()?;
        let mut next = 0;
        for (word, values) in live.bit_chunks().iter_padded().zip(values.chunks(u64::BITS as usize)) {
            if values.len() - word.count_ones() as usize <= GAPS_MAX {
                // Runs of them are copied at once.
                let mut rest = word;
                while rest != 0 {
                    let start = rest.trailing_zeros() as usize;
                    let len = (!(rest >> start)).trailing_zeros() as usize;
                    target[next..next + len].write_copy_of_slice(&values[start..start + len]);
                    next += len;
                    // The run is all of the word, or there is a bit behind it.
                    rest = rest.checked_shr((start + len) as u32).map_or(0, |above| above << (start + len));
                }
                continue;
            }
            // Without a branch for each value: one that is not live is written as well, and then over.
            for (bit, value) in values.iter().enumerate() {
                target[next].write(*value);
                next += usize::from(word >> bit & 1 == 1);
            }
        }
        Ok(())
    }

    /// Copies the low `width` bytes of integers of `WIDE` bytes.
    ///
    /// # Panics
    ///
    /// When there are not as many values as rows, or `width` is not 2, 4 or 8, or not less than `WIDE`.
    pub(crate) fn write_narrowed<const WIDE: usize>(&mut self, values: &[[u8; WIDE]], width: usize) -> Result<()> {
        assert_eq!(values.len(), self.rows, "one value per row");
        match width {
            2 => self.write_low_bytes::<WIDE, 2>(values),
            4 => self.write_low_bytes::<WIDE, 4>(values),
            8 => self.write_low_bytes::<WIDE, 8>(values),
            _ => panic!("decimals have 2, 4, 8 or 16 bytes, not {width}"),
        }
    }

    fn write_low_bytes<const WIDE: usize, const WIDTH: usize>(&mut self, values: &[[u8; WIDE]]) -> Result<()> {
        let target = self.slots::<[u8; WIDTH]>()?;
        for (slot, value) in target.iter_mut().zip(values) {
            // Little-endian, as the assertion below requires: the low bytes come first.
            let (low, _) = value.split_first_chunk::<WIDTH>().expect("wide integers begin with narrower ones");
            slot.write(*low);
        }
        Ok(())
    }

    /// Writes one byte, 0 or 1, for each bit.
    ///
    /// # Panics
    ///
    /// When there are not as many bits as rows.
    pub(crate) fn write_bits(&mut self, bits: &BooleanBuffer) -> Result<()> {
        assert_eq!(bits.len(), self.rows, "one bit per row");
        let mut target = self.slots::<u8>()?;
        for word in bits.bit_chunks().iter_padded() {
            for byte in word.to_le_bytes() {
                let (slots, rest) = target.split_at_mut(target.len().min(8));
                for (slot, value) in slots.iter_mut().zip(BYTES_OF_BITS[usize::from(byte)]) {
                    slot.write(value);
                }
                target = rest;
            }
        }
        Ok(())
    }

    /// Marks the rows that are NULL.
    ///
    /// # Panics
    ///
    /// When there are not as many bits as rows.
    pub(crate) fn write_validity(&mut self, nulls: &NullBuffer) -> Result<()> {
        assert_eq!(nulls.len(), self.rows, "one bit per row");
        let mut mask = ptr::null_mut();
        // SAFETY: the vector's handle is valid while the chunk is, and the result is a place of the type asked for.
        check(|error| unsafe { ffi::duckdb_v2_vector_flat_get_validity_mutable(self.handle, &mut mask, error) })?;
        let words = self.rows.div_ceil(u64::BITS as usize);
        // SAFETY: the call above succeeded, so `mask` points to writable words with a bit for each row the vector
        // has room for, all of them initialized; nobody else reads or writes the vector during the callback.
        let mask = unsafe { slice::from_raw_parts_mut(mask, words) };
        for (target, word) in mask.iter_mut().zip(nulls.inner().bit_chunks().iter_padded()) {
            *target = word;
        }
        Ok(())
    }

    /// The vector's memory as one slot per row.
    fn slots<T: Copy>(&mut self) -> Result<&mut [MaybeUninit<T>]> {
        let data = self.data()?.cast::<MaybeUninit<T>>();
        assert!(data.is_aligned(), "DuckDB aligns vectors for every type of theirs");
        // SAFETY: the vector has room for `rows` values of this size (the module's invariant), aligned as checked;
        // `MaybeUninit` asks nothing of their content; nobody else touches the vector during the callback, and the
        // slice borrows `self`.
        Ok(unsafe { slice::from_raw_parts_mut(data, self.rows) })
    }

    fn data(&mut self) -> Result<*mut u8> {
        let mut data = ptr::null_mut();
        // SAFETY: the vector's handle is valid while the chunk is, and the result is a place of the type asked for.
        check(|error| unsafe { ffi::duckdb_v2_vector_get_data_mutable(self.handle, &mut data, error) })?;
        Ok(data.cast())
    }

    /// The vector's memory as one slot per row, and `length` bytes that live as long as the vector's strings and
    /// every copy of them.
    fn slots_and_memory<T: Copy>(&mut self, length: usize) -> Result<SlotsAndMemory<'_, T>> {
        if length == 0 {
            return Ok((self.slots()?, &mut []));
        }
        let mut arena = ptr::null_mut();
        // SAFETY: the vector's handle is valid while the chunk is, and the result is a place of the type asked for.
        check(|error| unsafe { ffi::duckdb_v2_vector_get_arena(self.handle, &mut arena, error) })?;
        let mut bytes = ptr::null_mut();
        // SAFETY: the arena was handed out just now, and the result is a place of the type asked for.
        check(|error| unsafe { ffi::duckdb_v2_arena_allocate(arena, length as u64, &mut bytes, error) })?;
        // SAFETY: the call above succeeded, so `bytes` points to `length` fresh bytes that no one else knows and that
        // live as long as the vector's strings, longer than the borrow of `self`; `MaybeUninit` asks nothing of
        // their content.
        let memory = unsafe { slice::from_raw_parts_mut(bytes.cast(), length) };
        Ok((self.slots()?, memory))
    }
}

/// A slot per row of a vector, and memory for what the slots point at.
type SlotsAndMemory<'vector, T> = (&'vector mut [MaybeUninit<T>], &'vector mut [MaybeUninit<u8>]);

/// The eight bytes, 0 or 1, of every eight bits.
static BYTES_OF_BITS: [[u8; 8]; 256] = {
    let mut table = [[0; 8]; 256];
    let mut bits = 0;
    while bits < table.len() {
        let mut bit = 0;
        while bit < 8 {
            table[bits][bit] = (bits >> bit & 1) as u8;
            bit += 1;
        }
        bits += 1;
    }
    table
};

const _: () =
    assert!(cfg!(target_endian = "little"), "strings and decimals are written as little-endian machines keep them");

/// Runs one call of DuckDB's C API and takes over the error it may leave.
fn check(call: impl FnOnce(*mut ffi::duckdb_v2_error_info_handle) -> ffi::DUCKDB_V2_ERROR) -> Result<()> {
    let mut handle = ptr::null_mut();
    let code = call(&mut handle);
    if code == ffi::DUCKDB_V2_ERROR::DUCKDB_V2_ERROR_NONE {
        return Ok(());
    }
    let message = if handle.is_null() { String::new() } else { take_message(handle) };
    Err(Error { code: DuckDBError::try_from(code).unwrap_or(DuckDBError::Api), message })
}

fn take_message(mut handle: ffi::duckdb_v2_error_info_handle) -> String {
    let mut text = ffi::duckdb_v2_str::default();
    // SAFETY: `handle` is an error that a call has just handed over, and `text` a place of the type asked for.
    let code = unsafe { ffi::duckdb_v2_error_info_get_text(handle, &mut text) };
    let mut message = String::new();
    if code == ffi::DUCKDB_V2_ERROR::DUCKDB_V2_ERROR_NONE && !text.ptr.is_null() {
        // SAFETY: the text is `len` bytes that the error owns until it is destroyed below.
        let bytes = unsafe { slice::from_raw_parts(text.ptr.cast::<u8>(), text.len as usize) };
        message = String::from_utf8_lossy(bytes).into_owned();
    }
    // SAFETY: the error belongs to this function, is live, and is not used afterwards.
    unsafe { ffi::duckdb_v2_error_info_destroy(&mut handle) };
    message
}
