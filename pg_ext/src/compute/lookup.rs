//! Answers for many values of parameters at once.
//!
//! A subquery such as `SELECT avg(a) FROM t WHERE t.k = outer.k` is computed anew for each row of the outer query. After a few
//! of them, the same is computed once for all values of `k`, grouped by it, and the answers are looked up from then on.

use std::collections::HashMap;

use arrow::array::{Array, ArrayRef, AsArray, RecordBatch};
use arrow::compute::{cast, concat};
use arrow::datatypes::{DataType as ArrowType, Int32Type, Int64Type};
use arrow::datatypes::{Decimal128Type, UInt64Type};
use soa_core::predicate::{CompareOp, Predicate, Scalar};
use soa_core::schema::Schema;

use crate::error::{PgError, Result};
use crate::filter::{Filter, Op};
use crate::query::{Expression, Query, SortBy, Typed, ValueType, Wanted};
use crate::types::{self, PgValue};

/// So many answers are computed one by one before all are.
const SINGLE_ANSWERS: usize = 3;
/// More answers than these are not kept.
const ANSWERS_MAX: usize = 2_000_000;

/// What a query asks for that has parameters which columns must be equal to.
#[derive(Debug)]
pub(super) struct Lookup {
    /// The query for all values of them: their columns are the first groups.
    pub(super) grouped: Query,
    /// The columns, by their names, and the operands that they must be equal to.
    keys: Vec<(String, usize)>,
    /// How many answers were computed one by one.
    single: usize,
    state: State,
}

#[derive(Debug)]
enum State {
    /// There are no answers yet.
    None,
    Answers(Answers),
    /// There are too many of them, or not for all values.
    GivenUp,
}

#[derive(Debug)]
struct Answers {
    /// What the other operands were.
    others: Vec<Option<PgValue>>,
    /// The row of the answer for each combination of values.
    rows: HashMap<Vec<i128>, usize>,
    columns: Vec<ArrayRef>,
    /// The answer where there are no rows.
    nothing: Vec<ArrayRef>,
}

/// An answer: a row of columns.
pub(super) type Answer = Vec<ArrayRef>;

impl Lookup {
    /// For a query, if it is one of this kind. `is_parameter` says whether an operand may change.
    pub(super) fn of(query: &Query, is_parameter: impl Fn(usize) -> bool) -> Option<Self> {
        let Wanted::Groups { groups, aggregates } = &query.wanted else { return None };
        let Some(Filter::And(parts)) = &query.rows.filter else { return None };
        if !groups.is_empty() || query.limit.is_some() || query.order.iter().any(|key| matches!(key.by, SortBy::Row(_)))
        {
            return None;
        }
        let key = |part: &Filter| match part {
            Filter::Compare { column, op: Op::Eq, value } if is_parameter(*value) => {
                let place = query.rows.columns.iter().position(|known| known.name == *column)?;
                let value_type = query.rows.columns[place].value_type;
                let is_looked_up =
                    value_type.is_integer() || matches!(value_type, ValueType::Numeric { .. } | ValueType::Date);
                is_looked_up
                    .then(|| (Typed { expression: Expression::Column(place), value_type }, column.clone(), *value))
            }
            _ => None,
        };
        let (keyed, rest): (Vec<&Filter>, Vec<&Filter>) = parts.iter().partition(|part| key(part).is_some());
        let found: Vec<(Typed, String, usize)> = keyed.into_iter().filter_map(key).collect();
        let has_one_each =
            found.iter().enumerate().all(|(at, (_, name, _))| found[..at].iter().all(|(_, other, _)| other != name));
        if found.is_empty() || !has_one_each {
            return None;
        }
        let mut grouped = query.clone();
        grouped.rows.filter = (!rest.is_empty()).then(|| Filter::And(rest.into_iter().cloned().collect()));
        grouped.wanted = Wanted::Groups {
            groups: found.iter().map(|(typed, ..)| typed.clone()).collect(),
            aggregates: aggregates.clone(),
        };
        grouped.order = Vec::new();
        let keys = found.into_iter().map(|(_, name, operand)| (name, operand)).collect();
        Some(Self { grouped, keys, single: 0, state: State::None })
    }

    /// Whether it is time to compute all answers; asked when there is none.
    pub(super) fn is_due(&mut self) -> bool {
        if matches!(self.state, State::GivenUp) {
            return false;
        }
        // If there are answers, they are for other values of the other operands.
        self.single = if matches!(self.state, State::None) { self.single + 1 } else { 1 };
        self.state = State::None;
        self.single > SINGLE_ANSWERS
    }

    /// Sees that all answers will not be there.
    pub(super) fn give_up(&mut self) {
        self.state = State::GivenUp;
    }

    /// Keeps the answers: of each batch the columns of the keys as the store has them, and those of the answers. `nothing` is
    /// the answer where there are no rows.
    pub(super) fn keep(
        &mut self,
        batches: Vec<(RecordBatch, Answer)>,
        nothing: Answer,
        values: &[Option<PgValue>],
    ) -> Result<()> {
        let count: usize = batches.iter().map(|(batch, _)| batch.num_rows()).sum();
        if count > ANSWERS_MAX {
            self.give_up();
            return Ok(());
        }
        let mut rows = HashMap::with_capacity(count);
        let mut first = 0;
        for (batch, _) in &batches {
            let keys = (0..self.keys.len()).map(|place| integers(batch.column(place)));
            let Some(keys) = keys.collect::<Option<Vec<_>>>() else {
                self.give_up();
                return Ok(());
            };
            for row in 0..batch.num_rows() {
                // NULL equals nothing.
                if let Some(key) = keys.iter().map(|column| column[row]).collect::<Option<Vec<i128>>>() {
                    rows.insert(key, first + row);
                }
            }
            first += batch.num_rows();
        }
        let width = nothing.len();
        let column = |place: usize| {
            let parts: Vec<&dyn Array> = batches.iter().map(|(_, answer)| answer[place].as_ref()).collect();
            let joined = if parts.is_empty() { Ok(nothing[place].slice(0, 0)) } else { concat(&parts) };
            joined.map_err(|error| PgError::internal(format!("answers cannot be put together: {error}")))
        };
        let columns = (0..width).map(column).collect::<Result<_>>()?;
        self.state = State::Answers(Answers { others: self.others(values), rows, columns, nothing });
        Ok(())
    }

    /// The answer for these values, if all answers are there.
    pub(super) fn answer(&self, schema: &Schema, values: &[Option<PgValue>]) -> Option<Answer> {
        let State::Answers(answers) = &self.state else { return None };
        if answers.others != self.others(values) {
            return None;
        }
        let mut key = Vec::with_capacity(self.keys.len());
        for (name, operand) in &self.keys {
            let value = values.get(*operand)?.as_ref()?;
            if *value == PgValue::Null {
                return Some(answers.nothing.clone());
            }
            let column = schema.index_of(name)?;
            match types::compare(column, schema.field(column).data_type(), CompareOp::Eq, value)? {
                Predicate::Compare { op: CompareOp::Eq, value: Scalar::Int(value), .. } => key.push(value),
                // No value of the column equals it.
                Predicate::Compare { .. } => return Some(answers.nothing.clone()),
                _ => return None,
            }
        }
        Some(match answers.rows.get(&key) {
            Some(row) => answers.columns.iter().map(|column| column.slice(*row, 1)).collect(),
            None => answers.nothing.clone(),
        })
    }

    /// The operands that are no keys.
    fn others(&self, values: &[Option<PgValue>]) -> Vec<Option<PgValue>> {
        let is_key = |operand: usize| self.keys.iter().any(|(_, key)| *key == operand);
        values.iter().enumerate().map(|(operand, value)| value.clone().filter(|_| !is_key(operand))).collect()
    }
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
