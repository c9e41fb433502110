//! `EverythingSoA` does what `Vec<Everything>` does, whatever happens to it in whichever order.

use std::cmp::Ordering;
use std::ops::Range;

use arrow::array::{Array, RecordBatch};
use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use proptest::collection::vec;
use proptest::prelude::*;

use uuid::Uuid;

use crate::records::{Colour, Everything, EverythingSoA, everything, instant, place};

#[derive(Debug, Clone)]
enum Step {
    Push(Box<Everything>),
    Extend(Vec<i64>),
    Set(usize, Box<Everything>),
    SetText(usize, String),
    SetMaybeText(usize, Option<String>),
    SetMaybeNumber(usize, Option<u32>),
    SetMaybeColour(usize, Option<Colour>),
    SetNested(usize, i64),
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
    Move(Move),
}

/// What moves rows and changes none.
#[derive(Debug, Clone)]
enum Move {
    Pop,
    Swap(usize, usize),
    ExtendFromViews(usize),
    ExtendFrom(Range<usize>),
    Append(Vec<i64>),
    SplitOff(usize),
    SplitOffAndAppend(usize),
    Drain(Range<usize>),
    Retain(i64),
    RetainAndPanic(usize),
    Dedup(i64),
    Reverse,
    Sort(Order, bool),
    SortAndPanic(usize),
    Take(Vec<usize>),
    Slice(Range<usize>),
    Chunks(usize),
    Add(i64),
}

/// By which field rows are sorted.
#[derive(Debug, Clone, Copy)]
enum Order {
    Flag,
    I8,
    U64,
    F64,
    Text,
    Colour,
    Day,
    Instant,
    MaybeFloat,
    MaybeText,
    MaybeColour,
    MaybeDay,
    Uuid,
    Raw,
    Huge,
    Took,
    Tags,
    Chunks,
    Stock,
    Vector,
}

impl Order {
    const ALL: [Self; 20] = [
        Self::Flag,
        Self::I8,
        Self::U64,
        Self::F64,
        Self::Text,
        Self::Colour,
        Self::Day,
        Self::Instant,
        Self::MaybeFloat,
        Self::MaybeText,
        Self::MaybeColour,
        Self::MaybeDay,
        Self::Uuid,
        Self::Raw,
        Self::Huge,
        Self::Took,
        Self::Tags,
        Self::Chunks,
        Self::Stock,
        Self::Vector,
    ];

    fn compare(self, a: &Everything, b: &Everything) -> Ordering {
        match self {
            Self::Flag => a.flag.cmp(&b.flag),
            Self::I8 => a.i8.cmp(&b.i8),
            Self::U64 => a.u64.cmp(&b.u64),
            Self::F64 => a.f64.total_cmp(&b.f64),
            Self::Text => a.text.cmp(&b.text),
            Self::Colour => (a.colour as u8).cmp(&(b.colour as u8)),
            Self::Day => a.day.cmp(&b.day),
            Self::Instant => a.instant.cmp(&b.instant),
            Self::MaybeFloat => match (a.maybe_float, b.maybe_float) {
                (Some(a), Some(b)) => a.total_cmp(&b),
                (a, b) => a.is_some().cmp(&b.is_some()),
            },
            Self::MaybeText => a.maybe_text.cmp(&b.maybe_text),
            Self::MaybeColour => a.maybe_colour.map(|c| c as u8).cmp(&b.maybe_colour.map(|c| c as u8)),
            Self::MaybeDay => a.maybe_day.cmp(&b.maybe_day),
            Self::Uuid => a.uuid.cmp(&b.uuid),
            Self::Raw => a.raw.cmp(&b.raw),
            Self::Huge => a.huge.cmp(&b.huge),
            Self::Took => a.took.cmp(&b.took),
            Self::Tags => a.tags.cmp(&b.tags),
            Self::Chunks => a.chunks.cmp(&b.chunks),
            Self::Stock => a.stock.cmp(&b.stock),
            Self::Vector => a.vector[0].total_cmp(&b.vector[0]),
        }
    }

    fn sort(self, soa: &mut EverythingSoA) {
        match self {
            Self::Flag => soa.sort_by_flag(),
            Self::I8 => soa.sort_by_i8(),
            Self::U64 => soa.sort_by_u64(),
            Self::F64 => soa.sort_by_f64(),
            Self::Text => soa.sort_by_text(),
            Self::Colour => soa.sort_by_colour(),
            Self::Day => soa.sort_by_day(),
            Self::Instant => soa.sort_by_instant(),
            Self::MaybeFloat => soa.sort_by_maybe_float(),
            Self::MaybeText => soa.sort_by_maybe_text(),
            Self::MaybeColour => soa.sort_by_maybe_colour(),
            Self::MaybeDay => soa.sort_by_maybe_day(),
            Self::Uuid => soa.sort_by_uuid(),
            Self::Raw => soa.sort_by_raw(),
            Self::Huge => soa.sort_by_huge(),
            Self::Took => soa.sort_by_took(),
            Self::Tags => soa.sort_by_tags(),
            Self::Chunks => soa.sort_by_chunks(),
            Self::Stock => soa.sort_by_stock(),
            Self::Vector => soa.sort_by_vector(),
        }
    }
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

fn moves() -> impl Strategy<Value = Move> {
    let at = || 0_usize..40;
    let range = || (at(), at()).prop_map(|(a, b)| a.min(b)..a.max(b));
    prop_oneof![
        Just(Move::Pop),
        (at(), at()).prop_map(|(left, right)| Move::Swap(left, right)),
        at().prop_map(Move::ExtendFromViews),
        range().prop_map(Move::ExtendFrom),
        vec(-50_i64..50, 0..9).prop_map(Move::Append),
        at().prop_map(Move::SplitOff),
        at().prop_map(Move::SplitOffAndAppend),
        range().prop_map(Move::Drain),
        (2_i64..5).prop_map(Move::Retain),
        at().prop_map(Move::RetainAndPanic),
        (1_i64..4).prop_map(Move::Dedup),
        Just(Move::Reverse),
        (proptest::sample::select(&Order::ALL[..]), any::<bool>())
            .prop_map(|(order, by_field)| Move::Sort(order, by_field)),
        at().prop_map(Move::SortAndPanic),
        vec(at(), 0..40).prop_map(Move::Take),
        range().prop_map(Move::Slice),
        (1_usize..40).prop_map(Move::Chunks),
        any::<i64>().prop_map(Move::Add),
    ]
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
        3 => (at(), 0..1_000_i64).prop_map(|(at, n)| Step::SetNested(at, n)),
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
        25 => moves().prop_map(Step::Move),
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
            Step::SetNested(at, n) if valid(at) => {
                let Everything { tags, chunks, maybe_grid, places, stock, vector, .. } = everything(n);
                let mut row = soa.view_mut(at);
                row.set_tags(tags.clone()).unwrap();
                row.set_chunks(chunks.clone()).unwrap();
                row.set_maybe_grid(maybe_grid.clone()).unwrap();
                row.set_places(places.clone()).unwrap();
                row.set_stock(stock.clone()).unwrap();
                row.set_vector(vector).unwrap();
                row.set_place(place(n)).unwrap();
                let row = &mut rows[at];
                (row.tags, row.chunks, row.maybe_grid, row.places) = (tags, chunks, maybe_grid, places);
                (row.stock, row.vector, row.place) = (stock, vector, place(n));
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
            Step::Move(step) => self.apply_move(step),
            // A row that is not there.
            _ => {}
        }
        assert_eq!(self.soa.len(), self.rows.len());
    }

    fn apply_move(&mut self, step: Move) {
        let Self { soa, rows, clones, .. } = self;
        let within = |range: Range<usize>| range.start.min(rows.len())..range.end.min(rows.len());
        match step {
            Move::Pop => assert_eq!(soa.pop(), rows.pop()),
            Move::Swap(left, right) if left.max(right) < rows.len() => {
                soa.swap(left, right);
                rows.swap(left, right);
            }
            Move::ExtendFromViews(every) => {
                let some: EverythingSoA = soa.iter().step_by(every + 1).collect();
                soa.extend(&some);
                let some: Vec<Everything> = rows.iter().step_by(every + 1).cloned().collect();
                rows.extend(some);
            }
            Move::ExtendFrom(range) => {
                let range = within(range);
                let other = soa.clone();
                soa.extend_from(&other, range.clone());
                rows.extend_from_within(range);
            }
            Move::Append(numbers) => {
                let mut other: EverythingSoA = numbers.iter().copied().map(everything).collect();
                soa.append(&mut other);
                assert!(other.is_empty());
                rows.extend(numbers.into_iter().map(everything));
            }
            Move::SplitOff(at) if at <= rows.len() => clones.push((soa.split_off(at), rows.split_off(at))),
            Move::SplitOffAndAppend(at) if at <= rows.len() => {
                let mut end = soa.split_off(at);
                end.append(soa);
                *soa = end;
                rows.rotate_left(at);
            }
            Move::Drain(range) => {
                let range = within(range);
                let drained: Vec<Everything> = rows.drain(range.clone()).collect();
                let mut taken = soa.drain(range);
                assert_eq!(taken.len(), drained.len());
                assert_eq!(taken.next_back().as_ref(), drained.last());
                assert_eq!(taken.next().as_ref(), drained.first().filter(|_| drained.len() > 1));
                let left = drained.get(1..drained.len().saturating_sub(1)).unwrap_or_default();
                assert_eq!(taken.into_soa().into_iter().collect::<Vec<_>>(), left);
            }
            Move::Retain(every) => {
                soa.retain(|row| row.i64 % every == 0);
                rows.retain(|row| row.i64 % every == 0);
            }
            Move::Dedup(by) => {
                soa.dedup_by_key(|row| row.i8 / by as i8);
                rows.dedup_by_key(|row| row.i8 / by as i8);
            }
            Move::Reverse => {
                soa.reverse();
                rows.reverse();
            }
            Move::Sort(order, by_field) => {
                rows.sort_by(|left, right| order.compare(left, right));
                if by_field {
                    order.sort(soa);
                } else {
                    soa.sort_by(|left, right| order.compare(&left.to_owned(), &right.to_owned()));
                }
            }
            Move::RetainAndPanic(at) if at < rows.len() => panics(|| {
                let mut row = 0;
                soa.retain(|_| {
                    row += 1;
                    if row > at {
                        in_the_middle();
                    }
                    false
                });
            }),
            Move::SortAndPanic(at) if at + 1 < rows.len() => panics(|| {
                let mut compared = 0;
                soa.sort_by(|left, right| {
                    compared += 1;
                    if compared > at {
                        in_the_middle();
                    }
                    right.i64.cmp(&left.i64)
                });
            }),
            Move::Take(wanted) => {
                let wanted: Vec<usize> = wanted.into_iter().filter(|&row| row < rows.len()).collect();
                *rows = wanted.iter().map(|&row| rows[row].clone()).collect();
                let taken = soa.take(&wanted);
                soa.rearrange(&wanted);
                assert_eq!(taken, *soa);
            }
            Move::Slice(range) => {
                let range = within(range);
                clones.push((soa.slice(range.clone()), rows[range].to_vec()));
            }
            Move::Chunks(size) => {
                for (chunk, expected) in soa.chunks(size).zip(rows.chunks(size)) {
                    assert_eq!(chunk.to_vec(), expected);
                }
                assert_eq!(soa.chunks(size).len(), rows.chunks(size).len());
            }
            Move::Add(number) => {
                soa.for_each_mut(|mut row| *row.i64() = row.i64().wrapping_add(number));
                soa.u64_raw_array_mut().iter_mut().for_each(|value| *value = value.rotate_left(1));
                rows.iter_mut().for_each(|row| row.i64 = row.i64.wrapping_add(number));
                rows.iter_mut().for_each(|row| row.u64 = row.u64.rotate_left(1));
            }
            // A row that is not there.
            _ => {}
        }
    }
}

/// A panic that prints nothing: there are thousands.
fn in_the_middle() -> ! {
    std::panic::resume_unwind(Box::new("in the middle"))
}

fn panics(work: impl FnOnce()) {
    assert!(std::panic::catch_unwind(std::panic::AssertUnwindSafe(work)).is_err());
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
