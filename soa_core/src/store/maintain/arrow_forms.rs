//! Which segments have an Arrow form: as many as a budget of bytes allows, the newest first.

use std::collections::HashMap;
use std::sync::Arc;

use crate::error::{Error, ErrorKind, Result};
use crate::store::Store;
use crate::store::paths::ARROW_DIR;
use crate::store::segment::{self, Segment};
use crate::store::snapshot::{self, Snapshot};

/// The sizes of the Arrow forms that there are, by file name.
#[derive(Debug)]
pub(super) struct ArrowSizes(HashMap<String, u64>);

impl ArrowSizes {
    pub(super) fn list(store: &Store) -> Result<Self> {
        let dir = store.path().join(ARROW_DIR);
        match store.backend().list(&dir) {
            Ok(entries) => Ok(Self(entries.into_iter().map(|entry| (entry.name, entry.stat.len)).collect())),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Self(HashMap::new())),
            Err(error) => Err(Error::io("list", &dir)(error)),
        }
    }

    pub(super) fn of(&self, segment: &Segment) -> Option<u64> {
        let path = segment.file().arrow_path();
        path.file_name().and_then(|name| self.0.get(name.to_str()?)).copied()
    }
}

/// What became of Arrow forms.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Kept {
    pub(super) rebuilt: u64,
    pub(super) dropped: u64,
}

/// Removes the Arrow forms that are over the budget, and makes missing ones where there is room if `rebuild` is set.
/// `progress` is told the rows of each segment looked at.
///
/// # Errors
///
/// When a file cannot be read or written. What is damaged is left as it is: `verify` tells.
pub(super) fn keep_within(
    store: &Store,
    snapshot: &Snapshot,
    bytes_max: Option<u64>,
    rebuild: bool,
    progress: &mut dyn FnMut(u64),
) -> Result<Kept> {
    let sizes = ArrowSizes::list(store)?;
    let mut left = bytes_max.unwrap_or(u64::MAX);
    let mut may_rebuild = rebuild;
    let mut kept = Kept::default();
    for segment in snapshot.segments().iter().rev() {
        progress(segment.file().row_count());
        let file = segment.file();
        if !file.is_own() {
            continue;
        }
        match sizes.of(segment).filter(|_| !rebuild || file.has_arrow()) {
            Some(bytes) if bytes <= left => left -= bytes,
            Some(_) => kept.dropped += u64::from(drop_form(store, segment)?),
            None if may_rebuild && file.arrow_bytes_min() <= left => {
                match file.rebuild_arrow() {
                    Err(error) if error.kind() == ErrorKind::Damaged => {}
                    Err(error) => return Err(error),
                    Ok(bytes) if bytes <= left => {
                        left -= bytes;
                        kept.rebuilt += 1;
                    }
                    // Of an older one it would not be known either before it is made.
                    Ok(_) => {
                        segment::remove(store.backend(), &[file.arrow_path()]);
                        may_rebuild = false;
                    }
                }
            }
            None => {}
        }
    }
    if kept.rebuilt > 0 {
        snapshot::forget(store.path());
    }
    Ok(kept)
}

/// Removes a segment's Arrow form if its rows can be read without it; says whether they can.
fn drop_form(store: &Store, segment: &Arc<Segment>) -> Result<bool> {
    if segment.file().check_parquet().is_err() {
        return Ok(false);
    }
    let path = segment.file().arrow_path();
    match store.backend().remove(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", &path)(error)),
        _ => Ok(true),
    }
}
