//! `soa sql`: queries over stores, by DataFusion.

use std::collections::HashMap;
use std::ffi::OsString;
use std::io::{IsTerminal, Read};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use clap::Args;
use datafusion::common::TableReference;
use datafusion::error::DataFusionError;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::session_state::SessionState;
use datafusion::prelude::{SessionConfig, SessionContext};
use datafusion::sql::parser::{DFParserBuilder, Statement};
use datafusion::sql::sqlparser::ast::Statement as SqlStatement;
use datafusion::sql::sqlparser::parser::ParserError;
use futures::StreamExt;
use soa_core::datafusion::SnapshotTable;
use soa_core::store::Store;
use soa_core::{Error, Result};

use crate::print::{Format, Printer};
use crate::{CommandResult, Failure, with_sources};

/// Address space for the stacks of the thread that plans and of those that run. Only what is used takes memory.
const SESSION_STACK_BYTES: usize = 256 << 20;
const WORKER_STACK_BYTES: usize = 64 << 20;

#[derive(Debug, Args)]
#[command(
    arg_required_else_help = true,
    override_usage = "soa sql [OPTIONS] [STORE]... [QUERY]",
    after_help = "The table of the store orders.soa is called orders. Names with upper-case letters or signs in them are \
                  written in double quotes, as is usual in SQL. A query sees each store as it is when the query starts.\n\n\
                  soa sql orders.soa \"SELECT status, count(*) FROM orders GROUP BY status\"\n\
                  soa sql --table o=orders.soa --table c=customers.soa --csv < query.sql > result.csv"
)]
pub(crate) struct SqlArgs {
    /// The stores' folders, and what to run: statements that read, such as SELECT, separated by semicolons. If there is none, or
    /// it is -, it is read from the standard input
    #[arg(value_name = "STORE... QUERY")]
    arguments: Vec<OsString>,
    /// A store under a name of your own; may be repeated
    #[arg(long = "table", value_name = "NAME=STORE")]
    tables: Vec<OsString>,
    /// Print CSV with a header, NULL as nothing; if the output is no terminal, that is the default
    #[arg(long, group = "format")]
    csv: bool,
    /// Print one JSON object for each row; what JSON has no number for, such as NaN, is null
    #[arg(long, group = "format")]
    json: bool,
    /// Print an aligned table; on a terminal, that is the default
    #[arg(long, group = "format")]
    aligned: bool,
    /// How many threads to use; as many as there are processors if left out
    #[arg(long, value_name = "N")]
    threads: Option<NonZeroUsize>,
}

impl SqlArgs {
    fn format(&self) -> Format {
        match (self.csv, self.json, self.aligned) {
            (true, _, _) => Format::Csv,
            (_, true, _) => Format::Json,
            (_, _, true) => Format::Aligned,
            _ if std::io::stdout().is_terminal() => Format::Aligned,
            _ => Format::Csv,
        }
    }

    fn threads(&self) -> usize {
        let available = || std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        self.threads.map_or_else(available, NonZeroUsize::get)
    }

    /// The stores without names, and the query if it is among the arguments.
    fn split(&self) -> Result<(&[OsString], Option<&str>)> {
        let Some((last, others)) = self.arguments.split_last() else { return Ok((&[], None)) };
        if last == "-" {
            return Ok((others, None));
        }
        if Path::new(last).is_dir() {
            return Ok((&self.arguments, None));
        }
        // A name alone is no query, but may be that of a store, not quite.
        let query = last.to_str().filter(|text| text.contains(|c: char| c.is_whitespace() || "('\"".contains(c)));
        let message = || format!("\"{}\" is neither the folder of a store nor a query", Path::new(last).display());
        Ok((others, Some(query.ok_or_else(|| Error::InvalidArgument { message: message() })?)))
    }

    /// Every store by the name of its table.
    fn open(&self, unnamed: &[OsString]) -> Result<HashMap<String, Store>> {
        let mut named = Vec::new();
        for table in &self.tables {
            named.push(name_and_path(table)?);
        }
        for path in unnamed {
            let path = PathBuf::from(path);
            named.push((stem(&path)?, path));
        }
        let mut stores = HashMap::new();
        for (name, path) in named {
            if let Some(other) = stores.insert(name.clone(), Store::open(&path)?) {
                let message = format!(
                    "\"{}\" and \"{}\" would both be the table {name}; name one yourself: --table NAME={}",
                    other.path().display(),
                    path.display(),
                    path.display()
                );
                return Err(Error::InvalidArgument { message });
            }
        }
        Ok(stores)
    }
}

/// The two sides of NAME=STORE.
fn name_and_path(argument: &OsString) -> Result<(String, PathBuf)> {
    use std::os::unix::ffi::OsStrExt;
    let bytes = argument.as_bytes();
    let parts = bytes.iter().position(|byte| *byte == b'=').map(|at| (&bytes[..at], &bytes[at + 1..]));
    match parts.and_then(|(name, path)| Some((std::str::from_utf8(name).ok()?, path))) {
        Some((name, path)) if !name.is_empty() && !path.is_empty() => {
            Ok((name.to_owned(), PathBuf::from(std::ffi::OsStr::from_bytes(path))))
        }
        _ => {
            let message = format!("--table takes NAME=STORE, not \"{}\"", argument.to_string_lossy());
            Err(Error::InvalidArgument { message })
        }
    }
}

/// The name of a store's folder, without its ending.
fn stem(path: &Path) -> Result<String> {
    // The folder of "." or "x/.." has a name as well.
    let resolved = match path.file_name() {
        Some(_) => None,
        None => std::fs::canonicalize(path).ok(),
    };
    let stem = resolved.as_deref().unwrap_or(path).file_stem().and_then(|stem| stem.to_str());
    stem.map(str::to_owned).ok_or_else(|| {
        let path = path.display();
        Error::InvalidArgument { message: format!("\"{path}\" names no table; name it yourself: --table NAME={path}") }
    })
}

pub(crate) fn run(args: &SqlArgs) -> CommandResult {
    let (unnamed, query) = args.split()?;
    let stores = args.open(unnamed)?;
    let query = match query {
        Some(query) => query.to_owned(),
        None => {
            let mut text = String::new();
            std::io::stdin().read_to_string(&mut text)?;
            text
        }
    };
    let session = Session { stores, threads: args.threads(), format: args.format() };
    // DataFusion goes down into a condition as deep as it is: that of `a OR b OR c …` is as deep as it is long.
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().stack_size(SESSION_STACK_BYTES);
        match thread.spawn_scoped(scope, || session.run_all(&query))?.join() {
            Ok(result) => result,
            Err(panic) => std::panic::resume_unwind(panic),
        }
    })
}

struct Session {
    stores: HashMap<String, Store>,
    threads: usize,
    format: Format,
}

impl Session {
    fn run_all(&self, query: &str) -> CommandResult {
        let statements = DFParserBuilder::new(query).build().and_then(|mut parser| parser.parse_statements());
        let statements = statements.map_err(|error| failure(&error))?;
        if statements.is_empty() {
            return Err(Error::InvalidArgument { message: "the query is empty".to_owned() }.into());
        }
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        let runtime = runtime.worker_threads(self.threads).thread_stack_size(WORKER_STACK_BYTES).build()?;
        statements.into_iter().try_for_each(|statement| runtime.block_on(self.run(statement)))
    }

    async fn run(&self, statement: Statement) -> CommandResult {
        check_reads(&statement)?;
        let mut config = SessionConfig::new().with_target_partitions(self.threads).with_information_schema(true);
        // See `SnapshotTable`.
        config.options_mut().optimizer.enable_aggregate_dynamic_filter_pushdown = false;
        let context = SessionContext::new_with_config(config);
        for (name, store) in &self.stores {
            let table = Arc::new(SnapshotTable::new(store.snapshot()?));
            context.register_table(TableReference::bare(name.as_str()), table).map_err(|error| failure(&error))?;
        }
        let state = context.state();
        let missing = self.missing_table(&state, &statement);
        let plan = match (state.statement_to_plan(statement).await, missing) {
            (Ok(plan), _) => plan,
            (Err(_), Some(message)) => return Err(Error::InvalidArgument { message }.into()),
            (Err(error), None) => return Err(failure(&error)),
        };
        let options = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        options.verify_plan(&plan).map_err(|error| refused(&error.message()))?;
        let rows = async { context.execute_logical_plan(plan).await?.execute_stream().await };
        let mut rows = rows.await.map_err(|error| failure(&error))?;
        let mut printer = Printer::new(self.format, rows.schema());
        while let Some(batch) = rows.next().await {
            printer.print(&batch.map_err(|error| failure(&error))?)?;
        }
        printer.finish()
    }

    /// Says which table a statement names that is none of the stores, if there is one: for when the statement fails.
    fn missing_table(&self, state: &SessionState, statement: &Statement) -> Option<String> {
        let named = state.resolve_table_references(statement).ok()?;
        let missing = named.iter().find_map(|name| match name {
            TableReference::Bare { table } => {
                let is_function = state.table_functions().contains_key(table.as_ref());
                (!is_function && !self.stores.contains_key(table.as_ref())).then_some(table)
            }
            TableReference::Partial { .. } | TableReference::Full { .. } => None,
        })?;
        let mut known: Vec<&str> = self.stores.keys().map(String::as_str).collect();
        known.sort_unstable();
        if let Some(close) = known.iter().find(|known| known.eq_ignore_ascii_case(missing)) {
            return Some(format!("there is no table {missing}; write \"{close}\", in double quotes"));
        }
        Some(match known.as_slice() {
            [] => format!("there is no table {missing}, because no store was given"),
            known => format!("there is no table {missing}; the tables are {}", known.join(", ")),
        })
    }
}

/// Refuses statements that do something else than read.
fn check_reads(statement: &Statement) -> CommandResult {
    let reads = match statement {
        Statement::Statement(statement) => matches!(
            **statement,
            SqlStatement::Query(_)
                | SqlStatement::Explain { .. }
                | SqlStatement::ExplainTable { .. }
                | SqlStatement::ShowTables { .. }
                | SqlStatement::ShowColumns { .. }
                | SqlStatement::ShowFunctions { .. }
        ),
        Statement::Explain(_) => true,
        Statement::CreateExternalTable(_) | Statement::CopyTo(_) | Statement::Reset(_) => false,
    };
    if reads {
        return Ok(());
    }
    let text = statement.to_string();
    Err(refused(text.split_whitespace().next().unwrap_or_default()))
}

fn refused(what: &str) -> Failure {
    let message = format!("soa sql reads stores and changes nothing; it does not run this: {what}");
    Error::InvalidArgument { message }.into()
}

/// An error of DataFusion without what it is wrapped in, in the words of its cause.
fn failure(error: &DataFusionError) -> Failure {
    let message = match error.find_root() {
        DataFusionError::External(source) => with_sources(&**source),
        DataFusionError::SQL(error, _) => match &**error {
            ParserError::TokenizerError(message) | ParserError::ParserError(message) => {
                format!("the query is not SQL: {message}")
            }
            ParserError::RecursionLimitExceeded => "the query is nested too deeply".to_owned(),
        },
        root => root.message().into_owned(),
    };
    Error::InvalidArgument { message }.into()
}
