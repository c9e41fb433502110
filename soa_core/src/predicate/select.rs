//! Evaluating a predicate on rows.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray,
};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{and_kleene, is_null, not, or_kleene};
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};

use hashbrown::HashSet;

use super::{CompareOp, Predicate, Scalar, compare_floats};
use crate::error::{Error, Result};

/// So many constants of an `IN` are compared faster one by one than looked up by hash.
const COMPARED_CONSTANTS_MAX: usize = 16;

/// An operator on two columns of three-valued results.
type KleeneOp = fn(&BooleanArray, &BooleanArray) -> Result<BooleanArray, arrow::error::ArrowError>;

impl Predicate {
    /// Which rows of `batch` match: true where the predicate is true, false where it is false or NULL.
    ///
    /// `position` gives the place in `batch` of a column of the table.
    ///
    /// # Errors
    ///
    /// When a column is not in the batch or of a type that its constant cannot be compared with.
    pub fn select(&self, batch: &RecordBatch, position: &dyn Fn(usize) -> Option<usize>) -> Result<BooleanArray> {
        let result = self.evaluate(batch, position)?;
        Ok(match result.nulls() {
            None => result,
            Some(nulls) => BooleanArray::new(result.values() & nulls.inner(), None),
        })
    }

    /// The predicate's three-valued result for each row.
    fn evaluate(&self, batch: &RecordBatch, position: &dyn Fn(usize) -> Option<usize>) -> Result<BooleanArray> {
        let column = |index: usize| -> Result<&ArrayRef> {
            position(index)
                .and_then(|at| batch.columns().get(at))
                .ok_or_else(|| Error::argument(format!("the predicate's column {index} is not among those read")))
        };
        let combine = |parts: &[Self], empty: bool, op: KleeneOp| -> Result<BooleanArray> {
            let mut result: Option<BooleanArray> = None;
            for part in parts {
                let next = part.evaluate(batch, position)?;
                result = Some(match result {
                    None => next,
                    Some(so_far) => op(&so_far, &next).map_err(Error::arrow("cannot combine conditions"))?,
                });
            }
            Ok(result.unwrap_or_else(|| all(empty, batch.num_rows())))
        };
        match self {
            Self::And(parts) => combine(parts, true, and_kleene),
            Self::Or(parts) => combine(parts, false, or_kleene),
            Self::Not(part) => not(&part.evaluate(batch, position)?).map_err(Error::arrow("cannot negate a condition")),
            Self::IsNull(index) => is_null(column(*index)?).map_err(Error::arrow("cannot look for NULL")),
            Self::Compare { column: index, op, value } => test(column(*index)?, &Test::Compare(*op, value)),
            Self::In { values, .. } if values.is_empty() => Ok(all(false, batch.num_rows())),
            Self::In { column: index, values } => test(column(*index)?, &Test::In(values)),
            Self::StartsWith { column: index, prefix } => test(column(*index)?, &Test::StartsWith(prefix)),
        }
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
fn test(array: &ArrayRef, test: &Test<'_>) -> Result<BooleanArray> {
    let result = match array.data_type() {
        ArrowType::Boolean => bools(array.as_boolean(), test),
        ArrowType::Int8 => ints::<Int8Type>(array, test),
        ArrowType::Int16 => ints::<Int16Type>(array, test),
        ArrowType::Int32 => ints::<Int32Type>(array, test),
        ArrowType::Int64 => ints::<Int64Type>(array, test),
        ArrowType::UInt8 => ints::<UInt8Type>(array, test),
        ArrowType::UInt16 => ints::<UInt16Type>(array, test),
        ArrowType::UInt32 => ints::<UInt32Type>(array, test),
        ArrowType::UInt64 => ints::<UInt64Type>(array, test),
        ArrowType::Date32 => ints::<Date32Type>(array, test),
        ArrowType::Timestamp(TimeUnit::Microsecond, _) => ints::<TimestampMicrosecondType>(array, test),
        ArrowType::Time64(TimeUnit::Microsecond) => ints::<Time64MicrosecondType>(array, test),
        ArrowType::Duration(TimeUnit::Microsecond) => ints::<DurationMicrosecondType>(array, test),
        ArrowType::Decimal128(_, _) => ints::<Decimal128Type>(array, test),
        ArrowType::Float32 => floats(array.as_primitive::<Float32Type>(), test, f64::from),
        ArrowType::Float64 => floats(array.as_primitive::<Float64Type>(), test, |value| value),
        ArrowType::Utf8View => test.text().map(|matches| {
            let array = array.as_string_view();
            collect(array.len(), array.nulls(), |i| array.is_valid(i) && matches(array.value(i)))
        }),
        ArrowType::BinaryView => test.bytes().map(|matches| {
            let array = array.as_binary_view();
            collect(array.len(), array.nulls(), |i| array.is_valid(i) && matches(array.value(i)))
        }),
        ArrowType::FixedSizeBinary(_) => test.bytes().map(|matches| {
            let array = array.as_fixed_size_binary();
            collect(array.len(), array.nulls(), |i| array.is_valid(i) && matches(array.value(i)))
        }),
        ArrowType::Dictionary(_, _) => variants(array, test),
        _ => None,
    };
    result.ok_or_else(|| {
        Error::argument(format!(
            "a column of Arrow type {} cannot be compared with the constant given",
            array.data_type()
        ))
    })
}

fn collect(len: usize, nulls: Option<&arrow::buffer::NullBuffer>, matches: impl FnMut(usize) -> bool) -> BooleanArray {
    BooleanArray::new(BooleanBuffer::collect_bool(len, matches), nulls.cloned())
}

fn bools(array: &BooleanArray, test: &Test<'_>) -> Option<BooleanArray> {
    let [when_false, when_true] = match test {
        Test::Compare(op, Scalar::Bool(value)) => [op.holds(false.cmp(value)), op.holds(true.cmp(value))],
        Test::In(values) => [values.contains(&Scalar::Bool(false)), values.contains(&Scalar::Bool(true))],
        Test::Compare(..) | Test::StartsWith(_) => return None,
    };
    let values = array.values();
    Some(collect(array.len(), array.nulls(), |i| if values.value(i) { when_true } else { when_false }))
}

fn ints<T>(array: &ArrayRef, test: &Test<'_>) -> Option<BooleanArray>
where
    T: ArrowPrimitiveType,
    T::Native: Copy + Ord + std::hash::Hash + TryFrom<i128> + Into<i128>,
{
    let array: &PrimitiveArray<T> = array.as_primitive();
    let values = array.values();
    let result = match test {
        Test::Compare(op, Scalar::Int(constant)) => match T::Native::try_from(*constant) {
            Ok(constant) => match op {
                CompareOp::Eq => collect(array.len(), array.nulls(), |i| values[i] == constant),
                CompareOp::NotEq => collect(array.len(), array.nulls(), |i| values[i] != constant),
                CompareOp::Lt => collect(array.len(), array.nulls(), |i| values[i] < constant),
                CompareOp::LtEq => collect(array.len(), array.nulls(), |i| values[i] <= constant),
                CompareOp::Gt => collect(array.len(), array.nulls(), |i| values[i] > constant),
                CompareOp::GtEq => collect(array.len(), array.nulls(), |i| values[i] >= constant),
            },
            // A constant outside the type's range is on the same side of every value.
            Err(_) => {
                let holds = op.holds(0.cmp(constant));
                collect(array.len(), array.nulls(), |_| holds)
            }
        },
        Test::In(constants) => {
            let mut set = HashSet::with_capacity(constants.len());
            for constant in *constants {
                let Scalar::Int(constant) = constant else { return None };
                set.extend(T::Native::try_from(*constant).ok());
            }
            let few: Vec<T::Native> = set.iter().copied().collect();
            if few.len() <= COMPARED_CONSTANTS_MAX {
                // One pass a constant, which the compiler turns into vector instructions.
                let mut found = BooleanBuffer::new_unset(array.len());
                for constant in few {
                    found = &found | &BooleanBuffer::collect_bool(array.len(), |i| values[i] == constant);
                }
                BooleanArray::new(found, array.nulls().cloned())
            } else {
                collect(array.len(), array.nulls(), |i| set.contains(&values[i]))
            }
        }
        Test::Compare(..) | Test::StartsWith(_) => return None,
    };
    Some(result)
}

fn floats<T: ArrowPrimitiveType>(
    array: &PrimitiveArray<T>,
    test: &Test<'_>,
    widen: impl Fn(T::Native) -> f64,
) -> Option<BooleanArray> {
    let values = array.values();
    // A loop for each operator, which the compiler turns into vector instructions. NaN equals NaN and is above all.
    macro_rules! each {
        (|$value:ident| $matches:expr) => {
            collect(array.len(), array.nulls(), |i| {
                let $value = widen(values[i]);
                $matches
            })
        };
    }
    match test {
        Test::Compare(op, Scalar::Float(constant)) if constant.is_nan() => Some(match op {
            CompareOp::Eq | CompareOp::GtEq => each!(|value| value.is_nan()),
            CompareOp::NotEq | CompareOp::Lt => each!(|value| !value.is_nan()),
            CompareOp::LtEq => collect(array.len(), array.nulls(), |_| true),
            CompareOp::Gt => collect(array.len(), array.nulls(), |_| false),
        }),
        Test::Compare(op, Scalar::Float(constant)) => {
            let constant = *constant;
            Some(match op {
                CompareOp::Eq => each!(|value| value == constant),
                CompareOp::NotEq => each!(|value| value != constant),
                CompareOp::Lt => each!(|value| value < constant),
                CompareOp::LtEq => each!(|value| value <= constant),
                CompareOp::Gt => each!(|value| value > constant || value.is_nan()),
                CompareOp::GtEq => each!(|value| value >= constant || value.is_nan()),
            })
        }
        Test::In(constants) => {
            let constants: Vec<f64> = constants
                .iter()
                .map(|c| if let Scalar::Float(c) = c { Some(*c) } else { None })
                .collect::<Option<_>>()?;
            Some(collect(array.len(), array.nulls(), |i| {
                constants.iter().any(|constant| compare_floats(widen(values[i]), *constant).is_eq())
            }))
        }
        Test::Compare(..) | Test::StartsWith(_) => None,
    }
}

/// Tests each name of an enum's dictionary once, then looks the rows' answers up.
fn variants(array: &ArrayRef, test: &Test<'_>) -> Option<BooleanArray> {
    let dictionary = array.as_dictionary_opt::<UInt8Type>()?;
    let names: &StringArray = dictionary.values().as_string_opt()?;
    let matches = test.text()?;
    let mut answers = [false; 256];
    for (answer, name) in answers.iter_mut().zip(names.iter()) {
        *answer = name.is_some_and(&matches);
    }
    let keys = dictionary.keys().values();
    Some(collect(dictionary.len(), dictionary.nulls(), |i| answers[usize::from(keys[i])]))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float32Array, Float64Array, Int8Array, StringViewArray, UInt64Array};

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

    #[test]
    fn a_constant_of_another_kind_is_refused() {
        let batch = RecordBatch::try_from_iter([("c", Arc::new(Int8Array::from(vec![1])) as ArrayRef)]).unwrap();
        let wrong = Predicate::eq(0, Scalar::Utf8("1".into()));
        assert!(wrong.select(&batch, &|column| Some(column)).is_err());
        assert!(Predicate::eq(7, Scalar::Int(1)).select(&batch, &|_| None).is_err());
    }
}
