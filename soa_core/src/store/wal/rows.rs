//! Rows as a frame of the write-ahead log holds them: one after the other, so that many small frames are read as fast
//! as few large ones (format.md, section 4.2).

use std::sync::Arc;

use arrow::array::{
    Array, ArrayData, ArrayRef, AsArray, BinaryViewBuilder, BooleanBufferBuilder, NullBufferBuilder, RecordBatch,
    StringViewBuilder, make_array,
};
use arrow::buffer::Buffer;
use arrow::datatypes::UInt8Type;

use crate::convert::enum_dictionary;
use crate::error::{Error, Result};
use crate::schema::{DataType, Field};

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
        DataType::Utf8 | DataType::Binary => None,
    }
}

/// The values of a column, to be taken row by row.
enum Values {
    Bits(arrow::array::BooleanArray),
    Fixed { bytes: Buffer, width: usize },
    Text(arrow::array::StringViewArray),
    Bytes(arrow::array::BinaryViewArray),
}

impl Values {
    fn of(array: &ArrayRef, data_type: &DataType) -> Self {
        match (data_type, width(data_type)) {
            (DataType::Bool, _) => Self::Bits(array.as_boolean().clone()),
            (DataType::Enum(_), _) => {
                let keys = array.as_dictionary::<UInt8Type>().keys().values().inner().clone();
                Self::Fixed { bytes: keys, width: 1 }
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
        let mut push_long = |bytes: &[u8]| {
            let len = u32::try_from(bytes.len()).map_err(|_| {
                Error::argument("a text or binary value takes 4 GiB or more, which a store cannot hold")
            })?;
            out.extend_from_slice(&len.to_le_bytes());
            out.extend_from_slice(bytes);
            Ok(())
        };
        match self {
            Self::Bits(values) => out.push(values.value(row).into()),
            Self::Fixed { bytes, width } => out.extend_from_slice(&bytes[row * width..(row + 1) * width]),
            Self::Text(values) => push_long(values.value(row).as_bytes())?,
            Self::Bytes(values) => push_long(values.value(row))?,
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
    let columns: Vec<(Values, Option<arrow::buffer::NullBuffer>, bool)> = fields
        .iter()
        .zip(batch.columns())
        .map(|(field, array)| (Values::of(array, field.data_type()), array.logical_nulls(), field.is_nullable()))
        .collect();
    let nullable = fields.iter().filter(|field| field.is_nullable()).count();
    for row in 0..batch.num_rows() {
        let bits_at = out.len();
        out.resize(bits_at + nullable.div_ceil(8), 0);
        let mut bit = 0;
        for (values, nulls, is_nullable) in &columns {
            let is_null = nulls.as_ref().is_some_and(|nulls| nulls.is_null(row));
            if *is_nullable {
                out[bits_at + bit / 8] |= u8::from(is_null) << (bit % 8);
                bit += 1;
            }
            if !is_null {
                values.push(row, out)?;
            }
        }
    }
    Ok(())
}

/// Collects the values of a column.
enum Builder {
    Bits(BooleanBufferBuilder),
    Fixed { bytes: Vec<u8>, width: usize },
    Text(StringViewBuilder),
    Bytes(BinaryViewBuilder),
}

/// Reads rows of some columns from many frames into one batch.
pub(super) struct Decoder {
    fields: Vec<Field>,
    columns: Vec<(Builder, NullBufferBuilder)>,
    nullable: usize,
    rows: usize,
}

impl Decoder {
    pub(super) fn new(fields: &[Field]) -> Self {
        let builder = |field: &Field| match (field.data_type(), width(field.data_type())) {
            (DataType::Bool, _) => Builder::Bits(BooleanBufferBuilder::new(0)),
            (_, Some(width)) => Builder::Fixed { bytes: Vec::new(), width },
            (DataType::Binary, None) => Builder::Bytes(BinaryViewBuilder::new()),
            (_, None) => Builder::Text(StringViewBuilder::new()),
        };
        Self {
            fields: fields.to_vec(),
            columns: fields.iter().map(|field| (builder(field), NullBufferBuilder::new(0))).collect(),
            nullable: fields.iter().filter(|field| field.is_nullable()).count(),
            rows: 0,
        }
    }

    /// How many rows were read since the last batch was taken.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Reads `rows` rows, which are all that `bytes` has; `None` if it has not.
    pub(super) fn read(&mut self, rows: usize, bytes: &[u8]) -> Option<()> {
        let mut rest = bytes;
        if self.fields.is_empty() {
            // Nothing would say that there are not as many.
            return None;
        }
        for _ in 0..rows {
            let null_bits = rest.split_off(..self.nullable.div_ceil(8))?;
            let mut bit = 0;
            for (field, (builder, nulls)) in self.fields.iter().zip(&mut self.columns) {
                let mut is_null = false;
                if field.is_nullable() {
                    is_null = null_bits[bit / 8] >> (bit % 8) & 1 == 1;
                    bit += 1;
                }
                nulls.append(!is_null);
                builder.push(field.data_type(), is_null, &mut rest)?;
            }
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
        let fields = self.fields.iter().map(crate::schema::arrow_field).collect::<Vec<_>>();
        let columns = self.fields.iter().zip(&mut self.columns).map(|(field, (builder, nulls))| {
            builder.take(field, nulls, rows).map_err(Error::arrow("cannot make rows of the write-ahead log"))
        });
        let columns = columns.collect::<Result<Vec<_>>>()?;
        RecordBatch::try_new(Arc::new(arrow::datatypes::Schema::new(fields)), columns)
            .map_err(Error::arrow("cannot make rows of the write-ahead log"))
    }
}

impl Builder {
    fn push(&mut self, data_type: &DataType, is_null: bool, rest: &mut &[u8]) -> Option<()> {
        match self {
            Self::Bits(bits) => {
                let value = if is_null { 0 } else { *rest.split_off_first()? };
                bits.append(match value {
                    0 => false,
                    1 => true,
                    _ => return None,
                });
            }
            Self::Fixed { bytes, width } if is_null => bytes.resize(bytes.len() + *width, 0),
            Self::Fixed { bytes, width } => {
                let value = rest.split_off(..*width)?;
                if let DataType::Enum(variants) = data_type
                    && usize::from(value[0]) >= variants.len()
                {
                    return None;
                }
                bytes.extend_from_slice(value);
            }
            Self::Text(texts) => match is_null {
                true => texts.append_null(),
                false => texts.append_value(std::str::from_utf8(read_long(rest)?).ok()?),
            },
            Self::Bytes(values) => match is_null {
                true => values.append_null(),
                false => values.append_value(read_long(rest)?),
            },
        }
        Some(())
    }

    fn take(
        &mut self,
        field: &Field,
        nulls: &mut NullBufferBuilder,
        rows: usize,
    ) -> Result<ArrayRef, arrow::error::ArrowError> {
        let nulls = nulls.finish();
        let arrow_type = field.data_type().to_arrow();
        let (buffer, children) = match (self, field.data_type()) {
            (Self::Text(texts), _) => return Ok(Arc::new(texts.finish())),
            (Self::Bytes(values), _) => return Ok(Arc::new(values.finish())),
            (Self::Bits(bits), _) => (bits.finish().into_inner(), Vec::new()),
            (Self::Fixed { bytes, .. }, DataType::Enum(variants)) => {
                (Buffer::from_vec(std::mem::take(bytes)), vec![enum_dictionary(variants).to_data()])
            }
            (Self::Fixed { bytes, .. }, _) => (Buffer::from_slice_ref(std::mem::take(bytes)), Vec::new()),
        };
        let data = ArrayData::builder(arrow_type).len(rows).add_buffer(buffer).child_data(children).nulls(nulls);
        Ok(make_array(data.align_buffers(true).build()?))
    }
}

fn read_long<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let len = rest.split_off(..4)?;
    let len = u32::from_le_bytes([len[0], len[1], len[2], len[3]]);
    rest.split_off(..usize::try_from(len).ok()?)
}
