//! One statement sees one snapshot of a store, however many times it scans it.
//!
//! In READ COMMITTED each statement sees what was committed when it began; in REPEATABLE READ and SERIALIZABLE each
//! transaction sees what was committed when it first looked. Stores follow the same rule:
//!
//! - **The statement.** Every query that is part of a statement, that of a STABLE function it calls included, has Postgres'
//!   snapshot of that statement: the same object, as Postgres shares it by reference. So the object's address tells
//!   statements apart for as long as a query holds it. Here each query is told of when it has started, and when it ends
//!   ([`query_starts`], [`query_ends`]) or what it held is released because it failed ([`owner_releases`]), whichever is
//!   first; what a statement has seen of stores is forgotten with the last query that has its snapshot.
//! - **The transaction.** What a transaction has looked at is kept until it ends.
//!
//! A parallel worker is told the version, and how much of the write-ahead log counts, by its leader.

use std::cell::RefCell;
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::rc::{Rc, Weak};
use std::sync::Arc;

use soa_core::store::{Snapshot, Store};

use crate::error::Result;
use crate::transactions;

/// What decides which snapshot of a store a scan sees.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Scope {
    /// The statement, by the address of Postgres' snapshot.
    pub(crate) statement: usize,
    /// Whether it sees what its transaction saw first.
    pub(crate) is_of_transaction: bool,
}

/// Holds a statement or a transaction to a snapshot.
pub(crate) type Pin = Rc<Arc<Snapshot>>;

#[derive(Default)]
struct Pins {
    /// The queries that have started and not ended, the outer ones first.
    queries: Vec<Query>,
    /// What the statements of these queries have seen, by the address of Postgres' snapshot and the store.
    statements: HashMap<(usize, PathBuf), Pin>,
    /// What scans of other queries see.
    scans: HashMap<(usize, PathBuf), Weak<Arc<Snapshot>>>,
    /// What the transaction has seen first, without what it has changed itself.
    transaction: HashMap<PathBuf, Arc<Snapshot>>,
}

/// A query that is executed.
struct Query {
    /// Tells it from others.
    id: usize,
    /// The address of Postgres' snapshot.
    snapshot: usize,
    /// The address of the resource owner that holds the snapshot for it.
    owner: usize,
}

thread_local! {
    // A backend runs queries on one thread.
    static PINS: RefCell<Pins> = RefCell::default();
}

/// The snapshot of a store that a scan sees: the one that its statement has seen already, or the newest, or the one that its
/// transaction has seen; with what this transaction has changed itself before the statement.
pub(crate) fn pin(store: &Store, scope: Scope) -> Result<Pin> {
    PINS.with_borrow_mut(|pins| {
        if let Some(pin) = pins.find(store.path(), scope.statement) {
            return Ok(pin);
        }
        // What the transaction keeps is what others have committed.
        let base = match scope.is_of_transaction {
            false => store.snapshot()?,
            true => match pins.transaction.get(store.path()) {
                Some(base) => Arc::clone(base),
                None => {
                    let base = store.snapshot()?;
                    pins.transaction.insert(store.path().to_owned(), Arc::clone(&base));
                    base
                }
            },
        };
        let pin = Rc::new(transactions::seen(store.path(), base)?);
        pins.keep(store.path(), scope.statement, &pin);
        Ok(pin)
    })
}

impl Pins {
    fn find(&self, store: &Path, statement: usize) -> Option<Pin> {
        let key = (statement, store.to_owned());
        self.statements.get(&key).cloned().or_else(|| self.scans.get(&key).and_then(Weak::upgrade))
    }

    fn keep(&mut self, store: &Path, statement: usize, pin: &Pin) {
        let key = (statement, store.to_owned());
        if self.has_query(statement) {
            self.statements.insert(key, Rc::clone(pin));
        } else {
            self.scans.retain(|_, pin| pin.strong_count() > 0);
            self.scans.insert(key, Rc::downgrade(pin));
        }
    }

    fn has_query(&self, snapshot: usize) -> bool {
        self.queries.iter().any(|query| query.snapshot == snapshot)
    }

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

/// A query has started: a number that tells it from others, and the addresses of Postgres' snapshot and of the resource
/// owner that holds it. What the query's scans have seen is kept until it is over.
pub(crate) fn query_starts(id: usize, snapshot: usize, owner: usize) {
    PINS.with_borrow_mut(|pins| {
        pins.queries.push(Query { id, snapshot, owner });
        let seen = pins.scans.extract_if(|(of, _), _| *of == snapshot);
        let living: Vec<_> = seen.filter_map(|(key, pin)| Some((key, pin.upgrade()?))).collect();
        pins.statements.extend(living);
    });
}

/// A query has ended.
pub(crate) fn query_ends(id: usize) {
    PINS.with_borrow_mut(|pins| pins.forget(|query| query.id == id));
}

/// A resource owner lets go of what it holds, the snapshots of its queries among it.
pub(crate) fn owner_releases(owner: usize) {
    PINS.with_borrow_mut(|pins| pins.forget(|query| query.owner == owner));
}

/// The transaction ends, and with it what it has seen.
pub(crate) fn transaction_ends() {
    PINS.with_borrow_mut(|pins| pins.transaction.clear());
}
