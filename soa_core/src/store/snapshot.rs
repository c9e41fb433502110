//! A snapshot: the rows of one version, whatever is written later.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::{Array, AsArray, MapArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{Int32Type, Int64Type};
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::scan::StatsOptions;
use delta_kernel::table_features::ColumnMappingMode;
use delta_kernel::{KernelError, Snapshot as DeltaSnapshot, SnapshotRef};

use super::engine::StoreEngine;
use super::io::{Backend, Stat};
use super::overlay::Overlay;
use super::paths::{self, LOG_DIR, commit_path};
use super::segment::{CHECKSUMS_TAG, PartitionValue, Segment, SegmentFile, SegmentMeta};
use super::vector::DeletionVector;
use super::wal::tail::Tail;
use super::{Store, delta_schema, log, stats};
use crate::error::{Error, Result};
use crate::predicate::Bounds;
use crate::schema::Schema;

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

    /// By which another process can take the same snapshot; see [`Store::snapshot_of`].
    pub fn id(&self) -> SnapshotId {
        SnapshotId { version: self.version, log_sequence: self.overlay.as_ref().map(|overlay| overlay.sequence()) }
    }

    /// How many of the rows are in the write-ahead log and in no segment yet.
    pub fn log_row_count(&self) -> u64 {
        self.overlay.as_ref().map_or(0, |overlay| overlay.row_count())
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
        let segments = tail.hide(&self.segments)?;
        let overlay = tail.overlay();
        let rows = segments.iter().map(|segment| segment.row_count()).sum::<u64>() + overlay.row_count();
        Ok(Self {
            root: self.root.clone(),
            version: self.version,
            schema: self.schema.clone(),
            segments,
            overlay: Some(Arc::new(overlay)),
            rows,
            delta: Arc::clone(&self.delta),
            identity: self.identity,
        })
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
        let engine = StoreEngine::new(Arc::clone(&store.backend), &self.root);
        self.delta.get_app_id_version(app, &engine).map_err(|error| log_error(&self.root, error))
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
        Err(Error::Log { source, .. })
            if log::versions(&**backend, root)?.first().is_none_or(|oldest| *oldest > version) =>
        {
            Err(no_such(format!("its log is gone ({source})")))
        }
        Err(error) => Err(error),
    }
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

/// Reads the log. Segments that `base` has already are shared, with what they have opened.
fn resolve(
    backend: &Arc<dyn Backend>,
    root: &Path,
    version: Option<u64>,
    base: Option<&Arc<Snapshot>>,
) -> Result<Snapshot> {
    check_store(&**backend, root)?;
    let engine = StoreEngine::new(Arc::clone(backend), root);
    let failed = |error: KernelError| log_error(root, error);
    let url = url::Url::from_directory_path(root).map_err(|()| Error::NotFound { path: root.to_owned() })?;
    let delta = match (version, base) {
        (None, Some(base)) => DeltaSnapshot::builder_from(Arc::clone(&base.delta)).build(&engine),
        (None, None) => DeltaSnapshot::builder_for(url.as_str()).build(&engine),
        (Some(version), _) => DeltaSnapshot::builder_for(url.as_str()).at_version(version).build(&engine),
    }
    .map_err(failed)?;
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
    let known: HashMap<&str, &Arc<Segment>> = match base {
        Some(base) if base.schema == schema => base.segments.iter().map(|segment| (segment.path(), segment)).collect(),
        _ => HashMap::new(),
    };
    let scan = Arc::clone(&delta).scan_builder().with_stats(StatsOptions::json_only()).build().map_err(failed)?;
    let mut segments = Vec::new();
    for batch in scan.scan_metadata(&engine).map_err(failed)? {
        let data = batch.and_then(|batch| batch.scan_files.apply_selection_vector()).map_err(failed)?;
        let data = ArrowEngineData::try_from_engine_data(data).map_err(failed)?;
        for (meta, vector) in read_files(root, &schema, data.record_batch())? {
            segments.push(match known.get(meta.path.as_str()) {
                Some(segment) if segment.vector() == vector.as_ref() => Arc::clone(segment),
                Some(segment) => Arc::new(Segment::new(Arc::clone(segment.file()), vector)?),
                None => {
                    let file = SegmentFile::new(Arc::clone(backend), root.to_owned(), &schema, meta)?;
                    Arc::new(Segment::new(Arc::new(file), vector)?)
                }
            });
        }
    }
    // The kernel gives the newest commits first; within one, files as they were written.
    segments.sort_by_key(|segment| segment.modified_ms());
    let rows = segments.iter().try_fold(0_u64, |sum, segment| sum.checked_add(segment.row_count()));
    let rows = rows.ok_or_else(|| Error::damaged(root.join(LOG_DIR), "it says that there are more than 2^64 rows"))?;
    let version = delta.version();
    let identity = identity(&**backend, root, version);
    Ok(Snapshot { root: root.to_owned(), version, schema, segments, overlay: None, rows, delta, identity })
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

/// The files that a batch of the kernel's scan metadata names, and which of their rows are gone.
fn read_files(root: &Path, schema: &Schema, batch: &RecordBatch) -> Result<Vec<(SegmentMeta, Option<DeletionVector>)>> {
    let shape = || Error::damaged(root.join(LOG_DIR), "an entry is not of the form it should have");
    let text =
        |name: &str| batch.column_by_name(name).and_then(|column| column.as_string_opt::<i32>()).ok_or_else(shape);
    let long =
        |name: &str| batch.column_by_name(name).and_then(|c| c.as_primitive_opt::<Int64Type>()).ok_or_else(shape);
    let (paths, stats) = (text("path")?, text("stats")?);
    let (sizes, times) = (long("size")?, long("modificationTime")?);
    let vectors = batch.column_by_name("deletionVector").and_then(|c| c.as_struct_opt()).ok_or_else(shape)?;
    let constants = batch.column_by_name("fileConstantValues").and_then(|c| c.as_struct_opt()).ok_or_else(shape)?;
    let map = |name: &str| constants.column_by_name(name).and_then(|column| column.as_map_opt()).ok_or_else(shape);
    let (partitions, tags) = (map("partitionValues")?, map("tags")?);
    (0..batch.num_rows())
        .map(|row| {
            let path = paths::decode(root, paths.value(row))?;
            let values = entries(partitions, row).ok_or_else(shape)?;
            let tags = entries(tags, row).unwrap_or_default();
            let meta = Logged {
                path,
                bytes: u64::try_from(sizes.value(row)).map_err(|_| shape())?,
                modified_ms: times.value(row),
                values,
                stats: (!stats.is_null(row)).then(|| stats.value(row).to_owned()),
                tags,
            }
            .into_meta(schema)?;
            Ok((meta, read_vector(root, vectors, row)?))
        })
        .collect()
}

/// An entry of the log for a file, as it is there.
pub(super) struct Logged {
    /// Relative to the store, decoded.
    pub(super) path: String,
    pub(super) bytes: u64,
    pub(super) modified_ms: i64,
    /// The partition columns and their values.
    pub(super) values: HashMap<String, Option<String>>,
    pub(super) stats: Option<String>,
    pub(super) tags: HashMap<String, Option<String>>,
}

impl Logged {
    /// What it says of the file of a table of this schema.
    ///
    /// # Errors
    ///
    /// When a partition value is none of its column.
    pub(super) fn into_meta(self, schema: &Schema) -> Result<SegmentMeta> {
        let path = &self.path;
        let partition = (0..schema.len()).map(|column| {
            if !schema.partition_by().contains(&column) {
                return Ok(None);
            }
            let field = schema.field(column);
            let text = self.values.get(field.name()).cloned().flatten();
            PartitionValue::parse(field, text.as_deref()).map(Some).ok_or_else(|| {
                let message = format!("\"{path}\" has the partition value {text:?}, which is no {}", field.data_type());
                Error::value(field.name(), message)
            })
        });
        let partition = partition.collect::<Result<Vec<_>>>()?;
        let known = self.stats.as_deref().and_then(|stats| stats::from_json(schema, stats));
        let (rows, bounds) = known.map_or((None, None), |(rows, bounds)| (Some(rows), Some(bounds)));
        Ok(SegmentMeta {
            parquet_bytes: self.bytes,
            modified_ms: self.modified_ms,
            rows,
            bounds,
            partition,
            checksums_tag: self.tags.get(CHECKSUMS_TAG).cloned().flatten(),
            stats: self.stats,
            tags: self.tags.into_iter().collect(),
            path: self.path,
        })
    }
}

fn read_vector(root: &Path, vectors: &StructArray, row: usize) -> Result<Option<DeletionVector>> {
    let column =
        |name: &str| vectors.column_by_name(name).filter(|column| vectors.is_valid(row) && column.is_valid(row));
    let Some(kind) = column("storageType").and_then(|column| column.as_string_opt::<i32>()) else { return Ok(None) };
    let place = column("pathOrInlineDv").and_then(|column| column.as_string_opt::<i32>());
    let size = column("sizeInBytes").and_then(|column| column.as_primitive_opt::<Int32Type>());
    let cardinality = column("cardinality").and_then(|column| column.as_primitive_opt::<Int64Type>());
    let (Some(place), Some(size), Some(cardinality)) = (place, size, cardinality) else {
        return Err(Error::damaged(root.join(LOG_DIR), "an entry has half a deletion vector"));
    };
    let offset = column("offset").and_then(|column| column.as_primitive_opt::<Int32Type>()).map(|c| c.value(row));
    DeletionVector::new(root, kind.value(row), place.value(row), offset, size.value(row), cardinality.value(row))
        .map(Some)
}

fn entries(map: &MapArray, row: usize) -> Option<HashMap<String, Option<String>>> {
    if map.is_null(row) {
        return None;
    }
    let entries = map.value(row);
    let keys: &StringArray = entries.column(0).as_string_opt()?;
    let values: &StringArray = entries.column(1).as_string_opt()?;
    Some(keys.iter().zip(values).filter_map(|(key, value)| Some((key?.to_owned(), value.map(str::to_owned)))).collect())
}
