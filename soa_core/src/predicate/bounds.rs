//! What the bounds of many rows say about a predicate.

use std::cmp::Ordering;

use super::{CompareOp, Predicate, Scalar};

/// What is known of one column over a set of rows (a partition, a file or a batch).
///
/// `min` and `max` bound every value that is neither NULL nor NaN; they need not be attained.
#[derive(Debug, Clone, PartialEq)]
pub struct Bounds {
    /// How many rows there are.
    pub rows: u64,
    /// How many of them are NULL, if known.
    pub nulls: Option<u64>,
    /// No value is below.
    pub min: Option<Scalar>,
    /// No value but NaN is above.
    pub max: Option<Scalar>,
    /// Whether a NaN may be among the values.
    pub may_hold_nan: bool,
}

impl Bounds {
    /// Bounds that say nothing of `rows` rows.
    pub fn unknown(rows: u64) -> Self {
        Self { rows, nulls: None, min: None, max: None, may_hold_nan: true }
    }

    /// The bounds of `rows` rows that all hold `value`; NULL when it is `None`.
    pub fn constant(rows: u64, value: Option<Scalar>) -> Self {
        let nulls = if value.is_none() { rows } else { 0 };
        Self { rows, nulls: Some(nulls), min: value.clone(), max: value, may_hold_nan: false }
    }

    /// The bounds of these rows and of others.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        let wider = |a: &Self, b: &Self, bound: fn(&Self) -> &Option<Scalar>, keep: fn(Ordering) -> bool| {
            // Rows that are all NULL have no bounds and need none.
            match (bound(a), bound(b)) {
                (Some(x), Some(y)) => x.compare(y).map(|order| if keep(order) { x.clone() } else { y.clone() }),
                (Some(x), None) => b.all_null().then(|| x.clone()),
                (None, Some(y)) => a.all_null().then(|| y.clone()),
                (None, None) => None,
            }
        };
        Self {
            rows: self.rows + other.rows,
            nulls: self.nulls.zip(other.nulls).map(|(a, b)| a + b),
            min: wider(&self, &other, |bounds| &bounds.min, Ordering::is_le),
            max: wider(&self, &other, |bounds| &bounds.max, Ordering::is_ge),
            may_hold_nan: self.may_hold_nan || other.may_hold_nan,
        }
    }

    fn all_null(&self) -> bool {
        self.nulls == Some(self.rows)
    }

    /// What comparing these values with `value` can give.
    fn compare(&self, op: CompareOp, value: &Scalar) -> Truth {
        let null = Truth { can_be_null: self.nulls != Some(0), ..Truth::IMPOSSIBLE };
        if self.rows == 0 {
            return Truth::IMPOSSIBLE;
        }
        if self.all_null() {
            return Truth::NULL;
        }
        // NaN is above every number, so where it may occur there is no upper bound. (Where there is nothing but NaN there
        // are no bounds at all, and nothing is known.)
        let nan = Scalar::Float(f64::NAN);
        let max = if self.may_hold_nan && matches!(value, Scalar::Float(_)) {
            self.max.as_ref().map(|_| &nan)
        } else {
            self.max.as_ref()
        };
        let (Some(low), Some(high)) =
            (self.min.as_ref().and_then(|min| min.compare(value)), max.and_then(|max| max.compare(value)))
        else {
            return Truth::UNKNOWN;
        };
        // The values lie between `low` and `high` relative to the constant.
        let (can_be_true, can_be_false) = match op {
            CompareOp::Eq => (low.is_le() && high.is_ge(), !(low.is_eq() && high.is_eq())),
            CompareOp::NotEq => (!(low.is_eq() && high.is_eq()), low.is_le() && high.is_ge()),
            CompareOp::Lt => (low.is_lt(), high.is_ge()),
            CompareOp::LtEq => (low.is_le(), high.is_gt()),
            CompareOp::Gt => (high.is_gt(), low.is_le()),
            CompareOp::GtEq => (high.is_ge(), low.is_lt()),
        };
        Truth { can_be_true, can_be_false, ..null }
    }

    fn starts_with(&self, prefix: &str) -> Truth {
        let from = self.compare(CompareOp::GtEq, &Scalar::Utf8(prefix.to_owned()));
        let below = match prefix_end(prefix) {
            Some(end) => self.compare(CompareOp::Lt, &Scalar::Utf8(end)),
            None => Truth { can_be_true: true, ..Truth::IMPOSSIBLE },
        };
        from.and(below)
    }
}

/// The least text above every text that begins with `prefix`, or `None` if there is none.
pub(crate) fn prefix_end(prefix: &str) -> Option<String> {
    let mut chars: Vec<char> = prefix.chars().collect();
    while let Some(last) = chars.pop() {
        // The gap in the range of `char` is that of the UTF-16 surrogates.
        let next = if last == '\u{D7FF}' { Some('\u{E000}') } else { char::from_u32(u32::from(last) + 1) };
        if let Some(next) = next {
            chars.push(next);
            return Some(chars.into_iter().collect());
        }
    }
    None
}

/// Which of SQL's three truth values a predicate can have over a set of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Truth {
    /// Some row may match.
    pub can_be_true: bool,
    /// Some row may fail.
    pub can_be_false: bool,
    /// For some row the answer may be NULL.
    pub can_be_null: bool,
}

impl Truth {
    /// Nothing is known.
    pub const UNKNOWN: Self = Self { can_be_true: true, can_be_false: true, can_be_null: true };
    /// There is no row.
    const IMPOSSIBLE: Self = Self { can_be_true: false, can_be_false: false, can_be_null: false };
    /// Every row gives NULL.
    const NULL: Self = Self { can_be_null: true, ..Self::IMPOSSIBLE };
    const TRUE: Self = Self { can_be_true: true, ..Self::IMPOSSIBLE };
    const FALSE: Self = Self { can_be_false: true, ..Self::IMPOSSIBLE };

    /// Whether every row matches, so that there is nothing to filter.
    pub fn is_always_true(self) -> bool {
        !self.can_be_false && !self.can_be_null
    }

    fn and(self, other: Self) -> Self {
        Self {
            can_be_true: self.can_be_true && other.can_be_true,
            can_be_false: self.can_be_false || other.can_be_false,
            can_be_null: (self.can_be_null && (other.can_be_true || other.can_be_null))
                || (other.can_be_null && (self.can_be_true || self.can_be_null)),
        }
    }

    fn or(self, other: Self) -> Self {
        self.not().and(other.not()).not()
    }

    fn not(self) -> Self {
        Self { can_be_true: self.can_be_false, can_be_false: self.can_be_true, can_be_null: self.can_be_null }
    }
}

impl Predicate {
    /// What the predicate can be for rows whose columns have the bounds that `bounds` gives.
    ///
    /// Rows can be left out where [`Truth::can_be_true`] is false. The answer may allow more than the
    /// rows hold, never less.
    pub fn prune(&self, bounds: &dyn Fn(usize) -> Bounds) -> Truth {
        match self {
            Self::And(parts) => parts.iter().fold(Truth::TRUE, |truth, part| truth.and(part.prune(bounds))),
            Self::Or(parts) => parts.iter().fold(Truth::FALSE, |truth, part| truth.or(part.prune(bounds))),
            Self::Not(part) => part.prune(bounds).not(),
            Self::Compare { column, op, value } => bounds(*column).compare(*op, value),
            Self::In { column, values } => {
                let bounds = bounds(*column);
                values.iter().fold(Truth::FALSE, |truth, value| truth.or(bounds.compare(CompareOp::Eq, value)))
            }
            Self::IsNull(column) => {
                let bounds = bounds(*column);
                Truth { can_be_true: bounds.nulls != Some(0), can_be_false: !bounds.all_null(), can_be_null: false }
            }
            Self::StartsWith { column, prefix } => bounds(*column).starts_with(prefix),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ints(min: i128, max: i128, nulls: u64) -> Bounds {
        Bounds {
            rows: 10,
            nulls: Some(nulls),
            min: Some(Scalar::Int(min)),
            max: Some(Scalar::Int(max)),
            may_hold_nan: false,
        }
    }

    fn prune(predicate: &Predicate, bounds: &Bounds) -> Truth {
        predicate.prune(&|_| bounds.clone())
    }

    #[test]
    fn comparisons_outside_the_bounds_are_pruned() {
        let bounds = ints(10, 20, 0);
        for (op, value, kept) in [
            (CompareOp::Eq, 9, false),
            (CompareOp::Eq, 10, true),
            (CompareOp::Eq, 21, false),
            (CompareOp::Lt, 10, false),
            (CompareOp::LtEq, 10, true),
            (CompareOp::Gt, 20, false),
            (CompareOp::GtEq, 20, true),
            (CompareOp::NotEq, 15, true),
        ] {
            let predicate = Predicate::compare(0, op, Scalar::Int(value));
            assert_eq!(prune(&predicate, &bounds).can_be_true, kept, "{op:?} {value}");
        }
        let constant = ints(7, 7, 0);
        assert!(!prune(&Predicate::compare(0, CompareOp::NotEq, Scalar::Int(7)), &constant).can_be_true);
        assert!(prune(&Predicate::eq(0, Scalar::Int(7)), &constant).is_always_true());
    }

    #[test]
    fn not_keeps_what_may_be_false_and_null_stays_null() {
        let not_five = Predicate::Not(Box::new(Predicate::eq(0, Scalar::Int(5))));
        assert!(!prune(&not_five, &ints(5, 5, 0)).can_be_true);
        assert!(prune(&not_five, &ints(5, 6, 0)).can_be_true);
        // All NULL: neither the comparison nor its negation is true.
        let null = Bounds { rows: 10, nulls: Some(10), min: None, max: None, may_hold_nan: false };
        assert!(!prune(&Predicate::eq(0, Scalar::Int(5)), &null).can_be_true);
        assert!(!prune(&not_five, &null).can_be_true);
        assert!(prune(&Predicate::IsNull(0), &null).is_always_true());
        assert!(!prune(&Predicate::is_not_null(0), &null).can_be_true);
    }

    #[test]
    fn nan_is_above_every_bound() {
        let floats = |may_hold_nan| Bounds {
            rows: 3,
            nulls: Some(0),
            min: Some(Scalar::Float(-0.0)),
            max: Some(Scalar::Float(1.0)),
            may_hold_nan,
        };
        let above = Predicate::compare(0, CompareOp::Gt, Scalar::Float(5.0));
        assert!(!prune(&above, &floats(false)).can_be_true);
        assert!(prune(&above, &floats(true)).can_be_true);
        assert!(prune(&Predicate::eq(0, Scalar::Float(f64::NAN)), &floats(true)).can_be_true);
        assert!(prune(&Predicate::eq(0, Scalar::Float(0.0)), &floats(false)).can_be_true);
        // Only NaN: there are no bounds, and nothing is pruned.
        assert_eq!(prune(&above, &Bounds::unknown(3)), Truth::UNKNOWN);
    }

    #[test]
    fn bounds_of_two_sets_of_rows_enclose_both() {
        let both = ints(3, 7, 0).or(ints(5, 9, 2));
        assert_eq!(both, Bounds { rows: 20, ..ints(3, 9, 2) });
        let null = Bounds { rows: 10, nulls: Some(10), min: None, max: None, may_hold_nan: false };
        assert_eq!(ints(3, 7, 0).or(null), Bounds { rows: 20, ..ints(3, 7, 10) });
        let unknown = ints(3, 7, 0).or(Bounds::unknown(10));
        assert_eq!((unknown.min, unknown.max, unknown.nulls), (None, None, None));
    }

    #[test]
    fn prefixes_prune_by_range() {
        let text = |min: &str, max: &str| Bounds {
            rows: 2,
            nulls: Some(0),
            min: Some(Scalar::Utf8(min.into())),
            max: Some(Scalar::Utf8(max.into())),
            may_hold_nan: false,
        };
        let starts = Predicate::StartsWith { column: 0, prefix: "ab".into() };
        assert!(prune(&starts, &text("aa", "ac")).can_be_true);
        assert!(!prune(&starts, &text("ac", "b")).can_be_true);
        assert!(!prune(&starts, &text("a", "aa")).can_be_true);
        let last = Predicate::StartsWith { column: 0, prefix: "\u{10FFFF}".into() };
        assert!(!prune(&last, &text("a", "b")).can_be_true);
        assert_eq!(prefix_end("a\u{D7FF}"), Some("a\u{E000}".into()));
    }

    #[test]
    fn empty_and_and_or() {
        assert!(prune(&Predicate::And(vec![]), &ints(0, 0, 0)).is_always_true());
        assert!(!prune(&Predicate::Or(vec![]), &ints(0, 0, 0)).can_be_true);
        let either = Predicate::Or(vec![Predicate::eq(0, Scalar::Int(1)), Predicate::eq(0, Scalar::Int(9))]);
        assert!(!prune(&either, &ints(2, 8, 3)).can_be_true);
        assert!(prune(&either, &ints(2, 9, 3)).can_be_true);
        let within = Predicate::In { column: 0, values: vec![Scalar::Int(1), Scalar::Int(3)] };
        assert!(prune(&within, &ints(2, 4, 0)).can_be_true);
        assert!(!prune(&within, &ints(4, 5, 0)).can_be_true);
    }
}
