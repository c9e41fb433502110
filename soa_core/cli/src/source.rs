//! Files that rows come from: Parquet, CSV and Arrow, told apart by what is in them.

use std::fs::File;
use std::io::{BufReader, Read, Seek};
use std::path::Path;
use std::sync::Arc;

use soa_core::arrow::array::RecordBatch;
use soa_core::arrow::csv::ReaderBuilder;
use soa_core::arrow::csv::reader::Format;
use soa_core::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use soa_core::arrow::error::ArrowError;
use soa_core::arrow::ipc::reader::{FileReader, StreamReader};
use soa_core::{Error, Result};

use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

/// Rows are read in batches of this many.
const BATCH_ROWS: usize = 122_880;
/// The types of a CSV's columns are found out from all of its rows: a first part could mislead.
const CSV_SAMPLE: Option<usize> = None;

type Batches = Box<dyn Iterator<Item = Result<RecordBatch, ArrowError>>>;

/// A file of rows, opened.
pub(crate) struct Source {
    pub(crate) schema: SchemaRef,
    /// How many rows it has, where it says so.
    pub(crate) rows: Option<u64>,
    pub(crate) batches: Batches,
}

/// How a CSV file is to be read.
#[derive(Debug, Clone)]
pub(crate) struct CsvOptions {
    pub(crate) delimiter: u8,
    pub(crate) header: bool,
    /// A field that is exactly this is NULL.
    pub(crate) null: String,
}

/// Opens a file. `expected` has the types that CSV columns are read as; without it they are found out.
pub(crate) fn open(path: &Path, csv: &CsvOptions, expected: Option<&Schema>) -> Result<Source> {
    let io = |source| Error::Io { action: "open", path: path.to_owned(), source };
    let mut file = File::open(path).map_err(io)?;
    let mut magic = [0; 6];
    let len = read_up_to(&mut file, &mut magic).map_err(io)?;
    file.rewind().map_err(io)?;
    let extension = path.extension().and_then(|extension| extension.to_str()).unwrap_or_default().to_ascii_lowercase();
    match (&magic[..len], extension.as_str()) {
        (magic, _) if magic.starts_with(b"PAR1") => open_parquet(path, file),
        (b"ARROW1", _) => {
            let reader = FileReader::try_new(BufReader::new(file), None).map_err(arrow(path))?;
            Ok(Source { schema: reader.schema(), rows: None, batches: Box::new(reader) })
        }
        (_, "arrows") => {
            let reader = StreamReader::try_new(BufReader::new(file), None).map_err(arrow(path))?;
            Ok(Source { schema: reader.schema(), rows: None, batches: Box::new(reader) })
        }
        (_, "csv" | "tsv" | "txt") => open_csv(path, file, csv, expected),
        (_, "parquet" | "pq" | "arrow" | "feather" | "ipc") => {
            Err(Error::Damaged { path: path.to_owned(), message: "it does not begin as a file of its kind".into() })
        }
        _ => Err(Error::InvalidArgument {
            message: format!(
                "\"{}\" is neither a Parquet nor an Arrow file, and its name does not end in .csv",
                path.display()
            ),
        }),
    }
}

fn read_up_to(file: &mut File, buffer: &mut [u8]) -> std::io::Result<usize> {
    let mut len = 0;
    loop {
        match file.read(&mut buffer[len..])? {
            0 => return Ok(len),
            read => len += read,
        }
    }
}

fn arrow(path: &Path) -> impl Fn(ArrowError) -> Error {
    let context = format!("\"{}\"", path.display());
    move |source| Error::Arrow { context: context.clone(), source }
}

fn open_parquet(path: &Path, file: File) -> Result<Source> {
    let parquet = |source| Error::Parquet { path: path.to_owned(), source };
    let builder = ParquetRecordBatchReaderBuilder::try_new(file).map_err(parquet)?;
    let rows = u64::try_from(builder.metadata().file_metadata().num_rows()).ok();
    let reader = builder.with_batch_size(BATCH_ROWS).build().map_err(parquet)?;
    let schema = soa_core::arrow::array::RecordBatchReader::schema(&reader);
    Ok(Source { schema, rows, batches: Box::new(reader) })
}

fn open_csv(path: &Path, mut file: File, csv: &CsvOptions, expected: Option<&Schema>) -> Result<Source> {
    let is_null = null_regex(&csv.null)?;
    let format =
        Format::default().with_header(csv.header).with_delimiter(csv.delimiter).with_null_regex(is_null.clone());
    let guarded = QuoteGuard::new(&file, csv.delimiter);
    let (found, _) = format.infer_schema(BufReader::new(guarded), CSV_SAMPLE).map_err(arrow(path))?;
    if found.fields().is_empty() {
        return Err(Error::InvalidArgument { message: format!("\"{}\" is empty: it has no column", path.display()) });
    }
    file.rewind().map_err(|source| Error::Io { action: "read", path: path.to_owned(), source })?;
    let fields: Vec<Field> = found
        .fields()
        .iter()
        .map(|field| {
            let known = expected.and_then(|expected| expected.field_with_name(field.name()).ok());
            let data_type = known.map_or_else(|| csv_type(field.data_type()), |known| readable_type(known.data_type()));
            Field::new(field.name(), data_type, true)
        })
        .collect();
    let schema = Arc::new(Schema::new(fields));
    let reader = ReaderBuilder::new(Arc::clone(&schema))
        .with_header(csv.header)
        .with_delimiter(csv.delimiter)
        .with_null_regex(is_null)
        .with_batch_size(BATCH_ROWS)
        .build(BufReader::new(file))
        .map_err(arrow(path))?;
    Ok(Source { schema, rows: None, batches: Box::new(reader) })
}

fn null_regex(null: &str) -> Result<regex::Regex> {
    let pattern = format!("^{}$", regex::escape(null));
    regex::Regex::new(&pattern).map_err(|error| Error::InvalidArgument { message: format!("--null {null:?}: {error}") })
}

/// Passes a CSV file on, and fails at its end if that is within quotes.
///
/// The CSV reader takes all that follows an opening quote for one field, so that a forgotten closing quote would
/// make the rest of the file vanish in it.
struct QuoteGuard<R> {
    inner: R,
    delimiter: u8,
    state: QuoteState,
}

#[derive(Clone, Copy, PartialEq)]
enum QuoteState {
    FieldStart,
    Plain,
    Quoted,
    /// After a quote within quotes: the end of them, or the first of two that stand for one.
    QuoteInQuotes,
}

impl<R> QuoteGuard<R> {
    fn new(inner: R, delimiter: u8) -> Self {
        Self { inner, delimiter, state: QuoteState::FieldStart }
    }
}

impl<R: Read> Read for QuoteGuard<R> {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let len = self.inner.read(buffer)?;
        if len == 0 && !buffer.is_empty() && self.state == QuoteState::Quoted {
            return Err(std::io::Error::new(
                std::io::ErrorKind::InvalidData,
                "it ends within quotes: a closing quote is missing",
            ));
        }
        for &byte in &buffer[..len] {
            let ends_field = byte == self.delimiter || byte == b'\n' || byte == b'\r';
            self.state = match (self.state, byte) {
                (QuoteState::Quoted, b'"') => QuoteState::QuoteInQuotes,
                (QuoteState::Quoted, _) => QuoteState::Quoted,
                (QuoteState::FieldStart | QuoteState::QuoteInQuotes, b'"') => QuoteState::Quoted,
                _ if ends_field => QuoteState::FieldStart,
                _ => QuoteState::Plain,
            };
        }
        Ok(len)
    }
}

/// The type of a column whose values look like `found`. A column without any value is text.
fn csv_type(found: &DataType) -> DataType {
    match found {
        DataType::Null => DataType::Utf8,
        DataType::Timestamp(_, zone) => {
            DataType::Timestamp(soa_core::arrow::datatypes::TimeUnit::Microsecond, zone.clone())
        }
        DataType::Date64 => DataType::Timestamp(soa_core::arrow::datatypes::TimeUnit::Microsecond, None),
        other => other.clone(),
    }
}

/// A type that the CSV reader makes and that converts to a store's column.
fn readable_type(column: &DataType) -> DataType {
    match column {
        DataType::Utf8View | DataType::Dictionary(_, _) => DataType::Utf8,
        DataType::BinaryView => DataType::Binary,
        other => other.clone(),
    }
}
