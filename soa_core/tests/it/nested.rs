//! Lists, structs and maps of others: in layouts that are not ours, with what must be refused, and with what does not count.

use std::collections::BTreeMap;
use std::sync::Arc;

use soa_core::arrow::array::{
    Array, ArrayRef, AsArray, FixedSizeListArray, Float32Array, Int64Array, LargeListArray, ListArray, MapArray,
    RecordBatch, StringArray, StructArray, new_null_array,
};
use soa_core::arrow::buffer::{NullBuffer, OffsetBuffer};
use soa_core::arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Fields, Float32Type, Int64Type};
use soa_core::scan::ScanRequest;
use soa_core::schema::{DataType, Field, Schema};
use soa_core::store::Store;
use soa_core::{Record, SoA};

fn item(values: &ArrayRef) -> Arc<ArrowField> {
    Arc::new(ArrowField::new("item", values.data_type().clone(), true))
}

fn floats(count: usize) -> ArrayRef {
    Arc::new(Float32Array::from_iter_values((0..count).map(|n| n as f32)))
}

/// What a store of one column `c` gives back of an array.
fn through_store(data_type: &str, array: ArrayRef) -> soa_core::Result<ArrayRef> {
    let dir = tempfile::tempdir().unwrap();
    let schema = Schema::new(vec![Field::nullable("c", data_type.parse::<DataType>()?)])?;
    let store = Store::create(dir.path().join("s.soa"), schema)?;
    store.append(&[RecordBatch::try_from_iter_with_nullable([("c", array, true)]).unwrap()])?;
    assert_eq!(store.verify()?.problems, [] as [String; 0]);
    let read = |store: &Store| -> soa_core::Result<ArrayRef> {
        let plan = store.snapshot()?.plan(&ScanRequest { columns: vec![0], predicate: None, limit: None })?;
        Ok(Arc::clone(plan.read(0)?.column(0)))
    };
    let arrow = read(&store)?;
    std::fs::remove_dir_all(store.path().join("_soa")).unwrap();
    let parquet = read(&Store::open(store.path())?)?;
    assert_eq!(&arrow, &parquet, "both forms have the same");
    Ok(arrow)
}

fn refused(data_type: &str, array: ArrayRef) -> String {
    through_store(data_type, array).unwrap_err().to_string()
}

#[test]
fn lists_of_one_length_come_from_any_part_of_lists() {
    let values = floats(12);
    let lists = ListArray::new(item(&values), OffsetBuffer::from_lengths([3; 4]), Arc::clone(&values), None);
    let large = LargeListArray::new(item(&values), OffsetBuffer::from_lengths([3; 4]), Arc::clone(&values), None);
    for array in [Arc::new(lists.slice(1, 2)) as ArrayRef, Arc::new(large.slice(1, 2))] {
        let stored = through_store("array(f32?, 3)", array).unwrap();
        let stored = stored.as_fixed_size_list();
        assert_eq!(stored.values().as_primitive::<Float32Type>().values(), &[3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    }
    // A row that is NULL has no elements, or some that do not count.
    for lengths in [[3, 0, 3], [3, 2, 3]] {
        let nulls = NullBuffer::from(vec![true, false, true]);
        let lists =
            ListArray::new(item(&values), OffsetBuffer::from_lengths(lengths), Arc::clone(&values), Some(nulls));
        let stored = through_store("array(f32, 3)", Arc::new(lists)).unwrap();
        let stored = stored.as_fixed_size_list();
        assert!(stored.is_null(1));
        let last = 3.0 + lengths[1] as f32;
        assert_eq!(stored.value(2).as_primitive::<Float32Type>().values(), &[last, last + 1.0, last + 2.0]);
    }
    let lists = ListArray::new(item(&values), OffsetBuffer::from_lengths([3, 2]), Arc::clone(&values), None);
    assert!(refused("array(f32?, 3)", Arc::new(lists)).contains("a list of 2 elements is not one of 3"));
}

#[test]
fn what_is_beneath_a_null_does_not_count() {
    // Elements of a list that is NULL, which are NULL themselves.
    let values: ArrayRef = Arc::new(Float32Array::from(vec![Some(1.0), Some(2.0), None, None, Some(5.0), Some(6.0)]));
    let nulls = Some(NullBuffer::from(vec![true, false, true]));
    let fixed = FixedSizeListArray::new(item(&values), 2, Arc::clone(&values), nulls.clone());
    let stored = through_store("list(f32)", Arc::new(fixed)).unwrap();
    assert!(stored.is_null(1) && stored.as_list::<i32>().values().len() == 4);
    let lists = ListArray::new(item(&values), OffsetBuffer::from_lengths([2; 3]), Arc::clone(&values), nulls);
    let stored = through_store("list(f32)", Arc::new(lists)).unwrap();
    assert_eq!(stored.as_list::<i32>().value(2).as_primitive::<Float32Type>().values(), &[5.0, 6.0]);
    assert!(
        refused("list(f32)", Arc::new(ListArray::new(item(&values), OffsetBuffer::from_lengths([6]), values, None)))
            .contains("null")
    );
}

#[test]
fn nothing_in_a_struct_is_left_out() {
    let column = |name: &str| {
        (Arc::new(ArrowField::new(name, ArrowType::Int64, true)), Arc::new(Int64Array::from(vec![1])) as ArrayRef)
    };
    let with_extra = StructArray::from(vec![column("a"), column("extra")]);
    assert!(refused("struct(a: i64?)", Arc::new(with_extra)).contains("\"extra\""));
    let twice = StructArray::new(
        Fields::from(vec![ArrowField::new("a", ArrowType::Int64, true), ArrowField::new("a", ArrowType::Int64, true)]),
        vec![column("a").1, column("a").1],
        None,
    );
    assert!(refused("struct(a: i64?)", Arc::new(twice)).contains("two fields \"a\""));
    let one = StructArray::from(vec![column("a")]);
    let stored = through_store("struct(b: string?, a: i64?)", Arc::new(one.clone())).unwrap();
    let stored = stored.as_struct();
    assert!(stored.column(0).is_null(0) && stored.column(1).as_primitive::<Int64Type>().value(0) == 1);
    assert!(refused("struct(b: string, a: i64?)", Arc::new(one)).contains("\"b\", which must not be NULL"));
}

#[test]
fn a_map_has_no_key_twice() {
    let map = |keys: Vec<&str>, lengths: Vec<usize>| {
        let values: ArrayRef = Arc::new(Int64Array::from_iter_values(0..keys.len() as i64));
        let fields = Fields::from(vec![
            ArrowField::new("keys", ArrowType::Utf8, false),
            ArrowField::new("values", ArrowType::Int64, true),
        ]);
        let entries = StructArray::new(fields.clone(), vec![Arc::new(StringArray::from(keys)), values], None);
        let field = Arc::new(ArrowField::new("entries", ArrowType::Struct(fields), false));
        Arc::new(MapArray::new(field, OffsetBuffer::from_lengths(lengths), entries, None, false)) as ArrayRef
    };
    assert!(through_store("map(string, i64?)", map(vec!["b", "a", "a", "b"], vec![2, 2])).is_ok());
    assert!(refused("map(string, i64?)", map(vec!["a", "b", "c", "b"], vec![1, 3])).contains("the key b twice"));
}

#[test]
fn columns_look_at_no_row_but_their_own() {
    #[derive(Debug, Clone, PartialEq, SoA)]
    struct Row {
        lists: Vec<i64>,
        map: BTreeMap<i64, i64>,
    }

    let rows: Vec<Row> =
        (0..6).map(|n| Row { lists: (0..n).collect(), map: (0..n).map(|k| (k, n)).collect() }).collect();
    let batch = rows.iter().cloned().collect::<RowSoA>().to_record_batch();
    // The first row has an element that is NULL.
    let lists = batch.column(0).as_list::<i32>();
    let elements: Int64Array = [None].into_iter().chain(lists.values().as_primitive::<Int64Type>().iter()).collect();
    let values: ArrayRef = Arc::new(elements);
    let lengths = [1].into_iter().chain((0..6).map(|row| lists.value_length(row) as usize));
    let lists = ListArray::new(item(&values), OffsetBuffer::from_lengths(lengths), values, None).slice(1, 6);
    let nullable = ArrowField::new("lists", lists.data_type().clone(), true);
    let schema = soa_core::arrow::datatypes::Schema::new(vec![nullable, batch.schema().field(1).clone()]);
    let batch = RecordBatch::try_new(Arc::new(schema), vec![Arc::new(lists), Arc::clone(batch.column(1))]).unwrap();
    let soa = RowSoA::from_record_batch(batch.clone()).unwrap();
    assert_eq!(soa.to_vec(), rows);
    assert_eq!(RowSoA::from_record_batch(batch.slice(2, 3)).unwrap().to_vec(), rows[2..5]);
    // Slices are shared, also of rows that were moved.
    let mut soa = soa;
    soa.swap(0, 5);
    assert_eq!(soa.slice(1..6).to_vec(), [&rows[1..5], &rows[..1]].concat());
    assert_eq!(soa.chunks(4).map(|chunk| chunk.len()).collect::<Vec<_>>(), [4, 2]);
    let view = soa.view(0);
    assert_eq!(view.lists.into_iter().rev().sum::<i64>(), 10);
    assert!(view.map.contains_key(&4) && !view.map.contains_key(&5));
    assert_eq!((view.map.keys().sum::<i64>(), view.map.values().next_back(), view.map.get(&2)), (10, Some(5), Some(5)));
}

#[test]
fn columns_are_added_with_lists_of_enums_and_lengths_are_bounded() {
    let dir = tempfile::tempdir().unwrap();
    let store =
        Store::create(dir.path().join("s.soa"), Schema::new(vec![Field::new("id", DataType::Int64)]).unwrap()).unwrap();
    let ids = |range: std::ops::Range<i64>| {
        RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from_iter_values(range)) as ArrayRef)]).unwrap()
    };
    store.append(&[ids(0..3)]).unwrap();
    let added = |text: &str| Field::nullable("c", text.parse::<DataType>().unwrap());
    let error = store.add_columns(&[added("array(array(f32, 1000), 101)")]).unwrap_err().to_string();
    assert!(error.contains("101000 values"), "{error}");
    store.add_columns(&[added("list(enum(a,b)?)")]).unwrap();
    store.append(&[ids(3..5)]).unwrap();
    store.compact(&soa_core::store::CompactOptions::default()).unwrap();
    let plan =
        store.snapshot().unwrap().plan(&ScanRequest { columns: vec![0, 1], predicate: None, limit: None }).unwrap();
    let rows = plan.read(0).unwrap();
    assert_eq!((rows.num_rows(), rows.column(1).null_count()), (5, 5));
    assert_eq!(rows.column(1), &new_null_array(rows.column(1).data_type(), 5));
    assert_eq!(store.verify().unwrap().problems, [] as [String; 0]);
}

#[test]
fn a_schema_knows_its_types_again() {
    #[derive(Debug, Clone, PartialEq, SoA)]
    struct Inner {
        at: chrono::NaiveTime,
        small: [u8; 2],
    }

    #[derive(Debug, Clone, PartialEq, SoA)]
    struct Outer {
        inner: Vec<Option<Inner>>,
        ids: BTreeMap<uuid::Uuid, Vec<u64>>,
        took: Option<[Option<chrono::TimeDelta>; 3]>,
    }

    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path().join("s.soa"), Outer::schema()).unwrap();
    assert_eq!(store.snapshot().unwrap().schema(), &Outer::schema());
    assert_eq!(Outer::schema().field(0).data_type().to_string(), "list(struct(at: time, small: array(u8, 2))?)");
    assert_eq!(Outer::schema().field(1).data_type().to_string(), "map(uuid, list(u64))");
    // What is said of types that are not there, or is none, is refused.
    let log = store.path().join("_delta_log/00000000000000000000.json");
    let text = std::fs::read_to_string(&log).unwrap();
    let small = r#"\\\"small\\\""#;
    assert!(text.contains(small), "{text}");
    // Of another length: commits never change, so one of the same length and time is taken for the one that is known.
    std::fs::write(&log, text.replace(small, r#"\\\"another\\\""#)).unwrap();
    let error = Store::open(store.path()).and_then(|store| store.snapshot()).unwrap_err().to_string();
    assert!(error.contains("\"inner\"") && error.contains("newer release"), "{error}");
}
