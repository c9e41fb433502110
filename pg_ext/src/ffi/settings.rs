//! The settings `soa_fdw.…`.

use std::num::NonZeroUsize;

use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting};

static PUSHDOWN: GucSetting<bool> = GucSetting::<bool>::new(true);
static THREADS: GucSetting<i32> = GucSetting::<i32>::new(0);
static SEVERAL_STORES: GucSetting<bool> = GucSetting::<bool>::new(false);
static WORK_MEM: GucSetting<i32> = GucSetting::<i32>::new(WORK_MEM_KB);

/// The default of `soa_fdw.work_mem`.
const WORK_MEM_KB: i32 = 1 << 20;
/// Less than this nothing can work with.
const WORK_MEM_KB_MIN: i32 = 16 << 10;
const THREADS_MAX: i32 = 1024;

/// Makes the settings known. Called once.
pub(super) fn define() {
    GucRegistry::define_bool_guc(
        c"soa_fdw.pushdown",
        c"Join, aggregate and order rows of stores before Postgres sees them, where the answer is the same.",
        c"",
        &PUSHDOWN,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    GucRegistry::define_bool_guc(
        c"soa_fdw.several_stores",
        c"Let a transaction change more than one store.",
        c"Each store commits by itself: if a later one fails, the earlier ones stay as they are then.",
        &SEVERAL_STORES,
        GucContext::Userset,
        GucFlags::default(),
    );
    GucRegistry::define_int_guc(
        c"soa_fdw.threads",
        c"The threads that compute with the rows of stores in each session; 0 means as many as there are processors.",
        c"A session takes the value that it has when it first computes something.",
        &THREADS,
        0,
        THREADS_MAX,
        GucContext::Userset,
        GucFlags::EXPLAIN,
    );
    GucRegistry::define_int_guc(
        c"soa_fdw.work_mem",
        c"The memory that a query over stores may take before it writes to temporary files.",
        c"",
        &WORK_MEM,
        WORK_MEM_KB_MIN,
        i32::MAX,
        GucContext::Userset,
        GucFlags::UNIT_KB | GucFlags::EXPLAIN,
    );
}

/// Whether a transaction may change more than one store.
pub(super) fn several_stores() -> bool {
    SEVERAL_STORES.get()
}

/// Whether anything is computed before Postgres sees rows.
pub(super) fn pushes_down() -> bool {
    PUSHDOWN.get()
}

/// How many threads compute.
pub(crate) fn threads() -> usize {
    let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    usize::try_from(THREADS.get()).ok().filter(|threads| *threads > 0).unwrap_or_else(available)
}

/// The bytes that a computation may take.
pub(crate) fn work_mem() -> usize {
    usize::try_from(WORK_MEM.get()).unwrap_or_default().saturating_mul(1024)
}
