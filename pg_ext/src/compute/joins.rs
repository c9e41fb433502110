//! The rows of a query as a plan of DataFusion's: tables, joined and not.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder};
use soa_core::datafusion::SnapshotTable;
use soa_core::schema::DataType;

use super::expressions::Scope;
use super::{column, failure, functions, table_name};
use crate::error::Result;
use crate::query::{Join, JoinKind, Joined, Side};

/// The rows of a query. `table` gives those of the table in a place that pass its filter.
pub(super) fn rows(scope: &Scope<'_>, table: &dyn Fn(usize) -> Result<SnapshotTable>) -> Result<LogicalPlanBuilder> {
    joined(scope, &scope.query.input.joined, table)
}

fn joined(
    scope: &Scope<'_>,
    tree: &Joined,
    table: &dyn Fn(usize) -> Result<SnapshotTable>,
) -> Result<LogicalPlanBuilder> {
    match tree {
        Joined::Table(place) => {
            let rows = provider_as_source(Arc::new(table(*place)?));
            let mut plan = LogicalPlanBuilder::scan(table_name(*place), rows, None).map_err(failure)?;
            if scope.query.input.tables.len() > 1 {
                plan = plan.project(renamed(scope, *place)).map_err(failure)?;
            }
            match &scope.query.input.tables[*place].condition {
                Some(condition) => plan.filter(scope.values(condition)?).map_err(failure),
                None => Ok(plan),
            }
        }
        Joined::Join(join) => {
            let (left, right) = (joined(scope, &join.left, table)?, joined(scope, &join.right, table)?);
            put_together(scope, join, left, right)
        }
    }
}

/// The columns of a table as they are called where several are joined.
fn renamed(scope: &Scope<'_>, table: usize) -> Vec<Expr> {
    let mut columns = Vec::new();
    for field in scope.schema(table).fields() {
        let stored = column(table, field.name());
        let mut add = |value: Expr, name: String| columns.push(value.alias_qualified(Some(table_name(table)), name));
        if let DataType::Enum(_) = field.data_type() {
            add(functions::variant_number(stored.clone()), Scope::joined_number_name(table, field.name()));
        }
        add(stored, Scope::joined_name(table, field.name()));
    }
    columns
}

fn put_together(
    scope: &Scope<'_>,
    join: &Join,
    left: LogicalPlanBuilder,
    right: LogicalPlanBuilder,
) -> Result<LogicalPlanBuilder> {
    let keys = join.keys.iter().map(|(left, right)| scope.compared(left, right)).collect::<Result<Vec<_>>>()?;
    let (left_keys, right_keys): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
    let condition = join.condition.as_ref().map(|condition| scope.values(condition)).transpose()?;
    // DataFusion keeps the side that it calls the left one.
    let plan = match join.kept {
        Side::Left => {
            let right = right.build().map_err(failure)?;
            left.join_with_expr_keys(right, keeping_left(join.kind), (left_keys, right_keys), condition)
        }
        Side::Right => {
            let left = left.build().map_err(failure)?;
            right.join_with_expr_keys(left, keeping_right(join.kind), (right_keys, left_keys), condition)
        }
    };
    let plan = plan.map_err(failure)?;
    match &join.filter {
        Some(filter) => plan.filter(scope.values(filter)?).map_err(failure),
        None => Ok(plan),
    }
}

fn keeping_left(kind: JoinKind) -> JoinType {
    match kind {
        JoinKind::Inner => JoinType::Inner,
        JoinKind::Left => JoinType::Left,
        JoinKind::Full => JoinType::Full,
        JoinKind::Semi => JoinType::LeftSemi,
        JoinKind::Anti => JoinType::LeftAnti,
    }
}

/// With the sides exchanged.
fn keeping_right(kind: JoinKind) -> JoinType {
    match kind {
        JoinKind::Inner => JoinType::Inner,
        JoinKind::Left => JoinType::Right,
        JoinKind::Full => JoinType::Full,
        JoinKind::Semi => JoinType::RightSemi,
        JoinKind::Anti => JoinType::RightAnti,
    }
}
