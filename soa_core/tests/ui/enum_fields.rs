use soa_core::SoA;

#[derive(Debug, Clone, Copy, PartialEq, SoA)]
enum Shape {
    Point,
    Circle(u8),
}

#[derive(Debug, Clone, Copy, PartialEq, SoA)]
enum Twice {
    A,
    #[soa(rename = "A")]
    B,
}

#[derive(SoA)]
union Bits {
    a: u8,
}

fn main() {}
