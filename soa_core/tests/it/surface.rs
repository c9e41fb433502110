//! What columns offer of `Vec`'s methods and traits, and of serde's and rayon's.

use rayon::prelude::*;
use serde::{Deserialize, Serialize};
use soa_core::kernel::{IntoIter, Rows};
use soa_core::{SoA, SoAStore};

use crate::orders::{Order, OrderSoA, OrderStatus, order, orders};
use crate::records::{Everything, EverythingSoA, everything};

fn soa(count: i64) -> EverythingSoA {
    (0..count).map(everything).collect()
}

fn rows(numbers: impl IntoIterator<Item = i64>) -> Vec<Everything> {
    numbers.into_iter().map(everything).collect()
}

#[test]
fn rows_are_taken_out_and_put_together() {
    let mut ten = soa(10);
    assert_eq!(ten.pop(), Some(everything(9)));
    assert_eq!(ten.drain(2..=3).collect::<Vec<_>>(), rows([2, 3]));
    assert_eq!(ten.split_off(5).to_vec(), rows([7, 8]));
    assert_eq!(ten.to_vec(), rows([0, 1, 4, 5, 6]));
    drop(ten.drain(..1));
    let untouched = ten.drain(3..);
    assert_eq!((ten.to_vec(), untouched.len()), (rows([1, 4, 5]), 1));
    ten.extend_from(&soa(10), 8..);
    ten.append(&mut soa(1));
    assert_eq!(ten.to_vec(), rows([1, 4, 5, 8, 9, 0]));
    let mut left = ten.drain(..);
    assert_eq!((left.next(), left.next_back(), left.len()), (Some(everything(1)), Some(everything(0)), 4));
    assert_eq!(left.clone().nth(1), Some(everything(5)));
    assert_eq!(left.into_soa().to_vec(), rows([4, 5, 8, 9]));
    assert_eq!((ten.pop(), ten.len()), (None, 0));
}

#[test]
fn rows_are_kept_sorted_and_rearranged() {
    let mut ten = soa(10);
    ten.retain(|row| row.stamp % 2 == 0);
    ten.reverse();
    ten.swap(0, 4);
    assert_eq!(ten.to_vec(), rows([0, 6, 4, 2, 8]));
    ten.sort_by_key(|row| row.stamp % 4);
    assert_eq!(ten.to_vec(), rows([0, 4, 8, 6, 2]), "stable");
    ten.sort_unstable_by(|left, right| right.f64.total_cmp(&left.f64));
    assert_eq!(ten.to_vec(), rows([8, 6, 4, 2, 0]));
    assert_eq!(ten.take(&[4, 4, 0]).to_vec(), rows([0, 0, 8]));
    ten.dedup_by_key(|row| row.stamp / 4);
    assert_eq!(ten.to_vec(), rows([8, 6, 2]));
    ten.for_each_mut(|mut row| {
        *row.i8() += 1;
        row.set_maybe_text(Some(format!("number {}", row.as_view().stamp))).unwrap();
    });
    assert_eq!(ten.iter().map(|row| row.maybe_text.unwrap()).collect::<Vec<_>>(), ["number 8", "number 6", "number 2"]);
    ten.stamp_raw_array_mut().sort_unstable();
    assert_eq!(ten.stamp_raw_array(), [2, 6, 8]);
}

#[test]
fn every_field_can_sort() {
    #[derive(Debug, Clone, PartialEq, SoA)]
    struct Level {
        level: f32,
        maybe: Option<f64>,
        key: u8,
    }
    let level = |level: f32, maybe: Option<f64>, key: u8| Level { level, maybe, key };
    let mut levels: LevelSoA = [
        level(f32::NAN, None, 0),
        level(0.0, Some(f64::INFINITY), 1),
        level(-0.0, Some(-1.0), 2),
        level(f32::NEG_INFINITY, None, 3),
        level(-f32::NAN, Some(f64::NAN), 4),
    ]
    .into_iter()
    .collect();
    levels.sort_by_level();
    assert_eq!(levels.key_raw_array(), [4, 3, 2, 1, 0]);
    levels.sort_by_maybe();
    assert_eq!(levels.key_raw_array(), [3, 0, 2, 1, 4]);
    // What `sort_by_<field>` would be for a field `key` is the method of every `Vec`.
    levels.sort_by_key(|row| row.key);
    assert_eq!(levels.key_raw_array(), [0, 1, 2, 3, 4]);
}

#[test]
fn slices_share_their_columns() {
    let all: OrderSoA = orders(1_000).collect();
    let part = all.slice(100..200);
    assert_eq!(part.to_vec(), orders(1_000).skip(100).take(100).collect::<Vec<_>>());
    assert_eq!(part.total_amount_raw_array().as_ptr(), all.total_amount_raw_array()[100..].as_ptr());
    assert_eq!(part.status_raw_array().as_ptr(), all.status_raw_array()[100..].as_ptr());
    let batch = part.to_record_batch();
    assert_eq!(batch.num_rows(), 100);
    assert_eq!(
        batch.column(4).to_data().buffers()[0].as_ptr(),
        all.unit_price_raw_array()[100..].as_ptr().cast(),
        "and so do their record batches"
    );
    let mut chunks = all.chunks(300);
    assert_eq!((chunks.len(), chunks.next_back().unwrap().len()), (4, 100));
    assert_eq!(chunks.map(|chunk| chunk.view(0).order_id).collect::<Vec<_>>(), [0, 300, 600]);
    // Text and bits of validity, from inside a byte and from its start.
    let all = soa(100);
    for start in [8, 13] {
        let mut part = all.slice(start..90);
        assert_eq!(part.to_vec(), rows(start as i64..90));
        assert_eq!(part.view(0).text.as_ptr(), all.view(start).text.as_ptr());
        part.for_each_mut(|mut row| row.set_text("changed".into()).unwrap());
        part.clear();
    }
    assert_eq!(all.to_vec(), rows(0..100), "the slice was written, not what it shared");
}

#[track_caller]
fn message(work: impl FnOnce()) -> String {
    let panic = std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).unwrap_err();
    panic.downcast_ref::<String>().cloned().unwrap_or_else(|| panic.downcast_ref::<&str>().unwrap().to_string())
}

#[test]
#[expect(clippy::reversed_empty_ranges, reason = "a wrong range is what is tried")]
fn rows_that_are_not_there_are_refused_before_anything_changes() {
    let mut three = soa(3);
    let all = rows(0..3);
    assert!(message(|| drop(three.drain(1..4))).contains("end at 4: there are 3"));
    assert!(message(|| drop(three.slice(2..1))).contains("before they start at 2"));
    assert!(message(|| drop(three.split_off(4))).contains("before they start at 4"));
    assert!(message(|| three.swap(0, 3)).contains("no row 3: there are 3"));
    assert!(message(|| three.rearrange(&[0, 3, 1])).contains("no row 3"));
    assert!(message(|| drop(three.take(&[7]))).contains("no row 7"));
    assert!(message(|| Rows::keep_ranges(&mut three, &[0..2, 1..3])).contains("must ascend"));
    assert!(message(|| Rows::keep_ranges(&mut three, &[0..2, 3..4])).contains("end at 4"));
    assert!(message(|| drop(three.chunks(0))).contains("at least one row"));
    assert!(message(|| three.extend_from(&soa(1), ..2)).contains("end at 2: there are 1"));
    assert_eq!(three.to_vec(), all);
}

#[test]
fn a_closure_that_panics_changes_nothing() {
    let mut ten = soa(10);
    let kept = ten.clone();
    message(|| ten.retain(|row| row.stamp < 5 || panic!("retain")));
    message(|| ten.sort_by(|left, _| if left.stamp == 5 { panic!("sort") } else { std::cmp::Ordering::Greater }));
    message(|| ten.sort_by_key(|row| if row.stamp == 5 { panic!("key") } else { -row.stamp }));
    message(|| ten.dedup_by_key(|row| if row.stamp == 5 { panic!("dedup") } else { 1 }));
    assert_eq!(ten, kept);
    message(|| {
        ten.for_each_mut(|mut row| {
            *row.stamp() += 100;
            assert!(row.as_view().stamp < 105, "for each");
        });
    });
    assert_eq!(ten.stamp_raw_array(), [100, 101, 102, 103, 104, 105, 6, 7, 8, 9]);
    assert_eq!(kept.stamp_raw_array(), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    let mut gone = ten.iter().map(|row| if row.stamp == 103 { panic!("extend") } else { row });
    message(|| kept.clone().extend(gone.by_ref()));
    let mut orders: OrderSoA = orders(3).collect();
    message(|| orders.extend((3..6).map(|row| if row == 5 { panic!("extend") } else { order(row, 10) })));
    assert_eq!(orders.iter().map(|order| order.order_id).collect::<Vec<_>>(), [0, 1, 2, 3, 4]);
    assert_eq!(orders.updated_at_raw_array().len(), 5);
}

#[test]
fn iterators_are_those_of_a_vec() {
    fn check<T: std::fmt::Debug + PartialEq>(
        mut iter: impl ExactSizeIterator<Item = T> + DoubleEndedIterator + std::iter::FusedIterator + Clone,
        rows: &[T],
    ) {
        assert_eq!((iter.len(), iter.size_hint()), (10, (10, Some(10))));
        assert_eq!(
            iter.clone().rev().collect::<Vec<_>>().iter().rev().collect::<Vec<_>>(),
            rows.iter().collect::<Vec<_>>()
        );
        assert_eq!(iter.nth(1).as_ref(), Some(&rows[1]));
        assert_eq!(iter.nth_back(1).as_ref(), Some(&rows[8]));
        assert_eq!(iter.next().as_ref(), Some(&rows[2]));
        assert_eq!(iter.next_back().as_ref(), Some(&rows[7]));
        assert_eq!((iter.len(), iter.nth(4), iter.next(), iter.next_back()), (4, None, None, None));
    }
    let ten = soa(10);
    check(ten.iter(), &ten.iter().collect::<Vec<_>>());
    check((&ten).into_iter(), &ten.iter().collect::<Vec<_>>());
    check(ten.clone().into_iter(), &rows(0..10));
    assert!(format!("{:?} {:?}", ten.iter(), IntoIter::new(ten.clone())).contains("IntoIter { rows: 0..10"));
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize, SoA)]
#[serde(rename_all = "lowercase")]
enum Urgency {
    Low,
    High,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, SoA, SoAStore)]
#[soa_store(key = "id")]
struct Ticket {
    id: u32,
    #[serde(rename = "for")]
    whom: Option<String>,
    urgency: Urgency,
    #[soa(skip)]
    #[serde(default)]
    draft: bool,
}

#[test]
fn columns_are_sequences_for_serde() {
    let json =
        r#"[{"id":1,"for":"Ada","urgency":"high","draft":false},{"id":2,"for":null,"urgency":"low","draft":false}]"#;
    let tickets: TicketSoA = serde_json::from_str(json).unwrap();
    assert_eq!((tickets.len(), tickets.view(0).whom, tickets.view(1).urgency), (2, Some("Ada"), Urgency::Low));
    assert_eq!(serde_json::to_string(&tickets).unwrap(), json);
    assert_eq!(serde_json::to_string(&tickets.view(1)).unwrap(), &json[json.rfind('{').unwrap()..json.len() - 1]);
    assert_eq!(serde_json::to_string(&TicketSoA::new()).unwrap(), "[]");
    let wrong = json.replace("low", "none");
    let error = serde_json::from_str::<TicketSoA>(&wrong).unwrap_err().to_string();
    assert!(error.contains("none") && error.contains("`high`"), "{error}");
    assert!(serde_json::from_str::<TicketSoA>("7").unwrap_err().to_string().contains("a sequence of records"));
    // A value that serde takes and the column does not: the path of the error leads through the column.
    let read = |json: &str| serde_json::from_str::<AtSoA>(json).map_err(|error| error.to_string());
    assert_eq!(read("[0, 1000]").unwrap().at_raw_array(), [0, 1]);
    let error = read("[0, 1]").unwrap_err();
    assert!(error.contains("\"at\"") && error.contains("whole microseconds"), "{error}");
}

/// A time in nanoseconds for serde, and so one that may not fit.
#[derive(Debug, SoA)]
struct At {
    at: chrono::DateTime<chrono::Utc>,
}

impl<'de> Deserialize<'de> for At {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        i64::deserialize(deserializer).map(|nanos| Self { at: chrono::DateTime::from_timestamp_nanos(nanos) })
    }
}

#[test]
fn many_threads_iterate() {
    let all: OrderSoA = orders(100_000).collect();
    let serial: u64 = all.iter().map(|order| u64::from(order.quantity)).sum();
    assert_eq!(all.par_iter().map(|order| u64::from(order.quantity)).sum::<u64>(), serial);
    assert_eq!((&all).into_par_iter().len(), 100_000);
    // The order is kept, from both ends and in the middle.
    let ids: Vec<u64> = all.par_iter().skip(10).rev().map(|order| order.order_id).collect();
    assert!(ids.iter().copied().eq((10..100_000).rev()));
    let zipped = all.par_iter().zip(all.total_amount_raw_array()).all(|(order, amount)| order.total_amount == *amount);
    assert!(zipped);
    let cancelled: Vec<Order> =
        all.par_iter().filter(|order| order.status == OrderStatus::Cancelled).map(|order| order.to_owned()).collect();
    assert_eq!(cancelled, orders(100_000).filter(|order| order.status == OrderStatus::Cancelled).collect::<Vec<_>>());
    assert_eq!(OrderSoA::new().par_iter().count(), 0);
}
