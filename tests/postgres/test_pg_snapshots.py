"""Which version of a store a statement sees while the store grows under it: exactly what rows of a heap table would do,
that is what was committed when the statement, or in REPEATABLE READ the transaction, began.

The moments are set by a lock: a statement waits in the middle, the store grows, the statement goes on.
"""

from __future__ import annotations

import psycopg
import pytest

from pg_support import PARALLEL, PAUSE, Database, Growing, Running, is_waiting, paused, rows, wait_until

N = Growing.ROWS

FUNCTIONS = f"""
{PAUSE};
CREATE FUNCTION volatile_count() RETURNS bigint LANGUAGE plpgsql VOLATILE AS
    'BEGIN RETURN (SELECT count(*) FROM growing); END';
CREATE FUNCTION stable_count() RETURNS bigint LANGUAGE plpgsql STABLE AS
    'BEGIN RETURN (SELECT count(*) FROM growing); END';
CREATE FUNCTION stable_sql_count(g bigint) RETURNS bigint LANGUAGE sql STABLE AS
    'SELECT count(*) + 0 * max(g) FROM growing';
-- Calls pause() for one row of a query.
CREATE FUNCTION pause_at(one bigint, other bigint) RETURNS bigint LANGUAGE plpgsql VOLATILE AS
    'BEGIN IF one = other THEN PERFORM pause(); END IF; RETURN 0; END';
CREATE FUNCTION looped() RETURNS bigint[] LANGUAGE plpgsql AS $$
    DECLARE r record; seen bigint[] := ARRAY[0]; BEGIN
        FOR r IN SELECT value FROM growing ORDER BY value LOOP
            seen[1] := seen[1] + 1;
            IF r.value = 3 THEN
                seen := seen || (SELECT count(*) FROM growing);
                PERFORM pause();
                seen := seen || (SELECT count(*) FROM growing);
            END IF;
        END LOOP;
        RETURN seen || (SELECT count(*) FROM growing);
    END $$;
"""


class Case:
    """A database with one growing store, a session, and one that watches it."""

    def __init__(self, database: Database):
        self.store = Growing(database.root)
        database.import_all()
        database.execute(FUNCTIONS)
        self.session, self.watcher = database.connect(), database.connect()

    def ask(self, sql: str) -> list[tuple]:
        """The rows of a query during which the store grows by a batch."""
        with paused(self.watcher, self.session, sql) as running:
            self.store.append()
        return running.answer()


@pytest.fixture
def case(database: Database):
    made = Case(database)
    yield made
    made.session.close()
    made.watcher.close()


def test_each_statement_of_a_function_sees_the_newest(case: Case):
    assert case.ask("SELECT looped()") == [([N, N, 2 * N, 2 * N],)]
    assert rows(case.session, "SELECT count(*) FROM growing") == [(2 * N,)]


# Each gives the count of rows per row or column; all of them must be the first version's.
OF_ONE_VERSION = {
    "a scan that begins late": "SELECT (SELECT pause_at(1, 1)), count(*) FROM growing",
    "subqueries": "SELECT (SELECT pause_at(1, 1)), (SELECT count(*) FROM growing), (SELECT max(value) + 1 FROM"
    " growing)",
    "a correlated subquery": "SELECT pause_at(g, 2), (SELECT count(*) FROM growing WHERE value >= g * 0)"
    " FROM generate_series(1, 4) g",
    "a CTE": "WITH c AS MATERIALIZED (SELECT count(*) AS n FROM growing), p AS MATERIALIZED (SELECT pause_at(1, 1) AS"
    " n)"
    " SELECT p.n, (SELECT n FROM c) FROM p UNION ALL SELECT 0, count(*) FROM growing",
    "a self-join": "SELECT sum(pause_at(a.value::bigint, 3))::bigint, count(*) FROM growing a JOIN growing b USING"
    " (value)",
    "a stable function": "SELECT pause_at(g, 2), stable_count() FROM generate_series(1, 4) g",
    "a stable function beside a scan": "SELECT pause_at(value::bigint, 2), stable_count() FROM growing WHERE value < 4",
    "a stable SQL function": "SELECT pause_at(g, 2), stable_sql_count(g) FROM generate_series(1, 4) g",
    "a union": "SELECT pause_at(1, 1), 500 UNION ALL SELECT 0, count(*) FROM growing",
    "a recursion": "WITH RECURSIVE r(i, p, n) AS (SELECT 1, 0::bigint, 500::bigint UNION ALL"
    " SELECT i + 1, pause_at(i, 2), (SELECT count(*) FROM growing) FROM r WHERE i < 4) SELECT p, n FROM r",
}


# The library is loaded by what first needs it, which may be the statement in question.
@pytest.mark.parametrize("how", ["first", "serial", "parallel"])
@pytest.mark.parametrize("what", OF_ONE_VERSION)
def test_a_statement_sees_one_version(case: Case, what: str, how: str):
    if how != "first":
        assert rows(case.session, "SELECT count(*) FROM growing") == [(N,)]
    if how == "parallel":
        for setting in PARALLEL:
            case.session.execute(f"SET {setting}")
    answer = case.ask(OF_ONE_VERSION[what])
    counts = {count for _, *counts in answer for count in counts}
    assert counts == {N}, answer
    assert rows(case.session, "SELECT count(*), stable_count() FROM growing") == [(2 * N, 2 * N)]


def test_the_same_of_a_heap_table(case: Case):
    """That what is asked above of stores is what Postgres promises of its own tables."""
    case.session.execute("CREATE TABLE heap AS SELECT * FROM growing")
    case.session.execute("DROP FOREIGN TABLE growing")
    case.session.execute("ALTER TABLE heap RENAME TO growing")
    size = N
    for what, sql in OF_ONE_VERSION.items():
        sql = sql.replace(", 500", f", {size}")
        with paused(case.watcher, case.session, sql) as running:
            case.watcher.execute(
                "INSERT INTO growing SELECT batch, value + %s, text FROM growing WHERE value < 500", (size,)
            )
        counts = {count for _, *counts in running.answer() for count in counts}
        assert counts == {size}, what
        size += N
    case.session.execute("DELETE FROM growing WHERE value >= 500")
    with paused(case.watcher, case.session, "SELECT looped()") as running:
        case.watcher.execute("INSERT INTO growing SELECT batch, value + 500, text FROM growing")
    assert running.answer() == [([N, N, 2 * N, 2 * N],)]


def test_a_volatile_function_sees_what_is_new(case: Case):
    sql = (
        "SELECT value::bigint, pause_at(value::bigint, 2), volatile_count() FROM growing WHERE value < 5 ORDER BY value"
    )
    assert [count for *_, count in case.ask(sql)] == [N, N, 2 * N, 2 * N, 2 * N]


def test_repeatable_read_keeps_its_version(case: Case):
    case.session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert rows(case.session, "SELECT count(*) FROM growing") == [(N,)]
    assert case.ask("SELECT looped()") == [([N, N, N, N],)]
    assert case.ask("SELECT pause(), volatile_count(), stable_count(), (SELECT count(*) FROM growing)") == [
        (None, N, N, N)
    ]
    case.session.execute("COMMIT")
    assert rows(case.session, "SELECT count(*), stable_count(), volatile_count() FROM growing") == [
        (3 * N, 3 * N, 3 * N)
    ]


def test_a_prepared_plan_that_waits_for_a_lock_sees_what_is_new_when_it_runs(case: Case):
    """The snapshot of a statement is taken after its locks."""
    case.session.execute("SET plan_cache_mode = force_generic_plan")
    case.session.execute("PREPARE counted AS SELECT count(*) FROM growing WHERE value >= $1")
    assert rows(case.session, "EXECUTE counted(0)") == [(N,)]
    with case.watcher.transaction():
        case.watcher.execute("ALTER FOREIGN TABLE growing OPTIONS (SET path './growing.soa')")
        running = Running(case.session, "EXECUTE counted(0)")
        wait_until(lambda: is_waiting(case.watcher, case.session), "the wait for the lock")
        case.store.append()
    assert running.answer() == [(2 * N,)]


def test_an_export_of_a_transaction_snapshot_is_of_the_heap_only(case: Case):
    """SET TRANSACTION SNAPSHOT takes over the heap's rows; stores are seen from the first look on, without an error."""
    case.session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    ((exported,),) = rows(case.session, "SELECT pg_export_snapshot()")
    case.watcher.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    case.watcher.execute(f"SET TRANSACTION SNAPSHOT '{exported}'")
    assert rows(case.watcher, "SELECT count(*) FROM growing") == [(N,)]
    case.store.append()
    assert rows(case.watcher, "SELECT count(*) FROM growing") == [(N,)]
    assert rows(case.session, "SELECT count(*) FROM growing") == [(2 * N,)]
    case.watcher.execute("COMMIT")
    case.session.execute("COMMIT")


def test_open_results_keep_their_versions(case: Case):
    """Twenty cursors of one transaction, each opened on another version, read in turns."""
    case.session.execute("BEGIN")
    for i in range(20):
        case.session.execute(f"DECLARE c{i} CURSOR FOR SELECT count(*) OVER (), value FROM growing")
        assert rows(case.session, f"FETCH c{i}") == [((i + 1) * N, 0)]
        case.store.append()
    for i in reversed(range(20)):
        assert rows(case.session, f"FETCH c{i}") == [((i + 1) * N, 1)]
        assert len(rows(case.session, f"FETCH ALL FROM c{i}")) == (i + 1) * N - 2
    assert rows(case.session, "SELECT count(*) FROM growing") == [(21 * N,)]
    case.session.execute("COMMIT")


def test_a_failed_statement_lets_its_version_go(case: Case):
    for i in range(1, 4):
        with pytest.raises(psycopg.errors.DivisionByZero):
            rows(case.session, f"SELECT 1 / (value - {N - 1}) FROM growing")
        case.store.append()
        assert rows(case.session, "SELECT count(*) FROM growing") == [((i + 1) * N,)]
