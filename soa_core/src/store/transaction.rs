//! Several changes that become visible at once, and meanwhile to whoever makes them.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use roaring::RoaringBitmap;

use super::commit::{Failure, check_deletable, check_writable};
use super::edit::{Condemned, Edit, Edited, rewrite};
use super::guard::Guard;
use super::keys::KeySet;
use super::log_entry::LogEntry;
use super::overlay::{self, Overlay};
use super::segment::{self, Segment, Table, Written};
use super::snapshot::Snapshot;
use super::writing::{SegmentWriter, check_partition_values, memory_of};
use super::{Compression, Store, UNIT_ROWS, maintain};
use crate::convert::cast_batch;
use crate::error::{Error, Result};
use crate::scan::{Located, Part};
use crate::schema::{Schema, arrow_schema};

/// Rows of one statement take this many bytes of memory at most before they are written as segments.
const ADDITIONS_BYTES_MAX: usize = 64 << 20;

/// Changes of one store that nobody else sees before they are committed, all at once.
///
/// What it has changed so far is part of the snapshots that [`snapshot`](Self::snapshot) gives, each of which has what others
/// have committed by then: rows are deleted by where they are in such a snapshot ([`delete`](Self::delete)), and added
/// statement by statement ([`additions`](Self::additions), [`add`](Self::add)). It can go back to an earlier state
/// ([`save`](Self::save)). Rows that others delete or move meanwhile make it fail with [`Error::RowsChanged`] where it has
/// deleted them as well, and keys that others have added with [`Error::DuplicateKey`]. One that is dropped leaves no trace.
///
/// ```
/// use std::sync::Arc;
/// use soa_core::arrow::array::{ArrayRef, Int64Array, RecordBatch};
/// use soa_core::scan::{Located, Part};
/// use soa_core::schema::{DataType, Field, Schema};
/// use soa_core::store::Store;
///
/// # fn main() -> soa_core::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("readings.soa");
/// let store = Store::create(&path, Schema::new(vec![Field::new("id", DataType::Int64)])?)?;
/// let rows = |ids: Vec<i64>| RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(ids)) as ArrayRef)]).unwrap();
/// store.append(&[rows(vec![1, 2])])?;
///
/// let mut transaction = store.transaction()?;
/// let mut additions = transaction.additions()?;
/// additions.write(&rows(vec![3]))?;
/// transaction.add(additions)?;
/// let seen = transaction.snapshot()?;
/// assert_eq!((seen.row_count(), store.snapshot()?.row_count()), (3, 2));
/// transaction.delete(&seen, &Located { part: Part::Segment(0), numbers: vec![0] })?;
/// transaction.commit()?;
/// assert_eq!(store.snapshot()?.row_count(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Transaction {
    store: Store,
    schema: Schema,
    /// What was there when it began: a store that has taken its place is none of this transaction's.
    base: Arc<Snapshot>,
    state: State,
    /// What was written, in order, and the segments that it is.
    written: Vec<Written>,
    segments: Vec<Arc<Segment>>,
    /// How often rows of its own got other places, in any state.
    moves: u64,
}

/// A state of a transaction.
#[derive(Debug, Clone)]
pub struct Savepoint(State);

#[derive(Debug, Clone, Default)]
struct State {
    /// Rows that are in no segment, and the numbers of those that are gone.
    blocks: Vec<Vec<RecordBatch>>,
    dead: Arc<RoaringBitmap>,
    bytes: usize,
    /// Tells by which numbers the rows are known.
    moves: u64,
    /// How many of the segments count.
    segments: usize,
    /// By segment: the positions of rows that are deleted.
    gone: HashMap<String, RoaringBitmap>,
}

/// Rows that one statement adds. They are part of its transaction when that is given them ([`Transaction::add`]).
///
/// Memory is bounded however many rows come, but for 8 to 16 bytes for each key of a keyed store.
#[derive(Debug)]
pub struct Additions {
    schema: Schema,
    keys: Option<KeySet>,
    batches: Vec<RecordBatch>,
    bytes: usize,
    rows: u64,
    writer: SegmentWriter,
    is_spilled: bool,
}

impl Additions {
    /// The table's columns.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// How many rows were given so far.
    pub fn row_count(&self) -> u64 {
        self.rows
    }

    /// Adds rows, matched by column name and converted to the table's types.
    ///
    /// # Errors
    ///
    /// As [`Appender::write`](super::Appender::write).
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = cast_batch(batch, &self.schema)?;
        if let Some(keys) = &mut self.keys {
            keys.insert_new(batch.column(keys.column()))?;
        }
        self.push(batch)
    }

    /// As [`write`](Self::write), but leaves out rows whose keys are there already: in `seen`, a snapshot of the transaction, or
    /// in a row that was given before. Says of each row whether it is added; of a table without a key all are.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write), and when `seen` has other columns or cannot be read.
    pub fn write_new(&mut self, batch: &RecordBatch, seen: &Snapshot) -> Result<Vec<bool>> {
        let batch = cast_batch(batch, &self.schema)?;
        let (Some(keys), Some(mut asked)) = (&mut self.keys, KeySet::new(&self.schema)) else {
            let all = vec![true; batch.num_rows()];
            return self.push(batch).map(|()| all);
        };
        if *seen.schema() != self.schema {
            return Err(Error::RowsChanged { path: seen.path().to_owned() });
        }
        let column = batch.column(keys.column());
        let mut is_new = asked.insert(column);
        let living = asked.living_in(seen)?;
        let taken = living.members(column).into_iter().zip(keys.members(column));
        is_new.iter_mut().zip(taken).for_each(|(is_new, (lives, is_given))| *is_new &= !lives && !is_given);
        let batch = filter_record_batch(&batch, &BooleanArray::from(is_new.clone()));
        let batch = batch.map_err(Error::arrow("cannot leave out rows"))?;
        keys.insert(batch.column(keys.column()));
        self.push(batch).map(|()| is_new)
    }

    fn push(&mut self, batch: RecordBatch) -> Result<()> {
        if batch.num_rows() == 0 {
            return Ok(());
        }
        check_partition_values(&self.schema, &batch)?;
        self.rows += batch.num_rows() as u64;
        if self.is_spilled {
            return self.writer.write(batch);
        }
        self.bytes += memory_of(&batch);
        self.batches.push(batch);
        if self.bytes > ADDITIONS_BYTES_MAX {
            self.is_spilled = true;
            self.bytes = 0;
            std::mem::take(&mut self.batches).into_iter().try_for_each(|batch| self.writer.write(batch))?;
        }
        Ok(())
    }
}

impl Store {
    /// Begins a transaction.
    ///
    /// # Errors
    ///
    /// When the log cannot be read, or the table has rules for writers that this release does not know.
    pub fn transaction(&self) -> Result<Transaction> {
        let base = self.published()?;
        check_writable(&base)?;
        let schema = base.schema().clone();
        let (state, written, segments) = Default::default();
        Ok(Transaction { store: self.clone(), schema, base, state, written, segments, moves: 0 })
    }
}

impl Store {
    /// Publishes what an earlier owner has left in the write-ahead log, so that its rows can be deleted by a transaction: before
    /// the snapshot is taken in which they are looked for.
    ///
    /// # Errors
    ///
    /// When the log has an owner, who alone may change its rows, or what is left cannot be published.
    pub fn publish_log(&self) -> Result<()> {
        self.guard_rows().map(drop)
    }
}

impl Transaction {
    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// The table's columns.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// Whether nothing has changed.
    pub fn is_empty(&self) -> bool {
        self.state.segments == 0 && self.state.gone.is_empty() && self.state.blocks.is_empty()
    }

    /// What the transaction sees now: what is committed, and what it has changed itself.
    ///
    /// # Errors
    ///
    /// When the log cannot be read, or rows that are deleted here were deleted or moved by others, or the columns changed.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>> {
        self.snapshot_over(&self.store.snapshot()?)
    }

    /// What the transaction would see if `base` were all that is committed.
    ///
    /// # Errors
    ///
    /// As [`snapshot`](Self::snapshot).
    pub fn snapshot_over(&self, base: &Arc<Snapshot>) -> Result<Arc<Snapshot>> {
        if self.is_empty() {
            return Ok(Arc::clone(base));
        }
        if *base.schema() != self.schema {
            return Err(Error::RowsChanged { path: self.store.path().to_owned() });
        }
        self.check(base)?;
        let own = &self.segments[..self.state.segments];
        let left = |segment: &Arc<Segment>| match self.state.gone.get(segment.path()) {
            None => Ok(Arc::clone(segment)),
            Some(gone) => segment.without(gone).map(Arc::new),
        };
        let segments = base.segments().iter().chain(own).map(left).collect::<Result<_>>()?;
        let logged = base.overlay();
        let overlay = match self.state.blocks.is_empty() {
            true => logged.cloned(),
            false => {
                let logged = logged.map(AsRef::as_ref);
                Some(Arc::new(Overlay::with_own(logged, &self.state.blocks, &self.state.dead, self.state.moves)))
            }
        };
        Ok(Arc::new(base.with_rows(segments, overlay)))
    }

    /// For the rows that a statement adds.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn additions(&self) -> Result<Additions> {
        let base = self.store.published()?;
        Ok(Additions {
            schema: self.schema.clone(),
            keys: KeySet::new(&self.schema),
            batches: Vec::new(),
            bytes: 0,
            rows: 0,
            writer: SegmentWriter::of(&self.store, self.schema.clone(), Compression::of(&base)),
            is_spilled: false,
        })
    }

    /// Adds the rows of a statement: snapshots that are taken from now on have them.
    ///
    /// # Errors
    ///
    /// When a key is there already, as far as the transaction sees, or a file cannot be written. None of the rows is added
    /// then.
    pub fn add(&mut self, additions: Additions) -> Result<u64> {
        let Additions { keys, batches, bytes, rows, mut writer, is_spilled, .. } = additions;
        if rows == 0 {
            return Ok(0);
        }
        if let Some(keys) = keys {
            check_keys(&keys, &*self.snapshot()?)?;
        }
        if is_spilled {
            writer.finish()?;
            self.keep(writer)?;
            return Ok(rows);
        }
        let mut blocks = self.state.blocks.clone();
        batches.into_iter().try_for_each(|batch| overlay::push(&mut blocks, batch))?;
        self.state.blocks = blocks;
        self.state.bytes += bytes;
        Ok(rows)
    }

    /// Deletes rows, by their places in a snapshot of this transaction
    /// ([`ScanPlan::read_located`](crate::scan::ScanPlan::read_located)). Returns how many of them this transaction has not deleted
    /// before.
    ///
    /// # Errors
    ///
    /// When the table only grows, there are no such rows, they are in the write-ahead log (see [`Store::publish_log`]), or they have
    /// got other places since ([`make_room`](Self::make_room)). Nothing is deleted then.
    pub fn delete(&mut self, seen: &Snapshot, located: &Located) -> Result<u64> {
        let Located { part, numbers } = located;
        let Some(last) = numbers.iter().max() else { return Ok(0) };
        let (gone, rows) = match *part {
            Part::Log => return Err(self.in_log()),
            Part::Own => {
                if seen.overlay().is_none_or(|overlay| overlay.moves() != self.state.moves) {
                    return Err(Error::RowsChanged { path: self.store.path().to_owned() });
                }
                let rows = self.state.blocks.iter().flatten().map(|batch| batch.num_rows() as u64).sum();
                (Arc::make_mut(&mut self.state.dead), rows)
            }
            Part::Segment(index) => {
                let segment = seen.segments().get(index);
                let segment = segment.ok_or_else(|| Error::argument(format!("the snapshot has no segment {index}")))?;
                if !self.is_own(segment.path()) {
                    check_deletable(seen)?;
                }
                (self.state.gone.entry(segment.path().to_owned()).or_default(), segment.file().row_count())
            }
        };
        if u64::from(*last) >= rows {
            return Err(Error::argument(format!("there is no row {last} among {rows}")));
        }
        let before = gone.len();
        gone.extend(numbers);
        Ok(gone.len() - before)
    }

    /// Deletes all rows of a snapshot of this transaction, and all that it has added itself.
    ///
    /// # Errors
    ///
    /// As [`delete`](Self::delete).
    pub fn truncate(&mut self, seen: &Snapshot) -> Result<()> {
        check_deletable(seen)?;
        if seen.log_row_count() > 0 {
            return Err(self.in_log());
        }
        for segment in seen.segments() {
            let rows =
                u32::try_from(segment.row_count() + segment.deleted_count()).map_err(|_| Error::Unsupported {
                    path: segment.file().parquet_path(),
                    message: "it has more than 2^32 rows, too many to delete some".to_owned(),
                })?;
            let deleted = segment.deleted()?;
            let gone = self.state.gone.entry(segment.path().to_owned()).or_default();
            *gone |= (0..rows).collect::<RoaringBitmap>() - &*deleted;
        }
        self.forget_rows();
        Ok(())
    }

    /// There are no rows in memory any more.
    fn forget_rows(&mut self) {
        (self.state.blocks, self.state.dead, self.state.bytes) = Default::default();
        self.moves += 1;
        self.state.moves = self.moves;
    }

    fn in_log(&self) -> Error {
        Error::Busy {
            path: self.store.path().to_owned(),
            message: "a row that is to be deleted is in its write-ahead log".to_owned(),
        }
    }

    /// Writes rows that are in memory alone as segments if they are many. They get other places by that: to be called while
    /// no statement is going on that deletes rows by their places.
    ///
    /// # Errors
    ///
    /// When a file cannot be written.
    pub fn make_room(&mut self) -> Result<()> {
        if self.state.bytes > ADDITIONS_BYTES_MAX { self.write_pending() } else { Ok(()) }
    }

    /// The state that the transaction is in.
    pub fn save(&self) -> Savepoint {
        Savepoint(self.state.clone())
    }

    /// Goes back to a state that the transaction was in.
    pub fn restore(&mut self, savepoint: Savepoint) {
        self.state = savepoint.0;
        self.segments.truncate(self.state.segments);
        let discarded = self.written.split_off(self.state.segments.min(self.written.len()));
        discarded.iter().for_each(|written| segment::remove(self.store.backend(), &written.files));
    }

    /// Makes the changes visible to every reader, in one commit.
    ///
    /// # Errors
    ///
    /// When rows that are deleted here were deleted or moved by others meanwhile, a key exists by now, the write-ahead log has
    /// an owner (for deletions, and in tables with a key), a file cannot be written, or other writers kept being faster.
    /// Nothing has changed then, unless the error is one of I/O after which the outcome is not known.
    pub fn commit(mut self) -> Result<Edited> {
        if self.is_empty() {
            return Ok(Edited { version: self.store.published()?.version(), rows_deleted: 0, rows_added: 0 });
        }
        let newest = self.store.published()?;
        if *newest.schema() != self.schema {
            return Err(Error::RowsChanged { path: self.store.path().to_owned() });
        }
        if !self.is_same_table(&newest) {
            let path = self.store.path().display();
            return Err(Error::mismatch(format!("the store at \"{path}\" was replaced by another one meanwhile")));
        }
        self.write_pending()?;
        self.rewrite_own()?;
        let deletes = self.state.gone.values().any(|gone| !gone.is_empty());
        let guard = if deletes { self.store.guard_rows()? } else { self.store.guard_keys()? };
        let edited = self.publish(&guard);
        if !matches!(edited, Err(Failure::Nothing(_))) {
            // They are, or may be, part of the table.
            self.written.clear();
        }
        let edited = edited.map_err(Failure::into_error)?;
        // What comes now may take its time, in which others may have the write-ahead log.
        drop(guard);
        if edited.rows_added > 0 {
            maintain::after_publishing(&self.store, edited.rows_added < UNIT_ROWS as u64);
        }
        Ok(edited)
    }

    fn publish(&self, guard: &Guard) -> Result<Edited, Failure> {
        let keys = self.added_keys()?;
        let operation = match (self.written.is_empty(), self.state.gone.is_empty()) {
            (true, _) => "DELETE",
            (false, true) => "WRITE",
            (false, false) => "MERGE",
        };
        let edit =
            Edit { operation, added: &self.written, new_keys: keys.as_ref(), condemned: Some(self), txn: None, guard };
        edit.commit(&self.store, &self.store.published()?)
    }

    /// Whether a version is of the table that the transaction began on.
    fn is_same_table(&self, newest: &Snapshot) -> bool {
        let id = |snapshot: &Snapshot| snapshot.delta().table_configuration().metadata().id().to_owned();
        id(newest) == id(&self.base)
    }

    fn is_own(&self, path: &str) -> bool {
        self.segments.iter().any(|own| own.path() == path)
    }

    /// Writes the rows that are in memory alone.
    fn write_pending(&mut self) -> Result<()> {
        let logged: Option<&Overlay> = None;
        let pending = Overlay::with_own(logged, &self.state.blocks, &self.state.dead, self.state.moves);
        let base = self.store.published()?;
        let mut writer = SegmentWriter::of(&self.store, self.schema.clone(), Compression::of(&base));
        let columns: Vec<usize> = (0..self.schema.len()).collect();
        for (block, _) in pending.blocks().enumerate().filter(|(_, rows)| *rows > 0) {
            let rows = RecordBatch::try_new(arrow_schema(&self.schema), pending.read(block, &columns)?);
            writer.write(rows.map_err(Error::arrow("cannot put columns together"))?)?;
        }
        writer.finish()?;
        self.keep(writer)?;
        self.forget_rows();
        Ok(())
    }

    /// Takes over what was written.
    fn keep(&mut self, writer: SegmentWriter) -> Result<()> {
        let segments = writer.written().iter().map(|written| self.segment_of(written));
        let segments = segments.collect::<Result<Vec<_>>>()?;
        self.segments.extend(segments);
        self.written.extend(writer.keep());
        self.state.segments = self.segments.len();
        Ok(())
    }

    /// What was written as a segment, as a commit would name it.
    fn segment_of(&self, written: &Written) -> Result<Arc<Segment>> {
        let table = Table::new(&self.store.backend, self.store.path(), &self.schema);
        let add = written.add.get("add").unwrap_or(&written.add);
        let file = LogEntry::from_json(self.store.path(), add)?.into_file(&table)?;
        Segment::new(Arc::new(file), None).map(Arc::new)
    }

    /// Writes those of its segments anew of which rows are gone. After that it can only be committed.
    fn rewrite_own(&mut self) -> Result<()> {
        let base = self.store.published()?;
        let own = std::mem::take(&mut self.segments).into_iter().zip(std::mem::take(&mut self.written));
        let mut all_left = Ok(());
        for (own, written) in own {
            let gone = self.state.gone.remove(own.path()).filter(|gone| !gone.is_empty());
            let Some(gone) = gone.filter(|_| all_left.is_ok()) else {
                self.segments.push(own);
                self.written.push(written);
                continue;
            };
            let all_gone = gone.len() == own.row_count();
            let left = if all_gone { Ok(Vec::new()) } else { rewrite(&self.store, &base, &own, &gone) };
            segment::remove(self.store.backend(), &written.files);
            // Whatever fails: what is written is kept in mind, to be removed.
            all_left = left.and_then(|left| {
                left.into_iter().try_for_each(|written| {
                    let segment = self.segment_of(&written);
                    self.written.push(written);
                    self.segments.push(segment?);
                    Ok(())
                })
            });
        }
        self.state.segments = self.segments.len();
        all_left
    }

    /// The keys of all rows that it adds.
    fn added_keys(&self) -> Result<Option<KeySet>> {
        let Some(mut keys) = KeySet::new(&self.schema) else { return Ok(None) };
        for own in &self.segments {
            for unit in 0..own.units()?.len() {
                for array in own.read(unit, &[keys.column()])? {
                    keys.insert_new(&array)?;
                }
            }
        }
        Ok((!keys.is_empty()).then_some(keys))
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A commit may name them. If none does, nothing reads them.
            return;
        }
        self.written.iter().for_each(|written| segment::remove(self.store.backend(), &written.files));
    }
}

/// Refuses keys that a snapshot has.
fn check_keys(keys: &KeySet, seen: &Snapshot) -> Result<()> {
    seen.segments().iter().try_for_each(|segment| keys.check_against(segment))?;
    let Some(overlay) = seen.overlay() else { return Ok(()) };
    for (block, _) in overlay.blocks().enumerate().filter(|(_, rows)| *rows > 0) {
        let found: Vec<ArrayRef> = overlay.read(block, &[keys.column()])?;
        found.iter().try_for_each(|array| keys.check_against_rows(array))?;
    }
    Ok(())
}

impl Condemned for Transaction {
    fn find(&self, segment: &Segment) -> Result<RoaringBitmap> {
        Ok(self.state.gone.get(segment.path()).cloned().unwrap_or_default())
    }

    /// Whether the rows that are deleted here are still where they were, and not deleted by others.
    fn check(&self, base: &Snapshot) -> Result<()> {
        let changed = || Error::RowsChanged { path: self.store.path().to_owned() };
        let mut left: HashMap<&str, &RoaringBitmap> =
            self.state.gone.iter().map(|(path, gone)| (path.as_str(), gone)).collect();
        left.retain(|path, gone| !gone.is_empty() && !self.is_own(path));
        for segment in base.segments() {
            if let Some(gone) = left.remove(segment.path())
                && !segment.deleted()?.is_disjoint(gone)
            {
                return Err(changed());
            }
        }
        if left.is_empty() { Ok(()) } else { Err(changed()) }
    }
}
