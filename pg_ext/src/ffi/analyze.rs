//! `ANALYZE`'s callbacks.

use std::ffi::c_int;

use pgrx::{PgRelation, pg_sys};

use super::{catalog, encoding, run};
use crate::analyze::Sample;
use crate::error::Step;

/// Says that the table can be sampled, and how large it is in pages of the heap.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn analyze_foreign_table(
    relation: pg_sys::Relation,
    function: *mut pg_sys::AcquireSampleRowsFunc,
    pages: *mut pg_sys::BlockNumber,
) -> bool {
    run(Step::Analyze, || {
        // SAFETY: ANALYZE passes the relation that it has opened.
        let table = catalog::table(unsafe { (*relation).rd_id })?;
        let snapshot = table.newest()?;
        let bytes: u64 = snapshot.segments().iter().map(|segment| segment.parquet_bytes()).sum();
        // At least one: a table of no pages is taken for one that was never looked at.
        let page_count = u32::try_from(bytes / u64::from(pg_sys::BLCKSZ)).unwrap_or(u32::MAX).max(1);
        // SAFETY: ANALYZE passes places for both.
        unsafe { pages.write(page_count) };
        // SAFETY: as above.
        unsafe { function.write(Some(acquire_sample_rows)) };
        Ok(true)
    })
}

/// Gives a sample of rows, in the order in which they are in the store.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn acquire_sample_rows(
    relation: pg_sys::Relation,
    _level: c_int,
    rows: *mut pg_sys::HeapTuple,
    wanted: c_int,
    total_rows: *mut f64,
    total_dead_rows: *mut f64,
) -> c_int {
    run(Step::Analyze, || {
        // SAFETY: ANALYZE passes the relation that it has opened.
        let table = catalog::table(unsafe { (*relation).rd_id })?;
        // SAFETY: as above.
        let opened = unsafe { PgRelation::from_pg(relation) };
        let description = opened.rd_att;
        // SAFETY: a relation has a description of its columns.
        let width = usize::try_from(unsafe { (*description).natts }).unwrap_or_default();
        let sample = Sample::of(&table)?;
        let wanted = u64::try_from(wanted).unwrap_or_default();
        let mut count = 0;
        // SAFETY: it reads and changes the backend's random state.
        let mut random = || unsafe { pg_sys::anl_random_fract() };
        sample.take(wanted, width, encoding(), &mut random, &mut |row| {
            let values = row.datums_mut().as_mut_ptr().cast::<pg_sys::Datum>();
            let nulls = row.nulls_mut().0.as_mut_ptr();
            // SAFETY: both arrays have an element per column; the tuple is a copy in ANALYZE's memory.
            let tuple = unsafe { pg_sys::heap_form_tuple(description, values, nulls) };
            // SAFETY: there is place for as many rows as were wanted, and no more are given.
            let place = unsafe { rows.add(count) };
            // SAFETY: as above.
            unsafe { place.write(tuple) };
            count += 1;
            Ok(())
        })?;
        // SAFETY: ANALYZE passes places for both.
        unsafe { total_rows.write(sample.row_count() as f64) };
        // SAFETY: as above.
        unsafe { total_dead_rows.write(0.0) };
        Ok(c_int::try_from(count).unwrap_or(c_int::MAX))
    })
}
