//! One statement sees one snapshot of a store, however many times it scans it.
//!
//! In READ COMMITTED each statement sees what was committed when it began; in REPEATABLE READ and SERIALIZABLE each
//! transaction sees what was committed when it first looked. Stores follow the same rule:
//!
//! - **The statement.** Every scan of a statement, those of a subquery, a join or a STABLE function's query included, has
//!   Postgres' snapshot of that statement: the same object, as Postgres shares it by reference. So the object's address
//!   tells statements apart for as long as one of them holds it. A scan holds it from its beginning to its end, and here
//!   a [`Pin`]; a scan that begins takes over the pin of its statement's snapshot if a living scan has one.
//! - **The transaction.** What a transaction has looked at is kept until it ends.
//!
//! A parallel worker is told the version by its leader.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::PathBuf;
use std::rc::{Rc, Weak};
use std::sync::Arc;

use soa_core::store::{Snapshot, Store};

use crate::error::Result;

/// What decides which snapshot of a store a scan sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// A statement, by the address of Postgres' snapshot.
    Statement(usize),
    /// The transaction.
    Transaction,
}

/// Holds a statement to a snapshot for as long as one of its scans holds this.
pub(crate) type Pin = Rc<Arc<Snapshot>>;

#[derive(Default)]
struct Pins {
    statements: HashMap<(usize, PathBuf), Weak<Arc<Snapshot>>>,
    transaction: HashMap<PathBuf, Pin>,
}

thread_local! {
    // A backend runs queries on one thread.
    static PINS: RefCell<Pins> = RefCell::default();
}

/// The snapshot of a store that a scan sees: the one that its statement or transaction has seen already, or the newest.
pub(crate) fn pin(store: &Store, scope: Scope) -> Result<Pin> {
    PINS.with_borrow_mut(|pins| match scope {
        Scope::Transaction => {
            if let Some(pin) = pins.transaction.get(store.path()) {
                return Ok(Rc::clone(pin));
            }
            let pin = Rc::new(store.snapshot()?);
            pins.transaction.insert(store.path().to_owned(), Rc::clone(&pin));
            Ok(pin)
        }
        Scope::Statement(address) => {
            let key = (address, store.path().to_owned());
            if let Some(pin) = pins.statements.get(&key).and_then(Weak::upgrade) {
                return Ok(pin);
            }
            pins.statements.retain(|_, pin| pin.strong_count() > 0);
            let pin = Rc::new(store.snapshot()?);
            pins.statements.insert(key, Rc::downgrade(&pin));
            Ok(pin)
        }
    })
}

/// Forgets what the transaction has seen.
pub(crate) fn end_transaction() {
    PINS.with_borrow_mut(|pins| pins.transaction.clear());
}
