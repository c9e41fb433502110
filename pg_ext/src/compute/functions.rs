//! Functions of texts, which may come as dictionaries, and of what may be beyond a type of Postgres'.

use std::fmt;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, AsArray, Int32Array, Int64Array, UInt8Array, UInt64Array};
use arrow::datatypes::{DataType, UInt8Type, UInt64Type};
use datafusion::common::Result;
use datafusion::error::DataFusionError;
use datafusion::logical_expr::{
    ColumnarValue, Expr, ScalarFunctionArgs, ScalarUDF, ScalarUDFImpl, Signature, Volatility,
};

/// The number of an enum's variant: the key of the dictionary, which is the same in all batches of a snapshot.
pub(super) fn variant_number(values: Expr) -> Expr {
    call(Kind::VariantNumber, values)
}

/// The place of an enum's variant among their names, from its number. A place has a byte, as there are no more names.
pub(super) fn variant_rank<'a>(numbers: Expr, names: impl IntoIterator<Item = &'a str>) -> Expr {
    let names: Vec<&str> = names.into_iter().collect();
    let rank = |name: &&str| names.iter().filter(|other| *other < name).count() as u8;
    call(Kind::VariantRank { ranks: names.iter().map(rank).collect() }, numbers)
}

/// How many characters a text has.
pub(super) fn length(texts: Expr) -> Expr {
    call(Kind::Length, texts)
}

/// Integers of 64 unsigned bits as `bigint`s. `column` is their name in Postgres.
pub(super) fn bigint(values: Expr, column: &str) -> Expr {
    call(Kind::BigInt { column: column.to_owned() }, values)
}

/// A value that its type in Postgres cannot hold.
#[derive(Debug)]
pub(super) struct Beyond {
    pub(super) column: String,
    pub(super) value: u64,
}

impl fmt::Display for Beyond {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "column \"{}\" holds {}, which is beyond the range of its type", self.column, self.value)
    }
}

impl std::error::Error for Beyond {}

fn call(kind: Kind, argument: Expr) -> Expr {
    let function = TextFunction { kind, signature: Signature::any(1, Volatility::Immutable) };
    ScalarUDF::new_from_impl(function).call(vec![argument])
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Kind {
    VariantNumber,
    VariantRank { ranks: Vec<u8> },
    Length,
    BigInt { column: String },
}

#[derive(Debug, PartialEq, Eq, Hash)]
struct TextFunction {
    kind: Kind,
    signature: Signature,
}

impl ScalarUDFImpl for TextFunction {
    fn name(&self) -> &str {
        match self.kind {
            Kind::VariantNumber => "variant_number",
            Kind::VariantRank { .. } => "variant_rank",
            Kind::Length => "text_length",
            Kind::BigInt { .. } => "bigint",
        }
    }

    fn signature(&self) -> &Signature {
        &self.signature
    }

    fn return_type(&self, _arguments: &[DataType]) -> Result<DataType> {
        Ok(match self.kind {
            Kind::VariantNumber | Kind::VariantRank { .. } => DataType::UInt8,
            Kind::Length => DataType::Int32,
            Kind::BigInt { .. } => DataType::Int64,
        })
    }

    fn invoke_with_args(&self, arguments: ScalarFunctionArgs) -> Result<ColumnarValue> {
        let arrays = ColumnarValue::values_to_arrays(&arguments.args)?;
        let array = &arrays[0];
        let found = match &self.kind {
            Kind::VariantNumber => {
                let dictionary = array.as_dictionary_opt::<UInt8Type>();
                dictionary.map(|dictionary| Arc::new(dictionary.keys().clone()) as ArrayRef)
            }
            Kind::VariantRank { ranks } => {
                let rank = |number: u8| ranks.get(usize::from(number)).copied().unwrap_or_default();
                array.as_primitive_opt::<UInt8Type>().map(|numbers| {
                    let ranks: UInt8Array = numbers.unary(rank);
                    Arc::new(ranks) as ArrayRef
                })
            }
            Kind::Length => lengths(array).map(|lengths| Arc::new(lengths) as ArrayRef),
            Kind::BigInt { column } => match array.as_primitive_opt::<UInt64Type>() {
                Some(values) => Some(Arc::new(bigints(values, column)?) as ArrayRef),
                None => None,
            },
        };
        let unexpected = || DataFusionError::Internal(format!("{} is no type of texts", array.data_type()));
        Ok(ColumnarValue::Array(found.ok_or_else(unexpected)?))
    }
}

fn bigints(values: &UInt64Array, column: &str) -> Result<Int64Array> {
    let beyond = |value: u64| {
        let error = Beyond { column: column.to_owned(), value };
        DataFusionError::External(Box::new(error))
    };
    values.try_unary(|value| i64::try_from(value).map_err(|_| beyond(value)))
}

fn lengths(array: &ArrayRef) -> Option<Int32Array> {
    // No text has 2^31 bytes.
    let length = |text: &str| text.chars().count() as i32;
    if let Some(texts) = array.as_string_view_opt() {
        return Some(texts.iter().map(|text| text.map(length)).collect());
    }
    let dictionary = array.as_dictionary_opt::<UInt8Type>()?;
    let names = dictionary.values().as_string_opt::<i32>()?;
    let lengths: Vec<i32> = names.iter().map(|name| name.map_or(0, length)).collect();
    let of = |key: Option<u8>| key.and_then(|key| lengths.get(usize::from(key)).copied());
    Some(dictionary.keys().iter().map(of).collect())
}
