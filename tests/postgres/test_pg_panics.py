"""A panic in any callback of the extension becomes an ordinary error of the statement that met it, and the session goes
on.

In a server whose environment has SOA_TEST_PANIC, the setting `soa_fdw.test_panic` names the callback that panics.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pg_server import PgServer
from pg_support import PARALLEL, Database, nodes, plan, rows

STORE = "rows_122881"
SCAN = f"SELECT count(*), sum(v), max(s) FROM {STORE} WHERE id >= 5 AND s LIKE 's%'"
# A scan that starts again for each row of the other side.
AGAIN = f"SELECT g, (SELECT count(*) FROM {STORE} WHERE id < g * 1000) FROM generate_series(1, 3) g ORDER BY g"
# A scan by several processes that starts again.
SHARED_AGAIN = (
    f"SELECT g, x.n FROM generate_series(1, 3) g LEFT JOIN (SELECT count(*) AS n FROM {STORE}) x ON true ORDER BY g"
)
STATEMENTS = {
    "validate": "CREATE FOREIGN TABLE new (id bigint) SERVER stores OPTIONS (path 'days.soa')",
    "import": 'IMPORT FOREIGN SCHEMA "." LIMIT TO (days) FROM SERVER stores INTO public',
    "rel_size": SCAN,
    "paths": SCAN,
    "upper_paths": SCAN,
    "plan": SCAN,
    "explain": f"EXPLAIN (COSTS OFF) {SCAN}",
    "begin": SCAN,
    "iterate": SCAN,
    "rescan": AGAIN,
    "shutdown": SCAN,
    "end": SCAN,
    "analyze": "ANALYZE orders",
    "estimate_dsm": SCAN,
    "initialize_dsm": SCAN,
    "initialize_worker": SCAN,
    "reinitialize_dsm": SHARED_AGAIN,
    "report": "SELECT * FROM soa.history('orders')",
}
# Those that only a scan by several processes reaches.
SHARED = {"estimate_dsm", "initialize_dsm", "initialize_worker", "reinitialize_dsm"}
# Those that a statement reaches only while it is planned, which one that is prepared with its plan does not.
PLANNING = {"rel_size", "paths", "upper_paths", "plan"}
SCANNING = ["begin", "iterate", "rescan", "shutdown", "end", *sorted(SHARED)]


@pytest.fixture(scope="module")
def server() -> Iterator[PgServer]:
    with PgServer(environment={"SOA_TEST_PANIC": "1"}) as running:
        yield running
        log = running.log_text()
        assert "terminated by signal" not in log and "PANIC" not in log, log[-5000:]


@pytest.fixture(scope="module")
def prepared(server: PgServer, stores: Path) -> Iterator[Database]:
    with Database(server, stores) as database:
        database.execute(f'IMPORT FOREIGN SCHEMA "." LIMIT TO ({STORE}, orders) FROM SERVER stores INTO public')
        yield database


@pytest.fixture
def session(prepared: Database) -> Iterator[psycopg.Connection]:
    connection = prepared.connect()
    connection.execute("LOAD 'soa_fdw'")
    pid = connection.info.backend_pid
    yield connection
    assert rows(connection, "SELECT pg_backend_pid()") == [(pid,)]
    connection.close()


def set_up(session: psycopg.Connection, step: str) -> None:
    settings = [*PARALLEL, "enable_material = off"] if step in SHARED else ["max_parallel_workers_per_gather = 0"]
    for setting in settings:
        session.execute(f"SET {setting}")


def answer(session: psycopg.Connection, sql: str) -> list[tuple]:
    done = session.execute(sql)
    return done.fetchall() if done.description else []


def check_panic(session: psycopg.Connection, step: str, sql: str, prepare: bool | None = None) -> None:
    """The statement fails with an ordinary error."""
    session.execute(f"SET soa_fdw.test_panic = '{step}'")
    with pytest.raises(psycopg.Error) as failed:
        session.execute(sql, prepare=prepare)
    assert failed.value.sqlstate == "XX000", failed.value
    assert "soa_fdw.test_panic" in str(failed.value)
    assert failed.value.diag.severity == "ERROR"


@pytest.mark.parametrize("step", STATEMENTS)
def test_the_session_goes_on(session: psycopg.Connection, step: str):
    set_up(session, step)
    sql = STATEMENTS[step]
    undo = "DROP FOREIGN TABLE IF EXISTS new, days"
    right = answer(session, sql)
    session.execute(undo)
    for _ in range(3):
        check_panic(session, step, sql)
        assert rows(session, "SELECT 42") == [(42,)]
        session.execute("RESET soa_fdw.test_panic")
        assert answer(session, sql) == right
        session.execute(undo)


@pytest.mark.parametrize("step", STATEMENTS)
def test_a_transaction_goes_on_after_its_savepoint(session: psycopg.Connection, step: str):
    set_up(session, step)
    sql = STATEMENTS[step]
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    session.execute("CREATE TABLE kept AS SELECT 1 AS a")
    for _ in range(2):
        session.execute("SAVEPOINT s")
        check_panic(session, step, sql)
        session.execute("ROLLBACK TO s")
        session.execute("RESET soa_fdw.test_panic")
    answer(session, sql)
    assert rows(session, "SELECT a FROM kept") == [(1,)]
    session.execute("ROLLBACK")


@pytest.mark.parametrize("step", SCANNING)
def test_a_prepared_statement_goes_on(session: psycopg.Connection, step: str):
    set_up(session, step)
    session.execute("SET plan_cache_mode = force_generic_plan")
    session.execute(f"PREPARE one AS {STATEMENTS[step]}")
    right = answer(session, "EXECUTE one")
    for _ in range(3):
        check_panic(session, step, "EXECUTE one")
        session.execute("RESET soa_fdw.test_panic")
        assert answer(session, "EXECUTE one") == right


@pytest.mark.parametrize("step", SCANNING)
def test_a_statement_of_the_protocol_goes_on(session: psycopg.Connection, step: str):
    """Parse, Bind, Execute: the portal ends with the next one, or with the transaction."""
    set_up(session, step)
    right = session.execute(STATEMENTS[step], prepare=True).fetchall()
    for _ in range(3):
        check_panic(session, step, STATEMENTS[step], prepare=True)
        session.execute("RESET soa_fdw.test_panic")
        assert session.execute(STATEMENTS[step], prepare=True).fetchall() == right


@pytest.mark.parametrize("step", sorted(set(STATEMENTS) - {"validate", "import", "analyze"}))
def test_a_function_catches_it(session: psycopg.Connection, step: str):
    set_up(session, step)
    session.execute(
        "CREATE OR REPLACE FUNCTION caught(query text) RETURNS text LANGUAGE plpgsql AS $$ BEGIN"
        " EXECUTE query; RETURN 'nothing'; EXCEPTION WHEN internal_error THEN RETURN SQLERRM; END $$"
    )
    for _ in range(3):
        session.execute(f"SET soa_fdw.test_panic = '{step}'")
        # What EXECUTE gives to nobody is still computed, but in one process.
        into = STATEMENTS[step] if step == "explain" or step in SHARED else f"CREATE TEMP TABLE t AS {STATEMENTS[step]}"
        ((found,),) = rows(session, "SELECT caught(%s)", (into,))
        if step in SHARED and found == "nothing":
            pytest.fail("the query did not run in parallel")
        assert "soa_fdw.test_panic" in found
        session.execute("RESET soa_fdw.test_panic")
        assert len(rows(session, SCAN)) == 1


@pytest.mark.parametrize("step", ["iterate", "rescan", "shutdown", "end"])
def test_a_cursor_that_panics_is_closed_with_its_transaction(session: psycopg.Connection, step: str):
    set_up(session, step)
    session.execute("BEGIN")
    session.execute(f"DECLARE c CURSOR FOR {STATEMENTS[step]}")
    session.execute(f"SET soa_fdw.test_panic = '{step}'")
    with pytest.raises(psycopg.errors.InternalError_):
        session.execute("FETCH ALL FROM c")
        session.execute("CLOSE c")
    session.execute("ROLLBACK")
    assert rows(session, "SELECT count(*) FROM pg_cursors") == [(0,)]
    session.execute("RESET soa_fdw.test_panic")
    assert len(rows(session, SCAN)) == 1


def test_a_panic_in_a_worker_reaches_the_leader(session: psycopg.Connection):
    """With a leader that only collects, rows are read by workers alone."""
    set_up(session, "initialize_worker")
    session.execute("SET parallel_leader_participation = off")
    gathers = [node for node in nodes(plan(session, SCAN)) if node["Node Type"] == "Gather"]
    assert gathers and gathers[0]["Workers Launched"] > 0
    right = rows(session, SCAN)
    for step in ("iterate", "initialize_worker"):
        for _ in range(3):
            session.execute(f"SET soa_fdw.test_panic = '{step}'")
            with pytest.raises(psycopg.errors.InternalError_, match="soa_fdw.test_panic") as failed:
                session.execute(SCAN)
            assert "parallel worker" in str(failed.value)
            session.execute("RESET soa_fdw.test_panic")
            assert rows(session, SCAN) == right


def test_only_superusers_may_ask_for_it(prepared: Database):
    prepared.execute("CREATE ROLE somebody LOGIN")
    with prepared.connect(user="somebody") as connection:
        connection.execute("DO $$ BEGIN PERFORM 1; END $$")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("SET soa_fdw.test_panic = 'begin'")
            connection.execute(f"SELECT count(*) FROM {STORE}")


def test_other_servers_do_not_panic(all_stores: Database):
    """Without the variable the setting is nobody's."""
    with all_stores.connect() as connection:
        connection.execute("SET soa_fdw.test_panic = 'begin'")
        assert rows(connection, "SELECT count(*) FROM orders") == [(10_000,)]
