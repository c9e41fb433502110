//! The engine by which `delta_kernel` reads the log: synchronous, over a [`Backend`].
//!
//! It starts no threads, and whatever it writes (checkpoints) is synced. The kernel reconciles the log;
//! our own commits are written by [`super::log`].

use std::io::{self, BufReader, Cursor};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arrow::json::ReaderBuilder;
use bytes::Bytes;
use delta_kernel::engine::arrow_conversion::TryFromArrow;
use delta_kernel::engine::arrow_data::ArrowEngineData;
use delta_kernel::engine::arrow_expression::ArrowEvaluationHandler;
use delta_kernel::engine::arrow_utils::{
    RowIndexBuilder, build_json_reorder_indices, fixup_json_read, fixup_parquet_read, json_arrow_schema,
    ordering_needs_row_indexes, parquet_read_plan, parse_json, to_json_bytes,
};
use delta_kernel::engine::{reader_options, writer_options};
use delta_kernel::schema::{SchemaRef, StructType};
use delta_kernel::{
    Engine, EngineData, EvaluationHandler, FileDataReadResultIterator, FileMeta, FileSize, FileSlice,
    FilteredEngineData, JsonHandler, KernelError, KernelResult, KernelResultIterator, KernelResultIteratorStatic,
    ParquetFooter, ParquetHandler, PredicateRef, StorageHandler,
};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ParquetRecordBatchReaderBuilder};
use url::Url;

use super::io::{Backend, ReadFile};
use super::parquet_source::{ChunkSource, FooterSource};
use super::paths::check_inside;

/// The kernel's engine over a backend.
#[derive(Debug)]
pub(super) struct StoreEngine {
    files: Arc<Files>,
}

impl StoreEngine {
    pub(super) fn new(backend: Arc<dyn Backend>, root: &Path) -> Self {
        Self { files: Arc::new(Files { backend, root: root.to_owned() }) }
    }
}

/// The files of a store's folder as the kernel reads them.
pub(super) fn storage(backend: &Arc<dyn Backend>, root: &Path) -> Arc<dyn StorageHandler> {
    Arc::new(Files { backend: Arc::clone(backend), root: root.to_owned() })
}

impl Engine for StoreEngine {
    fn evaluation_handler(&self) -> Arc<dyn EvaluationHandler> {
        Arc::new(ArrowEvaluationHandler)
    }

    fn storage_handler(&self) -> Arc<dyn StorageHandler> {
        Arc::clone(&self.files) as _
    }

    fn json_handler(&self) -> Arc<dyn JsonHandler> {
        Arc::clone(&self.files) as _
    }

    fn parquet_handler(&self) -> Arc<dyn ParquetHandler> {
        Arc::clone(&self.files) as _
    }
}

/// The kernel's view of a backend: files named by URLs. The log names some of them (checkpoints' sidecars), so
/// that none outside the store's folder is touched.
#[derive(Debug)]
struct Files {
    backend: Arc<dyn Backend>,
    root: PathBuf,
}

impl Files {
    fn read(&self, url: &Url) -> KernelResult<Bytes> {
        Ok(self.backend.read(&self.path_of(url)?).map_err(|error| io_error(url, error))?.into())
    }

    /// Opens a Parquet file and reads its footer; gives its length as well.
    fn open_parquet(&self, url: &Url) -> KernelResult<(Box<dyn ReadFile>, u64, ArrowReaderMetadata)> {
        let path = self.path_of(url)?;
        let file = self.backend.open(&path).map_err(|error| io_error(url, error))?;
        let len = file.byte_count().map_err(|error| io_error(url, error))?;
        let footer = FooterSource::read(&*file, len).map_err(|error| parquet_error(url, error))?;
        let metadata = ArrowReaderMetadata::load(&footer, reader_options()).map_err(|error| damaged(url, &error))?;
        Ok((file, len, metadata))
    }

    fn put(&self, url: &Url, content: &[u8], overwrite: bool) -> KernelResult<()> {
        let path = self.path_of(url)?;
        let written = match overwrite {
            true => self.backend.replace(&path, content),
            false => self.backend.put_if_absent(&path, content),
        };
        written.map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => KernelError::FileAlreadyExists(url.to_string()),
            _ => io_error(url, error),
        })
    }

    fn path_of(&self, url: &Url) -> KernelResult<PathBuf> {
        let path = url.to_file_path().map_err(|()| KernelError::invalid_table_location(url))?;
        let inside = path.starts_with(&self.root) && check_inside(&self.root, &path).is_ok();
        if inside { Ok(path) } else { Err(KernelError::generic(format!("{url} is outside the store's folder"))) }
    }

    fn meta(&self, url: Url, stat: super::io::Stat) -> FileMeta {
        FileMeta::new(url, stat.modified_ms, stat.len)
    }
}

fn io_error(url: &Url, error: io::Error) -> KernelError {
    match error.kind() {
        io::ErrorKind::NotFound => KernelError::file_not_found(url),
        _ => KernelError::IOError(error),
    }
}

/// Tells bytes that are no Parquet file from a file that could not be read.
fn parquet_error(url: &Url, error: io::Error) -> KernelError {
    match error.kind() {
        io::ErrorKind::InvalidData | io::ErrorKind::UnexpectedEof => damaged(url, &error),
        _ => io_error(url, error),
    }
}

impl StorageHandler for Files {
    /// The log folder has files of interest only at its top, so subfolders are not descended into.
    fn list_from(&self, url: &Url) -> KernelResult<KernelResultIteratorStatic<FileMeta>> {
        let start = self.path_of(url)?;
        let whole = url.path().ends_with('/');
        let dir = if whole { start.as_path() } else { start.parent().unwrap_or(&start) };
        let after = start.file_name().map(|name| name.to_string_lossy().into_owned()).filter(|_| !whole);
        let is_wanted = |name: &str| after.as_ref().is_none_or(|after| name > after.as_str());
        let mut entries = self.backend.list_some(dir, &is_wanted).map_err(|error| io_error(url, error))?;
        entries.sort_unstable_by(|a, b| a.name.cmp(&b.name));
        let metas: Vec<KernelResult<FileMeta>> = entries
            .into_iter()
            .map(|entry| {
                let path = dir.join(&entry.name);
                let url =
                    Url::from_file_path(&path).map_err(|()| KernelError::invalid_table_location(path.display()))?;
                Ok(self.meta(url, entry.stat))
            })
            .collect();
        Ok(Box::new(metas.into_iter()))
    }

    fn read_files(&self, files: Vec<FileSlice>) -> KernelResult<KernelResultIteratorStatic<Bytes>> {
        let read = |(url, range): FileSlice| {
            let bytes = self.read(&url)?;
            let Some(range) = range else { return Ok(bytes) };
            let bounds = usize::try_from(range.start).ok().zip(usize::try_from(range.end).ok());
            match bounds.filter(|(start, end)| start <= end && *end <= bytes.len()) {
                Some((start, end)) => Ok(bytes.slice(start..end)),
                None => Err(KernelError::generic(format!("{url} ends before byte {}", range.end))),
            }
        };
        let results: Vec<_> = files.into_iter().map(read).collect();
        Ok(Box::new(results.into_iter()))
    }

    fn copy_atomic(&self, source: &Url, destination: &Url) -> KernelResult<()> {
        let content = self.read(source)?;
        self.put(destination, &content, false)
    }

    fn put(&self, url: &Url, data: Bytes, overwrite: bool) -> KernelResult<()> {
        Self::put(self, url, &data, overwrite)
    }

    fn head(&self, url: &Url) -> KernelResult<FileMeta> {
        let stat = self.backend.stat(&self.path_of(url)?).map_err(|error| io_error(url, error))?;
        Ok(self.meta(url.clone(), stat))
    }

    fn delete(&self, url: &Url) -> KernelResult<()> {
        match self.backend.remove(&self.path_of(url)?) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(io_error(url, error)),
            _ => Ok(()),
        }
    }
}

impl JsonHandler for Files {
    fn parse_json(&self, json: Box<dyn EngineData>, schema: SchemaRef) -> KernelResult<Box<dyn EngineData>> {
        parse_json(json, schema)
    }

    fn read_json_files(
        &self,
        files: &[FileMeta],
        schema: SchemaRef,
        _predicate: Option<PredicateRef>,
    ) -> KernelResult<FileDataReadResultIterator> {
        let mut batches: Vec<KernelResult<Box<dyn EngineData>>> = Vec::new();
        for file in files {
            let bytes = self.read(&file.location)?;
            let reorder = build_json_reorder_indices(&schema)?;
            let reader = ReaderBuilder::new(Arc::new(json_arrow_schema(&schema)?))
                .with_coerce_primitive(true)
                .build(BufReader::new(Cursor::new(bytes)))?;
            for batch in reader {
                let batch = batch.map_err(|error| damaged(&file.location, &error))?;
                batches.push(fixup_json_read(batch, &reorder, file.location.as_str()).map(|data| Box::new(data) as _));
            }
        }
        Ok(Box::new(batches.into_iter()))
    }

    fn write_json_file(
        &self,
        url: &Url,
        data: KernelResultIterator<'_, FilteredEngineData>,
        overwrite: bool,
    ) -> KernelResult<FileSize> {
        let content = to_json_bytes(data)?;
        self.put(url, &content, overwrite)?;
        Ok(content.len() as FileSize)
    }
}

/// Names the file, which the error of a JSON or Parquet reader does not.
fn damaged(url: &Url, error: &dyn std::fmt::Display) -> KernelError {
    KernelError::generic(format!("{} is damaged: {error}", url.path()))
}

impl ParquetHandler for Files {
    fn read_parquet_files(
        &self,
        files: &[FileMeta],
        schema: SchemaRef,
        _predicate: Option<PredicateRef>,
    ) -> KernelResult<FileDataReadResultIterator> {
        let mut batches: Vec<KernelResult<Box<dyn EngineData>>> = Vec::new();
        for file in files {
            let (opened, len, metadata) = self.open_parquet(&file.location)?;
            let (ordering, mask) = parquet_read_plan(&schema, &metadata)?;
            let mut row_indexes = match ordering_needs_row_indexes(&ordering) {
                true => Some(RowIndexBuilder::new(metadata.metadata().row_groups()).build()?),
                false => None,
            };
            // A checkpoint is read for a few of its columns, and those that are not wanted may be most of it.
            let is_wanted = |leaf: usize| mask.as_ref().is_none_or(|mask| mask.leaf_included(leaf));
            let source = ChunkSource::read(&*opened, len, metadata.metadata(), &is_wanted);
            let source = source.map_err(|error| parquet_error(&file.location, error))?;
            let mut builder = ParquetRecordBatchReaderBuilder::new_with_metadata(source, metadata);
            if let Some(mask) = mask {
                builder = builder.with_projection(mask);
            }
            for batch in builder.build()? {
                let batch = batch.map_err(|error| damaged(&file.location, &error))?;
                let location = Some(file.location.as_str());
                let data = fixup_parquet_read(batch, &ordering, row_indexes.as_mut(), location, Some(&schema));
                batches.push(data.map(|data| Box::new(data) as _));
            }
        }
        Ok(Box::new(batches.into_iter()))
    }

    fn write_parquet_file(
        &self,
        url: Url,
        mut data: KernelResultIteratorStatic<Box<dyn EngineData>>,
    ) -> KernelResult<FileSize> {
        let mut next = || data.next().map(|batch| ArrowEngineData::try_from_engine_data(batch?)).transpose();
        let first = next()?.ok_or_else(|| KernelError::generic("a Parquet file needs at least one batch"))?;
        let mut content = Vec::new();
        let schema = first.record_batch().schema();
        let mut writer = ArrowWriter::try_new_with_options(&mut content, schema, writer_options())?;
        writer.write(first.record_batch())?;
        while let Some(batch) = next()? {
            writer.write(batch.record_batch())?;
        }
        writer.close()?;
        self.put(&url, &content, true)?;
        Ok(content.len() as FileSize)
    }

    fn read_parquet_footer(&self, file: &FileMeta) -> KernelResult<ParquetFooter> {
        let (_, _, metadata) = self.open_parquet(&file.location)?;
        Ok(ParquetFooter { schema: Arc::new(StructType::try_from_arrow(metadata.schema().as_ref())?) })
    }
}
