//! What is written is read, whatever the columns hold.

#![expect(clippy::single_range_in_vec_init, reason = "ranges of rows are meant")]

use std::sync::{Arc, OnceLock};

use arrow::array::{
    Array, ArrayRef, BinaryViewArray, BooleanArray, Date32Array, Decimal128Array, DictionaryArray, Float32Array,
    Float64Array, Int8Array, Int16Array, Int32Array, Int64Array, RecordBatch, StringViewArray,
    TimestampMicrosecondArray, UInt8Array, UInt16Array, UInt32Array, UInt64Array, new_null_array,
};
use parquet::arrow::ArrowWriter;
use parquet::file::metadata::ParquetMetaData;
use xxhash_rust::xxh3::xxh3_64;

use super::*;
use crate::convert::enum_dictionary;
use crate::predicate::{Bounds, Scalar};
use crate::schema::{DataType, Schema, Variants, arrow_schema};
use crate::store::io::OsBackend;
use crate::store::segment::arrow_form::encloses;
use crate::store::stats::ColumnStats;
use crate::store::{Compression, UNIT_ROWS};

const ROWS: usize = 2 * UNIT_ROWS + 777;

fn variants() -> Variants {
    Variants::new(["red", "green", "", "ultramarine and more"]).unwrap()
}

/// Columns of every type, and of every kind of values that is encoded in its own way.
pub(super) fn columns() -> Vec<Field> {
    let decimal = |precision| DataType::Decimal { precision, scale: 2 };
    vec![
        Field::new("ascending", DataType::UInt64),
        Field::nullable("text", DataType::Utf8),
        Field::new("names", DataType::Utf8),
        Field::new("bool", DataType::Bool),
        Field::nullable("maybe", DataType::Bool),
        Field::new("i8", DataType::Int8),
        Field::nullable("i16", DataType::Int16),
        Field::new("i32", DataType::Int32),
        Field::nullable("i64", DataType::Int64),
        Field::new("few", DataType::Int64),
        Field::nullable("u8", DataType::UInt8),
        Field::new("u16", DataType::UInt16),
        Field::new("u32", DataType::UInt32),
        Field::new("u64", DataType::UInt64),
        Field::nullable("f32", DataType::Float32),
        Field::new("f64", DataType::Float64),
        Field::nullable("prices", DataType::Float64),
        Field::nullable("decimal9", decimal(9)),
        Field::new("decimal18", decimal(18)),
        Field::nullable("decimal38", decimal(38)),
        Field::nullable("bytes", DataType::Binary),
        Field::new("enum", DataType::Enum(variants())),
        Field::nullable("maybe_enum", DataType::Enum(variants())),
        Field::nullable("date", DataType::Date),
        Field::new("time", DataType::Timestamp { utc: true }),
        Field::nullable("wall", DataType::Timestamp { utc: false }),
        Field::nullable("nothing", DataType::Int64),
        Field::nullable("no_text", DataType::Utf8),
    ]
}

fn random(row: usize, of: u64) -> u64 {
    xxh3_64(&[row as u64, of].map(u64::to_le_bytes).concat())
}

fn column(field: &Field) -> ArrayRef {
    let rows = 0..ROWS;
    let salt = xxh3_64(field.name().as_bytes());
    let number = |row: usize| random(row, salt);
    // Rows are NULL in runs and here and there.
    let is_null = |row: &usize| field.is_nullable() && (row / 5000 % 3 == 1 || number(*row) % 11 == 0);
    let maybe = |row: usize| (!is_null(&row)).then(|| number(row));
    let text = |number: u64| format!("{number:x} of a text that is longer than a view");
    let decimals = |digits: u32| {
        rows.clone().map(move |row| maybe(row).map(|value| i128::from(value as i64) % 10_i128.pow(digits)))
    };
    match field.name() {
        "ascending" => Arc::new(UInt64Array::from_iter_values(rows.map(|row| row as u64 * 3))),
        "text" => Arc::new(rows.map(|row| maybe(row).map(text)).collect::<StringViewArray>()),
        "names" => Arc::new(StringViewArray::from_iter_values(rows.map(|row| text(number(row) % 1000)))),
        "bool" => Arc::new(rows.map(|row| Some(number(row) % 3 == 0)).collect::<BooleanArray>()),
        "maybe" => Arc::new(rows.map(|row| maybe(row).map(|value| value % 2 == 0)).collect::<BooleanArray>()),
        "i8" => Arc::new(Int8Array::from_iter_values(rows.map(|row| number(row) as i8))),
        "i16" => Arc::new(rows.map(|row| maybe(row).map(|value| value as i16)).collect::<Int16Array>()),
        "i32" => Arc::new(Int32Array::from_iter_values(rows.map(|row| number(row) as i32))),
        "i64" => Arc::new(rows.map(|row| maybe(row).map(|value| value as i64)).collect::<Int64Array>()),
        "few" => Arc::new(Int64Array::from_iter_values(rows.map(|row| i64::MAX - (number(row) % 9) as i64))),
        "u8" => Arc::new(rows.map(|row| maybe(row).map(|value| value as u8)).collect::<UInt8Array>()),
        "u16" => Arc::new(UInt16Array::from_iter_values(rows.map(|row| number(row) as u16))),
        "u32" => Arc::new(UInt32Array::from_iter_values(rows.map(|row| number(row) as u32))),
        "u64" => Arc::new(UInt64Array::from_iter_values(rows.map(number))),
        "f32" => {
            Arc::new(rows.map(|row| maybe(row).map(|value| f32::from_bits(value as u32))).collect::<Float32Array>())
        }
        "f64" => Arc::new(Float64Array::from_iter_values(rows.map(|row| number(row) as f64 / 7.0))),
        "prices" => {
            Arc::new(rows.map(|row| maybe(row).map(|value| (value % 999) as f64 / 100.0)).collect::<Float64Array>())
        }
        "decimal9" => Arc::new(decimals(9).collect::<Decimal128Array>().with_precision_and_scale(9, 2).unwrap()),
        "decimal18" => Arc::new(decimals(18).collect::<Decimal128Array>().with_precision_and_scale(18, 2).unwrap()),
        "decimal38" => Arc::new(decimals(19).collect::<Decimal128Array>().with_precision_and_scale(38, 2).unwrap()),
        "bytes" => Arc::new(
            rows.map(|row| maybe(row).map(|value| value.to_le_bytes()[..(value % 9) as usize].to_vec()))
                .collect::<BinaryViewArray>(),
        ),
        "enum" | "maybe_enum" => {
            let keys = rows.map(|row| maybe(row).map(|value| (value % 4) as u8)).collect::<UInt8Array>();
            Arc::new(DictionaryArray::try_new(keys, enum_dictionary(&variants())).unwrap())
        }
        "date" => Arc::new(rows.map(|row| maybe(row).map(|value| value as i32 % 1_000_000)).collect::<Date32Array>()),
        "time" => {
            let times = rows.map(|row| row as i64 * 1_000_000 + (number(row) % 1_000_000) as i64);
            Arc::new(TimestampMicrosecondArray::from_iter_values(times).with_timezone("UTC"))
        }
        "wall" => Arc::new(rows.map(|row| maybe(row).map(|value| value as i64)).collect::<TimestampMicrosecondArray>()),
        _ => new_null_array(&field.data_type().to_arrow(), ROWS),
    }
}

/// Three units of rows, the last of which is not full.
pub(super) fn batches() -> Vec<RecordBatch> {
    static BATCH: OnceLock<RecordBatch> = OnceLock::new();
    let batch = BATCH.get_or_init(|| {
        let schema = Schema::new(columns()).unwrap();
        RecordBatch::try_new(arrow_schema(&schema), columns().iter().map(column).collect()).unwrap()
    });
    (0..ROWS).step_by(UNIT_ROWS).map(|at| batch.slice(at, UNIT_ROWS.min(ROWS - at))).collect()
}

/// Writes some of the columns to a file.
fn write_file(path: &Path, schema: &Schema) -> Encoded {
    let places: Vec<usize> = schema.fields().iter().map(|field| position(field.name())).collect();
    let batches: Vec<RecordBatch> = batches().iter().map(|batch| batch.project(&places).unwrap()).collect();
    let mut file = std::fs::File::create(path).unwrap();
    write(&batches, schema, schema.fields(), Compression::Zstd, &mut file).unwrap()
}

fn reopen(path: &Path, schema: &Schema, encoded: &Encoded) -> Result<ParquetForm> {
    let backend: Arc<dyn Backend> = Arc::new(OsBackend);
    ParquetForm::open(&backend, path, schema.fields(), encoded.bytes, Some(encoded.checksums.clone()))
}

/// A file of all columns, without a key.
fn unkeyed(dir: &Path) -> ParquetForm {
    let (path, schema) = (dir.join("f.parquet"), Schema::new(columns()).unwrap());
    let encoded = write_file(&path, &schema);
    reopen(&path, &schema, &encoded).unwrap()
}

/// The schema of one column, the key.
fn keyed(name: &str) -> Schema {
    Schema::new([columns()[position(name)].clone()]).unwrap().with_key(name).unwrap()
}

fn position(name: &str) -> usize {
    columns().iter().position(|field| field.name() == name).unwrap()
}

#[test]
fn rows_of_every_type_are_read_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let form = unkeyed(dir.path());
    assert_eq!(form.unit_rows(), [UNIT_ROWS as u64, UNIT_ROWS as u64, 777]);
    let all: Vec<usize> = (0..columns().len()).collect();
    for (unit, batch) in batches().iter().enumerate() {
        for (index, array) in form.columns(unit, &all).unwrap().iter().enumerate() {
            assert!(array.to_data() == batch.column(index).to_data(), "unit {unit}, {}", columns()[index].name());
        }
    }
}

#[test]
fn some_rows_are_read_as_they_were_written() {
    let dir = tempfile::tempdir().unwrap();
    let form = unkeyed(dir.path());
    let all: Vec<usize> = (0..columns().len()).collect();
    let batches = batches();
    let cases: [(usize, Vec<Range<usize>>); 6] = [
        (0, vec![0..UNIT_ROWS]),
        (0, vec![5..6]),
        (0, vec![0..1, 20_479..20_481, 61_440..61_441, UNIT_ROWS - 1..UNIT_ROWS]),
        (1, vec![30_000..50_000, 100_000..100_003]),
        (1, vec![]),
        (2, vec![0..10, 776..777]),
    ];
    // The first time whole chunks are read, to check them; afterwards pages.
    for (unit, ranges) in cases.iter().chain(&cases) {
        let arrays = form.rows(*unit, &all, ranges).unwrap();
        for (index, array) in arrays.iter().enumerate() {
            let column = batches[*unit].column(index);
            let slices: Vec<ArrayRef> = ranges.iter().map(|range| column.slice(range.start, range.len())).collect();
            let slices: Vec<&dyn Array> = slices.iter().map(|array| &**array as &dyn Array).collect();
            let name = columns()[index].name().to_owned();
            match slices.is_empty() {
                true => assert_eq!((array.len(), array.data_type()), (0, column.data_type()), "{name}"),
                false => {
                    let expected = arrow::compute::concat(&slices).unwrap();
                    assert!(array.to_data() == expected.to_data(), "unit {unit}, {name}, {ranges:?}");
                }
            }
        }
    }
}

/// Whether bounds exclude none of the values.
fn assert_enclosed(bounds: &Bounds, values: &ArrayRef, what: &str) {
    let exact = ColumnStats::of(values);
    assert_eq!(bounds.rows, values.len() as u64, "{what}");
    assert_eq!(bounds.nulls, Some(exact.nulls), "{what}");
    assert!(bounds.may_hold_nan || !exact.has_nan, "{what}");
    let claimed =
        ColumnStats { nulls: exact.nulls, min: bounds.min.clone(), max: bounds.max.clone(), has_nan: exact.has_nan };
    assert!(encloses(&claimed, &exact), "{what}: {claimed:?} for {exact:?}");
}

#[test]
fn units_and_pages_have_bounds_that_exclude_nothing_that_is_there() {
    let dir = tempfile::tempdir().unwrap();
    let form = unkeyed(dir.path());
    let all: Vec<usize> = (0..columns().len()).collect();
    for (unit, batch) in batches().iter().enumerate() {
        for (index, field) in columns().iter().enumerate() {
            assert_enclosed(&form.bounds(unit, index).unwrap(), batch.column(index), field.name());
        }
        let pages = form.pages(unit, &all).unwrap();
        assert_eq!(pages.iter().map(|pages| pages.rows.len()).sum::<usize>(), batch.num_rows());
        // Long text has pages of its own: each column is looked at alone.
        for (index, field) in columns().iter().enumerate() {
            for page in form.pages(unit, &[index]).unwrap() {
                let values = batch.column(index).slice(page.rows.start, page.rows.len());
                let what = format!("{}, rows {:?}", field.name(), page.rows);
                assert_enclosed(&form.page_bounds(unit, index, &page, 0), &values, &what);
            }
        }
    }
    let tight = ["ascending", "i8", "few", "u32", "decimal9", "decimal38", "date", "time", "enum", "bool", "text"];
    for name in tight {
        let bounds = form.bounds(1, position(name)).unwrap();
        assert!(bounds.min.is_some() && bounds.max.is_some(), "{name}");
    }
    let Some(Scalar::Int(first)) = form.bounds(1, position("ascending")).unwrap().min else { panic!("no minimum") };
    assert_eq!(first, 3 * UNIT_ROWS as i128);
    // Unsigned values from 2^63 on have another order than the file's.
    assert_eq!(form.bounds(0, position("u64")).unwrap().min, None);
}

fn value(array: &ArrayRef, row: usize) -> Scalar {
    ColumnStats::of(&array.slice(row, 1)).min.unwrap()
}

#[test]
fn every_key_passes_the_bloom_filter_of_its_unit_and_few_others_do() {
    let dir = tempfile::tempdir().unwrap();
    for name in ["names", "i32", "u32", "u64", "decimal18", "ascending", "time"] {
        let (path, schema) = (dir.path().join("f.parquet"), keyed(name));
        let form = reopen(&path, &schema, &write_file(&path, &schema)).unwrap();
        form.verify_indexes().unwrap();
        let mut passed = 0;
        for (unit, batch) in batches().iter().enumerate() {
            let keys = batch.column(position(name));
            for key in [0, 1, keys.len() / 2, keys.len() - 1].map(|row| value(keys, row)) {
                assert!(form.may_hold(unit, 0, &[&key]), "{name}: {key}");
                assert!(form.may_hold(unit, 0, &[&Scalar::Utf8("?".into()), &key]), "one of two");
                let others = (0..250).map(|salt| match &key {
                    Scalar::Int(value) => Scalar::Int(value / 2 + 1_000_000_007 * salt + 2),
                    other => Scalar::Utf8(format!("{other} {salt}")),
                });
                passed += others.filter(|other| form.may_hold(unit, 0, &[other])).count();
            }
        }
        assert!(passed < 3000 / 20, "{name}: {passed} of 3000 that are not there");
    }
    let schema = Schema::new([columns()[position("i32")].clone()]).unwrap();
    let path = dir.path().join("f.parquet");
    let form = reopen(&path, &schema, &write_file(&path, &schema)).unwrap();
    assert!(form.may_hold(0, 0, &[&Scalar::Int(1 << 40)]), "a column without filters may hold anything");
}

#[test]
fn keys_that_are_a_whole_range_have_no_bloom_filter() {
    let dir = tempfile::tempdir().unwrap();
    let field = [Field::new("id", DataType::UInt64)];
    let schema = Schema::new(field.clone()).unwrap().with_key("id").unwrap();
    let filters = |ids: Vec<u64>| {
        let path = dir.path().join("f.parquet");
        let batch = RecordBatch::try_from_iter([("id", Arc::new(UInt64Array::from(ids)) as ArrayRef)]).unwrap();
        let mut file = std::fs::File::create(&path).unwrap();
        let encoded = write(&[batch], &schema, &field, Compression::Zstd, &mut file).unwrap();
        let backend: Arc<dyn Backend> = Arc::new(OsBackend);
        let form = ParquetForm::open(&backend, &path, &field, encoded.bytes, Some(encoded.checksums)).unwrap();
        form.metadata.metadata().row_group(0).column(0).bloom_filter_offset().is_some()
    };
    assert!(!filters((1000..9000).collect()));
    assert!(!filters((0..5000).rev().collect()));
    assert!(filters((1000..9000).chain([9001]).collect()));
    assert!(filters((0..5000).map(|id| id * 2).collect()));
}

#[test]
fn damage_to_what_prunes_is_found_and_hides_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (path, schema) = (dir.path().join("f.parquet"), keyed("i32"));
    let encoded = write_file(&path, &schema);
    let good = std::fs::read(&path).unwrap();
    let form = reopen(&path, &schema, &encoded).unwrap();
    let filter = checksums::bloom_range(form.metadata.metadata().row_group(1).column(0)).unwrap();
    let keys = Arc::clone(batches()[1].column(position("i32")));
    let keys: Vec<Scalar> = (0..keys.len()).step_by(100).map(|row| value(&keys, row)).collect();
    for at in [filter.start, filter.start + 9, filter.start + 1000, filter.end - 1] {
        let mut bad = good.clone();
        bad[at as usize] ^= 0xff;
        std::fs::write(&path, &bad).unwrap();
        let form = reopen(&path, &schema, &encoded).unwrap();
        assert!(keys.iter().all(|key| form.may_hold(1, 0, &[key])), "byte {at}");
        let error = form.verify_indexes().unwrap_err().to_string();
        assert!(error.contains("Bloom filter of unit 1") && error.contains("f.parquet"), "{error}");
    }
    // The footer's checksum covers the page index as well.
    let tail = chunk_ranges(form.metadata.metadata()).iter().map(|range| range.end).max().unwrap() as usize;
    for at in (tail..good.len()).rev().step_by(37) {
        let mut bad = good.clone();
        bad[at] ^= 0x01;
        std::fs::write(&path, &bad).unwrap();
        assert!(reopen(&path, &schema, &encoded).is_err(), "byte {at} of {}", good.len());
    }
    // Where damage comes after the file was opened, no page is left out.
    std::fs::write(&path, &good).unwrap();
    let form = reopen(&path, &schema, &encoded).unwrap();
    let mut bad = good;
    bad[tail + 1] ^= 0x10;
    std::fs::write(&path, &bad).unwrap();
    assert!(form.pages(0, &[0]).is_none());
    assert_eq!(form.rows(0, &[0], &[100..200, 50_000..50_001]).unwrap()[0].len(), 101);
}

#[test]
fn a_file_that_says_nothing_of_its_values_is_read_whole() {
    use parquet::file::properties::{EnabledStatistics, WriterProperties};

    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f.parquet");
    let field = [Field::new("id", DataType::Int64)];
    let ids: Vec<i64> = (0..100_000).collect();
    let batch = RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(ids)) as ArrayRef)]).unwrap();
    let properties = WriterProperties::builder()
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_data_page_row_count_limit(10_000)
        .build();
    let file = std::fs::File::create(&path).unwrap();
    let mut writer = ArrowWriter::try_new(file, batch.schema(), Some(properties)).unwrap();
    writer.write(&batch).unwrap();
    let metadata = writer.close().unwrap();
    let content = std::fs::read(&path).unwrap();
    let chunk = chunk_ranges(&metadata)[0].clone();
    let footer = crc32c::crc32c(&content[chunk.end as usize..]);
    let known = Checksums::new(footer, [crc32c::crc32c(&content[chunk.start as usize..chunk.end as usize])]);

    let backend: Arc<dyn Backend> = Arc::new(OsBackend);
    for checksums in [Some(known), None] {
        let own = checksums.is_some();
        let form = ParquetForm::open(&backend, &path, &field, content.len() as u64, checksums).unwrap();
        let bounds = form.bounds(0, 0);
        assert_eq!(bounds.is_some(), own);
        assert!(bounds.is_none_or(|bounds| bounds == Bounds::unknown(100_000)));
        assert!(form.pages(0, &[0]).is_none());
        assert!(form.may_hold(0, 0, &[&Scalar::Int(-1)]));
        form.verify_indexes().unwrap();
        for _ in 0..2 {
            let rows = form.rows(0, &[0], &[5..7, 55_000..55_001]).unwrap();
            assert_eq!(rows[0].to_data(), Int64Array::from(vec![5, 6, 55_000]).to_data());
        }
    }
}

#[test]
fn pages_that_change_after_their_chunk_was_checked_are_found() {
    let dir = tempfile::tempdir().unwrap();
    let (path, schema) = (dir.path().join("f.parquet"), Schema::new([columns()[position("f64")].clone()]).unwrap());
    let encoded = write_file(&path, &schema);
    let form = reopen(&path, &schema, &encoded).unwrap();
    let good = std::fs::read(&path).unwrap();
    let pages = form.page_locations(0, 0).unwrap().to_vec();
    let read = |page: usize| {
        let first = pages[page].first_row_index as usize;
        form.rows(0, &[0], &[first..first + 3])
    };
    read(2).unwrap();
    let mut bad = good.clone();
    bad[pages[3].offset as usize + pages[3].compressed_page_size as usize / 2] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    let error = read(3).unwrap_err().to_string();
    assert!(error.contains("\"f64\", row group 0") && error.contains("checksum"), "{error}");
    for page in [0, 1, 2, 4, 5] {
        read(page).unwrap();
    }
    assert!(form.columns(0, &[0]).is_err());
    // A page that was never read is read by itself, and no other.
    let mut bad = good;
    bad[pages[0].offset as usize + 9] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    assert_eq!(read(3).unwrap()[0].len(), 3);
}

#[test]
fn a_footer_that_points_before_its_file_is_damaged() {
    let ids: ArrayRef = Arc::new(Int64Array::from(vec![1, 2, 3]));
    let batch = RecordBatch::try_from_iter([("id", ids)]).unwrap();
    let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), None).unwrap();
    writer.write(&batch).unwrap();
    let metadata = writer.finish().unwrap();
    assert!(has_places(&metadata));
    let group = metadata.row_group(0);
    let chunk = || group.column(0).clone().into_builder();
    for chunk in [chunk().set_dictionary_page_offset(Some(-1)), chunk().set_total_compressed_size(-1)] {
        let group = group.clone().into_builder().set_column_metadata(vec![chunk.build().unwrap()]).build().unwrap();
        assert!(!has_places(&ParquetMetaData::new(metadata.file_metadata().clone(), vec![group])));
    }
}
