"""Measures queries on a store, side by side with the engines' own tables.

The rows are 10 million orders; status and payment method are enums in the store and appear as text on every side. The
queries are in sql/bench/orders.sql. There are two halves, each measured on its own: DuckDB (duckdb_half.py) on a store,
on a table of its own and on a Parquet file, and Postgres (postgres_half.py) on the store and on a heap table, beside
DuckDB's own table. With `--table text` DuckDB queries orders with texts and columns that may be NULL instead
(sql/bench/text_orders.sql), and with `--table segments` orders in 1,000 segments (sql/bench/segments.sql). What must be
answered in some milliseconds is also asked in new processes.

TPC-H is measured in DuckDB, on stores and on tables of its own (tpch_half.py), and in Postgres, on stores and on heap
tables (postgres_tpch_half.py); writing (write_half.py) is measured beside
SQLite and DuckDB, and through Postgres beside heap tables (postgres_write_half.py). `--engine kernel` runs the kernel's benchmarks instead (soa_core/bench), which no query needs.

Each query and side of a half runs once per round, in an order that is shuffled for every round, after one round that is
not measured and in which the sides' results are compared. Shown are the medians over the rounds and their ratios. A
side whose result differs is an error.

`make bench BENCH="--engine postgres --rows 1000000"` changes what its options say. Results are also written to
data/bench/*.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import data  # noqa: E402  (the path must be there first)
import duckdb_half  # noqa: E402
import postgres_half  # noqa: E402
import postgres_tpch_half  # noqa: E402
import postgres_write_half  # noqa: E402
import support  # noqa: E402
import tpch_half  # noqa: E402
import write_half  # noqa: E402

# What is measured, in this order.
PARTS = ("write", "duckdb", "postgres", "tpch", "postgres-tpch", "postgres-write")
# Writing is measured in fewer rounds: each takes a while.
WRITE_ROUNDS = 5


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures DuckDB and Postgres on a store and on tables of their own.")
    parser.add_argument("--engine", choices=(*PARTS, "kernel", "all"), default="all", help="what is measured")
    parser.add_argument("--table", choices=data.TABLES, default="orders", help="what DuckDB's half queries")
    parser.add_argument("--rows", type=int, help="of the table")
    parser.add_argument("--scale", type=float, default=1, help="of TPC-H")
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds, at least 7")
    parser.add_argument("--threads", type=int, default=2, help="of DuckDB")
    parser.add_argument("--seed", type=int, default=1, help="of the order in which queries and sides are run")
    parser.add_argument("--fresh", action="store_true", help="make the data again")
    parser.add_argument("--sides", default=",".join(duckdb_half.SIDES), help="of DuckDB's half; `table` always is one")
    arguments = parser.parse_args()
    if arguments.table != "orders" and arguments.engine != "duckdb":
        parser.error(f"only DuckDB's half has queries on {arguments.table}: give --engine duckdb")
    arguments.rows = arguments.rows or data.TABLES[arguments.table].rows
    if arguments.engine == "kernel":
        command = ["cargo", "bench", "--manifest-path", str(support.ROOT / "soa_core/bench/Cargo.toml")]
        return subprocess.run(command, env=os.environ | {"SOA_BENCH_ROWS": str(arguments.rows)}).returncode
    if arguments.rounds < 7:
        parser.error("a median needs at least 7 rounds")
    asked = set(arguments.sides.split(",")) | {"table"}
    if not asked <= set(duckdb_half.SIDES):
        parser.error(f"the sides are {', '.join(duckdb_half.SIDES)}")
    sides = tuple(side for side in duckdb_half.SIDES if side in asked)
    parts = PARTS if arguments.engine == "all" else (arguments.engine,)
    folder = support.public_data("bench")

    if "write" in parts:
        print(f"\nWriting, medians of {WRITE_ROUNDS} rounds", flush=True)
        results = write_half.run(support.DATA.resolve() / "bench" / "writing", arguments.rows, WRITE_ROUNDS)
        write("write", f"orders-{arguments.rows}", arguments, results)
    if "duckdb" in parts or "postgres" in parts:
        measure_orders(folder / f"{arguments.table}-{arguments.rows}", arguments, sides, parts)
    if not {"tpch", "postgres-tpch"}.isdisjoint(parts):
        measure_tpch(folder / f"tpch-{arguments.scale:g}", arguments, parts)
    if "postgres-write" in parts:
        results = postgres_write_half.run(folder / "postgres-writing", WRITE_ROUNDS)
        write("postgres-write", f"orders-{postgres_write_half.ROWS}", arguments, results)
    return 0


def measure_orders(folder: Path, arguments: argparse.Namespace, sides: tuple[str, ...], parts: tuple[str, ...]) -> None:
    """The two halves with queries on orders."""
    table = data.TABLES[arguments.table]
    needs_store = "postgres" in parts or "store" in sides
    needs_copy = "duckdb" in parts and "store-parquet" in sides
    data.prepare(folder, table, arguments.rows, arguments.fresh, needs_store, needs_copy)
    print(f"\n{arguments.rows:,} orders", flush=True)
    if "duckdb" in parts:
        results = duckdb_half.run(folder, table.queries, arguments.threads, sides, arguments.rounds, arguments.seed)
        results["bytes"] = data.sizes(folder)
        print("\nbytes on disk")
        for name, count in results["bytes"].items():
            print(f"  {name:26}  {count / 1e6:8.1f} MB")
        write("duckdb", folder.name, arguments, results)
    if "postgres" in parts:
        results = postgres_half.run(folder, arguments.threads, arguments.rounds, arguments.seed)
        write("postgres", folder.name, arguments, results)


def measure_tpch(folder: Path, arguments: argparse.Namespace, parts: tuple[str, ...]) -> None:
    """The two halves with TPC-H's queries."""
    tpch_half.prepare(folder, arguments.scale, arguments.fresh)
    for part, half in (("tpch", tpch_half), ("postgres-tpch", postgres_tpch_half)):
        if part in parts:
            write(part, folder.name, arguments, half.run(folder, arguments.threads, arguments.rounds, arguments.seed))


def write(part: str, rows: str, arguments: argparse.Namespace, results: dict) -> None:
    """Keeps a part's results, with the circumstances."""
    circumstances = {
        "data": rows,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "seed": arguments.seed,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    path = support.DATA / "bench" / f"{rows}-threads-{arguments.threads}-{part}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(results | circumstances, indent=1))
    print(f"\nwritten to {path}", flush=True)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(f"bench: {error}")
