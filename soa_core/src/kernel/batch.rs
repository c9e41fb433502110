//! Columns to record batches and back, for the derived code.

use std::any::TypeId;
use std::collections::HashMap;
use std::marker::PhantomData;
use std::sync::{Mutex, OnceLock, PoisonError};

use arrow::array::{Array, ArrayRef, StructArray};
use arrow::datatypes::SchemaRef;
use arrow::record_batch::RecordBatch;

use super::field::FieldColumn;
use super::list::elements_from;
use crate::error::{Error, Result};
use crate::schema::{Field, Schema, arrow_schema};

/// A record's schema, made once.
#[derive(Debug)]
pub struct SchemaCell(OnceLock<(Schema, SchemaRef)>);

impl SchemaCell {
    /// Nothing made yet.
    #[expect(clippy::new_without_default, reason = "a static is made of it, not a value")]
    pub const fn new() -> Self {
        Self(OnceLock::new())
    }

    /// The schema of `fields`, and with what `refine` adds.
    ///
    /// # Panics
    ///
    /// When the fields or what is added make no table; the derives refuse such structs.
    pub fn get(
        &self,
        fields: impl FnOnce() -> Vec<Field>,
        refine: impl FnOnce(Schema) -> Result<Schema>,
    ) -> &(Schema, SchemaRef) {
        self.0.get_or_init(|| match Schema::new(fields()).and_then(refine) {
            Ok(schema) => {
                let arrow = arrow_schema(&schema);
                (schema, arrow)
            }
            Err(error) => panic!("the struct makes no table: {error}"),
        })
    }
}

/// The schemas of a type with parameters, made once for all their arguments: a static would be one for all of them. `T` is
/// the type, or [`Table`] of it for the schema of its table.
///
/// # Panics
///
/// As [`SchemaCell::get`].
pub fn schemas_of<T: 'static>(
    fields: impl FnOnce() -> Vec<Field>,
    refine: impl FnOnce(Schema) -> Result<Schema>,
) -> &'static (Schema, SchemaRef) {
    type Made = Mutex<HashMap<TypeId, &'static SchemaCell>>;
    static MADE: OnceLock<Made> = OnceLock::new();
    let made = MADE.get_or_init(Mutex::default);
    // Not held while the fields are found out: they may be of such types themselves. There are as many as types.
    let cell = *made
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(TypeId::of::<T>())
        .or_insert_with(|| Box::leak(Box::new(SchemaCell::new())));
    cell.get(fields, refine)
}

/// Names the schema of a record's table, for [`schemas_of`].
#[derive(Debug)]
pub struct Table<R>(PhantomData<fn() -> R>);

/// Checks that a value fits its column; the error names both.
#[inline]
pub fn encode<C: FieldColumn>(value: C::Value, column: &str) -> Result<C::Stored> {
    C::encode(value).map_err(|message| Error::value(column, message))
}

/// For the methods that are documented to panic when a value does not fit.
#[cold]
#[track_caller]
pub fn refuse(error: &Error) -> ! {
    panic!("{error}")
}

/// A record batch of a record's arrays.
pub fn into_batch(schema: SchemaRef, arrays: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(schema, arrays).expect("a record's columns are of its schema's types and of one length")
}

/// The column named `column` of a record batch.
///
/// # Errors
///
/// When it is missing or does not fit.
pub fn column_from<C: FieldColumn>(batch: &RecordBatch, column: &str) -> Result<C> {
    let array = batch.column_by_name(column).ok_or_else(|| {
        let known: Vec<String> = batch.schema().fields().iter().map(|field| field.name().clone()).collect();
        Error::mismatch(format!("the rows have no column \"{column}\"; their columns are: {}", known.join(", ")))
    })?;
    if !C::NULLABLE && array.is_nullable() {
        let nulls = array.logical_null_count();
        if nulls > 0 {
            return Err(Error::value(
                column,
                format!("{nulls} of {} values are NULL; make the field an Option, or replace them first", array.len()),
            ));
        }
    }
    C::from_array(array, column)
}

/// The field named `field` of structs in a column.
///
/// # Errors
///
/// When it is missing or does not fit.
pub fn field_from<C: FieldColumn>(rows: &StructArray, field: &str, column: &str) -> Result<C> {
    let array = rows
        .column_by_name(field)
        .ok_or_else(|| Error::mismatch(format!("the structs in column \"{column}\" have no field \"{field}\"")))?;
    elements_from(array, rows.nulls(), &format!("{column}.{field}"))
}

/// Whether two columns hold equal values.
pub fn same_values<C: FieldColumn>(left: &C, right: &C) -> bool {
    left.len() == right.len() && (0..left.len()).all(|row| left.get(row) == right.get(row))
}
