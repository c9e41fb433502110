//! `soa import`: files into a store, all or nothing.

use std::path::PathBuf;

use clap::Args;
use soa_core::schema::{arrow_schema, schema_from_arrow};
use soa_core::store::{Layout, Loader, Store};
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
    let first = sources.first().ok_or_else(|| Error::InvalidArgument { message: "give at least one file".into() })?;
    let fields = schema_from_arrow(&first.schema)?.fields().to_vec();
    let layout =
        Layout { key: args.key.clone(), partition_by: args.partition_by.clone(), sort_by: args.sort_by.clone() };
    let loader = Loader::new(store_path, &layout, fields)?;
    let (rows, version) = load(loader, files, sources, args.quiet)?;
    if !args.quiet {
        // The rows are in, whether anyone reads that or not.
        let _ = print_line(&format!("{rows} rows imported into {} (version {version})", store_path.display()));
    }
    Ok(())
}

fn load(mut loader: Loader, files: &[PathBuf], sources: Vec<Source>, quiet: bool) -> Result<(u64, u64)> {
    let rows: Option<u64> = sources.iter().map(|source| source.rows).sum();
    let bar = progress::rows(rows, quiet);
    for (file, source) in files.iter().zip(sources) {
        for batch in source.batches {
            let batch = batch.map_err(|source| Error::Arrow { context: format!("\"{}\"", file.display()), source })?;
            bar.inc(batch.num_rows() as u64);
            loader.write(&batch)?;
        }
    }
    let rows = loader.row_count();
    let version = loader.commit()?;
    bar.finish_and_clear();
    Ok((rows, version))
}
