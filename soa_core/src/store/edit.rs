//! Taking rows out of a store: by key, by predicate, or because others of the same keys replace them.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take};
use roaring::RoaringBitmap;

use super::commit::{self, Added, Change, Failure, check_deletable};
use super::guard::Guard;
use super::keys::KeySet;
use super::segment::{self, Segment, Written};
use super::snapshot::Snapshot;
use super::vector::DeletionVector;
use super::writing::SegmentWriter;
use super::{Store, UNIT_ROWS, delta_schema, maintain};
use crate::convert::{cast_batch, cast_column};
use crate::error::{Error, Result};
use crate::predicate::{Predicate, Scalar};
use crate::scan::{ScanRequest, tested_rows};
use crate::schema::{Schema, arrow_schema};

/// What came of an edit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Edited {
    /// The version that has it; the one that was there, if no row was concerned.
    pub version: u64,
    /// How many rows were deleted or replaced.
    pub rows_deleted: u64,
    /// How many rows were added.
    pub rows_added: u64,
}

/// Which rows are to go.
pub(super) trait Condemned {
    /// Their positions in a segment's file. Others that are deleted already may be among them.
    fn find(&self, segment: &Segment) -> Result<RoaringBitmap>;

    /// Refuses a version in which they are not what they were when they were chosen.
    fn check(&self, _base: &Snapshot) -> Result<()> {
        Ok(())
    }
}

impl Condemned for KeySet {
    fn find(&self, segment: &Segment) -> Result<RoaringBitmap> {
        KeySet::find(self, segment)
    }
}

/// The rows for which a predicate is true.
struct Matching<'a> {
    predicate: &'a Predicate,
    schema: &'a Schema,
}

impl Condemned for Matching<'_> {
    fn find(&self, segment: &Segment) -> Result<RoaringBitmap> {
        let mut found = RoaringBitmap::new();
        let file = segment.file();
        if !self.predicate.prune(&|column| file.bounds(column)).can_be_true {
            return Ok(found);
        }
        let columns = self.predicate.columns();
        let position = |column: usize| columns.iter().position(|known| *known == column);
        let mut start = 0_u64;
        for (unit, rows) in segment.units()?.iter().enumerate() {
            let first = start;
            start += rows;
            let truth = self.predicate.prune(&|column| file.unit_bounds(unit, *rows, column));
            if !truth.can_be_true {
                continue;
            }
            let too_many = || Error::Unsupported {
                path: file.parquet_path(),
                message: "it has more than 2^32 rows, too many to delete some".to_owned(),
            };
            let first = u32::try_from(first).map_err(|_| too_many())?;
            let last = u32::try_from(start).map_err(|_| too_many())?;
            if truth.is_always_true() {
                found.insert_range(first..last);
                continue;
            }
            let count = usize::try_from(*rows).map_err(|_| too_many())?;
            let batch = tested_rows(self.schema, &columns, file.read_encoded(unit, &columns)?, count)?;
            let selected = self.predicate.select(&batch, &position)?;
            found.extend(selected.values().set_indices_u32().map(|row| first + row));
        }
        Ok(found)
    }
}

/// All rows, whatever they are.
struct Everything;

impl Condemned for Everything {
    fn find(&self, segment: &Segment) -> Result<RoaringBitmap> {
        let file = segment.file();
        let rows = u32::try_from(file.row_count()).map_err(|_| Error::Unsupported {
            path: file.parquet_path(),
            message: "it has more than 2^32 rows, too many to delete some".to_owned(),
        })?;
        Ok((0..rows).collect())
    }
}

/// Rows to take out, found in every version that a commit is tried on. What was found in a file stays found: files do
/// not change.
pub(super) struct Deletions<'a> {
    condemned: &'a dyn Condemned,
    found: HashMap<String, RoaringBitmap>,
}

/// What is to be taken out of one version.
#[derive(Debug, Default)]
pub(super) struct Found {
    /// Each segment concerned, and all of its rows that are gone then.
    pub(super) segments: Vec<(Arc<Segment>, RoaringBitmap)>,
    /// How many rows go.
    pub(super) rows: u64,
}

impl<'a> Deletions<'a> {
    pub(super) fn new(condemned: &'a dyn Condemned) -> Self {
        Self { condemned, found: HashMap::new() }
    }

    /// What of a version is to go.
    pub(super) fn find(&mut self, base: &Snapshot) -> Result<Found> {
        let mut all = Found::default();
        for segment in base.segments() {
            if !self.found.contains_key(segment.path()) {
                self.found.insert(segment.path().to_owned(), self.condemned.find(segment)?);
            }
            let found = &self.found[segment.path()];
            if found.is_empty() {
                continue;
            }
            let before = segment.deleted()?;
            let after = &*before | found;
            if after.len() > before.len() {
                all.rows += after.len() - before.len();
                all.segments.push((Arc::clone(segment), after));
            }
        }
        if all.rows > 0 {
            check_deletable(base)?;
        }
        Ok(all)
    }
}

/// Segments that were written anew without some of their rows, for stores without deletion vectors. Kept for another
/// attempt; removed when dropped, unless they were published.
#[derive(Debug)]
pub(super) struct Rewrites {
    store: Store,
    /// By path; the vector and the rows that the file was rewritten without.
    done: HashMap<String, Rewrite>,
}

#[derive(Debug)]
struct Rewrite {
    vector: Option<DeletionVector>,
    deleted: RoaringBitmap,
    written: Vec<Written>,
}

impl Rewrites {
    pub(super) fn new(store: &Store) -> Self {
        Self { store: store.clone(), done: HashMap::new() }
    }

    /// Writes what is left of the segments found.
    pub(super) fn write(&mut self, base: &Snapshot, found: &[(Arc<Segment>, RoaringBitmap)]) -> Result<()> {
        for (segment, deleted) in found {
            if let Some(done) = self.done.get(segment.path()) {
                if done.vector.as_ref() == segment.vector() && done.deleted == *deleted {
                    continue;
                }
                self.discard(segment.path());
            }
            let written = rewrite(&self.store, base, segment, deleted)?;
            let done = Rewrite { vector: segment.vector().cloned(), deleted: deleted.clone(), written };
            self.done.insert(segment.path().to_owned(), done);
        }
        Ok(())
    }

    /// What was written in the place of a segment.
    pub(super) fn of(&self, segment: &Segment) -> &[Written] {
        self.done.get(segment.path()).map_or(&[], |done| &done.written)
    }

    fn discard(&mut self, path: &str) {
        let written = self.done.remove(path).map(|done| done.written).unwrap_or_default();
        let files: Vec<PathBuf> = written.into_iter().flat_map(|written| written.files).collect();
        segment::remove(self.store.backend(), &files);
    }

    /// The files are, or may be, part of the table.
    pub(super) fn keep(mut self) {
        self.done.clear();
    }
}

impl Drop for Rewrites {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A commit may name them. If none does, nothing reads them.
            return;
        }
        let paths: Vec<String> = self.done.keys().cloned().collect();
        paths.iter().for_each(|path| self.discard(path));
    }
}

/// Writes a segment's rows but the deleted ones.
pub(super) fn rewrite(
    store: &Store,
    base: &Snapshot,
    segment: &Arc<Segment>,
    deleted: &RoaringBitmap,
) -> Result<Vec<Written>> {
    let schema = base.schema();
    let left = Segment::new(Arc::clone(segment.file()), None)?.with_hidden(deleted.clone())?;
    let mut writer = SegmentWriter::in_place_of(segment, store, base);
    let columns: Vec<usize> = (0..schema.len()).collect();
    for unit in 0..left.units()?.len() {
        let arrays = left.read(unit, &columns)?;
        let batch =
            RecordBatch::try_new(arrow_schema(schema), arrays).map_err(Error::arrow("cannot put columns together"))?;
        writer.write(batch)?;
    }
    writer.finish()?;
    Ok(writer.keep())
}

/// Frames of a write-ahead log: those after `before`, up to `version`.
#[derive(Debug, Clone)]
pub(super) struct Txn {
    /// What the log is to Delta.
    pub(super) app: String,
    pub(super) before: u64,
    pub(super) version: u64,
}

/// Rows that come, rows that go, or both, in one commit.
pub(super) struct Edit<'a> {
    /// What Delta calls it.
    pub(super) operation: &'static str,
    /// Segments that come.
    pub(super) added: &'a [Written],
    /// Keys that must not be in the table yet.
    pub(super) new_keys: Option<&'a KeySet>,
    /// Rows that go.
    pub(super) condemned: Option<&'a dyn Condemned>,
    /// What of the write-ahead log this publishes: done once, however often it is tried.
    pub(super) txn: Option<Txn>,
    /// What keeps rows of the write-ahead log away from these.
    pub(super) guard: &'a Guard,
}

impl Edit<'_> {
    /// Commits it on `base` or a later version.
    pub(super) fn commit(&self, store: &Store, base: &Arc<Snapshot>) -> Result<Edited, Failure> {
        let mut deletions = self.condemned.map(Deletions::new);
        let mut rewrites = Rewrites::new(store);
        let mut checked: HashMap<String, Option<DeletionVector>> = HashMap::new();
        let rows_added: u64 = self.added.iter().map(|written| written.rows).sum();
        let mut rows_deleted = 0;
        let mut needs_guard = false;
        let committed = commit::commit(store, base, &mut |base| {
            needs_guard = !self.guard.covers(store, base)?;
            if needs_guard {
                return Ok(None);
            }
            if let Some(txn) = &self.txn {
                let published = base.log_sequence(store, &txn.app)?;
                if published >= txn.version {
                    return Ok(None);
                }
                if published != txn.before {
                    let message =
                        format!("frames up to {published} of its write-ahead log were published by another process");
                    return Err(Error::WriterFailed { path: store.path().to_owned(), message });
                }
            }
            self.condemned.map_or(Ok(()), |condemned| condemned.check(base))?;
            for segment in base.segments().iter().filter(|_| self.new_keys.is_some()) {
                if checked.get(segment.path()).is_some_and(|vector| vector.as_ref() == segment.vector()) {
                    continue;
                }
                if let Some(keys) = self.new_keys {
                    let gone = self.condemned.map_or_else(|| Ok(RoaringBitmap::new()), |gone| gone.find(segment))?;
                    keys.check_against_rest(segment, &gone)?;
                }
                checked.insert(segment.path().to_owned(), segment.vector().cloned());
            }
            let found = deletions.as_mut().map_or_else(|| Ok(Found::default()), |deletions| deletions.find(base))?;
            if self.added.is_empty() && found.segments.is_empty() && self.txn.is_none() {
                rows_deleted = 0;
                return Ok(None);
            }
            rows_deleted = found.rows;
            self.change(base, found, &mut rewrites).map(Some)
        });
        if committed.is_ok() && needs_guard {
            // Somebody has made a log since there was none. What is in it is published before the guard is there.
            let guard = store.guard_rows()?;
            return Edit { guard: &guard, txn: self.txn.clone(), ..*self }.commit(store, &store.published()?);
        }
        match committed {
            Ok(version) => {
                rewrites.keep();
                Ok(Edited { version, rows_deleted, rows_added })
            }
            Err(Failure::Unknown(error)) => {
                rewrites.keep();
                Err(Failure::Unknown(error))
            }
            Err(nothing) => Err(nothing),
        }
    }

    fn change(&self, base: &Snapshot, found: Found, rewrites: &mut Rewrites) -> Result<Change> {
        let mut change = Change {
            operation: self.operation,
            is_data_change: true,
            added: self.added.iter().map(Added::last).collect(),
            txn: self.txn.as_ref().map(|txn| (txn.app.clone(), i64::try_from(txn.version).unwrap_or(i64::MAX))),
            rows_added: self.added.iter().map(|written| written.rows).sum(),
            rows_deleted: found.rows,
            ..Change::default()
        };
        let rewrites_all = delta_schema::rewrites_files(base.delta());
        // A file without rows that are left goes, whatever the store does with others.
        let (whole, part): (Vec<_>, Vec<_>) =
            found.segments.into_iter().partition(|(segment, deleted)| deleted.len() == segment.file().row_count());
        change.removed.extend(whole.into_iter().map(|(segment, _)| segment));
        if !rewrites_all {
            change.deletions = part;
            return Ok(change);
        }
        rewrites.write(base, &part)?;
        for (segment, _) in part {
            let written = rewrites.of(&segment);
            change.added.extend(written.iter().map(|written| Added::in_place_of(&segment, written)));
            change.removed.push(segment);
        }
        Ok(change)
    }
}

impl Store {
    /// Publishes rows in one commit: those whose keys are in the table replace the rows that have them. Columns are matched
    /// by name and converted to the table's types. Of rows with the same key the last one counts.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append), and when the table has no key.
    pub fn upsert(&self, batches: &[RecordBatch]) -> Result<Edited> {
        let guard = self.guard_keys()?;
        let edited = self.upsert_guarded(batches, &guard)?;
        // What comes now may take its time, in which others may have the write-ahead log.
        drop(guard);
        self.after_upsert(&edited);
        Ok(edited)
    }

    /// Publishes rows in the place of all that there are, in one commit: readers see the old rows or the new ones. Columns
    /// are matched by name and converted to the table's types. In a table with a key, the last one counts of rows with
    /// the same key. Older versions keep their rows.
    ///
    /// # Errors
    ///
    /// As [`append`](Self::append), but for keys that are taken, and as [`delete`](Self::delete).
    pub fn overwrite(&self, batches: &[RecordBatch]) -> Result<Edited> {
        let guard = self.guard_rows()?;
        let base = self.published()?;
        let schema = base.schema();
        let mut cast = batches.iter().map(|batch| cast_batch(batch, schema)).collect::<Result<Vec<_>>>()?;
        if let Some(mut keys) = KeySet::new(schema) {
            for batch in cast.iter_mut().rev() {
                *batch = last_of_each_key(&mut keys, batch)?;
            }
        }
        let mut writer = SegmentWriter::new(self, &base);
        cast.into_iter().try_for_each(|batch| writer.write(batch))?;
        writer.finish()?;
        let edit = Edit {
            operation: "WRITE",
            added: writer.written(),
            new_keys: None,
            condemned: Some(&Everything),
            txn: None,
            guard: &guard,
        };
        let edited = edit.commit(self, &base);
        let edited = writer.settle(edited)?;
        drop(guard);
        self.after_upsert(&edited);
        Ok(edited)
    }

    /// Looks after the store once rows were published that replace others.
    pub(super) fn after_upsert(&self, edited: &Edited) {
        if edited.rows_added > 0 {
            maintain::after_publishing(self, edited.rows_added < UNIT_ROWS as u64);
        }
    }

    /// For whoever has a guard, or needs none.
    pub(super) fn upsert_guarded(&self, batches: &[RecordBatch], guard: &Guard) -> Result<Edited> {
        let base = self.published()?;
        let schema = base.schema();
        let cast = batches.iter().map(|batch| cast_batch(batch, schema)).collect::<Result<Vec<_>>>()?;
        let mut keys = KeySet::new(schema).ok_or_else(|| no_key(self))?;
        let mut kept = Vec::with_capacity(cast.len());
        for batch in cast.into_iter().rev() {
            kept.push(last_of_each_key(&mut keys, &batch)?);
        }
        let mut writer = SegmentWriter::new(self, &base);
        for batch in kept.into_iter().rev() {
            writer.write(batch)?;
        }
        writer.finish()?;
        let edit = Edit {
            operation: "MERGE",
            added: writer.written(),
            new_keys: None,
            condemned: Some(&keys),
            txn: None,
            guard,
        };
        let edited = edit.commit(self, &base);
        writer.settle(edited)
    }

    /// The newest row with this key, if there is one: a batch of one row, or of none. Where there is a key index, a block or
    /// two of it is read in each segment whose bounds do not exclude the key, and no other key than this.
    ///
    /// # Errors
    ///
    /// When the table has no key, the value is of another kind, or a file cannot be read.
    pub fn get(&self, key: &Scalar) -> Result<RecordBatch> {
        self.snapshot()?.get(key)
    }

    /// Deletes the rows for which `predicate` is true, in one commit.
    ///
    /// # Errors
    ///
    /// When the predicate does not fit the columns, a file cannot be read or written, or the table only grows. Nothing
    /// has changed then, unless the error is one of I/O after which the outcome is not known.
    pub fn delete(&self, predicate: &Predicate) -> Result<Edited> {
        let guard = self.guard_rows()?;
        let base = self.published()?;
        predicate.check(base.schema())?;
        self.take_out(&base, &Matching { predicate, schema: base.schema() }, &guard)
    }

    /// Deletes the rows with these keys, in one commit. Keys that there are not are passed over. `keys` is converted to
    /// the key column's type.
    ///
    /// # Errors
    ///
    /// As [`delete`](Self::delete), and when the table has no key.
    pub fn delete_keys(&self, keys: &ArrayRef) -> Result<Edited> {
        let guard = self.guard_rows()?;
        let base = self.published()?;
        let keys = self.key_set(base.schema(), keys)?;
        self.take_out(&base, &keys, &guard)
    }

    /// Takes rows out of `base`, which has what the guard has published, or a later version.
    fn take_out(&self, base: &Arc<Snapshot>, condemned: &dyn Condemned, guard: &Guard) -> Result<Edited> {
        let edit =
            Edit { operation: "DELETE", added: &[], new_keys: None, condemned: Some(condemned), txn: None, guard };
        edit.commit(self, base).map_err(Failure::into_error)
    }

    /// A set of keys given as an array of any type that fits.
    pub(super) fn key_set(&self, schema: &Schema, keys: &ArrayRef) -> Result<KeySet> {
        let mut set = KeySet::new(schema).ok_or_else(|| no_key(self))?;
        set.insert(&cast_column(keys, schema.field(set.column()))?);
        Ok(set)
    }
}

impl Snapshot {
    /// The row with this key, if there is one: a batch of one row, or of none. Outside writers can break the rule that there
    /// is one row for a key; then it is the newest.
    ///
    /// # Errors
    ///
    /// As [`Store::get`].
    pub fn get(self: &Arc<Self>, key: &Scalar) -> Result<RecordBatch> {
        let schema = self.schema();
        let Some(column) = schema.key() else {
            let path = self.path().display();
            return Err(Error::argument(format!("the store at \"{path}\" has no key")));
        };
        let request = ScanRequest {
            columns: (0..schema.len()).collect(),
            predicate: Some(Predicate::eq(column, key.clone())),
            limit: None,
        };
        let plan = self.plan(&request)?;
        // What was added last comes last.
        for unit in (0..plan.units().len()).rev() {
            let found = plan.read_filtered(unit)?;
            if found.num_rows() > 0 {
                return Ok(found.slice(found.num_rows() - 1, 1));
            }
        }
        Ok(RecordBatch::new_empty(Arc::clone(plan.arrow_schema())))
    }
}

/// The rows of a batch whose keys are not in the set yet; the last one where the batch has a key several times. Their
/// keys are then in the set.
pub(super) fn last_of_each_key(keys: &mut KeySet, batch: &RecordBatch) -> Result<RecordBatch> {
    let rows = batch.num_rows();
    let backwards: UInt32Array = (0..u32::try_from(rows).unwrap_or(u32::MAX)).rev().collect();
    let column = take(batch.column(keys.column()), &backwards, None).map_err(Error::arrow("cannot turn keys round"))?;
    let is_new = keys.insert(&column);
    if is_new.iter().all(|is_new| *is_new) {
        return Ok(batch.clone());
    }
    let kept: BooleanArray = is_new.into_iter().rev().map(Some).collect();
    filter_record_batch(batch, &kept).map_err(Error::arrow("cannot filter rows"))
}

fn no_key(store: &Store) -> Error {
    Error::argument(format!("the store at \"{}\" has no key; give it one when it is made", store.path().display()))
}
