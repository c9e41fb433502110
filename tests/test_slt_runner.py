"""Tests of the runner itself: it passes what is right, and fails, with the place and the reason, on everything else."""

from __future__ import annotations

import pytest

import values
from engines import Native, PgNative
from slt_runner import Runner, SltError, parse


@pytest.fixture
def run(files):
    """Runs records on plain DuckDB."""
    runner = Runner(Native, files / "stores", files / "data")
    return lambda content, **options: runner.run(content, "test.slt", **options)


GOOD = """
# A comment.
store customers

statement ok
CREATE TABLE t AS SELECT * FROM (VALUES (2, 'b', 0.5::double), (1, '', NULL)) AS v(a, b, c)

query ITR
SELECT a, b, c FROM t ORDER BY a
----
1	(empty)	NULL
2	b	0.5

query IT rowsort pairs
SELECT a, b FROM t
----
2	b
1	(empty)

query IT rowsort pairs
SELECT a, b
FROM t
ORDER BY b DESC
----
1	(empty)
2	b

query IT valuesort
SELECT a, b FROM t
----
(empty)
1
2
b

query I
SELECT a FROM t WHERE a > 5
----

statement error does not exist
SELECT nothing FROM nowhere

query error Conversion
SELECT 'x'::int

foreach n 0 1

query I
SELECT count(*) FROM t WHERE a = 2 - ${n}
----
1

endloop

skipif native
query I
SELECT 1
----
2

onlyif duckdb
statement ok
THIS IS NOT SQL

connection second
statement ok
CREATE TEMP TABLE mine (a int)

statement error does not exist
FROM mine

query I
SELECT count(*) FROM customers
----
200
"""


def test_good_records_pass(run):
    assert run(GOOD) == 14


@pytest.mark.parametrize(
    "wrong",
    [
        "1\t(empty)\tNULL",  # a row missing
        "1\t(empty)\tNULL\n2\tb\t0.5\n3\tc\t1.0",  # a row too many
        "1\t(empty)\tNULL\n2\tb\t0.25",  # another value
        "1\t(empty)\tNULL\n2\tB\t0.5",  # another case
        "2\tb\t0.5\n1\t(empty)\tNULL",  # another order
        "1\tNULL\tNULL\n2\tb\t0.5",  # NULL for the empty string
        "1 (empty) NULL\n2 b 0.5",  # spaces for tabs
    ],
)
def test_differing_rows_fail(run, wrong):
    assert GOOD.count("1\t(empty)\tNULL\n2\tb\t0.5\n") == 1
    with pytest.raises(SltError, match=r"test\.slt:8: .*the rows differ"):
        run(GOOD.replace("1\t(empty)\tNULL\n2\tb\t0.5\n", wrong + "\n"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("query I\nSELECT 1\n----\n2\n", "expected 2"),
        ("query II\nSELECT 1\n----\n1\n", "2 columns expected, 1 came"),
        ("query I\nSELECT 1, 2\n----\n1\t2\n", "1 columns expected, 2 came"),
        ("query T\nSELECT 1\n----\n1\n", "not T"),
        ("query I\nSELECT true\n----\ntrue\n", "not I"),
        ("query R\nSELECT '1'\n----\n1\n", "not R"),
        ("query I\nSELECT 1.5\n----\n1.5\n", "not I"),
        ("query I\nSELECT nothing\n----\n1\n", "it failed"),
        ("statement ok\nSELECT nothing\n", "it failed"),
        ("statement error .*\nSELECT 1\n", "it must fail"),
        ("statement error division\nSELECT nothing\n", "does not match"),
        ("query I nosort same\nSELECT 1\n----\n1\n\nquery I nosort same\nSELECT 2\n----\n2\n", "label same"),
        ("query I rowsort\nSELECT 1\n----\n1\n1\n", "1 came"),
        ("query I\nSELECT ${NOTHING}\n----\n1\n", "unknown variable"),
        ("store nothing\n", "cannot attach"),
        ("system ok soa verify x\n", "knows only"),
        ("foreach n 1 2\n\nquery I\nSELECT ${n}\n----\n1\n\nendloop\n", r"\{'n': '2'\}"),
    ],
)
def test_wrong_results_fail(run, content, reason):
    with pytest.raises(SltError, match=reason):
        run(content)


@pytest.fixture
def run_postgres(files):
    """Runs records on plain Postgres."""
    runner = Runner(PgNative, files / "stores", files / "data")
    return lambda content: runner.run(content, "test.slt")


GOOD_ON_POSTGRES = """
store customers

query III
SELECT count(*), sum(customer_id), sum(customer_id::int) FROM customers
----
200	19900	19900

query TBX
SELECT country, name > 'Customer 1', name::bytea FROM customers WHERE customer_id IN (0, 100) ORDER BY customer_id
----
NULL	false	\\x437573746f6d657220303030
AT	true	\\x437573746f6d657220313030

query RRRD
SELECT 0.1::real, 0.1::real::float8, 5.0, TIMESTAMPTZ '2024-01-01 12:00:00+02'
----
0.1	0.10000000149011612	5.0	2024-01-01 10:00:00+00

# Beyond what Python's types hold: in DuckDB's notation.
query TTTT
SELECT DATE '0044-03-15 BC', TIMESTAMPTZ '0044-03-15 01:02:03 BC', TIMESTAMP '10000-01-01 01:02:03.5', DATE '-infinity'
----
0044-03-15 (BC)	0044-03-15 (BC) 01:02:03+00	10000-01-01 01:02:03.5	-infinity

# Byte by byte: the databases have the collation "C".
query T
SELECT v FROM (VALUES ('b'), ('B'), ('a'), ('ä')) AS t(v) ORDER BY v
----
B
a
b
ä

statement error 22012: division by zero
SELECT 1 / 0

connection second
statement ok
PREPARE mine AS SELECT 1

statement error "mine" does not exist
EXECUTE mine
"""


def test_good_records_pass_on_postgres(run_postgres):
    assert run_postgres(GOOD_ON_POSTGRES) == 9


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("query I\nSELECT 5.0\n----\n5.0\n", "not I"),
        ("query I\nSELECT 'NaN'::numeric\n----\nNaN\n", "not I"),
        ("query I\nSELECT true\n----\ntrue\n", "not I"),
        ("query R\nSELECT 5\n----\n5\n", "not R"),
        ("query D\nSELECT DATE 'infinity'\n----\ninfinity\n", "not D"),
        ("query T\nSELECT 'a'::bytea\n----\n\\x61\n", "not T"),
        ("statement error 22003\nSELECT 1 / 0\n", "does not match"),
    ],
)
def test_wrong_results_fail_on_postgres(run_postgres, content, reason):
    with pytest.raises(SltError, match=reason):
        run_postgres(content)


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("query\nSELECT 1\n----\n1\n", "one letter per column"),
        ("query Z\nSELECT 1\n----\n1\n", "one letter per column"),
        ("query I sorted label more\nSELECT 1\n----\n1\n", "a word too many"),
        ("query I\nSELECT 1\n", "has no ----"),
        ("query I\n----\n1\n", "there is no SQL"),
        ("statement ok\nSELECT 1\n----\n1\n", "a statement has no rows"),
        ("statement\nSELECT 1\n", "takes `ok` or `error"),
        ("statement maybe\nSELECT 1\n", "takes `ok` or `error"),
        ("statement error\nSELECT 1\n", "takes `ok` or `error"),
        ("statement error (\nSELECT 1\n", "not a regular expression"),
        ("halt\n", "unknown directive: halt"),
        ("hash-threshold 8\n", "unknown directive"),
        ("Query I\nSELECT 1\n----\n1\n", "unknown directive"),
        ("skipif oracle\nstatement ok\nSELECT 1\n", "unknown engine"),
        ("skipif native\n", "nothing follows skipif"),
        ("connection\nstatement ok\nSELECT 1\n", "takes one name"),
        ("foreach n 1\n", "foreach without endloop"),
        ("endloop\n", "endloop without foreach"),
        ("foreach a 1\nforeach b 1\nendloop\nendloop\n", "cannot be nested"),
        ("foreach n\nendloop\n", "takes a name and its values"),
        ("system ok rm -rf /\n", "the soa command only"),
        ("system soa import\n", "takes `ok` or"),
        ("store\n", "store takes a name"),
        ("store a b\n", "store takes a name"),
    ],
)
def test_wrong_files_are_refused(content, reason):
    with pytest.raises(SltError, match=reason):
        parse(content)


def test_write_replaces_what_is_expected(files, tmp_path):
    path = tmp_path / "a.slt"
    path.write_text("query I\nSELECT 1\n----\n7\n8\n\n# kept\nquery T\nSELECT 'b'\n----\n\n")
    Runner(Native, files / "stores", files / "data").run_file(path, write=True)
    assert path.read_text() == "query I\nSELECT 1\n----\n1\n\n# kept\nquery T\nSELECT 'b'\n----\nb\n\n"


def test_how_values_are_written():
    import datetime as dt
    from decimal import Decimal

    east = dt.timezone(dt.timedelta(hours=2))
    written = {
        "NULL": None,
        "(empty)": "",
        "true": True,
        "18446744073709551615": 2**64 - 1,
        "1.0": 1.0,
        "-0.0": -0.0,
        "NaN": float("nan"),
        "-Infinity": float("-inf"),
        "0.0000000001": Decimal("1E-10"),
        "\\x00ff": b"\x00\xff",
        "a\\tb\\\\": "a\tb\\",
        "0001-01-01": dt.date(1, 1, 1),
        "1969-12-31 23:59:59.000001": dt.datetime(1969, 12, 31, 23, 59, 59, 1),
        "2024-01-01 10:00:00+00": dt.datetime(2024, 1, 1, 12, tzinfo=east),
    }
    for text, value in written.items():
        assert values.text(value) == text
    assert values.text(0.10000000149011612, single=True) == "0.1"
    assert values.text(0.10000000149011612) == "0.10000000149011612"
    with pytest.raises(TypeError, match="no text is defined"):
        values.text(object())
