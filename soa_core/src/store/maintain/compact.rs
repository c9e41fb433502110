//! Small segments joined, and half-deleted ones written anew, without changing a row.

use std::collections::HashMap;
use std::sync::Arc;

use super::arrow_forms::{self, ArrowSizes};
use super::properties;
use super::regroup::{Limits, Regrouped};
use crate::error::{Error, Result};
use crate::store::segment::Segment;
use crate::store::snapshot::Snapshot;
use crate::store::transaction::{self, Change, Failure};
use crate::store::writing::SEGMENT_BYTES_MAX;
use crate::store::{SEGMENT_ROWS_MAX, Store, delta_schema};

/// The memory that rows of a file take which has no Arrow form, in bytes for each of its own.
const PARQUET_EXPANSION: u64 = 4;
/// Segments replaced by one commit at most; more make it large.
const COMMIT_SOURCES_MAX: usize = 1000;

/// What [`Store::compact`] does. [`Default`] suits most stores.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct CompactOptions {
    /// A segment is written anew if a larger share of its rows is deleted, from 0 to 1.
    pub deleted_share_max: f64,
    /// The rows of a segment at most, up to [`SEGMENT_ROWS_MAX`]. Segments with less than half of them are small.
    pub segment_rows_max: usize,
    /// How many bytes Arrow forms may take; `None`: what the store says (see [`Store::set_arrow_bytes_max`]).
    pub arrow_bytes_max: Option<u64>,
    /// Whether missing Arrow forms are made again where there is room for them.
    pub rebuild_arrow: bool,
}

impl Default for CompactOptions {
    fn default() -> Self {
        Self { deleted_share_max: 0.1, segment_rows_max: SEGMENT_ROWS_MAX, arrow_bytes_max: None, rebuild_arrow: true }
    }
}

/// What [`Store::compact`] has done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Compacted {
    /// The version that has it; the one that was there, if there was nothing to do.
    pub version: u64,
    /// How many segments were replaced,
    pub segments_removed: u64,
    /// and how many there are in their place.
    pub segments_added: u64,
    /// How many rows were written anew.
    pub rows_written: u64,
    /// How many deleted rows are in no file of the version any more.
    pub rows_dropped: u64,
    /// How many segments stay as they are because others changed them meanwhile.
    pub segments_given_up: u64,
    /// The bytes of Parquet files replaced,
    pub bytes_removed: u64,
    /// and of those in their place.
    pub bytes_added: u64,
    /// How many Arrow forms were made again.
    pub arrow_rebuilt: u64,
    /// How many Arrow forms were removed because they were over the budget.
    pub arrow_dropped: u64,
}

/// How far [`Store::compact_with`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactProgress {
    /// Rows written anew, or looked after in some other way.
    pub rows_done: u64,
    /// How many there will be.
    pub rows_total: u64,
}

impl Store {
    /// Joins small segments that are neighbours within a partition, writes segments anew of which many rows are deleted, and
    /// makes missing Arrow forms where the store's budget has room. No row changes, nor the order in which a scan gives the
    /// rows of a table without sort order; rows of a table with one are in it within each new segment.
    ///
    /// Readers are not disturbed: the files that were replaced stay until [`vacuum`](Self::vacuum). Others may write
    /// meanwhile: rows that they delete are deleted in the new segments as well, and what they replaced altogether stays
    /// theirs. The write-ahead log is not touched.
    ///
    /// # Errors
    ///
    /// When an option makes no sense, a segment is damaged, a file cannot be written, or other writers keep being faster.
    /// What was committed before stays.
    pub fn compact(&self, options: &CompactOptions) -> Result<Compacted> {
        self.compact_with(options, &mut |_| {})
    }

    /// As [`compact`](Self::compact); `progress` is told how far it is.
    ///
    /// # Errors
    ///
    /// As [`compact`](Self::compact).
    pub fn compact_with(
        &self,
        options: &CompactOptions,
        progress: &mut dyn FnMut(CompactProgress),
    ) -> Result<Compacted> {
        check(options)?;
        let base = self.published()?;
        transaction::check_writable(&base)?;
        let groups = plan(&base, &ArrowSizes::list(self)?, options);
        let to_write: u64 = groups.iter().flat_map(|group| &group.sources).map(|segment| segment.row_count()).sum();
        let mut done = CompactProgress { rows_done: 0, rows_total: to_write + base.row_count() };
        let mut advance = |rows: u64| {
            done.rows_done = (done.rows_done + rows).min(done.rows_total);
            progress(done);
        };
        let limits = Limits { rows: options.segment_rows_max, bytes: SEGMENT_BYTES_MAX };
        let mut compacted = rewrite(self, &base, groups, limits, &mut advance)?;
        let newest = self.published()?;
        let budget =
            options.arrow_bytes_max.map_or_else(|| properties::arrow_bytes_max(&newest), |max| Ok(Some(max)))?;
        let kept = arrow_forms::keep_within(self, &newest, budget, options.rebuild_arrow, &mut advance)?;
        compacted.arrow_rebuilt = kept.rebuilt;
        compacted.arrow_dropped = kept.dropped;
        Ok(compacted)
    }
}

fn check(options: &CompactOptions) -> Result<()> {
    if !(0.0..=1.0).contains(&options.deleted_share_max) {
        let share = options.deleted_share_max;
        return Err(Error::argument(format!("a share of deleted rows is from 0 to 1, not {share}")));
    }
    if !(1..=SEGMENT_ROWS_MAX).contains(&options.segment_rows_max) {
        let rows = options.segment_rows_max;
        return Err(Error::argument(format!("a segment has from 1 to {SEGMENT_ROWS_MAX} rows, not {rows} at most")));
    }
    Ok(())
}

/// The segments of each partition, in order.
pub(super) fn by_partition(snapshot: &Snapshot) -> Vec<Vec<Arc<Segment>>> {
    let mut index: HashMap<Vec<Option<String>>, usize> = HashMap::new();
    let mut partitions: Vec<Vec<Arc<Segment>>> = Vec::new();
    for segment in snapshot.segments() {
        let values = segment.partition_values().map(|(_, value)| value.map(str::to_owned)).collect();
        let at = *index.entry(values).or_insert(partitions.len());
        if at == partitions.len() {
            partitions.push(Vec::new());
        }
        partitions[at].push(Arc::clone(segment));
    }
    partitions
}

/// The segments to be written anew.
fn plan(snapshot: &Snapshot, sizes: &ArrowSizes, options: &CompactOptions) -> Vec<Group> {
    let bytes_of = |segment: &Segment| {
        let all = sizes.of(segment).unwrap_or(segment.parquet_bytes().saturating_mul(PARQUET_EXPANSION));
        let share = segment.row_count() as f64 / segment.file().row_count().max(1) as f64;
        (all as f64 * share) as u64
    };
    let (rows_max, bytes_max) = (options.segment_rows_max as u64, SEGMENT_BYTES_MAX as u64);
    let is_small = |segment: &Segment| segment.row_count() * 2 < rows_max && bytes_of(segment) * 2 < bytes_max;
    let is_hollow = |segment: &Segment| {
        segment.deleted_count() as f64 > segment.file().row_count() as f64 * options.deleted_share_max
    };
    let mut groups = Vec::new();
    for partition in by_partition(snapshot) {
        let mut group = Group::default();
        let (mut rows, mut bytes) = (0, 0);
        let mut before = None;
        for segment in partition {
            let is_wanted = is_small(&segment) || is_hollow(&segment);
            let (more_rows, more_bytes) = (segment.row_count(), bytes_of(&segment));
            if !is_wanted || rows + more_rows > rows_max || bytes + more_bytes > bytes_max {
                groups.extend(std::mem::take(&mut group).complete(Some(&segment), &is_hollow));
                (rows, bytes) = (0, 0);
            }
            let after = before.replace(segment.modified_ms());
            if is_wanted {
                if group.sources.is_empty() {
                    group.after = after;
                }
                rows += more_rows;
                bytes += more_bytes;
                group.sources.push(segment);
            }
        }
        groups.extend(group.complete(None, &is_hollow));
    }
    groups
}

/// Neighbours within a partition that are to become one segment.
#[derive(Debug, Default)]
pub(super) struct Group {
    pub(super) sources: Vec<Arc<Segment>>,
    /// The time of the segment before them.
    pub(super) after: Option<i64>,
}

impl Group {
    /// The group, if it is worth being written and has a place before the next segment.
    fn complete(self, next: Option<&Arc<Segment>>, is_hollow: &dyn Fn(&Segment) -> bool) -> Option<Self> {
        // One alone would be what it was.
        let is_worth = self.sources.len() > 1 || self.sources.iter().any(|segment| is_hollow(segment));
        (is_worth && self.has_place(next)).then_some(self)
    }

    /// Whether there is a time between the segment before and the next one. Others' files may all be of one time: which of
    /// them comes first is then told by the commits that they are of.
    pub(super) fn has_place(&self, next: Option<&Arc<Segment>>) -> bool {
        let Some(first) = self.sources.first().map(|first| first.modified_ms()) else { return false };
        self.after.is_none_or(|after| after < first) || next.is_none_or(|next| next.modified_ms() > first)
    }
}

/// Writes each group of segments anew and commits that, now and then, so that little is lost if it is interrupted.
pub(super) fn rewrite(
    store: &Store,
    base: &Arc<Snapshot>,
    groups: Vec<Group>,
    limits: Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Compacted> {
    let mut compacted = Compacted { version: base.version(), ..Compacted::default() };
    let mut pending: Vec<Regrouped> = Vec::new();
    let (mut rows, mut sources) = (0, 0);
    for group in groups {
        rows += group.sources.iter().map(|segment| segment.row_count()).sum::<u64>();
        sources += group.sources.len();
        pending.push(Regrouped::write(store, base.schema(), &group, limits, progress)?);
        if rows >= limits.rows as u64 || sources >= COMMIT_SOURCES_MAX {
            commit(store, base, std::mem::take(&mut pending), &mut compacted)?;
            (rows, sources) = (0, 0);
        }
    }
    commit(store, base, pending, &mut compacted)?;
    Ok(compacted)
}

/// Commits what was written in the place of segments of `base`, where they are still there.
fn commit(store: &Store, base: &Arc<Snapshot>, written: Vec<Regrouped>, compacted: &mut Compacted) -> Result<()> {
    if written.is_empty() {
        return Ok(());
    }
    let mut exchanged = Vec::new();
    let outcome = transaction::commit(store, base, &mut |base| {
        let by_path: HashMap<&str, &Arc<Segment>> =
            base.segments().iter().map(|segment| (segment.path(), segment)).collect();
        let may_delete = !delta_schema::rewrites_files(base.delta());
        let mut change = Change { operation: "OPTIMIZE", is_data_change: false, ..Change::default() };
        exchanged.clear();
        for regrouped in &written {
            let exchange = regrouped.exchange(&by_path, may_delete)?;
            exchanged.push(exchange.as_ref().map(|exchange| exchange.added.len() as u64));
            if let Some(exchange) = exchange {
                change.added.extend(exchange.added);
                change.removed.extend(exchange.removed);
            }
        }
        Ok((!change.removed.is_empty()).then_some(change))
    });
    let stays = !matches!(outcome, Err(Failure::Nothing(_)));
    for (regrouped, added) in written.into_iter().zip(exchanged) {
        let Some(added) = added else {
            compacted.segments_given_up += regrouped.replaced().count() as u64;
            continue;
        };
        compacted.segments_removed += regrouped.replaced().count() as u64;
        compacted.segments_added += added;
        compacted.rows_written += regrouped.written().map(|written| written.rows).sum::<u64>();
        compacted.rows_dropped += regrouped.replaced().map(|segment| segment.deleted_count()).sum::<u64>();
        compacted.bytes_removed += regrouped.replaced().map(|segment| segment.parquet_bytes()).sum::<u64>();
        compacted.bytes_added += regrouped.written().map(|written| written.parquet_bytes).sum::<u64>();
        if stays {
            regrouped.keep();
        }
    }
    compacted.version = outcome.map_err(Failure::into_error)?;
    Ok(())
}
