//! Which rows an operation is about.

use std::ops::{Bound, Range, RangeBounds};

use super::record::Rows;

/// `rows` as a range of `len` rows.
///
/// # Panics
///
/// When it ends before it starts, or beyond the rows.
#[track_caller]
pub fn range_of(rows: impl RangeBounds<usize>, len: usize) -> Range<usize> {
    let after = |row: usize| row.checked_add(1).expect("rows are numbered by a usize");
    let start = match rows.start_bound() {
        Bound::Included(&row) => row,
        Bound::Excluded(&row) => after(row),
        Bound::Unbounded => 0,
    };
    let end = match rows.end_bound() {
        Bound::Included(&row) => after(row),
        Bound::Excluded(&row) => row,
        Bound::Unbounded => len,
    };
    assert!(start <= end, "the rows end at {end}, before they start at {start}");
    assert!(end <= len, "the rows end at {end}: there are {len}");
    start..end
}

/// Checks that `ranges` ascend and end within `len` rows.
///
/// # Panics
///
/// When they do not.
#[track_caller]
pub fn check_ranges(ranges: &[Range<usize>], len: usize) {
    let mut end = 0;
    for range in ranges {
        assert!(end <= range.start && range.start <= range.end, "ranges of rows must ascend: {ranges:?}");
        end = range.end;
    }
    assert!(end <= len, "the rows end at {end}: there are {len}");
}

/// Checks that `rows` are below `len`.
///
/// # Panics
///
/// When one is not.
#[track_caller]
pub fn check_rows(rows: &[usize], len: usize) {
    if let Some(&row) = rows.iter().max() {
        assert!(row < len, "there is no row {row}: there are {len}");
    }
}

/// The ranges of `len` rows that are not in `rows`.
pub(super) fn all_but(rows: Range<usize>, len: usize) -> [Range<usize>; 2] {
    [0..rows.start, rows.end..len]
}

/// The rows below `len` for which `holds` is true, as few ranges.
pub(super) fn ranges_where(len: usize, mut holds: impl FnMut(usize) -> bool) -> Vec<Range<usize>> {
    let mut ranges: Vec<Range<usize>> = Vec::new();
    for row in (0..len).filter(|&row| holds(row)) {
        match ranges.last_mut() {
            Some(last) if last.end == row => last.end += 1,
            _ => ranges.push(row..row + 1),
        }
    }
    ranges
}

/// Puts rows into the order that `sort` gives their numbers, which it gets in ascending order. If it panics, nothing
/// has changed.
pub fn sort_rows_by<S: Rows>(soa: &mut S, sort: impl FnOnce(&S, &mut [usize])) {
    let mut rows: Vec<usize> = (0..soa.len()).collect();
    sort(soa, &mut rows);
    if rows.iter().enumerate().any(|(at, &row)| at != row) {
        soa.rearrange(&rows);
    }
}
