//! Planning: how many rows a scan will give, what it costs, and what its plan says.

use serde::{Deserialize, Serialize};
use soa_core::predicate::{CompareOp, Predicate, Scalar};
use soa_core::scan::ScanRequest;
use soa_core::schema::Schema;

use crate::error::{PgError, Result};
use crate::filter::{Condition, Filter, Operand};
use crate::query::Query;
use crate::table::Table;
use crate::transactions;
use crate::types::PgValue;

/// What a plan says of a scan. It is kept as text in the plan, which Postgres copies, caches and sends to workers; the
/// store is looked at anew at each execution.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Private {
    /// The numbers of the columns that are read.
    pub(crate) columns: Vec<i16>,
    /// What the conditions say.
    pub(crate) filter: Option<Filter>,
    /// The texts of the filter's operands, in the order of the plan's list of expressions.
    pub(crate) operands: Vec<String>,
    /// Whether it is asked where each row is.
    pub(crate) row_places: bool,
}

/// What a plan's node says, as text.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum PlanText {
    /// A table's rows are read.
    Table(Private),
    /// Something is computed of them.
    Query(Query),
}

impl PlanText {
    /// As text.
    pub(crate) fn to_text(&self) -> Result<String> {
        serde_json::to_string(self).map_err(|error| PgError::internal(format!("a plan cannot be written: {error}")))
    }

    /// From text.
    pub(crate) fn from_text(text: &str) -> Result<Self> {
        serde_json::from_str(text).map_err(|error| PgError::internal(format!("a plan cannot be read: {error}")))
    }
}

impl Private {
    /// The filter's text for `EXPLAIN`.
    pub(crate) fn filter_text(&self) -> Option<String> {
        self.filter.as_ref().map(|filter| filter.text(&self.operands))
    }
}

/// A query's use of a table: its columns and conditions.
#[derive(Debug)]
pub(crate) struct Usage {
    /// The numbers of the columns it reads, ascending.
    pub(crate) columns: Vec<i16>,
    /// Whether it asks where each row is: for its `ctid`.
    pub(crate) row_places: bool,
    /// The conditions on its rows.
    pub(crate) conditions: Vec<Condition>,
    /// The expressions that the conditions compare with.
    pub(crate) operands: Vec<Operand>,
    /// Their values, where they are constants.
    pub(crate) values: Vec<Option<PgValue>>,
}

/// What planning finds out in the store.
#[derive(Debug)]
pub(crate) struct Estimate {
    /// The table's rows.
    pub(crate) rows: u64,
    /// The rows of the units that are read.
    pub(crate) rows_read: u64,
    /// The units that are read.
    pub(crate) units_read: u64,
    /// Whether this transaction has changed the store, which other processes do not see.
    pub(crate) is_changed: bool,
    /// Whether the filter leaves one row at most: it names a key.
    pub(crate) is_one_row: bool,
    pub(crate) private: Private,
    /// The operands that the filter uses, by their place among those of the usage.
    pub(crate) used_operands: Vec<usize>,
}

/// Looks at the newest metadata of the store.
pub(crate) fn estimate(table: &Table, usage: &Usage) -> Result<Estimate> {
    let snapshot = table.newest()?;
    let schema = snapshot.schema();
    table.bind(&usage.columns, &snapshot)?;
    let mut filter = filter_of(table, usage, schema);
    let predicate = filter.as_ref().and_then(|filter| filter.resolve(schema, &usage.values));
    let plan = snapshot.plan(&ScanRequest { columns: Vec::new(), predicate, limit: None })?;
    let key = schema.key().map(|key| schema.field(key).name());
    let is_one_row = filter.as_ref().zip(key).is_some_and(|(filter, key)| filter.names_one(key));
    let used_operands = filter.as_ref().map(Filter::operands).unwrap_or_default();
    if let Some(filter) = &mut filter {
        filter.renumber(&used_operands);
    }
    let operands = used_operands.iter().map(|index| usage.operands[*index].text.clone()).collect();
    Ok(Estimate {
        rows: snapshot.row_count(),
        rows_read: plan.row_count(),
        units_read: plan.counters().units_read,
        is_one_row,
        private: Private { columns: usage.columns.clone(), filter, operands, row_places: usage.row_places },
        is_changed: transactions::have_changed(snapshot.path()),
        used_operands,
    })
}

/// How many rows are looked at to find those that pass a filter which compares columns with values that are not known yet: one, if
/// the key is among these, else those of the units in which a value in the middle of a column may be. What the columns of `known`
/// are equal to is known.
pub(crate) fn rows_looked_at(table: &Table, estimate: &Estimate, known: Option<&Filter>) -> Result<u64> {
    if estimate.is_one_row {
        return Ok(1);
    }
    let snapshot = table.newest()?;
    let equal_columns = |filter: Option<&Filter>| -> Vec<String> {
        filter.into_iter().flat_map(Filter::equal_columns).map(str::to_owned).collect()
    };
    let known = equal_columns(known);
    let mut columns = equal_columns(estimate.private.filter.as_ref());
    columns.retain(|column| !known.contains(column));
    let mut least = estimate.rows_read;
    for column in columns.iter().filter_map(|name| snapshot.schema().index_of(name)) {
        let bounds = snapshot.bounds(column)?;
        let (Some(Scalar::Int(min)), Some(Scalar::Int(max))) = (bounds.min, bounds.max) else { continue };
        let value = Scalar::Int(min + max.saturating_sub(min) / 2);
        let predicate = Some(Predicate::Compare { column, op: CompareOp::Eq, value });
        least = least.min(snapshot.plan(&ScanRequest { columns: Vec::new(), predicate, limit: None })?.row_count());
    }
    Ok(least.max(1))
}

fn filter_of(table: &Table, usage: &Usage, schema: &Schema) -> Option<Filter> {
    Filter::of(&usage.conditions, &|number| {
        let name = table.attribute(number)?.store_name();
        schema.index_of(name).map(|_| name.to_owned())
    })
}

/// The planner's settings that a cost is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CostSettings {
    pub(crate) cpu_tuple_cost: f64,
    pub(crate) cpu_operator_cost: f64,
}

/// What reading a table costs, in the planner's unit.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Cost {
    pub(crate) startup: f64,
    /// For the rows that are read and given, to be shared by parallel workers.
    pub(crate) run: f64,
}

/// The cost of reading `columns` columns of so many rows to compute with them.
pub(crate) fn read_cost(settings: CostSettings, rows_read: f64, columns: usize) -> f64 {
    rows_read * settings.cpu_operator_cost * COMPUTE_FRACTION * columns as f64
}

/// The cost of looking rows up by a value: so many are looked at, of which so many are given.
pub(crate) fn lookup_cost(settings: CostSettings, looked_at: f64, rows: f64, columns: usize, recheck: f64) -> Cost {
    let read = cost(settings, looked_at, rows, columns, true, recheck);
    Cost { startup: LOOKUP_COST, ..read }
}

/// The cost of computing `values` values for each of `groups` groups of rows that are come by at a cost of `reading`.
pub(crate) fn groups_cost(settings: CostSettings, reading: f64, rows: f64, groups: f64, values: usize) -> Cost {
    let CostSettings { cpu_tuple_cost, cpu_operator_cost } = settings;
    let computing = rows * cpu_operator_cost * COMPUTE_FRACTION * values as f64;
    let startup = STARTUP_COST * TIE_BREAKER * TIE_BREAKER + reading + computing;
    Cost { startup, run: groups * (cpu_tuple_cost + cpu_operator_cost * VALUE_FRACTION * values as f64) }
}

/// The cost of an answer that is one of many: those that are computed one by one, and all of them at once, take a few times as
/// long as one answer does that reads everything.
pub(crate) fn looked_up_cost(cost: Cost) -> Cost {
    Cost { startup: cost.startup * TIMES_FOR_ALL / ANSWERS, ..cost }
}

/// The rows of two sides that are joined.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sides {
    /// Of the side that is kept in memory.
    pub(crate) kept: f64,
    /// Of the other one.
    pub(crate) others: f64,
    /// Of what comes of them.
    pub(crate) joined: f64,
}

/// The cost of joining two sides, beside that of coming by their rows.
pub(crate) fn join_cost(settings: CostSettings, sides: Sides) -> f64 {
    let operations = sides.kept * KEEP_FRACTION + sides.others * LOOK_UP_FRACTION + sides.joined * JOINED_FRACTION;
    operations * settings.cpu_operator_cost
}

/// The cost of giving rows that are come by at a cost of `computing`.
pub(crate) fn rows_cost(settings: CostSettings, computing: f64, rows: f64, columns: usize) -> Cost {
    let CostSettings { cpu_tuple_cost, cpu_operator_cost } = settings;
    let startup = STARTUP_COST * TIE_BREAKER + computing;
    Cost { startup, run: rows * (cpu_tuple_cost + cpu_operator_cost * VALUE_FRACTION * columns as f64) }
}

/// The cost of the first `wanted` of `rows` rows in an order. What it takes to come by them costs `unordered`, of which only
/// the startup is paid if they do not leave as they come.
pub(crate) fn ordered_cost(settings: CostSettings, unordered: Cost, rows: f64, wanted: f64, columns: usize) -> Cost {
    let CostSettings { cpu_tuple_cost, cpu_operator_cost } = settings;
    // Each row is compared with some of those that are kept.
    let comparisons = rows * wanted.max(2.0).log2();
    let startup = unordered.startup + comparisons * cpu_operator_cost * SORT_FRACTION;
    Cost { startup, run: wanted * (cpu_tuple_cost + cpu_operator_cost * VALUE_FRACTION * columns as f64) }
}

/// Of tables so small that opening them is all there is to do, the planner would take plans for equal. Joining in the store is to
/// be a little cheaper than reading, and grouping there than joining.
const TIE_BREAKER: f64 = 0.9;
/// What a value takes that is computed with, in parts of an operator's call: columns are computed with, not rows.
const COMPUTE_FRACTION: f64 = 0.02;
/// How many answers are asked for that are computed at once, and how many times the cost of one that is. Nothing tells the
/// planner's callbacks of the former.
const ANSWERS: f64 = 1_000.0;
const TIMES_FOR_ALL: f64 = 4.0;
/// What a row takes that is put into a hash table, that is looked up there, and that comes of a pair, in parts of an operator's
/// call. Estimates by what has to be done: a row is hashed, copied and linked; hashed and compared; copied.
const KEEP_FRACTION: f64 = 0.8;
const LOOK_UP_FRACTION: f64 = 0.2;
const JOINED_FRACTION: f64 = 0.16;
/// What a comparison takes of rows that are sorted, in parts of an operator's call; Postgres reckons with 2 of them.
const SORT_FRACTION: f64 = 0.2;

/// Opening files and reading footers, in the planner's unit (about a page read from disk each).
const STARTUP_COST: f64 = 10.0;
/// Looking rows up by a value in files that are open: as long as 25 times what the unit is of a scan (measured: 70 µs where a scan
/// of 10 million rows at a cost of 47,000 takes 120 ms).
const LOOKUP_COST: f64 = 25.0;
/// What leaving a row out by the filter costs, in parts of an operator's call: it is done by the column, not by the row.
const FILTER_FRACTION: f64 = 0.1;
/// What a value costs that is put into a slot, in parts of an operator's call.
const VALUE_FRACTION: f64 = 0.25;

/// The cost of a scan that reads `rows_read` rows and gives `rows` of them.
pub(crate) fn cost(
    settings: CostSettings,
    rows_read: f64,
    rows: f64,
    columns: usize,
    has_filter: bool,
    recheck_per_row: f64,
) -> Cost {
    let given = if has_filter { rows } else { rows_read };
    let filter = if has_filter { rows_read * settings.cpu_operator_cost * FILTER_FRACTION } else { 0.0 };
    let per_row =
        settings.cpu_tuple_cost + recheck_per_row + settings.cpu_operator_cost * VALUE_FRACTION * columns as f64;
    Cost { startup: STARTUP_COST, run: filter + given * per_row }
}
