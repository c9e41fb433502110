//! Rows with a field of every type, through everything that a store does with rows.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use soa_core::arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, Time64MicrosecondArray};
use soa_core::arrow::compute::concat_batches;
use soa_core::predicate::{CompareOp, Predicate, Scalar};
use soa_core::scan::ScanRequest;
use soa_core::schema::{DAY_MICROS, DataType, Field, Schema};
use soa_core::store::{Form, Snapshot, Store, WriterOptions};
use soa_core::{ErrorKind, Record};
use uuid::Uuid;

use crate::records::{Everything, EverythingSoA, everything};

fn store(path: &Path) -> Store {
    let store = Store::create(path, Everything::schema().with_key("i64").unwrap()).unwrap();
    store.set_auto_compact(false).unwrap();
    store
}

/// Rows of which every one has its number of 64 bits for itself.
fn rows(numbers: std::ops::Range<i64>) -> Vec<Everything> {
    numbers.map(|n| Everything { i64: n, ..everything(n) }).collect()
}

fn batch(rows: &[Everything]) -> RecordBatch {
    rows.iter().cloned().collect::<EverythingSoA>().to_record_batch()
}

fn read(snapshot: &Arc<Snapshot>, predicate: Option<Predicate>) -> Vec<Everything> {
    let columns = (0..snapshot.schema().len()).collect();
    let plan = snapshot.plan(&ScanRequest { columns, predicate, limit: None }).unwrap();
    let units: Vec<RecordBatch> = (0..plan.units().len()).map(|unit| plan.read_filtered(unit).unwrap()).collect();
    let all = concat_batches(plan.arrow_schema(), &units).unwrap();
    EverythingSoA::from_record_batch(all).unwrap().to_vec()
}

#[test]
fn rows_of_every_type_come_back_from_both_forms_and_the_log() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.soa");
    let store = store(&path);
    let expected = rows(-300..700);
    store.append(&[batch(&expected)]).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.segments()[0].form(), Form::Arrow);
    assert_eq!(read(&snapshot, None), expected);
    assert_eq!(store.verify().unwrap().problems, [] as [String; 0]);

    let copy = dir.path().join("parquet.soa");
    store.clone_to(&copy).unwrap();
    fs::remove_dir_all(copy.join("_soa")).unwrap();
    let parquet_only = Store::open(&copy).unwrap();
    assert_eq!(parquet_only.snapshot().unwrap().segments()[0].form(), Form::Parquet);
    assert_eq!(read(&parquet_only.snapshot().unwrap(), None), expected);
    assert!(parquet_only.verify().unwrap().is_ok());

    let mut options = WriterOptions::default();
    options.publish_age = Duration::from_secs(3600);
    let writer = store.writer(options).unwrap();
    for row in rows(700..720) {
        writer.add(row).unwrap();
    }
    assert_eq!(read(&store.snapshot().unwrap(), None), rows(-300..720));
    writer.close().unwrap();
    assert_eq!(read(&store.snapshot().unwrap(), None), rows(-300..720));
}

#[test]
fn conditions_on_new_types_leave_out_and_keep_the_right_rows() {
    let dir = tempfile::tempdir().unwrap();
    let all = rows(0..900);
    let schema = Everything::schema();
    let column = |name: &str| schema.fields().iter().position(|field| field.name() == name).unwrap();
    let forms = ["arrow", "parquet"].map(|form| {
        let path = dir.path().join(form);
        let store = store(&path);
        for part in all.chunks(300) {
            store.append(&[batch(part)]).unwrap();
        }
        if form == "parquet" {
            fs::remove_dir_all(path.join("_soa")).unwrap();
        }
        Store::open(&path).unwrap().snapshot().unwrap()
    });
    let micros = |row: &Everything| row.took.num_microseconds().unwrap();
    let (limit, price) = (micros(&all[450]), Scalar::Int(123));
    let uuid = all[777].uuid;
    type Test<'a> = (Predicate, Box<dyn Fn(&Everything) -> bool + 'a>, usize);
    let tests: [Test<'_>; 5] = [
        (
            Predicate::compare(column("took"), CompareOp::Lt, Scalar::Int(limit.into())),
            Box::new(|row| micros(row) < limit),
            2,
        ),
        (
            Predicate::eq(column("uuid"), Scalar::Binary(uuid.into_bytes().to_vec())),
            Box::new(|row| row.uuid == uuid),
            1,
        ),
        (Predicate::eq(column("price"), price), Box::new(|row| row.price == rust_decimal::Decimal::new(123, 3)), 1),
        (
            Predicate::compare(column("time_of_day"), CompareOp::GtEq, Scalar::Int(600 * 1_000_007)),
            Box::new(|row| row.i64 >= 600),
            1,
        ),
        (Predicate::IsNull(column("maybe_uuid")), Box::new(|row| row.maybe_uuid.is_none()), 3),
    ];
    for snapshot in &forms {
        for (predicate, test, segments) in &tests {
            let expected: Vec<_> = all.iter().filter(|row| test(row)).cloned().collect();
            assert!(!expected.is_empty() && expected.len() < all.len());
            assert_eq!(read(snapshot, Some(predicate.clone())), expected, "{predicate:?}");
            let request = ScanRequest { columns: vec![0], predicate: Some(predicate.clone()), limit: None };
            assert_eq!(snapshot.plan(&request).unwrap().units().len(), *segments, "{predicate:?}");
        }
    }
}

fn refused(data_type: DataType, array: ArrayRef) -> String {
    let dir = tempfile::tempdir().unwrap();
    let schema = Schema::new(vec![Field::new("c", data_type)]).unwrap();
    let store = Store::create(dir.path().join("t.soa"), schema).unwrap();
    let error = store.append(&[RecordBatch::try_from_iter([("c", array)]).unwrap()]).unwrap_err();
    assert!(matches!(error.kind(), ErrorKind::ValueOutOfRange | ErrorKind::InvalidInput), "{error}");
    assert_eq!(store.snapshot().unwrap().row_count(), 0);
    error.to_string()
}

#[test]
fn what_is_no_time_and_no_uuid_is_refused() {
    for micros in [-1, DAY_MICROS + 1] {
        let message = refused(DataType::Time, Arc::new(Time64MicrosecondArray::from(vec![0, micros])));
        assert!(message.contains(&micros.to_string()) && message.contains("\"c\""), "{message}");
    }
    let whole = Uuid::from_u128(7).into_bytes();
    let message = refused(DataType::Uuid, Arc::new(BinaryArray::from(vec![&whole[..], &whole[..15]])));
    assert!(message.contains("15 bytes"), "{message}");
    let message = refused(DataType::Uuid, Arc::new(Int64Array::from(vec![1])));
    assert!(message.contains("uuid"), "{message}");
}
