//! Execution's callbacks.
//!
//! A scan's state is a Rust value that Postgres' memory context of the query owns: it is dropped when the scan ends, and
//! when the context goes, which an error makes happen.

use std::ffi::c_int;

use pgrx::{PgMemoryContexts, PgSqlErrorCode, pg_sys};

use super::slot::{self, Cursor};
use super::{catalog, conditions, encoding, list, palloc_text, planner, run, values};
use crate::compute::Computation;
use crate::error::{PgError, Result, Step};
use crate::plan::{PlanText, Private};
use crate::rows::Chunk;
use crate::scan::{Explained, ExplainedTable, Scan, Shape};
use crate::snapshots::Scope;
use crate::table::Table;
use crate::types::PgValue;

/// What a scan's node keeps in its `fdw_state`.
#[derive(Debug)]
pub(super) struct State {
    /// The parts that a scan is made of once it is known whether it is shared; `None` then.
    parts: Option<(Table, Private)>,
    /// `None` before, and after the scan has ended.
    source: Option<Source>,
    cursor: Cursor,
    /// The filter's operands, ready to be evaluated.
    operands: Vec<ReadyOperand>,
}

/// Where rows come from.
#[derive(Debug)]
enum Source {
    /// The rows of a table.
    Scan(Scan),
    /// What is computed of them.
    Computation(Computation),
}

impl Source {
    fn is_unplanned(&self) -> bool {
        match self {
            Self::Scan(scan) => scan.is_unplanned(),
            Self::Computation(computation) => computation.is_unplanned(),
        }
    }

    fn plan(&mut self, values: &[Option<PgValue>]) -> Result<()> {
        match self {
            Self::Scan(scan) => scan.plan(values),
            Self::Computation(computation) => computation.plan(values),
        }
    }

    fn next_chunk(&mut self) -> Result<Option<&mut Chunk>> {
        match self {
            Self::Scan(scan) => scan.next_chunk(),
            Self::Computation(computation) => computation.next_chunk(),
        }
    }

    fn rescan(&mut self, parameters_changed: bool) {
        match self {
            Self::Scan(scan) => scan.rescan(parameters_changed),
            Self::Computation(computation) => computation.rescan(),
        }
    }

    fn explain(&self, values: &[Option<PgValue>]) -> Result<Explained> {
        match self {
            Self::Scan(scan) => scan.explain(values),
            Self::Computation(computation) => computation.explain(values),
        }
    }
}

/// An expression that the filter compares with.
#[derive(Debug)]
struct ReadyOperand {
    state: *mut pg_sys::ExprState,
    type_oid: pg_sys::Oid,
    /// Its value, if it is a constant.
    constant: Option<PgValue>,
    /// What it was evaluated to.
    datum: pg_sys::Datum,
    is_null: bool,
}

impl State {
    /// The state in a node.
    ///
    /// # Safety
    ///
    /// The node is a scan's that has begun, and nobody else has its state.
    pub(super) unsafe fn of<'a>(node: &pg_sys::ForeignScanState) -> Result<&'a mut Self> {
        // SAFETY: as the caller promises; the state is null or was put there by `begin_foreign_scan`.
        unsafe { node.fdw_state.cast::<Self>().as_mut() }.ok_or_else(|| PgError::internal("a scan has no state"))
    }

    /// The scan.
    pub(super) fn scan(&mut self) -> Result<&mut Scan> {
        match self.source()? {
            Source::Scan(scan) => Ok(scan),
            Source::Computation(_) => Err(PgError::internal("what is computed is no scan")),
        }
    }

    fn source(&mut self) -> Result<&mut Source> {
        self.source.as_mut().ok_or_else(|| PgError::internal("a scan has not begun"))
    }

    /// Takes the parts that a scan is made of.
    pub(super) fn take_parts(&mut self) -> Result<(Table, Private)> {
        self.parts.take().ok_or_else(|| PgError::internal("a scan has begun already"))
    }

    /// Sets the scan.
    pub(super) fn set_scan(&mut self, scan: Scan) {
        self.source = Some(Source::Scan(scan));
    }

    /// The operands' values that are known without an execution.
    fn constants(&self) -> Vec<Option<PgValue>> {
        self.operands.iter().map(|operand| operand.constant.clone()).collect()
    }

    /// Whether the operands' values are needed before the next row.
    fn needs_values(&self) -> bool {
        self.source.as_ref().is_some_and(Source::is_unplanned)
    }

    /// The operands' values, as they were evaluated last.
    fn values(&self) -> Vec<Option<PgValue>> {
        let read = |operand: &ReadyOperand| match &operand.constant {
            Some(value) => Some(value.clone()),
            // SAFETY: the value is of the expression's type, and still in the memory that it was evaluated in.
            None => Some(unsafe { values::read(operand.datum, operand.is_null, operand.type_oid) }),
        };
        self.operands.iter().map(read).collect()
    }
}

/// Evaluates the operands that are no constants.
///
/// An expression may run whole queries, whose errors must reach the client as they are. So nothing here is guarded, and
/// nothing in this frame or its caller's would have to be dropped.
///
/// # Safety
///
/// The operands were made ready for the node whose context this is.
unsafe fn evaluate(operands: &mut [ReadyOperand], context: *mut pg_sys::ExprContext) {
    // SAFETY: a node's context has memory for what lives as long as a row.
    let memory = unsafe { (*context).ecxt_per_tuple_memory };
    // SAFETY: reading a variable of the backend's only thread.
    let former = unsafe { pg_sys::CurrentMemoryContext };
    // SAFETY: the memory is live; the former one is set again below, or by whoever handles an error.
    unsafe { pg_sys::CurrentMemoryContext = memory };
    for operand in operands.iter_mut().filter(|operand| operand.constant.is_none()) {
        // SAFETY: Postgres made the expression ready.
        let Some(function) = (unsafe { (*operand.state).evalfunc }) else { continue };
        // SAFETY: the function is the expression's own.
        operand.datum = unsafe { function(operand.state, context, &raw mut operand.is_null) };
    }
    // SAFETY: the former one is live.
    unsafe { pg_sys::CurrentMemoryContext = former };
}

/// Whether a plan is run by a worker of a parallel query, which is told what its leader reads.
fn is_in_worker() -> bool {
    // SAFETY: reading a variable of the backend's only thread.
    unsafe { pg_sys::ParallelWorkerNumber >= 0 }
}

/// Begins a scan.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn begin_foreign_scan(node: *mut pg_sys::ForeignScanState, flags: c_int) {
    run(Step::Begin, || {
        // SAFETY: the executor passes the node that it begins, and nobody else has it now.
        let node = unsafe { &mut *node };
        // SAFETY: a scan's node has its plan.
        let plan = unsafe { &*node.ss.ps.plan.cast::<pg_sys::ForeignScan>() };
        // SAFETY: and the query's state.
        let query = unsafe { &*node.ss.ps.state };
        // SAFETY: the list is that of this wrapper's plan.
        let text = unsafe { planner::plan_text_of(plan.fdw_private)? };
        // SAFETY: the expressions are the plan's.
        let operands = unsafe { ready_operands(plan.fdw_exprs, &raw mut node.ss.ps) };
        // SAFETY: the node has a slot.
        let shape = unsafe { shape_of(node) };
        let (parts, source) = match text {
            PlanText::Table(private) => {
                // SAFETY: a scan of a relation has it open.
                let relation = unsafe { (*node.ss.ss_currentRelation).rd_id };
                (Some((catalog::table(relation)?, private)), None)
            }
            PlanText::Query(_) if is_in_worker() => return Err(in_worker_alone()),
            PlanText::Query(computed) => {
                let tables = computed.input.tables.iter();
                let tables = tables.map(|rows| catalog::table(pg_sys::Oid::from(rows.table)));
                let tables = tables.collect::<Result<Vec<_>>>()?;
                let is_parameter = |operand: usize| operands.get(operand).is_some_and(|ready| ready.constant.is_none());
                let computation = Computation::begin(&tables, computed, scope_of(query), shape, is_parameter)?;
                (None, Some(Source::Computation(computation)))
            }
        };
        let is_scan = parts.is_some();
        let state = State { parts, source, cursor: Cursor::new(shape.width), operands };
        let state = PgMemoryContexts::For(query.es_query_cxt).leak_and_drop_on_delete(state);
        node.fdw_state = state.cast();
        if is_in_worker() {
            return match plan.scan.plan.parallel_aware {
                true => Ok(()),
                false => Err(in_worker_alone()),
            };
        }
        if is_scan {
            // SAFETY: the state was just made.
            let state = unsafe { &mut *state };
            let (table, private) = state.take_parts()?;
            state.set_scan(Scan::begin(table, private, scope_of(query), shape, changes_rows(query, flags))?);
        }
        Ok(())
    });
}

/// A function that a parallel worker runs would have to guess which version of the store its leader's statement sees.
fn in_worker_alone() -> PgError {
    let message = "a function that runs in a parallel worker cannot read a store";
    PgError::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
        .with_hint("Mark the function PARALLEL RESTRICTED or PARALLEL UNSAFE.")
}

/// What the rows of a scan must be like.
///
/// # Safety
///
/// The node is a scan's that is being begun.
pub(super) unsafe fn shape_of(node: &pg_sys::ForeignScanState) -> Shape {
    // SAFETY: a scan's node has a slot with a description of its columns.
    let description = unsafe { (*node.ss.ss_ScanTupleSlot).tts_tupleDescriptor };
    // SAFETY: as above.
    let width = usize::try_from(unsafe { (*description).natts }).unwrap_or_default();
    Shape { width, encoding: encoding() }
}

/// Whether a query that is executed changes rows.
fn changes_rows(query: &pg_sys::EState, flags: c_int) -> bool {
    // SAFETY: a query's state has its plan.
    let planned = unsafe { &*query.es_plannedstmt };
    let is_change = planned.commandType != pg_sys::CmdType::CMD_SELECT || planned.hasModifyingCTE;
    is_change && flags.cast_unsigned() & pg_sys::EXEC_FLAG_EXPLAIN_ONLY == 0
}

/// Whose snapshot a scan sees: the statement's, which is the transaction's where that keeps one.
pub(super) fn scope_of(query: &pg_sys::EState) -> Scope {
    Scope { statement: query.es_snapshot.addr(), is_of_transaction: keeps_snapshot() }
}

/// As [`scope_of`] for a statement that is no query.
pub(super) fn scope_without_query() -> Scope {
    Scope { statement: 0, is_of_transaction: keeps_snapshot() }
}

/// Whether all statements of a transaction see what the first one saw.
fn keeps_snapshot() -> bool {
    // SAFETY: reading a variable of the backend's only thread.
    let isolation = unsafe { pg_sys::XactIsoLevel };
    isolation >= pg_sys::XACT_REPEATABLE_READ as c_int
}

/// # Safety
///
/// The expressions are those of the node's plan.
unsafe fn ready_operands(plan_list: *mut pg_sys::List, parent: *mut pg_sys::PlanState) -> Vec<ReadyOperand> {
    // SAFETY: as the caller promises.
    let expressions: Vec<*mut pg_sys::Expr> = unsafe { list::elements(plan_list) };
    let ready = |expression: *mut pg_sys::Expr| ReadyOperand {
        // SAFETY: as the caller promises.
        state: unsafe { pg_sys::ExecInitExpr(expression, parent) },
        // SAFETY: as above.
        type_oid: unsafe { pg_sys::exprType(expression.cast()) },
        // SAFETY: as above.
        constant: unsafe { conditions::constant(expression) },
        datum: pg_sys::Datum::null(),
        is_null: true,
    };
    expressions.into_iter().map(ready).collect()
}

/// Gives the next row.
///
/// This is called for every row of a query. As long as the chunk has rows, nothing is done that could fail, so that no
/// guard is needed, whose price would be that of the whole rest.
pub(super) unsafe extern "C-unwind" fn iterate_foreign_scan(
    node: *mut pg_sys::ForeignScanState,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the executor passes the node that it runs.
    let scan_node = unsafe { &*node };
    let (slot, state) = (scan_node.ss.ss_ScanTupleSlot, scan_node.fdw_state.cast::<State>());
    // SAFETY: the state is null or was put there by `begin_foreign_scan`, and nobody else has it now.
    if let Some(state) = unsafe { state.as_mut() } {
        // SAFETY: the node's slot is always the same.
        if unsafe { state.cursor.next(slot) } {
            return slot;
        }
        if state.needs_values() {
            // SAFETY: the operands are those of the node.
            unsafe { evaluate(&mut state.operands, scan_node.ss.ps.ps_ExprContext) };
        }
    }
    // SAFETY: the node is live.
    unsafe { go_on(node) }
}

/// Gives the next row, from the next chunk if there is none in this one.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn go_on(node: *mut pg_sys::ForeignScanState) -> *mut pg_sys::TupleTableSlot {
    run(Step::Iterate, || {
        // SAFETY: the executor passes the node that it runs, and nobody else has it now.
        let node = unsafe { &*node };
        let slot = node.ss.ss_ScanTupleSlot;
        // SAFETY: a scan's node has a slot.
        unsafe { slot::clear(slot) };
        // SAFETY: the scan has begun.
        let state = unsafe { State::of(node)? };
        // There are rows left if the slot only had to be emptied.
        // SAFETY: the node's slot is always the same.
        if unsafe { state.cursor.next(slot) } {
            return Ok(slot);
        }
        if state.needs_values() {
            let values = state.values();
            state.source()?.plan(&values)?;
        }
        let State { source: Some(source), cursor, .. } = state else {
            return Err(PgError::internal("a scan has not begun"));
        };
        if let Some(chunk) = source.next_chunk()? {
            cursor.set_chunk(chunk);
            // SAFETY: as above.
            unsafe { cursor.next(slot) };
        }
        Ok(slot)
    })
}

/// Starts a scan again.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn rescan_foreign_scan(node: *mut pg_sys::ForeignScanState) {
    run(Step::Rescan, || {
        // SAFETY: the executor passes a node whose scan has begun.
        let node = unsafe { &*node };
        // SAFETY: as above.
        let state = unsafe { State::of(node)? };
        let parameters_changed = !node.ss.ps.chgParam.is_null();
        state.cursor.empty();
        state.source()?.rescan(parameters_changed);
        Ok(())
    });
}

/// Ends a scan: lets go of its files and its memory.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn end_foreign_scan(node: *mut pg_sys::ForeignScanState) {
    run(Step::End, || {
        // SAFETY: the executor passes the node that it ends.
        let node = unsafe { &*node };
        // A scan whose beginning failed has no state.
        // SAFETY: nobody else has the state now.
        if let Some(state) = unsafe { node.fdw_state.cast::<State>().as_mut() } {
            // SAFETY: the node's slot is always the same.
            unsafe { state.cursor.release(node.ss.ss_ScanTupleSlot) };
            (state.source, state.parts) = (None, None);
        }
        Ok(())
    });
}

/// Says what a scan reads and leaves out.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn explain_foreign_scan(
    node: *mut pg_sys::ForeignScanState,
    output: *mut pg_sys::ExplainState,
) {
    run(Step::Explain, || {
        // SAFETY: EXPLAIN passes a node whose scan has begun.
        let node = unsafe { &*node };
        // SAFETY: as above.
        let state = unsafe { State::of(node)? };
        let constants = state.constants();
        let Explained { tables, joins, computes, rows_read } = state.source()?.explain(&constants)?;
        if let Some(joins) = joins {
            property("SoA Joins", Property::Text(&joins), output)?;
            let (tables_name, table_name) = (palloc_text("SoA Tables")?, palloc_text("SoA Table")?);
            // SAFETY: the names are strings; here and below.
            unsafe { pg_sys::ExplainOpenGroup(tables_name, tables_name, false, output) };
            for table in &tables {
                // SAFETY: as above.
                unsafe { pg_sys::ExplainOpenGroup(table_name, std::ptr::null(), true, output) };
                property("SoA Table", Property::Text(&table.name), output)?;
                table_properties(table, output)?;
                // SAFETY: as above.
                unsafe { pg_sys::ExplainCloseGroup(table_name, std::ptr::null(), true, output) };
            }
            // SAFETY: as above.
            unsafe { pg_sys::ExplainCloseGroup(tables_name, tables_name, false, output) };
        } else {
            tables.iter().try_for_each(|table| table_properties(table, output))?;
        }
        if let Some(computes) = computes {
            property("SoA Computes", Property::Text(&computes), output)?;
        }
        // SAFETY: EXPLAIN passes its state.
        if unsafe { (*output).verbose } {
            // SAFETY: a scan's plan is one.
            let plan_list = unsafe { (*node.ss.ps.plan.cast::<pg_sys::ForeignScan>()).fdw_private };
            // SAFETY: the list is this wrapper's.
            if let Some(left) = unsafe { planner::left_of(plan_list) } {
                property("SoA Leaves to Postgres", Property::Text(&left), output)?;
            }
        }
        // SAFETY: as above.
        match rows_read.filter(|_| unsafe { (*output).analyze }) {
            Some(rows_read) => property("SoA Rows Read", Property::Number(rows_read), output),
            None => Ok(()),
        }
    });
}

fn table_properties(table: &ExplainedTable, output: *mut pg_sys::ExplainState) -> Result<()> {
    let text = |label: &str, value: &str| property(label, Property::Text(value), output);
    let number = |label: &str, value: u64| property(label, Property::Number(value), output);
    let counters = table.counters;
    text("SoA Store", &table.store)?;
    number("SoA Snapshot", table.version)?;
    if table.log_rows > 0 {
        number("SoA Log Rows", table.log_rows)?;
    }
    text("SoA Segments", &format!("{} of {}", counters.segments_read, counters.segments_total))?;
    text("SoA Units", &format!("{} of {}", counters.units_read, counters.units_total))?;
    text("SoA Form", table.form)?;
    text("SoA Columns", &table.columns.join(", "))?;
    match &table.filter {
        Some(filter) => text("SoA Filter", filter),
        None => Ok(()),
    }
}

enum Property<'a> {
    Text(&'a str),
    Number(u64),
}

fn property(label: &str, value: Property<'_>, output: *mut pg_sys::ExplainState) -> Result<()> {
    let label = palloc_text(label)?;
    match value {
        // SAFETY: both are strings.
        Property::Text(value) => unsafe { pg_sys::ExplainPropertyText(label, palloc_text(value)?, output) },
        Property::Number(value) => {
            let value = i64::try_from(value).unwrap_or(i64::MAX);
            // SAFETY: the label is a string, and there is no unit.
            unsafe { pg_sys::ExplainPropertyInteger(label, std::ptr::null(), value, output) };
        }
    }
    Ok(())
}
