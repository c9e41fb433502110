//! Structs of arrays: one packed column per field of a Rust struct.
//!
//! `#[derive(SoA)]` on a struct `Order` makes `OrderSoA`, its columns, and implements [`Record`] for
//! `Order` and [`Rows`] for `OrderSoA`; `#[derive(SoAStore)]` adds [`StoredRecord`] and, with a key,
//! [`KeyedRecord`], the [`MemoryStore`] and the [`ShardedStore`].
//!
//! | Rust | stored as | Arrow |
//! |---|---|---|
//! | `bool` | `u8` | Boolean |
//! | `i8` … `i64`, `u8` … `u64`, `f32`, `f64` | itself | Int8 … Float64 |
//! | `String` | 16-byte view and blocks of bytes | Utf8View |
//! | fieldless enum | `u8`: position in the declaration | Dictionary(UInt8, Utf8) |
//! | `NaiveDate` | `i32`: days since 1970-01-01 | Date32 |
//! | `NaiveDateTime` | `i64`: µs since 1970-01-01T00:00 | Timestamp(µs) |
//! | `DateTime<Utc>`, `i64` with `#[soa(timestamp = "us")]` | `i64`: µs since 1970-01-01T00:00 UTC | Timestamp(µs, UTC) |
//! | `NaiveTime` | `i64`: µs since midnight | Time64(µs) |
//! | `TimeDelta` | `i64`: µs | Duration(µs) |
//! | `Uuid` | its 16 bytes | FixedSizeBinary(16), `arrow.uuid` |
//! | `i128`; `i64`, `u64`, `i128` or `rust_decimal::Decimal` with `#[soa(decimal(p, s))]` | `i128`: units of the last digit | Decimal128(p, s) |
//! | `Option<T>` | `T` and, once a value is NULL, one bit per row | nullable |
//!
//! **Columns are copy-on-write.** A record batch made from columns shares them: nothing is copied,
//! whatever the size (`bool` alone packs its bits). The first write to a column that somebody still
//! shares copies that column; the others stay shared. Columns made from a record batch share it in the
//! same way.
//!
//! **Values that do not fit** are refused, never rounded: a time with a part below a microsecond or
//! inside a leap second, a decimal with more digits than its column, and text of more than 2 GiB. `try_push` returns an error that names field and
//! value; `push` panics with it. No other value of the types above can fail to fit.

mod batch;
mod buffer;
mod decimal;
mod enums;
mod field;
mod fixed;
mod iter;
mod nullable;
mod record;
mod sharded;
mod store;
mod text;
mod times;
mod uuid;
mod validity;

use arrow::datatypes::DataType as ArrowType;

use crate::error::Error;

pub use self::buffer::{Column, Text};
pub use self::decimal::{Decimal, DecimalValue};
pub use self::enums::{EnumColumn, EnumDictionary, SoaEnum};
pub use self::field::{
    FieldColumn, KeyColumn, Outcome, PlainColumn, SoaField, SoaKey, SoaPartition, SoaValue, ValueColumn,
};
pub use self::fixed::{Fixed, FixedKind, TimestampMicros};
pub use self::iter::Iter;
pub use self::nullable::Nullable;
pub use self::record::{KeyedRecord, Record, Rows, StoredRecord};
pub use self::sharded::ShardedStore;
pub use self::store::{KernelMut, MemoryStore};
pub use self::validity::Validity;

/// What the derived code calls; no part of the interface.
#[doc(hidden)]
pub mod derived {
    pub use super::batch::{SchemaCell, column_from, encode, into_batch, refuse, same_values};
    pub use arrow::datatypes::SchemaRef;
    pub use arrow::record_batch::RecordBatch;
}

/// The error for an Arrow array that is not of the column's type.
fn wrong_type<C: FieldColumn>(column: &str, found: &ArrowType) -> Error {
    let wanted = C::data_type().to_arrow();
    Error::mismatch(format!(
        "column \"{column}\" is of Arrow type {found}, the field needs {wanted}; cast the column first"
    ))
}
