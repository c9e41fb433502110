//! `IMPORT FOREIGN SCHEMA`: a foreign table for each store of a folder.

use pgrx::PgSqlErrorCode;
use soa_core::predicate::Scalar;
use soa_core::schema::DataType;
use soa_core::store::{Snapshot, Store};

use crate::error::{PgError, Result};
use crate::ffi;
use crate::location::{self, Found};
use crate::options::{self, OptionPair, U64, invalid_value};
use crate::types;

/// Which tables are wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted {
    All,
    LimitTo(Vec<String>),
    Except(Vec<String>),
}

/// What an `IMPORT FOREIGN SCHEMA` asks for.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) server: String,
    pub(crate) server_options: Vec<OptionPair>,
    pub(crate) options: Vec<OptionPair>,
    /// The folder below the server's root.
    pub(crate) remote_schema: String,
    pub(crate) wanted: Wanted,
}

/// The commands that make the tables, and what is wrong with stores that were passed over.
#[derive(Debug, Default)]
pub(crate) struct Import {
    pub(crate) commands: Vec<String>,
    pub(crate) warnings: Vec<PgError>,
}

/// The most columns of a table (MaxHeapAttributeNumber).
const COLUMNS_MAX: usize = 1_600;
/// The columns that every table has.
const SYSTEM_COLUMNS: [&str; 6] = ["ctid", "xmin", "cmin", "xmax", "cmax", "tableoid"];
/// The longest name that Postgres keeps whole, in bytes (NAMEDATALEN - 1).
const NAME_BYTES_MAX: usize = 63;

/// Finds the stores and writes the commands. A store that cannot be a table is an error if it was asked for by name, and
/// a warning otherwise: one folder should not keep the others from being imported.
pub(crate) fn import(request: &Request) -> Result<Import> {
    let u64 = U64::of_import(&request.options)?;
    let root = options::root(&request.server_options)?;
    let found = location::stores_in(root, &request.remote_schema)?;
    let mut import = Import::default();
    let wanted: Vec<&Found> = found.iter().filter(|store| request.wanted.includes(&store.name)).collect();
    refuse_shared_names(&wanted)?;
    if let Wanted::LimitTo(names) = &request.wanted
        && let Some(missing) = names.iter().find(|name| wanted.iter().all(|store| store.name != **name))
    {
        let message = format!("there is no store \"{missing}\" in \"{}\"", request.remote_schema);
        let known: Vec<&str> = found.iter().map(|store| store.name.as_str()).collect();
        return Err(PgError::new(PgSqlErrorCode::ERRCODE_FDW_TABLE_NOT_FOUND, message)
            .with_hint(format!("The stores there are: {}", known.join(", "))));
    }
    for store in wanted {
        match command(root, store, &request.server, u64) {
            Ok(command) => import.commands.push(command),
            Err(error) if matches!(request.wanted, Wanted::LimitTo(_)) => return Err(error),
            Err(error) => {
                let message = format!("the store \"{}\" is not imported: {}", store.path, error.message);
                import.warnings.push(PgError { message, ..error });
            }
        }
    }
    Ok(import)
}

impl Wanted {
    fn includes(&self, name: &str) -> bool {
        match self {
            Self::All => true,
            Self::LimitTo(names) => names.iter().any(|wanted| wanted == name),
            Self::Except(names) => names.iter().all(|unwanted| unwanted != name),
        }
    }
}

fn refuse_shared_names(stores: &[&Found]) -> Result<()> {
    match stores.windows(2).find(|pair| pair[0].name == pair[1].name) {
        None => Ok(()),
        Some(pair) => {
            let message =
                format!("\"{}\" and \"{}\" would both be the table \"{}\"", pair[0].path, pair[1].path, pair[0].name);
            Err(invalid_value(message).with_hint(format!(
                "Leave both out with EXCEPT (\"{}\") and make their tables with CREATE FOREIGN TABLE.",
                pair[0].name
            )))
        }
    }
}

fn command(root: &str, store: &Found, server: &str, u64: U64) -> Result<String> {
    let too_long = |what: &str, name: &str| {
        invalid_value(format!("the {what} \"{name}\" is longer than the {NAME_BYTES_MAX} bytes of a name in Postgres"))
    };
    if store.name.len() > NAME_BYTES_MAX {
        return Err(too_long("name", &store.name).with_hint("Use CREATE FOREIGN TABLE and give it another name."));
    }
    ffi::check_encodable(&store.path)?;
    let snapshot = Store::open(location::resolve(root, &store.path)?)?.snapshot()?;
    let schema = snapshot.schema();
    if schema.len() > COLUMNS_MAX {
        let message = format!("the store has {} columns; a table in Postgres has {COLUMNS_MAX} at most", schema.len());
        return Err(PgError::new(PgSqlErrorCode::ERRCODE_TOO_MANY_COLUMNS, message)
            .with_hint("Use CREATE FOREIGN TABLE with the columns that you need."));
    }
    let mut columns = Vec::with_capacity(schema.len());
    for (index, field) in schema.fields().iter().enumerate() {
        if field.name().len() > NAME_BYTES_MAX {
            return Err(too_long("column name", field.name())
                .with_hint("Use CREATE FOREIGN TABLE and the column's option \"column_name\"."));
        }
        ffi::check_encodable(field.name())?;
        if SYSTEM_COLUMNS.contains(&field.name()) {
            let message = format!("the column name \"{}\" is one that Postgres has in every table", field.name());
            return Err(PgError::new(PgSqlErrorCode::ERRCODE_DUPLICATE_COLUMN, message)
                .with_hint("Use CREATE FOREIGN TABLE and the column's option \"column_name\"."));
        }
        let max = match field.data_type() {
            DataType::UInt64 => greatest(&snapshot, index),
            _ => None,
        };
        let not_null = if field.is_nullable() { "" } else { " NOT NULL" };
        let declared = types::declaration(field, u64, max);
        columns.push(format!("  {} {declared}{not_null}", quote_name(field.name())));
    }
    Ok(format!(
        "CREATE FOREIGN TABLE {} (\n{}\n) SERVER {} OPTIONS (path {})",
        quote_name(&store.name),
        columns.join(",\n"),
        quote_name(server),
        quote_text(&store.path)
    ))
}

/// A number that no value of a `UInt64` column is above, as far as the log knows.
fn greatest(snapshot: &Snapshot, column: usize) -> Option<u64> {
    let bounds = snapshot.bounds(column).ok()?;
    match bounds.max {
        _ if bounds.nulls == Some(bounds.rows) => Some(0),
        Some(Scalar::Int(max)) => u64::try_from(max).ok(),
        _ => None,
    }
}

fn quote_name(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

fn quote_text(text: &str) -> String {
    let escape = if text.contains('\\') { "E" } else { "" };
    format!("{escape}'{}'", text.replace('\\', "\\\\").replace('\'', "''"))
}
