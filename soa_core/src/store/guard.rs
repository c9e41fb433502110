//! Who may change rows while there is a write-ahead log.
//!
//! What is in the log counts more than what is published. Whoever publishes rows that could replace or be replaced by
//! rows of the log must therefore know that the log is empty and stays so.

use arrow::array::RecordBatch;

use super::io::{LockGuard, LockMode};
use super::snapshot::Snapshot;
use super::wal;
use super::{Store, delta_schema};
use crate::error::{Error, Result};

/// What keeps rows of the log away from those that are published.
#[derive(Debug)]
pub(super) enum Guard {
    /// Nothing has to: they do not meet, or whoever publishes is the log's owner.
    NotNeeded,
    /// There was no log. One may be made before the rows are published.
    NoLog,
    /// The log is empty and has no owner, for as long as this lives.
    Held { _lock: Box<dyn LockGuard> },
}

impl Guard {
    /// Whether it does what it is for on this version, by which somebody may have made a log. (It is made by a commit, so that
    /// nobody publishes without noticing.)
    ///
    /// # Errors
    ///
    /// When the table's lineage is none.
    pub(super) fn covers(&self, store: &Store, base: &Snapshot) -> Result<bool> {
        match self {
            Self::NotNeeded | Self::Held { .. } => Ok(true),
            Self::NoLog => Ok(delta_schema::lineage(base.delta(), store.path())?.is_none()),
        }
    }
}

impl Store {
    /// Makes sure that the log has no rows that could have the same keys as those to be published, for as long as the guard
    /// lives. Nothing to do for tables without key, where rows of the log and published ones do not meet.
    ///
    /// # Errors
    ///
    /// When the log has an owner, or what an earlier one left cannot be published.
    pub(super) fn guard_keys(&self) -> Result<Guard> {
        match self.published()?.schema().key() {
            None => Ok(Guard::NotNeeded),
            Some(_) => self.guard_rows(),
        }
    }

    /// Makes sure that the log has no rows, for as long as the guard lives.
    ///
    /// # Errors
    ///
    /// As [`guard_keys`](Self::guard_keys).
    pub(super) fn guard_rows(&self) -> Result<Guard> {
        loop {
            let Some(lineage) = delta_schema::lineage(self.published()?.delta(), self.path())? else {
                return Ok(Guard::NoLog);
            };
            let lock = wal::lock(self, LockMode::Shared)?;
            if wal::is_empty(self, lineage)? {
                return Ok(Guard::Held { _lock: lock });
            }
            drop(lock);
            match self.publish_left() {
                // Others look into the log as well. One of them publishes what is there.
                Err(Error::Owned { .. }) => {}
                published => published?,
            }
        }
    }

    /// As [`append`](Self::append), for the owner of the log.
    pub(super) fn append_unguarded(&self, batches: &[RecordBatch]) -> Result<u64> {
        let mut appender = super::Appender::with_guard(self, Guard::NotNeeded)?;
        batches.iter().try_for_each(|batch| appender.write(batch))?;
        appender.commit()
    }
}
