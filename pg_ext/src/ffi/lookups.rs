//! Scans that look a row up by its key for each row of other tables, as an index scan beneath a nested loop does.

use std::ffi::{c_int, c_void};

use pgrx::pg_sys;

use super::planner::{self, PlannedTable, QueryUse};
use super::{catalog, compat, list};
use crate::error::Result;
use crate::plan::{self, PlanText};

/// What is looked for among the members of equivalence classes.
struct KeyColumn {
    relation: pg_sys::Index,
    number: pg_sys::AttrNumber,
}

/// Offers such scans, one for each set of tables whose columns the key must be equal to.
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
    let Some(number) = planned.key() else { return Ok(()) };
    let mut key = KeyColumn { relation: relation.relid, number };
    // SAFETY: conditions on several relations are a list of these.
    let mut conditions: Vec<*mut pg_sys::RestrictInfo> = unsafe { list::elements(relation.joininfo) };
    // SAFETY: the planner's pointers are live.
    conditions.retain(|condition| unsafe { pg_sys::join_clause_is_movable_to(*condition, rel) });
    if relation.has_eclass_joins {
        let (callback, key) = (Some(is_key as _), (&raw mut key).cast::<c_void>());
        // SAFETY: as above; the callback gets the key.
        let implied = unsafe {
            pg_sys::generate_implied_equalities_for_column(root, rel, callback, key, relation.lateral_referencers)
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
        // SAFETY: as the caller promises.
        unsafe { add_path(root, rel, table, outer)? };
    }
    Ok(())
}

/// # Safety
///
/// As [`add_paths`]. The set is one of other relations.
unsafe fn add_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    table: pg_sys::Oid,
    outer: pg_sys::Relids,
) -> Result<()> {
    // SAFETY: as the caller promises.
    let parameters = unsafe { pg_sys::get_baserel_parampathinfo(root, rel, outer) };
    // SAFETY: the result is live.
    let conditions = unsafe { (*parameters).ppi_clauses };
    // SAFETY: which are a list of these.
    let conditions: Vec<*mut pg_sys::RestrictInfo> = unsafe { list::elements(conditions) };
    // SAFETY: as the caller promises.
    let relation = unsafe { &*rel };
    let table = catalog::table(table)?;
    // SAFETY: the conditions are the planner's.
    let QueryUse { usage, reader, .. } = unsafe { planner::usage(relation, &table, &conditions) };
    let estimate = plan::estimate(&table, &usage)?;
    if !estimate.is_one_row || usage.row_places {
        return Ok(());
    }
    let cost = plan::lookup_cost(planner::cost_settings(), usage.columns.len(), relation.baserestrictcost.per_tuple);
    let total = cost.startup + cost.run;
    // SAFETY: the planner's pointers are live.
    let path = unsafe { compat::create_foreignscan_path(root, rel, 1.0, cost.startup, total, outer) };
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

/// Whether a member of an equivalence class is the key's column.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn is_key(
    _root: *mut pg_sys::PlannerInfo,
    _rel: *mut pg_sys::RelOptInfo,
    _class: *mut pg_sys::EquivalenceClass,
    member: *mut pg_sys::EquivalenceMember,
    key: *mut c_void,
) -> bool {
    // SAFETY: the planner passes what it was given.
    let key = unsafe { &*key.cast::<KeyColumn>() };
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
    u32::try_from(var.varno) == Ok(key.relation) && var.varattno == key.number && var.varlevelsup == 0
}
