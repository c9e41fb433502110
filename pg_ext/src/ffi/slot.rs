//! Putting a row into a slot.
//!
//! It is done for every row, so nothing here calls Postgres: the slot's arrays are written in place.

use std::slice;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::rows::Rows;

/// Empties a slot.
///
/// # Safety
///
/// The slot is live.
pub(super) unsafe fn clear(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: as the caller promises.
    let header = unsafe { &mut *slot };
    if u32::from(header.tts_flags) & pg_sys::TTS_FLAG_EMPTY != 0 {
        return;
    }
    // A slot that was made to hold its row for longer has a copy to let go of. Others have nothing but their arrays.
    if u32::from(header.tts_flags) & pg_sys::TTS_FLAG_SHOULDFREE != 0 {
        // SAFETY: a slot's operations are complete.
        if let Some(clear) = unsafe { (*header.tts_ops).clear } {
            // SAFETY: the function is the slot's own, and nothing here needs to be dropped.
            unsafe { pg_guard_ffi_boundary(|| clear(slot)) };
        }
        return;
    }
    header.tts_nvalid = 0;
    header.tts_flags |= pg_sys::TTS_FLAG_EMPTY as u16;
}

/// The places of a scan's columns in a slot.
#[derive(Debug)]
pub(super) struct SlotWriter {
    /// For each column of a row, the place in the slot's arrays.
    places: Vec<usize>,
    /// The columns of the slot.
    width: usize,
    /// Whether the columns that are not read have been set to NULL in the slot's arrays, which nobody else writes.
    is_prepared: bool,
}

impl SlotWriter {
    /// For columns with these numbers, from 1, in a slot of so many columns.
    pub(super) fn new(numbers: impl Iterator<Item = i16>, width: usize) -> Option<Self> {
        let places: Option<Vec<usize>> = numbers.map(|number| usize::try_from(number).ok()?.checked_sub(1)).collect();
        let places = places.filter(|places| places.iter().all(|place| *place < width))?;
        Some(Self { places, width, is_prepared: false })
    }

    /// Puts the current row into a slot that [`clear`] has emptied.
    ///
    /// # Safety
    ///
    /// The slot is live and has as many columns as the writer was made for, and it is always the same one.
    #[inline]
    pub(super) unsafe fn write(&mut self, rows: &Rows, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: as the caller promises.
        let header = unsafe { &mut *slot };
        // SAFETY: a slot has an element per column in each of its arrays, which belong to it alone.
        let values = unsafe { slice::from_raw_parts_mut(header.tts_values, self.width) };
        // SAFETY: as above.
        let nulls = unsafe { slice::from_raw_parts_mut(header.tts_isnull, self.width) };
        if !self.is_prepared {
            nulls.fill(true);
            values.fill(pg_sys::Datum::from(0));
            self.is_prepared = true;
        }
        for (column, place) in self.places.iter().enumerate() {
            let cell = rows.cell(column);
            values[*place] = pg_sys::Datum::from(cell.datum);
            nulls[*place] = cell.is_null;
        }
        header.tts_nvalid = self.width as pg_sys::AttrNumber;
        header.tts_flags &= !(pg_sys::TTS_FLAG_EMPTY as u16);
    }

    /// The slot's arrays may have been written by others.
    pub(super) fn forget(&mut self) {
        self.is_prepared = false;
    }
}
