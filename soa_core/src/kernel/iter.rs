//! Rows, one after the other.

use std::fmt;
use std::iter::FusedIterator;
use std::ops::Range;

use super::record::Rows;

/// The rows of some columns, in order.
pub struct Iter<'a, S> {
    soa: &'a S,
    rows: Range<usize>,
}

impl<'a, S: Rows> Iter<'a, S> {
    /// All rows of `soa`.
    #[inline]
    pub fn new(soa: &'a S) -> Self {
        Self::of(soa, 0..soa.len())
    }

    /// The rows `rows` of `soa`.
    #[inline]
    pub(super) fn of(soa: &'a S, rows: Range<usize>) -> Self {
        // Always so. Said here, it need not be found out again for each column of each row: a loop over the rows that is
        // compiled together with this has no checks in it.
        assert!(soa.is_even() && rows.end <= soa.len(), "columns are of one length");
        Self { soa, rows }
    }
}

impl<S> Clone for Iter<'_, S> {
    fn clone(&self) -> Self {
        Self { soa: self.soa, rows: self.rows.clone() }
    }
}

impl<S> fmt::Debug for Iter<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Iter").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<'a, S: Rows> Iterator for Iter<'a, S> {
    type Item = S::View<'a>;

    // Into its user, so that fields which are not looked at are not read.
    #[inline(always)]
    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next().map(|row| self.soa.view(row))
    }

    #[inline]
    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }

    #[inline]
    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        self.rows.nth(n).map(|row| self.soa.view(row))
    }
}

impl<S: Rows> DoubleEndedIterator for Iter<'_, S> {
    #[inline(always)]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.rows.next_back().map(|row| self.soa.view(row))
    }

    #[inline]
    fn nth_back(&mut self, n: usize) -> Option<Self::Item> {
        self.rows.nth_back(n).map(|row| self.soa.view(row))
    }
}

impl<S: Rows> ExactSizeIterator for Iter<'_, S> {}
impl<S: Rows> FusedIterator for Iter<'_, S> {}

/// Rows of columns of its own, one after the other as structs.
pub struct IntoIter<S> {
    soa: S,
    rows: Range<usize>,
}

impl<S: Rows> IntoIter<S> {
    /// All rows of `soa`.
    pub fn new(soa: S) -> Self {
        Self { rows: 0..soa.len(), soa }
    }

    /// The rows that did not come yet, as columns.
    pub fn into_soa(mut self) -> S {
        self.soa.keep_ranges(&[self.rows]);
        self.soa
    }
}

impl<S: Clone> Clone for IntoIter<S> {
    fn clone(&self) -> Self {
        Self { soa: self.soa.clone(), rows: self.rows.clone() }
    }
}

impl<S> fmt::Debug for IntoIter<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IntoIter").field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl<S: Rows> Iterator for IntoIter<S> {
    type Item = S::Record;

    #[inline]
    fn next(&mut self) -> Option<S::Record> {
        self.rows.next().map(|row| S::to_record(self.soa.view(row)))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }

    #[inline]
    fn nth(&mut self, n: usize) -> Option<S::Record> {
        self.rows.nth(n).map(|row| S::to_record(self.soa.view(row)))
    }
}

impl<S: Rows> DoubleEndedIterator for IntoIter<S> {
    #[inline]
    fn next_back(&mut self) -> Option<S::Record> {
        self.rows.next_back().map(|row| S::to_record(self.soa.view(row)))
    }

    #[inline]
    fn nth_back(&mut self, n: usize) -> Option<S::Record> {
        self.rows.nth_back(n).map(|row| S::to_record(self.soa.view(row)))
    }
}

impl<S: Rows> ExactSizeIterator for IntoIter<S> {}
impl<S: Rows> FusedIterator for IntoIter<S> {}
