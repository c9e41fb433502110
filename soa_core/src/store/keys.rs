//! Sets of keys, and where in a segment they are.

use std::sync::LazyLock;

use arrow::array::{Array, ArrayRef, AsArray, BooleanArray, UInt32Array};
use arrow::buffer::ScalarBuffer;
use arrow::compute::{filter, take};
use arrow::datatypes::{
    ArrowPrimitiveType, DataType as ArrowType, DurationMicrosecondType, Int64Type, Time64MicrosecondType,
    TimestampMicrosecondType, UInt64Type,
};
use arrow::util::display::array_value_to_string;
use hashbrown::HashSet;
use roaring::RoaringBitmap;
use uuid::Uuid;

use super::segment::{Segment, hashes_of};
use super::snapshot::Snapshot;
use super::stats::ColumnStats;
use crate::error::{Error, Result};
use crate::predicate::Predicate;
use crate::schema::{DataType, Schema};

/// So many keys are looked up in key indexes; more are found faster by looking at every key of a segment.
const LOOKED_UP_MAX: usize = 512;

/// Some keys of a keyed store.
#[derive(Debug)]
pub(super) struct KeySet {
    column: usize,
    name: String,
    seen: Seen,
    /// Bounds of the keys, by which segments without any of them are told.
    stats: ColumnStats,
    /// Their hashes in key indexes; `None` if there are too many to look them up one by one.
    hashes: Option<Vec<u64>>,
}

/// Integers are told apart by value, other keys by a 128-bit hash: that two differ and have the same one
/// is less likely than a fault of memory.
#[derive(Debug)]
enum Seen {
    Exact(HashSet<u64>),
    Hashed(HashSet<u128>),
}

impl KeySet {
    /// An empty set for the key of a table; `None` if it has none.
    pub(super) fn new(schema: &Schema) -> Option<Self> {
        let column = schema.key()?;
        let seen = match schema.field(column).data_type() {
            DataType::Utf8 | DataType::Binary | DataType::Decimal { .. } | DataType::Uuid => {
                Seen::Hashed(HashSet::new())
            }
            _ => Seen::Exact(HashSet::new()),
        };
        Some(Self {
            column,
            name: schema.field(column).name().to_owned(),
            seen,
            stats: ColumnStats::EMPTY,
            hashes: Some(Vec::new()),
        })
    }

    /// The key's position in the schema.
    pub(super) fn column(&self) -> usize {
        self.column
    }

    pub(super) fn is_empty(&self) -> bool {
        match &self.seen {
            Seen::Exact(seen) => seen.is_empty(),
            Seen::Hashed(seen) => seen.is_empty(),
        }
    }

    /// Adds the keys of an array of the key's Arrow type. For each row: whether its key is new.
    pub(super) fn insert(&mut self, array: &ArrayRef) -> Vec<bool> {
        self.stats = self.stats.clone().merge(ColumnStats::of(array));
        let few = |hashes: &Vec<u64>| hashes.len() + array.len() <= LOOKED_UP_MAX;
        self.hashes = self.hashes.take().filter(few).map(|mut hashes| {
            hashes.extend(hashes_of(array));
            hashes
        });
        match &mut self.seen {
            Seen::Exact(seen) => {
                seen.reserve(array.len());
                exact_keys(array).iter().map(|key| seen.insert(*key)).collect()
            }
            Seen::Hashed(seen) => {
                seen.reserve(array.len());
                hashed_keys(array).iter().map(|key| seen.insert(*key)).collect()
            }
        }
    }

    /// Adds keys, and refuses one that is there already.
    ///
    /// # Errors
    ///
    /// When a key is there already, or twice in the array.
    pub(super) fn insert_new(&mut self, array: &ArrayRef) -> Result<()> {
        let taken = self.insert(array).iter().position(|is_new| !is_new);
        taken.map_or(Ok(()), |row| Err(self.duplicate(array, row)))
    }

    /// The positions in a segment's file of the rows with one of these keys, whether they are deleted or not.
    ///
    /// # Errors
    ///
    /// When the segment's files cannot be read.
    pub(super) fn find(&self, segment: &Segment) -> Result<RoaringBitmap> {
        let mut found = RoaringBitmap::new();
        let (Some(min), Some(max)) = (&self.stats.min, &self.stats.max) else { return Ok(found) };
        let range = Predicate::between(self.column, min.clone(), max.clone());
        if !range.prune(&|column| segment.file().bounds(column)).can_be_true {
            return Ok(found);
        }
        let units = self.hashes.as_ref().and_then(|hashes| segment.units_with_keys(hashes));
        let mut start = 0_u64;
        for (unit, rows) in segment.units()?.iter().enumerate() {
            let first = start;
            start += rows;
            let may_be = units.as_ref().is_none_or(|units| units.binary_search(&unit).is_ok());
            if !may_be || !range.prune(&|column| segment.file().unit_bounds(unit, *rows, column)).can_be_true {
                continue;
            }
            let arrays = segment.file().read(unit, &[self.column])?;
            let array = arrays.first().ok_or_else(|| Error::mismatch("the key column is missing"))?;
            let first = u32::try_from(first)
                .ok()
                .filter(|first| u32::try_from(array.len()).is_ok_and(|len| first.checked_add(len).is_some()));
            let first = first.ok_or_else(|| Error::Unsupported {
                path: segment.file().parquet_path(),
                message: "it has more than 2^32 rows, too many to find keys in".to_owned(),
            })?;
            found.extend((first..).zip(self.members(array)).filter_map(|(position, is_in)| is_in.then_some(position)));
        }
        Ok(found)
    }

    /// Those of the keys that live in a snapshot of the table.
    ///
    /// # Errors
    ///
    /// When the files of its segments cannot be read.
    pub(super) fn living_in(&self, seen: &Snapshot) -> Result<Self> {
        let mut living = Self::new(seen.schema()).ok_or_else(|| Error::mismatch("the table has no key"))?;
        for segment in seen.segments() {
            let mut found = self.find(segment)?;
            if found.is_empty() {
                continue;
            }
            found -= &*segment.deleted()?;
            let mut first = 0_u32;
            for (unit, rows) in segment.units()?.iter().enumerate() {
                // A segment with rows that are found has fewer than 2^32 of them.
                let end = first.saturating_add(u32::try_from(*rows).unwrap_or(u32::MAX));
                let numbers: UInt32Array = found.range(first..end).map(|number| number - first).collect();
                first = end;
                if numbers.is_empty() {
                    continue;
                }
                let arrays = segment.file().read(unit, &[self.column])?;
                let keys = arrays.first().ok_or_else(|| Error::mismatch("the key column is missing"))?;
                living.insert(&take(keys, &numbers, None).map_err(Error::arrow("cannot take keys"))?);
            }
        }
        if let Some(overlay) = seen.overlay() {
            for (block, _) in overlay.blocks().enumerate().filter(|(_, rows)| *rows > 0) {
                for keys in overlay.read(block, &[self.column])? {
                    let found = BooleanArray::from(self.members(&keys));
                    living.insert(&filter(&keys, &found).map_err(Error::arrow("cannot leave out keys"))?);
                }
            }
        }
        Ok(living)
    }

    /// For each row of an array of the key's Arrow type: whether its key is in the set.
    pub(super) fn members(&self, array: &ArrayRef) -> Vec<bool> {
        match &self.seen {
            Seen::Exact(seen) => exact_keys(array).iter().map(|key| seen.contains(key)).collect(),
            Seen::Hashed(seen) => hashed_keys(array).iter().map(|key| seen.contains(key)).collect(),
        }
    }

    /// Refuses a segment in which one of the keys lives.
    ///
    /// # Errors
    ///
    /// When it does, naming the key, or the segment's files cannot be read.
    pub(super) fn check_against(&self, segment: &Segment) -> Result<()> {
        self.check_against_rest(segment, &RoaringBitmap::new())
    }

    /// As [`check_against`](Self::check_against), but the rows at these positions do not count.
    ///
    /// # Errors
    ///
    /// As there.
    pub(super) fn check_against_rest(&self, segment: &Segment, gone: &RoaringBitmap) -> Result<()> {
        let found = self.find(segment)? - gone;
        if found.is_empty() {
            return Ok(());
        }
        let Some(position) = (found - &*segment.deleted()?).min() else { return Ok(()) };
        let mut row = u64::from(position);
        for (unit, rows) in segment.units()?.iter().enumerate() {
            if row < *rows {
                let arrays = segment.file().read(unit, &[self.column])?;
                return Err(self.duplicate(&arrays[0], usize::try_from(row).unwrap_or(usize::MAX)));
            }
            row -= rows;
        }
        Ok(())
    }

    /// Refuses rows of which one has one of the keys.
    ///
    /// # Errors
    ///
    /// When one has, naming the key.
    pub(super) fn check_against_rows(&self, keys: &ArrayRef) -> Result<()> {
        let taken = self.members(keys).iter().position(|is_member| *is_member);
        taken.map_or(Ok(()), |row| Err(self.duplicate(keys, row)))
    }

    fn duplicate(&self, array: &ArrayRef, row: usize) -> Error {
        let key = array_value_to_string(array, row).unwrap_or_else(|_| format!("in row {row}"));
        Error::DuplicateKey { column: self.name.clone(), key }
    }
}

/// The 64 bits of each key of a fixed width up to that.
fn exact_keys(array: &ArrayRef) -> ScalarBuffer<u64> {
    let cast = |array: &ArrayRef, to: ArrowType| {
        arrow::compute::cast(array, &to).expect("every key that is not hashed is an integer, a date or a timestamp")
    };
    match array.data_type() {
        ArrowType::UInt64 => array.as_primitive::<UInt64Type>().values().clone(),
        ArrowType::Int64 => same_bits::<Int64Type>(array),
        ArrowType::Timestamp(_, _) => same_bits::<TimestampMicrosecondType>(array),
        ArrowType::Time64(_) => same_bits::<Time64MicrosecondType>(array),
        ArrowType::Duration(_) => same_bits::<DurationMicrosecondType>(array),
        ArrowType::UInt8 | ArrowType::UInt16 | ArrowType::UInt32 => {
            cast(array, ArrowType::UInt64).as_primitive::<UInt64Type>().values().clone()
        }
        other => {
            // Arrow takes days to a longer integer by way of a shorter one only.
            let days = (*other == ArrowType::Date32).then(|| cast(array, ArrowType::Int32));
            same_bits::<Int64Type>(&cast(days.as_ref().unwrap_or(array), ArrowType::Int64))
        }
    }
}

fn same_bits<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef) -> ScalarBuffer<u64> {
    ScalarBuffer::from(array.as_primitive::<T>().values().inner().clone())
}

fn hashed_keys(array: &ArrayRef) -> Vec<u128> {
    // Nobody can choose keys that get the same number.
    static SEED: LazyLock<u64> = LazyLock::new(|| Uuid::new_v4().as_u64_pair().0);
    let xxh3_128 = |key: &[u8]| xxhash_rust::xxh3::xxh3_128_with_seed(key, *SEED);
    match array.data_type() {
        ArrowType::Utf8View => {
            array.as_string_view().iter().map(|key| xxh3_128(key.unwrap_or_default().as_bytes())).collect()
        }
        ArrowType::BinaryView => array.as_binary_view().iter().map(|key| xxh3_128(key.unwrap_or_default())).collect(),
        // UUIDs: 128 bits, as many as a hash has.
        ArrowType::FixedSizeBinary(_) => {
            let (uuids, _) = array.as_fixed_size_binary().value_data().as_chunks::<16>();
            uuids.iter().map(|uuid| u128::from_le_bytes(*uuid)).collect()
        }
        _ => {
            let keys = array.as_primitive::<arrow::datatypes::Decimal128Type>().values();
            keys.iter().map(|key| key.cast_unsigned()).collect()
        }
    }
}

/// A number for each key such that equal keys, and only they, have equal numbers (see [`Seen`]).
pub(super) fn key_numbers(array: &ArrayRef) -> Vec<u128> {
    match array.data_type() {
        ArrowType::Utf8View | ArrowType::BinaryView | ArrowType::FixedSizeBinary(_) | ArrowType::Decimal128(_, _) => {
            hashed_keys(array)
        }
        _ => exact_keys(array).iter().map(|key| u128::from(*key)).collect(),
    }
}
