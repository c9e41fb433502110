//! Rows in Arrow's form: brought into a table's types, and to and from what Parquet stores.

mod cast;
mod nested;
mod storage;

pub(crate) use self::cast::{
    cast_batch, cast_column, concat_rows, enum_dictionary, join_batches, null_column, remap_enums,
};
pub(crate) use self::nested::{compact_array, leaves_of, list_range, memory_of};
pub(crate) use self::storage::{from_storage, storage_field, to_storage};
