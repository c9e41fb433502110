"""What the store sorts, and the first rows that it finds, are what Postgres finds in a copy of the rows in a table of the
heap: by every column that can be sorted by, of rows and of groups.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

import psycopg
import pytest

from pg_support import Database, error, plan, rows, scans
from pg_twins import STORES, same
from test_pg_aggregates import QUERIES, SEED, all_columns, columns

DIRECTIONS = ("", "DESC", "NULLS FIRST", "DESC NULLS LAST")
LIMITS = ("", "LIMIT 3", "LIMIT 4 OFFSET 2", "LIMIT 0", "LIMIT ALL OFFSET 3", "LIMIT NULL", "LIMIT 1000 OFFSET 10000")
SORTED = {
    **{store: all_columns(store) for store in ("types", "types_parquet", "types_required", "floats", "days", "sorted")},
    **{store: all_columns(store) for store in ("rust_types", "orders", "orders_by_status")},
    "types": [*all_columns("types"), "tm", "uid"],
}


@pytest.fixture
def session(copied: Database) -> Iterator[psycopg.Connection]:
    with copied.connect() as connection:
        yield connection


def ordered(query: str) -> str:
    """A query for one text: the rows of a query, as they come."""
    return f"SELECT string_agg(x::text, ';') FROM ({query}) x"


def sorted_columns(session: psycopg.Connection, store: str) -> list[str]:
    """Those of the columns to sort by that this store has."""
    listed = "SELECT attname FROM pg_attribute WHERE attrelid = %s::regclass AND attnum > 0"
    known = [name for (name,) in rows(session, listed, (f"stored.{store}",))]
    return [column for column in SORTED[store] if column in known]


def pushed(session: psycopg.Connection, query: str) -> str:
    """What the store computes, if it computes all of a query."""
    top = plan(session, query)
    return top.get("SoA Computes", "") if top["Node Type"] == "Foreign Scan" else ""


@pytest.mark.parametrize("store", SORTED)
def test_each_column(session, store: str):
    key = STORES[store]
    queries = []
    for column in sorted_columns(session, store):
        for direction in DIRECTIONS:
            assert f"ORDER BY {column}" in pushed(session, f"SELECT * FROM stored.{store} ORDER BY {column} LIMIT 3")
            for limit in LIMITS:
                queries.append(ordered(f"SELECT * FROM stored.{store} ORDER BY {column} {direction}, {key} {limit}"))
            queries.append(ordered(f"SELECT {column} FROM stored.{store} ORDER BY {column} {direction} LIMIT 5"))
            queries.append(ordered(f"SELECT {key} FROM stored.{store} ORDER BY 1 DESC, {column} {direction} LIMIT 7"))
    same(session, queries)


def test_groups(session):
    queries = []
    for store in ("types", "types_parquet", "rust_types", "orders_by_status"):
        key = STORES[store]
        values = [f"sum({column})" for column in columns(store, "numbers")]
        values += [f"max({column})" for column in sorted_columns(session, store) if column not in ("b", "bin", "uid")]
        values += ["count(*)", f"avg({key})", f"count(DISTINCT {key})"]
        for group in all_columns(store):
            for value in values:
                rest = f"GROUP BY {group} ORDER BY {value} DESC NULLS LAST, {group} LIMIT 3"
                queries.append(ordered(f"SELECT {group}, {value} FROM stored.{store} {rest}"))
            rest = f"GROUP BY {group} HAVING count(*) > 1 ORDER BY {group} LIMIT 2"
            queries.append(ordered(f"SELECT {group} FROM stored.{store} {rest}"))
    same(session, queries)
    computed = pushed(session, "SELECT s, sum(i16) FROM stored.types GROUP BY s ORDER BY sum(i16) DESC, s LIMIT 2")
    assert computed == "sum(i16) GROUP BY s ORDER BY sum(i16) DESC, s LIMIT 2", computed


def test_what_stands_beside_an_order(session):
    """Conditions, expressions above it, and what leaves the limit, or all of it, to Postgres."""
    queries = [
        ordered("SELECT id, i8 + 1 FROM stored.types WHERE i8 > 0 ORDER BY s, id LIMIT 3"),
        ordered("SELECT 1 FROM stored.types ORDER BY id LIMIT 3"),
        ordered("SELECT count(*) FROM (SELECT FROM stored.types ORDER BY id LIMIT 3) y"),
        ordered("SELECT id, (SELECT max(id) FROM heap.days) FROM stored.types ORDER BY id DESC LIMIT 2"),
        ordered("SELECT id, generate_series(1, 3) FROM stored.types ORDER BY id LIMIT 4"),
        ordered("SELECT id, row_number() OVER (ORDER BY id DESC) FROM stored.types ORDER BY id LIMIT 4"),
        ordered("SELECT DISTINCT i8 FROM stored.types ORDER BY i8 LIMIT 4"),
        ordered("SELECT DISTINCT ON (b) b, id FROM stored.types ORDER BY b, id DESC LIMIT 4"),
        ordered("SELECT id FROM stored.types UNION ALL SELECT id FROM stored.days ORDER BY id LIMIT 9"),
        ordered("SELECT id FROM stored.types ORDER BY i8 + i16, id LIMIT 4"),
        ordered("SELECT id FROM stored.types ORDER BY id % 3, id LIMIT 4"),
        ordered("SELECT id FROM stored.types ORDER BY length(s), id LIMIT 4"),
        ordered('SELECT id FROM stored.types ORDER BY s COLLATE "C" DESC, id LIMIT 4'),
        ordered('SELECT id FROM stored.types ORDER BY s COLLATE "POSIX" DESC, id LIMIT 4'),
        ordered("SELECT id FROM stored.types ORDER BY s USING ~<~, id LIMIT 4"),
        ordered("SELECT id FROM stored.types ORDER BY s::bytea, id LIMIT 4"),
        ordered("SELECT id FROM stored.types WHERE id % 2 = 0 ORDER BY id LIMIT 4"),
        ordered("SELECT id FROM stored.types WHERE i8 = 1 ORDER BY i8, id LIMIT 4"),
        ordered("SELECT id FROM stored.types WHERE false ORDER BY id LIMIT 4"),
        ordered("SELECT tableoid::regclass::text <> '', id FROM stored.types ORDER BY id LIMIT 2"),
        ordered("SELECT t FROM stored.types t ORDER BY id LIMIT 2"),
        ordered("SELECT i8, id FROM stored.types ORDER BY i8, id FETCH FIRST 3 ROWS ONLY"),
        ordered("SELECT i8 FROM stored.types ORDER BY i8 FETCH FIRST 3 ROWS WITH TIES"),
        ordered("SELECT id FROM stored.types ORDER BY id LIMIT (SELECT 3)"),
        "WITH c AS (SELECT id FROM stored.types ORDER BY id LIMIT 3 FOR UPDATE) SELECT string_agg(id::text, ',') FROM c",
        ordered("SELECT id FROM stored.types ORDER BY id LIMIT 1 + 2 OFFSET length('ab')"),
        ordered("SELECT avg(i8) FROM stored.types GROUP BY b ORDER BY avg(i8), count(*) LIMIT 2"),
        "SELECT string_agg(n || ':' || x.id, ',' ORDER BY n) FROM generate_series(-2, 5) n,"
        " LATERAL (SELECT id FROM stored.types WHERE i8 > n ORDER BY i16 DESC NULLS LAST, id LIMIT 1) x",
        "SELECT string_agg(n || ':' || x.id, ',' ORDER BY n, id) FROM generate_series(0, 5) n,"
        " LATERAL (SELECT id FROM stored.types ORDER BY id DESC LIMIT n) x",
    ]
    same(session, queries)


def test_numbers_of_a_prepared_statement(session):
    session.execute("SET plan_cache_mode = force_generic_plan")
    session.execute("PREPARE first(bigint, int) AS SELECT id FROM stored.types ORDER BY id LIMIT $1 OFFSET $2")
    ids = [number for (number,) in rows(session, "SELECT id FROM heap.types ORDER BY id")]
    assert scans(plan(session, "EXECUTE first(2, 1)"))[0]["SoA Computes"] == "ORDER BY id LIMIT $1 OFFSET (expression)"
    for count, skip in ((2, 1), (0, 0), (None, 2), (3, None), (1 << 62, 1 << 30), (10_000, 0), (10_001, 3)):
        start = skip or 0
        expected = ids[start:] if count is None else ids[start : start + count]
        arguments = ", ".join("NULL" if number is None else str(number) for number in (count, skip))
        assert [number for (number,) in rows(session, f"EXECUTE first({arguments})")] == expected, arguments
    session.autocommit = True
    assert error(session, "EXECUTE first(-1, 0)").sqlstate == "2201W"
    assert error(session, "EXECUTE first(1, -1)").sqlstate == "2201X"


def test_cursors_and_what_they_are_asked_again(session):
    session.execute("BEGIN")
    session.execute("DECLARE c SCROLL CURSOR FOR SELECT id FROM stored.types ORDER BY id DESC LIMIT 5")
    five = [number for (number,) in rows(session, "SELECT id FROM heap.types ORDER BY id DESC LIMIT 5")]
    assert [number for (number,) in rows(session, "FETCH 3 FROM c")] == five[:3]
    assert [number for (number,) in rows(session, "FETCH BACKWARD 2 FROM c")] == [five[1], five[0]]
    assert [number for (number,) in rows(session, "FETCH ALL FROM c")] == five[1:]
    session.execute("COMMIT")


def test_random_orders(session):
    """Several keys at once, with conditions."""
    rng = random.Random(SEED)
    queries = []
    for _ in range(QUERIES):
        store = rng.choice(list(SORTED))
        key = STORES[store]
        known = sorted_columns(session, store)
        by = [f"{column} {rng.choice(DIRECTIONS)}" for column in rng.sample(known, min(len(known), rng.randint(1, 3)))]
        where = rng.choice(["", f"WHERE {key} > {rng.randint(-1, 9)}", f"WHERE {rng.choice(known)} IS NOT NULL"])
        wanted = rng.choice(["*", key, ", ".join(rng.sample(known, min(len(known), 2)))])
        limit = rng.choice(LIMITS)
        queries.append(ordered(f"SELECT {wanted} FROM stored.{store} {where} ORDER BY {', '.join(by)}, {key} {limit}"))
    same(session, queries)
