"""soa.history, soa.verify, soa.compact and soa.vacuum: what they do, and for whom. And foreign tables over stores that get columns."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

import support
from make_stores import rows as made_rows
from make_stores import write_table
from pg_support import Database, error, rows

DENIED = psycopg.errors.InsufficientPrivilege.sqlstate
COUNT = "SELECT count(*), sum(id) FROM things"


@pytest.fixture
def things(database: Database, tmp_path: Path) -> Database:
    """A database with the foreign table `things`: four segments of five hundred rows each, the last of which has lost a hundred."""
    path = database.root / "things.soa"
    for first in range(0, 2000, 500):
        support.soa("import", write_table(made_rows(2000).slice(first, 500), tmp_path / "rows.arrow"), path)
    support.soa("delete", path, "--where", "id >= 1900")
    if os.geteuid() == 0:
        # The server's user is another one, who is to write there.
        subprocess.run(["chmod", "-R", "a+rwX", str(path)], check=True)
    database.import_all()
    return database


@pytest.fixture
def plain(things: Database) -> Iterator[str]:
    """A role that has no rights but to select from `things`."""
    name = f"{things.name}_plain"
    things.execute(f"CREATE ROLE {name} LOGIN; GRANT SELECT ON things TO {name}")
    yield name
    things.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def files(things: Database) -> set[str]:
    return {path.name for path in (things.root / "things.soa").rglob("*.parquet")}


def test_history(things: Database):
    told = json.loads(support.soa("history", things.root / "things.soa", "--json").stdout)
    with things.connect() as session:
        found = rows(
            session,
            "SELECT version, (extract(epoch FROM timestamp) * 1000)::bigint, operation, engine, rows_added, rows_deleted,"
            " files_added, files_removed FROM soa.history('things')",
        )
        names = ["version", "timestamp_ms", "operation", "engine", "rows_added", "rows_deleted", "files_added", "files_removed"]
        assert [dict(zip(names, row)) for row in found] == told and len(told) == 5
        assert rows(session, "SELECT count(*) FROM soa.history('things') WHERE timestamp > now() - interval '1 hour'") == [(5,)]


def test_segments(things: Database):
    with things.connect() as session:
        found = rows(session, "SELECT path, row_count, form, partition, deleted_count, min, max FROM soa.segments('things') ORDER BY path")
        assert sorted(row[0] for row in found) == sorted(files(things))
        assert sorted((row[1], row[4]) for row in found) == [(400, 100)] + [(500, 0)] * 3
        assert {row[2] for row in found} == {"arrow"} and {str(row[3]) for row in found} == {"{}"}
        assert sorted(int(row[5]["id"]) for row in found) == [0, 500, 1000, 1500]
        bytes_of = "SELECT sum(parquet_bytes), count(arrow_bytes) FROM soa.segments('things')"
        on_disk = sum(path.stat().st_size for path in (things.root / "things.soa").glob("*.parquet"))
        assert rows(session, bytes_of) == [(on_disk, 4)]
        assert rows(session, "SELECT count(*) FROM soa.segments('things') WHERE (max->>'id')::int < 1000") == [(2,)]
        session.execute("ALTER FOREIGN TABLE things OPTIONS (ADD version '1')")
        assert rows(session, "SELECT count(*) FROM soa.segments('things')") == [(2,)]
        # What is told of the whole store does not ask for that version.
        session.execute("ALTER FOREIGN TABLE things OPTIONS (SET version '99')")
        assert "has no version 99" in str(error(session, "SELECT * FROM soa.segments('things')"))
        assert rows(session, "SELECT count(*) FROM soa.history('things')") == [(5,)]


def test_segments_of_partitions(database: Database, tmp_path: Path):
    table = pa.table({"place": ["a", "ö", None], "n": pa.array([1, 2, 3], pa.int32())})
    path = database.root / "places.soa"
    support.soa("import", write_table(table, tmp_path / "places.arrow"), path, "--partition-by", "place")
    database.import_all()
    found = database.execute("SELECT partition, min, max FROM soa.segments('places') ORDER BY (min->>'n')::int")
    assert found == [({"place": name}, {"n": n}, {"n": n}) for name, n in (("a", "1"), ("ö", "2"), (None, "3"))]


def test_schema(database: Database, tmp_path: Path):
    table = pa.table({"id": pa.array([1], pa.int64()), "kind": pa.array(["x"]).dictionary_encode(), "v": pa.array([1.5])})
    path = database.root / "kinds.soa"
    support.soa("import", write_table(table, tmp_path / "kinds.arrow"), path, "--key", "id", "--sort-by", "v,id", "--partition-by", "kind")
    support.soa("alter", path, "--add-column", "grade:enum(low,higher)")
    database.import_all()
    found = database.execute("SELECT * FROM soa.schema('kinds')")
    told = {column["name"]: column["type"] for column in json.loads(support.soa("info", path, "--json").stdout)["columns"]}
    assert {row[0]: row[1] for row in found} == told
    assert [row[2:6] for row in found] == [(False, True, None, 2), (True, False, 1, None), (True, False, None, 1), (True, False, None, None)]
    assert found[-1][6] == ["low", "higher"] and found[0][6] is None


def test_verify(things: Database):
    assert things.execute("SELECT * FROM soa.verify('things')") == []
    victim = sorted((things.root / "things.soa").rglob("*.parquet"))[0]
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(content)
    ((problem,),) = things.execute("SELECT problem FROM soa.verify('things')")
    assert victim.name in problem


def test_compact_and_vacuum(things: Database):
    before = files(things)
    right = [(1900, sum(range(1900)))]
    with things.connect() as session:
        session.autocommit = True
        assert rows(session, COUNT) == right
        done = "SELECT version, segments_removed, segments_added, rows_written, rows_dropped FROM soa.compact('things')"
        assert rows(session, done) == [(5, 4, 1, 1900, 100)]
        assert rows(session, done) == [(5, 0, 0, 0, 0)]
        assert rows(session, COUNT) == right
        assert rows(session, "SELECT * FROM soa.vacuum('things')") == []
        assert "force it" in str(error(session, "SELECT * FROM soa.vacuum('things', '1 hour')"))
        tried = rows(session, "SELECT * FROM soa.vacuum('things', '0', force => true, dry_run => true)")
        assert {Path(file).name for file, _ in tried if file.endswith(".parquet")} == before
        assert before < files(things)
        assert sorted(rows(session, "SELECT * FROM soa.vacuum('things', '0', force => true)")) == sorted(tried)
        assert not files(things) & before
        assert rows(session, COUNT) == right


def test_a_cancelled_compaction_leaves_the_store_as_it_was(things: Database):
    """And no lock: the next one succeeds."""
    before = files(things)
    with things.connect() as session:
        session.autocommit = True
        session.execute("SET statement_timeout = '1ms'")
        failed = error(session, "SELECT soa.compact('things') FROM generate_series(1, 100000)")
        assert failed.sqlstate == psycopg.errors.QueryCanceled.sqlstate
        session.execute("RESET statement_timeout")
        assert rows(session, COUNT) == [(1900, sum(range(1900)))]
        rows(session, "SELECT * FROM soa.compact('things')")
        assert rows(session, "SELECT * FROM soa.vacuum('things', '0', force => true)")
        assert len(files(things)) == 1 and len(before) == 4
    support.soa("verify", things.root / "things.soa")


def test_who_may(things: Database, plain: str):
    with things.connect(user=plain) as session:
        session.autocommit = True
        assert len(rows(session, "SELECT * FROM soa.history('things')")) == 5
        assert rows(session, "SELECT * FROM soa.verify('things')") == []
        for call in ("soa.compact('things')", "soa.vacuum('things')", "soa.vacuum('things', dry_run => true)"):
            denied = error(session, f"SELECT * FROM {call}")
            assert (denied.sqlstate, "must be owner of foreign table" in str(denied)) == (DENIED, True)
    things.execute(f"REVOKE SELECT ON things FROM {plain}")
    with things.connect(user=plain) as session:
        session.autocommit = True
        for call in ("soa.schema('things')", "soa.segments('things')", "soa.history('things')", "soa.verify('things')"):
            assert error(session, f"SELECT * FROM {call}").sqlstate == DENIED
    assert len(files(things)) == 4
    things.execute(f"ALTER FOREIGN TABLE things OWNER TO {plain}")
    with things.connect(user=plain) as session:
        session.autocommit = True
        assert rows(session, "SELECT segments_removed FROM soa.compact('things')") == [(4,)]


def test_nothing_is_changed_where_nothing_may_be(things: Database):
    with things.connect() as session:
        session.autocommit = True
        session.execute("SET default_transaction_read_only = on")
        for call in ("soa.compact('things')", "soa.vacuum('things')"):
            assert error(session, f"SELECT * FROM {call}").sqlstate == psycopg.errors.ReadOnlySqlTransaction.sqlstate
        assert len(rows(session, "SELECT * FROM soa.history('things')")) == 5
    assert len(files(things)) == 4


def test_what_is_no_foreign_table_over_a_store(things: Database):
    things.execute("CREATE TABLE heap (id bigint); CREATE EXTENSION IF NOT EXISTS file_fdw")
    things.execute("CREATE SERVER others FOREIGN DATA WRAPPER file_fdw")
    things.execute("CREATE FOREIGN TABLE theirs (line text) SERVER others OPTIONS (filename '/etc/hostname')")
    with things.connect() as session:
        session.autocommit = True
        for name in ("heap", "theirs", "pg_class", "heap_id_index"):
            for function in ("history", "verify", "compact", "vacuum"):
                failed = error(session, f"SELECT * FROM soa.{function}('{name}')")
                assert "is not a foreign table over a store" in str(failed) or "does not exist" in str(failed)
        assert error(session, "SELECT * FROM soa.history(4294967295::oid::regclass)").sqlstate == "42809"
        assert rows(session, "SELECT * FROM soa.history(NULL)") == []
        assert "must be a time that has passed" in str(error(session, "SELECT * FROM soa.vacuum('things', '-1 day')"))


def test_the_root_is_checked_again(things: Database, tmp_path: Path):
    outside = tmp_path / "outside.soa"
    path = things.root / "things.soa"
    path.rename(outside)
    path.symlink_to(outside)
    with things.connect() as session:
        session.autocommit = True
        for function in ("history", "verify", "compact", "vacuum"):
            failed = error(session, f"SELECT * FROM soa.{function}('things')")
            assert failed.sqlstate in (DENIED, psycopg.errors.UndefinedFile.sqlstate), failed


def test_columns_that_are_added(things: Database, tmp_path: Path):
    path = things.root / "things.soa"
    with things.connect() as session:
        session.autocommit = True
        session.execute("PREPARE counted AS SELECT count(*), count(o) FROM things WHERE v < 10")
        before = rows(session, "EXECUTE counted")
        support.soa("alter", path, "--add-column", "grade:enum(low,high)")
        assert rows(session, "EXECUTE counted") == before
        session.execute("ALTER FOREIGN TABLE things ADD COLUMN grade text")
        assert rows(session, "SELECT count(*), count(grade) FROM things") == [(1900, 0)]
        assert rows(session, "SELECT count(*) FROM things WHERE grade = 'low'") == [(0,)]
        assert rows(session, "SELECT count(*) FROM things WHERE grade IS NULL") == [(1900,)]
        graded = made_rows(2010).slice(2000, 10)
        graded = graded.append_column("grade", [["low", "high"] * 5])
        support.soa("import", write_table(graded, tmp_path / "graded.arrow"), path)
        assert rows(session, "SELECT grade, count(*) FROM things GROUP BY 1 ORDER BY 1") == [("high", 5), ("low", 5), (None, 1900)]
        # A table that shows an older version has no such column to show.
        session.execute(
            "CREATE FOREIGN TABLE before (id bigint, grade text) SERVER stores OPTIONS (path 'things.soa', version '4')"
        )
        assert rows(session, "SELECT count(id) FROM before") == [(1900,)]
        assert 'has no column "grade"' in str(error(session, "SELECT count(grade) FROM before"))
