//! Rows that the store can compute with before Postgres sees any: those of a table, or of several that are joined.

use pgrx::pg_sys;

use super::computed::Computable;
use super::conditions::Reader;
use super::{reasons, settings};
use crate::error::Result;
use crate::filter::Condition;
use crate::query::{Input, Join, Joined, Query, Shift, SortKey, TableRows, Typed, Wanted};
use crate::table::Table;

/// The rows, and what planning has to know of them.
#[derive(Clone)]
pub(super) struct Source {
    tables: Vec<TableRows>,
    joined: Joined,
    pub(super) computable: Computable,
    /// The operands of all conditions.
    pub(super) reader: Reader,
    /// The cost of coming by the rows where something is computed of them, and how many there are.
    pub(super) cost: f64,
    pub(super) rows: f64,
    /// The bytes that joins keep in memory.
    pub(super) memory: f64,
}

/// A foreign table in a query.
pub(super) struct QueryTable<'a> {
    pub(super) oid: pg_sys::Oid,
    pub(super) relation: pg_sys::Index,
    /// What the query calls it.
    pub(super) shown: String,
    pub(super) table: &'a Table,
}

impl Source {
    /// The rows of a table that pass all of these conditions, which `reader` has read; why not, if the store cannot test them
    /// as Postgres would.
    ///
    /// # Safety
    ///
    /// The nodes are those of the conditions.
    pub(super) unsafe fn of_table(
        table: &QueryTable<'_>,
        conditions: &[Condition],
        nodes: &[*mut pg_sys::Expr],
        mut reader: Reader,
    ) -> Result<std::result::Result<Self, Vec<String>>> {
        if !settings::pushes_down() {
            return Ok(Err(Vec::new()));
        }
        let computable = Computable::new(table.relation, table.table)?;
        let (mut tested, mut others, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
        for (condition, node) in conditions.iter().zip(nodes) {
            if computable.filter(0, std::slice::from_ref(condition), &reader).is_some() {
                tested.push(condition.clone());
                continue;
            }
            // SAFETY: as the caller promises.
            match unsafe { computable.condition(node.cast(), &mut reader) } {
                Some(other) => others.push(other),
                None => unknown.push(node),
            }
        }
        let filter = computable.filter(0, &tested, &reader).and_then(crate::filter::Filter::if_any);
        let rows =
            TableRows { table: table.oid.to_u32(), shown: table.shown.clone(), filter, condition: Typed::all(others) };
        let joined = Joined::Table(0);
        let mut source = Self { tables: vec![rows], joined, computable, reader, cost: 0.0, rows: 0.0, memory: 0.0 };
        if unknown.is_empty() {
            return Ok(Ok(source));
        }
        // SAFETY: as the caller promises.
        let why = |node: &*mut pg_sys::Expr| unsafe { reasons::why(node.cast(), &mut source) };
        Ok(Err(unknown.into_iter().map(why).map(|why| format!("WHERE: {why}")).collect()))
    }

    /// A condition on the rows as the store can test it; `None` if it cannot.
    ///
    /// # Safety
    ///
    /// The node is a condition of the query.
    pub(super) unsafe fn condition(&mut self, node: *mut pg_sys::Node) -> Option<Typed> {
        // SAFETY: as the caller promises.
        unsafe { self.computable.condition(node, &mut self.reader) }
    }

    /// An expression of the rows as the store can compute it; `None` if it cannot.
    ///
    /// # Safety
    ///
    /// The node is an expression of the query.
    pub(super) unsafe fn value(&mut self, node: *mut pg_sys::Node) -> Option<Typed> {
        // SAFETY: as the caller promises.
        unsafe { self.computable.value(node, &mut self.reader) }
    }

    /// Both sides' tables and columns, the other's after its own. They are not joined yet.
    pub(super) fn beside(&self, other: &Self) -> (Self, Joined, Joined) {
        let by =
            Shift { tables: self.tables.len(), columns: self.computable.columns.len(), operands: self.reader.len() };
        let mut second = other.input();
        second.shift(by);
        let mut both = self.clone();
        for mut table in second.tables {
            // As EXPLAIN has it where a query calls two tables the same.
            let name = table.shown.clone();
            let names = (1..).map(|number| format!("{name}_{number}"));
            let is_free = |name: &String| both.tables.iter().all(|known| known.shown != *name);
            table.shown = std::iter::once(name.clone()).chain(names).find(is_free).unwrap_or(name.clone());
            both.tables.push(table);
        }
        both.computable = both.computable.and(other.computable.clone());
        both.reader.append(other.reader.clone());
        both.memory += other.memory;
        (both, self.joined.clone(), second.joined)
    }

    /// Joins what is beside each other.
    pub(super) fn set_join(&mut self, join: Join) {
        self.joined = Joined::Join(Box::new(join));
    }

    /// Says what it costs to come by the rows, and how many there are.
    pub(super) fn costing(self, cost: f64, rows: f64) -> Self {
        Self { cost, rows, ..self }
    }

    /// The place of the table that a relation is, if its columns are in what is joined.
    pub(super) fn given_table(&self, relation: i32) -> Option<usize> {
        self.computable.table(relation).filter(|table| self.joined.gives(*table))
    }

    fn input(&self) -> Input {
        Input { tables: self.tables.clone(), columns: self.computable.columns.clone(), joined: self.joined.clone() }
    }

    /// A query of the rows, and who has its operands.
    pub(super) fn into_query(self, wanted: Wanted, order: Vec<SortKey>) -> (Query, Reader) {
        let input = Input { tables: self.tables, columns: self.computable.columns, joined: self.joined };
        (Query { input, wanted, order, limit: None, operands: Vec::new() }, self.reader)
    }
}
