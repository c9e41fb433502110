//! Constants of a query as constants of a [`Predicate`].
//!
//! A comparison `column op constant` reaches the scan as DataFusion evaluates it: both sides have one Arrow type, and the
//! column may be under a cast to it. The predicate made of it is true **wherever the comparison is**; it may be true in more
//! places. Where a cast rounds (a decimal to a float, a timestamp to a day), the values that may come out equal to the constant
//! are bounded instead.
//!
//! Floats: DataFusion orders them by IEEE 754's totalOrder after it has made -0.0 to 0.0, so that a NaN with its sign bit set
//! is below all numbers; to a predicate every NaN is above them. What is below a constant is therefore asked for together
//! with the NaNs.

use arrow::datatypes::{DataType as ArrowType, TimeUnit};
use datafusion::common::ScalarValue;

use crate::predicate::{CompareOp, Predicate, Scalar};
use crate::schema::DataType;

const MICROS_PER_DAY: i128 = 86_400_000_000;
const MILLIS_PER_DAY: i128 = 86_400_000;
/// How far a decimal that became a float may be from itself, relatively: thousands of times more than the float's precision.
const DECIMAL_AS_FLOAT_ERROR: f64 = 1e-9;
/// Digits beyond which a decimal's bounds are no longer computed in floats.
const DECIMAL_AS_FLOAT_MAX: f64 = 1e37;

/// The predicate that no row satisfies.
pub(super) fn nothing() -> Predicate {
    Predicate::Or(Vec::new())
}

/// A predicate that is true wherever `column op constant` is; `cast` is the type that the column is cast to, if any.
/// `None` if nothing can be said.
pub(super) fn compare(
    column: usize,
    data_type: &DataType,
    cast: Option<&ArrowType>,
    op: CompareOp,
    constant: &ScalarValue,
) -> Option<Predicate> {
    if let ScalarValue::Dictionary(_, value) = constant {
        return compare(column, data_type, cast, op, value);
    }
    if constant.is_null() {
        return Some(nothing());
    }
    match data_type {
        DataType::Bool => match (cast, constant) {
            (None, ScalarValue::Boolean(Some(value))) => Some(Predicate::compare(column, op, Scalar::Bool(*value))),
            _ => None,
        },
        DataType::Float32 | DataType::Float64 => {
            matches!(cast, None | Some(ArrowType::Float64)).then_some(())?;
            compare_float(column, op, float(constant)?)
        }
        DataType::Utf8 | DataType::Enum(_) => {
            cast.is_none_or(is_text).then_some(())?;
            Some(Predicate::compare(column, op, Scalar::Utf8(text(constant)?.to_owned())))
        }
        DataType::Binary => {
            cast.is_none_or(is_binary).then_some(())?;
            Some(Predicate::compare(column, op, Scalar::Binary(bytes(constant)?.to_owned())))
        }
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64 => Some(of_integer(data_type, cast, constant)?.compare(column, op)),
        DataType::Decimal { precision, scale } => {
            Some(of_decimal(*precision, *scale, cast, constant)?.compare(column, op))
        }
        DataType::Date => Some(of_date(cast, constant)?.compare(column, op)),
        DataType::Timestamp { utc } => Some(of_timestamp(*utc, cast, constant)?.compare(column, op)),
        DataType::Time => match (cast, constant) {
            (None, ScalarValue::Time64Microsecond(Some(micros))) => {
                Some(Place::exact(i128::from(*micros)).compare(column, op))
            }
            _ => None,
        },
        DataType::Duration => match (cast, constant) {
            (None, ScalarValue::DurationMicrosecond(Some(micros))) => {
                Some(Place::exact(i128::from(*micros)).compare(column, op))
            }
            _ => None,
        },
        DataType::Uuid => {
            cast.is_none().then_some(())?;
            Some(Predicate::compare(column, op, Scalar::Binary(bytes(constant)?.to_owned())))
        }
        DataType::List(_) | DataType::FixedList(..) | DataType::Struct(_) | DataType::Map { .. } => None,
    }
}

/// Where the values of a column may lie that a constant is equal to, in the column's own unit. Smaller values compare as
/// smaller or equal, larger ones as larger or equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    low: i128,
    /// Below `low` where no value is equal.
    high: i128,
    /// Whether exactly the one value `low` = `high` is equal.
    is_exact: bool,
}

impl Place {
    fn exact(value: i128) -> Self {
        Self { low: value, high: value, is_exact: true }
    }

    /// The place of `value / divisor`.
    fn ratio(value: i128, divisor: i128) -> Self {
        let floor = value.div_euclid(divisor);
        if value.rem_euclid(divisor) == 0 { Self::exact(floor) } else { Self::between(floor + 1, floor) }
    }

    /// Somewhere from `low` to `high`; nowhere where `high` is below `low`.
    fn between(low: i128, high: i128) -> Self {
        Self { low, high, is_exact: false }
    }

    fn compare(self, column: usize, op: CompareOp) -> Predicate {
        let is = |op, value| Predicate::compare(column, op, Scalar::Int(value));
        match op {
            CompareOp::Eq if self.is_exact => is(CompareOp::Eq, self.low),
            CompareOp::Eq if self.low > self.high => nothing(),
            CompareOp::Eq => Predicate::between(column, Scalar::Int(self.low), Scalar::Int(self.high)),
            CompareOp::NotEq if self.is_exact => is(CompareOp::NotEq, self.low),
            CompareOp::NotEq => Predicate::is_not_null(column),
            CompareOp::Lt if self.is_exact => is(CompareOp::Lt, self.low),
            CompareOp::Lt | CompareOp::LtEq => is(CompareOp::LtEq, self.high),
            CompareOp::Gt if self.is_exact => is(CompareOp::Gt, self.low),
            CompareOp::Gt | CompareOp::GtEq => is(CompareOp::GtEq, self.low),
        }
    }
}

/// The bits of an integer type and whether it is signed.
fn integer_shape(arrow: &ArrowType) -> Option<(u32, bool)> {
    Some(match arrow {
        ArrowType::Int8 => (8, true),
        ArrowType::Int16 => (16, true),
        ArrowType::Int32 => (32, true),
        ArrowType::Int64 => (64, true),
        ArrowType::UInt8 => (8, false),
        ArrowType::UInt16 => (16, false),
        ArrowType::UInt32 => (32, false),
        ArrowType::UInt64 => (64, false),
        _ => return None,
    })
}

fn of_integer(data_type: &DataType, cast: Option<&ArrowType>, constant: &ScalarValue) -> Option<Place> {
    let (bits, signed) = integer_shape(&data_type.to_arrow())?;
    match cast {
        None => integer(constant).map(Place::exact),
        Some(ArrowType::Float32) => of_float(float(constant)?, f32::MANTISSA_DIGITS),
        Some(ArrowType::Float64) => of_float(float(constant)?, f64::MANTISSA_DIGITS),
        Some(cast) => match integer_shape(cast) {
            Some((cast_bits, cast_signed)) => {
                let keeps_values =
                    if signed == cast_signed { cast_bits >= bits } else { cast_signed && cast_bits > bits };
                keeps_values.then(|| integer(constant))?.map(Place::exact)
            }
            None => {
                let (precision, scale) = decimal_shape(cast)?;
                let digits = if signed { 1_i128 << (bits - 1) } else { 1_i128 << bits }.ilog10() + 1;
                let (value, constant_scale) = decimal(constant)?;
                let fits = precision.checked_sub(scale)? >= digits && constant_scale == scale;
                fits.then_some(Place::ratio(value, 10_i128.checked_pow(scale)?))
            }
        },
    }
}

/// Integers that are cast to floats: below `2^mantissa` that is exact, and above the order of two sides stays.
fn of_float(constant: f64, mantissa: u32) -> Option<Place> {
    let is_exact_there = constant.abs() < 2_f64.powi(i32::try_from(mantissa).ok()?);
    if !is_exact_there {
        return None;
    }
    if constant == 0.0 && constant.is_sign_negative() {
        // Whether 0.0 is above -0.0 is for DataFusion to say.
        return Some(Place::between(0, 0));
    }
    let floor = constant.floor();
    // Below 2^53 in its absolute value.
    let whole = floor as i128;
    Some(if floor == constant { Place::exact(whole) } else { Place::between(whole + 1, whole) })
}

fn of_decimal(precision: u8, scale: u8, cast: Option<&ArrowType>, constant: &ScalarValue) -> Option<Place> {
    let (precision, scale) = (u32::from(precision), u32::from(scale));
    match cast {
        None => {
            let (value, constant_scale) = decimal(constant)?;
            (constant_scale == scale).then_some(Place::exact(value))
        }
        Some(ArrowType::Float64) => {
            let scaled = float(constant)? * 10_f64.powi(i32::try_from(scale).ok()?);
            let error = scaled.abs() * DECIMAL_AS_FLOAT_ERROR + 1.0;
            // Not NaN, and within i128.
            let is_bounded = scaled.abs() < DECIMAL_AS_FLOAT_MAX;
            is_bounded.then(|| Place::between((scaled - error).floor() as i128, (scaled + error).ceil() as i128))
        }
        Some(cast) => {
            let (cast_precision, cast_scale) = decimal_shape(cast)?;
            let (value, constant_scale) = decimal(constant)?;
            let keeps_values =
                cast_scale >= scale && cast_precision.checked_sub(cast_scale)? >= precision.checked_sub(scale)?;
            (keeps_values && constant_scale == cast_scale)
                .then_some(Place::ratio(value, 10_i128.checked_pow(cast_scale - scale)?))
        }
    }
}

fn of_date(cast: Option<&ArrowType>, constant: &ScalarValue) -> Option<Place> {
    match (cast, constant) {
        (None, ScalarValue::Date32(Some(days))) => Some(Place::exact(i128::from(*days))),
        (Some(ArrowType::Date64), ScalarValue::Date64(Some(millis))) => {
            Some(Place::ratio(i128::from(*millis), MILLIS_PER_DAY))
        }
        (Some(ArrowType::Timestamp(_, None)), constant) => {
            Some(Place::ratio(nanoseconds(constant)?, MICROS_PER_DAY * 1000))
        }
        _ => None,
    }
}

fn of_timestamp(utc: bool, cast: Option<&ArrowType>, constant: &ScalarValue) -> Option<Place> {
    match cast {
        None => Some(Place::ratio(nanoseconds(constant)?, 1000)),
        Some(ArrowType::Timestamp(unit, zone)) => {
            // What is read on a clock is the number of a point in time only in UTC, which the store's points in time are in.
            let is_same_number = utc || zone.as_deref().is_none_or(is_utc);
            is_same_number.then_some(())?;
            let nanos = nanoseconds(constant)?;
            let unit_nanos = match unit {
                TimeUnit::Nanosecond | TimeUnit::Microsecond => return Some(Place::ratio(nanos, 1000)),
                TimeUnit::Millisecond => 1_000_000,
                TimeUnit::Second => 1_000_000_000,
            };
            // What is left over is dropped, whether downwards or towards zero.
            Some(Place::between((nanos - unit_nanos).div_euclid(1000), (nanos + unit_nanos).div_euclid(1000)))
        }
        // The day begins up to a day earlier or later than in UTC, depending on the zone.
        Some(ArrowType::Date32) => match constant {
            ScalarValue::Date32(Some(day)) => {
                let day = i128::from(*day);
                Some(Place::between((day - 1) * MICROS_PER_DAY, (day + 2) * MICROS_PER_DAY))
            }
            _ => None,
        },
        Some(_) => None,
    }
}

fn is_utc(zone: &str) -> bool {
    matches!(zone, "UTC" | "Etc/UTC" | "Z" | "+00:00" | "-00:00" | "+0000" | "+00")
}

fn compare_float(column: usize, op: CompareOp, constant: f64) -> Option<Predicate> {
    let is = |op, value| Predicate::compare(column, op, Scalar::Float(value));
    let nan = || is(CompareOp::Eq, f64::NAN);
    if constant.is_nan() {
        // Which of the NaNs are equal to this one is for DataFusion to say.
        return (op == CompareOp::Eq).then(nan);
    }
    // Whether -0.0 is below 0.0 as well.
    let is_zero = constant == 0.0;
    Some(match op {
        CompareOp::Eq => is(op, constant),
        CompareOp::NotEq if is_zero => Predicate::is_not_null(column),
        CompareOp::NotEq => is(op, constant),
        CompareOp::Lt if !is_zero => Predicate::Or(vec![is(op, constant), nan()]),
        CompareOp::Lt | CompareOp::LtEq => Predicate::Or(vec![is(CompareOp::LtEq, constant), nan()]),
        CompareOp::Gt if !is_zero => is(op, constant),
        CompareOp::Gt | CompareOp::GtEq => is(CompareOp::GtEq, constant),
    })
}

fn integer(constant: &ScalarValue) -> Option<i128> {
    Some(match constant {
        ScalarValue::Int8(Some(value)) => i128::from(*value),
        ScalarValue::Int16(Some(value)) => i128::from(*value),
        ScalarValue::Int32(Some(value)) => i128::from(*value),
        ScalarValue::Int64(Some(value)) => i128::from(*value),
        ScalarValue::UInt8(Some(value)) => i128::from(*value),
        ScalarValue::UInt16(Some(value)) => i128::from(*value),
        ScalarValue::UInt32(Some(value)) => i128::from(*value),
        ScalarValue::UInt64(Some(value)) => i128::from(*value),
        _ => return None,
    })
}

/// A float as f64. A column of f32 is compared with constants of f32, which a f64 holds exactly.
fn float(constant: &ScalarValue) -> Option<f64> {
    match constant {
        ScalarValue::Float32(Some(value)) => Some(f64::from(*value)),
        ScalarValue::Float64(Some(value)) => Some(*value),
        _ => None,
    }
}

/// The precision and scale of a decimal type.
fn decimal_shape(arrow: &ArrowType) -> Option<(u32, u32)> {
    match arrow {
        ArrowType::Decimal32(precision, scale)
        | ArrowType::Decimal64(precision, scale)
        | ArrowType::Decimal128(precision, scale)
        | ArrowType::Decimal256(precision, scale) => Some((u32::from(*precision), u32::try_from(*scale).ok()?)),
        _ => None,
    }
}

/// A decimal's digits and its scale.
fn decimal(constant: &ScalarValue) -> Option<(i128, u32)> {
    let (value, scale) = match constant {
        ScalarValue::Decimal32(Some(value), _, scale) => (i128::from(*value), scale),
        ScalarValue::Decimal64(Some(value), _, scale) => (i128::from(*value), scale),
        ScalarValue::Decimal128(Some(value), _, scale) => (*value, scale),
        ScalarValue::Decimal256(Some(value), _, scale) => (value.to_i128()?, scale),
        _ => return None,
    };
    Some((value, u32::try_from(*scale).ok()?))
}

/// A timestamp in nanoseconds since 1970.
fn nanoseconds(constant: &ScalarValue) -> Option<i128> {
    let (value, unit_nanos) = match constant {
        ScalarValue::TimestampSecond(Some(value), _) => (*value, 1_000_000_000),
        ScalarValue::TimestampMillisecond(Some(value), _) => (*value, 1_000_000),
        ScalarValue::TimestampMicrosecond(Some(value), _) => (*value, 1000),
        ScalarValue::TimestampNanosecond(Some(value), _) => (*value, 1),
        _ => return None,
    };
    Some(i128::from(value) * unit_nanos)
}

/// The text of a constant.
pub(super) fn text(constant: &ScalarValue) -> Option<&str> {
    match constant {
        ScalarValue::Utf8(value) | ScalarValue::Utf8View(value) | ScalarValue::LargeUtf8(value) => value.as_deref(),
        ScalarValue::Dictionary(_, value) => text(value),
        _ => None,
    }
}

fn bytes(constant: &ScalarValue) -> Option<&[u8]> {
    match constant {
        ScalarValue::Binary(value)
        | ScalarValue::BinaryView(value)
        | ScalarValue::LargeBinary(value)
        | ScalarValue::FixedSizeBinary(_, value) => value.as_deref(),
        _ => None,
    }
}

/// Whether a type holds text, so that a cast of text to it changes nothing.
pub(super) fn is_text(arrow: &ArrowType) -> bool {
    match arrow {
        ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View => true,
        ArrowType::Dictionary(_, values) => is_text(values),
        _ => false,
    }
}

fn is_binary(arrow: &ArrowType) -> bool {
    matches!(arrow, ArrowType::Binary | ArrowType::LargeBinary | ArrowType::BinaryView)
}
