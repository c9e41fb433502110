//! Postgres' lists.

use std::ffi::c_void;
use std::{ptr, slice};

use pgrx::pg_sys;

/// The elements of a list of pointers; of none for a null list.
///
/// # Safety
///
/// The list is null, or live and one of pointers to `T`.
pub(super) unsafe fn elements<T>(list: *const pg_sys::List) -> Vec<*mut T> {
    // SAFETY: as the caller promises.
    let Some(list) = (unsafe { list.as_ref() }) else { return Vec::new() };
    let count = usize::try_from(list.length).unwrap_or_default();
    // SAFETY: a list that is not null has so many cells.
    let cells = unsafe { slice::from_raw_parts(list.elements, count) };
    // SAFETY: each is a pointer, as the caller promises.
    cells.iter().map(|cell| unsafe { cell.ptr_value }.cast()).collect()
}

/// A list of pointers, in Postgres' current memory context.
pub(super) fn of<T>(elements: impl IntoIterator<Item = *mut T>) -> *mut pg_sys::List {
    elements.into_iter().fold(ptr::null_mut(), |list, element| {
        // SAFETY: the list is null or was made here; the element is only kept.
        unsafe { pg_sys::lappend(list, element.cast::<c_void>()) }
    })
}
