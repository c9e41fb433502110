//! Deletion vectors: which rows of a file are gone (Delta Lake's format; format.md, section 6).

use std::path::{Path, PathBuf};
use std::sync::Arc;

use delta_kernel::KernelError;
use delta_kernel::actions::deletion_vector::{DeletionVectorDescriptor, DeletionVectorStorageType};
use roaring::{RoaringBitmap, RoaringTreemap};
use serde_json::{Value, json};
use uuid::Uuid;

use super::engine;
use super::io::{Backend, read_range};
use super::paths::check_inside;
use crate::error::{Error, Result};

/// Begins every bitmap.
const MAGIC: u32 = 1_681_511_377;
/// Every bitmap has a magic number and a count.
const BITMAP_BYTES_MIN: i32 = 12;
/// Begins every file of bitmaps.
const FILE_VERSION: u8 = 1;
/// A file of bitmaps begins with its version, one byte.
const FILE_HEADER_LEN: usize = 1;
/// Vectors of up to this many bytes are written into the log itself: no reader opens a file for a few rows.
const INLINE_BYTES_MAX: usize = 128;

/// Which rows of a file are gone, as the log names it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct DeletionVector(DeletionVectorDescriptor);

impl DeletionVector {
    /// A vector as the log describes it.
    pub(super) fn new(
        root: &Path,
        storage_type: &str,
        path_or_inline: &str,
        offset: Option<i32>,
        size_in_bytes: i32,
        cardinality: i64,
    ) -> Result<Self> {
        let kind = storage_type.parse();
        if size_in_bytes < BITMAP_BYTES_MIN {
            return Err(damaged_log(root, &KernelError::generic(format!("it has {size_in_bytes} bytes"))));
        }
        kind.and_then(|kind| {
            DeletionVectorDescriptor::try_new(kind, path_or_inline, offset, size_in_bytes, cardinality)
        })
        .map(Self)
        .map_err(|error| damaged_log(root, &error))
    }

    /// A vector as an action of the log has it.
    pub(super) fn from_json(root: &Path, value: &Value) -> Result<Self> {
        let text = |name: &str| value.get(name).and_then(Value::as_str);
        let number = |name: &str| value.get(name).and_then(Value::as_i64);
        let size = number("sizeInBytes").and_then(|size| i32::try_from(size).ok());
        let offset = number("offset").and_then(|offset| i32::try_from(offset).ok());
        match (text("storageType"), text("pathOrInlineDv"), size, number("cardinality")) {
            (Some(kind), Some(place), Some(size), Some(cardinality)) => {
                Self::new(root, kind, place, offset, size, cardinality)
            }
            _ => Err(Error::damaged(root.join(super::paths::LOG_DIR), "an entry has half a deletion vector")),
        }
    }

    /// How many rows are gone.
    pub(super) fn cardinality(&self) -> u64 {
        u64::try_from(self.0.cardinality).unwrap_or(0)
    }

    /// Whether the log itself has it.
    pub(super) fn is_inline(&self) -> bool {
        self.0.storage_type == DeletionVectorStorageType::Inline
    }

    /// The file that has it, unless the log does.
    pub(super) fn path(&self, root: &Path) -> Option<PathBuf> {
        let url = url::Url::from_directory_path(root).ok()?;
        self.0.absolute_path(&url).ok().flatten()?.to_file_path().ok()
    }

    /// The positions of the rows that are gone.
    ///
    /// # Errors
    ///
    /// When its file is missing, outside the store's folder or damaged, or it does not fit a file of `rows` rows.
    pub(super) fn read(&self, backend: &Arc<dyn Backend>, root: &Path, rows: u64) -> Result<RoaringBitmap> {
        let stored = self.path(root);
        let file = stored.clone().unwrap_or_else(|| root.join(super::paths::LOG_DIR));
        let positions = match stored {
            Some(_) => self.read_stored(&**backend, root, &file)?,
            None => {
                let url =
                    url::Url::from_directory_path(root).map_err(|()| Error::NotFound { path: root.to_owned() })?;
                self.0.read(engine::storage(backend, root), &url).map_err(|error| unreadable(&file, &error))?
            }
        };
        if positions.len() != self.cardinality() || positions.max().is_some_and(|last| last >= rows) {
            return Err(Error::damaged(&file, "its deletion vector does not fit the rows it is for"));
        }
        let mut bitmaps = positions.bitmaps();
        match (bitmaps.next(), bitmaps.next()) {
            (None, _) => Ok(RoaringBitmap::new()),
            (Some((0, bitmap)), None) => Ok(bitmap.clone()),
            _ => Err(Error::Unsupported {
                path: root.to_owned(),
                message: "a file of more than 2^32 rows has a deletion vector".to_owned(),
            }),
        }
    }

    /// Reads it from its file, and nothing of the others that are there: its length, the bitmap, a checksum.
    fn read_stored(&self, backend: &dyn Backend, root: &Path, path: &Path) -> Result<RoaringTreemap> {
        if !path.starts_with(root) {
            return Err(Error::damaged(path, "it is outside the store's folder; such a deletion vector is not read"));
        }
        check_inside(root, path)?;
        let failed = Error::io("read", path);
        let offset = u64::try_from(self.0.offset.unwrap_or(i32::try_from(FILE_HEADER_LEN).unwrap_or(0)));
        let size = usize::try_from(self.0.size_in_bytes);
        let (Ok(offset), Ok(size)) = (offset, size) else { return Err(unreadable(path, &"it has a negative length")) };
        let bytes = backend.open(path).and_then(|file| {
            let end = offset.saturating_add(size as u64 + 8);
            if file.byte_count()? < end {
                return Ok(None);
            }
            Ok(Some((read_range(&*file, 0, FILE_HEADER_LEN)?, read_range(&*file, offset, size + 8)?)))
        });
        let ended = || unreadable(path, &"the file ends before it does");
        let (header, bytes) = bytes.map_err(failed)?.ok_or_else(ended)?;
        if header != [FILE_VERSION] {
            return Err(unreadable(path, &format!("the file's version is {}, which is not known", header[0])));
        }
        let (len, rest) = bytes.split_at(4);
        let (content, checksum) = rest.split_at(size);
        if len != self.0.size_in_bytes.to_be_bytes() || checksum != crc32fast::hash(content).to_be_bytes() {
            return Err(unreadable(path, &"it does not match its checksum"));
        }
        match content.strip_prefix(&MAGIC.to_le_bytes()) {
            Some(bitmap) => RoaringTreemap::deserialize_from(bitmap).map_err(|error| unreadable(path, &error)),
            None => Err(unreadable(path, &"it does not begin as one")),
        }
    }

    /// As an action of the log has it.
    pub(super) fn to_json(&self) -> Value {
        let mut value = json!({
            "storageType": self.0.storage_type.to_string(),
            "pathOrInlineDv": self.0.path_or_inline_dv,
            "sizeInBytes": self.0.size_in_bytes,
            "cardinality": self.0.cardinality,
        });
        if let Some(offset) = self.0.offset {
            value["offset"] = offset.into();
        }
        value
    }
}

fn unreadable(file: &Path, error: &dyn std::fmt::Display) -> Error {
    Error::damaged(file, format!("its deletion vector cannot be read: {error}"))
}

fn damaged_log(root: &Path, error: &KernelError) -> Error {
    Error::damaged(root.join(super::paths::LOG_DIR), format!("it has a deletion vector that is none: {error}"))
}

/// Writes vectors: short ones are for the log to hold, the others are in one file, which is durable when this returns.
/// Gives that file, if there is one, and the vectors in the order of the bitmaps.
///
/// # Errors
///
/// When the file cannot be written; then none is left behind.
pub(super) fn write(
    backend: &dyn Backend,
    root: &Path,
    bitmaps: &[RoaringBitmap],
) -> Result<(Option<PathBuf>, Vec<DeletionVector>)> {
    let id = Uuid::new_v4();
    let name = format!("deletion_vector_{id}.bin");
    let too_large =
        || Error::argument("the deletion vectors of one commit take more than 2 GiB; delete in smaller steps");
    let mut file = vec![FILE_VERSION];
    let mut vectors = Vec::with_capacity(bitmaps.len());
    for bitmap in bitmaps {
        let content = encode(bitmap);
        let size = i32::try_from(content.len()).map_err(|_| too_large())?;
        let (kind, place, offset) = if content.len() <= INLINE_BYTES_MAX {
            ("i", encode_text(&content), None)
        } else {
            let offset = i32::try_from(file.len()).map_err(|_| too_large())?;
            file.extend_from_slice(&size.to_be_bytes());
            file.extend_from_slice(&content);
            file.extend_from_slice(&crc32fast::hash(&content).to_be_bytes());
            ("u", encode_text(id.as_bytes()), Some(offset))
        };
        let cardinality = i64::try_from(bitmap.len()).map_err(|_| too_large())?;
        vectors.push(DeletionVector::new(root, kind, &place, offset, size, cardinality)?);
    }
    if file.len() == FILE_HEADER_LEN {
        return Ok((None, vectors));
    }
    let path = root.join(name);
    backend.put_if_absent(&path, &file).map_err(Error::io("write", &path))?;
    Ok((Some(path), vectors))
}

/// A bitmap of 64-bit positions in the portable format of Roaring.
fn encode(bitmap: &RoaringBitmap) -> Vec<u8> {
    let positions = RoaringTreemap::from_bitmaps([(0, bitmap.clone())]);
    let mut content = MAGIC.to_le_bytes().to_vec();
    positions.serialize_into(&mut content).expect("writing into memory does not fail");
    content
}

/// Z85 takes four bytes at a time; readers do not look behind the bitmap.
fn encode_text(bytes: &[u8]) -> String {
    let mut padded = bytes.to_vec();
    padded.resize(bytes.len().next_multiple_of(4), 0);
    z85::encode(padded)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::OsBackend;

    #[test]
    fn vectors_are_read_as_they_were_written() {
        let dir = tempfile::tempdir().unwrap();
        let backend: Arc<dyn Backend> = Arc::new(OsBackend);
        let bitmaps =
            [RoaringBitmap::from_iter([7]), (0..100_000).step_by(3).collect(), RoaringBitmap::from_iter([0, 99_999])];
        let (file, vectors) = write(&*backend, dir.path(), &bitmaps).unwrap();
        assert!(file.is_some_and(|file| file.is_file()));
        for (bitmap, vector) in bitmaps.iter().zip(&vectors) {
            assert_eq!(vector.cardinality(), bitmap.len());
            assert_eq!(vector.read(&backend, dir.path(), 100_000).unwrap(), *bitmap);
        }
        let small = vectors[2].read(&backend, dir.path(), 99_999).unwrap_err().to_string();
        assert!(small.contains("does not fit"), "{small}");
    }

    #[test]
    fn damage_is_found_and_the_file_named() {
        let dir = tempfile::tempdir().unwrap();
        let backend: Arc<dyn Backend> = Arc::new(OsBackend);
        let bitmap: RoaringBitmap = (0..9_999).step_by(2).collect();
        let (file, vectors) = write(&*backend, dir.path(), &[bitmap]).unwrap();
        let file = file.unwrap();
        let good = std::fs::read(&file).unwrap();
        for at in 0..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 1;
            std::fs::write(&file, &bad).unwrap();
            let error = vectors[0].read(&backend, dir.path(), 10_000).unwrap_err().to_string();
            assert!(error.contains("deletion_vector_"), "byte {at}: {error}");
        }
        std::fs::write(&file, &good[..good.len() - 1]).unwrap();
        assert!(vectors[0].read(&backend, dir.path(), 10_000).is_err());
    }
}
