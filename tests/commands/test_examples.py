"""The examples that show how a program keeps its records: that each runs to its end, on a folder that is given and on one of its
own, and prints what it promises; and that what it leaves is a store that every engine reads.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

import support


def run(name: str, *arguments: object) -> str:
    """What an example prints."""
    command = [str(support.example(name)), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done
    assert "panicked" not in done.stderr, done.stderr
    return done.stdout


def rows(duck, store: Path) -> int:
    return duck.execute(f"SELECT count(*) FROM {support.quote(store)}").fetchone()[0]


@pytest.mark.parametrize("name", ["example_app", "persistent_demo", "parquet_demo", "live_sql"])
def test_every_example_needs_no_argument(name):
    assert run(name)


def test_both_shops_of_the_example_app_are_the_same(tmp_path, duck):
    store = tmp_path / "orders.soa"
    for _ in range(2):  # The second time on what the first has left.
        said = run("example_app", store)
        assert "both shops have the same orders: true" in said
        assert "so far nothing was loaded: true" in said
        memory, kept = said.split("-- kept")
        amounts = re.findall(r"(\w+) +([\d.]+)$", memory, re.MULTILINE)
        assert len(amounts) == 5 and amounts == re.findall(r"(\w+) +([\d.]+)$", kept, re.MULTILINE)
    assert rows(duck, store) == 1000


def test_nothing_is_lost_when_the_demo_restarts(tmp_path, duck):
    store = tmp_path / "orders.soa"
    said = run("persistent_demo", store)
    assert "a reader sees 100099 orders" in said
    assert "all 100099 loaded" in said and "closed with 100099 orders" in said
    assert rows(duck, store) == 100099


def test_parquet_is_as_small_as_was_asked_for(tmp_path, duck):
    said = run("parquet_demo", tmp_path)
    sizes = {name: int(size) for name, size in re.findall(r"(\w+)\.soa +(\d+) bytes of Parquet", said)}
    assert sizes["zstd"] < min(sizes["lz4"], sizes["snappy"]) < sizes["uncompressed"]
    read, total = map(int, re.search(r"for which (\d+) of (\d+) files were read", said).groups())
    assert (read, total) == (1, 5)
    assert "refused: " in said and "201000 orders are there" in said
    assert rows(duck, tmp_path / "zstd.soa") == 201000
    assert rows(duck, tmp_path / "partitioned.soa") == 200000
    # As another engine's Parquet reader sees the files.
    codecs = duck.execute(
        f"SELECT DISTINCT compression FROM parquet_metadata('{tmp_path}/lz4.soa/*.parquet') UNION "
        f"SELECT DISTINCT compression FROM parquet_metadata('{tmp_path}/snappy.soa/*.parquet') ORDER BY 1"
    ).fetchall()
    assert codecs == [("LZ4_RAW",), ("SNAPPY",)]


def test_another_process_sees_every_order_at_once(tmp_path, duck):
    store = tmp_path / "orders.soa"
    said = run("live_sql", store)
    written = [int(count) for count in re.findall(r"^(\d+) orders written", said, re.MULTILINE)]
    seen = [int(count) for count in re.findall(r"^  (\d+) orders, \d+ of them not yet published", said, re.MULTILINE)]
    assert seen == written == [1050, 1100, 1150]
    writer, reader = re.search(r"process (\d+) writes, process (\d+) queries", said).groups()
    assert writer != reader
    assert rows(duck, store) == 1150
