//! Evaluating a predicate on rows.

use std::ops::Range;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, GenericByteViewArray, PrimitiveArray, RecordBatch,
    StringArray, make_view,
};
use arrow::buffer::{BooleanBuffer, Buffer, NullBuffer};
use arrow::compute::{and_kleene, is_null, not, or_kleene};
use arrow::datatypes::{
    BinaryViewType, ByteViewType, DataType as ArrowType, Date32Type, Decimal32Type, Decimal64Type, Decimal128Type,
    DurationMicrosecondType, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type, Int64Type, StringViewType,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};

use hashbrown::HashSet;

use super::{CompareOp, Predicate, Scalar, compare_floats};
use crate::error::{Error, Result};

/// So many constants of an `IN` are compared faster one by one than looked up by hash.
const COMPARED_CONSTANTS_MAX: usize = 16;

/// The rows whose results are made together.
const WORD_ROWS: usize = u64::BITS as usize;

/// Of 64 rows so many are tested one by one; more of them are tested together with those between them.
const SPARSE_ROWS_MAX: u32 = 16;

/// The most bytes that are in a view itself.
const INLINE_BYTES_MAX: usize = 12;

/// The bytes of every text that are in its view, however long it is.
const HEAD_BYTES: usize = 4;

/// The most digits of decimals whose low 64 bits say it all.
const DIGITS_IN_64_BITS: u8 = 18;

/// The rows whose results are wanted; `None`: all. Those of the others may be anything.
type Wanted<'a> = Option<&'a BooleanBuffer>;

impl Predicate {
    /// Which rows of `batch` match: true where the predicate is true, false where it is false or NULL.
    ///
    /// `position` gives the place in `batch` of a column of the table.
    ///
    /// # Errors
    ///
    /// When a column is not in the batch or of a type that its constant cannot be compared with.
    pub fn select(&self, batch: &RecordBatch, position: &dyn Fn(usize) -> Option<usize>) -> Result<BooleanArray> {
        let result = self.evaluate(batch, position, None)?;
        Ok(match result.nulls() {
            None => result,
            Some(nulls) => BooleanArray::new(result.values() & nulls.inner(), None),
        })
    }

    /// The predicate's three-valued result for each row.
    fn evaluate(
        &self,
        batch: &RecordBatch,
        position: &dyn Fn(usize) -> Option<usize>,
        wanted: Wanted<'_>,
    ) -> Result<BooleanArray> {
        let column = |index: usize| -> Result<&ArrayRef> {
            position(index)
                .and_then(|at| batch.columns().get(at))
                .ok_or_else(|| Error::argument(format!("the predicate's column {index} is not among those read")))
        };
        match self {
            Self::And(parts) => Self::combine(parts, false, batch, position, wanted),
            Self::Or(parts) => Self::combine(parts, true, batch, position, wanted),
            Self::Not(part) => {
                not(&part.evaluate(batch, position, wanted)?).map_err(Error::arrow("cannot negate a condition"))
            }
            Self::IsNull(index) => is_null(column(*index)?).map_err(Error::arrow("cannot look for NULL")),
            Self::Compare { column: index, op, value } => test(column(*index)?, &Test::Compare(*op, value), wanted),
            Self::In { values, .. } if values.is_empty() => Ok(all(false, batch.num_rows())),
            Self::In { column: index, values } => test(column(*index)?, &Test::In(values), wanted),
            Self::StartsWith { column: index, prefix } => test(column(*index)?, &Test::StartsWith(prefix), wanted),
        }
    }

    /// The parts joined by OR, of which one that is true decides, or by AND, of which one that is false does. Each part is
    /// asked for the rows that those before it have left open.
    fn combine(
        parts: &[Self],
        deciding: bool,
        batch: &RecordBatch,
        position: &dyn Fn(usize) -> Option<usize>,
        wanted: Wanted<'_>,
    ) -> Result<BooleanArray> {
        let Some((first, others)) = parts.split_first() else { return Ok(all(!deciding, batch.num_rows())) };
        let op = if deciding { or_kleene } else { and_kleene };
        let mut result = first.evaluate(batch, position, wanted)?;
        for part in others {
            let decided = match deciding {
                true => result.values().clone(),
                false => !result.values(),
            };
            let open = match result.nulls() {
                None => !&decided,
                Some(nulls) => !&(&decided & nulls.inner()),
            };
            let open = wanted.map_or_else(|| open.clone(), |wanted| &open & wanted);
            if !open.has_true() {
                break;
            }
            let next = part.evaluate(batch, position, Some(&open))?;
            result = op(&result, &next).map_err(Error::arrow("cannot combine conditions"))?;
        }
        Ok(result)
    }
}

fn all(value: bool, len: usize) -> BooleanArray {
    let values = if value { BooleanBuffer::new_set(len) } else { BooleanBuffer::new_unset(len) };
    BooleanArray::new(values, None)
}

/// Whether a value matches.
type Matcher<'a, T> = Box<dyn Fn(&T) -> bool + 'a>;

/// A condition on one value.
enum Test<'a> {
    Compare(CompareOp, &'a Scalar),
    In(&'a [Scalar]),
    StartsWith(&'a str),
}

impl Test<'_> {
    fn text(&self) -> Option<Matcher<'_, str>> {
        match self {
            Self::Compare(op, Scalar::Utf8(value)) => {
                Some(Box::new(move |text| op.holds(text.as_bytes().cmp(value.as_bytes()))))
            }
            Self::Compare(..) => None,
            Self::In(values) => {
                let set: HashSet<&str> = values
                    .iter()
                    .map(|v| if let Scalar::Utf8(v) = v { Some(v.as_str()) } else { None })
                    .collect::<Option<_>>()?;
                Some(Box::new(move |text| set.contains(text)))
            }
            Self::StartsWith(prefix) => Some(Box::new(move |text| text.starts_with(prefix))),
        }
    }

    fn bytes(&self) -> Option<Matcher<'_, [u8]>> {
        match self {
            Self::Compare(op, Scalar::Binary(value)) => Some(Box::new(move |bytes| op.holds(bytes.cmp(value)))),
            Self::In(values) => {
                let set: HashSet<&[u8]> = values
                    .iter()
                    .map(|v| if let Scalar::Binary(v) = v { Some(v.as_slice()) } else { None })
                    .collect::<Option<_>>()?;
                Some(Box::new(move |bytes| set.contains(bytes)))
            }
            Self::Compare(..) | Self::StartsWith(_) => None,
        }
    }
}

/// The test's result for each value of a column; NULL where the value is.
fn test(array: &ArrayRef, test: &Test<'_>, wanted: Wanted<'_>) -> Result<BooleanArray> {
    let result = match array.data_type() {
        ArrowType::Boolean => bools(array.as_boolean(), test, wanted),
        ArrowType::Int8 => ints::<Int8Type>(array, test, wanted),
        ArrowType::Int16 => ints::<Int16Type>(array, test, wanted),
        ArrowType::Int32 => ints::<Int32Type>(array, test, wanted),
        ArrowType::Int64 => ints::<Int64Type>(array, test, wanted),
        ArrowType::UInt8 => ints::<UInt8Type>(array, test, wanted),
        ArrowType::UInt16 => ints::<UInt16Type>(array, test, wanted),
        ArrowType::UInt32 => ints::<UInt32Type>(array, test, wanted),
        ArrowType::UInt64 => ints::<UInt64Type>(array, test, wanted),
        ArrowType::Date32 => ints::<Date32Type>(array, test, wanted),
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => ints::<TimestampMicrosecondType>(array, test, wanted),
        ArrowType::Time64(TimeUnit::Microsecond) => ints::<Time64MicrosecondType>(array, test, wanted),
        ArrowType::Duration(TimeUnit::Microsecond) => ints::<DurationMicrosecondType>(array, test, wanted),
        ArrowType::Decimal32(_, _) => ints::<Decimal32Type>(array, test, wanted),
        ArrowType::Decimal64(_, _) => ints::<Decimal64Type>(array, test, wanted),
        ArrowType::Decimal128(precision, _) if *precision <= DIGITS_IN_64_BITS => {
            whole_numbers(array.as_primitive::<Decimal128Type>(), test, wanted, |value| value as i64)
        }
        ArrowType::Decimal128(_, _) => ints::<Decimal128Type>(array, test, wanted),
        ArrowType::Float32 => floats(array.as_primitive::<Float32Type>(), test, wanted, f64::from),
        ArrowType::Float64 => floats(array.as_primitive::<Float64Type>(), test, wanted, |value| value),
        ArrowType::Utf8View => views::<StringViewType>(array.as_string_view(), test, wanted),
        ArrowType::BinaryView => views::<BinaryViewType>(array.as_binary_view(), test, wanted),
        ArrowType::FixedSizeBinary(_) => test.bytes().map(|matches| {
            let array = array.as_fixed_size_binary();
            collect(array.len(), array.nulls(), wanted, |i| array.is_valid(i) && matches(array.value(i)))
        }),
        ArrowType::Dictionary(_, _) => variants(array, test, wanted),
        _ => None,
    };
    result.ok_or_else(|| {
        Error::argument(format!(
            "a column of Arrow type {} cannot be compared with the constant given",
            array.data_type()
        ))
    })
}

fn collect(
    len: usize,
    nulls: Option<&NullBuffer>,
    wanted: Wanted<'_>,
    matches: impl FnMut(usize) -> bool,
) -> BooleanArray {
    BooleanArray::new(bits(len, wanted, matches), nulls.cloned())
}

/// A bit for each row: whether it matches.
fn bits(len: usize, wanted: Wanted<'_>, mut matches: impl FnMut(usize) -> bool) -> BooleanBuffer {
    words(len, wanted, |rows, asked| tested(asked, rows.len(), |bit| matches(rows.start + bit)))
}

/// A bit for each value: whether it matches.
fn each<S: Copy>(values: &[S], wanted: Wanted<'_>, matches: impl Fn(S) -> bool) -> BooleanBuffer {
    words(values.len(), wanted, |rows, asked| {
        let values = &values[rows];
        match <&[S; WORD_ROWS]>::try_from(values) {
            // As was measured: the compiler compares several of them at once, but for those of 8 bytes.
            Ok(values) if size_of::<S>() != size_of::<u64>() && asked.count_ones() > SPARSE_ROWS_MAX => {
                packed(values.map(|value| u8::from(matches(value))))
            }
            Ok(values) => tested(asked, WORD_ROWS, |bit| matches(values[bit])),
            Err(_) => tested(asked, values.len(), |bit| matches(values[bit])),
        }
    })
}

/// Bits of `len` rows, of which `word` gives those of up to 64 at a time; it is told which of them are asked for.
fn words(len: usize, wanted: Wanted<'_>, mut word: impl FnMut(Range<usize>, u64) -> u64) -> BooleanBuffer {
    let rows = |index: usize| index * WORD_ROWS..len.min((index + 1) * WORD_ROWS);
    let count = len.div_ceil(WORD_ROWS);
    let words: Vec<u64> = match wanted {
        None => (0..count).map(|index| word(rows(index), u64::MAX)).collect(),
        Some(wanted) => {
            let asked = wanted.bit_chunks().iter_padded().take(count).enumerate();
            asked.map(|(index, asked)| word(rows(index), asked)).collect()
        }
    };
    BooleanBuffer::new(Buffer::from_vec(words), 0, len)
}

/// The results of up to 64 rows.
fn tested(asked: u64, rows: usize, mut matches: impl FnMut(usize) -> bool) -> u64 {
    let mut found = 0;
    if asked.count_ones() <= SPARSE_ROWS_MAX {
        let mut rest = asked;
        while rest != 0 {
            let bit = rest.trailing_zeros();
            found |= u64::from(matches(bit as usize)) << bit;
            rest &= rest - 1;
        }
    } else {
        for bit in 0..rows {
            found |= u64::from(matches(bit)) << bit;
        }
    }
    found
}

/// The lowest bits of 64 bytes. Of eight at a time a multiplication brings them together in the highest byte.
fn packed(bytes: [u8; WORD_ROWS]) -> u64 {
    const TOGETHER: u64 = 0x0102_0408_1020_4080;
    let (eights, _) = bytes.as_chunks::<8>();
    let packed = eights.iter().map(|eight| u64::from_le_bytes(*eight).wrapping_mul(TOGETHER) >> 56);
    packed.rev().fold(0, |word, eight| word << 8 | eight)
}

fn bytes_of(scalar: &Scalar, is_text: bool) -> Option<&[u8]> {
    match scalar {
        Scalar::Utf8(text) if is_text => Some(text.as_bytes()),
        Scalar::Binary(bytes) if !is_text => Some(bytes.as_slice()),
        _ => None,
    }
}

/// Texts, or bytes. What a view holds of a text is compared first: its length and its beginning, or all of it.
fn views<T: ByteViewType>(
    array: &GenericByteViewArray<T>,
    test: &Test<'_>,
    wanted: Wanted<'_>,
) -> Option<BooleanArray> {
    let is_text = T::DATA_TYPE == ArrowType::Utf8View;
    let (len, nulls) = (array.len(), array.nulls());
    let views: &[u128] = array.views();
    // Behind a NULL there may be anything.
    let value = |i: usize| array.is_valid(i).then(|| AsRef::<[u8]>::as_ref(array.value(i)));
    let equal = |wanted: Wanted<'_>, constant: &[u8]| {
        let view = make_view(constant, 0, 0);
        if constant.len() <= INLINE_BYTES_MAX {
            return each(views, wanted, |found| found == view);
        }
        bits(len, wanted, |i| views[i] as u64 == view as u64 && value(i) == Some(constant))
    };
    let found = match test {
        Test::Compare(op, scalar) => {
            let constant = bytes_of(scalar, is_text)?;
            match op {
                CompareOp::Eq => equal(wanted, constant),
                CompareOp::NotEq => !&equal(wanted, constant),
                _ => bits(len, wanted, |i| value(i).is_some_and(|value| op.holds(value.cmp(constant)))),
            }
        }
        Test::In(scalars) => {
            let constants = scalars.iter().map(|scalar| bytes_of(scalar, is_text));
            let constants: HashSet<&[u8]> = constants.collect::<Option<_>>()?;
            if constants.len() <= COMPARED_CONSTANTS_MAX {
                let none = BooleanBuffer::new_unset(len);
                constants.iter().fold(none, |found, constant| &found | &equal(wanted, constant))
            } else {
                bits(len, wanted, |i| value(i).is_some_and(|value| constants.contains(value)))
            }
        }
        Test::StartsWith(prefix) if is_text => {
            let prefix = prefix.as_bytes();
            let head = &prefix[..prefix.len().min(HEAD_BYTES)];
            // Behind the length, which is in the low half of the low half.
            let mask = ((1_u64 << (8 * head.len())) - 1) << u32::BITS;
            let begins = make_view(head, 0, 0) as u64 & mask;
            let has_head = |view: u128| view as u64 & mask == begins && view as u32 as usize >= head.len();
            let begins = |i| value(i).is_some_and(|value| value.starts_with(prefix));
            match prefix.len() <= HEAD_BYTES {
                true => each(views, wanted, has_head),
                false => bits(len, wanted, |i| has_head(views[i]) && begins(i)),
            }
        }
        Test::StartsWith(_) => return None,
    };
    Some(BooleanArray::new(found, nulls.cloned()))
}

fn bools(array: &BooleanArray, test: &Test<'_>, wanted: Wanted<'_>) -> Option<BooleanArray> {
    let [when_false, when_true] = match test {
        Test::Compare(op, Scalar::Bool(value)) => [op.holds(false.cmp(value)), op.holds(true.cmp(value))],
        Test::In(values) => [values.contains(&Scalar::Bool(false)), values.contains(&Scalar::Bool(true))],
        Test::Compare(..) | Test::StartsWith(_) => return None,
    };
    let values = array.values();
    Some(collect(array.len(), array.nulls(), wanted, |i| if values.value(i) { when_true } else { when_false }))
}

fn ints<T>(array: &ArrayRef, test: &Test<'_>, wanted: Wanted<'_>) -> Option<BooleanArray>
where
    T: ArrowPrimitiveType,
    T::Native: Copy + Ord + std::hash::Hash + TryFrom<i128>,
{
    whole_numbers(array.as_primitive::<T>(), test, wanted, |value| value)
}

/// Integers, or what is compared as they are: `read` makes one of a value.
fn whole_numbers<T: ArrowPrimitiveType, N>(
    array: &PrimitiveArray<T>,
    test: &Test<'_>,
    wanted: Wanted<'_>,
    read: impl Fn(T::Native) -> N + Copy,
) -> Option<BooleanArray>
where
    N: Copy + Ord + std::hash::Hash + TryFrom<i128>,
{
    let values: &[T::Native] = array.values();
    let found = match test {
        Test::Compare(op, Scalar::Int(constant)) => match N::try_from(*constant) {
            Ok(constant) => match op {
                CompareOp::Eq => each(values, wanted, |value| read(value) == constant),
                CompareOp::NotEq => each(values, wanted, |value| read(value) != constant),
                CompareOp::Lt => each(values, wanted, |value| read(value) < constant),
                CompareOp::LtEq => each(values, wanted, |value| read(value) <= constant),
                CompareOp::Gt => each(values, wanted, |value| read(value) > constant),
                CompareOp::GtEq => each(values, wanted, |value| read(value) >= constant),
            },
            // A constant outside the type's range is on the same side of every value.
            Err(_) => all(op.holds(0.cmp(constant)), values.len()).values().clone(),
        },
        Test::In(constants) => {
            let mut set = HashSet::with_capacity(constants.len());
            for constant in *constants {
                let Scalar::Int(constant) = constant else { return None };
                set.extend(N::try_from(*constant).ok());
            }
            if set.len() <= COMPARED_CONSTANTS_MAX {
                // One pass a constant, which the compiler turns into vector instructions.
                let none = BooleanBuffer::new_unset(values.len());
                set.iter()
                    .fold(none, |found, &constant| &found | &each(values, wanted, |value| read(value) == constant))
            } else {
                each(values, wanted, |value| set.contains(&read(value)))
            }
        }
        Test::Compare(..) | Test::StartsWith(_) => return None,
    };
    Some(BooleanArray::new(found, array.nulls().cloned()))
}

fn floats<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    test: &Test<'_>,
    wanted: Wanted<'_>,
    widen: impl Fn(T::Native) -> f64,
) -> Option<BooleanArray> {
    let values: &[T::Native] = array.values();
    let of = |bits| BooleanArray::new(bits, array.nulls().cloned());
    // A loop for each operator, which the compiler turns into vector instructions. NaN equals NaN and is above all.
    macro_rules! compare {
        (|$value:ident| $matches:expr) => {
            of(each(values, wanted, |value| {
                let $value = widen(value);
                $matches
            }))
        };
    }
    match test {
        Test::Compare(op, Scalar::Float(constant)) if constant.is_nan() => Some(match op {
            CompareOp::Eq | CompareOp::GtEq => compare!(|value| value.is_nan()),
            CompareOp::NotEq | CompareOp::Lt => compare!(|value| !value.is_nan()),
            CompareOp::LtEq => of(BooleanBuffer::new_set(values.len())),
            CompareOp::Gt => of(BooleanBuffer::new_unset(values.len())),
        }),
        Test::Compare(op, Scalar::Float(constant)) => {
            let constant = *constant;
            Some(match op {
                CompareOp::Eq => compare!(|value| value == constant),
                CompareOp::NotEq => compare!(|value| value != constant),
                CompareOp::Lt => compare!(|value| value < constant),
                CompareOp::LtEq => compare!(|value| value <= constant),
                CompareOp::Gt => compare!(|value| value > constant || value.is_nan()),
                CompareOp::GtEq => compare!(|value| value >= constant || value.is_nan()),
            })
        }
        Test::In(constants) => {
            let constants: Vec<f64> = constants
                .iter()
                .map(|c| if let Scalar::Float(c) = c { Some(*c) } else { None })
                .collect::<Option<_>>()?;
            Some(compare!(|value| constants.iter().any(|constant| compare_floats(value, *constant).is_eq())))
        }
        Test::Compare(..) | Test::StartsWith(_) => None,
    }
}

/// Tests each text of a dictionary once, then looks the rows' answers up.
fn variants(array: &ArrayRef, test: &Test<'_>, wanted: Wanted<'_>) -> Option<BooleanArray> {
    let dictionary = array.as_dictionary_opt::<UInt8Type>()?;
    let names: &StringArray = dictionary.values().as_string_opt()?;
    let matches = test.text()?;
    let mut answers = [false; 256];
    for (answer, name) in answers.iter_mut().zip(names.iter()) {
        *answer = name.is_some_and(&matches);
    }
    let found = each(dictionary.keys().values(), wanted, |key| answers[usize::from(key)]);
    Some(BooleanArray::new(found, dictionary.nulls().cloned()))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{
        Decimal128Array, Float32Array, Float64Array, Int8Array, Int64Array, StringViewArray, UInt64Array,
    };

    use super::*;

    fn select(array: impl Array + 'static, predicate: &Predicate) -> Vec<bool> {
        let batch = RecordBatch::try_from_iter([("c", Arc::new(array) as ArrayRef)]).unwrap();
        let result = predicate.select(&batch, &|column| Some(column)).unwrap();
        assert_eq!(result.null_count(), 0);
        result.values().iter().collect()
    }

    #[test]
    fn nulls_match_neither_a_condition_nor_its_negation() {
        let array = || Int8Array::from(vec![Some(1), None, Some(3)]);
        let one = Predicate::eq(0, Scalar::Int(1));
        assert_eq!(select(array(), &one), [true, false, false]);
        assert_eq!(select(array(), &Predicate::Not(Box::new(one.clone()))), [false, false, true]);
        assert_eq!(select(array(), &Predicate::IsNull(0)), [false, true, false]);
        let or_null = Predicate::Or(vec![one, Predicate::IsNull(0)]);
        assert_eq!(select(array(), &or_null), [true, true, false]);
    }

    #[test]
    fn constants_outside_the_range_compare_by_value() {
        let array = || Int8Array::from(vec![-128, 127]);
        assert_eq!(select(array(), &Predicate::compare(0, CompareOp::Lt, Scalar::Int(1000))), [true, true]);
        assert_eq!(select(array(), &Predicate::compare(0, CompareOp::Lt, Scalar::Int(-1000))), [false, false]);
        assert_eq!(select(array(), &Predicate::eq(0, Scalar::Int(1000))), [false, false]);
        let array = UInt64Array::from(vec![u64::MAX, 0]);
        assert_eq!(select(array, &Predicate::eq(0, Scalar::Int(i128::from(u64::MAX)))), [true, false]);
    }

    #[test]
    fn floats_follow_sql() {
        let array = || Float64Array::from(vec![-0.0, f64::NAN, f64::INFINITY]);
        assert_eq!(select(array(), &Predicate::eq(0, Scalar::Float(0.0))), [true, false, false]);
        assert_eq!(select(array(), &Predicate::eq(0, Scalar::Float(f64::NAN))), [false, true, false]);
        assert_eq!(
            select(array(), &Predicate::compare(0, CompareOp::Gt, Scalar::Float(f64::INFINITY))),
            [false, true, false]
        );
    }

    #[test]
    fn floats_compare_as_one_by_one() {
        use CompareOp::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        let values = [-1.5, -0.0, 0.0, 2.0, f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
        for constant in values {
            for op in [Eq, NotEq, Lt, LtEq, Gt, GtEq] {
                let expected: Vec<bool> =
                    values.iter().map(|value| op.holds(compare_floats(*value, constant))).collect();
                let predicate = Predicate::compare(0, op, Scalar::Float(constant));
                assert_eq!(select(Float64Array::from(values.to_vec()), &predicate), expected, "{op:?} {constant}");
                let narrow = Float32Array::from(values.map(|value| value as f32).to_vec());
                assert_eq!(select(narrow, &predicate), expected, "{op:?} {constant} as f32");
            }
        }
    }

    #[test]
    fn text_and_lists() {
        let array = || StringViewArray::from(vec!["", "ab", "abcdefghijklmnop"]);
        assert_eq!(select(array(), &Predicate::StartsWith { column: 0, prefix: "ab".into() }), [false, true, true]);
        let listed = Predicate::In { column: 0, values: vec![Scalar::Utf8("".into()), Scalar::Utf8("x".into())] };
        assert_eq!(select(array(), &listed), [true, false, false]);
    }

    /// Texts that share lengths and beginnings, around the 4 bytes and the 12 that are in a view.
    const TEXTS: [&str; 14] = [
        "",
        "a",
        "ab",
        "abc",
        "abcd",
        "abce",
        "abcde",
        "abcdefghijkl",
        "abcdefghijkm",
        "abcdefghijklm",
        "abcdefghijkln",
        "abcdxfghijklm",
        "b",
        "ä",
    ];

    #[test]
    fn texts_compare_as_one_by_one() {
        use CompareOp::{Eq, Gt, GtEq, Lt, LtEq, NotEq};
        let texts = || TEXTS.iter().map(|text| Some(*text)).chain([None]);
        let expect = |predicate: &Predicate, matches: &dyn Fn(&str) -> bool| {
            let expected: Vec<bool> = texts().map(|text| text.is_some_and(matches)).collect();
            assert_eq!(select(texts().collect::<StringViewArray>(), predicate), expected, "{predicate:?}");
        };
        for constant in TEXTS {
            let scalar = || Scalar::Utf8(constant.to_owned());
            for op in [Eq, NotEq, Lt, LtEq, Gt, GtEq] {
                expect(&Predicate::compare(0, op, scalar()), &|text| op.holds(text.cmp(constant)));
            }
            expect(&Predicate::StartsWith { column: 0, prefix: constant.into() }, &|text| text.starts_with(constant));
            for count in [1, 2, 20] {
                let listed: Vec<String> =
                    (0..count).map(|n| if n == 0 { constant.to_owned() } else { format!("{constant}{n}") }).collect();
                let values = listed.iter().cloned().map(Scalar::Utf8).collect();
                expect(&Predicate::In { column: 0, values }, &|text| listed.iter().any(|listed| listed == text));
            }
        }
    }

    /// A row is asked no further once it is decided: that changes no answer.
    #[test]
    fn conditions_of_conditions_are_those_of_all_rows() {
        const ROWS: u64 = 700;
        let random =
            |n: u64| n.wrapping_mul(0x9E37_79B9_7F4A_7C15).rotate_left(23).wrapping_mul(0xD6E8_FEB8_6659_FD93) >> 40;
        let some = |row: u64, of: u64| (random(row * 3 + of) % 5 != 0).then(|| random(row * 7 + of));
        let decimals = (0..ROWS).map(|row| some(row, 0).map(|n| i128::from(n % 100) - 50)).collect::<Decimal128Array>();
        let columns: [(&str, ArrayRef); 4] = [
            ("i", Arc::new((0..ROWS).map(|row| some(row, 1).map(|n| (n % 40) as i64)).collect::<Int64Array>())),
            ("d", Arc::new(decimals.with_precision_and_scale(15, 2).unwrap())),
            (
                "s",
                Arc::new(
                    (0..ROWS).map(|row| some(row, 2).map(|n| TEXTS[n as usize % 14])).collect::<StringViewArray>(),
                ),
            ),
            ("f", Arc::new((0..ROWS).map(|row| some(row, 3).map(|n| (n % 9) as f64)).collect::<Float64Array>())),
        ];
        let batch = RecordBatch::try_from_iter(columns).unwrap();
        let leaf = |n: u64| match n % 6 {
            0 => Predicate::compare(0, CompareOp::Lt, Scalar::Int(i128::from(random(n) % 40))),
            1 => Predicate::compare(1, CompareOp::GtEq, Scalar::Int(i128::from(random(n) % 100) - 50)),
            2 => Predicate::eq(2, Scalar::Utf8(TEXTS[random(n) as usize % 14].into())),
            3 => Predicate::compare(3, CompareOp::NotEq, Scalar::Float((random(n) % 9) as f64)),
            4 => Predicate::In {
                column: 0,
                values: (0..random(n) % 20).map(|k| Scalar::Int(i128::from(k * 3))).collect(),
            },
            _ => Predicate::IsNull(random(n) as usize % 4),
        };
        fn tree(n: u64, depth: u64, random: &dyn Fn(u64) -> u64, leaf: &dyn Fn(u64) -> Predicate) -> Predicate {
            let parts = || (0..1 + random(n) % 3).map(|part| tree(n * 5 + part + 1, depth - 1, random, leaf)).collect();
            match random(n * 11 + depth) % 4 {
                _ if depth == 0 => leaf(random(n)),
                0 => Predicate::Not(Box::new(tree(n * 5 + 1, depth - 1, random, leaf))),
                1 => Predicate::Or(parts()),
                _ => Predicate::And(parts()),
            }
        }
        /// Every part for every row.
        fn whole(predicate: &Predicate, batch: &RecordBatch) -> BooleanArray {
            let join = |parts: &[Predicate], op: fn(&BooleanArray, &BooleanArray) -> _| -> BooleanArray {
                parts
                    .iter()
                    .map(|part| whole(part, batch))
                    .reduce(|left, right| Result::expect(op(&left, &right), "as many rows"))
                    .unwrap()
            };
            match predicate {
                Predicate::And(parts) => join(parts, and_kleene),
                Predicate::Or(parts) => join(parts, or_kleene),
                Predicate::Not(part) => not(&whole(part, batch)).unwrap(),
                leaf => leaf.evaluate(batch, &|column| Some(column), None).unwrap(),
            }
        }
        let mut matching = 0;
        for n in 1..2_000 {
            let predicate = tree(n, 3, &random, &leaf);
            let expected = whole(&predicate, &batch);
            let expected: Vec<bool> = expected.iter().map(|result| result == Some(true)).collect();
            let found = predicate.select(&batch, &|column| Some(column)).unwrap();
            assert_eq!(found.values().iter().collect::<Vec<_>>(), expected, "{predicate:?}");
            matching += expected.iter().filter(|matches| **matches).count();
        }
        assert!(matching > 100_000, "{matching}");
    }

    #[test]
    fn a_constant_of_another_kind_is_refused() {
        let batch = RecordBatch::try_from_iter([("c", Arc::new(Int8Array::from(vec![1])) as ArrayRef)]).unwrap();
        let wrong = Predicate::eq(0, Scalar::Utf8("1".into()));
        assert!(wrong.select(&batch, &|column| Some(column)).is_err());
        assert!(Predicate::eq(7, Scalar::Int(1)).select(&batch, &|_| None).is_err());
    }
}
