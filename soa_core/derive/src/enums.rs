//! `#[derive(SoA)]` on an enum without fields.

use proc_macro2::TokenStream;
use quote::quote;
use syn::spanned::Spanned;
use syn::{DataEnum, DeriveInput, Error, LitStr, Result, Variant};

use crate::attributes::{combine, each_meta, once, parse_crate, refuse_generics, unraw};

/// An index is one byte.
const MAX_VARIANTS: usize = 256;

pub(crate) fn expand(input: &DeriveInput, data: &DataEnum) -> Result<TokenStream> {
    refuse_generics(input)?;
    let krate = parse_crate(&input.attrs)?;
    if data.variants.is_empty() {
        return Err(Error::new(input.ident.span(), "an enum without variants has no values to store"));
    }
    if data.variants.len() > MAX_VARIANTS {
        let message = format!("an enum has at most {MAX_VARIANTS} variants, this one has {}", data.variants.len());
        return Err(Error::new(input.ident.span(), message));
    }
    let names = data.variants.iter().map(name_of).collect::<Result<Vec<_>>>()?;
    refuse_equal(&names)?;
    let ident = &input.ident;
    let variants: Vec<_> = data.variants.iter().map(|variant| &variant.ident).collect();
    let indices = 0..=u8::MAX;
    Ok(quote! {
        #[automatically_derived]
        impl #krate::kernel::SoaEnum for #ident {
            const VARIANTS: &'static [Self] = &[#(Self::#variants),*];
            const NAMES: &'static [&'static ::core::primitive::str] = &[#(#names),*];
            const NUMBERS: &'static [::core::primitive::i64] = &[#(Self::#variants as ::core::primitive::i64),*];

            #[inline]
            fn index(self) -> ::core::primitive::u8 {
                match self {
                    #(Self::#variants => #indices,)*
                }
            }

            fn dictionary() -> &'static #krate::kernel::EnumDictionary {
                static DICTIONARY: ::std::sync::OnceLock<#krate::kernel::EnumDictionary> = ::std::sync::OnceLock::new();
                DICTIONARY.get_or_init(|| #krate::kernel::EnumDictionary::new(<Self as #krate::kernel::SoaEnum>::NAMES))
            }
        }

        #[automatically_derived]
        impl #krate::kernel::SoaField for #ident {
            type Column = #krate::kernel::EnumColumn<Self>;
            type List = #krate::kernel::List<#krate::kernel::EnumColumn<Self>>;
        }

        #[automatically_derived]
        impl #krate::kernel::SoaValue for #ident {}

        #[automatically_derived]
        impl #krate::kernel::SoaPartition for #ident {}
    })
}

fn name_of(variant: &Variant) -> Result<LitStr> {
    if !variant.fields.is_empty() {
        let message = format!("an enum that is a column has no fields; `{}` has some", variant.ident);
        return Err(Error::new(variant.fields.span(), message));
    }
    let mut name = None;
    each_meta(&variant.attrs, "soa", |meta| {
        if meta.path.is_ident("rename") {
            once(&meta, &mut name, meta.value()?.parse::<LitStr>()?)
        } else {
            Err(meta.error("a variant takes `rename = \"…\"`"))
        }
    })?;
    match name {
        Some(name) if name.value().is_empty() => Err(Error::new(name.span(), "a variant's name is not empty")),
        Some(name) => Ok(name),
        None => Ok(LitStr::new(&unraw(&variant.ident), variant.ident.span())),
    }
}

fn refuse_equal(names: &[LitStr]) -> Result<()> {
    combine(names.iter().enumerate().filter_map(|(index, name)| {
        let earlier = names[..index].iter().any(|earlier| earlier.value() == name.value());
        earlier.then(|| Error::new(name.span(), format!("two variants are named \"{}\"", name.value())))
    }))
}
