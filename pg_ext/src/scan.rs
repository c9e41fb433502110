//! A scan: units claimed one by one, their rows given one by one.

use std::hash::{DefaultHasher, Hash, Hasher};

use arrow::array::RecordBatch;
use soa_core::predicate::Predicate;
use soa_core::scan::{PlanCounters, ScanPlan, ScanRequest};
use soa_core::store::{At, Form, Snapshot, SnapshotId};

use crate::error::{PgError, Result};
use crate::ffi::{self, SharedScan};
use crate::plan::Private;
use crate::rows::{Chunk, Encoding, RowPlace, Rows};
use crate::snapshots::{self, Pin, Scope};
use crate::table::{BoundColumn, Table};
use crate::transactions;
use crate::types::PgValue;

/// Which units a scan reads.
#[derive(Debug)]
enum Claims {
    /// All, in order; the next one.
    Own(usize),
    /// Those whose position no other process of the same scan has claimed; the next one that may be.
    Shared(SharedScan, usize),
}

/// What the rows of a scan must be like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// The columns of a slot.
    pub(crate) width: usize,
    /// Of text.
    pub(crate) encoding: Encoding,
}

/// The state of a scan in one process.
#[derive(Debug)]
pub(crate) struct Scan {
    table: Table,
    private: Private,
    pin: Pin,
    columns: Vec<BoundColumn>,
    claims: Claims,
    /// Made when the first row is asked for, and again when a parameter has changed.
    plan: Option<ScanPlan>,
    rows: Rows,
    rows_read: u64,
    /// What `EXPLAIN` shows of a parallel scan that is over: the rows of all processes.
    rows_read_by_all: Option<u64>,
}

/// What `EXPLAIN` says of a scan.
#[derive(Debug, Clone)]
pub(crate) struct Explained {
    /// One, or several that are joined.
    pub(crate) tables: Vec<ExplainedTable>,
    /// How they are joined.
    pub(crate) joins: Option<String>,
    /// What is computed of the rows, if anything is.
    pub(crate) computes: Option<String>,
    /// How many rows were read; not counted where something is computed of them.
    pub(crate) rows_read: Option<u64>,
}

/// What `EXPLAIN` says of a table.
#[derive(Debug, Clone)]
pub(crate) struct ExplainedTable {
    /// What the query calls it.
    pub(crate) name: String,
    pub(crate) store: String,
    pub(crate) version: u64,
    pub(crate) log_rows: u64,
    pub(crate) counters: PlanCounters,
    pub(crate) form: &'static str,
    pub(crate) columns: Vec<String>,
    pub(crate) filter: Option<String>,
}

impl ExplainedTable {
    /// What there is to say of a snapshot.
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let forms = |wanted: Form| snapshot.segments().iter().any(|segment| segment.form() == wanted);
        Self {
            name: String::new(),
            store: snapshot.path().display().to_string(),
            version: snapshot.version(),
            log_rows: snapshot.log_row_count(),
            counters: PlanCounters::default(),
            form: match (forms(Form::Arrow), forms(Form::Parquet)) {
                (true, true) => "arrow and parquet",
                (true, false) => "arrow",
                (false, true) => "parquet",
                (false, false) => "none",
            },
            columns: Vec::new(),
            filter: None,
        }
    }
}

impl Scan {
    /// Begins a scan of what the statement sees.
    ///
    /// `changes` says whether the statement changes rows, maybe these.
    pub(crate) fn begin(table: Table, private: Private, scope: Scope, shape: Shape, changes: bool) -> Result<Self> {
        let store = table.open()?;
        if changes && private.row_places {
            store.publish_log()?;
        }
        let pin = match table.version()? {
            Some(version) => Pin::new(store.snapshot_at(At::Version(version))?),
            None => snapshots::pin(&store, scope)?,
        };
        Self::new(table, private, pin, Claims::Own(0), shape)
    }

    /// Joins a scan that the leader of a parallel query has begun.
    pub(crate) fn join(table: Table, private: Private, shared: SharedScan, shape: Shape) -> Result<Self> {
        let pin = Pin::new(table.open()?.snapshot_of(shared.snapshot())?);
        Self::new(table, private, pin, Claims::Shared(shared, 0), shape)
    }

    fn new(table: Table, private: Private, pin: Pin, claims: Claims, shape: Shape) -> Result<Self> {
        let columns = table.bind(&private.columns, &pin)?;
        let rows = Rows::new(&columns, shape.width, shape.encoding)?;
        Ok(Self { table, private, pin, columns, claims, plan: None, rows, rows_read: 0, rows_read_by_all: None })
    }

    /// The snapshot of the store that is read.
    pub(crate) fn snapshot(&self) -> SnapshotId {
        self.pin.id()
    }

    /// From now on units are claimed together with other processes; unless they cannot see what is read here: false then.
    pub(crate) fn share(&mut self, shared: SharedScan) -> bool {
        let is_seen_by_all = !transactions::have_changed(self.pin.path());
        if is_seen_by_all {
            self.claims = Claims::Shared(shared, 0);
        } else {
            shared.claim_all();
        }
        is_seen_by_all
    }

    /// Leaves the other processes, whose shared memory goes.
    pub(crate) fn unshare(&mut self) {
        if let Claims::Shared(shared, _) = &self.claims {
            self.rows_read_by_all = Some(shared.rows_read());
            self.claims = Claims::Own(usize::MAX);
        }
    }

    /// Whether the values of the filter's operands are needed before the next row.
    pub(crate) fn is_unplanned(&self) -> bool {
        self.plan.is_none()
    }

    /// Finds out what to read, now that the filter's operands have values; `None` for one that has none.
    pub(crate) fn plan(&mut self, values: &[Option<PgValue>]) -> Result<()> {
        let predicate = self.predicate(values);
        let fingerprint = fingerprint(&self.pin, predicate.as_ref());
        let columns = self.columns.iter().map(|column| column.store_column).collect();
        let plan = self.pin.plan(&ScanRequest { columns, predicate, limit: None })?;
        if let Claims::Shared(shared, _) = &self.claims
            && !shared.agrees_on(fingerprint)
        {
            return Err(PgError::internal(format!(
                "the processes of a parallel scan of \"{}\" do not agree on what to read",
                self.table.name
            )));
        }
        self.plan = Some(plan);
        Ok(())
    }

    fn predicate(&self, values: &[Option<PgValue>]) -> Option<Predicate> {
        self.private.filter.as_ref()?.resolve(self.pin.schema(), values)
    }

    /// Goes to the next rows; `None` after the last.
    pub(crate) fn next_chunk(&mut self) -> Result<Option<&mut Chunk>> {
        while !self.rows.fill()? {
            let Some((batch, places)) = self.next_batch()? else {
                self.rows.clear();
                return Ok(None);
            };
            self.rows.set_located(&batch, places);
        }
        Ok(Some(self.rows.chunk_mut()))
    }

    fn next_batch(&mut self) -> Result<Option<(RecordBatch, Vec<RowPlace>)>> {
        let plan = self.plan.as_ref().ok_or_else(|| PgError::internal("a scan has not been planned"))?;
        // Many units may have no row that is wanted.
        loop {
            ffi::check_for_interrupts();
            let Some(unit) = self.claims.next(plan) else { return Ok(None) };
            let row_count = plan.units()[unit].row_count();
            let (batch, places) = match self.private.row_places {
                false => (plan.read_filtered(unit)?, Vec::new()),
                true => {
                    let (batch, located) = plan.read_located(unit)?;
                    (batch, transactions::places(&located, &self.pin)?)
                }
            };
            self.rows_read += row_count as u64;
            if let Claims::Shared(shared, _) = &self.claims {
                shared.count_rows(row_count as u64);
            }
            if batch.num_rows() > 0 {
                return Ok(Some((batch, places)));
            }
        }
    }

    /// Starts again from the first row. With `parameters_changed`, what to read must be found out anew.
    pub(crate) fn rescan(&mut self, parameters_changed: bool) {
        self.rows.clear();
        let (Claims::Own(next) | Claims::Shared(_, next)) = &mut self.claims;
        *next = 0;
        if parameters_changed && self.private.filter.is_some() {
            self.plan = None;
        }
    }

    /// What `EXPLAIN` says. `values` are those of the operands that are known without an execution.
    pub(crate) fn explain(&self, values: &[Option<PgValue>]) -> Result<Explained> {
        let counters = match &self.plan {
            Some(plan) => plan.counters(),
            None => {
                let predicate = self.predicate(values);
                self.pin.plan(&ScanRequest { columns: Vec::new(), predicate, limit: None })?.counters()
            }
        };
        let table = ExplainedTable {
            counters,
            columns: self.columns.iter().map(|column| column.name.clone()).collect(),
            filter: self.private.filter_text(),
            ..ExplainedTable::of(&self.pin)
        };
        let rows_read = Some(self.rows_read_by_all.unwrap_or(self.rows_read));
        Ok(Explained { tables: vec![table], joins: None, computes: None, rows_read })
    }
}

impl Claims {
    /// The next unit to read.
    fn next(&mut self, plan: &ScanPlan) -> Option<usize> {
        let units = plan.units();
        match self {
            Self::Own(next) => {
                let unit = *next;
                *next = next.saturating_add(1);
                (unit < units.len()).then_some(unit)
            }
            // What is claimed is a position, on which all processes agree, and not one of the units that this process
            // found to read: another may know more, or less, and what it leaves out has no wanted rows.
            Self::Shared(shared, next) => loop {
                if *next >= units.len() {
                    return None;
                }
                let position = shared.claim();
                *next += units[*next..].iter().take_while(|unit| unit.position() < position).count();
                if units.get(*next).is_some_and(|unit| unit.position() == position) {
                    *next += 1;
                    return Some(*next - 1);
                }
            },
        }
    }
}

/// A number that two processes share if they look for the same rows of the same version.
fn fingerprint(snapshot: &Snapshot, predicate: Option<&Predicate>) -> u64 {
    let mut hasher = DefaultHasher::new();
    snapshot.id().hash(&mut hasher);
    snapshot.row_count().hash(&mut hasher);
    // What is claimed are positions in these.
    for segment in snapshot.segments() {
        (segment.path(), segment.row_count()).hash(&mut hasher);
    }
    format!("{predicate:?}").hash(&mut hasher);
    // Zero means that nobody has planned yet.
    hasher.finish().max(1)
}
