//! The key index of a segment: where a key is, without reading the key column (format.md, section 5).
//!
//! A file of hashes in ascending order, of which a lookup reads one block or two. It is a help and no more: where it is
//! missing or damaged, the key column answers.

use std::io::{self, BufWriter, Write};
use std::ops::Range;
use std::path::{Path, PathBuf};

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Decimal128Type, Int64Type, UInt64Type};
use xxhash_rust::xxh3::xxh3_64;

use crate::error::{Error, Result};
use crate::predicate::Scalar;
use crate::store::io::{Backend, ReadFile, read_range};

const MAGIC: [u8; 4] = *b"SOAK";
const VERSION: u32 = 1;
const HEADER_LEN: usize = 32;
/// A hash and a row.
const ENTRY_LEN: usize = 12;
/// So many bytes of entries have a checksum.
const BLOCK_LEN: usize = 4096;
const WRITE_BUFFER_LEN: usize = 1 << 20;

/// The hash of a key; `None` for what cannot be one.
pub(in crate::store) fn hash_of(key: &Scalar) -> Option<u64> {
    match key {
        Scalar::Int(value) => Some(xxh3_64(&value.to_le_bytes())),
        Scalar::Utf8(text) => Some(xxh3_64(text.as_bytes())),
        Scalar::Binary(bytes) => Some(xxh3_64(bytes)),
        Scalar::Bool(_) | Scalar::Float(_) => None,
    }
}

/// The hashes of keys in the Arrow type of their column.
pub(in crate::store) fn hashes_of(keys: &ArrayRef) -> Vec<u64> {
    let long = |value: i128| xxh3_64(&value.to_le_bytes());
    let widened = |keys: &ArrayRef, to: ArrowType| cast(keys, &to).expect("integers, dates and times widen");
    match keys.data_type() {
        ArrowType::Utf8View => {
            keys.as_string_view().iter().map(|key| xxh3_64(key.unwrap_or_default().as_bytes())).collect()
        }
        ArrowType::BinaryView => keys.as_binary_view().iter().map(|key| xxh3_64(key.unwrap_or_default())).collect(),
        ArrowType::FixedSizeBinary(_) => {
            keys.as_fixed_size_binary().iter().map(|key| xxh3_64(key.unwrap_or_default())).collect()
        }
        ArrowType::Decimal128(_, _) => {
            keys.as_primitive::<Decimal128Type>().values().iter().map(|key| long(*key)).collect()
        }
        ArrowType::UInt8 | ArrowType::UInt16 | ArrowType::UInt32 | ArrowType::UInt64 => {
            let keys = widened(keys, ArrowType::UInt64);
            keys.as_primitive::<UInt64Type>().values().iter().map(|key| long((*key).into())).collect()
        }
        other => {
            // Arrow takes days to a longer integer by way of a shorter one only.
            let days = (*other == ArrowType::Date32).then(|| widened(keys, ArrowType::Int32));
            let keys = widened(days.as_ref().unwrap_or(keys), ArrowType::Int64);
            keys.as_primitive::<Int64Type>().values().iter().map(|key| long((*key).into())).collect()
        }
    }
}

/// Writes the index of a segment whose rows have these keys, in order.
pub(super) fn write(keys: &[ArrayRef], out: &mut dyn Write) -> io::Result<()> {
    let hashes = keys.iter().flat_map(hashes_of);
    let mut entries: Vec<(u64, u32)> = hashes.zip(0_u32..).collect();
    entries.sort_unstable();
    let mut header = [0; HEADER_LEN];
    header[..4].copy_from_slice(&MAGIC);
    header[4..8].copy_from_slice(&VERSION.to_le_bytes());
    header[8..16].copy_from_slice(&(entries.len() as u64).to_le_bytes());
    let checksum = crc32c::crc32c(&header[..28]);
    header[28..].copy_from_slice(&checksum.to_le_bytes());
    let mut content = Vec::with_capacity(entries.len() * ENTRY_LEN);
    for (hash, row) in entries {
        content.extend_from_slice(&hash.to_le_bytes());
        content.extend_from_slice(&row.to_le_bytes());
    }
    let mut out = BufWriter::with_capacity(WRITE_BUFFER_LEN, out);
    out.write_all(&header)?;
    out.write_all(&content)?;
    for block in content.chunks(BLOCK_LEN) {
        out.write_all(&crc32c::crc32c(block).to_le_bytes())?;
    }
    out.flush()
}

/// The index of a segment. Keeps no file open and next to nothing in memory.
#[derive(Debug)]
pub(super) struct KeyIndex {
    path: PathBuf,
    entries: usize,
}

impl KeyIndex {
    /// Opens the index of a segment of `rows` rows.
    ///
    /// # Errors
    ///
    /// When there is none, or it is not one of this many rows.
    pub(super) fn open(backend: &dyn Backend, path: &Path, rows: u64) -> Result<Self> {
        let file = backend.open(path).map_err(Error::io("open", path))?;
        let header = read_range(&*file, 0, HEADER_LEN).map_err(Error::io("read", path))?;
        let word = |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let count = u64::from(word(8)) | u64::from(word(12)) << 32;
        let blocks = count.saturating_mul(ENTRY_LEN as u64).div_ceil(BLOCK_LEN as u64);
        let len = (HEADER_LEN as u64)
            .saturating_add(count.saturating_mul(ENTRY_LEN as u64))
            .saturating_add(blocks.saturating_mul(4));
        let fits = header[..4] == MAGIC
            && word(4) == VERSION
            && word(28) == crc32c::crc32c(&header[..28])
            && count == rows
            && file.byte_count().is_ok_and(|found| found == len);
        let entries = usize::try_from(count).ok().filter(|_| fits);
        let entries = entries.ok_or_else(|| Error::damaged(path, "it is not the key index of its segment"))?;
        Ok(Self { path: path.to_owned(), entries })
    }

    /// The rows whose keys may be those of these hashes: all that are, and others with the same hash.
    ///
    /// # Errors
    ///
    /// When the file cannot be read or is damaged.
    pub(super) fn rows(&self, backend: &dyn Backend, hashes: &[u64]) -> Result<Vec<u32>> {
        let file = backend.open(&self.path).map_err(Error::io("open", &self.path))?;
        let mut rows = Vec::new();
        for hash in hashes {
            self.find(&*file, *hash, &mut rows)?;
        }
        Ok(rows)
    }

    fn find(&self, file: &dyn ReadFile, hash: u64, rows: &mut Vec<u32>) -> Result<()> {
        // Hashes are spread evenly, so that their order says where one is, but for some entries more or less.
        let (mut low, mut high) = (0, self.entries);
        let mut window = self.guess(hash);
        loop {
            let entries = self.read(file, window.clone())?;
            let at = |index: usize| entry(&entries, index);
            let count = window.len();
            let begins_before = window.start == low || at(0).0 < hash;
            let ends_after = window.end == high || at(count - 1).0 > hash;
            if begins_before && ends_after {
                let first = (0..count).collect::<Vec<_>>().partition_point(|index| at(*index).0 < hash);
                rows.extend((first..count).map(at).take_while(|(found, _)| *found == hash).map(|(_, row)| row));
                return Ok(());
            }
            // Not there: as wide again on the side where it must be, or on both.
            let step = 4 * window.len().max(64);
            if begins_before {
                low = if at(count - 1).0 < hash { window.end } else { low };
                window = window.start..(window.end + step).min(high);
            } else {
                high = if at(0).0 > hash { window.start } else { high };
                window = window.start.saturating_sub(step).max(low)..window.end;
            }
        }
    }

    /// Where the entries of a hash are most likely.
    fn guess(&self, hash: u64) -> Range<usize> {
        let middle = usize::try_from((u128::from(hash) * self.entries as u128) >> 64).unwrap_or(0);
        // Four times the standard deviation of the number of hashes below one in the middle.
        let slack = 2 * self.entries.isqrt() + 8;
        middle.saturating_sub(slack)..(middle + slack).min(self.entries)
    }

    /// The bytes of some entries, checked.
    fn read(&self, file: &dyn ReadFile, entries: Range<usize>) -> Result<Vec<u8>> {
        let bytes = entries.start * ENTRY_LEN..entries.end * ENTRY_LEN;
        let all = self.entries * ENTRY_LEN;
        let blocks = bytes.start / BLOCK_LEN..bytes.end.div_ceil(BLOCK_LEN);
        let whole = blocks.start * BLOCK_LEN..(blocks.end * BLOCK_LEN).min(all);
        let failed = Error::io("read", &self.path);
        let read = || {
            let content = read_range(file, (HEADER_LEN + whole.start) as u64, whole.len())?;
            let checksums = read_range(file, (HEADER_LEN + all + 4 * blocks.start) as u64, 4 * blocks.len())?;
            Ok((content, checksums))
        };
        let (mut content, checksums) = read().map_err(failed)?;
        let fits = content.chunks(BLOCK_LEN).zip(checksums.as_chunks::<4>().0);
        for (index, (block, checksum)) in fits.enumerate() {
            if crc32c::crc32c(block) != u32::from_le_bytes(*checksum) {
                let message = format!("block {} does not match its checksum", blocks.start + index);
                return Err(Error::damaged(&self.path, message));
            }
        }
        content.truncate(bytes.end - whole.start);
        content.drain(..bytes.start - whole.start);
        Ok(content)
    }

    /// Checks that the index has exactly the keys of a segment, in order.
    ///
    /// # Errors
    ///
    /// When it has not, or cannot be read.
    pub(super) fn verify(&self, backend: &dyn Backend, keys: &[ArrayRef]) -> Result<()> {
        let file = backend.open(&self.path).map_err(Error::io("open", &self.path))?;
        let content = self.read(&*file, 0..self.entries)?;
        let mut expected: Vec<(u64, u32)> = keys.iter().flat_map(hashes_of).zip(0_u32..).collect();
        expected.sort_unstable();
        match (0..self.entries).map(|index| entry(&content, index)).eq(expected) {
            true => Ok(()),
            false => Err(Error::damaged(&self.path, "it does not have the keys of its segment")),
        }
    }
}

/// A hash and its row.
fn entry(entries: &[u8], index: usize) -> (u64, u32) {
    let mut hash = [0; 8];
    let mut row = [0; 4];
    hash.copy_from_slice(&entries[index * ENTRY_LEN..index * ENTRY_LEN + 8]);
    row.copy_from_slice(&entries[index * ENTRY_LEN + 8..(index + 1) * ENTRY_LEN]);
    (u64::from_le_bytes(hash), u32::from_le_bytes(row))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Int64Array, StringViewArray};

    use super::*;
    use crate::store::OsBackend;

    fn index_of(dir: &Path, keys: &[ArrayRef]) -> KeyIndex {
        let path = dir.join("some.key");
        let mut content = Vec::new();
        write(keys, &mut content).unwrap();
        std::fs::write(&path, content).unwrap();
        KeyIndex::open(&OsBackend, &path, keys.iter().map(|keys| keys.len() as u64).sum()).unwrap()
    }

    #[test]
    fn every_key_is_found_where_it_is() {
        let dir = tempfile::tempdir().unwrap();
        for count in [0_i64, 1, 2, 3, 341, 342, 1000, 100_000] {
            let keys: Vec<ArrayRef> = [0..count / 3, count / 3..count]
                .map(|range| Arc::new(range.map(|key| key * 7 - 50).collect::<Int64Array>()) as ArrayRef)
                .into();
            let index = index_of(dir.path(), &keys);
            index.verify(&OsBackend, &keys).unwrap();
            for row in (0..count).step_by(usize::try_from(count / 2000 + 1).unwrap()) {
                let hash = hash_of(&Scalar::Int((row * 7 - 50).into())).unwrap();
                assert_eq!(index.rows(&OsBackend, &[hash]).unwrap(), [u32::try_from(row).unwrap()]);
                let other = hash_of(&Scalar::Int((row * 7 - 49).into())).unwrap();
                assert_eq!(index.rows(&OsBackend, &[other]).unwrap(), Vec::<u32>::new());
            }
            for edge in [0, u64::MAX] {
                assert_eq!(index.rows(&OsBackend, &[edge]).unwrap(), Vec::<u32>::new());
            }
        }
    }

    #[test]
    fn keys_that_occur_often_are_all_found() {
        let dir = tempfile::tempdir().unwrap();
        let keys: ArrayRef = Arc::new(StringViewArray::from_iter_values((0..9000).map(|row| ["a", "b", "c"][row % 3])));
        let index = index_of(dir.path(), &[keys]);
        let hash = hash_of(&Scalar::Utf8("b".into())).unwrap();
        assert_eq!(index.rows(&OsBackend, &[hash]).unwrap(), (1..9000).step_by(3).collect::<Vec<u32>>());
    }

    #[test]
    fn damage_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let keys: ArrayRef = Arc::new((0..1000).collect::<Int64Array>());
        let index = index_of(dir.path(), std::slice::from_ref(&keys));
        let good = std::fs::read(&index.path).unwrap();
        for at in (0..good.len()).step_by(13) {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            std::fs::write(&index.path, &bad).unwrap();
            let found = KeyIndex::open(&OsBackend, &index.path, 1000)
                .and_then(|index| index.verify(&OsBackend, std::slice::from_ref(&keys)));
            assert!(found.is_err(), "byte {at}");
        }
        std::fs::write(&index.path, &good[..good.len() - 1]).unwrap();
        assert!(KeyIndex::open(&OsBackend, &index.path, 1000).is_err());
    }
}
