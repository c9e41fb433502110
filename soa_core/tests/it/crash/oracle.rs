//! What may be on a disk, by what was asked of a store and what it answered.
//!
//! Work is done in lanes: each has keys of its own, and does one thing at a time. What is there of a lane after a crash is
//! what all that it was told was done has made, and perhaps, wholly, what it was not told.

use std::collections::BTreeMap;

/// A row's value and partition.
pub(super) type Value = (i64, String);
/// The rows of a lane, by key.
pub(super) type Rows = BTreeMap<i64, Value>;
pub(super) type Row = (i64, i64, String);

/// How many keys a lane has.
pub(super) const LANE_KEYS: i64 = 1_000_000;

/// Something that a store is asked to do.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Op {
    /// Rows come, or take the place of those with the same keys.
    Put(Vec<Row>),
    Remove(Vec<i64>),
    /// All rows of the lane go whose value is less.
    RemoveBelow(i64),
}

impl Op {
    pub(super) fn apply(&self, rows: &mut Rows) {
        match self {
            Self::Put(new) => rows.extend(new.iter().map(|(id, value, part)| (*id, (*value, part.clone())))),
            Self::Remove(ids) => rows.retain(|id, _| !ids.contains(id)),
            Self::RemoveBelow(bound) => rows.retain(|_, (value, _)| *value >= *bound),
        }
    }
}

/// How an operation is to those that came before it and may be lost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// Where it is, they are: it went through the write-ahead log behind them, or published them first.
    Behind,
    /// It was published past the log.
    Past,
}

/// What came of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Outcome {
    /// It is there, whatever happens.
    Durable,
    /// It is there, unless the power fails.
    Buffered,
    /// Nobody knows: an error.
    Unknown,
    /// It was refused: nothing has changed.
    Nothing,
}

/// What a program knows at a moment.
#[derive(Debug, Clone)]
pub(super) enum Mark {
    Begin {
        lane: usize,
        op: Op,
        way: Way,
    },
    End {
        lane: usize,
        outcome: Outcome,
    },
    /// The store is made: that was asked for.
    Creating,
    /// That was answered.
    Created,
    /// Everything that was answered is durable.
    Barrier,
    /// The store has these rows, durably.
    Seen(Rows),
}

#[derive(Debug, Clone)]
struct Lane {
    /// What may be there, durably.
    settled: Vec<Rows>,
    /// What was done since that a power cut may take back, the last first.
    loose: Vec<Op>,
    running: Option<(Op, Way)>,
}

/// What may be on a disk.
#[derive(Debug, Clone, Default)]
pub(super) struct Oracle {
    lanes: BTreeMap<usize, Lane>,
    pub(super) may_exist: bool,
    pub(super) exists: bool,
}

impl Default for Lane {
    /// It has nothing yet.
    fn default() -> Self {
        Self { settled: vec![Rows::new()], loose: Vec::new(), running: None }
    }
}

impl Lane {
    /// What may be there. If the power did not fail, nothing is lost that was done.
    fn candidates(&self, power_failed: bool) -> Vec<Rows> {
        let mut found: Vec<Rows> = Vec::new();
        for rows in &self.settled {
            let mut rows = rows.clone();
            for (index, op) in self.loose.iter().map(Some).chain([None]).enumerate() {
                let is_whole = index == self.loose.len();
                if power_failed || is_whole {
                    found.push(rows.clone());
                }
                if let Some((running, way)) = &self.running
                    && (is_whole || (power_failed && *way == Way::Past))
                {
                    let mut rows = rows.clone();
                    running.apply(&mut rows);
                    found.push(rows);
                }
                if let Some(op) = op {
                    op.apply(&mut rows);
                }
            }
        }
        found.sort();
        found.dedup();
        found
    }

    fn settle(&mut self) {
        for rows in &mut self.settled {
            self.loose.iter().for_each(|op| op.apply(rows));
        }
        self.loose.clear();
    }

    fn end(&mut self, outcome: Outcome) {
        let Some((op, way)) = self.running.clone() else { panic!("an operation ends that has not begun") };
        match outcome {
            Outcome::Durable => {
                if way == Way::Behind {
                    self.settle();
                }
                self.settled.iter_mut().for_each(|rows| op.apply(rows));
            }
            Outcome::Buffered => self.loose.push(op),
            Outcome::Unknown => {
                self.settled = self.candidates(true);
                self.loose.clear();
            }
            Outcome::Nothing => {}
        }
        self.running = None;
    }
}

impl Oracle {
    pub(super) fn apply(&mut self, mark: &Mark) {
        match mark {
            Mark::Creating => self.may_exist = true,
            Mark::Created => self.exists = true,
            Mark::Begin { lane, op, way } => {
                let lane = self.lanes.entry(*lane).or_default();
                assert!(lane.running.is_none(), "a lane does one thing at a time");
                lane.running = Some((op.clone(), *way));
            }
            Mark::End { lane, outcome } => self.lanes.get_mut(lane).unwrap().end(*outcome),
            Mark::Barrier => self.lanes.values_mut().for_each(Lane::settle),
            Mark::Seen(rows) => {
                self.check(rows, false).unwrap_or_else(|problem| panic!("a reader sees what cannot be: {problem}"));
                for (number, lane) in &mut self.lanes {
                    lane.settled = vec![part(rows, *number)];
                    lane.loose.clear();
                }
            }
        }
    }

    /// After the end of a process, what was running may be done or not, and a power cut may still take back what is loose.
    pub(super) fn crash(&mut self) {
        for lane in self.lanes.values_mut() {
            lane.settled = lane.candidates(true);
            lane.loose.clear();
            lane.running = None;
        }
    }

    /// Whether these rows may be there: in words what may not.
    pub(super) fn check(&self, rows: &Rows, power_failed: bool) -> Result<(), String> {
        for (number, lane) in &self.lanes {
            let found = part(rows, *number);
            let candidates = lane.candidates(power_failed);
            if !candidates.contains(&found) {
                let nearest = candidates.iter().min_by_key(|rows| difference(rows, &found).len());
                let difference = nearest.map(|rows| difference(rows, &found)).unwrap_or_default();
                return Err(format!(
                    "of lane {number} there is what may not be; of {} things that may, the nearest differs in {difference:?}",
                    candidates.len(),
                ));
            }
        }
        let known = |id: &i64| self.lanes.contains_key(&lane_of(*id));
        match rows.keys().find(|id| !known(id)) {
            Some(id) => Err(format!("nobody has put the row {id} there")),
            None => Ok(()),
        }
    }
}

pub(super) fn lane_of(id: i64) -> usize {
    usize::try_from(id / LANE_KEYS).unwrap()
}

fn part(rows: &Rows, lane: usize) -> Rows {
    let first = i64::try_from(lane).unwrap() * LANE_KEYS;
    rows.range(first..first + LANE_KEYS).map(|(id, value)| (*id, value.clone())).collect()
}

/// The keys of which one has another value than the other.
fn difference(one: &Rows, other: &Rows) -> Vec<(i64, Option<Value>, Option<Value>)> {
    let keys: std::collections::BTreeSet<i64> = one.keys().chain(other.keys()).copied().collect();
    let pairs = keys.into_iter().map(|key| (key, one.get(&key).cloned(), other.get(&key).cloned()));
    pairs.filter(|(_, one, other)| one != other).collect()
}
