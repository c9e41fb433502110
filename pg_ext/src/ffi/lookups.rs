//! Scans that look rows up by a value for each row of other tables, as an index scan beneath a nested loop does: by the key, or by a
//! column whose values are in order, as far as zone maps leave little to look at.

use std::ffi::{c_int, c_void};

use pgrx::pg_sys;

use super::planner::{self, Planned, PlannedTable, QueryUse};
use super::{catalog, compat, list, run};
use crate::error::{Result, Step};
use crate::plan::{self, PlanText};

/// Lookups that look at more than this part of the rows which one scan reads are not worth while.
const LOOKED_AT_MAX: f64 = 0.25;

/// A column that is looked for among the members of equivalence classes.
struct WantedColumn {
    relation: pg_sys::Index,
    number: pg_sys::AttrNumber,
}

/// Offers such scans, one for each set of tables whose columns one of the table's must be equal to.
///
/// # Safety
///
/// The planner's pointers are live, and the relation is a base relation of this table.
pub(super) unsafe fn add_paths(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    table: pg_sys::Oid,
    planned: &PlannedTable,
) -> Result<()> {
    // SAFETY: as the caller promises.
    let relation = unsafe { &*rel };
    // SAFETY: conditions on several relations are a list of these.
    let mut conditions: Vec<*mut pg_sys::RestrictInfo> = unsafe { list::elements(relation.joininfo) };
    // SAFETY: the planner's pointers are live.
    conditions.retain(|condition| unsafe { pg_sys::join_clause_is_movable_to(*condition, rel) });
    let columns = if relation.has_eclass_joins { planned.columns() } else { &[] };
    for number in columns {
        let mut wanted = WantedColumn { relation: relation.relid, number: *number };
        let (callback, wanted) = (Some(is_wanted as _), (&raw mut wanted).cast::<c_void>());
        // SAFETY: as above; the callback gets the column.
        let implied = unsafe {
            pg_sys::generate_implied_equalities_for_column(root, rel, callback, wanted, relation.lateral_referencers)
        };
        // SAFETY: the result is a list of these.
        conditions.extend(unsafe { list::elements::<pg_sys::RestrictInfo>(implied) });
    }
    let mut known: Vec<pg_sys::Relids> = Vec::new();
    for condition in conditions {
        // SAFETY: the conditions are live.
        let relids = unsafe { (*condition).clause_relids };
        // SAFETY: both are sets of the planner's; the result is a new one.
        let outer = unsafe { pg_sys::bms_union(relids, relation.lateral_relids) };
        // SAFETY: the set is our own.
        let outer = unsafe { pg_sys::bms_del_member(outer, relation.relid as c_int) };
        // SAFETY: as above.
        let is_known = known.iter().any(|other| unsafe { pg_sys::bms_equal(*other, outer) });
        // SAFETY: as above; an empty set may be null or not.
        if is_known || unsafe { pg_sys::bms_num_members(outer) } == 0 {
            continue;
        }
        known.push(outer);
        // What the store can join it joins better than that, and row by row it takes far too long where there are more rows than
        // the planner thinks.
        // SAFETY: the planner's pointers are live.
        let state = unsafe { &*root };
        // SAFETY: as above.
        if planned.is_computable() && unsafe { are_computable(state, outer) } {
            continue;
        }
        // SAFETY: as the caller promises.
        unsafe { add_path(root, rel, table, planned, outer)? };
    }
    Ok(())
}

/// Whether the store can compute everything with the rows of all relations of a set.
///
/// # Safety
///
/// The planner's state and the set are live.
unsafe fn are_computable(state: &pg_sys::PlannerInfo, relations: pg_sys::Relids) -> bool {
    let mut member = -1;
    loop {
        // SAFETY: as the caller promises.
        member = unsafe { pg_sys::bms_next_member(relations, member) };
        let Ok(place) = usize::try_from(member) else { return true };
        let place = state.simple_rel_array.wrapping_add(place);
        // SAFETY: the array has an entry for each relation, which is null for an outer join.
        let relation = unsafe { place.read() };
        // SAFETY: as above.
        let Some(relation) = (unsafe { relation.as_ref() }) else { continue };
        // SAFETY: what a relation is planned with is null or live.
        let is_ours = unsafe { planner::has_own_callbacks(relation.fdwroutine) };
        if !is_ours || Planned::whole_source_of(relation).is_none() {
            return false;
        }
    }
}

/// # Safety
///
/// As [`add_paths`]. The set is one of other relations.
unsafe fn add_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    table: pg_sys::Oid,
    planned: &PlannedTable,
    outer: pg_sys::Relids,
) -> Result<()> {
    // SAFETY: as the caller promises.
    let parameters = unsafe { pg_sys::get_baserel_parampathinfo(root, rel, outer) };
    // SAFETY: the result is live.
    let parameters = unsafe { &*parameters };
    // SAFETY: the conditions are a list of these.
    let conditions: Vec<*mut pg_sys::RestrictInfo> = unsafe { list::elements(parameters.ppi_clauses) };
    // SAFETY: as the caller promises.
    let relation = unsafe { &*rel };
    let table = catalog::table(table)?;
    // SAFETY: the conditions are the planner's.
    let QueryUse { usage, reader, .. } = unsafe { planner::usage(relation, &table, &conditions) };
    let estimate = plan::estimate(&table, &usage)?;
    let looked_at = plan::rows_looked_at(&table, &estimate, planned.filter())? as f64;
    if usage.row_places || looked_at > planned.rows_read() * LOOKED_AT_MAX {
        return Ok(());
    }
    let rows = parameters.ppi_rows.min(looked_at);
    let (columns, recheck) = (usage.columns.len(), relation.baserestrictcost.per_tuple);
    let cost = plan::lookup_cost(planner::cost_settings(), looked_at, rows, columns, recheck);
    let total = cost.startup + cost.run;
    // SAFETY: the planner's pointers are live.
    let path = unsafe { compat::create_foreignscan_path(root, rel, rows, cost.startup, total, outer) };
    let expressions = list::of(estimate.used_operands.iter().map(|index| reader.expression(*index)));
    let text = planner::make_string(&PlanText::Table(estimate.private).to_text()?)?;
    // SAFETY: the path was just made.
    let made = unsafe { &mut *path };
    made.fdw_private = list::of([text.cast::<c_void>(), expressions.cast()]);
    // As for other scans by one process.
    made.path.parallel_safe = false;
    // SAFETY: the path is of this relation.
    unsafe { pg_sys::add_path(rel, path.cast()) };
    Ok(())
}

/// What a path has as its private list where it gets its values from a child of the partitioned table that it was planned with: the
/// join of two partitioned tables became one of their partitions.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn reparameterize_foreign_path_by_child(
    root: *mut pg_sys::PlannerInfo,
    private: *mut pg_sys::List,
    child: *mut pg_sys::RelOptInfo,
) -> *mut pg_sys::List {
    run(Step::Reparameterize, || {
        // SAFETY: the list is null, or the one that a path got: of a text and a list.
        let parts: Vec<*mut c_void> = unsafe { list::elements(private) };
        let &[text, expressions] = parts.as_slice() else { return Ok(private) };
        // SAFETY: the planner's pointers are live, and the expressions are of the query.
        let expressions = unsafe { compat::of_child(root, expressions.cast(), child) };
        Ok(list::of([text, expressions.cast()]))
    })
}

/// Whether a member of an equivalence class is the column.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_wanted(
    _root: *mut pg_sys::PlannerInfo,
    _rel: *mut pg_sys::RelOptInfo,
    _class: *mut pg_sys::EquivalenceClass,
    member: *mut pg_sys::EquivalenceMember,
    wanted: *mut c_void,
) -> bool {
    // SAFETY: the planner passes what it was given.
    let wanted = unsafe { &*wanted.cast::<WantedColumn>() };
    // SAFETY: and a live member.
    let mut node: *mut pg_sys::Node = unsafe { (*member).em_expr }.cast();
    // SAFETY: the nodes are expressions of the query.
    while unsafe { pgrx::is_a(node, pg_sys::NodeTag::T_RelabelType) } {
        // SAFETY: the tag says so.
        node = unsafe { (*node.cast::<pg_sys::RelabelType>()).arg }.cast();
    }
    // SAFETY: as above.
    if !unsafe { pgrx::is_a(node, pg_sys::NodeTag::T_Var) } {
        return false;
    }
    // SAFETY: the tag says so.
    let var = unsafe { &*node.cast::<pg_sys::Var>() };
    u32::try_from(var.varno) == Ok(wanted.relation) && var.varattno == wanted.number && var.varlevelsup == 0
}
