//! Answers for many values of parameters at once.
//!
//! A subquery such as `SELECT avg(a) FROM t WHERE t.k = outer.k` is computed anew for each row of the outer query. Once that has
//! taken as much as it takes to compute the same for all values of `k`, that is done, grouped by `k`, and the answers are looked
//! up from then on.

use std::hash::BuildHasher;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType as ArrowType, Int32Type, Int64Type};
use arrow::datatypes::{Decimal128Type, UInt64Type};
use hashbrown::{DefaultHashBuilder, HashTable};
use soa_core::predicate::{CompareOp, Predicate, Scalar};

use crate::error::{PgError, Result};
use crate::filter::{Filter, Op};
use crate::query::{Expression, Query, SortBy, TableColumn, Typed, ValueType, Wanted};
use crate::snapshots::Pin;
use crate::types::{self, PgValue};

/// All answers are computed once those that were computed one by one have read the tables so many times.
const READ_TIMES: u64 = 3;
/// And there were so many of them.
const SINGLE_ANSWERS: u64 = 3;
/// More answers than these are not kept.
const ANSWERS_MAX: usize = 2_000_000;
/// Answers that hold for fewer questions than these are not worth while.
const USES_MIN: u64 = 1_000;

/// What a query asks for that has parameters which columns must be equal to.
#[derive(Debug)]
pub(super) struct Lookup {
    /// The query for all values of them: their columns are the first groups.
    grouped: Query,
    keys: Vec<Key>,
    state: State,
}

/// A column, and the operand that it must be equal to.
#[derive(Debug)]
struct Key {
    /// The place of its table.
    table: usize,
    /// Its name in the store.
    column: String,
    operand: usize,
}

#[derive(Debug)]
enum State {
    /// There are no answers yet. So many have been computed one by one, of so many rows in all.
    Single {
        answers: u64,
        rows_read: u64,
    },
    Answers(Box<Answers>),
    /// There are too many of them, or not for all values.
    GivenUp,
}

/// Answers for all values of the keys.
#[derive(Debug)]
pub(super) struct Answers {
    /// What all operands were; those that are keys do not matter.
    values: Vec<Option<PgValue>>,
    /// Where the stores have the keys' columns.
    key_columns: Vec<usize>,
    /// The rows that have a combination of values, by its hash.
    rows: HashTable<usize>,
    hasher: DefaultHashBuilder,
    /// The values of all rows, one row after the other: as many as there are keys for each.
    keys: Vec<i128>,
    batches: Vec<Answer>,
    /// The columns of all answers.
    columns: Answer,
    /// The answer where there are no rows.
    nothing: Answer,
    /// What is asked for, to be hashed.
    asked: Vec<i128>,
    bytes: usize,
    /// How often they were asked for.
    uses: u64,
}

/// Columns that have answers for rows.
pub(super) type Answer = Vec<ArrayRef>;

impl Lookup {
    /// For a query, if it is one of this kind. `is_parameter` says whether an operand may change.
    pub(super) fn of(query: &Query, is_parameter: impl Fn(usize) -> bool) -> Option<Self> {
        let Wanted::Groups { groups, aggregates, having: None } = &query.wanted else { return None };
        let is_plain = groups.is_empty() && query.limit.is_none() && query.input.joined.is_inner();
        if !is_plain || query.order.iter().any(|key| matches!(key.by, SortBy::Row(_))) {
            return None;
        }
        let (mut keys, mut groups) = (Vec::<Key>::new(), Vec::new());
        let mut grouped = query.clone();
        for (table, rows) in grouped.input.tables.iter_mut().enumerate() {
            let Some(Filter::And(parts)) = &mut rows.filter else { continue };
            let mut add_key = |part: &mut Filter| {
                let Filter::Compare { column, op: Op::Eq, value } = part else { return false };
                let is_it = |known: &TableColumn| known.table == table && known.name == *column;
                let Some(place) = query.input.columns.iter().position(is_it) else { return false };
                let value_type = query.input.columns[place].value_type;
                let is_looked_up =
                    value_type.is_integer() || matches!(value_type, ValueType::Numeric { .. } | ValueType::Date);
                let is_key = is_looked_up && is_parameter(*value);
                if is_key {
                    keys.push(Key { table, column: column.clone(), operand: *value });
                    groups.push(Typed { expression: Expression::Column(place), value_type });
                }
                is_key
            };
            parts.retain_mut(|part| !add_key(part));
            if parts.is_empty() {
                rows.filter = None;
            }
        }
        let is_twice =
            |at: usize| keys[..at].iter().any(|key| key.table == keys[at].table && key.column == keys[at].column);
        if keys.is_empty() || (0..keys.len()).any(is_twice) {
            return None;
        }
        grouped.wanted = Wanted::Groups { groups, aggregates: aggregates.clone(), having: None };
        grouped.order = Vec::new();
        Some(Self { grouped, keys, state: State::Single { answers: 0, rows_read: 0 } })
    }

    /// The query for all answers.
    pub(super) fn grouped(&self) -> &Query {
        &self.grouped
    }

    /// Whether all answers may be computed some time.
    pub(super) fn is_wanted(&self) -> bool {
        !matches!(self.state, State::GivenUp)
    }

    /// Whether it is time to compute them; asked when there is no answer.
    pub(super) fn is_due(&mut self, snapshots: &[Pin]) -> bool {
        if let State::Answers(answers) = &self.state {
            // They are for other values of the other operands.
            let was_worth_it = answers.uses >= USES_MIN;
            self.state = if was_worth_it { State::Single { answers: 0, rows_read: 0 } } else { State::GivenUp };
        }
        let State::Single { answers, rows_read } = self.state else { return false };
        let rows: u64 = snapshots.iter().map(|snapshot| snapshot.row_count()).sum();
        answers >= SINGLE_ANSWERS && rows_read >= rows.saturating_mul(READ_TIMES)
    }

    /// An answer is computed alone, of so many rows.
    pub(super) fn count(&mut self, rows: u64) {
        if let State::Single { answers, rows_read } = &mut self.state {
            (*answers, *rows_read) = (*answers + 1, rows_read.saturating_add(rows));
        }
    }

    /// Sees that all answers will not be there.
    pub(super) fn give_up(&mut self) {
        self.state = State::GivenUp;
    }

    /// No answers yet, for these values of the other operands. `nothing` is the answer where there are no rows.
    pub(super) fn collect(&self, snapshots: &[Pin], nothing: Answer, values: &[Option<PgValue>]) -> Result<Answers> {
        let key_columns = self.keys.iter().map(|key| {
            let found = snapshots[key.table].schema().index_of(&key.column);
            found.ok_or_else(|| PgError::internal(format!("the store has lost its column \"{}\"", key.column)))
        });
        Ok(Answers {
            values: values.to_vec(),
            key_columns: key_columns.collect::<Result<_>>()?,
            rows: HashTable::new(),
            hasher: DefaultHashBuilder::default(),
            keys: Vec::new(),
            batches: Vec::new(),
            columns: Vec::new(),
            nothing,
            asked: Vec::new(),
            bytes: 0,
            uses: 0,
        })
    }

    /// Keeps the answers, which are complete.
    pub(super) fn keep(&mut self, mut answers: Answers) -> Result<()> {
        let column = |place: usize| {
            let parts: Vec<&dyn Array> = answers.batches.iter().map(|answer| answer[place].as_ref()).collect();
            let joined = if parts.is_empty() { Ok(answers.nothing[place].slice(0, 0)) } else { concat(&parts) };
            joined.map_err(|error| PgError::internal(format!("answers cannot be put together: {error}")))
        };
        answers.columns = (0..answers.nothing.len()).map(column).collect::<Result<_>>()?;
        answers.batches = Vec::new();
        self.state = State::Answers(Box::new(answers));
        Ok(())
    }

    /// The answer for these values, if all answers are there: columns, and the row in them.
    pub(super) fn answer(&mut self, snapshots: &[Pin], values: &[Option<PgValue>]) -> Option<(&Answer, usize)> {
        let State::Answers(answers) = &mut self.state else { return None };
        let is_key = |operand: usize| self.keys.iter().any(|key| key.operand == operand);
        let mut operands = values.iter().zip(&answers.values).enumerate();
        if operands.any(|(operand, (value, known))| value != known && !is_key(operand)) {
            return None;
        }
        answers.uses += 1;
        answers.asked.clear();
        for (key, column) in self.keys.iter().zip(&answers.key_columns) {
            let value = values.get(key.operand)?.as_ref()?;
            if *value == PgValue::Null {
                return Some((&answers.nothing, 0));
            }
            let field = snapshots[key.table].schema().field(*column);
            match types::compare(*column, field.data_type(), CompareOp::Eq, value)? {
                Predicate::Compare { op: CompareOp::Eq, value: Scalar::Int(value), .. } => answers.asked.push(value),
                // No value of the column equals it.
                Predicate::Compare { .. } => return Some((&answers.nothing, 0)),
                _ => return None,
            }
        }
        Some(answers.find())
    }
}

impl Answers {
    /// Adds the answers of a batch, which begins with the keys' columns as the stores have them. False if there are too many, or
    /// they take more than so many bytes.
    pub(super) fn add(&mut self, batch: &RecordBatch, answers: Answer, bytes_max: usize) -> bool {
        let width = self.key_columns.len();
        let keys = (0..width).map(|place| integers(batch.column(place)));
        let Some(keys) = keys.collect::<Option<Vec<_>>>() else { return false };
        let first = self.keys.len() / width;
        self.keys.reserve(batch.num_rows() * width);
        for row in 0..batch.num_rows() {
            self.keys.extend(keys.iter().map(|column| column[row].unwrap_or_default()));
        }
        for row in 0..batch.num_rows() {
            // NULL equals nothing.
            if keys.iter().all(|column| column[row].is_some()) {
                let hash_of = |row: &usize| self.hasher.hash_one(key(&self.keys, width, *row));
                let row = first + row;
                self.rows.insert_unique(hash_of(&row), row, hash_of);
            }
        }
        let columns: usize = answers.iter().map(|column| column.get_array_memory_size()).sum();
        self.bytes += batch.num_rows() * (size_of::<usize>() + width * size_of::<i128>()) + columns;
        self.batches.push(answers);
        self.rows.len() <= ANSWERS_MAX && self.bytes <= bytes_max
    }

    /// The answer for what is asked for.
    fn find(&self) -> (&Answer, usize) {
        let width = self.key_columns.len();
        let is_it = |row: &usize| key(&self.keys, width, *row) == self.asked;
        match self.rows.find(self.hasher.hash_one(self.asked.as_slice()), is_it) {
            Some(row) => (&self.columns, *row),
            None => (&self.nothing, 0),
        }
    }
}

/// The values of a row among those of all rows, of each of which there are `width`.
fn key(keys: &[i128], width: usize, row: usize) -> &[i128] {
    &keys[row * width..][..width]
}

/// The values of a column as predicates compare them: integers, days, digits without their point.
fn integers(array: &ArrayRef) -> Option<Vec<Option<i128>>> {
    let widened = |array: &ArrayRef| -> Option<Vec<Option<i128>>> {
        let widened = cast(array, &ArrowType::Int64).ok()?;
        Some(widened.as_primitive::<Int64Type>().iter().map(|value| value.map(i128::from)).collect())
    };
    match array.data_type() {
        ArrowType::Decimal128(..) => Some(array.as_primitive::<Decimal128Type>().iter().collect()),
        ArrowType::UInt64 => {
            Some(array.as_primitive::<UInt64Type>().iter().map(|value| value.map(i128::from)).collect())
        }
        ArrowType::Date32 => {
            let days = cast(array, &ArrowType::Int32).ok()?;
            Some(days.as_primitive::<Int32Type>().iter().map(|value| value.map(i128::from)).collect())
        }
        other if other.is_integer() => widened(array),
        _ => None,
    }
}
