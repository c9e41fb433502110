//! From record batches to what Postgres has in its slots.
//!
//! A batch is turned into rows some hundreds at a time: column by column, each value becomes a `Datum`, which is the
//! value itself or, for text, bytes and numerics, the address of a copy in the column's arena. The datums of a row are
//! next to each other, as a slot wants them, so that a slot can be pointed at a row and nothing is done per row. Arenas
//! are filled anew for every chunk of rows: a scan needs no more memory than one chunk has, and no call into Postgres.
//!
//! A chunk is good until the next one is filled, which is as long as Postgres wants its rows: a slot's content belongs
//! to the scan until the scan is asked for its next row.

use std::ops::{Range, RangeInclusive};

use arrow::array::{
    Array, ArrayRef, ArrowPrimitiveType, AsArray, BinaryViewArray, BooleanArray, PrimitiveArray, RecordBatch,
    StringArray, StringViewArray,
};
use arrow::buffer::{MutableBuffer, NullBuffer};
use arrow::datatypes::{
    DataType as ArrowType, Date32Type, Decimal128Type, DurationMicrosecondType, Float32Type, Float64Type, Int8Type,
    Int16Type, Int32Type, Int64Type, Time64MicrosecondType, TimestampMicrosecondType, UInt8Type, UInt16Type,
    UInt32Type, UInt64Type,
};
use pgrx::PgSqlErrorCode;
use soa_core::schema::DAY_MICROS;

use crate::error::{PgError, Result};
use crate::numeric;
use crate::table::BoundColumn;
use crate::types::{Conversion, DATE_RANGE, EPOCH_DAYS, EPOCH_MICROS, PgType, TIMESTAMP_RANGE};
use crate::varlena::{Misfit, Texts, VARLENA_HEADER, header};

/// The values of a chunk: enough to make the work per chunk small, few enough to stay in the processor's cache.
const CHUNK_VALUES: usize = 8_192;
/// The rows of a chunk, however many columns there are.
const CHUNK_ROWS: RangeInclusive<usize> = 64..=1_024;
/// The bytes of text that a chunk has of a column at most, unless a single row has more.
const CHUNK_BYTES_MAX: usize = 1 << 20;
/// What a value inside others takes beside itself, about.
const VALUE_BYTES: usize = 16;
/// How many keys there can be in an enum's column.
const KEYS: usize = 256;

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
    /// Where the rows of the batch are, if that is asked.
    places: Vec<RowPlace>,
    /// The rows of the batch, or those before the last that is wanted.
    row_count: usize,
    /// The first row of the batch that no chunk has had.
    next: usize,
    chunk: Chunk,
}

/// Some rows of a batch, as slots want them.
#[derive(Debug)]
pub(crate) struct Chunk {
    /// The columns of a slot.
    width: usize,
    /// `width` for each row, 0 where there is no value.
    datums: Vec<usize>,
    /// `width` for each row; or, where all rows have the same, for one.
    nulls: Vec<bool>,
    rows: usize,
    /// What `nulls` is for a row whose values are all there: the columns that are not read are NULL.
    no_nulls: Vec<bool>,
    /// Where each row is, if that is asked.
    places: Vec<RowPlace>,
}

/// Where a row is in a snapshot: a number for its part ([`crate::transactions`]) and its number there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowPlace {
    pub(crate) part: u16,
    pub(crate) number: u32,
}

impl Chunk {
    fn new(width: usize, places: impl Iterator<Item = usize>) -> Self {
        let mut no_nulls = vec![true; width];
        places.for_each(|place| no_nulls[place] = false);
        Self { width, datums: Vec::new(), nulls: Vec::new(), rows: 0, no_nulls, places: Vec::new() }
    }

    /// Makes place for rows that have nulls or have none.
    fn set_rows(&mut self, rows: usize, has_nulls: bool) {
        self.rows = rows;
        self.datums.resize(rows * self.width, 0);
        self.nulls.clear();
        for _ in 0..if has_nulls { rows } else { 1 } {
            self.nulls.extend_from_slice(&self.no_nulls);
        }
    }

    /// The places of a column's values, row by row.
    fn datums_of(&mut self, place: usize) -> impl Iterator<Item = &mut usize> {
        self.datums.chunks_exact_mut(self.width).map(move |row| &mut row[place])
    }

    /// How many rows there are.
    pub(crate) fn rows(&self) -> usize {
        self.rows
    }

    /// The datums of all rows, one row after the other. There may be more than the rows have.
    pub(crate) fn datums_mut(&mut self) -> &mut [usize] {
        &mut self.datums
    }

    /// Where the rows are; nothing if that is not asked.
    pub(crate) fn places(&self) -> &[RowPlace] {
        &self.places
    }

    /// Whether they are NULL, and how far it is from one row to the next.
    pub(crate) fn nulls_mut(&mut self) -> (&mut [bool], usize) {
        let stride = if self.nulls.len() > self.width { self.width } else { 0 };
        (&mut self.nulls, stride)
    }
}

impl Rows {
    /// No rows of columns that are converted so, each with its place in a slot of `width` columns.
    ///
    /// # Errors
    ///
    /// When a column has a place that the slot has not.
    pub(crate) fn new<'a>(
        columns: impl IntoIterator<Item = &'a BoundColumn>,
        width: usize,
        encoding: Encoding,
    ) -> Result<Self> {
        let mut found = Vec::new();
        for column in columns {
            let place = usize::try_from(column.number).ok().and_then(|number| number.checked_sub(1));
            let place = place.filter(|place| *place < width);
            let place = place.ok_or_else(|| PgError::internal("a slot has fewer columns than its table"))?;
            found.push(Column::new(column.name.clone(), place, column.conversion));
        }
        let chunk = Chunk::new(width, found.iter().map(|column| column.place));
        Ok(Self { columns: found, encoding, places: Vec::new(), row_count: 0, next: 0, chunk })
    }

    /// Starts on a batch with these columns, in order.
    pub(crate) fn set_batch(&mut self, batch: &RecordBatch) {
        self.set_located(batch, Vec::new());
    }

    /// Starts on a batch with these columns, in order, whose rows are in these places.
    pub(crate) fn set_located(&mut self, batch: &RecordBatch, places: Vec<RowPlace>) {
        self.set_columns(batch.columns(), 0..batch.num_rows());
        self.places = places;
    }

    /// Starts on these rows of these columns, in order.
    pub(crate) fn set_columns(&mut self, columns: &[ArrayRef], rows: Range<usize>) {
        for (column, array) in self.columns.iter_mut().zip(columns) {
            column.set_array(array);
        }
        (self.next, self.row_count) = (rows.start, rows.end);
    }

    /// Lets go of the batch.
    pub(crate) fn clear(&mut self) {
        self.columns.iter_mut().for_each(Column::clear);
        (self.row_count, self.next) = (0, 0);
    }

    /// Goes to the next rows of the batch; false after the last.
    pub(crate) fn fill(&mut self) -> Result<bool> {
        let most = (CHUNK_VALUES / self.chunk.width.max(1)).clamp(*CHUNK_ROWS.start(), *CHUNK_ROWS.end());
        let mut count = most.min(self.row_count - self.next);
        if count == 0 {
            return Ok(false);
        }
        for column in &self.columns {
            count = column.rows_within(CHUNK_BYTES_MAX, self.next, count);
        }
        let range = self.next..self.next + count;
        let has_nulls = self.columns.iter().any(|column| column.has_nulls(&range));
        self.chunk.set_rows(count, has_nulls);
        for column in &mut self.columns {
            column.fill(&range, &mut self.chunk, self.encoding)?;
        }
        self.chunk.places.clear();
        self.chunk.places.extend_from_slice(self.places.get(range.clone()).unwrap_or_default());
        self.next = range.end;
        Ok(true)
    }

    /// The rows that [`fill`](Self::fill) has gone to.
    pub(crate) fn chunk_mut(&mut self) -> &mut Chunk {
        &mut self.chunk
    }
}

/// A column of the batch.
#[derive(Debug)]
struct Column {
    name: String,
    /// Of its values in a row.
    place: usize,
    conversion: Conversion,
    array: Option<ArrayRef>,
    /// The chunk's values that are not datums themselves.
    arena: Arena,
    /// Where in the arena each of them is.
    places: Vec<usize>,
    /// For an enum: the address of the name behind each key, which are in the arena for the whole batch; 0 behind none.
    names: Option<Box<[usize; KEYS]>>,
}

impl Column {
    fn new(name: String, place: usize, conversion: Conversion) -> Self {
        let (arena, places, names) = (Arena::default(), Vec::new(), None);
        Self { name, place, conversion, array: None, arena, places, names }
    }

    fn set_array(&mut self, array: &ArrayRef) {
        self.array = Some(ArrayRef::clone(array));
        self.names = None;
    }

    fn clear(&mut self) {
        self.array = None;
        self.names = None;
    }

    /// How many of `count` rows have no more than so many bytes of text; at least one.
    fn rows_within(&self, bytes_max: usize, first: usize, count: usize) -> usize {
        let Some(array) = &self.array else { return count };
        let views = match (array.as_string_view_opt(), array.as_binary_view_opt()) {
            (Some(text), _) => text.views(),
            (None, Some(bytes)) => bytes.views(),
            (None, None) => return rows_about_within(array, bytes_max, first, count),
        };
        let mut bytes = 0;
        // A view's lowest 32 bits are the length.
        let fits = views[first..first + count].iter().take_while(|view| {
            bytes += **view as u32 as usize;
            bytes <= bytes_max
        });
        fits.count().max(1)
    }

    fn has_nulls(&self, rows: &Range<usize>) -> bool {
        let nulls = self.array.as_ref().and_then(|array| array.nulls());
        nulls.is_some_and(|nulls| nulls.slice(rows.start, rows.len()).null_count() > 0)
    }

    fn fill(&mut self, range: &Range<usize>, chunk: &mut Chunk, encoding: Encoding) -> Result<()> {
        let Some(array) = self.array.take() else { return Err(PgError::internal("a column has no values")) };
        let nulls = array.nulls().map(|nulls| nulls.slice(range.start, range.len()));
        let nulls = nulls.filter(|nulls| nulls.null_count() > 0);
        if let Some(nulls) = &nulls {
            let cells = chunk.nulls.chunks_exact_mut(chunk.width).map(|row| &mut row[self.place]);
            cells.zip(nulls).for_each(|(cell, is_valid)| *cell = !is_valid);
        }
        let rows = RowRange { first: range.start, count: range.len(), nulls };
        let filled = self.fill_datums(&array, &rows, chunk, encoding);
        self.array = Some(array);
        filled
    }

    fn fill_datums(&mut self, array: &ArrayRef, rows: &RowRange, chunk: &mut Chunk, encoding: Encoding) -> Result<()> {
        match self.conversion {
            Conversion::Bool => self.fill_bool(array, rows, chunk),
            Conversion::Integer => match array.data_type() {
                ArrowType::Int8 => self.copy::<Int8Type>(array, rows, chunk, |value| value as usize),
                ArrowType::Int16 => self.copy::<Int16Type>(array, rows, chunk, |value| value as usize),
                ArrowType::Int32 => self.copy::<Int32Type>(array, rows, chunk, |value| value as usize),
                ArrowType::Int64 => self.copy::<Int64Type>(array, rows, chunk, |value| value as usize),
                ArrowType::UInt8 => self.copy::<UInt8Type>(array, rows, chunk, usize::from),
                ArrowType::UInt16 => self.copy::<UInt16Type>(array, rows, chunk, usize::from),
                ArrowType::UInt32 => self.copy::<UInt32Type>(array, rows, chunk, |value| value as usize),
                _ => Err(self.unexpected(array)),
            },
            Conversion::U64ToBigInt => self.checked::<UInt64Type>(array, rows, chunk, |value| {
                i64::try_from(value).ok().map(|value| value as usize)
            }),
            Conversion::U64ToNumeric => self.fill_numeric::<UInt64Type>(array, rows, chunk, 0, i128::from),
            Conversion::Float4 => {
                // A float of 32 bits is passed as the integer of its bits.
                self.copy::<Float32Type>(array, rows, chunk, |value| value.to_bits().cast_signed() as usize)
            }
            Conversion::Float4ToFloat8 => {
                self.copy::<Float32Type>(array, rows, chunk, |value| f64::from(value).to_bits() as usize)
            }
            Conversion::Float8 => self.copy::<Float64Type>(array, rows, chunk, |value| value.to_bits() as usize),
            Conversion::Numeric { scale } => {
                self.fill_numeric::<Decimal128Type>(array, rows, chunk, scale, |value| value)
            }
            Conversion::Date => self.checked::<Date32Type>(array, rows, chunk, |days| {
                let days = days.checked_sub(EPOCH_DAYS)?;
                DATE_RANGE.contains(&days).then_some(days as usize)
            }),
            Conversion::Timestamp => self.checked::<TimestampMicrosecondType>(array, rows, chunk, |micros| {
                let micros = micros.checked_sub(EPOCH_MICROS)?;
                TIMESTAMP_RANGE.contains(&micros).then_some(micros as usize)
            }),
            Conversion::Time => self.checked::<Time64MicrosecondType>(array, rows, chunk, |micros| {
                (0..=DAY_MICROS).contains(&micros).then_some(micros as usize)
            }),
            Conversion::Interval => self.fill_intervals(array, rows, chunk),
            Conversion::Uuid => self.fill_uuids(array, rows, chunk),
            Conversion::Text => self.fill_text(array, rows, chunk, encoding),
            Conversion::Bytea => self.fill_bytes(array, rows, chunk),
            Conversion::Enum => self.fill_enum(array, rows, chunk, encoding),
            Conversion::Array(elements) => self.fill_made(array, rows, chunk, |row| {
                let list = match array.data_type() {
                    ArrowType::List(_) => array.as_list::<i32>().value(row),
                    ArrowType::FixedSizeList(_, _) => array.as_fixed_size_list().value(row),
                    other => return Err(Misfit::Unexpected(other.to_string())),
                };
                crate::array::encode(&list, elements, Texts(&encoding))
            }),
            Conversion::Jsonb => {
                self.fill_made(array, rows, chunk, |row| crate::jsonb::encode(array, row, Texts(&encoding)))
            }
        }
    }

    fn fill_bool(&self, array: &ArrayRef, rows: &RowRange, chunk: &mut Chunk) -> Result<()> {
        let bits: Option<&BooleanArray> = array.as_boolean_opt();
        let bits = bits.ok_or_else(|| self.unexpected(array))?.values().slice(rows.first, rows.count);
        let cells = chunk.datums_of(self.place);
        cells.zip(bits.iter()).for_each(|(cell, bit)| *cell = usize::from(bit));
        Ok(())
    }

    /// Values of which every one has a datum.
    fn copy<T: ArrowPrimitiveType>(
        &self,
        array: &ArrayRef,
        rows: &RowRange,
        chunk: &mut Chunk,
        datum: impl Fn(T::Native) -> usize,
    ) -> Result<()> {
        let values = &self.primitive::<T>(array)?.values()[rows.range()];
        let cells = chunk.datums_of(self.place);
        cells.zip(values).for_each(|(cell, value)| *cell = datum(*value));
        Ok(())
    }

    /// Values of which some are beyond what Postgres holds.
    fn checked<T: ArrowPrimitiveType>(
        &self,
        array: &ArrayRef,
        rows: &RowRange,
        chunk: &mut Chunk,
        datum: impl Fn(T::Native) -> Option<usize>,
    ) -> Result<()> {
        let values = &self.primitive::<T>(array)?.values()[rows.range()];
        // Without a way out of the loop, several values are looked at at once.
        let all_fit = values.iter().fold(true, |so_far, value| so_far & datum(*value).is_some());
        let misfit = |(row, value): &(usize, &T::Native)| datum(**value).is_none() && !rows.is_null(*row);
        if !all_fit && let Some((_, value)) = values.iter().enumerate().find(misfit) {
            return Err(self.out_of_range(&format!("{value:?}")));
        }
        // What is behind a NULL is nobody's value, and may be any.
        let cells = chunk.datums_of(self.place);
        cells.zip(values).for_each(|(cell, value)| *cell = datum(*value).unwrap_or_default());
        Ok(())
    }

    fn fill_numeric<T: ArrowPrimitiveType>(
        &mut self,
        array: &ArrayRef,
        rows: &RowRange,
        chunk: &mut Chunk,
        scale: u8,
        digits: impl Fn(T::Native) -> i128,
    ) -> Result<()> {
        let values = &self.primitive::<T>(array)?.values()[rows.range()];
        self.start_values();
        for value in values {
            self.places.push(self.arena.push_numeric(digits(*value), scale));
        }
        self.write_addresses(chunk);
        Ok(())
    }

    fn fill_text(&mut self, array: &ArrayRef, rows: &RowRange, chunk: &mut Chunk, encoding: Encoding) -> Result<()> {
        let text: Option<&StringViewArray> = array.as_string_view_opt();
        let text = text.ok_or_else(|| self.unexpected(array))?;
        self.start_values();
        for row in 0..rows.count {
            let value = if rows.is_null(row) { "" } else { text.value(rows.first + row) };
            let place = self.push_text(value, encoding)?;
            self.places.push(place);
        }
        self.write_addresses(chunk);
        Ok(())
    }

    fn push_text(&mut self, text: &str, encoding: Encoding) -> Result<usize> {
        let bytes = Texts(&encoding).encode(text).map_err(|_| self.nul())?;
        self.arena.push(&bytes).ok_or_else(|| self.too_large(text.len()))
    }

    fn nul(&self) -> PgError {
        let message = format!("column \"{}\" holds a text with a NUL character, which Postgres cannot hold", self.name);
        PgError::new(PgSqlErrorCode::ERRCODE_UNTRANSLATABLE_CHARACTER, message)
            .with_hint("Leave the row out by a condition on another column, or store the text as bytes.")
    }

    fn fill_bytes(&mut self, array: &ArrayRef, rows: &RowRange, chunk: &mut Chunk) -> Result<()> {
        let bytes: Option<&BinaryViewArray> = array.as_binary_view_opt();
        let bytes = bytes.ok_or_else(|| self.unexpected(array))?;
        self.start_values();
        for row in 0..rows.count {
            let value = if rows.is_null(row) { &[] } else { bytes.value(rows.first + row) };
            let place = self.arena.push(value).ok_or_else(|| self.too_large(value.len()))?;
            self.places.push(place);
        }
        self.write_addresses(chunk);
        Ok(())
    }

    fn fill_intervals(&mut self, array: &ArrayRef, rows: &RowRange, chunk: &mut Chunk) -> Result<()> {
        let values = &self.primitive::<DurationMicrosecondType>(array)?.values()[rows.range()];
        self.start_values();
        for micros in values {
            // `timestamp.h`: microseconds, days, months.
            let mut interval = [0; 16];
            interval[..size_of::<i64>()].copy_from_slice(&micros.to_ne_bytes());
            self.places.push(self.arena.push_fixed(&interval));
        }
        self.write_addresses(chunk);
        Ok(())
    }

    fn fill_uuids(&mut self, array: &ArrayRef, rows: &RowRange, chunk: &mut Chunk) -> Result<()> {
        let array_of_16 = array.as_fixed_size_binary_opt().filter(|array| array.value_length() == 16);
        let uuids = array_of_16.ok_or_else(|| self.unexpected(array))?;
        let (uuids, _) = uuids.value_data().as_chunks::<16>();
        self.start_values();
        for uuid in &uuids[rows.range()] {
            self.places.push(self.arena.push_fixed(uuid));
        }
        self.write_addresses(chunk);
        Ok(())
    }

    /// Values that are made one by one of a row of the batch.
    fn fill_made(
        &mut self,
        array: &ArrayRef,
        rows: &RowRange,
        chunk: &mut Chunk,
        make: impl Fn(usize) -> std::result::Result<Vec<u8>, Misfit>,
    ) -> Result<()> {
        self.start_values();
        for row in 0..rows.count {
            if rows.is_null(row) {
                self.places.push(0);
                continue;
            }
            let content = make(rows.first + row).map_err(|misfit| self.misfit(array, misfit))?;
            let place = self.arena.push_aligned(&content).ok_or_else(|| self.too_large(content.len()))?;
            self.places.push(place);
        }
        self.write_addresses(chunk);
        Ok(())
    }

    fn misfit(&self, array: &ArrayRef, misfit: Misfit) -> PgError {
        match misfit {
            Misfit::Nul => self.nul(),
            Misfit::TooLarge(bytes) => self.too_large(bytes),
            Misfit::TooManyElements(count) => {
                let message =
                    format!("column \"{}\" holds a list of {count} elements, too many for Postgres", self.name);
                PgError::new(PgSqlErrorCode::ERRCODE_PROGRAM_LIMIT_EXCEEDED, message)
            }
            Misfit::OutOfRange(value) => self.out_of_range(&value),
            Misfit::Unexpected(_) => self.unexpected(array),
        }
    }

    /// The names get into the arena once per batch.
    fn fill_enum(&mut self, array: &ArrayRef, rows: &RowRange, chunk: &mut Chunk, encoding: Encoding) -> Result<()> {
        let dictionary = array.as_dictionary_opt::<UInt8Type>().ok_or_else(|| self.unexpected(array))?;
        let names: Option<&StringArray> = dictionary.values().as_string_opt();
        let names = names.ok_or_else(|| self.unexpected(array))?;
        let addresses = match self.names.take() {
            Some(addresses) => addresses,
            None => {
                self.start_values();
                for name in names {
                    let place = self.push_text(name.unwrap_or_default(), encoding)?;
                    self.places.push(place);
                }
                let mut addresses = Box::new([0; KEYS]);
                addresses.iter_mut().zip(self.arena.addresses(&self.places)).for_each(|(to, address)| *to = address);
                addresses
            }
        };
        // A key behind a NULL may lead nowhere; every other one was checked when the batch was made.
        let keys = &dictionary.keys().values()[rows.range()];
        let cells = chunk.datums_of(self.place);
        cells.zip(keys).for_each(|(cell, key)| *cell = addresses[usize::from(*key)]);
        self.names = Some(addresses);
        Ok(())
    }

    fn start_values(&mut self) {
        self.arena.clear();
        self.places.clear();
    }

    fn write_addresses(&self, chunk: &mut Chunk) {
        let addresses = self.arena.addresses(&self.places);
        chunk.datums_of(self.place).zip(addresses).for_each(|(cell, address)| *cell = address);
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
                format!("ALTER FOREIGN TABLE ... ALTER COLUMN \"{}\" TYPE numeric(20,0)", self.name),
            ),
            Conversion::Array(elements) if elements.pg_type == PgType::Int8 => (
                PgSqlErrorCode::ERRCODE_NUMERIC_VALUE_OUT_OF_RANGE,
                format!("ALTER FOREIGN TABLE ... ALTER COLUMN \"{}\" TYPE numeric(20,0)[]", self.name),
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

/// The same for values with others inside, as far as their average tells.
fn rows_about_within(array: &ArrayRef, bytes_max: usize, first: usize, count: usize) -> usize {
    let average = |array: &dyn Array| array.get_buffer_memory_size() / array.len().max(1);
    let of_offsets = |offsets: &[i32], average: usize| {
        let begin = offsets[first];
        // In text, and with its kind and length, a value takes several times its bytes in Arrow at most.
        let bytes = |end: &i32| (*end - begin) as usize * (average + VALUE_BYTES);
        offsets[first + 1..=first + count].partition_point(|end| bytes(end) <= bytes_max)
    };
    let fits = match array.data_type() {
        ArrowType::List(_) => {
            let list = array.as_list::<i32>();
            of_offsets(list.value_offsets(), average(list.values()))
        }
        ArrowType::Map(_, _) => of_offsets(array.as_map().value_offsets(), average(array.as_map().entries())),
        ArrowType::FixedSizeList(_, _) | ArrowType::Struct(_) => count.min(bytes_max / (average(array) + VALUE_BYTES)),
        _ => count,
    };
    fits.max(1)
}

/// Which rows of a batch a chunk has.
struct RowRange {
    first: usize,
    count: usize,
    /// Of these rows, if there are any.
    nulls: Option<NullBuffer>,
}

impl RowRange {
    fn range(&self) -> Range<usize> {
        self.first..self.first + self.count
    }

    /// Whether a row, counted from the first of these, is NULL.
    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
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
        let header = header(VARLENA_HEADER + content.len())?;
        let at = self.0.len();
        self.0.extend_from_slice(&header);
        self.0.extend_from_slice(content);
        self.pad();
        Some(at)
    }

    /// The same for a value in which some begin at multiples of eight bytes.
    fn push_aligned(&mut self, content: &[u8]) -> Option<usize> {
        let padded = self.0.len().next_multiple_of(size_of::<u64>());
        self.0.resize(padded, 0);
        self.push(content)
    }

    fn push_numeric(&mut self, digits: i128, scale: u8) -> usize {
        let encoded = numeric::encode(digits, scale);
        let content = encoded.as_slice();
        // A numeric is far from the greatest size.
        self.push(content).unwrap_or_default()
    }

    /// Adds a value of 16 bytes, to an arena that has no others: they are aligned as every type wants it.
    fn push_fixed(&mut self, value: &[u8; 16]) -> usize {
        let at = self.0.len();
        self.0.extend_from_slice(value);
        at
    }

    fn pad(&mut self) {
        let padded = self.0.len().next_multiple_of(VARLENA_HEADER);
        self.0.resize(padded, 0);
    }

    /// The addresses of values, once nothing more is added.
    fn addresses(&self, places: &[usize]) -> impl Iterator<Item = usize> {
        let base = self.0.as_ptr().expose_provenance();
        places.iter().map(move |place| base + place)
    }
}
