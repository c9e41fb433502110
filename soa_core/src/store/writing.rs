//! Rows into segments, whatever they are published for.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, SortOptions, lexsort_to_indices, take_record_batch};
use arrow::datatypes::DataType as ArrowType;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::array_value_to_string;

use super::commit::Failure;
use super::paths::OWN_DIR;
use super::segment::{self, Names, PartitionValue, Segment, Written, compact};
use super::snapshot::Snapshot;
use super::{Compression, SEGMENT_ROWS_MAX, Store};
use crate::convert::join_batches;
use crate::error::{Error, Result};
use crate::schema::{DataType, Schema};

/// A segment is written when the rows collected for it take this many bytes of memory.
pub(super) const SEGMENT_BYTES_MAX: usize = 512 << 20;
/// Rows collected for all partitions together take at most this many bytes before the largest is written.
const PENDING_BYTES_MAX: usize = 1 << 30;

/// Collects rows into segments, which no commit names yet. Memory is bounded however many rows come: full segments are
/// written as they fill up. What it has written is removed when it is dropped, unless it is told to keep it.
#[derive(Debug)]
pub(super) struct SegmentWriter {
    store: Store,
    schema: Schema,
    /// Rows that are not written yet, by the values of the partition columns.
    pending: HashMap<Vec<Option<String>>, Pending>,
    pending_bytes: usize,
    written: Vec<Written>,
    names: Names,
    compression: Compression,
    /// How much memory rows may take before they are written as a segment of their own,
    segment_bytes_max: usize,
    /// and those of all partitions together before the largest is.
    pending_bytes_max: usize,
}

#[derive(Debug, Default)]
struct Pending {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl SegmentWriter {
    /// For rows of the columns that `base` has, in files as it wants them.
    pub(super) fn new(store: &Store, base: &Snapshot) -> Self {
        Self::of(store, base.schema().clone(), Compression::of(base))
    }

    /// For rows of these columns.
    pub(super) fn of(store: &Store, schema: Schema, compression: Compression) -> Self {
        Self {
            store: store.clone(),
            schema,
            pending: HashMap::new(),
            pending_bytes: 0,
            written: Vec::new(),
            names: Names::new(),
            compression,
            segment_bytes_max: SEGMENT_BYTES_MAX,
            pending_bytes_max: PENDING_BYTES_MAX,
        }
    }

    /// For rows of one segment. What is left of one of our own becomes one again, which takes the memory that it took when it
    /// was first written: several would share its time, and its place.
    pub(super) fn in_place_of(segment: &Segment, store: &Store, base: &Snapshot) -> Self {
        let mut writer = Self::new(store, base);
        if segment.file().is_own() {
            (writer.segment_bytes_max, writer.pending_bytes_max) = (usize::MAX, usize::MAX);
        }
        writer
    }

    /// Adds rows, which have the table's columns and types.
    ///
    /// # Errors
    ///
    /// When a value cannot name a partition, or a file cannot be written.
    pub(super) fn write(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        for (partition, batch) in split_by_partition(&self.schema, batch)? {
            let pending = self.pending.entry(partition.clone()).or_default();
            let bytes = memory_of(&batch);
            pending.rows += batch.num_rows();
            pending.bytes += bytes;
            pending.batches.push(batch);
            self.pending_bytes += bytes;
            if pending.rows >= SEGMENT_ROWS_MAX || pending.bytes >= self.segment_bytes_max {
                self.flush(&partition, false)?;
            }
        }
        while self.pending_bytes > self.pending_bytes_max {
            let largest = self.pending.iter().max_by_key(|(_, pending)| pending.bytes).map(|(key, _)| key.clone());
            let Some(largest) = largest else { break };
            self.flush(&largest, true)?;
        }
        Ok(())
    }

    /// Writes what is collected.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub(super) fn finish(&mut self) -> Result<()> {
        let mut partitions: Vec<_> = self.pending.keys().cloned().collect();
        partitions.sort();
        partitions.iter().try_for_each(|partition| self.flush(partition, true))
    }

    /// The segments written so far.
    pub(super) fn written(&self) -> &[Written] {
        &self.written
    }

    /// The segments, which are, or may be, part of the table now, or somebody else's to remove.
    pub(super) fn keep(mut self) -> Vec<Written> {
        std::mem::take(&mut self.written)
    }

    /// Keeps the segments if they are, or may be, part of the table.
    pub(super) fn settle<T>(self, outcome: Result<T, Failure>) -> Result<T> {
        if !matches!(outcome, Err(Failure::Nothing(_))) {
            self.keep();
        }
        outcome.map_err(Failure::into_error)
    }

    /// Writes the pending rows of a partition as segments. Unless `all`, a last one that is not full is kept.
    fn flush(&mut self, partition: &[Option<String>], all: bool) -> Result<()> {
        let Some(pending) = self.pending.remove(partition) else { return Ok(()) };
        self.pending_bytes -= pending.bytes;
        let schema = &self.schema;
        let rows = join_batches(schema, &pending.batches)?;
        drop(pending.batches);
        let values: Vec<(String, Option<String>)> =
            schema.names_of(schema.partition_by()).into_iter().zip(partition.iter().cloned()).collect();
        let mut at = 0;
        while at < rows.num_rows() {
            let len = SEGMENT_ROWS_MAX.min(rows.num_rows() - at);
            let full = len == SEGMENT_ROWS_MAX || pending.bytes >= self.segment_bytes_max;
            if !full && !all {
                break;
            }
            let sorted = sort(schema, &rows.slice(at, len))?;
            let (backend, root) = (self.store.backend(), self.store.path());
            let written = segment::write(backend, root, schema, &sorted, &values, self.compression, self.names.next())?;
            self.written.push(written);
            at += len;
        }
        if at < rows.num_rows() {
            let rest = rows.slice(at, rows.num_rows() - at);
            // A slice keeps the whole alive: copy the rest, which is less than a segment.
            let all: UInt32Array = (0..u32::try_from(rest.num_rows()).unwrap_or(u32::MAX)).collect();
            let rest = take_record_batch(&rest, &all).map_err(Error::arrow("cannot copy a batch"))?;
            let rest = compact(&rest);
            let bytes = memory_of(&rest);
            self.pending_bytes += bytes;
            let kept = Pending { rows: rest.num_rows(), bytes, batches: vec![rest] };
            self.pending.insert(partition.to_vec(), kept);
        }
        Ok(())
    }
}

impl Drop for SegmentWriter {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A commit may name them. If none does, nothing reads them.
            return;
        }
        let files: Vec<PathBuf> = self.written.drain(..).flat_map(|written| written.files).collect();
        segment::remove(self.store.backend(), &files);
        // Folders of partitions that had no row before are empty again. (One that has files is not removed.)
        let own_dir = self.store.path().join(OWN_DIR);
        let dirs = files.iter().filter_map(|file| file.parent());
        for dir in dirs.filter(|dir| *dir != self.store.path() && !dir.starts_with(&own_dir)) {
            let _ = self.store.backend().remove_dir(dir);
        }
    }
}

/// The bytes that the rows themselves take, whatever they share their buffers with.
pub(super) fn memory_of(batch: &RecordBatch) -> usize {
    batch.columns().iter().map(crate::convert::memory_of).sum()
}

/// The rows in the table's order; rows that are equal in it keep theirs.
fn sort(schema: &Schema, batch: &RecordBatch) -> Result<RecordBatch> {
    match sort_order(schema, batch)? {
        None => Ok(batch.clone()),
        Some(order) => take_record_batch(batch, &order).map_err(Error::arrow("cannot sort rows")),
    }
}

/// The positions of the rows in the table's order; `None` if it has none.
pub(super) fn sort_order(schema: &Schema, batch: &RecordBatch) -> Result<Option<UInt32Array>> {
    if schema.sort_by().is_empty() {
        return Ok(None);
    }
    let options = Some(SortOptions { descending: false, nulls_first: false });
    let mut columns: Vec<SortColumn> = schema
        .sort_by()
        .iter()
        .map(|column| SortColumn { values: Arc::clone(batch.column(*column)), options })
        .collect();
    let row: UInt32Array = (0..u32::try_from(batch.num_rows()).unwrap_or(u32::MAX)).collect();
    columns.push(SortColumn { values: Arc::new(row), options });
    lexsort_to_indices(&columns, None).map(Some).map_err(Error::arrow("cannot sort rows"))
}

/// Refuses rows with values that cannot name a partition.
///
/// # Errors
///
/// For such a value.
pub(super) fn check_partition_values(schema: &Schema, batch: &RecordBatch) -> Result<()> {
    if schema.partition_by().is_empty() {
        return Ok(());
    }
    group_by_partition(schema, batch)?.iter().try_for_each(|rows| partition_values(schema, batch, rows).map(drop))
}

/// The rows of each combination of partition values, in the order in which the combinations first occur.
fn split_by_partition(schema: &Schema, batch: RecordBatch) -> Result<Vec<(Vec<Option<String>>, RecordBatch)>> {
    if schema.partition_by().is_empty() {
        return Ok(vec![(Vec::new(), batch)]);
    }
    let groups = group_by_partition(schema, &batch)?;
    let one = groups.len() == 1;
    groups
        .into_iter()
        .map(|members| {
            let values = partition_values(schema, &batch, &members)?;
            let rows = match one {
                true => batch.clone(),
                // Each part would keep the text of all of them alive.
                false => {
                    let rows = take_record_batch(&batch, &UInt32Array::from(members));
                    compact(&rows.map_err(Error::arrow("cannot split rows"))?)
                }
            };
            Ok((values, rows))
        })
        .collect()
}

/// The positions of the rows of each combination of partition values, in the order in which the combinations first occur.
fn group_by_partition(schema: &Schema, batch: &RecordBatch) -> Result<Vec<Vec<u32>>> {
    if batch.num_rows() == 1 {
        return Ok(vec![vec![0]]);
    }
    let columns: Vec<ArrayRef> = schema.partition_by().iter().map(|column| Arc::clone(batch.column(*column))).collect();
    let fields = columns.iter().map(|column| SortField::new(column.data_type().clone())).collect();
    let converter = RowConverter::new(fields).map_err(Error::arrow("cannot compare partition values"))?;
    let rows = converter.convert_columns(&columns).map_err(Error::arrow("cannot compare partition values"))?;
    let mut groups: HashMap<&[u8], usize> = HashMap::new();
    let mut members: Vec<Vec<u32>> = Vec::new();
    for (index, row) in (0..).zip(rows.iter()) {
        let group = *groups.entry(row.data()).or_insert_with(|| {
            members.push(Vec::new());
            members.len() - 1
        });
        members[group].push(index);
    }
    Ok(members)
}

/// The partition values that rows have in common.
fn partition_values(schema: &Schema, batch: &RecordBatch, rows: &[u32]) -> Result<Vec<Option<String>>> {
    let first = rows.first().copied().unwrap_or(0) as usize;
    let values = schema.partition_by().iter();
    values.map(|column| partition_text(schema, *column, batch.column(*column), first)).collect()
}

/// A partition value as Delta serializes it.
fn partition_text(schema: &Schema, column: usize, array: &ArrayRef, row: usize) -> Result<Option<String>> {
    let field = schema.field(column);
    if array.is_null(row) || array.logical_nulls().is_some_and(|nulls| nulls.is_null(row)) {
        return Ok(None);
    }
    let text = match (field.data_type(), array.data_type()) {
        (DataType::Timestamp { utc }, _) => {
            let micros = array.as_primitive::<arrow::datatypes::TimestampMicrosecondType>().value(row);
            let time = chrono::DateTime::from_timestamp_micros(micros);
            let time = time
                .ok_or_else(|| Error::value(field.name(), format!("{micros} µs since 1970 cannot name a partition")))?;
            time.format(if *utc { "%Y-%m-%dT%H:%M:%S%.6fZ" } else { "%Y-%m-%d %H:%M:%S%.6f" }).to_string()
        }
        (DataType::UInt64, ArrowType::UInt64) => {
            // As the long that has the same bits.
            (array.as_primitive::<arrow::datatypes::UInt64Type>().value(row).cast_signed()).to_string()
        }
        _ => array_value_to_string(array, row).map_err(Error::arrow("cannot write a partition value"))?,
    };
    if text.is_empty() {
        return Err(Error::value(
            field.name(),
            "a partition value is the empty text, which Delta Lake takes for NULL; give NULL or another text",
        ));
    }
    // What is written into the log must be read from it: a value that is not would close the store for good.
    let read = PartitionValue::parse(field, Some(&text)).and_then(|value| value.to_array(field.data_type(), 1));
    if read.is_none_or(|read| read.to_data() != array.slice(row, 1).to_data()) {
        return Err(Error::value(field.name(), format!("{text} cannot name a partition")));
    }
    Ok(Some(text))
}
