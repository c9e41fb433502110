//! Where segments are among those of their partition. Rows come in the order of segments' times, so that what replaces some
//! must have times between those of the segment before them and of the next one.

use std::collections::HashMap;
use std::ops::Range;
use std::sync::Arc;

use crate::store::segment::Segment;
use crate::store::snapshot::Snapshot;

/// The segments of a version, by partition, in order.
#[derive(Debug)]
pub(super) struct Partitions(Vec<Vec<Arc<Segment>>>);

impl Partitions {
    pub(super) fn of(snapshot: &Snapshot) -> Self {
        let mut index: HashMap<Vec<Option<&str>>, usize> = HashMap::new();
        let mut partitions: Vec<Vec<Arc<Segment>>> = Vec::new();
        for segment in snapshot.segments() {
            let values = segment.partition_values().map(|(_, value)| value).collect();
            let at = *index.entry(values).or_insert(partitions.len());
            if at == partitions.len() {
                partitions.push(Vec::new());
            }
            partitions[at].push(Arc::clone(segment));
        }
        Self(partitions)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &[Arc<Segment>]> {
        self.0.iter().map(Vec::as_slice)
    }

    /// To find segments by path.
    pub(super) fn index(&self) -> Index<'_> {
        let places =
            self.0.iter().flat_map(|partition| partition.iter().enumerate().map(move |(at, s)| (s, partition, at)));
        Index(places.map(|(segment, partition, at)| (segment.path(), (partition.as_slice(), at))).collect())
    }
}

/// By path: the partition that a segment is in, and where.
pub(super) struct Index<'a>(HashMap<&'a str, (&'a [Arc<Segment>], usize)>);

impl<'a> Index<'a> {
    /// Segments of these paths, and their place. `None` if they are not all there and neighbours, in this order.
    pub(super) fn neighbours<'b>(&self, paths: impl Iterator<Item = &'b str>) -> Option<(&'a [Arc<Segment>], Place)> {
        let mut paths = paths.peekable();
        let (partition, start) = *self.0.get(*paths.peek()?)?;
        let mut end = start;
        for path in paths {
            if partition.get(end)?.path() != path {
                return None;
            }
            end += 1;
        }
        Some((&partition[start..end], Place::of(partition, start..end)))
    }
}

/// The times that there are for what replaces segments: between these two, neither included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    after: Option<i64>,
    before: Option<i64>,
}

impl Place {
    /// The place of some of a partition's segments.
    pub(super) fn of(partition: &[Arc<Segment>], range: Range<usize>) -> Self {
        let time = |at: usize| partition.get(at).map(|segment| segment.modified_ms());
        Self { after: range.start.checked_sub(1).and_then(time), before: time(range.end) }
    }

    /// How many segments there is room for. (Others' files may all be of one time: then it is none.)
    pub(super) fn room(self) -> u64 {
        match (self.after, self.before) {
            (Some(after), Some(before)) => u64::try_from(i128::from(before) - i128::from(after) - 1).unwrap_or(0),
            _ => u64::MAX,
        }
    }

    /// Times for `count` segments, each later than the one before, in the place of segments with the times `sources`, near
    /// which they are. `None` if there is no room.
    pub(super) fn times(self, sources: &[i64], count: usize) -> Option<Vec<i64>> {
        let mut times = Vec::with_capacity(count);
        let mut earliest = self.after.map_or(i64::MIN, |after| after.saturating_add(1));
        for at in 0..count {
            let time = earliest.max(*sources.get(at).or(sources.last())?);
            times.push(time);
            earliest = time.saturating_add(1);
        }
        let mut latest = self.before.map_or(i64::MAX, |before| before.saturating_sub(1));
        for time in times.iter_mut().rev() {
            *time = latest.min(*time);
            latest = time.saturating_sub(1);
        }
        let bounds = self.after.into_iter().chain(times.iter().copied()).chain(self.before);
        bounds.is_sorted_by(|a, b| a < b).then_some(times)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(after: impl Into<Option<i64>>, before: impl Into<Option<i64>>) -> Place {
        Place { after: after.into(), before: before.into() }
    }

    #[test]
    fn times_are_those_of_the_sources_where_they_fit() {
        assert_eq!(place(9, 20).times(&[10, 15], 1), Some(vec![10]));
        assert_eq!(place(9, 20).times(&[10, 15], 2), Some(vec![10, 15]));
        assert_eq!(place(None, None).times(&[10], 3), Some(vec![10, 11, 12]));
        assert_eq!(place(9, 12).times(&[10], 2), Some(vec![10, 11]));
        assert_eq!(place(7, 12).times(&[10], 4), Some(vec![8, 9, 10, 11]));
        assert_eq!(place(9, 12).times(&[10], 3), None);
        // What shares a time with its neighbours.
        assert_eq!(place(10, 10).times(&[10, 10], 1), None);
        assert_eq!(place(10, 12).times(&[10, 10], 1), Some(vec![11]));
        assert_eq!(place(8, 10).times(&[10], 1), Some(vec![9]));
        assert_eq!(place(i64::MIN, i64::MAX).times(&[0], 1), Some(vec![0]));
        assert_eq!(place(i64::MAX, None).times(&[i64::MAX], 1), None);
        assert_eq!(place(None, i64::MIN).times(&[i64::MIN], 1), None);
    }

    proptest! {
        #[test]
        fn there_are_times_if_and_only_if_there_is_room(
            mut times in prop::collection::vec(0..30_i64, 3..8),
            count in 1..12_usize,
        ) {
            times.sort_unstable();
            let (after, before) = (times[0], times[times.len() - 1]);
            let found = place(after, before).times(&times[1..times.len() - 1], count);
            prop_assert_eq!(found.is_some(), place(after, before).room() >= count as u64);
            if let Some(found) = found {
                prop_assert!(found.is_sorted_by(|a, b| a < b));
                prop_assert!(found[0] > after && found[count - 1] < before);
            }
        }
    }
}
