//! `COPY … TO 'orders.soa' (FORMAT soa, KEY 'order_id', PARTITION_KEY 'status', SORT_KEY 'ordered_at')`: rows of any query into
//! a store, all in one commit or none.
//!
//! | callback | does |
//! |---|---|
//! | bind | reads the options and finds a type for each column |
//! | init | opens the store, or prepares a new one |
//! | batch | makes Arrow's arrays of DuckDB's rows |
//! | flush | gives them to the store's segments, in the order of the query |
//! | finalize | commits |
//!
//! DuckDB says nothing when a statement fails. Where a part of it could not begin, say a scan of a file that is gone, that part
//! counts as finished, and finalize is called (`Event::CompleteDependency`): so finalize asks first whether the statement has
//! failed. After an error it drops the state of `init`, and what has been written goes with it, as soon as the last thread lets
//! go of the statement; that may be a moment after the error was shown, and the plan of a prepared statement keeps its last
//! state.

use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use arrow::array::RecordBatch;
use duckdb_neo::column_data_collection::ColumnDataCollection;
use duckdb_neo::connection::Context;
use duckdb_neo::copy_function::{
    CopyFunctionBuilder, CopyToBindInfo, CopyToFunctionCallbacks, CopyToStatistics, CopyToStatisticsCallbacks,
};
use duckdb_neo::extension::Extension;
use duckdb_neo::file::FileSystem;
use duckdb_neo::logical_type::{LogicalType, LogicalTypeID};
use duckdb_neo::value::Value;
use soa_core::schema::{DataType, Field};
use soa_core::store::{Layout, Loader};

use crate::error::{IntoDuckDb, Result, Step, guard, invalid};
use crate::ffi::arrow_batches;
use crate::location::{check_not_failed, place};
use crate::types::{check_intervals, durations, store_type};

/// The format's name.
const NAME: &str = "soa";

/// DuckDB hands over at least so many rows at once. With more than one it would keep what is left of each part of a UNION ALL
/// back until the end.
const BATCH_ROWS: NonZeroUsize = NonZeroUsize::MIN;

/// Registers the format.
pub(crate) fn register(extension: &Extension) -> Result<()> {
    CopyFunctionBuilder::new(NAME, CopyToStore).with_fallback_extension(NAME).with_statistics().register(extension)
}

#[derive(Debug)]
struct CopyToStore;

/// What bind found out.
#[derive(Debug)]
struct Bound {
    /// The path as DuckDB makes it of what the user wrote: files that it names otherwise are not ours.
    expanded: String,
    layout: Layout,
    types: Vec<LogicalType>,
    fields: Vec<Field>,
}

/// What the threads of a statement share.
#[derive(Debug)]
struct Running {
    /// `None` when it was committed.
    loader: Mutex<Option<Loader>>,
    path: PathBuf,
    rows: Mutex<u64>,
}

impl Bound {
    fn new(context: &Context, info: &CopyToBindInfo) -> Result<Self> {
        let mut layout = Layout::default();
        for index in 0..info.option_count()? {
            let (name, value) = info.get_option(index)?;
            match name.to_ascii_lowercase().as_str() {
                "key" => layout.key = Some(one_column("KEY", &value)?),
                "partition_key" => layout.partition_by = columns("PARTITION_KEY", &value)?,
                "sort_key" => layout.sort_by = columns("SORT_KEY", &value)?,
                // The statement's own: only the files' names follow from it.
                "format" => {}
                _ => {
                    let known = "the options of the format soa are KEY, PARTITION_KEY and SORT_KEY";
                    return Err(invalid(format!("\"{name}\" is no option of the format soa; {known}")));
                }
            }
        }
        let (mut fields, mut types) = (Vec::new(), Vec::new());
        for index in 0..info.column_count()? {
            let (name, logical_type) = info.get_column(index)?;
            fields.push(Field::new(name, store_type(name, &logical_type)?).with_nullable(true));
            types.push(logical_type);
        }
        let expanded = FileSystem::new(context)?.expand(&info.file_path()?)?;
        Ok(Self { expanded, layout, types, fields })
    }

    fn run(&self, context: &Context, path: &str) -> Result<Running> {
        if path != self.expanded {
            return Err(invalid(
                "a store is written in one commit: PARTITION_BY, PER_THREAD_OUTPUT, FILE_SIZE_BYTES and USE_TMP_FILE, which make \
                 files of DuckDB's own, are not for the format soa; PARTITION_KEY names the columns of its partitions",
            ));
        }
        let path = place(context, path)?;
        let loader = Loader::new(&path, &self.layout, self.fields.clone()).into_duckdb()?;
        Ok(Running { loader: Mutex::new(Some(loader)), path, rows: Mutex::default() })
    }

    fn batches(&self, context: &Context, input: &ColumnDataCollection<'_>) -> Result<Vec<RecordBatch>> {
        let columns: Vec<(&str, LogicalType)> =
            self.fields.iter().map(|field| field.name()).zip(self.types.iter().cloned()).collect();
        let is_duration = |field: &Field| *field.data_type() == DataType::Duration;
        if !self.fields.iter().any(is_duration) {
            return arrow_batches(context, &columns, input, |_| Ok(()));
        }
        let batches = arrow_batches(context, &columns, input, |chunk| check_intervals(&columns, chunk))?;
        batches.iter().map(durations).collect()
    }
}

impl Running {
    fn write(&self, batches: &[RecordBatch]) -> Result<()> {
        let mut loader = self.loader.lock().unwrap_or_else(PoisonError::into_inner);
        let loader = loader.as_mut().ok_or_else(|| self.ended())?;
        batches.iter().try_for_each(|batch| loader.write(batch)).into_duckdb()
    }

    fn commit(&self) -> Result<()> {
        let loader = self.loader.lock().unwrap_or_else(PoisonError::into_inner).take().ok_or_else(|| self.ended())?;
        *self.rows.lock().unwrap_or_else(PoisonError::into_inner) = loader.row_count();
        loader.commit().into_duckdb().map(|_| ())
    }

    fn ended(&self) -> duckdb_neo::Error {
        invalid(format!("rows came for \"{}\" after they had been committed", self.path.display()))
    }
}

impl CopyToFunctionCallbacks for CopyToStore {
    type BindData = Bound;
    type InitData = Running;
    type BatchData = Vec<RecordBatch>;

    fn bind(&self, context: &Context, info: &CopyToBindInfo) -> Result<Bound> {
        guard(NAME, Step::CopyBind, || Bound::new(context, info))
    }

    fn init(&self, context: &Context, bound: &Bound, path: &str) -> Result<Running> {
        guard(NAME, Step::CopyInit, || bound.run(context, path))
    }

    fn batch_size(&self, _context: &Context, _bound: &Bound) -> Result<Option<NonZeroUsize>> {
        Ok(Some(BATCH_ROWS))
    }

    fn batch(
        &self,
        context: &Context,
        bound: &Bound,
        _running: &Running,
        input: &ColumnDataCollection<'_>,
    ) -> Result<Vec<RecordBatch>> {
        guard(NAME, Step::CopyBatch, || bound.batches(context, input))
    }

    fn flush(
        &self,
        _context: &Context,
        _bound: &Bound,
        running: &Running,
        _input: &ColumnDataCollection<'_>,
        batches: &mut Vec<RecordBatch>,
    ) -> Result<()> {
        guard(NAME, Step::CopyFlush, || running.write(&std::mem::take(batches)))
    }

    fn finalize(&self, context: &Context, _bound: &Bound, running: &Running) -> Result<()> {
        guard(NAME, Step::CopyFinalize, || {
            check_not_failed(context, &running.path)?;
            running.commit()
        })
    }
}

impl CopyToStatisticsCallbacks for CopyToStore {
    fn statistics(&self, _context: &Context, _bound: &Bound, running: &Running) -> Result<CopyToStatistics> {
        let rows = *running.rows.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(CopyToStatistics { row_count: usize::try_from(rows).ok(), file_size: None })
    }
}

/// The columns that an option names: `'a'`, `'a, b'`, `a` or `(a, b)`.
fn columns(option: &str, value: &Value) -> Result<Vec<String>> {
    let id = value.logical_type()?.id()?;
    let mut named = Vec::new();
    match id {
        LogicalTypeID::Varchar => {
            let text = value.get::<String>()?.unwrap_or_default();
            named.extend(text.split(',').map(|name| name.trim().to_owned()));
        }
        LogicalTypeID::List | LogicalTypeID::Struct | LogicalTypeID::Tuple => {
            for child in value.children()? {
                named.extend(child.get::<String>()?);
            }
        }
        _ => {}
    }
    match named.is_empty() || named.iter().any(String::is_empty) {
        true => Err(invalid(format!("{option} names columns: {option} 'a', or {option} 'a, b'"))),
        false => Ok(named),
    }
}

fn one_column(option: &str, value: &Value) -> Result<String> {
    match columns(option, value)?.as_slice() {
        [column] => Ok(column.clone()),
        _ => Err(invalid(format!("{option} names one column"))),
    }
}
