//! Where a store is, and whether DuckDB may read it.
//!
//! Stores are mapped into memory, past DuckDB's file system. What that file system refuses
//! (`enable_external_access`, `allowed_directories`, `allowed_paths`, `disabled_filesystems`) is refused
//! here too: every file is asked for there before it is opened.

use std::path::{Path, PathBuf};

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
    if path.is_empty() {
        return Err(invalid("the path of the store is empty"));
    }
    if files.is_remote(path)? {
        return Err(invalid(format!("\"{path}\" is remote; a store is read from a local folder")));
    }
    let expanded = files.expand(path)?;
    let local = expanded.strip_prefix("file://").unwrap_or(&expanded);
    let found = allowed_folder(&files, local)?;
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

/// The folder, once DuckDB's file system has agreed to look into it.
fn allowed_folder(files: &FileSystem<'_>, folder: &str) -> Result<PathBuf> {
    let log = Path::new(folder).join("_delta_log").join("00000000000000000000.json");
    // Whether the file is there is not the question: where access is refused this is an error.
    files.exists(&text_of(&log)?)?;
    Ok(PathBuf::from(folder))
}

/// Refuses a snapshot with a file that DuckDB may not read.
pub(crate) fn check_segments(context: &Context, snapshot: &Snapshot) -> Result<()> {
    let (everything, _) = context.config()?.get_value("enable_external_access")?;
    if everything.get::<bool>()? == Some(true) {
        return Ok(());
    }
    let files = FileSystem::new(context)?;
    for segment in snapshot.segments() {
        files.exists(&text_of(&snapshot.path().join(segment.path()))?)?;
    }
    // The Arrow forms are all in one folder of the store's.
    let arrow = snapshot.path().join("_soa").join("arrow").join("part.arrow");
    files.exists(&text_of(&arrow)?).map(|_| ())
}

fn text_of(path: &Path) -> Result<String> {
    match path.to_str() {
        Some(text) => Ok(text.to_owned()),
        None => Err(invalid(format!("\"{}\" is not UTF-8, which DuckDB needs a path to be", path.display()))),
    }
}
