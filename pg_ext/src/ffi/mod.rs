//! The functions that Postgres calls, and the calls into Postgres: all unsafe code of this extension.
//!
//! **Invariant.** Everything here runs on a backend's only thread. Pointers that Postgres passes to a callback are live
//! and of the type that its interface says for as long as the callback runs; what a callback keeps for later is in
//! memory that Postgres keeps as long ([`executor`]), or in nodes that Postgres may copy ([`planner`]).
//!
//! **Invariant.** A callback's body runs within [`run`], itself within a function that `pgrx` guards: an error of
//! Postgres' within the body unwinds as a panic, so that values are dropped, and leaves as an error of Postgres' again.
//! A panic becomes an `ERROR` as well.
#![expect(unsafe_code, reason = "Postgres' interface is pointers to its own structures")]

mod analyze;
mod catalog;
mod collations;
mod compat;
mod computed;
mod conditions;
mod executor;
mod functions;
mod grouping;
mod hooks;
mod import;
mod joins;
mod list;
mod lookups;
mod modify;
mod ordering;
mod parallel;
mod parts;
mod planner;
mod reasons;
pub(crate) mod settings;
mod slot;
mod source;
mod statistics;
mod upper;
mod values;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem::MaybeUninit;
use std::path::{Path, PathBuf};
use std::ptr;
use std::sync::OnceLock;
use std::time::Duration;

use pgrx::pg_sys;
use pgrx::{GucContext, GucFlags, GucRegistry, GucSetting, PgLogLevel, PgSqlErrorCode, PgTryBuilder};

use crate::error::{PgError, Result, Step, arm_test_panics, panics_are_armed};
use crate::rows::Encoding;

pub(crate) use self::parallel::SharedScan;

pgrx::pg_module_magic!(name, version);

/// For tests: names the [`Step`] that panics. The setting exists only in a server whose environment has
/// [`TEST_PANIC_VARIABLE`].
const TEST_PANIC_SETTING: &CStr = c"soa_fdw.test_panic";
const TEST_PANIC_VARIABLE: &str = "SOA_TEST_PANIC";
static TEST_PANIC: GucSetting<Option<CString>> = GucSetting::<Option<CString>>::new(None);

/// Called by Postgres when it loads the library. (The guard exports it under this name.)
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn _PG_init() {
    if std::env::var_os(TEST_PANIC_VARIABLE).is_some() {
        GucRegistry::define_string_guc(
            TEST_PANIC_SETTING,
            c"The callback that panics, for tests.",
            c"",
            &TEST_PANIC,
            GucContext::Suset,
            GucFlags::default(),
        );
        arm_test_panics();
    }
    settings::define();
    // SAFETY: Postgres calls this once.
    unsafe { hooks::install() };
    // SAFETY: as above.
    unsafe { statistics::install() };
}

/// Makes a function callable from SQL by its name: the record that `PG_FUNCTION_INFO_V1` makes in C.
macro_rules! sql_function {
    ($info:ident) => {
        #[unsafe(no_mangle)]
        extern "C" fn $info() -> &'static pg_sys::Pg_finfo_record {
            const RECORD: pg_sys::Pg_finfo_record = pg_sys::Pg_finfo_record { api_version: 1 };
            &RECORD
        }
    };
}

sql_function!(pg_finfo_soa_fdw_handler);
sql_function!(pg_finfo_soa_fdw_validator);
sql_function!(pg_finfo_soa_schema);
sql_function!(pg_finfo_soa_segments);
sql_function!(pg_finfo_soa_history);
sql_function!(pg_finfo_soa_verify);
sql_function!(pg_finfo_soa_compact);
sql_function!(pg_finfo_soa_vacuum);

/// `soa_fdw_handler() RETURNS fdw_handler`: the callbacks.
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn soa_fdw_handler(_call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let routine = pg_sys::FdwRoutine {
        type_: pg_sys::NodeTag::T_FdwRoutine,
        GetForeignRelSize: Some(planner::get_foreign_rel_size),
        GetForeignPaths: Some(planner::get_foreign_paths),
        GetForeignJoinPaths: Some(joins::get_foreign_join_paths),
        GetForeignUpperPaths: Some(upper::get_foreign_upper_paths),
        GetForeignPlan: Some(planner::get_foreign_plan),
        ReparameterizeForeignPathByChild: Some(lookups::reparameterize_foreign_path_by_child),
        IsForeignScanParallelSafe: Some(planner::is_foreign_scan_parallel_safe),
        BeginForeignScan: Some(executor::begin_foreign_scan),
        IterateForeignScan: Some(executor::iterate_foreign_scan),
        ReScanForeignScan: Some(executor::rescan_foreign_scan),
        EndForeignScan: Some(executor::end_foreign_scan),
        ExplainForeignScan: Some(executor::explain_foreign_scan),
        EstimateDSMForeignScan: Some(parallel::estimate_dsm_foreign_scan),
        InitializeDSMForeignScan: Some(parallel::initialize_dsm_foreign_scan),
        ReInitializeDSMForeignScan: Some(parallel::reinitialize_dsm_foreign_scan),
        InitializeWorkerForeignScan: Some(parallel::initialize_worker_foreign_scan),
        ShutdownForeignScan: Some(parallel::shutdown_foreign_scan),
        AnalyzeForeignTable: Some(analyze::analyze_foreign_table),
        IsForeignRelUpdatable: Some(modify::is_foreign_rel_updatable),
        GetForeignRowMarkType: Some(modify::get_foreign_row_mark_type),
        AddForeignUpdateTargets: Some(modify::add_foreign_update_targets),
        PlanForeignModify: Some(modify::plan_foreign_modify),
        BeginForeignModify: Some(modify::begin_foreign_modify),
        ExecForeignInsert: Some(modify::exec_foreign_insert),
        ExecForeignBatchInsert: Some(modify::exec_foreign_batch_insert),
        GetForeignModifyBatchSize: Some(modify::get_foreign_modify_batch_size),
        ExecForeignUpdate: Some(modify::exec_foreign_update),
        ExecForeignDelete: Some(modify::exec_foreign_delete),
        EndForeignModify: Some(modify::end_foreign_modify),
        BeginForeignInsert: Some(modify::begin_foreign_insert),
        EndForeignInsert: Some(modify::end_foreign_modify),
        ExecForeignTruncate: Some(modify::exec_foreign_truncate),
        ImportForeignSchema: Some(import::import_foreign_schema),
        ..Default::default()
    };
    // SAFETY: the size is that of what is written there next.
    let memory = unsafe { pg_sys::palloc(size_of::<pg_sys::FdwRoutine>()) }.cast::<pg_sys::FdwRoutine>();
    // SAFETY: the memory was allocated for this, and palloc aligns for every type.
    unsafe { memory.write(routine) };
    pg_sys::Datum::from(memory)
}

/// `soa_fdw_validator(text[], oid) RETURNS void`: checks the options of what is being made or changed.
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn soa_fdw_validator(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    run(Step::Validate, || {
        // SAFETY: Postgres calls this with the two arguments that it was declared with, neither of them NULL.
        let options = unsafe { argument(call, 0) };
        // SAFETY: as above.
        let catalog = unsafe { argument(call, 1) };
        catalog::validate(options, pg_sys::Oid::from(catalog.value() as u32))
    });
    pg_sys::Datum::from(0)
}

/// # Safety
///
/// The call has that argument, and it is not NULL.
unsafe fn argument(call: pg_sys::FunctionCallInfo, index: usize) -> pg_sys::Datum {
    // SAFETY: as the caller promises.
    let value = unsafe { pgrx::pg_getarg_datum(call, index) };
    value.unwrap_or(pg_sys::Datum::null())
}

/// Runs the body of a callback. An error is raised, which ends the statement.
fn run<T>(step: Step, body: impl FnOnce() -> Result<T>) -> T {
    if panics_are_armed() {
        panic_if_asked(step);
    }
    match body() {
        Ok(value) => value,
        Err(error) => raise(error, step),
    }
}

fn raise(error: PgError, step: Step) -> ! {
    report(error, PgLogLevel::ERROR, step);
    unreachable!("an ERROR was reported")
}

fn report(error: PgError, level: PgLogLevel, step: Step) {
    let mut report = pgrx::pg_sys::panic::ErrorReport::new(error.code, reportable(error.message), step.name());
    if let Some(detail) = error.detail {
        report = report.set_detail(reportable(detail));
    }
    if let Some(hint) = error.hint {
        report = report.set_hint(reportable(hint));
    }
    report.report(level);
}

/// A message as the database can hold it: reports are UTF-8 here, whatever the database's encoding is.
fn reportable(message: String) -> String {
    if message.is_ascii() || database_has_utf8() {
        return message;
    }
    message.chars().map(|c| if c.is_ascii() { c.to_string() } else { c.escape_unicode().to_string() }).collect()
}

fn panic_if_asked(step: Step) {
    let asked = TEST_PANIC.get();
    if asked.is_some_and(|asked| asked.as_bytes() == step.name().as_bytes()) {
        panic!("asked for by {}", TEST_PANIC_SETTING.to_string_lossy());
    }
}

/// Ends the statement here if it was cancelled or the backend is to end.
pub(crate) fn check_for_interrupts() {
    pg_sys::check_for_interrupts!();
}

/// Calls something while all signals are blocked in this thread, and in all threads that are started meanwhile, for ever: the
/// handlers of Postgres must not run in those.
pub(crate) fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    let mut all = MaybeUninit::<libc::sigset_t>::uninit();
    let mut former = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: the place is that of a set, which this fills.
    unsafe { libc::sigfillset(all.as_mut_ptr()) };
    // SAFETY: the set was filled, and the other place takes the one that was there before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, all.as_ptr(), former.as_mut_ptr()) };
    let result = start();
    // SAFETY: the set is the one that was there before.
    unsafe { libc::pthread_sigmask(libc::SIG_SETMASK, former.as_ptr(), ptr::null_mut()) };
    result
}

/// The folder for this backend's temporary files, which goes when the backend ends. One whose backend was killed goes when
/// Postgres starts again, which it then does: it is called as Postgres' own temporary files are.
pub(crate) fn temporary_folder() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        // SAFETY: it is a string that lives as long as the server.
        let data = unsafe { pg_sys::DataDir };
        // SAFETY: as above.
        let data = unsafe { text_of(data) };
        // SAFETY: the function lives as long as the library, which is never unloaded.
        unsafe { pg_sys::on_proc_exit(Some(remove_temporary_folder), pg_sys::Datum::from(0)) };
        Path::new(&data).join(format!("base/pgsql_tmp/pgsql_tmp_soa_fdw.{}", std::process::id()))
    })
}

/// How often the folder's removal is tried, and how long is waited in between.
const REMOVALS_MAX: usize = 20;
const BETWEEN_REMOVALS: Duration = Duration::from_millis(5);

/// The backend ends, whether something is still being computed or not.
unsafe extern "C-unwind" fn remove_temporary_folder(_code: c_int, _argument: pg_sys::Datum) {
    // A thread may be about to write a file. There is nobody left to tell.
    for _ in 0..REMOVALS_MAX {
        match std::fs::remove_dir_all(temporary_folder()) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => std::thread::sleep(BETWEEN_REMOVALS),
            _ => break,
        }
    }
}

/// What text must be for this database.
fn encoding() -> Encoding {
    match database_has_utf8() {
        true => Encoding::Utf8,
        false => Encoding::Other(to_database_encoding),
    }
}

/// Whether text of the database is UTF-8, or may be: a database of SQL_ASCII takes bytes as they are.
fn database_has_utf8() -> bool {
    // SAFETY: it reads a variable.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    [pg_sys::pg_enc::PG_UTF8, pg_sys::pg_enc::PG_SQL_ASCII].contains(&(encoding as u32))
}

/// Whether text of the database is UTF-8 and nothing else: in one of SQL_ASCII it may be anything, and each byte is a character.
fn has_utf8_alone() -> bool {
    // SAFETY: it reads a variable.
    let encoding = unsafe { pg_sys::GetDatabaseEncoding() };
    encoding as u32 == pg_sys::pg_enc::PG_UTF8
}

/// Whether the database's encoding has every character of a name.
pub(crate) fn check_encodable(name: &str) -> Result<()> {
    if name.is_ascii() || database_has_utf8() {
        return Ok(());
    }
    let refused = |_| {
        let message = format!("the name \"{name}\" has a character that the database's encoding has not");
        Err(PgError::new(PgSqlErrorCode::ERRCODE_UNTRANSLATABLE_CHARACTER, message))
    };
    // Nothing is left half done when an encoding's conversion fails, so its error can be taken for an answer.
    PgTryBuilder::new(|| {
        to_database_encoding(name);
        Ok(())
    })
    .catch_when(PgSqlErrorCode::ERRCODE_UNTRANSLATABLE_CHARACTER, refused)
    .execute()
}

fn to_database_encoding(text: &str) -> Vec<u8> {
    if text.is_ascii() {
        return text.as_bytes().to_vec();
    }
    let utf8 = pg_sys::pg_enc::PG_UTF8 as c_int;
    let length = text.len() as c_int;
    // SAFETY: the pointer and the length are those of the text, which no NUL is in.
    let converted = unsafe { pg_sys::pg_any_to_server(text.as_ptr().cast::<c_char>(), length, utf8) };
    if converted.cast_const() == text.as_ptr().cast::<c_char>() {
        return text.as_bytes().to_vec();
    }
    // SAFETY: it returned another text, allocated and with a NUL at its end.
    let bytes = unsafe { CStr::from_ptr(converted) }.to_bytes().to_vec();
    // SAFETY: as before, and nothing else refers to it.
    unsafe { pg_sys::pfree(converted.cast::<c_void>()) };
    bytes
}

/// A C string of Postgres' as Rust's.
///
/// # Safety
///
/// The pointer is null or leads to a string with a NUL at its end, in the database's encoding.
unsafe fn text_of(string: *const c_char) -> String {
    if string.is_null() {
        return String::new();
    }
    // SAFETY: as the caller promises.
    let bytes = unsafe { CStr::from_ptr(string) };
    if bytes.to_bytes().is_ascii() || database_has_utf8() {
        return bytes.to_string_lossy().into_owned();
    }
    let length = bytes.to_bytes().len() as c_int;
    // SAFETY: the pointer and the length are those of the string.
    let converted = unsafe { pg_sys::pg_server_to_any(string, length, pg_sys::pg_enc::PG_UTF8 as c_int) };
    // SAFETY: it returned a string with a NUL at its end.
    unsafe { CStr::from_ptr(converted) }.to_string_lossy().into_owned()
}

/// A copy of the text in Postgres' memory, in the database's encoding.
fn palloc_text(text: &str) -> Result<*mut c_char> {
    let bytes = if database_has_utf8() { text.as_bytes().to_vec() } else { to_database_encoding(text) };
    let text = CString::new(bytes).map_err(|_| PgError::internal("a text holds a NUL character"))?;
    // SAFETY: pstrdup copies up to the NUL.
    Ok(unsafe { pg_sys::pstrdup(text.as_ptr()) })
}
