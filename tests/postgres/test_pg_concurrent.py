"""Sessions read a store in loops while it grows by hundreds of commits: every answer is of one version of whole
batches, in order, never of an older version than the answer before; and in the end all see everything.
"""

from __future__ import annotations

import subprocess
import threading

import psycopg
import pytest

import support
from pg_support import PARALLEL, WAIT_SECONDS, Database, Growing, nodes, plan, rows

SESSIONS = 8
BATCHES = 200

STATE = "SELECT count(*), max(value), sum(value), count(DISTINCT batch) FROM growing"
AGREEMENT = """
WITH once AS MATERIALIZED (SELECT value FROM growing), twice AS (SELECT value FROM growing)
SELECT (SELECT count(*) FROM growing),
       (SELECT count(*) FROM once),
       (SELECT count(*) FROM twice),
       (SELECT max(value) + 1 FROM growing),
       (SELECT count(*) FROM growing a JOIN growing b USING (value)),
       (SELECT count(*) FROM growing a WHERE a.value IN (SELECT value FROM growing)),
       (SELECT count(*) FROM (SELECT value FROM growing UNION SELECT value FROM growing) x),
       (SELECT count(*) FROM growing a LEFT JOIN growing b ON a.value = b.value + 1),
       counted()
"""
ORDER = "SELECT count(*) FROM (SELECT value, row_number() OVER () - 1 AS place FROM growing) x WHERE value <> place"
# How sessions read; each session one.
MANNERS = {
    "plain": [],
    "generic": ["plan_cache_mode = force_generic_plan"],
    "parallel": list(PARALLEL),
    "nested loops": [
        "enable_hashjoin = off",
        "enable_mergejoin = off",
        "enable_material = off",
        "soa_fdw.pushdown = off",
    ],
    "merges": ["enable_hashjoin = off", "enable_nestloop = off", "soa_fdw.pushdown = off"],
}


class Reader(threading.Thread):
    """A session that reads until it is told to stop."""

    def __init__(self, database: Database, manner: str, stop: threading.Event):
        super().__init__(name=manner)
        self.database, self.manner, self.stop = database, manner, stop
        self.ready = threading.Event()
        self.seen: list[int] = []
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            with self.database.connect() as session:
                for setting in MANNERS[self.manner]:
                    session.execute(f"SET {setting}")
                session.execute(f"PREPARE state AS {STATE} WHERE value >= $1")
                is_last = False
                while True:
                    self.read(session)
                    self.ready.set()
                    if is_last:
                        break
                    is_last = self.stop.is_set()
        except BaseException as failed:  # given to the test's own thread
            self.failed = failed
            self.ready.set()

    def read(self, session: psycopg.Connection) -> None:
        ((count, highest, total, batches),) = rows(session, "EXECUTE state(0)")
        assert count == batches * Growing.ROWS, f"{count} rows in {batches} batches"
        assert highest == count - 1 and total == count * (count - 1) // 2, (
            f"{count} rows, up to {highest}, {total} together"
        )
        assert not self.seen or count >= self.seen[-1], f"{count} rows after {self.seen[-1]}"
        self.seen.append(count)
        # A nested loop over all pairs would take too long.
        if self.manner != "nested loops":
            (counts,) = rows(session, AGREEMENT)
            assert len(set(counts)) == 1, f"one query saw {counts}"
        if self.manner != "parallel":
            assert rows(session, ORDER) == [(0,)]
        session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        first = rows(session, STATE)
        assert rows(session, STATE) == first and rows(session, "SELECT counted()") == [first[0][:1]]
        session.execute("COMMIT")


def test_sessions_see_whole_batches_in_order(pg):
    with support.public_folder("soa-concurrent-") as root, Database(pg, root) as database:
        store = Growing(root)
        database.import_all()
        database.execute(
            "CREATE FUNCTION counted() RETURNS bigint STABLE LANGUAGE sql AS 'SELECT count(*) FROM growing'"
        )
        stop = threading.Event()
        readers = [Reader(database, list(MANNERS)[i % len(MANNERS)], stop) for i in range(SESSIONS)]
        for reader in readers:
            reader.start()
        try:
            for reader in readers:
                assert reader.ready.wait(WAIT_SECONDS), "a reader did not start"
            subprocess.run(
                store.command(BATCHES - 1), check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=600
            )
        finally:
            stop.set()
            for reader in readers:
                reader.join(WAIT_SECONDS)
        for reader in readers:
            if reader.failed is not None:
                raise AssertionError(f"a session failed that read with {reader.manner}") from reader.failed
            assert reader.seen[-1] == BATCHES * Growing.ROWS
            assert len(set(reader.seen)) >= 3, f"a session saw only {set(reader.seen)}"
        support.soa("verify", store.path)


def test_live_orders(pg):
    """The demo's writer, whose store has enums, times and a key."""
    with support.public_folder("soa-live-") as root, Database(pg, root) as database:
        command = [str(support.example("live_orders")), str(root / "live.soa"), "--seconds", "{}", "--batch", "500"]
        subprocess.run(
            [part.format("0") for part in command], check=True, stdin=subprocess.DEVNULL, capture_output=True
        )
        database.import_all()
        with database.connect() as session:
            columns = [
                name
                for (name,) in rows(
                    session, "SELECT attname FROM pg_attribute WHERE attrelid = 'live'::regclass AND attnum > 0"
                )
            ]
            assert "status" in columns and "order_id" in columns
            writer = subprocess.Popen(
                [part.format("2") for part in command], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL
            )
            seen = set()
            while writer.poll() is None:
                ((count, of_statuses, joined),) = rows(
                    session,
                    "SELECT (SELECT count(*) FROM live), (SELECT coalesce(sum(n), 0) FROM (SELECT status, count(*) AS"
                    " n FROM live GROUP BY status) x),"
                    " (SELECT count(*) FROM live a JOIN live b USING (order_id))",
                )
                assert count == of_statuses == joined and count % 500 == 0
                seen.add(count)
            assert writer.returncode == 0 and len(seen) >= 5, seen


@pytest.mark.parametrize(
    ("manner", "node"), [("parallel", "Gather"), ("nested loops", "Nested Loop"), ("merges", "Merge Join")]
)
def test_manners_of_reading_are_what_they_say(all_stores: Database, manner: str, node: str):
    """That the settings above make such plans."""
    with all_stores.connect() as session:
        for setting in MANNERS[manner]:
            session.execute(f"SET {setting}")
        made = plan(session, "SELECT count(*) FROM orders a JOIN orders b USING (order_id)", analyze=False)
        assert node in {one["Node Type"] for one in nodes(made)}, made
