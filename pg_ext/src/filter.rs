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

use crate::types::{self, PgValue};

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
                ((need == Need::Weaker || is_complete) && !read.is_empty()).then_some(Self::And(read))
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
            Condition::Like { attribute, operand } if need == Need::Weaker => {
                Some(Self::Like { column: column(*attribute)?, pattern: operand.index })
            }
            Condition::IsNull(attribute) => Some(Self::IsNull { column: column(*attribute)? }),
            // As a condition to keep rows by, `flag` and `flag IS TRUE` are one; beneath a NOT they are not.
            Condition::IsBool { attribute, value, exact } if *exact || need == Need::Weaker => {
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

    /// The operands that are used, in the order of their places.
    pub(crate) fn operands(&self) -> Vec<usize> {
        let mut found = Vec::new();
        self.for_each_operand(&mut |index| found.push(*index));
        found.sort_unstable();
        found.dedup();
        found
    }

    /// Gives the operands the places that they have among `used`.
    pub(crate) fn renumber(&mut self, used: &[usize]) {
        self.for_each_operand_mut(&mut |index| {
            *index = used.iter().position(|used| used == index).unwrap_or(*index);
        });
    }

    fn for_each_operand(&self, visit: &mut dyn FnMut(&usize)) {
        let mut copy = self.clone();
        copy.for_each_operand_mut(&mut |index| visit(index));
    }

    fn for_each_operand_mut(&mut self, visit: &mut dyn FnMut(&mut usize)) {
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
            Self::Compare { column, op, value } => {
                let op = match op {
                    Op::Eq => "=",
                    Op::NotEq => "<>",
                    Op::Lt => "<",
                    Op::LtEq => "<=",
                    Op::Gt => ">",
                    Op::GtEq => ">=",
                };
                format!("{column} {op} {}", operand(value))
            }
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
                ((need == Need::Weaker || is_complete) && !read.is_empty()).then_some(Predicate::And(read))
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
            return (need == Need::Weaker).then(nothing);
        }
        let column = self.schema.index_of(column)?;
        types::compare(column, self.schema.field(column).data_type(), op, value)
    }

    fn equals_any(&self, column: &str, values: &PgValue, need: Need) -> Option<Predicate> {
        let elements = match values {
            PgValue::Null => return (need == Need::Weaker).then(nothing),
            PgValue::Array(elements) => elements,
            _ => return None,
        };
        let column = self.schema.index_of(column)?;
        let data_type = self.schema.field(column).data_type();
        let mut found = Vec::with_capacity(elements.len());
        for element in elements {
            match element {
                // No row equals NULL; but with a NULL in the list no row surely differs from all either.
                PgValue::Null if need == Need::Weaker => {}
                PgValue::Null => return None,
                element => match types::compare(column, data_type, CompareOp::Eq, element)? {
                    Predicate::Compare { value, .. } => found.push(value),
                    _ => return None,
                },
            }
        }
        Some(Predicate::In { column, values: found })
    }
}

/// The predicate that no row satisfies.
fn nothing() -> Predicate {
    Predicate::Or(Vec::new())
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
