//! Tables of DuckDB databases.

use std::path::Path;

use soa_core::kernel::Rows;
use soa_core::persistence::{DuckDBPersistence, PersistenceError, Query, SoAPersistence};
use soa_core::{SoA, SoAStore};

use super::{Reading, ReadingSoA, reading, run, sorted, suite};
use crate::orders::{Order, OrderSoA, OrderStatus, PersistentOrderStore, order, orders};
use crate::records::{Everything, EverythingSoA, everything};

#[test]
fn tables_pass_the_suite() {
    run(async {
        suite(&DuckDBPersistence::new(None, "orders")).await.unwrap();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.duckdb");
        let kept = DuckDBPersistence::new(Some(&path), "orders");
        suite(&kept).await.unwrap();
        suite(&kept).await.unwrap();
    });
}

#[test]
fn what_was_kept_is_there_the_next_time() {
    run(async {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("shop.duckdb");
        let first = DuckDBPersistence::<Order>::new(Some(&path), "orders");
        first.save(&orders(10_000).collect()).await.unwrap();
        // The file is this one's alone, which the next one is told.
        let second = DuckDBPersistence::<Order>::new(Some(&path), "orders");
        let error = second.count().await.unwrap_err();
        assert!(matches!(error, PersistenceError::Busy(_)) && error.changed_nothing(), "{error:?}");
        first.close().await.unwrap();
        assert_eq!(sorted(second.load().await.unwrap()), orders(10_000).collect::<Vec<_>>());
        let stats = second.memory_stats().await.unwrap();
        assert_eq!(stats.total_rows, 10_000);
        assert!(stats.num_batches >= 1 && stats.total_bytes > 100_000, "{stats:?}");
        drop(second);

        let mut store = PersistentOrderStore::with_persistence(DuckDBPersistence::new(Some(&path), "orders"));
        store.add(order(10_000, 10_001)).await.unwrap();
        store.update(&7, |mut order| order.set_status(OrderStatus::Cancelled)).await.unwrap();
        store.remove(&8).await.unwrap();
        assert_eq!((store.count().await.unwrap(), store.is_loaded()), (10_000, false));
        assert_eq!(store.kernel().await.unwrap().len(), 10_000);
        store.close().await.unwrap();
        let again = DuckDBPersistence::<Order>::new(Some(&path), "orders");
        let rows = sorted(again.load().await.unwrap());
        assert_eq!((rows[7].status, rows[8].order_id, rows.len()), (OrderStatus::Cancelled, 9, 10_000));
    });
}

#[test]
fn every_type_comes_back_as_it_went_in() {
    run(async {
        let kept = DuckDBPersistence::<Everything>::new(None, "everything");
        let rows: Vec<Everything> = (0..5_000).map(everything).collect();
        kept.append(&rows.iter().cloned().collect()).await.unwrap();
        let mut back = kept.load().await.unwrap();
        back.sort_by_stamp();
        assert_eq!(back.to_vec(), rows);

        // Conditions on every type mean what they mean elsewhere.
        let memory = soa_core::persistence::ArrowPersistence::<Everything>::new();
        memory.append(&rows.iter().cloned().collect()).await.unwrap();
        let mut idle = Vec::new();
        for condition in [
            "flag = true",
            "i8 < -3",
            "u8 >= 250 AND i16 <> 4",
            "u64 > 18446744073709551000",
            "u64 < 5000000000",
            "i64 <= -1",
            "f32 > 3.5 OR f64 < 0.5",
            "text >= 'räksmörgås number 7'",
            "text LIKE 'räksmörgås number 4%'",
            "colour IN ('Red', 'dark green')",
            "day > '1920-01-01'",
            "clock < '1969-12-31 23:59:00'",
            "instant BETWEEN '1970-01-01 00:01:00' AND '1970-01-01 00:02:00'",
            "stamp = '1970-01-01 00:00:00.000017'",
            "time_of_day > '00:00:30'",
            "took < 500.5",
            "uuid > '00000000-0000-0000-8000-000000000000'",
            "uuid = '00000000-0000-0000-0000-000000000000'",
            "raw = x'0100000000000000'",
            "huge > 1000000000000000000000000000000000",
            "price >= 4.999",
            "large > 18446744073709550000",
            "maybe_flag IS NULL",
            "NOT (maybe_number > 100)",
            "maybe_colour = 'dark green' AND maybe_Text IS NOT NULL",
            "maybe_cents < 3.5",
            "maybe_price > 0.0000000000000000000000000017",
            "maybe_took > -0.000005",
            "maybe_uuid IS NOT NULL AND maybe_raw = x''",
            "(i32 = 1 OR i32 = 2) AND NOT (i32 = 2)",
        ] {
            let query = Query::parse::<Everything>(condition).unwrap();
            let sorted = |mut rows: EverythingSoA| {
                rows.sort_by_stamp();
                rows.to_vec()
            };
            let expected = sorted(memory.query(query.clone()).await.unwrap());
            assert_eq!(sorted(kept.query(query).await.unwrap()), expected, "{condition}");
            idle.extend(expected.is_empty().then_some(condition));
        }
        assert!(idle.is_empty(), "they say nothing: {idle:?}");
    });
}

#[test]
fn any_sql_can_be_asked() {
    run(async {
        let kept = DuckDBPersistence::<Order>::new(None, "orders");
        kept.save(&orders(1_000).collect()).await.unwrap();
        let batches =
            kept.query_sql("SELECT status, count(*) AS n FROM orders GROUP BY ALL ORDER BY ALL").await.unwrap();
        assert_eq!(batches.iter().map(|batch| batch.num_rows()).sum::<usize>(), 5);
        let values = kept
            .analytics_query("SELECT order_id, total_amount, NULL AS nothing, status FROM orders WHERE order_id = 3")
            .await
            .unwrap();
        let third = order(3, 1_000);
        let expected = serde_json::json!([{
            "order_id": 3, "total_amount": third.total_amount, "nothing": null, "status": format!("{:?}", third.status)
        }]);
        assert_eq!(serde_json::Value::from(values), expected);
        assert!(kept.analytics_query("SELECT * FROM orders WHERE false").await.unwrap().is_empty());
        let types = kept.query_sql("DESCRIBE orders").await.unwrap();
        let types = soa_core::arrow::util::pretty::pretty_format_batches(&types).unwrap().to_string();
        for column in ["UBIGINT", "UINTEGER", "DOUBLE", "VARCHAR", "TIMESTAMP WITH TIME ZONE", "PRI"] {
            assert!(types.contains(column), "{types}");
        }
        let error = kept.query_sql("SELECT * FROM nowhere").await.unwrap_err();
        assert!(matches!(error, PersistenceError::DuckDb(_)) && error.to_string().contains("nowhere"), "{error}");
        // And what follows is not disturbed.
        assert_eq!(kept.count().await.unwrap(), 1_000);
    });
}

#[test]
fn no_name_is_sql() {
    #[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
    #[soa_store(key = "select")]
    struct Odd {
        #[soa(rename = "select")]
        id: u32,
        #[soa(rename = "a\"b'c")]
        text: String,
    }
    run(async {
        let kept = DuckDBPersistence::<Odd>::new(None, "x\" (a INT); DROP TABLE orders; --");
        let other = DuckDBPersistence::<Odd>::new(None, "it's");
        for kept in [kept, other] {
            let rows: OddSoA = (0..10).map(|id| Odd { id, text: format!("'; DROP TABLE \"x{id}") }).collect();
            kept.append(&rows).await.unwrap();
            kept.append(&rows.slice(..3)).await.unwrap();
            let text = soa_core::predicate::Scalar::Utf8(rows.view(4).text.to_owned());
            let found = kept.query(soa_core::predicate::Predicate::eq(1, text)).await.unwrap();
            assert_eq!(found.to_vec(), [rows.view(4).to_owned()]);
            let prefix = soa_core::predicate::Predicate::StartsWith { column: 1, prefix: "'; DROP".to_owned() };
            assert_eq!(kept.query(prefix).await.unwrap().len(), 10);
            assert_eq!(kept.memory_stats().await.unwrap().num_batches, 1);
            let tables = kept.analytics_query("SELECT count(*) AS n FROM duckdb_tables()").await.unwrap();
            assert_eq!(tables, [serde_json::json!({ "n": 1 })]);
        }
    });
}

#[test]
fn a_change_that_fails_leaves_everything() {
    run(async {
        let kept = DuckDBPersistence::<Reading>::new(None, "readings");
        let made = "CREATE TABLE readings (value DOUBLE NOT NULL CHECK (value < 100), text VARCHAR)";
        kept.query_sql(made).await.unwrap();
        let fine: ReadingSoA = (0..100).map(reading).collect();
        kept.append(&fine).await.unwrap();
        let wrong: ReadingSoA = (150..250).map(reading).collect();
        for error in [kept.append(&wrong).await, kept.save(&wrong).await, kept.put(&wrong).await] {
            let error = error.unwrap_err();
            assert!(matches!(error, PersistenceError::DuckDb(_)) && error.to_string().contains("CHECK"), "{error}");
        }
        let rows = kept.load().await.unwrap();
        assert_eq!((rows.len(), rows.iter().map(|row| row.value).fold(0.0, f64::max)), (100, 49.0));
        kept.clear().await.unwrap();
        assert_eq!(kept.count().await.unwrap(), 0);
    });
}

#[test]
fn a_table_of_other_records_is_refused_and_one_of_older_ones_grows() {
    #[derive(Debug, SoA, SoAStore)]
    #[soa_store(key = "id")]
    struct Older {
        id: u32,
    }
    #[derive(Debug, SoA, SoAStore)]
    #[soa_store(key = "id")]
    struct Newer {
        id: u32,
        note: Option<String>,
    }
    async fn shared(path: &Path) {
        let older = DuckDBPersistence::<Older>::new(Some(path), "rows");
        older.save(&(0..5).map(|id| Older { id }).collect()).await.unwrap();
        older.close().await.unwrap();
        // (Upper and lower case are not told apart in names of tables.)
        for table in ["rows", "ROWS"] {
            let wrong = DuckDBPersistence::<Order>::new(Some(path), table);
            for error in [wrong.load().await.map(drop), wrong.save(&OrderSoA::new()).await] {
                let error = error.unwrap_err();
                assert!(matches!(error, PersistenceError::OtherTable { .. }), "{error:?}");
                assert!(error.to_string().contains("\"id\"") && error.changed_nothing(), "{error}");
            }
        }
        let newer = DuckDBPersistence::<Newer>::new(Some(path), "rows");
        assert_eq!(newer.query(Query::parse::<Newer>("note IS NULL").unwrap()).await.unwrap().len(), 5);
        newer.put(&[Newer { id: 3, note: Some("x".to_owned()) }].into_iter().collect()).await.unwrap();
        assert_eq!(newer.query(Query::parse::<Newer>("note = 'x'").unwrap()).await.unwrap().id_raw_array(), [3]);
        assert_eq!(newer.count().await.unwrap(), 5);
        newer.close().await.unwrap();
        let error = older.count().await.unwrap_err();
        assert!(matches!(error, PersistenceError::OtherTable { .. }) && error.to_string().contains("note"), "{error}");
    }
    let dir = tempfile::tempdir().unwrap();
    run(shared(&dir.path().join("rows.duckdb")));
}

#[test]
fn the_runtime_goes_on_while_duckdb_works() {
    run(async {
        let rows: OrderSoA = orders(500_000).collect();
        let kept = DuckDBPersistence::<Order>::new(None, "orders");
        let (saved, turns) = super::futures::turns_during(kept.save(&rows)).await;
        saved.unwrap();
        assert!(turns > 200, "{turns} turns");
        let (loaded, turns) = super::futures::turns_during(kept.load()).await;
        assert_eq!(Rows::len(&loaded.unwrap()), 500_000);
        assert!(turns > 200, "{turns} turns");
    });
}
