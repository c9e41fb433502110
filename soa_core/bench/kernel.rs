//! What the kernel does with ten million orders, beside `Vec<Order>` and the crates soa_derive and soa-rs.
//!
//! `make bench BENCH="--engine kernel"`, or `cargo bench --manifest-path soa_core/bench/Cargo.toml -- <name>` for some.
//! `SOA_BENCH_ROWS` says how many rows there are.

#[path = "../examples/support/orders.rs"]
mod orders;

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use orders::{Order, OrderShardedStore, OrderSoA, OrderStatus, PaymentMethod, order, orders};
use soa_core::SoA;
use soa_derive::StructOfArray;
use soa_rs::{Soa, Soars};

/// The fields of an order once more, for the other crates' derives.
macro_rules! like_an_order {
    ($name:ident, $derive:ident) => {
        #[derive($derive)]
        pub struct $name {
            pub order_id: u64,
            pub customer_id: u64,
            pub product_id: u64,
            pub quantity: u32,
            pub unit_price: f64,
            pub total_amount: f64,
            pub status: OrderStatus,
            pub payment_method: PaymentMethod,
            pub ordered_at: i64,
            pub updated_at: i64,
        }

        impl From<Order> for $name {
            fn from(order: Order) -> Self {
                Self {
                    order_id: order.order_id,
                    customer_id: order.customer_id,
                    product_id: order.product_id,
                    quantity: order.quantity,
                    unit_price: order.unit_price,
                    total_amount: order.total_amount,
                    status: order.status,
                    payment_method: order.payment_method,
                    ordered_at: order.ordered_at,
                    updated_at: order.updated_at,
                }
            }
        }
    };
}

like_an_order!(Derived, StructOfArray);
like_an_order!(Soared, Soars);

/// A record of three numbers: what a push costs beside the copy.
macro_rules! point {
    ($name:ident, $derive:ident) => {
        /// A place.
        #[derive(Clone, Copy, $derive)]
        pub struct $name {
            /// To the right.
            pub x: f64,
            /// Upwards.
            pub y: f64,
            /// To the front.
            pub z: f64,
        }

        impl $name {
            fn of(n: usize) -> Self {
                Self { x: n as f64, y: 0.2, z: -2.3 }
            }
        }
    };
}

point!(Point, SoA);
point!(DerivedPoint, StructOfArray);
point!(SoaredPoint, Soars);

/// The same orders four times.
struct Data {
    vec: Vec<Order>,
    soa: OrderSoA,
    derived: DerivedVec,
    soared: Soa<Soared>,
}

fn rows() -> usize {
    std::env::var("SOA_BENCH_ROWS").map_or(10_000_000, |rows| rows.parse().expect("a number of rows"))
}

fn data() -> &'static Data {
    static DATA: std::sync::OnceLock<Data> = std::sync::OnceLock::new();
    DATA.get_or_init(|| {
        let rows = rows();
        let mut data = Data {
            vec: Vec::with_capacity(rows),
            soa: OrderSoA::new(),
            derived: DerivedVec::new(),
            soared: Soa::new(),
        };
        for order in orders(rows) {
            data.soa.push(order.clone());
            data.derived.push(order.clone().into());
            data.soared.push(order.clone().into());
            data.vec.push(order);
        }
        data
    })
}

/// Just below the most that glibc's allocator takes for a block that comes again.
const KEPT_BYTES: usize = (32 << 20) - (64 << 10);

fn group<'a>(criterion: &'a mut Criterion, name: &str, rows: usize) -> BenchmarkGroup<'a, WallTime> {
    // The allocator learns from what is freed how much it keeps; else who comes first pays for the pages of all.
    drop(black_box(Vec::<u8>::with_capacity(KEPT_BYTES)));
    let mut group = criterion.benchmark_group(name);
    group.throughput(Throughput::Elements(rows as u64));
    group.sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group
}

const PUSHED: usize = 1_000_000;

/// Rows that come one by one, into columns that grow.
fn push(criterion: &mut Criterion) {
    let orders: Vec<Order> = orders(PUSHED).collect();
    let mut group = group(criterion, "push an order", PUSHED);
    group.bench_function("soa_core", |b| {
        b.iter(|| {
            let mut soa = OrderSoA::new();
            orders.iter().for_each(|order| soa.push(order.clone()));
            soa
        });
    });
    group.bench_function("Vec", |b| {
        b.iter(|| {
            let mut vec = Vec::new();
            orders.iter().for_each(|order| vec.push(order.clone()));
            vec
        });
    });
    group.bench_function("soa_derive", |b| {
        b.iter(|| {
            let mut vec = DerivedVec::new();
            orders.iter().for_each(|order| vec.push(order.clone().into()));
            vec
        });
    });
    group.bench_function("soa-rs", |b| {
        b.iter(|| {
            let mut soa = Soa::<Soared>::new();
            orders.iter().for_each(|order| soa.push(order.clone().into()));
            soa
        });
    });
}

fn push_points(criterion: &mut Criterion) {
    let mut group = group(criterion, "push a point", PUSHED);
    group.bench_function("soa_core", |b| {
        b.iter(|| {
            let mut soa = PointSoA::new();
            (0..PUSHED).for_each(|n| soa.push(Point::of(n)));
            soa
        });
    });
    group.bench_function("Vec", |b| {
        b.iter(|| {
            let mut vec = Vec::new();
            (0..PUSHED).for_each(|n| vec.push(Point::of(n)));
            vec
        });
    });
    group.bench_function("soa_derive", |b| {
        b.iter(|| {
            let mut vec = DerivedPointVec::new();
            (0..PUSHED).for_each(|n| vec.push(DerivedPoint::of(n)));
            vec
        });
    });
    group.bench_function("soa-rs", |b| {
        b.iter(|| {
            let mut soa = Soa::<SoaredPoint>::new();
            (0..PUSHED).for_each(|n| soa.push(SoaredPoint::of(n)));
            soa
        });
    });
}

/// The quantities of all orders: four bytes of 62 per row.
fn scan(criterion: &mut Criterion) {
    let data = data();
    let mut group = group(criterion, "scan one column", data.vec.len());
    let sum = |quantities: &[u32]| quantities.iter().map(|&quantity| u64::from(quantity)).sum::<u64>();
    group.bench_function("soa_core", |b| b.iter(|| sum(black_box(&data.soa).quantity_raw_array())));
    group.bench_function("soa_core, by views", |b| {
        b.iter(|| black_box(&data.soa).iter().map(|order| u64::from(order.quantity)).sum::<u64>());
    });
    group.bench_function("Vec", |b| {
        b.iter(|| black_box(&data.vec).iter().map(|order| u64::from(order.quantity)).sum::<u64>());
    });
    group.bench_function("soa_derive", |b| b.iter(|| sum(&black_box(&data.derived).quantity)));
    group.bench_function("soa_derive, by views", |b| {
        b.iter(|| black_box(&data.derived).iter().map(|order| u64::from(*order.quantity)).sum::<u64>());
    });
    group.bench_function("soa-rs", |b| b.iter(|| sum(black_box(&data.soared).quantity())));
    group.bench_function("soa-rs, by views", |b| {
        b.iter(|| black_box(&data.soared).iter().map(|order| u64::from(*order.quantity)).sum::<u64>());
    });
}

/// How many large orders were cancelled.
fn filter(criterion: &mut Criterion) {
    let data = data();
    let mut group = group(criterion, "filter on two columns", data.vec.len());
    let large = black_box(1_000.0);
    let matches = move |status: OrderStatus, amount: f64| (status == OrderStatus::Cancelled) & (amount > large);
    group.bench_function("soa_core", |b| {
        b.iter(|| {
            let soa = black_box(&data.soa);
            let cancelled = OrderStatus::Cancelled as u8;
            let rows = soa.status_raw_array().iter().zip(soa.total_amount_raw_array());
            rows.filter(|&(&status, &amount)| (status == cancelled) & (amount > large)).count()
        });
    });
    group.bench_function("soa_core, by views", |b| {
        b.iter(|| black_box(&data.soa).iter().filter(|order| matches(order.status, order.total_amount)).count());
    });
    group.bench_function("Vec", |b| {
        b.iter(|| black_box(&data.vec).iter().filter(|order| matches(order.status, order.total_amount)).count());
    });
    group.bench_function("soa_derive", |b| {
        b.iter(|| {
            let rows = black_box(&data.derived);
            rows.status.iter().zip(&rows.total_amount).filter(|&(&status, &amount)| matches(status, amount)).count()
        });
    });
    group.bench_function("soa_derive, by views", |b| {
        b.iter(|| black_box(&data.derived).iter().filter(|order| matches(*order.status, *order.total_amount)).count());
    });
    group.bench_function("soa-rs", |b| {
        b.iter(|| {
            let rows = black_box(&data.soared);
            rows.status().iter().zip(rows.total_amount()).filter(|&(&status, &amount)| matches(status, amount)).count()
        });
    });
    group.bench_function("soa-rs, by views", |b| {
        b.iter(|| black_box(&data.soared).iter().filter(|order| matches(*order.status, *order.total_amount)).count());
    });
}

/// The revenue by status.
fn group_sum(criterion: &mut Criterion) {
    let data = data();
    let mut group = group(criterion, "sum by group", data.vec.len());
    fn sums(rows: impl Iterator<Item = (usize, f64)>) -> [f64; 8] {
        let mut sums = [0.0; 8];
        rows.for_each(|(status, amount)| sums[status & 7] += amount);
        sums
    }
    group.bench_function("soa_core", |b| {
        b.iter(|| {
            let soa = black_box(&data.soa);
            sums(soa.status_raw_array().iter().zip(soa.total_amount_raw_array()).map(|(&s, &a)| (usize::from(s), a)))
        });
    });
    group.bench_function("soa_core, by views", |b| {
        b.iter(|| sums(black_box(&data.soa).iter().map(|order| (order.status as usize, order.total_amount))));
    });
    group.bench_function("Vec", |b| {
        b.iter(|| sums(black_box(&data.vec).iter().map(|order| (order.status as usize, order.total_amount))));
    });
    group.bench_function("soa_derive", |b| {
        b.iter(|| {
            let rows = black_box(&data.derived);
            sums(rows.status.iter().zip(&rows.total_amount).map(|(&status, &amount)| (status as usize, amount)))
        });
    });
    group.bench_function("soa-rs", |b| {
        b.iter(|| {
            let rows = black_box(&data.soared);
            sums(rows.status().iter().zip(rows.total_amount()).map(|(&status, &amount)| (status as usize, amount)))
        });
    });
}

/// Three fields of rows anywhere.
fn random_get(criterion: &mut Criterion) {
    let data = data();
    let len = data.vec.len();
    let wanted: Vec<usize> =
        (0..1_000_000_u64).map(|n| (n.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20) as usize % len).collect();
    let mut group = group(criterion, "get rows anywhere", wanted.len());
    let weigh = |quantity: u32, price: f64, at: i64| f64::from(quantity) * price + at as f64;
    group.bench_function("soa_core", |b| {
        b.iter(|| {
            let all = black_box(&data.soa);
            let rows = wanted.iter().map(|&row| all.view(row));
            rows.map(|order| weigh(order.quantity, order.unit_price, order.ordered_at)).sum::<f64>()
        });
    });
    group.bench_function("Vec", |b| {
        b.iter(|| {
            let all = black_box(&data.vec);
            let rows = wanted.iter().map(|&row| &all[row]);
            rows.map(|order| weigh(order.quantity, order.unit_price, order.ordered_at)).sum::<f64>()
        });
    });
    group.bench_function("soa_derive", |b| {
        b.iter(|| {
            let all = black_box(&data.derived);
            let rows = wanted.iter().map(|&row| all.index(row));
            rows.map(|order| weigh(*order.quantity, *order.unit_price, *order.ordered_at)).sum::<f64>()
        });
    });
    group.bench_function("soa-rs", |b| {
        b.iter(|| {
            let all = black_box(&data.soared);
            let rows = wanted.iter().map(|&row| all.idx(row));
            rows.map(|order| weigh(*order.quantity, *order.unit_price, *order.ordered_at)).sum::<f64>()
        });
    });
}

/// Columns as a record batch and back, slices, and all rows in another order.
fn share(criterion: &mut Criterion) {
    let data = data();
    let rows = data.vec.len();
    let mut group = group(criterion, "share columns", rows);
    group.bench_function("to_record_batch", |b| b.iter(|| black_box(&data.soa).to_record_batch()));
    let batch = data.soa.to_record_batch();
    group.bench_function("from_record_batch", |b| b.iter(|| OrderSoA::from_record_batch(black_box(&batch).clone())));
    group.bench_function("slice to_record_batch", |b| {
        b.iter(|| black_box(&data.soa).slice(rows / 4..rows / 2).to_record_batch());
    });
    group.finish();
    let mut group = self::group(criterion, "sort by amount", PUSHED.min(rows));
    let some = data.soa.slice(..PUSHED.min(rows));
    group.bench_function("soa_core", |b| {
        b.iter(|| {
            let mut soa = some.clone();
            soa.sort_by_total_amount();
            soa
        });
    });
    let some = &data.vec[..PUSHED.min(rows)];
    group.bench_function("Vec", |b| {
        b.iter(|| {
            let mut vec = some.to_vec();
            vec.sort_by(|left, right| left.total_amount.total_cmp(&right.total_amount));
            vec
        });
    });
}

/// `add(&self)` from several threads at once, beside a store for each thread, which is what the cores allow; the time is that
/// of all orders together.
fn add_from_threads(criterion: &mut Criterion) {
    let mut group = group(criterion, "add to shards", PUSHED);
    for threads in [1, 2, 4, 16] {
        let shared = OrderShardedStore::new();
        let stores: Vec<&OrderShardedStore> = (0..threads).map(|_| &shared).collect();
        group.bench_function(format!("{threads} threads"), |b| {
            b.iter_custom(|times| (0..times).map(|_| time_of_adding(&stores)).sum());
        });
        let own: Vec<OrderShardedStore> = (0..threads).map(|_| OrderShardedStore::new()).collect();
        let stores: Vec<&OrderShardedStore> = own.iter().collect();
        group.bench_function(format!("{threads} threads, a store for each"), |b| {
            b.iter_custom(|times| (0..times).map(|_| time_of_adding(&stores)).sum());
        });
    }
}

/// How long a thread for each store takes to add the orders. The stores keep their memory from one time to the next, so this
/// is not about how fast the system hands out pages.
fn time_of_adding(stores: &[&OrderShardedStore]) -> Duration {
    stores.iter().for_each(|store| store.clear());
    let next = AtomicU64::new(0);
    // Threads take a thousand orders at a time, so that all end together.
    let work = |store: &OrderShardedStore| {
        loop {
            let first = next.fetch_add(1_000, Ordering::Relaxed);
            if first >= PUSHED as u64 {
                break;
            }
            for key in first..first + 1_000 {
                store.add(order(key, PUSHED as u64)).expect("an order fits");
            }
        }
    };
    let work = &work;
    let start = Instant::now();
    std::thread::scope(|scope| stores.iter().for_each(|store| drop(scope.spawn(move || work(store)))));
    start.elapsed()
}

criterion_group!(kernel, push, push_points, scan, filter, group_sum, random_get, share, add_from_threads);
criterion_main!(kernel);
