//! Expressions of rows that the store can compute, conditions among them.

use pgrx::{is_a, pg_sys};
use soa_core::predicate::CompareOp;

use super::catalog::{FIRST_OID_OF_OTHERS, pg_type};
use super::conditions::{Operator, Reader, constant, plain_text};
use super::{check_for_interrupts, has_utf8_alone, list, parts, text_of};
use crate::compute::RESULT_PREFIX;
use crate::error::Result;
use crate::filter::{Condition, Filter};
use crate::query::{
    DIGITS_256, DatePart, EXPRESSION_NESTING_MAX, Expression, Operation, TableColumn, Typed, ValueType,
};
use crate::table::Table;
use crate::types::{Conversion, PgType, PgValue};

/// `length(text)`, `character_length(text)` and `char_length(text)`.
const LENGTHS_OF_TEXT: [u32; 3] = [1317, 1369, 1381];

/// `extract(text, date)` and `extract(text, timestamp)`.
const EXTRACTS: [u32; 2] = [6199, 6202];

/// Casts of numbers that are no errors, and what they make of them: integers to longer ones, to numeric and to floats, and
/// `real` to `double precision`.
const CASTS: [(u32, ValueType); 10] = [
    (313, ValueType::Int4),
    (754, ValueType::Int8),
    (481, ValueType::Int8),
    (1782, ValueType::Numeric { precision: 0, scale: 0 }),
    (1740, ValueType::Numeric { precision: 0, scale: 0 }),
    (1781, ValueType::Numeric { precision: 0, scale: 0 }),
    (235, ValueType::Float8),
    (316, ValueType::Float8),
    (482, ValueType::Float8),
    (311, ValueType::Float8),
];
/// More digits after the point than these are left to Postgres.
const SCALE_MAX: u8 = 30;

/// Relations of a query, and those of their columns that can be computed with.
#[derive(Clone)]
pub(super) struct Computable {
    /// By the places that the columns name.
    relations: Vec<pg_sys::Index>,
    pub(super) columns: Vec<TableColumn>,
    /// Where groups are tested: the expressions that they have values of.
    outputs: Vec<(*mut pg_sys::Node, Typed)>,
}

/// What is found out about a condition.
enum Tested {
    /// It is one on a table's rows alone, which a filter can say.
    Rows {
        table: usize,
        condition: Condition,
    },
    Computed(Typed),
}

impl Tested {
    fn into_condition(self) -> Option<Condition> {
        match self {
            Self::Rows { condition, .. } => Some(condition),
            Self::Computed(_) => None,
        }
    }
}

/// The table that all of these are conditions on, if it is one alone and filters can say them.
fn one_table(parts: &[Tested]) -> Option<usize> {
    let mut tables = parts.iter().map(|part| match part {
        Tested::Rows { table, .. } => Some(*table),
        Tested::Computed(_) => None,
    });
    let first = tables.next()??;
    tables.all(|table| table == Some(first)).then_some(first)
}

impl Computable {
    pub(super) fn new(relation: pg_sys::Index, table: &Table) -> Result<Self> {
        let snapshot = table.newest()?;
        let schema = snapshot.schema();
        let mut columns = Vec::new();
        for attribute in &table.attributes {
            let Some(position) = schema.index_of(attribute.store_name()) else { continue };
            let field = schema.field(position);
            let Ok(conversion) = Conversion::new(field, &attribute.declared) else { continue };
            let found = conversion.value_type(field.data_type(), attribute.declared.pg_type);
            let Some(value_type) = found else { continue };
            // In another encoding texts have other bytes, and another order.
            if (value_type == ValueType::Text && !has_utf8_alone()) || is_reserved(field.name()) {
                continue;
            }
            let (name, shown) = (field.name().to_owned(), attribute.declared.name.clone());
            columns.push(TableColumn { table: 0, number: attribute.number, name, shown, value_type });
        }
        Ok(Self { relations: vec![relation], columns, outputs: Vec::new() })
    }

    /// Nothing but the values of groups.
    pub(super) fn of_outputs(outputs: Vec<(*mut pg_sys::Node, Typed)>) -> Self {
        Self { relations: Vec::new(), columns: Vec::new(), outputs }
    }

    /// The value of groups that an expression is.
    fn output(&self, node: *mut pg_sys::Node) -> Option<Typed> {
        let found = self.outputs.iter().find(|(known, _)| is_equal(*known, node));
        found.map(|(_, output)| output.clone())
    }

    /// The columns of both, the other's after its own.
    pub(super) fn and(mut self, other: Self) -> Self {
        let tables = self.relations.len();
        self.relations.extend(other.relations);
        self.columns
            .extend(other.columns.into_iter().map(|column| TableColumn { table: column.table + tables, ..column }));
        self
    }

    /// What a column is in the stores: its table's place and its name there.
    pub(super) fn stored(&self, column: usize) -> (usize, &str) {
        let column = &self.columns[column];
        (column.table, &column.name)
    }

    /// The place of a relation among the tables.
    pub(super) fn table(&self, relation: i32) -> Option<usize> {
        self.relations.iter().position(|known| i32::try_from(*known) == Ok(relation))
    }

    /// What the conditions on a table say, all of which must hold, as a filter that the store can test as Postgres would; `None`
    /// if there is none.
    pub(super) fn filter(&self, table: usize, conditions: &[Condition], reader: &Reader) -> Option<Filter> {
        let name = |number: i16| {
            let column = self.columns.iter().find(|column| column.table == table && column.number == number);
            column.map(|column| column.name.clone())
        };
        Filter::exact(conditions, &name, &|operand| reader.constant(operand))
    }

    /// A condition as the store can test it: true where Postgres has it true, and nowhere else. `None` if it cannot; then the
    /// reader is as it was.
    ///
    /// # Safety
    ///
    /// The node is a condition of the query.
    pub(super) unsafe fn condition(&self, node: *mut pg_sys::Node, reader: &mut Reader) -> Option<Typed> {
        let known = reader.len();
        // SAFETY: as the caller promises.
        let condition = unsafe { self.read_condition(node, reader) };
        // Postgres may come to other rows, in another order.
        let condition = condition.filter(|condition| !condition.can_fail() && is_shallow(condition));
        if condition.is_none() {
            reader.truncate(known);
        }
        condition
    }

    /// # Safety
    ///
    /// As [`condition`](Self::condition).
    unsafe fn read_condition(&self, node: *mut pg_sys::Node, reader: &mut Reader) -> Option<Typed> {
        // SAFETY: as the caller promises.
        if unsafe { parts::is_nested_deeper(node, EXPRESSION_NESTING_MAX) } {
            return None;
        }
        // SAFETY: as above.
        let tested = unsafe { self.read_tested(node, reader)? };
        self.typed(tested, reader)
    }

    /// # Safety
    ///
    /// As [`condition`](Self::condition).
    unsafe fn read_tested(&self, node: *mut pg_sys::Node, reader: &mut Reader) -> Option<Tested> {
        check_for_interrupts();
        if let Some(output) = self.output(node) {
            return Some(output).filter(|output| output.value_type == ValueType::Bool).map(Tested::Computed);
        }
        // SAFETY: as the caller promises.
        if unsafe { is_a(node, pg_sys::NodeTag::T_BoolExpr) } {
            // SAFETY: the tag says so.
            let expression = unsafe { &*node.cast::<pg_sys::BoolExpr>() };
            // SAFETY: as the caller promises.
            return unsafe { self.read_bool_expr(expression, reader) };
        }
        let known = reader.len();
        // SAFETY: as the caller promises.
        if let Some(rows) = unsafe { self.read_rows(node, reader) } {
            return Some(rows);
        }
        reader.truncate(known);
        // SAFETY: as the caller promises.
        unsafe { self.read_simple_condition(node) }.map(Tested::Computed)
    }

    /// # Safety
    ///
    /// As [`condition`](Self::condition).
    unsafe fn read_bool_expr(&self, expression: &pg_sys::BoolExpr, reader: &mut Reader) -> Option<Tested> {
        // SAFETY: the arguments of such an expression are a list of expressions.
        let arguments: Vec<*mut pg_sys::Node> = unsafe { list::elements(expression.args) };
        // SAFETY: which are of the same query.
        let parts = arguments.into_iter().map(|part| unsafe { self.read_tested(part, reader) });
        let mut parts = parts.collect::<Option<Vec<_>>>()?;
        if expression.boolop == pg_sys::BoolExprType::NOT_EXPR {
            return match parts.pop()? {
                Tested::Rows { table, condition } => {
                    let condition = Condition::Not(Box::new(condition));
                    self.filter(table, std::slice::from_ref(&condition), reader)?;
                    Some(Tested::Rows { table, condition })
                }
                // What is not true may be false or NULL.
                Tested::Computed(part) if part.has_exact_nulls() => {
                    Some(Tested::Computed(Typed::condition(Expression::Not(Box::new(part)))))
                }
                Tested::Computed(_) => None,
            };
        }
        let is_and = expression.boolop == pg_sys::BoolExprType::AND_EXPR;
        if let Some(table) = one_table(&parts) {
            let conditions = parts.into_iter().filter_map(Tested::into_condition).collect();
            let condition = if is_and { Condition::And(conditions) } else { Condition::Or(conditions) };
            return Some(Tested::Rows { table, condition });
        }
        let parts = parts.into_iter().map(|part| self.typed(part, reader)).collect::<Option<_>>()?;
        Some(Tested::Computed(Typed::condition(if is_and { Expression::And(parts) } else { Expression::Or(parts) })))
    }

    /// A condition on one relation alone that no other condition is in, if a filter can say it.
    ///
    /// # Safety
    ///
    /// As [`condition`](Self::condition).
    unsafe fn read_rows(&self, node: *mut pg_sys::Node, reader: &mut Reader) -> Option<Tested> {
        // SAFETY: as the caller promises.
        let relation = unsafe { relation_of(node)? };
        let table = self.table(relation)?;
        // SAFETY: as the caller promises.
        let condition = unsafe { reader.on(self.relations[table]).nested_condition(node.cast()) };
        self.filter(table, std::slice::from_ref(&condition), reader)?;
        Some(Tested::Rows { table, condition })
    }

    /// As an expression.
    fn typed(&self, tested: Tested, reader: &Reader) -> Option<Typed> {
        match tested {
            Tested::Computed(typed) => Some(typed),
            Tested::Rows { table, condition } => {
                let filter = self.filter(table, &[condition], reader)?;
                Some(Typed::condition(Expression::Matches { table, filter }))
            }
        }
    }

    /// A condition that no other condition is in, and no filter can say.
    ///
    /// # Safety
    ///
    /// As [`condition`](Self::condition).
    unsafe fn read_simple_condition(&self, node: *mut pg_sys::Node) -> Option<Typed> {
        // SAFETY: as the caller promises.
        let header = unsafe { node.as_ref()? };
        match header.type_ {
            pg_sys::NodeTag::T_NullTest => {
                // SAFETY: the tag says so.
                let test = unsafe { &*node.cast::<pg_sys::NullTest>() };
                // SAFETY: as the caller promises.
                let argument = unsafe { self.expression(test.arg.cast())? };
                let is_null = Typed::condition(Expression::IsNull(Box::new(argument)));
                Some(match test.nulltesttype {
                    pg_sys::NullTestType::IS_NULL => is_null,
                    _ => Typed::condition(Expression::Not(Box::new(is_null))),
                })
            }
            pg_sys::NodeTag::T_OpExpr => {
                // SAFETY: the tag says so.
                let call = unsafe { &*node.cast::<pg_sys::OpExpr>() };
                // SAFETY: as the caller promises.
                if let Some(like) = unsafe { self.like(call) } {
                    return Some(like);
                }
                // SAFETY: as the caller promises.
                let (op, left, right) = unsafe { self.comparison(call)? };
                Some(Typed::condition(Expression::Compare {
                    op: op.into(),
                    left: Box::new(left),
                    right: Box::new(right),
                }))
            }
            _ => None,
        }
    }

    /// Whether a text is like a constant pattern, or is not.
    ///
    /// # Safety
    ///
    /// The operator's call is a condition of the query.
    unsafe fn like(&self, call: &pg_sys::OpExpr) -> Option<Typed> {
        let is_wanted = match Operator::find(call.opno, call.inputcollid)? {
            Operator::Like => true,
            Operator::NotLike => false,
            Operator::Compare(_) => return None,
        };
        // SAFETY: the arguments of an operator are a list of expressions.
        let arguments: Vec<*mut pg_sys::Node> = unsafe { list::elements(call.args) };
        let &[text, pattern] = arguments.as_slice() else { return None };
        // SAFETY: as the caller promises.
        let text = unsafe { self.expression(text)? };
        // SAFETY: as above.
        let Some(PgValue::Text(pattern)) = (unsafe { constant(pattern.cast()) }) else { return None };
        if text.value_type != ValueType::Text || pattern.contains('\\') {
            return None;
        }
        let like = Typed::condition(Expression::Like { text: Box::new(text), pattern });
        Some(if is_wanted { like } else { Typed::condition(Expression::Not(Box::new(like))) })
    }

    /// The value beside the first condition that is true.
    ///
    /// # Safety
    ///
    /// The expression is one of the query, and so is what the reader has read.
    unsafe fn case(&self, case: &pg_sys::CaseExpr, reader: &mut Reader) -> Option<Typed> {
        if !case.arg.is_null() {
            return None;
        }
        // SAFETY: the branches are a list of these.
        let nodes: Vec<*mut pg_sys::CaseWhen> = unsafe { list::elements(case.args) };
        let mut branches = Vec::with_capacity(nodes.len());
        for node in nodes {
            // SAFETY: the list's elements are live.
            let branch = unsafe { &*node };
            // SAFETY: its expressions are the query's.
            let condition = unsafe { self.condition(branch.expr.cast(), reader)? };
            // SAFETY: as above.
            branches.push((condition, unsafe { self.value(branch.result.cast(), reader)? }));
        }
        // SAFETY: the expression is live.
        let otherwise = match unsafe { is_null(case.defresult.cast()) } {
            true => None,
            // SAFETY: as above.
            false => Some(Box::new(unsafe { self.value(case.defresult.cast(), reader)? })),
        };
        let expression = Expression::Case { branches, otherwise };
        let value_type = expression.case_values().map(|value| value.value_type).reduce(ValueType::widest)?;
        let is_one = |value: &Typed| match value_type {
            ValueType::Numeric { .. } => matches!(value.value_type, ValueType::Numeric { .. }),
            other => value.value_type == other,
        };
        // Postgres computes none but the value that is asked for.
        let is_safe = expression.case_values().all(|value| is_one(value) && !value.can_fail());
        let typed = Typed { expression, value_type };
        (is_safe && value_type.can_be_computed() && is_shallow(&typed)).then_some(typed)
    }

    /// The two values that are compared.
    ///
    /// # Safety
    ///
    /// The operator's call is a condition of the query.
    pub(super) unsafe fn comparison(&self, call: &pg_sys::OpExpr) -> Option<(CompareOp, Typed, Typed)> {
        let Operator::Compare(op) = Operator::find(call.opno, call.inputcollid)? else { return None };
        // SAFETY: the arguments of an operator are a list of expressions.
        let arguments: Vec<*mut pg_sys::Node> = unsafe { list::elements(call.args) };
        let &[left, right] = arguments.as_slice() else { return None };
        // SAFETY: as the caller promises.
        let (left, right) = (unsafe { self.expression(left)? }, unsafe { self.expression(right)? });
        left.value_type.is_comparable_with(right.value_type).then_some((op, left, right))
    }

    /// An expression, with the conditions in it, as the store can compute it; `None` if it cannot.
    ///
    /// # Safety
    ///
    /// The node is an expression of the query.
    pub(super) unsafe fn value(&self, node: *mut pg_sys::Node, reader: &mut Reader) -> Option<Typed> {
        // SAFETY: as the caller promises.
        if !unsafe { is_a(node, pg_sys::NodeTag::T_CaseExpr) } {
            // SAFETY: as above.
            return unsafe { self.expression(node) };
        }
        // SAFETY: as above.
        if unsafe { parts::is_nested_deeper(node, EXPRESSION_NESTING_MAX) } {
            return None;
        }
        // SAFETY: the tag says so.
        let case = unsafe { &*node.cast::<pg_sys::CaseExpr>() };
        // SAFETY: as the caller promises.
        unsafe { self.case(case, reader) }
    }

    /// An expression without conditions as the store can compute it; `None` if it cannot.
    ///
    /// # Safety
    ///
    /// The node is an expression of the query.
    pub(super) unsafe fn expression(&self, node: *mut pg_sys::Node) -> Option<Typed> {
        // SAFETY: as the caller promises.
        if unsafe { parts::is_nested_deeper(node, EXPRESSION_NESTING_MAX) } {
            return None;
        }
        // SAFETY: as above.
        unsafe { self.read_expression(node) }.filter(is_shallow)
    }

    /// # Safety
    ///
    /// As [`expression`](Self::expression).
    unsafe fn read_expression(&self, node: *mut pg_sys::Node) -> Option<Typed> {
        if let Some(output) = self.output(node) {
            return Some(output);
        }
        // SAFETY: as the caller promises.
        let header = unsafe { node.as_ref()? };
        match header.type_ {
            pg_sys::NodeTag::T_Var => {
                // SAFETY: the tag says so.
                let var = unsafe { &*node.cast::<pg_sys::Var>() };
                let table = self.table(var.varno).filter(|_| var.varlevelsup == 0)?;
                let is_it = |column: &TableColumn| column.table == table && column.number == var.varattno;
                let place = self.columns.iter().position(is_it)?;
                let value_type = self.columns[place].value_type;
                Some(Typed { expression: Expression::Column(place), value_type })
            }
            // From varchar to text.
            pg_sys::NodeTag::T_RelabelType => {
                // SAFETY: the tag says so.
                let relabel = unsafe { &*node.cast::<pg_sys::RelabelType>() };
                // SAFETY: as the caller promises.
                let inner = unsafe { self.read_expression(relabel.arg.cast())? };
                let is_text = inner.value_type == ValueType::Text && pg_type(relabel.resulttype) == Some(PgType::Text);
                is_text.then_some(inner)
            }
            pg_sys::NodeTag::T_FuncExpr => {
                // SAFETY: the tag says so.
                let call = unsafe { &*node.cast::<pg_sys::FuncExpr>() };
                // SAFETY: the arguments of a function are a list of expressions.
                let arguments: Vec<*mut pg_sys::Node> = unsafe { list::elements(call.args) };
                let is_extract = EXTRACTS.contains(&call.funcid.to_u32());
                let (argument, part) = match *arguments.as_slice() {
                    [part, from] if is_extract => {
                        // SAFETY: as the caller promises.
                        let part = unsafe { date_part(part)? };
                        (from, Some(part))
                    }
                    [argument, ..] => (argument, None),
                    [] => return None,
                };
                // SAFETY: as the caller promises.
                let argument = unsafe { self.read_expression(argument)? };
                match part {
                    Some(part) => Some(extract(part, argument)),
                    None => called(call, argument),
                }
            }
            pg_sys::NodeTag::T_Const => {
                // SAFETY: the tag says so.
                let constant = unsafe { &*node.cast::<pg_sys::Const>() };
                number(constant)
            }
            pg_sys::NodeTag::T_OpExpr => {
                // SAFETY: the tag says so.
                let call = unsafe { &*node.cast::<pg_sys::OpExpr>() };
                // SAFETY: the arguments of an operator are a list of expressions.
                let arguments: Vec<*mut pg_sys::Node> = unsafe { list::elements(call.args) };
                let &[left, right] = arguments.as_slice() else { return None };
                // SAFETY: as the caller promises.
                let (left, right) = (unsafe { self.read_expression(left)? }, unsafe { self.read_expression(right)? });
                arithmetic(call, left, right)
            }
            _ => None,
        }
    }
}

/// Whether an expression is not nested deeper than a plan can have it.
fn is_shallow(typed: &Typed) -> bool {
    typed.nesting() <= EXPRESSION_NESTING_MAX
}

/// The relation whose columns are in an expression, if it is one alone.
///
/// # Safety
///
/// The node is an expression of the query.
unsafe fn relation_of(node: *mut pg_sys::Node) -> Option<i32> {
    let flags = pg_sys::PVC_RECURSE_AGGREGATES | pg_sys::PVC_RECURSE_WINDOWFUNCS | pg_sys::PVC_RECURSE_PLACEHOLDERS;
    // SAFETY: as the caller promises.
    let found = unsafe { pg_sys::pull_var_clause(node, flags as i32) };
    // SAFETY: which is a list of columns.
    let found: Vec<*mut pg_sys::Var> = unsafe { list::elements(found) };
    // SAFETY: they are the query's.
    let mut relations = found.into_iter().map(|var| unsafe { (*var).varno });
    let first = relations.next()?;
    relations.all(|relation| relation == first).then_some(first)
}

/// Whether an expression is the constant NULL.
///
/// # Safety
///
/// The node is an expression of the query.
unsafe fn is_null(node: *mut pg_sys::Node) -> bool {
    // SAFETY: as the caller promises.
    if !unsafe { is_a(node, pg_sys::NodeTag::T_Const) } {
        return false;
    }
    // SAFETY: the tag says so.
    let constant = unsafe { &*node.cast::<pg_sys::Const>() };
    constant.constisnull
}

/// The part of a date that a constant names.
///
/// # Safety
///
/// The node is an expression of the query.
unsafe fn date_part(node: *mut pg_sys::Node) -> Option<DatePart> {
    // SAFETY: as the caller promises.
    match unsafe { constant(node.cast())? } {
        PgValue::Text(name) => DatePart::named(&name),
        _ => None,
    }
}

fn extract(part: DatePart, from: Typed) -> Typed {
    let value_type = ValueType::Numeric { precision: 10, scale: 0 };
    Typed { expression: Expression::Extract { part, from: Box::new(from) }, value_type }
}

/// A function's value; a call has one argument, or one that counts.
fn called(call: &pg_sys::FuncExpr, argument: Typed) -> Option<Typed> {
    let function = call.funcid.to_u32();
    if LENGTHS_OF_TEXT.contains(&function) && has_utf8_alone() {
        return match argument {
            Typed { expression: Expression::Column(place), value_type: ValueType::Text } => {
                Some(Typed { expression: Expression::Length(place), value_type: ValueType::Int4 })
            }
            _ => None,
        };
    }
    let (_, value_type) = CASTS.iter().find(|(known, _)| *known == function)?;
    let value_type = match *value_type {
        ValueType::Numeric { .. } => argument.value_type.as_numeric()?,
        other => other,
    };
    Some(Typed { expression: Expression::Cast(Box::new(argument)), value_type })
}

/// A constant number.
fn number(constant: &pg_sys::Const) -> Option<Typed> {
    if constant.constisnull {
        return None;
    }
    let integer =
        |value: i64, value_type| Some(Typed { expression: Expression::Number { digits: value, scale: 0 }, value_type });
    let raw = constant.constvalue.value();
    match pg_type(constant.consttype)? {
        PgType::Int2 => integer((raw as i16).into(), ValueType::Int2),
        PgType::Int4 => integer((raw as i32).into(), ValueType::Int4),
        PgType::Int8 => integer(raw as i64, ValueType::Int8),
        PgType::Float8 => {
            let expression = Expression::Float { bits: raw as u64 };
            Some(Typed { expression, value_type: ValueType::Float8 })
        }
        PgType::Numeric => {
            // The digits that are shown are part of the value.
            let text = plain_text(constant);
            let (whole, fraction) = text.split_once('.').unwrap_or((&text, ""));
            let digits: i64 = [whole, fraction].concat().parse().ok()?;
            let scale = u8::try_from(fraction.len()).ok().filter(|scale| *scale <= SCALE_MAX)?;
            let precision = digits.unsigned_abs().checked_ilog10().map_or(1, |digits| digits as u8 + 1).max(scale + 1);
            let value_type = ValueType::Numeric { precision, scale };
            Some(Typed { expression: Expression::Number { digits, scale }, value_type })
        }
        _ => None,
    }
}

/// What an operator makes of two numbers.
fn arithmetic(call: &pg_sys::OpExpr, left: Typed, right: Typed) -> Option<Typed> {
    if call.opno.to_u32() >= FIRST_OID_OF_OTHERS {
        return None;
    }
    // SAFETY: it looks the operator up.
    let name = unsafe { pg_sys::get_opname(call.opno) };
    // SAFETY: the result is null or a string.
    let op = match unsafe { text_of(name) }.as_str() {
        "+" => Operation::Add,
        "-" => Operation::Subtract,
        "*" => Operation::Multiply,
        _ => return None,
    };
    let value_type = match (left.value_type, right.value_type, pg_type(call.opresulttype)?) {
        (left, right, PgType::Int2) if left.is_integer() && right.is_integer() => ValueType::Int2,
        (left, right, PgType::Int4) if left.is_integer() && right.is_integer() => ValueType::Int4,
        (left, right, PgType::Int8) if left.is_integer() && right.is_integer() => ValueType::Int8,
        (left, right, PgType::Float8) if left.is_float() && right.is_float() => ValueType::Float8,
        (
            ValueType::Numeric { precision: p, scale: s },
            ValueType::Numeric { precision: q, scale: t },
            PgType::Numeric,
        ) => {
            let (precision, scale) = match op {
                Operation::Multiply => (p.checked_add(q)?, s.checked_add(t)?),
                Operation::Add | Operation::Subtract => {
                    let scale = s.max(t);
                    (p.saturating_sub(s).max(q.saturating_sub(t)).checked_add(scale)?.checked_add(1)?, scale)
                }
            };
            if precision > DIGITS_256 || scale > SCALE_MAX {
                return None;
            }
            ValueType::Numeric { precision, scale }
        }
        _ => return None,
    };
    let expression = Expression::Arithmetic { op, left: Box::new(left), right: Box::new(right) };
    Some(Typed { expression, value_type })
}

/// Whether a name may be one that plans have for something else: DataFusion's for what it counts once, and our own.
fn is_reserved(name: &str) -> bool {
    ["alias", "group_alias_", RESULT_PREFIX].iter().any(|prefix| name.starts_with(prefix))
}

/// Whether two expressions of a query are one and the same.
pub(super) fn is_equal(left: *mut pg_sys::Node, right: *mut pg_sys::Node) -> bool {
    // SAFETY: both are expressions of the query.
    unsafe { pg_sys::equal(left.cast_const().cast(), right.cast_const().cast()) }
}
