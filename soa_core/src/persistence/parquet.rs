//! Records in a folder that is a store.

use std::fmt;
use std::path::Path;
use std::sync::Arc;

use super::folder::{Folder, Place};
use super::{MemoryStats, Query, Result, SoAPersistence};
use crate::kernel::{KeyedRecord, StoredRecord};
use crate::store::{Backend, Compression, TypedStore, WriterOptions};

/// Records in a folder that is a [store](crate::store): Parquet files, and their Arrow form, under a Delta Lake log. DuckDB,
/// Postgres and whatever reads Delta Lake query it while it is written.
///
/// The folder is made when the first row is written; reading what is not there gives no rows. What
/// [`append`](SoAPersistence::append) and [`save`](SoAPersistence::save) write is one commit. What [`put`](SoAPersistence::put)
/// writes goes to the write-ahead log, which this value then owns: until [`close`](SoAPersistence::close), another one that wants
/// to write is told who has it ([`PersistenceError::Busy`](super::PersistenceError::Busy)). Reading is always possible.
///
/// Any number of tasks may share a value; rows that several of them put at once share one sync of the disk.
///
/// Dropping it closes it as well, which blocks the thread for as long as it takes to publish the last rows put. A process that is
/// killed loses nothing: readers see the rows in the log, and who writes next publishes them.
pub struct ParquetPersistence<R>(Folder<R>);

/// Records in a folder that is a [store](crate::store) with one folder in it for each value of a column, as
/// [`ParquetPersistence`] is one without. A condition on the column leaves the other folders out.
pub struct PartitionedParquetPersistence<R>(Folder<R>);

impl<R: StoredRecord> ParquetPersistence<R> {
    /// The records in the folder `dir`, which need not exist, in the order and the partitions that the record names.
    pub fn new(dir: impl AsRef<Path>) -> Self {
        Self(Folder::new(Place::new(dir.as_ref(), None)))
    }
}

impl<R: StoredRecord> PartitionedParquetPersistence<R> {
    /// The records in the folder `dir`, which need not exist, partitioned by `column`. That there is such a column, and the table has
    /// no other partitions, is found out with the first call.
    pub fn new(dir: impl AsRef<Path>, column: impl Into<String>) -> Self {
        Self(Folder::new(Place::new(dir.as_ref(), Some(column.into()))))
    }
}

/// Both are the same but for how they are made.
macro_rules! folder_persistence {
    ($name:ident) => {
        impl<R: StoredRecord> $name<R> {
            /// Has the Parquet files compressed so that are written from now on, whoever writes them. To be called before the first
            /// use; later it makes a value that has not been used.
            #[must_use]
            pub fn with_compression(self, compression: Compression) -> Self {
                Self(self.0.with(|place| place.compression = Some(compression)))
            }

            /// How rows that come one by one are written: how durable, and when they are published. To be called before the
            /// first use.
            #[must_use]
            pub fn with_writer_options(self, options: WriterOptions) -> Self {
                Self(self.0.with(|place| place.options = options))
            }

            /// Keeps the folder in the files of a backend. To be called before the first use.
            #[must_use]
            pub fn with_backend(self, backend: Arc<dyn Backend>) -> Self {
                Self(self.0.with(|place| place.backend = backend))
            }

            /// The folder.
            pub fn path(&self) -> &Path {
                &self.0.place().path
            }

            /// The store in the folder, which is made if there is none: for snapshots, history, compaction and whatever else it can.
            ///
            /// # Errors
            ///
            /// When there is another table, or the folder cannot be read or written.
            pub async fn store(&self) -> Result<TypedStore<R>> {
                self.0.store().await
            }
        }

        impl<R> fmt::Debug for $name<R> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.debug_struct(stringify!($name)).field("folder", &self.0).finish()
            }
        }

        impl<R: StoredRecord> SoAPersistence<R> for $name<R> {
            async fn save(&self, rows: &R::Soa) -> Result<()> {
                self.0.save(rows).await
            }

            async fn append(&self, rows: &R::Soa) -> Result<()> {
                self.0.append(rows).await
            }

            async fn put(&self, rows: &R::Soa) -> Result<()> {
                self.0.put(rows).await
            }

            async fn remove(&self, keys: &R::KeyColumn) -> Result<()>
            where
                R: KeyedRecord,
            {
                self.0.remove(keys).await
            }

            async fn query(&self, query: impl Into<Query> + Send) -> Result<R::Soa> {
                self.0.query(query.into()).await
            }

            async fn count(&self) -> Result<u64> {
                self.0.count().await
            }

            async fn memory_stats(&self) -> Result<MemoryStats> {
                self.0.memory_stats().await
            }

            async fn flush(&self) -> Result<()> {
                self.0.flush().await
            }

            async fn close(&self) -> Result<()> {
                self.0.close().await
            }
        }
    };
}

folder_persistence!(ParquetPersistence);
folder_persistence!(PartitionedParquetPersistence);
