//! What can go wrong.
//!
//! Every variant names the thing (the column, the file, the option) and, where there is something to
//! do, says what. [`Error::kind`] sorts the variants into the few groups that a host's own error codes
//! tell apart.

use std::io;
use std::path::{Path, PathBuf};

/// A result whose error is [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What can go wrong in this crate.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A table's description contradicts itself or cannot be stored.
    #[error("{message}")]
    Schema {
        /// What is wrong, with the column's name.
        message: String,
    },
    /// A column was asked for that the table does not have.
    #[error("there is no column \"{column}\"; the columns are {known}")]
    UnknownColumn {
        /// The name asked for.
        column: String,
        /// The names there are, separated by commas.
        known: String,
    },
    /// A column of a type that the store cannot hold.
    #[error("column \"{column}\" has the type {found}, which a store cannot hold; leave the column out or cast it")]
    UnsupportedType {
        /// The column.
        column: String,
        /// Its type, as its source calls it.
        found: String,
    },
    /// Rows do not have the columns of the table they are meant for.
    #[error("{message}")]
    SchemaMismatch {
        /// Which column differs, and how.
        message: String,
    },
    /// A value does not fit the column's type.
    #[error("column \"{column}\": {message}")]
    Value {
        /// The column.
        column: String,
        /// The value and why it does not fit.
        message: String,
    },
    /// A key is taken.
    #[error("key {key} in column \"{column}\" exists already; a keyed store holds each key once")]
    DuplicateKey {
        /// The key column.
        column: String,
        /// The key's value.
        key: String,
    },
    /// An argument cannot be used.
    #[error("{message}")]
    InvalidArgument {
        /// What is wrong and what to give instead.
        message: String,
    },
    /// There is nothing at the path.
    #[error("there is no store at \"{}\": no such folder", path.display())]
    NotFound {
        /// The path.
        path: PathBuf,
    },
    /// There is a folder, but no store in it.
    #[error("\"{}\" is not a store: it has no _delta_log folder with a commit", path.display())]
    NotAStore {
        /// The path.
        path: PathBuf,
    },
    /// A store is there already.
    #[error("there is a store at \"{}\" already", path.display())]
    AlreadyExists {
        /// The path.
        path: PathBuf,
    },
    /// A version or time that the store does not have.
    #[error("\"{}\" has no version {wanted}: {message}", path.display())]
    NoSuchVersion {
        /// The store.
        path: PathBuf,
        /// What was asked for.
        wanted: String,
        /// Which versions there are.
        message: String,
    },
    /// The folder is a Delta table, but uses what this version does not know.
    #[error("\"{}\" cannot be read: {message}", path.display())]
    Unsupported {
        /// The store.
        path: PathBuf,
        /// What it uses.
        message: String,
    },
    /// A file's content is not what it was when it was written.
    #[error("\"{}\" is damaged: {message}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What does not fit.
        message: String,
    },
    /// The store's log could not be read or written.
    #[error("the log of \"{}\": {source}", path.display())]
    Log {
        /// The store.
        path: PathBuf,
        /// The cause.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// Others kept committing first.
    #[error("\"{}\": other writers committed first {attempts} times in a row; try again", path.display())]
    Conflict {
        /// The store.
        path: PathBuf,
        /// How often it was tried.
        attempts: u32,
    },
    /// Rows that a transaction has changed were changed by others as well, or the table's columns were.
    #[error("rows of \"{}\" that this transaction changes were changed or moved by another one meanwhile, or its columns were; try the transaction again", path.display())]
    RowsChanged {
        /// The store.
        path: PathBuf,
    },
    /// Somebody else is doing what excludes this.
    #[error("\"{}\" is busy: {message}; try again later", path.display())]
    Busy {
        /// The store.
        path: PathBuf,
        /// What is being done.
        message: String,
    },
    /// Somebody else owns the store's write-ahead log.
    #[error("\"{}\" is being written by {owner}; only one writer can have its write-ahead log at a time", path.display())]
    Owned {
        /// The store.
        path: PathBuf,
        /// Who, as far as it has said.
        owner: String,
    },
    /// A write to the log failed, and what is durable of it is not known.
    #[error("the writer of \"{}\" has failed: {message}; open another one, which finds out what is there", path.display())]
    WriterFailed {
        /// The store.
        path: PathBuf,
        /// The failure.
        message: String,
    },
    /// What is in the write-ahead log could not be published.
    #[error("rows of \"{}\" are in its write-ahead log, but cannot be published: {message}", path.display())]
    NotPublished {
        /// The store.
        path: PathBuf,
        /// The failure.
        message: String,
    },
    /// A snapshot needs files that are gone by now.
    #[error("the snapshot of \"{}\" is too old: {message}; take a new one", path.display())]
    SnapshotTooOld {
        /// The store.
        path: PathBuf,
        /// What is gone.
        message: String,
    },
    /// The operating system refused.
    #[error("cannot {action} \"{}\": {source}", path.display())]
    Io {
        /// What was tried, as a verb.
        action: &'static str,
        /// The file or folder.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Arrow refused rows or a file.
    #[error("{context}: {source}")]
    Arrow {
        /// What was done.
        context: String,
        /// The cause.
        source: arrow::error::ArrowError,
    },
    /// Parquet refused a file.
    #[error("\"{}\": {source}", path.display())]
    Parquet {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: parquet::errors::ParquetError,
    },
}

/// The groups of errors that a host's error codes tell apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// An argument, option, column or version that cannot be used.
    InvalidInput,
    /// A type or feature that is not supported.
    Unsupported,
    /// A value that does not fit its column.
    ValueOutOfRange,
    /// A key that is taken.
    DuplicateKey,
    /// A store that is not there.
    NotFound,
    /// A store that is there already.
    AlreadyExists,
    /// A file that is damaged.
    Damaged,
    /// Writers that were faster.
    Conflict,
    /// The operating system's refusal.
    Io,
}

impl Error {
    /// The group this error belongs to.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Self::Schema { .. }
            | Self::UnknownColumn { .. }
            | Self::SchemaMismatch { .. }
            | Self::InvalidArgument { .. }
            | Self::NoSuchVersion { .. } => ErrorKind::InvalidInput,
            Self::UnsupportedType { .. } | Self::Unsupported { .. } => ErrorKind::Unsupported,
            Self::Value { .. } => ErrorKind::ValueOutOfRange,
            Self::DuplicateKey { .. } => ErrorKind::DuplicateKey,
            Self::NotFound { .. } | Self::NotAStore { .. } => ErrorKind::NotFound,
            Self::AlreadyExists { .. } => ErrorKind::AlreadyExists,
            Self::Damaged { .. } | Self::Log { .. } | Self::Arrow { .. } | Self::Parquet { .. } => ErrorKind::Damaged,
            Self::Busy { .. }
            | Self::Conflict { .. }
            | Self::RowsChanged { .. }
            | Self::Owned { .. }
            | Self::SnapshotTooOld { .. } => ErrorKind::Conflict,
            Self::Io { .. } | Self::WriterFailed { .. } | Self::NotPublished { .. } => ErrorKind::Io,
        }
    }

    /// The message and those of its causes that it does not contain.
    pub fn with_causes(&self) -> String {
        let mut text = self.to_string();
        let mut source = std::error::Error::source(self);
        while let Some(cause) = source {
            let message = cause.to_string();
            if !text.contains(&message) {
                text.push_str(": ");
                text.push_str(&message);
            }
            source = cause.source();
        }
        text
    }

    pub(crate) fn schema(message: impl Into<String>) -> Self {
        Self::Schema { message: message.into() }
    }

    pub(crate) fn mismatch(message: impl Into<String>) -> Self {
        Self::SchemaMismatch { message: message.into() }
    }

    pub(crate) fn value(column: &str, message: impl Into<String>) -> Self {
        Self::Value { column: column.to_owned(), message: message.into() }
    }

    pub(crate) fn argument(message: impl Into<String>) -> Self {
        Self::InvalidArgument { message: message.into() }
    }

    pub(crate) fn damaged(path: impl Into<PathBuf>, message: impl Into<String>) -> Self {
        Self::Damaged { path: path.into(), message: message.into() }
    }

    /// For `map_err`: an I/O error while doing `action` to `path`.
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io { action, path: path.to_owned(), source }
    }

    /// For `map_err`: an Arrow error while doing what `context` says.
    pub(crate) fn arrow(context: impl Into<String>) -> impl FnOnce(arrow::error::ArrowError) -> Self {
        let context = context.into();
        move |source| Self::Arrow { context, source }
    }
}
