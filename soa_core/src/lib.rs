//! Struct-of-arrays data that lives in memory, on disk and in SQL engines at once.
//!
//! `soa_core` holds the struct-of-arrays kernel, its zero-copy conversion to Arrow and a crash-safe store.

mod convert;
pub mod error;
pub mod predicate;
pub mod scan;
pub mod schema;
pub mod store;

/// The Arrow implementation whose types this crate's interface speaks.
pub use arrow;
pub use error::{Error, ErrorKind, Result};
