//! Arithmetic as Postgres has it: integers and floats whose result is beyond their type are an error
//! (`src/backend/utils/adt/int.c`, `int8.c`, `float.h`), numerics have all their digits.

use std::fmt;
use std::sync::Arc;

use arrow::array::{ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::compute::{binary, try_binary, unary};
use arrow::datatypes::{DataType, Decimal128Type, Decimal256Type, Float64Type, Int64Type, i256};
use arrow::error::ArrowError;
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

use super::floats::Overflow;
use crate::query::Operation;

/// A number that its type cannot hold, in Postgres' words.
#[derive(Debug)]
pub(super) struct OutOfRange(&'static str);

impl fmt::Display for OutOfRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0)
    }
}

impl std::error::Error for OutOfRange {}

/// What a result is, and what the operands are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum Numbers {
    /// Integers of 64 bits, of which the result must fit in so many.
    Integers {
        bits: u32,
    },
    Floats,
    /// Decimals, of the same scale if they are added, that are known to fit.
    Decimals {
        precision: u8,
        scale: u8,
    },
    /// The same in 256 bits.
    WideDecimals {
        precision: u8,
        scale: u8,
    },
}

/// What comes of two numbers.
pub(super) fn call(op: Operation, numbers: Numbers, left: Expr, right: Expr) -> Expr {
    let function = Arithmetic { op, numbers, signature: Signature::any(2, Volatility::Immutable) };
    ScalarUDF::new_from_impl(function).call(vec![left, right])
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Arithmetic {
    op: Operation,
    numbers: Numbers,
    signature: Signature,
}

impl ScalarUDFImpl for Arithmetic {
    fn name(&self) -> &str {
        match self.op {
            Operation::Add => "plus",
            Operation::Subtract => "minus",
            Operation::Multiply => "times",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.numbers {
            Numbers::Integers { .. } => DataType::Int64,
            Numbers::Floats => DataType::Float64,
            Numbers::Decimals { precision, scale } => DataType::Decimal128(precision, scale.cast_signed()),
            Numbers::WideDecimals { precision, scale } => DataType::Decimal256(precision, scale.cast_signed()),
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let [left, right] = arguments.args.as_slice() else {
            return Err(DataFusionError::Internal("arithmetic has two operands".to_owned()));
        };
        let (left, right) = (Operand::of(left)?, Operand::of(right)?);
        let rows = arguments.number_rows;
        let result: ArrayRef = match self.numbers {
            Numbers::Integers { bits } => Arc::new(self.integers(&left, &right, rows, bits)?),
            Numbers::Floats => Arc::new(self.floats(&left, &right, rows)?),
            Numbers::Decimals { precision, scale } => {
                let digits = each::<Decimal128Type>(&left, &right, rows, |a: i128, b: i128| match self.op {
                    Operation::Add => a.wrapping_add(b),
                    Operation::Subtract => a.wrapping_sub(b),
                    Operation::Multiply => a.wrapping_mul(b),
                })?;
                Arc::new(digits.with_precision_and_scale(precision, scale.cast_signed())?)
            }
            Numbers::WideDecimals { precision, scale } => {
                let digits = each::<Decimal256Type>(&left, &right, rows, |a: i256, b: i256| match self.op {
                    Operation::Add => a.wrapping_add(b),
                    Operation::Subtract => a.wrapping_sub(b),
                    Operation::Multiply => a.wrapping_mul(b),
                })?;
                Arc::new(digits.with_precision_and_scale(precision, scale.cast_signed())?)
            }
        };
        Ok(ColumnarValue::Array(result))
    }
}

impl Arithmetic {
    fn integers(&self, left: &Operand, right: &Operand, rows: usize, bits: u32) -> Result<PrimitiveArray<Int64Type>> {
        let compute = |a: i64, b: i64| match self.op {
            Operation::Add => a.checked_add(b),
            Operation::Subtract => a.checked_sub(b),
            Operation::Multiply => a.checked_mul(b),
        };
        // The sign is one of the bits.
        let least = i64::MIN >> (i64::BITS - bits);
        let fits = |value: &i64| (least..=!least).contains(value);
        let (left, right) = (left.rows::<Int64Type>(rows)?, right.rows::<Int64Type>(rows)?);
        let checked = |a: i64, b: i64| compute(a, b).filter(fits).ok_or(ArrowError::ComputeError(String::new()));
        try_binary::<_, _, _, Int64Type>(&left, &right, checked).map_err(|_| {
            let message = match bits {
                16 => "smallint out of range",
                32 => "integer out of range",
                _ => "bigint out of range",
            };
            DataFusionError::External(Box::new(OutOfRange(message)))
        })
    }

    fn floats(&self, left: &Operand, right: &Operand, rows: usize) -> Result<PrimitiveArray<Float64Type>> {
        let compute = |a: f64, b: f64| match self.op {
            Operation::Add => a + b,
            Operation::Subtract => a - b,
            Operation::Multiply => a * b,
        };
        let found = each::<Float64Type>(left, right, rows, compute)?;
        let is_product = self.op == Operation::Multiply;
        if found.values().iter().any(|value| value.is_infinite() || (is_product && *value == 0.0)) {
            let (left, right) = (left.rows::<Float64Type>(rows)?, right.rows::<Float64Type>(rows)?);
            for (row, result) in found.iter().enumerate() {
                let Some(result) = result else { continue };
                let (a, b) = (left.value(row), right.value(row));
                if result.is_infinite() && !a.is_infinite() && !b.is_infinite() {
                    return Err(DataFusionError::External(Box::new(Overflow)));
                }
                if is_product && result == 0.0 && a != 0.0 && b != 0.0 {
                    return Err(DataFusionError::External(Box::new(OutOfRange("value out of range: underflow"))));
                }
            }
        }
        Ok(found)
    }
}

/// A column, or a constant, of which there is one value.
struct Operand {
    values: ArrayRef,
    is_constant: bool,
}

impl Operand {
    fn of(value: &ColumnarValue) -> Result<Self> {
        Ok(match value {
            ColumnarValue::Array(array) => Self { values: Arc::clone(array), is_constant: false },
            ColumnarValue::Scalar(scalar) => Self { values: scalar.to_array_of_size(1)?, is_constant: true },
        })
    }

    fn values<T: ArrowPrimitiveType>(&self) -> Result<&PrimitiveArray<T>> {
        let unexpected =
            || DataFusionError::Internal(format!("{} is no type of these numbers", self.values.data_type()));
        self.values.as_primitive_opt::<T>().ok_or_else(unexpected)
    }

    /// One value for each row.
    fn rows<T: ArrowPrimitiveType>(&self, rows: usize) -> Result<PrimitiveArray<T>> {
        let values = self.values::<T>()?;
        match (self.is_constant, values.iter().next().flatten()) {
            (false, _) => Ok(values.clone()),
            (true, Some(value)) => Ok(PrimitiveArray::from_value(value, rows)),
            (true, None) => Ok(PrimitiveArray::new_null(rows)),
        }
    }
}

/// What comes of the numbers of each row; NULL where one of them is.
fn each<T: ArrowPrimitiveType>(
    left: &Operand,
    right: &Operand,
    rows: usize,
    compute: impl Fn(T::Native, T::Native) -> T::Native,
) -> Result<PrimitiveArray<T>> {
    let (a, b) = (left.values::<T>()?, right.values::<T>()?);
    let constant = |values: &PrimitiveArray<T>| values.iter().next().flatten();
    Ok(match (left.is_constant, right.is_constant) {
        (false, true) => match constant(b) {
            Some(b) => unary::<_, _, T>(a, |a| compute(a, b)),
            None => PrimitiveArray::new_null(rows),
        },
        (true, false) => match constant(a) {
            Some(a) => unary::<_, _, T>(b, |b| compute(a, b)),
            None => PrimitiveArray::new_null(rows),
        },
        (false, false) => binary::<_, _, _, T>(a, b, compute)?,
        (true, true) => binary::<_, _, _, T>(&left.rows::<T>(rows)?, &right.rows::<T>(rows)?, compute)?,
    })
}
