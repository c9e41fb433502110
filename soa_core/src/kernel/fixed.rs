//! The columns of fixed-width fields: numbers, booleans, dates and times.

use std::cmp::Ordering;
use std::fmt::{self, Debug};
use std::hash::{BuildHasher, Hash};
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, ArrowNativeTypeOp, AsArray, BooleanArray, PrimitiveArray};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType as ArrowType, Date32Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, Utc};

use super::buffer::{Bytes, Column};
use super::field::{
    FieldColumn, KeyColumn, Outcome, PlainColumn, SoaField, SoaKey, SoaPartition, SoaValue, ValueColumn,
};
use super::list::List;
use super::wrong_type;
use crate::error::{Error, Result};
use crate::schema::DataType;

/// What a [`Fixed`] column stores, and what its values are in Rust and in Arrow.
pub trait FixedKind: 'static {
    /// The Rust type.
    type Value: Copy + Debug + PartialEq + 'static;
    /// The stored type.
    type Native: ArrowNativeTypeOp;
    /// What setting a value returns.
    type Outcome: Outcome;

    /// The type in a schema.
    fn data_type() -> DataType;

    /// The stored form of a value, or why it does not fit.
    fn encode(value: Self::Value) -> Result<Self::Native, String>;

    /// The value of a stored form that `encode` returned or `from_array` let pass.
    fn decode(native: Self::Native) -> Self::Value;

    /// The order of two values by their stored forms. It is total: that of floats has NaN at its ends.
    #[inline]
    fn order(left: Self::Native, right: Self::Native) -> Ordering {
        left.compare(right)
    }

    /// The stored values as an Arrow array.
    fn to_array(values: &Column<Self::Native>, nulls: Option<NullBuffer>) -> ArrayRef;

    /// The stored values of an Arrow array of exactly the kind's type; each that is not NULL is checked.
    ///
    /// # Errors
    ///
    /// When a value does not fit; the error names `column`.
    fn from_array(array: &ArrayRef, column: &str) -> Result<Column<Self::Native>>;
}

/// A stored value in the order of its kind.
struct InOrder<K: FixedKind>(K::Native);

impl<K: FixedKind> PartialEq for InOrder<K> {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl<K: FixedKind> Eq for InOrder<K> {}

impl<K: FixedKind> PartialOrd for InOrder<K> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl<K: FixedKind> Ord for InOrder<K> {
    #[inline]
    fn cmp(&self, other: &Self) -> Ordering {
        K::order(self.0, other.0)
    }
}

/// A column of values that all have the same width.
pub struct Fixed<K: FixedKind>(Column<K::Native>);

impl<K: FixedKind> Clone for Fixed<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K: FixedKind> Default for Fixed<K> {
    fn default() -> Self {
        Self(Column::new())
    }
}

impl<K: FixedKind> Debug for Fixed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl<K: FixedKind> FieldColumn for Fixed<K> {
    type Value = K::Value;
    type Stored = K::Native;
    type Ref<'a> = K::Value;
    type Raw<'a> = &'a [K::Native];
    type Outcome = K::Outcome;

    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        K::data_type()
    }

    #[inline]
    fn len(&self) -> usize {
        self.0.len()
    }

    #[inline]
    fn get(&self, row: usize) -> K::Value {
        K::decode(self.0.as_slice()[row])
    }

    #[inline]
    fn to_value(value: K::Value) -> K::Value {
        value
    }

    #[inline]
    fn encode(value: K::Value) -> Result<K::Native, String> {
        K::encode(value)
    }

    fn blank() -> K::Native {
        K::Native::default()
    }

    #[inline]
    fn push(&mut self, value: K::Native) {
        self.0.push(value);
    }

    #[inline]
    fn set(&mut self, row: usize, value: K::Native) {
        self.0.as_mut_slice()[row] = value;
    }

    fn swap(&mut self, left: usize, right: usize) {
        self.0.as_mut_slice().swap(left, right);
    }

    fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        self.0.extend_from_slice(&other.0.as_slice()[rows]);
    }

    fn slice(&self, rows: Range<usize>) -> Self {
        Self(self.0.slice(rows))
    }

    fn keep(&mut self, ranges: &[Range<usize>]) {
        self.0.keep(ranges);
    }

    fn rearrange(&mut self, rows: &[usize]) {
        self.0.rearrange(rows);
    }

    fn sort_rows(&self, rows: &mut [usize]) {
        let values = self.0.as_slice();
        rows.sort_by_cached_key(|&row| InOrder::<K>(values[row]));
    }

    fn swap_remove(&mut self, row: usize) {
        self.0.swap_remove(row);
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn reserve(&mut self, additional: usize) {
        self.0.reserve(additional);
    }

    fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }

    #[inline]
    fn raw(&self) -> &[K::Native] {
        self.0.as_slice()
    }

    fn memory_bytes(&self) -> usize {
        self.0.capacity() * size_of::<K::Native>()
    }

    fn to_array_with(&self, nulls: Option<NullBuffer>) -> ArrayRef {
        K::to_array(&self.0, nulls)
    }

    fn from_array(array: &ArrayRef, column: &str) -> Result<Self> {
        let accepted = match (K::data_type(), array.data_type()) {
            // The zone is for display: the number is that of the same moment in every zone.
            (DataType::Timestamp { utc: true }, ArrowType::Timestamp(TimeUnit::Microsecond, Some(_))) => true,
            (wanted, found) => *found == wanted.to_arrow(),
        };
        if !accepted {
            return Err(wrong_type::<Self>(column, array.data_type()));
        }
        K::from_array(array, column).map(Self)
    }
}

impl<K: FixedKind> ValueColumn for Fixed<K> {}

impl<T: ArrowNativeTypeOp, K: FixedKind<Value = T, Native = T>> PlainColumn for Fixed<K> {
    #[inline]
    fn value_mut(&mut self, row: usize) -> &mut K::Value {
        &mut self.0.as_mut_slice()[row]
    }

    #[inline]
    fn values_mut(&mut self) -> &mut [K::Value] {
        self.0.as_mut_slice()
    }
}

impl<K: FixedKind<Value: Eq + Hash>> KeyColumn for Fixed<K> {
    type Key = K::Value;

    #[inline]
    fn key(value: &K::Value) -> &K::Value {
        value
    }

    fn stored(key: &K::Value) -> K::Native {
        K::encode(*key).expect("a key that was in the column fits it")
    }

    fn find_stored(key: &K::Value) -> Option<K::Native> {
        K::encode(*key).ok()
    }

    #[inline]
    fn is_at(&self, row: usize, key: &K::Value) -> bool {
        self.get(row) == *key
    }

    #[inline]
    fn hash_at(&self, row: usize, hasher: &impl BuildHasher) -> u64 {
        hasher.hash_one(self.get(row))
    }
}

/// Implements the traits of a number that is stored as itself; with the column of vectors of it, and `key` after an integer.
macro_rules! number {
    ($rust:ty, $variant:ident, $arrow:ty, $list:ty $(, $key:ident)?) => {
        impl FixedKind for $rust {
            type Value = $rust;
            type Native = $rust;
            type Outcome = ();

            fn data_type() -> DataType {
                DataType::$variant
            }

            #[inline]
            fn encode(value: $rust) -> Result<$rust, String> {
                Ok(value)
            }

            #[inline]
            fn decode(native: $rust) -> $rust {
                native
            }

            fn to_array(values: &Column<$rust>, nulls: Option<NullBuffer>) -> ArrayRef {
                Arc::new(PrimitiveArray::<$arrow>::new(values.share(), nulls))
            }

            fn from_array(array: &ArrayRef, _: &str) -> Result<Column<$rust>> {
                Ok(Column::from_scalar_buffer(array.as_primitive::<$arrow>().values().clone()))
            }
        }

        impl SoaField for $rust {
            type Column = Fixed<$rust>;
            type List = $list;
        }

        impl SoaValue for $rust {}
        $(number!(@$key $rust);)?
    };
    (@key $rust:ty) => {
        impl SoaKey for $rust {}
        impl SoaPartition for $rust {}
    };
}

number!(i8, Int8, Int8Type, List<Fixed<i8>>, key);
number!(i16, Int16, Int16Type, List<Fixed<i16>>, key);
number!(i32, Int32, Int32Type, List<Fixed<i32>>, key);
number!(i64, Int64, Int64Type, List<Fixed<i64>>, key);
number!(u8, UInt8, UInt8Type, Bytes, key);
number!(u16, UInt16, UInt16Type, List<Fixed<u16>>, key);
number!(u32, UInt32, UInt32Type, List<Fixed<u32>>, key);
number!(u64, UInt64, UInt64Type, List<Fixed<u64>>, key);
number!(f32, Float32, Float32Type, List<Fixed<f32>>);
number!(f64, Float64, Float64Type, List<Fixed<f64>>);

impl FixedKind for bool {
    type Value = bool;
    type Native = u8;
    type Outcome = ();

    fn data_type() -> DataType {
        DataType::Bool
    }

    #[inline]
    fn encode(value: bool) -> Result<u8, String> {
        Ok(u8::from(value))
    }

    #[inline]
    fn decode(native: u8) -> bool {
        native != 0
    }

    /// Packs eight values into a byte: the one array that is a copy.
    fn to_array(values: &Column<u8>, nulls: Option<NullBuffer>) -> ArrayRef {
        let values = values.as_slice();
        Arc::new(BooleanArray::new(BooleanBuffer::collect_bool(values.len(), |row| values[row] != 0), nulls))
    }

    fn from_array(array: &ArrayRef, _: &str) -> Result<Column<u8>> {
        Ok(Column::from(array.as_boolean().values().iter().map(u8::from).collect::<Vec<_>>()))
    }
}

impl SoaField for bool {
    type Column = Fixed<bool>;
    type List = List<Fixed<bool>>;
}

impl SoaValue for bool {}
impl SoaPartition for bool {}

/// The kind of `i64` fields with `#[soa(timestamp = "us")]`: microseconds since 1970-01-01T00:00 UTC.
#[derive(Debug)]
pub struct TimestampMicros;

impl FixedKind for TimestampMicros {
    type Value = i64;
    type Native = i64;
    type Outcome = ();

    fn data_type() -> DataType {
        DataType::Timestamp { utc: true }
    }

    #[inline]
    fn encode(value: i64) -> Result<i64, String> {
        Ok(value)
    }

    #[inline]
    fn decode(native: i64) -> i64 {
        native
    }

    fn to_array(values: &Column<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(timestamps(values, nulls).with_timezone(UTC))
    }

    fn from_array(array: &ArrayRef, _: &str) -> Result<Column<i64>> {
        Ok(Column::from_scalar_buffer(array.as_primitive::<TimestampMicrosecondType>().values().clone()))
    }
}

/// Implements [`FixedKind`] and the field traits of one of chrono's times.
macro_rules! time {
    ($rust:ty, $utc:literal, |$value:ident| $to_utc:expr, |$time:ident| $from_utc:expr) => {
        impl FixedKind for $rust {
            type Value = $rust;
            type Native = i64;
            type Outcome = Result<()>;

            fn data_type() -> DataType {
                DataType::Timestamp { utc: $utc }
            }

            #[inline]
            fn encode($value: $rust) -> Result<i64, String> {
                micros_of($to_utc).ok_or_else(|| {
                    format!(
                        "the time {} cannot be stored to the microsecond; round it to whole microseconds first",
                        $value
                    )
                })
            }

            #[inline]
            fn decode(native: i64) -> $rust {
                let $time = DateTime::from_timestamp_micros(native).expect("stored times were checked");
                $from_utc
            }

            fn to_array(values: &Column<i64>, nulls: Option<NullBuffer>) -> ArrayRef {
                let array = timestamps(values, nulls);
                Arc::new(if $utc { array.with_timezone(UTC) } else { array })
            }

            fn from_array(array: &ArrayRef, column: &str) -> Result<Column<i64>> {
                let values = array.as_primitive::<TimestampMicrosecondType>().values();
                let range = DateTime::<Utc>::MIN_UTC.timestamp_micros()..=DateTime::<Utc>::MAX_UTC.timestamp_micros();
                check_range(values, array.nulls(), &range, column, "microseconds since 1970")?;
                Ok(Column::from_scalar_buffer(values.clone()))
            }
        }

        impl SoaField for $rust {
            type Column = Fixed<$rust>;
            type List = List<Fixed<$rust>>;
        }

        impl SoaValue for $rust {}
        impl SoaKey for $rust {}
        impl SoaPartition for $rust {}
    };
}

time!(NaiveDateTime, false, |value| value.and_utc(), |time| time.naive_utc());
time!(DateTime<Utc>, true, |value| value, |time| time);

/// The time zone of points in time, as schemas name it.
const UTC: &str = "UTC";

/// Days from chrono's day 0 (the last of the year before year 1) to 1970-01-01.
const EPOCH_DAYS_FROM_CE: i32 = 719_163;

impl FixedKind for NaiveDate {
    type Value = NaiveDate;
    type Native = i32;
    type Outcome = ();

    fn data_type() -> DataType {
        DataType::Date
    }

    #[inline]
    fn encode(value: NaiveDate) -> Result<i32, String> {
        Ok(days_of(value))
    }

    #[inline]
    fn decode(native: i32) -> NaiveDate {
        NaiveDate::from_num_days_from_ce_opt(native + EPOCH_DAYS_FROM_CE).expect("stored dates were checked")
    }

    fn to_array(values: &Column<i32>, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(PrimitiveArray::<Date32Type>::new(values.share(), nulls))
    }

    fn from_array(array: &ArrayRef, column: &str) -> Result<Column<i32>> {
        let values = array.as_primitive::<Date32Type>().values();
        check_range(
            values,
            array.nulls(),
            &(days_of(NaiveDate::MIN)..=days_of(NaiveDate::MAX)),
            column,
            "days since 1970",
        )?;
        Ok(Column::from_scalar_buffer(values.clone()))
    }
}

impl SoaField for NaiveDate {
    type Column = Fixed<NaiveDate>;
    type List = List<Fixed<NaiveDate>>;
}

impl SoaValue for NaiveDate {}
impl SoaKey for NaiveDate {}
impl SoaPartition for NaiveDate {}

fn days_of(date: NaiveDate) -> i32 {
    date.num_days_from_ce() - EPOCH_DAYS_FROM_CE
}

/// The time in microseconds, or `None` if it has a finer part or is inside a leap second, which has no
/// number of its own.
#[inline]
fn micros_of(time: DateTime<Utc>) -> Option<i64> {
    let nanos = time.timestamp_subsec_nanos();
    (nanos < 1_000_000_000 && nanos.is_multiple_of(1_000)).then(|| time.timestamp_micros())
}

fn timestamps(values: &Column<i64>, nulls: Option<NullBuffer>) -> PrimitiveArray<TimestampMicrosecondType> {
    PrimitiveArray::new(values.share(), nulls)
}

/// Refuses values that chrono cannot express.
pub(super) fn check_range<T: ArrowNativeType + fmt::Display>(
    values: &ScalarBuffer<T>,
    nulls: Option<&NullBuffer>,
    range: &std::ops::RangeInclusive<T>,
    column: &str,
    unit: &str,
) -> Result<()> {
    let is_value = |row: usize| nulls.is_none_or(|nulls| nulls.is_valid(row));
    match values.iter().enumerate().find(|(row, value)| !range.contains(value) && is_value(*row)) {
        None => Ok(()),
        Some((row, value)) => {
            Err(Error::value(column, format!("{value} {unit} in row {row} is outside of what chrono's types can hold")))
        }
    }
}
