//! The one door to the disk.
//!
//! Everything the store reads and writes goes through a [`Backend`]. How one is made of the operating system's calls is
//! said once, for every [`Disk`], so that tests can put one in that forgets what was not synced and fails when it is told to.

use std::fmt::Debug;
use std::fs::{self, File, Metadata, OpenOptions, Permissions, TryLockError};
use std::io::{self, Read, Write};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::UNIX_EPOCH;

use arrow::buffer::Buffer;
use uuid::Uuid;

/// How often a lock is tried whose file somebody removes.
const LOCK_ATTEMPTS_MAX: u32 = 100;

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

    /// Everything in a folder, in no order. Links are not followed: they are [`ItemKind::Other`].
    ///
    /// # Errors
    ///
    /// As [`fs::read_dir`].
    fn list_all(&self, dir: &Path) -> io::Result<Vec<Item>>;

    /// The files in a folder whose names are wanted, in no order; nothing else is looked at.
    ///
    /// # Errors
    ///
    /// As [`fs::read_dir`].
    fn list_some(&self, dir: &Path, is_wanted: &dyn Fn(&str) -> bool) -> io::Result<Vec<Entry>>;

    /// Makes a folder and those above it, durably.
    ///
    /// # Errors
    ///
    /// As [`fs::create_dir_all`].
    fn create_dir_all(&self, dir: &Path) -> io::Result<()>;

    /// Makes a folder below `root` and those in between, durably. They give the same access as `root` does, as all files get
    /// that of the folder they are in: who may read a store may read all of it, whoever has written it.
    ///
    /// # Errors
    ///
    /// As [`fs::create_dir_all`].
    fn create_dirs_below(&self, root: &Path, dir: &Path) -> io::Result<()>;

    /// Writes a file that does not exist yet and syncs it; the name is durable after
    /// [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is such a file; then, as after any other error, nothing is left behind.
    fn write_new(&self, path: &Path, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()>;

    /// Copies a file, or shares its blocks where the file system can, to one that does not exist yet, and syncs that; the name
    /// is durable after [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    ///
    /// As [`write_new`](Self::write_new), and `NotFound` when there is nothing to copy.
    fn copy_new(&self, from: &Path, to: &Path) -> io::Result<()>;

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

    /// Makes a file to append to, which must not exist yet. Its name is durable after [`sync_dir`](Self::sync_dir).
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is such a file.
    fn create_log(&self, path: &Path) -> io::Result<Box<dyn LogFile>>;

    /// Takes a lock on a file, which is made if there is none. Others are not waited for. The lock is given back when the
    /// guard is dropped or the process ends, however it ends.
    ///
    /// # Errors
    ///
    /// `WouldBlock` when somebody else has it in a mode that excludes this one.
    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Box<dyn LockGuard>>;

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

/// A file open for appending.
pub trait LogFile: Debug + Send {
    /// Adds bytes at the end. They are visible to readers at once, and durable after [`sync`](Self::sync).
    ///
    /// # Errors
    ///
    /// As [`Write::write_all`]. Then some of the bytes may be there.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Makes what was added durable.
    ///
    /// # Errors
    ///
    /// As [`File::sync_data`]. Then nobody knows what is durable, and trying again does not tell.
    fn sync(&mut self) -> io::Result<()>;
}

/// Who else may have a lock at the same time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LockMode {
    /// Others that take it in this mode.
    Shared,
    /// Nobody.
    Exclusive,
}

/// A lock that is held.
pub trait LockGuard: Debug + Send + Sync {
    /// Whether others would still find the lock taken: false once somebody has removed the file, or put another in its place.
    fn is_held(&self) -> bool;

    /// Replaces the content of the locked file, by which its owner is told. Nothing depends on it.
    ///
    /// # Errors
    ///
    /// As [`Write::write_all`].
    fn describe(&self, content: &str) -> io::Result<()>;
}

/// A file in a folder.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Its name.
    pub name: String,
    /// Its size and time.
    pub stat: Stat,
}

/// Something in a folder.
#[derive(Debug, Clone)]
pub struct Item {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ItemKind,
    /// Its own size and time.
    pub stat: Stat,
}

/// What something in a folder is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ItemKind {
    /// A file.
    File,
    /// A folder.
    Dir,
    /// A link, a pipe or something else.
    Other,
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

/// The calls that change files, one by one as the operating system has them. Whatever has them is a [`Backend`].
pub trait Disk: Debug + Send + Sync {
    /// Opens a file to read it. What is no file, such as a pipe, is refused.
    ///
    /// # Errors
    ///
    /// As [`File::open`].
    fn open_to_read(&self, path: &Path) -> io::Result<File>;

    /// Makes a file that is written at its end, and must not exist yet.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is such a file.
    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>>;

    /// Makes a file that must not exist yet and has what another one has.
    ///
    /// # Errors
    ///
    /// As [`create_new`](Self::create_new), and of reading and writing. Then some of it may be there.
    fn copy(&self, from: &Path, to: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut source = self.open_to_read(from)?;
        let mut file = self.create_new(to)?;
        io::copy(&mut source, &mut file)?;
        Ok(file)
    }

    /// Gives a file another name, which must not exist yet.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` when there is such a file.
    fn link(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Gives a file another name in the place of its own, and of any other file that has it.
    ///
    /// # Errors
    ///
    /// As [`fs::rename`].
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a name of a file.
    ///
    /// # Errors
    ///
    /// As [`fs::remove_file`].
    fn unlink(&self, path: &Path) -> io::Result<()>;

    /// Makes a folder.
    ///
    /// # Errors
    ///
    /// As [`fs::create_dir`].
    fn mkdir(&self, dir: &Path) -> io::Result<()>;

    /// Removes a folder that is empty.
    ///
    /// # Errors
    ///
    /// As [`fs::remove_dir`].
    fn rmdir(&self, dir: &Path) -> io::Result<()>;

    /// Makes the names in a folder durable.
    ///
    /// # Errors
    ///
    /// As [`File::sync_all`].
    fn fsync_dir(&self, dir: &Path) -> io::Result<()>;
}

/// A file of a [`Disk`] that is written at its end.
pub trait DiskFile: Write + Debug + Send {
    /// Makes its content durable.
    ///
    /// # Errors
    ///
    /// As [`File::sync_all`].
    fn fsync(&self) -> io::Result<()>;

    /// Makes its content durable, but not its times.
    ///
    /// # Errors
    ///
    /// As [`File::sync_data`].
    fn fdatasync(&self) -> io::Result<()>;
}

/// The operating system's files.
#[derive(Debug, Default, Clone, Copy)]
pub struct OsBackend;

impl Disk for OsBackend {
    fn open_to_read(&self, path: &Path) -> io::Result<File> {
        // Opening what is no file could wait for ever.
        let file = OpenOptions::new().read(true).custom_flags(libc::O_NONBLOCK).open(path)?;
        match file.metadata()?.is_file() {
            true => Ok(file),
            false => Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file")),
        }
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = OpenOptions::new().append(true).create_new(true).open(path)?;
        Ok(Box::new(give_access_of_folder(file, path)))
    }

    fn copy(&self, from: &Path, to: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut source = self.open_to_read(from)?;
        // The system shares blocks between files, or copies by itself, but not to the end of one that is appended to.
        let mut file = OpenOptions::new().write(true).create_new(true).open(to)?;
        io::copy(&mut source, &mut file)?;
        Ok(Box::new(file))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::hard_link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn mkdir(&self, dir: &Path) -> io::Result<()> {
        fs::create_dir(dir)
    }

    fn rmdir(&self, dir: &Path) -> io::Result<()> {
        fs::remove_dir(dir)
    }

    fn fsync_dir(&self, dir: &Path) -> io::Result<()> {
        File::open(dir)?.sync_all()
    }
}

impl DiskFile for File {
    fn fsync(&self) -> io::Result<()> {
        self.sync_all()
    }

    fn fdatasync(&self) -> io::Result<()> {
        self.sync_data()
    }
}

/// A new file, which those may read and write who may read and write in its folder.
fn give_access_of_folder(file: File, path: &Path) -> File {
    if let (Ok(folder), Ok(own)) = (fs::metadata(parent(path)), file.metadata()) {
        let mode = folder.permissions().mode() & 0o666;
        if own.permissions().mode() & 0o777 != mode {
            // Where a file system has no such thing, everybody has the same access anyway.
            let _ = file.set_permissions(Permissions::from_mode(mode));
        }
    }
    file
}

fn is_same_file(a: &Metadata, b: &Metadata) -> bool {
    (a.dev(), a.ino()) == (b.dev(), b.ino())
}

/// Where a file is written before it gets its name. Delta's readers ignore names that begin with a dot.
fn temporary(path: &Path) -> PathBuf {
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    path.with_file_name(format!(".{name}.{}.tmp", Uuid::new_v4().simple()))
}

/// The folder that a name is in.
fn parent(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

fn create_and_sync(
    disk: &dyn Disk,
    path: &Path,
    content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>,
) -> io::Result<()> {
    let mut file = disk.create_new(path)?;
    let written = content(&mut file).and_then(|()| file.fsync());
    if written.is_err() {
        // The error that counts is the first one; a file that stays is an orphan nothing reads.
        let _ = disk.unlink(path);
    }
    written
}

impl<D: Disk> Backend for D {
    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut content = Vec::new();
        self.open_to_read(path)?.read_to_end(&mut content)?;
        Ok(content)
    }

    fn open(&self, path: &Path) -> io::Result<Box<dyn ReadFile>> {
        Ok(Box::new(OpenFile(self.open_to_read(path)?)))
    }

    fn stat(&self, path: &Path) -> io::Result<Stat> {
        Ok(Stat::of(&fs::metadata(path)?))
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Entry>> {
        self.list_some(dir, &|_| true)
    }

    fn list_some(&self, dir: &Path, is_wanted: &dyn Fn(&str) -> bool) -> io::Result<Vec<Entry>> {
        let mut entries = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            if !is_wanted(&name) {
                continue;
            }
            let metadata = match fs::metadata(entry.path()) {
                Ok(metadata) => metadata,
                // Removed since the folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            if metadata.is_file() {
                entries.push(Entry { name, stat: Stat::of(&metadata) });
            }
        }
        Ok(entries)
    }

    fn list_all(&self, dir: &Path) -> io::Result<Vec<Item>> {
        let mut items = Vec::new();
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            let metadata = match fs::symlink_metadata(entry.path()) {
                Ok(metadata) => metadata,
                // Removed since the folder was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                Err(error) => return Err(error),
            };
            let kind = match metadata.file_type() {
                kind if kind.is_file() => ItemKind::File,
                kind if kind.is_dir() => ItemKind::Dir,
                _ => ItemKind::Other,
            };
            if let Ok(name) = entry.file_name().into_string() {
                items.push(Item { name, kind, stat: Stat::of(&metadata) });
            }
        }
        Ok(items)
    }

    fn create_dir_all(&self, dir: &Path) -> io::Result<()> {
        if dir.as_os_str().is_empty() || dir.is_dir() {
            return Ok(());
        }
        self.create_dir_all(dir.parent().unwrap_or(Path::new("")))?;
        match self.mkdir(dir) {
            Ok(()) => self.fsync_dir(parent(dir)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn create_dirs_below(&self, root: &Path, dir: &Path) -> io::Result<()> {
        if dir == root || dir.is_dir() {
            return Ok(());
        }
        let above = parent(dir);
        self.create_dirs_below(root, above)?;
        match self.mkdir(dir) {
            Ok(()) => {
                if let Ok(metadata) = fs::metadata(root) {
                    // Where a file system has no such thing, everybody has the same access anyway.
                    let _ = fs::set_permissions(dir, metadata.permissions());
                }
                self.fsync_dir(above)
            }
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => Ok(()),
            Err(error) => Err(error),
        }
    }

    fn write_new(&self, path: &Path, content: &mut dyn FnMut(&mut dyn Write) -> io::Result<()>) -> io::Result<()> {
        let temporary = temporary(path);
        create_and_sync(self, &temporary, content)?;
        // Linking, unlike renaming, never replaces a file.
        let linked = self.link(&temporary, path);
        // Whatever becomes of this name, nobody reads it, and the file has its own by now.
        let _ = self.unlink(&temporary);
        linked
    }

    fn copy_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        let temporary = temporary(to);
        let copied = self.copy(from, &temporary).and_then(|file| file.fsync());
        let linked = copied.and_then(|()| self.link(&temporary, to));
        // As in `write_new`. What could not be copied whole is not there either then.
        let _ = self.unlink(&temporary);
        linked
    }

    fn put_if_absent(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        self.write_new(path, &mut |file| file.write_all(content))?;
        self.fsync_dir(parent(path))
    }

    fn replace(&self, path: &Path, content: &[u8]) -> io::Result<()> {
        let temporary = temporary(path);
        create_and_sync(self, &temporary, &mut |file| file.write_all(content))?;
        if let Err(error) = self.rename(&temporary, path) {
            let _ = self.unlink(&temporary);
            return Err(error);
        }
        self.fsync_dir(parent(path))
    }

    fn create_log(&self, path: &Path) -> io::Result<Box<dyn LogFile>> {
        Ok(Box::new(OpenLog(self.create_new(path)?)))
    }

    fn lock(&self, path: &Path, mode: LockMode) -> io::Result<Box<dyn LockGuard>> {
        for _ in 0..LOCK_ATTEMPTS_MAX {
            // A link could lead to a file that is none of the store's, which would be written.
            let flags = libc::O_NOFOLLOW | libc::O_NONBLOCK;
            let opened = OpenOptions::new().read(true).write(true).custom_flags(flags).open(path);
            let file = match opened {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {
                    let new = OpenOptions::new().read(true).write(true).create_new(true).open(path);
                    match new {
                        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => continue,
                        new => give_access_of_folder(new?, path),
                    }
                }
                opened => opened?,
            };
            let metadata = file.metadata()?;
            if !metadata.is_file() {
                return Err(io::Error::new(io::ErrorKind::InvalidInput, "it is not a file"));
            }
            let locked = match mode {
                LockMode::Shared => file.try_lock_shared(),
                LockMode::Exclusive => file.try_lock(),
            };
            match locked {
                // Somebody may have removed it, and others lock a new one.
                Ok(()) if fs::symlink_metadata(path).is_ok_and(|now| is_same_file(&now, &metadata)) => {
                    return Ok(Box::new(LockedFile { file, path: path.to_owned() }));
                }
                Ok(()) => {}
                Err(TryLockError::WouldBlock) => return Err(io::ErrorKind::WouldBlock.into()),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
        Err(io::Error::other("it is being removed again and again"))
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        self.unlink(path)
    }

    fn remove_dir(&self, dir: &Path) -> io::Result<()> {
        self.rmdir(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.fsync_dir(dir)
    }
}

#[derive(Debug)]
struct OpenFile(File);

impl ReadFile for OpenFile {
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

#[derive(Debug)]
struct OpenLog(Box<dyn DiskFile>);

impl LogFile for OpenLog {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.0.write_all(bytes)
    }

    fn sync(&mut self) -> io::Result<()> {
        self.0.fdatasync()
    }
}

/// The lock goes with the open file.
#[derive(Debug)]
struct LockedFile {
    file: File,
    path: PathBuf,
}

impl LockGuard for LockedFile {
    fn is_held(&self) -> bool {
        let own = self.file.metadata();
        own.is_ok_and(|own| fs::symlink_metadata(&self.path).is_ok_and(|now| is_same_file(&now, &own)))
    }

    fn describe(&self, content: &str) -> io::Result<()> {
        self.file.set_len(0)?;
        self.file.write_all_at(content.as_bytes(), 0)
    }
}

/// Reads a stretch of a file into memory.
pub(crate) fn read_range(file: &dyn ReadFile, offset: u64, len: usize) -> io::Result<Vec<u8>> {
    let mut buffer = vec![0; len];
    file.read_exact_at(&mut buffer, offset)?;
    Ok(buffer)
}
