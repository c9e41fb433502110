//! Enums that `#[derive(SoA)]` refuses.

use soa_core::SoA;

#[derive(SoA)]
enum Shape {
    Point,
    Circle(u8),
}

#[derive(SoA)]
enum Twice {
    A,
    #[soa(rename = "A")]
    B,
}

#[derive(SoA)]
enum Never {}

#[derive(SoA)]
enum Empty {
    #[soa(rename = "")]
    A,
}

#[derive(SoA)]
enum UnknownAttribute {
    #[soa(skip)]
    A,
}

#[derive(SoA)]
enum Borrowed<'a> {
    A(&'a str),
}
