//! What is told of a store, and what is done for it, as rows: every engine shows the same.

use std::sync::Arc;

use arrow::array::{ArrayRef, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray};

use crate::error::{Error, Result};
use crate::schema::{DataType, Field, Schema, arrow_schema};
use crate::store::{CompactOptions, Snapshot, Store, VacuumOptions, describe};

/// Something that a store is asked, or asked to do. The answer is rows.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum Report {
    /// A row for each column.
    Columns,
    /// A row for each segment: its files, rows and partition, and between what the values of its columns are.
    Segments,
    /// A row for each commit that is in the log, the oldest first; see [`Store::history`].
    History,
    /// A row for each thing that is wrong; see [`Store::verify`].
    Verify,
    /// One row that says what was done; see [`Store::compact`].
    Compact(CompactOptions),
    /// A row for each file that is removed, or would be; see [`Store::vacuum`].
    Vacuum(VacuumOptions),
}

impl Report {
    /// The columns of the answer.
    ///
    /// # Errors
    ///
    /// None, as these columns can be stored.
    pub fn schema(&self) -> Result<Schema> {
        let number = |name: &str| Field::new(name, DataType::Int64);
        Schema::new(match self {
            Self::Columns => describe::columns_schema(),
            Self::Segments => describe::segments_schema(),
            Self::History => vec![
                number("version"),
                Field::new("timestamp", DataType::Timestamp { utc: true }),
                Field::new("operation", DataType::Utf8),
                Field::nullable("engine", DataType::Utf8),
                Field::nullable("rows_added", DataType::Int64),
                Field::nullable("rows_deleted", DataType::Int64),
                number("files_added"),
                number("files_removed"),
            ],
            Self::Verify => vec![Field::new("problem", DataType::Utf8)],
            Self::Compact(_) => [
                "version",
                "segments_removed",
                "segments_added",
                "segments_given_up",
                "rows_written",
                "rows_dropped",
                "bytes_removed",
                "bytes_added",
                "arrow_rebuilt",
                "arrow_dropped",
            ]
            .map(number)
            .to_vec(),
            Self::Vacuum(_) => vec![Field::new("file", DataType::Utf8), number("bytes")],
        })
    }

    /// Asks a store, of which `snapshot` is one. `progress` is called now and then, so that whoever waits can be asked whether they still do.
    ///
    /// # Errors
    ///
    /// Those of what is asked.
    pub fn run(&self, store: &Store, snapshot: &Snapshot, progress: &mut dyn FnMut()) -> Result<RecordBatch> {
        let columns = match self {
            Self::Columns => describe::columns(snapshot),
            Self::Segments => describe::segments(snapshot)?,
            Self::History => history(store)?,
            Self::Verify => vec![texts(store.verify()?.problems)],
            Self::Compact(options) => {
                let done = store.compact_with(options, &mut |_| progress())?;
                [
                    done.version,
                    done.segments_removed,
                    done.segments_added,
                    done.segments_given_up,
                    done.rows_written,
                    done.rows_dropped,
                    done.bytes_removed,
                    done.bytes_added,
                    done.arrow_rebuilt,
                    done.arrow_dropped,
                ]
                .map(|number| numbers([Some(number)]))
                .to_vec()
            }
            Self::Vacuum(options) => {
                let mut removed: Vec<(String, u64)> = Vec::new();
                store.vacuum_with(options, &mut |file, bytes| {
                    removed.push((file.display().to_string(), bytes));
                    progress();
                })?;
                let (files, bytes): (Vec<_>, Vec<_>) = removed.into_iter().unzip();
                vec![texts(files), numbers(bytes.into_iter().map(Some))]
            }
        };
        RecordBatch::try_new(arrow_schema(&self.schema()?), columns)
            .map_err(Error::arrow("cannot put columns together"))
    }
}

fn history(store: &Store) -> Result<Vec<ArrayRef>> {
    let commits = store.history()?;
    let times = commits.iter().map(|commit| commit.timestamp_ms.saturating_mul(1000));
    let times = TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC");
    let engines = commits.iter().map(|commit| commit.engine.as_deref()).collect::<StringViewArray>();
    Ok(vec![
        numbers(commits.iter().map(|commit| Some(commit.version))),
        Arc::new(times),
        texts(commits.iter().map(|commit| commit.operation.clone())),
        Arc::new(engines),
        numbers(commits.iter().map(|commit| commit.rows_added)),
        numbers(commits.iter().map(|commit| commit.rows_deleted)),
        numbers(commits.iter().map(|commit| Some(commit.files_added))),
        numbers(commits.iter().map(|commit| Some(commit.files_removed))),
    ])
}

pub(super) fn numbers(numbers: impl IntoIterator<Item = Option<u64>>) -> ArrayRef {
    let numbers = numbers.into_iter().map(|number| number.map(|number| i64::try_from(number).unwrap_or(i64::MAX)));
    Arc::new(numbers.collect::<Int64Array>())
}

pub(super) fn texts(texts: impl IntoIterator<Item = String>) -> ArrayRef {
    Arc::new(StringViewArray::from_iter_values(texts))
}
