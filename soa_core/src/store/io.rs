//! The one door to the disk.
//!
//! Everything the store reads and writes goes through a [`Backend`], so that tests can put one in whose
//! disk forgets what was not synced.

use std::fmt::Debug;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use arrow::buffer::Buffer;
use uuid::Uuid;

/// What the store needs of a file system. Paths are absolute or relative to the process.
pub trait Backend: Debug + Send + Sync {
    /// The whole content of a file.
    ///
    /// # Errors
    ///
    /// As [`fs::read`].
    fn read(&self, path: &Path) -> io::Result<Vec<u8>>;

    /// Opens a file for reading.
    ///
    /// # Errors
    ///
    /// As [`File::open`].
    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>>;

    /// Size and time of a file or folder.
    ///
    /// # Errors
    ///
    /// As [`fs::metadata`].
    fn stat(&self, path: &Path) -> io::Result<Stat>;

    /// The files in a folder, in no order; folders are left out.
    ///
    /// # Errors
    ///
    /// As [`fs::read_dir`].
    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>>;

    /// Makes a folder and those above it, durably.
    ///
    /// # Errors
    ///
    /// As [`fs::create_dir_all`].
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Writes a file that does not exist yet and syncs it; the name is durable after
    /// [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is such a file; then, as after any other error, nothing is left behind.
    fn write_new(&self, path: &Path, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()>;

    /// Writes a file whole and durably, name included, unless there is one of that name.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is such a file. After another error it may or may not be there.
    fn put_if_absent(&self, path: &Path, content: &[u8]) -> io::Result<()>;

    /// Writes a file whole and durably, name included, in the place of one of that name.
    ///
    /// # Errors
    ///
    /// As [`fs::rename`] and [`File::sync_all`].
    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()>;

    /// Removes a file.
    ///
    /// # Errors
    ///
    /// As [`fs::remove_file`].
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Removes a folder that is empty.
    ///
    /// # Errors
    ///
    /// As [`fs::remove_dir`].
    fn remove_dir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    ///
    /// As [`File::sync_all`].
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file open for reading.
pub trait ReadFile: Debug + Send + Sync {
    /// Its length in bytes.
    ///
    /// # Errors
    ///
    /// As [`File::metadata`].
    fn byte_count(&self) -> io::Result<u64>;

    /// Fills `buffer` with the bytes from `offset` on.
    ///
    /// # Errors
    ///
    /// `UnexpectedEof` when the file ends before.
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()>;

    /// Its content, mapped.
    ///
    /// # Errors
    ///
    /// When the file system cannot map.
    fn map(&self) -> io::Result<Buffer>;
}

/// A file in a folder.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its size and time.
    pub stat: Stat,
}

/// Size and time of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stat {
    /// Bytes.
    pub len: u64,
    /// Milliseconds since 1970.
    pub modified_ms: i64,
    /// Tells a file from another one of the same name.
    pub inode: u64,
}

impl Stat {
    fn of(metadata: &fs::Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        let modified = metadata.modified().ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
        let modified_ms = modified.and_then(|since| i64::try_from(since.as_millis()).ok()).unwrap_or(0);
        Self { len: metadata.len(), modified_ms, inode: metadata.ino() }
    }
}

/// The operating system's files.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsBackend;

impl OsBackend {
    /// Where a file is written before it gets its name. Delta's readers ignore names that begin with a dot.
    fn temporary(path: &Path) -> PathBuf {
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        path.with_file_name(format!(".{name}.{}.tmp", Uuid::new_v4().simple()))
    }

    fn create_and_sync(path: &Path, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
        let written = content(&mut file).and_then(|()| file.sync_all());
        if written.is_err() {
            // The error that counts is the first one; a file that stays is an orphan nothing reads.
            let _ = fs::remove_file(path);
        }
        written
    }
}

impl Backend for OsBackend {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        open_file(path)?.read_to_end(&mut content)?;
        Ok(content)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        Ok(Box::new(OsFile(open_file(path)?)))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(Stat::of(&fs::metadata(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = match fs::metadata(entry.path()) {
                Ok(metadata) => metadata,
                // Removed since the folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                entries.push(Entry { name, stat: Stat::of(&metadata) });
            }
        }
        Ok(entries)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.as_os_str().is_empty() || dir.is_dir() {
            return Ok(());
        }
        let parent = dir.parent().unwrap_or(Path::new(""));
        self.create_dir_all(parent)?;
        match fs::create_dir(dir) {
            Ok(()) => self.sync_dir(if parent.as_os_str().is_empty() { Path::new(".") } else { parent }),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn write_new(&self, path: &Path, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let temporary = Self::temporary(path);
        Self::create_and_sync(&temporary, content)?;
        // Linking, unlike renaming, never replaces a file.
        let linked = fs::hard_link(&temporary, path);
        let removed = fs::remove_file(&temporary);
        linked.and(removed)
    }

    fn put_if_absent(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.write_new(path, &mut |file| file.write_all(content))?;
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let temporary = Self::temporary(path);
        Self::create_and_sync(&temporary, &mut |file| file.write_all(content))?;
        if let Err(error) = fs::rename(&temporary, path) {
            let _ = fs::remove_file(&temporary);
            return Err(error);
        }
        self.sync_dir(path.parent().unwrap_or(Path::new(".")))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

/// Opens a file to read it. What is no file, such as a pipe, is refused: opening it could wait for ever.
fn open_file(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
    match file.metadata()?.is_file() {
        true => Ok(file),
        false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
    }
}

#[derive(Debug)]
struct OsFile(File);

impl ReadFile for OsFile {
    fn byte_count(&self) -> io::Result<u64> {
        Ok(self.0.metadata()?.len())
    }

    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset)
    }

    fn map(&self) -> io::Result<Buffer> {
        super::map::map(&self.0)
    }
}

/// Reads a stretch of a file into memory.
pub(crate) fn read_range(file: &dyn ReadFile, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer)
}
