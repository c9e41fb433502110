//! Folders: what is there the next time, what others do with them, and what is none.

use std::path::Path;

use soa_core::kernel::Record;
use soa_core::persistence::{
    ParquetPersistence, PartitionedParquetPersistence, PersistenceError, Query, SoAPersistence,
};
use soa_core::store::{Store, TypedStore, WriterOptions};
use soa_core::{Error, ErrorKind, SoA, SoAStore};

use super::{folder, run, sorted};
use crate::orders::{Order, OrderSoA, OrderStatus, order, orders};

#[test]
fn what_was_kept_is_there_the_next_time() {
    run(async {
        let (_dir, path) = folder();
        let first = ParquetPersistence::<Order>::new(&path);
        first.save(&orders(1_000).collect()).await.unwrap();
        first.put(&OrderSoA::from_iter([order(1_000, 1_001)])).await.unwrap();
        // Others see a row that is in the log alone, in this process and in others.
        let other = ParquetPersistence::<Order>::new(&path);
        assert_eq!(other.count().await.unwrap(), 1_001);
        first.close().await.unwrap();
        assert_eq!(sorted(other.load().await.unwrap()).last(), Some(&order(1_000, 1_001)));

        // Dropped without being closed: what was put is published all the same.
        other.put(&OrderSoA::from_iter([order(1_001, 1_002)])).await.unwrap();
        drop(other);
        let store = Store::open(&path).unwrap();
        assert_eq!(store.snapshot().unwrap().log_row_count(), 0);
        assert_eq!(store.snapshot().unwrap().row_count(), 1_002);
    });
}

#[test]
fn reading_makes_no_folder_and_writing_does() {
    run(async {
        let (_dir, path) = folder();
        let kept = ParquetPersistence::<Order>::new(path.join("deep"));
        assert_eq!(kept.count().await.unwrap(), 0);
        assert!(kept.load().await.unwrap().is_empty());
        assert!(!path.exists());
        std::fs::create_dir_all(kept.path()).unwrap();
        assert_eq!(kept.count().await.unwrap(), 0, "an empty folder may become a store");
        kept.put(&orders(3).collect()).await.unwrap();
        assert_eq!(kept.count().await.unwrap(), 3);
        kept.close().await.unwrap();
        assert_eq!(Store::open(kept.path()).unwrap().snapshot().unwrap().row_count(), 3);
    });
}

#[test]
fn partitions_are_folders_that_conditions_leave_out() {
    run(async {
        let (_dir, path) = folder();
        let kept = PartitionedParquetPersistence::<Order>::new(&path, "status");
        kept.save(&orders(10_000).collect()).await.unwrap();
        kept.append(&orders(10_100).collect()).await.unwrap();
        for status in ["Pending", "Shipped", "Delivered"] {
            assert!(path.join(format!("status={status}")).is_dir());
        }
        // A row that takes the place of another may be in another folder.
        let moved = Order { status: OrderStatus::Cancelled, ..order(1, 10_100) };
        kept.put(&OrderSoA::from_iter([moved.clone()])).await.unwrap();
        kept.flush().await.unwrap();
        let cancelled = Query::parse::<Order>("status = 'Cancelled' AND order_id = 1").unwrap();
        assert_eq!(kept.query(cancelled).await.unwrap().to_vec(), [moved]);
        assert_eq!(kept.count().await.unwrap(), 10_100);
        let store = kept.store().await.unwrap();
        let snapshot = store.store().snapshot().unwrap();
        let request = soa_core::scan::ScanRequest {
            columns: vec![0],
            predicate: Query::parse::<Order>("status = 'Pending'").unwrap().predicate,
            limit: None,
        };
        let counters = snapshot.plan(&request).unwrap().counters();
        assert!(counters.segments_read < counters.segments_total, "{counters:?}");

        // Without its partitions it is another table, and the other way round.
        kept.close().await.unwrap();
        let error = ParquetPersistence::<Order>::new(&path).count().await.unwrap_err();
        assert!(matches!(error, PersistenceError::OtherTable { .. }), "{error}");
        assert!(error.to_string().contains("partition columns"), "{error}");
        let none = PartitionedParquetPersistence::<Order>::new(path.join("other"), "state");
        let error = none.save(&orders(1).collect()).await.unwrap_err();
        assert!(error.to_string().contains("\"state\"") && error.changed_nothing(), "{error}");
    });
}

/// Another program's idea of an order.
mod other {
    use super::*;

    #[derive(Debug, SoA, SoAStore)]
    #[soa_store(key = "order_id")]
    pub(super) struct Parcel {
        pub(super) order_id: u64,
        pub(super) weight: f32,
    }
}

/// The next release's, with a field more.
mod newer {
    use super::*;

    #[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
    #[soa_store(key = "id")]
    pub(super) struct Note {
        pub(super) id: u32,
        // In the table it comes last.
        pub(super) colour: Option<String>,
        pub(super) text: String,
    }
}

mod older {
    use super::*;

    #[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
    #[soa_store(key = "id")]
    pub(super) struct Note {
        pub(super) id: u32,
        pub(super) text: String,
    }
}

fn content(path: &Path) -> Vec<(String, u64)> {
    let mut files = Vec::new();
    let mut folders = vec![path.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            match entry.metadata().unwrap() {
                metadata if metadata.is_dir() => folders.push(entry.path()),
                metadata => files.push((entry.path().display().to_string(), metadata.len())),
            }
        }
    }
    files.sort();
    files
}

#[test]
fn a_folder_of_other_records_is_refused_and_loses_nothing() {
    use other::{Parcel, ParcelSoA};
    run(async {
        let (_dir, path) = folder();
        let kept = ParquetPersistence::<Order>::new(&path);
        kept.save(&orders(100).collect()).await.unwrap();
        let before = content(&path);

        let wrong = ParquetPersistence::<Parcel>::new(&path);
        let some: ParcelSoA = [Parcel { order_id: 1, weight: 2.5 }].into_iter().collect();
        for error in [
            wrong.load().await.map(drop),
            wrong.count().await.map(drop),
            wrong.save(&some).await,
            wrong.append(&some).await,
            wrong.put(&some).await,
            wrong.clear().await,
            wrong.memory_stats().await.map(drop),
        ] {
            let error = error.unwrap_err();
            let PersistenceError::OtherTable { path: named, source } = &error else { panic!("{error}") };
            assert_eq!(named, &path);
            assert!(source.to_string().contains("customer_id") && source.to_string().contains("weight"), "{source}");
            assert!(std::error::Error::source(&error).is_some());
        }
        let store = Store::open(&path).unwrap();
        assert!(SoAPersistence::<Parcel>::save(&store, &some).await.is_err());
        assert_eq!(content(&path), before);
        assert_eq!(kept.count().await.unwrap(), 100);

        // A folder that is no store, but has something, does not become one.
        let folder = path.with_file_name("letters");
        std::fs::create_dir(&folder).unwrap();
        std::fs::write(folder.join("letter.txt"), "Dear Ada").unwrap();
        let error = ParquetPersistence::<Order>::new(&folder).save(&orders(1).collect()).await.unwrap_err();
        assert!(matches!(error, PersistenceError::Store(Error::NotAStore { .. })), "{error}");
        assert_eq!(content(&folder).len(), 1);
    });
}

#[test]
fn a_table_of_an_older_release_gets_the_new_fields() {
    run(async {
        let (_dir, path) = folder();
        let old = ParquetPersistence::<older::Note>::new(&path);
        let notes = (0..10).map(|id| older::Note { id, text: format!("note {id}") });
        old.save(&notes.collect()).await.unwrap();

        let new = ParquetPersistence::<newer::Note>::new(&path);
        assert_eq!(new.load().await.unwrap().view(3).colour, None);
        let is_null = Query::parse::<newer::Note>("colour IS NULL AND id < 4").unwrap();
        assert_eq!(new.query(is_null.clone()).await.unwrap().len(), 4);
        assert_eq!(new.query(is_null.limit(3)).await.unwrap().len(), 3);
        // Reading has changed nothing: the older release still works.
        assert_eq!(old.count().await.unwrap(), 10);
        old.append(&[older::Note { id: 10, text: String::new() }].into_iter().collect()).await.unwrap();

        let red = newer::Note { id: 3, text: "red".to_owned(), colour: Some("red".to_owned()) };
        new.put(&[red.clone()].into_iter().collect()).await.unwrap();
        let query = Query::parse::<newer::Note>("colour = 'red'").unwrap();
        assert_eq!(new.query(query).await.unwrap().to_vec(), [red]);
        let query = Query::parse::<newer::Note>("text = 'note 5' AND colour IS NULL").unwrap();
        assert_eq!(new.query(query).await.unwrap().id_raw_array(), [5]);
        assert_eq!(new.count().await.unwrap(), 11);
        new.close().await.unwrap();

        // It would drop the colours of what it replaces.
        let error = ParquetPersistence::<older::Note>::new(&path).load().await.unwrap_err();
        assert!(
            matches!(error, PersistenceError::OtherTable { .. }) && error.to_string().contains("colour"),
            "{error}"
        );
    });
}

#[test]
fn a_second_writer_is_told_who_has_the_log() {
    run(async {
        let (_dir, path) = folder();
        let (first, second) = (ParquetPersistence::<Order>::new(&path), ParquetPersistence::<Order>::new(&path));
        first.put(&orders(10).collect()).await.unwrap();
        let more: OrderSoA = [order(10, 11)].into_iter().collect();
        for error in
            [second.put(&more).await, second.append(&more).await, second.save(&more).await, second.clear().await]
        {
            let error = error.unwrap_err();
            assert!(matches!(error, PersistenceError::Busy(_)) && error.changed_nothing(), "{error}");
            assert!(error.to_string().contains(&format!("process {}", std::process::id())), "{error}");
        }
        assert_eq!(second.count().await.unwrap(), 10);
        first.close().await.unwrap();
        second.put(&more).await.unwrap();
        assert_eq!(first.count().await.unwrap(), 11);
        let error = first.put(&more).await.unwrap_err();
        assert!(matches!(error, PersistenceError::Busy(Error::Owned { .. })), "{error}");
        second.close().await.unwrap();

        // The store itself is refused likewise, and does not need the log.
        let store = Store::open(&path).unwrap();
        let writer = store.writer(WriterOptions::default()).unwrap();
        let error = SoAPersistence::<Order>::append(&store, &more).await.unwrap_err();
        assert!(matches!(error, PersistenceError::Busy(_)), "{error}");
        writer.close().unwrap();
        SoAPersistence::<Order>::append(&store, &more).await.unwrap();
        assert_eq!(store.snapshot().unwrap().row_count(), 11);
    });
}

#[test]
fn a_typed_store_is_one_of_its_records() {
    let (_dir, path) = folder();
    assert_eq!(TypedStore::<Order>::open(&path).unwrap_err().kind(), ErrorKind::NotFound);
    let store = TypedStore::<Order>::open_or_create(&path).unwrap();
    assert_eq!(store.append(&orders(100).collect()).unwrap(), 1);
    assert_eq!(store.append(&orders(1).collect()).unwrap_err().kind(), ErrorKind::DuplicateKey);
    let changed = Order { quantity: 50, ..order(7, 100) };
    let edited = store.upsert(&[changed.clone(), order(100, 101)].into_iter().collect()).unwrap();
    assert_eq!((edited.rows_deleted, edited.rows_added), (1, 2));
    assert_eq!(store.get(&7).unwrap(), Some(changed));
    assert_eq!(store.get(&1_000).unwrap(), None);
    assert_eq!((store.count().unwrap(), store.load().unwrap().len()), (101, 101));
    let edited = store.overwrite(&orders(5).collect()).unwrap();
    assert_eq!((edited.rows_deleted, edited.rows_added), (101, 5));
    assert_eq!(store.load().unwrap().order_id_raw_array(), [0, 1, 2, 3, 4]);
    // One commit, before which everything is still there.
    let before = store.store().snapshot_at(soa_core::store::At::Version(edited.version - 1)).unwrap();
    assert_eq!(before.row_count(), 101);
    let same = store.overwrite(&OrderSoA::new()).and_then(|_| store.overwrite(&OrderSoA::new())).unwrap();
    assert_eq!((same.version, store.count().unwrap()), (edited.version + 1, 0));
    // Whatever its partitions are.
    let split = path.with_file_name("split.soa");
    Store::create(&split, Order::schema().with_key("order_id").unwrap().with_partition_by(&["status"]).unwrap())
        .unwrap();
    assert!(TypedStore::<Order>::open(&split).is_err());
    let split = TypedStore::<Order>::of(Store::open(&split).unwrap()).unwrap();
    split.clone().append(&orders(10).collect()).unwrap();
    assert_eq!(split.count().unwrap(), 10);
}
