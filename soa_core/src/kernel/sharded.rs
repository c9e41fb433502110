//! Records in memory that many threads add to.

use std::fmt;
use std::hash::BuildHasher;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

use arrow::record_batch::RecordBatch;
use hashbrown::DefaultHashBuilder;

use super::field::KeyColumn;
use super::record::{KeyedRecord, Rows};
use super::store::MemoryStore;
use crate::error::{Error, Result};

type Key<R> = <<R as KeyedRecord>::KeyColumn as KeyColumn>::Key;

/// A [`MemoryStore`] in shards, each behind a lock of its own: `OrderShardedStore` for `Order`.
///
/// ```
/// use soa_core::{SoA, SoAStore};
///
/// #[derive(Debug, SoA, SoAStore)]
/// #[soa_store(key = "id", shards = 8)]
/// struct Visit {
///     id: u64,
///     pages: u32,
/// }
///
/// let visits = VisitShardedStore::new();
/// std::thread::scope(|scope| {
///     for thread in 0..4 {
///         let visits = &visits;
///         scope.spawn(move || (0..100).try_for_each(|n| visits.add(Visit { id: n * 4 + thread, pages: 1 })));
///     }
/// });
/// let mut all = visits.snapshot();
/// all.sort_by_id();
/// assert!(all.id_raw_array().iter().copied().eq(0..400));
/// ```
///
/// All methods take `&self`. A record's shard follows from its key, so an operation on one record takes
/// one lock.
pub struct ShardedStore<R: KeyedRecord> {
    shards: Box<[Shard<R>]>,
    hasher: DefaultHashBuilder,
}

/// On cache lines of its own, so that one shard's lock does not slow the next one down.
#[repr(align(128))]
struct Shard<R: KeyedRecord>(RwLock<MemoryStore<R>>);

impl<R: KeyedRecord> Shard<R> {
    // A panic under the lock leaves a store whose index is right (see `MemoryStore::update`): go on with it.

    fn read(&self) -> RwLockReadGuard<'_, MemoryStore<R>> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, MemoryStore<R>> {
        self.0.write().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<R: KeyedRecord> ShardedStore<R> {
    /// No records, in as many shards as `#[soa_store(shards = …)]` says.
    pub fn new() -> Self {
        Self::of(R::SHARDS)
    }

    /// No records, in `shards` shards.
    ///
    /// # Errors
    ///
    /// When `shards` is zero.
    pub fn with_shards(shards: usize) -> Result<Self> {
        if shards == 0 {
            return Err(Error::argument("a sharded store needs at least one shard"));
        }
        Ok(Self::of(shards))
    }

    fn of(shards: usize) -> Self {
        let shards = (0..shards.max(1)).map(|_| Shard(RwLock::new(MemoryStore::new()))).collect();
        Self { shards, hasher: DefaultHashBuilder::default() }
    }

    /// Adds a record, or replaces the one with its key. Takes the lock of its shard only.
    ///
    /// # Errors
    ///
    /// When a value does not fit its column, or the shard is full; nothing has changed then.
    pub fn add(&self, record: R) -> Result<()> {
        self.shard(record.key()).write().add(record).map(drop)
    }

    /// Adds a record whose key is not there yet. Takes the lock of its shard only.
    ///
    /// # Errors
    ///
    /// [`Error::DuplicateKey`] when there is a record with its key; otherwise as [`add`](Self::add).
    pub fn try_add(&self, record: R) -> Result<()> {
        self.shard(record.key()).write().try_add(record).map(drop)
    }

    /// [Adds](Self::add) all of `records`, taking each shard's lock once. Returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add) for the first record of a shard that is refused; others may be in.
    pub fn add_batch(&self, records: impl IntoIterator<Item = R>) -> Result<usize> {
        let mut by_shard: Vec<Vec<R>> = self.shards.iter().map(|_| Vec::new()).collect();
        for record in records {
            by_shard[self.shard_of(record.key())].push(record);
        }
        let mut added = 0;
        for (shard, records) in self.shards.iter().zip(by_shard).filter(|(_, records)| !records.is_empty()) {
            added += shard.write().add_batch(records)?;
        }
        Ok(added)
    }

    /// The record with this key.
    pub fn get(&self, key: &Key<R>) -> Option<R> {
        self.with(key, R::Soa::to_record)
    }

    /// What `read` makes of the record with this key, under its shard's lock.
    pub fn with<T>(&self, key: &Key<R>, read: impl FnOnce(<R::Soa as Rows>::View<'_>) -> T) -> Option<T> {
        self.shard(key).read().get(key).map(read)
    }

    /// Whether there is a record with this key.
    pub fn contains(&self, key: &Key<R>) -> bool {
        self.shard(key).read().contains(key)
    }

    /// Changes the record with this key, under its shard's lock, and returns what `change` returned, or
    /// `None` if there is none.
    ///
    /// The key must stay what it is: another key may belong to another shard.
    ///
    /// # Errors
    ///
    /// When `change` changed the key: the record has its old key again then; what else was changed stays.
    pub fn update<T>(&self, key: &Key<R>, change: impl FnOnce(<R::Soa as Rows>::Mut<'_>) -> T) -> Result<Option<T>> {
        self.shard(key).write().update_in_place(key, change)
    }

    /// Adds a record, or gives the row with its key and the record to `merge`, under its shard's lock. Returns whether
    /// it was added. The key must stay what it is, as in [`update`](Self::update).
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add) and [`update`](Self::update).
    pub fn add_or_update(&self, record: R, merge: impl FnOnce(<R::Soa as Rows>::Mut<'_>, R)) -> Result<bool> {
        self.shard(record.key()).write().add_or_update_in_place(record, merge)
    }

    /// Drops the records for which `keep` is false, shard by shard. If it panics, those of its shard and of the ones
    /// after it stay.
    pub fn retain(&self, mut keep: impl FnMut(<R::Soa as Rows>::View<'_>) -> bool) {
        self.shards.iter().for_each(|shard| shard.write().retain(&mut keep));
    }

    /// Takes the record with this key out.
    pub fn remove(&self, key: &Key<R>) -> Option<R> {
        self.shard(key).write().remove(key)
    }

    /// How many records there are. Others may add and remove some meanwhile.
    pub fn len(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().len()).sum()
    }

    /// Whether there is no record. Others may add some meanwhile.
    pub fn is_empty(&self) -> bool {
        self.shards.iter().all(|shard| shard.read().is_empty())
    }

    /// Drops all records.
    pub fn clear(&self) {
        self.shards.iter().for_each(|shard| shard.write().clear());
    }

    /// How many shards there are.
    pub fn shard_count(&self) -> usize {
        self.shards.len()
    }

    /// Calls `read` with each shard, one after the other, under its lock.
    pub fn for_each_shard(&self, mut read: impl FnMut(&MemoryStore<R>)) {
        self.shards.iter().for_each(|shard| read(&shard.read()));
    }

    /// The records of all shards at one moment, shard by shard.
    ///
    /// Who writes waits only until the shards' columns are shared, which takes no time in the number of records: they
    /// are put together afterwards. Meanwhile the first write to a column of a shard copies it. An
    /// [`add_batch`](Self::add_batch) of another thread may be seen in part.
    pub fn snapshot(&self) -> R::Soa {
        // Only here and in `drain` does a thread wait for one lock while it has others, and always for the next one.
        let locked: Vec<_> = self.shards.iter().map(Shard::read).collect();
        let parts: Vec<R::Soa> = locked.iter().map(|store| store.kernel().clone()).collect();
        drop(locked);
        joined(parts)
    }

    /// Takes all records out, at one moment.
    pub fn drain(&self) -> R::Soa {
        let mut locked: Vec<_> = self.shards.iter().map(Shard::write).collect();
        let parts = locked.iter_mut().map(|store| std::mem::take(&mut **store).into_kernel()).collect();
        drop(locked);
        joined(parts)
    }

    /// The records, shard by shard.
    pub fn into_kernel(self) -> R::Soa {
        let stores = self.shards.into_iter().map(|shard| shard.0.into_inner().unwrap_or_else(PoisonError::into_inner));
        joined(stores.map(MemoryStore::into_kernel).collect())
    }

    /// The records as one record batch per shard that has some. The batches share the shards' columns;
    /// each shows its shard at one moment.
    pub fn to_record_batches(&self) -> Vec<RecordBatch> {
        let batch_of = |shard: &Shard<R>| {
            let store = shard.read();
            (!store.is_empty()).then(|| store.kernel().to_record_batch())
        };
        self.shards.iter().filter_map(batch_of).collect()
    }

    /// Bytes allocated for columns and indices.
    pub fn memory_bytes(&self) -> usize {
        self.shards.iter().map(|shard| shard.read().memory_bytes()).sum()
    }

    fn shard_of(&self, key: &Key<R>) -> usize {
        // The shards' own indices hash with other seeds: what is in one shard is spread over its slots.
        (self.hasher.hash_one(key) % self.shards.len() as u64) as usize
    }

    fn shard(&self, key: &Key<R>) -> &Shard<R> {
        &self.shards[self.shard_of(key)]
    }
}

/// The rows of all parts. What a part takes is given back as soon as its rows are copied.
pub(crate) fn joined<S: Rows>(mut parts: Vec<S>) -> S {
    parts.retain(|part| !part.is_empty());
    if parts.len() < 2 {
        return parts.pop().unwrap_or_default();
    }
    let mut all = S::default();
    all.reserve(parts.iter().map(S::len).sum());
    parts.into_iter().for_each(|part| all.extend_from(&part, ..));
    all
}

impl<R: KeyedRecord> Default for ShardedStore<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: KeyedRecord> fmt::Debug for ShardedStore<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ShardedStore").field("key", &R::KEY).field("shards", &self.shards.len()).finish_non_exhaustive()
    }
}
