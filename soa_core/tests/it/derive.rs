//! What `#[derive(SoA)]` gives.

use soa_core::kernel::{Record, Rows, StoredRecord};
use soa_core::schema::{DataType, arrow_schema};
use soa_core::{Error, ErrorKind, SoA, SoAStore};

use crate::records::{Colour, Everything, EverythingSoA, everything, instant};

#[test]
fn rows_come_back_as_they_went_in() {
    let rows: Vec<Everything> = (0..100).map(everything).collect();
    let soa: EverythingSoA = rows.iter().cloned().collect();
    assert_eq!(soa.len(), 100);
    assert!(!soa.is_empty());
    assert_eq!(soa.to_vec(), rows);
    assert_eq!(soa.iter().len(), 100);
    assert_eq!(soa.iter().rev().map(|row| row.stamp).collect::<Vec<_>>(), (0..100).rev().collect::<Vec<_>>());
    assert_eq!((&soa).into_iter().nth(7).unwrap().to_owned(), rows[7]);
    assert_eq!(soa.get(99).unwrap().text, rows[99].text);
    assert!(soa.get(100).is_none());
    assert_eq!(soa.view(4).maybe_text, rows[4].maybe_text.as_deref());
    let mut other = soa.clone();
    assert_eq!(soa, other);
    *other.view_mut(3).i8() += 1;
    assert_ne!(soa, other);
}

#[test]
fn raw_arrays_are_the_stored_type() {
    let soa: EverythingSoA = (0..4).map(everything).collect();
    let flags: &[u8] = soa.flag_raw_array();
    assert_eq!(flags, [1, 0, 1, 0]);
    let colours: &[u8] = soa.colour_raw_array();
    assert_eq!(colours, [0, 1, 2, 0]);
    let days: &[i32] = soa.day_raw_array();
    assert_eq!(days[0], 700_000 - 719_163);
    let stamps: &[i64] = soa.stamp_raw_array();
    assert_eq!(stamps, [0, 1, 2, 3]);
    let instants: &[i64] = soa.instant_raw_array();
    assert_eq!(instants[1], 1_000_003);
    assert_eq!(
        soa.text_raw_array().iter().collect::<Vec<_>>(),
        ["räksmörgås number 0", "1", "räksmörgås number 2", "3"]
    );
    assert_eq!(soa.maybe_number_raw_array().len(), 4);
    assert_eq!(
        (0..4).map(|row| soa.maybe_number_validity().is_valid(row)).collect::<Vec<_>>(),
        [true, true, false, true]
    );
    assert_eq!(soa.maybe_number_validity().null_count(), 1);
}

#[test]
fn rows_are_changed_in_place() {
    let mut soa: EverythingSoA = (0..3).map(everything).collect();
    let mut row = soa.view_mut(1);
    *row.u64() = u64::MAX;
    *row.stamp() += 41;
    row.set_flag(true);
    row.set_colour(Colour::Blue);
    row.set_maybe_colour(None);
    row.set_text("a text that does not fit a view".to_owned()).unwrap();
    row.set_maybe_text(Some(String::new())).unwrap();
    row.set_maybe_number(None);
    row.set_instant(instant(-1)).unwrap();
    assert_eq!(row.as_view().u64, u64::MAX);
    let row = soa.view(1);
    assert_eq!((row.stamp, row.flag, row.colour, row.maybe_colour), (42, true, Colour::Blue, None));
    assert_eq!((row.text, row.maybe_text, row.maybe_number), ("a text that does not fit a view", Some(""), None));
    assert_eq!(row.instant, instant(-1));
    assert_eq!(soa.view(0).to_owned(), everything(0));
    assert_eq!(soa.view(2).to_owned(), everything(2));
    assert_eq!(soa.swap_remove(0), everything(0));
    assert_eq!(soa.view(0).to_owned(), everything(2));
    soa.try_set(1, everything(9)).unwrap();
    assert_eq!(soa.to_vec(), [everything(2), everything(9)]);
    soa.truncate(1);
    soa.reserve(10);
    soa.shrink_to_fit();
    assert_eq!(soa.len(), 1);
    soa.clear();
    assert!(soa.is_empty());
    assert_eq!(format!("{soa:?}"), "[]");
}

#[test]
fn values_that_do_not_fit_are_refused_by_name() {
    let fine = instant(1_700_000_000_000_000) + chrono::TimeDelta::nanoseconds(1);
    let mut soa = EverythingSoA::new();
    let error = soa.try_push(Everything { instant: fine, ..everything(1) }).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ValueOutOfRange);
    let message = error.to_string();
    assert!(message.contains("\"instant\"") && message.contains("2023-11-14 22:13:20.000000001"), "{message}");
    assert!(soa.is_empty() && soa.flag_raw_array().is_empty(), "nothing of the row is left");
    soa.push(everything(1));
    let error = soa.view_mut(0).set_maybe_instant(Some(fine)).unwrap_err();
    assert!(error.to_string().contains("\"maybe_instant\""), "{error}");
    assert!(soa.try_set(0, Everything { clock: fine.naive_utc(), ..everything(2) }).is_err());
    assert_eq!(soa.to_vec(), [everything(1)]);
    let digits = rust_decimal::Decimal::new(1, 4);
    let error = soa.try_push(Everything { price: digits, ..everything(2) }).unwrap_err();
    assert!(error.to_string().contains("0.0001") && error.to_string().contains("decimal(18,3)"), "{error}");
    assert!(soa.try_push(Everything { huge: 10_i128.pow(38), ..everything(2) }).is_err());
    assert!(soa.try_push(Everything { maybe_cents: Some(-1_000_000_000), ..everything(2) }).is_err());
    assert!(soa.try_push(Everything { took: chrono::TimeDelta::MAX, ..everything(2) }).is_err());
    assert_eq!(soa.to_vec(), [everything(1)]);
    let leap = chrono::NaiveDate::from_ymd_opt(2016, 12, 31).unwrap().and_hms_milli_opt(23, 59, 59, 1_500).unwrap();
    assert!(soa.try_push(Everything { clock: leap, ..everything(2) }).is_err());
    let panic = std::panic::catch_unwind(move || soa.push(Everything { instant: fine, ..everything(1) })).unwrap_err();
    assert!(panic.downcast_ref::<String>().unwrap().contains("\"instant\""));
}

#[test]
fn schemas_say_what_the_columns_are() {
    let schema = Everything::schema();
    assert_eq!(schema, EverythingSoA::schema());
    assert_eq!(schema.len(), 50);
    for (name, precision, scale) in
        [("huge", 38, 0), ("price", 18, 3), ("large", 20, 0), ("maybe_cents", 9, 2), ("maybe_price", 28, 28)]
    {
        let field = schema.fields().iter().find(|field| field.name() == name).unwrap();
        assert_eq!(field.data_type(), &DataType::Decimal { precision, scale }, "{name}");
    }
    assert_eq!(schema.fields()[20].name(), "maybe_Text");
    assert!(schema.fields()[20].is_nullable() && !schema.fields()[0].is_nullable());
    assert_eq!(schema.fields()[16].data_type(), &DataType::Timestamp { utc: true });
    assert_eq!(schema.fields()[14].data_type(), &DataType::Timestamp { utc: false });
    let DataType::Enum(variants) = schema.fields()[12].data_type() else { panic!("an enum") };
    assert_eq!(variants.names(), ["Red", "dark green", "Blue"]);
    let batch = EverythingSoA::new().to_record_batch();
    assert_eq!(batch.schema(), arrow_schema(&schema));
    assert_eq!(Everything::arrow_schema(), arrow_schema(&schema));
}

mod elsewhere {
    // The crate under another name, a raw identifier, and fields named like what the derive calls.
    pub(super) use soa_core as renamed;

    #[derive(Debug, Clone, Default, PartialEq, renamed::SoA, renamed::SoAStore)]
    #[soa(crate = "crate::derive::elsewhere::renamed")]
    #[soa_store(key = "type", sort_by = "len, Record", partition_by = "row")]
    pub(super) struct Odd {
        pub(super) r#type: String,
        pub(super) len: u32,
        #[soa(rename = "Record")]
        pub(super) record: f64,
        pub(super) row: i8,
        pub(super) value: bool,
        #[soa(skip)]
        pub(super) cache: Option<Box<str>>,
    }
}

#[test]
fn odd_names_work() {
    use elsewhere::{Odd, OddSoA, OddStore};
    let odd = Odd { r#type: "x".into(), len: 3, record: 1.5, row: -1, value: true, cache: Some("gone".into()) };
    let mut soa = OddSoA::new();
    soa.push(odd.clone());
    *soa.view_mut(0).len() = 4;
    soa.view_mut(0).set_value(false);
    assert_eq!(soa.type_raw_array().get(0), "x");
    assert_eq!(format!("{:?}", soa.view(0)), "OddView { type: \"x\", len: 4, record: 1.5, row: -1, value: false }");
    assert_eq!(soa.to_vec(), [Odd { len: 4, value: false, cache: None, ..odd.clone() }]);
    let schema = Odd::table_schema();
    assert_eq!(schema.key(), Some(0));
    assert_eq!(schema.names_of(schema.sort_by()), ["len", "Record"]);
    assert_eq!(schema.names_of(schema.partition_by()), ["row"]);
    assert_eq!(Odd::schema().key(), None);
    let mut store = OddStore::new();
    store.add(odd).unwrap();
    assert!(store.contains("x") && !store.contains("y"));
}

/// A module that has nothing in scope, and what it has by names that the generated code could mean.
#[no_implicit_prelude]
mod bare {
    #[allow(dead_code, reason = "it is in the way, nothing more")]
    mod in_the_way {
        pub(super) struct Option;
        pub(super) struct Result;
        pub(super) struct Vec;
        pub(super) struct Ok;
        pub(super) struct Self_;
        pub(super) trait Iterator {}
        pub(super) trait Rows {}
        pub(super) mod core {}
        pub(super) mod std {}
        pub(super) mod soa_core {}
    }
    #[allow(unused_imports, reason = "they are in the way, nothing more")]
    use self::in_the_way::*;

    #[allow(non_camel_case_types, dead_code, reason = "it is in the way, nothing more")]
    struct usize;

    #[derive(
        ::core::fmt::Debug, ::core::clone::Clone, ::core::marker::Copy, ::core::cmp::PartialEq, ::soa_core::SoA,
    )]
    pub(super) enum Ok_ {
        Yes,
        No,
    }

    #[derive(
        ::core::fmt::Debug, ::core::clone::Clone, ::core::cmp::PartialEq, ::soa_core::SoA, ::soa_core::SoAStore,
    )]
    #[soa_store(key = "rows", partition_by = "soa")]
    pub(in crate::derive) struct Bare {
        pub(in crate::derive) rows: ::core::primitive::u64,
        pub(super) soa: Ok_,
        pub(crate) record: ::std::option::Option<::std::string::String>,
        pub(self) key: ::core::primitive::i16,
        #[soa(skip)]
        view: ::core::primitive::char,
    }

    pub(in crate::derive) fn bare(rows: ::core::primitive::u64) -> Bare {
        Bare { rows, soa: Ok_::No, record: ::core::option::Option::None, key: 1, view: '\0' }
    }
}

#[test]
fn nothing_in_scope_is_needed_or_in_the_way() {
    let mut soa: bare::BareSoA = (0..3).map(bare::bare).collect();
    assert_eq!((soa.len(), soa.view(2).rows, soa.view(0).soa), (3, 2, bare::Ok_::No));
    *soa.view_mut(1).rows() = 9;
    soa.view_mut(1).set_soa(bare::Ok_::Yes);
    soa.sort_by(|left, right| right.rows.cmp(&left.rows));
    soa.sort_by_soa();
    assert_eq!(soa.rows_raw_array(), [9, 2, 0]);
    assert_eq!(soa.pop(), Some(bare::bare(0)));
    let store = bare::BareStore::from_kernel(soa).unwrap();
    assert_eq!(store.into_iter().map(|row| row.rows).collect::<Vec<_>>(), [9, 2]);
}

/// Nothing of what is private to another module shows: fields are as visible in columns, views and rows as in the struct.
mod in_parts {
    pub(super) mod inner {
        #[derive(Debug, Clone, Default, PartialEq, soa_core::SoA)]
        pub struct Part {
            pub open: u8,
            closed: u16,
        }

        impl Part {
            pub fn new(open: u8, closed: u16) -> Self {
                Self { open, closed }
            }
        }

        impl PartSoA {
            pub fn sum_of_closed(&self) -> u32 {
                self.closed_raw_array().iter().copied().map(u32::from).sum()
            }
        }
    }
}

#[test]
fn private_fields_stay_private_and_usable() {
    use in_parts::inner::{Part, PartSoA};
    let mut parts: PartSoA = [Part::new(1, 10), Part::new(2, 20)].into_iter().collect();
    *parts.view_mut(0).open() = 7;
    assert_eq!((parts.open_raw_array(), parts.sum_of_closed()), (&[7, 2][..], 30));
    fn local() -> usize {
        #[derive(soa_core::SoA)]
        struct Local {
            n: u8,
        }
        let locals: LocalSoA = (0..4).map(|n| Local { n }).collect();
        locals.into_iter().map(|local| usize::from(local.n)).sum()
    }
    assert_eq!(local(), 6);
}

/// The traits let code be generic over records.
fn first<R: Record>(rows: Vec<R>) -> Option<R> {
    let mut soa = R::Soa::default();
    for row in rows {
        soa.try_push(row).unwrap();
    }
    soa.get(0).map(R::Soa::to_record)
}

#[test]
fn records_can_be_handled_generically() {
    assert_eq!(first(vec![everything(5), everything(6)]), Some(everything(5)));
}

#[derive(Debug, SoA, SoAStore)]
#[soa_store(sort_by = "at")]
struct Reading {
    #[soa(timestamp = "us")]
    at: i64,
    level: f32,
}

#[test]
fn a_table_needs_no_key() {
    assert_eq!(Reading::table_schema().sort_by(), [0]);
    assert_eq!(Reading::table_schema().key(), None);
    let soa: ReadingSoA = [Reading { at: 1, level: 0.5 }].into_iter().collect();
    assert_eq!(soa.view(0).to_owned().level, 0.5);
    assert_eq!(soa.at_raw_array(), [1]);
}

macro_rules! record_in_macro {
    ($number:ty, $text:ty) => {
        #[derive(Debug, Clone, PartialEq, SoA)]
        struct FromMacro {
            number: $number,
            text: $text,
        }
    };
}

record_in_macro!(u16, Option<String>);

#[test]
fn types_may_come_out_of_macros() {
    let row = FromMacro { number: 7, text: Some("seven".into()) };
    let mut soa = FromMacroSoA::new();
    soa.push(row.clone());
    *soa.view_mut(0).number() = 8;
    assert_eq!(soa.view(0).text, Some("seven"));
    assert_eq!(soa.to_vec(), [FromMacro { number: 8, ..row }]);
}

#[test]
fn duplicate_keys_are_named() {
    let mut store = elsewhere::OddStore::new();
    let odd = elsewhere::Odd { r#type: "twice".into(), ..Default::default() };
    store.try_add(odd.clone()).unwrap();
    let error = store.try_add(odd).unwrap_err();
    assert!(matches!(&error, Error::DuplicateKey { column, key } if column == "type" && key == "\"twice\""), "{error}");
}

#[test]
fn enums_may_be_stored_as_their_numbers() {
    let soa: EverythingSoA = (0..4).map(everything).collect();
    assert_eq!(soa.number_of_colour_raw_array(), [0, 1, 40, 0]);
    assert_eq!(soa.view(2).number_of_colour, Colour::Blue);
    let batch = soa.to_record_batch();
    let column = batch.schema().index_of("number_of_colour").unwrap();
    let with = |numbers: Vec<i32>| {
        let mut columns = batch.columns().to_vec();
        columns[column] = std::sync::Arc::new(soa_core::arrow::array::Int32Array::from(numbers));
        EverythingSoA::from_record_batch(soa_core::arrow::array::RecordBatch::try_new(batch.schema(), columns).unwrap())
    };
    assert_eq!(with(vec![40, 1, 0, 1]).unwrap().view(0).number_of_colour, Colour::Blue);
    let error = with(vec![0, 1, 2, 0]).unwrap_err().to_string();
    assert!(
        error.contains("\"number_of_colour\"") && error.contains("no variant 2") && error.contains("0, 1, 40"),
        "{error}"
    );
}

mod parameters {
    use std::fmt::Debug;

    use soa_core::kernel::{Record, SoaField, StoredRecord};
    use soa_core::schema::DataType;
    use soa_core::{SoA, SoAStore};

    #[derive(Debug, Clone, PartialEq, SoA, SoAStore)]
    #[soa_store(key = "id", sort_by = "id")]
    struct Reading<T: Clone + PartialEq, const N: usize> {
        id: u64,
        value: T,
        maybe: Option<T>,
        last: [T; N],
        #[soa(skip)]
        note: Option<&'static str>,
    }

    fn readings<T: Clone + PartialEq, const N: usize>(values: [T; 3]) -> Vec<Reading<T, N>> {
        let reading = |(id, value): (u64, T)| Reading {
            id,
            maybe: (id == 1).then(|| value.clone()),
            last: std::array::from_fn(|_| value.clone()),
            value,
            note: None,
        };
        (0..).zip(values).map(reading).collect()
    }

    #[test]
    fn each_argument_has_columns_of_its_own() {
        let numbers: ReadingSoA<f64, 2> = readings([1.5, 2.5, 3.5]).into_iter().collect();
        assert_eq!(numbers.value_raw_array(), [1.5, 2.5, 3.5]);
        assert_eq!(numbers.view(1).maybe, Some(2.5));
        let texts: ReadingSoA<String, 1> = readings(["a", "b", "c"].map(str::to_owned)).into_iter().collect();
        assert_eq!(texts.view(2).last.iter().collect::<Vec<_>>(), ["c"]);
        assert_eq!(format!("{:?}", texts.view(0).value), "\"a\"");
        // One schema for each, though a static would be one for all.
        let type_of = |schema: soa_core::schema::Schema, column: usize| schema.field(column).data_type().clone();
        assert_eq!(type_of(Reading::<f64, 2>::schema(), 1), DataType::Float64);
        assert_eq!(type_of(Reading::<String, 1>::schema(), 1), DataType::Utf8);
        assert_eq!(type_of(Reading::<String, 4>::schema(), 3), DataType::fixed_list(DataType::Utf8, false, 4));
        let table = Reading::<i32, 1>::table_schema();
        assert_eq!((table.key(), table.sort_by(), Reading::<i32, 1>::schema().key()), (Some(0), &[0][..], None));
        let back = ReadingSoA::<String, 1>::from_record_batch(texts.to_record_batch()).unwrap();
        assert_eq!(back, texts);
        assert!(ReadingSoA::<f64, 1>::from_record_batch(texts.to_record_batch()).is_err());
    }

    #[test]
    fn stores_and_other_records_take_them() {
        #[derive(Debug, Clone, PartialEq, SoA)]
        struct Room<T: Debug + Clone + PartialEq> {
            name: String,
            readings: Vec<Reading<T, 1>>,
        }

        let mut store = ReadingStore::<u8, 1>::new();
        store.add_batch(readings([7, 8, 9])).unwrap();
        store.update(&1, |mut reading| *reading.id() = 1).unwrap();
        assert_eq!(store.get(&2).map(|reading| reading.value), Some(9));

        fn round_trip<T>(rooms: Vec<Room<T>>)
        where
            T: Debug + Clone + PartialEq + 'static,
            Vec<Reading<T, 1>>: SoaField,
        {
            let soa: RoomSoA<T> = rooms.iter().cloned().collect();
            let back = RoomSoA::<T>::from_record_batch(soa.to_record_batch()).unwrap();
            assert_eq!(back.to_vec(), rooms);
        }
        round_trip(vec![Room { name: "a".to_owned(), readings: readings([1_u8, 2, 3]) }]);
        round_trip::<i64>(vec![Room { name: "b".to_owned(), readings: Vec::new() }]);
    }
}
