use soa_core::SoA;

#[derive(SoA)]
struct Borrowed<'a> {
    name: &'a str,
}

fn main() {}
