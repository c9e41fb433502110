//! Keeping a store in shape: everything that is no query and adds no rows.
//!
//! [`compact`] writes small and half-deleted segments anew and keeps the Arrow forms within their budget.

mod arrow_forms;
mod compact;
mod properties;
mod regroup;

pub use self::compact::{CompactOptions, CompactProgress, Compacted};
