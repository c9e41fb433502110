//! The column of enum fields.

use std::collections::HashMap;
use std::fmt::{self, Debug};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, StringArray};
use arrow::buffer::{NullBuffer, ScalarBuffer};
use arrow::compute::cast;
use arrow::datatypes::{DataType as ArrowType, Int32Type, UInt8Type};

use super::buffer::{Column, Indices};
use super::field::{FieldColumn, ValueColumn};
use super::fixed::FixedKind;
use super::wrong_type;
use crate::error::{Error, Result};
use crate::schema::{DataType, Variants};

/// An enum without fields, as `#[derive(SoA)]` makes it known.
///
/// A value is stored as one byte: the position of its variant in the declaration. In Arrow it is a
/// dictionary of the names.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not an enum that columns can hold",
    note = "derive `SoA` on the enum, whose variants must have no fields"
)]
pub trait SoaEnum: Copy + Debug + PartialEq + Send + Sync + 'static {
    /// The variants, in the order of their declaration: at least one, at most 256.
    const VARIANTS: &'static [Self];
    /// The names of the variants, in the same order; all different.
    const NAMES: &'static [&'static str];
    /// The numbers of the variants (`Variant as i64`), in the same order.
    const NUMBERS: &'static [i64];

    /// The position of this variant in [`VARIANTS`](Self::VARIANTS).
    fn index(self) -> u8;

    /// The names as a schema and Arrow have them: one for all columns of this type.
    fn dictionary() -> &'static EnumDictionary;
}

/// The names of an enum's variants as a schema and as Arrow have them.
#[derive(Debug)]
pub struct EnumDictionary {
    variants: Variants,
    names: ArrayRef,
}

impl EnumDictionary {
    /// From [`SoaEnum::NAMES`].
    ///
    /// # Panics
    ///
    /// When there is no name or more than 256, or two are equal; the derive refuses such enums.
    pub fn new(names: &[&str]) -> Self {
        let variants = Variants::new(names.iter().copied()).expect("the derive checks the names of variants");
        Self { variants, names: Arc::new(StringArray::from_iter_values(names)) }
    }

    /// The names, for a schema.
    pub fn variants(&self) -> &Variants {
        &self.variants
    }

    /// The names, as the values of dictionary arrays.
    pub fn names(&self) -> &ArrayRef {
        &self.names
    }
}

/// A column of enum values: one byte each.
pub struct EnumColumn<E> {
    indices: Indices,
    variants: PhantomData<fn() -> E>,
}

impl<E: SoaEnum> EnumColumn<E> {
    fn new(indices: Indices) -> Self {
        Self { indices, variants: PhantomData }
    }
}

impl<E: SoaEnum> Clone for EnumColumn<E> {
    fn clone(&self) -> Self {
        Self::new(self.indices.clone())
    }
}

impl<E: SoaEnum> Default for EnumColumn<E> {
    fn default() -> Self {
        Self::new(Indices::new(E::VARIANTS.len()))
    }
}

impl<E: SoaEnum> Debug for EnumColumn<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.len()).map(|row| self.get(row))).finish()
    }
}

impl<E: SoaEnum> FieldColumn for EnumColumn<E> {
    type Value = E;
    type Stored = u8;
    type Ref<'a> = E;
    type Raw<'a> = &'a [u8];
    type Outcome = ();

    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        DataType::Enum(E::dictionary().variants().clone())
    }

    #[inline]
    fn len(&self) -> usize {
        self.indices.as_slice().len()
    }

    #[inline]
    fn get(&self, row: usize) -> E {
        // Every index is that of a variant. As nothing here can fail for a row that is there, it is left out where nobody
        // looks at the value.
        E::VARIANTS.get(usize::from(self.indices.as_slice()[row])).copied().unwrap_or(E::VARIANTS[0])
    }

    #[inline]
    fn to_value(value: E) -> E {
        value
    }

    #[inline]
    fn encode(value: E) -> Result<u8, String> {
        Ok(value.index())
    }

    fn blank() -> u8 {
        0
    }

    #[inline]
    fn push(&mut self, value: u8) {
        self.indices.push(value);
    }

    #[inline]
    fn set(&mut self, row: usize, value: u8) {
        self.indices.set(row, value);
    }

    fn swap(&mut self, left: usize, right: usize) {
        self.indices.swap(left, right);
    }

    fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        self.indices.extend_from(&other.indices, rows);
    }

    fn slice(&self, rows: Range<usize>) -> Self {
        Self::new(self.indices.slice(rows))
    }

    fn keep(&mut self, ranges: &[Range<usize>]) {
        self.indices.keep(ranges);
    }

    fn rearrange(&mut self, rows: &[usize]) {
        self.indices.rearrange(rows);
    }

    fn sort_rows(&self, rows: &mut [usize]) {
        let indices = self.indices.as_slice();
        rows.sort_by_cached_key(|&row| indices[row]);
    }

    fn swap_remove(&mut self, row: usize) {
        self.indices.swap_remove(row);
    }

    fn truncate(&mut self, len: usize) {
        self.indices.truncate(len);
    }

    fn clear(&mut self) {
        self.indices.truncate(0);
    }

    fn reserve(&mut self, additional: usize) {
        self.indices.reserve(additional);
    }

    fn shrink_to_fit(&mut self) {
        self.indices.shrink_to_fit();
    }

    #[inline]
    fn raw(&self) -> &[u8] {
        self.indices.as_slice()
    }

    fn memory_bytes(&self) -> usize {
        self.indices.keys().capacity()
    }

    fn to_array_with(&self, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(self.indices.to_dictionary(E::dictionary().names(), nulls))
    }

    fn from_array(array: &ArrayRef, column: &str) -> Result<Self> {
        let is_text = |found: &ArrowType| matches!(found, ArrowType::Utf8 | ArrowType::LargeUtf8 | ArrowType::Utf8View);
        let keys = match array.data_type() {
            ArrowType::Dictionary(key, values) if is_text(values) && **key == ArrowType::UInt8 => {
                from_dictionary::<E>(array, column)?
            }
            ArrowType::Dictionary(_, values) if is_text(values) => from_names::<E>(array, column)?,
            found if is_text(found) => from_names::<E>(array, column)?,
            found => return Err(wrong_type::<Self>(column, found)),
        };
        let indices = Indices::from_keys(keys, E::VARIANTS.len()).expect("keys were mapped to the variants");
        Ok(Self::new(indices))
    }
}

impl<E: SoaEnum> ValueColumn for EnumColumn<E> {}

/// The kind of enum fields with `#[soa(as_int)]`: stored as the number of the variant, not as its name.
pub struct AsInt<E>(PhantomData<fn() -> E>);

impl<E> Debug for AsInt<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AsInt")
    }
}

impl<E: SoaEnum> AsInt<E> {
    /// The variants' numbers; larger ones than the column holds are refused when the code is compiled.
    const NUMBERS: &'static [i64] = {
        let mut index = 0;
        while index < E::NUMBERS.len() {
            let number = E::NUMBERS[index];
            assert!(number == number as i32 as i64, "the number of a variant with `as_int` fits an i32");
            index += 1;
        }
        E::NUMBERS
    };

    fn variant(number: i32) -> Option<E> {
        let number = i64::from(number);
        // Mostly they count from 0.
        let first = usize::try_from(number).ok().filter(|index| Self::NUMBERS.get(*index) == Some(&number));
        let index = first.or_else(|| Self::NUMBERS.iter().position(|known| *known == number))?;
        E::VARIANTS.get(index).copied()
    }
}

impl<E: SoaEnum> FixedKind for AsInt<E> {
    type Value = E;
    type Native = i32;
    type Outcome = ();

    fn data_type() -> DataType {
        DataType::Int32
    }

    #[inline]
    fn encode(value: E) -> Result<i32, String> {
        Ok(Self::NUMBERS[usize::from(value.index())] as i32)
    }

    #[inline]
    fn decode(native: i32) -> E {
        Self::variant(native).expect("stored numbers were checked")
    }

    fn to_array(values: &Column<i32>, nulls: Option<NullBuffer>) -> ArrayRef {
        Arc::new(Int32Array::new(values.share(), nulls))
    }

    fn from_array(array: &ArrayRef, column: &str) -> Result<Column<i32>> {
        let numbers = array.as_primitive::<Int32Type>();
        if let Some(unknown) = numbers.iter().flatten().find(|number| Self::variant(*number).is_none()) {
            let known = Self::NUMBERS.iter().map(i64::to_string).collect::<Vec<_>>().join(", ");
            return Err(Error::value(column, format!("the enum has no variant {unknown}; its variants are {known}")));
        }
        Ok(Column::from_scalar_buffer(numbers.values().clone()))
    }
}

fn unknown_name<E: SoaEnum>(column: &str, name: &str) -> Error {
    Error::value(column, format!("the enum has no variant \"{name}\"; its variants are {}", E::NAMES.join(", ")))
}

/// Keys into another dictionary as indices of `E`'s variants, matched by name; not copied where the
/// two lists agree.
fn from_dictionary<E: SoaEnum>(array: &ArrayRef, column: &str) -> Result<ScalarBuffer<u8>> {
    let array = array.as_dictionary::<UInt8Type>();
    let names = to_views(array.values(), column)?;
    let names = names.as_string_view();
    let targets: Vec<Option<u8>> = names.iter().map(|name| name.and_then(|name| index_of::<E>(name))).collect();
    let keys = array.keys().values();
    let same = |(from, to): (usize, &Option<u8>)| to.is_none_or(|to| usize::from(to) == from);
    let highest = keys.iter().copied().max().map_or(0, usize::from);
    let known = targets.iter().take(highest + 1).all(Option::is_some);
    // Keys beneath NULLs may be beyond the names: only keys that all have a target are taken as they are.
    if keys.is_empty() || (known && highest < targets.len() && targets.iter().enumerate().all(same)) {
        return Ok(keys.clone());
    }
    let nulls = array.logical_nulls();
    let mapped = keys.iter().enumerate().map(|(row, &key)| {
        if nulls.as_ref().is_some_and(|nulls| nulls.is_null(row)) {
            return Ok(0);
        }
        targets[usize::from(key)].ok_or_else(|| unknown_name::<E>(column, names.value(usize::from(key))))
    });
    mapped.collect::<Result<Vec<u8>>>().map(ScalarBuffer::from)
}

/// Names as indices of `E`'s variants.
fn from_names<E: SoaEnum>(array: &ArrayRef, column: &str) -> Result<ScalarBuffer<u8>> {
    let views = to_views(array, column)?;
    let known: HashMap<&str, u8> = E::NAMES.iter().zip(0..=u8::MAX).map(|(name, index)| (*name, index)).collect();
    let mapped = views.as_string_view().iter().map(|name| match name {
        None => Ok(0),
        Some(name) => known.get(name).copied().ok_or_else(|| unknown_name::<E>(column, name)),
    });
    mapped.collect::<Result<Vec<u8>>>().map(ScalarBuffer::from)
}

fn index_of<E: SoaEnum>(name: &str) -> Option<u8> {
    E::NAMES.iter().position(|known| *known == name).and_then(|index| u8::try_from(index).ok())
}

fn to_views(array: &ArrayRef, column: &str) -> Result<ArrayRef> {
    cast(array, &ArrowType::Utf8View).map_err(Error::arrow(format!("column \"{column}\" cannot be read as names")))
}
