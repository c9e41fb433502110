//! Our commits: written by put-if-absent, and read back for the history (format.md, section 2).
//!
//! The kernel reconciles the log for reading; what we commit is written here, one way for every kind of
//! commit, so that statistics and tags are exactly what the format says.

use std::io;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::{Map, Value, json};
use uuid::Uuid;

use super::io::Backend;
use super::paths::{LOG_DIR, commit_path};
use crate::error::{Error, Result};

/// What the name of this program begins with in `engineInfo`.
const ENGINE_NAME: &str = "soa_core/";

/// One commit in a store's history.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Commit {
    /// The version it made.
    pub version: u64,
    /// When, in milliseconds since 1970: never before the commit that came before it.
    pub timestamp_ms: i64,
    /// What was done, as Delta names it: `CREATE TABLE`, `WRITE`, …
    pub operation: String,
    /// The program that did it.
    pub engine: Option<String>,
    /// How many files were added.
    pub files_added: u64,
    /// How many files were removed.
    pub files_removed: u64,
    /// How many rows are new, where the commit or the statistics of the added files say so.
    pub rows_added: Option<u64>,
    /// How many rows were deleted or replaced, where the commit says so.
    pub rows_deleted: Option<u64>,
}

/// What came of an attempt to commit.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The version is ours.
    Committed,
    /// Another writer made that version.
    Conflict,
    /// The commit is there, or may be, but could not be made durable: its files must stay.
    Unknown(Error),
    /// Nothing was committed.
    Failed(Error),
}

/// Now, in milliseconds since 1970.
pub(super) fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// Tries to make `version` of these actions.
pub(super) fn commit(
    backend: &dyn Backend,
    root: &Path,
    version: u64,
    operation: &str,
    metrics: Map<String, Value>,
    actions: &[Value],
) -> Outcome {
    let txn_id = Uuid::new_v4().to_string();
    let info = json!({"commitInfo": {
        "timestamp": now_ms(),
        "operation": operation,
        "operationParameters": {},
        "operationMetrics": metrics,
        "engineInfo": format!("{ENGINE_NAME}{}", env!("CARGO_PKG_VERSION")),
        "txnId": txn_id,
    }});
    let mut content = String::new();
    for action in std::iter::once(&info).chain(actions) {
        content.push_str(&action.to_string());
        content.push('\n');
    }
    let path = commit_path(root, version);
    let error = match backend.put_if_absent(&path, content.as_bytes()) {
        Ok(()) => return Outcome::Committed,
        Err(error) => error,
    };
    // Whether it took place is told by what is there now.
    let exists = error.kind() == io::ErrorKind::AlreadyExists;
    let failed = Error::io("commit", &path)(error);
    match backend.read(&path) {
        // A network file system may do what it is asked to and, asked again because its answer was lost, say that
        // the file exists.
        Ok(there) if there == content.as_bytes() => match backend.sync_dir(&root.join(LOG_DIR)) {
            Ok(()) if exists => Outcome::Committed,
            _ => Outcome::Unknown(failed),
        },
        Ok(_) => Outcome::Conflict,
        Err(error) if error.kind() == io::ErrorKind::NotFound => Outcome::Failed(failed),
        Err(_) => Outcome::Unknown(failed),
    }
}

/// The versions whose commits are there, ascending.
pub(super) fn versions(backend: &dyn Backend, root: &Path) -> Result<Vec<u64>> {
    let dir = root.join(LOG_DIR);
    let entries = backend.list(&dir).map_err(Error::io("list", &dir))?;
    let mut versions: Vec<u64> = entries
        .iter()
        .filter_map(|entry| entry.name.strip_suffix(".json").filter(|digits| digits.len() == 20)?.parse().ok())
        .collect();
    versions.sort_unstable();
    Ok(versions)
}

/// The actions of a version, in order.
///
/// # Errors
///
/// When its commit is not there (any more) or cannot be read.
pub(super) fn actions(backend: &dyn Backend, root: &Path, version: u64) -> Result<Vec<Value>> {
    let path = commit_path(root, version);
    let bytes = backend.read(&path).map_err(Error::io("read", &path))?;
    let text = String::from_utf8(bytes).map_err(|_| Error::damaged(&path, "it is not UTF-8"))?;
    let lines = text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty());
    let parse = |(number, line): (usize, &str)| {
        serde_json::from_str(line).map_err(|error| Error::damaged(&path, format!("line {}: {error}", number + 1)))
    };
    lines.map(parse).collect()
}

/// The commits that are there, oldest first.
pub(super) fn history(backend: &dyn Backend, root: &Path) -> Result<Vec<Commit>> {
    let mut commits: Vec<Commit> = Vec::new();
    for version in versions(backend, root)? {
        let mut commit = read_commit(backend, root, version)?;
        // Clocks go backwards; versions do not.
        if let Some(before) = commits.last() {
            commit.timestamp_ms = commit.timestamp_ms.max(before.timestamp_ms);
        }
        commits.push(commit);
    }
    Ok(commits)
}

fn read_commit(backend: &dyn Backend, root: &Path, version: u64) -> Result<Commit> {
    let mut commit = Commit {
        version,
        timestamp_ms: 0,
        operation: String::new(),
        engine: None,
        files_added: 0,
        files_removed: 0,
        rows_added: None,
        rows_deleted: None,
    };
    let mut rows_of_files: Option<u64> = Some(0);
    for action in actions(backend, root, version)? {
        if let Some(info) = action.get("commitInfo") {
            commit.timestamp_ms = info.get("timestamp").and_then(Value::as_i64).unwrap_or(0);
            commit.operation = info.get("operation").and_then(Value::as_str).unwrap_or_default().to_owned();
            commit.engine = info.get("engineInfo").and_then(Value::as_str).map(str::to_owned);
            // Delta writes numbers as texts here.
            let metrics = info.get("operationMetrics");
            let metric = |name: &str| metrics?.get(name)?.as_str()?.parse::<u64>().ok();
            commit.rows_deleted = metric("numDeletedRows");
            if commit.engine.as_deref().is_some_and(|engine| engine.starts_with(ENGINE_NAME)) {
                commit.rows_added = metric("numOutputRows");
                commit.rows_deleted.get_or_insert(0);
            }
        } else if let Some(add) = action.get("add") {
            commit.files_added += 1;
            let stats =
                add.get("stats").and_then(Value::as_str).and_then(|stats| serde_json::from_str::<Value>(stats).ok());
            let rows = stats.and_then(|stats| stats.get("numRecords").and_then(Value::as_u64));
            rows_of_files = rows_of_files.zip(rows).map(|(sum, rows)| sum + rows);
        } else if action.get("remove").is_some() {
            commit.files_removed += 1;
        }
    }
    if commit.files_removed == 0 {
        commit.rows_added = commit.rows_added.or(rows_of_files);
    }
    if commit.timestamp_ms == 0 {
        let path = commit_path(root, version);
        let stat = backend.stat(&path).map_err(Error::io("read", &path))?;
        commit.timestamp_ms = stat.modified_ms;
    }
    Ok(commit)
}
