//! What expressions are made of.

use pgrx::pg_sys;

use super::list;

/// The expressions that one is made of, some of which may be null; none of an expression that the store knows nothing of.
///
/// # Safety
///
/// The node is an expression of the query.
pub(super) unsafe fn of(node: *mut pg_sys::Node) -> Vec<*mut pg_sys::Node> {
    // SAFETY: as the caller promises.
    let Some(header) = (unsafe { node.as_ref() }) else { return Vec::new() };
    let arguments = match header.type_ {
        // SAFETY: the tag says what the node is; here and below.
        pg_sys::NodeTag::T_OpExpr => unsafe { (*node.cast::<pg_sys::OpExpr>()).args },
        // SAFETY: as above.
        pg_sys::NodeTag::T_FuncExpr => unsafe { (*node.cast::<pg_sys::FuncExpr>()).args },
        // SAFETY: as above.
        pg_sys::NodeTag::T_ScalarArrayOpExpr => unsafe { (*node.cast::<pg_sys::ScalarArrayOpExpr>()).args },
        // SAFETY: as above.
        pg_sys::NodeTag::T_BoolExpr => unsafe { (*node.cast::<pg_sys::BoolExpr>()).args },
        // SAFETY: as above.
        pg_sys::NodeTag::T_NullTest => return vec![unsafe { (*node.cast::<pg_sys::NullTest>()).arg }.cast()],
        // SAFETY: as above.
        pg_sys::NodeTag::T_RelabelType => return vec![unsafe { (*node.cast::<pg_sys::RelabelType>()).arg }.cast()],
        pg_sys::NodeTag::T_CaseExpr => {
            // SAFETY: as above.
            let case = unsafe { &*node.cast::<pg_sys::CaseExpr>() };
            // SAFETY: the branches are a list of these.
            let branches: Vec<*mut pg_sys::CaseWhen> = unsafe { list::elements(case.args) };
            let branches = branches.into_iter().flat_map(|branch| {
                // SAFETY: the list's elements are live.
                let branch = unsafe { &*branch };
                [branch.expr.cast(), branch.result.cast()]
            });
            return [case.arg.cast()].into_iter().chain(branches).chain([case.defresult.cast()]).collect();
        }
        pg_sys::NodeTag::T_Aggref => {
            // SAFETY: as above.
            let aggregate = unsafe { &*node.cast::<pg_sys::Aggref>() };
            // SAFETY: the arguments are target entries.
            let arguments: Vec<*mut pg_sys::TargetEntry> = unsafe { list::elements(aggregate.args) };
            // SAFETY: the entries are live.
            let arguments = arguments.into_iter().map(|entry| unsafe { (*entry).expr }.cast());
            return arguments.chain([aggregate.aggfilter.cast()]).collect();
        }
        _ => return Vec::new(),
    };
    // SAFETY: which is a list of expressions.
    unsafe { list::elements(arguments) }
}

/// Whether an expression has more than so many others in each other.
///
/// # Safety
///
/// The node is null or an expression of the query.
pub(super) unsafe fn is_nested_deeper(node: *mut pg_sys::Node, levels: usize) -> bool {
    let Some(levels) = levels.checked_sub(1) else { return true };
    // SAFETY: as the caller promises, and so it is with the parts.
    unsafe { of(node) }.into_iter().any(|part| unsafe { is_nested_deeper(part, levels) })
}
