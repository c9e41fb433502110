//! Where a store is, and whether DuckDB may read it.
//!
//! Stores are mapped into memory, past DuckDB's file system. What that file system refuses
//! (`enable_external_access`, `allowed_directories`, `allowed_paths`, `disabled_filesystems`) is refused
//! here too: every file is asked for there before it is opened.

use std::path::{Path, PathBuf};

use duckdb_neo::Error;
use duckdb_neo::connection::Context;
use duckdb_neo::file::FileSystem;
use soa_core::store::Snapshot;

use crate::error::{Result, invalid};

/// The folder that `path` names for DuckDB: `~` stands for the home folder, and a relative path that does not
/// exist is looked for in `file_search_path`.
///
/// # Errors
///
/// When the path is remote, or DuckDB may not read a store there.
pub(crate) fn locate(context: &Context, path: &str) -> Result<PathBuf> {
    let files = FileSystem::new(context)?;
    let found = named_folder(&files, path)?;
    let local = found.to_string_lossy();
    if found.is_absolute() || found.exists() {
        return Ok(found);
    }
    let (search, _) = context.config()?.get_value("file_search_path")?;
    for folder in search.get::<String>()?.unwrap_or_default().split(',').map(str::trim).filter(|part| !part.is_empty())
    {
        let candidate = format!("{folder}/{local}");
        let candidate = allowed_folder(&files, &candidate)?;
        if candidate.exists() {
            return Ok(candidate);
        }
    }
    Ok(found)
}

/// The folder that `path` names for DuckDB where a store is written: it is looked for nowhere else.
///
/// # Errors
///
/// When the path is remote, or DuckDB may not write a store there.
pub(crate) fn place(context: &Context, path: &str) -> Result<PathBuf> {
    let files = FileSystem::new(context)?;
    let folder = named_folder(&files, path)?;
    // The names of what will be written are not known yet: any in the folders of a store must be allowed, not only some files.
    for file in ["part.parquet", "_soa/lock", "_soa/arrow/part.arrow"] {
        check_file(&files, &folder.join(file))?;
    }
    Ok(folder)
}

fn named_folder(files: &FileSystem<'_>, path: &str) -> Result<PathBuf> {
    if path.is_empty() {
        return Err(invalid("the path of the store is empty"));
    }
    if files.is_remote(path)? {
        return Err(invalid(format!("\"{path}\" is remote; a store is a local folder")));
    }
    let expanded = files.expand(path)?;
    allowed_folder(files, expanded.strip_prefix("file://").unwrap_or(&expanded))
}

/// # Errors
///
/// When the statement that `context` belongs to has failed or was interrupted, of which the C API says nothing itself. DuckDB's
/// search for files tells: it ends with an error then (`LazyMultiFileList::ExpandNextPathInternal`), and a failed statement
/// counts as interrupted (`Executor::PushError`). `folder` is any that DuckDB may read.
pub(crate) fn check_not_failed(context: &Context, folder: &Path) -> Result<()> {
    let file = folder.join("_delta_log").join("00000000000000000000.json");
    let Some(text) = file.to_str() else { return Ok(()) };
    FileSystem::new(context)?.glob(text).map(|_| ()).map_err(without_kind)
}

/// The folder, once DuckDB's file system has agreed to look into it.
fn allowed_folder(files: &FileSystem<'_>, folder: &str) -> Result<PathBuf> {
    let log = Path::new(folder).join("_delta_log").join("00000000000000000000.json");
    check_file(files, &log)?;
    Ok(PathBuf::from(folder))
}

/// Refuses a snapshot with a file that DuckDB may not read. `folder` is the store's as [`locate`] gave it.
pub(crate) fn check_segments(context: &Context, folder: &Path, snapshot: &Snapshot) -> Result<()> {
    let (everything, _) = context.config()?.get_value("enable_external_access")?;
    if everything.get::<bool>()? == Some(true) {
        return Ok(());
    }
    let files = FileSystem::new(context)?;
    let segments = snapshot.segments().iter().flat_map(|segment| segment.files());
    for file in segments.chain(snapshot.log_files().iter().cloned()) {
        // DuckDB's rules are about names as they are given, not about where links lead.
        let named = file.strip_prefix(snapshot.path()).map_or_else(|_| file.clone(), |inside| folder.join(inside));
        check_file(&files, &named)?;
    }
    Ok(())
}

/// Asks DuckDB's file system for a file. Whether it is there is not the question: where access is refused this is
/// an error.
fn check_file(files: &FileSystem<'_>, path: &Path) -> Result<()> {
    let Some(text) = path.to_str() else {
        return Err(invalid(format!("\"{}\" is not UTF-8, which DuckDB needs a path to be", path.display())));
    };
    files.exists(text).map(|_| ()).map_err(without_kind)
}

/// An error of DuckDB's begins with its kind ("Permission Error: "), and DuckDB puts it there once more when the error
/// is handed back.
fn without_kind(mut error: Error) -> Error {
    if let Some((kind, message)) = error.message.split_once(" Error: ")
        && kind.chars().all(|c| c.is_ascii_alphabetic() || c == ' ' || c == '/')
    {
        error.message = message.to_owned();
    }
    error
}
