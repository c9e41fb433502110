//! Functions of floats as Postgres has them (`src/backend/utils/adt/float.c`): where a sum overflows there is an error, and NaN
//! is above all numbers.

use std::fmt;
use std::mem::size_of_val;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::compute;
use arrow::datatypes::{DataType, Field, FieldRef, Float32Type, Float64Type, Int64Type};
use datafusion::common::{Result, ScalarValue};
use datafusion::error::DataFusionError;
use datafusion::logical_expr::function::{AccumulatorArgs, StateFieldsArgs};
use datafusion::logical_expr::{
    Accumulator, AggregateUDF, AggregateUDFImpl, ColumnarValue, Expr, GroupsAccumulator, ScalarFunctionArgs, ScalarUDF,
    ScalarUDFImpl, Signature, Volatility, lit, when,
};
use datafusion_functions_aggregate_common::aggregate::groups_accumulator::prim_op::PrimitiveGroupsAccumulator;

use crate::query::Deviation;

/// Finite numbers have an infinite sum.
#[derive(Debug)]
pub(super) struct Overflow;

impl fmt::Display for Overflow {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("value out of range: overflow")
    }
}

impl std::error::Error for Overflow {}

fn overflow() -> DataFusionError {
    DataFusionError::External(Box::new(Overflow))
}

/// `float8_pl`: a sum of which the numbers are finite and the result is not is an error.
fn plus(left: f64, right: f64) -> Result<f64> {
    let sum = left + right;
    match sum.is_infinite() && !left.is_infinite() && !right.is_infinite() {
        true => Err(overflow()),
        false => Ok(sum),
    }
}

/// `sum(float8)`.
pub(super) fn sum(values: Expr) -> Expr {
    AggregateUDF::new_from_impl(Summary::new(SummaryKind::Sum)).call(vec![values])
}

/// `var_pop(float8)` and the like.
pub(super) fn deviation(deviation: Deviation, values: Expr) -> Expr {
    AggregateUDF::new_from_impl(Summary::new(SummaryKind::Deviation(deviation))).call(vec![values])
}

/// `avg(float8)`, which also fails where the squares of which a deviation would be computed overflow.
pub(super) fn average(values: Expr) -> Expr {
    AggregateUDF::new_from_impl(Summary::new(SummaryKind::Average)).call(vec![values])
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum SummaryKind {
    Sum,
    Average,
    Deviation(Deviation),
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Summary {
    kind: SummaryKind,
    signature: Signature,
}

impl Summary {
    fn new(kind: SummaryKind) -> Self {
        Self { kind, signature: Signature::exact(vec![DataType::Float64], Volatility::Immutable) }
    }
}

impl AggregateUDFImpl for Summary {
    fn name(&self) -> &str {
        match self.kind {
            SummaryKind::Sum => "float_sum",
            SummaryKind::Average => "float_average",
            SummaryKind::Deviation(deviation) => deviation.name(),
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(State { kind: self.kind, count: 0.0, sum: 0.0, squares: 0.0 }))
    }

    fn state_fields(&self, _arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        let field = |name: &str| Arc::new(Field::new(name, DataType::Float64, false));
        Ok(vec![field("count"), field("sum"), field("squares")])
    }
}

/// How many numbers, their sum, and the sum of the squares of their differences from the average (`float8_accum`).
#[derive(Debug, Clone, Copy)]
struct State {
    kind: SummaryKind,
    count: f64,
    sum: f64,
    squares: f64,
}

impl State {
    fn add(&mut self, value: f64) -> Result<()> {
        match self.kind {
            SummaryKind::Sum => {
                self.sum = if self.count > 0.0 { plus(self.sum, value)? } else { value };
                self.count = 1.0;
            }
            SummaryKind::Average | SummaryKind::Deviation(_) => {
                let (before, sum_before) = (self.count, self.sum);
                self.count += 1.0;
                self.sum += value;
                if before > 0.0 {
                    let difference = value * self.count - self.sum;
                    self.squares += difference * difference / (self.count * before);
                    if self.sum.is_infinite() || self.squares.is_infinite() {
                        if !sum_before.is_infinite() && !value.is_infinite() {
                            return Err(overflow());
                        }
                        self.squares = f64::NAN;
                    }
                } else if !value.is_finite() {
                    self.squares = f64::NAN;
                }
            }
        }
        Ok(())
    }

    /// `float8_combine`.
    fn join(&mut self, other: Self) -> Result<()> {
        if other.count == 0.0 {
            return Ok(());
        }
        if self.count == 0.0 {
            (self.count, self.sum, self.squares) = (other.count, other.sum, other.squares);
            return Ok(());
        }
        if self.kind == SummaryKind::Sum {
            return self.add(other.sum);
        }
        let sum = plus(self.sum, other.sum)?;
        let difference = self.sum / self.count - other.sum / other.count;
        let count = self.count + other.count;
        let squares = self.squares + other.squares + self.count * other.count * difference * difference / count;
        if squares.is_infinite() && !self.squares.is_infinite() && !other.squares.is_infinite() {
            return Err(overflow());
        }
        (self.count, self.sum, self.squares) = (count, sum, squares);
        Ok(())
    }
}

impl Accumulator for State {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        values[0].as_primitive::<Float64Type>().iter().flatten().try_for_each(|value| self.add(value))
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        let is_of_sample = matches!(self.kind, SummaryKind::Deviation(Deviation { is_of_sample: true, .. }));
        let divisor = if is_of_sample { self.count - 1.0 } else { self.count };
        Ok(ScalarValue::Float64((divisor > 0.0).then(|| match self.kind {
            SummaryKind::Sum => self.sum,
            SummaryKind::Average => self.sum / divisor,
            SummaryKind::Deviation(Deviation { is_root: false, .. }) => self.squares / divisor,
            SummaryKind::Deviation(Deviation { is_root: true, .. }) => (self.squares / divisor).sqrt(),
        })))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok([self.count, self.sum, self.squares].map(|value| ScalarValue::Float64(Some(value))).to_vec())
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        let [counts, sums, squares] = [0, 1, 2].map(|part| states[part].as_primitive::<Float64Type>().values());
        for ((count, sum), squares) in counts.iter().zip(sums).zip(squares) {
            self.join(Self { kind: self.kind, count: *count, sum: *sum, squares: *squares })?;
        }
        Ok(())
    }
}

/// `sum(float8)` of numbers whose sum cannot overflow.
pub(super) fn plain_sum(values: Expr) -> Expr {
    let signature = Signature::exact(vec![DataType::Float64], Volatility::Immutable);
    AggregateUDF::new_from_impl(PlainSum { signature }).call(vec![values])
}

/// What a sum begins with: whatever is added to it, the result is that. (Zero and -0 are 0; DataFusion's sum, which begins with 0,
/// makes 0 of nothing but -0.)
const NO_SUM: f64 = -0.0;

#[derive(Debug, PartialEq, Eq, Hash)]
struct PlainSum {
    signature: Signature,
}

impl AggregateUDFImpl for PlainSum {
    fn name(&self) -> &str {
        "plain_float_sum"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Float64)
    }

    fn accumulator(&self, _arguments: AccumulatorArgs<'_>) -> Result<Box<dyn Accumulator>> {
        Ok(Box::new(PlainState(None)))
    }

    fn state_fields(&self, _arguments: StateFieldsArgs<'_>) -> Result<Vec<FieldRef>> {
        Ok(vec![Arc::new(Field::new("sum", DataType::Float64, true))])
    }

    fn groups_accumulator_supported(&self, _arguments: AccumulatorArgs<'_>) -> bool {
        true
    }

    fn create_groups_accumulator(&self, _arguments: AccumulatorArgs<'_>) -> Result<Box<dyn GroupsAccumulator>> {
        let add = |sum: &mut f64, value: f64| *sum += value;
        let sums = PrimitiveGroupsAccumulator::<Float64Type, _>::new(&DataType::Float64, add);
        Ok(Box::new(sums.with_starting_value(NO_SUM)))
    }
}

/// The sum; `None` if there are no numbers.
#[derive(Debug)]
struct PlainState(Option<f64>);

impl Accumulator for PlainState {
    fn update_batch(&mut self, values: &[ArrayRef]) -> Result<()> {
        let values = values[0].as_primitive::<Float64Type>();
        let Some(sum) = compute::sum(values) else { return Ok(()) };
        // The kernel begins with 0.
        let is_negative_zero = |value: f64| value == 0.0 && value.is_sign_negative();
        let sum = if sum == 0.0 && values.iter().flatten().all(is_negative_zero) { NO_SUM } else { sum };
        *self.0.get_or_insert(NO_SUM) += sum;
        Ok(())
    }

    fn evaluate(&mut self) -> Result<ScalarValue> {
        Ok(ScalarValue::Float64(self.0))
    }

    fn size(&self) -> usize {
        size_of_val(self)
    }

    fn state(&mut self) -> Result<Vec<ScalarValue>> {
        Ok(vec![ScalarValue::Float64(self.0)])
    }

    fn merge_batch(&mut self, states: &[ArrayRef]) -> Result<()> {
        self.update_batch(states)
    }
}

/// Integers in the order that Postgres has floats in, NaN last. (DataFusion's `min` and `max` of groups lose infinities.)
pub(super) fn ranks(values: Expr) -> Expr {
    Ranks { has_one_zero: false, signature: Signature::any(1, Volatility::Immutable) }.call(values)
}

/// The same, but zero and -0 have one rank, as they are equal.
pub(super) fn sorted_ranks(values: Expr) -> Expr {
    Ranks { has_one_zero: true, signature: Signature::any(1, Volatility::Immutable) }.call(values)
}

/// [`ranks`] as [`sorted_ranks`] has them.
pub(super) fn without_negative_zero(ranks: Expr) -> Result<Expr> {
    when(ranks.clone().eq(lit(ordered_bits((-0.0_f64).to_bits().cast_signed()))), lit(0_i64)).otherwise(ranks)
}

/// The floats behind [`ranks`].
pub(super) fn of_ranks(ranks: &PrimitiveArray<Int64Type>) -> PrimitiveArray<Float64Type> {
    ranks.unary(|rank| f64::from_bits(ordered_bits(rank).cast_unsigned()))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct Ranks {
    /// Whether -0 has the rank of zero.
    has_one_zero: bool,
    signature: Signature,
}

impl Ranks {
    fn call(self, values: Expr) -> Expr {
        ScalarUDF::new_from_impl(self).call(vec![values])
    }
}

impl ScalarUDFImpl for Ranks {
    fn name(&self) -> &str {
        if self.has_one_zero { "float_order" } else { "float_ranks" }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Int64)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let rank = |value: f64| {
            let value = match value {
                value if value.is_nan() => f64::NAN,
                value if self.has_one_zero && value == 0.0 => 0.0,
                value => value,
            };
            ordered_bits(value.to_bits().cast_signed())
        };
        let ranks: PrimitiveArray<Int64Type> = match arrays[0].data_type() {
            DataType::Float32 => arrays[0].as_primitive::<Float32Type>().unary(|value| rank(value.into())),
            DataType::Float64 => arrays[0].as_primitive::<Float64Type>().unary(rank),
            other => return Err(DataFusionError::Internal(format!("{other} is no type of floats"))),
        };
        Ok(ColumnarValue::Array(Arc::new(ranks)))
    }
}

/// The bits of a float as an integer of the same order, and back: those of negative ones count down.
fn ordered_bits(bits: i64) -> i64 {
    if bits < 0 { bits ^ i64::MAX } else { bits }
}
