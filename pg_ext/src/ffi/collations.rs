//! How Postgres compares text.

use std::ffi::c_char;
use std::ptr;

use pgrx::pg_sys;

use super::{has_utf8_alone, text_of};

/// Providers of collations (`catalog/pg_collation.h`): the C library's, and since 17 Postgres' own, which compare code points.
const LIBC: c_char = b'c'.cast_signed();
const BUILTIN: c_char = b'b'.cast_signed();

/// Whether texts are equal under a collation only if their bytes are.
pub(super) fn is_compared_by_bytes(collation: pg_sys::Oid) -> bool {
    // SAFETY: it looks the collation up.
    collation != pg_sys::InvalidOid && unsafe { pg_sys::get_collation_isdeterministic(collation) }
}

/// Whether texts are in the order of their UTF-8 bytes under a collation: "C", "POSIX" and those that compare code points; or
/// the database's own, if it is one of these.
pub(super) fn is_ordered_by_bytes(collation: pg_sys::Oid) -> bool {
    // In another encoding texts have other bytes.
    if collation == pg_sys::InvalidOid || !has_utf8_alone() {
        return false;
    }
    match collation == pg_sys::DEFAULT_COLLATION_OID {
        true => is_database_ordered_by_bytes(),
        false => is_known_to_order_by_bytes(collation),
    }
}

fn is_known_to_order_by_bytes(collation: pg_sys::Oid) -> bool {
    let cache = pg_sys::SysCacheIdentifier::COLLOID as i32;
    let order = |row: *const pg_sys::FormData_pg_collation| {
        // SAFETY: a row of the cache begins with these columns.
        let row = unsafe { &*row };
        (row.collprovider, pg_sys::Anum_pg_collation_collcollate)
    };
    is_ordered_by_code_points(cache, collation, order)
}

fn is_database_ordered_by_bytes() -> bool {
    let cache = pg_sys::SysCacheIdentifier::DATABASEOID as i32;
    let order = |row: *const pg_sys::FormData_pg_database| {
        // SAFETY: a row of the cache begins with these columns.
        let row = unsafe { &*row };
        (row.datlocprovider, pg_sys::Anum_pg_database_datcollate)
    };
    // SAFETY: reading a variable of the backend's only thread.
    is_ordered_by_code_points(cache, unsafe { pg_sys::MyDatabaseId }, order)
}

/// `order` gives a row's provider, and the number of the column that has the C library's name for the order.
fn is_ordered_by_code_points<T>(cache: i32, oid: pg_sys::Oid, order: impl Fn(*const T) -> (c_char, u32)) -> bool {
    // SAFETY: the cache's key is an OID.
    let row = unsafe { pg_sys::SearchSysCache1(cache, oid.into()) };
    if row.is_null() {
        return false;
    }
    // SAFETY: the cache's rows begin with columns of this type.
    let (provider, column) = order(unsafe { pg_sys::GETSTRUCT(row) }.cast());
    let is_ordered = match provider {
        BUILTIN => true,
        LIBC => {
            let mut is_null = false;
            // SAFETY: the row has this column.
            let name = unsafe { pg_sys::SysCacheGetAttr(cache, row, column as i16, &raw mut is_null) };
            // SAFETY: which is a text if it is not null.
            let name = if is_null { ptr::null_mut() } else { unsafe { pg_sys::text_to_cstring(name.cast_mut_ptr()) } };
            // SAFETY: the name is null or a string.
            ["C", "POSIX"].contains(&unsafe { text_of(name) }.as_str())
        }
        _ => false,
    };
    // SAFETY: the row was found above.
    unsafe { pg_sys::ReleaseSysCache(row) };
    is_ordered
}
