"""Databases of other encodings than UTF-8: text comes converted, or with an error for what the encoding cannot hold;
names of columns, tables and folders are found. What a table of the heap can hold tells which is which.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

import make_stores
import support
from pg_server import PgServer
from pg_support import Database, error, notices, rows

TEXTS = ["plain", "", "Straße", "größer", "東京", "ひらがな", "a" * 5000, "Smörgåsbord", "€ 5", "🦆", "ﬁn", None]
HOLDS = {
    "LATIN1": {"Straße", "größer", "Smörgåsbord"},
    "WIN1252": {"Straße", "größer", "Smörgåsbord", "€ 5"},
    "EUC_JP": {"Straße", "größer", "Smörgåsbord", "東京", "ひらがな"},
}
UNTRANSLATABLE = psycopg.errors.UntranslatableCharacter.sqlstate


@pytest.fixture(scope="module")
def folder(stores: Path) -> Iterator[Path]:
    """Stores whose text, columns and names are not ASCII."""
    with support.public_folder("soa-encodings-") as root:
        ids = pa.array(range(len(TEXTS)), pa.int32())
        table = pa.table({"id": ids, "Straße": pa.array(TEXTS, pa.string()), "again": pa.array(TEXTS, pa.string())})
        source = make_stores.write_table(table, root / "texts.arrow")
        support.soa("import", source, root / "Größe.soa")
        support.soa("import", source, root / "plain.soa")
        for name in ("names", "rust_types"):
            shutil.copytree(stores / f"{name}.soa", root / f"{name}.soa")
        yield root


@pytest.fixture(scope="module", params=HOLDS)
def other(request, pg: PgServer, folder: Path) -> Iterator[Database]:
    """A database of another encoding with a table of the texts that it can hold."""
    with Database(pg, folder, request.param) as database:
        with database.connect(client_encoding="UTF8") as session:
            assert rows(session, "SHOW server_encoding") == [(request.param,)]
            session.execute("CREATE TABLE heap (id int, s text)")
            for place, text in enumerate(TEXTS):
                try:
                    session.execute("INSERT INTO heap VALUES (%s, %s)", (place, text))
                except psycopg.errors.UntranslatableCharacter:
                    continue
            held = {text for (text,) in rows(session, "SELECT s FROM heap WHERE NOT s ~ '^[a-z]*$'")}
            assert held == HOLDS[request.param]
            session.execute(
                "CREATE FOREIGN TABLE plain (id int, s text OPTIONS (column_name 'again')) SERVER stores OPTIONS (path"
                " 'plain.soa')"
            )
        yield database


@pytest.fixture
def session(other: Database) -> Iterator[psycopg.Connection]:
    with other.connect(client_encoding="UTF8") as connection:
        yield connection


def test_text_comes_converted(session):
    for place, text in enumerate(TEXTS):
        sql = f"SELECT s, md5(convert_to(s, current_setting('server_encoding'))) FROM {{}} WHERE id = {place}"
        if found := rows(session, sql.format("heap")):
            assert rows(session, sql.format("plain")) == found and found[0][0] == text
        else:
            assert error(session, sql.format("plain")).sqlstate == UNTRANSLATABLE
    assert rows(session, "SELECT count(*) FROM plain") == [(len(TEXTS),)]
    assert error(session, "SELECT count(s) FROM plain").sqlstate == UNTRANSLATABLE
    held = "(SELECT id FROM heap)"
    assert rows(session, f"SELECT id, s FROM plain WHERE id IN {held} AND id < 4 ORDER BY id") == rows(
        session, "SELECT id, s FROM heap WHERE id < 4 ORDER BY id"
    )


def test_conditions_on_text(session):
    """Nothing is left out wrongly because bytes differ: each text is found by itself."""
    for place, text in rows(session, "SELECT id, s FROM heap WHERE s IS NOT NULL"):
        row = f"id = {place}"
        for condition in ("s = %s", "s IN (%s, 'x')", "s >= %s", "s LIKE left(%s, 3) || '%%'", "NOT (s <> %s)"):
            assert rows(session, f"SELECT id FROM plain WHERE {row} AND {condition}", (text,)) == [(place,)], (
                text,
                condition,
            )
        assert rows(session, f"SELECT id FROM plain WHERE {row} AND s > %s", (text,)) == []
    session.execute("PREPARE one(text) AS SELECT id FROM plain WHERE id < 4 AND s = $1")
    assert rows(session, "EXECUTE one('Straße')") == [(2,)]


def test_names_of_enums(session):
    """A name that the encoding cannot hold is in the way only where it is read."""
    session.execute(
        "CREATE FOREIGN TABLE IF NOT EXISTS levels (id bigint, level text) SERVER stores OPTIONS (path"
        " 'rust_types.soa')"
    )
    if rows(session, "SHOW server_encoding") == [("EUC_JP",)]:
        assert rows(session, "SELECT level, count(*) FROM levels GROUP BY 1 ORDER BY 2, 1 LIMIT 1") == [("High", 250)]
    found = rows(session, "SELECT level, count(*) FROM levels GROUP BY 1 ORDER BY convert_to(level, 'UTF8')")
    assert found == [("High", 250), ("Low", 250), ("Medium", 250), ("Äußerst", 250)]
    assert rows(session, "SELECT count(*) FROM levels WHERE level = 'Äußerst'") == [(250,)]


def said(text: str) -> str:
    """As a message of the extension has it, which is ASCII where the database's encoding is not UTF-8."""
    return "".join(c if c.isascii() else f"\\u{{{ord(c):x}}}" for c in text)


def test_names_of_columns_and_folders(session):
    """What a table of the database is called can be said of the store as well."""
    session.execute("DROP FOREIGN TABLE IF EXISTS named")
    session.execute("CREATE FOREIGN TABLE named (id int, \"Straße\" text) SERVER stores OPTIONS (path 'Größe.soa')")
    assert rows(session, 'SELECT "Straße" FROM named WHERE id = 2') == [("Straße",)]
    assert rows(session, 'SELECT n."Straße" FROM named n WHERE n."Straße" IS NULL') == [(None,)]
    session.execute("DROP FOREIGN TABLE named")
    session.execute(
        "CREATE FOREIGN TABLE named (s text OPTIONS (column_name 'Straße')) SERVER stores OPTIONS (path 'Größe.soa')"
    )
    assert rows(session, "SELECT count(*) FROM named WHERE s IS NULL") == [(1,)]
    explained = "\n".join(line for (line,) in rows(session, "EXPLAIN SELECT s FROM named WHERE s = 'Straße'"))
    assert "Größe.soa" in explained
    session.execute("ALTER FOREIGN TABLE named ALTER COLUMN s OPTIONS (SET column_name 'Brücke')")
    failed = error(session, "SELECT s FROM named")
    assert failed.sqlstate == "HV005" and said("Brücke") in str(failed) and said("Straße") in str(failed)
    session.execute("ALTER FOREIGN TABLE named OPTIONS (SET path 'Lücke.soa')")
    assert said("Lücke.soa") in str(error(session, "SELECT s FROM named"))


def test_import(other: Database):
    """What has names that the encoding cannot hold is passed over with a warning, which does not hide the others."""
    with other.connect(client_encoding="UTF8") as session:
        told = notices(session)
        session.execute("CREATE SCHEMA imported")
        session.execute('IMPORT FOREIGN SCHEMA "." FROM SERVER stores INTO imported')
        found = {
            name
            for (name,) in rows(session, "SELECT relname FROM pg_class WHERE relnamespace = 'imported'::regnamespace")
        }
        # The store `names` has a column with a Chinese name.
        has_chinese = rows(session, "SHOW server_encoding") == [("EUC_JP",)]
        assert found == {"Größe", "plain", "rust_types"} | ({"names"} if has_chinese else set())
        assert len(told) == (0 if has_chinese else 1), told
        assert all(
            (one.severity, one.sqlstate) == ("WARNING", UNTRANSLATABLE) and "names" in one.message for one in told
        )
        if not has_chinese:
            failed = error(session, 'IMPORT FOREIGN SCHEMA "." LIMIT TO (names) FROM SERVER stores INTO imported')
            assert failed.sqlstate == UNTRANSLATABLE
        assert rows(session, 'SELECT "Straße" FROM imported."Größe" WHERE id = 3') == [("größer",)]
        session.execute("DROP SCHEMA imported CASCADE")


def test_bytes_as_they_are(pg: PgServer, folder: Path):
    """A database that knows of no encoding gets UTF-8, and has names in it as well."""
    with Database(pg, folder, "SQL_ASCII") as database:
        database.execute('IMPORT FOREIGN SCHEMA "." FROM SERVER stores INTO public')
        with database.connect(client_encoding="UTF8") as session:
            assert rows(session, "SHOW server_encoding") == [("SQL_ASCII",)]
            hexed = "SELECT id, encode(convert_to(again, 'SQL_ASCII'), 'hex') FROM plain ORDER BY id"
            expected = [(place, None if text is None else text.encode().hex()) for place, text in enumerate(TEXTS)]
            assert rows(session, hexed) == expected
            assert rows(session, "SELECT id FROM plain WHERE again = 'Straße'") == [(2,)]
            assert rows(session, 'SELECT id FROM "Größe" WHERE "Straße" LIKE \'gr%\'') == [(3,)]
            assert rows(session, 'SELECT "列" FROM names WHERE "Straße" = \'a\'') == [(10,)]
