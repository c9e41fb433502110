//! From the filters of a query to what a scan may leave out.
//!
//! DuckDB offers a scan its filters and the scan never accepts one: DuckDB compares and copies plans by the
//! scan's parameters alone, so that two scans with different accepted filters would count as one. A filter is
//! read, used to leave out segments, units and rows, and left to DuckDB, which checks every row that comes.
//!
//! **The predicate is never stricter than the filter.** Where an expression has no exact counterpart, it is left
//! out of a conjunction, or replaced by something weaker, unless a NOT above would turn weaker into stricter.

use duckdb_neo::expression::{Expression, ExpressionType};
use duckdb_neo::logical_type::LogicalTypeID;
use duckdb_neo::table_function::PushdownData;
use soa_core::predicate::{CompareOp, Predicate, Scalar};
use soa_core::schema::{DataType, Schema};

use crate::error::Result;
use crate::scan::column_of;
use crate::types;

/// What the filters above a scan say about its rows, as far as it can be said.
pub(crate) fn predicate_of(filters: &PushdownData<'_>, schema: &Schema) -> Result<Option<Predicate>> {
    let reader = Reader { filters, schema };
    let mut parts = Vec::new();
    for index in 0..filters.filter_count()? {
        parts.extend(reader.read(&filters.filter(index)?, Need::Weaker)?);
    }
    Ok((!parts.is_empty()).then_some(Predicate::And(parts)))
}

/// How close a predicate must be to its expression.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// True wherever the expression is true.
    Weaker,
    /// True, false and NULL exactly where the expression is.
    Exact,
}

struct Reader<'a> {
    filters: &'a PushdownData<'a>,
    schema: &'a Schema,
}

impl Reader<'_> {
    fn read(&self, expression: &Expression<'_>, need: Need) -> Result<Option<Predicate>> {
        match expression.expression_type()? {
            ExpressionType::ConjunctionAnd => self.read_and(expression, need),
            ExpressionType::ConjunctionOr => self.read_or(expression, need),
            ExpressionType::OperatorNot => {
                let part = self.read(&expression.child(0)?, Need::Exact)?;
                Ok(part.map(|part| Predicate::Not(Box::new(part))))
            }
            ExpressionType::OperatorIsNull => Ok(self.plain_column(&expression.child(0)?)?.map(Predicate::IsNull)),
            ExpressionType::OperatorIsNotNull => {
                Ok(self.plain_column(&expression.child(0)?)?.map(Predicate::is_not_null))
            }
            ExpressionType::CompareEqual => self.read_comparison(expression, CompareOp::Eq),
            ExpressionType::CompareNotEqual => self.read_comparison(expression, CompareOp::NotEq),
            ExpressionType::CompareLessThan => self.read_comparison(expression, CompareOp::Lt),
            ExpressionType::CompareLessThanOrEqualTo => self.read_comparison(expression, CompareOp::LtEq),
            ExpressionType::CompareGreaterThan => self.read_comparison(expression, CompareOp::Gt),
            ExpressionType::CompareGreaterThanOrEqualTo => self.read_comparison(expression, CompareOp::GtEq),
            ExpressionType::CompareNotDistinctFrom if need == Need::Weaker => {
                self.read_comparison(expression, CompareOp::Eq)
            }
            ExpressionType::CompareBetween if need == Need::Weaker => self.read_between(expression),
            ExpressionType::CompareIn => self.read_in(expression, need),
            ExpressionType::CompareNotIn => {
                let part = self.read_in(expression, Need::Exact)?;
                Ok(part.map(|part| Predicate::Not(Box::new(part))))
            }
            ExpressionType::BoundColumnRef => self.read_bool_column(expression),
            ExpressionType::BoundFunction => self.read_function(expression, need),
            // Whatever else there is has no counterpart.
            _ => Ok(None),
        }
    }

    fn read_and(&self, expression: &Expression<'_>, need: Need) -> Result<Option<Predicate>> {
        let mut parts = Vec::new();
        for child in expression.children()? {
            match self.read(&child, need)? {
                Some(part) => parts.push(part),
                None if need == Need::Weaker => {}
                None => return Ok(None),
            }
        }
        Ok((!parts.is_empty()).then_some(Predicate::And(parts)))
    }

    fn read_or(&self, expression: &Expression<'_>, need: Need) -> Result<Option<Predicate>> {
        let mut parts = Vec::new();
        for child in expression.children()? {
            let Some(part) = self.read(&child, need)? else { return Ok(None) };
            parts.push(part);
        }
        Ok(Some(Predicate::Or(parts)))
    }

    fn read_comparison(&self, expression: &Expression<'_>, op: CompareOp) -> Result<Option<Predicate>> {
        let (left, right) = (expression.child(0)?, expression.child(1)?);
        if let Some(column) = self.column(&left)? {
            return Ok(self.constant(column, &right)?.map(|value| Predicate::compare(column, op, value)));
        }
        let Some(column) = self.column(&right)? else { return Ok(None) };
        Ok(self.constant(column, &left)?.map(|value| Predicate::compare(column, op.flipped(), value)))
    }

    /// DuckDB does not tell whether an end of BETWEEN belongs to it, so both are taken to.
    fn read_between(&self, expression: &Expression<'_>) -> Result<Option<Predicate>> {
        let Some(column) = self.column(&expression.child(0)?)? else { return Ok(None) };
        let low = self.constant(column, &expression.child(1)?)?;
        let high = self.constant(column, &expression.child(2)?)?;
        Ok(match (low, high) {
            (Some(low), Some(high)) => Some(Predicate::between(column, low, high)),
            (Some(low), None) => Some(Predicate::compare(column, CompareOp::GtEq, low)),
            (None, Some(high)) => Some(Predicate::compare(column, CompareOp::LtEq, high)),
            (None, None) => None,
        })
    }

    fn read_in(&self, expression: &Expression<'_>, need: Need) -> Result<Option<Predicate>> {
        let mut children = expression.children()?.into_iter();
        let Some(tested) = children.next() else { return Ok(None) };
        let Some(column) = self.column(&tested)? else { return Ok(None) };
        let mut values = Vec::new();
        for child in children {
            if child.expression_type()? != ExpressionType::ValueConstant {
                return Ok(None);
            }
            match self.constant(column, &child)? {
                Some(value) => values.push(value),
                // No row equals NULL; but with a NULL in the list no row is surely outside of it either.
                None if need == Need::Weaker && child.get_constant_value()?.is_null()? => {}
                None => return Ok(None),
            }
        }
        Ok(Some(Predicate::In { column, values }))
    }

    /// `WHERE flag`.
    fn read_bool_column(&self, expression: &Expression<'_>) -> Result<Option<Predicate>> {
        let column = self.plain_column(expression)?;
        let is_bool = |column: &usize| matches!(self.schema.field(*column).data_type(), DataType::Bool);
        Ok(column.filter(is_bool).map(|column| Predicate::eq(column, Scalar::Bool(true))))
    }

    /// What DuckDB makes of `LIKE 'abc%'`, and `LIKE` itself.
    fn read_function(&self, expression: &Expression<'_>, need: Need) -> Result<Option<Predicate>> {
        let name = expression.function_name()?;
        let is_prefix = matches!(name.as_str(), "prefix" | "starts_with" | "^@");
        if !(is_prefix || (name == "~~" && need == Need::Weaker)) || expression.child_count()? != 2 {
            return Ok(None);
        }
        // DuckDB's own functions are in its system catalog, or in none if the optimizer made the call.
        let path = expression.qname()?.parts()?;
        if path.len() > 1 && path[0] != "system" {
            return Ok(None);
        }
        let Some(column) = self.plain_column(&expression.child(0)?)? else { return Ok(None) };
        let Some(Scalar::Utf8(text)) = self.constant(column, &expression.child(1)?)? else { return Ok(None) };
        let prefix = if is_prefix { text.as_str() } else { text.split(['%', '_']).next().unwrap_or_default() };
        Ok((!prefix.is_empty()).then(|| Predicate::StartsWith { column, prefix: prefix.to_owned() }))
    }

    /// The column that an expression is, also under casts that keep its values and their order.
    fn column(&self, expression: &Expression<'_>) -> Result<Option<usize>> {
        if expression.expression_type()? != ExpressionType::OperatorCast {
            return self.plain_column(expression);
        }
        let Some(column) = self.plain_column(&expression.child(0)?)? else { return Ok(None) };
        let target: LogicalTypeID = expression.return_type()?.id()?;
        Ok(types::cast_keeps_values(self.schema.field(column).data_type(), target).then_some(column))
    }

    fn plain_column(&self, expression: &Expression<'_>) -> Result<Option<usize>> {
        if expression.expression_type()? != ExpressionType::BoundColumnRef {
            return Ok(None);
        }
        let column = column_of(self.filters.get_column_index(expression.reference_index()?)?);
        Ok(column.filter(|column| *column < self.schema.len()))
    }

    fn constant(&self, column: usize, expression: &Expression<'_>) -> Result<Option<Scalar>> {
        if expression.expression_type()? != ExpressionType::ValueConstant {
            return Ok(None);
        }
        types::scalar(self.schema.field(column).data_type(), &expression.get_constant_value()?)
    }
}
