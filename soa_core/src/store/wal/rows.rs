//! Rows as a frame of the write-ahead log holds them: one after the other, so that many small frames are read as fast
//! as few large ones (format.md, section 4.2).

use std::ops::Range;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BinaryViewArray, BinaryViewBuilder, BooleanArray, BooleanBufferBuilder,
    FixedSizeListArray, ListArray, MapArray, NullBufferBuilder, RecordBatch, StringViewArray, StringViewBuilder,
    StructArray, make_array,
};
use arrow::buffer::{Buffer, NullBuffer, OffsetBuffer};
use arrow::datatypes::{DataType as ArrowType, UInt8Type};
use arrow::error::ArrowError;

use crate::convert::{enum_dictionary, list_range};
use crate::error::{Error, Result};
use crate::schema::{DataType, Field, arrow_field};

/// The bytes of a value, for types whose values all have the same length.
fn width(data_type: &DataType) -> Option<usize> {
    match data_type {
        DataType::Bool | DataType::Int8 | DataType::UInt8 | DataType::Enum(_) => Some(1),
        DataType::Int16 | DataType::UInt16 => Some(2),
        DataType::Int32 | DataType::UInt32 | DataType::Float32 | DataType::Date => Some(4),
        DataType::Int64
        | DataType::UInt64
        | DataType::Float64
        | DataType::Timestamp { .. }
        | DataType::Time
        | DataType::Duration => Some(8),
        DataType::Decimal { .. } | DataType::Uuid => Some(16),
        DataType::Utf8
        | DataType::Binary
        | DataType::List(_)
        | DataType::FixedList(..)
        | DataType::Struct(_)
        | DataType::Map { .. } => None,
    }
}

/// The values of a column, or of a field inside one, to be taken one by one.
struct Cells {
    values: Values,
    nulls: Option<NullBuffer>,
    is_nullable: bool,
}

enum Values {
    Bits(BooleanArray),
    Fixed {
        bytes: Buffer,
        width: usize,
    },
    Text(StringViewArray),
    Bytes(BinaryViewArray),
    /// The elements, or the keys and the values, which have the same ends.
    Lists {
        offsets: OffsetBuffer<i32>,
        inside: Vec<Cells>,
    },
    FixedLists {
        len: usize,
        element: Box<Cells>,
    },
    Structs(Vec<Cells>),
}

impl Cells {
    fn of(array: &ArrayRef, field: &Field) -> Self {
        Self {
            values: Values::of(array, field.data_type()),
            nulls: array.logical_nulls(),
            is_nullable: field.is_nullable(),
        }
    }

    fn is_null(&self, row: usize) -> bool {
        self.nulls.as_ref().is_some_and(|nulls| nulls.is_null(row))
    }

    /// Writes some of the values one after the other: which of them are NULL, if that can be, and the others.
    fn push_all(&self, rows: Range<usize>, out: &mut Vec<u8>) -> Result<()> {
        if self.is_nullable {
            push_bits(rows.clone().map(|row| self.is_null(row)), out);
        }
        for row in rows.filter(|row| !self.is_null(*row)) {
            self.values.push(row, out)?;
        }
        Ok(())
    }
}

/// Writes one value of several columns: which of those that may be NULL are, and the values of the others.
fn push_row(columns: &[Cells], row: usize, out: &mut Vec<u8>) -> Result<()> {
    push_bits(columns.iter().filter(|column| column.is_nullable).map(|column| column.is_null(row)), out);
    for column in columns.iter().filter(|column| !column.is_null(row)) {
        column.values.push(row, out)?;
    }
    Ok(())
}

/// Writes bits, the first one lowest, and zeros to the end of the last byte.
fn push_bits(bits: impl Iterator<Item = bool>, out: &mut Vec<u8>) {
    for (index, bit) in bits.enumerate() {
        if index % 8 == 0 {
            out.push(0);
        }
        if let Some(byte) = out.last_mut() {
            *byte |= u8::from(bit) << (index % 8);
        }
    }
}

fn push_len(len: usize, out: &mut Vec<u8>) -> Result<()> {
    let len = u32::try_from(len)
        .map_err(|_| Error::argument("a text or binary value takes 4 GiB or more, which a store cannot hold"))?;
    out.extend_from_slice(&len.to_le_bytes());
    Ok(())
}

impl Values {
    fn of(array: &ArrayRef, data_type: &DataType) -> Self {
        match (data_type, width(data_type)) {
            (DataType::Bool, _) => Self::Bits(array.as_boolean().clone()),
            (DataType::Enum(_), _) => {
                let keys = array.as_dictionary::<UInt8Type>().keys().values().inner().clone();
                Self::Fixed { bytes: keys, width: 1 }
            }
            (DataType::List(element), _) => {
                let list = array.as_list::<i32>();
                Self::Lists { offsets: list.offsets().clone(), inside: vec![Cells::of(list.values(), element)] }
            }
            (DataType::Map { key, value }, _) => {
                let map = array.as_map();
                let inside = vec![Cells::of(map.keys(), key), Cells::of(map.values(), value)];
                Self::Lists { offsets: map.offsets().clone(), inside }
            }
            (DataType::FixedList(element, len), _) => {
                let element = Cells::of(array.as_fixed_size_list().values(), element);
                Self::FixedLists { len: *len as usize, element: Box::new(element) }
            }
            (DataType::Struct(fields), _) => {
                let columns = array.as_struct().columns();
                Self::Structs(columns.iter().zip(fields.iter()).map(|(array, field)| Cells::of(array, field)).collect())
            }
            (_, Some(width)) => {
                let data = array.to_data();
                let bytes = data.buffers()[0].slice_with_length(data.offset() * width, data.len() * width);
                Self::Fixed { bytes, width }
            }
            (DataType::Binary, None) => Self::Bytes(array.as_binary_view().clone()),
            (_, None) => Self::Text(array.as_string_view().clone()),
        }
    }

    fn push(&self, row: usize, out: &mut Vec<u8>) -> Result<()> {
        match self {
            Self::Bits(values) => out.push(values.value(row).into()),
            Self::Fixed { bytes, width } => out.extend_from_slice(&bytes[row * width..(row + 1) * width]),
            Self::Text(values) => {
                push_len(values.value(row).len(), out)?;
                out.extend_from_slice(values.value(row).as_bytes());
            }
            Self::Bytes(values) => {
                push_len(values.value(row).len(), out)?;
                out.extend_from_slice(values.value(row));
            }
            Self::Lists { offsets, inside } => {
                let elements = list_range(offsets, row);
                push_len(elements.len(), out)?;
                for cells in inside {
                    cells.push_all(elements.clone(), out)?;
                }
            }
            Self::FixedLists { len, element } => element.push_all(row * len..(row + 1) * len, out)?,
            Self::Structs(columns) => push_row(columns, row, out)?,
        }
        Ok(())
    }
}

/// Writes rows of these columns, in their Arrow types, behind what `out` has.
///
/// # Errors
///
/// When a text or binary value takes 4 GiB or more.
pub(super) fn encode(fields: &[Field], batch: &RecordBatch, out: &mut Vec<u8>) -> Result<()> {
    let columns: Vec<Cells> =
        fields.iter().zip(batch.columns()).map(|(field, array)| Cells::of(array, field)).collect();
    for row in 0..batch.num_rows() {
        push_row(&columns, row, out)?;
    }
    Ok(())
}

/// Collects the values of a column, or of a field inside one.
struct Builder {
    field: Field,
    values: Collected,
    nulls: NullBufferBuilder,
    /// How many values there are, NULLs among them.
    len: usize,
}

enum Collected {
    Bits(BooleanBufferBuilder),
    Fixed { bytes: Vec<u8>, width: usize },
    Text(StringViewBuilder),
    Bytes(BinaryViewBuilder),
    Lists { offsets: Vec<i32>, inside: Vec<Builder> },
    FixedLists { len: usize, element: Box<Builder> },
    Structs(Vec<Builder>),
}

/// Reads rows of some columns from many frames into one batch.
pub(super) struct Decoder {
    columns: Vec<Builder>,
    rows: usize,
}

impl Decoder {
    pub(super) fn new(fields: &[Field]) -> Self {
        Self { columns: fields.iter().map(Builder::new).collect(), rows: 0 }
    }

    /// How many rows were read since the last batch was taken.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Reads `rows` rows, which are all that `bytes` has; `None` if it has not.
    pub(super) fn read(&mut self, rows: usize, bytes: &[u8]) -> Option<()> {
        let mut rest = bytes;
        if self.columns.is_empty() {
            // Nothing would say that there are not as many.
            return None;
        }
        for _ in 0..rows {
            read_row(&mut self.columns, &mut rest)?;
            self.rows += 1;
        }
        rest.is_empty().then_some(())
    }

    /// The rows read since the last time.
    ///
    /// # Errors
    ///
    /// When a value is none of its type.
    pub(super) fn take(&mut self) -> Result<RecordBatch> {
        let rows = std::mem::take(&mut self.rows);
        let fields = self.columns.iter().map(|column| arrow_field(&column.field)).collect::<Vec<_>>();
        let columns = self.columns.iter_mut().map(|column| {
            debug_assert_eq!(column.len, rows);
            column.take().map_err(Error::arrow("cannot make rows of the write-ahead log"))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns)
            .map_err(Error::arrow("cannot make rows of the write-ahead log"))
    }
}

/// Reads what [`push_row`] writes.
fn read_row(columns: &mut [Builder], rest: &mut &[u8]) -> Option<()> {
    let nullable = columns.iter().filter(|column| column.field.is_nullable()).count();
    let nulls = rest.split_off(..nullable.div_ceil(8))?;
    let mut bit = 0;
    for column in columns {
        let mut is_null = false;
        if column.field.is_nullable() {
            is_null = is_set(nulls, bit);
            bit += 1;
        }
        column.push(is_null, rest)?;
    }
    Some(())
}

fn is_set(bits: &[u8], bit: usize) -> bool {
    bits[bit / 8] >> (bit % 8) & 1 == 1
}

impl Builder {
    fn new(field: &Field) -> Self {
        let values = match (field.data_type(), width(field.data_type())) {
            (DataType::Bool, _) => Collected::Bits(BooleanBufferBuilder::new(0)),
            (_, Some(width)) => Collected::Fixed { bytes: Vec::new(), width },
            (DataType::List(element), None) => Collected::Lists { offsets: vec![0], inside: vec![Self::new(element)] },
            (DataType::Map { key, value }, None) => {
                Collected::Lists { offsets: vec![0], inside: vec![Self::new(key), Self::new(value)] }
            }
            (DataType::FixedList(element, len), None) => {
                Collected::FixedLists { len: *len as usize, element: Box::new(Self::new(element)) }
            }
            (DataType::Struct(fields), None) => Collected::Structs(fields.iter().map(Self::new).collect()),
            (DataType::Binary, None) => Collected::Bytes(BinaryViewBuilder::new()),
            (_, None) => Collected::Text(StringViewBuilder::new()),
        };
        Self { field: field.clone(), values, nulls: NullBufferBuilder::new(0), len: 0 }
    }

    /// Reads what [`Cells::push_all`] writes of `count` values.
    fn read_all(&mut self, count: usize, rest: &mut &[u8]) -> Option<()> {
        // Each value takes a byte or a bit at least, but what is in a struct, which has a field.
        let nulls = match self.field.is_nullable() {
            true => Some(rest.split_off(..count.div_ceil(8))?),
            false => None,
        };
        for index in 0..count {
            self.push(nulls.is_some_and(|nulls| is_set(nulls, index)), rest)?;
        }
        Some(())
    }

    /// Adds NULL, or inside a value that is NULL what stands there where nothing may be NULL.
    fn push_blank(&mut self) -> Option<()> {
        let is_null = self.field.is_nullable();
        self.nulls.append(!is_null);
        self.len += 1;
        match &mut self.values {
            Collected::Bits(bits) => bits.append(false),
            Collected::Fixed { bytes, width } => bytes.resize(bytes.len() + *width, 0),
            Collected::Text(texts) => texts.append_option((!is_null).then_some("")),
            Collected::Bytes(values) => values.append_option((!is_null).then_some([])),
            Collected::Lists { offsets, .. } => offsets.push(*offsets.last()?),
            Collected::FixedLists { len, element } => (0..*len).try_for_each(|_| element.push_blank())?,
            Collected::Structs(columns) => columns.iter_mut().try_for_each(Self::push_blank)?,
        }
        Some(())
    }

    /// Reads a value that is not NULL, or adds one that is.
    fn push(&mut self, is_null: bool, rest: &mut &[u8]) -> Option<()> {
        if is_null {
            return self.push_blank();
        }
        self.nulls.append_non_null();
        self.len += 1;
        match &mut self.values {
            Collected::Bits(bits) => bits.append(match *rest.split_off_first()? {
                0 => false,
                1 => true,
                _ => return None,
            }),
            Collected::Fixed { bytes, width } => {
                let value = rest.split_off(..*width)?;
                if let DataType::Enum(variants) = self.field.data_type()
                    && usize::from(value[0]) >= variants.len()
                {
                    return None;
                }
                bytes.extend_from_slice(value);
            }
            Collected::Text(texts) => texts.append_value(std::str::from_utf8(read_long(rest)?).ok()?),
            Collected::Bytes(values) => values.append_value(read_long(rest)?),
            Collected::Lists { offsets, inside } => {
                let count = read_len(rest)?;
                let end = offsets.last()?.checked_add(i32::try_from(count).ok()?)?;
                for builder in inside {
                    builder.read_all(count, rest)?;
                }
                offsets.push(end);
            }
            Collected::FixedLists { len, element } => element.read_all(*len, rest)?,
            Collected::Structs(columns) => read_row(columns, rest)?,
        }
        Some(())
    }

    /// The values collected since the last time.
    fn take(&mut self) -> Result<ArrayRef, ArrowError> {
        let (nulls, len) = (self.nulls.finish(), std::mem::take(&mut self.len));
        let field = &self.field;
        let (buffer, children) = match (&mut self.values, field.data_type()) {
            (Collected::Text(texts), _) => return Ok(Arc::new(texts.finish())),
            (Collected::Bytes(values), _) => return Ok(Arc::new(values.finish())),
            (Collected::Lists { offsets, inside }, data_type) => {
                let offsets = OffsetBuffer::new(std::mem::replace(offsets, vec![0]).into());
                let inside = inside.iter_mut().map(Self::take).collect::<Result<Vec<_>, _>>()?;
                return lists(&data_type.to_arrow(), offsets, inside, nulls);
            }
            (Collected::FixedLists { element, len: size }, _) => {
                let ArrowType::FixedSizeList(inside, _) = field.data_type().to_arrow() else { return Err(no_list()) };
                let size = i32::try_from(*size).map_err(|_| no_list())?;
                return Ok(Arc::new(FixedSizeListArray::try_new(inside, size, element.take()?, nulls)?));
            }
            (Collected::Structs(columns), _) => {
                let ArrowType::Struct(fields) = field.data_type().to_arrow() else { return Err(no_list()) };
                let columns = columns.iter_mut().map(Self::take).collect::<Result<Vec<_>, _>>()?;
                return Ok(Arc::new(StructArray::try_new_with_length(fields, columns, nulls, len)?));
            }
            (Collected::Bits(bits), _) => (bits.finish().into_inner(), Vec::new()),
            (Collected::Fixed { bytes, .. }, DataType::Enum(variants)) => {
                (Buffer::from_vec(std::mem::take(bytes)), vec![enum_dictionary(variants).to_data()])
            }
            (Collected::Fixed { bytes, .. }, _) => (Buffer::from_slice_ref(std::mem::take(bytes)), Vec::new()),
        };
        let arrow_type = field.data_type().to_arrow();
        let data = ArrayData::builder(arrow_type).len(len).add_buffer(buffer).child_data(children).nulls(nulls);
        Ok(make_array(data.align_buffers(true).build()?))
    }
}

/// Lists or maps of values.
fn lists(
    data_type: &ArrowType,
    offsets: OffsetBuffer<i32>,
    inside: Vec<ArrayRef>,
    nulls: Option<NullBuffer>,
) -> Result<ArrayRef, ArrowError> {
    match (data_type, <[ArrayRef; 1]>::try_from(inside)) {
        (ArrowType::List(element), Ok([values])) => {
            Ok(Arc::new(ListArray::try_new(Arc::clone(element), offsets, values, nulls)?))
        }
        (ArrowType::Map(entries, ordered), Err(sides)) => {
            let ArrowType::Struct(fields) = entries.data_type() else { return Err(no_list()) };
            let rows = StructArray::try_new(fields.clone(), sides, None)?;
            Ok(Arc::new(MapArray::try_new(Arc::clone(entries), offsets, rows, nulls, *ordered)?))
        }
        _ => Err(no_list()),
    }
}

fn no_list() -> ArrowError {
    ArrowError::SchemaError("a type is not of the layout of its values".to_owned())
}

fn read_len(rest: &mut &[u8]) -> Option<usize> {
    let len = rest.split_off(..4)?;
    usize::try_from(u32::from_le_bytes([len[0], len[1], len[2], len[3]])).ok()
}

fn read_long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = read_len(rest)?;
    rest.split_off(..len)
}
