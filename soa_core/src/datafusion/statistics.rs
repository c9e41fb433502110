//! What the log says of a table, as the optimizer asks for it.

use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, ScalarValue, Statistics};

use super::types;
use crate::predicate::{Bounds, Scalar};
use crate::scan::ScanPlan;
use crate::store::Snapshot;

/// Of more segments than these, bounds are not gathered: planning would take longer than what it wins.
const SEGMENTS_MAX: usize = 4096;

/// The statistics of all rows that a plan gives.
pub(super) fn of(plan: &ScanPlan, fetch: Option<usize>) -> Statistics {
    let count = |rows: u64| usize::try_from(rows).unwrap_or(usize::MAX);
    let exact = plan.exact_row_count().filter(|_| fetch.is_none()).map(count);
    let num_rows = match exact {
        Some(rows) => Precision::Exact(rows),
        None => Precision::Inexact(count(plan.row_count()).min(fetch.unwrap_or(usize::MAX))),
    };
    let columns = &plan.request().columns;
    let column_statistics = columns.iter().map(|column| of_column(plan.snapshot(), *column, exact.is_some())).collect();
    Statistics { num_rows, total_byte_size: Precision::Absent, column_statistics }
}

/// What the log says of a column. Bounds need not be attained, so that they are never exact; how many values are NULL is, if
/// all rows are given.
fn of_column(snapshot: &Snapshot, column: usize, all_rows: bool) -> ColumnStatistics {
    let segments = snapshot.segments();
    if segments.is_empty() || segments.len() > SEGMENTS_MAX {
        return ColumnStatistics::new_unknown();
    }
    let mut bounds = segments.iter().map(|segment| segment.bounds(column));
    let Some(first) = bounds.next() else { return ColumnStatistics::new_unknown() };
    let all = bounds.fold(first, merge);
    let data_type = snapshot.schema().field(column).data_type();
    let bound = |value: Option<Scalar>| -> Precision<ScalarValue> {
        // Where a NaN may be, nothing bounds it.
        let value = value.filter(|value| !(all.may_hold_nan && matches!(value, Scalar::Float(_))));
        value.and_then(|value| types::value(data_type, &value)).map_or(Precision::Absent, Precision::Inexact)
    };
    let nulls = match all.nulls.and_then(|nulls| usize::try_from(nulls).ok()) {
        Some(nulls) if all_rows => Precision::Exact(nulls),
        Some(nulls) => Precision::Inexact(nulls),
        None => Precision::Absent,
    };
    let mut statistics = ColumnStatistics::new_unknown();
    statistics.null_count = nulls;
    statistics.min_value = bound(all.min.clone());
    statistics.max_value = bound(all.max.clone());
    statistics
}

/// The bounds of two sets of rows together.
fn merge(a: Bounds, b: Bounds) -> Bounds {
    let all_null = |bounds: &Bounds| bounds.nulls == Some(bounds.rows);
    let outer = |x: Option<Scalar>, y: Option<Scalar>, want: std::cmp::Ordering| match (x, y) {
        (Some(x), Some(y)) => Some(if x.compare(&y)? == want { x } else { y }),
        // A set without a value bounds nothing; one of which nothing is known makes all unknown.
        (Some(x), None) if all_null(&b) => Some(x),
        (None, Some(y)) if all_null(&a) => Some(y),
        _ => None,
    };
    Bounds {
        rows: a.rows + b.rows,
        nulls: a.nulls.zip(b.nulls).map(|(a, b)| a + b),
        min: outer(a.min.clone(), b.min.clone(), std::cmp::Ordering::Less),
        max: outer(a.max.clone(), b.max.clone(), std::cmp::Ordering::Greater),
        may_hold_nan: a.may_hold_nan || b.may_hold_nan,
    }
}
