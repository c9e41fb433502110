//! Values inside others that are NULL.

use std::sync::Arc;

use arrow::array::{Array, ArrayRef, make_array};
use arrow::buffer::NullBuffer;
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
