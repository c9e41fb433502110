//! A store queried by DataFusion: what the scan leaves out changes no answer, and is left out.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is the failure of the test")]

use std::path::Path;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use ::datafusion::catalog::TableProvider;
use ::datafusion::datasource::MemTable;
use ::datafusion::error::DataFusionError;
use ::datafusion::physical_plan::{ExecutionPlan, collect, displayable, execute_stream};
use ::datafusion::prelude::{SessionConfig, SessionContext};
use futures::StreamExt;
use proptest::prelude::*;
use proptest::sample::select;
use soa_core::arrow::array::{
    ArrayRef, AsArray, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, RecordBatch, StringArray, StringViewArray, TimestampMicrosecondArray,
    UInt64Array,
};
use soa_core::arrow::compute::cast;
use soa_core::arrow::datatypes::UInt64Type;
use soa_core::arrow::util::pretty::pretty_format_batches;
use soa_core::datafusion::SnapshotTable;
use soa_core::predicate::Predicate;
use soa_core::schema::{DataType, Field, Schema, Variants};
use soa_core::store::{Store, UNIT_ROWS, WriterOptions};
use tempfile::TempDir;

const BATCHES: u64 = 6;
const BATCH_ROWS: u64 = 90;
const STATUSES: [&str; 4] = ["Pending", "Shipped", "Delivered", "Lost_in_the_mail"];
const NAMES: [&str; 9] = ["", "Ada", "Adam", "Bob", "B_b", "B%b", "Zoë", "Zoë the second of her name", "a\\b"];
const DAY_MICROS: i64 = 86_400_000_000;

fn schema() -> Schema {
    let decimal = DataType::Decimal { precision: 10, scale: 2 };
    Schema::new(vec![
        Field::new("id", DataType::UInt64),
        Field::nullable("big", DataType::UInt64),
        Field::nullable("i", DataType::Int32),
        Field::nullable("l", DataType::Int64),
        Field::nullable("f", DataType::Float64),
        Field::nullable("g", DataType::Float32),
        Field::nullable("dec", decimal),
        Field::nullable("s", DataType::Utf8),
        Field::nullable("status", DataType::Enum(Variants::new(STATUSES).unwrap())),
        Field::nullable("b", DataType::Bool),
        Field::nullable("d", DataType::Date),
        Field::nullable("ts", DataType::Timestamp { utc: false }),
        Field::nullable("tz", DataType::Timestamp { utc: true }),
        Field::nullable("bin", DataType::Binary),
        Field::nullable("p", DataType::Utf8),
        Field::nullable("q", DataType::Int16),
    ])
    .and_then(|schema| schema.with_partition_by(&["p", "q"]))
    .unwrap()
}

/// A number that looks random, the same for the same arguments.
fn dice(row: u64, column: u64, sides: u64) -> u64 {
    let mut x = (row * 31 + column + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    (x ^ (x >> 31)) % sides
}

/// Rows of one commit. Values of a commit are near one another, so that there is something to leave out.
fn rows(batch: u64) -> RecordBatch {
    let ids = batch * BATCH_ROWS..(batch + 1) * BATCH_ROWS;
    let near = |row: u64, column| (batch * 10 + dice(row, column, 12)) as i64 - 30;
    let some = |row: u64, column: u64| dice(row, column + 100, 8) != 0;
    let floats = [0.0, -0.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 0.1, 1e300];
    let float = |row: u64, column| match dice(row, column, 16) {
        // Two of the commits have ordinary numbers alone, so that they have bounds.
        special @ 0..8 if !batch.is_multiple_of(3) => floats[special as usize],
        _ => near(row, column) as f64 / 4.0,
    };
    let big = |row: u64| match batch % 2 {
        0 => dice(row, 1, 100),
        _ => (1 << 63) - 3 + dice(row, 1, 6),
    };
    macro_rules! column {
        ($array:ty, $column:literal, $value:expr) => {
            ids.clone().map(|row| some(row, $column).then(|| $value(row))).collect::<$array>()
        };
    }
    let status = |row| STATUSES[(dice(row, 8, 2) + batch % 3) as usize];
    let micros = |row, column| near(row, column) * DAY_MICROS / 3 + near(row, column) * 1_000_001;
    let schema = soa_core::schema::arrow_schema(&schema());
    let columns: Vec<ArrayRef> = vec![
        Arc::new(ids.clone().collect::<UInt64Array>()),
        Arc::new(column!(UInt64Array, 1, big)),
        Arc::new(column!(Int32Array, 2, |row| near(row, 2) as i32)),
        Arc::new(column!(Int64Array, 3, |row| near(row, 3) * ((1 << 53) / 8 + 1))),
        Arc::new(column!(Float64Array, 4, |row| float(row, 4))),
        Arc::new(column!(Float32Array, 5, |row| float(row, 5) as f32)),
        Arc::new(
            column!(Decimal128Array, 6, |row| i128::from(near(row, 6)) * 25).with_precision_and_scale(10, 2).unwrap(),
        ),
        Arc::new(column!(StringViewArray, 7, |row| NAMES[(dice(row, 7, 4) + batch) as usize % NAMES.len()])),
        Arc::new(column!(StringArray, 8, status)),
        Arc::new(column!(BooleanArray, 9, |row| dice(row, 9, 3) < batch % 3)),
        Arc::new(column!(Date32Array, 10, |row| near(row, 10) as i32)),
        Arc::new(column!(TimestampMicrosecondArray, 11, |row| micros(row, 11))),
        Arc::new(column!(TimestampMicrosecondArray, 12, |row| micros(row, 12)).with_timezone("UTC")),
        Arc::new(column!(BinaryViewArray, 13, |row| vec![batch as u8, dice(row, 13, 3) as u8])),
        Arc::new(column!(StringViewArray, 14, |row| ["Ulm", "Köln"][dice(row, 14, 2) as usize])),
        Arc::new(column!(Int16Array, 15, |row| dice(row, 15, 2) as i16 + batch as i16)),
    ];
    let typed = schema.fields().iter().zip(columns).map(|(field, column)| cast(&column, field.data_type()).unwrap());
    RecordBatch::try_new(Arc::clone(&schema), typed.collect()).unwrap()
}

/// The same rows twice: `t` as a store, and as rows in memory.
struct Twins {
    _dir: TempDir,
    store: SessionContext,
    memory: SessionContext,
}

static TWINS: LazyLock<Twins> = LazyLock::new(|| {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.soa");
    let store = Store::create(&path, schema()).unwrap();
    let batches: Vec<RecordBatch> = (0..BATCHES).map(rows).collect();
    for batch in &batches {
        store.append(std::slice::from_ref(batch)).unwrap();
    }
    // Half of the segments are read from Parquet.
    let forms = std::fs::read_dir(path.join("_soa/arrow")).unwrap();
    for form in forms.step_by(2) {
        std::fs::remove_file(form.unwrap().path()).unwrap();
    }
    let session = || session_with(3);
    let twins = Twins { _dir: dir, store: session(), memory: session() };
    twins.store.register_table("t", Arc::new(SnapshotTable::new(store.snapshot().unwrap()))).unwrap();
    let table = MemTable::try_new(soa_core::schema::arrow_schema(&schema()), vec![batches]).unwrap();
    twins.memory.register_table("t", Arc::new(table)).unwrap();
    twins
});

static RUNTIME: LazyLock<tokio::runtime::Runtime> =
    LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap());

/// A session in which filters that a query finds while it runs are used.
fn session_with(partitions: usize) -> SessionContext {
    let mut config = SessionConfig::new().with_target_partitions(partitions);
    config.options_mut().optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    SessionContext::new_with_config(config)
}

fn query(session: &SessionContext, sql: &str) -> Vec<RecordBatch> {
    let result = RUNTIME.block_on(async { session.sql(sql).await?.collect().await });
    result.unwrap_or_else(|error: DataFusionError| panic!("{sql}: {error}"))
}

fn text(batches: &[RecordBatch]) -> String {
    pretty_format_batches(batches).unwrap().to_string()
}

fn assert_same(sql: &str) {
    let (of_store, of_memory) = (query(&TWINS.store, sql), query(&TWINS.memory, sql));
    assert_eq!(text(&of_store), text(&of_memory), "{sql}");
}

/// A constant for a column, now and then one of another type.
fn constant(column: &'static str) -> BoxedStrategy<String> {
    let near = -35..45_i64;
    let texts = |texts: &'static [&'static str]| select(texts).prop_map(str::to_owned).boxed();
    match column {
        "id" => (0..BATCHES * BATCH_ROWS).prop_map(|n| n.to_string()).boxed(),
        "big" => prop_oneof![
            (0..110_u64).prop_map(|n| n.to_string()),
            ((1_u64 << 63) - 4..(1 << 63) + 4).prop_map(|n| n.to_string()),
            texts(&["-1", "18446744073709551615", "9223372036854775807.5", "50.5", "9.3e18"]),
        ]
        .boxed(),
        "i" | "q" => prop_oneof![
            near.clone().prop_map(|n| n.to_string()),
            near.prop_map(|n| format!("{n}.5")),
            texts(&["3e10", "-0.0", "3000000000", "CAST(7.25 AS DECIMAL(12, 4))"]),
        ]
        .boxed(),
        "l" => prop_oneof![
            near.clone().prop_map(|n| (n * ((1 << 53) / 8 + 1)).to_string()),
            near.prop_map(|n| format!("{}.0", n * ((1 << 53) / 8))),
            texts(&["9007199254740993", "9007199254740993.0", "-0.5", "1e19"]),
        ]
        .boxed(),
        "f" | "g" => prop_oneof![
            near.clone().prop_map(|n| format!("{}", n as f64 / 4.0)),
            near.prop_map(|n| n.to_string()),
            texts(&["0.0", "-0.0", "'NaN'::double", "-('NaN'::double)", "'Infinity'::double", "'-Infinity'::float"]),
            texts(&["0.1", "0.1::float", "1e300"]),
        ]
        .boxed(),
        "dec" => prop_oneof![
            near.clone().prop_map(|n| format!("{}", n as f64 / 4.0)),
            near.clone().prop_map(|n| format!("CAST({} AS DECIMAL(10, 2))", n as f64 / 4.0)),
            near.prop_map(|n| n.to_string()),
            texts(&["CAST(0.125 AS DECIMAL(20, 3))", "9e7", "-0.0", "0.2500000001"]),
        ]
        .boxed(),
        "s" => {
            texts(&["''", "'Ada'", "'Adam'", "'B'", "'B_b'", "'Zoë'", "'Zoë the second of her name'", "'a\\b'", "'~'"])
        }
        "status" => texts(&["'Pending'", "'Shipped'", "'Delivered'", "'Lost_in_the_mail'", "'None'", "'M'"]),
        "p" => texts(&["'Ulm'", "'Köln'", "'L'", "''"]),
        "b" => texts(&["true", "false"]),
        "d" => prop_oneof![
            near.clone().prop_map(|n| format!("DATE '1970-01-01' + INTERVAL '{n} days'")),
            near.prop_map(|n| format!("TIMESTAMP '1970-01-01T00:00:00' + INTERVAL '{} hours'", n * 12)),
            texts(&["'1970-01-05'", "DATE '1969-12-31'"]),
        ]
        .boxed(),
        "ts" | "tz" => prop_oneof![
            near.clone().prop_map(|n| format!("TIMESTAMP '1970-01-01T00:00:00' + INTERVAL '{} hours'", n * 8)),
            near.prop_map(|n| format!("DATE '1970-01-01' + INTERVAL '{} days'", n / 3)),
            texts(&["'1970-01-03T08:00:07'", "'1970-01-01T00:00:00.000000001'", "to_timestamp_seconds(30000)"]),
        ]
        .boxed(),
        "bin" => texts(&["X'01'", "X'0200'", "X'0302'", "X''", "X'FF'"]),
        _ => unreachable!("{column}"),
    }
}

const COLUMNS: [&str; 16] =
    ["id", "big", "i", "l", "f", "g", "dec", "s", "status", "b", "d", "ts", "tz", "bin", "p", "q"];
const PATTERNS: [&str; 12] = [
    "'Ad%'",
    "'%'",
    "'Ada'",
    "'B\\_%'",
    "'B\\%b'",
    "'B_b'",
    "'Zo%e%'",
    "'_da%'",
    "'Ulm%'",
    "'Lost\\_in%'",
    "'a\\\\%'",
    "''",
];

/// A condition on one column, as SQL.
fn condition() -> impl Strategy<Value = String> {
    select(COLUMNS.as_slice()).prop_flat_map(|column| {
        let value = || constant(column);
        let op = || select(["=", "<>", "<", "<=", ">", ">="].as_slice());
        let not = || select(["", "NOT "].as_slice());
        let list = || prop::collection::vec(value(), 1..6);
        let compared = prop_oneof![
            4 => (op(), value()).prop_map(move |(op, value)| format!("{column} {op} {value}")),
            2 => (op(), value()).prop_map(move |(op, value)| format!("{value} {op} {column}")),
            2 => (not(), list()).prop_map(move |(not, list)| format!("{column} {not}IN ({})", list.join(", "))),
            1 => (not(), list()).prop_map(move |(not, list)| format!("{column} {not}IN (NULL, {})", list.join(", "))),
            2 => (not(), value(), value()).prop_map(move |(not, low, high)| format!("{column} {not}BETWEEN {low} AND {high}")),
            1 => not().prop_map(move |not| format!("{column} IS {not}NULL")),
            1 => (not(), value()).prop_map(move |(not, value)| format!("{column} IS {not}DISTINCT FROM {value}")),
            1 => (op(), value()).prop_map(move |(op, value)| format!("({column} {op} {value}) IS TRUE")),
            1 => (op(), value()).prop_map(move |(op, value)| format!("({column} {op} {value}) IS NOT FALSE")),
            1 => op().prop_map(move |op| format!("{column} {op} NULL")),
        ];
        match column {
            "s" | "status" | "p" => {
                let like = (not(), select(PATTERNS.as_slice()));
                let like = like.prop_map(move |(not, pattern)| format!("{column} {not}LIKE {pattern}"));
                let starts = select(["'A'", "'Zoë'", "''", "'B_'"].as_slice());
                let starts = starts.prop_map(move |prefix| format!("starts_with({column}, {prefix})"));
                prop_oneof![3 => compared, 2 => like, 1 => starts].boxed()
            }
            "b" => {
                let flags = ["b", "NOT b", "b IS TRUE", "b IS NOT TRUE", "b IS FALSE", "b IS NOT FALSE", "b IS UNKNOWN"];
                prop_oneof![1 => compared, 2 => select(flags.to_vec()).prop_map(str::to_owned)].boxed()
            }
            "ts" | "tz" => {
                let day = (op(), -12..12_i64).prop_map(move |(op, day)| {
                    format!("CAST({column} AS DATE) {op} DATE '1970-01-01' + INTERVAL '{day} days'")
                });
                let second = (op(), -9..9_i64).prop_map(move |(op, n)| {
                    format!("CAST({column} AS TIMESTAMP(0)) {op} to_timestamp_seconds({})", n * 28_800 + n)
                });
                prop_oneof![4 => compared, 1 => day, 1 => second].boxed()
            }
            _ => compared.boxed(),
        }
    })
}

fn predicate() -> impl Strategy<Value = String> {
    condition().prop_map(|condition| format!("({condition})")).prop_recursive(3, 12, 3, |inner| {
        prop_oneof![
            2 => prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" AND "))),
            2 => prop::collection::vec(inner.clone(), 2..4).prop_map(|parts| format!("({})", parts.join(" OR "))),
            1 => inner.prop_map(|part| format!("NOT ({part})")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 700, ..ProptestConfig::default() })]

    #[test]
    fn what_the_scan_leaves_out_changes_no_answer(predicate in predicate()) {
        let sql = format!("SELECT id FROM t WHERE {predicate} ORDER BY id");
        let ids = |batches: Vec<RecordBatch>| -> Vec<u64> {
            batches.iter().flat_map(|batch| batch.column(0).as_primitive::<UInt64Type>().values().to_vec()).collect()
        };
        prop_assert_eq!(ids(query(&TWINS.store, &sql)), ids(query(&TWINS.memory, &sql)));
    }

    /// Here filters are found while the query runs.
    #[test]
    fn the_first_rows_are_the_same(
        predicate in prop::option::of(condition()),
        column in select(COLUMNS.as_slice()),
        descending in select(["ASC", "DESC"].as_slice()),
        nulls in select(["FIRST", "LAST"].as_slice()),
        limit in 1..30_u64,
    ) {
        let predicate = predicate.map_or_else(String::new, |predicate| format!("WHERE {predicate}"));
        // DataFusion 55.2 takes a time for constant whose day is, and does not sort by it, whatever the table: two rows of
        // VALUES come unsorted as well.
        prop_assume!(!predicate.contains(&format!("CAST({column} AS DATE) =")));
        assert_same(&format!("SELECT id, {column} AS x FROM t {predicate} ORDER BY {column} {descending} NULLS {nulls}, id LIMIT {limit}"));
    }
}

#[test]
fn queries_give_what_they_give_on_rows_in_memory() {
    for sql in [
        "SELECT count(*), count(i), count(id), min(f), max(s), sum(dec), avg(g) FROM t",
        "SELECT count(*) FROM t WHERE p = 'Ulm' AND q = 3",
        "SELECT count(*), sum(id) FROM t WHERE false",
        "SELECT status, p, count(*), sum(i), min(big), max(big) FROM t GROUP BY status, p ORDER BY status, p",
        "SELECT count(DISTINCT s), count(DISTINCT status), count(DISTINCT f) FROM t",
        "SELECT a.id, b.id, a.status FROM t a JOIN t b ON a.i = b.i AND a.status = b.status WHERE b.id < 40 ORDER BY a.id, b.id",
        "SELECT count(*) FROM t a JOIN t b ON a.f = b.f WHERE b.d > DATE '1970-01-10'",
        "SELECT count(*) FROM t a LEFT JOIN t b ON a.big = b.big AND b.id < 100",
        "SELECT id FROM t WHERE i IN (SELECT q FROM t WHERE status = 'Shipped') ORDER BY id",
        "SELECT id FROM t WHERE i > (SELECT avg(i) FROM t) ORDER BY id LIMIT 7",
        "SELECT id, row_number() OVER (PARTITION BY p ORDER BY id) FROM t ORDER BY id DESC LIMIT 20",
        "SELECT count(*) FROM (SELECT * FROM t LIMIT 100)",
        "SELECT count(*) FROM (SELECT * FROM t LIMIT 1000 OFFSET 500)",
        "SELECT max(n) FROM (SELECT count(*) AS n FROM t GROUP BY tz::date)",
        "SELECT * FROM t ORDER BY id LIMIT 50",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r JOIN t ON t.id = r.n WHERE n < 20) SELECT count(*), max(n) FROM r",
        "SELECT id FROM t UNION SELECT q FROM t WHERE q > 2 ORDER BY 1",
        // A filter that nearly all rows pass, on a column under a cast.
        "SELECT id FROM t WHERE CAST(ts AS DATE) > DATE '1970-01-01' + INTERVAL '-11 days' ORDER BY id LIMIT 1",
        "SELECT s FROM t WHERE s LIKE 'Zo%' AND tz > now() - INTERVAL '200 years' GROUP BY s ORDER BY s",
    ] {
        assert_same(sql);
    }
}

/// A store of three units, 307,200 rows, of values that ascend. Every tenth text is NULL.
fn ascending(path: &Path) -> Store {
    let columns = vec![Field::new("n", DataType::Int64), Field::nullable("s", DataType::Utf8)];
    let store = Store::create(path, Schema::new(columns).unwrap()).unwrap();
    let n: Int64Array = (0..UNIT_ROWS as i64 * 5 / 2).collect();
    let s: StringViewArray = n.values().iter().map(|n| (n % 10 != 0).then(|| format!("{n:09}"))).collect();
    store.append(&[RecordBatch::try_from_iter([("n", Arc::new(n) as ArrayRef), ("s", Arc::new(s))]).unwrap()]).unwrap();
    store
}

fn session_of(store: &Store) -> SessionContext {
    let session = session_with(2);
    session.register_table("t", Arc::new(SnapshotTable::new(store.snapshot().unwrap()))).unwrap();
    session
}

fn physical(session: &SessionContext, sql: &str) -> Arc<dyn ExecutionPlan> {
    RUNTIME.block_on(async { session.sql(sql).await?.create_physical_plan().await }).unwrap()
}

fn explained(session: &SessionContext, sql: &str) -> String {
    displayable(physical(session, sql).as_ref()).indent(false).to_string()
}

#[test]
fn filters_limits_and_projections_reach_the_scan() {
    let dir = tempfile::tempdir().unwrap();
    let store = ascending(&dir.path().join("t.soa"));
    let session = session_of(&store);
    for (sql, scans) in [
        ("SELECT * FROM t", "columns=[n, s], segments=1/1, units=3, partitions=2"),
        ("SELECT s FROM t", "columns=[s], segments=1/1, units=3, partitions=2"),
        ("SELECT n FROM t WHERE n < 100", "columns=[n], segments=1/1, units=1, partitions=1, filter=n < 100"),
        ("SELECT s FROM t WHERE n BETWEEN 122879 AND 122880", "units=2, partitions=2"),
        ("SELECT n FROM t WHERE s LIKE '0003%'", "columns=[n, s], segments=1/1, units=1"),
        ("SELECT n FROM t WHERE n = 1 OR s = '000300000'", "units=2"),
        ("SELECT n FROM t WHERE NOT (n > 5 OR s IS NULL)", "units=1"),
        ("SELECT n FROM t WHERE n < 0", "segments=0/1, units=0, partitions=1"),
        ("SELECT n FROM t WHERE 150000.5 < n AND n % 2 = 0", "units=2, partitions=2, filter"),
        ("SELECT n FROM t LIMIT 5", "units=1, partitions=1, fetch=5"),
        ("SELECT n FROM t LIMIT 5 OFFSET 122878", "units=2, partitions=2, fetch=122883"),
    ] {
        let plan = explained(&session, sql);
        assert!(plan.contains(scans), "{sql}: {scans}\n{plan}");
    }
    // What is understood is said once, and tested again above.
    let plan = explained(&session, "SELECT n FROM t WHERE n < 100 AND n > 50 AND n % 3 = 1");
    assert!(plan.contains("filter=n < 100 AND n > 50\n") && plan.contains("FilterExec: n@0 < 100"), "{plan}");
}

#[test]
fn counts_are_answered_by_metadata() {
    let dir = tempfile::tempdir().unwrap();
    let store = ascending(&dir.path().join("t.soa"));
    let plan = explained(&session_of(&store), "SELECT count(*), count(s) FROM t");
    assert!(!plan.contains("DataSourceExec"), "{plan}");
    let rows = text(&query(&session_of(&store), "SELECT count(*), count(s) FROM t"));
    assert!(rows.contains("| 307200   | 276480     |"), "{rows}");
    let table = SnapshotTable::new(store.snapshot().unwrap());
    assert_eq!(table.statistics().unwrap().num_rows.get_value(), Some(&(UNIT_ROWS * 5 / 2)));
}

/// The sum of a scan's metric.
fn metric(plan: &Arc<dyn ExecutionPlan>, name: &str) -> usize {
    let own = plan.metrics().and_then(|metrics| metrics.sum_by_name(name)).map_or(0, |value| value.as_usize());
    own + plan.children().into_iter().map(|child| metric(child, name)).sum::<usize>()
}

fn run(session: &SessionContext, plan: &Arc<dyn ExecutionPlan>) -> Vec<RecordBatch> {
    RUNTIME.block_on(collect(Arc::clone(plan), session.task_ctx())).unwrap()
}

#[test]
fn what_a_query_finds_out_while_it_runs_is_used() {
    let dir = tempfile::tempdir().unwrap();
    let store = ascending(&dir.path().join("t.soa"));
    let session = session_with(1);
    session.register_table("t", Arc::new(SnapshotTable::new(store.snapshot().unwrap()))).unwrap();
    for (sql, answer) in [
        // The ten least are in the first unit, after which no other can hold less.
        ("SELECT max(n) FROM (SELECT n FROM t ORDER BY n LIMIT 10)", "9"),
        // Only one of the units has the joined key.
        ("SELECT sum(t.n) FROM (SELECT n FROM t WHERE n = 5) a JOIN t ON t.n = a.n + 200000", "200005"),
    ] {
        let plan = physical(&session, sql);
        let rows = text(&run(&session, &plan));
        assert!(rows.contains(&format!("| {answer} ")), "{sql}: {rows}");
        let (read, pruned) = (metric(&plan, "units_read"), metric(&plan, "units_pruned"));
        assert_eq!(pruned, 2, "{sql}: {read} read\n{}", displayable(plan.as_ref()).indent(false));
    }
}

/// DataFusion's own filter for the least `n` leaves out the rows that have the greatest.
#[test]
fn what_an_aggregation_finds_out_is_not_trusted() {
    let dir = tempfile::tempdir().unwrap();
    let store = ascending(&dir.path().join("t.soa"));
    for session in [SessionContext::new(), session_with(1)] {
        session.register_table("t", Arc::new(SnapshotTable::new(store.snapshot().unwrap()))).unwrap();
        let rows = text(&query(&session, "SELECT min(-n) AS least, min(n) AS n FROM t"));
        assert!(rows.contains("| -307199 | 0 |"), "{rows}");
    }
}

#[test]
fn a_table_of_some_rows_has_no_others() {
    let dir = tempfile::tempdir().unwrap();
    let store = ascending(&dir.path().join("t.soa"));
    let session = session_with(2);
    // Most rows of each unit match.
    let predicate = Predicate::Not(Box::new(Predicate::StartsWith { column: 1, prefix: "00000000".to_owned() }));
    let table = SnapshotTable::matching(store.snapshot().unwrap(), predicate);
    session.register_table("t", Arc::new(table)).unwrap();
    for (sql, answer) in [
        // 307,200 rows, every tenth of them NULL, and without 00000001 to 00000009.
        ("SELECT count(*) FROM t", "276471"),
        ("SELECT count(*) FROM (SELECT n FROM t LIMIT 20) x WHERE n > 10", "20"),
        ("SELECT min(n) FROM t WHERE n < 100000", "11"),
        ("SELECT count(*) FROM (SELECT n FROM t ORDER BY n LIMIT 3) x WHERE n < 14", "3"),
    ] {
        let rows = text(&query(&session, sql));
        assert!(rows.contains(&format!("| {answer} ")), "{sql}: {rows}");
    }
}

#[test]
fn a_plan_can_be_run_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = ascending(&dir.path().join("t.soa"));
    let session = session_of(&store);
    let plan = physical(&session, "SELECT n FROM t WHERE n % 1000 = 7");
    for _ in 0..3 {
        let rows: usize = run(&session, &plan).iter().map(RecordBatch::num_rows).sum();
        assert_eq!(rows, 308);
    }
}

#[test]
fn a_table_is_one_version_whatever_is_appended() {
    let dir = tempfile::tempdir().unwrap();
    let store = ascending(&dir.path().join("t.soa"));
    let session = session_of(&store);
    let sql = "SELECT count(*) FROM t WHERE n >= 0";
    let before = text(&query(&session, sql));
    store.append(&[rows_of_ascending(5)]).unwrap();
    assert_eq!(text(&query(&session, sql)), before);
    assert_ne!(text(&query(&session_of(&store), sql)), before);
}

fn rows_of_ascending(count: i64) -> RecordBatch {
    let n: Int64Array = (0..count).collect();
    let s: StringViewArray = n.values().iter().map(|n| Some(n.to_string())).collect();
    RecordBatch::try_from_iter([("n", Arc::new(n) as ArrayRef), ("s", Arc::new(s))]).unwrap()
}

#[test]
fn deleted_rows_and_those_of_the_write_ahead_log_are_seen() {
    let dir = tempfile::tempdir().unwrap();
    let columns = vec![Field::new("n", DataType::Int64), Field::nullable("s", DataType::Utf8)];
    let schema = Schema::new(columns).and_then(|schema| schema.with_key("n")).unwrap();
    let store = Store::create(dir.path().join("t.soa"), schema).unwrap();
    store.append(&[rows_of_ascending(10)]).unwrap();
    let answers = [
        ("SELECT count(*), count(s), sum(n) FROM t", "8 7 142"),
        ("SELECT count(*), sum(n) FROM t WHERE n > 2", "7 142"),
        ("SELECT count(*) FROM t WHERE s = 'new'", "1"),
        ("SELECT count(*) FROM t WHERE s = '3'", "0"),
        ("SELECT max(n) FROM (SELECT n FROM t ORDER BY n LIMIT 3)", "4"),
    ];
    let check = |what: &str| {
        for (sql, expected) in answers {
            let table = text(&query(&session_of(&store), sql));
            let row = table.lines().nth(3).unwrap_or_default();
            let cells: Vec<&str> = row.split('|').map(str::trim).filter(|cell| !cell.is_empty()).collect();
            assert_eq!(cells.join(" "), expected, "{what}: {sql}");
        }
    };
    let mut options = WriterOptions::default();
    options.publish_age = Duration::from_secs(3600);
    let writer = store.writer(options).unwrap();
    let with = |n: i64, s: Option<&str>| {
        let (n, s): (ArrayRef, ArrayRef) = (Arc::new(Int64Array::from(vec![n])), Arc::new(StringArray::from(vec![s])));
        RecordBatch::try_from_iter([("n", n), ("s", s)]).unwrap()
    };
    writer.delete(&(Arc::new(Int64Array::from(vec![1, 2, 5, 6])) as ArrayRef)).unwrap();
    writer.add_batch(&with(3, Some("new"))).unwrap();
    writer.add_batch(&with(100, None)).unwrap();
    writer.add_batch(&with(11, Some("eleven"))).unwrap();
    writer.delete(&(Arc::new(Int64Array::from(vec![11])) as ArrayRef)).unwrap();
    writer.add_batch(&with(11, Some("eleven"))).unwrap();
    assert_eq!(store.snapshot().unwrap().log_row_count(), 3);
    check("in the log");
    writer.flush().unwrap();
    assert_eq!(store.snapshot().unwrap().log_row_count(), 0);
    check("published");
    writer.close().unwrap();
}

#[test]
fn an_error_of_the_store_comes_out_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t.soa");
    let store = ascending(&path);
    let session = session_of(&store);
    std::fs::remove_dir_all(path.join("_soa")).unwrap();
    for entry in std::fs::read_dir(&path).unwrap() {
        let file = entry.unwrap().path();
        if file.extension().is_some_and(|extension| extension == "parquet") {
            std::fs::remove_file(file).unwrap();
        }
    }
    let error = RUNTIME.block_on(async { session.sql("SELECT sum(n) FROM t").await?.collect().await }).unwrap_err();
    let DataFusionError::External(cause) = error.find_root() else { panic!("{error}") };
    let cause = cause.downcast_ref::<soa_core::Error>().unwrap();
    assert!(matches!(cause, soa_core::Error::Io { path, .. } if path.extension().is_some()), "{cause}");
}

#[test]
fn a_query_that_is_dropped_reads_no_further() {
    let dir = tempfile::tempdir().unwrap();
    let columns = vec![Field::new("n", DataType::Int64)];
    let store = Store::create(dir.path().join("t.soa"), Schema::new(columns).unwrap()).unwrap();
    store.set_auto_compact(false).unwrap();
    let units: i64 = 64;
    for first in 0..units {
        let n: Int64Array = (first * 10..(first + 1) * 10).collect();
        store.append(&[RecordBatch::try_from_iter([("n", Arc::new(n) as ArrayRef)]).unwrap()]).unwrap();
    }
    let session = session_of(&store);
    // Two tasks read ahead of who takes their rows, but not without end.
    let plan = physical(&session, "SELECT n FROM t");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let mut rows = execute_stream(Arc::clone(&plan), session.task_ctx()).unwrap();
        assert_eq!(rows.next().await.unwrap().unwrap().num_rows(), 10);
    });
    // Waits for what still runs.
    drop(runtime);
    let read = metric(&plan, "units_read");
    assert!((1..usize::try_from(units).unwrap()).contains(&read), "{read} of {units} units were read");
}
