//! Changing rows: `INSERT`, `COPY`, `UPDATE`, `DELETE` and `TRUNCATE`.
//!
//! What a statement adds is collected, and part of its transaction when it ends; what it deletes is so at once, by the places
//! in which its scan has found the rows (their `ctid`). Nothing is committed here ([`crate::transactions`]).

use std::collections::HashMap;
use std::ffi::{c_int, c_void};
use std::{ptr, slice};

use pgrx::{PgMemoryContexts, PgSqlErrorCode, pg_sys};
use roaring::RoaringBitmap;
use soa_core::scan::Located;
use soa_core::schema::Schema;
use soa_core::store::{Additions, Store};

use super::{catalog, executor, list, planner, run, settings, slot, values};
use crate::error::{PgError, Result, Step};
use crate::options;
use crate::rows::RowPlace;
use crate::snapshots::{self, Pin};
use crate::table::Table;
use crate::transactions::{self, Statement};
use crate::types::PgValue;
use crate::writing::RowWriter;

unsafe extern "C-unwind" {
    /// Without `pgrx`'s guard, which would make errors anew and lose the names of columns and constraints that are in them.
    fn ExecConstraints(
        relation: *mut pg_sys::ResultRelInfo,
        slot: *mut pg_sys::TupleTableSlot,
        query: *mut pg_sys::EState,
    );
    fn ExecPartitionCheck(
        relation: *mut pg_sys::ResultRelInfo,
        slot: *mut pg_sys::TupleTableSlot,
        query: *mut pg_sys::EState,
        is_error: bool,
    ) -> bool;
}

/// The names of what is asked of rows that are to be changed.
const PLACE: &std::ffi::CStr = c"ctid";
const WHOLE_ROW: &std::ffi::CStr = c"wholerow";
/// Of so many rows the keys are looked up at once.
const LOOKED_UP_ROWS: c_int = 1_000;

/// A statement that changes a foreign table, in the `ri_FdwState` of its relation.
struct Modification {
    store: Store,
    /// Drops the last of it once the rows' places need not stay.
    _statement: Statement,
    /// What the rows that are deleted were found in, and where.
    seen: Option<Pin>,
    gone: HashMap<u16, RoaringBitmap>,
    writer: RowWriter,
    /// The columns of a row that are written, by their places, and their types.
    columns: Vec<(usize, pg_sys::Oid)>,
    additions: Option<Additions>,
    /// Whether rows are left out whose keys are there already.
    leaves_out: bool,
    /// The columns of the plan's rows that have the place of a row and the row itself; 0 for none.
    place: pg_sys::AttrNumber,
    whole_row: pg_sys::AttrNumber,
    /// The row that was deleted last, for `RETURNING`.
    deleted: Box<pg_sys::HeapTupleData>,
    /// For what reading a row's values takes.
    row_memory: pg_sys::MemoryContext,
}

impl Modification {
    fn new(relation: pg_sys::Relation, query: &pg_sys::EState, operation: pg_sys::CmdType::Type) -> Result<Self> {
        // SAFETY: the relation is open.
        let table = catalog::table(unsafe { (*relation).rd_id })?;
        check_updatable(&table)?;
        let store = if operation == pg_sys::CmdType::CMD_INSERT { table.open_or_make()? } else { table.open()? };
        let statement = transactions::begin(&store, settings::several_stores())?;
        let additions = transactions::additions(store.path())?;
        let seen = snapshots::pin(&store, executor::scope_of(query))?;
        let numbers: Vec<i16> = table.attributes.iter().map(|attribute| attribute.number).collect();
        table.bind(&numbers, &seen)?;
        if operation == pg_sys::CmdType::CMD_UPDATE {
            check_has_all(&table, additions.schema())?;
        }
        let writer = RowWriter::new(&table, additions.schema())?;
        // SAFETY: as above.
        let description = unsafe { (*relation).rd_att };
        // SAFETY: an open relation has one, which stays as long as it is open.
        let description = unsafe { pgrx::PgTupleDesc::from_pg_unchecked(description) };
        let type_of = |place: usize| description.get(place).map_or(pg_sys::InvalidOid, |column| column.atttypid);
        let columns = writer.places().into_iter().map(|place| (place, type_of(place))).collect();
        // SAFETY: the query's memory is live, and the name lives as long as the library.
        let row_memory = unsafe {
            pg_sys::AllocSetContextCreateInternal(
                query.es_query_cxt,
                c"soa_fdw row".as_ptr(),
                pg_sys::ALLOCSET_SMALL_MINSIZE as usize,
                pg_sys::ALLOCSET_SMALL_INITSIZE as usize,
                pg_sys::ALLOCSET_SMALL_MAXSIZE as usize,
            )
        };
        Ok(Self {
            store,
            _statement: statement,
            seen: Some(seen),
            gone: HashMap::new(),
            writer,
            columns,
            additions: Some(additions),
            leaves_out: false,
            place: 0,
            whole_row: 0,
            deleted: Box::default(),
            row_memory,
        })
    }

    /// Adds a row. Returns whether there is one more: not if it is left out.
    ///
    /// # Safety
    ///
    /// The slot has a row of the relation.
    unsafe fn insert(&mut self, slot: *mut pg_sys::TupleTableSlot) -> Result<bool> {
        // SAFETY: as the caller promises.
        unsafe { self.push(slot)? };
        if self.leaves_out {
            return Ok(self.write_new()?.into_iter().all(|is_new| is_new));
        }
        if self.writer.is_full() {
            self.write()?;
        }
        Ok(true)
    }

    /// # Safety
    ///
    /// The slot has a row of the relation.
    unsafe fn push(&mut self, slot: *mut pg_sys::TupleTableSlot) -> Result<()> {
        let width = self.columns.iter().map(|(place, _)| place + 1).max().unwrap_or(0);
        // SAFETY: as the caller promises.
        let (datums, nulls) = unsafe { slot::values(slot, width) };
        let values = self.columns.iter().map(|(place, type_oid)| match (datums.get(*place), nulls.get(*place)) {
            // SAFETY: the value is of the column's type.
            (Some(datum), Some(is_null)) => unsafe { values::read_stored(*datum, *is_null, *type_oid) },
            _ => PgValue::Null,
        });
        // SAFETY: reading a variable of the backend's only thread.
        let former = unsafe { pg_sys::CurrentMemoryContext };
        // SAFETY: the memory is live; the former one is set again below, or by whoever handles an error.
        unsafe { pg_sys::CurrentMemoryContext = self.row_memory };
        let pushed = self.writer.push(values);
        // SAFETY: the former one is live.
        unsafe { pg_sys::CurrentMemoryContext = former };
        // SAFETY: nothing is kept that is in it.
        unsafe { pg_sys::MemoryContextReset(self.row_memory) };
        pushed
    }

    /// Hands on those of the rows whose keys are new. Says of each row whether it was.
    fn write_new(&mut self) -> Result<Vec<bool>> {
        let seen = self.seen.as_ref().ok_or_else(|| PgError::internal("a statement has ended"))?;
        let additions = self.additions.as_mut().ok_or_else(|| PgError::internal("a statement has ended"))?;
        let Some(batch) = self.writer.take()? else { return Ok(Vec::new()) };
        super::check_for_interrupts();
        Ok(additions.write_new(&batch, seen)?)
    }

    /// Hands the rows on.
    fn write(&mut self) -> Result<()> {
        let additions = self.additions.as_mut().ok_or_else(|| PgError::internal("a statement has ended"))?;
        if let Some(batch) = self.writer.take()? {
            super::check_for_interrupts();
            additions.write(&batch)?;
        }
        Ok(())
    }

    /// Deletes a row, when the statement is over; false if the statement has met it before.
    ///
    /// # Safety
    ///
    /// The slot has a row of the plan.
    unsafe fn delete(&mut self, row: *mut pg_sys::TupleTableSlot) -> Result<bool> {
        // SAFETY: as the caller promises.
        let place = unsafe { slot::attribute(row, self.place) };
        let place = place.ok_or_else(|| PgError::internal("a row that is to be changed has no place"))?;
        // SAFETY: the column has the address of one.
        let place: RowPlace = slot::place(unsafe { place.cast_mut_ptr::<pg_sys::ItemPointerData>().read_unaligned() });
        Ok(self.gone.entry(place.part).or_default().insert(place.number))
    }

    /// Puts the row that was deleted into a slot.
    ///
    /// # Safety
    ///
    /// `row` has a row of the plan, and the slot one of the relation.
    unsafe fn show_deleted(&mut self, row: *mut pg_sys::TupleTableSlot, slot: *mut pg_sys::TupleTableSlot) {
        // SAFETY: as the caller promises.
        let Some(whole) = (unsafe { slot::attribute(row, self.whole_row) }) else { return };
        // SAFETY: a row as a value is a variable-length value.
        let header = unsafe { pg_sys::pg_detoast_datum(whole.cast_mut_ptr()) };
        self.deleted.t_data = header.cast();
        // SAFETY: its header says how long it is.
        self.deleted.t_len = unsafe { pgrx::varsize_any(header) } as u32;
        // SAFETY: as the caller promises; the tuple lives until the next one, and the row it leads to as long as the plan's.
        unsafe { pg_sys::ExecForceStoreHeapTuple(&raw mut *self.deleted, slot, false) };
    }

    /// What the statement has deleted so far is deleted in its transaction.
    fn finish_deletions(&mut self) -> Result<()> {
        // SAFETY: it reads a variable.
        let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
        let store = self.store.path();
        for (part, numbers) in std::mem::take(&mut self.gone) {
            let seen = self.seen.as_ref().ok_or_else(|| PgError::internal("a statement has ended"))?;
            let part = transactions::part_of(RowPlace { part, number: 0 }, seen)?;
            let located = Located { part, numbers: numbers.into_iter().collect() };
            let several = settings::several_stores();
            let deleted =
                transactions::change(store, level, several, |transaction| transaction.delete(seen, &located))?;
            let is_whole = deleted == located.numbers.len() as u64;
            if !is_whole {
                let code = PgSqlErrorCode::ERRCODE_TRIGGERED_DATA_CHANGE_VIOLATION;
                let message =
                    "a row that is to be changed was already changed by an operation that the same command triggered";
                return Err(PgError::new(code, message)
                    .with_hint("Consider using an AFTER trigger instead of a BEFORE trigger to change other rows."));
            }
        }
        Ok(())
    }

    /// And what it has added so far is added.
    fn finish_additions(&mut self) -> Result<()> {
        self.write()?;
        let additions = self.additions.take().ok_or_else(|| PgError::internal("a statement has ended"))?;
        let store = self.store.path();
        if additions.row_count() > 0 {
            // SAFETY: it reads a variable.
            let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
            let several = settings::several_stores();
            match self.leaves_out {
                false => transactions::change(store, level, several, |transaction| transaction.add(additions)),
                true => transactions::add_left(store, level, several, additions),
            }?;
        }
        self.additions = Some(transactions::additions(store)?);
        Ok(())
    }
}

/// Refuses to replace rows of which the foreign table does not have all columns: the others' values would be lost.
fn check_has_all(table: &Table, schema: &Schema) -> Result<()> {
    let has = |name: &str| table.attributes.iter().any(|attribute| attribute.store_name() == name);
    let Some(missing) = schema.fields().iter().find(|field| !has(field.name())) else { return Ok(()) };
    let message = format!(
        "foreign table \"{}\" cannot be updated: it lacks the store's column \"{}\"",
        table.name,
        missing.name()
    );
    Err(PgError::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message)
        .with_detail("A row is replaced as a whole, so the values of that column would be lost.")
        .with_hint("ALTER FOREIGN TABLE ... ADD COLUMN, or import the table again."))
}

fn check_updatable(table: &Table) -> Result<()> {
    if options::is_updatable(&table.server_options, &table.options) {
        return Ok(());
    }
    let message = format!("foreign table \"{}\" cannot be changed", table.name);
    Err(PgError::new(PgSqlErrorCode::ERRCODE_OBJECT_NOT_IN_PREREQUISITE_STATE, message).with_hint(NOT_UPDATABLE))
}

const NOT_UPDATABLE: &str = "A store can be changed through a server with the option updatable 'true', and a table without \
                             updatable 'false' and without a \"version\".";

/// Which commands may change a foreign table, as bits.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn is_foreign_rel_updatable(relation: pg_sys::Relation) -> c_int {
    run(Step::Modify, || {
        // SAFETY: Postgres passes an open relation.
        let table = catalog::table(unsafe { (*relation).rd_id })?;
        use pg_sys::CmdType::{CMD_DELETE, CMD_INSERT, CMD_UPDATE};
        Ok(match options::is_updatable(&table.server_options, &table.options) {
            true => 1 << CMD_INSERT | 1 << CMD_UPDATE | 1 << CMD_DELETE,
            false => 0,
        })
    })
}

/// Asks a scan where the rows are that it finds.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn add_foreign_update_targets(
    root: *mut pg_sys::PlannerInfo,
    index: pg_sys::Index,
    _entry: *mut pg_sys::RangeTblEntry,
    _relation: pg_sys::Relation,
) {
    run(Step::Modify, || {
        let number = pg_sys::SelfItemPointerAttributeNumber as pg_sys::AttrNumber;
        // SAFETY: it makes a node.
        let place = unsafe { pg_sys::makeVar(index as c_int, number, pg_sys::TIDOID, -1, pg_sys::InvalidOid, 0) };
        // SAFETY: the planner's pointers are live.
        unsafe { pg_sys::add_row_identity_var(root, place, index, PLACE.as_ptr()) };
        // SAFETY: as above.
        let parse = unsafe { (*root).parse };
        // SAFETY: as above.
        let parse = unsafe { &*parse };
        // For an UPDATE, Postgres asks for it itself.
        if parse.commandType == pg_sys::CmdType::CMD_DELETE && !parse.returningList.is_null() {
            // As Postgres has it, so that all relations of a partitioned table agree on it.
            // SAFETY: it makes a node.
            let whole = unsafe { pg_sys::makeVar(index as c_int, 0, pg_sys::RECORDOID, -1, pg_sys::InvalidOid, 0) };
            // SAFETY: as above.
            unsafe { pg_sys::add_row_identity_var(root, whole, index, WHOLE_ROW.as_ptr()) };
        }
        Ok(())
    });
}

/// Looks at what is planned. There is nothing to say to execution.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn plan_foreign_modify(
    _root: *mut pg_sys::PlannerInfo,
    plan: *mut pg_sys::ModifyTable,
    _relation: pg_sys::Index,
    _subplan: c_int,
) -> *mut pg_sys::List {
    run(Step::Modify, || {
        // SAFETY: the planner passes the plan.
        match unsafe { (*plan).onConflictAction } {
            pg_sys::OnConflictAction::ONCONFLICT_NONE | pg_sys::OnConflictAction::ONCONFLICT_NOTHING => {
                Ok(ptr::null_mut())
            }
            _ => {
                let message = "INSERT ... ON CONFLICT DO UPDATE is not supported for stores";
                Err(PgError::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
                    .with_hint("Delete the rows with these keys first, in the same transaction."))
            }
        }
    })
}

/// Whether a statement leaves out rows that conflict with others: `ON CONFLICT DO NOTHING`.
fn leaves_out(node: &pg_sys::ModifyTableState) -> bool {
    // SAFETY: the node is that of a COPY, which has no plan, or a plan's.
    let plan = unsafe { node.ps.plan.cast::<pg_sys::ModifyTable>().as_ref() };
    plan.is_some_and(|plan| plan.onConflictAction == pg_sys::OnConflictAction::ONCONFLICT_NOTHING)
}

/// Begins a statement's changes.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn begin_foreign_modify(
    node: *mut pg_sys::ModifyTableState,
    relation: *mut pg_sys::ResultRelInfo,
    _private: *mut pg_sys::List,
    _subplan: c_int,
    flags: c_int,
) {
    run(Step::Modify, || {
        if flags.cast_unsigned() & pg_sys::EXEC_FLAG_EXPLAIN_ONLY != 0 {
            return Ok(());
        }
        // SAFETY: the executor passes the node that it begins.
        let node = unsafe { &*node };
        // SAFETY: and the relation that is changed, which nobody else has now.
        let relation = unsafe { &mut *relation };
        // SAFETY: the node has the query's state.
        let query = unsafe { &*node.ps.state };
        let mut modification = Modification::new(relation.ri_RelationDesc, query, node.operation)?;
        modification.leaves_out = leaves_out(node);
        if node.operation != pg_sys::CmdType::CMD_INSERT {
            // SAFETY: the node has a plan below it.
            let below = unsafe { (*node.ps.lefttree).plan };
            // SAFETY: as above.
            let target = unsafe { (*below).targetlist };
            // SAFETY: the list is the plan's.
            modification.place = unsafe { pg_sys::ExecFindJunkAttributeInTlist(target, PLACE.as_ptr()) };
            // SAFETY: as above.
            modification.whole_row = unsafe { pg_sys::ExecFindJunkAttributeInTlist(target, WHOLE_ROW.as_ptr()) };
        }
        keep(modification, relation, query);
        Ok(())
    });
}

/// Begins a `COPY`, or to take rows that belong into this partition.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn begin_foreign_insert(
    node: *mut pg_sys::ModifyTableState,
    relation: *mut pg_sys::ResultRelInfo,
) {
    run(Step::Modify, || {
        // SAFETY: the executor passes both.
        let (node, relation) = (unsafe { &*node }, unsafe { &mut *relation });
        // SAFETY: the node has the query's state.
        let query = unsafe { &*node.ps.state };
        if !relation.ri_FdwState.is_null() {
            let message = "rows cannot be moved into a foreign table that the same statement updates";
            return Err(PgError::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message));
        }
        let mut modification = Modification::new(relation.ri_RelationDesc, query, pg_sys::CmdType::CMD_INSERT)?;
        modification.leaves_out = leaves_out(node);
        keep(modification, relation, query);
        Ok(())
    });
}

/// Leaves a modification to the query's memory.
fn keep(modification: Modification, relation: &mut pg_sys::ResultRelInfo, query: &pg_sys::EState) {
    let mut memory = PgMemoryContexts::For(query.es_query_cxt);
    relation.ri_FdwState = memory.leak_and_drop_on_delete(modification).cast::<c_void>();
}

/// # Safety
///
/// The relation is one whose modification has begun, and nobody else has it now.
unsafe fn modification_of<'a>(relation: *mut pg_sys::ResultRelInfo) -> Result<&'a mut Modification> {
    // SAFETY: as the caller promises.
    let state = unsafe { (*relation).ri_FdwState };
    // SAFETY: it is null or was put there by `keep`.
    unsafe { state.cast::<Modification>().as_mut() }.ok_or_else(|| PgError::internal("a statement has no state"))
}

/// Checks a new row by what the table declares, which Postgres leaves to the wrapper: NOT NULL, CHECK, and of a partition its
/// bounds, unless the row was sent there by its values (`is_routed`). The planner takes them for true. What fails is an error of
/// Postgres', which leaves this function and its callers at once.
///
/// # Safety
///
/// The query and the relation are live, and the slot has a row of the relation. Nothing is to be dropped up to Postgres.
unsafe fn check_constraints(
    query: *mut pg_sys::EState,
    relation: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    is_routed: bool,
) {
    // SAFETY: as the caller promises.
    let opened = unsafe { (*relation).ri_RelationDesc };
    // SAFETY: the relation is open.
    let opened = unsafe { &*opened };
    // SAFETY: an open relation has a description.
    if !unsafe { (*opened.rd_att).constr }.is_null() {
        // SAFETY: as the caller promises.
        unsafe { ExecConstraints(relation, slot, query) };
    }
    // SAFETY: an open relation has an entry in the catalog.
    if unsafe { (*opened.rd_rel).relispartition } && !is_routed {
        // SAFETY: as the caller promises.
        unsafe { ExecPartitionCheck(relation, slot, query, true) };
    }
}

/// Whether a row that is inserted was sent to the relation by its values. A trigger may have changed it since.
///
/// # Safety
///
/// The relation is live.
unsafe fn is_routed(relation: *mut pg_sys::ResultRelInfo) -> bool {
    // SAFETY: as the caller promises.
    let relation = unsafe { &*relation };
    // SAFETY: a trigger's description is null or live.
    let triggers = unsafe { relation.ri_TrigDesc.as_ref() };
    !relation.ri_RootResultRelInfo.is_null() && !triggers.is_some_and(|triggers| triggers.trig_insert_before_row)
}

/// Adds a row.
pub(super) unsafe extern "C-unwind" fn exec_foreign_insert(
    query: *mut pg_sys::EState,
    relation: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    _row: *mut pg_sys::TupleTableSlot,
) -> *mut pg_sys::TupleTableSlot {
    // SAFETY: the executor passes a live relation.
    let is_routed = unsafe { is_routed(relation) };
    // SAFETY: and its state, and a new row of the relation.
    unsafe { check_constraints(query, relation, slot, is_routed) };
    // SAFETY: the same.
    unsafe { insert(relation, slot) }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn insert(
    relation: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
) -> *mut pg_sys::TupleTableSlot {
    run(Step::Modify, || {
        // SAFETY: the executor passes a relation whose modification has begun.
        let modification = unsafe { modification_of(relation)? };
        // SAFETY: and a row of it.
        let is_added = unsafe { modification.insert(slot)? };
        Ok(if is_added { slot } else { ptr::null_mut() })
    })
}

/// How many rows are inserted at once. Rows that are added come one by one, and are collected here; keys are looked up for many
/// at once, as far as nobody asks for single rows.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn get_foreign_modify_batch_size(relation: *mut pg_sys::ResultRelInfo) -> c_int {
    // SAFETY: the executor passes a live relation.
    let target = unsafe { &*relation };
    // SAFETY: a trigger's description is null or live.
    let triggers = unsafe { target.ri_TrigDesc.as_ref() };
    let has_triggers =
        triggers.is_some_and(|triggers| triggers.trig_insert_before_row || triggers.trig_insert_after_row);
    let shows_rows = !target.ri_projectReturning.is_null() || !target.ri_WithCheckOptions.is_null();
    // SAFETY: it is null, of a statement that is only shown, or was put there by `keep`.
    let modification = unsafe { target.ri_FdwState.cast::<Modification>().as_ref() };
    let leaves_out = modification.is_some_and(|modification| modification.leaves_out);
    if leaves_out && !has_triggers && !shows_rows { LOOKED_UP_ROWS } else { 1 }
}

/// Adds several rows, but for those that are left out: the ones that stay come first.
pub(super) unsafe extern "C-unwind" fn exec_foreign_batch_insert(
    query: *mut pg_sys::EState,
    relation: *mut pg_sys::ResultRelInfo,
    slots: *mut *mut pg_sys::TupleTableSlot,
    _rows: *mut *mut pg_sys::TupleTableSlot,
    count: *mut c_int,
) -> *mut *mut pg_sys::TupleTableSlot {
    // SAFETY: the executor passes a live relation.
    let is_routed = unsafe { is_routed(relation) };
    // SAFETY: and how many slots there are.
    let slot_count = usize::try_from(unsafe { count.read() }).unwrap_or_default();
    for place in 0..slot_count {
        // SAFETY: there are so many.
        let slot = unsafe { slots.add(place) };
        // SAFETY: as above.
        let slot = unsafe { slot.read() };
        // SAFETY: each has a new row of the relation.
        unsafe { check_constraints(query, relation, slot, is_routed) };
    }
    // SAFETY: the same.
    unsafe { insert_all(relation, slots, count) };
    slots
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn insert_all(
    relation: *mut pg_sys::ResultRelInfo,
    slots: *mut *mut pg_sys::TupleTableSlot,
    count: *mut c_int,
) {
    run(Step::Modify, || {
        // SAFETY: the executor passes how many slots there are, which nobody else has now; here and below.
        let count = unsafe { &mut *count };
        // SAFETY: as above.
        let slots = unsafe { slice::from_raw_parts_mut(slots, usize::try_from(*count).unwrap_or_default()) };
        // SAFETY: the executor passes a relation whose modification has begun.
        let modification = unsafe { modification_of(relation)? };
        let mut are_new = Vec::with_capacity(slots.len());
        for slot in &*slots {
            // SAFETY: each has a row of the relation.
            unsafe { modification.push(*slot)? };
            if modification.writer.is_full() {
                are_new.extend(modification.write_new()?);
            }
        }
        are_new.extend(modification.write_new()?);
        let (left, left_out): (Vec<_>, Vec<_>) = slots.iter().copied().zip(are_new).partition(|(_, is_new)| *is_new);
        *count = left.len() as c_int;
        slots.iter_mut().zip(left.into_iter().chain(left_out)).for_each(|(place, (slot, _))| *place = slot);
        Ok(())
    });
}

/// Replaces a row.
pub(super) unsafe extern "C-unwind" fn exec_foreign_update(
    query: *mut pg_sys::EState,
    relation: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    row: *mut pg_sys::TupleTableSlot,
) -> *mut pg_sys::TupleTableSlot {
    // A row of a store stays in its partition, so one that belongs to another is an error.
    // SAFETY: the executor passes its state, a live relation and a new row of it.
    unsafe { check_constraints(query, relation, slot, false) };
    // SAFETY: the same, and the plan's row.
    unsafe { update(relation, slot, row) }
}

#[pgrx::pg_guard]
unsafe extern "C-unwind" fn update(
    relation: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    row: *mut pg_sys::TupleTableSlot,
) -> *mut pg_sys::TupleTableSlot {
    run(Step::Modify, || {
        // SAFETY: as above.
        let modification = unsafe { modification_of(relation)? };
        // A row that was changed already stays as that change has made it.
        // SAFETY: the other slot has the plan's row.
        if !unsafe { modification.delete(row)? } {
            return Ok(ptr::null_mut());
        }
        // SAFETY: and this one the new row.
        let is_added = unsafe { modification.insert(slot)? };
        Ok(if is_added { slot } else { ptr::null_mut() })
    })
}

/// Deletes a row.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn exec_foreign_delete(
    _query: *mut pg_sys::EState,
    relation: *mut pg_sys::ResultRelInfo,
    slot: *mut pg_sys::TupleTableSlot,
    row: *mut pg_sys::TupleTableSlot,
) -> *mut pg_sys::TupleTableSlot {
    run(Step::Modify, || {
        // SAFETY: as above.
        let modification = unsafe { modification_of(relation)? };
        // SAFETY: the slot has the plan's row.
        if !unsafe { modification.delete(row)? } {
            return Ok(ptr::null_mut());
        }
        // SAFETY: as above, and the other is for a row of the relation.
        unsafe { modification.show_deleted(row, slot) };
        Ok(slot)
    })
}

/// The statement's changes are over, or a `COPY` is.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn end_foreign_modify(
    _query: *mut pg_sys::EState,
    relation: *mut pg_sys::ResultRelInfo,
) {
    run(Step::Modify, || {
        // SAFETY: the executor passes the relation.
        if unsafe { (*relation).ri_FdwState }.is_null() {
            return Ok(());
        }
        // SAFETY: its modification has begun.
        let modification = unsafe { modification_of(relation)? };
        modification.finish_deletions()?;
        modification.finish_additions()
    });
}

/// `TRUNCATE`.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn exec_foreign_truncate(
    relations: *mut pg_sys::List,
    _behavior: pg_sys::DropBehavior::Type,
    _restarts_sequences: bool,
) {
    run(Step::Modify, || {
        // SAFETY: the list is one of relations.
        let relations: Vec<pg_sys::Relation> = unsafe { list::elements(relations) };
        for relation in relations {
            // SAFETY: which are open.
            let table = catalog::table(unsafe { (*relation).rd_id })?;
            check_updatable(&table)?;
            let store = table.open()?;
            let several = settings::several_stores();
            let _statement = transactions::begin(&store, several)?;
            store.publish_log()?;
            let seen = snapshots::pin(&store, executor::scope_without_query())?;
            // SAFETY: it reads a variable.
            let level = unsafe { pg_sys::GetCurrentTransactionNestLevel() };
            transactions::change(store.path(), level, several, |transaction| transaction.truncate(&seen))?;
        }
        Ok(())
    });
}

/// What locks a query takes on rows: none, as there are none. Of rows that may be changed that would be no answer.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn get_foreign_row_mark_type(
    entry: *mut pg_sys::RangeTblEntry,
    strength: pg_sys::LockClauseStrength::Type,
) -> pg_sys::RowMarkType::Type {
    run(Step::Modify, || {
        if strength != pg_sys::LockClauseStrength::LCS_NONE {
            // SAFETY: the planner passes a foreign table.
            let table = catalog::table(unsafe { (*entry).relid })?;
            if options::is_updatable(&table.server_options, &table.options) {
                let message = format!("rows of foreign table \"{}\" cannot be locked", table.name);
                return Err(PgError::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
                    .with_detail("Nobody waits for rows of a store: of two transactions that change a row, the second one fails.")
                    .with_hint("Leave FOR UPDATE or FOR SHARE out."));
            }
        }
        Ok(pg_sys::RowMarkType::ROW_MARK_COPY)
    })
}

/// The modifications of a query are over, but for what its triggers are to see of them.
///
/// # Safety
///
/// The query is live, and its plan has run.
pub(super) unsafe fn finish_all(query: &pg_sys::EState) {
    run(Step::Modify, || {
        // SAFETY: a query's relations that are changed are a list of these.
        let relations: Vec<*mut pg_sys::ResultRelInfo> = unsafe { list::elements(query.es_opened_result_relations) };
        // SAFETY: as above, those that rows were sent to by their values.
        let routed: Vec<*mut pg_sys::ResultRelInfo> =
            unsafe { list::elements(query.es_tuple_routing_result_relations) };
        let is_ours = |relation: &*mut pg_sys::ResultRelInfo| {
            // SAFETY: the relation is live.
            let relation = unsafe { &**relation };
            // SAFETY: a foreign table has its wrapper's callbacks.
            !relation.ri_FdwState.is_null() && unsafe { planner::has_own_callbacks(relation.ri_FdwRoutine) }
        };
        let modified: Vec<_> = relations.into_iter().chain(routed).filter(is_ours).collect();
        // A key that one of them deletes another one may add.
        for relation in &modified {
            // SAFETY: its state is one of this file, which nobody else has now.
            unsafe { modification_of(*relation)? }.finish_deletions()?;
        }
        for relation in &modified {
            // SAFETY: as above.
            unsafe { modification_of(*relation)? }.finish_additions()?;
        }
        Ok(())
    });
}
