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

const INSIDE: &str = "SOA_TEST_CLONE_INSIDE";

/// Run by the next test in a process of its own, which is in the folder of the store.
#[test]
#[ignore = "part of another test"]
fn a_clone_into_the_folder_that_this_process_is_in() {
    let Some(path) = std::env::var_os(INSIDE) else { return };
    let store = soa_core::store::Store::open(path).unwrap();
    let error = store.clone_to("inside.soa").unwrap_err();
    assert_eq!(
        (error.kind(), error.to_string().contains("inside the store")),
        (ErrorKind::InvalidInput, true),
        "{error}"
    );
}

#[test]
fn a_relative_path_may_be_inside_as_well() {
    let (_dir, store) = store(Layout::PLAIN);
    store.append(&[batch(&[row(1, 1)])]).unwrap();
    let child = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["maintain::clone::a_clone_into_the_folder_that_this_process_is_in", "--exact", "--ignored"])
        .current_dir(store.path())
        .env(INSIDE, store.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&child.stdout);
    assert!(child.status.success() && said.contains("1 passed"), "{said}");
    assert!(!store.path().join("inside.soa").exists());
}

#[test]
fn what_is_left_of_a_copy_is_named() {
    let (dir, store) = store(Layout::PLAIN);
    store.append(&[batch(&[row(1, 1)])]).unwrap();
    let to = dir.path().join("clone.soa");
    // As a process leaves it that was killed.
    fs::create_dir_all(to.join("_delta_log")).unwrap();
    let file = store.snapshot().unwrap().segments()[0].files()[0].clone();
    let left = to.join(file.file_name().unwrap());
    fs::copy(&file, &left).unwrap();
    let text = store.clone_to(&to).unwrap_err().to_string();
    assert!(text.contains("clone.soa") && text.contains("interrupted") && text.contains("part-"), "{text}");
    assert!(left.exists());
    fs::remove_dir_all(&to).unwrap();
    assert_eq!(rows(&store.clone_to(&to).unwrap().snapshot().unwrap()), [row(1, 1)]);
}

#[test]
fn rules_that_are_not_known_are_not_copied() {
    let (dir, store) = store(Layout::PLAIN);
    store.append(&[batch(&[row(1, 1)])]).unwrap();
    let store = super::rewritten(store, |_, actions| {
        for metadata in actions.iter_mut().filter_map(|action| action.get_mut("metaData")) {
            let mut schema: serde_json::Value =
                serde_json::from_str(metadata["schemaString"].as_str().unwrap()).unwrap();
            let rule = r#"{"expression":{"expression":"value > 0"}}"#;
            schema["fields"][1]["metadata"]["delta.invariants"] = rule.into();
            metadata["schemaString"] = schema.to_string().into();
        }
    });
    let error = store.clone_to(dir.path().join("clone.soa")).unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("a constraint"), "{error}");
    assert!(!dir.path().join("clone.soa").exists());
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
