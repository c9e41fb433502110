//! The rows that have come since a version.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use arrow::array::RecordBatch;
use serde_json::Value;

use crate::error::{Error, Result};
use crate::schema::{Schema, arrow_schema};
use crate::store::commit::REWRITTEN_TAG;
use crate::store::log_entry::LogEntry;
use crate::store::segment::{Segment, SegmentFile, Table};
use crate::store::snapshot::{self, Snapshot};
use crate::store::{At, Store, log, paths};

/// The rows that were added since a version, commit by commit; see [`Store::changes_since`]. Each item is a batch of at most
/// [`UNIT_ROWS`](crate::store::UNIT_ROWS) of them, with the columns of the newest version.
#[derive(Debug)]
pub struct Changes {
    from: u64,
    to: u64,
    schema: Schema,
    rows_added: u64,
    rows_deleted: u64,
    segments: VecDeque<Arc<Segment>>,
    unit: usize,
}

impl Store {
    /// The rows that were added after version `version`, up to the newest one, and how many were deleted.
    ///
    /// Every row comes as often as a commit has added it, in the order of commits: one that was deleted or replaced since
    /// comes all the same. Replacing a row, as [`upsert`](Self::upsert) does, gives the new one and counts the old one as
    /// deleted, so that of several rows with one key the last is the one that counts. Compaction gives nothing.
    /// Restoring gives the rows of files that come back. Rows that are in the write-ahead log alone come when they are
    /// published, so that the next call, with [`Changes::to`], goes on where this one ended.
    ///
    /// Programs other than this one that rewrite files to delete rows make what is left of them come again.
    ///
    /// # Errors
    ///
    /// When there is no such version, or the log does not have the commits since then any more. It fails with
    /// [`Error::SnapshotTooOld`], now or when batches are read, when files of segments that were compacted since are gone by
    /// [`vacuum`](Self::vacuum).
    pub fn changes_since(&self, version: u64) -> Result<Changes> {
        let newest = self.published()?;
        // Whoever goes on from here must not find later that the rows were never there.
        match self.make_durable(&newest) {
            // What cannot be written does not lose anything either.
            Err(Error::Io { source, .. }) if is_read_only(source.kind()) => {}
            durable => durable?,
        }
        let before = self.snapshot_at(At::Version(version))?;
        let mut replay = Replay::new(self, &before, &newest);
        for version in version + 1..=newest.version() {
            let actions = log::actions(self.backend(), self.path(), version).map_err(|error| match error {
                Error::Io { source, .. } if source.kind() == std::io::ErrorKind::NotFound => Error::NoSuchVersion {
                    path: self.path().to_owned(),
                    wanted: version.to_string(),
                    message: "its commit has been removed from the log".to_owned(),
                },
                error => error,
            })?;
            replay.commit(&actions)?;
        }
        Ok(Changes {
            from: version,
            to: newest.version(),
            schema: newest.schema().clone(),
            rows_added: replay.added.iter().map(|segment| segment.row_count()).sum(),
            rows_deleted: replay.rows_deleted,
            segments: replay.added,
            unit: 0,
        })
    }
}

impl Changes {
    /// The version after which these changes were made.
    pub fn from(&self) -> u64 {
        self.from
    }

    /// The last version that they are of.
    pub fn to(&self) -> u64 {
        self.to
    }

    /// The columns of the batches.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// How many rows were added: as many as the batches have.
    pub fn rows_added(&self) -> u64 {
        self.rows_added
    }

    /// How many rows were deleted or replaced.
    pub fn rows_deleted(&self) -> u64 {
        self.rows_deleted
    }
}

impl Iterator for Changes {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            let segment = self.segments.front()?;
            let units = match segment.live_units() {
                Ok(units) => units,
                Err(error) => return Some(Err(self.fail(error))),
            };
            let unit = self.unit;
            self.unit += 1;
            match units.get(unit) {
                None => {
                    self.segments.pop_front();
                    self.unit = 0;
                }
                Some(0) => {}
                Some(_) => {
                    let columns: Vec<usize> = (0..self.schema.len()).collect();
                    let read = segment.read(unit, &columns).and_then(|arrays| {
                        RecordBatch::try_new(arrow_schema(&self.schema), arrays)
                            .map_err(Error::arrow("cannot put columns together"))
                    });
                    return Some(read.map_err(|error| self.fail(error)));
                }
            }
        }
    }
}

impl Changes {
    /// Nothing comes after an error.
    fn fail(&mut self, error: Error) -> Error {
        self.segments.clear();
        error
    }
}

/// The log, read commit by commit.
struct Replay<'a> {
    store: &'a Store,
    newest: &'a Snapshot,
    /// By path: the segments of the version that the replay has reached.
    now: HashMap<String, Arc<Segment>>,
    /// By path: files that this process may have open.
    open: HashMap<&'a str, &'a Arc<SegmentFile>>,
    added: VecDeque<Arc<Segment>>,
    rows_deleted: u64,
}

impl<'a> Replay<'a> {
    fn new(store: &'a Store, before: &Snapshot, newest: &'a Snapshot) -> Self {
        Self {
            store,
            newest,
            now: before.segments().iter().map(|segment| (segment.path().to_owned(), Arc::clone(segment))).collect(),
            open: newest.segments().iter().map(|segment| (segment.path(), segment.file())).collect(),
            added: VecDeque::new(),
            rows_deleted: 0,
        }
    }

    fn commit(&mut self, actions: &[Value]) -> Result<()> {
        let mut removed: HashMap<String, (Arc<Segment>, bool)> = HashMap::new();
        for remove in actions.iter().filter_map(|action| action.get("remove")) {
            if let Some(segment) = self.now.remove(&self.path_of(remove)?) {
                removed.insert(segment.path().to_owned(), (segment, is_data_change(remove)));
            }
        }
        // What a file without some of its rows has in its place has no row that is new.
        let (mut gone, mut again) = (0, 0);
        for add in actions.iter().filter_map(|action| action.get("add")) {
            let segment = Arc::new(self.segment(add)?);
            let before = removed.remove(segment.path()).map(|(before, _)| before);
            if is_data_change(add) {
                let is_rewritten = add.get("tags").and_then(|tags| tags.get(REWRITTEN_TAG)).is_some();
                match before {
                    Some(before) => self.same_file(&before, &segment)?,
                    None if is_rewritten => again += segment.row_count(),
                    None => self.added.push_back(Arc::clone(&segment)),
                }
            }
            self.now.insert(segment.path().to_owned(), segment);
        }
        for (segment, _) in removed.into_values().filter(|(_, is_data_change)| *is_data_change) {
            gone += segment.row_count();
        }
        self.rows_deleted += gone - again.min(gone);
        Ok(())
    }

    /// Rows of a file that are gone now, or are there again.
    fn same_file(&mut self, before: &Segment, after: &Arc<Segment>) -> Result<()> {
        let (gone_before, gone_after) = (before.deleted()?, after.deleted()?);
        self.rows_deleted += (&*gone_after - &*gone_before).len();
        let back = &*gone_before - &*gone_after;
        if !back.is_empty() {
            let rows = u32::try_from(after.file().row_count()).unwrap_or(u32::MAX);
            let mut others = roaring::RoaringBitmap::new();
            others.insert_range(0..rows);
            self.added.push_back(Arc::new(after.with_hidden(others - back)?));
        }
        Ok(())
    }

    fn path_of(&self, file: &Value) -> Result<String> {
        paths::decode(self.store.path(), file.get("path").and_then(Value::as_str).unwrap_or_default())
    }

    fn segment(&self, add: &Value) -> Result<Segment> {
        let mut entry = LogEntry::from_json(self.store.path(), add)?;
        let vector = entry.vector.take();
        match self.open.get(entry.path.as_str()) {
            Some(file) => Segment::new(Arc::clone(file), vector),
            None => {
                let (backend, root) = (&self.store.backend, self.store.path());
                let path = root.join(&entry.path);
                // Rows that the log does not count are counted in the file.
                let file = entry.into_file(&Table::new(backend, root, self.newest.schema()));
                let file = file.map_err(|error| snapshot::explain(backend, root, &path, error))?;
                Segment::new(Arc::new(file), vector)
            }
        }
    }
}

/// How file systems that take no writes refuse to sync a folder.
fn is_read_only(kind: std::io::ErrorKind) -> bool {
    matches!(kind, std::io::ErrorKind::ReadOnlyFilesystem | std::io::ErrorKind::InvalidInput)
}

fn is_data_change(file: &Value) -> bool {
    file.get("dataChange").and_then(Value::as_bool).unwrap_or(true)
}
