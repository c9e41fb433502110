"""The benchmark's third part: writing. A store beside an fsync loop, SQLite and DuckDB, on the same folder.

- single rows, each durable when the call returns: a store's writer from 1 and from 16 threads, an fsync loop on a file, SQLite
  (WAL, synchronous=FULL) and DuckDB, each row a transaction of its own;
- one batch of a million rows, published: both forms of the segments, beside writing and syncing as many bytes, DuckDB's
  insert of an Arrow table with a checkpoint, and SQLite's executemany in one transaction;
- a tenth of the rows replaced at random: how long it takes, what is written for it, and what scans cost afterwards;
- a full write-ahead log: how long the store takes to be read and written again;
- a store of many segments: what another commit costs, and how long a new process takes to open it and find the one segment
  that has a key, with its files in the page cache and without.

The store's part are the examples `write_speed` and `append_speed`. Everything is measured in turn, round by round; shown are medians.
"""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import statistics
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import support
from measure import print_table, seconds

RATE_SECONDS = 2.0
BATCH_ROWS = 1_000_000
COLUMNS = (
    "order_id BIGINT PRIMARY KEY, customer_id BIGINT, product_id BIGINT, quantity INTEGER, unit_price DOUBLE, "
    "total_amount DOUBLE, status VARCHAR, payment_method VARCHAR, ordered_at BIGINT, updated_at BIGINT"
)


def run(folder: Path, rows: int, rounds: int) -> dict:
    """Measures, prints and returns the results."""
    folder.mkdir(parents=True, exist_ok=True)
    found: dict[str, list[dict]] = {"single rows": [], "a batch": [], "upserts": [], "a full log": []}
    for _ in range(rounds):
        found["single rows"].append(ours(folder, "add") | {"sqlite": sqlite_rate(folder), "duckdb": duckdb_rate(folder)})
        others = {"sqlite_ms": sqlite_batch(folder) * 1e3, "duckdb_ms": duckdb_batch(folder) * 1e3}
        found["a batch"].append(batch(folder) | others)
        found["a full log"].append(ours(folder, "reopen"))
    for _ in range(min(rounds, 3)):
        found["upserts"].append(ours(folder, "upsert", rows) | scans(folder / "upserted.soa", rows))
    found["many segments"] = segments(folder, rounds)
    middle = {name: {key: statistics.median(one[key] for one in all_) for key in all_[0]} for name, all_ in found.items()}
    report(middle)
    shutil.rmtree(folder)
    return {"medians": middle, "rounds": found}


def report(middle: dict) -> None:
    single, batch, upserts, log = (middle[name] for name in ("single rows", "a batch", "upserts", "a full log"))
    one = single["adds_per_second"]
    print("\nsingle rows, each durable, per second")
    lines = [
        ("fsync loop on a file", single["fsyncs_per_second"]),
        ("store, 1 thread", one),
        ("store, 16 threads", single["adds_per_second_16_threads"]),
        ("store, 1 thread, buffered", single["buffered_adds_per_second"]),
        ("SQLite", single["sqlite"]),
        ("DuckDB", single["duckdb"]),
    ]
    print_table([["", "rows/s", "x store, 1 thread"]] + [[name, f"{rate:,.0f}", f"{rate / one:.2f}"] for name, rate in lines])
    print(f"\na batch of {batch['rows']:,.0f} orders, {batch['bytes'] / 1e6:.0f} MB in both forms")
    lines = [
        ("store, published", batch["published_ms"]),
        ("write and sync as many bytes", batch["written_ms"]),
        ("DuckDB, insert from Arrow, checkpoint", batch["duckdb_ms"]),
        ("SQLite, executemany, one transaction", batch["sqlite_ms"]),
    ]
    print_table(
        [["", "ms", "/ store"]] + [[name, f"{ms:.0f}", f"{ms / batch['published_ms']:.2f}"] for name, ms in lines]
    )
    print(
        f"\n{upserts['upserted']:,.0f} random upserts into {upserts['rows']:,.0f} orders: {upserts['upsert_ms'] / 1e3:.2f} s; "
        f"{upserts['bytes_written'] / 1e6:.0f} MB written for {upserts['bytes_given'] / 1e6:.0f} MB given "
        f"({upserts['bytes_written'] / upserts['bytes_given']:.2f} x)"
    )
    for share in ("1", "10"):
        slower = {key: upserts[f"{key}_{share}"] / upserts[f"{key}_0"] for key in QUERIES}
        told = ", ".join(f"{key} {ratio:.2f}" for key, ratio in slower.items())
        print(f"DuckDB's scans with {share} % of the rows replaced / with none: {told}")
    print(
        f"\na full log of {log['log_bytes'] / 1e6:.0f} MB, {log['rows']:,.0f} rows: read in {log['snapshot_ms']:.0f} ms, "
        f"written again after {log['writer_ms']:.0f} ms",
    )
    many = middle["many segments"]
    print(
        f"\n{many['segments']:,.0f} segments: a commit takes {many['last_commits_ms']:.1f} ms ({many['first_commits_ms']:.1f} ms with a tenth of them); a new process "
        f"opens the store and finds the segment of a key in {many['warm_ms']:.1f} ms, without page cache in {many['cold_ms']:.1f} ms, the same "
        f"process again in {many['again_ms']:.2f} ms",
        flush=True,
    )


def ours(folder: Path, measure: str, rows: int | None = None) -> dict:
    """What the example `write_speed` measures."""
    command = [str(support.example("write_speed")), str(folder), measure, *([str(rows)] if rows else [])]
    done = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=1800)
    return json.loads(done.stdout)


SEGMENTS = 10_000


def segments(folder: Path, rounds: int) -> list[dict]:
    """A store of many segments, a commit each, opened by new processes."""
    made = ours(folder, "segments", SEGMENTS)
    found = []
    for _ in range(rounds):
        forget(folder / "segments.soa")
        cold = ours(folder, "open")
        warm = ours(folder, "open")
        found.append(made | {"cold_ms": cold["open_and_plan_ms"], "warm_ms": warm["open_and_plan_ms"], "again_ms": warm["again_ms"]})
    return found


def forget(folder: Path) -> None:
    """Takes the files of a store out of the page cache."""
    os.sync()
    for path in folder.rglob("*"):
        if path.is_file():
            file = os.open(path, os.O_RDONLY)
            os.posix_fadvise(file, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(file)


def batch(folder: Path) -> dict:
    """What the example `append_speed` measures in one round."""
    command = [str(support.example("append_speed")), str(folder), str(BATCH_ROWS), "1"]
    done = subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True, timeout=600)
    answer = json.loads(done.stdout)
    (published,), (written,) = answer["append_seconds"], answer["write_seconds"]
    return {
        "rows": answer["rows"],
        "bytes": answer["bytes"],
        "published_ms": published * 1e3,
        "written_ms": written * 1e3,
    }


def row(number: int) -> tuple:
    return (number, number % 1000, number % 77, 3, 9.5, 28.5, "Delivered", "CreditCard", number * 1000, number * 1001)


def rate(insert: Callable[[int], object]) -> float:
    """How many rows a second."""
    start, count = time.perf_counter(), 0
    while time.perf_counter() - start < RATE_SECONDS:
        insert(count)
        count += 1
    return count / (time.perf_counter() - start)


def sqlite_file(folder: Path) -> sqlite3.Connection:
    for path in folder.glob("sqlite.db*"):
        path.unlink()
    connection = sqlite3.connect(folder / "sqlite.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute(f"CREATE TABLE orders ({COLUMNS})")
    return connection


SQLITE_INSERT = "INSERT INTO orders VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"


def sqlite_rate(folder: Path) -> float:
    connection = sqlite_file(folder)
    try:
        return rate(lambda number: connection.execute(SQLITE_INSERT, row(number)))
    finally:
        connection.close()


def sqlite_batch(folder: Path) -> float:
    connection = sqlite_file(folder)
    rows = [row(number) for number in range(BATCH_ROWS)]

    def insert() -> None:
        connection.execute("BEGIN")
        connection.executemany(SQLITE_INSERT, rows)
        connection.execute("COMMIT")

    try:
        return seconds(insert)
    finally:
        connection.close()


def duckdb_file(folder: Path):
    for path in folder.glob("duckdb.db*"):
        path.unlink()
    connection = support.connect(str(folder / "duckdb.db"), load=False)
    connection.execute(f"CREATE TABLE orders ({COLUMNS})")
    return connection


def duckdb_rate(folder: Path) -> float:
    connection = duckdb_file(folder)
    try:
        return rate(lambda number: connection.execute(SQLITE_INSERT, row(number)))
    finally:
        connection.close()


def duckdb_batch(folder: Path) -> float:
    import pyarrow as pa

    connection = duckdb_file(folder)
    names = [column.split()[0] for column in COLUMNS.split(", ")]
    batch = pa.table(dict(zip(names, map(list, zip(*(row(number) for number in range(BATCH_ROWS)))))))
    connection.register("batch", batch)

    def insert() -> None:
        connection.execute("INSERT INTO orders FROM batch")
        connection.execute("CHECKPOINT")

    try:
        return seconds(insert)
    finally:
        connection.close()


QUERIES = {
    "sum": "SELECT sum(total_amount) FROM {}",
    "group": "SELECT status, count(*), sum(total_amount) FROM {} GROUP BY ALL",
    "ten columns": (
        "SELECT min(order_id), max(customer_id), sum(product_id), sum(quantity), sum(unit_price), sum(total_amount), "
        "max(status), max(payment_method), min(ordered_at), max(updated_at) FROM {}"
    ),
}


def scans(store: Path, rows: int, rounds: int = 7) -> dict[str, float]:
    """Milliseconds of DuckDB's scans, by how many hundredths of the rows have been replaced: the versions that `write_speed`
    has left say that."""
    connection = support.connect(threads=2)
    versions = version_by_share(store, rows)
    times: dict[str, list[float]] = {}
    for _ in range(rounds):
        for share, version in versions.items():
            for key, sql in QUERIES.items():
                source = f"soa_scan({support.quote(store)}, version := {version})"
                spent = seconds(lambda: connection.execute(sql.format(source)).fetchall())
                times.setdefault(f"{key}_{share}", []).append(spent * 1e3)
    connection.close()
    return {key: statistics.median(values) for key, values in times.items()}


def version_by_share(store: Path, rows: int) -> dict[str, int]:
    """The versions with no row replaced, with a hundredth, and with a tenth."""
    commits = json.loads(support.soa("history", store, "--json").stdout)
    replaced, found = 0, {}
    for commit in commits:
        replaced += commit["rows_deleted"] or 0
        # The hundredth is replaced again with the tenth.
        share = {0: "0", 1: "1", 11: "10"}.get(round(100 * replaced / rows))
        if share is not None:
            found[share] = commit["version"]
    if set(found) != {"0", "1", "10"}:
        raise RuntimeError(f"{store} has no versions with 0, 1 and 10 % of the rows replaced: {found}")
    return found
