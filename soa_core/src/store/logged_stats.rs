//! Statistics of columns as the log has them, read by need.
//!
//! A store may have ten thousand segments and a query ask for one column: reading every bound of every column would cost
//! more than the query.

use std::fmt;
use std::sync::OnceLock;

use chrono::{DateTime, NaiveDate};
use serde::de::{DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::stats::DAYS_CE_TO_1970;
use crate::predicate::{Bounds, Scalar};
use crate::schema::{DataType, Field, Schema};

/// The `stats` of an `add`. Whatever of it cannot be read is unknown: a wrong bound would hide rows.
#[derive(Debug)]
pub(super) struct LoggedStats {
    text: String,
    /// How many rows there are; `None` if the text does not say it.
    rows: Option<u64>,
    /// By column of the schema. Made when the first is asked for.
    bounds: OnceLock<Box<[OnceLock<Bounds>]>>,
}

impl LoggedStats {
    pub(super) fn new(text: String) -> Self {
        let rows = pick(&text, None).and_then(|picked| picked.rows);
        Self { text, rows, bounds: OnceLock::new() }
    }

    /// As the log has them.
    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// How many rows there are, deleted ones included.
    pub(super) fn rows(&self) -> Option<u64> {
        self.rows
    }

    /// The bounds of a column, of which these are the statistics in every call; of no rows, where the number is not known.
    ///
    /// # Panics
    ///
    /// When there is no such column.
    pub(super) fn bounds(&self, schema: &Schema, column: usize) -> Bounds {
        let Some(rows) = self.rows else { return Bounds::unknown(0) };
        let columns = self.bounds.get_or_init(|| std::iter::repeat_with(OnceLock::new).take(schema.len()).collect());
        columns[column].get_or_init(|| self.read(schema.field(column), rows)).clone()
    }

    fn read(&self, field: &Field, rows: u64) -> Bounds {
        let picked = pick(&self.text, Some(field.name())).unwrap_or_default();
        let nulls = picked.nulls.as_ref().and_then(Value::as_u64).filter(|nulls| *nulls <= rows);
        let (min, max) = match (picked.min, picked.max) {
            (Some(min), max) => (
                bound_from_json(field.data_type(), &min, false),
                max.and_then(|max| bound_from_json(field.data_type(), &max, true)),
            ),
            (None, _) => (None, None),
        };
        let (min, max) = match (field.data_type(), min, max) {
            // Negative: values from 2^63 on, whose signed order says nothing of the unsigned one.
            (DataType::UInt64, Some(Scalar::Int(min)), _) if min < 0 => (None, None),
            (DataType::UInt64, _, Some(Scalar::Int(max))) if max < 0 => (None, None),
            (_, min, max) => (min, max),
        };
        let is_float = matches!(field.data_type(), DataType::Float32 | DataType::Float64);
        // The log has no place for a count of NaN. Our own files with one have no bounds; others' may.
        Bounds { rows, nulls, min, max, may_hold_nan: is_float }
    }
}

/// What the statistics say of all rows and of one column.
#[derive(Debug, Default)]
struct Picked {
    rows: Option<u64>,
    nulls: Option<Value>,
    min: Option<Value>,
    max: Option<Value>,
}

/// Reads the number of rows and what is said of one column, and passes over all else. `None` if the text is no JSON object.
fn pick(text: &str, column: Option<&str>) -> Option<Picked> {
    struct Whole<'a>(Option<&'a str>);

    impl<'de> Visitor<'de> for Whole<'_> {
        type Value = Picked;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("the statistics of a file")
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Picked, A::Error> {
            let mut picked = Picked::default();
            while let Some(part) = map.next_key::<Part>()? {
                match (part, self.0) {
                    (Part::NumRecords, _) => picked.rows = map.next_value::<Value>()?.as_u64(),
                    (Part::NullCount, Some(column)) => picked.nulls = map.next_value_seed(Member(column))?,
                    (Part::MinValues, Some(column)) => picked.min = map.next_value_seed(Member(column))?,
                    (Part::MaxValues, Some(column)) => picked.max = map.next_value_seed(Member(column))?,
                    _ => drop(map.next_value::<IgnoredAny>()?),
                }
            }
            Ok(picked)
        }
    }

    let mut json = serde_json::Deserializer::from_str(text);
    let picked = json.deserialize_map(Whole(column)).ok()?;
    json.end().ok().map(|()| picked)
}

#[derive(serde::Deserialize)]
#[serde(field_identifier, rename_all = "camelCase")]
enum Part {
    NumRecords,
    NullCount,
    MinValues,
    MaxValues,
    #[serde(other)]
    Other,
}

/// The member of an object that has this name.
struct Member<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for Member<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Self::Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Member<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("statistics by column")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(is_it) = map.next_key_seed(IsName(self.0))? {
            match is_it {
                true => found = Some(map.next_value()?),
                false => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }

    fn visit_unit<E>(self) -> Result<Self::Value, E> {
        Ok(None)
    }
}

/// Whether a key is this name.
struct IsName<'a>(&'a str);

impl<'de> DeserializeSeed<'de> for IsName<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<bool, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for IsName<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the name of a column")
    }

    fn visit_str<E>(self, name: &str) -> Result<bool, E> {
        Ok(name == self.0)
    }
}

fn bound_from_json(data_type: &DataType, value: &Value, is_max: bool) -> Option<Scalar> {
    match data_type {
        DataType::Date => date_from_text(value.as_str()?).map(Scalar::Int),
        DataType::Timestamp { .. } => {
            let micros = timestamp_from_text(value.as_str()?)?;
            // Other writers cut maxima to milliseconds.
            Some(Scalar::Int(if is_max { micros + 999 } else { micros }))
        }
        DataType::Decimal { scale, .. } => {
            // Through f64 other writers' bounds may be off by rounding: widen by it.
            let unscaled = value.as_f64()? * 10f64.powi(i32::from(*scale));
            let slack = unscaled.abs() * 4.0 * f64::EPSILON + 1.0;
            let widened = if is_max { (unscaled + slack).ceil() } else { (unscaled - slack).floor() };
            (widened.abs() < 1e37).then_some(Scalar::Int(widened as i128))
        }
        // The text is of the f32, which is not the f64 of the same text.
        DataType::Float32 => {
            let value = value.as_f64()? as f32;
            let widened = if is_max { value.next_up() } else { value.next_down() };
            value.is_finite().then(|| Scalar::Float(widened.into()))
        }
        DataType::Float64 => {
            // Reading decimal digits may be off by the last bits, here or in the program that wrote them.
            let value = value.as_f64().filter(|value| value.is_finite())?;
            let slack = value.abs() * 4.0 * f64::EPSILON;
            Some(Scalar::Float(if is_max { (value + slack).next_up() } else { (value - slack).next_down() }))
        }
        DataType::Utf8 | DataType::Enum(_) => value.as_str().map(|text| Scalar::Utf8(text.to_owned())),
        DataType::Int8
        | DataType::Int16
        | DataType::Int32
        | DataType::Int64
        | DataType::UInt8
        | DataType::UInt16
        | DataType::UInt32
        | DataType::UInt64
        | DataType::Time
        | DataType::Duration => value.as_i64().map(|value| Scalar::Int(value.into())),
        DataType::Bool
        | DataType::Binary
        | DataType::Uuid
        | DataType::List(_)
        | DataType::FixedList(..)
        | DataType::Struct(_)
        | DataType::Map { .. } => None,
    }
}

/// Days since 1970 of `YYYY-MM-DD`.
pub(super) fn date_from_text(text: &str) -> Option<i128> {
    let date = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok()?;
    Some(i128::from(chrono::Datelike::num_days_from_ce(&date) - DAYS_CE_TO_1970))
}

/// Microseconds since 1970 of a timestamp as Delta writes it in statistics and partition values.
pub(super) fn timestamp_from_text(text: &str) -> Option<i128> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Some(time.timestamp_micros().into());
    }
    ["%Y-%m-%dT%H:%M:%S%.f", "%Y-%m-%d %H:%M:%S%.f"]
        .iter()
        .find_map(|format| chrono::NaiveDateTime::parse_from_str(text, format).ok())
        .map(|time| time.and_utc().timestamp_micros().into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn schema() -> Schema {
        Schema::new(vec![Field::nullable("id", DataType::Int64), Field::nullable("q\"\u{e9}", DataType::Utf8)]).unwrap()
    }

    #[test]
    fn a_column_is_found_among_others_and_by_its_decoded_name() {
        let text = r#"{"numRecords":5,"minValues":{"id":-3,"other":{"id":9},"q\"\u00e9":"a"},"maxValues":{"q\"\u00e9":"b","id":7},
            "nullCount":{"q\"\u00e9":2},"tightBounds":true}"#;
        let stats = LoggedStats::new(text.to_owned());
        assert_eq!(stats.rows(), Some(5));
        let id = stats.bounds(&schema(), 0);
        assert_eq!((id.nulls, id.min, id.max), (None, Some(Scalar::Int(-3)), Some(Scalar::Int(7))));
        let text = stats.bounds(&schema(), 1);
        let scalar = |text: &str| Some(Scalar::Utf8(text.to_owned()));
        assert_eq!((text.rows, text.nulls, text.min, text.max), (5, Some(2), scalar("a"), scalar("b")));
    }

    #[test]
    fn what_cannot_be_read_is_unknown() {
        for text in
            ["", "null", "[]", "{", r#"{"numRecords":-1}"#, r#"{"numRecords":1} x"#, r#"{"minValues":{"id":1}}"#]
        {
            let stats = LoggedStats::new(text.to_owned());
            assert_eq!(stats.rows(), None, "{text}");
            assert_eq!(stats.bounds(&schema(), 0), Bounds::unknown(0), "{text}");
        }
        for text in [
            r#"{"numRecords":4,"minValues":null,"maxValues":{"id":7},"nullCount":{"id":5}}"#,
            r#"{"numRecords":4,"minValues":{"id":"x"},"maxValues":{"id":1e400}}"#,
            r#"{"numRecords":4,"minValues":[1],"nullCount":{"id":0}}"#,
        ] {
            let stats = LoggedStats::new(text.to_owned());
            let bounds = stats.bounds(&schema(), 0);
            assert_eq!((bounds.nulls, bounds.min, bounds.max), (None, None, None), "{text}");
        }
    }
}
