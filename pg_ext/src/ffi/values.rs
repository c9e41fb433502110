//! From Postgres' values to this extension's.

use std::ffi::c_void;
use std::slice;

use pgrx::pg_sys;

use super::{catalog, database_has_utf8, text_of};
use crate::numeric;
use crate::types::{PgType, PgValue};

/// Reads a value of the type behind `type_oid`.
///
/// # Safety
///
/// The datum is a value of that type.
pub(super) unsafe fn read(datum: pg_sys::Datum, is_null: bool, type_oid: pg_sys::Oid) -> PgValue {
    if is_null {
        return PgValue::Null;
    }
    let Some(pg_type) = catalog::pg_type(type_oid) else {
        // SAFETY: as the caller promises.
        return unsafe { read_array(datum, type_oid) };
    };
    let raw = datum.value();
    match pg_type {
        PgType::Bool => PgValue::Bool(raw & 0xFF != 0),
        PgType::Int2 => PgValue::Integer(i64::from(raw as i16)),
        PgType::Int4 => PgValue::Integer(i64::from(raw as i32)),
        PgType::Int8 => PgValue::Integer(raw as i64),
        PgType::Float4 => PgValue::Float(f64::from(f32::from_bits(raw as u32))),
        PgType::Float8 => PgValue::Float(f64::from_bits(raw as u64)),
        PgType::Date => PgValue::Date(raw as i32),
        PgType::Timestamp => PgValue::Timestamp(raw as i64),
        PgType::TimestampTz => PgValue::TimestampTz(raw as i64),
        PgType::Time => PgValue::Time(raw as i64),
        PgType::Interval => {
            // SAFETY: an interval is the address of one.
            let interval = unsafe { datum.cast_mut_ptr::<pg_sys::Interval>().read() };
            PgValue::Interval { months: interval.month, days: interval.day, micros: interval.time }
        }
        PgType::Jsonb => PgValue::Other,
        // SAFETY: a UUID is the address of its 16 bytes.
        PgType::Uuid => PgValue::Uuid(unsafe { datum.cast_mut_ptr::<[u8; 16]>().read() }),
        PgType::Numeric => {
            // SAFETY: a numeric is a variable-length value.
            let bytes = unsafe { content(datum) };
            match numeric::decode(&bytes) {
                Some(value) => PgValue::Numeric(value),
                None => PgValue::NumericBeyond { above: numeric::is_above_all(&bytes) },
            }
        }
        PgType::Text => {
            // SAFETY: a text is a variable-length value.
            let bytes = unsafe { content(datum) };
            // Of another encoding it is not what the store compares with.
            if database_has_utf8() { of_utf8(bytes) } else { PgValue::Other }
        }
        // SAFETY: as before.
        PgType::Bytea => PgValue::Bytea(unsafe { content(datum) }),
    }
}

/// Reads a value that is to be stored: texts as UTF-8, whatever the database's encoding is.
///
/// # Safety
///
/// As [`read`].
pub(super) unsafe fn read_stored(datum: pg_sys::Datum, is_null: bool, type_oid: pg_sys::Oid) -> PgValue {
    match catalog::pg_type(type_oid) {
        Some(PgType::Text) if !is_null && !database_has_utf8() => {}
        // SAFETY: as the caller promises.
        None if !is_null && !unsafe { is_list(datum, type_oid) } => return PgValue::Other,
        // SAFETY: as the caller promises.
        _ => return unsafe { read(datum, is_null, type_oid) },
    }
    // SAFETY: a text is a variable-length value.
    let mut bytes = unsafe { content(datum) };
    bytes.push(0);
    // SAFETY: there is a NUL at its end, and none before, as Postgres has none in texts.
    PgValue::Text(unsafe { text_of(bytes.as_ptr().cast()) })
}

/// Whether an array is one that a list can be: of one dimension or none, its elements numbered from 1.
///
/// # Safety
///
/// The datum is a value of that type.
unsafe fn is_list(datum: pg_sys::Datum, type_oid: pg_sys::Oid) -> bool {
    // SAFETY: it looks the type up.
    if unsafe { pg_sys::get_element_type(type_oid) } == pg_sys::InvalidOid {
        return false;
    }
    // SAFETY: an array is a variable-length value.
    let array = unsafe { pg_sys::pg_detoast_datum(datum.cast_mut_ptr()) }.cast::<pg_sys::ArrayType>();
    // SAFETY: it is an array's now.
    let dimensions = unsafe { (*array).ndim };
    // After the header there are the dimensions' lengths, then their first numbers.
    let numbers = array.wrapping_add(1).cast::<i32>();
    // SAFETY: there is one of each.
    dimensions == 0 || (dimensions == 1 && unsafe { numbers.wrapping_add(1).read() } == 1)
}

fn of_utf8(bytes: Vec<u8>) -> PgValue {
    String::from_utf8(bytes).map_or(PgValue::Other, PgValue::Text)
}

/// # Safety
///
/// The datum is a value of that type, which is none of the scalar ones.
unsafe fn read_array(datum: pg_sys::Datum, type_oid: pg_sys::Oid) -> PgValue {
    // SAFETY: it looks the type up.
    let element_type = unsafe { pg_sys::get_element_type(type_oid) };
    if catalog::pg_type(element_type).is_none() {
        return PgValue::Other;
    }
    let (mut length, mut by_value, mut align) = (0, false, 0);
    // SAFETY: it looks the type up and writes to the three places.
    unsafe { pg_sys::get_typlenbyvalalign(element_type, &raw mut length, &raw mut by_value, &raw mut align) };
    // SAFETY: an array is a variable-length value.
    let array = unsafe { pg_sys::pg_detoast_datum(datum.cast_mut_ptr()) }.cast::<pg_sys::ArrayType>();
    let (mut elements, mut nulls, mut count) = (std::ptr::null_mut(), std::ptr::null_mut(), 0);
    // SAFETY: the array's elements are of that type, and it writes to the three places.
    unsafe {
        pg_sys::deconstruct_array(
            array,
            element_type,
            i32::from(length),
            by_value,
            align,
            &raw mut elements,
            &raw mut nulls,
            &raw mut count,
        );
    }
    let count = usize::try_from(count).unwrap_or_default();
    if count == 0 {
        return PgValue::Array(Vec::new());
    }
    // SAFETY: so many elements were written.
    let elements = unsafe { slice::from_raw_parts(elements, count) };
    // SAFETY: as before.
    let nulls = unsafe { slice::from_raw_parts(nulls, count) };
    let read_one = |index: usize| {
        // SAFETY: the elements are of that type.
        unsafe { read(elements[index], nulls[index], element_type) }
    };
    PgValue::Array((0..count).map(read_one).collect())
}

/// A copy of a variable-length value's content.
///
/// # Safety
///
/// The datum leads to one.
unsafe fn content(datum: pg_sys::Datum) -> Vec<u8> {
    let original: *mut pg_sys::varlena = datum.cast_mut_ptr();
    // SAFETY: as the caller promises; the result has no compression and is in memory.
    let plain = unsafe { pg_sys::pg_detoast_datum_packed(original) };
    // SAFETY: so the header says where the content is.
    let data = unsafe { pgrx::vardata_any(plain) }.cast::<u8>();
    // SAFETY: and how long.
    let length = unsafe { pgrx::varsize_any_exhdr(plain) };
    // SAFETY: so many bytes are there.
    let bytes = unsafe { slice::from_raw_parts(data, length) }.to_vec();
    if plain != original {
        // SAFETY: it is a copy that was made above.
        unsafe { pg_sys::pfree(plain.cast::<c_void>()) };
    }
    bytes
}
