"""Plans with parallel workers: they are made, their workers start or do not, and together they read each row once."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import psycopg
import pytest

import support
from pg_support import PARALLEL, Database, Growing, nodes, plan, rows, scans


@pytest.fixture
def session(all_stores: Database) -> Iterator[psycopg.Connection]:
    with all_stores.connect() as connection:
        for setting in PARALLEL:
            connection.execute(f"SET {setting}")
        connection.execute("CREATE TEMP TABLE small AS SELECT n AS id, n % 7 AS k FROM generate_series(0, 99) n")
        yield connection


def gathers(tree: dict) -> list[dict]:
    return [node for node in nodes(tree) if node["Node Type"] in ("Gather", "Gather Merge")]


SCAN = "SELECT count(*), sum(id), count(DISTINCT id) FROM rows_122881"
RIGHT = [(122_881, 122_880 * 122_881 // 2, 122_881)]


def test_workers_share_a_scan(session):
    tree = plan(session, "SELECT sum(id) FROM rows_122881")
    (gather,), (scan,) = gathers(tree), scans(tree)
    assert scan["Parallel Aware"] and gather["Workers Planned"] >= 1 and gather["Workers Launched"] >= 1
    # Of all processes together, not of each.
    assert scan["SoA Rows Read"] == 122881 and scan["SoA Units"] == "2 of 2"
    assert rows(session, SCAN) == RIGHT


@pytest.mark.parametrize(
    ("setting", "launched"),
    [
        ("max_parallel_workers = 0", 0),
        ("max_parallel_workers = 1", 1),
        ("parallel_leader_participation = off", None),
        ("max_parallel_workers_per_gather = 1", 1),
    ],
)
def test_with_fewer_workers_than_planned(session, setting: str, launched: int | None):
    session.execute(f"SET {setting}")
    tree = plan(session, "SELECT count(*) FROM orders WHERE order_id >= 0")
    (gather,), (scan,) = gathers(tree), scans(tree)
    assert gather["Workers Planned"] >= 1 and launched in (None, gather["Workers Launched"])
    assert scan["SoA Rows Read"] == 10000
    assert rows(session, "SELECT count(*), sum(order_id) FROM orders WHERE order_id >= 0") == [(10_000, 49_995_000)]
    assert rows(session, SCAN) == RIGHT


def test_scans_that_start_again(session):
    """The inner side of a nested loop, with workers of its own each time."""
    session.execute("SET enable_material = off")
    inner = "SELECT count(*) AS n, sum(id) AS s FROM rows_122881 WHERE v >= 10"
    sql = f"SELECT g, x.n, x.s FROM generate_series(1, 4) g LEFT JOIN ({inner}) x ON true"
    tree = plan(session, sql)
    (gather,), (scan,) = gathers(tree), scans(tree)
    assert gather["Actual Loops"] == 4 and gather["Workers Launched"] >= 1
    assert scan["SoA Rows Read"] == 4 * 122_881
    serial = "SELECT count(*), sum(id) FROM (SELECT id FROM rows_122881 WHERE v >= 10 OFFSET 0) x"
    session.execute("SET max_parallel_workers_per_gather = 0")
    ((count, total),) = rows(session, serial)
    session.execute("RESET max_parallel_workers_per_gather")
    assert rows(session, sql) == [(g, count, total) for g in range(1, 5)]
    session.execute("SET max_parallel_workers = 0")
    assert rows(session, sql) == [(g, count, total) for g in range(1, 5)]


def test_a_limit_ends_workers_early_and_again(session):
    session.execute("SET enable_material = off")
    inner = "SELECT count(*) AS n FROM (SELECT id FROM rows_122881 LIMIT 1000) y"
    sql = f"SELECT g, x.n FROM generate_series(1, 3) g LEFT JOIN ({inner}) x ON true"
    assert gathers(plan(session, sql))
    assert rows(session, sql) == [(g, 1000) for g in (1, 2, 3)]


JOINS = {
    "hash": ("SELECT count(*), sum(r.id) FROM rows_122881 r JOIN small s ON s.id = r.v", []),
    "parallel hash": ("SELECT count(*), sum(a.id) FROM rows_122881 a JOIN rows_122881 b ON a.id = b.id", []),
    "merge": (
        "SELECT count(*), sum(r.id) FROM rows_122881 r JOIN small s ON s.id = r.id",
        ["enable_hashjoin = off", "enable_nestloop = off"],
    ),
    "nested loop": (
        "SELECT count(*), sum(r.id) FROM rows_2049 r JOIN small s ON s.id = r.id",
        ["enable_hashjoin = off", "enable_mergejoin = off"],
    ),
    "append": (
        "SELECT count(*), sum(id) FROM (SELECT id FROM rows_122881 UNION ALL SELECT id FROM rows_2049 UNION ALL SELECT"
        " id FROM small) x",
        [],
    ),
    "semi": ("SELECT count(*), sum(id) FROM rows_122881 WHERE v IN (SELECT k FROM small)", []),
    "sorted": ("SELECT count(*), sum(id) FROM (SELECT id FROM rows_122881 ORDER BY s, id DESC LIMIT 5000) x", []),
    "grouped": (
        "SELECT count(*), sum(n) FROM (SELECT s, count(*) AS n FROM rows_122881 GROUP BY s HAVING count(*) > 1266) x",
        [],
    ),
    "initplan": ("SELECT count(*), sum(id) FROM rows_122881 WHERE id > (SELECT max(id) - 500 FROM rows_122881)", []),
    "set-returning": ("SELECT count(*), sum(g) FROM (SELECT generate_series(1, 2) AS g FROM rows_2049) x", []),
}


@pytest.mark.parametrize("join", JOINS)
def test_the_same_as_without_workers(session, join: str):
    sql, settings = JOINS[join]
    # The temporary table would keep workers away; one that is not temporary does not.
    session.execute("BEGIN")
    session.execute("CREATE TABLE IF NOT EXISTS small_too AS SELECT n AS id, n % 7 AS k FROM generate_series(0, 99) n")
    sql = sql.replace("small", "small_too")
    for setting in settings:
        session.execute(f"SET LOCAL {setting}")
    tree = plan(session, sql)
    assert gathers(tree), tree
    with_workers = rows(session, sql)
    session.execute("SET LOCAL max_parallel_workers_per_gather = 0")
    assert rows(session, sql) == with_workers
    session.execute("ROLLBACK")


def test_errors_of_workers(session):
    """An error of a worker is the query's; the one of a value that does not fit has its code and hint."""
    session.execute("SET parallel_leader_participation = off")
    with pytest.raises(psycopg.errors.DivisionByZero, match="parallel worker"):
        rows(session, "SELECT sum(1 / (id - 122000)) FROM rows_122881")
    session.execute("BEGIN")
    session.execute("CREATE FOREIGN TABLE narrow (id int, u64 bigint) SERVER stores OPTIONS (path 'types.soa')")
    with pytest.raises(psycopg.errors.NumericValueOutOfRange) as failed:
        rows(session, "SELECT sum(u64) FROM narrow")
    assert "numeric(20,0)" in failed.value.diag.message_hint
    session.execute("ROLLBACK")
    assert rows(session, SCAN) == RIGHT


def test_workers_read_the_version_of_their_leader(pg):
    """While batches are appended, workers and leader agree: all counts of a query are of one version."""
    with support.public_folder("soa-parallel-") as root, Database(pg, root) as database, database.connect() as session:
        store = Growing(root)
        store.append(20)
        database.import_all()
        for setting in (*PARALLEL, "enable_material = off"):
            session.execute(f"SET {setting}")
        sql = (
            "SELECT count(*), max(value) + 1, (SELECT count(*) FROM growing), (SELECT count(*) FROM growing a JOIN"
            " growing b USING (value))"
            " FROM growing"
        )
        assert gathers(plan(session, sql))
        writer = subprocess.Popen(store.command(150), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
        seen = set()
        while writer.poll() is None:
            (counts,) = rows(session, sql)
            assert len(set(counts)) == 1 and counts[0] % Growing.ROWS == 0, counts
            seen.add(counts[0])
        assert writer.returncode == 0 and len(seen) >= 5, seen
        assert rows(session, sql)[0][0] == 171 * Growing.ROWS


def test_what_runs_in_no_worker(session):
    """Rows that are locked, and cursors, which may stop anywhere, are read by the session itself."""
    for sql in ("SELECT id FROM rows_122881 FOR UPDATE", "DECLARE c CURSOR FOR SELECT id FROM rows_122881"):
        assert scans(plan(session, sql, analyze=False)) and not gathers(plan(session, sql, analyze=False))
