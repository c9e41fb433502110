//! What is computed over stores before Postgres sees rows: the language in which planning says it to execution.
//!
//! A [`Query`] travels in the plan as text, which Postgres copies and caches, so it names things that stay what they are: the
//! foreign tables by their OIDs, the stores' columns by their names, and what is only known when the plan runs (parameters, and
//! constants too) by its place among the plan's expressions.
//!
//! **What is in here has Postgres' meaning.** Planning puts nothing into a query whose answer could differ from what Postgres
//! would compute from the same rows, the last bits of sums of floats excepted; [`crate::compute`] keeps it that way.

mod expression;
mod text;

use serde::{Deserialize, Serialize};

pub(crate) use self::expression::{DatePart, Expression, Operation, Shift, Typed, ValueType};
use crate::filter::Filter;

/// The digits of 128 and of 256 bits.
pub(crate) const DIGITS_128: u8 = 38;
pub(crate) const DIGITS_256: u8 = 76;

/// A plan's text cannot be nested deeper than 128 levels; nor should what is computed take much of a stack. So many levels are for
/// expressions, and twice so many for joins as joins are above each other.
pub(crate) const EXPRESSION_NESTING_MAX: usize = 60;
pub(crate) const JOIN_DEPTH_MAX: usize = 25;

/// What is wanted of rows, and in which order.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Query {
    pub(crate) input: Input,
    pub(crate) wanted: Wanted,
    /// The order of what is given, by the first key, then by the second; any order, if there is none.
    pub(crate) order: Vec<SortKey>,
    /// How much of it is given; all, if `None`.
    pub(crate) limit: Option<Limit>,
    /// The texts of the plan's expressions, for `EXPLAIN`.
    pub(crate) operands: Vec<String>,
}

/// The rows that a query is of: those of one table, or of several that are joined.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Input {
    /// At least one.
    pub(crate) tables: Vec<TableRows>,
    /// The columns that are computed with. Expressions name them by their places here.
    pub(crate) columns: Vec<TableColumn>,
    /// How the tables' rows are put together.
    pub(crate) joined: Joined,
}

/// Rows of a foreign table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableRows {
    /// The table's OID.
    pub(crate) table: u32,
    /// What the query calls it.
    pub(crate) shown: String,
    /// Which rows: those for which this is true, of which the store leaves out what it can. Nothing else tests them.
    pub(crate) filter: Option<Filter>,
    /// And this.
    pub(crate) condition: Option<Typed>,
}

/// A column of a foreign table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct TableColumn {
    /// The place of its table among those of the input.
    pub(crate) table: usize,
    /// Its number in the foreign table, from 1.
    pub(crate) number: i16,
    /// Its name in the store.
    pub(crate) name: String,
    /// And in the foreign table.
    pub(crate) shown: String,
    #[serde(rename = "type")]
    pub(crate) value_type: ValueType,
}

/// A table, or what is joined of several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Joined {
    /// The table in this place.
    Table(usize),
    Join(Box<Join>),
}

/// Rows of two sides, put together.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Join {
    pub(crate) kind: JoinKind,
    pub(crate) left: Joined,
    pub(crate) right: Joined,
    /// Which side is kept in memory, to look the other side's rows up in.
    pub(crate) kept: Side,
    /// What of the left side must be equal to what of the right; at least one pair.
    pub(crate) keys: Vec<(Typed, Typed)>,
    /// What else must be true of a row and its partner.
    pub(crate) condition: Option<Typed>,
    /// Which rows of an outer join are left in the end: those for which this is true.
    pub(crate) filter: Option<Typed>,
}

/// The kinds of joins. What they give of rows without partners differs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum JoinKind {
    /// None of them.
    Inner,
    /// Those of the left side, with NULLs.
    Left,
    /// Those of both sides, with NULLs.
    Full,
    /// None: the left side's rows that have partners, once each and without them.
    Semi,
    /// Only the left side's rows that have none.
    Anti,
}

/// The sides of a join.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Side {
    Left,
    Right,
}

/// What a query gives.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum Wanted {
    /// The rows themselves.
    Rows {
        /// The columns that are given. Those of one table have the places that they have there, others follow each other.
        columns: Vec<GivenColumn>,
    },
    /// Groups of rows.
    Groups {
        /// What rows are grouped by. Without any, all rows are one group, even where there are none.
        groups: Vec<Typed>,
        /// What is computed of each group.
        aggregates: Vec<Aggregate>,
        /// Which groups are given: those for which this is true.
        having: Option<Typed>,
    },
}

/// A column that is given as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct GivenColumn {
    /// The place of its table among those of the input.
    pub(crate) table: usize,
    /// Its number in the foreign table, from 1.
    pub(crate) number: i16,
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

/// Something computed of a group's rows.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Aggregate {
    pub(crate) function: Function,
    /// `None` for `count(*)`.
    pub(crate) argument: Option<Typed>,
    /// Whether each value counts once only.
    pub(crate) distinct: bool,
    /// Which of the rows count: those for which this is true.
    pub(crate) filter: Option<Typed>,
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
    /// How far values are from their average.
    Deviation(Deviation),
}

/// The measures of how far values are from their average.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub(crate) struct Deviation {
    /// Whether the values are a sample of others, so that it is divided by one less than their number.
    pub(crate) is_of_sample: bool,
    /// Whether it is the standard deviation: the square root of the variance.
    pub(crate) is_root: bool,
}

impl Deviation {
    /// Its name in SQL.
    pub(crate) fn name(self) -> &'static str {
        match (self.is_root, self.is_of_sample) {
            (false, false) => "var_pop",
            (false, true) => "var_samp",
            (true, false) => "stddev_pop",
            (true, true) => "stddev_samp",
        }
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
            Self::Deviation(deviation) => deviation.name(),
        }
    }
}

impl Aggregate {
    /// The type of its values; `None` if it is only known when they are there.
    pub(crate) fn value_type(&self) -> Option<ValueType> {
        let argument = self.argument.as_ref();
        if self.function == Function::Count {
            return Some(ValueType::Int8);
        }
        match (self.function, argument?.value_type) {
            (Function::Count, _) => Some(ValueType::Int8),
            (Function::BoolAnd | Function::BoolOr, _) => Some(ValueType::Bool),
            (Function::Sum, _) if !argument.is_some_and(Typed::has_one_scale) => None,
            (Function::Sum, value_type) => Some(value_type.of_sum()),
            (Function::Min | Function::Max, value_type) => Some(value_type),
            // Of numbers that are no floats it is divided in the end.
            (Function::Avg | Function::Deviation(_), value_type) => value_type.is_float().then_some(ValueType::Float8),
        }
    }
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

    /// Which groups are given.
    pub(crate) fn having(&self) -> Option<&Typed> {
        match &self.wanted {
            Wanted::Rows { .. } => None,
            Wanted::Groups { having, .. } => having.as_ref(),
        }
    }

    /// The type of the group or the aggregate in this place, groups first; `None` if it is only known when it is there.
    pub(crate) fn output_type(&self, place: usize) -> Option<ValueType> {
        match self.groups().get(place) {
            Some(group) => Some(group.value_type),
            None => self.aggregates().get(place - self.groups().len())?.value_type(),
        }
    }

    /// All expressions, each as a whole.
    fn typed_mut(&mut self) -> Vec<&mut Typed> {
        let mut found = self.input.typed_mut();
        if let Wanted::Groups { groups, aggregates, having } = &mut self.wanted {
            found.extend(groups);
            found.extend(having);
            found.extend(aggregates.iter_mut().flat_map(|aggregate| {
                let Aggregate { argument, filter, .. } = aggregate;
                argument.iter_mut().chain(filter)
            }));
        }
        found.extend(self.order.iter_mut().filter_map(|key| match &mut key.by {
            SortBy::Row(typed) => Some(typed),
            SortBy::Output(_) => None,
        }));
        found
    }

    /// Visits all parts of all expressions.
    fn for_each_expression_mut(&mut self, visit: &mut dyn FnMut(&mut Expression)) {
        self.typed_mut().into_iter().for_each(|typed| typed.expression.for_each_mut(visit));
    }

    /// Visits all filters, each with the place of its table.
    fn for_each_filter_mut(&mut self, visit: &mut dyn FnMut(usize, &mut Filter)) {
        for (place, table) in self.input.tables.iter_mut().enumerate() {
            table.filter.iter_mut().for_each(|filter| visit(place, filter));
        }
        self.for_each_expression_mut(&mut |expression| {
            if let Expression::Matches { table, filter } = expression {
                visit(*table, filter);
            }
        });
    }

    /// The columns that are computed with, by their places.
    fn used_columns(&self) -> Vec<usize> {
        let mut copy = self.clone();
        let mut used = Vec::new();
        copy.for_each_expression_mut(&mut |expression| match expression {
            Expression::Column(place) | Expression::Length(place) => used.push(*place),
            _ => {}
        });
        copy.for_each_filter_mut(&mut |table, filter| {
            let names = filter.columns();
            let tested = |column: &TableColumn| column.table == table && names.contains(&column.name.as_str());
            let columns = self.input.columns.iter().enumerate();
            used.extend(columns.filter(|(_, column)| tested(column)).map(|(place, _)| place));
        });
        used.sort_unstable();
        used.dedup();
        used
    }

    /// Forgets the columns that are not computed with.
    pub(crate) fn keep_used_columns(&mut self) {
        let used = self.used_columns();
        self.for_each_expression_mut(&mut |expression| match expression {
            Expression::Column(place) | Expression::Length(place) => {
                *place = used.iter().position(|used| used == place).unwrap_or(*place);
            }
            _ => {}
        });
        self.input.columns = used.iter().map(|place| self.input.columns[*place].clone()).collect();
    }

    /// The operands that are used, in the order of their places.
    pub(crate) fn used_operands(&self) -> Vec<usize> {
        let limits = self.limit.iter().flat_map(|limit| limit.skip.into_iter().chain([limit.count]));
        let mut used: Vec<usize> = limits.collect();
        self.clone().for_each_filter_mut(&mut |_, filter| used.extend(filter.operands()));
        used.sort_unstable();
        used.dedup();
        used
    }

    /// Gives the operands the places that they have among `used`, which is sorted.
    pub(crate) fn renumber_operands(&mut self, used: &[usize]) {
        self.for_each_filter_mut(&mut |_, filter| filter.renumber(used));
        if let Some(limit) = &mut self.limit {
            for operand in limit.skip.iter_mut().chain([&mut limit.count]) {
                *operand = used.binary_search(operand).unwrap_or(*operand);
            }
        }
    }
}

impl Input {
    fn typed_mut(&mut self) -> Vec<&mut Typed> {
        let mut found: Vec<&mut Typed> = self.tables.iter_mut().filter_map(|table| table.condition.as_mut()).collect();
        self.joined.add_typed_mut(&mut found);
        found
    }

    /// Gives everything the places that it has after others.
    pub(crate) fn shift(&mut self, by: Shift) {
        self.typed_mut().into_iter().for_each(|typed| typed.shift(by));
        let filters = self.tables.iter_mut().filter_map(|table| table.filter.as_mut());
        filters.for_each(|filter| filter.for_each_operand_mut(&mut |operand| *operand += by.operands));
        self.columns.iter_mut().for_each(|column| column.table += by.tables);
        self.joined.shift(by.tables);
    }
}

impl Joined {
    fn add_typed_mut<'a>(&'a mut self, found: &mut Vec<&'a mut Typed>) {
        let Self::Join(join) = self else { return };
        let Join { left, right, keys, condition, filter, .. } = &mut **join;
        left.add_typed_mut(found);
        right.add_typed_mut(found);
        found.extend(keys.iter_mut().flat_map(|(left, right)| [left, right]));
        found.extend(condition.iter_mut().chain(filter));
    }

    fn shift(&mut self, tables: usize) {
        match self {
            Self::Table(place) => *place += tables,
            Self::Join(join) => {
                join.left.shift(tables);
                join.right.shift(tables);
            }
        }
    }

    /// How many joins are above each other.
    pub(crate) fn depth(&self) -> usize {
        match self {
            Self::Table(_) => 0,
            Self::Join(join) => 1 + join.left.depth().max(join.right.depth()),
        }
    }

    /// The first of its tables.
    pub(crate) fn first_table(&self) -> usize {
        match self {
            Self::Table(place) => *place,
            Self::Join(join) => join.left.first_table(),
        }
    }

    /// Whether the columns of the table in this place are in what is joined.
    pub(crate) fn gives(&self, table: usize) -> bool {
        match self {
            Self::Table(place) => *place == table,
            Self::Join(join) => {
                let hides_right = matches!(join.kind, JoinKind::Semi | JoinKind::Anti);
                join.left.gives(table) || (!hides_right && join.right.gives(table))
            }
        }
    }

    /// Whether all joins are inner ones, so that each table's rows are left out by themselves.
    pub(crate) fn is_inner(&self) -> bool {
        match self {
            Self::Table(_) => true,
            Self::Join(join) => join.kind == JoinKind::Inner && join.left.is_inner() && join.right.is_inner(),
        }
    }
}
