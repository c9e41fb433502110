//! Which values of a column are there, and which are NULL.

use std::ops::Range;

use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};

use super::buffer::Column;

/// One bit per row: set where there is a value. There are no bits while no row is NULL.
#[derive(Clone, Default, Debug)]
pub struct Validity {
    /// Bits beyond `len` in the last byte mean nothing. Absent while no row was ever NULL.
    bits: Option<Column<u8>>,
    len: usize,
    nulls: usize,
}

impl Validity {
    /// The validity of an Arrow array of `len` rows, without a copy where its bits start in a byte.
    pub(crate) fn from_nulls(nulls: Option<&NullBuffer>, len: usize) -> Self {
        let Some(nulls) = nulls.filter(|nulls| nulls.null_count() > 0) else {
            return Self { bits: None, len, nulls: 0 };
        };
        let bits = nulls.inner();
        let buffer = if bits.offset() == 0 { bits.inner().clone() } else { bits.sliced() };
        let bits = ScalarBuffer::new(buffer, 0, len.div_ceil(8));
        Self { bits: Some(Column::from_scalar_buffer(bits)), len, nulls: nulls.null_count() }
    }

    /// Whether there is a value at `row`.
    #[inline]
    pub fn is_valid(&self, row: usize) -> bool {
        match &self.bits {
            None => true,
            Some(bits) => bits.as_slice()[row / 8] >> (row % 8) & 1 == 1,
        }
    }

    /// How many rows are NULL.
    pub fn null_count(&self) -> usize {
        self.nulls
    }

    /// How many rows there are.
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// The bits as Arrow has them, without a copy, or `None` if no row is NULL.
    pub fn to_nulls(&self) -> Option<NullBuffer> {
        let bits = self.bits.as_ref().filter(|_| self.nulls > 0)?;
        Some(NullBuffer::new(BooleanBuffer::new(bits.share().into_inner(), 0, self.len)))
    }

    /// Bytes allocated.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.bits.as_ref().map_or(0, Column::capacity)
    }

    #[inline]
    pub(crate) fn push(&mut self, valid: bool) {
        if self.bits.is_none() && valid {
            self.len += 1;
            return;
        }
        let row = self.len;
        let bits = self.bits();
        if row.is_multiple_of(8) {
            bits.push(0);
        }
        self.len += 1;
        self.nulls += usize::from(!valid);
        self.write_bit(row, valid);
    }

    #[inline]
    pub(crate) fn set(&mut self, row: usize, valid: bool) {
        match (self.is_valid(row), valid) {
            (true, false) => {
                self.bits();
                self.nulls += 1;
                self.write_bit(row, false);
            }
            (false, true) => {
                self.nulls -= 1;
                self.write_bit(row, true);
            }
            _ => {}
        }
    }

    pub(crate) fn swap(&mut self, left: usize, right: usize) {
        let (from_left, from_right) = (self.is_valid(left), self.is_valid(right));
        self.set(left, from_right);
        self.set(right, from_left);
    }

    pub(crate) fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        if self.bits.is_none() && other.nulls == 0 {
            self.len += rows.len();
        } else {
            rows.for_each(|row| self.push(other.is_valid(row)));
        }
    }

    /// The validity of `rows`, without a copy where they start with a byte.
    pub(crate) fn slice(&self, rows: Range<usize>) -> Self {
        let nulls = self.to_nulls().map(|nulls| nulls.slice(rows.start, rows.len()));
        Self::from_nulls(nulls.as_ref(), rows.len())
    }

    /// Makes this the validity of `rows`, in that order.
    pub(crate) fn rearrange(&mut self, rows: impl Iterator<Item = usize>) {
        let mut rearranged = Self::default();
        if self.nulls == 0 {
            rearranged.len = rows.count();
        } else {
            rows.for_each(|row| rearranged.push(self.is_valid(row)));
        }
        *self = rearranged;
    }

    pub(crate) fn swap_remove(&mut self, row: usize) {
        let last = self.is_valid(self.len - 1);
        self.set(row, last);
        self.truncate(self.len - 1);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        if self.nulls > 0 {
            self.nulls -= (len..self.len).filter(|&row| !self.is_valid(row)).count();
        }
        self.len = len;
        if let Some(bits) = &mut self.bits {
            bits.truncate(len.div_ceil(8));
        }
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::default();
    }

    pub(crate) fn shrink_to_fit(&mut self) {
        match &mut self.bits {
            Some(bits) if self.nulls > 0 => bits.shrink_to_fit(),
            _ => self.bits = None,
        }
    }

    /// The bits, made when there are none yet.
    fn bits(&mut self) -> &mut Column<u8> {
        let len = self.len;
        self.bits.get_or_insert_with(|| Column::from(vec![0xff; len.div_ceil(8)]))
    }

    fn write_bit(&mut self, row: usize, valid: bool) {
        let byte = &mut self.bits().as_mut_slice()[row / 8];
        let bit = 1 << (row % 8);
        *byte = if valid { *byte | bit } else { *byte & !bit };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(valid: &[bool]) -> Validity {
        let mut validity = Validity::default();
        valid.iter().for_each(|&valid| validity.push(valid));
        validity
    }

    fn check(validity: &Validity, expected: &[bool]) {
        assert_eq!((0..validity.len()).map(|row| validity.is_valid(row)).collect::<Vec<_>>(), expected);
        assert_eq!(validity.null_count(), expected.iter().filter(|&&valid| !valid).count());
        let nulls = validity.to_nulls();
        assert_eq!(nulls.is_none(), !expected.contains(&false));
        let nulls = nulls.map_or_else(|| vec![true; expected.len()], |nulls| nulls.iter().collect());
        assert_eq!(nulls, expected);
    }

    #[test]
    fn there_are_no_bits_without_a_null() {
        let mut validity = of(&[true; 100]);
        assert_eq!(validity.memory_bytes(), 0);
        check(&validity, &[true; 100]);
        validity.set(99, true);
        assert_eq!(validity.memory_bytes(), 0);
        validity.set(99, false);
        assert!(validity.memory_bytes() > 0);
        assert_eq!(validity.null_count(), 1);
        validity.set(99, true);
        validity.shrink_to_fit();
        assert_eq!(validity.memory_bytes(), 0);
    }

    #[test]
    fn bits_follow_the_rows() {
        let mut expected: Vec<bool> = (0..21).map(|row| row % 3 != 0).collect();
        let mut validity = of(&expected);
        check(&validity, &expected);
        validity.swap_remove(2);
        expected.swap_remove(2);
        check(&validity, &expected);
        validity.truncate(9);
        expected.truncate(9);
        // What was beyond the end must not come back.
        validity.push(true);
        expected.push(true);
        validity.push(false);
        expected.push(false);
        check(&validity, &expected);
        validity.clear();
        check(&validity, &[]);
    }

    #[test]
    fn bits_of_slices_are_taken_over() {
        let nulls = NullBuffer::from((0..50).map(|row| row % 5 != 0).collect::<Vec<_>>());
        for (offset, len) in [(0, 50), (8, 20), (3, 17), (1, 2), (50, 0)] {
            let slice = nulls.slice(offset, len);
            let mut validity = Validity::from_nulls(Some(&slice), len);
            let mut expected: Vec<bool> = slice.iter().collect();
            check(&validity, &expected);
            validity.push(true);
            validity.push(false);
            expected.extend([true, false]);
            check(&validity, &expected);
        }
        check(&Validity::from_nulls(None, 3), &[true; 3]);
    }

    #[test]
    fn shared_bits_do_not_change() {
        let mut validity = of(&[true, false, true]);
        let shared = validity.to_nulls().unwrap();
        validity.set(0, false);
        validity.push(false);
        assert_eq!(shared.iter().collect::<Vec<_>>(), [true, false, true]);
        check(&validity, &[false, false, true, false]);
    }
}
