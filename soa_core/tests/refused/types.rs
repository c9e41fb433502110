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
