//! What `EXPLAIN` says of a query.

use super::{Aggregate, Expression, Join, JoinKind, Joined, Query, SortBy, SortKey, Typed};

impl Query {
    /// What is computed, by what rows are grouped, and what is given in which order.
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
        list("HAVING", self.having().iter().map(|having| self.typed_text(having)).collect());
        list("ORDER BY", self.order.iter().map(|key| self.key_text(key)).collect());
        if let Some(limit) = &self.limit {
            list("LIMIT", vec![self.operands[limit.count].clone()]);
            list("OFFSET", limit.skip.iter().map(|skip| self.operands[*skip].clone()).collect());
        }
        parts.retain(|part| !part.is_empty());
        parts.join(" ")
    }

    /// How tables are joined; `None` if there is one table alone.
    pub(crate) fn join_text(&self) -> Option<String> {
        match &self.input.joined {
            Joined::Table(_) => None,
            Joined::Join(join) => Some(self.joined_text(join)),
        }
    }

    /// Which rows of a table are looked at.
    pub(crate) fn filter_text(&self, table: usize) -> Option<String> {
        let rows = &self.input.tables[table];
        let filter = rows.filter.iter().map(|filter| filter.text(&self.operands));
        let texts = filter.chain(rows.condition.iter().map(|condition| self.typed_text(condition)));
        let texts: Vec<String> = texts.filter(|text| !text.is_empty()).collect();
        (!texts.is_empty()).then(|| texts.join(" AND "))
    }

    fn joined_text(&self, join: &Join) -> String {
        let side = |joined: &Joined| match joined {
            Joined::Table(place) => self.input.tables[*place].shown.clone(),
            Joined::Join(inner) => format!("({})", self.joined_text(inner)),
        };
        let kind = match join.kind {
            JoinKind::Inner => "INNER",
            JoinKind::Left => "LEFT",
            JoinKind::Full => "FULL",
            JoinKind::Semi => "SEMI",
            JoinKind::Anti => "ANTI",
        };
        let keys =
            join.keys.iter().map(|(left, right)| format!("{} = {}", self.typed_text(left), self.typed_text(right)));
        let conditions: Vec<String> =
            keys.chain(join.condition.iter().map(|condition| self.typed_text(condition))).collect();
        let text = format!("{} {kind} JOIN {} ON {}", side(&join.left), side(&join.right), conditions.join(" AND "));
        match &join.filter {
            None => text,
            Some(filter) => format!("{text} WHERE {}", self.typed_text(filter)),
        }
    }

    fn column_text(&self, place: usize) -> String {
        let column = &self.input.columns[place];
        match self.input.tables.len() {
            1 => column.shown.clone(),
            _ => format!("{}.{}", self.input.tables[column.table].shown, column.shown),
        }
    }

    fn typed_text(&self, typed: &Typed) -> String {
        let join = |parts: &[Typed], word: &str| {
            let texts: Vec<String> = parts.iter().map(|part| self.typed_text(part)).collect();
            format!("({})", texts.join(word))
        };
        match &typed.expression {
            Expression::Column(place) => self.column_text(*place),
            Expression::Length(place) => format!("length({})", self.column_text(*place)),
            Expression::Output(place) => self.output_text(*place),
            Expression::Number { digits, scale } => number_text(*digits, *scale),
            Expression::Float { bits } => f64::from_bits(*bits).to_string(),
            Expression::Cast(inner) => self.typed_text(inner),
            Expression::Arithmetic { op, left, right } => {
                format!("({} {} {})", self.typed_text(left), op.name(), self.typed_text(right))
            }
            Expression::Compare { op, left, right } => {
                format!("({} {} {})", self.typed_text(left), op.name(), self.typed_text(right))
            }
            Expression::And(parts) => join(parts, " AND "),
            Expression::Or(parts) => join(parts, " OR "),
            Expression::Not(part) => format!("NOT ({})", self.typed_text(part)),
            Expression::IsNull(part) => format!("{} IS NULL", self.typed_text(part)),
            Expression::Like { text, pattern } => {
                format!("({} LIKE '{}')", self.typed_text(text), pattern.replace('\'', "''"))
            }
            Expression::Case { branches, otherwise } => {
                let branches = branches.iter().map(|(condition, value)| {
                    format!(" WHEN {} THEN {}", self.typed_text(condition), self.typed_text(value))
                });
                let otherwise = otherwise.iter().map(|value| format!(" ELSE {}", self.typed_text(value)));
                format!("CASE{} END", branches.chain(otherwise).collect::<String>())
            }
            Expression::Extract { part, from } => format!("EXTRACT({} FROM {})", part.name(), self.typed_text(from)),
            Expression::Matches { filter, .. } => format!("({})", filter.text(&self.operands)),
        }
    }

    fn aggregate_text(&self, aggregate: &Aggregate) -> String {
        let distinct = if aggregate.distinct { "DISTINCT " } else { "" };
        let argument = aggregate.argument.as_ref().map_or_else(|| "*".to_owned(), |typed| self.typed_text(typed));
        let filter = aggregate.filter.as_ref().map(|filter| self.typed_text(filter));
        let filter = filter.map_or_else(String::new, |filter| format!(" FILTER (WHERE {filter})"));
        format!("{}({distinct}{argument}){filter}", aggregate.function.name())
    }

    fn output_text(&self, place: usize) -> String {
        match self.groups().get(place) {
            Some(group) => self.typed_text(group),
            None => self.aggregate_text(&self.aggregates()[place - self.groups().len()]),
        }
    }

    fn key_text(&self, key: &SortKey) -> String {
        let by = match &key.by {
            SortBy::Row(typed) => self.typed_text(typed),
            SortBy::Output(place) => self.output_text(*place),
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
}

/// A number with its point.
fn number_text(digits: i64, scale: u8) -> String {
    let scale = usize::from(scale);
    let all = format!("{:0>width$}", digits.unsigned_abs(), width = scale + 1);
    let (whole, fraction) = all.split_at(all.len() - scale);
    let point = if scale > 0 { "." } else { "" };
    format!("{}{whole}{point}{fraction}", if digits < 0 { "-" } else { "" })
}
