//! What of a file need not be read: units and pages in which nothing matches.

use std::ops::Range;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use parquet::arrow::arrow_reader::ArrowReaderMetadata;
use parquet::basic::Type as PhysicalType;
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::page_index::column_index::ColumnIndexMetaData;
use parquet::file::page_index::offset_index::PageLocation;
use parquet::schema::types::ColumnDescriptor;

use super::bounds;
use super::checksums::{self, BLOOM_CHECKSUMS_KEY, bloom_range, chunk_ranges};
use super::{ParquetForm, with_read_types};
use crate::error::{Error, Result};
use crate::predicate::{Bounds, Scalar};
use crate::schema::DataType;
use crate::store::io::read_range;

/// What is read of a file when it is first needed.
#[derive(Default)]
pub(super) struct Indexes {
    /// The footer with the page index, if that can be used.
    paged: OnceLock<Option<ArrowReaderMetadata>>,
    /// By column chunk, row group by row group.
    filters: OnceLock<Vec<OnceLock<Option<Sbbf>>>>,
}

/// Rows of a unit, and for some columns the page of each that they are in.
#[derive(Debug, Clone, PartialEq)]
pub(in crate::store::segment) struct Pages {
    pub(in crate::store::segment) rows: Range<usize>,
    pages: Vec<usize>,
}

impl ParquetForm {
    /// What the footer says of a column in a unit; `None` if nothing that is sure.
    pub(in crate::store::segment) fn bounds(&self, unit: usize, column: usize) -> Option<Bounds> {
        let group = self.metadata.metadata().row_groups().get(unit)?;
        self.checksums.as_ref()?;
        let data_type = self.fields[column].data_type();
        Some(bounds::of_chunk(group.column(self.leaves[column]?), data_type))
    }

    /// Whether one of these values may be in a column of a unit: whether its Bloom filter, if it has one that is not
    /// damaged, does not exclude them all.
    pub(in crate::store::segment) fn may_hold(&self, unit: usize, column: usize, values: &[&Scalar]) -> bool {
        let Some((leaf, filter)) = self.leaves[column].and_then(|leaf| Some((leaf, self.filter(unit, leaf)?))) else {
            return true;
        };
        let (data_type, stored) = (self.fields[column].data_type(), self.metadata.parquet_schema().column(leaf));
        values.iter().any(|value| is_in(filter, data_type, &stored, value).unwrap_or(true))
    }

    fn filter(&self, unit: usize, leaf: usize) -> Option<&Sbbf> {
        let groups = self.metadata.metadata().row_groups();
        if self.checksums.is_none() || bloom_range(groups.get(unit)?.column(leaf)).is_none() {
            return None;
        }
        let filters = self.indexes.filters.get_or_init(|| self.parts.iter().map(|_| OnceLock::new()).collect());
        filters[self.chunk(unit, leaf)].get_or_init(|| self.read_filter(unit, leaf).ok()).as_ref()
    }

    /// Reads and checks a Bloom filter.
    fn read_filter(&self, unit: usize, leaf: usize) -> Result<Sbbf> {
        let damaged = |message: &str| Error::damaged(&self.path, format!("the Bloom filter of unit {unit} {message}"));
        let groups = self.metadata.metadata().row_groups();
        let range = bloom_range(groups[unit].column(leaf)).ok_or_else(|| damaged("has no length"))?;
        let len = range.end.checked_sub(range.start).filter(|_| range.end <= self.len);
        let len = len.and_then(|len| usize::try_from(len).ok()).ok_or_else(|| damaged("is outside the file"))?;
        let file = self.backend.open(&self.path).map_err(Error::io("open", &self.path))?;
        let bytes = read_range(&*file, range.start, len).map_err(Error::io("read", &self.path))?;
        let before = groups[..unit].iter().flat_map(|group| group.columns()).chain(&groups[unit].columns()[..leaf]);
        let place = before.filter(|chunk| bloom_range(chunk).is_some()).count();
        if self.bloom_checksums().get(place) != Some(&crc32c::crc32c(&bytes)) {
            return Err(damaged("does not match its checksum"));
        }
        let filter = Sbbf::from_bytes(&bytes).map_err(|error| damaged(&format!("cannot be read: {error}")))?;
        if filter.num_blocks() == 0 {
            return Err(damaged("is empty"));
        }
        Ok(filter)
    }

    /// The checksums of the Bloom filters, which the footer has, and so are covered by the footer's own.
    fn bloom_checksums(&self) -> Vec<u32> {
        let entries = self.metadata.metadata().file_metadata().key_value_metadata().into_iter().flatten();
        let text = entries.filter(|entry| entry.key == BLOOM_CHECKSUMS_KEY).find_map(|entry| entry.value.as_deref());
        text.and_then(checksums::decode).unwrap_or_default()
    }

    /// Checks all Bloom filters and that the page index, if there is one, is one of this file.
    ///
    /// # Errors
    ///
    /// Naming what is damaged.
    pub(in crate::store::segment) fn verify_indexes(&self) -> Result<()> {
        if self.checksums.is_none() {
            return Ok(());
        }
        for (unit, group) in self.metadata.metadata().row_groups().iter().enumerate() {
            for (leaf, _) in group.columns().iter().enumerate().filter(|(_, chunk)| bloom_range(chunk).is_some()) {
                self.read_filter(unit, leaf)?;
            }
        }
        let mut chunks = self.metadata.metadata().row_groups().iter().flat_map(|group| group.columns());
        match chunks.any(|chunk| chunk.offset_index_offset().is_some() || chunk.column_index_offset().is_some()) {
            true => self.read_page_index().map(|_| ()),
            false => Ok(()),
        }
    }

    /// The pages of some columns in a unit, as stretches of rows that are in one page of each; `None` if they are not known.
    pub(in crate::store::segment) fn pages(&self, unit: usize, columns: &[usize]) -> Option<Vec<Pages>> {
        let rows = usize::try_from(self.metadata.metadata().row_group(unit).num_rows()).ok()?;
        let locations = columns
            .iter()
            .map(|column| self.page_locations(unit, self.leaves[*column]?))
            .collect::<Option<Vec<&[PageLocation]>>>()?;
        let mut starts: Vec<usize> = Vec::new();
        for page in locations.iter().copied().flatten() {
            starts.push(usize::try_from(page.first_row_index).ok()?);
        }
        starts.sort_unstable();
        starts.dedup();
        let ends = starts.iter().copied().skip(1).chain([rows]);
        let stretches = starts.iter().zip(ends).map(|(start, end)| {
            let page_of =
                |pages: &&[PageLocation]| pages.partition_point(|page| page.first_row_index <= *start as i64) - 1;
            Pages { rows: *start..end, pages: locations.iter().map(page_of).collect() }
        });
        Some(stretches.collect())
    }

    /// What the page index says of the column at `place` among those that the pages were asked for.
    pub(in crate::store::segment) fn page_bounds(
        &self,
        unit: usize,
        column: usize,
        pages: &Pages,
        place: usize,
    ) -> Bounds {
        let leaf = self.leaves[column];
        let unknown = || Bounds::unknown(pages.rows.len() as u64);
        let Some((leaf, metadata)) = leaf.zip(self.paged()) else { return unknown() };
        let (Some(index), Some(locations)) = (metadata.metadata().column_index(), self.page_locations(unit, leaf))
        else {
            return unknown();
        };
        let page = pages.pages[place];
        let first = locations[page].first_row_index;
        let end =
            locations.get(page + 1).map_or(metadata.metadata().row_group(unit).num_rows(), |next| next.first_row_index);
        let rows = u64::try_from(end - first).unwrap_or(0);
        let data_type = self.fields[column].data_type();
        bounds::of_page(&index[unit][leaf], page, rows, data_type)
    }

    /// Where the pages of a column chunk are, if that is known.
    pub(super) fn page_locations(&self, unit: usize, leaf: usize) -> Option<&[PageLocation]> {
        let index = self.paged()?.metadata().offset_index()?;
        Some(index.get(unit)?.get(leaf)?.page_locations())
    }

    /// The footer with the page index, if the file is one of ours and has one that fits.
    pub(super) fn paged(&self) -> Option<&ArrowReaderMetadata> {
        self.checksums.as_ref()?;
        self.indexes.paged.get_or_init(|| self.read_page_index().ok()).as_ref()
    }

    /// Reads the page index, which is between the last column chunk and the footer, and checks it.
    fn read_page_index(&self) -> Result<ArrowReaderMetadata> {
        let damaged = |message: &str| Error::damaged(&self.path, format!("its page index {message}"));
        let metadata = self.metadata.metadata();
        let chunks = chunk_ranges(metadata);
        let file = self.backend.open(&self.path).map_err(Error::io("open", &self.path))?;
        let start = chunks.iter().map(|range| range.end).max().unwrap_or(0);
        let len = self.len.checked_sub(start).and_then(|len| usize::try_from(len).ok());
        let len = len.ok_or_else(|| damaged("is outside the file"))?;
        let tail = Bytes::from(read_range(&*file, start, len).map_err(Error::io("read", &self.path))?);
        if !self.checksums.as_ref().is_some_and(|known| known.fit(chunks.len(), &tail)) {
            return Err(damaged("does not match its checksum"));
        }
        let read = || -> Result<ArrowReaderMetadata, ParquetError> {
            let mut reader = ParquetMetaDataReader::new_with_metadata(ParquetMetaData::clone(metadata))
                .with_page_index_policy(PageIndexPolicy::Required);
            reader.read_page_indexes_sized(&tail, self.len)?;
            let paged = ArrowReaderMetadata::try_new(Arc::new(reader.finish()?), super::reader_options())?;
            with_read_types(paged, &self.fields)
        };
        let paged = read().map_err(|error| damaged(&format!("cannot be read: {error}")))?;
        if !is_sound(paged.metadata()) {
            return Err(damaged("does not fit the file"));
        }
        Ok(paged)
    }
}

/// Whether the page index is one of this file: pages of every chunk, one after the other, from the first row on.
fn is_sound(metadata: &ParquetMetaData) -> bool {
    let (Some(columns), Some(offsets)) = (metadata.column_index(), metadata.offset_index()) else { return false };
    let groups = metadata.row_groups();
    if columns.len() != groups.len() || offsets.len() != groups.len() {
        return false;
    }
    groups.iter().zip(columns.iter().zip(offsets)).all(|(group, (columns, offsets))| {
        let same = columns.len() == group.num_columns() && offsets.len() == group.num_columns();
        same && group.columns().iter().zip(columns.iter().zip(offsets)).all(|(chunk, (column, offset))| {
            let pages = offset.page_locations();
            let (start, len) = chunk.byte_range();
            let inside = |page: &PageLocation| {
                let first = u64::try_from(page.offset).ok();
                let end =
                    first.zip(u64::try_from(page.compressed_page_size).ok()).map(|(at, len)| at.saturating_add(len));
                first.is_some_and(|first| first >= start) && end.is_some_and(|end| end <= start.saturating_add(len))
            };
            let has_no_bounds = matches!(column, ColumnIndexMetaData::NONE);
            pages.first().is_some_and(|page| page.first_row_index == 0)
                && pages.is_sorted_by(|a, b| a.first_row_index < b.first_row_index && a.offset < b.offset)
                && pages.last().is_some_and(|page| page.first_row_index < group.num_rows())
                && pages.iter().all(inside)
                && (has_no_bounds || column.num_pages() == pages.len() as u64)
        })
    })
}

/// Whether the filter of a column says that a value may be there; `None` if it cannot be asked. A value that the column
/// cannot hold is not there.
fn is_in(filter: &Sbbf, data_type: &DataType, stored: &ColumnDescriptor, value: &Scalar) -> Option<bool> {
    match (stored.physical_type(), value) {
        (PhysicalType::INT32, Scalar::Int(value)) => {
            Some(i32::try_from(*value).is_ok_and(|value| filter.check(&value)))
        }
        (PhysicalType::INT64, Scalar::Int(value)) if *data_type == DataType::UInt64 => {
            Some(u64::try_from(*value).is_ok_and(|value| filter.check(&value.cast_signed())))
        }
        (PhysicalType::INT64, Scalar::Int(value)) => {
            Some(i64::try_from(*value).is_ok_and(|value| filter.check(&value)))
        }
        (PhysicalType::FIXED_LEN_BYTE_ARRAY, Scalar::Int(value)) => {
            let bytes = value.to_be_bytes();
            let from = bytes.len().checked_sub(usize::try_from(stored.type_length()).ok()?)?;
            Some(filter.check(&bytes[from..]))
        }
        (PhysicalType::BYTE_ARRAY, Scalar::Utf8(value)) => Some(filter.check(value.as_str())),
        (PhysicalType::BYTE_ARRAY, Scalar::Binary(value)) => Some(filter.check(value.as_slice())),
        _ => None,
    }
}
