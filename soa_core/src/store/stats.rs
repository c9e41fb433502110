//! Statistics of columns: computed from rows and written to the log.
//!
//! **They never lie**: what they exclude is not there. Where the exact bound cannot be written, a wider
//! one is, or none (format.md, section 2).

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, Decimal32Type, Decimal64Type, Decimal128Type, DurationMicrosecondType,
    Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use chrono::{DateTime, NaiveDate, SecondsFormat};
use serde_json::{Map, Number, Value};

use crate::predicate::{Scalar, prefix_end};
use crate::schema::{DataType, Schema};

/// Days from 0001-01-01, from which chrono counts, to 1970-01-01, from which `Date` does.
pub(super) const DAYS_CE_TO_1970: i32 = 719_163;
/// Text bounds in the log are cut to this many characters.
const TEXT_BOUND_CHARS: usize = 32;

/// What is known of one column over some rows.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct ColumnStats {
    pub(super) nulls: u64,
    pub(super) min: Option<Scalar>,
    pub(super) max: Option<Scalar>,
    pub(super) has_nan: bool,
}

impl ColumnStats {
    /// Of no rows.
    pub(super) const EMPTY: Self = Self { nulls: 0, min: None, max: None, has_nan: false };

    /// The statistics of an array in the Arrow type of its column, or one in which an Arrow form may have it.
    pub(super) fn of(array: &ArrayRef) -> Self {
        let (min, max, has_nan) = match array.data_type() {
            ArrowType::Boolean => {
                let array = array.as_boolean();
                let trues = array.true_count();
                let falses = array.len() - array.null_count() - trues;
                let min = (trues + falses > 0).then_some(Scalar::Bool(falses == 0));
                (min, (trues + falses > 0).then_some(Scalar::Bool(trues > 0)), false)
            }
            ArrowType::Int8 => ints::<Int8Type>(array),
            ArrowType::Int16 => ints::<Int16Type>(array),
            ArrowType::Int32 => ints::<Int32Type>(array),
            ArrowType::Int64 => ints::<Int64Type>(array),
            ArrowType::UInt8 => ints::<UInt8Type>(array),
            ArrowType::UInt16 => ints::<UInt16Type>(array),
            ArrowType::UInt32 => ints::<UInt32Type>(array),
            ArrowType::UInt64 => ints::<UInt64Type>(array),
            ArrowType::Date32 => ints::<Date32Type>(array),
            ArrowType::Timestamp(_, _) => ints::<TimestampMicrosecondType>(array),
            ArrowType::Time64(_) => ints::<Time64MicrosecondType>(array),
            ArrowType::Duration(_) => ints::<DurationMicrosecondType>(array),
            ArrowType::Decimal32(_, _) => ints::<Decimal32Type>(array),
            ArrowType::Decimal64(_, _) => ints::<Decimal64Type>(array),
            ArrowType::Decimal128(_, _) => ints::<Decimal128Type>(array),
            ArrowType::Float32 => floats(array.as_primitive::<Float32Type>(), f64::from),
            ArrowType::Float64 => floats(array.as_primitive::<Float64Type>(), |value| value),
            ArrowType::Utf8View => {
                let (min, max) = extremes(array.as_string_view().iter().flatten());
                (min.map(|text| Scalar::Utf8(text.into())), max.map(|text| Scalar::Utf8(text.into())), false)
            }
            ArrowType::BinaryView => {
                let (min, max) = extremes(array.as_binary_view().iter().flatten());
                (min.map(|bytes| Scalar::Binary(bytes.into())), max.map(|bytes| Scalar::Binary(bytes.into())), false)
            }
            ArrowType::FixedSizeBinary(_) => {
                let (min, max) = extremes(array.as_fixed_size_binary().iter().flatten());
                (min.map(|bytes| Scalar::Binary(bytes.into())), max.map(|bytes| Scalar::Binary(bytes.into())), false)
            }
            ArrowType::Dictionary(_, _) => variants(array),
            // Nothing is known of lists, structs and maps.
            _ => (None, None, true),
        };
        Self { nulls: array.logical_null_count() as u64, min, max, has_nan }
    }

    /// Of these rows and those of `other` together.
    pub(super) fn merge(self, other: Self) -> Self {
        // A side without bounds has no values but NULL and NaN.
        let pick = |a: Option<Scalar>, b: Option<Scalar>, less: bool| match (a, b) {
            (Some(a), Some(b)) => match a.compare(&b) {
                Some(order) if order.is_lt() == less => Some(a),
                Some(_) => Some(b),
                None => None,
            },
            (a, b) => a.or(b),
        };
        Self {
            nulls: self.nulls + other.nulls,
            min: pick(self.min, other.min, true),
            max: pick(self.max, other.max, false),
            has_nan: self.has_nan || other.has_nan,
        }
    }
}

type Extremes = (Option<Scalar>, Option<Scalar>, bool);

fn ints<T: ArrowPrimitiveType>(array: &ArrayRef) -> Extremes
where
    T::Native: Ord + Into<i128>,
{
    let array: &PrimitiveArray<T> = array.as_primitive();
    let (min, max) = match array.null_count() {
        0 => extremes(array.values().iter().copied()),
        _ => extremes(array.iter().flatten()),
    };
    (min.map(|value| Scalar::Int(value.into())), max.map(|value| Scalar::Int(value.into())), false)
}

fn extremes<T: Ord + Copy>(mut values: impl Iterator<Item = T>) -> (Option<T>, Option<T>) {
    let Some(first) = values.next() else { return (None, None) };
    let (min, max) = values.fold((first, first), |(min, max), value| (min.min(value), max.max(value)));
    (Some(min), Some(max))
}

fn floats<T: ArrowPrimitiveType>(array: &PrimitiveArray<T>, widen: impl Fn(T::Native) -> f64) -> Extremes {
    let (mut min, mut max, mut has_nan) = (f64::INFINITY, f64::NEG_INFINITY, false);
    let mut any = false;
    let mut take = |value: f64| {
        if value.is_nan() {
            has_nan = true;
        } else {
            any = true;
            min = if value < min { value } else { min };
            max = if value > max { value } else { max };
        }
    };
    match array.null_count() {
        0 => array.values().iter().for_each(|value| take(widen(*value))),
        _ => array.iter().flatten().for_each(|value| take(widen(value))),
    }
    // Zero has two signs and engines differ in whether they are one value: both are within the bounds.
    let outward = |value: f64, zero: f64| if value == 0.0 { zero } else { value };
    (any.then(|| Scalar::Float(outward(min, -0.0))), any.then(|| Scalar::Float(outward(max, 0.0))), has_nan)
}

fn variants(array: &ArrayRef) -> Extremes {
    let Some(dictionary) = array.as_dictionary_opt::<UInt8Type>() else { return (None, None, true) };
    let mut used = [false; 256];
    dictionary.keys().iter().flatten().for_each(|key| used[usize::from(key)] = true);
    let Some(names) = dictionary.values().as_string_opt::<i32>() else { return (None, None, true) };
    let (min, max) = extremes(names.iter().zip(used).filter_map(|(name, used)| name.filter(|_| used)));
    (min.map(|name| Scalar::Utf8(name.into())), max.map(|name| Scalar::Utf8(name.into())), false)
}

/// The `stats` of an `add`, as a JSON text. `columns[i]` belongs to the schema's column `i`.
pub(super) fn to_json(schema: &Schema, columns: &[usize], rows: u64, stats: &[ColumnStats]) -> String {
    let (mut min, mut max, mut nulls) = (Map::new(), Map::new(), Map::new());
    for &column in columns {
        let field = schema.field(column);
        let stats = &stats[column];
        nulls.insert(field.name().into(), stats.nulls.into());
        let bounds = match field.data_type() {
            // The log's bounds are in signed order; see format.md.
            DataType::UInt64 => unsigned_bounds(stats),
            DataType::Float32 | DataType::Float64 if stats.has_nan => None,
            DataType::Binary | DataType::Uuid => None,
            data_type => stats
                .min
                .as_ref()
                .zip(stats.max.as_ref())
                .map(|(min, max)| (bound_to_json(data_type, min, false), bound_to_json(data_type, max, true))),
        };
        if let Some((low, high)) = bounds {
            // Engines take one bound alone badly: either both or none, but for text's maximum.
            if let Some(low) = low.filter(|_| high.is_some() || matches!(field.data_type(), DataType::Utf8)) {
                min.insert(field.name().into(), low);
                high.into_iter().for_each(|high| drop(max.insert(field.name().into(), high)));
            }
        }
    }
    serde_json::json!({"numRecords": rows, "minValues": min, "maxValues": max, "nullCount": nulls}).to_string()
}

/// The least and the greatest of the values' 64 bits read as signed.
fn unsigned_bounds(stats: &ColumnStats) -> Option<(Option<Value>, Option<Value>)> {
    let (Some(Scalar::Int(min)), Some(Scalar::Int(max))) = (&stats.min, &stats.max) else { return None };
    let signed_max = i128::from(i64::MAX);
    let (low, high) = if *max <= signed_max {
        (*min, *max)
    } else if *min > signed_max {
        (*min - (1 << 64), *max - (1 << 64))
    } else {
        // Values on both sides of 2^63: as signed numbers they may reach anywhere.
        (i128::from(i64::MIN), signed_max)
    };
    Some((int_to_json(low), int_to_json(high)))
}

fn int_to_json(value: i128) -> Option<Value> {
    i64::try_from(value).ok().map(Value::from)
}

fn bound_to_json(data_type: &DataType, bound: &Scalar, is_max: bool) -> Option<Value> {
    match (data_type, bound) {
        (DataType::Date, Scalar::Int(days)) => {
            let days = i32::try_from(*days).ok()?.checked_add(DAYS_CE_TO_1970)?;
            let date = NaiveDate::from_num_days_from_ce_opt(days)?;
            (0..=9999).contains(&chrono::Datelike::year(&date)).then(|| date.format("%Y-%m-%d").to_string().into())
        }
        (DataType::Timestamp { utc }, Scalar::Int(micros)) => {
            let micros = i64::try_from(*micros).ok()?;
            // Milliseconds are what every reader takes; rounded outwards.
            let millis = if is_max { micros.checked_add(999)?.div_euclid(1000) } else { micros.div_euclid(1000) };
            let time = DateTime::from_timestamp_millis(millis)?;
            if !(0..=9999).contains(&chrono::Datelike::year(&time)) {
                return None;
            }
            let text = time.to_rfc3339_opts(SecondsFormat::Millis, true);
            Some(if *utc { text } else { text.trim_end_matches('Z').to_owned() }.into())
        }
        (DataType::Decimal { scale, .. }, Scalar::Int(unscaled)) => decimal_to_json(*unscaled, *scale),
        (_, Scalar::Int(value)) => int_to_json(*value),
        (DataType::Float32, Scalar::Float(value)) => {
            // The shortest text of the f32 itself, not of the f64 next to it.
            (value.is_finite()).then(|| format!("{:?}", *value as f32).parse::<Number>().ok().map(Value::Number))?
        }
        (_, Scalar::Float(value)) => Number::from_f64(*value).map(Value::Number),
        (_, Scalar::Utf8(text)) => truncate_text(text, is_max).map(Value::from),
        (_, Scalar::Bool(_) | Scalar::Binary(_)) => None,
    }
}

fn decimal_to_json(unscaled: i128, scale: u8) -> Option<Value> {
    let digits = format!("{:0>width$}", unscaled.unsigned_abs(), width = usize::from(scale) + 1);
    let (whole, fraction) = digits.split_at(digits.len() - usize::from(scale));
    let sign = if unscaled < 0 { "-" } else { "" };
    let point = if scale == 0 { "" } else { "." };
    // JSON readers hold numbers as f64: a bound with more digits than that has would be rounded inwards.
    if digits.trim_start_matches('0').len() > 15 {
        return None;
    }
    format!("{sign}{whole}{point}{fraction}").parse::<Number>().ok().map(Value::Number)
}

fn truncate_text(text: &str, is_max: bool) -> Option<String> {
    let Some((end, _)) = text.char_indices().nth(TEXT_BOUND_CHARS) else { return Some(text.to_owned()) };
    if is_max { prefix_end(&text[..end]) } else { Some(text[..end].to_owned()) }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int64Array, StringViewArray, UInt64Array};

    use super::super::logged_stats::LoggedStats;
    use super::*;
    use crate::predicate::Bounds;
    use crate::schema::Field;

    fn round_trip(data_type: DataType, array: ArrayRef) -> Bounds {
        let schema = Schema::new(vec![Field::nullable("c", data_type)]).unwrap();
        let rows = array.len() as u64;
        let json = to_json(&schema, &[0], rows, &[ColumnStats::of(&array)]);
        LoggedStats::new(json).bounds(&schema, 0)
    }

    #[test]
    fn nan_and_infinity_leave_no_bounds_in_the_log() {
        for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            let bounds = round_trip(DataType::Float64, Arc::new(Float64Array::from(vec![1.0, odd])));
            assert_eq!((bounds.min, bounds.max), (None, None));
        }
        let bounds = round_trip(DataType::Float64, Arc::new(Float64Array::from(vec![0.0, 0.0])));
        let sign = |bound: &Option<Scalar>| matches!(bound, Some(Scalar::Float(value)) if value.is_sign_negative());
        assert!(sign(&bounds.min) && !sign(&bounds.max));
    }

    #[test]
    fn float_bounds_enclose_the_values_they_are_read_back_for() {
        for value in [0.7_f32, 0.1, -0.7, 1.0e-40, f32::MAX, f32::MIN_POSITIVE] {
            let array = arrow::array::Float32Array::from(vec![value]);
            let bounds = round_trip(DataType::Float32, Arc::new(array));
            let exact = Scalar::Float(value.into());
            assert!(bounds.min.is_none_or(|min| min.compare(&exact).is_some_and(|order| order.is_le())), "{value}");
            assert!(bounds.max.is_none_or(|max| max.compare(&exact).is_some_and(|order| order.is_ge())), "{value}");
        }
        let mut bits = 1_u64;
        for _ in 0..20_000 {
            bits = bits.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let value = (bits >> 11) as f64 / 9_007_199_254_740.992;
            let bounds = round_trip(DataType::Float64, Arc::new(Float64Array::from(vec![value])));
            let exact = Scalar::Float(value);
            let (Some(min), Some(max)) = (bounds.min, bounds.max) else { panic!("no bounds for {value}") };
            assert!(min.compare(&exact).is_some_and(|order| order.is_le()), "{value:?} {min}");
            assert!(max.compare(&exact).is_some_and(|order| order.is_ge()), "{value:?} {max}");
        }
    }

    #[test]
    fn unsigned_values_beyond_the_signed_range_are_not_bounded() {
        let bounds = |values: Vec<u64>| round_trip(DataType::UInt64, Arc::new(UInt64Array::from(values)));
        assert_eq!(bounds(vec![3, 9]).max, Some(Scalar::Int(9)));
        assert_eq!(bounds(vec![3, u64::MAX]).max, None);
        assert_eq!(bounds(vec![1 << 63, u64::MAX]).min, None);
    }

    #[test]
    fn text_bounds_are_cut_outwards() {
        let long = "x".repeat(100);
        let bounds = round_trip(DataType::Utf8, Arc::new(StringViewArray::from(vec![long.as_str()])));
        let (Some(Scalar::Utf8(min)), Some(Scalar::Utf8(max))) = (bounds.min, bounds.max) else { panic!("no bounds") };
        assert!(min.as_str() < long.as_str() && max.as_str() > long.as_str());
        assert_eq!(max.chars().count(), TEXT_BOUND_CHARS);
        let top = "\u{10FFFF}".repeat(40);
        let bounds = round_trip(DataType::Utf8, Arc::new(StringViewArray::from(vec![top.as_str()])));
        assert_eq!(bounds.max, None);
    }

    #[test]
    fn times_are_rounded_outwards_and_dates_before_1970_are_exact() {
        let micros = Int64Array::from(vec![-1_500_001_i64, 1_234_567]).reinterpret_cast::<TimestampMicrosecondType>();
        let bounds = round_trip(DataType::Timestamp { utc: true }, Arc::new(micros));
        let (Some(Scalar::Int(min)), Some(Scalar::Int(max))) = (bounds.min, bounds.max) else { panic!("no bounds") };
        assert!(min <= -1_500_001 && min > -1_502_000, "{min}");
        assert!((1_234_567..1_237_000).contains(&max), "{max}");
        let days = arrow::array::Date32Array::from(vec![-1, 19_000]);
        let bounds = round_trip(DataType::Date, Arc::new(days));
        assert_eq!(bounds.min, Some(Scalar::Int(-1)));
        assert_eq!(bounds.max, Some(Scalar::Int(19_000)));
    }

    #[test]
    fn decimals_are_exact_or_absent() {
        assert_eq!(decimal_to_json(-5, 2).unwrap().to_string(), "-0.05");
        assert_eq!(decimal_to_json(12345, 2).unwrap().to_string(), "123.45");
        assert_eq!(decimal_to_json(1_234_567_890_123_456, 2), None);
    }
}
