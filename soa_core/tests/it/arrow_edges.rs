//! Record batches and back: the same values, the same bytes in memory, and clear errors.

use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, DictionaryArray, Int8Array, Int64Array, LargeStringArray, RecordBatch, StringArray,
    StringViewArray, TimestampMicrosecondArray, UInt8Array, UInt64Array,
};
use arrow::buffer::{BooleanBuffer, NullBuffer, ScalarBuffer};
use arrow::datatypes::{Field, Int8Type, Schema, UInt8Type};
use chrono::{DateTime, Utc};
use soa_core::{ErrorKind, Record, SoA};

use crate::orders::{OrderSoA, orders};
use crate::records::{Colour, Everything, EverythingSoA, everything};

fn rows(count: i64) -> Vec<Everything> {
    (0..count).map(everything).collect()
}

fn soa(count: i64) -> EverythingSoA {
    rows(count).into_iter().collect()
}

/// Checks everything that Arrow itself can check, and the schema.
fn assert_valid(batch: &RecordBatch) {
    assert_eq!(batch.schema(), soa_core::schema::arrow_schema(&Everything::schema()));
    for column in batch.columns() {
        column.to_data().validate_full().unwrap();
    }
}

#[test]
fn batches_of_all_sizes_come_back() {
    for count in [0, 1, 2, 7, 8, 9, 63, 64, 65, 2_049] {
        let batch = soa(count).into_record_batch();
        assert_valid(&batch);
        assert_eq!(EverythingSoA::from_record_batch(batch).unwrap().to_vec(), rows(count), "{count} rows");
    }
}

#[test]
fn slices_of_batches_come_back() {
    let batch = soa(100).into_record_batch();
    for (offset, len) in [(0, 100), (0, 9), (1, 99), (8, 8), (13, 50), (99, 1), (100, 0)] {
        let mut back = EverythingSoA::from_record_batch(batch.slice(offset, len)).unwrap();
        assert_eq!(back.to_vec(), rows(100)[offset..offset + len], "{offset}, {len}");
        assert_valid(&back.to_record_batch());
        back.push(everything(1_000));
        assert_eq!(back.len(), len + 1);
        assert_eq!(back.view(len).to_owned(), everything(1_000));
        assert_valid(&back.to_record_batch());
    }
}

#[test]
fn batches_without_a_null_have_no_bits() {
    let row = Everything { maybe_number: Some(1), ..everything(1) };
    let soa: EverythingSoA = std::iter::repeat_n(row, 5).collect();
    assert!(soa.to_record_batch().column_by_name("maybe_number").unwrap().nulls().is_none());
}

/// Where a fixed-width or view array's values are.
fn address(batch: &RecordBatch, column: usize) -> *const u8 {
    let data = batch.column(column).to_data();
    let data = if let Some(keys) = batch.column(column).as_any_dictionary_opt() { keys.keys().to_data() } else { data };
    data.buffers()[0].as_ptr()
}

#[test]
fn no_column_is_copied_on_the_way_out_or_back() {
    let soa: OrderSoA = orders(10_000).collect();
    let own = [
        soa.order_id_raw_array().as_ptr().cast::<u8>(),
        soa.customer_id_raw_array().as_ptr().cast(),
        soa.product_id_raw_array().as_ptr().cast(),
        soa.quantity_raw_array().as_ptr().cast(),
        soa.unit_price_raw_array().as_ptr().cast(),
        soa.total_amount_raw_array().as_ptr().cast(),
        soa.status_raw_array().as_ptr(),
        soa.payment_method_raw_array().as_ptr(),
        soa.ordered_at_raw_array().as_ptr().cast(),
        soa.updated_at_raw_array().as_ptr().cast(),
    ];
    let addresses = |batch: &RecordBatch| (0..10).map(|column| address(batch, column)).collect::<Vec<_>>();
    let shared = soa.to_record_batch();
    assert_eq!(addresses(&shared), own, "shared");
    assert_eq!(soa.order_id_raw_array().as_ptr().cast(), own[0], "sharing moves nothing");
    let moved = soa.into_record_batch();
    assert_eq!(addresses(&moved), own, "moved");
    drop(shared);
    let mut back = OrderSoA::from_record_batch(moved).unwrap();
    assert_eq!(back.order_id_raw_array().as_ptr().cast(), own[0], "taken back");
    assert_eq!(back.status_raw_array().as_ptr(), own[6]);
    *back.view_mut(9_999).quantity() = 0;
    back.view_mut(0).set_status(crate::orders::OrderStatus::Cancelled);
    assert_eq!(back.quantity_raw_array().as_ptr().cast(), own[3], "the only holder writes in place");
    assert_eq!(back.status_raw_array().as_ptr(), own[6]);
    back.truncate(9_000);
    back.push(orders(1).next().unwrap());
    assert_eq!(addresses(&back.to_record_batch()), own, "and pushes into the same allocation");
}

#[test]
fn text_is_not_copied_either() {
    let soa = soa(500);
    let batch = soa.to_record_batch();
    let array = batch.column_by_name("text").unwrap().as_string_view();
    let long = soa.view(498).text;
    assert_eq!(array.value(498).as_ptr(), long.as_ptr());
    assert_eq!(array.views().as_ptr(), soa.text_raw_array().views().as_ptr());
    let long = long.as_ptr();
    let back = EverythingSoA::from_record_batch(soa.into_record_batch()).unwrap();
    assert_eq!(back.view(498).text.as_ptr(), long);
    assert_eq!(back.view(498).maybe_text, None);
    assert_eq!(back.view(496).maybe_text.unwrap(), back.view(496).text);
}

#[test]
fn only_the_written_column_of_a_shared_batch_is_copied() {
    let mut soa: OrderSoA = orders(100).collect();
    let batch = soa.to_record_batch();
    let old = soa.view(5).quantity;
    *soa.view_mut(5).quantity() += 1;
    let after = soa.to_record_batch();
    for column in 0..10 {
        assert_eq!(address(&batch, column) == address(&after, column), column != 3, "column {column}");
    }
    let quantities = batch.column(3).as_primitive::<arrow::datatypes::UInt32Type>();
    assert_eq!((quantities.value(5), soa.view(5).quantity), (old, old + 1));
}

#[test]
fn a_shared_block_of_text_is_finished_not_copied() {
    let text = |n: usize| format!("{n:>100}");
    let row = |n: usize| Everything { text: text(n), ..everything(1) };
    let mut soa: EverythingSoA = (0..100).map(row).collect();
    let batch = soa.to_record_batch();
    let before = soa.view(0).text.as_ptr();
    soa.push(row(100));
    assert_eq!(soa.view(0).text.as_ptr(), before);
    let array = batch.column_by_name("text").unwrap().as_string_view();
    assert_eq!((array.data_buffers().len(), array.len()), (1, 100));
    let batch = soa.to_record_batch();
    assert_eq!(batch.column_by_name("text").unwrap().as_string_view().data_buffers().len(), 2);
    assert_valid(&batch);
    assert!((0..=100).all(|n| soa.view(n).text == text(n)));
}

#[test]
fn bytes_of_text_that_went_are_collected() {
    let long = |n: i64| Everything { text: format!("{n:>1000}"), ..everything(n) };
    let mut soa: EverythingSoA = (0..1_000).map(long).collect();
    let full = soa.text_raw_array().memory_bytes();
    let kept = soa.to_record_batch();
    for n in 0..1_000 {
        soa.view_mut(n).set_text(format!("{n}")).unwrap();
    }
    soa.shrink_to_fit();
    assert!(soa.text_raw_array().memory_bytes() * 10 < full, "{} of {full}", soa.text_raw_array().memory_bytes());
    assert!((0..1_000).all(|n| soa.view(n).text == n.to_string()));
    assert_eq!(EverythingSoA::from_record_batch(kept).unwrap().view(999).to_owned(), long(999));
}

/// A batch of one column for a record of one field.
fn batch_of(name: &str, array: ArrayRef) -> RecordBatch {
    let field = Field::new(name, array.data_type().clone(), true);
    RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![array]).unwrap()
}

#[derive(Debug, PartialEq, SoA)]
struct Paint {
    colour: Colour,
}

#[derive(Debug, PartialEq, SoA)]
struct MaybePaint {
    colour: Option<Colour>,
}

fn colours(array: ArrayRef) -> Result<Vec<Colour>, String> {
    let soa = PaintSoA::from_record_batch(batch_of("colour", array)).map_err(|error| error.to_string())?;
    soa.to_record_batch().column(0).to_data().validate_full().unwrap();
    Ok(soa.iter().map(|row| row.colour).collect())
}

fn maybe_colours(array: ArrayRef) -> Vec<Option<Colour>> {
    let soa = MaybePaintSoA::from_record_batch(batch_of("colour", array)).unwrap();
    soa.to_record_batch().column(0).to_data().validate_full().unwrap();
    soa.iter().map(|row| row.colour).collect()
}

#[test]
fn enums_are_matched_by_name() {
    use Colour::{Blue, Green, Red};
    let names = |names: Vec<Option<&str>>| Arc::new(StringArray::from(names)) as ArrayRef;
    let keyed = |keys: Vec<u8>, values| {
        Arc::new(DictionaryArray::<UInt8Type>::try_new(UInt8Array::from(keys), names(values)).unwrap()) as ArrayRef
    };
    // The same list, a longer one, a shorter one: taken as they are.
    let same = keyed(vec![2, 0, 1], vec![Some("Red"), Some("dark green"), Some("Blue")]);
    assert_eq!(colours(same.clone()).unwrap(), [Blue, Red, Green]);
    let soa = PaintSoA::from_record_batch(batch_of("colour", same.clone())).unwrap();
    assert_eq!(soa.colour_raw_array().as_ptr(), same.as_dictionary::<UInt8Type>().keys().values().as_ptr());
    let longer = vec![Some("Red"), Some("dark green"), Some("Blue"), Some("Pink")];
    assert_eq!(colours(keyed(vec![2, 0], longer.clone())).unwrap(), [Blue, Red]);
    assert_eq!(colours(keyed(vec![0], vec![Some("Red")])).unwrap(), [Red]);
    assert_eq!(colours(keyed(vec![], vec![])).unwrap(), []);
    // Another order, other keys, no dictionary: mapped.
    assert_eq!(colours(keyed(vec![0, 1, 0], vec![Some("Blue"), Some("Red")])).unwrap(), [Blue, Red, Blue]);
    let wide = DictionaryArray::<Int8Type>::new(Int8Array::from(vec![1, 0]), names(vec![Some("Blue"), Some("Red")]));
    assert_eq!(colours(Arc::new(wide)).unwrap(), [Red, Blue]);
    assert_eq!(colours(names(vec![Some("Blue"), Some("dark green")])).unwrap(), [Blue, Green]);
    // A name that is not known matters where it is used.
    let message = colours(keyed(vec![0, 3], longer)).unwrap_err();
    assert!(
        message.contains("\"colour\"") && message.contains("\"Pink\"") && message.contains("dark green"),
        "{message}"
    );
    assert!(colours(names(vec![Some("red")])).unwrap_err().contains("\"red\""));
    assert!(colours(Arc::new(Int64Array::from(vec![1]))).unwrap_err().contains("Int64"));
}

#[test]
fn nulls_in_dictionaries_are_null() {
    let values = Arc::new(StringArray::from(vec![Some("Blue"), None, Some("Pink")])) as ArrayRef;
    let keys = UInt8Array::from(vec![Some(0), None, Some(1), Some(0)]);
    let array = Arc::new(DictionaryArray::<UInt8Type>::new(keys, values)) as ArrayRef;
    assert_eq!(maybe_colours(array.clone()), [Some(Colour::Blue), None, None, Some(Colour::Blue)]);
    assert!(colours(array).unwrap_err().contains("2 of 4 values are NULL"));
    // Keys beneath NULLs may be anything.
    let keys = UInt8Array::new(vec![0, 200].into(), Some(NullBuffer::from(vec![true, false])));
    let names = Arc::new(StringArray::from(vec!["Red", "dark green", "Blue"]));
    let array = Arc::new(DictionaryArray::<UInt8Type>::new(keys, names)) as ArrayRef;
    assert_eq!(maybe_colours(array), [Some(Colour::Red), None]);
    let plain = Arc::new(StringViewArray::from(vec![None, Some("Red")])) as ArrayRef;
    assert_eq!(maybe_colours(plain), [None, Some(Colour::Red)]);
}

#[derive(Debug, PartialEq, SoA)]
struct Named {
    name: String,
}

#[derive(Debug, PartialEq, SoA)]
struct Counted {
    id: u64,
}

#[derive(Debug, PartialEq, SoA)]
struct Timed {
    at: Option<DateTime<Utc>>,
}

#[test]
fn text_is_taken_in_every_layout() {
    let long = "longer than twelve bytes";
    let expected = [Named { name: "a".into() }, Named { name: long.into() }];
    let arrays: [ArrayRef; 3] = [
        Arc::new(StringArray::from(vec!["a", long])),
        Arc::new(LargeStringArray::from(vec!["a", long])),
        Arc::new(StringViewArray::from(vec!["a", long])),
    ];
    for array in arrays {
        assert_eq!(NamedSoA::from_record_batch(batch_of("name", array)).unwrap().to_vec(), expected);
    }
}

#[test]
fn batches_that_do_not_fit_are_refused_by_name() {
    let refused = |name: &str, array: ArrayRef| CountedSoA::from_record_batch(batch_of(name, array)).unwrap_err();
    let error = refused("count", Arc::new(UInt64Array::from(vec![1])));
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("no column \"id\"") && error.to_string().contains("count"), "{error}");
    let error = refused("id", Arc::new(Int64Array::from(vec![1])));
    assert!(error.to_string().contains("\"id\"") && error.to_string().contains("Int64"), "{error}");
    let error = refused("id", Arc::new(UInt64Array::from(vec![Some(1), None])));
    assert!(error.to_string().contains("\"id\"") && error.to_string().contains("1 of 2"), "{error}");
    let far = |nulls: Option<NullBuffer>| {
        let values = ScalarBuffer::from(vec![0, i64::MAX]);
        let array = TimestampMicrosecondArray::new(values, nulls).with_timezone("UTC");
        TimedSoA::from_record_batch(batch_of("at", Arc::new(array)))
    };
    let message = far(None).unwrap_err().to_string();
    assert!(
        message.contains("\"at\"") && message.contains("9223372036854775807") && message.contains("row 1"),
        "{message}"
    );
    let beneath_null = far(Some(NullBuffer::new(BooleanBuffer::from(vec![true, false])))).unwrap();
    assert_eq!(beneath_null.view(1).at, None);
}

#[test]
fn other_columns_are_left_out() {
    let batch = soa(5).into_record_batch();
    let projected = batch.project(&[24, 23]).unwrap();
    #[derive(SoA)]
    struct Part {
        #[soa(timestamp = "us")]
        maybe_stamp: Option<i64>,
    }
    let part = PartSoA::from_record_batch(projected).unwrap();
    assert_eq!(part.to_vec()[1].maybe_stamp, Some(-1));
}

#[test]
fn arrays_with_shared_text_stay_right_when_written() {
    // All rows show the same bytes: fewer bytes are held than the rows have in all.
    let word = "shown by every row of the array";
    let mut builder = arrow::array::StringViewBuilder::new().with_deduplicate_strings();
    for _ in 0..1_000 {
        builder.append_value(word);
    }
    let mut soa = NamedSoA::from_record_batch(batch_of("name", Arc::new(builder.finish()))).unwrap();
    for row in 0..999 {
        soa.view_mut(row).set_name(format!("now a text of its own: {row}")).unwrap();
    }
    assert_eq!((soa.view(998).name, soa.view(999).name), ("now a text of its own: 998", word));
    soa.to_record_batch().column(0).to_data().validate_full().unwrap();
}
