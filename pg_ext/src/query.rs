//! What is computed over a store before Postgres sees rows: the language in which planning says it to execution.
//!
//! A [`Query`] travels in the plan as text, which Postgres copies and caches, so it names things that stay what they are: the
//! foreign table by its OID, the store's columns by their names, and what is only known when the plan runs (parameters, and
//! constants too) by its place among the plan's expressions.
//!
//! **What is in here has Postgres' meaning.** Planning puts nothing into a query whose answer could differ from what Postgres
//! would compute from the same rows, the last bits of sums of floats excepted; [`crate::compute`] keeps it that way.

use serde::{Deserialize, Serialize};

use crate::filter::Filter;

/// The digits of 128 and of 256 bits.
pub(crate) const DIGITS_128: u8 = 38;
pub(crate) const DIGITS_256: u8 = 76;

/// What is wanted of a table's rows, and in which order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Query {
    pub(crate) rows: TableRows,
    pub(crate) wanted: Wanted,
    /// The order of what is given, by the first key, then by the second; any order, if there is none.
    pub(crate) order: Vec<SortKey>,
    /// How much of it is given; all, if `None`.
    pub(crate) limit: Option<Limit>,
    /// The texts of the plan's expressions, for `EXPLAIN`.
    pub(crate) operands: Vec<String>,
}

/// What a query gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Wanted {
    /// The rows themselves.
    Rows {
        /// The numbers of the columns that are given.
        columns: Vec<i16>,
    },
    /// Groups of rows.
    Groups {
        /// What rows are grouped by. Without any, all rows are one group, even where there are none.
        groups: Vec<Typed>,
        /// What is computed of each group.
        aggregates: Vec<Aggregate>,
    },
}

/// What decides on an order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct SortKey {
    pub(crate) by: SortBy,
    pub(crate) descending: bool,
    pub(crate) nulls_first: bool,
}

/// The values of a [`SortKey`].
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum SortBy {
    /// An expression of each row; of rows alone.
    Row(Typed),
    /// The group or the aggregate in this place, groups first; of groups alone.
    Output(usize),
}

/// How much of an answer is given. The numbers are operands, which may be NULL: then they say nothing.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Limit {
    /// So many rows.
    pub(crate) count: usize,
    /// After so many others.
    pub(crate) skip: Option<usize>,
}

/// Rows of a foreign table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableRows {
    /// The table's OID.
    pub(crate) table: u32,
    /// The columns that are computed with. Expressions name them by their places here.
    pub(crate) columns: Vec<TableColumn>,
    /// Which rows: those for which this is true. Nothing else tests them.
    pub(crate) filter: Option<Filter>,
}

/// A column of a foreign table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableColumn {
    /// Its number in the foreign table, from 1.
    pub(crate) number: i16,
    /// Its name in the store.
    pub(crate) name: String,
    /// And in the foreign table.
    pub(crate) shown: String,
    #[serde(rename = "type")]
    pub(crate) value_type: ValueType,
}

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

/// An expression of a row.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Expression {
    /// The column in this place of [`TableRows::columns`].
    Column(usize),
    /// How many characters the text in such a column has.
    Length(usize),
    /// An integer or a numeric: its digits, so many of them after the point.
    Number { digits: i64, scale: u8 },
    /// A double precision, by its bits.
    Float { bits: u64 },
    /// A number as one of another type that has its value, or the nearest to it.
    Cast(Box<Typed>),
    /// Two numbers of types that the result's type can hold.
    Arithmetic { op: Operation, left: Box<Typed>, right: Box<Typed> },
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

impl Expression {
    /// The place of its column, if it is one or takes its name from one.
    pub(crate) fn column(&self) -> Option<usize> {
        match self {
            Self::Column(place) | Self::Length(place) => Some(*place),
            Self::Cast(inner) => inner.expression.column(),
            Self::Number { .. } | Self::Float { .. } | Self::Arithmetic { .. } => None,
        }
    }

    /// Whether it is the same for all rows.
    pub(crate) fn is_constant(&self) -> bool {
        let mut has_column = false;
        self.for_each_column(&mut |_| has_column = true);
        !has_column
    }

    /// Whether it can be an error for values that its columns have.
    pub(crate) fn can_fail(&self, value_type: ValueType) -> bool {
        match self {
            Self::Column(_) | Self::Length(_) | Self::Number { .. } | Self::Float { .. } => false,
            Self::Cast(inner) => inner.expression.can_fail(inner.value_type),
            Self::Arithmetic { left, right, .. } => {
                !matches!(value_type, ValueType::Numeric { .. })
                    || left.expression.can_fail(left.value_type)
                    || right.expression.can_fail(right.value_type)
            }
        }
    }

    fn for_each_column(&self, visit: &mut dyn FnMut(usize)) {
        let mut copy = self.clone();
        copy.for_each_column_mut(&mut |place| visit(*place));
    }

    fn for_each_column_mut(&mut self, visit: &mut dyn FnMut(&mut usize)) {
        match self {
            Self::Column(place) | Self::Length(place) => visit(place),
            Self::Number { .. } | Self::Float { .. } => {}
            Self::Cast(inner) => inner.expression.for_each_column_mut(visit),
            Self::Arithmetic { left, right, .. } => {
                left.expression.for_each_column_mut(visit);
                right.expression.for_each_column_mut(visit);
            }
        }
    }
}

/// Something computed of a group's rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Aggregate {
    pub(crate) function: Function,
    /// `None` for `count(*)`.
    pub(crate) argument: Option<Typed>,
    /// Whether each value counts once only.
    pub(crate) distinct: bool,
    /// Which of the rows count: those for which this is true.
    pub(crate) filter: Option<Filter>,
}

/// The aggregate functions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Function {
    Count,
    Sum,
    Avg,
    Min,
    Max,
    BoolAnd,
    BoolOr,
}

impl Query {
    /// What rows are grouped by.
    pub(crate) fn groups(&self) -> &[Typed] {
        match &self.wanted {
            Wanted::Rows { .. } => &[],
            Wanted::Groups { groups, .. } => groups,
        }
    }

    /// What is computed of each group.
    pub(crate) fn aggregates(&self) -> &[Aggregate] {
        match &self.wanted {
            Wanted::Rows { .. } => &[],
            Wanted::Groups { aggregates, .. } => aggregates,
        }
    }

    /// The columns that are computed with, by their places.
    fn used_columns(&self) -> Vec<usize> {
        let arguments = self.aggregates().iter().filter_map(|aggregate| aggregate.argument.as_ref());
        let keys = self.order.iter().filter_map(|key| match &key.by {
            SortBy::Row(typed) => Some(typed),
            SortBy::Output(_) => None,
        });
        let mut used = Vec::new();
        for typed in self.groups().iter().chain(arguments).chain(keys) {
            typed.expression.for_each_column(&mut |place| used.push(place));
        }
        let names: Vec<&str> = self.filters().flat_map(Filter::columns).collect();
        let tested = self.rows.columns.iter().enumerate();
        let tested = tested.filter(|(_, column)| names.contains(&column.name.as_str())).map(|(place, _)| place);
        used.extend(tested);
        used.sort_unstable();
        used.dedup();
        used
    }

    /// Forgets the columns that are not computed with.
    pub(crate) fn keep_used_columns(&mut self) {
        let used = self.used_columns();
        let (groups, aggregates): (&mut [Typed], &mut [Aggregate]) = match &mut self.wanted {
            Wanted::Rows { .. } => (&mut [], &mut []),
            Wanted::Groups { groups, aggregates } => (groups, aggregates),
        };
        let arguments = aggregates.iter_mut().filter_map(|aggregate| aggregate.argument.as_mut());
        let keys = self.order.iter_mut().filter_map(|key| match &mut key.by {
            SortBy::Row(typed) => Some(typed),
            SortBy::Output(_) => None,
        });
        for typed in groups.iter_mut().chain(arguments).chain(keys) {
            typed.expression.for_each_column_mut(&mut |place| {
                *place = used.iter().position(|used| used == place).unwrap_or(*place);
            });
        }
        self.rows.columns = used.iter().map(|place| self.rows.columns[*place].clone()).collect();
    }

    /// The text for `EXPLAIN`: what is computed, by what rows are grouped, and what is given in which order.
    pub(crate) fn text(&self) -> String {
        let aggregates: Vec<String> =
            self.aggregates().iter().map(|aggregate| self.aggregate_text(aggregate)).collect();
        let mut parts = vec![aggregates.join(", ")];
        let mut list = |name: &str, texts: Vec<String>| {
            if !texts.is_empty() {
                parts.push(format!("{name} {}", texts.join(", ")));
            }
        };
        list("GROUP BY", self.groups().iter().map(|group| self.typed_text(group)).collect());
        list("ORDER BY", self.order.iter().map(|key| self.key_text(key)).collect());
        if let Some(limit) = &self.limit {
            list("LIMIT", vec![self.operands[limit.count].clone()]);
            list("OFFSET", limit.skip.iter().map(|skip| self.operands[*skip].clone()).collect());
        }
        parts.retain(|part| !part.is_empty());
        parts.join(" ")
    }

    fn typed_text(&self, typed: &Typed) -> String {
        let name = |place: &usize| self.rows.columns[*place].shown.clone();
        match &typed.expression {
            Expression::Column(place) => name(place),
            Expression::Length(place) => format!("length({})", name(place)),
            Expression::Number { digits, scale } => number_text(*digits, *scale),
            Expression::Float { bits } => f64::from_bits(*bits).to_string(),
            Expression::Cast(inner) => self.typed_text(inner),
            Expression::Arithmetic { op, left, right } => {
                format!("({} {} {})", self.typed_text(left), op.name(), self.typed_text(right))
            }
        }
    }

    fn aggregate_text(&self, aggregate: &Aggregate) -> String {
        let distinct = if aggregate.distinct { "DISTINCT " } else { "" };
        let argument = aggregate.argument.as_ref().map_or_else(|| "*".to_owned(), |typed| self.typed_text(typed));
        let filter = aggregate.filter.as_ref().map(|filter| filter.text(&self.operands));
        let filter = filter.map_or_else(String::new, |filter| format!(" FILTER (WHERE {filter})"));
        format!("{}({distinct}{argument}){filter}", aggregate.function.name())
    }

    fn key_text(&self, key: &SortKey) -> String {
        let by = match &key.by {
            SortBy::Row(typed) => self.typed_text(typed),
            SortBy::Output(place) => match self.groups().get(*place) {
                Some(group) => self.typed_text(group),
                None => self.aggregate_text(&self.aggregates()[*place - self.groups().len()]),
            },
        };
        let direction = if key.descending { " DESC" } else { "" };
        // As Postgres has them if nothing is said.
        let nulls = match (key.nulls_first, key.descending) {
            (true, false) => " NULLS FIRST",
            (false, true) => " NULLS LAST",
            _ => "",
        };
        format!("{by}{direction}{nulls}")
    }

    /// The operands that are used, in the order of their places.
    pub(crate) fn used_operands(&self) -> Vec<usize> {
        let limits = self.limit.iter().flat_map(|limit| limit.skip.into_iter().chain([limit.count]));
        let mut used: Vec<usize> = self.filters().flat_map(Filter::operands).chain(limits).collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    /// Gives the operands the places that they have among `used`.
    pub(crate) fn renumber_operands(&mut self, used: &[usize]) {
        let aggregates: &mut [Aggregate] = match &mut self.wanted {
            Wanted::Rows { .. } => &mut [],
            Wanted::Groups { aggregates, .. } => aggregates,
        };
        let of_aggregates = aggregates.iter_mut().filter_map(|aggregate| aggregate.filter.as_mut());
        self.rows.filter.iter_mut().chain(of_aggregates).for_each(|filter| filter.renumber(used));
        if let Some(limit) = &mut self.limit {
            for operand in limit.skip.iter_mut().chain([&mut limit.count]) {
                *operand = used.iter().position(|used| used == operand).unwrap_or(*operand);
            }
        }
    }

    fn filters(&self) -> impl Iterator<Item = &Filter> {
        self.rows.filter.iter().chain(self.aggregates().iter().filter_map(|aggregate| aggregate.filter.as_ref()))
    }
}

/// A number with its point.
fn number_text(digits: i64, scale: u8) -> String {
    let scale = usize::from(scale);
    let all = format!("{:0>width$}", digits.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = all.split_at(all.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    format!("{}{whole}{point}{fraction}", if digits < 0 { "-" } else { "" })
}

impl Function {
    /// Its name in SQL.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Count => "count",
            Self::Sum => "sum",
            Self::Avg => "avg",
            Self::Min => "min",
            Self::Max => "max",
            Self::BoolAnd => "bool_and",
            Self::BoolOr => "bool_or",
        }
    }
}
