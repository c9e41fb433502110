//! The file of a segment, whatever version of the table it is seen in: its two forms, as they were written.

use std::path::{Path, PathBuf};
use std::sync::{Arc, OnceLock};

use arrow::array::ArrayRef;

use super::Form;
use super::arrow_form::{self, ArrowForm};
use super::encoding::decoded;
use super::key_index::KeyIndex;
use super::parquet_form::{Checksums, ParquetForm};
use super::partition::PartitionValue;
use crate::error::{Error, Result};
use crate::predicate::{Bounds, Scalar};
use crate::schema::{Field, Schema};
use crate::store::io::Backend;
use crate::store::logged_stats::LoggedStats;
use crate::store::paths;
use crate::store::snapshot;
use crate::store::stats::ColumnStats;
use crate::store::{SEGMENT_ROWS_MAX, UNIT_ROWS};

/// What the log says of a segment.
#[derive(Debug)]
pub(in crate::store) struct SegmentMeta {
    /// Relative to the store, decoded.
    pub(in crate::store) path: String,
    /// The same as the log writes it. Readers of the log tell files by that, however it is encoded.
    pub(in crate::store) logged_path: String,
    pub(in crate::store) parquet_bytes: u64,
    pub(in crate::store) modified_ms: i64,
    /// By partition column.
    pub(in crate::store) partition: Vec<PartitionValue>,
    pub(in crate::store) checksums_tag: Option<String>,
    /// Where they do not say how many rows there are, these are counted in the file.
    pub(in crate::store) stats: Option<LoggedStats>,
    pub(in crate::store) tags: Vec<(String, Option<String>)>,
}

impl SegmentMeta {
    fn logged_rows(&self) -> Option<u64> {
        self.stats.as_ref().and_then(LoggedStats::rows)
    }
}

/// What the files of a table have in common.
pub(in crate::store) struct Table {
    backend: Arc<dyn Backend>,
    root: PathBuf,
    schema: Schema,
    /// The columns that are in the files, in the order of the schema.
    stored: Vec<Field>,
    /// By column of the schema: where it is.
    places: Vec<Place>,
}

/// Where a file has a column.
#[derive(Debug, Clone, Copy)]
enum Place {
    /// So many stored columns are before it.
    Stored(usize),
    /// The log has its value, after those of so many other partition columns.
    Partition(usize),
}

impl Table {
    pub(in crate::store) fn new(backend: &Arc<dyn Backend>, root: &Path, schema: &Schema) -> Arc<Self> {
        let mut stored = Vec::new();
        let places = schema.fields().iter().enumerate().map(|(column, field)| {
            match schema.partition_by().iter().position(|partition| *partition == column) {
                Some(place) => Place::Partition(place),
                None => {
                    stored.push(field.clone());
                    Place::Stored(stored.len() - 1)
                }
            }
        });
        let places = places.collect();
        Arc::new(Self { backend: Arc::clone(backend), root: root.to_owned(), schema: schema.clone(), stored, places })
    }

    pub(in crate::store) fn root(&self) -> &Path {
        &self.root
    }

    pub(in crate::store) fn schema(&self) -> &Schema {
        &self.schema
    }
}

/// What it opens stays open as long as any snapshot of this process has it.
pub(in crate::store) struct SegmentFile {
    table: Arc<Table>,
    meta: SegmentMeta,
    rows: u64,
    arrow: OnceLock<Option<ArrowForm>>,
    parquet: OnceLock<ParquetForm>,
    keys: OnceLock<Option<KeyIndex>>,
    units: OnceLock<Vec<u64>>,
    /// By partition column: its value, as often as a unit has rows.
    constants: Vec<OnceLock<ArrayRef>>,
}

impl SegmentFile {
    pub(in crate::store) fn new(table: Arc<Table>, meta: SegmentMeta) -> Result<Self> {
        let constants = std::iter::repeat_with(OnceLock::new).take(meta.partition.len()).collect();
        let logged_rows = meta.logged_rows();
        let mut segment = Self {
            table,
            rows: logged_rows.unwrap_or(0),
            meta,
            arrow: OnceLock::new(),
            parquet: OnceLock::new(),
            keys: OnceLock::new(),
            units: OnceLock::new(),
            constants,
        };
        if logged_rows.is_none() {
            segment.rows = segment.parquet()?.unit_rows().iter().sum();
        }
        if segment.is_own() && segment.rows > SEGMENT_ROWS_MAX as u64 {
            let message = format!("the log says that it has {} rows, more than a segment can have", segment.rows);
            return Err(Error::damaged(segment.parquet_path(), message));
        }
        Ok(segment)
    }

    /// Its Parquet file, relative to the store.
    pub(in crate::store) fn path(&self) -> &str {
        &self.meta.path
    }

    pub(in crate::store) fn root(&self) -> &Path {
        &self.table.root
    }

    pub(in crate::store) fn backend(&self) -> &Arc<dyn Backend> {
        &self.table.backend
    }

    /// How many rows it has, deleted ones included.
    pub(in crate::store) fn row_count(&self) -> u64 {
        self.rows
    }

    /// The size of its Parquet file.
    pub(in crate::store) fn parquet_bytes(&self) -> u64 {
        self.meta.parquet_bytes
    }

    /// When it was written, in milliseconds since 1970.
    pub(in crate::store) fn modified_ms(&self) -> i64 {
        self.meta.modified_ms
    }

    /// The size of its Arrow form, if it has one that can be read.
    pub(in crate::store) fn arrow_bytes(&self) -> Option<u64> {
        self.arrow().map(ArrowForm::bytes)
    }

    /// What the log says of it.
    pub(in crate::store) fn meta(&self) -> &SegmentMeta {
        &self.meta
    }

    /// Which form is read.
    pub(in crate::store) fn form(&self) -> Form {
        if self.arrow().is_some() { Form::Arrow } else { Form::Parquet }
    }

    /// The partition columns and the value that all rows have there, as the log writes it; `None` is NULL.
    pub(in crate::store) fn partition_values(&self) -> impl Iterator<Item = (&str, Option<&str>)> {
        let columns = self.table.schema.partition_by().iter().zip(&self.meta.partition);
        columns.map(|(column, value)| (self.table.schema.field(*column).name(), value.text.as_deref()))
    }

    /// What the log says of a column of the table.
    ///
    /// # Panics
    ///
    /// When there is no such column.
    pub(in crate::store) fn bounds(&self, column: usize) -> Bounds {
        match (self.table.places[column], &self.meta.stats) {
            (Place::Partition(place), _) => Bounds::constant(self.rows, self.meta.partition[place].value.clone()),
            (Place::Stored(_), Some(stats)) if stats.rows().is_some() => {
                let bounds = stats.bounds(&self.table.schema, column);
                // A file of our own with a NaN in it has no bounds in the log (format.md, section 2).
                let has_bounds = bounds.min.is_some() && bounds.max.is_some();
                Bounds { may_hold_nan: bounds.may_hold_nan && !(self.is_own() && has_bounds), ..bounds }
            }
            (Place::Stored(_), _) => Bounds::unknown(self.rows),
        }
    }

    /// The columns that are in the file.
    pub(super) fn stored(&self) -> &[Field] {
        &self.table.stored
    }

    /// Whether there is an Arrow form now that can be read, whatever was there when it was first needed.
    pub(in crate::store) fn has_arrow(&self) -> bool {
        self.is_own() && self.open_arrow().is_some()
    }

    /// Every file of the segment that a scan may open, absolute.
    pub(in crate::store) fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.parquet_path(), self.arrow_path()];
        files.extend(self.table.schema.key().map(|_| self.key_path()));
        files
    }

    pub(in crate::store) fn parquet_path(&self) -> PathBuf {
        self.table.root.join(&self.meta.path)
    }

    pub(in crate::store) fn arrow_path(&self) -> PathBuf {
        arrow_path(&self.table.root, &self.meta.path)
    }

    fn key_path(&self) -> PathBuf {
        key_path(&self.table.root, &self.meta.path)
    }

    /// The positions of rows whose keys may be those of these hashes; `None` if there is no key index that can be read.
    pub(in crate::store) fn rows_with_keys(&self, hashes: &[u64]) -> Option<Vec<u32>> {
        let open = || {
            let path = self.key_path();
            paths::check_inside(&self.table.root, &path).ok()?;
            KeyIndex::open(&*self.table.backend, &path, self.rows).ok()
        };
        let index = self.keys.get_or_init(|| if self.is_own() { open() } else { None }).as_ref()?;
        index.rows(&*self.table.backend, hashes).ok()
    }

    /// Whether it was written by this crate, so that its units are known without opening it.
    pub(in crate::store) fn is_own(&self) -> bool {
        self.meta.checksums_tag.is_some()
    }

    /// The rows of each of its units.
    pub(in crate::store) fn units(&self) -> Result<&[u64]> {
        if let Some(units) = self.units.get() {
            return Ok(units);
        }
        let units = if self.is_own() {
            let unit = UNIT_ROWS as u64;
            let whole = usize::try_from(self.rows / unit).unwrap_or(usize::MAX);
            let mut units = vec![unit; whole];
            units.extend((!self.rows.is_multiple_of(unit)).then_some(self.rows % unit));
            units
        } else {
            let parquet = self.parquet();
            let explain = |error| snapshot::explain(&self.table.backend, &self.table.root, &self.parquet_path(), error);
            parquet.map_err(explain)?.unit_rows()
        };
        Ok(self.units.get_or_init(|| units))
    }

    /// What is known of a column in a unit.
    pub(in crate::store) fn unit_bounds(&self, unit: usize, rows: u64, column: usize) -> Bounds {
        match (self.table.places[column], self.arrow()) {
            (Place::Partition(place), _) => Bounds::constant(rows, self.meta.partition[place].value.clone()),
            (Place::Stored(position), Some(arrow)) => arrow.bounds(unit, position),
            (Place::Stored(position), None) if self.is_own() => {
                let of_footer = self.parquet().ok().and_then(|parquet| parquet.bounds(unit, position));
                of_footer.unwrap_or_else(|| self.logged_bounds(rows, column))
            }
            _ => self.logged_bounds(rows, column),
        }
    }

    /// What the log says of a column, as bounds of some of the rows.
    fn logged_bounds(&self, rows: u64, column: usize) -> Bounds {
        let all = self.bounds(column);
        Bounds { rows, nulls: all.nulls.filter(|nulls| *nulls == 0), ..all }
    }

    /// Whether one of these values may be in a column of a unit, as far as a Bloom filter tells.
    pub(in crate::store) fn may_hold(&self, unit: usize, column: usize, values: &[&Scalar]) -> bool {
        match (self.position(column), self.arrow()) {
            (Some(position), None) if self.is_own() => {
                self.parquet().map_or(true, |parquet| parquet.may_hold(unit, position, values))
            }
            _ => true,
        }
    }

    /// A column's place among those in the file; `None` for a partition column.
    pub(super) fn position(&self, column: usize) -> Option<usize> {
        match self.table.places[column] {
            Place::Stored(position) => Some(position),
            Place::Partition(_) => None,
        }
    }

    pub(super) fn schema(&self) -> &Schema {
        &self.table.schema
    }

    /// The Arrow form, if there is one that can be read.
    pub(super) fn arrow(&self) -> Option<&ArrowForm> {
        self.arrow.get_or_init(|| if self.is_own() { self.open_arrow() } else { None }).as_ref()
    }

    fn open_arrow(&self) -> Option<ArrowForm> {
        let path = self.arrow_path();
        paths::check_inside(&self.table.root, &path).ok()?;
        let form = ArrowForm::open(&*self.table.backend, &path, &self.table.stored).ok()?;
        (form.rows() == self.rows).then_some(form)
    }

    pub(super) fn parquet(&self) -> Result<&ParquetForm> {
        if let Some(parquet) = self.parquet.get() {
            return Ok(parquet);
        }
        let form = self.open_parquet()?;
        Ok(self.parquet.get_or_init(|| form))
    }

    pub(super) fn open_parquet(&self) -> Result<ParquetForm> {
        let path = self.parquet_path();
        paths::check_inside(&self.table.root, &path)?;
        let checksums = match &self.meta.checksums_tag {
            None => None,
            Some(tag) => Some(
                Checksums::from_tag(tag).ok_or_else(|| Error::damaged(&path, "its checksums in the log are none"))?,
            ),
        };
        let form =
            ParquetForm::open(&self.table.backend, &path, &self.table.stored, self.meta.parquet_bytes, checksums)?;
        if self.meta.logged_rows().is_some_and(|rows| rows != form.unit_rows().iter().sum::<u64>()) {
            return Err(Error::damaged(&path, format!("it does not have the {} rows that the log says", self.rows)));
        }
        if self.is_own() && form.unit_rows() != self.units()? {
            return Err(Error::damaged(&path, "its row groups are not those of a segment"));
        }
        Ok(form)
    }

    /// Columns of a unit, in their Arrow types.
    pub(in crate::store) fn read(&self, unit: usize, columns: &[usize]) -> Result<Vec<ArrayRef>> {
        let arrays = self.read_encoded(unit, columns)?;
        let fields = columns.iter().map(|column| self.table.schema.field(*column));
        arrays.iter().zip(fields).map(|(array, field)| decoded(array, field.data_type())).collect()
    }

    /// Columns of a unit, in their Arrow types or those in which the file has them. A damaged Arrow form is read around where
    /// Parquet is good.
    pub(in crate::store) fn read_encoded(&self, unit: usize, columns: &[usize]) -> Result<Vec<ArrayRef>> {
        let units = self.units()?;
        let rows =
            usize::try_from(units[unit]).map_err(|_| Error::damaged(self.parquet_path(), "a unit is too large"))?;
        let stored: Vec<usize> = columns.iter().filter_map(|column| self.position(*column)).collect();
        let mut arrays = match self.read_arrow(unit, &stored) {
            Some(Ok(arrays)) => arrays,
            Some(Err(damage)) => {
                self.parquet().and_then(|parquet| parquet.columns(unit, &stored)).map_err(|_| damage)?
            }
            None if stored.is_empty() => Vec::new(),
            None => self.parquet().and_then(|parquet| parquet.columns(unit, &stored)).map_err(|error| {
                snapshot::explain(&self.table.backend, &self.table.root, &self.parquet_path(), error)
            })?,
        }
        .into_iter();
        columns
            .iter()
            .map(|column| match self.position(*column) {
                Some(_) => arrays.next().ok_or_else(|| Error::damaged(self.parquet_path(), "a column is missing")),
                None => self.constant(*column, rows),
            })
            .collect()
    }

    fn read_arrow(&self, unit: usize, stored: &[usize]) -> Option<Result<Vec<ArrayRef>>> {
        let arrow = self.arrow()?;
        Some(stored.iter().map(|column| arrow.column(unit, *column)).collect())
    }

    pub(super) fn constant(&self, column: usize, rows: usize) -> Result<ArrayRef> {
        let field = self.table.schema.field(column);
        let Place::Partition(place) = self.table.places[column] else {
            return Err(Error::value(field.name(), "it is no partition column"));
        };
        let value = &self.meta.partition[place];
        let make = |rows| {
            value.to_array(field.data_type(), rows).ok_or_else(|| {
                Error::value(
                    field.name(),
                    format!("the partition value {value:?} of \"{}\" does not fit", self.meta.path),
                )
            })
        };
        // All units but the last have as many rows as the first.
        let unit_rows = usize::try_from(self.rows).unwrap_or(UNIT_ROWS).min(UNIT_ROWS);
        if rows > unit_rows {
            return make(rows);
        }
        let slot = &self.constants[place];
        let whole = match slot.get() {
            Some(array) => array,
            None => {
                let array = make(unit_rows)?;
                slot.get_or_init(|| array)
            }
        };
        Ok(if rows == unit_rows { Arc::clone(whole) } else { whole.slice(0, rows) })
    }

    /// Checks both forms, each against its checksums and statistics and against the other.
    /// Gives what is wrong, in words; nothing if all is well.
    pub(in crate::store) fn verify(&self) -> Vec<String> {
        let mut problems = Vec::new();
        let parquet = match self.open_parquet() {
            Ok(form) => Some(form),
            Err(error) => {
                problems.push(error.to_string());
                None
            }
        };
        let arrow_path = self.arrow_path();
        let arrow = match self.table.backend.stat(&arrow_path) {
            Ok(_) if self.is_own() => match ArrowForm::open(&*self.table.backend, &arrow_path, &self.table.stored) {
                Ok(form) if form.rows() != self.rows => {
                    problems.push(
                        Error::damaged(
                            &arrow_path,
                            format!("it does not have the {} rows that the log says", self.rows),
                        )
                        .to_string(),
                    );
                    None
                }
                Ok(form) => Some(form),
                Err(error) => {
                    problems.push(error.to_string());
                    None
                }
            },
            _ => None,
        };
        if let Some(Err(error)) = arrow.as_ref().map(ArrowForm::verify) {
            problems.push(error.to_string());
        }
        if let Some(parquet) = parquet {
            problems.extend(self.verify_rows(&parquet, arrow.as_ref()));
            problems.extend(self.verify_keys(&parquet).err().map(|error| error.to_string()));
            problems.extend(parquet.verify_indexes().err().map(|error| error.to_string()));
        }
        problems
    }

    fn verify_keys(&self, parquet: &ParquetForm) -> Result<()> {
        let path = self.key_path();
        let Some(position) = self.table.schema.key().and_then(|key| self.position(key)) else { return Ok(()) };
        if !self.is_own() || self.table.backend.stat(&path).is_err() {
            return Ok(());
        }
        let index = KeyIndex::open(&*self.table.backend, &path, self.rows)?;
        let units = 0..parquet.unit_rows().len();
        let keys = units.map(|unit| parquet.columns(unit, &[position])).collect::<Result<Vec<_>>>()?;
        index.verify(&*self.table.backend, &keys.concat())
    }

    fn verify_rows(&self, parquet: &ParquetForm, arrow: Option<&ArrowForm>) -> Vec<String> {
        let mut problems = Vec::new();
        let columns: Vec<usize> = (0..self.table.stored.len()).collect();
        let mut totals: Vec<ColumnStats> = vec![ColumnStats::EMPTY; self.table.stored.len()];
        for unit in 0..parquet.unit_rows().len() {
            let arrays = match parquet.columns(unit, &columns) {
                Ok(arrays) => arrays,
                Err(error) => {
                    problems.push(error.to_string());
                    continue;
                }
            };
            for (column, array) in arrays.iter().enumerate() {
                totals[column] = totals[column].clone().merge(ColumnStats::of(array));
                let differs = arrow
                    .and_then(|arrow| arrow.column(unit, column).ok())
                    .and_then(|other| decoded(&other, self.table.stored[column].data_type()).ok())
                    .is_some_and(|other| !same_values(array, &other));
                if differs {
                    let name = self.table.stored[column].name();
                    problems.push(format!(
                        "\"{}\": column \"{name}\", unit {unit}: the Arrow form and the Parquet file differ",
                        self.meta.path
                    ));
                }
            }
        }
        if problems.is_empty() {
            problems.extend(self.verify_statistics(&totals));
        }
        problems
    }

    fn verify_statistics(&self, totals: &[ColumnStats]) -> Vec<String> {
        let stored = (0..self.table.schema.len()).filter_map(|column| Some((column, self.position(column)?)));
        stored
            .filter_map(|(column, position)| {
                let logged = self.bounds(column);
                let claimed = ColumnStats {
                    nulls: logged.nulls.unwrap_or(totals[position].nulls),
                    min: logged.min.clone(),
                    max: logged.max.clone(),
                    has_nan: false,
                };
                let all_null = totals[position].min.is_none() && claimed.min.is_some();
                let fits = claimed.nulls == totals[position].nulls
                    && !all_null
                    && arrow_form::encloses(&claimed, &totals[position]);
                (!fits).then(|| {
                    let name = self.table.schema.field(column).name();
                    format!(
                        "\"{}\": column \"{name}\": the log's statistics exclude values that are there",
                        self.meta.path
                    )
                })
            })
            .collect()
    }
}

/// Whether two arrays hold the same values, bit by bit where they are floats.
fn same_values(a: &ArrayRef, b: &ArrayRef) -> bool {
    // Arrow's equality of floats is that of their bits, but for NaN, all of whose bit patterns differ.
    a.to_data() == b.to_data() || {
        use arrow::array::AsArray;
        use arrow::datatypes::{DataType as ArrowType, Float32Type, Float64Type};
        let nulls = a.nulls() == b.nulls();
        match (a.data_type(), b.data_type()) {
            (ArrowType::Float64, ArrowType::Float64) => {
                let bits = |array: &ArrayRef| {
                    array.as_primitive::<Float64Type>().iter().map(|v| v.map(f64::to_bits)).collect::<Vec<_>>()
                };
                nulls && bits(a) == bits(b)
            }
            (ArrowType::Float32, ArrowType::Float32) => {
                let bits = |array: &ArrayRef| {
                    array.as_primitive::<Float32Type>().iter().map(|v| v.map(f32::to_bits)).collect::<Vec<_>>()
                };
                nulls && bits(a) == bits(b)
            }
            _ => false,
        }
    }
}

/// Where the Arrow form of a segment is.
pub(in crate::store) fn arrow_path(root: &Path, parquet: &str) -> PathBuf {
    root.join(paths::ARROW_DIR).join(format!("{}.arrow", stem(parquet)))
}

/// Where the key index of a segment is.
pub(in crate::store) fn key_path(root: &Path, parquet: &str) -> PathBuf {
    root.join(paths::KEY_DIR).join(format!("{}.key", stem(parquet)))
}

fn stem(parquet: &str) -> &str {
    let name = parquet.rsplit('/').next().unwrap_or(parquet);
    name.strip_suffix(".parquet").unwrap_or(name)
}

impl std::fmt::Debug for SegmentFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SegmentFile").field("path", &self.meta.path).field("rows", &self.rows).finish_non_exhaustive()
    }
}
