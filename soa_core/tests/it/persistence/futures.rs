//! Futures that are dropped, and a runtime that goes on.

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::task::Poll;

use soa_core::persistence::{ArrowPersistence, ParquetPersistence, PersistenceError, SoAPersistence};
use soa_core::{SoA, SoAStore};

use super::{folder, run, sorted};
use crate::orders::{Order, OrderSoA, PersistentOrderStore, order, orders};

/// Polls a future so many times, lets others have their turn between, and drops it. Whether it was done.
async fn dropped_after(polls: usize, future: impl Future) -> bool {
    let mut future = pin!(future);
    for _ in 0..polls {
        if std::future::poll_fn(|context| Poll::Ready(future.as_mut().poll(context).is_ready())).await {
            return true;
        }
        tokio::task::yield_now().await;
    }
    false
}

#[test]
fn what_comes_after_a_dropped_future_counts() {
    run(async {
        let (_dir, path) = folder();
        let kept = ParquetPersistence::<Order>::new(&path);
        kept.put(&orders(10).collect()).await.unwrap();
        for round in 0..200_u32 {
            let first = OrderSoA::from_iter([Order { quantity: 2 * round + 1, ..order(3, 10) }]);
            let second = OrderSoA::from_iter([Order { quantity: 2 * round + 2, ..order(3, 10) }]);
            dropped_after(1 + round as usize % 3, kept.put(&first)).await;
            kept.put(&second).await.unwrap();
            let rows = kept.load().await.unwrap();
            assert_eq!(rows.len(), 10);
            let quantity = rows.iter().find(|row| row.order_id == 3).unwrap().quantity;
            assert_eq!(quantity, 2 * round + 2, "the row of the dropped future came later");
        }
        kept.close().await.unwrap();
        let rows = sorted(ParquetPersistence::<Order>::new(&path).load().await.unwrap());
        assert_eq!((rows.len(), rows[3].quantity), (10, 400));
    });
}

#[test]
fn a_change_whose_future_is_dropped_is_made_whole_or_not_at_all() {
    run(async {
        let (_dir, path) = folder();
        let kept = ParquetPersistence::<Order>::new(&path);
        let (mut old, mut new) = (500, 700);
        kept.save(&orders(old).collect()).await.unwrap();
        let mut made = 0;
        for polls in [0, 1, 1, 1, 2, 2, 3, 4, 8, 16, 64, 1024, 1 << 16, usize::MAX] {
            dropped_after(polls, kept.save(&orders(new).collect())).await;
            // It waits for what has begun.
            let count = kept.count().await.unwrap() as usize;
            assert!(count == old || count == new, "{count} rows of {old} or {new}");
            assert_eq!(sorted(kept.load().await.unwrap()), orders(count).collect::<Vec<_>>());
            if count == new {
                made += 1;
                (old, new) = (new, old);
            }
        }
        assert!(made >= 1, "the last one was not dropped");
    });
}

#[test]
fn records_in_memory_are_what_is_kept_whatever_is_dropped() {
    run(async {
        let (_dir, path) = folder();
        let mut store = PersistentOrderStore::with_persistence(ParquetPersistence::new(&path));
        store.add_batch(orders(100)).await.unwrap();
        for round in 0..60_u64 {
            store.load().await.unwrap();
            let polls = round as usize % 4;
            let done = match round % 3 {
                0 => dropped_after(polls, store.add(order(100 + round, 1_000))).await,
                1 => dropped_after(polls, store.remove(&round)).await,
                _ => dropped_after(polls, store.update(&round, |mut order| *order.quantity() += 100)).await,
            };
            assert!(done || polls == 0 || !store.is_loaded(), "what is not known is not in memory");
            let found = store.get(&(100 + round)).await.unwrap();
            let in_memory = sorted(store.kernel().await.unwrap().clone());
            assert_eq!(in_memory.iter().any(|row| row.order_id == 100 + round), found.is_some());
            let folder = ParquetPersistence::<Order>::new(&path);
            assert_eq!(in_memory, sorted(folder.load().await.unwrap()));
        }
        store.close().await.unwrap();
    });
}

/// Counts how often it has its turn while a future runs on the same thread.
pub(super) async fn turns_during<T>(future: impl Future<Output = T>) -> (T, u64) {
    let (turns, stop) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicBool::new(false)));
    let ticker = tokio::spawn({
        let (turns, stop) = (Arc::clone(&turns), Arc::clone(&stop));
        async move {
            while !stop.load(Ordering::Relaxed) {
                turns.fetch_add(1, Ordering::Relaxed);
                tokio::task::yield_now().await;
            }
        }
    });
    let done = future.await;
    stop.store(true, Ordering::Relaxed);
    ticker.await.unwrap();
    (done, turns.load(Ordering::Relaxed))
}

#[test]
fn a_runtime_of_one_thread_goes_on_meanwhile() {
    /// One that is blocked has a turn where a future waits, some few in all.
    const TURNS_MIN: u64 = 200;
    run(async {
        let rows: OrderSoA = orders(1_000_000).collect();
        let (_dir, path) = folder();
        let kept = ParquetPersistence::<Order>::new(&path);
        let (_, turns) = turns_during(async {
            // This is what blocking looks like.
            assert_eq!(rows.iter().filter(|row| row.quantity > 0).count(), rows.len());
        })
        .await;
        assert!(turns < 10, "{turns} turns");
        let check = |what: &str, turns: u64| assert!(turns > TURNS_MIN, "{what}: {turns} turns");
        check("save", turns_during(async { kept.save(&rows).await.unwrap() }).await.1);
        check("append", turns_during(async { kept.append(&rows.slice(..500_000)).await.unwrap() }).await.1);
        check("load", turns_during(async { kept.load().await.unwrap() }).await.1);
        let few = rows.slice(..1);
        check("put", turns_during(async { kept.put(&few).await.unwrap() }).await.1);
        check("close", turns_during(async { kept.close().await.unwrap() }).await.1);
        let mut store = PersistentOrderStore::with_persistence(kept);
        check("index", turns_during(async { store.load().await.map(drop).unwrap() }).await.1);
        check("add", turns_during(async { store.add_rows(rows.slice(..200_000)).await.unwrap() }).await.1);
        let query = soa_core::persistence::Query::parse::<Order>("total_amount > 100 AND order_id >= 17").unwrap();
        check("query", turns_during(async { store.query(query).await.unwrap() }).await.1);
        store.close().await.unwrap();
        let kept = ArrowPersistence::<Order>::new();
        check("memory", turns_during(async { kept.save(&rows).await.unwrap() }).await.1);
    });
}

#[test]
fn a_panic_on_a_thread_that_blocks_is_one_of_whoever_waits() {
    // A backend of a program's own that panics where it should open a file.
    #[derive(Debug)]
    struct Panics;
    impl soa_core::store::Disk for Panics {
        fn open_to_read(&self, _: &std::path::Path) -> std::io::Result<std::fs::File> {
            panic!("the disk is on fire")
        }
        fn create_new(&self, _: &std::path::Path) -> std::io::Result<Box<dyn soa_core::store::DiskFile>> {
            panic!("the disk is on fire")
        }
        fn link(&self, _: &std::path::Path, _: &std::path::Path) -> std::io::Result<()> {
            panic!("the disk is on fire")
        }
        fn rename(&self, _: &std::path::Path, _: &std::path::Path) -> std::io::Result<()> {
            panic!("the disk is on fire")
        }
        fn unlink(&self, _: &std::path::Path) -> std::io::Result<()> {
            Ok(())
        }
        fn mkdir(&self, _: &std::path::Path) -> std::io::Result<()> {
            panic!("the disk is on fire")
        }
        fn rmdir(&self, _: &std::path::Path) -> std::io::Result<()> {
            Ok(())
        }
        fn fsync_dir(&self, _: &std::path::Path) -> std::io::Result<()> {
            Ok(())
        }
    }
    let (_dir, path) = folder();
    let panic = std::panic::catch_unwind(|| {
        run(async {
            let kept = ParquetPersistence::<Order>::new(&path).with_backend(Arc::new(Panics));
            kept.save(&orders(1).collect()).await
        })
    });
    let message = panic.unwrap_err();
    assert_eq!(message.downcast_ref::<&str>(), Some(&"the disk is on fire"));
}

#[test]
fn rows_of_many_tasks_are_written_together() {
    const TASKS: u64 = 64;
    run(async {
        let (_dir, path) = folder();
        let disk = super::cost::CountingDisk::default();
        let kept = Arc::new(super::cost::kept(&path, &disk));
        kept.put(&OrderSoA::from_iter([order(0, TASKS)])).await.unwrap();
        let before = disk.syncs();
        let tasks: Vec<_> = (1..=TASKS)
            .map(|key| {
                let kept = Arc::clone(&kept);
                tokio::spawn(async move { kept.put(&OrderSoA::from_iter([order(key, TASKS)])).await })
            })
            .collect();
        for task in tasks {
            task.await.unwrap().unwrap();
        }
        let syncs = disk.syncs() - before;
        assert!(syncs <= 4, "{syncs} syncs for {TASKS} rows");
        assert_eq!(kept.count().await.unwrap(), TASKS + 1);

        // Those that are dropped while they wait are put or not; the others are.
        let tasks: Vec<_> = (100..108)
            .map(|key| {
                let kept = Arc::clone(&kept);
                tokio::spawn(async move { kept.put(&OrderSoA::from_iter([order(key, TASKS)])).await })
            })
            .collect();
        tokio::task::yield_now().await;
        tasks.iter().skip(5).for_each(|task| task.abort());
        for task in tasks.into_iter().take(5) {
            task.await.unwrap().unwrap();
        }
        let keys: Vec<u64> = sorted(kept.load().await.unwrap()).iter().map(|row| row.order_id).collect();
        assert!((0..=TASKS).chain(100..105).all(|key| keys.binary_search(&key).is_ok()), "{keys:?}");
        kept.close().await.unwrap();
    });
}

#[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
#[soa_store(key = "id", partition_by = "place")]
struct Parcel {
    id: u32,
    place: String,
}

#[test]
fn a_row_that_is_refused_takes_no_other_with_it() {
    run(async {
        let (_dir, path) = folder();
        let kept = Arc::new(ParquetPersistence::<Parcel>::new(&path));
        let put = |id: u32| {
            let kept = Arc::clone(&kept);
            // A partition has a name.
            let place = if id.is_multiple_of(5) { String::new() } else { format!("place {}", id % 3) };
            tokio::spawn(async move { kept.put(&[Parcel { id, place }].into_iter().collect()).await })
        };
        let tasks: Vec<_> = (0..40).map(put).collect();
        for (id, task) in (0_u32..).zip(tasks) {
            match task.await.unwrap() {
                Ok(()) => assert!(!id.is_multiple_of(5)),
                Err(error) => {
                    assert!(id.is_multiple_of(5) && matches!(error, PersistenceError::Refused(_)), "{id}: {error}");
                    assert!(error.to_string().contains("\"place\""), "{error}");
                }
            }
        }
        assert_eq!(kept.count().await.unwrap(), 32);
        kept.close().await.unwrap();
        assert_eq!(kept.load().await.unwrap().len(), 32);
    });
}
