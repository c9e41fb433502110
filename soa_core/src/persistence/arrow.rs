//! Records in memory, as record batches.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::marker::PhantomData;
use std::mem;

use arrow::array::{Array, ArrayData, ArrayRef, BooleanArray, RecordBatch, UInt32Array};
use arrow::compute::{filter_record_batch, take_record_batch};
use hashbrown::HashTable;
use hashbrown::hash_table::Entry;
use roaring::RoaringBitmap;

use super::serial::Serial;
use super::{MemoryStats, Query, Result, SoAPersistence};
use crate::convert::join_batches;
use crate::error::Error;
use crate::kernel::{FieldColumn, KeyedRecord, Record, Rows, StoredRecord, joined};
use crate::schema::Schema;
use crate::store::{UNIT_ROWS, hashes_of_keys, key_hashes, matching};

/// Batches of fewer rows than these are joined, so many times as there are bounds: what comes row by row is soon in few batches,
/// and no row is copied often.
const JOINED_ROWS: [usize; 2] = [1024, UNIT_ROWS];
/// Changes of so few rows are made at once, on the thread that asks for them.
const FEW_ROWS: usize = 256;

/// Records in memory, as record batches that share the columns they came in: nothing is copied but small batches, which are
/// joined. They are gone with the process.
///
/// ```
/// use soa_core::persistence::{ArrowPersistence, SoAPersistence};
/// use soa_core::{SoA, SoAStore};
///
/// #[derive(Debug, SoA, SoAStore)]
/// #[soa_store(sort_by = "value")]
/// struct Reading {
///     value: f64,
/// }
///
/// # async fn example() -> Result<(), soa_core::persistence::PersistenceError> {
/// let readings: ReadingSoA = (0..100_000).map(|n| Reading { value: n.into() }).collect();
/// let kept = ArrowPersistence::<Reading>::new();
/// kept.append(&readings).await?;
/// assert_eq!(kept.load().await?.value_raw_array().as_ptr(), readings.value_raw_array().as_ptr());
/// assert!(kept.memory_stats().await?.total_bytes >= 800_000);
/// # Ok(())
/// # }
/// # tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(example()).unwrap();
/// ```
pub struct ArrowPersistence<R> {
    parts: Serial<Parts>,
    record: PhantomData<fn() -> R>,
}

impl<R: StoredRecord> ArrowPersistence<R> {
    /// No records.
    pub fn new() -> Self {
        Self { parts: Serial::new(Parts::new(R::table_schema())), record: PhantomData }
    }
}

impl<R: StoredRecord> ArrowPersistence<R> {
    /// Makes a change that may take its time.
    async fn change(&self, change: impl FnOnce(&mut Parts) -> Result<(), Error> + Send + 'static) -> Result<()> {
        self.parts.write(|parts| Ok(change(parts).and_then(|()| parts.tidy())?)).await
    }

    /// Makes a change of few rows at once, and what is to be done after many of them on another thread.
    async fn change_here(&self, change: impl FnOnce(&mut Parts) -> Result<(), Error> + Send) -> Result<()> {
        let is_due = self.parts.write_here(|parts| {
            change(parts)?;
            Ok(parts.is_tidying_due())
        });
        match is_due.await? {
            true => self.parts.write(|parts| Ok(parts.tidy()?)).await,
            false => Ok(()),
        }
    }
}

impl<R: StoredRecord> Default for ArrowPersistence<R> {
    fn default() -> Self {
        Self::new()
    }
}

impl<R> fmt::Debug for ArrowPersistence<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ArrowPersistence").finish_non_exhaustive()
    }
}

impl<R: StoredRecord> SoAPersistence<R> for ArrowPersistence<R> {
    async fn save(&self, rows: &R::Soa) -> Result<()> {
        let rows = rows.clone();
        let save = move |parts: &mut Parts| {
            let mut saved = Parts::new(parts.schema.clone());
            saved.add(rows.into_record_batch())?;
            *parts = saved;
            Ok(())
        };
        self.parts.write(save).await
    }

    async fn append(&self, rows: &R::Soa) -> Result<()> {
        let rows = rows.clone();
        match rows.len() <= FEW_ROWS {
            true => self.change_here(|parts| parts.add(rows.into_record_batch())).await,
            false => self.change(|parts| parts.add(rows.into_record_batch())).await,
        }
    }

    async fn remove(&self, keys: &R::KeyColumn) -> Result<()>
    where
        R: KeyedRecord,
    {
        let keys = keys.to_array();
        match keys.len() <= FEW_ROWS {
            true => self.change_here(|parts| parts.remove(&keys)).await,
            false => self.change(move |parts| parts.remove(&keys)).await,
        }
    }

    async fn query(&self, query: impl Into<Query> + Send) -> Result<R::Soa> {
        let query = query.into();
        self.parts.read(move |parts| Ok(parts.query::<R>(&query)?)).await
    }

    async fn count(&self) -> Result<u64> {
        self.parts.read_here(|parts| Ok(parts.row_count())).await
    }

    async fn memory_stats(&self) -> Result<MemoryStats> {
        self.parts.read(|parts| Ok(parts.stats())).await
    }
}

/// Where the row of a key is.
struct Place {
    /// The key's hash.
    hash: u64,
    /// The number of the part.
    part: u32,
    /// The row's number there.
    row: u32,
}

/// Record batches, and where each key is.
struct Parts {
    schema: Schema,
    parts: Vec<Part>,
    /// How many rows the parts have, and how many of them are there.
    rows: usize,
    live: usize,
    /// The place of each key's row, by the key's hash; empty without key.
    index: HashTable<Place>,
}

struct Part {
    rows: RecordBatch,
    /// Rows that were replaced or removed.
    gone: RoaringBitmap,
}

impl Part {
    /// The rows that are there.
    fn live_rows(&self) -> Result<RecordBatch, Error> {
        if self.gone.is_empty() {
            return Ok(self.rows.clone());
        }
        let rows = u32::try_from(self.rows.num_rows()).unwrap_or(u32::MAX);
        let kept: BooleanArray = (0..rows).map(|row| Some(!self.gone.contains(row))).collect();
        filter_record_batch(&self.rows, &kept).map_err(Error::arrow("cannot leave replaced rows out"))
    }
}

impl Parts {
    fn new(schema: Schema) -> Self {
        Self { schema, parts: Vec::new(), rows: 0, live: 0, index: HashTable::new() }
    }

    fn row_count(&self) -> u64 {
        self.live as u64
    }

    /// Adds rows; with a key, each in the place of the one that has it.
    fn add(&mut self, rows: RecordBatch) -> Result<(), Error> {
        if rows.num_rows() == 0 {
            return Ok(());
        }
        if u32::try_from(rows.num_rows()).is_err() {
            return Err(Error::argument("a record batch in memory holds fewer than 2^32 rows; add fewer at once"));
        }
        let number = self.parts.len();
        self.rows += rows.num_rows();
        self.live += rows.num_rows();
        self.parts.push(Part { rows, gone: RoaringBitmap::new() });
        self.index_rows(number);
        Ok(())
    }

    /// Finds the rows of the last part by their keys from now on, and no more those that they replace.
    fn index_rows(&mut self, number: usize) {
        let Some(key) = self.schema.key() else { return };
        let keys = ArrayRef::clone(self.parts[number].rows.column(key));
        let hashes = hashes_of_keys(&keys);
        let Self { parts, index, live, .. } = self;
        index.reserve(keys.len(), |place| place.hash);
        // There are fewer parts than rows: their number fits as well.
        for (row, hash) in (0_u32..).zip(hashes) {
            let new = Place { hash, part: number as u32, row };
            match index.entry(hash, |place| place.has_key(hash, parts, key, &keys, row), |place| place.hash) {
                Entry::Occupied(mut found) => {
                    let old = mem::replace(found.get_mut(), new);
                    parts[old.part as usize].gone.insert(old.row);
                    *live -= 1;
                }
                Entry::Vacant(vacant) => drop(vacant.insert(new)),
            }
        }
    }

    fn remove(&mut self, keys: &ArrayRef) -> Result<(), Error> {
        let Some(key) = self.schema.key() else { return Ok(()) };
        let Self { parts, index, live, .. } = self;
        for (row, hash) in (0_u32..).zip(hashes_of_keys(keys)) {
            if let Ok(found) = index.find_entry(hash, |place| place.has_key(hash, parts, key, keys, row)) {
                let (old, _) = found.remove();
                parts[old.part as usize].gone.insert(old.row);
                *live -= 1;
            }
        }
        Ok(())
    }

    /// The first of the last parts that are small and so many that they should be one.
    fn crowd(&self, bound: usize) -> Option<usize> {
        let small = self.parts.iter().rev().take_while(|part| part.rows.num_rows() < bound).count();
        let first = self.parts.len() - small;
        // The first of them may be what was left the last time: it is not copied again for a few rows more.
        let more: usize = self.parts.iter().skip(first + 1).map(|part| part.rows.num_rows()).sum();
        (more >= bound).then_some(first)
    }

    /// Whether most of the rows are gone.
    fn is_hollow(&self) -> bool {
        self.rows - self.live > self.live.max(UNIT_ROWS)
    }

    fn is_tidying_due(&self) -> bool {
        self.is_hollow() || JOINED_ROWS.iter().any(|bound| self.crowd(*bound).is_some())
    }

    /// Joins parts where they are small and many, and drops rows that are gone where they are most.
    fn tidy(&mut self) -> Result<(), Error> {
        for bound in JOINED_ROWS {
            if let Some(first) = self.crowd(bound) {
                self.rewrite(first)?;
            }
        }
        if self.is_hollow() { self.rewrite(0) } else { Ok(()) }
    }

    /// Makes one part of those from `first` on, without the rows that are gone.
    fn rewrite(&mut self, first: usize) -> Result<(), Error> {
        let live = self.parts[first..].iter().map(Part::live_rows).collect::<Result<Vec<_>, _>>()?;
        let rows = join_batches(&self.schema, &live)?;
        if let Some(key) = self.schema.key() {
            let mut hashes = hashes_of_keys(rows.column(key)).into_iter();
            let mut moved = 0_u32;
            for (number, part) in (first..).zip(&self.parts[first..]) {
                // A part has fewer than 2^32 rows.
                for row in (0..part.rows.num_rows() as u32).filter(|row| !part.gone.contains(*row)) {
                    let hash = hashes.next().unwrap_or_default();
                    let is_it = |place: &Place| (place.part, place.row) == (number as u32, row);
                    let place = self.index.find_mut(hash, is_it).expect("every row that is there is in the index");
                    (place.part, place.row) = (first as u32, moved);
                    moved += 1;
                }
            }
        }
        self.rows -= self.parts.drain(first..).map(|part| part.rows.num_rows()).sum::<usize>();
        self.rows += rows.num_rows();
        if rows.num_rows() > 0 {
            self.parts.push(Part { rows, gone: RoaringBitmap::new() });
        }
        Ok(())
    }

    fn query<R: Record>(&self, query: &Query) -> Result<R::Soa, Error> {
        let mut left = query.limit.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
        if let Some(predicate) = &query.predicate {
            predicate.check(&self.schema)?;
        }
        if left == 0 {
            return Ok(R::Soa::default());
        }
        let mut found = Vec::new();
        let mut take = |rows: RecordBatch| -> Result<bool, Error> {
            let rows = query.predicate.as_ref().map_or(Ok(rows.clone()), |predicate| matching(&rows, predicate))?;
            let rows = rows.slice(0, left.min(rows.num_rows()));
            left -= rows.num_rows();
            if rows.num_rows() > 0 {
                found.push(R::Soa::from_record_batch(rows)?);
            }
            Ok(left > 0)
        };
        match self.candidates(query) {
            Some(candidates) => {
                for (part, rows) in candidates {
                    let rows = take_record_batch(&self.parts[part as usize].rows, &UInt32Array::from(rows));
                    if !take(rows.map_err(Error::arrow("cannot gather rows"))?)? {
                        break;
                    }
                }
            }
            None => {
                for part in &self.parts {
                    if !take(part.live_rows()?)? {
                        break;
                    }
                }
            }
        }
        Ok(joined(found))
    }

    /// The rows of each part that can match, if the query names their keys.
    fn candidates(&self, query: &Query) -> Option<BTreeMap<u32, Vec<u32>>> {
        let keys = query.predicate.as_ref()?.values_of(self.schema.key()?)?;
        let mut hashes = key_hashes(&keys)?;
        hashes.sort_unstable();
        hashes.dedup();
        let mut rows: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for hash in hashes {
            let found = self.index.iter_hash(hash).filter(|place| place.hash == hash);
            found.for_each(|place| rows.entry(place.part).or_default().push(place.row));
        }
        Some(rows)
    }

    fn stats(&self) -> MemoryStats {
        let mut buffers = HashMap::new();
        let columns = self.parts.iter().flat_map(|part| part.rows.columns());
        columns.for_each(|column| collect_buffers(&column.to_data(), &mut buffers));
        let bytes = buffers.values().sum::<usize>() + self.index.allocation_size();
        MemoryStats::new(bytes as u64, self.row_count(), self.parts.len() as u64)
    }
}

impl Place {
    /// Whether the key there, in the column `key`, is the one of `keys` at `row`, whose hash is `hash`.
    fn has_key(&self, hash: u64, parts: &[Part], key: usize, keys: &ArrayRef, row: u32) -> bool {
        let there = parts[self.part as usize].rows.column(key);
        self.hash == hash && there.slice(self.row as usize, 1).to_data() == keys.slice(row as usize, 1).to_data()
    }
}

/// The allocations beneath an array and their sizes, by address.
fn collect_buffers(data: &ArrayData, found: &mut HashMap<usize, usize>) {
    let nulls = data.nulls().map(|nulls| nulls.buffer());
    for buffer in data.buffers().iter().chain(nulls) {
        found.insert(buffer.data_ptr().as_ptr() as usize, buffer.capacity());
    }
    data.child_data().iter().for_each(|child| collect_buffers(child, found));
}
