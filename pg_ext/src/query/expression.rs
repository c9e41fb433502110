//! Expressions of a query's rows.

use serde::{Deserialize, Serialize};

use super::{DIGITS_128, DIGITS_256};
use crate::filter::{Filter, Op};

/// The types of what is computed with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum ValueType {
    Bool,
    Int2,
    Int4,
    Int8,
    Float4,
    Float8,
    /// Numbers with so many digits after the point; never NaN or an infinity.
    Numeric {
        /// The most digits in all, or more.
        precision: u8,
        scale: u8,
    },
    /// Text that is compared by its bytes.
    Text,
    Bytea,
    Date,
    Timestamp,
    TimestampTz,
    Time,
    Uuid,
}

impl ValueType {
    pub(crate) fn is_integer(self) -> bool {
        matches!(self, Self::Int2 | Self::Int4 | Self::Int8)
    }

    pub(crate) fn is_float(self) -> bool {
        matches!(self, Self::Float4 | Self::Float8)
    }

    /// Whether there are more digits than 128 bits hold.
    pub(crate) fn is_wide(self) -> bool {
        matches!(self, Self::Numeric { precision, .. } if precision > DIGITS_128)
    }

    /// Whether values of both can be brought to one type in which they are compared as Postgres compares them.
    pub(crate) fn is_comparable_with(self, other: Self) -> bool {
        let is_numeric = |value_type| matches!(value_type, Self::Numeric { .. });
        self == other
            || (self.is_integer() && other.is_integer())
            || (self.is_float() && other.is_float())
            || (is_numeric(self) && is_numeric(other) && self.widest(other).can_be_computed())
    }

    /// Whether numbers of the type, if it is a numeric, have no more digits than are computed with.
    pub(crate) fn can_be_computed(self) -> bool {
        !matches!(self, Self::Numeric { precision, .. } if precision > DIGITS_256)
    }

    /// The numeric that holds the values of two; the first, if they are no numerics.
    pub(crate) fn widest(self, other: Self) -> Self {
        match (self, other) {
            (Self::Numeric { precision: p, scale: s }, Self::Numeric { precision: q, scale: t }) => {
                let scale = s.max(t);
                let whole = p.saturating_sub(s).max(q.saturating_sub(t));
                Self::Numeric { precision: whole.saturating_add(scale), scale }
            }
            (first, _) => first,
        }
    }

    /// The type of a sum of such values. There are fewer than 2^63 of them.
    pub(crate) fn of_sum(self) -> Self {
        const DIGITS_OF_COUNT: u8 = 19;
        match self {
            Self::Int2 | Self::Int4 => Self::Int8,
            Self::Int8 => Self::Numeric { precision: 2 * DIGITS_OF_COUNT, scale: 0 },
            Self::Numeric { precision, scale } => {
                Self::Numeric { precision: precision.saturating_add(DIGITS_OF_COUNT).min(DIGITS_256), scale }
            }
            other => other,
        }
    }

    /// The numeric that holds the values of an integer or a numeric.
    pub(crate) fn as_numeric(self) -> Option<Self> {
        Some(match self {
            Self::Int2 => Self::Numeric { precision: 5, scale: 0 },
            Self::Int4 => Self::Numeric { precision: 10, scale: 0 },
            Self::Int8 => Self::Numeric { precision: 19, scale: 0 },
            Self::Numeric { .. } => self,
            _ => return None,
        })
    }

    /// Whether equal values are the same bytes, so that they are one group.
    pub(crate) fn is_grouped_by_bytes(self) -> bool {
        !self.is_float()
    }
}

/// An expression and its type.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Typed {
    pub(crate) expression: Expression,
    #[serde(rename = "type")]
    pub(crate) value_type: ValueType,
}

/// An expression of a row. Conditions are expressions too, of the type `bool`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Expression {
    /// The column in this place of [`Input::columns`](super::Input::columns).
    Column(usize),
    /// How many characters the text in such a column has.
    Length(usize),
    /// The group or the aggregate in this place, groups first; only where groups are tested.
    Output(usize),
    /// An integer or a numeric: its digits, so many of them after the point.
    Number {
        digits: i64,
        scale: u8,
    },
    /// A double precision, by its bits.
    Float {
        bits: u64,
    },
    /// A number as one of another type that has its value, or the nearest to it.
    Cast(Box<Typed>),
    /// Two numbers of types that the result's type can hold.
    Arithmetic {
        op: Operation,
        left: Box<Typed>,
        right: Box<Typed>,
    },
    /// Two values of one kind; NULL if one of them is.
    Compare {
        op: Op,
        left: Box<Typed>,
        right: Box<Typed>,
    },
    And(Vec<Typed>),
    Or(Vec<Typed>),
    Not(Box<Typed>),
    IsNull(Box<Typed>),
    /// Whether a text is like a pattern, in which nothing is escaped.
    Like {
        text: Box<Typed>,
        pattern: String,
    },
    /// The value beside the first condition that is true; without one the last value, or NULL.
    Case {
        branches: Vec<(Typed, Typed)>,
        otherwise: Option<Box<Typed>>,
    },
    /// A part of a date or a timestamp.
    Extract {
        part: DatePart,
        from: Box<Typed>,
    },
    /// Whether a row of the table in this place passes a filter; false where the condition behind it is NULL.
    Matches {
        table: usize,
        filter: Filter,
    },
}

/// The parts of a date.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum DatePart {
    Year,
    Quarter,
    Month,
    Day,
}

impl DatePart {
    /// As SQL has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Year => "year",
            Self::Quarter => "quarter",
            Self::Month => "month",
            Self::Day => "day",
        }
    }

    /// The part that SQL calls this.
    pub(crate) fn named(name: &str) -> Option<Self> {
        [Self::Year, Self::Quarter, Self::Month, Self::Day].into_iter().find(|part| part.name() == name)
    }
}

/// What is done with two numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) enum Operation {
    #[serde(rename = "+")]
    Add,
    #[serde(rename = "-")]
    Subtract,
    #[serde(rename = "*")]
    Multiply,
}

impl Operation {
    /// As SQL has it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
        }
    }
}

impl Typed {
    /// A condition.
    pub(crate) fn condition(expression: Expression) -> Self {
        Self { expression, value_type: ValueType::Bool }
    }

    /// The square of an integer or a numeric, if it can be computed.
    pub(crate) fn square(&self) -> Option<Self> {
        let value_type = self.value_type.as_numeric()?;
        let Self { expression, .. } = self.clone();
        let value = match value_type == self.value_type {
            true => Self { expression, value_type },
            false => Self { expression: Expression::Cast(Box::new(self.clone())), value_type },
        };
        let ValueType::Numeric { precision, scale } = value_type else { return None };
        let squared = ValueType::Numeric { precision: precision.saturating_mul(2), scale: scale.saturating_mul(2) };
        let (left, right) = (Box::new(value.clone()), Box::new(value));
        let expression = Expression::Arithmetic { op: Operation::Multiply, left, right };
        squared.can_be_computed().then_some(Self { expression, value_type: squared })
    }

    /// Conditions that all must be true; `None` if there are none.
    pub(crate) fn all(mut conditions: Vec<Self>) -> Option<Self> {
        match conditions.len() {
            0 | 1 => conditions.pop(),
            _ => Some(Self::condition(Expression::And(conditions))),
        }
    }

    /// Whether it can be an error for values that its columns have.
    pub(crate) fn can_fail(&self) -> bool {
        match &self.expression {
            Expression::Arithmetic { .. } if !matches!(self.value_type, ValueType::Numeric { .. }) => true,
            expression => expression.parts().into_iter().any(Self::can_fail),
        }
    }

    /// How deep its text is nested in a plan's.
    pub(crate) fn nesting(&self) -> usize {
        let own = match &self.expression {
            Expression::Case { .. } => 5,
            Expression::Matches { filter, .. } => 3 + filter.nesting(),
            _ => 3,
        };
        own + self.expression.parts().into_iter().map(Self::nesting).max().unwrap_or(0)
    }

    /// Whether it is NULL only where the condition that it stands for is.
    pub(crate) fn has_exact_nulls(&self) -> bool {
        match &self.expression {
            Expression::Matches { .. } => false,
            expression => expression.parts().into_iter().all(Self::has_exact_nulls),
        }
    }

    /// Whether all its values that are numerics have so many digits after the point as its type says. Where values of a CASE
    /// have more than others, a sum has as many as the value that has most.
    pub(crate) fn has_one_scale(&self) -> bool {
        let is_one = match &self.expression {
            Expression::Case { .. } => self.expression.case_values().all(|value| value.scale() == self.scale()),
            _ => true,
        };
        is_one && self.expression.parts().into_iter().all(Self::has_one_scale)
    }

    /// The digits after the point.
    pub(crate) fn scale(&self) -> u8 {
        if let ValueType::Numeric { scale, .. } = self.value_type { scale } else { 0 }
    }

    /// Gives columns, tables and operands their places in a query which they are moved to.
    pub(crate) fn shift(&mut self, by: Shift) {
        self.expression.for_each_mut(&mut |expression| match expression {
            Expression::Column(place) | Expression::Length(place) => *place += by.columns,
            Expression::Matches { table, filter } => {
                *table += by.tables;
                filter.for_each_operand_mut(&mut |operand| *operand += by.operands);
            }
            _ => {}
        });
    }
}

/// What is counted before something when it is moved to another query.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shift {
    pub(crate) tables: usize,
    pub(crate) columns: usize,
    pub(crate) operands: usize,
}

impl Expression {
    /// The place of its column, if it is one or takes its name from one.
    pub(crate) fn column(&self) -> Option<usize> {
        match self {
            Self::Column(place) | Self::Length(place) => Some(*place),
            Self::Cast(inner) => inner.expression.column(),
            _ => None,
        }
    }

    /// Whether it is the same for all rows.
    pub(crate) fn is_constant(&self) -> bool {
        match self {
            Self::Column(_) | Self::Length(_) | Self::Output(_) | Self::Matches { .. } => false,
            other => other.parts().iter().all(|part| part.expression.is_constant()),
        }
    }

    /// The values of a CASE.
    pub(crate) fn case_values(&self) -> impl Iterator<Item = &Typed> {
        let (branches, otherwise) = match self {
            Self::Case { branches, otherwise } => (branches.as_slice(), otherwise.as_deref()),
            _ => (&[][..], None),
        };
        branches.iter().map(|(_, value)| value).chain(otherwise)
    }

    /// The expressions that it is made of.
    fn parts(&self) -> Vec<&Typed> {
        match self {
            Self::Column(_)
            | Self::Length(_)
            | Self::Output(_)
            | Self::Number { .. }
            | Self::Float { .. }
            | Self::Matches { .. } => Vec::new(),
            Self::Cast(part)
            | Self::Not(part)
            | Self::IsNull(part)
            | Self::Like { text: part, .. }
            | Self::Extract { from: part, .. } => vec![part],
            Self::Arithmetic { left, right, .. } | Self::Compare { left, right, .. } => vec![left, right],
            Self::And(parts) | Self::Or(parts) => parts.iter().collect(),
            Self::Case { branches, otherwise } => {
                let branches = branches.iter().flat_map(|(condition, value)| [condition, value]);
                branches.chain(otherwise.iter().map(|value| &**value)).collect()
            }
        }
    }

    /// As [`parts`](Self::parts).
    fn parts_mut(&mut self) -> Vec<&mut Typed> {
        match self {
            Self::Column(_)
            | Self::Length(_)
            | Self::Output(_)
            | Self::Number { .. }
            | Self::Float { .. }
            | Self::Matches { .. } => Vec::new(),
            Self::Cast(part)
            | Self::Not(part)
            | Self::IsNull(part)
            | Self::Like { text: part, .. }
            | Self::Extract { from: part, .. } => vec![part],
            Self::Arithmetic { left, right, .. } | Self::Compare { left, right, .. } => vec![left, right],
            Self::And(parts) | Self::Or(parts) => parts.iter_mut().collect(),
            Self::Case { branches, otherwise } => {
                let branches = branches.iter_mut().flat_map(|(condition, value)| [condition, value]);
                branches.chain(otherwise.iter_mut().map(|value| &mut **value)).collect()
            }
        }
    }

    /// Visits it and all that it is made of.
    pub(super) fn for_each_mut(&mut self, visit: &mut dyn FnMut(&mut Self)) {
        visit(self);
        self.parts_mut().into_iter().for_each(|part| part.expression.for_each_mut(visit));
    }
}
