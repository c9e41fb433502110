//! Snapshots with what is in the write-ahead log: a version and a prefix of the log.

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use uuid::Uuid;

use super::snapshot::{Snapshot, SnapshotId};
use super::wal::tail::{self, Tail};
use super::wal::{self, LogFileName};
use super::{At, Store, delta_schema};
use crate::error::{Error, Result};

/// How often a snapshot is tried while files vanish because others publish them.
const ATTEMPTS_MAX: u32 = 100;
/// The first ones follow each other at once,
const QUICK_ATTEMPTS: u32 = 3;
/// the others after a pause.
const ATTEMPT_PAUSE: Duration = Duration::from_millis(2);
/// How many stores' logs a process keeps.
const CACHED_LOGS_MAX: usize = 64;

/// The logs that this process has read, by the store's resolved path.
static LOGS: LazyLock<Mutex<HashMap<PathBuf, Arc<Mutex<Live>>>>> = LazyLock::new(Mutex::default);

/// What is kept of a log, to read on where it stopped.
#[derive(Debug, Default)]
struct Live {
    tail: Option<Tail>,
    /// The last snapshot, the version and the files that it was made of.
    last: Option<Last>,
}

#[derive(Debug)]
struct Last {
    published: Arc<Snapshot>,
    files: Vec<(u64, u64)>,
    snapshot: Arc<Snapshot>,
}

impl Store {
    /// The newest snapshot: what is published and what is in the write-ahead log. Costs a few `stat` calls when nothing has
    /// changed since the last time.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn snapshot(&self) -> Result<Arc<Snapshot>> {
        let published = self.published()?;
        let Some(lineage) = delta_schema::lineage(published.delta(), self.path())? else { return Ok(published) };
        let entry = {
            let mut logs = LOGS.lock().unwrap_or_else(PoisonError::into_inner);
            if logs.len() >= CACHED_LOGS_MAX && !logs.contains_key(self.path()) {
                logs.clear();
            }
            Arc::clone(logs.entry(self.path().to_owned()).or_default())
        };
        let mut live = entry.lock().unwrap_or_else(PoisonError::into_inner);
        for attempt in 0..ATTEMPTS_MAX {
            if let Some(snapshot) = self.try_live(&mut live, lineage)? {
                return Ok(snapshot);
            }
            if attempt >= QUICK_ATTEMPTS {
                std::thread::sleep(ATTEMPT_PAUSE);
            }
        }
        let message = "frames that are not published are missing".to_owned();
        Err(Error::damaged(self.path().join(super::paths::WAL_DIR), message))
    }

    /// The snapshot that another process has, or had, by its [`id`](Snapshot::id).
    ///
    /// # Errors
    ///
    /// When files that it needs are gone, or the log cannot be read.
    pub fn snapshot_of(&self, id: SnapshotId) -> Result<Arc<Snapshot>> {
        let Some(sequence) = id.log_sequence else { return self.snapshot_at(At::Version(id.version)) };
        let newest = self.snapshot()?;
        if newest.id() == id {
            return Ok(newest);
        }
        let published = self.snapshot_at(At::Version(id.version))?;
        let too_old = || Error::SnapshotTooOld {
            path: self.path().to_owned(),
            message: format!("frame {sequence} of its write-ahead log has been published and removed"),
        };
        let lineage = delta_schema::lineage(published.delta(), self.path())?.ok_or_else(too_old)?;
        let mut tail = Tail::new(lineage, published.schema(), self.published_sequence(&published, lineage)?);
        // A file that vanishes while they are opened may be one that was published long ago.
        let mut extents = None;
        for _ in 0..ATTEMPTS_MAX {
            extents = tail::fix(self.backend(), self.path(), lineage)?;
            if extents.is_some() {
                break;
            }
        }
        let extents = extents.ok_or_else(too_old)?;
        if !tail.read(&extents, sequence)? || tail.sequence() != sequence {
            return Err(too_old());
        }
        Ok(Arc::new(published.with_tail(&mut tail)?))
    }

    /// The snapshot of now, or `None` if a file that was needed has vanished.
    fn try_live(&self, live: &mut Live, lineage: Uuid) -> Result<Option<Arc<Snapshot>>> {
        // The order matters: what of the log counts is fixed first. What vanishes after that has been published by then.
        let found = wal::files(self.backend(), self.path(), lineage)?;
        let files: Vec<(u64, u64)> = found.iter().map(|file: &LogFileName| (file.number, file.len)).collect();
        let published = self.published()?;
        if let Some(last) = &live.last
            && Arc::ptr_eq(&last.published, &published)
            && last.files == files
        {
            return Ok(Some(Arc::clone(&last.snapshot)));
        }
        let Some(extents) = tail::fix(self.backend(), self.path(), lineage)? else { return Ok(None) };
        let published = self.published()?;
        let base = self.published_sequence(&published, lineage)?;
        // Taken out: after an error it is not known what it has read.
        let tail = live.tail.take().filter(|tail| tail.fits(lineage, published.schema(), base));
        let mut tail = tail.unwrap_or_else(|| Tail::new(lineage, published.schema(), base));
        if !tail.read(&extents, u64::MAX)? {
            return Ok(None);
        }
        let snapshot = match tail.is_empty() {
            true => Arc::clone(&published),
            false => Arc::new(published.with_tail(&mut tail)?),
        };
        live.tail = Some(tail);
        let files = extents.iter().map(tail::Extent::number_and_len).collect();
        live.last = Some(Last { published, files, snapshot: Arc::clone(&snapshot) });
        Ok(Some(snapshot))
    }

    /// The last frame of a log that a version has.
    fn published_sequence(&self, published: &Snapshot, lineage: Uuid) -> Result<u64> {
        published.log_sequence(self, &wal::app_id(lineage))
    }
}
