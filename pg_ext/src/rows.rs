//! From record batches to what Postgres has in its slots.
//!
//! A batch is turned into rows some hundreds at a time, column by column: each value becomes a `Datum`, which is the
//! value itself or, for text, bytes and numerics, the address of a copy in the column's arena. An arena is filled anew
//! for every chunk of rows, so that a scan needs no more memory than one chunk has, and no call into Postgres.
//!
//! A row's addresses are good until a row of the next chunk is asked for, which is as long as Postgres wants them: a
//! slot's content belongs to the scan until the scan is asked for its next row.

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryViewArray, BooleanArray, PrimitiveArray, RecordBatch,
    StringArray, StringViewArray,
};
use arrow::buffer::{MutableBuffer, NullBuffer};
use arrow::datatypes::{
    ArrowNativeType, DataType as ArrowType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int8Type, Int16Type,
    Int32Type, Int64Type, TimestampMicrosecondType, UInt8Type, UInt16Type, UInt32Type, UInt64Type,
};
use pgrx::PgSqlErrorCode;

use crate::error::{PgError, Result};
use crate::numeric;
use crate::types::{Conversion, DATE_RANGE, EPOCH_DAYS, EPOCH_MICROS, TIMESTAMP_RANGE};

/// The rows of a chunk: enough to make the work per chunk small, few enough to stay in the processor's cache.
const CHUNK_ROWS: usize = 1_024;
/// The bytes of text that a chunk has of a column at most, unless a single row has more.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// Bytes before the content of a variable-length value: its size.
const VARLENA_HEADER: usize = 4;
/// The greatest size that such a header can say.
const VARLENA_BYTES_MAX: usize = (1 << 30) - 1;

/// Whether text must be checked for what the database cannot hold, or changed into its encoding.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Encoding {
    /// The database has UTF-8, or takes bytes as they are.
    Utf8,
    /// Another; the function changes UTF-8 into it.
    Other(fn(&str) -> Vec<u8>),
}

/// The rows of a batch.
#[derive(Debug)]
pub(crate) struct Rows {
    columns: Vec<Column>,
    encoding: Encoding,
    row_count: usize,
    /// The first row of the chunk, and the first after it.
    chunk: std::ops::Range<usize>,
    /// The row after the current one.
    next: usize,
}

/// A value of a row: what Postgres has in `tts_values` and `tts_isnull`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cell {
    pub(crate) datum: usize,
    pub(crate) is_null: bool,
}

impl Rows {
    /// No rows of columns that are converted so.
    pub(crate) fn new(columns: impl IntoIterator<Item = (String, Conversion)>, encoding: Encoding) -> Self {
        let columns = columns.into_iter().map(|(name, conversion)| Column::new(name, conversion)).collect();
        Self { columns, encoding, row_count: 0, chunk: 0..0, next: 0 }
    }

    /// Starts on a batch with these columns, in order.
    pub(crate) fn set_batch(&mut self, batch: &RecordBatch) {
        for (column, array) in self.columns.iter_mut().zip(batch.columns()) {
            column.set_array(array);
        }
        (self.row_count, self.chunk, self.next) = (batch.num_rows(), 0..0, 0);
    }

    /// Lets go of the batch.
    pub(crate) fn clear(&mut self) {
        self.columns.iter_mut().for_each(Column::clear);
        (self.row_count, self.chunk, self.next) = (0, 0..0, 0);
    }

    /// Goes to the next row of the batch; false after the last.
    #[inline]
    pub(crate) fn advance(&mut self) -> Result<bool> {
        if self.next == self.chunk.end {
            if self.next == self.row_count {
                return Ok(false);
            }
            self.fill()?;
        }
        self.next += 1;
        Ok(true)
    }

    fn fill(&mut self) -> Result<()> {
        let mut count = CHUNK_ROWS.min(self.row_count - self.next);
        for column in &self.columns {
            count = column.rows_within(CHUNK_BYTES_MAX, self.next, count);
        }
        for column in &mut self.columns {
            column.fill(self.next, count, self.encoding)?;
        }
        self.chunk = self.next..self.next + count;
        Ok(())
    }

    /// The current row's value in a column.
    #[inline]
    pub(crate) fn cell(&self, column: usize) -> Cell {
        let row = self.next - 1 - self.chunk.start;
        let column = &self.columns[column];
        Cell { datum: column.datums[row], is_null: column.has_nulls && column.nulls[row] }
    }
}

/// A column of the batch, and the chunk's rows of it.
#[derive(Debug)]
struct Column {
    name: String,
    conversion: Conversion,
    array: Option<ArrayRef>,
    datums: Vec<usize>,
    has_nulls: bool,
    nulls: Vec<bool>,
    arena: Arena,
    /// For an enum: the address of each name, which are in the arena for the whole batch.
    names: Vec<usize>,
}

impl Column {
    fn new(name: String, conversion: Conversion) -> Self {
        Self {
            name,
            conversion,
            array: None,
            datums: Vec::new(),
            has_nulls: false,
            nulls: Vec::new(),
            arena: Arena::default(),
            names: Vec::new(),
        }
    }

    fn set_array(&mut self, array: &ArrayRef) {
        self.array = Some(ArrayRef::clone(array));
        self.names.clear();
    }

    fn clear(&mut self) {
        self.array = None;
        self.names.clear();
    }

    /// How many of `count` rows have no more than so many bytes of text; at least one.
    fn rows_within(&self, bytes_max: usize, first: usize, count: usize) -> usize {
        let Some(array) = &self.array else { return count };
        let views = match (array.as_string_view_opt(), array.as_binary_view_opt()) {
            (Some(text), _) => text.views(),
            (None, Some(bytes)) => bytes.views(),
            (None, None) => return count,
        };
        let mut bytes = 0;
        // A view's lowest 32 bits are the length.
        let fits = views[first..first + count].iter().take_while(|view| {
            bytes += **view as u32 as usize;
            bytes <= bytes_max
        });
        fits.count().max(1)
    }

    fn fill(&mut self, first: usize, count: usize, encoding: Encoding) -> Result<()> {
        let Some(array) = self.array.take() else { return Err(PgError::internal("a column has no values")) };
        let rows = Chunk { first, count, nulls: array.nulls().map(|nulls| nulls.slice(first, count)) };
        self.datums.clear();
        let filled = self.fill_datums(&array, &rows, encoding);
        self.has_nulls = rows.nulls.as_ref().is_some_and(|nulls| nulls.null_count() > 0);
        if let Some(nulls) = &rows.nulls {
            self.nulls.clear();
            self.nulls.extend(nulls.iter().map(|is_valid| !is_valid));
        }
        self.array = Some(array);
        filled
    }

    fn fill_datums(&mut self, array: &ArrayRef, rows: &Chunk, encoding: Encoding) -> Result<()> {
        match self.conversion {
            Conversion::Bool => self.fill_bool(array, rows),
            Conversion::Integer => match array.data_type() {
                ArrowType::Int8 => self.copy::<Int8Type>(array, rows, |value| value as usize),
                ArrowType::Int16 => self.copy::<Int16Type>(array, rows, |value| value as usize),
                ArrowType::Int32 => self.copy::<Int32Type>(array, rows, |value| value as usize),
                ArrowType::Int64 => self.copy::<Int64Type>(array, rows, |value| value as usize),
                ArrowType::UInt8 => self.copy::<UInt8Type>(array, rows, usize::from),
                ArrowType::UInt16 => self.copy::<UInt16Type>(array, rows, usize::from),
                ArrowType::UInt32 => self.copy::<UInt32Type>(array, rows, |value| value as usize),
                _ => Err(self.unexpected(array)),
            },
            Conversion::U64ToBigInt => {
                self.checked::<UInt64Type>(array, rows, |value| i64::try_from(value).ok().map(|value| value as usize))
            }
            Conversion::U64ToNumeric => self.fill_numeric::<UInt64Type>(array, rows, 0, i128::from),
            Conversion::Float4 => {
                // A float of 32 bits is passed as the integer of its bits.
                self.copy::<Float32Type>(array, rows, |value| value.to_bits().cast_signed() as usize)
            }
            Conversion::Float4ToFloat8 => {
                self.copy::<Float32Type>(array, rows, |value| f64::from(value).to_bits() as usize)
            }
            Conversion::Float8 => self.copy::<Float64Type>(array, rows, |value| value.to_bits() as usize),
            Conversion::Numeric { scale } => self.fill_numeric::<Decimal128Type>(array, rows, scale, |value| value),
            Conversion::Date => self.checked::<Date32Type>(array, rows, |days| {
                let days = days.checked_sub(EPOCH_DAYS)?;
                DATE_RANGE.contains(&days).then_some(days as usize)
            }),
            Conversion::Timestamp => self.checked::<TimestampMicrosecondType>(array, rows, |micros| {
                let micros = micros.checked_sub(EPOCH_MICROS)?;
                TIMESTAMP_RANGE.contains(&micros).then_some(micros as usize)
            }),
            Conversion::Text => {
                let text: Option<&StringViewArray> = array.as_string_view_opt();
                let text = text.ok_or_else(|| self.unexpected(array))?;
                self.fill_text(text, rows, encoding)
            }
            Conversion::Bytea => {
                let bytes: Option<&BinaryViewArray> = array.as_binary_view_opt();
                let bytes = bytes.ok_or_else(|| self.unexpected(array))?;
                self.arena.clear();
                for row in rows.range() {
                    let value = if rows.is_null(row) { &[] } else { bytes.value(row) };
                    let at = self.arena.push(value).ok_or_else(|| self.too_large(value.len()))?;
                    self.datums.push(at);
                }
                self.arena.to_addresses(&mut self.datums);
                Ok(())
            }
            Conversion::Enum => self.fill_enum(array, rows, encoding),
        }
    }

    fn fill_bool(&mut self, array: &ArrayRef, rows: &Chunk) -> Result<()> {
        let bits: Option<&BooleanArray> = array.as_boolean_opt();
        let bits = bits.ok_or_else(|| self.unexpected(array))?.values().slice(rows.first, rows.count);
        self.datums.extend(bits.iter().map(usize::from));
        Ok(())
    }

    /// Values of which every one has a datum.
    fn copy<T: ArrowPrimitiveType>(
        &mut self,
        array: &ArrayRef,
        rows: &Chunk,
        datum: impl Fn(T::Native) -> usize,
    ) -> Result<()> {
        let values = &self.primitive::<T>(array)?.values()[rows.range()];
        self.datums.extend(values.iter().map(|value| datum(*value)));
        Ok(())
    }

    /// Values of which some are beyond what Postgres holds.
    fn checked<T: ArrowPrimitiveType>(
        &mut self,
        array: &ArrayRef,
        rows: &Chunk,
        datum: impl Fn(T::Native) -> Option<usize>,
    ) -> Result<()> {
        let values = &self.primitive::<T>(array)?.values()[rows.range()];
        for (value, row) in values.iter().zip(rows.range()) {
            match datum(*value) {
                Some(datum) => self.datums.push(datum),
                // What is behind a NULL is nobody's value.
                None if rows.is_null(row) => self.datums.push(0),
                None => return Err(self.out_of_range(&format!("{value:?}"))),
            }
        }
        Ok(())
    }

    fn fill_numeric<T: ArrowPrimitiveType>(
        &mut self,
        array: &ArrayRef,
        rows: &Chunk,
        scale: u8,
        digits: impl Fn(T::Native) -> i128,
    ) -> Result<()> {
        let values = &self.primitive::<T>(array)?.values()[rows.range()];
        self.arena.clear();
        for value in values {
            self.datums.push(self.arena.push_numeric(digits(*value), scale));
        }
        self.arena.to_addresses(&mut self.datums);
        Ok(())
    }

    fn fill_text(&mut self, text: &StringViewArray, rows: &Chunk, encoding: Encoding) -> Result<()> {
        self.arena.clear();
        for row in rows.range() {
            let value = if rows.is_null(row) { "" } else { text.value(row) };
            let at = self.push_text(value, encoding)?;
            self.datums.push(at);
        }
        self.arena.to_addresses(&mut self.datums);
        Ok(())
    }

    fn push_text(&mut self, text: &str, encoding: Encoding) -> Result<usize> {
        if text.as_bytes().contains(&0) {
            let message = format!("column \"{}\" holds a text with a NUL character, which Postgres cannot hold", self.name);
            return Err(PgError::new(PgSqlErrorCode::ERRCODE_UNTRANSLATABLE_CHARACTER, message)
                .with_hint("Leave the row out by a condition on another column, or store the text as bytes."));
        }
        let at = match encoding {
            Encoding::Utf8 => self.arena.push(text.as_bytes()),
            Encoding::Other(from_utf8) => self.arena.push(&from_utf8(text)),
        };
        at.ok_or_else(|| self.too_large(text.len()))
    }

    /// The names get into the arena once per batch.
    fn fill_enum(&mut self, array: &ArrayRef, rows: &Chunk, encoding: Encoding) -> Result<()> {
        let dictionary = array.as_dictionary_opt::<UInt8Type>().ok_or_else(|| self.unexpected(array))?;
        let names: Option<&StringArray> = dictionary.values().as_string_opt();
        let names = names.ok_or_else(|| self.unexpected(array))?;
        if self.names.is_empty() {
            self.arena.clear();
            let mut places = Vec::with_capacity(names.len());
            for name in names {
                places.push(self.push_text(name.unwrap_or_default(), encoding)?);
            }
            self.arena.to_addresses(&mut places);
            self.names = places;
        }
        for key in &dictionary.keys().values()[rows.range()] {
            // A key behind a NULL may point nowhere; every other one was checked when the batch was made.
            self.datums.push(self.names.get(key.as_usize()).copied().unwrap_or_default());
        }
        Ok(())
    }

    fn primitive<'a, T: ArrowPrimitiveType>(&self, array: &'a ArrayRef) -> Result<&'a PrimitiveArray<T>> {
        array.as_primitive_opt::<T>().ok_or_else(|| self.unexpected(array))
    }

    fn unexpected(&self, array: &ArrayRef) -> PgError {
        PgError::internal(format!("column \"{}\" came as {}", self.name, array.data_type()))
    }

    fn out_of_range(&self, value: &str) -> PgError {
        let (code, hint) = match self.conversion {
            Conversion::U64ToBigInt => (
                PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
                format!("ALTER FOREIGN TABLE … ALTER COLUMN \"{}\" TYPE numeric(20,0)", self.name),
            ),
            _ => (
                PgSqlErrorCode::ERRCODE_DATETIME_FIELD_OVERFLOW,
                "Leave the row out by a condition on another column.".to_owned(),
            ),
        };
        let message = format!("column \"{}\" holds {value}, which is beyond the range of its type", self.name);
        PgError::new(code, message).with_hint(hint)
    }

    fn too_large(&self, bytes: usize) -> PgError {
        let message = format!("column \"{}\" holds a value of {bytes} bytes; Postgres takes less than 1 GB", self.name);
        PgError::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
    }
}

/// Some rows of a batch.
struct Chunk {
    first: usize,
    count: usize,
    /// Of these rows.
    nulls: Option<NullBuffer>,
}

impl Chunk {
    fn range(&self) -> std::ops::Range<usize> {
        self.first..self.first + self.count
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row - self.first))
    }
}

/// Variable-length values as Postgres has them in memory: a header with the size, then the content, each beginning at a
/// multiple of four bytes.
#[derive(Debug, Default)]
struct Arena(MutableBuffer);

impl Arena {
    fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds a value and gives its place; `None` if it is too long.
    fn push(&mut self, content: &[u8]) -> Option<usize> {
        if content.len() > VARLENA_BYTES_MAX - VARLENA_HEADER {
            return None;
        }
        let at = self.0.len();
        self.0.extend_from_slice(&header(VARLENA_HEADER + content.len()));
        self.0.extend_from_slice(content);
        self.pad();
        Some(at)
    }

    fn push_numeric(&mut self, digits: i128, scale: u8) -> usize {
        let at = self.0.len();
        self.0.extend_from_slice(&[0u8; VARLENA_HEADER]);
        numeric::encode(digits, scale, &mut |bytes| self.0.extend_from_slice(bytes));
        let size = self.0.len() - at;
        self.0.as_slice_mut()[at..at + VARLENA_HEADER].copy_from_slice(&header(size));
        self.pad();
        at
    }

    fn pad(&mut self) {
        let padded = self.0.len().next_multiple_of(VARLENA_HEADER);
        self.0.resize(padded, 0);
    }

    /// Turns places into addresses, once nothing more is added.
    fn to_addresses(&self, places: &mut [usize]) {
        let base = self.0.as_ptr().expose_provenance();
        places.iter_mut().for_each(|place| *place += base);
    }
}

/// The header of a value of `size` bytes, itself included (`varatt.h`, SET_VARSIZE_4B).
fn header(size: usize) -> [u8; VARLENA_HEADER] {
    let size = size as u32;
    if cfg!(target_endian = "big") { size.to_ne_bytes() } else { (size << 2).to_ne_bytes() }
}
