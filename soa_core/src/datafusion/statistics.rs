//! What the log says of a table, as the optimizer asks for it.
//!
//! Bounds are not among it: from those of a column under a cast, DataFusion 55.2 computes that more rows pass a filter than
//! there are, and then refuses the query.

use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics};

use crate::scan::ScanPlan;
use crate::store::Snapshot;

/// The statistics of all rows that a plan gives.
pub(super) fn of(plan: &ScanPlan, fetch: Option<usize>) -> Statistics {
    let exact = plan.exact_row_count().filter(|_| fetch.is_none()).map(to_usize);
    let num_rows = match exact {
        Some(rows) => Precision::Exact(rows),
        None => Precision::Inexact(to_usize(plan.row_count()).min(fetch.unwrap_or(usize::MAX))),
    };
    let columns = plan.request().columns.iter();
    let column_statistics = columns.map(|column| of_column(plan.snapshot(), *column, exact.is_some())).collect();
    Statistics { num_rows, total_byte_size: Precision::Absent, column_statistics }
}

/// How many values of a column are NULL.
fn of_column(snapshot: &Snapshot, column: usize, all_rows: bool) -> ColumnStatistics {
    let mut statistics = ColumnStatistics::new_unknown();
    let nulls = match snapshot.schema().field(column).is_nullable() {
        false => Some(0),
        // Those of the write-ahead log would have to be counted.
        true if snapshot.log_row_count() > 0 => None,
        true => snapshot.segments().iter().map(|segment| segment.bounds(column).nulls).sum(),
    };
    statistics.null_count = match nulls.map(to_usize) {
        Some(nulls) if all_rows => Precision::Exact(nulls),
        Some(nulls) => Precision::Inexact(nulls),
        None => Precision::Absent,
    };
    statistics
}

fn to_usize(rows: u64) -> usize {
    usize::try_from(rows).unwrap_or(usize::MAX)
}
