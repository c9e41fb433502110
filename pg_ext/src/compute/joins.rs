//! The rows of a query as a plan of DataFusion's: tables, joined and not.

use std::sync::Arc;

use datafusion::common::JoinType;
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlanBuilder, lit};
use soa_core::datafusion::SnapshotTable;
use soa_core::schema::DataType;

use super::expressions::Scope;
use super::pieces::SidesToJoin;
use super::{column, failure, functions, table_name};
use crate::error::Result;
use crate::query::{Join, JoinKind, Joined, Side};

/// A side of a join that has no more rows than these fits in memory, whatever else does not.
const FEW_ROWS: u64 = 10_000;

/// Where the rows of a query come from.
pub(super) struct Inputs<'a> {
    pub(super) scope: &'a Scope<'a>,
    /// The rows of the table in a place that pass its filter.
    pub(super) table: &'a dyn Fn(usize) -> Result<SnapshotTable>,
    /// Whether a column of its store is used.
    pub(super) is_used: &'a dyn Fn(usize, &str) -> bool,
    /// What plans joins that are done in pieces; `None` if they are done at once.
    pub(super) in_pieces: Option<&'a Arc<SessionState>>,
}

impl Inputs<'_> {
    /// The rows of the query.
    pub(super) fn rows(&self) -> Result<LogicalPlanBuilder> {
        self.joined(&self.scope.query.input.joined)
    }

    fn joined(&self, tree: &Joined) -> Result<LogicalPlanBuilder> {
        match tree {
            Joined::Table(place) => {
                let rows = provider_as_source(Arc::new((self.table)(*place)?));
                let mut plan = LogicalPlanBuilder::scan(table_name(*place), rows, None).map_err(failure)?;
                if self.scope.query.input.tables.len() > 1 {
                    plan = plan.project(self.renamed(*place)).map_err(failure)?;
                }
                match &self.scope.query.input.tables[*place].condition {
                    Some(condition) => plan.filter(self.scope.values(condition)?).map_err(failure),
                    None => Ok(plan),
                }
            }
            Joined::Join(join) => {
                let sides = self.sides_to_join(join)?;
                let kept = if join.kept == Side::Left { &join.left } else { &join.right };
                let plan = match self.in_pieces.filter(|_| !self.is_small(kept)) {
                    Some(state) => sides.in_pieces(&table_name(kept.first_table()), state),
                    None => sides.whole(),
                };
                let plan = plan.map_err(failure)?;
                match &join.filter {
                    Some(filter) => plan.filter(self.scope.values(filter)?).map_err(failure),
                    None => Ok(plan),
                }
            }
        }
    }

    fn is_small(&self, side: &Joined) -> bool {
        matches!(side, Joined::Table(table) if self.scope.row_count_of(*table) <= FEW_ROWS)
    }

    /// The columns of a table that are used, as they are called where several are joined.
    fn renamed(&self, table: usize) -> Vec<Expr> {
        let scope = self.scope;
        let mut columns = Vec::new();
        for field in scope.schema(table).fields().iter().filter(|field| (self.is_used)(table, field.name())) {
            let stored = column(table, field.name());
            let mut add =
                |value: Expr, name: String| columns.push(value.alias_qualified(Some(table_name(table)), name));
            if let DataType::Enum(_) = field.data_type() {
                add(functions::variant_number(stored.clone()), Scope::joined_number_name(table, field.name()));
            }
            add(stored, Scope::joined_name(table, field.name()));
        }
        if columns.is_empty() {
            // Rows without columns cannot be told from no rows everywhere.
            columns.push(lit(true).alias_qualified(Some(table_name(table)), table_name(table)));
        }
        columns
    }

    fn sides_to_join(&self, join: &Join) -> Result<SidesToJoin> {
        let side = |tree: &Joined| self.joined(tree)?.build().map_err(failure);
        let (left, right) = (side(&join.left)?, side(&join.right)?);
        let keys =
            join.keys.iter().map(|(left, right)| self.scope.compared(left, right)).collect::<Result<Vec<_>>>()?;
        let (of_left, of_right): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
        let condition = join.condition.as_ref().map(|condition| self.scope.values(condition)).transpose()?;
        // DataFusion keeps the side that it calls the left one.
        Ok(match join.kept {
            Side::Left => SidesToJoin {
                sides: (left, right),
                kind: keeping_left(join.kind),
                keys: (of_left, of_right),
                condition,
            },
            Side::Right => SidesToJoin {
                sides: (right, left),
                kind: keeping_right(join.kind),
                keys: (of_right, of_left),
                condition,
            },
        })
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
