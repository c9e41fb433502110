//! The columns of times of day and lengths of time.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DurationMicrosecondType, Time64MicrosecondType};
use chrono::{NaiveTime, TimeDelta, Timelike};

use super::buffer::Column;
use super::field::{SoaField, SoaKey, SoaPartition, SoaValue};
use super::fixed::{Fixed, FixedKind, check_range};
use super::list::List;
use crate::error::Result;
use crate::schema::{DAY_MICROS, DataType};

const MICROS_PER_SECOND: i64 = 1_000_000;

impl FixedKind for NaiveTime {
    type Value = NaiveTime;
    type Native = i64;
    type Outcome = Result<()>;

    fn data_type() -> DataType {
        DataType::Time
    }

    #[inline]
    fn encode(value: NaiveTime) -> Result<i64, String> {
        let nanos = value.nanosecond();
        // A leap second has no number of its own.
        if nanos >= 1_000_000_000 || !nanos.is_multiple_of(1_000) {
            return Err(format!(
                "the time {value} cannot be stored to the microsecond; round it to whole microseconds first"
            ));
        }
        Ok(i64::from(value.num_seconds_from_midnight()) * MICROS_PER_SECOND + i64::from(nanos / 1_000))
    }

    #[inline]
    fn decode(native: i64) -> NaiveTime {
        let (seconds, micros) = (native / MICROS_PER_SECOND, native % MICROS_PER_SECOND);
        NaiveTime::from_num_seconds_from_midnight_opt(seconds as u32, micros as u32 * 1_000)
            .expect("stored times were checked")
    }

    fn to_array(values: &Column<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(PrimitiveArray::<Time64MicrosecondType>::new(values.share(), nulls))
    }

    /// The end of the day, 24:00, is a time that chrono does not have.
    fn from_array(array: &ArrayRef, column: &str) -> Result<Column<i64>> {
        let values = array.as_primitive::<Time64MicrosecondType>().values();
        check_range(values, array.nulls(), &(0..=DAY_MICROS - 1), column, "microseconds since midnight")?;
        Ok(Column::from_scalar_buffer(values.clone()))
    }
}

impl SoaField for NaiveTime {
    type Column = Fixed<NaiveTime>;
    type List = List<Fixed<NaiveTime>>;
}

impl SoaValue for NaiveTime {}
impl SoaKey for NaiveTime {}
impl SoaPartition for NaiveTime {}

impl FixedKind for TimeDelta {
    type Value = TimeDelta;
    type Native = i64;
    type Outcome = Result<()>;

    fn data_type() -> DataType {
        DataType::Duration
    }

    #[inline]
    fn encode(value: TimeDelta) -> Result<i64, String> {
        let micros = value.num_microseconds().filter(|_| value.subsec_nanos() % 1_000 == 0);
        micros.ok_or_else(|| {
            format!(
                "the duration {value} cannot be stored in 64 bits of microseconds; round it to whole microseconds first"
            )
        })
    }

    #[inline]
    fn decode(native: i64) -> TimeDelta {
        TimeDelta::microseconds(native)
    }

    fn to_array(values: &Column<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(PrimitiveArray::<DurationMicrosecondType>::new(values.share(), nulls))
    }

    fn from_array(array: &ArrayRef, _: &str) -> Result<Column<i64>> {
        Ok(Column::from_scalar_buffer(array.as_primitive::<DurationMicrosecondType>().values().clone()))
    }
}

impl SoaField for TimeDelta {
    type Column = Fixed<TimeDelta>;
    type List = List<Fixed<TimeDelta>>;
}

impl SoaValue for TimeDelta {}
impl SoaKey for TimeDelta {}
impl SoaPartition for TimeDelta {}
