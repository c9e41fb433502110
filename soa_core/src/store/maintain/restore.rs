//! An old version's rows made the newest ones.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::store::commit::{self, Added, Change, Failure};
use crate::store::edit::{Edited, Rewrites};
use crate::store::io::LockMode;
use crate::store::segment::Segment;
use crate::store::snapshot::Snapshot;
use crate::store::{At, Store, delta_schema};

impl Store {
    /// Makes a new version that has the rows, and the columns, of an old one. Table properties stay what they are. Returns the
    /// version that has it, and how many rows are in it that were not, and are not that were.
    ///
    /// Nothing is lost: the versions in between stay as readable as they were, and can be restored in turn.
    ///
    /// # Errors
    ///
    /// When there is no such version, or a file that it needs has been removed by [`vacuum`](Self::vacuum); the
    /// write-ahead log has an owner, or what an earlier one left cannot be published; the table only grows; or a file
    /// cannot be written.
    pub fn restore(&self, at: At) -> Result<Edited> {
        let guard = self.guard_rows()?;
        let _files = super::lock(self, LockMode::Shared)?;
        let old = self.snapshot_at(at)?;
        check_files(self, &old)?;
        let mut rewrites = Rewrites::new(self);
        let mut rows = (0, 0);
        let mut needs_guard = false;
        let committed = commit::commit(self, &self.published()?, &mut |base| {
            needs_guard = !guard.covers(self, base)?;
            if needs_guard {
                return Ok(None);
            }
            let change = change(base, &old, &mut rewrites)?;
            rows = change.as_ref().map_or((0, 0), |change| (change.rows_added, change.rows_deleted));
            Ok(change)
        });
        if committed.is_ok() && needs_guard {
            // Somebody has made a log since there was none. What is in it is published before the guard is there.
            return self.restore(At::Version(old.version()));
        }
        if !matches!(committed, Err(Failure::Nothing(_))) {
            rewrites.keep();
        }
        let version = committed.map_err(Failure::into_error)?;
        Ok(Edited { version, rows_added: rows.0, rows_deleted: rows.1 })
    }
}

/// Makes sure that every file of a version is there.
fn check_files(store: &Store, old: &Snapshot) -> Result<()> {
    for segment in old.segments() {
        let vector = segment.vector().and_then(|vector| vector.path(old.path()));
        for file in std::iter::once(segment.file().parquet_path()).chain(vector) {
            match store.backend().stat(&file) {
                Ok(_) => {}
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
                    let name = file.strip_prefix(old.path()).unwrap_or(&file).display();
                    return Err(Error::NoSuchVersion {
                        path: old.path().to_owned(),
                        wanted: old.version().to_string(),
                        message: format!("its file \"{name}\" has been removed, by vacuum or by hand"),
                    });
                }
                Err(error) => return Err(Error::io("look at", &file)(error)),
            }
        }
    }
    Ok(())
}

/// What makes the rows of `base` those of `old`; `None` if they are.
fn change(base: &Snapshot, old: &Snapshot, rewrites: &mut Rewrites) -> Result<Option<Change>> {
    let now: HashMap<&str, &Arc<Segment>> = base.segments().iter().map(|segment| (segment.path(), segment)).collect();
    let then: HashMap<&str, &Arc<Segment>> = old.segments().iter().map(|segment| (segment.path(), segment)).collect();
    let mut change = Change {
        operation: "RESTORE",
        is_data_change: true,
        table: delta_schema::with_columns_of(base.delta(), old.delta())?,
        ..Change::default()
    };
    let mut hollow: Vec<(Arc<Segment>, RoaringBitmap)> = Vec::new();
    for segment in base.segments() {
        match then.get(segment.path()) {
            Some(then) if then.vector() == segment.vector() => continue,
            Some(then) => change.rows_deleted += (&*then.deleted()? - &*segment.deleted()?).len(),
            None => change.rows_deleted += segment.row_count(),
        }
        change.removed.push(Arc::clone(segment));
    }
    for segment in old.segments() {
        match now.get(segment.path()) {
            Some(now) if now.vector() == segment.vector() => continue,
            Some(now) => change.rows_added += (&*now.deleted()? - &*segment.deleted()?).len(),
            None => change.rows_added += segment.row_count(),
        }
        match segment.vector().is_some() && delta_schema::rewrites_files(base.delta()) {
            true => hollow.push((Arc::clone(segment), (*segment.deleted()?).clone())),
            false => change.added.push(Added::again(segment)),
        }
    }
    rewrites.write(old, &hollow)?;
    for (segment, deleted) in &hollow {
        // Only where all of its rows are there now is none of them new.
        let has_all = match now.get(segment.path()) {
            Some(now) => now.deleted()?.is_subset(deleted),
            None => false,
        };
        change.added.extend(rewrites.of(segment).iter().map(|written| match has_all {
            true => Added::in_place_of(segment, written),
            false => Added::at(segment.modified_ms(), written, RoaringBitmap::new()),
        }));
    }
    if change.rows_deleted > 0 {
        commit::check_deletable(base)?;
    }
    let is_any = !(change.removed.is_empty() && change.added.is_empty() && change.table.is_empty());
    Ok(is_any.then_some(change))
}
