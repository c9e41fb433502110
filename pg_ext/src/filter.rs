//! From the conditions of a query to what a scan may leave out.
//!
//! A scan gets the conditions that Postgres would check on each of its rows. What can be said to the store is said, to
//! leave out segments, units and rows; and Postgres checks every row that comes.
//!
//! **The predicate is never stricter than the condition.** Where an expression has no exact counterpart, it is left out
//! of a conjunction, or replaced by something weaker, unless a NOT above would turn weaker into stricter.
//!
//! Conditions are read in two steps, because plans outlive their values: planning makes a [`Filter`], whose operands are
//! expressions of the plan (constants, parameters, `now()`); each start of a scan gives it their values.

use serde::{Deserialize, Serialize};
use soa_core::predicate::{CompareOp, Predicate};
use soa_core::schema::Schema;

use crate::error::{PgError, Result};
use crate::types::{self, PgValue};

/// What is nested in more levels of AND, OR and NOT than this is [`Condition::Unknown`]: a plan's text, and the stack of who
/// tests it, have an end.
pub(crate) const NESTING_MAX: usize = 24;

/// A condition as Postgres has it, as far as this extension understands it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Condition {
    And(Vec<Condition>),
    Or(Vec<Condition>),
    Not(Box<Condition>),
    /// `column op operand`, the operator one of Postgres' own for the types of both.
    Compare {
        attribute: i16,
        op: CompareOp,
        operand: Operand,
    },
    /// `column = ANY (operand)`.
    EqualsAny {
        attribute: i16,
        operand: Operand,
    },
    /// `column <> ALL (operand)`.
    DiffersFromAll {
        attribute: i16,
        operand: Operand,
    },
    /// `column LIKE operand`.
    Like {
        attribute: i16,
        operand: Operand,
    },
    IsNull(i16),
    /// `WHERE flag`; if it is not `exact`, then `flag IS TRUE` or `flag IS FALSE`, which are never NULL.
    IsBool {
        attribute: i16,
        value: bool,
        exact: bool,
    },
    /// Anything else.
    Unknown,
}

impl Condition {
    /// Whether a predicate can say this for all values that the operands may have.
    fn is_sayable<'a>(&self, constant: &dyn Fn(usize) -> Option<&'a PgValue>, need: Need) -> bool {
        // Beneath a NOT a NULL would have to make the predicate NULL, which none is for every row.
        let is_known = |operand: &Operand| match constant(operand.index) {
            None => need == Need::Same,
            Some(PgValue::Null) => need == Need::Same,
            Some(PgValue::Array(elements)) => elements.iter().all(|element| match element {
                PgValue::Null => need == Need::Same,
                PgValue::Other | PgValue::Array(_) => false,
                _ => true,
            }),
            Some(value) => *value != PgValue::Other,
        };
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().all(|part| part.is_sayable(constant, need)),
            Self::Not(part) => part.is_sayable(constant, Need::Exact),
            Self::Compare { operand, .. } | Self::EqualsAny { operand, .. } => is_known(operand),
            Self::DiffersFromAll { operand, .. } => {
                constant(operand.index).is_some()
                    && Self::EqualsAny { attribute: 0, operand: operand.clone() }.is_sayable(constant, Need::Exact)
            }
            // The store looks at what a text begins with.
            Self::Like { operand, .. } => match constant(operand.index) {
                Some(PgValue::Text(pattern)) => need == Need::Same && is_prefix(pattern),
                _ => false,
            },
            Self::IsNull(_) => true,
            Self::IsBool { exact, .. } => *exact || need == Need::Same,
            Self::Unknown => false,
        }
    }
}

/// An expression without columns: its place in the plan's list, and its text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Operand {
    pub(crate) index: usize,
    pub(crate) text: String,
}

/// A condition on columns of the store, with places for values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Filter {
    And(Vec<Filter>),
    Or(Vec<Filter>),
    Not(Box<Filter>),
    Compare { column: String, op: Op, value: usize },
    EqualsAny { column: String, values: usize },
    Like { column: String, pattern: usize },
    IsNull { column: String },
    IsBool { column: String, value: bool },
}

/// [`CompareOp`] as plans have it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Op {
    #[serde(rename = "=")]
    Eq,
    #[serde(rename = "<>")]
    NotEq,
    #[serde(rename = "<")]
    Lt,
    #[serde(rename = "<=")]
    LtEq,
    #[serde(rename = ">")]
    Gt,
    #[serde(rename = ">=")]
    GtEq,
}

impl Op {
    /// As SQL has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Eq => "=",
            Self::NotEq => "<>",
            Self::Lt => "<",
            Self::LtEq => "<=",
            Self::Gt => ">",
            Self::GtEq => ">=",
        }
    }
}

impl From<CompareOp> for Op {
    fn from(op: CompareOp) -> Self {
        match op {
            CompareOp::Eq => Self::Eq,
            CompareOp::NotEq => Self::NotEq,
            CompareOp::Lt => Self::Lt,
            CompareOp::LtEq => Self::LtEq,
            CompareOp::Gt => Self::Gt,
            CompareOp::GtEq => Self::GtEq,
        }
    }
}

impl From<Op> for CompareOp {
    fn from(op: Op) -> Self {
        match op {
            Op::Eq => Self::Eq,
            Op::NotEq => Self::NotEq,
            Op::Lt => Self::Lt,
            Op::LtEq => Self::LtEq,
            Op::Gt => Self::Gt,
            Op::GtEq => Self::GtEq,
        }
    }
}

/// How close a predicate must be to its condition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Need {
    /// True wherever the condition is true.
    Weaker,
    /// True exactly where the condition is true.
    Same,
    /// True, false and NULL exactly where the condition is.
    Exact,
}

impl Filter {
    /// What the conditions, all of which must be true, say about columns. `column` gives the store's name for an
    /// attribute.
    pub(crate) fn of(conditions: &[Condition], column: &dyn Fn(i16) -> Option<String>) -> Option<Self> {
        let parts: Vec<Self> =
            conditions.iter().filter_map(|condition| Self::read(condition, column, Need::Weaker)).collect();
        (!parts.is_empty()).then_some(Self::And(parts))
    }

    fn read(condition: &Condition, column: &dyn Fn(i16) -> Option<String>, need: Need) -> Option<Self> {
        match condition {
            Condition::And(parts) => {
                let read: Vec<Self> = parts.iter().filter_map(|part| Self::read(part, column, need)).collect();
                let is_complete = read.len() == parts.len();
                match need {
                    Need::Weaker => (!read.is_empty()).then_some(Self::And(read)),
                    Need::Same | Need::Exact => is_complete.then_some(Self::And(read)),
                }
            }
            Condition::Or(parts) => {
                let read: Option<Vec<Self>> = parts.iter().map(|part| Self::read(part, column, need)).collect();
                read.map(Self::Or)
            }
            Condition::Not(part) => Some(Self::Not(Box::new(Self::read(part, column, Need::Exact)?))),
            Condition::Compare { attribute, op, operand } => {
                Some(Self::Compare { column: column(*attribute)?, op: (*op).into(), value: operand.index })
            }
            Condition::EqualsAny { attribute, operand } => {
                Some(Self::EqualsAny { column: column(*attribute)?, values: operand.index })
            }
            Condition::DiffersFromAll { attribute, operand } => {
                let equals = Self::EqualsAny { column: column(*attribute)?, values: operand.index };
                Some(Self::Not(Box::new(equals)))
            }
            Condition::Like { attribute, operand } if need != Need::Exact => {
                Some(Self::Like { column: column(*attribute)?, pattern: operand.index })
            }
            Condition::IsNull(attribute) => Some(Self::IsNull { column: column(*attribute)? }),
            // As a condition to keep rows by, `flag` and `flag IS TRUE` are one; beneath a NOT they are not.
            Condition::IsBool { attribute, value, exact } if *exact || need != Need::Exact => {
                Some(Self::IsBool { column: column(*attribute)?, value: *value })
            }
            Condition::Like { .. } | Condition::IsBool { .. } | Condition::Unknown => None,
        }
    }

    /// Whether only rows with one value of the column pass.
    pub(crate) fn names_one(&self, wanted: &str) -> bool {
        match self {
            Self::And(parts) => parts.iter().any(|part| part.names_one(wanted)),
            Self::Compare { column, op: Op::Eq, .. } => column == wanted,
            _ => false,
        }
    }

    /// The columns of which all rows that pass have one value, each.
    pub(crate) fn equal_columns(&self) -> Vec<&str> {
        match self {
            Self::And(parts) => parts.iter().flat_map(Self::equal_columns).collect(),
            Self::Compare { column, op: Op::Eq, .. } => vec![column],
            _ => Vec::new(),
        }
    }

    /// The columns that are tested.
    pub(crate) fn columns(&self) -> Vec<&str> {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().flat_map(Self::columns).collect(),
            Self::Not(part) => part.columns(),
            Self::Compare { column, .. }
            | Self::EqualsAny { column, .. }
            | Self::Like { column, .. }
            | Self::IsNull { column }
            | Self::IsBool { column, .. } => vec![column],
        }
    }

    /// The operands that are used, in the order of their places.
    pub(crate) fn operands(&self) -> Vec<usize> {
        let mut found = Vec::new();
        self.for_each_operand(&mut |index| found.push(*index));
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Gives the operands the places that they have among `used`, which is sorted.
    pub(crate) fn renumber(&mut self, used: &[usize]) {
        self.for_each_operand_mut(&mut |index| {
            *index = used.binary_search(index).unwrap_or(*index);
        });
    }

    /// How deep its text is nested in a plan's.
    pub(crate) fn nesting(&self) -> usize {
        match self {
            Self::And(parts) | Self::Or(parts) => 2 + parts.iter().map(Self::nesting).max().unwrap_or(0),
            Self::Not(part) => 1 + part.nesting(),
            _ => 2,
        }
    }

    fn for_each_operand(&self, visit: &mut dyn FnMut(&usize)) {
        let mut copy = self.clone();
        copy.for_each_operand_mut(&mut |index| visit(index));
    }

    /// Visits the operands' places.
    pub(crate) fn for_each_operand_mut(&mut self, visit: &mut dyn FnMut(&mut usize)) {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter_mut().for_each(|part| part.for_each_operand_mut(visit)),
            Self::Not(part) => part.for_each_operand_mut(visit),
            Self::Compare { value: index, .. }
            | Self::EqualsAny { values: index, .. }
            | Self::Like { pattern: index, .. } => visit(index),
            Self::IsNull { .. } | Self::IsBool { .. } => {}
        }
    }

    /// The predicate for these values of the operands; `None` for a value that is not known yet. The predicate is no
    /// stricter than the condition. Without one, nothing can be left out.
    pub(crate) fn resolve(&self, schema: &Schema, values: &[Option<PgValue>]) -> Option<Predicate> {
        Resolver { schema, values }.resolve(self, Need::Weaker)
    }

    /// What the conditions, all of which must be true, say: true exactly where they are, for all values that the operands
    /// may have. `None` if that cannot be said; a filter without parts if there are no conditions.
    ///
    /// `constant` gives the values of the operands that are constants.
    pub(crate) fn exact<'a>(
        conditions: &[Condition],
        column: &dyn Fn(i16) -> Option<String>,
        constant: &dyn Fn(usize) -> Option<&'a PgValue>,
    ) -> Option<Self> {
        let is_sayable = |condition: &Condition| condition.is_sayable(constant, Need::Same);
        if !conditions.iter().all(is_sayable) {
            return None;
        }
        let parts = conditions.iter().map(|condition| Self::read(condition, column, Need::Same));
        Some(Self::And(parts.collect::<Option<_>>()?))
    }

    /// The filter, unless it leaves all rows.
    pub(crate) fn if_any(self) -> Option<Self> {
        let is_all = matches!(&self, Self::And(parts) if parts.is_empty());
        (!is_all).then_some(self)
    }

    /// The predicate of an [`exact`](Self::exact) filter: true where the conditions are, and nowhere else.
    ///
    /// # Errors
    ///
    /// When an operand has no value that a column can be compared with.
    pub(crate) fn resolve_exactly(&self, schema: &Schema, values: &[Option<PgValue>]) -> Result<Predicate> {
        let resolved = Resolver { schema, values }.resolve(self, Need::Same);
        resolved.ok_or_else(|| PgError::internal("a condition that was to be tested by the store cannot be"))
    }

    /// The text for `EXPLAIN`. `operands` are the texts of the operands.
    pub(crate) fn text(&self, operands: &[String]) -> String {
        let operand = |index: &usize| operands.get(*index).map_or("?", String::as_str).to_owned();
        let join = |parts: &[Self], word: &str| {
            let texts: Vec<String> = parts
                .iter()
                .map(|part| match part {
                    Self::And(inner) | Self::Or(inner) if inner.len() > 1 => format!("({})", part.text(operands)),
                    _ => part.text(operands),
                })
                .collect();
            texts.join(word)
        };
        match self {
            Self::And(parts) => join(parts, " AND "),
            Self::Or(parts) => join(parts, " OR "),
            Self::Not(part) => match &**part {
                Self::IsNull { column } => format!("{column} IS NOT NULL"),
                part => format!("NOT ({})", part.text(operands)),
            },
            Self::Compare { column, op, value } => format!("{column} {} {}", op.name(), operand(value)),
            Self::EqualsAny { column, values } => format!("{column} = ANY ({})", operand(values)),
            Self::Like { column, pattern } => format!("{column} LIKE {}", operand(pattern)),
            Self::IsNull { column } => format!("{column} IS NULL"),
            Self::IsBool { column, value: true } => column.clone(),
            Self::IsBool { column, value: false } => format!("NOT {column}"),
        }
    }
}

struct Resolver<'a> {
    schema: &'a Schema,
    values: &'a [Option<PgValue>],
}

impl Resolver<'_> {
    fn resolve(&self, filter: &Filter, need: Need) -> Option<Predicate> {
        match filter {
            Filter::And(parts) => {
                let read: Vec<Predicate> = parts.iter().filter_map(|part| self.resolve(part, need)).collect();
                let is_complete = read.len() == parts.len();
                match need {
                    Need::Weaker => (!read.is_empty()).then_some(Predicate::And(read)),
                    Need::Same | Need::Exact => is_complete.then_some(Predicate::And(read)),
                }
            }
            Filter::Or(parts) => {
                let read: Option<Vec<Predicate>> = parts.iter().map(|part| self.resolve(part, need)).collect();
                read.map(Predicate::Or)
            }
            Filter::Not(part) => Some(Predicate::Not(Box::new(self.resolve(part, Need::Exact)?))),
            Filter::Compare { column, op, value } => self.compare(column, (*op).into(), self.value(*value)?, need),
            Filter::EqualsAny { column, values } => self.equals_any(column, self.value(*values)?, need),
            Filter::Like { column, pattern } => match self.value(*pattern)? {
                PgValue::Null => Some(nothing()),
                PgValue::Text(pattern) => {
                    let prefix = like_prefix(pattern);
                    let column = self.schema.index_of(column)?;
                    (!prefix.is_empty()).then_some(Predicate::StartsWith { column, prefix })
                }
                _ => None,
            },
            Filter::IsNull { column } => Some(Predicate::IsNull(self.schema.index_of(column)?)),
            Filter::IsBool { column, value } => self.compare(column, CompareOp::Eq, &PgValue::Bool(*value), need),
        }
    }

    fn value(&self, index: usize) -> Option<&PgValue> {
        self.values.get(index)?.as_ref()
    }

    fn compare(&self, column: &str, op: CompareOp, value: &PgValue, need: Need) -> Option<Predicate> {
        // Never true; but beneath a NOT it must be NULL, for which there is no predicate.
        if *value == PgValue::Null {
            return (need != Need::Exact).then(nothing);
        }
        let column = self.schema.index_of(column)?;
        types::compare(column, self.schema.field(column).data_type(), op, value)
    }

    fn equals_any(&self, column: &str, values: &PgValue, need: Need) -> Option<Predicate> {
        let elements = match values {
            PgValue::Null => return (need != Need::Exact).then(nothing),
            PgValue::Array(elements) => elements,
            _ => return None,
        };
        let column = self.schema.index_of(column)?;
        let data_type = self.schema.field(column).data_type();
        let mut found = Vec::with_capacity(elements.len());
        let mut impossible = None;
        for element in elements {
            match element {
                // No row equals NULL; but with a NULL in the list no row surely differs from all either.
                PgValue::Null if need != Need::Exact => {}
                PgValue::Null => return None,
                element => match types::compare(column, data_type, CompareOp::Eq, element)? {
                    Predicate::Compare { op: CompareOp::Eq, value, .. } => found.push(value),
                    // No value equals it.
                    never @ Predicate::Compare { .. } => impossible = Some(never),
                    _ => return None,
                },
            }
        }
        // Without any value NULL would not equal an empty list, but it is not known whether it equals these.
        if let Some(never) = impossible.filter(|_| found.is_empty()) {
            return Some(never);
        }
        Some(Predicate::In { column, values: found })
    }
}

/// The predicate that no row satisfies.
fn nothing() -> Predicate {
    Predicate::Or(Vec::new())
}

/// Whether a LIKE pattern says what a text begins with, and nothing else.
fn is_prefix(pattern: &str) -> bool {
    let prefix = like_prefix(pattern);
    !prefix.is_empty() && !pattern.contains('\\') && pattern.len() == prefix.len() + 1 && pattern.ends_with('%')
}

/// What a text that matches a LIKE pattern begins with: all before the first `%` or `_`; `\` takes the next character as
/// it is.
fn like_prefix(pattern: &str) -> String {
    let mut prefix = String::new();
    let mut chars = pattern.chars();
    while let Some(next) = chars.next() {
        match next {
            '%' | '_' => break,
            '\\' => match chars.next() {
                Some(escaped) => prefix.push(escaped),
                // Postgres refuses such a pattern.
                None => return String::new(),
            },
            other => prefix.push(other),
        }
    }
    prefix
}
