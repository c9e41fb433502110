//! Rows of some segments, written anew into others, and where each row went.

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::take_record_batch;
use roaring::RoaringBitmap;

use super::compact::Group;
use super::place::Index;
use crate::convert::join_batches;
use crate::error::{Error, ErrorKind, Result};
use crate::schema::{Schema, arrow_schema};
use crate::store::commit::Added;
use crate::store::segment::{self, Names, Segment, Written};
use crate::store::writing::{memory_of, sort_order};
use crate::store::{Compression, SEGMENT_ROWS_MAX, Snapshot, Store};

/// How much a segment may hold.
#[derive(Debug, Clone, Copy)]
pub(super) struct Limits {
    pub(super) rows: usize,
    /// Of memory.
    pub(super) bytes: usize,
}

/// Segments that were written in the place of others, which no commit names yet. Their files are removed when this is
/// dropped, unless it is told to keep them.
#[derive(Debug)]
pub(super) struct Regrouped {
    store: Store,
    sources: Vec<Source>,
    outputs: Vec<Output>,
    names: Names,
    compression: Compression,
}

/// What came of writing a group.
#[derive(Debug)]
pub(super) enum Regroup {
    Written(Regrouped),
    /// There would be too many segments: for their place, or to be worth it.
    InVain,
    /// The segment with this path is damaged.
    Damaged(String),
}

/// A segment whose rows were taken over.
#[derive(Debug)]
struct Source {
    segment: Arc<Segment>,
    /// The rows that were not taken over, as positions in its file.
    deleted: Arc<RoaringBitmap>,
    /// How many rows were taken over from the sources before.
    first: u64,
}

/// A segment that was written.
#[derive(Debug)]
struct Output {
    written: Written,
    /// How many of the rows that were taken over are in the outputs before.
    first: u64,
    /// Where in the file each of its rows is, in the order in which they were taken over; `None` if in just that order.
    positions: Option<Vec<u32>>,
}

/// What a commit does for some rows to be stored in another way.
#[derive(Debug)]
pub(super) struct Exchange {
    pub(super) added: Vec<Added>,
    pub(super) removed: Vec<Arc<Segment>>,
}

impl Regrouped {
    /// Writes the rows that are left of a group of segments. `progress` is told how many of them have been read.
    ///
    /// # Errors
    ///
    /// When a segment cannot be read or written; then nothing is left behind, as where it was in vain.
    pub(super) fn write(
        store: &Store,
        base: &Snapshot,
        group: &Group,
        limits: Limits,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Regroup> {
        let schema = base.schema();
        let mut regrouped = Self {
            store: store.clone(),
            sources: Vec::new(),
            outputs: Vec::new(),
            names: Names::new(),
            compression: Compression::of(base),
        };
        let mut filler = Filler::new(schema, group, limits);
        let mut taken = 0;
        for segment in &group.sources {
            let mut fill = || -> Result<bool> {
                let source = Source { segment: Arc::clone(segment), deleted: segment.deleted()?, first: taken };
                regrouped.sources.push(source);
                for unit in 0..segment.units()?.len() {
                    let arrays = segment.read(unit, &filler.columns)?;
                    let rows = RecordBatch::try_new(arrow_schema(schema), arrays)
                        .map_err(Error::arrow("cannot put columns together"))?;
                    taken += rows.num_rows() as u64;
                    progress(rows.num_rows() as u64);
                    if !filler.fill(&mut regrouped, &rows)? {
                        return Ok(false);
                    }
                }
                Ok(true)
            };
            match fill() {
                Ok(true) => {}
                Ok(false) => return Ok(Regroup::InVain),
                Err(error) if error.kind() == ErrorKind::Damaged => {
                    return Ok(Regroup::Damaged(segment.path().to_owned()));
                }
                Err(error) => return Err(error),
            }
        }
        filler.finish(&mut regrouped)?;
        let is_worth = group.has_hollow || regrouped.outputs.len() * 2 <= regrouped.sources.len();
        Ok(if is_worth { Regroup::Written(regrouped) } else { Regroup::InVain })
    }

    fn flush(&mut self, schema: &Schema, partition: &[(String, Option<String>)], pending: Pending) -> Result<()> {
        if pending.rows == 0 {
            return Ok(());
        }
        let mut rows = join_batches(schema, &pending.batches)?;
        drop(pending.batches);
        let mut positions = None;
        if let Some(order) = sort_order(schema, &rows)? {
            rows = take_record_batch(&rows, &order).map_err(Error::arrow("cannot sort rows"))?;
            let mut inverse = vec![0; rows.num_rows()];
            for (position, taken) in (0_u32..).zip(order.values()) {
                inverse[*taken as usize] = position;
            }
            positions = Some(inverse);
        }
        let (backend, root) = (self.store.backend(), self.store.path());
        let written = segment::write(backend, root, schema, &rows, partition, self.compression, self.names.next())?;
        let first = self.outputs.last().map_or(0, |output| output.first + output.written.rows);
        self.outputs.push(Output { written, first, positions });
        Ok(())
    }

    /// The segments that were written.
    pub(super) fn written(&self) -> impl Iterator<Item = &Written> {
        self.outputs.iter().map(|output| &output.written)
    }

    /// The segments in whose place they are.
    pub(super) fn replaced(&self) -> impl Iterator<Item = &Arc<Segment>> {
        self.sources.iter().map(|source| &source.segment)
    }

    /// What is to be committed on a version. Rows that were deleted there since are deleted in what was written as well.
    /// `None` if that cannot be: a source is gone, or has rows again that were not taken over, there is no place for what
    /// was written any more, or `may_delete` is false and rows were deleted.
    ///
    /// # Errors
    ///
    /// When a deletion vector cannot be read.
    pub(super) fn exchange(&self, base: &Index<'_>, may_delete: bool) -> Result<Option<Exchange>> {
        let Some((removed, place)) = base.neighbours(self.replaced().map(|segment| segment.path())) else {
            return Ok(None);
        };
        // So the rows stay where they were among those of others.
        let sources: Vec<i64> = removed.iter().map(|segment| segment.modified_ms()).collect();
        let Some(times) = place.times(&sources, self.outputs.len()) else { return Ok(None) };
        let mut gone = vec![RoaringBitmap::new(); self.outputs.len()];
        for (source, now) in self.sources.iter().zip(removed) {
            if now.vector() == source.segment.vector() {
                continue;
            }
            let deleted = now.deleted()?;
            if !may_delete || !source.deleted.is_subset(&deleted) {
                return Ok(None);
            }
            for position in (&*deleted - &*source.deleted).iter() {
                let taken = source.first + u64::from(position) - source.deleted.rank(position);
                self.locate(taken, &mut gone);
            }
        }
        let outputs = self.outputs.iter().zip(gone).zip(times);
        let left = outputs.filter(|((output, gone), _)| gone.len() < output.written.rows);
        let added = left.map(|((output, gone), time)| Added::at(time, &output.written, gone)).collect();
        Ok(Some(Exchange { added, removed: removed.to_vec() }))
    }

    /// Marks the `taken`th row that was taken over.
    fn locate(&self, taken: u64, marked: &mut [RoaringBitmap]) {
        let at = self.outputs.partition_point(|output| output.first <= taken) - 1;
        let output = &self.outputs[at];
        // A segment has fewer than 2^32 rows.
        let row = (taken - output.first) as u32;
        marked[at].insert(output.positions.as_ref().map_or(row, |positions| positions[row as usize]));
    }

    /// The files are, or may be, part of the table.
    pub(super) fn keep(mut self) {
        self.outputs.clear();
    }
}

impl Drop for Regrouped {
    fn drop(&mut self) {
        if std::thread::panicking() {
            // A commit may name them. If none does, nothing reads them.
            return;
        }
        let files: Vec<PathBuf> = self.outputs.drain(..).flat_map(|output| output.written.files).collect();
        segment::remove(self.store.backend(), &files);
    }
}

/// Puts rows into one output after the other.
struct Filler<'a> {
    schema: &'a Schema,
    columns: Vec<usize>,
    partition: Vec<(String, Option<String>)>,
    limits: Limits,
    /// How many outputs there may be.
    outputs_max: u64,
    /// The rows that are still to come.
    rows_left: u64,
    pending: Pending,
}

impl<'a> Filler<'a> {
    fn new(schema: &'a Schema, group: &Group, limits: Limits) -> Self {
        let partition = group.sources.first().map(|first| {
            first.partition_values().map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect()
        });
        // Several of the same size, rather than full ones and a small one that would soon be written again.
        let rows = group.row_count();
        let outputs = rows.div_ceil(limits.rows as u64).clamp(1, group.outputs_max.max(1));
        let rows_max = usize::try_from(rows.div_ceil(outputs)).unwrap_or(SEGMENT_ROWS_MAX);
        Self {
            schema,
            columns: (0..schema.len()).collect(),
            partition: partition.unwrap_or_default(),
            limits: Limits { rows: rows_max.clamp(1, SEGMENT_ROWS_MAX), ..limits },
            outputs_max: group.outputs_max,
            rows_left: rows,
            pending: Pending::default(),
        }
    }

    /// Takes the next rows. False if there is no place for an output that they need.
    fn fill(&mut self, regrouped: &mut Regrouped, rows: &RecordBatch) -> Result<bool> {
        let mut at = 0;
        while at < rows.num_rows() {
            // The last one takes what is left, as far as memory has room for it.
            let is_last = regrouped.outputs.len() as u64 + 1 >= self.outputs_max;
            let max = match is_last {
                true => Limits { rows: SEGMENT_ROWS_MAX, bytes: self.limits.bytes.saturating_mul(2) },
                false => self.limits,
            };
            let count = (max.rows - self.pending.rows).min(rows.num_rows() - at);
            self.pending.push(rows.slice(at, count));
            at += count;
            self.rows_left = self.rows_left.saturating_sub(count as u64);
            if self.pending.rows >= max.rows || self.pending.bytes >= max.bytes {
                if is_last && self.rows_left > 0 {
                    return Ok(false);
                }
                self.finish(regrouped)?;
            }
        }
        Ok(true)
    }

    /// Writes what is pending.
    fn finish(&mut self, regrouped: &mut Regrouped) -> Result<()> {
        regrouped.flush(self.schema, &self.partition, std::mem::take(&mut self.pending))
    }
}

/// Rows on their way into a segment.
#[derive(Debug, Default)]
struct Pending {
    batches: Vec<RecordBatch>,
    rows: usize,
    bytes: usize,
}

impl Pending {
    fn push(&mut self, batch: RecordBatch) {
        self.rows += batch.num_rows();
        self.bytes += memory_of(&batch);
        self.batches.push(batch);
    }
}
