//! Values inside others that are NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, OffsetSizeTrait, UInt64Array, make_array};
use arrow::buffer::{NullBuffer, OffsetBuffer};
use arrow::compute::take;
use arrow::error::ArrowError;

/// The same values, NULL also where the value is that they are in: what stands there means nothing, and may fit no type.
///
/// # Errors
///
/// When the array is none that Arrow could make.
pub(crate) fn null_beneath(array: &ArrayRef, outer: Option<&NullBuffer>) -> Result<ArrayRef, ArrowError> {
    let Some(outer) = outer.filter(|outer| outer.null_count() > 0) else { return Ok(Arc::clone(array)) };
    let nulls = NullBuffer::union(array.logical_nulls().as_ref(), Some(outer));
    Ok(make_array(array.to_data().into_builder().nulls(nulls).build()?))
}

/// The elements that rows of lists or maps have, and no others, and where each row's are among them: shared with the array
/// unless a row that is NULL has some.
///
/// # Errors
///
/// When there are more than offsets of 32 bits can count.
pub(crate) fn elements_of<O: OffsetSizeTrait>(
    elements: &ArrayRef,
    offsets: &OffsetBuffer<O>,
    nulls: Option<&NullBuffer>,
) -> Result<(ArrayRef, OffsetBuffer<i32>), ArrowError> {
    let at = |index: usize| offsets[index].as_usize();
    let rows = offsets.len() - 1;
    let len = |row: usize| if nulls.is_some_and(|nulls| nulls.is_null(row)) { 0 } else { at(row + 1) - at(row) };
    let hidden = nulls.is_some() && (0..rows).any(|row| len(row) < at(row + 1) - at(row));
    let count: usize = if hidden { (0..rows).map(len).sum() } else { at(rows) - at(0) };
    if i32::try_from(count).is_err() {
        return Err(ArrowError::OffsetOverflowError(count));
    }
    let offsets = OffsetBuffer::<i32>::from_lengths((0..rows).map(len));
    if !hidden {
        return Ok((elements.slice(at(0), count), offsets));
    }
    let kept: UInt64Array =
        (0..rows).flat_map(|row| at(row)..at(row) + len(row)).map(|element| element as u64).collect();
    Ok((take(elements, &kept, None)?, offsets))
}
