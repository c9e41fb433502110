//! The Parquet form of a segment: what every engine reads (format.md, section 3).

use std::collections::HashMap;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Schema as ArrowSchema, TimeUnit};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use bytes::Bytes;
use parquet::arrow::ArrowWriter;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, ParquetRecordBatchReaderBuilder};
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::basic::{Compression, Type as PhysicalType, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{ParquetMetaData, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::reader::{ChunkReader, Length};

use crate::convert::{from_storage, storage_type, to_storage};
use crate::error::{Error, Result};
use crate::schema::{Field, Schema};
use crate::store::UNIT_ROWS;
use crate::store::io::{Backend, ReadFile, read_range};

/// zstd's own default, a good trade of time for size.
const ZSTD_LEVEL: i32 = 3;
/// A row group is read whole; a footer that promises more is not believed.
const ROW_GROUP_ROWS_MAX: i64 = 1 << 27;
/// The footer's length and the magic.
const TRAILER_LEN: usize = 8;

/// A Parquet file in memory, with the checksums that go into the log.
pub(super) struct Encoded {
    pub(super) content: Vec<u8>,
    pub(super) checksums: Checksums,
}

/// Encodes record batches, a row group each. `fields` are their columns; partition columns are not among them.
pub(super) fn encode(batches: &[RecordBatch], schema: &Schema, fields: &[Field]) -> Result<Encoded, ParquetError> {
    let arrow_fields: Vec<ArrowField> = fields
        .iter()
        .map(|field| ArrowField::new(field.name(), storage_type(field.data_type()), field.is_nullable()))
        .collect();
    let arrow_schema = Arc::new(ArrowSchema::new(arrow_fields));
    let level = ZstdLevel::try_new(ZSTD_LEVEL)?;
    let position = |column: &usize| fields.iter().position(|field| field.name() == schema.field(*column).name());
    let sorting: Vec<SortingColumn> = schema
        .sort_by()
        .iter()
        .map_while(position)
        .filter_map(|column| i32::try_from(column).ok())
        .map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: false })
        .collect();
    let properties = WriterProperties::builder()
        .set_compression(Compression::ZSTD(level))
        .set_max_row_group_row_count(Some(UNIT_ROWS))
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_sorting_columns((!sorting.is_empty()).then_some(sorting))
        .set_created_by(concat!("soa_core version ", env!("CARGO_PKG_VERSION")).to_owned())
        .build();
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut content = Vec::new();
    let mut writer = ArrowWriter::try_new_with_options(&mut content, Arc::clone(&arrow_schema), options)?;
    for batch in batches {
        let columns = batch.columns().iter().zip(fields).map(|(array, field)| to_storage(array, field.data_type()));
        let columns = columns.collect::<Result<Vec<_>, _>>()?;
        writer.write(&RecordBatch::try_new(Arc::clone(&arrow_schema), columns)?)?;
        writer.flush()?;
    }
    let metadata = writer.close()?;
    let checksums = Checksums::of(&content, &metadata);
    Ok(Encoded { content, checksums })
}

/// CRC-32C of a file's footer and of each of its column chunks.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Checksums(Vec<u32>);

impl Checksums {
    fn of(content: &[u8], metadata: &ParquetMetaData) -> Self {
        let chunks = chunk_ranges(metadata);
        let footer_at = chunks.iter().map(|range| range.end).max().unwrap_or(0);
        let mut checksums = vec![crc32c::crc32c(slice(content, footer_at..content.len() as u64))];
        checksums.extend(chunks.into_iter().map(|range| crc32c::crc32c(slice(content, range))));
        Self(checksums)
    }

    /// As the `soa.crc32c` tag of an `add`.
    pub(super) fn to_tag(&self) -> String {
        BASE64.encode(self.0.iter().flat_map(|crc| crc.to_le_bytes()).collect::<Vec<u8>>())
    }

    pub(super) fn from_tag(tag: &str) -> Option<Self> {
        let bytes = BASE64.decode(tag).ok()?;
        let (words, rest) = bytes.as_chunks::<4>();
        (rest.is_empty() && !words.is_empty())
            .then(|| Self(words.iter().map(|word| u32::from_le_bytes(*word)).collect()))
    }
}

fn slice(content: &[u8], range: Range<u64>) -> &[u8] {
    // The file is in memory, so its offsets fit.
    usize::try_from(range.start)
        .ok()
        .zip(usize::try_from(range.end).ok())
        .and_then(|(start, end)| content.get(start..end))
        .unwrap_or_default()
}

/// Where each column chunk is, row group by row group.
fn chunk_ranges(metadata: &ParquetMetaData) -> Vec<Range<u64>> {
    let chunks = metadata.row_groups().iter().flat_map(|group| group.columns());
    chunks
        .map(|chunk| {
            let (start, len) = chunk.byte_range();
            start..start.saturating_add(len)
        })
        .collect()
}

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
        if let Some(Checksums(known)) = &checksums {
            let footer_at = chunks.iter().map(|range| range.end).max().unwrap_or(0);
            let footer = len.checked_sub(footer_at).and_then(|len| usize::try_from(len).ok());
            let footer = footer.ok_or_else(|| Error::damaged(path, "its footer points outside the file"))?;
            let bytes = read_range(&*file, footer_at, footer).map_err(Error::io("read", path))?;
            if known.len() != chunks.len() + 1 || known[0] != crc32c::crc32c(&bytes) {
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
        if let Some(Checksums(known)) = &self.checksums
            && known.get(1 + unit * columns + leaf) != Some(&crc32c::crc32c(&bytes))
        {
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

/// The end of a file, for the Parquet reader to find the footer in.
struct FooterSource {
    len: u64,
    start: u64,
    bytes: Bytes,
}

impl FooterSource {
    fn read(file: &dyn ReadFile, len: u64) -> io::Result<Self> {
        let invalid = |message: &str| io::Error::new(io::ErrorKind::InvalidData, message.to_owned());
        let trailer_at =
            len.checked_sub(TRAILER_LEN as u64).ok_or_else(|| invalid("it is too short for a Parquet file"))?;
        let trailer = read_range(file, trailer_at, TRAILER_LEN)?;
        let footer = u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]);
        let start =
            trailer_at.checked_sub(footer.into()).ok_or_else(|| invalid("its footer is longer than the file"))?;
        if &trailer[4..] != b"PAR1" {
            return Err(invalid("it does not end as a Parquet file"));
        }
        let bytes = read_range(file, start, footer as usize + TRAILER_LEN)?.into();
        Ok(Self { len, start, bytes })
    }
}

/// Some column chunks of a file, for the Parquet reader to find its pages in.
struct ChunkSource {
    len: u64,
    chunks: Vec<(u64, Bytes)>,
}

fn find(chunks: &[(u64, Bytes)], at: u64) -> Result<Bytes, ParquetError> {
    chunks
        .iter()
        .find_map(|(start, bytes)| {
            let offset = usize::try_from(at.checked_sub(*start)?).ok()?;
            (offset < bytes.len()).then(|| bytes.slice(offset..))
        })
        .ok_or_else(|| ParquetError::EOF(format!("nothing was read at byte {at}")))
}

fn first(bytes: Bytes, len: usize) -> Result<Bytes, ParquetError> {
    if len > bytes.len() {
        return Err(ParquetError::EOF(format!("{len} bytes were wanted, {} are there", bytes.len())));
    }
    Ok(bytes.slice(..len))
}

impl Length for FooterSource {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for FooterSource {
    type T = io::Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        find(&[(self.start, self.bytes.clone())], start).map(io::Cursor::new)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        first(find(&[(self.start, self.bytes.clone())], start)?, length)
    }
}

impl Length for ChunkSource {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for ChunkSource {
    type T = io::Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        find(&self.chunks, start).map(io::Cursor::new)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        first(find(&self.chunks, start)?, length)
    }
}
