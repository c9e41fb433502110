//! One statement sees one snapshot of a store, however many times it scans it.
//!
//! In READ COMMITTED each statement sees what was committed when it began; in REPEATABLE READ and SERIALIZABLE each
//! transaction sees what was committed when it first looked. Stores follow the same rule:
//!
//! - **The statement.** Every query that is part of a statement, that of a STABLE function it calls included, has Postgres'
//!   snapshot of that statement: the same object, as Postgres shares it by reference. So the object's address tells
//!   statements apart for as long as a query holds it. Here each query is told of when it starts and when it ends
//!   ([`query_starts`], [`query_ends`]); what a statement has seen of stores is forgotten with the last query that has
//!   its snapshot.
//! - **The transaction.** What a transaction has looked at is kept until it ends.
//!
//! A parallel worker is told the version by its leader.
//!
//! The library is loaded when a session first uses it. A query that started before that is not known here; its scans
//! share what they see as long as one of them is going on.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
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

/// Holds a statement or a transaction to a snapshot.
pub(crate) type Pin = Rc<Arc<Snapshot>>;

#[derive(Default)]
struct Pins {
    /// The queries that have started and not ended.
    queries: Vec<Query>,
    /// What the statements of these queries have seen, by the address of Postgres' snapshot and the store.
    statements: HashMap<(usize, PathBuf), Pin>,
    /// What scans of other queries see.
    scans: HashMap<(usize, PathBuf), Weak<Arc<Snapshot>>>,
    transaction: HashMap<PathBuf, Pin>,
}

/// A query that is executed.
struct Query {
    /// The address of its description, which tells it from others.
    address: usize,
    /// The address of Postgres' snapshot.
    snapshot: usize,
    /// How deep in subtransactions it started.
    level: i32,
}

thread_local! {
    // A backend runs queries on one thread.
    static PINS: RefCell<Pins> = RefCell::default();
}

/// The snapshot of a store that a scan sees: the one that its statement or transaction has seen already, or the newest.
pub(crate) fn pin(store: &Store, scope: Scope) -> Result<Pin> {
    PINS.with_borrow_mut(|pins| {
        if let Some(pin) = pins.find(store.path(), scope) {
            return Ok(pin);
        }
        let pin = Rc::new(store.snapshot()?);
        pins.keep(store.path(), scope, &pin);
        Ok(pin)
    })
}

impl Pins {
    fn find(&self, store: &Path, scope: Scope) -> Option<Pin> {
        match scope {
            Scope::Transaction => self.transaction.get(store).cloned(),
            Scope::Statement(snapshot) => {
                let key = (snapshot, store.to_owned());
                self.statements.get(&key).cloned().or_else(|| self.scans.get(&key).and_then(Weak::upgrade))
            }
        }
    }

    fn keep(&mut self, store: &Path, scope: Scope, pin: &Pin) {
        let store = store.to_owned();
        match scope {
            Scope::Transaction => drop(self.transaction.insert(store, Rc::clone(pin))),
            Scope::Statement(snapshot) if self.has_query(snapshot) => {
                self.statements.insert((snapshot, store), Rc::clone(pin));
            }
            Scope::Statement(snapshot) => {
                self.scans.retain(|_, pin| pin.strong_count() > 0);
                self.scans.insert((snapshot, store), Rc::downgrade(pin));
            }
        }
    }

    fn has_query(&self, snapshot: usize) -> bool {
        self.queries.iter().any(|query| query.snapshot == snapshot)
    }

    /// Forgets queries, and what statements have seen that have no query any more.
    fn forget(&mut self, is_over: impl Fn(&Query) -> bool) {
        let before = self.queries.len();
        self.queries.retain(|query| !is_over(query));
        if self.queries.len() < before && !self.statements.is_empty() {
            let mut statements = std::mem::take(&mut self.statements);
            statements.retain(|(snapshot, _), _| self.has_query(*snapshot));
            self.statements = statements;
        }
    }
}

/// A query starts: the address of its description, that of Postgres' snapshot, and how deep in subtransactions it is.
pub(crate) fn query_starts(address: usize, snapshot: usize, level: i32) {
    PINS.with_borrow_mut(|pins| pins.queries.push(Query { address, snapshot, level }));
}

/// A query ends.
pub(crate) fn query_ends(address: usize) {
    PINS.with_borrow_mut(|pins| pins.forget(|query| query.address == address));
}

/// The subtransaction at this depth is rolled back, and with it the queries that started in it.
pub(crate) fn subtransaction_aborts(level: i32) {
    PINS.with_borrow_mut(|pins| pins.forget(|query| query.level >= level));
}

/// The subtransaction at this depth becomes part of the one around it, with its open cursors.
pub(crate) fn subtransaction_commits(level: i32) {
    PINS.with_borrow_mut(|pins| {
        pins.queries.iter_mut().for_each(|query| query.level = query.level.min(level - 1));
    });
}

/// The transaction ends, and with it all that it has seen.
pub(crate) fn transaction_ends() {
    PINS.with_borrow_mut(|pins| *pins = Pins::default());
}
