//! What a store holds: columns, their types, and the table's key, order and partitions.
//!
//! A [`Schema`] is the one description that the kernel, the Arrow conversion, the store and both
//! engines share. It knows no engine; each edge maps [`DataType`] in a file of its own.

mod arrow;
mod beneath;
mod types;

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};

pub use self::arrow::{arrow_field, arrow_schema, field_from_arrow, schema_from_arrow, without_dictionaries};
pub(crate) use self::arrow::{arrow_field_of, arrow_map};
pub(crate) use self::beneath::{elements_of, null_beneath};
pub use self::types::{DAY_MICROS, DataType, MAX_DECIMAL_PRECISION, Variants};

/// One column: its name, type and whether it may hold NULL.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Field {
    name: String,
    data_type: DataType,
    nullable: bool,
}

impl Field {
    /// A column that always holds a value.
    pub fn new(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), data_type, nullable: false }
    }

    /// A column that may hold NULL.
    pub fn nullable(name: impl Into<String>, data_type: DataType) -> Self {
        Self { name: name.into(), data_type, nullable: true }
    }

    /// The same column, with `nullable` as given.
    #[must_use]
    pub fn with_nullable(mut self, nullable: bool) -> Self {
        self.nullable = nullable;
        self
    }

    /// The same column under another name.
    #[must_use]
    pub fn with_name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// The same column with another type.
    #[must_use]
    pub fn with_type(mut self, data_type: DataType) -> Self {
        self.data_type = data_type;
        self
    }

    /// The column's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The column's type.
    pub fn data_type(&self) -> &DataType {
        &self.data_type
    }

    /// Whether the column may hold NULL.
    pub fn is_nullable(&self) -> bool {
        self.nullable
    }
}

/// The columns of a table and what the table promises about them.
///
/// Cheap to clone: the columns are shared.
#[derive(Clone, PartialEq, Eq)]
pub struct Schema {
    fields: Arc<[Field]>,
    key: Option<usize>,
    sort_by: Vec<usize>,
    partition_by: Vec<usize>,
}

impl Schema {
    /// A table of these columns, without key, order or partitions.
    ///
    /// # Errors
    ///
    /// When there is no column, two share a name (letter case does not tell names apart: Delta,
    /// DuckDB and Postgres would not), or a name is empty or cannot be stored.
    pub fn new(fields: impl Into<Vec<Field>>) -> Result<Self> {
        let fields: Vec<Field> = fields.into();
        if fields.is_empty() {
            return Err(Error::schema("a table needs at least one column"));
        }
        check_fields(&fields)?;
        Ok(Self { fields: fields.into(), key: None, sort_by: Vec::new(), partition_by: Vec::new() })
    }

    /// The same table with `column` as its key: no two rows share its value.
    ///
    /// # Errors
    ///
    /// When there is no such column, it may hold NULL, or its type cannot be a key (floats).
    pub fn with_key(mut self, column: &str) -> Result<Self> {
        let index = self.require(column, "key")?;
        let field = &self.fields[index];
        if field.is_nullable() {
            return Err(Error::schema(format!("the key column \"{column}\" may hold NULL; a key must not")));
        }
        if !field.data_type().can_be_key() {
            return Err(Error::schema(format!(
                "the column \"{column}\" of type {} cannot be a key; use an integer, string, binary, date, \
                 timestamp or decimal column",
                field.data_type()
            )));
        }
        self.key = Some(index);
        Ok(self)
    }

    /// The same table with the rows of each segment in the order of `columns` (ascending, NULLs last).
    ///
    /// # Errors
    ///
    /// When there is no such column, one is named twice, or has values inside its values.
    pub fn with_sort_by<S: AsRef<str>>(mut self, columns: &[S]) -> Result<Self> {
        let indices = self.require_all(columns, "sort_by")?;
        if let Some(field) =
            indices.iter().map(|&index| &self.fields[index]).find(|field| !field.data_type().can_sort())
        {
            return Err(Error::schema(format!(
                "the column \"{}\" of type {} does not order rows",
                field.name(),
                field.data_type()
            )));
        }
        self.sort_by = indices;
        Ok(self)
    }

    /// The same table split into one folder per combination of values of `columns`.
    ///
    /// # Errors
    ///
    /// When there is no such column, one is named twice, it is the key, or it is of a type that
    /// cannot name a folder (floats, binary), or no other column is left.
    pub fn with_partition_by<S: AsRef<str>>(mut self, columns: &[S]) -> Result<Self> {
        let indices = self.require_all(columns, "partition_by")?;
        for &index in &indices {
            let field = &self.fields[index];
            if !field.data_type().can_partition() {
                return Err(Error::schema(format!(
                    "the column \"{}\" of type {} cannot be a partition column",
                    field.name(),
                    field.data_type()
                )));
            }
            if self.key == Some(index) {
                return Err(Error::schema(format!(
                    "the key column \"{}\" cannot be a partition column as well: every row would get a folder of its own",
                    field.name()
                )));
            }
        }
        if indices.len() == self.fields.len() {
            return Err(Error::schema("at least one column must not be a partition column"));
        }
        self.partition_by = indices;
        Ok(self)
    }

    /// The columns, in order.
    pub fn fields(&self) -> &[Field] {
        &self.fields
    }

    /// The number of columns.
    pub fn len(&self) -> usize {
        self.fields.len()
    }

    /// Never true: a table has at least one column.
    pub fn is_empty(&self) -> bool {
        self.fields.is_empty()
    }

    /// The column at `index`.
    ///
    /// # Panics
    ///
    /// When `index` is not below [`len`](Self::len).
    pub fn field(&self, index: usize) -> &Field {
        &self.fields[index]
    }

    /// The position of the column with exactly this name.
    pub fn index_of(&self, name: &str) -> Option<usize> {
        self.fields.iter().position(|field| field.name() == name)
    }

    /// The position of the column with exactly this name, or an error that lists the columns.
    ///
    /// # Errors
    ///
    /// When there is no such column.
    pub fn require_column(&self, name: &str) -> Result<usize> {
        self.index_of(name).ok_or_else(|| self.unknown_column(name))
    }

    /// The key column's position.
    pub fn key(&self) -> Option<usize> {
        self.key
    }

    /// The positions of the columns that order a segment's rows.
    pub fn sort_by(&self) -> &[usize] {
        &self.sort_by
    }

    /// The positions of the partition columns.
    pub fn partition_by(&self) -> &[usize] {
        &self.partition_by
    }

    /// Whether rows of a table of the columns `older` are rows of this one: it has the same columns at the same positions, the
    /// same key, order and partitions, and perhaps more columns at the end, which may be NULL, and more variants.
    pub(crate) fn extends(&self, older: &Self) -> bool {
        let same = |(field, older): (&Field, &Field)| {
            let is_same_type = match (field.data_type(), older.data_type()) {
                (DataType::Enum(variants), DataType::Enum(older)) => variants.names().starts_with(older.names()),
                (data_type, older) => data_type == older,
            };
            is_same_type && field.name() == older.name() && field.is_nullable() == older.is_nullable()
        };
        let layout = |schema: &Self| (schema.key, schema.sort_by.clone(), schema.partition_by.clone());
        self.len() >= older.len()
            && self.fields.iter().zip(older.fields.iter()).all(same)
            && self.fields[older.len()..].iter().all(Field::is_nullable)
            && layout(self) == layout(older)
    }

    /// The names of the columns at `indices`.
    pub fn names_of(&self, indices: &[usize]) -> Vec<String> {
        indices.iter().map(|&index| self.fields[index].name().to_owned()).collect()
    }

    fn unknown_column(&self, name: &str) -> Error {
        let known: Vec<&str> = self.fields.iter().map(Field::name).collect();
        Error::UnknownColumn { column: name.to_owned(), known: known.join(", ") }
    }

    fn require(&self, name: &str, role: &str) -> Result<usize> {
        self.index_of(name).ok_or_else(|| {
            let known: Vec<&str> = self.fields.iter().map(Field::name).collect();
            Error::schema(format!("{role} names the column \"{name}\", which is not one of: {}", known.join(", ")))
        })
    }

    fn require_all<S: AsRef<str>>(&self, names: &[S], role: &str) -> Result<Vec<usize>> {
        let mut indices = Vec::with_capacity(names.len());
        for name in names {
            let index = self.require(name.as_ref(), role)?;
            if indices.contains(&index) {
                return Err(Error::schema(format!("{role} names the column \"{}\" twice", name.as_ref())));
            }
            indices.push(index);
        }
        Ok(indices)
    }
}

impl fmt::Debug for Schema {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Schema")
            .field("fields", &self.fields)
            .field("key", &self.key)
            .field("sort_by", &self.sort_by)
            .field("partition_by", &self.partition_by)
            .finish()
    }
}

/// Characters that Parquet's and Delta's readers do not take in a column name without column mapping.
const FORBIDDEN_IN_NAMES: &[char] = &[' ', ',', ';', '{', '}', '(', ')', '\n', '\t', '=', '\0'];

/// Refuses columns, or fields of a struct, that no table can have side by side.
fn check_fields(fields: &[Field]) -> Result<()> {
    let mut seen = std::collections::HashSet::new();
    for field in fields {
        check_name(field.name())?;
        field.data_type().check(field.name())?;
        if !seen.insert(field.name().to_lowercase()) {
            return Err(Error::schema(format!(
                "two columns are named \"{}\" (upper and lower case are not told apart)",
                field.name()
            )));
        }
    }
    Ok(())
}

fn check_name(name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::schema("a column's name is empty"));
    }
    if let Some(bad) = name.chars().find(|c| FORBIDDEN_IN_NAMES.contains(c)) {
        return Err(Error::schema(format!(
            "the column name {name:?} holds {bad:?}, which Delta Lake does not allow; rename the column"
        )));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> Vec<Field> {
        vec![
            Field::new("id", DataType::UInt64),
            Field::new("status", DataType::Utf8),
            Field::nullable("price", DataType::Float64),
        ]
    }

    #[test]
    fn key_sort_and_partitions_are_kept() {
        let schema = Schema::new(fields())
            .and_then(|s| s.with_key("id"))
            .and_then(|s| s.with_sort_by(&["price", "id"]))
            .and_then(|s| s.with_partition_by(&["status"]))
            .unwrap();
        assert_eq!(schema.key(), Some(0));
        assert_eq!(schema.sort_by(), &[2, 0]);
        assert_eq!(schema.partition_by(), &[1]);
    }

    #[test]
    fn wrong_tables_are_refused_by_name() {
        let message = |result: Result<Schema>| result.unwrap_err().to_string();
        assert!(message(Schema::new(vec![])).contains("at least one column"));
        let twice = vec![Field::new("a", DataType::Int8), Field::new("A", DataType::Int8)];
        assert!(message(Schema::new(twice)).contains("\"A\""));
        assert!(message(Schema::new(vec![Field::new("a b", DataType::Int8)])).contains("\"a b\""));
        assert!(message(Schema::new(fields()).and_then(|s| s.with_key("price"))).contains("price"));
        assert!(message(Schema::new(fields()).and_then(|s| s.with_key("nope"))).contains("nope"));
        assert!(message(Schema::new(fields()).and_then(|s| s.with_partition_by(&["price"]))).contains("price"));
        assert!(message(Schema::new(fields()).and_then(|s| s.with_sort_by(&["id", "id"]))).contains("twice"));
    }
}
