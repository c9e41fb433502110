//! What the derives implement: the traits through which generic code handles records.

use std::cmp::Ordering;
use std::fmt::Debug;
use std::mem;
use std::ops::{Range, RangeBounds};

use arrow::array::StructArray;
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::field::KeyColumn;
use super::iter::{IntoIter, Iter};
use super::ranges::{all_but, range_of, ranges_where, sort_rows_by};
use crate::error::Result;
use crate::schema::Schema;

/// A struct that derives [`SoA`](crate::SoA).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a record",
    label = "does not derive `SoA`",
    note = "add `#[derive(SoA)]` to the struct"
)]
pub trait Record: Sized + 'static {
    /// Its columns: `OrderSoA` for `Order`.
    type Soa: Rows<Record = Self>;

    /// Its columns' names and types, without key, order or partitions.
    fn schema() -> Schema;

    /// The Arrow schema of its record batches: [`arrow_schema`](crate::schema::arrow_schema) of
    /// [`schema`](Self::schema).
    fn arrow_schema() -> SchemaRef;
}

/// A record that derives [`SoAStore`](crate::SoAStore): it says how a table of it is kept.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how a store keeps it",
    label = "does not derive `SoAStore`",
    note = "add `#[derive(SoAStore)]` and `#[soa_store(key = \"…\")]` to the struct"
)]
pub trait StoredRecord: Record {
    /// [`Record::schema`] with the key, order and partitions that `#[soa_store(…)]` names.
    fn table_schema() -> Schema;
}

/// A stored record with a key: no two rows of a store share its value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no key",
    label = "no `key` in `#[soa_store(…)]`",
    note = "name the field that tells rows apart: `#[soa_store(key = \"…\")]`"
)]
pub trait KeyedRecord: StoredRecord {
    /// The column of the key.
    type KeyColumn: KeyColumn;

    /// The key column's name.
    const KEY: &'static str;
    /// How many shards a [`ShardedStore`](super::ShardedStore) has by default.
    const SHARDS: usize;

    /// The record's key.
    fn key(&self) -> &<Self::KeyColumn as KeyColumn>::Key;

    /// The key column among its columns.
    fn key_column(rows: &Self::Soa) -> &Self::KeyColumn;

    /// The key column among its columns, to be written.
    fn key_column_mut(rows: &mut Self::Soa) -> &mut Self::KeyColumn;
}

/// The columns of a [`Record`]: what `OrderSoA` is to `Order`.
///
/// The derive gives `OrderSoA` the same methods without the trait.
pub trait Rows: Clone + Debug + Default + Send + Sync + Sized + 'static {
    /// The struct whose fields the columns hold.
    type Record: Record<Soa = Self>;
    /// A row that is read.
    type View<'a>: Copy + Debug + PartialEq;
    /// A row that is written.
    type Mut<'a>;
    /// A record whose values were found to fit their columns.
    type Stored;

    /// How many rows there are.
    fn len(&self) -> usize;

    /// Whether there is no row.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether all columns are of one length, as they always are between two calls.
    #[doc(hidden)]
    fn is_even(&self) -> bool;

    /// The row at `row`.
    ///
    /// # Panics
    ///
    /// When there is none.
    fn view(&self, row: usize) -> Self::View<'_>;

    /// The row at `row`, if there is one.
    fn get(&self, row: usize) -> Option<Self::View<'_>> {
        (row < self.len()).then(|| self.view(row))
    }

    /// The row at `row`, to be written. A column is copied first when it is written and somebody shares it.
    ///
    /// # Panics
    ///
    /// When there is none.
    fn view_mut(&mut self, row: usize) -> Self::Mut<'_>;

    /// A row as a struct of its own.
    fn to_record(view: Self::View<'_>) -> Self::Record;

    /// The rows, in order.
    #[inline]
    fn iter(&self) -> Iter<'_, Self> {
        Iter::new(self)
    }

    /// Appends a row.
    ///
    /// # Errors
    ///
    /// When a value does not fit its column; the error names both, and nothing is appended.
    fn try_push(&mut self, record: Self::Record) -> Result<()>;

    /// Checks that the values of a record fit their columns; the error names one that does not, and its column.
    #[doc(hidden)]
    fn encode(record: Self::Record) -> Result<Self::Stored>;

    /// The record that stands beneath a NULL.
    #[doc(hidden)]
    fn blank() -> Self::Stored;

    #[doc(hidden)]
    fn push_stored(&mut self, stored: Self::Stored);

    /// Panics when there is no such row.
    #[doc(hidden)]
    fn set_stored(&mut self, row: usize, stored: Self::Stored);

    /// The rows of structs; what is beneath a NULL is not looked at. Errors are those of `from_record_batch`, and name
    /// the column that the structs are in as well.
    #[doc(hidden)]
    fn from_struct(rows: &StructArray, column: &str) -> Result<Self>;

    /// Replaces the row at `row`.
    ///
    /// # Errors
    ///
    /// When a value does not fit its column; the error names both, and the row is what it was.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    fn try_set(&mut self, row: usize, record: Self::Record) -> Result<()>;

    /// Calls `change` with every row, in order.
    fn for_each_mut(&mut self, mut change: impl FnMut(Self::Mut<'_>)) {
        (0..self.len()).for_each(|row| change(self.view_mut(row)));
    }

    /// Takes the last row out, if there is one.
    fn pop(&mut self) -> Option<Self::Record> {
        let last = self.len().checked_sub(1)?;
        let record = Self::to_record(self.view(last));
        self.truncate(last);
        Some(record)
    }

    /// Takes the row at `row` out; the last row takes its place.
    ///
    /// # Panics
    ///
    /// When there is none.
    fn swap_remove(&mut self, row: usize) -> Self::Record;

    /// Exchanges two rows.
    ///
    /// # Panics
    ///
    /// When one of them is not there.
    fn swap(&mut self, left: usize, right: usize);

    /// Appends the rows `rows` of `other`, column by column.
    ///
    /// # Panics
    ///
    /// When one of them is not there.
    fn extend_from(&mut self, other: &Self, rows: impl RangeBounds<usize>);

    /// The rows `rows`, sharing the columns: no value is copied. (To count what text takes, its views are read;
    /// bits of validity are copied when the first row's is inside a byte.) As long as the slice lives, so does all
    /// that it shares.
    ///
    /// # Panics
    ///
    /// When one of them is not there.
    fn slice(&self, rows: impl RangeBounds<usize>) -> Self;

    /// Drops all rows but those in `ranges`.
    ///
    /// # Panics
    ///
    /// When the ranges do not ascend, or end beyond the rows; nothing has changed then.
    fn keep_ranges(&mut self, ranges: &[Range<usize>]);

    /// Makes these the rows `rows`, in that order: some may come more than once, others not at all.
    ///
    /// # Panics
    ///
    /// When one of them is not there; nothing has changed then.
    fn rearrange(&mut self, rows: &[usize]);

    /// The rows `rows`, in that order: some may come more than once.
    ///
    /// # Panics
    ///
    /// When one of them is not there.
    fn take(&self, rows: &[usize]) -> Self {
        let mut taken = self.clone();
        taken.rearrange(rows);
        taken
    }

    /// Slices of `size` rows that share the columns; the last has what is left.
    ///
    /// # Panics
    ///
    /// When `size` is zero.
    fn chunks(&self, size: usize) -> impl ExactSizeIterator<Item = Self> + DoubleEndedIterator {
        assert!(size > 0, "a chunk has at least one row");
        let len = self.len();
        (0..len.div_ceil(size)).map(move |chunk| self.slice(chunk * size..len.min((chunk + 1) * size)))
    }

    /// Moves all rows of `other` to the end of these.
    fn append(&mut self, other: &mut Self) {
        if self.is_empty() {
            mem::swap(self, other);
        } else {
            self.extend_from(other, ..);
        }
        other.clear();
    }

    /// Takes the rows from `at` on out.
    ///
    /// # Panics
    ///
    /// When `at` is beyond the rows.
    fn split_off(&mut self, at: usize) -> Self {
        let mut end = Self::default();
        end.extend_from(self, at..);
        self.truncate(at);
        end
    }

    /// Takes the rows `rows` out. They are gone at once, whatever becomes of the iterator.
    ///
    /// # Panics
    ///
    /// When one of them is not there.
    fn drain(&mut self, rows: impl RangeBounds<usize>) -> IntoIter<Self> {
        let rows = range_of(rows, self.len());
        if rows.len() == self.len() {
            return IntoIter::new(mem::take(self));
        }
        let mut drained = Self::default();
        drained.extend_from(self, rows.clone());
        self.keep_ranges(&all_but(rows, self.len()));
        IntoIter::new(drained)
    }

    /// Drops the rows for which `keep` is false. If it panics, all rows stay.
    fn retain(&mut self, mut keep: impl FnMut(Self::View<'_>) -> bool) {
        let kept = ranges_where(self.len(), |row| keep(self.view(row)));
        self.keep_ranges(&kept);
    }

    /// Drops rows for which `key` gives what it gives for the row before them. If it panics, all rows stay.
    fn dedup_by_key<K: PartialEq>(&mut self, mut key: impl FnMut(Self::View<'_>) -> K) {
        let mut last = None;
        let kept = ranges_where(self.len(), |row| {
            let key = key(self.view(row));
            let differs = last.as_ref() != Some(&key);
            last = Some(key);
            differs
        });
        self.keep_ranges(&kept);
    }

    /// Puts the rows in reverse order.
    fn reverse(&mut self) {
        let rows: Vec<usize> = (0..self.len()).rev().collect();
        self.rearrange(&rows);
    }

    /// Sorts the rows; equal ones stay in order. If `compare` panics, all rows stay where they are.
    ///
    /// The order is found first; then each column is put into it, once.
    fn sort_by(&mut self, mut compare: impl FnMut(Self::View<'_>, Self::View<'_>) -> Ordering) {
        sort_rows_by(self, |soa, rows| rows.sort_by(|&left, &right| compare(soa.view(left), soa.view(right))));
    }

    /// [Sorts](Self::sort_by) the rows by a key, which is made once for each row.
    fn sort_by_key<K: Ord>(&mut self, mut key: impl FnMut(Self::View<'_>) -> K) {
        sort_rows_by(self, |soa, rows| rows.sort_by_cached_key(|&row| key(soa.view(row))));
    }

    /// [Sorts](Self::sort_by) the rows in less memory; equal ones may come in any order.
    fn sort_unstable_by(&mut self, mut compare: impl FnMut(Self::View<'_>, Self::View<'_>) -> Ordering) {
        sort_rows_by(self, |soa, rows| rows.sort_unstable_by(|&left, &right| compare(soa.view(left), soa.view(right))));
    }

    /// Drops all rows but the first `len`.
    fn truncate(&mut self, len: usize);

    /// Drops all rows.
    fn clear(&mut self);

    /// Makes room for `additional` more rows.
    fn reserve(&mut self, additional: usize);

    /// Gives unused memory back, as far as nobody shares it.
    fn shrink_to_fit(&mut self);

    /// Bytes allocated for the columns.
    fn memory_bytes(&self) -> usize;

    /// The rows as a record batch that shares the columns; nothing is copied but the bits of `bool`s.
    fn to_record_batch(&self) -> RecordBatch;

    /// The rows as a record batch; nothing is copied but the bits of `bool`s.
    fn into_record_batch(self) -> RecordBatch {
        self.to_record_batch()
    }

    /// The rows of a record batch, whose columns are found by name; columns that are no field are left
    /// out. Shares the batch's columns: nothing is copied but `bool`s, text in another layout than
    /// views, and enums whose dictionary lists the names in another order.
    ///
    /// # Errors
    ///
    /// When a column is missing, of another type, NULL where the field is no `Option`, or holds a name
    /// that the enum does not have or a time that chrono cannot express; the error names the column.
    fn from_record_batch(batch: RecordBatch) -> Result<Self>;
}
