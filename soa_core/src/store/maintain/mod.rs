//! Keeping a store in shape: everything that is no query and adds no rows.
//!
//! [`compact`] writes small and half-deleted segments anew and keeps the Arrow forms within their budget, and
//! [`auto`] does a little of that by itself; [`vacuum`] removes files that no version needs any more; [`restore`] makes an old
//! version the newest one, [`clone`] another store; [`changes`] tells what has come since one;
//! [`evolve`] gives a table more columns.

mod arrow_forms;
mod auto;
mod changes;
mod clone;
mod compact;
mod evolve;
mod named;
mod place;
mod properties;
mod regroup;
mod restore;
mod vacuum;

use super::Store;
use super::io::{LockGuard, LockMode};
use crate::error::{Error, Result};

pub(super) use self::auto::after_publishing;
pub use self::changes::Changes;
pub use self::compact::{CompactOptions, CompactProgress, Compacted};
pub(in crate::store) use self::evolve::extended;
pub use self::properties::Compression;
pub use self::vacuum::{VacuumOptions, Vacuumed};

/// Held while files are removed that old versions name, or while such versions are made new ones.
const LOCK_FILE: &str = "_soa/maintenance.lock";

/// Takes the lock by which those keep out of each other's way who remove old files and who need them.
///
/// # Errors
///
/// When somebody has it in a mode that excludes this one, or the folder cannot be written.
fn lock(store: &Store, mode: LockMode) -> Result<Box<dyn LockGuard>> {
    let path = store.path().join(LOCK_FILE);
    let dir = path.parent().unwrap_or(store.path());
    store.backend().create_dirs_below(store.path(), dir).map_err(Error::io("create", dir))?;
    super::paths::check_inside(store.path(), &path)?;
    store.backend().lock(&path, mode).map_err(|error| match error.kind() {
        std::io::ErrorKind::WouldBlock => {
            let message = "its old files are being removed, restored or copied".to_owned();
            Error::Busy { path: store.path().to_owned(), message }
        }
        _ => Error::io("lock", &path)(error),
    })
}
