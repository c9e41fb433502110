//! The ways of moving rows that every column can go, against the ways that columns of this crate go.

use arrow::array::ArrayRef;
use arrow::buffer::NullBuffer;
use chrono::{DateTime, NaiveDate, Utc};
use proptest::collection::vec;
use proptest::prelude::*;

use super::*;
use crate::SoA;
use crate::kernel::{EnumColumn, Fixed, SoaEnum, Text};

/// A column that moves rows as [`FieldColumn`] does by default.
#[derive(Clone, Debug, Default)]
struct Slow<C>(C);

impl<C: FieldColumn> FieldColumn for Slow<C> {
    type Value = C::Value;
    type Stored = C::Stored;
    type Ref<'a> = C::Ref<'a>;
    type Raw<'a> = C::Raw<'a>;
    type Outcome = C::Outcome;

    const NULLABLE: bool = C::NULLABLE;

    fn data_type() -> DataType {
        C::data_type()
    }

    fn len(&self) -> usize {
        self.0.len()
    }

    fn get(&self, row: usize) -> C::Ref<'_> {
        self.0.get(row)
    }

    fn to_value(value: C::Ref<'_>) -> C::Value {
        C::to_value(value)
    }

    fn encode(value: C::Value) -> Result<C::Stored, String> {
        C::encode(value)
    }

    fn blank() -> Self::Stored {
        C::blank()
    }

    fn push(&mut self, value: C::Stored) {
        self.0.push(value);
    }

    fn set(&mut self, row: usize, value: C::Stored) {
        self.0.set(row, value);
    }

    fn swap_remove(&mut self, row: usize) {
        self.0.swap_remove(row);
    }

    fn truncate(&mut self, len: usize) {
        self.0.truncate(len);
    }

    fn clear(&mut self) {
        self.0.clear();
    }

    fn reserve(&mut self, additional: usize) {
        self.0.reserve(additional);
    }

    fn shrink_to_fit(&mut self) {
        self.0.shrink_to_fit();
    }

    fn raw(&self) -> C::Raw<'_> {
        self.0.raw()
    }

    fn memory_bytes(&self) -> usize {
        self.0.memory_bytes()
    }

    fn to_array_with(&self, nulls: Option<NullBuffer>) -> ArrayRef {
        self.0.to_array_with(nulls)
    }

    fn to_array(&self) -> ArrayRef {
        self.0.to_array()
    }

    fn from_array(array: &ArrayRef, column: &str) -> Result<Self> {
        C::from_array(array, column).map(Self)
    }
}

#[derive(Debug, Clone)]
enum Step {
    Swap(usize, usize),
    ExtendFrom(Range<usize>),
    Slice(Range<usize>),
    Keep(Vec<bool>),
    Rearrange(Vec<usize>),
    Hold,
    Sort,
}

/// Rows are taken modulo those that there are.
fn steps() -> impl Strategy<Value = Vec<Step>> {
    let range = || (0_usize..30, 0_usize..30).prop_map(|(a, b)| a.min(b)..a.max(b));
    let step = prop_oneof![
        (0_usize..30, 0_usize..30).prop_map(|(left, right)| Step::Swap(left, right)),
        range().prop_map(Step::ExtendFrom),
        range().prop_map(Step::Slice),
        vec(any::<bool>(), 0..30).prop_map(Step::Keep),
        vec(0_usize..30, 0..30).prop_map(Step::Rearrange),
        Just(Step::Hold),
        Just(Step::Sort),
    ];
    vec(step, 1..12)
}

fn filled<C: FieldColumn>(values: impl IntoIterator<Item = C::Value>) -> C {
    let mut column = C::default();
    values.into_iter().for_each(|value| column.push(C::encode(value).unwrap()));
    column
}

fn shown<C: FieldColumn>(column: &C) -> Vec<String> {
    (0..column.len()).map(|row| format!("{:?}", column.get(row))).collect()
}

/// Goes the same steps with both columns, which must hold the same after each; what was held meanwhile must not change.
fn check<C: FieldColumn>(values: &[C::Value], steps: &[Step])
where
    C::Value: Clone,
{
    let (mut fast, mut slow) = (filled::<C>(values.iter().cloned()), Slow(filled::<C>(values.iter().cloned())));
    let mut held = Vec::new();
    for step in steps {
        let len = fast.len();
        let within = |range: &Range<usize>| range.start.min(len)..range.end.min(len);
        match step {
            Step::Swap(left, right) if len > 0 => {
                fast.swap(left % len, right % len);
                slow.swap(left % len, right % len);
            }
            Step::ExtendFrom(range) => {
                let (other_fast, other_slow) = (fast.clone(), slow.clone());
                fast.extend_from(&other_fast, within(range));
                slow.extend_from(&other_slow, within(range));
            }
            Step::Slice(range) => {
                held.push((fast.clone(), shown(&fast)));
                fast = fast.slice(within(range));
                slow = slow.slice(within(range));
            }
            Step::Keep(kept) => {
                let kept: Vec<_> =
                    (0..len).filter(|&row| kept.get(row) != Some(&false)).map(|row| row..row + 1).collect();
                fast.keep(&kept);
                slow.keep(&kept);
            }
            Step::Rearrange(rows) => {
                let rows: Vec<usize> = rows.iter().filter(|_| len > 0).map(|row| row % len.max(1)).collect();
                fast.rearrange(&rows);
                slow.rearrange(&rows);
            }
            Step::Hold => held.push((fast.clone(), shown(&fast))),
            Step::Sort => {
                let mut rows: Vec<usize> = (0..len).rev().collect();
                let mut by_default = rows.clone();
                fast.sort_rows(&mut rows);
                slow.sort_rows(&mut by_default);
                assert_eq!(rows, by_default);
            }
            Step::Swap(..) => {}
        }
        assert_eq!(shown(&fast), shown(&slow), "after {step:?}");
        let array = fast.to_array();
        array.to_data().validate_full().unwrap();
        assert_eq!(shown(&C::from_array(&array, "values").unwrap()), shown(&fast));
    }
    for (column, before) in held {
        assert_eq!(shown(&column), before, "a column that was held meanwhile");
    }
}

/// Checks the column of a type and that of its `Option`.
fn check_both<C: ValueColumn>(values: &[C::Value], present: &[bool], steps: &[Step])
where
    C::Value: Clone,
{
    check::<C>(values, steps);
    let maybe: Vec<Option<C::Value>> =
        values.iter().zip(present).map(|(value, present)| present.then(|| value.clone())).collect();
    check::<Nullable<C>>(&maybe, steps);
}

/// In the order of their names, so that the order of the declaration is that of the names.
#[derive(Debug, Clone, Copy, PartialEq, SoA)]
enum Size {
    Large,
    Medium,
    Small,
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, ..ProptestConfig::default() })]

    #[test]
    fn columns_move_rows_as_all_could(
        numbers in vec(any::<i64>(), 0..30),
        floats in vec(proptest::num::f64::ANY, 0..30),
        texts in vec(prop_oneof!["[a-c]{0,3}", "[a-c]{11,14}", "[a-c]{900,1100}"], 0..30),
        present in vec(proptest::bool::weighted(0.7), 30),
        steps in steps(),
    ) {
        check_both::<Fixed<i64>>(&numbers, &present, &steps);
        check_both::<Fixed<f64>>(&floats, &present, &steps);
        check_both::<Text>(&texts, &present, &steps);
        let flags: Vec<bool> = numbers.iter().map(|number| number % 2 == 0).collect();
        check_both::<Fixed<bool>>(&flags, &present, &steps);
        let sizes: Vec<Size> = numbers.iter().map(|number| Size::VARIANTS[number.rem_euclid(3) as usize]).collect();
        check_both::<EnumColumn<Size>>(&sizes, &present, &steps);
        let days: Vec<NaiveDate> =
            numbers.iter().map(|n| NaiveDate::default() + chrono::TimeDelta::days(n % 100_000)).collect();
        check_both::<Fixed<NaiveDate>>(&days, &present, &steps);
        let times: Vec<DateTime<Utc>> =
            numbers.iter().map(|n| DateTime::from_timestamp_micros(n % 1_000_000_000_000_000).unwrap()).collect();
        check_both::<Fixed<DateTime<Utc>>>(&times, &present, &steps);
    }
}
