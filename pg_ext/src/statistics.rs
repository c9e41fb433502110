//! What a store's metadata tells the planner of a column: for tables that nobody has run `ANALYZE` on.

use std::sync::Arc;

use arrow::array::{ArrayRef, Decimal128Array, Float32Array, Float64Array, Int32Array, Int64Array};
use arrow::compute::cast;
use arrow::datatypes::DataType as ArrowType;
use soa_core::predicate::{Bounds, Scalar};
use soa_core::schema::DataType;

use crate::error::Result;
use crate::rows::{Encoding, Rows};
use crate::table::{BoundColumn, Table};

/// What is known of a column's values.
#[derive(Debug)]
pub(crate) struct ColumnStatistics {
    /// Which part of them is NULL, from 0 to 1.
    pub(crate) null_fraction: f64,
    /// How many there are, as `pg_statistic.stadistinct` has it: a number; or, negative, a part of the rows; 0 if it is not
    /// known.
    pub(crate) distinct: f64,
    /// The least and the greatest, where values between them may be expected everywhere.
    pub(crate) ends: Option<Ends>,
}

/// Two values, as datums.
#[derive(Debug)]
pub(crate) struct Ends {
    /// The memory that the datums lead to.
    rows: Rows,
}

impl Ends {
    fn of(column: &BoundColumn, values: &ArrayRef, encoding: Encoding) -> Result<Self> {
        let mut rows = Rows::new([&BoundColumn { number: 1, ..column.clone() }], 1, encoding)?;
        rows.set_columns(std::slice::from_ref(values), 0..values.len());
        rows.fill()?;
        Ok(Self { rows })
    }

    /// The datums, which are good as long as this is.
    pub(crate) fn datums(&mut self) -> &mut [usize] {
        self.rows.chunk_mut().datums_mut()
    }
}

/// Looks at the newest metadata of a table's store; `None` if there is nothing to be said of the column.
pub(crate) fn of_column(table: &Table, number: i16, encoding: Encoding) -> Result<Option<ColumnStatistics>> {
    let snapshot = table.newest()?;
    let schema = snapshot.schema();
    let Some(position) = table.attribute(number).and_then(|attribute| schema.index_of(attribute.store_name())) else {
        return Ok(None);
    };
    let (rows, bounds) = (snapshot.row_count(), snapshot.bounds(position)?);
    if rows == 0 {
        return Ok(None);
    }
    let data_type = schema.field(position).data_type();
    let null_fraction = bounds.nulls.map_or(0.0, |nulls| nulls as f64 / rows as f64);
    let distinct = if schema.key() == Some(position) { -1.0 } else { distinct(data_type, &bounds, rows) };
    let ends = match ends(data_type, &bounds) {
        Some(values) => match table.bind(&[number], &snapshot)?.first() {
            // What is beyond the column's type is an error only for who reads it.
            Some(column) => Ends::of(column, &values, encoding).ok(),
            None => None,
        },
        None => None,
    };
    Ok(Some(ColumnStatistics { null_fraction, distinct, ends }))
}

/// How many different values there may be. What lies close together is taken to be complete; of others nothing is said, for to
/// take few values for many makes worse plans than not to know.
fn distinct(data_type: &DataType, bounds: &Bounds, rows: u64) -> f64 {
    match (data_type, &bounds.min, &bounds.max) {
        (DataType::Bool, ..) => 2.0,
        (DataType::Enum(variants), ..) => variants.names().len() as f64,
        (_, Some(Scalar::Int(min)), Some(Scalar::Int(max))) => {
            let most = max.saturating_sub(*min).saturating_add(1);
            if most <= i128::from(rows) { most as f64 } else { 0.0 }
        }
        (_, Some(min), Some(max)) if min == max && !bounds.may_hold_nan => 1.0,
        _ => 0.0,
    }
}

/// The least and the greatest value of a column of numbers or times, as the store has them.
fn ends(data_type: &DataType, bounds: &Bounds) -> Option<ArrayRef> {
    if bounds.may_hold_nan {
        return None;
    }
    let wanted = data_type.to_arrow();
    match (bounds.min.as_ref()?, bounds.max.as_ref()?) {
        (Scalar::Int(min), Scalar::Int(max)) if min < max => {
            let long = || Some(Int64Array::from(vec![i64::try_from(*min).ok()?, i64::try_from(*max).ok()?]));
            match wanted {
                ArrowType::Decimal128(precision, scale) => {
                    let values = Decimal128Array::from(vec![*min, *max]);
                    Some(Arc::new(values.with_precision_and_scale(precision, scale).ok()?))
                }
                ArrowType::Date32 => {
                    let days = [i32::try_from(*min).ok()?, i32::try_from(*max).ok()?];
                    cast(&Int32Array::from(days.to_vec()), &wanted).ok()
                }
                ArrowType::Timestamp(..) => cast(&long()?, &wanted).ok(),
                _ if wanted.is_integer() => cast(&long()?, &wanted).ok(),
                _ => None,
            }
        }
        (Scalar::Float(min), Scalar::Float(max)) if min < max => match wanted {
            ArrowType::Float32 => Some(Arc::new(Float32Array::from(vec![*min as f32, *max as f32]))),
            _ => Some(Arc::new(Float64Array::from(vec![*min, *max]))),
        },
        _ => None,
    }
}
