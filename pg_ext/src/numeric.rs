//! Postgres' `numeric` as bytes.
//!
//! Postgres offers no way to make a numeric from an integer and a scale without a call and an allocation per value, so
//! the format is written here. It is the one of tables on disk, which `pg_upgrade` keeps from release to release
//! (`src/backend/utils/adt/numeric.c`, "NumericShort" and "NumericLong"): a header of 16 bits with the sign, the digits
//! after the point and the weight of the first digit group, then groups of four decimal digits, 16 bits each, in native
//! byte order, without zero groups at either end.

use std::ops::RangeInclusive;

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

/// The most digits after the point that the long header can say.
const LONG_SCALE_MAX: u16 = 0x3FFF;

/// Decimal digits of a group, and how many values they have.
const GROUP_DIGITS: u32 = 4;
const GROUP_BASE: u64 = 10_000;
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

/// A finite numeric: `digits / 10^scale`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Decimal {
    /// The digits as one integer.
    pub(crate) digits: i128,
    /// How many of them are after the point.
    pub(crate) scale: u32,
}

/// Reads the bytes of a numeric (without the header of a variable-length value).
///
/// `None` for NaN, for infinities and for what an i128 cannot hold.
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
    let groups: Vec<u16> = words.collect();
    let mut digits: i128 = 0;
    for group in &groups {
        digits = digits.checked_mul(i128::from(GROUP_BASE))?.checked_add(i128::from(*group))?;
    }
    // The value is digits * 10000^(weight - (groups - 1)).
    let exponent = weight - (groups.len() as i32 - 1);
    let mut scale = 0;
    match exponent {
        _ if digits == 0 => {}
        0.. => digits = digits.checked_mul(10i128.checked_pow(exponent.unsigned_abs() * GROUP_DIGITS)?)?,
        ..0 => scale = exponent.unsigned_abs() * GROUP_DIGITS,
    }
    Some(Decimal { digits: if negative { -digits } else { digits }, scale })
}

impl Decimal {
    /// The greatest multiple of `10^-scale` that is not above this, as an integer, and whether it is equal.
    pub(crate) fn floor_at(self, scale: u32) -> Option<(i128, bool)> {
        if scale >= self.scale {
            let factor = 10i128.checked_pow(scale - self.scale)?;
            return Some((self.digits.checked_mul(factor)?, true));
        }
        let divisor = 10i128.checked_pow(self.scale - scale)?;
        Some((self.digits.div_euclid(divisor), self.digits.rem_euclid(divisor) == 0))
    }
}
