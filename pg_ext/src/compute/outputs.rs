//! What is asked of DataFusion for each group and aggregate of a query, and how its answer becomes Postgres'.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryViewArray, DictionaryArray, PrimitiveArray, RecordBatch, StringArray, UInt8Array,
};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Decimal128Type, Decimal256Type, Int64Type, i256};
use datafusion::common::{Column, DFSchema};
use datafusion::functions_aggregate::expr_fn;
use datafusion::logical_expr::{Expr, ExprFunctionExt, SortExpr, cast as cast_to, lit, when};

use super::expressions::Scope;
use super::{RESULT_PREFIX, failure, floats, functions};
use crate::error::{PgError, Result};
use crate::numeric;
use crate::query::{
    Aggregate, DIGITS_128, DIGITS_256, Deviation, Expression, Function, SortBy, SortKey, Typed, ValueType,
};
use crate::table::BoundColumn;
use crate::types::Conversion;

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
    /// A sum of so many digits after the point, and the most that one of the values had.
    Rescaled { scale: u8 },
    /// A sum of so many digits after the point and a count.
    Quotient { scale: u8 },
    /// A sum of squares of so many digits after the point, one of the values themselves, of half as many, and a count.
    Deviation { deviation: Deviation, scale: u8 },
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

impl Scope<'_> {
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
            let Computed { conversion, finish, parts } = self.aggregate(aggregate)?;
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
    pub(super) fn aggregates(&self) -> Result<Vec<Expr>> {
        let aggregates = self.query.aggregates().iter().map(|aggregate| Ok(self.aggregate(aggregate)?.parts));
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
                    output.sorted_values(output.part(schema))?
                }
            };
            Ok(values.sort(!key.descending, key.nulls_first))
        };
        self.query.order.iter().map(sorted).collect()
    }

    /// Values that are told apart, and are in the same order, as those of an expression: itself, if that takes no conversion of
    /// each row; and how they become the expression's in the end.
    fn identities(&self, typed: &Typed) -> Result<Computed> {
        if let Some(column) = self.unsigned(typed) {
            return Ok(Computed { parts: vec![column], conversion: Conversion::U64ToBigInt, finish: Finish::AsItIs });
        }
        let conversion = conversion(typed.value_type);
        Ok(Computed { parts: vec![self.values(typed)?], conversion, finish: Finish::AsItIs })
    }

    /// Values that are told apart as those of an expression are.
    fn group(&self, typed: &Typed) -> Result<Computed> {
        let Some((numbers, variants)) = self.variants(typed) else { return self.identities(typed) };
        let names = Arc::new(StringArray::from_iter_values(variants.names()));
        let parts = vec![numbers];
        Ok(Computed { parts, conversion: Conversion::Enum, finish: Finish::Variant(names) })
    }

    fn aggregate(&self, aggregate: &Aggregate) -> Result<Computed> {
        let filter = aggregate.filter.as_ref().map(|filter| self.values(filter)).transpose()?;
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
            Function::Deviation(deviation) if value_type.is_float() => {
                let values = cast_to(self.values(argument)?, ArrowType::Float64);
                one(floats::deviation(deviation, values), Conversion::Float8, Finish::AsItIs)
            }
            Function::Deviation(deviation) => {
                let square =
                    argument.square().ok_or_else(|| PgError::internal("numbers are too long to be squared"))?;
                let ((squares, _), (sum, _)) = (self.sum(&square)?, self.sum(argument)?);
                let count = expr_fn::count(self.counted(argument)?);
                let parts = vec![with_filter(squares)?, with_filter(sum)?, with_filter(count)?];
                let finish = Finish::Deviation { deviation, scale: square.scale() };
                Ok(Computed { parts, conversion: Conversion::Bytea, finish })
            }
            Function::Sum | Function::Avg if value_type.is_float() => {
                let values = cast_to(self.values(argument)?, ArrowType::Float64);
                let sum = match (aggregate.function, self.is_small(argument)?) {
                    (Function::Sum, true) => floats::plain_sum(values),
                    (Function::Sum, false) => floats::sum(values),
                    (_, true) => expr_fn::avg(values),
                    (_, false) => floats::average(values),
                };
                one(sum, Conversion::Float8, Finish::AsItIs)
            }
            Function::Sum => {
                let (sum, width) = self.sum(argument)?;
                let scale = argument.scale();
                if !argument.has_one_scale() {
                    let most = expr_fn::max(self.scales(argument)?);
                    let parts = vec![with_filter(sum)?, with_filter(most)?];
                    return Ok(Computed { parts, conversion: Conversion::Bytea, finish: Finish::Rescaled { scale } });
                }
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
                let finish = Finish::Quotient { scale: argument.scale() };
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
        match argument.expression {
            Expression::Column(place) | Expression::Length(place) => Ok(self.column(place)),
            _ => self.values(argument),
        }
    }

    /// A sum that neither wraps around nor loses a digit, and its width.
    fn sum(&self, argument: &Typed) -> Result<(Expr, Width)> {
        let values = self.values(argument)?;
        let most = self.magnitude(argument)?.and_then(|most| most.checked_mul(self.row_count()));
        let is_numeric = matches!(argument.value_type, ValueType::Numeric { .. });
        let is_narrow = !is_numeric || self.is_narrow(argument)?;
        let width = match argument.value_type {
            ValueType::Int2 | ValueType::Int4 => Width::Bits64,
            ValueType::Int8 if most.is_some_and(|most| i64::try_from(most).is_ok()) => Width::Bits64,
            _ if is_narrow && most.is_some_and(|most| most < 10_u128.pow(DIGITS_128.into())) => Width::Bits128,
            _ => Width::Bits256,
        };
        let scale = argument.scale().cast_signed();
        let values = match (argument.value_type, width) {
            (ValueType::Int8, Width::Bits128) => cast_to(values, ArrowType::Decimal128(DIGITS_128, 0)),
            (_, Width::Bits64 | Width::Bits128) => values,
            (_, Width::Bits256) => cast_to(values, ArrowType::Decimal256(DIGITS_256, scale)),
        };
        Ok((expr_fn::sum(values), width))
    }
}

/// The bits in which a sum is computed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Width {
    Bits64,
    Bits128,
    Bits256,
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

    /// The first of the columns that it is made of.
    fn part(&self, schema: &DFSchema) -> Expr {
        let (table, field) = schema.qualified_field(self.first);
        Expr::Column(Column::new(table.cloned(), field.name()))
    }

    /// Its values before they are finished, for which they have to be what they are.
    pub(super) fn values(&self, schema: &DFSchema) -> Result<Expr> {
        let part = self.part(schema);
        match (&self.finish, self.conversion) {
            (Finish::AsItIs, Conversion::U64ToBigInt) => Ok(functions::bigint(part, &self.name)),
            (Finish::AsItIs | Finish::Decimal | Finish::Wide { .. }, _) => Ok(part),
            _ => Err(PgError::internal("groups cannot be tested by what is made of several values")),
        }
    }

    /// Values that are sorted as Postgres sorts its values. `part` is what DataFusion gives of it.
    fn sorted_values(&self, part: Expr) -> Result<Expr> {
        match (&self.finish, self.conversion) {
            (Finish::AsItIs, Conversion::Float4 | Conversion::Float8) => Ok(floats::sorted_ranks(part)),
            (Finish::AsItIs | Finish::Decimal | Finish::Wide { .. }, _) => Ok(part),
            (Finish::Variant(names), _) => Ok(functions::variant_rank(part, names.iter().flatten())),
            (Finish::Float { .. }, _) => floats::without_negative_zero(part).map_err(failure),
            (Finish::Quotient { .. } | Finish::Rescaled { .. } | Finish::Deviation { .. }, _) => {
                Err(PgError::internal("groups cannot be sorted by what is made of several values"))
            }
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
            Finish::Rescaled { scale } => {
                let scales = part(1)?;
                let scales = scales.as_primitive_opt::<Int64Type>().ok_or_else(|| unexpected(scales))?;
                let sums = wide(array)?;
                let rescaled = |(sum, own): (Option<i256>, Option<i64>)| {
                    let own = u8::try_from(own?).unwrap_or(*scale).min(*scale);
                    // What is cut off are zeros.
                    let digits = sum?.wrapping_div(i256::from_i128(10).wrapping_pow(u32::from(scale - own)));
                    Some(numeric::encode_wide(digits, own.into()))
                };
                Arc::new(sums.iter().zip(scales.iter()).map(rescaled).collect::<BinaryViewArray>())
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
            Finish::Deviation { deviation, scale } => {
                let (squares, sums, counts) = (wide(array)?, wide(part(1)?)?, part(2)?);
                let counts = counts.as_primitive_opt::<Int64Type>().ok_or_else(|| unexpected(counts))?;
                let rows = squares.iter().zip(sums.iter()).zip(counts.iter());
                let measure = |((squares, sum), count): ((Option<i256>, Option<i256>), Option<i64>)| {
                    let sums = numeric::Sums { squares: squares?, sum: sum?, count: count? };
                    numeric::deviation(*deviation, &sums, (*scale).into())
                };
                Arc::new(rows.map(measure).collect::<BinaryViewArray>())
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
