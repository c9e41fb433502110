//! The columns of decimal fields: numbers of a fixed count of digits after the point.

use std::fmt::Debug;
use std::marker::PhantomData;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, PrimitiveArray};
use arrow::buffer::NullBuffer;
use arrow::datatypes::Decimal128Type;

use super::buffer::Column;
use super::field::{SoaField, SoaKey, SoaPartition, SoaValue};
use super::fixed::{Fixed, FixedKind};
use super::list::List;
use crate::error::{Error, Result};
use crate::schema::{DataType, MAX_DECIMAL_PRECISION};

/// A type that a field with `#[soa(decimal(…))]` can have.
///
/// An integer counts units of the last digit: of `decimal(9, 2)`, 1250 is 12.50. A `rust_decimal::Decimal` is the number itself.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is no decimal number",
    label = "not a type of a decimal field",
    note = "`decimal` is for an i64, u64 or i128, which counts units of the last digit, or a rust_decimal::Decimal (feature \
            `rust_decimal`)"
)]
pub trait DecimalValue: Copy + Debug + PartialEq + 'static {
    /// The number in units of `10^-scale`, or `None` if it has more digits after the point.
    fn to_unscaled(self, scale: u8) -> Option<i128>;

    /// The number that is so many units of `10^-scale`, or `None` if the type does not hold it.
    fn from_unscaled(unscaled: i128, scale: u8) -> Option<Self>;
}

/// Implements it for an integer.
macro_rules! integer {
    ($rust:ty) => {
        impl DecimalValue for $rust {
            #[inline]
            fn to_unscaled(self, _: u8) -> Option<i128> {
                Some(self.into())
            }

            #[inline]
            fn from_unscaled(unscaled: i128, _: u8) -> Option<Self> {
                unscaled.try_into().ok()
            }
        }
    };
}

integer!(i64);
integer!(u64);
integer!(i128);

#[cfg(feature = "rust_decimal")]
impl DecimalValue for rust_decimal::Decimal {
    fn to_unscaled(self, scale: u8) -> Option<i128> {
        let (mantissa, own) = (self.mantissa(), self.scale());
        match u32::from(scale).checked_sub(own) {
            Some(more) => mantissa.checked_mul(10_i128.checked_pow(more)?),
            None => {
                let unit = 10_i128.checked_pow(own - u32::from(scale))?;
                (mantissa % unit == 0).then_some(mantissa / unit)
            }
        }
    }

    fn from_unscaled(unscaled: i128, scale: u8) -> Option<Self> {
        // The type holds 96 bits and 28 digits after the point: what has zeros at its end may fit without them.
        let (mut unscaled, mut scale) = (unscaled, u32::from(scale));
        loop {
            match Self::try_from_i128_with_scale(unscaled, scale) {
                Ok(number) => return Some(number),
                Err(_) if scale > 0 && unscaled % 10 == 0 => (unscaled, scale) = (unscaled / 10, scale - 1),
                Err(_) => return None,
            }
        }
    }
}

/// The kind of fields of type `T` that are stored as decimals of `P` digits, `S` of them after the point.
#[derive(Debug)]
pub struct Decimal<T, const P: u8, const S: u8>(PhantomData<T>);

impl<T: DecimalValue, const P: u8, const S: u8> FixedKind for Decimal<T, P, S> {
    type Value = T;
    type Native = i128;
    type Outcome = Result<()>;

    fn data_type() -> DataType {
        DataType::Decimal { precision: P, scale: S }
    }

    #[inline]
    fn encode(value: T) -> Result<i128, String> {
        let unscaled = value.to_unscaled(S).filter(|unscaled| unscaled.unsigned_abs() < 10_u128.pow(P.into()));
        unscaled.ok_or_else(|| format!("{value:?} does not fit decimal({P},{S}) without rounding"))
    }

    #[inline]
    fn decode(native: i128) -> T {
        T::from_unscaled(native, S).expect("stored decimals were checked")
    }

    fn to_array(values: &Column<i128>, nulls: Option<NullBuffer>) -> ArrayRef {
        let array = PrimitiveArray::<Decimal128Type>::new(values.share(), nulls);
        // Neither is above 38.
        Arc::new(array.with_precision_and_scale(P, S as i8).expect("the schema refuses other precisions and scales"))
    }

    fn from_array(array: &ArrayRef, column: &str) -> Result<Column<i128>> {
        let values = array.as_primitive::<Decimal128Type>().values();
        let is_value = |row: usize| array.nulls().is_none_or(|nulls| nulls.is_valid(row));
        let misfit = values.iter().enumerate().find(|(row, value)| {
            is_value(*row) && (value.unsigned_abs() >= 10_u128.pow(P.into()) || T::from_unscaled(**value, S).is_none())
        });
        match misfit {
            None => Ok(Column::from_scalar_buffer(values.clone())),
            Some((row, value)) => {
                let message = format!("{value} units of the last of {S} digits, in row {row}, do not fit the field");
                Err(Error::value(column, message))
            }
        }
    }
}

impl SoaField for i128 {
    type Column = Fixed<Decimal<i128, MAX_DECIMAL_PRECISION, 0>>;
    type List = List<Fixed<Decimal<i128, MAX_DECIMAL_PRECISION, 0>>>;
}

impl SoaValue for i128 {}
impl SoaKey for i128 {}
impl SoaPartition for i128 {}
