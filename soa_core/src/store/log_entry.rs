//! What the log says of a file, as the kernel gives it or as a commit has it.

use std::path::Path;
use std::sync::Arc;

use arrow::array::{Array, AsArray, MapArray, RecordBatch, StringArray, StructArray};
use arrow::datatypes::{Int32Type, Int64Type};
use serde_json::Value;

use super::logged_stats::LoggedStats;
use super::paths::{self, LOG_DIR};
use super::segment::{CHECKSUMS_TAG, PartitionValue, SegmentFile, SegmentMeta, Table};
use super::vector::DeletionVector;
use crate::error::{Error, Result};

/// The members of an object of the log, all texts or NULL. There are few.
type Members = Vec<(String, Option<String>)>;

/// The `add` of a file.
#[derive(Debug)]
pub(super) struct LogEntry {
    /// Relative to the store, decoded.
    pub(super) path: String,
    /// The same as the log writes it.
    logged_path: String,
    bytes: u64,
    modified_ms: i64,
    /// The partition columns and their values.
    partition_values: Members,
    stats: Option<String>,
    tags: Members,
    /// Which of its rows are gone.
    pub(super) vector: Option<DeletionVector>,
}

impl LogEntry {
    /// The `add` of a commit.
    ///
    /// # Errors
    ///
    /// When it is not of the form that it should have, or its path leaves the store.
    pub(super) fn from_json(root: &Path, add: &Value) -> Result<Self> {
        let logged_path = add.get("path").and_then(Value::as_str).unwrap_or_default().to_owned();
        let texts = |name: &str| {
            let map = add.get(name).and_then(Value::as_object).into_iter().flatten();
            map.map(|(name, value)| (name.clone(), value.as_str().map(str::to_owned))).collect()
        };
        let damaged = || Error::damaged(root.join(LOG_DIR), format!("the entry of \"{logged_path}\" has no size"));
        Ok(Self {
            path: paths::decode(root, &logged_path)?,
            bytes: add.get("size").and_then(Value::as_u64).ok_or_else(damaged)?,
            modified_ms: add.get("modificationTime").and_then(Value::as_i64).unwrap_or(0),
            partition_values: texts("partitionValues"),
            stats: add.get("stats").and_then(Value::as_str).map(str::to_owned),
            tags: texts("tags"),
            vector: vector_of(root, add)?,
            logged_path,
        })
    }

    /// The entries of a batch of the kernel's scan metadata.
    ///
    /// # Errors
    ///
    /// As [`from_json`](Self::from_json).
    pub(super) fn of_batch(root: &Path, batch: &RecordBatch) -> Result<Vec<Self>> {
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
                Ok(Self {
                    path: paths::decode(root, paths.value(row))?,
                    logged_path: paths.value(row).to_owned(),
                    bytes: u64::try_from(sizes.value(row)).map_err(|_| shape())?,
                    modified_ms: times.value(row),
                    partition_values: entries(partitions, row).ok_or_else(shape)?,
                    stats: (!stats.is_null(row)).then(|| stats.value(row).to_owned()),
                    tags: entries(tags, row).unwrap_or_default(),
                    vector: read_vector(root, vectors, row)?,
                })
            })
            .collect()
    }

    /// The file, which was not opened yet.
    ///
    /// # Errors
    ///
    /// When a partition value is none of its column.
    pub(super) fn into_file(self, table: &Arc<Table>) -> Result<SegmentFile> {
        let path = &self.path;
        let partition = table.schema().partition_by().iter().map(|column| {
            let field = table.schema().field(*column);
            let text = member(&self.partition_values, field.name());
            PartitionValue::parse(field, text).ok_or_else(|| {
                let message = format!("\"{path}\" has the partition value {text:?}, which is no {}", field.data_type());
                Error::value(field.name(), message)
            })
        });
        let meta = SegmentMeta {
            partition: partition.collect::<Result<_>>()?,
            parquet_bytes: self.bytes,
            modified_ms: self.modified_ms,
            checksums_tag: member(&self.tags, CHECKSUMS_TAG).map(str::to_owned),
            stats: self.stats.map(LoggedStats::new),
            tags: self.tags,
            path: self.path,
            logged_path: self.logged_path,
        };
        SegmentFile::new(Arc::clone(table), meta)
    }
}

fn member<'a>(members: &'a Members, name: &str) -> Option<&'a str> {
    members.iter().find(|(member, _)| member == name).and_then(|(_, text)| text.as_deref())
}

/// The deletion vector of an `add` or a `remove`.
///
/// # Errors
///
/// When it is none.
pub(super) fn vector_of(root: &Path, file: &Value) -> Result<Option<DeletionVector>> {
    let vector = file.get("deletionVector").filter(|vector| !vector.is_null());
    vector.map(|vector| DeletionVector::from_json(root, vector)).transpose()
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

fn entries(map: &MapArray, row: usize) -> Option<Members> {
    if map.is_null(row) {
        return None;
    }
    let (start, end) = (map.value_offsets()[row], map.value_offsets()[row + 1]);
    let keys: &StringArray = map.keys().as_string_opt()?;
    let values: &StringArray = map.values().as_string_opt()?;
    let text = |array: &StringArray, at: usize| (!array.is_null(at)).then(|| array.value(at).to_owned());
    let range = usize::try_from(start).ok()?..usize::try_from(end).ok()?;
    Some(range.filter_map(|at| Some((text(keys, at)?, text(values, at)))).collect())
}
