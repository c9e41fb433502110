//! What is pruned holds no match, whatever the columns hold.

use std::sync::{Arc, OnceLock};

use arrow::array::{
    ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array, Float64Array,
    Int16Array, Int64Array, RecordBatch, StringViewArray, TimestampMicrosecondArray, UInt8Array, UInt32Array,
    UInt64Array, new_null_array,
};
use arrow::compute::{concat, take};
use proptest::prelude::*;
use xxhash_rust::xxh3::xxh3_64;

use super::write::PAGE_ROWS;
use super::*;
use crate::convert::enum_dictionary;
use crate::predicate::{Bounds, CompareOp, Predicate, Scalar, Truth};
use crate::schema::{DataType, Schema, Variants, arrow_schema};
use crate::store::io::OsBackend;
use crate::store::{Compression, UNIT_ROWS};

/// What one page of a column has values of; `None` is NULL.
type Menu = Vec<Option<Scalar>>;

/// A unit and part of another.
const PAGES: usize = UNIT_ROWS / PAGE_ROWS + 2;

fn variants() -> Variants {
    Variants::new(["red", "green", "blue"]).unwrap()
}

fn ints<const N: usize>(values: [i128; N]) -> Menu {
    values.into_iter().map(|value| Some(Scalar::Int(value))).collect()
}

fn floats<const N: usize>(values: [f64; N]) -> Menu {
    values.into_iter().map(|value| Some(Scalar::Float(value))).collect()
}

fn texts(values: impl IntoIterator<Item = String>) -> Menu {
    values.into_iter().map(|value| Some(Scalar::Utf8(value))).collect()
}

fn bytes(values: impl IntoIterator<Item = Vec<u8>>) -> Menu {
    values.into_iter().map(|value| Some(Scalar::Binary(value))).collect()
}

fn with_null(mut menu: Menu) -> Menu {
    menu.push(None);
    menu
}

/// Columns, and what each of their pages has.
fn columns() -> Vec<(Field, Vec<Menu>)> {
    let null = || vec![None];
    let long = |last: &str| format!("{}{last}", "the same beginning, longer than any bound ".repeat(3));
    let (nan, inf) = (f64::NAN, f64::INFINITY);
    let doubles = || {
        vec![
            floats([nan]),
            floats([-0.0]),
            floats([0.0]),
            with_null(floats([nan, 1.0])),
            floats([-inf, inf, nan]),
            null(),
            floats([5.5, 6.5]),
            floats([-0.0, 0.0]),
        ]
    };
    let top = || "\u{10FFFF}".repeat(40);
    let decimal = |precision| DataType::Decimal { precision, scale: 2 };
    let unscaled = |most: i128| {
        vec![
            ints([-most, most]),
            ints([-1, 0]),
            null(),
            with_null(ints([most - 1])),
            ints([1, 300]),
            ints([-300]),
            ints([0]),
            ints([256]),
        ]
    };
    let (small, large) = (i128::from(i64::MAX), i128::from(u64::MAX));
    vec![
        (
            Field::nullable("u64", DataType::UInt64),
            vec![
                ints([0, 5]),
                ints([small + 1, large]),
                ints([small, small + 1]),
                null(),
                with_null(ints([7, 9])),
                ints([large]),
                ints([small]),
                ints([3, large - 1]),
            ],
        ),
        (Field::nullable("f64", DataType::Float64), doubles()),
        (Field::nullable("f32", DataType::Float32), doubles()),
        (
            Field::nullable("text", DataType::Utf8),
            vec![
                texts([long("a"), long("b")]),
                texts([top(), format!("{}a", top())]),
                texts([String::new()]),
                null(),
                with_null(texts(["ä".repeat(70), format!("a{}", "ä".repeat(70))])),
                texts(["Bonn".to_owned(), "Köln".to_owned()]),
                texts(["\u{D7FF}".repeat(50)]),
                texts([long(""), "z".to_owned()]),
            ],
        ),
        (
            Field::nullable("bytes", DataType::Binary),
            vec![
                bytes([vec![0xff; 90], vec![0xff; 91]]),
                bytes([Vec::new()]),
                null(),
                bytes([vec![1; 70], vec![1; 71]]),
                with_null(bytes([vec![0xfe; 64], [vec![0xff; 64], vec![1]].concat()])),
                bytes([vec![0x80, 0xff], vec![0x7f]]),
                bytes([vec![0]]),
                bytes([vec![1; 64]]),
            ],
        ),
        (
            Field::nullable("enum", DataType::Enum(variants())),
            vec![
                texts(["red".to_owned()]),
                texts(["green".to_owned(), "blue".to_owned()]),
                null(),
                with_null(texts(["blue".to_owned()])),
                texts(["blue".to_owned(), "green".to_owned(), "red".to_owned()]),
                texts(["green".to_owned()]),
                texts(["green".to_owned(), "red".to_owned()]),
                null(),
            ],
        ),
        (
            Field::nullable("bool", DataType::Bool),
            [vec![Some(true)], vec![Some(false)], vec![None], vec![Some(true), None], vec![Some(false), Some(true)]]
                .map(|menu| menu.into_iter().map(|value| value.map(Scalar::Bool)).collect::<Menu>())
                .into_iter()
                .cycle()
                .take(PAGES)
                .collect(),
        ),
        (
            Field::nullable("u8", DataType::UInt8),
            (0..8).map(|page| if page == 3 { null() } else { ints([page * 30, 255 - page]) }).collect(),
        ),
        (Field::new("u32", DataType::UInt32), (0..8).map(|page| ints([page << 29, (page << 29) + 1])).collect()),
        (Field::nullable("i16", DataType::Int16), unscaled(i128::from(i16::MAX))),
        (Field::nullable("i64", DataType::Int64), unscaled(small)),
        (Field::nullable("decimal9", decimal(9)), unscaled(999_999_999)),
        (Field::nullable("decimal18", decimal(18)), unscaled(10_i128.pow(18) - 1)),
        (Field::nullable("decimal38", decimal(38)), unscaled(10_i128.pow(38) - 1)),
        (Field::nullable("date", DataType::Date), unscaled(i128::from(i32::MAX))),
        (Field::nullable("time", DataType::Timestamp { utc: true }), unscaled(small)),
    ]
}

/// An array of one value.
fn one(data_type: &DataType, value: Option<&Scalar>) -> ArrayRef {
    match (data_type, value) {
        (_, None) => new_null_array(&data_type.to_arrow(), 1),
        (DataType::Bool, Some(Scalar::Bool(value))) => Arc::new(BooleanArray::from(vec![*value])),
        (DataType::Float64, Some(Scalar::Float(value))) => Arc::new(Float64Array::from(vec![*value])),
        (DataType::Float32, Some(Scalar::Float(value))) => Arc::new(Float32Array::from(vec![*value as f32])),
        (DataType::Utf8, Some(Scalar::Utf8(value))) => Arc::new(StringViewArray::from_iter_values([value])),
        (DataType::Binary, Some(Scalar::Binary(value))) => Arc::new(BinaryViewArray::from_iter_values([value])),
        (DataType::Enum(variants), Some(Scalar::Utf8(value))) => {
            let keys = UInt8Array::from(vec![variants.index_of(value).unwrap() as u8]);
            Arc::new(DictionaryArray::try_new(keys, enum_dictionary(variants)).unwrap())
        }
        (DataType::UInt64, Some(Scalar::Int(value))) => Arc::new(UInt64Array::from(vec![*value as u64])),
        (DataType::UInt32, Some(Scalar::Int(value))) => Arc::new(UInt32Array::from(vec![*value as u32])),
        (DataType::UInt8, Some(Scalar::Int(value))) => Arc::new(UInt8Array::from(vec![*value as u8])),
        (DataType::Int16, Some(Scalar::Int(value))) => Arc::new(Int16Array::from(vec![*value as i16])),
        (DataType::Int64, Some(Scalar::Int(value))) => Arc::new(Int64Array::from(vec![*value as i64])),
        (DataType::Date, Some(Scalar::Int(value))) => Arc::new(Date32Array::from(vec![*value as i32])),
        (DataType::Timestamp { .. }, Some(Scalar::Int(value))) => {
            Arc::new(TimestampMicrosecondArray::from(vec![*value as i64]).with_timezone("UTC"))
        }
        (DataType::Decimal { precision, scale }, Some(Scalar::Int(value))) => {
            Arc::new(Decimal128Array::from(vec![*value]).with_precision_and_scale(*precision, *scale as i8).unwrap())
        }
        (_, Some(value)) => panic!("{value} in a column of type {data_type}"),
    }
}

/// Pages of rows, each of which has any of the page's values.
fn column(field: &Field, menus: &[Menu]) -> ArrayRef {
    assert_eq!(menus.len(), PAGES, "{}", field.name());
    let pages: Vec<ArrayRef> = menus
        .iter()
        .map(|menu| {
            let values: Vec<ArrayRef> = menu.iter().map(|value| one(field.data_type(), value.as_ref())).collect();
            let values = concat(&values.iter().map(|value| &**value).collect::<Vec<_>>()).unwrap();
            let any = |row: usize| xxh3_64(&row.to_le_bytes()) as u32 % menu.len() as u32;
            take(&values, &UInt32Array::from_iter_values((0..PAGE_ROWS).map(any)), None).unwrap()
        })
        .collect();
    concat(&pages.iter().map(|page| &**page).collect::<Vec<_>>()).unwrap()
}

struct File {
    form: ParquetForm,
    batch: RecordBatch,
    /// By column, what it can be compared with.
    constants: Vec<Vec<Scalar>>,
    _dir: tempfile::TempDir,
}

/// The file, made once.
fn file() -> &'static File {
    static FILE: OnceLock<File> = OnceLock::new();
    FILE.get_or_init(|| {
        let columns = columns();
        let schema = Schema::new(columns.iter().map(|(field, _)| field.clone()).collect::<Vec<_>>()).unwrap();
        let arrays = columns.iter().map(|(field, menus)| column(field, menus)).collect();
        let batch = RecordBatch::try_new(arrow_schema(&schema), arrays).unwrap();
        let rows = batch.num_rows();
        let units: Vec<_> = (0..rows).step_by(UNIT_ROWS).map(|at| batch.slice(at, UNIT_ROWS.min(rows - at))).collect();
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f.parquet");
        let mut out = std::fs::File::create(&path).unwrap();
        let encoded = write(&units, &schema, schema.fields(), Compression::Zstd, &mut out).unwrap();
        let backend: Arc<dyn Backend> = Arc::new(OsBackend);
        let form = ParquetForm::open(&backend, &path, schema.fields(), encoded.bytes, Some(encoded.checksums)).unwrap();
        let constants = columns.iter().map(|(_, menus)| menus.iter().flatten().flatten().flat_map(near).collect());
        File { form, batch, constants: constants.collect(), _dir: dir }
    })
}

/// A value and others about as large.
fn near(value: &Scalar) -> Vec<Scalar> {
    match value {
        Scalar::Bool(_) => vec![Scalar::Bool(false), Scalar::Bool(true)],
        Scalar::Int(value) => [-1, 0, 1].map(|by| Scalar::Int(value + by)).to_vec(),
        Scalar::Float(value) => [*value, value.next_up(), value.next_down()].map(Scalar::Float).to_vec(),
        Scalar::Utf8(text) => {
            let shorter: String = text.chars().take(text.chars().count() / 2).collect();
            [text.clone(), shorter, format!("{text}\0"), format!("{text}\u{10FFFF}")].map(Scalar::Utf8).to_vec()
        }
        Scalar::Binary(bytes) => {
            let longer = |byte: u8| [&bytes[..], &[byte]].concat();
            [bytes.clone(), bytes[..bytes.len() / 2].to_vec(), longer(0), longer(255)].map(Scalar::Binary).to_vec()
        }
    }
}

fn any_predicate() -> impl Strategy<Value = Predicate> {
    let constants = &file().constants;
    let constant = move |column: usize, at: prop::sample::Index| at.get(&constants[column]).clone();
    let column = 0..constants.len();
    let op = prop::sample::select(vec![
        CompareOp::Eq,
        CompareOp::NotEq,
        CompareOp::Lt,
        CompareOp::LtEq,
        CompareOp::Gt,
        CompareOp::GtEq,
    ]);
    let at = any::<prop::sample::Index>;
    let leaf = prop_oneof![
        6 => (column.clone(), op, at())
            .prop_map(move |(column, op, at)| Predicate::compare(column, op, constant(column, at))),
        2 => (column.clone(), prop::collection::vec(at(), 1..4)).prop_map(move |(column, at)| {
            Predicate::In { column, values: at.into_iter().map(|at| constant(column, at)).collect() }
        }),
        1 => column.prop_map(Predicate::IsNull),
        1 => at().prop_map(move |at| match constant(3, at) {
            Scalar::Utf8(prefix) => Predicate::StartsWith { column: 3, prefix },
            other => panic!("{other} is no text"),
        }),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 1..3).prop_map(Predicate::And),
            prop::collection::vec(inner.clone(), 1..3).prop_map(Predicate::Or),
            inner.prop_map(|part| Predicate::Not(Box::new(part))),
        ]
    })
}

fn check(truth: Truth, matching: usize, rows: usize) -> Result<(), String> {
    if matching > 0 && !truth.can_be_true {
        return Err(format!("{matching} of {rows} rows match"));
    }
    if matching < rows && truth.is_always_true() {
        return Err(format!("only {matching} of {rows} rows match"));
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn a_unit_or_page_that_is_left_out_holds_no_match(predicate in any_predicate()) {
        let File { form, batch, .. } = file();
        let matches = predicate.select(batch, &|column| Some(column)).unwrap();
        let tested = predicate.columns();
        let mut start = 0;
        for (unit, rows) in form.unit_rows().into_iter().enumerate() {
            let rows = rows as usize;
            let truth = predicate.prune(&|column| form.bounds(unit, column).unwrap());
            let checked = check(truth, matches.slice(start, rows).true_count(), rows);
            prop_assert!(checked.is_ok(), "unit {}: {:?}", unit, checked);
            let pages = form.pages(unit, &tested).unwrap();
            prop_assert_eq!(pages.iter().map(|pages| pages.rows.len()).sum::<usize>(), rows);
            for page in pages {
                let bounds = |column: usize| -> Bounds {
                    let place = tested.iter().position(|tested| *tested == column).unwrap();
                    form.page_bounds(unit, column, &page, place)
                };
                let count = matches.slice(start + page.rows.start, page.rows.len()).true_count();
                let checked = check(predicate.prune(&bounds), count, page.rows.len());
                prop_assert!(checked.is_ok(), "unit {}, rows {:?}: {:?}", unit, page.rows, checked);
            }
            start += rows;
        }
    }
}

#[test]
fn pages_are_left_out() {
    let File { form, .. } = file();
    let kept = |predicate: &Predicate| -> Vec<usize> {
        let [column] = predicate.columns()[..] else { panic!("one column") };
        let pages = form.pages(0, &[column]).unwrap();
        let is_kept = |page: &pruning::Pages| predicate.prune(&|_| form.page_bounds(0, column, page, 0)).can_be_true;
        pages.iter().filter(|page| is_kept(page)).map(|page| page.rows.start / PAGE_ROWS).collect()
    };
    let at = |name: &str| columns().iter().position(|(field, _)| field.name() == name).unwrap();
    let eq = |name: &str, value: Scalar| kept(&Predicate::eq(at(name), value));
    // Where there is a value from 2^63 on nothing is known.
    assert_eq!(eq("u64", Scalar::Int(8)), [1, 2, 4, 5]);
    assert_eq!(eq("u32", Scalar::Int(2 << 29)), [2]);
    assert_eq!(eq("text", Scalar::Utf8("Chur".into())), [5]);
    assert_eq!(eq("enum", Scalar::Utf8("red".into())), [0, 4]);
    assert_eq!(eq("decimal38", Scalar::Int(299)), [0, 4]);
    assert_eq!(eq("time", Scalar::Int(-300)), [0, 5]);
    assert_eq!(kept(&Predicate::IsNull(at("date"))), [2, 3]);
    assert_eq!(kept(&Predicate::is_not_null(at("date"))), [0, 1, 3, 4, 5]);
}
