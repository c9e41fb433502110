"""Random queries give the same rows on a store as on DuckDB's own table.

DuckDB copies, compares and merges parts of a plan, some by what they look like without the filters that a scan has
seen; a scan that remembers a filter too long loses rows there. So the queries scan one store several times, with
filters that differ or are missing.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import pytest

from differential_tables import TABLES, Table, make
from random_queries import TABLE, Query, RandomQueries

QUERIES = int(os.environ.get("SOA_DIFFERENTIAL_QUERIES", "320"))
SEED = int(os.environ.get("SOA_DIFFERENTIAL_SEED", "7"))
# A query over many rows takes ten times as long.
BIG_SHARE = 10


@pytest.fixture(scope="module", params=TABLES)
def table(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Table]:
    made = make(request.param, tmp_path_factory.mktemp(request.param), SEED)
    yield made
    made.con.close()


def some(table: Table, what: str, share: int = 1) -> Iterator[tuple[int, random.Random, RandomQueries]]:
    """Numbers for this table's part of the queries, and what makes them; other tests and tables have other ones."""
    chance = random.Random(f"{what} {table.kind} {SEED}")
    queries = table.queries(chance)
    count = QUERIES // share // len(TABLES) // (BIG_SHARE if table.is_big else 1)
    return ((number, chance, queries) for number in range(max(count, 1)))


def fetch(table: Table, text: str, is_ordered: bool) -> list[str]:
    rows = [str(row) for row in table.con.execute(text).fetchall()]
    return rows if is_ordered else sorted(rows)


def answer(table: Table, query: Query, name: str) -> list[str]:
    """The rows that a query gives on the table of that name; of many rows a digest."""
    text = query.text.replace(TABLE, name)
    if table.is_big and "LIMIT" not in text:
        text = f"SELECT count(*), sum(hash(rows)) FROM ({text}) rows"
    return fetch(table, text, query.is_ordered)


def test_the_store_has_the_rows(table: Table):
    everything = Query(f"FROM {TABLE}", table.in_order)
    for name in table.forms:
        assert answer(table, everything, name) == answer(table, everything, "native")
        described = Query(f"SELECT column_name, column_type FROM (DESCRIBE FROM {TABLE})", is_ordered=True)
        assert answer(table, described, name) == answer(table, described, "native")


def test_the_store_is_what_it_is_called(table: Table):
    found = table.con.execute(f"SELECT form, row_count, deleted_count FROM soa_segments({table.forms[0]})").fetchall()
    assert len(found) > 1 and any(deleted for _, _, deleted in found) == (table.kind != "compacted")
    assert {form for form, _, _ in found} == {"parquet": {"parquet"}, "mixed": {"arrow", "parquet"}}.get(table.kind, {"arrow"})
    (count,) = table.con.execute(f"SELECT count(*) FROM {table.forms[0]}").fetchone()
    assert (count > sum(rows for _, rows, _ in found)) == (table.kind == "log")


def test_random_queries(table: Table):
    for number, chance, queries in some(table, "queries"):
        query, name = queries.query(), chance.choice(table.forms)
        assert answer(table, query, name) == answer(table, query, "native"), f"query {number}: {query.text.replace(TABLE, name)}"


def test_random_queries_without_an_optimizer(table: Table):
    """Each of DuckDB's optimizers is switched off in turn, and then all of them."""
    optimizers = [name for (name,) in table.con.execute("FROM duckdb_optimizers()").fetchall()]
    for number, chance, queries in some(table, "optimizers", share=50):
        query, name = queries.query(), chance.choice(table.forms)
        expected = answer(table, query, "native")
        for disabled in (*optimizers, ",".join(optimizers)):
            table.con.execute(f"SET disabled_optimizers = '{disabled}'")
            found = answer(table, query, name)
            assert found == expected, f"query {number} without {disabled}: {query.text.replace(TABLE, name)}"
        table.con.execute("RESET disabled_optimizers")


def test_random_prepared_queries(table: Table):
    for number, chance, queries in some(table, "prepared", share=8):
        query, name = queries.prepared(), chance.choice(table.forms)
        table.con.execute(f"PREPARE ours AS {query.text.replace(TABLE, name)}")
        table.con.execute(f"PREPARE theirs AS {query.text.replace(TABLE, 'native')}")
        for values in query.executions:
            ours, theirs = (fetch(table, f"EXECUTE {one}({', '.join(values)})", query.is_ordered) for one in ("ours", "theirs"))
            assert ours == theirs, f"query {number}: {query.text.replace(TABLE, name)}, {values}"
        table.con.execute("DEALLOCATE ours; DEALLOCATE theirs")
