//! A filter as a function of DataFusion's: rows are tested by the store's own predicate, whose meaning is Postgres'.

use std::hash::{Hash, Hasher};
use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::datatypes::{DataType, Field, Schema};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, TypeSignature, Volatility,
};
use soa_core::predicate::Predicate;

use super::expressions::Scope;

/// Whether a predicate is true for the rows of the table in this place: never NULL.
pub(super) fn matches(scope: &Scope<'_>, table: usize, predicate: Predicate) -> Expr {
    let columns = predicate.columns();
    let name = |column: &usize| scope.schema(table).field(*column).name();
    let arguments = columns.iter().map(|column| scope.store_column(table, name(column))).collect();
    ScalarUDF::new_from_impl(Matches::new(predicate, columns)).call(arguments)
}

#[derive(Debug)]
struct Matches {
    predicate: Predicate,
    /// Which column of the table each argument is.
    columns: Vec<usize>,
    signature: Signature,
    /// What tells two of them apart.
    text: String,
}

impl Matches {
    fn new(predicate: Predicate, columns: Vec<usize>) -> Self {
        let types = match columns.len() {
            0 => TypeSignature::Nullary,
            count => TypeSignature::Any(count),
        };
        let signature = Signature::new(types, Volatility::Immutable);
        let text = format!("{predicate:?}");
        Self { predicate, columns, signature, text }
    }
}

impl PartialEq for Matches {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Matches {}

impl Hash for Matches {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.text.hash(state);
    }
}

impl ScalarUDFImpl for Matches {
    fn name(&self) -> &str {
        "matches"
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(DataType::Boolean)
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let fields: Vec<Field> =
            arrays.iter().map(|array| Field::new("column", array.data_type().clone(), true)).collect();
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(arguments.number_rows));
        let rows = RecordBatch::try_new_with_options(Arc::new(Schema::new(fields)), arrays, &options)?;
        let position = |column: usize| self.columns.iter().position(|known| *known == column);
        let selected = self.predicate.select(&rows, &position);
        let selected = selected.map_err(|error| DataFusionError::External(Box::new(error)))?;
        Ok(ColumnarValue::Array(Arc::new(selected)))
    }
}
