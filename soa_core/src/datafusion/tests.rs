//! Which predicate a filter becomes.

use arrow::datatypes::{DataType as ArrowType, TimeUnit};
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::logical_expr::Operator;
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::expressions::{BinaryExpr, Column, Literal};
use datafusion::prelude::SessionContext;

use super::*;
use crate::predicate::{CompareOp, Predicate, Scalar};
use crate::schema::{DataType, Field, Schema, Variants};

fn schema() -> Schema {
    Schema::new(vec![
        Field::nullable("i", DataType::Int32),
        Field::nullable("u", DataType::UInt64),
        Field::nullable("f", DataType::Float64),
        Field::nullable("dec", DataType::Decimal { precision: 10, scale: 2 }),
        Field::nullable("s", DataType::Utf8),
        Field::nullable("e", DataType::Enum(Variants::new(["A", "B"]).unwrap())),
        Field::nullable("b", DataType::Bool),
        Field::nullable("d", DataType::Date),
        Field::nullable("ts", DataType::Timestamp { utc: false }),
        Field::nullable("tz", DataType::Timestamp { utc: true }),
        Field::nullable("bin", DataType::Binary),
    ])
    .unwrap()
}

/// The predicate of an SQL condition, as it is when DataFusion's optimizer has seen it.
fn predicate(sql: &str) -> Option<Predicate> {
    let schema = schema();
    let columns = DFSchema::try_from(arrow_schema(&schema)).unwrap();
    let session = SessionContext::new();
    let simplifier = ExprSimplifier::new(SimplifyContext::builder().with_schema(Arc::new(columns.clone())).build());
    let expression = simplifier.coerce(session.parse_sql_expr(sql, &columns).unwrap(), &columns).unwrap();
    let expression = simplifier.simplify(expression).unwrap();
    let filter = session.create_physical_expr(expression, &columns).unwrap();
    filter::predicate_of(filter.as_ref(), &schema)
}

/// The predicate of an SQL condition, as text.
fn text(sql: &str) -> String {
    predicate(sql).map_or_else(|| "nothing is known".to_owned(), |predicate| show(&predicate))
}

fn show(predicate: &Predicate) -> String {
    let schema = schema();
    let name = |column: &usize| schema.field(*column).name().to_owned();
    let join = |parts: &[Predicate], word: &str| match parts {
        [one] => show(one),
        parts => format!("({})", parts.iter().map(show).collect::<Vec<_>>().join(word)),
    };
    match predicate {
        Predicate::And(parts) => join(parts, " and "),
        Predicate::Or(parts) => join(parts, " or "),
        Predicate::Not(part) => format!("not {}", show(part)),
        Predicate::Compare { column, op, value } => {
            let op = match op {
                CompareOp::Eq => "=",
                CompareOp::NotEq => "<>",
                CompareOp::Lt => "<",
                CompareOp::LtEq => "<=",
                CompareOp::Gt => ">",
                CompareOp::GtEq => ">=",
            };
            format!("{} {op} {value}", name(column))
        }
        Predicate::In { column, values } => {
            format!("{} in [{}]", name(column), values.iter().map(Scalar::to_string).collect::<Vec<_>>().join(", "))
        }
        Predicate::IsNull(column) => format!("{} is null", name(column)),
        Predicate::StartsWith { column, prefix } => format!("{} begins with {prefix}", name(column)),
    }
}

#[test]
fn conditions_become_predicates() {
    let mut wrong = Vec::new();
    for (sql, expected) in [
        ("i = 5", "i = 5"),
        ("5 > i", "i < 5"),
        ("i <> 5", "i <> 5"),
        ("NOT (i < 5)", "i >= 5"),
        ("i BETWEEN 3 AND 5", "(i >= 3 and i <= 5)"),
        ("i NOT BETWEEN 3 AND 5", "(i < 3 or i > 5)"),
        ("i IN (1, 2, 3, 4, 5)", "i in [1, 2, 3, 4, 5]"),
        ("i NOT IN (1, 2, 3, 4, 5)", "not i in [1, 2, 3, 4, 5]"),
        ("i IS NULL", "i is null"),
        ("i IS NOT NULL", "not i is null"),
        ("i IS NOT DISTINCT FROM 4", "i = 4"),
        ("i IS DISTINCT FROM 4", "(i is null or i <> 4)"),
        ("i = 1 AND s = 'x'", "(i = 1 and s = 'x')"),
        // What is not understood is left out of what must be so, but not of what may be so.
        ("i = 1 AND s || 'a' = 'xa'", "i = 1"),
        ("i = 1 OR s || 'a' = 'xa'", "nothing is known"),
        ("NOT (i = 1 OR s || 'a' = 'xa')", "i <> 1"),
        ("NOT (i = 1 AND s || 'a' = 'xa')", "nothing is known"),
        // Constants of other types.
        ("i > 1.5", "i >= 2"),
        ("i < 1.5", "i <= 1"),
        ("i = 1.5", "()"),
        ("i > 3000000000", "i > 3000000000"),
        ("i < 'Infinity'::double", "nothing is known"),
        ("i < 'NaN'::double", "nothing is known"),
        ("u >= 18446744073709551615", "u >= 18446744073709551615"),
        ("u > -1", "u > -1"),
        ("u = 1e19", "nothing is known"),
        ("dec = CAST(1.25 AS DECIMAL(10, 2))", "dec = 125"),
        ("dec > CAST(1.255 AS DECIMAL(20, 3))", "dec >= 126"),
        ("dec = 1.25", "dec = 125"),
        ("dec >= 1.255", "dec >= 126"),
        ("dec = 1.255", "()"),
        ("dec <> 1.255", "not dec is null"),
        ("CAST(dec AS DOUBLE) >= 1.255", "dec >= 124"),
        ("CAST(dec AS DOUBLE) = 1.255", "(dec >= 124 and dec <= 127)"),
        // NaNs with a sign are below, and -0.0 perhaps.
        ("f < 2.5", "(f < 2.5 or f = NaN)"),
        ("f <= 2.5", "(f <= 2.5 or f = NaN)"),
        ("f > 2.5", "f > 2.5"),
        ("f > 0.0", "f >= 0.0"),
        ("f < 0.0", "(f <= 0.0 or f = NaN)"),
        ("f <> 0.0", "not f is null"),
        ("f = 'NaN'::double", "f = NaN"),
        ("f < 'NaN'::double", "nothing is known"),
        ("f NOT IN (1.0, 0.0, 2.0, 3.0, 'NaN'::double)", "(not f is null and not f in [1.0, 2.0, 3.0])"),
        // Text, and enums as text.
        ("s >= 'm'", "s >= 'm'"),
        ("e = 'A'", "e = 'A'"),
        ("e IN ('A', 'B', 'C', 'D')", "e in ['A', 'B', 'C', 'D']"),
        ("s LIKE 'ab%'", "s begins with ab"),
        ("s LIKE 'a\\_b%c'", "s begins with a_b"),
        ("s NOT LIKE 'ab%'", "not s begins with ab"),
        ("s NOT LIKE 'ab%c'", "nothing is known"),
        ("s ILIKE 'ab%'", "nothing is known"),
        ("starts_with(e, 'A')", "e begins with A"),
        ("bin > X'01FF'", "bin > x'01ff'"),
        ("b", "b = true"),
        ("NOT b", "b = false"),
        ("b IS NOT TRUE", "(b is null or b <> true)"),
        ("(i > 5) IS TRUE", "i > 5"),
        ("(i > 5) IS NOT TRUE", "nothing is known"),
        // Times.
        ("d >= '1970-01-03'", "d >= 2"),
        ("d < TIMESTAMP '1970-01-03T12:00:00'", "d <= 2"),
        ("ts > '1970-01-01T00:00:01'", "ts > 1000000"),
        // DataFusion cuts such a constant to the column's unit before anything else sees it.
        ("ts > TIMESTAMP '1970-01-01T00:00:00.000001500'", "ts > 1"),
        ("tz <= TIMESTAMP '1970-01-01T00:00:01Z'", "tz <= 1000000"),
        ("CAST(ts AS DATE) = DATE '1970-01-02'", "(ts >= 0 and ts <= 259200000000)"),
        ("CAST(ts AS TIMESTAMP(0)) < to_timestamp_seconds(5)", "ts <= 6000000"),
        // Never true.
        ("i = NULL", "()"),
        ("i NOT IN (1, NULL, 2, 3, 4)", "(() and not i in [1, 2, 3, 4])"),
        // Casts that lose something.
        ("CAST(f AS FLOAT) = CAST(0.1 AS FLOAT)", "nothing is known"),
        ("CAST(s AS INT) = 5", "nothing is known"),
        ("CAST(bin AS TEXT) = 'a'", "nothing is known"),
    ] {
        let found = text(sql);
        if found != expected {
            wrong.push(format!("{sql}: {found}, not {expected}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn chains_of_any_length_are_read() {
    let differs = |n: i32| -> Arc<dyn PhysicalExpr> {
        let number = Arc::new(Literal::new(ScalarValue::Int32(Some(n))));
        Arc::new(BinaryExpr::new(Arc::new(Column::new("i", 0)), Operator::NotEq, number))
    };
    let chain = (1..100_000).fold(differs(0), |so_far, n| {
        Arc::new(BinaryExpr::new(so_far, Operator::And, differs(n))) as Arc<dyn PhysicalExpr>
    });
    let predicate = filter::predicate_of(chain.as_ref(), &schema());
    let Some(Predicate::And(parts)) = predicate else { panic!("it is a chain of AND") };
    assert_eq!(parts.len(), 100_000);
    // To drop it would take a call for each of its parts, one within the other.
    std::mem::forget(chain);
}

#[test]
fn casts_between_clocks_keep_the_value_only_in_utc() {
    let at = |zone: Option<&str>| ScalarValue::TimestampMicrosecond(Some(7), zone.map(Into::into));
    let cast = |zone: Option<&str>| ArrowType::Timestamp(TimeUnit::Microsecond, zone.map(Into::into));
    for (utc, zone, known) in [
        (false, Some("+00:00"), true),
        (false, Some("Europe/Berlin"), false),
        (true, Some("Europe/Berlin"), true),
        (true, None, true),
    ] {
        let data_type = DataType::Timestamp { utc };
        let predicate = types::compare(0, &data_type, Some(&cast(zone)), CompareOp::Eq, &at(zone));
        assert_eq!(predicate, known.then(|| Predicate::eq(0, Scalar::Int(7))), "{utc} {zone:?}");
    }
}

#[test]
fn nanoseconds_are_rounded_to_the_side_that_keeps_rows() {
    let data_type = DataType::Timestamp { utc: false };
    let cast = ArrowType::Timestamp(TimeUnit::Nanosecond, None);
    let nanos = |value| ScalarValue::TimestampNanosecond(Some(value), None);
    let compare = |op, value| types::compare(0, &data_type, Some(&cast), op, &nanos(value)).unwrap();
    let int = |op, value| Predicate::compare(0, op, Scalar::Int(value));
    assert_eq!(compare(CompareOp::Gt, 1_500), int(CompareOp::GtEq, 2));
    assert_eq!(compare(CompareOp::Lt, -1_500), int(CompareOp::LtEq, -2));
    assert_eq!(compare(CompareOp::Eq, 1_500), types::nothing());
    assert_eq!(compare(CompareOp::Eq, 2_000), int(CompareOp::Eq, 2));
}
