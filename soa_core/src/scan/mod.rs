//! Scanning a snapshot: from metadata to units to rows.
//!
//! [`Snapshot::plan`] leaves out what partition values, the log's statistics and zone maps exclude; it reads
//! metadata, never rows. A [`ScanPlan`] can be shared by threads, each of which claims units and reads them.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, RecordBatch, RecordBatchOptions};
use arrow::buffer::BooleanBuffer;
use arrow::compute::FilterBuilder;
use arrow::datatypes::{Schema as ArrowSchema, SchemaRef};

use crate::error::{Error, Result};
use crate::predicate::{Predicate, Scalar, Truth};
use crate::schema::{Schema, arrow_field};
use crate::store::{Overlay, Segment, Snapshot, decoded, key_hashes};

pub use crate::store::UNIT_ROWS;

/// What a scan is to give.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ScanRequest {
    /// Positions of columns in the table's schema, in the order in which batches have them. May be empty: then
    /// batches have only a row count.
    pub columns: Vec<usize>,
    /// Which rows are wanted.
    pub predicate: Option<Predicate>,
    /// How many rows are wanted at most. A plan without predicate ends when its units have as many.
    pub limit: Option<u64>,
}

/// At most [`UNIT_ROWS`] rows of one segment (of another writer's file: one of its row groups), or of the write-ahead log.
#[derive(Debug, Clone)]
pub struct Unit {
    source: Source,
    position: u64,
    rows: usize,
    /// Whether every row matches, so that there is nothing to filter.
    all_match: bool,
}

#[derive(Debug, Clone)]
enum Source {
    Segment { segment: Arc<Segment>, index: usize, ordinal: usize },
    Log { overlay: Arc<Overlay>, block: usize },
}

impl Unit {
    /// Columns of its rows, as its file has them.
    fn read(&self, columns: &[usize]) -> Result<Vec<ArrayRef>> {
        match &self.source {
            Source::Segment { segment, ordinal, .. } => segment.read_encoded(*ordinal, columns),
            Source::Log { overlay, block } => overlay.read(*block, columns),
        }
    }

    /// How many rows it has, without deleted ones, before any filter.
    pub fn row_count(&self) -> usize {
        self.rows
    }

    /// Its place among the units of all segments that partition values and the log's statistics did not exclude, of which
    /// there are [`PlanCounters::units_total`]. Two plans of one version and predicate agree on it, even if they do not
    /// agree on which units to read: zone maps are in files that may come and go.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// The segment it is of, unless its rows are in the write-ahead log alone.
    pub fn segment(&self) -> Option<&Arc<Segment>> {
        match &self.source {
            Source::Segment { segment, .. } => Some(segment),
            Source::Log { .. } => None,
        }
    }
}

/// Where rows of a unit are, by which a [`Transaction`](crate::store::Transaction) deletes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Located {
    /// What they are in.
    pub part: Part,
    /// Their numbers in it, ascending.
    pub numbers: Vec<u32>,
}

/// What rows of a snapshot are in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Part {
    /// The segment in this place of [`Snapshot::segments`].
    Segment(usize),
    /// The write-ahead log.
    Log,
    /// What a transaction has added itself.
    Own,
}

/// How much of a table a plan reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct PlanCounters {
    /// The snapshot's segments.
    pub segments_total: u64,
    /// Segments of which something is read.
    pub segments_read: u64,
    /// Units of the segments that partition values and the log's statistics did not exclude, and of the write-ahead log.
    pub units_total: u64,
    /// Units that are read.
    pub units_read: u64,
}

/// What to read of one snapshot. Cheap to clone and shared by the threads that read.
#[derive(Debug, Clone)]
pub struct ScanPlan(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    snapshot: Arc<Snapshot>,
    request: ScanRequest,
    units: Vec<Unit>,
    schema: SchemaRef,
    counters: PlanCounters,
    rows: u64,
}

impl Snapshot {
    /// Finds out what must be read. Only metadata is looked at.
    ///
    /// # Errors
    ///
    /// When the request names a column that the table does not have or compares one with a constant of
    /// another kind, or a file's footer is damaged.
    pub fn plan(self: &Arc<Self>, request: &ScanRequest) -> Result<ScanPlan> {
        let schema = self.schema();
        for column in &request.columns {
            if *column >= schema.len() {
                return Err(Error::argument(format!("a scan names column {column}; the table has {}", schema.len())));
            }
        }
        if let Some(predicate) = &request.predicate {
            predicate.check(schema)?;
        }
        let keys = request.predicate.as_ref().zip(schema.key()).and_then(|(predicate, key)| Keys::of(predicate, key));
        let mut units = Vec::new();
        let mut counters = PlanCounters { segments_total: self.segments().len() as u64, ..Default::default() };
        let mut rows = 0;
        let enough = |rows: u64| request.predicate.is_none() && request.limit.is_some_and(|limit| rows >= limit);
        for (index, segment) in self.segments().iter().enumerate() {
            if enough(rows) {
                break;
            }
            let before = units.len();
            let segment = (index, segment);
            rows += plan_segment(segment, request, keys.as_ref(), &mut units, &mut counters, rows, &enough)?;
            counters.segments_read += u64::from(units.len() > before);
        }
        if let Some(overlay) = self.overlay().filter(|_| !enough(rows)) {
            for (block, live) in overlay.blocks().enumerate() {
                let (source, position) = (Source::Log { overlay: Arc::clone(overlay), block }, counters.units_total);
                counters.units_total += 1;
                rows += live as u64;
                if live > 0 {
                    units.push(Unit { source, position, rows: live, all_match: false });
                }
            }
        }
        counters.units_read = units.len() as u64;
        let fields: Vec<_> = request.columns.iter().map(|column| arrow_field(schema.field(*column))).collect();
        Ok(ScanPlan(Arc::new(Inner {
            snapshot: Arc::clone(self),
            request: request.clone(),
            units,
            schema: Arc::new(ArrowSchema::new(fields)),
            counters,
            rows,
        })))
    }
}

/// The only keys that can match.
struct Keys<'a> {
    column: usize,
    values: Vec<&'a Scalar>,
    hashes: Option<Vec<u64>>,
}

impl<'a> Keys<'a> {
    fn of(predicate: &'a Predicate, column: usize) -> Option<Self> {
        let values = predicate.values_of(column)?;
        let hashes = key_hashes(&values);
        Some(Self { column, values, hashes })
    }
}

/// Adds the units of a segment that may have wanted rows; returns how many rows they have.
fn plan_segment(
    (index, segment): (usize, &Arc<Segment>),
    request: &ScanRequest,
    keys: Option<&Keys<'_>>,
    units: &mut Vec<Unit>,
    counters: &mut PlanCounters,
    rows_before: u64,
    enough: &dyn Fn(u64) -> bool,
) -> Result<u64> {
    let predicate = request.predicate.as_ref();
    let whole = predicate.map(|predicate| predicate.prune(&|column| segment.bounds(column)));
    if segment.row_count() == 0 || whole.is_some_and(|truth| !truth.can_be_true) {
        return Ok(0);
    }
    let mut rows = 0;
    let of_segment = segment.live_units()?;
    let with_keys = keys.and_then(|keys| segment.units_with_keys(keys.hashes.as_deref()?));
    let filtered_keys = keys.filter(|_| with_keys.is_none());
    let first_position = counters.units_total;
    counters.units_total += of_segment.len() as u64;
    for (ordinal, unit_rows) in of_segment.iter().enumerate() {
        if enough(rows_before + rows) {
            break;
        }
        if *unit_rows == 0 || with_keys.as_ref().is_some_and(|units| units.binary_search(&ordinal).is_err()) {
            continue;
        }
        let truth = match (predicate, whole) {
            (Some(predicate), Some(whole)) if !whole.is_always_true() => {
                predicate.prune(&|column| segment.unit_bounds(ordinal, *unit_rows, column))
            }
            (_, Some(whole)) => whole,
            (_, None) => Truth { can_be_true: true, can_be_false: false, can_be_null: false },
        };
        if !truth.can_be_true || filtered_keys.is_some_and(|keys| !segment.may_hold(ordinal, keys.column, &keys.values))
        {
            continue;
        }
        let count = usize::try_from(*unit_rows).map_err(|_| Error::argument("a row group has too many rows"))?;
        rows += unit_rows;
        let (position, all_match) = (first_position + ordinal as u64, truth.is_always_true());
        let source = Source::Segment { segment: Arc::clone(segment), index, ordinal };
        units.push(Unit { source, position, rows: count, all_match });
    }
    Ok(rows)
}

impl ScanPlan {
    /// The snapshot that is read.
    pub fn snapshot(&self) -> &Arc<Snapshot> {
        &self.0.snapshot
    }

    /// What was asked for.
    pub fn request(&self) -> &ScanRequest {
        &self.0.request
    }

    /// The units, in the order in which their rows were added.
    pub fn units(&self) -> &[Unit] {
        &self.0.units
    }

    /// The schema of the batches.
    pub fn arrow_schema(&self) -> &SchemaRef {
        &self.0.schema
    }

    /// How much is read.
    pub fn counters(&self) -> PlanCounters {
        self.0.counters
    }

    /// The rows of the units: no more than these can match.
    pub fn row_count(&self) -> u64 {
        self.0.rows
    }

    /// How many rows the scan gives, if metadata alone tell.
    pub fn exact_row_count(&self) -> Option<u64> {
        self.0.request.predicate.is_none().then_some(self.0.rows)
    }

    /// All rows of a unit, whether they match or not, in place where the segment's Arrow form is.
    ///
    /// # Errors
    ///
    /// When the segment's files are missing or damaged.
    ///
    /// # Panics
    ///
    /// When there is no such unit.
    pub fn read(&self, unit: usize) -> Result<RecordBatch> {
        let unit = &self.0.units[unit];
        self.decoded(&unit.read(&self.0.request.columns)?, unit.rows)
    }

    /// A batch of arrays as a file has them.
    fn decoded(&self, arrays: &[ArrayRef], rows: usize) -> Result<RecordBatch> {
        let schema = self.0.snapshot.schema();
        let columns = arrays.iter().zip(&self.0.request.columns);
        let arrays = columns.map(|(array, column)| decoded(array, schema.field(*column).data_type()));
        batch(&self.0.schema, arrays.collect::<Result<_>>()?, rows)
    }

    /// All rows of a unit as they lie in its files, deleted ones included, and which are not deleted; `None` if all are
    /// left. For hosts that copy rows anyway and can leave some out on the way.
    ///
    /// Two kinds of columns may come in another type than [`arrow_schema`](Self::arrow_schema) says, each batch in its own:
    /// text of few values as `Dictionary(UInt8, Utf8)`, and decimals of up to 9 or 18 digits as `Decimal32` or `Decimal64`.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    ///
    /// # Panics
    ///
    /// When there is no such unit.
    pub fn read_in_place(&self, unit: usize) -> Result<(RecordBatch, Option<BooleanBuffer>)> {
        let planned = &self.0.units[unit];
        match &planned.source {
            Source::Segment { segment, ordinal, .. } => {
                let (arrays, live) = segment.read_in_place(*ordinal, &self.0.request.columns)?;
                let rows = live.as_ref().map_or(planned.rows, BooleanBuffer::len);
                Ok((batch(&encoded_schema(&self.0.schema, &arrays), arrays, rows)?, live))
            }
            Source::Log { .. } => Ok((self.read(unit)?, None)),
        }
    }

    /// The rows of a unit that match.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    ///
    /// # Panics
    ///
    /// When there is no such unit.
    pub fn read_filtered(&self, unit: usize) -> Result<RecordBatch> {
        let planned = &self.0.units[unit];
        let Some(predicate) = self.0.request.predicate.as_ref().filter(|_| !planned.all_match) else {
            return self.read(unit);
        };
        if let Some(rows) = self.read_matching(planned, predicate)? {
            return Ok(rows);
        }
        self.read_selected(unit, &self.select(unit, predicate)?)
    }

    /// The rows of a unit that match, and where they are.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    ///
    /// # Panics
    ///
    /// When there is no such unit.
    pub fn read_located(&self, unit: usize) -> Result<(RecordBatch, Located)> {
        let planned = &self.0.units[unit];
        let (part, numbers) = match &planned.source {
            Source::Segment { segment, index, ordinal } => (Part::Segment(*index), segment.positions(*ordinal)?),
            Source::Log { overlay, block } => {
                let (is_own, numbers) = overlay.numbers(*block);
                (if is_own { Part::Own } else { Part::Log }, numbers)
            }
        };
        let Some(predicate) = self.0.request.predicate.as_ref().filter(|_| !planned.all_match) else {
            return Ok((self.read(unit)?, Located { part, numbers }));
        };
        let selected = self.select(unit, predicate)?;
        let numbers = selected.values().set_indices().filter_map(|row| numbers.get(row).copied()).collect();
        Ok((self.read_selected(unit, &selected)?, Located { part, numbers }))
    }

    /// Some of the rows that [`read`](Self::read) gives of a unit.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and when `selected` has another length than there are rows.
    ///
    /// # Panics
    ///
    /// When there is no such unit.
    pub fn read_selected(&self, unit: usize, selected: &BooleanArray) -> Result<RecordBatch> {
        let rows = selected.true_count();
        if rows == selected.len() {
            return self.read(unit);
        }
        let arrays = self.0.units[unit].read(&self.0.request.columns)?;
        let filter = FilterBuilder::new(selected).optimize().build();
        let left = arrays.iter().map(|array| filter.filter(array));
        let left = left.collect::<Result<Vec<_>, _>>().map_err(Error::arrow("cannot filter rows"))?;
        self.decoded(&left, rows)
    }

    /// What `predicate`, which need not be the request's, can be for the rows of a unit, by metadata alone.
    ///
    /// # Panics
    ///
    /// When there is no such unit, or the predicate names a column that the table does not have.
    pub fn prune(&self, unit: usize, predicate: &Predicate) -> Truth {
        let unit = &self.0.units[unit];
        match &unit.source {
            Source::Segment { segment, ordinal, .. } => {
                predicate.prune(&|column| segment.unit_bounds(*ordinal, unit.rows as u64, column))
            }
            Source::Log { .. } => Truth::UNKNOWN,
        }
    }

    /// For each row that [`read`](Self::read) gives of a unit, whether it matches `predicate`, which need not be the
    /// request's. Reads the predicate's columns alone.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read), and when a column is compared with a constant of another kind.
    ///
    /// # Panics
    ///
    /// When there is no such unit, or the predicate names a column that the table does not have.
    pub fn select(&self, unit: usize, predicate: &Predicate) -> Result<BooleanArray> {
        let unit = &self.0.units[unit];
        let tested = predicate.columns();
        let tested_batch = tested_rows(self.0.snapshot.schema(), &tested, unit.read(&tested)?, unit.rows)?;
        predicate.select(&tested_batch, &|column| tested.iter().position(|tested| *tested == column))
    }

    /// The rows of a unit that match, if they are read from Parquet, where not all need be decoded.
    fn read_matching(&self, unit: &Unit, predicate: &Predicate) -> Result<Option<RecordBatch>> {
        let Source::Segment { segment, ordinal, .. } = &unit.source else { return Ok(None) };
        let found = segment.read_matching(*ordinal, &self.0.request.columns, predicate)?;
        found.map(|(rows, arrays)| batch(&self.0.schema, arrays, rows)).transpose()
    }
}

/// Rows that a predicate is to be evaluated on, of these columns of a table, as its files have them.
///
/// # Errors
///
/// When the arrays are of different lengths.
pub(crate) fn tested_rows(
    schema: &Schema,
    columns: &[usize],
    arrays: Vec<ArrayRef>,
    rows: usize,
) -> Result<RecordBatch> {
    let fields: Vec<_> = columns.iter().map(|column| arrow_field(schema.field(*column))).collect();
    batch(&encoded_schema(&Arc::new(ArrowSchema::new(fields)), &arrays), arrays, rows)
}

/// The schema with the types that the arrays have.
fn encoded_schema(schema: &SchemaRef, arrays: &[ArrayRef]) -> SchemaRef {
    if schema.fields().iter().zip(arrays).all(|(field, array)| field.data_type() == array.data_type()) {
        return Arc::clone(schema);
    }
    let fields = schema.fields().iter().zip(arrays);
    let fields = fields.map(|(field, array)| field.as_ref().clone().with_data_type(array.data_type().clone()));
    Arc::new(ArrowSchema::new(fields.collect::<Vec<_>>()))
}

fn batch(schema: &SchemaRef, arrays: Vec<ArrayRef>, rows: usize) -> Result<RecordBatch> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    RecordBatch::try_new_with_options(Arc::clone(schema), arrays, &options)
        .map_err(Error::arrow("cannot put columns together"))
}
