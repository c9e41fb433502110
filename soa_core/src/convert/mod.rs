//! Rows in Arrow's form: brought into a table's types, and to and from what Parquet stores.

mod cast;
mod storage;

pub(crate) use self::cast::{cast_batch, cast_column, enum_dictionary, join_batches, remap_enum};
pub(crate) use self::storage::{from_storage, storage_type, to_storage};
