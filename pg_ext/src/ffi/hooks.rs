//! Hearing of queries and transactions: which queries are going on decides how long a statement's snapshots are kept.

use std::ffi::{c_int, c_void};
use std::sync::OnceLock;

use pgrx::pg_sys;
use pgrx::pg_sys::ffi::pg_guard_ffi_boundary;

use crate::snapshots;

/// What the hooks were before: another extension's, or nothing.
static FORMER_START: OnceLock<pg_sys::ExecutorStart_hook_type> = OnceLock::new();
static FORMER_END: OnceLock<pg_sys::ExecutorEnd_hook_type> = OnceLock::new();

/// Puts the hooks in place.
///
/// # Safety
///
/// Called once, while Postgres loads the library.
pub(super) unsafe fn install() {
    // SAFETY: here and below: the variables are those of the backend's only thread, and what is put there lives as long
    // as the library, which is never unloaded.
    let former_start = unsafe { pg_sys::ExecutorStart_hook };
    // SAFETY: as above.
    let former_end = unsafe { pg_sys::ExecutorEnd_hook };
    if FORMER_START.set(former_start).is_err() || FORMER_END.set(former_end).is_err() {
        return;
    }
    // SAFETY: as above.
    unsafe { pg_sys::ExecutorStart_hook = Some(executor_start) };
    // SAFETY: as above.
    unsafe { pg_sys::ExecutorEnd_hook = Some(executor_end) };
    // SAFETY: as above.
    unsafe { pg_sys::RegisterXactCallback(Some(transaction_event), std::ptr::null_mut()) };
    // SAFETY: as above.
    unsafe { pg_sys::RegisterSubXactCallback(Some(subtransaction_event), std::ptr::null_mut()) };
}

/// A query starts.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    // SAFETY: the executor passes the query that it starts.
    let snapshot = unsafe { (*query).snapshot };
    // SAFETY: reading how deep in subtransactions this is.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    // Its scans begin within the call below. If that fails, the transaction does.
    snapshots::query_starts(query.addr(), snapshot.addr(), level);
    match FORMER_START.get().copied().flatten() {
        Some(former) => {
            // SAFETY: the hook is another extension's.
            let call = || unsafe { former(query, flags) };
            // SAFETY: nothing here needs to be dropped.
            unsafe { pg_guard_ffi_boundary(call) }
        }
        // SAFETY: what Postgres does without a hook.
        None => unsafe { pg_sys::standard_ExecutorStart(query, flags) },
    }
}

/// A query ends.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn executor_end(query: *mut pg_sys::QueryDesc) {
    match FORMER_END.get().copied().flatten() {
        Some(former) => {
            // SAFETY: the hook is another extension's.
            let call = || unsafe { former(query) };
            // SAFETY: nothing here needs to be dropped.
            unsafe { pg_guard_ffi_boundary(call) }
        }
        // SAFETY: what Postgres does without a hook.
        None => unsafe { pg_sys::standard_ExecutorEnd(query) },
    }
    snapshots::query_ends(query.addr());
}

/// Something happens to a transaction.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn transaction_event(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::{
        XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PARALLEL_ABORT, XACT_EVENT_PARALLEL_COMMIT, XACT_EVENT_PREPARE,
    };
    let over = [
        XACT_EVENT_ABORT,
        XACT_EVENT_COMMIT,
        XACT_EVENT_PARALLEL_ABORT,
        XACT_EVENT_PARALLEL_COMMIT,
        XACT_EVENT_PREPARE,
    ];
    if over.contains(&event) {
        snapshots::transaction_ends();
    }
}

/// Something happens to a subtransaction.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn subtransaction_event(
    event: pg_sys::SubXactEvent::Type,
    _own: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    // SAFETY: reading how deep in subtransactions this is.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => snapshots::subtransaction_aborts(level),
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => snapshots::subtransaction_commits(level),
        _ => {}
    }
}
