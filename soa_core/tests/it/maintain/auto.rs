//! Stores that are fed row by row look after themselves.

use std::fs;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use soa_core::store::{Store, WriterOptions};

use super::disk::{Call, Hooked};
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
fn a_damaged_segment_keeps_no_others_from_being_joined() {
    let (_dir, store) = store(Layout::PLAIN);
    store.set_auto_compact(false).unwrap();
    for id in 0..40 {
        store.append(&[batch(&[row(id, id)])]).unwrap();
    }
    let damaged = store.snapshot().unwrap().segments()[5].path().to_owned();
    for file in &store.snapshot().unwrap().segments()[5].files()[..2] {
        fs::write(file, "no longer what it was").unwrap();
    }
    store.set_auto_compact(true).unwrap();
    store.append(&[batch(&[row(40, 40)])]).unwrap();
    let snapshot = store.snapshot().unwrap();
    let counts: Vec<u64> = snapshot.segments().iter().map(|segment| segment.row_count()).collect();
    assert_eq!(counts, [1, 1, 1, 1, 1, 1, 35]);
    assert_eq!(snapshot.segments()[5].path(), damaged);
}

#[test]
fn segments_that_fill_memory_are_not_small() {
    let (_dir, store) = store(Layout::PLAIN);
    store.set_auto_compact(false).unwrap();
    for id in 0..16 {
        store.append(&[batch(&[row(id, id)])]).unwrap();
    }
    // As if each had rows of 400 MB that compress well.
    for segment in store.snapshot().unwrap().segments() {
        let form = segment.files()[1].clone();
        fs::remove_file(&form).unwrap();
        fs::File::create(&form).unwrap().set_len(400 << 20).unwrap();
    }
    store.set_auto_compact(true).unwrap();
    let add = |id: i64| {
        store.append(&[batch(&[row(id, id)])]).unwrap();
        store.snapshot().unwrap().segments().len()
    };
    assert_eq!(add(16), 17);
    // With others that fill less it is worth it.
    let joined: Vec<usize> = (17..40).map(add).collect();
    assert!(joined.iter().any(|count| *count < 16), "{joined:?}");
    assert_eq!(rows(&store.snapshot().unwrap()), (0..40).map(|id| row(id, id)).collect::<Vec<_>>());
}

#[test]
fn the_log_is_free_while_segments_are_joined() {
    for upsert in [false, true] {
        let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
        // From now on there is a log.
        store.writer(WriterOptions::default()).unwrap().close().unwrap();
        let disk = Hooked::default();
        let fed = Store::open_on(Arc::new(disk.clone()), store.path()).unwrap();
        let (commits, opened) = (Arc::new(AtomicUsize::new(0)), Arc::new(Mutex::new(None)));
        disk.set({
            let (store, commits, opened) = (store.clone(), Arc::clone(&commits), Arc::clone(&opened));
            move |call, path| {
                let is_commit = path.extension().is_some_and(|extension| extension == "json");
                if call == Call::Link && is_commit && commits.fetch_add(1, Ordering::Relaxed) == 16 {
                    let writer = store.writer(WriterOptions::default()).and_then(|writer| writer.close());
                    *opened.lock().unwrap() = Some(writer.map(drop).map_err(|error| error.to_string()));
                }
                Ok(())
            }
        });
        for id in 0..16 {
            match upsert {
                true => drop(fed.upsert(&[batch(&[row(id, id)])]).unwrap()),
                false => drop(fed.append(&[batch(&[row(id, id)])]).unwrap()),
            }
        }
        // The last commit was that of all in one segment.
        assert_eq!(store.snapshot().unwrap().segments().len(), 1);
        assert_eq!(*opened.lock().unwrap(), Some(Ok(())), "upsert: {upsert}");
    }
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
