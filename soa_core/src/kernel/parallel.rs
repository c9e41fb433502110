//! Rows for many threads, by rayon.

use std::fmt;
use std::ops::Range;

use rayon::iter::plumbing::{Consumer, Producer, ProducerCallback, UnindexedConsumer, bridge};
use rayon::iter::{IndexedParallelIterator, ParallelIterator};

use super::iter::Iter;
use super::record::Rows;

/// The rows of some columns, in order, for many threads: what `par_iter` of rayon's prelude makes of `OrderSoA`.
pub struct ParIter<'a, S> {
    soa: &'a S,
}

impl<'a, S: Rows> ParIter<'a, S> {
    /// All rows of `soa`.
    pub fn new(soa: &'a S) -> Self {
        Self { soa }
    }
}

impl<S> Clone for ParIter<'_, S> {
    fn clone(&self) -> Self {
        Self { soa: self.soa }
    }
}

impl<S> fmt::Debug for ParIter<'_, S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ParIter").finish_non_exhaustive()
    }
}

impl<'a, S: Rows<View<'a>: Send>> ParallelIterator for ParIter<'a, S> {
    type Item = S::View<'a>;

    fn drive_unindexed<C: UnindexedConsumer<Self::Item>>(self, consumer: C) -> C::Result {
        bridge(self, consumer)
    }

    fn opt_len(&self) -> Option<usize> {
        Some(self.soa.len())
    }
}

impl<'a, S: Rows<View<'a>: Send>> IndexedParallelIterator for ParIter<'a, S> {
    fn len(&self) -> usize {
        self.soa.len()
    }

    fn drive<C: Consumer<Self::Item>>(self, consumer: C) -> C::Result {
        bridge(self, consumer)
    }

    fn with_producer<CB: ProducerCallback<Self::Item>>(self, callback: CB) -> CB::Output {
        callback.callback(Part { soa: self.soa, rows: 0..self.soa.len() })
    }
}

/// Rows for one thread, which can be divided.
struct Part<'a, S> {
    soa: &'a S,
    rows: Range<usize>,
}

impl<'a, S: Rows<View<'a>: Send>> Producer for Part<'a, S> {
    type Item = S::View<'a>;
    type IntoIter = Iter<'a, S>;

    fn into_iter(self) -> Iter<'a, S> {
        Iter::of(self.soa, self.rows)
    }

    fn split_at(self, index: usize) -> (Self, Self) {
        let middle = self.rows.start + index;
        (Self { soa: self.soa, rows: self.rows.start..middle }, Self { soa: self.soa, rows: middle..self.rows.end })
    }
}

/// Implements rayon's traits for what the derive makes.
#[doc(hidden)]
#[macro_export]
macro_rules! __soa_rayon {
    ([$($params:tt)*] [$($args:tt)*] [$($bounds:tt)*] $record:ident, $soa:ident, $view:ident) => {
        #[automatically_derived]
        impl<'a, $($params)*> $crate::kernel::derived::rayon::iter::IntoParallelIterator for &'a $soa<$($args)*>
        where
            $view<'a, $($args)*>: ::core::marker::Send,
            $($bounds)*
        {
            type Iter = $crate::kernel::ParIter<'a, $soa<$($args)*>>;
            type Item = $view<'a, $($args)*>;

            fn into_par_iter(self) -> Self::Iter {
                $crate::kernel::ParIter::new(self)
            }
        }
    };
}
