//! Stores that are fed row by row look after themselves.

use std::fs;

use soa_core::store::{Store, WriterOptions};

use super::{Layout, batch, keys, problems, row, rows, sorted, store};

/// How many rows were written into segments, by operation: those that came, and those that were there.
fn rows_written(store: &Store) -> (u64, u64) {
    let (mut new, mut again) = (0, 0);
    for commit in store.history().unwrap() {
        let text = fs::read_to_string(store.path().join(format!("_delta_log/{:020}.json", commit.version))).unwrap();
        let actions = text.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let stats = actions.filter_map(|action| Some(action.get("add")?.get("stats")?.as_str()?.to_owned()));
        let rows: u64 = stats
            .map(|stats| serde_json::from_str::<serde_json::Value>(&stats).unwrap()["numRecords"].as_u64().unwrap())
            .sum();
        match commit.operation.as_str() {
            "WRITE" => new += rows,
            "OPTIMIZE" => again += rows,
            other => assert!(["CREATE TABLE", "SET TBLPROPERTIES"].contains(&other), "{other}"),
        }
    }
    (new, again)
}

#[test]
fn single_rows_do_not_end_in_thousands_of_files() {
    let (_dir, store) = store(Layout::PLAIN);
    for id in 0..600 {
        store.append(&[batch(&[row(id, id)])]).unwrap();
    }
    let snapshot = store.snapshot().unwrap();
    assert_eq!(rows(&snapshot), (0..600).map(|id| row(id, id)).collect::<Vec<_>>());
    // 15 of each size at most: of single rows, of 16 and of 256.
    assert!(snapshot.segments().len() <= 3 * 15, "{}", snapshot.segments().len());
    let (new, again) = rows_written(&store);
    println!("600 rows, each in a commit: {} segments, {again} rows written anew", snapshot.segments().len());
    assert_eq!(new, 600);
    assert!(again <= 2 * 600, "{again} rows were written anew");
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn rows_of_irregular_commits_are_joined_too() {
    let (_dir, store) = store(Layout { partitioned: true, ..Layout::PLAIN });
    let (mut id, mut seed) = (0, 1_u64);
    for _ in 0..300 {
        // A simple generator's numbers are irregular enough.
        seed = seed.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
        let count = [1, 2, 30, 300][(seed >> 33) as usize % 4];
        store.append(&[batch(&(id..id + count).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
        id += count;
    }
    let snapshot = store.snapshot().unwrap();
    assert_eq!(sorted(rows(&snapshot)), (0..id).map(|id| row(id, id)).collect::<Vec<_>>());
    assert!(snapshot.segments().len() <= 2 * 4 * 15, "{}", snapshot.segments().len());
    let (new, again) = rows_written(&store);
    println!("{new} rows in 300 commits: {} segments, {again} rows written anew", snapshot.segments().len());
    assert!(again <= 4 * new, "{again} rows were written anew, {new} came");
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn a_property_switches_it_off() {
    let (_dir, store) = store(Layout::PLAIN);
    store.set_auto_compact(false).unwrap();
    for id in 0..40 {
        store.append(&[batch(&[row(id, id)])]).unwrap();
    }
    assert_eq!(store.snapshot().unwrap().segments().len(), 40);
    store.set_auto_compact(true).unwrap();
    store.append(&[batch(&[row(40, 40)])]).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!((snapshot.segments().len(), snapshot.row_count()), (1, 41));
}

#[test]
fn the_publisher_joins_what_it_has_published() {
    let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    let writer = store.writer(WriterOptions::default()).unwrap();
    for id in 0..100 {
        writer.add_batch(&batch(&[row(id, id), row(id / 2, 1000 + id)])).unwrap();
        writer.flush().unwrap();
    }
    writer.delete(&keys(&[99])).unwrap();
    let before = sorted(rows(&store.snapshot().unwrap()));
    writer.close().unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(sorted(rows(&snapshot)), before);
    let expected = (0..99).map(|id| if id < 50 { row(id, 1001 + 2 * id) } else { row(id, id) });
    assert_eq!(before, expected.collect::<Vec<_>>());
    assert!(snapshot.segments().len() <= 3 * 15, "{}", snapshot.segments().len());
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn forms_over_the_budget_go_with_each_commit() {
    let (_dir, store) = store(Layout::PLAIN);
    store.set_auto_compact(false).unwrap();
    let add = |first: i64| {
        store.append(&[batch(&(first..first + 500).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    };
    add(0);
    let size = store.snapshot().unwrap().segments()[0].arrow_bytes().unwrap();
    store.set_arrow_bytes_max(Some(2 * size + size / 2)).unwrap();
    (1..5).for_each(|n| add(500 * n));
    let snapshot = store.snapshot().unwrap();
    let there: Vec<bool> = snapshot.segments().iter().map(|segment| segment.files()[1].exists()).collect();
    assert_eq!(there, [false, false, false, true, true]);
    assert_eq!(rows(&snapshot), (0..2500).map(|id| row(id, id)).collect::<Vec<_>>());
    assert_eq!(problems(&store), Vec::<String>::new());
}
