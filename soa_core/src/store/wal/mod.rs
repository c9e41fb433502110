//! The write-ahead log: rows that are durable, and visible to every reader of this crate, before they are published
//! (format.md, section 4).
//!
//! [`Writer`] owns the log of a store and adds to it; [`tail`] is what readers make of its files; the publisher, a thread
//! of the writer, turns frames into segments.

mod frame;
mod publisher;
mod rows;
pub(super) mod tail;
mod writer;

use std::path::{Path, PathBuf};

use uuid::Uuid;

use super::Store;
use super::io::Backend;
use super::paths::WAL_DIR;
use crate::error::{Error, Result};

pub(super) use self::writer::lock;
pub use self::writer::{Durability, Writer, WriterOptions};

/// The file by which the owner of a log is told.
pub(super) const LOCK_FILE: &str = "_soa/lock";

/// The application that a log's publishing is recorded as.
pub(super) fn app_id(lineage: Uuid) -> String {
    format!("soa-wal-{lineage}")
}

/// A file of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct LogFileName {
    pub(super) number: u64,
    pub(super) path: PathBuf,
    pub(super) modified_ms: i64,
    pub(super) len: u64,
}

/// The files of a log, in order; none if there is no log.
pub(super) fn files(backend: &dyn Backend, root: &Path, lineage: Uuid) -> Result<Vec<LogFileName>> {
    let dir = root.join(WAL_DIR);
    let entries = match backend.list(&dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("list", &dir)(error)),
    };
    let prefix = format!("{}-", lineage.simple());
    let mut files: Vec<LogFileName> = entries
        .into_iter()
        .filter_map(|entry| {
            let number = entry.name.strip_prefix(&prefix)?.strip_suffix(".wal")?.parse().ok()?;
            let (modified_ms, len) = (entry.stat.modified_ms, entry.stat.len);
            Some(LogFileName { number, path: dir.join(entry.name), modified_ms, len })
        })
        .collect();
    files.sort_unstable_by_key(|file| file.number);
    Ok(files)
}

/// Whether everything in a log is published.
pub(super) fn is_empty(store: &Store, lineage: Uuid) -> Result<bool> {
    let files = files(store.backend(), store.path(), lineage)?;
    if files.is_empty() {
        return Ok(true);
    }
    let base = store.published()?;
    let published = base.txn_version(store, &app_id(lineage))?.and_then(|version| u64::try_from(version).ok());
    for file in files {
        let bytes = match store.backend().read(&file.path) {
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => continue,
            read => read.map_err(Error::io("read", &file.path))?,
        };
        let end = tail::find_end(&file.path, &bytes)?;
        if end.sequence.is_some_and(|sequence| sequence > published.unwrap_or(0)) {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Where a file of a log is.
fn file_path(root: &Path, lineage: Uuid, number: u64) -> PathBuf {
    root.join(WAL_DIR).join(format!("{}-{number:010}.wal", lineage.simple()))
}
