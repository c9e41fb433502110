//! What a store does with files that others may have made or removed, and who may read those that it makes.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, BinaryArray, Int64Array, RecordBatch, StringArray};
use soa_core::ErrorKind;
use soa_core::predicate::{Predicate, Scalar};
use soa_core::schema::{DataType, Field, Schema};
use soa_core::store::{Store, WriterOptions};
use tempfile::TempDir;

fn schema() -> Schema {
    Schema::new(vec![Field::new("id", DataType::Int64), Field::new("part", DataType::Utf8)]).unwrap()
}

fn store(schema: Schema) -> (TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::create(dir.path().join("trust.soa"), schema).unwrap();
    (dir, store)
}

/// Nothing is published unless it is asked for.
fn lazy() -> WriterOptions {
    let mut options = WriterOptions::default();
    options.publish_age = Duration::from_secs(3600);
    options
}

fn batch(rows: &[(i64, &str)]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
    let parts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| row.1)));
    RecordBatch::try_from_iter([("id", ids), ("part", parts)]).unwrap()
}

/// Everything in a folder, relative to it.
fn everything_below(root: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut dirs = vec![root.to_owned()];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                dirs.push(path.clone());
            }
            found.push(path);
        }
    }
    found
}

fn log_file(store: &Store) -> PathBuf {
    let mut files: Vec<_> =
        fs::read_dir(store.path().join("_soa/wal")).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    files.pop().unwrap()
}

#[test]
fn files_and_folders_give_the_access_that_the_store_gives() {
    for mode in [0o700, 0o750, 0o775] {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("trust.soa");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        let store =
            Store::create(&path, schema().with_key("id").unwrap().with_partition_by(&["part"]).unwrap()).unwrap();
        store.append(&[batch(&(0..500).map(|id| (id, "a")).collect::<Vec<_>>())]).unwrap();
        let ids: Vec<i64> = (0..400).step_by(2).collect();
        store.delete_keys(&(Arc::new(Int64Array::from(ids)) as ArrayRef)).unwrap();
        let writer = store.writer(lazy()).unwrap();
        writer.add_batch(&batch(&[(1000, "b")])).unwrap();
        let all = everything_below(&path);
        assert!(all.len() > 12, "{all:?}");
        for path in all {
            let expected = if path.is_dir() { mode } else { mode & 0o666 };
            let found = fs::metadata(&path).unwrap().permissions().mode() & 0o777;
            assert_eq!(found, expected, "{}: {found:o}", path.display());
        }
    }
}

#[test]
fn a_link_in_the_place_of_the_lock_is_not_followed() {
    let (dir, store) = store(schema().with_key("id").unwrap());
    let precious = dir.path().join("precious");
    fs::write(&precious, "precious").unwrap();
    fs::create_dir_all(store.path().join("_soa")).unwrap();
    symlink(&precious, store.path().join("_soa/lock")).unwrap();
    let refused = store.writer(lazy()).unwrap_err();
    assert!(refused.to_string().contains("lock"), "{refused}");
    assert_eq!(fs::read_to_string(&precious).unwrap(), "precious");
}

#[test]
fn files_of_another_log_are_not_read() {
    let (dir, store) = store(schema());
    let other = Store::create(dir.path().join("other.soa"), schema()).unwrap();
    for store in [&store, &other] {
        let writer = store.writer(lazy()).unwrap();
        writer.add_batch(&batch(&[(1, "a")])).unwrap();
        // As if the process had been killed.
        std::mem::forget(writer);
    }
    let (own, theirs) = (log_file(&store), log_file(&other));
    let good = fs::read(&own).unwrap();
    // A link out of the folder, and a copy of a file of another log.
    for is_link in [true, false] {
        fs::remove_file(&own).unwrap();
        match is_link {
            true => symlink(&theirs, &own).unwrap(),
            false => fs::write(&own, fs::read(&theirs).unwrap()).unwrap(),
        }
        let copy = dir.path().join(format!("copy-{is_link}.soa"));
        assert!(std::process::Command::new("cp").arg("-a").args([store.path(), &copy]).status().unwrap().success());
        let refused = Store::open(&copy).unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::Damaged, "{refused}");
        assert!(refused.to_string().contains(".wal"), "{refused}");
    }
    fs::write(&own, good).unwrap();
    assert_eq!(store.snapshot().unwrap().row_count(), 1);
}

#[test]
fn a_value_that_looks_like_frames_is_a_value() {
    let fields = vec![Field::new("id", DataType::Int64), Field::new("blob", DataType::Binary)];
    let (dir, store) = store(Schema::new(fields).unwrap());
    let writer = store.writer(lazy()).unwrap();
    let add = |blob: &[u8]| {
        let ids: ArrayRef = Arc::new(Int64Array::from(vec![1]));
        let blobs: ArrayRef = Arc::new(BinaryArray::from(vec![blob]));
        writer.add_batch(&RecordBatch::try_from_iter([("id", ids), ("blob", blobs)]).unwrap()).unwrap();
    };
    (0..5).for_each(|_| add(b"a row"));
    // The log itself, as somebody might back it up. Its frames say of places in it that they are durable.
    let frames = fs::read(log_file(&store)).unwrap();
    add(&frames.repeat(3));
    std::mem::forget(writer);
    let whole = fs::read(log_file(&store)).unwrap();
    for cut in [1, 100, frames.len(), 2 * frames.len()] {
        let copy = dir.path().join(format!("copy-{cut}.soa"));
        assert!(std::process::Command::new("cp").arg("-a").args([store.path(), &copy]).status().unwrap().success());
        let file = copy.join(log_file(&store).strip_prefix(store.path()).unwrap());
        fs::write(&file, &whole[..whole.len() - cut]).unwrap();
        // The end of the last frame is missing, and with it that row alone.
        assert_eq!(Store::open(&copy).unwrap().snapshot().unwrap().row_count(), 5, "cut {cut}");
    }
}

#[test]
fn what_cannot_be_published_does_not_get_into_the_log() {
    let (_dir, store) = store(schema().with_partition_by(&["part"]).unwrap());
    let writer = store.writer(lazy()).unwrap();
    for bad in [&[(2, "")][..], &[(1, "a"), (2, ""), (3, "b")]] {
        let refused = writer.add_batch(&batch(bad)).unwrap_err();
        assert!(refused.to_string().contains("part"), "{refused}");
    }
    writer.add_batch(&batch(&[(4, "a"), (5, "b")])).unwrap();
    writer.close().unwrap();
    assert_eq!(store.snapshot().unwrap().row_count(), 2);
}

#[test]
fn a_writer_whose_lock_was_removed_publishes_nothing_over_another() {
    let (_dir, store) = store(schema().with_key("id").unwrap());
    let first = store.writer(lazy()).unwrap();
    first.add_batch(&batch(&[(1, "first"), (2, "first")])).unwrap();
    fs::remove_file(store.path().join("_soa/lock")).unwrap();
    let second = store.writer(lazy()).unwrap();
    second.add_batch(&batch(&[(2, "second"), (3, "second")])).unwrap();
    let refused = first.flush().unwrap_err();
    assert!(refused.to_string().contains("lock"), "{refused}");
    drop(first);
    second.add_batch(&batch(&[(4, "second")])).unwrap();
    second.close().unwrap();
    let snapshot = store.snapshot().unwrap();
    assert_eq!((snapshot.row_count(), snapshot.log_row_count()), (4, 0));
    assert_eq!(store.verify().unwrap().problems, Vec::<String>::new());
}

/// Changes the last commit's text.
fn change_last_commit(store: &Store, change: impl Fn(&str) -> String) {
    let path = store.path().join(format!("_delta_log/{:020}.json", store.snapshot().unwrap().version()));
    let before = fs::read_to_string(&path).unwrap();
    let after = change(&before);
    assert_ne!(before, after);
    fs::write(path, after).unwrap();
}

#[test]
fn files_are_removed_by_the_path_that_the_log_has() {
    let (dir, store) = store(schema().with_partition_by(&["part"]).unwrap());
    store.append(&[batch(&[(1, "ü=1;2"), (2, "ü=1;2"), (3, "ü=1;2")])]).unwrap();
    // As programs write it that encode only what must be.
    change_last_commit(&store, |commit| {
        let (before, rest) = commit.split_once("\"path\":\"").unwrap();
        let (path, rest) = rest.split_once('"').unwrap();
        format!(
            "{before}\"path\":\"{}\"{rest}",
            path.replace("%C3%BC", "ü").replace("%2525", "%25").replace("%3D", "=")
        )
    });
    let copy = dir.path().join("copy.soa");
    assert!(std::process::Command::new("cp").arg("-a").args([store.path(), &copy]).status().unwrap().success());
    let copy = Store::open(copy).unwrap();
    copy.delete(&Predicate::eq(0, Scalar::Int(2))).unwrap();
    let here = copy.snapshot().unwrap();
    assert_eq!((here.row_count(), here.segments().len()), (2, 1));
    // And so say those who read the whole log.
    let again = dir.path().join("again.soa");
    assert!(std::process::Command::new("cp").arg("-a").args([copy.path(), &again]).status().unwrap().success());
    let again = Store::open(again).unwrap().snapshot().unwrap();
    assert_eq!((again.row_count(), again.segments().len()), (2, 1));
}

#[test]
fn a_property_by_which_publishing_would_be_forgotten_is_refused() {
    let (dir, store) = store(schema());
    let writer = store.writer(lazy()).unwrap();
    writer.add_batch(&batch(&[(1, "a")])).unwrap();
    // As if the process had been killed.
    std::mem::forget(writer);
    // The commit that made the log.
    change_last_commit(&store, |commit| {
        let property = "\"configuration\":{\"delta.setTransactionRetentionDuration\":\"interval 1 days\",";
        commit.replacen("\"configuration\":{", property, 1)
    });
    let copy = dir.path().join("copy.soa");
    assert!(std::process::Command::new("cp").arg("-a").args([store.path(), &copy]).status().unwrap().success());
    let refused = Store::open(copy).unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Unsupported);
    assert!(refused.to_string().contains("setTransactionRetentionDuration"), "{refused}");
}
