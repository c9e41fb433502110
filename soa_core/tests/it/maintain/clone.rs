//! A clone has the rows of the moment, and a life of its own.

use std::collections::BTreeSet;
use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use proptest::prelude::*;
use soa_core::ErrorKind;
use soa_core::store::{CompactOptions, Durability, WriterOptions};

use super::{Layout, Row, batch, keys, problems, row, rows, sorted, store};

fn lazy() -> WriterOptions {
    let mut options = WriterOptions::default();
    options.publish_age = Duration::from_secs(3600);
    options.durability = Durability::Buffered;
    options
}

#[derive(Debug, Clone)]
enum Step {
    Upsert(Vec<(i64, i64)>),
    Delete(Vec<i64>),
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec((0..100_i64, 0..1000_i64), 1..40).prop_map(Step::Upsert),
        3 => prop::collection::vec(0..100_i64, 1..80).prop_map(Step::Delete),
        1 => Just(Step::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    #[test]
    fn a_clone_has_the_same_rows(
        layout in Layout::any(),
        published in prop::collection::vec(step(), 0..8),
        logged in prop::collection::vec(step(), 0..6),
    ) {
        let (dir, store) = store(Layout { keyed: true, ..layout });
        for step in &published {
            match step {
                Step::Upsert(given) => {
                    let given: Vec<Row> = given.iter().map(|(id, value)| row(*id, *value)).collect();
                    store.upsert(&[batch(&given)]).unwrap();
                }
                Step::Delete(ids) => drop(store.delete_keys(&keys(ids)).unwrap()),
                Step::Compact => drop(store.compact(&CompactOptions::default()).unwrap()),
            }
        }
        let writer = store.writer(lazy()).unwrap();
        for step in &logged {
            match step {
                Step::Upsert(given) => {
                    let given: Vec<Row> = given.iter().map(|(id, value)| row(*id, *value)).collect();
                    writer.add_batch(&batch(&given)).unwrap();
                }
                Step::Delete(ids) => writer.delete(&keys(ids)).unwrap(),
                Step::Compact => drop(store.compact(&CompactOptions::default()).unwrap()),
            }
        }
        let before = store.snapshot().unwrap();
        let expected = rows(&before);
        let clone = store.clone_to(dir.path().join("clone.soa")).unwrap();
        let cloned = clone.snapshot().unwrap();
        prop_assert_eq!(sorted(rows(&cloned)), sorted(expected.clone()));
        if !layout.sorted && !layout.partitioned {
            prop_assert_eq!(&rows(&cloned), &expected);
        }
        prop_assert_eq!((cloned.version(), cloned.log_row_count()), (0, 0));
        prop_assert_eq!(problems(&clone), Vec::<String>::new());
        // What happens to one does not happen to the other.
        let other = clone.writer(lazy()).unwrap();
        other.add_batch(&batch(&[row(1000, 1)])).unwrap();
        other.close().unwrap();
        clone.delete_keys(&keys(&[0, 1, 2])).unwrap();
        prop_assert_eq!(&rows(&store.snapshot().unwrap()), &expected);
        writer.close().unwrap();
        fs::remove_dir_all(store.path()).unwrap();
        let mut expected: Vec<Row> = expected.into_iter().filter(|row| row.0 > 2).collect();
        expected.push(row(1000, 1));
        prop_assert_eq!(sorted(rows(&clone.snapshot().unwrap())), sorted(expected));
        prop_assert_eq!(problems(&clone), Vec::<String>::new());
    }
}

#[test]
fn clones_of_a_store_in_use_are_of_one_moment() {
    let (dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let (store, done) = (&store, &done);
        scope.spawn(move || {
            let writer = store.writer(lazy()).unwrap();
            for round in 0..200 {
                // All of one round, or none.
                writer.add_batch(&batch(&(0..10).map(|id| row(id, round)).collect::<Vec<_>>())).unwrap();
                if round % 10 == 9 {
                    writer.flush().unwrap();
                }
            }
            writer.close().unwrap();
            done.store(true, Ordering::Relaxed);
        });
        let mut count = 0;
        while !done.load(Ordering::Relaxed) || count == 0 {
            let clone = store.clone_to(dir.path().join(format!("clone {count}.soa"))).unwrap();
            let found = rows(&clone.snapshot().unwrap());
            assert!(found.iter().map(|row| row.1).collect::<BTreeSet<_>>().len() <= 1, "{found:?}");
            assert!(found.is_empty() || found.len() == 10, "{found:?}");
            assert_eq!(problems(&clone), Vec::<String>::new());
            count += 1;
        }
    });
}

#[test]
fn a_clone_that_cannot_be_leaves_nothing() {
    let (dir, store) = store(Layout { partitioned: true, ..Layout::PLAIN });
    store.append(&[batch(&(0..20).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    store.append(&[batch(&(20..40).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    let inside = store.clone_to(store.path().join("inside.soa")).unwrap_err();
    assert_eq!((inside.kind(), inside.to_string().contains("inside")), (ErrorKind::InvalidInput, true));
    assert_eq!(store.clone_to(store.path()).unwrap_err().kind(), ErrorKind::InvalidInput);
    let clone = store.clone_to(dir.path().join("clone.soa")).unwrap();
    let again = store.clone_to(clone.path()).unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
    assert_eq!(problems(&clone), Vec::<String>::new());
    // The last file is missing.
    fs::remove_file(&store.snapshot().unwrap().segments()[3].files()[0]).unwrap();
    let failed = store.clone_to(dir.path().join("failed.soa")).unwrap_err();
    assert_eq!(failed.kind(), ErrorKind::Io);
    assert!(!dir.path().join("failed.soa").exists());
}
