//! A snapshot: the rows of one version, whatever is written later.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::scan::StatsOptions;
use delta_kernel::table_features::ColumnMappingMode;
use delta_kernel::{KernelError, Snapshot as DeltaSnapshot, SnapshotRef};

use super::engine::StoreEngine;
use super::io::{Backend, Stat};
use super::log_entry::LogEntry;
use super::overlay::Overlay;
use super::paths::{LOG_DIR, commit_path};
use super::replay::{Replayed, replay};
use super::segment::{Segment, Table};
use super::wal::tail::Tail;
use super::{Store, delta_schema, log};
use crate::error::{Error, Result};
use crate::predicate::Bounds;
use crate::schema::Schema;

/// After this time Delta's readers forget what applications have recorded.
const TXN_RETENTION_KEY: &str = "delta.setTransactionRetentionDuration";
/// How many stores' newest snapshots a process keeps.
const CACHED_STORES_MAX: usize = 64;

/// Tells a snapshot from every other one of the same store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SnapshotId {
    /// The version of the table.
    pub version: u64,
    /// The last frame of the write-ahead log that is seen; `None` if there is none above the version.
    pub log_sequence: Option<u64>,
}

/// The rows of one version of a store, and those that are in its write-ahead log.
pub struct Snapshot {
    root: PathBuf,
    version: u64,
    schema: Schema,
    segments: Vec<Arc<Segment>>,
    /// What is in the write-ahead log alone.
    overlay: Option<Arc<Overlay>>,
    rows: u64,
    delta: SnapshotRef,
    /// The log file of this version when it was read: a folder that was replaced has another.
    identity: Option<Stat>,
    /// What applications have recorded, as far as somebody has asked for it.
    txns: Mutex<HashMap<String, Option<i64>>>,
}

impl Snapshot {
    /// The store's folder.
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// Its version.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// By which another process can take the same snapshot, but for what a transaction of this one has changed; see
    /// [`Store::snapshot_of`].
    pub fn id(&self) -> SnapshotId {
        let logged = self.overlay.as_ref().filter(|overlay| overlay.has_log());
        SnapshotId { version: self.version, log_sequence: logged.map(|overlay| overlay.sequence()) }
    }

    /// How many of the rows are in the write-ahead log and in no segment yet.
    pub fn log_row_count(&self) -> u64 {
        self.overlay.as_ref().map_or(0, |overlay| overlay.logged_row_count())
    }

    /// The bounds of a column over all rows: what the log says of segments, and what is in the write-ahead log.
    ///
    /// # Errors
    ///
    /// When rows of the write-ahead log cannot be put together.
    ///
    /// # Panics
    ///
    /// When there is no such column.
    pub fn bounds(&self, column: usize) -> Result<Bounds> {
        let parts = self.segments.iter().map(|segment| segment.bounds(column)).filter(|bounds| bounds.rows > 0);
        let logged = self.overlay.as_ref().map(|overlay| overlay.bounds(column)).transpose()?;
        let mut all: Option<Bounds> = None;
        for part in parts.chain(logged.filter(|bounds| bounds.rows > 0)) {
            all = Some(match all {
                None => part,
                Some(before) => before.or(part),
            });
        }
        Ok(all.unwrap_or(Bounds { rows: 0, nulls: Some(0), min: None, max: None, may_hold_nan: false }))
    }

    /// The files of the write-ahead log that it was read from, absolute.
    pub fn log_files(&self) -> &[PathBuf] {
        self.overlay.as_ref().map_or(&[], |overlay| overlay.files())
    }

    /// The rows that are in the write-ahead log alone.
    pub(crate) fn overlay(&self) -> Option<&Arc<Overlay>> {
        self.overlay.as_ref()
    }

    /// The same version with what a log has above it.
    pub(super) fn with_tail(&self, tail: &mut Tail) -> Result<Self> {
        Ok(self.with_rows(tail.hide(&self.segments)?, Some(Arc::new(tail.overlay()))))
    }

    /// The same version with other rows: those of these segments, and those that are in none.
    pub(super) fn with_rows(&self, segments: Vec<Arc<Segment>>, overlay: Option<Arc<Overlay>>) -> Self {
        let outside = overlay.as_ref().map_or(0, |overlay| overlay.row_count());
        let rows = segments.iter().map(|segment| segment.row_count()).sum::<u64>() + outside;
        Self {
            root: self.root.clone(),
            version: self.version,
            schema: self.schema.clone(),
            segments,
            overlay,
            rows,
            delta: Arc::clone(&self.delta),
            identity: self.identity,
            txns: Mutex::new(self.known_txns()),
        }
    }

    /// The table's columns, key, order and partitions.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// How many rows there are.
    pub fn row_count(&self) -> u64 {
        self.rows
    }

    /// The segments, in the order in which they were added.
    pub fn segments(&self) -> &[Arc<Segment>] {
        &self.segments
    }

    /// Whether the folder still holds the table that this was read from.
    pub(super) fn is_still_there(&self, backend: &dyn Backend) -> bool {
        self.identity.is_some() && identity(backend, &self.root, self.version) == self.identity
    }

    /// Its version and the log file of that, if there was one.
    pub(super) fn commit(&self) -> Option<(u64, Stat)> {
        self.identity.map(|stat| (self.version, stat))
    }

    /// The version that an application has recorded here (Delta's `txn`).
    pub(super) fn txn_version(&self, store: &Store, app: &str) -> Result<Option<i64>> {
        if let Some(known) = self.txns.lock().unwrap_or_else(PoisonError::into_inner).get(app) {
            return Ok(*known);
        }
        let engine = StoreEngine::new(Arc::clone(&store.backend), &self.root);
        let found = self.delta.get_app_id_version(app, &engine).map_err(|error| log_error(&self.root, error))?;
        self.txns.lock().unwrap_or_else(PoisonError::into_inner).insert(app.to_owned(), found);
        Ok(found)
    }

    /// The last frame of a write-ahead log, by what that is to Delta, that is published here.
    pub(super) fn log_sequence(&self, store: &Store, app: &str) -> Result<u64> {
        if self.delta.metadata_configuration().contains_key(TXN_RETENTION_KEY) {
            let message = format!(
                "its property {TXN_RETENTION_KEY} lets readers forget how much of its write-ahead log is published; remove the property"
            );
            return Err(Error::Unsupported { path: self.root.clone(), message });
        }
        let version = self.txn_version(store, app)?;
        Ok(version.and_then(|version| u64::try_from(version).ok()).unwrap_or(0))
    }

    fn known_txns(&self) -> HashMap<String, Option<i64>> {
        self.txns.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(super) fn delta(&self) -> &SnapshotRef {
        &self.delta
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("path", &self.root)
            .field("version", &self.version)
            .field("segments", &self.segments.len())
            .field("rows", &self.rows)
            .field("log_rows", &self.log_row_count())
            .finish_non_exhaustive()
    }
}

/// The newest snapshot of each store that this process has used, by the store's resolved path.
static CACHE: LazyLock<Mutex<HashMap<PathBuf, Arc<Snapshot>>>> = LazyLock::new(Mutex::default);

/// Lets go of what this process has cached of a store: the next snapshot looks at its files anew.
pub(super) fn forget(root: &Path) {
    CACHE.lock().unwrap_or_else(PoisonError::into_inner).remove(root);
}

/// The newest snapshot. When nothing was committed since it was last asked for, this costs two `stat`s.
pub(super) fn newest(backend: &Arc<dyn Backend>, root: &Path) -> Result<Arc<Snapshot>> {
    let cached = CACHE.lock().unwrap_or_else(PoisonError::into_inner).get(root).cloned();
    if let Some(snapshot) = &cached
        && is_newest(&**backend, snapshot)
    {
        return Ok(Arc::clone(snapshot));
    }
    // A folder that was replaced by another store has nothing in common with what is cached.
    let base = cached.filter(|snapshot| snapshot.is_still_there(&**backend));
    let snapshot = Arc::new(resolve(backend, root, None, base.as_ref())?);
    let mut cache = CACHE.lock().unwrap_or_else(PoisonError::into_inner);
    if cache.len() >= CACHED_STORES_MAX && !cache.contains_key(root) {
        cache.clear();
    }
    match cache.get(root) {
        // Another thread may have seen a newer version meanwhile.
        Some(other) if other.version > snapshot.version && other.delta.table_root() == snapshot.delta.table_root() => {
            let replaced = identity(&**backend, root, other.version) != other.identity;
            if replaced {
                cache.insert(root.to_owned(), Arc::clone(&snapshot));
            }
        }
        _ => drop(cache.insert(root.to_owned(), Arc::clone(&snapshot))),
    }
    Ok(snapshot)
}

/// The snapshot of a version.
pub(super) fn at_version(backend: &Arc<dyn Backend>, root: &Path, version: u64) -> Result<Arc<Snapshot>> {
    let newest = newest(backend, root)?;
    if newest.version == version {
        return Ok(newest);
    }
    let no_such =
        |message: String| Error::NoSuchVersion { path: root.to_owned(), wanted: version.to_string(), message };
    if version > newest.version {
        return Err(no_such(format!("the newest is {}", newest.version)));
    }
    match resolve(backend, root, Some(version), Some(&newest)) {
        Ok(snapshot) => Ok(Arc::new(snapshot)),
        Err(ref error @ Error::Log { ref source, .. })
            if !is_io(error) && log::versions(&**backend, root)?.first().is_none_or(|oldest| *oldest > version) =>
        {
            Err(no_such(format!("its log is gone ({source})")))
        }
        // Of files without statistics the rows are counted.
        Err(error) => match &error {
            Error::Io { path, .. } => Err(explain(backend, root, &path.clone(), error)),
            _ => Err(error),
        },
    }
}

/// Whether the log could not be read because the operating system refused, which it may not do the next time.
pub(super) fn is_io(error: &Error) -> bool {
    let Error::Log { source, .. } = error else { return false };
    let kernel = source.downcast_ref::<KernelError>();
    kernel.is_some_and(|error| matches!(error.without_backtrace(), KernelError::IOError(_)))
}

/// What it means that `file`, which a snapshot needs, could not be read: if it is not there, and the newest version does not
/// name it, the snapshot is too old.
pub(super) fn explain(backend: &Arc<dyn Backend>, root: &Path, file: &Path, error: Error) -> Error {
    match &error {
        Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => {}
        _ => return error,
    }
    match newest(backend, root) {
        Ok(newest) if !newest.segments.iter().any(|segment| segment.files().iter().any(|named| named == file)) => {
            let name = file.strip_prefix(root).unwrap_or(file).display();
            let message = format!("its file \"{name}\" has been removed since by vacuum");
            Error::SnapshotTooOld { path: root.to_owned(), message }
        }
        _ => error,
    }
}

fn is_newest(backend: &dyn Backend, snapshot: &Snapshot) -> bool {
    let next = backend.stat(&commit_path(&snapshot.root, snapshot.version + 1));
    next.is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) && snapshot.is_still_there(backend)
}

fn log_error(root: &Path, error: KernelError) -> Error {
    match error {
        KernelError::Unsupported(message) => Error::Unsupported { path: root.to_owned(), message },
        error => Error::Log { path: root.to_owned(), source: Box::new(error) },
    }
}

fn identity(backend: &dyn Backend, root: &Path, version: u64) -> Option<Stat> {
    backend.stat(&commit_path(root, version)).ok()
}

/// Reads the log, or what has come since `base`. Segments that that has already are shared, with what they have opened.
fn resolve(
    backend: &Arc<dyn Backend>,
    root: &Path,
    version: Option<u64>,
    base: Option<&Arc<Snapshot>>,
) -> Result<Snapshot> {
    let engine = StoreEngine::new(Arc::clone(backend), root);
    let failed = |error: KernelError| log_error(root, error);
    let url = url::Url::from_directory_path(root).map_err(|()| Error::NotFound { path: root.to_owned() })?;
    let delta = match (version, base) {
        (None, Some(base)) => DeltaSnapshot::builder_from(Arc::clone(&base.delta)).build(&engine),
        (None, None) => DeltaSnapshot::builder_for(url.as_str()).build(&engine),
        (Some(version), _) => DeltaSnapshot::builder_for(url.as_str()).at_version(version).build(&engine),
    };
    // What the kernel says of a folder that is no store is no help.
    let delta = delta.map_err(|error| check_store(&**backend, root).err().unwrap_or_else(|| failed(error)))?;
    let configuration = delta.table_configuration();
    if configuration.column_mapping_mode() != ColumnMappingMode::None {
        let message = "it uses column mapping, which this release does not know".to_owned();
        return Err(Error::Unsupported { path: root.to_owned(), message });
    }
    let schema = delta_schema::read(
        root,
        &delta.schema(),
        configuration.logical_partition_columns(),
        delta.metadata_configuration(),
    )?;
    let base = base.filter(|base| base.schema == schema);
    let table = Table::new(backend, root, &schema);
    let newer = base.filter(|base| base.version <= delta.version());
    let replayed = match newer {
        Some(base) => replay(&**backend, &table, &base.segments, base.version + 1..=delta.version())?,
        None => None,
    };
    let (mut segments, txns) = match (replayed, newer) {
        (Some(Replayed { segments, txns }), Some(base)) => {
            let mut known = base.known_txns();
            known.extend(txns.into_iter().map(|(app, version)| (app, Some(version))));
            (segments, known)
        }
        _ => (read_segments(backend, &table, &delta, base.map_or(&[], |base| &base.segments))?, HashMap::new()),
    };
    // Every process has the same order, however it has read the log.
    segments.sort_by(|a, b| (a.modified_ms(), a.path()).cmp(&(b.modified_ms(), b.path())));
    let rows = segments.iter().try_fold(0_u64, |sum, segment| sum.checked_add(segment.row_count()));
    let rows = rows.ok_or_else(|| Error::damaged(root.join(LOG_DIR), "it says that there are more than 2^64 rows"))?;
    let version = delta.version();
    let identity = identity(&**backend, root, version);
    let (root, txns) = (root.to_owned(), Mutex::new(txns));
    Ok(Snapshot { root, version, schema, segments, overlay: None, rows, delta, identity, txns })
}

/// Reads the whole log. Files that are `known` are not opened again.
fn read_segments(
    backend: &Arc<dyn Backend>,
    table: &Arc<Table>,
    delta: &SnapshotRef,
    known: &[Arc<Segment>],
) -> Result<Vec<Arc<Segment>>> {
    let root = table.root();
    let engine = StoreEngine::new(Arc::clone(backend), root);
    let failed = |error: KernelError| log_error(root, error);
    let known: HashMap<&str, &Arc<Segment>> = known.iter().map(|segment| (segment.path(), segment)).collect();
    let scan = Arc::clone(delta).scan_builder().with_stats(StatsOptions::json_only()).build().map_err(failed)?;
    let mut segments = Vec::new();
    for batch in scan.scan_metadata(&engine).map_err(failed)? {
        let data = batch.and_then(|batch| batch.scan_files.apply_selection_vector()).map_err(failed)?;
        let data = ArrowEngineData::try_from_engine_data(data).map_err(failed)?;
        for mut entry in LogEntry::of_batch(root, data.record_batch())? {
            let vector = entry.vector.take();
            segments.push(match known.get(entry.path.as_str()) {
                Some(segment) if segment.vector() == vector.as_ref() => Arc::clone(segment),
                Some(segment) => Arc::new(Segment::new(Arc::clone(segment.file()), vector)?),
                None => Arc::new(Segment::new(Arc::new(entry.into_file(table)?), vector)?),
            });
        }
    }
    Ok(segments)
}

/// Tells a missing folder and a folder that is no store from a damaged one.
fn check_store(backend: &dyn Backend, root: &Path) -> Result<()> {
    let dir = root.join(LOG_DIR);
    let entries = match backend.list(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(match backend.stat(root) {
                Ok(_) => Error::NotAStore { path: root.to_owned() },
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => Error::NotFound { path: root.to_owned() },
                Err(error) => Error::io("open", root)(error),
            });
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotADirectory => {
            return Err(Error::NotAStore { path: root.to_owned() });
        }
        Err(error) => return Err(Error::io("list", &dir)(error)),
    };
    if entries.iter().any(|entry| is_log_file(&entry.name)) {
        return Ok(());
    }
    Err(Error::NotAStore { path: root.to_owned() })
}

/// Whether a file of this name in the log's folder is part of a log: a commit or a checkpoint.
pub(super) fn is_log_file(name: &str) -> bool {
    !name.starts_with(['.', '_']) && (name.ends_with(".json") || name.ends_with(".parquet"))
}
