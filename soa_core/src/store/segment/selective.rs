//! Reading the rows of a unit that match, from Parquet: the predicate's columns first, and of the others only the pages in
//! which something matches.

use std::iter;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, BooleanBufferBuilder, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::FilterBuilder;
use arrow::datatypes::Schema as ArrowSchema;

use super::file::SegmentFile;
use super::parquet_form::ParquetForm;
use crate::error::{Error, Result};
use crate::predicate::Predicate;
use crate::schema::arrow_field;

/// Rows are decoded in blocks of so many: to skip fewer takes as long as to decode them.
const BLOCK_ROWS: usize = 1024;
/// Where more than one row in so many would be decoded, all are.
const DECODED_SHARE: usize = 2;

impl SegmentFile {
    /// How many rows of a unit match and are live (all are if `live` is `None`), and columns of them, read from Parquet.
    ///
    /// # Errors
    ///
    /// When the file is missing or damaged.
    pub(super) fn read_matching(
        &self,
        unit: usize,
        columns: &[usize],
        predicate: &Predicate,
        live: Option<&BooleanBuffer>,
    ) -> Result<(usize, Vec<ArrayRef>)> {
        let parquet = self.parquet()?;
        let rows = self.unit_rows(unit)?;
        let tested = predicate.columns();
        let others: Vec<usize> = columns.iter().copied().filter(|column| !tested.contains(column)).collect();

        let candidates = self.candidates(parquet, unit, &tested, predicate);
        let candidates = candidates.unwrap_or_else(|| iter::once(0..rows).collect());
        let arrays = self.read_rows(parquet, unit, &tested, &candidates)?;
        let selected = self.select(&tested, &arrays, count(&candidates), predicate)?;
        let matching = spread(&selected, &candidates, rows);
        let matching = live.map_or(matching.clone(), |live| &matching & live);
        let tested_arrays = kept(&arrays, &matching, &candidates)?;

        let decoded = decoded(&matching);
        let arrays = self.read_rows(parquet, unit, &others, &decoded)?;
        let other_arrays = kept(&arrays, &matching, &decoded)?;

        let found = |column: &usize| {
            let at = |columns: &[usize]| columns.iter().position(|other| other == column);
            let array = at(&tested).map(|place| &tested_arrays[place]);
            let array = array.or_else(|| at(&others).map(|place| &other_arrays[place]));
            array.cloned().ok_or_else(|| Error::damaged(self.parquet_path(), "a column is missing"))
        };
        Ok((matching.count_set_bits(), columns.iter().map(found).collect::<Result<_>>()?))
    }

    fn unit_rows(&self, unit: usize) -> Result<usize> {
        usize::try_from(self.units()?[unit]).map_err(|_| Error::damaged(self.parquet_path(), "a unit is too large"))
    }

    /// The rows of the pages in which something may match; `None` if the pages are not known.
    fn candidates(
        &self,
        parquet: &ParquetForm,
        unit: usize,
        tested: &[usize],
        predicate: &Predicate,
    ) -> Option<Vec<Range<usize>>> {
        let (stored, positions): (Vec<usize>, Vec<usize>) =
            tested.iter().filter_map(|column| Some((*column, self.position(*column)?))).unzip();
        if positions.is_empty() {
            return None;
        }
        let mut candidates = Vec::new();
        for pages in parquet.pages(unit, &positions)? {
            let bounds = |column: usize| match stored.iter().position(|stored| *stored == column) {
                Some(place) => parquet.page_bounds(unit, positions[place], &pages, place),
                None => self.unit_bounds(unit, pages.rows.len() as u64, column),
            };
            if predicate.prune(&bounds).can_be_true {
                join(&mut candidates, pages.rows.clone());
            }
        }
        Some(candidates)
    }

    /// Columns of some rows of a unit.
    fn read_rows(
        &self,
        parquet: &ParquetForm,
        unit: usize,
        columns: &[usize],
        ranges: &[Range<usize>],
    ) -> Result<Vec<ArrayRef>> {
        let stored: Vec<usize> = columns.iter().filter_map(|column| self.position(*column)).collect();
        let mut arrays = parquet.rows(unit, &stored, ranges)?.into_iter();
        columns
            .iter()
            .map(|column| match self.position(*column) {
                Some(_) => arrays.next().ok_or_else(|| Error::damaged(self.parquet_path(), "a column is missing")),
                None => self.constant(*column, count(ranges)),
            })
            .collect()
    }

    /// Which of these rows match.
    fn select(
        &self,
        columns: &[usize],
        arrays: &[ArrayRef],
        rows: usize,
        predicate: &Predicate,
    ) -> Result<BooleanBuffer> {
        let fields: Vec<_> = columns.iter().map(|column| arrow_field(self.schema().field(*column))).collect();
        let options = RecordBatchOptions::new().with_row_count(Some(rows));
        let batch = RecordBatch::try_new_with_options(Arc::new(ArrowSchema::new(fields)), arrays.to_vec(), &options)
            .map_err(Error::arrow("cannot put columns together"))?;
        let selected = predicate.select(&batch, &|column| columns.iter().position(|tested| *tested == column))?;
        Ok(selected.values().clone())
    }
}

/// Of arrays of the rows in the ranges, those rows that are set.
fn kept(arrays: &[ArrayRef], rows: &BooleanBuffer, ranges: &[Range<usize>]) -> Result<Vec<ArrayRef>> {
    let mut bits = BooleanBufferBuilder::new(count(ranges));
    ranges.iter().for_each(|range| bits.append_buffer(&rows.slice(range.start, range.len())));
    let bits = BooleanArray::new(bits.finish(), None);
    if bits.true_count() == bits.len() {
        return Ok(arrays.to_vec());
    }
    let bits = FilterBuilder::new(&bits).optimize().build();
    let filtered = arrays.iter().map(|array| bits.filter(array));
    filtered.collect::<Result<_, _>>().map_err(Error::arrow("cannot filter rows"))
}

/// What to decode to have the rows that are set.
fn decoded(rows: &BooleanBuffer) -> Vec<Range<usize>> {
    let mut ranges = Vec::new();
    for start in (0..rows.len()).step_by(BLOCK_ROWS) {
        let block = start..rows.len().min(start + BLOCK_ROWS);
        if rows.slice(block.start, block.len()).count_set_bits() > 0 {
            join(&mut ranges, block);
        }
    }
    match count(&ranges) * DECODED_SHARE > rows.len() {
        true => iter::once(0..rows.len()).collect(),
        false => ranges,
    }
}

/// Adds a range behind the others, or to the last of them if there is nothing between.
fn join(ranges: &mut Vec<Range<usize>>, range: Range<usize>) {
    match ranges.last_mut().filter(|last| range.start == last.end) {
        Some(last) => last.end = range.end,
        None => ranges.push(range),
    }
}

fn count(ranges: &[Range<usize>]) -> usize {
    ranges.iter().map(ExactSizeIterator::len).sum()
}

/// The bits of all rows of a unit: in the ranges as given, else unset.
fn spread(bits: &BooleanBuffer, ranges: &[Range<usize>], rows: usize) -> BooleanBuffer {
    let mut all = BooleanBufferBuilder::new(rows);
    let mut from = 0;
    for range in ranges {
        all.append_n(range.start - all.len(), false);
        all.append_buffer(&bits.slice(from, range.len()));
        from += range.len();
    }
    all.append_n(rows - all.len(), false);
    all.finish()
}

#[cfg(test)]
mod tests {
    use arrow::array::Array;

    use super::*;

    fn bits(rows: usize, set: &[usize]) -> BooleanBuffer {
        (0..rows).map(|row| set.contains(&row)).collect()
    }

    #[test]
    fn bits_of_ranges_are_put_back_in_their_places() {
        let ranges = [2..4, 7..10];
        let all = spread(&bits(5, &[1, 2, 4]), &ranges, 12);
        assert_eq!(all, bits(12, &[3, 7, 9]));
        let array: ArrayRef = Arc::new(arrow::array::Int64Array::from(vec![2, 3, 7, 8, 9]));
        let kept = kept(&[array], &all, &ranges).unwrap();
        assert_eq!(kept[0].to_data(), arrow::array::Int64Array::from(vec![3, 7, 9]).to_data());
        assert_eq!(spread(&bits(0, &[]), &[], 3), bits(3, &[]));
    }

    #[test]
    fn rows_near_each_other_are_decoded_together() {
        let rows = 100_000;
        assert!(decoded(&bits(rows, &[])).is_empty());
        let found = decoded(&bits(rows, &[5, 1000, 1024, 50_000, rows - 1]));
        assert_eq!(found, [0..2048, 49_152..50_176, 99_328..rows]);
        let many: BooleanBuffer = (0..rows).map(|row| row % 500 == 0).collect();
        assert_eq!(decoded(&many), std::slice::from_ref(&(0..rows)));
    }
}
