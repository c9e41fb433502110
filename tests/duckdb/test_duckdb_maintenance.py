"""soa_history, soa_verify, soa_compact and soa_vacuum."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import duckdb
import pytest

from duckdb_support import DIST, connect, ids, quote


def soa(*arguments: object) -> list | dict:
    command = [str(DIST / "bin" / "soa"), *map(str, arguments), "--json"]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True, timeout=300).stdout)


@pytest.fixture
def store(new_store):
    """Four segments of five hundred rows each, the last of which has lost a hundred."""
    store = new_store()
    store.commit(*(ids(first, 500) for first in range(0, 2000, 500)))
    soa("delete", store.path, "--where", "id >= 1900")
    return store


def names(store) -> set[str]:
    return {path.name for path in store.path.rglob("*.parquet")}


def test_history_lists_what_the_command_lists(con, store):
    found = con.execute(f"SELECT * FROM soa_history({store.sql})")
    columns = [column[0] for column in found.description]
    assert columns == [
        "version", "timestamp", "operation", "engine", "rows_added", "rows_deleted", "files_added", "files_removed",
    ]  # fmt: skip
    rows = [dict(zip(columns, row)) for row in found.fetchall()]
    for row in rows:
        row["timestamp_ms"] = int(row.pop("timestamp").timestamp() * 1000 + 0.5)
    assert rows == soa("history", store.path)
    assert [row["operation"] for row in rows] == ["CREATE TABLE", "WRITE", "WRITE", "WRITE", "WRITE", "DELETE"]
    recent = f"SELECT count(*) FROM soa_history({store.sql}) WHERE timestamp > now() - INTERVAL 1 HOUR AND rows_added = 500"
    assert con.execute(recent).fetchone() == (4,)


def test_history_of_more_commits_than_a_chunk_has_rows(con, new_store):
    store = new_store()
    store.commit(ids(0, 1))
    log = store.path / "_delta_log"
    for version in range(2, 4200):
        note = {"commitInfo": {"timestamp": 1_600_000_000_000 + version, "operation": f"NOTE {version}"}}
        (log / f"{version:020}.json").write_text(json.dumps(note) + "\n")
    found = con.execute(f"SELECT version, operation FROM soa_history({store.sql})").fetchall()
    assert found[:2] == [(0, "CREATE TABLE"), (1, "WRITE")]
    assert found[2:] == [(version, f"NOTE {version}") for version in range(2, 4200)]


def test_verify_names_what_is_damaged(con, store):
    assert con.execute(f"SELECT * FROM soa_verify({store.sql})").fetchall() == []
    victim = sorted(store.path.rglob("*.parquet"))[0]
    content = bytearray(victim.read_bytes())
    content[100] ^= 1
    victim.write_bytes(content)
    ((problem,),) = con.execute(f"SELECT problem FROM soa_verify({store.sql})").fetchall()
    assert victim.name in problem


def test_compact_and_vacuum(con, store):
    before = names(store)
    done = con.execute(f"SELECT * FROM soa_compact({store.sql})")
    row = dict(zip([column[0] for column in done.description], done.fetchone()))
    assert (row["version"], row["segments_removed"], row["segments_added"]) == (6, 4, 1)
    assert (row["rows_written"], row["rows_dropped"], row["segments_given_up"]) == (1900, 100, 0)
    assert done.fetchall() == []
    assert con.execute(f"SELECT count(*), sum(id) FROM {store.sql}").fetchone() == (1900, sum(range(1900)))
    assert con.execute(f"SELECT count(*) FROM soa_segments({store.sql})").fetchone() == (1,)
    assert con.execute(f"FROM soa_vacuum({store.sql})").fetchall() == []
    with pytest.raises(duckdb.Error, match="force it"):
        con.execute(f"FROM soa_vacuum({store.sql}, retention_hours := 1)")
    options = "retention_hours := 0, force := true"
    tried = con.execute(f"SELECT file, bytes FROM soa_vacuum({store.sql}, {options}, dry_run := true)").fetchall()
    assert {Path(file).name for file, _ in tried if file.endswith(".parquet")} == before
    assert all((store.path / file).stat().st_size == size for file, size in tried)
    assert sorted(con.execute(f"SELECT file, bytes FROM soa_vacuum({store.sql}, {options})").fetchall()) == sorted(tried)
    assert not names(store) & before and len(names(store)) == 1
    assert con.execute(f"SELECT count(*), sum(id) FROM {store.sql}").fetchone() == (1900, sum(range(1900)))


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_who_reads_when_files_are_removed_is_told_so(con, new_store, form: str):
    store, too_old = new_store(), "too old.*has been removed since by vacuum"
    store.commit(*(ids(first, 200_000) for first in range(0, 2_000_000, 200_000)))
    if form == "parquet":
        shutil.rmtree(store.path / "_soa" / "arrow")
    with connect(threads=2) as other:
        open_result = other.execute(f"SELECT id FROM {store.sql}")
        assert open_result.fetchone() == (0,)
        soa("compact", store.path)
        con.execute(f"FROM soa_vacuum({store.sql}, retention_hours := 0, force := true)").fetchall()
        # A segment's file is opened when its turn comes.
        with pytest.raises(duckdb.Error, match=too_old):
            open_result.fetchall()
        assert other.execute(f"SELECT count(*), sum(id) FROM {store.sql}").fetchone() == (2_000_000, sum(range(2_000_000)))
        with pytest.raises(duckdb.Error, match=too_old):
            other.execute(f"SELECT sum(id) FROM soa_scan({store.sql}, version := 3)").fetchall()


def test_nothing_is_done_before_a_statement_is_executed(con, store):
    before = names(store)
    con.execute(f"EXPLAIN SELECT * FROM soa_compact({store.sql})")
    con.execute(f"DESCRIBE SELECT * FROM soa_compact({store.sql})")
    con.execute(f"PREPARE later AS SELECT segments_removed FROM soa_compact({store.sql})")
    assert names(store) == before
    assert con.execute("EXECUTE later").fetchone() == (4,)
    assert con.execute("EXECUTE later").fetchone() == (0,)


@pytest.mark.parametrize("call", ["soa_history({})", "soa_verify({})", "soa_compact({})", "soa_vacuum({}, dry_run := true)"])
def test_what_may_not_be_read_is_not_touched(call: str, store, tmp_path: Path):
    with connect() as closed:
        closed.execute(f"SET allowed_directories = [{quote(tmp_path / 'elsewhere')}]")
        closed.execute("SET enable_external_access = false")
        before = names(store)
        with pytest.raises(duckdb.PermissionException):
            closed.execute("FROM " + call.format(store.sql))
        assert names(store) == before
    with connect() as opened:
        opened.execute(f"SET allowed_directories = [{store.sql}]")
        opened.execute("SET enable_external_access = false")
        opened.execute("FROM " + call.format(store.sql)).fetchall()


def test_arguments_that_make_no_sense(con, store, tmp_path: Path):
    for call, says in [
        (f"soa_vacuum({store.sql}, retention_hours := -1)", "must not be negative"),
        (f"soa_compact({quote(tmp_path / 'nothing.soa')})", "nothing.soa"),
        ("soa_history(NULL)", "NULL"),
        ("soa_verify('')", "empty"),
    ]:
        with pytest.raises(duckdb.Error, match=says):
            con.execute(f"FROM {call}").fetchall()
