//! Table properties by which a store says how it wants to be kept.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::store::commit::{self, Change, Failure};
use crate::store::snapshot::Snapshot;
use crate::store::{Store, delta_schema};

const ARROW_BYTES_MAX_KEY: &str = "soa.arrowBytesMax";
const AUTO_COMPACT_KEY: &str = "soa.autoCompact";
const COMPRESSION_KEY: &str = "soa.parquetCompression";

/// How the column chunks of a store's Parquet files are compressed. Their Arrow forms are not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Compression {
    /// The smallest files.
    #[default]
    Zstd,
    /// Larger files, which are written and read faster.
    Lz4,
    /// As [`Lz4`](Self::Lz4), for readers that do not know that.
    Snappy,
    /// The largest files. Where the Arrow forms are dropped, what is read is not unpacked first.
    Uncompressed,
}

impl Compression {
    /// What a table asks for. Of names that a later release may know, nothing follows: any of them can be read.
    pub(in crate::store) fn of(snapshot: &Snapshot) -> Self {
        match delta_schema::property(snapshot.delta(), COMPRESSION_KEY) {
            Some("lz4") => Self::Lz4,
            Some("snappy") => Self::Snappy,
            Some("none") => Self::Uncompressed,
            _ => Self::Zstd,
        }
    }

    /// The table property; `None` is the default.
    fn property(self) -> Option<&'static str> {
        match self {
            Self::Zstd => None,
            Self::Lz4 => Some("lz4"),
            Self::Snappy => Some("snappy"),
            Self::Uncompressed => Some("none"),
        }
    }
}

/// Whether small segments are joined by themselves.
pub(super) fn auto_compact(snapshot: &Snapshot) -> bool {
    delta_schema::property(snapshot.delta(), AUTO_COMPACT_KEY) != Some("false")
}

/// How many bytes the Arrow forms may take; `None`: as many as there are.
///
/// # Errors
///
/// When the property is no number.
pub(super) fn arrow_bytes_max(snapshot: &Snapshot) -> Result<Option<u64>> {
    let Some(text) = delta_schema::property(snapshot.delta(), ARROW_BYTES_MAX_KEY) else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Error::Unsupported {
        path: snapshot.path().to_owned(),
        message: format!("the table property {ARROW_BYTES_MAX_KEY} is not a number of bytes: {text}"),
    })
}

impl Store {
    /// Chooses how many bytes the Arrow forms of the newest version's segments may take; `None`, the default: as many as
    /// there are. The newest segments keep theirs first; the others are read from Parquet. Forms that are too many go
    /// with the next commit or [`compact`](Self::compact), which makes missing ones again where there is room. Returns the
    /// version that has it.
    ///
    /// # Errors
    ///
    /// When the log cannot be read or written.
    pub fn set_arrow_bytes_max(&self, bytes: Option<u64>) -> Result<u64> {
        self.set_property(ARROW_BYTES_MAX_KEY, bytes.map(|bytes| bytes.to_string()).as_deref())
    }

    /// Chooses whether small segments are joined by themselves, as they are by default: whoever publishes few rows and finds
    /// many small neighbours writes them into one. Returns the version that has it.
    ///
    /// # Errors
    ///
    /// When the log cannot be read or written.
    pub fn set_auto_compact(&self, enabled: bool) -> Result<u64> {
        self.set_property(AUTO_COMPACT_KEY, (!enabled).then_some("false"))
    }

    /// Chooses how Parquet files are compressed that are written from now on, whoever writes them. Those that are there stay
    /// as they are. Returns the version that has it.
    ///
    /// # Errors
    ///
    /// When the log cannot be read or written.
    pub fn set_compression(&self, compression: Compression) -> Result<u64> {
        self.set_property(COMPRESSION_KEY, compression.property())
    }

    fn set_property(&self, key: &str, value: Option<&str>) -> Result<u64> {
        let plan = &mut |base: &Arc<Snapshot>| {
            let table = delta_schema::set_property(base.delta(), key, value)?;
            let operation = "SET TBLPROPERTIES";
            Ok((!table.is_empty()).then(|| Change { operation, table, ..Change::default() }))
        };
        commit::commit(self, &self.published()?, plan).map_err(Failure::into_error)
    }
}
