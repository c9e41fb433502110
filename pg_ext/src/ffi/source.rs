//! Rows that the store can compute with before Postgres sees any: those of a table, or of several that are joined.

use pgrx::pg_sys;

use super::computed::Computable;
use super::conditions::Reader;
use super::{list, reasons, settings};
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
    /// Conditions that the store cannot test, in the order that Postgres tests them in of the rows that come: joins may go
    /// before them, all else that the store computes may not.
    pub(super) untested: Vec<Untested>,
    /// The cost of coming by the rows where something is computed of them, and how many there are before the untested conditions.
    pub(super) cost: f64,
    pub(super) rows: f64,
    /// The bytes that joins keep in memory.
    pub(super) memory: f64,
}

/// A condition that is left to Postgres.
#[derive(Clone)]
pub(super) struct Untested {
    pub(super) node: *mut pg_sys::Expr,
    /// Where in the query it is, and what in it the store cannot compute.
    pub(super) why: String,
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
    /// The rows of a table that pass those of these conditions, which `reader` has read, that the store can test as Postgres
    /// would.
    ///
    /// # Safety
    ///
    /// The nodes are those of the conditions.
    pub(super) unsafe fn of_table(
        table: &QueryTable<'_>,
        conditions: &[Condition],
        nodes: &[*mut pg_sys::Expr],
        mut reader: Reader,
    ) -> Result<Option<Self>> {
        if !settings::pushes_down() {
            return Ok(None);
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
                None => unknown.push(*node),
            }
        }
        let filter = computable.filter(0, &tested, &reader).and_then(crate::filter::Filter::if_any);
        let rows =
            TableRows { table: table.oid.to_u32(), shown: table.shown.clone(), filter, condition: Typed::all(others) };
        let (tables, joined, untested) = (vec![rows], Joined::Table(0), Vec::new());
        let mut source = Self { tables, joined, computable, reader, untested, cost: 0.0, rows: 0.0, memory: 0.0 };
        // SAFETY: as the caller promises.
        unknown.into_iter().for_each(|node| unsafe { source.leave(node, "WHERE") });
        Ok(Some(source))
    }

    /// Leaves a condition to Postgres; it is one of this clause.
    ///
    /// # Safety
    ///
    /// The node is a condition of the query.
    pub(super) unsafe fn leave(&mut self, node: *mut pg_sys::Expr, clause: &str) {
        // SAFETY: as the caller promises.
        let why = unsafe { reasons::why(node.cast(), self) };
        let why = format!("{clause}: {why}");
        self.untested.push(Untested { node, why });
    }

    /// Whether the store tests all conditions.
    pub(super) fn is_whole(&self) -> bool {
        self.untested.is_empty()
    }

    /// The conditions that it does not test, as a list of Postgres'.
    pub(super) fn untested_list(&self) -> *mut pg_sys::List {
        list::of(self.untested.iter().map(|untested| untested.node))
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
        both.untested.extend(other.untested.iter().cloned());
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
