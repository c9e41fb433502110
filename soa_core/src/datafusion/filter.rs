//! From the filters of a plan to what a scan may leave out.
//!
//! DataFusion tests the rows that a scan gives again, so a [`Predicate`] must be true **wherever the filter is**, and may be
//! true in more places. Under a NOT it is the places where the filter is *false* that must be kept; hence every expression is
//! read for one of the two answers that is wanted, and what has no counterpart is left out of what must all be so.

use datafusion::common::ScalarValue;
use datafusion::logical_expr::Operator;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{
    BinaryExpr, CastExpr, Column, DynamicFilterPhysicalExpr, InListExpr, IsNotNullExpr, IsNullExpr, LikeExpr, Literal,
    NotExpr,
};

use arrow::datatypes::DataType as ArrowType;

use super::types::{self, nothing};
use crate::predicate::{CompareOp, Predicate, Scalar};
use crate::schema::{DataType, Schema};

/// A predicate that is true wherever `filter` is. Columns of the filter are those of the table. `None` if the filter says
/// nothing that the store understands.
pub(super) fn predicate_of(filter: &dyn PhysicalExpr, schema: &Schema) -> Option<Predicate> {
    read(filter, schema, true)
}

/// A predicate that is true wherever `expression` is `wanted`.
fn read(expression: &dyn PhysicalExpr, schema: &Schema, wanted: bool) -> Option<Predicate> {
    if let Some(binary) = expression.downcast_ref::<BinaryExpr>() {
        return read_binary(binary, schema, wanted);
    }
    if let Some(not) = expression.downcast_ref::<NotExpr>() {
        return read(not.arg().as_ref(), schema, !wanted);
    }
    if let Some(is_null) = expression.downcast_ref::<IsNullExpr>() {
        return null_test(is_null.arg().as_ref(), schema, wanted);
    }
    if let Some(is_not_null) = expression.downcast_ref::<IsNotNullExpr>() {
        return null_test(is_not_null.arg().as_ref(), schema, !wanted);
    }
    if let Some(in_list) = expression.downcast_ref::<InListExpr>() {
        return read_in(in_list, schema, wanted != in_list.negated());
    }
    if let Some(like) = expression.downcast_ref::<LikeExpr>() {
        return read_like(like, schema, wanted != like.negated());
    }
    if let Some(literal) = expression.downcast_ref::<Literal>() {
        return match literal.value() {
            ScalarValue::Boolean(Some(value)) if *value == wanted => Some(Predicate::And(Vec::new())),
            ScalarValue::Boolean(_) => Some(nothing()),
            _ => None,
        };
    }
    // What a running query has found out so far, such as the least of the ten largest values.
    if let Some(dynamic) = expression.downcast_ref::<DynamicFilterPhysicalExpr>() {
        return read(dynamic.current().ok()?.as_ref(), schema, wanted);
    }
    let column = bool_column(expression, schema)?;
    Some(Predicate::eq(column, Scalar::Bool(wanted)))
}

fn read_binary(binary: &BinaryExpr, schema: &Schema, wanted: bool) -> Option<Predicate> {
    let (left, right) = (binary.left().as_ref(), binary.right().as_ref());
    let op = match binary.op() {
        Operator::And => return read_connected(binary, schema, wanted, wanted),
        Operator::Or => return read_connected(binary, schema, wanted, !wanted),
        Operator::IsNotDistinctFrom => return read_not_distinct(left, right, schema, wanted),
        Operator::IsDistinctFrom => return read_not_distinct(left, right, schema, !wanted),
        Operator::Eq => CompareOp::Eq,
        Operator::NotEq => CompareOp::NotEq,
        Operator::Lt => CompareOp::Lt,
        Operator::LtEq => CompareOp::LtEq,
        Operator::Gt => CompareOp::Gt,
        Operator::GtEq => CompareOp::GtEq,
        _ => return None,
    };
    let op = if wanted { op } else { negated(op) };
    match (Operand::of(left, schema), literal(right)) {
        (Some(operand), Some(constant)) => operand.compare(schema, op, constant),
        _ => Operand::of(right, schema)?.compare(schema, op.flipped(), literal(left)?),
    }
}

/// A chain of AND or OR, of any length. `all` says whether every part must be as `wanted`, or one.
fn read_connected(binary: &BinaryExpr, schema: &Schema, wanted: bool, all: bool) -> Option<Predicate> {
    let mut parts = Vec::new();
    let mut to_read: Vec<&dyn PhysicalExpr> = vec![binary.right().as_ref(), binary.left().as_ref()];
    while let Some(next) = to_read.pop() {
        match next.downcast_ref::<BinaryExpr>().filter(|inner| inner.op() == binary.op()) {
            Some(inner) => to_read.extend([inner.right().as_ref(), inner.left().as_ref()]),
            None => match read(next, schema, wanted) {
                Some(part) => parts.push(part),
                None if all => {}
                None => return None,
            },
        }
    }
    if all { (!parts.is_empty()).then_some(Predicate::And(parts)) } else { Some(Predicate::Or(parts)) }
}

/// `left IS NOT DISTINCT FROM right`, which is never NULL; `x IS TRUE` among it.
fn read_not_distinct(
    left: &dyn PhysicalExpr,
    right: &dyn PhysicalExpr,
    schema: &Schema,
    wanted: bool,
) -> Option<Predicate> {
    let (tested, constant) = match literal(right) {
        Some(constant) => (left, constant),
        None => (right, literal(left)?),
    };
    if constant.is_null() {
        return null_test(tested, schema, wanted);
    }
    if let Some(operand) = Operand::of(tested, schema) {
        return if wanted {
            operand.compare(schema, CompareOp::Eq, constant)
        } else {
            let differs = operand.compare(schema, CompareOp::NotEq, constant)?;
            Some(Predicate::Or(vec![Predicate::IsNull(operand.column), differs]))
        };
    }
    match constant {
        ScalarValue::Boolean(Some(value)) if wanted => read(tested, schema, *value),
        _ => None,
    }
}

fn null_test(expression: &dyn PhysicalExpr, schema: &Schema, wanted: bool) -> Option<Predicate> {
    let column = plain_column(expression, schema)?;
    Some(if wanted { Predicate::IsNull(column) } else { Predicate::is_not_null(column) })
}

fn read_in(in_list: &InListExpr, schema: &Schema, wanted: bool) -> Option<Predicate> {
    let operand = Operand::of(in_list.expr().as_ref(), schema)?;
    if in_list.is_empty() {
        return None;
    }
    let constants = in_list.list().iter().map(|item| literal(item.as_ref()));
    let mut exact = Vec::new();
    let mut others = Vec::new();
    for constant in constants {
        let op = if wanted { CompareOp::Eq } else { CompareOp::NotEq };
        match constant.and_then(|constant| operand.compare(schema, op, constant)) {
            Some(Predicate::Compare { value, .. }) => exact.push(value),
            Some(other) => others.push(other),
            // What may be equal to this one must be kept; what is to differ from all can do without it.
            None if wanted => return None,
            None => {}
        }
    }
    let listed = Predicate::In { column: operand.column, values: exact };
    if wanted {
        others.push(listed);
        return Some(Predicate::Or(others));
    }
    others.push(Predicate::Not(Box::new(listed)));
    Some(Predicate::And(others))
}

fn read_like(like: &LikeExpr, schema: &Schema, wanted: bool) -> Option<Predicate> {
    let operand = Operand::of(like.expr().as_ref(), schema)?;
    let is_text = matches!(schema.field(operand.column).data_type(), DataType::Utf8 | DataType::Enum(_))
        && operand.cast.is_none_or(types::is_text);
    if like.case_insensitive() || !is_text {
        return None;
    }
    let pattern = literal(like.pattern().as_ref())?;
    if pattern.is_null() {
        return Some(nothing());
    }
    let (prefix, rest) = like_prefix(types::text(pattern)?);
    if wanted && prefix.is_empty() {
        return Some(Predicate::is_not_null(operand.column));
    }
    let begins = Predicate::StartsWith { column: operand.column, prefix };
    match (wanted, rest) {
        (true, _) => Some(begins),
        (false, "%") => Some(Predicate::Not(Box::new(begins))),
        (false, _) => None,
    }
}

/// What a text that matches a LIKE pattern begins with, and the rest of the pattern.
fn like_prefix(pattern: &str) -> (String, &str) {
    let mut prefix = String::new();
    let mut chars = pattern.chars();
    loop {
        let rest = chars.as_str();
        match chars.next() {
            None | Some('%' | '_') => return (prefix, rest),
            Some('\\') => match chars.next() {
                Some(escaped @ ('%' | '_')) => prefix.push(escaped),
                _ => return (prefix, rest),
            },
            Some(other) => prefix.push(other),
        }
    }
}

fn negated(op: CompareOp) -> CompareOp {
    match op {
        CompareOp::Eq => CompareOp::NotEq,
        CompareOp::NotEq => CompareOp::Eq,
        CompareOp::Lt => CompareOp::GtEq,
        CompareOp::LtEq => CompareOp::Gt,
        CompareOp::Gt => CompareOp::LtEq,
        CompareOp::GtEq => CompareOp::Lt,
    }
}

fn literal(expression: &dyn PhysicalExpr) -> Option<&ScalarValue> {
    expression.downcast_ref::<Literal>().map(Literal::value)
}

/// A column, perhaps under a cast.
struct Operand<'a> {
    column: usize,
    cast: Option<&'a ArrowType>,
}

impl<'a> Operand<'a> {
    fn of(expression: &'a dyn PhysicalExpr, schema: &Schema) -> Option<Self> {
        match expression.downcast_ref::<CastExpr>() {
            None => Some(Self { column: plain_column(expression, schema)?, cast: None }),
            Some(cast) => {
                let column = plain_column(cast.expr().as_ref(), schema)?;
                let own = schema.field(column).data_type().to_arrow();
                Some(Self { column, cast: Some(cast.cast_type()).filter(|cast| **cast != own) })
            }
        }
    }

    fn compare(&self, schema: &Schema, op: CompareOp, constant: &ScalarValue) -> Option<Predicate> {
        types::compare(self.column, schema.field(self.column).data_type(), self.cast, op, constant)
    }
}

fn plain_column(expression: &dyn PhysicalExpr, schema: &Schema) -> Option<usize> {
    let column = expression.downcast_ref::<Column>()?.index();
    (column < schema.len()).then_some(column)
}

fn bool_column(expression: &dyn PhysicalExpr, schema: &Schema) -> Option<usize> {
    plain_column(expression, schema).filter(|column| matches!(schema.field(*column).data_type(), DataType::Bool))
}
