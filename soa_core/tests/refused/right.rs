//! The twin of the others: what they get wrong, done right. It must compile.

use soa_core::{SoA, SoAStore};

#[derive(Debug, Clone, Copy, PartialEq, SoA)]
pub enum Kind {
    Small,
    #[soa(rename = "rather large")]
    Large,
}

#[derive(SoA, SoAStore)]
#[soa_store(key = "id", shards = 4, sort_by = "at, id", partition_by = "kind")]
pub struct Row {
    pub id: u64,
    #[soa(rename = "title_text")]
    pub title: String,
    #[soa(timestamp = "us")]
    pub at: Option<i64>,
    pub kind: Kind,
    pub level: Option<f64>,
    #[soa(skip)]
    pub cache: Vec<Option<Option<u8>>>,
}

pub fn sorted(mut rows: RowSoA) -> Result<RowStore, soa_core::Error> {
    rows.sort_by_at();
    RowStore::from_kernel(rows)
}
