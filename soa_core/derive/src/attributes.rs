//! The `#[soa(…)]` and `#[soa_store(…)]` attributes and the fields they describe.

use proc_macro2::{TokenStream, TokenTree};
use quote::{ToTokens, quote};
use syn::meta::ParseNestedMeta;
use syn::punctuated::Punctuated;
use syn::spanned::Spanned;
use syn::{
    Attribute, Data, DataStruct, DeriveInput, Error, Fields, GenericArgument, GenericParam, Generics, Ident, LitInt,
    LitStr, Path, PathArguments, Result, Type, Visibility, parse_quote,
};

/// A struct that can be a record.
pub(crate) struct Struct {
    /// The path of `soa_core`.
    pub(crate) krate: Path,
    /// All fields, in order.
    pub(crate) fields: Vec<Field>,
    /// Its parameters, their names, and what they must be so that every field has a column.
    pub(crate) params: TokenStream,
    pub(crate) args: TokenStream,
    pub(crate) bounds: TokenStream,
    generics: Generics,
}

/// A field of such a struct.
pub(crate) struct Field {
    pub(crate) ident: Ident,
    pub(crate) vis: Visibility,
    pub(crate) ty: Type,
    pub(crate) docs: Vec<Attribute>,
    /// The column's name.
    pub(crate) name: LitStr,
    /// Whether the field has no column.
    pub(crate) skip: bool,
    /// Whether the field is an integer that is a time.
    pub(crate) timestamp: bool,
    /// Whether the field is an enum that is stored as its number.
    pub(crate) as_int: bool,
    /// The digits of a decimal field, and how many of them are after the point.
    pub(crate) decimal: Option<(u8, u8)>,
}

/// Characters that Parquet's and Delta's readers do not take in a column name.
const FORBIDDEN_IN_NAMES: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '=', '\0'];

/// A method that a row's view or setters would have twice because of this field.
fn taken_method(field: &Field, fields: &[Field]) -> Option<String> {
    let name = unraw(&field.ident);
    let sets_another = name
        .strip_prefix("set_")
        .is_some_and(|other| fields.iter().any(|field| !field.skip && unraw(&field.ident) == other));
    (sets_another || name == "as_view" || name == "_soa").then_some(name)
}

impl Struct {
    pub(crate) fn parse(input: &DeriveInput, data: &DataStruct) -> Result<Self> {
        let Fields::Named(fields) = &data.fields else {
            return Err(Error::new(
                if data.fields.is_empty() { input.ident.span() } else { data.fields.span() },
                "a record is a struct with named fields: their names are the columns' names",
            ));
        };
        refuse_lifetimes(input)?;
        let krate = parse_crate(&input.attrs)?;
        let (parsed, wrong): (Vec<_>, Vec<_>) = fields.named.iter().map(Field::parse).partition(Result::is_ok);
        combine(wrong.into_iter().filter_map(Result::err))?;
        let fields: Vec<Field> = parsed.into_iter().filter_map(Result::ok).collect();
        let mut columns: Vec<&Field> = Vec::new();
        let mut errors = Vec::new();
        for field in fields.iter().filter(|field| !field.skip) {
            let name = field.name.value().to_lowercase();
            if columns.iter().any(|other| other.name.value().to_lowercase() == name) {
                let message = format!(
                    "two columns are named \"{}\" (upper and lower case are not told apart); `#[soa(rename = \"…\")]` one",
                    field.name.value()
                );
                errors.push(Error::new(field.name.span(), message));
            }
            if let Some(method) = taken_method(field, &fields) {
                let message = format!(
                    "the method `{method}` of the row's setters is needed for something else; rename the field, and keep its \
                     column's name by `#[soa(rename = \"…\")]`"
                );
                errors.push(Error::new(field.ident.span(), message));
            }
            columns.push(field);
        }
        if columns.is_empty() {
            errors.push(Error::new(input.ident.span(), "a record needs at least one field that is a column"));
        }
        combine(errors)?;
        let (params, args, bounds) = parameters(input, &krate, &columns);
        Ok(Self { krate, fields, params, args, bounds, generics: input.generics.clone() })
    }

    pub(crate) fn columns(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| !field.skip)
    }

    pub(crate) fn skipped(&self) -> impl Iterator<Item = &Field> {
        self.fields.iter().filter(|field| field.skip)
    }

    /// Its parameters without what they must be, which a type's other name does not say; a comma behind each.
    pub(crate) fn unbounded_params(&self) -> TokenStream {
        let params = self.generics.params.iter().map(|param| match param {
            GenericParam::Const(param) => {
                let (name, ty) = (&param.ident, &param.ty);
                quote!(const #name: #ty)
            }
            GenericParam::Type(param) => param.ident.to_token_stream(),
            GenericParam::Lifetime(param) => param.lifetime.to_token_stream(),
        });
        quote!(#(#params,)*)
    }

    /// The column of a field, as `#[soa_store]` names it: by the field's name or the column's.
    pub(crate) fn column(&self, name: &LitStr, role: &str) -> Result<&Field> {
        let wanted = name.value();
        let by_field = self.columns().find(|field| unraw(&field.ident) == wanted);
        by_field.or_else(|| self.columns().find(|field| field.name.value() == wanted)).ok_or_else(|| {
            let known: Vec<String> = self.columns().map(|field| unraw(&field.ident)).collect();
            let skipped = self.skipped().any(|field| unraw(&field.ident) == wanted);
            let why = if skipped { "is skipped: it has no column" } else { "is no field" };
            Error::new(
                name.span(),
                format!("{role} names `{wanted}`, which {why}; the fields are {}", known.join(", ")),
            )
        })
    }
}

impl Field {
    fn parse(field: &syn::Field) -> Result<Self> {
        let ident = field.ident.clone().ok_or_else(|| Error::new(field.span(), "a field of a record has a name"))?;
        let (mut name, mut skip, mut timestamp, mut decimal, mut as_int) = (None, None, None, None, None);
        each_meta(&field.attrs, "soa", |meta| {
            if meta.path.is_ident("rename") {
                once(&meta, &mut name, meta.value()?.parse::<LitStr>()?)
            } else if meta.path.is_ident("skip") {
                once(&meta, &mut skip, meta.path.span())
            } else if meta.path.is_ident("timestamp") {
                once(&meta, &mut timestamp, meta.value()?.parse::<LitStr>()?)
            } else if meta.path.is_ident("decimal") {
                let digits = parse_digits(&meta, &field.ty)?;
                once(&meta, &mut decimal, digits)
            } else if meta.path.is_ident("as_int") {
                once(&meta, &mut as_int, meta.path.span())
            } else {
                Err(meta.error(
                    "a field takes `rename = \"…\"`, `skip`, `timestamp = \"us\"`, `decimal(18, 2)` or `as_int`",
                ))
            }
        })?;
        let is_stored = name.is_some() || timestamp.is_some() || decimal.is_some() || as_int.is_some();
        if let (Some(span), true) = (skip, is_stored) {
            return Err(Error::new(span, "a field that is skipped has no column: it takes no other attribute"));
        }
        if let Some(unit) = &timestamp {
            check_timestamp(unit, &field.ty)?;
        }
        if let (Some(unit), true) = (&timestamp, decimal.is_some()) {
            return Err(Error::new(unit.span(), "a field is a timestamp or a decimal, not both"));
        }
        if let (Some(span), true) = (as_int, timestamp.is_some() || decimal.is_some()) {
            return Err(Error::new(span, "`as_int` is for an enum, which is no timestamp and no decimal"));
        }
        if let Some(name) = &name {
            check_name(name)?;
        }
        Ok(Self {
            name: name.unwrap_or_else(|| LitStr::new(&unraw(&ident), ident.span())),
            vis: field.vis.clone(),
            ty: field.ty.clone(),
            docs: field.attrs.iter().filter(|attr| attr.path().is_ident("doc")).cloned().collect(),
            skip: skip.is_some(),
            timestamp: timestamp.is_some(),
            decimal,
            as_int: as_int.is_some(),
            ident,
        })
    }

    /// The type of the field's column.
    pub(crate) fn column_type(&self, krate: &Path) -> Type {
        let ty = &self.ty;
        if let Some((precision, scale)) = self.decimal {
            let number = option_of(ty).unwrap_or(ty);
            let column: Type =
                parse_quote!(#krate::kernel::Fixed<#krate::kernel::Decimal<#number, #precision, #scale>>);
            return match option_of(ty) {
                Some(_) => parse_quote!(#krate::kernel::Nullable<#column>),
                None => column,
            };
        }
        if self.as_int {
            let value = option_of(ty).unwrap_or(ty);
            let column: Type = parse_quote!(#krate::kernel::Fixed<#krate::kernel::AsInt<#value>>);
            return match option_of(ty) {
                Some(_) => parse_quote!(#krate::kernel::Nullable<#column>),
                None => column,
            };
        }
        match (self.timestamp, option_of(ty)) {
            (true, Some(_)) => {
                parse_quote!(#krate::kernel::Nullable<#krate::kernel::Fixed<#krate::kernel::TimestampMicros>>)
            }
            (true, None) => parse_quote!(#krate::kernel::Fixed<#krate::kernel::TimestampMicros>),
            (false, _) => parse_quote!(<#ty as #krate::kernel::SoaField>::Column),
        }
    }

    /// The type that a view holds, where the field's name tells it: text and bytes are borrowed, numbers and times held by
    /// value. Of others their column knows.
    pub(crate) fn view_type(&self) -> Option<Type> {
        const BY_VALUE: &[&str] = &[
            "bool",
            "i8",
            "i16",
            "i32",
            "i64",
            "i128",
            "u8",
            "u16",
            "u32",
            "u64",
            "f32",
            "f64",
            "NaiveDate",
            "NaiveDateTime",
            "NaiveTime",
            "TimeDelta",
            "Uuid",
            "Decimal",
        ];
        let is_by_value =
            |ty: &Type| argument_of(ty, "DateTime").is_some() || BY_VALUE.iter().any(|name| is_named(ty, name));
        let borrowed = |ty: &Type| -> Option<Type> {
            if is_named(ty, "String") {
                return Some(parse_quote!(&'a str));
            }
            vec_of(ty).filter(|element| is_named(element, "u8")).map(|_| parse_quote!(&'a [u8]))
        };
        if let Some(borrowed) = borrowed(&self.ty) {
            return Some(borrowed);
        }
        if self.decimal.is_some() || self.as_int || is_by_value(option_of(&self.ty).unwrap_or(&self.ty)) {
            return Some(self.ty.clone());
        }
        option_of(&self.ty).and_then(borrowed).map(|borrowed| parse_quote!(::core::option::Option<#borrowed>))
    }

    /// Whether the stored type is the field's own, as far as its name tells.
    pub(crate) fn is_plain(&self) -> bool {
        const NUMBERS: &[&str] = &["i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64"];
        self.decimal.is_none() && !self.as_int && NUMBERS.iter().any(|number| is_named(&self.ty, number))
    }

    /// Whether the field is an `Option`, as far as its name tells.
    pub(crate) fn is_option(&self) -> bool {
        option_of(&self.ty).is_some()
    }
}

/// The digits of `decimal(precision, scale)`, or those that hold every number of an integer type where none are given.
fn parse_digits(meta: &ParseNestedMeta<'_>, ty: &Type) -> Result<(u8, u8)> {
    const MAX: u8 = 38;
    let number = option_of(ty).unwrap_or(ty);
    if !meta.input.peek(syn::token::Paren) {
        let whole = [("i64", 19), ("u64", 20), ("i128", MAX)].iter().find(|(name, _)| is_named(number, name));
        return match whole {
            Some((_, digits)) => Ok((*digits, 0)),
            None => {
                Err(meta
                    .error("say how many digits there are, and how many of them are after the point: `decimal(18, 2)`"))
            }
        };
    }
    let content;
    syn::parenthesized!(content in meta.input);
    let precision: LitInt = content.parse()?;
    content.parse::<syn::Token![,]>()?;
    let scale: LitInt = content.parse()?;
    if !content.is_empty() {
        return Err(content.error("`decimal` takes two numbers: `decimal(18, 2)`"));
    }
    let digits = precision.base10_parse::<u8>().ok().filter(|digits| (1..=MAX).contains(digits));
    let digits = digits.ok_or_else(|| Error::new(precision.span(), format!("a decimal has 1 to {MAX} digits")))?;
    let after = scale.base10_parse::<u8>().ok().filter(|after| *after <= digits);
    let after =
        after.ok_or_else(|| Error::new(scale.span(), "a decimal has at most all of its digits after the point"))?;
    Ok((digits, after))
}

fn check_timestamp(unit: &LitStr, ty: &Type) -> Result<()> {
    if unit.value() != "us" {
        let message =
            "timestamps are stored in microseconds: write `timestamp = \"us\"`, and convert values of other units";
        return Err(Error::new(unit.span(), message));
    }
    let number = option_of(ty).unwrap_or(ty);
    if !is_named(number, "i64") {
        let message =
            "`timestamp` is for an `i64` or `Option<i64>` that counts microseconds; chrono's types need no attribute";
        return Err(Error::new(ty.span(), message));
    }
    Ok(())
}

fn check_name(name: &LitStr) -> Result<()> {
    if name.value().is_empty() {
        return Err(Error::new(name.span(), "a column's name is not empty"));
    }
    match name.value().chars().find(|c| FORBIDDEN_IN_NAMES.contains(c)) {
        Some(bad) => {
            Err(Error::new(name.span(), format!("a column's name must not hold {bad:?}: Delta Lake does not allow it")))
        }
        None => Ok(()),
    }
}

/// What `#[soa_store(…)]` says.
pub(crate) struct StoreOptions {
    pub(crate) key: Option<LitStr>,
    pub(crate) shards: usize,
    pub(crate) sort_by: Vec<LitStr>,
    pub(crate) partition_by: Vec<LitStr>,
}

/// How many shards there are when nothing else is said.
const DEFAULT_SHARDS: usize = 16;
const MAX_SHARDS: usize = 4096;

impl StoreOptions {
    pub(crate) fn parse(input: &DeriveInput) -> Result<Self> {
        let (mut key, mut shards, mut sort_by, mut partition_by) = (None, None, None, None);
        each_meta(&input.attrs, "soa_store", |meta| {
            if meta.path.is_ident("key") {
                once(&meta, &mut key, meta.value()?.parse::<LitStr>()?)
            } else if meta.path.is_ident("shards") {
                once(&meta, &mut shards, meta.value()?.parse::<LitInt>()?)
            } else if meta.path.is_ident("sort_by") {
                once(&meta, &mut sort_by, meta.value()?.parse::<LitStr>()?)
            } else if meta.path.is_ident("partition_by") {
                once(&meta, &mut partition_by, meta.value()?.parse::<LitStr>()?)
            } else {
                Err(meta.error("a store takes `key`, `shards`, `sort_by` and `partition_by`"))
            }
        })?;
        if !input.attrs.iter().any(|attr| attr.path().is_ident("soa_store")) {
            let message = "say how the store is kept: `#[soa_store(key = \"…\")]`";
            return Err(Error::new(input.ident.span(), message));
        }
        if let (Some(shards), None) = (&shards, &key) {
            return Err(Error::new(shards.span(), "shards are told apart by the key: name one with `key = \"…\"`"));
        }
        let shards = match shards {
            None => DEFAULT_SHARDS,
            Some(shards) => match shards.base10_parse() {
                Ok(count @ 1..=MAX_SHARDS) => count,
                _ => return Err(Error::new(shards.span(), format!("a store has 1 to {MAX_SHARDS} shards"))),
            },
        };
        Ok(Self {
            key,
            shards,
            sort_by: names(sort_by.as_ref(), "sort_by")?,
            partition_by: names(partition_by.as_ref(), "partition_by")?,
        })
    }
}

/// The names in a list that commas separate.
fn names(list: Option<&LitStr>, role: &str) -> Result<Vec<LitStr>> {
    let Some(list) = list else { return Ok(Vec::new()) };
    let text = list.value();
    let mut names: Vec<LitStr> = Vec::new();
    for name in text.split(',').map(str::trim) {
        if name.is_empty() {
            return Err(Error::new(list.span(), format!("{role} lists the names of fields, with commas between them")));
        }
        if names.iter().any(|other| other.value() == name) {
            return Err(Error::new(list.span(), format!("{role} names `{name}` twice")));
        }
        names.push(LitStr::new(name, list.span()));
    }
    Ok(names)
}

/// The path of `soa_core`: `::soa_core`, unless `#[soa(crate = "…")]` says otherwise.
pub(crate) fn parse_crate(attrs: &[Attribute]) -> Result<Path> {
    let mut krate = None;
    each_meta(attrs, "soa", |meta| {
        if meta.path.is_ident("crate") {
            once(&meta, &mut krate, meta.value()?.parse::<LitStr>()?)
        } else {
            Err(meta.error("on the whole type there is only `crate = \"…\"`; other attributes belong to its fields"))
        }
    })?;
    let Some(path) = krate else { return Ok(parse_quote!(::soa_core)) };
    path.parse()
        .map_err(|_| Error::new(path.span(), "`crate` is the path of `soa_core`: `crate = \"other::soa_core\"`"))
}

/// Refuses parameters of an enum.
pub(crate) fn refuse_generics(input: &DeriveInput) -> Result<()> {
    if input.generics.params.is_empty() {
        return Ok(());
    }
    let message = "an enum that is a column has no parameters: its names are the column's type";
    Err(Error::new(input.generics.span(), message))
}

/// Refuses lifetimes.
fn refuse_lifetimes(input: &DeriveInput) -> Result<()> {
    match input.generics.lifetimes().next() {
        None => Ok(()),
        Some(lifetime) => {
            let message = "a record has no lifetimes: its columns own their values, so let the fields own theirs";
            Err(Error::new(lifetime.span(), message))
        }
    }
}

/// The parameters of a struct, their names, and bounds by which the types of all fields that name one are columns'.
fn parameters(input: &DeriveInput, krate: &Path, columns: &[&Field]) -> (TokenStream, TokenStream, TokenStream) {
    let mut params: Vec<GenericParam> = input.generics.params.iter().cloned().collect();
    let mut names: Vec<&Ident> = Vec::new();
    for (param, original) in params.iter_mut().zip(&input.generics.params) {
        match param {
            // What it must be is said behind `where`, with what is added there.
            GenericParam::Type(param) => {
                (param.eq_token, param.default) = (None, None);
                (param.colon_token, param.bounds) = (None, Punctuated::new());
            }
            GenericParam::Const(param) => (param.eq_token, param.default) = (None, None),
            GenericParam::Lifetime(_) => {}
        }
        match original {
            GenericParam::Type(param) => names.push(&param.ident),
            GenericParam::Const(param) => names.push(&param.ident),
            GenericParam::Lifetime(_) => {}
        }
    }
    let given = input.generics.where_clause.iter().flat_map(|clause| &clause.predicates);
    let mut bounds: Vec<TokenStream> = given.map(ToTokens::to_token_stream).collect();
    for param in input.generics.type_params() {
        let (name, own) = (&param.ident, &param.bounds);
        bounds.push(if own.is_empty() { quote!(#name: 'static) } else { quote!(#name: 'static + #own) });
    }
    for field in columns.iter().filter(|field| mentions(field.ty.to_token_stream(), &names)) {
        if field.as_int {
            let value = option_of(&field.ty).unwrap_or(&field.ty);
            bounds.push(quote!(#value: #krate::kernel::SoaEnum));
            continue;
        }
        // What an Option's column is must be known: it has more than every column has.
        bounds.push(match option_of(&field.ty) {
            Some(value) => quote!(#value: #krate::kernel::SoaValue),
            None => {
                let ty = &field.ty;
                quote!(#ty: #krate::kernel::SoaField)
            }
        });
    }
    (quote!(#(#params),*), quote!(#(#names),*), quote!(#(#bounds),*))
}

/// Whether one of the names is in a type.
fn mentions(tokens: TokenStream, names: &[&Ident]) -> bool {
    tokens.into_iter().any(|tree| match tree {
        TokenTree::Ident(ident) => names.contains(&&ident),
        TokenTree::Group(group) => mentions(group.stream(), names),
        TokenTree::Punct(_) | TokenTree::Literal(_) => false,
    })
}

/// Calls `take` with each entry of the attributes named `name`; gathers the errors.
pub(crate) fn each_meta(
    attrs: &[Attribute],
    name: &str,
    mut take: impl FnMut(ParseNestedMeta<'_>) -> Result<()>,
) -> Result<()> {
    let errors = attrs
        .iter()
        .filter(|attr| attr.path().is_ident(name))
        .filter_map(|attr| attr.parse_nested_meta(&mut take).err());
    combine(errors)
}

/// Keeps the value of an attribute, which must not come twice.
pub(crate) fn once<T>(meta: &ParseNestedMeta<'_>, slot: &mut Option<T>, value: T) -> Result<()> {
    if slot.is_some() {
        let name = meta.path.get_ident().map(Ident::to_string).unwrap_or_default();
        return Err(meta.error(format!("`{name}` is given twice")));
    }
    *slot = Some(value);
    Ok(())
}

/// All errors as one, or `Ok` if there is none.
pub(crate) fn combine(errors: impl IntoIterator<Item = Error>) -> Result<()> {
    let all = errors.into_iter().reduce(|mut all, error| {
        all.combine(error);
        all
    });
    all.map_or(Ok(()), Err)
}

/// The data of a struct, for the derive that takes nothing else.
pub(crate) fn struct_data(input: &DeriveInput) -> Result<&DataStruct> {
    match &input.data {
        Data::Struct(data) => Ok(data),
        Data::Enum(data) => {
            Err(Error::new(data.enum_token.span, "`SoAStore` is for structs; an enum derives `SoA` alone"))
        }
        Data::Union(data) => Err(Error::new(data.union_token.span, "`SoAStore` is for structs")),
    }
}

/// A name without `r#`.
pub(crate) fn unraw(ident: &Ident) -> String {
    let name = ident.to_string();
    name.strip_prefix("r#").map_or(name.clone(), str::to_owned)
}

/// A name made of others, with the span of the first.
pub(crate) fn joined(ident: &Ident, suffix: &str) -> Ident {
    Ident::new(&format!("{}{suffix}", unraw(ident)), ident.span())
}

/// A name with something in front of it.
pub(crate) fn prefixed(prefix: &str, ident: &Ident) -> Ident {
    Ident::new(&format!("{prefix}{}", unraw(ident)), ident.span())
}

fn is_named(ty: &Type, name: &str) -> bool {
    let Type::Path(path) = ungroup(ty) else { return false };
    path.qself.is_none() && path.path.segments.last().is_some_and(|last| last.ident == name && last.arguments.is_none())
}

/// The type inside an `Option`, if it is one.
fn option_of(ty: &Type) -> Option<&Type> {
    argument_of(ty, "Option")
}

/// The type inside a `Vec`, as far as names tell.
fn vec_of(ty: &Type) -> Option<&Type> {
    argument_of(ty, "Vec")
}

/// The one argument of a type of this name.
fn argument_of<'a>(ty: &'a Type, generic: &str) -> Option<&'a Type> {
    let Type::Path(path) = ungroup(ty) else { return None };
    let last = path.path.segments.last().filter(|last| last.ident == generic)?;
    match &last.arguments {
        PathArguments::AngleBracketed(arguments) if arguments.args.len() == 1 => match arguments.args.first()? {
            GenericArgument::Type(inner) => Some(inner),
            _ => None,
        },
        _ => None,
    }
}

/// Types that come out of `macro_rules!` are in invisible groups.
fn ungroup(ty: &Type) -> &Type {
    match ty {
        Type::Group(group) => ungroup(&group.elem),
        Type::Paren(paren) => ungroup(&paren.elem),
        other => other,
    }
}
