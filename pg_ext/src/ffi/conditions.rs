//! Reading the conditions of a query from Postgres' expression trees.
//!
//! What is understood is on an allow-list: operators of Postgres' own, on pairs of types whose comparison the store has
//! as well, under collations that compare by bytes. Everything else is [`Condition::Unknown`], and left to Postgres.

use std::rc::Rc;

use pgrx::{is_a, pg_sys};
use soa_core::predicate::CompareOp;

use super::catalog::{FIRST_OID_OF_OTHERS, pg_type};
use super::collations::{is_compared_by_bytes, is_ordered_by_bytes};
use super::{list, text_of, values};
use crate::filter::{Condition, NESTING_MAX, Operand};
use crate::types::{PgType, PgValue};

/// Casts that keep every value and the order of values: int2 to int4 and int8, int4 to int8, float4 to float8, and
/// int2, int4 and int8 to numeric.
const CASTS_THAT_KEEP_VALUES: [u32; 7] = [313, 754, 481, 311, 1782, 1740, 1781];

/// Functions that raise no error but for times beyond all calendars: `now()`, times plus and minus an interval, dates plus
/// and minus days, and the casts between date, timestamp and timestamptz.
const FUNCTIONS_WITHOUT_ERRORS: [u32; 13] =
    [1299, 1189, 1190, 2032, 2033, 1141, 1142, 1178, 2029, 2024, 1174, 2027, 2028];

/// Reads the conditions on one relation after the other, and keeps the expressions that they compare with.
#[derive(Clone)]
pub(super) struct Reader {
    relation: pg_sys::Index,
    operands: Vec<ReadOperand>,
    /// Whether other relations' columns have one value for the whole scan: that of a row which it is started for.
    is_for_row: bool,
}

/// An expression that a column is compared with.
#[derive(Clone)]
struct ReadOperand {
    operand: Operand,
    node: *mut pg_sys::Expr,
    /// Its value if it is a constant, which may be a long array.
    constant: Option<Rc<PgValue>>,
}

/// Where in a query's condition an expression is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Place {
    /// One of the conditions that all must hold.
    Top,
    /// Beneath an OR or a NOT, where Postgres might not get to evaluate it.
    Nested,
}

impl Reader {
    pub(super) fn new(relation: pg_sys::Index) -> Self {
        Self { relation, operands: Vec::new(), is_for_row: false }
    }

    /// Goes on with conditions on this relation and others, for whose rows it is scanned one by one.
    pub(super) fn for_rows_of_others(&mut self) {
        self.is_for_row = true;
    }

    /// Goes on with the conditions on a relation.
    pub(super) fn on(&mut self, relation: pg_sys::Index) -> &mut Self {
        self.relation = relation;
        self
    }

    /// Adds the expressions of another one after its own.
    pub(super) fn append(&mut self, other: Self) {
        self.operands.extend(other.operands);
    }

    /// How many expressions there are.
    pub(super) fn len(&self) -> usize {
        self.operands.len()
    }

    /// Forgets all expressions but so many, the first ones.
    pub(super) fn truncate(&mut self, len: usize) {
        self.operands.truncate(len);
    }

    /// Reads a condition.
    ///
    /// # Safety
    ///
    /// The expression is one of a query on the relation.
    pub(super) unsafe fn condition(&mut self, expression: *mut pg_sys::Expr) -> Condition {
        // SAFETY: as the caller promises.
        unsafe { self.read(expression.cast(), Place::Top, NESTING_MAX) }
    }

    /// Reads a condition that Postgres might not come to evaluate.
    ///
    /// # Safety
    ///
    /// The expression is one of a query on the relation.
    pub(super) unsafe fn nested_condition(&mut self, expression: *mut pg_sys::Expr) -> Condition {
        // SAFETY: as the caller promises.
        unsafe { self.read(expression.cast(), Place::Nested, NESTING_MAX) }
    }

    /// Takes an expression whose value a plan needs before its first row; `None` if it is not one of the query's own constants
    /// and parameters.
    ///
    /// # Safety
    ///
    /// The node is an expression of the query.
    pub(super) unsafe fn number(&mut self, node: *mut pg_sys::Node) -> Option<usize> {
        // SAFETY: as the caller promises.
        unsafe { self.operand(node, Place::Nested) }.map(|operand| operand.index)
    }

    /// The expressions that the conditions compare with.
    pub(super) fn operands(&self) -> Vec<Operand> {
        self.operands.iter().map(|read| read.operand.clone()).collect()
    }

    /// The expression in a place.
    pub(super) fn expression(&self, index: usize) -> *mut pg_sys::Expr {
        self.operands[index].node
    }

    /// Whether the expression in a place is a value that an outer query gives, and may give again and again.
    pub(super) fn is_given_from_outside(&self, index: usize) -> bool {
        let node = self.expression(index).cast::<pg_sys::Node>();
        // SAFETY: the expressions are those of the query.
        if !unsafe { is_a(node, pg_sys::NodeTag::T_Param) } {
            return false;
        }
        // SAFETY: the tag says so.
        let parameter = unsafe { &*node.cast::<pg_sys::Param>() };
        parameter.paramkind == pg_sys::ParamKind::PARAM_EXEC
    }

    /// The value of the expression in a place if it is a constant.
    pub(super) fn constant(&self, index: usize) -> Option<&PgValue> {
        self.operands.get(index)?.constant.as_deref()
    }

    /// The values of those that are constants.
    pub(super) fn constants(&self) -> Vec<Option<PgValue>> {
        self.operands.iter().map(|read| read.constant.as_deref().cloned()).collect()
    }

    /// What is nested in more than so many levels is not looked at.
    ///
    /// # Safety
    ///
    /// As [`condition`](Self::condition).
    unsafe fn read(&mut self, node: *mut pg_sys::Node, place: Place, levels: usize) -> Condition {
        // SAFETY: the node is live.
        let Some(header) = (unsafe { node.as_ref() }) else { return Condition::Unknown };
        match header.type_ {
            pg_sys::NodeTag::T_BoolExpr => {
                // SAFETY: the tag says what the node is; here and below.
                let expression = unsafe { &*node.cast::<pg_sys::BoolExpr>() };
                // SAFETY: as above.
                unsafe { self.read_bool_expr(expression, place, levels) }
            }
            pg_sys::NodeTag::T_OpExpr => {
                // SAFETY: as above.
                let expression = unsafe { &*node.cast::<pg_sys::OpExpr>() };
                // SAFETY: as above.
                unsafe { self.read_operator(expression, place) }
            }
            pg_sys::NodeTag::T_ScalarArrayOpExpr => {
                // SAFETY: as above.
                let expression = unsafe { &*node.cast::<pg_sys::ScalarArrayOpExpr>() };
                // SAFETY: as above.
                unsafe { self.read_array_operator(expression, place) }
            }
            pg_sys::NodeTag::T_NullTest => {
                // SAFETY: as above.
                let test = unsafe { &*node.cast::<pg_sys::NullTest>() };
                let Some((attribute, _)) = self.column(test.arg.cast()) else { return Condition::Unknown };
                match test.nulltesttype {
                    pg_sys::NullTestType::IS_NULL => Condition::IsNull(attribute),
                    _ => Condition::Not(Box::new(Condition::IsNull(attribute))),
                }
            }
            pg_sys::NodeTag::T_BooleanTest => {
                // SAFETY: as above.
                let test = unsafe { &*node.cast::<pg_sys::BooleanTest>() };
                self.read_boolean_test(test)
            }
            pg_sys::NodeTag::T_Var => match self.column(node) {
                Some((attribute, PgType::Bool)) => Condition::IsBool { attribute, value: true, exact: true },
                _ => Condition::Unknown,
            },
            _ => Condition::Unknown,
        }
    }

    /// # Safety
    ///
    /// As [`condition`](Self::condition).
    unsafe fn read_bool_expr(&mut self, expression: &pg_sys::BoolExpr, place: Place, levels: usize) -> Condition {
        let inner = if expression.boolop == pg_sys::BoolExprType::AND_EXPR { place } else { Place::Nested };
        let Some(levels) = levels.checked_sub(1) else { return Condition::Unknown };
        // SAFETY: the arguments of such an expression are a list of expressions.
        let arguments: Vec<*mut pg_sys::Node> = unsafe { list::elements(expression.args) };
        // SAFETY: which are of the same query.
        let parts = arguments.into_iter().map(|node| unsafe { self.read(node, inner, levels) });
        let mut parts: Vec<Condition> = parts.collect();
        match (expression.boolop, parts.pop()) {
            (pg_sys::BoolExprType::NOT_EXPR, Some(part)) => Condition::Not(Box::new(part)),
            (pg_sys::BoolExprType::AND_EXPR, Some(last)) => {
                parts.push(last);
                Condition::And(parts)
            }
            (pg_sys::BoolExprType::OR_EXPR, Some(last)) => {
                parts.push(last);
                Condition::Or(parts)
            }
            _ => Condition::Unknown,
        }
    }

    /// # Safety
    ///
    /// As [`condition`](Self::condition).
    unsafe fn read_operator(&mut self, expression: &pg_sys::OpExpr, place: Place) -> Condition {
        // SAFETY: the arguments of an operator are a list of expressions.
        let arguments: Vec<*mut pg_sys::Node> = unsafe { list::elements(expression.args) };
        let [left, right] = arguments[..] else { return Condition::Unknown };
        let Some(operator) = Operator::find(expression.opno, expression.inputcollid) else {
            return Condition::Unknown;
        };
        let (column, other, flipped) = match (self.column(left), self.column(right)) {
            (Some(column), None) => (column, right, false),
            (None, Some(column)) => (column, left, true),
            _ => return Condition::Unknown,
        };
        // SAFETY: the other side is an expression of the query.
        let Some(operand) = (unsafe { self.operand(other, place) }) else { return Condition::Unknown };
        let (attribute, _) = column;
        match operator {
            Operator::Compare(op) => {
                Condition::Compare { attribute, op: if flipped { op.flipped() } else { op }, operand }
            }
            Operator::Like if !flipped => Condition::Like { attribute, operand },
            Operator::Like | Operator::NotLike => Condition::Unknown,
        }
    }

    /// # Safety
    ///
    /// As [`condition`](Self::condition).
    unsafe fn read_array_operator(&mut self, expression: &pg_sys::ScalarArrayOpExpr, place: Place) -> Condition {
        // SAFETY: the arguments of such an expression are a list of expressions.
        let arguments: Vec<*mut pg_sys::Node> = unsafe { list::elements(expression.args) };
        let [left, right] = arguments[..] else { return Condition::Unknown };
        let operator = Operator::find(expression.opno, expression.inputcollid);
        let Some((attribute, _)) = self.column(left) else { return Condition::Unknown };
        // SAFETY: the other side is an expression of the query.
        let Some(operand) = (unsafe { self.operand(right, place) }) else { return Condition::Unknown };
        match (operator, expression.useOr) {
            (Some(Operator::Compare(CompareOp::Eq)), true) => Condition::EqualsAny { attribute, operand },
            (Some(Operator::Compare(CompareOp::NotEq)), false) => Condition::DiffersFromAll { attribute, operand },
            _ => Condition::Unknown,
        }
    }

    fn read_boolean_test(&self, test: &pg_sys::BooleanTest) -> Condition {
        let Some((attribute, PgType::Bool)) = self.column(test.arg.cast()) else { return Condition::Unknown };
        match test.booltesttype {
            pg_sys::BoolTestType::IS_TRUE => Condition::IsBool { attribute, value: true, exact: false },
            pg_sys::BoolTestType::IS_FALSE => Condition::IsBool { attribute, value: false, exact: false },
            pg_sys::BoolTestType::IS_UNKNOWN => Condition::IsNull(attribute),
            pg_sys::BoolTestType::IS_NOT_UNKNOWN => Condition::Not(Box::new(Condition::IsNull(attribute))),
            _ => Condition::Unknown,
        }
    }

    /// The column that an expression is, also under casts that keep its values and their order, and the column's type.
    fn column(&self, node: *mut pg_sys::Node) -> Option<(i16, PgType)> {
        // SAFETY: callers pass nodes of the query.
        let header = unsafe { node.as_ref() }?;
        match header.type_ {
            pg_sys::NodeTag::T_Var => {
                // SAFETY: the tag says so.
                let var = unsafe { &*node.cast::<pg_sys::Var>() };
                let is_ours = u32::try_from(var.varno) == Ok(self.relation) && var.varlevelsup == 0;
                let pg_type = pg_type(var.vartype)?;
                (is_ours && var.varattno > 0).then_some((var.varattno, pg_type))
            }
            // From varchar to text.
            pg_sys::NodeTag::T_RelabelType => {
                // SAFETY: the tag says so.
                let relabel = unsafe { &*node.cast::<pg_sys::RelabelType>() };
                let (attribute, inner) = self.column(relabel.arg.cast())?;
                (inner == PgType::Text && relabel.resulttype == pg_sys::TEXTOID).then_some((attribute, inner))
            }
            pg_sys::NodeTag::T_FuncExpr => {
                // SAFETY: the tag says so.
                let call = unsafe { &*node.cast::<pg_sys::FuncExpr>() };
                if !CASTS_THAT_KEEP_VALUES.contains(&call.funcid.to_u32()) {
                    return None;
                }
                // SAFETY: the arguments of a function are a list of expressions.
                let arguments: Vec<*mut pg_sys::Node> = unsafe { list::elements(call.args) };
                self.column(*arguments.first()?)
            }
            _ => None,
        }
    }

    /// Takes an expression that the store's column is compared with, if it has one value for the whole scan.
    ///
    /// # Safety
    ///
    /// The node is an expression of the query.
    unsafe fn operand(&mut self, node: *mut pg_sys::Node, place: Place) -> Option<Operand> {
        // SAFETY: as the caller promises.
        let fixed = Fixed {
            // A subquery that Postgres might not have come to must not be run.
            subqueries: place == Place::Top,
            others_than: (self.is_for_row && place == Place::Top).then_some(self.relation),
        };
        // SAFETY: as the caller promises.
        let is_fixed = unsafe { is_simple(node, fixed) };
        if !is_fixed {
            return None;
        }
        // SAFETY: as the caller promises.
        let operand = Operand { index: self.operands.len(), text: unsafe { operand_text(node) } };
        // SAFETY: as above.
        let constant = unsafe { constant(node.cast()) }.map(Rc::new);
        self.operands.push(ReadOperand { operand: operand.clone(), node: node.cast(), constant });
        Some(operand)
    }
}

/// An operator that the store has as well.
pub(super) enum Operator {
    Compare(CompareOp),
    Like,
    NotLike,
}

impl Operator {
    pub(super) fn find(operator: pg_sys::Oid, collation: pg_sys::Oid) -> Option<Self> {
        if operator.to_u32() >= FIRST_OID_OF_OTHERS {
            return None;
        }
        // SAFETY: it looks the operator up.
        let name = unsafe { pg_sys::get_opname(operator) };
        // SAFETY: the result is null or a string.
        let name = unsafe { text_of(name) };
        let (mut left, mut right) = (pg_sys::InvalidOid, pg_sys::InvalidOid);
        // SAFETY: it looks the operator up and writes to the two places.
        unsafe { pg_sys::op_input_types(operator, &raw mut left, &raw mut right) };
        let (left, right) = (pg_type(left)?, pg_type(right)?);
        let is_integer = |pg_type| matches!(pg_type, PgType::Int2 | PgType::Int4 | PgType::Int8);
        let is_float = |pg_type| matches!(pg_type, PgType::Float4 | PgType::Float8);
        let is_date = |pg_type| matches!(pg_type, PgType::Date | PgType::Timestamp);
        let is_pair = |is: &dyn Fn(PgType) -> bool| is(left) && is(right);
        if !(left == right || is_pair(&is_integer) || is_pair(&is_float) || is_pair(&is_date)) {
            return None;
        }
        let found = match name.as_str() {
            "=" => Self::Compare(CompareOp::Eq),
            "<>" => Self::Compare(CompareOp::NotEq),
            "<" => Self::Compare(CompareOp::Lt),
            "<=" => Self::Compare(CompareOp::LtEq),
            ">" => Self::Compare(CompareOp::Gt),
            ">=" => Self::Compare(CompareOp::GtEq),
            "~~" if left == PgType::Text => Self::Like,
            "!~~" if left == PgType::Text => Self::NotLike,
            _ => return None,
        };
        (left != PgType::Text || found.is_of_bytes_under(collation)).then_some(found)
    }

    /// Whether the operator on text says the same of the texts' bytes.
    fn is_of_bytes_under(&self, collation: pg_sys::Oid) -> bool {
        match self {
            Self::Compare(CompareOp::Eq | CompareOp::NotEq) | Self::Like | Self::NotLike => {
                is_compared_by_bytes(collation)
            }
            Self::Compare(_) => is_ordered_by_bytes(collation),
        }
    }
}

/// What has one value for a whole scan beside constants and the query's parameters.
#[derive(Debug, Clone, Copy)]
struct Fixed {
    /// The values of subqueries, and of an outer query's rows.
    subqueries: bool,
    /// The columns of all relations but this one.
    others_than: Option<pg_sys::Index>,
}

/// Whether an expression has one value for the whole scan, and evaluating it raises no error: a constant, a parameter, the
/// time of the statement, and what is on the list of functions of these.
///
/// # Safety
///
/// The node is an expression of a query.
unsafe fn is_simple(node: *mut pg_sys::Node, fixed: Fixed) -> bool {
    // SAFETY: as the caller promises.
    let Some(header) = (unsafe { node.as_ref() }) else { return false };
    let are_simple = |function: pg_sys::Oid, arguments: *const pg_sys::List| {
        // SAFETY: the arguments of a function are a list of expressions.
        let arguments: Vec<*mut pg_sys::Node> = unsafe { list::elements(arguments) };
        (FUNCTIONS_WITHOUT_ERRORS.contains(&function.to_u32()) || CASTS_THAT_KEEP_VALUES.contains(&function.to_u32()))
            // SAFETY: they are of the same query.
            && arguments.into_iter().all(|argument| unsafe { is_simple(argument, fixed) })
    };
    match header.type_ {
        pg_sys::NodeTag::T_Const | pg_sys::NodeTag::T_SQLValueFunction => true,
        pg_sys::NodeTag::T_Param => {
            // SAFETY: the tag says so.
            let parameter = unsafe { &*node.cast::<pg_sys::Param>() };
            fixed.subqueries || parameter.paramkind == pg_sys::ParamKind::PARAM_EXTERN
        }
        pg_sys::NodeTag::T_Var => {
            // SAFETY: the tag says so.
            let var = unsafe { &*node.cast::<pg_sys::Var>() };
            let is_of = |relation| u32::try_from(var.varno) == Ok(relation);
            var.varlevelsup == 0 && var.varattno > 0 && fixed.others_than.is_some_and(|relation| !is_of(relation))
        }
        pg_sys::NodeTag::T_RelabelType => {
            // SAFETY: the tag says so.
            let relabel = unsafe { &*node.cast::<pg_sys::RelabelType>() };
            // SAFETY: the inner expression is of the same query.
            unsafe { is_simple(relabel.arg.cast(), fixed) }
        }
        pg_sys::NodeTag::T_ArrayExpr => {
            // SAFETY: the tag says so.
            let array = unsafe { &*node.cast::<pg_sys::ArrayExpr>() };
            // SAFETY: an array's elements are a list of expressions.
            let elements: Vec<*mut pg_sys::Node> = unsafe { list::elements(array.elements) };
            // SAFETY: they are of the same query.
            !array.multidims && elements.into_iter().all(|element| unsafe { is_simple(element, fixed) })
        }
        pg_sys::NodeTag::T_FuncExpr => {
            // SAFETY: the tag says so.
            let call = unsafe { &*node.cast::<pg_sys::FuncExpr>() };
            are_simple(call.funcid, call.args)
        }
        pg_sys::NodeTag::T_OpExpr => {
            // SAFETY: the tag says so.
            let call = unsafe { &*node.cast::<pg_sys::OpExpr>() };
            are_simple(call.opfuncid, call.args)
        }
        _ => false,
    }
}

/// The value of an expression if it is a constant.
///
/// # Safety
///
/// The expression is one of a query.
pub(super) unsafe fn constant(expression: *mut pg_sys::Expr) -> Option<PgValue> {
    // SAFETY: as the caller promises.
    if !unsafe { is_a(expression.cast(), pg_sys::NodeTag::T_Const) } {
        return None;
    }
    // SAFETY: the tag says so.
    let constant = unsafe { &*expression.cast::<pg_sys::Const>() };
    // SAFETY: a constant's value is of its type.
    Some(unsafe { values::read(constant.constvalue, constant.constisnull, constant.consttype) })
}

/// The text for `EXPLAIN`.
///
/// # Safety
///
/// The node is an expression of a query.
unsafe fn operand_text(node: *mut pg_sys::Node) -> String {
    // SAFETY: as the caller promises.
    if unsafe { is_a(node, pg_sys::NodeTag::T_Const) } {
        // SAFETY: the tag says so.
        let constant = unsafe { &*node.cast::<pg_sys::Const>() };
        return constant_text(constant);
    }
    // SAFETY: as the caller promises.
    if unsafe { is_a(node, pg_sys::NodeTag::T_Param) } {
        // SAFETY: the tag says so.
        let parameter = unsafe { &*node.cast::<pg_sys::Param>() };
        if parameter.paramkind == pg_sys::ParamKind::PARAM_EXTERN {
            return format!("${}", parameter.paramid);
        }
    }
    "(expression)".to_owned()
}

fn constant_text(constant: &pg_sys::Const) -> String {
    if constant.constisnull {
        return "NULL".to_owned();
    }
    let text = plain_text(constant);
    match pg_type(constant.consttype) {
        Some(PgType::Int2 | PgType::Int4 | PgType::Int8) => text,
        _ => format!("'{}'", text.replace('\'', "''")),
    }
}

/// A constant that is not NULL as its type's own text.
pub(super) fn plain_text(constant: &pg_sys::Const) -> String {
    let (mut output, mut is_varlena) = (pg_sys::InvalidOid, false);
    // SAFETY: it looks the type up and writes to the two places.
    unsafe { pg_sys::getTypeOutputInfo(constant.consttype, &raw mut output, &raw mut is_varlena) };
    // SAFETY: the function is the one that makes text of values of the constant's type.
    let text = unsafe { pg_sys::OidOutputFunctionCall(output, constant.constvalue) };
    // SAFETY: which returns a string.
    unsafe { text_of(text) }
}
