"""IMPORT FOREIGN SCHEMA: which stores of a folder become tables, under which names and with which types."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

import make_stores
import support
from damage import copy, edit_log, log_files, truncate
from pg_support import Database, error, notices, rows
from test_damaged_stores import UNKNOWN


@pytest.fixture
def filled(database: Database, stores: Path) -> Database:
    """A root with stores, a folder with stores, and what is no store."""
    for name in ("orders", "types", "days"):
        copy(stores / f"{name}.soa", database.root, name)
    inner = database.root / "inner" / "deeper"
    inner.mkdir(parents=True)
    copy(stores / "customers.soa", database.root / "inner", "customers")
    shutil.copytree(stores / "rows_1.soa", database.root / "inner" / "no_suffix")
    copy(stores / "rows_0.soa", inner, "rows_0")
    (database.root / "empty").mkdir()
    (database.root / "no_store.soa").mkdir()
    (database.root / "readme.soa").write_text("a file")
    return database


def bring(session: psycopg.Connection, what: str = "", schema: str = ".", options: str = "") -> set[str]:
    """Imports into a new schema, and returns the names of the tables."""
    session.execute("SET client_min_messages = warning; DROP SCHEMA IF EXISTS target CASCADE; CREATE SCHEMA target")
    session.execute(f'IMPORT FOREIGN SCHEMA "{schema}" {what} FROM SERVER stores INTO target {options}')
    return {
        name for (name,) in rows(session, "SELECT relname FROM pg_class WHERE relnamespace = 'target'::regnamespace")
    }


def test_which_tables(filled: Database):
    with filled.connect() as session:
        told = notices(session)
        assert bring(session) == {"orders", "types", "days"}
        assert bring(session, "LIMIT TO (orders, days)") == {"orders", "days"}
        assert bring(session, "EXCEPT (orders, nothing)") == {"types", "days"}
        assert bring(session, schema="inner") == {"customers", "no_suffix"}
        assert rows(session, "SELECT count(*) FROM target.customers") == [(200,)]
        assert rows(session, "SELECT count(*) FROM target.no_suffix") == [(1,)]
        assert bring(session, schema="inner/deeper") == {"rows_0"}
        assert bring(session, schema="./inner/") == {"customers", "no_suffix"}
        assert rows(session, "SELECT count(*) FROM target.customers") == [(200,)]
        assert bring(session, schema="empty") == set()
        assert told == []
        missing = error(
            session, 'IMPORT FOREIGN SCHEMA "." LIMIT TO (orders, customers) FROM SERVER stores INTO target'
        )
        assert (
            missing.sqlstate == "HV00R" and "customers" in str(missing) and "orders" in str(missing.diag.message_hint)
        )
        assert error(session, "IMPORT FOREIGN SCHEMA nothing FROM SERVER stores INTO target").sqlstate == "58P01"
        # One that exists already: as with every import, nothing is made.
        session.execute("CREATE TABLE target.orders (a int)")
        assert error(session, 'IMPORT FOREIGN SCHEMA "." FROM SERVER stores INTO target').sqlstate == "42P07"
        assert rows(session, "SELECT count(*) FROM pg_foreign_table") == [(0,)]


def test_a_store_itself_is_no_schema(filled: Database):
    with filled.connect() as session:
        assert bring(session, schema="orders.soa") == set()


TYPES = {
    "id": "integer",
    "b": "boolean",
    "i8": "smallint",
    "i16": "smallint",
    "i32": "integer",
    "i64": "bigint",
    "u8": "smallint",
    "u16": "integer",
    "u32": "bigint",
    "u64": "numeric(20,0)",
    "f32": "real",
    "f64": "double precision",
    "dec4": "numeric(4,1)",
    "dec9": "numeric(9,2)",
    "dec18": "numeric(18,6)",
    "dec38": "numeric(38,10)",
    "s": "text",
    "bin": "bytea",
    "d": "date",
    "ts": "timestamp without time zone",
    "tz": "timestamp with time zone",
}
DECLARED = """SELECT attname, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute
    WHERE attrelid = %s::regclass AND attnum > 0"""


def test_types(filled: Database, stores: Path):
    copy(stores / "types_required.soa", filled.root, "types_required")
    with filled.connect() as session:
        bring(session)
        assert rows(session, DECLARED, ("target.types",)) == [(name, kind, False) for name, kind in TYPES.items()]
        assert rows(session, DECLARED, ("target.types_required",)) == [
            (name, kind, True) for name, kind in TYPES.items()
        ]


@pytest.mark.parametrize(
    ("option", "types", "orders"),
    [
        ("", "numeric(20,0)", "bigint"),
        ("OPTIONS (u64 'auto')", "numeric(20,0)", "bigint"),
        ("OPTIONS (u64 'bigint')", "bigint", "bigint"),
        ("OPTIONS (u64 'numeric')", "numeric(20,0)", "numeric(20,0)"),
    ],
)
def test_integers_of_64_unsigned_bits(filled: Database, option: str, types: str, orders: str):
    with filled.connect() as session:
        bring(session, options=option)
        declared = (
            "SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = %s::regclass AND attname = %s"
        )
        assert rows(session, declared, ("target.types", "u64")) == [(types,)]
        assert rows(session, declared, ("target.orders", "order_id")) == [(orders,)]
        assert rows(session, "SELECT max(order_id), sum(order_id) FROM target.orders") == [(9999, 49_995_000)]
        greatest = "SELECT max(u64) FROM target.types"
        if types == "bigint":
            assert error(session, greatest).sqlstate == "22003"
            assert rows(session, "SELECT max(u64) FROM target.types WHERE u64 < 100") == [(8,)]
        else:
            assert rows(session, greatest) == [(2**64 - 1,)]


BROKEN = {
    "cut log": lambda store: truncate(log_files(store)[0], 100),
    "no commit": lambda store: [path.unlink() for path in log_files(store)],
    "unknown feature": lambda store: edit_log(log_files(store)[0], UNKNOWN["required feature"]),
}


@pytest.mark.parametrize("how", BROKEN)
def test_a_broken_store_does_not_keep_the_others_out(filled: Database, how: str):
    BROKEN[how](filled.root / "types.soa")
    state = {"unknown feature": "0A000", "no commit": "58P01"}.get(how, "XX001")
    with filled.connect() as session:
        told = notices(session)
        assert bring(session) == {"orders", "days"}
        assert [(one.severity, one.sqlstate) for one in told] == [("WARNING", state)], told
        assert "types.soa" in told[0].message and "is not imported" in told[0].message
        assert bring(session, "EXCEPT (types)") == {"orders", "days"}
        assert bring(session, "LIMIT TO (orders)") == {"orders"}
        assert len(told) == 1
        refused = error(session, 'IMPORT FOREIGN SCHEMA "." LIMIT TO (types) FROM SERVER stores INTO target')
        assert refused.sqlstate == state and "types.soa" in str(refused)


NAMES = [
    "MixedCase",
    'quo"te',
    "sp ace",
    "back\\slash",
    "semi;colon",
    "per%cent",
    "select",
    "东京",
    "q'uote",
    "$$",
    "dot.ted",
    "x" * 59,
]


def test_awkward_names(database: Database, stores: Path):
    for name in NAMES:
        copy(stores / "rows_1.soa", database.root, name)
    with database.connect() as session:
        assert bring(session) == set(NAMES)
        for name in NAMES:
            quoted = '"' + name.replace('"', '""') + '"'
            assert bring(session, f"LIMIT TO ({quoted})") == {name}
            assert rows(session, f"SELECT count(*) FROM target.{quoted}") == [(1,)]


def test_names_that_postgres_cannot_have(database: Database, stores: Path):
    """A name that is too long, and names that are none: passed over, the first with a warning."""
    copy(stores / "rows_1.soa", database.root, "fine")
    copy(stores / "rows_1.soa", database.root, "x" * 64)
    shutil.copytree(stores / "rows_1.soa", database.root / "line\nbreak.soa")
    shutil.copytree(stores / "rows_1.soa", Path(os.fsdecode(os.fsencode(database.root) + b"/no\xff\xfeutf8.soa")))
    with database.connect() as session:
        told = notices(session)
        assert bring(session) == {"fine"}
        assert [one.severity for one in told] == ["WARNING"] and "x" * 64 in told[0].message and told[0].hint
        told.clear()
        longest = make_stores.write_table(pa.table({"y" * 64: pa.array([1], pa.int32())}), database.root / "wide.arrow")
        support.soa("import", longest, database.root / "wide.soa")
        assert bring(session) == {"fine"}
        assert len(told) == 2 and any("y" * 64 in one.message and "column_name" in (one.hint or "") for one in told), (
            told
        )
        session.execute(
            f"CREATE FOREIGN TABLE target.wide (y int OPTIONS (column_name '{'y' * 64}')) SERVER stores OPTIONS (path"
            f" 'wide.soa')"
        )
        assert rows(session, "SELECT y FROM target.wide") == [(1,)]


def test_two_folders_of_one_name(filled: Database, stores: Path):
    shutil.copytree(stores / "rows_1.soa", filled.root / "orders")
    with filled.connect() as session:
        session.execute("CREATE SCHEMA target")
        refused = error(session, 'IMPORT FOREIGN SCHEMA "." FROM SERVER stores INTO target')
        assert (
            refused.sqlstate == "HV024"
            and '"orders"' in str(refused)
            and '"orders.soa"' in str(refused)
            and refused.diag.message_hint
        )
        assert bring(session, "EXCEPT (orders)") == {"types", "days"}


def test_a_store_of_very_many_columns(database: Database):
    """Postgres takes 1,600 columns."""
    for count in (1600, 1601):
        table = pa.table({f"c{i}": pa.array([i], pa.int32()) for i in range(count)})
        source = make_stores.write_table(table, database.root / f"wide_{count}.parquet")
        support.soa("import", source, database.root / f"wide_{count}.soa")
    with database.connect() as session:
        told = notices(session)
        assert bring(session) == {"wide_1600"}
        assert len(told) == 1 and "wide_1601" in told[0].message, told
        (row,) = rows(session, "SELECT * FROM target.wide_1600")
        assert row == tuple(range(1600))
        assert rows(session, "SELECT c7 + c1599 FROM target.wide_1600") == [(1606,)]
