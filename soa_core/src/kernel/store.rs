//! Records in memory, found by their key.

use std::fmt;
use std::hash::BuildHasher;
use std::ops::{Deref, DerefMut};

use hashbrown::hash_table::Entry;
use hashbrown::{DefaultHashBuilder, HashTable};

use super::field::{FieldColumn, KeyColumn};
use super::record::{KeyedRecord, Record, Rows};
use crate::error::{Error, Result};

type Columns<R> = <R as Record>::Soa;
type Key<R> = <<R as KeyedRecord>::KeyColumn as KeyColumn>::Key;

/// Records in memory with an index of their keys: `OrderStore` for `Order`.
///
/// ```
/// use soa_core::{SoA, SoAStore};
///
/// #[derive(Debug, SoA, SoAStore)]
/// #[soa_store(key = "sku")]
/// struct Stock {
///     sku: String,
///     pieces: u32,
/// }
///
/// # fn main() -> soa_core::Result<()> {
/// # let stock = |sku: &str, pieces| Stock { sku: sku.to_owned(), pieces };
/// let mut store = StockStore::new();
/// store.add(stock("nail", 100))?;
/// store.add_or_update(stock("nail", 50), |mut row, more| *row.pieces() += more.pieces)?;
/// assert_eq!(store.get("nail").map(|stock| stock.pieces), Some(150));
/// assert_eq!(store.kernel().pieces_raw_array(), [150]);
/// # Ok(())
/// # }
/// ```
///
/// The index is four bytes and a tag byte per slot: 5.7 to 11.5 bytes per row. It holds at most 2^32 - 1 rows.
pub struct MemoryStore<R: KeyedRecord> {
    rows: Columns<R>,
    /// The row of each key; empty, with rows there, only while a [`KernelMut`] that wrote is alive (or leaked).
    index: HashTable<u32>,
    hasher: DefaultHashBuilder,
}

impl<R: KeyedRecord> MemoryStore<R> {
    /// No records.
    pub fn new() -> Self {
        Self { rows: Columns::<R>::default(), index: HashTable::new(), hasher: DefaultHashBuilder::default() }
    }

    /// No records, and room for `rows` of them.
    pub fn with_capacity(rows: usize) -> Self {
        let mut store = Self::new();
        store.reserve(rows);
        store
    }

    /// Records from columns. Where a key comes twice, the later row replaces the earlier one.
    ///
    /// # Errors
    ///
    /// When there are 2^32 rows or more.
    pub fn from_kernel(rows: Columns<R>) -> Result<Self> {
        if u32::try_from(rows.len()).is_err() {
            return Err(too_many());
        }
        let mut store = Self { rows, ..Self::new() };
        store.rebuild();
        Ok(store)
    }

    /// Adds a record, or replaces the one with its key. Returns its row.
    ///
    /// # Errors
    ///
    /// When a value does not fit its column, or there are 2^32 - 1 rows; nothing has changed then.
    pub fn add(&mut self, record: R) -> Result<usize> {
        self.put(record, |rows, row, record| rows.try_set(row, record))
    }

    /// Adds a record whose key is not there yet. Returns its row.
    ///
    /// # Errors
    ///
    /// [`Error::DuplicateKey`] when there is a record with its key; otherwise as [`add`](Self::add).
    pub fn try_add(&mut self, record: R) -> Result<usize> {
        self.put(record, |_, _, record| Err(taken::<R>(record.key())))
    }

    /// [Adds](Self::add) all of `records`. Returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add) for the first record that is refused; those before it stay.
    pub fn add_batch(&mut self, records: impl IntoIterator<Item = R>) -> Result<usize> {
        let records = records.into_iter();
        self.reserve(records.size_hint().0);
        let mut added = 0;
        for record in records {
            self.add(record)?;
            added += 1;
        }
        Ok(added)
    }

    /// The record with this key.
    pub fn get(&self, key: &Key<R>) -> Option<<Columns<R> as Rows>::View<'_>> {
        self.find(key).map(|row| self.rows.view(row))
    }

    /// The row of the record with this key. It holds until a record is removed.
    pub fn find(&self, key: &Key<R>) -> Option<usize> {
        let column = R::key_column(&self.rows);
        self.index.find(self.hasher.hash_one(key), |&row| column.is_at(row as usize, key)).map(|&row| row as usize)
    }

    /// Whether there is a record with this key.
    pub fn contains(&self, key: &Key<R>) -> bool {
        self.find(key).is_some()
    }

    /// Changes the record with this key and returns what `change` returned, or `None` if there is none.
    ///
    /// The key may be changed too: the record is then found by the new one.
    ///
    /// # Errors
    ///
    /// [`Error::DuplicateKey`] when it was changed to the key of another record: the record has its old
    /// key again then; what else was changed stays.
    pub fn update<T>(
        &mut self,
        key: &Key<R>,
        change: impl FnOnce(<Columns<R> as Rows>::Mut<'_>) -> T,
    ) -> Result<Option<T>> {
        self.change(key, change, true)
    }

    /// [Updates](Self::update) a record whose key must stay what it is.
    pub(super) fn update_in_place<T>(
        &mut self,
        key: &Key<R>,
        change: impl FnOnce(<Columns<R> as Rows>::Mut<'_>) -> T,
    ) -> Result<Option<T>> {
        self.change(key, change, false)
    }

    fn change<T>(
        &mut self,
        key: &Key<R>,
        change: impl FnOnce(<Columns<R> as Rows>::Mut<'_>) -> T,
        may_rekey: bool,
    ) -> Result<Option<T>> {
        let Some(row) = self.find(key) else { return Ok(None) };
        let mut row_change = RowChange { store: self, row, key, may_rekey, settled: false };
        let value = change(row_change.store.rows.view_mut(row));
        row_change.settle()?;
        Ok(Some(value))
    }

    /// Adds a record, or gives the row with its key and the record to `merge`. Returns whether it was added.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add) and [`update`](Self::update).
    pub fn add_or_update(&mut self, record: R, merge: impl FnOnce(<Columns<R> as Rows>::Mut<'_>, R)) -> Result<bool> {
        self.add_or_change(record, merge, true)
    }

    /// [Adds or updates](Self::add_or_update) a record whose key must stay what it is.
    pub(super) fn add_or_update_in_place(
        &mut self,
        record: R,
        merge: impl FnOnce(<Columns<R> as Rows>::Mut<'_>, R),
    ) -> Result<bool> {
        self.add_or_change(record, merge, false)
    }

    fn add_or_change(
        &mut self,
        record: R,
        merge: impl FnOnce(<Columns<R> as Rows>::Mut<'_>, R),
        may_rekey: bool,
    ) -> Result<bool> {
        let Some(row) = self.find(record.key()) else { return self.add(record).map(|_| true) };
        let key = R::KeyColumn::to_value(R::key_column(&self.rows).get(row));
        self.change(R::KeyColumn::key(&key), |row| merge(row, record), may_rekey).map(|_| false)
    }

    /// Drops the records for which `keep` is false; takes time in the number of all. If it panics, all stay.
    pub fn retain(&mut self, keep: impl FnMut(<Columns<R> as Rows>::View<'_>) -> bool) {
        self.kernel_mut().retain(keep);
    }

    /// Takes all records out. They are gone at once, whatever becomes of the iterator.
    pub fn drain(&mut self) -> super::IntoIter<Columns<R>> {
        self.index.clear();
        super::IntoIter::new(std::mem::take(&mut self.rows))
    }

    /// Takes the record with this key out; the last row takes its place.
    pub fn remove(&mut self, key: &Key<R>) -> Option<R> {
        let row = self.find(key)?;
        self.unindex(key, row);
        let last = self.rows.len() - 1;
        if row != last {
            let hash = R::key_column(&self.rows).hash_at(last, &self.hasher);
            let moved = self.index.find_mut(hash, |&found| found as usize == last);
            // Rows are below 2^32: `row_number` saw to it when they came.
            *moved.expect("every row is in the index") = row as u32;
        }
        Some(self.rows.swap_remove(row))
    }

    /// How many records there are.
    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Whether there is no record.
    pub fn is_empty(&self) -> bool {
        self.rows.is_empty()
    }

    /// The records, in the order of their rows.
    pub fn iter(&self) -> super::Iter<'_, Columns<R>> {
        self.rows.iter()
    }

    /// Drops all records.
    pub fn clear(&mut self) {
        self.rows.clear();
        self.index.clear();
    }

    /// Makes room for `additional` more records.
    pub fn reserve(&mut self, additional: usize) {
        self.rows.reserve(additional);
        let column = R::key_column(&self.rows);
        self.index.reserve(additional, |&row| column.hash_at(row as usize, &self.hasher));
    }

    /// Gives unused memory back, as far as nobody shares it.
    pub fn shrink_to_fit(&mut self) {
        self.rows.shrink_to_fit();
        let column = R::key_column(&self.rows);
        self.index.shrink_to_fit(|&row| column.hash_at(row as usize, &self.hasher));
    }

    /// Bytes allocated for columns and index.
    pub fn memory_bytes(&self) -> usize {
        self.rows.memory_bytes() + self.index.allocation_size()
    }

    /// The columns.
    pub fn kernel(&self) -> &Columns<R> {
        &self.rows
    }

    /// The columns, to be written. The index is made anew when the guard goes, if it was written through:
    /// that takes time in the number of rows. Where a key comes twice then, the later row replaces the
    /// earlier one, as [`add`](Self::add) would have done; [`KernelMut::finish`] says how often.
    pub fn kernel_mut(&mut self) -> KernelMut<'_, R> {
        KernelMut { store: self, written: false }
    }

    /// The columns, without the index.
    pub fn into_kernel(self) -> Columns<R> {
        self.rows
    }

    fn put(&mut self, record: R, replace: impl FnOnce(&mut Columns<R>, usize, R) -> Result<()>) -> Result<usize> {
        let hash = self.hasher.hash_one(record.key());
        let column = R::key_column(&self.rows);
        let entry = self.index.entry(
            hash,
            |&row| column.is_at(row as usize, record.key()),
            |&row| column.hash_at(row as usize, &self.hasher),
        );
        match entry {
            Entry::Occupied(found) => {
                let row = *found.get() as usize;
                replace(&mut self.rows, row, record)?;
                Ok(row)
            }
            Entry::Vacant(vacant) => {
                let row = self.rows.len();
                let number = row_number(row)?;
                self.rows.try_push(record)?;
                vacant.insert(number);
                Ok(row)
            }
        }
    }

    /// Adds a record that was found to fit, or replaces the one with its key.
    ///
    /// # Errors
    ///
    /// When the store is full; nothing has changed then.
    pub(super) fn put_stored(&mut self, stored: <Columns<R> as Rows>::Stored) -> Result<()> {
        let row = self.rows.len();
        self.rows.push_stored(stored);
        let column = R::key_column(&self.rows);
        let entry = self.index.entry(
            column.hash_at(row, &self.hasher),
            |&found| column.get(found as usize) == column.get(row),
            |&row| column.hash_at(row as usize, &self.hasher),
        );
        match entry {
            Entry::Occupied(found) => {
                let record = self.rows.swap_remove(row);
                self.rows.try_set(*found.get() as usize, record)
            }
            Entry::Vacant(vacant) => match row_number(row) {
                Ok(number) => {
                    vacant.insert(number);
                    Ok(())
                }
                Err(full) => {
                    self.rows.truncate(row);
                    Err(full)
                }
            },
        }
    }

    /// Takes the entry of `row`, which was indexed under `key`, out of the index.
    fn unindex(&mut self, key: &Key<R>, row: usize) {
        if let Ok(entry) = self.index.find_entry(self.hasher.hash_one(key), |&found| found as usize == row) {
            entry.remove();
        }
    }

    /// Indexes all rows. Returns how many were replaced by a later row with the same key.
    fn rebuild(&mut self) -> usize {
        let before = self.rows.len();
        self.index.clear();
        self.index.reserve(before, |_| unreachable!("an empty index has nothing to hash"));
        // Rows that stay move to the front in their order; no row moves before it was looked at, so that of rows with one
        // key the last one always replaces the others.
        let mut kept = 0;
        for row in 0..before {
            let column = R::key_column(&self.rows);
            let hash = column.hash_at(row, &self.hasher);
            let known = self.index.find(hash, |&found| column.get(found as usize) == column.get(row)).copied();
            let target = known.map_or(kept, |found| found as usize);
            if target != row {
                let record = Columns::<R>::to_record(self.rows.view(row));
                self.rows.try_set(target, record).expect("a value that was in the columns fits them");
            }
            if known.is_none() {
                // `from_kernel` and `KernelMut` refuse more rows than fit.
                self.index.insert_unique(hash, kept as u32, |_| unreachable!("there is room for all rows"));
                kept += 1;
            }
        }
        self.rows.truncate(kept);
        before - kept
    }
}

/// The most records of a store.
pub(super) const ROWS_MAX: usize = u32::MAX as usize;

/// A row as the index has it.
fn row_number(row: usize) -> Result<u32> {
    u32::try_from(row).ok().filter(|&row| (row as usize) < ROWS_MAX).ok_or_else(too_many)
}

fn too_many() -> Error {
    Error::argument("a store in memory holds at most 4294967295 rows; use a sharded store or one on disk")
}

fn taken<R: KeyedRecord>(key: &Key<R>) -> Error {
    Error::DuplicateKey { column: R::KEY.to_owned(), key: format!("{key:?}") }
}

fn rekeyed<R: KeyedRecord>(key: &Key<R>) -> Error {
    let message = format!("the key {key:?} was changed in place; remove the record and add it under its new key");
    Error::value(R::KEY, message)
}

/// A row that is being changed: puts the index right afterwards, whichever way the change ends.
struct RowChange<'a, R: KeyedRecord> {
    store: &'a mut MemoryStore<R>,
    row: usize,
    /// The key under which the index has the row.
    key: &'a Key<R>,
    may_rekey: bool,
    settled: bool,
}

impl<R: KeyedRecord> RowChange<'_, R> {
    fn settle(&mut self) -> Result<()> {
        self.settled = true;
        let (store, row) = (&mut *self.store, self.row);
        if R::key_column(&store.rows).is_at(row, self.key) {
            return Ok(());
        }
        let changed = Columns::<R>::to_record(store.rows.view(row));
        // The row itself is still in the index, under its old key: it must not be taken for another one.
        let hash = store.hasher.hash_one(changed.key());
        let column = R::key_column(&store.rows);
        let another = |&found: &u32| found as usize != row && column.is_at(found as usize, changed.key());
        if !self.may_rekey || store.index.find(hash, another).is_some() {
            R::key_column_mut(&mut store.rows).set(row, R::KeyColumn::stored(self.key));
            return Err(if self.may_rekey { taken::<R>(changed.key()) } else { rekeyed::<R>(self.key) });
        }
        store.unindex(self.key, row);
        let column = R::key_column(&store.rows);
        store.index.insert_unique(hash, row as u32, |&row| column.hash_at(row as usize, &store.hasher));
        Ok(())
    }
}

impl<R: KeyedRecord> Drop for RowChange<'_, R> {
    fn drop(&mut self) {
        if !self.settled {
            // The change panicked: a key it set to another record's is taken back, which is all there is to do.
            let _ = self.settle();
        }
    }
}

/// The columns of a [`MemoryStore`], to be written. Puts the key index right when it goes.
pub struct KernelMut<'a, R: KeyedRecord> {
    store: &'a mut MemoryStore<R>,
    written: bool,
}

impl<R: KeyedRecord> KernelMut<'_, R> {
    /// Puts the key index right. Returns how many rows were replaced by a later one with the same key.
    pub fn finish(mut self) -> usize {
        self.settle()
    }

    fn settle(&mut self) -> usize {
        if !std::mem::take(&mut self.written) {
            return 0;
        }
        // Rows beyond the last number that the index can hold would not be found: they are dropped.
        self.store.rows.truncate(u32::MAX as usize);
        self.store.rebuild()
    }
}

impl<R: KeyedRecord> Deref for KernelMut<'_, R> {
    type Target = Columns<R>;

    fn deref(&self) -> &Columns<R> {
        &self.store.rows
    }
}

impl<R: KeyedRecord> DerefMut for KernelMut<'_, R> {
    fn deref_mut(&mut self) -> &mut Columns<R> {
        if !self.written {
            self.written = true;
            // Should the guard be leaked, no entry points to a row that is not there any more.
            self.store.index.clear();
        }
        &mut self.store.rows
    }
}

impl<R: KeyedRecord> Drop for KernelMut<'_, R> {
    fn drop(&mut self) {
        self.settle();
    }
}

impl<R: KeyedRecord> fmt::Debug for KernelMut<'_, R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KernelMut").field("rows", &self.store.len()).finish_non_exhaustive()
    }
}

impl<'a, R: KeyedRecord> IntoIterator for &'a MemoryStore<R> {
    type Item = <Columns<R> as Rows>::View<'a>;
    type IntoIter = super::Iter<'a, Columns<R>>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl<R: KeyedRecord> IntoIterator for MemoryStore<R> {
    type Item = R;
    type IntoIter = super::IntoIter<Columns<R>>;

    fn into_iter(self) -> Self::IntoIter {
        super::IntoIter::new(self.rows)
    }
}

impl<R: KeyedRecord> Default for MemoryStore<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: KeyedRecord> Clone for MemoryStore<R> {
    /// Shares the columns; whichever of the two is written first copies what it writes.
    fn clone(&self) -> Self {
        Self { rows: self.rows.clone(), index: self.index.clone(), hasher: self.hasher.clone() }
    }
}

impl<R: KeyedRecord> fmt::Debug for MemoryStore<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MemoryStore").field("key", &R::KEY).field("rows", &self.len()).finish_non_exhaustive()
    }
}
