//! Transactions: what they see, what others see, what is left of those that go back or fail.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use soa_core::predicate::{CompareOp, Predicate, Scalar};
use soa_core::scan::{Located, Part, ScanRequest};
use soa_core::schema::{DataType, Field, Schema};
use soa_core::store::{CompactOptions, Savepoint, Snapshot, Store, Transaction, WriterOptions};
use soa_core::{Error, Result};

use crate::edits::{Model, batch, rows, schema as store_schema, store};

const PARTS: [&str; 3] = ["a", "b", "c"];

fn add(transaction: &mut Transaction, rows: &[(i64, i64, &str)]) -> Result<u64> {
    let mut additions = transaction.additions()?;
    rows.chunks(7).try_for_each(|rows| additions.write(&batch(rows)))?;
    transaction.add(additions)
}

/// Deletes the rows of a snapshot whose values are below a bound; their keys.
fn delete_below(transaction: &mut Transaction, bound: i64) -> Result<Vec<i64>> {
    let seen = transaction.snapshot()?;
    let predicate = Some(Predicate::compare(1, CompareOp::Lt, Scalar::Int(bound.into())));
    let plan = seen.plan(&ScanRequest { columns: vec![0], predicate, limit: None })?;
    let mut keys = Vec::new();
    for unit in 0..plan.units().len() {
        let (found, located) = plan.read_located(unit)?;
        assert_eq!(found.num_rows(), located.numbers.len());
        keys.extend_from_slice(found.column(0).as_primitive::<Int64Type>().values());
        assert_eq!(transaction.delete(&seen, &located)?, located.numbers.len() as u64);
        assert_eq!(transaction.delete(&seen, &located)?, 0, "a row was deleted twice");
    }
    Ok(keys)
}

/// The files of a folder and of those in it, but for those that only help.
fn files(folder: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()) {
        match entry.is_dir() {
            true => found.extend(files(&entry)),
            false => found.push(entry.display().to_string()),
        }
    }
    found.sort();
    found
}

#[derive(Debug, Clone)]
enum Step {
    Add(Vec<(i64, i64, &'static str)>),
    /// Only those whose keys are new.
    AddNew(Vec<(i64, i64, &'static str)>),
    DeleteBelow(i64),
    Truncate,
    Save,
    Restore,
    /// Somebody else adds a row.
    Other(i64),
}

fn step() -> impl Strategy<Value = Step> {
    let rows = || prop::collection::vec((0..90_i64, 0..1000_i64, prop::sample::select(&PARTS[..])), 0..20);
    prop_oneof![
        6 => rows().prop_map(Step::Add),
        3 => rows().prop_map(Step::AddNew),
        3 => (0..1000_i64).prop_map(|bound| Step::DeleteBelow(bound / 3)),
        1 => Just(Step::Truncate),
        2 => Just(Step::Save),
        2 => Just(Step::Restore),
        1 => (1000..1020_i64).prop_map(Step::Other),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 96, ..ProptestConfig::default() })]

    /// What a transaction sees is what it has done to what was there, and what others have added; what others see is what was
    /// there until it is committed. Steps that would repeat a key fail, and change nothing.
    #[test]
    fn a_transaction_sees_itself(
        steps in prop::collection::vec(step(), 1..25),
        partitioned: bool,
        with_vectors: bool,
        commits: bool,
    ) {
        let (_dir, store) = store(partitioned, with_vectors);
        let there: Vec<(i64, i64, &str)> = (0..30).map(|id| (id * 3, id * 31 % 500, PARTS[id as usize % 3])).collect();
        store.append(&[batch(&there[..20])]).unwrap();
        store.append(&[batch(&there[20..])]).unwrap();
        let mut outside: Model = there.iter().map(|row| (row.0, (row.1, row.2.to_owned()))).collect();
        let files_before = files(store.path());
        let mut model = outside.clone();
        let mut transaction = store.transaction().unwrap();
        let mut saved: Vec<(Savepoint, Model, Model)> = Vec::new();
        let mut others = Model::new();
        for step in &steps {
            match step {
                Step::Add(new) => {
                    let mut changed = model.clone();
                    let fits = new.iter().all(|row| changed.insert(row.0, (row.1, row.2.to_owned())).is_none());
                    let added = add(&mut transaction, new);
                    prop_assert_eq!(added.is_ok(), fits, "{:?}", added);
                    if fits {
                        model = changed;
                    } else {
                        prop_assert!(matches!(added, Err(Error::DuplicateKey { .. })), "{:?}", added);
                    }
                }
                Step::AddNew(new) => {
                    let seen = transaction.snapshot().unwrap();
                    let mut additions = transaction.additions().unwrap();
                    for rows in new.chunks(7) {
                        let are_new = additions.write_new(&batch(rows), &seen).unwrap();
                        prop_assert_eq!(are_new.len(), rows.len());
                        for ((key, value, part), is_new) in rows.iter().zip(are_new) {
                            prop_assert_eq!(is_new, !model.contains_key(key));
                            model.entry(*key).or_insert_with(|| (*value, (*part).to_owned()));
                        }
                    }
                    transaction.add(additions).unwrap();
                }
                Step::DeleteBelow(bound) => {
                    let mut keys = delete_below(&mut transaction, *bound).unwrap();
                    keys.sort_unstable();
                    let gone = model.extract_if(.., |_, (value, _)| *value < *bound).map(|(key, _)| key);
                    prop_assert_eq!(keys, gone.collect::<Vec<_>>());
                }
                Step::Truncate => {
                    let seen = transaction.snapshot().unwrap();
                    transaction.truncate(&seen).unwrap();
                    model.clear();
                }
                Step::Save => saved.push((transaction.save(), model.clone(), others.clone())),
                Step::Restore => {
                    if let Some((savepoint, before, known)) = saved.pop() {
                        transaction.restore(savepoint);
                        model = before;
                        // What others have added since.
                        let since = others.iter().filter(|(key, _)| !known.contains_key(*key));
                        model.extend(since.map(|(key, row)| (*key, row.clone())));
                    }
                }
                Step::Other(key) => {
                    if !outside.contains_key(key) {
                        // A file with rows that the transaction deletes is not touched by it.
                        store.append(&[batch(&[(*key, 900, "c")])]).unwrap();
                        for model in [&mut outside, &mut model, &mut others] {
                            model.insert(*key, (900, "c".to_owned()));
                        }
                    }
                }
            }
            transaction.make_room().unwrap();
            prop_assert_eq!(&rows(&transaction.snapshot().unwrap()), &model);
            prop_assert_eq!(&rows(&store.snapshot().unwrap()), &outside);
        }
        if commits {
            transaction.commit().unwrap();
            prop_assert_eq!(&rows(&store.snapshot().unwrap()), &model);
            prop_assert!(store.verify().unwrap().problems.is_empty());
        } else {
            drop(transaction);
            prop_assert_eq!(&rows(&store.snapshot().unwrap()), &outside);
            if others.is_empty() {
                prop_assert_eq!(files(store.path()), files_before);
            }
        }
    }
}

#[test]
fn rows_that_others_change_are_no_longer_there_to_be_changed() {
    for with_vectors in [true, false] {
        let (_dir, store) = store(false, with_vectors);
        store.append(&[batch(&[(1, 10, "a"), (2, 20, "a"), (3, 30, "b")])]).unwrap();
        let delete = |bound: i64| {
            let mut transaction = store.transaction().unwrap();
            delete_below(&mut transaction, bound).unwrap();
            transaction
        };
        // The same row.
        let (first, second) = (delete(11), delete(21));
        first.commit().unwrap();
        assert!(matches!(second.snapshot(), Err(Error::RowsChanged { .. })));
        assert!(matches!(second.commit(), Err(Error::RowsChanged { .. })));
        assert_eq!(rows(&store.snapshot().unwrap()).len(), 2);
        // Rows that were moved.
        store.append(&[batch(&[(4, 40, "b")])]).unwrap();
        let third = delete(21);
        store.compact(&CompactOptions::default()).unwrap();
        let outcome = third.commit();
        assert!(matches!(outcome, Err(Error::RowsChanged { .. })), "{outcome:?}");
        assert_eq!(rows(&store.snapshot().unwrap()).len(), 3);
    }
}

#[test]
fn other_rows_of_a_segment_may_be_deleted_by_others() {
    let (_dir, store) = store(false, true);
    store.append(&[batch(&[(1, 10, "a"), (2, 20, "a"), (3, 30, "b")])]).unwrap();
    let mut transaction = store.transaction().unwrap();
    delete_below(&mut transaction, 11).unwrap();
    store.delete(&Predicate::eq(0, Scalar::Int(3))).unwrap();
    assert_eq!(rows(&transaction.snapshot().unwrap()).into_keys().collect::<Vec<_>>(), [2]);
    transaction.commit().unwrap();
    assert_eq!(rows(&store.snapshot().unwrap()).into_keys().collect::<Vec<_>>(), [2]);
}

#[test]
fn keys_that_others_add_are_found_when_it_is_committed() {
    let (_dir, store) = store(false, true);
    let mut first = store.transaction().unwrap();
    let mut second = store.transaction().unwrap();
    add(&mut first, &[(7, 1, "a")]).unwrap();
    add(&mut second, &[(8, 1, "a"), (7, 2, "a")]).unwrap();
    first.commit().unwrap();
    let before = files(store.path());
    let outcome = second.commit();
    assert!(matches!(&outcome, Err(Error::DuplicateKey { key, .. }) if key == "7"), "{outcome:?}");
    assert_eq!(files(store.path()), before);
    // A key that is deleted may be used again, by the same transaction.
    let mut third = store.transaction().unwrap();
    delete_below(&mut third, 100).unwrap();
    add(&mut third, &[(7, 3, "b")]).unwrap();
    third.commit().unwrap();
    assert_eq!(rows(&store.snapshot().unwrap()), Model::from([(7, (3, "b".to_owned()))]));
}

#[test]
fn a_transaction_without_changes_is_no_commit() {
    let (_dir, store) = store(false, true);
    store.append(&[batch(&[(1, 10, "a")])]).unwrap();
    let version = store.snapshot().unwrap().version();
    let mut transaction = store.transaction().unwrap();
    assert!(transaction.is_empty());
    let savepoint = transaction.save();
    add(&mut transaction, &[(2, 1, "a")]).unwrap();
    assert!(!transaction.is_empty());
    transaction.restore(savepoint);
    assert_eq!(add(&mut transaction, &[]).unwrap(), 0);
    let edited = transaction.commit().unwrap();
    assert_eq!((edited.version, edited.rows_added, edited.rows_deleted), (version, 0, 0));
    assert_eq!(store.snapshot().unwrap().version(), version);
}

fn wide(ids: std::ops::Range<i64>) -> RecordBatch {
    let texts: ArrayRef =
        Arc::new(arrow::array::StringArray::from_iter_values(ids.clone().map(|id| format!("{id:07}").repeat(150_000))));
    let ids: ArrayRef = Arc::new(ids.collect::<Int64Array>());
    RecordBatch::try_from_iter([("id", ids), ("text", texts)]).unwrap()
}

/// A statement of more bytes than are kept in memory, and statements that are together.
#[test]
fn many_bytes_are_written_before_they_are_committed() {
    let dir = tempfile::tempdir().unwrap();
    let fields = vec![Field::new("id", DataType::Int64), Field::new("text", DataType::Utf8)];
    let schema = Schema::new(fields).unwrap().with_key("id").unwrap();
    let store = Store::create(dir.path().join("wide.soa"), schema).unwrap();
    let ids = |snapshot: &Arc<Snapshot>| {
        let plan = snapshot.plan(&ScanRequest { columns: vec![0], ..Default::default() }).unwrap();
        let read = (0..plan.units().len()).flat_map(|unit| {
            let rows = plan.read(unit).unwrap();
            rows.column(0).as_primitive::<Int64Type>().values().to_vec()
        });
        let mut ids: Vec<i64> = read.collect();
        ids.sort_unstable();
        ids
    };
    let mut transaction = store.transaction().unwrap();
    let mut additions = transaction.additions().unwrap();
    (0..10).for_each(|part| additions.write(&wide(part * 9..part * 9 + 9)).unwrap());
    assert!(additions.write(&wide(3..4)).is_err());
    drop(additions);
    assert!(files(store.path()).iter().all(|file| !file.ends_with(".parquet")));

    let mut additions = transaction.additions().unwrap();
    (0..10).for_each(|part| additions.write(&wide(part * 9..part * 9 + 9)).unwrap());
    assert_eq!(transaction.add(additions).unwrap(), 90);
    let savepoint = transaction.save();
    for id in 90..170 {
        let mut additions = transaction.additions().unwrap();
        additions.write(&wide(id..id + 1)).unwrap();
        transaction.add(additions).unwrap();
        let seen = transaction.snapshot().unwrap();
        transaction.make_room().unwrap();
        if id % 40 == 0 {
            let plan = seen.plan(&ScanRequest::default()).unwrap();
            let own = plan.units().len() - 1;
            let (_, located) = plan.read_located(own).unwrap();
            // Where rows were before they were written is not where they are now.
            if located.part == Part::Own && transaction.snapshot().unwrap().segments().len() > seen.segments().len() {
                let moved = transaction.delete(&seen, &located);
                assert!(matches!(moved, Err(Error::RowsChanged { .. })), "{moved:?}");
            }
        }
    }
    assert_eq!(ids(&transaction.snapshot().unwrap()), (0..170).collect::<Vec<_>>());
    let segment = |numbers: std::ops::Range<u32>| Located { part: Part::Segment(0), numbers: numbers.collect() };
    assert_eq!(transaction.delete(&transaction.snapshot().unwrap(), &segment(5..6)).unwrap(), 1);
    transaction.restore(savepoint);
    assert_eq!(ids(&transaction.snapshot().unwrap()), (0..90).collect::<Vec<_>>());
    let seen = transaction.snapshot().unwrap();
    assert_eq!(transaction.delete(&seen, &segment(0..4)).unwrap(), 4);
    assert!(transaction.delete(&seen, &segment(0..1_000)).is_err());
    assert!(transaction.delete(&seen, &Located { part: Part::Segment(99), numbers: vec![0] }).is_err());
    let edited = transaction.commit().unwrap();
    assert_eq!((edited.rows_added, edited.rows_deleted), (86, 0));
    assert_eq!(ids(&store.snapshot().unwrap()), (4..90).collect::<Vec<_>>());
    assert!(store.verify().unwrap().problems.is_empty());
}

#[test]
fn columns_that_others_add_give_it_up() {
    let (_dir, store) = store(false, true);
    store.append(&[batch(&[(1, 10, "a")])]).unwrap();
    let mut adding = store.transaction().unwrap();
    add(&mut adding, &[(2, 1, "a")]).unwrap();
    let mut deleting = store.transaction().unwrap();
    delete_below(&mut deleting, 100).unwrap();
    let idle = store.transaction().unwrap();
    store.add_columns(&[Field::nullable("extra", DataType::Int64)]).unwrap();
    let before = files(store.path());
    for transaction in [adding, deleting] {
        assert!(matches!(transaction.snapshot(), Err(Error::RowsChanged { .. })));
        let outcome = transaction.commit();
        assert!(matches!(outcome, Err(Error::RowsChanged { .. })), "{outcome:?}");
    }
    assert_eq!(idle.snapshot().unwrap().row_count(), 1);
    idle.commit().unwrap();
    assert_eq!(files(store.path()), before);
}

/// Beside a write-ahead log that has an owner: rows that cannot meet those of the log are added, nothing else.
#[test]
fn beside_a_writer_rows_without_keys_are_added() {
    let dir = tempfile::tempdir().unwrap();
    let schema = |key: bool| {
        let schema = Schema::new(vec![Field::new("id", DataType::Int64)]).unwrap();
        if key { schema.with_key("id").unwrap() } else { schema }
    };
    let rows =
        |ids: Vec<i64>| RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(ids)) as ArrayRef)]).unwrap();
    for key in [false, true] {
        let store = Store::create(dir.path().join(format!("{key}.soa")), schema(key)).unwrap();
        store.append(&[rows(vec![1, 2])]).unwrap();
        let writer = store.writer(WriterOptions::default()).unwrap();
        let mut adding = store.transaction().unwrap();
        let mut additions = adding.additions().unwrap();
        additions.write(&rows(vec![3])).unwrap();
        adding.add(additions).unwrap();
        let outcome = adding.commit();
        assert_eq!(outcome.is_ok(), !key, "{outcome:?}");
        assert!(key || store.snapshot().unwrap().row_count() == 3);
        assert!(matches!(store.publish_log(), Err(Error::Owned { .. })));
        let mut deleting = store.transaction().unwrap();
        let seen = deleting.snapshot().unwrap();
        deleting.delete(&seen, &Located { part: Part::Segment(0), numbers: vec![0] }).unwrap();
        assert!(matches!(deleting.commit(), Err(Error::Owned { .. })));
        writer.close().unwrap();
    }
}

#[test]
fn another_store_in_its_place_is_not_changed() {
    let (_dir, store) = store(false, true);
    let mut transaction = store.transaction().unwrap();
    add(&mut transaction, &[(2, 1, "a")]).unwrap();
    fs::remove_dir_all(store.path()).unwrap();
    let other = Store::create(store.path(), store_schema()).unwrap();
    assert!(transaction.commit().is_err());
    assert_eq!(other.snapshot().unwrap().row_count(), 0);
}
