use soa_core::SoA;

#[derive(SoA)]
struct Order {
    id: u64,
    #[soa(rename = "ID")]
    other: u64,
}

fn main() {}
