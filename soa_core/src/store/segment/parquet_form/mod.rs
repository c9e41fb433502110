//! The Parquet form of a segment: what every engine reads (format.md, section 3).

mod checksums;
mod encoding;
mod source;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;

use self::checksums::chunk_ranges;
use self::source::{ChunkSource, FooterSource};
use crate::convert::from_storage;
use crate::error::{Error, Result};
use crate::schema::Field;
use crate::store::io::{Backend, ReadFile, read_range};

pub(super) use self::checksums::Checksums;
pub(super) use self::write::{Encoded, write};

/// A row group is read whole; a footer that promises more is not believed.
const ROW_GROUP_ROWS_MAX: i64 = 1 << 27;

/// A Parquet file whose footer has been read. The file is opened for each reading: a store may have more files than a
/// process may have open, and this lives as long as a snapshot.
pub(super) struct ParquetForm {
    path: PathBuf,
    backend: Arc<dyn Backend>,
    len: u64,
    metadata: ArrowReaderMetadata,
    fields: Vec<Field>,
    /// The file's leaf column of each field, or `None` where the file has none: it is all NULL.
    leaves: Vec<Option<usize>>,
    checksums: Option<Checksums>,
}

impl ParquetForm {
    /// Opens a file of these columns and reads its footer.
    pub(super) fn open(
        backend: &Arc<dyn Backend>,
        path: &Path,
        fields: &[Field],
        expected_len: u64,
        checksums: Option<Checksums>,
    ) -> Result<Self> {
        let file = backend.open(path).map_err(Error::io("open", path))?;
        let len = file.byte_count().map_err(Error::io("read", path))?;
        if len != expected_len {
            return Err(Error::damaged(path, format!("it has {len} bytes; the log says {expected_len}")));
        }
        let damaged =
            |error: &dyn std::fmt::Display| Error::damaged(path, format!("its footer cannot be read: {error}"));
        let source = FooterSource::read(&*file, len).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => damaged(&error),
            _ => Error::io("read", path)(error),
        })?;
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let metadata = ArrowReaderMetadata::load(&source, options).map_err(|error| damaged(&error))?;
        let metadata = with_read_types(metadata).map_err(|error| damaged(&error))?;
        let groups = metadata.metadata().row_groups();
        if groups.iter().any(|group| !(0..=ROW_GROUP_ROWS_MAX).contains(&group.num_rows())) {
            return Err(Error::damaged(path, format!("a row group has more than {ROW_GROUP_ROWS_MAX} rows")));
        }
        let chunks = chunk_ranges(metadata.metadata());
        if let Some(known) = &checksums {
            let footer_at = chunks.iter().map(|range| range.end).max().unwrap_or(0);
            let footer = len.checked_sub(footer_at).and_then(|len| usize::try_from(len).ok());
            let footer = footer.ok_or_else(|| Error::damaged(path, "its footer points outside the file"))?;
            let bytes = read_range(&*file, footer_at, footer).map_err(Error::io("read", path))?;
            if !known.fit(chunks.len(), &bytes) {
                return Err(Error::damaged(path, "its footer does not match its checksum"));
            }
        }
        let leaves = fields.iter().map(|field| find_leaf(path, &metadata, field)).collect::<Result<_>>()?;
        let backend = Arc::clone(backend);
        Ok(Self { path: path.to_owned(), backend, len, metadata, fields: fields.to_vec(), leaves, checksums })
    }

    /// The rows of each unit.
    pub(super) fn unit_rows(&self) -> Vec<u64> {
        let groups = self.metadata.metadata().row_groups().iter();
        groups.map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).collect()
    }

    /// Columns of a unit, in the Arrow types of their fields.
    pub(super) fn columns(&self, unit: usize, columns: &[usize]) -> Result<Vec<ArrayRef>> {
        let metadata = self.metadata.metadata();
        let rows = usize::try_from(metadata.row_group(unit).num_rows())
            .map_err(|_| Error::damaged(&self.path, "a row group has a negative number of rows"))?;
        if rows == 0 {
            let empty = |column: &usize| arrow::array::new_empty_array(&self.fields[*column].data_type().to_arrow());
            return Ok(columns.iter().map(empty).collect());
        }
        let wanted: Vec<usize> = columns.iter().filter_map(|column| self.leaves[*column]).collect();
        let mut by_leaf: HashMap<usize, ArrayRef> = HashMap::new();
        if !wanted.is_empty() {
            let file = self.backend.open(&self.path).map_err(Error::io("open", &self.path))?;
            let chunks = wanted.iter().map(|leaf| self.read_chunk(&*file, unit, *leaf)).collect::<Result<Vec<_>>>()?;
            let batch = self
                .decode(unit, rows, &wanted, chunks)
                .map_err(|error| Error::damaged(&self.path, format!("row group {unit} cannot be decoded: {error}")))?;
            let mut leaves = wanted;
            leaves.sort_unstable();
            leaves.dedup();
            by_leaf.extend(leaves.into_iter().zip(batch.columns().iter().cloned()));
        }
        columns
            .iter()
            .map(|column| {
                let field = &self.fields[*column];
                match self.leaves[*column].and_then(|leaf| by_leaf.get(&leaf)) {
                    Some(array) => from_storage(array, field),
                    None => Ok(arrow::array::new_null_array(&field.data_type().to_arrow(), rows)),
                }
            })
            .collect()
    }

    fn decode(
        &self,
        unit: usize,
        rows: usize,
        leaves: &[usize],
        chunks: Vec<(u64, Bytes)>,
    ) -> Result<RecordBatch, ParquetError> {
        let source = ChunkSource { len: self.len, chunks };
        let mask = ProjectionMask::leaves(self.metadata.parquet_schema(), leaves.iter().copied());
        let mut reader = ParquetRecordBatchReaderBuilder::new_with_metadata(source, self.metadata.clone())
            .with_projection(mask)
            .with_row_groups(vec![unit])
            .with_batch_size(rows.max(1))
            .build()?;
        match (reader.next().transpose()?, reader.next()) {
            (Some(batch), None) if batch.num_rows() == rows => Ok(batch),
            _ => Err(ParquetError::General("it does not have the rows that the footer says".into())),
        }
    }

    /// The bytes of a column chunk and where they begin, checked.
    fn read_chunk(&self, file: &dyn ReadFile, unit: usize, leaf: usize) -> Result<(u64, Bytes)> {
        let metadata = self.metadata.metadata();
        let (start, len) = metadata.row_group(unit).column(leaf).byte_range();
        let fits = start.checked_add(len).is_some_and(|end| end <= self.len);
        let len = usize::try_from(len).ok().filter(|_| fits);
        let len = len.ok_or_else(|| Error::damaged(&self.path, "its footer points outside the file"))?;
        let bytes = read_range(file, start, len).map_err(Error::io("read", &self.path))?;
        let columns = metadata.row_group(unit).num_columns();
        if self.checksums.as_ref().is_some_and(|known| !known.fits_chunk(unit * columns + leaf, &bytes)) {
            let name = metadata.row_group(unit).column(leaf).column_path().string();
            let message = format!("column \"{name}\", row group {unit}: it does not match its checksum");
            return Err(Error::damaged(&self.path, message));
        }
        Ok((start, bytes.into()))
    }
}

impl std::fmt::Debug for ParquetForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetForm").field("path", &self.path).field("len", &self.len).finish_non_exhaustive()
    }
}

/// The same file, read into other Arrow types than those it would be read into by itself: text as views, which have no
/// limit of 2 GiB, and the 96-bit times of older writers as microseconds, whose range is that of other times.
fn with_read_types(metadata: ArrowReaderMetadata) -> Result<ArrowReaderMetadata, ParquetError> {
    let fields: Vec<ArrowField> = metadata
        .schema()
        .fields()
        .iter()
        .map(|field| {
            let data_type = match field.data_type() {
                ArrowType::Utf8 => ArrowType::Utf8View,
                ArrowType::Binary => ArrowType::BinaryView,
                ArrowType::Timestamp(TimeUnit::Nanosecond, zone) if is_int96(&metadata, field.name()) => {
                    ArrowType::Timestamp(TimeUnit::Microsecond, zone.clone())
                }
                other => other.clone(),
            };
            field.as_ref().clone().with_data_type(data_type)
        })
        .collect();
    let options =
        ArrowReaderOptions::new().with_skip_arrow_metadata(true).with_schema(Arc::new(ArrowSchema::new(fields)));
    ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)
}

fn is_int96(metadata: &ArrowReaderMetadata, name: &str) -> bool {
    let mut columns = metadata.parquet_schema().columns().iter();
    columns.any(|column| column.path().parts() == [name] && column.physical_type() == PhysicalType::INT96)
}

fn find_leaf(path: &Path, metadata: &ArrowReaderMetadata, field: &Field) -> Result<Option<usize>> {
    let schema = metadata.parquet_schema();
    let found = schema.columns().iter().position(|column| column.path().parts() == [field.name()]);
    match found {
        None if field.is_nullable() => Ok(None),
        None => Err(Error::damaged(path, format!("it has no column \"{}\"", field.name()))),
        some => Ok(some),
    }
}
