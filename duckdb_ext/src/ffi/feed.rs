//! Arrow arrays as DuckDB's vectors, without copying their values, through the importer of the C API; and DuckDB's rows as
//! arrays, through its exporter.
//!
//! What comes of that and writing into a vector cannot give: enum columns become dictionary vectors, whose few entries DuckDB
//! groups and compares instead of every row.

use std::sync::Arc;
use std::{mem, ptr};

use arrow::array::{Array, ArrayRef, RecordBatch, StructArray};
use arrow::datatypes::{Field, Schema};
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema, from_ffi};
use duckdb_neo::arrow::ArrowExporter;
use duckdb_neo::column_data_collection::ColumnDataCollection;
use duckdb_neo::connection::Context;
use duckdb_neo::data_chunk::DataChunkRef;
use duckdb_neo::logical_type::LogicalType;
use duckdb_neo::{AsRaw, ffi};

use super::{CHUNK_ROWS, OutputVector, check};
use crate::error::{Result, invalid};

/// The rows of an Arrow array, chunk by chunk.
#[derive(Debug)]
pub(crate) struct ArrowFeed {
    importer: ffi::duckdb_v2_arrow_importer_handle,
}

// SAFETY: an importer has no thread of its own; what must not happen is that two use it at once, and all its methods
// take `&mut self`. It refers to the client's context, which outlives the scan states that hold feeds.
unsafe impl Send for ArrowFeed {}

impl ArrowFeed {
    /// A feed of the rows of `array`, from the first to the last.
    pub(crate) fn new(context: &Context, array: &ArrayRef) -> Result<Self> {
        let refused = |error| invalid(format!("a column cannot be handed over: {error}"));
        let field = Arc::new(Field::new("column", array.data_type().clone(), true));
        let mut schema = FFI_ArrowSchema::try_from(&Schema::new([Arc::clone(&field)])).map_err(refused)?;
        let rows = StructArray::try_new([field].into(), vec![Arc::clone(array)], None).map_err(refused)?;
        let mut rows = FFI_ArrowArray::new(&rows.to_data());
        // SAFETY: the handle is used only while `context` is borrowed, and is not destroyed.
        let context = unsafe { context.get_raw() };
        let mut importer = ptr::null_mut();
        let schema = ptr::from_mut(&mut schema).cast();
        // SAFETY: both structs are the C data interface's; the call reads `schema` and leaves it to its owner, and
        // writes the importer's place.
        check(|error| unsafe {
            ffi::duckdb_v2_arrow_importer_create(context, schema, CHUNK_ROWS as u64, &mut importer, error)
        })?;
        let feed = Self { importer };
        let rows = ptr::from_mut(&mut rows).cast();
        // SAFETY: the importer was made just now for this schema. On success it takes the array's content and marks
        // the struct as released, otherwise the struct keeps it: either way its destructor does what is left to do.
        check(|error| unsafe { ffi::duckdb_v2_arrow_importer_append(importer, rows, true, true, error) })?;
        Ok(feed)
    }

    /// Makes `vector` refer to the next rows, as many as it is to hold, which must be
    /// [`CHUNK_ROWS`] or all that are left. It keeps the array's memory alive.
    pub(crate) fn write_next(&mut self, vector: &mut OutputVector<'_>) -> Result<()> {
        let mut chunk = ptr::null_mut();
        // SAFETY: the importer lives as long as `self`, and the result is a place of the type asked for.
        check(|error| unsafe { ffi::duckdb_v2_arrow_importer_next_chunk(self.importer, &mut chunk, error) })?;
        if chunk.is_null() {
            return Err(invalid("a column ended before its unit"));
        }
        let referenced = reference_first(chunk, vector);
        // SAFETY: the chunk was handed over by the call above and is not used afterwards; the vector has its own
        // reference to the chunk's buffers.
        unsafe { ffi::duckdb_v2_data_chunk_destroy(&mut chunk) };
        referenced
    }
}

/// DuckDB's rows as record batches, whose memory is Arrow's. Which types they have follows from the session's settings. `look`
/// sees the rows before.
///
/// # Errors
///
/// When DuckDB cannot make arrays of a column, and those of `look`.
pub(crate) fn arrow_batches(
    context: &Context,
    columns: &[(&str, LogicalType)],
    rows: &ColumnDataCollection<'_>,
    look: impl Fn(&DataChunkRef<'_>) -> Result<()>,
) -> Result<Vec<RecordBatch>> {
    let refused = |error| invalid(format!("DuckDB's rows are no record batch: {error}"));
    let mut exporter = ArrowExporter::new(context, columns, None)?;
    // SAFETY: both are the C data interface's struct (see the assertions below), which moves from one owner to the other.
    let schema: FFI_ArrowSchema = unsafe { mem::transmute(exporter.schema()?.into_raw()) };
    let mut chunks = rows.to_scan(context)?;
    while let Some(chunk) = chunks.next_chunk()? {
        look(&chunk)?;
        exporter.append(&chunk, false)?;
    }
    exporter.flush()?;
    let mut batches = Vec::new();
    while let Some(array) = exporter.next_array()? {
        // SAFETY: as above.
        let array: FFI_ArrowArray = unsafe { mem::transmute(array.into_raw()) };
        // SAFETY: the exporter has just made the array for this schema, as the C data interface wants it.
        let rows = unsafe { from_ffi(array, &schema) }.map_err(refused)?;
        // What others made is looked at before it is used: lengths and offsets.
        rows.validate().map_err(refused)?;
        batches.push(RecordBatch::from(StructArray::from(rows)));
    }
    Ok(batches)
}

const _: () = assert!(size_of::<FFI_ArrowArray>() == size_of::<ffi::ArrowArray>());
const _: () = assert!(align_of::<FFI_ArrowArray>() == align_of::<ffi::ArrowArray>());
const _: () = assert!(size_of::<FFI_ArrowSchema>() == size_of::<ffi::ArrowSchema>());
const _: () = assert!(align_of::<FFI_ArrowSchema>() == align_of::<ffi::ArrowSchema>());

/// Lets `vector` refer to the first column of `chunk`.
fn reference_first(chunk: ffi::duckdb_v2_data_chunk_handle, vector: &mut OutputVector<'_>) -> Result<()> {
    let mut source = ptr::null_mut();
    // SAFETY: the chunk is live, and the result is a place of the type asked for.
    check(|error| unsafe { ffi::duckdb_v2_data_chunk_get_vector(chunk, 0, &mut source, error) })?;
    let mut rows = 0;
    // SAFETY: the vector is live while its chunk is, and the result is a place of the type asked for.
    check(|error| unsafe { ffi::duckdb_v2_vector_get_size(source, &mut rows, error) })?;
    if rows != vector.rows as u64 {
        return Err(invalid(format!("a column came with {rows} rows instead of {}", vector.rows)));
    }
    // SAFETY: both vectors are live; the call refuses vectors of different types.
    check(|error| unsafe { ffi::duckdb_v2_vector_reference(vector.handle, source, error) })
}

impl Drop for ArrowFeed {
    fn drop(&mut self) {
        // SAFETY: the importer belongs to `self` and is not used afterwards.
        unsafe { ffi::duckdb_v2_arrow_importer_destroy(&mut self.importer) };
    }
}
