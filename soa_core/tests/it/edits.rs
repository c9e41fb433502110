//! Rows replaced and deleted, with deletion vectors and by rewriting files, against a map.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use soa_core::predicate::{CompareOp, Predicate, Scalar};
use soa_core::scan::ScanRequest;
use soa_core::schema::{DataType, Field, Schema};
use soa_core::store::{Snapshot, Store};
use soa_core::{ErrorKind, Result};
use tempfile::TempDir;

/// What a keyed store should hold: value and partition by key.
pub(crate) type Model = BTreeMap<i64, (i64, String)>;

pub(crate) fn schema() -> Schema {
    let fields = vec![
        Field::new("id", DataType::Int64),
        Field::new("value", DataType::Int64),
        Field::new("part", DataType::Utf8),
    ];
    Schema::new(fields).unwrap().with_key("id").unwrap()
}

pub(crate) fn batch(rows: &[(i64, i64, &str)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
    let values: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>());
    let parts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.2)));
    RecordBatch::try_from_iter([("id", ids), ("value", values), ("part", parts)]).unwrap()
}

pub(crate) fn rows(snapshot: &Arc<Snapshot>) -> Model {
    let plan = snapshot.plan(&ScanRequest { columns: vec![0, 1, 2], ..Default::default() }).unwrap();
    let mut found = Model::new();
    for (unit, planned) in plan.units().iter().enumerate() {
        let rows = plan.read(unit).unwrap();
        assert_eq!(rows.num_rows(), planned.row_count());
        let part = rows.column(2).as_string_view();
        for row in 0..rows.num_rows() {
            let number = |column: usize| rows.column(column).as_primitive::<Int64Type>().value(row);
            let twice = found.insert(number(0), (number(1), part.value(row).to_owned()));
            assert!(twice.is_none(), "key {} occurs twice", number(0));
        }
    }
    assert_eq!(snapshot.row_count(), found.len() as u64);
    found
}

pub(crate) fn store(partitioned: bool, with_vectors: bool) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let schema = if partitioned { schema().with_partition_by(&["part"]).unwrap() } else { schema() };
    let store = Store::create(dir.path().join("edits.soa"), schema).unwrap();
    store.set_deletion_vectors(with_vectors).unwrap();
    (dir, store)
}

#[derive(Debug, Clone)]
enum Step {
    Upsert(Vec<(i64, i64, &'static str)>),
    DeleteKeys(Vec<i64>),
    DeleteBelow(i64),
    DeletePart(&'static str),
}

fn step() -> impl Strategy<Value = Step> {
    let part = prop_oneof![Just("a"), Just("b"), Just("c")];
    let row = (0..60_i64, 0..1000_i64, part.clone());
    prop_oneof![
        4 => prop::collection::vec(row, 0..40).prop_map(Step::Upsert),
        2 => prop::collection::vec(0..60_i64, 0..20).prop_map(Step::DeleteKeys),
        1 => (0..1000_i64).prop_map(|value| Step::DeleteBelow(value / 4)),
        1 => part.prop_map(Step::DeletePart),
    ]
}

fn apply(store: &Store, step: &Step, model: &mut Model) -> Result<()> {
    let before = model.clone();
    let edited = match step {
        Step::Upsert(rows) => {
            let halves = rows.split_at(rows.len() / 2);
            let edited = store.upsert(&[batch(halves.0), batch(halves.1)])?;
            for (id, value, part) in rows {
                model.insert(*id, (*value, (*part).to_owned()));
            }
            let replaced = before.keys().filter(|id| rows.iter().any(|row| row.0 == **id)).count() as u64;
            assert_eq!(edited.rows_deleted, replaced);
            assert_eq!(edited.rows_added, model.len() as u64 - before.len() as u64 + replaced);
            return Ok(());
        }
        Step::DeleteKeys(keys) => {
            model.retain(|id, _| !keys.contains(id));
            store.delete_keys(&(Arc::new(Int64Array::from(keys.clone())) as ArrayRef))?
        }
        Step::DeleteBelow(bound) => {
            model.retain(|_, (value, _)| *value >= *bound);
            store.delete(&Predicate::compare(1, CompareOp::Lt, Scalar::Int((*bound).into())))?
        }
        Step::DeletePart(part) => {
            model.retain(|_, (_, known)| known != part);
            store.delete(&Predicate::eq(2, Scalar::Utf8((*part).to_owned())))?
        }
    };
    assert_eq!(edited.rows_deleted, (before.len() - model.len()) as u64);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]
    #[test]
    fn stores_hold_what_a_map_holds(
        steps in prop::collection::vec(step(), 1..12),
        partitioned in any::<bool>(),
        with_vectors in any::<bool>(),
    ) {
        let (_dir, store) = store(partitioned, with_vectors);
        let mut model = Model::new();
        let mut versions = Vec::new();
        for step in &steps {
            apply(&store, step, &mut model).unwrap();
            let snapshot = store.snapshot().unwrap();
            prop_assert_eq!(&rows(&snapshot), &model);
            versions.push((snapshot, model.clone()));
        }
        // Older snapshots still hold what they held, and can be had again.
        for (snapshot, model) in &versions {
            prop_assert_eq!(&rows(snapshot), model);
            let again = store.snapshot_at(soa_core::store::At::Version(snapshot.version())).unwrap();
            prop_assert_eq!(&rows(&again), model);
        }
        for id in -1..61 {
            let found = store.get(&Scalar::Int(id)).unwrap();
            let expected = i64::try_from(id).ok().and_then(|id| model.get(&id)).map(|(value, _)| *value);
            let values = found.column(1).as_primitive::<Int64Type>().iter().flatten().collect::<Vec<_>>();
            prop_assert_eq!(values, expected.into_iter().collect::<Vec<_>>());
        }
        prop_assert_eq!(store.verify().unwrap().problems, Vec::<String>::new());
        // This process has read the log commit by commit. Whoever reads all of it sees the same, in the same order.
        let copy = store.path().with_extension("copy");
        copy_folder(store.path(), &copy);
        let anew = Store::open(&copy).unwrap().snapshot().unwrap();
        let shape = |snapshot: &Snapshot| -> Vec<(String, u64, u64)> {
            let segments = snapshot.segments().iter();
            segments.map(|segment| (segment.path().to_owned(), segment.row_count(), segment.deleted_count())).collect()
        };
        prop_assert_eq!(shape(&anew), shape(&store.snapshot().unwrap()));
        prop_assert_eq!(&rows(&anew), &model);
    }
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy_folder(&entry.path(), &target),
            false => drop(std::fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn the_history_tells_rows_that_came_and_went() {
    let (_dir, store) = store(false, true);
    store.append(&[batch(&[(1, 1, "a"), (2, 2, "a"), (3, 3, "b")])]).unwrap();
    store.upsert(&[batch(&[(2, 20, "a"), (4, 4, "b"), (4, 5, "b")])]).unwrap();
    store.delete(&Predicate::eq(0, Scalar::Int(1))).unwrap();
    let last: Vec<_> = store.history().unwrap().into_iter().rev().take(3).collect();
    assert_eq!(last.iter().map(|commit| commit.operation.as_str()).collect::<Vec<_>>(), ["DELETE", "MERGE", "WRITE"]);
    assert_eq!(last.iter().map(|commit| commit.rows_added).collect::<Vec<_>>(), [Some(0), Some(2), Some(3)]);
    assert_eq!(last.iter().map(|commit| commit.rows_deleted).collect::<Vec<_>>(), [Some(1), Some(1), Some(0)]);
}

#[test]
fn no_file_is_rewritten_with_vectors_and_none_has_one_without() {
    let rows_of = |from: i64, to: i64| (from..to).map(|id| (id, id, "a")).collect::<Vec<_>>();
    for with_vectors in [true, false] {
        let (_dir, store) = store(false, with_vectors);
        store.append(&[batch(&rows_of(0, 1000))]).unwrap();
        let before: Vec<String> = store.snapshot().unwrap().segments().iter().map(|s| s.path().to_owned()).collect();
        store.upsert(&[batch(&rows_of(500, 510))]).unwrap();
        let snapshot = store.snapshot().unwrap();
        assert_eq!(snapshot.row_count(), 1000);
        let kept = snapshot.segments().iter().any(|segment| before.contains(&segment.path().to_owned()));
        assert_eq!(kept, with_vectors);
        let deleted: u64 = snapshot.segments().iter().map(|segment| segment.deleted_count()).sum();
        assert_eq!(deleted, if with_vectors { 10 } else { 0 });
    }
}

#[test]
fn appended_keys_may_be_those_of_deleted_rows_only() {
    let (_dir, store) = store(false, true);
    store.append(&[batch(&[(1, 1, "a"), (2, 2, "a")])]).unwrap();
    let taken = store.append(&[batch(&[(2, 3, "a")])]).unwrap_err();
    assert_eq!(taken.kind(), ErrorKind::DuplicateKey);
    assert!(taken.to_string().contains("key 2"), "{taken}");
    store.delete_keys(&(Arc::new(Int64Array::from(vec![2])) as ArrayRef)).unwrap();
    store.append(&[batch(&[(2, 3, "a")])]).unwrap();
    assert_eq!(rows(&store.snapshot().unwrap())[&2], (3, "a".to_owned()));
}

#[test]
fn edits_by_many_threads_leave_one_row_for_each_key() {
    let (_dir, store) = store(false, true);
    std::thread::scope(|scope| {
        for thread in 0..4_i64 {
            let store = store.clone();
            scope.spawn(move || {
                for round in 0..8_i64 {
                    let rows: Vec<_> = (0..50).map(|id| (id, thread * 100 + round, "a")).collect();
                    store.upsert(&[batch(&rows)]).unwrap();
                }
            });
        }
    });
    let found = rows(&store.snapshot().unwrap());
    assert_eq!(found.len(), 50);
    let last = &found[&0];
    // Each edit is one commit: all rows are of the same.
    assert!(found.values().all(|row| row == last), "{found:?}");
    assert_eq!(store.verify().unwrap().problems, Vec::<String>::new());
}

#[test]
fn a_store_without_key_deletes_by_predicate_only() {
    let dir = tempfile::tempdir().unwrap();
    let schema = Schema::new(vec![Field::new("id", DataType::Int64)]).unwrap();
    let store = Store::create(dir.path().join("plain.soa"), schema).unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..10));
    store.append(&[RecordBatch::try_from_iter([("id", Arc::clone(&ids))]).unwrap()]).unwrap();
    assert_eq!(store.delete_keys(&ids).unwrap_err().kind(), ErrorKind::InvalidInput);
    let edited = store.delete(&Predicate::compare(0, CompareOp::GtEq, Scalar::Int(4))).unwrap();
    assert_eq!((edited.rows_deleted, store.snapshot().unwrap().row_count()), (6, 4));
    let nothing = store.delete(&Predicate::eq(0, Scalar::Int(77))).unwrap();
    assert_eq!((nothing.rows_deleted, nothing.version), (0, edited.version));
    let all = store.delete(&Predicate::And(Vec::new())).unwrap();
    assert_eq!((all.rows_deleted, store.snapshot().unwrap().segments().len()), (4, 0));
}
