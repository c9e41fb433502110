//! Writing a segment: both forms, synced, before any commit names them.

use std::path::{Path, PathBuf};

use arrow::array::{ArrayRef, RecordBatch};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use std::thread::{self, ScopedJoinHandle};
use uuid::Uuid;

use super::file::{arrow_path, key_path};
use super::parquet_form::{self, Encoded};
use super::{arrow_form, key_index};
use crate::convert::compact_array;
use crate::error::{Error, Result};
use crate::schema::{Field, Schema};
use crate::store::io::Backend;
use crate::store::log::now_ms;
use crate::store::paths;
use crate::store::stats::{self, ColumnStats};
use crate::store::{Compression, UNIT_ROWS};

/// The tag of an `add` that has the Parquet file's checksums.
pub(in crate::store) const CHECKSUMS_TAG: &str = "soa.crc32c";

/// A segment whose files are on disk and durable, and that no commit names yet.
#[derive(Debug)]
pub(in crate::store) struct Written {
    /// The `add` that publishes it.
    pub(in crate::store) add: Value,
    pub(in crate::store) rows: u64,
    pub(in crate::store) parquet_bytes: u64,
    /// What to remove if it is not published.
    pub(in crate::store) files: Vec<PathBuf>,
}

/// Names for segments that may be of one time. Each sorts behind those before it, so that this is the order of their rows.
#[derive(Debug)]
pub(in crate::store) struct Names(u128);

impl Names {
    pub(in crate::store) fn new() -> Self {
        // All but the last 32 bits tell them from others'.
        Self(Uuid::new_v4().as_u128() >> 32 << 32)
    }

    pub(in crate::store) fn next(&mut self) -> Uuid {
        let name = Uuid::from_u128(self.0);
        self.0 += 1;
        name
    }
}

/// Writes the rows of `batch`, which has all of the table's columns, as one segment.
///
/// `partition` has the values that all rows share in the partition columns, as the log writes them. `name` is not used yet.
///
/// # Errors
///
/// When a file cannot be written; then neither form is left behind.
pub(in crate::store) fn write(
    backend: &dyn Backend,
    root: &Path,
    schema: &Schema,
    batch: &RecordBatch,
    partition: &[(String, Option<String>)],
    compression: Compression,
    name: Uuid,
) -> Result<Written> {
    let stored: Vec<usize> = (0..schema.len()).filter(|column| !schema.partition_by().contains(column)).collect();
    let fields: Vec<Field> = stored.iter().map(|column| schema.field(*column).clone()).collect();
    let rows = batch.num_rows();
    let batch = batch.project(&stored).map_err(Error::arrow("cannot project a batch"))?;
    let units: Vec<RecordBatch> =
        (0..rows).step_by(UNIT_ROWS).map(|at| batch.slice(at, UNIT_ROWS.min(rows - at))).collect();

    let dir = paths::partition_dir(partition);
    let relative = format!("{dir}part-{name}.parquet");
    let parquet_path = root.join(&relative);
    let arrow_path = arrow_path(root, &relative);
    let made = |path: &Path| {
        let dir = path.parent().unwrap_or(root);
        backend.create_dirs_below(root, dir).map_err(Error::io("create", dir))
    };
    let key = schema.key().and_then(|key| stored.iter().position(|column| *column == key));
    let index_path = key.map(|_| key_path(root, &relative));
    for path in [&parquet_path, &arrow_path].into_iter().chain(&index_path) {
        made(path)?;
        paths::check_inside(root, path.parent().unwrap_or(root))?;
    }

    // The Arrow form is on its way to the disk while Parquet is encoded.
    let (parquet, arrow, index) = thread::scope(|scope| {
        let parquet = scope.spawn(|| write_parquet(backend, root, &parquet_path, &units, schema, &fields, compression));
        let index = key.zip(index_path.as_deref()).map(|(key, path)| {
            let units = &units;
            scope.spawn(move || write_keys(backend, path, units, key))
        });
        let arrow = write_arrow(backend, &arrow_path, &units);
        (joined(parquet), arrow, index.map_or(Ok(()), joined))
    });
    let files: Vec<PathBuf> = [parquet_path, arrow_path].into_iter().chain(index_path).collect();
    let (encoded, stats) = match (parquet, arrow, index) {
        (Ok(parquet), Ok(arrow), Ok(())) => (parquet, arrow),
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => {
            remove(backend, &files);
            return Err(error);
        }
    };

    let mut totals = vec![ColumnStats::EMPTY; schema.len()];
    for (column, stats) in stored.iter().zip(stats) {
        totals[*column] = stats;
    }
    let log_columns = crate::store::delta_schema::stats_columns(schema);
    let values: Map<String, Value> = partition.iter().map(|(column, value)| (column.clone(), json!(value))).collect();
    let add = json!({"add": {
        "path": paths::encode(&relative),
        "partitionValues": values,
        "size": encoded.bytes,
        "modificationTime": now_ms(),
        "dataChange": true,
        "stats": stats::to_json(schema, &log_columns, rows as u64, &totals),
        "tags": {CHECKSUMS_TAG: encoded.checksums.to_tag()},
    }});
    Ok(Written { add, rows: rows as u64, parquet_bytes: encoded.bytes, files })
}

fn joined<T>(thread: ScopedJoinHandle<'_, T>) -> T {
    thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// Removes files that no commit names. What stays is an orphan that nothing reads.
pub(in crate::store) fn remove(backend: &dyn Backend, files: &[PathBuf]) {
    for file in files {
        let _ = backend.remove(file);
    }
}

fn write_parquet(
    backend: &dyn Backend,
    root: &Path,
    path: &Path,
    units: &[RecordBatch],
    schema: &Schema,
    fields: &[Field],
    compression: Compression,
) -> Result<Encoded> {
    let encoded = write_new(backend, path, |file| parquet_form::write(units, schema, fields, compression, file))?;
    // Whoever made a partition's folder may not have made its name durable yet.
    for dir in path.ancestors().skip(1).take_while(|dir| dir.starts_with(root)) {
        backend.sync_dir(dir).map_err(Error::io("sync", dir))?;
    }
    Ok(encoded)
}

/// Returns the statistics of each column.
pub(super) fn write_arrow(backend: &dyn Backend, path: &Path, units: &[RecordBatch]) -> Result<Vec<ColumnStats>> {
    let stats = write_new(backend, path, |file| {
        arrow_form::write(units, file).map_err(|error| match error {
            arrow::error::ArrowError::IoError(_, error) => error,
            other => std::io::Error::other(other),
        })
    })?;
    let dir = path.parent().unwrap_or(Path::new("."));
    backend.sync_dir(dir).map_err(Error::io("sync", dir))?;
    Ok(stats)
}

fn write_keys(backend: &dyn Backend, path: &Path, units: &[RecordBatch], key: usize) -> Result<()> {
    let keys: Vec<ArrayRef> = units.iter().map(|unit| Arc::clone(unit.column(key))).collect();
    write_new(backend, path, |file| key_index::write(&keys, file))?;
    let dir = path.parent().unwrap_or(Path::new("."));
    backend.sync_dir(dir).map_err(Error::io("sync", dir))
}

/// Writes a file and returns what `content` does. Another writer that gave up may have removed the folder, which it had
/// made, since it was looked for.
fn write_new<T>(
    backend: &dyn Backend,
    path: &Path,
    content: impl Fn(&mut dyn std::io::Write) -> std::io::Result<T>,
) -> Result<T> {
    let mut result = None;
    let mut write = |file: &mut dyn std::io::Write| {
        result = Some(content(file)?);
        Ok(())
    };
    let written = match backend.write_new(path, &mut write) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            let dir = path.parent().unwrap_or(Path::new("."));
            // Made anew, it gives the access that the store does.
            let there = dir.ancestors().find(|above| backend.stat(above).is_ok()).unwrap_or(dir);
            backend.create_dirs_below(there, dir).and_then(|()| backend.write_new(path, &mut write))
        }
        other => other,
    };
    let nothing = || std::io::Error::other("nothing was written");
    written.and_then(|()| result.ok_or_else(nothing)).map_err(Error::io("write", path))
}

/// The same rows in arrays of their own: views refer to no more text than the rows have.
pub(in crate::store) fn compact(batch: &RecordBatch) -> RecordBatch {
    let columns: Vec<ArrayRef> = batch.columns().iter().map(compact_array).collect();
    RecordBatch::try_new(batch.schema(), columns).expect("the columns have the types and lengths they had")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_one_writer_sort_as_they_were_given() {
        let mut names = Names::new();
        let given: Vec<String> = (0..300).map(|_| names.next().to_string()).collect();
        assert!(given.is_sorted_by(|a, b| a < b), "{given:?}");
        assert!(given.iter().all(|name| Uuid::parse_str(name).is_ok_and(|id| id.get_version_num() == 4)));
        assert_ne!(given[0], Names::new().next().to_string());
    }
}
