//! Small segments joined, and half-deleted ones written anew, without changing a row.

use std::ops::Range;
use std::sync::Arc;

use super::arrow_forms::{self, ArrowSizes};
use super::place::{Partitions, Place};
use super::properties;
use super::regroup::{Limits, Regroup, Regrouped};
use crate::error::{Error, Result};
use crate::store::commit::{self, Change, Failure};
use crate::store::segment::Segment;
use crate::store::snapshot::Snapshot;
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
    /// The rows of a segment at most, up to [`SEGMENT_ROWS_MAX`]. Segments with less than half of them are small. A segment
    /// written anew may have more where there is no place for several between its neighbours.
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
    /// How many segments stay as they are because others changed them meanwhile, one with which they were to be joined is
    /// damaged, or too little was won.
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
    /// theirs. The write-ahead log is not touched. Damaged segments stay as they are: [`verify`](Self::verify) tells of them.
    ///
    /// # Errors
    ///
    /// When an option makes no sense, a file cannot be read or written, or other writers keep being faster.
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
        commit::check_writable(&base)?;
        let groups = plan(&base, &ArrowSizes::list(self)?, options);
        let to_write: u64 = groups.iter().map(Group::row_count).sum();
        let mut done = CompactProgress { rows_done: 0, rows_total: to_write + base.row_count() };
        let mut advance = |rows: u64| {
            done.rows_done = (done.rows_done + rows).min(done.rows_total);
            progress(done);
        };
        let limits = Limits { rows: options.segment_rows_max, bytes: SEGMENT_BYTES_MAX };
        let mut compacted = rewrite(self, &base, &groups, limits, &mut advance)?.compacted;
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

/// The segments to be written anew.
fn plan(snapshot: &Snapshot, sizes: &ArrowSizes, options: &CompactOptions) -> Vec<Group> {
    let bytes_of = |segment: &Segment| {
        let all = sizes.of(segment).unwrap_or_else(|| bytes_without_form(segment));
        let share = segment.row_count() as f64 / segment.file().row_count().max(1) as f64;
        (all as f64 * share) as u64
    };
    let (rows_max, bytes_max) = (options.segment_rows_max as u64, SEGMENT_BYTES_MAX as u64);
    let is_small = |segment: &Segment| segment.row_count() * 2 < rows_max && bytes_of(segment) * 2 < bytes_max;
    let is_hollow = |segment: &Segment| {
        segment.deleted_count() as f64 > segment.file().row_count() as f64 * options.deleted_share_max
    };
    let mut groups = Vec::new();
    for partition in Partitions::of(snapshot).iter() {
        let (mut start, mut rows, mut bytes) = (0, 0, 0);
        let mut complete = |range: Range<usize>, bytes: u64| {
            let sources = &partition[range.clone()];
            let has_hollow = sources.iter().any(|segment| is_hollow(segment));
            // One alone would be what it was.
            let is_worth = sources.len() > 1 || has_hollow;
            let group =
                Group { sources: sources.to_vec(), outputs_max: Place::of(partition, range).room(), bytes, has_hollow };
            groups.extend((is_worth && group.has_place()).then_some(group));
        };
        for (at, segment) in partition.iter().enumerate() {
            let is_wanted = is_small(segment) || is_hollow(segment);
            let (more_rows, more_bytes) = (segment.row_count(), bytes_of(segment));
            if !is_wanted || rows + more_rows > rows_max || bytes + more_bytes > bytes_max {
                complete(start..at, bytes);
                (start, rows, bytes) = (at + usize::from(!is_wanted), 0, 0);
            }
            if is_wanted {
                rows += more_rows;
                bytes += more_bytes;
            }
        }
        complete(start..partition.len(), bytes);
    }
    groups
}

/// About how much memory the rows of a segment take of which there is no Arrow form.
pub(super) fn bytes_without_form(segment: &Segment) -> u64 {
    let about = segment.parquet_bytes().saturating_mul(PARQUET_EXPANSION);
    match segment.file().is_own() {
        // More was not put into one of ours.
        true => about.min(SEGMENT_BYTES_MAX as u64),
        false => about,
    }
    .max(segment.file().arrow_bytes_min())
}

/// Neighbours within a partition that are to become one segment, or few.
#[derive(Debug)]
pub(super) struct Group {
    pub(super) sources: Vec<Arc<Segment>>,
    /// How many segments there is room for between the one before them and the next one.
    pub(super) outputs_max: u64,
    /// About how much memory their rows take.
    pub(super) bytes: u64,
    /// Whether it is worth being written however many segments become of it, because of rows that are deleted.
    pub(super) has_hollow: bool,
}

impl Group {
    pub(super) fn row_count(&self) -> u64 {
        self.sources.iter().map(|segment| segment.row_count()).sum()
    }

    /// Whether as many segments as there is room for can hold the rows.
    pub(super) fn has_place(&self) -> bool {
        // The last one may be larger than the others.
        let bytes_max = self.outputs_max.saturating_add(1).saturating_mul(SEGMENT_BYTES_MAX as u64);
        let rows_max = self.outputs_max.saturating_mul(SEGMENT_ROWS_MAX as u64);
        self.outputs_max > 0 && self.row_count() <= rows_max && self.bytes <= bytes_max
    }
}

/// What came of writing segments anew.
#[derive(Debug, Default)]
pub(super) struct Rewritten {
    pub(super) compacted: Compacted,
    /// The paths of segments that will not be joined the next time either: because they are damaged, or hold so much that too
    /// little would be won.
    pub(super) hopeless: Vec<String>,
}

/// Writes each group of segments anew and commits that, now and then, so that little is lost if it is interrupted.
///
/// # Errors
///
/// When a file cannot be read or written, or other writers keep being faster. A group with a damaged segment is given up.
pub(super) fn rewrite(
    store: &Store,
    base: &Arc<Snapshot>,
    groups: &[Group],
    limits: Limits,
    progress: &mut dyn FnMut(u64),
) -> Result<Rewritten> {
    let mut done = Rewritten::default();
    done.compacted.version = base.version();
    let mut pending: Vec<Regrouped> = Vec::new();
    let (mut rows, mut sources) = (0, 0);
    for group in groups {
        match Regrouped::write(store, base, group, limits, progress)? {
            Regroup::Written(regrouped) => pending.push(regrouped),
            Regroup::InVain => {
                done.compacted.segments_given_up += group.sources.len() as u64;
                done.hopeless.extend(group.sources.iter().map(|segment| segment.path().to_owned()));
                continue;
            }
            Regroup::Damaged(path) => {
                done.compacted.segments_given_up += group.sources.len() as u64;
                done.hopeless.push(path);
                continue;
            }
        }
        rows += group.row_count();
        sources += group.sources.len();
        if rows >= limits.rows as u64 || sources >= COMMIT_SOURCES_MAX {
            commit(store, base, std::mem::take(&mut pending), &mut done.compacted)?;
            (rows, sources) = (0, 0);
        }
    }
    commit(store, base, pending, &mut done.compacted)?;
    Ok(done)
}

/// Commits what was written in the place of segments of `base`, where they are still there.
fn commit(store: &Store, base: &Arc<Snapshot>, written: Vec<Regrouped>, compacted: &mut Compacted) -> Result<()> {
    if written.is_empty() {
        return Ok(());
    }
    let mut exchanged = Vec::new();
    let outcome = commit::commit(store, base, &mut |base| {
        let partitions = Partitions::of(base);
        let index = partitions.index();
        let may_delete = !delta_schema::rewrites_files(base.delta());
        let mut change = Change { operation: "OPTIMIZE", is_data_change: false, ..Change::default() };
        exchanged.clear();
        for regrouped in &written {
            let exchange = regrouped.exchange(&index, may_delete)?;
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
