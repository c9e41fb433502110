//! A restored version has the rows of the old one.

use std::time::Duration;

use proptest::prelude::*;
use soa_core::ErrorKind;
use soa_core::store::{At, CompactOptions, VacuumOptions, WriterOptions};

use super::{Layout, Row, batch, below, keys, problems, row, rows, sorted, store};

#[derive(Debug, Clone)]
enum Step {
    Upsert(Vec<(i64, i64)>),
    Delete(Vec<i64>),
    DeleteBelow(i64),
    Compact,
    Restore(f64),
    SwitchVectors(bool),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec((0..100_i64, 0..1000_i64), 1..40).prop_map(Step::Upsert),
        3 => prop::collection::vec(0..100_i64, 1..30).prop_map(Step::Delete),
        1 => (0..400_i64).prop_map(Step::DeleteBelow),
        1 => Just(Step::Compact),
        3 => (0.0..1.0_f64).prop_map(Step::Restore),
        1 => any::<bool>().prop_map(Step::SwitchVectors),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn any_version_can_be_had_again(layout in Layout::any(), steps in prop::collection::vec(step(), 2..16)) {
        let (_dir, store) = store(Layout { keyed: true, ..layout });
        let mut versions: Vec<(u64, Vec<Row>)> = vec![(0, Vec::new())];
        let mut with_vectors = layout.with_vectors;
        for step in &steps {
            match step {
                Step::Upsert(given) => {
                    let given: Vec<Row> = given.iter().map(|(id, value)| row(*id, *value)).collect();
                    store.upsert(&[batch(&given)]).unwrap();
                }
                Step::Delete(ids) => drop(store.delete_keys(&keys(ids)).unwrap()),
                Step::DeleteBelow(value) => drop(store.delete(&below(*value)).unwrap()),
                Step::Compact => drop(store.compact(&CompactOptions::default()).unwrap()),
                Step::SwitchVectors(enabled) => {
                    with_vectors = *enabled;
                    store.set_deletion_vectors(*enabled).unwrap();
                }
                Step::Restore(share) => {
                    let (version, expected) = &versions[(versions.len() as f64 * share) as usize];
                    let before = store.snapshot().unwrap();
                    let vectors_before = before.segments().iter().any(|segment| segment.deleted_count() > 0);
                    let restored = store.restore(At::Version(*version)).unwrap();
                    let after = store.snapshot().unwrap();
                    prop_assert_eq!(&rows(&after), expected);
                    prop_assert_eq!(restored.version, after.version());
                    prop_assert_eq!(before.row_count() + restored.rows_added - restored.rows_deleted, after.row_count());
                    if !with_vectors && !vectors_before {
                        prop_assert!(after.segments().iter().all(|segment| segment.deleted_count() == 0));
                    }
                    if with_vectors {
                        // Once more: it is there already.
                        prop_assert_eq!(store.restore(At::Version(*version)).unwrap().version, restored.version);
                    }
                }
            }
            let snapshot = store.snapshot().unwrap();
            versions.push((snapshot.version(), rows(&snapshot)));
        }
        for (version, expected) in &versions {
            prop_assert_eq!(&rows(&store.snapshot_at(At::Version(*version)).unwrap()), expected);
        }
        prop_assert_eq!(problems(&store), Vec::<String>::new());
    }
}

#[test]
fn a_version_whose_files_are_gone_is_named_with_the_file() {
    let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    let first = store.append(&[batch(&(0..10).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    let file = store.snapshot().unwrap().segments()[0].path().to_owned();
    store.delete(&below(1000)).unwrap();
    store.upsert(&[batch(&[row(1, 1)])]).unwrap();
    let mut options = VacuumOptions::default();
    (options.retention, options.force) = (Duration::ZERO, true);
    store.vacuum(&options).unwrap();
    let error = store.restore(At::Version(first)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    let text = error.to_string();
    assert!(text.contains(&file) && text.contains("vacuum") && text.contains(&format!("version {first}")), "{text}");
    assert_eq!(rows(&store.snapshot().unwrap()), [row(1, 1)]);
}

#[test]
fn rows_of_the_log_go_before_and_its_owner_keeps_it() {
    let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    let version = store.append(&[batch(&[row(1, 1), row(2, 2)])]).unwrap();
    let writer = store.writer(WriterOptions::default()).unwrap();
    writer.add_batch(&batch(&[row(2, 20), row(3, 30)])).unwrap();
    assert!(matches!(store.restore(At::Version(version)), Err(soa_core::Error::Owned { .. })));
    writer.close().unwrap();
    store.restore(At::Version(version)).unwrap();
    assert_eq!(sorted(rows(&store.snapshot().unwrap())), [row(1, 1), row(2, 2)]);
    // The log goes on where it was.
    let writer = store.writer(WriterOptions::default()).unwrap();
    writer.add_batch(&batch(&[row(4, 4)])).unwrap();
    writer.close().unwrap();
    assert_eq!(sorted(rows(&store.snapshot().unwrap())), [row(1, 1), row(2, 2), row(4, 4)]);
    let last = store.history().unwrap();
    assert!(last.iter().any(|commit| commit.operation == "RESTORE" && commit.rows_deleted == Some(2)));
}
