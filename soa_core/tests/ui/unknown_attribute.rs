use soa_core::SoA;

#[derive(SoA)]
struct Order {
    #[soa(renamed = "order_id")]
    id: u64,
    #[soa(rename = "a", rename = "b")]
    twice: u64,
    #[soa(rename = "a b")]
    space: u64,
    #[soa(skip, rename = "c")]
    skipped: u64,
}

fn main() {}
