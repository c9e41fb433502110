"""What the planner is told: exact counts of rows from the log, and by ANALYZE what it collects of the heap."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import support
from pg_support import Database, Growing, error, notices, plan, rows


@pytest.fixture(scope="module")
def analyzed(pg, stores: Path) -> Iterator[Database]:
    """The stores in the schema `stored`, copies in `heap`, all of them analyzed with samples of every row."""
    names = ("orders", "types", "days", "rows_2049", "rows_0", "floats", "rust_types", "sorted")
    with Database(pg, stores) as database:
        database.execute("CREATE SCHEMA stored; CREATE SCHEMA heap")
        database.import_all(into="stored")
        with database.connect() as session:
            session.execute("SET default_statistics_target = 500")  # 150,000 rows
            for name in names:
                session.execute(f"CREATE TABLE heap.{name} AS SELECT * FROM stored.{name}")
                session.execute(f"ANALYZE stored.{name}; ANALYZE heap.{name}")
        yield database


@pytest.fixture
def session(analyzed: Database) -> Iterator[psycopg.Connection]:
    with analyzed.connect() as connection:
        yield connection


@pytest.mark.parametrize(
    "store", ["orders", "types", "rows_0", "rows_1", "rows_2049", "rows_122881", "orders_by_status"]
)
def test_the_number_of_rows_is_known_at_once(all_stores: Database, store: str):
    with all_stores.connect() as session:
        ((count,),) = rows(session, f"SELECT count(*) FROM {store}")
        assert plan(session, f"SELECT * FROM {store}", analyze=False)["Plan Rows"] == max(count, 1)


def test_the_number_of_rows_follows_a_store_that_grows(database: Database):
    store = Growing(database.root)
    database.import_all()
    with database.connect() as session:
        for batches in range(1, 4):
            assert plan(session, "SELECT * FROM growing", analyze=False)["Plan Rows"] == batches * Growing.ROWS
            assert plan(session, "SELECT * FROM growing WHERE value < 100", analyze=False)["Plan Rows"] <= Growing.ROWS
            store.append()
        session.execute("ANALYZE growing")
        assert rows(session, "SELECT reltuples, relpages > 0 FROM pg_class WHERE relname = 'growing'") == [
            (4 * Growing.ROWS, True)
        ]


def test_what_is_left_out_is_not_estimated(all_stores: Database):
    with all_stores.connect() as session:
        assert plan(session, "SELECT * FROM orders WHERE order_id > 99999", analyze=False)["Plan Rows"] == 1
        assert (
            plan(session, "SELECT * FROM orders WHERE order_id >= 7000 OR order_id < -5", analyze=False)["Plan Rows"]
            <= 3000
        )


# Without avg_width: the heap has compressed what is long.
COLUMNS = "null_frac, n_distinct, most_common_vals::text, most_common_freqs, histogram_bounds::text, correlation"


def test_statistics_are_those_of_the_heap(session):
    """Where a sample has every row, both must find the same."""
    sql = f"SELECT tablename, attname, {COLUMNS} FROM pg_stats WHERE schemaname = %s ORDER BY tablename, attname"
    ours, theirs = rows(session, sql, ("stored",)), rows(session, sql, ("heap",))
    assert len(ours) >= 60
    assert [row[:2] for row in ours] == [row[:2] for row in theirs]
    for one, other in zip(ours, theirs):
        assert one == other, (one, other)


def test_the_number_of_rows_is_that_of_the_heap(session):
    sql = """SELECT relname, reltuples FROM pg_class
        WHERE relnamespace = %s::regnamespace AND relkind = %s AND reltuples >= 0 ORDER BY 1"""
    assert rows(session, sql, ("stored", "f")) == rows(session, sql, ("heap", "r"))


@pytest.mark.parametrize(
    "condition",
    [
        "status = 'Shipped'",
        "status <> 'Shipped'",
        "order_id < 2500",
        "quantity IN (1, 2)",
        "note IS NULL",
        "note LIKE 'note 1%'",
        "amount > 900",
    ],
)
def test_estimates(session, condition: str):
    ((count,),) = rows(session, f"SELECT count(*) FROM heap.orders WHERE {condition}")
    estimate = plan(session, f"SELECT * FROM stored.orders WHERE {condition}", analyze=False)["Plan Rows"]
    assert count * 0.8 - 50 <= estimate <= count * 1.2 + 50, (count, estimate)


def test_a_sample_is_of_all_rows(all_stores: Database):
    """Of many rows some are taken, from everywhere."""
    with all_stores.connect() as session:
        session.execute("SET default_statistics_target = 10")  # 3,000 of 122,881 rows
        session.execute("ANALYZE rows_122881")
        ((distinct, low, high, nulls),) = rows(
            session,
            "SELECT n_distinct, (histogram_bounds::text::bigint[])[1], (histogram_bounds::text::bigint[])[11],"
            " (SELECT null_frac FROM pg_stats WHERE tablename = 'rows_122881' AND attname = 'o')"
            " FROM pg_stats WHERE tablename = 'rows_122881' AND attname = 'id'",
        )
        assert distinct == -1 and low < 1_000 and high > 121_881
        assert abs(nulls - 1 / 7) < 0.04
        assert rows(session, "SELECT reltuples FROM pg_class WHERE relname = 'rows_122881'") == [(122_881,)]


def test_parts_of_analyze(database: Database, stores: Path):
    database.execute(f"ALTER SERVER stores OPTIONS (SET root {support.quote(stores)})")
    with database.connect() as session:
        session.execute('IMPORT FOREIGN SCHEMA "." LIMIT TO (orders, rows_0, wide) FROM SERVER stores INTO public')
        known = "SELECT attname FROM pg_stats WHERE tablename = 'orders' ORDER BY 1"
        session.execute("ANALYZE orders (status, note)")
        assert rows(session, known) == [("note",), ("status",)]
        session.execute("ALTER FOREIGN TABLE orders ALTER COLUMN year SET STATISTICS 0")
        session.execute("ANALYZE VERBOSE orders")
        assert ("year",) not in rows(session, known) and len(rows(session, known)) == 8
        session.execute("ALTER FOREIGN TABLE orders ALTER COLUMN year SET STATISTICS -1")
        session.execute("ANALYZE rows_0; ANALYZE wide")
        assert rows(session, "SELECT count(*) FROM pg_stats WHERE tablename = 'wide'") == [(200,)]
        assert rows(session, "SELECT count(*) FROM pg_stats WHERE tablename = 'rows_0'") == [(0,)]
        session.execute("CREATE STATISTICS of_two (dependencies, ndistinct, mcv) ON status, year FROM orders")
        session.execute("ANALYZE orders")
        assert rows(
            session, "SELECT count(*) FROM pg_stats_ext WHERE statistics_name = 'of_two' AND n_distinct IS NOT NULL"
        ) == [(1,)]
        # One that cannot be read.
        told = notices(session)
        session.execute("CREATE FOREIGN TABLE lost (id int) SERVER stores OPTIONS (path 'lost.soa')")
        assert error(session, "ANALYZE lost").sqlstate == "58P01"
        session.execute("VACUUM ANALYZE orders")
        assert all(one.severity in ("INFO", "WARNING") for one in told)


def test_a_store_does_not_speak_for_the_tables_that_inherit_from_its_own(database: Database):
    Growing(database.root)
    database.import_all()
    with database.connect() as session:
        grouped = "SELECT value FROM {} GROUP BY value"
        assert plan(session, grouped.format("growing"), analyze=False)["Plan Rows"] == Growing.ROWS
        session.execute("CREATE TABLE inheriting () INHERITS (growing)")
        session.execute("INSERT INTO inheriting SELECT g.* FROM growing g, generate_series(1, 200)")
        assert plan(session, grouped.format("ONLY growing"), analyze=False)["Plan Rows"] == Growing.ROWS
        # What is not known of a column: 200 groups.
        assert plan(session, grouped.format("growing"), analyze=False)["Plan Rows"] == 200
