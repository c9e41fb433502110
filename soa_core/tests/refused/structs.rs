//! Structs and attributes that `#[derive(SoA)]` refuses.

use soa_core::SoA;

#[derive(SoA)]
struct Pair(u64, u64);

#[derive(SoA)]
struct Unit;

#[derive(SoA)]
struct Nothing {}

#[derive(SoA)]
struct Skipped {
    #[soa(skip)]
    a: u8,
}

#[derive(SoA)]
struct Borrowed<'a> {
    a: &'a str,
}

#[derive(SoA)]
union Either {
    a: u8,
    b: i8,
}

#[derive(SoA)]
struct UnknownAttribute {
    #[soa(renamed = "b")]
    a: u8,
}

#[derive(SoA)]
struct Twice {
    #[soa(rename = "b", rename = "c")]
    a: u8,
}

#[derive(SoA)]
struct BadName {
    #[soa(rename = "a b")]
    a: u8,
    #[soa(rename = "")]
    c: u8,
}

#[derive(SoA)]
struct SkippedAndNamed {
    #[soa(skip, rename = "b")]
    a: u8,
    b: u8,
}

#[derive(SoA)]
struct SameName {
    a: u8,
    #[soa(rename = "A")]
    b: u8,
    c: u8,
    #[soa(rename = "C")]
    d: u8,
}

#[derive(SoA)]
struct WrongUnit {
    #[soa(timestamp = "ms")]
    a: i64,
}

#[derive(SoA)]
struct NoNumber {
    #[soa(timestamp = "us")]
    a: u64,
}

#[derive(SoA)]
struct NotOnlyAnEnum {
    #[soa(as_int, decimal(9, 2))]
    a: i64,
}

#[derive(SoA)]
#[soa(skip)]
struct AttributeOfAField {
    a: u8,
}

#[derive(SoA)]
#[soa(crate = "not a path")]
struct NoPath {
    a: u8,
}

#[derive(SoA)]
struct MethodsOfARow {
    as_view: u8,
    set_name: u8,
    name: String,
}
