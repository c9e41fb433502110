//! What is asked of DataFusion for each group and aggregate of a query, and how its answer becomes Postgres'.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, DictionaryArray, PrimitiveArray, RecordBatch, StringArray, UInt8Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Decimal128Type, Decimal256Type, Int64Type, TimeUnit, i256};
use datafusion::common::{Column, DFSchema, ScalarValue};
use datafusion::functions_aggregate::expr_fn;
use datafusion::logical_expr::{Expr, ExprFunctionExt, SortExpr, cast as cast_to, lit, when};
use soa_core::predicate::{Bounds, Predicate, Scalar};
use soa_core::schema::{DataType, Variants};
use soa_core::store::Snapshot;

use super::arithmetic::{self, Numbers};
use super::{RESULT_PREFIX, failure, floats, functions, predicates, store_column};
use crate::error::{PgError, Result};
use crate::numeric;
use crate::query::{
    Aggregate, DIGITS_128, DIGITS_256, Expression, Function, Operation, Query, SortBy, SortKey, Typed, ValueType,
};
use crate::table::BoundColumn;
use crate::types::{Conversion, PgValue};

/// Far from overflowing, however many of them, or of their squares, are added.
const SMALL: f64 = 1e120;

/// A query and what it is computed over.
pub(super) struct Scope<'a> {
    query: &'a Query,
    snapshot: &'a Snapshot,
    /// By place in the query's columns: where the store has it.
    columns: Vec<usize>,
}

/// A value of each row of the answer.
#[derive(Debug)]
pub(super) struct Output {
    /// What it is called in messages.
    pub(super) name: String,
    /// How it gets into a slot.
    pub(super) conversion: Conversion,
    /// The first of the columns of DataFusion's answer that it is made of.
    first: usize,
    finish: Finish,
}

/// How a value is made of columns of DataFusion's answer.
#[derive(Debug, Clone)]
enum Finish {
    /// It is one.
    AsItIs,
    /// The value of an enum, from its number.
    Variant(Arc<StringArray>),
    /// A sum of integers as a decimal.
    Decimal,
    /// A sum of more digits than a decimal of 128 bits has.
    Wide { scale: u8 },
    /// A sum of so many digits after the point and a count.
    Quotient { scale: u8 },
    /// A float, from its place among them.
    Float { is_double: bool },
}

/// How an aggregate is computed.
struct Computed {
    /// What DataFusion computes.
    parts: Vec<Expr>,
    conversion: Conversion,
    finish: Finish,
}

impl<'a> Scope<'a> {
    pub(super) fn new(query: &'a Query, snapshot: &'a Snapshot) -> Result<Self> {
        let find = |name: &str| {
            let missing = || PgError::internal(format!("the store has lost its column \"{name}\""));
            snapshot.schema().index_of(name).ok_or_else(missing)
        };
        let columns = query.rows.columns.iter().map(|column| find(&column.name)).collect::<Result<_>>()?;
        Ok(Self { query, snapshot, columns })
    }

    /// What becomes of the answer's columns: groups first.
    pub(super) fn outputs(&self) -> Result<Vec<Output>> {
        let mut outputs = Vec::new();
        let mut first = 0;
        for group in self.query.groups() {
            let Computed { conversion, finish, parts } = self.group(group)?;
            outputs.push(Output { name: self.name(group), conversion, first, finish });
            first += parts.len();
        }
        for aggregate in self.query.aggregates() {
            let Computed { conversion, finish, parts } = self.aggregate(aggregate, None)?;
            // Only values that are a column's can be ones that Postgres does not hold.
            let name = match (&aggregate.argument, aggregate.function) {
                (Some(argument), Function::Min | Function::Max) => self.name(argument),
                _ => aggregate.function.name().to_owned(),
            };
            outputs.push(Output { name, conversion, first, finish });
            first += parts.len();
        }
        Ok(outputs)
    }

    /// What rows are grouped by.
    pub(super) fn groups(&self) -> Result<Vec<Expr>> {
        let groups = self.query.groups().iter().map(|group| Ok(self.group(group)?.parts));
        Ok(groups.collect::<Result<Vec<_>>>()?.concat())
    }

    /// What is computed of each group.
    pub(super) fn aggregates(&self, values: &[Option<PgValue>]) -> Result<Vec<Expr>> {
        let aggregates = self.query.aggregates().iter().map(|aggregate| {
            let filter = aggregate.filter.as_ref();
            let filter = filter.map(|filter| filter.resolve_exactly(self.snapshot.schema(), values)).transpose()?;
            Ok(self.aggregate(aggregate, filter)?.parts)
        });
        let parts = aggregates.collect::<Result<Vec<_>>>()?.concat();
        // Two of the same are two columns all the same.
        Ok(parts.into_iter().enumerate().map(|(index, part)| part.alias(format!("{RESULT_PREFIX}{index}"))).collect())
    }

    /// What the answer is sorted by. `schema` is that of the rows or groups, `outputs` are those of groups.
    pub(super) fn order(&self, schema: &DFSchema, outputs: &[Output]) -> Result<Vec<SortExpr>> {
        let sorted = |key: &SortKey| {
            let values = match &key.by {
                SortBy::Row(typed) => self.sorted_values(typed)?,
                SortBy::Output(place) => {
                    let output = &outputs[*place];
                    let (table, field) = schema.qualified_field(output.first);
                    output.sorted_values(Expr::Column(Column::new(table.cloned(), field.name())))?
                }
            };
            Ok(values.sort(!key.descending, key.nulls_first))
        };
        self.query.order.iter().map(sorted).collect()
    }

    /// Values of rows that DataFusion sorts as Postgres does the expression's.
    fn sorted_values(&self, typed: &Typed) -> Result<Expr> {
        if let Some((column, variants)) = self.variants(typed) {
            let names = variants.names().iter().map(String::as_str);
            return Ok(functions::variant_rank(functions::variant_number(column), names));
        }
        let values = self.identities(typed)?.parts.swap_remove(0);
        // Zero and -0 are one, NaN is above all others.
        match typed.value_type.is_float() && !self.is_ordered_by_bits(typed)? {
            true => Ok(floats::sorted_ranks(values)),
            false => Ok(values),
        }
    }

    /// Whether floats are in the order of their bits: there is neither a zero nor NaN among them.
    fn is_ordered_by_bits(&self, typed: &Typed) -> Result<bool> {
        let Bounds { min, max, may_hold_nan, .. } = self.bounds(typed)?;
        let is_above = matches!(min, Some(Scalar::Float(min)) if min > 0.0);
        let is_below = matches!(max, Some(Scalar::Float(max)) if max < 0.0);
        Ok(!may_hold_nan && (is_above || is_below))
    }

    /// What an expression is called in messages.
    fn name(&self, typed: &Typed) -> String {
        let column = typed.expression.column().map(|place| self.query.rows.columns[place].shown.clone());
        column.unwrap_or_else(|| "?column?".to_owned())
    }

    /// A column as the store has it.
    fn column(&self, place: usize) -> Expr {
        store_column(&self.query.rows.columns[place].name)
    }

    fn data_type(&self, place: usize) -> &DataType {
        self.snapshot.schema().field(self.columns[place]).data_type()
    }

    /// The values of an expression in the Arrow type of what it is in Postgres; numerics in 256 bits, if they may take more
    /// than 128 on the way.
    fn values(&self, typed: &Typed) -> Result<Expr> {
        Ok(match &typed.expression {
            Expression::Length(place) => functions::length(self.column(*place)),
            Expression::Column(place) => {
                let (found, wanted) = (self.data_type(*place).to_arrow(), arrow_type(typed.value_type));
                let column = self.column(*place);
                match (found, wanted) {
                    (found, wanted) if found == wanted => column,
                    (ArrowType::UInt64, ArrowType::Int64) => functions::bigint(column, &self.name(typed)),
                    (_, wanted) => cast_to(column, wanted),
                }
            }
            _ if matches!(typed.value_type, ValueType::Numeric { .. }) => {
                self.decimals(typed, scale_of(typed.value_type), !self.is_narrow(typed)?)?
            }
            Expression::Number { digits, .. } => cast_to(lit(*digits), arrow_type(typed.value_type)),
            Expression::Float { bits } => lit(f64::from_bits(*bits)),
            Expression::Cast(inner) => cast_to(self.values(inner)?, arrow_type(typed.value_type)),
            Expression::Arithmetic { op, left, right } => {
                let (operand, numbers) = match typed.value_type {
                    ValueType::Int2 => (ArrowType::Int64, Numbers::Integers { bits: i16::BITS }),
                    ValueType::Int4 => (ArrowType::Int64, Numbers::Integers { bits: i32::BITS }),
                    ValueType::Int8 => (ArrowType::Int64, Numbers::Integers { bits: i64::BITS }),
                    _ => (ArrowType::Float64, Numbers::Floats),
                };
                let operand = |typed: &Typed| Ok::<_, PgError>(cast_to(self.values(typed)?, operand.clone()));
                let result = arithmetic::call(*op, numbers, operand(left)?, operand(right)?);
                cast_to(result, arrow_type(typed.value_type))
            }
        })
    }

    /// The values of a numeric expression with so many digits after the point, at least as many as it has, in 128 or 256 bits.
    fn decimals(&self, typed: &Typed, scale: u8, is_wide: bool) -> Result<Expr> {
        let target = match is_wide {
            true => ArrowType::Decimal256(DIGITS_256, scale.cast_signed()),
            false => ArrowType::Decimal128(DIGITS_128, scale.cast_signed()),
        };
        Ok(match &typed.expression {
            Expression::Arithmetic { op, left, right } => {
                let own = scale_of(typed.value_type);
                // What is added has one scale; those of factors are added.
                let of = |typed: &Typed| match op {
                    Operation::Multiply => scale_of(typed.value_type),
                    Operation::Add | Operation::Subtract => own,
                };
                let (left, right) =
                    (self.decimals(left, of(left), is_wide)?, self.decimals(right, of(right), is_wide)?);
                let numbers = match is_wide {
                    true => Numbers::WideDecimals { precision: DIGITS_256, scale: own },
                    false => Numbers::Decimals { precision: DIGITS_128, scale: own },
                };
                let result = arithmetic::call(*op, numbers, left, right);
                if own == scale { result } else { cast_to(result, target) }
            }
            Expression::Number { digits, scale: own } => {
                let digits = i256::from_i128((*digits).into());
                let digits = digits.wrapping_mul(i256::from_i128(10).wrapping_pow(u32::from(scale - own)));
                match (is_wide, digits.to_i128()) {
                    (false, Some(digits)) => {
                        lit(ScalarValue::Decimal128(Some(digits), DIGITS_128, scale.cast_signed()))
                    }
                    _ => lit(ScalarValue::Decimal256(Some(digits), DIGITS_256, scale.cast_signed())),
                }
            }
            Expression::Cast(inner) => cast_to(self.values(inner)?, target),
            Expression::Column(_) | Expression::Length(_) | Expression::Float { .. } => {
                cast_to(self.values(typed)?, target)
            }
        })
    }

    /// Whether neither a numeric expression nor any part of it has more digits than 128 bits hold.
    fn is_narrow(&self, typed: &Typed) -> Result<bool> {
        let most = 10_u128.pow(DIGITS_128.into());
        let fits = self.magnitude(typed)?.is_some_and(|magnitude| magnitude < most) || !typed.value_type.is_wide();
        Ok(match &typed.expression {
            Expression::Arithmetic { left, right, .. } => fits && self.is_narrow(left)? && self.is_narrow(right)?,
            _ => fits,
        })
    }

    /// The variants of an enum and its column, if an expression is one.
    fn variants(&self, typed: &Typed) -> Option<(Expr, &Variants)> {
        let Expression::Column(place) = typed.expression else { return None };
        match self.data_type(place) {
            DataType::Enum(variants) => Some((self.column(place), variants)),
            _ => None,
        }
    }

    /// Values that are told apart, and are in the same order, as those of an expression: itself, if that takes no conversion of
    /// each row; and how they become the expression's in the end.
    fn identities(&self, typed: &Typed) -> Result<Computed> {
        if let (&Expression::Column(place), ValueType::Int8) = (&typed.expression, typed.value_type)
            && *self.data_type(place) == DataType::UInt64
        {
            let parts = vec![self.column(place)];
            return Ok(Computed { parts, conversion: Conversion::U64ToBigInt, finish: Finish::AsItIs });
        }
        let conversion = conversion(typed.value_type);
        Ok(Computed { parts: vec![self.values(typed)?], conversion, finish: Finish::AsItIs })
    }

    /// Values that are told apart as those of an expression are.
    fn group(&self, typed: &Typed) -> Result<Computed> {
        let Some((column, variants)) = self.variants(typed) else { return self.identities(typed) };
        let names = Arc::new(StringArray::from_iter_values(variants.names()));
        let parts = vec![functions::variant_number(column)];
        Ok(Computed { parts, conversion: Conversion::Enum, finish: Finish::Variant(names) })
    }

    /// `filter` says which rows count. That it is there or not makes no difference but to the expressions.
    fn aggregate(&self, aggregate: &Aggregate, filter: Option<Predicate>) -> Result<Computed> {
        let filter = filter.map(|filter| predicates::matches(filter, self.snapshot.schema()));
        let with_filter = |expression: Expr| match filter.clone() {
            None => Ok(expression),
            Some(filter) => expression.filter(filter).build().map_err(failure),
        };
        let one = |expression: Expr, conversion: Conversion, finish: Finish| {
            Ok(Computed { parts: vec![with_filter(expression)?], conversion, finish })
        };
        let Some(argument) = &aggregate.argument else {
            return one(expr_fn::count(lit(1_i64)), Conversion::Integer, Finish::AsItIs);
        };
        let value_type = argument.value_type;
        match aggregate.function {
            Function::Count if aggregate.distinct => {
                // DataFusion forgets the filter of a distinct count that stands beside other aggregates.
                let values = self.group(argument)?.parts.swap_remove(0);
                let counted = match filter.clone() {
                    None => values,
                    Some(filter) => when(filter, values).end().map_err(failure)?,
                };
                let parts = vec![expr_fn::count_distinct(counted)];
                Ok(Computed { parts, conversion: Conversion::Integer, finish: Finish::AsItIs })
            }
            Function::Count => one(expr_fn::count(self.counted(argument)?), Conversion::Integer, Finish::AsItIs),
            Function::BoolAnd => one(expr_fn::bool_and(self.values(argument)?), Conversion::Bool, Finish::AsItIs),
            Function::BoolOr => one(expr_fn::bool_or(self.values(argument)?), Conversion::Bool, Finish::AsItIs),
            Function::Sum | Function::Avg if value_type.is_float() => {
                let values = cast_to(self.values(argument)?, ArrowType::Float64);
                let sum = match (aggregate.function, self.is_small(argument)?) {
                    (Function::Sum, true) => expr_fn::sum(values),
                    (Function::Sum, false) => floats::sum(values),
                    (_, true) => expr_fn::avg(values),
                    (_, false) => floats::average(values),
                };
                one(sum, Conversion::Float8, Finish::AsItIs)
            }
            Function::Sum => {
                let (sum, width) = self.sum(argument)?;
                let scale = scale_of(value_type);
                let (conversion, finish) = match (value_type, width) {
                    (ValueType::Int2 | ValueType::Int4, _) => (Conversion::Integer, Finish::AsItIs),
                    (_, Width::Bits64) => (Conversion::Numeric { scale: 0 }, Finish::Decimal),
                    (_, Width::Bits128) => (Conversion::Numeric { scale }, Finish::AsItIs),
                    (_, Width::Bits256) => (Conversion::Bytea, Finish::Wide { scale }),
                };
                one(sum, conversion, finish)
            }
            Function::Avg => {
                let (sum, _) = self.sum(argument)?;
                let count = expr_fn::count(self.counted(argument)?);
                let parts = vec![with_filter(sum)?, with_filter(count)?];
                let finish = Finish::Quotient { scale: scale_of(value_type) };
                Ok(Computed { parts, conversion: Conversion::Bytea, finish })
            }
            Function::Min | Function::Max => {
                let is_max = aggregate.function == Function::Max;
                let extreme = |values: Expr| if is_max { expr_fn::max(values) } else { expr_fn::min(values) };
                if value_type.is_float() && !self.is_small(argument)? {
                    let ranks = floats::ranks(self.values(argument)?);
                    let finish = Finish::Float { is_double: value_type == ValueType::Float8 };
                    return one(extreme(ranks), conversion(value_type), finish);
                }
                let Computed { mut parts, conversion, finish } = self.identities(argument)?;
                one(extreme(parts.swap_remove(0)), conversion, finish)
            }
        }
    }

    /// What is NULL where an expression is.
    fn counted(&self, argument: &Typed) -> Result<Expr> {
        match (&argument.expression, argument.expression.can_fail(argument.value_type)) {
            (Expression::Column(place) | Expression::Length(place), _) => Ok(self.column(*place)),
            _ => self.values(argument),
        }
    }

    /// A sum that neither wraps around nor loses a digit, and its width.
    fn sum(&self, argument: &Typed) -> Result<(Expr, Width)> {
        let values = self.values(argument)?;
        let rows = u128::from(self.snapshot.row_count());
        let most = self.magnitude(argument)?.and_then(|most| most.checked_mul(rows));
        let is_numeric = matches!(argument.value_type, ValueType::Numeric { .. });
        let is_narrow = !is_numeric || self.is_narrow(argument)?;
        let width = match argument.value_type {
            ValueType::Int2 | ValueType::Int4 => Width::Bits64,
            ValueType::Int8 if most.is_some_and(|most| i64::try_from(most).is_ok()) => Width::Bits64,
            _ if is_narrow && most.is_some_and(|most| most < 10_u128.pow(DIGITS_128.into())) => Width::Bits128,
            _ => Width::Bits256,
        };
        let scale = scale_of(argument.value_type).cast_signed();
        let values = match (argument.value_type, width) {
            (ValueType::Int8, Width::Bits128) => cast_to(values, ArrowType::Decimal128(DIGITS_128, 0)),
            (_, Width::Bits64 | Width::Bits128) => values,
            (_, Width::Bits256) => cast_to(values, ArrowType::Decimal256(DIGITS_256, scale)),
        };
        Ok((expr_fn::sum(values), width))
    }

    fn bounds(&self, typed: &Typed) -> Result<Bounds> {
        Ok(match typed.expression {
            Expression::Column(place) => self.snapshot.bounds(self.columns[place])?,
            _ => Bounds::unknown(self.snapshot.row_count()),
        })
    }

    /// The greatest that a number without its sign and point can be; `None` if that takes more than 128 bits.
    fn magnitude(&self, typed: &Typed) -> Result<Option<u128>> {
        let power = |exponent: u8| 10_u128.checked_pow(exponent.into());
        Ok(match &typed.expression {
            Expression::Number { digits, .. } => Some(digits.unsigned_abs().into()),
            Expression::Cast(inner) => self.magnitude(inner)?,
            Expression::Arithmetic { op, left, right } => {
                let (a, b) = (self.magnitude(left)?, self.magnitude(right)?);
                let scale = scale_of(typed.value_type);
                let scaled = |magnitude: Option<u128>, typed: &Typed| {
                    magnitude?.checked_mul(power(scale.saturating_sub(scale_of(typed.value_type)))?)
                };
                match op {
                    Operation::Multiply => a.zip(b).and_then(|(a, b)| a.checked_mul(b)),
                    Operation::Add | Operation::Subtract => {
                        scaled(a, left).zip(scaled(b, right)).and_then(|(a, b)| a.checked_add(b))
                    }
                }
            }
            Expression::Column(_) | Expression::Length(_) | Expression::Float { .. } => {
                let Bounds { min, max, .. } = self.bounds(typed)?;
                match (min, max, typed.value_type) {
                    (Some(Scalar::Int(min)), Some(Scalar::Int(max)), _) => {
                        Some(min.unsigned_abs().max(max.unsigned_abs()))
                    }
                    (_, _, ValueType::Numeric { precision, .. }) => power(precision),
                    _ => Some(1 << 63),
                }
            }
        })
    }

    /// Whether no value is NaN, an infinity, or so large that a sum of them or of their squares could be one.
    fn is_small(&self, typed: &Typed) -> Result<bool> {
        Ok(self.float_magnitude(typed)?.is_some_and(|magnitude| magnitude <= SMALL))
    }

    /// The greatest that a float without its sign can be; `None` if that is not known, or it can be NaN.
    fn float_magnitude(&self, typed: &Typed) -> Result<Option<f64>> {
        Ok(match &typed.expression {
            Expression::Float { bits } => Some(f64::from_bits(*bits).abs()).filter(|value| value.is_finite()),
            Expression::Cast(inner) if !inner.value_type.is_float() => {
                self.magnitude(inner)?.map(|magnitude| magnitude as f64)
            }
            Expression::Cast(inner) => self.float_magnitude(inner)?,
            Expression::Arithmetic { op, left, right } => {
                let operands = self.float_magnitude(left)?.zip(self.float_magnitude(right)?);
                operands.map(|(a, b)| if *op == Operation::Multiply { a * b } else { a + b })
            }
            Expression::Column(_) | Expression::Length(_) | Expression::Number { .. } => {
                let bounds = self.bounds(typed)?;
                match (bounds.min, bounds.max) {
                    (Some(Scalar::Float(min)), Some(Scalar::Float(max))) if !bounds.may_hold_nan => {
                        Some(min.abs().max(max.abs())).filter(|value| value.is_finite())
                    }
                    _ => None,
                }
            }
        })
    }
}

/// The bits in which a sum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Bits64,
    Bits128,
    Bits256,
}

fn scale_of(value_type: ValueType) -> u8 {
    if let ValueType::Numeric { scale, .. } = value_type { scale } else { 0 }
}

fn arrow_type(value_type: ValueType) -> ArrowType {
    match value_type {
        ValueType::Bool => ArrowType::Boolean,
        ValueType::Int2 => ArrowType::Int16,
        ValueType::Int4 => ArrowType::Int32,
        ValueType::Int8 => ArrowType::Int64,
        ValueType::Float4 => ArrowType::Float32,
        ValueType::Float8 => ArrowType::Float64,
        ValueType::Numeric { precision, scale } => ArrowType::Decimal128(precision, scale.cast_signed()),
        ValueType::Text => ArrowType::Utf8View,
        ValueType::Bytea => ArrowType::BinaryView,
        ValueType::Date => ArrowType::Date32,
        ValueType::Timestamp => ArrowType::Timestamp(TimeUnit::Microsecond, None),
        ValueType::TimestampTz => ArrowType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        ValueType::Time => ArrowType::Time64(TimeUnit::Microsecond),
        ValueType::Uuid => ArrowType::FixedSizeBinary(16),
    }
}

fn conversion(value_type: ValueType) -> Conversion {
    match value_type {
        ValueType::Bool => Conversion::Bool,
        ValueType::Int2 | ValueType::Int4 | ValueType::Int8 => Conversion::Integer,
        ValueType::Float4 => Conversion::Float4,
        ValueType::Float8 => Conversion::Float8,
        ValueType::Numeric { scale, .. } => Conversion::Numeric { scale },
        ValueType::Text => Conversion::Text,
        ValueType::Bytea => Conversion::Bytea,
        ValueType::Date => Conversion::Date,
        ValueType::Timestamp | ValueType::TimestampTz => Conversion::Timestamp,
        ValueType::Time => Conversion::Time,
        ValueType::Uuid => Conversion::Uuid,
    }
}

impl Output {
    /// A column that is given as it is, the one in this place.
    pub(super) fn of_row(column: &BoundColumn, place: usize) -> Self {
        Self { name: column.name.clone(), conversion: column.conversion, first: place, finish: Finish::AsItIs }
    }

    /// What it is in a slot.
    pub(super) fn column(&self, number: i16) -> BoundColumn {
        BoundColumn { number, store_column: 0, name: self.name.clone(), conversion: self.conversion }
    }

    /// Values that are sorted as Postgres sorts its values. `part` is what DataFusion gives of it.
    fn sorted_values(&self, part: Expr) -> Result<Expr> {
        match (&self.finish, self.conversion) {
            (Finish::AsItIs, Conversion::Float4 | Conversion::Float8) => Ok(floats::sorted_ranks(part)),
            (Finish::AsItIs | Finish::Decimal | Finish::Wide { .. }, _) => Ok(part),
            (Finish::Variant(names), _) => Ok(functions::variant_rank(part, names.iter().flatten())),
            (Finish::Float { .. }, _) => floats::without_negative_zero(part).map_err(failure),
            (Finish::Quotient { .. }, _) => Err(PgError::internal("groups cannot be sorted by what is divided")),
        }
    }

    /// Its values for the groups of a batch of DataFusion's answer.
    pub(super) fn finish(&self, batch: &RecordBatch) -> Result<ArrayRef> {
        let part = |index: usize| {
            let column = batch.columns().get(self.first + index);
            column.ok_or_else(|| PgError::internal("an aggregation has fewer columns than were asked for"))
        };
        let array = part(0)?;
        Ok(match &self.finish {
            Finish::AsItIs => Arc::clone(array),
            Finish::Variant(names) => {
                let numbers: &UInt8Array = array.as_primitive_opt().ok_or_else(|| unexpected(array))?;
                let names: ArrayRef = Arc::<StringArray>::clone(names);
                Arc::new(DictionaryArray::try_new(numbers.clone(), names).map_err(|_| unexpected(array))?)
            }
            Finish::Decimal => cast(array, &ArrowType::Decimal128(DIGITS_128, 0)).map_err(|_| unexpected(array))?,
            Finish::Wide { scale } => {
                let sums = wide(array)?;
                let numerics = sums.iter().map(|sum| sum.map(|sum| numeric::encode_wide(sum, (*scale).into())));
                Arc::new(numerics.collect::<BinaryViewArray>())
            }
            Finish::Quotient { scale } => {
                let counts = part(1)?;
                let counts = counts.as_primitive_opt::<Int64Type>().ok_or_else(|| unexpected(counts))?;
                let sums = wide(array)?;
                let rows = sums.iter().zip(counts.iter());
                let average = |(sum, count): (Option<i256>, Option<i64>)| {
                    Some(numeric::average(sum?, (*scale).into(), count.filter(|count| *count > 0)?))
                };
                Arc::new(rows.map(average).collect::<BinaryViewArray>())
            }
            Finish::Float { is_double } => {
                let ranks = array.as_primitive_opt::<Int64Type>().ok_or_else(|| unexpected(array))?;
                let values: ArrayRef = Arc::new(floats::of_ranks(ranks));
                match is_double {
                    true => values,
                    false => cast(&values, &ArrowType::Float32).map_err(|_| unexpected(array))?,
                }
            }
        })
    }
}

/// Sums as integers of 256 bits, without their point.
fn wide(array: &ArrayRef) -> Result<PrimitiveArray<Decimal256Type>> {
    Ok(match array.data_type() {
        ArrowType::Int64 => array.as_primitive::<Int64Type>().unary(|sum| i256::from_i128(sum.into())),
        ArrowType::Decimal128(_, _) => array.as_primitive::<Decimal128Type>().unary(i256::from_i128),
        ArrowType::Decimal256(_, _) => array.as_primitive::<Decimal256Type>().clone(),
        _ => return Err(unexpected(array)),
    })
}

fn unexpected(array: &ArrayRef) -> PgError {
    PgError::internal(format!("an aggregation gave values of the type {}", array.data_type()))
}
