//! A store in memory, joined to where its records are kept.

use std::fmt;

use super::serial::blocking;
use super::{ArrowPersistence, MemoryStats, Query, Result, SoAPersistence, one_row};
use crate::error::Error;
use crate::kernel::{KeyColumn, KeyedRecord, MemoryStore, Record, Rows};
use crate::store::{key_condition, matching};

type Columns<R> = <R as Record>::Soa;
type Key<R> = <<R as KeyedRecord>::KeyColumn as KeyColumn>::Key;

/// For the derive: the [`PersistentStore`] of a record.
#[doc(hidden)]
#[macro_export]
macro_rules! __soa_persistence {
    ($(#[$attribute:meta])* $vis:vis $name:ident, [$($params:tt)*] [$($args:tt)*] $record:ident) => {
        $(#[$attribute])*
        $vis type $name<$($params)* P = $crate::persistence::ArrowPersistence<$record<$($args)*>>> =
            $crate::persistence::PersistentStore<$record<$($args)*>, P>;
    };
}

/// What takes time in the number of rows is done on a thread that may block, from so many rows on.
const MANY_ROWS: usize = 4096;

/// Records that are kept in a [`SoAPersistence`] and, once somebody has asked for them all, in memory as well:
/// `PersistentOrderStore` for `Order`.
///
/// Opening reads nothing. Until [`load`](Self::load) or [`kernel`](Self::kernel) is called, a record is looked up, and a query
/// run, where the records are kept; from then on, in memory. Every change is kept before it is made in memory, and keeps the rows that it changes
/// and no others: [`add`](Self::add) costs the same however many there are.
///
/// There should be no other writer of the same records: what others change in a folder after it was loaded is seen
/// after [`unload`](Self::unload).
///
/// A change whose future is dropped is made or not made. So is one that fails without saying that
/// [nothing has changed](super::PersistenceError::changed_nothing). In both cases the records in memory are given up, and loaded
/// again when they are asked for.
///
/// ```
/// use soa_core::{SoA, SoAStore};
///
/// #[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
/// #[soa_store(key = "sku")]
/// struct Stock {
///     sku: String,
///     pieces: u32,
/// }
///
/// # async fn example() -> Result<(), soa_core::persistence::PersistenceError> {
/// # let stock = |sku: &str, pieces| Stock { sku: sku.to_owned(), pieces };
/// let mut store = PersistentStockStore::new();
/// store.add(stock("nail", 100)).await?;
/// store.update("nail", |mut row| *row.pieces() -= 10).await?;
/// assert_eq!(store.get("nail").await?, Some(stock("nail", 90)));
/// assert_eq!(store.remove("nail").await?, Some(stock("nail", 90)));
/// assert_eq!(store.count().await?, 0);
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
pub struct PersistentStore<R: KeyedRecord, P> {
    persistence: P,
    /// All records, once they were loaded. None while a change is kept: if that ends in the middle, they are not known.
    memory: Option<MemoryStore<R>>,
}

impl<R: KeyedRecord> PersistentStore<R, ArrowPersistence<R>> {
    /// No records, kept in memory.
    pub fn new() -> Self {
        Self { persistence: ArrowPersistence::new(), memory: Some(MemoryStore::new()) }
    }
}

impl<R: KeyedRecord> Default for PersistentStore<R, ArrowPersistence<R>> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R: KeyedRecord, P: SoAPersistence<R>> PersistentStore<R, P> {
    /// The records that are kept there. Reads nothing.
    pub fn with_persistence(persistence: P) -> Self {
        Self { persistence, memory: None }
    }

    /// Where the records are kept.
    pub fn persistence(&self) -> &P {
        &self.persistence
    }

    /// Where the records are kept, without those in memory.
    pub fn into_persistence(self) -> P {
        self.persistence
    }

    /// Whether all records are in memory.
    pub fn is_loaded(&self) -> bool {
        self.memory.is_some()
    }

    /// Loads all records into memory, unless they are there.
    ///
    /// # Errors
    ///
    /// When they cannot be read, or are 2^32 or more.
    pub async fn load(&mut self) -> Result<&MemoryStore<R>> {
        let memory = match self.memory.take() {
            Some(memory) => memory,
            None => {
                let rows = self.persistence.load().await?;
                blocking(move || Ok(MemoryStore::from_kernel(rows)?)).await?
            }
        };
        Ok(self.memory.insert(memory))
    }

    /// Gives the records in memory up. They are loaded again when they are asked for.
    pub fn unload(&mut self) {
        self.memory = None;
    }

    /// The columns of all records, which are loaded if they are not in memory.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    pub async fn kernel(&mut self) -> Result<&Columns<R>> {
        Ok(self.load().await?.kernel())
    }

    /// Adds a record, or replaces the one with its key. When this is done, it is as durable as what is
    /// [`put`](SoAPersistence::put) there.
    ///
    /// # Errors
    ///
    /// When a value does not fit its column, or it cannot be kept.
    pub async fn add(&mut self, record: R) -> Result<()> {
        let row = one_row(record)?;
        self.put(row).await
    }

    /// [Adds](Self::add) all of `records`, as durable as by [`put`](SoAPersistence::put), all or none. Returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub async fn add_batch(&mut self, records: impl IntoIterator<Item = R>) -> Result<usize> {
        let mut rows = Columns::<R>::default();
        let records = records.into_iter();
        rows.reserve(records.size_hint().0);
        for record in records {
            rows.try_push(record)?;
        }
        self.add_rows(rows).await
    }

    /// [Adds](Self::add_batch) the records that columns hold. Returns how many there were.
    ///
    /// # Errors
    ///
    /// As [`add`](Self::add).
    pub async fn add_rows(&mut self, rows: Columns<R>) -> Result<usize> {
        let count = rows.len();
        if count > 0 {
            self.put(rows).await?;
        }
        Ok(count)
    }

    /// The record with this key.
    ///
    /// # Errors
    ///
    /// When it cannot be read.
    pub async fn get(&self, key: &Key<R>) -> Result<Option<R>> {
        match &self.memory {
            Some(memory) => Ok(memory.get(key).map(Columns::<R>::to_record)),
            None => Ok(self.row(key).await?.as_ref().map(record_of::<R>)),
        }
    }

    /// Whether there is a record with this key.
    ///
    /// # Errors
    ///
    /// As [`get`](Self::get).
    pub async fn contains(&self, key: &Key<R>) -> Result<bool> {
        match &self.memory {
            Some(memory) => Ok(memory.contains(key)),
            None => Ok(self.row(key).await?.is_some()),
        }
    }

    /// Changes the record with this key and keeps what it is then. Returns what `change` returned, or `None` if there is no such record.
    ///
    /// The key must stay what it is; to change it, remove the record and add it under its new key.
    ///
    /// # Errors
    ///
    /// When `change` changed the key, or the record cannot be read or kept.
    pub async fn update<T>(
        &mut self,
        key: &Key<R>,
        change: impl FnOnce(<Columns<R> as Rows>::Mut<'_>) -> T,
    ) -> Result<Option<T>> {
        let Some(mut row) = self.row(key).await? else { return Ok(None) };
        let value = change(row.view_mut(0));
        if !R::key_column(&row).is_at(0, key) {
            let message = format!("the key {key:?} was changed; remove the record and add it under its new key");
            return Err(Error::value(R::KEY, message).into());
        }
        self.put(row).await?;
        Ok(Some(value))
    }

    /// Takes the record with this key out.
    ///
    /// # Errors
    ///
    /// When it cannot be read, or its removal cannot be kept.
    pub async fn remove(&mut self, key: &Key<R>) -> Result<Option<R>> {
        let Some(row) = self.row(key).await? else { return Ok(None) };
        let memory = self.memory.take();
        let kept = self.persistence.remove(R::key_column(&row)).await;
        self.settle(memory, &kept, |memory| {
            memory.remove(key);
            Ok(())
        });
        kept.map(|()| Some(record_of::<R>(&row)))
    }

    /// The records that match, in no particular order.
    ///
    /// # Errors
    ///
    /// As [`SoAPersistence::query`].
    pub async fn query(&self, query: impl Into<Query>) -> Result<Columns<R>> {
        let query = query.into();
        let Some(memory) = &self.memory else { return self.persistence.query(query).await };
        let rows = memory.kernel().clone();
        match rows.len() < MANY_ROWS {
            true => select::<R>(&rows, &query),
            false => blocking(move || select::<R>(&rows, &query)).await,
        }
    }

    /// How many records there are.
    ///
    /// # Errors
    ///
    /// When that cannot be read.
    pub async fn count(&self) -> Result<u64> {
        match &self.memory {
            Some(memory) => Ok(memory.len() as u64),
            None => self.persistence.count().await,
        }
    }

    /// Removes all records.
    ///
    /// # Errors
    ///
    /// As [`SoAPersistence::clear`].
    pub async fn clear(&mut self) -> Result<()> {
        let memory = self.memory.take();
        let kept = self.persistence.clear().await;
        self.settle(memory, &kept, |memory| {
            memory.clear();
            Ok(())
        });
        kept
    }

    /// What the records take in this process's memory: columns and key index, nothing if they are not loaded. What they take
    /// where they are kept says [`SoAPersistence::memory_stats`] of [`persistence`](Self::persistence).
    pub fn memory_stats(&self) -> MemoryStats {
        let memory = self.memory.as_ref();
        let of = |count: fn(&MemoryStore<R>) -> usize| memory.map_or(0, |memory| count(memory) as u64);
        MemoryStats::new(of(MemoryStore::memory_bytes), of(MemoryStore::len), u64::from(of(MemoryStore::len) > 0))
    }

    /// Publishes what was added: every reader sees it then.
    ///
    /// # Errors
    ///
    /// As [`SoAPersistence::flush`].
    pub async fn flush(&self) -> Result<()> {
        self.persistence.flush().await
    }

    /// [Flushes](Self::flush), and lets go of where the records are kept.
    ///
    /// # Errors
    ///
    /// As [`SoAPersistence::close`].
    pub async fn close(self) -> Result<()> {
        self.persistence.close().await
    }

    /// The row with this key, alone.
    async fn row(&self, key: &Key<R>) -> Result<Option<Columns<R>>> {
        if let Some(memory) = &self.memory {
            return Ok(memory.find(key).map(|row| one_of(memory.kernel(), row)));
        }
        // A key that does not fit the column is none that a record has.
        let Some(condition) = key_condition::<R>(key) else { return Ok(None) };
        let found = self.persistence.query(condition).await?;
        Ok(found.len().checked_sub(1).map(|last| one_of(&found, last)))
    }

    async fn put(&mut self, rows: Columns<R>) -> Result<()> {
        // Taken out: where this ends in the middle, it is not known what is kept.
        let memory = self.memory.take();
        let kept = self.persistence.put(&rows).await;
        match memory {
            Some(mut memory) if kept.is_ok() && rows.len() >= MANY_ROWS => {
                self.memory = blocking(move || Ok(add_rows(&mut memory, &rows).ok().map(|()| memory))).await?;
            }
            memory => self.settle(memory, &kept, |memory| add_rows(memory, &rows)),
        }
        kept
    }

    /// Makes a change in memory that was kept. Where it is not known whether it was, or it does not fit there, what is in
    /// memory is given up.
    fn settle(
        &mut self,
        memory: Option<MemoryStore<R>>,
        kept: &Result<()>,
        change: impl FnOnce(&mut MemoryStore<R>) -> Result<(), Error>,
    ) {
        let Some(mut memory) = memory else { return };
        let is_known = match kept {
            Ok(()) => change(&mut memory).is_ok(),
            Err(error) => error.changed_nothing(),
        };
        self.memory = is_known.then_some(memory);
    }
}

impl<R: KeyedRecord, P: fmt::Debug> fmt::Debug for PersistentStore<R, P> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let loaded = self.memory.as_ref().map(MemoryStore::len);
        f.debug_struct("PersistentStore")
            .field("key", &R::KEY)
            .field("persistence", &self.persistence)
            .field("rows_in_memory", &loaded)
            .finish_non_exhaustive()
    }
}

/// The record that is the only row.
fn record_of<R: Record>(row: &R::Soa) -> R {
    R::Soa::to_record(row.view(0))
}

/// One row of some columns.
fn one_of<S: Rows>(rows: &S, row: usize) -> S {
    let mut one = S::default();
    one.extend_from(rows, row..=row);
    one
}

/// Adds rows, each in the place of the one with its key.
fn add_rows<R: KeyedRecord>(memory: &mut MemoryStore<R>, rows: &Columns<R>) -> Result<(), Error> {
    memory.reserve(if rows.len() > 1 { rows.len() } else { 0 });
    rows.iter().try_for_each(|row| memory.add(Columns::<R>::to_record(row)).map(drop))
}

/// The rows that match.
fn select<R: Record>(rows: &R::Soa, query: &Query) -> Result<R::Soa> {
    let found = match &query.predicate {
        None => rows.clone(),
        Some(predicate) => {
            predicate.check(&R::schema())?;
            R::Soa::from_record_batch(matching(&rows.to_record_batch(), predicate)?)?
        }
    };
    Ok(match query.limit.and_then(|limit| usize::try_from(limit).ok()) {
        Some(limit) if limit < found.len() => found.slice(..limit),
        _ => found,
    })
}
