//! Appending rows: segments first, then one commit that makes them visible.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, RecordBatch, UInt32Array};
use arrow::compute::{SortColumn, SortOptions, concat_batches, lexsort_to_indices, take_record_batch};
use arrow::datatypes::DataType as ArrowType;
use arrow::row::{RowConverter, SortField};
use arrow::util::display::array_value_to_string;
use serde_json::{Map, Value};

use super::log::{self, Outcome};
use super::paths::ARROW_DIR;
use super::segment::{self, PartitionValue, Segment, Written, compact};
use super::snapshot::Snapshot;
use super::stats::ColumnStats;
use super::{SEGMENT_ROWS_MAX, Store};
use crate::convert::cast_batch;
use crate::error::{Error, Result};
use crate::predicate::Predicate;
use crate::schema::{DataType, Schema, arrow_schema};

/// A segment is written when the rows collected for it take this many bytes of memory.
const SEGMENT_BYTES_MAX: usize = 512 << 20;
/// Rows collected for all partitions together take at most this many bytes before the largest is written.
const PENDING_BYTES_MAX: usize = 1 << 30;
/// How often a commit is tried against others that keep being faster.
const ATTEMPTS_MAX: u32 = 100;
/// The longest wait before another attempt.
const BACKOFF_MS_MAX: u64 = 50;

/// Collects rows into segments and publishes them all in one commit.
///
/// Memory is bounded however many rows come (but for 8 to 16 bytes for each key of a keyed store): full segments
/// are written as they fill up. Nothing is visible
/// before [`commit`](Self::commit); an appender that is dropped before leaves no trace in the store.
#[derive(Debug)]
pub struct Appender {
    store: Store,
    base: Arc<Snapshot>,
    /// Rows that are not written yet, by the values of the partition columns.
    pending: HashMap<Vec<Option<String>>, Pending>,
    pending_bytes: usize,
    written: Vec<Written>,
    keys: Option<Keys>,
    rows: u64,
}

#[derive(Debug, Default)]
struct Pending {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Appender {
    pub(super) fn new(store: &Store) -> Result<Self> {
        let base = store.snapshot()?;
        check_writable(&base)?;
        let keys = base.schema().key().map(|key| Keys::new(base.schema(), key));
        Ok(Self {
            store: store.clone(),
            base,
            pending: HashMap::new(),
            pending_bytes: 0,
            written: Vec::new(),
            keys,
            rows: 0,
        })
    }

    /// The table's columns.
    pub fn schema(&self) -> &Schema {
        self.base.schema()
    }

    /// How many rows were given so far.
    pub fn row_count(&self) -> u64 {
        self.rows
    }

    /// Adds rows, matched by column name and converted to the table's types.
    ///
    /// # Errors
    ///
    /// When a column is unknown, missing or of another kind, a value does not fit, a key was given before, or
    /// a file cannot be written. The appender should then be dropped: which rows it took is not defined.
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = cast_batch(batch, self.base.schema())?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if let Some(keys) = &mut self.keys {
            keys.insert(&batch)?;
        }
        self.rows += batch.num_rows() as u64;
        for (partition, batch) in split_by_partition(self.base.schema(), batch)? {
            let pending = self.pending.entry(partition.clone()).or_default();
            let bytes = memory_of(&batch);
            pending.rows += batch.num_rows();
            pending.bytes += bytes;
            pending.batches.push(batch);
            self.pending_bytes += bytes;
            if pending.rows >= SEGMENT_ROWS_MAX || pending.bytes >= SEGMENT_BYTES_MAX {
                self.flush(&partition, false)?;
            }
        }
        while self.pending_bytes > PENDING_BYTES_MAX {
            let largest = self.pending.iter().max_by_key(|(_, pending)| pending.bytes).map(|(key, _)| key.clone());
            let Some(largest) = largest else { break };
            self.flush(&largest, true)?;
        }
        Ok(())
    }

    /// Publishes the rows: afterwards every reader sees all of them. Returns the version that has them, which is
    /// the current one if there were none.
    ///
    /// # Errors
    ///
    /// When a key exists already, a file cannot be written, or other writers kept being faster. Nothing is visible
    /// then and nothing left behind, unless the error is one of I/O after which the outcome is not known.
    pub fn commit(mut self) -> Result<u64> {
        let mut partitions: Vec<_> = self.pending.keys().cloned().collect();
        partitions.sort();
        for partition in partitions {
            self.flush(&partition, true)?;
        }
        if self.written.is_empty() {
            return Ok(self.base.version());
        }
        let mut checked: HashSet<String> = HashSet::new();
        let mut base = Arc::clone(&self.base);
        for attempt in 0..ATTEMPTS_MAX {
            if let Some(keys) = &self.keys {
                for segment in base.segments() {
                    if checked.insert(segment.path().to_owned()) {
                        keys.check_against(segment)?;
                    }
                }
            }
            if !base.is_still_there(self.store.backend()) {
                return Err(Error::mismatch(format!(
                    "the store at \"{}\" was replaced by another one meanwhile; append again",
                    self.store.path().display()
                )));
            }
            match self.try_commit(&base) {
                Outcome::Committed => {
                    let version = base.version() + 1;
                    self.written.clear();
                    self.store.after_commit(version);
                    return Ok(version);
                }
                Outcome::Conflict => back_off(attempt),
                Outcome::Unknown(error) => {
                    // The files may be part of the table now.
                    self.written.clear();
                    return Err(error);
                }
                Outcome::Failed(error) => return Err(error),
            }
            base = self.store.snapshot()?;
            if base.schema() != self.base.schema() {
                return Err(Error::mismatch(format!(
                    "the columns of \"{}\" were changed by another writer meanwhile; append again",
                    self.store.path().display()
                )));
            }
            check_writable(&base)?;
        }
        Err(Error::Conflict { path: self.store.path().to_owned(), attempts: ATTEMPTS_MAX })
    }

    fn try_commit(&self, base: &Snapshot) -> Outcome {
        // Readers put segments in the order of these times, so that rows come in the order of commits.
        let newest = base.segments().iter().map(|segment| segment.modified_ms()).max().unwrap_or(0);
        let first_ms = log::now_ms().max(newest + 1);
        let mut actions: Vec<Value> = Vec::with_capacity(self.written.len());
        for (written, time) in self.written.iter().zip(first_ms..) {
            let mut action = written.add.clone();
            action["add"]["modificationTime"] = time.into();
            actions.push(action);
        }
        let bytes: u64 = self.written.iter().map(|written| written.parquet_bytes).sum();
        let rows: u64 = self.written.iter().map(|written| written.rows).sum();
        let metrics = [("numFiles", self.written.len() as u64), ("numOutputRows", rows), ("numOutputBytes", bytes)];
        let metrics: Map<String, Value> =
            metrics.into_iter().map(|(name, value)| (name.to_owned(), value.to_string().into())).collect();
        log::commit(self.store.backend(), self.store.path(), base.version() + 1, "WRITE", metrics, &actions)
    }

    /// Writes the pending rows of a partition as segments. Unless `all`, a last one that is not full is kept.
    fn flush(&mut self, partition: &[Option<String>], all: bool) -> Result<()> {
        let Some(pending) = self.pending.remove(partition) else { return Ok(()) };
        self.pending_bytes -= pending.bytes;
        let schema = self.base.schema();
        let rows =
            concat_batches(&arrow_schema(schema), &pending.batches).map_err(Error::arrow("cannot join batches"))?;
        drop(pending.batches);
        let values: Vec<(String, Option<String>)> =
            schema.names_of(schema.partition_by()).into_iter().zip(partition.iter().cloned()).collect();
        let mut at = 0;
        while at < rows.num_rows() {
            let len = SEGMENT_ROWS_MAX.min(rows.num_rows() - at);
            let full = len == SEGMENT_ROWS_MAX || pending.bytes >= SEGMENT_BYTES_MAX;
            if !full && !all {
                break;
            }
            let sorted = sort(schema, &rows.slice(at, len))?;
            let written = segment::write(self.store.backend(), self.store.path(), schema, &sorted, &values)?;
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

impl Drop for Appender {
    fn drop(&mut self) {
        let files: Vec<PathBuf> = self.written.drain(..).flat_map(|written| written.files).collect();
        segment::remove(self.store.backend(), &files);
        // Folders of partitions that had no row before are empty again. (One that has files is not removed.)
        let arrow_dir = self.store.path().join(ARROW_DIR);
        let dirs = files.iter().filter_map(|file| file.parent());
        for dir in dirs.filter(|dir| *dir != self.store.path() && *dir != arrow_dir) {
            let _ = self.store.backend().remove_dir(dir);
        }
    }
}

/// The bytes that the rows themselves take, whatever they share their buffers with.
fn memory_of(batch: &RecordBatch) -> usize {
    let bytes = |array: &ArrayRef| match array.data_type() {
        ArrowType::Utf8View => 16 * array.len() + array.as_string_view().total_buffer_bytes_used(),
        ArrowType::BinaryView => 16 * array.len() + array.as_binary_view().total_buffer_bytes_used(),
        other => other.primitive_width().unwrap_or(1) * array.len(),
    };
    batch.columns().iter().map(bytes).sum()
}

/// Refuses tables whose rules for writers this release does not know.
fn check_writable(snapshot: &Snapshot) -> Result<()> {
    let protocol = snapshot.delta().table_configuration().protocol();
    let refuse = |message: String| Err(Error::Unsupported { path: snapshot.path().to_owned(), message });
    if protocol.min_writer_version() > 7 || (3..7).contains(&protocol.min_writer_version()) {
        return refuse(format!(
            "writing to it needs Delta writer version {}, which this release does not know; it can be read",
            protocol.min_writer_version()
        ));
    }
    let known = ["appendOnly", "invariants", "timestampNtz"];
    for feature in protocol.writer_features().unwrap_or_default() {
        let name = feature.to_string();
        if !known.contains(&name.as_str()) {
            return refuse(format!(
                "writing to it needs the Delta feature \"{name}\", which this release does not know; it can be read"
            ));
        }
    }
    let schema = snapshot.delta().schema();
    let constrained = schema.fields().find(|field| field.metadata().contains_key("delta.invariants"));
    match constrained {
        Some(field) => refuse(format!(
            "its column \"{}\" has a constraint, which this release cannot check; it can be read",
            field.name()
        )),
        None => Ok(()),
    }
}

fn back_off(attempt: u32) {
    // Any number will do to part two writers that collide; a UUID's bits are at hand.
    let random = u64::from(uuid::Uuid::new_v4().as_fields().0);
    let ceiling = (1_u64 << attempt.min(6)).min(BACKOFF_MS_MAX) * 1000;
    std::thread::sleep(Duration::from_micros(random % ceiling));
}

/// The rows in the table's order; rows that are equal in it keep theirs.
fn sort(schema: &Schema, batch: &RecordBatch) -> Result<RecordBatch> {
    if schema.sort_by().is_empty() {
        return Ok(batch.clone());
    }
    let options = Some(SortOptions { descending: false, nulls_first: false });
    let mut columns: Vec<SortColumn> = schema
        .sort_by()
        .iter()
        .map(|column| SortColumn { values: Arc::clone(batch.column(*column)), options })
        .collect();
    let row: UInt32Array = (0..u32::try_from(batch.num_rows()).unwrap_or(u32::MAX)).collect();
    columns.push(SortColumn { values: Arc::new(row), options });
    let order = lexsort_to_indices(&columns, None).map_err(Error::arrow("cannot sort rows"))?;
    take_record_batch(batch, &order).map_err(Error::arrow("cannot sort rows"))
}

/// The rows of each combination of partition values, in the order in which the combinations first occur.
fn split_by_partition(schema: &Schema, batch: RecordBatch) -> Result<Vec<(Vec<Option<String>>, RecordBatch)>> {
    if schema.partition_by().is_empty() {
        return Ok(vec![(Vec::new(), batch)]);
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
    let one = members.len() == 1;
    members
        .into_iter()
        .map(|members| {
            let first = members.first().copied().unwrap_or(0) as usize;
            let values = schema.partition_by().iter().zip(&columns);
            let values =
                values.map(|(column, array)| partition_text(schema, *column, array, first)).collect::<Result<_>>()?;
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

/// The keys that were given to an appender.
#[derive(Debug)]
struct Keys {
    column: usize,
    name: String,
    seen: Seen,
    /// Bounds of the keys, by which segments without any of them are told.
    stats: ColumnStats,
}

/// Integers are told apart by value, other keys by a 128-bit hash: that two differ and have the same one
/// is less likely than a fault of memory, and would refuse a row, not lose one.
#[derive(Debug)]
enum Seen {
    Exact(HashSet<u64>),
    Hashed(HashSet<u128>),
}

impl Keys {
    fn new(schema: &Schema, column: usize) -> Self {
        let seen = match schema.field(column).data_type() {
            DataType::Utf8 | DataType::Binary | DataType::Decimal { .. } => Seen::Hashed(HashSet::new()),
            _ => Seen::Exact(HashSet::new()),
        };
        Self { column, name: schema.field(column).name().to_owned(), seen, stats: ColumnStats::EMPTY }
    }

    fn insert(&mut self, batch: &RecordBatch) -> Result<()> {
        let array = batch.column(self.column);
        self.stats = self.stats.clone().merge(ColumnStats::of(array));
        let taken = match &mut self.seen {
            Seen::Exact(seen) => {
                seen.reserve(array.len());
                exact_keys(array).iter().position(|key| !seen.insert(*key))
            }
            Seen::Hashed(seen) => hashed_keys(array).iter().position(|key| !seen.insert(*key)),
        };
        taken.map_or(Ok(()), |row| Err(self.duplicate(array, row)))
    }

    /// Refuses keys that a segment has.
    fn check_against(&self, segment: &Segment) -> Result<()> {
        let (Some(min), Some(max)) = (&self.stats.min, &self.stats.max) else { return Ok(()) };
        let range = Predicate::between(self.column, min.clone(), max.clone());
        if !range.prune(&|column| segment.bounds(column)).can_be_true {
            return Ok(());
        }
        for (unit, rows) in segment.units()?.iter().enumerate() {
            if !range.prune(&|column| segment.unit_bounds(unit, *rows, column)).can_be_true {
                continue;
            }
            let arrays = segment.read(unit, &[self.column])?;
            let array = arrays.first().ok_or_else(|| Error::mismatch("the key column is missing"))?;
            let taken = match &self.seen {
                Seen::Exact(seen) => exact_keys(array).iter().position(|key| seen.contains(key)),
                Seen::Hashed(seen) => hashed_keys(array).iter().position(|key| seen.contains(key)),
            };
            if let Some(row) = taken {
                return Err(self.duplicate(array, row));
            }
        }
        Ok(())
    }

    fn duplicate(&self, array: &ArrayRef, row: usize) -> Error {
        let key = array_value_to_string(array, row).unwrap_or_else(|_| format!("in row {row}"));
        Error::DuplicateKey { column: self.name.clone(), key }
    }
}

/// The 64 bits of each key of a fixed width up to that.
fn exact_keys(array: &ArrayRef) -> Vec<u64> {
    use arrow::datatypes::{Int64Type, UInt64Type};
    let cast = |array: &ArrayRef, to: ArrowType| {
        arrow::compute::cast(array, &to).expect("every key that is not hashed is an integer, a date or a timestamp")
    };
    match array.data_type() {
        ArrowType::UInt8 | ArrowType::UInt16 | ArrowType::UInt32 | ArrowType::UInt64 => {
            cast(array, ArrowType::UInt64).as_primitive::<UInt64Type>().values().to_vec()
        }
        other => {
            // Arrow takes days to a longer integer by way of a shorter one only.
            let days = (*other == ArrowType::Date32).then(|| cast(array, ArrowType::Int32));
            let signed = cast(days.as_ref().unwrap_or(array), ArrowType::Int64);
            signed.as_primitive::<Int64Type>().values().iter().map(|key| key.cast_unsigned()).collect()
        }
    }
}

fn hashed_keys(array: &ArrayRef) -> Vec<u128> {
    use xxhash_rust::xxh3::xxh3_128;
    match array.data_type() {
        ArrowType::Utf8View => {
            array.as_string_view().iter().map(|key| xxh3_128(key.unwrap_or_default().as_bytes())).collect()
        }
        ArrowType::BinaryView => array.as_binary_view().iter().map(|key| xxh3_128(key.unwrap_or_default())).collect(),
        _ => {
            let keys = array.as_primitive::<arrow::datatypes::Decimal128Type>().values();
            keys.iter().map(|key| key.cast_unsigned()).collect()
        }
    }
}

/// A number for each key such that equal keys, and only they, have equal numbers (see [`Seen`]).
pub(super) fn key_hashes(array: &ArrayRef) -> Vec<u128> {
    match array.data_type() {
        ArrowType::Utf8View | ArrowType::BinaryView | ArrowType::Decimal128(_, _) => hashed_keys(array),
        _ => exact_keys(array).into_iter().map(u128::from).collect(),
    }
}
