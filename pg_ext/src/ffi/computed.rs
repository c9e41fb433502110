//! Expressions of a table's rows that the store can compute.

use pgrx::pg_sys;

use super::catalog::{FIRST_OID_OF_OTHERS, pg_type};
use super::conditions::plain_text;
use super::{has_utf8_alone, list, text_of};
use crate::compute::RESULT_PREFIX;
use crate::error::Result;
use crate::query::{DIGITS_256, Expression, Operation, TableColumn, Typed, ValueType};
use crate::table::Table;
use crate::types::{Conversion, PgType};

/// `length(text)`, `character_length(text)` and `char_length(text)`.
const LENGTHS_OF_TEXT: [u32; 3] = [1317, 1369, 1381];

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

/// A relation of a query, and those of its columns that can be computed with.
#[derive(Clone)]
pub(super) struct Computable {
    pub(super) relation: pg_sys::Index,
    pub(super) columns: Vec<TableColumn>,
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
            columns.push(TableColumn { number: attribute.number, name, shown, value_type });
        }
        Ok(Self { relation, columns })
    }

    /// The store's name of a column.
    pub(super) fn name(&self, number: i16) -> Option<String> {
        self.columns.iter().find(|column| column.number == number).map(|column| column.name.clone())
    }

    /// An expression as the store can compute it; `None` if it cannot.
    ///
    /// # Safety
    ///
    /// The node is an expression of the query.
    pub(super) unsafe fn expression(&self, node: *mut pg_sys::Node) -> Option<Typed> {
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
                let &[argument, ..] = arguments.as_slice() else { return None };
                // SAFETY: as the caller promises.
                let argument = unsafe { self.expression(argument)? };
                called(call, argument)
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
                let (left, right) = (unsafe { self.expression(left)? }, unsafe { self.expression(right)? });
                arithmetic(call, left, right)
            }
            _ => None,
        }
    }
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
    let value_type = match (*value_type, argument.value_type) {
        (ValueType::Numeric { .. }, ValueType::Int2) => ValueType::Numeric { precision: 5, scale: 0 },
        (ValueType::Numeric { .. }, ValueType::Int4) => ValueType::Numeric { precision: 10, scale: 0 },
        (ValueType::Numeric { .. }, ValueType::Int8) => ValueType::Numeric { precision: 19, scale: 0 },
        (other, _) => other,
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
            let scale = u8::try_from(fraction.len()).ok()?;
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
