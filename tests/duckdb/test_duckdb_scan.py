"""How a scan behaves: order, threads, cancelling, names, access rules, panics."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import duckdb
import pyarrow as pa
import pytest

from duckdb_support import DIST, Store, connect, ids, quote

COUNT = 500_000


@pytest.fixture(scope="module")
def big(tmp_path_factory):
    """Several segments of several units each."""
    store = Store(tmp_path_factory.mktemp("big") / "big.soa")
    half = COUNT // 2
    store.commit(ids(0, half), ids(half, half - 1), ids(COUNT - 1, 1))
    return store


@pytest.mark.parametrize("threads", [1, 2, 8])
def test_rows_come_in_the_order_they_were_added(big, threads):
    con = connect(threads=threads)
    rows = con.sql(f"SELECT id FROM {big.sql}").to_arrow_table()["id"].to_pylist()
    assert rows == list(range(COUNT))
    con.execute(f"CREATE TABLE copy AS FROM {big.sql}")
    assert con.execute("SELECT bool_and(id = rowid) FROM copy").fetchone() == (True,)
    assert con.execute(f"SELECT id FROM {big.sql} LIMIT 3 OFFSET 300000").fetchall() == [(300000,), (300001,), (300002,)]
    # Not `first(id)`: with several threads DuckDB gives any thread's first row, on tables of its own as well.
    con.execute("SET preserve_insertion_order = false")
    assert con.execute(f"SELECT sum(id), count(*) FROM {big.sql}").fetchone() == (COUNT * (COUNT - 1) // 2, COUNT)


def test_every_chunk_size_around_the_limits(con, new_store):
    for count in (0, 1, 2047, 2048, 2049, 4096, 122_880, 122_881):
        store = new_store(f"n{count}.soa")
        store.commit(ids(0, count))
        assert con.execute(f"SELECT count(*), count(id), max(id) FROM {store.sql}").fetchone() == (count, count, count - 1 if count else None)


def test_columns_in_any_order_and_number(con, new_store):
    store = new_store()
    store.commit(pa.table({f"c{n}": pa.array([n * 10 + i for i in range(5)], pa.int32()) for n in range(6)}))
    assert con.execute(f"SELECT c4, c1, c4, c0 FROM {store.sql} WHERE c2 > 22").fetchall() == [(43, 13, 43, 3), (44, 14, 44, 4)]
    assert con.execute(f"SELECT count(*) FROM {store.sql}").fetchone() == (5,)
    assert con.execute(f"SELECT 1 FROM {store.sql} WHERE c5 = 53").fetchall() == [(1,)]


def test_names(con, new_store, tmp_path, monkeypatch):
    store = new_store("größe ' 東京.soa")
    store.commit(ids(0, 3))
    assert con.execute(f"SELECT count(*) FROM {store.sql}").fetchone() == (3,)
    plain = new_store("orders.soa")
    plain.commit(ids(0, 3))
    monkeypatch.chdir(tmp_path)
    for name in ("'orders.soa'", "'orders.soa/'", "orders.soa", "'./orders.soa'", f"'{tmp_path}/../{tmp_path.name}/orders.soa'"):
        assert con.execute(f"SELECT sum(orders.id) FROM {name}").fetchone() == (3,), name
    assert con.execute("SELECT sum(x.id) FROM 'orders.soa' x").fetchone() == (3,)
    monkeypatch.setenv("HOME", str(tmp_path))
    con.execute(f"SET home_directory = {quote(tmp_path)}")
    assert con.execute("SELECT count(*) FROM '~/orders.soa'").fetchone() == (3,)
    monkeypatch.chdir("/")
    con.execute(f"SET file_search_path = {quote(tmp_path)}")
    assert con.execute("SELECT count(*) FROM 'orders.soa'").fetchone() == (3,)
    # Other names are none of ours.
    for name in ("'orders.soap'", "'orders'", "orders", "soa"):
        with pytest.raises(duckdb.CatalogException):
            con.execute(f"FROM {name}")
    con.execute('CREATE TABLE "real.soa" AS SELECT 42 AS answer')
    assert con.execute("SELECT answer FROM 'real.soa'").fetchone() == (42,)


def test_schema(con, tmp_path):
    path = tmp_path / "t.soa"
    query = "SELECT 1::UBIGINT AS id, 'a' AS place, 'x'::ENUM('x', 'y') AS kind, [1.5::DECIMAL(9, 2)] AS prices, now() AS \"at\""
    con.execute(f"COPY ({query}) TO {quote(path)} (FORMAT soa, KEY id, PARTITION_KEY (place, kind), SORT_KEY 'at, id')")
    assert con.execute(f"FROM soa_schema({quote(path)})").fetchall() == [
        ("id", "u64", False, True, None, 2, None),
        ("place", "string", True, False, 1, None, None),
        ("kind", "enum", True, False, 2, None, ["x", "y"]),
        ("prices", "list(decimal(9,2)?)", True, False, None, None, None),
        ("at", "timestamp with time zone", True, False, None, 1, None),
    ]


def test_bounds_of_segments(con, tmp_path):
    path = tmp_path / "t.soa"
    query = """SELECT i AS n, -i / 4 AS half, 'name ' || i AS name, DATE '2024-01-01' + i::INTEGER AS day, i::DECIMAL(9, 2) AS price,
               TIMESTAMP '2024-01-01 00:00:00.000001' AS stamp, i > 1 AS flag, NULL::BIGINT AS never FROM range(3) r(i)"""
    con.execute(f"COPY ({query}) TO {quote(path)} (FORMAT soa)")
    ((least, most),) = con.execute(f"SELECT min, max FROM soa_segments({quote(path)})").fetchall()
    assert {name: (least[name], most[name]) for name in ("n", "name", "day")} == {
        "n": ("0", "2"), "name": ("name 0", "name 2"), "day": ("2024-01-01", "2024-01-03"),
    }  # fmt: skip
    # Bounds are no closer than the log has them, where decimals are floating-point numbers.
    assert -0.1 < float(least["price"]) <= 0 and 2 <= float(most["price"]) < 2.1
    assert -0.51 < float(least["half"]) <= -0.5 and 0 <= float(most["half"]) < 0.01 and "never" not in least
    assert least["stamp"].startswith("2024-01-01T00:00:00")


def test_segments(con, new_store):
    store = new_store()
    table = pa.table({"id": pa.array(range(6), pa.int64()), "place": ["a", "b", None] * 2})
    store.commit(table, options=("--partition-by", "place"))
    rows = con.execute(f"FROM soa_segments({store.sql}) ORDER BY path").fetchall()
    assert sorted(str(row[5]) for row in rows) == ["{'place': 'a'}", "{'place': 'b'}", "{'place': None}"]
    for path, count, form, parquet_bytes, arrow_bytes, _, deleted, least, most in rows:
        assert (count, form, deleted) == (2, "arrow", 0) and int(most["id"]) - int(least["id"]) == 3 and len(least) == 1
        assert parquet_bytes == (store.path / path).stat().st_size and arrow_bytes > 0
    assert con.execute(f"SELECT count(*) FROM soa_segments({store.sql}) WHERE partition['place'] = 'a'").fetchone() == (1,)
    for arrow in (store.path / "_soa" / "arrow").iterdir():
        arrow.unlink()
    fresh = subprocess.run(
        [sys.executable, "-c", f"from duckdb_support import connect\nprint(connect().execute('''SELECT form, arrow_bytes FROM soa_segments({store.sql})''').fetchall())"],
        capture_output=True, text=True, cwd=os.path.dirname(__file__), env=os.environ | {"SOA_DIST": str(DIST)},
    )  # fmt: skip
    assert fresh.stdout.strip() == str([("parquet", None)] * 3), fresh.stderr


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("FROM '{0}/nothing.soa'", 'no store at ".*nothing.soa"'),
        ("FROM '{0}/empty.soa'", "not a store"),
        ("FROM soa_scan('')", "path of the store is empty"),
        ("FROM soa_scan(NULL)", "path of the store is NULL"),
        ("FROM soa_scan('s3://bucket/x.soa')", "is remote"),
        ("FROM soa_scan('{0}', wrong := 1)", r"soa_scan\(path"),
        ("FROM soa_segments('{0}/nothing.soa')", "no store at"),
    ],
)
def test_errors_name_the_thing(con, tmp_path, query, message):
    (tmp_path / "empty.soa").mkdir()
    with pytest.raises(duckdb.Error, match=message):
        con.execute(query.format(tmp_path))
    assert con.execute("SELECT 42").fetchone() == (42,)


def test_a_file_that_vanishes_is_an_error_and_the_session_lives(con, new_store):
    store = new_store()
    store.commit(ids(0, 10))
    for file in [*store.path.rglob("*.parquet"), *store.path.rglob("*.arrow")]:
        file.unlink()
    with pytest.raises(duckdb.Error, match="part-"):
        con.execute(f"SELECT sum(id) FROM {store.sql}").fetchall()
    assert con.execute("SELECT 42").fetchone() == (42,)


def test_access_rules(new_store, tmp_path):
    store = new_store()
    store.commit(ids(0, 10))
    query = f"SELECT count(*) FROM {store.sql}"
    closed = connect()
    closed.execute("SET enable_external_access = false")
    for refused in (query, f"FROM soa_segments({store.sql})"):
        with pytest.raises(duckdb.PermissionException):
            closed.execute(refused)
    elsewhere = connect()
    elsewhere.execute(f"SET allowed_directories = [{quote(tmp_path / 'elsewhere')}]")
    elsewhere.execute("SET enable_external_access = false")
    for path in (store.path, tmp_path / "elsewhere" / ".." / store.path.name):
        with pytest.raises(duckdb.PermissionException):
            elsewhere.execute(f"SELECT count(*) FROM {quote(path)}")
    allowed = connect()
    allowed.execute(f"SET allowed_directories = [{store.sql}]")
    allowed.execute("SET enable_external_access = false")
    allowed.execute("SET lock_configuration = true")
    assert allowed.execute(query).fetchone() == (10,)
    # The log may be read but not the rows.
    log_only = connect()
    log_only.execute(f"SET allowed_directories = [{quote(store.path / '_delta_log')}]")
    log_only.execute("SET enable_external_access = false")
    with pytest.raises(duckdb.PermissionException, match="part-"):
        log_only.execute(query).fetchall()
    disabled = connect()
    disabled.execute("SET disabled_filesystems = 'LocalFileSystem'")
    with pytest.raises(duckdb.PermissionException):
        disabled.execute(query)


def test_access_can_be_taken_away_from_a_prepared_statement(con, new_store):
    store = new_store()
    store.commit(ids(0, 10))
    con.execute(f"PREPARE p AS SELECT count(*) FROM {store.sql}")
    assert con.execute("EXECUTE p").fetchone() == (10,)
    con.execute("SET enable_external_access = false")
    with pytest.raises(duckdb.PermissionException):
        con.execute("EXECUTE p").fetchall()


def test_a_query_can_be_interrupted(big):
    con = connect(threads=2)
    # Each row of the store meets each: this would take hours.
    query = f"SELECT count(*) FROM {big.sql} a, {big.sql} b WHERE hash(a.id, b.id) = 1"
    timer = threading.Timer(0.5, con.interrupt)
    timer.start()
    started = time.monotonic()
    with pytest.raises(duckdb.InterruptException):
        con.execute(query).fetchall()
    assert time.monotonic() - started < 5
    assert con.execute(f"SELECT count(*) FROM {big.sql}").fetchone() == (COUNT,)


def test_explain_and_progress(big):
    con = connect()
    assert "SOA_ROWS" in con.execute(f"EXPLAIN SELECT sum(id) FROM {big.sql}").fetchone()[1]
    assert f"{COUNT:,}".replace(",", "") in con.execute(f"EXPLAIN FROM {big.sql}").fetchone()[1].replace(",", "").replace("~", "")


PANICS = """
import os, sys
os.environ["SOA_TEST_PANIC"] = "nothing"
from duckdb_support import connect
con = connect(threads=4)
con.execute("SET enable_progress_bar = true; SET progress_bar_time = 0; SET enable_progress_bar_print = false")
store, step = sys.argv[1:]
good = f"SELECT count(*) FROM '{store}'"
assert con.execute(good).fetchone() == (500000,)
con.execute("CREATE TABLE kept AS SELECT 1 AS one")
bad = f"CREATE OR REPLACE TABLE copy AS FROM '{store}' WHERE id >= 0"
if step == "progress":
    # Long enough for DuckDB to ask.
    bad = f"SELECT max(hash(id, n)) FROM '{store}', range(300) numbers(n)"
for _ in range(3):
    os.environ["SOA_TEST_PANIC"] = step
    try:
        con.execute(bad)
        # No query fails for what a progress bar shows.
        if step != "progress":
            raise SystemExit(f"{step}: no error")
    except Exception as error:
        assert f"internal error in soa_scan ({step})" in str(error), error
    os.environ["SOA_TEST_PANIC"] = "nothing"
    assert con.execute(good).fetchone() == (500000,)
    assert con.execute("SELECT one FROM kept").fetchone() == (1,)
print("survived")
"""


@pytest.mark.parametrize("step", ["bind", "filter", "init", "init_local", "scan", "progress", "partition", "replacement"])
def test_a_panic_is_an_error_of_the_query(big, step):
    done = subprocess.run(
        [sys.executable, "-c", PANICS, str(big.path), step],
        capture_output=True, text=True, cwd=os.path.dirname(__file__), timeout=120, env=os.environ | {"SOA_DIST": str(DIST)},
    )  # fmt: skip
    assert done.returncode == 0 and "survived" in done.stdout, done.stdout + done.stderr


def test_the_stamp(tmp_path):
    """Another release, platform or interface is refused by DuckDB itself."""
    built = (DIST / "soa.duckdb_extension").read_bytes()
    for wrong in (b"v1.5.6", b"linux_none", b"C_STRUCT"):
        footer = bytearray(built[-512:])
        field = {b"v1.5.6": 5, b"linux_none": 6, b"C_STRUCT": 3}[wrong] * 32
        footer[field : field + 32] = wrong.ljust(32, b"\0")
        file = tmp_path / "soa.duckdb_extension"
        file.write_bytes(built[:-512] + bytes(footer))
        con = duckdb.connect(config={"allow_unsigned_extensions": "true"})
        with pytest.raises(duckdb.Error):
            con.execute(f"LOAD {quote(file)}")
