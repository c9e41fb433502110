"""Random queries give the same rows on a store as on DuckDB's own table.

DuckDB copies, compares and merges parts of a plan, some by what they look like without the filters that a scan has
seen; a scan that remembers a filter too long loses rows there. So the queries scan one store several times, with
filters that differ or are missing.
"""

from __future__ import annotations

import os
import random

import pyarrow as pa
import pytest

from duckdb_support import Store, connect

QUERIES = int(os.environ.get("SOA_DIFFERENTIAL_QUERIES", "400"))
SEED = int(os.environ.get("SOA_DIFFERENTIAL_SEED", "7"))


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    """A store of eight small segments whose values lie apart, so that most filters leave some out."""
    chance = random.Random(SEED)
    parts = []
    for part in range(8):
        first = part * 100
        numbers = range(first, first + 100)
        nullable = lambda value: None if chance.random() < 0.1 else value  # noqa: E731
        parts.append(
            pa.table(
                {
                    "id": pa.array(numbers, pa.int64()),
                    "a": pa.array([nullable(n // 50) for n in numbers], pa.int32()),
                    "b": pa.array([nullable(n % 7 + part) for n in numbers], pa.uint8()),
                    "f": pa.array([nullable(n / 8) for n in numbers], pa.float64()),
                    "s": pa.array([nullable(f"{'abcdefgh'[part]}{n % 5} of part {part}") for n in numbers], pa.string()),
                    "d": pa.array([nullable(n) for n in numbers], pa.date32()),
                }
            )
        )
    store = Store(tmp_path_factory.mktemp("differential") / "rows.soa")
    store.commit(*parts)
    con = connect(threads=4)
    con.register("arrow_rows", pa.concat_tables(parts))
    con.execute("CREATE TABLE native AS FROM arrow_rows")
    return con, store


def condition(chance: random.Random, prefix: str = "", depth: int = 2) -> str:
    if depth and chance.random() < 0.45:
        parts = [condition(chance, prefix, depth - 1) for _ in range(chance.choice((2, 2, 3)))]
        joined = f" {chance.choice(('AND', 'AND', 'OR'))} ".join(f"({part})" for part in parts)
        return f"NOT ({joined})" if chance.random() < 0.2 else joined
    number = chance.randrange(-20, 820)
    op = chance.choice(("=", "<>", "<", "<=", ">", ">="))
    few = ", ".join(str(chance.randrange(0, 16)) for _ in range(3))
    return chance.choice(
        (
            f"{prefix}id {op} {number}",
            f"{prefix}id BETWEEN {number} AND {number + chance.randrange(200)}",
            f"{prefix}a {op} {number // 50}",
            f"{prefix}a IN ({few})",
            f"{prefix}a NOT IN ({few})",
            f"{prefix}a IS NULL",
            f"{prefix}b {op} {chance.randrange(-3, 20)}",
            f"{prefix}b IS NOT NULL",
            f"{prefix}f {op} {number / 8}",
            f"{prefix}s LIKE '{chance.choice('abcdefghx')}%'",
            f"{prefix}s {op} '{chance.choice('abcdefgh')}'",
            f"{prefix}d {op} DATE '1970-01-01' + {number}",
            f"{prefix}id + {prefix}a > {number}",
        )
    )


def query(chance: random.Random) -> str:
    one, two = condition(chance), condition(chance)
    column = chance.choice(("a", "b", "s", "d"))
    total = chance.choice(("count(*)", "sum(id)", "count(s)", "max(f)", "min(d)"))
    where = chance.choice(("", f"WHERE {two}"))
    return chance.choice(
        (
            f"SELECT {total} FROM t WHERE {one} UNION ALL SELECT {total} FROM t {where}",
            f"SELECT ({total.replace('(', '(x.', 1) if '*' not in total else total}) FROM t x WHERE {one}",
            f"SELECT id, {column} FROM t WHERE {one} EXCEPT SELECT id, {column} FROM t {where}",
            f"SELECT id FROM t WHERE {one} INTERSECT SELECT id FROM t {where}",
            f"SELECT id, count(*) OVER (PARTITION BY {column}), rank() OVER (PARTITION BY {column} ORDER BY id) FROM t WHERE {one}",
            f"WITH c AS (SELECT * FROM t WHERE {one}) SELECT count(*), sum(x.id) FROM c x JOIN c y ON x.id = y.id + 1",
            f"WITH c AS MATERIALIZED (SELECT * FROM t) SELECT (SELECT {total} FROM c WHERE {one}), (SELECT {total} FROM c {where})",
            f"WITH c AS (SELECT * FROM t {where}) SELECT {total} FROM c WHERE {one} UNION ALL SELECT {total} FROM c",
            f"SELECT count(*), sum(x.id) FROM t x JOIN t y USING ({column}) WHERE {condition(chance, 'x.')} AND {condition(chance, 'y.')}",
            f"SELECT count(*), sum(y.id) FROM t x LEFT JOIN t y ON x.id = y.id + 3 AND {condition(chance, 'y.')} WHERE {condition(chance, 'x.')}",
            f"SELECT count(*) FROM t WHERE {column} IN (SELECT {column} FROM t WHERE {one}) {'AND ' + two if where else ''}",
            f"SELECT count(*) FROM t x WHERE NOT EXISTS (FROM t y WHERE y.{column} = x.{column} AND {condition(chance, 'y.')})",
            f"SELECT DISTINCT ON ({column}) {column}, id FROM t WHERE {one} ORDER BY {column}, id",
            f"SELECT {column}, {total}, count(DISTINCT a) FILTER (WHERE {two}) FROM t WHERE {one} GROUP BY ALL",
            f"SELECT id, s FROM t WHERE {one} ORDER BY f DESC NULLS LAST, id LIMIT 7",
            f"SELECT (SELECT {total} FROM t WHERE {one}), (SELECT {total} FROM t WHERE {two}), (SELECT {total} FROM t)",
            f"SELECT x.id, (SELECT count(*) FROM t y WHERE y.a = x.a AND {condition(chance, 'y.')}) FROM t x WHERE {condition(chance, 'x.')}",
            f"SELECT {column}, count(*) FROM t WHERE {one} GROUP BY GROUPING SETS (({column}), ())",
            f"SELECT arg_max(id, f), {total} FROM (FROM t WHERE {one} UNION FROM t WHERE {two})",
        )
    )


def test_random_queries(session):
    con, store = session
    chance = random.Random(SEED)
    for number in range(QUERIES):
        text = query(chance)
        con.execute("CREATE OR REPLACE TEMP VIEW t AS FROM native")
        expected = sorted(map(str, con.execute(text).fetchall()))
        con.execute(f"CREATE OR REPLACE TEMP VIEW t AS FROM {store.sql}")
        assert sorted(map(str, con.execute(text).fetchall())) == expected, f"query {number}: {text}"


def test_random_prepared_queries(session):
    con, store = session
    chance = random.Random(SEED + 1)
    for number in range(QUERIES // 8):
        column, op = chance.choice((("id", ">="), ("id", "="), ("a", "<"), ("b", "="), ("id", "<>")))
        text = f"SELECT count(*), sum(id) FROM {{}} WHERE {column} {op} $1 AND ({condition(chance, depth=1)})"
        con.execute(f"PREPARE ours AS {text.format(store.sql)}")
        con.execute(f"PREPARE native_one AS {text.format('native')}")
        for value in (chance.randrange(800), chance.randrange(20), -1):
            found = con.execute(f"EXECUTE ours({value})").fetchall()
            assert found == con.execute(f"EXECUTE native_one({value})").fetchall(), f"query {number}: {text}, {value}"
        con.execute("DEALLOCATE ours; DEALLOCATE native_one")
