//! Foreign tables, servers and privileges, read from Postgres' catalogs.

use std::ffi::c_char;

use pgrx::{PgRelation, PgSqlErrorCode, PgTupleDesc, pg_sys};

use super::{list, text_of};
use crate::error::{PgError, Result};
use crate::options::{self, Context, OptionPair, ROOT, UPDATABLE};
use crate::table::{Attribute, Table};
use crate::types::{Declared, Modifier, PgType};

/// Objects that `initdb` made have OIDs below this (`access/transam.h`), so that nobody else's function or operator has.
pub(super) const FIRST_OID_OF_OTHERS: u32 = 10_000;
/// What `attgenerated` is for a virtual column.
const VIRTUAL: c_char = b'v'.cast_signed();
/// The bytes before a type's parameters in its modifier (`VARHDRSZ`).
const MODIFIER_OFFSET: i32 = 4;
/// A numeric's modifier: the precision in the high half, the scale in the low 11 bits, with its sign.
const NUMERIC_PRECISION_SHIFT: u32 = 16;
const NUMERIC_SCALE_BITS: u32 = 11;

/// The parts of a foreign table's definition that a scan needs.
pub(super) fn table(relation: pg_sys::Oid) -> Result<Table> {
    // SAFETY: the relation is being planned or executed, so it exists and is locked.
    let opened = unsafe { PgRelation::open(relation) };
    // SAFETY: the relation is a foreign table, as Postgres calls this wrapper for no other.
    let foreign_table = unsafe { pg_sys::GetForeignTable(relation) };
    // SAFETY: the result was just allocated.
    let foreign_table = unsafe { &*foreign_table };
    // SAFETY: a foreign table has a server.
    let server = unsafe { pg_sys::GetForeignServer(foreign_table.serverid) };
    // SAFETY: the result was just allocated.
    let server = unsafe { &*server };
    // SAFETY: the relation exists, so the result is its name.
    let name = unsafe { pg_sys::get_rel_name(relation) };
    // SAFETY: as above.
    let name = unsafe { text_of(name) };
    // SAFETY: the relation stays open while its description is looked at.
    let description = unsafe { PgTupleDesc::from_pg_unchecked(opened.rd_att) };
    let mut attributes = Vec::with_capacity(description.len());
    // A virtual column is Postgres' to compute.
    let is_stored =
        |attribute: &&pg_sys::FormData_pg_attribute| !attribute.attisdropped && attribute.attgenerated != VIRTUAL;
    for attribute in description.iter().filter(is_stored) {
        // SAFETY: the relation has this attribute.
        let options = unsafe { pg_sys::GetForeignColumnOptions(relation, attribute.attnum) };
        attributes.push(Attribute {
            number: attribute.attnum,
            declared: declared(attribute),
            // SAFETY: the list is of options.
            options: unsafe { option_pairs(options) },
        });
    }
    Ok(Table {
        name,
        // SAFETY: the lists are of options.
        server_options: unsafe { option_pairs(server.options) },
        // SAFETY: as before.
        options: unsafe { option_pairs(foreign_table.options) },
        attributes,
    })
}

fn declared(attribute: &pg_sys::FormData_pg_attribute) -> Declared {
    // SAFETY: it looks the type up; the result is 0 for what is no array.
    let element = unsafe { pg_sys::get_element_type(attribute.atttypid) };
    let element_type = pg_type(element);
    let scalar = if element_type.is_some() { element } else { attribute.atttypid };
    // SAFETY: it makes a text of any type.
    let type_text = unsafe { pg_sys::format_type_with_typemod(attribute.atttypid, attribute.atttypmod) };
    Declared {
        // SAFETY: a name has a NUL within its array.
        name: unsafe { text_of(attribute.attname.data.as_ptr()) },
        pg_type: pg_type(attribute.atttypid),
        element: element_type.map(|element_type| (element_type, element.to_u32())),
        // SAFETY: the function returns a string.
        type_text: unsafe { text_of(type_text) },
        modifier: modifier(scalar, attribute.atttypmod),
        not_null: attribute.attnotnull,
    }
}

/// The type behind an OID.
pub(super) fn pg_type(oid: pg_sys::Oid) -> Option<PgType> {
    match oid {
        pg_sys::BOOLOID => Some(PgType::Bool),
        pg_sys::INT2OID => Some(PgType::Int2),
        pg_sys::INT4OID => Some(PgType::Int4),
        pg_sys::INT8OID => Some(PgType::Int8),
        pg_sys::FLOAT4OID => Some(PgType::Float4),
        pg_sys::FLOAT8OID => Some(PgType::Float8),
        pg_sys::NUMERICOID => Some(PgType::Numeric),
        pg_sys::TEXTOID | pg_sys::VARCHAROID => Some(PgType::Text),
        pg_sys::BYTEAOID => Some(PgType::Bytea),
        pg_sys::DATEOID => Some(PgType::Date),
        pg_sys::TIMESTAMPOID => Some(PgType::Timestamp),
        pg_sys::TIMESTAMPTZOID => Some(PgType::TimestampTz),
        pg_sys::TIMEOID => Some(PgType::Time),
        pg_sys::INTERVALOID => Some(PgType::Interval),
        pg_sys::UUIDOID => Some(PgType::Uuid),
        pg_sys::JSONBOID => Some(PgType::Jsonb),
        _ => None,
    }
}

fn modifier(oid: pg_sys::Oid, modifier: i32) -> Modifier {
    match oid {
        _ if modifier < 0 => Modifier::None,
        pg_sys::NUMERICOID => {
            let packed = modifier - MODIFIER_OFFSET;
            // The scale's sign is its highest bit.
            let unused = i32::BITS - NUMERIC_SCALE_BITS;
            Modifier::Numeric {
                precision: packed.cast_unsigned() >> NUMERIC_PRECISION_SHIFT,
                scale: (packed << unused) >> unused,
            }
        }
        _ => Modifier::Other,
    }
}

/// Options as Postgres hands them over.
///
/// # Safety
///
/// The list is one of `DefElem`s with texts as values.
pub(super) unsafe fn option_pairs(options: *mut pg_sys::List) -> Vec<OptionPair> {
    // SAFETY: as the caller promises.
    let elements: Vec<*mut pg_sys::DefElem> = unsafe { list::elements(options) };
    let read = |element: *mut pg_sys::DefElem| {
        // SAFETY: the list's elements are live.
        let name = unsafe { (*element).defname };
        // SAFETY: the value is a text, a number or a name, of each of which this makes a text.
        let value = unsafe { pg_sys::defGetString(element) };
        // SAFETY: both are strings.
        let (name, value) = (unsafe { text_of(name) }, unsafe { text_of(value) });
        OptionPair { name, value }
    };
    elements.into_iter().map(read).collect()
}

/// Checks the options of what is being made or changed, and who may set them.
pub(super) fn validate(options: pg_sys::Datum, catalog: pg_sys::Oid) -> Result<()> {
    let context = match catalog {
        pg_sys::ForeignDataWrapperRelationId => Context::Wrapper,
        pg_sys::ForeignServerRelationId => Context::Server,
        pg_sys::UserMappingRelationId => Context::UserMapping,
        pg_sys::ForeignTableRelationId => Context::Table,
        _ => Context::Column,
    };
    // SAFETY: the datum is the array of options that the validator was called with.
    let list = unsafe { pg_sys::untransformRelOptions(options) };
    // SAFETY: that list is one of options.
    let given = unsafe { option_pairs(list) };
    if given.iter().any(|pair| pair.name == ROOT) {
        check_may_set(ROOT, pg_sys::ROLE_PG_READ_SERVER_FILES)?;
    }
    // Who may use the server may write below its root as the server's own user.
    if context == Context::Server && options::asks_for_updates(&given) {
        check_may_set(UPDATABLE, pg_sys::ROLE_PG_WRITE_SERVER_FILES)?;
    }
    options::validate(context, &given)
}

/// A root lets everybody who may use the server read below it as the server's own user, and `updatable` write. So they are for
/// those who may read or write the server's files anyway: who have the privileges of this role.
fn check_may_set(option: &str, role: u32) -> Result<()> {
    // SAFETY: it reads a variable.
    let user = unsafe { pg_sys::GetUserId() };
    let role = pg_sys::Oid::from(role);
    // SAFETY: it looks the roles up.
    let is_member = unsafe { pg_sys::has_privs_of_role(user, role) };
    // SAFETY: it looks the role up.
    if is_member || unsafe { pg_sys::superuser() } {
        return Ok(());
    }
    // SAFETY: as above.
    let name = unsafe { pg_sys::GetUserNameFromId(role, false) };
    // SAFETY: the result is a string.
    let name = unsafe { text_of(name) };
    let message = format!("permission denied to set the \"{option}\" option of a server");
    Err(PgError::new(PgSqlErrorCode::ERRCODE_INSUFFICIENT_PRIVILEGE, message)
        .with_detail(format!("Only roles with the privileges of the \"{name}\" role may set this option.")))
}
