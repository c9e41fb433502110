"""Rows in a store's write-ahead log: both engines see them when the writer's `add` has returned, parallel workers see what
their leader sees, statements and transactions keep what they have seen, and a key has one row wherever it is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import support
from pg_support import PARALLEL, Database, error, nodes, paused, plan, rows
from support import LogWriter

STATE = "SELECT count(*), min(order_id), max(order_id), count(DISTINCT order_id) FROM orders"


@pytest.fixture
def store(root: Path) -> Path:
    return root / "orders.soa"


@pytest.fixture
def writer(store: Path) -> Iterator[LogWriter]:
    started = LogWriter(store)
    started.tell("flush")
    yield started
    started.end()


@pytest.fixture
def session(database: Database, writer: LogWriter) -> Iterator[psycopg.Connection]:
    database.import_all()
    with database.connect(autocommit=True) as connection:
        yield connection


def both(session: psycopg.Connection, duck, store: Path, sql: str = STATE) -> tuple:
    """The one row that both engines give."""
    (ours,) = rows(session, sql)
    (theirs,) = duck.execute(sql.replace("FROM orders", f"FROM {support.quote(store)}")).fetchall()
    assert ours == theirs
    return ours


def test_rows_are_seen_when_add_has_returned(session, duck, store, writer):
    assert both(session, duck, store) == (0, None, None, 0)
    for last in range(1, 30):
        writer.tell(f"add {last - 1} {last}")
        assert both(session, duck, store) == (last, 0, last - 1, last)
    writer.tell("delete 0 10")
    assert both(session, duck, store) == (19, 10, 28, 19)
    writer.tell("flush")
    assert both(session, duck, store) == (19, 10, 28, 19)
    # Rows of segments, replaced and deleted by rows of the log.
    writer.tell("batch 15 40")
    writer.tell("delete 12 13")
    assert both(session, duck, store) == (29, 10, 39, 29)
    writer.tell("close")
    assert both(session, duck, store) == (29, 10, 39, 29)


def test_what_a_writer_leaves_behind_is_seen_and_published_by_the_next(session, duck, store, writer):
    writer.tell("batch 0 1000")
    writer.abandon()
    assert both(session, duck, store) == (1000, 0, 999, 1000)
    (scan,) = [node for node in nodes(plan(session, "SELECT * FROM orders")) if node["Node Type"] == "Foreign Scan"]
    assert scan["SoA Log Rows"] == 1000
    second = LogWriter(store)
    try:
        second.tell("add 1000 1001")
        second.tell("flush")
    finally:
        second.end()
    assert both(session, duck, store) == (1001, 0, 1000, 1001)
    (scan,) = [node for node in nodes(plan(session, "SELECT * FROM orders")) if node["Node Type"] == "Foreign Scan"]
    assert "SoA Log Rows" not in scan


def test_workers_see_what_their_leader_sees(session, store, writer):
    for setting in PARALLEL:
        session.execute(f"SET {setting}")
    writer.tell("batch 0 300000")
    for first in range(0, 300_000, 100_000):
        writer.tell(f"batch {first + 50_000} {first + 60_000}")
    writer.tell("delete 0 7")
    found = plan(session, STATE.replace("count(DISTINCT order_id)", "sum(order_id)"))
    (gather,) = [node for node in nodes(found) if node["Node Type"].startswith("Gather")]
    assert gather["Workers Launched"] > 0
    expected = (299_993, 7, 299_999, sum(range(7, 300_000)))
    for _ in range(20):
        assert rows(session, STATE.replace("count(DISTINCT order_id)", "sum(order_id)")) == [expected]


def test_a_statement_and_a_transaction_keep_what_they_have_seen(session, database, store, writer):
    session.execute(
        "CREATE FUNCTION pause() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_lock(7); SELECT pg_advisory_unlock(7)'"
    )
    writer.tell("add 0 10")
    twice = "SELECT (SELECT count(*) FROM orders), (SELECT 1 FROM (SELECT pause()) x), (SELECT count(*) FROM orders o)"
    with database.connect(autocommit=True) as watcher, paused(watcher, session, twice) as running:
        writer.tell("add 10 20")
    assert running.answer() == [(10, 1, 10)]
    with session.transaction():
        session.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        assert rows(session, "SELECT count(*) FROM orders") == [(20,)]
        writer.tell("add 20 30")
        writer.tell("flush")
        writer.tell("add 30 40")
        assert rows(session, "SELECT count(*) FROM orders") == [(20,)]
    assert rows(session, "SELECT count(*) FROM orders") == [(40,)]


def test_filters_are_applied_to_rows_of_the_log(session, duck, store, writer):
    writer.tell("batch 0 200000")
    writer.tell("batch 100 200")
    writer.tell("delete 150 160")
    conditions = ("order_id = 105", "order_id = 155", "order_id BETWEEN 90 AND 210", "status = 'Shipped' AND order_id < 300")
    for condition in conditions:
        sql = f"SELECT count(*), min(order_id), max(total_amount), 0 FROM orders WHERE {condition}"
        found = both(session, duck, store, sql)
        expected = rows(session, f"SELECT count(*) FROM (SELECT * FROM orders OFFSET 0) x WHERE {condition}")
        assert (found[0],) == expected[0]
    assert both(session, duck, store, "SELECT count(*), 0, 0, 0 FROM orders WHERE order_id = 155") == (0, 0, 0, 0)


def test_a_damaged_log_is_named(session, store, writer):
    writer.tell("add 0 10")
    writer.abandon()
    (log,) = (store / "_soa" / "wal").iterdir()
    content = bytearray(log.read_bytes())
    assert content.count(b"SOAF") == 11
    # In the first of the rows, which was durable when the next one was written.
    content[content.index(b"SOAF", content.index(b"SOAF") + 4) + 50] ^= 1
    log.write_bytes(content)
    failed = error(session, "SELECT count(*) FROM orders")
    assert failed.sqlstate == "XX001" and log.name in str(failed) and "checksum" in str(failed)
