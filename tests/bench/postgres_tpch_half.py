"""TPC-H's 22 queries: Postgres on stores, beside DuckDB on tables of its own and beside Postgres on heap tables.

- `store`: the foreign tables that IMPORT FOREIGN SCHEMA makes, after ANALYZE;
- `rows`: the same with soa_fdw.pushdown off, so that Postgres computes everything from the rows that it scans, as it
  does with wrappers that read files row by row;
- `heap`: tables of Postgres' own with primary keys, after VACUUM ANALYZE, all of them in shared_buffers;
- `duckdb`: DuckDB's own tables.

`store` and `duckdb` run once per round. The other two take long: they run a few times each, and no longer than a limit;
what is beyond it counts as the limit. The queries are in sql/bench/tpch.sql.
"""

from __future__ import annotations

import math
import statistics
from contextlib import ExitStack
from pathlib import Path

import psycopg

import duckdb_half
import support
import tpch
from measure import Side, compare, measure, medians, milliseconds, print_table, seconds
from pg_server import PgServer
from postgres_half import SETTINGS, connect, describe, nodes
from queries import queries

GOAL = 5  # times what DuckDB takes for all queries together
SLOW_ROUNDS = 3
LIMIT_SECONDS = 120
KEYS = tpch.KEYS | {"partsupp": "ps_partkey, ps_suppkey", "lineitem": "l_orderkey, l_linenumber"}
# What Postgres does itself where a query is not computed in the store as a whole. Sorts of the few rows of an answer
# do not count.
LEFT_TO_POSTGRES = ("Aggregate", "Join", "Nested Loop", "WindowAgg", "Unique")


def run(folder: Path, threads: int, rounds: int, seed: int) -> dict:
    """Measures, prints and returns the results."""
    tables = {table: f"file.{table}" for table in tpch.KEYS}
    duckdb = duckdb_half.connect_sides(folder / "tpch.duckdb", threads, {"table": tables})
    with PgServer(settings=SETTINGS) as server, ExitStack() as opened:
        connection = opened.enter_context(server.connect())
        load(connection, folder / "stores")
        print(f"\nTPC-H in {describe(connection)}; DuckDB with {threads} threads; medians of {rounds} rounds\n", flush=True)
        all_queries = queries("tpch")
        first = duckdb_half.side(duckdb, "table", "duckdb")
        store = opened.enter_context(connect(server, "store"))
        times = measure([first, side(store, "store")], all_queries, rounds, seed)
        middle = medians(times)
        whole = [query.name for query in all_queries if is_whole(store, query.sql)]
        for name, setting in (("rows", "soa_fdw.pushdown = off"), ("heap", "search_path = heap")):
            slow = opened.enter_context(connect(server, "store"))
            slow.execute(f"SET {setting}")
            slow.execute(f"SET statement_timeout = '{LIMIT_SECONDS}s'")
            for query in all_queries:
                middle[query.name][name] = slow_median(slow, name, query, first)
    duckdb.close()
    report(middle, whole)
    return {"median_seconds": middle, "seconds": times, "whole": whole}


def load(connection: psycopg.Connection, stores: Path) -> None:
    """Makes the stores the tables of the schema `store`, and their copies those of the schema `heap`."""

    def run_all() -> None:
        connection.execute("CREATE EXTENSION soa_fdw; CREATE SCHEMA store; CREATE SCHEMA heap")
        root = support.quote(stores)
        connection.execute(f"CREATE SERVER stores FOREIGN DATA WRAPPER soa_fdw OPTIONS (root {root})")
        connection.execute('IMPORT FOREIGN SCHEMA "." FROM SERVER stores INTO store')
        for table, key in KEYS.items():
            connection.execute(f"ANALYZE store.{table}")
            connection.execute(f"CREATE TABLE heap.{table} AS SELECT * FROM store.{table}")
            connection.execute(f"ALTER TABLE heap.{table} ADD PRIMARY KEY ({key})")
            connection.execute(f"VACUUM ANALYZE heap.{table}")

    print(f"Postgres takes in the stores and fills its heap tables: {seconds(run_all):.1f} s", flush=True)


def side(connection: psycopg.Connection, name: str) -> Side:
    return Side(name, lambda sql: connection.execute(sql).fetchall())


def is_whole(connection: psycopg.Connection, sql: str) -> bool:
    """Whether the store computes all joins and aggregates."""
    (plan,) = connection.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchone()
    types = [node["Node Type"] for node in nodes(plan[0]["Plan"])]
    return not any(left in kind for kind in types for left in LEFT_TO_POSTGRES)


def slow_median(connection: psycopg.Connection, name: str, query, first: Side) -> float:
    """The median of a few runs; infinite if one takes longer than the limit. The first one's result is compared."""
    taken = []
    for _ in range(SLOW_ROUNDS):
        found: list[tuple] = []
        try:
            taken.append(seconds(lambda: found.extend(connection.execute(query.sql).fetchall())))
        except psycopg.errors.QueryCanceled:
            return math.inf
        if len(taken) == 1:
            compare(query, first, first.run(query.sql), Side(name, lambda _: found), found)
    return statistics.median(taken)


def report(middle: dict[str, dict[str, float]], whole: list[str]) -> None:
    """Prints the table and what all queries take together."""
    sides = ("store", "rows", "heap", "duckdb")
    shown = {query: {name: milliseconds(by[name]) for name in sides} for query, by in middle.items()}
    rows = [["query", *(f"{name} ms" for name in sides), "store / duckdb", "store / heap", ""]]
    for query, by in middle.items():
        cells = [shown[query][name] if by[name] < math.inf else f"> {LIMIT_SECONDS} s" for name in sides]
        ratios = [f"{by['store'] / by['duckdb']:.2f}", f"{by['store'] / by['heap']:.2f}" if by["heap"] < math.inf else ""]
        rows.append([query, *cells, *ratios, "as a whole in the store" if query in whole else ""])
    print_table(rows, left=frozenset({0, 7}))
    totals = {name: sum(min(by[name], LIMIT_SECONDS) for by in middle.values()) for name in sides}
    print("total: " + ", ".join(f"{name} {milliseconds(total)} ms" for name, total in totals.items()), flush=True)
    verdict = "met" if totals["store"] <= GOAL * totals["duckdb"] else "missed"
    print(
        f"store / duckdb {totals['store'] / totals['duckdb']:.2f}; the goal, at most {GOAL}, is {verdict}; "
        f"{len(whole)} of {len(middle)} queries are computed as a whole in the store",
        flush=True,
    )
