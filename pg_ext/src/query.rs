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

/// An aggregation of a table's rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Query {
    pub(crate) rows: TableRows,
    /// What rows are grouped by. Without any, all rows are one group, even where there are none.
    pub(crate) groups: Vec<Typed>,
    /// What is computed of each group.
    pub(crate) aggregates: Vec<Aggregate>,
    /// The texts of the plan's expressions, for `EXPLAIN`.
    pub(crate) operands: Vec<String>,
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
}

impl Expression {
    /// The place of its column.
    pub(crate) fn column(&self) -> usize {
        let (Self::Column(place) | Self::Length(place)) = self;
        *place
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
    /// The columns that are computed with, by their places.
    fn used_columns(&self) -> Vec<usize> {
        let arguments = self.aggregates.iter().filter_map(|aggregate| aggregate.argument.as_ref());
        let computed = self.groups.iter().chain(arguments).map(|typed| typed.expression.column());
        let names: Vec<&str> = self.filters().flat_map(Filter::columns).collect();
        let tested = self.rows.columns.iter().enumerate();
        let tested = tested.filter(|(_, column)| names.contains(&column.name.as_str())).map(|(place, _)| place);
        let mut used: Vec<usize> = computed.chain(tested).collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    /// Forgets the columns that are not computed with.
    pub(crate) fn keep_used_columns(&mut self) {
        let used = self.used_columns();
        let arguments = self.aggregates.iter_mut().filter_map(|aggregate| aggregate.argument.as_mut());
        for typed in self.groups.iter_mut().chain(arguments) {
            let (Expression::Column(place) | Expression::Length(place)) = &mut typed.expression;
            *place = used.iter().position(|used| used == place).unwrap_or(*place);
        }
        self.rows.columns = used.iter().map(|place| self.rows.columns[*place].clone()).collect();
    }

    /// The text for `EXPLAIN`: what is computed, and by what rows are grouped.
    pub(crate) fn text(&self) -> String {
        let column = |typed: &Typed| {
            let name = &self.rows.columns[typed.expression.column()].shown;
            match typed.expression {
                Expression::Column(_) => name.clone(),
                Expression::Length(_) => format!("length({name})"),
            }
        };
        let aggregate = |aggregate: &Aggregate| {
            let distinct = if aggregate.distinct { "DISTINCT " } else { "" };
            let argument = aggregate.argument.as_ref().map_or_else(|| "*".to_owned(), column);
            let filter = aggregate.filter.as_ref().map(|filter| filter.text(&self.operands));
            let filter = filter.map_or_else(String::new, |filter| format!(" FILTER (WHERE {filter})"));
            format!("{}({distinct}{argument}){filter}", aggregate.function.name())
        };
        let aggregates: Vec<String> = self.aggregates.iter().map(aggregate).collect();
        let groups: Vec<String> = self.groups.iter().map(column).collect();
        match (aggregates.as_slice(), groups.as_slice()) {
            (aggregates, []) => aggregates.join(", "),
            ([], groups) => format!("GROUP BY {}", groups.join(", ")),
            (aggregates, groups) => format!("{} GROUP BY {}", aggregates.join(", "), groups.join(", ")),
        }
    }

    /// The operands that are used, in the order of their places.
    pub(crate) fn used_operands(&self) -> Vec<usize> {
        let mut used: Vec<usize> = self.filters().flat_map(Filter::operands).collect();
        used.sort_unstable();
        used.dedup();
        used
    }

    /// Gives the operands the places that they have among `used`.
    pub(crate) fn renumber_operands(&mut self, used: &[usize]) {
        let of_aggregates = self.aggregates.iter_mut().filter_map(|aggregate| aggregate.filter.as_mut());
        self.rows.filter.iter_mut().chain(of_aggregates).for_each(|filter| filter.renumber(used));
    }

    fn filters(&self) -> impl Iterator<Item = &Filter> {
        self.rows.filter.iter().chain(self.aggregates.iter().filter_map(|aggregate| aggregate.filter.as_ref()))
    }
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
