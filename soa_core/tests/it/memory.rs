//! What a million orders take, as the allocator sees it.
#![expect(unsafe_code, reason = "an allocator that counts is an unsafe trait's implementation")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use crate::orders::{OrderSoA, OrderStore, orders};

/// Counts what the current thread allocates, so that tests beside this one do not disturb it.
struct Counting;

thread_local! {
    static LIVE: Cell<isize> = const { Cell::new(0) };
    static PEAK: Cell<isize> = const { Cell::new(0) };
}

fn count(bytes: isize) {
    // A thread that ends may free after its counters are gone.
    let _ = LIVE.try_with(|live| {
        live.set(live.get() + bytes);
        let _ = PEAK.try_with(|peak| peak.set(peak.get().max(live.get())));
    });
}

// SAFETY: every method does what `System`'s does, which is an allocator; counting allocates nothing: the
// counters are initialised by constants and have no destructor.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        // SAFETY: the caller keeps the promises of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the promises of `dealloc`.
        unsafe { System.dealloc(ptr, layout) }
    }

    unsafe fn realloc(&self, ptr: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        // As if both were there at once, which they may be.
        count(new_size as isize);
        count(-(layout.size() as isize));
        // SAFETY: the caller keeps the promises of `realloc`.
        unsafe { System.realloc(ptr, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Runs `work` and returns what it returns, the bytes it left allocated, and the most there were.
fn measured<T>(work: impl FnOnce() -> T) -> (T, f64, f64) {
    let before = LIVE.get();
    PEAK.set(before);
    let value = work();
    (value, (LIVE.get() - before) as f64, (PEAK.get() - before) as f64)
}

const ORDERS: usize = 1_000_000;

#[test]
fn a_million_orders_take_their_columns_and_little_more() {
    let (mut soa, _, peak) = measured(|| {
        let mut soa = OrderSoA::new();
        for order in orders(ORDERS) {
            soa.push(order);
        }
        soa
    });
    let held = soa.memory_bytes() as f64;
    let (_, given_back, _) = measured(|| soa.shrink_to_fit());
    let live = held + given_back;
    let per_row = live / ORDERS as f64;
    println!("live {per_row:.3} bytes per order; peak while pushing {:.3} times that", peak / live);
    assert_eq!(soa.memory_bytes() as f64, live, "the columns' own count is the allocator's");
    assert!(per_row <= 63.0, "{per_row} bytes per order");
    assert!(peak <= 2.1 * live, "{peak} bytes while pushing, {live} afterwards");
}

#[test]
fn a_push_more_than_a_power_of_two_stays_within_the_peak() {
    let ((live, peak), ..) = measured(|| {
        let (mut soa, _, peak) = measured(|| orders_pushed((1 << 19) + 1));
        soa.shrink_to_fit();
        (soa.memory_bytes() as f64, peak)
    });
    println!("peak at 2^19 + 1 orders: {:.3} times what is live", peak / live);
    assert!(peak <= 2.1 * live, "{peak} bytes while pushing, {live} afterwards");
}

fn orders_pushed(count: usize) -> OrderSoA {
    let mut soa = OrderSoA::new();
    for order in orders(count) {
        soa.push(order);
    }
    soa
}

#[test]
fn the_key_index_takes_at_most_sixteen_bytes_per_row() {
    // The worst is just after the index has grown: at 7/8 of a power of two, and one more.
    for count in [ORDERS, (7 << 17) + 1] {
        let (store, live, _) = measured(|| {
            let mut store = OrderStore::new();
            for order in orders(count) {
                store.add(order).unwrap();
            }
            store
        });
        let index = (live - store.kernel().memory_bytes() as f64) / count as f64;
        println!("key index at {count} orders: {index:.3} bytes per order");
        assert!(index > 4.0 && index <= 16.0, "{index} bytes per order");
    }
}

#[test]
fn sharing_a_million_orders_allocates_next_to_nothing() {
    let soa = orders_pushed(ORDERS);
    let (batch, live, peak) = measured(|| soa.to_record_batch());
    assert!(peak < 16_384.0 && live < 16_384.0, "{live} bytes, {peak} at most");
    let (moved, _, peak) = measured(|| soa.into_record_batch());
    assert!(peak < 16_384.0, "{peak} bytes to move");
    drop(batch);
    let (back, _, peak) = measured(|| {
        let mut back = OrderSoA::from_record_batch(moved).unwrap();
        *back.view_mut(0).quantity() = 1;
        back
    });
    assert!(peak < 16_384.0, "{peak} bytes to take back and write");
    assert_eq!(back.len(), ORDERS);
}
