//! How a column of a unit is encoded in Parquet, found out from its values (format.md, section 3).

use std::borrow::Cow;

use arrow::array::{Array, ArrayRef, ArrowPrimitiveType, AsArray, PrimitiveArray};
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type, Int32Type,
    Int64Type, TimestampMicrosecondType,
};
use hashbrown::HashSet;
use parquet::basic::Encoding;
use xxhash_rust::xxh3::xxh3_64;

/// Floats and text of which at most one value in so many is new are encoded with a dictionary; the others compress as
/// well without, and are written and read faster.
const ROWS_PER_ENTRY_MIN: usize = 8;
/// A dictionary of integers must save one byte in so many: it takes longer to write and read than their differences.
const DICTIONARY_GAIN_MIN: usize = 8;
/// Decimals of more digits are stored as bytes.
const DECIMAL_DIGITS_OF_I64: u8 = 18;
/// The differences of one block share a smallest one, those of one of its four parts a width (Parquet's
/// DELTA_BINARY_PACKED, as it is written for 64-bit integers).
const DELTA_BLOCK: usize = 256;
const DELTA_PART: usize = 64;
/// A block's smallest difference and its four widths take about so many bytes.
const DELTA_BLOCK_HEAD: usize = 8;

/// How the values of a column chunk are encoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ColumnEncoding {
    /// As positions in a dictionary.
    Dictionary,
    /// As they are.
    Plain,
    /// As differences (integers), or lengths as differences and then all bytes (text).
    Delta,
}

impl ColumnEncoding {
    /// The encoding for values in the type that Parquet stores. Equal arrays have equal encodings.
    pub(super) fn of(array: &ArrayRef) -> Self {
        match array.data_type() {
            ArrowType::Int8 => integers(&widened::<Int8Type>(array), size_of::<i32>()),
            ArrowType::Int16 => integers(&widened::<Int16Type>(array), size_of::<i32>()),
            ArrowType::Int32 => integers(&widened::<Int32Type>(array), size_of::<i32>()),
            ArrowType::Date32 => integers(&widened::<Date32Type>(array), size_of::<i32>()),
            ArrowType::Int64 => integers(&as_they_are::<Int64Type>(array), size_of::<i64>()),
            ArrowType::Timestamp(_, _) => integers(&as_they_are::<TimestampMicrosecondType>(array), size_of::<i64>()),
            ArrowType::Decimal128(precision, _) if *precision <= DECIMAL_DIGITS_OF_I64 => {
                let values = array.as_primitive::<Decimal128Type>();
                // All of them fit: their digits were counted.
                let values: Vec<i64> = values.iter().flatten().map(|value| value as i64).collect();
                integers(&values, size_of::<i64>())
            }
            ArrowType::Decimal128(_, _) => {
                let hashes = array.as_primitive::<Decimal128Type>().iter().flatten();
                repetitive(array, hashes.map(|value| xxh3_64(&value.to_le_bytes())), Self::Plain)
            }
            ArrowType::Float32 => {
                let bits = array.as_primitive::<Float32Type>().iter().flatten();
                repetitive(array, bits.map(|value| value.to_bits().into()), Self::Plain)
            }
            ArrowType::Float64 => {
                let bits = array.as_primitive::<Float64Type>().iter().flatten();
                repetitive(array, bits.map(f64::to_bits), Self::Plain)
            }
            ArrowType::Utf8View => {
                let hashes = array.as_string_view().iter().flatten().map(|value| xxh3_64(value.as_bytes()));
                repetitive(array, hashes, Self::Delta)
            }
            ArrowType::BinaryView => {
                let hashes = array.as_binary_view().iter().flatten().map(xxh3_64);
                repetitive(array, hashes, Self::Delta)
            }
            ArrowType::Boolean => Self::Plain,
            // The names of an enum.
            _ => Self::Dictionary,
        }
    }

    /// What Parquet calls it for a column of this type: whether there is a dictionary, and the encoding of values that
    /// are not in one, of which there may be some where text has outgrown the size of a dictionary.
    pub(super) fn parquet(self, data_type: &ArrowType) -> (bool, Encoding) {
        match (self, data_type) {
            (Self::Dictionary | Self::Delta, ArrowType::Utf8View | ArrowType::BinaryView) => {
                (self == Self::Dictionary, Encoding::DELTA_LENGTH_BYTE_ARRAY)
            }
            (Self::Dictionary, _) => (true, Encoding::PLAIN),
            (Self::Plain, _) => (false, Encoding::PLAIN),
            (Self::Delta, _) => (false, Encoding::DELTA_BINARY_PACKED),
        }
    }
}

/// The values that are not NULL.
fn as_they_are<T: ArrowPrimitiveType<Native = i64>>(array: &ArrayRef) -> Cow<'_, [i64]> {
    let array: &PrimitiveArray<T> = array.as_primitive();
    match array.null_count() {
        0 => Cow::Borrowed(array.values()),
        _ => Cow::Owned(array.iter().flatten().collect()),
    }
}

/// The values that are not NULL.
fn widened<T: ArrowPrimitiveType>(array: &ArrayRef) -> Vec<i64>
where
    T::Native: Into<i64>,
{
    let array: &PrimitiveArray<T> = array.as_primitive();
    array.iter().flatten().map(Into::into).collect()
}

/// The encoding that takes the fewest bytes, before compression.
fn integers(values: &[i64], width: usize) -> ColumnEncoding {
    let (plain, delta) = (values.len() * width, delta_bytes(values));
    let (best, other) = if delta < plain { (delta, ColumnEncoding::Delta) } else { (plain, ColumnEncoding::Plain) };
    let limit = entries_max(values.len(), width, best - best / DICTIONARY_GAIN_MIN);
    let range = values.iter().min().zip(values.iter().max()).map_or(0, |(min, max)| max.abs_diff(*min));
    let few = !values.is_empty()
        && (range < limit as u64 || has_at_most(values.iter().map(|value| value.cast_unsigned()), limit));
    if few { ColumnEncoding::Dictionary } else { other }
}

/// How many entries a dictionary can have that takes, with the positions in it, at most so many bytes.
fn entries_max(rows: usize, width: usize, bytes: usize) -> usize {
    let with_positions_of = |bits: usize| {
        let room = bytes.checked_sub((rows * bits).div_ceil(8))?;
        Some((room / width).min(1 << bits))
    };
    (0..=rows.max(1).ilog2() as usize + 1).filter_map(with_positions_of).max().unwrap_or(0)
}

/// The bytes of the values as differences.
fn delta_bytes(values: &[i64]) -> usize {
    let mut bytes = size_of::<i64>();
    let mut deltas = [0_i64; DELTA_BLOCK];
    let mut last = values.first().copied().unwrap_or(0);
    for block in values.chunks(DELTA_BLOCK) {
        let deltas = &mut deltas[..block.len()];
        for (delta, value) in deltas.iter_mut().zip(block) {
            *delta = value.wrapping_sub(last);
            last = *value;
        }
        let smallest = deltas.iter().copied().min().unwrap_or(0);
        bytes += DELTA_BLOCK_HEAD;
        for part in deltas.chunks(DELTA_PART) {
            let widest = part.iter().fold(0, |bits, delta| bits | delta.wrapping_sub(smallest).cast_unsigned());
            bytes += DELTA_PART * (u64::BITS - widest.leading_zeros()) as usize / 8;
        }
    }
    bytes
}

/// Whether at most so many of the values are different ones.
fn has_at_most(values: impl Iterator<Item = u64>, limit: usize) -> bool {
    let mut seen: HashSet<u64> = HashSet::with_capacity(limit + 1);
    for value in values {
        if seen.insert(value) && seen.len() > limit {
            return false;
        }
    }
    true
}

/// A dictionary where values come again and again.
fn repetitive(array: &ArrayRef, values: impl Iterator<Item = u64>, other: ColumnEncoding) -> ColumnEncoding {
    let limit = (array.len() - array.null_count()) / ROWS_PER_ENTRY_MIN;
    if has_at_most(values, limit) { ColumnEncoding::Dictionary } else { other }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{Float64Array, Int32Array, Int64Array, StringViewArray};

    use super::*;

    /// Numbers without a pattern.
    fn random(count: usize) -> impl Iterator<Item = u64> {
        (0..count as u64).map(|row| xxh3_64(&row.to_le_bytes()))
    }

    fn of(values: impl Iterator<Item = i64>) -> ColumnEncoding {
        let array: ArrayRef = Arc::new(Int64Array::from_iter_values(values));
        ColumnEncoding::of(&array)
    }

    #[test]
    fn integers_take_the_shortest_form() {
        let rows = 100_000;
        assert_eq!(of(0..rows), ColumnEncoding::Delta, "ascending");
        assert_eq!(of((0..rows).map(|row| i64::MIN + row * 1_000)), ColumnEncoding::Delta, "far from zero");
        assert_eq!(of(random(100_000).map(|value| (value % 1_000_000) as i64)), ColumnEncoding::Delta, "20 bits");
        assert_eq!(of(random(100_000).map(|value| (value % 10) as i64)), ColumnEncoding::Dictionary, "ten values");
        let rare = random(100_000).map(|value| if value % 1000 == 0 { i64::MAX } else { (value % 7) as i64 });
        assert_eq!(of(rare), ColumnEncoding::Dictionary, "eight values over the whole range");
        assert_eq!(of(random(100_000).map(|value| value as i64)), ColumnEncoding::Plain, "64 bits");
        let halves = [i64::MIN, i64::MAX].into_iter().cycle().take(100_000);
        assert_eq!(of(halves), ColumnEncoding::Dictionary, "differences that overflow");
        assert_eq!(of([].into_iter()), ColumnEncoding::Plain);
        let nulls: ArrayRef = Arc::new(Int32Array::new_null(1000));
        assert_eq!(ColumnEncoding::of(&nulls), ColumnEncoding::Plain);
    }

    #[test]
    fn text_and_floats_have_a_dictionary_where_they_repeat() {
        let text = |distinct: u64| -> ArrayRef {
            Arc::new(StringViewArray::from_iter_values(
                random(80_000).map(|value| format!("text {}", value % distinct)),
            ))
        };
        assert_eq!(ColumnEncoding::of(&text(5_000)), ColumnEncoding::Dictionary);
        assert_eq!(ColumnEncoding::of(&text(50_000)), ColumnEncoding::Delta);
        let floats = |distinct: u64| -> ArrayRef {
            Arc::new(Float64Array::from_iter_values(random(80_000).map(|value| (value % distinct) as f64 / 100.0)))
        };
        assert_eq!(ColumnEncoding::of(&floats(5_000)), ColumnEncoding::Dictionary);
        assert_eq!(ColumnEncoding::of(&floats(50_000)), ColumnEncoding::Plain);
    }

    #[test]
    fn the_size_of_differences_is_that_of_parquet() {
        use parquet::arrow::ArrowWriter;
        use parquet::file::properties::WriterProperties;

        let properties = || {
            let plain = WriterProperties::builder().set_dictionary_enabled(false);
            plain.set_encoding(Encoding::DELTA_BINARY_PACKED).build()
        };
        let ascending: Vec<i64> = (0..50_000).map(|row| row * 3 + row % 7).collect();
        let mixed: Vec<i64> = random(50_000).map(|value| (value % 4096) as i64).collect();
        for values in [ascending, mixed] {
            let column: ArrayRef = Arc::new(Int64Array::from(values.clone()));
            let batch = arrow::array::RecordBatch::try_from_iter([("c", column)]).unwrap();
            let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties())).unwrap();
            writer.write(&batch).unwrap();
            let written = writer.close().unwrap().row_group(0).column(0).uncompressed_size() as f64;
            let estimated = delta_bytes(&values) as f64;
            assert!((estimated / written - 1.0).abs() < 0.1, "{estimated} for {written}");
        }
    }
}
