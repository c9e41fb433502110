//! The column of `BTreeMap` and `HashMap` fields.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::fmt::{self, Debug};
use std::hash::{BuildHasher, Hash};
use std::marker::PhantomData;
use std::ops::Range;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, MapArray, StructArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::{DataType as ArrowType, Field as ArrowField, Fields};

use super::field::{FieldColumn, KeyColumn, SoaField, SoaKey, SoaValue, ValueColumn};
use super::list::{List, elements_from, shared_elements};
use super::spans::{Elements, Spans};
use super::wrong_type;
use crate::error::Result;
use crate::schema::{DataType, arrow_field_of};

/// A type of maps that a field can have.
pub trait MapValue: 'static {
    /// The keys.
    type Key: SoaKey;
    /// What they lead to.
    type Value: SoaField;

    /// The entries, ordered by their keys: equal maps are stored alike.
    fn into_entries(self) -> Vec<(Self::Key, Self::Value)>;

    /// A map of entries; of several with one key the last.
    fn from_entries(entries: impl Iterator<Item = (Self::Key, Self::Value)>) -> Self;
}

impl<K: SoaKey + Ord + 'static, V: SoaField + 'static> MapValue for BTreeMap<K, V> {
    type Key = K;
    type Value = V;

    fn into_entries(self) -> Vec<(K, V)> {
        self.into_iter().collect()
    }

    fn from_entries(entries: impl Iterator<Item = (K, V)>) -> Self {
        entries.collect()
    }
}

impl<K, V, S> MapValue for HashMap<K, V, S>
where
    K: SoaKey + Ord + Hash + 'static,
    V: SoaField + 'static,
    S: BuildHasher + Default + 'static,
{
    type Key = K;
    type Value = V;

    fn into_entries(self) -> Vec<(K, V)> {
        let mut entries: Vec<(K, V)> = self.into_iter().collect();
        entries.sort_unstable_by(|(left, _), (right, _)| left.cmp(right));
        entries
    }

    fn from_entries(entries: impl Iterator<Item = (K, V)>) -> Self {
        entries.collect()
    }
}

type Keys<M> = <<M as MapValue>::Key as SoaField>::Column;
type Values<M> = <<M as MapValue>::Value as SoaField>::Column;

/// The entries of all rows.
#[derive(Clone, Default)]
struct Entries<K, V> {
    keys: K,
    values: V,
}

impl<K: FieldColumn, V: FieldColumn> Elements for Entries<K, V> {
    fn element_count(&self) -> usize {
        self.keys.len()
    }

    fn append_from(&mut self, other: &Self, elements: Range<usize>) {
        self.keys.extend_from(&other.keys, elements.clone());
        self.values.extend_from(&other.values, elements);
    }

    fn keep_first(&mut self, len: usize) {
        self.keys.truncate(len);
        self.values.truncate(len);
    }

    fn make_room(&mut self, additional: usize) {
        self.keys.reserve(additional);
        self.values.reserve(additional);
    }

    fn give_back(&mut self) {
        self.keys.shrink_to_fit();
        self.values.shrink_to_fit();
    }

    fn byte_count(&self) -> usize {
        self.keys.memory_bytes() + self.values.memory_bytes()
    }
}

/// A column of maps: the keys of all rows in one column, the values in another, and where each row's end. As with
/// [`List`], a row in the middle that gets other entries leaves its place.
pub struct Map<M: MapValue> {
    spans: Spans<Entries<Keys<M>, Values<M>>>,
    maps: PhantomData<fn() -> M>,
}

impl<M: MapValue> Map<M> {
    fn new(spans: Spans<Entries<Keys<M>, Values<M>>>) -> Self {
        Self { spans, maps: PhantomData }
    }

    /// The keys of all rows.
    pub fn keys(&self) -> &Keys<M> {
        &self.spans.elements().keys
    }

    /// The values of all rows, each with its key.
    pub fn values(&self) -> &Values<M> {
        &self.spans.elements().values
    }

    /// The entries of all rows as Arrow has them.
    fn entries(entries: &Entries<Keys<M>, Values<M>>) -> StructArray {
        let (keys, values) = (entries.keys.to_array(), entries.values.to_array());
        let key = arrow_field_of(&Keys::<M>::field("key"), keys.data_type().clone());
        let value = arrow_field_of(&Values::<M>::field("value"), values.data_type().clone());
        StructArray::new(Fields::from(vec![key, value]), vec![keys, values], None)
    }
}

impl<M: MapValue> Clone for Map<M> {
    fn clone(&self) -> Self {
        Self::new(self.spans.clone())
    }
}

impl<M: MapValue> Default for Map<M> {
    fn default() -> Self {
        Self::new(Spans::default())
    }
}

impl<M: MapValue> Debug for Map<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries((0..self.len()).map(|row| self.get(row))).finish()
    }
}

/// The entries of a row, ordered by their keys where the row was made of a map.
pub struct MapRef<'a, K, V> {
    keys: &'a K,
    values: &'a V,
    start: usize,
    end: usize,
}

impl<K, V> Clone for MapRef<'_, K, V> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K, V> Copy for MapRef<'_, K, V> {}

impl<'a, K: KeyColumn, V: FieldColumn> MapRef<'a, K, V> {
    /// How many entries there are.
    pub fn len(self) -> usize {
        self.end - self.start
    }

    /// Whether there is no entry.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The entries.
    pub fn iter(self) -> impl ExactSizeIterator<Item = (K::Ref<'a>, V::Ref<'a>)> + DoubleEndedIterator + use<'a, K, V> {
        (self.start..self.end).map(move |entry| (self.keys.get(entry), self.values.get(entry)))
    }

    /// The keys.
    pub fn keys(self) -> impl ExactSizeIterator<Item = K::Ref<'a>> + DoubleEndedIterator + use<'a, K, V> {
        (self.start..self.end).map(move |entry| self.keys.get(entry))
    }

    /// The values.
    pub fn values(self) -> impl ExactSizeIterator<Item = V::Ref<'a>> + DoubleEndedIterator + use<'a, K, V> {
        (self.start..self.end).map(move |entry| self.values.get(entry))
    }

    /// Whether a key is there: looks at one after the other.
    pub fn contains_key<Q: Borrow<K::Key> + ?Sized>(self, key: &Q) -> bool {
        (self.start..self.end).any(|entry| self.keys.is_at(entry, key.borrow()))
    }

    /// What a key leads to, if it is there: looks at one key after the other, the last one first.
    pub fn get<Q: Borrow<K::Key> + ?Sized>(self, key: &Q) -> Option<V::Ref<'a>> {
        let entry = (self.start..self.end).rev().find(|&entry| self.keys.is_at(entry, key.borrow()))?;
        Some(self.values.get(entry))
    }
}

impl<K: KeyColumn, V: FieldColumn> Debug for MapRef<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.iter()).finish()
    }
}

/// Whatever the order of the entries is.
impl<K: KeyColumn, V: FieldColumn> PartialEq for MapRef<'_, K, V> {
    fn eq(&self, other: &Self) -> bool {
        let all_in = |some: &Self, others: &Self| some.iter().all(|entry| others.iter().any(|other| other == entry));
        self.len() == other.len()
            && (self.iter().zip(other.iter()).all(|(left, right)| left == right)
                || (all_in(self, other) && all_in(other, self)))
    }
}

impl<M: MapValue> FieldColumn for Map<M> {
    type Value = M;
    type Stored = Vec<(<Keys<M> as FieldColumn>::Stored, <Values<M> as FieldColumn>::Stored)>;
    type Ref<'a> = MapRef<'a, Keys<M>, Values<M>>;
    type Raw<'a> = &'a Self;
    type Outcome = Result<()>;

    const NULLABLE: bool = false;

    fn data_type() -> DataType {
        DataType::map(Keys::<M>::data_type(), Values::<M>::data_type(), Values::<M>::NULLABLE)
    }

    #[inline]
    fn len(&self) -> usize {
        self.spans.len()
    }

    #[inline]
    fn get(&self, row: usize) -> Self::Ref<'_> {
        let (span, entries) = (self.spans.span(row), self.spans.elements());
        MapRef { keys: &entries.keys, values: &entries.values, start: span.start, end: span.end }
    }

    fn to_value(value: Self::Ref<'_>) -> M {
        M::from_entries(value.iter().map(|(key, value)| (Keys::<M>::to_value(key), Values::<M>::to_value(value))))
    }

    fn encode(value: M) -> Result<Self::Stored, String> {
        let encoded = value.into_entries().into_iter().enumerate().map(|(index, (key, value))| {
            let wrong = |message: String| format!("entry {index}: {message}");
            Ok((Keys::<M>::encode(key).map_err(wrong)?, Values::<M>::encode(value).map_err(wrong)?))
        });
        encoded.collect()
    }

    fn blank() -> Self::Stored {
        Vec::new()
    }

    fn push(&mut self, value: Self::Stored) {
        self.spans.push(|entries| entries.add(value));
    }

    fn set(&mut self, row: usize, value: Self::Stored) {
        self.spans.replace(row, |entries| entries.add(value));
    }

    fn swap(&mut self, left: usize, right: usize) {
        self.spans.swap(left, right);
    }

    fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        self.spans.extend_from(&other.spans, rows);
    }

    fn slice(&self, rows: Range<usize>) -> Self {
        match self.spans.slice(rows.clone()) {
            Some(slice) => Self::new(slice),
            None => Self::from_array(&self.to_array().slice(rows.start, rows.len()), "")
                .expect("values that were in a column fit it"),
        }
    }

    fn keep(&mut self, ranges: &[Range<usize>]) {
        self.spans.rearrange(ranges.iter().cloned().flatten());
    }

    fn rearrange(&mut self, rows: &[usize]) {
        self.spans.rearrange(rows.iter().copied());
    }

    fn swap_remove(&mut self, row: usize) {
        self.spans.swap_remove(row);
    }

    fn truncate(&mut self, len: usize) {
        self.spans.truncate(len);
    }

    fn clear(&mut self) {
        self.spans.clear();
    }

    fn reserve(&mut self, additional: usize) {
        self.spans.reserve(additional);
    }

    fn shrink_to_fit(&mut self) {
        self.spans.shrink_to_fit();
    }

    #[inline]
    fn raw(&self) -> &Self {
        self
    }

    fn memory_bytes(&self) -> usize {
        self.spans.memory_bytes()
    }

    fn to_array_with(&self, nulls: Option<NullBuffer>) -> ArrayRef {
        let (offsets, entries) = self.spans.in_order();
        let entries = Self::entries(&entries);
        let field = Arc::new(ArrowField::new("key_value", entries.data_type().clone(), false));
        Arc::new(MapArray::new(field, offsets, entries, nulls, false))
    }

    fn from_array(array: &ArrayRef, column: &str) -> Result<Self> {
        let ArrowType::Map(_, _) = array.data_type() else {
            return Err(wrong_type::<Self>(column, array.data_type()));
        };
        let maps = array.as_map();
        let side = |side: &ArrayRef| shared_elements(side, maps.offsets(), maps.nulls(), column);
        let ((keys, offsets), (values, _)) = (side(maps.keys())?, side(maps.values())?);
        let entries =
            Entries { keys: elements_from(&keys, None, column)?, values: elements_from(&values, None, column)? };
        Ok(Self::new(Spans::from_offsets(&offsets, entries)))
    }
}

impl<K: FieldColumn, V: FieldColumn> Entries<K, V> {
    fn add(&mut self, entries: Vec<(K::Stored, V::Stored)>) {
        for (key, value) in entries {
            self.keys.push(key);
            self.values.push(value);
        }
    }
}

impl<M: MapValue> ValueColumn for Map<M> {}

impl<K: SoaKey + Ord + 'static, V: SoaField + 'static> SoaField for BTreeMap<K, V> {
    type Column = Map<Self>;
    type List = List<Map<Self>>;
}

impl<K: SoaKey + Ord + 'static, V: SoaField + 'static> SoaValue for BTreeMap<K, V> {}

impl<K, V, S> SoaField for HashMap<K, V, S>
where
    K: SoaKey + Ord + Hash + 'static,
    V: SoaField + 'static,
    S: BuildHasher + Default + 'static,
{
    type Column = Map<Self>;
    type List = List<Map<Self>>;
}

impl<K, V, S> SoaValue for HashMap<K, V, S>
where
    K: SoaKey + Ord + Hash + 'static,
    V: SoaField + 'static,
    S: BuildHasher + Default + 'static,
{
}
