//! Joins of which no side fits in memory: one piece after the other.
//!
//! The rows of both sides are shared out by a hash of their keys, so that partners are in the same piece, and the pieces are
//! joined one by one, each from the sides' beginning. That costs a look at both sides for each piece, which is cheap where they are
//! mapped, and neither files nor more memory than a piece takes. A piece that does not fit either is shared out again.

use std::sync::Arc;

use arrow::array::{BooleanArray, RecordBatch};
use arrow::datatypes::{DataType, SchemaRef};
use datafusion::catalog::streaming::StreamingTable;
use datafusion::common::hash_utils::{RandomState, create_hashes};
use datafusion::common::{Column, DataFusionError, JoinType, Result, TableReference};
use datafusion::datasource::provider_as_source;
use datafusion::execution::session_state::SessionState;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::logical_expr::{
    ColumnarValue, Expr, LogicalPlan, LogicalPlanBuilder, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature,
    Volatility,
};
use datafusion::physical_plan::execute_stream;
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::streaming::PartitionStream;
use futures::{StreamExt, stream};

use super::RESULT_PREFIX;

/// The pieces that a join is done in at first, and those that one is shared out to which does not fit. Powers of two.
pub(crate) const FIRST_PIECES: u64 = 8;
const PIECES_OF_PIECE: u64 = 4;
/// A piece of so many is not shared out again: its rows may all have the same keys.
const PIECES_MAX: u64 = 1 << 15;
/// Not that of the hash table of a piece, whose rows would all be in few places.
const SEED: u64 = 0x0050_a70e;
/// How often other tasks may go on, to let go of what a piece had, before the next one.
const YIELDS: usize = 64;

/// A join as DataFusion has it: the side that is kept is the first.
#[derive(Debug, Clone)]
pub(super) struct SidesToJoin {
    pub(super) sides: (LogicalPlan, LogicalPlan),
    pub(super) kind: JoinType,
    pub(super) keys: (Vec<Expr>, Vec<Expr>),
    pub(super) condition: Option<Expr>,
}

/// The keys whose hash has this remainder.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct Piece {
    /// The number of pieces.
    of: u64,
    number: u64,
}

impl SidesToJoin {
    /// All of it at once.
    pub(super) fn whole(self) -> Result<LogicalPlanBuilder> {
        let (kept, other) = self.sides;
        LogicalPlanBuilder::from(kept).join_with_expr_keys(other, self.kind, self.keys, self.condition)
    }

    fn piece(&self, piece: Piece) -> Result<LogicalPlan> {
        let rows = |side: &LogicalPlan, keys: &[Expr]| {
            let keys = keys.to_vec();
            LogicalPlanBuilder::from(side.clone()).filter(piece.has(keys))?.build()
        };
        let sides = (rows(&self.sides.0, &self.keys.0)?, rows(&self.sides.1, &self.keys.1)?);
        Self { sides, ..self.clone() }.whole()?.build()
    }

    /// One piece after the other. The rows have the columns, and the names of those, that they have of [`whole`](Self::whole).
    /// `state` plans the pieces.
    pub(super) fn in_pieces(self, name: &str, state: &Arc<SessionState>) -> Result<LogicalPlanBuilder> {
        let shape = self.clone().whole()?.build()?;
        let schema = Arc::clone(shape.schema().inner());
        let pieces = Pieces { join: Arc::new(self), schema: Arc::clone(&schema), state: Arc::clone(state) };
        let table = StreamingTable::try_new(schema, vec![Arc::new(pieces)])?;
        let name = TableReference::bare(format!("{RESULT_PREFIX}{name}"));
        let columns = shape.schema().iter().map(|(table, field)| {
            let column = Expr::Column(Column::new(Some(name.clone()), field.name()));
            column.alias_qualified(table.cloned(), field.name())
        });
        let columns: Vec<Expr> = columns.collect();
        LogicalPlanBuilder::scan(name, provider_as_source(Arc::new(table)), None)?.project(columns)
    }
}

impl Piece {
    /// Whether rows with these keys are in it.
    fn has(self, keys: Vec<Expr>) -> Expr {
        let function = IsInPiece { piece: self, signature: Signature::variadic_any(Volatility::Immutable) };
        ScalarUDF::new_from_impl(function).call(keys)
    }

    fn parts(self) -> impl DoubleEndedIterator<Item = Self> {
        let of = self.of * PIECES_OF_PIECE;
        (0..PIECES_OF_PIECE).map(move |part| Self { of, number: self.number + part * self.of })
    }
}

/// The rows of a join that is done in pieces.
#[derive(Debug)]
struct Pieces {
    join: Arc<SidesToJoin>,
    schema: SchemaRef,
    state: Arc<SessionState>,
}

impl PartitionStream for Pieces {
    fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    fn execute(&self, context: Arc<TaskContext>) -> SendableRecordBatchStream {
        let left = (0..FIRST_PIECES).rev().map(|number| Piece { of: FIRST_PIECES, number }).collect();
        let (join, state) = (Arc::clone(&self.join), Arc::clone(&self.state));
        let progress = Progress { join, state, context, left, current: None };
        let batches = stream::try_unfold(progress, |mut progress| async {
            Ok(progress.next().await?.map(|batch| (batch, progress)))
        });
        Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.schema), batches))
    }
}

/// How far it has come.
struct Progress {
    join: Arc<SidesToJoin>,
    state: Arc<SessionState>,
    context: Arc<TaskContext>,
    /// The pieces to come, the next one last.
    left: Vec<Piece>,
    current: Option<Current>,
}

/// A piece that is being joined.
struct Current {
    piece: Piece,
    rows: SendableRecordBatchStream,
    /// Whether none of its rows has been given yet.
    is_fresh: bool,
}

impl Progress {
    async fn next(&mut self) -> Result<Option<RecordBatch>> {
        loop {
            let Some(current) = &mut self.current else {
                let Some(piece) = self.left.pop() else { return Ok(None) };
                let plan = self.state.create_physical_plan(&self.join.piece(piece)?).await?;
                let rows = execute_stream(plan, Arc::clone(&self.context))?;
                self.current = Some(Current { piece, rows, is_fresh: true });
                continue;
            };
            let (piece, is_fresh) = (current.piece, current.is_fresh);
            match current.rows.next().await {
                Some(Ok(batch)) => {
                    current.is_fresh = false;
                    return Ok(Some(batch));
                }
                Some(Err(error)) if is_fresh && piece.of < PIECES_MAX && is_of_memory(&error) => {
                    self.left.extend(piece.parts().rev());
                }
                Some(Err(error)) => return Err(error),
                None => {}
            }
            self.current = None;
            for _ in 0..YIELDS {
                tokio::task::yield_now().await;
            }
        }
    }
}

/// Whether there is not enough memory.
pub(super) fn is_of_memory(error: &DataFusionError) -> bool {
    matches!(error.find_root(), DataFusionError::ResourcesExhausted(_))
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct IsInPiece {
    piece: Piece,
    signature: Signature,
}

impl ScalarUDFImpl for IsInPiece {
    fn name(&self) -> &str {
        "is_in_piece"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let keys = arguments.args.iter().map(|argument| argument.to_array(arguments.number_rows));
        let keys = keys.collect::<Result<Vec<_>>>()?;
        // NULLs, which have no partners, are all in one piece.
        let mut hashes = vec![0; arguments.number_rows];
        create_hashes(&keys, &RandomState::with_seed(SEED), &mut hashes)?;
        // The lowest bits are those of the hash table's place.
        let number = |hash: &u64| hash.rotate_left(32) & (self.piece.of - 1);
        let is_it: BooleanArray = hashes.iter().map(|hash| Some(number(hash) == self.piece.number)).collect();
        Ok(ColumnarValue::Array(Arc::new(is_it)))
    }
}
