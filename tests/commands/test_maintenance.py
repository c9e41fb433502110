"""The commands that change a store or how it is kept: what they do, what they print for people and for programs, and that one
which cannot succeed says why, with the exit code of a failure, and changes nothing.
"""

from __future__ import annotations

import datetime
import json
import shutil
import time
from pathlib import Path

import pyarrow as pa
import pytest

import support
from damage import copy, listing, segments
from make_stores import rows, write_table

ALL = "SELECT id, v, s, o, t FROM soa_scan({store}) ORDER BY id"


def told(*arguments: object) -> dict | list:
    """What a command says with --json."""
    return json.loads(support.soa(*arguments, "--json").stdout)


def refuse(store: Path, *arguments: object, says: str, code: int = 1) -> None:
    """Runs a command on a store and checks that it fails, says why and leaves no trace."""
    before = listing(store)
    done = support.soa(*arguments, check=False)
    assert done.returncode == code, done
    assert says in done.stderr and "panicked" not in done.stderr, done.stderr
    assert listing(store) == before


def versions(store: Path) -> list[tuple[int, str]]:
    return [(commit["version"], commit["operation"]) for commit in told("history", store)]


def contents(duck, store: Path) -> list[tuple]:
    return duck.execute(ALL.format(store=support.quote(store))).fetchall()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """Five commits of a hundred rows each: id, v, s, o, t."""
    path = tmp_path / "rows.soa"
    for start in range(0, 500, 100):
        support.soa("import", write_table(rows(500).slice(start, 100), tmp_path / f"{start}.arrow"), path)
    return path


@pytest.fixture
def keyed(tmp_path: Path) -> Path:
    """A store of five hundred rows whose key is id."""
    path = tmp_path / "keyed.soa"
    support.soa("import", write_table(rows(500), tmp_path / "keyed.arrow"), path, "--key", "id")
    return path


def test_compact_joins_segments_and_changes_no_row(store: Path, duck):
    before = contents(duck, store)
    done = told("compact", store)
    assert (done["segments_removed"], done["segments_added"], done["rows_written"], done["version"]) == (5, 1, 500, 5)
    assert told("info", store)["segments"] == 1
    assert contents(duck, store) == before
    assert versions(store)[-1] == (5, "OPTIMIZE")
    again = support.soa("compact", store).stdout
    assert again.startswith("0 segments (0 B) became 0 (0 B): 0 rows written") and "(version 5)" in again
    assert support.soa("compact", store, "--quiet").stdout == ""
    support.soa("verify", store)


def test_compact_drops_deleted_rows_and_makes_arrow_forms(store: Path, duck):
    support.soa("compact", store)
    support.soa("delete", store, "--where", "v >= 100")
    shutil.rmtree(store / "_soa" / "arrow")
    kept = told("compact", store, "--deleted-share", "0.9", "--no-arrow")
    assert (kept["rows_dropped"], kept["arrow_rebuilt"]) == (0, 0)
    made = told("compact", store, "--deleted-share", "0.9")
    assert (made["rows_dropped"], made["arrow_rebuilt"]) == (0, 1)
    dropped = told("compact", store)
    assert (dropped["rows_dropped"], dropped["rows_written"]) == (400, 100)
    assert told("info", store)["segments_in_arrow_form"] == 1
    assert told("compact", store, "--arrow-bytes", "0")["arrow_dropped"] == 1
    assert [row[0] for row in contents(duck, store)] == list(range(100))


def test_vacuum_removes_what_only_old_versions_need(store: Path, duck):
    support.soa("compact", store)
    before = contents(duck, store)
    assert told("vacuum", store) == {"dry_run": False, "files": [], "bytes": 0}
    refuse(store, "vacuum", store, "--retention", "0s", says="force it")
    there = listing(store)
    tried = told("vacuum", store, "--retention", "0s", "--force", "--dry-run")
    # The lock's file is made by whoever removes files, or would.
    assert set(listing(store)) - set(there) <= {"_soa/maintenance.lock"}
    parquet = {file for file in tried["files"] if file.endswith(".parquet")}
    arrow = {file for file in tried["files"] if file.endswith(".arrow")}
    assert (len(parquet), len(arrow), len(tried["files"])) == (5, 5, 10)
    assert tried["bytes"] == sum((store / file).stat().st_size for file in tried["files"])
    listed = support.soa("vacuum", store, "--retention", "0s", "--force", "-n").stdout.splitlines()
    assert sorted(listed[:-1]) == sorted(tried["files"]) and listed[-1].startswith("10 files (")
    done = support.soa("vacuum", store, "--retention", "0s", "--force").stdout
    assert done.startswith("10 files (") and done.endswith(") removed\n")
    assert len(segments(store)) == 1 and contents(duck, store) == before
    refuse(store, "restore", store, "--version", "3", says="has been removed, by vacuum or by hand")
    support.soa("verify", store)


@pytest.mark.parametrize("time", ["", "7", "d", "-1d", "1.5h", "1w", "99999999999999999999d"])
def test_vacuum_refuses_what_is_no_time(store: Path, time: str):
    refuse(store, "vacuum", store, f"--retention={time}", says="such as 36h", code=2)


def test_delete_by_a_condition(store: Path, duck):
    condition = "(v BETWEEN 100 AND 199 OR s = 's5') AND o IS NOT NULL AND t < '2020-01-01 04:00:00'"
    right = duck.execute(
        f"SELECT count(*) FROM soa_scan({support.quote(store)}) WHERE {condition.replace('00:00', '00:00+00')}"
    ).fetchone()[0]
    assert right > 50
    tried = told("delete", store, "--where", condition, "--dry-run")
    assert tried == {"dry_run": True, "version": 4, "rows_deleted": right}
    assert support.soa("delete", store, "--where", condition, "-n").stdout == f"{right} rows would be deleted (version 4)\n"
    assert told("info", store)["rows"] == 500
    assert support.soa("delete", store, "--where", condition).stdout == f"{right} rows deleted (version 5)\n"
    assert told("delete", store, "--where", condition) == {"dry_run": False, "version": 5, "rows_deleted": 0}
    assert len(contents(duck, store)) == 500 - right
    support.soa("verify", store)


def test_delete_by_keys(keyed: Path, store: Path, duck):
    assert support.soa("delete", keyed, "--key", 7, 8, -9, 7).stdout == "2 rows deleted (version 1)\n"
    assert [row[0] for row in contents(duck, keyed)[5:9]] == [5, 6, 9, 10]
    refuse(keyed, "delete", keyed, "--key", "seven", says='"seven" is no value of type i64')
    refuse(store, "delete", store, "--key", 7, says="the store has no key; say with --where")


@pytest.mark.parametrize(
    ("condition", "says"),
    [
        ("", "cannot be read at its end (expected a column)"),
        ("id", "expected =, <>"),
        ("id = 1 OR", "cannot be read at its end"),
        ("nope = 1", 'there is no column "nope"'),
        ("id = 'x'", '"x" is no value of type i64'),
        ("s = s", "text in single quotes"),
        ("id = 1; DROP TABLE rows", "cannot be read at: ; DROP"),
    ],
)
def test_delete_refuses_what_is_no_condition(store: Path, condition: str, says: str):
    refuse(store, "delete", store, "--where", condition, says=says)


def test_delete_wants_to_be_told_which_rows(store: Path):
    refuse(store, "delete", store, says="--where", code=2)
    refuse(store, "delete", store, "--where", "id = 1", "--key", "1", says="cannot be used with", code=2)


def test_restore_brings_a_version_back(store: Path, duck):
    before = contents(duck, store)
    support.soa("delete", store, "--where", "id >= 50")
    assert support.soa("restore", store, "--version", 4).stdout == "450 rows are back, 0 are gone (version 6)\n"
    assert contents(duck, store) == before
    assert support.soa("restore", store, "--version", 6).stdout == "version 6 has these rows already\n"
    assert told("restore", store, "--version", 1) == {"version": 7, "rows_added": 0, "rows_deleted": 300}
    assert versions(store)[-1] == (7, "RESTORE")
    refuse(store, "restore", store, "--version", 99, says="99")
    refuse(store, "restore", store, says="--version", code=2)


def test_restore_takes_a_time(store: Path, duck):
    time.sleep(0.01)
    moment = datetime.datetime.now(datetime.timezone(datetime.timedelta(hours=2)))
    time.sleep(0.01)
    support.soa("delete", store, "--where", "id >= 50")
    done = told("restore", store, "--timestamp", moment.isoformat(timespec="milliseconds"))
    assert (done["version"], done["rows_added"]) == (6, 450)
    refuse(store, "restore", store, "--timestamp", "2001-01-01", says="no version of 2001-01-01T00:00:00Z or before: the oldest")
    refuse(store, "restore", store, "--timestamp", "yesterday", says='"yesterday" is no time')


def test_clone_is_a_store_of_its_own(keyed: Path, tmp_path: Path, duck):
    support.soa("delete", keyed, "--where", "id < 10")
    to = tmp_path / "copies" / "one.soa"
    assert told("clone", keyed, to) == {"path": str(to.resolve()), "rows": 490, "segments": 1}
    assert versions(to) == [(0, "CLONE")]
    assert contents(duck, to) == contents(duck, keyed)
    support.soa("delete", to, "--key", 10)
    assert (told("info", to)["rows"], told("info", keyed)["rows"]) == (489, 490)
    support.soa("verify", to)
    refuse(to, "clone", keyed, to, says="already")
    refuse(keyed, "clone", keyed, keyed / "inside", says="inside the store")


def test_alter_adds_columns_and_variants(store: Path, tmp_path: Path, duck):
    done = told("alter", store, "--add-column", "grade:enum(low,high)", "--add-column", "price: decimal(9,2)")
    assert done == {"version": 5} and versions(store)[-1] == (5, "ADD COLUMNS")
    columns = {column["name"]: column for column in told("info", store)["columns"]}
    assert columns["grade"] == {"name": "grade", "type": "enum", "nullable": True}
    assert columns["price"] == {"name": "price", "type": "decimal(9,2)", "nullable": True}
    new = rows(510).slice(500, 10)
    graded = new.append_column("grade", pa.array(["low", "high"] * 5))
    support.soa("import", write_table(graded, tmp_path / "graded.arrow"), store)
    top = new.append_column("grade", pa.array(["top"] * 10))
    refuse(store, "import", write_table(top, tmp_path / "top.arrow"), store, says="top")
    assert "(version 7)" in support.soa("alter", store, "--add-variant", "grade=top").stdout
    support.soa("import", tmp_path / "top.arrow", store)
    counts = f"SELECT grade::VARCHAR, count(*), count(price) FROM soa_scan({support.quote(store)}) GROUP BY 1 ORDER BY 1"
    assert duck.execute(counts).fetchall() == [("high", 5, 0), ("low", 5, 0), ("top", 10, 0), (None, 500, 0)]
    # From Parquet alone, and from Arrow forms that are made with the columns.
    other = copy(store, tmp_path, "parquet")
    shutil.rmtree(other / "_soa" / "arrow")
    assert duck.execute(counts.replace(str(store), str(other))).fetchall() == duck.execute(counts).fetchall()
    right = duck.execute(counts).fetchall()
    support.soa("compact", store)
    assert duck.execute(counts).fetchall() == right
    support.soa("verify", store)


@pytest.mark.parametrize(
    ("options", "says", "code"),
    [
        (["--add-column", "v:i64"], 'there is a column "v" already', 1),
        (["--add-column", "a b:i64"], "does not allow", 1),
        (["--add-column", "x"], "NAME:TYPE", 2),
        (["--add-column", "x:int"], "the types are bool", 2),
        (["--add-column", "x:decimal(39,2)"], "decimals have", 1),
        (["--add-variant", "v=x"], "which has no variants", 1),
        (["--add-variant", "nope=x"], 'there is no column "nope"', 1),
        (["--arrow-bytes", "much"], "no number", 2),
        ([], "--add-column", 2),
    ],
)
def test_alter_refuses_what_cannot_be(store: Path, options: list[str], says: str, code: int):
    refuse(store, "alter", store, *options, says=says, code=code)


def test_alter_changes_how_a_store_is_kept(store: Path):
    before = [segment.name for segment in segments(store)]
    support.soa("alter", store, "--auto-compact", "false", "--deletion-vectors", "false", "--arrow-bytes", 0)
    support.soa("delete", store, "--where", "id = 3")
    # The file concerned is written anew, as readers need it that know no deletion vectors.
    assert len({segment.name for segment in segments(store)} - set(before)) == 1
    support.soa("compact", store)
    assert told("info", store)["segments_in_arrow_form"] == 0
    support.soa("alter", store, "--arrow-bytes", "any", "--deletion-vectors", "true")
    assert told("compact", store)["arrow_rebuilt"] == told("info", store)["segments_in_arrow_form"] == 1


@pytest.mark.parametrize("command", [["compact"], ["vacuum"], ["delete", "--where", "id = 1"], ["restore", "--version", "0"]])
def test_what_is_no_store_is_named(command: list[str], tmp_path: Path):
    done = support.soa(command[0], tmp_path / "nothing.soa", *command[1:], check=False)
    assert done.returncode == 1 and "nothing.soa" in done.stderr, done
