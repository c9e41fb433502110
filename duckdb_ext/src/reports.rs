//! `soa_schema(path)`, `soa_segments(path)`, `soa_history(path)`, `soa_verify(path)`, `soa_compact(path)` and `soa_vacuum(path)`: what is told of a store, and what is done
//! for it, as rows.

use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arrow::array::RecordBatch;
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::Context;
use duckdb_neo::data_chunk::DataChunkRef;
use duckdb_neo::extension::Extension;
use duckdb_neo::logical_type::LogicalType;
use duckdb_neo::signature::{FunctionDocumentationBuilder, FunctionParameter, FunctionParameterKind, SignatureBuilder};
use duckdb_neo::table_function::{
    BindFunctionHandle, ExecColumnInfo, InitColumnData, TableFunctionBuilder, TableFunctionCallbacks,
};
use soa_core::store::{CompactOptions, Report, Store, VacuumOptions};

use crate::error::{IntoDuckDb, Result, Step, guard, invalid};
use crate::ffi::{CHUNK_ROWS, OutputChunk};
use crate::location::{check_segments, locate};
use crate::scan::text_argument;
use crate::snapshots::{Pin, Session};
use crate::types::{Column, Rows, logical_type};

/// Seconds of an hour.
const HOUR: u64 = 60 * 60;

/// Registers the functions.
pub(crate) fn register(extension: &Extension) -> Result<()> {
    for function in [
        ReportFunction::COLUMNS,
        ReportFunction::SEGMENTS,
        ReportFunction::HISTORY,
        ReportFunction::VERIFY,
        ReportFunction::COMPACT,
        ReportFunction::VACUUM,
    ] {
        let documentation =
            FunctionDocumentationBuilder::new().description(function.description).add_example("", function.example);
        let mut signature = SignatureBuilder::new()
            .param(FunctionParameter::new::<String>("path").kind(FunctionParameterKind::PositionalOnly));
        if function.name == ReportFunction::VACUUM.name {
            let named = FunctionParameterKind::Named;
            signature = signature
                .param(FunctionParameter::with_default("retention_hours", None::<i64>).kind(named))
                .param(FunctionParameter::with_default("dry_run", None::<bool>).kind(named))
                .param(FunctionParameter::with_default("force", None::<bool>).kind(named));
        }
        TableFunctionBuilder::new(function.name, signature.documentation(documentation), function)
            .register(extension)?;
    }
    Ok(())
}

#[derive(Debug)]
struct ReportFunction {
    name: &'static str,
    description: &'static str,
    example: &'static str,
    report: fn(&[BindArgument]) -> Result<Report>,
}

impl ReportFunction {
    const COLUMNS: Self = Self {
        name: "soa_schema",
        description: "Lists the columns of a store: their types as the store names them, and what they are for it",
        example: "soa_schema('orders.soa')",
        report: |_| Ok(Report::Columns),
    };
    const SEGMENTS: Self = Self {
        name: "soa_segments",
        description: "Lists the segments of a store: their files, rows, bytes and partitions, and the bounds of their values",
        example: "soa_segments('orders.soa')",
        report: |_| Ok(Report::Segments),
    };
    const HISTORY: Self = Self {
        name: "soa_history",
        description: "Lists the commits of a store, the oldest first",
        example: "soa_history('orders.soa')",
        report: |_| Ok(Report::History),
    };
    const VERIFY: Self = Self {
        name: "soa_verify",
        description: "Reads and checks everything in a store, and lists what is wrong; no row: all is well",
        example: "soa_verify('orders.soa')",
        report: |_| Ok(Report::Verify),
    };
    const COMPACT: Self = Self {
        name: "soa_compact",
        description: "Joins a store's small segments, writes half-deleted ones anew, and makes Arrow forms that are missing",
        example: "soa_compact('orders.soa')",
        report: |_| Ok(Report::Compact(CompactOptions::default())),
    };
    const VACUUM: Self = Self {
        name: "soa_vacuum",
        description: "Removes files that only versions need which were replaced long ago (7 days, unless said otherwise), and lists them",
        example: "soa_vacuum('orders.soa', dry_run := true)",
        report: vacuum,
    };
}

fn vacuum(arguments: &[BindArgument]) -> Result<Report> {
    let [hours, dry_run, force] = arguments else {
        return Err(invalid("soa_vacuum takes a path, retention_hours, dry_run and force"));
    };
    let constant = |argument: &'static str| move || invalid(format!("{argument} must be a constant"));
    let mut options = VacuumOptions::default();
    if let Some(hours) = hours.value.as_ref().ok_or_else(constant("retention_hours"))?.get::<i64>()? {
        let hours = u64::try_from(hours).map_err(|_| invalid("retention_hours must not be negative"))?;
        options.retention = Duration::from_secs(hours.saturating_mul(HOUR));
    }
    options.dry_run = dry_run.value.as_ref().ok_or_else(constant("dry_run"))?.get::<bool>()?.unwrap_or(false);
    options.force = force.value.as_ref().ok_or_else(constant("force"))?.get::<bool>()?.unwrap_or(false);
    Ok(Report::Vacuum(options))
}

#[derive(Debug)]
struct Bound {
    store: Store,
    /// The folder as the user named it, which is what DuckDB's access rules are about.
    path: PathBuf,
    report: Report,
    session: Arc<Session>,
}

#[derive(Debug)]
struct Running {
    /// What the running query sees of the store.
    pin: Arc<Pin>,
    _session: Arc<Session>,
    types: Vec<LogicalType>,
    /// Made by the first call, so that nothing is done where a statement is only explained.
    answer: Mutex<Option<Answer>>,
}

#[derive(Debug)]
struct Answer {
    rows: RecordBatch,
    next: usize,
}

impl TableFunctionCallbacks for ReportFunction {
    type BindData = Bound;
    type GlobalState = Running;
    type LocalState = ();

    fn bind(&self, context: &Context, arguments: Vec<BindArgument>, result: BindFunctionHandle<'_>) -> Result<Bound> {
        guard(self.name, Step::Bind, || {
            let [path, rest @ ..] = arguments.as_slice() else {
                return Err(invalid(format!("{} takes a path", self.name)));
            };
            let report = (self.report)(rest)?;
            let path = locate(context, &text_argument(path)?)?;
            let store = Store::open(&path).into_duckdb()?;
            for field in report.schema().into_duckdb()?.fields() {
                result.add_result_column(field.name(), &logical_type(context, field.data_type())?)?;
            }
            Ok(Bound { store, path, report, session: Session::of(context)? })
        })
    }

    fn init_global_state(
        &self,
        bound: &Bound,
        context: &Context,
        _columns: InitColumnData<'_>,
    ) -> Result<(Option<Running>, Option<usize>)> {
        let init = || {
            let schema = bound.report.schema().into_duckdb()?;
            let types = schema.fields().iter().map(|field| logical_type(context, field.data_type()));
            let running = Running {
                pin: bound.session.pin(&bound.store)?,
                _session: Arc::clone(&bound.session),
                types: types.collect::<Result<_>>()?,
                answer: Mutex::default(),
            };
            Ok((Some(running), Some(1)))
        };
        guard(self.name, Step::Init, init)
    }

    fn exec(
        &self,
        bound: &Bound,
        running: Option<&Running>,
        _worker: Option<&mut ()>,
        context: &Context,
        mut output: DataChunkRef<'_>,
        _columns: ExecColumnInfo<'_>,
    ) -> Result<()> {
        guard(self.name, Step::Scan, || {
            let running =
                running.ok_or_else(|| invalid(format!("{} was called without the state it made", self.name)))?;
            let mut answer = running.answer.lock().unwrap_or_else(PoisonError::into_inner);
            if answer.is_none() {
                let snapshot = running.pin.snapshot();
                check_segments(context, &bound.path, snapshot)?;
                let rows = bound.report.run(&bound.store, snapshot, &mut || {}).into_duckdb()?;
                *answer = Some(Answer { rows, next: 0 });
            }
            let Some(answer) = answer.as_mut() else { return Ok(()) };
            let mut chunk = OutputChunk::new(&mut output);
            chunk.check_types(&running.types)?;
            let count = (answer.rows.num_rows() - answer.next).min(CHUNK_ROWS);
            let rows = answer.rows.slice(answer.next, count);
            answer.next += count;
            if count == 0 {
                return chunk.set_empty();
            }
            let schema = bound.report.schema().into_duckdb()?;
            for (index, (field, array)) in schema.fields().iter().zip(rows.columns()).enumerate() {
                let mut column = Column::new(context, field.name(), field.data_type(), array)?;
                column.write(&Rows { range: 0..count, live: None, count }, &mut chunk.column(index, count)?)?;
            }
            Ok(())
        })
    }
}
