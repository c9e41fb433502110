//! The store itself as a persistence.

use super::serial::blocking;
use super::{MemoryStats, PersistenceError, Query, Result, SoAPersistence};
use crate::error::Error;
use crate::kernel::{FieldColumn, KeyedRecord, StoredRecord};
use crate::store::{Store, TypedStore};

/// Any store whose rows are records of this type, whatever its order and partitions are. `append` and `put` are a commit
/// each, which is refused while somebody has a [`Writer`](crate::store::Writer) of a keyed store: where rows come one by one, use a
/// [`ParquetPersistence`](super::ParquetPersistence), which has one.
impl<R: StoredRecord> SoAPersistence<R> for Store {
    async fn save(&self, rows: &R::Soa) -> Result<()> {
        let rows = rows.clone();
        on(self, move |store: TypedStore<R>| store.overwrite(&rows).map(drop)).await
    }

    async fn append(&self, rows: &R::Soa) -> Result<()> {
        let rows = rows.clone();
        on(self, move |store: TypedStore<R>| store.put(&rows)).await
    }

    async fn remove(&self, keys: &R::KeyColumn) -> Result<()>
    where
        R: KeyedRecord,
    {
        let keys = keys.to_array();
        on(self, move |store: TypedStore<R>| store.store().delete_keys(&keys).map(drop)).await
    }

    async fn query(&self, query: impl Into<Query> + Send) -> Result<R::Soa> {
        let query = query.into();
        on(self, move |store: TypedStore<R>| store.query(query.predicate.as_ref(), query.limit)).await
    }

    async fn count(&self) -> Result<u64> {
        on(self, |store: TypedStore<R>| store.count()).await
    }

    async fn memory_stats(&self) -> Result<MemoryStats> {
        on(self, |store: TypedStore<R>| stats(store.store())).await
    }
}

/// Does something with the records of a store, on a thread that may block.
async fn on<R: StoredRecord, T: Send + 'static>(
    store: &Store,
    work: impl FnOnce(TypedStore<R>) -> Result<T, Error> + Send + 'static,
) -> Result<T> {
    let store = store.clone();
    blocking(move || {
        let path = store.path().to_owned();
        let store = TypedStore::of(store).map_err(|error| PersistenceError::of_table(&path, error))?;
        Ok(work(store)?)
    })
    .await
}

/// What the files take that the newest snapshot consists of.
pub(super) fn stats(store: &Store) -> Result<MemoryStats, Error> {
    let snapshot = store.snapshot()?;
    let segments = snapshot.segments();
    let pieces = segments.len() as u64 + u64::from(snapshot.log_row_count() > 0);
    Ok(MemoryStats::new(store.bytes_of(&snapshot), snapshot.row_count(), pieces))
}
