//! Copy-on-write column storage: the one place of the kernel with unsafe code.
//!
//! [`Column`] is a `Vec` that can become an Arrow buffer behind `&self`, and a `Vec` again once nobody
//! else holds it; neither step moves a byte. [`Views`] and [`Indices`] keep the promises about their
//! values (valid views of text or bytes, dictionary keys in range) that let their Arrow arrays be made without
//! checking every row again.
#![expect(unsafe_code, reason = "a vector behind a shared reference becomes an Arrow buffer; each block proves itself")]

use std::borrow::Borrow;
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::marker::PhantomData;
use std::mem::{self, ManuallyDrop};
use std::ops::Range;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};

use arrow::array::{Array, ArrayRef, ByteView, DictionaryArray, GenericByteViewArray, PrimitiveArray, make_view};
use arrow::buffer::{Buffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{
    ArrowNativeType, BinaryViewType, ByteViewType, DataType as ArrowType, StringViewType, ToByteSlice, UInt8Type,
};

use crate::schema::DataType;

/// Values of one fixed-width type, growable like a `Vec` and shareable with Arrow without a copy.
///
/// Sharing ([`share`](Self::share)) hands out the allocation itself. The first write afterwards takes
/// it back if nobody else holds it any more, and copies it otherwise.
pub struct Column<T: ArrowNativeType> {
    // While `shared` is unset: pointer, length and capacity of a `Vec<T>` that this column owns.
    // Once it is set: the first value and the number of values of exactly that buffer, which must not
    // be written through; `capacity` is 0 then, so that a push has one thing to ask: whether there is room.
    ptr: NonNull<T>,
    len: usize,
    // Atomic because `share` sets it behind `&self`; nothing but the closure that sets `shared` ever does, so it needs no
    // ordering of its own.
    capacity: AtomicUsize,
    shared: OnceLock<Buffer>,
}

/// A copy of shared values has room for so many more at most.
const COPY_ROOM_MAX: usize = 1 << 16;
/// Columns of at least this many bytes grow by seven eighths, not to twice their size: while the largest column of a record
/// moves, all of its columns together then take no more than twice what they need.
const LARGE_BYTES: usize = 64 << 10;

// SAFETY: a column owns its values as a `Vec<T>` or an Arrow `Buffer` does, and both are `Send` for
// `T: Send`, which `ArrowNativeType` requires. `ptr` points into what is owned, nowhere else.
unsafe impl<T: ArrowNativeType> Send for Column<T> {}

// SAFETY: `&Column` allows to read the values and to call `share`. `share` sets `shared` through a
// `OnceLock`, which lets one thread do it, and moves no value; so reads in other threads stay valid.
unsafe impl<T: ArrowNativeType> Sync for Column<T> {}

impl<T: ArrowNativeType> Column<T> {
    /// No values and no allocation.
    pub fn new() -> Self {
        Self::from(Vec::new())
    }

    /// No values, and room for `capacity` of them.
    pub fn with_capacity(capacity: usize) -> Self {
        Self::from(Vec::with_capacity(capacity))
    }

    /// The values of an Arrow buffer, without a copy.
    ///
    /// The first write copies them, unless this column is the only holder of the buffer by then.
    pub fn from_scalar_buffer(values: ScalarBuffer<T>) -> Self {
        let slice: &[T] = &values;
        let (ptr, len) = (NonNull::from(slice).cast(), slice.len());
        // The buffer may end in part of a value; `shared` holds whole ones.
        let buffer = values.into_inner().slice_with_length(0, len * size_of::<T>());
        Self { ptr, len, capacity: AtomicUsize::new(0), shared: OnceLock::from(buffer) }
    }

    /// The values as an Arrow buffer that shares them with this column, without a copy.
    pub fn share(&self) -> ScalarBuffer<T> {
        let buffer = self.shared.get_or_init(|| {
            // SAFETY: `shared` is unset, so the three are the parts of a vector that this column owns.
            // Nothing takes them apart a second time: this closure runs to its end once (`from_vec`
            // does not unwind: it moves the vector and allocates a header, and a failed allocation
            // aborts), and from then on `shared` is set. The values stay where they are.
            let vec =
                unsafe { Vec::from_raw_parts(self.ptr.as_ptr(), self.len, self.capacity.swap(0, Ordering::Relaxed)) };
            Buffer::from_vec(vec)
        });
        ScalarBuffer::from(buffer.clone())
    }

    /// The values as an Arrow buffer, without a copy.
    pub fn into_scalar_buffer(mut self) -> ScalarBuffer<T> {
        match self.shared.take() {
            Some(buffer) => {
                // `shared` is unset now: leave an empty vector behind for `drop`.
                self.leave_empty();
                ScalarBuffer::from(buffer)
            }
            None => ScalarBuffer::from(self.take_vec(0)),
        }
    }

    /// The values.
    #[inline]
    pub fn as_slice(&self) -> &[T] {
        // SAFETY: in both states `ptr` points to `len` initialised values (for none it is dangling but
        // aligned), in one allocation that lives as long as `self` is not mutated; `share`, the one
        // change that is possible while the slice is borrowed, does not move them.
        unsafe { std::slice::from_raw_parts(self.ptr.as_ptr(), self.len) }
    }

    /// The values, to be written: copied first if somebody else holds them.
    #[inline]
    pub fn as_mut_slice(&mut self) -> &mut [T] {
        if self.is_shared() {
            self.own(0);
        }
        // SAFETY: `shared` is unset, so `ptr` and `len` describe the values of a vector that this column
        // owns, and `&mut self` makes this the only reference to them.
        unsafe { std::slice::from_raw_parts_mut(self.ptr.as_ptr(), self.len) }
    }

    /// How many values there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    /// Whether there is no value.
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Appends a value.
    #[inline]
    pub fn push(&mut self, value: T) {
        if self.len >= *self.capacity.get_mut() {
            self.grow();
        }
        // SAFETY: `grow` leaves a vector that this column owns with `len < capacity`, as there is when the
        // test is false, for `capacity` is 0 while `shared` is set; so the end of the values is inside that allocation.
        let end = unsafe { self.ptr.add(self.len) };
        // SAFETY: `end` is aligned, inside the allocation (above), and `&mut self` excludes other access.
        unsafe { end.write(value) };
        self.len += 1;
    }

    /// Appends all of `values`.
    pub fn extend_from_slice(&mut self, values: &[T]) {
        self.reserve(values.len());
        let mut vec = self.take_vec(0);
        vec.extend_from_slice(values);
        *self = Self::from(vec);
    }

    /// Replaces the value at `row` by the last one, which goes.
    ///
    /// # Panics
    ///
    /// When `row` is not below [`len`](Self::len).
    pub fn swap_remove(&mut self, row: usize) {
        let values = self.as_mut_slice();
        let last = *values.last().expect("a row can only be removed where there is one");
        values[row] = last;
        self.len -= 1;
    }

    /// Drops all values but the first `len`.
    pub fn truncate(&mut self, len: usize) {
        if len >= self.len {
            return;
        }
        self.len = len;
        if let Some(buffer) = self.shared.take() {
            self.shared = OnceLock::from(buffer.slice_with_length(0, len * size_of::<T>()));
        }
    }

    /// Drops all values; keeps the allocation if nobody else holds it.
    pub fn clear(&mut self) {
        self.truncate(0);
    }

    /// The values at `rows`, shared with this column: no copy.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    pub fn slice(&self, rows: Range<usize>) -> Self {
        assert!(rows.end <= self.len, "there are rows up to {}, not up to {}", self.len, rows.end);
        Self::from_scalar_buffer(self.share().slice(rows.start, rows.len()))
    }

    /// Drops all values but those at `ranges`, which ascend: in place, unless somebody else holds them.
    ///
    /// # Panics
    ///
    /// When there are not so many.
    pub fn keep(&mut self, ranges: &[Range<usize>]) {
        if !self.make_unique() {
            let mut kept = Vec::with_capacity(ranges.iter().map(Range::len).sum());
            ranges.iter().for_each(|range| kept.extend_from_slice(&self.as_slice()[range.clone()]));
            *self = Self::from(kept);
            return;
        }
        let (values, mut end) = (self.as_mut_slice(), 0);
        for range in ranges {
            values.copy_within(range.clone(), end);
            end += range.len();
        }
        self.truncate(end);
    }

    /// Makes the column hold the values at `rows`, in that order.
    ///
    /// # Panics
    ///
    /// When one of them is not there.
    pub fn rearrange(&mut self, rows: &[usize]) {
        let values = self.as_slice();
        *self = Self::from(rows.iter().map(|&row| values[row]).collect::<Vec<_>>());
    }

    /// Makes room for one more value, and for a share of those that there are: as many again, or seven eighths of them once
    /// they are large.
    #[cold]
    #[inline(never)]
    fn grow(&mut self) {
        let mut vec = self.take_vec(1);
        let reserved = if vec.capacity() * size_of::<T>() < LARGE_BYTES {
            vec.try_reserve(1)
        } else if vec.len() == vec.capacity() {
            vec.try_reserve_exact(vec.len() - vec.len() / 8)
        } else {
            Ok(())
        };
        *self = Self::from(vec);
        reserved.expect("there is memory for one more value");
    }

    /// Makes room for `additional` more values.
    pub fn reserve(&mut self, additional: usize) {
        let mut vec = self.take_vec(additional);
        let reserved = vec.try_reserve(additional);
        // Put back before anything can panic: the other columns keep their rows, and so must this one.
        *self = Self::from(vec);
        reserved.expect("there is memory for the values");
    }

    /// Makes room for exactly `additional` more values.
    pub(crate) fn reserve_exact(&mut self, additional: usize) {
        let mut vec = self.take_vec(0);
        let reserved = vec.try_reserve_exact(additional);
        *self = Self::from(vec);
        reserved.expect("there is memory for the values");
    }

    /// Gives unused memory back, unless somebody else holds the values too.
    pub fn shrink_to_fit(&mut self) {
        if self.make_unique() {
            let mut vec = self.take_vec(0);
            vec.shrink_to_fit();
            *self = Self::from(vec);
        }
    }

    /// How many values the allocation has room for.
    pub fn capacity(&self) -> usize {
        self.shared
            .get()
            .map_or_else(|| self.capacity.load(Ordering::Relaxed), |buffer| buffer.capacity() / size_of::<T>())
    }

    /// Whether the values were shared since the last write. They may have been given back meanwhile.
    #[inline]
    pub(crate) fn is_shared(&mut self) -> bool {
        self.shared.get_mut().is_some()
    }

    /// Takes the values back if nobody else holds them; says whether this column is their only owner.
    pub(crate) fn make_unique(&mut self) -> bool {
        match self.shared.take() {
            None => true,
            Some(buffer) => match buffer.into_vec() {
                Ok(vec) => {
                    // The old parts belong to `vec`: they must not be dropped by the assignment.
                    self.leave_empty();
                    *self = Self::from(vec);
                    true
                }
                Err(buffer) => {
                    self.shared = OnceLock::from(buffer);
                    false
                }
            },
        }
    }

    /// Makes this column the only owner of its values, by a copy if need be.
    #[cold]
    #[inline(never)]
    fn own(&mut self, additional: usize) {
        let vec = self.take_vec(additional);
        *self = Self::from(vec);
    }

    /// Moves the values out, by a copy if somebody else holds them too; leaves no values.
    fn take_vec(&mut self, additional: usize) -> Vec<T> {
        let shared = self.shared.take();
        let (ptr, len, capacity) = self.leave_empty();
        let Some(buffer) = shared else {
            // SAFETY: `shared` was unset, so these were the parts of a vector that this column owned, and
            // `leave_empty` made it forget them.
            return unsafe { Vec::from_raw_parts(ptr.as_ptr(), len, capacity) };
        };
        buffer.into_vec().unwrap_or_else(|buffer| {
            // Whoever appends will do so again: leave room, so that the copy is not copied next.
            // (Not all that is asked for: that may be more than there is, and is for the caller to find out.)
            let room = if additional == 0 { 0 } else { additional.min(COPY_ROOM_MAX).max(len / 4) };
            let mut vec = Vec::with_capacity(len + room);
            vec.extend_from_slice(&ScalarBuffer::<T>::from(buffer));
            vec
        })
    }

    /// Forgets the values and returns what they were; for use when `shared` was just unset.
    fn leave_empty(&mut self) -> (NonNull<T>, usize, usize) {
        let ptr = mem::replace(&mut self.ptr, NonNull::dangling());
        (ptr, mem::take(&mut self.len), mem::take(self.capacity.get_mut()))
    }
}

impl<T: ArrowNativeType> From<Vec<T>> for Column<T> {
    fn from(vec: Vec<T>) -> Self {
        let mut vec = ManuallyDrop::new(vec);
        let ptr = NonNull::new(vec.as_mut_ptr()).expect("a vector's pointer is never null");
        Self { ptr, len: vec.len(), capacity: AtomicUsize::new(vec.capacity()), shared: OnceLock::new() }
    }
}

impl<T: ArrowNativeType> Drop for Column<T> {
    fn drop(&mut self) {
        if !self.is_shared() {
            // SAFETY: `shared` is unset, so these are the parts of a vector that this column owns, and
            // nothing uses them after `drop`.
            drop(unsafe { Vec::from_raw_parts(self.ptr.as_ptr(), self.len, *self.capacity.get_mut()) });
        }
    }
}

impl<T: ArrowNativeType> Clone for Column<T> {
    /// Shares the values; whichever of the two is written first copies them.
    fn clone(&self) -> Self {
        Self::from_scalar_buffer(self.share())
    }
}

impl<T: ArrowNativeType> Default for Column<T> {
    fn default() -> Self {
        Self::new()
    }
}

impl<T: ArrowNativeType> fmt::Debug for Column<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.as_slice()).finish()
    }
}

/// Bytes that index a list of at most 256 entries: the keys of a dictionary array.
#[derive(Clone, Debug)]
pub(crate) struct Indices {
    /// Each below `bound`.
    keys: Column<u8>,
    bound: usize,
}

impl Indices {
    /// No indices; each that comes must be below `bound`.
    pub(crate) fn new(bound: usize) -> Self {
        Self { keys: Column::new(), bound }
    }

    /// The keys of an Arrow array, without a copy, or `None` if one is not below `bound`.
    pub(crate) fn from_keys(keys: ScalarBuffer<u8>, bound: usize) -> Option<Self> {
        let highest = keys.iter().copied().max().map_or(0, usize::from);
        (keys.is_empty() || highest < bound).then(|| Self { keys: Column::from_scalar_buffer(keys), bound })
    }

    #[inline]
    pub(crate) fn as_slice(&self) -> &[u8] {
        self.keys.as_slice()
    }

    /// # Panics
    ///
    /// When `index` is not below the bound.
    #[inline]
    pub(crate) fn push(&mut self, index: u8) {
        self.check(index);
        self.keys.push(index);
    }

    /// # Panics
    ///
    /// When `index` is not below the bound.
    #[inline]
    pub(crate) fn set(&mut self, row: usize, index: u8) {
        self.check(index);
        self.keys.as_mut_slice()[row] = index;
    }

    #[inline]
    fn check(&self, index: u8) {
        assert!(usize::from(index) < self.bound, "an enum's index is that of one of its variants");
    }

    /// The column, for what changes no value.
    pub(crate) fn keys(&self) -> &Column<u8> {
        &self.keys
    }

    pub(crate) fn swap(&mut self, left: usize, right: usize) {
        self.keys.as_mut_slice().swap(left, right);
    }

    /// # Panics
    ///
    /// When the other's indices may be beyond this one's bound, or there are not so many.
    pub(crate) fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        assert!(other.bound <= self.bound, "indices of one enum");
        self.keys.extend_from_slice(&other.keys.as_slice()[rows]);
    }

    pub(crate) fn slice(&self, rows: Range<usize>) -> Self {
        Self { keys: self.keys.slice(rows), bound: self.bound }
    }

    pub(crate) fn keep(&mut self, ranges: &[Range<usize>]) {
        self.keys.keep(ranges);
    }

    pub(crate) fn rearrange(&mut self, rows: &[usize]) {
        self.keys.rearrange(rows);
    }

    pub(crate) fn swap_remove(&mut self, row: usize) {
        self.keys.swap_remove(row);
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        self.keys.truncate(len);
    }

    pub(crate) fn reserve(&mut self, additional: usize) {
        self.keys.reserve(additional);
    }

    pub(crate) fn shrink_to_fit(&mut self) {
        self.keys.shrink_to_fit();
    }

    /// The dictionary array of these keys and `values`, without a copy or a pass over the keys.
    ///
    /// # Panics
    ///
    /// When `values` are fewer than the bound, or `nulls` has another length.
    pub(crate) fn to_dictionary(&self, values: &ArrayRef, nulls: Option<NullBuffer>) -> DictionaryArray<UInt8Type> {
        assert!(values.len() >= self.bound, "every index has a name");
        let keys = PrimitiveArray::<UInt8Type>::new(self.keys.share(), nulls);
        // SAFETY: `try_new` refuses keys that are not below the number of values. `push`, `set` and
        // `from_keys`, the only ways in, keep every key below `bound`, and `values` has that many.
        unsafe { DictionaryArray::new_unchecked(keys, Arc::clone(values)) }
    }
}

/// What a column of views holds: text or bytes.
pub trait ViewKind: sealed::Sealed + Debug + 'static {
    /// A value, borrowed.
    type Value: ?Sized + Debug + Eq + Hash + Ord + ToOwned<Owned = Self::Owned>;
    /// A value.
    type Owned: Debug + Default + Borrow<Self::Value>;
    /// Arrow's name for the kind.
    type Arrow: ByteViewType<Native = Self::Value>;

    /// The column's type in a schema.
    fn data_type() -> DataType;

    /// Whether an Arrow array of this type holds such values in another layout.
    fn has_layout(arrow: &ArrowType) -> bool;

    /// The bytes of a value.
    fn bytes(value: &Self::Value) -> &[u8];

    /// The value that has these bytes.
    ///
    /// # Safety
    ///
    /// They are the bytes of a value.
    unsafe fn value(bytes: &[u8]) -> &Self::Value;
}

mod sealed {
    /// Columns rely on what the two kinds do.
    pub trait Sealed {}
    impl Sealed for super::Utf8 {}
    impl Sealed for super::Binary {}
}

/// Text of UTF-8.
#[derive(Debug, Clone, Copy)]
pub struct Utf8;

impl ViewKind for Utf8 {
    type Value = str;
    type Owned = String;
    type Arrow = StringViewType;

    fn data_type() -> DataType {
        DataType::Utf8
    }

    fn has_layout(arrow: &ArrowType) -> bool {
        matches!(arrow, ArrowType::Utf8 | ArrowType::LargeUtf8)
    }

    #[inline]
    fn bytes(value: &str) -> &[u8] {
        value.as_bytes()
    }

    #[inline]
    unsafe fn value(bytes: &[u8]) -> &str {
        // SAFETY: the bytes of a `str` are UTF-8.
        unsafe { std::str::from_utf8_unchecked(bytes) }
    }
}

/// Any bytes.
#[derive(Debug, Clone, Copy)]
pub struct Binary;

impl ViewKind for Binary {
    type Value = [u8];
    type Owned = Vec<u8>;
    type Arrow = BinaryViewType;

    fn data_type() -> DataType {
        DataType::Binary
    }

    fn has_layout(arrow: &ArrowType) -> bool {
        matches!(arrow, ArrowType::Binary | ArrowType::LargeBinary)
    }

    #[inline]
    fn bytes(value: &[u8]) -> &[u8] {
        value
    }

    #[inline]
    unsafe fn value(bytes: &[u8]) -> &[u8] {
        bytes
    }
}

/// A column of text.
pub type Text = Views<Utf8>;
/// A column of byte strings.
pub type Bytes = Views<Binary>;

/// Text or bytes: one Arrow view of 16 bytes per value, and blocks of bytes for values longer than 12.
///
/// Bytes that no value uses any more are collected when they are more than half of all.
pub struct Views<K> {
    /// Each is a valid Arrow view into `blocks` followed by `tail`, and what it shows are the bytes of a value.
    views: Column<u128>,
    /// Never written again.
    blocks: Vec<Buffer>,
    /// The block in progress: only appended to.
    tail: Column<u8>,
    /// Bytes of all values too long for their view. More than there are bytes when values share some.
    live: usize,
    /// Bytes in `blocks`.
    frozen: usize,
    kind: PhantomData<fn() -> K>,
}

/// The longest value that can be stored, in bytes: Arrow's lengths are 31 bits.
pub(crate) const MAX_VIEW_BYTES: usize = i32::MAX as usize;

/// A value of up to this many bytes is inside its view.
const INLINE_BYTES: usize = 12;

/// A block is finished when the next value would take it beyond this many bytes.
const BLOCK_BYTES: usize = 2 << 20;

/// Up to this many bytes, a shared block in progress is copied rather than finished: many small
/// blocks would cost more.
const COPY_BYTES: usize = 4 << 10;

/// Below this many bytes nothing is collected.
const COLLECT_BYTES: usize = 4 << 10;

impl<K: ViewKind> Views<K> {
    /// The value at `row`.
    ///
    /// # Panics
    ///
    /// When `row` is not below [`len`](Self::len).
    #[inline]
    pub fn get(&self, row: usize) -> &K::Value {
        let bytes = bytes_of(&self.views.as_slice()[row], &self.blocks, self.tail.as_slice());
        // SAFETY: the views show the bytes of values: `store` copies those of whole ones and describes just them,
        // `from_array` takes the views of an array that promises it, and bytes that were written never change.
        unsafe { K::value(bytes) }
    }

    /// The values, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &K::Value> + DoubleEndedIterator {
        (0..self.len()).map(|row| self.get(row))
    }

    /// How many values there are.
    #[inline]
    pub fn len(&self) -> usize {
        self.views.len()
    }

    /// Whether there is no value.
    pub fn is_empty(&self) -> bool {
        self.views.is_empty()
    }

    /// The 16-byte Arrow views; those of more than 12 bytes point into blocks.
    pub fn views(&self) -> &[u128] {
        self.views.as_slice()
    }

    /// Bytes allocated for views and blocks.
    pub fn memory_bytes(&self) -> usize {
        let blocks: usize = self.blocks.iter().map(Buffer::capacity).sum();
        self.views.capacity() * size_of::<u128>() + blocks + self.tail.capacity()
    }

    /// # Panics
    ///
    /// When the value is longer than [`MAX_VIEW_BYTES`].
    pub(crate) fn push(&mut self, value: &K::Value) {
        let view = self.store(value);
        self.views.push(view);
    }

    /// # Panics
    ///
    /// When the value is longer than [`MAX_VIEW_BYTES`], or `row` is not below the length.
    pub(crate) fn set(&mut self, row: usize, value: &K::Value) {
        let old = self.views.as_slice()[row];
        let view = self.store(value);
        self.views.as_mut_slice()[row] = view;
        self.live -= long_bytes(old);
        self.collect_if_due();
    }

    pub(crate) fn swap_remove(&mut self, row: usize) {
        self.live -= long_bytes(self.views.as_slice()[row]);
        self.views.swap_remove(row);
        self.collect_if_due();
    }

    pub(crate) fn swap(&mut self, left: usize, right: usize) {
        self.views.as_mut_slice().swap(left, right);
    }

    pub(crate) fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        self.views.reserve(rows.len());
        rows.for_each(|row| self.push(other.get(row)));
    }

    pub(crate) fn slice(&self, rows: Range<usize>) -> Self {
        let mut part = Self { views: self.views.slice(rows), ..self.clone() };
        part.count_live();
        part
    }

    pub(crate) fn keep(&mut self, ranges: &[Range<usize>]) {
        self.views.keep(ranges);
        self.count_live();
        self.collect_if_due();
    }

    pub(crate) fn rearrange(&mut self, rows: &[usize]) {
        self.views.rearrange(rows);
        self.count_live();
        self.collect_if_due();
    }

    fn count_live(&mut self) {
        self.live = self.views.as_slice().iter().copied().map(long_bytes).sum();
    }

    pub(crate) fn truncate(&mut self, len: usize) {
        if len < self.len() {
            self.live -= self.views.as_slice()[len..].iter().copied().map(long_bytes).sum::<usize>();
            self.views.truncate(len);
            self.collect_if_due();
        }
    }

    pub(crate) fn clear(&mut self) {
        self.views.clear();
        self.blocks.clear();
        self.tail.clear();
        self.live = 0;
        self.frozen = 0;
    }

    pub(crate) fn reserve(&mut self, additional: usize) {
        self.views.reserve(additional);
    }

    pub(crate) fn shrink_to_fit(&mut self) {
        self.views.shrink_to_fit();
        self.tail.shrink_to_fit();
        self.blocks.shrink_to_fit();
    }

    /// The values as an Arrow array that shares them: no copy, and no pass over the values.
    ///
    /// # Panics
    ///
    /// When `nulls` has another length.
    pub(crate) fn to_array(&self, nulls: Option<NullBuffer>) -> GenericByteViewArray<K::Arrow> {
        assert!(nulls.as_ref().is_none_or(|nulls| nulls.len() == self.len()), "one validity bit per value");
        let mut blocks = self.blocks.clone();
        if !self.tail.is_empty() {
            blocks.push(self.tail.share().into_inner());
        }
        // SAFETY: `try_new` refuses views outside the blocks, with a wrong prefix, or of bytes that are
        // those of no value, and a validity of another length. The first three are what `views` promises, for
        // these very blocks: the one in progress is only listed last, as `store` numbers it, and a view
        // into it exists only when it is not empty. The length was just checked.
        unsafe { GenericByteViewArray::new_unchecked(self.views.share(), blocks, nulls) }
    }

    /// The values of an Arrow array, without a copy.
    pub(crate) fn from_array(array: &GenericByteViewArray<K::Arrow>) -> Self {
        // A view array promises valid views of values in all rows but those that are NULL, where anything may stand if
        // it came from another program. `views` promises it for all rows.
        let views = match array.nulls().filter(|nulls| nulls.null_count() > 0) {
            Some(nulls) if array.views().iter().zip(nulls).any(|(view, valid)| !valid && long_bytes(*view) > 0) => {
                let clean = array.views().iter().zip(nulls).map(|(view, valid)| if valid { *view } else { 0 });
                ScalarBuffer::from(clean.collect::<Vec<u128>>())
            }
            _ => array.views().clone(),
        };
        let live = views.iter().copied().map(long_bytes).sum();
        let blocks = array.data_buffers().to_vec();
        let frozen = blocks.iter().map(Buffer::len).sum();
        let views = Column::from_scalar_buffer(views);
        Self { views, blocks, tail: Column::new(), live, frozen, kind: PhantomData }
    }

    /// Copies the value's bytes, if they do not fit a view, and returns its view.
    fn store(&mut self, value: &K::Value) -> u128 {
        let bytes = K::bytes(value);
        if bytes.len() <= INLINE_BYTES {
            return make_view(bytes, 0, 0);
        }
        assert!(bytes.len() <= MAX_VIEW_BYTES, "a value of more than 2 GiB cannot be stored");
        self.make_room(bytes.len());
        let (block, offset) = (self.blocks.len() as u32, self.tail.len() as u32);
        self.tail.extend_from_slice(bytes);
        self.live += bytes.len();
        make_view(bytes, block, offset)
    }

    /// Sees to it that `additional` bytes can be appended to the block in progress.
    fn make_room(&mut self, additional: usize) {
        let full = !self.tail.is_empty() && self.tail.len() + additional > BLOCK_BYTES;
        let kept = self.tail.len() <= COPY_BYTES || self.tail.make_unique();
        if full || !kept {
            let mut block = mem::take(&mut self.tail);
            if block.capacity() - block.len() > block.capacity() / 8 {
                block.shrink_to_fit();
            }
            self.frozen += block.len();
            self.blocks.push(block.into_scalar_buffer().into_inner());
        }
        let needed = self.tail.len() + additional;
        if needed > self.tail.capacity() {
            let target = (self.tail.capacity() * 2).clamp(64, BLOCK_BYTES).max(needed);
            self.tail.reserve_exact(target - self.tail.len());
        }
    }

    fn collect_if_due(&mut self) {
        let held = self.frozen + self.tail.len();
        if held > COLLECT_BYTES && self.live < held / 2 {
            self.collect();
        }
    }

    /// Copies what is in use into new blocks.
    #[cold]
    fn collect(&mut self) {
        let blocks = mem::take(&mut self.blocks);
        let tail = mem::take(&mut self.tail);
        let views = mem::take(&mut self.views);
        let live = mem::take(&mut self.live);
        self.frozen = 0;
        self.tail.reserve_exact(live.min(BLOCK_BYTES));
        let old = Self { views, blocks, tail, live: 0, frozen: 0, kind: PhantomData };
        self.views.reserve_exact(old.len());
        for row in 0..old.len() {
            self.push(old.get(row));
        }
    }
}

impl<K> Clone for Views<K> {
    fn clone(&self) -> Self {
        let Self { views, blocks, tail, live, frozen, kind } = self;
        Self {
            views: views.clone(),
            blocks: blocks.clone(),
            tail: tail.clone(),
            live: *live,
            frozen: *frozen,
            kind: *kind,
        }
    }
}

impl<K> Default for Views<K> {
    fn default() -> Self {
        let (views, blocks, tail) = (Column::new(), Vec::new(), Column::new());
        Self { views, blocks, tail, live: 0, frozen: 0, kind: PhantomData }
    }
}

impl<K: ViewKind> fmt::Debug for Views<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// The bytes that a view shows.
#[inline]
fn bytes_of<'a>(view: &'a u128, blocks: &'a [Buffer], tail: &'a [u8]) -> &'a [u8] {
    let len = *view as u32 as usize;
    if len <= INLINE_BYTES {
        return &view.to_byte_slice()[4..4 + len];
    }
    let view = ByteView::from(*view);
    let block = blocks.get(view.buffer_index as usize).map_or(tail, Buffer::as_slice);
    &block[view.offset as usize..][..len]
}

/// How many bytes of blocks a view shows.
#[inline]
fn long_bytes(view: u128) -> usize {
    let len = view as u32 as usize;
    if len > INLINE_BYTES { len } else { 0 }
}

#[cfg(test)]
mod tests;
