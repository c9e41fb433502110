//! A segment: some rows of a table, published and never changed, in up to two forms; and which of them are gone.

mod arrow_form;
mod checksum;
mod encoding;
mod file;
mod key_index;
mod parquet_form;
mod partition;
mod rebuild;
mod selective;
mod write;
mod zone_map;

use std::path::PathBuf;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, BooleanArray};
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter;
use roaring::RoaringBitmap;

use super::snapshot;
use super::vector::DeletionVector;
use crate::error::{Error, Result};
use crate::predicate::{Bounds, Predicate, Scalar};

pub(crate) use self::encoding::decoded;
pub(super) use self::file::{SegmentFile, SegmentMeta, Table};
pub(super) use self::key_index::{hash_of, hashes_of};
pub(super) use self::partition::PartitionValue;
pub(super) use self::write::{CHECKSUMS_TAG, Names, Written, compact, remove, write};

/// Which of a segment's forms is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Form {
    /// The mapped Arrow form.
    Arrow,
    /// The Parquet file.
    Parquet,
}

/// A segment of a snapshot: a file, which all versions share that have it, and which of its rows are gone.
#[derive(Debug)]
pub struct Segment {
    file: Arc<SegmentFile>,
    /// What the log says is gone.
    vector: Option<DeletionVector>,
    /// What the rows in the write-ahead log replace or delete.
    hidden: Option<Arc<RoaringBitmap>>,
    /// Both, as positions in the file. Read when it is first needed.
    deleted: OnceLock<Arc<RoaringBitmap>>,
    rows: u64,
}

impl Segment {
    pub(super) fn new(file: Arc<SegmentFile>, vector: Option<DeletionVector>) -> Result<Self> {
        let deleted = vector.as_ref().map_or(0, DeletionVector::cardinality);
        let rows = file.row_count().checked_sub(deleted).ok_or_else(|| {
            let message = format!("the log says that {deleted} of its {} rows are deleted", file.row_count());
            Error::damaged(file.parquet_path(), message)
        })?;
        Ok(Self { file, vector, hidden: None, deleted: OnceLock::new(), rows })
    }

    /// The same segment without the rows at these positions, besides those that the log says are gone.
    pub(super) fn with_hidden(&self, hidden: RoaringBitmap) -> Result<Self> {
        let deleted = match &self.vector {
            None => Arc::new(hidden.clone()),
            Some(_) => Arc::new(&*self.logged_deletions()? | &hidden),
        };
        let rows = self.file.row_count() - deleted.len();
        Ok(Self {
            file: Arc::clone(&self.file),
            vector: self.vector.clone(),
            hidden: Some(Arc::new(hidden)),
            deleted: OnceLock::from(deleted),
            rows,
        })
    }

    /// The same segment without these rows as well.
    pub(super) fn without(&self, rows: &RoaringBitmap) -> Result<Self> {
        match &self.hidden {
            None => self.with_hidden(rows.clone()),
            Some(hidden) => self.with_hidden(&**hidden | rows),
        }
    }

    /// The positions in its file of the rows of a unit that are left.
    pub(crate) fn positions(&self, unit: usize) -> Result<Vec<u32>> {
        let units = self.file.units()?;
        let all = positions(units[..unit].iter().sum(), units[unit]);
        if self.deleted_count() == 0 {
            return Ok(all.collect());
        }
        let deleted = self.deleted()?;
        Ok(all.filter(|position| !deleted.contains(*position)).collect())
    }

    /// Its Parquet file, relative to the store.
    pub fn path(&self) -> &str {
        self.file.path()
    }

    /// How many rows it has, without deleted ones.
    pub fn row_count(&self) -> u64 {
        self.rows
    }

    /// How many rows of its files are deleted.
    pub fn deleted_count(&self) -> u64 {
        self.file.row_count() - self.rows
    }

    /// The size of its Parquet file.
    pub fn parquet_bytes(&self) -> u64 {
        self.file.parquet_bytes()
    }

    /// When it was written, in milliseconds since 1970.
    pub fn modified_ms(&self) -> i64 {
        self.file.modified_ms()
    }

    /// The size of its Arrow form, if it has one that can be read.
    pub fn arrow_bytes(&self) -> Option<u64> {
        self.file.arrow_bytes()
    }

    /// Which form is read.
    pub fn form(&self) -> Form {
        self.file.form()
    }

    /// The partition columns and the value that all rows have there, as the log writes it; `None` is NULL.
    pub fn partition_values(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        self.file.partition_values()
    }

    /// What the log says of a column of the table.
    ///
    /// # Panics
    ///
    /// When there is no such column.
    pub fn bounds(&self, column: usize) -> Bounds {
        without_deleted(self.file.bounds(column), self.rows)
    }

    /// Every file of the segment that a scan may open, absolute.
    pub fn files(&self) -> Vec<PathBuf> {
        let mut files = self.file.files();
        files.extend(self.vector.as_ref().and_then(|vector| vector.path(self.file.root())));
        files
    }

    pub(super) fn file(&self) -> &Arc<SegmentFile> {
        &self.file
    }

    pub(super) fn vector(&self) -> Option<&DeletionVector> {
        self.vector.as_ref()
    }

    /// The rows of each of its units, deleted ones included.
    pub(super) fn units(&self) -> Result<&[u64]> {
        self.file.units()
    }

    /// The rows of each of its units, without deleted ones.
    pub(crate) fn live_units(&self) -> Result<Vec<u64>> {
        let units = self.file.units()?;
        if self.deleted_count() == 0 {
            return Ok(units.to_vec());
        }
        let deleted = self.deleted()?;
        let mut start = 0;
        let live = units.iter().map(|rows| {
            let gone = deleted.range_cardinality(positions(start, *rows));
            start += rows;
            rows - gone
        });
        Ok(live.collect())
    }

    /// What is known of a column in the rows of a unit that are left.
    pub(crate) fn unit_bounds(&self, unit: usize, live_rows: u64, column: usize) -> Bounds {
        let rows = self.file.units().ok().and_then(|units| units.get(unit).copied()).unwrap_or(live_rows);
        without_deleted(self.file.unit_bounds(unit, rows, column), live_rows)
    }

    /// Columns of the rows of a unit that are left, in their Arrow types.
    pub(crate) fn read(&self, unit: usize, columns: &[usize]) -> Result<Vec<ArrayRef>> {
        let schema = self.file.schema();
        let arrays = self.read_encoded(unit, columns)?;
        arrays.iter().zip(columns).map(|(array, column)| decoded(array, schema.field(*column).data_type())).collect()
    }

    /// Columns of the rows of a unit that are left, as the file has them.
    pub(crate) fn read_encoded(&self, unit: usize, columns: &[usize]) -> Result<Vec<ArrayRef>> {
        let (arrays, live) = self.read_in_place(unit, columns)?;
        let Some(live) = live.map(|live| BooleanArray::new(live, None)) else { return Ok(arrays) };
        let filtered = arrays.iter().map(|array| filter(array, &live));
        filtered.collect::<Result<_, _>>().map_err(Error::arrow("cannot leave deleted rows out"))
    }

    /// How many rows of a unit are left and match, and columns of them, where they are read from Parquet; `None` where
    /// they are not.
    pub(crate) fn read_matching(
        &self,
        unit: usize,
        columns: &[usize],
        predicate: &Predicate,
    ) -> Result<Option<(usize, Vec<ArrayRef>)>> {
        match self.file.form() {
            Form::Arrow => Ok(None),
            Form::Parquet => self.file.read_matching(unit, columns, predicate, self.live(unit)?.as_ref()).map(Some),
        }
    }

    /// Whether one of these values may be in a column of a unit, as far as a Bloom filter tells.
    pub(crate) fn may_hold(&self, unit: usize, column: usize, values: &[&Scalar]) -> bool {
        self.file.may_hold(unit, column, values)
    }

    /// Columns of all rows of a unit, deleted ones included, as the file has them; and which are left, `None` if all are.
    pub(crate) fn read_in_place(
        &self,
        unit: usize,
        columns: &[usize],
    ) -> Result<(Vec<ArrayRef>, Option<BooleanBuffer>)> {
        Ok((self.file.read_encoded(unit, columns)?, self.live(unit)?))
    }

    /// The units in which keys may be, of which these are the hashes; `None` if that is not known without reading keys.
    pub(crate) fn units_with_keys(&self, hashes: &[u64]) -> Option<Vec<usize>> {
        let mut rows = self.file.rows_with_keys(hashes)?;
        rows.sort_unstable();
        let mut found = Vec::new();
        let mut ends = self.file.units().ok()?.iter().scan(0, |end, rows| {
            *end += rows;
            Some(*end)
        });
        let (mut unit, mut end) = (0, ends.next()?);
        for row in rows {
            while u64::from(row) >= end {
                end = ends.next()?;
                unit += 1;
            }
            if found.last() != Some(&unit) {
                found.push(unit);
            }
        }
        Some(found)
    }

    /// Which rows of a unit are left; `None` if all are.
    fn live(&self, unit: usize) -> Result<Option<BooleanBuffer>> {
        if self.deleted_count() == 0 {
            return Ok(None);
        }
        let units = self.file.units()?;
        let start: u64 = units[..unit].iter().sum();
        let deleted = self.deleted()?;
        let range = positions(start, units[unit]);
        if deleted.range_cardinality(range.clone()) == 0 {
            return Ok(None);
        }
        let rows = usize::try_from(units[unit])
            .map_err(|_| Error::damaged(self.file.parquet_path(), "a unit is too large"))?;
        let mut bits = arrow::array::BooleanBufferBuilder::new(rows);
        bits.append_n(rows, true);
        for position in deleted.range(range.clone()) {
            bits.set_bit((position - range.start()) as usize, false);
        }
        Ok(Some(bits.finish()))
    }

    /// The positions in the file of the rows that are gone.
    pub(super) fn deleted(&self) -> Result<Arc<RoaringBitmap>> {
        if let Some(deleted) = self.deleted.get() {
            return Ok(Arc::clone(deleted));
        }
        // What the write-ahead log hides was put together with the vector already.
        let deleted = self.read_vector()?;
        Ok(Arc::clone(self.deleted.get_or_init(|| deleted)))
    }

    /// The positions in the file of the rows that the log says are gone.
    pub(super) fn logged_deletions(&self) -> Result<Arc<RoaringBitmap>> {
        if self.hidden.is_none() { self.deleted() } else { self.read_vector() }
    }

    fn read_vector(&self) -> Result<Arc<RoaringBitmap>> {
        let Some(vector) = &self.vector else { return Ok(Arc::default()) };
        let (backend, root) = (self.file.backend(), self.file.root());
        let read = vector.read(backend, root, self.file.row_count());
        let file = vector.path(root).unwrap_or_default();
        read.map(Arc::new).map_err(|error| snapshot::explain(backend, root, &file, error))
    }

    /// Checks the deletion vector and both forms, each against its checksums and statistics and against the other.
    /// Gives what is wrong, in words; nothing if all is well.
    pub(super) fn verify(&self) -> Vec<String> {
        let mut problems = self.file.verify();
        if let Some(vector) = &self.vector
            && let Err(error) = vector.read(self.file.backend(), self.file.root(), self.file.row_count())
        {
            problems.push(error.to_string());
        }
        problems
    }
}

/// The positions of `rows` rows from `start` on. No file has a deletion vector and more rows than fit in 32 bits.
fn positions(start: u64, rows: u64) -> std::ops::RangeInclusive<u32> {
    let last = (start + rows).saturating_sub(1);
    let clamp = |position: u64| u32::try_from(position).unwrap_or(u32::MAX);
    match rows {
        // Any range without elements.
        0 => std::ops::RangeInclusive::new(1, 0),
        _ => clamp(start)..=clamp(last),
    }
}

/// What bounds of all rows of a file or unit say of those that are left.
fn without_deleted(all: Bounds, rows: u64) -> Bounds {
    let nulls = match all.nulls {
        Some(nulls) if nulls == all.rows => Some(rows),
        Some(0) => Some(0),
        Some(nulls) if rows == all.rows => Some(nulls),
        _ => None,
    };
    Bounds { rows, nulls, ..all }
}
