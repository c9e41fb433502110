//! The parts of a column chunk, which are read by themselves where few rows are wanted.

use std::ops::Range;

use parquet::file::page_index::offset_index::PageLocation;

/// The dictionary of a column chunk, if it has one, and its pages. Made of a chunk that was found to match its checksum.
#[derive(Debug)]
pub(super) struct Parts(Vec<Part>);

#[derive(Debug)]
pub(super) struct Part {
    /// Where it is in the file.
    bytes: Range<u64>,
    /// The rows of the unit that cannot be decoded without it.
    rows: Range<usize>,
    checksum: u32,
}

impl Parts {
    /// The parts of a chunk of as many rows that begins at a byte of the file; `None` if the pages are not in it.
    pub(super) fn of(pages: &[PageLocation], rows: usize, start: u64, content: &[u8]) -> Option<Self> {
        let part = |bytes: Range<u64>, rows: Range<usize>| {
            let at = |offset: u64| usize::try_from(offset.checked_sub(start)?).ok();
            let checksum = crc32c::crc32c(content.get(at(bytes.start)?..at(bytes.end)?)?);
            Some(Part { bytes, rows, checksum })
        };
        let first_byte = u64::try_from(pages.first()?.offset).ok()?;
        let mut parts = Vec::with_capacity(pages.len() + 1);
        if start < first_byte {
            parts.push(part(start..first_byte, 0..rows)?);
        }
        for (index, page) in pages.iter().enumerate() {
            let first_row = usize::try_from(page.first_row_index).ok()?;
            let end_row = match pages.get(index + 1) {
                Some(next) => usize::try_from(next.first_row_index).ok()?,
                None => rows,
            };
            let at = u64::try_from(page.offset).ok()?;
            let end = at.checked_add(u64::try_from(page.compressed_page_size).ok()?)?;
            parts.push(part(at..end, first_row..end_row)?);
        }
        Some(Self(parts))
    }

    /// The parts that have some of the rows, which are ranges in ascending order, as runs without a gap between them.
    pub(super) fn with_rows(&self, ranges: &[Range<usize>]) -> Vec<&[Part]> {
        let is_wanted = |part: &Part| {
            let at = ranges.partition_point(|range| range.end <= part.rows.start);
            ranges.get(at).is_some_and(|range| range.start < part.rows.end)
        };
        let same_run = |a: &Part, b: &Part| is_wanted(a) == is_wanted(b) && a.bytes.end == b.bytes.start;
        self.0.chunk_by(same_run).filter(|run| run.first().is_some_and(is_wanted)).collect()
    }
}

/// Where a run of parts is in the file.
pub(super) fn bytes_of(run: &[Part]) -> Range<u64> {
    run.first().map_or(0, |part| part.bytes.start)..run.last().map_or(0, |part| part.bytes.end)
}

/// Whether these are the bytes of a run of parts.
pub(super) fn are_intact(run: &[Part], mut content: &[u8]) -> bool {
    run.iter().all(|part| {
        let len = usize::try_from(part.bytes.end - part.bytes.start).unwrap_or(usize::MAX);
        let Some((bytes, rest)) = content.split_at_checked(len) else { return false };
        content = rest;
        crc32c::crc32c(bytes) == part.checksum
    })
}
