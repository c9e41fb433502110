//! `soa compact`, `soa vacuum`, `soa restore` and `soa clone`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use serde_json::json;
use soa_core::predicate::Scalar;
use soa_core::schema::{DataType, Field};
use soa_core::store::{At, CompactOptions, Store, VacuumOptions};
use soa_core::{Error, Result};

use crate::show::bytes;
use crate::{CommandResult, StoreArgs, print_line, progress};

#[derive(Debug, Args)]
pub(crate) struct CompactArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Write segments anew of which a larger share of rows is deleted, from 0 to 1
    #[arg(long, value_name = "SHARE", default_value_t = CompactOptions::default().deleted_share_max)]
    deleted_share: f64,
    /// The rows of a segment at most; those with less than half of them are small
    #[arg(long, value_name = "ROWS", default_value_t = CompactOptions::default().segment_rows_max)]
    segment_rows: usize,
    /// How many bytes Arrow forms may take, this once; what the store says if left out
    #[arg(long, value_name = "BYTES")]
    arrow_bytes: Option<u64>,
    /// Make no Arrow forms for segments that have none
    #[arg(long)]
    no_arrow: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) fn compact(args: &CompactArgs) -> CommandResult {
    let store = Store::open(&args.store.store)?;
    let mut options = CompactOptions::default();
    options.deleted_share_max = args.deleted_share;
    options.segment_rows_max = args.segment_rows;
    options.arrow_bytes_max = args.arrow_bytes;
    options.rebuild_arrow = !args.no_arrow;
    let bar = progress::rows(Some(0), args.quiet);
    let done = store.compact_with(&options, &mut |progress| {
        bar.set_length(progress.rows_total);
        bar.set_position(progress.rows_done);
    });
    bar.finish_and_clear();
    let done = done?;
    if args.store.json {
        return Ok(print_line(
            &json!({
                "version": done.version,
                "segments_removed": done.segments_removed,
                "segments_added": done.segments_added,
                "segments_given_up": done.segments_given_up,
                "rows_written": done.rows_written,
                "rows_dropped": done.rows_dropped,
                "bytes_removed": done.bytes_removed,
                "bytes_added": done.bytes_added,
                "arrow_rebuilt": done.arrow_rebuilt,
                "arrow_dropped": done.arrow_dropped,
            })
            .to_string(),
        )?);
    }
    if args.quiet {
        return Ok(());
    }
    let (before, after) = (bytes(done.bytes_removed), bytes(done.bytes_added));
    print_line(&format!(
        "{} segments ({before}) became {} ({after}): {} rows written, {} deleted rows dropped (version {})",
        done.segments_removed, done.segments_added, done.rows_written, done.rows_dropped, done.version
    ))?;
    if done.segments_given_up > 0 {
        print_line(&format!("{} segments were changed by others meanwhile and stay", done.segments_given_up))?;
    }
    if done.arrow_rebuilt + done.arrow_dropped > 0 {
        print_line(&format!("{} Arrow forms made, {} removed", done.arrow_rebuilt, done.arrow_dropped))?;
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(crate) struct VacuumArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// Keep what versions need that were the newest within this time: a number and s, m, h or d
    #[arg(long, value_name = "TIME", default_value = "7d", value_parser = duration)]
    retention: Duration,
    /// Only list what would be removed
    #[arg(long, short = 'n')]
    dry_run: bool,
    /// Take a retention of less than a day; nobody may read older versions, or write, meanwhile
    #[arg(long)]
    force: bool,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

fn duration(text: &str) -> Result<Duration, String> {
    let unread = || format!("{text:?} is no time; write a number and s, m, h or d, such as 36h");
    let unit = text.chars().last().ok_or_else(unread)?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 60 * 60,
        'd' => 24 * 60 * 60,
        _ => return Err(unread()),
    };
    let count: u64 = text[..text.len() - unit.len_utf8()].parse().map_err(|_| unread())?;
    count.checked_mul(seconds).map(Duration::from_secs).ok_or_else(unread)
}

pub(crate) fn vacuum(args: &VacuumArgs) -> CommandResult {
    let store = Store::open(&args.store.store)?;
    let mut options = VacuumOptions::default();
    options.retention = args.retention;
    options.dry_run = args.dry_run;
    options.force = args.force;
    let bar = progress::files(args.quiet);
    let done = store.vacuum_with(&options, &mut |_, _| bar.inc(1));
    bar.finish_and_clear();
    let done = done?;
    if args.store.json {
        let files: Vec<_> = done.files.iter().map(|file| file.display().to_string()).collect();
        let done = json!({"dry_run": args.dry_run, "files": files, "bytes": done.bytes});
        return Ok(print_line(&done.to_string())?);
    }
    if args.dry_run {
        for file in &done.files {
            print_line(&file.display().to_string())?;
        }
    }
    if !args.quiet {
        let would = if args.dry_run { "would be " } else { "" };
        print_line(&format!("{} files ({}) {would}removed", done.files.len(), bytes(done.bytes)))?;
    }
    Ok(())
}

#[derive(Debug, Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The version whose rows and columns the store is to have again
    #[arg(long, value_name = "N", required_unless_present = "timestamp")]
    version: Option<u64>,
    /// The version that was the newest at this time, in UTC unless it has an offset: 2024-02-29 12:34:56
    #[arg(long, value_name = "TIME", conflicts_with = "version")]
    timestamp: Option<String>,
}

pub(crate) fn restore(args: &RestoreArgs) -> CommandResult {
    let store = Store::open(&args.store.store)?;
    let at = match (args.version, &args.timestamp) {
        (Some(version), _) => At::Version(version),
        (None, text) => At::Timestamp(micros(text.as_deref().unwrap_or_default())?),
    };
    let before = store.snapshot()?.version();
    let done = store.restore(at)?;
    if args.store.json {
        let done = json!({"version": done.version, "rows_added": done.rows_added, "rows_deleted": done.rows_deleted});
        return Ok(print_line(&done.to_string())?);
    }
    let version = done.version;
    if version == before {
        return Ok(print_line(&format!("version {version} has these rows already"))?);
    }
    Ok(print_line(&format!("{} rows are back, {} are gone (version {version})", done.rows_added, done.rows_deleted))?)
}

/// Microseconds since 1970.
fn micros(text: &str) -> Result<i64> {
    let no_time =
        || Error::InvalidArgument { message: format!("--timestamp {text:?} is no time, such as 2024-02-29 12:34:56") };
    let field = Field::new("timestamp", DataType::Timestamp { utc: true });
    match Scalar::parse(text, &field) {
        Ok(Scalar::Int(micros)) => i64::try_from(micros).map_err(|_| no_time()),
        _ => Err(no_time()),
    }
}

#[derive(Debug, Args)]
pub(crate) struct CloneArgs {
    #[command(flatten)]
    store: StoreArgs,
    /// The folder of the new store, which must not be one yet
    copy: PathBuf,
    /// Print nothing but errors
    #[arg(long, short)]
    quiet: bool,
}

pub(crate) fn clone(args: &CloneArgs) -> CommandResult {
    let store = Store::open(&args.store.store)?;
    let bar = progress::bytes(0, args.quiet);
    let copy = store.clone_with(&args.copy, &mut |done, total| {
        bar.set_length(total);
        bar.set_position(done);
    });
    bar.finish_and_clear();
    let snapshot = copy?.snapshot()?;
    if args.store.json {
        let done = json!({
            "path": snapshot.path().display().to_string(),
            "rows": snapshot.row_count(),
            "segments": snapshot.segments().len(),
        });
        return Ok(print_line(&done.to_string())?);
    }
    if !args.quiet {
        print_line(&format!("{} rows copied to {}", snapshot.row_count(), args.copy.display()))?;
    }
    Ok(())
}
