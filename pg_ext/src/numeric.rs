//! Postgres' `numeric` as bytes.
//!
//! Postgres offers no way to make a numeric from an integer and a scale without a call and an allocation per value, so
//! the format is written here. It is the one of tables on disk, which `pg_upgrade` keeps from release to release
//! (`src/backend/utils/adt/numeric.c`, "NumericShort" and "NumericLong"): a header of 16 bits with the sign, the digits
//! after the point and the weight of the first digit group, then groups of four decimal digits, 16 bits each, in native
//! byte order, without zero groups at either end.

use std::ops::RangeInclusive;

use arrow::datatypes::i256;
use num_bigint::{BigInt, Sign};

use crate::query::Deviation;

/// The header's two highest bits: what kind of value it is.
const KIND_MASK: u16 = 0xC000;
const KIND_POSITIVE: u16 = 0x0000;
const KIND_NEGATIVE: u16 = 0x4000;
const KIND_SHORT: u16 = 0x8000;
/// The short header: sign, digits after the point, sign of the weight, weight.
const SHORT_NEGATIVE: u16 = 0x2000;
const SHORT_SCALE_SHIFT: u32 = 7;
const SHORT_WEIGHT_NEGATIVE: u16 = 0x0040;
const SHORT_WEIGHT_MASK: u16 = 0x003F;
/// What the short header can say.
const SHORT_SCALE_MAX: u16 = 0x003F;
const SHORT_WEIGHTS: RangeInclusive<i16> = -64..=63;

/// What NaN and the infinities have instead: the four highest bits.
const SPECIAL_MASK: u16 = 0xF000;
const SPECIAL_NEGATIVE_INFINITY: u16 = 0xF000;

/// The most digits after the point that the long header can say.
const LONG_SCALE_MAX: u16 = 0x3FFF;

/// Decimal digits of a group, and how many values they have.
const GROUP_DIGITS: u32 = 4;
const GROUP_BASE: u64 = 10_000;
/// The most digits after the point that an i128 is encoded with.
const MAX_SCALE: u8 = 38;
/// Groups of an i128: 39 digits, and the point may cut through one more.
const GROUPS_MAX: usize = 11;
/// The header and the groups, two bytes each.
const ENCODED_BYTES_MAX: usize = 2 + 2 * GROUPS_MAX;

/// The bytes of a numeric.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Encoded {
    bytes: [u8; ENCODED_BYTES_MAX],
    len: usize,
}

impl Encoded {
    /// Without the header of a variable-length value.
    pub(crate) fn as_slice(&self) -> &[u8] {
        &self.bytes[..self.len]
    }

    fn push(&mut self, word: u16) {
        self.bytes[self.len..self.len + 2].copy_from_slice(&word.to_ne_bytes());
        self.len += 2;
    }
}

/// The bytes of `value / 10^scale`, shown with `scale` digits after the point. `scale` is at most 38.
pub(crate) fn encode(value: i128, scale: u8) -> Encoded {
    // Groups count from the point, so the digits after it are filled up to whole groups: the last one takes fewer digits
    // of the value than the others.
    let fraction_groups = u32::from(scale).div_ceil(GROUP_DIGITS);
    let padding = 10u64.pow(fraction_groups * GROUP_DIGITS - u32::from(scale));
    let mut groups = [0u16; GROUPS_MAX];
    let mut count = 0;
    let mut large = value.unsigned_abs();
    if padding > 1 && large > 0 {
        let last = u128::from(GROUP_BASE / padding);
        groups[0] = ((large % last) as u64 * padding) as u16;
        (large, count) = (large / last, 1);
    }
    // Division of 128 bits is slow, and few numbers need it.
    while large > u128::from(u64::MAX) {
        groups[count] = (large % u128::from(GROUP_BASE)) as u16;
        (large, count) = (large / u128::from(GROUP_BASE), count + 1);
    }
    let mut small = large as u64;
    while small > 0 {
        groups[count] = (small % GROUP_BASE) as u16;
        (small, count) = (small / GROUP_BASE, count + 1);
    }
    let trailing = groups[..count].iter().take_while(|group| **group == 0).count();
    let significant = &groups[trailing..count];
    let weight = if significant.is_empty() { 0 } else { count as i32 - 1 - fraction_groups as i32 };
    let header = short_header(value < 0, scale.into(), weight as i16);
    let mut encoded = Encoded { bytes: [0; ENCODED_BYTES_MAX], len: 0 };
    encoded.push(header);
    significant.iter().rev().for_each(|group| encoded.push(*group));
    encoded
}

/// The bytes of `value / 10^scale`, shown with `scale` digits after the point, of a value of more digits than [`encode`] takes.
pub(crate) fn encode_wide(value: i256, scale: u32) -> Vec<u8> {
    if let (Some(value), Ok(scale @ ..=MAX_SCALE)) = (value.to_i128(), u8::try_from(scale)) {
        return encode(value, scale).as_slice().to_vec();
    }
    encode_digits(&value.to_string(), scale)
}

/// The bytes of an integer's digits, so many of which are after the point.
fn encode_digits(text: &str, scale: u32) -> Vec<u8> {
    let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
    let (first, others) = digits.split_at(1);
    let exponent = others.len() as i64 - i64::from(scale);
    // Some hundred digits, whatever the scale, are far from what a numeric cannot hold.
    from_scientific(&format!("{sign}{first}.{others}e{exponent}")).unwrap_or_default()
}

/// The bytes of the average of `count` numbers, of which `sum / 10^scale` is the sum: as `numeric.c` divides (`div_var` with
/// the digits that `select_div_scale` chooses), rounded half away from zero.
pub(crate) fn average(sum: i256, scale: u32, count: i64) -> Vec<u8> {
    let result_scale = division_scale(&sum.wrapping_abs().to_string(), scale, &count.to_string()).max(scale);
    let count = i256::from_i128(count.into());
    let ten = i256::from_i128(10);
    // No sum of 10^12 rows has more digits than leave room for this.
    let scaled = (scale..result_scale).fold(sum, |scaled, _| scaled.wrapping_mul(ten));
    let (quotient, rest) = (scaled.wrapping_div(count), scaled.wrapping_rem(count));
    let twice = rest.wrapping_abs().wrapping_mul(i256::from_i128(2));
    let away = match (twice >= count, sum < i256::ZERO) {
        (false, _) => i256::ZERO,
        (true, false) => i256::ONE,
        (true, true) => i256::MINUS_ONE,
    };
    encode_wide(quotient.wrapping_add(away), result_scale)
}

/// What a [`Deviation`] is computed of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sums {
    /// Of the numbers' squares.
    pub(crate) squares: i256,
    /// Of the numbers.
    pub(crate) sum: i256,
    pub(crate) count: i64,
}

/// The bytes of a measure of how far numbers are from their average (`numeric_stddev_internal`): as the squares' sum is
/// `squares / 10^scale`, that of the numbers is `sum / 10^(scale / 2)`. `None` where there are too few numbers.
pub(crate) fn deviation(deviation: Deviation, sums: &Sums, scale: u32) -> Option<Vec<u8>> {
    let least = if deviation.is_of_sample { 2 } else { 1 };
    if sums.count < least {
        return None;
    }
    let large = |number: i256| BigInt::from_signed_bytes_le(&number.to_le_bytes());
    let (count, sum) = (BigInt::from(sums.count), large(sums.sum));
    let difference = large(sums.squares) * &count - &sum * &sum;
    if difference.sign() != Sign::Plus {
        return Some(encode(0, 0).as_slice().to_vec());
    }
    let divisor = if deviation.is_of_sample { &count * (&count - 1) } else { &count * &count };
    let result_scale = division_scale(&difference.to_string(), scale, &divisor.to_string()).max(scale);
    let variance = rounded(difference * power_of_ten(result_scale - scale), &divisor);
    let result = match deviation.is_root {
        false => variance,
        // One digit more, by which it is rounded.
        true => rounded((variance * power_of_ten(result_scale + 2)).sqrt(), &BigInt::from(10)),
    };
    Some(encode_digits(&result.to_string(), result_scale))
}

fn power_of_ten(exponent: u32) -> BigInt {
    BigInt::from(10).pow(exponent)
}

/// The quotient of positive numbers, rounded half away from zero.
fn rounded(dividend: BigInt, divisor: &BigInt) -> BigInt {
    (dividend * 2 + divisor) / (divisor * 2)
}

/// How many digits after the point Postgres gives to the quotient of two positive numbers, `dividend / 10^scale` and the
/// divisor: so many that there are about 16 significant ones (`select_div_scale`).
fn division_scale(dividend: &str, scale: u32, divisor: &str) -> u32 {
    const SIGNIFICANT_DIGITS_MIN: i32 = 16;
    let (sum_weight, sum_first) = first_group(dividend, scale);
    let (count_weight, count_first) = first_group(divisor, 0);
    let quotient_weight = sum_weight - count_weight - i32::from(sum_first <= count_first);
    (SIGNIFICANT_DIGITS_MIN - quotient_weight * GROUP_DIGITS as i32).max(0).unsigned_abs()
}

/// The place of the first group that is not zero, counted from the point, and the group. Both are 0 for 0.
fn first_group(digits: &str, scale: u32) -> (i32, u32) {
    if digits == "0" {
        return (0, 0);
    }
    let group = GROUP_DIGITS as i32;
    // Of the first digit, in powers of ten.
    let exponent = digits.len() as i32 - 1 - scale as i32;
    let weight = exponent.div_euclid(group);
    // So many of the digits are in the first group.
    let count = (exponent.rem_euclid(group) + 1) as usize;
    let first = digits.get(..count).map_or_else(|| format!("{digits:0<count$}"), str::to_owned);
    (weight, first.parse().unwrap_or_default())
}

/// The bytes of a number in scientific notation, such as `-1.25e-7`, shown with all its digits; `None` if the text is none,
/// or beyond what a numeric holds.
pub(crate) fn from_scientific(text: &str) -> Option<Vec<u8>> {
    let (number, exponent) = text.split_once('e')?;
    let (negative, number) = number.strip_prefix('-').map_or((false, number), |number| (true, number));
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let digits = [whole, fraction].concat();
    if whole.len() != 1 || !digits.bytes().all(|digit| digit.is_ascii_digit()) {
        return None;
    }
    let exponent: i32 = exponent.parse().ok()?;
    let scale =
        u16::try_from((fraction.len() as i32 - exponent).max(0)).ok().filter(|scale| *scale <= LONG_SCALE_MAX)?;
    // The first group has as many digits as there are from it to a group's end.
    let group_digits = GROUP_DIGITS as i32;
    let weight = exponent.div_euclid(group_digits);
    let lead = (group_digits - 1 - exponent.rem_euclid(group_digits)) as usize;
    let mut padded = "0".repeat(lead) + &digits;
    padded += &"0".repeat(padded.len().next_multiple_of(GROUP_DIGITS as usize) - padded.len());
    let mut groups = padded
        .as_bytes()
        .chunks(GROUP_DIGITS as usize)
        .map(|group| group.iter().fold(0_u16, |value, digit| value * 10 + u16::from(digit - b'0')))
        .collect::<Vec<u16>>();
    while groups.last() == Some(&0) {
        groups.pop();
    }
    let weight = if groups.is_empty() { 0 } else { i16::try_from(weight).ok()? };
    let is_negative = negative && !groups.is_empty();
    let mut words = Vec::with_capacity(groups.len() + 2);
    match scale <= SHORT_SCALE_MAX && SHORT_WEIGHTS.contains(&weight) {
        true => words.push(short_header(is_negative, scale, weight)),
        false => {
            let kind = if is_negative { KIND_NEGATIVE } else { KIND_POSITIVE };
            words.extend([kind | scale, weight.cast_unsigned()]);
        }
    }
    words.extend(groups);
    Some(words.into_iter().flat_map(u16::to_ne_bytes).collect())
}

fn short_header(is_negative: bool, scale: u16, weight: i16) -> u16 {
    let negative = if is_negative { SHORT_NEGATIVE } else { 0 };
    let weight_sign = if weight < 0 { SHORT_WEIGHT_NEGATIVE } else { 0 };
    KIND_SHORT | negative | (scale << SHORT_SCALE_SHIFT) | weight_sign | (weight.cast_unsigned() & SHORT_WEIGHT_MASK)
}

/// A finite numeric: `digits / 10^scale`, or a little more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal {
    /// The digits as one integer, rounded towards zero.
    digits: i256,
    /// How many of them are after the point.
    scale: u32,
    /// Whether there are digits behind these that are not zero. Then there are more of these than any column has.
    has_more: bool,
}

/// The groups of a numeric that are looked at one by one: 72 digits, which leave room in 256 bits.
const DECODED_GROUPS_MAX: usize = 18;

/// Reads the bytes of a numeric (without the header of a variable-length value).
///
/// `None` for NaN, for infinities and for what has more digits before the point than any column.
pub(crate) fn decode(bytes: &[u8]) -> Option<Decimal> {
    let mut words = bytes.chunks_exact(2).map(|pair| u16::from_ne_bytes([pair[0], pair[1]]));
    let header = words.next()?;
    let (negative, weight) = match header & KIND_MASK {
        KIND_POSITIVE | KIND_NEGATIVE => (header & KIND_MASK == KIND_NEGATIVE, i32::from(words.next()?.cast_signed())),
        KIND_SHORT => {
            let low = i32::from(header & SHORT_WEIGHT_MASK);
            let weight = if header & SHORT_WEIGHT_NEGATIVE == 0 { low } else { low - i32::from(SHORT_WEIGHT_MASK) - 1 };
            (header & SHORT_NEGATIVE != 0, weight)
        }
        _ => return None,
    };
    let mut groups: Vec<u16> = words.collect();
    // No group is zero at either end.
    let has_more = groups.len() > DECODED_GROUPS_MAX;
    groups.truncate(DECODED_GROUPS_MAX);
    // The value is digits * 10000^(weight - (groups - 1)).
    let exponent = weight - (groups.len() as i32 - 1);
    if groups.is_empty() || weight >= GROUPS_MAX as i32 {
        let zero = Decimal { digits: i256::ZERO, scale: 0, has_more: false };
        return groups.is_empty().then_some(zero);
    }
    let base = i256::from_i128(GROUP_BASE.into());
    let missing = usize::try_from(exponent).unwrap_or(0);
    let groups = groups.into_iter().chain(std::iter::repeat_n(0, missing));
    let digits =
        groups.fold(i256::ZERO, |digits, group| digits.wrapping_mul(base).wrapping_add(i256::from_i128(group.into())));
    let scale = exponent.min(0).unsigned_abs() * GROUP_DIGITS;
    Some(Decimal { digits: if negative { digits.wrapping_neg() } else { digits }, scale, has_more })
}

/// Whether a numeric that [`decode`] cannot read is above all that it can: a large one, an infinity, or NaN, which Postgres
/// sorts last. Else it is below them.
pub(crate) fn is_above_all(bytes: &[u8]) -> bool {
    let header = bytes.first_chunk().map_or(0, |header| u16::from_ne_bytes(*header));
    match header & KIND_MASK {
        KIND_POSITIVE => true,
        KIND_NEGATIVE => false,
        KIND_SHORT => header & SHORT_NEGATIVE == 0,
        _ => header & SPECIAL_MASK != SPECIAL_NEGATIVE_INFINITY,
    }
}

/// A number among the multiples of a power of ten.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Floor {
    /// The greatest multiple that is not above it, as an integer, and whether it is equal.
    At(i128, bool),
    /// It is above all that a column can have.
    Above,
    /// It is below.
    Below,
}

impl Decimal {
    /// Its place among the multiples of `10^-scale`, of a scale that a column can have.
    pub(crate) fn floor_at(self, scale: u32) -> Floor {
        let is_negative = self.digits < i256::ZERO;
        let beyond = if is_negative { Floor::Below } else { Floor::Above };
        let power = |exponent: u32| i256::from_i128(10).checked_pow(exponent);
        let found = if scale >= self.scale {
            // With more digits than these, those before the point alone are too many.
            let factor = power(scale - self.scale).filter(|_| !self.has_more);
            factor.and_then(|factor| self.digits.checked_mul(factor)).map(|digits| (digits, true))
        } else {
            // What is divided by more than it can be is between zero and the next multiple.
            let divisor = power(self.scale - scale).unwrap_or(i256::MAX);
            let (quotient, rest) = (self.digits.wrapping_div(divisor), self.digits.wrapping_rem(divisor));
            let is_equal = rest == i256::ZERO && !self.has_more;
            let floor = if is_negative && !is_equal { quotient.wrapping_sub(i256::ONE) } else { quotient };
            Some((floor, is_equal))
        };
        match found.and_then(|(floor, is_equal)| Some((floor.to_i128()?, is_equal))) {
            Some((floor, is_equal)) => Floor::At(floor, is_equal),
            None => beyond,
        }
    }
}
