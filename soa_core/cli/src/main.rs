//! The `soa` command: files into stores, and stores looked at and looked after.

mod change;
mod export;
mod import;
mod maintain;
mod print;
mod progress;
mod show;
mod source;
mod sql;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

/// Struct-of-arrays stores: open folders that DuckDB, Postgres and every reader of Delta Lake query in place.
#[derive(Debug, Parser)]
#[command(name = "soa", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Append the rows of files (Parquet, CSV or Arrow) to a store, in one commit; make the store if there is none
    Import(import::ImportArgs),
    /// Show a store's columns, key, order, partitions and size
    Info(StoreArgs),
    /// List a store's commits, oldest first
    History(StoreArgs),
    /// Write a store's rows to a Parquet, CSV or Arrow file
    Export(export::ExportArgs),
    /// Run SQL over one store or several
    Sql(sql::SqlArgs),
    /// Read and check everything in a store; fails if anything is wrong
    Verify(StoreArgs),
    /// Delete rows, in one commit
    Delete(change::DeleteArgs),
    /// Add columns or an enum's variants, or change how a store is kept
    Alter(change::AlterArgs),
    /// Join small segments, write half-deleted ones anew, and make Arrow forms that are missing; no row changes
    Compact(maintain::CompactArgs),
    /// Remove files that only old versions need
    Vacuum(maintain::VacuumArgs),
    /// Make the rows and columns of an old version the newest ones
    Restore(maintain::RestoreArgs),
    /// Copy a store while others use it; the copy has a history of its own
    Clone(maintain::CloneArgs),
}

#[derive(Debug, Args)]
struct StoreArgs {
    /// The store's folder
    store: PathBuf,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

/// What a command can end with, besides success.
#[derive(Debug)]
enum Failure {
    /// Something went wrong.
    Error(Box<dyn std::error::Error + Send + Sync>),
    /// `verify` found something, and has printed it.
    Damaged,
}

impl<E: std::error::Error + Send + Sync + 'static> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(Box::new(error))
    }
}

type CommandResult = Result<(), Failure>;

fn main() -> ExitCode {
    let cli = Cli::parse();
    let result = match cli.command {
        Command::Import(args) => import::run(&args),
        Command::Info(args) => show::info(&args),
        Command::History(args) => show::history(&args),
        Command::Export(args) => export::run(&args),
        Command::Sql(args) => sql::run(&args),
        Command::Verify(args) => show::verify(&args),
        Command::Delete(args) => change::delete(&args),
        Command::Alter(args) => change::alter(&args),
        Command::Compact(args) => maintain::compact(&args),
        Command::Vacuum(args) => maintain::vacuum(&args),
        Command::Restore(args) => maintain::restore(&args),
        Command::Clone(args) => maintain::clone(&args),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure::Damaged) => ExitCode::FAILURE,
        Err(Failure::Error(error)) => {
            if is_broken_pipe(&*error) {
                return ExitCode::SUCCESS;
            }
            eprintln!("soa: {}", with_sources(&*error));
            ExitCode::FAILURE
        }
    }
}

/// A reader that has seen enough (`soa info x | head -1`) is no failure.
fn is_broken_pipe(error: &(dyn std::error::Error + 'static)) -> bool {
    error.downcast_ref::<std::io::Error>().is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}

/// The message and those of its causes that it does not contain.
fn with_sources(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let message = cause.to_string();
        if !text.contains(&message) {
            text.push_str(": ");
            text.push_str(&message);
        }
        source = cause.source();
    }
    text
}

/// Prints a line; an error if nobody listens.
fn print_line(text: &str) -> std::io::Result<()> {
    writeln!(std::io::stdout().lock(), "{text}")
}
