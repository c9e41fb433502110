//! The Arrow form of a segment made again from its Parquet file, and what must be sure before it goes.

use arrow::array::RecordBatch;
use arrow::datatypes::Schema as ArrowSchema;
use std::sync::Arc;

use super::file::SegmentFile;
use super::write::write_arrow;
use crate::error::{Error, Result};
use crate::schema::{DataType, arrow_field};

impl SegmentFile {
    /// Makes sure that every row can be read from the Parquet file alone.
    ///
    /// # Errors
    ///
    /// When it is missing or damaged.
    pub(in crate::store) fn check_parquet(&self) -> Result<()> {
        let parquet = self.open_parquet()?;
        let columns: Vec<usize> = (0..self.stored().len()).collect();
        (0..parquet.unit_rows().len()).try_for_each(|unit| parquet.columns(unit, &columns).map(|_| ()))
    }

    /// Writes the Arrow form anew from the Parquet file, whose row count and checksums are checked. Returns its size. One that
    /// was there, and must be damaged, is replaced. Snapshots of now go on reading Parquet.
    ///
    /// # Errors
    ///
    /// When the Parquet file is missing or damaged, or the Arrow form cannot be written; then there is none.
    pub(in crate::store) fn rebuild_arrow(&self) -> Result<u64> {
        let parquet = self.open_parquet()?;
        let fields: Vec<_> = self.stored().iter().map(arrow_field).collect();
        let schema = Arc::new(ArrowSchema::new(fields));
        let columns: Vec<usize> = (0..self.stored().len()).collect();
        let units = (0..parquet.unit_rows().len()).map(|unit| {
            let rows = RecordBatch::try_new(Arc::clone(&schema), parquet.columns(unit, &columns)?);
            rows.map_err(Error::arrow("cannot put columns together"))
        });
        let units = units.collect::<Result<Vec<_>>>()?;
        let path = self.arrow_path();
        let dir = path.parent().unwrap_or(self.root());
        self.backend().create_dirs_below(self.root(), dir).map_err(Error::io("create", dir))?;
        crate::store::paths::check_inside(self.root(), dir)?;
        match self.backend().remove(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                return Err(Error::io("remove", &path)(error));
            }
            _ => {}
        }
        match write_arrow(&**self.backend(), &path, &units) {
            // Somebody else has made it meanwhile.
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::AlreadyExists => {}
            written => drop(written?),
        }
        Ok(self.backend().stat(&path).map_err(Error::io("look at", &path))?.len)
    }

    /// How many bytes an Arrow form takes at least.
    pub(in crate::store) fn arrow_bytes_min(&self) -> u64 {
        let bits = |data_type: &DataType| match data_type {
            DataType::Bool => 1,
            // Text and decimals may be encoded.
            DataType::Int8 | DataType::UInt8 | DataType::Enum(_) | DataType::Utf8 => 8,
            DataType::Int16 | DataType::UInt16 => 16,
            DataType::Decimal { precision: ..=9, .. } => 32,
            DataType::Decimal { precision: ..=18, .. } => 64,
            DataType::Int32 | DataType::UInt32 | DataType::Float32 | DataType::Date => 32,
            DataType::Int64
            | DataType::UInt64
            | DataType::Float64
            | DataType::Timestamp { .. }
            | DataType::Time
            | DataType::Duration => 64,
            DataType::Decimal { .. } | DataType::Binary | DataType::Uuid => 128,
            // Where each list ends; or no list may be NULL, nor what is in it.
            DataType::List(_) | DataType::Map { .. } => 32,
            DataType::FixedList(..) | DataType::Struct(_) => 0,
        };
        let row: u64 = self.stored().iter().map(|field| bits(field.data_type())).sum();
        self.row_count().saturating_mul(row) / 8
    }
}
