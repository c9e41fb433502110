//! Columns of an Arrow form in fewer bytes than their Arrow types take (format.md, section 3.1).
//!
//! | column | in the file, if all of the segment's values allow it |
//! |---|---|
//! | text | `Dictionary(UInt8, Utf8)`: there are few different ones |
//! | decimal of up to 9 digits | `Decimal32` |
//! | decimal of up to 18 digits | `Decimal64` |
//!
//! Hosts that know what to do with these take them as they are; all others get them [`decoded`].

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, DictionaryArray, PrimitiveArray, RecordBatch, StringArray,
    StringViewArray, UInt8Array,
};
use arrow::buffer::ScalarBuffer;
use arrow::compute::take;
use arrow::datatypes::{
    DataType as ArrowType, Decimal32Type, Decimal64Type, Decimal128Type, DecimalType, Schema as ArrowSchema, UInt8Type,
};
use arrow::error::ArrowError;
use hashbrown::HashMap;

use crate::error::{Error, Result};
use crate::schema::DataType;

/// The most different texts that keys of one byte tell apart.
const TEXTS_MAX: usize = 1 << u8::BITS;
/// The most bytes that they have together: each reader of a batch looks at all of them.
const TEXT_BYTES_MAX: usize = 1 << 16;
/// A text must be there so many times on average: below that there is little to gain.
const REPEATS_MIN: usize = 8;
/// The most bytes of a text that are in its view.
const INLINE_BYTES_MAX: u32 = 12;

/// The type in which a file may have a column of type `declared` instead, if there is one.
pub(super) fn encoded_type(declared: &ArrowType) -> Option<ArrowType> {
    match declared {
        ArrowType::Utf8View => Some(ArrowType::Dictionary(Box::new(ArrowType::UInt8), Box::new(ArrowType::Utf8))),
        ArrowType::Decimal128(precision, scale) if *precision <= Decimal32Type::MAX_PRECISION => {
            Some(ArrowType::Decimal32(*precision, *scale))
        }
        ArrowType::Decimal128(precision, scale) if *precision <= Decimal64Type::MAX_PRECISION => {
            Some(ArrowType::Decimal64(*precision, *scale))
        }
        _ => None,
    }
}

/// The batches of a segment as the file is to have them. A column has one type in all of them, and one dictionary.
pub(super) fn encoded(batches: &[RecordBatch]) -> Result<Vec<RecordBatch>, ArrowError> {
    let Some(first) = batches.first() else { return Ok(Vec::new()) };
    let mut fields = first.schema_ref().fields().to_vec();
    let mut columns: Vec<Vec<ArrayRef>> = Vec::with_capacity(fields.len());
    for (column, field) in fields.iter_mut().enumerate() {
        let arrays: Vec<ArrayRef> = batches.iter().map(|batch| Arc::clone(batch.column(column))).collect();
        let shorter = match encoded_type(field.data_type()) {
            Some(ArrowType::Dictionary(..)) => few_texts(&arrays),
            Some(ArrowType::Decimal32(precision, scale)) => narrow::<Decimal32Type>(&arrays, precision, scale),
            Some(ArrowType::Decimal64(precision, scale)) => narrow::<Decimal64Type>(&arrays, precision, scale),
            _ => None,
        };
        if let Some(first) = shorter.as_ref().and_then(|shorter| shorter.first()) {
            *field = Arc::new(field.as_ref().clone().with_data_type(first.data_type().clone()));
        }
        columns.push(shorter.unwrap_or(arrays));
    }
    let schema = Arc::new(ArrowSchema::new(fields));
    let batch = |index: usize| {
        let columns = columns.iter().map(|arrays| Arc::clone(&arrays[index])).collect();
        RecordBatch::try_new(Arc::clone(&schema), columns)
    };
    (0..batches.len()).map(batch).collect()
}

/// An array of a column of type `data_type` in the Arrow type that the column has; as it is, if it is not encoded.
///
/// # Errors
///
/// When its values cannot be converted.
pub(crate) fn decoded(array: &ArrayRef, data_type: &DataType) -> Result<ArrayRef> {
    let failed =
        |error| Error::arrow(format!("a column of type {data_type} cannot be made of {}", array.data_type()))(error);
    match (data_type, array.data_type()) {
        (DataType::Utf8, ArrowType::Dictionary(_, _)) => {
            let dictionary = array.as_dictionary::<UInt8Type>();
            let texts = StringViewArray::from(dictionary.values().as_string::<i32>());
            take(&texts, dictionary.keys(), None).map_err(failed)
        }
        (DataType::Decimal { .. }, ArrowType::Decimal32(precision, scale)) => {
            widened::<Decimal32Type>(array, *precision, *scale).map_err(failed)
        }
        (DataType::Decimal { .. }, ArrowType::Decimal64(precision, scale)) => {
            widened::<Decimal64Type>(array, *precision, *scale).map_err(failed)
        }
        _ => Ok(Arc::clone(array)),
    }
}

fn widened<T: ArrowPrimitiveType<Native: Into<i128>>>(
    array: &ArrayRef,
    precision: u8,
    scale: i8,
) -> Result<ArrayRef, ArrowError> {
    let wide: PrimitiveArray<Decimal128Type> = array.as_primitive::<T>().unary(Into::into);
    Ok(Arc::new(wide.with_precision_and_scale(precision, scale)?))
}

/// Decimals in fewer bytes; `None` where one does not fit.
fn narrow<T>(arrays: &[ArrayRef], precision: u8, scale: i8) -> Option<Vec<ArrayRef>>
where
    T: DecimalType,
    T::Native: TryFrom<i128>,
{
    let narrow = |array: &ArrayRef| -> Option<ArrayRef> {
        let wide = array.as_primitive::<Decimal128Type>();
        // Behind a NULL there may be anything.
        let fits =
            |row: usize, value: i128| T::Native::try_from(value).ok().or(wide.is_null(row).then(T::Native::default));
        let values = wide.values().iter().enumerate().map(|(row, value)| fits(row, *value));
        let values = values.collect::<Option<Vec<T::Native>>>()?;
        let array = PrimitiveArray::<T>::new(values.into(), wide.nulls().cloned());
        Some(Arc::new(array.with_precision_and_scale(precision, scale).ok()?))
    };
    arrays.iter().map(narrow).collect()
}

/// Texts as keys into a dictionary; `None` where there are too many different ones.
fn few_texts(arrays: &[ArrayRef]) -> Option<Vec<ArrayRef>> {
    let rows: usize = arrays.iter().map(|array| array.len()).sum();
    let mut found = Distinct { max: TEXTS_MAX.min(rows / REPEATS_MIN), ..Distinct::default() };
    let keys = arrays.iter().map(|array| found.keys(array.as_string_view())).collect::<Option<Vec<_>>>()?;
    if found.texts.is_empty() {
        return None;
    }
    let texts: ArrayRef = Arc::new(StringArray::from_iter_values(found.texts));
    let of = |keys| Some(Arc::new(DictionaryArray::try_new(keys, Arc::clone(&texts)).ok()?) as ArrayRef);
    keys.into_iter().map(of).collect()
}

/// The different texts of some arrays, in the order in which they come, and the place of each.
#[derive(Default)]
struct Distinct<'a> {
    max: usize,
    bytes: usize,
    texts: Vec<&'a str>,
    /// Of those that are in their views, by these.
    short: HashMap<u128, u8>,
    long: HashMap<&'a str, u8>,
}

impl<'a> Distinct<'a> {
    /// The places of an array's texts; `None` if there are too many.
    fn keys(&mut self, array: &'a StringViewArray) -> Option<UInt8Array> {
        let mut keys = Vec::with_capacity(array.len());
        // Texts often come in runs.
        let mut last = None;
        for (row, &view) in array.views().iter().enumerate() {
            let key = match last {
                _ if array.is_null(row) => 0,
                Some((known, key)) if known == view => key,
                _ => self.key(array, row, view)?,
            };
            if array.is_valid(row) {
                last = Some((view, key));
            }
            keys.push(key);
        }
        Some(UInt8Array::new(ScalarBuffer::from(keys), array.nulls().cloned()))
    }

    fn key(&mut self, array: &'a StringViewArray, row: usize, view: u128) -> Option<u8> {
        let is_short = view as u32 <= INLINE_BYTES_MAX;
        let known = if is_short { self.short.get(&view) } else { self.long.get(array.value(row)) };
        if let Some(key) = known {
            return Some(*key);
        }
        let text = array.value(row);
        self.bytes += text.len();
        let key = u8::try_from(self.texts.len()).ok()?;
        if self.texts.len() == self.max || self.bytes > TEXT_BYTES_MAX {
            return None;
        }
        self.texts.push(text);
        match is_short {
            true => drop(self.short.insert(view, key)),
            false => drop(self.long.insert(text, key)),
        }
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::Decimal128Array;

    use super::*;

    fn encode(arrays: Vec<ArrayRef>) -> Vec<ArrayRef> {
        let batch = |array| RecordBatch::try_from_iter_with_nullable([("c", array, true)]).unwrap();
        let batches: Vec<RecordBatch> = arrays.into_iter().map(batch).collect();
        encoded(&batches).unwrap().iter().map(|batch| Arc::clone(batch.column(0))).collect()
    }

    fn is_dictionary(array: &ArrayRef) -> bool {
        matches!(array.data_type(), ArrowType::Dictionary(..))
    }

    fn texts(rows: usize, text: &dyn Fn(usize) -> Option<String>) -> ArrayRef {
        Arc::new((0..rows).map(text).collect::<StringViewArray>())
    }

    #[test]
    fn texts_of_few_values_come_back_as_they_were() {
        let long = |row: usize| format!("a text too long for its view, number {}", row % 100);
        let text = |row: usize| match row % 7 {
            0 => None,
            1 => Some(String::new()),
            2 => Some(long(row)),
            other => Some(format!("t{other}")),
        };
        let arrays = vec![texts(3_000, &text), texts(2_000, &|row| text(row + 1))];
        let found = encode(arrays.clone());
        assert!(found.iter().all(is_dictionary));
        let dictionaries = found.iter().map(|array| array.as_dictionary::<UInt8Type>().values());
        let dictionaries: Vec<&ArrayRef> = dictionaries.collect();
        assert!(Arc::ptr_eq(dictionaries[0], dictionaries[1]));
        for (array, found) in arrays.iter().zip(&found) {
            let back = decoded(found, &DataType::Utf8).unwrap();
            assert_eq!(back.as_string_view(), array.as_string_view());
        }
    }

    #[test]
    fn texts_of_many_values_stay_as_they_are() {
        let of = |different: usize| texts(TEXTS_MAX * 16, &move |row| Some(format!("{}", row % different)));
        assert!(encode(vec![of(TEXTS_MAX)]).iter().all(is_dictionary));
        assert!(!encode(vec![of(TEXTS_MAX + 1)]).iter().any(is_dictionary));
        // The second batch has one more than there may be.
        let one_more = texts(8, &|_| Some("one more".to_owned()));
        assert!(!encode(vec![of(TEXTS_MAX), one_more]).iter().any(is_dictionary));
        assert!(!encode(vec![texts(REPEATS_MIN - 1, &|_| Some(String::new()))]).iter().any(is_dictionary));
        assert!(!encode(vec![texts(1_000, &|_| None)]).iter().any(is_dictionary));
        let wide = texts(TEXTS_MAX * 16, &|row| Some(format!("{:>1000}", row % 100)));
        assert!(!encode(vec![wide]).iter().any(is_dictionary));
        assert!(encode(Vec::new()).is_empty());
    }

    #[test]
    fn decimals_take_the_bytes_that_their_digits_need() {
        for (precision, expected) in [
            (9, ArrowType::Decimal32(9, 2)),
            (10, ArrowType::Decimal64(10, 2)),
            (18, ArrowType::Decimal64(18, 2)),
            (19, ArrowType::Decimal128(19, 2)),
        ] {
            let most = 10_i128.pow(precision.into()) - 1;
            // Behind the NULL there is what fits into nothing shorter.
            let nulls = Some(vec![true, true, false].into());
            let array = Decimal128Array::new(vec![-most, most, i128::MAX].into(), nulls);
            let array: ArrayRef = Arc::new(array.with_precision_and_scale(precision, 2).unwrap());
            let found = encode(vec![Arc::clone(&array)]);
            assert_eq!(found[0].data_type(), &expected);
            let back = decoded(&found[0], &DataType::Decimal { precision, scale: 2 }).unwrap();
            assert_eq!(back.as_primitive::<Decimal128Type>(), array.as_primitive::<Decimal128Type>());
        }
        // No column has such a value; one that had would be kept.
        let array = Decimal128Array::new(vec![i128::MAX].into(), None).with_precision_and_scale(9, 2).unwrap();
        assert_eq!(encode(vec![Arc::new(array)])[0].data_type(), &ArrowType::Decimal128(9, 2));
    }
}
