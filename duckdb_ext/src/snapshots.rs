//! One query sees one snapshot of a store, however many times it scans it.
//!
//! DuckDB asks every scan of a query for its state on its own, in any order, from several threads, and the
//! C API says neither which query nor which connection it is for. What it offers is enough all the same:
//!
//! - **The connection.** A setting of scope SESSION belongs to one connection. The first bind on a connection
//!   stores a number there that no other connection has; bind runs on the connection's own thread, under its
//!   lock, and the bound scan keeps the [`Session`] for all its executions (a plan or prepared statement is
//!   executed by the connection that made it). Init and scan callbacks never touch the setting.
//! - **The query.** A connection runs one query at a time: starting a query ends the one before it
//!   (`ClientContext::InitialCleanup` destroys the active query, or refuses while its result is open), which
//!   destroys its executor, its pipelines and with them their sources' global states. Within a query a global
//!   state, once made, stays until the executor goes: pipelines keep it to their end (`Pipeline::source_state`;
//!   nothing calls `Pipeline::ClearSource`), the executor keeps its pipelines until its last one has finished,
//!   and where a recursive CTE replaces a state, the new one is made before the old one is dropped
//!   (`Pipeline::ResetSource`).
//!
//! So each global state holds a [`Pin`], and a scan takes over the pin of its session and path if there is a
//! living one: then both belong to one query. When the query ends the last pin goes, and the next query, a
//! prepared one included, takes the newest snapshot. Connections share no pins, so one that keeps a result
//! open does not make another one read old data.
//!
//! A statement that DuckDB rewrites into several (`PIVOT` without a list of values first collects them) is as
//! many queries here.
//!
//! Where the configuration is locked before a connection has its number (`SET lock_configuration = true`), settings
//! cannot be written; such a connection is told apart by the address of an object that it owns. No other connection
//! has it while the session is alive, for a session dies with the plans of its connection.

use std::collections::{HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, Weak};

use duckdb_neo::connection::{Context, SettingScope};
use duckdb_neo::custom_option::{CustomOptionBuilder, CustomOptionCallbacks};
use duckdb_neo::extension::Extension;
use duckdb_neo::value::Value;
use duckdb_neo::{DuckDBType, ToValue};
use soa_core::store::{Snapshot, Store};

use crate::error::{IntoDuckDb, Result, invalid};
use crate::ffi::connection_address;

/// The setting that holds a connection's number.
const SESSION_SETTING: &str = "soa_session";

/// The numbers that are just being given to their connections. Nobody else may set one.
static ISSUED: LazyLock<Mutex<HashSet<u64>>> = LazyLock::new(Mutex::default);

/// What tells a connection from every other in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum ConnectionId {
    /// The value of [`SESSION_SETTING`].
    Number(u64),
    /// Where settings cannot be written.
    Address(usize),
}

impl ConnectionId {
    fn of(context: &Context) -> Result<Self> {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let config = context.config()?;
        let (value, scope) = config.get_value(SESSION_SETTING)?;
        if scope == SettingScope::Session
            && let Some(number) = value.get::<u64>()?
        {
            return Ok(Self::Number(number));
        }
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        lock(&ISSUED).insert(number);
        let set = config.set_value(SESSION_SETTING, &number.value(context)?, SettingScope::Session);
        lock(&ISSUED).remove(&number);
        match set {
            Ok(()) => Ok(Self::Number(number)),
            Err(_) => connection_address(context).map(Self::Address),
        }
    }
}

/// A connection, as far as snapshots are concerned.
#[derive(Debug, Default)]
pub(crate) struct Session {
    pins: Mutex<HashMap<PathBuf, Weak<Pin>>>,
}

/// Holds a query to a snapshot for as long as one of its scans holds this.
#[derive(Debug)]
pub(crate) struct Pin(Arc<Snapshot>);

impl Pin {
    /// The snapshot.
    pub(crate) fn snapshot(&self) -> &Arc<Snapshot> {
        &self.0
    }
}

impl Session {
    /// The session of the connection behind a bind callback.
    pub(crate) fn of(context: &Context) -> Result<Arc<Self>> {
        static SESSIONS: LazyLock<Mutex<HashMap<ConnectionId, Weak<Session>>>> = LazyLock::new(Mutex::default);
        let connection = ConnectionId::of(context)?;
        let mut sessions = lock(&SESSIONS);
        if let Some(session) = sessions.get(&connection).and_then(Weak::upgrade) {
            return Ok(session);
        }
        sessions.retain(|_, session| session.strong_count() > 0);
        let session = Arc::new(Self::default());
        sessions.insert(connection, Arc::downgrade(&session));
        Ok(session)
    }

    /// The snapshot of a store that the running query sees: the one it has seen already, or the newest.
    pub(crate) fn pin(&self, store: &Store) -> Result<Arc<Pin>> {
        // The lock is held while the newest snapshot is looked for: two scans of one query must not find two.
        let mut pins = lock(&self.pins);
        // The store's path is resolved: the same folder under two names is one store.
        if let Some(pin) = pins.get(store.path()).and_then(Weak::upgrade) {
            return Ok(pin);
        }
        pins.retain(|_, pin| pin.strong_count() > 0);
        let pin = Arc::new(Pin(store.snapshot().into_duckdb()?));
        pins.insert(store.path().to_owned(), Arc::downgrade(&pin));
        Ok(pin)
    }
}

/// Every value behind these locks is whole at any time, so a panic elsewhere does not spoil it.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Registers the setting that tells connections apart.
pub(crate) fn register(extension: &Extension) -> Result<()> {
    let description = "Tells connections apart so that one query sees one snapshot of a store; set by the extension";
    let option = CustomOptionBuilder::new(SESSION_SETTING, description, u64::logical_type(extension)?, KeepNumber);
    option.no_global().register(extension)
}

/// Lets a connection get its number once. Taking another connection's would make both share snapshots.
struct KeepNumber;

impl CustomOptionCallbacks for KeepNumber {
    fn update(&self, context: &Context, value: Value, _scope: SettingScope, _is_reset: bool) -> Result<Value> {
        let (current, scope) = context.config()?.get_value(SESSION_SETTING)?;
        let is_issued = value.get::<u64>()?.is_some_and(|number| lock(&ISSUED).remove(&number));
        if !is_issued || (scope == SettingScope::Session && current.get::<u64>()?.is_some()) {
            return Err(invalid(format!("\"{SESSION_SETTING}\" is set by the extension and cannot be changed")));
        }
        Ok(value)
    }
}
