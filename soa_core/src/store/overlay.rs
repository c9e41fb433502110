//! The rows of a snapshot that are in no segment yet: those in the write-ahead log, and those of a transaction that goes on.

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::compute::filter_record_batch;
use roaring::RoaringBitmap;

use super::UNIT_ROWS;
use super::stats::ColumnStats;
use crate::convert::concat_rows;
use crate::error::{Error, Result};
use crate::predicate::Bounds;

/// Rows of the write-ahead log, as of one moment, in blocks of [`UNIT_ROWS`] rows before any is left out; and after them, in
/// a snapshot that a transaction sees, rows of its own, in blocks as well.
#[derive(Debug)]
pub(crate) struct Overlay {
    blocks: Vec<Block>,
    /// How many of the blocks are of the log.
    logged: usize,
    /// By which a transaction knows whether its own rows are still where they are here.
    moves: u64,
    /// The last frame whose rows are here.
    sequence: u64,
    /// The files that they were read from.
    files: Vec<PathBuf>,
    rows: u64,
}

#[derive(Debug, Clone)]
struct Block {
    /// Its rows in order, in one part or more.
    parts: Vec<RecordBatch>,
    /// The number of its first row, counted from the first frame on.
    first: u32,
    /// The numbers of rows that later frames replace or delete.
    dead: Arc<RoaringBitmap>,
    /// How many are left.
    rows: usize,
    live: OnceLock<RecordBatch>,
}

impl Overlay {
    pub(super) fn new(
        blocks: &[Vec<RecordBatch>],
        dead: &Arc<RoaringBitmap>,
        sequence: u64,
        files: Vec<PathBuf>,
    ) -> Self {
        let blocks = numbered(blocks, dead);
        let rows = row_count(&blocks);
        Self { logged: blocks.len(), moves: 0, blocks, sequence, files, rows }
    }

    /// With rows of a transaction after those of the log, if there are any: its blocks, and which of their rows are gone.
    pub(super) fn with_own(
        log: Option<&Self>,
        own: &[Vec<RecordBatch>],
        dead: &Arc<RoaringBitmap>,
        moves: u64,
    ) -> Self {
        let mut blocks = log.map_or_else(Vec::new, |log| log.blocks.clone());
        let logged = blocks.len();
        blocks.extend(numbered(own, dead));
        let rows = row_count(&blocks);
        let (sequence, files) = log.map_or_else(Default::default, |log| (log.sequence, log.files.clone()));
        Self { logged, moves, blocks, sequence, files, rows }
    }

    /// The last frame whose rows are here.
    pub(super) fn sequence(&self) -> u64 {
        self.sequence
    }

    pub(super) fn files(&self) -> &[PathBuf] {
        &self.files
    }

    pub(super) fn row_count(&self) -> u64 {
        self.rows
    }

    /// What a transaction said of the places of its own rows.
    pub(super) fn moves(&self) -> u64 {
        self.moves
    }

    /// Whether it is of a log, and not a transaction's alone.
    pub(super) fn has_log(&self) -> bool {
        !self.files.is_empty()
    }

    /// How many of the rows are in the log.
    pub(super) fn logged_row_count(&self) -> u64 {
        row_count(&self.blocks[..self.logged])
    }

    /// Whether a block is a transaction's own, and the numbers of the rows that are left of it.
    pub(crate) fn numbers(&self, block: usize) -> (bool, Vec<u32>) {
        (block >= self.logged, self.blocks[block].numbers().collect())
    }

    /// The bounds of a column.
    ///
    /// # Errors
    ///
    /// When rows cannot be put together.
    pub(super) fn bounds(&self, column: usize) -> Result<Bounds> {
        let mut stats = ColumnStats::EMPTY;
        for block in self.blocks.iter().filter(|block| block.rows > 0) {
            stats = stats.merge(ColumnStats::of(block.live()?.column(column)));
        }
        let (nulls, may_hold_nan) = (Some(stats.nulls), stats.has_nan);
        Ok(Bounds { rows: self.rows, nulls, min: stats.min, max: stats.max, may_hold_nan })
    }

    /// How many rows of each block are left.
    pub(crate) fn blocks(&self) -> impl Iterator<Item = usize> {
        self.blocks.iter().map(|block| block.rows)
    }

    /// Columns of the rows that are left of a block, in their Arrow types.
    pub(crate) fn read(&self, block: usize, columns: &[usize]) -> Result<Vec<ArrayRef>> {
        let rows = self.blocks[block].live()?;
        Ok(columns.iter().map(|column| Arc::clone(rows.column(*column))).collect())
    }
}

fn numbered(blocks: &[Vec<RecordBatch>], dead: &Arc<RoaringBitmap>) -> Vec<Block> {
    let firsts = (0_u32..).step_by(UNIT_ROWS);
    let numbered = blocks.iter().zip(firsts).map(|(parts, first)| {
        let len: usize = parts.iter().map(RecordBatch::num_rows).sum();
        let end = first.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
        let gone = dead.range_cardinality(first..end);
        let rows = len - usize::try_from(gone).unwrap_or(len);
        Block { parts: parts.clone(), first, dead: Arc::clone(dead), rows, live: OnceLock::new() }
    });
    numbered.collect()
}

fn row_count(blocks: &[Block]) -> u64 {
    blocks.iter().map(|block| block.rows as u64).sum()
}

/// Adds rows to blocks. Where blocks begin depends on nothing but the rows, so that processes that read a log agree on it
/// however often they have looked.
pub(super) fn push(blocks: &mut Vec<Vec<RecordBatch>>, mut batch: RecordBatch) -> Result<()> {
    while batch.num_rows() > 0 {
        let used = blocks.last().map_or(UNIT_ROWS, |block| block.iter().map(RecordBatch::num_rows).sum());
        if used == UNIT_ROWS {
            blocks.push(Vec::new());
        }
        let taken = batch.num_rows().min(UNIT_ROWS - used % UNIT_ROWS);
        if let Some(block) = blocks.last_mut() {
            push_part(block, batch.slice(0, taken))?;
        }
        batch = batch.slice(taken, batch.num_rows() - taken);
    }
    Ok(())
}

/// Adds a part to a block. Small ones are joined, so that every part is much larger than the next: there are never many.
fn push_part(block: &mut Vec<RecordBatch>, part: RecordBatch) -> Result<()> {
    let mut last = part;
    while let Some(before) = block.pop_if(|before| before.num_rows() <= 2 * last.num_rows()) {
        let schema = before.schema();
        last = concat_rows(&schema, [&before, &last])?;
    }
    block.push(last);
    Ok(())
}

impl Block {
    /// The numbers of the rows that are left.
    fn numbers(&self) -> impl Iterator<Item = u32> {
        let len: usize = self.parts.iter().map(RecordBatch::num_rows).sum();
        (self.first..).take(len).filter(|row| !self.dead.contains(*row))
    }

    fn live(&self) -> Result<&RecordBatch> {
        if let Some(live) = self.live.get() {
            return Ok(live);
        }
        let joined = match self.parts.as_slice() {
            [one] => one.clone(),
            [] => return Err(Error::argument("a block of the write-ahead log has no rows")),
            [first, ..] => concat_rows(&first.schema(), &self.parts)?,
        };
        let live = if self.rows == joined.num_rows() {
            joined
        } else {
            let kept: BooleanArray =
                (self.first..).take(joined.num_rows()).map(|row| Some(!self.dead.contains(row))).collect();
            filter_record_batch(&joined, &kept).map_err(Error::arrow("cannot leave replaced rows out"))?
        };
        Ok(self.live.get_or_init(|| live))
    }
}
