//! A scan as DataFusion runs it: partitions that claim units of one plan.

use std::any::Any;
use std::fmt;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use arrow::array::RecordBatch;
use datafusion::common::config::ConfigOptions;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode, TreeNodeRecursion};
use datafusion::common::{DataFusionError, Result, Statistics};
use datafusion::datasource::source::{DataSource, OpenArgs};
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{EquivalenceProperties, PhysicalExpr};
use datafusion::physical_expr_common::physical_expr::{fmt_sql, snapshot_generation};
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::{BaselineMetrics, Count, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayFormatType, Partitioning};

use super::{external, filter, statistics};
use crate::predicate::Predicate;
use crate::scan::{ScanPlan, ScanRequest};
use crate::store::Snapshot;

/// Which rows and columns of a snapshot are wanted, planned.
#[derive(Debug, Clone)]
pub(super) struct SnapshotSource {
    plan: ScanPlan,
    /// Which rows there are; what does not match is nowhere else left out.
    rows: Option<Predicate>,
    /// What is filtered by elsewhere and can be used here; columns are those of the table.
    filters: Vec<Arc<dyn PhysicalExpr>>,
    /// How many rows each partition gives at most.
    fetch: Option<usize>,
    /// How many there are is decided once, because the rest of a plan depends on it. There may be fewer units.
    partitions: usize,
    metrics: ExecutionPlanMetricsSet,
}

impl SnapshotSource {
    /// Plans a scan of `columns` of the rows that match `rows`, if given, in at most `partitions`; `filters` leave out what
    /// they can.
    pub(super) fn new(
        snapshot: &Arc<Snapshot>,
        rows: Option<Predicate>,
        columns: Vec<usize>,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        fetch: Option<usize>,
        partitions: usize,
    ) -> Result<Self> {
        let plan = Self::plan(snapshot, rows.as_ref(), columns, &filters, fetch)?;
        let partitions = partitions.min(plan.units().len()).max(1);
        Ok(Self { plan, rows, filters, fetch, partitions, metrics: ExecutionPlanMetricsSet::new() })
    }

    /// The same scan with other filters and another limit.
    fn replanned(&self, filters: Vec<Arc<dyn PhysicalExpr>>, fetch: Option<usize>) -> Result<Self> {
        let columns = self.plan.request().columns.clone();
        let rows = self.rows.clone();
        let plan = Self::plan(self.plan.snapshot(), rows.as_ref(), columns, &filters, fetch)?;
        Ok(Self { plan, rows, filters, fetch, partitions: self.partitions, metrics: ExecutionPlanMetricsSet::new() })
    }

    fn plan(
        snapshot: &Arc<Snapshot>,
        rows: Option<&Predicate>,
        columns: Vec<usize>,
        filters: &[Arc<dyn PhysicalExpr>],
        fetch: Option<usize>,
    ) -> Result<ScanPlan> {
        let mut parts: Vec<Predicate> = rows.cloned().into_iter().collect();
        for filter in filters.iter().filter(|filter| !is_dynamic(filter)) {
            let part = filter::predicate_of(filter.as_ref(), snapshot.schema());
            parts.extend(part.filter(|part| !parts.contains(part)));
        }
        let predicate = (!parts.is_empty()).then_some(Predicate::And(parts));
        let limit = fetch.map(|fetch| fetch as u64);
        snapshot.plan(&ScanRequest { columns, predicate, limit }).map_err(external)
    }

    /// The statistics of all rows.
    pub(super) fn statistics(&self) -> Statistics {
        statistics::of(&self.plan, self.fetch)
    }

    /// A filter on this scan's columns as one on the table's.
    fn on_table(&self, filter: Arc<dyn PhysicalExpr>) -> Result<Arc<dyn PhysicalExpr>> {
        let columns = &self.plan.request().columns;
        filter
            .transform(|node| {
                let Some(column) = node.downcast_ref::<Column>() else { return Ok(Transformed::no(node)) };
                let of_table = columns.get(column.index()).ok_or_else(|| {
                    DataFusionError::Internal(format!("a filter names column {column}, which is not scanned"))
                })?;
                let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(column.name(), *of_table));
                Ok(Transformed::yes(column))
            })
            .data()
    }

    fn start(&self, partition: usize, claims: Claims) -> SendableRecordBatchStream {
        let reader = Reader {
            plan: self.plan.clone(),
            is_exact: self.rows.is_some(),
            claims,
            dynamic: self.filters.iter().filter(|filter| is_dynamic(filter)).cloned().collect(),
            known: None,
            left: self.fetch.unwrap_or(usize::MAX),
            units_read: MetricBuilder::new(&self.metrics).counter("units_read", partition),
            units_pruned: MetricBuilder::new(&self.metrics).counter("units_pruned", partition),
            baseline: BaselineMetrics::new(&self.metrics, partition),
        };
        let schema = Arc::clone(self.plan.arrow_schema());
        Box::pin(RecordBatchStreamAdapter::new(schema, futures::stream::iter(reader)))
    }
}

impl DataSource for SnapshotSource {
    /// Reads every so manieth unit, whatever other partitions do.
    fn open(&self, partition: usize, _context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let claims = Claims { next: Arc::new(AtomicUsize::new(partition)), step: self.partitions };
        Ok(self.start(partition, claims))
    }

    fn create_sibling_state(&self, _config: &ConfigOptions) -> Option<Arc<dyn Any + Send + Sync>> {
        Some(Arc::new(Rounds::new(self.partitions)))
    }

    fn open_with_args(&self, args: OpenArgs) -> Result<SendableRecordBatchStream> {
        match args.sibling_state.as_ref().and_then(|state| state.downcast_ref::<Rounds>()) {
            Some(rounds) => {
                let claims = rounds.join(args.partition).ok_or_else(|| {
                    DataFusionError::Internal(format!(
                        "there is no partition {} of {}",
                        args.partition, self.partitions
                    ))
                })?;
                Ok(self.start(args.partition, claims))
            }
            None => self.open(args.partition, args.context),
        }
    }

    fn fmt_as(&self, format: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.plan.snapshot();
        let counters = self.plan.counters();
        let schema = self.plan.arrow_schema();
        let columns: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        let filters: Vec<String> = self.filters.iter().map(|filter| fmt_sql(filter.as_ref()).to_string()).collect();
        match format {
            DisplayFormatType::Default | DisplayFormatType::Verbose => {
                write!(f, "store=\"{}\", version={}", snapshot.path().display(), snapshot.version())?;
                write!(f, ", columns=[{}]", columns.join(", "))?;
                write!(f, ", segments={}/{}", counters.segments_read, counters.segments_total)?;
                write!(f, ", units={}, partitions={}", counters.units_read, self.partitions)?;
                if snapshot.log_row_count() > 0 {
                    write!(f, ", log_rows={}", snapshot.log_row_count())?;
                }
                if !filters.is_empty() {
                    write!(f, ", filter={}", filters.join(" AND "))?;
                }
                self.fetch.map_or(Ok(()), |fetch| write!(f, ", fetch={fetch}"))
            }
            DisplayFormatType::TreeRender => {
                writeln!(f, "store={}", snapshot.path().display())?;
                writeln!(f, "segments={}/{}", counters.segments_read, counters.segments_total)?;
                writeln!(f, "units={}", counters.units_read)?;
                filters.iter().try_for_each(|filter| writeln!(f, "filter={filter}"))
            }
        }
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.partitions)
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        EquivalenceProperties::new(Arc::clone(self.plan.arrow_schema()))
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        let is_whole = partition.is_none() || self.partitions == 1;
        Ok(Arc::new(match is_whole {
            true => self.statistics(),
            // Which units a partition will claim is not known.
            false => Statistics::new_unknown(self.plan.arrow_schema()),
        }))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(self.replanned(self.filters.clone(), limit).ok()?))
    }

    fn fetch(&self) -> Option<usize> {
        self.fetch
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.metrics.clone()
    }

    fn try_swapping_with_projection(&self, _projection: &ProjectionExprs) -> Result<Option<Arc<dyn DataSource>>> {
        // Columns that are handed on cost nothing.
        Ok(None)
    }

    /// Takes every filter for a hint, and answers for none. One that a query makes while it runs is taken only where none can
    /// be an aggregation's: of `min(-a), min(b)` DataFusion 55.2 makes the filter that `min(b)` alone would have.
    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        config: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn DataSource>>> {
        let answer = FilterPushdownPropagation::with_parent_pushdown_result(vec![PushedDown::No; filters.len()]);
        // What is filtered after a limit must not be before it.
        if self.fetch.is_some() {
            return Ok(answer);
        }
        let mut all = self.filters.clone();
        let may_be_wrong = config.optimizer.enable_aggregate_dynamic_filter_pushdown;
        for filter in filters.into_iter().filter(|filter| !(may_be_wrong && is_dynamic(filter))) {
            let filter = self.on_table(filter)?;
            let is_known = all.contains(&filter);
            let is_understood = || filter::predicate_of(filter.as_ref(), self.plan.snapshot().schema()).is_some();
            if !is_known && (is_dynamic(&filter) || is_understood()) {
                all.push(filter);
            }
        }
        if all.len() == self.filters.len() {
            return Ok(answer);
        }
        Ok(answer.with_updated_node(Arc::new(self.replanned(all, None)?)))
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for filter in &self.filters {
            if f(filter)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
}

/// Whether a filter changes while the query runs.
fn is_dynamic(filter: &Arc<dyn PhysicalExpr>) -> bool {
    snapshot_generation(filter) != 0
}

/// Who reads which unit.
#[derive(Debug)]
struct Claims {
    next: Arc<AtomicUsize>,
    step: usize,
}

impl Claims {
    fn claim(&self) -> usize {
        self.next.fetch_add(self.step, Ordering::Relaxed)
    }
}

/// What the partitions of a plan share: a counter for each time that the plan is run.
#[derive(Debug)]
struct Rounds(Mutex<RoundsState>);

#[derive(Debug)]
struct RoundsState {
    /// How often each partition was started.
    started: Vec<usize>,
    counters: Vec<Arc<AtomicUsize>>,
}

impl Rounds {
    fn new(partitions: usize) -> Self {
        Self(Mutex::new(RoundsState { started: vec![0; partitions], counters: Vec::new() }))
    }

    /// The counter for a partition that starts: when it starts for the nth time, that of the nth run. `None` if there is no
    /// such partition.
    fn join(&self, partition: usize) -> Option<Claims> {
        let mut state = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let started = state.started.get_mut(partition)?;
        let round = *started;
        *started += 1;
        if state.counters.len() <= round {
            state.counters.push(Arc::default());
        }
        Some(Claims { next: Arc::clone(&state.counters[round]), step: 1 })
    }
}

/// The batches of one partition: those of the units that it claims.
#[derive(Debug)]
struct Reader {
    plan: ScanPlan,
    /// Whether no row may be given that does not match the plan's predicate.
    is_exact: bool,
    claims: Claims,
    dynamic: Vec<Arc<dyn PhysicalExpr>>,
    /// The plan's predicate and what the dynamic filters were when they had this generation.
    known: Option<(u64, Option<Arc<Predicate>>)>,
    /// How many rows are still wanted.
    left: usize,
    units_read: Count,
    units_pruned: Count,
    baseline: BaselineMetrics,
}

impl Iterator for Reader {
    type Item = Result<RecordBatch>;

    fn next(&mut self) -> Option<Self::Item> {
        let elapsed = self.baseline.elapsed_compute().clone();
        let _timer = elapsed.timer();
        while self.left > 0 {
            let unit = self.claims.claim();
            if unit >= self.plan.units().len() {
                break;
            }
            match self.read(unit) {
                Ok(Some(batch)) if batch.num_rows() > 0 => {
                    let batch = batch.slice(0, batch.num_rows().min(self.left));
                    self.left -= batch.num_rows();
                    self.baseline.record_output(batch.num_rows());
                    return Some(Ok(batch));
                }
                Ok(_) => {}
                Err(error) => {
                    self.left = 0;
                    return Some(Err(external(error)));
                }
            }
        }
        self.left = 0;
        None
    }
}

impl Reader {
    /// The rows of a unit that may be wanted; `None` where there are none.
    fn read(&mut self, unit: usize) -> crate::error::Result<Option<RecordBatch>> {
        let Some(predicate) = self.predicate() else {
            self.units_read.add(1);
            return self.plan.read(unit).map(Some);
        };
        let truth = self.plan.prune(unit, &predicate);
        if !truth.can_be_true {
            self.units_pruned.add(1);
            return Ok(None);
        }
        let selected = if truth.is_always_true() { None } else { Some(self.plan.select(unit, &predicate)?) };
        self.units_read.add(1);
        match selected {
            Some(selected) if selected.true_count() == 0 => Ok(None),
            // Unless the scan alone decides, every row is tested again. To take out less than half of them beforehand costs more than it saves.
            Some(selected) if self.is_exact || selected.true_count() < selected.len() / 2 => {
                self.plan.read_selected(unit, &selected).map(Some)
            }
            _ => self.plan.read(unit).map(Some),
        }
    }

    /// What the rows must be as far as is known by now.
    fn predicate(&mut self) -> Option<Arc<Predicate>> {
        let generation = self.dynamic.iter().map(snapshot_generation).fold(0, u64::wrapping_add);
        if self.known.as_ref().is_none_or(|(known, _)| *known != generation) {
            let schema = self.plan.snapshot().schema();
            let dynamic = self.dynamic.iter().filter_map(|filter| filter::predicate_of(filter.as_ref(), schema));
            let parts: Vec<Predicate> = self.plan.request().predicate.iter().cloned().chain(dynamic).collect();
            self.known = Some((generation, (!parts.is_empty()).then(|| Arc::new(Predicate::And(parts)))));
        }
        self.known.as_ref().and_then(|(_, predicate)| predicate.clone())
    }
}
