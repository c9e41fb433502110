use soa_core::SoA;

#[derive(SoA)]
struct Order {
    id: u64,
    tags: Vec<String>,
    parent: Option<Option<u8>>,
}

fn main() {}
