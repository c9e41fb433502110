//! `soa.schema(regclass)`, `soa.segments`, `soa.history`, `soa.verify`, `soa.compact` and `soa.vacuum(regclass, …)`: what is told
//! of the store behind a foreign table, and what is done for it, as rows.

use std::ffi::CStr;
use std::ptr;
use std::time::Duration;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::datatypes::{DataType as ArrowType, Int64Type, TimestampMicrosecondType};
use pgrx::{PgSqlErrorCode, pg_sys};
use soa_core::store::{CompactOptions, Report, VacuumOptions};

use super::{argument, catalog, check_for_interrupts, compat, encoding, palloc_text, planner, run, text_of};
use crate::array::{self, Elements};
use crate::error::{PgError, Result, Step};
use crate::jsonb;
use crate::table::Table;
use crate::types::{EPOCH_MICROS, PgType};
use crate::varlena::{Misfit, Texts, VARLENA_HEADER, header};

/// What `relkind` is for a foreign table.
const FOREIGN_TABLE: u8 = b'f';
const MICROS_PER_DAY: i64 = 24 * 60 * 60 * 1_000_000;
/// As Postgres counts where it has to.
const DAYS_PER_MONTH: i64 = 30;

/// What somebody must be allowed to do with a foreign table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Right {
    /// `SELECT` from it.
    Read,
    /// Whatever its owner may; the command's name.
    Own(&'static CStr),
}

/// `soa.schema(regclass)`.
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn soa_schema(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: the function is declared with a table and the columns of this report.
    run(Step::Report, || unsafe { answer(call, Right::Read, &Report::Columns) });
    pg_sys::Datum::from(0)
}

/// `soa.segments(regclass)`.
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn soa_segments(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: as above.
    run(Step::Report, || unsafe { answer(call, Right::Read, &Report::Segments) });
    pg_sys::Datum::from(0)
}

/// `soa.history(regclass)`.
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn soa_history(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: as above.
    run(Step::Report, || unsafe { answer(call, Right::Read, &Report::History) });
    pg_sys::Datum::from(0)
}

/// `soa.verify(regclass)`.
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn soa_verify(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    // SAFETY: as above.
    run(Step::Report, || unsafe { answer(call, Right::Read, &Report::Verify) });
    pg_sys::Datum::from(0)
}

/// `soa.compact(regclass)`.
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn soa_compact(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    let report = Report::Compact(CompactOptions::default());
    // SAFETY: as above.
    run(Step::Report, || unsafe { answer(call, Right::Own(c"soa.compact()"), &report) });
    pg_sys::Datum::from(0)
}

/// `soa.vacuum(regclass, retention interval, dry_run boolean, force boolean)`.
#[unsafe(no_mangle)]
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn soa_vacuum(call: pg_sys::FunctionCallInfo) -> pg_sys::Datum {
    run(Step::Report, || {
        // SAFETY: the function is declared with these arguments, and not called with NULL.
        let argument = |index| unsafe { argument(call, index) };
        let (retention, dry_run, force) = (argument(1), argument(2), argument(3));
        // SAFETY: an interval is passed by a pointer to it.
        let retention = unsafe { &*retention.cast_mut_ptr::<pg_sys::Interval>() };
        let mut options = VacuumOptions::default();
        options.retention = duration(retention)?;
        options.dry_run = dry_run.value() != 0;
        options.force = force.value() != 0;
        // SAFETY: as above.
        unsafe { answer(call, Right::Own(c"soa.vacuum()"), &Report::Vacuum(options)) }
    });
    pg_sys::Datum::from(0)
}

fn duration(interval: &pg_sys::Interval) -> Result<Duration> {
    let days = i64::from(interval.month) * DAYS_PER_MONTH + i64::from(interval.day);
    let micros = days.checked_mul(MICROS_PER_DAY).and_then(|micros| micros.checked_add(interval.time));
    let micros = micros.and_then(|micros| u64::try_from(micros).ok());
    micros.map(Duration::from_micros).ok_or_else(|| {
        let message = "the retention must be a time that has passed: neither negative nor without end";
        PgError::new(PgSqlErrorCode::ERRCODE_INVALID_PARAMETER_VALUE, message)
    })
}

/// Asks the store behind the table that a call names, and answers with rows.
///
/// # Safety
///
/// The call is of a set-returning function whose first argument is a table, not NULL, and whose columns are those of the report.
unsafe fn answer(call: pg_sys::FunctionCallInfo, right: Right, report: &Report) -> Result<()> {
    // SAFETY: as the caller promises.
    let relation = unsafe { argument(call, 0) };
    let table = permitted_table(pg_sys::Oid::from(relation.value() as u32), right)?;
    let store = table.open()?;
    let snapshot = match report {
        // A table that shows an older version has that one's.
        Report::Columns | Report::Segments => table.newest()?,
        // These are for the whole store, whether it has the table's version or not.
        _ => store.snapshot()?,
    };
    let rows = report.run(&store, &snapshot, &mut check_for_interrupts)?;
    // What is expected: a function of one column has no row type of its own.
    // SAFETY: the call is of such a function.
    unsafe { pg_sys::InitMaterializedSRF(call, pg_sys::MAT_SRF_USE_EXPECTED_DESC) };
    // SAFETY: the call is live.
    let info = unsafe { (*call).resultinfo };
    // SAFETY: Postgres, or the function above, would have refused a call without this.
    let info = unsafe { &*info.cast::<pg_sys::ReturnSetInfo>() };
    // SAFETY: the function above has made the description.
    let columns = unsafe { (*info.setDesc).natts };
    if usize::try_from(columns) != Ok(rows.num_columns()) {
        return Err(PgError::internal(format!("it is declared with {columns} columns, not {}", rows.num_columns()))
            .with_hint("The extension's library and its SQL are of different releases."));
    }
    for row in 0..rows.num_rows() {
        let (mut values, mut nulls) = row_of(&rows, row)?;
        // SAFETY: there are as many values as columns, of their types; they are copied.
        unsafe { pg_sys::tuplestore_putvalues(info.setResult, info.setDesc, values.as_mut_ptr(), nulls.as_mut_ptr()) };
    }
    Ok(())
}

/// The table, if it is one of this wrapper's and the current user has the right.
fn permitted_table(relation: pg_sys::Oid, right: Right) -> Result<Table> {
    let lock = pg_sys::AccessShareLock.cast_signed();
    // SAFETY: any number can be locked, whether there is such a table or not. The lock goes with the transaction.
    unsafe { pg_sys::LockRelationOid(relation, lock) };
    // SAFETY: it looks the table up.
    let kind = unsafe { pg_sys::get_rel_relkind(relation) };
    // SAFETY: null if there is no such table.
    let name = unsafe { pg_sys::get_rel_name(relation) };
    // SAFETY: as above.
    let name = unsafe { text_of(name) };
    if kind.cast_unsigned() != FOREIGN_TABLE || !planner::is_of_this_wrapper(relation) {
        let message = format!("\"{name}\" is not a foreign table over a store");
        return Err(PgError::new(PgSqlErrorCode::ERRCODE_WRONG_OBJECT_TYPE, message));
    }
    // SAFETY: it reads a variable.
    let user = unsafe { pg_sys::GetUserId() };
    let denied = |message| Err(PgError::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message));
    match right {
        Right::Read => {
            // SAFETY: the table is there and locked.
            let checked = unsafe { pg_sys::pg_class_aclcheck(relation, user, pg_sys::ACL_SELECT.into()) };
            if checked != pg_sys::AclResult::ACLCHECK_OK {
                return denied(format!("permission denied for foreign table \"{name}\""));
            }
        }
        Right::Own(command) => {
            if !compat::owns_table(relation, user) {
                return denied(format!("must be owner of foreign table \"{name}\""));
            }
            // SAFETY: the command's name is a string.
            unsafe { pg_sys::PreventCommandIfReadOnly(command.as_ptr()) };
        }
    }
    catalog::table(relation)
}

/// A row's values, and which of them are NULL.
fn row_of(rows: &RecordBatch, row: usize) -> Result<(Vec<pg_sys::Datum>, Vec<bool>)> {
    let nulls: Vec<bool> = rows.columns().iter().map(|column| column.is_null(row)).collect();
    let values = rows.columns().iter().zip(&nulls).map(|(column, is_null)| match is_null {
        true => Ok(pg_sys::Datum::null()),
        false => value(column, row),
    });
    Ok((values.collect::<Result<_>>()?, nulls))
}

fn value(column: &ArrayRef, row: usize) -> Result<pg_sys::Datum> {
    match column.data_type() {
        ArrowType::Boolean => Ok(column.as_boolean().value(row).into()),
        ArrowType::Int64 => Ok(column.as_primitive::<Int64Type>().value(row).into()),
        ArrowType::Timestamp(..) => {
            Ok(column.as_primitive::<TimestampMicrosecondType>().value(row).saturating_sub(EPOCH_MICROS).into())
        }
        ArrowType::Utf8View => {
            let text = palloc_text(column.as_string_view().value(row))?;
            // SAFETY: it copies a string.
            let text: *mut pg_sys::text = unsafe { pg_sys::cstring_to_text(text) };
            Ok(pg_sys::Datum::from(text))
        }
        ArrowType::Map(..) => varlena(jsonb::encode(column, row, Texts(&encoding()))),
        ArrowType::List(..) => {
            let elements = Elements { pg_type: PgType::Text, oid: pg_sys::TEXTOID.to_u32(), scale: 0 };
            varlena(array::encode(&column.as_list::<i32>().value(row), elements, Texts(&encoding())))
        }
        other => Err(PgError::internal(format!("a report has a column of type {other}"))),
    }
}

/// A value of variable length in Postgres' memory.
fn varlena(content: std::result::Result<Vec<u8>, Misfit>) -> Result<pg_sys::Datum> {
    let content = content.map_err(|misfit| PgError::internal(format!("a report has a value of no use: {misfit:?}")))?;
    let size = VARLENA_HEADER + content.len();
    let header = header(size).ok_or_else(|| PgError::internal(format!("a report has a value of {size} bytes")))?;
    let bytes = [header.as_slice(), &content].concat();
    // SAFETY: it returns as many bytes, aligned for any type, or raises an error.
    let value = unsafe { pg_sys::palloc(bytes.len()) }.cast::<u8>();
    // SAFETY: there is room for all of them, and nobody else has the memory.
    unsafe { ptr::copy_nonoverlapping(bytes.as_ptr(), value, bytes.len()) };
    Ok(pg_sys::Datum::from(value))
}
