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
    pub fn new(soa: &'a S) -> Self {
        Self { soa, rows: 0..soa.len() }
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

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.rows.next().map(|row| self.soa.view(row))
    }

    fn size_hint(&self) -> (usize, Option<usize>) {
        self.rows.size_hint()
    }

    fn nth(&mut self, n: usize) -> Option<Self::Item> {
        self.rows.nth(n).map(|row| self.soa.view(row))
    }
}

impl<S: Rows> DoubleEndedIterator for Iter<'_, S> {
    #[inline]
    fn next_back(&mut self) -> Option<Self::Item> {
        self.rows.next_back().map(|row| self.soa.view(row))
    }
}

impl<S: Rows> ExactSizeIterator for Iter<'_, S> {}
impl<S: Rows> FusedIterator for Iter<'_, S> {}
