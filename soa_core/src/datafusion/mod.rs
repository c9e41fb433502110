//! A store as a table of [DataFusion](https://datafusion.apache.org): SQL and data frames over one store or several.
//!
//! [`SnapshotTable`] is one [`Snapshot`] as a `TableProvider`. A session has as many of them as it
//! joins; that a query sees one version of each, however often it names it, follows from the snapshot. Projections, limits
//! and filters reach the scan. Filters are only *used* there, to leave out segments, units and rows: DataFusion tests the
//! rows that come again. Filters that a query finds while it runs (the least of the ten largest values so far, the keys of
//! the other side of a join) are used likewise, unit by unit, in sessions whose option
//! `datafusion.optimizer.enable_aggregate_dynamic_filter_pushdown` is false. By default it is true, and then a filter may be
//! one of an aggregation, which DataFusion 55.2 gets wrong: beside `min(b)` it takes `min(-a)` for nothing. A scan cannot tell
//! them apart.
//!
//! Columns have the Arrow types of [`DataType`](crate::schema::DataType)'s table: enums are dictionaries, text is `Utf8View`.
//!
//! ```
//! use std::sync::Arc;
//!
//! use datafusion::prelude::SessionContext;
//! use soa_core::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
//! use soa_core::arrow::datatypes::Int64Type;
//! use soa_core::datafusion::SnapshotTable;
//! use soa_core::schema::{DataType, Field, Schema};
//! use soa_core::store::Store;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("readings.soa");
//! let columns = vec![Field::new("sensor", DataType::Utf8), Field::new("value", DataType::Int64)];
//! let store = Store::create(&path, Schema::new(columns)?)?;
//! let sensors: ArrayRef = Arc::new(StringArray::from(vec!["a", "b", "a"]));
//! let values: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
//! store.append(&[RecordBatch::try_from_iter([("sensor", sensors), ("value", values)])?])?;
//!
//! let session = SessionContext::new();
//! session.register_table("readings", Arc::new(SnapshotTable::new(store.snapshot()?)))?;
//! # let runtime = tokio::runtime::Builder::new_current_thread().build()?;
//! # let batches = runtime.block_on(async {
//! let query = session.sql("SELECT sum(value) FROM readings WHERE sensor = 'a'").await?;
//! let batches = query.collect().await?;
//! # Ok::<_, datafusion::error::DataFusionError>(batches) })?;
//! assert_eq!(batches[0].column(0).as_primitive::<Int64Type>().values(), &[4]);
//! # Ok(())
//! # }
//! ```

mod filter;
mod source;
mod statistics;
#[cfg(test)]
mod tests;
mod types;

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::SchemaRef;
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::{DFSchema, DataFusionError, Result, Statistics};
use datafusion::datasource::source::DataSourceExec;
use datafusion::logical_expr::execution_props::ExecutionProps;
use datafusion::logical_expr::expr_rewriter::unnormalize_col;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::planner::create_physical_expr;
use datafusion::physical_plan::ExecutionPlan;

use self::source::SnapshotSource;
use crate::error::Error;
use crate::predicate::Predicate;
use crate::schema::arrow_schema;
use crate::store::Snapshot;

/// One version of a store as a table that DataFusion reads.
pub struct SnapshotTable {
    snapshot: Arc<Snapshot>,
    schema: SchemaRef,
    /// Which rows it has; all, if `None`.
    rows: Option<Predicate>,
}

impl SnapshotTable {
    /// The rows of `snapshot`.
    pub fn new(snapshot: Arc<Snapshot>) -> Self {
        let schema = arrow_schema(snapshot.schema());
        Self { snapshot, schema, rows: None }
    }

    /// The rows of `snapshot` for which `predicate` is true: those and no others, so that nothing above has to test them.
    pub fn matching(snapshot: Arc<Snapshot>, predicate: Predicate) -> Self {
        Self { rows: Some(predicate), ..Self::new(snapshot) }
    }

    /// The snapshot that is read.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.snapshot
    }

    /// A filter of a logical plan as the physical plan will have it, if it says anything that the store understands.
    fn understood(&self, filter: &Expr) -> Option<Arc<dyn PhysicalExpr>> {
        let schema = DFSchema::try_from(Arc::clone(&self.schema)).ok()?;
        let filter = unnormalize_col(filter.clone());
        let filter = create_physical_expr(&filter, &schema, &ExecutionProps::new(), &Default::default()).ok()?;
        filter::predicate_of(filter.as_ref(), self.snapshot.schema()).map(|_| filter)
    }
}

impl fmt::Debug for SnapshotTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SnapshotTable").field("snapshot", &self.snapshot).finish_non_exhaustive()
    }
}

#[async_trait]
impl TableProvider for SnapshotTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.schema)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let columns = projection.cloned().unwrap_or_else(|| (0..self.snapshot.schema().len()).collect());
        // A limit counts the rows that pass all filters, which is not for this scan to say.
        let limit = limit.filter(|_| filters.is_empty());
        let filters = filters.iter().filter_map(|filter| self.understood(filter)).collect();
        let partitions = state.config_options().execution.target_partitions;
        let source = SnapshotSource::new(&self.snapshot, self.rows.clone(), columns, filters, limit, partitions)?;
        Ok(DataSourceExec::from_data_source(source))
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let answer = |filter: &&Expr| match self.understood(filter) {
            Some(_) => TableProviderFilterPushDown::Inexact,
            None => TableProviderFilterPushDown::Unsupported,
        };
        Ok(filters.iter().map(answer).collect())
    }

    fn statistics(&self) -> Option<Statistics> {
        let columns = (0..self.snapshot.schema().len()).collect();
        let source = SnapshotSource::new(&self.snapshot, self.rows.clone(), columns, Vec::new(), None, 1).ok()?;
        Some(source.statistics())
    }
}

/// An error of the store on its way through DataFusion, which keeps it as it is.
fn external(error: Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
