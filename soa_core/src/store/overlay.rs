//! The rows of a snapshot that are in the write-ahead log and in no segment yet.

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

/// Rows of the write-ahead log, as of one moment, in blocks of [`UNIT_ROWS`] rows before any is left out.
#[derive(Debug)]
pub(crate) struct Overlay {
    blocks: Vec<Block>,
    /// The last frame whose rows are here.
    sequence: u64,
    /// The files that they were read from.
    files: Vec<PathBuf>,
    rows: u64,
}

#[derive(Debug)]
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
        let firsts = (0_u32..).step_by(UNIT_ROWS);
        let blocks: Vec<Block> = blocks
            .iter()
            .zip(firsts)
            .map(|(parts, first)| {
                let len: usize = parts.iter().map(RecordBatch::num_rows).sum();
                let end = first.saturating_add(u32::try_from(len).unwrap_or(u32::MAX));
                let gone = dead.range_cardinality(first..end);
                let rows = len - usize::try_from(gone).unwrap_or(len);
                Block { parts: parts.clone(), first, dead: Arc::clone(dead), rows, live: OnceLock::new() }
            })
            .collect();
        let rows = blocks.iter().map(|block| block.rows as u64).sum();
        Self { blocks, sequence, files, rows }
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

impl Block {
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
