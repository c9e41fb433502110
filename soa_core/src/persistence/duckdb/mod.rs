//! Records in a table of a DuckDB database.

mod feed;
mod sql;

use std::cell::RefCell;
use std::fmt;
use std::marker::PhantomData;
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::compute::cast;
use arrow::datatypes::{Int64Type, Schema as ArrowSchema};
use duckdb_neo::connection::Connection;
use duckdb_neo::environment::{Environment, StorageLocation};
use duckdb_neo::error::DuckDBError;
use duckdb_neo::{Parameters, QueryParameter};

use self::feed::{FUNCTION, Slot};
use self::sql::{Condition, add_column, create_table, quoted, type_name};
use super::serial::Serial;
use super::{MemoryStats, PersistenceError, Query, Result, SoAPersistence};
use crate::convert::cast_batch;
use crate::error::Error;
use crate::kernel::{FieldColumn, KeyedRecord, Rows, StoredRecord, joined};
use crate::schema::{DataType, Field, Schema, arrow_field, without_dictionaries};
use crate::store::last_of_each_key;

/// All databases of this process: DuckDB sees within one environment that a file is open already.
static ENVIRONMENT: LazyLock<Result<Environment, duckdb_neo::Error>> = LazyLock::new(Environment::new);

/// Records in a table of a DuckDB database, in memory or in a file (feature `duckdb`).
///
/// The table is made when the first row is written, with the record's key as its primary key; reading one that is not there
/// gives no rows. Rows go in over Arrow, each call in one transaction, and come out as Arrow batches. A file belongs to this
/// value from the first call until [`close`](SoAPersistence::close), or until it is dropped: DuckDB lets one process have it.
///
/// [`query_sql`](Self::query_sql) and [`analytics_query`](Self::analytics_query) run any SQL next to that.
pub struct DuckDBPersistence<R> {
    place: Arc<Place>,
    session: Serial<Session>,
    record: PhantomData<fn() -> R>,
}

#[derive(Debug)]
struct Place {
    /// `None`: in memory.
    path: Option<PathBuf>,
    table: String,
}

/// The connection, while there is one. (It may go from thread to thread, but not be shared.)
#[derive(Default)]
struct Session(Mutex<Option<Open>>);

struct Open {
    connection: Connection,
    given: Slot,
    /// Which of the record's columns the table has, once that was looked at; nobody else can change it meanwhile.
    columns: RefCell<Option<Vec<bool>>>,
}

impl<R: StoredRecord> DuckDBPersistence<R> {
    /// The records in the table `table` of the database in the file `path`; without one, of a database in memory, which goes
    /// with this value. Nothing is opened yet.
    pub fn new(path: Option<&Path>, table: impl Into<String>) -> Self {
        let place = Place { path: path.map(Path::to_owned), table: table.into() };
        Self { place: Arc::new(place), session: Serial::new(Session::default()), record: PhantomData }
    }

    /// The rows that a statement gives. It may be any SQL, which is run as it is.
    ///
    /// # Errors
    ///
    /// When DuckDB refuses it.
    pub async fn query_sql(&self, statement: impl Into<String>) -> Result<Vec<RecordBatch>> {
        let statement = statement.into();
        self.run(move |database| {
            let rows = database.rows(&statement, &[]);
            // It may have changed the table.
            database.open.columns.take();
            Ok(rows?.1)
        })
        .await
    }

    /// The rows that a statement gives, each as an object with its columns.
    ///
    /// # Errors
    ///
    /// As [`query_sql`](Self::query_sql), and when a column is of a type that JSON is not made of.
    pub async fn analytics_query(&self, statement: impl Into<String>) -> Result<Vec<serde_json::Value>> {
        let batches = self.query_sql(statement).await?;
        let mut writer = arrow::json::writer::WriterBuilder::new()
            .with_explicit_nulls(true)
            .build::<_, arrow::json::writer::JsonArray>(Vec::new());
        let written = batches.iter().try_for_each(|batch| writer.write(batch)).and_then(|()| writer.finish());
        written.map_err(Error::arrow("cannot make JSON of the rows"))?;
        let text = writer.into_inner();
        // Without a batch nothing is written.
        if text.is_empty() {
            return Ok(Vec::new());
        }
        serde_json::from_slice(&text).map_err(|error| PersistenceError::Backend(error.into()))
    }

    /// Does something with the database, on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Database<'_>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let place = Arc::clone(&self.place);
        self.session
            .write(move |session| {
                let session = session.0.get_mut().unwrap_or_else(PoisonError::into_inner);
                let open = match session {
                    Some(open) => open,
                    None => session.insert(place.open()?),
                };
                work(&Database { place: &place, open })
            })
            .await
    }
}

impl<R: StoredRecord> SoAPersistence<R> for DuckDBPersistence<R> {
    async fn save(&self, rows: &R::Soa) -> Result<()> {
        let rows = rows.to_record_batch();
        self.run(move |database| {
            let schema = R::table_schema();
            database.in_transaction(|| {
                database.make(&schema)?;
                database.execute(&format!("DELETE FROM {}", database.table()), &[])?;
                database.insert(&schema, &rows)
            })
        })
        .await
    }

    async fn append(&self, rows: &R::Soa) -> Result<()> {
        let rows = rows.to_record_batch();
        self.run(move |database| {
            let schema = R::table_schema();
            database.in_transaction(|| {
                database.make(&schema)?;
                database.insert(&schema, &rows)
            })
        })
        .await
    }

    async fn remove(&self, keys: &R::KeyColumn) -> Result<()>
    where
        R: KeyedRecord,
    {
        let keys = keys.to_array();
        self.run(move |database| {
            let schema = R::table_schema();
            let Some((_, key)) = database.columns(&schema)?.zip(schema.key()) else { return Ok(()) };
            let field = arrow_field(schema.field(key));
            let name = quoted(field.name());
            let batch = RecordBatch::try_new(Arc::new(ArrowSchema::new(vec![field])), vec![keys]);
            let batch = batch.map_err(Error::arrow("cannot put keys together"))?;
            let statement = format!("DELETE FROM {} WHERE {name} IN (SELECT {name} FROM {FUNCTION})", database.table());
            Ok(database.open.given.with(batch, || database.execute(&statement, &[]))?)
        })
        .await
    }

    async fn query(&self, query: impl Into<Query> + Send) -> Result<R::Soa> {
        let query = query.into();
        self.run(move |database| {
            let schema = R::table_schema();
            if let Some(predicate) = &query.predicate {
                predicate.check(&schema)?;
            }
            let batches = database.select(&schema, &query)?;
            let parts = batches.into_iter().map(R::Soa::from_record_batch).collect::<Result<Vec<_>, _>>()?;
            Ok(joined(parts))
        })
        .await
    }

    async fn count(&self) -> Result<u64> {
        self.run(|database| match database.columns(&R::table_schema())? {
            Some(_) => database.number(&format!("SELECT count(*)::BIGINT FROM {}", database.table()), &[]),
            None => Ok(0),
        })
        .await
    }

    async fn memory_stats(&self) -> Result<MemoryStats> {
        self.run(|database| {
            let rows = match database.columns(&R::table_schema())? {
                Some(_) => database.number(&format!("SELECT count(*)::BIGINT FROM {}", database.table()), &[])?,
                None => return Ok(MemoryStats::default()),
            };
            let groups = "SELECT count(DISTINCT row_group_id)::BIGINT FROM pragma_storage_info($1)";
            let groups = if rows == 0 { 0 } else { database.number(groups, &[&database.table()])? };
            Ok(MemoryStats::new(database.bytes()?, rows, groups))
        })
        .await
    }

    /// Closes the file. A database in memory stays.
    async fn close(&self) -> Result<()> {
        let is_kept = self.place.path.is_none();
        self.session
            .write(move |session| {
                let session = session.0.get_mut().unwrap_or_else(PoisonError::into_inner);
                if !is_kept {
                    *session = None;
                }
                Ok(())
            })
            .await
    }
}

impl<R> fmt::Debug for DuckDBPersistence<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Place { path, table } = &*self.place;
        f.debug_struct("DuckDBPersistence").field("path", path).field("table", table).finish_non_exhaustive()
    }
}

impl Place {
    fn open(&self) -> Result<Open> {
        let environment = ENVIRONMENT.as_ref().map_err(Clone::clone)?;
        let location = match &self.path {
            None => StorageLocation::InMemory,
            Some(path) => StorageLocation::OnDisk(
                path.to_str().ok_or_else(|| Error::argument("the path of a DuckDB database must be UTF-8"))?.to_owned(),
            ),
        };
        let connection = environment.open(location).and_then(|instance| instance.connect());
        let connection = connection.map_err(|error| self.explained(error))?;
        let given = Slot::of(&connection)?;
        Ok(Open { connection, given, columns: RefCell::default() })
    }

    /// An error of opening: that others have the file is told from others.
    fn explained(&self, error: duckdb_neo::Error) -> PersistenceError {
        let is_taken = error.code == DuckDBError::ResourceInUse
            || error.message.contains("lock on file")
            || error.message.contains("already attached")
            || error.message.contains("already open");
        match &self.path {
            Some(path) if is_taken => {
                PersistenceError::Busy(Error::Busy { path: path.clone(), message: error.message })
            }
            _ => error.into(),
        }
    }
}

/// An open database, and the table in it.
struct Database<'a> {
    place: &'a Place,
    open: &'a Open,
}

/// A column that the table has.
struct Found {
    name: String,
    type_name: String,
    is_nullable: bool,
}

impl Database<'_> {
    /// The table's name in SQL.
    fn table(&self) -> String {
        quoted(&self.place.table)
    }

    /// Runs a statement to its end.
    fn execute(&self, statement: &str, parameters: &[&dyn QueryParameter]) -> Result<(), duckdb_neo::Error> {
        self.open.connection.execute(statement, Parameters::positional(parameters)).map(drop)
    }

    /// The columns and rows that a statement gives.
    fn rows(
        &self,
        statement: &str,
        parameters: &[&dyn QueryParameter],
    ) -> Result<(Arc<ArrowSchema>, Vec<RecordBatch>), duckdb_neo::Error> {
        feed::collect(self.open.connection.arrow_query(statement, Parameters::positional(parameters), None)?)
    }

    /// The only number that a statement gives; 0 for NULL.
    fn number(&self, statement: &str, parameters: &[&dyn QueryParameter]) -> Result<u64> {
        let (_, rows) = self.rows(statement, parameters)?;
        let number = rows.first().and_then(|rows| rows.column(0).as_primitive_opt::<Int64Type>());
        let number =
            number.filter(|numbers| !numbers.is_empty() && numbers.is_valid(0)).map(|numbers| numbers.value(0));
        Ok(number.and_then(|number| u64::try_from(number).ok()).unwrap_or(0))
    }

    /// Does all of something or nothing.
    fn in_transaction<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<T> {
        self.execute("BEGIN TRANSACTION", &[])?;
        let done = work().and_then(|done| self.execute("COMMIT", &[]).map(|()| done).map_err(Into::into));
        if done.is_err() {
            self.open.columns.take();
            // A transaction that has failed may be gone by now.
            let _ = self.execute("ROLLBACK", &[]);
        }
        done
    }

    /// Which of the record's columns the table has; `None` if there is no table.
    ///
    /// # Errors
    ///
    /// When its columns are others, or its key is.
    fn columns(&self, schema: &Schema) -> Result<Option<Vec<bool>>> {
        if let Some(columns) = &*self.open.columns.borrow() {
            return Ok(Some(columns.clone()));
        }
        let has_durations = |field: &&Field| {
            field.data_type().is_nested() && field.data_type().any(&|inside| *inside == DataType::Duration)
        };
        if let Some(field) = schema.fields().iter().find(has_durations) {
            let message = "has durations inside lists, structs or maps, which DuckDB does not give back exactly";
            return Err(Error::schema(format!("the column \"{}\" {message}", field.name())).into());
        }
        let found = self.found()?;
        if found.is_empty() {
            return Ok(None);
        }
        let other = |message: String| {
            let path = self.place.path.clone().unwrap_or_else(|| ":memory:".into());
            let source = Error::mismatch(format!("the table {} {message}", self.table()));
            Err(PersistenceError::OtherTable { path, source })
        };
        let is_known = |column: &&Found| schema.index_of(&column.name).is_some();
        if let Some(unknown) = found.iter().find(|column| !is_known(column)) {
            return other(format!("has a column \"{}\", which the record has not", unknown.name));
        }
        let mut there = Vec::with_capacity(schema.len());
        for field in schema.fields() {
            let wanted = self.type_as_shown(field.data_type())?;
            let column = found.iter().find(|column| column.name == field.name());
            match column {
                None if !field.is_nullable() => {
                    return other(format!("has no column \"{}\", which must not be NULL", field.name()));
                }
                Some(column) if column.type_name != wanted => {
                    return other(format!("has {} in \"{}\"; the record has {wanted}", column.type_name, column.name));
                }
                Some(column) if column.is_nullable && !field.is_nullable() => {
                    return other(format!("allows NULL in \"{}\", and the record does not", column.name));
                }
                column => there.push(column.is_some()),
            }
        }
        let key = self.primary_key()?;
        let wanted = schema.names_of(schema.key().as_slice()).join(", ");
        if key != wanted {
            return other(format!("has the primary key ({key}); the record's is ({wanted})"));
        }
        *self.open.columns.borrow_mut() = Some(there.clone());
        Ok(Some(there))
    }

    /// A type as DuckDB shows it: of a struct's fields it quotes the names that need it.
    fn type_as_shown(&self, data_type: &DataType) -> Result<String> {
        let name = type_name(data_type);
        if !data_type.is_nested() {
            return Ok(name);
        }
        let (_, rows) = self.rows(&format!("SELECT typeof(CAST(NULL AS {name}))"), &[])?;
        Ok(rows.first().and_then(|rows| texts(rows, 0).pop()).unwrap_or(name))
    }

    fn found(&self) -> Result<Vec<Found>> {
        let (_, batches) = self.rows(
            "SELECT column_name::VARCHAR, data_type::VARCHAR, is_nullable::BOOLEAN FROM duckdb_columns() \
             WHERE database_name = current_database() AND schema_name = current_schema() \
             AND lower(table_name) = lower($1) ORDER BY column_index",
            &[&self.place.table],
        )?;
        let mut found = Vec::new();
        for batch in &batches {
            let (names, types) = (texts(batch, 0), texts(batch, 1));
            let nullable = batch.column(2).as_boolean_opt();
            for (row, (name, type_name)) in names.into_iter().zip(types).enumerate() {
                let is_nullable = nullable.is_none_or(|nullable| nullable.value(row));
                found.push(Found { name, type_name, is_nullable });
            }
        }
        Ok(found)
    }

    /// The columns of the primary key.
    fn primary_key(&self) -> Result<String> {
        let (_, batches) = self.rows(
            "SELECT array_to_string(constraint_column_names, ', ') FROM duckdb_constraints() \
             WHERE database_name = current_database() AND schema_name = current_schema() \
             AND lower(table_name) = lower($1) AND constraint_type = 'PRIMARY KEY'",
            &[&self.place.table],
        )?;
        Ok(batches.first().and_then(|batch| texts(batch, 0).pop()).unwrap_or_default())
    }

    /// Makes the table, or the columns that it lacks.
    fn make(&self, schema: &Schema) -> Result<()> {
        let Some(there) = self.columns(schema)? else {
            return Ok(self.execute(&create_table(&self.table(), schema), &[])?);
        };
        for (field, _) in schema.fields().iter().zip(there).filter(|(_, is_there)| !is_there) {
            self.open.columns.take();
            self.execute(&add_column(&self.table(), field), &[])?;
        }
        Ok(())
    }

    /// Adds rows, of a table with a key in the place of those with the same keys.
    fn insert(&self, schema: &Schema, rows: &RecordBatch) -> Result<()> {
        // DuckDB would refuse a key that comes twice.
        let rows = last_of_each_key(schema, rows)?;
        if rows.num_rows() == 0 {
            return Ok(());
        }
        let insert = if schema.key().is_some() { "INSERT OR REPLACE" } else { "INSERT" };
        let rows = plain(&rows)?;
        let statement = format!("{insert} INTO {} BY NAME SELECT * FROM {FUNCTION}", self.table());
        Ok(self.open.given.with(rows, || self.execute(&statement, &[]))?)
    }

    /// The rows that match, in the record's columns.
    fn select(&self, schema: &Schema, query: &Query) -> Result<Vec<RecordBatch>> {
        let Some(there) = self.columns(schema)? else { return Ok(Vec::new()) };
        let column = |field: &Field| match schema.index_of(field.name()).is_some_and(|at| there[at]) {
            true => quoted(field.name()),
            false => format!("CAST(NULL AS {})", type_name(field.data_type())),
        };
        let selected = schema.fields().iter().map(|field| match field.data_type() {
            // Arrow's intervals have no place for as many microseconds.
            DataType::Duration => format!("epoch_us({}) AS {}", column(field), quoted(field.name())),
            // They would come as text.
            DataType::Uuid => {
                format!("unhex(replace(CAST({} AS VARCHAR), '-', '')) AS {}", column(field), quoted(field.name()))
            }
            _ => format!("{} AS {}", column(field), quoted(field.name())),
        });
        let mut statement = format!("SELECT {} FROM {}", selected.collect::<Vec<_>>().join(", "), self.table());
        let condition = query.predicate.as_ref().map(|predicate| Condition::of(predicate, schema, &column));
        let condition = condition.unwrap_or_default();
        if !condition.sql.is_empty() {
            statement.push_str(" WHERE ");
            statement.push_str(&condition.sql);
        }
        if let Some(limit) = query.limit {
            statement.push_str(&format!(" LIMIT {}", limit.min(i64::MAX as u64)));
        }
        let parameters: Vec<&dyn QueryParameter> = condition.parameters.iter().map(AsRef::as_ref).collect();
        let (_, batches) = self.rows(&statement, &parameters)?;
        batches.iter().map(|batch| Ok(cast_batch(&durations(batch, schema)?, schema)?)).collect()
    }

    /// What the database takes: of files, or of memory.
    fn bytes(&self) -> Result<u64> {
        let Some(path) = &self.place.path else {
            return self.number("SELECT sum(memory_usage_bytes)::BIGINT FROM duckdb_memory()", &[]);
        };
        let mut log = path.clone().into_os_string();
        log.push(".wal");
        let size = |path: &Path| std::fs::metadata(path).map_or(0, |file| file.len());
        Ok(size(path) + size(Path::new(&log)))
    }
}

/// The texts of a column, whichever way Arrow holds them.
fn texts(batch: &RecordBatch, column: usize) -> Vec<String> {
    let text = cast(batch.column(column), &arrow::datatypes::DataType::Utf8);
    let text = text.as_ref().map(|text| text.as_string::<i32>().iter().map(|text| text.unwrap_or_default().to_owned()));
    text.map_or_else(|_| Vec::new(), Iterator::collect)
}

/// The same rows, with texts in the place of enums inside lists, structs and maps: DuckDB does not take all of them there.
fn plain(rows: &RecordBatch) -> Result<RecordBatch> {
    let columns = rows.columns().iter().map(|array| match array.data_type().is_nested() {
        true => cast(array, &without_dictionaries(array.data_type())),
        false => Ok(Arc::clone(array)),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(Error::arrow("cannot make texts of enums"))?;
    let fields = rows.schema_ref().fields().iter().zip(&columns);
    let fields: Vec<_> =
        fields.map(|(field, array)| field.as_ref().clone().with_data_type(array.data_type().clone())).collect();
    let plain = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns);
    Ok(plain.map_err(Error::arrow("cannot put columns together"))?)
}

/// Rows whose durations are numbers of microseconds, with durations.
fn durations(batch: &RecordBatch, schema: &Schema) -> Result<RecordBatch> {
    if schema.fields().iter().all(|field| *field.data_type() != DataType::Duration) {
        return Ok(batch.clone());
    }
    let columns = schema.fields().iter().zip(batch.columns()).map(|(field, array)| match field.data_type() {
        DataType::Duration => cast(array, &field.data_type().to_arrow()),
        _ => Ok(Arc::clone(array)),
    });
    let columns = columns.collect::<Result<Vec<_>, _>>().map_err(Error::arrow("cannot make durations"))?;
    let fields = schema.fields().iter().zip(&columns);
    let fields: Vec<_> = fields
        .map(|(field, array)| arrow::datatypes::Field::new(field.name(), array.data_type().clone(), true))
        .collect();
    let rows = RecordBatch::try_new(Arc::new(ArrowSchema::new(fields)), columns);
    Ok(rows.map_err(Error::arrow("cannot put columns together"))?)
}
