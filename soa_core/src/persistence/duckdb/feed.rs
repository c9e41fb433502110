//! Rows between Arrow and DuckDB, over Arrow's C data interface: all unsafe code of this backend.
#![expect(unsafe_code, reason = "the C data interface hands over structs of pointers")]

use std::fmt;
use std::mem::transmute;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{Array, RecordBatch, StructArray};
use arrow::datatypes::Schema;
use arrow::ffi::{FFI_ArrowArray, FFI_ArrowSchema};
use arrow::ffi_stream::{ArrowArrayStreamReader, FFI_ArrowArrayStream};
use duckdb_neo::arrow::{ArrowArray, ArrowImporter, ArrowSchema};
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::{Connection, Context};
use duckdb_neo::data_chunk::DataChunkRef;
use duckdb_neo::query_result::ArrowQueryResult;
use duckdb_neo::signature::SignatureBuilder;
use duckdb_neo::table_function::{
    BindFunctionHandle, ExecColumnInfo, InitColumnData, TableFunctionBuilder, TableFunctionCallbacks,
};
use duckdb_neo::vector::Unknown;
use duckdb_neo::{Error, Result, ffi};

/// The table function that gives the rows of a [`Slot`].
pub(super) const FUNCTION: &str = "soa_given_rows()";
const FUNCTION_NAME: &str = "soa_given_rows";
/// The rows of a chunk at most.
const CHUNK_ROWS: usize = 2048;

/// Rows that the next statement reads.
#[derive(Clone, Default)]
pub(super) struct Slot(Arc<Mutex<Option<RecordBatch>>>);

impl Slot {
    /// A slot whose rows statements of a connection read as [`FUNCTION`].
    ///
    /// # Errors
    ///
    /// When the function cannot be registered.
    pub(super) fn of(connection: &Connection) -> Result<Self> {
        let slot = Self::default();
        TableFunctionBuilder::new(FUNCTION_NAME, SignatureBuilder::new(), GivenRows(slot.clone()))
            .register(connection)?;
        Ok(slot)
    }

    /// Runs `statement` while these rows are given.
    pub(super) fn with<T>(&self, rows: RecordBatch, statement: impl FnOnce() -> T) -> T {
        self.put(Some(rows));
        let done = statement();
        self.put(None);
        done
    }

    fn put(&self, rows: Option<RecordBatch>) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = rows;
    }

    fn get(&self) -> Option<RecordBatch> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl fmt::Debug for Slot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Slot").finish_non_exhaustive()
    }
}

struct GivenRows(Slot);

impl TableFunctionCallbacks for GivenRows {
    type BindData = RecordBatch;
    /// The next row.
    type GlobalState = AtomicUsize;
    type LocalState = ();

    fn bind(
        &self,
        context: &Context,
        _arguments: Vec<BindArgument>,
        result: BindFunctionHandle<'_>,
    ) -> Result<RecordBatch> {
        let rows = self.0.get().ok_or_else(|| Error::invalid_input(format!("{FUNCTION_NAME} has no rows to give")))?;
        for (name, logical_type) in importer(context, &rows)?.schema()?.get_all()? {
            result.add_result_column(&name, &logical_type)?;
        }
        result.set_cardinality(rows.num_rows(), true)?;
        Ok(rows)
    }

    fn init_global_state(
        &self,
        _rows: &RecordBatch,
        _context: &Context,
        _columns: InitColumnData<'_>,
    ) -> Result<(Option<AtomicUsize>, Option<usize>)> {
        Ok((Some(AtomicUsize::new(0)), Some(1)))
    }

    fn exec(
        &self,
        rows: &RecordBatch,
        next: Option<&AtomicUsize>,
        _worker: Option<&mut ()>,
        context: &Context,
        mut output: DataChunkRef<'_>,
        _columns: ExecColumnInfo<'_>,
    ) -> Result<()> {
        let next = next.ok_or_else(|| Error::invalid_input(format!("{FUNCTION_NAME} has no state")))?;
        let at = next.fetch_add(CHUNK_ROWS, Ordering::Relaxed);
        if at >= rows.num_rows() {
            return output.get_vector_at_mut::<Unknown>(0)?.set_size(0);
        }
        let mut importer = importer(context, rows)?;
        importer.append_consumed(exported(rows.slice(at, CHUNK_ROWS.min(rows.num_rows() - at))), true)?;
        let chunk = importer.next_chunk()?.ok_or_else(|| Error::invalid_input("rows came without a chunk"))?;
        for column in 0..rows.num_columns() {
            let target = output.get_vector_at_mut::<Unknown>(column)?;
            // SAFETY: referring to a vector takes a share of its buffers, which are Arrow's and kept alive by them; the
            // chunk is not changed and goes with the end of this call.
            unsafe { target.reference(chunk.get_vector_at::<Unknown>(column)?) }?;
        }
        Ok(())
    }
}

/// What makes chunks of rows with these columns.
fn importer<'context>(context: &'context Context, rows: &RecordBatch) -> Result<ArrowImporter<'context>> {
    let schema = FFI_ArrowSchema::try_from(rows.schema_ref().as_ref())
        .map_err(|error| Error::invalid_input(format!("the columns cannot be handed over: {error}")))?;
    // SAFETY: both types are the C data interface's `ArrowSchema`, field by field; the struct is moved, and released once.
    let schema = unsafe { transmute::<FFI_ArrowSchema, ffi::ArrowSchema>(schema) };
    // SAFETY: the struct was made just now and is valid.
    ArrowImporter::new(context, unsafe { ArrowSchema::from_raw(schema) }, None)
}

/// Rows as the C data interface has them, which share the batch's memory.
fn exported(rows: RecordBatch) -> ArrowArray {
    let rows = FFI_ArrowArray::new(&StructArray::from(rows).to_data());
    // SAFETY: both types are the C data interface's `ArrowArray`, field by field; the struct is moved, and released once.
    let rows = unsafe { transmute::<FFI_ArrowArray, ffi::ArrowArray>(rows) };
    // SAFETY: the struct was made just now and is valid.
    unsafe { ArrowArray::from_raw(rows) }
}

/// All rows of a result, and its columns.
///
/// # Errors
///
/// When the query fails, or gives rows that Arrow does not understand.
pub(super) fn collect(result: ArrowQueryResult<'_>) -> Result<(Arc<Schema>, Vec<RecordBatch>)> {
    let stream = result.to_arrow_stream()?;
    // SAFETY: the connection is borrowed for as long as `result` was, which is longer than this call; the stream is
    // read and released in it, before the collections go.
    let (stream, collections) = unsafe { stream.into_raw() };
    // SAFETY: both types are the C stream interface's `ArrowArrayStream`, field by field; the struct is moved, and
    // released once.
    let stream = unsafe { transmute::<ffi::ArrowArrayStream, FFI_ArrowArrayStream>(stream) };
    let failed = |error: arrow::error::ArrowError| Error::api_error(error.to_string());
    let reader = ArrowArrayStreamReader::try_new(stream).map_err(failed)?;
    let schema = arrow::array::RecordBatchReader::schema(&reader);
    let batches = reader.map(|batch| batch.map_err(failed)).collect::<Result<Vec<_>>>();
    drop(collections);
    Ok((schema, batches?))
}
