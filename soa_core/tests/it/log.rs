//! The write-ahead log: rows that are visible at once, published in time, and never lost.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use soa_core::ErrorKind;
use soa_core::scan::ScanRequest;
use soa_core::schema::{DataType, Field, Schema};
use soa_core::store::{Durability, Snapshot, Store, UNIT_ROWS, Writer, WriterOptions};
use tempfile::TempDir;

type Model = BTreeMap<i64, Option<String>>;

fn store(keyed: bool) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let fields = vec![Field::new("id", DataType::Int64), Field::nullable("note", DataType::Utf8)];
    let mut schema = Schema::new(fields).unwrap();
    if keyed {
        schema = schema.with_key("id").unwrap();
    }
    let store = Store::create(dir.path().join("log.soa"), schema).unwrap();
    (dir, store)
}

/// Nothing is published unless it is asked for.
fn lazy() -> WriterOptions {
    let mut options = WriterOptions::default();
    options.publish_age = Duration::from_secs(3600);
    options.durability = Durability::Buffered;
    options
}

fn batch(rows: &[(i64, Option<&str>)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
    let notes: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.1)));
    RecordBatch::try_from_iter([("id", ids), ("note", notes)]).unwrap()
}

fn keys(keys: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(keys.to_vec()))
}

/// The rows in the order in which a scan gives them.
fn rows(snapshot: &Arc<Snapshot>) -> Vec<(i64, Option<String>)> {
    let plan = snapshot.plan(&ScanRequest { columns: vec![0, 1], ..Default::default() }).unwrap();
    let mut found = Vec::new();
    for unit in 0..plan.units().len() {
        let rows = plan.read(unit).unwrap();
        let notes = rows.column(1).as_string_view();
        let ids = rows.column(0).as_primitive::<Int64Type>().values().iter();
        found.extend(ids.zip(notes).map(|(id, note)| (*id, note.map(str::to_owned))));
    }
    assert_eq!(snapshot.row_count(), found.len() as u64);
    found
}

fn map(snapshot: &Arc<Snapshot>) -> Model {
    let rows = rows(snapshot);
    let map: Model = rows.iter().cloned().collect();
    assert_eq!(map.len(), rows.len(), "a key occurs twice");
    map
}

#[test]
fn rows_are_visible_before_and_after_they_are_published() {
    for keyed in [false, true] {
        let (_dir, store) = store(keyed);
        let writer = store.writer(lazy()).unwrap();
        let mut expected = Vec::new();
        for id in 0..10 {
            writer.add_batch(&batch(&[(id, Some("x")), (100 + id, None)])).unwrap();
            expected.extend([(id, Some("x".to_owned())), (100 + id, None)]);
            let snapshot = store.snapshot().unwrap();
            assert_eq!(rows(&snapshot), expected);
            assert_eq!((snapshot.segments().len(), snapshot.log_row_count()), (0, expected.len() as u64));
        }
        let version = writer.flush().unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!((rows(&snapshot), snapshot.version()), (expected.clone(), version));
        assert_eq!((snapshot.segments().len(), snapshot.log_row_count()), (1, 0));
        // Again: nothing is left to publish.
        assert_eq!(writer.flush().unwrap(), version);
        writer.add_batch(&batch(&[(1000, None)])).unwrap();
        let version = writer.close().unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!((snapshot.version(), snapshot.row_count()), (version, 21));
    }
}

#[test]
fn the_last_write_of_a_key_counts() {
    let (_dir, store) = store(true);
    store.append(&[batch(&[(1, Some("old")), (2, Some("old")), (3, Some("old"))])]).unwrap();
    let writer = store.writer(lazy()).unwrap();
    writer.add_batch(&batch(&[(2, Some("new")), (4, Some("first"))])).unwrap();
    writer.delete(&keys(&[1, 77])).unwrap();
    writer.add_batch(&batch(&[(4, Some("second"))])).unwrap();
    let mut model = Model::from([(2, Some("new".into())), (3, Some("old".into())), (4, Some("second".into()))]);
    let before = store.snapshot().unwrap();
    assert_eq!(map(&before), model);
    writer.flush().unwrap();
    assert_eq!(map(&store.snapshot().unwrap()), model);
    writer.delete(&keys(&[2, 4])).unwrap();
    writer.add_batch(&batch(&[(4, Some("third"))])).unwrap();
    let after = store.snapshot().unwrap();
    assert_eq!(map(&before), model, "an old snapshot has changed");
    model.remove(&2);
    model.insert(4, Some("third".into()));
    assert_eq!(map(&after), model);
    writer.close().unwrap();
    assert_eq!(map(&store.snapshot().unwrap()), model);
    assert_eq!(store.verify().unwrap().problems, Vec::<String>::new());
}

#[test]
fn what_a_writer_leaves_is_seen_and_published_by_the_next() {
    let (_dir, store) = store(true);
    let writer = store.writer(lazy()).unwrap();
    writer.add_batch(&batch(&[(1, Some("a"))])).unwrap();
    // As if the process had been killed: nothing is dropped.
    let lock = store.path().join("_soa/lock");
    std::mem::forget(writer);
    assert!(lock.is_file());
    assert_eq!(map(&store.snapshot().unwrap()), Model::from([(1, Some("a".into()))]));
    let error = store.writer(lazy()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict);
    assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
}

#[test]
fn others_cannot_change_rows_while_the_log_has_an_owner() {
    let (_dir, store) = store(true);
    let writer = store.writer(lazy()).unwrap();
    writer.add_batch(&batch(&[(1, None)])).unwrap();
    for refused in [
        store.append(&[batch(&[(2, None)])]).unwrap_err(),
        store.upsert(&[batch(&[(2, None)])]).unwrap_err(),
        store.delete_keys(&keys(&[1])).unwrap_err(),
        store.delete(&soa_core::predicate::Predicate::And(Vec::new())).unwrap_err(),
    ] {
        assert_eq!(refused.kind(), ErrorKind::Conflict);
        assert!(refused.to_string().contains("being written by process"), "{refused}");
    }
    writer.close().unwrap();
    store.append(&[batch(&[(2, None)])]).unwrap();
    assert_eq!(store.snapshot().unwrap().row_count(), 2);
}

#[test]
fn tables_without_key_take_rows_from_others_meanwhile() {
    let (_dir, store) = store(false);
    let writer = store.writer(lazy()).unwrap();
    writer.add_batch(&batch(&[(1, None)])).unwrap();
    store.append(&[batch(&[(2, None)])]).unwrap();
    writer.add_batch(&batch(&[(3, None)])).unwrap();
    assert_eq!(store.snapshot().unwrap().row_count(), 3);
    writer.close().unwrap();
    let mut found: Vec<i64> = rows(&store.snapshot().unwrap()).into_iter().map(|row| row.0).collect();
    found.sort_unstable();
    assert_eq!(found, [1, 2, 3]);
}

#[test]
fn large_batches_are_published_at_once_and_in_order() {
    let (_dir, store) = store(true);
    let writer = store.writer(lazy()).unwrap();
    writer.add_batch(&batch(&[(1, Some("logged")), (-1, Some("logged"))])).unwrap();
    let many: Vec<(i64, Option<&str>)> = (0..UNIT_ROWS as i64).map(|id| (id, Some("large"))).collect();
    writer.add_batch(&batch(&many)).unwrap();
    writer.add_batch(&batch(&[(2, Some("after"))])).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.log_row_count(), 1);
    let found = map(&snapshot);
    assert_eq!(found.len(), UNIT_ROWS + 1);
    assert_eq!(
        (&found[&1], &found[&2], &found[&-1]),
        (&Some("large".into()), &Some("after".into()), &Some("logged".into()))
    );
}

#[test]
fn rows_are_published_by_count_and_by_age() {
    let (_dir, store) = store(false);
    let mut options = lazy();
    options.publish_rows = 10;
    let writer = store.writer(options).unwrap();
    (0..10).for_each(|id| writer.add_batch(&batch(&[(id, None)])).unwrap());
    wait_until(|| store.snapshot().unwrap().segments().len() == 1);
    drop(writer);
    let mut options = lazy();
    options.publish_age = Duration::from_millis(20);
    let writer = store.writer(options).unwrap();
    writer.add_batch(&batch(&[(10, None)])).unwrap();
    wait_until(|| store.snapshot().unwrap().segments().len() == 2);
    assert_eq!(store.snapshot().unwrap().row_count(), 11);
    drop(writer);
}

fn wait_until(mut holds: impl FnMut() -> bool) {
    let started = std::time::Instant::now();
    while !holds() {
        assert!(started.elapsed() < Duration::from_secs(60), "it did not happen within a minute");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_full_log_makes_writers_wait_for_publishing() {
    let (_dir, store) = store(false);
    let mut options = lazy();
    options.log_bytes_max = 20_000;
    options.publish_bytes = u64::MAX;
    options.publish_rows = usize::MAX;
    let writer = store.writer(options).unwrap();
    let text = "x".repeat(1000);
    for id in 0..100 {
        writer.add_batch(&batch(&[(id, Some(&text))])).unwrap();
        let logged: u64 = std::fs::read_dir(store.path().join("_soa/wal"))
            .unwrap()
            .filter_map(|entry| entry.ok()?.metadata().ok())
            .map(|file| file.len())
            .max()
            .unwrap_or(0);
        assert!(logged < 22_000, "{logged} bytes are in one log file");
    }
    assert!(!store.snapshot().unwrap().segments().is_empty());
    writer.close().unwrap();
    assert_eq!(store.snapshot().unwrap().row_count(), 100);
}

#[test]
fn many_threads_write_while_others_read() {
    const THREADS: i64 = 8;
    const ROUNDS: i64 = 60;
    let (_dir, store) = store(true);
    let mut options = WriterOptions::default();
    options.publish_rows = 50;
    let writer = store.writer(options).unwrap();
    let is_done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let reader = scope.spawn(|| {
            let mut before = 0;
            while !is_done.load(Ordering::Relaxed) {
                let found = map(&store.snapshot().unwrap());
                assert!(found.len() >= before, "rows have gone: {} after {before}", found.len());
                before = found.len();
                // Both rows of a batch or none.
                assert!(found.keys().all(|id| found.contains_key(&-id)), "half a batch is there");
            }
        });
        let writers: Vec<_> = (0..THREADS)
            .map(|thread| {
                let writer = &writer;
                scope.spawn(move || add_rounds(writer, thread * ROUNDS, ROUNDS))
            })
            .collect();
        writers.into_iter().for_each(|writer| writer.join().unwrap());
        is_done.store(true, Ordering::Relaxed);
        reader.join().unwrap();
    });
    writer.close().unwrap();
    assert_eq!(map(&store.snapshot().unwrap()).len() as i64, 2 * THREADS * ROUNDS);
    assert_eq!(store.verify().unwrap().problems, Vec::<String>::new());
}

fn add_rounds(writer: &Writer, first: i64, rounds: i64) {
    for id in first..first + rounds {
        writer.add_batch(&batch(&[(id + 1, Some("a")), (-id - 1, None)])).unwrap();
        let seen = writer.store().snapshot().unwrap();
        assert!(map(&seen).contains_key(&(id + 1)), "row {id} is not visible when add returns");
    }
}

#[derive(Debug, Clone)]
enum Step {
    Add(Vec<(i64, Option<&'static str>)>),
    Delete(Vec<i64>),
    Flush,
    Reopen,
    Look,
}

fn step() -> impl Strategy<Value = Step> {
    let note =
        prop_oneof![Just(None), Just(Some("")), Just(Some("a note that is longer than twelve bytes")), Just(Some("b"))];
    prop_oneof![
        6 => prop::collection::vec((0..40_i64, note), 1..6).prop_map(Step::Add),
        3 => prop::collection::vec(0..40_i64, 1..4).prop_map(Step::Delete),
        1 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        2 => Just(Step::Look),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn logs_hold_what_a_map_holds(steps in prop::collection::vec(step(), 1..40)) {
        let (_dir, store) = store(true);
        let mut model = Model::new();
        let mut writer = Some(store.writer(lazy()).unwrap());
        let mut seen = Vec::new();
        for step in &steps {
            let open = writer.as_ref().unwrap();
            match step {
                Step::Add(rows) => {
                    open.add_batch(&batch(rows)).unwrap();
                    model.extend(rows.iter().map(|(id, note)| (*id, note.map(str::to_owned))));
                }
                Step::Delete(ids) => {
                    open.delete(&keys(ids)).unwrap();
                    model.retain(|id, _| !ids.contains(id));
                }
                Step::Flush => drop(open.flush().unwrap()),
                Step::Reopen => {
                    writer.take().unwrap().close().unwrap();
                    writer = Some(store.writer(lazy()).unwrap());
                }
                Step::Look => {
                    let snapshot = store.snapshot().unwrap();
                    prop_assert_eq!(&map(&snapshot), &model);
                    seen.push((snapshot, model.clone()));
                }
            }
        }
        prop_assert_eq!(&map(&store.snapshot().unwrap()), &model);
        for (snapshot, model) in &seen {
            prop_assert_eq!(&map(snapshot), model);
            // Another process would take the same snapshot, as long as the log has it.
            prop_assert_eq!(&map(&store.snapshot_of(snapshot.id()).unwrap()), model);
        }
        writer.take().unwrap().close().unwrap();
        prop_assert_eq!(&map(&store.snapshot().unwrap()), &model);
        prop_assert_eq!(store.verify().unwrap().problems, Vec::<String>::new());
    }
}

#[test]
fn deletes_that_are_larger_than_the_log_are_taken() {
    let (_dir, store) = store(true);
    let mut options = lazy();
    options.log_bytes_max = 1000;
    let writer = store.writer(options).unwrap();
    writer.add_batch(&batch(&[(5, None), (5000, None)])).unwrap();
    writer.delete(&keys(&(0..1000).collect::<Vec<_>>())).unwrap();
    assert_eq!(map(&store.snapshot().unwrap()).into_keys().collect::<Vec<_>>(), [5000]);
    writer.close().unwrap();
    assert_eq!(store.snapshot().unwrap().row_count(), 1);
}
