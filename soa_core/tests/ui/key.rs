use soa_core::{SoA, SoAStore};

#[derive(SoA, SoAStore)]
#[soa_store(key = "price")]
struct Order {
    price: f64,
}

#[derive(SoA, SoAStore)]
#[soa_store(key = "di")]
struct Item {
    id: u64,
}

#[derive(SoA, SoAStore)]
#[soa_store(key = "id", partition_by = "id")]
struct Parcel {
    id: u64,
    weight: u32,
}

#[derive(SoA, SoAStore)]
#[soa_store(key = "id", shards = 0)]
struct Bill {
    id: u64,
}

fn main() {}
