//! A store that is made with its first rows is there with all of them, or not at all.

use std::path::Path;
use std::sync::Arc;

use soa_core::Error;
use soa_core::store::{Backend, Store};

use super::disk::{CrashDisk, FAULTS};
use super::oracle::{Oracle, Row, Rows};
use super::session::{Kind, Session, batch};
use super::world::{Context, End, World};
use super::{Rng, number, seed};

fn rows() -> Vec<Row> {
    (0..30).map(|id| (id, id * 10, format!("p{}", id % 3))).collect()
}

fn make(disk: &Arc<CrashDisk>, path: &Path, kind: Kind) -> Result<(), Error> {
    let mut creator = Store::creator_on(Arc::clone(disk) as Arc<dyn Backend>, path, kind.schema())?;
    rows().chunks(10).try_for_each(|rows| creator.write(&batch(rows)))?;
    creator.commit().map(drop)
}

/// Whether there is a store. It has all rows then.
fn is_whole(disk: &Arc<CrashDisk>, path: &Path) -> bool {
    match Session::open(disk, path) {
        Ok(session) => {
            let all: Rows = rows().into_iter().map(|(id, value, part)| (id, (value, part))).collect();
            assert_eq!(session.rows().unwrap(), all);
            assert!(session.store.verify().unwrap().problems.is_empty());
            true
        }
        Err(Error::NotFound { .. } | Error::NotAStore { .. }) => false,
        Err(error) => panic!("the store cannot be opened: {}", error.with_causes()),
    }
}

#[test]
fn a_crash_leaves_the_whole_store_or_none() {
    let mut rng = Rng::new(seed());
    let (mut made, mut moments) = (0, 0);
    for kind in Kind::ALL {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let disk = Arc::new(CrashDisk::new(World::new().sim, &path));
        make(&disk, &path.join("store.soa"), kind).unwrap();
        let history = disk.history();
        for events in 0..=history.events.len() {
            for end in [End::Killed, End::PowerCut] {
                let _context = Context(|| format!("{kind:?}, {end:?} after {}", history.tail(events)));
                let world = World::after(&Oracle::default(), &history, events, end, &mut rng);
                let dir = tempfile::tempdir().unwrap();
                let path = dir.path().canonicalize().unwrap();
                let disk = Arc::new(CrashDisk::new(world.sim, &path));
                let path = path.join("store.soa");
                let there = is_whole(&disk, &path);
                assert!(there || events < history.events.len(), "a store that was made is gone");
                // What is left is in nobody's way.
                assert!(there || make(&disk, &path, kind).is_ok_and(|()| is_whole(&disk, &path)));
                (made, moments) = (made + usize::from(there), moments + 1);
            }
        }
    }
    println!("{moments} moments, the store there at {made}");
    assert!(made >= 2 * Kind::ALL.len() && made < moments);
}

#[test]
fn calls_that_fail_leave_the_whole_store_or_none() {
    let mut rng = Rng::new(seed());
    let (mut failed, mut tried) = (0, 0);
    for _ in 0..number("SOA_CRASHES", 300) {
        let kind = Kind::ALL[rng.below(Kind::ALL.len())];
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().canonicalize().unwrap();
        let disk = Arc::new(CrashDisk::new(World::new().sim, &path));
        let path = path.join("store.soa");
        let (calls, fault) = (rng.below(150), FAULTS[rng.below(FAULTS.len())]);
        let _context = Context(|| format!("{kind:?}, {fault:?} at call {calls}"));
        disk.inject(calls, fault, rng.next());
        let outcome = make(&disk, &path, kind);
        disk.mend();
        let there = is_whole(&disk, &path);
        assert!(there || outcome.is_err());
        assert!(there || make(&disk, &path, kind).is_ok_and(|()| is_whole(&disk, &path)));
        (failed, tried) = (failed + usize::from(outcome.is_err()), tried + 1);
    }
    println!("{failed} of {tried} failed");
    assert!(failed > 0 && failed < tried);
}
