//! What the derives implement: the traits through which generic code handles records.

use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::field::KeyColumn;
use super::iter::Iter;
use crate::error::Result;
use crate::schema::Schema;

/// A struct that derives [`SoA`](crate::SoA).
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a record",
    label = "does not derive `SoA`",
    note = "add `#[derive(SoA)]` to the struct"
)]
pub trait Record: Sized + 'static {
    /// Its columns: `OrderSoA` for `Order`.
    type Soa: Rows<Record = Self>;

    /// Its columns' names and types, without key, order or partitions.
    fn schema() -> Schema;

    /// The Arrow schema of its record batches: [`arrow_schema`](crate::schema::arrow_schema) of
    /// [`schema`](Self::schema).
    fn arrow_schema() -> SchemaRef;
}

/// A record that derives [`SoAStore`](crate::SoAStore): it says how a table of it is kept.
#[diagnostic::on_unimplemented(
    message = "`{Self}` does not say how a store keeps it",
    label = "does not derive `SoAStore`",
    note = "add `#[derive(SoAStore)]` and `#[soa_store(key = \"…\")]` to the struct"
)]
pub trait StoredRecord: Record {
    /// [`Record::schema`] with the key, order and partitions that `#[soa_store(…)]` names.
    fn table_schema() -> Schema;
}

/// A stored record with a key: no two rows of a store share its value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` has no key",
    label = "no `key` in `#[soa_store(…)]`",
    note = "name the field that tells rows apart: `#[soa_store(key = \"…\")]`"
)]
pub trait KeyedRecord: StoredRecord {
    /// The column of the key.
    type KeyColumn: KeyColumn;

    /// The key column's name.
    const KEY: &'static str;
    /// How many shards a [`ShardedStore`](super::ShardedStore) has by default.
    const SHARDS: usize;

    /// The record's key.
    fn key(&self) -> &<Self::KeyColumn as KeyColumn>::Key;

    /// The key column among its columns.
    fn key_column(rows: &Self::Soa) -> &Self::KeyColumn;

    /// The key column among its columns, to be written.
    fn key_column_mut(rows: &mut Self::Soa) -> &mut Self::KeyColumn;
}

/// The columns of a [`Record`]: what `OrderSoA` is to `Order`.
///
/// The derive gives `OrderSoA` the same methods without the trait.
pub trait Rows: Clone + Default + Send + Sync + Sized + 'static {
    /// The struct whose fields the columns hold.
    type Record: Record<Soa = Self>;
    /// A row that is read.
    type View<'a>: Copy;
    /// A row that is written.
    type Mut<'a>;

    /// How many rows there are.
    fn len(&self) -> usize;

    /// Whether there is no row.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The row at `row`.
    ///
    /// # Panics
    ///
    /// When there is none.
    fn view(&self, row: usize) -> Self::View<'_>;

    /// The row at `row`, if there is one.
    fn get(&self, row: usize) -> Option<Self::View<'_>> {
        (row < self.len()).then(|| self.view(row))
    }

    /// The row at `row`, to be written. A column is copied first when it is written and somebody shares it.
    ///
    /// # Panics
    ///
    /// When there is none.
    fn view_mut(&mut self, row: usize) -> Self::Mut<'_>;

    /// A row as a struct of its own.
    fn to_record(view: Self::View<'_>) -> Self::Record;

    /// The rows, in order.
    fn iter(&self) -> Iter<'_, Self> {
        Iter::new(self)
    }

    /// Appends a row.
    ///
    /// # Errors
    ///
    /// When a value does not fit its column; the error names both, and nothing is appended.
    fn try_push(&mut self, record: Self::Record) -> Result<()>;

    /// Replaces the row at `row`.
    ///
    /// # Errors
    ///
    /// When a value does not fit its column; the error names both, and the row is what it was.
    ///
    /// # Panics
    ///
    /// When there is no such row.
    fn try_set(&mut self, row: usize, record: Self::Record) -> Result<()>;

    /// Takes the row at `row` out; the last row takes its place.
    ///
    /// # Panics
    ///
    /// When there is none.
    fn swap_remove(&mut self, row: usize) -> Self::Record;

    /// Drops all rows but the first `len`.
    fn truncate(&mut self, len: usize);

    /// Drops all rows.
    fn clear(&mut self);

    /// Makes room for `additional` more rows.
    fn reserve(&mut self, additional: usize);

    /// Gives unused memory back, as far as nobody shares it.
    fn shrink_to_fit(&mut self);

    /// Bytes allocated for the columns.
    fn memory_bytes(&self) -> usize;

    /// The rows as a record batch that shares the columns; nothing is copied but the bits of `bool`s.
    fn to_record_batch(&self) -> RecordBatch;

    /// The rows as a record batch; nothing is copied but the bits of `bool`s.
    fn into_record_batch(self) -> RecordBatch {
        self.to_record_batch()
    }

    /// The rows of a record batch, whose columns are found by name; columns that are no field are left
    /// out. Shares the batch's columns: nothing is copied but `bool`s, text in another layout than
    /// views, and enums whose dictionary lists the names in another order.
    ///
    /// # Errors
    ///
    /// When a column is missing, of another type, NULL where the field is no `Option`, or holds a name
    /// that the enum does not have or a time that chrono cannot express; the error names the column.
    fn from_record_batch(batch: RecordBatch) -> Result<Self>;
}
