//! A store and a map do the same, while others look at the store.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use proptest::prelude::*;
use soa_core::store::{Backend, Durability, Store};
use soa_core::{Error, ErrorKind};

use super::disk::CrashDisk;
use super::oracle::{Op, Row, Rows};
use super::session::{Kind, LogSizes, Session, Step, create, rows};
use super::sim::Sim;
use super::world::check_all_is_well;

const READERS: usize = 2;

/// What a store has held, as far as its user knows: each state is written down before it is asked for.
#[derive(Default)]
struct Past {
    states: Mutex<Vec<Rows>>,
    /// The last state that was acknowledged.
    acknowledged: AtomicUsize,
    is_over: AtomicBool,
}

impl Past {
    fn len(&self) -> usize {
        self.states.lock().unwrap_or_else(PoisonError::into_inner).len()
    }

    /// The first state of these rows from one on, of those there were before another one.
    fn find(&self, rows: &Rows, from: usize, to: usize) -> Option<usize> {
        let states = self.states.lock().unwrap_or_else(PoisonError::into_inner);
        (from..to).find(|index| states[*index] == *rows)
    }

    /// Looks at a store until it is over. Every look sees a state of the store that was there between its begin and its
    /// end, and none that is older than what was seen before.
    fn look(&self, store: &Store) -> usize {
        let (mut last, mut looks) = (0, 0);
        while !self.is_over.load(Ordering::Acquire) {
            let from = self.acknowledged.load(Ordering::Acquire).max(last);
            let snapshot = store.snapshot().unwrap();
            let to = self.len();
            let seen = rows(&snapshot).unwrap();
            last = self.find(&seen, from, to).unwrap_or_else(|| panic!("no state from {from} to {to} is {seen:?}"));
            looks += 1;
            match store.snapshot_of(snapshot.id()) {
                Ok(again) => assert_eq!(rows(&again).unwrap(), seen, "the same snapshot has other rows"),
                Err(Error::SnapshotTooOld { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        looks
    }
}

fn row(lane: usize) -> impl Strategy<Value = Row> {
    (0..30_i64, 0..100_i64, 0..3_u8).prop_map(move |(id, value, part)| (id + lane as i64, value, format!("p{part}")))
}

fn step() -> impl Strategy<Value = Step> {
    let some = || prop::collection::vec(row(0), 1..6);
    let ids = || prop::collection::vec(0..30_i64, 1..4);
    let durability = prop_oneof![Just(Durability::Sync), Just(Durability::Buffered)];
    let sizes = prop_oneof![
        3 => Just(LogSizes::LARGE),
        1 => Just(LogSizes { publish_rows: 3, ..LogSizes::LARGE }),
        1 => Just(LogSizes { log_bytes_max: 300, ..LogSizes::LARGE }),
    ];
    prop_oneof![
        2 => some().prop_map(|rows| Step::Append(0, rows)),
        4 => some().prop_map(|rows| Step::Upsert(0, rows)),
        2 => ids().prop_map(|ids| Step::DeleteKeys(0, ids)),
        1 => (0..40_i64).prop_map(|bound| Step::DeleteBelow(0, bound)),
        4 => (durability, sizes).prop_map(|(durability, sizes)| Step::Open(durability, sizes)),
        8 => some().prop_map(|rows| Step::Add(0, rows)),
        4 => ids().prop_map(|ids| Step::AddDeletes(0, ids)),
        1 => Just(Step::Sync),
        2 => Just(Step::Flush),
        2 => Just(Step::Close),
        1 => Just(Step::Drop),
        2 => Just(Step::Compact),
    ]
}

/// What a step should do to the rows; `None` if it cannot be done now.
fn operation(step: &Step, rows: &Rows, has_writer: bool) -> Option<Result<Op, ErrorKind>> {
    let commits = matches!(step, Step::Append(..) | Step::Upsert(..) | Step::DeleteKeys(..) | Step::DeleteBelow(..));
    if commits && has_writer {
        return Some(Err(ErrorKind::Conflict));
    }
    match step {
        Step::Append(_, new) => {
            let mut ids: Vec<i64> = new.iter().map(|row| row.0).collect();
            ids.sort_unstable();
            let is_taken = ids.windows(2).any(|pair| pair[0] == pair[1]) || ids.iter().any(|id| rows.contains_key(id));
            Some(if is_taken { Err(ErrorKind::DuplicateKey) } else { Ok(Op::Put(new.clone())) })
        }
        Step::Upsert(_, new) => Some(Ok(Op::Put(new.clone()))),
        Step::DeleteKeys(_, ids) => Some(Ok(Op::Remove(ids.clone()))),
        Step::DeleteBelow(_, bound) => Some(Ok(Op::RemoveBelow(*bound))),
        Step::Add(_, new) => has_writer.then(|| Ok(Op::Put(new.clone()))),
        Step::AddDeletes(_, ids) => has_writer.then(|| Ok(Op::Remove(ids.clone()))),
        Step::Open(..) => (!has_writer).then(|| Ok(Op::Remove(Vec::new()))),
        Step::Sync | Step::Flush | Step::Close | Step::Drop => has_writer.then(|| Ok(Op::Remove(Vec::new()))),
        Step::Compact => Some(Ok(Op::Remove(Vec::new()))),
        Step::Vacuum | Step::AtOnce(_) => panic!("{step:?} is not for those that others look at"),
    }
}

fn run(kind: Kind, steps: &[Step]) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().canonicalize().unwrap();
    let disk = Arc::new(CrashDisk::new(Sim::new(), &path));
    let path = path.join("store.soa");
    create(&disk, &path, kind).unwrap();
    let past = Past::default();
    past.states.lock().unwrap().push(Rows::new());
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..READERS)
            .map(|_| {
                let store = Store::open_on(Arc::clone(&disk) as Arc<dyn Backend>, &path).unwrap();
                let past = &past;
                scope.spawn(move || past.look(&store))
            })
            .collect();
        let outcome = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| use_store(&disk, &path, steps, &past)));
        past.is_over.store(true, Ordering::Release);
        for reader in readers {
            reader.join().unwrap();
        }
        outcome.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    });
}

fn use_store(disk: &Arc<CrashDisk>, path: &std::path::Path, steps: &[Step], past: &Past) {
    let mut session = Session::open(disk, path).unwrap();
    let mut model = Rows::new();
    for step in steps {
        let Some(expected) = operation(step, &model, session.has_writer()) else { continue };
        match expected {
            Err(kind) => assert_eq!(session.run(step).unwrap_err().kind(), kind, "{step:?}"),
            Ok(op) => {
                op.apply(&mut model);
                past.states.lock().unwrap().push(model.clone());
                session.run(step).unwrap();
                past.acknowledged.store(past.len() - 1, Ordering::Release);
                assert_eq!(session.rows().unwrap(), model, "after {step:?}");
            }
        }
    }
    session.run(&Step::Close).unwrap();
    assert_eq!(session.rows().unwrap(), model);
    check_all_is_well(&session.store);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: super::number("SOA_CASES", 24) as u32, ..ProptestConfig::default() })]
    #[test]
    fn a_store_does_what_a_map_does_while_others_look(
        steps in prop::collection::vec(step(), 1..40),
        is_partitioned in any::<bool>(),
        has_vectors in any::<bool>(),
    ) {
        run(Kind { is_keyed: true, is_partitioned, has_vectors }, &steps);
    }
}
