//! `soa info`, `soa history` and `soa verify`.

use serde_json::json;
use soa_core::store::{Form, Store, VerifyReport};

use crate::{CommandResult, Failure, StoreArgs, print_line};

pub(crate) fn info(args: &StoreArgs) -> CommandResult {
    let store = Store::open(&args.store)?;
    let snapshot = store.snapshot()?;
    let schema = snapshot.schema();
    let parquet: u64 = snapshot.segments().iter().map(|segment| segment.parquet_bytes()).sum();
    let arrow: u64 = snapshot.segments().iter().filter_map(|segment| segment.arrow_bytes()).sum();
    let in_arrow = snapshot.segments().iter().filter(|segment| segment.form() == Form::Arrow).count();
    if args.json {
        let columns: Vec<_> = schema
            .fields()
            .iter()
            .map(|field| json!({"name": field.name(), "type": field.data_type().to_string(), "nullable": field.is_nullable()}))
            .collect();
        let info = json!({
            "path": store.path().display().to_string(),
            "version": snapshot.version(),
            "rows": snapshot.row_count(),
            "segments": snapshot.segments().len(),
            "segments_in_arrow_form": in_arrow,
            "parquet_bytes": parquet,
            "arrow_bytes": arrow,
            "key": schema.key().map(|key| schema.field(key).name()),
            "sort_by": schema.names_of(schema.sort_by()),
            "partition_by": schema.names_of(schema.partition_by()),
            "columns": columns,
        });
        return Ok(print_line(&info.to_string())?);
    }
    print_line(&format!("store         {}", store.path().display()))?;
    print_line(&format!("version       {}", snapshot.version()))?;
    print_line(&format!("rows          {}", snapshot.row_count()))?;
    print_line(&format!("segments      {}, {in_arrow} of them in Arrow form", snapshot.segments().len()))?;
    print_line(&format!("size          {} as Parquet, {} as Arrow", bytes(parquet), bytes(arrow)))?;
    for (name, columns) in [
        ("key", schema.names_of(schema.key().as_slice())),
        ("sorted by", schema.names_of(schema.sort_by())),
        ("partitioned by", schema.names_of(schema.partition_by())),
    ] {
        if !columns.is_empty() {
            print_line(&format!("{name:<14}{}", columns.join(", ")))?;
        }
    }
    print_line("columns")?;
    let width = schema.fields().iter().map(|field| field.name().chars().count()).max().unwrap_or(0);
    for field in schema.fields() {
        let null = if field.is_nullable() { " or NULL" } else { "" };
        print_line(&format!("  {:<width$}  {}{null}", field.name(), field.data_type()))?;
    }
    Ok(())
}

pub(crate) fn bytes(count: u64) -> String {
    indicatif::HumanBytes(count).to_string()
}

pub(crate) fn history(args: &StoreArgs) -> CommandResult {
    let commits = Store::open(&args.store)?.history()?;
    if args.json {
        let commits: Vec<_> = commits
            .iter()
            .map(|commit| {
                json!({
                    "version": commit.version,
                    "timestamp_ms": commit.timestamp_ms,
                    "operation": commit.operation,
                    "engine": commit.engine,
                    "files_added": commit.files_added,
                    "files_removed": commit.files_removed,
                    "rows_added": commit.rows_added,
                    "rows_deleted": commit.rows_deleted,
                })
            })
            .collect();
        return Ok(print_line(&json!(commits).to_string())?);
    }
    print_line(&format!(
        "{:>8}  {:<24}  {:<17}  {:>12}  {:>12}  {:>6}  {:>8}",
        "version", "time", "operation", "rows added", "rows deleted", "files", "removed"
    ))?;
    for commit in commits {
        let time = chrono::DateTime::from_timestamp_millis(commit.timestamp_ms)
            .map_or_else(String::new, |time| time.to_rfc3339_opts(chrono::SecondsFormat::Millis, true));
        let number = |rows: Option<u64>| rows.map_or_else(|| "?".to_owned(), |rows| rows.to_string());
        let (added, deleted) = (number(commit.rows_added), number(commit.rows_deleted));
        print_line(&format!(
            "{:>8}  {time:<24}  {:<17}  {added:>12}  {deleted:>12}  {:>6}  {:>8}",
            commit.version, commit.operation, commit.files_added, commit.files_removed
        ))?;
    }
    Ok(())
}

pub(crate) fn verify(args: &StoreArgs) -> CommandResult {
    let report = Store::open(&args.store)?.verify()?;
    let printed = print_report(&report, args.json);
    // What was found counts, whether anyone reads it or not.
    if !report.is_ok() {
        return Err(Failure::Damaged);
    }
    Ok(printed?)
}

fn print_report(report: &VerifyReport, json: bool) -> std::io::Result<()> {
    if json {
        let value = json!({
            "version": report.version,
            "segments": report.segments,
            "rows": report.rows,
            "problems": report.problems,
        });
        return print_line(&value.to_string());
    }
    for problem in &report.problems {
        print_line(problem)?;
    }
    let verdict = match report.problems.len() {
        0 => "all is well".to_owned(),
        1 => "1 problem".to_owned(),
        many => format!("{many} problems"),
    };
    print_line(&format!("version {}, {} segments, {} rows: {verdict}", report.version, report.segments, report.rows))
}
