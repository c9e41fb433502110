//! The Arrow form of a segment: written once, mapped, used in place (format.md, section 3.1).

use std::collections::HashMap;
use std::io::{BufWriter, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, RecordBatch};
use arrow::buffer::Buffer;
use arrow::datatypes::{DataType as ArrowType, Schema as ArrowSchema, SchemaRef};
use arrow_ipc::reader::{RecordBatchDecoder, read_footer_length};
use arrow_ipc::writer::{FileWriter, IpcWriteOptions};
use arrow_ipc::{Block, MetadataVersion, RecordBatch as IpcBatch, root_as_footer, root_as_message};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

use super::checksum::column_checksum;
use super::encoding::{encoded, encoded_type};
use super::write::compact;
use super::zone_map::{Zone, ZoneMap};
use crate::convert::{null_column, remap_enums};
use crate::error::{Error, Result};
use crate::predicate::Bounds;
use crate::schema::{DataType, Field, arrow_field};
use crate::store::io::Backend;
use crate::store::stats::ColumnStats;
use crate::store::{FORMAT_VERSION, UNIT_ROWS, map};

const FORMAT_VERSION_KEY: &str = "soa.formatVersion";
const ROWS_KEY: &str = "soa.rows";
const ZONE_MAPS_KEY: &str = "soa.zoneMaps";
/// The end of an IPC file: the footer's length and the magic.
const TRAILER_LEN: usize = 10;
/// Buffers begin at multiples of a cache line, so that a mapping of them is aligned for every type.
const ALIGNMENT: usize = 64;
const WRITE_BUFFER_LEN: usize = 1 << 20;

/// Writes record batches of [`UNIT_ROWS`] rows (the last may have fewer) and their zone maps. Returns the statistics of
/// each column over all of them.
///
/// All dictionaries of one column must be the same.
pub(super) fn write(
    batches: &[RecordBatch],
    out: &mut dyn Write,
) -> Result<Vec<ColumnStats>, arrow::error::ArrowError> {
    let Some(declared) = batches.first().map(RecordBatch::schema) else { return Ok(Vec::new()) };
    let batches = encoded(batches)?;
    let first = &batches[0];
    let options = IpcWriteOptions::try_new(ALIGNMENT, false, MetadataVersion::V5)?;
    let buffered = BufWriter::with_capacity(WRITE_BUFFER_LEN, out);
    let mut writer = FileWriter::try_new_with_options(buffered, &first.schema(), options)?;
    let mut zones = Vec::with_capacity(batches.len() * first.num_columns());
    let mut totals = vec![ColumnStats::EMPTY; first.num_columns()];
    let mut rows = 0;
    for batch in &batches {
        let batch = compact(batch);
        writer.write(&batch)?;
        rows += batch.num_rows();
        for ((array, field), total) in batch.columns().iter().zip(declared.fields()).zip(&mut totals) {
            let checksum = column_checksum(array, field.data_type());
            let zone = Zone { stats: ColumnStats::of(array), checksum };
            *total = std::mem::replace(total, ColumnStats::EMPTY).merge(zone.stats.clone());
            zones.push(zone);
        }
    }
    let map = ZoneMap { columns: first.num_columns(), zones };
    writer.write_metadata(FORMAT_VERSION_KEY, FORMAT_VERSION.to_string());
    writer.write_metadata(ROWS_KEY, rows.to_string());
    writer.write_metadata(ZONE_MAPS_KEY, BASE64.encode(map.encode()));
    writer.finish()?;
    writer.flush()?;
    Ok(totals)
}

/// A mapped Arrow form.
pub(super) struct ArrowForm {
    path: PathBuf,
    mapping: Buffer,
    schema: SchemaRef,
    fields: Vec<Field>,
    version: MetadataVersion,
    dictionaries: HashMap<i64, ArrayRef>,
    blocks: Vec<BlockAt>,
    rows: u64,
    zones: ZoneMap,
    /// How many of the fields the file has. Those behind them the table has got since: they are all NULL.
    stored: usize,
    /// The arrays handed out so far, `[batch * columns + column]`: checked once, then shared.
    arrays: Vec<OnceLock<ArrayRef>>,
}

#[derive(Debug, Clone, Copy)]
struct BlockAt {
    offset: usize,
    metadata_len: usize,
    body_len: usize,
}

impl BlockAt {
    fn read(block: &Block, file_len: usize) -> Option<Self> {
        let this = Self {
            offset: usize::try_from(block.offset()).ok()?,
            metadata_len: usize::try_from(block.metaDataLength()).ok()?,
            body_len: usize::try_from(block.bodyLength()).ok()?,
        };
        let end = this.offset.checked_add(this.metadata_len)?.checked_add(this.body_len)?;
        // Four bytes of continuation marker and four of length come before the message.
        (end <= file_len && this.metadata_len >= 8).then_some(this)
    }

    fn len(self) -> usize {
        self.metadata_len + self.body_len
    }
}

impl ArrowForm {
    /// Maps a file of these columns and reads its footer. No row is touched.
    pub(super) fn open(backend: &dyn Backend, path: &Path, fields: &[Field]) -> Result<Self> {
        let file = backend.open(path).map_err(Error::io("open", path))?;
        let mapping = file.map().map_err(Error::io("map", path))?;
        guarded(|| Self::read_footer(path, mapping, fields)).map_err(|message| Error::damaged(path, message))
    }

    fn read_footer(path: &Path, mapping: Buffer, fields: &[Field]) -> Result<Self, String> {
        let text = |error: &dyn std::fmt::Display| format!("its footer cannot be read: {error}");
        let (rest, trailer) = mapping.split_last_chunk::<TRAILER_LEN>().ok_or("it is too short for an Arrow file")?;
        let footer_len = read_footer_length(*trailer).map_err(|error| text(&error))?;
        let footer_at = rest.len().checked_sub(footer_len).ok_or("its footer is longer than the file")?;
        let footer = root_as_footer(&rest[footer_at..]).map_err(|error| text(&error))?;

        let metadata: HashMap<&str, &str> =
            footer.custom_metadata().iter().flatten().filter_map(|pair| Some((pair.key()?, pair.value()?))).collect();
        match metadata.get(FORMAT_VERSION_KEY).and_then(|version| version.parse::<u32>().ok()) {
            Some(version) if version <= FORMAT_VERSION => {}
            _ => return Err("it is not an Arrow form of a version that this release knows".into()),
        }
        let rows: u64 =
            metadata.get(ROWS_KEY).and_then(|rows| rows.parse().ok()).ok_or("it does not say its row count")?;
        let encoded = metadata.get(ZONE_MAPS_KEY).and_then(|zones| BASE64.decode(zones).ok());
        let schema = footer.schema().ok_or("it has no schema")?;
        let schema = arrow_ipc::convert::fb_to_schema(schema);
        let stored = check_schema(&schema, fields)?;
        let types: Vec<_> = fields[..stored].iter().map(Field::data_type).collect();
        let zones = ZoneMap::decode(&encoded.ok_or("it has no zone maps")?, &types)?;
        let read = |block: &Block| BlockAt::read(block, footer_at).ok_or("its footer points outside the file");
        let blocks = footer.recordBatches().iter().flatten().map(read).collect::<Result<Vec<_>, _>>()?;
        if blocks.len() as u64 != rows.div_ceil(UNIT_ROWS as u64) || zones.zones.len() != blocks.len() * types.len() {
            return Err("its batches do not fit its row count".into());
        }

        let version = footer.version();
        let schema = Arc::new(schema);
        let mut dictionaries = HashMap::new();
        for block in footer.dictionaries().iter().flatten() {
            let at = read(block)?;
            read_dictionary(&mapping.slice_with_length(at.offset, at.len()), at, &schema, &version, &mut dictionaries)?;
        }
        let arrays = std::iter::repeat_with(OnceLock::new).take(blocks.len() * fields.len()).collect();
        Ok(Self {
            path: path.to_owned(),
            schema,
            fields: fields.to_vec(),
            version,
            dictionaries,
            blocks,
            rows,
            zones,
            stored,
            arrays,
            mapping,
        })
    }

    pub(super) fn rows(&self) -> u64 {
        self.rows
    }

    pub(super) fn bytes(&self) -> u64 {
        self.mapping.len() as u64
    }

    fn batch_rows(&self, batch: usize) -> u64 {
        (self.rows - (batch * UNIT_ROWS) as u64).min(UNIT_ROWS as u64)
    }

    /// What the zone map says of a column in a batch.
    pub(super) fn bounds(&self, batch: usize, column: usize) -> Bounds {
        let rows = self.batch_rows(batch);
        match column < self.stored {
            true => self.zones.get(batch, column).bounds(rows),
            false => Bounds::constant(rows, None),
        }
    }

    /// A column of a batch, in place and as it is encoded. The first time, its checksum and its values are checked.
    pub(super) fn column(&self, batch: usize, column: usize) -> Result<ArrayRef> {
        let slot = &self.arrays[batch * self.fields.len() + column];
        if let Some(array) = slot.get() {
            return Ok(Arc::clone(array));
        }
        let array = guarded(|| self.check_column(batch, column)).map_err(|message| {
            let name = self.fields[column].name();
            Error::damaged(&self.path, format!("column \"{name}\", batch {batch}: {message}"))
        })?;
        Ok(Arc::clone(slot.get_or_init(|| array)))
    }

    fn check_column(&self, batch: usize, column: usize) -> Result<ArrayRef, String> {
        let rows = self.batch_rows(batch);
        let field = &self.fields[column];
        if column >= self.stored {
            let rows = usize::try_from(rows).map_err(|error| error.to_string())?;
            return null_column(field, rows).map_err(|error| error.to_string());
        }
        let at = self.blocks[batch];
        // What is kept of a batch is not to count for the whole file.
        let block = map::part(&self.mapping, at.offset, at.len());
        let message = root_as_message(&block[8..at.metadata_len]).map_err(|error| error.to_string())?;
        let header = message.header_as_record_batch().ok_or("it is not a record batch")?;
        check_layout(&header, &self.schema, rows, at.body_len)?;
        let body = block.slice(at.metadata_len);
        // Validated by Arrow: views and keys in bounds, text UTF-8. A buffer that is not aligned is an error.
        let decoder =
            RecordBatchDecoder::try_new(&body, header, Arc::clone(&self.schema), &self.dictionaries, &self.version)
                .map_err(|error| error.to_string())?;
        let decoded = decoder
            .with_projection(Some(&[column]))
            .with_require_alignment(true)
            .read_record_batch()
            .map_err(|error| error.to_string())?;
        let array = Arc::clone(decoded.column(0));
        if column_checksum(&array, arrow_field(field).data_type()) != self.zones.get(batch, column).checksum {
            return Err("it does not match its checksum".into());
        }
        let nulls = array.logical_null_count();
        if nulls > array.null_count() && *field.data_type() == DataType::Utf8 {
            return Err("one of its texts is NULL".into());
        }
        if nulls > 0 && !field.is_nullable() {
            return Err("it holds NULL where there must be none".into());
        }
        remap_enums(&array, field).map_err(|error| error.to_string())
    }

    /// Checks every column of every batch, whether used before or not.
    pub(super) fn verify(&self) -> Result<()> {
        for batch in 0..self.blocks.len() {
            for (column, field) in self.fields[..self.stored].iter().enumerate() {
                let array = guarded(|| self.check_column(batch, column)).map_err(|message| {
                    Error::damaged(&self.path, format!("column \"{}\", batch {batch}: {message}", field.name()))
                })?;
                let stats = ColumnStats::of(&array);
                let zone = &self.zones.get(batch, column).stats;
                if stats.nulls != zone.nulls || stats.has_nan != zone.has_nan || !encloses(zone, &stats) {
                    let message =
                        format!("column \"{}\", batch {batch}: its zone map does not fit its values", field.name());
                    return Err(Error::damaged(&self.path, message));
                }
            }
        }
        Ok(())
    }
}

/// Runs what decodes bytes of a file. Arrow's decoder panics at some malformed schemas and messages; here that is
/// damage like any other.
fn guarded<T>(decode: impl FnOnce() -> Result<T, String>) -> Result<T, String> {
    catch_unwind(AssertUnwindSafe(decode)).unwrap_or_else(|_| Err("it is not of the form of an Arrow file".into()))
}

/// Whether bounds that may be rounded outwards enclose exact ones.
pub(super) fn encloses(outer: &ColumnStats, exact: &ColumnStats) -> bool {
    let below = match (&outer.min, &exact.min) {
        (Some(outer), Some(exact)) => outer.compare(exact).is_some_and(|order| order.is_le()),
        (None, _) => true,
        (Some(_), None) => false,
    };
    let above = match (&outer.max, &exact.max) {
        (Some(outer), Some(exact)) => outer.compare(exact).is_some_and(|order| order.is_ge()),
        (None, _) => true,
        (Some(_), None) => false,
    };
    below && above
}

impl std::fmt::Debug for ArrowForm {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ArrowForm").field("path", &self.path).field("rows", &self.rows).finish_non_exhaustive()
    }
}

/// Makes sure that the file has the table's columns: all, or all but the last ones, which may be NULL and were added since.
/// (Another column in the place of one that may be NULL is damage, not one that is missing.) Gives how many it has; the zone
/// maps, which have a checksum, must be of as many.
fn check_schema(schema: &ArrowSchema, fields: &[Field]) -> Result<usize, String> {
    let stored = schema.fields().len();
    if stored > fields.len() || !fields[stored..].iter().all(Field::is_nullable) {
        return Err("it has other columns than the table".into());
    }
    for (found, field) in schema.fields().iter().zip(fields) {
        let expected = arrow_field(field);
        let is_encoded = || encoded_type(expected.data_type()).as_ref() == Some(found.data_type());
        if found.name() != expected.name() || (found.data_type() != expected.data_type() && !is_encoded()) {
            return Err(format!("its column \"{}\" is not the table's column \"{}\"", found.name(), field.name()));
        }
    }
    Ok(stored)
}

/// Refuses a record batch whose buffers are not what its schema says, before Arrow relies on them.
fn check_layout(batch: &IpcBatch<'_>, schema: &ArrowSchema, rows: u64, body_len: usize) -> Result<(), String> {
    let nodes = batch.nodes().ok_or("it has no columns")?;
    let buffers = batch.buffers().ok_or("it has no buffers")?;
    let variadic: Vec<i64> = batch.variadicBufferCounts().iter().flatten().collect();
    let mut layout = Layout::default();
    for field in schema.fields() {
        let node = (layout.nodes < nodes.len()).then(|| nodes.get(layout.nodes));
        if node.is_none_or(|node| u64::try_from(node.length()) != Ok(rows)) {
            return Err("its columns are not of the length they should be".into());
        }
        layout.add(field.data_type());
    }
    let extra: Option<usize> = variadic.iter().map(|count| usize::try_from(*count).ok()).sum();
    let buffer_count = extra.and_then(|extra| layout.buffers.checked_add(extra));
    if nodes.len() != layout.nodes || variadic.len() != layout.views || buffer_count != Some(buffers.len()) {
        return Err("it has another number of buffers than it should have".into());
    }
    for buffer in buffers {
        let end = u64::try_from(buffer.offset()).ok().zip(u64::try_from(buffer.length()).ok());
        if end.and_then(|(offset, len)| offset.checked_add(len)).is_none_or(|end| end > body_len as u64) {
            return Err("a buffer is outside the batch".into());
        }
    }
    if batch.compression().is_some() {
        return Err("it is compressed, which an Arrow form never is".into());
    }
    Ok(())
}

/// What the message of a record batch describes.
#[derive(Debug, Default)]
struct Layout {
    /// Arrays, those inside others among them.
    nodes: usize,
    /// Buffers, without those of bytes that views refer to.
    buffers: usize,
    /// Arrays of views.
    views: usize,
}

impl Layout {
    fn add(&mut self, data_type: &ArrowType) {
        self.nodes += 1;
        self.buffers += 2;
        match data_type {
            ArrowType::Utf8View | ArrowType::BinaryView => self.views += 1,
            ArrowType::List(child) | ArrowType::Map(child, _) => self.add(child.data_type()),
            ArrowType::FixedSizeList(child, _) => {
                self.buffers -= 1;
                self.add(child.data_type());
            }
            ArrowType::Struct(fields) => {
                self.buffers -= 1;
                fields.iter().for_each(|field| self.add(field.data_type()));
            }
            _ => {}
        }
    }
}

/// Reads the dictionary of an enum column or of a text column. The names of an enum are matched to the table's when rows are
/// read, so that damage to it shows as a name that the table does not know; texts are among what the checksum is of.
fn read_dictionary(
    block: &Buffer,
    at: BlockAt,
    schema: &ArrowSchema,
    version: &MetadataVersion,
    dictionaries: &mut HashMap<i64, ArrayRef>,
) -> Result<(), String> {
    let message = root_as_message(&block[8..at.metadata_len]).map_err(|error| error.to_string())?;
    let header = message.header_as_dictionary_batch().ok_or("it lists a dictionary that is none")?;
    let data = header.data().ok_or("a dictionary has no values")?;
    // Text: one column of validity, offsets and bytes.
    let buffers = data.buffers().ok_or("a dictionary has no buffers")?;
    let one_node = data.nodes().is_some_and(|nodes| nodes.len() == 1);
    let inside = |buffer: &arrow_ipc::Buffer| {
        let parts = u64::try_from(buffer.offset()).ok().zip(u64::try_from(buffer.length()).ok());
        parts.and_then(|(offset, len)| offset.checked_add(len)).is_some_and(|end| end <= at.body_len as u64)
    };
    if !one_node || buffers.len() != 3 || !buffers.iter().all(inside) || data.compression().is_some() {
        return Err("a dictionary is not one of names".into());
    }
    arrow_ipc::reader::read_dictionary(&block.slice(at.metadata_len), header, schema, dictionaries, version)
        .map_err(|error| format!("a dictionary cannot be read: {error}"))
}
