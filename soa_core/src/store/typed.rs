//! A store whose rows are records.

use std::fmt;
use std::marker::PhantomData;
use std::path::Path;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::compute::filter_record_batch;

use super::{Backend, Edited, OsBackend, Snapshot, Store, maintain, scalar_of};
use crate::convert::cast_batch;
use crate::error::{Error, Result};
use crate::kernel::{FieldColumn, KeyColumn, KeyedRecord, Rows, StoredRecord, joined};
use crate::predicate::Predicate;
use crate::scan::ScanRequest;
use crate::schema::Schema;

/// A [`Store`] whose rows are the records `R`: columns go in and come out as `OrderSoA`.
///
/// The table may have been made by an older release of the program: `Option` fields that came since are NULL in its
/// rows, and the first write adds their columns ([`Store::evolve`]). Whatever else differs is an error that says what.
///
/// ```
/// use soa_core::predicate::Predicate;
/// use soa_core::kernel::Record;
/// use soa_core::store::TypedStore;
/// use soa_core::{SoA, SoAStore};
///
/// #[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
/// #[soa_store(key = "sku")]
/// struct Stock {
///     sku: String,
///     pieces: u32,
/// }
///
/// # fn main() -> soa_core::Result<()> {
/// # let dir = tempfile::tempdir().unwrap();
/// # let path = dir.path().join("stock.soa");
/// # let stock = |sku: &str, pieces| Stock { sku: sku.to_owned(), pieces };
/// let store = TypedStore::<Stock>::open_or_create(&path)?;
/// store.append(&StockSoA::from_iter([stock("nail", 100), stock("nut", 30)]))?;
/// store.upsert(&StockSoA::from_iter([stock("nail", 90)]))?;
/// assert_eq!(store.get("nail")?, Some(stock("nail", 90)));
/// let few = Predicate::parse("pieces < 50", &Stock::schema())?;
/// assert_eq!(store.query(Some(&few), None)?.to_vec(), [stock("nut", 30)]);
/// # Ok(())
/// # }
/// ```
pub struct TypedStore<R> {
    store: Store,
    /// The table as the record wants it.
    table: Schema,
    record: PhantomData<fn() -> R>,
}

impl<R: StoredRecord> TypedStore<R> {
    /// Opens the store in the folder `path`.
    ///
    /// # Errors
    ///
    /// As [`Store::open`], and when its rows are no `R`, or the table has another key, order or partitions.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_on(Arc::new(OsBackend), path, R::table_schema())
    }

    /// Opens the store in the folder `path`, or makes it.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`Store::create`].
    pub fn open_or_create(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_or_create_on(Arc::new(OsBackend), path, R::table_schema())
    }

    /// Opens a table with another order or other partitions than the record names, in the folder `path` of a backend's
    /// files; see [`Store::open_on`].
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open).
    pub fn open_on(backend: Arc<dyn Backend>, path: impl AsRef<Path>, table: Schema) -> Result<Self> {
        Self::with_table(Store::open_on(backend, path)?, table)
    }

    /// Opens such a table, or makes it.
    ///
    /// # Errors
    ///
    /// As [`open_or_create`](Self::open_or_create).
    pub fn open_or_create_on(backend: Arc<dyn Backend>, path: impl AsRef<Path>, table: Schema) -> Result<Self> {
        let path = path.as_ref();
        match Store::create_on(Arc::clone(&backend), path, table.clone()) {
            Ok(store) => Self::with_table(store, table),
            Err(Error::AlreadyExists { .. }) => Self::open_on(backend, path, table),
            Err(error) => Err(error),
        }
    }

    /// The records of a store that is open, whatever its order and partitions are.
    ///
    /// # Errors
    ///
    /// When its rows are no `R`, or it has another key.
    pub fn of(store: Store) -> Result<Self> {
        let table = {
            let snapshot = store.published()?;
            let there = snapshot.schema();
            R::table_schema()
                .with_sort_by(&there.names_of(there.sort_by()))?
                .with_partition_by(&there.names_of(there.partition_by()))?
        };
        Self::with_table(store, table)
    }

    fn with_table(store: Store, table: Schema) -> Result<Self> {
        maintain::extended(store.published()?.schema(), &table)?;
        Ok(Self { store, table, record: PhantomData })
    }

    /// The store.
    pub fn store(&self) -> &Store {
        &self.store
    }

    /// Adds the columns and variants to the table that the record has got since it was made. Everything that writes does
    /// this first. Returns the version that has them.
    ///
    /// # Errors
    ///
    /// As [`Store::evolve`].
    pub fn evolve(&self) -> Result<u64> {
        self.store.evolve(&self.table)
    }

    /// Publishes rows in one commit, and returns its version.
    ///
    /// # Errors
    ///
    /// As [`Store::append`]; nothing is visible then.
    pub fn append(&self, rows: &R::Soa) -> Result<u64> {
        self.evolve()?;
        self.store.append(&[rows.to_record_batch()])
    }

    /// Publishes rows in one commit: those whose keys are in the table replace the rows that have them.
    ///
    /// # Errors
    ///
    /// As [`Store::upsert`].
    pub fn upsert(&self, rows: &R::Soa) -> Result<Edited>
    where
        R: KeyedRecord,
    {
        self.evolve()?;
        self.store.upsert(&[rows.to_record_batch()])
    }

    /// Publishes rows in one commit: those whose keys are in the table, if it has a key, replace the rows that have them.
    #[cfg(feature = "persistence")]
    pub(crate) fn put(&self, rows: &R::Soa) -> Result<()> {
        self.evolve()?;
        let batches = [rows.to_record_batch()];
        match self.table.key() {
            None => self.store.append(&batches).map(drop),
            Some(_) => self.store.upsert(&batches).map(drop),
        }
    }

    /// Publishes rows in the place of all that there are, in one commit.
    ///
    /// # Errors
    ///
    /// As [`Store::overwrite`].
    pub fn overwrite(&self, rows: &R::Soa) -> Result<Edited> {
        self.evolve()?;
        self.store.overwrite(&[rows.to_record_batch()])
    }

    /// The record with this key, if there is one, published or in the write-ahead log. See [`Store::get`].
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn get(&self, key: &<R::KeyColumn as KeyColumn>::Key) -> Result<Option<R>>
    where
        R: KeyedRecord,
    {
        let Some(condition) = key_condition::<R>(key) else { return Ok(None) };
        let rows = self.query(Some(&condition), None)?;
        Ok(rows.len().checked_sub(1).map(|last| R::Soa::to_record(rows.view(last))))
    }

    /// All rows, published or in the write-ahead log.
    ///
    /// # Errors
    ///
    /// When a file cannot be read.
    pub fn load(&self) -> Result<R::Soa> {
        self.query(None, None)
    }

    /// The rows for which `predicate` is true, no more than `limit`. The predicate's columns are those of
    /// [`Record::schema`](crate::kernel::Record::schema), wherever the table has them. What statistics, zone maps and key
    /// indexes exclude is not read.
    ///
    /// # Errors
    ///
    /// When the predicate does not fit the columns, or a file cannot be read.
    pub fn query(&self, predicate: Option<&Predicate>, limit: Option<u64>) -> Result<R::Soa> {
        read::<R>(&self.store.snapshot()?, predicate, limit)
    }

    /// How many rows there are, published or in the write-ahead log.
    ///
    /// # Errors
    ///
    /// When the log cannot be read.
    pub fn count(&self) -> Result<u64> {
        Ok(self.store.snapshot()?.row_count())
    }
}

impl<R> Clone for TypedStore<R> {
    fn clone(&self) -> Self {
        Self { store: self.store.clone(), table: self.table.clone(), record: PhantomData }
    }
}

impl<R> fmt::Debug for TypedStore<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedStore").field("store", &self.store).finish_non_exhaustive()
    }
}

/// `key = …` on the record's columns; `None` for a key that no row can have.
pub(crate) fn key_condition<R: KeyedRecord>(key: &<R::KeyColumn as KeyColumn>::Key) -> Option<Predicate> {
    let mut column = R::KeyColumn::default();
    column.push(R::KeyColumn::find_stored(key)?);
    let key: ArrayRef = column.to_array();
    let position = R::schema().index_of(R::KEY)?;
    scalar_of(&key).map(|key| Predicate::eq(position, key))
}

/// The records of a snapshot for which `predicate` is true.
fn read<R: StoredRecord>(
    snapshot: &Arc<Snapshot>,
    predicate: Option<&Predicate>,
    limit: Option<u64>,
) -> Result<R::Soa> {
    let wanted = R::schema();
    if let Some(predicate) = predicate {
        predicate.check(&wanted)?;
    }
    let places: Vec<Option<usize>> =
        wanted.fields().iter().map(|field| snapshot.schema().index_of(field.name())).collect();
    let columns: Vec<usize> = places.iter().copied().flatten().collect();
    // A table without some of the columns cannot say anything of them.
    let is_complete = columns.len() == wanted.len();
    let pushed = predicate.filter(|_| is_complete).map(|predicate| predicate.with_columns(&|column| columns[column]));
    // A limit counts the rows that match.
    let planned = limit.filter(|_| predicate.is_none() || is_complete);
    let plan = snapshot.plan(&ScanRequest { columns, predicate: pushed, limit: planned })?;
    let mut left = limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let mut parts = Vec::with_capacity(plan.units().len());
    for unit in 0..plan.units().len() {
        if left == 0 {
            break;
        }
        let mut rows = plan.read_filtered(unit)?;
        if !is_complete {
            rows = cast_batch(&rows, &wanted)?;
            rows = predicate.map_or(Ok(rows.clone()), |predicate| matching(&rows, predicate))?;
        }
        rows = rows.slice(0, left.min(rows.num_rows()));
        left -= rows.num_rows();
        parts.push(R::Soa::from_record_batch(rows)?);
    }
    Ok(joined(parts))
}

/// The rows of a batch, whose columns are those of the predicate's table, for which it is true.
pub(crate) fn matching(rows: &RecordBatch, predicate: &Predicate) -> Result<RecordBatch> {
    let selected = predicate.select(rows, &|column| (column < rows.num_columns()).then_some(column))?;
    match selected.true_count() == rows.num_rows() {
        true => Ok(rows.clone()),
        false => filter_record_batch(rows, &selected).map_err(Error::arrow("cannot filter rows")),
    }
}
