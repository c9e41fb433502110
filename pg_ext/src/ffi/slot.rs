//! Pointing a slot at rows.
//!
//! This is done for every row, so nothing here calls Postgres or can fail: a slot has two arrays, of values and of which
//! of them are NULL, and is made to take those of a chunk for its own. The slots of scans are of a fixed description
//! (`TTS_FLAG_FIXED`), whose arrays Postgres made together with the slot and never frees alone.

use std::ffi::c_int;
use std::{ptr, slice};

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::rows::{Chunk, RowPlace};

/// A row's place as a `ctid`: its number as that of a block, its part as what follows, where 0 is none.
pub(super) fn ctid(place: RowPlace) -> pg_sys::ItemPointerData {
    let block = pg_sys::BlockIdData { bi_hi: (place.number >> 16) as u16, bi_lo: place.number as u16 };
    pg_sys::ItemPointerData { ip_blkid: block, ip_posid: place.part + 1 }
}

/// And back.
pub(super) fn place(ctid: pg_sys::ItemPointerData) -> RowPlace {
    let number = u32::from(ctid.ip_blkid.bi_hi) << 16 | u32::from(ctid.ip_blkid.bi_lo);
    RowPlace { part: ctid.ip_posid.wrapping_sub(1), number }
}

/// The values of the first columns of a slot's row, and whether they are NULL.
///
/// # Safety
///
/// The slot has a row of so many columns, which stays there as long as the result is used.
pub(super) unsafe fn values<'a>(slot: *mut pg_sys::TupleTableSlot, width: usize) -> (&'a [pg_sys::Datum], &'a [bool]) {
    // SAFETY: as the caller promises.
    let header = unsafe { &*slot };
    if usize::try_from(header.tts_nvalid).unwrap_or_default() < width {
        // SAFETY: as above.
        unsafe { pg_sys::slot_getsomeattrs_int(slot, width as c_int) };
    }
    if width == 0 {
        return (&[], &[]);
    }
    // SAFETY: so many values are there now.
    let values = unsafe { slice::from_raw_parts(header.tts_values, width) };
    // SAFETY: as above.
    (values, unsafe { slice::from_raw_parts(header.tts_isnull, width) })
}

/// The value of a column of a slot's row, by its number from 1; `None` if it is NULL, or the number is 0.
///
/// # Safety
///
/// The slot has a row with this column.
pub(super) unsafe fn attribute(slot: *mut pg_sys::TupleTableSlot, number: pg_sys::AttrNumber) -> Option<pg_sys::Datum> {
    let width = usize::try_from(number).ok().filter(|number| *number > 0)?;
    // SAFETY: as the caller promises.
    let (values, nulls) = unsafe { values(slot, width) };
    (!nulls[width - 1]).then(|| values[width - 1])
}

/// Empties a slot.
///
/// # Safety
///
/// The slot is live.
pub(super) unsafe fn clear(slot: *mut pg_sys::TupleTableSlot) {
    // SAFETY: as the caller promises.
    let header = unsafe { &mut *slot };
    if has_copy(header) {
        // SAFETY: a slot's operations are complete.
        if let Some(clear) = unsafe { (*header.tts_ops).clear } {
            // SAFETY: the function is the slot's own.
            let call = || unsafe { clear(slot) };
            // SAFETY: nothing here needs to be dropped.
            unsafe { pg_guard_ffi_boundary(call) };
        }
        return;
    }
    header.tts_nvalid = 0;
    header.tts_flags |= pg_sys::TTS_FLAG_EMPTY as u16;
}

/// Whether a slot was made to hold its row for longer, and has a copy to let go of. Others have only their arrays.
fn has_copy(slot: &pg_sys::TupleTableSlot) -> bool {
    u32::from(slot.tts_flags) & pg_sys::TTS_FLAG_SHOULDFREE != 0
}

/// Gives the rows of a chunk to a slot, one after the other.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The arrays of the next row.
    values: *mut pg_sys::Datum,
    nulls: *mut bool,
    /// The columns of a row, and how far it is from one row's `nulls` to the next's.
    width: usize,
    nulls_stride: usize,
    /// Where the next row is; null if nobody asks.
    places: *const RowPlace,
    /// The rows that are left.
    left: usize,
    /// The slot's own arrays.
    own: Option<(*mut pg_sys::Datum, *mut bool)>,
}

impl Cursor {
    /// For slots of so many columns; no rows yet.
    pub(super) fn new(width: usize) -> Self {
        let (values, nulls, places) = (ptr::null_mut(), ptr::null_mut(), ptr::null());
        Self { values, nulls, width, nulls_stride: 0, places, left: 0, own: None }
    }

    /// Goes to the rows of a chunk, which must stay as it is until the cursor goes to another or is emptied.
    pub(super) fn set_chunk(&mut self, chunk: &mut Chunk) {
        self.left = chunk.rows();
        self.values = chunk.datums_mut().as_mut_ptr().cast();
        self.places = if chunk.places().is_empty() { ptr::null() } else { chunk.places().as_ptr() };
        let (nulls, stride) = chunk.nulls_mut();
        (self.nulls, self.nulls_stride) = (nulls.as_mut_ptr(), stride);
    }

    /// Forgets the rows that are left.
    pub(super) fn empty(&mut self) {
        self.left = 0;
    }

    /// Points the slot at the next row; false if none is left or the slot must be emptied by [`clear`] first.
    ///
    /// # Safety
    ///
    /// The slot is live, has as many columns as the cursor was made for, and is always the same one.
    #[inline]
    pub(super) unsafe fn next(&mut self, slot: *mut pg_sys::TupleTableSlot) -> bool {
        // SAFETY: as the caller promises.
        let header = unsafe { &mut *slot };
        if self.left == 0 || has_copy(header) {
            return false;
        }
        if self.own.is_none() {
            self.own = Some((header.tts_values, header.tts_isnull));
        }
        (header.tts_values, header.tts_isnull) = (self.values, self.nulls);
        header.tts_nvalid = self.width as pg_sys::AttrNumber;
        header.tts_flags &= !(pg_sys::TTS_FLAG_EMPTY as u16);
        self.left -= 1;
        if !self.places.is_null() {
            // SAFETY: there is one for each row that is left.
            header.tts_tid = ctid(unsafe { *self.places });
            self.places = self.places.wrapping_add(1);
        }
        // Past the last row these lead nowhere, and are not followed.
        self.values = self.values.wrapping_add(self.width);
        self.nulls = self.nulls.wrapping_add(self.nulls_stride);
        true
    }

    /// Gives the slot its own arrays back, before the chunk goes.
    ///
    /// # Safety
    ///
    /// As [`next`](Self::next).
    pub(super) unsafe fn release(&mut self, slot: *mut pg_sys::TupleTableSlot) {
        self.left = 0;
        // SAFETY: as the caller promises.
        unsafe { clear(slot) };
        if let Some((values, nulls)) = self.own.take() {
            // SAFETY: as the caller promises.
            let header = unsafe { &mut *slot };
            (header.tts_values, header.tts_isnull) = (values, nulls);
        }
    }
}
