//! Fields that cannot be what `#[soa_store]` says they are, and records that are not what a bound asks for.

use soa_core::kernel::{KeyedRecord, StoredRecord};
use soa_core::{Record, SoA, SoAStore};

#[derive(SoA, SoAStore)]
#[soa_store(key = "price")]
struct FloatKey {
    price: f64,
}

#[derive(SoA, SoAStore)]
#[soa_store(key = "id")]
struct OptionalKey {
    id: Option<u64>,
}

#[derive(SoA, SoAStore)]
#[soa_store(partition_by = "level")]
struct FloatPartition {
    id: u64,
    level: f32,
}

struct NoRecord;

#[derive(SoA)]
struct NotStored {
    id: u64,
}

#[derive(SoA, SoAStore)]
#[soa_store(sort_by = "id")]
struct Keyless {
    id: u64,
}

fn wants<R: Record>() {}
fn wants_stored<R: StoredRecord>() {}
fn wants_keyed<R: KeyedRecord>() {}

fn uses() {
    wants::<NoRecord>();
    wants_stored::<NotStored>();
    wants_keyed::<Keyless>();
}
