//! Which files the versions of a store name.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::error::{Error, Result};
use crate::store::log_entry::vector_of;
use crate::store::paths::{ARROW_DIR, KEY_DIR, commit_path};
use crate::store::snapshot::{self, Snapshot};
use crate::store::vector::DeletionVector;
use crate::store::{Store, log, paths};

/// Files that the log names.
#[derive(Debug, Default)]
pub(super) struct Named {
    /// Those that a version needs which somebody may still read.
    needed: HashSet<PathBuf>,
    /// All.
    known: HashSet<PathBuf>,
    /// The names, without extension, of the Parquet files among them, by which their other forms are called.
    needed_stems: HashSet<String>,
    known_stems: HashSet<String>,
}

impl Named {
    /// The files of a store whose newest version is `newest`. Needed are those of each version that was the newest one at some
    /// time since `since_ms`, milliseconds since 1970.
    ///
    /// # Errors
    ///
    /// When the log cannot be read, or has a gap.
    pub(super) fn read(store: &Store, newest: &Snapshot, since_ms: i64) -> Result<Self> {
        let mut named = Self::default();
        named.add_snapshot(newest, true)?;
        let mut times = times(store)?;
        // Others may go on meanwhile.
        times.retain(|(version, _)| *version <= newest.version());
        // The last one from before was the newest at that time.
        let first = times.iter().rposition(|(_, time)| *time <= since_ms).unwrap_or(0);
        let oldest = oldest_readable(store, &times, first, newest.version())?;
        if oldest < newest.version() {
            named.add_snapshot(&*snapshot::at_version(&store.backend, store.path(), oldest)?, true)?;
        }
        for (expected, (version, _)) in (oldest..).zip(times.iter().skip_while(|(version, _)| *version < oldest)) {
            if expected != *version {
                let path = commit_path(store.path(), expected);
                return Err(Error::damaged(path, "it is missing, while older and newer commits are there"));
            }
        }
        for (version, _) in &times {
            for action in log::actions(store.backend(), store.path(), *version)? {
                let is_needed = *version > oldest && action.get("add").is_some();
                if let Some(file) = action.get("add").or(action.get("remove")) {
                    named.add_action(store.path(), file, is_needed)?;
                }
            }
        }
        Ok(named)
    }

    fn add_snapshot(&mut self, snapshot: &Snapshot, is_needed: bool) -> Result<()> {
        for segment in snapshot.segments() {
            self.add(relative(segment.path()), is_needed);
            if let Some(vector) = segment.vector() {
                self.add_vector(snapshot.path(), vector, is_needed)?;
            }
        }
        Ok(())
    }

    fn add_vector(&mut self, root: &Path, vector: &DeletionVector, is_needed: bool) -> Result<()> {
        if vector.is_inline() {
            return Ok(());
        }
        let path = vector.path(root);
        let Some(file) = path.as_ref().and_then(|path| path.strip_prefix(root).ok()) else {
            // It may be one of the store's all the same, by another name of its folder.
            return Err(Error::Unsupported {
                path: root.to_owned(),
                message: format!(
                    "it names the deletion vector {} by a path outside its folder, so that nobody knows which files are needed",
                    path.unwrap_or_default().display()
                ),
            });
        };
        self.add(file.components().collect(), is_needed);
        Ok(())
    }

    fn add_action(&mut self, root: &Path, file: &Value, is_needed: bool) -> Result<()> {
        let path = file.get("path").and_then(Value::as_str).unwrap_or_default();
        self.add(relative(&paths::decode(root, path)?), is_needed);
        match vector_of(root, file)? {
            Some(vector) => self.add_vector(root, &vector, is_needed),
            None => Ok(()),
        }
    }

    fn add(&mut self, file: PathBuf, is_needed: bool) {
        let stem = file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if is_needed {
            self.needed_stems.insert(stem.clone());
            self.needed.insert(file.clone());
        }
        self.known_stems.insert(stem);
        self.known.insert(file);
    }

    /// Whether a version needs a file, by its path within the store.
    pub(super) fn needs(&self, file: &Path) -> bool {
        self.needed.contains(file)
    }

    /// Whether a version needs a file, or the segment of which it is another form.
    pub(super) fn needs_any_form(&self, file: &Path) -> bool {
        let is_form = [ARROW_DIR, KEY_DIR].iter().any(|dir| file.starts_with(dir));
        self.needs(file) || is_form && file.file_stem().is_some_and(|stem| self.needs_stem(&stem.to_string_lossy()))
    }

    /// Whether a version needs, or needed once, a file.
    pub(super) fn knows(&self, file: &Path) -> bool {
        self.known.contains(file)
    }

    /// Whether a version needs the segment whose files are called so.
    pub(super) fn needs_stem(&self, stem: &str) -> bool {
        self.needed_stems.contains(stem)
    }

    /// Whether a version needs, or needed once, the segment whose files are called so.
    pub(super) fn knows_stem(&self, stem: &str) -> bool {
        self.known_stems.contains(stem)
    }

    /// Whether the log names a file below a folder.
    pub(super) fn knows_dir(&self, dir: &Path) -> bool {
        self.known.iter().any(|file| file.starts_with(dir))
    }
}

fn relative(path: &str) -> PathBuf {
    Path::new(path).components().collect()
}

/// The versions whose commits are there and when each was made, the later of what the commit and its file say. They ascend.
fn times(store: &Store) -> Result<Vec<(u64, i64)>> {
    let mut last = i64::MIN;
    let commits = log::history(store.backend(), store.path())?;
    let timed = commits.into_iter().map(|commit| {
        let path = commit_path(store.path(), commit.version);
        let stat = store.backend().stat(&path).map_err(Error::io("look at", &path))?;
        // Clocks go backwards; versions do not.
        last = last.max(commit.timestamp_ms).max(stat.modified_ms);
        Ok((commit.version, last))
    });
    timed.collect()
}

/// The first of these versions, from the `first`th on, that can still be read. Older ones cannot where somebody has cleaned up
/// the log, or has removed files.
///
/// # Errors
///
/// When one cannot be read for another reason: it may be readable, and need its files, all the same.
fn oldest_readable(store: &Store, times: &[(u64, i64)], first: usize, newest: u64) -> Result<u64> {
    for (at, (version, _)) in times.iter().enumerate().skip(first) {
        let is_whole = (0..).zip(&times[..=at]).all(|(expected, (version, _))| expected == *version);
        match snapshot::at_version(&store.backend, store.path(), *version) {
            Ok(_) => return Ok(*version),
            Err(Error::SnapshotTooOld { .. }) => {}
            Err(Error::NoSuchVersion { .. }) if !is_whole => {}
            Err(error @ Error::Log { .. }) if !is_whole && !snapshot::is_io(&error) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(newest)
}
