//! One state that futures work on, on threads that may block.

use std::fmt;
use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::sync::RwLock;

use super::{PersistenceError, Result};

/// Runs `work` on a thread of the runtime that may block.
///
/// It begins when the future is first polled, and is not stopped when that is dropped: what has begun is done. A panic of
/// `work` goes on in whoever waits.
///
/// # Errors
///
/// Those of `work`, and where there is no runtime, or it ends before `work` has begun.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let runtime = Handle::try_current().map_err(PersistenceError::NoRuntime)?;
    match runtime.spawn_blocking(work).await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_) => Err(PersistenceError::Shutdown),
        },
    }
}

/// A state that one future writes at a time, or many read, in the order in which they came. Who writes has the state until
/// the work is done, whether the future is still there or not: what comes later sees it whole.
pub(super) struct Serial<S>(Arc<RwLock<S>>);

impl<S: Send + Sync + 'static> Serial<S> {
    pub(super) fn new(state: S) -> Self {
        Self(Arc::new(RwLock::new(state)))
    }

    /// Changes the state, on a thread that may block.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut S) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let mut state = Arc::clone(&self.0).write_owned().await;
        blocking(move || work(&mut state)).await
    }

    /// Reads the state, on a thread that may block.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&S) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let state = Arc::clone(&self.0).read_owned().await;
        blocking(move || work(&state)).await
    }

    /// Changes the state at once, on this thread, for what does not take long.
    pub(super) async fn write_here<T>(&self, work: impl FnOnce(&mut S) -> Result<T>) -> Result<T> {
        work(&mut *self.0.write().await)
    }

    /// Reads the state at once, on this thread, for what does not take long.
    pub(super) async fn read_here<T>(&self, work: impl FnOnce(&S) -> Result<T>) -> Result<T> {
        work(&*self.0.read().await)
    }
}

impl<S> fmt::Debug for Serial<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Serial").finish_non_exhaustive()
    }
}
