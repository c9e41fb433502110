//! Rows of some segments, written anew into others, and where each row went.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::compute::take_record_batch;
use roaring::RoaringBitmap;

use super::compact::Group;
use crate::convert::join_batches;
use crate::error::{Error, Result};
use crate::schema::{Schema, arrow_schema};
use crate::store::Store;
use crate::store::segment::{self, Segment, Written};
use crate::store::transaction::Added;
use crate::store::writing::{memory_of, sort_order};

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
    /// The time of the segment before the sources.
    after: Option<i64>,
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
    /// When a segment cannot be read or written; then nothing is left behind.
    pub(super) fn write(
        store: &Store,
        schema: &Schema,
        group: &Group,
        limits: Limits,
        progress: &mut dyn FnMut(u64),
    ) -> Result<Self> {
        let mut regrouped = Self { store: store.clone(), sources: Vec::new(), outputs: Vec::new(), after: group.after };
        let Some(first) = group.sources.first() else { return Ok(regrouped) };
        let partition: Vec<(String, Option<String>)> =
            first.partition_values().map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect();
        let columns: Vec<usize> = (0..schema.len()).collect();
        // Several of the same size, rather than full ones and a small one that would soon be written again.
        let rows: u64 = group.sources.iter().map(|segment| segment.row_count()).sum();
        let rows_max = rows.div_ceil(rows.div_ceil(limits.rows as u64).max(1)).max(1);
        let rows_max = usize::try_from(rows_max).unwrap_or(limits.rows);
        let mut pending = Pending::default();
        let mut taken = 0;
        for segment in &group.sources {
            let source = Source { segment: Arc::clone(segment), deleted: segment.deleted()?, first: taken };
            regrouped.sources.push(source);
            for unit in 0..segment.units()?.len() {
                let arrays = segment.read(unit, &columns)?;
                let rows = RecordBatch::try_new(arrow_schema(schema), arrays)
                    .map_err(Error::arrow("cannot put columns together"))?;
                taken += rows.num_rows() as u64;
                let mut at = 0;
                while at < rows.num_rows() {
                    let count = (rows_max - pending.rows).min(rows.num_rows() - at);
                    pending.push(rows.slice(at, count));
                    at += count;
                    if pending.rows >= rows_max || pending.bytes >= limits.bytes {
                        regrouped.flush(schema, &partition, std::mem::take(&mut pending))?;
                    }
                }
                progress(rows.num_rows() as u64);
            }
        }
        regrouped.flush(schema, &partition, pending)?;
        Ok(regrouped)
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
        let written = segment::write(self.store.backend(), self.store.path(), schema, &rows, partition)?;
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

    /// What is to be committed on a version with these segments, by path. Rows that were deleted there since are deleted in
    /// what was written as well. `None` if that cannot be: a source is gone, or has rows again that were not taken
    /// over, or `may_delete` is false and rows were deleted.
    ///
    /// # Errors
    ///
    /// When a deletion vector cannot be read.
    pub(super) fn exchange(&self, base: &HashMap<&str, &Arc<Segment>>, may_delete: bool) -> Result<Option<Exchange>> {
        let mut removed = Vec::with_capacity(self.sources.len());
        let mut gone = vec![RoaringBitmap::new(); self.outputs.len()];
        for source in &self.sources {
            let Some(now) = base.get(source.segment.path()) else { return Ok(None) };
            removed.push(Arc::clone(now));
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
        let mut added = Vec::with_capacity(self.outputs.len());
        let mut before = self.after.unwrap_or(i64::MIN);
        for (at, (output, gone)) in self.outputs.iter().zip(gone).enumerate() {
            // Each takes the place of one of the sources, so that the rows stay where they were among those of others, and
            // no two are at the same place: nobody then knows which comes first.
            let place = self.sources.get(at).or(self.sources.last()).map_or(0, |source| source.segment.modified_ms());
            before = place.max(before.saturating_add(1));
            if gone.len() < output.written.rows {
                added.push(Added::at(before, &output.written, gone));
            }
        }
        Ok(Some(Exchange { added, removed }))
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
        let files: Vec<PathBuf> = self.outputs.drain(..).flat_map(|output| output.written.files).collect();
        segment::remove(self.store.backend(), &files);
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
