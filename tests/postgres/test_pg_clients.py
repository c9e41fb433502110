"""Programs that people have read the tables: psql's listings, pg_dump, SQLAlchemy, psycopg, asyncpg."""

from __future__ import annotations

import asyncio
import datetime
import decimal
import re
import subprocess
from pathlib import Path

import pytest

from pg_support import Database, Growing, rows

UTC = datetime.timezone.utc
TIME = datetime.datetime(2024, 2, 29, 12, 34, 56, 789012)
# The first row of the store `types`.
FIRST_ROW = (
    1, True, 1, 2, 3, 4, 5, 6, 7, decimal.Decimal(8), 0.5, 0.25, decimal.Decimal("1.5"), decimal.Decimal("2.25"),
    decimal.Decimal("3.125000"), decimal.Decimal("4.5000000000"), "plain", b"\x01\x02", datetime.date(2024, 2, 29),
    TIME, TIME.replace(tzinfo=UTC),
)  # fmt: skip


def words(text: str) -> list[list[str]]:
    """The cells of the lines that psql has made a table of."""
    return [[cell.strip() for cell in line.split("|")] for line in text.splitlines() if "|" in line]


# psql


def test_psql_describes_a_table(all_stores: Database, stores: Path):
    shown = all_stores.server.psql("-c", r"\d orders", database=all_stores.name)
    assert 'Foreign table "public.orders"' in shown
    assert ["order_id", "bigint"] in [line[:2] for line in words(shown)]
    assert ["amount", "numeric(12,2)"] in [line[:2] for line in words(shown)]
    assert "Server: stores" in shown and "FDW options: (path 'orders.soa')" in shown
    required = all_stores.server.psql("-c", r"\d types_required", database=all_stores.name)
    assert ["u64", "numeric(20,0)", "", "not null"] in [line[:4] for line in words(required)]


def test_psql_lists_tables_servers_wrappers(all_stores: Database, stores: Path):
    tables = words(all_stores.server.psql("-c", r"\det+", database=all_stores.name))
    assert ["public", "orders", "stores", "(path 'orders.soa')", ""] in tables
    assert len(tables) == len(list(stores.glob("*.soa"))) + 1
    (server,) = words(all_stores.server.psql("-c", r"\des+", database=all_stores.name))[1:]
    assert server[0] == "stores" and server[2] == "soa_fdw" and f"(root '{stores}')" in server
    (wrapper,) = words(all_stores.server.psql("-c", r"\dew+", database=all_stores.name))[1:]
    assert wrapper[0] == "soa_fdw" and wrapper[2:4] == ["soa_fdw_handler", "soa_fdw_validator"]
    (extension,) = [
        line for line in words(all_stores.server.psql("-c", r"\dx", database=all_stores.name)) if line[0] == "soa_fdw"
    ]
    assert re.fullmatch(r"\d+\.\d+\.\d+", extension[1])


def test_psql_queries(all_stores: Database):
    psql = lambda *arguments: all_stores.server.psql("-At", *arguments, database=all_stores.name)  # noqa: E731
    assert psql("-c", "SELECT count(*), sum(amount) FROM orders WHERE status = 'Shipped'").startswith("2001|")
    # By a cursor, some rows at a time.
    assert psql("-v", "FETCH_COUNT=1000", "-c", "SELECT order_id FROM orders").splitlines() == [
        str(i) for i in range(10_000)
    ]
    copied = psql("-c", r"\copy (SELECT order_id, note FROM orders WHERE order_id < 2) TO STDOUT")
    assert copied == "0\t\\N\n1\tnote 01 of order\n"


# pg_dump


def test_dumped_definitions_are_restored(all_stores: Database, stores: Path):
    server = all_stores.server
    server.execute(
        "CREATE FOREIGN TABLE renamed (number bigint OPTIONS (column_name 'order_id') NOT NULL, old int)"
        " SERVER stores OPTIONS (path 'orders_keyed.soa', version '0')",
        all_stores.name,
    )
    try:
        server.execute(
            "ALTER FOREIGN TABLE renamed DROP COLUMN old, ALTER COLUMN number DROP NOT NULL", all_stores.name
        )
        dump = _pg_dump(all_stores)
    finally:
        server.execute("DROP FOREIGN TABLE renamed", all_stores.name)
    name = f"{all_stores.name}_restored"
    server.execute(f"CREATE DATABASE {name} TEMPLATE template0")
    try:
        restored = subprocess.run(
            [server.clients / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", server.url(name)],
            input=dump, text=True, capture_output=True, timeout=60,
        )  # fmt: skip
        assert restored.returncode == 0, restored.stderr
        assert server.execute("SELECT count(*), min(number) FROM renamed", name) == [(10_000, 0)]
        for table in ("types", "orders_by_status", "names", "rust_types"):
            sql = f"SELECT md5(string_agg(t::text, '|' ORDER BY t::text)) FROM {table} t"
            assert server.execute(sql, name) == server.execute(sql, all_stores.name)
    finally:
        server.execute(f"DROP DATABASE {name} WITH (FORCE)")


def _pg_dump(database: Database, *options: str) -> str:
    command = [database.server.clients / "pg_dump", *options, "-d", database.server.url(database.name)]
    done = subprocess.run(command, text=True, capture_output=True, timeout=60, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_rows_are_dumped_where_asked_for(all_stores: Database):
    """pg_dump leaves the rows of foreign tables out, unless their server is named."""
    assert "note 01 of order" not in _pg_dump(all_stores)
    assert "note 01 of order" in _pg_dump(all_stores, "--include-foreign-data=stores", "--table=orders")


# SQLAlchemy


def test_sqlalchemy_reflects_and_queries(all_stores: Database):
    import sqlalchemy as sa

    engine = sa.create_engine(all_stores.server.url(all_stores.name, scheme="postgresql+psycopg"))
    try:
        inspector = sa.inspect(engine)
        assert {"orders", "types"} <= set(inspector.get_foreign_table_names())
        columns = {column["name"]: column for column in inspector.get_columns("types")}
        assert str(columns["dec9"]["type"]) == "NUMERIC(9, 2)" and isinstance(columns["tz"]["type"], sa.types.TIMESTAMP)
        assert columns["tz"]["type"].timezone and not columns["ts"]["type"].timezone
        orders = sa.Table("orders", sa.MetaData(), autoload_with=engine)
        customers = sa.Table("customers", sa.MetaData(), autoload_with=engine)
        query = (
            sa.select(customers.c.country, sa.func.count(), sa.func.sum(orders.c.amount))
            .join(customers, customers.c.customer_id == orders.c.customer_id)
            .where(orders.c.status.in_(["Shipped", "Pending"]), orders.c.ordered_on >= datetime.date(2023, 1, 1))
            .group_by(customers.c.country)
            .order_by(customers.c.country.nulls_last())
        )
        with engine.connect() as connection:
            found = [tuple(row) for row in connection.execute(query)]
            with all_stores.connect() as session:
                expected = rows(
                    session,
                    "SELECT country, count(*), sum(amount) FROM orders JOIN customers USING (customer_id)"
                    " WHERE status IN ('Shipped', 'Pending') AND ordered_on >= '2023-01-01' GROUP BY 1 ORDER BY 1"
                    " NULLS LAST",
                )
            assert found == expected and len(found) == 5
            streamed = connection.execution_options(yield_per=700).execute(sa.select(orders.c.order_id))
            assert [number for (number,) in streamed] == list(range(10_000))
            names = sa.Table("names", sa.MetaData(), autoload_with=engine)
            assert [tuple(row) for row in connection.execute(sa.select(names.c["列"], names.c['quo"te']))] == [
                (10, "x"),
                (20, "y"),
                (30, "z"),
            ]
    finally:
        engine.dispose()


# psycopg


@pytest.mark.parametrize("binary", [False, True], ids=["text", "binary"])
def test_psycopg_reads_every_type(all_stores: Database, binary: bool):
    with all_stores.connect() as session:
        cursor = session.cursor(binary=binary)
        assert cursor.execute("SELECT * FROM types WHERE id = %s", (1,)).fetchall() == [FIRST_ROW]
        assert cursor.execute("SELECT * FROM types WHERE id = 9").fetchall() == [(9,) + (None,) * 20]
        # Both formats are made of the same values, whatever they are.
        session.execute("CREATE TEMP TABLE heap AS SELECT * FROM types")
        some = "SELECT id, i64, u64, f32, f64, dec38, s, bin FROM {} WHERE id <> 5 ORDER BY id"
        assert cursor.execute(some.format("types")).fetchall() == cursor.execute(some.format("heap")).fetchall()


def test_psycopg_cursors_and_prepared_statements(all_stores: Database):
    with all_stores.connect(autocommit=False, prepare_threshold=5) as session:
        with session.cursor(name="some", scrollable=True) as cursor:
            cursor.itersize = 333
            cursor.execute("SELECT order_id FROM orders WHERE order_id >= %s", (100,))
            assert [number for (number,) in cursor] == list(range(100, 10_000))
            cursor.scroll(0, mode="absolute")
            assert cursor.fetchmany(2) == [(100,), (101,)]
        for number in range(20):
            sql = "SELECT status, amount FROM orders WHERE order_id = %s"
            assert len(session.execute(sql, (number,), prepare=True).fetchall()) == 1
        assert session.execute("SELECT count(*) FROM pg_prepared_statements").fetchone() == (1,)
        with session.pipeline():
            cursors = [session.execute("SELECT count(*) FROM orders WHERE order_id < %s", (n,)) for n in range(50)]
        assert [cursor.fetchone() for cursor in cursors] == [(n,) for n in range(50)]
        with session.cursor().copy("COPY (SELECT order_id, note FROM orders WHERE order_id < 3) TO STDOUT") as copy:
            assert list(copy.rows()) == [("0", None), ("1", "note 01 of order"), ("2", "note 02 of order")]


# asyncpg


def test_asyncpg(all_stores: Database, database: Database):
    """It speaks the binary protocol, prepares every statement, and keeps the plans."""
    store = Growing(database.root)
    database.import_all()
    asyncio.run(_read_with_asyncpg(all_stores))
    asyncio.run(_read_while_growing(database, store))


async def _read_with_asyncpg(database: Database) -> None:
    import asyncpg

    connection = await asyncpg.connect(database.server.url(database.name))
    try:
        assert tuple(await connection.fetchrow("SELECT * FROM types WHERE id = $1", 1)) == FIRST_ROW
        statement = await connection.prepare(
            "SELECT count(*), min(order_id) FROM orders WHERE status = ANY($1::text[]) AND order_id >= $2"
        )
        for first in (0, 5000, 9999, 10_000):
            found = tuple(await statement.fetchrow(["Shipped", "Pending"], first))
            assert found == tuple(await connection.fetchrow(
                f"SELECT count(*), min(order_id) FROM orders WHERE status IN ('Shipped', 'Pending') AND order_id >="
                f" {first}"
            ))  # fmt: skip
        async with connection.transaction():
            numbers = [row["order_id"] async for row in connection.cursor("SELECT order_id FROM orders", prefetch=77)]
            cursor = await connection.cursor("SELECT order_id FROM orders WHERE order_id > $1", 10)
            assert [row[0] for row in await cursor.fetch(3)] == [11, 12, 13]
            assert await cursor.forward(100) == 100
            assert (await cursor.fetchrow())[0] == 114
        assert numbers == list(range(10_000))
        try:
            await connection.fetch("SELECT 1 / (order_id - 5) FROM orders")
        except asyncpg.DivisionByZeroError:
            pass
        else:
            raise AssertionError("a division by zero gave no error")
        assert await connection.fetchval("SELECT count(*) FROM orders") == 10_000
    finally:
        await connection.close()


async def _read_while_growing(database: Database, store: Growing) -> None:
    import asyncpg

    pool = await asyncpg.create_pool(database.server.url(database.name), min_size=3, max_size=3)
    try:
        for batches in range(1, 5):
            sql = "SELECT count(*), max(value) FROM growing WHERE value >= $1"
            found = await asyncio.gather(*(pool.fetchrow(sql, 0) for _ in range(6)))
            assert {tuple(row) for row in found} == {(batches * store.ROWS, batches * store.ROWS - 1)}
            store.append()
        # A table that is changed under prepared statements.
        async with pool.acquire() as connection:
            await connection.execute("ALTER FOREIGN TABLE growing DROP COLUMN text")
            assert tuple(await connection.fetchrow("SELECT * FROM growing WHERE value = 3")) == (0, 3)
    finally:
        await pool.close()
