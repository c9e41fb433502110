//! A disk that writes down what is done to it, and fails when it is told to.

use std::fs::File;
use std::io::{self, Write};
use std::path::{Component, Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use soa_core::store::{Disk, DiskFile, OsBackend};

use super::oracle::Mark;
use super::rng::Rng;
use super::sim::{Bytes, Effect, Id, ROOT, Sim};

/// What goes wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    /// A call has no effect but an error; of a write some bytes may be there.
    Error,
    /// A write takes some of its bytes.
    ShortWrite,
    /// A write is interrupted by a signal.
    Interrupted,
    /// A file's sync fails.
    SyncFails,
    /// A folder's sync fails.
    DirSyncFails,
    /// A name is given, but an error says that it was not.
    LinkedButFails,
    /// No room is left but for some bytes, until there is again.
    Full,
}

pub(super) const FAULTS: [Fault; 7] = [
    Fault::Error,
    Fault::ShortWrite,
    Fault::Interrupted,
    Fault::SyncFails,
    Fault::DirSyncFails,
    Fault::LinkedButFails,
    Fault::Full,
];

/// What happened, in order.
#[derive(Debug, Clone)]
pub(super) enum Event {
    Effect(Effect),
    Mark(Mark),
    Fault,
}

#[derive(Debug)]
struct Recording {
    start: Sim,
    live: Sim,
    events: Vec<Event>,
    /// The fault that the first call after so many meets that can.
    fault: Option<(usize, Fault)>,
    calls: usize,
    /// Bytes that there is room for.
    room: Option<usize>,
    rng: Rng,
}

/// Real files in a folder. Nothing is synced for real.
#[derive(Debug)]
pub(super) struct CrashDisk {
    base: PathBuf,
    recording: Arc<Mutex<Recording>>,
}

/// What happened to a disk.
#[derive(Debug, Clone)]
pub(super) struct History {
    pub(super) start: Sim,
    pub(super) events: Vec<Event>,
}

impl History {
    /// The last of the first `events` events, in words.
    pub(super) fn tail(&self, events: usize) -> String {
        let mut text = format!("event {events} of {}:", self.events.len());
        for event in &self.events[events.saturating_sub(20)..events] {
            text.push_str(&format!("\n  {event:?}"));
        }
        text.push_str("\nwhat was asked and answered before:");
        let marks = self.events[..events].iter().filter(|event| matches!(event, Event::Mark(_))).collect::<Vec<_>>();
        for mark in &marks[marks.len().saturating_sub(40)..] {
            text.push_str(&format!("\n  {mark:?}"));
        }
        text
    }
}

impl CrashDisk {
    /// Puts the files that are on a disk into an empty folder.
    pub(super) fn new(sim: Sim, base: &Path) -> Self {
        sim.live().write(base);
        let recording = Recording {
            start: sim.clone(),
            live: sim,
            events: Vec::new(),
            fault: None,
            calls: 0,
            room: None,
            rng: Rng::new(0),
        };
        Self { base: base.to_owned(), recording: Arc::new(Mutex::new(recording)) }
    }

    pub(super) fn mark(&self, mark: Mark) {
        self.lock().events.push(Event::Mark(mark));
    }

    /// Lets something go wrong after so many calls.
    pub(super) fn inject(&self, calls: usize, fault: Fault, seed: u64) {
        let mut recording = self.lock();
        recording.fault = Some((recording.calls + calls, fault));
        recording.rng = Rng::new(seed);
    }

    /// Nothing goes wrong any more. Whether something did.
    pub(super) fn mend(&self) -> bool {
        let mut recording = self.lock();
        recording.room = None;
        recording.fault.take().is_none()
    }

    pub(super) fn history(&self) -> History {
        let recording = self.lock();
        History { start: recording.start.clone(), events: recording.events.clone() }
    }

    fn lock(&self) -> MutexGuard<'_, Recording> {
        lock(&self.recording)
    }

    /// The folder that a path is in, and its name there.
    fn resolve(&self, recording: &Recording, path: &Path) -> (Id, String) {
        let relative = path.strip_prefix(&self.base).unwrap_or_else(|_| panic!("{path:?} is not on the disk"));
        let mut names: Vec<String> = relative
            .components()
            .map(|component| match component {
                Component::Normal(name) => name.to_str().unwrap().to_owned(),
                other => panic!("{other:?} is no name"),
            })
            .collect();
        let Some(last) = names.pop() else { return (ROOT, String::new()) };
        let dir = names.iter().fold(ROOT, |dir, name| recording.live.find(dir, name).unwrap());
        (dir, last)
    }

    fn id(&self, recording: &Recording, path: &Path) -> Id {
        match self.resolve(recording, path) {
            (dir, name) if name.is_empty() => dir,
            (dir, name) => recording.live.find(dir, &name).unwrap_or_else(|| panic!("{path:?} is not known")),
        }
    }

    fn name(&self, recording: &mut Recording, path: &Path, is: Option<Id>) {
        let (dir, name) = self.resolve(recording, path);
        recording.record(Effect::Named { dir, name, is });
    }
}

fn lock(recording: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recording {
    fn record(&mut self, effect: Effect) {
        self.live.apply(&effect);
        self.events.push(Event::Effect(effect));
    }

    /// Counts a call. Gives the fault it meets, if it can meet it.
    fn call(&mut self, can_meet: &[Fault]) -> Option<Fault> {
        self.calls += 1;
        let (_, fault) = self.fault.filter(|(at, fault)| self.calls > *at && can_meet.contains(fault))?;
        self.fault = None;
        self.events.push(Event::Fault);
        if fault == Fault::Full {
            self.room = Some(self.rng.below(300));
        }
        Some(fault)
    }

    /// Of calls that make names.
    fn may_fail(&mut self) -> io::Result<()> {
        match self.call(&[Fault::Error]) {
            Some(_) => Err(io::Error::from_raw_os_error(libc_error::EIO)),
            None => Ok(()),
        }
    }
}

mod libc_error {
    pub(super) const EINTR: i32 = 4;
    pub(super) const EIO: i32 = 5;
    pub(super) const ENOSPC: i32 = 28;
}

impl Disk for CrashDisk {
    fn open_to_read(&self, path: &Path) -> io::Result<File> {
        OsBackend.open_to_read(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let mut recording = self.lock();
        recording.may_fail()?;
        let file = OsBackend.create_new(path)?;
        let id = recording.live.next_id();
        recording.record(Effect::Made { id, is_dir: false });
        self.name(&mut recording, path, Some(id));
        Ok(Box::new(CrashFile { file, id, recording: Arc::clone(&self.recording) }))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut recording = self.lock();
        let fault = recording.call(&[Fault::Error, Fault::LinkedButFails]);
        if fault == Some(Fault::Error) {
            return Err(io::Error::from_raw_os_error(libc_error::EIO));
        }
        OsBackend.link(from, to)?;
        let id = self.id(&recording, from);
        self.name(&mut recording, to, Some(id));
        fault.map_or(Ok(()), |_| Err(io::Error::from_raw_os_error(libc_error::EIO)))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut recording = self.lock();
        recording.may_fail()?;
        OsBackend.rename(from, to)?;
        let id = self.id(&recording, from);
        self.name(&mut recording, to, Some(id));
        self.name(&mut recording, from, None);
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut recording = self.lock();
        recording.may_fail()?;
        OsBackend.unlink(path)?;
        self.name(&mut recording, path, None);
        Ok(())
    }

    fn mkdir(&self, dir: &Path) -> io::Result<()> {
        let mut recording = self.lock();
        recording.may_fail()?;
        OsBackend.mkdir(dir)?;
        let id = recording.live.next_id();
        recording.record(Effect::Made { id, is_dir: true });
        self.name(&mut recording, dir, Some(id));
        Ok(())
    }

    fn rmdir(&self, dir: &Path) -> io::Result<()> {
        let mut recording = self.lock();
        recording.may_fail()?;
        OsBackend.rmdir(dir)?;
        self.name(&mut recording, dir, None);
        Ok(())
    }

    fn fsync_dir(&self, dir: &Path) -> io::Result<()> {
        // The folder that the disk is in is not of it.
        if self.base.starts_with(dir) && self.base != dir {
            return Ok(());
        }
        let mut recording = self.lock();
        if recording.call(&[Fault::Error, Fault::DirSyncFails]).is_some() {
            return Err(io::Error::from_raw_os_error(libc_error::EIO));
        }
        if !dir.is_dir() {
            return OsBackend.fsync_dir(dir);
        }
        let dir = self.id(&recording, dir);
        recording.record(Effect::DirSynced { dir });
        Ok(())
    }
}

#[derive(Debug)]
struct CrashFile {
    file: Box<dyn DiskFile>,
    id: Id,
    recording: Arc<Mutex<Recording>>,
}

impl CrashFile {
    fn sync(&self) -> io::Result<()> {
        let mut recording = lock(&self.recording);
        if recording.call(&[Fault::Error, Fault::SyncFails]).is_some() {
            recording.record(Effect::SyncFailed { file: self.id });
            return Err(io::Error::from_raw_os_error(libc_error::EIO));
        }
        recording.record(Effect::Synced { file: self.id });
        Ok(())
    }
}

impl Write for CrashFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let mut recording = lock(&self.recording);
        let fault = recording.call(&[Fault::Error, Fault::ShortWrite, Fault::Interrupted, Fault::Full]);
        if fault == Some(Fault::Interrupted) {
            return Err(io::Error::from_raw_os_error(libc_error::EINTR));
        }
        let mut len = bytes.len();
        if matches!(fault, Some(Fault::Error | Fault::ShortWrite)) {
            len = recording.rng.below(len + 1);
        }
        if let Some(room) = recording.room {
            len = len.min(room);
            recording.room = Some(room - len);
        }
        if len > 0 {
            self.file.write_all(&bytes[..len])?;
            let at = recording.live.len(self.id);
            recording.record(Effect::Wrote { file: self.id, at, bytes: Bytes(bytes[..len].into()) });
        }
        match fault {
            Some(Fault::Error) => Err(io::Error::from_raw_os_error(libc_error::EIO)),
            _ if len == 0 && !bytes.is_empty() && recording.room.is_some() => {
                Err(io::Error::from_raw_os_error(libc_error::ENOSPC))
            }
            // As the operating system: of nothing it says nothing but errors.
            _ if len == 0 && !bytes.is_empty() => Err(io::Error::from_raw_os_error(libc_error::EINTR)),
            _ => Ok(len),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl DiskFile for CrashFile {
    fn fsync(&self) -> io::Result<()> {
        self.sync()
    }

    fn fdatasync(&self) -> io::Result<()> {
        self.sync()
    }
}
