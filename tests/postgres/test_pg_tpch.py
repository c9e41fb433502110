"""TPC-H's 22 queries give the same rows on foreign tables as on DuckDB's own tables."""

from __future__ import annotations

import pytest

import support
import tpch
from measure import same
from pg_support import Database, rows
from queries import queries


@pytest.fixture(scope="module")
def sessions(pg, tpch_made):
    """A session of Postgres, and one of DuckDB."""
    duckdb = support.connect(str(tpch_made / "tpch.duckdb"), load=False)
    with Database(pg, tpch_made) as database, duckdb:
        database.import_all()
        for table in tpch.KEYS:
            database.execute(f"ANALYZE {table}")
        with database.connect() as postgres:
            yield postgres, duckdb


@pytest.mark.parametrize("query", queries("tpch"), ids=lambda query: query.name)
def test_a_query_gives_the_same_rows_in_postgres(sessions, query):
    postgres, duckdb = sessions
    in_postgres, in_duckdb = rows(postgres, query.sql), duckdb.execute(query.sql).fetchall()
    assert len(in_postgres) == len(in_duckdb)
    for actual, expected in zip(in_postgres, in_duckdb):
        assert all(map(same, actual, expected)), f"{actual} instead of {expected}"
