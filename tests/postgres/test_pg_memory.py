"""Ten thousand queries in one backend, ordinary ones, failing ones and prepared ones, leave its memory as it was; and a
scan of a large store takes no more memory than one of a small store.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import cycle, islice
from pathlib import Path

import psycopg
import pytest

import support
from pg_support import PARALLEL, Database, Growing, rows

WARM_UP, QUERIES = 2_000, 10_000
# What a backend may grow by in 10,000 queries: a tenth of a kilobyte each.
GROWTH_MAX = 1 << 20

ORDINARY = [
    "SELECT count(*), sum(amount) FROM orders WHERE order_id BETWEEN 100 AND 200",
    "SELECT * FROM orders WHERE order_id = 4321",
    "SELECT status, count(*) FROM orders_by_status WHERE year = 2022 GROUP BY status",
    "SELECT * FROM types ORDER BY id",
    "SELECT count(*) FROM types a JOIN types b ON a.i8 = b.i16 WHERE a.s LIKE 't%' OR a.u64 IN (1, 2, 8)",
    "SELECT g, (SELECT count(*) FROM days WHERE k < g AND flag) FROM generate_series(0, 2) g",
    "SELECT note FROM orders WHERE note LIKE 'note 1%' LIMIT 3",
    "EXPLAIN SELECT * FROM orders WHERE status = 'Shipped'",
    "SELECT max(level) FROM rust_types WHERE maybe_text IS NOT NULL AND instant < now()",
    "SELECT c FROM customers c WHERE customer_id = ANY ('{1,2,NULL}'::int[])",
]
FAILING = [
    "SELECT 1 / (order_id - 3) FROM orders",
    "SELECT u64 FROM narrow",
    "SELECT * FROM lost",
    "SELECT nothing FROM orders",
    "SELECT missing FROM narrow",
    "SELECT s::int FROM types",
    "SELECT count(*) FROM orders WHERE order_id = 1 / (SELECT 0)",
    "UPDATE orders SET year = 1",
    "CREATE FOREIGN TABLE x (a int) SERVER stores OPTIONS (path '../x')",
    "ALTER FOREIGN TABLE orders OPTIONS (ADD file 'x')",
    "DO $$ BEGIN PERFORM count(*) FROM orders; RAISE EXCEPTION 'no'; END $$",
    "SELECT (SELECT customer_id FROM orders) FROM types",
]
PREPARED = [
    "EXECUTE one(77)",
    "EXECUTE listed('{Shipped,Pending}')",
    "EXECUTE joined(5)",
    "EXECUTE failing(3)",
    "EXECUTE liked('note 2%')",
]
PREPARE = """
PREPARE one(bigint) AS SELECT * FROM orders WHERE order_id = $1;
PREPARE listed(text[]) AS SELECT count(*) FROM orders_by_status WHERE status = ANY ($1) AND year = 2023;
PREPARE joined(int) AS SELECT count(*) FROM types t JOIN days d ON d.k = t.i8 WHERE t.id < $1 AND d.d < now();
PREPARE failing(bigint) AS SELECT 1 / (order_id - $1) FROM orders WHERE order_id < 10;
PREPARE liked(text) AS SELECT count(*) FROM orders WHERE note LIKE $1;
"""
SUBTRANSACTIONS = """
DO $$ DECLARE n bigint; r record; BEGIN
    FOR i IN 1..20 LOOP
        BEGIN
            SELECT count(*) INTO n FROM orders WHERE order_id < i * 10;
            FOR r IN SELECT order_id FROM orders LOOP n := n / (r.order_id - 2); END LOOP;
        EXCEPTION WHEN division_by_zero THEN NULL; END;
    END LOOP; END $$
"""


def memory(connection: psycopg.Connection) -> int:
    """The bytes of memory that the connection's backend has for itself: not the server's shared buffers, of which it
    touches more and more, and not the mapped files of stores."""
    status = Path(f"/proc/{connection.info.backend_pid}/status").read_text()
    (line,) = [line for line in status.splitlines() if line.startswith("RssAnon:")]
    return int(line.split()[1]) * 1024


@pytest.fixture(scope="module")
def database(pg, stores: Path) -> Iterator[Database]:
    with Database(pg, stores) as made:
        made.import_all()
        made.execute(
            "CREATE FOREIGN TABLE narrow (id int, u64 bigint, missing int) SERVER stores OPTIONS (path 'types.soa')"
        )
        made.execute("CREATE FOREIGN TABLE lost (id int) SERVER stores OPTIONS (path 'lost.soa')")
        yield made


@pytest.fixture
def session(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect() as connection:
        pid = connection.info.backend_pid
        yield connection
        assert rows(connection, "SELECT pg_backend_pid()") == [(pid,)]


def ask(session: psycopg.Connection, statements: list[str], count: int) -> int:
    """Runs so many statements, each in turn; returns how many failed."""
    failed = 0
    for sql in islice(cycle(statements), count):
        try:
            session.execute(sql)
        except psycopg.Error as error:
            assert error.sqlstate is not None, error
            failed += 1
    return failed


KINDS = {
    "ordinary": (ORDINARY, QUERIES, 0.0),
    "failing": (FAILING, QUERIES, 1.0),
    "prepared": (PREPARED, QUERIES, 0.2),
    "subtransactions": ([SUBTRANSACTIONS], QUERIES // 20, 0.0),
    "mixed": (ORDINARY + FAILING + PREPARED, QUERIES, None),
}


@pytest.mark.parametrize("what", KINDS)
def test_memory_stays_as_it_is(session: psycopg.Connection, what: str):
    statements, count, share = KINDS[what]
    session.execute("SET plan_cache_mode = force_generic_plan")
    session.execute(PREPARE)
    warm_up = count * WARM_UP // QUERIES
    ask(session, statements, warm_up)
    before = memory(session)
    failed = ask(session, statements, count)
    grown = memory(session) - before
    assert share is None or failed == count * share, f"{failed} of {count} failed"
    assert grown <= GROWTH_MAX, (
        f"{grown / count:.0f} bytes a query: {before} bytes before, {grown} more after {count} queries"
    )


def test_memory_with_workers(database: Database, session: psycopg.Connection):
    for setting in PARALLEL:
        session.execute(f"SET {setting}")
    queries = ["SELECT count(*), sum(v) FROM rows_122881 WHERE id > 5", "SELECT count(1 / (id - 9)) FROM rows_122881"]
    ask(session, queries, 40)
    before = memory(session)
    assert ask(session, queries, 200) == 100
    assert memory(session) - before <= GROWTH_MAX


def test_memory_while_a_store_grows(pg):
    """What was read of versions that nobody asks for any more is let go, but for what newer versions share."""
    with support.public_folder("soa-memory-") as root, Database(pg, root) as made, made.connect() as session:
        store = Growing(root)
        made.import_all()
        for _ in range(100):
            store.append()
            rows(session, "SELECT count(*), max(text) FROM growing")
        before = memory(session)
        for _ in range(100):
            store.append()
            rows(session, "SELECT count(*), max(text) FROM growing")
        grown = memory(session) - before
        # Metadata of 100 segments more, and what was checked of them.
        assert grown <= 100 * 64 * 1024, f"{grown} bytes more after 100 versions more"


def test_memory_of_a_scan_does_not_grow_with_the_store(pg):
    class Big(Growing):
        ROWS = 122_880

    with support.public_folder("soa-memory-") as root, Database(pg, root) as made:
        store = Big(root, "big")
        made.import_all()
        peaks = []
        for more in (1, 14):
            store.append(more)
            with made.connect() as session:
                session.execute("SET max_parallel_workers_per_gather = 0")
                ((count, _, _),) = rows(session, "SELECT count(*), max(length(text)), sum(value * 2) FROM big")
                assert count == {1: 2, 14: 16}[more] * Big.ROWS
                peaks.append(memory(session))
        assert peaks[1] - peaks[0] <= 8 << 20, f"{peaks[0]} bytes after 2 batches, {peaks[1]} after 16"
