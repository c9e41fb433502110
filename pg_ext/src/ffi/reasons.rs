//! Why something is left to Postgres, for `EXPLAIN (VERBOSE)`.

use pgrx::{is_a, pg_sys};

use super::source::Source;
use super::{parts, text_of};

/// What of an expression the store cannot compute, or test: the innermost part of which it could the parts.
///
/// # Safety
///
/// The node is an expression of the query.
pub(super) unsafe fn why(node: *mut pg_sys::Node, source: &mut Source) -> String {
    let mut unknown = node;
    loop {
        // SAFETY: as the caller promises, and so it is with the parts.
        let parts = unsafe { parts::of(unknown) };
        // SAFETY: as above.
        let Some(part) = parts.into_iter().find(|part| !unsafe { is_known(*part, source) }) else {
            // SAFETY: as above.
            return unsafe { name(unknown) };
        };
        unknown = part;
    }
}

/// # Safety
///
/// The node is an expression of the query.
unsafe fn is_known(node: *mut pg_sys::Node, source: &mut Source) -> bool {
    let is_any = |tags: &[pg_sys::NodeTag]| {
        // SAFETY: as the caller promises.
        tags.iter().any(|tag| unsafe { is_a(node, *tag) })
    };
    // What a constant is compared with decides whether it can be.
    if node.is_null() || is_any(&[pg_sys::NodeTag::T_Const, pg_sys::NodeTag::T_Param]) {
        return true;
    }
    // SAFETY: as the caller promises.
    let is_value = unsafe { source.value(node) }.is_some();
    // SAFETY: as above.
    is_value || unsafe { source.condition(node) }.is_some()
}

/// What an expression is, in a few words.
///
/// # Safety
///
/// The node is an expression of the query.
unsafe fn name(node: *mut pg_sys::Node) -> String {
    // SAFETY: as the caller promises.
    let Some(header) = (unsafe { node.as_ref() }) else { return "an expression".to_owned() };
    // SAFETY: what is looked up is null or a string.
    let text = |found: *mut std::ffi::c_char| unsafe { text_of(found) };
    // SAFETY: it looks a function up.
    let function = |oid: pg_sys::Oid| text(unsafe { pg_sys::get_func_name(oid) });
    // SAFETY: it looks an operator up.
    let operator = |oid: pg_sys::Oid| text(unsafe { pg_sys::get_opname(oid) });
    // SAFETY: the node is live.
    let type_oid = unsafe { pg_sys::exprType(node) };
    // SAFETY: it makes a text of any type.
    let type_text = || text(unsafe { pg_sys::format_type_be(type_oid) });
    match header.type_ {
        // SAFETY: the tag says what the node is; here and below.
        pg_sys::NodeTag::T_OpExpr => format!("operator {}", operator(unsafe { (*node.cast::<pg_sys::OpExpr>()).opno })),
        pg_sys::NodeTag::T_ScalarArrayOpExpr => {
            // SAFETY: as above.
            format!("operator {} with an array", operator(unsafe { (*node.cast::<pg_sys::ScalarArrayOpExpr>()).opno }))
        }
        pg_sys::NodeTag::T_FuncExpr => {
            // SAFETY: as above.
            format!("function {}", function(unsafe { (*node.cast::<pg_sys::FuncExpr>()).funcid }))
        }
        pg_sys::NodeTag::T_Aggref => {
            // SAFETY: as above.
            let aggregate = unsafe { &*node.cast::<pg_sys::Aggref>() };
            let distinct = if aggregate.aggdistinct.is_null() { "" } else { " of distinct values" };
            format!("aggregate {}{distinct}", function(aggregate.aggfnoid))
        }
        pg_sys::NodeTag::T_SubPlan | pg_sys::NodeTag::T_AlternativeSubPlan => "a subquery".to_owned(),
        pg_sys::NodeTag::T_Var => format!("a column of type {}", type_text()),
        _ => format!("an expression of type {}", type_text()),
    }
}
