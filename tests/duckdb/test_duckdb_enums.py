"""`soa_scan(…, enums := true)`: enums as DuckDB's ENUM, with the store's list of variants."""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb
import pytest

import support
from duckdb_support import connect
from support import quote

MOODS = "ENUM('sad', 'ok', 'a name longer than twelve bytes')"


@pytest.fixture(params=("arrow", "parquet"))
def store(con, tmp_path: Path, request) -> Path:
    """Two segments with an enum with and without NULLs, in one of the two forms."""
    path = tmp_path / "t.soa"
    con.execute("SET preserve_insertion_order = true")
    con.execute(f"""CREATE TABLE rows AS SELECT i, (['sad', 'ok', 'a name longer than twelve bytes'][i % 3 + 1])::{MOODS} AS mood,
        CASE WHEN i % 7 > 1 THEN mood END AS maybe, if(i % 2 = 0, mood, NULL)::VARCHAR AS text FROM range(5000) r(i)""")
    for rows in ("i < 3000", "i >= 3000"):
        con.execute(f"COPY (FROM rows WHERE {rows}) TO {quote(path)} (FORMAT soa)")
    if request.param == "parquet":
        shutil.rmtree(path / "_soa" / "arrow")
    return path


def test_enums_are_those_of_the_table(con, store: Path):
    scan = f"soa_scan({quote(store)}, enums := true)"
    assert [row[1] for row in con.execute(f"DESCRIBE FROM {scan}").fetchall()] == ["BIGINT", MOODS, MOODS, "VARCHAR"]
    assert [row[1] for row in con.execute(f"DESCRIBE FROM {quote(store)}").fetchall()] == ["BIGINT", *["VARCHAR"] * 3]
    both = f"(FROM {scan}) POSITIONAL JOIN (SELECT i AS j, maybe AS m FROM rows)"
    assert con.execute(f"SELECT count(*) FROM {both} WHERE i <> j OR maybe IS DISTINCT FROM m").fetchone() == (0,)
    for left, right in ((scan, "rows"), ("rows", scan)):
        assert con.execute(f"(FROM {left}) EXCEPT ALL (FROM {right})").fetchall() == []


@pytest.mark.parametrize(
    "query",
    [
        "SELECT mood, maybe, count(*), sum(i) FROM {} GROUP BY ALL ORDER BY ALL",
        "SELECT count(*), min(mood), max(maybe) FROM {} WHERE mood > 'sad'",
        "SELECT count(*) FROM {} WHERE mood = 'sad' AND maybe IS NULL",
        "SELECT count(*) FROM {} WHERE maybe IN ('ok', 'sad') OR text = mood::VARCHAR",
        "SELECT enum_range(mood), enum_code(mood) FROM {} ORDER BY i LIMIT 5",
        "SELECT i FROM {} WHERE mood <> maybe OR mood LIKE 'a name%' ORDER BY mood, i LIMIT 20",
    ],
)
def test_queries_of_enums(con, store: Path, query: str):
    answer = con.execute(query.format(f"soa_scan({quote(store)}, enums := true)")).fetchall()
    assert answer == con.execute(query.format("rows")).fetchall() != []


def test_variants_that_are_added_later(con, store: Path):
    scan = f"SELECT mood, count(*) FROM soa_scan({quote(store)}, enums := true) GROUP BY mood ORDER BY mood"
    con.execute(f"PREPARE moods AS {scan}")
    support.soa("alter", store, "--add-variant", "mood=great")
    # Nobody has it yet.
    assert len(con.execute("EXECUTE moods").fetchall()) == 3
    con.execute(f"COPY (SELECT 1::BIGINT AS i, 'great' AS mood, NULL::{MOODS} AS maybe, NULL::VARCHAR AS text) TO {quote(store)} (FORMAT soa)")
    with pytest.raises(duckdb.Error, match='"mood" has got the variant "great"'):
        con.execute("EXECUTE moods").fetchall()
    assert con.execute(scan).fetchall()[-1] == ("great", 1)


@pytest.mark.parametrize("count", [1, 255, 256])
def test_any_number_of_variants(tmp_path: Path, count: int):
    names = ", ".join(f"'v{n:03}'" for n in range(count))
    with connect() as con:
        con.execute(f"CREATE TABLE rows AS SELECT format('v{{:03d}}', i % {count})::ENUM({names}) AS e FROM range(3000) r(i)")
        con.execute(f"COPY rows TO {quote(tmp_path / 't.soa')} (FORMAT soa)")
        scan = f"soa_scan({quote(tmp_path / 't.soa')}, enums := true)"
        assert con.execute(f"SELECT count(*) FROM (FROM rows) a POSITIONAL JOIN (FROM {scan}) b WHERE a.e = b.e").fetchone() == (3000,)
        assert con.execute(f"SELECT typeof(e) FROM {scan} LIMIT 1").fetchone() == con.execute("SELECT typeof(e) FROM rows LIMIT 1").fetchone()


def test_in_what_order_arguments_come(con, store: Path):
    for arguments in ("version := 0, enums := true", "enums := true, version := 0", "enums := true, timestamp := '2999-01-01'"):
        assert con.execute(f"SELECT typeof(mood) FROM soa_scan({quote(store)}, {arguments}) LIMIT 1").fetchone() == (MOODS,)
