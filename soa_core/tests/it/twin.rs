//! A record with everything that the derives take, in odd visibilities; the wrong twins are the derive's unit tests.

use soa_core::{SoA, SoAStore};

#[derive(Debug, Clone, Copy, PartialEq, SoA)]
pub(crate) enum Status {
    #[soa(rename = "in work")]
    InWork,
    Done,
}

#[derive(SoA, SoAStore)]
#[soa_store(key = "id", shards = 4, sort_by = "at, id", partition_by = "status")]
pub(crate) struct Task {
    id: u64,
    #[soa(rename = "title_text")]
    title: String,
    #[soa(timestamp = "us")]
    at: i64,
    status: Status,
    note: Option<String>,
    #[soa(skip)]
    cache: Vec<u8>,
}

#[test]
fn what_is_right_compiles_and_works() {
    let task = Task { id: 1, title: "x".into(), at: 0, status: Status::InWork, note: None, cache: vec![1] };
    let mut store = TaskStore::new();
    store.add(task).unwrap();
    assert!(store.remove(&1).is_some_and(|task| task.cache.is_empty()));
}
