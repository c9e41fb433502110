//! Expressions of a table's rows that the store can compute.

use pgrx::pg_sys;

use super::catalog::pg_type;
use super::{has_utf8_alone, list};
use crate::compute::RESULT_PREFIX;
use crate::error::Result;
use crate::query::{Expression, TableColumn, Typed, ValueType};
use crate::table::Table;
use crate::types::{Conversion, PgType};

/// `length(text)`, `character_length(text)` and `char_length(text)`.
const LENGTHS_OF_TEXT: [u32; 3] = [1317, 1369, 1381];

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
