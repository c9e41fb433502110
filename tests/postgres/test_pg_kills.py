"""Backends are killed at a hundred random moments, by SIGKILL, after which the server recovers, and by SIGTERM, while
they query stores, alone and with workers, and while the store grows. The server is there again, the store is whole,
and every answer is right.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import support
from pg_server import PgServer
from pg_support import PARALLEL, WAIT_SECONDS, Database, Growing, Running, rows, wait_until

KILLS = 100
SEED = int(os.environ.get("SOA_KILL_SEED", "11"))
# All of them together take a few milliseconds, most of which are spent in the extension.
QUERIES = [
    "SELECT count(*), max(value), sum(value), count(DISTINCT batch) FROM growing",
    "SELECT count(*) FROM growing a JOIN growing b USING (value) WHERE a.batch < 20",
    "SELECT g, (SELECT count(*) FROM growing WHERE batch = g) FROM generate_series(0, 20) g",
    "SELECT max(text) FROM growing WHERE text LIKE 'value 1%'",
    "EXPLAIN SELECT text FROM growing WHERE value IN (1, 2, 3)",
    "ANALYZE growing",
]


@pytest.fixture
def grown(stores) -> Iterator[tuple[Database, Growing]]:
    """A server of the test's own, and a store to which batches are appended."""
    with support.public_folder("soa-kills-") as root, PgServer() as server:
        store = Growing(root)
        database = Database(server, root)
        database.import_all()
        yield database, store


def as_soon_as_it_can(database: Database, ask):
    """What `ask` returns for a new connection; again and again while the server ends its sessions and recovers."""
    give_up = time.monotonic() + WAIT_SECONDS
    while True:
        try:
            with database.connect() as connection:
                return ask(connection)
        except psycopg.OperationalError:
            assert time.monotonic() < give_up, "the server did not recover:\n" + database.server.log_text()[-3000:]
            time.sleep(0.01)


def killed(database: Database) -> int:
    """How many killed processes the server has noticed."""
    return database.server.log_text().count("was terminated by signal 9")


def check_answers(connection: psycopg.Connection) -> int:
    """What the store holds: whole batches, in order; how many."""
    ((count, highest, total, batches),) = rows(connection, QUERIES[0])
    assert count == batches * Growing.ROWS and highest == count - 1 and total == count * (count - 1) // 2
    assert rows(connection, QUERIES[1])[0][0] >= min(batches, 20) * Growing.ROWS
    return int(batches)


def victims(watcher: psycopg.Connection, pid: int) -> list[int]:
    """A backend, and the workers that it has now."""
    return [pid, *(one for (one,) in rows(watcher, "SELECT pid FROM pg_stat_activity WHERE leader_pid = %s", (pid,)))]


def is_stopped(worker: int) -> bool:
    """Stops a worker; false if it has ended. One that has ended but that the server has not taken note of yet can be sent
    signals, which do nothing: then nobody would be killed.
    """
    while True:
        try:
            os.kill(worker, signal.SIGSTOP)
            state = Path(f"/proc/{worker}/stat").read_text().rpartition(")")[2].split()[0]
        except (ProcessLookupError, FileNotFoundError):
            return False
        if state in "TtZX":
            return state in "Tt"
        time.sleep(0.001)


class Loop(Running):
    """A session that asks one query after the other until its connection is gone."""

    def __init__(self, connection: psycopg.Connection, chance: random.Random):
        self.chance = chance
        super().__init__(connection, "")

    def run(self) -> None:
        try:
            while True:
                self.connection.execute(self.chance.choice(QUERIES))
        except psycopg.OperationalError as gone:
            self.failed = gone
        except psycopg.Error as failed:
            self.failed = failed if failed.sqlstate else psycopg.OperationalError(str(failed))


def kill_one(database: Database, chance: random.Random, how: signal.Signals, parallel: bool) -> None:
    """Kills a backend, or one of its workers, after it has asked queries for some time; waits for its end."""
    connection = database.connect()
    with database.connect() as watcher:
        for setting in PARALLEL if parallel else ():
            connection.execute(f"SET {setting}")
        pid = connection.info.backend_pid
        loop = Loop(connection, random.Random(chance.random()))
        time.sleep(chance.uniform(0, 0.06))
        victim = chance.choice(victims(watcher, pid))
        if victim != pid and not is_stopped(victim):
            victim = pid
        os.kill(victim, how)
        if victim != pid and how == signal.SIGTERM:
            os.kill(victim, signal.SIGCONT)
        if how == signal.SIGTERM and victim != pid:
            # Without its worker a query fails; the session goes on until it is told to end as well.
            os.kill(pid, how)
    loop.join(WAIT_SECONDS)
    assert not loop.is_alive(), "the backend did not end"
    assert isinstance(loop.failed, psycopg.OperationalError) or "terminat" in str(loop.failed), loop.failed
    connection.close()


def test_backends_killed_at_random_moments(grown: tuple[Database, Growing]):
    database, store = grown
    chance = random.Random(SEED)
    signals = [signal.SIGKILL, signal.SIGTERM] * (KILLS // 2)
    chance.shuffle(signals)
    writer = subprocess.Popen(store.command(150), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    seen = set()
    for number, how in enumerate(signals):
        kill_one(database, chance, how, parallel=number % 2 == 1)
        # Not before the server has noticed: it would answer, and end that session as well.
        noticed = signals[: number + 1].count(signal.SIGKILL)
        wait_until(lambda: killed(database) == noticed, "the server's notice of a killed process")
        seen.add(as_soon_as_it_can(database, check_answers))
    assert writer.wait(WAIT_SECONDS) == 0
    support.soa("verify", store.path)
    assert as_soon_as_it_can(database, check_answers) == 151
    log = database.server.log_text()
    assert "was terminated by signal 11" not in log and "was terminated by signal 6" not in log
    assert len(seen) >= 5, f"the store hardly grew meanwhile: {sorted(seen)}"
