//! A foreign table as it was declared, and the store behind it.

use std::sync::Arc;

use pgrx::PgSqlErrorCode;
use soa_core::ErrorKind;
use soa_core::schema::Schema;
use soa_core::store::{At, Snapshot, Store};

use crate::error::{PgError, Result};
use crate::location;
use crate::options::{self, OptionPair};
use crate::types::{self, Conversion, Declared};

/// A foreign table as the catalog has it.
#[derive(Debug, Clone)]
pub(crate) struct Table {
    /// Its name, for messages.
    pub(crate) name: String,
    /// The options of its server.
    pub(crate) server_options: Vec<OptionPair>,
    /// Its own options.
    pub(crate) options: Vec<OptionPair>,
    /// Its columns, without dropped ones.
    pub(crate) attributes: Vec<Attribute>,
}

/// A column of a foreign table.
#[derive(Debug, Clone)]
pub(crate) struct Attribute {
    /// Its number, from 1.
    pub(crate) number: i16,
    /// How it was declared.
    pub(crate) declared: Declared,
    /// Its options.
    pub(crate) options: Vec<OptionPair>,
}

impl Attribute {
    /// The store's name for it.
    pub(crate) fn store_name(&self) -> &str {
        options::column_name(&self.options).unwrap_or(&self.declared.name)
    }
}

/// A column of a scan: where its values come from and how they get into a slot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BoundColumn {
    /// The attribute's number, from 1.
    pub(crate) number: i16,
    /// The position in the store's schema.
    pub(crate) store_column: usize,
    /// The name in the foreign table.
    pub(crate) name: String,
    pub(crate) conversion: Conversion,
}

impl Table {
    /// Opens its store. Where it is, and that this is below the server's root, is found out anew each time.
    pub(crate) fn open(&self) -> Result<Store> {
        let folder = location::resolve(options::root(&self.server_options)?, options::path(&self.options)?)?;
        Ok(Store::open(folder)?)
    }

    /// As [`open`](Self::open); but if there is nothing where its store should be, makes an empty one of its columns.
    pub(crate) fn open_or_make(&self) -> Result<Store> {
        let (root, path) = (options::root(&self.server_options)?, options::path(&self.options)?);
        let (folder, is_new) = location::resolve_new(root, path)?;
        if is_new {
            let fields =
                self.attributes.iter().map(|attribute| types::field(attribute.store_name(), &attribute.declared));
            let schema = options::layout(&self.options).schema(fields.collect::<Result<_>>()?)?;
            location::make_folder(&folder)?;
            match Store::create(&folder, schema) {
                // Somebody else was faster.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                made => return Ok(made?),
            }
        }
        Ok(Store::open(folder)?)
    }

    /// The version that it shows, if it does not show the newest.
    pub(crate) fn version(&self) -> Result<Option<u64>> {
        options::version(&self.options)
    }

    /// The snapshot that planning looks at: what it learns there it takes for an estimate.
    pub(crate) fn newest(&self) -> Result<Arc<Snapshot>> {
        let store = self.open()?;
        Ok(match self.version()? {
            Some(version) => store.snapshot_at(At::Version(version))?,
            None => store.snapshot()?,
        })
    }

    pub(crate) fn attribute(&self, number: i16) -> Option<&Attribute> {
        self.attributes.iter().find(|attribute| attribute.number == number)
    }

    /// Finds these columns in the store.
    ///
    /// # Errors
    ///
    /// When the store has no such column, or one of a type that the declared type cannot hold; or when a column, whether
    /// it is one of these or not, is declared NOT NULL and has NULLs: Postgres plans by such declarations.
    pub(crate) fn bind(&self, numbers: &[i16], snapshot: &Snapshot) -> Result<Vec<BoundColumn>> {
        let schema = snapshot.schema();
        self.attributes.iter().try_for_each(|attribute| check_not_null(attribute, snapshot))?;
        let wanted = numbers.iter().filter_map(|number| self.attribute(*number));
        wanted.map(|attribute| self.bind_column(attribute, schema)).collect()
    }

    /// That the store has no such column.
    pub(crate) fn no_column(&self, name: &str, schema: &Schema) -> PgError {
        let known: Vec<&str> = schema.fields().iter().map(soa_core::schema::Field::name).collect();
        let message = format!("the store of foreign table \"{}\" has no column \"{name}\"", self.name);
        PgError::new(PgSqlErrorCode::ERRCODE_FDW_COLUMN_NAME_NOT_FOUND, message)
            .with_detail(format!("Its columns are: {}", known.join(", ")))
            .with_hint("Name the store's column by the option \"column_name\" of the column, or drop the column.")
    }

    fn bind_column(&self, attribute: &Attribute, schema: &Schema) -> Result<BoundColumn> {
        let name = attribute.store_name();
        let Some(store_column) = schema.index_of(name) else { return Err(self.no_column(name, schema)) };
        Ok(BoundColumn {
            number: attribute.number,
            store_column,
            name: attribute.declared.name.clone(),
            conversion: Conversion::new(schema.field(store_column), &attribute.declared)?,
        })
    }
}

fn check_not_null(attribute: &Attribute, snapshot: &Snapshot) -> Result<()> {
    let schema = snapshot.schema();
    let Some(column) = schema.index_of(attribute.store_name()).filter(|_| attribute.declared.not_null) else {
        return Ok(());
    };
    if !schema.field(column).is_nullable() || snapshot.bounds(column)?.nulls == Some(0) {
        return Ok(());
    }
    let name = &attribute.declared.name;
    let message = format!("column \"{name}\" is declared NOT NULL, but may be NULL in the store");
    Err(PgError::new(PgSqlErrorCode::ERRCODE_FDW_INVALID_DATA_TYPE, message)
        .with_hint(format!("ALTER FOREIGN TABLE ... ALTER COLUMN \"{name}\" DROP NOT NULL")))
}
