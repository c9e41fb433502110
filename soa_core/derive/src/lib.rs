//! The derive macros of `soa_core`; see there.
//!
//! What they emit names everything by its full path, holds no unsafe code, and is as visible as the
//! struct it is made from.

mod attributes;
mod enums;
mod soa;
mod store;

use proc_macro::TokenStream;
use proc_macro2::TokenStream as Tokens;
use syn::{Data, DeriveInput, parse_macro_input};

/// Makes a struct a record: a struct of arrays with one packed column per field. Makes a fieldless enum
/// the type of a field.
///
/// For `struct Order` it makes `OrderSoA` (the columns), `OrderView` (a row that is read) and `OrderMut`
/// (a row that is written), and implements `soa_core::kernel::Record`. Each column has `<field>_raw_array()`, and
/// `<field>_raw_array_mut()` where the stored type is the field's; `sort_by_<field>()`, but for a field named `key`
/// (`sort_by_key(|row| row.key)`); and `<field>_validity()` where it is an `Option`.
///
/// Attributes of a field: `#[soa(rename = "…")]` gives the column another name, `#[soa(skip)]` leaves the
/// field out (it is `Default::default()` in records made from columns), `#[soa(timestamp = "us")]` says
/// that an `i64` counts microseconds since 1970-01-01T00:00 UTC, `#[soa(decimal(18, 2))]` that an integer counts units of
/// the last of 18 digits, two of them after the point, or of which digits a `rust_decimal::Decimal` is, `#[soa(as_int)]`
/// that an enum is stored as its number instead of its name. Of a variant: `#[soa(rename = "…")]`. Of the struct or enum:
/// `#[soa(crate = "…")]`, the path of `soa_core`.
///
/// A struct may have parameters, of types and of constants, and no lifetimes: `Reading<T>` has the columns `ReadingSoA<T>`
/// for every `T` with which its fields can be columns.
#[proc_macro_derive(SoA, attributes(soa))]
pub fn derive_soa(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    finish(match &input.data {
        Data::Struct(data) => soa::expand(&input, data),
        Data::Enum(data) => enums::expand(&input, data),
        Data::Union(data) => Err(syn::Error::new(
            data.union_token.span,
            "`SoA` cannot be derived for a union; use a struct with named fields or an enum without fields",
        )),
    })
}

/// Says how stores keep a record: `#[soa_store(key = "…", shards = 16, sort_by = "a, b", partition_by = "…")]`.
///
/// Everything but `#[soa_store]` itself may be left out. With a key, `struct Order` gets `OrderStore` and
/// `OrderShardedStore`, which hold records in memory and find them by key; and, with the feature `persistence` of `soa_core`,
/// `PersistentOrderStore`, which keeps them somewhere as well. The struct derives `SoA` too.
#[proc_macro_derive(SoAStore, attributes(soa, soa_store))]
pub fn derive_soa_store(input: TokenStream) -> TokenStream {
    let input = parse_macro_input!(input as DeriveInput);
    finish(store::expand(&input))
}

fn finish(result: syn::Result<Tokens>) -> TokenStream {
    result.unwrap_or_else(|error| error.into_compile_error()).into()
}

#[cfg(test)]
mod tests;
