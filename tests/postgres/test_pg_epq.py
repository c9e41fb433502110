"""Rows of the heap that another session has changed meanwhile: Postgres then tests a join again with the newest row of
the heap and the rows of the store that it has already (EvalPlanQual). Everything here is asked of a store, and of a
heap table with the store's rows, and must be the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import psycopg
import pytest

import support
from pg_support import PARALLEL, Database, Growing, Running, is_waiting, rows, wait_until


@dataclass
class Sessions:
    """Two sessions: the first changes rows of the table `accounts` and holds them, the second waits for it."""

    database: Database
    store: Growing
    first: psycopg.Connection
    second: psycopg.Connection
    watcher: psycopg.Connection
    right: dict = field(default_factory=dict)

    def reset(self) -> None:
        self.first.execute("TRUNCATE accounts")
        self.first.execute("INSERT INTO accounts SELECT n, n * 10, 'account ' || n FROM generate_series(1, 5) n")

    def race(self, change: str, sql: str, end: str, grows: bool) -> list:
        """The rows that the second session gets, and then all accounts."""
        self.reset()
        self.first.execute("BEGIN")
        self.first.execute(change)
        running = Running(self.second, sql)
        wait_until(lambda: running.failed or is_waiting(self.watcher, self.second), "the wait for the row")
        if grows:  # what a statement sees of a store does not change because it waited
            self.store.append()
        self.first.execute(end)
        return [sorted(map(str, running.answer())), rows(self.watcher, "SELECT * FROM accounts ORDER BY id, v")]

    def of_the_heap(self, what: str, statement: str, end: str) -> list:
        """The same of the heap table, once for every way to join."""
        key = (what, statement, end)
        if key not in self.right:
            self.right[key] = self.race(CHANGES[what], STATEMENTS[statement].format("heap"), end, grows=False)
        return self.right[key]


@pytest.fixture(scope="module")
def sessions(pg) -> Iterator[Sessions]:
    with support.public_folder("soa-epq-") as root, Database(pg, root) as database:
        store = Growing(root)
        database.import_all()
        database.execute("CREATE TABLE heap AS SELECT * FROM growing")
        database.execute("CREATE TABLE accounts (id bigint, v bigint, name text)")
        connections = [database.connect() for _ in range(3)]
        yield Sessions(database, store, *connections)
        for connection in connections:
            connection.close()


CHANGES = {
    "value": "UPDATE accounts SET v = v + 5 WHERE id = 3",
    "key": "UPDATE accounts SET id = 300 WHERE id = 3",
    "key away": "UPDATE accounts SET id = 3000000 WHERE id = 3",
    "gone": "DELETE FROM accounts WHERE id = 3",
    "all": "UPDATE accounts SET v = v + id",
}
STATEMENTS = {
    # What a store computes for each row of the heap, the changed one included.
    "of aggregates": "UPDATE accounts a SET v = v + 1 WHERE v < 2 *"
    " (SELECT count(*) + 100 FROM {0} s WHERE s.value <= a.id AND s.value < 400) RETURNING a.id, a.v",
    "update from": "UPDATE accounts a SET v = a.v + s.value::bigint, name = s.text FROM {0} s"
    " WHERE s.value = a.id AND a.v < 1000 AND s.value < 500 RETURNING a.id, a.v, s.value, s.text",
    "update from, whole row": "UPDATE accounts a SET name = left(s::text, 30) FROM {0} s WHERE s.value = a.id AND"
    " s.value < 500 RETURNING a, s",
    "update by a condition on both": "UPDATE accounts a SET v = -1 FROM {0} s WHERE s.value = a.id AND a.v BETWEEN"
    " s.value + 20 AND 34"
    " AND s.value < 500 RETURNING a.id, s.batch",
    "delete using": "DELETE FROM accounts a USING {0} s WHERE s.value = a.id AND s.value < 500 AND a.v < 33 RETURNING"
    " a.id, s.text",
    "update by a subquery": "UPDATE accounts a SET v = (SELECT count(*) FROM {0} s WHERE s.value < a.v AND s.value <"
    " 500)"
    " WHERE id < 1000 RETURNING a.id, a.v",
    "update by EXISTS": "UPDATE accounts a SET name = 'there' WHERE EXISTS (SELECT FROM {0} s WHERE s.value = a.v AND"
    " s.value < 500) RETURNING a",
    "update by NOT IN": "UPDATE accounts a SET name = 'no' WHERE v NOT IN (SELECT value FROM {0} WHERE value % 35 = 0)"
    " RETURNING a",
    "for update": "SELECT a.id, a.v, s.value, s.text FROM accounts a JOIN {0} s ON s.value = a.id WHERE s.value < 500"
    " FOR UPDATE OF a",
    "for update of both": "SELECT a.id, a.v, s.text FROM accounts a JOIN {0} s ON s.value = a.id AND s.value < 500 FOR"
    " UPDATE",
    "for share, left join": "SELECT a.id, a.v, s.value, s FROM accounts a LEFT JOIN {0} s ON s.value = a.v AND s.value"
    " < 500 FOR SHARE OF a",
    "for update, lateral": "SELECT a.id, x.n FROM accounts a, LATERAL (SELECT s.value AS n FROM {0} s WHERE s.value <"
    " a.id AND s.value < 500"
    " ORDER BY 1 DESC LIMIT 1) x FOR UPDATE OF a",
    "for update, self-join": "SELECT a.id, s.text, t.text FROM accounts a JOIN {0} s ON s.value = a.id JOIN {0} t ON"
    " t.value = s.value + 1"
    " WHERE s.value < 400 FOR UPDATE OF a",
    "merge": "MERGE INTO accounts a USING (SELECT * FROM {0} WHERE value BETWEEN 2 AND 6) s ON s.value = a.id"
    " WHEN MATCHED AND a.v > 31 THEN UPDATE SET name = 'more: ' || s.text WHEN MATCHED THEN UPDATE SET v = 0"
    " WHEN NOT MATCHED THEN INSERT VALUES (s.value, -1, s.text)",
}
JOINS = {
    "as planned": [],
    "hash": ["enable_nestloop = off", "enable_mergejoin = off"],
    "merge": ["enable_nestloop = off", "enable_hashjoin = off"],
    "nested loop": ["enable_hashjoin = off", "enable_mergejoin = off", "enable_material = off"],
    "parallel": list(PARALLEL),
}


@pytest.mark.parametrize("join", JOINS)
@pytest.mark.parametrize("statement", STATEMENTS)
def test_the_same_as_of_the_heap(sessions: Sessions, statement: str, join: str):
    sessions.second.execute("RESET ALL")
    for setting in JOINS[join]:
        sessions.second.execute(f"SET {setting}")
    cases = [(what, "COMMIT") for what in CHANGES]
    if join == "as planned":
        cases += [(what, "ROLLBACK") for what in CHANGES]
    for what, end in cases:
        grows = (join, end) == ("as planned", "COMMIT")
        ours = sessions.race(CHANGES[what], STATEMENTS[statement].format("growing"), end, grows)
        assert ours == sessions.of_the_heap(what, statement, end), (what, end)
    # It proves nothing where what the other session did makes no difference.
    answers = {str(sessions.of_the_heap(what, statement, "COMMIT")) for what in CHANGES}
    assert len(answers) > 1, answers


def test_a_repeatable_read_transaction_fails_as_with_the_heap(sessions: Sessions):
    sessions.second.execute("RESET ALL")
    sessions.reset()
    sessions.second.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    ((count,),) = rows(sessions.second, "SELECT count(*) FROM growing")
    sessions.first.execute(CHANGES["value"])
    sessions.store.append()
    assert rows(sessions.second, "SELECT count(*) FROM growing") == [(count,)]
    with pytest.raises(psycopg.errors.SerializationFailure):
        sessions.second.execute(STATEMENTS["update from"].format("growing"))
    sessions.second.execute("ROLLBACK")
    assert rows(sessions.second, "SELECT count(*) FROM growing")[0][0] > count
