//! The options of servers, foreign tables, columns and `IMPORT FOREIGN SCHEMA`.

use pgrx::PgSqlErrorCode;
use soa_core::store::Layout;

use crate::error::{PgError, Result};
use crate::location;

/// What an option belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Context {
    /// `CREATE FOREIGN DATA WRAPPER`.
    Wrapper,
    /// `CREATE SERVER`.
    Server,
    /// `CREATE USER MAPPING`.
    UserMapping,
    /// `CREATE FOREIGN TABLE`.
    Table,
    /// A column of a foreign table.
    Column,
    /// `IMPORT FOREIGN SCHEMA`.
    Import,
}

/// An option's name and value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OptionPair {
    pub(crate) name: String,
    pub(crate) value: String,
}

/// The folder below which all stores of a server are.
pub(crate) const ROOT: &str = "root";
/// A table's store, relative to the server's root.
const PATH: &str = "path";
/// The version of the store that a table shows.
const VERSION: &str = "version";
/// Whether stores may be changed.
pub(crate) const UPDATABLE: &str = "updatable";
/// How a store is laid out that the first INSERT makes: its key, and lists of columns.
const KEY: &str = "key";
const SORT_BY: &str = "sort_by";
const PARTITION_BY: &str = "partition_by";
/// The store's column, where a column of the table has another name.
const COLUMN_NAME: &str = "column_name";
/// The type that columns of 64 unsigned bits are imported as.
const U64: &str = "u64";

struct Known {
    name: &'static str,
    context: Context,
    check: fn(&str) -> Result<()>,
}

const KNOWN: &[Known] = &[
    Known { name: ROOT, context: Context::Server, check: location::check_root },
    Known { name: UPDATABLE, context: Context::Server, check: |value| parse_bool(UPDATABLE, value).map(|_| ()) },
    Known { name: UPDATABLE, context: Context::Table, check: |value| parse_bool(UPDATABLE, value).map(|_| ()) },
    Known { name: PATH, context: Context::Table, check: location::check_path },
    Known { name: VERSION, context: Context::Table, check: |value| parse_version(value).map(|_| ()) },
    Known { name: KEY, context: Context::Table, check: |_| Ok(()) },
    Known { name: SORT_BY, context: Context::Table, check: |_| Ok(()) },
    Known { name: PARTITION_BY, context: Context::Table, check: |_| Ok(()) },
    Known { name: COLUMN_NAME, context: Context::Column, check: |_| Ok(()) },
    Known { name: U64, context: Context::Import, check: |value| U64::parse(value).map(|_| ()) },
];

/// Refuses unknown options and values that cannot be used, and a table or server that lacks what it needs.
pub(crate) fn validate(context: Context, given: &[OptionPair]) -> Result<()> {
    for pair in given {
        let known = KNOWN.iter().find(|known| known.context == context && known.name == pair.name);
        let Some(known) = known else { return Err(unknown_option(context, &pair.name)) };
        (known.check)(&pair.value)?;
    }
    match context {
        Context::Server => require(given, ROOT, "OPTIONS (root '/folder/of/the/stores')").map(|_| ()),
        Context::Table => require(given, PATH, "OPTIONS (path 'orders.soa')").map(|_| ()),
        Context::Wrapper | Context::UserMapping | Context::Column | Context::Import => Ok(()),
    }
}

fn unknown_option(context: Context, name: &str) -> PgError {
    let valid: Vec<&str> = KNOWN.iter().filter(|known| known.context == context).map(|known| known.name).collect();
    let hint = if valid.is_empty() {
        "There are no valid options in this context.".to_owned()
    } else {
        format!("Valid options in this context are: {}", valid.join(", "))
    };
    PgError::new(PgSqlErrorCode::ERRCODE_FDW_INVALID_OPTION_NAME, format!("invalid option \"{name}\"")).with_hint(hint)
}

/// A value that an option cannot have.
pub(crate) fn invalid_value(message: impl Into<String>) -> PgError {
    PgError::new(PgSqlErrorCode::ERRCODE_FDW_INVALID_ATTRIBUTE_VALUE, message)
}

fn get<'a>(given: &'a [OptionPair], name: &str) -> Option<&'a str> {
    given.iter().find(|pair| pair.name == name).map(|pair| pair.value.as_str())
}

fn require<'a>(given: &'a [OptionPair], name: &str, example: &str) -> Result<&'a str> {
    get(given, name).ok_or_else(|| {
        let code = PgSqlErrorCode::ERRCODE_FDW_OPTION_NAME_NOT_FOUND;
        PgError::new(code, format!("option \"{name}\" is required")).with_hint(format!("For instance: {example}"))
    })
}

fn parse_version(value: &str) -> Result<u64> {
    value.parse().map_err(|_| {
        invalid_value(format!("option \"{VERSION}\" must be a version of the store, such as 3; not \"{value}\""))
    })
}

/// A truth value as Postgres' options have it.
fn parse_bool(name: &str, value: &str) -> Result<bool> {
    match value.to_ascii_lowercase().as_str() {
        "true" | "on" | "yes" | "1" => Ok(true),
        "false" | "off" | "no" | "0" => Ok(false),
        _ => Err(invalid_value(format!("option \"{name}\" must be \"true\" or \"false\"; not \"{value}\""))),
    }
}

/// Whether options ask for stores that may be changed.
pub(crate) fn asks_for_updates(given: &[OptionPair]) -> bool {
    get(given, UPDATABLE).is_some_and(|value| parse_bool(UPDATABLE, value).unwrap_or(false))
}

/// Whether a foreign table may be changed: its server must allow it, and it shows the newest version.
pub(crate) fn is_updatable(server: &[OptionPair], table: &[OptionPair]) -> bool {
    asks_for_updates(server)
        && (get(table, UPDATABLE).is_none() || asks_for_updates(table))
        && get(table, VERSION).is_none()
}

/// The server's `root`.
pub(crate) fn root(server: &[OptionPair]) -> Result<&str> {
    require(server, ROOT, "OPTIONS (root '/folder/of/the/stores')")
}

/// The table's `path`.
pub(crate) fn path(table: &[OptionPair]) -> Result<&str> {
    require(table, PATH, "OPTIONS (path 'orders.soa')")
}

/// The table's `version`, if it shows one.
pub(crate) fn version(table: &[OptionPair]) -> Result<Option<u64>> {
    get(table, VERSION).map(parse_version).transpose()
}

/// How the table's store is laid out if it has to be made: the columns have the store's names.
pub(crate) fn layout(table: &[OptionPair]) -> Layout {
    let list = |name: &str| -> Vec<String> {
        let names = get(table, name).into_iter().flat_map(|names| names.split(','));
        names.map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
    };
    Layout { key: get(table, KEY).map(str::to_owned), sort_by: list(SORT_BY), partition_by: list(PARTITION_BY) }
}

/// The store's name for a column.
pub(crate) fn column_name(column: &[OptionPair]) -> Option<&str> {
    get(column, COLUMN_NAME)
}

/// The type that columns of 64 unsigned bits are imported as: Postgres has no such type.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum U64 {
    /// `bigint` where every stored value fits, else `numeric(20,0)`.
    #[default]
    Auto,
    /// `bigint`; a greater value is an error when it is read.
    BigInt,
    /// `numeric(20,0)`.
    Numeric,
}

impl U64 {
    fn parse(value: &str) -> Result<Self> {
        match value {
            "auto" => Ok(Self::Auto),
            "bigint" => Ok(Self::BigInt),
            "numeric" => Ok(Self::Numeric),
            _ => Err(invalid_value(format!(
                "option \"{U64}\" must be \"auto\", \"bigint\" or \"numeric\"; not \"{value}\""
            ))),
        }
    }

    /// The option of an `IMPORT FOREIGN SCHEMA`.
    pub(crate) fn of_import(given: &[OptionPair]) -> Result<Self> {
        validate(Context::Import, given)?;
        get(given, U64).map_or(Ok(Self::default()), Self::parse)
    }
}
