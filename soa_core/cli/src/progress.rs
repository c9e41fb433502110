//! How far a command is, shown to people who wait: on standard error, and only where that is a terminal.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};

/// Counts rows; `total` is how many there will be, where that is known.
pub(crate) fn rows(total: Option<u64>, quiet: bool) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => (ProgressBar::new(total), "{bar:40} {human_pos} of {human_len} rows, {elapsed}, {eta} left"),
        None => (ProgressBar::new_spinner(), "{spinner} {human_pos} rows, {elapsed}"),
    };
    shown(bar, template, quiet)
}

/// Counts bytes.
pub(crate) fn bytes(total: u64, quiet: bool) -> ProgressBar {
    shown(ProgressBar::new(total), "{bar:40} {bytes} of {total_bytes}, {elapsed}, {eta} left", quiet)
}

/// Counts files.
pub(crate) fn files(quiet: bool) -> ProgressBar {
    shown(ProgressBar::new_spinner(), "{spinner} {human_pos} files, {elapsed}", quiet)
}

fn shown(bar: ProgressBar, template: &str, quiet: bool) -> ProgressBar {
    if quiet {
        return ProgressBar::hidden();
    }
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar.enable_steady_tick(Duration::from_millis(200));
    bar
}
