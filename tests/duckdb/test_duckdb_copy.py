"""COPY … TO (FORMAT soa): one commit or none, every type, and what is refused."""

from __future__ import annotations

import os
import shutil
import subprocess
import threading
from pathlib import Path

import duckdb
import pytest

from duckdb_support import DIST, connect, ids, quote
from support import wait_until


def copy(con, query: str, path: Path, options: str = "") -> int:
    (count,) = con.execute(f"COPY ({query}) TO {quote(path)} (FORMAT soa{options and ', ' + options})").fetchone()
    return count


def history(con, path: Path) -> list:
    return con.execute(f"SELECT operation, rows_added FROM soa_history({quote(path)})").fetchall()


def left_in(folder: Path, names: list[str]) -> None:
    """Waits until nothing but this is left: DuckDB's threads let go of a statement a moment after it has failed."""
    wait_until(lambda: sorted(path.name for path in folder.rglob("*")) == names)


def test_a_store_is_made_in_one_commit_and_appended_to_in_another(con, tmp_path: Path):
    path = tmp_path / "orders.soa"
    rows = "SELECT i AS id, 's' || (i % 3) AS status, i * 1.5 AS amount FROM range({}, {}) r(i)"
    options = "KEY 'id', PARTITION_KEY 'status', SORT_KEY 'amount, id'"
    assert copy(con, rows.format(0, 300_000), path, options) == 300_000
    assert history(con, path) == [("CREATE TABLE AS SELECT", 300_000)]
    assert copy(con, rows.format(300_000, 300_100), path) == 100
    assert copy(con, rows.format(300_100, 300_200), path, "KEY id, PARTITION_KEY (status), SORT_KEY (amount, id)") == 100
    assert [operation for operation, _ in history(con, path)] == ["CREATE TABLE AS SELECT", "WRITE", "WRITE"]
    expected = rows.format(0, 300_200)
    for query in (f"FROM {quote(path)} EXCEPT ALL ({expected})", f"({expected}) EXCEPT ALL FROM {quote(path)}"):
        assert con.execute(query).fetchall() == []
    assert sorted(folder.name for folder in path.glob("status=*")) == ["status=s0", "status=s1", "status=s2"]
    assert con.execute(f"SELECT * FROM soa_verify({quote(path)})").fetchall() == []
    with pytest.raises(duckdb.Error, match="300050"):
        copy(con, rows.format(300_050, 300_051), path)
    with pytest.raises(duckdb.Error, match="the order id does not fit"):
        copy(con, rows.format(0, 1), path, "SORT_KEY id")


def test_rows_keep_their_order_whatever_the_number_of_threads(tmp_path: Path):
    with connect(threads=4) as con:
        con.execute("CREATE TABLE t AS SELECT i, hash(i) AS h FROM range(1_000_000) r(i)")
        copy(con, "FROM t", tmp_path / "t.soa")
        differ = f"SELECT count(*) FROM t POSITIONAL JOIN (FROM {quote(tmp_path / 't.soa')}) s WHERE t.h <> s.h"
        assert con.execute(differ).fetchone() == (0,)
        # Parts one after the other, of which none is a whole number of batches.
        parts = "FROM t WHERE i < 300_000 UNION ALL FROM t WHERE i >= 300_000"
        copy(con, parts, tmp_path / "parts.soa")
        together = f"SELECT count(*) FROM (SELECT * FROM t) t POSITIONAL JOIN (FROM {quote(tmp_path / 'parts.soa')}) s WHERE t.i <> s.i"
        assert con.execute(together).fetchone() == (0,)
        # From a store into a store.
        copy(con, f"FROM {quote(tmp_path / 't.soa')} WHERE i % 7 = 0", tmp_path / "u.soa")
        both = f"(FROM t WHERE i % 7 = 0) EXCEPT ALL FROM {quote(tmp_path / 'u.soa')}"
        assert con.execute(both).fetchall() == []


TYPES = """
    SELECT (i % 2 = 0) AS b, (i - 100)::TINYINT AS i8, i::SMALLINT AS i16, i::INTEGER AS i32, -i::BIGINT AS i64,
        (i % 200)::UTINYINT AS u8, i::USMALLINT AS u16, i::UINTEGER AS u32, 18446744073709551615 - i::UBIGINT AS u64,
        sum(i::BIGINT) OVER (ORDER BY i) AS huge, i::FLOAT / 3 AS f32, i::DOUBLE / 7 AS f64, (i / 100)::DECIMAL(9, 2) AS price,
        (i / 7)::DECIMAL(38, 10) AS large, 'Zeichenkette ' || i AS text, 'ä' AS short,
        (CASE i % 3 WHEN 0 THEN 'ok' WHEN 1 THEN 'sad' ELSE 'happy' END)::ENUM('sad', 'ok', 'happy') AS mood, encode('x' || i) AS raw,
        DATE '1900-01-01' + i::INTEGER AS day, TIME '00:00:01' + INTERVAL (i) SECOND AS clock,
        TIMESTAMP '1969-12-31 23:59:59.999999' + INTERVAL (i) HOUR AS stamp, TIMESTAMPTZ '2024-01-01 00:00:00+02' + INTERVAL (i) HOUR AS instant,
        ('2024-01-01'::TIMESTAMP_S) AS seconds, ('2024-01-01 00:00:00.5'::TIMESTAMP_MS) AS millis, INTERVAL (i) MILLISECOND AS took, to_microseconds(9223372036854775 - i) AS long,
        uuid_from(i) AS id, [i, NULL, i + 1] AS list, array_value(i, i + 1)::INTEGER[2] AS pair,
        {'x': i, 'y': {'z': 'n' || i, 'when': DATE '2020-01-01'}} AS place, MAP {'a': i, 'b': i + 1} AS numbers, [{'k': [1, i]}] AS deep
    FROM range(150) r(i)
"""


def test_every_type_comes_back_as_it_went_in(con, tmp_path: Path):
    con.execute("CREATE MACRO uuid_from(i) AS ('00000000-0000-4000-8000-' || lpad(hex(i), 12, '0'))::UUID")
    con.execute(f"CREATE TABLE rows AS {TYPES}")
    # Every column with and without NULLs.
    columns = [row[0] for row in con.execute("DESCRIBE rows").fetchall()]
    nulls = ", ".join(f"CASE WHEN i8 % 5 = {n % 5} THEN NULL ELSE {name} END AS n_{name}" for n, name in enumerate(columns))
    con.execute(f"CREATE TABLE everything AS SELECT *, {nulls} FROM rows")
    path = tmp_path / "everything.soa"
    assert copy(con, "FROM everything", path) == 150
    found = dict(row[:2] for row in con.execute(f"DESCRIBE FROM {quote(path)}").fetchall())
    wanted = dict(row[:2] for row in con.execute("DESCRIBE everything").fetchall())
    others = {"HUGEINT": "DECIMAL(38,0)", "ENUM('sad', 'ok', 'happy')": "VARCHAR", "TIMESTAMP_S": "TIMESTAMP", "TIMESTAMP_MS": "TIMESTAMP"}
    assert found == {name: others.get(kind, kind) for name, kind in wanted.items()}
    for left, right in (("everything", quote(path)), (quote(path), "everything")):
        assert con.execute(f"(SELECT * FROM {left}) EXCEPT ALL (SELECT * FROM {right})").fetchall() == []
    # The session's settings for Arrow make no difference to what is written.
    con.execute("SET arrow_large_buffer_size = true")
    con.execute("SET produce_arrow_string_view = true")
    again = tmp_path / "again.soa"
    copy(con, "FROM everything", again)
    assert con.execute(f"(FROM {quote(path)}) EXCEPT ALL (FROM {quote(again)})").fetchall() == []
    assert con.execute(f"SELECT * FROM soa_verify({quote(again)})").fetchall() == []


@pytest.mark.parametrize(
    "query, options, says",
    [
        ("SELECT 1 AS a", "COLOUR 'red'", "no option of the format soa"),
        ("SELECT 1 AS a", "KEY 'b'", '"b"'),
        ("SELECT 1 AS a", "KEY 'a, a'", "KEY names one column"),
        ("SELECT 1 AS a", "KEY 7", "KEY names columns"),
        ("SELECT NULL::BIGINT AS a", "KEY 'a'", "NULL"),
        ("SELECT 1.5::DOUBLE AS a", "KEY 'a'", '"a"'),
        ("SELECT 1 AS a UNION ALL SELECT 1", "KEY 'a'", "1"),
        ("SELECT NULL AS a", "", "give it a type"),
        ("SELECT '101'::BIT AS a", "", "cast it to another type"),
        ("SELECT INTERVAL 1 MONTH AS a", "", "no fixed length"),
        ("SELECT to_microseconds(9223372036854776) AS a", "", "292 years"),
        ("FROM (VALUES (NULL), (INTERVAL 1 SECOND), (to_microseconds(-9223372036854776))) t(a)", "", "292 years"),
        ("SELECT [INTERVAL 1 SECOND] AS a", "", "intervals inside"),
        ("SELECT 170141183460469231731687303715884105727::HUGEINT AS a", "", '"a"'),
        ("SELECT TIMESTAMP_NS '2024-01-01 00:00:00.000000001' AS a", "", '"a"'),
        ("SELECT i AS a, CASE WHEN i = 290000 THEN error('out of rows') ELSE 'x' END AS b FROM range(300000) r(i)", "", "out of rows"),
        ("SELECT '' AS a, 1 AS b", "PARTITION_KEY 'a'", "empty"),
    ],
)
def test_what_is_refused_leaves_nothing_behind(con, tmp_path: Path, query: str, options: str, says: str):
    with pytest.raises(duckdb.Error, match=says):
        copy(con, query, tmp_path / "t.soa", options)
    left_in(tmp_path, [])
    # The same into a folder that was there, with a file and a folder of others.
    (tmp_path / "t.soa" / "others").mkdir(parents=True)
    (tmp_path / "t.soa" / "note.txt").write_text("mine")
    with pytest.raises(duckdb.Error, match=says):
        copy(con, query, tmp_path / "t.soa", options)
    left_in(tmp_path / "t.soa", ["note.txt", "others"])


@pytest.mark.parametrize("option", ["PARTITION_BY (a)", "PER_THREAD_OUTPUT", "FILE_SIZE_BYTES '1MB'", "USE_TMP_FILE true"])
def test_files_of_duckdbs_own_are_refused(con, tmp_path: Path, option: str):
    with pytest.raises(duckdb.Error):
        copy(con, "SELECT i % 3 AS a, i AS b FROM range(100) r(i)", tmp_path / "t.soa", option)
    wait_until(lambda: not [path for path in tmp_path.rglob("*") if path.is_file()])


def test_an_append_that_fails_changes_nothing(con, new_store):
    store = new_store()
    store.commit(ids(0, 500))
    before = sorted(path for path in store.path.rglob("*") if path.is_file())
    for query, says in [
        ("SELECT 'x' AS id", "id"),
        ("SELECT 1::BIGINT AS id, 2 AS other", "other"),
        ("SELECT CASE WHEN i = 250000 THEN error('stopped') ELSE i END AS id FROM range(300000) r(i)", "stopped"),
    ]:
        with pytest.raises(duckdb.Error, match=says):
            copy(con, query, store.path)
        wait_until(lambda: sorted(path for path in store.path.rglob("*") if path.is_file()) == before)
    assert con.execute(f"SELECT count(*) FROM {store.sql}").fetchone() == (500,)


def test_overwrite_is_not_for_stores(con, new_store):
    """DuckDB keeps the option to itself: the extension cannot refuse it, and nothing is lost by it."""
    store = new_store()
    store.commit(ids(0, 10))
    for number, option in enumerate(("OVERWRITE", "OVERWRITE_OR_IGNORE", "APPEND"), 1):
        copy(con, f"SELECT {number * 100}::BIGINT AS id", store.path, option)
        assert con.execute(f"SELECT count(*) FROM {store.sql}").fetchone() == (10 + number,)


def test_nothing_is_committed_when_a_scan_cannot_begin(con, new_store, tmp_path: Path):
    """DuckDB finishes a statement whose second scan could not begin, without its rows, before it fails."""
    store = new_store()
    store.commit(ids(0, 1000))
    path = tmp_path / "copied [1]*.soa"
    first = f"SELECT i AS id FROM range(10) r(i) UNION ALL SELECT id FROM {store.sql}"
    con.execute(f"PREPARE copying AS COPY ({first}) TO {quote(path)} (FORMAT soa)")
    # What the statement was prepared for is another store now.
    kept = tmp_path / "kept"
    store.path.rename(kept)
    con.execute(f"COPY (SELECT 'text' AS id) TO {store.sql} (FORMAT soa)")
    for _ in range(30):
        with pytest.raises(duckdb.Error, match="have changed since"):
            con.execute("EXECUTE copying")
        assert not [file for file in path.rglob("*") if file.is_file()]
    # What failed does not keep the statement from its work.
    shutil.rmtree(store.path)
    kept.rename(store.path)
    con.execute("EXECUTE copying")
    assert con.execute(f"SELECT count(*) FROM soa_scan({quote(path)})").fetchone() == (1010,)


@pytest.mark.parametrize("source", ["parquet", "csv"])
def test_nothing_is_committed_when_a_file_of_another_format_is_gone(con, tmp_path: Path, source: str):
    file, path = tmp_path / f"rows.{source}", tmp_path / "copied.soa"
    con.execute(f"COPY (SELECT i AS id FROM range(1000) r(i)) TO {quote(file)} (FORMAT {source})")
    first = f"SELECT i AS id FROM range(10) r(i) UNION ALL SELECT id FROM {quote(file)}"
    con.execute(f"PREPARE copying AS COPY ({first}) TO {quote(path)} (FORMAT soa)")
    file.rename(tmp_path / "kept")
    for _ in range(30):
        with pytest.raises(duckdb.Error, match="rows"):
            con.execute("EXECUTE copying")
        assert not [file for file in path.rglob("*") if file.is_file()]
    # The plan of a prepared statement keeps the state of its last execution, and with it an empty folder.
    con.execute("DEALLOCATE copying")
    wait_until(lambda: not path.exists())


def test_only_some_allowed_files_are_no_place_for_a_store(tmp_path: Path):
    path = tmp_path / "t.soa"
    with connect() as con:
        con.execute(f"SET allowed_paths = [{quote(path / '_delta_log' / '00000000000000000000.json')}]")
        con.execute("SET enable_external_access = false")
        with pytest.raises(duckdb.Error, match="[Pp]ermission"):
            copy(con, "SELECT 1 AS a", path)
    left_in(tmp_path, [])


def test_a_copy_works_where_only_its_folder_is_allowed(tmp_path: Path):
    with connect() as con:
        con.execute(f"SET allowed_directories = [{quote(tmp_path / 'mine')}]")
        con.execute("SET enable_external_access = false")
        assert copy(con, "SELECT 1 AS a", tmp_path / "mine" / "t.soa") == 1
        assert con.execute(f"FROM {quote(tmp_path / 'mine' / 't.soa')}").fetchall() == [(1,)]


def test_no_rows_make_a_store_without_rows(con, tmp_path: Path):
    assert copy(con, "SELECT 1 AS a, 'x' AS b WHERE false", tmp_path / "t.soa", "KEY a") == 0
    assert con.execute(f"FROM {quote(tmp_path / 't.soa')}").fetchall() == []
    assert history(con, tmp_path / "t.soa") == [("CREATE TABLE AS SELECT", 0)]


def test_a_copy_that_is_interrupted_leaves_nothing(con, tmp_path: Path):
    timer = threading.Timer(1.0, con.interrupt)
    timer.start()
    with pytest.raises(duckdb.InterruptException):
        copy(con, "SELECT i, hash(i) AS h FROM range(10_000_000_000) r(i)", tmp_path / "t.soa")
    timer.join()
    left_in(tmp_path, [])
    assert copy(con, "SELECT 1 AS a", tmp_path / "t.soa") == 1


def test_where_writing_is_not_allowed_nothing_is_written(tmp_path: Path):
    with connect() as con:
        con.execute(f"SET allowed_directories = [{quote(tmp_path / 'mine')}]")
        con.execute("SET enable_external_access = false")
        with pytest.raises(duckdb.Error, match="[Pp]ermission"):
            copy(con, "SELECT 1 AS a", tmp_path / "t.soa")
        for path in (tmp_path / "mine" / ".." / "t.soa", tmp_path / "mine" / ".." / ".." / "t.soa"):
            with pytest.raises(duckdb.Error):
                copy(con, "SELECT 1 AS a", path)
        left_in(tmp_path, [])
        assert copy(con, "SELECT 1 AS a", tmp_path / "mine" / "t.soa") == 1


def test_paths_of_all_kinds(con, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    for name in ("a b.soa", "it's.soa", "größe/Ordner.soa", "percent%20.soa"):
        assert copy(con, "SELECT 1 AS a", Path(name)) == 1
        assert con.execute(f"FROM {quote(name)}").fetchall() == [(1,)]
    monkeypatch.setenv("HOME", str(tmp_path))
    assert copy(con, "SELECT 2 AS a", Path("~/home.soa")) == 1
    assert con.execute("FROM '~/home.soa'").fetchall() == [(2,)]


def test_two_who_make_the_same_store(tmp_path: Path):
    errors: list[str] = []

    def make(number: int) -> None:
        with connect() as con:
            try:
                copy(con, f"SELECT {number} AS n, i FROM range(200_000) r(i)", tmp_path / "t.soa")
            except duckdb.Error as error:
                errors.append(str(error))

    threads = [threading.Thread(target=make, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all("t.soa" in error for error in errors), errors
    with connect() as con:
        counts = con.execute(f"SELECT n, count(*) FROM {quote(tmp_path / 't.soa')} GROUP BY n").fetchall()
        # Who came first made it; who came later appended, or was told that somebody else was faster.
        assert len(counts) == 4 - len(errors) and {count for _, count in counts} == {200_000}
        assert con.execute(f"SELECT * FROM soa_verify({quote(tmp_path / 't.soa')})").fetchall() == []


KILLED = """
import os, sys, threading, time
sys.path.insert(0, sys.argv[1])
from duckdb_support import connect, quote
con = connect()
print("ready", flush=True)
con.execute(f"COPY (SELECT i, hash(i) AS h FROM range(50_000_000) r(i)) TO {quote(sys.argv[2])} (FORMAT soa)")
"""


def test_a_process_that_is_killed_leaves_no_store(con, tmp_path: Path):
    path = tmp_path / "t.soa"
    command = ["python3", "-c", KILLED, str(Path(__file__).parent), str(path)]
    command[0] = os.sys.executable
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=os.environ | {"SOA_DIST": str(DIST)}) as process:
        process.stdout.readline()
        for _ in range(600):
            if list(path.rglob("*.parquet")) or process.poll() is not None:
                break
            threading.Event().wait(0.1)
        process.kill()
    assert list(path.rglob("*.parquet")) and not list(path.rglob("*.json"))
    with pytest.raises(duckdb.Error, match="t.soa"):
        con.execute(f"FROM {quote(path)}").fetchall()
    # What it left is in nobody's way.
    assert copy(con, "SELECT 1 AS a", path) == 1
    assert con.execute(f"FROM {quote(path)}").fetchall() == [(1,)]
