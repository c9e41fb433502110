//! Rows as serde's sequences of records.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::record::Rows;

/// Rows as a sequence of records.
pub fn serialize_rows<S: Rows<Record: Serialize>, Z: Serializer>(rows: &S, serializer: Z) -> Result<Z::Ok, Z::Error> {
    serializer.collect_seq(rows.iter().map(S::to_record))
}

/// Rows from a sequence of records; a value that does not fit its column is an error.
pub fn deserialize_rows<'de, S: Rows<Record: Deserialize<'de>>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<S, D::Error> {
    deserializer.deserialize_seq(RowsVisitor(PhantomData))
}

struct RowsVisitor<S>(PhantomData<fn() -> S>);

/// Room for so many rows at most is made because the input says that they will come.
const TRUSTED_ROWS_MAX: usize = 4_096;

impl<'de, S: Rows<Record: Deserialize<'de>>> Visitor<'de> for RowsVisitor<S> {
    type Value = S;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a sequence of records")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut records: A) -> Result<S, A::Error> {
        let mut rows = S::default();
        rows.reserve(records.size_hint().unwrap_or(0).min(TRUSTED_ROWS_MAX));
        while let Some(record) = records.next_element()? {
            rows.try_push(record).map_err(A::Error::custom)?;
        }
        Ok(rows)
    }
}

/// Implements serde's traits for what the derive makes, where the record has them.
// `for<'never>` makes bounds that do not hold for a record no error but an implementation that is not there.
#[doc(hidden)]
#[macro_export]
macro_rules! __soa_serde {
    ([$($params:tt)*] [$($args:tt)*] [$($bounds:tt)*] $record:ident, $soa:ident, $view:ident) => {
        #[automatically_derived]
        impl<$($params)*> $crate::kernel::derived::serde::Serialize for $soa<$($args)*>
        where
            for<'never> $record<$($args)*>: $crate::kernel::derived::serde::Serialize,
            $($bounds)*
        {
            fn serialize<Z: $crate::kernel::derived::serde::Serializer>(
                &self,
                serializer: Z,
            ) -> ::core::result::Result<Z::Ok, Z::Error> {
                $crate::kernel::derived::serialize_rows(self, serializer)
            }
        }

        #[automatically_derived]
        impl<'de, $($params)*> $crate::kernel::derived::serde::Deserialize<'de> for $soa<$($args)*>
        where
            $record<$($args)*>: $crate::kernel::derived::serde::Deserialize<'de>,
            $($bounds)*
        {
            fn deserialize<D: $crate::kernel::derived::serde::Deserializer<'de>>(
                deserializer: D,
            ) -> ::core::result::Result<Self, D::Error> {
                $crate::kernel::derived::deserialize_rows(deserializer)
            }
        }

        #[automatically_derived]
        impl<$($params)*> $crate::kernel::derived::serde::Serialize for $view<'_, $($args)*>
        where
            for<'never> $record<$($args)*>: $crate::kernel::derived::serde::Serialize,
            $($bounds)*
        {
            fn serialize<Z: $crate::kernel::derived::serde::Serializer>(
                &self,
                serializer: Z,
            ) -> ::core::result::Result<Z::Ok, Z::Error> {
                $crate::kernel::derived::serde::Serialize::serialize(
                    &<$soa<$($args)*> as $crate::kernel::Rows>::to_record(*self),
                    serializer,
                )
            }
        }
    };
}
