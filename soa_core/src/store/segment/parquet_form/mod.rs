//! The Parquet form of a segment: what every engine reads (format.md, section 3).

mod bounds;
mod checksums;
mod encoding;
mod parts;
#[cfg(test)]
mod prune_tests;
mod pruning;
#[cfg(test)]
mod tests;
mod write;

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::slice;
use std::sync::{Arc, OnceLock};

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, FieldRef, Schema as ArrowSchema, TimeUnit};
use bytes::Bytes;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelectionPolicy,
};
use parquet::basic::Type as PhysicalType;
use parquet::errors::ParquetError;

use self::checksums::{chunk_range, chunk_ranges, has_places};
use self::parts::Parts;
use self::pruning::Indexes;
use crate::convert::{from_storage, null_column};
use crate::error::{Error, Result};
use crate::schema::{DataType, Field};
use crate::store::io::{Backend, ReadFile, read_range};
use crate::store::parquet_source::{ChunkSource, FooterSource};

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
    /// The file's columns of each field: one, or for a nested type one for each kind of value inside it. `None` where the
    /// file has none: it is all NULL.
    roots: Vec<Option<Range<usize>>>,
    /// The file's column of each field, if it is one.
    leaves: Vec<Option<usize>>,
    checksums: Option<Checksums>,
    indexes: Indexes,
    /// The parts of column chunks that were found to match their checksums, row group by row group. Found out when some
    /// rows of a chunk are read.
    parts: Vec<OnceLock<Parts>>,
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
        let metadata = ArrowReaderMetadata::load(&source, reader_options()).map_err(|error| damaged(&error))?;
        let metadata = with_read_types(metadata, fields).map_err(|error| damaged(&error))?;
        let groups = metadata.metadata().row_groups();
        if groups.iter().any(|group| !(0..=ROW_GROUP_ROWS_MAX).contains(&group.num_rows())) {
            return Err(Error::damaged(path, format!("a row group has more than {ROW_GROUP_ROWS_MAX} rows")));
        }
        if !has_places(metadata.metadata()) {
            return Err(Error::damaged(path, "its footer points outside the file"));
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
        let roots = fields.iter().map(|field| find_root(path, &metadata, field)).collect::<Result<Vec<_>>>()?;
        let alone = |(field, root): (&Field, &Option<Range<usize>>)| {
            root.as_ref().filter(|_| !field.data_type().is_nested()).map(|root| root.start)
        };
        let leaves = fields.iter().zip(&roots).map(alone).collect();
        let backend = Arc::clone(backend);
        Ok(Self {
            path: path.to_owned(),
            backend,
            len,
            metadata,
            fields: fields.to_vec(),
            roots,
            leaves,
            checksums,
            indexes: Indexes::default(),
            parts: chunks.iter().map(|_| OnceLock::new()).collect(),
        })
    }

    /// The rows of each unit.
    pub(super) fn unit_rows(&self) -> Vec<u64> {
        let groups = self.metadata.metadata().row_groups().iter();
        groups.map(|group| u64::try_from(group.num_rows()).unwrap_or(0)).collect()
    }

    /// Columns of a unit, in the Arrow types of their fields.
    pub(super) fn columns(&self, unit: usize, columns: &[usize]) -> Result<Vec<ArrayRef>> {
        self.read(unit, columns, None)
    }

    /// Columns of some rows of a unit: ranges in ascending order. Pages without any of them are not decoded.
    pub(super) fn rows(&self, unit: usize, columns: &[usize], ranges: &[Range<usize>]) -> Result<Vec<ArrayRef>> {
        let whole = ranges == slice::from_ref(&(0..self.row_count(unit)?));
        self.read(unit, columns, (!whole).then_some(ranges))
    }

    fn row_count(&self, unit: usize) -> Result<usize> {
        usize::try_from(self.metadata.metadata().row_group(unit).num_rows())
            .map_err(|_| Error::damaged(&self.path, "a row group has a negative number of rows"))
    }

    /// The place of a column chunk among all of the file.
    fn chunk(&self, unit: usize, leaf: usize) -> usize {
        unit * self.metadata.metadata().row_group(unit).num_columns() + leaf
    }

    fn read(&self, unit: usize, columns: &[usize], ranges: Option<&[Range<usize>]>) -> Result<Vec<ArrayRef>> {
        let rows = match ranges {
            Some(ranges) => ranges.iter().map(ExactSizeIterator::len).sum(),
            None => self.row_count(unit)?,
        };
        if rows == 0 {
            let empty = |column: &usize| arrow::array::new_empty_array(&self.fields[*column].data_type().to_arrow());
            return Ok(columns.iter().map(empty).collect());
        }
        let mut roots: Vec<Range<usize>> = columns.iter().filter_map(|column| self.roots[*column].clone()).collect();
        roots.sort_unstable_by_key(|root| root.start);
        roots.dedup();
        let leaves: Vec<usize> = roots.iter().cloned().flatten().collect();
        let mut by_root: HashMap<usize, ArrayRef> = HashMap::new();
        if !leaves.is_empty() {
            let file = self.backend.open(&self.path).map_err(Error::io("open", &self.path))?;
            let mut chunks = Vec::new();
            for leaf in &leaves {
                self.read_chunk(&*file, unit, *leaf, ranges, &mut chunks)?;
            }
            let batch = self
                .decode(unit, rows, &leaves, ranges, chunks)
                .map_err(|error| Error::damaged(&self.path, format!("row group {unit} cannot be decoded: {error}")))?;
            by_root.extend(roots.iter().map(|root| root.start).zip(batch.columns().iter().cloned()));
        }
        columns
            .iter()
            .map(|column| {
                let field = &self.fields[*column];
                match self.roots[*column].as_ref().and_then(|root| by_root.get(&root.start)) {
                    Some(array) => from_storage(array, field),
                    None => null_column(field, rows),
                }
            })
            .collect()
    }

    /// Decodes as many rows: all of the unit, or those in the ranges.
    fn decode(
        &self,
        unit: usize,
        rows: usize,
        leaves: &[usize],
        ranges: Option<&[Range<usize>]>,
        chunks: Vec<(u64, Bytes)>,
    ) -> Result<RecordBatch, ParquetError> {
        let source = ChunkSource { len: self.len, chunks };
        let mask = ProjectionMask::leaves(self.metadata.parquet_schema(), leaves.iter().copied());
        // Without the page index every page before the last row that is wanted must be there.
        let metadata = ranges.and_then(|_| self.paged()).unwrap_or(&self.metadata);
        let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(source, metadata.clone())
            .with_projection(mask)
            .with_row_groups(vec![unit])
            .with_batch_size(rows);
        if let Some(ranges) = ranges {
            let of = usize::try_from(metadata.metadata().row_group(unit).num_rows())?;
            let selection = RowSelection::from_consecutive_ranges(ranges.iter().cloned(), of);
            builder = builder.with_row_selection(selection).with_row_selection_policy(RowSelectionPolicy::Selectors);
        }
        let mut reader = builder.build()?;
        match (reader.next().transpose()?, reader.next()) {
            (Some(batch), None) if batch.num_rows() == rows => Ok(batch),
            _ => Err(ParquetError::General("it does not have the rows that the footer says".into())),
        }
    }

    /// Reads a column chunk, checked: those of its pages that have some of the rows, if it was read for its pages before,
    /// else all.
    fn read_chunk(
        &self,
        file: &dyn ReadFile,
        unit: usize,
        leaf: usize,
        ranges: Option<&[Range<usize>]>,
        chunks: &mut Vec<(u64, Bytes)>,
    ) -> Result<()> {
        let column = self.metadata.metadata().row_group(unit).column(leaf);
        let place = self.chunk(unit, leaf);
        let damaged = || {
            let name = column.column_path().string();
            Error::damaged(&self.path, format!("column \"{name}\", row group {unit}: it does not match its checksum"))
        };
        if let Some((ranges, parts)) = ranges.zip(self.parts[place].get()) {
            for run in parts.with_rows(ranges) {
                let range = parts::bytes_of(run);
                let bytes = self.read_bytes(file, &range)?;
                if !parts::are_intact(run, &bytes) {
                    return Err(damaged());
                }
                chunks.push((range.start, bytes));
            }
            return Ok(());
        }
        let range = chunk_range(column);
        let bytes = self.read_bytes(file, &range)?;
        if self.checksums.as_ref().is_some_and(|known| !known.fits_chunk(place, &bytes)) {
            return Err(damaged());
        }
        if ranges.is_some()
            && let Some(pages) = self.page_locations(unit, leaf)
            && let Some(parts) = Parts::of(pages, self.row_count(unit)?, range.start, &bytes)
        {
            // Another thread may have been faster, with the same.
            let _ = self.parts[place].set(parts);
        }
        chunks.push((range.start, bytes));
        Ok(())
    }

    fn read_bytes(&self, file: &dyn ReadFile, range: &Range<u64>) -> Result<Bytes> {
        let outside = || Error::damaged(&self.path, "its footer points outside the file");
        let len = range.end.checked_sub(range.start).filter(|_| range.end <= self.len);
        let len = len.and_then(|len| usize::try_from(len).ok()).ok_or_else(outside)?;
        read_range(file, range.start, len).map(Bytes::from).map_err(Error::io("read", &self.path))
    }
}

impl std::fmt::Debug for ParquetForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ParquetForm").field("path", &self.path).field("len", &self.len).finish_non_exhaustive()
    }
}

/// The same file, read into other Arrow types than those it would be read into by itself: text as views, which have no
/// limit of 2 GiB, enums by their dictionaries, and the 96-bit times of older writers as microseconds, whose range is that
/// of other times.
fn with_read_types(metadata: ArrowReaderMetadata, columns: &[Field]) -> Result<ArrowReaderMetadata, ParquetError> {
    let is_enum = |name: &str| {
        let mut named = columns.iter().filter(|column| column.name() == name);
        named.any(|column| matches!(column.data_type(), DataType::Enum(_)))
    };
    let mut leaves = metadata.parquet_schema().columns().iter().map(|column| column.physical_type());
    let fields: Vec<ArrowField> = metadata
        .schema()
        .fields()
        .iter()
        .map(|field| match field.data_type() {
            ArrowType::Utf8 if is_enum(field.name()) => {
                leaves.next();
                let names = ArrowType::Dictionary(Box::new(ArrowType::Int32), Box::new(ArrowType::Utf8));
                field.as_ref().clone().with_data_type(names)
            }
            _ => read_field(field, &mut leaves),
        })
        .collect();
    let options = reader_options().with_schema(Arc::new(ArrowSchema::new(fields)));
    ArrowReaderMetadata::try_new(Arc::clone(metadata.metadata()), options)
}

fn reader_options() -> ArrowReaderOptions {
    ArrowReaderOptions::new().with_skip_arrow_metadata(true)
}

/// A field as it is read; `leaves` are the physical types of the values in it and in those behind it.
fn read_field(field: &ArrowField, leaves: &mut dyn Iterator<Item = PhysicalType>) -> ArrowField {
    let mut inner = |inner: &FieldRef| Arc::new(read_field(inner, leaves));
    let data_type = match field.data_type() {
        ArrowType::List(element) => ArrowType::List(inner(element)),
        ArrowType::FixedSizeList(element, len) => ArrowType::FixedSizeList(inner(element), *len),
        ArrowType::Struct(fields) => ArrowType::Struct(fields.iter().map(inner).collect()),
        ArrowType::Map(entries, ordered) => ArrowType::Map(inner(entries), *ordered),
        value => match (value, leaves.next()) {
            (ArrowType::Utf8, _) => ArrowType::Utf8View,
            (ArrowType::Binary, _) => ArrowType::BinaryView,
            (ArrowType::Timestamp(TimeUnit::Nanosecond, zone), Some(PhysicalType::INT96)) => {
                ArrowType::Timestamp(TimeUnit::Microsecond, zone.clone())
            }
            (other, _) => other.clone(),
        },
    };
    field.clone().with_data_type(data_type)
}

fn find_root(path: &Path, metadata: &ArrowReaderMetadata, field: &Field) -> Result<Option<Range<usize>>> {
    let columns = metadata.parquet_schema().columns();
    let is_root = |part: Option<&String>| part.is_some_and(|name| name == field.name());
    let Some(start) = columns.iter().position(|column| is_root(column.path().parts().first())) else {
        return match field.is_nullable() {
            true => Ok(None),
            false => Err(Error::damaged(path, format!("it has no column \"{}\"", field.name()))),
        };
    };
    let len = columns[start..].iter().take_while(|column| is_root(column.path().parts().first())).count();
    Ok(Some(start..start + len))
}
