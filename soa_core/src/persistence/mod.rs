//! Records kept somewhere: in memory, in a folder, in a DuckDB database (feature `persistence`).
//!
//! [`SoAPersistence`] is what generic code asks for. What implements it:
//!
//! | | rows are | one row more costs |
//! |---|---|---|
//! | [`ArrowPersistence`] | record batches in memory, which share the columns they came in | its place in memory |
//! | [`ParquetPersistence`] | a [store](crate::store): DuckDB, Postgres and all readers of Delta Lake query the folder | a frame in the write-ahead log |
//! | [`PartitionedParquetPersistence`] | the same, in one folder for each value of a column | the same |
//! | [`Store`](crate::store::Store) | a store that is open already | a commit, or a frame of a [`Writer`](crate::store::Writer) of your own |
//! | `DuckDBPersistence` (feature `duckdb`) | a table in a DuckDB database | an INSERT |
//!
//! [`PersistentStore`] joins one of them to an [`OrderStore`](crate::kernel::MemoryStore): for a keyed `Order`,
//! `#[derive(SoAStore)]` names it `PersistentOrderStore`.
//!
//! ```
//! use soa_core::kernel::Record;
//! use soa_core::persistence::{ParquetPersistence, Query, SoAPersistence};
//! use soa_core::predicate::Predicate;
//! use soa_core::{SoA, SoAStore};
//!
//! #[derive(Debug, Clone, Copy, PartialEq, SoA)]
//! enum Status {
//!     Pending,
//!     Shipped,
//! }
//!
//! #[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
//! #[soa_store(key = "order_id")]
//! struct Order {
//!     order_id: u64,
//!     amount: f64,
//!     status: Status,
//! }
//!
//! # fn order(order_id: u64) -> Order {
//! #     Order { order_id, amount: order_id as f64, status: Status::Pending }
//! # }
//! # async fn example(folder: std::path::PathBuf) -> Result<(), soa_core::persistence::PersistenceError> {
//! // A batch is one commit; single rows go to the write-ahead log, which costs the same however many rows there are.
//! let mut orders = PersistentOrderStore::with_persistence(ParquetPersistence::new(&folder));
//! orders.add_batch((0..1000).map(order)).await?;
//! orders.add(order(1000)).await?;
//! orders.update(&7, |mut order| order.set_status(Status::Shipped)).await?;
//!
//! // Nothing was loaded so far. `kernel` loads all rows; from then on they are in memory as well.
//! assert!(!orders.is_loaded());
//! assert_eq!(orders.kernel().await?.amount_raw_array().iter().sum::<f64>(), 500_500.0);
//! orders.close().await?;
//!
//! // What the store can leave out it does not read.
//! let folder = ParquetPersistence::<Order>::new(&folder);
//! let shipped = Predicate::parse("status = 'Shipped'", &Order::schema())?;
//! assert_eq!(folder.query(Query::from(shipped).limit(10)).await?.order_id_raw_array(), [7]);
//! # Ok(())
//! # }
//! # let dir = tempfile::tempdir().unwrap();
//! # let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
//! # runtime.block_on(example(dir.path().join("orders.soa"))).unwrap();
//! ```
//!
//! **A record with a key is there once**: where `append`, `put` or `save` get a key that is there already, or several
//! rows with one key, the last row counts, as in [`MemoryStore::add`](crate::kernel::MemoryStore::add). To refuse a key that is taken, ask
//! for it first, or use [`Store::append`](crate::store::Store::append), which refuses it.
//!
//! **The runtime is not blocked**: files are read and written on threads of tokio's that may block, and so is what takes time
//! in the number of rows. There must be a tokio runtime; it needs no drivers.
//!
//! **Futures can be dropped**, which stops nothing that has begun: a change is then made whole or not at all, and whatever is called next
//! on the same value waits until that is decided.

mod arrow;
#[cfg(feature = "duckdb")]
mod duckdb;
mod error;
mod folder;
mod parquet;
mod puts;
mod serial;
mod store;
mod traits;
mod wrapper;

use std::future::Future;

pub use self::arrow::ArrowPersistence;
#[cfg(feature = "duckdb")]
pub use self::duckdb::DuckDBPersistence;
pub use self::error::PersistenceError;
pub use self::parquet::{ParquetPersistence, PartitionedParquetPersistence};
pub use self::traits::{ArrowSchemaGen, ToArrow};
pub use self::wrapper::PersistentStore;
use crate::error::Error;
use crate::kernel::{KeyedRecord, Record, Rows, StoredRecord};
use crate::predicate::Predicate;
pub use crate::store::Compression;

/// A result whose error is [`PersistenceError`].
pub type Result<T, E = PersistenceError> = std::result::Result<T, E>;

/// Where records of the type `R` are kept.
///
/// Columns go in and come out: `R::Soa` is `OrderSoA` for `Order`. They are given by reference and shared, not copied.
///
/// Every method returns a future that is `Send` if called with what is; it does nothing before it is first polled. Implement
/// the methods as `async fn`.
//
// Futures are named in the trait instead of boxed (`async-trait`): a row's way into the log allocates nothing for them, and
// that they are `Send` is checked where a backend is written. It costs `dyn SoAPersistence`; a program chooses its
// backend when it is built, and one that must choose later has an enum of the few that it knows.
pub trait SoAPersistence<R: StoredRecord>: Send + Sync {
    /// Makes these all the rows that there are, in one step: whoever reads has the old rows or the new ones.
    ///
    /// # Errors
    ///
    /// When the rows do not fit, somebody else is writing, or they cannot be written.
    fn save(&self, rows: &R::Soa) -> impl Future<Output = Result<()>> + Send;

    /// Adds rows in one step, of a keyed record in the place of those with the same keys. Writes these rows and no other. For
    /// batches: where that makes a difference, they are published, which costs some files and a commit.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save); nothing is added then, or all.
    fn append(&self, rows: &R::Soa) -> impl Future<Output = Result<()>> + Send;

    /// Adds rows as [`append`](Self::append) does, but for rows that come one by one: durable when this is done, and published
    /// some time later, or by [`flush`](Self::flush).
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    fn put(&self, rows: &R::Soa) -> impl Future<Output = Result<()>> + Send {
        self.append(rows)
    }

    /// Removes the rows with these keys, as durable as by [`put`](Self::put). Keys that there are not are passed over.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append).
    fn remove(&self, keys: &R::KeyColumn) -> impl Future<Output = Result<()>> + Send
    where
        R: KeyedRecord;

    /// The rows that match, in no particular order. As much of the query as can be is left to where the rows are.
    ///
    /// A query gives whole records, so it names no columns; those of a store can be read alone by
    /// [`Snapshot::plan`](crate::store::Snapshot::plan), or by SQL.
    ///
    /// # Errors
    ///
    /// When the query names a column that there is not or compares one with a constant of another kind, or the rows
    /// cannot be read.
    fn query(&self, query: impl Into<Query> + Send) -> impl Future<Output = Result<R::Soa>> + Send;

    /// All rows; none where nothing was ever saved.
    ///
    /// # Errors
    ///
    /// When the rows cannot be read, or are no records of this type.
    fn load(&self) -> impl Future<Output = Result<R::Soa>> + Send {
        self.query(Query::all())
    }

    /// How many rows there are.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    fn count(&self) -> impl Future<Output = Result<u64>> + Send;

    /// Removes all rows, in one step.
    ///
    /// # Errors
    ///
    /// As [`save`](Self::save).
    fn clear(&self) -> impl Future<Output = Result<()>> + Send {
        async { self.save(&R::Soa::default()).await }
    }

    /// What the rows take where they are.
    ///
    /// # Errors
    ///
    /// As [`load`](Self::load).
    fn memory_stats(&self) -> impl Future<Output = Result<MemoryStats>> + Send;

    /// Publishes what was [`put`](Self::put): every reader sees it then.
    ///
    /// # Errors
    ///
    /// When it cannot be published. It is not lost, and tried again.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send {
        async { Ok(()) }
    }

    /// [Flushes](Self::flush), and lets go of what keeps others from writing, without blocking the thread as dropping may. What
    /// is called later takes it again.
    ///
    /// # Errors
    ///
    /// As [`flush`](Self::flush).
    fn close(&self) -> impl Future<Output = Result<()>> + Send {
        self.flush()
    }
}

/// Which rows a [`SoAPersistence`] is asked for: all by default. A [`Predicate`] is a query, too.
#[derive(Debug, Clone, Default, PartialEq)]
#[non_exhaustive]
pub struct Query {
    /// Which rows are wanted. Columns are those of [`Record::schema`].
    pub predicate: Option<Predicate>,
    /// How many rows are wanted at most.
    pub limit: Option<u64>,
}

impl Query {
    /// All rows.
    pub fn all() -> Self {
        Self::default()
    }

    /// The rows for which a condition is true that SQL would write so; see [`Predicate::parse`].
    ///
    /// # Errors
    ///
    /// When it is no such condition, or `R` has no such column.
    pub fn parse<R: Record>(condition: &str) -> Result<Self> {
        Ok(Predicate::parse(condition, &R::schema())?.into())
    }

    /// No more than `rows` of the rows that it gives so far.
    #[must_use]
    pub fn limit(mut self, rows: u64) -> Self {
        self.limit = Some(self.limit.map_or(rows, |limit| limit.min(rows)));
        self
    }
}

impl From<Predicate> for Query {
    fn from(predicate: Predicate) -> Self {
        Self { predicate: Some(predicate), limit: None }
    }
}

/// What rows take where they are kept.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
#[non_exhaustive]
pub struct MemoryStats {
    /// Bytes, each counted once: of memory that is allocated, or of the files that the newest version consists of.
    pub total_bytes: u64,
    /// Rows.
    pub total_rows: u64,
    /// The pieces that the rows are in: record batches, segments, row groups.
    pub num_batches: u64,
    /// Rows in a piece, in the mean; 0 if there is none.
    pub average_batch_size: f64,
}

impl MemoryStats {
    /// From what was counted.
    pub fn new(total_bytes: u64, total_rows: u64, num_batches: u64) -> Self {
        let average_batch_size = if num_batches == 0 { 0.0 } else { total_rows as f64 / num_batches as f64 };
        Self { total_bytes, total_rows, num_batches, average_batch_size }
    }
}

/// The columns of one record.
///
/// # Errors
///
/// When a value does not fit its column.
fn one_row<R: Record>(record: R) -> Result<R::Soa, Error> {
    let mut row = R::Soa::default();
    row.try_push(record)?;
    Ok(row)
}
