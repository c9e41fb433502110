//! `soa export`: a store's rows into one file.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use parquet::arrow::ArrowWriter;
use parquet::basic::{Compression, ZstdLevel};
use parquet::file::properties::WriterProperties;
use soa_core::arrow::array::RecordBatch;
use soa_core::arrow::csv::Writer as CsvWriter;
use soa_core::arrow::datatypes::SchemaRef;
use soa_core::arrow::ipc::writer::FileWriter;
use soa_core::scan::ScanRequest;
use soa_core::store::{At, Store};
use soa_core::{Error, Result};

use crate::{CommandResult, print_line};

#[derive(Debug, Args)]
pub(crate) struct ExportArgs {
    /// The store's folder
    store: PathBuf,
    /// The file to write, which must not exist; .parquet, .csv or .arrow
    file: PathBuf,
    /// Columns to write, in this order; all if left out
    #[arg(long, value_name = "COLUMNS", value_delimiter = ',')]
    columns: Vec<String>,
    /// Export the rows of this version instead of the newest
    #[arg(long, value_name = "N")]
    version: Option<u64>,
}

pub(crate) fn run(args: &ExportArgs) -> CommandResult {
    let store = Store::open(&args.store)?;
    let snapshot = match args.version {
        Some(version) => store.snapshot_at(At::Version(version))?,
        None => store.snapshot()?,
    };
    let schema = snapshot.schema();
    let columns = match args.columns.as_slice() {
        [] => (0..schema.len()).collect(),
        names => names.iter().map(|name| schema.require_column(name)).collect::<Result<_>>()?,
    };
    let plan = snapshot.plan(&ScanRequest { columns, ..Default::default() })?;
    let io = |action| move |source| Error::Io { action, path: args.file.clone(), source };
    // The rows are written beside the file and moved to it when they are complete.
    let dir = args.file.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = args.file.file_name().unwrap_or_default().to_string_lossy();
    let temporary = dir.join(format!(".{name}.{}.tmp", std::process::id()));
    if args.file.exists() {
        return Err(Error::InvalidArgument { message: format!("\"{}\" exists already", args.file.display()) }.into());
    }
    let kind = Kind::of(&args.file)?;
    if let Kind::Csv = kind {
        crate::print::check_csv(plan.arrow_schema(), "export to .parquet or .arrow, or leave it out by --columns")?;
    }
    let file = File::create_new(&temporary).map_err(io("create"))?;
    let written = (|| -> Result<u64> {
        let mut sink = Sink::new(kind, file, plan.arrow_schema(), &args.file)?;
        let mut rows = 0;
        for unit in 0..plan.units().len() {
            let batch = plan.read(unit)?;
            rows += batch.num_rows() as u64;
            sink.write(&batch, &args.file)?;
        }
        sink.finish(&args.file)?.sync_all().map_err(io("sync"))?;
        std::fs::hard_link(&temporary, &args.file).map_err(io("create"))?;
        Ok(rows)
    })();
    std::fs::remove_file(&temporary).map_err(io("clean up after"))?;
    let rows = written?;
    print_line(&format!("{rows} rows exported to {} (version {})", args.file.display(), snapshot.version()))?;
    Ok(())
}

#[derive(Debug, Clone, Copy)]
enum Kind {
    Parquet,
    Csv,
    Arrow,
}

impl Kind {
    fn of(path: &Path) -> Result<Self> {
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("parquet") => Ok(Self::Parquet),
            Some("csv") => Ok(Self::Csv),
            Some("arrow") => Ok(Self::Arrow),
            _ => Err(Error::InvalidArgument {
                message: format!("the name \"{}\" does not end in .parquet, .csv or .arrow", path.display()),
            }),
        }
    }
}

enum Sink {
    Parquet(Box<ArrowWriter<File>>),
    Csv(Box<CsvWriter<BufWriter<File>>>),
    Arrow(Box<FileWriter<BufWriter<File>>>),
}

impl Sink {
    fn new(kind: Kind, file: File, schema: &SchemaRef, path: &Path) -> Result<Self> {
        let parquet = |source| Error::Parquet { path: path.to_owned(), source };
        Ok(match kind {
            Kind::Parquet => {
                let level = ZstdLevel::try_new(3).map_err(parquet)?;
                let properties = WriterProperties::builder().set_compression(Compression::ZSTD(level)).build();
                Self::Parquet(Box::new(ArrowWriter::try_new(file, schema.clone(), Some(properties)).map_err(parquet)?))
            }
            Kind::Csv => Self::Csv(Box::new(CsvWriter::new(BufWriter::new(file)))),
            Kind::Arrow => {
                Self::Arrow(Box::new(FileWriter::try_new(BufWriter::new(file), schema).map_err(arrow(path))?))
            }
        })
    }

    fn write(&mut self, batch: &RecordBatch, path: &Path) -> Result<()> {
        match self {
            Self::Parquet(writer) => {
                writer.write(batch).map_err(|source| Error::Parquet { path: path.to_owned(), source })
            }
            Self::Csv(writer) => writer.write(batch).map_err(arrow(path)),
            Self::Arrow(writer) => writer.write(batch).map_err(arrow(path)),
        }
    }

    fn finish(self, path: &Path) -> Result<File> {
        let io = |source: std::io::Error| Error::Io { action: "write", path: path.to_owned(), source };
        let flushed = |buffered: BufWriter<File>| buffered.into_inner().map_err(|error| io(error.into_error()));
        match self {
            Self::Parquet(writer) => {
                writer.into_inner().map_err(|source| Error::Parquet { path: path.to_owned(), source })
            }
            Self::Csv(writer) => flushed(writer.into_inner()),
            Self::Arrow(mut writer) => {
                writer.finish().map_err(arrow(path))?;
                let mut buffered = writer.into_inner().map_err(arrow(path))?;
                buffered.flush().map_err(io)?;
                flushed(buffered)
            }
        }
    }
}

fn arrow(path: &Path) -> impl Fn(soa_core::arrow::error::ArrowError) -> Error {
    let context = format!("cannot write \"{}\"", path.display());
    move |source| Error::Arrow { context: context.clone(), source }
}
