//! Rows from elsewhere into a store that may have to be made for them.

use std::path::Path;

use arrow::array::RecordBatch;

use super::{Appender, Creator, Snapshot, Store};
use crate::error::{Error, Result};
use crate::schema::{Field, Schema};

/// What is asked of a store's columns. To a store that is there an empty answer fits any.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Layout {
    /// The column whose values tell rows apart.
    pub key: Option<String>,
    /// The columns that have a folder for each combination of values.
    pub partition_by: Vec<String>,
    /// The columns that order the rows within a segment.
    pub sort_by: Vec<String>,
}

impl Layout {
    /// The schema of a new store. Its key is never NULL, whatever the column's source says of that.
    ///
    /// # Errors
    ///
    /// When a column is not there or not of a type for this, or the columns are no schema.
    pub fn schema(&self, mut fields: Vec<Field>) -> Result<Schema> {
        for field in &mut fields {
            if self.key.as_deref() == Some(field.name()) {
                *field = field.clone().with_nullable(false);
            }
        }
        let mut schema = Schema::new(fields)?;
        if let Some(key) = &self.key {
            schema = schema.with_key(key)?;
        }
        schema.with_sort_by(&self.sort_by)?.with_partition_by(&self.partition_by)
    }

    /// # Errors
    ///
    /// When the store is laid out in another way.
    fn check(&self, snapshot: &Snapshot) -> Result<()> {
        let schema = snapshot.schema();
        let key: Vec<String> = self.key.iter().cloned().collect();
        for (what, given, there) in [
            ("key", &key, schema.names_of(schema.key().as_slice())),
            ("partitions", &self.partition_by, schema.names_of(schema.partition_by())),
            ("order", &self.sort_by, schema.names_of(schema.sort_by())),
        ] {
            if !given.is_empty() && *given != there {
                let there = if there.is_empty() { "none".to_owned() } else { there.join(", ") };
                return Err(Error::argument(format!(
                    "the {what} {} does not fit the store at \"{}\", which has {there}; leave it out to append",
                    given.join(", "),
                    snapshot.path().display()
                )));
            }
        }
        Ok(())
    }
}

/// Collects rows that a store gets in one commit: the next one, or the one that makes it.
#[derive(Debug)]
pub enum Loader {
    /// To a store that is there.
    Append(Appender),
    /// To a new one.
    Create(Creator),
}

impl Loader {
    /// For the store in the folder `path`. If there is none, it will have the columns `fields`.
    ///
    /// # Errors
    ///
    /// As [`Store::appender`] and [`Store::creator`], and when the store that is there is laid out in another way.
    pub fn new(path: impl AsRef<Path>, layout: &Layout, fields: Vec<Field>) -> Result<Self> {
        let path = path.as_ref();
        match Store::open(path) {
            Ok(store) => {
                layout.check(&*store.snapshot()?)?;
                Ok(Self::Append(store.appender()?))
            }
            Err(Error::NotFound { .. } | Error::NotAStore { .. }) => {
                Ok(Self::Create(Store::creator(path, layout.schema(fields)?)?))
            }
            Err(error) => Err(error),
        }
    }

    /// The store's columns.
    pub fn schema(&self) -> &Schema {
        match self {
            Self::Append(appender) => appender.schema(),
            Self::Create(creator) => creator.schema(),
        }
    }

    /// How many rows were given so far.
    pub fn row_count(&self) -> u64 {
        match self {
            Self::Append(appender) => appender.row_count(),
            Self::Create(creator) => creator.row_count(),
        }
    }

    /// Adds rows, matched by column name and converted to the store's types.
    ///
    /// # Errors
    ///
    /// As [`Appender::write`].
    pub fn write(&mut self, batch: &RecordBatch) -> Result<()> {
        match self {
            Self::Append(appender) => appender.write(batch),
            Self::Create(creator) => creator.write(batch),
        }
    }

    /// Publishes the rows, and returns the version that has them.
    ///
    /// # Errors
    ///
    /// As [`Appender::commit`] and [`Creator::commit`].
    pub fn commit(self) -> Result<u64> {
        match self {
            Self::Append(appender) => appender.commit(),
            Self::Create(creator) => creator.commit().map(|_| 0),
        }
    }
}
