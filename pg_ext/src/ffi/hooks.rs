//! Hearing of queries and transactions: which queries are going on decides how long a statement's snapshots are kept.
//!
//! Every query of a session passes through the hook, those on other tables included. So Postgres' own errors pass as
//! they are: the calls are made without `pgrx`'s guard, which would make errors anew, from frames that have nothing to
//! drop.

use std::ffi::{c_int, c_void};
use std::ptr;
use std::sync::OnceLock;

use pgrx::{PgSqlErrorCode, pg_sys};

use super::{modify, run};
use crate::error::{PgError, Result, Step};
use crate::{snapshots, transactions};

/// What the hook was before: another extension's, or nothing.
static FORMER_START: OnceLock<pg_sys::ExecutorStart_hook_type> = OnceLock::new();

static FORMER_FINISH: OnceLock<pg_sys::ExecutorFinish_hook_type> = OnceLock::new();

unsafe extern "C-unwind" {
    /// What Postgres does without a hook.
    fn standard_ExecutorStart(query: *mut pg_sys::QueryDesc, flags: c_int);
    fn standard_ExecutorFinish(query: *mut pg_sys::QueryDesc);
    fn MemoryContextReset(memory: pg_sys::MemoryContext);
}

/// Puts the hook in place.
///
/// # Safety
///
/// Called once, while Postgres loads the library.
pub(super) unsafe fn install() {
    // SAFETY: here and below: the variable is that of the backend's only thread, and what is put there lives as long as
    // the library, which is never unloaded.
    let former = unsafe { pg_sys::ExecutorStart_hook };
    if FORMER_START.set(former).is_err() {
        return;
    }
    // SAFETY: as above.
    unsafe { pg_sys::ExecutorStart_hook = Some(executor_start) };
    // SAFETY: as above.
    let former = unsafe { pg_sys::ExecutorFinish_hook };
    if FORMER_FINISH.set(former).is_err() {
        return;
    }
    // SAFETY: as above.
    unsafe { pg_sys::ExecutorFinish_hook = Some(executor_finish) };
    // SAFETY: as above.
    unsafe { pg_sys::RegisterXactCallback(Some(transaction_event), ptr::null_mut()) };
    // SAFETY: as above.
    unsafe { pg_sys::RegisterSubXactCallback(Some(subtransaction_event), ptr::null_mut()) };
    // SAFETY: as above.
    unsafe { pg_sys::RegisterResourceReleaseCallback(Some(owner_releases), ptr::null_mut()) };
    // The library may be loaded by a function that a query calls, which has started before.
    // SAFETY: as above.
    let active = unsafe { pg_sys::ActivePortal };
    // SAFETY: the portal that is active is live, or there is none.
    if let Some(portal) = unsafe { active.as_ref() } {
        // SAFETY: a portal's query is null or live.
        unsafe { note(portal.queryDesc, portal.resowner) };
    }
}

/// A query starts.
unsafe extern "C-unwind" fn executor_start(query: *mut pg_sys::QueryDesc, flags: c_int) {
    match FORMER_START.get().copied().flatten() {
        // SAFETY: the hook is another extension's.
        Some(former) => unsafe { former(query, flags) },
        // SAFETY: the executor passes the query that it starts.
        None => unsafe { standard_ExecutorStart(query, flags) },
    }
    // SAFETY: as above.
    unsafe { note_started(query) };
}

/// A query has run, and its triggers are about to.
unsafe extern "C-unwind" fn executor_finish(query: *mut pg_sys::QueryDesc) {
    // SAFETY: the executor passes the query that it finishes.
    unsafe { run_to_the_end(query) };
    // SAFETY: as above.
    unsafe { finish_modifications(query) };
    match FORMER_FINISH.get().copied().flatten() {
        // SAFETY: the hook is another extension's.
        Some(former) => unsafe { former(query) },
        // SAFETY: as above.
        None => unsafe { standard_ExecutorFinish(query) },
    }
}

/// Runs what changes rows in a WITH and was not read to its end, as Postgres does a moment later: but then triggers follow at once,
/// which are to see all changes.
///
/// # Safety
///
/// The query is one that has run.
unsafe fn run_to_the_end(query: *mut pg_sys::QueryDesc) {
    // SAFETY: as the caller promises.
    let state = unsafe { (*query).estate };
    // SAFETY: a query that has run has its state.
    let Some(known) = (unsafe { state.as_ref() }) else { return };
    // SAFETY: it is null or a list of such nodes.
    let Some(nodes) = (unsafe { known.es_auxmodifytables.as_ref() }) else { return };
    let is_shown_alone = known.es_top_eflags & pg_sys::EXEC_FLAG_EXPLAIN_ONLY as c_int != 0;
    if known.es_finished || is_shown_alone {
        return;
    }
    let memory = known.es_query_cxt;
    // SAFETY: the state is live, and nobody has it now; here and below.
    unsafe { (*state).es_direction = pg_sys::ScanDirection::ForwardScanDirection };
    // SAFETY: the variable is that of the backend's only thread.
    let former = unsafe { pg_sys::CurrentMemoryContext };
    // SAFETY: a query's memory is live; the former one is set again below, or by whoever handles an error.
    unsafe { pg_sys::CurrentMemoryContext = memory };
    for place in 0..usize::try_from(nodes.length).unwrap_or_default() {
        // SAFETY: the list has so many cells.
        let cell = unsafe { nodes.elements.add(place) };
        // SAFETY: as above.
        let cell = unsafe { cell.read() };
        // SAFETY: each is a node.
        let node: *mut pg_sys::PlanState = unsafe { cell.ptr_value }.cast();
        // SAFETY: which is live.
        let Some(next) = (unsafe { (*node).ExecProcNode }) else { continue };
        loop {
            // SAFETY: as above.
            let row_memory = unsafe { (*state).es_per_tuple_exprcontext };
            // SAFETY: it is null or live.
            if let Some(row_memory) = unsafe { row_memory.as_ref() } {
                // SAFETY: as Postgres does it for each row.
                unsafe { MemoryContextReset(row_memory.ecxt_per_tuple_memory) };
            }
            // SAFETY: the node is one of the query's plan.
            let slot = unsafe { next(node) };
            // SAFETY: it gives a slot or null.
            if unsafe { slot.as_ref() }.is_none_or(|slot| slot.tts_flags & pg_sys::TTS_FLAG_EMPTY as u16 != 0) {
                break;
            }
        }
    }
    // SAFETY: as above.
    unsafe { pg_sys::CurrentMemoryContext = former };
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn finish_modifications(query: *mut pg_sys::QueryDesc) {
    // SAFETY: as the caller promises.
    let state = unsafe { (*query).estate };
    // SAFETY: a query that has run has its state.
    if let Some(state) = unsafe { state.as_ref() } {
        // SAFETY: as above.
        unsafe { modify::finish_all(state) };
    }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn note_started(query: *mut pg_sys::QueryDesc) {
    // The one that the query's snapshot was registered with a moment ago.
    // SAFETY: reading a variable of the backend's only thread.
    let owner = unsafe { pg_sys::CurrentResourceOwner };
    // SAFETY: as the caller promises.
    unsafe { note(query, owner) };
}

/// Remembers a query until its memory goes, or its resources do.
///
/// # Safety
///
/// The query is null or live.
unsafe fn note(query: *mut pg_sys::QueryDesc, owner: pg_sys::ResourceOwner) {
    // SAFETY: as the caller promises.
    let Some(query) = (unsafe { query.as_ref() }) else { return };
    // SAFETY: a query's state is null or live.
    let Some(state) = (unsafe { query.estate.as_ref() }) else { return };
    let size = size_of::<pg_sys::MemoryContextCallback>();
    // SAFETY: a query's memory is live.
    let callback = unsafe { pg_sys::MemoryContextAlloc(state.es_query_cxt, size) };
    let callback = callback.cast::<pg_sys::MemoryContextCallback>();
    let id = callback.addr();
    let entry = pg_sys::MemoryContextCallback {
        func: Some(memory_goes),
        arg: ptr::without_provenance_mut(id),
        next: ptr::null_mut(),
    };
    // SAFETY: it was allocated for this.
    unsafe { callback.write(entry) };
    // SAFETY: the callback is in the memory whose end it is called at.
    unsafe { pg_sys::MemoryContextRegisterResetCallback(state.es_query_cxt, callback) };
    snapshots::query_starts(id, query.snapshot.addr(), owner.addr());
}

/// A query's memory goes.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn memory_goes(id: *mut c_void) {
    snapshots::query_ends(id.addr());
}

/// A resource owner lets go of what it holds: the current one. A cursor that fails in a subtransaction keeps its memory,
/// but not its snapshot.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn owner_releases(
    phase: pg_sys::ResourceReleasePhase::Type,
    _is_commit: bool,
    _is_top_level: bool,
    _argument: *mut c_void,
) {
    if phase == pg_sys::ResourceReleasePhase::RESOURCE_RELEASE_BEFORE_LOCKS {
        // SAFETY: reading a variable of the backend's only thread.
        let owner = unsafe { pg_sys::CurrentResourceOwner };
        snapshots::owner_releases(owner.addr());
    }
}

/// Something happens to a transaction.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn transaction_event(event: pg_sys::XactEvent::Type, _argument: *mut c_void) {
    use pg_sys::XactEvent::{
        XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PRE_COMMIT, XACT_EVENT_PRE_PREPARE, XACT_EVENT_PREPARE,
    };
    if event == XACT_EVENT_PRE_COMMIT {
        // An error here gives the transaction up.
        run(Step::Commit, transactions::commit);
    }
    if event == XACT_EVENT_PRE_PREPARE {
        run(Step::Commit, refuse_to_prepare);
    }
    if [XACT_EVENT_ABORT, XACT_EVENT_COMMIT, XACT_EVENT_PREPARE].contains(&event) {
        snapshots::transaction_ends();
        transactions::end();
    }
}

fn refuse_to_prepare() -> Result<()> {
    if !transactions::have_changed_any() {
        return Ok(());
    }
    let message = "a transaction that has changed a store cannot be prepared";
    Err(PgError::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message))
}

/// Something happens to a subtransaction.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn subtransaction_event(
    event: pg_sys::SubXactEvent::Type,
    _own: pg_sys::SubTransactionId,
    _parent: pg_sys::SubTransactionId,
    _argument: *mut c_void,
) {
    // SAFETY: it reads a variable.
    let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
    match event {
        pg_sys::SubXactEvent::SUBXACT_EVENT_ABORT_SUB => transactions::subtransaction_fails(level),
        pg_sys::SubXactEvent::SUBXACT_EVENT_COMMIT_SUB => transactions::subtransaction_ends(level),
        _ => {}
    }
}
