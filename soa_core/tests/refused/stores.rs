//! What `#[derive(SoAStore)]` refuses.

use soa_core::SoAStore;

#[derive(SoAStore)]
struct NothingSaid {
    a: u8,
}

#[derive(SoAStore)]
#[soa_store(key = "b")]
struct NoField {
    a: u8,
}

#[derive(SoAStore)]
#[soa_store(key = "b")]
struct Skipped {
    a: u8,
    #[soa(skip)]
    b: u8,
}

#[derive(SoAStore)]
#[soa_store(key = "a", shards = 0)]
struct NoShards {
    a: u8,
}

#[derive(SoAStore)]
#[soa_store(shards = 2)]
struct ShardsWithoutKey {
    a: u8,
}

#[derive(SoAStore)]
#[soa_store(sort_by = "a, a")]
struct Twice {
    a: u8,
}

#[derive(SoAStore)]
#[soa_store(sort_by = "a,")]
struct NoName {
    a: u8,
}

#[derive(SoAStore)]
#[soa_store(key = "id", sort_by = "a, b")]
struct TwiceByOtherNames {
    id: u64,
    #[soa(rename = "b")]
    a: u8,
}

#[derive(SoAStore)]
#[soa_store(partition_by = "a")]
struct NothingLeft {
    a: u8,
}

#[derive(SoAStore)]
#[soa_store(key = "a", partition_by = "a")]
struct FolderForEachRow {
    a: u8,
    b: u8,
}

#[derive(SoAStore)]
#[soa_store(order = "a")]
struct UnknownAttribute {
    a: u8,
}

#[derive(SoAStore)]
#[soa_store(key = "A")]
enum Kind {
    A,
}
