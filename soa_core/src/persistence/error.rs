//! What can go wrong with a persistence.

use std::path::{Path, PathBuf};

use crate::error::{Error, ErrorKind};

/// What can go wrong in a [`SoAPersistence`](super::SoAPersistence). Every cause is kept as the
/// [`source`](std::error::Error::source), or is the error itself.
///
/// ```
/// use soa_core::persistence::PersistenceError;
///
/// fn advice(error: &PersistenceError) -> &'static str {
///     match error {
///         PersistenceError::Refused(_) => "mend the rows or the query; nothing has changed",
///         PersistenceError::OtherTable { .. } => "that folder is of another program, or another release of this one",
///         PersistenceError::Busy(_) => "somebody else is writing: try again later",
///         _ if error.changed_nothing() => "nothing has changed",
///         _ => "look what is there before you try again",
///     }
/// }
/// # assert_eq!(advice(&PersistenceError::Shutdown), "look what is there before you try again");
/// ```
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PersistenceError {
    /// The rows, the key or the query do not fit. Nothing has changed.
    #[error(transparent)]
    Refused(Error),
    /// There is a table that cannot hold these records. Nothing has changed, neither there nor here.
    #[error("\"{}\" holds other records: {source}", path.display())]
    OtherTable {
        /// The folder, or the database file.
        path: PathBuf,
        /// How they differ.
        source: Error,
    },
    /// Somebody else is writing, in this process or another. Nothing has changed; try again later.
    #[error(transparent)]
    Busy(Error),
    /// The store failed. Unless [`changed_nothing`](Self::changed_nothing) says so, what was to be written may be there.
    #[error(transparent)]
    Store(Error),
    /// There is no tokio runtime on whose threads files could be read and written.
    #[error("a persistence works in a tokio runtime, and there is none here")]
    NoRuntime(#[source] tokio::runtime::TryCurrentError),
    /// The tokio runtime is shutting down. What was to be written may be there.
    #[error("the tokio runtime is shutting down")]
    Shutdown,
    /// DuckDB failed. What was to be written is there whole or not at all.
    #[cfg(feature = "duckdb")]
    #[error(transparent)]
    DuckDb(#[from] duckdb_neo::Error),
    /// Another backend's error, for implementations outside of this crate.
    #[error(transparent)]
    Backend(Box<dyn std::error::Error + Send + Sync>),
}

impl PersistenceError {
    /// Whether it is known that nothing was written: what was tried can be tried again, or left.
    pub fn changed_nothing(&self) -> bool {
        match self {
            Self::Refused(_) | Self::OtherTable { .. } | Self::Busy(_) | Self::NoRuntime(_) => true,
            Self::Store(error) => !matches!(error.kind(), ErrorKind::Io),
            #[cfg(feature = "duckdb")]
            Self::DuckDb(_) => false,
            Self::Shutdown | Self::Backend(_) => false,
        }
    }

    /// An error of looking at the table that is at `path`: what is wrong with that is not wrong with rows or a query.
    pub(super) fn of_table(path: &Path, error: Error) -> Self {
        match error {
            Error::Schema { .. } | Error::SchemaMismatch { .. } | Error::UnknownColumn { .. } => {
                Self::OtherTable { path: path.to_owned(), source: error }
            }
            other => other.into(),
        }
    }
}

impl From<Error> for PersistenceError {
    fn from(error: Error) -> Self {
        match error.kind() {
            ErrorKind::InvalidInput | ErrorKind::ValueOutOfRange | ErrorKind::DuplicateKey => Self::Refused(error),
            ErrorKind::Conflict => Self::Busy(error),
            ErrorKind::Unsupported
            | ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::Damaged
            | ErrorKind::Io => Self::Store(error),
        }
    }
}
