//! Computing a [`Query`] with DataFusion, over the same units that scans read, in threads of the backend's own.
//!
//! **Invariant: the threads never touch Postgres.** They read a store and compute; all that is Postgres' (settings, memory,
//! errors, interrupts) stays on the backend's own thread, which waits for batches and looks for interrupts meanwhile.
//! Signals are blocked in the threads, so that Postgres' handlers run where they should.
//!
//! **Invariant: an answer is Postgres' answer.** Where DataFusion's functions differ from Postgres' (sums that wrap around, NaN,
//! the digits of an average), they are put together so that they do not, here and in [`outputs`].

mod arithmetic;
mod expressions;
mod floats;
mod functions;
mod joins;
mod lookup;
mod outputs;
mod pieces;
mod predicates;

use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch};
use datafusion::common::{Column, DataFusionError, Result as DataFusionResult};
use datafusion::execution::SessionStateBuilder;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::session_state::SessionState;
use datafusion::logical_expr::{Expr, LogicalPlan, lit};
use datafusion::optimizer::eliminate_cross_join::EliminateCrossJoin;
use datafusion::optimizer::{Optimizer, OptimizerRule};
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
use self::expressions::Scope as ComputeScope;
use self::floats::Overflow;
use self::functions::Beyond;
use self::joins::Inputs;
use self::lookup::{Answer, Lookup};
use self::outputs::Output;
pub(crate) use self::pieces::FIRST_PIECES;
use crate::error::{PgError, Result, code_of_io};
use crate::ffi;
use crate::query::{GivenColumn, Limit, Query, Wanted};
use crate::rows::{Chunk, Rows};
use crate::scan::{Explained, ExplainedTable, Shape};
use crate::snapshots::{self, Pin, Scope};
use crate::table::{BoundColumn, Table};
use crate::types::PgValue;

/// How long the backend waits for a batch before it looks for interrupts.
const PATIENCE: Duration = Duration::from_millis(20);
/// How many batches may be ready before anybody wants them.
const BATCHES_AHEAD: usize = 2;
/// The first rows of an order are kept in memory while all are looked at, if they are no more than these; more are sorted with
/// all others, in files where memory does not suffice.
pub(crate) const KEPT_ROWS: usize = 10_000;
/// Address space for the stack of a thread. Only what is used takes memory.
const STACK_BYTES: usize = 16 << 20;
/// What the names of computed values begin with, so that none is that of a column: Delta Lake allows no blank in those.
pub(crate) const RESULT_PREFIX: &str = "soa_fdw ";

/// A query in one execution of a plan.
#[derive(Debug)]
pub(crate) struct Computation {
    query: Query,
    /// What is seen of the tables' stores, by the tables' places.
    pins: Vec<Pin>,
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
    /// The operands' values as long as the stream has given nothing and could be started anew.
    unanswered: Option<Vec<Option<PgValue>>>,
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
    /// Prepares to compute a query of what the statement sees of the tables. `is_parameter` says which operands may have other
    /// values when it is started again.
    pub(crate) fn begin(
        tables: &[Table],
        query: Query,
        scope: Scope,
        shape: Shape,
        is_parameter: impl Fn(usize) -> bool,
    ) -> Result<Self> {
        let mut pins = Vec::with_capacity(tables.len());
        for (place, table) in tables.iter().enumerate() {
            let store = table.open()?;
            let pin = match table.version()? {
                Some(version) => Pin::new(store.snapshot_at(At::Version(version))?),
                None => snapshots::pin(&store, scope)?,
            };
            let columns = query.input.columns.iter().filter(|column| column.table == place);
            table.bind(&columns.map(|column| column.number).collect::<Vec<_>>(), &pin)?;
            pins.push(pin);
        }
        let (outputs, columns) = match &query.wanted {
            Wanted::Rows { columns } => {
                let columns = bind_given(columns, tables, &pins)?;
                (columns.iter().enumerate().map(|(place, column)| Output::of_row(column, place)).collect(), columns)
            }
            Wanted::Groups { .. } => {
                let outputs = ComputeScope::new(&query, &pins, None)?.outputs()?;
                let columns = outputs.iter().zip(1..).map(|(output, number)| output.column(number)).collect();
                (outputs, columns)
            }
        };
        let rows = Rows::new(&columns, shape.width, shape.encoding)?;
        let lookup = Lookup::of(&query, is_parameter).map(Box::new);
        let left = Left::default();
        Ok(Self {
            query,
            pins,
            outputs,
            columns,
            rows,
            left,
            lookup,
            is_answered: false,
            stream: None,
            unanswered: None,
        })
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
        self.stream = Some(self.start(&self.query, &self.outputs, values, RowsOf::All, Joining::AtOnce)?);
        self.unanswered = (self.pins.len() > 1).then(|| values.to_vec());
        Ok(())
    }

    /// The next batch; `None` after the last. If what a join keeps does not fit in memory, joins are done in pieces.
    fn next_batch(&mut self) -> Result<Option<RecordBatch>> {
        let unanswered = self.unanswered.take();
        let Some(stream) = &mut self.stream else { return Err(PgError::internal("nothing is being computed")) };
        match (stream.next(), unanswered) {
            (Err(Failure::NoMemory(_)), Some(values)) => {
                self.stream = None;
                let stream = self.start(&self.query, &self.outputs, &values, RowsOf::All, Joining::InPieces)?;
                Ok(self.stream.insert(stream).next()?)
            }
            (batch, _) => Ok(batch?),
        }
    }

    /// Looks the answer up, if all answers are there; when it is time, computes them. False if it has to be computed alone.
    fn look_up(&mut self, values: &[Option<PgValue>]) -> Result<bool> {
        let Some(mut lookup) = self.lookup.take() else { return Ok(false) };
        self.is_answered = self.set_answer(&mut lookup, values);
        if !self.is_answered && lookup.is_wanted() {
            if lookup.is_due(&self.pins) {
                // What is an error for a value that is not asked for is none of this query.
                if self.add_answers(&mut lookup, values).is_err() {
                    lookup.give_up();
                }
                self.is_answered = self.set_answer(&mut lookup, values);
            } else {
                lookup.count(self.rows_read(values)?);
            }
        }
        self.lookup = Some(lookup);
        Ok(self.is_answered)
    }

    /// Goes to the answer that was looked up; false if there is none.
    fn set_answer(&mut self, lookup: &mut Lookup, values: &[Option<PgValue>]) -> bool {
        let answer = lookup.answer(&self.pins, values);
        if let Some((columns, row)) = answer {
            self.rows.set_columns(columns, row..row + 1);
        }
        answer.is_some()
    }

    /// How many rows are looked at for these values.
    fn rows_read(&self, values: &[Option<PgValue>]) -> Result<u64> {
        let tables = self.query.input.tables.iter().zip(&self.pins);
        let rows = tables.map(|(table, pin)| {
            let predicate = table.filter.as_ref().and_then(|filter| filter.resolve(pin.schema(), values));
            Ok(pin.plan(&ScanRequest { columns: Vec::new(), predicate, limit: None })?.row_count())
        });
        rows.sum()
    }

    /// Computes all answers.
    fn add_answers(&self, lookup: &mut Lookup, values: &[Option<PgValue>]) -> Result<()> {
        let mut stream = self.start(&self.query, &self.outputs, values, RowsOf::None, Joining::AtOnce)?;
        let nothing = stream.next()?.ok_or_else(|| PgError::internal("no rows have no answer"))?;
        let nothing = self.outputs.iter().map(|output| output.finish(&nothing)).collect::<Result<Answer>>()?;
        let grouped = lookup.grouped().clone();
        let outputs = ComputeScope::new(&grouped, &self.pins, None)?.outputs()?;
        let mut stream = self.start(&grouped, &outputs, values, RowsOf::All, Joining::AtOnce)?;
        let mut answers = lookup.collect(&self.pins, nothing, values)?;
        while let Some(batch) = stream.next()? {
            let columns = outputs.iter().skip(grouped.groups().len()).map(|output| output.finish(&batch));
            if !answers.add(&batch, columns.collect::<Result<_>>()?, ffi::settings::work_mem()) {
                lookup.give_up();
                return Ok(());
            }
        }
        lookup.keep(answers)
    }

    /// The rows of a table of a query that pass its filter.
    fn rows_of(&self, query: &Query, values: &[Option<PgValue>], table: usize, which: RowsOf) -> Result<SnapshotTable> {
        let snapshot = Arc::clone(&self.pins[table]);
        Ok(match (which, &query.input.tables[table].filter) {
            (RowsOf::None, _) => SnapshotTable::matching(snapshot, Predicate::Or(Vec::new())),
            (RowsOf::All, Some(filter)) => {
                let predicate = filter.resolve_exactly(snapshot.schema(), values)?;
                SnapshotTable::matching(snapshot, predicate)
            }
            (RowsOf::All, None) => SnapshotTable::new(snapshot),
        })
    }

    /// Starts to compute.
    fn start(
        &self,
        query: &Query,
        outputs: &[Output],
        values: &[Option<PgValue>],
        which: RowsOf,
        joining: Joining,
    ) -> Result<Stream> {
        let runtime = runtime()?;
        let state = Arc::new(session_state()?);
        let scope = ComputeScope::new(query, &self.pins, Some(values))?;
        let inputs = Inputs {
            scope: &scope,
            table: &|table| self.rows_of(query, values, table, which),
            is_used: &|table, name| self.is_used(query, table, name),
            in_pieces: (joining == Joining::InPieces).then_some(&state),
        };
        let plan = self.logical_plan(&inputs, outputs)?;
        let physical = runtime.block_on(state.create_physical_plan(&plan)).map_err(failure)?;
        Ok(Stream::start(runtime, &state, physical))
    }

    /// Whether a query uses a column of the store of the table in a place.
    fn is_used(&self, query: &Query, table: usize, name: &str) -> bool {
        let is_given = || match &query.wanted {
            Wanted::Rows { columns } => self.columns.iter().zip(columns).any(|(column, given)| {
                given.table == table && self.pins[table].schema().field(column.store_column).name() == name
            }),
            Wanted::Groups { .. } => false,
        };
        query.input.columns.iter().any(|column| column.table == table && column.name == name) || is_given()
    }

    fn logical_plan(&self, inputs: &Inputs<'_>, outputs: &[Output]) -> Result<LogicalPlan> {
        let scope = inputs.scope;
        let query = scope.query;
        let mut plan = inputs.rows()?;
        if let Wanted::Groups { .. } = query.wanted {
            plan = plan.aggregate(scope.groups()?, scope.aggregates()?).map_err(failure)?;
            if let Some(having) = query.having() {
                let having = scope.having(having, plan.schema(), outputs)?;
                plan = plan.filter(having).map_err(failure)?;
            }
        }
        if !query.order.is_empty() {
            let order = scope.order(plan.schema(), outputs)?;
            let first = self.left.most().filter(|rows| *rows <= KEPT_ROWS);
            plan = plan.sort_with_limit(order, first).map_err(failure)?;
        }
        if let Wanted::Rows { columns } = &query.wanted {
            let columns = self.columns.iter().zip(columns).enumerate().map(|(place, (column, given))| {
                // Two columns of the foreign table may be one of the store.
                let name = self.pins[given.table].schema().field(column.store_column).name();
                scope.store_column(given.table, name).alias(format!("{RESULT_PREFIX}{place}"))
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
            let batch = match &self.stream {
                // There is one row, and it was given.
                None if self.is_answered => None,
                Some(_) if self.left.count == Some(0) => None,
                _ => self.next_batch()?,
            };
            let Some(batch) = batch else {
                self.rows.clear();
                return Ok(None);
            };
            let batch = self.left.of_batch(&batch);
            let columns = self.outputs.iter().map(|output| output.finish(&batch));
            let columns = columns.collect::<Result<Vec<ArrayRef>>>()?;
            self.rows.set_columns(&columns, 0..batch.num_rows());
        }
        Ok(Some(self.rows.chunk_mut()))
    }

    /// Starts again from the first row.
    pub(crate) fn rescan(&mut self) {
        self.rows.clear();
        (self.stream, self.unanswered) = (None, None);
        self.is_answered = false;
    }

    /// The names of the columns that are read of a table.
    fn columns_read(&self, table: usize) -> Vec<String> {
        let mut names = Vec::new();
        if let Wanted::Rows { columns } = &self.query.wanted {
            let given = self.columns.iter().zip(columns).filter(|(_, given)| given.table == table);
            names.extend(given.map(|(column, _)| column.name.clone()));
        }
        for column in self.query.input.columns.iter().filter(|column| column.table == table) {
            if !names.contains(&column.shown) {
                names.push(column.shown.clone());
            }
        }
        names
    }

    /// What `EXPLAIN` says. `values` are those of the operands that are known without an execution.
    pub(crate) fn explain(&self, values: &[Option<PgValue>]) -> Result<Explained> {
        let tables = self.query.input.tables.iter().zip(&self.pins).enumerate().map(|(place, (table, pin))| {
            let filter = table.filter.as_ref();
            let predicate = filter.and_then(|filter| filter.resolve(pin.schema(), values));
            let counters = pin.plan(&ScanRequest { columns: Vec::new(), predicate, limit: None })?.counters();
            Ok(ExplainedTable {
                name: table.shown.clone(),
                counters,
                columns: self.columns_read(place),
                filter: self.query.filter_text(place),
                ..ExplainedTable::of(pin)
            })
        });
        Ok(Explained {
            tables: tables.collect::<Result<_>>()?,
            joins: self.query.join_text(),
            computes: Some(self.query.text()).filter(|text| !text.is_empty()),
            rows_read: None,
        })
    }
}

/// Whether the answers to a query that is asked for many values are computed at once and looked up.
pub(crate) fn is_looked_up(query: &Query, is_parameter: impl Fn(usize) -> bool) -> bool {
    Lookup::of(query, is_parameter).is_some()
}

/// Which of a table's rows a query is computed of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum RowsOf {
    /// All that pass its filter.
    All,
    None,
}

/// Finds the columns that are given of joined rows, or of one table's.
fn bind_given(given: &[GivenColumn], tables: &[Table], pins: &[Pin]) -> Result<Vec<BoundColumn>> {
    let mut bound = Vec::with_capacity(tables.len());
    for (place, (table, pin)) in tables.iter().zip(pins).enumerate() {
        let numbers = given.iter().filter(|column| column.table == place).map(|column| column.number);
        bound.push(table.bind(&numbers.collect::<Vec<_>>(), pin)?.into_iter());
    }
    let columns = given.iter().zip(1..).map(|(column, number)| {
        let missing = || PgError::internal(format!("there is no column {} any more", column.number));
        let found = bound[column.table].next().ok_or_else(missing)?;
        Ok(if tables.len() == 1 { found } else { BoundColumn { number, ..found } })
    });
    columns.collect()
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
    fn next(&mut self) -> std::result::Result<Option<RecordBatch>, Failure> {
        let Some(task) = &mut self.task else { return Ok(None) };
        loop {
            match self.batches.recv_timeout(PATIENCE) {
                Ok(batch) => {
                    self.permits.add_permits(1);
                    return Ok(Some(batch?));
                }
                Err(RecvTimeoutError::Timeout) => ffi::check_for_interrupts(),
                Err(RecvTimeoutError::Disconnected) => {
                    let ended = runtime()?.block_on(task);
                    self.task = None;
                    return match ended {
                        Ok(()) => Ok(None),
                        Err(_) => Err(PgError::internal("a thread that computes has panicked").into()),
                    };
                }
            }
        }
    }
}

/// Why there is no next batch.
enum Failure {
    /// What is kept in memory does not fit.
    NoMemory(PgError),
    Other(PgError),
}

impl From<DataFusionError> for Failure {
    fn from(error: DataFusionError) -> Self {
        match pieces::is_of_memory(&error) {
            true => Self::NoMemory(failure(error)),
            false => Self::Other(failure(error)),
        }
    }
}

impl From<PgError> for Failure {
    fn from(error: PgError) -> Self {
        Self::Other(error)
    }
}

impl From<Failure> for PgError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoMemory(error) | Failure::Other(error) => error,
        }
    }
}

/// How joins are done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Joining {
    /// One side is kept as a whole.
    AtOnce,
    /// A part of it after the other.
    InPieces,
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
    let optimizer = &mut config.options_mut().optimizer;
    optimizer.enable_aggregate_dynamic_filter_pushdown = false;
    // Postgres' planner knows which side of a join is to be kept. It is kept as one table for all threads: the rows of the
    // other side, which are more, stay in the threads that read them.
    optimizer.join_reordering = false;
    optimizer.repartition_joins = false;
    let work_mem = ffi::settings::work_mem();
    let execution = &mut config.options_mut().execution;
    // Sorts keep this much back for the merging of what they have written; each thread has one.
    execution.sort_spill_reservation_bytes = execution.sort_spill_reservation_bytes.min(work_mem / 32);
    // Of a CASE whose condition leaves no NULLs DataFusion's two kinds of plans say different things. What is computed is the
    // same.
    execution.skip_physical_aggregate_schema_check = true;
    let temporary = ffi::temporary_folder();
    std::fs::create_dir_all(temporary).map_err(|error| {
        PgError::new(code_of_io(&error), format!("\"{}\" cannot be made: {error}", temporary.display()))
    })?;
    let disk = DiskManagerBuilder::default().with_mode(DiskManagerMode::Directories(vec![temporary.to_owned()]));
    let environment = RuntimeEnvBuilder::new()
        .with_memory_pool(Arc::new(FairSpillPool::new(work_mem)))
        .with_disk_manager_builder(disk)
        .build_arc()
        .map_err(failure)?;
    let builder = SessionStateBuilder::new().with_config(config).with_runtime_env(environment);
    Ok(builder.with_optimizer_rules(optimizer_rules()).build())
}

/// DataFusion's rules, but for the one that looks for a join order of its own, without an estimate of what comes of it.
fn optimizer_rules() -> Vec<Arc<dyn OptimizerRule + Send + Sync>> {
    let reorders = EliminateCrossJoin::new();
    Optimizer::new().rules.into_iter().filter(|rule| rule.name() != reorders.name()).collect()
}

/// What the rows of the table in a place are called in plans.
fn table_name(table: usize) -> String {
    format!("t{table}")
}

/// A column of the rows of the table in a place in a plan.
fn column(table: usize, name: impl Into<String>) -> Expr {
    Expr::Column(Column::new(Some(table_name(table)), name))
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
        DataFusionError::ResourcesExhausted(message) => PgError::new(
            PgSqlErrorCode::ERRCODE_OUT_OF_MEMORY,
            "a query over stores needs more memory than it may take",
        )
        .with_detail(message.clone())
        .with_hint("Increase soa_fdw.work_mem, or let Postgres compute it: SET soa_fdw.pushdown = off."),
        other => PgError::internal(format!("a query over stores failed: {other}")),
    }
}
