//! Who may change rows while there is a write-ahead log.
//!
//! What is in the log counts more than what is published. Whoever publishes rows that could replace or be replaced by
//! rows of the log must therefore know that the log is empty and stays so.

use arrow::array::RecordBatch;

use super::io::{LockGuard, LockMode};
use super::wal;
use super::{Store, delta_schema};
use crate::error::Result;

impl Store {
    /// Makes sure that the log has no rows that could have the same keys as those to be published, for as long as the guard
    /// lives. Nothing to do for tables without key, where rows of the log and published ones do not meet.
    ///
    /// # Errors
    ///
    /// When the log has an owner, or what an earlier one left cannot be published.
    pub(super) fn guard_keys(&self) -> Result<Option<Box<dyn LockGuard>>> {
        match self.published()?.schema().key() {
            None => Ok(None),
            Some(_) => self.guard_rows(),
        }
    }

    /// Makes sure that the log has no rows, for as long as the guard lives.
    ///
    /// # Errors
    ///
    /// As [`guard_keys`](Self::guard_keys).
    pub(super) fn guard_rows(&self) -> Result<Option<Box<dyn LockGuard>>> {
        loop {
            let Some(lineage) = delta_schema::lineage(self.published()?.delta(), self.path())? else { return Ok(None) };
            let guard = wal::lock(self, LockMode::Shared)?;
            if wal::is_empty(self, lineage)? {
                return Ok(Some(guard));
            }
            drop(guard);
            // What an owner left that has ended.
            self.writer(wal::WriterOptions::default())?.close()?;
        }
    }

    /// As [`append`](Self::append), for the owner of the log.
    pub(super) fn append_unguarded(&self, batches: &[RecordBatch]) -> Result<u64> {
        let mut appender = super::Appender::unguarded(self, None)?;
        batches.iter().try_for_each(|batch| appender.write(batch))?;
        appender.commit()
    }
}
