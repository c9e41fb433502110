//! Vacuum removes what nobody needs, and nothing else.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use proptest::prelude::*;
use soa_core::store::{At, CompactOptions, Store, VacuumOptions};
use soa_core::{Error, ErrorKind};

use super::disk::{Call, Hooked};
use super::{Layout, Row, batch, below, keys, problems, row, rows, store};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

/// Everything goes that the newest version does not need.
fn at_once() -> VacuumOptions {
    let mut options = VacuumOptions::default();
    options.retention = Duration::ZERO;
    options.force = true;
    options
}

fn set_age(path: &Path, age: Duration) {
    File::options().write(true).open(path).unwrap().set_modified(SystemTime::now() - age).unwrap();
}

/// Makes the versions up to `last` ten days old, and their files even older.
fn age(store: &Store, last: u64) {
    let all = files(store.path()).into_iter().map(|file| store.path().join(file));
    let is_link = |file: &PathBuf| fs::symlink_metadata(file).unwrap().is_symlink();
    all.filter(|file| !is_link(file)).for_each(|file| set_age(&file, 20 * DAY));
    for version in 0..=last {
        let path = store.path().join(format!("_delta_log/{version:020}.json"));
        let text = fs::read_to_string(&path).unwrap();
        let mut lines: Vec<serde_json::Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let time = SystemTime::now() - 10 * DAY;
        let ms = time.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_millis() as u64 + version;
        lines[0]["commitInfo"]["timestamp"] = ms.into();
        fs::write(&path, lines.iter().map(|line| format!("{line}\n")).collect::<String>()).unwrap();
        set_age(&path, 10 * DAY);
    }
}

/// The files of a folder, relative to it; links are not followed.
fn files(root: &Path) -> BTreeSet<PathBuf> {
    fn walk(root: &Path, dir: &Path, found: &mut BTreeSet<PathBuf>) {
        for entry in fs::read_dir(dir).unwrap().map(Result::unwrap) {
            match entry.file_type().unwrap().is_dir() {
                true => walk(root, &entry.path(), found),
                false => drop(found.insert(entry.path().strip_prefix(root).unwrap().to_owned())),
            }
        }
    }
    let mut found = BTreeSet::new();
    walk(root, root, &mut found);
    found
}

fn needed_by(store: &Store, version: u64) -> BTreeSet<PathBuf> {
    let snapshot = store.snapshot_at(At::Version(version)).unwrap();
    let files = snapshot.segments().iter().flat_map(|segment| segment.files());
    files.map(|file| file.strip_prefix(store.path()).unwrap().to_owned()).collect()
}

/// What a user has put into the folder, or another program: none of it is the store's.
fn plant(root: &Path) -> BTreeSet<PathBuf> {
    let outside = root.with_extension("outside");
    fs::create_dir_all(&outside).unwrap();
    let target = outside.join("part-00000000-0000-0000-0000-000000000000.parquet");
    fs::write(&target, "somebody else's").unwrap();
    fs::create_dir_all(root.join("photos")).unwrap();
    let planted = [
        "notes.txt",
        "part-1.parquet",
        "part-00000-aaaa-c000.snappy.parquet",
        "photos/part-00000000-0000-0000-0000-000000000001.parquet",
        "deletion_vector_1.bin",
        ".hidden.tmp",
        "_delta_log/readme.md",
        "_soa/arrow/part-x.arrow",
        "_soa/other.bin",
    ];
    for name in planted {
        fs::create_dir_all(root.join(name).parent().unwrap()).unwrap();
        fs::write(root.join(name), "keep me").unwrap();
    }
    let link = "part-00000000-0000-0000-0000-000000000002.parquet";
    if fs::symlink_metadata(root.join(link)).is_err() {
        std::os::unix::fs::symlink(&target, root.join(link)).unwrap();
        std::os::unix::fs::symlink(&outside, root.join("part=linked")).unwrap();
    }
    planted.iter().map(PathBuf::from).chain([link.into(), "part=linked".into()]).collect()
}

/// What writers leave that were interrupted.
fn leave_behind(root: &Path) -> BTreeSet<PathBuf> {
    let id = "00000000-0000-0000-0000-00000000000f";
    let simple = "0000000000000000000000000000000f";
    let left: BTreeSet<PathBuf> = [
        format!("part-{id}.parquet"),
        format!("deletion_vector_{id}.bin"),
        format!("_soa/arrow/part-{id}.arrow"),
        format!("_soa/key/part-{id}.key"),
        format!(".part-{id}.parquet.{simple}.tmp"),
        format!("_delta_log/.00000000000000000009.json.{simple}.tmp"),
        format!("_soa/arrow/.part-{id}.arrow.{simple}.tmp"),
    ]
    .into_iter()
    .map(PathBuf::from)
    .collect();
    for file in &left {
        fs::create_dir_all(root.join(file).parent().unwrap()).unwrap();
        fs::write(root.join(file), "half of it").unwrap();
    }
    left
}

#[derive(Debug, Clone)]
enum Step {
    Upsert(Vec<(i64, i64)>),
    Delete(Vec<i64>),
    DeleteBelow(i64),
    Compact,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => prop::collection::vec((0..300_i64, 0..1000_i64), 1..40).prop_map(Step::Upsert),
        3 => prop::collection::vec(0..300_i64, 1..100).prop_map(Step::Delete),
        1 => (0..400_i64).prop_map(Step::DeleteBelow),
        2 => Just(Step::Compact),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, ..ProptestConfig::default() })]
    #[test]
    fn what_is_needed_stays_and_the_rest_goes(
        layout in Layout::any(),
        steps in prop::collection::vec(step(), 1..24),
        aged in 0.0..1.0_f64,
    ) {
        let (_dir, store) = store(Layout { keyed: true, ..layout });
        let first = store.append(&[batch(&(0..250).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
        let mut expected = vec![(first, rows(&store.snapshot().unwrap()))];
        for step in &steps {
            match step {
                Step::Upsert(given) => {
                    let given: Vec<Row> = given.iter().map(|(id, value)| row(*id, *value)).collect();
                    store.upsert(&[batch(&given)]).unwrap();
                }
                Step::Delete(ids) => drop(store.delete_keys(&keys(ids)).unwrap()),
                Step::DeleteBelow(value) => drop(store.delete(&below(*value)).unwrap()),
                Step::Compact => drop(store.compact(&CompactOptions::default()).unwrap()),
            }
            let snapshot = store.snapshot().unwrap();
            expected.push((snapshot.version(), rows(&snapshot)));
        }
        let newest = store.snapshot().unwrap().version();
        let last_aged = (newest as f64 * aged) as u64;
        let planted = plant(store.path());
        let left = leave_behind(store.path());
        age(&store, last_aged);
        // Old files that are nobody's go, new ones may be somebody's who is at work.
        let young = leave_young(store.path());
        let needed: BTreeSet<PathBuf> = (last_aged..=newest).flat_map(|version| needed_by(&store, version)).collect();
        let before = files(store.path());

        let mut options = VacuumOptions::default();
        options.dry_run = true;
        let told = store.vacuum(&options).unwrap();
        prop_assert_eq!(&files(store.path()), &before);
        options.dry_run = false;
        let vacuumed = store.vacuum(&options).unwrap();
        prop_assert_eq!(&told, &vacuumed);

        let gone: BTreeSet<PathBuf> = vacuumed.files.iter().cloned().collect();
        let after = files(store.path());
        let lock = PathBuf::from("_soa/maintenance.lock");
        let lost: BTreeSet<_> = before.difference(&after).cloned().collect();
        prop_assert_eq!(&lost, &gone);
        prop_assert!(needed.iter().all(|file| !before.contains(file) || after.contains(file)));
        prop_assert!(left.is_subset(&gone));
        // Nothing else is there but the log and what is not ours.
        let stays = |file: &&PathBuf| {
            !needed.contains(*file) && !planted.contains(*file) && !young.contains(*file) && **file != lock
                && !file.starts_with("_delta_log")
        };
        prop_assert_eq!(after.iter().filter(stays).collect::<Vec<_>>(), Vec::<&PathBuf>::new());
        for (version, expected) in &expected {
            let snapshot = store.snapshot_at(At::Version(*version)).unwrap();
            match *version >= last_aged {
                true => prop_assert_eq!(&rows(&snapshot), expected),
                false => if let Some(found) = try_rows(&snapshot)? {
                    prop_assert_eq!(&found, expected);
                }
            }
        }
        prop_assert_eq!(problems(&store), Vec::<String>::new());
    }
}

fn leave_young(root: &Path) -> BTreeSet<PathBuf> {
    let file = "part-00000000-0000-0000-0000-0000000000ff.parquet";
    fs::write(root.join(file), "being written").unwrap();
    BTreeSet::from([file.into()])
}

/// The rows of a snapshot; `None` if it is too old.
fn try_rows(snapshot: &std::sync::Arc<soa_core::store::Snapshot>) -> Result<Option<Vec<Row>>, TestCaseError> {
    let request = soa_core::scan::ScanRequest { columns: vec![0, 1, 2, 3], ..Default::default() };
    let read = || {
        let plan = snapshot.plan(&request)?;
        (0..plan.units().len()).map(|unit| Ok(super::rows_of(&plan.read(unit)?))).collect::<Result<Vec<_>, Error>>()
    };
    match read() {
        Ok(rows) => Ok(Some(rows.concat())),
        Err(error) if error.kind() == ErrorKind::Conflict => Ok(None),
        Err(error) => Err(TestCaseError::fail(error.to_string())),
    }
}

#[test]
fn a_snapshot_whose_files_are_gone_is_too_old() {
    for with_vectors in [true, false] {
        let (_dir, store) = store(Layout { keyed: true, with_vectors, ..Layout::PLAIN });
        store.append(&[batch(&(0..1000).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
        // So many that the vector is a file of its own.
        store.delete_keys(&keys(&(0..900).step_by(7).collect::<Vec<_>>())).unwrap();
        let old = store.snapshot().unwrap().version();
        store.delete_keys(&keys(&(0..900).step_by(3).collect::<Vec<_>>())).unwrap();
        store.compact(&CompactOptions::default()).unwrap();
        let vacuumed = store.vacuum(&at_once()).unwrap();
        assert!(vacuumed.files.len() >= 3, "{vacuumed:?}");
        let old = store.snapshot_at(At::Version(old)).unwrap();
        let request = soa_core::scan::ScanRequest { columns: vec![0], ..Default::default() };
        let error = old.plan(&request).and_then(|plan| plan.read(0)).unwrap_err();
        assert!(matches!(error, Error::SnapshotTooOld { .. }), "{error}");
        assert_eq!(error.kind(), ErrorKind::Conflict);
        let text = error.to_string();
        assert!(text.contains("too old") && text.contains("vacuum"), "{text}");
        assert_eq!(problems(&store), Vec::<String>::new());
        // A file that the newest version needs is another matter.
        let newest = store.snapshot_at(At::Version(store.snapshot().unwrap().version())).unwrap();
        newest.segments()[0]
            .files()
            .iter()
            .filter(|file| file.exists())
            .for_each(|file| fs::remove_file(file).unwrap());
        // Under another name this process has nothing of it open.
        let moved = store.path().with_extension("moved");
        fs::rename(store.path(), &moved).unwrap();
        let again = Store::open(&moved).unwrap();
        let error = again.snapshot().unwrap().plan(&request).and_then(|plan| plan.read(0)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Io, "{error}");
    }
}

#[test]
fn nothing_goes_because_of_a_version_that_is_not_durable() {
    let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    store.append(&[batch(&[row(1, 1)])]).unwrap();
    store.delete(&below(1000)).unwrap();
    // Another process has made the newest version, for all that this one knows.
    let disk = Hooked::default();
    let other = Store::open_on(Arc::new(disk.clone()), store.path()).unwrap();
    let log = store.path().join("_delta_log");
    disk.set(move |call, path| match call == Call::SyncDir && path == log {
        true => Err(std::io::Error::other("it cannot be synced")),
        false => Ok(()),
    });
    let before = files(store.path());
    assert_eq!(other.vacuum(&at_once()).unwrap_err().kind(), ErrorKind::Io);
    let after = files(store.path());
    assert!(before.is_subset(&after));
    let mut dry_run = at_once();
    dry_run.dry_run = true;
    // What is only looked at needs nothing of that.
    let told = other.vacuum(&dry_run).unwrap();
    assert!(!told.files.is_empty());
    disk.clear();
    assert_eq!(other.vacuum(&at_once()).unwrap(), told);
}

#[test]
fn a_commit_that_lands_meanwhile_keeps_its_files() {
    let (_dir, store) = store(Layout::PLAIN);
    store.append(&[batch(&[row(1, 1)])]).unwrap();
    let version = store.append(&[batch(&[row(2, 2)])]).unwrap();
    // It is still to come.
    let commit = store.path().join(format!("_delta_log/{version:020}.json"));
    let aside = store.path().with_extension("aside");
    fs::rename(&commit, &aside).unwrap();
    files(store.path()).iter().for_each(|file| set_age(&store.path().join(file), DAY));
    let disk = Hooked::default();
    let other = Store::open_on(Arc::new(disk.clone()), store.path()).unwrap();
    let first = store.path().join("_delta_log/00000000000000000000.json");
    disk.set(move |call, path| {
        if call == Call::Open && path == first && aside.exists() {
            fs::rename(&aside, &commit).unwrap();
        }
        Ok(())
    });
    assert_eq!(other.vacuum(&at_once()).unwrap().files, Vec::<PathBuf>::new());
    assert_eq!(rows(&store.snapshot().unwrap()), [row(1, 1), row(2, 2)]);
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn a_commit_does_not_name_files_that_are_gone() {
    let (_dir, store) = store(Layout::PLAIN);
    store.append(&[batch(&[row(1, 1)])]).unwrap();
    let before = store.snapshot().unwrap();
    let disk = Hooked::default();
    let slow = Store::open_on(Arc::new(disk.clone()), store.path()).unwrap();
    let (root, known) = (store.path().to_owned(), before.segments()[0].path().to_owned());
    let is_new = move |file: &&PathBuf| {
        let name = file.to_string_lossy();
        name.starts_with("part-") && name.ends_with(".parquet") && name != known
    };
    disk.set(move |call, path| {
        // The folder is synced once the segment is there.
        if call == Call::SyncDir && path == root {
            files(&root).iter().filter(|file| is_new(file)).for_each(|file| fs::remove_file(root.join(file)).unwrap());
        }
        Ok(())
    });
    let error = slow.append(&[batch(&[row(2, 2)])]).unwrap_err();
    let text = error.with_causes();
    assert!(error.kind() == ErrorKind::Io && text.contains("part-") && text.contains("vacuum"), "{text}");
    disk.clear();
    assert_eq!(store.snapshot().unwrap().version(), before.version());
    slow.append(&[batch(&[row(3, 3)])]).unwrap();
    assert_eq!(rows(&store.snapshot().unwrap()), [row(1, 1), row(3, 3)]);
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn what_cannot_be_read_just_now_is_needed_all_the_same() {
    let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    store.set_auto_compact(false).unwrap();
    for id in 0..12 {
        store.append(&[batch(&[row(id, id)])]).unwrap();
    }
    let checkpoint = files(store.path()).into_iter().find(|file| file.to_string_lossy().contains(".checkpoint."));
    let checkpoint = store.path().join(checkpoint.unwrap());
    // Somebody has cleaned the log up: what was before the checkpoint cannot be read any more.
    (0..9).for_each(|version| fs::remove_file(store.path().join(format!("_delta_log/{version:020}.json"))).unwrap());
    store.compact(&CompactOptions::default()).unwrap();
    let disk = Hooked::default();
    let other = Store::open_on(Arc::new(disk.clone()), store.path()).unwrap();
    other.snapshot().unwrap();
    let before = files(store.path());
    let mut fails = true;
    disk.set(move |call, path| match call == Call::Open && path == checkpoint && std::mem::take(&mut fails) {
        true => Err(std::io::Error::from_raw_os_error(24)),
        false => Ok(()),
    });
    let error = other.vacuum(&VacuumOptions::default()).unwrap_err();
    assert!(error.with_causes().contains("os error 24"), "{}", error.with_causes());
    assert!(before.is_subset(&files(store.path())));
    // The next time it can be: all that the versions need from the checkpoint on is needed.
    assert_eq!(other.vacuum(&VacuumOptions::default()).unwrap().files, Vec::<PathBuf>::new());
}

#[test]
fn partitions_whose_names_begin_with_a_line_are_looked_into() {
    let dir = tempfile::tempdir().unwrap();
    let fields = ["id", "_part"].map(|name| soa_core::schema::Field::new(name, soa_core::schema::DataType::Int64));
    let schema = soa_core::schema::Schema::new(fields.to_vec()).unwrap().with_partition_by(&["_part"]).unwrap();
    let store = Store::create(dir.path().join("kept.soa"), schema).unwrap();
    for id in 0..3 {
        let one = || keys(&[id]);
        let part = keys(&[7]);
        let rows = arrow::array::RecordBatch::try_from_iter([("id", one()), ("_part", part)]).unwrap();
        store.append(&[rows]).unwrap();
    }
    store.compact(&CompactOptions::default()).unwrap();
    let vacuumed = store.vacuum(&at_once()).unwrap();
    assert_eq!(vacuumed.files.iter().filter(|file| file.starts_with("_part=7")).count(), 3);
    assert_eq!(files(&store.path().join("_part=7")).len(), 1);
    assert_eq!(problems(&store), Vec::<String>::new());
}

#[test]
fn a_deletion_vector_by_a_path_elsewhere_stops_it() {
    let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    store.append(&[batch(&(0..1000).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    store.delete_keys(&keys(&(0..900).step_by(7).collect::<Vec<_>>())).unwrap();
    let store = super::rewritten(store, |_, actions| {
        for add in actions.iter_mut().filter_map(|action| action.get_mut("add")) {
            if let Some(vector) = add.get_mut("deletionVector") {
                vector["storageType"] = "p".into();
                vector["pathOrInlineDv"] = "file:///elsewhere/deletion_vector.bin".into();
            }
        }
    });
    let before = files(store.path());
    let error = store.vacuum(&at_once()).unwrap_err();
    assert!(error.kind() == ErrorKind::Unsupported && error.to_string().contains("/elsewhere/"), "{error}");
    assert!(before.is_subset(&files(store.path())));
}

#[test]
fn files_whose_rows_the_log_does_not_count_may_be_gone() {
    let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    let first = store.append(&[batch(&(0..10).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    let second = store.append(&[batch(&(10..20).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    store.compact(&CompactOptions::default()).unwrap();
    let store = super::rewritten(store, |version, actions| {
        for add in actions.iter_mut().filter_map(|action| action.get_mut("add")) {
            if [first, second].contains(&version) {
                // As others write them.
                add.as_object_mut().unwrap().retain(|key, _| !["stats", "tags"].contains(&key.as_str()));
            }
        }
    });
    assert_eq!(store.changes_since(first).unwrap().rows_added(), 10);
    assert!(store.vacuum(&at_once()).unwrap().files.len() >= 2);
    for since in [0, first] {
        let error = store.changes_since(since).map(|changes| changes.rows_added()).unwrap_err();
        assert!(matches!(error, Error::SnapshotTooOld { .. }), "{error}");
    }
    // Versions that cannot be read need nothing.
    assert_eq!(store.vacuum(&VacuumOptions::default()).unwrap().files, Vec::<PathBuf>::new());
    assert_eq!(rows(&store.snapshot().unwrap()).len(), 20);
}

#[test]
fn a_short_retention_must_be_forced() {
    let (_dir, store) = store(Layout::PLAIN);
    let mut options = VacuumOptions::default();
    options.retention = DAY - Duration::from_secs(1);
    let error = store.vacuum(&options).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("less than a day"), "{error}");
    options.force = true;
    assert_eq!(store.vacuum(&options).unwrap().files.len(), 0);
}

#[test]
fn the_write_ahead_log_stays_as_far_as_it_counts() {
    let (_dir, store) = store(Layout { keyed: true, ..Layout::PLAIN });
    let mut options = soa_core::store::WriterOptions::default();
    options.publish_age = Duration::from_secs(3600);
    let writer = store.writer(options).unwrap();
    for id in 0..3 {
        writer.add_batch(&batch(&[row(id, id)])).unwrap();
        writer.flush().unwrap();
    }
    writer.add_batch(&batch(&[row(9, 9)])).unwrap();
    let expected = rows(&store.snapshot().unwrap());
    let logs = || files(store.path()).into_iter().filter(|file| file.starts_with("_soa/wal")).collect::<Vec<_>>();
    let before = logs();
    assert_eq!(before.len(), 4);
    let kept = store.vacuum(&VacuumOptions::default()).unwrap();
    assert_eq!((kept.files.len(), logs()), (0, before.clone()));
    before.iter().for_each(|file| set_age(&store.path().join(file), 30 * DAY));
    let vacuumed = store.vacuum(&VacuumOptions::default()).unwrap();
    assert_eq!((vacuumed.files, logs()), (before[..3].to_vec(), before[3..].to_vec()));
    assert_eq!(rows(&store.snapshot().unwrap()), expected);
    writer.add_batch(&batch(&[row(10, 10)])).unwrap();
    writer.close().unwrap();
    assert_eq!(store.snapshot().unwrap().row_count(), 5);
}

#[test]
fn folders_of_partitions_that_are_empty_go() {
    let (_dir, store) = store(Layout { keyed: true, partitioned: true, ..Layout::PLAIN });
    store.append(&[batch(&(0..20).map(|id| row(id, id)).collect::<Vec<_>>())]).unwrap();
    store.delete(&soa_core::predicate::Predicate::eq(2, soa_core::predicate::Scalar::Utf8("a".into()))).unwrap();
    assert!(store.path().join("part=a").is_dir());
    store.vacuum(&at_once()).unwrap();
    assert!(!store.path().join("part=a").exists() && store.path().join("part=b").is_dir());
    store.upsert(&[batch(&[row(1, 1)])]).unwrap();
    assert_eq!(problems(&store), Vec::<String>::new());
}
