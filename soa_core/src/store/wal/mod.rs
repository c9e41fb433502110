//! The write-ahead log: rows that are durable, and visible to every reader of this crate, before they are published
//! (format.md, section 4).
//!
//! [`Writer`] owns the log of a store and adds to it; [`tail`] is what readers make of its files; the publisher, a thread
//! of the writer, turns frames into segments.

mod frame;
mod publisher;
mod recovery;
mod rows;
pub(super) mod tail;
mod writer;

use std::path::{Path, PathBuf};

use uuid::Uuid;

use self::frame::{FILE_HEADER_LEN, FileHeader};
use super::io::{Backend, ReadFile};
use super::paths::{WAL_DIR, check_inside};
use super::{Snapshot, Store};
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

impl LogFileName {
    /// How the file begins; `None` if its first bytes are no whole header.
    fn header(&self, lineage: Uuid, bytes: &[u8]) -> Result<Option<FileHeader>> {
        let header =
            FileHeader::decode(bytes).map_err(|message| Error::Unsupported { path: self.path.clone(), message })?;
        match header.filter(|header| header.lineage != lineage || header.number != self.number) {
            None => Ok(header),
            Some(_) => Err(Error::damaged(&self.path, "it is a file of another log, or another file of this one")),
        }
    }

    /// Opens it. A link that leaves the store is not followed.
    fn open(&self, backend: &dyn Backend, root: &Path) -> Result<Box<dyn ReadFile>> {
        check_inside(root, &self.path)?;
        backend.open(&self.path).map_err(Error::io("open", &self.path))
    }

    /// Reads it whole.
    fn read(&self, backend: &dyn Backend, root: &Path) -> Result<Vec<u8>> {
        check_inside(root, &self.path)?;
        backend.read(&self.path).map_err(Error::io("read", &self.path))
    }

    fn has_no_header(&self) -> Error {
        Error::damaged(&self.path, "it does not begin as a file of the write-ahead log")
    }
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
    let base = store.published()?;
    let published = base.log_sequence(store, &app_id(lineage))?;
    let left = recovery::survey(store, lineage, published)?;
    Ok(left.iter().all(|left| left.sequence.is_none_or(|sequence| sequence <= published)))
}

/// The files of a log whose frames are all published in a version: those before one that begins with the first frame that is not, or earlier.
pub(super) fn retired(store: &Store, base: &Snapshot, lineage: Uuid) -> Result<Vec<LogFileName>> {
    let mut files = files(store.backend(), store.path(), lineage)?;
    let published = base.log_sequence(store, &app_id(lineage))?;
    let mut kept_from = 0;
    for (at, file) in files.iter().enumerate().skip(1) {
        let content = match file.open(store.backend(), store.path()) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => continue,
            open => open?,
        };
        // One that is being made has no header yet.
        let mut bytes = [0; FILE_HEADER_LEN];
        if file.len < FILE_HEADER_LEN as u64 || content.read_exact_at(&mut bytes, 0).is_err() {
            continue;
        }
        let first = file.header(lineage, &bytes)?.map(|header| header.first_sequence);
        if first.is_some_and(|first| first <= published.saturating_add(1)) {
            kept_from = at;
        }
    }
    files.truncate(kept_from);
    Ok(files)
}

/// Where a file of a log is.
fn file_path(root: &Path, lineage: Uuid, number: u64) -> PathBuf {
    root.join(WAL_DIR).join(format!("{}-{number:010}.wal", lineage.simple()))
}
