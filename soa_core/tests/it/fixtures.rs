//! Stores of every version of the on-disk format, as releases have written them. They are never made anew: what this release
//! cannot read of them, it cannot read of its users' stores.
//!
//! `make_fixture` makes the one of a new version: `SOA_FIXTURE=FOLDER cargo test --release --workspace --test it -- --ignored make_fixture`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int8Array,
    Int16Array, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray, UInt8Array, UInt16Array,
    UInt32Array, UInt64Array,
};
use arrow::compute::{concat_batches, sort_to_indices, take_record_batch};
use arrow::util::display::array_value_to_string;
use soa_core::predicate::{Predicate, Scalar};
use soa_core::scan::ScanRequest;
use soa_core::schema::{DataType, Field, Schema, Variants};
use soa_core::store::{FORMAT_VERSION, Snapshot, Store, WriterOptions};

use crate::package;

/// The rows of a snapshot by key, a line each.
fn rows(snapshot: &Arc<Snapshot>) -> String {
    let columns = (0..snapshot.schema().len()).collect();
    let plan = snapshot.plan(&ScanRequest { columns, ..Default::default() }).unwrap();
    let batches: Vec<RecordBatch> = (0..plan.units().len()).map(|unit| plan.read(unit).unwrap()).collect();
    let all = concat_batches(plan.arrow_schema(), &batches).unwrap();
    let order = sort_to_indices(all.column(0), None, None).unwrap();
    let all = take_record_batch(&all, &order).unwrap();
    let line = |row: usize| {
        let value = |array: &ArrayRef| match array.is_null(row) {
            true => "NULL".to_owned(),
            false => format!("{:?}", array_value_to_string(array, row).unwrap()),
        };
        all.columns().iter().map(value).collect::<Vec<_>>().join(" ") + "\n"
    };
    (0..all.num_rows()).map(line).collect()
}

fn fixtures() -> Vec<PathBuf> {
    let dir = package().join("tests/fixtures");
    let mut found: Vec<_> = fs::read_dir(dir).unwrap().map(|entry| entry.unwrap().path()).collect();
    found.sort();
    found
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        match entry.file_type().unwrap().is_dir() {
            true => copy(&entry.path(), &target),
            false => drop(fs::copy(entry.path(), target).unwrap()),
        }
    }
}

#[test]
fn stores_of_every_version_are_read_and_written() {
    let found = fixtures();
    assert_eq!(found.len(), FORMAT_VERSION as usize, "{found:?}");
    for fixture in found {
        let expected = fs::read_to_string(fixture.join("rows.txt")).unwrap();
        for is_parquet in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let path = dir.path().join("store.soa");
            copy(&fixture.join("store.soa"), &path);
            if is_parquet {
                fs::remove_dir_all(path.join("_soa/arrow")).unwrap();
                fs::remove_dir_all(path.join("_soa/key")).unwrap();
            }
            let store = Store::open(&path).unwrap();
            let snapshot = store.snapshot().unwrap();
            assert!(snapshot.log_row_count() > 0);
            assert_eq!(rows(&snapshot), expected, "{}", fixture.display());
            assert_eq!(store.verify().unwrap().problems, Vec::<String>::new());
            // What its owner has left in the log is published, and the rest is as it was.
            store.writer(WriterOptions::default()).unwrap().close().unwrap();
            let snapshot = store.snapshot().unwrap();
            assert_eq!((snapshot.log_row_count(), rows(&snapshot)), (0, expected.clone()));
            store.delete(&Predicate::eq(0, Scalar::Int(7))).unwrap();
            assert_eq!(store.snapshot().unwrap().row_count(), snapshot.row_count() - 1);
        }
    }
}

fn schema() -> Schema {
    let all = [
        ("bool", DataType::Bool),
        ("i8", DataType::Int8),
        ("i16", DataType::Int16),
        ("i32", DataType::Int32),
        ("u8", DataType::UInt8),
        ("u16", DataType::UInt16),
        ("u32", DataType::UInt32),
        ("u64", DataType::UInt64),
        ("f32", DataType::Float32),
        ("f64", DataType::Float64),
        ("text", DataType::Utf8),
        ("binary", DataType::Binary),
        ("variant", DataType::Enum(Variants::new(["red", "green", "blue"]).unwrap())),
        ("date", DataType::Date),
        ("local", DataType::Timestamp { utc: false }),
        ("time", DataType::Timestamp { utc: true }),
        ("amount", DataType::Decimal { precision: 20, scale: 3 }),
    ];
    let mut fields = vec![Field::new("id", DataType::Int64), Field::new("part", DataType::Utf8)];
    fields.extend(all.map(|(name, data_type)| Field::nullable(name, data_type)));
    let schema = Schema::new(fields).unwrap().with_key("id").unwrap();
    schema.with_partition_by(&["part"]).unwrap().with_sort_by(&["i32"]).unwrap()
}

fn batch(ids: &[i64], round: i64) -> RecordBatch {
    macro_rules! column {
        ($array:ty, |$id:ident| $value:expr) => {
            Arc::new(
                ids.iter()
                    .map(|id| {
                        let $id = *id + 1000 * round;
                        ($id % 5 != 0).then(|| $value)
                    })
                    .collect::<$array>(),
            ) as ArrayRef
        };
    }
    let parts = StringArray::from_iter_values(ids.iter().map(|id| if id % 2 == 0 { "even" } else { "odd, ü" }));
    let amounts = column!(Decimal128Array, |id| i128::from(id) * 1_000_000_007);
    let amounts = amounts.as_any().downcast_ref::<Decimal128Array>().unwrap().clone();
    let times = column!(TimestampMicrosecondArray, |id| id * 86_400_000_123);
    let times = times.as_any().downcast_ref::<TimestampMicrosecondArray>().unwrap().clone();
    let columns: Vec<(&str, ArrayRef)> = vec![
        ("id", Arc::new(Int64Array::from(ids.to_vec()))),
        ("part", Arc::new(parts)),
        ("bool", column!(BooleanArray, |id| id % 3 == 0)),
        ("i8", column!(Int8Array, |id| (id % 256 - 128) as i8)),
        ("i16", column!(Int16Array, |id| (id * 7 % 65_536 - 32_768) as i16)),
        ("i32", column!(Int32Array, |id| (id * 7_919 % 10_007) as i32)),
        ("u8", column!(UInt8Array, |id| (id % 256) as u8)),
        ("u16", column!(UInt16Array, |id| (id % 65_536) as u16)),
        ("u32", column!(UInt32Array, |id| u32::MAX - id as u32)),
        ("u64", column!(UInt64Array, |id| u64::MAX - id as u64)),
        ("f32", column!(Float32Array, |id| [id as f32 / 3.0, f32::NAN, -0.0, f32::INFINITY][(id % 4) as usize])),
        ("f64", column!(Float64Array, |id| [id as f64 / 7.0, f64::NAN, -0.0, f64::NEG_INFINITY][(id % 4) as usize])),
        ("text", column!(StringArray, |id| "täxt ".repeat((id % 7) as usize))),
        ("binary", column!(BinaryArray, |id| id.to_le_bytes()[..(id % 9) as usize].to_vec())),
        ("variant", column!(StringArray, |id| ["red", "green", "blue"][(id % 3) as usize].to_owned())),
        ("date", column!(Date32Array, |id| (id * 37 - 20_000) as i32)),
        ("local", Arc::new(times.clone())),
        ("time", Arc::new(times.with_timezone("UTC"))),
        ("amount", Arc::new(amounts.with_precision_and_scale(20, 3).unwrap())),
    ];
    RecordBatch::try_from_iter_with_nullable(columns.into_iter().map(|(name, array)| (name, array, true))).unwrap()
}

#[test]
#[ignore = "it makes the fixture of a new version"]
fn make_fixture() {
    let folder = PathBuf::from(std::env::var("SOA_FIXTURE").expect("SOA_FIXTURE is the folder to make"));
    let store = Store::create(folder.join("store.soa"), schema()).unwrap();
    store.set_auto_compact(false).unwrap();
    store.append(&[batch(&(0..800).collect::<Vec<_>>(), 0)]).unwrap();
    let keys = |ids: Vec<i64>| Arc::new(Int64Array::from(ids)) as ArrayRef;
    // Vectors in the log and in a file, and enough versions for a checkpoint.
    for round in 0..6 {
        store.delete_keys(&keys(vec![round * 3, round * 5 + 1])).unwrap();
    }
    store.delete_keys(&keys((0..800).filter(|id| id % 10 != 7 && id * id % 11 > 2).collect())).unwrap();
    store.upsert(&[batch(&[7, 17, 27, 800, 801], 1)]).unwrap();
    store.add_columns(&[Field::nullable("note", DataType::Utf8)]).unwrap();
    store.upsert(&[batch(&[37, 802, 803], 2)]).unwrap();
    let mut options = WriterOptions::default();
    options.publish_age = Duration::from_secs(3600);
    let writer = store.writer(options).unwrap();
    writer.add_batch(&batch(&[47, 57, 804, 805], 3)).unwrap();
    writer.delete(&keys(vec![67, 803])).unwrap();
    writer.add_batch(&batch(&[57], 4)).unwrap();
    fs::write(folder.join("rows.txt"), rows(&store.snapshot().unwrap())).unwrap();
    // As if the process had been killed.
    std::mem::forget(writer);
    fs::remove_file(store.path().join("_soa/lock")).unwrap();
}
