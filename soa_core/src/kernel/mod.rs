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
//! | `Vec<u8>` | the same | BinaryView |
//! | fieldless enum | `u8`: position in the declaration | Dictionary(UInt8, Utf8) |
//! | the same with `#[soa(as_int)]` | `i32`: the variant's number | Int32 |
//! | `NaiveDate` | `i32`: days since 1970-01-01 | Date32 |
//! | `NaiveDateTime` | `i64`: µs since 1970-01-01T00:00 | Timestamp(µs) |
//! | `DateTime<Utc>`, `i64` with `#[soa(timestamp = "us")]` | `i64`: µs since 1970-01-01T00:00 UTC | Timestamp(µs, UTC) |
//! | `NaiveTime` | `i64`: µs since midnight | Time64(µs) |
//! | `TimeDelta` | `i64`: µs | Duration(µs) |
//! | `Uuid` | its 16 bytes | FixedSizeBinary(16), `arrow.uuid` |
//! | `i128`; `i64`, `u64`, `i128` or `rust_decimal::Decimal` with `#[soa(decimal(p, s))]` | `i128`: units of the last digit | Decimal128(p, s) |
//! | `Vec<T>` | ends of the rows, and the elements in a column | List |
//! | `[T; N]` | the elements in a column | FixedSizeList |
//! | a struct that derives `SoA` | its columns | Struct |
//! | `BTreeMap<K, V>`, `HashMap<K, V>` | ends of the rows, and the keys and values in columns | Map |
//! | `Option<T>` | `T` and, once a value is NULL, one bit per row | nullable |
//!
//! `OrderSoA` has the methods and traits of a `Vec<Order>` under their names, as far as columns can have them, and some
//! that only columns can have:
//!
//! ```
//! use soa_core::SoA;
//!
//! #[derive(Debug, Clone, PartialEq, SoA)]
//! struct Order {
//!     id: u64,
//!     amount: f64,
//!     note: Option<String>,
//! }
//!
//! # fn order(id: u64) -> Order {
//! #     Order { id, amount: (id * 7 % 5) as f64, note: None }
//! # }
//! let mut orders: OrderSoA = (0..10).map(order).collect();
//! orders.retain(|order| order.id != 3);
//! orders.extend([order(20), order(30)]);
//! orders.amount_raw_array_mut().iter_mut().for_each(|amount| *amount *= 1.19);
//!
//! // One order is found for the rows, and each column is put into it once. Rows that are equal keep their order.
//! orders.sort_by_amount();
//! orders.sort_by(|left, right| left.note.cmp(&right.note));
//! assert!(orders.amount_raw_array().is_sorted());
//!
//! // Rows of others are gathered from their views; a slice shares its columns, and so does a record batch of it.
//! let odd: OrderSoA = orders.iter().filter(|order| order.id % 2 == 1).collect();
//! let last = orders.slice(orders.len() - 3..);
//! assert_eq!((odd.len(), last.to_record_batch().num_rows()), (4, 3));
//!
//! let drained: Vec<Order> = orders.drain(..2).collect();
//! assert_eq!((drained.len(), orders.len(), last.len()), (2, 9, 3));
//! ```
//!
//! A closure that panics leaves columns of one length: `retain`, `sort_by` and the like change nothing before the closure
//! was called for the last time.
//!
//! **Features**: with `rayon`, `par_iter()` of rayon's prelude gives the views to many threads; with `serde`, columns are
//! sequences of records where the record derives `Serialize` and `Deserialize`, and a view is written as its record.
//!
//! **Columns are copy-on-write.** A record batch made from columns shares them: nothing is copied,
//! whatever the size (`bool` alone packs its bits). The first write to a column that somebody still
//! shares copies that column; the others stay shared. Columns made from a record batch share it in the
//! same way.
//!
//! **Values that do not fit** are refused, never rounded: a time with a part below a microsecond or
//! inside a leap second, a decimal with more digits than its column, and text or bytes of more than 2 GiB. `try_push` returns an error that names field and
//! value; `push` panics with it. No other value of the types above can fail to fit.

mod array;
mod batch;
mod buffer;
mod decimal;
mod enums;
mod field;
mod fixed;
mod iter;
mod list;
mod map;
mod nested;
mod nullable;
#[cfg(feature = "rayon")]
mod parallel;
mod ranges;
mod record;
#[cfg(feature = "serde")]
mod serial;
mod sharded;
mod spans;
mod store;
mod times;
mod uuid;
mod validity;
mod views;

use arrow::datatypes::DataType as ArrowType;

use crate::error::Error;

pub use self::array::FixedList;
pub use self::buffer::{Binary, Bytes, Column, Text, Utf8, ViewKind, Views};
pub use self::decimal::{Decimal, DecimalValue};
pub use self::enums::{AsInt, EnumColumn, EnumDictionary, SoaEnum};
pub use self::field::{
    FieldColumn, KeyColumn, Outcome, PlainColumn, SoaField, SoaKey, SoaPartition, SoaValue, ValueColumn,
};
pub use self::fixed::{Fixed, FixedKind, TimestampMicros};
pub use self::iter::{IntoIter, Iter};
pub use self::list::{List, ListIter, ListRef};
pub use self::map::{Map, MapRef, MapValue};
pub use self::nested::Nested;
pub use self::nullable::Nullable;
#[cfg(feature = "rayon")]
pub use self::parallel::ParIter;
pub use self::record::{KeyedRecord, Record, Rows, StoredRecord};
pub use self::sharded::ShardedStore;
pub(crate) use self::sharded::joined;
pub use self::store::{KernelMut, MemoryStore};
pub use self::validity::Validity;

/// What the derived code calls; no part of the interface.
#[doc(hidden)]
pub mod derived {
    pub use super::batch::{
        SchemaCell, Table, column_from, encode, field_from, into_batch, refuse, same_values, schemas_of,
    };
    pub use super::ranges::{check_ranges, check_rows, range_of, sort_rows_by};
    #[cfg(feature = "serde")]
    pub use super::serial::{deserialize_rows, serialize_rows};
    #[cfg(feature = "persistence")]
    pub use crate::__soa_persistence as for_persistence;
    #[cfg(feature = "rayon")]
    pub use crate::__soa_rayon as for_rayon;
    #[cfg(feature = "serde")]
    pub use crate::__soa_serde as for_serde;
    #[cfg(not(feature = "persistence"))]
    pub use crate::__soa_without as for_persistence;
    #[cfg(not(feature = "rayon"))]
    pub use crate::__soa_without as for_rayon;
    #[cfg(not(feature = "serde"))]
    pub use crate::__soa_without as for_serde;
    pub use arrow::array::StructArray;
    pub use arrow::datatypes::SchemaRef;
    pub use arrow::record_batch::RecordBatch;
    #[cfg(feature = "rayon")]
    pub use rayon;
    #[cfg(feature = "serde")]
    pub use serde;
}

/// What the derive asks for where a feature is off.
#[cfg(not(all(feature = "persistence", feature = "rayon", feature = "serde")))]
#[doc(hidden)]
#[macro_export]
macro_rules! __soa_without {
    ($($names:tt)*) => {};
}

/// The error for an Arrow array that is not of the column's type.
fn wrong_type<C: FieldColumn>(column: &str, found: &ArrowType) -> Error {
    let wanted = C::data_type().to_arrow();
    Error::mismatch(format!(
        "column \"{column}\" is of Arrow type {found}, the field needs {wanted}; cast the column first"
    ))
}
