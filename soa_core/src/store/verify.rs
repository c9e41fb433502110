//! Checking a store from end to end.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::util::display::array_value_to_string;

use super::snapshot::Snapshot;
use super::{Store, log};
use crate::error::Result;

/// What a check found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The version that was checked.
    pub version: u64,
    /// How many segments it has.
    pub segments: u64,
    /// How many rows it has.
    pub rows: u64,
    /// What is wrong, each in a sentence that names the file. Empty: all is well.
    pub problems: Vec<String>,
}

impl VerifyReport {
    /// Whether nothing is wrong.
    pub fn is_ok(&self) -> bool {
        self.problems.is_empty()
    }
}

/// Reads everything: every commit, both forms of every segment, checksums, statistics, keys.
pub(super) fn verify(store: &Store) -> Result<VerifyReport> {
    let snapshot = store.snapshot()?;
    let mut problems = Vec::new();
    if let Err(error) = log::history(store.backend(), store.path()) {
        problems.push(error.to_string());
    }
    for segment in snapshot.segments() {
        problems.extend(segment.verify());
    }
    if problems.is_empty() {
        problems.extend(check_keys(&snapshot)?);
    }
    Ok(VerifyReport {
        version: snapshot.version(),
        segments: snapshot.segments().len() as u64,
        rows: snapshot.row_count(),
        problems,
    })
}

fn check_keys(snapshot: &Arc<Snapshot>) -> Result<Vec<String>> {
    let Some(key) = snapshot.schema().key() else { return Ok(Vec::new()) };
    let name = snapshot.schema().field(key).name();
    let mut seen: HashSet<u128> = HashSet::new();
    let mut problems = Vec::new();
    for segment in snapshot.segments() {
        for unit in 0..segment.units()?.len() {
            for array in segment.read(unit, &[key])? {
                for (row, hash) in super::keys::key_numbers(&array).into_iter().enumerate() {
                    if !seen.insert(hash) {
                        let value = array_value_to_string(&array, row).unwrap_or_default();
                        problems.push(format!(
                            "key {value} of column \"{name}\" occurs twice, again in \"{}\"",
                            segment.path()
                        ));
                    }
                }
            }
        }
    }
    Ok(problems)
}
