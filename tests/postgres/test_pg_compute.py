"""What aggregations take of the machine: memory up to the limit, then temporary files or an error; threads; and nothing when
the session has ended.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import support
from pg_support import Database, Growing, Running, error, plan, rows, wait_until

BATCHES, BATCH_ROWS = 12, 122_880
ROWS = BATCHES * BATCH_ROWS
GROUPED = "SELECT count(*), sum(n) FROM (SELECT text, count(*) AS n FROM big GROUP BY text OFFSET 0) x"
DISTINCT = "SELECT count(DISTINCT text) FROM big"


class Big(Growing):
    ROWS = BATCH_ROWS


@pytest.fixture(scope="module")
def big(pg) -> Iterator[Database]:
    """A database with a store of a million texts, all different."""
    with support.public_folder("soa-big-") as folder, Database(pg, folder) as database:
        Big(folder, "big").append(BATCHES - 1)
        database.import_all()
        yield database


@pytest.fixture
def session(big: Database) -> Iterator[psycopg.Connection]:
    with big.connect() as connection:
        yield connection


def temporary_files(database: Database) -> list[Path]:
    return list((database.server.folder / "data" / "base" / "pgsql_tmp").glob("pgsql_tmp_soa_fdw*/**/*"))


def threads(pid: int) -> int:
    names = [(task / "comm").read_text().strip() for task in Path(f"/proc/{pid}/task").iterdir()]
    return names.count("soa_fdw")


def test_groups_go_to_temporary_files(big: Database, session: psycopg.Connection):
    assert "SoA Computes" in str(plan(session, GROUPED, analyze=False))
    right = [(ROWS, ROWS)]
    assert rows(session, GROUPED) == right
    session.execute("SET soa_fdw.work_mem = '32MB'")
    assert rows(session, GROUPED) == right
    assert temporary_files(big) == []


def test_what_cannot_go_to_files_is_an_error(session: psycopg.Connection):
    session.execute("SET soa_fdw.work_mem = '16MB'")
    found = error(session, DISTINCT)
    assert found.sqlstate == "53200" and "soa_fdw.work_mem" in (found.diag.message_hint or ""), found
    session.execute("SET soa_fdw.pushdown = off")
    assert rows(session, DISTINCT) == [(ROWS,)]
    session.execute("RESET soa_fdw.pushdown")
    session.execute("SET soa_fdw.work_mem = '1GB'")
    assert rows(session, DISTINCT) == [(ROWS,)]


@pytest.mark.parametrize("count", [1, 3])
def test_threads(big: Database, count: int):
    with big.connect() as connection:
        pid = connection.info.backend_pid
        connection.execute(f"SET soa_fdw.threads = {count}")
        assert threads(pid) == 0
        assert rows(connection, DISTINCT) == [(ROWS,)]
        # Those that read files for it may come and go.
        assert threads(pid) >= count
        blocked = {
            line
            for task in Path(f"/proc/{pid}/task").iterdir()
            if (task / "comm").read_text().strip() == "soa_fdw"
            for line in (task / "status").read_text().splitlines()
            if line.startswith("SigBlk:")
        }
        (mask,) = (int(line.split()[1], 16) for line in blocked)
        # SIGHUP, SIGINT, SIGQUIT, SIGUSR1, SIGUSR2, SIGALRM, SIGTERM
        assert all(mask >> (signal - 1) & 1 for signal in (1, 2, 3, 10, 12, 14, 15)), hex(mask)


def test_a_session_that_is_ended_leaves_nothing(big: Database):
    session, watcher = big.connect(), big.connect()
    session.execute("SET soa_fdw.work_mem = '32MB'")
    pid = session.info.backend_pid
    running = Running(session, GROUPED)
    wait_until(lambda: temporary_files(big) != [], "writing a temporary file")
    rows(watcher, "SELECT pg_terminate_backend(%s)", (pid,))
    with pytest.raises(psycopg.OperationalError):
        running.answer()
    alive = "SELECT count(*) FROM pg_stat_activity WHERE pid = %s"
    wait_until(lambda: rows(watcher, alive, (pid,)) == [(0,)], "the end of the session")
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the end of the process")
    assert temporary_files(big) == []
    assert rows(watcher, "SELECT count(*) FROM big") == [(ROWS,)]
    watcher.close()
