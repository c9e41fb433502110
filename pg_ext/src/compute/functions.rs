//! Functions of texts, which may come as dictionaries, and of what may be beyond a type of Postgres'.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, UInt8Array, UInt64Array};
use arrow::datatypes::{DataType, Date32Type, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt64Type};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use crate::query::DatePart;

const MICROSECONDS_PER_DAY: i64 = 86_400_000_000;

/// The number of an enum's variant: the key of the dictionary, which is the same in all batches of a snapshot.
pub(super) fn variant_number(values: Expr) -> Expr {
    call(Kind::VariantNumber, values)
}

/// The place of an enum's variant among their names, from its number. A place has a byte, as there are no more names.
pub(super) fn variant_rank<'a>(numbers: Expr, names: impl IntoIterator<Item = &'a str>) -> Expr {
    let names: Vec<&str> = names.into_iter().collect();
    let rank = |name: &&str| names.iter().filter(|other| *other < name).count() as u8;
    call(Kind::VariantRank { ranks: names.iter().map(rank).collect() }, numbers)
}

/// How many characters a text has.
pub(super) fn length(texts: Expr) -> Expr {
    call(Kind::Length, texts)
}

/// Integers of 64 unsigned bits as `bigint`s. `column` is their name in Postgres.
pub(super) fn bigint(values: Expr, column: &str) -> Expr {
    call(Kind::BigInt { column: column.to_owned() }, values)
}

/// A part of a date or a timestamp, of which the year before 1 is -1, as Postgres has it.
pub(super) fn date_part(part: DatePart, values: Expr) -> Expr {
    call(Kind::DatePart(part), values)
}

/// A value that its type in Postgres cannot hold.
#[derive(Debug)]
pub(super) struct Beyond {
    pub(super) column: String,
    pub(super) value: u64,
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column \"{}\" holds {}, which is beyond the range of its type", self.column, self.value)
    }
}

impl std::error::Error for Beyond {}

fn call(kind: Kind, argument: Expr) -> Expr {
    let function = TextFunction { kind, signature: Signature::any(1, Volatility::Immutable) };
    ScalarUDF::new_from_impl(function).call(vec![argument])
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    VariantNumber,
    VariantRank { ranks: Vec<u8> },
    Length,
    BigInt { column: String },
    DatePart(DatePart),
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TextFunction {
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for TextFunction {
    fn name(&self) -> &str {
        match self.kind {
            Kind::VariantNumber => "variant_number",
            Kind::VariantRank { .. } => "variant_rank",
            Kind::Length => "text_length",
            Kind::BigInt { .. } => "bigint",
            Kind::DatePart(part) => part.name(),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::VariantNumber | Kind::VariantRank { .. } => DataType::UInt8,
            Kind::Length | Kind::DatePart(_) => DataType::Int32,
            Kind::BigInt { .. } => DataType::Int64,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let array = &arrays[0];
        let found = match &self.kind {
            Kind::VariantNumber => {
                let dictionary = array.as_dictionary_opt::<UInt8Type>();
                dictionary.map(|dictionary| Arc::new(dictionary.keys().clone()) as ArrayRef)
            }
            Kind::VariantRank { ranks } => {
                let rank = |number: u8| ranks.get(usize::from(number)).copied().unwrap_or_default();
                array.as_primitive_opt::<UInt8Type>().map(|numbers| {
                    let ranks: UInt8Array = numbers.unary(rank);
                    Arc::new(ranks) as ArrayRef
                })
            }
            Kind::Length => lengths(array).map(|lengths| Arc::new(lengths) as ArrayRef),
            Kind::DatePart(part) => days(array).map(|days| {
                let parts: Int32Array = days.unary(|day| part_of_day(*part, day));
                Arc::new(parts) as ArrayRef
            }),
            Kind::BigInt { column } => match array.as_primitive_opt::<UInt64Type>() {
                Some(values) => Some(Arc::new(bigints(values, column)?) as ArrayRef),
                None => None,
            },
        };
        let unexpected = || DataFusionError::Internal(format!("{} is no type of texts", array.data_type()));
        Ok(ColumnarValue::Array(found.ok_or_else(unexpected)?))
    }
}

/// The days of dates and timestamps since 1970.
fn days(array: &ArrayRef) -> Option<Int64Array> {
    match array.data_type() {
        DataType::Date32 => Some(array.as_primitive::<Date32Type>().unary(i64::from)),
        DataType::Timestamp(TimeUnit::Microsecond, None) => {
            Some(array.as_primitive::<TimestampMicrosecondType>().unary(|time| time.div_euclid(MICROSECONDS_PER_DAY)))
        }
        _ => None,
    }
}

/// A part of the date that is so many days after 1970-01-01 in the Gregorian calendar. A cycle of it has 400 years, which begin
/// in March, so that the day which some years have more is the last one
/// (<https://howardhinnant.github.io/date_algorithms.html>, `civil_from_days`).
fn part_of_day(part: DatePart, day: i64) -> i32 {
    const DAYS_PER_CYCLE: i64 = 146_097;
    const DAYS_TO_1970: i64 = 719_468;
    let day = day + DAYS_TO_1970;
    let (cycle, day) = (day.div_euclid(DAYS_PER_CYCLE), day.rem_euclid(DAYS_PER_CYCLE));
    let year = (day - day / 1_460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let (year, month) = match month < 10 {
        true => (year + cycle * 400, month + 3),
        false => (year + cycle * 400 + 1, month - 9),
    };
    let found = match part {
        DatePart::Year if year > 0 => year,
        DatePart::Year => year - 1,
        DatePart::Quarter => (month + 2) / 3,
        DatePart::Month => month,
        DatePart::Day => day,
    };
    // No year of a timestamp or of a date is beyond this.
    found as i32
}

fn bigints(values: &UInt64Array, column: &str) -> Result<Int64Array> {
    let beyond = |value: u64| {
        let error = Beyond { column: column.to_owned(), value };
        DataFusionError::External(Box::new(error))
    };
    values.try_unary(|value| i64::try_from(value).map_err(|_| beyond(value)))
}

fn lengths(array: &ArrayRef) -> Option<Int32Array> {
    // No text has 2^31 bytes.
    let length = |text: &str| text.chars().count() as i32;
    if let Some(texts) = array.as_string_view_opt() {
        return Some(texts.iter().map(|text| text.map(length)).collect());
    }
    let dictionary = array.as_dictionary_opt::<UInt8Type>()?;
    let names = dictionary.values().as_string_opt::<i32>()?;
    let lengths: Vec<i32> = names.iter().map(|name| name.map_or(0, length)).collect();
    let of = |key: Option<u8>| key.and_then(|key| lengths.get(usize::from(key)).copied());
    Some(dictionary.keys().iter().map(of).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_days_are_those_of_the_calendar() {
        let parts = |day| {
            [DatePart::Year, DatePart::Quarter, DatePart::Month, DatePart::Day].map(|part| part_of_day(part, day))
        };
        assert_eq!(parts(0), [1970, 1, 1, 1]);
        assert_eq!(parts(-1), [1969, 4, 12, 31]);
        assert_eq!(parts(11_016), [2000, 1, 2, 29]);
        assert_eq!(parts(11_017), [2000, 1, 3, 1]);
        assert_eq!(parts(-719_162), [1, 1, 1, 1]);
        // There is no year 0.
        assert_eq!(parts(-719_163), [-1, 4, 12, 31]);
        // The first and the last day that Postgres knows.
        assert_eq!(parts(-2_440_588), [-4714, 4, 11, 24]);
        assert_eq!(parts(2_145_031_948), [5_874_897, 4, 12, 31]);
    }
}
