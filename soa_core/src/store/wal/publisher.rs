//! The thread that turns what is in the log into segments.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::writer::{Shared, State, start_file};
use super::{LogFileName, app_id, file_path, files, tail};
use crate::error::{Error, Result};
use crate::store::edit::{Condemned, Edit, Txn};
use crate::store::guard::Guard;
use crate::store::io::Backend;
use crate::store::maintain;
use crate::store::writing::SegmentWriter;

/// The wait after a first failure to publish, which doubles with each further one.
const RETRY_MIN: Duration = Duration::from_millis(100);
const RETRY_MAX: Duration = Duration::from_secs(30);
/// Files that are published are kept for a while: a reader that got its snapshot from another process may still need them.
const RETIRED_AGE_MIN: Duration = Duration::from_secs(60);
/// As many bytes of them at most.
const RETIRED_BYTES_MAX: u64 = 256 << 20;

/// Publishes whenever it is time, until the writer is closed.
pub(super) fn run(shared: &Shared) {
    let mut retry_at: Option<(Instant, Duration)> = None;
    loop {
        let mut state = shared.lock_state();
        loop {
            let waits_for = state.wanted.max(if shared.is_due(&state) { state.next_sequence - 1 } else { 0 });
            let may_try = state.is_urgent || retry_at.is_none_or(|(at, _)| Instant::now() >= at);
            if state.is_closing || (waits_for > state.published && may_try) || shared.is_sync_due(&state) {
                break;
            }
            let wait = next_look(shared, &state, retry_at.map(|(at, _)| at));
            state = shared.work.wait_timeout(state, wait).unwrap_or_else(PoisonError::into_inner).0;
        }
        if state.is_closing || state.poison.is_some() {
            return;
        }
        if shared.is_sync_due(&state) {
            drop(state);
            shared.sync_if_due();
            continue;
        }
        state.is_urgent = false;
        drop(state);
        // A panic would leave those waiting for ever who wait for this.
        let outcome = catch_unwind(AssertUnwindSafe(|| publish(shared)))
            .unwrap_or_else(|_| Err(Error::argument("the thread that publishes has panicked; this is a defect")));
        let mut state = shared.lock_state();
        match outcome {
            Ok(()) => {
                retry_at = None;
                state.publish_error = None;
            }
            Err(error) => {
                let wait = retry_at.map_or(RETRY_MIN, |(_, wait)| (wait * 2).min(RETRY_MAX));
                retry_at = Some((Instant::now() + wait, wait));
                state.publish_error = Some(error.with_causes());
                state.publish_failures += 1;
            }
        }
        shared.progress.notify_all();
    }
}

/// How long there is surely nothing to do.
fn next_look(shared: &Shared, state: &State, retry_at: Option<Instant>) -> Duration {
    let mut wait = Duration::from_secs(60);
    if let Some(oldest) = state.oldest {
        wait = wait.min(shared.options.publish_age.saturating_sub(oldest.elapsed()));
    }
    if let Some(at) = retry_at {
        wait = wait.max(at.saturating_duration_since(Instant::now()));
    }
    if state.durable < state.written {
        wait = wait.min(shared.options.sync_interval.saturating_sub(state.synced_at.elapsed()));
    }
    wait.max(Duration::from_millis(1))
}

/// Publishes everything that is in the log.
fn publish(shared: &Shared) -> Result<()> {
    let store = &shared.store;
    let (until, last_number, bytes, rows) = rotate(shared)?;
    let app = app_id(shared.lineage);
    let base = store.published()?;
    let published = base.log_sequence(store, &app)?;
    let mut version = base.version();
    if published < until {
        let mut tail = tail::Tail::new(shared.lineage, base.schema(), published);
        let extents = tail::fix(store.backend(), store.path(), shared.lineage)?.unwrap_or_default();
        if !tail.read(&extents, until)? || tail.sequence() != until {
            let path = file_path(store.path(), shared.lineage, last_number);
            return Err(Error::damaged(path, format!("frames up to {until} should be there, and are not")));
        }
        let mut writer = SegmentWriter::new(store, &base);
        let overlay = tail.overlay();
        let columns: Vec<usize> = (0..base.schema().len()).collect();
        for block in 0..overlay.blocks().count() {
            writer.write(tail::table_batch(base.schema(), overlay.read(block, &columns)?)?)?;
            shared.sync_if_due();
        }
        writer.finish()?;
        shared.sync_if_due();
        let edit = Edit {
            operation: if tail.keys().is_some() { "MERGE" } else { "WRITE" },
            added: writer.written(),
            new_keys: None,
            condemned: tail.keys().map(|keys| keys as &dyn Condemned),
            txn: Some(Txn { app, before: published, version: until }),
            guard: &Guard::NotNeeded,
        };
        let edited = edit.commit(store, &base);
        version = writer.settle(edited)?.version;
    } else {
        // By an attempt of which it was not known whether it had succeeded. Files of the log are given up because of it.
        store.make_durable(&base)?;
    }
    let mut state = shared.lock_state();
    state.published = until;
    state.version = version;
    state.unpublished_bytes = state.unpublished_bytes.saturating_sub(bytes);
    state.unpublished_rows = state.unpublished_rows.saturating_sub(rows);
    state.oldest = (state.next_sequence - 1 > until).then(Instant::now);
    shared.progress.notify_all();
    // Those of long ago are told by the time of the file.
    state.retired.retain(|(_, at)| at.elapsed() < 2 * RETIRED_AGE_MIN);
    state.retired.push((last_number, Instant::now()));
    let retired = state.retired.clone();
    drop(state);
    // What stays is looked at again the next time.
    let _ = retire(shared, &retired, last_number);
    if published < until {
        maintain::after_publishing(store, true);
    }
    Ok(())
}

/// Goes on in a new file, so that everything before it can be published. Gives the last frame before it, the number of its
/// file, and how many bytes and rows are to be published.
fn rotate(shared: &Shared) -> Result<(u64, u64, u64, usize)> {
    let mut state = shared.lock_state();
    if state.poison.is_none() && !shared.lock.is_held() {
        state.poison = Some("somebody has removed its lock, so that there may be another writer".to_owned());
        shared.progress.notify_all();
    }
    let log = loop {
        if let Some(poison) = &state.poison {
            return Err(Error::WriterFailed { path: shared.store.path().to_owned(), message: poison.clone() });
        }
        match state.file.take() {
            Some(log) => break log,
            None => state = shared.progress.wait(state).unwrap_or_else(PoisonError::into_inner),
        }
    };
    if state.queue.is_empty() && state.next_sequence == log.first_sequence {
        // It was begun for an attempt that failed, or nothing was added since.
        let (number, until) = (log.number, state.next_sequence - 1);
        let (bytes, rows) = totals(&state, until);
        state.file = Some(log);
        shared.progress.notify_all();
        return Ok((until, number - 1, bytes, rows));
    }
    let schema = Arc::clone(&state.schema);
    // A file that is followed by another one is whole and durable.
    let mut state = shared.write_queue(state, log, true);
    let Some(log) = state.file.take() else {
        let message = state.poison.clone().unwrap_or_default();
        return Err(Error::WriterFailed { path: shared.store.path().to_owned(), message });
    };
    let number = log.number;
    // Who adds meanwhile has its frame queued, for the new file.
    let until = state.written;
    let (bytes, rows) = totals(&state, until);
    drop(state);
    let started = start_file(&shared.store, &schema, shared.lineage, number + 1, until + 1);
    let backend = shared.store.backend();
    let mut state = shared.lock_state();
    let outcome = match started {
        Ok(next) => {
            state.file = Some(next);
            Ok((until, number, bytes, rows))
        }
        Err(error) => {
            let path = file_path(shared.store.path(), shared.lineage, number + 1);
            let is_taken = matches!(&error, Error::Io { source, .. } if source.kind() == io::ErrorKind::AlreadyExists);
            // The old file is as good as it was, as long as it is the last one whatever happens. A file that is not ours has
            // another owner of the log made.
            match if is_taken { Err(io::ErrorKind::AlreadyExists.into()) } else { remove_durably(backend, &path) } {
                Ok(()) => state.file = Some(log),
                Err(error) => state.poison = Some(Error::io("remove", &path)(error).with_causes()),
            }
            Err(error)
        }
    };
    shared.progress.notify_all();
    outcome
}

fn remove_durably(backend: &dyn Backend, path: &Path) -> io::Result<()> {
    match backend.remove(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    backend.sync_dir(path.parent().unwrap_or(Path::new(".")))
}

/// What is to be published of what is counted: all of it, but for frames that came since.
fn totals(state: &MutexGuard<'_, State>, until: u64) -> (u64, usize) {
    let queued = state.queue.len() as u64;
    match state.next_sequence - 1 == until {
        true => (state.unpublished_bytes, state.unpublished_rows),
        // Rows that are queued are few; they are counted again when they are published.
        false => (state.unpublished_bytes.saturating_sub(queued), state.unpublished_rows),
    }
}

/// Removes files that have been published long enough, or too many of them.
fn retire(shared: &Shared, retired: &[(u64, Instant)], last_number: u64) -> Result<()> {
    let backend = shared.store.backend();
    let mut kept_bytes = 0;
    let published = files(backend, shared.store.path(), shared.lineage)?;
    for file in published.iter().rev().filter(|file| file.number <= last_number) {
        kept_bytes += file.len;
        let published_at = retired.iter().find(|(up_to, _)| file.number <= *up_to).map(|(_, at)| *at);
        match published_at {
            Some(at) if at.elapsed() < RETIRED_AGE_MIN && kept_bytes <= RETIRED_BYTES_MAX => {}
            None if kept_bytes <= RETIRED_BYTES_MAX => remove_if_old(backend, file)?,
            _ => backend.remove(&file.path).map_err(Error::io("remove", &file.path))?,
        }
    }
    Ok(())
}

/// Removes a file that is published, unless that may have been a moment ago.
pub(super) fn remove_if_old(backend: &dyn Backend, file: &LogFileName) -> Result<()> {
    let age = crate::store::log::now_ms().saturating_sub(file.modified_ms);
    // A clock that was put back must not keep it for ever.
    if u128::from(age.unsigned_abs()) < RETIRED_AGE_MIN.as_millis() {
        return Ok(());
    }
    backend.remove(&file.path).map_err(Error::io("remove", &file.path))
}
