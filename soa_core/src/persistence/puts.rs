//! Rows that several futures put at once, written together: one sync of the disk serves them all.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arrow::array::RecordBatch;

use super::{PersistenceError, Result};
use crate::convert::join_batches;
use crate::error::Error;
use crate::schema::Schema;
use crate::store::{UNIT_ROWS, Writer};

/// Rows that wait, in the order in which they came.
#[derive(Debug, Default)]
pub(super) struct Puts(Mutex<Vec<Arc<Put>>>);

/// Rows of one future.
#[derive(Debug)]
struct Put(Mutex<State>);

#[derive(Debug)]
enum State {
    Waiting(RecordBatch),
    /// Somebody is writing them.
    Taken,
    Done(Result<()>),
    /// Whoever wanted to know has been told, or does not want to any more.
    Over,
}

impl Put {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes the rows to write them, unless they are not wanted any more.
    fn take(&self) -> Option<RecordBatch> {
        let mut state = self.state();
        match std::mem::replace(&mut *state, State::Taken) {
            State::Waiting(rows) => Some(rows),
            other => {
                *state = other;
                None
            }
        }
    }
}

/// Rows that wait to be put by anybody. If it is dropped before, they are not put.
#[derive(Debug)]
pub(super) struct Waiting<'a> {
    puts: &'a Puts,
    put: Arc<Put>,
}

impl Puts {
    /// Adds rows to those that wait.
    pub(super) fn add(&self, rows: RecordBatch) -> Waiting<'_> {
        let put = Arc::new(Put(Mutex::new(State::Waiting(rows))));
        self.queue().push(Arc::clone(&put));
        Waiting { puts: self, put }
    }

    fn queue(&self) -> MutexGuard<'_, Vec<Arc<Put>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes all rows that wait; whoever waits for them is told what came of it.
    ///
    /// # Errors
    ///
    /// When the writer has failed for good.
    pub(super) fn write(&self, writer: &Writer, schema: &Schema) -> Result<(), Error> {
        let waiting = std::mem::take(&mut *self.queue());
        let mut taken: Vec<(Arc<Put>, RecordBatch)> =
            waiting.into_iter().filter_map(|put| put.take().map(|rows| (put, rows))).collect();
        let mut failed = Ok(());
        while !taken.is_empty() {
            // As many as fit into a frame; what has more rows is published by itself.
            let mut rows = 0;
            let fit = taken.iter().take_while(|(_, batch)| {
                rows += batch.num_rows();
                rows < UNIT_ROWS
            });
            let fit = fit.count().max(1);
            let group: Vec<_> = taken.drain(..fit).collect();
            let together = (group.len() > 1).then(|| join_batches(schema, group.iter().map(|(_, rows)| rows)));
            if let Some(Ok(())) = together.map(|rows| writer.add_batch(&rows?)) {
                group.iter().for_each(|(put, _)| *put.state() = State::Done(Ok(())));
                continue;
            }
            // What is wrong with one is not wrong with the others, of which none was added.
            for (put, rows) in group {
                let done = writer.add_batch(&rows);
                if let Err(Error::WriterFailed { path, message }) = &done {
                    failed = Err(Error::WriterFailed { path: path.clone(), message: message.clone() });
                }
                *put.state() = State::Done(done.map_err(PersistenceError::from));
            }
        }
        failed
    }
}

impl Waiting<'_> {
    /// What came of it; `None` as long as the rows wait.
    pub(super) fn outcome(&self) -> Option<Result<()>> {
        let mut state = self.put.state();
        match std::mem::replace(&mut *state, State::Over) {
            State::Done(done) => Some(done),
            other => {
                *state = other;
                None
            }
        }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        if let State::Waiting(_) = std::mem::replace(&mut *self.put.state(), State::Over) {
            self.puts.queue().retain(|put| !Arc::ptr_eq(put, &self.put));
        }
    }
}
