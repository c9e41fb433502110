//! Files of a store with bytes that nobody has written there: never a panic, and never other rows than there were.
//!
//! `SOA_FUZZ_SECONDS` says for how long (otherwise [`CASES`] are tried), `SOA_SEED` what is tried.

use std::collections::BTreeMap;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, AsArray, Decimal128Array, Float64Array, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::{Decimal128Type, Float64Type, Int64Type};
use soa_core::Result;
use soa_core::predicate::{CompareOp, Predicate, Scalar};
use soa_core::scan::ScanRequest;
use soa_core::schema::{DataType, Field, Schema};
use soa_core::store::{Store, WriterOptions};

use super::crash::{Rng, number, seed};

/// How many are tried where no time is given.
const CASES: usize = 1_500;
/// No file of a few rows takes longer than this to be found damaged.
const CASE_TIME_MAX: Duration = Duration::from_secs(20);

/// No row has this key.
const TWICE: i64 = i64::MIN;

/// By key: the bits of the price, the amount in cents, the city and the note.
type Rows = BTreeMap<i64, (u64, i128, String, String)>;

/// Few different texts: an Arrow form has a dictionary of them.
const CITIES: [&str; 3] = ["Oslo", "Bern", "a city with a name of more than twelve bytes"];

/// A store with files of every kind, and what it holds.
struct Template {
    dir: tempfile::TempDir,
    /// Relative to the store.
    files: Vec<PathBuf>,
    /// The rows after each frame of the write-ahead log; before the first one, those that are published.
    states: Vec<Rows>,
}

fn batch(rows: &[(i64, f64, String)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
    let prices: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Float64Array>());
    let notes: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.2)));
    let amounts = rows.iter().map(|row| i128::from(row.0) * 1_001).collect::<Decimal128Array>();
    let amounts: ArrayRef = Arc::new(amounts.with_precision_and_scale(15, 2).unwrap());
    let city = |row: &(i64, f64, String)| CITIES[usize::try_from(row.0).unwrap() % CITIES.len()];
    let cities: ArrayRef = Arc::new(rows.iter().map(|row| Some(city(row))).collect::<StringArray>());
    let columns = [("id", ids), ("price", prices), ("amount", amounts), ("city", cities), ("note", notes)];
    RecordBatch::try_from_iter(columns).unwrap()
}

fn some_rows(ids: impl Iterator<Item = i64>, round: i64) -> Vec<(i64, f64, String)> {
    let note = |id: i64| format!("note {id} of round {round}, {}", "long ".repeat(usize::try_from(id % 5).unwrap()));
    ids.map(|id| (id, (id * 31 + round) as f64 / 7.0, note(id))).collect()
}

fn read(store: &Store) -> Result<Rows> {
    let snapshot = store.snapshot()?;
    let plan = snapshot.plan(&ScanRequest { columns: vec![0, 1, 2, 3, 4], ..Default::default() })?;
    let mut rows = Rows::new();
    for unit in 0..plan.units().len() {
        let batch = plan.read(unit)?;
        let (ids, prices) =
            (batch.column(0).as_primitive::<Int64Type>(), batch.column(1).as_primitive::<Float64Type>());
        let (amounts, cities) = (batch.column(2).as_primitive::<Decimal128Type>(), batch.column(3).as_string_view());
        for (row, note) in batch.column(4).as_string_view().iter().enumerate() {
            let note = note.unwrap_or_default().to_owned();
            let value = (prices.value(row).to_bits(), amounts.value(row), cities.value(row).to_owned(), note);
            if rows.insert(ids.value(row), value).is_some() {
                // Makes it another table than there was.
                rows.insert(TWICE, (0, 0, String::new(), format!("key {} occurs twice", ids.value(row))));
            }
        }
    }
    Ok(rows)
}

fn template() -> Template {
    let dir = tempfile::tempdir().unwrap();
    let fields = vec![
        Field::new("id", DataType::Int64),
        Field::new("price", DataType::Float64),
        Field::new("amount", DataType::Decimal { precision: 15, scale: 2 }),
        Field::new("city", DataType::Utf8),
        Field::nullable("note", DataType::Utf8),
    ];
    let store = Store::create(dir.path().join("store"), Schema::new(fields).unwrap().with_key("id").unwrap()).unwrap();
    // More versions than there are between two checkpoints.
    for round in 0..11 {
        store.upsert(&[batch(&some_rows((0..120).map(|id| id * (round % 3 + 1)), round))]).unwrap();
    }
    store.delete(&Predicate::compare(0, CompareOp::Lt, Scalar::Int(9))).unwrap();
    let mut options = WriterOptions::default();
    options.publish_age = Duration::from_secs(3600);
    let writer = store.writer(options).unwrap();
    let mut states = vec![read(&store).unwrap()];
    for round in 20..24 {
        writer.add_batch(&batch(&some_rows((round..round + 200).step_by(17), round))).unwrap();
        states.push(read(&store).unwrap());
        writer.delete(&(Arc::new(Int64Array::from(vec![round, 30])) as ArrayRef)).unwrap();
        states.push(read(&store).unwrap());
    }
    // As if the process had been killed.
    std::mem::forget(writer);
    let mut files = Vec::new();
    let mut dirs = vec![store.path().to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            match path.is_dir() {
                true => dirs.push(path),
                false => files.push(path.strip_prefix(store.path()).unwrap().to_owned()),
            }
        }
    }
    files.sort();
    let has = |end: &str| files.iter().any(|file| file.to_string_lossy().ends_with(end));
    for kind in [".parquet", ".arrow", ".key", ".bin", ".wal", ".json", ".checkpoint.parquet"] {
        assert!(has(kind), "{kind}: {files:?}");
    }
    Template { dir, files, states }
}

/// Bytes like those of the file, but for something.
fn mutate(rng: &mut Rng, good: &[u8], other: &[u8]) -> Vec<u8> {
    let mut bytes = good.to_vec();
    for _ in 0..=rng.below(3) {
        let len = bytes.len();
        if len == 0 {
            break;
        }
        let at = match rng.below(3) {
            // Headers and footers are worth more than what is between them.
            0 => rng.below(len.min(128)),
            1 => len - 1 - rng.below(len.min(512)),
            _ => rng.below(len),
        };
        let end = (at + 1 + rng.below(64)).min(len);
        match rng.below(9) {
            0 => bytes[at] ^= 1 << rng.below(8),
            1 => bytes[at] = rng.below(256) as u8,
            2 => bytes.truncate(at),
            3 => bytes[at..end].fill(0),
            4 => bytes[at..end].fill(0xff),
            5 => bytes.extend_from_within(at..end),
            6 => drop(bytes.drain(at..end)),
            7 => {
                let number =
                    [0_u64, 1, u64::MAX, i64::MAX as u64, u64::from(u32::MAX), 1 << 31][rng.below(6)].to_le_bytes();
                let width = [1, 2, 4, 8][rng.below(4)].min(len - at);
                bytes[at..at + width].copy_from_slice(&number[..width]);
            }
            _ => {
                let from = rng.below(other.len().max(1));
                let piece = &other[from.min(other.len())..other.len().min(from + end - at)];
                bytes[at..at + piece.len()].copy_from_slice(piece);
            }
        }
    }
    bytes
}

/// A copy of the store with other content in one file, and without Arrow forms if `is_parquet`.
fn copy_with(template: &Template, to: &Path, changed: &Path, content: &[u8], is_parquet: bool) {
    let from = template.dir.path().join("store");
    for file in &template.files {
        let target = to.join(file);
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        if file == changed {
            fs::write(target, content).unwrap();
        } else if !is_parquet || file.extension().is_none_or(|extension| extension != "arrow") {
            fs::hard_link(from.join(file), target).unwrap();
        }
    }
}

/// What somebody does who opens a store.
fn use_store(path: &Path) -> Result<Rows> {
    let store = Store::open(path)?;
    let rows = read(&store)?;
    for key in [0, 10, 40, 1_000_000] {
        let found = store.get(&Scalar::Int(key))?.num_rows();
        let expected = usize::from(i64::try_from(key).is_ok_and(|key| rows.contains_key(&key)));
        assert!(found == expected || rows.contains_key(&TWICE), "key {key} is found {found} times, not {expected}");
    }
    store.history()?;
    store.verify()?;
    Ok(rows)
}

#[test]
fn bytes_that_nobody_wrote_are_found_out() {
    let template = template();
    let mut rng = Rng::new(seed());
    let seconds = number("SOA_FUZZ_SECONDS", 0);
    let until = Instant::now() + Duration::from_secs(seconds as u64);
    let (mut cases, mut refused) = (0, 0);
    let contents: Vec<Vec<u8>> =
        template.files.iter().map(|file| fs::read(template.dir.path().join("store").join(file)).unwrap()).collect();
    while if seconds > 0 { Instant::now() < until } else { cases < CASES } {
        let file = rng.below(template.files.len());
        let other = rng.below(contents.len());
        let content = mutate(&mut rng, &contents[file], &contents[other]);
        let name = &template.files[file];
        let path = template.dir.path().join(format!("case-{cases}"));
        copy_with(&template, &path, name, &content, rng.below(2) == 0);
        let started = Instant::now();
        let used = catch_unwind(AssertUnwindSafe(|| use_store(&path)));
        let keep = |what: &str| -> ! {
            let kept = std::env::temp_dir().join(format!("fuzzed-{}-{cases}", std::process::id()));
            let _ = fs::rename(&path, &kept);
            panic!("{}: {what}; the store is kept in {}", name.display(), kept.display())
        };
        // The log of the table has no checksums: there, anything but a panic will do.
        let is_checked = !name.starts_with("_delta_log");
        match used {
            Err(_) => keep("a panic"),
            Ok(Err(_)) => refused += 1,
            // The end of the write-ahead log may look as if it had not been written whole.
            Ok(Ok(rows)) if is_checked && !template.states.contains(&rows) => keep("other rows"),
            Ok(Ok(rows)) if is_checked && name.extension().is_none_or(|kind| kind != "wal") => {
                if Some(&rows) != template.states.last() {
                    keep("rows are missing");
                }
            }
            Ok(Ok(_)) => {}
        }
        if started.elapsed() > CASE_TIME_MAX {
            keep("it took too long");
        }
        fs::remove_dir_all(&path).unwrap();
        cases += 1;
    }
    println!("{cases} files, {refused} refused");
    assert!(refused > cases / 20, "{refused} of {cases} were refused: what was changed was not looked at");
}
