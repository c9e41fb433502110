"""A foreign table whose store is not there yet gets one by its first INSERT."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import support
from pg_support import Database, Running, error, rows

COLUMNS = """
    id bigint NOT NULL, flag boolean, small smallint, middle integer, float real, double double precision,
    amount numeric(18,2) NOT NULL, name text, raw bytea, day date, at timestamp, at_utc timestamptz, clock time,
    took interval, uid uuid, numbers integer[], names text[], amounts numeric(9,3)[]
"""
ROW = """
    (1, true, -2, 3, 1.5, 'NaN', 12.25, 'Größe', '\\x00ff', '2024-02-29', '2024-02-29 12:00:00.000001',
     '2024-02-29 12:00:00+02', '23:59:59.999999', '1.5 seconds', '5b30857f-0bfa-48b5-ac0b-5c64e28078d1', '{1,NULL,3}',
     '{a,"b c",NULL}', '{1.250,-2.001}')
"""


@pytest.fixture
def new(database: Database) -> Database:
    os.chmod(database.root, 0o777)
    database.execute("ALTER SERVER stores OPTIONS (ADD updatable 'true')")
    return database


def files(folder: Path) -> dict[Path, bytes]:
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def declare(name: str, columns: str, path: str | None = None, options: str = "") -> str:
    path = support.quote(path or f"{name}.soa")
    return f"CREATE FOREIGN TABLE {name} ({columns}) SERVER stores OPTIONS (path {path}{options})"


def test_a_store_of_every_type(new: Database):
    with new.connect() as session:
        session.execute(declare("every", COLUMNS))
        missing = error(session, "SELECT * FROM every")
        assert missing.sqlstate == "58P01" and "first INSERT" in missing.diag.message_hint
        session.execute("EXPLAIN INSERT INTO every (id, amount) VALUES (1, 2)")
        assert not (new.root / "every.soa").exists()
        session.execute(f"CREATE TABLE kept ({COLUMNS}); INSERT INTO kept VALUES {ROW}, {ROW.replace('(1', '(2', 1)}")
        session.execute("INSERT INTO kept (id, amount) VALUES (3, 0)")
        session.execute("INSERT INTO every SELECT * FROM kept")
        assert rows(session, "SELECT x::text FROM every x ORDER BY id") == rows(
            session, "SELECT x::text FROM kept x ORDER BY id"
        )
        session.execute("CREATE SCHEMA imported")
        session.execute('IMPORT FOREIGN SCHEMA "." FROM SERVER stores INTO imported')
        types = "SELECT attname::text, format_type(atttypid, atttypmod), attnotnull FROM pg_attribute WHERE attrelid = '{}'::regclass AND attnum > 0"
        assert rows(session, types.format("imported.every")) == rows(session, types.format("every"))
    support.soa("verify", new.root / "every.soa")


def test_a_store_is_laid_out_as_the_options_say(new: Database):
    options = ", key 'number', partition_by 'region', sort_by 'v, number'"
    with new.connect() as session:
        columns = "id bigint OPTIONS (column_name 'number') NOT NULL, region text, v integer"
        session.execute(declare("laid_out", columns, options=options))
        session.execute("INSERT INTO laid_out SELECT g, 'r' || g % 2, g % 10 FROM generate_series(1, 100) g")
        assert error(session, "INSERT INTO laid_out VALUES (7, 'r0', 0)").sqlstate == "23505"
        assert rows(session, "SELECT count(*) FROM laid_out") == [(100,)]
        assert rows(session, "SELECT region, min(id) FROM laid_out GROUP BY region ORDER BY 1") == [("r0", 2), ("r1", 1)]
        names = rows(session, "SELECT x::text FROM soa.schema('laid_out') x")
        assert "number" in str(names)
    folder = new.root / "laid_out.soa"
    assert sorted(path.name for path in folder.glob("region=*")) == ["region=r0", "region=r1"]
    with new.connect() as session:
        session.execute(declare("no_key", "id bigint", options=", key 'nothing'"))
        refused = error(session, "INSERT INTO no_key VALUES (1)")
        assert "nothing" in str(refused) and not (new.root / "no_key.soa").exists()


def test_an_aborted_transaction_leaves_an_empty_store(new: Database):
    with new.connect() as session:
        session.execute(declare("given_up", "id bigint"))
        session.execute("BEGIN")
        session.execute("INSERT INTO given_up VALUES (1)")
        assert rows(session, "SELECT * FROM given_up") == [(1,)]
        session.execute("ROLLBACK")
        assert rows(session, "SELECT * FROM given_up") == []
        session.execute("COPY given_up FROM PROGRAM 'seq 5'")
        assert rows(session, "SELECT count(*) FROM given_up") == [(5,)]


def test_two_sessions_make_one_store(new: Database):
    with new.connect() as one, new.connect() as two:
        for number in range(30):
            one.execute(declare(f"raced_{number}", "id bigint"))
            adding = [Running(each, f"INSERT INTO raced_{number} VALUES (1)") for each in (one, two)]
            for each in adding:
                each.answer()
            assert rows(one, f"SELECT count(*) FROM raced_{number}") == [(2,)]


@pytest.mark.parametrize(
    "columns, told",
    [
        ("id bigint, extra jsonb", "extra"),
        ("id bigint, extra numeric", "extra"),
        ("id bigint, extra numeric(50,2)", "extra"),
        ("id bigint, extra varchar(10)", "extra"),
        ("id bigint, extra timestamp(3)", "extra"),
        ("id bigint, extra point", "extra"),
        ("id bigint, extra int[] NOT NULL, again inet", "again"),
    ],
)
def test_types_that_no_store_has(new: Database, columns: str, told: str):
    with new.connect() as session:
        session.execute(declare("odd", columns))
        refused = error(session, "INSERT INTO odd (id) VALUES (1)")
        assert refused.sqlstate == "HV004" and f'"{told}"' in str(refused)
    assert not (new.root / "odd.soa").exists()


def test_where_a_store_is_made(new: Database, tmp_path: Path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (new.root / "leads_out").symlink_to(outside)
    (new.root / "inside").mkdir()
    os.chmod(new.root / "inside", 0o777)
    (new.root / "dangling.soa").symlink_to(outside / "not_there")
    (new.root / "full.soa").mkdir()
    (new.root / "full.soa" / "something").write_text("else")
    (new.root / "left.soa" / "_delta_log").mkdir(parents=True)
    for folder in ("left.soa", "left.soa/_delta_log"):
        os.chmod(new.root / folder, 0o777)
    paths = {"leads_out/x.soa": False, "dangling.soa": False, "full.soa": False, "nowhere/x.soa": False}
    paths |= {"inside/x.soa": True, "left.soa": True, "./y.soa": True}
    with new.connect() as session:
        for number, (path, is_made) in enumerate(paths.items()):
            session.execute(declare(f"t{number}", "id bigint", path))
            if is_made:
                session.execute(f"INSERT INTO t{number} VALUES (1)")
                assert rows(session, f"SELECT * FROM t{number}") == [(1,)], path
            else:
                error(session, f"INSERT INTO t{number} VALUES (1)")
        assert not any(outside.iterdir())
        assert [path.name for path in (new.root / "full.soa").iterdir()] == ["something"]
        session.execute("ALTER SERVER stores OPTIONS (SET updatable 'false')")
        session.execute(declare("refused", "id bigint"))
        assert error(session, "INSERT INTO refused VALUES (1)").sqlstate == "55000"
    assert not (new.root / "refused.soa").exists()


def test_only_an_insert_makes_a_store(new: Database):
    with new.connect() as session:
        session.execute(declare("absent", "id bigint"))
        for sql in ("DELETE FROM absent", "UPDATE absent SET id = 1", "TRUNCATE absent", "ANALYZE absent"):
            assert error(session, sql).sqlstate == "58P01", sql
    assert not (new.root / "absent.soa").exists()


def test_no_store_is_made_in_another(new: Database, tmp_path: Path):
    """Whoever may make tables must not be in the way of another's commits, or have files put elsewhere by a link."""
    outside = tmp_path / "outside"
    outside.mkdir()
    os.chmod(outside, 0o777)
    os.chmod(tmp_path, 0o755)
    (new.root / "linked.soa").mkdir()
    (new.root / "linked.soa" / "_delta_log").symlink_to(outside)
    (new.root / "linked_commit.soa" / "_delta_log").mkdir(parents=True)
    (new.root / "linked_commit.soa" / "_delta_log" / f"{0:020}.json").symlink_to(outside / "commit.json")
    for folder in ("linked.soa", "linked_commit.soa", "linked_commit.soa/_delta_log"):
        os.chmod(new.root / folder, 0o777)
    (new.root / "shortcut").symlink_to(new.root / "own.soa")
    within = ["own.soa/sub", "own.soa/region=1", "own.soa/deep/below", "shortcut/sub"]
    hidden = [f"own.soa/_delta_log/{2:020}.json", "own.soa/_soa/wal", "_hidden.soa", ".hidden.soa", "."]
    with new.connect() as session:
        session.execute(declare("own", "id bigint"))
        session.execute("INSERT INTO own VALUES (1)")
        (new.root / "own.soa" / "deep").mkdir()
        os.chmod(new.root / "own.soa" / "deep", 0o777)
        before = files(new.root)
        for number, path in enumerate([*within, *hidden, "linked.soa", "linked_commit.soa"]):
            session.execute(declare(f"t{number}", "id bigint", path))
            refused = error(session, f"INSERT INTO t{number} VALUES (1)")
            if path in within:
                assert "own.soa" in str(refused) and refused.diag.message_hint, path
        assert files(new.root) == before and not any(outside.iterdir())
        session.execute("INSERT INTO own VALUES (2)")
        assert rows(session, "SELECT id FROM own ORDER BY 1") == [(1,), (2,)]
