//! Strings and blobs in DuckDB's 16 bytes.
//!
//! DuckDB's string and Arrow's view are twins: four bytes of length, then the bytes themselves if there
//! are at most twelve, padded with zeros; otherwise the first four bytes and eight that say where all of
//! them are. Only those last eight differ: an address here, a buffer's number and an offset there.

use std::mem::{self, MaybeUninit};

use arrow::array::ByteView;
use arrow::buffer::{Buffer, NullBuffer};
use duckdb_neo::ffi;

use super::OutputVector;
use crate::error::{Result, invalid};

/// The longest string that fits into a cell.
const INLINE_BYTES: usize = ffi::DUCKDB_V2_BYTES_INLINE_LENGTH as usize;

/// A string as a vector holds it.
#[repr(C)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct StringCell {
    /// The length and the first four bytes.
    head: u64,
    /// Up to eight more bytes, or the address of all of them.
    tail: u64,
}

const _: () = assert!(size_of::<StringCell>() == size_of::<ffi::duckdb_v2_bytes>());
const _: () = assert!(align_of::<StringCell>() == align_of::<ffi::duckdb_v2_bytes>());

/// Something short enough for a cell, or longer.
#[derive(Debug)]
pub(crate) enum InlineOr<T> {
    /// At most twelve bytes.
    Inline(StringCell),
    /// More.
    Long(T),
}

impl StringCell {
    const EMPTY: Self = Self { head: 0, tail: 0 };

    /// The cell of a string that fits into it.
    pub(crate) fn inline(bytes: &[u8]) -> Option<Self> {
        if bytes.len() > INLINE_BYTES {
            return None;
        }
        let mut cell = [0; size_of::<Self>()];
        cell[..4].copy_from_slice(&(bytes.len() as u32).to_le_bytes());
        cell[4..4 + bytes.len()].copy_from_slice(bytes);
        Some(Self::from_view(u128::from_le_bytes(cell)))
    }

    /// The cell that has the same 16 bytes as an Arrow view of at most twelve bytes.
    fn from_view(view: u128) -> Self {
        Self { head: view as u64, tail: (view >> 64) as u64 }
    }

    /// The cell of a longer string whose bytes lie at `address`.
    fn long(bytes: &[u8], address: *const u8) -> Result<Self> {
        let length = u32::try_from(bytes.len()).map_err(|_| invalid("a value is longer than 4 GiB"))?;
        let prefix = bytes.first_chunk::<4>().expect("long strings have more than four bytes");
        let head = u64::from(length) | u64::from(u32::from_le_bytes(*prefix)) << 32;
        Ok(Self { head, tail: address.expose_provenance() as u64 })
    }
}

impl OutputVector<'_> {
    /// Writes the strings behind Arrow's views. Long ones are copied into memory of the vector: results may
    /// outlive the scan and the mapping that the views point into.
    ///
    /// # Errors
    ///
    /// When a view points outside of `buffers`.
    ///
    /// # Panics
    ///
    /// When there are not as many views as rows.
    pub(crate) fn write_views(&mut self, views: &[u128], buffers: &[Buffer], nulls: Option<&NullBuffer>) -> Result<()> {
        assert_eq!(views.len(), self.rows, "one view per row");
        let is_long = |row: usize, view: u128| {
            view as u32 as usize > INLINE_BYTES && nulls.is_none_or(|nulls| nulls.is_valid(row))
        };
        let length = |(row, &view): (usize, &u128)| if is_long(row, view) { view as u32 as usize } else { 0 };
        let total: usize = views.iter().enumerate().map(length).sum();
        if total == 0 {
            return self.write_cells(views.iter().map(|&view| short_cell(view)));
        }
        let (slots, memory) = self.slots_and_memory::<StringCell>(total)?;
        let mut free = Arena::new(memory);
        for (row, (slot, &view)) in slots.iter_mut().zip(views).enumerate() {
            slot.write(if is_long(row, view) { free.add(bytes_of(view, buffers)?)? } else { short_cell(view) });
        }
        Ok(())
    }

    /// Writes the name behind each key. Long names are copied once per chunk, for the same reason.
    ///
    /// # Errors
    ///
    /// When a key of a row that is not NULL has no name.
    ///
    /// # Panics
    ///
    /// When there are not as many keys as rows.
    pub(crate) fn write_names(
        &mut self,
        keys: &[u8],
        names: &[InlineOr<Box<str>>],
        nulls: Option<&NullBuffer>,
    ) -> Result<()> {
        assert_eq!(keys.len(), self.rows, "one key per row");
        let mut cells = [None; 256];
        let long: usize = names.iter().map(|name| if let InlineOr::Long(name) = name { name.len() } else { 0 }).sum();
        let (slots, memory) = self.slots_and_memory::<StringCell>(long)?;
        let mut free = Arena::new(memory);
        for (cell, name) in cells.iter_mut().zip(names) {
            *cell = Some(match name {
                InlineOr::Inline(cell) => *cell,
                InlineOr::Long(name) => free.add(name.as_bytes())?,
            });
        }
        let nameless = |(row, key): (usize, &u8)| {
            cells[usize::from(*key)].is_none() && nulls.is_none_or(|nulls| nulls.is_valid(row))
        };
        if names.len() <= usize::from(u8::MAX) && keys.iter().enumerate().any(nameless) {
            return Err(invalid(format!("an enum value is none of its {} variants", names.len())));
        }
        let cells = cells.map(|cell| cell.unwrap_or(StringCell::EMPTY));
        for (slot, &key) in slots.iter_mut().zip(keys) {
            slot.write(cells[usize::from(key)]);
        }
        Ok(())
    }

    fn write_cells(&mut self, cells: impl Iterator<Item = StringCell>) -> Result<()> {
        for (slot, cell) in self.slots::<StringCell>()?.iter_mut().zip(cells) {
            slot.write(cell);
        }
        Ok(())
    }
}

/// Memory of a vector that strings are copied into.
struct Arena<'vector> {
    free: &'vector mut [MaybeUninit<u8>],
}

impl<'vector> Arena<'vector> {
    fn new(free: &'vector mut [MaybeUninit<u8>]) -> Self {
        Self { free }
    }

    /// Copies a string and returns its cell.
    ///
    /// # Panics
    ///
    /// When there is no room left.
    fn add(&mut self, bytes: &[u8]) -> Result<StringCell> {
        let (copy, free) = mem::take(&mut self.free).split_at_mut(bytes.len());
        self.free = free;
        StringCell::long(bytes, copy.write_copy_of_slice(bytes).as_ptr())
    }
}

/// The cell of a view that is inline; of one that is not, because its row is NULL, an empty cell.
fn short_cell(view: u128) -> StringCell {
    if view as u32 as usize <= INLINE_BYTES { StringCell::from_view(view) } else { StringCell::EMPTY }
}

/// The bytes a long view points at.
fn bytes_of(view: u128, buffers: &[Buffer]) -> Result<&[u8]> {
    let view = ByteView::from(view);
    let start = view.offset as usize;
    buffers
        .get(view.buffer_index as usize)
        .and_then(|buffer| buffer.get(start..start.checked_add(view.length as usize)?))
        .ok_or_else(|| invalid("a string lies outside of its column's memory: the store is damaged"))
}
