"""Every type comes through as it is, in every chunk, null or not."""

from __future__ import annotations

import datetime
import decimal
import math

import pyarrow as pa
import pyarrow.parquet
import pytest

from duckdb_support import Store

NAMES = ("New", "Delivered", "a name longer than twelve bytes", "größer")


def column(kind: pa.DataType, value, count: int, with_nulls: bool) -> pa.Array:
    return pa.array([None if with_nulls and i % 5 == 3 else value(i) for i in range(count)], kind)


def columns(count: int, with_nulls: bool) -> pa.Table:
    dec, day, epoch = decimal.Decimal, datetime.timedelta(days=1), datetime.date(1970, 1, 1)
    special = (math.nan, math.inf, -math.inf, -0.0, 0.5)
    texts = ("", "short", "exactly 12 b", "thirteen byte", "Straße 東京 🦆 in a longer text")
    make = {
        "b": (pa.bool_(), lambda i: i % 3 == 0),
        "i8": (pa.int8(), lambda i: i % 256 - 128),
        "i16": (pa.int16(), lambda i: i % 65536 - 32768),
        "i32": (pa.int32(), lambda i: -i),
        "i64": (pa.int64(), lambda i: -(2**63) + i),
        "u8": (pa.uint8(), lambda i: 255 - i % 256),
        "u16": (pa.uint16(), lambda i: 65535 - i % 65536),
        "u32": (pa.uint32(), lambda i: 2**32 - 1 - i),
        "u64": (pa.uint64(), lambda i: 2**64 - 1 - i),
        "f32": (pa.float32(), lambda i: special[i % 5]),
        "f64": (pa.float64(), lambda i: special[i % 5]),
        "dec4": (pa.decimal128(4, 1), lambda i: dec(i % 19999 - 9999) / 10),
        "dec9": (pa.decimal128(9, 2), lambda i: dec("-9999999.99") + i),
        "dec18": (pa.decimal128(18, 6), lambda i: dec("999999999999.999999") - i),
        "dec38": (pa.decimal128(38, 0), lambda i: dec("-99999999999999999999999999999999999999") + i),
        "s": (pa.string(), lambda i: texts[i % 5]),
        "bin": (pa.binary(), lambda i: bytes([i % 256]) * (i % 30)),
        "e": (pa.dictionary(pa.uint8(), pa.string()), lambda i: NAMES[i % 4]),
        "d": (pa.date32(), lambda i: epoch + (i - 5000) * day),
        "ts": (pa.timestamp("us"), lambda i: (i - 3000) * 86_399_999_983),
        "tz": (pa.timestamp("us", "UTC"), lambda i: (i - 3000) * 86_399_999_983),
    }
    decimal.getcontext().prec = 50
    return pa.table({name: column(kind, value, count, with_nulls) for name, (kind, value) in make.items()})


@pytest.mark.parametrize("with_nulls", [False, True])
@pytest.mark.parametrize("count", [1, 2047, 2048, 2049, 5000])
def test_every_type(con, new_store, count, with_nulls):
    store = new_store()
    table = columns(count, with_nulls)
    store.commit(table, table.slice(count // 2))
    expected = pa.concat_tables([table, table.slice(count // 2)])
    con.register("expected", expected.set_column(17, "e", expected["e"].cast(pa.string())))
    for name in table.column_names:
        found = con.execute(f'SELECT "{name}" FROM {store.sql}').fetchall()
        wanted = con.execute(f'SELECT "{name}" FROM expected').fetchall()
        # Text tells NaN from NaN and -0.0 from 0.0.
        assert str(found) == str(wanted), name
    assert str(con.execute(f"FROM {store.sql}").fetchall()) == str(con.execute("FROM expected").fetchall())


def test_declared_types(con, new_store):
    store = new_store()
    store.commit(columns(1, True))
    found = {row[0]: row[1] for row in con.execute(f"DESCRIBE FROM {store.sql}").fetchall()}
    assert found == {
        "b": "BOOLEAN",
        "i8": "TINYINT",
        "i16": "SMALLINT",
        "i32": "INTEGER",
        "i64": "BIGINT",
        "u8": "UTINYINT",
        "u16": "USMALLINT",
        "u32": "UINTEGER",
        "u64": "UBIGINT",
        "f32": "FLOAT",
        "f64": "DOUBLE",
        "dec4": "DECIMAL(4,1)",
        "dec9": "DECIMAL(9,2)",
        "dec18": "DECIMAL(18,6)",
        "dec38": "DECIMAL(38,0)",
        "s": "VARCHAR",
        "bin": "BLOB",
        "e": "VARCHAR",
        "d": "DATE",
        "ts": "TIMESTAMP",
        "tz": "TIMESTAMP WITH TIME ZONE",
    }


def test_results_outlive_the_store(con, new_store):
    """Strings are not left pointing into the store's files."""
    store = new_store()
    store.commit(columns(5000, True))
    con.execute(f"CREATE TABLE kept AS SELECT s, e, bin FROM {store.sql}")
    relation = con.sql(f"SELECT s FROM {store.sql}").to_arrow_table()
    before = con.execute("SELECT sum(hash(s, e, bin)) FROM kept").fetchone()
    for file in store.path.rglob("*.*"):
        file.unlink()
    assert con.execute("SELECT sum(hash(s, e, bin)) FROM kept").fetchone() == before
    assert relation.num_rows == 5000 and relation["s"][4].as_py() == "Straße 東京 🦆 in a longer text"


# One condition per form that the scan reads, and per form that it must not misread.
CONDITIONS = """
b | NOT b | b IS NULL | b IS NOT NULL | b = false | i8 = -5 | i8 > 1000 | i8 < -1000 | i8 <> 3 | -5 = i8 | 5 < i8
u8 = 7 AND i8 > 0 | i32 BETWEEN -10 AND -5 | i32 > -10 AND i32 <= -5 | i32 NOT BETWEEN -10 AND -5
i32 IN (-1, -2, -300) | i32 IN (-1, NULL) | i32 NOT IN (-1, -2) | i32 NOT IN (-1, NULL) | NOT (i32 IN (-1, NULL))
u64 >= 18446744073709551610 | u64 = 18446744073709551615 | u64 > 18446744073709551615 | u32 > -1
f64 = 'nan' | f64 > 1e308 | f64 = 0 | f64 < 0 | f32 >= 0.5 | f32 = 'inf' | f32 <> 'nan' | f64 IN (0.5, 'nan')
dec4 = 1.5 | dec4 > 99999 | dec9 < -9999990 | dec18 >= 999999999990.999999 | dec38 < -99999999999999999999999999999999999990
s = 'short' | s > 'short' | s LIKE 'thirteen%' | s LIKE 'th_rt%' | s LIKE '%東京%' | s LIKE 'x%' | s ILIKE 'SHORT'
starts_with(s, 'exactly') | s = '' | s IN ('short', 'nothing') | s NOT LIKE 'exactly%' | length(s) > 20 | s LIKE '100\\%%'
bin = '\\x05\\x05'::BLOB | bin > '\\x05'::BLOB | e = 'Delivered' | e = 'nothing' | e <> 'New' | e IN ('New', 'größer') | e > 'Z'
d = DATE '1970-01-01' | d > '1969-12-31' | d < TIMESTAMP '1960-01-01 12:00:00' | ts >= '1970-01-01' | ts < TIMESTAMP '1965-01-01'
tz > '1970-01-01 00:00:00+00' | tz <= TIMESTAMPTZ '1969-12-31 23:00:00-01' | ts::DATE = '1970-01-01' | d::TIMESTAMP > '1970-01-01 01:00:00'
i32 = -5 OR s = 'short' | (i32 = -5 AND abs(i8::INTEGER) > 3) OR s = 'short' | NOT (i32 = -5 OR s = 'short') | NOT (b AND i32 BETWEEN -100 AND -5)
i32 IS DISTINCT FROM -5 | i32 IS NOT DISTINCT FROM -5 | i32 IS NOT DISTINCT FROM NULL | i32 = NULL | coalesce(i32, 0) = 0
CASE WHEN b THEN i32 = -6 ELSE i8 = 4 END | i32 + 1 = -5 | i32 = i8 | i8::BIGINT = 5 | try_cast(i32 AS TINYINT)::INTEGER = -5 OR b | true | false
""".replace("\n", " | ").split(" | ")


@pytest.mark.parametrize("condition", sorted({c.strip() for c in CONDITIONS if c.strip()}))
def test_conditions(con, new_store, filled, condition):
    con.execute("CREATE TABLE native AS FROM read_parquet($1)", [str(filled.parent / "native.parquet")])
    query = "SELECT count(*), count(id), coalesce(sum(id), 0) FROM {} WHERE {}"
    expected = con.execute(query.format("native", condition)).fetchone()
    assert con.execute(query.format(f"'{filled}'", condition)).fetchone() == expected
    negated = con.execute(query.format("native", f"NOT ({condition})")).fetchone()
    assert con.execute(query.format(f"'{filled}'", f"NOT ({condition})")).fetchone() == negated


@pytest.fixture(scope="module")
def filled(tmp_path_factory):
    """A store of several segments whose values lie apart, and the same rows in a Parquet file."""
    folder = tmp_path_factory.mktemp("filled")
    store = Store(folder / "filled.soa")
    table = columns(6000, True).append_column("id", pa.array(range(6000), pa.int64()))
    parts = [table.slice(first, 1500) for first in range(0, 6000, 1500)]
    store.commit(*parts)
    plain = table.set_column(17, "e", table["e"].cast(pa.string()))
    pyarrow.parquet.write_table(plain, folder / "native.parquet")
    return store.path
