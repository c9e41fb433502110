//! Parts of a file that were read, for the Parquet reader to find in them what it asks for.

use std::io;

use bytes::Bytes;
use parquet::errors::ParquetError;
use parquet::file::metadata::ParquetMetaData;
use parquet::file::reader::{ChunkReader, Length};

use super::io::{ReadFile, read_range};

/// The footer's length and the magic.
const TRAILER_LEN: usize = 8;

/// The end of a file, for the Parquet reader to find the footer in.
pub(in crate::store) struct FooterSource {
    len: u64,
    start: u64,
    bytes: Bytes,
}

impl FooterSource {
    pub(in crate::store) fn read(file: &dyn ReadFile, len: u64) -> io::Result<Self> {
        let invalid = |message: &str| io::Error::new(io::ErrorKind::InvalidData, message.to_owned());
        let trailer_at =
            len.checked_sub(TRAILER_LEN as u64).ok_or_else(|| invalid("it is too short for a Parquet file"))?;
        let trailer = read_range(file, trailer_at, TRAILER_LEN)?;
        let footer = u32::from_le_bytes([trailer[0], trailer[1], trailer[2], trailer[3]]);
        let start =
            trailer_at.checked_sub(footer.into()).ok_or_else(|| invalid("its footer is longer than the file"))?;
        if &trailer[4..] != b"PAR1" {
            return Err(invalid("it does not end as a Parquet file"));
        }
        let bytes = read_range(file, start, footer as usize + TRAILER_LEN)?.into();
        Ok(Self { len, start, bytes })
    }
}

/// Some column chunks of a file, for the Parquet reader to find its pages in.
pub(in crate::store) struct ChunkSource {
    pub(in crate::store) len: u64,
    pub(in crate::store) chunks: Vec<(u64, Bytes)>,
}

impl ChunkSource {
    /// Reads the column chunks of those leaf columns that are `wanted`.
    ///
    /// # Errors
    ///
    /// When one is outside the file, or cannot be read.
    pub(in crate::store) fn read(
        file: &dyn ReadFile,
        len: u64,
        metadata: &ParquetMetaData,
        wanted: &dyn Fn(usize) -> bool,
    ) -> io::Result<Self> {
        let outside = || io::Error::new(io::ErrorKind::InvalidData, "its footer points outside the file");
        let mut chunks = Vec::new();
        for group in metadata.row_groups() {
            for (_, column) in group.columns().iter().enumerate().filter(|(leaf, _)| wanted(*leaf)) {
                let start = column.dictionary_page_offset().unwrap_or(column.data_page_offset());
                let place = u64::try_from(start).ok().zip(u64::try_from(column.compressed_size()).ok());
                let (start, size) = place
                    .filter(|(start, size)| start.checked_add(*size).is_some_and(|end| end <= len))
                    .ok_or_else(outside)?;
                let size = usize::try_from(size).map_err(|_| outside())?;
                chunks.push((start, read_range(file, start, size)?.into()));
            }
        }
        Ok(Self { len, chunks })
    }
}

fn find(chunks: &[(u64, Bytes)], at: u64) -> Result<Bytes, ParquetError> {
    chunks
        .iter()
        .find_map(|(start, bytes)| {
            let offset = usize::try_from(at.checked_sub(*start)?).ok()?;
            (offset < bytes.len()).then(|| bytes.slice(offset..))
        })
        .ok_or_else(|| ParquetError::EOF(format!("nothing was read at byte {at}")))
}

fn first(bytes: Bytes, len: usize) -> Result<Bytes, ParquetError> {
    if len > bytes.len() {
        return Err(ParquetError::EOF(format!("{len} bytes were wanted, {} are there", bytes.len())));
    }
    Ok(bytes.slice(..len))
}

impl Length for FooterSource {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for FooterSource {
    type T = io::Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        find(&[(self.start, self.bytes.clone())], start).map(io::Cursor::new)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        first(find(&[(self.start, self.bytes.clone())], start)?, length)
    }
}

impl Length for ChunkSource {
    fn len(&self) -> u64 {
        self.len
    }
}

impl ChunkReader for ChunkSource {
    type T = io::Cursor<Bytes>;

    fn get_read(&self, start: u64) -> Result<Self::T, ParquetError> {
        find(&self.chunks, start).map(io::Cursor::new)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        first(find(&self.chunks, start)?, length)
    }
}
