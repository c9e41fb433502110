//! `soa_segments(path)`: one row for each segment of a store.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::Context;
use duckdb_neo::data_chunk::DataChunkRef;
use duckdb_neo::extension::Extension;
use duckdb_neo::signature::{FunctionDocumentationBuilder, FunctionParameter, FunctionParameterKind, SignatureBuilder};
use duckdb_neo::table_function::{
    BindFunctionHandle, ExecColumnInfo, InitColumnData, TableFunctionBuilder, TableFunctionCallbacks,
};
use duckdb_neo::types::MapValue;
use duckdb_neo::vector::{OwnedVectorElement, Unknown, WritableVectorElement};
use duckdb_neo::{DuckDBType, ToValue};
use soa_core::store::{Form, Segment, Store};

use crate::error::{IntoDuckDb, Result, Step, guard, invalid};
use crate::ffi::CHUNK_ROWS;
use crate::location::locate;
use crate::scan::text_argument;
use crate::snapshots::{Pin, Session};

/// The function's name.
pub(crate) const NAME: &str = "soa_segments";

/// Registers the function.
pub(crate) fn register(extension: &Extension) -> Result<()> {
    let documentation = FunctionDocumentationBuilder::new()
        .description("Lists the segments of a store: their files, rows, bytes and partitions")
        .add_example("", "soa_segments('orders.soa')");
    let signature = SignatureBuilder::new()
        .param(FunctionParameter::new::<String>("path").kind(FunctionParameterKind::PositionalOnly))
        .documentation(documentation);
    TableFunctionBuilder::new(NAME, signature, SoaSegments).register(extension)
}

/// The values of the partition columns, by name.
type Partition = MapValue<String, Option<String>>;

#[derive(Debug)]
struct SoaSegments;

#[derive(Debug)]
struct Bound {
    store: Store,
    session: Arc<Session>,
}

#[derive(Debug)]
struct Running {
    pin: Arc<Pin>,
    next: AtomicUsize,
    _session: Arc<Session>,
}

impl TableFunctionCallbacks for SoaSegments {
    type BindData = Bound;
    type GlobalState = Running;
    type LocalState = ();

    fn bind(&self, context: &Context, arguments: Vec<BindArgument>, result: BindFunctionHandle<'_>) -> Result<Bound> {
        guard(NAME, Step::Bind, || {
            let [path] = arguments.as_slice() else { return Err(invalid(format!("{NAME} takes a path"))) };
            let store = Store::open(locate(context, &text_argument(path)?)?).into_duckdb()?;
            let text = String::logical_type(context)?;
            let number = u64::logical_type(context)?;
            result.add_result_column("path", &text)?;
            result.add_result_column("row_count", &number)?;
            result.add_result_column("form", &text)?;
            result.add_result_column("parquet_bytes", &number)?;
            result.add_result_column("arrow_bytes", &number)?;
            result.add_result_column("partition", &Partition::logical_type(context)?)?;
            Ok(Bound { store, session: Session::of(context)? })
        })
    }

    fn init_global_state(
        &self,
        bound: &Bound,
        _context: &Context,
        _columns: InitColumnData<'_>,
    ) -> Result<(Option<Running>, Option<usize>)> {
        guard(NAME, Step::Init, || {
            let pin = bound.session.pin(&bound.store)?;
            let running = Running { pin, next: AtomicUsize::new(0), _session: Arc::clone(&bound.session) };
            Ok((Some(running), None))
        })
    }

    fn exec(
        &self,
        _bound: &Bound,
        running: Option<&Running>,
        _worker: Option<&mut ()>,
        context: &Context,
        mut output: DataChunkRef<'_>,
        _columns: ExecColumnInfo<'_>,
    ) -> Result<()> {
        guard(NAME, Step::Scan, || {
            let running = running.ok_or_else(|| invalid(format!("{NAME} was called without the state it made")))?;
            let segments = running.pin.snapshot().segments();
            let first = running.next.fetch_add(CHUNK_ROWS, Ordering::Relaxed).min(segments.len());
            let segments = &segments[first..segments.len().min(first + CHUNK_ROWS)];
            write(&mut output, 0, segments, |segment| Some(segment.path().to_owned()))?;
            write(&mut output, 1, segments, |segment| Some(segment.row_count()))?;
            write(&mut output, 2, segments, |segment| {
                Some(match segment.form() {
                    Form::Arrow => "arrow".to_owned(),
                    Form::Parquet => "parquet".to_owned(),
                })
            })?;
            write(&mut output, 3, segments, |segment| Some(segment.parquet_bytes()))?;
            write(&mut output, 4, segments, |segment| segment.arrow_bytes())?;
            write_partitions(&mut output, 5, segments, context)
        })
    }
}

/// Fills a column with one value for each segment. The chunk has as many rows as its first column.
fn write<T>(
    output: &mut DataChunkRef<'_>,
    column: usize,
    segments: &[Arc<Segment>],
    value: impl Fn(&Segment) -> Option<T>,
) -> Result<()>
where
    T: OwnedVectorElement + WritableVectorElement,
{
    let mut vector = output.get_vector_at_mut::<T>(column)?;
    vector.set_size(segments.len())?;
    let mut writer = vector.writer()?;
    for (row, segment) in segments.iter().enumerate() {
        writer.set_ref(row, value(segment).as_ref())?;
    }
    Ok(())
}

fn write_partitions(
    output: &mut DataChunkRef<'_>,
    column: usize,
    segments: &[Arc<Segment>],
    context: &Context,
) -> Result<()> {
    let mut vector = output.get_vector_at_mut::<Unknown>(column)?;
    vector.set_size(segments.len())?;
    for (row, segment) in segments.iter().enumerate() {
        let partition: Partition =
            segment.partition_values().map(|(name, value)| (name.to_owned(), value.map(str::to_owned))).collect();
        vector.write_value_slow(row, partition.value(context)?)?;
    }
    Ok(())
}
