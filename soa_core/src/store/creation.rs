//! A store that is made with its first rows, in one commit.

use std::collections::{BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;

use super::commit::{self, Added, Change, Failure};
use super::io::{Backend, ItemKind, OsBackend};
use super::keys::KeySet;
use super::log::{self, Outcome};
use super::writing::SegmentWriter;
use super::{Compression, Store, delta_schema};
use crate::convert::cast_batch;
use crate::error::{Error, Result};
use crate::schema::Schema;

/// Collects the rows that a new store begins with.
///
/// Memory is bounded as an [`Appender`](super::Appender)'s is. There is no store before [`commit`](Self::commit): nobody sees
/// an empty one, and one that is dropped before removes what it wrote.
#[derive(Debug)]
pub struct Creator {
    writer: SegmentWriter,
    keys: Option<KeySet>,
    rows: u64,
    schema: Schema,
    // The last, so that its folders are empty when it goes.
    place: Place,
}

/// The folder of a store that is not one yet.
#[derive(Debug)]
struct Place {
    store: Store,
    is_store: bool,
}

/// A folder in which this process makes a store.
#[derive(Debug)]
struct Site {
    /// What was in it before; `None` if it was not there itself.
    there: Option<BTreeSet<String>>,
    creators: usize,
}

/// One creator must not take folders away that another one is about to use: the last one to leave does that.
static SITES: LazyLock<Mutex<HashMap<PathBuf, Site>>> = LazyLock::new(Mutex::default);

fn sites() -> MutexGuard<'static, HashMap<PathBuf, Site>> {
    SITES.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Store {
    /// For a store that is made in the folder `path`, which need not exist, together with its first rows.
    ///
    /// # Errors
    ///
    /// When there is a store already, or the folder cannot be written.
    pub fn creator(path: impl AsRef<Path>, schema: Schema) -> Result<Creator> {
        Self::creator_on(Arc::new(OsBackend), path, schema)
    }

    /// As [`creator`](Self::creator), in a folder of a backend's files; see [`open_on`](Self::open_on).
    ///
    /// # Errors
    ///
    /// As [`creator`](Self::creator).
    pub fn creator_on(backend: Arc<dyn Backend>, path: impl AsRef<Path>, schema: Schema) -> Result<Creator> {
        let path = path.as_ref();
        let place = Place::new(backend, path)?;
        let writer = SegmentWriter::of(&place.store, schema.clone(), Compression::default());
        Ok(Creator { writer, keys: KeySet::new(&schema), rows: 0, schema, place })
    }
}

impl Creator {
    /// The columns of the store.
    pub fn schema(&self) -> &Schema {
        &self.schema
    }

    /// How many rows were given so far.
    pub fn row_count(&self) -> u64 {
        self.rows
    }

    /// Adds rows, matched by column name and converted to the store's types.
    ///
    /// # Errors
    ///
    /// As [`Appender::write`](super::Appender::write).
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        let batch = cast_batch(batch, &self.schema)?;
        if let Some(keys) = &mut self.keys {
            keys.insert_new(batch.column(keys.column()))?;
        }
        self.rows += batch.num_rows() as u64;
        self.writer.write(batch)
    }

    /// Makes the store: afterwards every reader sees it, with all rows.
    ///
    /// # Errors
    ///
    /// When somebody else made one in the folder meanwhile, or a file cannot be written. Nothing is left behind then, unless
    /// the error is one of I/O after which the outcome is not known.
    pub fn commit(self) -> Result<Store> {
        // In this order: what is bound last is dropped first, and the folders are to be empty by then.
        let Self { mut place, mut writer, rows, schema, .. } = self;
        writer.finish()?;
        let change = Change {
            operation: "CREATE TABLE AS SELECT",
            is_data_change: true,
            added: writer.written().iter().map(Added::last).collect(),
            table: delta_schema::creation_actions(&schema, log::now_ms()),
            rows_added: rows,
            ..Change::default()
        };
        let outcome = place.publish(&change);
        // From here on the folder is a store's, or may be.
        place.is_store = !matches!(outcome, Err(Failure::Nothing(_)));
        writer.settle(outcome)?;
        Ok(place.store.clone())
    }
}

impl Place {
    fn new(backend: Arc<dyn Backend>, path: &Path) -> Result<Self> {
        let mut sites = sites();
        let there = backend.list_all(path).map(|items| items.into_iter().map(|item| item.name).collect());
        let store = Store::prepare(backend, path)?;
        let site = sites.entry(store.path().to_owned()).or_insert(Site { there: there.ok(), creators: 0 });
        site.creators += 1;
        Ok(Self { store, is_store: false })
    }

    fn publish(&self, change: &Change) -> Result<(), Failure> {
        let store = &self.store;
        commit::check_added(store, change)?;
        let (actions, _) = commit::actions(store, None, change)?;
        let metrics = commit::metrics(change);
        match log::commit(store.backend(), store.path(), 0, change.operation, metrics, &actions) {
            Outcome::Committed => {
                store.note_durable(0);
                Ok(())
            }
            Outcome::Conflict => Err(Error::AlreadyExists { path: store.path().to_owned() }.into()),
            Outcome::Unknown(error) => Err(Failure::Unknown(error)),
            Outcome::Failed(error) => Err(error.into()),
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let (backend, root) = (self.store.backend(), self.store.path());
        let mut sites = sites();
        let Some(site) = sites.get_mut(root) else { return };
        site.creators -= 1;
        if site.creators > 0 {
            return;
        }
        let Some(Site { there, .. }) = sites.remove(root) else { return };
        // The folders of a store stay, whoever has made it.
        if self.is_store || Store::open_on(Arc::clone(&self.store.backend), root).is_ok() {
            return;
        }
        remove_empty(backend, root, &|name| there.as_ref().is_some_and(|there| there.contains(name)));
        if there.is_none() {
            let _ = backend.remove_dir(root);
        }
    }
}

/// Removes the folders in a folder, and those in them, as far as there are no files in them.
fn remove_empty(backend: &dyn Backend, dir: &Path, stays: &dyn Fn(&str) -> bool) {
    for item in backend.list_all(dir).unwrap_or_default() {
        if item.kind == ItemKind::Dir && !stays(&item.name) {
            let inside = dir.join(&item.name);
            remove_empty(backend, &inside, &|_| false);
            let _ = backend.remove_dir(&inside);
        }
    }
}
