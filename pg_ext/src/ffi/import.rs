//! `IMPORT FOREIGN SCHEMA`'s callback.

use pgrx::{PgLogLevel, pg_sys};

use super::catalog::option_pairs;
use super::{list, palloc_text, report, run, text_of};
use crate::error::{Result, Step};
use crate::import::{Request, Wanted, import};

/// Gives the commands that make the tables.
#[pgrx::pg_guard]
pub(super) unsafe extern "C-unwind" fn import_foreign_schema(
    statement: *mut pg_sys::ImportForeignSchemaStmt,
    server: pg_sys::Oid,
) -> *mut pg_sys::List {
    run(Step::Import, || {
        // SAFETY: Postgres passes the statement that it runs.
        let statement = unsafe { &*statement };
        // SAFETY: the server was found by its name.
        let server = unsafe { pg_sys::GetForeignServer(server) };
        // SAFETY: the result was just allocated.
        let server = unsafe { &*server };
        let request = Request {
            // SAFETY: a server has a name.
            server: unsafe { text_of(server.servername) },
            // SAFETY: the list is of options.
            server_options: unsafe { option_pairs(server.options) },
            // SAFETY: as above.
            options: unsafe { option_pairs(statement.options) },
            // SAFETY: the statement names a schema.
            remote_schema: unsafe { text_of(statement.remote_schema) },
            wanted: wanted(statement),
        };
        let import = import(&request)?;
        for warning in import.warnings {
            report(warning, PgLogLevel::WARNING, Step::Import);
        }
        let commands: Result<Vec<_>> = import.commands.iter().map(|command| palloc_text(command)).collect();
        Ok(list::of(commands?))
    })
}

fn wanted(statement: &pg_sys::ImportForeignSchemaStmt) -> Wanted {
    // SAFETY: the tables of a statement are a list of these.
    let tables: Vec<*mut pg_sys::RangeVar> = unsafe { list::elements(statement.table_list) };
    let name = |table: *mut pg_sys::RangeVar| {
        // SAFETY: the list's elements are live.
        let table = unsafe { &*table };
        // SAFETY: each names a table.
        unsafe { text_of(table.relname) }
    };
    let names = tables.into_iter().map(name).collect();
    match statement.list_type {
        pg_sys::ImportForeignSchemaType::FDW_IMPORT_SCHEMA_LIMIT_TO => Wanted::LimitTo(names),
        pg_sys::ImportForeignSchemaType::FDW_IMPORT_SCHEMA_EXCEPT => Wanted::Except(names),
        _ => Wanted::All,
    }
}
