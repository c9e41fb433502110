//! What a type must offer to be a field of a record, and what its column does.

use std::fmt::Debug;
use std::hash::{BuildHasher, Hash};
use std::ops::Range;

use arrow::array::{ArrayRef, make_comparator};
use arrow::buffer::NullBuffer;
use arrow::compute::SortOptions;

use super::list::List;
use super::nullable::Nullable;
use crate::error::{Error, Result};
use crate::schema::{DataType, Field};

/// A Rust type that can be a field of a struct that derives [`SoA`](crate::SoA).
///
/// Implemented for `bool`, all integers but `u128`, `f32`, `f64`, `String`, `Vec<u8>`, `Uuid`, chrono's `NaiveDate`,
/// `NaiveDateTime`, `DateTime<Utc>`, `NaiveTime` and `TimeDelta`, structs and fieldless enums that derive [`SoA`](crate::SoA),
/// `Vec` and arrays of each, `BTreeMap` and `HashMap` from each that can be a key to each, and `Option` of each.
///
/// ```
/// #[derive(soa_core::SoA)]
/// struct Order {
///     parent: Option<u8>,
/// }
/// ```
///
/// ```compile_fail,E0277
/// #[derive(soa_core::SoA)]
/// struct Order {
///     parent: Option<Option<u8>>,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "a column cannot hold `{Self}`",
    label = "not a type of a column",
    note = "a field is a bool, i8 to i128, u8 to u64, f32, f64, String, Vec<u8>, Uuid, chrono's NaiveDate, NaiveDateTime, \
            DateTime<Utc>, NaiveTime or TimeDelta, a struct or an enum without fields that derives `SoA` itself, or an Option, Vec, \
            array, BTreeMap or HashMap of them",
    note = "a rust_decimal::Decimal says its digits by `#[soa(decimal(18, 2))]`; `#[soa(skip)]` leaves a field out of the columns"
)]
pub trait SoaField: Sized {
    /// The column that holds the values.
    type Column: FieldColumn<Value = Self>;
    /// The column that holds vectors of the values.
    type List: ValueColumn<Value = Vec<Self>>;
}

/// A [`SoaField`] that can stand inside an `Option`: every one but `Option` itself.
#[diagnostic::on_unimplemented(
    message = "a column cannot hold `Option<{Self}>`",
    label = "not a type of a column",
    note = "the type inside the Option is a bool, i8 to i128, u8 to u64, f32, f64, String, Vec<u8>, Uuid, chrono's NaiveDate, \
            NaiveDateTime, DateTime<Utc>, NaiveTime or TimeDelta, a struct or an enum without fields that derives `SoA` itself, or \
            a Vec, array, BTreeMap or HashMap of them; one Option, not two",
    note = "`#[soa(skip)]` leaves a field out of the columns"
)]
pub trait SoaValue: SoaField<Column: ValueColumn> {}

impl<T: SoaValue> SoaField for Option<T> {
    type Column = Nullable<T::Column>;
    type List = List<Nullable<T::Column>>;
}

/// A [`SoaField`] that can be the key of a store.
///
/// ```
/// #[derive(soa_core::SoA, soa_core::SoAStore)]
/// #[soa_store(key = "price")]
/// struct Order {
///     price: u64,
/// }
/// ```
///
/// ```compile_fail,E0277
/// #[derive(soa_core::SoA, soa_core::SoAStore)]
/// #[soa_store(key = "price")]
/// struct Order {
///     price: f64,
/// }
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot be a key",
    label = "not a type of a key",
    note = "a key is an integer, a String, a Uuid, a date or a time; floats, bools, enums and Options cannot tell rows apart"
)]
pub trait SoaKey: SoaField<Column: KeyColumn> {}

/// A [`SoaField`] by which a store can be partitioned.
#[diagnostic::on_unimplemented(
    message = "a store cannot be partitioned by `{Self}`",
    label = "cannot name a folder",
    note = "floats and UUIDs cannot name a folder; partition by a bool, an integer, a String, an enum, a date or a time"
)]
pub trait SoaPartition: SoaField {}

impl<T: SoaPartition + SoaValue> SoaPartition for Option<T> {}

/// The column of one field: what its values are in memory, and how they become Arrow's and back.
///
/// The columns of this crate implement it; code that the derive generates calls it.
pub trait FieldColumn: Clone + Debug + Default + Send + Sync + 'static {
    /// The Rust type of the field.
    type Value;
    /// A value that was found to fit the column.
    type Stored;
    /// A value, as views hold it.
    type Ref<'a>: Copy + Debug + PartialEq;
    /// The stored values as one.
    type Raw<'a>;
    /// What setting a value returns: `()`, or a `Result` where a value may not fit.
    type Outcome: Outcome;

    /// Whether the column may hold NULL.
    const NULLABLE: bool;

    /// The column's type in a schema.
    fn data_type() -> DataType;

    /// How many values there are.
    fn len(&self) -> usize;

    /// Whether there is no value.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The value at `row`. Panics when there is none.
    fn get(&self, row: usize) -> Self::Ref<'_>;

    /// The owned form of a value that a view holds.
    fn to_value(value: Self::Ref<'_>) -> Self::Value;

    /// Checks that a value fits; the error says which does not and why.
    fn encode(value: Self::Value) -> Result<Self::Stored, String>;

    /// What is stored where there is no value, beneath a NULL.
    fn blank() -> Self::Stored;

    /// Appends a value.
    fn push(&mut self, value: Self::Stored);

    /// Replaces the value at `row`. Panics when there is none.
    fn set(&mut self, row: usize, value: Self::Stored);

    /// Replaces the value at `row` by the last, which goes. Panics when there is none.
    fn swap_remove(&mut self, row: usize);

    /// Drops all values but the first `len`.
    fn truncate(&mut self, len: usize);

    /// Drops all values.
    fn clear(&mut self);

    // What follows moves rows within columns and between them. Each has a way that every column can go; columns of
    // this crate go shorter ones.

    /// Exchanges the values at two rows. Panics when one is not there.
    fn swap(&mut self, left: usize, right: usize) {
        let (from_left, from_right) = (stored::<Self>(self.get(left)), stored::<Self>(self.get(right)));
        self.set(left, from_right);
        self.set(right, from_left);
    }

    /// Appends the values of another column at `rows`. Panics when one is not there.
    fn extend_from(&mut self, other: &Self, rows: Range<usize>) {
        rows.for_each(|row| self.push(stored::<Self>(other.get(row))));
    }

    /// The values at `rows`, shared with this column where their layout allows it. Panics when one is not there.
    fn slice(&self, rows: Range<usize>) -> Self {
        let array = self.to_array().slice(rows.start, rows.len());
        Self::from_array(&array, "").expect("values that were in a column fit it")
    }

    /// Drops all values but those at `ranges`, which ascend. Panics when one is not there.
    fn keep(&mut self, ranges: &[Range<usize>]) {
        let rows: Vec<usize> = ranges.iter().cloned().flatten().collect();
        self.rearrange(&rows);
    }

    /// Makes the column hold the values at `rows`, in that order. Panics when one is not there.
    fn rearrange(&mut self, rows: &[usize]) {
        let mut rearranged = Self::default();
        rearranged.reserve(rows.len());
        rows.iter().for_each(|&row| rearranged.push(stored::<Self>(self.get(row))));
        *self = rearranged;
    }

    /// Sorts numbers of rows by their values, NULL first; those of equal values stay in order.
    fn sort_rows(&self, rows: &mut [usize]) {
        let array = self.to_array();
        let order = SortOptions { descending: false, nulls_first: true };
        let compare = make_comparator(&array, &array, order).expect("values of a column have an order");
        rows.sort_by(|&left, &right| compare(left, right));
    }

    /// Makes room for `additional` more values.
    fn reserve(&mut self, additional: usize);

    /// Gives unused memory back.
    fn shrink_to_fit(&mut self);

    /// The stored values as one.
    fn raw(&self) -> Self::Raw<'_>;

    /// Bytes allocated.
    fn memory_bytes(&self) -> usize;

    /// The values as an Arrow array that shares them, with the validity given.
    fn to_array_with(&self, nulls: Option<NullBuffer>) -> ArrayRef;

    /// The values as an Arrow array that shares them.
    fn to_array(&self) -> ArrayRef {
        self.to_array_with(None)
    }

    /// The values of an Arrow array, shared with it where the types are equal. What is beneath a NULL
    /// is not looked at.
    ///
    /// # Errors
    ///
    /// When the array's type or a value does not fit the column; the error names `column`.
    fn from_array(array: &ArrayRef, column: &str) -> Result<Self>;

    /// Checks that `value` fits and replaces the value at `row` by it.
    fn set_value(&mut self, row: usize, value: Self::Value, column: &str) -> Self::Outcome {
        Self::Outcome::of(match Self::encode(value) {
            Ok(stored) => {
                self.set(row, stored);
                Ok(())
            }
            Err(message) => Err(Error::value(column, message)),
        })
    }

    /// The column's description in a schema.
    fn field(name: &str) -> Field {
        Field::new(name, Self::data_type()).with_nullable(Self::NULLABLE)
    }
}

/// The stored form of a value that is in a column.
fn stored<C: FieldColumn>(value: C::Ref<'_>) -> C::Stored {
    C::encode(C::to_value(value))
        .unwrap_or_else(|message| unreachable!("a value that was in a column fits it: {message}"))
}

/// A column without NULL.
pub trait ValueColumn: FieldColumn {}

/// A column whose stored type is the field's own: its values can be borrowed mutably.
pub trait PlainColumn: FieldColumn {
    /// The value at `row`, to be written. Panics when there is none.
    fn value_mut(&mut self, row: usize) -> &mut Self::Value;

    /// All values, to be written.
    fn values_mut(&mut self) -> &mut [Self::Value];
}

/// A column whose values can tell rows apart.
pub trait KeyColumn: FieldColumn {
    /// What a value is looked up by: `str` for text, the value's own type elsewhere.
    type Key: ?Sized + Debug + Eq + Hash;

    /// The key that a value is.
    fn key(value: &Self::Value) -> &Self::Key;

    /// The stored form of a key that is or was in the column.
    fn stored(key: &Self::Key) -> Self::Stored;

    /// The stored form of any key; `None` of one that does not fit the column, and so cannot be in it.
    fn find_stored(key: &Self::Key) -> Option<Self::Stored>;

    /// Whether the value at `row` is `key`.
    fn is_at(&self, row: usize, key: &Self::Key) -> bool;

    /// The hash of the value at `row`: that of its [`Key`](Self::Key).
    fn hash_at(&self, row: usize, hasher: &impl BuildHasher) -> u64;
}

/// What setting a value returns.
pub trait Outcome {
    /// From the outcome of the check.
    fn of(result: Result<()>) -> Self;
}

impl Outcome for () {
    fn of(result: Result<()>) -> Self {
        debug_assert!(result.is_ok(), "every value of the type fits its column");
    }
}

impl Outcome for Result<()> {
    fn of(result: Result<()>) -> Self {
        result
    }
}

#[cfg(test)]
mod tests;
