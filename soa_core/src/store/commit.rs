//! Commits that may meet others: what is to change is worked out anew on every version that it is tried on.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use roaring::RoaringBitmap;
use serde_json::{Map, Value, json};

use super::log::{self, Outcome};
use super::logged_stats::LoggedStats;
use super::segment::{self, Segment, Written};
use super::snapshot::Snapshot;
use super::{Store, delta_schema, paths, vector};
use crate::error::{Error, Result};

/// How often a commit is tried against others that keep being faster.
const ATTEMPTS_MAX: u32 = 100;
/// The tag of an `add` whose rows were in the table before.
pub(super) const REWRITTEN_TAG: &str = "soa.rewritten";
/// The longest wait before another attempt.
const BACKOFF_MS_MAX: u64 = 50;

/// What a commit does to a table.
#[derive(Debug, Default)]
pub(super) struct Change {
    /// What Delta calls it: `WRITE`, `DELETE`, …
    pub(super) operation: &'static str,
    /// Whether rows come, go or change; not if they are only stored in another way.
    pub(super) is_data_change: bool,
    pub(super) added: Vec<Added>,
    pub(super) removed: Vec<Arc<Segment>>,
    /// Segments of which other rows are gone than before: all of those, as positions in the file.
    pub(super) deletions: Vec<(Arc<Segment>, RoaringBitmap)>,
    /// The application and its version that this is, for what must happen once.
    pub(super) txn: Option<(String, i64)>,
    /// Actions that change the table itself.
    pub(super) table: Vec<Value>,
    /// How many rows are new, and how many are gone.
    pub(super) rows_added: u64,
    pub(super) rows_deleted: u64,
}

/// A segment that a commit adds.
#[derive(Debug)]
pub(super) struct Added {
    /// The action, but for its time.
    action: Value,
    parquet_bytes: u64,
    /// The time by which it takes its place among the segments; the last, if there is none.
    modified_ms: Option<i64>,
    /// Its rows that are gone already, as positions in the file.
    deleted: RoaringBitmap,
}

impl Added {
    /// Added behind all others.
    pub(super) fn last(written: &Written) -> Self {
        Self {
            action: written.add.clone(),
            parquet_bytes: written.parquet_bytes,
            modified_ms: None,
            deleted: RoaringBitmap::new(),
        }
    }

    /// Added in the place of another one, with what is left of its rows.
    pub(super) fn in_place_of(segment: &Segment, written: &Written) -> Self {
        let mut added = Self::at(segment.modified_ms(), written, RoaringBitmap::new());
        added.action["add"]["tags"][REWRITTEN_TAG] = "true".into();
        added
    }

    /// A segment whose file is in another store as well, without the rows at these positions.
    pub(super) fn copied(segment: &Segment, deleted: RoaringBitmap) -> Self {
        let mut copied = Self::again(segment);
        if let Some(add) = copied.action["add"].as_object_mut() {
            add.remove("deletionVector");
        }
        Self { deleted, ..copied }
    }

    /// A segment of an older version, with the rows that it has there.
    pub(super) fn again(segment: &Segment) -> Self {
        let mut action = add_action(segment, true);
        match (segment.vector(), &segment.file().meta().stats) {
            (Some(vector), _) => action["add"]["deletionVector"] = vector.to_json(),
            (None, Some(stats)) => action["add"]["stats"] = stats.text().into(),
            (None, None) => {}
        }
        // Of what its rows were in the place of, that commit told, and not the one that brings them back.
        if let Some(tags) = action["add"]["tags"].as_object_mut()
            && tags.remove(REWRITTEN_TAG).is_some()
            && tags.is_empty()
            && let Some(add) = action["add"].as_object_mut()
        {
            add.remove("tags");
        }
        let (parquet_bytes, modified_ms) = (segment.parquet_bytes(), Some(segment.modified_ms()));
        Self { action, parquet_bytes, modified_ms, deleted: RoaringBitmap::new() }
    }

    /// Added where segments of a time have their place, without rows that are gone already.
    pub(super) fn at(modified_ms: i64, written: &Written, deleted: RoaringBitmap) -> Self {
        Self { modified_ms: Some(modified_ms), deleted, ..Self::last(written) }
    }
}

/// Why there was no commit.
#[derive(Debug)]
pub(super) enum Failure {
    /// Nothing has changed.
    Nothing(Error),
    /// The commit may be there: the files that it names must stay.
    Unknown(Error),
}

impl Failure {
    pub(super) fn into_error(self) -> Error {
        match self {
            Self::Nothing(error) | Self::Unknown(error) => error,
        }
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        Self::Nothing(error)
    }
}

/// Commits what `plan` works out for the version that `base` is of or, where others are faster, for later ones.
/// Returns the version made, or that on which there was nothing to do.
pub(super) fn commit(
    store: &Store,
    base: &Arc<Snapshot>,
    plan: &mut dyn FnMut(&Arc<Snapshot>) -> Result<Option<Change>>,
) -> Result<u64, Failure> {
    let first = Arc::clone(base);
    let mut base = Arc::clone(base);
    for attempt in 0..ATTEMPTS_MAX {
        check_writable(&base)?;
        let change = plan(&base)?;
        // A log without a commit in its middle could not be read.
        store.make_durable(&base)?;
        let Some(change) = change else { return Ok(base.version()) };
        if !base.is_still_there(store.backend()) {
            let path = store.path().display();
            return Err(Error::mismatch(format!(
                "the store at \"{path}\" was replaced by another one meanwhile; try again"
            ))
            .into());
        }
        check_added(store, &change)?;
        let version = base.version() + 1;
        let (actions, file) = actions(store, Some(&base), &change)?;
        let outcome = log::commit(store.backend(), store.path(), version, change.operation, metrics(&change), &actions);
        // The file is of this attempt alone.
        let discard = || segment::remove(store.backend(), &file.into_iter().collect::<Vec<PathBuf>>());
        match outcome {
            Outcome::Committed => {
                store.note_durable(version);
                store.after_commit(version, base.segments().len());
                return Ok(version);
            }
            Outcome::Conflict => discard(),
            Outcome::Unknown(error) => return Err(Failure::Unknown(error)),
            Outcome::Failed(error) => {
                discard();
                return Err(error.into());
            }
        }
        back_off(attempt);
        base = store.published()?;
        if !base.schema().extends(first.schema()) {
            let path = store.path().display();
            return Err(Error::mismatch(format!(
                "the columns of \"{path}\" were changed by another writer meanwhile; try again"
            ))
            .into());
        }
    }
    Err(Error::Conflict { path: store.path().to_owned(), attempts: ATTEMPTS_MAX }.into())
}

/// Makes sure that the files are there which a commit is about to name. Files that no commit has named for longer than the
/// retention may have been removed.
///
/// # Errors
///
/// When one is not.
pub(super) fn check_added(store: &Store, change: &Change) -> Result<()> {
    for added in &change.added {
        let logged = added.action["add"]["path"].as_str().unwrap_or_default();
        let path = store.path().join(paths::decode(store.path(), logged)?);
        store.backend().stat(&path).map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                let gone = "it was removed before it was committed, by vacuum or by hand; write its rows again";
                Error::io("commit", &path)(std::io::Error::new(error.kind(), gone))
            }
            _ => Error::io("look at", &path)(error),
        })?;
    }
    Ok(())
}

/// The actions of a change on a version, or of a table's first one, and the file that was written for them, if any.
pub(super) fn actions(
    store: &Store,
    base: Option<&Snapshot>,
    change: &Change,
) -> Result<(Vec<Value>, Option<PathBuf>)> {
    let now = log::now_ms();
    let mut actions = Vec::new();
    if let Some((app, version)) = &change.txn {
        actions.push(json!({"txn": {"appId": app, "version": version, "lastUpdated": now}}));
    }
    actions.extend(change.table.iter().cloned());
    let vectors_come = !change.deletions.is_empty() || change.added.iter().any(|added| !added.deleted.is_empty());
    if let Some(base) = base
        && vectors_come
        && change.table.is_empty()
    {
        actions.extend(delta_schema::enable_deletion_vectors(base.delta())?);
    }
    for segment in &change.removed {
        actions.push(remove_action(segment, now, change.is_data_change));
    }
    let mut bitmaps: Vec<RoaringBitmap> = change.deletions.iter().map(|(_, deleted)| deleted.clone()).collect();
    bitmaps.extend(change.added.iter().map(|added| added.deleted.clone()).filter(|deleted| !deleted.is_empty()));
    let (file, vectors) = vector::write(store.backend(), store.path(), &bitmaps)?;
    let mut vectors = vectors.into_iter();
    for ((segment, _), vector) in change.deletions.iter().zip(vectors.by_ref()) {
        actions.push(remove_action(segment, now, change.is_data_change));
        let mut action = add_action(segment, change.is_data_change);
        action["add"]["deletionVector"] = vector.to_json();
        actions.push(action);
    }
    // Readers put segments in the order of these times, so that rows come in the order of commits.
    let segments = base.map_or(&[][..], Snapshot::segments);
    let newest = segments.iter().map(|segment| segment.modified_ms()).max().unwrap_or(0);
    let first_ms = now.max(newest.saturating_add(1));
    for (added, time) in change.added.iter().zip(first_ms..) {
        let mut action = added.action.clone();
        action["add"]["modificationTime"] = added.modified_ms.unwrap_or(time).into();
        action["add"]["dataChange"] = change.is_data_change.into();
        if !added.deleted.is_empty()
            && let Some(vector) = vectors.next()
        {
            action["add"]["deletionVector"] = vector.to_json();
            action["add"]["stats"] = loose_stats(action["add"]["stats"].as_str(), 0).into();
        }
        actions.push(action);
    }
    Ok((actions, file))
}

/// What a commit says of itself.
pub(super) fn metrics(change: &Change) -> Map<String, Value> {
    let bytes: u64 = change.added.iter().map(|added| added.parquet_bytes).sum();
    let mut metrics =
        vec![("numFiles", change.added.len() as u64), ("numOutputRows", change.rows_added), ("numOutputBytes", bytes)];
    if !change.removed.is_empty() {
        metrics.push(("numRemovedFiles", change.removed.len() as u64));
    }
    if !change.deletions.is_empty() {
        metrics.push(("numDeletionVectorsUpdated", change.deletions.len() as u64));
    }
    if change.rows_deleted > 0 {
        metrics.push(("numDeletedRows", change.rows_deleted));
    }
    metrics.into_iter().map(|(name, value)| (name.to_owned(), value.to_string().into())).collect()
}

/// The action by which a segment of a snapshot is removed.
fn remove_action(segment: &Segment, now_ms: i64, is_data_change: bool) -> Value {
    let mut action = json!({
        "path": segment.file().meta().logged_path,
        "deletionTimestamp": now_ms,
        "dataChange": is_data_change,
        "extendedFileMetadata": true,
        "partitionValues": partition_values(segment),
        "size": segment.parquet_bytes(),
    });
    if let Some(vector) = segment.vector() {
        action["deletionVector"] = vector.to_json();
    }
    json!({"remove": action})
}

/// The action by which a segment of a snapshot is added again, with all its rows.
pub(super) fn add_action(segment: &Segment, is_data_change: bool) -> Value {
    let meta = segment.file().meta();
    let mut action = json!({
        "path": segment.file().meta().logged_path,
        "partitionValues": partition_values(segment),
        "size": segment.parquet_bytes(),
        "modificationTime": segment.modified_ms(),
        "dataChange": is_data_change,
    });
    action["stats"] = loose_stats(meta.stats.as_ref().map(LoggedStats::text), segment.file().row_count()).into();
    if !meta.tags.is_empty() {
        action["tags"] =
            meta.tags.iter().map(|(name, value)| (name.clone(), json!(value))).collect::<Map<_, _>>().into();
    }
    json!({"add": action})
}

/// The statistics of a file of which rows are gone. Bounds of all rows need not be attained by those that are left. A vector
/// needs the number of rows there were, which is `rows` where the statistics do not say it.
fn loose_stats(stats: Option<&str>, rows: u64) -> String {
    let stats = stats.and_then(|stats| serde_json::from_str::<Map<String, Value>>(stats).ok());
    let mut stats = stats.unwrap_or_default();
    stats.entry("numRecords").or_insert_with(|| rows.into());
    stats.insert("tightBounds".to_owned(), false.into());
    Value::Object(stats).to_string()
}

fn partition_values(segment: &Segment) -> Map<String, Value> {
    segment.partition_values().map(|(name, value)| (name.to_owned(), json!(value))).collect()
}

/// Refuses tables whose rules for writers this release does not know.
pub(super) fn check_writable(snapshot: &Snapshot) -> Result<()> {
    let protocol = snapshot.delta().table_configuration().protocol();
    let refuse = |message: String| Err(Error::Unsupported { path: snapshot.path().to_owned(), message });
    if protocol.min_writer_version() > 7 || (3..7).contains(&protocol.min_writer_version()) {
        return refuse(format!(
            "writing to it needs Delta writer version {}, which this release does not know; it can be read",
            protocol.min_writer_version()
        ));
    }
    let known = ["appendOnly", "deletionVectors", "invariants", "timestampNtz"];
    for feature in protocol.writer_features().unwrap_or_default() {
        let name = feature.to_string();
        if !known.contains(&name.as_str()) {
            return refuse(format!(
                "writing to it needs the Delta feature \"{name}\", which this release does not know; it can be read"
            ));
        }
    }
    let schema = snapshot.delta().schema();
    let constrained = schema.fields().find(|field| field.metadata().contains_key("delta.invariants"));
    match constrained {
        Some(field) => refuse(format!(
            "its column \"{}\" has a constraint, which this release cannot check; it can be read",
            field.name()
        )),
        None => Ok(()),
    }
}

/// Refuses to take rows from a table that is declared to only grow.
pub(super) fn check_deletable(snapshot: &Snapshot) -> Result<()> {
    let append_only = snapshot.delta().metadata_configuration().get("delta.appendOnly");
    if append_only.is_some_and(|value| value == "true") {
        let message = "its property delta.appendOnly is true: rows cannot be deleted or replaced".to_owned();
        return Err(Error::Unsupported { path: snapshot.path().to_owned(), message });
    }
    Ok(())
}

fn back_off(attempt: u32) {
    // Any number will do to part two writers that collide; a UUID's bits are at hand.
    let random = u64::from(uuid::Uuid::new_v4().as_fields().0);
    let ceiling = (1_u64 << attempt.min(6)).min(BACKOFF_MS_MAX) * 1000;
    std::thread::sleep(Duration::from_micros(random % ceiling));
}
