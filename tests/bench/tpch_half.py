"""TPC-H's 22 queries: DuckDB on stores, and on tables of its own with the same rows, types and order.

- `table`: tables in a DuckDB database file, checkpointed;
- `store`: soa_scan of stores, both forms on disk, so that the Arrow form is read.

The queries are in sql/bench/tpch.sql. Beside each query, what all of them take together is compared.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb_half
import support
import tpch
from data import make
from measure import Medians, measure, milliseconds
from queries import queries

SIDES = ("table", "store")
GOAL = 1.15  # of what the queries take on DuckDB's own tables together


def prepare(folder: Path, scale: float, fresh: bool) -> None:
    """Makes what is missing in the folder: the Parquet files, DuckDB's tables, the stores."""
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    parquet = folder / "parquet"
    make(parquet, "tpchgen-cli makes the Parquet files", lambda path: tpch.generate(path, scale))
    make(folder / "tpch.duckdb", "DuckDB fills its own tables", lambda path: tpch.fill_database(parquet, path))
    make(folder / "stores", "soa import fills the stores", lambda path: tpch.import_stores(parquet, path))


def run(folder: Path, threads: int, rounds: int, seed: int) -> dict:
    """Measures, prints and returns the results."""
    stores = {table: f"soa_scan({support.quote(folder / 'stores' / f'{table}.soa')})" for table in tpch.KEYS}
    tables = {table: f"file.{table}" for table in tpch.KEYS}
    connection = duckdb_half.connect_sides(folder / "tpch.duckdb", threads, {"table": tables, "store": stores})
    for table in tpch.KEYS:
        duckdb_half.check_types(connection, SIDES, table)
    all_queries = queries("tpch")
    print(f"\nTPC-H, {threads} threads, medians of {rounds} rounds\n", flush=True)
    times = measure([duckdb_half.side(connection, name) for name in SIDES], all_queries, rounds, seed)
    connection.close()
    results = duckdb_half.report(all_queries, times, SIDES)
    return results | {"total_ratio": report_total(results["median_seconds"]), "seconds": times}


def report_total(middle: Medians) -> float:
    """Prints what all queries take together; returns the ratio."""
    store, table = (sum(by[side] for by in middle.values()) for side in ("store", "table"))
    verdict = "met" if store <= GOAL * table else "missed"
    print(
        f"total: table {milliseconds(table)} ms, store {milliseconds(store)} ms, store / table {store / table:.2f}; "
        f"the goal, at most {GOAL}, is {verdict}",
        flush=True,
    )
    return store / table
