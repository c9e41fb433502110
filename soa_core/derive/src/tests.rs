//! What the derives refuse, and with which words.

use syn::{Data, DeriveInput, parse_quote};

fn soa(input: &DeriveInput) -> Result<String, String> {
    let tokens = match &input.data {
        Data::Struct(data) => crate::soa::expand(input, data),
        Data::Enum(data) => crate::enums::expand(input, data),
        Data::Union(_) => panic!("no test derives for a union"),
    };
    tokens.map(|tokens| tokens.to_string()).map_err(messages)
}

fn store(input: &DeriveInput) -> Result<String, String> {
    crate::store::expand(input).map(|tokens| tokens.to_string()).map_err(messages)
}

fn messages(error: syn::Error) -> String {
    error.into_iter().map(|error| error.to_string()).collect::<Vec<_>>().join("\n")
}

#[track_caller]
fn refused(result: Result<String, String>, parts: &[&str]) {
    let message = result.expect_err("it is wrong");
    parts.iter().for_each(|part| assert!(message.contains(part), "no {part:?} in: {message}"));
}

#[test]
fn what_is_right_is_taken() {
    let input = parse_quote! {
        #[soa(crate = "other::path")]
        #[soa_store(key = "id", shards = 4, sort_by = "at, id", partition_by = "kind")]
        pub(crate) struct Task { id: u64, #[soa(timestamp = "us")] at: Option<i64>, kind: Kind, #[soa(skip)] cache: Vec<u8> }
    };
    let tokens = soa(&input).expect("it is right");
    assert!(tokens.contains("struct TaskSoA") && tokens.contains("other :: path :: kernel"), "{tokens}");
    assert!(!tokens.contains("unsafe") && !tokens.contains("soa_core"), "{tokens}");
    let tokens = store(&input).expect("it is right");
    assert!(
        ["TaskStore", "TaskShardedStore", "PersistentTaskStore"].iter().all(|name| tokens.contains(name)),
        "{tokens}"
    );
}

#[test]
fn structs_without_names_or_with_lifetimes_are_refused() {
    refused(
        soa(&parse_quote!(
            struct Pair(u64, u64);
        )),
        &["named fields"],
    );
    refused(
        soa(&parse_quote!(
            struct Unit;
        )),
        &["named fields"],
    );
    refused(
        soa(&parse_quote!(
            struct Nothing {}
        )),
        &["at least one field"],
    );
    refused(
        soa(&parse_quote!(
            struct Skipped {
                #[soa(skip)]
                a: u8,
            }
        )),
        &["at least one field"],
    );
    refused(
        soa(&parse_quote!(
            struct Borrowed<'a> {
                a: &'a str,
            }
        )),
        &["no lifetimes", "own"],
    );
}

#[test]
fn parameters_reach_every_type_that_is_made() {
    let input = parse_quote! {
        struct Reading<T: Clone, const N: usize> where T: Send { at: i64, values: [T; N] }
    };
    let tokens = soa(&input).expect("it is right");
    let bounds = "T , const N : usize > where T : Send , T : 'static + Clone , [T ; N] :";
    for made in ["struct ReadingSoA <", "struct ReadingView < 'a ,", "struct ReadingMut < 'a ,"] {
        assert!(tokens.contains(&format!("{made} {bounds}")), "{made} without its parameters");
    }
    let bounded = |item: &&str| item.contains("where T : Send , T : 'static + Clone , [T ; N] :");
    let impls: Vec<&str> = tokens.split("impl <").skip(1).filter(|item| item.contains("const N")).collect();
    assert!(impls.len() > 20 && impls.iter().all(bounded), "an impl without bounds among {}", impls.len());
}

#[test]
fn wrong_attributes_are_refused() {
    refused(
        soa(&parse_quote!(
            struct A {
                #[soa(renamed = "b")]
                a: u8,
            }
        )),
        &["`rename", "`skip`", "`timestamp", "`decimal"],
    );
    refused(
        soa(&parse_quote!(
            struct A {
                #[soa(decimal)]
                a: Decimal,
            }
        )),
        &["say how many digits", "decimal(18, 2)"],
    );
    refused(
        soa(&parse_quote!(
            struct A {
                #[soa(decimal(39, 2))]
                a: i128,
            }
        )),
        &["1 to 38 digits"],
    );
    refused(
        soa(&parse_quote!(
            struct A {
                #[soa(decimal(4, 5))]
                a: Option<i64>,
            }
        )),
        &["at most all of its digits"],
    );
    refused(
        soa(&parse_quote!(
            struct A {
                #[soa(decimal(4, 2), timestamp = "us")]
                a: i64,
            }
        )),
        &["not both"],
    );
    refused(
        soa(&parse_quote!(
            struct A {
                #[soa(rename = "b", rename = "c")]
                a: u8,
            }
        )),
        &["`rename` is given twice"],
    );
    refused(
        soa(&parse_quote!(
            struct A {
                #[soa(rename = "a b")]
                a: u8,
            }
        )),
        &["' '", "Delta Lake"],
    );
    refused(
        soa(&parse_quote!(
            struct A {
                #[soa(rename = "")]
                a: u8,
            }
        )),
        &["not empty"],
    );
    refused(
        soa(&parse_quote!(
            struct A {
                #[soa(skip, rename = "b")]
                a: u8,
                b: u8,
            }
        )),
        &["skipped"],
    );
    refused(
        soa(&parse_quote!(
            struct A {
                a: u8,
                #[soa(rename = "A")]
                b: u8,
            }
        )),
        &["\"A\"", "upper and lower case"],
    );
    refused(
        soa(&parse_quote!(
            struct A {
                #[soa(timestamp = "ms")]
                a: i64,
            }
        )),
        &["timestamp = \"us\""],
    );
    refused(
        soa(&parse_quote!(
            struct A {
                #[soa(timestamp = "us")]
                a: u64,
            }
        )),
        &["`i64`"],
    );
    refused(
        soa(&parse_quote!(
            #[soa(skip)]
            struct A {
                a: u8,
            }
        )),
        &["`crate"],
    );
}

#[test]
fn wrong_enums_are_refused() {
    refused(
        soa(&parse_quote!(
            enum Shape {
                Point,
                Circle(u8),
            }
        )),
        &["no fields", "`Circle`"],
    );
    refused(
        soa(&parse_quote!(
            enum Twice {
                A,
                #[soa(rename = "A")]
                B,
            }
        )),
        &["two variants", "\"A\""],
    );
    refused(
        soa(&parse_quote!(
            enum Never {}
        )),
        &["no values"],
    );
    refused(
        soa(&parse_quote!(
            enum Empty {
                #[soa(rename = "")]
                A,
            }
        )),
        &["not empty"],
    );
    let many = (0..257).map(|n| quote::format_ident!("V{n}"));
    refused(soa(&parse_quote!(enum Many { #(#many),* })), &["256", "257"]);
    let most = (0..256).map(|n| quote::format_ident!("V{n}"));
    assert!(soa(&parse_quote!(enum Most { #(#most),* })).is_ok());
}

#[test]
fn wrong_stores_are_refused() {
    refused(
        store(&parse_quote!(
            struct A {
                a: u8,
            }
        )),
        &["soa_store(key"],
    );
    refused(
        store(&parse_quote!(
            #[soa_store(key = "b")]
            struct A {
                a: u8,
            }
        )),
        &["key names `b`", "the fields are a"],
    );
    refused(
        store(&parse_quote!(
            #[soa_store(key = "b")]
            struct A {
                a: u8,
                #[soa(skip)]
                b: u8,
            }
        )),
        &["is skipped"],
    );
    refused(
        store(&parse_quote!(
            #[soa_store(key = "a", shards = 0)]
            struct A {
                a: u8,
            }
        )),
        &["1 to 4096 shards"],
    );
    refused(
        store(&parse_quote!(
            #[soa_store(shards = 2)]
            struct A {
                a: u8,
            }
        )),
        &["key = "],
    );
    refused(
        store(&parse_quote!(
            #[soa_store(sort_by = "a, a")]
            struct A {
                a: u8,
            }
        )),
        &["`a` twice"],
    );
    refused(
        store(&parse_quote!(
            #[soa_store(sort_by = "a,")]
            struct A {
                a: u8,
            }
        )),
        &["commas"],
    );
    refused(
        store(&parse_quote!(
            #[soa_store(partition_by = "a")]
            struct A {
                a: u8,
            }
        )),
        &["at least one column"],
    );
    refused(
        store(&parse_quote!(
            #[soa_store(key = "a", partition_by = "a")]
            struct A {
                a: u8,
                b: u8,
            }
        )),
        &["the key `a`"],
    );
    refused(
        store(&parse_quote!(
            #[soa_store(order = "a")]
            struct A {
                a: u8,
            }
        )),
        &["`sort_by`"],
    );
    refused(
        store(&parse_quote!(
            #[soa_store(key = "A")]
            enum A {
                B,
            }
        )),
        &["for structs"],
    );
}

#[test]
fn names_that_the_generated_code_needs_are_refused() {
    refused(
        soa(&parse_quote!(
            struct Row {
                as_view: u8,
            }
        )),
        &["`as_view`", "rename"],
    );
    refused(
        soa(&parse_quote!(
            struct Row {
                set_name: u8,
                name: String,
            }
        )),
        &["`set_name`", "rename"],
    );
    assert!(
        soa(&parse_quote!(
            struct Row {
                set_name: u8,
                other: String,
            }
        ))
        .is_ok()
    );
}

#[test]
fn one_column_named_twice_is_refused_however_it_is_named() {
    let input = parse_quote! {
        #[soa_store(key = "id", sort_by = "a, b")]
        struct Row { id: u64, #[soa(rename = "b")] a: u8 }
    };
    refused(store(&input), &["sort_by", "`b`", "twice"]);
}
