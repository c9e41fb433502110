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
    let real_root = resolve_root(root)?;
    check_path(path)?;
    let named = real_root.join(path);
    let real = named.canonicalize().map_err(|error| io_error("store", &named, &error))?;
    if real.starts_with(&real_root) {
        return Ok(real);
    }
    let message = format!("\"{path}\" leads out of the server's root through a link; such a link is not followed");
    Err(PgError::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message))
}

fn resolve_root(root: &str) -> Result<PathBuf> {
    check_root(root)?;
    Path::new(root).canonicalize().map_err(|error| io_error("root", Path::new(root), &error))
}

/// As [`resolve`], for a store that is to be made if there is nothing yet: its folder need not exist, but the one around it must.
/// Says whether there is nothing.
pub(crate) fn resolve_new(root: &str, path: &str) -> Result<(PathBuf, bool)> {
    let real_root = resolve_root(root)?;
    check_path(path)?;
    let named = real_root.join(path);
    let folder = match (fs::symlink_metadata(&named).is_ok(), named.file_name()) {
        (true, _) => {
            let folder = resolve(root, path)?;
            if !has_nothing(&folder) {
                return Ok((folder, false));
            }
            folder
        }
        (false, Some(name)) => {
            let around = Path::new(path).parent().and_then(Path::to_str).filter(|around| !around.is_empty());
            resolve(root, around.unwrap_or("."))?.join(name)
        }
        (false, None) => return Err(no_place(path, "it names no folder")),
    };
    check_place(&real_root, &folder, path)?;
    Ok((folder, true))
}

/// Makes the folder of a new store, which [`resolve_new`] has found, if it is not there; nothing around it.
pub(crate) fn make_folder(folder: &Path) -> Result<()> {
    match fs::create_dir(folder) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => Err(io_error("new store", folder, &error)),
        // Somebody may have put a link there.
        _ if folder.canonicalize().is_ok_and(|real| real == folder) => Ok(()),
        _ => Err(no_place(&folder.to_string_lossy(), "there is a link")),
    }
}

/// That a new store is in nobody's way: readers skip what has a hidden name, and everything in a store's folder is the store's.
fn check_place(real_root: &Path, folder: &Path, path: &str) -> Result<()> {
    let inside = folder.strip_prefix(real_root).unwrap_or(folder);
    if inside.as_os_str().is_empty() {
        return Err(no_place(path, "that is the server's root itself"));
    }
    if inside.components().any(|part| is_hidden(&part.as_os_str().to_string_lossy())) {
        return Err(no_place(path, "names that begin with \"_\" or \".\" are for what is not looked at"));
    }
    let is_store = |around: &&Path| fs::symlink_metadata(around.join(LOG_DIR)).is_ok();
    let around = folder.ancestors().skip(1).take_while(|around| around.starts_with(real_root)).find(is_store);
    match around.map(|around| around.strip_prefix(real_root).unwrap_or(around)) {
        None => Ok(()),
        Some(store) => Err(no_place(path, &format!("it lies in the store \"{}\"", store.display()))),
    }
}

fn no_place(path: &str, why: &str) -> PgError {
    invalid_value(format!("no store can be made at \"{path}\": {why}"))
        .with_hint("Name a new folder in one of the folders below the server's root, such as 'orders.soa'.")
}

/// Whether a folder has nothing of anybody's, and no commit: one in which a process is making a store, or was when it ended, has
/// the store's own folders and unfinished files at most. Of several that make one at once, one commits first.
fn has_nothing(folder: &Path) -> bool {
    // A link leads to what is somebody's.
    let names = |folder: &Path| -> Option<Vec<String>> {
        let entries = fs::read_dir(folder).ok()?.map(|entry| {
            let entry = entry.ok()?;
            let is_link = entry.file_type().ok()?.is_symlink();
            entry.file_name().into_string().ok().filter(|_| !is_link)
        });
        entries.collect()
    };
    let is_commit = |name: &String| !is_hidden(name) && name.ends_with(".json");
    let Some(own) = names(folder).filter(|own| own.iter().all(|name| is_hidden(name))) else { return false };
    let has_log = own.iter().any(|name| name == LOG_DIR);
    !has_log || names(&folder.join(LOG_DIR)).is_some_and(|log| !log.iter().any(is_commit))
}

fn is_hidden(name: &str) -> bool {
    name.starts_with(['_', '.'])
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
