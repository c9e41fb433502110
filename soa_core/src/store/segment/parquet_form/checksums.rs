//! The checksums of a Parquet file that the log keeps (format.md, section 2).

use std::ops::Range;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};

/// The entry of a file's metadata that has the checksums of its Bloom filters, row group by row group, column by column.
pub(super) const BLOOM_CHECKSUMS_KEY: &str = "soa.bloomFilters.crc32c";

/// CRC-32C of a file's footer and of each of its column chunks.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store::segment) struct Checksums(Vec<u32>);

impl Checksums {
    pub(super) fn new(footer: u32, chunks: impl IntoIterator<Item = u32>) -> Self {
        Self(std::iter::once(footer).chain(chunks).collect())
    }

    /// Whether they are those of a file with so many column chunks and this footer.
    pub(super) fn fit(&self, chunks: usize, footer: &[u8]) -> bool {
        self.0.len() == chunks + 1 && self.0[0] == crc32c::crc32c(footer)
    }

    /// Whether the bytes are those of a column chunk, counted row group by row group.
    pub(super) fn fits_chunk(&self, chunk: usize, bytes: &[u8]) -> bool {
        self.0.get(chunk + 1) == Some(&crc32c::crc32c(bytes))
    }

    /// As the `soa.crc32c` tag of an `add`.
    pub(in crate::store::segment) fn to_tag(&self) -> String {
        encode(&self.0)
    }

    pub(in crate::store::segment) fn from_tag(tag: &str) -> Option<Self> {
        decode(tag).filter(|words| !words.is_empty()).map(Self)
    }
}

/// A sequence of checksums as text: base64 of their bytes.
pub(super) fn encode(words: &[u32]) -> String {
    BASE64.encode(words.iter().flat_map(|crc| crc.to_le_bytes()).collect::<Vec<u8>>())
}

/// What [`encode`] wrote.
pub(super) fn decode(text: &str) -> Option<Vec<u32>> {
    let bytes = BASE64.decode(text).ok()?;
    let (words, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| words.iter().map(|word| u32::from_le_bytes(*word)).collect())
}

/// Whether the footer says of every column chunk where it is. (`byte_range`, ours and Parquet's own readers', panics at a place
/// before the file.)
pub(super) fn has_places(metadata: &ParquetMetaData) -> bool {
    let mut chunks = metadata.row_groups().iter().flat_map(|group| group.columns());
    chunks.all(|chunk| {
        let start = chunk.dictionary_page_offset().unwrap_or_else(|| chunk.data_page_offset());
        start >= 0 && chunk.compressed_size() >= 0
    })
}

/// Where a column chunk is, in a file that [`has_places`].
pub(super) fn chunk_range(chunk: &ColumnChunkMetaData) -> Range<u64> {
    let (start, len) = chunk.byte_range();
    start..start.saturating_add(len)
}

/// Where a column chunk's Bloom filter is, if it has one.
pub(super) fn bloom_range(chunk: &ColumnChunkMetaData) -> Option<Range<u64>> {
    let start = u64::try_from(chunk.bloom_filter_offset()?).ok()?;
    let len = u64::try_from(chunk.bloom_filter_length()?).ok()?;
    Some(start..start.saturating_add(len))
}

/// Where each column chunk is, row group by row group.
pub(super) fn chunk_ranges(metadata: &ParquetMetaData) -> Vec<Range<u64>> {
    metadata.row_groups().iter().flat_map(|group| group.columns()).map(chunk_range).collect()
}
