//! The order of rows, and how many of them are wanted: whether the store can see to it, and how that is said.
//!
//! Postgres asks for the order first and for the limit later. What the order was is kept in between ([`PlannedOrder`](super::planner::PlannedOrder)).

use pgrx::pg_sys;

use super::catalog::FIRST_OID_OF_OTHERS;
use super::collations::is_ordered_by_bytes;
use super::computed::{Computable, is_equal};
use super::conditions::Reader;
use super::grouping::Grouped;
use super::{list, text_of};
use crate::query::{Limit, SortBy, SortKey, Typed, ValueType};

/// The order that a query wants of rows.
///
/// # Safety
///
/// The planner's state is live.
pub(super) unsafe fn of_rows(root: &pg_sys::PlannerInfo, computable: &Computable) -> Option<Vec<SortKey>> {
    // SAFETY: as the caller promises.
    let value = |node: *mut pg_sys::Node| unsafe { computable.expression(node) };
    let sorted = |typed: &Typed| !typed.expression.is_constant() && !typed.value_type.is_wide();
    let key = |node| value(node).filter(sorted).map(|typed| (typed.value_type, SortBy::Row(typed)));
    // SAFETY: as above.
    unsafe { keys(root, key) }
}

/// The order that a query wants of groups.
///
/// # Safety
///
/// The planner's state is live.
pub(super) unsafe fn of_groups(root: &pg_sys::PlannerInfo, grouped: &Grouped) -> Option<Vec<SortKey>> {
    // SAFETY: the target was made of entries.
    let entries: Vec<*mut pg_sys::TargetEntry> = unsafe { list::elements(grouped.target) };
    let value = |node: *mut pg_sys::Node| {
        // SAFETY: the entries are live.
        let place = entries.iter().position(|entry| is_equal(unsafe { (**entry).expr }.cast(), node))?;
        Some((grouped.query.output_type(place)?, SortBy::Output(place)))
    };
    // SAFETY: as the caller promises.
    unsafe { keys(root, value) }
}

/// # Safety
///
/// The planner's state is live.
unsafe fn keys(
    root: &pg_sys::PlannerInfo,
    value: impl Fn(*mut pg_sys::Node) -> Option<(ValueType, SortBy)>,
) -> Option<Vec<SortKey>> {
    // SAFETY: planning has the query.
    let parse = unsafe { &*root.parse };
    // SAFETY: its order is a list of these.
    let clauses: Vec<*mut pg_sys::SortGroupClause> = unsafe { list::elements(parse.sortClause) };
    let key = |clause: *mut pg_sys::SortGroupClause| {
        // SAFETY: the clause is one of the query, whose expressions these are.
        let node = unsafe { pg_sys::get_sortgroupclause_expr(clause, root.processed_tlist) };
        let (value_type, by) = value(node)?;
        // SAFETY: the node is an expression of the query.
        let collation = unsafe { pg_sys::exprCollation(node) };
        if value_type == ValueType::Text && !is_ordered_by_bytes(collation) {
            return None;
        }
        // SAFETY: the clause is live.
        let clause = unsafe { &*clause };
        Some(SortKey { by, descending: is_descending(clause.sortop)?, nulls_first: clause.nulls_first })
    };
    clauses.into_iter().map(key).collect()
}

/// Whether an operator puts the greatest first; `None` for an order that is not the type's own.
fn is_descending(operator: pg_sys::Oid) -> Option<bool> {
    if operator.to_u32() >= FIRST_OID_OF_OTHERS {
        return None;
    }
    // SAFETY: it looks the operator up.
    let name = unsafe { pg_sys::get_opname(operator) };
    // SAFETY: the result is null or a string.
    match unsafe { text_of(name) }.as_str() {
        "<" => Some(false),
        ">" => Some(true),
        _ => None,
    }
}

/// How much of the answer a query wants; `None` if the store cannot see to it.
///
/// # Safety
///
/// The planner's query is live.
pub(super) unsafe fn limit(parse: &pg_sys::Query, reader: &mut Reader) -> Option<Limit> {
    let is_plain = parse.limitOption == pg_sys::LimitOption::LIMIT_OPTION_COUNT
        && !parse.limitCount.is_null()
        && parse.rowMarks.is_null()
        && !parse.hasTargetSRFs;
    if !is_plain {
        return None;
    }
    // SAFETY: the numbers are expressions of the query.
    let count = unsafe { reader.number(parse.limitCount)? };
    let skip = match parse.limitOffset.is_null() {
        true => None,
        // SAFETY: as above.
        false => Some(unsafe { reader.number(parse.limitOffset)? }),
    };
    Some(Limit { count, skip })
}
