//! Files that no version needs any more, removed.

use std::path::{Path, PathBuf};
use std::time::Duration;

use uuid::Uuid;

use super::named::Named;
use crate::error::{Error, Result};
use crate::store::io::{Item, ItemKind, LockMode};
use crate::store::paths::{self, ARROW_DIR, KEY_DIR, LOG_DIR, WAL_DIR};
use crate::store::snapshot::Snapshot;
use crate::store::{Store, commit, delta_schema, log, wal};

/// A shorter retention takes files away under readers and writers that are just at work.
const RETENTION_MIN: Duration = Duration::from_secs(24 * 60 * 60);

/// What [`Store::vacuum`] does.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VacuumOptions {
    /// Versions that were the newest at some time within this time, up to now, stay readable. 7 days by default.
    pub retention: Duration,
    /// Only finds out what would be removed.
    pub dry_run: bool,
    /// Takes a retention of less than a day: whoever reads an older version, or writes a segment that is not committed yet,
    /// may lose files.
    pub force: bool,
}

impl Default for VacuumOptions {
    fn default() -> Self {
        Self { retention: Duration::from_secs(7 * 24 * 60 * 60), dry_run: false, force: false }
    }
}

/// What [`Store::vacuum`] has removed.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Vacuumed {
    /// The files, relative to the store.
    pub files: Vec<PathBuf>,
    /// How many bytes they had.
    pub bytes: u64,
}

impl Store {
    /// Removes the files that no version needs which was the newest one within the retention: those of segments that were
    /// compacted or deleted, and what writers have left that were interrupted. A reader that still has an older snapshot may
    /// get [`Error::SnapshotTooOld`].
    ///
    /// What is not known to be the store's own is not touched, nor are links followed; the log stays whole.
    ///
    /// # Errors
    ///
    /// When the retention is shorter than a day and not forced, the table has rules that this release does not know, the log
    /// cannot be read, or a file cannot be removed; those before it are removed then.
    pub fn vacuum(&self, options: &VacuumOptions) -> Result<Vacuumed> {
        self.vacuum_with(options, &mut |_, _| {})
    }

    /// As [`vacuum`](Self::vacuum); `progress` is told each file and its bytes before it is removed.
    ///
    /// # Errors
    ///
    /// As [`vacuum`](Self::vacuum).
    pub fn vacuum_with(&self, options: &VacuumOptions, progress: &mut dyn FnMut(&Path, u64)) -> Result<Vacuumed> {
        if options.retention < RETENTION_MIN && !options.force {
            return Err(Error::argument(format!(
                "a retention of {} s is less than a day, within which files may be in use; force it if nobody uses the store",
                options.retention.as_secs()
            )));
        }
        let _guard = match options.dry_run {
            true => None,
            false => Some(super::lock(self, LockMode::Exclusive)?),
        };
        let newest = self.published()?;
        commit::check_writable(&newest)?;
        if !options.dry_run {
            // After a power cut there must not be an older version that needs what is removed.
            self.make_durable(&newest)?;
        }
        let retention_ms = i64::try_from(options.retention.as_millis()).unwrap_or(i64::MAX);
        let since_ms = log::now_ms().saturating_sub(retention_ms);
        let search = Search { store: self, named: Named::read(self, &newest, since_ms)?, since_ms };
        let mut found = Vec::new();
        search.segments(Path::new(""), &partition_dirs(&newest), &mut found)?;
        search.own_dirs(&mut found)?;
        search.retired_logs(&newest, &mut found)?;
        let now = self.published()?;
        if now.version() != newest.version() {
            // What was committed after the log was read may name files that were nobody's then.
            let named = Named::read(self, &now, since_ms)?;
            found.retain(|(file, _)| !named.needs_any_form(file));
        }
        let mut vacuumed = Vacuumed::default();
        for (file, bytes) in found {
            progress(&file, bytes);
            if !options.dry_run {
                let path = self.path().join(&file);
                match self.backend().remove(&path) {
                    Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                        return Err(Error::io("remove", &path)(error));
                    }
                    _ => self.remove_empty_partitions(&file),
                }
            }
            vacuumed.bytes += bytes;
            vacuumed.files.push(file);
        }
        Ok(vacuumed)
    }

    /// Removes the folders of a partition that a file was the last in.
    fn remove_empty_partitions(&self, file: &Path) {
        for dir in file.ancestors().skip(1).take_while(|dir| is_partition_dir(dir)) {
            // One that has files is not removed.
            if self.backend().remove_dir(&self.path().join(dir)).is_err() {
                return;
            }
        }
    }
}

fn is_partition_dir(dir: &Path) -> bool {
    dir.file_name().is_some_and(|name| name.to_string_lossy().contains('='))
}

/// What the names of the folders of partitions begin with, one level after the other.
fn partition_dirs(snapshot: &Snapshot) -> Vec<String> {
    let columns = snapshot.schema().names_of(snapshot.schema().partition_by());
    columns.into_iter().map(|column| paths::partition_dir(&[(column, Some(String::new()))]).replace('/', "")).collect()
}

struct Search<'a> {
    store: &'a Store,
    named: Named,
    since_ms: i64,
}

type Found = Vec<(PathBuf, u64)>;

impl Search<'_> {
    fn list(&self, dir: &Path) -> Result<Vec<Item>> {
        let path = self.store.path().join(dir);
        match self.store.backend().list_all(&path) {
            Ok(mut items) => {
                items.sort_unstable_by(|a, b| a.name.cmp(&b.name));
                Ok(items)
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(Error::io("list", &path)(error)),
        }
    }

    /// Whether a file is old enough that nobody is still at work on it.
    fn is_old(&self, item: &Item) -> bool {
        item.stat.modified_ms < self.since_ms
    }

    /// Parquet files, deletion vectors and what is left of writing them, in a folder and those of partitions below it.
    fn segments(&self, dir: &Path, partitions: &[String], found: &mut Found) -> Result<()> {
        for item in self.list(dir)? {
            let path = dir.join(&item.name);
            match item.kind {
                ItemKind::Other => {}
                ItemKind::Dir => match partitions.split_first() {
                    Some((begin, rest)) if item.name.starts_with(begin) => self.segments(&path, rest, found)?,
                    _ if item.name.starts_with(['.', '_']) => {}
                    // Other writers may have other folders.
                    _ if self.named.knows_dir(&path) => self.segments(&path, &[], found)?,
                    _ => {}
                },
                ItemKind::File if self.named.needs(&path) => {}
                ItemKind::File => {
                    let is_own =
                        id_of(&item.name, "part-", ".parquet") || id_of(&item.name, "deletion_vector_", ".bin");
                    if self.named.knows(&path) || (is_own || is_temporary(&item.name)) && self.is_old(&item) {
                        found.push((path, item.stat.len));
                    }
                }
            }
        }
        Ok(())
    }

    /// What is in the folders that are this crate's own: other forms of segments, and what is left of writing files.
    fn own_dirs(&self, found: &mut Found) -> Result<()> {
        let root = Path::new("");
        if self.list(root)?.iter().any(|item| item.name == "_soa" && item.kind != ItemKind::Dir) {
            // A link, which is not followed.
            return Ok(());
        }
        for (dir, extension) in [(ARROW_DIR, ".arrow"), (KEY_DIR, ".key"), (WAL_DIR, ""), ("_soa", ""), (LOG_DIR, "")] {
            let dir = Path::new(dir);
            let parent = self.list(dir.parent().unwrap_or(root))?;
            let is_dir =
                |item: &Item| dir.file_name().is_some_and(|name| *name == *item.name) && item.kind == ItemKind::Dir;
            if !parent.iter().any(is_dir) {
                continue;
            }
            for item in self.list(dir)?.into_iter().filter(|item| item.kind == ItemKind::File) {
                let stem = item.name.strip_suffix(extension).filter(|_| !extension.is_empty());
                let is_done_with = match stem.filter(|_| id_of(&item.name, "part-", extension)) {
                    Some(stem) => !self.named.needs_stem(stem) && (self.named.knows_stem(stem) || self.is_old(&item)),
                    None => is_temporary(&item.name) && self.is_old(&item),
                };
                if is_done_with {
                    found.push((dir.join(&item.name), item.stat.len));
                }
            }
        }
        Ok(())
    }

    /// Files of the write-ahead log that are published and that nobody needs to make out a snapshot any more.
    fn retired_logs(&self, newest: &Snapshot, found: &mut Found) -> Result<()> {
        let Some(lineage) = delta_schema::lineage(newest.delta(), newest.path())? else { return Ok(()) };
        let there = self.list(Path::new(WAL_DIR))?;
        for file in wal::retired(self.store, newest, lineage)? {
            let item = there.iter().find(|item| file.path.ends_with(&item.name) && item.kind == ItemKind::File);
            if let Some(item) = item.filter(|item| self.is_old(item)) {
                found.push((Path::new(WAL_DIR).join(&item.name), item.stat.len));
            }
        }
        Ok(())
    }
}

/// Whether a name is a UUID between the two.
fn id_of(name: &str, before: &str, after: &str) -> bool {
    let id = name.strip_prefix(before).and_then(|rest| rest.strip_suffix(after));
    id.is_some_and(|id| id.len() == 36 && Uuid::parse_str(id).is_ok())
}

/// Whether a file of this name is on its way to another one, as [`OsBackend`](crate::store::OsBackend) names it.
fn is_temporary(name: &str) -> bool {
    let id = name.strip_prefix('.').and_then(|rest| rest.strip_suffix(".tmp")).and_then(|rest| rest.rsplit_once('.'));
    id.is_some_and(|(_, id)| id.len() == 32 && Uuid::parse_str(id).is_ok())
}
