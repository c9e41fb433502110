//! From this project's errors to the errors that Postgres reports.
//!
//! Handlers return [`Result`]; the guard in [`crate::ffi`] turns an [`PgError`], and a panic, into an `ERROR`, which ends
//! the statement and leaves the session.

use std::io;
use std::sync::atomic::{AtomicBool, Ordering};

use pgrx::PgSqlErrorCode;
use soa_core::{Error, ErrorKind};

/// A result whose error Postgres reports.
pub(crate) type Result<T, E = PgError> = std::result::Result<T, E>;

/// An error as Postgres reports it.
#[derive(Debug, Clone)]
pub(crate) struct PgError {
    pub(crate) code: PgSqlErrorCode,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) hint: Option<String>,
}

impl PgError {
    pub(crate) fn new(code: PgSqlErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), detail: None, hint: None }
    }

    #[must_use]
    pub(crate) fn with_detail(mut self, detail: impl Into<String>) -> Self {
        self.detail = Some(detail.into());
        self
    }

    #[must_use]
    pub(crate) fn with_hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Something that only a bug can cause.
    pub(crate) fn internal(message: impl Into<String>) -> Self {
        Self::new(PgSqlErrorCode::ERRCODE_INTERNAL_ERROR, message)
    }
}

/// What to do about files that the operating system does not let us read.
pub(crate) const MUST_READ: &str =
    "The user that the Postgres server runs as must be able to enter every folder on the way and read the files.";

impl From<Error> for PgError {
    fn from(error: Error) -> Self {
        Self::from_store(&error)
    }
}

impl PgError {
    /// A store's error.
    pub(crate) fn from_store(error: &Error) -> Self {
        let reported = Self::new(code_of(error), text_of(error));
        match error.kind() {
            ErrorKind::NotFound => reported.with_hint(
                "The option \"path\" of the foreign table is relative to the option \"root\" of its server, and \
                 the user that the Postgres server runs as must be able to enter the folder.",
            ),
            ErrorKind::Io if reported.code == PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE => {
                reported.with_hint(MUST_READ)
            }
            ErrorKind::Damaged => {
                reported.with_hint("Run \"soa verify\" on the store's folder to find out what is damaged.")
            }
            _ => reported,
        }
    }
}

fn code_of(error: &Error) -> PgSqlErrorCode {
    match error.kind() {
        ErrorKind::InvalidInput => PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE,
        ErrorKind::Unsupported => PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED,
        ErrorKind::ValueOutOfRange => PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
        ErrorKind::DuplicateKey => PgSqlErrorCode::ERRCODE_UNIQUE_VIOLATION,
        ErrorKind::NotFound => PgSqlErrorCode::ERRCODE_UNDEFINED_FILE,
        ErrorKind::AlreadyExists => PgSqlErrorCode::ERRCODE_DUPLICATE_FILE,
        ErrorKind::Damaged => PgSqlErrorCode::ERRCODE_DATA_CORRUPTED,
        ErrorKind::Conflict => PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE,
        ErrorKind::Io => match error {
            Error::Io { source, .. } => code_of_io(source),
            _ => PgSqlErrorCode::ERRCODE_IO_ERROR,
        },
        // A kind that is newer than this list.
        _ => PgSqlErrorCode::ERRCODE_FDW_ERROR,
    }
}

/// Postgres' code for a refusal of the operating system.
pub(crate) fn code_of_io(error: &io::Error) -> PgSqlErrorCode {
    match error.kind() {
        io::ErrorKind::NotFound => PgSqlErrorCode::ERRCODE_UNDEFINED_FILE,
        io::ErrorKind::PermissionDenied => PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE,
        io::ErrorKind::StorageFull => PgSqlErrorCode::ERRCODE_DISK_FULL,
        _ => PgSqlErrorCode::ERRCODE_IO_ERROR,
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

/// The places where Postgres calls into this extension.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Checking the options of a server, table or column.
    Validate,
    /// `IMPORT FOREIGN SCHEMA`.
    Import,
    /// Estimating how many rows there are.
    RelSize,
    /// Offering ways to read a table.
    Paths,
    /// Offering ways to join tables.
    JoinPaths,
    /// Offering ways to aggregate rows.
    UpperPaths,
    /// Giving a lookup's values the columns of a partition.
    Reparameterize,
    /// Making the plan's node.
    Plan,
    /// `EXPLAIN`.
    Explain,
    /// Starting a scan.
    Begin,
    /// Giving a row.
    Iterate,
    /// Starting a scan again.
    Rescan,
    /// Ending a scan.
    End,
    /// `ANALYZE`.
    Analyze,
    /// Asking for shared memory.
    EstimateDsm,
    /// Filling shared memory.
    InitializeDsm,
    /// Filling it for another scan.
    ReinitializeDsm,
    /// Joining a scan as a parallel worker.
    InitializeWorker,
    /// Leaving a parallel scan.
    Shutdown,
    /// Changing rows.
    Modify,
    /// Committing them.
    Commit,
    /// A function that tells something of a store, or does something for it.
    Report,
}

impl Step {
    /// The name in the setting [`TEST_PANIC_SETTING`](crate::ffi::TEST_PANIC_SETTING).
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Validate => "validate",
            Self::Import => "import",
            Self::RelSize => "rel_size",
            Self::Paths => "paths",
            Self::JoinPaths => "join_paths",
            Self::UpperPaths => "upper_paths",
            Self::Reparameterize => "reparameterize",
            Self::Plan => "plan",
            Self::Explain => "explain",
            Self::Begin => "begin",
            Self::Iterate => "iterate",
            Self::Rescan => "rescan",
            Self::End => "end",
            Self::Analyze => "analyze",
            Self::EstimateDsm => "estimate_dsm",
            Self::InitializeDsm => "initialize_dsm",
            Self::ReinitializeDsm => "reinitialize_dsm",
            Self::InitializeWorker => "initialize_worker",
            Self::Shutdown => "shutdown",
            Self::Modify => "modify",
            Self::Commit => "commit",
            Self::Report => "report",
        }
    }
}

/// Whether panics may be asked for: only in servers started for tests.
static PANICS_ON_DEMAND: AtomicBool = AtomicBool::new(false);

/// Lets panics be asked for.
pub(crate) fn arm_test_panics() {
    PANICS_ON_DEMAND.store(true, Ordering::Relaxed);
}

/// Whether panics may be asked for.
pub(crate) fn panics_are_armed() -> bool {
    PANICS_ON_DEMAND.load(Ordering::Relaxed)
}
