"""Tests of the runner itself: it passes what is right, and fails, with the place and the reason, on everything else."""

from __future__ import annotations

import pytest

import values
from engines import Native
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
