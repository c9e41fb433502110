//! Telling the planner what a store's metadata says of its columns, where `ANALYZE` has left nothing.
//!
//! The planner asks the catalog `pg_statistic` for what is known of a column, after a hook. The hook makes an entry as that
//! catalog would have it, so that all of the planner's estimates work as they do for Postgres' own tables.

use std::ffi::c_int;
use std::sync::OnceLock;

use pgrx::{PgRelation, pg_sys};

use super::{catalog, encoding, planner, run};
use crate::error::{Result, Step};
use crate::statistics::{self, ColumnStatistics};

/// The bytes of a value whose type does not say: for the column `stawidth`, which is of no use to who asks for a value.
const WIDTH: i32 = 16;
/// The slots that an entry has for more than numbers.
const SLOTS: usize = pg_sys::STATISTIC_NUM_SLOTS as usize;

/// What the hook was before: another extension's, or nothing.
static FORMER: OnceLock<pg_sys::get_relation_stats_hook_type> = OnceLock::new();

/// Puts the hook in place.
///
/// # Safety
///
/// Called once, while Postgres loads the library.
pub(super) unsafe fn install() {
    // SAFETY: the variable is that of the backend's only thread.
    let former = unsafe { pg_sys::get_relation_stats_hook };
    if FORMER.set(former).is_ok() {
        // SAFETY: as above; the library is never unloaded.
        unsafe { pg_sys::get_relation_stats_hook = Some(relation_stats) };
    }
}

/// Says what is known of a column of a query; false if that is the catalog's to say.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn relation_stats(
    root: *mut pg_sys::PlannerInfo,
    entry: *mut pg_sys::RangeTblEntry,
    number: pg_sys::AttrNumber,
    found: *mut pg_sys::VariableStatData,
) -> bool {
    if let Some(former) = FORMER.get().copied().flatten() {
        // SAFETY: the hook is another extension's.
        if unsafe { former(root, entry, number, found) } {
            return true;
        }
    }
    run(Step::RelSize, || {
        // SAFETY: the planner passes the entry that it asks for, and a place for the answer.
        let entry = unsafe { &*entry };
        // SAFETY: as above.
        let found = unsafe { &mut *found };
        // SAFETY: the planner's pointers are live.
        if number <= 0 || !unsafe { is_ours(found, entry) } || is_analyzed(entry, number) {
            return Ok(false);
        }
        let Some(statistics) = of_column(entry.relid, number)? else { return Ok(false) };
        // SAFETY: the column is the table's.
        found.statsTuple = unsafe { tuple(entry.relid, number, statistics)? };
        found.freefunc = Some(free);
        // SAFETY: the planner's pointers are live.
        found.acl_ok = unsafe { may_be_read(found, entry, number) };
        Ok(true)
    })
}

/// Whether a column is one of a foreign table that is planned here. (Not so where the planner looks through a subquery.) Of the rows
/// of a table and of those that inherit from it, its store knows its own.
///
/// # Safety
///
/// The planner's pointers are live.
unsafe fn is_ours(found: &pg_sys::VariableStatData, entry: &pg_sys::RangeTblEntry) -> bool {
    if entry.relkind.cast_unsigned() != pg_sys::RELKIND_FOREIGN_TABLE || entry.inh {
        return false;
    }
    // SAFETY: the relation is null or live.
    let Some(relation) = (unsafe { found.rel.as_ref() }) else { return false };
    // SAFETY: so is what a foreign table is planned with.
    unsafe { planner::has_own_callbacks(relation.fdwroutine) }
}

/// Whether `ANALYZE` has looked at the column.
fn is_analyzed(entry: &pg_sys::RangeTblEntry, number: pg_sys::AttrNumber) -> bool {
    let (table, number) = (pg_sys::Datum::from(entry.relid), pg_sys::Datum::from(number));
    let cache = pg_sys::SysCacheIdentifier::STATRELATTINH as c_int;
    // SAFETY: these are the keys of that cache.
    let known = unsafe { pg_sys::SearchSysCache3(cache, table, number, pg_sys::Datum::from(entry.inh)) };
    if known.is_null() {
        return false;
    }
    // SAFETY: the entry was found above.
    unsafe { pg_sys::ReleaseSysCache(known) };
    true
}

/// Nothing is said of a table whose store cannot be read: whoever reads it will hear of it.
fn of_column(table: pg_sys::Oid, number: pg_sys::AttrNumber) -> Result<Option<ColumnStatistics>> {
    Ok(statistics::of_column(&catalog::table(table)?, number, encoding()).unwrap_or_default())
}

/// Whether the query's user may read all values of a column, so that functions which are not leak-proof may see some.
///
/// # Safety
///
/// The planner's pointers are live.
unsafe fn may_be_read(
    found: &pg_sys::VariableStatData,
    entry: &pg_sys::RangeTblEntry,
    number: pg_sys::AttrNumber,
) -> bool {
    // SAFETY: as the caller promises.
    let user = unsafe { (*found.rel).userid };
    let user = match user == pg_sys::InvalidOid {
        // SAFETY: reading a variable.
        true => unsafe { pg_sys::GetUserId() },
        false => user,
    };
    let (mode, ok) = (pg_sys::ACL_SELECT.into(), pg_sys::AclResult::ACLCHECK_OK);
    // SAFETY: it looks the table up.
    let all = || unsafe { pg_sys::pg_class_aclcheck(entry.relid, user, mode) } == ok;
    // SAFETY: and the column.
    let this = || unsafe { pg_sys::pg_attribute_aclcheck(entry.relid, number, user, mode) } == ok;
    entry.securityQuals.is_null() && (all() || this())
}

/// An entry as `pg_statistic` would have it.
///
/// # Safety
///
/// The column is one of the table.
unsafe fn tuple(
    table: pg_sys::Oid,
    number: pg_sys::AttrNumber,
    statistics: ColumnStatistics,
) -> Result<pg_sys::HeapTuple> {
    const WIDTH_OF_ENTRY: usize = pg_sys::Natts_pg_statistic as usize;
    let mut values = [pg_sys::Datum::null(); WIDTH_OF_ENTRY];
    let mut nulls = [false; WIDTH_OF_ENTRY];
    // Columns are numbered from 1.
    let mut set = |column: u32, value: pg_sys::Datum| values[column as usize - 1] = value;
    set(pg_sys::Anum_pg_statistic_starelid, table.into());
    set(pg_sys::Anum_pg_statistic_staattnum, number.into());
    set(pg_sys::Anum_pg_statistic_stanullfrac, float(statistics.null_fraction));
    set(pg_sys::Anum_pg_statistic_stawidth, WIDTH.into());
    set(pg_sys::Anum_pg_statistic_stadistinct, float(statistics.distinct));
    for slot in 0..SLOTS {
        nulls[pg_sys::Anum_pg_statistic_stanumbers1 as usize - 1 + slot] = true;
        nulls[pg_sys::Anum_pg_statistic_stavalues1 as usize - 1 + slot] = true;
    }
    if let Some(mut ends) = statistics.ends {
        // SAFETY: it looks the column up.
        let type_oid = unsafe { pg_sys::get_atttype(table, number) };
        // SAFETY: and its type.
        let known = unsafe { pg_sys::lookup_type_cache(type_oid, pg_sys::TYPECACHE_LT_OPR as c_int) };
        // SAFETY: what is in that cache stays there.
        let known = unsafe { &*known };
        let datums = ends.datums();
        let (length, is_value, alignment) = (known.typlen.into(), known.typbyval, known.typalign);
        let (first, count) = (datums.as_mut_ptr().cast(), datums.len() as c_int);
        // SAFETY: the datums are of the type; the array has copies.
        let array = unsafe { pg_sys::construct_array(first, count, type_oid, length, is_value, alignment) };
        // A histogram of one bar.
        set(pg_sys::Anum_pg_statistic_stakind1, (pg_sys::STATISTIC_KIND_HISTOGRAM as i16).into());
        set(pg_sys::Anum_pg_statistic_staop1, known.lt_opr.into());
        set(pg_sys::Anum_pg_statistic_stavalues1, pg_sys::Datum::from(array));
        nulls[pg_sys::Anum_pg_statistic_stavalues1 as usize - 1] = false;
    }
    // SAFETY: the catalog is there in every database.
    let catalog = unsafe { PgRelation::with_lock(pg_sys::StatisticRelationId, pg_sys::AccessShareLock as c_int) };
    // SAFETY: both arrays have an element for each column of the catalog.
    Ok(unsafe { pg_sys::heap_form_tuple(catalog.rd_att, values.as_mut_ptr(), nulls.as_mut_ptr()) })
}

/// A `real` as a datum: the integer of its bits.
fn float(value: f64) -> pg_sys::Datum {
    pg_sys::Datum::from((value as f32).to_bits().cast_signed())
}

/// Lets go of an entry.
#[pgrx::pg_guard]
unsafe extern "C-unwind" fn free(tuple: pg_sys::HeapTuple) {
    // SAFETY: the planner passes what it was given.
    unsafe { pg_sys::heap_freetuple(tuple) };
}
