//! Appending rows: segments first, then one commit that makes them visible.

use std::sync::Arc;

use arrow::array::RecordBatch;

use super::commit::check_writable;
use super::edit::Edit;
use super::guard::Guard;
use super::keys::KeySet;
use super::snapshot::Snapshot;
use super::writing::SegmentWriter;
use super::{Store, UNIT_ROWS, maintain};
use crate::convert::cast_batch;
use crate::error::Result;
use crate::schema::Schema;

/// Collects rows into segments and publishes them all in one commit.
///
/// Memory is bounded however many rows come (but for 8 to 16 bytes for each key of a keyed store): full segments
/// are written as they fill up. Nothing is visible
/// before [`commit`](Self::commit); an appender that is dropped before leaves no trace in the store.
#[derive(Debug)]
pub struct Appender {
    store: Store,
    base: Arc<Snapshot>,
    writer: SegmentWriter,
    keys: Option<KeySet>,
    rows: u64,
    guard: Guard,
}

impl Appender {
    pub(super) fn new(store: &Store) -> Result<Self> {
        let guard = store.guard_keys()?;
        Self::with_guard(store, guard)
    }

    /// For the owner of the write-ahead log, or for somebody who has `guard`.
    pub(super) fn with_guard(store: &Store, guard: Guard) -> Result<Self> {
        let base = store.published()?;
        check_writable(&base)?;
        let writer = SegmentWriter::new(store, &base);
        let keys = KeySet::new(base.schema());
        Ok(Self { store: store.clone(), base, writer, keys, rows: 0, guard })
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
        if let Some(keys) = &mut self.keys {
            keys.insert_new(batch.column(keys.column()))?;
        }
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch)
    }

    /// Publishes the rows: afterwards every reader sees all of them. Returns the version that has them, which is
    /// the current one if there were none.
    ///
    /// # Errors
    ///
    /// When a key exists already, a file cannot be written, or other writers kept being faster. Nothing is visible
    /// then and nothing left behind, unless the error is one of I/O after which the outcome is not known.
    pub fn commit(mut self) -> Result<u64> {
        self.writer.finish()?;
        let edit = Edit {
            operation: "WRITE",
            added: self.writer.written(),
            new_keys: self.keys.as_ref(),
            condemned: None,
            txn: None,
            guard: &self.guard,
        };
        let edited = edit.commit(&self.store, &self.base);
        let version = self.writer.settle(edited)?.version;
        // What comes now may take its time, in which others may have the write-ahead log.
        drop(self.guard);
        if self.rows > 0 {
            maintain::after_publishing(&self.store, self.rows < UNIT_ROWS as u64);
        }
        Ok(version)
    }
}
