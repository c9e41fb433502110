use soa_core::SoA;

#[derive(SoA)]
struct Pair(u64, u64);

fn main() {}
