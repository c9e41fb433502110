//! `soa import`: files into a store, all or nothing.

use std::path::{Path, PathBuf};

use clap::Args;
use soa_core::schema::{Schema, arrow_schema, schema_from_arrow};
use soa_core::store::Store;
use soa_core::{Error, Result};

use crate::source::{self, CsvOptions, Source};
use crate::{CommandResult, print_line, progress};

#[derive(Debug, Args)]
pub(crate) struct ImportArgs {
    /// The files, and last the store's folder
    #[arg(required = true, num_args = 2.., value_names = ["FILE", "STORE"])]
    paths: Vec<PathBuf>,
    /// The column whose values tell rows apart (only when the store is made)
    #[arg(long, value_name = "COLUMN")]
    key: Option<String>,
    /// Columns to have a folder for each combination of values (only when the store is made)
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    partition_by: Vec<String>,
    /// Columns that order the rows within a segment (only when the store is made)
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    sort_by: Vec<String>,
    /// The character between the fields of a CSV file
    #[arg(long, value_name = "CHAR", default_value = ",")]
    delimiter: char,
    /// The CSV files have no line of column names: the columns are called column_1, column_2, …
    #[arg(long)]
    no_header: bool,
    /// The field of a CSV file that stands for NULL
    #[arg(long, value_name = "TEXT", default_value = "")]
    null: String,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) fn run(args: &ImportArgs) -> CommandResult {
    let Some((store_path, files)) = args.paths.split_last() else {
        return Err(Error::InvalidArgument { message: "give at least one file and the store's folder".into() }.into());
    };
    let delimiter = u8::try_from(args.delimiter)
        .map_err(|_| Error::InvalidArgument { message: format!("--delimiter {:?} is not one byte", args.delimiter) })?;
    let csv = CsvOptions { delimiter, header: !args.no_header, null: args.null.clone() };
    let existing = match Store::open(store_path) {
        Ok(store) => Some(store),
        Err(Error::NotFound { .. } | Error::NotAStore { .. }) => None,
        Err(error) => return Err(error.into()),
    };
    let expected =
        existing.as_ref().map(|store| store.snapshot().map(|snapshot| arrow_schema(snapshot.schema()))).transpose()?;
    // Every file is opened before anything is written, so that most mistakes show before the work begins.
    let sources =
        files.iter().map(|file| source::open(file, &csv, expected.as_deref())).collect::<Result<Vec<Source>>>()?;
    let made = existing.is_none();
    let store = match existing {
        Some(store) => {
            check_layout(&store, args)?;
            store
        }
        None => create(store_path, &sources, args)?,
    };
    let result = append(&store, files, sources, args.quiet);
    if result.is_err() && made {
        // The store was made for these rows: without them there is to be none.
        remove_empty(&store)?;
    }
    let (rows, version) = result?;
    if !args.quiet {
        // The rows are in, whether anyone reads that or not.
        let _ = print_line(&format!("{rows} rows imported into {} (version {version})", store_path.display()));
    }
    Ok(())
}

fn append(store: &Store, files: &[PathBuf], sources: Vec<Source>, quiet: bool) -> Result<(u64, u64)> {
    let rows: Option<u64> = sources.iter().map(|source| source.rows).sum();
    let bar = progress::rows(rows, quiet);
    let mut appender = store.appender()?;
    for (file, source) in files.iter().zip(sources) {
        for batch in source.batches {
            let batch = batch.map_err(|source| Error::Arrow { context: format!("\"{}\"", file.display()), source })?;
            bar.inc(batch.num_rows() as u64);
            appender.write(&batch)?;
        }
    }
    let rows = appender.row_count();
    let version = appender.commit()?;
    bar.finish_and_clear();
    Ok((rows, version))
}

fn create(path: &Path, sources: &[Source], args: &ImportArgs) -> Result<Store> {
    let first = sources.first().ok_or_else(|| Error::InvalidArgument { message: "give at least one file".into() })?;
    let mut fields = schema_from_arrow(&first.schema)?.fields().to_vec();
    for field in &mut fields {
        // CSV readers call every column nullable; the key must not be.
        if args.key.as_deref() == Some(field.name()) {
            *field = field.clone().with_nullable(false);
        }
    }
    let mut schema = Schema::new(fields)?;
    if let Some(key) = &args.key {
        schema = schema.with_key(key)?;
    }
    Store::create(path, schema.with_sort_by(&args.sort_by)?.with_partition_by(&args.partition_by)?)
}

/// Options that make a store must fit the one that is there.
fn check_layout(store: &Store, args: &ImportArgs) -> Result<()> {
    let snapshot = store.snapshot()?;
    let schema = snapshot.schema();
    let key: Vec<String> = args.key.iter().cloned().collect();
    for (option, given, there) in [
        ("--key", &key, schema.names_of(schema.key().as_slice())),
        ("--partition-by", &args.partition_by, schema.names_of(schema.partition_by())),
        ("--sort-by", &args.sort_by, schema.names_of(schema.sort_by())),
    ] {
        if !given.is_empty() && *given != there {
            return Err(Error::InvalidArgument {
                message: format!(
                    "{option} {} does not fit the store, which has {}; {}",
                    given.join(","),
                    if there.is_empty() { "none".to_owned() } else { there.join(",") },
                    match snapshot.version() {
                        // What an import leaves that was killed.
                        0 => "it was made without rows: remove its folder to make it anew, or leave the option out",
                        _ => "leave the option out to append",
                    }
                ),
            });
        }
    }
    Ok(())
}

/// Removes a store that has no commit but the one that made it.
fn remove_empty(store: &Store) -> Result<()> {
    let io = |action, path: &Path| {
        let path = path.to_owned();
        move |source| Error::Io { action, path, source }
    };
    // Another writer may be committing: the log is taken away first, and put back if it turns out to have more.
    let log = store.path().join("_delta_log");
    let aside = store.path().join(format!("._delta_log.{}.removed", std::process::id()));
    std::fs::rename(&log, &aside).map_err(io("remove", &log))?;
    let commits = std::fs::read_dir(&aside).map_err(io("list", &aside))?;
    let names = commits.map(|entry| entry.map(|entry| entry.file_name())).collect::<Result<Vec<_>, _>>();
    let names = names.map_err(io("list", &aside))?;
    if names.iter().any(|name| name != "00000000000000000000.json") {
        return std::fs::rename(&aside, &log).map_err(io("put back", &log));
    }
    std::fs::remove_dir_all(&aside).map_err(io("remove", &aside))?;
    // Folders that hold other things stay.
    for dir in ["_soa/arrow", "_soa", ""] {
        let _ = std::fs::remove_dir(store.path().join(dir));
    }
    Ok(())
}
