//! [`Schema`] ↔ the `metaData` action of Delta Lake, both directions (format.md, section 1).

use std::collections::HashMap;
use std::path::Path;

use delta_kernel::Snapshot as DeltaSnapshot;
use delta_kernel::schema::{DataType as DeltaType, MetadataValue, PrimitiveType, StructField, StructType};
use serde_json::{Map, Value, json};

use super::FORMAT_VERSION;
use crate::error::{Error, Result};
use crate::schema::{DataType, Field, Schema, Variants};

const FORMAT_VERSION_KEY: &str = "soa.formatVersion";
const REQUIRED_FEATURES_KEY: &str = "soa.requiredFeatures";
/// The required feature of a table with a write-ahead log.
const LOG_FEATURE: &str = "wal";
const LINEAGE_KEY: &str = "soa.walLineage";
const KEY_KEY: &str = "soa.key";
const SORT_BY_KEY: &str = "soa.sortBy";
const TYPE_KEY: &str = "soa.type";
const VARIANTS_KEY: &str = "soa.variants";
/// The names in `soa.type` of nested columns.
const ELEMENT: &str = "element";
const LENGTH: &str = "length";
const FIELDS: &str = "fields";
const KEYS: &str = "key";
const VALUES: &str = "value";
const TYPE: &str = "type";
const VARIANTS: &str = "variants";
const DELETION_VECTORS_KEY: &str = "delta.enableDeletionVectors";
const STATS_COLUMNS_KEY: &str = "delta.dataSkippingStatsColumns";

/// Delta keeps statistics of this many columns unless told otherwise; more make every commit larger.
pub(super) const STATS_COLUMNS_MAX: usize = 32;

/// The actions that make a table: `protocol` and `metaData`.
pub(super) fn creation_actions(schema: &Schema, now_ms: i64) -> Vec<Value> {
    let mut configuration = Map::new();
    configuration.insert(FORMAT_VERSION_KEY.into(), FORMAT_VERSION.to_string().into());
    if let Some(key) = schema.key() {
        configuration.insert(KEY_KEY.into(), schema.field(key).name().into());
    }
    if !schema.sort_by().is_empty() {
        configuration.insert(SORT_BY_KEY.into(), json!(schema.names_of(schema.sort_by())).to_string().into());
    }
    configuration.insert(STATS_COLUMNS_KEY.into(), stats_columns_text(schema).into());
    let metadata = json!({"metaData": {
        "id": uuid::Uuid::new_v4().to_string(),
        "format": {"provider": "parquet", "options": {}},
        "schemaString": schema_string(schema),
        "partitionColumns": schema.names_of(schema.partition_by()),
        "configuration": configuration,
        "createdTime": now_ms,
    }});
    let needs_ntz = schema.fields().iter().any(has_ntz);
    let protocol = match needs_ntz {
        false => json!({"minReaderVersion": 1, "minWriterVersion": 2}),
        true => json!({
            "minReaderVersion": 3, "minWriterVersion": 7,
            "readerFeatures": ["timestampNtz"], "writerFeatures": ["timestampNtz"],
        }),
    };
    vec![json!({"protocol": protocol}), metadata]
}

/// Whether Delta Lake has a feature for a type in the column.
fn has_ntz(field: &Field) -> bool {
    field.data_type().any(&|data_type| *data_type == DataType::Timestamp { utc: false })
}

/// The columns with statistics, as a table property.
fn stats_columns_text(schema: &Schema) -> String {
    let stats = schema.names_of(&stats_columns(schema));
    // Quoted as Delta wants column names that are more than letters, digits and underscores.
    let quoted: Vec<String> = stats.iter().map(|name| format!("`{}`", name.replace('`', "``"))).collect();
    let plain = stats.iter().all(|name| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'));
    if plain { stats.join(",") } else { quoted.join(",") }
}

/// The actions by which a table of the columns `before` has those of `after`, which extend them.
pub(super) fn extend(delta: &DeltaSnapshot, before: &Schema, after: &Schema) -> Result<Vec<Value>> {
    let mut metadata = to_json(delta, delta.table_configuration().metadata())?;
    let damaged = |message: String| Error::damaged(delta.table_root().path(), message);
    // What other writers say of their columns stays.
    let text = metadata["schemaString"].as_str().unwrap_or_default();
    let mut columns: Value = serde_json::from_str(text).map_err(|error| damaged(error.to_string()))?;
    let fields = columns["fields"].as_array_mut().ok_or_else(|| damaged("its columns are no list".to_owned()))?;
    for field in after.fields() {
        let known = before.index_of(field.name());
        match fields.iter_mut().find(|known| known["name"] == field.name()) {
            None => fields.push(field_json(field)),
            Some(_) if known.is_some_and(|known| before.field(known) == field) => {}
            Some(there) => there["metadata"][VARIANTS_KEY] = field_json(field)["metadata"][VARIANTS_KEY].clone(),
        }
    }
    metadata["schemaString"] = columns.to_string().into();
    if property(delta, STATS_COLUMNS_KEY) == Some(&stats_columns_text(before)) {
        metadata["configuration"][STATS_COLUMNS_KEY] = stats_columns_text(after).into();
    }
    let mut actions = Vec::new();
    if after.fields().iter().any(has_ntz) {
        actions.extend(with_feature(delta, "timestampNtz")?);
    }
    actions.push(json!({"metaData": metadata}));
    Ok(actions)
}

/// The protocol action by which a table uses a feature of readers and writers; none if it does already.
fn with_feature(delta: &DeltaSnapshot, feature: &str) -> Result<Option<Value>> {
    let table = delta.table_configuration();
    let protocol = to_json(delta, table.protocol())?;
    let names = |protocol: &Value, list: &str| -> Vec<String> {
        let names = protocol.get(list).and_then(Value::as_array).into_iter().flatten();
        names.filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let mut writer = names(&protocol, "writerFeatures");
    if writer.iter().any(|name| name == feature) {
        return Ok(None);
    }
    let mut reader = names(&protocol, "readerFeatures");
    if table.protocol().min_writer_version() < 7 {
        // What a table of writer version 2 or below has by its version, one with features must name.
        writer = vec!["appendOnly".to_owned(), "invariants".to_owned()];
    }
    reader.push(feature.to_owned());
    writer.push(feature.to_owned());
    Ok(Some(json!({"protocol": {
        "minReaderVersion": 3, "minWriterVersion": 7, "readerFeatures": reader, "writerFeatures": writer,
    }})))
}

/// The actions by which a table's files may have deletion vectors: `protocol` and `metaData`; none if they may already.
pub(super) fn enable_deletion_vectors(delta: &DeltaSnapshot) -> Result<Vec<Value>> {
    let mut actions: Vec<Value> = with_feature(delta, "deletionVectors")?.into_iter().collect();
    let mut metadata = to_json(delta, delta.table_configuration().metadata())?;
    if delta.metadata_configuration().get(DELETION_VECTORS_KEY).is_none_or(|value| value != "true") {
        metadata["configuration"][DELETION_VECTORS_KEY] = "true".into();
        actions.push(json!({"metaData": metadata}));
    }
    Ok(actions)
}

/// The actions by which readers of this crate look for a write-ahead log; none if they do already.
pub(super) fn enable_log(delta: &DeltaSnapshot, path: &Path) -> Result<Vec<Value>> {
    if lineage(delta, path)?.is_some() {
        return Ok(Vec::new());
    }
    let mut metadata = to_json(delta, delta.table_configuration().metadata())?;
    let configuration = &mut metadata["configuration"];
    configuration[REQUIRED_FEATURES_KEY] = json!([LOG_FEATURE]).to_string().into();
    configuration[LINEAGE_KEY] = uuid::Uuid::new_v4().to_string().into();
    // A table of another writer becomes one of this format.
    configuration[FORMAT_VERSION_KEY] = FORMAT_VERSION.to_string().into();
    Ok(vec![json!({"metaData": metadata})])
}

/// The actions by which a table property has a value, or none; none if that is so already.
pub(super) fn set_property(delta: &DeltaSnapshot, key: &str, value: Option<&str>) -> Result<Vec<Value>> {
    if property(delta, key) == value {
        return Ok(Vec::new());
    }
    let mut metadata = to_json(delta, delta.table_configuration().metadata())?;
    match (value, metadata["configuration"].as_object_mut()) {
        (Some(value), _) => metadata["configuration"][key] = value.into(),
        (None, Some(configuration)) => drop(configuration.remove(key)),
        (None, None) => {}
    }
    Ok(vec![json!({"metaData": metadata})])
}

/// The actions by which a table has the columns of another version of it; none if it has them already.
pub(super) fn with_columns_of(delta: &DeltaSnapshot, other: &DeltaSnapshot) -> Result<Vec<Value>> {
    let mut metadata = to_json(delta, delta.table_configuration().metadata())?;
    let before = metadata.clone();
    let there = to_json(other, other.table_configuration().metadata())?;
    for part in ["schemaString", "partitionColumns"] {
        metadata[part] = there[part].clone();
    }
    for key in [KEY_KEY, SORT_BY_KEY, STATS_COLUMNS_KEY] {
        match (there["configuration"].get(key), metadata["configuration"].as_object_mut()) {
            (Some(value), _) => metadata["configuration"][key] = value.clone(),
            (None, Some(configuration)) => drop(configuration.remove(key)),
            (None, None) => {}
        }
    }
    Ok(if metadata == before { Vec::new() } else { vec![json!({"metaData": metadata})] })
}

/// The actions that make a table of the same columns and properties, without a write-ahead log.
pub(super) fn copied_table(delta: &DeltaSnapshot, with_vectors: bool, now_ms: i64) -> Result<Vec<Value>> {
    let mut protocol = json!({"protocol": to_json(delta, delta.table_configuration().protocol())?});
    let mut metadata = json!({"metaData": to_json(delta, delta.table_configuration().metadata())?});
    for action in if with_vectors { enable_deletion_vectors(delta)? } else { Vec::new() } {
        match action.get("protocol").is_some() {
            true => protocol = action,
            false => metadata = action,
        }
    }
    let table = &mut metadata["metaData"];
    table["id"] = uuid::Uuid::new_v4().to_string().into();
    table["createdTime"] = now_ms.into();
    if let Some(configuration) = table["configuration"].as_object_mut() {
        configuration.remove(LINEAGE_KEY);
        // There is no other feature that a table of this format could need.
        configuration.remove(REQUIRED_FEATURES_KEY);
    }
    Ok(vec![protocol, metadata])
}

/// The value of a table property.
pub(super) fn property<'a>(delta: &'a DeltaSnapshot, key: &str) -> Option<&'a str> {
    delta.metadata_configuration().get(key).map(String::as_str)
}

/// The lineage of the table's write-ahead log, if it has one.
pub(super) fn lineage(delta: &DeltaSnapshot, path: &Path) -> Result<Option<uuid::Uuid>> {
    let configuration = delta.metadata_configuration();
    let Some(lineage) = configuration.get(LINEAGE_KEY) else { return Ok(None) };
    let parsed = lineage.parse().map_err(|_| Error::Unsupported {
        path: path.to_owned(),
        message: format!("the table property {LINEAGE_KEY} is not a UUID: {lineage}"),
    })?;
    Ok(Some(parsed))
}

/// Columns as a text, from which [`fields_from_text`] makes them.
pub(super) fn fields_to_text(schema: &Schema) -> String {
    schema_string(schema)
}

/// The columns of a text of [`fields_to_text`] in the file `path`.
///
/// # Errors
///
/// When it is none, or names types that this release does not know.
pub(super) fn fields_from_text(path: &Path, text: &str) -> Result<Vec<Field>> {
    let parsed: StructType =
        serde_json::from_str(text).map_err(|error| Error::damaged(path, format!("its columns: {error}")))?;
    parsed.fields().map(|field| read_field(path, field)).collect()
}

fn to_json(delta: &DeltaSnapshot, action: &impl serde::Serialize) -> Result<Value> {
    serde_json::to_value(action).map_err(|error| Error::damaged(delta.table_root().path(), error.to_string()))
}

/// The actions by which deletion vectors are no longer written; none if that is so already.
pub(super) fn disable_deletion_vectors(delta: &DeltaSnapshot) -> Result<Vec<Value>> {
    if rewrites_files(delta) {
        return Ok(Vec::new());
    }
    let mut metadata = to_json(delta, delta.table_configuration().metadata())?;
    metadata["configuration"][DELETION_VECTORS_KEY] = "false".into();
    Ok(vec![json!({"metaData": metadata})])
}

/// Whether files are rewritten without their deleted rows, for readers that know no deletion vectors.
pub(super) fn rewrites_files(delta: &DeltaSnapshot) -> bool {
    delta.metadata_configuration().get(DELETION_VECTORS_KEY).is_some_and(|value| value == "false")
}

/// The columns of which the log has statistics: key, sort and time columns first.
pub(super) fn stats_columns(schema: &Schema) -> Vec<usize> {
    let time = |index: &usize| matches!(schema.field(*index).data_type(), DataType::Timestamp { .. } | DataType::Date);
    let first = schema.key().into_iter().chain(schema.sort_by().iter().copied()).chain((0..schema.len()).filter(time));
    let mut columns = Vec::new();
    for column in first.chain(0..schema.len()) {
        let has_bounds = !schema.field(column).data_type().is_nested();
        if has_bounds && !columns.contains(&column) && !schema.partition_by().contains(&column) {
            columns.push(column);
        }
    }
    columns.truncate(STATS_COLUMNS_MAX);
    columns
}

fn schema_string(schema: &Schema) -> String {
    let fields: Vec<Value> = schema.fields().iter().map(field_json).collect();
    json!({"type": "struct", "fields": fields}).to_string()
}

fn field_json(field: &Field) -> Value {
    let mut metadata = Map::new();
    if let Some(name) = type_name(field.data_type()) {
        metadata.insert(TYPE_KEY.into(), name.into());
    } else if let Some(types) = types_inside(field.data_type()) {
        metadata.insert(TYPE_KEY.into(), types.to_string().into());
    }
    if let DataType::Enum(variants) = field.data_type() {
        metadata.insert(VARIANTS_KEY.into(), json!(variants.names()).to_string().into());
    }
    json!({
        "name": field.name(),
        "type": delta_type(field.data_type()),
        "nullable": field.is_nullable(),
        "metadata": metadata,
    })
}

fn delta_type(data_type: &DataType) -> Value {
    let name = match data_type {
        DataType::Bool => "boolean",
        DataType::Int8 => "byte",
        DataType::Int16 | DataType::UInt8 => "short",
        DataType::Int32 | DataType::UInt16 => "integer",
        DataType::Int64 | DataType::UInt32 | DataType::UInt64 | DataType::Time | DataType::Duration => "long",
        DataType::Float32 => "float",
        DataType::Float64 => "double",
        DataType::Decimal { precision, scale } => return format!("decimal({precision},{scale})").into(),
        DataType::Utf8 | DataType::Enum(_) => "string",
        DataType::Binary | DataType::Uuid => "binary",
        DataType::Date => "date",
        DataType::Timestamp { utc: true } => "timestamp",
        DataType::Timestamp { utc: false } => "timestamp_ntz",
        DataType::List(element) | DataType::FixedList(element, _) => {
            let contains_null = element.is_nullable();
            return json!({
                "type": "array", "elementType": delta_type(element.data_type()), "containsNull": contains_null,
            });
        }
        DataType::Struct(fields) => {
            let field = |field: &Field| {
                json!({
                    "name": field.name(), "type": delta_type(field.data_type()), "nullable": field.is_nullable(),
                    "metadata": {},
                })
            };
            return json!({"type": "struct", "fields": fields.iter().map(field).collect::<Vec<_>>()});
        }
        DataType::Map { key, value } => {
            return json!({
                "type": "map", "keyType": delta_type(key.data_type()), "valueType": delta_type(value.data_type()),
                "valueContainsNull": value.is_nullable(),
            });
        }
    };
    name.into()
}

/// What Delta's type of a column does not tell of the types inside it (format.md, section 1); `None` if that is nothing.
fn types_inside(data_type: &DataType) -> Option<Value> {
    let mut types = Map::new();
    let mut add = |name: &str, field: &Field| {
        if let Some(inside) = types_inside(field.data_type()) {
            types.insert(name.into(), inside);
        }
    };
    match data_type {
        DataType::List(element) => add(ELEMENT, element),
        DataType::FixedList(element, len) => {
            add(ELEMENT, element);
            types.insert(LENGTH.into(), (*len).into());
        }
        DataType::Struct(fields) => {
            let mut inside = Map::new();
            for field in fields.iter() {
                if let Some(types) = types_inside(field.data_type()) {
                    inside.insert(field.name().into(), types);
                }
            }
            if !inside.is_empty() {
                types.insert(FIELDS.into(), inside.into());
            }
        }
        DataType::Map { key, value } => {
            add(KEYS, key);
            add(VALUES, value);
        }
        other => {
            types.insert(TYPE.into(), type_name(other)?.into());
            if let DataType::Enum(variants) = other {
                types.insert(VARIANTS.into(), variants.names().into());
            }
        }
    }
    (!types.is_empty()).then(|| types.into())
}

/// The value of `soa.type`, where Delta's type does not tell the column's.
fn type_name(data_type: &DataType) -> Option<&'static str> {
    match data_type {
        DataType::UInt8 => Some("u8"),
        DataType::UInt16 => Some("u16"),
        DataType::UInt32 => Some("u32"),
        DataType::UInt64 => Some("u64"),
        DataType::Enum(_) => Some("enum"),
        DataType::Time => Some("time"),
        DataType::Duration => Some("duration"),
        DataType::Uuid => Some("uuid"),
        DataType::Bool
        | DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::Float32
        | DataType::Float64
        | DataType::Decimal { .. }
        | DataType::Utf8
        | DataType::Binary
        | DataType::Date
        | DataType::Timestamp { .. }
        | DataType::List(_)
        | DataType::FixedList(..)
        | DataType::Struct(_)
        | DataType::Map { .. } => None,
    }
}

/// The schema that a table's metadata describes.
///
/// # Errors
///
/// When the table needs what this version does not know, or a column has no counterpart.
pub(super) fn read(
    path: &Path,
    delta: &StructType,
    partition_by: &[String],
    configuration: &HashMap<String, String>,
) -> Result<Schema> {
    let refuse = |message: String| Error::Unsupported { path: path.to_owned(), message };
    if let Some(version) = configuration.get(FORMAT_VERSION_KEY)
        && version.parse::<u32>().ok().is_none_or(|version| version > FORMAT_VERSION)
    {
        return Err(refuse(format!(
            "its format version is {version}, this release knows version {FORMAT_VERSION}; use a newer release"
        )));
    }
    let list = |key: &str| -> Result<Vec<String>> {
        let Some(text) = configuration.get(key) else { return Ok(Vec::new()) };
        serde_json::from_str(text)
            .map_err(|_| refuse(format!("the table property {key} is not a list of names: {text}")))
    };
    if let Some(feature) = list(REQUIRED_FEATURES_KEY)?.iter().find(|feature| *feature != LOG_FEATURE) {
        return Err(refuse(format!(
            "it needs the feature \"{feature}\", which this release does not know; use a newer release"
        )));
    }
    let fields = delta.fields().map(|field| read_field(path, field)).collect::<Result<Vec<_>>>()?;
    let mut schema = Schema::new(fields)?.with_partition_by(partition_by)?.with_sort_by(&list(SORT_BY_KEY)?)?;
    if let Some(key) = configuration.get(KEY_KEY) {
        schema = schema.with_key(key)?;
    }
    Ok(schema)
}

fn read_field(path: &Path, field: &StructField) -> Result<Field> {
    let text = |key: &str| match field.metadata().get(key) {
        Some(MetadataValue::String(value)) => Some(value.as_str()),
        _ => None,
    };
    if field.metadata().contains_key(TYPE_KEY) && text(TYPE_KEY).is_none() {
        let message = format!("the {TYPE_KEY} of column \"{}\" is no text", field.name());
        return Err(Error::Unsupported { path: path.to_owned(), message });
    }
    let reader = TypeReader { path, column: field.name() };
    let data_type = match (text(TYPE_KEY), field.data_type()) {
        (name, DeltaType::Primitive(_)) => {
            let variants = text(VARIANTS_KEY).and_then(|names| serde_json::from_str::<Vec<String>>(names).ok());
            reader.primitive(field.data_type(), name, variants)?
        }
        (None, nested) => reader.read(nested, &Value::Null)?,
        (Some(types), nested) => {
            let types = serde_json::from_str(types).map_err(|_| reader.unknown(types, nested))?;
            reader.read(nested, &types)?
        }
    };
    Ok(Field::new(field.name(), data_type).with_nullable(field.is_nullable()))
}

/// Reads the type of a column.
struct TypeReader<'a> {
    path: &'a Path,
    column: &'a str,
}

impl TypeReader<'_> {
    fn unknown(&self, name: &str, delta: &DeltaType) -> Error {
        let message = format!(
            "column \"{}\" is declared as \"{name}\" over {delta}, which this release does not know; use a newer release",
            self.column
        );
        Error::Unsupported { path: self.path.to_owned(), message }
    }

    /// The type that is Delta's type and what [`types_inside`] says, or null where that is nothing.
    fn read(&self, delta: &DeltaType, types: &Value) -> Result<DataType> {
        let known: &[&str] = match delta {
            DeltaType::Array(_) => &[ELEMENT, LENGTH],
            DeltaType::Struct(_) => &[FIELDS],
            DeltaType::Map(_) => &[KEYS, VALUES],
            _ => &[TYPE, VARIANTS],
        };
        let unknown = || self.unknown(&types.to_string(), delta);
        let no_entries = Map::new();
        let entries = if types.is_null() { &no_entries } else { types.as_object().ok_or_else(unknown)? };
        if entries.keys().any(|entry| !known.contains(&entry.as_str())) {
            return Err(unknown());
        }
        Ok(match delta {
            DeltaType::Array(array) => {
                let element = self.read(array.element_type(), &types[ELEMENT])?;
                match &types[LENGTH] {
                    Value::Null => DataType::list(element, array.contains_null()),
                    length => {
                        let length =
                            length.as_u64().and_then(|length| u32::try_from(length).ok()).ok_or_else(unknown)?;
                        DataType::fixed_list(element, array.contains_null(), length)
                    }
                }
            }
            DeltaType::Struct(inside) => {
                let named = match &types[FIELDS] {
                    Value::Null => &no_entries,
                    fields => fields.as_object().ok_or_else(unknown)?,
                };
                if named.keys().any(|name| inside.field(name).is_none()) {
                    return Err(unknown());
                }
                let field = |field: &StructField| -> Result<Field> {
                    let data_type = self.read(field.data_type(), &types[FIELDS][field.name()])?;
                    Ok(Field::new(field.name(), data_type).with_nullable(field.is_nullable()))
                };
                DataType::Struct(inside.fields().map(field).collect::<Result<_>>()?)
            }
            DeltaType::Map(map) => {
                let key = self.read(map.key_type(), &types[KEYS])?;
                let value = self.read(map.value_type(), &types[VALUES])?;
                DataType::map(key, value, map.value_contains_null())
            }
            primitive => {
                let name = types[TYPE].as_str();
                if name.is_none() && !entries.is_empty() {
                    return Err(unknown());
                }
                let names = match &types[VARIANTS] {
                    Value::Null => None,
                    names => Some(serde_json::from_value::<Vec<String>>(names.clone()).map_err(|_| unknown())?),
                };
                self.primitive(primitive, name, names)?
            }
        })
    }

    /// The type of values that have no others inside, by its name where Delta's type does not tell it.
    fn primitive(&self, delta: &DeltaType, name: Option<&str>, variants: Option<Vec<String>>) -> Result<DataType> {
        let unsupported = || Error::UnsupportedType { column: self.column.to_owned(), found: delta.to_string() };
        let DeltaType::Primitive(primitive) = delta else { return Err(unsupported()) };
        Ok(match (name, primitive) {
            (Some("u8"), PrimitiveType::Short) => DataType::UInt8,
            (Some("u16"), PrimitiveType::Integer) => DataType::UInt16,
            (Some("u32"), PrimitiveType::Long) => DataType::UInt32,
            (Some("u64"), PrimitiveType::Long) => DataType::UInt64,
            (Some("time"), PrimitiveType::Long) => DataType::Time,
            (Some("duration"), PrimitiveType::Long) => DataType::Duration,
            (Some("uuid"), PrimitiveType::Binary) => DataType::Uuid,
            (Some("enum"), PrimitiveType::String) => {
                let names = variants.ok_or_else(|| Error::Unsupported {
                    path: self.path.to_owned(),
                    message: format!("the enum column \"{}\" has no list of variants in its metadata", self.column),
                })?;
                DataType::Enum(Variants::new(names)?)
            }
            (Some(other), _) => return Err(self.unknown(other, delta)),
            (None, PrimitiveType::Boolean) => DataType::Bool,
            (None, PrimitiveType::Byte) => DataType::Int8,
            (None, PrimitiveType::Short) => DataType::Int16,
            (None, PrimitiveType::Integer) => DataType::Int32,
            (None, PrimitiveType::Long) => DataType::Int64,
            (None, PrimitiveType::Float) => DataType::Float32,
            (None, PrimitiveType::Double) => DataType::Float64,
            (None, PrimitiveType::Decimal(decimal)) => {
                DataType::Decimal { precision: decimal.precision(), scale: decimal.scale() }
            }
            (None, PrimitiveType::String) => DataType::Utf8,
            (None, PrimitiveType::Binary) => DataType::Binary,
            (None, PrimitiveType::Date) => DataType::Date,
            (None, PrimitiveType::Timestamp) => DataType::Timestamp { utc: true },
            (None, PrimitiveType::TimestampNtz) => DataType::Timestamp { utc: false },
            (None, _) => return Err(unsupported()),
        })
    }
}
