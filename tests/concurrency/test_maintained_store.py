"""Eight DuckDB connections query a store with a key while it is changed and looked after: rows are replaced and deleted,
segments joined, and files removed that only older versions need. Every answer is one of a whole version, never of an older
version than the answer before. A query may lose its files only because vacuum, which is forced here to keep nothing, took
them; it is told so.

Rows come in pairs, whose deltas add up to nothing; each commit writes or deletes whole pairs, and all but the deletions
write pair 0 with a higher generation.
"""

from __future__ import annotations

import os
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from itertools import cycle
from pathlib import Path

import duckdb
import pyarrow as pa
import pytest

import support
from duckdb_support import Store

SECONDS = float(os.environ.get("SOA_MAINTENANCE_SECONDS", "10"))
CONNECTIONS, PAIRS = 8, 500

STATE = "SELECT count(*), sum(delta), max(generation), count(*) FILTER (WHERE pair = 0) FROM {0}"
# Of each query all columns must be equal.
AGREEING = [
    "SELECT count(*), 0 FROM (SELECT pair, sum(delta), count(DISTINCT generation), count(*) FROM {0} GROUP BY pair) AS p(pair, delta, g, n)"
    " WHERE delta <> 0 OR g <> 1 OR n <> 2",
    "SELECT (SELECT count(*) FROM {0}), 2 * count(*), count(*) + (SELECT count(DISTINCT pair) FROM {0})"
    " FROM {0} x JOIN {0} y ON y.id = x.id + 1 AND y.pair = x.pair AND y.delta = -x.delta AND y.generation = x.generation",
    "SELECT (SELECT sum(delta) FROM {0} WHERE delta > 0), (SELECT -sum(delta) FROM {0} WHERE delta < 0)",
    "WITH s AS MATERIALIZED (FROM {0}) SELECT (SELECT max(generation) FROM s), (SELECT generation FROM {0} WHERE id = 1)",
    "SELECT count(*), 2, 2 + sum(delta), 2 * count(DISTINCT note) FROM {0} WHERE id IN (0, 1)",
    "SELECT count(*), (SELECT sum(row_count) FROM soa_segments({0})) FROM {0}",
    "SELECT count(*), 0 FROM (SELECT delta + lead(delta) OVER (ORDER BY id) AS total, id FROM {0}) WHERE id % 2 = 0 AND total <> 0",
]  # fmt: skip


def pairs(numbers: list[int], generation: int, chance: random.Random) -> pa.Table:
    deltas = [chance.randrange(1, 1000) for _ in numbers]
    twice = [number for number in numbers for _ in range(2)]
    columns = {
        "id": [2 * number + half for number in numbers for half in range(2)],
        "pair": twice,
        "delta": [delta * sign for delta in deltas for sign in (1, -1)],
        "generation": [generation] * len(twice),
        "note": [f"generation {generation}"] * len(twice),
    }
    table = pa.table(columns)
    return table.cast(table.schema.set(0, table.field("id").with_nullable(False)))


class Writer(threading.Thread):
    """Changes the store and looks after it until it is told to stop."""

    def __init__(self, store: Store, stop: threading.Event):
        super().__init__()
        self.store, self.stop, self.chance = store, stop, random.Random(7)
        self.generation = 0
        self.done: Counter[str] = Counter()
        self.failed: BaseException | None = None
        self.upsert(list(range(PAIRS)))

    def run(self) -> None:
        try:
            with support.connect() as con:
                while not self.stop.is_set():
                    self.change()
                    self.look_after(con)
        except BaseException as failed:  # given to the test's own thread
            self.failed = failed

    def upsert(self, numbers: list[int]) -> None:
        self.generation += 1
        self.store.commit(pairs(sorted({0, *numbers}), self.generation, self.chance), options=("--key", "id", "--upsert"))

    def change(self) -> None:
        for _ in range(3):
            self.upsert(self.chance.sample(range(PAIRS), 60))
        gone = self.chance.sample(range(1, PAIRS), 20)
        support.soa("delete", self.store.path, "--key", *(2 * number + half for number in gone for half in range(2)))

    def look_after(self, con: duckdb.DuckDBPyConnection) -> None:
        """By the extension's functions and by the command, in turn."""
        if self.done["compacted"] % 2:
            con.execute(f"FROM soa_compact({self.store.sql})").fetchall()
            vacuum = f"FROM soa_vacuum({self.store.sql}, retention_hours := 0, force := true)"
            self.done["removed"] += len(con.execute(vacuum).fetchall())
        else:
            support.soa("compact", self.store.path)
            done = support.soa("vacuum", self.store.path, "--retention", "0s", "--force").stdout
            self.done["removed"] += int(done.split()[0])
        self.done["compacted"] += 1


class Reader(threading.Thread):
    """A connection that queries the store until it is told to stop, and once more."""

    def __init__(self, con: duckdb.DuckDBPyConnection, store: Store, stop: threading.Event):
        super().__init__()
        self.con, self.store, self.stop = con, store, stop
        self.answers = self.too_old = 0
        self.generations = [0]
        self.failed: BaseException | None = None

    def run(self) -> None:
        try:
            self.con.execute(f"PREPARE state AS {STATE.format(self.store.sql)}")
            for query in cycle(AGREEING):
                is_last = self.stop.is_set()
                self.ask(self.check_state)
                self.ask(lambda: self.check_agreement(query))
                if is_last:
                    break
        except BaseException as failed:  # given to the test's own thread
            self.failed = failed

    def ask(self, question) -> None:
        try:
            question()
            self.answers += 1
        except duckdb.Error as error:
            assert "has been removed since by vacuum" in str(error), error
            self.too_old += 1

    def check_state(self) -> None:
        count, total, generation, first = self.con.execute("EXECUTE state").fetchone()
        assert count % 2 == 0 and count > PAIRS and (total, first) == (0, 2), (count, total, generation, first)
        assert generation >= self.generations[-1], f"generation {generation} after {self.generations[-1]}"
        self.generations.append(generation)

    def check_agreement(self, query: str) -> None:
        found = self.con.execute(query.format(self.store.sql)).fetchone()
        assert len(set(found)) == 1, f"{query}: {found}"


@contextmanager
def connections() -> Iterator[list[duckdb.DuckDBPyConnection]]:
    """Half of them of one database, the others of one each."""
    with ExitStack() as opened:
        shared = opened.enter_context(support.connect(threads=4))
        alone = [opened.enter_context(support.connect(threads=2)) for _ in range(CONNECTIONS // 2)]
        yield [*alone, *(shared.cursor() for _ in alone)]


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_queries_of_a_store_that_is_changed_and_looked_after(tmp_path: Path, duck, form: str):
    store, stop = Store(tmp_path / "pairs.soa"), threading.Event()
    writer = Writer(store, stop)
    if form == "parquet":
        support.soa("alter", store.path, "--arrow-bytes", 0)
    with connections() as cons:
        readers = [Reader(con, store, stop) for con in cons]
        for thread in (writer, *readers):
            thread.start()
        time.sleep(SECONDS / 2)
        stop.set()
        for thread in (writer, *readers):
            thread.join(120)
    for thread in (writer, *readers):
        assert not thread.is_alive()
        if thread.failed is not None:
            raise thread.failed
    assert all(reader.answers > max(10, 20 * reader.too_old) and len(set(reader.generations)) > 5 for reader in readers)
    assert bool(list(store.path.rglob("*.arrow"))) == (form == "arrow")
    operations = Counter(operation for (operation,) in duck.execute(f"SELECT operation FROM soa_history({store.sql})").fetchall())
    assert operations["OPTIMIZE"] > 2 and operations["DELETE"] > 2 and writer.generation > 10, operations
    assert writer.done["removed"] > 10
    support.soa("verify", store.path)
