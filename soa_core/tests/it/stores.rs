//! `OrderStore` and `OrderShardedStore`.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::collection::vec;
use proptest::prelude::*;
use soa_core::kernel::KeyedRecord;
use soa_core::{Error, SoA, SoAStore};

use crate::orders::{Order, OrderShardedStore, OrderSoA, OrderStatus, OrderStore, order, orders};

#[test]
fn records_are_found_by_key() {
    let mut store = OrderStore::with_capacity(10);
    assert_eq!(store.add_batch(orders(1_000)).unwrap(), 1_000);
    assert_eq!((store.len(), store.is_empty()), (1_000, false));
    assert_eq!(store.get(&500).unwrap().to_owned(), order(500, 1_000));
    assert!(store.get(&1_000).is_none() && !store.contains(&1_000));
    // Replaced in its row, or refused.
    let changed = Order { quantity: 77, ..order(500, 1_000) };
    assert_eq!(store.add(changed.clone()).unwrap(), 500);
    assert_eq!(store.get(&500).unwrap().quantity, 77);
    assert!(matches!(store.try_add(changed), Err(Error::DuplicateKey { .. })));
    assert_eq!(store.try_add(order(2_000, 1)).unwrap(), 1_000);
    // The last row takes the place of one that goes.
    assert_eq!(store.remove(&3).unwrap(), order(3, 1_000));
    assert_eq!(store.remove(&3), None);
    assert_eq!(store.find(&2_000), Some(3));
    assert_eq!(store.remove(&2_000).unwrap().order_id, 2_000);
    assert_eq!(store.len(), 999);
    assert_eq!(store.iter().filter(|order| store.contains(&order.order_id)).count(), 999);
    store.shrink_to_fit();
    assert_eq!(store.kernel().to_record_batch().num_rows(), 999);
    store.clear();
    assert!(store.is_empty() && !store.contains(&1));
}

#[test]
fn a_record_can_be_changed_and_its_key_too() {
    let mut store = OrderStore::new();
    store.add_batch(orders(10)).unwrap();
    assert_eq!(store.update(&4, |mut order| order.set_status(OrderStatus::Cancelled)).unwrap(), Some(()));
    assert_eq!(store.get(&4).unwrap().status, OrderStatus::Cancelled);
    assert_eq!(store.update(&44, |_| ()).unwrap(), None);
    store.update(&4, |mut order| *order.order_id() = 44).unwrap();
    assert!(!store.contains(&4));
    assert_eq!(store.get(&44).unwrap().status, OrderStatus::Cancelled);
    // The key of another record: refused, and the record keeps its own.
    let error = store.update(&44, |mut order| *order.order_id() = 5).unwrap_err();
    assert!(error.to_string().contains("key 5") && error.to_string().contains("order_id"), "{error}");
    assert_eq!(store.find(&44), Some(4));
    assert_eq!(store.find(&5), Some(5));
    // A change that panics after it changed the key.
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.update(&44, |mut order| {
            *order.order_id() = 45;
            panic!("in the middle")
        })
    }));
    assert!(outcome.is_err());
    assert_eq!((store.find(&44), store.find(&45)), (None, Some(4)));
}

#[test]
fn the_index_follows_what_is_done_to_the_columns() {
    let mut store = OrderStore::new();
    store.add_batch(orders(10)).unwrap();
    let mut kernel = store.kernel_mut();
    assert_eq!(kernel.len(), 10);
    kernel.swap_remove(0);
    kernel.push(order(20, 1));
    *kernel.view_mut(3).order_id() = 33;
    drop(kernel);
    assert_eq!((store.find(&0), store.find(&9), store.find(&20), store.find(&33)), (None, Some(0), Some(9), Some(3)));
    // The later of two rows with one key stays.
    let mut kernel = store.kernel_mut();
    kernel.push(Order { quantity: 99, ..order(5, 10) });
    assert_eq!(kernel.finish(), 1);
    assert_eq!((store.len(), store.get(&5).unwrap().quantity), (10, 99));
    // A guard that is leaked leaves no entry behind that points to a row that is gone.
    let mut kernel = store.kernel_mut();
    kernel.clear();
    std::mem::forget(kernel);
    assert!(store.get(&5).is_none());
    let twice: OrderSoA = orders(5).chain(orders(3)).collect();
    assert_eq!(OrderStore::from_kernel(twice).unwrap().len(), 5);
    // Each key as often as can be: the last one counts, wherever rows are moved to.
    let with = |key: u64, quantity: u32| Order { quantity, ..order(key, 10) };
    let rows = [with(1, 1), with(1, 2), with(2, 3), with(2, 4), with(1, 5), with(3, 6), with(3, 7), with(2, 8)];
    let store = OrderStore::from_kernel(rows.into_iter().collect()).unwrap();
    assert_eq!([1, 2, 3].map(|key| store.get(&key).unwrap().quantity), [5, 8, 7]);
}

#[test]
fn records_are_merged_retained_and_drained() {
    let mut store = OrderStore::new();
    let merge =
        |store: &mut OrderStore, new: Order| store.add_or_update(new, |mut row, new| *row.quantity() += new.quantity);
    assert!(merge(&mut store, Order { quantity: 2, ..order(7, 10) }).unwrap());
    assert!(!merge(&mut store, Order { quantity: 3, ..order(7, 10) }).unwrap());
    assert_eq!((store.len(), store.get(&7).unwrap().quantity), (1, 5));
    store.add_or_update(order(7, 10), |mut row, _| *row.order_id() = 8).unwrap();
    assert_eq!((store.find(&7), store.find(&8)), (None, Some(0)), "the key may change, as in `update`");
    store.add(order(9, 10)).unwrap();
    assert!(store.add_or_update(order(9, 10), |mut row, _| *row.order_id() = 8).is_err());
    store.clear();
    store.add_batch(orders(100)).unwrap();
    store.retain(|order| order.order_id % 3 == 0);
    assert_eq!((store.len(), store.find(&99), store.find(&1)), (34, Some(33), None));
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        store.retain(|order| order.order_id < 50 || panic!("in the middle"));
    }));
    assert!(outcome.is_err());
    assert_eq!((store.len(), store.find(&99)), (34, Some(33)));
    store.kernel_mut().sort_by_key(|order| std::cmp::Reverse(order.order_id));
    assert_eq!((store.find(&99), store.find(&0)), (Some(0), Some(33)));
    assert!((&store).into_iter().map(|order| order.order_id).eq((0..34).rev().map(|third| third * 3)));
    let other = store.clone();
    let drained = store.drain();
    assert_eq!((drained.len(), store.len(), store.contains(&0)), (34, 0, false));
    store.add(order(0, 1)).unwrap();
    assert!(drained.eq(other), "a store is an iterator of its records");
}

#[test]
fn a_record_is_not_taken_for_another_when_its_key_changes() {
    // The index hashes with a seed of its own: where the new key's hash looks like the old one's is chance.
    let mut store = OrderStore::new();
    store.add(order(0, 1)).unwrap();
    for key in 0..5_000 {
        store.update(&key, |mut row| *row.order_id() = key + 1).unwrap().unwrap();
    }
    assert_eq!((store.len(), store.find(&5_000)), (1, Some(0)));
}

#[test]
fn too_much_room_asked_for_loses_nothing() {
    let mut store = OrderStore::new();
    store.add_batch(orders(3)).unwrap();
    let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| store.reserve(usize::MAX)));
    assert!(outcome.is_err());
    assert_eq!(store.get(&2).unwrap().to_owned(), order(2, 3));
}

#[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
#[soa_store(key = "name", shards = 3)]
struct Word {
    name: String,
    count: u32,
}

#[test]
fn text_can_be_the_key() {
    assert_eq!((Word::KEY, Word::SHARDS, Order::SHARDS), ("name", 3, 16));
    let mut store = WordStore::new();
    let word = |n: u32| Word { name: format!("a word that is rather long, number {n}"), count: n };
    store.add_batch((0..100).map(word)).unwrap();
    let key = word(50).name;
    store.update(&key, |mut row| row.set_name("short".into())).unwrap().unwrap().unwrap();
    assert_eq!(store.get("short").unwrap().count, 50);
    assert!(!store.contains(&key));
    let error = store.update("short", |mut row| row.set_name(word(1).name).unwrap()).unwrap_err();
    assert!(error.to_string().contains("number 1"), "{error}");
    assert_eq!(store.get("short").unwrap().to_owned(), Word { name: "short".into(), count: 50 });
    let sharded = WordShardedStore::new();
    sharded.add(word(1)).unwrap();
    assert_eq!((sharded.shard_count(), sharded.get(&word(1).name)), (3, Some(word(1))));
}

#[test]
fn many_threads_add_to_shards() {
    let store = OrderShardedStore::new();
    std::thread::scope(|scope| {
        for thread in 0..8_u64 {
            let store = &store;
            scope.spawn(move || {
                for row in 0..2_000 {
                    store.add(order(row * 8 + thread, 16_000)).unwrap();
                }
                assert_eq!(store.add_batch((0..100).map(|row| order(20_000 + row, 1))).unwrap(), 100);
            });
        }
    });
    assert_eq!(store.len(), 16_100);
    assert_eq!(store.to_record_batches().iter().map(|batch| batch.num_rows()).sum::<usize>(), 16_100);
    let mut largest = 0;
    store.for_each_shard(|shard| largest = largest.max(shard.len()));
    assert!(largest < 2_000, "{largest} of 16100 rows in one of 16 shards");
    assert_eq!(store.get(&123), Some(order(123, 16_000)));
    assert_eq!(store.with(&123, |order| order.quantity), Some(order(123, 16_000).quantity));
    store.update(&123, |mut order| *order.quantity() = 1_000).unwrap().unwrap();
    assert_eq!(store.get(&123).unwrap().quantity, 1_000);
    let error = store.update(&123, |mut order| *order.order_id() = 1_000_000).unwrap_err();
    assert!(error.to_string().contains("123"), "{error}");
    assert!(store.contains(&123) && !store.contains(&1_000_000));
    assert!(matches!(store.try_add(order(123, 1)), Err(Error::DuplicateKey { .. })));
    assert_eq!(store.remove(&123).unwrap().quantity, 1_000);
    assert!(OrderShardedStore::with_shards(0).is_err());
    store.clear();
    assert!(store.is_empty());
}

#[test]
fn a_snapshot_of_all_shards_is_of_one_moment() {
    let store = OrderShardedStore::new();
    assert_eq!(store.snapshot().len(), 0);
    store.add_batch(orders(1_000).map(|order| Order { quantity: 0, ..order })).unwrap();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // One order after the other gets the next number: at each moment the first ones have it, the others the last one.
        scope.spawn(|| {
            for number in 1.. {
                for key in 0..1_000 {
                    store.update(&key, |mut order| *order.quantity() = number).unwrap().unwrap();
                }
                if done.load(Ordering::Acquire) {
                    break;
                }
            }
        });
        let finish = Finish(&done);
        for _ in 0..300 {
            let mut snapshot = store.snapshot();
            snapshot.sort_by_order_id();
            assert_eq!(snapshot.len(), 1_000);
            let numbers = snapshot.quantity_raw_array();
            let ahead = numbers.partition_point(|&number| number == numbers[0]);
            assert!(numbers[ahead..].iter().all(|&number| number + 1 == numbers[0]), "{ahead}: {numbers:?}");
        }
        drop(finish);
    });
    let mut all = store.snapshot();
    all.sort_by_order_id();
    assert!(all.iter().map(|order| order.order_id).eq(0..1_000));
    let numbers = all.quantity_raw_array();
    assert!(numbers[0] > 0 && numbers.iter().all(|number| *number == numbers[0]), "{numbers:?}");
}

#[test]
fn whoever_adds_finds_what_was_added() {
    // More than wait for their columns together, in few shards, so that threads meet.
    let store = OrderShardedStore::with_shards(2).unwrap();
    std::thread::scope(|scope| {
        for thread in 0..4_u64 {
            let store = &store;
            scope.spawn(move || {
                for n in 0..5_000_u32 {
                    let key = u64::from(n % 700) * 4 + thread;
                    store.add(Order { quantity: n, ..order(key, 1) }).unwrap();
                    if n % 3 == 0 {
                        assert_eq!(store.with(&key, |order| order.quantity), Some(n));
                    }
                    if n % 1_000 == 999 {
                        assert_eq!(store.remove(&key).unwrap().quantity, n);
                        assert!(matches!(store.try_add(order(key, 1)), Ok(())) && store.contains(&key));
                    }
                }
            });
        }
    });
    assert_eq!(store.len(), 4 * 700);
    let mut all = store.snapshot();
    all.sort_by_order_id();
    // What each key was given last: round 7 goes to 4,999, and the one after a removal is an order as it is.
    for (row, order) in all.iter().enumerate() {
        assert_eq!(order.order_id, row as u64);
        let n = (row / 4) as u32;
        let last = n + 700 * ((4_999 - n) / 700);
        let expected = if last % 1_000 == 999 { self::order(order.order_id, 1).quantity } else { last };
        assert_eq!(order.quantity, expected, "key {row}");
    }
}

#[test]
fn who_reads_a_shard_can_add_to_it() {
    let store = OrderShardedStore::with_shards(1).unwrap();
    store.add_batch(orders(10)).unwrap();
    let mut next = 10;
    store.for_each_shard(|shard| {
        assert_eq!(shard.len(), 10);
        while next < 3_000 {
            store.add(order(next, 3_000)).unwrap();
            next += 1;
        }
    });
    assert_eq!(store.len(), 3_000);
}

#[test]
fn a_snapshot_has_what_was_added_before_and_nothing_after() {
    let store = OrderShardedStore::new();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for key in (0..20_000).take_while(|_| !done.load(Ordering::Acquire)) {
                store.add(order(key, 20_000)).unwrap();
            }
        });
        let finish = Finish(&done);
        let mut before = 0;
        while before < 20_000 {
            let mut snapshot = store.snapshot();
            snapshot.sort_by_order_id();
            // One thread adds them in order: at each moment there are all up to some number, in whichever shards.
            assert!(snapshot.iter().map(|order| order.order_id).eq(0..snapshot.len() as u64));
            assert!(snapshot.len() >= before);
            before = snapshot.len();
        }
        drop(finish);
    });
    store.add(order(20_000, 20_001)).unwrap();
    assert_eq!(store.drain().len(), 20_001);
    assert!(store.is_empty() && store.into_kernel().is_empty());
}

/// Ends the other thread also when this one panics.
struct Finish<'a>(&'a AtomicBool);

impl Drop for Finish<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

#[test]
fn shards_are_merged_retained_and_drained() {
    let store = OrderShardedStore::with_shards(3).unwrap();
    for quantity in [2, 3] {
        let added =
            store.add_or_update(Order { quantity, ..order(7, 10) }, |mut row, new| *row.quantity() += new.quantity);
        assert_eq!(added.unwrap(), quantity == 2);
    }
    assert_eq!(store.get(&7).unwrap().quantity, 5);
    let error = store.add_or_update(order(7, 10), |mut row, _| *row.order_id() = 8).unwrap_err();
    assert!(error.to_string().contains("changed in place"), "{error}");
    store.clear();
    store.add_batch(orders(100)).unwrap();
    store.retain(|order| order.order_id < 10);
    let sorted = |mut rows: OrderSoA| {
        rows.sort_by_order_id();
        rows
    };
    let ten: OrderSoA = orders(100).take(10).collect();
    assert_eq!(sorted(store.snapshot()), ten);
    assert_eq!(sorted(store.drain()), ten);
    assert!(store.is_empty() && store.drain().is_empty());
    store.add_batch(orders(100).take(10)).unwrap();
    assert_eq!(sorted(store.into_kernel()), ten);
}

#[derive(Debug, Clone)]
enum Step {
    Add(u64, u32),
    TryAdd(u64, u32),
    Remove(u64),
    Rekey(u64, u64),
    KernelSwapRemove(usize),
    Share,
}

fn step() -> impl Strategy<Value = Step> {
    let key = || 0_u64..30;
    prop_oneof![
        5 => (key(), any::<u32>()).prop_map(|(key, quantity)| Step::Add(key, quantity)),
        2 => (key(), any::<u32>()).prop_map(|(key, quantity)| Step::TryAdd(key, quantity)),
        3 => key().prop_map(Step::Remove),
        3 => (key(), key()).prop_map(|(from, to)| Step::Rekey(from, to)),
        1 => (0_usize..30).prop_map(Step::KernelSwapRemove),
        1 => Just(Step::Share),
    ]
}

proptest! {
    #[test]
    fn a_store_does_what_a_map_does(steps in vec(step(), 1..200)) {
        let mut store = OrderStore::new();
        let mut map: HashMap<u64, u32> = HashMap::new();
        let mut shared = Vec::new();
        let made = |key, quantity| Order { quantity, ..order(key, 30) };
        for step in steps {
            match step {
                Step::Add(key, quantity) => {
                    store.add(made(key, quantity)).unwrap();
                    map.insert(key, quantity);
                }
                Step::TryAdd(key, quantity) => {
                    prop_assert_eq!(store.try_add(made(key, quantity)).is_err(), map.contains_key(&key));
                    map.entry(key).or_insert(quantity);
                }
                Step::Remove(key) => prop_assert_eq!(store.remove(&key).map(|order| order.quantity), map.remove(&key)),
                Step::Rekey(from, to) => {
                    let outcome = store.update(&from, |mut order| *order.order_id() = to);
                    let taken = from != to && map.contains_key(&from) && map.contains_key(&to);
                    prop_assert_eq!(outcome.is_err(), taken);
                    if !taken && let Some(quantity) = map.remove(&from) {
                        map.insert(to, quantity);
                    }
                }
                Step::KernelSwapRemove(row) if row < store.len() => {
                    map.remove(&store.kernel_mut().swap_remove(row).order_id);
                }
                Step::KernelSwapRemove(_) => {}
                Step::Share => shared.push(store.kernel().to_record_batch()),
            }
            prop_assert_eq!(store.len(), map.len());
        }
        for key in 0..30 {
            prop_assert_eq!(store.get(&key).map(|order| order.quantity), map.get(&key).copied());
        }
    }
}
