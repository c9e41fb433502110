//! `PersistentOrderStore`.

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use soa_core::persistence::{
    ArrowPersistence, ParquetPersistence, PartitionedParquetPersistence, PersistenceError, PersistentStore, Query,
    SoAPersistence,
};
use soa_core::{SoA, SoAStore};

use super::{folder, run, sorted};
use crate::orders::{Order, OrderSoA, OrderStatus, PersistentOrderStore, order, orders};

#[test]
fn nothing_is_loaded_before_it_is_asked_for() {
    run(async {
        let (_dir, path) = folder();
        ParquetPersistence::<Order>::new(&path).save(&orders(1_000).collect()).await.unwrap();
        let mut store = PersistentOrderStore::with_persistence(ParquetPersistence::new(&path));
        store.add(order(1_000, 1_001)).await.unwrap();
        assert_eq!(store.get(&17).await.unwrap(), Some(order(17, 1_000)));
        assert_eq!(store.get(&5_000).await.unwrap(), None);
        assert!(store.contains(&1_000).await.unwrap() && !store.contains(&1_001).await.unwrap());
        let added = store.update(&17, |mut order| {
            *order.quantity() += 100;
            *order.quantity()
        });
        assert_eq!(added.await.unwrap(), Some(order(17, 1_000).quantity + 100));
        assert_eq!(store.update(&5_000, |_| ()).await.unwrap(), None);
        assert_eq!(store.remove(&18).await.unwrap(), Some(order(18, 1_000)));
        assert_eq!(store.remove(&18).await.unwrap(), None);
        assert_eq!(store.query(Query::parse::<Order>("quantity > 100").unwrap()).await.unwrap().len(), 1);
        assert_eq!(store.count().await.unwrap(), 1_000);
        assert!(!store.is_loaded());
        assert_eq!(store.memory_stats().total_bytes, 0);

        let before = sorted(store.query(Query::all()).await.unwrap());
        assert_eq!(sorted(store.kernel().await.unwrap().clone()), before);
        assert!(store.is_loaded());
        let stats = store.memory_stats();
        assert_eq!((stats.total_rows, stats.num_batches), (1_000, 1));
        assert!(stats.total_bytes > 62_000, "{stats:?}");
        // From now on in memory, and kept as before.
        store.add_batch(orders(20)).await.unwrap();
        store.remove(&500).await.unwrap();
        assert_eq!(store.get(&17).await.unwrap(), Some(order(17, 20)));
        assert!(store.is_loaded());
        let loaded = sorted(store.kernel().await.unwrap().clone());
        store.unload();
        assert_eq!(sorted(store.kernel().await.unwrap().clone()), loaded);
        assert_eq!(loaded.len(), 1_000);
        store.close().await.unwrap();
        assert_eq!(sorted(ParquetPersistence::<Order>::new(&path).load().await.unwrap()), loaded);
    });
}

#[test]
fn what_is_refused_changes_nothing() {
    run(async {
        let (_dir, path) = folder();
        let mut store = PersistentOrderStore::with_persistence(ParquetPersistence::new(&path));
        store.add_batch(orders(10)).await.unwrap();
        store.load().await.unwrap();
        let error = store.update(&3, |mut order| *order.order_id() = 4).await.unwrap_err();
        assert!(matches!(error, PersistenceError::Refused(_)) && error.to_string().contains("order_id"), "{error}");
        assert!(store.is_loaded());
        // Somebody else has the log.
        store.persistence().close().await.unwrap();
        let other = ParquetPersistence::<Order>::new(&path);
        other.put(&OrderSoA::from_iter([order(10, 11)])).await.unwrap();
        let error = store.add(order(11, 12)).await.unwrap_err();
        assert!(matches!(error, PersistenceError::Busy(_)) && store.is_loaded(), "{error}");
        assert_eq!((store.count().await.unwrap(), store.get(&11).await.unwrap()), (10, None));
        other.close().await.unwrap();
        store.unload();
        assert_eq!(store.count().await.unwrap(), 11);
    });
}

#[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
#[soa_store(key = "at")]
struct Event {
    at: chrono::NaiveDateTime,
    what: String,
}

#[test]
fn a_key_that_fits_no_row_is_not_there() {
    run(async {
        let at = |nanos| chrono::DateTime::from_timestamp_nanos(nanos).naive_utc();
        let event = Event { at: at(1_000), what: "a".repeat(30) };
        let (_dir, path) = folder();
        let mut store = PersistentEventStore::with_persistence(ParquetPersistence::new(&path));
        store.add(event.clone()).await.unwrap();
        assert_eq!(store.get(&at(1_001)).await.unwrap(), None);
        assert_eq!(store.remove(&at(1_001)).await.unwrap(), None);
        let error = store.add(Event { at: at(1_001), ..event.clone() }).await.unwrap_err();
        assert!(matches!(error, PersistenceError::Refused(_)) && error.to_string().contains("\"at\""), "{error}");
        store.load().await.unwrap();
        assert_eq!(store.get(&at(1_001)).await.unwrap(), None);
        assert_eq!(store.remove(&at(1_000)).await.unwrap(), Some(event));
        assert_eq!(store.count().await.unwrap(), 0);
    });
}

#[derive(Debug, Clone)]
enum Step {
    Add(u64, u32),
    AddBatch(Vec<(u64, u32)>),
    Update(u64, u32),
    Remove(u64),
    Append(Vec<(u64, u32)>),
    Query(u32),
    Load,
    Unload,
    Flush,
    Clear,
    Reopen { close: bool },
}

fn step() -> impl Strategy<Value = Step> {
    let row = || (0..40_u64, 0..1000_u32);
    let rows = || prop::collection::vec(row(), 0..20);
    prop_oneof![
        6 => row().prop_map(|(key, quantity)| Step::Add(key, quantity)),
        2 => rows().prop_map(Step::AddBatch),
        3 => row().prop_map(|(key, quantity)| Step::Update(key, quantity)),
        3 => (0..40_u64).prop_map(Step::Remove),
        1 => rows().prop_map(Step::Append),
        2 => (0..1000_u32).prop_map(Step::Query),
        2 => Just(Step::Load),
        2 => Just(Step::Unload),
        1 => Just(Step::Flush),
        1 => Just(Step::Clear),
        2 => any::<bool>().prop_map(|close| Step::Reopen { close }),
    ]
}

fn row(key: u64, quantity: u32) -> Order {
    let status = if quantity.is_multiple_of(2) { OrderStatus::Pending } else { OrderStatus::Shipped };
    Order { quantity, status, ..order(key, 40) }
}

/// Takes the steps, each also on a map, and compares.
async fn follow<P: SoAPersistence<Order>>(
    steps: &[Step],
    open: impl Fn(Option<P>) -> P,
) -> Result<(), PersistenceError> {
    let mut store = PersistentStore::<Order, P>::with_persistence(open(None));
    let mut model: BTreeMap<u64, Order> = BTreeMap::new();
    let insert = |model: &mut BTreeMap<u64, Order>, rows: &[(u64, u32)]| {
        let rows: Vec<Order> = rows.iter().map(|(key, quantity)| row(*key, *quantity)).collect();
        model.extend(rows.iter().map(|order| (order.order_id, order.clone())));
        rows
    };
    for step in steps {
        match step {
            Step::Add(key, quantity) => {
                let rows = insert(&mut model, &[(*key, *quantity)]);
                store.add(rows[0].clone()).await?;
            }
            Step::AddBatch(rows) => {
                let rows = insert(&mut model, rows);
                assert_eq!(store.add_batch(rows.clone()).await?, rows.len());
            }
            Step::Update(key, quantity) => {
                let there = model.get_mut(key).map(|order| order.quantity = *quantity);
                assert_eq!(store.update(key, |mut order| *order.quantity() = *quantity).await?, there);
            }
            Step::Remove(key) => assert_eq!(store.remove(key).await?, model.remove(key)),
            Step::Append(rows) => {
                // Past the records in memory, which are loaded anew then.
                let rows: OrderSoA = insert(&mut model, rows).into_iter().collect();
                store.persistence().append(&rows).await?;
                store.unload();
            }
            Step::Query(bound) => {
                let query = Query::parse::<Order>(&format!("quantity < {bound} AND status = 'Pending'"))?;
                let is_match = |order: &&Order| order.quantity < *bound && order.status == OrderStatus::Pending;
                let expected: Vec<Order> = model.values().filter(is_match).cloned().collect();
                assert_eq!(sorted(store.query(query).await?), expected);
            }
            Step::Load => drop(store.load().await?),
            Step::Unload => store.unload(),
            Step::Flush => store.flush().await?,
            Step::Clear => {
                model.clear();
                store.clear().await?;
            }
            Step::Reopen { close } => {
                let kept = store.into_persistence();
                if *close {
                    kept.close().await?;
                }
                store = PersistentStore::with_persistence(open(Some(kept)));
            }
        }
        assert_eq!(store.count().await?, model.len() as u64, "{step:?}");
        for key in [0, 7, 39] {
            assert_eq!(store.get(&key).await?, model.get(&key).cloned(), "{step:?}");
        }
    }
    assert_eq!(sorted(store.kernel().await?.clone()), model.into_values().collect::<Vec<_>>());
    Ok(())
}

/// Another one on the same folder, once the one before is gone.
fn reopened<P>(before: Option<P>, open: impl FnOnce() -> P) -> P {
    drop(before);
    open()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 16, ..ProptestConfig::default() })]
    #[test]
    fn persistent_stores_hold_what_a_map_holds(steps in prop::collection::vec(step(), 1..40)) {
        run(async {
            follow(&steps, |before| before.unwrap_or_else(ArrowPersistence::new)).await.unwrap();
            let (_dir, path) = folder();
            let path: &Path = &path;
            follow(&steps, |before| reopened(before, || ParquetPersistence::new(path))).await.unwrap();
            let split = path.with_file_name("split.soa");
            follow(&steps, |before| reopened(before, || PartitionedParquetPersistence::new(&split, "status")))
                .await
                .unwrap();
        });
    }
}
