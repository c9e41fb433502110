//! Makes the stores that the tests need and `soa import` cannot make: of a derived struct, with enums and with integers that
//! are times.
//!
//! `make_test_stores FOLDER` writes `FOLDER/rust_types.soa`. tests/make_stores.py computes the same rows, as a check.

use std::error::Error;
use std::path::PathBuf;

use chrono::{DateTime, Days, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, Utc};
use soa_core::kernel::StoredRecord;
use soa_core::store::Store;
use soa_core::{SoA, SoAStore};

#[derive(Debug, Clone, Copy, PartialEq, Eq, SoA)]
enum Level {
    Low,
    Medium,
    High,
    #[soa(rename = "Äußerst")]
    Extreme,
}

const LEVELS: [Level; 4] = [Level::Low, Level::Medium, Level::High, Level::Extreme];

#[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
#[soa_store(key = "id")]
struct RustTypes {
    id: u64,
    level: Level,
    maybe_level: Option<Level>,
    flag: bool,
    maybe_flag: Option<bool>,
    maybe_u8: Option<u8>,
    maybe_i64: Option<i64>,
    maybe_f32: Option<f32>,
    maybe_text: Option<String>,
    #[soa(timestamp = "us")]
    micros: i64,
    #[soa(timestamp = "us")]
    maybe_micros: Option<i64>,
    day: NaiveDate,
    wall: NaiveDateTime,
    instant: DateTime<Utc>,
}

const ROWS: u16 = 1000;
/// 2020-09-13T12:26:40 UTC, in microseconds since 1970.
const FIRST_US: i64 = 1_600_000_000_000_000;

fn main() -> Result<(), Box<dyn Error>> {
    let folder = PathBuf::from(std::env::args_os().nth(1).ok_or("give FOLDER")?);
    let rows = (0..ROWS).map(row).collect::<Option<RustTypesSoA>>().ok_or("a date is out of range")?;
    let store = Store::create(folder.join("rust_types.soa"), RustTypes::table_schema())?;
    // In three commits, so that enums of several segments are joined.
    let batch = rows.to_record_batch();
    for (first, count) in [(0, 400), (400, 1), (401, usize::from(ROWS) - 401)] {
        store.append(&[batch.slice(first, count)])?;
    }
    println!("{} rows in {}", batch.num_rows(), store.path().display());
    Ok(())
}

/// Row `i`; `None` if a date is out of range.
fn row(i: u16) -> Option<RustTypes> {
    let level = LEVELS[usize::from(i) % LEVELS.len()];
    let unless = |divisor: u16| !i.is_multiple_of(divisor);
    let number = i64::from(i);
    let last_of_1969 = NaiveDate::from_ymd_opt(1969, 12, 31)?.and_time(NaiveTime::MIN);
    let new_year_2024 = NaiveDate::from_ymd_opt(2024, 1, 1)?.and_time(NaiveTime::MIN).and_utc();
    Some(RustTypes {
        id: u64::from(i),
        level,
        maybe_level: unless(3).then_some(level),
        flag: i.is_multiple_of(2),
        maybe_flag: unless(5).then_some(i.is_multiple_of(2)),
        maybe_u8: unless(7).then_some((i % 256) as u8),
        maybe_i64: unless(11).then_some(-number),
        maybe_f32: unless(13).then_some(f32::from(i) / 8.0),
        maybe_text: unless(4).then(|| if unless(5) { format!("text {i}") } else { String::new() }),
        micros: FIRST_US + number * 1_000_001,
        maybe_micros: unless(2).then_some(-number * 1_000_000),
        day: NaiveDate::from_ymd_opt(1969, 1, 1)?.checked_add_days(Days::new(u64::from(i)))?,
        wall: last_of_1969.checked_add_signed(TimeDelta::minutes(7 * number))?,
        instant: new_year_2024.checked_add_signed(TimeDelta::hours(number))?,
    })
}
