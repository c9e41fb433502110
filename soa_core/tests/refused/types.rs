//! Types of fields that no column holds.

use soa_core::SoA;

#[derive(Debug, Clone, Copy, PartialEq)]
enum NotDerived {
    A,
}

#[derive(SoA)]
struct NoColumn {
    shared: std::rc::Rc<u8>,
    nested: Option<Option<u8>>,
    kind: NotDerived,
    maybe: Option<char>,
}

#[derive(SoA)]
struct NoColumnInside {
    list: Vec<char>,
    array: [std::rc::Rc<u8>; 3],
    by_float: std::collections::BTreeMap<u8, NotDerived>,
}

#[derive(SoA)]
struct NoEnum {
    #[soa(as_int)]
    number: u64,
}
