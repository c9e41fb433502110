"""TPC-H's 22 queries give the same rows on stores as on DuckDB's own tables."""

from __future__ import annotations

import pytest

import support
import tpch
from measure import same
from queries import queries

# What finds nothing at this scale: the sum of no rows is NULL.
NOTHING = {"17 small-quantity orders"}


@pytest.fixture(scope="module")
def sessions(tpch_made):
    """A session whose tables are stores, and one whose tables are DuckDB's own."""
    native = support.connect(str(tpch_made / "tpch.duckdb"), load=False)
    with support.connect(threads=4) as stores, native:
        for table in tpch.KEYS:
            stores.execute(f"CREATE VIEW {table} AS FROM {support.quote(tpch_made / f'{table}.soa')}")
        yield stores, native


@pytest.mark.parametrize("query", queries("tpch"), ids=lambda query: query.name)
def test_a_query_gives_the_same_rows_on_stores(sessions, query):
    on_stores, on_tables = (session.execute(query.sql).fetchall() for session in sessions)
    assert any(value is not None for row in on_tables for value in row) == (query.name not in NOTHING)
    assert len(on_stores) == len(on_tables)
    for actual, expected in zip(on_stores, on_tables):
        assert all(map(same, actual, expected)), f"{actual} instead of {expected}"
