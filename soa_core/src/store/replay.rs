//! The segments of a version from those of an earlier one and the commits in between, without reading the whole log.

use std::sync::Arc;

use hashbrown::HashMap;
use serde_json::Value;

use super::io::Backend;
use super::log;
use super::log_entry::{LogEntry, vector_of};
use super::segment::{Segment, Table};
use crate::error::Result;

/// After more commits than this it costs less to read the log anew.
const COMMITS_MAX: u64 = 100;

/// What commits change.
#[derive(Debug)]
pub(super) struct Replayed {
    pub(super) segments: Vec<Arc<Segment>>,
    /// What applications have recorded (Delta's `txn`).
    pub(super) txns: Vec<(String, i64)>,
}

/// The segments after the commits `versions`, before the first of which there were `before`. `None` if the log must be read
/// anew: a commit is gone, there are too many, or they do something that only the kernel knows how to reconcile.
///
/// # Errors
///
/// When an entry is damaged.
pub(super) fn replay(
    backend: &dyn Backend,
    table: &Arc<Table>,
    before: &[Arc<Segment>],
    versions: std::ops::RangeInclusive<u64>,
) -> Result<Option<Replayed>> {
    if versions.end().saturating_sub(*versions.start()) >= COMMITS_MAX {
        return Ok(None);
    }
    let root = table.root();
    let mut txns = Vec::new();
    // What becomes of files that the commits name, by the path as the log writes it.
    let mut changed: HashMap<String, Option<Arc<Segment>>> = HashMap::new();
    let known: HashMap<&str, &Arc<Segment>> =
        before.iter().map(|segment| (segment.file().meta().logged_path.as_str(), segment)).collect();
    for version in versions {
        let Ok(actions) = log::actions(backend, root, version) else { return Ok(None) };
        let named = |action: &Value| action.get("path").and_then(Value::as_str).map(str::to_owned);
        // The actions of a commit have no order: what goes makes room for what comes.
        for remove in actions.iter().filter_map(|action| action.get("remove")) {
            let Some(path) = named(remove) else { return Ok(None) };
            let there = changed.get(&path).map_or_else(|| known.get(path.as_str()).copied().cloned(), Clone::clone);
            match there {
                Some(segment) if segment.vector() == vector_of(root, remove)?.as_ref() => {
                    changed.insert(path, None);
                }
                Some(_) => return Ok(None),
                None => {}
            }
        }
        for add in actions.iter().filter_map(|action| action.get("add")) {
            let Some(path) = named(add) else { return Ok(None) };
            if changed.get(&path).map_or_else(|| known.contains_key(path.as_str()), Option::is_some) {
                return Ok(None);
            }
            let entry = LogEntry::from_json(root, add)?;
            let vector = entry.vector.clone();
            let segment = match known.get(path.as_str()) {
                Some(known) => Segment::new(Arc::clone(known.file()), vector)?,
                None => Segment::new(Arc::new(entry.into_file(table)?), vector)?,
            };
            changed.insert(path, Some(Arc::new(segment)));
        }
        for txn in actions.iter().filter_map(|action| action.get("txn")) {
            let app = txn.get("appId").and_then(Value::as_str);
            let (Some(app), Some(version)) = (app, txn.get("version").and_then(Value::as_i64)) else {
                return Ok(None);
            };
            txns.push((app.to_owned(), version));
        }
    }
    let untouched = |segment: &&Arc<Segment>| !changed.contains_key(&segment.file().meta().logged_path);
    let mut segments: Vec<_> = before.iter().filter(untouched).cloned().collect();
    segments.extend(changed.into_values().flatten());
    Ok(Some(Replayed { segments, txns }))
}
