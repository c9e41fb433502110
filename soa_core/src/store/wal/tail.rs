//! What readers make of a log: its rows and keys above what is published.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch};
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::frame::{FILE_HEADER_LEN, FileHeader, Frame, Kind, durable_after, has_frames};
use super::rows::Decoder;
use super::{LogFileName, files};
use crate::convert::{cast_batch, cast_column};
use crate::error::{Error, Result};
use crate::schema::{Field, Schema, arrow_schema};
use crate::store::UNIT_ROWS;
use crate::store::delta_schema;
use crate::store::io::{Backend, read_range};
use crate::store::keys::{KeySet, key_numbers};
use crate::store::overlay::{self, Overlay};
use crate::store::segment::Segment;

/// In the place of a row's number: the key's row is deleted.
const DELETED: u32 = u32::MAX;

/// The frames of a log above a published one. Reads on where it stopped.
#[derive(Debug)]
pub(in crate::store) struct Tail {
    lineage: Uuid,
    schema: Schema,
    /// The last frame that is published.
    base: u64,
    /// The last frame that was read.
    sequence: u64,
    /// How far each file was read, and the columns of its frames.
    files: HashMap<u64, Progress>,
    rows: Rows,
    /// Where in each segment, by path, the rows are that the log replaces or deletes.
    hidden: HashMap<String, RoaringBitmap>,
    /// Keys that were read since `hidden` was last brought up to date.
    fresh: Option<KeySet>,
}

#[derive(Debug, Default)]
struct Progress {
    path: PathBuf,
    /// The file's own.
    id: Option<Uuid>,
    offset: u64,
    fields: Option<Vec<Field>>,
}

/// What was read of a file.
struct Piece<'a> {
    path: &'a Path,
    /// The file's id.
    file: Uuid,
    /// Where in it the bytes begin.
    offset: u64,
    bytes: &'a [u8],
}

/// The rows read, in order, and which of them count.
#[derive(Debug, Default)]
struct Rows {
    /// Blocks of [`UNIT_ROWS`] rows, the last of which may have fewer; each in few parts.
    blocks: Vec<Vec<RecordBatch>>,
    count: u32,
    /// The numbers of rows that later frames replace or delete.
    dead: Arc<RoaringBitmap>,
    /// The row of each key, or [`DELETED`].
    latest: hashbrown::HashMap<u128, u32>,
    keys: Option<KeySet>,
}

/// What a file was when a reader looked: how much of it is to be read.
#[derive(Debug)]
pub(in crate::store) struct Extent {
    file: LogFileName,
    content: Box<dyn crate::store::io::ReadFile>,
    len: u64,
}

impl Extent {
    /// The file's number, and how much of it counts.
    pub(in crate::store) fn number_and_len(&self) -> (u64, u64) {
        (self.file.number, self.len)
    }

    /// Whether a file without header has frames after `sequence`.
    fn has_frames(&self, sequence: u64) -> Result<bool> {
        let len = usize::try_from(self.len).unwrap_or(usize::MAX);
        let bytes = read_range(&*self.content, 0, len).map_err(Error::io("read", &self.file.path))?;
        Ok(has_frames(&bytes, sequence))
    }

    /// How the file begins; `None` if it was being made, or its owner has ended while it was.
    fn header(&self, lineage: Uuid) -> Result<Option<FileHeader>> {
        if self.len < FILE_HEADER_LEN as u64 {
            return Ok(None);
        }
        let bytes = read_range(&*self.content, 0, FILE_HEADER_LEN).map_err(Error::io("read", &self.file.path))?;
        self.file.header(lineage, &bytes)
    }
}

/// Opens the files of a log and fixes how much of them counts. `None` if one vanished meanwhile: it has been published.
pub(in crate::store) fn fix(backend: &dyn Backend, root: &Path, lineage: Uuid) -> Result<Option<Vec<Extent>>> {
    let mut extents = Vec::new();
    for file in files(backend, root, lineage)? {
        let content = match file.open(backend, root) {
            Ok(content) => content,
            Err(Error::Io { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let len = content.byte_count().map_err(Error::io("read", &file.path))?;
        extents.push(Extent { file, content, len });
    }
    Ok(Some(extents))
}

impl Tail {
    pub(in crate::store) fn new(lineage: Uuid, schema: &Schema, base: u64) -> Self {
        let keys = KeySet::new(schema);
        Self {
            lineage,
            schema: schema.clone(),
            base,
            sequence: base,
            files: HashMap::new(),
            rows: Rows { keys, ..Rows::default() },
            hidden: HashMap::new(),
            fresh: KeySet::new(schema),
        }
    }

    /// Whether it is what it would be if it were made of this anew.
    pub(in crate::store) fn fits(&self, lineage: Uuid, schema: &Schema, base: u64) -> bool {
        self.lineage == lineage && self.schema == *schema && self.base == base
    }

    /// The last frame that was read.
    pub(in crate::store) fn sequence(&self) -> u64 {
        self.sequence
    }

    /// The keys of all rows and deletes; `None` if the table has no key.
    pub(in crate::store) fn keys(&self) -> Option<&KeySet> {
        self.rows.keys.as_ref()
    }

    /// Whether nothing is above what is published.
    pub(in crate::store) fn is_empty(&self) -> bool {
        self.sequence == self.base
    }

    /// Reads frames that were not read yet, up to frame `until`. False if frames are missing that are not published: a
    /// file has vanished since the published version was looked for.
    ///
    /// # Errors
    ///
    /// When a file cannot be read, or is damaged where it was durable.
    pub(in crate::store) fn read(&mut self, extents: &[Extent], until: u64) -> Result<bool> {
        let headers = extents.iter().map(|extent| extent.header(self.lineage)).collect::<Result<Vec<_>>>()?;
        for (index, (extent, header)) in extents.iter().zip(&headers).enumerate() {
            // What is behind the first frame of the next file was left by an owner that had ended.
            let next_first = headers[index + 1..].iter().flatten().map(|next| next.first_sequence).next();
            if next_first.is_some_and(|first| first <= self.base.saturating_add(1)) {
                // All of it is published.
                continue;
            }
            let Some(header) = header else {
                if next_first.map_or_else(
                    || extent.has_frames(self.sequence),
                    |first| Ok(first > self.sequence.saturating_add(1)),
                )? {
                    return Err(extent.file.has_no_header());
                }
                continue;
            };
            if header.first_sequence > until {
                break;
            }
            if header.first_sequence > self.sequence.saturating_add(1)
                || !self.read_file(extent, header, next_first, until)?
            {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads what was not read yet of a file, up to frame `until` or the first of the next file.
    fn read_file(&mut self, extent: &Extent, header: &FileHeader, next_first: Option<u64>, until: u64) -> Result<bool> {
        let path = &extent.file.path;
        let until = next_first.map_or(until, |first| until.min(first.saturating_sub(1)));
        let is_new = !self.files.contains_key(&extent.file.number);
        if is_new && self.sequence > self.base && header.first_sequence <= self.sequence {
            // What was read of its frames was in another file, whose owner has ended before they were durable.
            return Ok(false);
        }
        let progress = self.files.entry(extent.file.number).or_default();
        if *progress.id.get_or_insert(header.id) != header.id {
            // Another file of the same number was read before: all of it must be read anew.
            return Ok(false);
        }
        let offset = progress.offset.max(FILE_HEADER_LEN as u64);
        if offset >= extent.len {
            return Ok(true);
        }
        let len = usize::try_from(extent.len - offset).unwrap_or(usize::MAX);
        let bytes = read_range(&*extent.content, offset, len).map_err(Error::io("read", path))?;
        let mut fields = progress.fields.take();
        let mut at = 0;
        let piece = Piece { path, file: header.id, offset, bytes: &bytes };
        let read = self.read_frames(&piece, &mut at, until, &mut fields);
        let (id, end) = (Some(header.id), offset + at as u64);
        self.files.insert(extent.file.number, Progress { path: path.clone(), id, offset: end, fields });
        if !read? {
            return Ok(false);
        }
        if at < bytes.len()
            && self.sequence < until
            && (next_first.is_some() || durable_after(&bytes, at, header.id) > end)
        {
            let message = format!("frame {} at byte {end} does not match its checksum", self.sequence + 1);
            return Err(Error::damaged(path, message));
        }
        Ok(true)
    }

    /// Reads whole frames from `at` on. False if one is missing before them.
    fn read_frames(
        &mut self,
        piece: &Piece<'_>,
        at: &mut usize,
        until: u64,
        fields: &mut Option<Vec<Field>>,
    ) -> Result<bool> {
        let mut batcher: Option<Batcher> = None;
        let Piece { path, file, offset, bytes } = *piece;
        let damaged =
            |at: usize, what: &str| Error::damaged(path, format!("frame at byte {}: {what}", offset + at as u64));
        while let Some(frame) = Frame::decode(&bytes[*at..], file) {
            if frame.sequence > until {
                break;
            }
            if frame.kind == Kind::Schema {
                if let Some(batcher) = batcher.take() {
                    self.apply(batcher)?;
                }
                let text = std::str::from_utf8(frame.payload).ok();
                let read = text.map(|text| delta_schema::fields_from_text(path, text)).transpose()?;
                *fields = Some(read.ok_or_else(|| damaged(*at, "its columns are no text"))?);
            } else if frame.sequence > self.sequence {
                if frame.sequence != self.sequence + 1 {
                    return Ok(false);
                }
                let Some(fields) = fields.as_ref() else { return Err(damaged(*at, "no columns are named before it")) };
                let batcher = batcher.get_or_insert_with(|| Batcher::new(&self.schema, fields));
                batcher.read(&frame).ok_or_else(|| damaged(*at, "it does not hold the rows that it says"))?;
                self.sequence = frame.sequence;
            }
            *at += frame.len();
            if batcher.as_ref().is_some_and(|batcher| batcher.puts.rows() >= UNIT_ROWS)
                && let Some(batcher) = batcher.take()
            {
                self.apply(batcher)?;
            }
        }
        batcher.map_or(Ok(()), |batcher| self.apply(batcher))?;
        Ok(true)
    }

    fn apply(&mut self, mut batcher: Batcher) -> Result<()> {
        let puts = cast_batch(&batcher.puts.take()?, &self.schema)?;
        let first = self.rows.count;
        let count =
            u32::try_from(puts.num_rows()).ok().and_then(|count| first.checked_add(count)).filter(|end| *end < DELETED);
        let end = count.ok_or_else(|| Error::argument("the write-ahead log has more than 2^32 rows; publish it"))?;
        if let Some(key) = self.schema.key() {
            let field = self.schema.field(key);
            let deletes = match &mut batcher.deletes {
                Some(deletes) => Some(cast_column(deletes.take()?.column(0), field)?),
                None => None,
            };
            self.apply_keys(first, puts.column(key), deletes.as_ref(), &batcher.steps);
        }
        self.rows.count = end;
        overlay::push(&mut self.rows.blocks, puts)
    }

    /// Brings the row of each key up to date.
    fn apply_keys(&mut self, first: u32, puts: &ArrayRef, deletes: Option<&ArrayRef>, steps: &[Step]) {
        for array in std::iter::once(puts).chain(deletes).filter(|array| !array.is_empty()) {
            for set in self.rows.keys.iter_mut().chain(&mut self.fresh) {
                set.insert(array);
            }
        }
        let dead = Arc::make_mut(&mut self.rows.dead);
        let mut put_numbers = (first..).zip(key_numbers(puts));
        let mut delete_numbers = deletes.map(key_numbers).unwrap_or_default().into_iter();
        for step in steps {
            let mut replace = |key: u128, row: u32| {
                if let Some(before) = self.rows.latest.insert(key, row).filter(|before| *before != DELETED) {
                    dead.insert(before);
                }
            };
            match step.is_put {
                true => put_numbers.by_ref().take(step.count).for_each(|(row, key)| replace(key, row)),
                false => delete_numbers.by_ref().take(step.count).for_each(|key| replace(key, DELETED)),
            }
        }
    }

    /// The rows that count.
    pub(in crate::store) fn overlay(&self) -> Overlay {
        let files = self.files.values().map(|progress| progress.path.clone()).collect();
        Overlay::new(&self.rows.blocks, &self.rows.dead, self.sequence, files)
    }

    /// The segments of a version, without the rows that the log replaces or deletes.
    ///
    /// # Errors
    ///
    /// When a segment cannot be read.
    pub(in crate::store) fn hide(&mut self, segments: &[Arc<Segment>]) -> Result<Vec<Arc<Segment>>> {
        let (Some(all), Some(fresh)) = (&self.rows.keys, &self.fresh) else { return Ok(segments.to_vec()) };
        let mut hidden = HashMap::new();
        let mut shown = Vec::with_capacity(segments.len());
        for segment in segments {
            let found = match self.hidden.remove(segment.path()) {
                Some(known) if fresh.is_empty() => known,
                Some(known) => known | fresh.find(segment)?,
                None => all.find(segment)?,
            };
            shown.push(match found.is_empty() {
                true => Arc::clone(segment),
                false => Arc::new(segment.with_hidden(found.clone())?),
            });
            hidden.insert(segment.path().to_owned(), found);
        }
        self.hidden = hidden;
        self.fresh = KeySet::new(&self.schema);
        Ok(shown)
    }
}

/// Frames on their way into one batch.
struct Batcher {
    puts: Decoder,
    deletes: Option<Decoder>,
    /// In which order rows and keys came.
    steps: Vec<Step>,
    is_keyed: bool,
}

struct Step {
    is_put: bool,
    count: usize,
}

impl Batcher {
    fn new(schema: &Schema, fields: &[Field]) -> Self {
        let key = schema.key().map(|key| schema.field(key).name());
        let key_field = fields.iter().find(|field| Some(field.name()) == key);
        Self {
            puts: Decoder::new(fields),
            deletes: key_field.map(|field| Decoder::new(std::slice::from_ref(field))),
            steps: Vec::new(),
            is_keyed: key.is_some(),
        }
    }

    fn read(&mut self, frame: &Frame<'_>) -> Option<()> {
        let count = usize::try_from(frame.rows).ok()?;
        let is_put = match frame.kind {
            Kind::Rows if !self.is_keyed => true,
            Kind::Puts if self.is_keyed => true,
            Kind::Deletes if self.is_keyed => false,
            Kind::Rows | Kind::Puts | Kind::Deletes | Kind::Schema => return None,
        };
        match is_put {
            true => self.puts.read(count, frame.payload)?,
            false => self.deletes.as_mut()?.read(count, frame.payload)?,
        }
        match self.steps.last_mut().filter(|last| last.is_put == is_put) {
            Some(last) => last.count += count,
            None => self.steps.push(Step { is_put, count }),
        }
        Some(())
    }
}

/// The table's columns as log files name them.
pub(super) fn fields_text(schema: &Schema) -> String {
    delta_schema::fields_to_text(schema)
}

/// A batch of a table's columns, as its rows are encoded.
pub(super) fn table_batch(schema: &Schema, columns: Vec<ArrayRef>) -> Result<RecordBatch> {
    RecordBatch::try_new(arrow_schema(schema), columns).map_err(Error::arrow("cannot put columns together"))
}
