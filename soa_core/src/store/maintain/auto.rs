//! What is looked after by itself when rows were published: small segments do not pile up, and Arrow forms stay within
//! their budget.

use std::ops::Range;
use std::sync::Arc;

use super::compact::{self, Group};
use super::place::{Partitions, Place};
use super::regroup::Limits;
use super::{arrow_forms, properties};
use crate::error::Result;
use crate::store::io::LockMode;
use crate::store::segment::Segment;
use crate::store::snapshot::Snapshot;
use crate::store::writing::SEGMENT_BYTES_MAX;
use crate::store::{SEGMENT_ROWS_MAX, Store, UNIT_ROWS};

/// So many neighbours are joined, or more,
const NEIGHBOURS: usize = 16;
/// and only if each has at most this part of their rows: then a row is written anew once for each time that its segment
/// has become so many times as large, 6 times at most until it has a unit's rows.
const GROWTH: u64 = 8;
/// A segment whose Parquet file has as many bytes is not small, however few its rows are.
const SMALL_BYTES_MAX: u64 = (SEGMENT_BYTES_MAX / NEIGHBOURS) as u64;
/// Neighbours joined at once at most.
const SOURCES_MAX: usize = 1000;
/// Held by whoever is at it: two would do the same work, one of them in vain.
const LOCK_FILE: &str = "_soa/compact.lock";

/// Looks after a store to which rows were published, in `is_small` parts or not. They are there whether this succeeds or not,
/// and the next time makes up for it.
pub(in crate::store) fn after_publishing(store: &Store, is_small: bool) {
    if is_small {
        let _ = join_small(store);
    }
    let _ = keep_arrow_forms(store);
}

fn keep_arrow_forms(store: &Store) -> Result<()> {
    let newest = store.published()?;
    if let Some(max) = properties::arrow_bytes_max(&newest)? {
        arrow_forms::keep_within(store, &newest, Some(max), false, &mut |_| {})?;
    }
    Ok(())
}

fn join_small(store: &Store) -> Result<()> {
    let newest = store.published()?;
    if !properties::auto_compact(&newest) || groups(store, &newest).is_empty() {
        return Ok(());
    }
    let path = store.path().join(LOCK_FILE);
    let guard = store.backend().lock(&path, LockMode::Exclusive);
    if guard.as_ref().is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock) {
        return Ok(());
    }
    let limits = Limits { rows: SEGMENT_ROWS_MAX, bytes: SEGMENT_BYTES_MAX };
    loop {
        // Whoever had the lock before may have done it.
        let newest = store.published()?;
        let done = compact::rewrite(store, &newest, &groups(store, &newest), limits, &mut |_| {})?;
        if done.hopeless.is_empty() {
            return Ok(());
        }
        // Others can be joined without them.
        store.pass_over(done.hopeless);
    }
}

/// The segments to be joined: in each partition the smallest neighbours, if there are enough of them.
fn groups(store: &Store, snapshot: &Snapshot) -> Vec<Group> {
    let powers = std::iter::successors(Some(2), |bound| Some(bound * 2)).take_while(|bound| *bound < UNIT_ROWS as u64);
    let bounds: Vec<u64> = powers.chain([UNIT_ROWS as u64]).collect();
    let partitions = Partitions::of(snapshot);
    partitions.iter().filter_map(|segments| bounds.iter().find_map(|bound| group(store, segments, *bound))).collect()
}

/// The first group of neighbours of less than `bound` rows each.
fn group(store: &Store, segments: &[Arc<Segment>], bound: u64) -> Option<Group> {
    let is_small = |segment: &Segment| {
        segment.row_count() < bound
            && segment.parquet_bytes() < SMALL_BYTES_MAX
            && !store.is_passed_over(segment.path())
    };
    let mut start = 0;
    let mut rows = 0;
    for (at, segment) in segments.iter().enumerate() {
        let fits = at - start < SOURCES_MAX && rows + segment.row_count() <= SEGMENT_ROWS_MAX as u64;
        if is_small(segment) && fits {
            rows += segment.row_count();
            continue;
        }
        if let Some(group) = complete(store, segments, start..at) {
            return Some(group);
        }
        start = if is_small(segment) { at } else { at + 1 };
        rows = if is_small(segment) { segment.row_count() } else { 0 };
    }
    complete(store, segments, start..segments.len())
}

fn complete(store: &Store, segments: &[Arc<Segment>], range: Range<usize>) -> Option<Group> {
    let sources = segments.get(range.clone())?;
    let largest = sources.iter().map(|segment| segment.row_count()).max().unwrap_or(0);
    let rows: u64 = sources.iter().map(|segment| segment.row_count()).sum();
    if sources.len() < NEIGHBOURS || rows < GROWTH * largest {
        return None;
    }
    // Rows that compress well fill segments although their files are small.
    let bytes_of = |segment: &Arc<Segment>| {
        let form = store.backend().stat(&segment.file().arrow_path());
        form.map_or_else(|_| compact::bytes_without_form(segment), |form| form.len)
    };
    let bytes = sources.iter().map(bytes_of).fold(0, u64::saturating_add);
    let outputs = bytes.div_ceil(SEGMENT_BYTES_MAX as u64);
    let outputs_max = Place::of(segments, range).room();
    let group = Group { sources: sources.to_vec(), outputs_max, bytes, has_hollow: false };
    (outputs * 2 <= sources.len() as u64 && group.has_place()).then_some(group)
}
