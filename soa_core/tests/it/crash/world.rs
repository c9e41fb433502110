//! A disk after a crash, and what must be on it.

use std::path::Path;
use std::sync::Arc;

use soa_core::Error;
use soa_core::store::{Durability, Store};

use super::disk::{CrashDisk, Event, History};
use super::oracle::{Mark, Oracle, Rows};
use super::rng::Rng;
use super::session::{Kind, LogSizes, Session, Step, create};
use super::sim::Sim;

/// How a program ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum End {
    /// It is killed; the operating system keeps what it has.
    Killed,
    PowerCut,
}

#[derive(Debug, Clone)]
pub(super) struct World {
    pub(super) sim: Sim,
    pub(super) oracle: Oracle,
    end: End,
}

/// Says, when a check fails, where it was.
pub(super) struct Context<F: Fn() -> String>(pub(super) F);

impl<F: Fn() -> String> Drop for Context<F> {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("it was: {}", self.0());
        }
    }
}

impl World {
    /// An empty disk.
    pub(super) fn new() -> Self {
        Self { sim: Sim::new(), oracle: Oracle::default(), end: End::PowerCut }
    }

    /// What is there if a program ends after the first `events` of its history. `oracle` is what may have been there when it
    /// began.
    pub(super) fn after(oracle: &Oracle, history: &History, events: usize, end: End, rng: &mut Rng) -> Self {
        let (mut sim, mut oracle) = (history.start.clone(), oracle.clone());
        for event in &history.events[..events] {
            match event {
                Event::Effect(effect) => sim.apply(effect),
                Event::Mark(mark) => oracle.apply(mark),
                Event::Fault => {}
            }
        }
        Self::ended(&sim, oracle, end, rng)
    }

    pub(super) fn ended(sim: &Sim, oracle: Oracle, end: End, rng: &mut Rng) -> Self {
        let sim = match end {
            End::Killed => sim.clone(),
            End::PowerCut => Sim::of(&sim.crash(rng)),
        };
        Self { sim, oracle, end }
    }

    /// Opens what is there as a new process would, checks it, writes to it and checks it again; `depth` times more after
    /// crashes while that is done. Gives how many states were checked.
    pub(super) fn check(mut self, kind: Kind, depth: usize, rng: &mut Rng) -> usize {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let disk = Arc::new(CrashDisk::new(self.sim.clone(), &path));
        let path = path.join("store.soa");
        self.enter(&disk, &path);
        let before = self.oracle.clone();
        self.use_again(&disk, &path, kind, rng);
        let mut checked = 1;
        if depth > 0 {
            let history = disk.history();
            let events = rng.below(history.events.len() + 1);
            let end = if rng.below(4) == 0 { End::Killed } else { End::PowerCut };
            let _context = Context(|| format!("then {end:?} after {}", history.tail(events)));
            checked += Self::after(&before, &history, events, end, rng).check(kind, depth - 1, rng);
        }
        checked
    }

    /// Opens what is there as a new process would, and checks it. Afterwards the oracle says what may be there from now on.
    pub(super) fn enter(&mut self, disk: &Arc<CrashDisk>, path: &Path) {
        let Some(rows) = self.look(disk, path) else {
            self.oracle = Oracle::default();
            return;
        };
        self.oracle.check(&rows, self.end == End::PowerCut).unwrap();
        self.oracle.crash();
        if self.end == End::PowerCut {
            // All that is on the disk is durable.
            self.oracle.apply(&Mark::Seen(rows));
        }
    }

    /// The rows of the store, unless there need not be one.
    fn look(&self, disk: &Arc<CrashDisk>, path: &Path) -> Option<Rows> {
        match Session::open(disk, path) {
            Ok(session) => {
                assert!(self.oracle.may_exist, "there is a store that nobody has made");
                let rows = session.rows().unwrap();
                check_all_is_well(&session.store);
                Some(rows)
            }
            Err(Error::NotFound { .. } | Error::NotAStore { .. }) if !self.oracle.exists => None,
            Err(error) => panic!("the store cannot be opened: {}", error.with_causes()),
        }
    }

    /// Goes on with the store as a program would that does not know of a crash.
    fn use_again(&mut self, disk: &Arc<CrashDisk>, path: &Path, kind: Kind, rng: &mut Rng) {
        if !self.oracle.exists {
            create(disk, path, kind).unwrap();
        }
        let mut session = Session::open(disk, path).unwrap();
        let before = session.rows().unwrap();
        session.run(&Step::Open(Durability::Sync, LogSizes::LARGE)).unwrap();
        assert_eq!(session.rows().unwrap(), before, "a new writer has changed rows");
        disk.mark(Mark::Seen(before.clone()));
        let mut expected = before;
        let lane = 9;
        let mut row = |rng: &mut Rng| {
            let id = loop {
                let id = 9_000_000 + rng.below(1_000_000) as i64;
                if !expected.contains_key(&id) {
                    break id;
                }
            };
            let row = (id, rng.below(1000) as i64, format!("p{}", rng.below(2)));
            expected.insert(id, (row.1, row.2.clone()));
            row
        };
        let (first, second) = (row(rng), row(rng));
        session.run(&Step::Add(lane, vec![first, second])).unwrap();
        if rng.below(2) == 0 {
            session.run(&Step::Flush).unwrap();
            let more = row(rng);
            session.run(&Step::Add(lane, vec![more])).unwrap();
        }
        session.run(&Step::Close).unwrap();
        let last = row(rng);
        session.run(&Step::Append(lane, vec![last])).unwrap();
        assert_eq!(session.rows().unwrap(), expected);
        assert_eq!(session.store.snapshot().unwrap().log_row_count(), 0, "a writer was closed and has not published");
        check_all_is_well(&session.store);
    }
}

pub(super) fn check_all_is_well(store: &Store) {
    assert_eq!(store.verify().unwrap().problems, Vec::<String>::new());
}
