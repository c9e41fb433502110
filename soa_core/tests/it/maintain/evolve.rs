//! Tables that get columns and variants, while they are read and written.

use std::sync::Arc;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use proptest::prelude::*;
use soa_core::ErrorKind;
use soa_core::kernel::StoredRecord;
use soa_core::predicate::Predicate;
use soa_core::scan::ScanRequest;
use soa_core::schema::{DataType, Field, Schema, Variants};
use soa_core::store::{At, CompactOptions, Durability, Form, Snapshot, Store, WriterOptions};
use tempfile::TempDir;

use super::problems;

fn level(names: &[&str]) -> DataType {
    DataType::Enum(Variants::new(names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>()).unwrap())
}

fn store(sorted: bool) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let fields = vec![Field::new("id", DataType::Int64), Field::new("level", level(&["low", "high"]))];
    let mut schema = Schema::new(fields).unwrap().with_key("id").unwrap();
    if sorted {
        schema = schema.with_sort_by(&["level", "id"]).unwrap();
    }
    let store = Store::create(dir.path().join("grows.soa"), schema).unwrap();
    (dir, store)
}

/// Rows: id, level, and the columns `c0`, `c1`, … as far as there are any.
type Row = (i64, String, Vec<Option<i64>>);

fn batch(rows: &[Row]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
    let levels: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.1)));
    let mut columns = vec![("id".to_owned(), ids), ("level".to_owned(), levels)];
    for at in 0..rows.first().map_or(0, |row| row.2.len()) {
        let values: Int64Array = rows.iter().map(|row| row.2[at]).collect();
        columns.push((format!("c{at}"), Arc::new(values)));
    }
    RecordBatch::try_from_iter(columns).unwrap()
}

fn rows(snapshot: &Arc<Snapshot>) -> Vec<Row> {
    let columns = (0..snapshot.schema().len()).collect();
    let plan = snapshot.plan(&ScanRequest { columns, ..Default::default() }).unwrap();
    let mut found = Vec::new();
    for unit in 0..plan.units().len() {
        let batch = plan.read(unit).unwrap();
        let levels = arrow::compute::cast(batch.column(1), &arrow::datatypes::DataType::Utf8).unwrap();
        for row in 0..batch.num_rows() {
            let number = |column: &ArrayRef| {
                let column = column.as_primitive::<Int64Type>();
                column.is_valid(row).then(|| column.value(row))
            };
            let added = batch.columns()[2..].iter().map(number).collect();
            found.push((number(batch.column(0)).unwrap(), levels.as_string::<i32>().value(row).to_owned(), added));
        }
    }
    found.sort();
    found
}

fn lazy() -> WriterOptions {
    let mut options = WriterOptions::default();
    options.publish_age = Duration::from_secs(3600);
    options.durability = Durability::Buffered;
    options
}

fn row(id: i64, level: &str, added: &[Option<i64>]) -> Row {
    (id, level.to_owned(), added.to_vec())
}

#[test]
fn older_rows_have_null_in_a_new_column_in_both_forms() {
    let (_dir, store) = store(false);
    store.append(&[batch(&[row(1, "low", &[]), row(2, "high", &[])])]).unwrap();
    let old = store.snapshot().unwrap();
    let version = store.add_columns(&[Field::nullable("c0", DataType::Int64)]).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!((snapshot.version(), snapshot.schema().len()), (version, 3));
    assert_eq!(snapshot.segments()[0].form(), Form::Arrow);
    assert_eq!(rows(&snapshot), [row(1, "low", &[None]), row(2, "high", &[None])]);
    assert_eq!(rows(&old), [row(1, "low", &[]), row(2, "high", &[])]);
    store.append(&[batch(&[row(3, "low", &[Some(3)])])]).unwrap();
    // Rows without it are taken as well.
    store.append(&[batch(&[row(4, "low", &[])])]).unwrap();
    let expected = [row(1, "low", &[None]), row(2, "high", &[None]), row(3, "low", &[Some(3)]), row(4, "low", &[None])];
    assert_eq!(rows(&store.snapshot().unwrap()), expected);
    let is_null = ScanRequest { columns: vec![0], predicate: Some(Predicate::IsNull(2)), limit: None };
    let plan = store.snapshot().unwrap().plan(&is_null).unwrap();
    let found: usize = (0..plan.units().len()).map(|unit| plan.read_filtered(unit).unwrap().num_rows()).sum();
    assert_eq!((found, problems(&store)), (3, Vec::new()));
    // From Parquet, and from Arrow forms that are made again with it.
    store.set_arrow_bytes_max(Some(0)).unwrap();
    let mut options = CompactOptions::default();
    options.segment_rows_max = 1;
    store.compact(&options).unwrap();
    let moved = store.path().with_extension("moved");
    std::fs::rename(store.path(), &moved).unwrap();
    let store = Store::open(&moved).unwrap();
    assert_eq!(store.snapshot().unwrap().segments()[0].form(), Form::Parquet);
    assert_eq!(rows(&store.snapshot().unwrap()), expected);
    store.set_arrow_bytes_max(None).unwrap();
    assert_eq!(store.compact(&CompactOptions::default()).unwrap().segments_added, 1);
    assert_eq!(rows(&store.snapshot().unwrap()), expected);
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn a_damaged_name_is_not_taken_for_a_column_that_was_added() {
    let (_dir, store) = store(false);
    store.add_columns(&[Field::nullable("colour", DataType::Int64), Field::nullable("size", DataType::Int64)]).unwrap();
    let numbers = |first: i64| Arc::new(Int64Array::from(vec![first, first + 1])) as ArrayRef;
    let levels = Arc::new(StringArray::from(vec!["low", "high"])) as ArrayRef;
    let columns = [("id", numbers(1)), ("level", levels), ("colour", numbers(3)), ("size", numbers(5))];
    store.append(&[RecordBatch::try_from_iter(columns).unwrap()]).unwrap();
    let expected = rows(&store.snapshot().unwrap());
    assert_eq!(expected, [row(1, "low", &[Some(3), Some(5)]), row(2, "high", &[Some(4), Some(6)])]);
    for (number, name) in ["colour", "size"].iter().enumerate() {
        let copy = store.path().with_extension(number.to_string());
        assert!(std::process::Command::new("cp").arg("-a").args([store.path(), &copy]).status().unwrap().success());
        let form = std::fs::read_dir(copy.join("_soa/arrow")).unwrap().next().unwrap().unwrap().path();
        let mut content = std::fs::read(&form).unwrap();
        let places: Vec<usize> = content
            .windows(name.len())
            .enumerate()
            .filter(|(_, found)| *found == name.as_bytes())
            .map(|found| found.0)
            .collect();
        assert!(!places.is_empty());
        places.iter().for_each(|place| content[*place] ^= 1);
        std::fs::write(&form, content).unwrap();
        let copy = Store::open(copy).unwrap();
        assert_eq!(copy.snapshot().unwrap().segments()[0].form(), Form::Parquet);
        assert_eq!(rows(&copy.snapshot().unwrap()), expected);
        assert_eq!(problems(&copy).len(), 1);
    }
}

#[test]
fn variants_are_added_at_the_end() {
    let (_dir, store) = store(true);
    store.append(&[batch(&[row(1, "low", &[]), row(2, "high", &[])])]).unwrap();
    let old = store.snapshot().unwrap();
    assert!(store.append(&[batch(&[row(3, "extreme", &[])])]).is_err());
    let version = store.add_variants("level", &["extreme", "low", "none"]).unwrap();
    assert_eq!(store.add_variants("level", &["none"]).unwrap(), version);
    store.append(&[batch(&[row(3, "extreme", &[])])]).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!(*snapshot.schema().field(1).data_type(), level(&["low", "high", "extreme", "none"]));
    assert_eq!(snapshot.segments()[0].form(), Form::Arrow);
    assert_eq!(rows(&snapshot), [row(1, "low", &[]), row(2, "high", &[]), row(3, "extreme", &[])]);
    assert_eq!(rows(&old).len(), 2);
    store.compact(&CompactOptions::default()).unwrap();
    assert_eq!(rows(&store.snapshot().unwrap()), rows(&snapshot));
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn a_time_without_zone_brings_its_feature() {
    let (_dir, store) = store(false);
    store.append(&[batch(&[row(1, "low", &[])])]).unwrap();
    let version = store.add_columns(&[Field::nullable("wall", DataType::Timestamp { utc: false })]).unwrap();
    let commit = std::fs::read_to_string(store.path().join(format!("_delta_log/{version:020}.json"))).unwrap();
    for said in ["timestampNtz", "timestamp_ntz", "appendOnly", "invariants"] {
        assert!(commit.contains(said), "{commit}");
    }
    let wall: ArrayRef = Arc::new(arrow::array::TimestampMicrosecondArray::from(vec![5]));
    let rows = RecordBatch::try_from_iter([
        ("id", Arc::new(Int64Array::from(vec![2])) as ArrayRef),
        ("level", Arc::new(StringArray::from(vec!["low"])) as ArrayRef),
        ("wall", wall),
    ]);
    store.append(&[rows.unwrap()]).unwrap();
    // Deletion vectors need another feature, beside that one.
    store.append(&[batch(&[row(3, "low", &[]), row(4, "low", &[])])]).unwrap();
    store.delete_keys(&(Arc::new(Int64Array::from(vec![3])) as ArrayRef)).unwrap();
    assert_eq!(store.snapshot().unwrap().row_count(), 3);
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn what_would_change_rows_is_refused_with_what_to_do() {
    let (_dir, store) = store(false);
    let have = store.snapshot().unwrap().schema().clone();
    let with = |fields: Vec<Field>| Schema::new(fields).unwrap().with_key("id").unwrap();
    let [id, known] = [have.field(0).clone(), have.field(1).clone()];
    let cases: Vec<(Schema, &str)> = vec![
        (with(vec![id.clone()]), "\"level\" cannot be dropped"),
        (with(vec![id.clone(), known.clone().with_name("grade")]), "dropped or renamed to \"grade\""),
        (with(vec![id.clone().with_type(DataType::Utf8), known.clone()]), "\"id\" cannot change from i64 to string"),
        (with(vec![id.clone(), known.clone().with_nullable(true)]), "must not be NULL and cannot change to may"),
        (with(vec![id.clone(), known.clone().with_type(level(&["high", "low"]))]), "only become more"),
        (with(vec![id.clone(), known.clone(), Field::new("c0", DataType::Int64)]), "\"c0\" must allow NULL"),
        (Schema::new(vec![id.clone(), known.clone()]).unwrap(), "the key cannot change from (id) to ()"),
    ];
    for (schema, says) in cases {
        let error = store.evolve(&schema).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.to_string().contains(says), "{error}");
    }
    assert!(store.add_columns(&[Field::nullable("ID", DataType::Int64)]).unwrap_err().to_string().contains("already"));
    assert!(store.add_columns(&[Field::nullable("a b", DataType::Int64)]).is_err());
    assert!(store.add_variants("id", &["x"]).unwrap_err().to_string().contains("no variants"));
    assert_eq!(store.snapshot().unwrap().version(), 0);
    let more = with(vec![Field::nullable("c0", DataType::Int64), id, known.with_type(level(&["low", "high", "top"]))]);
    store.evolve(&more).unwrap();
    let now = store.snapshot().unwrap();
    assert_eq!(now.schema().names_of(&[0, 1, 2]), ["id", "level", "c0"]);
    assert_eq!(store.evolve(&more).unwrap(), now.version());
}

#[test]
fn whoever_writes_meanwhile_goes_on() {
    let (_dir, store) = store(false);
    let mut appender = store.appender().unwrap();
    appender.write(&batch(&[row(1, "low", &[])])).unwrap();
    store.append(&[batch(&[row(2, "low", &[]), row(3, "low", &[])])]).unwrap();
    store.append(&[batch(&[row(4, "low", &[])])]).unwrap();
    let mut is_altered = false;
    store
        .compact_with(&CompactOptions::default(), &mut |_| {
            if !std::mem::replace(&mut is_altered, true) {
                store.add_columns(&[Field::nullable("c0", DataType::Int64)]).unwrap();
            }
        })
        .unwrap();
    appender.commit().unwrap();
    let expected: Vec<Row> = (1..5).map(|id| row(id, "low", &[None])).collect();
    assert_eq!((rows(&store.snapshot().unwrap()), is_altered), (expected, true));
    assert_eq!(store.snapshot().unwrap().segments().len(), 2);
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn a_restored_version_has_its_columns() {
    let (_dir, store) = store(false);
    let first = store.append(&[batch(&[row(1, "low", &[])])]).unwrap();
    store.add_columns(&[Field::nullable("c0", DataType::Int64)]).unwrap();
    let second = store.append(&[batch(&[row(2, "low", &[Some(2)])])]).unwrap();
    store.restore(At::Version(first)).unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!((snapshot.schema().len(), rows(&snapshot)), (2, vec![row(1, "low", &[])]));
    store.append(&[batch(&[row(3, "low", &[])])]).unwrap();
    store.restore(At::Version(second)).unwrap();
    assert_eq!(rows(&store.snapshot().unwrap()), [row(1, "low", &[None]), row(2, "low", &[Some(2)])]);
    assert_eq!(problems(&store), Vec::<String>::new());
}

/// A program's record, and the same one a release later.
mod before {
    use soa_core::{SoA, SoAStore};

    #[derive(Debug, Clone, Copy, PartialEq, SoA)]
    pub(super) enum Level {
        Low,
        High,
    }

    #[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
    #[soa_store(key = "id")]
    pub(super) struct Thing {
        pub(super) id: i64,
        pub(super) level: Level,
    }
}

mod after {
    use soa_core::{SoA, SoAStore};

    #[derive(Debug, Clone, Copy, PartialEq, SoA)]
    pub(super) enum Level {
        Low,
        High,
        Top,
    }

    #[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
    #[soa_store(key = "id")]
    pub(super) struct Thing {
        pub(super) note: Option<String>,
        pub(super) id: i64,
        pub(super) level: Level,
        pub(super) second: Option<Level>,
    }
}

#[test]
fn a_record_gets_fields_and_variants_while_the_one_of_before_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path().join("things.soa"), before::Thing::table_schema()).unwrap();
    let old = |id| before::Thing { id, level: if id % 2 == 0 { before::Level::Low } else { before::Level::High } };
    let writer = store.writer(lazy()).unwrap();
    writer.add(old(1)).unwrap();
    writer.flush().unwrap();
    writer.add(old(2)).unwrap();
    let new =
        after::Thing { note: Some("new".into()), id: 3, level: after::Level::Top, second: Some(after::Level::Low) };
    assert_eq!(writer.add(new.clone()).unwrap_err().kind(), ErrorKind::InvalidInput);
    assert!(
        Store::open_or_create(store.path(), after::Thing::table_schema()).unwrap_err().to_string().contains("evolve")
    );
    store.evolve(&after::Thing::table_schema()).unwrap();
    writer.add(new.clone()).unwrap();
    writer.add(old(4)).unwrap();
    writer.add(after::Thing { id: 1, ..new.clone() }).unwrap();
    let plain = |id| after::Thing {
        note: None,
        id,
        level: if id % 2 == 0 { after::Level::Low } else { after::Level::High },
        second: None,
    };
    let expected = vec![after::Thing { id: 1, ..new.clone() }, plain(2), new, plain(4)];
    let check = |store: &Store| {
        let snapshot = store.snapshot().unwrap();
        // The fields of the record, in its order.
        let names: Vec<String> =
            after::Thing::table_schema().fields().iter().map(|field| field.name().into()).collect();
        let columns = names.iter().map(|name| snapshot.schema().index_of(name).unwrap()).collect();
        let plan = snapshot.plan(&ScanRequest { columns, ..Default::default() }).unwrap();
        let mut found: Vec<after::Thing> = Vec::new();
        for unit in 0..plan.units().len() {
            found.extend(
                after::ThingSoA::from_record_batch(plan.read(unit).unwrap())
                    .unwrap()
                    .iter()
                    .map(|thing| thing.to_owned()),
            );
        }
        found.sort_by_key(|thing| thing.id);
        assert_eq!(found, expected);
    };
    check(&store);
    writer.close().unwrap();
    check(&store);
    store.compact(&CompactOptions::default()).unwrap();
    check(&store);
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[derive(Debug, Clone)]
enum Step {
    AddColumn,
    AddVariant,
    /// Rows with so many of the columns that were added.
    Log(Vec<i64>, usize),
    Upsert(Vec<i64>, usize),
    Flush,
    Reopen,
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    let ids = || prop::collection::vec(0..40_i64, 1..12);
    prop_oneof![
        1 => Just(Step::AddColumn),
        1 => Just(Step::AddVariant),
        5 => (ids(), 0..4_usize).prop_map(|(ids, columns)| Step::Log(ids, columns)),
        2 => (ids(), 0..4_usize).prop_map(|(ids, columns)| Step::Upsert(ids, columns)),
        2 => Just(Step::Flush),
        1 => Just(Step::Reopen),
        1 => Just(Step::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn logs_and_segments_of_all_ages_are_read(sorted in any::<bool>(), steps in prop::collection::vec(step(), 1..30)) {
        let (_dir, store) = store(sorted);
        let mut writer = Some(store.writer(lazy()).unwrap());
        let (mut columns, mut variants) = (0, 2);
        let mut model = std::collections::BTreeMap::new();
        let mut seen = Vec::new();
        let names = |variants: usize| (0..variants).map(|at| match at {
            0 => "low".to_owned(),
            1 => "high".to_owned(),
            at => format!("level {at}"),
        }).collect::<Vec<_>>();
        for (number, step) in steps.iter().enumerate() {
            let made = |ids: &[i64], with: usize| {
                let names = names(variants);
                let mut ids = ids.to_vec();
                ids.sort_unstable();
                ids.dedup();
                let value = |id: i64, at: usize| (id % 3 != 0).then_some(number as i64 * 100 + at as i64);
                ids.iter().map(|id| {
                    let name = names[(*id as usize + number) % names.len()].clone();
                    (*id, name, (0..with.min(columns)).map(|at| value(*id, at)).collect::<Vec<_>>())
                }).collect::<Vec<Row>>()
            };
            match step {
                Step::AddColumn => {
                    store.add_columns(&[Field::nullable(format!("c{columns}"), DataType::Int64)]).unwrap();
                    columns += 1;
                }
                Step::AddVariant => {
                    variants += 1;
                    store.add_variants("level", &names(variants)).unwrap();
                }
                Step::Log(ids, with) => {
                    let rows = made(ids, *with);
                    writer.as_ref().unwrap().add_batch(&batch(&rows)).unwrap();
                    model.extend(rows.into_iter().map(|row| (row.0, row)));
                }
                Step::Upsert(ids, with) => {
                    writer.take().unwrap().close().unwrap();
                    let rows = made(ids, *with);
                    store.upsert(&[batch(&rows)]).unwrap();
                    model.extend(rows.into_iter().map(|row| (row.0, row)));
                    writer = Some(store.writer(lazy()).unwrap());
                }
                Step::Flush => drop(writer.as_ref().unwrap().flush().unwrap()),
                Step::Reopen => {
                    writer.take().unwrap().close().unwrap();
                    writer = Some(store.writer(lazy()).unwrap());
                }
                Step::Compact => drop(store.compact(&CompactOptions::default()).unwrap()),
            }
            let expected: Vec<Row> = model.values().map(|(id, level, values)| {
                (*id, level.clone(), (0..columns).map(|at| values.get(at).copied().flatten()).collect())
            }).collect();
            let snapshot = store.snapshot().unwrap();
            prop_assert_eq!(&rows(&snapshot), &expected);
            seen.push((snapshot, expected));
        }
        for (snapshot, expected) in &seen {
            prop_assert_eq!(&rows(snapshot), expected);
        }
        writer.take().unwrap().close().unwrap();
        prop_assert_eq!(&rows(&store.snapshot().unwrap()), &seen.last().unwrap().1);
        prop_assert_eq!(problems(&store), Vec::<String>::new());
    }
}
