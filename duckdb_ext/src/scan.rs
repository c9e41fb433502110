//! `soa_scan(path, version := …, timestamp := …, enums := …)`: the rows of a store.
//!
//! It is a macro over the table function `soa_rows`, which has one column more, the first: [`MARK`]. Where a query wants rows
//! but none of their values, say `count(*)`, DuckDB asks a table function for the first column it has declared, and nothing
//! tells that from a query of this column. So the first one is a column that costs nothing, and that nobody else asks for.
//!
//! | callback | does |
//! |---|---|
//! | bind | names the columns; nothing else, for a prepared statement binds once and runs many times |
//! | filter | remembers what the query's filters rule out |
//! | init | takes the query's snapshot and plans the scan |
//! | scan | claims units from a shared counter, drops rows that no filter wants, and copies the others chunk by chunk |
//! | partition | gives the unit's number, by which DuckDB keeps rows in order while all threads work |

use std::ops::Range;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::{ArrayRef, BooleanArray, RecordBatch};
use arrow::buffer::BooleanBuffer;
use arrow::compute::{filter, filter_record_batch};
use duckdb_neo::Parameters;
use duckdb_neo::bind_arguments::BindArgument;
use duckdb_neo::connection::Context;
use duckdb_neo::data_chunk::DataChunkRef;
use duckdb_neo::extension::Extension;
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};
use duckdb_neo::macro_function::{MacroBody, MacroFunctionBuilder};
use duckdb_neo::signature::{FunctionDocumentationBuilder, FunctionParameter, FunctionParameterKind, SignatureBuilder};
use duckdb_neo::table_function::{
    BindFunctionHandle, ExecColumnInfo, InitColumnData, PartitionData, PushdownData, TableFilterPushdownCallbacks,
    TableFunctionBuilder, TableFunctionCallbacks, TablePartitioningCallbacks,
};
use duckdb_neo::types::TimestampTzValue;
use soa_core::predicate::Predicate;
use soa_core::scan::{ScanPlan, ScanRequest};
use soa_core::schema::{DataType, Schema};
use soa_core::store::{At, Form, Snapshot, Store};

use crate::error::{IntoDuckDb, Result, Step, guard, invalid};
use crate::ffi::{CHUNK_ROWS, OutputChunk};
use crate::filter::predicate_of;
use crate::location::{check_segments, locate};
use crate::snapshots::{Pin, Session};
use crate::types::{Column, Rows, enum_type, logical_type, look_the_same};

/// The macro's name.
pub(crate) const NAME: &str = "soa_scan";

/// The function's name.
const ROWS: &str = "soa_rows";

/// The name of the column that stands for a row.
const MARK: &str = "is a row of soa_scan";

/// Registers the function and the macro.
pub(crate) fn register(extension: &Extension) -> Result<()> {
    let documentation = FunctionDocumentationBuilder::new()
        .description("Reads the rows of a store, as of now or as of a version or a time")
        .add_example("", "soa_scan('orders.soa')")
        .add_example("", "soa_scan('orders.soa', version := 3)")
        .add_example("enums as DuckDB's ENUM instead of text", "soa_scan('orders.soa', enums := true)");
    let path = || FunctionParameter::new::<String>("path");
    let named = FunctionParameterKind::Named;
    let rows = SignatureBuilder::new()
        .param(path().kind(FunctionParameterKind::PositionalOnly))
        .param(FunctionParameter::with_default("version", None::<i64>).kind(named))
        .param(FunctionParameter::with_default("timestamp", None::<TimestampTzValue>).kind(named))
        .param(FunctionParameter::with_default("enums", false).kind(named))
        .documentation(FunctionDocumentationBuilder::new().description(
            "What soa_scan is made of: its rows, with a first column that costs nothing, for queries that only count",
        ));
    TableFunctionBuilder::new(ROWS, rows, SoaScan)
        .with_projection_pushdown(true)
        .with_filter_pushdown()
        .with_partitioning()
        .with_progress()
        .register(extension)?;
    // Without types, so that the function casts what it is given: a macro takes no text for a time.
    let any = LogicalType::create_from_id(extension, LogicalTypeID::Any, Parameters::None)?;
    let scan = SignatureBuilder::new()
        .param(path())
        .param(FunctionParameter::with_type("version", any.clone()).default_value(None::<i64>))
        .param(FunctionParameter::with_type("timestamp", any).default_value(None::<TimestampTzValue>))
        .param(FunctionParameter::with_default("enums", false))
        .documentation(documentation);
    let body = format!(
        "SELECT * EXCLUDE (\"{MARK}\") FROM {ROWS}(path, version := version, timestamp := timestamp, enums := enums)"
    );
    MacroFunctionBuilder::new(NAME, scan, MacroBody::Table(body)).register(extension)
}

/// After so many units without a row that matches, a thread hands over some that do not.
const BARREN_UNITS_MAX: usize = 64;

/// Matching rows are gathered where they are less than one in so many; denser ones are handed over with what is
/// between them, without a copy.
const GATHERED_SHARE: usize = 4;

/// How many units follow whole after one in which more rows than that match.
const WHOLE_UNITS: usize = 15;

#[derive(Debug)]
struct SoaScan;

/// What bind found out.
#[derive(Debug)]
struct Bound {
    store: Store,
    /// The folder as the user named it, which is what DuckDB's access rules are about.
    path: PathBuf,
    at: Option<At>,
    schema: Schema,
    /// Whether enums are DuckDB's, instead of text.
    enums: bool,
    session: Arc<Session>,
    /// What the filters above this scan rule out. Replaced whenever DuckDB offers filters, and never added to:
    /// an earlier offer may have been moved elsewhere since.
    predicate: Mutex<Option<Predicate>>,
}

/// The store's column that the function has declared as number `declared`; `None` for [`MARK`].
pub(crate) fn column_of(declared: usize) -> Option<usize> {
    declared.checked_sub(1)
}

/// The bytes of [`MARK`] in a chunk.
const TRUE: [u8; CHUNK_ROWS] = [1; CHUNK_ROWS];

fn mark_type(context: &Context) -> Result<LogicalType> {
    logical_type(context, &DataType::Bool)
}

/// What all threads of one scan share.
struct Running {
    plan: ScanPlan,
    schema: Schema,
    /// What the statement was bound to, if it wants DuckDB's enums: their variants are those of that time.
    enums: Option<Schema>,
    /// The columns of the store, in the order of the output.
    columns: Vec<usize>,
    /// Where each of them is in the output.
    places: Vec<usize>,
    /// Where [`MARK`] is in the output.
    marks: Vec<usize>,
    types: Vec<LogicalType>,
    next_unit: AtomicUsize,
    /// What the rows of a unit are filtered by, if at all. Its columns are among those of the output.
    predicate: Option<Predicate>,
    /// Keeps the other scans of the query on the same snapshot.
    _pin: Option<Arc<Pin>>,
    _session: Arc<Session>,
}

/// What one thread of a scan is doing.
#[derive(Debug, Default)]
struct Worker {
    unit: usize,
    columns: Vec<Column>,
    /// The rows that are not handed over yet.
    rows: Range<usize>,
    /// Which rows of the columns are left; `None` if all are.
    live: Option<BooleanBuffer>,
    has_checked_types: bool,
    /// Units in a row that had nothing to give.
    barren_units: usize,
    /// How many units are to be handed over whole, because most rows of one before them matched.
    whole_units: usize,
}

impl Bound {
    fn new(context: &Context, arguments: &[BindArgument]) -> Result<Self> {
        let [path, version, timestamp, enums] = arguments else {
            return Err(invalid(format!("{NAME} takes a path, a version, a timestamp and whether enums are wanted")));
        };
        let enums = bool_argument(enums)?;
        let path = text_argument(path)?;
        let at = match (integer_argument(version)?, timestamp_argument(timestamp)?) {
            (None, None) => None,
            (Some(version), None) => Some(At::Version(version)),
            (None, Some(time)) => Some(At::Timestamp(time)),
            (Some(_), Some(_)) => return Err(invalid("give a version or a timestamp, not both")),
        };
        let path = locate(context, &path)?;
        let store = Store::open(&path).into_duckdb()?;
        let session = Session::of(context)?;
        let (snapshot, _pin) = take_snapshot(&store, at, &session)?;
        // A time may be in the future, where the version that it means changes: it is settled here, for all executions.
        let at = at.map(|_| At::Version(snapshot.version()));
        let schema = snapshot.schema().clone();
        Ok(Self { store, path, at, schema, enums, session, predicate: Mutex::default() })
    }

    fn snapshot(&self) -> Result<(Arc<Snapshot>, Option<Arc<Pin>>)> {
        take_snapshot(&self.store, self.at, &self.session)
    }

    /// DuckDB's type of a column.
    fn output_type(&self, context: &Context, column: usize) -> Result<LogicalType> {
        match self.schema.field(column).data_type() {
            DataType::Enum(variants) if self.enums => enum_type(context, variants),
            other => logical_type(context, other),
        }
    }

    /// Begins a scan whose output has the function's columns `declared`.
    fn run(&self, context: &Context, declared: &[usize]) -> Result<Running> {
        let (snapshot, pin) = self.snapshot()?;
        if !look_the_same(&self.schema, snapshot.schema()) {
            return Err(invalid(format!(
                "the columns of \"{}\" have changed since the statement was prepared; prepare it again",
                self.path.display()
            )));
        }
        check_segments(context, &self.path, &snapshot)?;
        let schema = snapshot.schema().clone();
        let (mut columns, mut places, mut marks, mut types) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        for (place, declared) in declared.iter().enumerate() {
            match column_of(*declared) {
                Some(column) => {
                    columns.push(column);
                    places.push(place);
                    types.push(self.output_type(context, column)?);
                }
                None => {
                    marks.push(place);
                    types.push(mark_type(context)?);
                }
            }
        }
        let predicate = self.predicate.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let request = ScanRequest { columns: columns.clone(), predicate: predicate.clone(), limit: None };
        let plan = snapshot.plan(&request).into_duckdb()?;
        // DuckDB checks the rows once more, so it asks for the columns of its filters; without them there is no filter.
        let can_test = |predicate: &Predicate| predicate.columns().iter().all(|column| columns.contains(column));
        let predicate = predicate.filter(can_test);
        let next_unit = AtomicUsize::new(0);
        Ok(Running {
            plan,
            schema,
            enums: self.enums.then(|| self.schema.clone()),
            columns,
            places,
            marks,
            types,
            next_unit,
            predicate,
            _pin: pin,
            _session: Arc::clone(&self.session),
        })
    }
}

/// The snapshot as of `at`, or the running query's with the pin that holds it.
fn take_snapshot(store: &Store, at: Option<At>, session: &Session) -> Result<(Arc<Snapshot>, Option<Arc<Pin>>)> {
    match at {
        Some(at) => Ok((store.snapshot_at(at).into_duckdb()?, None)),
        None => {
            let pin = session.pin(store)?;
            Ok((Arc::clone(pin.snapshot()), Some(pin)))
        }
    }
}

impl Running {
    fn fill(&self, context: &Context, worker: &mut Worker, chunk: &mut OutputChunk<'_>) -> Result<()> {
        if !worker.has_checked_types {
            chunk.check_types(&self.types)?;
            worker.has_checked_types = true;
        }
        // A chunk without rows means that this thread has finished, so units without rows are passed over.
        let rows = loop {
            if let Some(rows) = worker.next_rows() {
                break rows;
            }
            if !self.claim(context, worker)? {
                return chunk.set_empty();
            }
        };
        for (column, &place) in worker.columns.iter_mut().zip(&self.places) {
            column.write(&rows, &mut chunk.column(place, rows.count)?)?;
        }
        for &place in &self.marks {
            chunk.column(place, rows.count)?.write_bytes(&TRUE[..rows.count], 1, None)?;
        }
        Ok(())
    }

    /// Takes the next unit, or returns false if there is none.
    fn claim(&self, context: &Context, worker: &mut Worker) -> Result<bool> {
        let unit = self.next_unit.fetch_add(1, Ordering::Relaxed);
        if unit >= self.plan.units().len() {
            // The counter must not run over, however often finished threads come back.
            self.next_unit.store(self.plan.units().len(), Ordering::Relaxed);
            return Ok(false);
        }
        let (wanted, whole_units) = self.read(unit, worker.whole_units)?;
        let is_barren = wanted.row_count() == 0;
        let barren_units = if is_barren { worker.barren_units + 1 } else { 0 };
        // DuckDB can interrupt a query between two chunks only, so now and then it gets rows that it will drop.
        let wanted = if barren_units < BARREN_UNITS_MAX { wanted } else { self.read_whole(unit)?.first(CHUNK_ROWS) };
        *worker = Worker {
            unit,
            columns: self.columns_of(context, &wanted)?,
            rows: 0..wanted.batch.num_rows(),
            live: wanted.live,
            has_checked_types: worker.has_checked_types,
            barren_units: barren_units % BARREN_UNITS_MAX,
            whole_units,
        };
        Ok(true)
    }

    /// The rows of a unit to hand over; and for how many units it is not worth while to leave any out, if now not for so
    /// many.
    fn read(&self, unit: usize, whole_units: usize) -> Result<(Wanted, usize)> {
        let Some(predicate) = self.predicate.as_ref().filter(|_| whole_units == 0) else {
            return Ok((self.read_whole(unit)?, whole_units.saturating_sub(1)));
        };
        let planned = &self.plan.units()[unit];
        if planned.segment().is_none_or(|segment| segment.form() == Form::Arrow) {
            let all = self.read_whole(unit)?;
            return self.wanted_rows(predicate, &all.batch, all.live.as_ref());
        }
        // Rows that are left out need not be decoded.
        let batch = self.plan.read_filtered(unit).into_duckdb()?;
        let is_dense = batch.num_rows() * GATHERED_SHARE >= planned.row_count();
        Ok((Wanted { batch, live: None }, if is_dense { WHOLE_UNITS } else { 0 }))
    }

    /// All rows of a unit that are left.
    fn read_whole(&self, unit: usize) -> Result<Wanted> {
        let (batch, live) = self.plan.read_in_place(unit).into_duckdb()?;
        Ok(Wanted { batch, live })
    }

    /// The rows of a unit that match, and others between them where copying fewer rows costs more than it saves; and
    /// for how many units it is not worth while to look.
    fn wanted_rows(
        &self,
        predicate: &Predicate,
        batch: &RecordBatch,
        live: Option<&BooleanBuffer>,
    ) -> Result<(Wanted, usize)> {
        let position = |column: usize| self.columns.iter().position(|known| *known == column);
        let selected = predicate.select(batch, &position).into_duckdb()?;
        let bits = live.map_or_else(|| selected.values().clone(), |live| selected.values() & live);
        let count = bits.count_set_bits();
        let whole_units = if count * GATHERED_SHARE < batch.num_rows() { 0 } else { WHOLE_UNITS };
        let none = || Wanted { batch: batch.slice(0, 0), live: None };
        let Some(first) = bits.set_indices().next() else { return Ok((none(), 0)) };
        let end = bits.set_slices().last().map_or(first, |(_, end)| end);
        if count * GATHERED_SHARE >= end - first {
            let live = live.map(|live| live.slice(first, end - first));
            return Ok((Wanted { batch: batch.slice(first, end - first), live }, whole_units));
        }
        let gathered = filter_record_batch(batch, &BooleanArray::new(bits, None)).map_err(unfiltered)?;
        Ok((Wanted { batch: gathered, live: None }, whole_units))
    }

    fn columns_of(&self, context: &Context, wanted: &Wanted) -> Result<Vec<Column>> {
        let live = wanted.live.as_ref().map(|live| BooleanArray::new(live.clone(), None));
        let columns = self.columns.iter().zip(wanted.batch.columns());
        columns
            .map(|(&column, array)| {
                let field = self.schema.field(column);
                // What is handed over in place must not have rows that are gone.
                let left = |array: &ArrayRef| match &live {
                    Some(live) => filter(array, live).map_err(unfiltered),
                    None => Ok(Arc::clone(array)),
                };
                if let Some(schema) = &self.enums
                    && let DataType::Enum(variants) = schema.field(column).data_type()
                {
                    return Column::ranks(field.name(), variants, array);
                }
                match Column::is_in_place(field.data_type(), array) {
                    true => Column::new(context, field.name(), field.data_type(), &left(array)?),
                    false => Column::new(context, field.name(), field.data_type(), array),
                }
            })
            .collect()
    }
}

/// Rows of a unit, and which of them are not deleted; `None` if all are.
struct Wanted {
    batch: RecordBatch,
    live: Option<BooleanBuffer>,
}

impl Wanted {
    fn row_count(&self) -> usize {
        self.live.as_ref().map_or(self.batch.num_rows(), BooleanBuffer::count_set_bits)
    }

    /// No more than the first `count` rows.
    fn first(self, count: usize) -> Self {
        let count = count.min(self.batch.num_rows());
        Self { batch: self.batch.slice(0, count), live: self.live.map(|live| live.slice(0, count)) }
    }
}

impl Worker {
    /// The rows of the next chunk; `None` if there are no more.
    fn next_rows(&mut self) -> Option<Rows> {
        let start = self.rows.start;
        let Some(live) = &self.live else {
            let end = self.rows.end.min(start + CHUNK_ROWS);
            self.rows.start = end;
            return (end > start).then_some(Rows { range: start..end, live: None, count: end - start });
        };
        let (mut end, mut count) = (start, 0);
        let left = live.slice(start, self.rows.end - start);
        for (index, word) in left.bit_chunks().iter_padded().enumerate() {
            // The bits that there is room for; none of them is dropped but in the last word of a chunk.
            let word = lowest_bits(word, CHUNK_ROWS - count);
            if word != 0 {
                count += word.count_ones() as usize;
                end = start + index * u64::BITS as usize + (u64::BITS - word.leading_zeros()) as usize;
            }
            if count == CHUNK_ROWS {
                break;
            }
        }
        self.rows.start = if count == CHUNK_ROWS { end } else { self.rows.end };
        let live = (end - start > count).then(|| left.slice(0, end - start));
        (count > 0).then_some(Rows { range: start..end, live, count })
    }
}

/// The lowest `count` of a word's set bits.
fn lowest_bits(word: u64, count: usize) -> u64 {
    let mut rest = word;
    if word.count_ones() as usize <= count {
        return word;
    }
    for _ in 0..count {
        rest &= rest - 1;
    }
    word & !rest
}

fn unfiltered(error: arrow::error::ArrowError) -> duckdb_neo::Error {
    invalid(format!("the rows of a unit cannot be filtered: {error}"))
}

impl TableFunctionCallbacks for SoaScan {
    type BindData = Bound;
    type GlobalState = Running;
    type LocalState = Worker;

    fn bind(&self, context: &Context, arguments: Vec<BindArgument>, result: BindFunctionHandle<'_>) -> Result<Bound> {
        guard(NAME, Step::Bind, || {
            let bound = Bound::new(context, &arguments)?;
            result.add_result_column(MARK, &mark_type(context)?)?;
            for (column, field) in bound.schema.fields().iter().enumerate() {
                if field.name().eq_ignore_ascii_case(MARK) {
                    return Err(invalid(format!(
                        "a column of the store is named \"{MARK}\", as the scan's own column is"
                    )));
                }
                result.add_result_column(field.name(), &bound.output_type(context, column)?)?;
            }
            // Exact for a fixed version. Otherwise the statement may run on a later version with more rows, and DuckDB
            // would take an exact number for a promise.
            let rows = bound.snapshot()?.0.row_count();
            result.set_cardinality(usize::try_from(rows).unwrap_or(usize::MAX), bound.at.is_some())?;
            Ok(bound)
        })
    }

    fn init_global_state(
        &self,
        bound: &Bound,
        context: &Context,
        columns: InitColumnData<'_>,
    ) -> Result<(Option<Running>, Option<usize>)> {
        let init = || {
            let columns =
                (0..columns.count()?).map(|index| columns.get_column_index(index)).collect::<Result<Vec<_>>>()?;
            let running = bound.run(context, &columns)?;
            let threads = running.plan.units().len().max(1);
            Ok((Some(running), Some(threads)))
        };
        guard(NAME, Step::Init, init)
    }

    fn init_local_state(
        &self,
        _bound: &Bound,
        _running: Option<&Running>,
        _context: &Context,
        _columns: InitColumnData<'_>,
    ) -> Result<Option<Worker>> {
        guard(NAME, Step::InitLocal, || Ok(Some(Worker::default())))
    }

    fn exec(
        &self,
        _bound: &Bound,
        running: Option<&Running>,
        worker: Option<&mut Worker>,
        context: &Context,
        mut output: DataChunkRef<'_>,
        _columns: ExecColumnInfo<'_>,
    ) -> Result<()> {
        guard(NAME, Step::Scan, || {
            let (Some(running), Some(worker)) = (running, worker) else { return Err(stateless()) };
            running.fill(context, worker, &mut OutputChunk::new(&mut output))
        })
    }

    fn progress(&self, _bound: &Bound, running: Option<&Running>, _context: &Context) -> Result<Option<f64>> {
        // A query must not fail for what a bar shows: after a commit it would seem to have done nothing.
        Ok(guard(NAME, Step::Progress, || {
            let Some(running) = running else { return Ok(None) };
            let units = running.plan.units().len();
            let claimed = running.next_unit.load(Ordering::Relaxed).min(units);
            Ok(Some(if units == 0 { 1.0 } else { claimed as f64 / units as f64 }))
        })
        .unwrap_or(None))
    }
}

impl TableFilterPushdownCallbacks for SoaScan {
    fn pushdown_filter(&self, bound: &Bound, _context: &Context, filters: PushdownData<'_>) -> Result<()> {
        guard(NAME, Step::Filter, || {
            let predicate = predicate_of(&filters, &bound.schema)?;
            *bound.predicate.lock().unwrap_or_else(PoisonError::into_inner) = predicate;
            Ok(())
        })
    }
}

impl TablePartitioningCallbacks for SoaScan {
    fn partition_data(
        &self,
        _bound: &Bound,
        _running: Option<&Running>,
        worker: Option<&mut Worker>,
        _context: &Context,
        _request: PartitionData<'_>,
    ) -> Result<usize> {
        // A unit belongs to one thread, and a thread's units come in ascending order.
        guard(NAME, Step::Partition, || worker.map(|worker| worker.unit).ok_or_else(stateless))
    }
}

fn stateless() -> duckdb_neo::Error {
    invalid(format!("{NAME} was called without the state it made"))
}

/// An argument that must be there.
pub(crate) fn text_argument(argument: &BindArgument) -> Result<String> {
    match &argument.value {
        Some(value) => value.get::<String>()?.ok_or_else(|| invalid("the path of the store is NULL")),
        None => Err(invalid("the path of the store must be a constant")),
    }
}

fn bool_argument(argument: &BindArgument) -> Result<bool> {
    match &argument.value {
        Some(value) => Ok(value.get::<bool>()?.unwrap_or_default()),
        None => Err(invalid("whether enums are wanted must be a constant")),
    }
}

fn integer_argument(argument: &BindArgument) -> Result<Option<u64>> {
    match &argument.value {
        Some(value) => value
            .get::<i64>()?
            .map(|version| u64::try_from(version).map_err(|_| invalid(format!("there is no version {version}"))))
            .transpose(),
        None => Err(invalid("the version must be a constant")),
    }
}

fn timestamp_argument(argument: &BindArgument) -> Result<Option<i64>> {
    match &argument.value {
        Some(value) => Ok(value.get::<TimestampTzValue>()?.map(|TimestampTzValue(microseconds)| microseconds)),
        None => Err(invalid("the timestamp must be a constant")),
    }
}
