//! Joins: whether the store can compute one, and how that is said.
//!
//! The planner puts a query's relations together in all orders that make sense, two sides at a time, and offers each such pair.
//! Where the store can compute both sides and every condition between them, it can compute the join; of the orders that lead to
//! the same relations the cheapest is kept ([`PlannedJoin`]), for the joins above and for what follows them all.

use std::ffi::c_void;
use std::ptr;

use pgrx::{is_a, pg_sys};
use soa_core::predicate::CompareOp;

use super::computed::is_equal;
use super::planner::{self, Left, Planned, PlannedJoin};
use super::source::Source;
use super::{compat, list, run, settings};
use crate::compute::FIRST_PIECES;
use crate::error::{Result, Step};
use crate::plan::{self, Sides};
use crate::query::{GivenColumn, JOIN_DEPTH_MAX, Join, JoinKind, Side, Typed, Wanted};

/// What a row takes in memory beside its values: its hash, its place and the way to the next one.
const KEPT_ROW_OVERHEAD: f64 = 32.0;

/// Offers to join two sides before Postgres sees rows.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn get_foreign_join_paths(
    root: *mut pg_sys::PlannerInfo,
    joined: *mut pg_sys::RelOptInfo,
    outer: *mut pg_sys::RelOptInfo,
    inner: *mut pg_sys::RelOptInfo,
    kind: pg_sys::JoinType::Type,
    extra: *mut pg_sys::JoinPathExtraData,
) {
    run(Step::JoinPaths, || {
        // SAFETY: the planner passes its state.
        let state = unsafe { &*root };
        // SAFETY: which has the query.
        let command = unsafe { (*state.parse).commandType };
        let is_read = [pg_sys::CmdType::CMD_SELECT, pg_sys::CmdType::CMD_INSERT].contains(&command);
        let Some(kind) = kind_of(kind) else { return Ok(()) };
        // SAFETY: the planner passes the two sides.
        let sides = (unsafe { &*outer }, unsafe { &*inner });
        // SAFETY: and the relation of what is joined, which nobody changes now.
        let relation = unsafe { &*joined };
        let is_plain = relation.reloptkind == pg_sys::RelOptKind::RELOPT_JOINREL && relation.lateral_relids.is_null();
        // Rows that are locked or changed are looked at again one by one.
        if !is_read || !state.rowMarks.is_null() || !is_plain {
            return Ok(());
        }
        let (Some(left), Some(right)) = (Planned::source_of(sides.0), Planned::source_of(sides.1)) else {
            return Ok(());
        };
        // Of one that the store tests all conditions of more can be made.
        let known = Planned::source_of(relation).map(|known| (!known.is_whole(), known.cost));
        let is_best = |is_whole: bool, cost: f64| known.is_some_and(|known| known <= (!is_whole, cost));
        // SAFETY: the planner passes what else there is to know of the two.
        let extra = unsafe { &*extra };
        let joining = Joining { root, relation, sides, kind, special: extra.sjinfo };
        // To put the sides together costs more than to see that this is no better.
        if is_best(left.is_whole() && right.is_whole(), joining.least_cost(left, right)) {
            return Ok(());
        }
        // SAFETY: the conditions are a list of these.
        let conditions = unsafe { list::elements(extra.restrictlist) };
        // SAFETY: the conditions are the planner's.
        let source = unsafe { joining.source(left, right, &conditions)? };
        let source = match source {
            Ok(source) => source,
            Err(unknown) => {
                for why in unknown {
                    Planned::leave(sides.1, why);
                }
                return Ok(());
            }
        };
        // SAFETY: the relation's target is a list of expressions.
        let Some(columns) = (unsafe { JoinColumns::new(relation, &source) }) else { return Ok(()) };
        if is_best(source.is_whole(), source.cost) {
            return Ok(());
        }
        // SAFETY: the planner's pointers are live.
        unsafe { add_path(root, joined, &source, &columns)? };
        let left = Left::new(source.untested.iter().map(|untested| untested.why.clone()).collect());
        let planned = PlannedJoin { source, given: columns.wanted, target: columns.target_of_wanted, left };
        // SAFETY: nobody else has the relation now.
        Planned::Join(planned).keep_in(unsafe { &mut *joined });
        Ok(())
    });
}

/// The kind of a join; `None` for those that are the same with their sides exchanged, which are offered too, and for those that
/// are made of others.
fn kind_of(kind: pg_sys::JoinType::Type) -> Option<JoinKind> {
    match kind {
        pg_sys::JoinType::JOIN_INNER => Some(JoinKind::Inner),
        pg_sys::JoinType::JOIN_LEFT => Some(JoinKind::Left),
        pg_sys::JoinType::JOIN_FULL => Some(JoinKind::Full),
        pg_sys::JoinType::JOIN_SEMI => Some(JoinKind::Semi),
        pg_sys::JoinType::JOIN_ANTI => Some(JoinKind::Anti),
        _ => None,
    }
}

/// Two sides that are joined.
struct Joining<'a> {
    root: *mut pg_sys::PlannerInfo,
    relation: &'a pg_sys::RelOptInfo,
    sides: (&'a pg_sys::RelOptInfo, &'a pg_sys::RelOptInfo),
    kind: JoinKind,
    special: *mut pg_sys::SpecialJoinInfo,
}

impl Joining<'_> {
    /// What comes of the two sides; if that is Postgres' to compute, why, as far as it is for their conditions.
    ///
    /// # Safety
    ///
    /// The conditions are the planner's.
    unsafe fn source(
        &self,
        left: &Source,
        right: &Source,
        conditions: &[*mut pg_sys::RestrictInfo],
    ) -> Result<std::result::Result<Source, Vec<String>>> {
        let (mut source, left_joined, right_joined) = left.beside(right);
        if left_joined.depth().max(right_joined.depth()) >= JOIN_DEPTH_MAX {
            return Ok(Err(Vec::new()));
        }
        if !self.keeps_untested(left, right) {
            return Ok(Err(Vec::new()));
        }
        let (mut keys, mut tested, mut filters) = (Vec::new(), Vec::new(), Vec::new());
        let (mut key_nodes, mut unknown, known) = (Vec::new(), Vec::new(), source.untested.len());
        for node in conditions {
            // SAFETY: as the caller promises.
            let condition = unsafe { &**node };
            if condition.pseudoconstant {
                return Ok(Err(Vec::new()));
            }
            // SAFETY: as above.
            let is_of_result = unsafe { self.is_of_result(condition) };
            // SAFETY: as above.
            let key = if is_of_result { None } else { unsafe { self.key(&source, condition) } };
            if let Some(key) = key {
                keys.push(key);
                key_nodes.push(*node);
                continue;
            }
            // SAFETY: as above.
            match unsafe { source.condition(condition.clause.cast()) } {
                Some(filter) if is_of_result => filters.push(filter),
                Some(condition) => tested.push(condition),
                None => {
                    // SAFETY: as above.
                    unsafe { source.leave(condition.clause, "JOIN") };
                    unknown.push((condition.clause, is_of_result || self.kind == JoinKind::Inner));
                }
            }
        }
        let own = &source.untested[known..];
        let can_be_left = unknown.iter().all(|(_, can_be_left)| *can_be_left);
        // SAFETY: the planner's state is live.
        if !can_be_left || !unsafe { planner::may_be_tested_later(self.root, own) } {
            return Ok(Err(own.iter().map(|untested| untested.why.clone()).collect()));
        }
        // SAFETY: the conditions are the query's.
        let passing = unsafe { planner::selectivity(self.root, list::of(unknown.iter().map(|(node, _)| *node)), 0) };
        // The other side's columns, which are all NULL then, are not in what is joined.
        if self.kind == JoinKind::Anti && (!filters.is_empty() || known < source.untested.len()) {
            return Ok(Err(vec!["JOIN: conditions on what an anti join gives".to_owned()]));
        }
        let (kept, bytes) = self.kept(left, right);
        source.memory += bytes;
        if keys.is_empty() {
            return Ok(Err(vec!["JOIN: nothing must be equal on both sides".to_owned()]));
        }
        source.set_join(Join {
            kind: self.kind,
            left: left_joined,
            right: right_joined,
            kept,
            keys,
            condition: Typed::all(tested),
            filter: Typed::all(filters),
        });
        // SAFETY: the conditions are the planner's.
        let rows = unsafe { self.rows(left, right, &key_nodes, passing) };
        let cost = self.cost(left, right, source.memory, rows);
        Ok(Ok(source.costing(cost, rows)))
    }

    /// The side that is kept in memory, and the bytes that it takes there.
    fn kept(&self, left: &Source, right: &Source) -> (Side, f64) {
        let (of_left, of_right) = (kept_bytes(left, self.sides.0), kept_bytes(right, self.sides.1));
        if of_left < of_right { (Side::Left, of_left) } else { (Side::Right, of_right) }
    }

    /// What it costs to come by so many joined rows.
    fn cost(&self, left: &Source, right: &Source, memory: f64, joined: f64) -> f64 {
        let (kept, others) = match self.kept(left, right).0 {
            Side::Left => (left.rows, right.rows),
            Side::Right => (right.rows, left.rows),
        };
        // What does not fit in memory is done in pieces, for each of which both sides are read.
        let times = if memory > settings::work_mem() as f64 / 2.0 { FIRST_PIECES as f64 } else { 1.0 };
        let sides = Sides { kept, others, joined };
        (left.cost + right.cost) * times + plan::join_cost(planner::cost_settings(), sides)
    }

    /// What the join costs at least, whatever is known of its conditions.
    fn least_cost(&self, left: &Source, right: &Source) -> f64 {
        let memory = left.memory + right.memory + self.kept(left, right).1;
        // SAFETY: there are no conditions to look at.
        let rows = unsafe { self.rows(left, right, &[], 1.0) };
        self.cost(left, right, memory, rows)
    }

    /// Whether what Postgres tests of the sides' rows can as well be tested of what the join makes of them: it has them all, as
    /// they are, but for those without partners.
    fn keeps_untested(&self, left: &Source, right: &Source) -> bool {
        match self.kind {
            JoinKind::Inner => true,
            JoinKind::Left | JoinKind::Semi | JoinKind::Anti => right.is_whole(),
            JoinKind::Full => left.is_whole() && right.is_whole(),
        }
    }

    /// How many rows come of the two sides, a part of which pass the conditions that Postgres tests. The planner takes conditions
    /// for independent of each other. But several keys mostly are one key of several columns, so that all but the most selective
    /// follow from that one; and a side that is taken for smaller than it is would be kept in memory.
    ///
    /// # Safety
    ///
    /// The keys are conditions of the planner's.
    unsafe fn rows(&self, left: &Source, right: &Source, keys: &[*mut pg_sys::RestrictInfo], passing: f64) -> f64 {
        let (outer, inner) = (self.sides.0.rows.max(1.0), self.sides.1.rows.max(1.0));
        // The planner keeps what it reckons of a condition, for joins of its own: it must be asked of the same kind of join.
        let pairs = || {
            let selectivities = keys.iter().map(|key| {
                let (key, kind) = (key.cast(), pg_sys::JoinType::JOIN_INNER);
                // SAFETY: as the caller promises.
                unsafe { pg_sys::clause_selectivity(self.root, key, 0, kind, self.special) }
            });
            let selectivities: Vec<f64> = selectivities.map(|selectivity| selectivity.clamp(1e-15, 1.0)).collect();
            let least = selectivities.iter().copied().fold(1.0, f64::min);
            let others = selectivities.iter().product::<f64>() / least;
            left.rows * right.rows * (self.relation.rows / (outer * inner) / others / passing).min(1.0)
        };
        match self.kind {
            JoinKind::Inner => pairs(),
            JoinKind::Left => pairs().max(left.rows),
            JoinKind::Full => pairs().max(left.rows + right.rows),
            JoinKind::Semi | JoinKind::Anti => left.rows * (self.relation.rows / outer).min(1.0),
        }
        .max(1.0)
    }

    /// Whether a condition is one on what an outer join gives, not one that decides who is whose partner.
    ///
    /// # Safety
    ///
    /// The condition is the planner's.
    unsafe fn is_of_result(&self, condition: &pg_sys::RestrictInfo) -> bool {
        // SAFETY: both sets are the planner's.
        let is_above = || unsafe { !pg_sys::bms_is_subset(condition.required_relids, self.relation.relids) };
        let is_outer = matches!(self.kind, JoinKind::Left | JoinKind::Full | JoinKind::Anti);
        is_outer && (condition.is_pushed_down || is_above())
    }

    /// What must be equal of the left side and of the right, if that is what a condition says.
    ///
    /// # Safety
    ///
    /// The condition is the planner's.
    unsafe fn key(&self, source: &Source, condition: &pg_sys::RestrictInfo) -> Option<(Typed, Typed)> {
        // SAFETY: as the caller promises.
        if !unsafe { is_a(condition.clause.cast(), pg_sys::NodeTag::T_OpExpr) } {
            return None;
        }
        // SAFETY: the tag says so.
        let call = unsafe { &*condition.clause.cast::<pg_sys::OpExpr>() };
        // SAFETY: the call is a condition of the query.
        let (op, first, second) = unsafe { source.computable.comparison(call)? };
        if op != CompareOp::Eq || first.can_fail() || second.can_fail() {
            return None;
        }
        // SAFETY: the sets are the planner's; those of an operator's sides are null if it has not two.
        let is_of = |columns, side: &pg_sys::RelOptInfo| unsafe { pg_sys::bms_is_subset(columns, side.relids) };
        let (of_first, of_second) = (condition.left_relids, condition.right_relids);
        if of_first.is_null() || of_second.is_null() {
            None
        } else if is_of(of_first, self.sides.0) && is_of(of_second, self.sides.1) {
            Some((first, second))
        } else if is_of(of_first, self.sides.1) && is_of(of_second, self.sides.0) {
            Some((second, first))
        } else {
            None
        }
    }
}

/// What a side takes that is kept in memory.
fn kept_bytes(source: &Source, relation: &pg_sys::RelOptInfo) -> f64 {
    // SAFETY: a relation has a target.
    let width = f64::from(unsafe { (*relation.reltarget).width });
    source.rows * (width + KEPT_ROW_OVERHEAD)
}

/// The columns of what is joined.
struct JoinColumns {
    /// Those that the query wants, and the same as target entries.
    wanted: Vec<GivenColumn>,
    target_of_wanted: *mut pg_sys::List,
    /// These, and those that Postgres tests conditions by.
    given: Vec<GivenColumn>,
    target: *mut pg_sys::List,
}

impl JoinColumns {
    /// `None` if one is no column of a table.
    ///
    /// # Safety
    ///
    /// The relation is the planner's.
    unsafe fn new(relation: &pg_sys::RelOptInfo, source: &Source) -> Option<Self> {
        // SAFETY: a relation has a target.
        let target = unsafe { &*relation.reltarget };
        // SAFETY: which is a list of expressions.
        let mut nodes: Vec<*mut pg_sys::Node> = unsafe { list::elements(target.exprs) };
        let wanted = nodes.len();
        // SAFETY: the conditions are a list of the query's.
        let tested = unsafe { pg_sys::pull_var_clause(source.untested_list().cast(), 0) };
        // SAFETY: the result is a list of columns.
        for node in unsafe { list::elements::<pg_sys::Node>(tested) } {
            if !nodes.iter().any(|known| is_equal(*known, node)) {
                nodes.push(node);
            }
        }
        // SAFETY: the expressions are live.
        let given = nodes.iter().map(|node| unsafe { given_column(*node, source) }).collect::<Option<Vec<_>>>()?;
        let entries = nodes.into_iter().zip(1..).map(|(node, number)| {
            // SAFETY: the expression is the planner's; the entry has no name.
            unsafe { pg_sys::makeTargetEntry(node.cast(), number, ptr::null_mut(), false) }
        });
        let entries: Vec<_> = entries.collect();
        let (wanted, of_wanted) = (given[..wanted].to_vec(), entries.iter().take(wanted).copied());
        let (target_of_wanted, target) = (list::of(of_wanted), list::of(entries.iter().copied()));
        Some(Self { wanted, target_of_wanted, given, target })
    }
}

/// The column of a table that an expression is, if it is one that a join has.
///
/// # Safety
///
/// The node is an expression of the query.
unsafe fn given_column(node: *mut pg_sys::Node, source: &Source) -> Option<GivenColumn> {
    // SAFETY: as the caller promises.
    if !unsafe { is_a(node, pg_sys::NodeTag::T_Var) } {
        return None;
    }
    // SAFETY: the tag says so.
    let var = unsafe { &*node.cast::<pg_sys::Var>() };
    // Of an anti join Postgres may ask for the other side's columns, which are NULL.
    let table = source.given_table(var.varno)?;
    (var.varattno > 0).then_some(GivenColumn { table, number: var.varattno })
}

/// # Safety
///
/// The planner's pointers are live.
unsafe fn add_path(
    root: *mut pg_sys::PlannerInfo,
    joined: *mut pg_sys::RelOptInfo,
    source: &Source,
    columns: &JoinColumns,
) -> Result<()> {
    let untested = source.untested_list();
    let mut testing = pg_sys::QualCost::default();
    // SAFETY: as the caller promises, and the conditions are a list of the query's.
    unsafe { pg_sys::cost_qual_eval(&raw mut testing, untested, root) };
    let given = columns.given.clone();
    let cost = plan::rows_cost(planner::cost_settings(), source.cost, source.rows, given.len());
    let startup_cost = cost.startup + testing.startup;
    let (query, reader) = source.clone().into_query(Wanted::Rows { columns: given }, Vec::new());
    let of_query = planner::private_of_path(query, &reader)?;
    // SAFETY: that is a list of two.
    let of_query: Vec<*mut c_void> = unsafe { list::elements(of_query) };
    // SAFETY: as the caller promises.
    let rows = unsafe { (*joined).rows };
    let shape = compat::ComputedPath {
        target: ptr::null_mut(),
        rows,
        startup_cost,
        total_cost: startup_cost + cost.run + testing.per_tuple * source.rows,
        order: ptr::null_mut(),
        private: list::of(of_query.into_iter().chain([columns.target.cast(), untested.cast()])),
    };
    // SAFETY: as the caller promises.
    let path = unsafe { compat::create_foreign_join_path(root, joined, &shape) };
    // A worker that ran this would look for a snapshot of its own.
    // SAFETY: the path was just made.
    unsafe { (*path).path.parallel_safe = false };
    // SAFETY: the relation is the planner's.
    unsafe { pg_sys::add_path(joined, path.cast()) };
    Ok(())
}
