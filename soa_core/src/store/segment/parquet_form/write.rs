//! Writing a Parquet file: column chunks are encoded by all cores, and written in order.

use std::io::{self, Write};
use std::num::NonZero;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;

use arrow::array::{ArrayRef, RecordBatch};
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};
use parquet::arrow::ArrowSchemaConverter;
use parquet::arrow::arrow_writer::{ArrowColumnChunk, ArrowColumnWriter, ArrowRowGroupWriterFactory, compute_leaves};
use parquet::basic::{Compression as Codec, Encoding, ZstdLevel};
use parquet::errors::ParquetError;
use parquet::file::metadata::{KeyValue, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties, WriterPropertiesBuilder};
use parquet::file::writer::SerializedFileWriter;
use parquet::schema::types::{SchemaDescriptor, TypePtr};

use super::checksums::{self, BLOOM_CHECKSUMS_KEY, Checksums, bloom_range, chunk_range};
use super::encoding::ColumnEncoding;
use crate::convert::{leaves_of, storage_field, to_storage};
use crate::predicate::Scalar;
use crate::schema::{Field, Schema};
use crate::store::stats::ColumnStats;
use crate::store::{Compression, UNIT_ROWS};

/// As small as at zstd's own default, 3, but for text, and faster to write.
const ZSTD_LEVEL: i32 = 1;
const ZSTD_LEVEL_OF_TEXT: i32 = 3;
/// How often a Bloom filter of a unit says that a key may be there that is not, at most: it then has a byte for each key.
const BLOOM_FALSE_POSITIVES: f64 = 0.02;
/// A page's rows: a sixth of a unit.
pub(super) const PAGE_ROWS: usize = UNIT_ROWS / 6;
/// Another thread is worth its start when it has so many values to encode.
const VALUES_PER_THREAD_MIN: usize = 1 << 16;
/// Encoded column chunks that may wait for their turn to be written, for each thread that encodes.
const CHUNKS_AHEAD: usize = 4;

/// What the log says of a Parquet file.
#[derive(Debug)]
pub(in crate::store::segment) struct Encoded {
    /// The file's length.
    pub(in crate::store::segment) bytes: u64,
    pub(in crate::store::segment) checksums: Checksums,
}

/// Writes record batches, a row group each. `fields` are their columns; partition columns are not among them.
///
/// Equal rows make equal bytes, however many threads encode them.
pub(in crate::store::segment) fn write(
    batches: &[RecordBatch],
    schema: &Schema,
    fields: &[Field],
    compression: Compression,
    out: &mut dyn Write,
) -> io::Result<Encoded> {
    let values = batches.iter().map(RecordBatch::num_rows).sum::<usize>() * fields.len();
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    let threads = cores.min(values.div_ceil(VALUES_PER_THREAD_MIN)).max(1);
    write_by(threads, batches, schema, fields, compression, out)
}

/// Writes them with so many threads that encode.
fn write_by(
    threads: usize,
    batches: &[RecordBatch],
    schema: &Schema,
    fields: &[Field],
    compression: Compression,
    out: &mut dyn Write,
) -> io::Result<Encoded> {
    let key = schema.key().map(|key| schema.field(key).name());
    let columns = fields.iter().map(|field| Column::new(field, key == Some(field.name()), compression));
    let columns = columns.collect::<Result<Vec<_>, _>>()?;
    let writer = FileWriter::new(&columns, sorting(schema, &columns))?;
    let tasks = batches.len() * columns.len();
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        let (sender, chunks) = sync_channel(threads * CHUNKS_AHEAD);
        for _ in 0..threads {
            let (sender, next, columns) = (sender.clone(), &next, &columns);
            scope.spawn(move || encode_chunks(batches, columns, tasks, next, &sender));
        }
        drop(sender);
        writer.write(batches.len(), columns.len(), chunks, out)
    })
}

/// The column chunks of a column, one for each kind of value inside it, and their place in the file.
type Chunk = (usize, Result<Vec<ArrowColumnChunk>, ParquetError>);

/// Encodes column chunks, each the next that no other thread has begun, until there are no more or nobody wants them.
fn encode_chunks(
    batches: &[RecordBatch],
    columns: &[Column<'_>],
    tasks: usize,
    next: &AtomicUsize,
    sender: &SyncSender<Chunk>,
) {
    loop {
        let task = next.fetch_add(1, Ordering::Relaxed);
        if task >= tasks {
            return;
        }
        let (batch, column) = (task / columns.len(), task % columns.len());
        let chunk = columns[column].encode(batches[batch].column(column));
        if sender.send((task, chunk)).is_err() {
            return;
        }
    }
}

/// A column of the file, and a file of this column alone, which Parquet's encoders ask for.
struct Column<'a> {
    field: &'a Field,
    is_key: bool,
    compression: Compression,
    schema: SchemaRef,
    parquet_schema: TypePtr,
}

impl<'a> Column<'a> {
    fn new(field: &'a Field, is_key: bool, compression: Compression) -> Result<Self, ParquetError> {
        let schema = Arc::new(ArrowSchema::new(vec![storage_field(field)]));
        let parquet_schema = ArrowSchemaConverter::new().convert(&schema)?.root_schema_ptr();
        Ok(Self { field, is_key, compression, schema, parquet_schema })
    }

    fn leaf_count(&self) -> usize {
        SchemaDescriptor::new(Arc::clone(&self.parquet_schema)).num_columns()
    }

    fn encode(&self, array: &ArrayRef) -> Result<Vec<ArrowColumnChunk>, ParquetError> {
        let array = to_storage(array, self.field)?;
        let properties = Arc::new(self.properties(&array)?.build());
        let file = SerializedFileWriter::new(io::sink(), Arc::clone(&self.parquet_schema), properties)?;
        let mut writers = ArrowRowGroupWriterFactory::new(&file, Arc::clone(&self.schema)).create_column_writers(0)?;
        let leaves = compute_leaves(self.schema.field(0), &array)?;
        if leaves.len() != writers.len() {
            return Err(ParquetError::General("a column has another number of writers than of values".into()));
        }
        for (writer, leaf) in writers.iter_mut().zip(&leaves) {
            writer.write(leaf)?;
        }
        writers.into_iter().map(ArrowColumnWriter::close).collect()
    }

    /// What the values ask for.
    fn properties(&self, array: &ArrayRef) -> Result<WriterPropertiesBuilder, ParquetError> {
        let mut properties =
            properties().set_statistics_enabled(EnabledStatistics::Page).set_data_page_row_count_limit(PAGE_ROWS);
        let leaves = SchemaDescriptor::new(Arc::clone(&self.parquet_schema));
        for (leaf, array) in leaves.columns().iter().zip(leaves_of(array)) {
            let (dictionary, encoding) = ColumnEncoding::of(&array).parquet(array.data_type());
            let codec = match (self.compression, encoding) {
                (Compression::Zstd, Encoding::DELTA_LENGTH_BYTE_ARRAY) => zstd(ZSTD_LEVEL_OF_TEXT)?,
                (Compression::Zstd, _) => zstd(ZSTD_LEVEL)?,
                (Compression::Lz4, _) => Codec::LZ4_RAW,
                (Compression::Snappy, _) => Codec::SNAPPY,
                (Compression::Uncompressed, _) => Codec::UNCOMPRESSED,
            };
            properties = properties
                .set_column_compression(leaf.path().clone(), codec)
                .set_column_dictionary_enabled(leaf.path().clone(), dictionary)
                .set_column_encoding(leaf.path().clone(), encoding);
        }
        if !self.is_key || is_a_whole_range(array) {
            return Ok(properties);
        }
        let keys = array.len() as u64;
        Ok(properties
            .set_bloom_filter_enabled(true)
            .set_bloom_filter_max_ndv(keys)
            .set_bloom_filter_fpp(BLOOM_FALSE_POSITIVES))
    }
}

fn zstd(level: i32) -> Result<Codec, ParquetError> {
    Ok(Codec::ZSTD(ZstdLevel::try_new(level)?))
}

/// Whether the keys, each of which occurs once, are all the integers from the smallest to the greatest one. Then their
/// bounds tell as much as a Bloom filter.
fn is_a_whole_range(keys: &ArrayRef) -> bool {
    let stats = ColumnStats::of(keys);
    match (stats.min, stats.max) {
        (Some(Scalar::Int(min)), Some(Scalar::Int(max))) => max.checked_sub(min) == Some(keys.len() as i128 - 1),
        _ => false,
    }
}

fn properties() -> WriterPropertiesBuilder {
    WriterProperties::builder().set_created_by(concat!("soa_core version ", env!("CARGO_PKG_VERSION")).to_owned())
}

/// The columns by which the rows are sorted, as far as they are in the file.
fn sorting(schema: &Schema, columns: &[Column<'_>]) -> Vec<SortingColumn> {
    let position = |column: &usize| {
        let place = columns.iter().position(|found| found.field.name() == schema.field(*column).name())?;
        // Parquet counts the kinds of values, of which nested columns may have several.
        Some(columns[..place].iter().map(Column::leaf_count).sum::<usize>())
    };
    schema
        .sort_by()
        .iter()
        .map_while(position)
        .filter_map(|column| i32::try_from(column).ok())
        .map(|column_idx| SortingColumn { column_idx, descending: false, nulls_first: false })
        .collect()
}

/// The file as it grows: what is in `parquet` is not written yet.
struct FileWriter {
    parquet: SerializedFileWriter<Vec<u8>>,
    written: u64,
    checksums: Vec<u32>,
    bloom_checksums: Vec<u32>,
    /// Of the bytes that were written since the last column chunk.
    tail_checksum: u32,
}

impl FileWriter {
    fn new(columns: &[Column<'_>], sorting: Vec<SortingColumn>) -> Result<Self, ParquetError> {
        let fields: Vec<_> = columns.iter().map(|column| Arc::clone(&column.schema.fields()[0])).collect();
        let schema = ArrowSchemaConverter::new().convert(&ArrowSchema::new(fields))?;
        let properties = properties().set_sorting_columns((!sorting.is_empty()).then_some(sorting)).build();
        let parquet = SerializedFileWriter::new(Vec::new(), schema.root_schema_ptr(), Arc::new(properties))?;
        Ok(Self { parquet, written: 0, checksums: Vec::new(), bloom_checksums: Vec::new(), tail_checksum: 0 })
    }

    /// Writes the chunks as they come, in order, and the footer.
    fn write(
        mut self,
        groups: usize,
        columns: usize,
        chunks: Receiver<Chunk>,
        out: &mut dyn Write,
    ) -> io::Result<Encoded> {
        let mut early: Vec<Option<Vec<ArrowColumnChunk>>> = Vec::new();
        early.resize_with(groups * columns, || None);
        for group in 0..groups {
            let mut row_group = self.parquet.next_row_group()?;
            for place in group * columns..(group + 1) * columns {
                while early[place].is_none() {
                    let gone = || ParquetError::General("a column was not encoded".into());
                    let (found, chunk) = chunks.recv().map_err(|_| gone())?;
                    early[found] = Some(chunk?);
                }
                for chunk in early[place].take().into_iter().flatten() {
                    chunk.append_to_row_group(&mut row_group)?;
                }
            }
            row_group.close()?;
            self.drain(out)?;
        }
        if !self.bloom_checksums.is_empty() {
            let text = checksums::encode(&self.bloom_checksums);
            self.parquet.append_key_value_metadata(KeyValue::new(BLOOM_CHECKSUMS_KEY.to_owned(), text));
        }
        self.parquet.finish()?;
        let footer = std::mem::take(self.parquet.inner_mut());
        out.write_all(&footer)?;
        Ok(Encoded {
            bytes: self.written + footer.len() as u64,
            checksums: Checksums::new(crc32c::crc32c_append(self.tail_checksum, &footer), self.checksums),
        })
    }

    /// Writes the row group that was just closed.
    fn drain(&mut self, out: &mut dyn Write) -> io::Result<()> {
        self.parquet.flush()?;
        let start = self.written;
        let content = std::mem::take(self.parquet.inner_mut());
        let part = |range: &Range<u64>| {
            let at = |offset: u64| usize::try_from(offset.checked_sub(start)?).ok();
            content.get(at(range.start)?..at(range.end)?)
        };
        let outside = || io::Error::other("a part of a row group is not where it was written");
        let mut end = start;
        for chunk in self.parquet.flushed_row_groups().last().into_iter().flat_map(|group| group.columns()) {
            let range = chunk_range(chunk);
            self.checksums.push(crc32c::crc32c(part(&range).ok_or_else(outside)?));
            end = end.max(range.end);
            if let Some(filter) = bloom_range(chunk) {
                self.bloom_checksums.push(crc32c::crc32c(part(&filter).ok_or_else(outside)?));
            }
        }
        self.written += content.len() as u64;
        self.tail_checksum = crc32c::crc32c(part(&(end..self.written)).ok_or_else(outside)?);
        out.write_all(&content)
    }
}

#[cfg(test)]
mod tests {
    use parquet::file::reader::{FileReader, SerializedFileReader};

    use super::super::tests::{batches, columns};
    use super::*;

    fn written(threads: usize) -> (Vec<u8>, Encoded) {
        let schema = Schema::new(columns()).unwrap().with_sort_by(&["ascending", "text"]).unwrap();
        let mut out = Vec::new();
        let encoded = write_by(threads, &batches(), &schema, &columns(), Compression::Zstd, &mut out).unwrap();
        (out, encoded)
    }

    #[test]
    fn equal_rows_make_equal_bytes_whoever_encodes_them() {
        let (alone, first) = written(1);
        for threads in [2, 5] {
            let (together, encoded) = written(threads);
            assert!(alone == together, "{threads} threads");
            assert_eq!(encoded.checksums, first.checksums);
        }
    }

    #[test]
    fn every_byte_after_the_magic_has_a_checksum() {
        let (content, encoded) = written(2);
        assert_eq!(encoded.bytes, content.len() as u64);
        let reader = SerializedFileReader::new(bytes::Bytes::from(content.clone())).unwrap();
        let groups = reader.metadata().row_groups();
        let mut at = 4;
        let mut chunks = Vec::new();
        for range in groups.iter().flat_map(|group| group.columns()).map(chunk_range) {
            assert_eq!(range.start, at, "the chunks follow each other");
            at = range.end;
            chunks.push(crc32c::crc32c(&content[range.start as usize..range.end as usize]));
        }
        assert_eq!(chunks.len(), batches().len() * columns().len());
        assert_eq!(encoded.checksums, Checksums::new(crc32c::crc32c(&content[at as usize..]), chunks));
    }

    #[test]
    fn sorting_and_page_indexes_are_in_the_footer() {
        let options = parquet::file::serialized_reader::ReadOptionsBuilder::new().with_page_index().build();
        let reader = SerializedFileReader::new_with_options(bytes::Bytes::from(written(2).0), options).unwrap();
        let metadata = reader.metadata();
        for (index, group) in metadata.row_groups().iter().enumerate() {
            let sorted = group.sorting_columns().unwrap();
            let names = sorted.iter().map(|by| group.column(by.column_idx as usize).column_path().string());
            assert_eq!(names.collect::<Vec<_>>(), ["ascending", "text"]);
            assert!(sorted.iter().all(|by| !by.descending && !by.nulls_first));
            let pages = metadata.offset_index().unwrap()[index][0].page_locations();
            let starts: Vec<i64> = pages.iter().map(|page| page.first_row_index).collect();
            let expected: Vec<i64> = (0..group.num_rows()).step_by(PAGE_ROWS).collect();
            assert_eq!(starts, expected);
        }
    }
}
