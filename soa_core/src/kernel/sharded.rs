//! Records in memory that many threads add to.

use std::collections::VecDeque;
use std::fmt;
use std::hash::BuildHasher;
use std::mem;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard, TryLockError};

use arrow::record_batch::RecordBatch;
use hashbrown::DefaultHashBuilder;

use super::field::KeyColumn;
use super::record::{KeyedRecord, Rows};
use super::store::{MemoryStore, ROWS_MAX};
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
/// one lock. A closure that is given to one of them runs under it: it may [`add`](Self::add) records (to a shard that is
/// not half full, of four billion), but must not read the store or change other records, for it could wait for itself.
pub struct ShardedStore<R: KeyedRecord> {
    shards: Box<[Shard<R>]>,
    hasher: DefaultHashBuilder,
}

type Stored<R> = <<R as super::Record>::Soa as Rows>::Stored;

/// A part of the records.
///
/// A record in columns lies on as many cache lines as there are columns, and one core takes each of them over from another
/// when threads add to one shard in turns. So what comes one by one waits in a vector, of which a record takes a line or two,
/// until somebody asks for the shard's records or there are enough of them to be put into the columns together.
struct Shard<R: KeyedRecord> {
    inbox: Inbox<R>,
    settled: Apart<RwLock<Settled<R>>>,
}

/// On cache lines of its own, so that one lock does not slow the next one down.
#[repr(align(128))]
struct Apart<T>(T);

/// What was added and is not in the columns yet. Who holds a store's lock may wait for its inbox's, never the other way
/// round.
#[repr(align(128))]
struct Inbox<R: KeyedRecord> {
    arrived: Mutex<Arrived<R>>,
    /// How many there are, to be read without the lock.
    waiting: AtomicUsize,
}

struct Arrived<R: KeyedRecord> {
    records: VecDeque<Stored<R>>,
    /// For how many more the store has room, if each has a key of its own.
    room: usize,
}

struct Settled<R: KeyedRecord> {
    store: MemoryStore<R>,
    /// An empty queue, with its memory: the inbox's next one.
    spare: VecDeque<Stored<R>>,
}

/// Records on their way from an inbox into the columns. Those that a panic (there is no memory for one's text) keeps from that
/// go back.
struct Settling<'a, R: KeyedRecord> {
    inbox: &'a Inbox<R>,
    records: VecDeque<Stored<R>>,
}

impl<R: KeyedRecord> Drop for Settling<'_, R> {
    fn drop(&mut self) {
        if !self.records.is_empty() {
            let mut arrived = self.inbox.lock();
            self.records.append(&mut arrived.records);
            self.inbox.put_back(&mut arrived, mem::take(&mut self.records));
        }
    }
}

/// When as many records wait they are put into the columns together, unless somebody has the columns just then.
const INBOX_ROWS: usize = 512;

impl<R: KeyedRecord> Inbox<R> {
    fn lock(&self) -> MutexGuard<'_, Arrived<R>> {
        self.arrived.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_empty(&self) -> bool {
        self.waiting.load(Ordering::SeqCst) == 0
    }

    /// Takes a record in, unless there may be no room for it. Returns how many wait.
    fn push(&self, stored: Stored<R>) -> Result<usize, Stored<R>> {
        let mut arrived = self.lock();
        if arrived.room == 0 {
            return Err(stored);
        }
        arrived.room -= 1;
        arrived.records.push_back(stored);
        self.waiting.store(arrived.records.len(), Ordering::SeqCst);
        Ok(arrived.records.len())
    }

    fn put_back(&self, arrived: &mut Arrived<R>, records: VecDeque<Stored<R>>) {
        arrived.records = records;
        self.waiting.store(arrived.records.len(), Ordering::SeqCst);
    }
}

impl<R: KeyedRecord> Settled<R> {
    fn memory_bytes(&self) -> usize {
        self.store.memory_bytes() + self.spare.capacity() * size_of::<Stored<R>>()
    }

    /// Takes out what waits, for which the columns have [room](MemoryStore::reserve) already.
    fn take<'a>(&mut self, inbox: &'a Inbox<R>, arrived: &mut Arrived<R>) -> Settling<'a, R> {
        let records = mem::replace(&mut arrived.records, mem::take(&mut self.spare));
        arrived.room = ROWS_MAX.saturating_sub(self.store.len() + records.len());
        inbox.waiting.store(0, Ordering::SeqCst);
        Settling { inbox, records }
    }

    fn settle(&mut self, mut settling: Settling<'_, R>) {
        while let Some(record) = settling.records.pop_front() {
            self.store.put_stored(record).expect("an inbox takes no more than there is room for");
        }
        self.spare = mem::take(&mut settling.records);
    }
}

impl<R: KeyedRecord> Shard<R> {
    fn new() -> Self {
        let arrived = Mutex::new(Arrived { records: VecDeque::new(), room: ROWS_MAX });
        let settled = RwLock::new(Settled { store: MemoryStore::new(), spare: VecDeque::new() });
        Self { inbox: Inbox { arrived, waiting: AtomicUsize::new(0) }, settled: Apart(settled) }
    }

    // A panic under a lock leaves a store whose index is right (see `MemoryStore::update`): go on with it.

    fn lock(&self) -> RwLockWriteGuard<'_, Settled<R>> {
        self.settled.0.write().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Reading<'_, R> {
        if !self.inbox.is_empty() {
            drop(self.write());
        }
        Reading(self.settled.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn write(&self) -> Writing<'_, R> {
        self.writing(self.lock())
    }

    fn writing<'a>(&'a self, mut settled: RwLockWriteGuard<'a, Settled<R>>) -> Writing<'a, R> {
        if !self.inbox.is_empty() {
            let mut arrived = self.inbox.lock();
            settled.store.reserve(arrived.records.len());
            let records = settled.take(&self.inbox, &mut arrived);
            drop(arrived);
            settled.settle(records);
        }
        let rows = settled.store.len();
        if rows > ROWS_MAX / 2 {
            // How much room there is follows from what is written now: who adds waits for that.
            self.inbox.lock().room = 0;
        }
        Writing { inbox: &self.inbox, settled, rows }
    }

    fn memory_bytes(&self) -> usize {
        let arrived = self.inbox.lock().records.capacity();
        self.read().0.memory_bytes() + arrived * size_of::<Stored<R>>()
    }

    fn add(&self, stored: Stored<R>) -> Result<()> {
        match self.inbox.push(stored) {
            Ok(waiting) => {
                // Who adds does not wait for a reader, who may be the same thread: the next one tries again.
                if waiting >= INBOX_ROWS {
                    match self.settled.0.try_write() {
                        Ok(settled) => drop(self.writing(settled)),
                        Err(TryLockError::Poisoned(settled)) => drop(self.writing(settled.into_inner())),
                        Err(TryLockError::WouldBlock) => {}
                    }
                }
                Ok(())
            }
            Err(stored) => self.write().put_stored(stored),
        }
    }

    fn into_store(self) -> MemoryStore<R> {
        drop(self.write());
        self.settled.0.into_inner().unwrap_or_else(PoisonError::into_inner).store
    }
}

/// All records of a shard, to be read.
struct Reading<'a, R: KeyedRecord>(RwLockReadGuard<'a, Settled<R>>);

impl<R: KeyedRecord> Deref for Reading<'_, R> {
    type Target = MemoryStore<R>;

    fn deref(&self) -> &MemoryStore<R> {
        &self.0.store
    }
}

/// All records of a shard, to be written.
struct Writing<'a, R: KeyedRecord> {
    inbox: &'a Inbox<R>,
    settled: RwLockWriteGuard<'a, Settled<R>>,
    /// How many records there were.
    rows: usize,
}

impl<R: KeyedRecord> Deref for Writing<'_, R> {
    type Target = MemoryStore<R>;

    fn deref(&self) -> &MemoryStore<R> {
        &self.settled.store
    }
}

impl<R: KeyedRecord> DerefMut for Writing<'_, R> {
    fn deref_mut(&mut self) -> &mut MemoryStore<R> {
        &mut self.settled.store
    }
}

impl<R: KeyedRecord> Drop for Writing<'_, R> {
    /// Tells the inbox how much room is left.
    fn drop(&mut self) {
        let rows = self.settled.store.len();
        if rows != self.rows || rows > ROWS_MAX / 2 {
            let mut arrived = self.inbox.lock();
            arrived.room = ROWS_MAX.saturating_sub(rows + arrived.records.len());
        }
    }
}

/// The stores of all shards at one moment, and their locks.
fn all_at_once<R: KeyedRecord>(shards: &[Shard<R>]) -> Vec<RwLockWriteGuard<'_, Settled<R>>> {
    // Only here does a thread wait for one lock while it has others of its kind, and always for the next one.
    let mut locked: Vec<_> = shards.iter().map(Shard::lock).collect();
    let mut inboxes: Vec<_> = shards.iter().map(|shard| shard.inbox.lock()).collect();
    // For all of them first: should there be no memory, what waits is still where it is.
    locked.iter_mut().zip(&inboxes).for_each(|(settled, arrived)| settled.store.reserve(arrived.records.len()));
    let waiting = locked.iter_mut().zip(shards).zip(&mut inboxes);
    let waiting: Vec<_> = waiting.map(|((settled, shard), arrived)| settled.take(&shard.inbox, arrived)).collect();
    drop(inboxes);
    locked.iter_mut().zip(waiting).for_each(|(settled, records)| settled.settle(records));
    locked
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
        let shards = (0..shards.max(1)).map(|_| Shard::new()).collect();
        Self { shards, hasher: DefaultHashBuilder::default() }
    }

    /// Adds a record, or replaces the one with its key. Takes a lock of its shard only, and not the one that reading takes.
    ///
    /// # Errors
    ///
    /// When a value does not fit its column, or the shard is full; nothing has changed then.
    pub fn add(&self, record: R) -> Result<()> {
        let shard = self.shard(record.key());
        shard.add(R::Soa::encode(record)?)
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
        let locked = all_at_once(&self.shards);
        let parts: Vec<R::Soa> = locked.iter().map(|settled| settled.store.kernel().clone()).collect();
        drop(locked);
        joined(parts)
    }

    /// Takes all records out, at one moment.
    pub fn drain(&self) -> R::Soa {
        let mut locked = all_at_once(&self.shards);
        let parts = locked.iter_mut().map(|settled| mem::take(&mut settled.store).into_kernel()).collect();
        drop(locked);
        joined(parts)
    }

    /// The records, shard by shard.
    pub fn into_kernel(self) -> R::Soa {
        joined(self.shards.into_iter().map(|shard| shard.into_store().into_kernel()).collect())
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

    /// Bytes allocated for columns, indices and records that are to be put into the columns.
    pub fn memory_bytes(&self) -> usize {
        self.shards.iter().map(Shard::memory_bytes).sum()
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
