use soa_core::SoA;

#[derive(SoA)]
struct Order {
    #[soa(timestamp = "ms")]
    at: i64,
    #[soa(timestamp = "us")]
    until: u64,
}

fn main() {}
