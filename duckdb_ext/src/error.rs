//! From this project's errors, and from panics, to the errors that DuckDB shows.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

use duckdb_neo::Error;
use duckdb_neo::error::DuckDBError;
use soa_core::ErrorKind;

/// A result whose error DuckDB shows as it is.
pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Turns a result of `soa_core` into one of DuckDB.
pub(crate) trait IntoDuckDb<T> {
    /// The same result, its error under DuckDB's code for its kind, with the text of every cause.
    fn into_duckdb(self) -> Result<T>;
}

impl<T> IntoDuckDb<T> for soa_core::Result<T> {
    fn into_duckdb(self) -> Result<T> {
        self.map_err(|error| Error { code: code_of(error.kind()), message: text_of(&error) })
    }
}

/// An argument or a query that cannot be used.
pub(crate) fn invalid(message: impl Into<String>) -> Error {
    Error { code: DuckDBError::InputInvalid, message: message.into() }
}

/// None of these codes invalidates the database: DuckDB does that for internal and fatal errors alone.
fn code_of(kind: ErrorKind) -> DuckDBError {
    match kind {
        ErrorKind::InvalidInput => DuckDBError::InputInvalid,
        ErrorKind::Unsupported => DuckDBError::QueryNotImplemented,
        ErrorKind::ValueOutOfRange => DuckDBError::InputOutOfRange,
        ErrorKind::DuplicateKey => DuckDBError::DatabaseConstraint,
        ErrorKind::NotFound | ErrorKind::AlreadyExists | ErrorKind::Damaged | ErrorKind::Io => DuckDBError::IoGeneral,
        ErrorKind::Conflict => DuckDBError::DatabaseTransaction,
        // A kind that is newer than this list.
        _ => DuckDBError::InputInvalid,
    }
}

/// The error's text followed by those of its causes that it does not quote itself.
fn text_of(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let message = error.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        cause = error.source();
    }
    text
}

/// The places where DuckDB calls into this extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Registering the functions.
    Load,
    /// Naming the columns.
    Bind,
    /// Reading the query's filters.
    Filter,
    /// Choosing the snapshot.
    Init,
    /// Making one thread's state.
    InitLocal,
    /// Filling a chunk.
    Scan,
    /// Saying how far a scan is.
    Progress,
    /// Saying where a chunk belongs in the order.
    Partition,
    /// Claiming a table name.
    Replacement,
    /// Reading the options and columns of a `COPY … TO`.
    CopyBind,
    /// Opening the store that rows are copied to.
    CopyInit,
    /// Making arrays of rows.
    CopyBatch,
    /// Writing them.
    CopyFlush,
    /// Committing.
    CopyFinalize,
}

impl Step {
    /// The name in messages and in [`PANIC_VARIABLE`].
    fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Bind => "bind",
            Self::Filter => "filter",
            Self::Init => "init",
            Self::InitLocal => "init_local",
            Self::Scan => "scan",
            Self::Progress => "progress",
            Self::Partition => "partition",
            Self::Replacement => "replacement",
            Self::CopyBind => "copy_bind",
            Self::CopyInit => "copy_init",
            Self::CopyBatch => "copy_batch",
            Self::CopyFlush => "copy_flush",
            Self::CopyFinalize => "copy_finalize",
        }
    }
}

/// Runs the body of a callback; a panic becomes an error of the query.
///
/// The panic must not reach the caller: DuckDB would take it for an internal failure of its own and
/// refuse every further query on the database.
pub(crate) fn guard<T>(function: &str, step: Step, body: impl FnOnce() -> Result<T>) -> Result<T> {
    // What a body leaves half done belongs to the query that fails: its scan states are dropped, and
    // the locks they share ignore poisoning because every value behind them is replaced whole.
    catch_unwind(AssertUnwindSafe(|| {
        panic_if_asked(step);
        body()
    }))
    .unwrap_or_else(|panic| {
        Err(Error {
            code: DuckDBError::QueryExecutor,
            message: format!("internal error in {function} ({}): {}", step.name(), panic_text(&*panic)),
        })
    })
}

fn panic_text(panic: &(dyn Any + Send)) -> &str {
    if let Some(text) = panic.downcast_ref::<String>() {
        text
    } else if let Some(text) = panic.downcast_ref::<&str>() {
        text
    } else {
        "a panic without a message"
    }
}

/// For tests: names the [`Step`] that panics. It is read only if it was set when the extension was loaded.
const PANIC_VARIABLE: &str = "SOA_TEST_PANIC";

static PANICS_ON_DEMAND: AtomicBool = AtomicBool::new(false);

/// Remembers whether panics may be asked for, so that nobody else pays for looking.
pub(crate) fn arm_test_panics() {
    if std::env::var_os(PANIC_VARIABLE).is_some() {
        PANICS_ON_DEMAND.store(true, Ordering::Relaxed);
    }
}

fn panic_if_asked(step: Step) {
    if PANICS_ON_DEMAND.load(Ordering::Relaxed) && std::env::var(PANIC_VARIABLE).is_ok_and(|name| name == step.name()) {
        panic!("asked for by {PANIC_VARIABLE}");
    }
}
