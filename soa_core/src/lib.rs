//! Struct-of-arrays data that lives in memory, on disk and in SQL engines at once.
//!
//! `soa_core` holds the struct-of-arrays kernel, its zero-copy conversion to Arrow and a crash-safe store.

pub mod error;
pub mod predicate;
pub mod schema;

pub use error::{Error, ErrorKind, Result};
