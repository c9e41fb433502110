//! `EverythingSoA` does what `Vec<Everything>` does, whatever happens to it in whichever order.

use arrow::array::{Array, RecordBatch};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use proptest::collection::vec;
use proptest::prelude::*;

use uuid::Uuid;

use crate::records::{Colour, Everything, EverythingSoA, everything, instant};

#[derive(Debug, Clone)]
enum Step {
    Push(Box<Everything>),
    Extend(Vec<i64>),
    Set(usize, Box<Everything>),
    SetText(usize, String),
    SetMaybeText(usize, Option<String>),
    SetMaybeNumber(usize, Option<u32>),
    SetMaybeColour(usize, Option<Colour>),
    AddTo(usize, i32),
    SwapRemove(usize),
    Truncate(usize),
    Clear,
    Share,
    ForgetShares,
    Clone,
    ThroughArrow,
    ThroughSlice(usize),
    ShrinkToFit,
}

fn colour() -> impl Strategy<Value = Colour> {
    prop_oneof![Just(Colour::Red), Just(Colour::Green), Just(Colour::Blue)]
}

fn text() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => "\\PC{0,4}",
        3 => "[a-z]{11,14}",
        3 => (1_usize..4_000, any::<char>()).prop_map(|(len, c)| String::from(c).repeat(len)),
    ]
}

fn time() -> impl Strategy<Value = DateTime<Utc>> {
    let range = DateTime::<Utc>::MIN_UTC.timestamp_micros()..=DateTime::<Utc>::MAX_UTC.timestamp_micros();
    prop_oneof![range, -10_i64..10].prop_map(instant)
}

fn day() -> impl Strategy<Value = NaiveDate> {
    let span = (NaiveDate::MAX - NaiveDate::MIN).num_days();
    (0..=span).prop_map(|days| NaiveDate::MIN + TimeDelta::days(days))
}

fn row() -> impl Strategy<Value = Everything> {
    let numbers = (any::<i64>(), any::<u64>(), -1e300..1e300_f64, any::<bool>());
    let texts = (text(), proptest::option::of(text()));
    let enums = (colour(), proptest::option::of(colour()));
    let times = (time(), day(), proptest::option::of(time()), proptest::option::of(day()));
    let wide = (any::<u128>(), -(10_i128.pow(38) - 1)..10_i128.pow(38), any::<i64>());
    (numbers, texts, enums, times, wide).prop_map(
        |((signed, unsigned, float, flag), (text, maybe_text), enums, times, wide)| Everything {
            flag,
            i64: signed,
            u64: unsigned,
            f64: float,
            text,
            maybe_text,
            colour: enums.0,
            maybe_colour: enums.1,
            instant: times.0,
            clock: times.0.naive_utc(),
            day: times.1,
            maybe_instant: times.2,
            maybe_day: times.3,
            time_of_day: times.0.time(),
            uuid: Uuid::from_u128(wide.0),
            huge: wide.1,
            took: TimeDelta::microseconds(wide.2),
            large: unsigned,
            ..everything(signed % 1_000)
        },
    )
}

fn step() -> impl Strategy<Value = Step> {
    let at = || 0_usize..40;
    prop_oneof![
        10 => row().prop_map(|row| Step::Push(Box::new(row))),
        2 => vec(-50_i64..50, 0..20).prop_map(Step::Extend),
        3 => (at(), row()).prop_map(|(at, row)| Step::Set(at, Box::new(row))),
        4 => (at(), text()).prop_map(|(at, text)| Step::SetText(at, text)),
        2 => (at(), proptest::option::of(text())).prop_map(|(at, text)| Step::SetMaybeText(at, text)),
        2 => (at(), any::<Option<u32>>()).prop_map(|(at, number)| Step::SetMaybeNumber(at, number)),
        2 => (at(), proptest::option::of(colour())).prop_map(|(at, colour)| Step::SetMaybeColour(at, colour)),
        2 => (at(), any::<i32>()).prop_map(|(at, number)| Step::AddTo(at, number)),
        5 => at().prop_map(Step::SwapRemove),
        1 => at().prop_map(Step::Truncate),
        1 => Just(Step::Clear),
        4 => Just(Step::Share),
        2 => Just(Step::ForgetShares),
        1 => Just(Step::Clone),
        2 => Just(Step::ThroughArrow),
        1 => at().prop_map(Step::ThroughSlice),
        1 => Just(Step::ShrinkToFit),
    ]
}

/// The columns, what they should hold, and what was shared meanwhile, with what it should hold.
#[derive(Default)]
struct Model {
    soa: EverythingSoA,
    rows: Vec<Everything>,
    batches: Vec<(RecordBatch, Vec<Everything>)>,
    clones: Vec<(EverythingSoA, Vec<Everything>)>,
}

impl Model {
    fn apply(&mut self, step: Step) {
        let Self { soa, rows, .. } = self;
        let valid = |at: usize| at < rows.len();
        match step {
            Step::Push(row) => {
                soa.push((*row).clone());
                rows.push(*row);
            }
            Step::Extend(numbers) => {
                soa.extend(numbers.iter().copied().map(everything));
                rows.extend(numbers.into_iter().map(everything));
            }
            Step::Set(at, row) if valid(at) => {
                soa.try_set(at, (*row).clone()).unwrap();
                rows[at] = *row;
            }
            Step::SetText(at, text) if valid(at) => {
                soa.view_mut(at).set_text(text.clone()).unwrap();
                rows[at].text = text;
            }
            Step::SetMaybeText(at, text) if valid(at) => {
                soa.view_mut(at).set_maybe_text(text.clone()).unwrap();
                rows[at].maybe_text = text;
            }
            Step::SetMaybeNumber(at, number) if valid(at) => {
                soa.view_mut(at).set_maybe_number(number);
                rows[at].maybe_number = number;
            }
            Step::SetMaybeColour(at, colour) if valid(at) => {
                soa.view_mut(at).set_maybe_colour(colour);
                rows[at].maybe_colour = colour;
            }
            Step::AddTo(at, number) if valid(at) => {
                let mut row = soa.view_mut(at);
                *row.i32() = row.i32().wrapping_add(number);
                rows[at].i32 = rows[at].i32.wrapping_add(number);
            }
            Step::SwapRemove(at) if valid(at) => assert_eq!(soa.swap_remove(at), rows.swap_remove(at)),
            Step::Truncate(at) => {
                soa.truncate(at);
                rows.truncate(at);
            }
            Step::Clear => {
                soa.clear();
                rows.clear();
            }
            Step::Share => self.batches.push((soa.to_record_batch(), rows.clone())),
            Step::ForgetShares => {
                check_shares(&self.batches, &self.clones);
                self.batches.clear();
                self.clones.clear();
            }
            Step::Clone => self.clones.push((soa.clone(), rows.clone())),
            Step::ThroughArrow => {
                let batch = std::mem::take(soa).into_record_batch();
                *soa = EverythingSoA::from_record_batch(batch).unwrap();
            }
            Step::ThroughSlice(at) if valid(at) => {
                let batch = soa.to_record_batch();
                *soa = EverythingSoA::from_record_batch(batch.slice(at, rows.len() - at)).unwrap();
                rows.drain(..at);
            }
            Step::ShrinkToFit => soa.shrink_to_fit(),
            // A row that is not there.
            _ => {}
        }
        assert_eq!(soa.len(), rows.len());
    }
}

fn check_shares(batches: &[(RecordBatch, Vec<Everything>)], clones: &[(EverythingSoA, Vec<Everything>)]) {
    for (batch, rows) in batches {
        for column in batch.columns() {
            column.to_data().validate_full().unwrap();
        }
        assert_eq!(EverythingSoA::from_record_batch(batch.clone()).unwrap().to_vec(), *rows);
    }
    for (clone, rows) in clones {
        assert_eq!(clone.to_vec(), *rows);
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn columns_do_what_a_vec_does(steps in vec(step(), 1..80)) {
        let mut model = Model::default();
        for step in steps {
            model.apply(step);
        }
        prop_assert_eq!(model.soa.to_vec(), &model.rows[..]);
        model.apply(Step::Share);
        check_shares(&model.batches, &model.clones);
    }
}
