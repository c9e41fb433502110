//! Maintenance: it changes how rows are stored, never the rows.

mod auto;
mod changes;
mod clone;
mod compact;
mod disk;
mod enums;
mod evolve;
mod restore;
mod vacuum;

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use soa_core::predicate::{CompareOp, Predicate, Scalar};
use soa_core::scan::ScanRequest;
use soa_core::schema::{DataType, Field, Schema};
use soa_core::store::{Snapshot, Store};
use tempfile::TempDir;

/// id, value, part, note.
pub(crate) type Row = (i64, i64, String, Option<String>);

/// How a store is laid out.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Layout {
    pub(crate) keyed: bool,
    pub(crate) partitioned: bool,
    pub(crate) sorted: bool,
    pub(crate) with_vectors: bool,
}

impl Layout {
    pub(crate) const PLAIN: Self = Self { keyed: false, partitioned: false, sorted: false, with_vectors: true };

    pub(crate) fn any() -> impl Strategy<Value = Self> {
        any::<[bool; 4]>().prop_map(|[keyed, partitioned, sorted, with_vectors]| Self {
            keyed,
            partitioned,
            sorted,
            with_vectors,
        })
    }
}

pub(crate) fn schema(layout: Layout) -> Schema {
    let fields = vec![
        Field::new("id", DataType::Int64),
        Field::new("value", DataType::Int64),
        Field::new("part", DataType::Utf8),
        Field::nullable("note", DataType::Utf8),
    ];
    let mut schema = Schema::new(fields).unwrap();
    if layout.keyed {
        schema = schema.with_key("id").unwrap();
    }
    if layout.sorted {
        schema = schema.with_sort_by(&["note", "value"]).unwrap();
    }
    if layout.partitioned {
        schema = schema.with_partition_by(&["part"]).unwrap();
    }
    schema
}

pub(crate) fn store(layout: Layout) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path().join("kept.soa"), schema(layout)).unwrap();
    store.set_deletion_vectors(layout.with_vectors).unwrap();
    (dir, store)
}

pub(crate) fn row(id: i64, value: i64) -> Row {
    let note = (value % 3 != 0).then(|| format!("a note that does not fit into a view: {value}"));
    (id, value, ["a", "b"][usize::from(value % 5 == 0)].to_owned(), note)
}

pub(crate) fn batch(rows: &[Row]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
    let values: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>());
    let parts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.2)));
    let notes: ArrayRef = Arc::new(StringArray::from_iter(rows.iter().map(|row| row.3.as_ref())));
    RecordBatch::try_from_iter([("id", ids), ("value", values), ("part", parts), ("note", notes)]).unwrap()
}

pub(crate) fn keys(keys: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(keys.to_vec()))
}

pub(crate) fn below(value: i64) -> Predicate {
    Predicate::compare(1, CompareOp::Lt, Scalar::Int(value.into()))
}

/// The rows in the order in which a scan gives them.
pub(crate) fn rows(snapshot: &Arc<Snapshot>) -> Vec<Row> {
    let plan = snapshot.plan(&ScanRequest { columns: vec![0, 1, 2, 3], ..Default::default() }).unwrap();
    let mut found = Vec::new();
    for unit in 0..plan.units().len() {
        found.extend(rows_of(&plan.read(unit).unwrap()));
    }
    assert_eq!(snapshot.row_count(), found.len() as u64);
    found
}

pub(crate) fn rows_of(batch: &RecordBatch) -> Vec<Row> {
    let number = |column: usize, row: usize| batch.column(column).as_primitive::<Int64Type>().value(row);
    let (parts, notes) = (batch.column(2).as_string_view(), batch.column(3).as_string_view());
    (0..batch.num_rows())
        .map(|row| {
            let note = notes.is_valid(row).then(|| notes.value(row).to_owned());
            (number(0, row), number(1, row), parts.value(row).to_owned(), note)
        })
        .collect()
}

/// The same store with other commits, under another name, so that this process has nothing of it open. `edit` is given each
/// version's actions.
pub(crate) fn rewritten(store: Store, mut edit: impl FnMut(u64, &mut Vec<serde_json::Value>)) -> Store {
    for commit in store.history().unwrap() {
        let path = store.path().join(format!("_delta_log/{:020}.json", commit.version));
        let text = std::fs::read_to_string(&path).unwrap();
        let mut actions: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        edit(commit.version, &mut actions);
        std::fs::write(&path, actions.iter().map(|action| format!("{action}\n")).collect::<String>()).unwrap();
    }
    let moved = store.path().with_extension("rewritten");
    std::fs::rename(store.path(), &moved).unwrap();
    Store::open(&moved).unwrap()
}

pub(crate) fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort();
    rows
}

/// What is wrong with a store; nothing should be.
pub(crate) fn problems(store: &Store) -> Vec<String> {
    store.verify().unwrap().problems
}
