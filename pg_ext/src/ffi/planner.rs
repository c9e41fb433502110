//! Planning's callbacks.
//!
//! Between them travels what is in the relation's `fdw_private`, a Rust value that planning's memory owns ([`Planned`]). Into
//! the plan go nodes alone, which Postgres can copy: a text ([`PlanText`]) and the expressions that filters compare with.

use std::cell::RefCell;
use std::ffi::{c_int, c_void};
use std::ptr;

use pgrx::{PgMemoryContexts, is_a, pg_sys};

use super::conditions::Reader;
use super::grouping::Grouped;
use super::source::{QueryTable, Source, Untested};
use super::{catalog, check_for_interrupts, compat, list, lookups, palloc_text, run, text_of};
use crate::error::{PgError, Result, Step};
use crate::filter::Filter;
use crate::plan::{self, Cost, CostSettings, PlanText, Private, Usage};
use crate::query::{GivenColumn, Query};
use crate::table::Table;

/// What is subtracted from an attribute's number in a set of them, which begins with the system columns'.
const FIRST_ATTRIBUTE: c_int = pg_sys::FirstLowInvalidHeapAttributeNumber;
/// The bytes that a row of the heap has beside its values; the planner's workers per page are made for the heap.
const HEAP_ROW_OVERHEAD: f64 = 28.0;

/// What planning knows of a relation, in its `fdw_private`.
pub(super) enum Planned {
    /// A table whose rows are read.
    Table(PlannedTable),
    /// Tables that are joined before Postgres sees rows.
    Join(PlannedJoin),
    /// Groups of rows of either.
    Groups(PlannedGroups),
    /// The order that rows or groups are wanted in.
    Order(PlannedOrder),
}

/// A foreign table whose rows are read.
pub(super) struct PlannedTable {
    private: Private,
    expressions: *mut pg_sys::List,
    rows_read: f64,
    units_read: u64,
    /// Whether this transaction has changed the store, which workers do not see.
    is_changed: bool,
    /// The same rows to be computed with, if they can be; and what is left to Postgres that follows, and why.
    source: Option<Source>,
    left: Left,
}

impl PlannedTable {
    /// Whether the store can compute everything with the rows.
    pub(super) fn is_computable(&self) -> bool {
        self.source.as_ref().is_some_and(Source::is_whole)
    }

    /// The numbers of the columns that are read.
    pub(super) fn columns(&self) -> &[i16] {
        &self.private.columns
    }

    /// Which rows are read, whatever other tables have.
    pub(super) fn filter(&self) -> Option<&Filter> {
        self.private.filter.as_ref()
    }

    /// How many rows are read.
    pub(super) fn rows_read(&self) -> f64 {
        self.rows_read
    }
}

/// Tables that are joined, in the cheapest order that has been offered.
pub(super) struct PlannedJoin {
    pub(super) source: Source,
    /// The columns that are wanted of it, and the same as target entries.
    pub(super) given: Vec<GivenColumn>,
    pub(super) target: *mut pg_sys::List,
    pub(super) left: Left,
}

/// What is left to Postgres that follows rows, and why. It is added to while the rows are looked at.
#[derive(Default)]
pub(super) struct Left(RefCell<Vec<String>>);

impl Left {
    pub(super) fn new(reasons: Vec<String>) -> Self {
        Self(RefCell::new(reasons))
    }

    fn add(&self, why: String) {
        let mut reasons = self.0.borrow_mut();
        if !reasons.contains(&why) {
            reasons.push(why);
        }
    }

    /// In one line; `None` if it is nothing.
    fn text(&self) -> Option<String> {
        let reasons = self.0.borrow();
        (!reasons.is_empty()).then(|| reasons.join("; "))
    }
}

/// Groups that are computed before Postgres sees rows.
pub(super) struct PlannedGroups {
    pub(super) grouped: Grouped,
    pub(super) cost: Cost,
    /// How many there are, but for those that Postgres leaves out.
    pub(super) rows: f64,
}

/// An order of rows or groups, after which Postgres may ask for a limit.
pub(super) struct PlannedOrder {
    /// What is sorted.
    pub(super) input: *mut pg_sys::RelOptInfo,
    /// Its operands are those of the reader.
    pub(super) query: Query,
    pub(super) reader: Reader,
    /// What it costs to come by what is sorted.
    pub(super) unordered: Cost,
    /// The rows that are sorted, and the columns that are given of each.
    pub(super) rows: f64,
    pub(super) columns: usize,
}

/// Estimates the rows.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn get_foreign_rel_size(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    relation: pg_sys::Oid,
) {
    run(Step::RelSize, || {
        // SAFETY: the planner passes the relation that it plans, and nobody else has it now.
        let rel = unsafe { &mut *rel };
        let table = catalog::table(relation)?;
        // SAFETY: the relation is the planner's.
        let QueryUse { usage, nodes, reader, is_gated } = unsafe { usage(rel, &table, &[]) };
        let estimate = plan::estimate(&table, &usage)?;
        rel.tuples = estimate.rows as f64;
        // SAFETY: both are the planner's, and the rows are known now.
        unsafe { pg_sys::set_baserel_size_estimates(root, rel) };
        let most = if estimate.is_one_row { 1 } else { estimate.rows_read.max(1) };
        rel.rows = rel.rows.min(most as f64);

        let expressions = list::of(estimate.used_operands.iter().map(|index| reader.expression(*index)));
        // What is computed knows no places.
        let source = match is_gated || usage.row_places {
            true => None,
            false => {
                // SAFETY: the planner's state is live, and has the relation.
                let shown = unsafe { alias(root, rel.relid) };
                let query_table = QueryTable { oid: relation, relation: rel.relid, shown, table: &table };
                // SAFETY: the nodes are those of the conditions.
                unsafe { Source::of_table(&query_table, &usage.conditions, &nodes, reader)? }
            }
        };
        let rows_read = estimate.rows_read as f64;
        let cost = plan::read_cost(cost_settings(), rows_read, usage.columns.len().max(1));
        let untested = source.iter().flat_map(|source| &source.untested);
        let left = Left::new(untested.map(|untested| untested.why.clone()).collect());
        // SAFETY: the planner's state is live.
        let source = source.filter(|source| unsafe { may_be_tested_later(root, &source.untested) });
        // SAFETY: as above.
        let source = source.map(|source| unsafe { with_rows(root, source, cost, rel) });
        let planned = PlannedTable {
            left,
            private: estimate.private,
            expressions,
            rows_read,
            units_read: estimate.units_read,
            is_changed: estimate.is_changed,
            source,
        };
        Planned::Table(planned).keep_in(rel);
        Ok(())
    });
}

/// The rows of a table that conditions are tested of later: how many they are, and what it costs to come by them.
///
/// # Safety
///
/// The planner's state is live.
unsafe fn with_rows(root: *mut pg_sys::PlannerInfo, source: Source, cost: f64, rel: &pg_sys::RelOptInfo) -> Source {
    // SAFETY: as the caller promises.
    let passing = unsafe { selectivity(root, source.untested_list(), rel.relid) };
    let rows = (rel.rows / passing).min(rel.tuples).max(rel.rows);
    source.costing(cost, rows)
}

/// The part of rows, above zero, that pass conditions.
///
/// # Safety
///
/// The planner's state is live, and the conditions are a list of the query's.
pub(super) unsafe fn selectivity(
    root: *mut pg_sys::PlannerInfo,
    conditions: *mut pg_sys::List,
    relation: pg_sys::Index,
) -> f64 {
    let (join, relation) = (pg_sys::JoinType::JOIN_INNER, relation.cast_signed());
    // SAFETY: as the caller promises.
    unsafe { pg_sys::clauselist_selectivity(root, conditions, relation, join, ptr::null_mut()) }.max(1e-10)
}

/// Whether it is all the same if conditions are tested of a table's rows or of what a join makes of these.
///
/// # Safety
///
/// The planner's state is live, and the conditions are the query's.
pub(super) unsafe fn may_be_tested_later(root: *mut pg_sys::PlannerInfo, conditions: &[Untested]) -> bool {
    // SAFETY: as the caller promises.
    let level = unsafe { (*root).qual_security_level };
    let may_be = |untested: &Untested| {
        let node = untested.node.cast();
        // SAFETY: as the caller promises.
        let is_volatile = unsafe { pg_sys::contain_volatile_functions(node) };
        let flags = pg_sys::PVC_INCLUDE_PLACEHOLDERS;
        // SAFETY: as above; conditions have no aggregates.
        let columns = unsafe { pg_sys::pull_var_clause(node, flags as i32) };
        // SAFETY: which is a list of expressions.
        let columns: Vec<*mut pg_sys::Node> = unsafe { list::elements(columns) };
        // SAFETY: the expressions are live.
        !is_volatile && columns.into_iter().all(|column| unsafe { is_a(column, pg_sys::NodeTag::T_Var) })
    };
    // Where rows are hidden from a user, no function of his gets to see some of them.
    conditions.is_empty() || (level == 0 && conditions.iter().all(may_be))
}

/// A query's use of a table, and the conditions on its rows.
pub(super) struct QueryUse {
    pub(super) usage: Usage,
    nodes: Vec<*mut pg_sys::Expr>,
    /// The one that has read them.
    pub(super) reader: Reader,
    /// Whether the table is read only if something is true that has nothing to do with its rows.
    is_gated: bool,
}

/// What a query calls a relation.
///
/// # Safety
///
/// The planner's state is live, and has the relation.
unsafe fn alias(root: *mut pg_sys::PlannerInfo, relation: pg_sys::Index) -> String {
    // SAFETY: as the caller promises.
    let entries = unsafe { (*root).simple_rte_array };
    let entry = entries.wrapping_add(relation as usize);
    // SAFETY: the array has an entry for each relation.
    let entry = unsafe { entry.read() };
    // SAFETY: the entry is live.
    let names = unsafe { (*entry).eref };
    // SAFETY: an entry has a name, which is a string.
    let name = unsafe { (*names).aliasname };
    // SAFETY: as above.
    unsafe { text_of(name) }
}

/// The use of a table; with further conditions, in which other tables' columns are values that a row of these gives.
///
/// # Safety
///
/// The relation and the conditions are the planner's.
pub(super) unsafe fn usage(
    rel: &pg_sys::RelOptInfo,
    table: &Table,
    conditions_for_row: &[*mut pg_sys::RestrictInfo],
) -> QueryUse {
    let mut attributes = ptr::null_mut();
    // SAFETY: a relation has a target, whose columns are expressions.
    let target = unsafe { &*rel.reltarget };
    // SAFETY: the expressions are the planner's; the set is made anew.
    unsafe { pg_sys::pull_varattnos(target.exprs.cast(), rel.relid, &raw mut attributes) };
    // SAFETY: the conditions of a relation are a list of these.
    let restrictions: Vec<*mut pg_sys::RestrictInfo> = unsafe { list::elements(rel.baserestrictinfo) };
    let mut reader = Reader::new(rel.relid);
    let (mut conditions, mut nodes) = (Vec::new(), Vec::new());
    let mut is_gated = false;
    let own = restrictions.len();
    for (place, restriction) in restrictions.into_iter().chain(conditions_for_row.iter().copied()).enumerate() {
        if place == own {
            reader.for_rows_of_others();
        }
        // SAFETY: the list's elements are live.
        let restriction = unsafe { &*restriction };
        check_for_interrupts();
        // SAFETY: as above.
        unsafe { pg_sys::pull_varattnos(restriction.clause.cast(), rel.relid, &raw mut attributes) };
        is_gated |= restriction.pseudoconstant;
        if !restriction.pseudoconstant {
            // SAFETY: the expression is one of the query on this relation.
            conditions.push(unsafe { reader.condition(restriction.clause) });
            nodes.push(restriction.clause);
        }
    }
    // SAFETY: the set was made above.
    let (columns, row_places) = unsafe { columns_in(attributes, table) };
    let (operands, values) = (reader.operands(), reader.constants());
    QueryUse { usage: Usage { columns, row_places, conditions, operands, values }, nodes, reader, is_gated }
}

/// The columns of a set of attributes, all of them if the whole row is among them; and whether the `ctid` is.
///
/// # Safety
///
/// The set is live.
unsafe fn columns_in(attributes: *const pg_sys::Bitmapset, table: &Table) -> (Vec<i16>, bool) {
    let mut numbers = Vec::new();
    let mut member = -1;
    loop {
        // SAFETY: as the caller promises.
        member = unsafe { pg_sys::bms_next_member(attributes, member) };
        if member < 0 {
            break;
        }
        numbers.push(member + FIRST_ATTRIBUTE);
    }
    let all = table.attributes.iter().map(|attribute| attribute.number);
    let columns = match numbers.contains(&0) {
        true => all.collect(),
        false => all.filter(|number| numbers.contains(&(*number).into())).collect(),
    };
    (columns, numbers.contains(&pg_sys::SelfItemPointerAttributeNumber))
}

impl Planned {
    /// Leaves this to planning's memory, under a relation.
    pub(super) fn keep_in(self, rel: &mut pg_sys::RelOptInfo) {
        rel.fdw_private = PgMemoryContexts::CurrentMemoryContext.leak_and_drop_on_delete(self).cast();
    }

    /// What is known of a relation.
    pub(super) fn of(rel: &pg_sys::RelOptInfo) -> Result<&Self> {
        // SAFETY: it is null or was put there by `keep_in`, and is dropped with the relation's own memory.
        unsafe { rel.fdw_private.cast::<Self>().as_ref() }.ok_or_else(|| PgError::internal("a plan was lost"))
    }

    fn table(rel: &pg_sys::RelOptInfo) -> Result<&PlannedTable> {
        match Self::of(rel)? {
            Self::Table(table) => Ok(table),
            Self::Join(_) | Self::Groups(_) | Self::Order(_) => Err(PgError::internal("a plan is not of a table")),
        }
    }

    /// The rows of a relation, if the store can compute everything with them.
    pub(super) fn whole_source_of(rel: &pg_sys::RelOptInfo) -> Option<&Source> {
        Self::source_of(rel).filter(|source| source.is_whole())
    }

    /// The rows of a relation, if the store can join them.
    pub(super) fn source_of(rel: &pg_sys::RelOptInfo) -> Option<&Source> {
        match Self::of(rel).ok()? {
            Self::Table(table) => table.source.as_ref(),
            Self::Join(join) => Some(&join.source),
            Self::Groups(_) | Self::Order(_) => None,
        }
    }

    /// What is left to Postgres that follows a table or joined ones.
    fn left(&self) -> Option<&Left> {
        match self {
            Self::Table(table) => Some(&table.left),
            Self::Join(join) => Some(&join.left),
            Self::Groups(_) | Self::Order(_) => None,
        }
    }

    /// Notes why something that follows is left to Postgres.
    pub(super) fn leave(rel: &pg_sys::RelOptInfo, why: String) {
        if let Some(left) = Self::of(rel).ok().and_then(Self::left) {
            left.add(why);
        }
    }

    /// The columns that are given of them.
    pub(super) fn given_of(rel: &pg_sys::RelOptInfo) -> Vec<GivenColumn> {
        match Self::of(rel) {
            Ok(Self::Table(table)) => {
                table.private.columns.iter().map(|number| GivenColumn { table: 0, number: *number }).collect()
            }
            Ok(Self::Join(join)) => join.given.clone(),
            _ => Vec::new(),
        }
    }
}

/// The planner's settings.
pub(super) fn cost_settings() -> CostSettings {
    // SAFETY: reading settings of the backend's only thread.
    let cpu_tuple_cost = unsafe { pg_sys::cpu_tuple_cost };
    // SAFETY: as above.
    CostSettings { cpu_tuple_cost, cpu_operator_cost: unsafe { pg_sys::cpu_operator_cost } }
}

/// What a path that computes a query has as its private list: the plan's text, and its expressions.
pub(super) fn private_of_path(mut query: Query, reader: &Reader) -> Result<*mut pg_sys::List> {
    // The version that is read may lack others.
    query.keep_used_columns();
    let used = query.used_operands();
    query.renumber_operands(&used);
    let operands = reader.operands();
    query.operands = used.iter().map(|index| operands[*index].text.clone()).collect();
    let expressions = list::of(used.iter().map(|index| reader.expression(*index)));
    let text = make_string(&PlanText::Query(query).to_text()?)?;
    Ok(list::of([text.cast::<c_void>(), expressions.cast()]))
}

/// A string as a node, in Postgres' current memory context.
pub(super) fn make_string(text: &str) -> Result<*mut pg_sys::String> {
    // SAFETY: the string was copied into that context.
    Ok(unsafe { pg_sys::makeString(palloc_text(text)?) })
}

fn string_of(node: *mut pg_sys::String) -> String {
    // SAFETY: callers pass nodes that were made as strings.
    let string = unsafe { &*node };
    // SAFETY: which are null or end in a NUL.
    unsafe { text_of(string.sval) }
}

/// The plan's text from a plan node's private list.
///
/// # Safety
///
/// The list is the one that [`get_foreign_plan`] made, or Postgres' copy of it.
pub(super) unsafe fn plan_text_of(plan_list: *mut pg_sys::List) -> Result<PlanText> {
    // SAFETY: as the caller promises.
    let strings: Vec<*mut pg_sys::String> = unsafe { list::elements(plan_list) };
    let text = strings.first().copied().map(string_of).ok_or_else(|| PgError::internal("a plan was lost"))?;
    PlanText::from_text(&text)
}

/// What is left to Postgres that follows a scan, and why, from a plan node's private list.
///
/// # Safety
///
/// As [`plan_text_of`].
pub(super) unsafe fn left_of(plan_list: *mut pg_sys::List) -> Option<String> {
    // SAFETY: as the caller promises.
    let strings: Vec<*mut pg_sys::String> = unsafe { list::elements(plan_list) };
    strings.get(1).copied().map(string_of)
}

/// Offers a scan by one process, and one by several.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn get_foreign_paths(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    table: pg_sys::Oid,
) {
    run(Step::Paths, || {
        // SAFETY: the planner passes the relation that it plans.
        let relation = unsafe { &*rel };
        let planned = Planned::table(relation)?;
        let private = &planned.private;
        let cost = plan::cost(
            cost_settings(),
            planned.rows_read,
            relation.rows,
            private.columns.len(),
            private.filter.is_some(),
            relation.baserestrictcost.per_tuple,
        );
        let startup = cost.startup + relation.baserestrictcost.startup;
        let total = startup + cost.run;
        // SAFETY: the planner's pointers are live.
        let path = unsafe {
            compat::create_foreignscan_path(root, rel, relation.rows, startup, total, relation.lateral_relids)
        };
        // A worker that ran this would look for a snapshot of its own; only a scan that is shared hands its over.
        // SAFETY: the path was just made.
        unsafe { (*path).path.parallel_safe = false };
        // SAFETY: the path is of this relation.
        unsafe { pg_sys::add_path(rel, path.cast()) };
        // The numbers in places are the session's own.
        let is_shared = !planned.is_changed && !private.row_places;
        if relation.consider_parallel && relation.lateral_relids.is_null() && is_shared {
            // SAFETY: the planner's pointers are live.
            unsafe { add_parallel_path(root, rel, planned, startup, cost.run) };
        }
        // SAFETY: the planner's pointers are live.
        unsafe { lookups::add_paths(root, rel, table, planned) }
    });
}

/// # Safety
///
/// The planner's pointers are live.
unsafe fn add_parallel_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    planned: &PlannedTable,
    startup: f64,
    run: f64,
) {
    // SAFETY: as the caller promises.
    let relation = unsafe { &*rel };
    // SAFETY: a relation has a target.
    let width = f64::from(unsafe { (*relation.reltarget).width }) + HEAP_ROW_OVERHEAD;
    let workers = compat::parallel_workers(rel, planned.rows_read * width / f64::from(pg_sys::BLCKSZ));
    // There is nothing to do for more workers than units.
    let workers = workers.min(i32::try_from(planned.units_read).unwrap_or(i32::MAX));
    if workers <= 0 {
        return;
    }
    // As for the heap: the leader helps as long as it has little to collect (`get_parallel_divisor`).
    // SAFETY: reading a setting of the backend's only thread.
    let takes_part = unsafe { pg_sys::parallel_leader_participation };
    let leader = if takes_part { (1.0 - 0.3 * f64::from(workers)).max(0.0) } else { 0.0 };
    let divisor = f64::from(workers) + leader;
    let total = startup + run / divisor;
    // SAFETY: as the caller promises.
    let path = unsafe {
        compat::create_foreignscan_path(root, rel, (relation.rows / divisor).max(1.0), startup, total, ptr::null_mut())
    };
    // SAFETY: the path was just made.
    let partial = unsafe { &mut (*path).path };
    partial.parallel_aware = true;
    partial.parallel_safe = true;
    partial.parallel_workers = workers;
    // SAFETY: the path is of this relation.
    unsafe { pg_sys::add_partial_path(rel, path.cast()) };
}

/// Whether scans may run in parallel workers.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn is_foreign_scan_parallel_safe(
    _root: *mut pg_sys::PlannerInfo,
    _rel: *mut pg_sys::RelOptInfo,
    _entry: *mut pg_sys::RangeTblEntry,
) -> bool {
    true
}

/// Makes the plan's node. Postgres checks every condition again on the rows that come.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn get_foreign_plan(
    _root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    _relation: pg_sys::Oid,
    path: *mut pg_sys::ForeignPath,
    target_list: *mut pg_sys::List,
    clauses: *mut pg_sys::List,
    outer_plan: *mut pg_sys::Plan,
) -> *mut pg_sys::ForeignScan {
    run(Step::Plan, || {
        // SAFETY: the planner passes the relation that it plans.
        let relation = unsafe { &*rel };
        // SAFETY: the clauses are the planner's.
        let checked = unsafe { pg_sys::extract_actual_clauses(clauses, false) };
        let none = ptr::null_mut();
        // SAFETY: the planner passes one of this wrapper's paths.
        let private = unsafe { (*path).fdw_private };
        // SAFETY: which have a list of pointers.
        let of_path: Vec<*mut c_void> = unsafe { list::elements(private) };
        let (text, expressions, of_join) = match *of_path.as_slice() {
            [text, expressions] => (text.cast(), expressions.cast(), None),
            [text, expressions, target, conditions] => {
                (text.cast(), expressions.cast(), Some((target.cast(), conditions.cast())))
            }
            _ => {
                let planned = Planned::table(relation)?;
                (make_string(&PlanText::Table(planned.private.clone()).to_text()?)?, planned.expressions, None)
            }
        };
        let (relid, conditions, target) = match (Planned::of(relation)?, of_join) {
            (Planned::Table(_), _) => (relation.relid, checked, none),
            (Planned::Join(_), Some((target, conditions))) => (0, conditions, target),
            // The first of its rows, in an order.
            (Planned::Join(planned), None) => (0, none, planned.target),
            (Planned::Groups(planned), _) => (0, planned.grouped.conditions, planned.grouped.target),
            (Planned::Order(_), _) => return Err(PgError::internal("an order has a plan of its own")),
        };
        let left = Planned::of(relation)?.left().and_then(Left::text);
        let left = left.map(|left| make_string(&left)).transpose()?;
        let private = list::of([text].into_iter().chain(left));
        // SAFETY: all of them are lists of nodes of this plan.
        Ok(unsafe {
            pg_sys::make_foreignscan(target_list, conditions, relid, expressions, private, target, none, outer_plan)
        })
    })
}

/// Whether the wrapper of a foreign table has this library's callbacks.
pub(super) fn is_of_this_wrapper(relation: pg_sys::Oid) -> bool {
    // SAFETY: the relation is a foreign table.
    let routine = unsafe { pg_sys::GetFdwRoutineByRelId(relation) };
    // SAFETY: the result was just allocated.
    unsafe { has_own_callbacks(routine) }
}

/// Whether a wrapper's callbacks are this library's.
///
/// # Safety
///
/// The pointer is null or leads to a wrapper's callbacks.
pub(super) unsafe fn has_own_callbacks(routine: *const pg_sys::FdwRoutine) -> bool {
    // SAFETY: as the caller promises.
    let found = unsafe { routine.as_ref() }.and_then(|routine| routine.GetForeignRelSize);
    found.is_some_and(|found| found as usize == get_foreign_rel_size as *const () as usize)
}
