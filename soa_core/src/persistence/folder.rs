//! A folder that is a store of one type of records: what the Parquet backends are made of.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use super::puts::Puts;
use super::serial::Serial;
use super::store::stats;
use super::{MemoryStats, PersistenceError, Query, Result};
use crate::error::Error;
use crate::kernel::{FieldColumn, KeyedRecord, Rows, StoredRecord};
use crate::schema::Schema;
use crate::store::{Backend, Compression, OsBackend, TypedStore, Writer, WriterOptions};

/// A folder and, once a row has come alone, its write-ahead log.
pub(super) struct Folder<R> {
    shared: Arc<Shared<R>>,
    /// The writer, while there is one. Who has this has the folder, as far as this value is concerned.
    writer: Serial<Option<Writer>>,
    puts: Arc<Puts>,
}

/// What does not change, but for being found out.
struct Shared<R> {
    place: Place,
    /// The store, once it was opened.
    store: OnceLock<TypedStore<R>>,
    /// Once the table says how its files are compressed.
    is_set_up: OnceLock<()>,
}

/// Where a folder is, and what it should be when it is made.
#[derive(Debug, Clone)]
pub(super) struct Place {
    pub(super) path: PathBuf,
    pub(super) backend: Arc<dyn Backend>,
    /// The column that partitions it, if one does that the record does not name.
    pub(super) partition_by: Option<String>,
    pub(super) compression: Option<Compression>,
    pub(super) options: WriterOptions,
}

impl Place {
    pub(super) fn new(path: &Path, partition_by: Option<String>) -> Self {
        let (path, backend) = (path.to_owned(), Arc::new(OsBackend));
        Self { path, backend, partition_by, compression: None, options: WriterOptions::default() }
    }

    /// The table that records are kept in here.
    fn table<R: StoredRecord>(&self) -> Result<Schema, Error> {
        match &self.partition_by {
            None => Ok(R::table_schema()),
            Some(column) => R::table_schema().with_partition_by(&[column]),
        }
    }
}

impl<R: StoredRecord> Shared<R> {
    /// The store, if there is one.
    ///
    /// # Errors
    ///
    /// When what is there is no store of such records.
    fn existing(&self) -> Result<Option<TypedStore<R>>> {
        if let Some(store) = self.store.get() {
            return Ok(Some(store.clone()));
        }
        let Place { path, backend, .. } = &self.place;
        match TypedStore::open_on(Arc::clone(backend), path, self.place.table::<R>()?) {
            Ok(store) => Ok(Some(self.store.get_or_init(|| store).clone())),
            Err(Error::NotFound { .. }) => Ok(None),
            // A folder without anything in it may become one.
            Err(Error::NotAStore { .. }) if backend.list_all(path).is_ok_and(|found| found.is_empty()) => Ok(None),
            Err(error) => Err(PersistenceError::of_table(path, error)),
        }
    }

    /// The store to write to, which is made if there is none, and compresses its files as wished.
    ///
    /// # Errors
    ///
    /// As [`existing`](Self::existing), and when it cannot be written.
    fn made(&self) -> Result<TypedStore<R>> {
        let Place { path, backend, compression, .. } = &self.place;
        let store = match self.existing()? {
            Some(store) => store,
            None => {
                let made = TypedStore::open_or_create_on(Arc::clone(backend), path, self.place.table::<R>()?);
                let made = made.map_err(|error| PersistenceError::of_table(path, error))?;
                self.store.get_or_init(|| made).clone()
            }
        };
        if let Some(compression) = compression.filter(|_| self.is_set_up.get().is_none()) {
            store.store().set_compression(compression)?;
            let _ = self.is_set_up.set(());
        }
        Ok(store)
    }
}

impl<R: StoredRecord> Folder<R> {
    pub(super) fn new(place: Place) -> Self {
        Self {
            shared: Arc::new(Shared { place, store: OnceLock::new(), is_set_up: OnceLock::new() }),
            writer: Serial::new(None),
            puts: Arc::default(),
        }
    }

    pub(super) fn place(&self) -> &Place {
        &self.shared.place
    }

    /// Another one for the same place, changed; for settings, before it is used.
    pub(super) fn with(&self, change: impl FnOnce(&mut Place)) -> Self {
        let mut place = self.place().clone();
        change(&mut place);
        Self::new(place)
    }

    pub(super) async fn store(&self) -> Result<TypedStore<R>> {
        let shared = Arc::clone(&self.shared);
        self.writer.read(move |_| shared.made()).await
    }

    /// Makes a change that needs the write-ahead log to be nobody's.
    async fn publish(&self, change: impl FnOnce(&TypedStore<R>) -> Result<(), Error> + Send + 'static) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        self.writer
            .write(move |writer| {
                let store = shared.made()?;
                close(writer)?;
                Ok(change(&store)?)
            })
            .await
    }

    /// Makes a change through the write-ahead log.
    async fn log(&self, change: impl FnOnce(&Writer) -> Result<(), Error> + Send + 'static) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        self.writer
            .write(move |writer| {
                let open = match writer.take() {
                    Some(open) => open,
                    None => {
                        let store = shared.made()?;
                        store.evolve()?;
                        store.store().writer(shared.place.options.clone())?
                    }
                };
                let done = change(&open);
                *writer = Some(open);
                give_up_failed(writer, &done);
                Ok(done?)
            })
            .await
    }

    pub(super) async fn save(&self, rows: &R::Soa) -> Result<()> {
        let rows = rows.clone();
        self.publish(move |store| store.overwrite(&rows).map(drop)).await
    }

    /// Publishes rows. While there is a writer it does so, and keeps its log.
    pub(super) async fn append(&self, rows: &R::Soa) -> Result<()> {
        let (shared, rows) = (Arc::clone(&self.shared), rows.clone());
        self.writer
            .write(move |writer| match writer {
                None => Ok(shared.made()?.put(&rows)?),
                Some(open) => {
                    let done = open.add_batch(&rows.to_record_batch()).and_then(|()| open.flush().map(drop));
                    give_up_failed(writer, &done);
                    Ok(done?)
                }
            })
            .await
    }

    /// Adds rows to the log, together with those of others that wait for their turn.
    pub(super) async fn put(&self, rows: &R::Soa) -> Result<()> {
        let waiting = self.puts.add(rows.to_record_batch());
        let puts = Arc::clone(&self.puts);
        let logged = self.log(move |writer| puts.write(writer, &R::schema())).await;
        let lost = || {
            let (path, message) = (self.place().path.clone(), "a thread that wrote rows has panicked".to_owned());
            Err(Error::WriterFailed { path, message }.into())
        };
        waiting.outcome().unwrap_or_else(|| logged.and_then(|()| lost()))
    }

    pub(super) async fn remove(&self, keys: &R::KeyColumn) -> Result<()>
    where
        R: KeyedRecord,
    {
        let keys = keys.to_array();
        self.log(move |writer| writer.delete(&keys)).await
    }

    pub(super) async fn query(&self, query: Query) -> Result<R::Soa> {
        self.read(move |store| store.query(query.predicate.as_ref(), query.limit)).await
    }

    pub(super) async fn count(&self) -> Result<u64> {
        self.read(|store| store.count()).await
    }

    pub(super) async fn memory_stats(&self) -> Result<MemoryStats> {
        self.read(|store| stats(store.store())).await
    }

    /// Reads what there is; nothing, if there is no store.
    async fn read<T: Default + Send + 'static>(
        &self,
        read: impl FnOnce(&TypedStore<R>) -> Result<T, Error> + Send + 'static,
    ) -> Result<T> {
        let shared = Arc::clone(&self.shared);
        self.writer.read(move |_| shared.existing()?.map_or(Ok(T::default()), |store| Ok(read(&store)?))).await
    }

    pub(super) async fn flush(&self) -> Result<()> {
        self.writer.read(|writer| writer.as_ref().map_or(Ok(()), |writer| Ok(writer.flush().map(drop)?))).await
    }

    pub(super) async fn close(&self) -> Result<()> {
        self.writer.write(close).await
    }
}

/// A writer that has failed knows no more what is there. The next one finds out.
fn give_up_failed(writer: &mut Option<Writer>, done: &Result<(), Error>) {
    if matches!(done, Err(Error::WriterFailed { .. })) {
        *writer = None;
    }
}

/// Publishes what is in the log, and gives it up.
fn close(writer: &mut Option<Writer>) -> Result<()> {
    match writer.take() {
        Some(writer) => Ok(writer.close().map(drop)?),
        None => Ok(()),
    }
}

impl<R> fmt::Debug for Folder<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Folder").field("path", &self.shared.place.path).finish_non_exhaustive()
    }
}
