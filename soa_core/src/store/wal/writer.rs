//! The owner of a store's write-ahead log: adds rows that are durable and visible when `add` returns.

use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use arrow::array::{ArrayRef, RecordBatch};
use uuid::Uuid;

use super::frame::{FRAME_HEADER_LEN, FileHeader, Frame, Kind, PAYLOAD_LEN_MAX};
use super::recovery::recover;
use super::tail;
use super::{LOCK_FILE, app_id, file_path, publisher, rows};
use crate::convert::{cast_batch, cast_column};
use crate::error::{Error, Result};
use crate::kernel::{Record, Rows as _};
use crate::schema::{Field, Schema};
use crate::store::commit::{self, Change, Failure, check_deletable, check_writable};
use crate::store::guard::Guard;
use crate::store::io::{LockGuard, LockMode, LogFile};
use crate::store::paths::{self, WAL_DIR};
use crate::store::writing::check_partition_values;
use crate::store::{Store, UNIT_ROWS, delta_schema};

/// When a row that was added is safe.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// When `add` returns it is on disk: nothing takes it back, not even a power cut.
    #[default]
    Sync,
    /// When `add` returns the operating system has it: it outlives the process, but a power cut may take back what was added
    /// in the last [`sync_interval`](WriterOptions::sync_interval).
    Buffered,
}

/// How a [`Writer`] works. [`Default`] suits most stores.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct WriterOptions {
    /// When a row that was added is safe.
    pub durability: Durability,
    /// Rows are published when so many are in the log,
    pub publish_rows: usize,
    /// or when they take so many bytes there,
    pub publish_bytes: u64,
    /// or when the oldest has been there for so long.
    pub publish_age: Duration,
    /// `add` waits for publishing when rows take so many bytes in the log.
    pub log_bytes_max: u64,
    /// What is [`Buffered`](Durability::Buffered) is synced at least so often.
    pub sync_interval: Duration,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            durability: Durability::Sync,
            publish_rows: 4 * UNIT_ROWS,
            publish_bytes: 32 << 20,
            publish_age: Duration::from_secs(10),
            log_bytes_max: 64 << 20,
            sync_interval: Duration::from_secs(1),
        }
    }
}

/// Adds rows to a store, one at a time or many, from any number of threads. There is one writer of a store at a time, in all
/// processes together.
///
/// Rows are visible to [`Store::snapshot`], and so to DuckDB and Postgres, as soon as they were added. Now and then, as
/// the options say, they are published: then every reader of Delta Lake sees them. In a store with a key each row takes the
/// place of the one with the same key.
///
/// [`close`](Self::close) publishes what is left and says whether that succeeded; dropping the writer does the same as well
/// as it can. A process that ends without either loses nothing: the rows stay in the log, where readers see them, and
/// the next writer publishes them.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    publisher: Option<JoinHandle<()>>,
}

/// What the threads that add and the one that publishes share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) store: Store,
    /// The newest columns that are known; the log may have frames of older ones.
    schema: RwLock<Arc<Schema>>,
    pub(super) lineage: Uuid,
    pub(super) options: WriterOptions,
    pub(super) state: Mutex<State>,
    /// Somebody may go on who waited for a write, a sync or publishing.
    pub(super) progress: Condvar,
    /// There is something for the publisher to look at.
    pub(super) work: Condvar,
    pub(super) lock: Box<dyn LockGuard>,
}

/// What is known of the log. Sequences are those of frames.
#[derive(Debug)]
pub(super) struct State {
    /// The file that is added to; none while somebody writes or syncs it.
    pub(super) file: Option<OpenLog>,
    /// Frames that are not in the file yet.
    pub(super) queue: Vec<u8>,
    /// The columns of the next frame, unless another is named before it.
    pub(super) schema: Arc<Schema>,
    pub(super) next_sequence: u64,
    pub(super) written: u64,
    pub(super) durable: u64,
    /// When the file was last synced.
    pub(super) synced_at: Instant,
    /// How many frames were synced together the last time, and how long that took.
    last_group: u64,
    last_sync: Duration,
    pub(super) published: u64,
    /// The version that has what is published.
    pub(super) version: u64,
    pub(super) unpublished_rows: usize,
    pub(super) unpublished_bytes: u64,
    pub(super) oldest: Option<Instant>,
    /// Somebody waits for these to be published.
    pub(super) wanted: u64,
    /// Why the last attempt to publish failed, and how many have.
    pub(super) publish_error: Option<String>,
    pub(super) publish_failures: u64,
    /// Why nothing can be added any more.
    pub(super) poison: Option<String>,
    /// Somebody waits who does not want to wait for another attempt's time.
    pub(super) is_urgent: bool,
    pub(super) is_closing: bool,
    /// Up to which file the log was published, and when; ascending.
    pub(super) retired: Vec<(u64, Instant)>,
}

/// A log file and how much of it there is.
#[derive(Debug)]
pub(super) struct OpenLog {
    pub(super) file: Box<dyn LogFile>,
    pub(super) number: u64,
    /// The sequence of its first frame with rows or keys, which may be still to come.
    pub(super) first_sequence: u64,
    pub(super) id: Uuid,
    pub(super) len: u64,
    /// How many bytes of it are durable.
    pub(super) synced: u64,
}

impl Store {
    /// Becomes the one writer of the store's write-ahead log. Rows that an earlier writer left in it are published first
    /// thing, in the background.
    ///
    /// # Errors
    ///
    /// When there is another writer, in this process or another; the file system has no locks that can be relied on; the
    /// log is damaged; or a file cannot be written.
    pub fn writer(&self, options: WriterOptions) -> Result<Writer> {
        self.own_log(options, "")
    }

    /// Publishes what is in a log that has no owner.
    ///
    /// # Errors
    ///
    /// As [`writer`](Self::writer) and [`Writer::close`].
    pub(in crate::store) fn publish_left(&self) -> Result<()> {
        self.own_log(WriterOptions::default(), PUBLISHES_ONLY)?.close().map(drop)
    }

    fn own_log(&self, options: WriterOptions, purpose: &str) -> Result<Writer> {
        let dir = self.path().join(WAL_DIR);
        self.backend().create_dirs_below(self.path(), &dir).map_err(Error::io("create", &dir))?;
        paths::check_inside(self.path(), &dir)?;
        // Rows must not be durable in a folder that is not.
        self.sync_names(&[self.path(), dir.parent().unwrap_or(self.path()), &dir])?;
        let lock = lock(self, LockMode::Exclusive)?;
        let _ = lock.describe(&format!("process {}{purpose}\n", std::process::id()));
        let lineage = enable(self)?;
        let base = self.published()?;
        check_writable(&base)?;
        if base.schema().key().is_some() {
            check_deletable(&base)?;
        }
        // What is published is not in the log for long.
        self.make_durable(&base)?;
        let published = base.log_sequence(self, &app_id(lineage))?;
        let recovered = recover(self, lineage, published)?;
        let schema = Arc::new(base.schema().clone());
        let file = start_file(self, &schema, lineage, recovered.next_number, recovered.next_sequence)?;
        let state = State {
            file: Some(file),
            queue: Vec::new(),
            schema: Arc::clone(&schema),
            next_sequence: recovered.next_sequence,
            written: recovered.next_sequence - 1,
            durable: recovered.next_sequence - 1,
            synced_at: Instant::now(),
            last_group: 0,
            last_sync: Duration::ZERO,
            published,
            version: base.version(),
            unpublished_rows: 0,
            // What is left of an earlier writer does not keep others waiting: it is published first.
            unpublished_bytes: 0,
            oldest: (recovered.bytes > 0).then(Instant::now),
            // What is left of an earlier writer is not kept waiting.
            wanted: if recovered.bytes > 0 { recovered.next_sequence - 1 } else { 0 },
            publish_error: None,
            publish_failures: 0,
            poison: None,
            is_urgent: false,
            is_closing: false,
            retired: Vec::new(),
        };
        let shared = Arc::new(Shared {
            store: self.clone(),
            schema: RwLock::new(schema),
            lineage,
            options,
            state: Mutex::new(state),
            progress: Condvar::new(),
            work: Condvar::new(),
            lock,
        });
        let thread = std::thread::Builder::new().name("soa-publisher".to_owned());
        let publisher = thread.spawn({
            let shared = Arc::clone(&shared);
            move || publisher::run(&shared)
        });
        let publisher = publisher.map_err(Error::io("start a thread for", self.path()))?;
        Ok(Writer { shared, publisher: Some(publisher) })
    }
}

impl Writer {
    /// The store that is written.
    pub fn store(&self) -> &Store {
        &self.shared.store
    }

    /// Adds a row; in a store with a key, in the place of the one with the same key.
    ///
    /// # Errors
    ///
    /// As [`add_batch`](Self::add_batch).
    pub fn add<R: Record>(&self, record: R) -> Result<()> {
        let mut rows = R::Soa::default();
        rows.try_push(record)?;
        self.add_batch(&rows.into_record_batch())
    }

    /// Adds rows, all or none; in a store with a key, each in the place of the one with the same key. Columns are matched
    /// by name and converted to the table's types, those among them that were added since the writer was opened. A batch of [`UNIT_ROWS`] rows or more does not go through the log: it is
    /// published at once.
    ///
    /// # Errors
    ///
    /// When the rows do not fit the table: then nothing was added, and the writer can be used further. When the log could
    /// not be written: then it is not known whether the rows are durable, and nothing more can be added; open another writer.
    /// When publishing keeps failing while the log is full: then nothing was added.
    pub fn add_batch(&self, batch: &RecordBatch) -> Result<()> {
        let (batch, schema) = self.shared.cast(batch)?;
        if batch.num_rows() == 0 {
            return Ok(());
        }
        if batch.num_rows() >= UNIT_ROWS {
            return self.publish_directly(&batch);
        }
        // What cannot be published must not get into the log, where nothing would take it away.
        check_partition_values(&schema, &batch)?;
        let kind = if schema.key().is_some() { Kind::Puts } else { Kind::Rows };
        let mut frame = vec![0; FRAME_HEADER_LEN];
        rows::encode(schema.fields(), &batch, &mut frame)?;
        match frame.len() - FRAME_HEADER_LEN > self.shared.payload_len_max() {
            true => self.publish_directly(&batch),
            false => self.shared.log(frame, kind, batch.num_rows(), Some(&schema)),
        }
    }

    /// Deletes the rows with these keys. Keys that there are not are passed over.
    ///
    /// # Errors
    ///
    /// As [`add_batch`](Self::add_batch), and when the table has no key.
    pub fn delete(&self, keys: &ArrayRef) -> Result<()> {
        let schema = self.shared.schema();
        let Some(key) = schema.key() else {
            let path = self.shared.store.path().display();
            return Err(Error::argument(format!("the store at \"{path}\" has no key to delete rows by")));
        };
        let field = schema.field(key);
        let keys = cast_column(keys, field)?;
        (0..keys.len())
            .step_by(UNIT_ROWS)
            .try_for_each(|start| self.delete_some(field, keys.slice(start, UNIT_ROWS.min(keys.len() - start))))
    }

    /// Deletes keys in one frame, or in more where one would be too large.
    fn delete_some(&self, field: &Field, keys: ArrayRef) -> Result<()> {
        let count = keys.len();
        let arrow = Arc::new(arrow::datatypes::Schema::new(vec![crate::schema::arrow_field(field)]));
        let batch =
            RecordBatch::try_new(arrow, vec![Arc::clone(&keys)]).map_err(Error::arrow("cannot put keys together"))?;
        let mut frame = vec![0; FRAME_HEADER_LEN];
        rows::encode(std::slice::from_ref(field), &batch, &mut frame)?;
        let payload_len = frame.len() - FRAME_HEADER_LEN;
        if payload_len > self.shared.payload_len_max() && count > 1 {
            let half = count / 2;
            self.delete_some(field, keys.slice(0, half))?;
            return self.delete_some(field, keys.slice(half, count - half));
        }
        if payload_len > PAYLOAD_LEN_MAX {
            return Err(Error::argument("a key takes more than 1 GiB, which the write-ahead log cannot hold"));
        }
        // The key is of the same type whatever other columns there are.
        self.shared.log(frame, Kind::Deletes, count, None)
    }

    fn publish_directly(&self, batch: &RecordBatch) -> Result<()> {
        let store = &self.shared.store;
        match self.shared.schema().key() {
            None => store.append_unguarded(std::slice::from_ref(batch)).map(|_| ()),
            Some(_) => {
                // Rows in the log count more than published ones, so earlier ones must not be there any more.
                self.flush()?;
                let edited = store.upsert_guarded(std::slice::from_ref(batch), &Guard::NotNeeded)?;
                store.after_upsert(&edited);
                Ok(())
            }
        }
    }

    /// Makes everything that was added durable, whatever the [`Durability`].
    ///
    /// # Errors
    ///
    /// When the log cannot be synced.
    pub fn sync(&self) -> Result<()> {
        let state = self.shared.lock_state();
        let wanted = state.next_sequence - 1;
        self.shared.wait_until(state, wanted, Durability::Sync)
    }

    /// Publishes everything that was added, and returns the version that has it.
    ///
    /// # Errors
    ///
    /// When it cannot be published; it stays in the log, where readers see it, and is tried again.
    pub fn flush(&self) -> Result<u64> {
        let mut state = self.shared.lock_state();
        let wanted = state.next_sequence - 1;
        state.wanted = state.wanted.max(wanted);
        state.is_urgent = true;
        let failures = state.publish_failures;
        self.shared.work.notify_all();
        while state.published < wanted {
            if let Some(poison) = &state.poison {
                return Err(self.shared.poisoned(poison));
            }
            if state.publish_failures > failures {
                return Err(self.shared.unpublished(&state));
            }
            state = self.shared.progress.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        Ok(state.version)
    }

    /// Publishes everything that was added and gives the log up.
    ///
    /// # Errors
    ///
    /// When it cannot be published: it stays in the log, and the next writer tries again.
    pub fn close(mut self) -> Result<u64> {
        let flushed = self.flush();
        self.stop();
        flushed
    }

    fn stop(&mut self) {
        self.shared.lock_state().is_closing = true;
        self.shared.work.notify_all();
        if let Some(publisher) = self.publisher.take() {
            // A publisher that panicked has published nothing that the log does not still have.
            let _ = publisher.join();
        }
        let state = self.shared.lock_state();
        if let Some(log) = state.file.as_ref().filter(|_| state.published + 1 == state.next_sequence) {
            // It has nothing that counts. The next writer would remove it.
            let path = file_path(self.shared.store.path(), self.shared.lineage, log.number);
            let _ = self.shared.store.backend().remove(&path);
        }
        let _ = self.shared.lock.describe("");
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if self.publisher.is_none() {
            return;
        }
        // In a panic there may be no time; what is in the log is safe there once it is synced.
        let _ = match std::thread::panicking() {
            true => self.sync(),
            false => self.flush().map(|_| ()).or_else(|_| self.sync()),
        };
        self.stop();
    }
}

impl Shared {
    pub(super) fn lock_state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How many bytes of rows a frame should have at most. (One row alone may have more.)
    fn payload_len_max(&self) -> usize {
        PAYLOAD_LEN_MAX.min(usize::try_from(self.options.log_bytes_max / 2).unwrap_or(usize::MAX))
    }

    fn schema(&self) -> Arc<Schema> {
        Arc::clone(&self.schema.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Rows in the table's columns, and those. Where they do not fit, it may be that columns or variants were added since they
    /// were last looked at.
    fn cast(&self, batch: &RecordBatch) -> Result<(RecordBatch, Arc<Schema>)> {
        let known = self.schema();
        let error = match cast_batch(batch, &known) {
            Ok(batch) => return Ok((batch, known)),
            Err(error) => error,
        };
        let newest = self.store.published()?;
        if newest.schema() == &*known || !newest.schema().extends(&known) {
            return Err(error);
        }
        // Rows must not be durable with columns that are not.
        self.store.make_durable(&newest)?;
        let newest = Arc::new(newest.schema().clone());
        *self.schema.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&newest);
        Ok((cast_batch(batch, &newest)?, newest))
    }

    /// Adds a frame, whose columns are those of `schema`, and waits until it is as safe as the durability says.
    fn log(&self, mut frame: Vec<u8>, kind: Kind, rows: usize, schema: Option<&Arc<Schema>>) -> Result<()> {
        Frame::write_header(&mut frame, kind, u32::try_from(rows).unwrap_or(u32::MAX));
        let mut state = self.lock_state();
        let failures = state.publish_failures;
        let is_full = |state: &State| {
            // A frame that is larger than the bound has the log to itself.
            state.unpublished_bytes > 0 && state.unpublished_bytes + frame.len() as u64 > self.options.log_bytes_max
        };
        while state.poison.is_none() && is_full(&state) {
            if state.publish_failures > failures || state.publish_error.is_some() {
                return Err(self.unpublished(&state));
            }
            state.wanted = state.wanted.max(state.next_sequence - 1);
            self.work.notify_all();
            state = self.progress.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
        if let Some(poison) = &state.poison {
            return Err(self.poisoned(poison));
        }
        let sequence = state.next_sequence;
        state.next_sequence += 1;
        if let Some(schema) = schema.filter(|schema| ***schema != *state.schema) {
            state.schema = Arc::clone(schema);
            let columns = schema_frame(schema, sequence - 1);
            state.queue.extend_from_slice(&columns);
        }
        Frame::number(&mut frame, sequence);
        state.queue.extend_from_slice(&frame);
        state.unpublished_rows += rows;
        state.unpublished_bytes += frame.len() as u64;
        if state.oldest.is_none() {
            state.oldest = Some(Instant::now());
            self.work.notify_all();
        }
        if self.is_due(&state) {
            self.work.notify_all();
        }
        self.wait_until(state, sequence, self.options.durability)
    }

    /// Whether the options say that it is time to publish.
    pub(super) fn is_due(&self, state: &State) -> bool {
        state.unpublished_rows >= self.options.publish_rows
            || state.unpublished_bytes >= self.options.publish_bytes
            || state.oldest.is_some_and(|oldest| oldest.elapsed() >= self.options.publish_age)
    }

    /// Waits until a frame is in the file, or durable; and does the work if nobody else does. Whoever writes takes the
    /// frames of all who wait.
    pub(super) fn wait_until<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        sequence: u64,
        durability: Durability,
    ) -> Result<()> {
        loop {
            let reached = match durability {
                Durability::Sync => state.durable,
                Durability::Buffered => state.written,
            };
            if reached >= sequence {
                return Ok(());
            }
            if let Some(poison) = &state.poison {
                return Err(self.poisoned(poison));
            }
            state = match state.file.take() {
                Some(file) if durability == Durability::Sync => {
                    let state = self.gather(state);
                    self.write_queue(state, file, true)
                }
                Some(file) => {
                    // After a pause there is nothing that should have been synced: the interval begins with this frame.
                    let sync = self.is_sync_due(&state);
                    self.write_queue(state, file, sync)
                }
                None => self.progress.wait(state).unwrap_or_else(PoisonError::into_inner),
            };
        }
    }

    /// Gives the threads that were served together the last time a moment to come back with their next frames: the sync
    /// that follows serves them all, or only the fastest.
    fn gather<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let (wanted, patience) = (state.last_group, state.last_sync / 2);
        let start = Instant::now();
        while wanted > 1 && state.next_sequence - 1 - state.written < wanted && start.elapsed() < patience {
            drop(state);
            std::thread::yield_now();
            state = self.lock_state();
        }
        state
    }

    /// Writes what is queued, and syncs it if asked to.
    pub(super) fn write_queue<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        mut log: OpenLog,
        sync: bool,
    ) -> MutexGuard<'a, State> {
        let mut frames = std::mem::take(&mut state.queue);
        let last = state.next_sequence - 1;
        let group = last - state.durable;
        drop(state);
        let start = Instant::now();
        Frame::seal(&mut frames, log.id, log.synced);
        let written = if frames.is_empty() { Ok(()) } else { log.file.append(&frames) };
        let done = written.and_then(|()| if sync { log.file.sync() } else { Ok(()) });
        let mut state = self.lock_state();
        match done {
            Ok(()) => {
                log.len += frames.len() as u64;
                if !sync && state.durable == state.written && last > state.written {
                    // The interval of what is not synced begins.
                    state.synced_at = start;
                    self.work.notify_all();
                }
                state.written = last;
                if sync {
                    log.synced = log.len;
                    state.durable = last;
                    state.synced_at = start;
                    (state.last_group, state.last_sync) = (group, start.elapsed());
                }
                state.file = Some(log);
            }
            // What is durable of it nobody knows. Trying again could call durable what is not.
            Err(error) => {
                let path = file_path(self.store.path(), self.lineage, log.number);
                state.poison = Some(Error::io("write", &path)(error).with_causes());
            }
        }
        self.progress.notify_all();
        state
    }

    /// Whether something was written that should have been synced by now.
    pub(super) fn is_sync_due(&self, state: &State) -> bool {
        state.durable < state.written && state.synced_at.elapsed() >= self.options.sync_interval
    }

    /// Syncs what should have been synced by now. A failure poisons the writer; whoever adds next is told.
    pub(super) fn sync_if_due(&self) {
        let state = self.lock_state();
        if self.is_sync_due(&state) {
            let last = state.written;
            let _ = self.wait_until(state, last, Durability::Sync);
        }
    }

    fn poisoned(&self, cause: &str) -> Error {
        Error::WriterFailed { path: self.store.path().to_owned(), message: cause.to_owned() }
    }

    fn unpublished(&self, state: &State) -> Error {
        let message = state.publish_error.clone().unwrap_or_default();
        Error::NotPublished { path: self.store.path().to_owned(), message }
    }
}

/// What an owner says that will soon be none.
const PUBLISHES_ONLY: &str = " (which publishes what another one has left)";
/// How long a lock is waited for: those who look into the log have it for a moment,
const LOCK_WAIT_MAX: Duration = Duration::from_millis(250);
/// those who publish what is in it for longer.
const PUBLISHING_WAIT_MAX: Duration = Duration::from_secs(60);

/// Takes the lock of a store's log.
///
/// # Errors
///
/// When somebody else has it, or the file system has none to rely on.
pub(in crate::store) fn lock(store: &Store, mode: LockMode) -> Result<Box<dyn LockGuard>> {
    let path = store.path().join(LOCK_FILE);
    if let Some(dir) = path.parent() {
        // Whoever copied the table may have left it out.
        store.backend().create_dirs_below(store.path(), dir).map_err(Error::io("create", dir))?;
        paths::check_inside(store.path(), dir)?;
    }
    let started = Instant::now();
    loop {
        let error = match store.backend().lock(&path, mode) {
            Ok(lock) => return Ok(lock),
            Err(error) => error,
        };
        if error.kind() != std::io::ErrorKind::WouldBlock {
            return Err(Error::io("lock", &path)(error));
        }
        let owner = store.backend().read(&path).ok().and_then(|owner| String::from_utf8(owner).ok());
        let owner = owner.map(|owner| owner.trim().to_owned()).filter(|owner| !owner.is_empty());
        let publishes = owner.as_ref().is_some_and(|owner| owner.ends_with(PUBLISHES_ONLY));
        if started.elapsed() > if publishes { PUBLISHING_WAIT_MAX } else { LOCK_WAIT_MAX } {
            let owner = owner.unwrap_or_else(|| "another process".to_owned());
            return Err(Error::Owned { path: store.path().to_owned(), owner });
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Makes sure that readers of the table look for a log, and returns its lineage.
fn enable(store: &Store) -> Result<Uuid> {
    let plan = &mut |base: &Arc<crate::store::Snapshot>| {
        let table = delta_schema::enable_log(base.delta(), store.path())?;
        let operation = "SET TBLPROPERTIES";
        Ok((!table.is_empty()).then(|| Change { operation, table, ..Change::default() }))
    };
    commit::commit(store, &store.published()?, plan).map_err(Failure::into_error)?;
    let lineage = delta_schema::lineage(store.published()?.delta(), store.path())?;
    lineage.ok_or_else(|| Error::damaged(store.path(), "its log has no lineage"))
}

/// A frame that names the columns of those that follow it, after the one with rows or keys of that sequence.
fn schema_frame(schema: &Schema, sequence: u64) -> Vec<u8> {
    let mut frame = vec![0; FRAME_HEADER_LEN];
    frame.extend_from_slice(tail::fields_text(schema).as_bytes());
    Frame::write_header(&mut frame, Kind::Schema, 0);
    Frame::number(&mut frame, sequence);
    frame
}

/// Begins a file of the log, durable when this returns.
pub(super) fn start_file(
    store: &Store,
    schema: &Schema,
    lineage: Uuid,
    number: u64,
    first_sequence: u64,
) -> Result<OpenLog> {
    let path = file_path(store.path(), lineage, number);
    let id = Uuid::new_v4();
    let dir = path.parent().unwrap_or(Path::new("."));
    let write = || {
        let mut file = store.backend().create_log(&path)?;
        let mut content = FileHeader { lineage, number, first_sequence, id }.encode().to_vec();
        let mut frame = schema_frame(schema, first_sequence - 1);
        Frame::seal(&mut frame, id, 0);
        content.extend_from_slice(&frame);
        file.append(&content)?;
        file.sync()?;
        store.backend().sync_dir(dir)?;
        Ok((file, content.len() as u64))
    };
    let (file, len) = write().map_err(Error::io("write", &path))?;
    Ok(OpenLog { file, number, first_sequence, id, len, synced: len })
}
