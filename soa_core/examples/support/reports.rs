//! What a shop wants to know of its orders, from columns alone.

#![allow(dead_code, unreachable_pub, reason = "shared by programs of which each uses a part")]

use std::collections::BTreeMap;

use chrono::{DateTime, Datelike};

use crate::orders::{OrderSoA, OrderStatus};

/// Every status, in the order of its declaration, and what its orders come to.
pub fn revenue_by_status(orders: &OrderSoA) -> Vec<(OrderStatus, f64)> {
    let statuses = [
        OrderStatus::Pending,
        OrderStatus::Processing,
        OrderStatus::Shipped,
        OrderStatus::Delivered,
        OrderStatus::Cancelled,
    ];
    let mut revenue = [0.0; 5];
    // The stored form of a status is its position in the declaration.
    for (status, amount) in orders.status_raw_array().iter().zip(orders.total_amount_raw_array()) {
        revenue[usize::from(*status)] += amount;
    }
    statuses.into_iter().zip(revenue).collect()
}

/// The customers who have spent most, the first one first, and what they have spent.
pub fn top_customers(orders: &OrderSoA, count: usize) -> Vec<(u64, f64)> {
    let mut spent: BTreeMap<u64, f64> = BTreeMap::new();
    for (customer, amount) in orders.customer_id_raw_array().iter().zip(orders.total_amount_raw_array()) {
        *spent.entry(*customer).or_default() += amount;
    }
    let mut customers: Vec<(u64, f64)> = spent.into_iter().collect();
    customers.sort_by(|left, right| right.1.total_cmp(&left.1).then(left.0.cmp(&right.0)));
    customers.truncate(count);
    customers
}

/// A month of the calendar, in UTC.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Month {
    /// `2024`
    pub year: i32,
    /// 1 to 12.
    pub month: u32,
    /// How many orders were placed.
    pub orders: u64,
    /// What they come to.
    pub revenue: f64,
}

/// The months in which orders were placed, in their order.
pub fn monthly_trends(orders: &OrderSoA) -> Vec<Month> {
    let mut months: BTreeMap<(i32, u32), (u64, f64)> = BTreeMap::new();
    for (at, amount) in orders.ordered_at_raw_array().iter().zip(orders.total_amount_raw_array()) {
        let Some(day) = DateTime::from_timestamp_micros(*at) else { continue };
        let month = months.entry((day.year(), day.month())).or_default();
        *month = (month.0 + 1, month.1 + amount);
    }
    let month = |((year, month), (orders, revenue))| Month { year, month, orders, revenue };
    months.into_iter().map(month).collect()
}
