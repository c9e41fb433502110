//! Compaction never changes rows, whatever else happens meanwhile.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;
use soa_core::store::{At, Commit, CompactOptions, Form, Store};

use super::disk::{Call, Hooked};
use super::{Layout, Row, batch, below, keys, problems, row, rows, sorted, store};

fn small(rows_max: usize) -> CompactOptions {
    let mut options = CompactOptions::default();
    options.segment_rows_max = rows_max;
    options
}

fn paths(store: &Store) -> Vec<String> {
    store.snapshot().unwrap().segments().iter().map(|segment| segment.path().to_owned()).collect()
}

#[derive(Debug, Clone)]
enum Step {
    Add(Vec<(i64, i64)>),
    DeleteIds(Vec<i64>),
    DeleteBelow(i64),
    Compact(usize),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        5 => prop::collection::vec((0..200_i64, 0..1000_i64), 1..40).prop_map(Step::Add),
        2 => prop::collection::vec(0..200_i64, 0..20).prop_map(Step::DeleteIds),
        1 => (0..300_i64).prop_map(Step::DeleteBelow),
        3 => (8..100_usize).prop_map(Step::Compact),
    ]
}

fn apply(store: &Store, step: &Step, layout: Layout) {
    match step {
        Step::Add(given) if layout.keyed => {
            let given: Vec<Row> = given.iter().map(|(id, value)| row(*id, *value)).collect();
            store.upsert(&[batch(&given)]).unwrap();
        }
        Step::Add(given) => {
            let given: Vec<Row> = given.iter().map(|(id, value)| row(*id, *value)).collect();
            store.append(&[batch(&given)]).unwrap();
        }
        Step::DeleteIds(ids) if layout.keyed => drop(store.delete_keys(&keys(ids)).unwrap()),
        Step::DeleteIds(ids) => {
            for id in ids.iter().take(3) {
                let id = soa_core::predicate::Scalar::Int((*id).into());
                store.delete(&soa_core::predicate::Predicate::eq(0, id)).unwrap();
            }
        }
        Step::DeleteBelow(value) => drop(store.delete(&below(*value)).unwrap()),
        Step::Compact(rows_max) => compact_and_compare(store, *rows_max, layout),
    }
}

/// Compacts a store that nobody else uses.
fn compact_and_compare(store: &Store, rows_max: usize, layout: Layout) {
    let before = rows(&store.snapshot().unwrap());
    let compacted = store.compact(&small(rows_max)).unwrap();
    let snapshot = store.snapshot().unwrap();
    let after = rows(&snapshot);
    if layout.sorted {
        assert_eq!(sorted(after), sorted(before));
    } else {
        let of = |part: &str, rows: &[Row]| rows.iter().filter(|row| row.2 == part).cloned().collect::<Vec<_>>();
        match layout.partitioned {
            true => ["a", "b"].iter().for_each(|part| assert_eq!(of(part, &after), of(part, &before))),
            false => assert_eq!(after, before),
        }
    }
    assert_eq!((compacted.version, compacted.segments_given_up), (snapshot.version(), 0));
    for segment in snapshot.segments() {
        let share = segment.deleted_count() as f64 / (segment.deleted_count() + segment.row_count()) as f64;
        assert!(share <= 0.1, "{share} of a segment is deleted");
    }
    // Nothing is left to do.
    let again = store.compact(&small(rows_max)).unwrap();
    assert_eq!((again.segments_removed, again.version), (0, snapshot.version()));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn rows_stay_what_they_are(layout in Layout::any(), steps in prop::collection::vec(step(), 1..16)) {
        let (_dir, store) = store(layout);
        let mut versions = Vec::new();
        for step in &steps {
            apply(&store, step, layout);
            let snapshot = store.snapshot().unwrap();
            versions.push((rows(&snapshot), snapshot));
        }
        for (expected, snapshot) in &versions {
            prop_assert_eq!(&rows(snapshot), expected);
            prop_assert_eq!(&rows(&store.snapshot_at(At::Version(snapshot.version())).unwrap()), expected);
        }
        prop_assert_eq!(problems(&store), Vec::<String>::new());
    }

    #[test]
    fn rows_deleted_meanwhile_are_deleted_in_the_new_segments(
        layout in Layout::any(),
        parts in prop::collection::vec(prop::collection::vec((0..1000_i64, 0..1000_i64), 1..30), 2..8),
        before in prop::collection::vec(0..1000_i64, 0..40),
        meanwhile in prop::collection::vec(0..1000_i64, 1..80),
        rows_max in 16..200_usize,
    ) {
        let (_dir, store) = store(Layout { keyed: true, with_vectors: true, ..layout });
        for part in &parts {
            let given: Vec<Row> = part.iter().map(|(id, value)| row(*id, *value)).collect();
            store.upsert(&[batch(&given)]).unwrap();
        }
        store.delete_keys(&keys(&before)).unwrap();
        let mut expected = rows(&store.snapshot().unwrap());
        let mut done = false;
        let compacted = store.compact_with(&small(rows_max), &mut |_| {
            if !std::mem::replace(&mut done, true) {
                store.delete_keys(&keys(&meanwhile)).unwrap();
            }
        });
        let compacted = compacted.unwrap();
        expected.retain(|row| !done || !meanwhile.contains(&row.0));
        // A segment that was deleted altogether takes its group with it; all others are carried over.
        let took_no_file = |commit: &Commit| commit.operation != "DELETE" || commit.files_removed == commit.files_added;
        if store.history().unwrap().iter().all(took_no_file) {
            prop_assert_eq!(compacted.segments_given_up, 0);
        }
        let snapshot = store.snapshot().unwrap();
        match layout.sorted || layout.partitioned {
            true => prop_assert_eq!(sorted(rows(&snapshot)), sorted(expected)),
            false => prop_assert_eq!(rows(&snapshot), expected),
        }
        prop_assert_eq!(problems(&store), Vec::<String>::new());
    }
}

#[test]
fn small_segments_become_one_and_the_old_files_stay() {
    let (_dir, store) = store(Layout::PLAIN);
    for first in 0..10 {
        store.append(&[batch(&(0..100).map(|id| row(first * 100 + id, id)).collect::<Vec<_>>())]).unwrap();
    }
    let old = store.snapshot().unwrap();
    let expected = rows(&old);
    let compacted = store.compact(&CompactOptions::default()).unwrap();
    assert_eq!((compacted.segments_removed, compacted.segments_added, compacted.rows_written), (10, 1, 1000));
    assert!(compacted.bytes_added < compacted.bytes_removed, "{compacted:?}");
    assert_eq!(rows(&store.snapshot().unwrap()), expected);
    assert!(old.segments().iter().flat_map(|segment| segment.files()).all(|file| file.exists()));
    let last = store.history().unwrap().pop().unwrap();
    assert_eq!((last.operation.as_str(), last.rows_added, last.rows_deleted), ("OPTIMIZE", Some(0), Some(0)));
    assert_eq!((last.files_added, last.files_removed), (1, 10));
    // Rows that come later come after those.
    store.append(&[batch(&[row(5000, 1)])]).unwrap();
    assert_eq!(rows(&store.snapshot().unwrap()).pop(), Some(row(5000, 1)));
}

#[test]
fn deletions_go_where_their_rows_went() {
    for sorted_by_note in [false, true] {
        let (_dir, store) = store(Layout { keyed: true, sorted: sorted_by_note, ..Layout::PLAIN });
        for first in [0, 100, 200] {
            store.append(&[batch(&(first..first + 50).map(|id| row(id, 997 - id)).collect::<Vec<_>>())]).unwrap();
        }
        store.delete_keys(&keys(&[3, 4, 149, 200])).unwrap();
        let gone = [0, 5, 49, 120, 201, 249];
        let mut deleted = false;
        let compacted = store.compact_with(&CompactOptions::default(), &mut |_| {
            if !std::mem::replace(&mut deleted, true) {
                store.delete_keys(&keys(&gone)).unwrap();
            }
        });
        assert_eq!((compacted.unwrap().segments_removed, deleted), (3, true));
        let snapshot = store.snapshot().unwrap();
        let segments: Vec<_> = snapshot.segments().iter().map(|s| (s.row_count(), s.deleted_count())).collect();
        assert_eq!(segments, [(140, 6)]);
        let left = [0, 100, 200].into_iter().flat_map(|first| first..first + 50);
        let left = left.filter(|id| !gone.contains(id) && ![3, 4, 149, 200].contains(id));
        assert_eq!(sorted(rows(&snapshot)), left.map(|id| row(id, 997 - id)).collect::<Vec<_>>());
    }
}

#[test]
fn only_neighbours_are_joined() {
    let (_dir, store) = store(Layout::PLAIN);
    for (first, count) in [(0, 10), (100, 10), (200, 90), (300, 10), (400, 90), (500, 10), (600, 10)] {
        store.append(&[batch(&(first..first + count).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    }
    let (before, expected) = (paths(&store), rows(&store.snapshot().unwrap()));
    store.compact(&small(100)).unwrap();
    let after = paths(&store);
    assert_eq!(after.len(), 5);
    assert_eq!(after[1..4], before[2..5]);
    assert_eq!(rows(&store.snapshot().unwrap()), expected);
}

/// The same store with its segments of these times, in the order in which they were added.
fn with_times(store: Store, times: &[i64]) -> Store {
    let mut times = times.iter();
    super::rewritten(store, |_, actions| {
        for add in actions.iter_mut().filter_map(|action| action.get_mut("add")) {
            add["modificationTime"] = (*times.next().unwrap()).into();
        }
    })
}

#[test]
fn rows_stay_in_order_where_there_is_no_room_between_neighbours() {
    for times in [[1000, 1001, 1002], [1000, 1002, 1004], [1000, 1000, 1001], [1000, 1001, 1001], [7, 7, 7]] {
        let (_dir, store) = store(Layout::PLAIN);
        for first in [0, 100, 200] {
            store.append(&[batch(&(first..first + 100).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
        }
        let store = with_times(store, &times);
        // One in the middle, wherever that is now.
        let first = rows(&store.snapshot().unwrap())[100].0;
        for id in first..first + 20 {
            let id = soa_core::predicate::Scalar::Int(id.into());
            store.delete(&soa_core::predicate::Predicate::eq(0, id)).unwrap();
        }
        let expected = rows(&store.snapshot().unwrap());
        assert_eq!(expected.len(), 280);
        store.compact(&small(20)).unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!(rows(&snapshot), expected, "{times:?}");
        assert!(snapshot.segments().iter().all(|segment| segment.row_count() >= 20));
        let again = store.compact(&small(20)).unwrap();
        assert_eq!((again.segments_removed, again.segments_given_up), (0, 0), "{times:?}");
        assert_eq!(problems(&store), Vec::<String>::new());
    }
}

#[test]
fn rows_that_came_meanwhile_stay_behind() {
    let (_dir, store) = store(Layout::PLAIN);
    store.append(&[batch(&(0..100).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    store.delete(&below(30)).unwrap();
    // Later than any clock says.
    let store = with_times(store, &[4_000_000_000_000, 4_000_000_000_000]);
    let mut done = false;
    let compacted = store.compact_with(&small(7), &mut |_| {
        if !std::mem::replace(&mut done, true) {
            store.append(&[batch(&[row(500, 500)])]).unwrap();
        }
    });
    assert_eq!(compacted.unwrap().segments_added, 10);
    let expected = (30..100).chain([500]).map(|id| row(id, id)).collect::<Vec<_>>();
    assert_eq!(rows(&store.snapshot().unwrap()), expected);
}

#[test]
fn a_damaged_segment_is_left_to_itself() {
    let (_dir, store) = store(Layout { partitioned: true, ..Layout::PLAIN });
    store.set_auto_compact(false).unwrap();
    for id in 1..5 {
        store.append(&[batch(&[row(id, id), row(5 * id, 5 * id)])]).unwrap();
    }
    let broken = |snapshot: &soa_core::store::Snapshot| {
        let of_a = |segment: &&std::sync::Arc<soa_core::store::Segment>| segment.path().starts_with("part=a");
        snapshot.segments().iter().find(of_a).unwrap().files()
    };
    for file in &broken(&store.snapshot().unwrap())[..2] {
        std::fs::write(file, "no longer what it was").unwrap();
    }
    let compacted = store.compact(&CompactOptions::default()).unwrap();
    assert_eq!((compacted.segments_given_up, compacted.segments_removed, compacted.segments_added), (4, 4, 1));
    assert_eq!(store.snapshot().unwrap().segments().len(), 5);
}

#[test]
fn two_may_make_the_same_arrow_form() {
    let (_dir, store) = store(Layout::PLAIN);
    store.append(&[batch(&(0..1000).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    // Under another name this process has nothing of it open but by this disk.
    let moved = store.path().with_extension("moved");
    std::fs::rename(store.path(), &moved).unwrap();
    let disk = Hooked::default();
    let slow = Store::open_on(Arc::new(disk.clone()), &moved).unwrap();
    let store = Store::open(&moved).unwrap();
    let form = store.snapshot().unwrap().segments()[0].files()[1].clone();
    std::fs::remove_file(&form).unwrap();
    let other = Arc::new(AtomicBool::new(false));
    disk.set({
        let (store, form, other) = (store.clone(), form.clone(), Arc::clone(&other));
        move |call, path| {
            if call == Call::Link && path == form && !other.swap(true, Ordering::Relaxed) {
                assert_eq!(store.compact(&CompactOptions::default()).unwrap().arrow_rebuilt, 1);
            }
            Ok(())
        }
    });
    assert_eq!(slow.compact(&CompactOptions::default()).unwrap().arrow_rebuilt, 1);
    assert!(other.load(Ordering::Relaxed) && form.exists());
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn a_group_whose_segments_are_gone_is_given_up() {
    let (_dir, store) = store(Layout::PLAIN);
    for first in 0..4 {
        store.append(&[batch(&[row(first, first)])]).unwrap();
    }
    let expected = rows(&store.snapshot().unwrap());
    let mut other = None;
    let given_up = store
        .compact_with(&CompactOptions::default(), &mut |_| {
            other.get_or_insert_with(|| store.compact(&CompactOptions::default()).unwrap());
        })
        .unwrap();
    assert_eq!(other.map(|other| other.segments_removed), Some(4));
    assert_eq!((given_up.segments_given_up, given_up.segments_removed), (4, 0));
    assert_eq!((paths(&store).len(), rows(&store.snapshot().unwrap())), (1, expected));
    // What was written in vain is gone.
    let part = |name: &str| name.starts_with("part-");
    let files = std::fs::read_dir(store.path()).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    assert_eq!(files.filter(|name| part(name)).count(), 5);
}

#[test]
fn writers_and_readers_are_not_disturbed() {
    for layout in [
        Layout { keyed: true, ..Layout::PLAIN },
        Layout { keyed: true, sorted: true, partitioned: true, with_vectors: true },
        Layout { keyed: true, with_vectors: false, ..Layout::PLAIN },
    ] {
        let (_dir, store) = store(layout);
        let done = AtomicBool::new(false);
        let first = store.append(&[batch(&(0..400).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
        let old = store.snapshot().unwrap();
        let expected = rows(&old);
        std::thread::scope(|scope| {
            let writers: Vec<_> = (0..2_i64)
                .map(|thread| {
                    let store = &store;
                    scope.spawn(move || {
                        for round in 0..15_i64 {
                            let ids = (0..20).map(|n| 200 * thread + (round * 7 + n * 3) % 200);
                            let ids: Vec<i64> = ids.collect::<BTreeSet<_>>().into_iter().collect();
                            match round % 3 {
                                2 => drop(store.delete_keys(&keys(&ids)).unwrap()),
                                _ => {
                                    let new: Vec<_> = ids.iter().map(|id| row(*id, 1000 + round)).collect();
                                    store.upsert(&[batch(&new)]).unwrap();
                                }
                            }
                        }
                    })
                })
                .collect();
            let (store, old, expected, done) = (&store, &old, &expected, &done);
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    store.compact(&small(64)).unwrap();
                }
            });
            scope.spawn(move || {
                while !done.load(Ordering::Relaxed) {
                    assert_eq!(rows(old), *expected);
                    assert_eq!(rows(&store.snapshot_at(At::Version(first)).unwrap()), *expected);
                    let now = rows(&store.snapshot().unwrap());
                    assert_eq!(now.iter().map(|row| row.0).collect::<BTreeSet<_>>().len(), now.len());
                }
            });
            for writer in writers {
                writer.join().unwrap();
            }
            done.store(true, Ordering::Relaxed);
        });
        let mut model: std::collections::BTreeMap<i64, Row> = expected.into_iter().map(|row| (row.0, row)).collect();
        for thread in 0..2_i64 {
            for round in 0..15_i64 {
                for id in (0..20).map(|n| 200 * thread + (round * 7 + n * 3) % 200) {
                    match round % 3 {
                        2 => drop(model.remove(&id)),
                        _ => drop(model.insert(id, row(id, 1000 + round))),
                    }
                }
            }
        }
        assert_eq!(sorted(rows(&store.snapshot().unwrap())), model.into_values().collect::<Vec<_>>());
        assert_eq!(problems(&store), Vec::<String>::new());
    }
}

#[test]
fn rows_in_the_write_ahead_log_stay_there() {
    let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    for first in 0..4 {
        store.append(&[batch(&[row(first, first), row(10 + first, 1)])]).unwrap();
    }
    let mut options = soa_core::store::WriterOptions::default();
    options.publish_age = std::time::Duration::from_secs(3600);
    let writer = store.writer(options).unwrap();
    writer.add_batch(&batch(&[row(2, 77), row(100, 100)])).unwrap();
    writer.delete(&keys(&[11])).unwrap();
    let before = store.snapshot().unwrap();
    let expected = rows(&before);
    assert_eq!(store.compact(&CompactOptions::default()).unwrap().segments_removed, 4);
    let after = store.snapshot().unwrap();
    assert_eq!((rows(&before), rows(&after)), (expected.clone(), expected.clone()));
    assert_eq!((after.segments().len(), after.log_row_count()), (1, 2));
    writer.close().unwrap();
    assert_eq!(sorted(rows(&store.snapshot().unwrap())), sorted(expected));
}

#[test]
fn arrow_forms_are_kept_within_their_budget() {
    let (_dir, store) = store(Layout::PLAIN);
    for first in 0..4 {
        store.append(&[batch(&(0..1000).map(|id| row(first * 1000 + id, id)).collect::<Vec<_>>())]).unwrap();
    }
    let expected = rows(&store.snapshot().unwrap());
    let forms = || {
        let dir = std::fs::read_dir(store.path().join("_soa/arrow")).unwrap();
        dir.map(|entry| entry.unwrap().path()).collect::<BTreeSet<_>>()
    };
    let snapshot = store.snapshot().unwrap();
    let form = |at: usize| snapshot.segments()[at].files()[1].clone();
    let size = snapshot.segments()[0].arrow_bytes().unwrap();
    let options = small(1000);
    // Room for two: the newest keep theirs.
    store.set_arrow_bytes_max(Some(size * 5 / 2)).unwrap();
    let compacted = store.compact(&options).unwrap();
    assert_eq!((compacted.arrow_dropped, compacted.arrow_rebuilt), (2, 0));
    assert_eq!(forms(), BTreeSet::from([form(2), form(3)]));
    // One of them is lost and one is damaged: both come back, and no other.
    std::fs::remove_file(form(3)).unwrap();
    std::fs::write(form(2), "no Arrow file").unwrap();
    let compacted = store.compact(&options).unwrap();
    assert_eq!((compacted.arrow_dropped, compacted.arrow_rebuilt), (0, 2));
    assert_eq!(forms(), BTreeSet::from([form(2), form(3)]));
    assert_eq!(problems(&store), Vec::<String>::new());
    // A form without a good Parquet file behind it is all there is.
    let parquet = snapshot.segments()[2].files()[0].clone();
    let whole = std::fs::read(&parquet).unwrap();
    std::fs::write(&parquet, &whole[1..]).unwrap();
    store.set_arrow_bytes_max(Some(0)).unwrap();
    assert_eq!(store.compact(&options).unwrap().arrow_dropped, 1);
    assert_eq!(forms(), BTreeSet::from([form(2)]));
    std::fs::write(&parquet, &whole).unwrap();
    assert_eq!(store.compact(&options).unwrap().arrow_dropped, 1);
    // Without a budget all come back, and are read.
    store.set_arrow_bytes_max(None).unwrap();
    assert_eq!(store.compact(&options).unwrap().arrow_rebuilt, 4);
    let snapshot = store.snapshot().unwrap();
    assert!(snapshot.segments().iter().all(|segment| segment.form() == Form::Arrow));
    assert_eq!(rows(&snapshot), expected);
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn options_that_make_no_sense_are_refused() {
    let (_dir, store) = store(Layout::PLAIN);
    let mut share = CompactOptions::default();
    share.deleted_share_max = 1.5;
    for (options, says) in [(small(0), "not 0 at most"), (small(usize::MAX), "rows, not"), (share, "not 1.5")] {
        let error = store.compact(&options).unwrap_err().to_string();
        assert!(error.contains(says), "{error}");
    }
}
