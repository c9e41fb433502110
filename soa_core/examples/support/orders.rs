//! The orders of a shop: the record of the examples, tests and benches, and rows of it by the million.
//!
//! The rows follow from their number alone: equal numbers give equal rows, on every machine.

#![allow(dead_code, unreachable_pub, reason = "shared by programs of which each uses a part")]

use soa_core::{SoA, SoAStore};

/// What became of an order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SoA)]
pub enum OrderStatus {
    /// Nobody looked at it yet.
    Pending,
    /// It is being packed.
    Processing,
    /// It is on its way.
    Shipped,
    /// It arrived.
    Delivered,
    /// It was taken back.
    Cancelled,
}

/// How an order is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SoA)]
pub enum PaymentMethod {
    /// By credit card.
    CreditCard,
    /// From a bank account.
    BankTransfer,
    /// Through PayPal.
    PayPal,
    /// On delivery.
    Cash,
}

/// An order: 62 bytes in columns.
#[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
#[soa_store(key = "order_id")]
pub struct Order {
    /// Tells orders apart: 0, 1, 2, …
    pub order_id: u64,
    /// Who ordered.
    pub customer_id: u64,
    /// What was ordered.
    pub product_id: u64,
    /// How many of it.
    pub quantity: u32,
    /// The price of one.
    pub unit_price: f64,
    /// The price of all.
    pub total_amount: f64,
    /// What became of it.
    pub status: OrderStatus,
    /// How it is paid.
    pub payment_method: PaymentMethod,
    /// When it was placed, in microseconds since 1970.
    #[soa(timestamp = "us")]
    pub ordered_at: i64,
    /// When it last changed, in microseconds since 1970.
    #[soa(timestamp = "us")]
    pub updated_at: i64,
}

/// How many customers there are.
pub const CUSTOMERS: u64 = 100_000;
/// How many products there are.
pub const PRODUCTS: u64 = 10_000;
/// When the first order is placed: 2024-01-01T00:00 UTC, in microseconds since 1970.
pub const FIRST_US: i64 = 1_704_067_200_000_000;
/// Over how long the orders are spread: a year of 366 days, in microseconds.
pub const SPAN_US: i64 = 366 * DAY_US;

const DAY_US: i64 = 86_400_000_000;

/// Orders 0 to `count`, in the order in which they were placed.
pub fn orders(count: usize) -> impl ExactSizeIterator<Item = Order> + DoubleEndedIterator + Clone {
    (0..count).map(move |row| order(row as u64, count as u64))
}

/// Order `row` of `count`.
pub fn order(row: u64, count: u64) -> Order {
    let mut random = Random::of(row);
    let (quantity, cents) = (1 + random.below(10) as u32, 99 + random.below(50_000));
    let unit_price = cents as f64 / 100.0;
    let ordered_at = FIRST_US + (row as i128 * SPAN_US as i128 / count.max(1) as i128) as i64;
    let status = match random.below(100) {
        0..5 => OrderStatus::Pending,
        5..12 => OrderStatus::Processing,
        12..25 => OrderStatus::Shipped,
        25..94 => OrderStatus::Delivered,
        _ => OrderStatus::Cancelled,
    };
    let payment_method = match random.below(100) {
        0..55 => PaymentMethod::CreditCard,
        55..70 => PaymentMethod::BankTransfer,
        70..95 => PaymentMethod::PayPal,
        _ => PaymentMethod::Cash,
    };
    Order {
        order_id: row,
        customer_id: random.skewed(CUSTOMERS),
        product_id: random.skewed(PRODUCTS),
        quantity,
        unit_price,
        total_amount: (cents * u64::from(quantity)) as f64 / 100.0,
        status,
        payment_method,
        ordered_at,
        updated_at: ordered_at + random.below(7 * DAY_US as u64) as i64,
    }
}

/// SplitMix64, started from the row's number.
struct Random(u64);

impl Random {
    fn of(row: u64) -> Self {
        Self(row.wrapping_mul(0xd134_2543_de82_ef95))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, all as likely.
    fn below(&mut self, end: u64) -> u64 {
        ((u128::from(self.next()) * u128::from(end)) >> 64) as u64
    }

    /// A number below `end`: a few come often, most come seldom.
    fn skewed(&mut self, end: u64) -> u64 {
        let uniform = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        ((uniform * uniform * uniform) * end as f64) as u64
    }
}
