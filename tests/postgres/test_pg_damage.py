"""A store that is missing or damaged gives one clear error with a fitting code, or right rows; never wrong rows, and
the backend lives. The same damage as in tests/badinput, seen from Postgres.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

import make_stores
import support
from damage import arrow_forms, copy, drop_arrow_forms, edit_log, flip, log_files, segments
from pg_support import PARALLEL, Database, error, rows
from test_damaged_stores import FILE_DAMAGE, LOG_DAMAGE, UNKNOWN, positions

# Every byte of the store `orders` is looked at.
EVERYTHING = """SELECT count(*), sum(order_id), sum(customer_id), sum(length(status)), count(DISTINCT status),
    sum(year), min(ordered_on), max(ordered_on), sum(amount), sum(quantity), sum(price), count(note), max(note),
    sum(hashtext(note)) FROM {}"""
COLUMNS = """order_id bigint, customer_id bigint, status text, year int, ordered_on date, amount numeric(12,2),
    quantity bigint, price double precision, note text"""
DAMAGED, UNSUPPORTED, MISSING = "XX001", "0A000", "58P01"


@pytest.fixture
def orders(database: Database, stores: Path) -> Path:
    """A copy of the store `orders` behind the table `orders`."""
    store = copy(stores / "orders.soa", database.root, "orders")
    database.import_all()
    return store


@pytest.fixture
def session(database: Database) -> Iterator[psycopg.Connection]:
    connection = database.connect()
    pid = connection.info.backend_pid
    yield connection
    assert rows(connection, "SELECT pg_backend_pid()") == [(pid,)]
    connection.close()


@pytest.fixture(scope="module")
def right(all_stores: Database) -> list[tuple]:
    """The right answer to `EVERYTHING`."""
    return all_stores.execute(EVERYTHING.format("orders"))


def check(session: psycopg.Connection, state: str, names: str) -> None:
    """Every way to look at the table is an error with this code that names this."""
    for sql in (
        EVERYTHING.format("orders"),
        "SELECT 1 FROM orders LIMIT 1",
        "EXPLAIN SELECT * FROM orders",
        "ANALYZE orders",
    ):
        found = error(session, sql)
        assert found.sqlstate == state and names in str(found), (sql, found.sqlstate, found)
        assert "panicked" not in str(found) and "internal error" not in str(found).lower()


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize("how", LOG_DAMAGE)
def test_damaged_log_entry(session, orders: Path, how: str, which: str):
    LOG_DAMAGE[how](log_files(orders)[0 if which == "first" else -1])
    check(session, DAMAGED, "orders.soa")
    assert "soa verify" in (error(session, "SELECT * FROM orders").diag.message_hint or "")


def test_missing_log_entry(session, orders: Path):
    log_files(orders)[1].unlink()
    check(session, DAMAGED, "orders.soa")


def test_no_log(session, orders: Path):
    for path in log_files(orders):
        path.unlink()
    check(session, MISSING, "orders.soa")
    (orders / "_delta_log").rmdir()
    check(session, MISSING, "orders.soa")


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_unknown_is_refused(session, orders: Path, what: str):
    edit_log(log_files(orders)[0], UNKNOWN[what])
    check(session, UNSUPPORTED, "orders.soa")


@pytest.mark.parametrize("parallel", [False, True], ids=["serial", "parallel"])
@pytest.mark.parametrize("how", FILE_DAMAGE)
def test_damaged_parquet(session, orders: Path, right, how: str, parallel: bool):
    """Without the Arrow form, which would answer as well, the error names the file; what needs it not is answered."""
    drop_arrow_forms(orders)
    victim = segments(orders)[1]
    FILE_DAMAGE[how](victim)
    if parallel:
        for setting in PARALLEL:
            session.execute(f"SET {setting}")
    found = error(session, EVERYTHING.format("orders"))
    assert found.sqlstate in ((MISSING, DAMAGED) if how == "missing" else (DAMAGED,)), (found.sqlstate, found)
    assert victim.name in str(found)
    assert rows(session, "SELECT count(*) FROM orders WHERE order_id < 0 OR order_id > 99999") == [(0,)]


@pytest.mark.parametrize("how", FILE_DAMAGE)
def test_damaged_arrow_form(session, orders: Path, right, how: str):
    """The Parquet form answers instead."""
    FILE_DAMAGE[how](arrow_forms(orders)[1])
    assert rows(session, EVERYTHING.format("orders")) == right


def test_damage_under_open_cursors_and_prepared_plans(session, orders: Path, right):
    session.execute("SET plan_cache_mode = force_generic_plan")
    session.execute(f"PREPARE everything AS {EVERYTHING.format('orders')}")
    assert rows(session, "EXECUTE everything") == right
    session.execute("BEGIN; DECLARE c CURSOR FOR SELECT order_id FROM orders")
    assert rows(session, "FETCH 2 FROM c") == [(0,), (1,)]
    kept = log_files(orders)[-1].read_bytes()
    log_files(orders)[-1].write_text("this is not JSON\n")
    # What has been opened is read on.
    assert len(rows(session, "FETCH ALL FROM c")) == 9_998
    session.execute("COMMIT")
    assert error(session, "EXECUTE everything").sqlstate == DAMAGED
    log_files(orders)[-1].write_bytes(kept)
    assert rows(session, "EXECUTE everything") == right


def flipped(database: Database, store: Path, form, count: int) -> list[tuple[str, Path]]:
    """Copies of a store, each with one bit of one file turned over, as tables: the table and the file."""
    tables = []
    for number, position in enumerate(positions(form(store)[0].stat().st_size, count)):
        damaged = copy(store, database.root, f"flip_{number}")
        victim = form(damaged)[0]
        flip(victim, position, number % 8)
        tables.append((f"flip_{number}", victim))
        database.execute(
            f"CREATE FOREIGN TABLE flip_{number} ({COLUMNS}) SERVER stores OPTIONS (path 'flip_{number}.soa')"
        )
    return tables


def test_flipped_bits_in_parquet(database: Database, session, orders: Path, right):
    drop_arrow_forms(orders)
    errors = 0
    for table, victim in flipped(database, orders, segments, 30):
        try:
            assert rows(session, EVERYTHING.format(table)) == right, f"{table}: wrong rows and no error"
        except psycopg.Error as found:
            errors += 1
            assert found.sqlstate == DAMAGED and victim.name in str(found), (table, found.sqlstate, found)
    assert errors > 15, f"only {errors} of 30 flipped bits were noticed"


def test_flipped_bits_in_the_arrow_form(database: Database, session, orders: Path, right):
    for table, _ in flipped(database, orders, arrow_forms, 30):
        assert rows(session, EVERYTHING.format(table)) == right, table


def test_flipped_bits_in_the_log(database: Database, session, orders: Path, right):
    """JSON has no checksum: a flipped bit may go unnoticed where nobody looks, but no row is made up."""
    for table, _ in flipped(database, orders, lambda store: log_files(store)[-1:], 30):
        try:
            assert rows(session, EVERYTHING.format(table))[0][0] <= right[0][0], table
        except psycopg.Error as found:
            assert found.sqlstate in (DAMAGED, UNSUPPORTED, MISSING, "HV004", "HV005"), (table, found.sqlstate, found)


def test_text_that_postgres_cannot_hold(database: Database, session):
    """A text with a NUL: an error that names the column, where Postgres gets it. The store can count it."""
    texts = ["fine", "a\0b", None]
    table = pa.table(
        {"id": pa.array(range(3), pa.int32()), "s": pa.array(texts), "bin": pa.array([b"x", b"a\0b", None])}
    )
    support.soa("import", make_stores.write_table(table, database.root / "nul.arrow"), database.root / "nul.soa")
    database.import_all()
    for sql in ("SELECT s FROM nul", "SELECT max(s) FROM nul WHERE id > 0", "SELECT s, count(*) FROM nul GROUP BY s", "SELECT * FROM nul WHERE s > 'a'", "ANALYZE nul"):
        found = error(session, sql)
        assert found.sqlstate == "22P05" and '"s"' in str(found) and found.diag.message_hint, (sql, found)
    assert rows(session, "SELECT id, s FROM nul WHERE id <> 1") == [(0, "fine"), (2, None)]
    assert rows(session, "SELECT id, bin FROM nul ORDER BY id") == [(0, b"x"), (1, b"a\0b"), (2, None)]
    assert rows(session, "SELECT count(*), count(s) FROM nul") == [(3, 2)]


def test_values_beyond_what_postgres_holds(database: Database, session):
    """Arrow's days and microseconds reach further than Postgres' dates."""
    days = [0, 2_145_042_905, 2_145_042_906, -2_440_588, -2_440_589, 2**31 - 1, -(2**31)]
    micros = [0, 2**63 - 1, -(2**63), 253_402_300_800_000_000, -210_866_803_200_000_000]
    table = pa.table({"id": pa.array(range(7), pa.int32()), "d": pa.array(days, pa.int32()).cast(pa.date32())})
    support.soa("import", make_stores.write_table(table, database.root / "d.arrow"), database.root / "dates.soa")
    table = pa.table({"id": pa.array(range(5), pa.int32()), "t": pa.array(micros, pa.int64()).cast(pa.timestamp("us"))})
    support.soa("import", make_stores.write_table(table, database.root / "t.arrow"), database.root / "times.soa")
    database.import_all()
    shown = {0: "1970-01-01", 1: "5874897-12-31", 3: "4714-11-24 BC"}
    for row in range(7):
        sql = f"SELECT d::text FROM dates WHERE id = {row}"
        if row in shown:
            assert rows(session, sql) == [(shown[row],)]
        else:
            found = error(session, sql)
            assert found.sqlstate == "22008" and '"d"' in str(found), (row, found)
    shown = {
        0: "1970-01-01 00:00:00",
        1: "294247-01-10 04:00:54.775807",
        3: "10000-01-01 00:00:00",
        4: "4714-11-24 00:00:00 BC",
    }
    for row in range(5):
        sql = f"SELECT t::text FROM times WHERE id = {row}"
        if row in shown:
            assert rows(session, sql) == [(shown[row],)]
        else:
            found = error(session, sql)
            assert found.sqlstate == "22008" and '"t"' in str(found), (row, found)
    # Infinity is not a value of a store, and compares as it should.
    assert rows(session, "SELECT count(*) FROM dates WHERE d < 'infinity' AND id IN (0, 1, 3)") == [(3,)]
    assert rows(session, "SELECT count(*) FROM times WHERE t > '-infinity' AND id IN (0, 3, 4)") == [(3,)]
