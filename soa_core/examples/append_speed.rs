//! Measures [`Store::append`]: orders published in one commit, against writing and syncing the bytes of the files that
//! this makes.
//!
//! `append_speed FOLDER [ROWS [ROUNDS]]` works in a new folder below FOLDER, which it removes, and prints one line of
//! JSON: rows, the bytes of both forms, the seconds of each round of both. Each round appends to a new store and writes
//! to a new file.

use std::error::Error;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Instant;

use soa_core::arrow::array::RecordBatch;
use soa_core::kernel::StoredRecord;
use soa_core::store::Store;

#[path = "support/orders.rs"]
mod orders;

use orders::{Order, OrderSoA};

const ROWS: usize = 1_000_000;
const ROUNDS: usize = 9;
/// What one call of `write` is given.
const WRITE_LEN: usize = 1 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let folder = arguments.first().ok_or("usage: append_speed FOLDER [ROWS [ROUNDS]]")?;
    let rows = arguments.get(1).map_or(Ok(ROWS), |rows| rows.parse())?;
    let rounds = arguments.get(2).map_or(Ok(ROUNDS), |rounds| rounds.parse())?;
    let folder = Path::new(folder).join(format!("append_speed-{}", std::process::id()));
    fs::create_dir(&folder)?;
    let measured = measure(&folder, rows, rounds);
    fs::remove_dir_all(&folder)?;
    println!("{}", measured?);
    Ok(())
}

fn measure(folder: &Path, rows: usize, rounds: usize) -> Result<String, Box<dyn Error>> {
    let batch = orders::orders(rows).collect::<OrderSoA>().into_record_batch();
    // A round that is not measured gives the bytes.
    append(&folder.join("first"), &batch)?;
    let mut content = Vec::new();
    for file in files(&folder.join("first"))? {
        content.extend(fs::read(file)?);
    }
    fs::remove_dir_all(folder.join("first"))?;
    let (mut append_seconds, mut write_seconds) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        let file = folder.join(format!("file-{round}"));
        let start = Instant::now();
        write(&file, &content)?;
        write_seconds.push(start.elapsed().as_secs_f64());
        fs::remove_file(file)?;

        let store = folder.join(format!("store-{round}"));
        append_seconds.push(append(&store, &batch)?);
        fs::remove_dir_all(store)?;
    }
    let bytes = content.len();
    Ok(serde_json::json!({
        "rows": rows, "bytes": bytes, "append_seconds": append_seconds, "write_seconds": write_seconds,
    })
    .to_string())
}

/// The seconds that the append takes, without making the store.
fn append(path: &Path, batch: &RecordBatch) -> Result<f64, Box<dyn Error>> {
    let store = Store::create(path, Order::table_schema())?;
    let start = Instant::now();
    store.append(std::slice::from_ref(batch))?;
    Ok(start.elapsed().as_secs_f64())
}

fn write(path: &Path, content: &[u8]) -> Result<(), Box<dyn Error>> {
    let mut file = File::create_new(path)?;
    content.chunks(WRITE_LEN).try_for_each(|chunk| file.write_all(chunk))?;
    file.sync_all()?;
    Ok(())
}

/// The files of both forms.
fn files(store: &Path) -> Result<Vec<PathBuf>, Box<dyn Error>> {
    let mut files = Vec::new();
    for dir in [store.to_owned(), store.join("_soa/arrow")] {
        for entry in fs::read_dir(dir)? {
            files.push(entry?.path());
        }
    }
    files.retain(|file| file.extension().is_some_and(|extension| extension == "parquet" || extension == "arrow"));
    Ok(files)
}
