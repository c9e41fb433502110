//! A scan by several processes, which claim units from one counter in shared memory.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

use pgrx::{PgSqlErrorCode, pg_sys};
use soa_core::store::SnapshotId;

use super::executor::{self, State};
use super::run;
use crate::error::{PgError, Result, Step};
use crate::scan::Scan;

/// In the place of a frame's number: the leader sees nothing of the write-ahead log.
const NO_FRAME: u64 = u64::MAX;

/// No store has so many units, and no scan so many processes that this overflows.
const ALL_CLAIMED: u64 = u64::MAX / 2;

/// What the processes of a scan share. There are no pointers in it: each process has it at another address.
#[derive(Debug)]
#[repr(C)]
struct Shared {
    /// The version of the store that the leader reads.
    version: u64,
    /// The last frame of the write-ahead log that the leader sees, or [`NO_FRAME`].
    log_sequence: u64,
    /// The position that nobody has claimed yet.
    next_position: AtomicU64,
    /// What the first process to plan looks for; 0 before.
    fingerprint: AtomicU64,
    /// The rows of the units that were read.
    rows_read: AtomicU64,
}

/// A scan's part of the shared memory.
///
/// It is good until [`Scan::unshare`] lets go of it, which Postgres asks for before it unmaps the memory.
#[derive(Debug)]
pub(crate) struct SharedScan(NonNull<Shared>);

impl SharedScan {
    /// # Safety
    ///
    /// The place holds a [`Shared`] for as long as this is used.
    unsafe fn at(place: *mut c_void) -> Result<Self> {
        NonNull::new(place.cast()).map(Self).ok_or_else(|| PgError::internal("a parallel scan has no shared memory"))
    }

    fn shared(&self) -> &Shared {
        // SAFETY: as promised to `at`; all that changes is atomic.
        unsafe { self.0.as_ref() }
    }

    /// The snapshot of the store that the leader reads.
    pub(crate) fn snapshot(&self) -> SnapshotId {
        let Shared { version, log_sequence, .. } = *self.shared();
        SnapshotId { version, log_sequence: Some(log_sequence).filter(|sequence| *sequence != NO_FRAME) }
    }

    /// The next position of a unit that nobody else has claimed; it may be past the last.
    pub(crate) fn claim(&self) -> u64 {
        self.shared().next_position.fetch_add(1, Ordering::Relaxed)
    }

    /// Leaves nothing to the others.
    pub(crate) fn claim_all(&self) {
        self.shared().next_position.store(ALL_CLAIMED, Ordering::Relaxed);
    }

    /// Counts rows as read.
    pub(crate) fn count_rows(&self, rows: u64) {
        self.shared().rows_read.fetch_add(rows, Ordering::Relaxed);
    }

    /// The rows that all processes have read.
    pub(crate) fn rows_read(&self) -> u64 {
        self.shared().rows_read.load(Ordering::Relaxed)
    }

    /// Whether the processes that have planned look for the same. The number is not 0.
    pub(crate) fn agrees_on(&self, fingerprint: u64) -> bool {
        let first = self.shared().fingerprint.compare_exchange(0, fingerprint, Ordering::Relaxed, Ordering::Relaxed);
        first.map_or_else(|other| other == fingerprint, |_| true)
    }
}

/// How much shared memory a scan needs.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn estimate_dsm_foreign_scan(
    _node: *mut pg_sys::ForeignScanState,
    _context: *mut pg_sys::ParallelContext,
) -> pg_sys::Size {
    run(Step::EstimateDsm, || Ok(size_of::<Shared>()))
}

/// The leader fills the shared memory.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn initialize_dsm_foreign_scan(
    node: *mut pg_sys::ForeignScanState,
    _context: *mut pg_sys::ParallelContext,
    place: *mut c_void,
) {
    run(Step::InitializeDsm, || {
        // SAFETY: the executor passes a node whose scan has begun.
        let node = unsafe { &*node };
        // SAFETY: as above.
        let state = unsafe { State::of(node)? };
        let scan = state.scan()?;
        let SnapshotId { version, log_sequence } = scan.snapshot();
        let shared = Shared {
            version,
            log_sequence: log_sequence.unwrap_or(NO_FRAME),
            next_position: AtomicU64::new(0),
            fingerprint: AtomicU64::new(0),
            rows_read: AtomicU64::new(0),
        };
        // SAFETY: the place has the size that was asked for, and Postgres aligns it for every type.
        unsafe { place.cast::<Shared>().write(shared) };
        // SAFETY: it was just written, and stays until the scan is shut down.
        let is_shared = scan.share(unsafe { SharedScan::at(place)? });
        // SAFETY: reading a setting of the backend's only thread.
        if !is_shared && !unsafe { pg_sys::parallel_leader_participation } {
            let message = "parallel workers do not see what this transaction has changed of a store";
            return Err(PgError::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
                .with_hint("SET parallel_leader_participation = on, or SET plan_cache_mode = force_custom_plan."));
        }
        Ok(())
    });
}

/// The leader starts the scan again.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn reinitialize_dsm_foreign_scan(
    _node: *mut pg_sys::ForeignScanState,
    _context: *mut pg_sys::ParallelContext,
    place: *mut c_void,
) {
    run(Step::ReinitializeDsm, || {
        // SAFETY: the leader has filled the place, and no worker runs now.
        let shared = unsafe { SharedScan::at(place)? };
        if shared.shared().next_position.load(Ordering::Relaxed) < ALL_CLAIMED {
            shared.shared().next_position.store(0, Ordering::Relaxed);
        }
        // A parameter may have changed.
        shared.shared().fingerprint.store(0, Ordering::Relaxed);
        Ok(())
    });
}

/// A worker joins.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn initialize_worker_foreign_scan(
    node: *mut pg_sys::ForeignScanState,
    _toc: *mut pg_sys::shm_toc,
    place: *mut c_void,
) {
    run(Step::InitializeWorker, || {
        // SAFETY: the executor passes a node whose scan has begun.
        let node = unsafe { &*node };
        // SAFETY: as above.
        let state = unsafe { State::of(node)? };
        let (table, private) = state.take_parts()?;
        // SAFETY: the leader has filled the place, which stays until the scan is shut down.
        let shared = unsafe { SharedScan::at(place)? };
        // SAFETY: the node has a slot.
        let shape = unsafe { executor::shape_of(node) };
        state.set_scan(Scan::join(table, private, shared, shape)?);
        Ok(())
    });
}

/// A process leaves, and the shared memory goes.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn shutdown_foreign_scan(node: *mut pg_sys::ForeignScanState) {
    run(Step::Shutdown, || {
        // SAFETY: the executor passes a node.
        let node = unsafe { &*node };
        // SAFETY: as above; a worker that failed to join has no scan.
        let state = unsafe { State::of(node)? };
        if let Ok(scan) = state.scan() {
            scan.unshare();
        }
        Ok(())
    });
}
