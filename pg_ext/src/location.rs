//! Where stores are, and that nobody leaves the root.
//!
//! A server's `root` is set by those who may read the server's files anyway. Everything below it is for whoever may
//! use the server: paths are relative to the root, and a path that leaves it, by `..` or through a link, is refused,
//! when a table is made and again whenever it is read.

use std::fs;
use std::io;
use std::path::{Component, Path, PathBuf};

use pgrx::PgSqlErrorCode;

use crate::error::{MUST_READ, PgError, Result, code_of_io};
use crate::options::invalid_value;

/// What a store's folder is called, usually: its table's name and this.
const SUFFIX: &str = ".soa";
/// What makes a folder a store.
const LOG_DIR: &str = "_delta_log";

/// Checks the option `root`.
pub(crate) fn check_root(root: &str) -> Result<()> {
    check_characters("option \"root\"", root)?;
    if !Path::new(root).is_absolute() {
        return Err(invalid_value(format!("option \"root\" must be an absolute path; not \"{root}\"")));
    }
    Ok(())
}

/// Checks the option `path`.
pub(crate) fn check_path(path: &str) -> Result<()> {
    check_inside("option \"path\"", path)
}

/// Checks that a path stays below the root, as far as its text says.
fn check_inside(what: &str, path: &str) -> Result<()> {
    check_characters(what, path)?;
    let inside = Path::new(path).components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if inside {
        return Ok(());
    }
    let message = format!("{what} must lead to a folder below the server's root; \"{path}\" does not");
    Err(invalid_value(message).with_hint("Give a relative path without \"..\", such as 'orders.soa'."))
}

fn check_characters(what: &str, value: &str) -> Result<()> {
    if value.is_empty() {
        return Err(invalid_value(format!("{what} is empty")));
    }
    if value.chars().any(char::is_control) {
        return Err(invalid_value(format!("{what} holds a control character, such as a line break")));
    }
    Ok(())
}

/// The folder that `path` names below `root`, links resolved.
pub(crate) fn resolve(root: &str, path: &str) -> Result<PathBuf> {
    check_root(root)?;
    check_path(path)?;
    let real_root = Path::new(root).canonicalize().map_err(|error| io_error("root", Path::new(root), &error))?;
    let named = real_root.join(path);
    let real = named.canonicalize().map_err(|error| io_error("store", &named, &error))?;
    if real.starts_with(&real_root) {
        return Ok(real);
    }
    let message = format!("\"{path}\" leads out of the server's root through a link; such a link is not followed");
    Err(PgError::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message))
}

/// As [`resolve`], for a store that is to be made if there is nothing yet: its folder need not exist, but the one around it must.
/// Says whether there is nothing.
pub(crate) fn resolve_new(root: &str, path: &str) -> Result<(PathBuf, bool)> {
    check_root(root)?;
    check_path(path)?;
    let named = Path::new(root).join(path);
    if fs::symlink_metadata(&named).is_ok() {
        let real = resolve(root, path)?;
        let is_new = has_nothing(&real);
        return Ok((real, is_new));
    }
    let (Some(name), around) = (named.file_name(), Path::new(path).parent()) else {
        return Err(invalid_value(format!("option \"path\" must name a folder; \"{path}\" does not")));
    };
    let around = around.and_then(Path::to_str).filter(|around| !around.is_empty()).unwrap_or(".");
    Ok((resolve(root, around)?.join(name), true))
}

/// Whether a folder has nothing of anybody's, and no commit: one in which a process is making a store, or was when it ended, has
/// the store's own folders and unfinished files at most. Of several that make one at once, one commits first.
fn has_nothing(folder: &Path) -> bool {
    let names = |folder: &Path| -> Option<Vec<String>> {
        let entries = fs::read_dir(folder).ok()?;
        entries.map(|entry| entry.ok()?.file_name().into_string().ok()).collect()
    };
    let is_hidden = |name: &String| name.starts_with(['_', '.']);
    let is_commit = |name: &String| !is_hidden(name) && name.ends_with(".json");
    let log = names(&folder.join(LOG_DIR)).unwrap_or_default();
    names(folder).is_some_and(|names| names.iter().all(is_hidden)) && !log.iter().any(is_commit)
}

fn io_error(what: &str, path: &Path, error: &io::Error) -> PgError {
    let reported = PgError::new(code_of_io(error), format!("cannot open the {what} \"{}\": {error}", path.display()));
    match error.kind() {
        io::ErrorKind::PermissionDenied => reported.with_hint(MUST_READ),
        _ => reported.with_hint(
            "The option \"path\" of a foreign table is relative to the option \"root\" of its server. A store that is \
                 not there yet is made by the first INSERT, if the server is updatable.",
        ),
    }
}

/// A store below a root.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Found {
    /// The table's name.
    pub(crate) name: String,
    /// The value of the option `path`.
    pub(crate) path: String,
}

/// The stores directly in the folder `schema` below `root`, by name. Two may have one name.
pub(crate) fn stores_in(root: &str, schema: &str) -> Result<Vec<Found>> {
    check_inside("the remote schema", schema)?;
    let folder = resolve(root, schema)?;
    let prefix = match schema.trim_matches('/') {
        "." => String::new(),
        inside => format!("{inside}/"),
    };
    let entries = fs::read_dir(&folder).map_err(|error| io_error("folder", &folder, &error))?;
    let mut found = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|error| io_error("folder", &folder, &error))?;
        // A name that is no UTF-8 cannot be an option's value.
        let Ok(folder_name) = entry.file_name().into_string() else { continue };
        let path = format!("{prefix}{folder_name}");
        if check_path(&path).is_err() || !entry.path().join(LOG_DIR).is_dir() {
            continue;
        }
        let name = folder_name.strip_suffix(SUFFIX).filter(|name| !name.is_empty()).unwrap_or(&folder_name);
        found.push(Found { name: name.to_owned(), path });
    }
    found.sort_by(|a, b| (&a.name, &a.path).cmp(&(&b.name, &b.path)));
    Ok(found)
}
