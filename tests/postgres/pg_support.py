"""What the tests of the Postgres extension share: databases, stores that grow, sessions that wait, plans as data."""

from __future__ import annotations

import itertools
import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psycopg

import support
from pg_server import PgServer

WAIT_SECONDS = 60
# Workers read rows, if Postgres does not leave the store to compute what comes of them.
PARALLEL = (
    "parallel_setup_cost = 0",
    "parallel_tuple_cost = 0",
    "min_parallel_table_scan_size = 0",
    "soa_fdw.pushdown = off",
)
# Who takes this lock waits for the test, see `paused`.
PAUSE = (
    "CREATE FUNCTION pause() RETURNS void LANGUAGE sql AS 'SELECT pg_advisory_lock(7); SELECT pg_advisory_unlock(7)'"
)


class Database:
    """A database of its own with the extension and the server `stores`, whose root is the folder given."""

    numbers = itertools.count(1)

    def __init__(self, server: PgServer, root: Path, encoding: str = "UTF8"):
        self.server = server
        self.root = root
        self.name = f"test_{next(self.numbers)}"
        self.server.execute(f"CREATE DATABASE {self.name} TEMPLATE template0 ENCODING '{encoding}' LOCALE 'C'")
        self.execute("CREATE EXTENSION soa_fdw")
        self.execute(f"CREATE SERVER stores FOREIGN DATA WRAPPER soa_fdw OPTIONS (root {support.quote(root)})")

    def __enter__(self) -> Database:
        return self

    def __exit__(self, *_: object) -> None:
        self.server.execute(f"DROP DATABASE {self.name} WITH (FORCE)")

    def connect(self, user: str | None = None, **options: object) -> psycopg.Connection:
        """A connection on which only what is prepared by a test is prepared."""
        return self.server.connect(self.name, user, **({"prepare_threshold": None} | options))

    def execute(self, sql: str) -> list[tuple]:
        """Runs SQL on a connection of its own, and returns the rows."""
        return self.server.execute(sql, self.name)

    def import_all(self, schema: str = ".", into: str = "public") -> None:
        """Makes a foreign table of every store."""
        self.execute(f'IMPORT FOREIGN SCHEMA "{schema}" FROM SERVER stores INTO {into}')


class Growing:
    """A store of numbered batches, made by the example `append_batches`: batch b has the values b * ROWS and up."""

    ROWS = 500

    def __init__(self, folder: Path, name: str = "growing"):
        self.path = folder / f"{name}.soa"
        self.append(1)

    def command(self, batches: int) -> list[str]:
        return [
            str(support.example("append_batches")),
            str(self.path),
            "--batches",
            str(batches),
            "--rows",
            str(self.ROWS),
        ]

    def append(self, batches: int = 1) -> None:
        """Appends so many batches, each in one commit."""
        subprocess.run(self.command(batches), check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=600)


def rows(connection: psycopg.Connection, sql: str, parameters: tuple | None = None) -> list[tuple]:
    """The rows of a query."""
    return connection.execute(sql, parameters).fetchall()


def error(connection: psycopg.Connection, sql: str, parameters: tuple | None = None) -> psycopg.Error:
    """The error of a statement that must fail; the session must go on."""
    try:
        found = connection.execute(sql, parameters)
    except psycopg.Error as failed:
        assert failed.sqlstate is not None, f"the session was lost by {sql}: {failed}"
        if connection.autocommit and connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
            assert connection.execute("SELECT 42").fetchone() == (42,)
        return failed
    raise AssertionError(f"no error, but {found.fetchall() if found.description else found.statusmessage}: {sql}")


@dataclass(frozen=True)
class Notice:
    """What the server says beside its answers."""

    severity: str
    sqlstate: str
    message: str
    hint: str | None


def notices(connection: psycopg.Connection) -> list[Notice]:
    """A list that every notice of the connection is added to from now on."""
    told: list[Notice] = []
    connection.add_notice_handler(
        lambda one: told.append(Notice(one.severity, one.sqlstate, one.message_primary, one.message_hint))
    )
    return told


def plan(connection: psycopg.Connection, sql: str, analyze: bool = True) -> dict:
    """The plan of a query as EXPLAIN gives it; with `analyze` the query is executed."""
    options = "ANALYZE, FORMAT JSON" if analyze else "FORMAT JSON"
    return connection.execute(f"EXPLAIN ({options}) {sql}").fetchone()[0][0]["Plan"]


def nodes(tree: dict) -> Iterator[dict]:
    """A plan's nodes."""
    yield tree
    for child in tree.get("Plans", ()):
        yield from nodes(child)


def scans(tree: dict) -> list[dict]:
    """The scans of stores in a plan."""
    return [node for node in nodes(tree) if node["Node Type"] == "Foreign Scan"]


class Running(threading.Thread):
    """A statement that runs on its connection while the test goes on. `answer()` waits for its rows, or raises its
    error."""

    def __init__(self, connection: psycopg.Connection, sql: str):
        super().__init__()
        self.connection, self.sql = connection, sql
        self.found: list[tuple] | None = None
        self.failed: BaseException | None = None
        self.start()

    def run(self) -> None:
        try:
            done = self.connection.execute(self.sql)
            self.found = done.fetchall() if done.description else []
        except BaseException as failed:  # given to the test's own thread
            self.failed = failed

    def answer(self) -> list[tuple]:
        self.join(WAIT_SECONDS)
        assert not self.is_alive(), f"no answer within {WAIT_SECONDS} seconds: {self.sql}"
        if self.failed is not None:
            raise self.failed
        assert self.found is not None
        return self.found


def wait_until(condition, what: str) -> None:
    """Waits until `condition()` is true."""
    give_up = time.monotonic() + WAIT_SECONDS
    while not condition():
        assert time.monotonic() < give_up, f"{what} did not happen within {WAIT_SECONDS} seconds"
        time.sleep(0.005)


@contextmanager
def paused(watcher: psycopg.Connection, connection: psycopg.Connection, sql: str) -> Iterator[Running]:
    """Runs a statement that calls `pause()` once; the body runs while it waits there."""
    watcher.execute("SELECT pg_advisory_lock(7)")
    running = Running(connection, sql)
    try:
        wait_until(lambda: running.failed or is_waiting(watcher, connection), "the pause")
        yield running
    finally:
        watcher.execute("SELECT pg_advisory_unlock(7)")
        running.join(WAIT_SECONDS)


def is_waiting(watcher: psycopg.Connection, connection: psycopg.Connection) -> bool:
    """Whether a session waits for a lock."""
    waiting = "SELECT EXISTS (SELECT FROM pg_locks WHERE pid = %s AND NOT granted)"
    return rows(watcher, waiting, (connection.info.backend_pid,)) == [(True,)]
