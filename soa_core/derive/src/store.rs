//! `#[derive(SoAStore)]`.

use proc_macro2::TokenStream;
use quote::{quote, quote_spanned};
use syn::spanned::Spanned;
use syn::{DeriveInput, Error, LitStr, Result};

use crate::attributes::{Field, StoreOptions, Struct, joined, prefixed, struct_data};

pub(crate) fn expand(input: &DeriveInput) -> Result<TokenStream> {
    let parsed = Struct::parse(input, struct_data(input)?)?;
    let options = StoreOptions::parse(input)?;
    let key = options.key.as_ref().map(|key| parsed.column(key, "key")).transpose()?;
    let find_all = |names: &[LitStr], role: &str| -> Result<Vec<&Field>> {
        let mut found: Vec<&Field> = Vec::new();
        for name in names {
            let field = parsed.column(name, role)?;
            // By the field: it may be named once by its own name and once by its column's.
            if found.iter().any(|other| other.ident == field.ident) {
                return Err(Error::new(name.span(), format!("{role} names the column `{}` twice", field.name.value())));
            }
            found.push(field);
        }
        Ok(found)
    };
    let sort_by = find_all(&options.sort_by, "sort_by")?;
    let partition_by = find_all(&options.partition_by, "partition_by")?;
    if let Some(twice) = key.and_then(|key| partition_by.iter().find(|field| field.ident == key.ident)) {
        let message =
            format!("the key `{}` cannot partition the store as well: every row would get a folder", twice.ident);
        return Err(Error::new(options.partition_by[0].span(), message));
    }
    if partition_by.len() == parsed.columns().count() {
        let message = "at least one column must not be a partition column";
        return Err(Error::new(options.partition_by[0].span(), message));
    }
    let checks = checks(&parsed, key, &partition_by);
    let stored = stored_impl(input, &parsed, key, &sort_by, &partition_by);
    let keyed = key.map(|key| keyed_items(input, &parsed, key, options.shards));
    Ok(quote!(#checks #stored #keyed))
}

/// Bounds that say at the field's own type what is wrong with it.
fn checks(parsed: &Struct, key: Option<&Field>, partition_by: &[&Field]) -> TokenStream {
    let Struct { krate, params, bounds, .. } = parsed;
    let key = key.map(|field| {
        let ty = &field.ty;
        quote_spanned!(ty.span()=> { fn key<T: #krate::kernel::SoaKey>() {} key::<#ty>(); })
    });
    let partitions = partition_by.iter().map(|field| {
        let ty = &field.ty;
        quote_spanned!(ty.span()=> { fn partition<T: #krate::kernel::SoaPartition>() {} partition::<#ty>(); })
    });
    quote! {
        const _: () = {
            #[allow(dead_code)]
            fn checks<#params>()
            where
                #bounds
            {
                #key
                #(#partitions)*
            }
        };
    }
}

fn stored_impl(
    input: &DeriveInput,
    parsed: &Struct,
    key: Option<&Field>,
    sort_by: &[&Field],
    partition_by: &[&Field],
) -> TokenStream {
    let Struct { krate, params, args, bounds, .. } = parsed;
    let record = &input.ident;
    let key = key.map(|field| {
        let name = &field.name;
        quote!(let schema = schema.with_key(#name)?;)
    });
    let list = |fields: &[&Field], method: TokenStream| {
        (!fields.is_empty()).then(|| {
            let names = fields.iter().map(|field| &field.name);
            quote!(let schema = schema.#method(&[#(#names),*])?;)
        })
    };
    let sort_by = list(sort_by, quote!(with_sort_by));
    let partition_by = list(partition_by, quote!(with_partition_by));
    let made = match params.is_empty() {
        true => quote! {
            static SCHEMAS: #krate::kernel::derived::SchemaCell = #krate::kernel::derived::SchemaCell::new();
            ::core::clone::Clone::clone(&SCHEMAS.get(fields, refine).0)
        },
        false => quote! {
            let schemas = #krate::kernel::derived::schemas_of::<#krate::kernel::derived::Table<Self>>(fields, refine);
            ::core::clone::Clone::clone(&schemas.0)
        },
    };
    quote! {
        #[automatically_derived]
        impl<#params> #krate::kernel::StoredRecord for #record<#args>
        where
            #bounds
        {
            fn table_schema() -> #krate::schema::Schema {
                let fields = || <Self as #krate::kernel::Record>::schema().fields().to_vec();
                let refine = |schema: #krate::schema::Schema| {
                    #key
                    #sort_by
                    #partition_by
                    ::core::result::Result::Ok(schema)
                };
                #made
            }
        }
    }
}

fn keyed_items(input: &DeriveInput, parsed: &Struct, key: &Field, shards: usize) -> TokenStream {
    let Struct { krate, params, args, bounds, .. } = parsed;
    let (record, vis) = (&input.ident, &input.vis);
    let soa = joined(record, "SoA");
    let (store, sharded) = (joined(record, "Store"), joined(record, "ShardedStore"));
    let persistent = joined(&prefixed("Persistent", record), "Store");
    let (ident, name, ty) = (&key.ident, &key.name, key.column_type(krate));
    let unbounded = parsed.unbounded_params();
    let store_doc = format!("Values of [`{record}`] in memory, found by `{ident}`.");
    let sharded_doc = format!("Values of [`{record}`] in memory, found by `{ident}`, that many threads add to.");
    let persistent_doc =
        format!("Values of [`{record}`] that are kept in a persistence and, where they are asked for, in memory.");
    let key_type = quote!(<#ty as #krate::kernel::KeyColumn>::Key);
    quote! {
        #[automatically_derived]
        impl<#params> #krate::kernel::KeyedRecord for #record<#args>
        where
            #bounds
        {
            type KeyColumn = #ty;

            const KEY: &'static ::core::primitive::str = #name;
            const SHARDS: ::core::primitive::usize = #shards;

            #[inline]
            fn key(&self) -> &#key_type {
                <#ty as #krate::kernel::KeyColumn>::key(&self.#ident)
            }

            #[inline]
            fn key_column(rows: &#soa<#args>) -> &Self::KeyColumn {
                &rows.#ident
            }

            #[inline]
            fn key_column_mut(rows: &mut #soa<#args>) -> &mut Self::KeyColumn {
                &mut rows.#ident
            }
        }

        #[doc = #store_doc]
        #[allow(dead_code)]
        #vis type #store<#unbounded> = #krate::kernel::MemoryStore<#record<#args>>;

        #[doc = #sharded_doc]
        #[allow(dead_code)]
        #vis type #sharded<#unbounded> = #krate::kernel::ShardedStore<#record<#args>>;

        #krate::kernel::derived::for_persistence! {
            #[doc = #persistent_doc]
            #[allow(dead_code)]
            #vis #persistent, [#unbounded] [#args] #record
        }
    }
}
