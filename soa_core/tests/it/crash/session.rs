//! A program that uses a store, and says what it asks for and is told.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, StringArray};
use arrow::datatypes::Int64Type;
use soa_core::Error;
use soa_core::predicate::{CompareOp, Predicate, Scalar};
use soa_core::scan::ScanRequest;
use soa_core::schema::{DataType, Field, Schema};
use soa_core::store::{Backend, CompactOptions, Durability, Snapshot, Store, VacuumOptions, Writer, WriterOptions};

use super::disk::CrashDisk;
use super::oracle::{LANE_KEYS, Mark, Op, Outcome, Row, Rows, Way};

/// What kind of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Kind {
    pub(super) is_keyed: bool,
    pub(super) is_partitioned: bool,
    pub(super) has_vectors: bool,
}

impl Kind {
    pub(super) const ALL: [Self; 5] = [
        Self { is_keyed: true, is_partitioned: false, has_vectors: true },
        Self { is_keyed: true, is_partitioned: true, has_vectors: true },
        Self { is_keyed: true, is_partitioned: false, has_vectors: false },
        Self { is_keyed: false, is_partitioned: true, has_vectors: true },
        Self { is_keyed: true, is_partitioned: true, has_vectors: false },
    ];

    pub(super) fn schema(self) -> Schema {
        let fields = vec![
            Field::new("id", DataType::Int64),
            Field::new("value", DataType::Int64),
            Field::new("part", DataType::Utf8),
        ];
        let mut schema = Schema::new(fields).unwrap();
        if self.is_keyed {
            schema = schema.with_key("id").unwrap();
        }
        if self.is_partitioned {
            schema = schema.with_partition_by(&["part"]).unwrap();
        }
        schema
    }
}

/// When the log is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct LogSizes {
    pub(super) publish_rows: usize,
    pub(super) log_bytes_max: u64,
}

impl LogSizes {
    /// Nothing is published unless it is asked for.
    pub(super) const LARGE: Self = Self { publish_rows: 1000, log_bytes_max: 1 << 20 };
}

/// Something that a program does.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Step {
    /// Rows are published that are new.
    Append(usize, Vec<Row>),
    Upsert(usize, Vec<Row>),
    DeleteKeys(usize, Vec<i64>),
    DeleteBelow(usize, i64),
    /// Becomes the owner of the write-ahead log.
    Open(Durability, LogSizes),
    Add(usize, Vec<Row>),
    AddDeletes(usize, Vec<i64>),
    Sync,
    Flush,
    Close,
    /// The owner of the log is dropped, whatever comes of it.
    Drop,
    /// Segments are joined.
    Compact,
    /// All files are removed that only old versions need.
    Vacuum,
    /// Each on a thread of its own.
    AtOnce(Vec<Vec<Step>>),
}

pub(super) struct Session<'a> {
    disk: &'a Arc<CrashDisk>,
    pub(super) store: Store,
    writer: Option<Writer>,
    durability: Durability,
}

/// Makes the store, if it is not there.
pub(super) fn create(disk: &Arc<CrashDisk>, path: &Path, kind: Kind) -> Result<(), Error> {
    disk.mark(Mark::Creating);
    let made = Store::create_on(Arc::clone(disk) as Arc<dyn Backend>, path, kind.schema());
    let store = match made {
        Err(Error::AlreadyExists { .. }) => Store::open_on(Arc::clone(disk) as Arc<dyn Backend>, path)?,
        made => made?,
    };
    store.set_deletion_vectors(kind.has_vectors)?;
    disk.mark(Mark::Created);
    Ok(())
}

impl<'a> Session<'a> {
    pub(super) fn open(disk: &'a Arc<CrashDisk>, path: &Path) -> Result<Self, Error> {
        let store = Store::open_on(Arc::clone(disk) as Arc<dyn Backend>, path)?;
        Ok(Self { disk, store, writer: None, durability: Durability::Sync })
    }

    /// Does a step. An error that was not asked for is given back.
    pub(super) fn run(&mut self, step: &Step) -> Result<(), Error> {
        match step {
            Step::Open(durability, sizes) => {
                let mut options = WriterOptions::default();
                options.durability = *durability;
                options.publish_rows = sizes.publish_rows;
                options.log_bytes_max = sizes.log_bytes_max;
                options.publish_age = Duration::from_secs(3600);
                options.sync_interval = Duration::from_secs(3600);
                self.durability = *durability;
                self.writer = Some(self.store.writer(options)?);
                self.disk.mark(Mark::Barrier);
                Ok(())
            }
            Step::Close => {
                let Some(writer) = self.writer.take() else { return Ok(()) };
                writer.close()?;
                self.disk.mark(Mark::Barrier);
                Ok(())
            }
            Step::Drop => {
                self.writer = None;
                Ok(())
            }
            Step::AtOnce(lanes) => std::thread::scope(|scope| {
                let this = &*self;
                let threads: Vec<_> = lanes
                    .iter()
                    .map(|steps| scope.spawn(move || steps.iter().try_for_each(|step| this.run_shared(step))))
                    .collect();
                threads.into_iter().try_for_each(|thread| thread.join().unwrap())
            }),
            step => self.run_shared(step),
        }
    }

    fn run_shared(&self, step: &Step) -> Result<(), Error> {
        let store = &self.store;
        let writer = || self.writer.as_ref().unwrap();
        match step {
            Step::Append(lane, rows) => {
                self.commit(*lane, Op::Put(rows.clone()), || store.append(&[batch(rows)]).map(drop))
            }
            Step::Upsert(lane, rows) => {
                self.commit(*lane, Op::Put(rows.clone()), || store.upsert(&[batch(rows)]).map(drop))
            }
            Step::DeleteKeys(lane, ids) => {
                self.commit(*lane, Op::Remove(ids.clone()), || store.delete_keys(&keys(ids)).map(drop))
            }
            Step::DeleteBelow(lane, bound) => self.commit(*lane, Op::RemoveBelow(*bound), || {
                let first = i64::try_from(*lane).unwrap() * LANE_KEYS;
                store.delete(&below(first, *bound)).map(drop)
            }),
            Step::Add(lane, rows) => self.log(*lane, Op::Put(rows.clone()), || writer().add_batch(&batch(rows))),
            Step::AddDeletes(lane, ids) => self.log(*lane, Op::Remove(ids.clone()), || writer().delete(&keys(ids))),
            Step::Sync => {
                writer().sync()?;
                self.disk.mark(Mark::Barrier);
                Ok(())
            }
            Step::Flush => {
                writer().flush()?;
                self.disk.mark(Mark::Barrier);
                Ok(())
            }
            Step::Compact => store.compact(&CompactOptions::default()).map(drop),
            Step::Vacuum => {
                let mut options = VacuumOptions::default();
                (options.retention, options.force) = (Duration::ZERO, true);
                store.vacuum(&options).map(drop)
            }
            Step::Open(..) | Step::Close | Step::Drop | Step::AtOnce(_) => panic!("{step:?} is not for threads"),
        }
    }

    fn commit(&self, lane: usize, op: Op, run: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        // Rows of a table without key do not meet those in the log.
        let is_past = self.store.snapshot()?.schema().key().is_none() && matches!(op, Op::Put(_));
        let way = if is_past { Way::Past } else { Way::Behind };
        self.disk.mark(Mark::Begin { lane, op, way });
        self.end(lane, Outcome::Durable, run())
    }

    fn log(&self, lane: usize, op: Op, run: impl FnOnce() -> Result<(), Error>) -> Result<(), Error> {
        self.disk.mark(Mark::Begin { lane, op, way: Way::Behind });
        let done = match self.durability {
            Durability::Sync => Outcome::Durable,
            Durability::Buffered => Outcome::Buffered,
        };
        self.end(lane, done, run())
    }

    fn end(&self, lane: usize, done: Outcome, result: Result<(), Error>) -> Result<(), Error> {
        let outcome = match &result {
            Ok(()) => done,
            Err(Error::DuplicateKey { .. } | Error::Owned { .. } | Error::NotPublished { .. }) => Outcome::Nothing,
            Err(_) => Outcome::Unknown,
        };
        self.disk.mark(Mark::End { lane, outcome });
        result
    }

    /// What a reader sees.
    pub(super) fn rows(&self) -> Result<Rows, Error> {
        rows(&self.store.snapshot()?)
    }

    pub(super) fn has_writer(&self) -> bool {
        self.writer.is_some()
    }
}

fn below(first: i64, bound: i64) -> Predicate {
    Predicate::And(vec![
        Predicate::between(0, Scalar::Int(first.into()), Scalar::Int((first + LANE_KEYS - 1).into())),
        Predicate::compare(1, CompareOp::Lt, Scalar::Int(bound.into())),
    ])
}

pub(super) fn batch(rows: &[Row]) -> RecordBatch {
    let ids: ArrayRef = Arc::new(rows.iter().map(|row| row.0).collect::<Int64Array>());
    let values: ArrayRef = Arc::new(rows.iter().map(|row| row.1).collect::<Int64Array>());
    let parts: ArrayRef = Arc::new(StringArray::from_iter_values(rows.iter().map(|row| &row.2)));
    RecordBatch::try_from_iter([("id", ids), ("value", values), ("part", parts)]).unwrap()
}

pub(super) fn keys(ids: &[i64]) -> ArrayRef {
    Arc::new(Int64Array::from(ids.to_vec()))
}

pub(super) fn rows(snapshot: &Arc<Snapshot>) -> Result<Rows, Error> {
    let plan = snapshot.plan(&ScanRequest { columns: vec![0, 1, 2], ..Default::default() })?;
    let mut found = Rows::new();
    for (unit, planned) in plan.units().iter().enumerate() {
        let rows = plan.read(unit)?;
        assert_eq!(rows.num_rows(), planned.row_count());
        let part = rows.column(2).as_string_view();
        for row in 0..rows.num_rows() {
            let number = |column: usize| rows.column(column).as_primitive::<Int64Type>().value(row);
            let twice = found.insert(number(0), (number(1), part.value(row).to_owned()));
            assert!(twice.is_none(), "row {} is there twice", number(0));
        }
    }
    assert_eq!(snapshot.row_count(), found.len() as u64);
    Ok(found)
}
