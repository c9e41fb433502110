//! What has come since a version.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use soa_core::ErrorKind;
use soa_core::store::{At, CompactOptions, Store, VacuumOptions, WriterOptions};

use super::disk::{Call, Hooked};
use super::{Layout, Row, batch, below, keys, row, rows, rows_of, store};

fn changed(store: &Store, since: u64) -> (Vec<Row>, u64) {
    let changes = store.changes_since(since).unwrap();
    let (added, deleted) = (changes.rows_added(), changes.rows_deleted());
    let rows: Vec<Row> = changes.flat_map(|batch| rows_of(&batch.unwrap())).collect();
    assert_eq!(rows.len() as u64, added);
    (rows, deleted)
}

#[derive(Debug, Clone)]
enum Step {
    Upsert(Vec<(i64, i64)>),
    Delete(Vec<i64>),
    DeleteBelow(i64),
    Compact,
    SwitchVectors(bool),
    Restore(f64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec((0..60_i64, 0..1000_i64), 1..30).prop_map(Step::Upsert),
        3 => prop::collection::vec(0..60_i64, 1..30).prop_map(Step::Delete),
        1 => (0..400_i64).prop_map(Step::DeleteBelow),
        2 => Just(Step::Compact),
        2 => any::<bool>().prop_map(Step::SwitchVectors),
        2 => (0.0..1.0_f64).prop_map(Step::Restore),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    /// Every commit's rows come once, and as many are deleted as commits say.
    #[test]
    fn each_commit_is_told(layout in Layout::any(), steps in prop::collection::vec(step(), 1..14)) {
        let (_dir, store) = store(Layout { keyed: true, ..layout });
        // By version: the rows that came with it and later, and how many went.
        let mut log: Vec<(u64, Vec<Row>, u64)> = Vec::new();
        for step in &steps {
            let before = store.snapshot().unwrap();
            let (mut came, mut went) = (Vec::new(), 0);
            match step {
                Step::Upsert(given) => {
                    let last: BTreeMap<i64, i64> = given.iter().copied().collect();
                    let given: Vec<Row> = given.iter().map(|(id, value)| row(*id, *value)).collect();
                    went = store.upsert(&[batch(&given)]).unwrap().rows_deleted;
                    came = last.into_iter().map(|(id, value)| row(id, value)).collect();
                }
                Step::Delete(ids) => went = store.delete_keys(&keys(ids)).unwrap().rows_deleted,
                Step::DeleteBelow(value) => went = store.delete(&below(*value)).unwrap().rows_deleted,
                Step::Compact => drop(store.compact(&CompactOptions::default()).unwrap()),
                Step::SwitchVectors(enabled) => drop(store.set_deletion_vectors(*enabled).unwrap()),
                Step::Restore(share) => {
                    let version = (before.version() as f64 * share) as u64;
                    store.restore(At::Version(version)).unwrap();
                    let after = rows(&store.snapshot().unwrap());
                    // More may come: what is stored in other files by then comes again.
                    (came, went) = changed(&store, before.version());
                    let new = without(after.clone(), rows(&before));
                    prop_assert_eq!(&without(new.clone(), came.clone()), &Vec::new(), "{:?} came, not all of {:?}", came, new);
                    prop_assert_eq!(before.row_count() + came.len() as u64, after.len() as u64 + went);
                }
            }
            log.push((before.version(), came, went));
        }
        for (at, (version, _, _)) in log.iter().enumerate() {
            let (mut found, deleted) = changed(&store, *version);
            let mut expected: Vec<Row> = log[at..].iter().flat_map(|(_, came, _)| came.clone()).collect();
            found.sort();
            expected.sort();
            prop_assert_eq!(found, expected);
            prop_assert_eq!(deleted, log[at..].iter().map(|(_, _, went)| went).sum::<u64>());
        }
        let newest = store.snapshot().unwrap().version();
        prop_assert_eq!(changed(&store, newest), (Vec::new(), 0));
    }
}

/// The rows that are left of some when others are taken away, each as often as it is there.
fn without(mut rows: Vec<Row>, others: Vec<Row>) -> Vec<Row> {
    for other in others {
        if let Some(at) = rows.iter().position(|row| *row == other) {
            rows.swap_remove(at);
        }
    }
    rows
}

#[test]
fn rows_come_in_the_order_of_commits_and_from_the_log_when_published() {
    let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    store.append(&[batch(&[row(1, 1), row(2, 2)])]).unwrap();
    let start = store.snapshot().unwrap().version();
    store.upsert(&[batch(&[row(2, 20)])]).unwrap();
    store.upsert(&[batch(&[row(2, 21), row(3, 3)])]).unwrap();
    store.compact(&CompactOptions::default()).unwrap();
    assert_eq!(changed(&store, start), (vec![row(2, 20), row(2, 21), row(3, 3)], 2));
    let writer = store.writer(WriterOptions::default()).unwrap();
    let middle = store.changes_since(start).unwrap().to();
    writer.add_batch(&batch(&[row(4, 4)])).unwrap();
    let unpublished = store.changes_since(middle).unwrap();
    assert_eq!(unpublished.rows_added(), if unpublished.to() == middle { 0 } else { 1 });
    writer.close().unwrap();
    assert_eq!(changed(&store, middle), (vec![row(4, 4)], 0));
}

#[test]
fn restored_rows_come_again() {
    let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    let full = store.append(&[batch(&(0..10).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    let fewer = store.delete(&below(4)).unwrap().version;
    store.restore(At::Version(full)).unwrap();
    let (came, went) = changed(&store, fewer);
    assert_eq!((came, went), ((0..4).map(|id| row(id, id)).collect(), 0));
    assert_eq!(rows(&store.snapshot().unwrap()), (0..10).map(|id| row(id, id)).collect::<Vec<_>>());
}

#[test]
fn restored_rows_of_rewritten_files_come_again() {
    let (_dir, store) = store(Layout { keyed: true, with_vectors: false, ..Layout::PLAIN });
    store.append(&[batch(&(0..10).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    // What is left is in a file of its own, which is gone in the next version.
    let some = store.delete(&below(4)).unwrap().version;
    let none = store.delete(&below(1000)).unwrap().version;
    store.restore(At::Version(some)).unwrap();
    assert_eq!(changed(&store, none), ((4..10).map(|id| row(id, id)).collect(), 0));
}

#[test]
fn rows_that_a_restored_file_is_written_for_come_again() {
    let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    store.append(&[batch(&(0..10).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    let some = store.delete(&below(4)).unwrap().version;
    let none = store.delete(&below(1000)).unwrap().version;
    let none_without_vectors = store.set_deletion_vectors(false).unwrap();
    store.restore(At::Version(some)).unwrap();
    assert_eq!(changed(&store, none), ((4..10).map(|id| row(id, id)).collect(), 0));
    assert_eq!(changed(&store, none_without_vectors).0.len(), 6);
}

#[test]
fn a_version_is_durable_before_it_is_given_out() {
    let (_dir, store) = store(Layout::PLAIN);
    let first = store.append(&[batch(&[row(1, 1)])]).unwrap();
    // Another process has made the newest version, for all that this one knows.
    let disk = Hooked::default();
    let other = Store::open_on(Arc::new(disk.clone()), store.path()).unwrap();
    let synced = Arc::new(AtomicBool::new(false));
    let log = store.path().join("_delta_log");
    disk.set({
        let (log, synced) = (log.clone(), Arc::clone(&synced));
        move |call, path| {
            synced.fetch_or(call == Call::SyncDir && path == log, Ordering::Relaxed);
            Ok(())
        }
    });
    assert_eq!(other.changes_since(first).unwrap().to(), first);
    assert!(synced.load(Ordering::Relaxed));
    // One that cannot be made so is not given out.
    let another = Store::open_on(Arc::new(disk.clone()), store.path()).unwrap();
    disk.set(move |call, path| match call == Call::SyncDir && path == log {
        true => Err(std::io::Error::other("it cannot be synced")),
        false => Ok(()),
    });
    assert_eq!(another.changes_since(first).unwrap_err().kind(), ErrorKind::Io);
}

#[test]
fn what_cannot_be_told_is_an_error() {
    let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    for id in 0..3 {
        store.append(&[batch(&[row(id, id)])]).unwrap();
    }
    let newest = store.snapshot().unwrap().version();
    assert_eq!(store.changes_since(newest + 1).unwrap_err().kind(), ErrorKind::InvalidInput);
    store.compact(&CompactOptions::default()).unwrap();
    let mut options = VacuumOptions::default();
    (options.retention, options.force) = (Duration::ZERO, true);
    store.vacuum(&options).unwrap();
    let mut changes = store.changes_since(newest - 1).unwrap();
    let error = changes.next().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Conflict, "{error}");
    assert!(changes.next().is_none());
}
