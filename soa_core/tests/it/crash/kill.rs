//! Processes that are killed while they write, again and again, on one store.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use soa_core::store::{Store, Writer, WriterOptions};

use super::oracle::{LANE_KEYS, Mark, Op, Oracle, Outcome, Way};
use super::rng::Rng;
use super::session::{Kind, batch, keys, rows};
use super::world::check_all_is_well;
use super::{number, seed};

/// Where the process that is killed finds the store, and what its operations depend on.
const PATH: &str = "SOA_KILL_PATH";
const SEED: &str = "SOA_KILL_SEED";
const KIND: Kind = Kind { is_keyed: true, is_partitioned: true, has_vectors: true };
const LANES: usize = 3;
/// Operations of each lane between two changes of the way in which rows are written.
const PHASE: usize = 12;

/// What a lane does as its operation of this number.
fn operation(seed: u64, lane: usize, number: usize) -> Op {
    let mut rng = Rng::new(seed ^ (lane * 1_000_003 + number) as u64);
    let mut id = || (lane as i64) * LANE_KEYS + rng.below(200) as i64;
    let ids = [id(), id(), id()];
    match rng.below(4) {
        0 => Op::Remove(ids.to_vec()),
        _ => Op::Put(ids.iter().map(|id| (*id, number as i64, format!("p{}", id % 3))).collect()),
    }
}

#[test]
#[ignore = "it is the process that the next test kills"]
fn a_process_that_writes_until_it_is_killed() {
    let path = std::env::var(PATH).expect("it is run by another test");
    let seed = std::env::var(SEED).unwrap().parse().unwrap();
    let store = Store::open_or_create(Path::new(&path), KIND.schema()).unwrap();
    for phase in 0.. {
        let mut options = WriterOptions::default();
        options.publish_rows = 25;
        let writer = (phase % 2 == 0).then(|| store.writer(options).unwrap());
        std::thread::scope(|scope| {
            for lane in 0..LANES {
                let (store, writer) = (&store, &writer);
                scope.spawn(move || {
                    for number in phase * PHASE..(phase + 1) * PHASE {
                        println!("begin {lane} {number}");
                        run(store, writer.as_ref(), &operation(seed, lane, number));
                        println!("end {lane} {number}");
                    }
                });
            }
        });
        if let Some(writer) = writer {
            writer.close().unwrap();
        }
    }
}

fn run(store: &Store, writer: Option<&Writer>, op: &Op) {
    match (op, writer) {
        (Op::Put(rows), Some(writer)) => writer.add_batch(&batch(rows)).unwrap(),
        (Op::Put(rows), None) => drop(store.upsert(&[batch(rows)]).unwrap()),
        (Op::Remove(ids), Some(writer)) => writer.delete(&keys(ids)).unwrap(),
        (Op::Remove(ids), None) => drop(store.delete_keys(&keys(ids)).unwrap()),
        (Op::RemoveBelow(_), _) => panic!("no lane does this"),
    }
}

/// Runs a process for a while and kills it. What it said.
fn run_and_kill(path: &Path, seed: u64, rng: &mut Rng) -> Vec<String> {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["crash::kill::a_process_that_writes_until_it_is_killed", "--exact", "--ignored", "--nocapture"])
        .env(PATH, path)
        .env(SEED, seed.to_string())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let stdout = child.stdout.take().unwrap();
    let (sender, lines) = mpsc::channel();
    let reader = std::thread::spawn(move || {
        // A line that was cut by the kill was not said.
        let mut stdout = BufReader::new(stdout);
        let mut line = String::new();
        while stdout.read_line(&mut line).unwrap() > 0 && line.ends_with('\n') {
            let _ = sender.send(std::mem::take(&mut line));
        }
    });
    let mut said = Vec::new();
    if rng.below(4) > 0 {
        // Not while it opens the store. (One that ends says nothing more.)
        said.extend(lines.iter().find(|line| line.starts_with("begin")));
    }
    std::thread::sleep(Duration::from_micros(rng.below(120_000) as u64));
    assert_eq!(child.try_wait().unwrap(), None, "the process ended by itself");
    child.kill().unwrap();
    child.wait().unwrap();
    reader.join().unwrap();
    said.extend(lines);
    said
}

#[test]
fn processes_that_are_killed_leave_what_they_acknowledged() {
    let started = Instant::now();
    let mut rng = Rng::new(seed());
    let rounds = number("SOA_KILLS", 50);
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("store.soa");
    let mut oracle = Oracle::default();
    let mut acknowledged = 0;
    for round in 0..rounds {
        let seed = rng.next();
        for line in run_and_kill(&path, seed, &mut rng) {
            let words: Vec<&str> = line.split_whitespace().collect();
            let number = |index: usize| -> usize { words[index].parse().unwrap() };
            match words.first() {
                Some(&"begin") => {
                    let op = operation(seed, number(1), number(2));
                    oracle.apply(&Mark::Begin { lane: number(1), op, way: Way::Behind });
                }
                Some(&"end") => {
                    oracle.apply(&Mark::End { lane: number(1), outcome: Outcome::Durable });
                    acknowledged += 1;
                }
                // What the test's harness says.
                _ => {}
            }
        }
        let Ok(store) = Store::open(&path) else {
            assert_eq!(acknowledged, 0, "the store is gone in round {round}");
            continue;
        };
        let found = rows(&store.snapshot().unwrap()).unwrap();
        oracle.check(&found, false).unwrap_or_else(|problem| panic!("round {round}: {problem}"));
        oracle.crash();
        oracle.apply(&Mark::Seen(found));
        if round % 10 == 0 {
            check_all_is_well(&store);
        }
    }
    assert!(acknowledged > rounds, "{acknowledged} operations in {rounds} rounds are too few to tell anything");
    check_all_is_well(&Store::open(&path).unwrap());
    println!("{rounds} kills, {acknowledged} operations acknowledged, {:.1} s", started.elapsed().as_secs_f64());
}
