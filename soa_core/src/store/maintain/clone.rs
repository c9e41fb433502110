//! A store copied while others use it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::RecordBatch;
use roaring::RoaringBitmap;

use crate::error::{Error, Result};
use crate::schema::arrow_schema;
use crate::store::commit::{self, Added, Change};
use crate::store::io::LockMode;
use crate::store::log::Outcome;
use crate::store::segment::{self, Segment, Written};
use crate::store::snapshot::{self, Snapshot};
use crate::store::writing::SegmentWriter;
use crate::store::{Store, delta_schema, log, paths};

impl Store {
    /// Makes another store in the folder `path` with the rows of now: those in the write-ahead log are in segments there. The
    /// new one has a history of its own, which begins with that. Files are copied, so that neither store depends on
    /// the other; a file system that can lets them share their blocks.
    ///
    /// Others may read and write the store meanwhile.
    ///
    /// # Errors
    ///
    /// When there is a store already, or what is left of a copy that was interrupted, `path` is inside this store, the table has
    /// rules for writers that this release does not know, a file cannot be read or written, or the store's old files are just
    /// being removed. What was copied is removed then.
    pub fn clone_to(&self, path: impl AsRef<Path>) -> Result<Self> {
        self.clone_with(path, &mut |_, _| {})
    }

    /// As [`clone_to`](Self::clone_to); `progress` is told how many bytes have been copied, and how many there will be.
    ///
    /// # Errors
    ///
    /// As [`clone_to`](Self::clone_to).
    pub fn clone_with(&self, path: impl AsRef<Path>, progress: &mut dyn FnMut(u64, u64)) -> Result<Self> {
        let path = path.as_ref();
        let path = &std::path::absolute(path).map_err(Error::io("find", path))?;
        let parent = path.ancestors().find_map(|dir| dir.canonicalize().ok());
        if parent.is_some_and(|parent| parent.starts_with(self.path())) {
            let message = format!("\"{}\" is inside the store that is to be copied", path.display());
            return Err(Error::argument(message));
        }
        // A store on read-only media has nobody who removes files of it.
        let _guard = match super::lock(self, LockMode::Shared) {
            Err(error @ Error::Busy { .. }) => return Err(error),
            guard => guard.ok(),
        };
        let snapshot = self.snapshot()?;
        commit::check_writable(&snapshot)?;
        let is_new = !path.exists();
        let mut copy = Copy {
            to: Self::prepare(Arc::clone(&self.backend), path)?,
            is_new,
            is_done: false,
            files: Vec::new(),
            dirs: BTreeSet::new(),
        };
        let bytes_total = snapshot.segments().iter().map(|segment| segment.parquet_bytes()).sum();
        let mut bytes = 0;
        let mut change = Change { operation: "CLONE", is_data_change: true, ..Change::default() };
        for segment in snapshot.segments() {
            change.added.extend(copy.segment(&snapshot, segment)?);
            bytes += segment.parquet_bytes();
            progress(bytes, bytes_total);
        }
        change.added.extend(copy.log_rows(&snapshot)?.iter().map(Added::last));
        change.rows_added = snapshot.row_count();
        copy.commit(&snapshot, change)
    }
}

/// A copy on its way. Its files are removed when it is dropped before it is one.
struct Copy {
    to: Store,
    /// Whether its folder was not there before.
    is_new: bool,
    is_done: bool,
    files: Vec<PathBuf>,
    /// Folders whose names are not durable yet.
    dirs: BTreeSet<PathBuf>,
}

impl Copy {
    /// The segment's files, and how the copy adds them.
    fn segment(&mut self, snapshot: &Snapshot, segment: &Arc<Segment>) -> Result<Vec<Added>> {
        if segment.row_count() == 0 {
            return Ok(Vec::new());
        }
        let deleted = segment.deleted()?;
        if !deleted.is_empty() && delta_schema::rewrites_files(snapshot.delta()) {
            let mut writer = SegmentWriter::in_place_of(segment, &self.to, snapshot);
            let columns: Vec<usize> = (0..snapshot.schema().len()).collect();
            for unit in 0..segment.units()?.len() {
                writer.write(batch(snapshot, segment.read(unit, &columns)?)?)?;
            }
            let written = self.written(writer)?;
            return Ok(written.iter().map(|written| Added::at(segment.modified_ms(), written, none())).collect());
        }
        let file = segment.file();
        self.file(file.root(), &file.parquet_path(), true)?;
        self.file(file.root(), &file.arrow_path(), false)?;
        if let Some(stem) = file.parquet_path().file_stem() {
            let key = file.root().join(paths::KEY_DIR).join(format!("{}.key", stem.to_string_lossy()));
            self.file(file.root(), &key, false)?;
        }
        Ok(vec![Added::copied(segment, (*deleted).clone())])
    }

    fn file(&mut self, root: &Path, from: &Path, must_be: bool) -> Result<()> {
        paths::check_inside(root, from)?;
        // What is not there is made again from Parquet, or found out otherwise.
        if !must_be && self.to.backend().stat(from).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound) {
            return Ok(());
        }
        let to = self.to.path().join(from.strip_prefix(root).unwrap_or(from));
        let dir = to.parent().unwrap_or(self.to.path());
        self.dirs.extend(to.ancestors().skip(1).take_while(|dir| dir.starts_with(self.to.path())).map(Path::to_owned));
        self.to.backend().create_dirs_below(self.to.path(), dir).map_err(Error::io("create", dir))?;
        paths::check_inside(self.to.path(), dir)?;
        match self.to.backend().copy_new(from, &to) {
            Ok(()) => self.files.push(to),
            // Gone since.
            Err(error) if !must_be && error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                return Err(Error::argument(format!(
                    "\"{}\" has files of a copy that was interrupted, such as \"{}\"; remove the folder, or copy to another one",
                    self.to.path().display(),
                    to.strip_prefix(self.to.path()).unwrap_or(&to).display()
                )));
            }
            Err(error) => {
                let error = Error::io("copy", from)(error);
                return Err(snapshot::explain(&self.to.backend, root, from, error));
            }
        }
        Ok(())
    }

    /// The rows that are in the write-ahead log alone, as segments of the copy.
    fn log_rows(&mut self, snapshot: &Snapshot) -> Result<Vec<Written>> {
        let mut writer = SegmentWriter::new(&self.to, snapshot);
        let columns: Vec<usize> = (0..snapshot.schema().len()).collect();
        if let Some(overlay) = snapshot.overlay() {
            for block in 0..overlay.blocks().count() {
                writer.write(batch(snapshot, overlay.read(block, &columns)?)?)?;
            }
        }
        self.written(writer)
    }

    fn written(&mut self, mut writer: SegmentWriter) -> Result<Vec<Written>> {
        writer.finish()?;
        let written = writer.keep();
        self.files.extend(written.iter().flat_map(|written| written.files.iter().cloned()));
        Ok(written)
    }

    fn commit(mut self, snapshot: &Snapshot, mut change: Change) -> Result<Store> {
        for dir in &self.dirs {
            self.to.backend().sync_dir(dir).map_err(Error::io("sync", dir))?;
        }
        let with_vectors = snapshot.segments().iter().any(|segment| segment.deleted_count() > 0);
        let with_vectors = with_vectors && !delta_schema::rewrites_files(snapshot.delta());
        change.table = delta_schema::copied_table(snapshot.delta(), with_vectors, log::now_ms())?;
        let (actions, vectors) = commit::actions(&self.to, Some(snapshot), &change)?;
        self.files.extend(vectors);
        let metrics = commit::metrics(&change);
        let outcome = log::commit(self.to.backend(), self.to.path(), 0, change.operation, metrics, &actions);
        match outcome {
            Outcome::Committed => {
                self.is_done = true;
                self.to.note_durable(0);
                Ok(self.to.clone())
            }
            Outcome::Conflict => Err(Error::AlreadyExists { path: self.to.path().to_owned() }),
            Outcome::Unknown(error) => {
                self.is_done = true;
                Err(error)
            }
            Outcome::Failed(error) => Err(error),
        }
    }
}

impl Drop for Copy {
    fn drop(&mut self) {
        if self.is_done || std::thread::panicking() {
            // While panicking: a commit may name them. If none does, nothing reads them.
            return;
        }
        segment::remove(self.to.backend(), &self.files);
        let root = self.to.path();
        let mut dirs: BTreeSet<PathBuf> = self.dirs.iter().filter(|dir| *dir != root).cloned().collect();
        dirs.extend([paths::LOG_DIR, paths::ARROW_DIR, "_soa"].map(|dir| root.join(dir)));
        dirs.extend(self.is_new.then(|| root.to_owned()));
        // The deepest first; those that have other files are not removed.
        for dir in dirs.iter().rev() {
            let _ = self.to.backend().remove_dir(dir);
        }
    }
}

fn none() -> RoaringBitmap {
    RoaringBitmap::new()
}

fn batch(snapshot: &Snapshot, columns: Vec<arrow::array::ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(arrow_schema(snapshot.schema()), columns).map_err(Error::arrow("cannot put columns together"))
}
