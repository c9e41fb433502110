//! A record with a field of every type.

use std::collections::{BTreeMap, HashMap};

use chrono::{DateTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use rust_decimal::Decimal;
use soa_core::{SoA, SoAStore};
use uuid::Uuid;

#[derive(Debug, Clone, Copy, PartialEq, Eq, SoA)]
pub(crate) enum Colour {
    Red,
    #[soa(rename = "dark green")]
    Green,
    Blue = 40,
}

/// A record that is inside others.
#[derive(Debug, Clone, PartialEq, SoA)]
pub(crate) struct Place {
    pub(crate) name: String,
    pub(crate) lat: f64,
    pub(crate) height: Option<i32>,
    pub(crate) colour: Colour,
    pub(crate) seen: Vec<DateTime<Utc>>,
    #[soa(rename = "ID")]
    pub(crate) id: Uuid,
}

#[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
#[soa_store(sort_by = "stamp")]
pub(crate) struct Everything {
    pub(crate) flag: bool,
    pub(crate) i8: i8,
    pub(crate) i16: i16,
    pub(crate) i32: i32,
    pub(crate) i64: i64,
    pub(crate) u8: u8,
    pub(crate) u16: u16,
    pub(crate) u32: u32,
    pub(crate) u64: u64,
    pub(crate) f32: f32,
    pub(crate) f64: f64,
    pub(crate) text: String,
    pub(crate) colour: Colour,
    pub(crate) day: NaiveDate,
    pub(crate) clock: NaiveDateTime,
    pub(crate) instant: DateTime<Utc>,
    #[soa(timestamp = "us")]
    pub(crate) stamp: i64,
    pub(crate) maybe_flag: Option<bool>,
    pub(crate) maybe_number: Option<u32>,
    pub(crate) maybe_float: Option<f64>,
    #[soa(rename = "maybe_Text")]
    pub(crate) maybe_text: Option<String>,
    pub(crate) maybe_colour: Option<Colour>,
    pub(crate) maybe_day: Option<NaiveDate>,
    pub(crate) maybe_instant: Option<DateTime<Utc>>,
    #[soa(timestamp = "us")]
    pub(crate) maybe_stamp: Option<i64>,
    pub(crate) time_of_day: NaiveTime,
    pub(crate) took: TimeDelta,
    pub(crate) uuid: Uuid,
    pub(crate) raw: Vec<u8>,
    pub(crate) maybe_raw: Option<Vec<u8>>,
    pub(crate) huge: i128,
    #[soa(decimal(18, 3))]
    pub(crate) price: Decimal,
    #[soa(decimal)]
    pub(crate) large: u64,
    pub(crate) maybe_time: Option<NaiveTime>,
    pub(crate) maybe_took: Option<TimeDelta>,
    pub(crate) maybe_uuid: Option<Uuid>,
    #[soa(decimal(9, 2))]
    pub(crate) maybe_cents: Option<i64>,
    #[soa(decimal(28, 28))]
    pub(crate) maybe_price: Option<Decimal>,
    #[soa(as_int)]
    pub(crate) number_of_colour: Colour,
    #[soa(as_int)]
    pub(crate) maybe_number_of_colour: Option<Colour>,
    pub(crate) tags: Vec<String>,
    pub(crate) maybe_scores: Option<Vec<Option<f64>>>,
    pub(crate) chunks: Vec<Vec<u8>>,
    pub(crate) vector: [f32; 3],
    pub(crate) maybe_grid: Option<[Vec<Colour>; 2]>,
    pub(crate) place: Place,
    pub(crate) maybe_place: Option<Place>,
    pub(crate) places: Vec<Place>,
    pub(crate) stock: BTreeMap<String, u64>,
    pub(crate) by_day: Option<HashMap<NaiveDate, Option<Place>>>,
    #[soa(skip)]
    pub(crate) note_to_self: Vec<u8>,
}

/// A time that fits: whole microseconds since 1970.
pub(crate) fn instant(micros: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_micros(micros).unwrap()
}

fn time_of_day(micros: i64) -> NaiveTime {
    instant(micros).time()
}

fn day(n: i64) -> NaiveDate {
    NaiveDate::from_num_days_from_ce_opt(719_163 - n as i32).unwrap()
}

pub(crate) fn place(n: i64) -> Place {
    Place {
        name: format!("{}. place", "long ".repeat(n.rem_euclid(4) as usize)),
        lat: n as f64 / 7.0,
        height: (n % 2 == 0).then_some(n as i32),
        colour: [Colour::Red, Colour::Green, Colour::Blue][n.rem_euclid(3) as usize],
        seen: (0..n.rem_euclid(4)).map(|k| instant(n + k)).collect(),
        id: Uuid::from_u128(n as u128),
    }
}

/// A row whose values follow from `n`; every third `Option` is empty.
pub(crate) fn everything(n: i64) -> Everything {
    let some = |k: i64| (n + k) % 3 != 0;
    let colour = [Colour::Red, Colour::Green, Colour::Blue][n.rem_euclid(3) as usize];
    let text = if n % 2 == 0 { format!("räksmörgås number {n}") } else { format!("{n}") };
    Everything {
        flag: n % 2 == 0,
        i8: n as i8,
        i16: n as i16,
        i32: n as i32,
        i64: n.wrapping_mul(i64::MAX / 3),
        u8: n as u8,
        u16: n as u16,
        u32: n as u32,
        u64: (n as u64).wrapping_mul(u64::MAX / 5),
        f32: n as f32 / 3.0,
        f64: n as f64 / 3.0,
        text: text.clone(),
        colour,
        day: NaiveDate::from_num_days_from_ce_opt(700_000 + n as i32).unwrap(),
        clock: instant(-n * 1_000_001).naive_utc(),
        instant: instant(n * 1_000_003),
        stamp: n,
        maybe_flag: some(0).then_some(n % 2 == 0),
        maybe_number: some(1).then_some(n as u32),
        maybe_float: some(2).then_some(n as f64),
        maybe_text: some(0).then_some(text),
        maybe_colour: some(1).then_some(colour),
        maybe_day: some(2).then(|| day(n)),
        maybe_instant: some(0).then(|| instant(n)),
        maybe_stamp: some(1).then_some(-n),
        time_of_day: time_of_day(n * 1_000_007),
        took: TimeDelta::microseconds(n.wrapping_mul(77_777_777)),
        uuid: Uuid::from_u128((n as u128).wrapping_mul(0x1234_5678_9abc_def0_1234_5678)),
        raw: n.to_le_bytes().repeat(n.rem_euclid(5) as usize),
        maybe_raw: some(2).then(|| vec![0xFF; n.rem_euclid(20) as usize]),
        huge: i128::from(n) * 10_i128.pow(30),
        price: Decimal::new(n, 3),
        large: u64::MAX - n as u64,
        maybe_time: some(1).then(|| time_of_day(n)),
        maybe_took: some(2).then(|| TimeDelta::microseconds(-n)),
        maybe_uuid: some(0).then(|| Uuid::from_u128(n as u128)),
        maybe_cents: some(1).then_some(n % 1_000_000_000),
        maybe_price: some(2).then(|| Decimal::from_i128_with_scale(n.into(), 28)),
        number_of_colour: colour,
        maybe_number_of_colour: some(2).then_some(colour),
        tags: (0..n.rem_euclid(4)).map(|k| format!("tag {}", n + k)).collect(),
        maybe_scores: some(0).then(|| (0..n.rem_euclid(5)).map(|k| some(k).then_some((n - k) as f64)).collect()),
        chunks: (0..n.rem_euclid(3)).map(|k| vec![k as u8; n.rem_euclid(19) as usize]).collect(),
        vector: [n as f32, -0.5, 0.25],
        maybe_grid: some(1).then(|| [vec![colour; n.rem_euclid(3) as usize], vec![Colour::Blue]]),
        place: place(n),
        maybe_place: some(2).then(|| place(n + 1)),
        places: (0..n.rem_euclid(3)).map(|k| place(n + k)).collect(),
        stock: (0..n.rem_euclid(4)).map(|k| (format!("item {k}"), (n + k) as u64)).collect(),
        by_day: some(0).then(|| (0..n.rem_euclid(3)).map(|k| (day(n + k), some(k).then(|| place(k)))).collect()),
        note_to_self: Vec::new(),
    }
}
