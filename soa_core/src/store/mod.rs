//! A store: a folder that is a Delta Lake table and more.
//!
//! [`Store`] is a handle on the folder. [`Store::append`] publishes rows in one commit; [`Store::snapshot`] gives the
//! rows of one version, which a scan (see [`crate::scan`]) reads in place. The format is specified in
//! `soa_core/docs/format.md`.
//!
//! ```
//! use std::sync::Arc;
//! use soa_core::arrow::array::{ArrayRef, Int64Array, RecordBatch};
//! use soa_core::schema::{DataType, Field, Schema};
//! use soa_core::store::Store;
//!
//! # fn main() -> soa_core::Result<()> {
//! # let dir = tempfile::tempdir().unwrap();
//! # let path = dir.path().join("readings.soa");
//! let schema = Schema::new(vec![Field::new("id", DataType::Int64)])?.with_key("id")?;
//! let store = Store::create(&path, schema)?;
//! let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
//! store.append(&[RecordBatch::try_from_iter([("id", ids)]).unwrap()])?;
//! assert_eq!(store.snapshot()?.row_count(), 3);
//! # Ok(())
//! # }
//! ```

mod append;
mod commit;
mod creation;
mod delta_schema;
mod describe;
mod edit;
mod engine;
mod guard;
mod io;
mod keys;
mod live;
mod load;
mod log;
mod log_entry;
mod logged_stats;
mod maintain;
mod map;
mod overlay;
mod parquet_source;
mod paths;
mod replay;
mod report;
mod segment;
mod snapshot;
mod stats;
mod transaction;
mod typed;
mod vector;
mod verify;
mod wal;
mod writing;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, RecordBatch};
use serde_json::Map;

use self::commit::{Change, Failure};
use self::log::Outcome;
use crate::error::{Error, Result};
use crate::schema::Schema;

pub use self::append::Appender;
pub use self::creation::Creator;
pub use self::edit::Edited;
pub use self::io::{
    Backend, Disk, DiskFile, Entry, Item, ItemKind, LockGuard, LockMode, LogFile, OsBackend, ReadFile, Stat,
};
pub use self::load::{Layout, Loader};
pub use self::log::Commit;
pub use self::maintain::{Changes, CompactOptions, CompactProgress, Compacted, Compression, VacuumOptions, Vacuumed};
pub(crate) use self::overlay::Overlay;
pub use self::report::Report;
pub(crate) use self::segment::decoded;
pub use self::segment::{Form, Segment};
pub use self::snapshot::{Snapshot, SnapshotId};
pub use self::transaction::{Additions, Savepoint, Transaction};
pub use self::typed::TypedStore;
#[cfg(feature = "persistence")]
pub(crate) use self::typed::{key_condition, matching};
pub use self::verify::VerifyReport;
pub use self::wal::{Durability, Writer, WriterOptions};

/// The version of the on-disk format that this release writes, and the newest that it reads.
pub const FORMAT_VERSION: u32 = 1;
/// The rows of a unit of scanning: DuckDB's row group, and a multiple of its vectors of 2,048.
pub const UNIT_ROWS: usize = 122_880;
/// The rows of a segment at most: 16 units.
pub const SEGMENT_ROWS_MAX: usize = 16 * UNIT_ROWS;
/// Conditions on more keys than this are not looked up in key indexes.
const KEYS_LOOKED_UP_MAX: usize = 64;
/// A checkpoint of the log is written every so many versions at least, so that readers need not read every commit;
const CHECKPOINT_INTERVAL_MIN: u64 = 10;
/// where it names so many segments,
const SEGMENTS_PER_COMMIT_OF_CHECKPOINT: usize = 1_000;
/// twice as many, and so on, up to 2 to this power.
const CHECKPOINT_DOUBLINGS_MAX: u32 = 4;

/// The hash of each key of a column, by which [`key_hashes`] finds it.
#[cfg(feature = "persistence")]
pub(crate) fn hashes_of_keys(keys: &ArrayRef) -> Vec<u64> {
    segment::hashes_of(keys)
}

/// The rows of a batch of a table with a key; of those with the same key, the last one.
#[cfg(feature = "duckdb")]
pub(crate) fn last_of_each_key(schema: &Schema, batch: &RecordBatch) -> Result<RecordBatch> {
    match keys::KeySet::new(schema) {
        Some(mut keys) => edit::last_of_each_key(&mut keys, batch),
        None => Ok(batch.clone()),
    }
}

/// The value of an array that has one and no other; `None` where that is NULL.
pub(crate) fn scalar_of(array: &ArrayRef) -> Option<crate::predicate::Scalar> {
    stats::ColumnStats::of(array).min
}

/// The hashes by which keys are looked up in key indexes; `None` if they are too many, or one cannot be a key.
pub(crate) fn key_hashes(keys: &[&crate::predicate::Scalar]) -> Option<Vec<u64>> {
    let few = keys.len() <= KEYS_LOOKED_UP_MAX;
    few.then(|| keys.iter().map(|key| segment::hash_of(key)).collect()).flatten()
}

/// A point in a store's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum At {
    /// A version.
    Version(u64),
    /// The newest version that was committed at this time, in microseconds since 1970, or before.
    Timestamp(i64),
}

/// A handle on a store's folder. Cheap to clone; any number of handles may be open, in any number of processes.
#[derive(Debug, Clone)]
pub struct Store {
    root: PathBuf,
    backend: Arc<dyn Backend>,
    /// The newest version that this handle, or one that it was cloned from, knows to be durable.
    durable: Arc<Mutex<Option<(u64, Stat)>>>,
    /// Segments that cannot be joined with others, as this handle, or one that it was cloned from, has found out; by path.
    passed_over: Arc<Mutex<HashSet<String>>>,
}

impl Store {
    /// Opens the store in the folder `path`.
    ///
    /// # Errors
    ///
    /// When there is no such folder, it is no store, or its log cannot be read or needs a newer release.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_on(Arc::new(OsBackend), path)
    }

    /// Opens the store in the folder `path` of a backend's files. What a process keeps of stores it keeps by path: there
    /// should not be another backend that has other files there.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_on(backend: Arc<dyn Backend>, path: impl AsRef<Path>) -> Result<Self> {
        let store = Self::at(backend, path.as_ref())?;
        store.snapshot()?;
        Ok(store)
    }

    /// Makes an empty store in the folder `path`, which need not exist.
    ///
    /// # Errors
    ///
    /// When there is a store already, or the folder cannot be written.
    pub fn create(path: impl AsRef<Path>, schema: Schema) -> Result<Self> {
        Self::create_on(Arc::new(OsBackend), path, schema)
    }

    /// Makes an empty store in the folder `path` of a backend's files; see [`open_on`](Self::open_on).
    ///
    /// # Errors
    ///
    /// As [`create`](Self::create).
    pub fn create_on(backend: Arc<dyn Backend>, path: impl AsRef<Path>, schema: Schema) -> Result<Self> {
        let path = path.as_ref();
        let store = Self::prepare(backend, path)?;
        let exists = || Error::AlreadyExists { path: path.to_owned() };
        let actions = delta_schema::creation_actions(&schema, log::now_ms());
        match log::commit(store.backend(), &store.root, 0, "CREATE TABLE", Map::new(), &actions) {
            Outcome::Committed => {
                store.note_durable(0);
                Ok(store)
            }
            Outcome::Conflict => Err(exists()),
            Outcome::Unknown(error) | Outcome::Failed(error) => Err(error),
        }
    }

    /// The folder of a store whose first commit is still to come.
    fn prepare(backend: Arc<dyn Backend>, path: &Path) -> Result<Self> {
        let log_dir = path.join(paths::LOG_DIR);
        backend.create_dir_all(path).map_err(Error::io("create", path))?;
        backend.create_dirs_below(path, &log_dir).map_err(Error::io("create", &log_dir))?;
        let store = Self::at(backend, path)?;
        store.sync_names(&[store.path().parent().unwrap_or(store.path()), store.path()])?;
        let there = store.backend().list(&log_dir).map_err(Error::io("list", &log_dir))?;
        match there.iter().any(|entry| snapshot::is_log_file(&entry.name)) {
            true => Err(Error::AlreadyExists { path: path.to_owned() }),
            false => Ok(store),
        }
    }

    /// Opens the store in the folder `path`, or makes it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`create`](Self::create), and when there is a store of other columns.
    pub fn open_or_create(path: impl AsRef<Path>, schema: Schema) -> Result<Self> {
        let path = path.as_ref();
        match Self::create(path, schema.clone()) {
            Err(Error::AlreadyExists { .. }) => {}
            made => return made,
        }
        let store = Self::open(path)?;
        if *store.snapshot()?.schema() != schema {
            return Err(Error::mismatch(format!(
                "the store at \"{}\" has other columns, key, order or partitions; `evolve` adds columns to it",
                path.display()
            )));
        }
        Ok(store)
    }

    /// The resolved path is what a process knows a store by.
    fn at(backend: Arc<dyn Backend>, path: &Path) -> Result<Self> {
        let root = match path.canonicalize() {
            Ok(root) => root,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                return Err(Error::NotFound { path: path.to_owned() });
            }
            Err(error) => return Err(Error::io("open", path)(error)),
        };
        Ok(Self { root, backend, durable: Arc::default(), passed_over: Arc::default() })
    }

    /// The folder, resolved.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The newest version, without rows that are in the write-ahead log alone.
    fn published(&self) -> Result<Arc<Snapshot>> {
        snapshot::newest(&self.backend, &self.root)
    }

    /// The snapshot at a point in history.
    ///
    /// # Errors
    ///
    /// When there is no such version (any more), or the log cannot be read.
    pub fn snapshot_at(&self, at: At) -> Result<Arc<Snapshot>> {
        let version = match at {
            At::Version(version) => version,
            At::Timestamp(micros) => self.version_at(micros)?,
        };
        snapshot::at_version(&self.backend, &self.root, version)
    }

    fn version_at(&self, micros: i64) -> Result<u64> {
        let commits = self.history()?;
        let found = commits.iter().rev().find(|commit| commit.timestamp_ms.saturating_mul(1000) <= micros);
        found.map(|commit| commit.version).ok_or_else(|| {
            let oldest = commits.first().map_or(0, |commit| commit.timestamp_ms);
            Error::NoSuchVersion {
                path: self.root.clone(),
                wanted: format!("of {} or before", time_text(micros)),
                message: format!("the oldest commit is of {}", time_text(oldest.saturating_mul(1000))),
            }
        })
    }

    /// Publishes rows in one commit and returns its version. Columns are matched by name and converted to the
    /// table's types.
    ///
    /// # Errors
    ///
    /// As [`Appender::write`] and [`Appender::commit`]; nothing is visible then.
    pub fn append(&self, batches: &[RecordBatch]) -> Result<u64> {
        let mut appender = self.appender()?;
        for batch in batches {
            appender.write(batch)?;
        }
        appender.commit()
    }

    /// For rows that come bit by bit and are to be published in one commit.
    ///
    /// # Errors
    ///
    /// When the log cannot be read, or the table's rules for writers are not known.
    pub fn appender(&self) -> Result<Appender> {
        Appender::new(self)
    }

    /// Chooses how rows are deleted and replaced from now on: by deletion vectors, which is the default and rewrites no
    /// file, or by rewriting files without them, for readers that know no deletion vectors. Returns the version that has it.
    ///
    /// # Errors
    ///
    /// When the log cannot be read or written.
    pub fn set_deletion_vectors(&self, enabled: bool) -> Result<u64> {
        let plan = &mut |base: &Arc<Snapshot>| {
            let table = match enabled {
                true => delta_schema::enable_deletion_vectors(base.delta())?,
                false => delta_schema::disable_deletion_vectors(base.delta())?,
            };
            let operation = "SET TBLPROPERTIES";
            Ok((!table.is_empty()).then(|| Change { operation, table, ..Change::default() }))
        };
        commit::commit(self, &self.published()?, plan).map_err(Failure::into_error)
    }

    /// How many bytes the files take that have a snapshot's rows: both forms of its segments, and its part of the write-ahead
    /// log. (Key indexes and the Delta log come on top.)
    #[cfg(feature = "persistence")]
    pub(crate) fn bytes_of(&self, snapshot: &Snapshot) -> u64 {
        let published = snapshot.segments().iter();
        let published = published.map(|segment| segment.parquet_bytes() + segment.arrow_bytes().unwrap_or(0));
        // A file of the log that is gone by now has been published since.
        let logged = snapshot.log_files().iter().filter_map(|file| self.backend.stat(file).ok());
        published.sum::<u64>() + logged.map(|stat| stat.len).sum::<u64>()
    }

    /// The commits that are in the log, oldest first.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn history(&self) -> Result<Vec<Commit>> {
        log::history(self.backend(), &self.root)
    }

    /// Reads and checks everything. What is wrong is in the report.
    ///
    /// # Errors
    ///
    /// When not even the log can be read.
    pub fn verify(&self) -> Result<VerifyReport> {
        verify::verify(self)
    }

    fn backend(&self) -> &dyn Backend {
        &*self.backend
    }

    /// Makes the names in folders durable. Who made one that is there already may not have done that.
    ///
    /// # Errors
    ///
    /// When a folder cannot be synced. One that may not be read cannot be; whoever has such folders has made them beforehand.
    fn sync_names(&self, dirs: &[&Path]) -> Result<()> {
        for dir in dirs {
            match self.backend.sync_dir(dir) {
                Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => {}
                synced => synced.map_err(Error::io("sync", dir))?,
            }
        }
        Ok(())
    }

    /// Makes a version durable that another process may have made and not have synced yet. What is built on it, or answered
    /// because of it, must not outlive it.
    ///
    /// # Errors
    ///
    /// When the log's folder cannot be synced.
    fn make_durable(&self, snapshot: &Snapshot) -> Result<()> {
        let version = snapshot.commit();
        if version.is_some() && *self.durable.lock().unwrap_or_else(PoisonError::into_inner) == version {
            return Ok(());
        }
        let dir = self.root.join(paths::LOG_DIR);
        self.backend.sync_dir(&dir).map_err(Error::io("sync", &dir))?;
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner) = version;
        Ok(())
    }

    /// Remembers that a version of our own is durable.
    fn note_durable(&self, version: u64) {
        let stat = self.backend.stat(&paths::commit_path(&self.root, version)).ok();
        *self.durable.lock().unwrap_or_else(PoisonError::into_inner) = stat.map(|stat| (version, stat));
    }

    /// Does not try again to join these segments with others.
    fn pass_over(&self, paths: Vec<String>) {
        self.passed_over.lock().unwrap_or_else(PoisonError::into_inner).extend(paths);
    }

    fn is_passed_over(&self, path: &str) -> bool {
        self.passed_over.lock().unwrap_or_else(PoisonError::into_inner).contains(path)
    }

    /// What can be done once a commit is there on a version with so many segments. The commit stands whether it succeeds or
    /// not.
    fn after_commit(&self, version: u64, segments: usize) {
        if !version.is_multiple_of(checkpoint_interval(segments)) {
            return;
        }
        let engine = engine::StoreEngine::new(Arc::clone(&self.backend), &self.root);
        let checkpoint = || -> Result<()> {
            let snapshot = self.published()?;
            // A checkpoint must not outlive the commits that it is made of.
            self.make_durable(&snapshot)?;
            // Without a checkpoint readers take longer; the next interval tries again.
            let _ = snapshot.delta().checkpoint(&engine, None);
            Ok(())
        };
        // A panic must not look like one before the commit, after which its files would be removed.
        let _ = catch_unwind(AssertUnwindSafe(checkpoint));
    }
}

/// After how many versions there is another checkpoint: more where there are many segments, all of which it names, so that
/// it costs each commit about as much as the commit itself. (An interval is a multiple of the smaller ones.)
fn checkpoint_interval(segments: usize) -> u64 {
    let doublings = (segments / SEGMENTS_PER_COMMIT_OF_CHECKPOINT).max(1).ilog2();
    CHECKPOINT_INTERVAL_MIN << doublings.min(CHECKPOINT_DOUBLINGS_MAX)
}

/// A time, given in microseconds since 1970, as people read it.
fn time_text(micros: i64) -> String {
    chrono::DateTime::from_timestamp_micros(micros).map_or_else(
        || format!("{micros} µs since 1970"),
        |time| time.to_rfc3339_opts(chrono::SecondsFormat::AutoSi, true),
    )
}
