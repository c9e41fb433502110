//! The store on disk: what is appended is there, as of every version, in both forms, and nothing else.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use proptest::prelude::*;
use soa_core::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeBinaryArray, Float64Array, Int64Array, RecordBatch, StringViewArray, UInt64Array,
};
use soa_core::arrow::datatypes::{Int64Type, UInt64Type};
use soa_core::predicate::{CompareOp, Predicate, Scalar};
use soa_core::scan::ScanRequest;
use soa_core::schema::{DataType, Field, Schema};
use soa_core::store::{At, Form, Layout, Loader, Snapshot, Store, UNIT_ROWS};
use soa_core::{Error, ErrorKind};
use tempfile::TempDir;

fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.soa");
    (dir, path)
}

fn schema() -> Schema {
    Schema::new(vec![
        Field::new("id", DataType::UInt64),
        Field::nullable("city", DataType::Utf8),
        Field::nullable("heat", DataType::Float64),
    ])
    .unwrap()
}

fn rows(ids: impl IntoIterator<Item = u64>) -> RecordBatch {
    let ids: Vec<u64> = ids.into_iter().collect();
    let cities =
        ids.iter().map(|id| (id % 5 != 4).then(|| ["Ulm", "Köln", "Bonn", "Aachen am Ende"][(id % 4) as usize]));
    let heat = ids.iter().map(|id| (id % 7 != 0).then_some(*id as f64 / 8.0));
    RecordBatch::try_from_iter([
        ("id", Arc::new(UInt64Array::from(ids.clone())) as ArrayRef),
        ("city", Arc::new(cities.collect::<StringViewArray>()) as ArrayRef),
        ("heat", Arc::new(heat.collect::<Float64Array>()) as ArrayRef),
    ])
    .unwrap()
}

fn ids_of(snapshot: &Arc<Snapshot>, predicate: Option<Predicate>) -> Vec<u64> {
    let plan = snapshot.plan(&ScanRequest { columns: vec![0], predicate, limit: None }).unwrap();
    let read = |unit| plan.read_filtered(unit).unwrap();
    (0..plan.units().len())
        .flat_map(|unit| read(unit).column(0).as_primitive::<UInt64Type>().values().to_vec())
        .collect()
}

fn files(dir: &Path) -> BTreeSet<PathBuf> {
    let mut found = BTreeSet::new();
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        }
        found.insert(path);
    }
    found
}

#[test]
fn a_store_is_made_with_its_rows_or_not_at_all() {
    let (dir, path) = folder();
    let keyed = || schema().with_key("id").unwrap().with_partition_by(&["city"]).unwrap();
    // Nothing is left of one that is given up, or gets a key twice.
    let mut creator = Store::creator(&path, keyed()).unwrap();
    creator.write(&rows(0..100)).unwrap();
    assert!(matches!(Store::open(&path), Err(Error::NotAStore { .. })));
    let error = creator.write(&rows(99..101)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::DuplicateKey, "{error}");
    drop(creator);
    assert_eq!(files(dir.path()), BTreeSet::new());
    // Two at once: the second one is told, and takes its files away, not those of the first.
    let mut first = Store::creator(&path, keyed()).unwrap();
    let mut second = Store::creator(&path, keyed()).unwrap();
    first.write(&rows(0..10)).unwrap();
    first.write(&rows(10..20)).unwrap();
    second.write(&rows(20..30)).unwrap();
    assert_eq!((first.row_count(), first.schema()), (20, &keyed()));
    let store = first.commit().unwrap();
    let before = files(&path);
    assert!(matches!(second.commit(), Err(Error::AlreadyExists { .. })));
    assert_eq!(files(&path), before);
    assert!(matches!(Store::creator(&path, keyed()), Err(Error::AlreadyExists { .. })));
    let snapshot = store.snapshot().unwrap();
    let mut ids = ids_of(&snapshot, None);
    ids.sort_unstable();
    assert_eq!((snapshot.version(), ids), (0, (0..20).collect()));
    let commits = store.history().unwrap();
    assert_eq!(
        (commits.len(), commits[0].operation.as_str(), commits[0].rows_added),
        (1, "CREATE TABLE AS SELECT", Some(20))
    );
    assert_eq!(store.get(&Scalar::Int(7)).unwrap().num_rows(), 1);
    assert!(store.verify().unwrap().problems.is_empty());
    assert_eq!(store.append(&[rows(20..25)]).unwrap(), 1);
}

#[test]
fn a_loader_makes_what_is_not_there_and_adds_to_what_is() {
    let (_dir, path) = folder();
    let text = |columns: &[&str]| columns.iter().map(|&column| column.to_owned()).collect::<Vec<_>>();
    let layout = Layout { key: Some("id".into()), partition_by: vec![], sort_by: text(&["heat", "id"]) };
    let mut fields = schema().fields().to_vec();
    fields[0] = fields[0].clone().with_nullable(true);
    for version in 0..3 {
        let layout = if version == 1 { Layout::default() } else { layout.clone() };
        let mut loader = Loader::new(&path, &layout, fields.clone()).unwrap();
        loader.write(&rows(version * 10..version * 10 + 10)).unwrap();
        assert_eq!((loader.row_count(), loader.schema().key(), loader.commit().unwrap()), (10, Some(0), version));
    }
    assert_eq!(ids_of(&Store::open(&path).unwrap().snapshot().unwrap(), None).len(), 30);
    for (layout, says) in [
        (Layout { key: Some("city".into()), ..Layout::default() }, "the key city does not fit"),
        (Layout { partition_by: text(&["city"]), ..Layout::default() }, "which has none"),
        (Layout { sort_by: text(&["id"]), ..Layout::default() }, "heat, id; leave it out"),
    ] {
        let error = Loader::new(&path, &layout, fields.clone()).unwrap_err();
        assert!(error.to_string().contains(says), "{error}");
    }
}

#[test]
fn every_version_stays_what_it_was() {
    let (_dir, path) = folder();
    let store = Store::create(&path, schema()).unwrap();
    assert_eq!(store.append(&[rows(0..10)]).unwrap(), 1);
    let held = store.snapshot().unwrap();
    let between = store.history().unwrap()[1].timestamp_ms * 1000;
    std::thread::sleep(std::time::Duration::from_millis(5));
    assert_eq!(store.append(&[rows(10..20), rows(20..30)]).unwrap(), 2);
    assert_eq!(ids_of(&held, None), (0..10).collect::<Vec<_>>());
    assert_eq!(ids_of(&store.snapshot().unwrap(), None), (0..30).collect::<Vec<_>>());
    for (at, count) in [(At::Version(0), 0), (At::Version(1), 10), (At::Version(2), 30), (At::Timestamp(between), 10)] {
        assert_eq!(store.snapshot_at(at).unwrap().row_count(), count, "{at:?}");
    }
    let error = store.snapshot_at(At::Version(3)).unwrap_err();
    assert!(error.to_string().contains("version 3") && error.to_string().contains("newest is 2"), "{error}");
    assert!(matches!(store.snapshot_at(At::Timestamp(0)), Err(Error::NoSuchVersion { .. })));
    let history = store.history().unwrap();
    assert_eq!(history.iter().map(|commit| commit.rows_added).collect::<Vec<_>>(), [Some(0), Some(10), Some(20)]);
    assert!(store.verify().unwrap().is_ok());
}

#[test]
fn an_empty_append_commits_nothing_and_a_dropped_one_leaves_no_trace() {
    let (_dir, path) = folder();
    let schema = schema().with_partition_by(&["city"]).unwrap();
    let store = Store::create(&path, schema).unwrap();
    assert_eq!(store.append(&[]).unwrap(), 0);
    assert_eq!(store.append(&[rows([])]).unwrap(), 0);
    store.append(&[rows([0])]).unwrap();
    let before = files(&path);
    let mut appender = store.appender().unwrap();
    for start in 0..17 {
        appender.write(&rows(start * UNIT_ROWS as u64..(start + 1) * UNIT_ROWS as u64)).unwrap();
    }
    drop(appender);
    assert_eq!(files(&path), before);
}

#[test]
fn both_forms_give_the_same_rows() {
    let (_dir, path) = folder();
    let store = Store::create(&path, schema()).unwrap();
    let count = UNIT_ROWS as u64 * 2 + 5;
    store.append(&[rows(0..count)]).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.segments()[0].form(), Form::Arrow);
    let request = ScanRequest { columns: vec![2, 0, 1], ..Default::default() };
    let read = |snapshot: &Arc<Snapshot>| -> Vec<RecordBatch> {
        let plan = snapshot.plan(&request).unwrap();
        (0..plan.units().len()).map(|unit| plan.read(unit).unwrap()).collect()
    };
    let from_arrow = read(&snapshot);
    assert_eq!(from_arrow.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [UNIT_ROWS, UNIT_ROWS, 5]);

    // The same folder without its Arrow forms is another store, so nothing of it is open yet.
    let copy = path.with_file_name("parquet.soa");
    copy_folder(&path, &copy);
    std::fs::remove_dir_all(copy.join("_soa")).unwrap();
    let parquet_only = Store::open(&copy).unwrap().snapshot().unwrap();
    assert_eq!(parquet_only.segments()[0].form(), Form::Parquet);
    assert_eq!(read(&parquet_only), from_arrow);
}

fn copy_folder(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_folder(&path, &target);
        } else {
            std::fs::copy(&path, &target).unwrap();
        }
    }
}

#[test]
fn a_damaged_arrow_form_is_read_around_and_found() {
    let (_dir, path) = folder();
    Store::create(&path, schema()).unwrap().append(&[rows(0..1000)]).unwrap();
    let arrow =
        files(&path.join("_soa")).into_iter().find(|file| file.extension().is_some_and(|e| e == "arrow")).unwrap();
    let whole = std::fs::read(&arrow).unwrap();
    for (name, at) in [("first", 64), ("middle", whole.len() / 2), ("last", whole.len() - 12)] {
        let copy = path.with_file_name(format!("{name}.soa"));
        copy_folder(&path, &copy);
        let mut damaged = whole.clone();
        damaged[at] ^= 4;
        std::fs::write(copy.join(arrow.strip_prefix(&path).unwrap()), &damaged).unwrap();
        let store = Store::open(&copy).unwrap();
        assert_eq!(ids_of(&store.snapshot().unwrap(), None), (0..1000).collect::<Vec<_>>(), "{name}");
    }
    // In the first column's values, where nothing but the checksum can tell.
    let copy = path.with_file_name("value.soa");
    copy_folder(&path, &copy);
    let value = whole.windows(8).position(|bytes| bytes == 500_u64.to_le_bytes()).unwrap();
    let mut damaged = whole.clone();
    damaged[value] ^= 1;
    std::fs::write(copy.join(arrow.strip_prefix(&path).unwrap()), &damaged).unwrap();
    let store = Store::open(&copy).unwrap();
    assert_eq!(ids_of(&store.snapshot().unwrap(), None), (0..1000).collect::<Vec<_>>());
    let report = store.verify().unwrap();
    assert!(
        report.problems.iter().any(|problem| problem.contains(".arrow") && problem.contains("\"id\"")),
        "{report:?}"
    );
}

#[test]
fn a_key_is_taken_once() {
    let (_dir, path) = folder();
    let store = Store::create(&path, schema().with_key("id").unwrap()).unwrap();
    store.append(&[rows(0..100)]).unwrap();
    let before = files(&path);
    for twice in [vec![rows([200, 200])], vec![rows([200]), rows([200])], vec![rows([300, 99])]] {
        let error = store.append(&twice).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::DuplicateKey);
        assert!(error.to_string().contains("\"id\""), "{error}");
        assert_eq!(files(&path), before);
    }
    store.append(&[rows(100..200)]).unwrap();
    assert!(store.verify().unwrap().is_ok());
}

#[test]
fn every_type_of_key_tells_rows_apart() {
    let types = [
        DataType::Int8,
        DataType::Int16,
        DataType::Int32,
        DataType::Int64,
        DataType::UInt8,
        DataType::UInt16,
        DataType::UInt32,
        DataType::UInt64,
        DataType::Date,
        DataType::Timestamp { utc: true },
        DataType::Timestamp { utc: false },
        DataType::Decimal { precision: 10, scale: 2 },
        DataType::Utf8,
        DataType::Binary,
        DataType::Time,
        DataType::Duration,
        DataType::Uuid,
    ];
    for data_type in types {
        let (_dir, path) = folder();
        let table = Schema::new(vec![Field::new("k", data_type.clone())]).unwrap().with_key("k").unwrap();
        let store = Store::create(&path, table).unwrap();
        let batch = |keys: &[&str]| {
            let text: ArrayRef = Arc::new(StringViewArray::from(keys.to_vec()));
            let number =
                |text: &ArrayRef| soa_core::arrow::compute::cast(text, &soa_core::arrow::datatypes::DataType::Int32);
            let keys = match data_type {
                DataType::Utf8 | DataType::Binary => text,
                DataType::Uuid => {
                    let uuids = keys.iter().map(|key| Some(uuid::Uuid::from_u128(key.parse().unwrap()).into_bytes()));
                    Arc::new(FixedSizeBinaryArray::try_from_sparse_iter_with_size(uuids, 16).unwrap())
                }
                DataType::Timestamp { .. } | DataType::Time | DataType::Duration => {
                    let long = soa_core::arrow::compute::cast(&text, &soa_core::arrow::datatypes::DataType::Int64);
                    long.unwrap()
                }
                _ => number(&text).unwrap(),
            };
            let keys = soa_core::arrow::compute::cast(&keys, &data_type.to_arrow()).unwrap();
            RecordBatch::try_from_iter([("k", keys)]).unwrap()
        };
        store.append(&[batch(&["1", "2"])]).unwrap();
        for twice in [batch(&["3", "3"]), batch(&["3", "2"])] {
            let error = store.append(&[twice]).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::DuplicateKey, "{data_type}: {error}");
        }
        store.append(&[batch(&["3", "4"])]).unwrap();
        assert!(store.verify().unwrap().is_ok(), "{data_type}");
    }
}

#[test]
fn writers_at_once_lose_nothing_and_share_no_key() {
    let (_dir, path) = folder();
    let store = Store::create(&path, schema().with_key("id").unwrap()).unwrap();
    let taken: usize = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..4_u64)
            .map(|writer| {
                let path = path.clone();
                scope.spawn(move || {
                    let store = Store::open(path).unwrap();
                    let mut refused = 0;
                    for batch in 0..10 {
                        store.append(&[rows([1000 * (writer + 1) + batch])]).unwrap();
                        // All four want this one.
                        match store.append(&[rows([batch])]) {
                            Ok(_) => {}
                            Err(Error::DuplicateKey { .. }) => refused += 1,
                            Err(other) => panic!("{other}"),
                        }
                    }
                    refused
                })
            })
            .collect();
        writers.into_iter().map(|writer| writer.join().unwrap()).sum()
    });
    assert_eq!(taken, 30);
    let mut ids = ids_of(&store.snapshot().unwrap(), None);
    ids.sort_unstable();
    let expected: Vec<u64> =
        (0..10).chain((1..5).flat_map(|writer| (0..10).map(move |batch| 1000 * writer + batch))).collect();
    assert_eq!(ids, expected);
    assert!(store.verify().unwrap().is_ok());
    // Checkpoints were written on the way: the log can be read without its older commits.
    for version in 0..=39 {
        std::fs::remove_file(path.join(format!("_delta_log/{version:020}.json"))).unwrap();
    }
    let copy = path.with_file_name("short.soa");
    copy_folder(&path, &copy);
    assert_eq!(Store::open(&copy).unwrap().snapshot().unwrap().row_count(), 50);
    assert!(matches!(Store::create(&copy, schema()), Err(Error::AlreadyExists { .. })));
}

#[test]
fn partitions_and_sort_order() {
    let (_dir, path) = folder();
    let schema = schema().with_partition_by(&["city"]).unwrap().with_sort_by(&["heat"]).unwrap();
    let store = Store::create(&path, schema).unwrap();
    store.append(&[rows((0..1000).rev())]).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.segments().len(), 5);
    let bonn = Predicate::eq(1, Scalar::Utf8("Bonn".into()));
    let request = ScanRequest { columns: vec![2, 1], predicate: Some(bonn), limit: None };
    let plan = snapshot.plan(&request).unwrap();
    assert_eq!((plan.counters().segments_total, plan.counters().segments_read), (5, 1));
    let batch = plan.read_filtered(0).unwrap();
    let heat = batch.column(0).as_primitive::<soa_core::arrow::datatypes::Float64Type>();
    let values: Vec<f64> = heat.iter().flatten().collect();
    assert!(values.is_sorted() && !values.is_empty());
    assert!((values.len()..heat.len()).all(|row| heat.is_null(row)), "NULLs come last");
    assert!(batch.column(1).as_string_view().iter().all(|city| city == Some("Bonn")));
    assert!(path.join("city=Köln").is_dir() && path.join("city=__HIVE_DEFAULT_PARTITION__").is_dir());
    assert!(store.verify().unwrap().is_ok());
    let empty = RecordBatch::try_from_iter([
        ("id", Arc::new(UInt64Array::from(vec![1])) as ArrayRef),
        ("city", Arc::new(StringViewArray::from(vec![""])) as ArrayRef),
    ]);
    let error = store.append(&[empty.unwrap()]).unwrap_err();
    assert!(error.to_string().contains("\"city\"") && error.to_string().contains("NULL"), "{error}");
}

#[test]
fn a_partition_value_that_cannot_be_read_back_is_refused() {
    let (_dir, path) = folder();
    let fields = vec![Field::new("id", DataType::Int64), Field::new("at", DataType::Timestamp { utc: true })];
    let store = Store::create(&path, Schema::new(fields).unwrap().with_partition_by(&["at"]).unwrap()).unwrap();
    let row = |micros: i64| {
        let at = soa_core::arrow::array::TimestampMicrosecondArray::from(vec![micros]).with_timezone("UTC");
        RecordBatch::try_from_iter([
            ("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef),
            ("at", Arc::new(at) as ArrayRef),
        ])
        .unwrap()
    };
    let year_10000 = 253_402_300_800_000_000;
    assert_eq!(store.append(&[row(year_10000)]).unwrap_err().kind(), ErrorKind::ValueOutOfRange);
    for micros in [year_10000 - 1, -1, 0] {
        store.append(&[row(micros)]).unwrap();
    }
    let plan = store.snapshot().unwrap().plan(&ScanRequest { columns: vec![1], ..Default::default() }).unwrap();
    let read = |unit| {
        plan.read(unit)
            .unwrap()
            .column(0)
            .as_primitive::<soa_core::arrow::datatypes::TimestampMicrosecondType>()
            .value(0)
    };
    assert_eq!((0..3).map(read).collect::<Vec<_>>(), [year_10000 - 1, -1, 0]);
}

#[test]
fn a_folder_that_is_replaced_is_another_store() {
    let (_dir, path) = folder();
    let first = Store::create(&path, schema()).unwrap();
    first.append(&[rows(0..3)]).unwrap();
    let mut appender = first.appender().unwrap();
    appender.write(&rows(3..6)).unwrap();
    std::fs::remove_dir_all(&path).unwrap();
    let second = Store::create(&path, Schema::new(vec![Field::new("n", DataType::Int64)]).unwrap()).unwrap();
    let error = appender.commit().unwrap_err();
    assert!(error.to_string().contains("replaced"), "{error}");
    assert_eq!(first.snapshot().unwrap().row_count(), 0);
    assert_eq!(second.snapshot().unwrap().schema().field(0).name(), "n");
}

#[test]
fn what_is_no_store_is_said_to_be_none() {
    let dir = tempfile::tempdir().unwrap();
    assert!(matches!(Store::open(dir.path().join("nowhere")), Err(Error::NotFound { .. })));
    assert!(matches!(Store::open(dir.path()), Err(Error::NotAStore { .. })));
    let file = dir.path().join("file");
    std::fs::write(&file, "x").unwrap();
    assert!(matches!(Store::open(&file), Err(Error::NotAStore { .. })));
    let (_dir, path) = folder();
    Store::create(&path, schema()).unwrap();
    assert!(matches!(Store::create(&path, schema()), Err(Error::AlreadyExists { .. })));
    assert!(matches!(
        Store::open_or_create(&path, schema().with_key("id").unwrap()),
        Err(Error::SchemaMismatch { .. })
    ));
}

#[test]
fn hostile_logs_are_refused() {
    let hostile = [
        (r#""path":"../outside.parquet""#, "leaves"),
        (r#""path":"/etc/passwd""#, "leaves"),
        (r#""path":"file:///etc/passwd""#, "URL"),
        (r#""path":"a.parquet","tags":{"soa.crc32c":"AAAA"}"#, "more than a segment"),
    ];
    for (number, (entry, expected)) in hostile.into_iter().enumerate() {
        let (_dir, path) = folder();
        Store::create(&path, schema()).unwrap();
        let stats = r#""stats":"{\"numRecords\":9000000000000000000}""#;
        let add = format!(
            r#"{{"add":{{{entry},"partitionValues":{{}},"size":1,"modificationTime":0,"dataChange":true,{stats}}}}}"#
        );
        std::fs::write(path.join(format!("_delta_log/{:020}.json", 1)), add).unwrap();
        let error = Store::open(&path).unwrap_err().to_string();
        assert!(error.contains(expected), "{number}: {error}");
    }
}

/// Predicates on rows whose ids are below `ids`.
fn any_predicate(ids: i64) -> impl Strategy<Value = Predicate> {
    let op = prop_oneof![
        Just(CompareOp::Eq),
        Just(CompareOp::NotEq),
        Just(CompareOp::Lt),
        Just(CompareOp::LtEq),
        Just(CompareOp::Gt),
        Just(CompareOp::GtEq)
    ];
    let city =
        prop_oneof![Just("Bonn"), Just("Köln"), Just("Ulm"), Just(""), Just("Aachen am Ende der Welt"), Just("K")];
    let leaf = prop_oneof![
        (op.clone(), 0..ids).prop_map(|(op, v)| Predicate::compare(0, op, Scalar::Int(v.into()))),
        (op.clone(), city.clone()).prop_map(|(op, v)| Predicate::compare(1, op, Scalar::Utf8(v.into()))),
        (op, prop_oneof![(-8..ids + 10).prop_map(|v| v as f64 / 8.0), Just(f64::NAN), Just(-0.0), Just(f64::INFINITY)])
            .prop_map(|(op, v)| Predicate::compare(2, op, Scalar::Float(v))),
        prop::collection::vec(0..ids, 0..20)
            .prop_map(|v| Predicate::In { column: 0, values: v.into_iter().map(|v| Scalar::Int(v.into())).collect() }),
        (1..3_usize).prop_map(Predicate::IsNull),
        city.prop_map(|prefix| Predicate::StartsWith { column: 1, prefix: prefix.into() }),
    ];
    leaf.prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..3).prop_map(Predicate::And),
            prop::collection::vec(inner.clone(), 0..3).prop_map(Predicate::Or),
            inner.prop_map(|part| Predicate::Not(Box::new(part))),
        ]
    })
}

/// SQL's answer for a row, worked out one value at a time.
fn truth(predicate: &Predicate, id: u64) -> Option<bool> {
    let row = rows([id]);
    let value = |column: usize| -> Option<Scalar> {
        let array = row.column(column);
        array.is_valid(0).then(|| match column {
            0 => Scalar::Int(id.into()),
            1 => Scalar::Utf8(array.as_string_view().value(0).into()),
            _ => Scalar::Float(array.as_primitive::<soa_core::arrow::datatypes::Float64Type>().value(0)),
        })
    };
    match predicate {
        Predicate::And(parts) => all(parts.iter().map(|part| truth(part, id)).collect()),
        Predicate::Or(parts) => {
            all(parts.iter().map(|part| truth(part, id).map(|value| !value)).collect()).map(|value| !value)
        }
        Predicate::Not(part) => truth(part, id).map(|value| !value),
        Predicate::Compare { column, op, value: constant } => {
            value(*column).and_then(|value| value.compare(constant)).map(|order| op.holds(order))
        }
        Predicate::In { values, .. } if values.is_empty() => Some(false),
        Predicate::In { column, values } => {
            value(*column).map(|value| values.iter().any(|v| value.compare(v).is_some_and(|order| order.is_eq())))
        }
        Predicate::IsNull(column) => Some(value(*column).is_none()),
        Predicate::StartsWith { column, prefix } => {
            value(*column).map(|value| matches!(value, Scalar::Utf8(text) if text.starts_with(prefix)))
        }
    }
}

/// Three-valued AND.
fn all(parts: Vec<Option<bool>>) -> Option<bool> {
    match (parts.contains(&Some(false)), parts.contains(&None)) {
        (true, _) => Some(false),
        (false, true) => None,
        (false, false) => Some(true),
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, ..ProptestConfig::default() })]

    /// What is pruned holds no match, and what is kept is filtered exactly.
    #[test]
    fn a_scan_gives_the_rows_that_match(predicate in any_predicate(50)) {
        let snapshot = small_segments();
        let expected: Vec<u64> = (0..50).filter(|id| truth(&predicate, *id) == Some(true)).collect();
        let mut found = ids_of(&snapshot, Some(predicate));
        found.sort_unstable();
        prop_assert_eq!(found, expected);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    /// Whichever pages are read.
    #[test]
    fn both_forms_give_the_rows_that_match(predicate in any_predicate(LARGE_ROWS)) {
        let [arrow, parquet] = large_segment();
        let read = |snapshot: &Arc<Snapshot>| -> Vec<RecordBatch> {
            let request = ScanRequest { columns: vec![2, 0, 1], predicate: Some(predicate.clone()), limit: None };
            let plan = snapshot.plan(&request).unwrap();
            let batches = (0..plan.units().len()).map(|unit| plan.read_filtered(unit).unwrap());
            batches.filter(|batch| batch.num_rows() > 0).collect()
        };
        prop_assert!(read(parquet) == read(arrow));
    }
}

const LARGE_ROWS: i64 = UNIT_ROWS as i64 * 2 + 5;

/// A segment of some units, of which some rows are deleted: with its Arrow form, and without. Made once.
fn large_segment() -> &'static [Arc<Snapshot>; 2] {
    static STORES: std::sync::OnceLock<(TempDir, [Arc<Snapshot>; 2])> = std::sync::OnceLock::new();
    let (_, snapshots) = STORES.get_or_init(|| {
        let (dir, path) = folder();
        let store = Store::create(&path, schema()).unwrap();
        store.append(&[rows(0..LARGE_ROWS as u64)]).unwrap();
        store.delete(&Predicate::between(0, Scalar::Int(1000), Scalar::Int(30_000))).unwrap();
        let copy = path.with_file_name("parquet.soa");
        copy_folder(&path, &copy);
        std::fs::remove_dir_all(copy.join("_soa")).unwrap();
        let snapshots = [path, copy].map(|path| Store::open(&path).unwrap().snapshot().unwrap());
        assert_eq!(snapshots.each_ref().map(|snapshot| snapshot.segments()[0].form()), [Form::Arrow, Form::Parquet]);
        (dir, snapshots)
    });
    snapshots
}

/// 50 rows in segments of a few, made once.
fn small_segments() -> Arc<Snapshot> {
    static STORE: std::sync::OnceLock<(TempDir, Arc<Snapshot>)> = std::sync::OnceLock::new();
    let (_, snapshot) = STORE.get_or_init(|| {
        let (dir, path) = folder();
        let store = Store::create(&path, schema()).unwrap();
        for start in (0..50).step_by(4) {
            store.append(&[rows(start..(start + 4).min(50))]).unwrap();
        }
        (dir, store.snapshot().unwrap())
    });
    Arc::clone(snapshot)
}

#[test]
fn a_limit_ends_the_plan() {
    let snapshot = small_segments();
    let plan = snapshot.plan(&ScanRequest { columns: vec![0], predicate: None, limit: Some(5) }).unwrap();
    assert_eq!(plan.units().len(), 2);
    let counted = snapshot.plan(&ScanRequest::default()).unwrap();
    assert_eq!(counted.row_count(), 50);
    assert_eq!((0..counted.units().len()).map(|unit| counted.read(unit).unwrap().num_rows()).sum::<usize>(), 50);
    let error = snapshot.plan(&ScanRequest { columns: vec![3], ..Default::default() }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
}

#[test]
fn rows_of_other_columns_are_refused_by_name() {
    let (_dir, path) = folder();
    let store = Store::create(&path, schema()).unwrap();
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
    let batch = |name: &str| RecordBatch::try_from_iter([(name, Arc::clone(&ids))]).unwrap();
    let unknown = store.append(&[batch("nope")]).unwrap_err().to_string();
    assert!(unknown.contains("\"nope\"") && unknown.contains("id, city, heat"), "{unknown}");
    let missing = store.append(&[batch("heat")]).unwrap_err().to_string();
    assert!(missing.contains("\"id\""), "{missing}");
    store.append(&[batch("id")]).unwrap();
    let plan = store.snapshot().unwrap().plan(&ScanRequest { columns: vec![0, 1], ..Default::default() }).unwrap();
    let row = plan.read(0).unwrap();
    assert!(row.column(1).is_null(0));
    assert_eq!(row.column(0).as_primitive::<UInt64Type>().value(0), 1);
    assert!(row.column(0).as_primitive_opt::<Int64Type>().is_none());
}
