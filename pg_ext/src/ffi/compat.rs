//! What differs between the releases of Postgres.

use std::ffi::c_int;
use std::ptr;

use pgrx::pg_sys;

/// `create_foreignscan_path` for a base relation without order or parameters.
///
/// # Safety
///
/// The planner's pointers are live.
#[cfg(feature = "pg18")]
pub(super) unsafe fn create_foreignscan_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    rows: f64,
    startup_cost: f64,
    total_cost: f64,
    required_outer: pg_sys::Relids,
) -> *mut pg_sys::ForeignPath {
    let (null, list) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: as the caller promises; null stands for the relation's own columns, for no order and no other path.
    unsafe {
        pg_sys::create_foreignscan_path(
            root,
            rel,
            ptr::null_mut(),
            rows,
            0,
            startup_cost,
            total_cost,
            list,
            required_outer,
            null,
            list,
            list,
        )
    }
}

/// As above.
///
/// # Safety
///
/// As above.
#[cfg(feature = "pg17")]
pub(super) unsafe fn create_foreignscan_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    rows: f64,
    startup_cost: f64,
    total_cost: f64,
    required_outer: pg_sys::Relids,
) -> *mut pg_sys::ForeignPath {
    let (null, list) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: as above.
    unsafe {
        pg_sys::create_foreignscan_path(
            root,
            rel,
            ptr::null_mut(),
            rows,
            startup_cost,
            total_cost,
            list,
            required_outer,
            null,
            list,
            list,
        )
    }
}

/// As above.
///
/// # Safety
///
/// As above.
#[cfg(any(feature = "pg15", feature = "pg16"))]
pub(super) unsafe fn create_foreignscan_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    rows: f64,
    startup_cost: f64,
    total_cost: f64,
    required_outer: pg_sys::Relids,
) -> *mut pg_sys::ForeignPath {
    let (null, list) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: as above.
    unsafe {
        pg_sys::create_foreignscan_path(
            root,
            rel,
            ptr::null_mut(),
            rows,
            startup_cost,
            total_cost,
            list,
            required_outer,
            null,
            list,
        )
    }
}

/// What a path gives that is not of a table alone, and its costs.
pub(super) struct ComputedPath {
    pub(super) target: *mut pg_sys::PathTarget,
    pub(super) rows: f64,
    pub(super) startup_cost: f64,
    pub(super) total_cost: f64,
    /// Its path keys.
    pub(super) order: *mut pg_sys::List,
    pub(super) private: *mut pg_sys::List,
}

/// `create_foreign_upper_path`.
///
/// # Safety
///
/// The planner's pointers are live.
#[cfg(feature = "pg18")]
pub(super) unsafe fn create_foreign_upper_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    path: &ComputedPath,
) -> *mut pg_sys::ForeignPath {
    let (other, restrictions) = (ptr::null_mut(), ptr::null_mut());
    let &ComputedPath { target, rows, startup_cost, total_cost, order, private } = path;
    // SAFETY: as the caller promises; null stands for no other path and no conditions of a join.
    unsafe {
        pg_sys::create_foreign_upper_path(
            root,
            rel,
            target,
            rows,
            0,
            startup_cost,
            total_cost,
            order,
            other,
            restrictions,
            private,
        )
    }
}

/// As above.
///
/// # Safety
///
/// As above.
#[cfg(feature = "pg17")]
pub(super) unsafe fn create_foreign_upper_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    path: &ComputedPath,
) -> *mut pg_sys::ForeignPath {
    let (other, restrictions) = (ptr::null_mut(), ptr::null_mut());
    let &ComputedPath { target, rows, startup_cost, total_cost, order, private } = path;
    // SAFETY: as above.
    unsafe {
        pg_sys::create_foreign_upper_path(
            root,
            rel,
            target,
            rows,
            startup_cost,
            total_cost,
            order,
            other,
            restrictions,
            private,
        )
    }
}

/// As above.
///
/// # Safety
///
/// As above.
#[cfg(any(feature = "pg15", feature = "pg16"))]
pub(super) unsafe fn create_foreign_upper_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    path: &ComputedPath,
) -> *mut pg_sys::ForeignPath {
    let other = ptr::null_mut();
    let &ComputedPath { target, rows, startup_cost, total_cost, order, private } = path;
    // SAFETY: as above.
    unsafe {
        pg_sys::create_foreign_upper_path(root, rel, target, rows, startup_cost, total_cost, order, other, private)
    }
}

/// `create_foreign_join_path` without parameters.
///
/// # Safety
///
/// The planner's pointers are live.
#[cfg(feature = "pg18")]
pub(super) unsafe fn create_foreign_join_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    path: &ComputedPath,
) -> *mut pg_sys::ForeignPath {
    let (outer, other, restrictions) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let &ComputedPath { target, rows, startup_cost, total_cost, order, private } = path;
    // SAFETY: as the caller promises; null stands for no parameters, no other path, and no conditions but the computed ones.
    unsafe {
        pg_sys::create_foreign_join_path(
            root,
            rel,
            target,
            rows,
            0,
            startup_cost,
            total_cost,
            order,
            outer,
            other,
            restrictions,
            private,
        )
    }
}

/// As above.
///
/// # Safety
///
/// As above.
#[cfg(feature = "pg17")]
pub(super) unsafe fn create_foreign_join_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    path: &ComputedPath,
) -> *mut pg_sys::ForeignPath {
    let (outer, other, restrictions) = (ptr::null_mut(), ptr::null_mut(), ptr::null_mut());
    let &ComputedPath { target, rows, startup_cost, total_cost, order, private } = path;
    // SAFETY: as above.
    unsafe {
        pg_sys::create_foreign_join_path(
            root,
            rel,
            target,
            rows,
            startup_cost,
            total_cost,
            order,
            outer,
            other,
            restrictions,
            private,
        )
    }
}

/// As above.
///
/// # Safety
///
/// As above.
#[cfg(any(feature = "pg15", feature = "pg16"))]
pub(super) unsafe fn create_foreign_join_path(
    root: *mut pg_sys::PlannerInfo,
    rel: *mut pg_sys::RelOptInfo,
    path: &ComputedPath,
) -> *mut pg_sys::ForeignPath {
    let (outer, other) = (ptr::null_mut(), ptr::null_mut());
    let &ComputedPath { target, rows, startup_cost, total_cost, order, private } = path;
    // SAFETY: as above.
    unsafe {
        pg_sys::create_foreign_join_path(
            root,
            rel,
            target,
            rows,
            startup_cost,
            total_cost,
            order,
            outer,
            other,
            private,
        )
    }
}

/// Expressions with a child's columns in place of those of the partitioned table above it.
///
/// # Safety
///
/// The planner's pointers are live, the child is one, and the node is null or made of expressions of the query.
#[cfg(not(feature = "pg15"))]
pub(super) unsafe fn of_child(
    root: *mut pg_sys::PlannerInfo,
    node: *mut pg_sys::Node,
    child: *mut pg_sys::RelOptInfo,
) -> *mut pg_sys::Node {
    // SAFETY: as the caller promises.
    let parent = unsafe { (*child).top_parent };
    // SAFETY: as above; a child has a parent.
    unsafe { pg_sys::adjust_appendrel_attrs_multilevel(root, node, child, parent) }
}

/// As above.
///
/// # Safety
///
/// As above.
#[cfg(feature = "pg15")]
pub(super) unsafe fn of_child(
    root: *mut pg_sys::PlannerInfo,
    node: *mut pg_sys::Node,
    child: *mut pg_sys::RelOptInfo,
) -> *mut pg_sys::Node {
    // SAFETY: as above.
    let child = unsafe { &*child };
    // SAFETY: as above.
    unsafe { pg_sys::adjust_appendrel_attrs_multilevel(root, node, child.relids, child.top_parent_relids) }
}

/// The workers that a scan of a table of so many pages is worth.
pub(super) fn parallel_workers(rel: *mut pg_sys::RelOptInfo, pages: f64) -> c_int {
    // SAFETY: reading a setting of the backend's only thread.
    let most = unsafe { pg_sys::max_parallel_workers_per_gather };
    // SAFETY: the relation is the one that is planned; there is no index (-1).
    unsafe { pg_sys::compute_parallel_worker(rel, pages, -1.0, most) }
}

/// Whether a user may do with a table what its owner may.
#[cfg(not(feature = "pg15"))]
pub(super) fn owns_table(relation: pg_sys::Oid, user: pg_sys::Oid) -> bool {
    // SAFETY: it looks the table up.
    unsafe { pg_sys::object_ownercheck(pg_sys::RelationRelationId, relation, user) }
}

/// As above.
#[cfg(feature = "pg15")]
pub(super) fn owns_table(relation: pg_sys::Oid, user: pg_sys::Oid) -> bool {
    // SAFETY: as above.
    unsafe { pg_sys::pg_class_ownercheck(relation, user) }
}
