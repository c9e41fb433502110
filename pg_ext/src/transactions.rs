//! What this session's transaction has changed of stores, and has not committed yet.
//!
//! - Each store that is changed has one [`Transaction`], which begins with the first change and is committed when Postgres is
//!   about to commit ([`commit`]): after that Postgres can still fail, which then keeps what stores have.
//! - What was changed is part of what later statements of the same transaction see ([`seen`]).
//! - A subtransaction that ends in failure goes back to what there was before its first change ([`subtransaction_fails`]).

use std::cell::RefCell;
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::sync::Arc;

use pgrx::PgSqlErrorCode;
use soa_core::Error;
use soa_core::scan::{Located, Part};
use soa_core::store::{Additions, Savepoint, Snapshot, Store, Transaction};

use crate::error::{PgError, Result};
use crate::rows::RowPlace;

/// The numbers of parts that are no segment. What a `ctid` has is one more, as 0 is none.
const PART_LOG: u16 = u16::MAX - 2;
const PART_OWN: u16 = u16::MAX - 1;

/// A store that this transaction changes.
struct Open {
    transaction: Transaction,
    /// What to go back to, by the level of the subtransaction that made the first change after it; the outermost first.
    saved: Vec<(i32, Savepoint)>,
    /// Shared with the statements that are changing it now.
    statements: Rc<()>,
    /// Whether a statement has left out rows whose keys it saw.
    leaves_out: bool,
}

impl Open {
    /// Remembers what there was before a subtransaction's first change. The outermost level goes back by forgetting all.
    fn save(&mut self, level: i32) {
        if level > 1 && self.saved.last().is_none_or(|(known, _)| *known < level) {
            self.saved.push((level, self.transaction.save()));
        }
    }
}

thread_local! {
    // A backend runs queries on one thread.
    static OPEN: RefCell<BTreeMap<PathBuf, Open>> = const { RefCell::new(BTreeMap::new()) };
    /// By store, the segments whose rows this session has been told the places of: one that goes leaves its number unused, so that
    /// no `ctid` comes to name another row.
    static NUMBERED: RefCell<HashMap<PathBuf, Numbered>> = RefCell::default();
}

/// Numbers of segments.
#[derive(Default)]
struct Numbered {
    paths: Vec<Arc<str>>,
    numbers: HashMap<Arc<str>, u16>,
}

impl Numbered {
    fn number(&mut self, path: &str) -> Option<u16> {
        if let Some(number) = self.numbers.get(path) {
            return Some(*number);
        }
        let number = u16::try_from(self.paths.len()).ok().filter(|number| *number < PART_LOG)?;
        let path: Arc<str> = path.into();
        self.paths.push(Arc::clone(&path));
        self.numbers.insert(path, number);
        Some(number)
    }
}

/// Keeps the places of a store's rows as a statement has found them, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Statement {
    _token: Rc<()>,
}

/// A statement begins that changes a store. `several` says whether a transaction may change more than one.
pub(crate) fn begin(store: &Store, several: bool) -> Result<Statement> {
    OPEN.with_borrow_mut(|open| {
        check_is_only(open, store.path(), several)?;
        if !open.contains_key(store.path()) {
            let transaction = store.transaction()?;
            let new = Open { transaction, saved: Vec::new(), statements: Rc::default(), leaves_out: false };
            open.insert(store.path().to_owned(), new);
        }
        let opened = open.get(store.path()).ok_or_else(lost)?;
        Ok(Statement { _token: Rc::clone(&opened.statements) })
    })
}

/// That no other store is changed, unless there may be `several`. Of statements that are going on some may have changed nothing yet.
fn check_is_only(open: &BTreeMap<PathBuf, Open>, store: &Path, several: bool) -> Result<()> {
    let changed = |open: &Open| !open.transaction.is_empty();
    if several || open.get(store).is_some_and(changed) {
        return Ok(());
    }
    let Some((other, _)) = open.iter().find(|(_, open)| changed(open)) else { return Ok(()) };
    let message = format!("this transaction has changed the store \"{}\" already", other.display());
    Err(PgError::new(PgSqlErrorCode::ERRCODE_FEATURE_NOT_SUPPORTED, message)
        .with_detail("Each store commits by itself: if the second one fails, the first one stays as it is then.")
        .with_hint("Change one store in each transaction, or SET soa_fdw.several_stores = on."))
}

/// Changes a store on the level of a subtransaction. `several` is as in [`begin`].
pub(crate) fn change<T>(
    store: &Path,
    level: i32,
    several: bool,
    change: impl FnOnce(&mut Transaction) -> soa_core::Result<T>,
) -> Result<T> {
    OPEN.with_borrow_mut(|open| {
        check_is_only(open, store, several)?;
        let open = open.get_mut(store).ok_or_else(lost)?;
        open.save(level);
        Ok(change(&mut open.transaction)?)
    })
}

/// Adds what a statement is to add that has left out the keys that it saw. `level` and `several` are as in [`change`].
pub(crate) fn add_left(store: &Path, level: i32, several: bool, additions: Additions) -> Result<u64> {
    let added = change(store, level, several, |transaction| Ok(transaction.add(additions)))?;
    OPEN.with_borrow_mut(|open| open.get_mut(store).ok_or_else(lost).map(|open| open.leaves_out = true))?;
    added.map_err(came_since)
}

/// A key that came after a statement looked for it: it would be left out if the transaction were repeated.
fn came_since(error: Error) -> PgError {
    match error {
        Error::DuplicateKey { column, key } => {
            let message = format!("key {key} in column \"{column}\" was added by another transaction meanwhile");
            PgError::new(PgSqlErrorCode::ERRCODE_T_R_SERIALIZATION_FAILURE, message)
                .with_hint("Try the transaction again.")
        }
        other => other.into(),
    }
}

/// For the rows that a statement adds to a store.
pub(crate) fn additions(store: &Path) -> Result<Additions> {
    OPEN.with_borrow(|open| Ok(open.get(store).ok_or_else(lost)?.transaction.additions()?))
}

fn lost() -> PgError {
    PgError::internal("a transaction of a store was lost")
}

/// What this transaction sees of a store of which `base` is committed.
pub(crate) fn seen(store: &Path, base: Arc<Snapshot>) -> Result<Arc<Snapshot>> {
    OPEN.with_borrow_mut(|open| {
        let Some(open) = open.get_mut(store) else { return Ok(base) };
        // Statements that delete rows have found them where they are.
        if Rc::strong_count(&open.statements) == 1 {
            open.transaction.make_room()?;
        }
        Ok(open.transaction.snapshot_over(&base)?)
    })
}

/// Whether this transaction has changed the store in a folder.
pub(crate) fn have_changed(store: &Path) -> bool {
    OPEN.with_borrow(|open| open.get(store).is_some_and(|open| !open.transaction.is_empty()))
}

/// Whether this transaction has changed any store.
pub(crate) fn have_changed_any() -> bool {
    OPEN.with_borrow(|open| open.values().any(|open| !open.transaction.is_empty()))
}

/// The transaction is about to be committed: its changes are.
pub(crate) fn commit() -> Result<()> {
    let open = OPEN.with_borrow_mut(std::mem::take);
    for (_, Open { transaction, leaves_out, .. }) in open {
        let committed = transaction.commit();
        match leaves_out {
            true => committed.map_err(came_since)?,
            false => committed?,
        };
    }
    Ok(())
}

/// The transaction has ended.
pub(crate) fn end() {
    drop(OPEN.with_borrow_mut(std::mem::take));
}

/// The subtransaction of a level is given up.
pub(crate) fn subtransaction_fails(level: i32) {
    OPEN.with_borrow_mut(|open| {
        for open in open.values_mut() {
            let first = open.saved.iter().position(|(saved, _)| *saved >= level);
            if let Some((_, savepoint)) = first.and_then(|first| open.saved.drain(first..).next()) {
                open.transaction.restore(savepoint);
            }
        }
    });
}

/// The subtransaction of a level becomes part of the one around it.
pub(crate) fn subtransaction_ends(level: i32) {
    OPEN.with_borrow_mut(|open| {
        for open in open.values_mut() {
            let Some((saved, savepoint)) = open.saved.pop_if(|(saved, _)| *saved >= level) else { continue };
            // What that one goes back to is what there was before its own first change, if it has made one.
            let is_known = open.saved.last().is_some_and(|(known, _)| *known >= saved - 1);
            if saved > 2 && !is_known {
                open.saved.push((saved - 1, savepoint));
            }
        }
    });
}

/// Where rows are, as a `ctid` says it.
pub(crate) fn places(located: &Located, seen: &Snapshot) -> Result<Vec<RowPlace>> {
    let part = match located.part {
        Part::Own => PART_OWN,
        Part::Log => PART_LOG,
        Part::Segment(index) => {
            let path = seen.segments().get(index).ok_or_else(no_segment)?.path();
            let number = NUMBERED.with_borrow_mut(|stores| match stores.get_mut(seen.path()) {
                Some(numbered) => numbered.number(path),
                None => stores.entry(seen.path().to_owned()).or_default().number(path),
            });
            number.ok_or_else(|| {
                let message = format!("this session has met more than {PART_LOG} segments of the store");
                PgError::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
                    .with_hint("Compact the store: SELECT * FROM soa.compact('...'). Then connect again.")
            })?
        }
    };
    Ok(located.numbers.iter().map(|number| RowPlace { part, number: *number }).collect())
}

/// What a row is in, in a snapshot.
pub(crate) fn part_of(place: RowPlace, seen: &Snapshot) -> Result<Part> {
    let number = match place.part {
        PART_OWN => return Ok(Part::Own),
        PART_LOG => return Ok(Part::Log),
        number => usize::from(number),
    };
    let path = NUMBERED.with_borrow(|stores| stores.get(seen.path())?.paths.get(number).cloned());
    let path = path.ok_or_else(no_segment)?;
    let index = seen.segments().iter().position(|segment| *segment.path() == *path);
    index.map(Part::Segment).ok_or_else(no_segment)
}

fn no_segment() -> PgError {
    PgError::internal("a row is in no segment")
}
