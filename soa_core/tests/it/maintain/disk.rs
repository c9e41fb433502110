//! A disk that lets tests in between: before a call they may look, do something, or let it fail.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

use soa_core::store::{Disk, DiskFile, OsBackend};

/// What is about to happen to a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Open,
    Create,
    Link,
    Unlink,
    SyncDir,
}

type Hook = dyn FnMut(Call, &Path) -> io::Result<()> + Send;

/// The operating system's files.
#[derive(Clone, Default)]
pub(crate) struct Hooked(Arc<Mutex<Option<Box<Hook>>>>);

impl Hooked {
    /// From now on this is asked before each call.
    pub(crate) fn set(&self, hook: impl FnMut(Call, &Path) -> io::Result<()> + Send + 'static) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(hook));
    }

    /// Nothing is asked any more.
    pub(crate) fn clear(&self) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// What the hook does to files is not told to it.
    fn ask(&self, call: Call, path: &Path) -> io::Result<()> {
        let Some(mut hook) = self.0.lock().unwrap_or_else(PoisonError::into_inner).take() else { return Ok(()) };
        let answer = hook(call, path);
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get_or_insert(hook);
        answer
    }
}

impl fmt::Debug for Hooked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooked").finish_non_exhaustive()
    }
}

impl Disk for Hooked {
    fn open_to_read(&self, path: &Path) -> io::Result<File> {
        self.ask(Call::Open, path)?;
        OsBackend.open_to_read(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        self.ask(Call::Create, path)?;
        OsBackend.create_new(path)
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.ask(Call::Link, to)?;
        OsBackend.link(from, to)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsBackend.rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.ask(Call::Unlink, path)?;
        OsBackend.unlink(path)
    }

    fn mkdir(&self, dir: &Path) -> io::Result<()> {
        OsBackend.mkdir(dir)
    }

    fn rmdir(&self, dir: &Path) -> io::Result<()> {
        OsBackend.rmdir(dir)
    }

    fn fsync_dir(&self, dir: &Path) -> io::Result<()> {
        self.ask(Call::SyncDir, dir)?;
        OsBackend.fsync_dir(dir)
    }
}
