//! What a scan may leave out.
//!
//! One [`Predicate`] and one three-valued logic serve every level: [`Predicate::prune`] asks the bounds
//! of a partition, a file or a batch whether any row *can* match; [`Predicate::select`] asks the rows.
//! NULL follows SQL: a comparison with NULL is neither true nor false, and only rows for which the
//! predicate is true are kept.
//!
//! **Pruning may keep too much, never too little.** Whatever bounds do not settle is `Maybe`.

mod bounds;
mod select;
mod text;

use std::cmp::Ordering;
use std::fmt;

use crate::error::Result;
use crate::schema::{DataType, Schema};

pub(crate) use self::bounds::prefix_end;
pub use self::bounds::{Bounds, Truth};

/// A constant in a [`Predicate`]. The column's type decides what it means.
#[derive(Debug, Clone, PartialEq)]
pub enum Scalar {
    /// A `Bool` column's value.
    Bool(bool),
    /// An integer; the days of a `Date`; the microseconds of a `Timestamp`, `Time` or `Duration`; the unscaled digits
    /// of a `Decimal` at the column's own scale.
    Int(i128),
    /// A float.
    Float(f64),
    /// Text; the name of an enum's variant.
    Utf8(String),
    /// Bytes; the 16 of a `Uuid`.
    Binary(Vec<u8>),
}

impl Scalar {
    /// Whether a column of this type can be compared with this constant.
    pub fn fits(&self, data_type: &DataType) -> bool {
        match data_type {
            DataType::Bool => matches!(self, Self::Bool(_)),
            DataType::Int8
            | DataType::Int16
            | DataType::Int32
            | DataType::Int64
            | DataType::UInt8
            | DataType::UInt16
            | DataType::UInt32
            | DataType::UInt64
            | DataType::Decimal { .. }
            | DataType::Date
            | DataType::Timestamp { .. }
            | DataType::Time
            | DataType::Duration => matches!(self, Self::Int(_)),
            DataType::Float32 | DataType::Float64 => matches!(self, Self::Float(_)),
            DataType::Utf8 | DataType::Enum(_) => matches!(self, Self::Utf8(_)),
            DataType::Binary | DataType::Uuid => matches!(self, Self::Binary(_)),
            DataType::List(_) | DataType::FixedList(..) | DataType::Struct(_) | DataType::Map { .. } => false,
        }
    }

    /// The order of two constants of one kind, or `None` for two kinds.
    ///
    /// Floats compare as SQL engines order them: -0.0 equals 0.0, NaN equals NaN and is above all.
    /// Text compares by its UTF-8 bytes.
    pub fn compare(&self, other: &Self) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Self::Bool(b)) => Some(a.cmp(b)),
            (Self::Int(a), Self::Int(b)) => Some(a.cmp(b)),
            (Self::Float(a), Self::Float(b)) => Some(compare_floats(*a, *b)),
            (Self::Utf8(a), Self::Utf8(b)) => Some(a.as_bytes().cmp(b.as_bytes())),
            (Self::Binary(a), Self::Binary(b)) => Some(a.cmp(b)),
            (Self::Bool(_) | Self::Int(_) | Self::Float(_) | Self::Utf8(_) | Self::Binary(_), _) => None,
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bool(value) => write!(f, "{value}"),
            Self::Int(value) => write!(f, "{value}"),
            Self::Float(value) => write!(f, "{value:?}"),
            Self::Utf8(value) => write!(f, "'{}'", value.replace('\'', "''")),
            Self::Binary(value) => {
                f.write_str("x'")?;
                value.iter().try_for_each(|byte| write!(f, "{byte:02x}"))?;
                f.write_str("'")
            }
        }
    }
}

fn compare_floats(a: f64, b: f64) -> Ordering {
    a.partial_cmp(&b).unwrap_or_else(|| a.is_nan().cmp(&b.is_nan()))
}

/// How a [`Predicate::Compare`] compares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum CompareOp {
    /// `=`
    Eq,
    /// `<>`
    NotEq,
    /// `<`
    Lt,
    /// `<=`
    LtEq,
    /// `>`
    Gt,
    /// `>=`
    GtEq,
}

impl CompareOp {
    /// The operator with its sides exchanged: `a < b` is `b > a`.
    #[must_use]
    pub fn flipped(self) -> Self {
        match self {
            Self::Eq => Self::Eq,
            Self::NotEq => Self::NotEq,
            Self::Lt => Self::Gt,
            Self::LtEq => Self::GtEq,
            Self::Gt => Self::Lt,
            Self::GtEq => Self::LtEq,
        }
    }

    /// Whether two values in this order satisfy the operator.
    pub fn holds(self, order: Ordering) -> bool {
        match self {
            Self::Eq => order.is_eq(),
            Self::NotEq => order.is_ne(),
            Self::Lt => order.is_lt(),
            Self::LtEq => order.is_le(),
            Self::Gt => order.is_gt(),
            Self::GtEq => order.is_ge(),
        }
    }
}

/// A condition on a row. Columns are positions in the table's [`Schema`].
#[derive(Debug, Clone, PartialEq)]
pub enum Predicate {
    /// Every one is true; with none, true.
    And(Vec<Predicate>),
    /// One of them is true; with none, false.
    Or(Vec<Predicate>),
    /// It is false.
    Not(Box<Predicate>),
    /// The column compares so with the constant.
    Compare {
        /// The column.
        column: usize,
        /// The operator, the column on its left.
        op: CompareOp,
        /// The constant.
        value: Scalar,
    },
    /// The column equals one of the constants; with none, false.
    In {
        /// The column.
        column: usize,
        /// The constants, none of them NULL.
        values: Vec<Scalar>,
    },
    /// The column is NULL.
    IsNull(usize),
    /// The column's text begins so: `LIKE 'prefix%'`.
    StartsWith {
        /// The column.
        column: usize,
        /// The beginning.
        prefix: String,
    },
}

impl Predicate {
    /// `column op value`.
    pub fn compare(column: usize, op: CompareOp, value: Scalar) -> Self {
        Self::Compare { column, op, value }
    }

    /// `column = value`.
    pub fn eq(column: usize, value: Scalar) -> Self {
        Self::compare(column, CompareOp::Eq, value)
    }

    /// `low <= column AND column <= high`.
    pub fn between(column: usize, low: Scalar, high: Scalar) -> Self {
        Self::And(vec![Self::compare(column, CompareOp::GtEq, low), Self::compare(column, CompareOp::LtEq, high)])
    }

    /// `column IS NOT NULL`.
    pub fn is_not_null(column: usize) -> Self {
        Self::Not(Box::new(Self::IsNull(column)))
    }

    /// This and `other`.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        match self {
            Self::And(mut all) => {
                all.push(other);
                Self::And(all)
            }
            one => Self::And(vec![one, other]),
        }
    }

    /// The only values of a column for which the predicate can be true; `None` if it does not say so by itself.
    pub(crate) fn values_of(&self, wanted: usize) -> Option<Vec<&Scalar>> {
        match self {
            Self::And(parts) => parts.iter().find_map(|part| part.values_of(wanted)),
            Self::Compare { column, op: CompareOp::Eq, value } if *column == wanted => Some(vec![value]),
            Self::In { column, values } if *column == wanted => Some(values.iter().collect()),
            _ => None,
        }
    }

    /// The same condition on a table that has each column at the position that `place` gives for it.
    #[must_use]
    pub fn with_columns(&self, place: &impl Fn(usize) -> usize) -> Self {
        let all = |parts: &[Self]| parts.iter().map(|part| part.with_columns(place)).collect();
        match self {
            Self::And(parts) => Self::And(all(parts)),
            Self::Or(parts) => Self::Or(all(parts)),
            Self::Not(part) => Self::Not(Box::new(part.with_columns(place))),
            Self::Compare { column, op, value } => {
                Self::Compare { column: place(*column), op: *op, value: value.clone() }
            }
            Self::In { column, values } => Self::In { column: place(*column), values: values.clone() },
            Self::IsNull(column) => Self::IsNull(place(*column)),
            Self::StartsWith { column, prefix } => Self::StartsWith { column: place(*column), prefix: prefix.clone() },
        }
    }

    /// Every column that the predicate reads, ascending, each once.
    pub fn columns(&self) -> Vec<usize> {
        let mut columns = Vec::new();
        self.collect_columns(&mut columns);
        columns.sort_unstable();
        columns.dedup();
        columns
    }

    fn collect_columns(&self, columns: &mut Vec<usize>) {
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().for_each(|part| part.collect_columns(columns)),
            Self::Not(part) => part.collect_columns(columns),
            Self::Compare { column, .. }
            | Self::In { column, .. }
            | Self::IsNull(column)
            | Self::StartsWith { column, .. } => {
                columns.push(*column);
            }
        }
    }

    /// Refuses columns that the table does not have and constants of another kind than their column.
    ///
    /// # Errors
    ///
    /// Naming the column.
    pub fn check(&self, schema: &Schema) -> Result<()> {
        let known = |column: usize| {
            schema.fields().get(column).ok_or_else(|| {
                crate::error::Error::argument(format!(
                    "a predicate names column {column}; the table has {}",
                    schema.len()
                ))
            })
        };
        let fits = |column: usize, value: &Scalar| {
            let field = known(column)?;
            if value.fits(field.data_type()) {
                return Ok(());
            }
            Err(crate::error::Error::argument(format!(
                "column \"{}\" of type {} cannot be compared with {value}",
                field.name(),
                field.data_type()
            )))
        };
        match self {
            Self::And(parts) | Self::Or(parts) => parts.iter().try_for_each(|part| part.check(schema)),
            Self::Not(part) => part.check(schema),
            Self::Compare { column, value, .. } => fits(*column, value),
            Self::In { column, values } => {
                known(*column)?;
                values.iter().try_for_each(|value| fits(*column, value))
            }
            Self::IsNull(column) => known(*column).map(|_| ()),
            Self::StartsWith { column, prefix } => fits(*column, &Scalar::Utf8(prefix.clone())),
        }
    }
}
