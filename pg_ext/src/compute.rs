//! Computing a [`Query`] with DataFusion, over the same units that scans read, in threads of the backend's own.
//!
//! **Invariant: the threads never touch Postgres.** They read a store and compute; all that is Postgres' (settings, memory,
//! errors, interrupts) stays on the backend's own thread, which waits for batches and looks for interrupts meanwhile.
//! Signals are blocked in the threads, so that Postgres' handlers run where they should.
//!
//! **Invariant: an answer is Postgres' answer.** Where DataFusion's functions differ from Postgres' (sums that wrap around, NaN,
//! the digits of an average), they are put together so that they do not, here and in [`outputs`].

mod arithmetic;
mod floats;
mod functions;
mod lookup;
mod outputs;
mod predicates;

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::common::{Column, DataFusionError, Result as DataFusionResult};
use datafusion::datasource::provider_as_source;
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, lit};
use datafusion::physical_plan::{ExecutionPlan, execute_stream};
use datafusion::prelude::SessionConfig;
use futures::StreamExt;
use pgrx::PgSqlErrorCode;
use soa_core::datafusion::SnapshotTable;
use soa_core::predicate::Predicate;
use soa_core::scan::ScanRequest;
use soa_core::store::At;
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Semaphore;
use tokio::task::JoinHandle;

use self::arithmetic::OutOfRange;
use self::floats::Overflow;
use self::functions::Beyond;
use self::lookup::{Answer, Lookup};
use self::outputs::{Output, Scope as ComputeScope};
use crate::error::{PgError, Result, code_of_io};
use crate::ffi;
use crate::query::{Limit, Query, Wanted};
use crate::rows::{Chunk, Rows};
use crate::scan::{Explained, Shape};
use crate::snapshots::{self, Pin, Scope};
use crate::table::{BoundColumn, Table};
use crate::types::PgValue;

/// How long the backend waits for a batch before it looks for interrupts.
const PATIENCE: Duration = Duration::from_millis(20);
/// How many batches may be ready before anybody wants them.
const BATCHES_AHEAD: usize = 2;
/// The first rows of an order are kept in memory while all are looked at, if they are no more than these; more are sorted with
/// all others, in files where memory does not suffice.
const KEPT_ROWS: usize = 10_000;
/// Address space for the stack of a thread. Only what is used takes memory.
const STACK_BYTES: usize = 16 << 20;
/// What the names of computed values begin with, so that none is that of a column: Delta Lake allows no blank in those.
pub(crate) const RESULT_PREFIX: &str = "soa_fdw ";
/// What the store's rows are called in plans.
const ROWS: &str = "t";

/// A query in one execution of a plan.
#[derive(Debug)]
pub(crate) struct Computation {
    query: Query,
    pin: Pin,
    outputs: Vec<Output>,
    /// What they are in a slot.
    columns: Vec<BoundColumn>,
    rows: Rows,
    left: Left,
    /// For a query that is asked again and again for other values.
    lookup: Option<Box<Lookup>>,
    /// Whether the rows are an answer that was looked up.
    is_answered: bool,
    stream: Option<Stream>,
}

/// What is left of a limit.
#[derive(Debug, Clone, Copy, Default)]
struct Left {
    /// The rows that are passed over.
    skip: usize,
    /// The rows that are given after that; all, if `None`.
    count: Option<usize>,
}

/// What the threads compute.
#[derive(Debug)]
struct Stream {
    batches: Receiver<DataFusionResult<RecordBatch>>,
    /// One for each batch that may be made before anybody wants it.
    permits: Arc<Semaphore>,
    /// `None` after the last batch.
    task: Option<JoinHandle<()>>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

impl Computation {
    /// Prepares to compute a query of what the statement sees. `is_parameter` says which operands may have other values when
    /// it is started again.
    pub(crate) fn begin(
        table: &Table,
        query: Query,
        scope: Scope,
        shape: Shape,
        is_parameter: impl Fn(usize) -> bool,
    ) -> Result<Self> {
        let store = table.open()?;
        let pin = match table.version()? {
            Some(version) => Pin::new(store.snapshot_at(At::Version(version))?),
            None => snapshots::pin(&store, scope)?,
        };
        let numbers: Vec<i16> = query.rows.columns.iter().map(|column| column.number).collect();
        table.bind(&numbers, &pin)?;
        let (outputs, columns) = match &query.wanted {
            Wanted::Rows { columns } => {
                let columns = table.bind(columns, &pin)?;
                (columns.iter().enumerate().map(|(place, column)| Output::of_row(column, place)).collect(), columns)
            }
            Wanted::Groups { .. } => {
                let outputs = ComputeScope::new(&query, &pin)?.outputs()?;
                let columns = outputs.iter().zip(1..).map(|(output, number)| output.column(number)).collect();
                (outputs, columns)
            }
        };
        let rows = Rows::new(&columns, shape.width, shape.encoding)?;
        let lookup = Lookup::of(&query, is_parameter).map(Box::new);
        let left = Left::default();
        Ok(Self { query, pin, outputs, columns, rows, left, lookup, is_answered: false, stream: None })
    }

    /// Whether the values of the query's operands are needed before the next row.
    pub(crate) fn is_unplanned(&self) -> bool {
        self.stream.is_none() && !self.is_answered
    }

    /// Starts to compute, now that the operands have values.
    pub(crate) fn plan(&mut self, values: &[Option<PgValue>]) -> Result<()> {
        if self.look_up(values)? {
            return Ok(());
        }
        self.left = self.query.limit.as_ref().map_or(Ok(Left::default()), |limit| Left::of(limit, values))?;
        let rows = self.rows_of(&self.query, values)?;
        self.stream = Some(start(&self.logical_plan(&self.query, &self.outputs, rows, values)?)?);
        Ok(())
    }

    /// Looks the answer up, if all answers are there; when it is time, computes them. False if it has to be computed alone.
    fn look_up(&mut self, values: &[Option<PgValue>]) -> Result<bool> {
        let Some(mut lookup) = self.lookup.take() else { return Ok(false) };
        let mut answer = lookup.answer(self.pin.schema(), values);
        if answer.is_none() && lookup.is_due() {
            // What is an error for a value that is not asked for is none of this query.
            match self.all_answers(&lookup.grouped, values) {
                Ok((batches, nothing)) => lookup.keep(batches, nothing, values)?,
                Err(_) => lookup.give_up(),
            }
            answer = lookup.answer(self.pin.schema(), values);
        }
        self.lookup = Some(lookup);
        if let Some(columns) = answer {
            self.rows.set_columns(&columns, columns.first().map_or(0, |column| column.len()));
            self.is_answered = true;
        }
        Ok(self.is_answered)
    }

    /// What [`Lookup::keep`] wants.
    fn all_answers(&self, grouped: &Query, values: &[Option<PgValue>]) -> Result<(Vec<(RecordBatch, Answer)>, Answer)> {
        let outputs = ComputeScope::new(grouped, &self.pin)?.outputs()?;
        let rows = self.rows_of(grouped, values)?;
        let mut stream = start(&self.logical_plan(grouped, &outputs, rows, values)?)?;
        let mut batches = Vec::new();
        while let Some(batch) = stream.next()? {
            let answers = outputs.iter().skip(grouped.groups().len()).map(|output| output.finish(&batch));
            let answers = answers.collect::<Result<Answer>>()?;
            batches.push((batch, answers));
        }
        let no_rows = SnapshotTable::matching(Arc::clone(&self.pin), Predicate::Or(Vec::new()));
        let mut stream = start(&self.logical_plan(&self.query, &self.outputs, no_rows, values)?)?;
        let nothing = stream.next()?.ok_or_else(|| PgError::internal("no rows have no answer"))?;
        let nothing = self.outputs.iter().map(|output| output.finish(&nothing)).collect::<Result<Answer>>()?;
        Ok((batches, nothing))
    }

    /// The rows that a query is of.
    fn rows_of(&self, query: &Query, values: &[Option<PgValue>]) -> Result<SnapshotTable> {
        let snapshot = Arc::clone(&self.pin);
        Ok(match &query.rows.filter {
            Some(filter) => SnapshotTable::matching(snapshot, filter.resolve_exactly(self.pin.schema(), values)?),
            None => SnapshotTable::new(snapshot),
        })
    }

    fn logical_plan(
        &self,
        query: &Query,
        outputs: &[Output],
        rows: SnapshotTable,
        values: &[Option<PgValue>],
    ) -> Result<LogicalPlan> {
        let scope = ComputeScope::new(query, &self.pin)?;
        let mut plan = LogicalPlanBuilder::scan(ROWS, provider_as_source(Arc::new(rows)), None).map_err(failure)?;
        if let Wanted::Groups { .. } = query.wanted {
            plan = plan.aggregate(scope.groups()?, scope.aggregates(values)?).map_err(failure)?;
        }
        if !query.order.is_empty() {
            let order = scope.order(plan.schema(), outputs)?;
            let first = self.left.most().filter(|rows| *rows <= KEPT_ROWS);
            plan = plan.sort_with_limit(order, first).map_err(failure)?;
        }
        if let Wanted::Rows { .. } = query.wanted {
            let schema = self.pin.schema();
            let columns = self.columns.iter().enumerate().map(|(place, column)| {
                // Two columns of the foreign table may be one of the store.
                store_column(schema.field(column.store_column).name()).alias(format!("{RESULT_PREFIX}{place}"))
            });
            let mut columns: Vec<Expr> = columns.collect();
            if columns.is_empty() {
                // Rows without columns cannot be told from no rows everywhere.
                columns.push(lit(true));
            }
            plan = plan.project(columns).map_err(failure)?;
        }
        plan.build().map_err(failure)
    }

    /// Goes to the next rows; `None` after the last.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<&mut Chunk>> {
        while !self.rows.fill()? {
            let batch = match &mut self.stream {
                // There is one row, and it was given.
                None if self.is_answered => None,
                None => return Err(PgError::internal("nothing is being computed")),
                Some(_) if self.left.count == Some(0) => None,
                Some(stream) => stream.next()?,
            };
            let Some(batch) = batch else {
                self.rows.clear();
                return Ok(None);
            };
            let batch = self.left.of_batch(&batch);
            let columns = self.outputs.iter().map(|output| output.finish(&batch));
            let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
            self.rows.set_columns(&columns, batch.num_rows());
        }
        Ok(Some(self.rows.chunk_mut()))
    }

    /// Starts again from the first row.
    pub(crate) fn rescan(&mut self) {
        self.rows.clear();
        self.stream = None;
        self.is_answered = false;
    }

    /// The names of the columns that are read.
    fn columns_read(&self) -> Vec<String> {
        let mut names: Vec<String> = match self.query.wanted {
            Wanted::Rows { .. } => self.columns.iter().map(|column| column.name.clone()).collect(),
            Wanted::Groups { .. } => Vec::new(),
        };
        for column in &self.query.rows.columns {
            if !names.contains(&column.shown) {
                names.push(column.shown.clone());
            }
        }
        names
    }

    /// What `EXPLAIN` says. `values` are those of the operands that are known without an execution.
    pub(crate) fn explain(&self, values: &[Option<PgValue>]) -> Result<Explained> {
        let filter = self.query.rows.filter.as_ref();
        let predicate = filter.and_then(|filter| filter.resolve(self.pin.schema(), values));
        let counters = self.pin.plan(&ScanRequest { columns: Vec::new(), predicate, limit: None })?.counters();
        Ok(Explained {
            counters,
            columns: self.columns_read(),
            filter: filter.map(|filter| filter.text(&self.query.operands)).filter(|text| !text.is_empty()),
            computes: Some(self.query.text()),
            ..Explained::of(&self.pin)
        })
    }
}

impl Left {
    /// All of a limit.
    ///
    /// # Errors
    ///
    /// As Postgres has them (`recompute_limits`).
    fn of(limit: &Limit, values: &[Option<PgValue>]) -> Result<Self> {
        let number = |operand: usize, name: &str, code: PgSqlErrorCode| match values.get(operand) {
            Some(Some(PgValue::Null)) => Ok(None),
            Some(Some(PgValue::Integer(number))) => match usize::try_from(*number) {
                Ok(number) => Ok(Some(number)),
                Err(_) => Err(PgError::new(code, format!("{name} must not be negative"))),
            },
            _ => Err(PgError::internal(format!("{name} has no value"))),
        };
        let (of_skip, of_count) = (
            PgSqlErrorCode::ERRCODE_INVALID_ROW_COUNT_IN_RESULT_OFFSET_CLAUSE,
            PgSqlErrorCode::ERRCODE_INVALID_ROW_COUNT_IN_LIMIT_CLAUSE,
        );
        let skip = limit.skip.map(|skip| number(skip, "OFFSET", of_skip)).transpose()?;
        Ok(Self { skip: skip.flatten().unwrap_or(0), count: number(limit.count, "LIMIT", of_count)? })
    }

    /// The rows that have to be found; all, if `None`.
    fn most(&self) -> Option<usize> {
        self.count.map(|count| count.saturating_add(self.skip))
    }

    /// Those rows of a batch that are given.
    fn of_batch(&mut self, batch: &RecordBatch) -> RecordBatch {
        let skipped = self.skip.min(batch.num_rows());
        let given = self.count.unwrap_or(usize::MAX).min(batch.num_rows() - skipped);
        self.skip -= skipped;
        self.count = self.count.map(|count| count - given);
        batch.slice(skipped, given)
    }
}

impl Stream {
    fn start(runtime: &Runtime, state: &SessionState, plan: Arc<dyn ExecutionPlan>) -> Self {
        let (sender, batches) = channel();
        let permits = Arc::new(Semaphore::new(BATCHES_AHEAD));
        let (context, task_permits) = (state.task_ctx(), Arc::clone(&permits));
        let task = runtime.spawn(async move {
            let mut stream = match execute_stream(plan, context) {
                Ok(stream) => stream,
                Err(error) => return drop(sender.send(Err(error))),
            };
            loop {
                match task_permits.acquire().await {
                    Ok(permit) => permit.forget(),
                    Err(_) => return,
                }
                let Some(batch) = stream.next().await else { return };
                if sender.send(batch).is_err() {
                    return;
                }
            }
        });
        Self { batches, permits, task: Some(task) }
    }

    /// The next batch; `None` after the last.
    fn next(&mut self) -> Result<Option<RecordBatch>> {
        let Some(task) = &mut self.task else { return Ok(None) };
        loop {
            match self.batches.recv_timeout(PATIENCE) {
                Ok(batch) => {
                    self.permits.add_permits(1);
                    return batch.map(Some).map_err(failure);
                }
                Err(RecvTimeoutError::Timeout) => ffi::check_for_interrupts(),
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = runtime()?.block_on(task);
                    self.task = None;
                    return match ended {
                        Ok(()) => Ok(None),
                        Err(_) => Err(PgError::internal("a thread that computes has panicked")),
                    };
                }
            }
        }
    }
}

/// Starts to compute.
fn start(plan: &LogicalPlan) -> Result<Stream> {
    let runtime = runtime()?;
    let state = session_state()?;
    let physical = runtime.block_on(state.create_physical_plan(plan)).map_err(failure)?;
    Ok(Stream::start(runtime, &state, physical))
}

/// The backend's threads, started when something is first computed.
fn runtime() -> Result<&'static Runtime> {
    static RUNTIME: OnceLock<Runtime> = OnceLock::new();
    if let Some(runtime) = RUNTIME.get() {
        return Ok(runtime);
    }
    let mut builder = Builder::new_multi_thread();
    builder.worker_threads(ffi::settings::threads()).thread_stack_size(STACK_BYTES).thread_name("soa_fdw");
    let runtime = ffi::without_signals(|| builder.build()).map_err(|error| {
        PgError::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_RESOURCES, format!("threads cannot be started: {error}"))
    })?;
    Ok(RUNTIME.get_or_init(|| runtime))
}

fn session_state() -> Result<SessionState> {
    let mut config = SessionConfig::new().with_target_partitions(ffi::settings::threads());
    // Those of joins and of the first rows in an order can be trusted; see `SnapshotTable`.
    config.options_mut().optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    let temporary = ffi::temporary_folder();
    std::fs::create_dir_all(temporary).map_err(|error| {
        PgError::new(code_of_io(&error), format!("\"{}\" cannot be made: {error}", temporary.display()))
    })?;
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![temporary.to_owned()]));
    let environment = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(ffi::settings::work_mem())))
        .with_disk_manager_builder(disk)
        .build_arc()
        .map_err(failure)?;
    Ok(SessionStateBuilder::new().with_config(config).with_runtime_env(environment).build())
}

/// A column of the store in a plan.
fn store_column(name: &str) -> Expr {
    Expr::Column(Column::new(Some(ROWS), name))
}

/// An error of DataFusion in the words of its cause.
fn failure(error: DataFusionError) -> PgError {
    match error.find_root() {
        DataFusionError::External(source) => {
            if let Some(error) = source.downcast_ref::<soa_core::Error>() {
                return PgError::from_store(error);
            }
            let out_of_range = PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE;
            match source.downcast_ref::<Beyond>() {
                Some(Beyond { column, .. }) => PgError::new(out_of_range, source.to_string())
                    .with_hint(format!("ALTER FOREIGN TABLE ... ALTER COLUMN \"{column}\" TYPE numeric(20,0)")),
                None if source.is::<Overflow>() || source.is::<OutOfRange>() => {
                    PgError::new(out_of_range, source.to_string())
                }
                None => PgError::internal(source.to_string()),
            }
        }
        DataFusionError::ResourcesExhausted(message) => {
            PgError::new(PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY, "an aggregation needs more memory than it may take")
                .with_detail(message.clone())
                .with_hint("Increase soa_fdw.work_mem, or let Postgres aggregate: SET soa_fdw.pushdown = off.")
        }
        other => PgError::internal(format!("an aggregation failed: {other}")),
    }
}
