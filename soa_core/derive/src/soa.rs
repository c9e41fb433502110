//! `#[derive(SoA)]` on a struct with named fields.

use proc_macro2::{Group, Span, TokenStream, TokenTree};
use quote::{ToTokens, format_ident, quote};
use syn::spanned::Spanned;
use syn::{Attribute, DataStruct, DeriveInput, Ident, LitStr, Path, Result, Type, Visibility};

use crate::attributes::{Field, Struct, joined, prefixed};

/// What the parts of the expansion share.
struct Names<'a> {
    krate: &'a Path,
    vis: &'a Visibility,
    /// The struct, its columns, a row that is read and one that is written.
    record: &'a Ident,
    soa: Ident,
    view: Ident,
    row_mut: Ident,
    columns: Vec<Column<'a>>,
    /// The struct's parameters, their names, and what they must be.
    params: &'a TokenStream,
    args: &'a TokenStream,
    bounds: &'a TokenStream,
}

/// A field with a column.
struct Column<'a> {
    field: &'a Field,
    ident: &'a Ident,
    name: &'a LitStr,
    ty: TokenStream,
}

pub(crate) fn expand(input: &DeriveInput, data: &DataStruct) -> Result<TokenStream> {
    let parsed = Struct::parse(input, data)?;
    let krate = &parsed.krate;
    let columns = parsed.columns().map(|field| Column {
        field,
        ident: &field.ident,
        name: &field.name,
        ty: located(&field.column_type(krate), field.ty.span()),
    });
    let names = Names {
        krate,
        vis: &input.vis,
        record: &input.ident,
        soa: joined(&input.ident, "SoA"),
        view: joined(&input.ident, "View"),
        row_mut: joined(&input.ident, "Mut"),
        columns: columns.collect(),
        params: &parsed.params,
        args: &parsed.args,
        bounds: &parsed.bounds,
    };
    let skipped: Vec<&Ident> = parsed.skipped().map(|field| &field.ident).collect();
    let parts = [
        definitions(&names),
        record_impl(&names),
        rows_impl(&names, &skipped),
        methods(&names),
        column_methods(&names),
        std_impls(&names),
        view_impl(&names),
        mut_impl(&names),
    ];
    Ok(quote!(#(#parts)*))
}

/// A type that errors show at `span`, wherever its parts come from.
fn located(ty: &Type, span: Span) -> TokenStream {
    fn relocate(tokens: TokenStream, span: Span) -> TokenStream {
        let relocated = tokens.into_iter().map(|mut tree| {
            if let TokenTree::Group(group) = &tree {
                tree = TokenTree::Group(Group::new(group.delimiter(), relocate(group.stream(), span)));
            }
            // Names mean what they meant.
            tree.set_span(tree.span().located_at(span));
            tree
        });
        relocated.collect()
    }
    relocate(ty.to_token_stream(), span)
}

/// The field's own documentation, or a line that names it.
fn docs_of(field: &Field) -> Vec<Attribute> {
    if field.docs.is_empty() {
        let doc = format!("The field `{}`.", field.ident);
        return vec![syn::parse_quote!(#[doc = #doc])];
    }
    field.docs.clone()
}

/// The three structs.
fn definitions(names: &Names<'_>) -> TokenStream {
    let Names { krate, vis, record, soa, view, row_mut, columns, params, args, bounds, .. } = names;
    let idents: Vec<_> = columns.iter().map(|column| column.ident).collect();
    let types: Vec<_> = columns.iter().map(|column| &column.ty).collect();
    let view_fields = columns.iter().map(|column| {
        let (docs, vis, ident) = (docs_of(column.field), &column.field.vis, column.ident);
        let column_type = &column.ty;
        let ty = match column.field.view_type() {
            Some(ty) => ty.into_token_stream(),
            None => quote!(<#column_type as #krate::kernel::FieldColumn>::Ref<'a>),
        };
        quote!(#(#docs)* #vis #ident: #ty)
    });
    let soa_doc = format!("The columns of [`{record}`]: one packed, copy-on-write array per field.");
    let view_doc = format!("A row of [`{soa}`].");
    let mut_doc = format!("A row of [`{soa}`], to be written. A column that is shared is copied when it is written.");
    quote! {
        #[doc = #soa_doc]
        #vis struct #soa<#params> where #bounds {
            #(#idents: #types,)*
        }

        #[doc = #view_doc]
        #[allow(dead_code)]
        #vis struct #view<'a, #params> where #bounds {
            #(#view_fields,)*
            #[doc(hidden)]
            _soa: ::core::marker::PhantomData<&'a ()>,
        }

        #[doc = #mut_doc]
        #[allow(dead_code)]
        #vis struct #row_mut<'a, #params> where #bounds {
            soa: &'a mut #soa<#args>,
            row: ::core::primitive::usize,
        }
    }
}

fn record_impl(names: &Names<'_>) -> TokenStream {
    let Names { krate, record, soa, columns, params, args, bounds, .. } = names;
    let fields =
        columns.iter().map(|Column { name, ty, .. }| quote!(<#ty as #krate::kernel::FieldColumn>::field(#name)));
    let fields = quote!(::std::vec![#(#fields),*]);
    // A static is one for all arguments that the parameters can have.
    let schemas = match params.is_empty() {
        true => quote! {
            static SCHEMAS: #krate::kernel::derived::SchemaCell = #krate::kernel::derived::SchemaCell::new();
            SCHEMAS.get(|| #fields, ::core::result::Result::Ok)
        },
        false => quote! {
            #krate::kernel::derived::schemas_of::<#record<#args>>(|| #fields, ::core::result::Result::Ok)
        },
    };
    quote! {
        const _: () = {
            fn schemas<#params>() -> &'static (#krate::schema::Schema, #krate::kernel::derived::SchemaRef)
            where
                #bounds
            {
                #schemas
            }

            #[automatically_derived]
            impl<#params> #krate::kernel::Record for #record<#args>
            where
                #bounds
            {
                type Soa = #soa<#args>;

                fn schema() -> #krate::schema::Schema {
                    ::core::clone::Clone::clone(&schemas::<#args>().0)
                }

                fn arrow_schema() -> #krate::kernel::derived::SchemaRef {
                    ::core::clone::Clone::clone(&schemas::<#args>().1)
                }
            }

            // Inside other records.
            #[automatically_derived]
            impl<#params> #krate::kernel::SoaField for #record<#args>
            where
                #bounds
            {
                type Column = #krate::kernel::Nested<#soa<#args>>;
                type List = #krate::kernel::List<#krate::kernel::Nested<#soa<#args>>>;
            }

            #[automatically_derived]
            impl<#params> #krate::kernel::SoaValue for #record<#args> where #bounds {}
        };
    }
}

fn rows_impl(names: &Names<'_>, skipped: &[&Ident]) -> TokenStream {
    let Names { krate, record, soa, view, row_mut, columns, params, args, bounds, .. } = names;
    let idents: Vec<_> = columns.iter().map(|column| column.ident).collect();
    let labels: Vec<_> = columns.iter().map(|column| column.name).collect();
    let types: Vec<_> = columns.iter().map(|column| &column.ty).collect();
    let values: Vec<_> = (0..columns.len()).map(|index| format_ident!("value_{index}")).collect();
    let first = idents[0];
    let column = quote!(#krate::kernel::FieldColumn);
    let error = quote!(#krate::Error);
    let size = quote!(::core::primitive::usize);
    let outcome = quote!(::core::result::Result<(), #error>);
    let encode = quote! {
        let #record { #(#idents: #values,)* #(#skipped: _,)* } = record;
        #(let #values = #krate::kernel::derived::encode::<#types>(#values, #labels)?;)*
    };
    quote! {
        #[automatically_derived]
        impl<#params> #krate::kernel::Rows for #soa<#args>
        where
            #bounds
        {
            type Record = #record<#args>;
            type View<'a> = #view<'a, #args>;
            type Mut<'a> = #row_mut<'a, #args>;
            type Stored = (#(<#types as #column>::Stored,)*);

            #[inline]
            fn len(&self) -> #size {
                #column::len(&self.#first)
            }

            #[inline]
            fn is_even(&self) -> ::core::primitive::bool {
                let len = #column::len(&self.#first);
                true #(&& #column::len(&self.#idents) == len)*
            }

            // What is made of a row is mostly one field or two; the others are left out where this is compiled into its user.
            #[inline(always)]
            fn view(&self, row: #size) -> #view<'_, #args> {
                #view {
                    #(#idents: #column::get(&self.#idents, row),)*
                    _soa: ::core::marker::PhantomData,
                }
            }

            #[inline]
            fn view_mut(&mut self, row: #size) -> #row_mut<'_, #args> {
                let len = #column::len(&self.#first);
                ::core::assert!(row < len, "there is no row {}: there are {}", row, len);
                #row_mut { soa: self, row }
            }

            fn to_record(view: #view<'_, #args>) -> #record<#args> {
                #record {
                    #(#idents: <#types as #column>::to_value(view.#idents),)*
                    #(#skipped: ::core::default::Default::default(),)*
                }
            }

            #[inline]
            fn try_push(&mut self, record: #record<#args>) -> #outcome {
                #encode
                #(#column::push(&mut self.#idents, #values);)*
                ::core::result::Result::Ok(())
            }

            #[inline]
            fn try_set(&mut self, row: #size, record: #record<#args>) -> #outcome {
                let len = #column::len(&self.#first);
                ::core::assert!(row < len, "there is no row {}: there are {}", row, len);
                #encode
                #(#column::set(&mut self.#idents, row, #values);)*
                ::core::result::Result::Ok(())
            }

            fn encode(record: #record<#args>) -> ::core::result::Result<Self::Stored, #error> {
                #encode
                ::core::result::Result::Ok((#(#values,)*))
            }

            fn blank() -> Self::Stored {
                (#(<#types as #column>::blank(),)*)
            }

            #[inline]
            fn push_stored(&mut self, stored: Self::Stored) {
                let (#(#values,)*) = stored;
                #(#column::push(&mut self.#idents, #values);)*
            }

            fn set_stored(&mut self, row: #size, stored: Self::Stored) {
                let (#(#values,)*) = stored;
                #(#column::set(&mut self.#idents, row, #values);)*
            }

            fn from_struct(
                rows: &#krate::kernel::derived::StructArray,
                column: &::core::primitive::str,
            ) -> ::core::result::Result<Self, #error> {
                ::core::result::Result::Ok(Self {
                    #(#idents: #krate::kernel::derived::field_from(rows, #labels, column)?,)*
                })
            }

            fn swap_remove(&mut self, row: #size) -> #record<#args> {
                let record = <Self as #krate::kernel::Rows>::to_record(<Self as #krate::kernel::Rows>::view(self, row));
                #(#column::swap_remove(&mut self.#idents, row);)*
                record
            }

            fn swap(&mut self, left: #size, right: #size) {
                #krate::kernel::derived::check_rows(&[left, right], #column::len(&self.#first));
                #(#column::swap(&mut self.#idents, left, right);)*
            }

            fn extend_from(&mut self, other: &Self, rows: impl ::core::ops::RangeBounds<#size>) {
                let rows = #krate::kernel::derived::range_of(rows, #column::len(&other.#first));
                <Self as #krate::kernel::Rows>::reserve(self, ::core::iter::ExactSizeIterator::len(&rows));
                #(#column::extend_from(&mut self.#idents, &other.#idents, ::core::clone::Clone::clone(&rows));)*
            }

            fn slice(&self, rows: impl ::core::ops::RangeBounds<#size>) -> Self {
                let rows = #krate::kernel::derived::range_of(rows, #column::len(&self.#first));
                Self {
                    #(#idents: #column::slice(&self.#idents, ::core::clone::Clone::clone(&rows)),)*
                }
            }

            fn keep_ranges(&mut self, ranges: &[::core::ops::Range<#size>]) {
                #krate::kernel::derived::check_ranges(ranges, #column::len(&self.#first));
                #(#column::keep(&mut self.#idents, ranges);)*
            }

            fn rearrange(&mut self, rows: &[#size]) {
                #krate::kernel::derived::check_rows(rows, #column::len(&self.#first));
                #(#column::rearrange(&mut self.#idents, rows);)*
            }

            fn truncate(&mut self, len: #size) {
                #(#column::truncate(&mut self.#idents, len);)*
            }

            fn clear(&mut self) {
                #(#column::clear(&mut self.#idents);)*
            }

            fn reserve(&mut self, additional: #size) {
                #(#column::reserve(&mut self.#idents, additional);)*
            }

            fn shrink_to_fit(&mut self) {
                #(#column::shrink_to_fit(&mut self.#idents);)*
            }

            fn memory_bytes(&self) -> #size {
                0 #(+ #column::memory_bytes(&self.#idents))*
            }

            fn to_record_batch(&self) -> #krate::kernel::derived::RecordBatch {
                let arrays = ::std::vec![#(#column::to_array(&self.#idents)),*];
                #krate::kernel::derived::into_batch(<#record<#args> as #krate::kernel::Record>::arrow_schema(), arrays)
            }

            fn from_record_batch(batch: #krate::kernel::derived::RecordBatch) -> ::core::result::Result<Self, #error> {
                ::core::result::Result::Ok(Self {
                    #(#idents: #krate::kernel::derived::column_from(&batch, #labels)?,)*
                })
            }
        }
    }
}

/// The methods of [`Rows`], without the trait.
fn methods(names: &Names<'_>) -> TokenStream {
    let Names { krate, vis, record, soa, view, row_mut, params, args, bounds, .. } = names;
    let rows = quote!(#krate::kernel::Rows);
    let size = quote!(::core::primitive::usize);
    let range_bounds = quote!(::core::ops::RangeBounds<#size>);
    let result = quote!(::core::result::Result);
    quote! {
        #[automatically_derived]
        #[allow(dead_code, unreachable_pub)]
        impl<#params> #soa<#args>
        where
            #bounds
        {
            /// No rows.
            #vis fn new() -> Self {
                ::core::default::Default::default()
            }

            /// No rows, and room for `rows` of them.
            #vis fn with_capacity(rows: #size) -> Self {
                let mut soa = Self::new();
                soa.reserve(rows);
                soa
            }

            /// The columns' names and types.
            #vis fn schema() -> #krate::schema::Schema {
                <#record<#args> as #krate::kernel::Record>::schema()
            }

            /// How many rows there are.
            #[inline]
            #vis fn len(&self) -> #size {
                #rows::len(self)
            }

            /// Whether there is no row.
            #[inline]
            #vis fn is_empty(&self) -> ::core::primitive::bool {
                #rows::is_empty(self)
            }

            /// The row at `row`.
            ///
            /// # Panics
            ///
            /// When there is none.
            #[inline]
            #vis fn view(&self, row: #size) -> #view<'_, #args> {
                #rows::view(self, row)
            }

            /// The row at `row`, if there is one.
            #[inline]
            #vis fn get(&self, row: #size) -> ::core::option::Option<#view<'_, #args>> {
                #rows::get(self, row)
            }

            /// The row at `row`, to be written. A column that is shared is copied when it is written.
            ///
            /// # Panics
            ///
            /// When there is none.
            #[inline]
            #vis fn view_mut(&mut self, row: #size) -> #row_mut<'_, #args> {
                #rows::view_mut(self, row)
            }

            /// The rows, in order.
            #[inline]
            #vis fn iter(&self) -> #krate::kernel::Iter<'_, Self> {
                #rows::iter(self)
            }

            /// Appends a row.
            ///
            /// # Panics
            ///
            /// When a value does not fit its column: a time with a part below a microsecond or inside a leap
            /// second, or text of more than 2 GiB. `try_push` returns an error instead.
            #[inline]
            #[track_caller]
            #vis fn push(&mut self, record: #record<#args>) {
                if let #result::Err(error) = #rows::try_push(self, record) {
                    #krate::kernel::derived::refuse(&error);
                }
            }

            /// Appends a row.
            ///
            /// # Errors
            ///
            /// When a value does not fit its column; the error names both, and nothing is appended.
            #[inline]
            #vis fn try_push(&mut self, record: #record<#args>) -> #result<(), #krate::Error> {
                #rows::try_push(self, record)
            }

            /// Replaces the row at `row`.
            ///
            /// # Errors
            ///
            /// When a value does not fit its column; the error names both, and the row is what it was.
            ///
            /// # Panics
            ///
            /// When there is no such row.
            #vis fn try_set(&mut self, row: #size, record: #record<#args>) -> #result<(), #krate::Error> {
                #rows::try_set(self, row, record)
            }

            /// Takes the row at `row` out; the last row takes its place.
            ///
            /// # Panics
            ///
            /// When there is none.
            #vis fn swap_remove(&mut self, row: #size) -> #record<#args> {
                #rows::swap_remove(self, row)
            }

            /// Calls `change` with every row, in order. A column that is shared is copied when it is written.
            #vis fn for_each_mut(&mut self, change: impl ::core::ops::FnMut(#row_mut<'_, #args>)) {
                #rows::for_each_mut(self, change);
            }

            /// Takes the last row out, if there is one.
            #vis fn pop(&mut self) -> ::core::option::Option<#record<#args>> {
                #rows::pop(self)
            }

            /// Exchanges two rows.
            ///
            /// # Panics
            ///
            /// When one of them is not there.
            #vis fn swap(&mut self, left: #size, right: #size) {
                #rows::swap(self, left, right);
            }

            /// Appends the rows `rows` of `other`, column by column.
            ///
            /// # Panics
            ///
            /// When one of them is not there.
            #vis fn extend_from(&mut self, other: &Self, rows: impl #range_bounds) {
                #rows::extend_from(self, other, rows);
            }

            /// Moves all rows of `other` to the end of these.
            #vis fn append(&mut self, other: &mut Self) {
                #rows::append(self, other);
            }

            /// The rows `rows`, sharing the columns: no value is copied. As long as the slice lives, so does all
            /// that it shares.
            ///
            /// # Panics
            ///
            /// When one of them is not there.
            #vis fn slice(&self, rows: impl #range_bounds) -> Self {
                #rows::slice(self, rows)
            }

            /// Slices of `size` rows that share the columns; the last has what is left.
            ///
            /// # Panics
            ///
            /// When `size` is zero.
            #vis fn chunks(
                &self,
                size: #size,
            ) -> impl ::core::iter::ExactSizeIterator<Item = Self> + ::core::iter::DoubleEndedIterator {
                #rows::chunks(self, size)
            }

            /// The rows `rows`, in that order: some may come more than once.
            ///
            /// # Panics
            ///
            /// When one of them is not there.
            #vis fn take(&self, rows: &[#size]) -> Self {
                #rows::take(self, rows)
            }

            /// Makes these the rows `rows`, in that order: some may come more than once, others not at all.
            ///
            /// # Panics
            ///
            /// When one of them is not there; nothing has changed then.
            #vis fn rearrange(&mut self, rows: &[#size]) {
                #rows::rearrange(self, rows);
            }

            /// Takes the rows from `at` on out.
            ///
            /// # Panics
            ///
            /// When `at` is beyond the rows.
            #vis fn split_off(&mut self, at: #size) -> Self {
                #rows::split_off(self, at)
            }

            /// Takes the rows `rows` out. They are gone at once, whatever becomes of the iterator.
            ///
            /// # Panics
            ///
            /// When one of them is not there.
            #vis fn drain(&mut self, rows: impl #range_bounds) -> #krate::kernel::IntoIter<Self> {
                #rows::drain(self, rows)
            }

            /// Drops the rows for which `keep` is false. If it panics, all rows stay.
            #vis fn retain(&mut self, keep: impl ::core::ops::FnMut(#view<'_, #args>) -> ::core::primitive::bool) {
                #rows::retain(self, keep);
            }

            /// Drops rows for which `key` gives what it gives for the row before them. If it panics, all rows stay.
            #vis fn dedup_by_key<K: ::core::cmp::PartialEq>(&mut self, key: impl ::core::ops::FnMut(#view<'_, #args>) -> K) {
                #rows::dedup_by_key(self, key);
            }

            /// Puts the rows in reverse order.
            #vis fn reverse(&mut self) {
                #rows::reverse(self);
            }

            /// Sorts the rows; equal ones stay in order. If `compare` panics, all rows stay where they are.
            #vis fn sort_by(
                &mut self,
                compare: impl ::core::ops::FnMut(#view<'_, #args>, #view<'_, #args>) -> ::core::cmp::Ordering,
            ) {
                #rows::sort_by(self, compare);
            }

            /// Sorts the rows by a key, which is made once for each row; equal ones stay in order.
            #vis fn sort_by_key<K: ::core::cmp::Ord>(&mut self, key: impl ::core::ops::FnMut(#view<'_, #args>) -> K) {
                #rows::sort_by_key(self, key);
            }

            /// Sorts the rows in less memory than `sort_by` takes; equal ones may come in any order.
            #vis fn sort_unstable_by(
                &mut self,
                compare: impl ::core::ops::FnMut(#view<'_, #args>, #view<'_, #args>) -> ::core::cmp::Ordering,
            ) {
                #rows::sort_unstable_by(self, compare);
            }

            /// Drops all rows but the first `len`.
            #vis fn truncate(&mut self, len: #size) {
                #rows::truncate(self, len);
            }

            /// Drops all rows.
            #vis fn clear(&mut self) {
                #rows::clear(self);
            }

            /// Makes room for `additional` more rows.
            #vis fn reserve(&mut self, additional: #size) {
                #rows::reserve(self, additional);
            }

            /// Gives unused memory back, as far as nobody shares it.
            #vis fn shrink_to_fit(&mut self) {
                #rows::shrink_to_fit(self);
            }

            /// Bytes allocated for the columns.
            #vis fn memory_bytes(&self) -> #size {
                #rows::memory_bytes(self)
            }

            /// All rows as structs of their own.
            #vis fn to_vec(&self) -> ::std::vec::Vec<#record<#args>> {
                ::core::iter::Iterator::collect(::core::iter::Iterator::map(self.iter(), #view::to_owned))
            }

            /// The rows as a record batch that shares the columns; nothing is copied but the bits of `bool`s.
            #vis fn to_record_batch(&self) -> #krate::kernel::derived::RecordBatch {
                #rows::to_record_batch(self)
            }

            /// The rows as a record batch; nothing is copied but the bits of `bool`s.
            #vis fn into_record_batch(self) -> #krate::kernel::derived::RecordBatch {
                #rows::into_record_batch(self)
            }

            /// The rows of a record batch, whose columns are found by name and shared; a column that is no
            /// field is left out.
            ///
            /// # Errors
            ///
            /// When a column is missing, of another type, NULL where the field is no `Option`, or holds a
            /// name that the enum does not have or a time that chrono cannot express; the error names it.
            #vis fn from_record_batch(batch: #krate::kernel::derived::RecordBatch) -> #result<Self, #krate::Error> {
                #rows::from_record_batch(batch)
            }
        }
    }
}

/// `<field>_raw_array`, `<field>_raw_array_mut` and, for an `Option`, `<field>_validity`; `sort_by_<field>`.
fn column_methods(names: &Names<'_>) -> TokenStream {
    let Names { krate, soa, columns, params, args, bounds, .. } = names;
    let methods = columns.iter().map(|Column { field, ident, ty, .. }| {
        let vis = &field.vis;
        let raw = joined(ident, "_raw_array");
        let raw_doc = format!("The stored values of `{ident}`, as one.");
        let raw_mut = field.is_plain().then(|| {
            let name = joined(ident, "_raw_array_mut");
            let value = &field.ty;
            let doc = format!("The values of `{ident}`, as one, to be written; copied first where they are shared.");
            quote! {
                #[doc = #doc]
                #[inline]
                #vis fn #name(&mut self) -> &mut [#value] {
                    #krate::kernel::PlainColumn::values_mut(&mut self.#ident)
                }
            }
        });
        // By a field `key` rows are sorted by `sort_by_key(|row| row.key)`.
        let sort = (crate::attributes::unraw(ident) != "key").then(|| {
            let name = prefixed("sort_by_", ident);
            let doc = format!(
                "Sorts the rows by `{ident}`, None first; equal ones stay in order. Floats are in their total order, \
                 enums in that of the declaration."
            );
            quote! {
                #[doc = #doc]
                #[inline]
                #vis fn #name(&mut self) {
                    #krate::kernel::derived::sort_rows_by(self, |soa, rows| {
                        #krate::kernel::FieldColumn::sort_rows(&soa.#ident, rows);
                    });
                }
            }
        });
        let validity = field.is_option().then(|| {
            let name = joined(ident, "_validity");
            let doc = format!("Which values of `{ident}` are there; what `{raw}` shows for the others means nothing.");
            quote! {
                #[doc = #doc]
                #vis fn #name(&self) -> &#krate::kernel::Validity {
                    self.#ident.validity()
                }
            }
        });
        quote! {
            #[doc = #raw_doc]
            #[inline]
            #vis fn #raw(&self) -> <#ty as #krate::kernel::FieldColumn>::Raw<'_> {
                #krate::kernel::FieldColumn::raw(&self.#ident)
            }

            #raw_mut
            #validity
            #sort
        }
    });
    quote! {
        #[automatically_derived]
        #[allow(dead_code, unreachable_pub)]
        impl<#params> #soa<#args>
        where
            #bounds
        {
            #(#methods)*
        }
    }
}

/// The traits of the standard library.
fn std_impls(names: &Names<'_>) -> TokenStream {
    let Names { krate, record, soa, view, columns, params, args, bounds, .. } = names;
    let idents: Vec<_> = columns.iter().map(|column| column.ident).collect();
    quote! {
        #[automatically_derived]
        impl<#params> ::core::clone::Clone for #soa<#args>
        where
            #bounds
        {
            /// The same rows, sharing the columns.
            fn clone(&self) -> Self {
                Self { #(#idents: ::core::clone::Clone::clone(&self.#idents),)* }
            }
        }

        #[automatically_derived]
        impl<#params> ::core::default::Default for #soa<#args>
        where
            #bounds
        {
            fn default() -> Self {
                Self { #(#idents: ::core::default::Default::default(),)* }
            }
        }

        #[automatically_derived]
        impl<#params> ::core::fmt::Debug for #soa<#args>
        where
            #bounds
        {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_list().entries(self.iter()).finish()
            }
        }

        #[automatically_derived]
        impl<#params> ::core::cmp::PartialEq for #soa<#args>
        where
            #bounds
        {
            fn eq(&self, other: &Self) -> ::core::primitive::bool {
                true #(&& #krate::kernel::derived::same_values(&self.#idents, &other.#idents))*
            }
        }

        #[automatically_derived]
        impl<#params> ::core::iter::Extend<#record<#args>> for #soa<#args>
        where
            #bounds
        {
            /// Appends rows. Panics as `push` does.
            fn extend<I: ::core::iter::IntoIterator<Item = #record<#args>>>(&mut self, records: I) {
                let records = ::core::iter::IntoIterator::into_iter(records);
                self.reserve(::core::iter::Iterator::size_hint(&records).0);
                for record in records {
                    self.push(record);
                }
            }
        }

        #[automatically_derived]
        impl<'a, #params> ::core::iter::Extend<#view<'a, #args>> for #soa<#args>
        where
            #bounds
        {
            /// Appends rows. Panics as `push` does.
            fn extend<I: ::core::iter::IntoIterator<Item = #view<'a, #args>>>(&mut self, views: I) {
                let views = ::core::iter::IntoIterator::into_iter(views);
                ::core::iter::Extend::extend(self, ::core::iter::Iterator::map(views, #view::to_owned));
            }
        }

        #[automatically_derived]
        impl<'a, #params> ::core::iter::FromIterator<#view<'a, #args>> for #soa<#args>
        where
            #bounds
        {
            /// Gathers rows. Panics as `push` does.
            fn from_iter<I: ::core::iter::IntoIterator<Item = #view<'a, #args>>>(views: I) -> Self {
                let mut soa = Self::new();
                ::core::iter::Extend::extend(&mut soa, views);
                soa
            }
        }

        #[automatically_derived]
        impl<#params> ::core::iter::FromIterator<#record<#args>> for #soa<#args>
        where
            #bounds
        {
            /// Gathers rows. Panics as `push` does.
            fn from_iter<I: ::core::iter::IntoIterator<Item = #record<#args>>>(records: I) -> Self {
                let mut soa = Self::new();
                ::core::iter::Extend::extend(&mut soa, records);
                soa
            }
        }

        #[automatically_derived]
        impl<'a, #params> ::core::iter::IntoIterator for &'a #soa<#args>
        where
            #bounds
        {
            type Item = #view<'a, #args>;
            type IntoIter = #krate::kernel::Iter<'a, #soa<#args>>;

            fn into_iter(self) -> Self::IntoIter {
                self.iter()
            }
        }

        #[automatically_derived]
        impl<#params> ::core::iter::IntoIterator for #soa<#args>
        where
            #bounds
        {
            type Item = #record<#args>;
            type IntoIter = #krate::kernel::IntoIter<#soa<#args>>;

            fn into_iter(self) -> Self::IntoIter {
                #krate::kernel::IntoIter::new(self)
            }
        }

        #krate::kernel::derived::for_rayon!([#params] [#args] [#bounds] #record, #soa, #view);
        #krate::kernel::derived::for_serde!([#params] [#args] [#bounds] #record, #soa, #view);
    }
}

fn view_impl(names: &Names<'_>) -> TokenStream {
    let Names { krate, vis, record, soa, view, columns, params, args, bounds, .. } = names;
    let idents: Vec<_> = columns.iter().map(|column| column.ident).collect();
    let labels = idents.iter().map(|ident| crate::attributes::unraw(ident));
    let title = view.to_string();
    quote! {
        #[automatically_derived]
        #[allow(dead_code, unreachable_pub)]
        impl<#params> #view<'_, #args>
        where
            #bounds
        {
            /// The row as a struct of its own.
            #vis fn to_owned(self) -> #record<#args> {
                <#soa<#args> as #krate::kernel::Rows>::to_record(self)
            }
        }

        #[automatically_derived]
        impl<#params> ::core::clone::Clone for #view<'_, #args>
        where
            #bounds
        {
            #[inline]
            fn clone(&self) -> Self {
                *self
            }
        }

        #[automatically_derived]
        impl<#params> ::core::marker::Copy for #view<'_, #args> where #bounds {}

        #[automatically_derived]
        impl<#params> ::core::cmp::PartialEq for #view<'_, #args>
        where
            #bounds
        {
            fn eq(&self, other: &Self) -> ::core::primitive::bool {
                true #(&& self.#idents == other.#idents)*
            }
        }

        #[automatically_derived]
        impl<#params> ::core::fmt::Debug for #view<'_, #args>
        where
            #bounds
        {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_struct(#title)#(.field(#labels, &self.#idents))*.finish()
            }
        }
    }
}

fn mut_impl(names: &Names<'_>) -> TokenStream {
    let Names { krate, vis, soa, view, row_mut, columns, params, args, bounds, .. } = names;
    let title = row_mut.to_string();
    let methods = columns.iter().map(|Column { field, ident, name, ty }| {
        let (field_vis, value) = (&field.vis, &field.ty);
        if field.is_plain() {
            let doc = format!("The field `{ident}`, to be written.");
            return quote! {
                #[doc = #doc]
                #[inline]
                #field_vis fn #ident(&mut self) -> &mut #value {
                    #krate::kernel::PlainColumn::value_mut(&mut self.soa.#ident, self.row)
                }
            };
        }
        let setter = prefixed("set_", ident);
        let doc = format!("Sets the field `{ident}`. Where a value may not fit its column, this returns a `Result`.");
        quote! {
            #[doc = #doc]
            #[inline]
            #field_vis fn #setter(&mut self, value: #value) -> <#ty as #krate::kernel::FieldColumn>::Outcome {
                #krate::kernel::FieldColumn::set_value(&mut self.soa.#ident, self.row, value, #name)
            }
        }
    });
    quote! {
        #[automatically_derived]
        #[allow(dead_code, unreachable_pub)]
        impl<#params> #row_mut<'_, #args>
        where
            #bounds
        {
            /// The row as it is now.
            #[inline]
            #vis fn as_view(&self) -> #view<'_, #args> {
                <#soa<#args> as #krate::kernel::Rows>::view(self.soa, self.row)
            }

            #(#methods)*
        }

        #[automatically_derived]
        impl<#params> ::core::fmt::Debug for #row_mut<'_, #args>
        where
            #bounds
        {
            fn fmt(&self, f: &mut ::core::fmt::Formatter<'_>) -> ::core::fmt::Result {
                f.debug_tuple(#title).field(&self.as_view()).finish()
            }
        }
    }
}
