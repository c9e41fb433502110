//! What a row costs, as the disk sees it.

use std::fs::File;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use soa_core::persistence::{ParquetPersistence, SoAPersistence};
use soa_core::store::{Disk, DiskFile, OsBackend, WriterOptions};

use super::{folder, run};
use crate::orders::{Order, OrderSoA, OrderStatus, PersistentOrderStore, order, orders};

/// What was asked of a disk.
#[derive(Debug, Default)]
struct Counts {
    bytes: AtomicU64,
    syncs: AtomicU64,
    /// Files and names that were made or removed.
    names: AtomicU64,
    opened: AtomicU64,
}

impl Counts {
    fn all(&self) -> [u64; 4] {
        [&self.bytes, &self.syncs, &self.names, &self.opened].map(|count| count.load(Ordering::SeqCst))
    }

    fn since(&self, before: [u64; 4]) -> [u64; 4] {
        let now = self.all();
        std::array::from_fn(|at| now[at] - before[at])
    }
}

/// The operating system's files, and how often they are used.
#[derive(Debug, Clone, Default)]
pub(super) struct CountingDisk(Arc<Counts>);

impl CountingDisk {
    pub(super) fn syncs(&self) -> u64 {
        self.0.syncs.load(Ordering::SeqCst)
    }

    fn name<T>(&self, done: io::Result<T>) -> io::Result<T> {
        self.0.names.fetch_add(1, Ordering::SeqCst);
        done
    }
}

#[derive(Debug)]
struct CountingFile(Box<dyn DiskFile>, Arc<Counts>);

impl Write for CountingFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.0.write(bytes)?;
        self.1.bytes.fetch_add(written as u64, Ordering::SeqCst);
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl DiskFile for CountingFile {
    fn fsync(&self) -> io::Result<()> {
        self.1.syncs.fetch_add(1, Ordering::SeqCst);
        self.0.fsync()
    }

    fn fdatasync(&self) -> io::Result<()> {
        self.1.syncs.fetch_add(1, Ordering::SeqCst);
        self.0.fdatasync()
    }
}

impl Disk for CountingDisk {
    fn open_to_read(&self, path: &Path) -> io::Result<File> {
        self.0.opened.fetch_add(1, Ordering::SeqCst);
        OsBackend.open_to_read(path)
    }

    fn create_new(&self, path: &Path) -> io::Result<Box<dyn DiskFile>> {
        let file = self.name(OsBackend.create_new(path))?;
        Ok(Box::new(CountingFile(file, Arc::clone(&self.0))))
    }

    fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.name(OsBackend.link(from, to))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.name(OsBackend.rename(from, to))
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        self.name(OsBackend.unlink(path))
    }

    fn mkdir(&self, dir: &Path) -> io::Result<()> {
        self.name(OsBackend.mkdir(dir))
    }

    fn rmdir(&self, dir: &Path) -> io::Result<()> {
        self.name(OsBackend.rmdir(dir))
    }

    fn fsync_dir(&self, dir: &Path) -> io::Result<()> {
        self.0.syncs.fetch_add(1, Ordering::SeqCst);
        OsBackend.fsync_dir(dir)
    }
}

/// A store that publishes only when it is told to.
pub(super) fn kept(path: &Path, disk: &CountingDisk) -> ParquetPersistence<Order> {
    let mut options = WriterOptions::default();
    (options.publish_age, options.publish_rows) = (Duration::from_secs(3600), usize::MAX);
    ParquetPersistence::new(path).with_writer_options(options).with_backend(Arc::new(disk.clone()))
}

const ADDS: u64 = 200;

/// What it costs to add some orders to so many, half of which take the place of others: bytes, syncs, names, files opened.
async fn cost(there: u64, is_loaded: bool) -> [u64; 4] {
    let (_dir, path) = folder();
    let disk = CountingDisk::default();
    let kept = kept(&path, &disk);
    kept.save(&orders(there as usize).collect()).await.unwrap();
    let mut store = PersistentOrderStore::with_persistence(kept);
    if is_loaded {
        store.load().await.unwrap();
    }
    // The first one takes the log.
    store.add(order(there, there)).await.unwrap();
    let version = store.persistence().store().await.unwrap().store().snapshot().unwrap().version();
    let before = disk.0.all();
    for number in 0..ADDS {
        let key = if number % 2 == 0 { there + number + 1 } else { number };
        store.add(Order { status: OrderStatus::Cancelled, ..order(key, there) }).await.unwrap();
    }
    let cost = disk.0.since(before);
    assert_eq!(store.is_loaded(), is_loaded);
    let folder = store.persistence().store().await.unwrap();
    assert_eq!(folder.store().snapshot().unwrap().version(), version, "no row is a commit");
    assert_eq!(store.count().await.unwrap(), there + 1 + ADDS / 2);
    assert_eq!(store.get(&1).await.unwrap().unwrap().status, OrderStatus::Cancelled);
    store.close().await.unwrap();
    cost
}

#[test]
fn a_row_costs_the_same_among_a_thousand_and_among_a_million() {
    run(async {
        let [bytes, syncs, names, opened] = cost(1_000, false).await;
        assert_eq!(cost(1_000_000, false).await, [bytes, syncs, names, opened]);
        assert_eq!(cost(1_000_000, true).await, [bytes, syncs, names, opened]);
        // A frame of a header and 62 bytes, and one sync.
        assert_eq!((syncs, names, opened), (ADDS, 0, 0));
        assert_eq!(bytes, ADDS * (40 + 62));
    });
}

#[test]
fn appending_writes_what_is_given_and_no_more() {
    run(async {
        let (_dir, path) = folder();
        let disk = CountingDisk::default();
        let kept = kept(&path, &disk);
        let before = disk.0.all();
        kept.save(&orders(500_000).collect()).await.unwrap();
        let [saved, ..] = disk.0.since(before);
        // Half of them are there already, in the same file as all the others.
        let some: OrderSoA = (499_000..501_000).map(|key| order(key, 1_000_000)).collect();
        let before = disk.0.all();
        kept.append(&some).await.unwrap();
        let [appended, ..] = disk.0.since(before);
        assert!(appended * 50 < saved, "{appended} bytes for 2,000 rows, {saved} for 500,000");
        assert_eq!(kept.count().await.unwrap(), 501_000);
    });
}
