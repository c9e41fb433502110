//! Tables that get more columns, and enums more variants, without a file being written anew.

use std::sync::Arc;

use crate::error::{Error, Result};
use crate::schema::{DataType, Field, Schema, Variants};
use crate::store::commit::{self, Change, Failure};
use crate::store::snapshot::Snapshot;
use crate::store::{Store, delta_schema};

impl Store {
    /// Adds columns behind the others: NULL in all rows that are there. Returns the version that has them.
    ///
    /// Readers of older snapshots go on without them. A [`Writer`](crate::store::Writer) that is open takes rows with and
    /// without them from then on.
    ///
    /// # Errors
    ///
    /// When there is a column of such a name, a new one must not be NULL, it cannot be stored, or the log cannot be written.
    pub fn add_columns(&self, columns: &[Field]) -> Result<u64> {
        self.evolve_by(&|schema| {
            for column in columns {
                let name = column.name().to_lowercase();
                if schema.fields().iter().any(|known| known.name().to_lowercase() == name) {
                    return Err(Error::schema(format!("there is a column \"{}\" already", column.name())));
                }
                if !column.is_nullable() {
                    return Err(must_allow_null(column));
                }
            }
            same_layout(schema, [schema.fields(), columns].concat())
        })
    }

    /// Adds names to those that an enum column may hold, behind the others; those that it has are passed over. Returns the
    /// version that has them.
    ///
    /// # Errors
    ///
    /// When there is no such column, it is no enum, there are more than 256 names then, or the log cannot be written.
    pub fn add_variants<S: AsRef<str>>(&self, column: &str, names: &[S]) -> Result<u64> {
        self.evolve_by(&|schema| {
            let at = schema.require_column(column)?;
            let mut fields = schema.fields().to_vec();
            let DataType::Enum(variants) = fields[at].data_type() else {
                let found = fields[at].data_type();
                return Err(Error::schema(format!("the column \"{column}\" is {found}, which has no variants")));
            };
            let mut all = variants.names().to_vec();
            for name in names.iter().map(AsRef::as_ref) {
                if !all.iter().any(|known| known == name) {
                    all.push(name.to_owned());
                }
            }
            fields[at] = fields[at].clone().with_type(DataType::Enum(Variants::new(all)?));
            same_layout(schema, fields)
        })
    }

    /// Gives the table the columns of `schema`, as far as that changes no row: columns that may be NULL are added behind the
    /// others, and variants of enums behind those that there are. Returns the version that has them; the current one if
    /// there is nothing to add.
    ///
    /// # Errors
    ///
    /// When a column would have to be dropped, renamed or of another type, the key, the order or the partitions would be
    /// others, a new column must not be NULL, or the log cannot be written.
    pub fn evolve(&self, schema: &Schema) -> Result<u64> {
        self.evolve_by(&|before| extended(before, schema))
    }

    fn evolve_by(&self, wanted: &dyn Fn(&Schema) -> Result<Schema>) -> Result<u64> {
        let plan = &mut |base: &Arc<Snapshot>| {
            let before = base.schema();
            let after = wanted(before)?;
            if after == *before {
                return Ok(None);
            }
            let operation = if after.len() > before.len() { "ADD COLUMNS" } else { "CHANGE COLUMN" };
            let table = delta_schema::extend(base.delta(), before, &after)?;
            Ok(Some(Change { operation, table, ..Change::default() }))
        };
        commit::commit(self, &self.published()?, plan).map_err(Failure::into_error)
    }
}

/// A table of other columns, with the same key, order and partitions.
fn same_layout(schema: &Schema, fields: Vec<Field>) -> Result<Schema> {
    let mut same = Schema::new(fields)?
        .with_partition_by(&schema.names_of(schema.partition_by()))?
        .with_sort_by(&schema.names_of(schema.sort_by()))?;
    if let Some(key) = schema.key() {
        same = same.with_key(schema.field(key).name())?;
    }
    Ok(same)
}

/// The columns of a table, and behind them those of `wanted` that it has not.
///
/// # Errors
///
/// As [`Store::evolve`], but for the log.
pub(in crate::store) fn extended(before: &Schema, wanted: &Schema) -> Result<Schema> {
    const INSTEAD: &str =
        "make a store of the columns that you want, and import there what `soa export` writes of this one";
    let mut fields = Vec::with_capacity(wanted.len());
    for field in before.fields() {
        let name = field.name();
        let Some(at) = wanted.index_of(name) else {
            let new = wanted.fields().iter().find(|field| before.index_of(field.name()).is_none());
            let what =
                new.map_or("be dropped".to_owned(), |new| format!("be dropped or renamed to \"{}\"", new.name()));
            return Err(Error::schema(format!(
                "the column \"{name}\" cannot {what}: older versions and other readers have it; {INSTEAD}, or leave it as it is"
            )));
        };
        fields.push(merged(field, wanted.field(at), INSTEAD)?);
    }
    for field in wanted.fields().iter().filter(|field| before.index_of(field.name()).is_none()) {
        if !field.is_nullable() {
            return Err(must_allow_null(field));
        }
        fields.push(field.clone());
    }
    for (role, have, want) in [
        ("key", before.names_of(before.key().as_slice()), wanted.names_of(wanted.key().as_slice())),
        ("sort order", before.names_of(before.sort_by()), wanted.names_of(wanted.sort_by())),
        ("partition columns", before.names_of(before.partition_by()), wanted.names_of(wanted.partition_by())),
    ] {
        if have != want {
            let (have, want) = (have.join(", "), want.join(", "));
            return Err(Error::schema(format!("the {role} cannot change from ({have}) to ({want}); {INSTEAD}")));
        }
    }
    same_layout(before, fields)
}

fn must_allow_null(column: &Field) -> Error {
    let name = column.name();
    Error::schema(format!("the new column \"{name}\" must allow NULL, which it is in the rows that are there"))
}

/// A column that there is, with the variants that it is wanted to have.
fn merged(field: &Field, wanted: &Field, instead: &str) -> Result<Field> {
    let name = field.name();
    if field.is_nullable() != wanted.is_nullable() {
        let (have, want) = if field.is_nullable() { ("may", "must not") } else { ("must not", "may") };
        return Err(Error::schema(format!(
            "the column \"{name}\" {have} be NULL and cannot change to {want}; {instead}"
        )));
    }
    match (field.data_type(), wanted.data_type()) {
        (have, want) if have == want => Ok(field.clone()),
        (DataType::Enum(have), DataType::Enum(want)) => {
            if !want.names().starts_with(have.names()) {
                return Err(Error::schema(format!(
                    "the variants of \"{name}\" can only become more, at their end; it has {}",
                    have.names().join(", ")
                )));
            }
            Ok(field.clone().with_type(wanted.data_type().clone()))
        }
        (have, want) => Err(Error::schema(format!(
            "the type of the column \"{name}\" cannot change from {have} to {want}: its files hold {have}; add a column of \
             the new type, or {instead}"
        ))),
    }
}
