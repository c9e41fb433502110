//! Measures writing: what the benchmark compares with an fsync loop, SQLite and DuckDB.
//!
//! `write_speed FOLDER MEASURE [ROWS]` prints one JSON object of numbers. Measures: `add` (single rows, each durable, from 1
//! and from 16 threads, beside a loop of fsyncs of the same bytes), `upsert` (a tenth of the rows replaced at random), `reopen` (a full log),
//! `segments` (makes a store of ROWS segments, a commit each), `open` (opens that, and finds the one segment that has a key),
//! `commit` (adds more segments to it).

#[path = "support/orders.rs"]
mod orders;

use std::error::Error;
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::path::Path;
use std::time::{Duration, Instant};

use orders::{Order, OrderSoA, order};
use soa_core::kernel::StoredRecord;
use soa_core::predicate::{Predicate, Scalar};
use soa_core::scan::ScanRequest;
use soa_core::store::{Durability, Store, WriterOptions};

/// How long rates are measured.
const RATE_TIME: Duration = Duration::from_secs(2);
/// Of a frame with one order.
const FRAME_LEN: usize = 102;
/// Numbers of orders are spread by this prime.
const STRIDE: u64 = 7_368_787;

type Answer = Result<serde_json::Value, Box<dyn Error>>;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (folder, measure, rows) = match arguments.as_slice() {
        [folder, measure] => (folder, measure, 1_000_000),
        [folder, measure, rows] => (folder, measure, rows.parse()?),
        _ => return Err("give FOLDER MEASURE [ROWS]".into()),
    };
    let folder = Path::new(folder);
    let answer = match measure.as_str() {
        "add" => add(folder)?,
        "upsert" => upsert(folder, rows)?,
        "reopen" => reopen(folder)?,
        "segments" => segments(folder, rows)?,
        "open" => open(folder)?,
        "commit" => commit(folder)?,
        other => return Err(format!("\"{other}\" is no measure").into()),
    };
    println!("{answer}");
    Ok(())
}

fn fresh(folder: &Path, name: &str) -> Result<Store, Box<dyn Error>> {
    let path = folder.join(name);
    if path.exists() {
        fs::remove_dir_all(&path)?;
    }
    Ok(Store::create(path, Order::table_schema())?)
}

fn add(folder: &Path) -> Answer {
    let fsyncs = fsyncs_a_second(&folder.join("fsyncs"))?;
    let one = adds_a_second(folder, 1, Durability::Sync)?;
    let many = adds_a_second(folder, 16, Durability::Sync)?;
    let buffered = adds_a_second(folder, 1, Durability::Buffered)?;
    Ok(serde_json::json!({
        "fsyncs_per_second": fsyncs, "adds_per_second": one, "adds_per_second_16_threads": many,
        "buffered_adds_per_second": buffered,
    }))
}

/// How often bytes can be appended to a file and synced.
fn fsyncs_a_second(path: &Path) -> Result<f64, Box<dyn Error>> {
    let mut file = OpenOptions::new().append(true).create(true).open(path)?;
    let (start, mut count) = (Instant::now(), 0_u64);
    while start.elapsed() < RATE_TIME {
        file.write_all(&[7; FRAME_LEN])?;
        file.sync_data()?;
        count += 1;
    }
    fs::remove_file(path)?;
    Ok(count as f64 / start.elapsed().as_secs_f64())
}

fn adds_a_second(folder: &Path, threads: u64, durability: Durability) -> Result<f64, Box<dyn Error>> {
    let store = fresh(folder, "added.soa")?;
    let mut options = WriterOptions::default();
    options.durability = durability;
    options.publish_age = Duration::from_secs(3600);
    let writer = store.writer(options)?;
    let start = Instant::now();
    let counts = std::thread::scope(|scope| {
        let add = |thread: u64| {
            let mut count = 0;
            while start.elapsed() < RATE_TIME {
                writer.add(order(thread * 100_000_000 + count, 10_000_000))?;
                count += 1;
            }
            Ok::<u64, soa_core::Error>(count)
        };
        let running: Vec<_> = (0..threads).map(|thread| scope.spawn(move || add(thread))).collect();
        running
            .into_iter()
            .map(|thread| thread.join().map_err(|_| "a thread panicked")?.map_err(|e| e.to_string().leak() as &str))
            .collect::<Result<Vec<u64>, &str>>()
    })?;
    let rate = counts.iter().sum::<u64>() as f64 / start.elapsed().as_secs_f64();
    writer.close()?;
    if store.snapshot()?.row_count() != counts.iter().sum::<u64>() {
        return Err("rows are missing".into());
    }
    Ok(rate)
}

fn upsert(folder: &Path, rows: u64) -> Answer {
    let store = fresh(folder, "upserted.soa")?;
    for first in (0..rows).step_by(1_000_000) {
        let orders: OrderSoA = (first..rows.min(first + 1_000_000)).map(|row| order(row, rows)).collect();
        store.append(&[orders.to_record_batch()])?;
    }
    // A hundredth first, for what scans cost then.
    let hundredth: OrderSoA = (0..rows / 100).map(|row| order(row * STRIDE % rows, rows)).collect();
    store.upsert(&[hundredth.to_record_batch()])?;
    let written_before = bytes_below(store.path())?;
    let changed: OrderSoA = (0..rows / 10).map(|row| order(row * STRIDE % rows, rows)).collect();
    let changed = changed.to_record_batch();
    let start = Instant::now();
    let edited = store.upsert(std::slice::from_ref(&changed))?;
    let time = start.elapsed();
    Ok(serde_json::json!({
        "rows": rows, "upserted": rows / 10, "replaced": edited.rows_deleted, "upsert_ms": time.as_secs_f64() * 1e3,
        "bytes_given": changed.get_array_memory_size(), "bytes_written": bytes_below(store.path())? - written_before,
    }))
}

fn bytes_below(folder: &Path) -> Result<u64, std::io::Error> {
    let mut sum = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        sum += if metadata.is_dir() { bytes_below(&entry.path())? } else { metadata.len() };
    }
    Ok(sum)
}

fn reopen(folder: &Path) -> Answer {
    let store = fresh(folder, "reopened.soa")?;
    let path = store.path().to_owned();
    let mut options = WriterOptions::default();
    options.durability = Durability::Buffered;
    (options.publish_age, options.publish_rows, options.publish_bytes) =
        (Duration::from_secs(3600), usize::MAX, u64::MAX);
    let bound = options.log_bytes_max;
    let writer = store.writer(options)?;
    let per_frame = FRAME_LEN as u64;
    let count = (bound / per_frame).saturating_sub(10);
    for row in 0..count {
        writer.add(order(row * STRIDE % 100_000_000, 100_000_000))?;
    }
    writer.sync()?;
    let logged = store.path().join("_soa/wal");
    let bytes = bytes_below(&logged)?;
    // A copy is what a crash would leave, and no cache of this process knows it.
    let copy = folder.join("reopened-copy.soa");
    let _ = fs::remove_dir_all(&copy);
    copy_folder(&path, &copy)?;
    drop(writer);
    let start = Instant::now();
    let store = Store::open(&copy)?;
    let snapshot = store.snapshot()?;
    let read = start.elapsed();
    let start = Instant::now();
    let writer = store.writer(WriterOptions::default())?;
    writer.add(order(1, 10))?;
    let opened = start.elapsed();
    let rows = snapshot.row_count();
    writer.close()?;
    let answer = serde_json::json!({
        "log_bytes": bytes, "rows": rows, "snapshot_ms": read.as_secs_f64() * 1e3, "writer_ms": opened.as_secs_f64() * 1e3,
    });
    Ok(answer)
}

/// A segment has so many orders where there are many segments.
const FEW_ROWS: u64 = 100;

fn segments(folder: &Path, count: u64) -> Answer {
    let store = fresh(folder, "segments.soa")?;
    // Otherwise there would not be many for long.
    store.set_auto_compact(false)?;
    let total = count * FEW_ROWS;
    let start = Instant::now();
    let mut first_ms = 0.0;
    let mut last_ms = 0.0;
    for segment in 0..count {
        let orders: OrderSoA = (segment * FEW_ROWS..(segment + 1) * FEW_ROWS).map(|row| order(row, total)).collect();
        store.append(&[orders.to_record_batch()])?;
        // The means of the first and the last tenth.
        if segment + 1 == count / 10 {
            first_ms = start.elapsed().as_secs_f64() * 1e3 / (segment + 1) as f64;
        }
        if segment == count - count / 10 {
            last_ms = -start.elapsed().as_secs_f64() * 1e3;
        }
    }
    last_ms = (last_ms + start.elapsed().as_secs_f64() * 1e3) / (count / 10) as f64;
    Ok(serde_json::json!({ "segments": count, "first_commits_ms": first_ms, "last_commits_ms": last_ms }))
}

fn open(folder: &Path) -> Answer {
    let start = Instant::now();
    let store = Store::open(folder.join("segments.soa"))?;
    let snapshot = store.snapshot()?;
    let opened = start.elapsed();
    let key = snapshot.row_count() / 2;
    let request =
        ScanRequest { columns: vec![0], predicate: Some(Predicate::eq(0, Scalar::Int(key.into()))), limit: None };
    let plan = snapshot.plan(&request)?;
    let planned = start.elapsed();
    let counters = plan.counters();
    if counters.segments_read != 1 {
        return Err(format!("{} segments are left", counters.segments_read).into());
    }
    let again = Instant::now();
    Store::open(folder.join("segments.soa"))?.snapshot()?.plan(&request)?;
    Ok(serde_json::json!({
        "segments": counters.segments_total, "open_ms": opened.as_secs_f64() * 1e3,
        "open_and_plan_ms": planned.as_secs_f64() * 1e3, "again_ms": again.elapsed().as_secs_f64() * 1e3,
    }))
}

/// So many commits are measured.
const MORE_COMMITS: u64 = 100;

fn commit(folder: &Path) -> Answer {
    let store = Store::open(folder.join("segments.soa"))?;
    let first = store.snapshot()?.row_count();
    let start = Instant::now();
    for more in 0..MORE_COMMITS {
        let rows = first + more * FEW_ROWS..first + (more + 1) * FEW_ROWS;
        let orders: OrderSoA = rows.map(|row| order(row, first * 2)).collect();
        store.append(&[orders.to_record_batch()])?;
    }
    Ok(serde_json::json!({ "commit_ms": start.elapsed().as_secs_f64() * 1e3 / MORE_COMMITS as f64 }))
}

fn copy_folder(from: &Path, to: &Path) -> Result<(), std::io::Error> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        match entry.metadata()?.is_dir() {
            true => copy_folder(&entry.path(), &target)?,
            false => {
                fs::copy(entry.path(), &target)?;
                File::open(target)?.sync_all()?;
            }
        }
    }
    Ok(())
}
