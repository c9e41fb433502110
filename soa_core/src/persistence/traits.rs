//! What generic code asks of whatever can become Arrow's.

use arrow::array::RecordBatch;
use arrow::datatypes::SchemaRef;

use crate::kernel::{KeyedRecord, MemoryStore, Record, Rows, ShardedStore};

/// What has an Arrow schema before there is a row: every [`Record`].
///
/// ```
/// use soa_core::SoA;
/// use soa_core::persistence::ArrowSchemaGen;
///
/// #[derive(SoA)]
/// struct Point {
///     x: f64,
///     y: f64,
/// }
///
/// fn header<T: ArrowSchemaGen>() -> Vec<String> {
///     T::arrow_schema_of().fields().iter().map(|field| field.name().clone()).collect()
/// }
/// assert_eq!(header::<Point>(), ["x", "y"]);
/// ```
pub trait ArrowSchemaGen {
    /// The schema of its record batches.
    fn arrow_schema_of() -> SchemaRef;

    /// A record batch without rows.
    fn empty_batch() -> RecordBatch {
        RecordBatch::new_empty(Self::arrow_schema_of())
    }
}

impl<R: Record> ArrowSchemaGen for R {
    fn arrow_schema_of() -> SchemaRef {
        R::arrow_schema()
    }
}

/// What holds rows that Arrow can share: the columns of a [`Record`], and the stores that have some.
///
/// ```
/// use soa_core::persistence::ToArrow;
/// use soa_core::{SoA, SoAStore};
///
/// #[derive(SoA, SoAStore)]
/// #[soa_store(key = "id")]
/// struct Point {
///     id: u32,
/// }
///
/// fn rows(source: &impl ToArrow) -> usize {
///     source.to_arrow().iter().map(|batch| batch.num_rows()).sum()
/// }
/// let mut store = PointStore::new();
/// store.add_batch((0..3).map(|id| Point { id })).unwrap();
/// assert_eq!((rows(&store), rows(store.kernel())), (3, 3));
/// ```
pub trait ToArrow {
    /// The rows as record batches, which share the columns: nothing is copied but the bits of `bool`s. No batch is empty.
    fn to_arrow(&self) -> Vec<RecordBatch>;
}

impl<S: Rows> ToArrow for S {
    fn to_arrow(&self) -> Vec<RecordBatch> {
        if self.is_empty() { Vec::new() } else { vec![self.to_record_batch()] }
    }
}

impl<R: KeyedRecord> ToArrow for MemoryStore<R> {
    fn to_arrow(&self) -> Vec<RecordBatch> {
        self.kernel().to_arrow()
    }
}

impl<R: KeyedRecord> ToArrow for ShardedStore<R> {
    fn to_arrow(&self) -> Vec<RecordBatch> {
        self.to_record_batches()
    }
}
