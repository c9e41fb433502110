//! Programs of random steps, which end at random moments and are started again.

use std::sync::Arc;
use std::time::Instant;

use soa_core::store::Durability;

use super::disk::{CrashDisk, FAULTS, Fault};
use super::oracle::{LANE_KEYS, Row};
use super::rng::Rng;
use super::session::{Kind, LogSizes, Session, Step, create};
use super::world::{Context, End, World, check_all_is_well};
use super::{crashes, seed};

const LANES: usize = 4;
/// Programs on one disk, one after the other.
const PROGRAMS_MAX: usize = 5;
/// Moments of each program that are tried.
const MOMENTS: usize = 8;

/// Chooses what a program does next.
struct Chooser {
    rng: Rng,
    kind: Kind,
    next_key: i64,
}

impl Chooser {
    fn row(&mut self, lane: usize, is_new: bool) -> Row {
        let key = if is_new || !self.kind.is_keyed {
            self.next_key += 1;
            self.next_key
        } else {
            self.rng.below(25) as i64
        };
        let part = match self.rng.below(8) {
            0 => "a partition of a rather long name".to_owned(),
            number => format!("p{}", number % 3),
        };
        (lane as i64 * LANE_KEYS + key, self.rng.below(1000) as i64, part)
    }

    fn rows(&mut self, lane: usize, is_new: bool) -> Vec<Row> {
        let count = 1 + self.rng.below(5);
        (0..count).map(|_| self.row(lane, is_new)).collect()
    }

    fn keys(&mut self, lane: usize) -> Vec<i64> {
        let count = 1 + self.rng.below(4);
        (0..count).map(|_| lane as i64 * LANE_KEYS + self.rng.below(25) as i64).collect()
    }

    fn commit(&mut self, lane: usize) -> Step {
        match self.rng.below(10) {
            0..3 => Step::Append(lane, self.rows(lane, true)),
            3..7 if self.kind.is_keyed => Step::Upsert(lane, self.rows(lane, false)),
            7..9 if self.kind.is_keyed => Step::DeleteKeys(lane, self.keys(lane)),
            9 => Step::DeleteBelow(lane, self.rng.below(300) as i64),
            _ => Step::Append(lane, self.rows(lane, true)),
        }
    }

    fn log(&mut self, lane: usize) -> Step {
        match self.rng.below(4) {
            0 if self.kind.is_keyed => Step::AddDeletes(lane, self.keys(lane)),
            _ => Step::Add(lane, self.rows(lane, false)),
        }
    }

    fn open(&mut self) -> Step {
        let durability = if self.rng.below(3) == 0 { Durability::Buffered } else { Durability::Sync };
        let sizes = match self.rng.below(6) {
            // Some batches are more than half of what the log may hold: they are published at once.
            0 => LogSizes { publish_rows: 1000, log_bytes_max: 600 },
            1..3 => LogSizes { publish_rows: 4, log_bytes_max: 1 << 20 },
            _ => LogSizes::LARGE,
        };
        Step::Open(durability, sizes)
    }

    fn at_once(&mut self, mut step: impl FnMut(&mut Self, usize) -> Step) -> Step {
        Step::AtOnce((0..LANES).map(|lane| (0..1 + self.rng.below(3)).map(|_| step(self, lane)).collect()).collect())
    }

    fn next(&mut self, has_writer: bool) -> Step {
        let lane = self.rng.below(LANES);
        match (has_writer, self.rng.below(22)) {
            (_, 20) => Step::Compact,
            // What a writer is just publishing would be taken for what one has left.
            (false, 21) => Step::Vacuum,
            (false, 0..9) => self.commit(lane),
            (false, 9..11) => self.at_once(Self::commit),
            (false, _) => self.open(),
            (true, 0..9) => self.log(lane),
            (true, 9..11) => self.at_once(Self::log),
            (true, 11..13) if !self.kind.is_keyed => Step::Append(lane, self.rows(lane, true)),
            (true, 11..14) => Step::Flush,
            (true, 14..16) => Step::Sync,
            (true, 16..18) => Step::Close,
            (true, 18) => Step::Drop,
            (true, _) => self.log(lane),
        }
    }
}

/// Runs programs on one disk, each after the end of the one before, and checks what is there at moments of each. Gives how
/// many states were checked. With a fault, something goes wrong in each program.
fn run(kind: Kind, rng: &mut Rng, with_faults: bool) -> usize {
    let mut world = World::new();
    let mut checked = 0;
    let mut chooser = Chooser { rng: rng.fork(), kind, next_key: 1000 };
    for _ in 0..1 + rng.below(PROGRAMS_MAX) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let disk = Arc::new(CrashDisk::new(world.sim.clone(), &path));
        let path = path.join("store.soa");
        let _context = Context(|| {
            let history = disk.history();
            format!("{kind:?}, in a program after {}", history.tail(history.events.len()))
        });
        world.enter(&disk, &path);
        let before = world.oracle.clone();
        if with_faults {
            run_with_fault(&disk, &path, kind, &before, &mut chooser, rng);
        } else {
            if !before.exists {
                create(&disk, &path, kind).unwrap();
            }
            let mut session = Session::open(&disk, &path).unwrap();
            for _ in 0..3 + rng.below(20) {
                let step = chooser.next(session.has_writer());
                session.run(&step).unwrap();
            }
        }
        let history = disk.history();
        for _ in 0..MOMENTS {
            let end = if rng.below(4) == 0 { End::Killed } else { End::PowerCut };
            let events = rng.below(history.events.len() + 1);
            let _context = Context(|| format!("{kind:?}, {end:?} after {}", history.tail(events)));
            let depth = [0, 0, 1, 2][rng.below(4)];
            checked += World::after(&before, &history, events, end, rng).check(kind, depth, rng);
        }
        let end = if rng.below(2) == 0 { End::Killed } else { End::PowerCut };
        let events = rng.below(history.events.len() + 1);
        world = World::after(&before, &history, events, end, rng);
    }
    checked
}

/// Runs a program in which something goes wrong; it goes on as well as it can.
fn run_with_fault(
    disk: &Arc<CrashDisk>,
    path: &std::path::Path,
    kind: Kind,
    before: &super::oracle::Oracle,
    chooser: &mut Chooser,
    rng: &mut Rng,
) {
    let fault = FAULTS[rng.below(FAULTS.len())];
    disk.inject(rng.below(120), fault, rng.next());
    if !before.exists && create(disk, path, kind).is_err() {
        disk.mend();
        create(disk, path, kind).unwrap();
    }
    let mut session = Session::open(disk, path).unwrap();
    for _ in 0..5 + rng.below(20) {
        let step = chooser.next(session.has_writer());
        if let Err(error) = session.run(&step) {
            let is_harmless = matches!(fault, Fault::ShortWrite | Fault::Interrupted);
            assert!(!is_harmless, "{fault:?} was not got over in {step:?}: {}", error.with_causes());
            // Room is not found at once.
            if rng.below(2) == 0 {
                disk.mend();
            }
            if rng.below(3) > 0 {
                session.run(&Step::Drop).unwrap();
            }
        }
    }
    disk.mend();
    session.run(&Step::Drop).unwrap();
    session.run(&Step::Open(Durability::Sync, LogSizes::LARGE)).unwrap();
    disk.mark(super::oracle::Mark::Seen(session.rows().unwrap()));
    session.run(&Step::Close).unwrap();
    check_all_is_well(&session.store);
}

fn run_many(share: usize, with_faults: bool) {
    let started = Instant::now();
    let mut rng = Rng::new(seed());
    let (mut checked, mut disks) = (0, 0);
    while checked < crashes() / share {
        let kind = Kind::ALL[disks % Kind::ALL.len()];
        let number = rng.next();
        let _context = Context(|| format!("disk {number} of a {kind:?}"));
        checked += run(kind, &mut Rng::new(number), with_faults);
        disks += 1;
    }
    println!("{checked} states of {disks} disks, {:.1} s", started.elapsed().as_secs_f64());
}

#[test]
fn random_programs_that_crash_leave_what_was_acknowledged() {
    run_many(1, false);
}

#[test]
fn random_programs_lose_nothing_when_calls_fail() {
    run_many(2, true);
}
