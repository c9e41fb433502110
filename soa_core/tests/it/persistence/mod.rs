//! Records that are kept: every backend by the same suite, and what each does on top.

mod cost;
#[cfg(feature = "duckdb")]
mod duckdb;
mod folders;
mod futures;
mod wrapper;

use std::future::Future;

use soa_core::kernel::KeyedRecord;
use soa_core::persistence::{
    ArrowPersistence, ArrowSchemaGen, Compression, MemoryStats, ParquetPersistence, PartitionedParquetPersistence,
    PersistenceError, Query, SoAPersistence, ToArrow,
};
use soa_core::predicate::{CompareOp, Predicate, Scalar};
use soa_core::store::Store;
use soa_core::{SoA, SoAStore};
use tempfile::TempDir;

use crate::orders::{Order, OrderShardedStore, OrderSoA, OrderStatus, OrderStore, order, orders};

/// Runs a future on a runtime of one thread, with others only for what blocks.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

pub(crate) fn folder() -> (TempDir, std::path::PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("orders.soa");
    (dir, path)
}

/// The rows by their key, each there once.
pub(crate) fn sorted(mut rows: OrderSoA) -> Vec<Order> {
    rows.sort_by_order_id();
    rows.to_vec()
}

fn keys(keys: &[u64]) -> <Order as KeyedRecord>::KeyColumn {
    let rows: OrderSoA = keys.iter().map(|key| order(*key, 1)).collect();
    Order::key_column(&rows).clone()
}

/// Conditions as text, and as what they mean.
type Case = (&'static str, fn(&Order) -> bool);
const CASES: &[Case] = &[
    ("order_id = 7", |order| order.order_id == 7),
    ("order_id IN (3, 4, 5000000)", |order| [3, 4].contains(&order.order_id)),
    ("status = 'Shipped'", |order| order.status == OrderStatus::Shipped),
    ("status <> 'Delivered' AND quantity >= 9", |order| order.status != OrderStatus::Delivered && order.quantity >= 9),
    ("total_amount > 4000.5 OR order_id < 10", |order| order.total_amount > 4000.5 || order.order_id < 10),
    ("NOT (order_id >= 100)", |order| order.order_id < 100),
    ("quantity > 100", |_| false),
];

/// What every backend does. It begins and ends without rows.
async fn suite<P: SoAPersistence<Order>>(kept: &P) -> Result<(), PersistenceError> {
    assert_eq!((kept.count().await?, kept.load().await?.len()), (0, 0));
    assert_eq!(kept.memory_stats().await?.average_batch_size, 0.0);
    assert!(kept.query(Query::parse::<Order>("order_id = 1")?).await?.is_empty());
    kept.remove(&keys(&[1])).await?;

    let first: OrderSoA = orders(3_000).collect();
    kept.save(&first).await?;
    assert_eq!(sorted(kept.load().await?), first.to_vec());

    // What is new is added, and what has a key that is there takes its place: the last of several.
    let changed = Order { quantity: 99, ..order(10, 3_000) };
    let twice = Order { quantity: 98, ..changed.clone() };
    let more: OrderSoA = [order(3_000, 3_001), twice, changed.clone()].into_iter().collect();
    kept.append(&more).await?;
    let mut expected = first.to_vec();
    expected[10] = changed;
    expected.push(order(3_000, 3_001));
    assert_eq!(sorted(kept.load().await?), expected);

    // Rows that come one by one.
    for key in [20, 5_000, 20] {
        let row = Order { quantity: key as u32 + 1, ..order(key, 3_000) };
        kept.put(&OrderSoA::from_iter([row.clone()])).await?;
        match expected.iter_mut().find(|order| order.order_id == key) {
            Some(there) => *there = row,
            None => expected.push(row),
        }
    }
    assert_eq!(kept.count().await?, expected.len() as u64);
    kept.remove(&keys(&[21, 4_000, 5_000])).await?;
    expected.retain(|order| ![21, 4_000, 5_000].contains(&order.order_id));
    assert_eq!(sorted(kept.load().await?), expected);

    for (condition, is_match) in CASES {
        let query = Query::parse::<Order>(condition)?;
        let matching: Vec<Order> = expected.iter().filter(|order| is_match(order)).cloned().collect();
        assert_eq!(sorted(kept.query(query.clone()).await?), matching, "{condition}");
        let some = sorted(kept.query(query.limit(5).limit(7)).await?);
        assert_eq!(some.len(), matching.len().min(5), "{condition}");
        assert!(some.iter().all(|order| matching.contains(order)), "{condition}");
    }
    assert_eq!(kept.query(Query::all().limit(0)).await?.len(), 0);
    assert_eq!(kept.query(Query::all().limit(11)).await?.len(), 11);
    let wrong = Predicate::compare(4, CompareOp::Eq, Scalar::Utf8("much".to_owned()));
    let error = kept.query(wrong).await.unwrap_err();
    assert!(matches!(error, PersistenceError::Refused(_)) && error.to_string().contains("unit_price"), "{error}");

    let stats = kept.memory_stats().await?;
    assert_eq!(stats.total_rows, expected.len() as u64);
    assert!(stats.num_batches > 0);
    assert_eq!(stats.average_batch_size, stats.total_rows as f64 / stats.num_batches as f64);
    kept.flush().await?;
    assert_eq!(sorted(kept.load().await?), expected);

    kept.save(&more).await?;
    assert_eq!((kept.count().await?, kept.load().await?.len()), (2, 2));
    kept.put(&OrderSoA::from_iter([order(1, 1)])).await?;
    kept.append(&orders(10).collect()).await?;
    assert_eq!(kept.count().await?, 12);
    kept.close().await?;
    assert_eq!(kept.count().await?, 12);
    kept.put(&OrderSoA::new()).await?;
    kept.append(&OrderSoA::new()).await?;
    assert_eq!(kept.count().await?, 12);
    kept.clear().await?;
    assert_eq!((kept.count().await?, kept.load().await?.len()), (0, 0));
    assert_eq!(kept.memory_stats().await?.total_rows, 0);
    kept.close().await
}

#[test]
fn every_backend_passes_the_suite() {
    run(async {
        suite(&ArrowPersistence::new()).await.unwrap();
        let (_dir, path) = folder();
        suite(&ParquetPersistence::new(&path)).await.unwrap();
        // Once more, on the store that this has left, and on that itself.
        suite(&ParquetPersistence::new(&path)).await.unwrap();
        suite(&Store::open(&path).unwrap()).await.unwrap();
        let (_dir, path) = folder();
        suite(&PartitionedParquetPersistence::new(&path, "status")).await.unwrap();
        suite(&Store::open(&path).unwrap()).await.unwrap();
        assert!(Store::open(&path).unwrap().verify().unwrap().is_ok());
    });
}

#[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
#[soa_store(sort_by = "value")]
struct Reading {
    value: f64,
    text: Option<String>,
}

fn reading(number: u32) -> Reading {
    let text = (!number.is_multiple_of(3)).then(|| format!("the reading with the number {number}"));
    Reading { value: f64::from(number / 2), text }
}

#[test]
fn records_without_a_key_are_kept_as_often_as_they_come() {
    async fn check<P: SoAPersistence<Reading>>(kept: &P) {
        let some: ReadingSoA = (0..100).map(reading).collect();
        kept.save(&some).await.unwrap();
        kept.append(&some).await.unwrap();
        kept.put(&some.slice(..1)).await.unwrap();
        assert_eq!(kept.count().await.unwrap(), 201);
        let query = Query::parse::<Reading>("value = 3 AND text IS NULL").unwrap();
        assert_eq!(kept.query(query).await.unwrap().to_vec(), [reading(6), reading(6)]);
        kept.flush().await.unwrap();
        let mut all: Vec<String> = kept.load().await.unwrap().iter().map(|row| format!("{row:?}")).collect();
        all.sort();
        let mut expected: Vec<String> =
            some.iter().chain(&some).chain(&some.slice(..1)).map(|row| format!("{row:?}")).collect();
        expected.sort();
        assert_eq!(all, expected);
        kept.close().await.unwrap();
    }
    run(async {
        check(&ArrowPersistence::new()).await;
        let (_dir, path) = folder();
        check(&ParquetPersistence::new(&path)).await;
        check(&Store::open(&path).unwrap()).await;
    });
}

#[test]
fn columns_in_memory_are_shared_and_counted_once() {
    run(async {
        let rows: OrderSoA = orders(200_000).collect();
        let kept = ArrowPersistence::<Order>::new();
        kept.append(&rows).await.unwrap();
        let loaded = kept.load().await.unwrap();
        assert_eq!(loaded.order_id_raw_array().as_ptr(), rows.order_id_raw_array().as_ptr());
        assert_eq!(loaded.status_raw_array().as_ptr(), rows.status_raw_array().as_ptr());
        let with_key_index = kept.memory_stats().await.unwrap();
        assert_eq!((with_key_index.total_rows, with_key_index.num_batches), (200_000, 1));
        assert!((62 * 200_000..200 * 200_000).contains(&with_key_index.total_bytes), "{with_key_index:?}");

        // Two slices of the same columns take no more than one.
        let readings: ReadingSoA = (0..100_000).map(reading).collect();
        let kept = ArrowPersistence::<Reading>::new();
        kept.append(&readings.slice(..60_000)).await.unwrap();
        let one = kept.memory_stats().await.unwrap();
        kept.append(&readings.slice(60_000..)).await.unwrap();
        let two = kept.memory_stats().await.unwrap();
        assert_eq!((two.total_rows, two.num_batches), (100_000, 2));
        assert!(one.total_bytes > 2_400_000 && two.total_bytes - one.total_bytes < 50_000, "{one:?} {two:?}");
    });
}

#[test]
fn rows_that_come_one_by_one_are_soon_in_few_batches() {
    run(async {
        let kept = ArrowPersistence::<Order>::new();
        let mut most = 0;
        for round in 0..3_u64 {
            for key in 0..10_000 {
                let row = Order { quantity: round as u32, ..order(key, 10_000) };
                kept.put(&OrderSoA::from_iter([row])).await.unwrap();
                if key % 500 == 0 {
                    most = most.max(kept.memory_stats().await.unwrap().num_batches);
                }
            }
        }
        assert!(most < 2_200, "{most} batches");
        let rows = sorted(kept.load().await.unwrap());
        assert!(rows.iter().enumerate().all(|(key, row)| row.order_id == key as u64 && row.quantity == 2));
        assert_eq!(rows.len(), 10_000);
        // What is replaced is dropped some time: 10,000 rows of 62 bytes, and what they have replaced.
        let stats = kept.memory_stats().await.unwrap();
        assert!(stats.total_bytes < 300_000 * 100, "{stats:?}");
        for key in (0..10_000).step_by(2) {
            kept.remove(&keys(&[key])).await.unwrap();
        }
        assert_eq!(kept.count().await.unwrap(), 5_000);
        assert!(kept.load().await.unwrap().iter().all(|row| row.order_id % 2 == 1));
    });
}

#[test]
fn generic_code_needs_no_more_than_the_traits() {
    fn rows(source: &impl ToArrow) -> usize {
        let batches = source.to_arrow();
        assert!(batches.iter().all(|batch| batch.schema() == Order::arrow_schema_of() && batch.num_rows() > 0));
        batches.iter().map(|batch| batch.num_rows()).sum()
    }
    let mut store = OrderStore::new();
    assert_eq!((rows(&store), rows(&OrderSoA::new())), (0, 0));
    store.add_batch(orders(500)).unwrap();
    let sharded = OrderShardedStore::new();
    sharded.add_batch(orders(500)).unwrap();
    assert_eq!((rows(&store), rows(store.kernel()), rows(&sharded)), (500, 500, 500));
    assert_eq!(Order::empty_batch().num_columns(), 10);
}

#[test]
fn what_a_store_is_compressed_by_is_chosen_and_kept() {
    run(async {
        let rows: OrderSoA = orders(50_000).collect();
        let mut sizes = Vec::new();
        for compression in [Compression::Uncompressed, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            let (_dir, path) = folder();
            let kept = ParquetPersistence::<Order>::new(&path).with_compression(compression);
            kept.save(&rows).await.unwrap();
            assert_eq!(sorted(kept.load().await.unwrap()), rows.to_vec());
            kept.close().await.unwrap();
            // Another handle, which was told nothing, and the compaction go on with it.
            let other = ParquetPersistence::<Order>::new(&path);
            let store = other.store().await.unwrap().store().clone();
            store.set_auto_compact(false).unwrap();
            other.append(&(50_000..100_000).map(|key| order(key, 100_000)).collect()).await.unwrap();
            let compacted = store.compact(&Default::default()).unwrap();
            assert!(compacted.segments_added > 0, "{compacted:?}");
            let snapshot = store.snapshot().unwrap();
            sizes.push(snapshot.segments().iter().map(|segment| segment.parquet_bytes()).sum::<u64>());
            assert!(store.verify().unwrap().is_ok());
            assert_eq!(other.count().await.unwrap(), 100_000);
        }
        let [none, snappy, lz4, zstd] = sizes[..] else { panic!("{sizes:?}") };
        assert!(none > snappy && none > lz4 && snappy > zstd && lz4 > zstd, "{sizes:?}");
    });
}

#[test]
fn what_is_needed_of_a_runtime_is_said() {
    let rows: OrderSoA = orders(1_000).collect();
    let kept = ParquetPersistence::<Order>::new("/nowhere");
    let mut future = std::pin::pin!(kept.append(&rows));
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    let std::task::Poll::Ready(Err(error)) = future.as_mut().poll(&mut context) else { panic!("it should be refused") };
    assert!(matches!(error, PersistenceError::NoRuntime(_)) && error.changed_nothing(), "{error}");
    assert_eq!(MemoryStats::new(10, 4, 2).average_batch_size, 2.0);
}
