//! What follows once rows are known, a table's or joined ones: aggregation, an order, a limit. The planner asks for each in turn, and is
//! offered a path where the store can see to all of it ([`grouping`](super::grouping), [`ordering`](super::ordering)).

use std::ffi::c_void;
use std::ptr;

use pgrx::pg_sys;

use super::conditions::Reader;
use super::grouping::{Grouped, Grouping};
use super::planner::{self, Planned, PlannedGroups, PlannedOrder};
use super::source::Source;
use super::{compat, list, ordering, run};
use crate::compute::{self, KEPT_ROWS};
use crate::error::{Result, Step};
use crate::plan::{self, Cost, CostSettings};
use crate::query::{GivenColumn, Query, Wanted};

/// Offers a way to do what the planner comes to.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn get_foreign_upper_paths(
    root: *mut pg_sys::PlannerInfo,
    stage: pg_sys::UpperRelationKind::Type,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut c_void,
) {
    run(Step::UpperPaths, || {
        // SAFETY: the planner passes both relations.
        let (input_relation, upper) = (unsafe { &*input }, unsafe { &*output });
        if input_relation.fdw_private.is_null() || !upper.fdw_private.is_null() {
            return Ok(());
        }
        // SAFETY: and its state.
        let state = unsafe { &*root };
        // SAFETY: which has the query.
        let parse = unsafe { &*state.parse };
        let planning = Planning { root, state, parse, input, rows: input_relation.rows, output };
        let kind = input_relation.reloptkind;
        let is_whole = [pg_sys::RelOptKind::RELOPT_BASEREL, pg_sys::RelOptKind::RELOPT_JOINREL].contains(&kind);
        match (stage, Planned::of(input_relation)?) {
            (pg_sys::UpperRelationKind::UPPERREL_GROUP_AGG, Planned::Table(_) | Planned::Join(_)) => {
                let Some(source) = Planned::whole_source_of(input_relation) else { return Ok(()) };
                // SAFETY: for this stage it is this.
                let having = unsafe { (*extra.cast::<pg_sys::GroupPathExtraData>()).havingQual };
                planning.add_groups(source, upper.reltarget, parse.groupClause, having)
            }
            // Groups of a partition's rows, to be put together with those of others.
            (pg_sys::UpperRelationKind::UPPERREL_PARTIAL_GROUP_AGG, Planned::Table(_) | Planned::Join(_)) => {
                let Some(source) = Planned::whole_source_of(input_relation) else { return Ok(()) };
                // SAFETY: for this stage it is this.
                let way = unsafe { (*extra.cast::<pg_sys::GroupPathExtraData>()).patype };
                if way != pg_sys::PartitionwiseAggregateType::PARTITIONWISE_AGGREGATE_PARTIAL {
                    return Ok(());
                }
                planning.add_groups(source, upper.reltarget, parse.groupClause, ptr::null_mut())
            }
            // Rows that are told apart are groups of which nothing is computed.
            (pg_sys::UpperRelationKind::UPPERREL_DISTINCT, Planned::Table(_) | Planned::Join(_)) if is_whole => {
                let Some(source) = Planned::whole_source_of(input_relation) else { return Ok(()) };
                if parse.hasDistinctOn || parse.hasTargetSRFs {
                    return Ok(());
                }
                // The relation itself has no target.
                let target = state.upper_targets[pg_sys::UpperRelationKind::UPPERREL_DISTINCT as usize];
                planning.add_groups(source, target, parse.distinctClause, ptr::null_mut())
            }
            (pg_sys::UpperRelationKind::UPPERREL_ORDERED, Planned::Table(_) | Planned::Join(_)) if is_whole => {
                let Some(source) = Planned::whole_source_of(input_relation) else { return Ok(()) };
                planning.keep_order_of_rows(source, Planned::given_of(input_relation));
                Ok(())
            }
            (pg_sys::UpperRelationKind::UPPERREL_ORDERED, Planned::Groups(groups)) => {
                planning.keep_order_of_groups(groups);
                Ok(())
            }
            (pg_sys::UpperRelationKind::UPPERREL_FINAL, Planned::Order(order)) => {
                // SAFETY: for this stage it is this.
                planning.add_limited(order, unsafe { &*extra.cast::<pg_sys::FinalPathExtraData>() })
            }
            _ => Ok(()),
        }
    });
}

/// What the planner passes for a stage: its pointers are live as long as this is.
struct Planning<'a> {
    root: *mut pg_sys::PlannerInfo,
    state: &'a pg_sys::PlannerInfo,
    parse: &'a pg_sys::Query,
    input: *mut pg_sys::RelOptInfo,
    /// Of the input.
    rows: f64,
    output: *mut pg_sys::RelOptInfo,
}

/// A path in the making.
struct Offer {
    /// The relation that it is planned as.
    parent: *mut pg_sys::RelOptInfo,
    target: *mut pg_sys::PathTarget,
    rows: f64,
    cost: Cost,
    order: *mut pg_sys::List,
}

impl Planning<'_> {
    /// Offers groups by the expressions that these clauses name.
    fn add_groups(
        &self,
        source: &Source,
        target: *mut pg_sys::PathTarget,
        clauses: *mut pg_sys::List,
        having: *mut pg_sys::Node,
    ) -> Result<()> {
        let found = match self.parse.groupingSets.is_null() {
            // SAFETY: the arguments are the planner's.
            true => unsafe { Grouping::new(source.clone()).plan(clauses, target, having) },
            false => Err("GROUPING SETS".to_owned()),
        };
        let grouped = match found {
            Ok(grouped) => grouped,
            Err(why) => {
                // SAFETY: the relation is the planner's.
                Planned::leave(unsafe { &*self.input }, why);
                return Ok(());
            }
        };
        let groups = self.count_groups(&grouped);
        let join = pg_sys::JoinType::JOIN_INNER;
        // SAFETY: the conditions are a list of the query's.
        let selectivity = unsafe { pg_sys::clauselist_selectivity(self.root, having.cast(), 0, join, ptr::null_mut()) };
        let values = (grouped.query.groups().len() + grouped.query.aggregates().len()).max(1);
        let cost = plan::groups_cost(planner::cost_settings(), source.cost, source.rows, groups, values);
        let is_looked_up =
            compute::is_looked_up(&grouped.query, |operand| grouped.reader.is_given_from_outside(operand));
        let cost = if is_looked_up { plan::looked_up_cost(cost) } else { cost };
        let rows = (groups * selectivity).max(1.0);
        let offer = Offer { parent: self.output, target, rows, cost, order: ptr::null_mut() };
        self.add_path(&offer, grouped.query.clone(), &grouped.reader)?;
        self.keep(Planned::Groups(PlannedGroups { grouped, cost, rows }));
        Ok(())
    }

    /// The groups that there may be.
    fn count_groups(&self, grouped: &Grouped) -> f64 {
        let count = grouped.query.groups().len();
        if count == 0 {
            return 1.0;
        }
        // SAFETY: the entries of the target were made from the planner's expressions, groups first.
        let entries: Vec<*mut pg_sys::TargetEntry> = unsafe { list::elements(grouped.target) };
        // SAFETY: as above.
        let keys = list::of(entries.iter().take(count).map(|entry| unsafe { (**entry).expr }));
        // SAFETY: the expressions are of the query.
        unsafe { pg_sys::estimate_num_groups(self.root, keys, self.rows, ptr::null_mut(), ptr::null_mut()) }
    }

    /// Keeps the order of rows for the limit to come. Without one nothing is offered: a sort of all rows is Postgres' as well.
    fn keep_order_of_rows(&self, source: &Source, given: Vec<GivenColumn>) {
        // SAFETY: the planner's state is live.
        let Some(order) = (unsafe { ordering::of_rows(self.state, &source.computable) }) else { return };
        let columns = given.len();
        let unordered = plan::rows_cost(planner::cost_settings(), source.cost, 0.0, columns);
        let (query, reader) = source.clone().into_query(Wanted::Rows { columns: given }, order);
        let (rows, input) = (self.rows, self.input);
        self.keep(Planned::Order(PlannedOrder { input, query, reader, unordered, rows, columns }));
    }

    /// As above, of groups. Those that Postgres leaves out would count.
    fn keep_order_of_groups(&self, groups: &PlannedGroups) {
        let &PlannedGroups { ref grouped, cost: unordered, rows } = groups;
        // SAFETY: the planner's state is live.
        let order = unsafe { ordering::of_groups(self.state, grouped) };
        let Some(order) = order.filter(|_| grouped.conditions.is_null()) else { return };
        let query = Query { order, ..grouped.query.clone() };
        let columns = query.groups().len() + query.aggregates().len();
        let (reader, input) = (grouped.reader.clone(), self.input);
        self.keep(Planned::Order(PlannedOrder { input, query, reader, unordered, rows, columns }));
    }

    fn add_limited(&self, order: &PlannedOrder, wanted: &pg_sys::FinalPathExtraData) -> Result<()> {
        // More than are kept would be sorted with all others.
        let is_much = wanted.limit_tuples > KEPT_ROWS as f64;
        if !wanted.limit_needed || is_much || self.parse.commandType != pg_sys::CmdType::CMD_SELECT {
            return Ok(());
        }
        let mut reader = order.reader.clone();
        // SAFETY: the query is the planner's.
        let Some(limit) = (unsafe { ordering::limit(self.parse, &mut reader) }) else { return Ok(()) };
        // Where it is not known, as the planner has it (`preprocess_limit`): a tenth.
        let first = if wanted.limit_tuples >= 0.0 { wanted.limit_tuples } else { order.rows / 10.0 };
        let rows = first.min(order.rows);
        let offer = Offer {
            parent: order.input,
            target: self.state.upper_targets[pg_sys::UpperRelationKind::UPPERREL_FINAL as usize],
            rows: (rows - wanted.offset_est.max(0) as f64).max(1.0),
            cost: order.cost(planner::cost_settings(), rows),
            order: self.state.sort_pathkeys,
        };
        self.add_path(&offer, Query { limit: Some(limit), ..order.query.clone() }, &reader)
    }

    /// Offers a path to the upper relation. Its plan is kept in the path: there may be several of a relation.
    fn add_path(&self, offer: &Offer, query: Query, reader: &Reader) -> Result<()> {
        let shape = compat::ComputedPath {
            target: offer.target,
            rows: offer.rows,
            startup_cost: offer.cost.startup,
            total_cost: offer.cost.startup + offer.cost.run,
            order: offer.order,
            private: planner::private_of_path(query, reader)?,
        };
        // SAFETY: the planner's pointers are live.
        let path = unsafe { compat::create_foreign_upper_path(self.root, offer.parent, &shape) };
        // A worker that ran this would look for a snapshot of its own.
        // SAFETY: the path was just made.
        unsafe { (*path).path.parallel_safe = false };
        // SAFETY: the relation is the planner's.
        unsafe { pg_sys::add_path(self.output, path.cast()) };
        Ok(())
    }

    /// Keeps what was found out for the stages to come.
    fn keep(&self, planned: Planned) {
        // SAFETY: the relation is the planner's, and nobody changes it now.
        planned.keep_in(unsafe { &mut *self.output });
    }
}

impl PlannedOrder {
    /// What it costs if so many of the rows are asked for, the first ones.
    fn cost(&self, settings: CostSettings, rows: f64) -> Cost {
        plan::ordered_cost(settings, self.unordered, self.rows, rows, self.columns)
    }
}
