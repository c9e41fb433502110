//! Aggregation: whether the store can compute it, and how that is said.
//!
//! The rule is an allow-list. Whatever is not on it leaves the whole aggregation to Postgres, so that no answer ever differs
//! from what Postgres would compute of the same rows ([`crate::query`]).

use std::ffi::c_char;
use std::ptr;

use pgrx::{is_a, pg_sys};

use super::catalog::FIRST_OID_OF_OTHERS;
use super::collations::{is_compared_by_bytes, is_ordered_by_bytes};
use super::computed::{Computable, is_equal};
use super::conditions::Reader;
use super::source::Source;
use super::{list, reasons, text_of};
use crate::query::{Aggregate, Deviation, Expression, Function, Query, Typed, ValueType, Wanted};

/// What `aggkind` is for a function that is neither an ordered-set nor a hypothetical-set one.
const NORMAL_AGGREGATE: c_char = b'n'.cast_signed();

/// The digits of numbers of which 2^63 squares have no more than can be computed with.
const SQUARED_DIGITS_MAX: u8 = 28;

/// An aggregation that the store computes.
pub(super) struct Grouped {
    /// Its operands are those of the reader.
    pub(super) query: Query,
    pub(super) reader: Reader,
    /// What the rows are: target entries, groups first.
    pub(super) target: *mut pg_sys::List,
    /// The conditions on groups that are left to Postgres.
    pub(super) conditions: *mut pg_sys::List,
}

/// What is found out about an aggregation.
pub(super) struct Grouping {
    /// What is aggregated.
    source: Source,
    groups: Vec<Typed>,
    aggregates: Vec<Aggregate>,
    /// The expressions behind the groups and aggregates, and where the query's GROUP BY names them.
    group_nodes: Vec<(*mut pg_sys::Node, pg_sys::Index)>,
    aggregate_nodes: Vec<*mut pg_sys::Node>,
}

impl Grouping {
    pub(super) fn new(source: Source) -> Self {
        Self {
            source,
            groups: Vec::new(),
            aggregates: Vec::new(),
            group_nodes: Vec::new(),
            aggregate_nodes: Vec::new(),
        }
    }

    /// The plan of the aggregation by the expressions that these clauses name; if it is Postgres' to compute, why.
    ///
    /// # Safety
    ///
    /// The arguments are the planner's.
    pub(super) unsafe fn plan(
        mut self,
        clauses: *mut pg_sys::List,
        target: *mut pg_sys::PathTarget,
        having: *mut pg_sys::Node,
    ) -> Result<Grouped, String> {
        // SAFETY: as the caller promises.
        let target = unsafe { &*target };
        // SAFETY: which is a list of expressions.
        let expressions: Vec<*mut pg_sys::Node> = unsafe { list::elements(target.exprs) };
        let mut others = Vec::new();
        for (index, node) in expressions.into_iter().enumerate() {
            let reference = match target.sortgrouprefs.is_null() {
                true => 0,
                // SAFETY: it has as many elements as there are expressions.
                false => unsafe { target.sortgrouprefs.wrapping_add(index).read() },
            };
            // SAFETY: the clause is the query's.
            let clause = unsafe { pg_sys::get_sortgroupref_clause_noerr(reference, clauses) };
            match reference > 0 && !clause.is_null() {
                true => {
                    // SAFETY: the node is the planner's.
                    let added = unsafe { self.add_group(node, reference) };
                    // SAFETY: as above.
                    let why = |source| unsafe { reasons::why(node, source) };
                    added.ok_or_else(|| format!("GROUP BY: {}", why(&mut self.source)))?;
                }
                false => others.push(node),
            }
        }
        // SAFETY: the condition is null or a list of those that all must hold.
        let conditions: Vec<*mut pg_sys::Node> = unsafe { list::elements(having.cast_const().cast()) };
        for node in others.into_iter().chain(conditions.iter().copied()) {
            // SAFETY: the nodes are the planner's.
            unsafe { self.add_parts(node)? };
        }
        // Constants to group by may be left out of what Postgres asks for; but then no rows are no group.
        let is_nothing = self.groups.is_empty() && (self.aggregates.is_empty() || !clauses.is_null());
        // SAFETY: the nodes are the planner's.
        if is_nothing { Err("nothing to group by".to_owned()) } else { Ok(unsafe { self.finish(&conditions) }) }
    }

    /// # Safety
    ///
    /// The node is an expression of the query.
    unsafe fn add_group(&mut self, node: *mut pg_sys::Node, reference: pg_sys::Index) -> Option<()> {
        // SAFETY: as the caller promises.
        let group = unsafe { self.source.value(node)? };
        // SAFETY: as above.
        let collation = unsafe { pg_sys::exprCollation(node) };
        let is_text = group.value_type == ValueType::Text;
        // Of numbers computed in 256 bits nothing is made but sums; and where there are no rows, a constant is no group.
        if group.value_type.is_wide()
            || !group.has_one_scale()
            || !group.value_type.is_grouped_by_bytes()
            || (is_text && !is_compared_by_bytes(collation))
        {
            return None;
        }
        // Different for Postgres, but one and the same to be computed: two columns that are one of the store.
        let named = |typed: &Typed| match typed.expression {
            Expression::Column(place) => Some((self.source.computable.stored(place), false)),
            Expression::Length(place) => Some((self.source.computable.stored(place), true)),
            _ => None,
        };
        let is_same = |known: &Typed| match (named(known), named(&group)) {
            (None, None) => known == &group,
            (known, group) => known == group,
        };
        if self.groups.iter().any(is_same) {
            return None;
        }
        self.groups.push(group);
        self.group_nodes.push((node, reference));
        Some(())
    }

    /// Adds the aggregates in an expression; every column in it must be a group.
    ///
    /// # Safety
    ///
    /// The node is an expression of the query.
    unsafe fn add_parts(&mut self, node: *mut pg_sys::Node) -> Result<(), String> {
        let flags = pg_sys::PVC_INCLUDE_AGGREGATES | pg_sys::PVC_RECURSE_WINDOWFUNCS | pg_sys::PVC_INCLUDE_PLACEHOLDERS;
        // SAFETY: as the caller promises.
        let found = unsafe { pg_sys::pull_var_clause(node, flags as i32) };
        // SAFETY: the result is a list of expressions.
        let found: Vec<*mut pg_sys::Node> = unsafe { list::elements(found) };
        for part in found {
            // SAFETY: the part is live.
            if unsafe { is_a(part, pg_sys::NodeTag::T_Aggref) } {
                // SAFETY: the tag says so.
                let added = unsafe { self.add_aggregate(part) };
                // SAFETY: as above.
                added.ok_or_else(|| unsafe { reasons::why(part, &mut self.source) })?;
            } else if !self.group_nodes.iter().any(|(group, _)| is_equal(*group, part)) {
                return Err("columns beside groups".to_owned());
            }
        }
        Ok(())
    }

    /// # Safety
    ///
    /// The node is an aggregate of the query.
    unsafe fn add_aggregate(&mut self, node: *mut pg_sys::Node) -> Option<()> {
        if self.aggregate_nodes.iter().any(|known| is_equal(*known, node)) {
            return Some(());
        }
        // SAFETY: as the caller promises.
        let aggregate = unsafe { &*node.cast::<pg_sys::Aggref>() };
        // SAFETY: as above.
        let aggregate = unsafe { self.aggregate(aggregate)? };
        self.aggregates.push(aggregate);
        self.aggregate_nodes.push(node);
        Some(())
    }

    /// # Safety
    ///
    /// The aggregate is one of the query.
    unsafe fn aggregate(&mut self, node: &pg_sys::Aggref) -> Option<Aggregate> {
        // SAFETY: it looks the function up.
        let result_type = || unsafe { pg_sys::get_func_rettype(node.aggfnoid) };
        // Of a part of the rows, something is wanted that Postgres goes on with: mostly that is the result for them.
        let is_complete = node.aggsplit == pg_sys::AggSplit::AGGSPLIT_SIMPLE
            || (node.aggsplit == pg_sys::AggSplit::AGGSPLIT_INITIAL_SERIAL && node.aggtranstype == result_type());
        let is_simple = is_complete
            && node.aggkind == NORMAL_AGGREGATE
            && node.agglevelsup == 0
            && node.aggorder.is_null()
            && !node.aggvariadic
            && node.aggfnoid.to_u32() < FIRST_OID_OF_OTHERS;
        if !is_simple {
            return None;
        }
        // SAFETY: it looks the function up.
        let name = unsafe { pg_sys::get_func_name(node.aggfnoid) };
        // SAFETY: the result is null or a string.
        let function = function_named(&unsafe { text_of(name) })?;
        // SAFETY: the arguments are target entries.
        let arguments: Vec<*mut pg_sys::TargetEntry> = unsafe { list::elements(node.args) };
        let argument = match arguments[..] {
            [] if node.aggstar => None,
            [argument] => {
                // SAFETY: the entry is live.
                let node = unsafe { (*argument).expr };
                // SAFETY: an entry has an expression.
                Some(unsafe { self.source.value(node.cast())? })
            }
            _ => return None,
        };
        let distinct = !node.aggdistinct.is_null();
        let collation = node.inputcollid;
        if !is_allowed(function, argument.as_ref(), distinct, collation) {
            return None;
        }
        // Where the filter is not true, Postgres does not compute the argument.
        let can_fail = argument.as_ref().is_some_and(Typed::can_fail);
        let filter = match node.aggfilter.is_null() {
            true => None,
            false if can_fail => return None,
            // SAFETY: the filter is a condition of the query.
            false => Some(unsafe { self.source.condition(node.aggfilter.cast())? }),
        };
        Some(Aggregate { function, argument, distinct, filter })
    }

    /// # Safety
    ///
    /// The conditions are the query's.
    unsafe fn finish(mut self, conditions: &[*mut pg_sys::Node]) -> Grouped {
        let outputs = Computable::of_outputs(self.tested_outputs());
        let (mut tested, mut left) = (Vec::new(), Vec::new());
        for condition in conditions {
            // SAFETY: as the caller promises.
            match unsafe { outputs.condition(*condition, &mut self.source.reader) } {
                Some(having) => tested.push(having),
                None => left.push(*condition),
            }
        }
        let nodes = self.group_nodes.iter().copied();
        let nodes = nodes.chain(self.aggregate_nodes.iter().map(|node| (*node, 0)));
        let entries = nodes.zip(1..).map(|((node, reference), number)| {
            // SAFETY: the expression is the planner's; the entry has no name.
            let entry = unsafe { pg_sys::makeTargetEntry(node.cast(), number, ptr::null_mut(), false) };
            // SAFETY: the entry was just made.
            unsafe { (*entry).ressortgroupref = reference };
            entry
        });
        let target = list::of(entries.collect::<Vec<_>>());
        let (having, conditions) = (Typed::all(tested), list::of(left));
        let wanted = Wanted::Groups { groups: self.groups, aggregates: self.aggregates, having };
        let (query, reader) = self.source.into_query(wanted, Vec::new());
        Grouped { query, reader, target, conditions }
    }

    /// The expressions behind groups and aggregates whose values can be computed with.
    fn tested_outputs(&self) -> Vec<(*mut pg_sys::Node, Typed)> {
        let groups = self.group_nodes.iter().zip(&self.groups).map(|((node, _), group)| {
            let is_text = group.value_type == ValueType::Text;
            (*node, Some(group.value_type).filter(|_| !is_text))
        });
        let aggregates = self.aggregate_nodes.iter().zip(&self.aggregates).map(|(node, aggregate)| {
            let is_extreme = matches!(aggregate.function, Function::Min | Function::Max);
            // Texts may be an enum's numbers, and floats their places in the order of floats.
            let is_it = |found: &ValueType| !(is_extreme && (*found == ValueType::Text || found.is_float()));
            (*node, aggregate.value_type().filter(is_it))
        });
        let typed = |(place, (node, value_type)): (usize, (_, Option<ValueType>))| {
            Some((node, Typed { expression: Expression::Output(place), value_type: value_type? }))
        };
        groups.chain(aggregates).enumerate().filter_map(typed).collect()
    }
}

fn function_named(name: &str) -> Option<Function> {
    Some(match name {
        "count" => Function::Count,
        "sum" => Function::Sum,
        "avg" => Function::Avg,
        "min" => Function::Min,
        "max" => Function::Max,
        "bool_and" | "every" => Function::BoolAnd,
        "bool_or" => Function::BoolOr,
        "var_pop" => Function::Deviation(Deviation { is_of_sample: false, is_root: false }),
        "var_samp" | "variance" => Function::Deviation(Deviation { is_of_sample: true, is_root: false }),
        "stddev_pop" => Function::Deviation(Deviation { is_of_sample: false, is_root: true }),
        "stddev_samp" | "stddev" => Function::Deviation(Deviation { is_of_sample: true, is_root: true }),
        _ => return None,
    })
}

/// Whether a function of an argument of this type is computed as Postgres does.
fn is_allowed(function: Function, argument: Option<&Typed>, distinct: bool, collation: pg_sys::Oid) -> bool {
    let Some(Typed { value_type, .. }) = argument else { return function == Function::Count };
    if !argument.is_some_and(Typed::has_one_scale) && !matches!(function, Function::Count | Function::Sum) {
        return false;
    }
    let is_number = matches!(value_type, ValueType::Numeric { .. }) || value_type.is_integer();
    if value_type.is_wide() && (distinct || !matches!(function, Function::Count | Function::Sum | Function::Avg)) {
        return false;
    }
    match function {
        Function::Count if !distinct => true,
        Function::Count => match value_type {
            ValueType::Text => is_compared_by_bytes(collation),
            other => other.is_grouped_by_bytes(),
        },
        // A sum of `real` is rounded to `real` row by row.
        Function::Sum => !distinct && (is_number || *value_type == ValueType::Float8),
        Function::Avg => !distinct && (is_number || value_type.is_float()),
        // Nothing is less for being there twice.
        Function::Min | Function::Max => match value_type {
            ValueType::Text => is_ordered_by_bytes(collation),
            ValueType::Date | ValueType::Time | ValueType::Timestamp | ValueType::TimestampTz => true,
            ValueType::Float4 | ValueType::Float8 => true,
            ValueType::Bool | ValueType::Bytea | ValueType::Uuid => false,
            ValueType::Int2 | ValueType::Int4 | ValueType::Int8 | ValueType::Numeric { .. } => true,
        },
        Function::BoolAnd | Function::BoolOr => *value_type == ValueType::Bool,
        Function::Deviation(_) if value_type.is_float() => !distinct,
        Function::Deviation(_) => {
            // A sum of squares must have room.
            let has_room =
                |value_type| matches!(value_type, ValueType::Numeric { precision: ..=SQUARED_DIGITS_MAX, .. });
            !distinct && value_type.as_numeric().is_some_and(has_room)
        }
    }
}
