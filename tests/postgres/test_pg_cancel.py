"""A statement that reads much ends within a tenth of a second when it is cancelled, when its time is up, and when its
session is told to end; then the session goes on, or is gone.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import support
from pg_support import PARALLEL, Database, Growing, Running, rows, wait_until

ROUNDS = 7
LIMIT_SECONDS = 0.1
BATCHES, BATCH_ROWS = 16, 122_880


class Big(Growing):
    ROWS = BATCH_ROWS


@pytest.fixture(scope="module")
def big(pg) -> Iterator[Database]:
    """A database with a store of two million rows."""
    with support.public_folder("soa-big-") as folder, Database(pg, folder) as database:
        Big(folder, "big").append(BATCHES - 1)
        database.import_all()
        yield database


# Each would take many seconds.
LONG = {
    "cross join": "SELECT count(*) FROM big a, big b",
    # What the store can test, and finds nowhere, over and over: not a row is given.
    "filter without a row": "SELECT count(*) FROM generate_series(1, 100000) g, LATERAL"
    " (SELECT FROM big WHERE text = 'value 1 of batch ' || g * 0 + 99 AND value >= 0 OFFSET 0) x",
    # What only Postgres can test.
    "condition without a row": "SELECT count(*) FROM generate_series(1, 100000) g, LATERAL"
    " (SELECT FROM big WHERE value % 7 = g * 0 + 8 OFFSET 0) x",
    # What threads of the backend compute.
    "aggregation": "SELECT sum(c) FROM generate_series(1, 100000) g,"
    " LATERAL (SELECT count(DISTINCT text) AS c FROM big WHERE value >= g OFFSET 0) x",
    "wide rows": "SELECT count(*) FROM generate_series(1, 100000) g, LATERAL (SELECT x FROM big x OFFSET g * 0) x",
    "sort": "SELECT max(text) FROM (SELECT a.text FROM big a, generate_series(1, 50) g ORDER BY md5(a.text) OFFSET 0)"
    " x",
    "parallel": "SELECT count(*) FROM big a JOIN big b ON a.value % 10 = b.value % 10",
}


@pytest.fixture
def session(big: Database) -> Iterator[psycopg.Connection]:
    with big.connect() as connection:
        connection.execute("SET enable_material = off")
        yield connection


def prepare(connection: psycopg.Connection, what: str) -> None:
    if what == "parallel":
        for setting in PARALLEL:
            connection.execute(f"SET {setting}")
    else:
        connection.execute("SET max_parallel_workers_per_gather = 0")


def is_running(watcher: psycopg.Connection, pid: int) -> bool:
    return rows(watcher, "SELECT state FROM pg_stat_activity WHERE pid = %s", (pid,)) == [("active",)]


def check(seconds: list[float]) -> None:
    """The middle of several tries, for other programs run on this machine as well."""
    assert statistics.median(seconds) <= LIMIT_SECONDS, seconds


@pytest.mark.parametrize("what", LONG)
def test_cancel(big: Database, session: psycopg.Connection, what: str):
    prepare(session, what)
    pid = session.info.backend_pid
    with big.connect() as watcher:
        seconds = []
        for number in range(ROUNDS):
            running = Running(session, LONG[what])
            wait_until(lambda: is_running(watcher, pid), "the start")
            time.sleep(0.02 + number * 0.03)  # another moment each time
            start = time.monotonic()
            watcher.execute("SELECT pg_cancel_backend(%s)", (pid,))
            with pytest.raises(psycopg.errors.QueryCanceled):
                running.answer()
            seconds.append(time.monotonic() - start)
            assert rows(session, "SELECT count(*) FROM big WHERE batch = 3") == [(BATCH_ROWS,)]
    check(seconds)


@pytest.mark.parametrize("what", LONG)
def test_timeout(session: psycopg.Connection, what: str):
    prepare(session, what)
    seconds = []
    for number in range(ROUNDS):
        limit = 0.05 + number * 0.03
        session.execute(f"SET statement_timeout = {int(limit * 1000)}")
        start = time.monotonic()
        with pytest.raises(psycopg.errors.QueryCanceled):
            session.execute(LONG[what])
        seconds.append(time.monotonic() - start - limit)
        session.execute("SET statement_timeout = 0")
        assert rows(session, "SELECT count(*) FROM big WHERE batch = 3") == [(BATCH_ROWS,)]
    check(seconds)


def test_terminate(big: Database):
    with big.connect() as watcher:
        seconds = []
        for what in LONG:
            connection = big.connect()
            prepare(connection, what)
            pid = connection.info.backend_pid
            running = Running(connection, LONG[what])
            wait_until(lambda: is_running(watcher, pid), "the start")
            time.sleep(0.1)
            start = time.monotonic()
            watcher.execute("SELECT pg_terminate_backend(%s)", (pid,))
            with pytest.raises(psycopg.OperationalError):
                running.answer()
            seconds.append(time.monotonic() - start)
            wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the backend")
    check(seconds)


def test_a_client_that_goes_away(big: Database):
    """A cursor that is left in the middle: its backend ends with its client."""
    connection = big.connect()
    pid = connection.info.backend_pid
    connection.execute("BEGIN; DECLARE c CURSOR FOR SELECT * FROM big")
    assert len(rows(connection, "FETCH 1000 FROM c")) == 1000
    connection.close()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the backend")


def test_cancelled_analyze_and_import(big: Database, session: psycopg.Connection):
    """Whether they end before or after their time: either is in order, and then the next one works."""
    for limit in (1, 2, 5, 10, 20):
        session.execute(f"SET statement_timeout = {limit}")
        for sql in ("ANALYZE big", 'IMPORT FOREIGN SCHEMA "." FROM SERVER stores INTO pg_temp'):
            try:
                session.execute(sql)
                session.execute("DROP FOREIGN TABLE IF EXISTS pg_temp.big")
            except (psycopg.errors.QueryCanceled, psycopg.errors.FeatureNotSupported, psycopg.errors.InvalidSchemaName):
                pass
    session.execute("SET statement_timeout = 0")
    session.execute("ANALYZE big")
    assert rows(session, "SELECT reltuples FROM pg_class WHERE relname = 'big'") == [(BATCHES * BATCH_ROWS,)]
