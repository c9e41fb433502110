//! `soa delete` and `soa alter`.

use std::str::FromStr;

use clap::Args;
use serde_json::json;
use soa_core::predicate::{Predicate, Scalar};
use soa_core::scan::ScanRequest;
use soa_core::schema::{DataType, Field, Schema};
use soa_core::store::{Snapshot, Store};
use soa_core::{Error, Result};
use std::sync::Arc;

use crate::{CommandResult, StoreArgs, print_line};

#[derive(Debug, Args)]
pub(crate) struct DeleteArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Delete the rows for which this is true: "status = 'Cancelled' AND ordered_on < '2024-01-01'". Comparisons with constants, IN, BETWEEN,
    /// LIKE 'prefix%', IS NULL, AND, OR, NOT and parentheses
    #[arg(long = "where", value_name = "CONDITION", required_unless_present = "key", allow_hyphen_values = true)]
    condition: Option<String>,
    /// Delete the rows with these keys
    #[arg(long, value_name = "VALUE", num_args = 1.., conflicts_with = "condition", allow_negative_numbers = true)]
    key: Vec<String>,
    /// Only say how many rows would be deleted
    #[arg(long, short = 'n')]
    dry_run: bool,
}

pub(crate) fn delete(args: &DeleteArgs) -> CommandResult {
    let store = Store::open(&args.store.store)?;
    let snapshot = store.snapshot()?;
    let predicate = match &args.condition {
        Some(condition) => Predicate::parse(condition, snapshot.schema())?,
        None => with_keys(snapshot.schema(), &args.key)?,
    };
    let (rows, version) = match args.dry_run {
        true => (count(&snapshot, &predicate)?, snapshot.version()),
        false => {
            let done = store.delete(&predicate)?;
            (done.rows_deleted, done.version)
        }
    };
    if args.store.json {
        let done = json!({"dry_run": args.dry_run, "version": version, "rows_deleted": rows});
        return Ok(print_line(&done.to_string())?);
    }
    let would = if args.dry_run { "would be " } else { "" };
    Ok(print_line(&format!("{rows} rows {would}deleted (version {version})"))?)
}

/// The condition that a row has one of these keys.
fn with_keys(schema: &Schema, keys: &[String]) -> Result<Predicate> {
    let column = schema.key().ok_or_else(|| Error::InvalidArgument {
        message: "the store has no key; say with --where which rows to delete".to_owned(),
    })?;
    let values = keys.iter().map(|key| Scalar::parse(key, schema.field(column))).collect::<Result<_>>()?;
    Ok(Predicate::In { column, values })
}

fn count(snapshot: &Arc<Snapshot>, predicate: &Predicate) -> Result<u64> {
    let columns = predicate.columns().into_iter().take(1).collect();
    let plan = snapshot.plan(&ScanRequest { columns, predicate: Some(predicate.clone()), limit: None })?;
    (0..plan.units().len()).map(|unit| plan.read_filtered(unit).map(|batch| batch.num_rows() as u64)).sum()
}

#[derive(Debug, Args)]
#[group(id = "change", required = true, multiple = true, args = ["add_column", "add_variant", "auto_compact", "arrow_bytes", "deletion_vectors"])]
pub(crate) struct AlterArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Add a column, NULL in all rows that are there; types are called as `soa info` does: i64, decimal(9,2), enum(low,high)
    #[arg(long, value_name = "NAME:TYPE", value_parser = column)]
    add_column: Vec<Field>,
    /// Add a name to those that an enum column may hold
    #[arg(long, value_name = "COLUMN=NAME", value_parser = variant)]
    add_variant: Vec<(String, String)>,
    /// Whether small segments are joined by themselves
    #[arg(long, value_name = "BOOL")]
    auto_compact: Option<bool>,
    /// How many bytes Arrow forms may take; "any" for as many as there are
    #[arg(long, value_name = "BYTES", value_parser = arrow_bytes)]
    arrow_bytes: Option<ArrowBytes>,
    /// Whether rows are deleted by deletion vectors; by rewriting files if not
    #[arg(long, value_name = "BOOL")]
    deletion_vectors: Option<bool>,
}

/// A budget for Arrow forms; `None`: any.
#[derive(Debug, Clone, Copy)]
struct ArrowBytes(Option<u64>);

fn arrow_bytes(text: &str) -> Result<ArrowBytes, String> {
    match text {
        "any" => Ok(ArrowBytes(None)),
        text => {
            text.parse().map(|bytes| ArrowBytes(Some(bytes))).map_err(|_| "it is no number and not \"any\"".to_owned())
        }
    }
}

fn column(text: &str) -> Result<Field, String> {
    let (name, kind) = text.split_once(':').ok_or("write NAME:TYPE, such as discount:f64")?;
    DataType::from_str(kind.trim()).map(|kind| Field::nullable(name.trim(), kind)).map_err(|error| error.to_string())
}

fn variant(text: &str) -> Result<(String, String), String> {
    let (column, name) = text.split_once('=').ok_or("write COLUMN=NAME, such as status=Returned")?;
    Ok((column.to_owned(), name.to_owned()))
}

pub(crate) fn alter(args: &AlterArgs) -> CommandResult {
    let store = Store::open(&args.store.store)?;
    let mut version = store.snapshot()?.version();
    if !args.add_column.is_empty() {
        version = store.add_columns(&args.add_column)?;
    }
    for (column, name) in &args.add_variant {
        version = store.add_variants(column, &[name])?;
    }
    if let Some(enabled) = args.auto_compact {
        version = store.set_auto_compact(enabled)?;
    }
    if let Some(ArrowBytes(bytes)) = args.arrow_bytes {
        version = store.set_arrow_bytes_max(bytes)?;
    }
    if let Some(enabled) = args.deletion_vectors {
        version = store.set_deletion_vectors(enabled)?;
    }
    if args.store.json {
        return Ok(print_line(&json!({"version": version}).to_string())?);
    }
    Ok(print_line(&format!("{} is as you want it (version {version})", args.store.store.display()))?)
}
