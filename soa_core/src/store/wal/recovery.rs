//! What is left of a log whose owner has ended.

use std::path::Path;

use uuid::Uuid;

use super::frame::{FILE_HEADER_LEN, FileHeader, Frame, Kind, durable_after, has_frames};
use super::{LogFileName, files, publisher};
use crate::error::{Error, Result};
use crate::store::Store;
use crate::store::io::Backend;
use crate::store::paths::WAL_DIR;

/// What an earlier owner left.
#[derive(Debug)]
pub(super) struct Recovered {
    pub(super) next_number: u64,
    pub(super) next_sequence: u64,
    /// Bytes of frames that are not published.
    pub(super) bytes: u64,
}

/// A file of a log and what of it counts.
#[derive(Debug)]
pub(super) struct Left {
    file: LogFileName,
    content: Vec<u8>,
    /// The last frame that counts; `None` if the file has none.
    pub(super) sequence: Option<u64>,
    /// The bytes up to its end; none if not even the header is whole.
    len: usize,
}

/// Reads the files of a log that has no owner, up to where they end: its owner may have left the last one in the middle of a
/// frame. (So may owners before, which left files that others come after: where the next file begins, all was read.) Files
/// whose frames are all published are not read.
///
/// # Errors
///
/// When a file is damaged where it was durable, or frames are missing above those that are `published`.
pub(super) fn survey(store: &Store, lineage: Uuid, published: u64) -> Result<Vec<Left>> {
    let backend = store.backend();
    let mut next_first = None;
    let mut found: Vec<(Option<u64>, Left)> = Vec::new();
    for file in files(backend, store.path(), lineage)?.into_iter().rev() {
        if next_first.is_some_and(|first| first <= published.saturating_add(1)) {
            found.push((None, Left { file, content: Vec::new(), sequence: None, len: 0 }));
            continue;
        }
        let content = match file.read(backend, store.path()) {
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => continue,
            read => read?,
        };
        let header = file.header(lineage, &content)?;
        let first = header.map(|header| header.first_sequence);
        found.push((first, find_end(file, content, header, next_first, published)?));
        next_first = first.or(next_first);
    }
    found.reverse();
    let mut sequence = published;
    let mut suspect = store.path().join(WAL_DIR);
    for (first, left) in &found {
        if first.is_some_and(|first| first > sequence.saturating_add(1)) {
            return Err(Error::damaged(suspect, format!("frame {} of the write-ahead log is missing", sequence + 1)));
        }
        sequence = sequence.max(left.sequence.unwrap_or(0));
        suspect.clone_from(&left.file.path);
    }
    Ok(found.into_iter().map(|(_, left)| left).collect())
}

/// Finds the last whole frame of a file that is not of the next one.
fn find_end(
    file: LogFileName,
    content: Vec<u8>,
    header: Option<FileHeader>,
    next_first: Option<u64>,
    published: u64,
) -> Result<Left> {
    let Some(FileHeader { id, .. }) = header else {
        return match has_frames(&content, published) {
            false => Ok(Left { file, content, sequence: None, len: 0 }),
            true => Err(file.has_no_header()),
        };
    };
    let (mut sequence, mut len) = (None, FILE_HEADER_LEN);
    while let Some(frame) = Frame::decode(&content[len..], id) {
        if next_first.is_some_and(|first| frame.sequence >= first) {
            return Ok(Left { file, content, sequence, len });
        }
        if frame.kind != Kind::Schema {
            sequence = Some(frame.sequence);
        }
        len += frame.len();
    }
    if durable_after(&content, len, id) > len as u64 {
        return Err(Error::damaged(&file.path, format!("the frame at byte {len} does not match its checksum")));
    }
    Ok(Left { file, content, sequence, len })
}

/// Brings the files of a log into order after their owner has ended. All frames that count are durable when this returns.
///
/// # Errors
///
/// As [`survey`], and when files cannot be written.
pub(super) fn recover(store: &Store, lineage: Uuid, published: u64) -> Result<Recovered> {
    let backend = store.backend();
    remove_temporary(backend, store.path(), lineage)?;
    let mut recovered = Recovered { next_number: 1, next_sequence: published.saturating_add(1), bytes: 0 };
    let files = survey(store, lineage, published)?;
    let last = files.last().map(|left| left.file.number);
    for left in &files {
        recovered.next_number = left.file.number.saturating_add(1);
        let Some(sequence) = left.sequence.filter(|sequence| *sequence > published) else {
            publisher::remove_if_old(backend, &left.file)?;
            continue;
        };
        if Some(left.file.number) == last {
            // A file that another one follows was synced before. This one may not have been; and if that was tried and failed,
            // trying again would tell nothing: the system takes for written what is not on the disk. So it is written anew.
            let path = &left.file.path;
            backend.replace(path, &left.content[..left.len]).map_err(Error::io("write", path))?;
        }
        recovered.bytes += left.len as u64;
        recovered.next_sequence = sequence.saturating_add(1);
    }
    Ok(recovered)
}

/// Removes files that were being written in the place of others when their owner ended.
fn remove_temporary(backend: &dyn Backend, root: &Path, lineage: Uuid) -> Result<()> {
    let dir = root.join(WAL_DIR);
    let prefix = format!(".{}-", lineage.simple());
    for entry in backend.list(&dir).map_err(Error::io("list", &dir))? {
        if entry.name.starts_with(&prefix) && entry.name.ends_with(".tmp") {
            let path = dir.join(entry.name);
            backend.remove(&path).map_err(Error::io("remove", &path))?;
        }
    }
    Ok(())
}
