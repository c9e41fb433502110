//! Enums of as many variants as there can be, joined again and again.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, DictionaryArray, Int64Array, RecordBatch, StringArray, UInt8Array};
use arrow::datatypes::UInt8Type;
use soa_core::scan::ScanRequest;
use soa_core::schema::{DataType, Field, Schema, Variants};
use soa_core::store::{CompactOptions, Snapshot, Store, WriterOptions};

const ROWS: usize = 40;
const BATCHES: usize = 20;

fn names() -> Vec<String> {
    (0..256).map(|index| format!("variant {index}")).collect()
}

fn store() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let kind = DataType::Enum(Variants::new(names()).unwrap());
    let schema = Schema::new(vec![Field::new("id", DataType::Int64), Field::nullable("kind", kind)]).unwrap();
    let store = Store::create(dir.path().join("enums.soa"), schema.with_key("id").unwrap()).unwrap();
    store.set_auto_compact(false).unwrap();
    (dir, store)
}

fn kind_of(id: i64) -> Option<usize> {
    (id % 11 != 0).then_some((id * 37 % 256) as usize)
}

/// Rows of which each batch has a dictionary of its own, or none, or no such column at all.
fn batch(number: usize) -> RecordBatch {
    let ids: Vec<i64> = (0..ROWS).map(|row| (number * ROWS + row) as i64).collect();
    let kinds = ids.iter().map(|id| kind_of(*id));
    let kinds: ArrayRef = match number % 3 {
        0 => Arc::new(kinds.map(|kind| kind.map(|kind| names()[kind].clone())).collect::<StringArray>()),
        1 => {
            let keys: UInt8Array = kinds.map(|kind| kind.map(|kind| kind as u8)).collect();
            Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(names()))).unwrap())
        }
        _ => {
            let keys: UInt8Array = kinds.map(|kind| kind.map(|kind| 255 - kind as u8)).collect();
            let backwards: Vec<String> = names().into_iter().rev().collect();
            Arc::new(DictionaryArray::try_new(keys, Arc::new(StringArray::from(backwards))).unwrap())
        }
    };
    let id: ArrayRef = Arc::new(Int64Array::from(ids));
    match number {
        7 => RecordBatch::try_from_iter([("id", id)]).unwrap(),
        _ => RecordBatch::try_from_iter([("id", id), ("kind", kinds)]).unwrap(),
    }
}

#[track_caller]
fn check(snapshot: &Arc<Snapshot>, batches: usize) {
    let plan = snapshot.plan(&ScanRequest { columns: vec![0, 1], ..Default::default() }).unwrap();
    let mut found = Vec::new();
    for unit in 0..plan.units().len() {
        let batch = plan.read(unit).unwrap();
        let ids = batch.column(0).as_primitive::<arrow::datatypes::Int64Type>();
        let kinds = batch.column(1).as_dictionary::<UInt8Type>();
        let texts = kinds.downcast_dict::<StringArray>().unwrap();
        for (row, text) in texts.into_iter().enumerate() {
            found.push((ids.value(row), text.filter(|_| kinds.is_valid(row)).map(str::to_owned)));
        }
    }
    found.sort();
    let kind = |id: i64| kind_of(id).filter(|_| id / ROWS as i64 != 7).map(|kind| names()[kind].clone());
    assert_eq!(found, (0..(batches * ROWS) as i64).map(|id| (id, kind(id))).collect::<Vec<_>>());
}

#[test]
fn many_batches_become_one_segment() {
    let (_dir, store) = store();
    store.append(&(0..BATCHES).map(batch).collect::<Vec<_>>()).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.segments().len(), 1);
    check(&snapshot, BATCHES);
}

#[test]
fn many_segments_become_one() {
    let (_dir, store) = store();
    for number in 0..BATCHES {
        store.append(&[batch(number)]).unwrap();
    }
    // Each process, and each handle, has names of its own for what it has not opened yet.
    let moved = store.path().with_extension("moved");
    std::fs::rename(store.path(), &moved).unwrap();
    let store = Store::open(&moved).unwrap();
    assert_eq!(store.compact(&CompactOptions::default()).unwrap().segments_removed, BATCHES as u64);
    let snapshot = store.snapshot().unwrap();
    assert_eq!(snapshot.segments().len(), 1);
    check(&snapshot, BATCHES);
    assert_eq!(store.verify().unwrap().problems, Vec::<String>::new());
}

#[test]
fn many_frames_of_the_log_become_one_block() {
    let (_dir, store) = store();
    let mut options = WriterOptions::default();
    options.publish_age = std::time::Duration::from_secs(3600);
    let writer = store.writer(options).unwrap();
    for number in 0..BATCHES {
        writer.add_batch(&batch(number)).unwrap();
        check(&store.snapshot().unwrap(), number + 1);
    }
    writer.close().unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!((snapshot.log_row_count(), snapshot.segments().len()), (0, 1));
    check(&snapshot, BATCHES);
}
