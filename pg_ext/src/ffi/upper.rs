//! Aggregation that is computed before Postgres sees rows: whether it can be, and its plan.
//!
//! The rule is an allow-list. Whatever is not on it leaves the whole aggregation to Postgres, so that no answer ever differs
//! from what Postgres would compute of the same rows ([`crate::query`]).

use std::ffi::{c_char, c_void};
use std::ptr;

use pgrx::{is_a, pg_sys};

use super::catalog::pg_type;
use super::expressions::{Reader, is_compared_by_bytes, is_ordered_by_bytes};
use super::planner::{Planned, PlannedQuery, PlannedTable};
use super::{compat, has_utf8_alone, list, run, settings, text_of};
use crate::compute::RESULT_PREFIX;
use crate::error::{Result, Step};
use crate::filter::{Condition, Filter};
use crate::plan;
use crate::query::{Aggregate, Expression, Function, Query, TableColumn, TableRows, Typed, ValueType};
use crate::table::Table;
use crate::types::{Conversion, PgType};

/// Objects that `initdb` made have OIDs below this (`access/transam.h`).
const FIRST_OID_OF_OTHERS: u32 = 10_000;

/// `length(text)`, `character_length(text)` and `char_length(text)`.
const LENGTHS_OF_TEXT: [u32; 3] = [1317, 1369, 1381];

/// What `aggkind` is for a function that is neither an ordered-set nor a hypothetical-set one.
const NORMAL_AGGREGATE: c_char = b'n'.cast_signed();

/// The conditions on a table as a filter that the store can test as Postgres would; `None` if it cannot.
pub(super) fn exact_filter(table: &Table, conditions: &[Condition], reader: &Reader) -> Result<Option<Filter>> {
    if !settings::pushes_down() {
        return Ok(None);
    }
    let columns = columns_of(table)?;
    Ok(exact(&columns, conditions, reader))
}

fn exact(columns: &[TableColumn], conditions: &[Condition], reader: &Reader) -> Option<Filter> {
    let constants = reader.constants();
    let column = |number: i16| columns.iter().find(|column| column.number == number).map(|column| column.name.clone());
    Filter::exact(conditions, &column, &|operand| constants.get(operand).cloned().flatten())
}

/// The columns that can be computed with.
fn columns_of(table: &Table) -> Result<Vec<TableColumn>> {
    let snapshot = table.newest()?;
    let schema = snapshot.schema();
    let mut columns = Vec::new();
    for attribute in &table.attributes {
        let Some(position) = schema.index_of(attribute.store_name()) else { continue };
        let field = schema.field(position);
        let Ok(conversion) = Conversion::new(field, &attribute.declared) else { continue };
        let Some(value_type) = conversion.value_type(field.data_type(), attribute.declared.pg_type) else { continue };
        // In another encoding texts have other bytes, and another order.
        if (value_type == ValueType::Text && !has_utf8_alone()) || is_reserved(field.name()) {
            continue;
        }
        let (name, shown) = (field.name().to_owned(), attribute.declared.name.clone());
        columns.push(TableColumn { number: attribute.number, name, shown, value_type });
    }
    Ok(columns)
}

/// Offers a way to aggregate rows.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn get_foreign_upper_paths(
    root: *mut pg_sys::PlannerInfo,
    stage: pg_sys::UpperRelationKind::Type,
    input: *mut pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    extra: *mut c_void,
) {
    run(Step::UpperPaths, || {
        if stage != pg_sys::UpperRelationKind::UPPERREL_GROUP_AGG {
            return Ok(());
        }
        // SAFETY: the planner passes both relations.
        let (input, grouped) = (unsafe { &*input }, unsafe { &mut *output });
        if input.fdw_private.is_null() || !grouped.fdw_private.is_null() {
            return Ok(());
        }
        let Planned::Table(table) = Planned::of(input)? else { return Ok(()) };
        // SAFETY: for this stage it is this.
        let having = unsafe { (*extra.cast::<pg_sys::GroupPathExtraData>()).havingQual };
        let Some(filter) = table.exact.clone() else { return Ok(()) };
        let reader = table.reader.clone();
        let columns = columns_of(&table.table)?;
        let grouping = Grouping { columns, relation: input.relid, reader, ..Grouping::of(table) };
        // SAFETY: the planner's pointers are live.
        let parse = unsafe { (*root).parse };
        // SAFETY: as above.
        let parse = unsafe { &*parse };
        // SAFETY: as above.
        let Some(planned) = (unsafe { grouping.plan(parse, grouped, having, filter) }) else { return Ok(()) };
        // SAFETY: as above.
        unsafe { add_path(root, input, output, table, planned) };
        Ok(())
    });
}

/// # Safety
///
/// The planner's pointers are live.
unsafe fn add_path(
    root: *mut pg_sys::PlannerInfo,
    input: &pg_sys::RelOptInfo,
    output: *mut pg_sys::RelOptInfo,
    table: &PlannedTable,
    planned: PlannedQuery,
) {
    let groups = match planned.query.groups.len() {
        0 => 1.0,
        count => {
            // SAFETY: the entries of the target were made from the planner's expressions, groups first.
            let entries: Vec<*mut pg_sys::TargetEntry> = unsafe { list::elements(planned.target) };
            // SAFETY: as above.
            let keys = entries.iter().filter(|entry| unsafe { (***entry).ressortgroupref } > 0).take(count);
            // SAFETY: as above.
            let keys = list::of(keys.map(|entry| unsafe { (**entry).expr }));
            // SAFETY: the expressions are of the query.
            unsafe { pg_sys::estimate_num_groups(root, keys, input.rows, ptr::null_mut(), ptr::null_mut()) }
        }
    };
    // SAFETY: the conditions are of the query.
    let selectivity = unsafe {
        pg_sys::clauselist_selectivity(root, planned.conditions, 0, pg_sys::JoinType::JOIN_INNER, ptr::null_mut())
    };
    // SAFETY: reading a setting of the backend's only thread.
    let operator = unsafe { pg_sys::cpu_operator_cost };
    // SAFETY: as above.
    let tuple = unsafe { pg_sys::cpu_tuple_cost };
    let values = (planned.query.groups.len() + planned.query.aggregates.len()).max(1);
    let cost = plan::query_cost(operator, tuple, table.rows_read(), groups, values);
    let rows = (groups * selectivity).max(1.0);
    // SAFETY: a relation has a target.
    let target = unsafe { (*output).reltarget };
    // SAFETY: the planner's pointers are live.
    let path =
        unsafe { compat::create_foreign_upper_path(root, output, target, rows, cost.startup, cost.startup + cost.run) };
    // A worker that ran this would look for a snapshot of its own.
    // SAFETY: the path was just made.
    unsafe { (*path).path.parallel_safe = false };
    // SAFETY: the relation is the planner's, and nobody else has it now.
    Planned::Query(planned).keep_in(unsafe { &mut *output });
    // SAFETY: the path is of this relation.
    unsafe { pg_sys::add_path(output, path.cast()) };
}

/// What is found out about an aggregation.
struct Grouping {
    relation: pg_sys::Index,
    oid: u32,
    columns: Vec<TableColumn>,
    /// Of conditions; those of the table first.
    reader: Reader,
    groups: Vec<Typed>,
    aggregates: Vec<Aggregate>,
    /// The expressions behind the groups and aggregates, and where the query's GROUP BY names them.
    group_nodes: Vec<(*mut pg_sys::Node, pg_sys::Index)>,
    aggregate_nodes: Vec<*mut pg_sys::Node>,
}

impl Grouping {
    fn of(table: &PlannedTable) -> Self {
        Self {
            relation: 0,
            oid: table.relation.to_u32(),
            columns: Vec::new(),
            reader: Reader::new(0),
            groups: Vec::new(),
            aggregates: Vec::new(),
            group_nodes: Vec::new(),
            aggregate_nodes: Vec::new(),
        }
    }

    /// The plan of an aggregation of the rows that the filter leaves; `None` if it is Postgres' to compute.
    ///
    /// # Safety
    ///
    /// The arguments are the planner's.
    unsafe fn plan(
        mut self,
        parse: &pg_sys::Query,
        grouped: &pg_sys::RelOptInfo,
        having: *mut pg_sys::Node,
        filter: Filter,
    ) -> Option<PlannedQuery> {
        if !parse.groupingSets.is_null() {
            return None;
        }
        // SAFETY: a relation has a target.
        let target = unsafe { &*grouped.reltarget };
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
            let clause = unsafe { pg_sys::get_sortgroupref_clause_noerr(reference, parse.groupClause) };
            match reference > 0 && !clause.is_null() {
                // SAFETY: the node is the planner's.
                true => unsafe { self.add_group(node, reference)? },
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
        let is_nothing = self.groups.is_empty() && (self.aggregates.is_empty() || !parse.groupClause.is_null());
        (!is_nothing).then(|| self.finish(filter, having.cast()))
    }

    /// # Safety
    ///
    /// The node is an expression of the query.
    unsafe fn add_group(&mut self, node: *mut pg_sys::Node, reference: pg_sys::Index) -> Option<()> {
        // SAFETY: as the caller promises.
        let group = unsafe { self.expression(node)? };
        // SAFETY: as above.
        let collation = unsafe { pg_sys::exprCollation(node) };
        let is_text = group.value_type == ValueType::Text;
        if !group.value_type.is_grouped_by_bytes() || (is_text && !is_compared_by_bytes(collation)) {
            return None;
        }
        // Different for Postgres, but one and the same to be computed.
        let name = |typed: &Typed| &self.columns[typed.expression.column()].name;
        let is_length = |typed: &Typed| matches!(typed.expression, Expression::Length(_));
        let is_same = |known: &Typed| name(known) == name(&group) && is_length(known) == is_length(&group);
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
    unsafe fn add_parts(&mut self, node: *mut pg_sys::Node) -> Option<()> {
        let flags = pg_sys::PVC_INCLUDE_AGGREGATES | pg_sys::PVC_RECURSE_WINDOWFUNCS | pg_sys::PVC_INCLUDE_PLACEHOLDERS;
        // SAFETY: as the caller promises.
        let found = unsafe { pg_sys::pull_var_clause(node, flags as i32) };
        // SAFETY: the result is a list of expressions.
        let found: Vec<*mut pg_sys::Node> = unsafe { list::elements(found) };
        for part in found {
            // SAFETY: the part is live.
            if unsafe { is_a(part, pg_sys::NodeTag::T_Aggref) } {
                // SAFETY: the tag says so.
                unsafe { self.add_aggregate(part)? };
            } else {
                self.group_nodes.iter().find(|(group, _)| is_equal(*group, part))?;
            }
        }
        Some(())
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
        let is_simple = node.aggsplit == pg_sys::AggSplit::AGGSPLIT_SIMPLE
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
                Some(unsafe { self.expression(node.cast())? })
            }
            _ => return None,
        };
        let distinct = !node.aggdistinct.is_null();
        let collation = node.inputcollid;
        if !is_allowed(function, argument.as_ref(), distinct, collation) {
            return None;
        }
        let filter = match node.aggfilter.is_null() {
            true => None,
            // SAFETY: the filter is a condition of the query.
            false => Some(unsafe { self.condition(node.aggfilter.cast())? }),
        };
        Some(Aggregate { function, argument, distinct, filter })
    }

    /// # Safety
    ///
    /// The node is a condition of the query.
    unsafe fn condition(&mut self, node: *mut pg_sys::Expr) -> Option<Filter> {
        // SAFETY: as the caller promises.
        let condition = unsafe { self.reader.nested_condition(node) };
        exact(&self.columns, &[condition], &self.reader)
    }

    /// # Safety
    ///
    /// The node is an expression of the query.
    unsafe fn expression(&self, node: *mut pg_sys::Node) -> Option<Typed> {
        // SAFETY: as the caller promises.
        let header = unsafe { node.as_ref()? };
        match header.type_ {
            pg_sys::NodeTag::T_Var => {
                // SAFETY: the tag says so.
                let var = unsafe { &*node.cast::<pg_sys::Var>() };
                if u32::try_from(var.varno) != Ok(self.relation) || var.varlevelsup != 0 {
                    return None;
                }
                let place = self.columns.iter().position(|column| column.number == var.varattno)?;
                let value_type = self.columns[place].value_type;
                Some(Typed { expression: Expression::Column(place), value_type })
            }
            // From varchar to text.
            pg_sys::NodeTag::T_RelabelType => {
                // SAFETY: the tag says so.
                let relabel = unsafe { &*node.cast::<pg_sys::RelabelType>() };
                // SAFETY: as the caller promises.
                let inner = unsafe { self.expression(relabel.arg.cast())? };
                let is_text = inner.value_type == ValueType::Text && pg_type(relabel.resulttype) == Some(PgType::Text);
                is_text.then_some(inner)
            }
            pg_sys::NodeTag::T_FuncExpr => {
                // SAFETY: the tag says so.
                let call = unsafe { &*node.cast::<pg_sys::FuncExpr>() };
                // SAFETY: the arguments of a function are a list of expressions.
                let arguments: Vec<*mut pg_sys::Node> = unsafe { list::elements(call.args) };
                let [argument] = arguments[..] else { return None };
                if !LENGTHS_OF_TEXT.contains(&call.funcid.to_u32()) || !has_utf8_alone() {
                    return None;
                }
                // SAFETY: as the caller promises.
                match unsafe { self.expression(argument)? } {
                    Typed { expression: Expression::Column(place), value_type: ValueType::Text } => {
                        Some(Typed { expression: Expression::Length(place), value_type: ValueType::Int4 })
                    }
                    _ => None,
                }
            }
            _ => None,
        }
    }

    /// Numbers what is used of columns and operands, and says what the rows are.
    fn finish(self, filter: Filter, conditions: *mut pg_sys::List) -> PlannedQuery {
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
        let rows = TableRows { table: self.oid, columns: self.columns, filter: Some(filter) };
        let mut query = Query { rows, groups: self.groups, aggregates: self.aggregates, operands: Vec::new() };
        // The version that is read may lack others.
        query.keep_used_columns();
        let used = query.used_operands();
        query.renumber_operands(&used);
        let operands = self.reader.operands();
        query.operands = used.iter().map(|index| operands[*index].text.clone()).collect();
        let expressions = list::of(used.iter().map(|index| self.reader.expression(*index)));
        PlannedQuery { query, expressions, target, conditions }
    }
}

/// Whether a name may be one that plans have for something else: DataFusion's for what it counts once, and our own.
fn is_reserved(name: &str) -> bool {
    ["alias", "group_alias_", RESULT_PREFIX].iter().any(|prefix| name.starts_with(prefix))
}

fn is_equal(left: *mut pg_sys::Node, right: *mut pg_sys::Node) -> bool {
    // SAFETY: both are expressions of the query.
    unsafe { pg_sys::equal(left.cast_const().cast(), right.cast_const().cast()) }
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
        _ => return None,
    })
}

/// Whether a function of an argument of this type is computed as Postgres does.
fn is_allowed(function: Function, argument: Option<&Typed>, distinct: bool, collation: pg_sys::Oid) -> bool {
    let Some(Typed { value_type, .. }) = argument else { return function == Function::Count };
    let is_number = matches!(value_type, ValueType::Numeric { .. }) || value_type.is_integer();
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
    }
}
