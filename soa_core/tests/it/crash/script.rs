//! Every moment of a program that does everything.

use std::sync::Arc;
use std::time::Instant;

use soa_core::store::Durability;

use super::disk::{CrashDisk, History};
use super::oracle::{LANE_KEYS, Oracle, Row};
use super::rng::Rng;
use super::session::{Kind, LogSizes, Session, Step, create};
use super::world::{Context, End, World};
use super::{crashes, seed};

fn row(lane: usize, key: i64, value: i64) -> Row {
    (lane as i64 * LANE_KEYS + key, value, format!("p{}", value % 3))
}

fn rows(lane: usize, keys: impl IntoIterator<Item = i64>, value: i64) -> Vec<Row> {
    keys.into_iter().map(|key| row(lane, key, value + key)).collect()
}

/// What the program does.
fn script(kind: Kind) -> Vec<Step> {
    let upsert = |lane, keys: std::ops::Range<i64>, value| match kind.is_keyed {
        true => Step::Upsert(lane, rows(lane, keys, value)),
        // Other keys each time: nothing replaces anything.
        false => Step::Append(lane, rows(lane, keys.map(|key| key + value * 100), value)),
    };
    let add = |lane, keys: std::ops::Range<i64>, value| match kind.is_keyed {
        true => Step::Add(lane, rows(lane, keys, value)),
        false => Step::Add(lane, rows(lane, keys.map(|key| key + value * 100), value)),
    };
    let delete = |lane, keys: Vec<i64>| match kind.is_keyed {
        true => Step::DeleteKeys(lane, keys.iter().map(|key| lane as i64 * LANE_KEYS + key).collect()),
        false => Step::DeleteBelow(lane, keys[0]),
    };
    let add_deletes = |lane, keys: Vec<i64>| match kind.is_keyed {
        true => Step::AddDeletes(lane, keys.iter().map(|key| lane as i64 * LANE_KEYS + key).collect()),
        false => add(lane, 0..2, 7000),
    };
    let mut steps = vec![
        Step::Append(0, rows(0, 0..40, 0)),
        upsert(0, 10..15, 100),
        delete(0, vec![11, 35]),
        Step::AtOnce(
            (1..4).map(|lane| (0..3).map(|round| upsert(lane, round..round + 4, 10 * round)).collect()).collect(),
        ),
        Step::DeleteBelow(0, 8),
        Step::Open(Durability::Sync, LogSizes::LARGE),
        add(0, 0..3, 200),
        add(0, 2..5, 300),
        add_deletes(0, vec![3, 20]),
        Step::Flush,
        add(0, 4..6, 400),
        Step::Compact,
        Step::AtOnce(
            (1..5).map(|lane| (0..4).map(|round| add(lane, round..round + 2, 500 + round)).collect()).collect(),
        ),
        Step::Close,
        Step::Compact,
        upsert(0, 0..2, 600),
        Step::Vacuum,
        Step::Open(Durability::Buffered, LogSizes::LARGE),
        add(0, 0..2, 700),
        add(1, 0..2, 700),
        Step::Sync,
        add(0, 5..8, 800),
        add_deletes(1, vec![0]),
        Step::Drop,
        Step::Open(Durability::Sync, LogSizes { publish_rows: 5, ..LogSizes::LARGE }),
    ];
    steps.extend((0..8).map(|round| add(2, round..round + 2, 900 + round)));
    if !kind.is_keyed {
        steps.extend((0..3).flat_map(|round| [upsert(0, 0..2, 1000 + round), add(1, 0..2, 1100 + round)]));
    }
    steps.push(Step::Close);
    steps.extend((0..6).map(|round| upsert(3, round..round + 2, 1200 + round)));
    steps.push(delete(3, vec![1, 2]));
    steps.extend([Step::Vacuum, Step::Compact, Step::Vacuum, upsert(3, 2..5, 1300)]);
    steps
}

fn run(kind: Kind) -> History {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let disk = Arc::new(CrashDisk::new(World::new().sim, &path));
    let path = path.join("store.soa");
    create(&disk, &path, kind).unwrap();
    let mut session = Session::open(&disk, &path).unwrap();
    script(kind).iter().for_each(|step| session.run(step).unwrap());
    disk.history()
}

#[test]
fn a_crash_at_any_moment_of_a_program_leaves_what_was_acknowledged() {
    let started = Instant::now();
    let mut rng = Rng::new(seed());
    let histories: Vec<(Kind, History)> = Kind::ALL.into_iter().map(|kind| (kind, run(kind))).collect();
    let moments: usize = histories.iter().map(|(_, history)| history.events.len() + 1).sum();
    let step = (moments / crashes()).max(1);
    let mut checked = 0;
    let mut points = 0;
    for (kind, history) in &histories {
        for events in (rng.below(step)..=history.events.len()).step_by(step) {
            let end = if rng.below(5) == 0 { End::Killed } else { End::PowerCut };
            let _context = Context(|| format!("{kind:?}, {end:?} after {}", history.tail(events)));
            let depth = usize::from(rng.below(2) == 0);
            checked += World::after(&Oracle::default(), history, events, end, &mut rng).check(*kind, depth, &mut rng);
            points += 1;
        }
    }
    println!("{points} of {moments} moments, {checked} states, {:.1} s", started.elapsed().as_secs_f64());
}
