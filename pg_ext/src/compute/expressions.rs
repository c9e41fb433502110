//! A query's expressions as DataFusion's.

use arrow::datatypes::{DataType as ArrowType, TimeUnit, i256};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::utils::{conjunction, disjunction};
use datafusion::logical_expr::{BinaryExpr, Case, Expr, Like, Operator, cast as cast_to, lit, when};
use soa_core::predicate::{Bounds, Scalar};
use soa_core::schema::{DataType, Schema, Variants};
use soa_core::store::Snapshot;

use super::arithmetic::{self, Numbers};
use super::outputs::Output;
use super::{column, failure, floats, functions, predicates, table_name};
use crate::error::{PgError, Result};
use crate::filter::Op;
use crate::query::{DIGITS_128, DIGITS_256, Expression, Operation, Query, TableColumn, Typed, ValueType};
use crate::snapshots::Pin;
use crate::types::PgValue;

/// Far from overflowing, however many of them, or of their squares, are added.
const SMALL: f64 = 1e120;

/// So many rows no join gives in a year, however many there could be.
const JOINED_ROWS_MAX: u128 = 1 << 56;

/// A query and what it is computed over.
pub(super) struct Scope<'a> {
    pub(super) query: &'a Query,
    /// By the tables' places.
    snapshots: &'a [Pin],
    /// By place in the query's columns: where the store has it.
    columns: Vec<usize>,
    /// The operands' values; `None` as long as it is only asked what the answer is like.
    values: Option<&'a [Option<PgValue>]>,
    /// What there is of groups, where these are tested: the schema of what DataFusion gives, and the outputs.
    groups: Option<(&'a DFSchema, &'a [Output])>,
}

impl<'a> Scope<'a> {
    pub(super) fn new(query: &'a Query, snapshots: &'a [Pin], values: Option<&'a [Option<PgValue>]>) -> Result<Self> {
        let columns = query.input.columns.iter().map(|column| {
            let missing = || PgError::internal(format!("the store has lost its column \"{}\"", column.name));
            snapshots[column.table].schema().index_of(&column.name).ok_or_else(missing)
        });
        Ok(Self { query, snapshots, columns: columns.collect::<Result<_>>()?, values, groups: None })
    }

    /// A condition on groups.
    pub(super) fn having(&self, typed: &Typed, schema: &DFSchema, outputs: &[Output]) -> Result<Expr> {
        let scope = Scope { columns: self.columns.clone(), groups: Some((schema, outputs)), ..*self };
        scope.values(typed)
    }

    /// The rows of the store of the table in a place.
    pub(super) fn row_count_of(&self, table: usize) -> u64 {
        self.snapshots[table].row_count()
    }

    /// The most rows that there can be.
    pub(super) fn row_count(&self) -> u128 {
        let counts = self.snapshots.iter().map(|snapshot| u128::from(snapshot.row_count()).max(1));
        match self.snapshots.len() {
            1 => counts.product(),
            _ => counts.fold(1_u128, u128::saturating_mul).min(JOINED_ROWS_MAX),
        }
    }

    /// Values of rows that DataFusion sorts as Postgres does the expression's.
    pub(super) fn sorted_values(&self, typed: &Typed) -> Result<Expr> {
        if let Some((numbers, variants)) = self.variants(typed) {
            return Ok(functions::variant_rank(numbers, variants.names().iter().map(String::as_str)));
        }
        let values = match self.unsigned(typed) {
            Some(column) => column,
            None => self.values(typed)?,
        };
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
    pub(super) fn name(&self, typed: &Typed) -> String {
        let column = typed.expression.column().map(|place| self.query.input.columns[place].shown.clone());
        column.unwrap_or_else(|| "?column?".to_owned())
    }

    /// What a store's column is called in plans, if its table is one of several: no other table's column is called so. (DataFusion
    /// tells columns of physical plans apart by nothing but their names when it moves filters.)
    pub(super) fn joined_name(table: usize, name: &str) -> String {
        format!("{} {name}", table_name(table))
    }

    /// The same of the numbers of its variants, if it is an enum.
    pub(super) fn joined_number_name(table: usize, name: &str) -> String {
        format!("{}# {name}", table_name(table))
    }

    /// A column of the store of the table in a place.
    pub(super) fn store_column(&self, table: usize, name: &str) -> Expr {
        match self.snapshots.len() {
            1 => column(table, name),
            _ => column(table, Self::joined_name(table, name)),
        }
    }

    /// The schema of the store of the table in a place.
    pub(super) fn schema(&self, table: usize) -> &Schema {
        self.snapshots[table].schema()
    }

    /// A column as the store has it.
    pub(super) fn column(&self, place: usize) -> Expr {
        let column = &self.query.input.columns[place];
        self.store_column(column.table, &column.name)
    }

    fn snapshot_of(&self, place: usize) -> &Snapshot {
        &self.snapshots[self.query.input.columns[place].table]
    }

    fn data_type(&self, place: usize) -> &DataType {
        self.snapshot_of(place).schema().field(self.columns[place]).data_type()
    }

    /// The column that an expression is, if the store has it as integers of 64 unsigned bits and Postgres as a `bigint`.
    pub(super) fn unsigned(&self, typed: &Typed) -> Option<Expr> {
        match (&typed.expression, typed.value_type) {
            (&Expression::Column(place), ValueType::Int8) if *self.data_type(place) == DataType::UInt64 => {
                Some(self.column(place))
            }
            _ => None,
        }
    }

    /// The values of an expression in the Arrow type of what it is in Postgres; numerics in 256 bits, if they may take more
    /// than 128 on the way.
    pub(super) fn values(&self, typed: &Typed) -> Result<Expr> {
        Ok(match &typed.expression {
            Expression::Length(place) => functions::length(self.column(*place)),
            Expression::Output(place) => {
                let (schema, outputs) = self.groups.ok_or_else(|| PgError::internal("there are no groups yet"))?;
                outputs[*place].values(schema)?
            }
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
                self.decimals(typed, typed.scale(), !self.is_narrow(typed)?)?
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
            Expression::Compare { op, left, right } => {
                let (left, right) = self.compared(left, right)?;
                let op = match op {
                    Op::Eq => Operator::Eq,
                    Op::NotEq => Operator::NotEq,
                    Op::Lt => Operator::Lt,
                    Op::LtEq => Operator::LtEq,
                    Op::Gt => Operator::Gt,
                    Op::GtEq => Operator::GtEq,
                };
                Expr::BinaryExpr(BinaryExpr::new(Box::new(left), op, Box::new(right)))
            }
            Expression::And(parts) => conjunction(self.all_values(parts)?).unwrap_or_else(|| lit(true)),
            Expression::Or(parts) => disjunction(self.all_values(parts)?).unwrap_or_else(|| lit(false)),
            Expression::Not(part) => Expr::Not(Box::new(self.values(part)?)),
            Expression::IsNull(part) => self.values(part)?.is_null(),
            Expression::Like { text, pattern } => {
                let (text, pattern) = (Box::new(self.values(text)?), Box::new(lit(pattern.as_str())));
                Expr::Like(Like::new(false, text, pattern, None, false))
            }
            Expression::Case { branches, otherwise } => {
                self.case(branches, otherwise.as_deref(), &|value| self.values(value))?
            }
            Expression::Extract { part, from } => functions::date_part(*part, self.values(from)?),
            Expression::Matches { table, filter } => match self.values {
                Some(values) => {
                    let predicate = filter.resolve_exactly(self.schema(*table), values)?;
                    predicates::matches(self, *table, predicate)
                }
                None => lit(false),
            },
        })
    }

    /// The value beside the first condition that is true, as `value` has it.
    fn case(
        &self,
        branches: &[(Typed, Typed)],
        otherwise: Option<&Typed>,
        value: &dyn Fn(&Typed) -> Result<Expr>,
    ) -> Result<Expr> {
        let branches = branches
            .iter()
            .map(|(condition, result)| Ok((Box::new(self.values(condition)?), Box::new(value(result)?))));
        let otherwise = otherwise.map(value).transpose()?.map(Box::new);
        Ok(Expr::Case(Case::new(None, branches.collect::<Result<_>>()?, otherwise)))
    }

    /// How many digits the values of a numeric expression have after the point; NULL where they are.
    pub(super) fn scales(&self, typed: &Typed) -> Result<Expr> {
        match &typed.expression {
            Expression::Case { branches, otherwise } => {
                self.case(branches, otherwise.as_deref(), &|value| self.scales(value))
            }
            _ => {
                let scale = lit(i64::from(typed.scale()));
                when(self.values(typed)?.is_not_null(), scale).end().map_err(failure)
            }
        }
    }

    fn all_values(&self, parts: &[Typed]) -> Result<Vec<Expr>> {
        parts.iter().map(|part| self.values(part)).collect()
    }

    /// Two values of one type that are compared as Postgres compares those of the expressions.
    pub(super) fn compared(&self, left: &Typed, right: &Typed) -> Result<(Expr, Expr)> {
        let both = |of: &dyn Fn(&Typed) -> Result<Expr>| Ok((of(left)?, of(right)?));
        match (left.value_type, right.value_type) {
            // Zero and -0 are equal, and so are NaNs.
            (first, _) if first.is_float() => both(&|typed| Ok(floats::sorted_ranks(self.values(typed)?))),
            (first, second) if first.is_integer() && first != second => {
                both(&|typed| Ok(cast_to(self.values(typed)?, ArrowType::Int64)))
            }
            (ValueType::Numeric { .. }, _) => {
                let scale = left.scale().max(right.scale());
                let is_wide = !(self.is_narrow_with(left, scale)? && self.is_narrow_with(right, scale)?);
                both(&|typed| self.decimals(typed, scale, is_wide))
            }
            _ => both(&|typed| self.values(typed)),
        }
    }

    /// Whether 128 bits hold a numeric expression with so many digits after the point, at least as many as it has.
    fn is_narrow_with(&self, typed: &Typed, scale: u8) -> Result<bool> {
        let more = scale - typed.scale();
        let magnitude = self.magnitude(typed)?.and_then(|most| most.checked_mul(10_u128.checked_pow(more.into())?));
        Ok(self.is_narrow(typed)? && magnitude.is_some_and(|most| most < 10_u128.pow(DIGITS_128.into())))
    }

    /// The values of a numeric expression with so many digits after the point, at least as many as it has, in 128 or 256 bits.
    fn decimals(&self, typed: &Typed, scale: u8, is_wide: bool) -> Result<Expr> {
        let target = match is_wide {
            true => ArrowType::Decimal256(DIGITS_256, scale.cast_signed()),
            false => ArrowType::Decimal128(DIGITS_128, scale.cast_signed()),
        };
        Ok(match &typed.expression {
            Expression::Arithmetic { op, left, right } => {
                let own = typed.scale();
                // What is added has one scale; those of factors are added.
                let of = |typed: &Typed| match op {
                    Operation::Multiply => typed.scale(),
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
            Expression::Case { branches, otherwise } => {
                self.case(branches, otherwise.as_deref(), &|value| self.decimals(value, scale, is_wide))?
            }
            Expression::Extract { part, from } => cast_to(functions::date_part(*part, self.values(from)?), target),
            _ => cast_to(self.values(typed)?, target),
        })
    }

    /// Whether neither a numeric expression nor any part of it has more digits than 128 bits hold.
    pub(super) fn is_narrow(&self, typed: &Typed) -> Result<bool> {
        let most = 10_u128.pow(DIGITS_128.into());
        let fits = self.magnitude(typed)?.is_some_and(|magnitude| magnitude < most) || !typed.value_type.is_wide();
        Ok(match &typed.expression {
            Expression::Arithmetic { left, right, .. } => fits && self.is_narrow(left)? && self.is_narrow(right)?,
            Expression::Case { .. } => {
                let mut values = typed.expression.case_values();
                fits && values.try_fold(true, |fit, value| Ok::<_, PgError>(fit && self.is_narrow(value)?))?
            }
            _ => fits,
        })
    }

    /// The variants of an enum and their numbers in its column, if an expression is one.
    pub(super) fn variants(&self, typed: &Typed) -> Option<(Expr, &Variants)> {
        let Expression::Column(place) = typed.expression else { return None };
        let DataType::Enum(variants) = self.data_type(place) else { return None };
        let TableColumn { table, name, .. } = &self.query.input.columns[place];
        let numbers = match self.snapshots.len() {
            1 => functions::variant_number(column(*table, name)),
            // A join may give texts other numbers, so they were looked at before.
            _ => column(*table, Self::joined_number_name(*table, name)),
        };
        Some((numbers, variants))
    }

    fn bounds(&self, typed: &Typed) -> Result<Bounds> {
        Ok(match typed.expression {
            Expression::Column(place) => self.snapshot_of(place).bounds(self.columns[place])?,
            // Nothing is asked of them but the least and the greatest.
            _ => Bounds::unknown(u64::MAX),
        })
    }

    /// The greatest that a number without its sign and point can be; `None` if that takes more than 128 bits.
    pub(super) fn magnitude(&self, typed: &Typed) -> Result<Option<u128>> {
        let power = |exponent: u8| 10_u128.checked_pow(exponent.into());
        let scaled = |magnitude: Option<u128>, part: &Typed| {
            magnitude?.checked_mul(power(typed.scale().saturating_sub(part.scale()))?)
        };
        Ok(match &typed.expression {
            Expression::Number { digits, .. } => Some(digits.unsigned_abs().into()),
            Expression::Cast(inner) => self.magnitude(inner)?,
            Expression::Case { .. } => {
                let mut most = Some(0);
                for value in typed.expression.case_values() {
                    most = most.zip(scaled(self.magnitude(value)?, value)).map(|(a, b)| a.max(b));
                }
                most
            }
            Expression::Arithmetic { op, left, right } => {
                let (a, b) = (self.magnitude(left)?, self.magnitude(right)?);
                match op {
                    Operation::Multiply => a.zip(b).and_then(|(a, b)| a.checked_mul(b)),
                    Operation::Add | Operation::Subtract => {
                        scaled(a, left).zip(scaled(b, right)).and_then(|(a, b)| a.checked_add(b))
                    }
                }
            }
            _ => {
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
    pub(super) fn is_small(&self, typed: &Typed) -> Result<bool> {
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
            Expression::Case { .. } => {
                let mut most = Some(0.0_f64);
                for value in typed.expression.case_values() {
                    most = most.zip(self.float_magnitude(value)?).map(|(a, b)| a.max(b));
                }
                most
            }
            Expression::Arithmetic { op, left, right } => {
                let operands = self.float_magnitude(left)?.zip(self.float_magnitude(right)?);
                operands.map(|(a, b)| if *op == Operation::Multiply { a * b } else { a + b })
            }
            _ => {
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

/// The Arrow type of values as Postgres has them.
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
