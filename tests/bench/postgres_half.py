"""The benchmark's second half: Postgres on a store and on a heap table, and DuckDB on its own table, query by query.

- `store`: the foreign table that IMPORT FOREIGN SCHEMA makes of the store, both forms on disk;
- `heap`: a table of Postgres' own with the rows, types and order of the store, with a primary key, after VACUUM
  ANALYZE, all of it in shared_buffers;
- `duckdb`: DuckDB's own table, as in the first half.

Both tables of Postgres are in one server, with Postgres' own settings but for SETTINGS, and so with its default number
of parallel workers. The time is the client's (psycopg over TCP): sending the query, planning it anew, fetching the
result.

What could be left to the store beside the filter, aggregates and ORDER BY, is marked "not yet pushed down" as long as
the plan shows that Postgres does it itself. Such a query streams rows, and so does every query without them: there the
goal is a part of the heap's time. Queries that find few rows have a goal in milliseconds instead.
"""

from __future__ import annotations

import random
import statistics
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import duckdb_half
import support
from measure import Medians, Side, Times, geometric_mean, measure, medians, milliseconds, print_table, seconds
from pg_server import PgServer
from queries import Query, queries

# Room for the whole heap; no checkpoint and no vacuum of the loaded rows while queries are measured.
SETTINGS = {"shared_buffers": "4GB", "max_wal_size": "16GB", "checkpoint_timeout": "1h", "autovacuum": "off"}
SCHEMAS = ("store", "heap")
SHOWN = ("shared_buffers", "work_mem", "max_parallel_workers_per_gather", "max_parallel_workers", "autovacuum")
ROW_STREAM_GOAL = 0.8  # of the heap's time
# The nodes of a plan that are gone when the store does their work.
LEFT_TO_POSTGRES = {"aggregate": {"Aggregate"}, "order": {"Sort", "Incremental Sort", "Limit"}}


def run(folder: Path, threads: int, rounds: int, seed: int) -> dict:
    """Measures, prints and returns the results."""
    duckdb = duckdb_half.connect(folder, threads, ("table",))
    with PgServer(settings=SETTINGS) as server, ExitStack() as opened:
        connection = opened.enter_context(server.connect())
        load(connection, folder)
        check_heap(connection)
        settings = describe(connection)
        print(f"\n{settings}; DuckDB with {threads} threads; medians of {rounds} rounds\n", flush=True)
        all_queries = queries()
        sides = [duckdb_half.side(duckdb, "table", "duckdb")]
        sides += [side(opened.enter_context(connect(server, schema)), schema) for schema in SCHEMAS]
        plans = {query.name: {s: plan_of(connection, s, query.sql) for s in SCHEMAS} for query in all_queries}
        times = measure(sides, all_queries, rounds, seed)
        results = report(all_queries, times, plans)
        for schema in SCHEMAS:
            serial = [name for name, by in plans.items() if not any(node.startswith("Gather") for node in by[schema])]
            print(f"without parallel workers on the {schema}: {', '.join(serial) or 'none'}", flush=True)
        results["fresh_connection_seconds"] = fresh_connections(server, all_queries, rounds, seed)
        bytes_of_heap = "SELECT pg_table_size('heap.orders'), pg_indexes_size('heap.orders')"
        results["heap_bytes"], results["heap_index_bytes"] = connection.execute(bytes_of_heap).fetchone()
    duckdb.close()
    return results | {"seconds": times, "settings": settings, "plans": plans}


def load(connection, folder: Path) -> None:
    """Makes the store the table `orders` of the schema `store`, and its copy that of the schema `heap`."""
    steps = {
        "Postgres takes in the store": [
            "CREATE EXTENSION soa_fdw",
            f"CREATE SERVER stores FOREIGN DATA WRAPPER soa_fdw OPTIONS (root {support.quote(folder)})",
            "CREATE SCHEMA store",
            'IMPORT FOREIGN SCHEMA "." LIMIT TO (orders) FROM SERVER stores INTO store',
            "ANALYZE store.orders",
        ],
        "Postgres fills its heap table": [
            "CREATE SCHEMA heap",
            "CREATE TABLE heap.orders (LIKE store.orders)",
            # One process reads the rows of an INSERT, so that they come in the order of the store.
            "INSERT INTO heap.orders SELECT * FROM store.orders",
            "ALTER TABLE heap.orders ADD PRIMARY KEY (order_id)",
            "VACUUM ANALYZE heap.orders",
            "CREATE EXTENSION pg_prewarm",
            "SELECT pg_prewarm('heap.orders'), pg_prewarm('heap.orders_pkey')",
            "CHECKPOINT",
        ],
    }
    for what, statements in steps.items():
        took = seconds(lambda: [connection.execute(statement) for statement in statements])
        print(f"{what}: {took:.1f} s", flush=True)


def check_heap(connection) -> None:
    """The heap must be in memory, or the comparison would be with a disk."""
    explain = "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) SELECT count(*) FROM heap.orders"
    (plan,) = connection.execute(explain).fetchone()
    if read := plan[0]["Plan"]["Shared Read Blocks"]:
        sys.exit(f"bench: the heap is not in shared_buffers: a scan read {read} blocks from outside")


def describe(connection) -> str:
    """The version, and the settings that matter."""
    (version,) = connection.execute("SHOW server_version").fetchone()
    shown = [f"{name} {connection.execute(f'SHOW {name}').fetchone()[0]}" for name in SHOWN]
    (jit,) = connection.execute("SELECT pg_jit_available()").fetchone()
    return ", ".join([f"PostgreSQL {version.split()[0]}", *shown, f"jit {'on' if jit else 'off or not built in'}"])


def connect(server: PgServer, schema: str):
    """A connection for which `orders` is that schema's. Nothing is prepared: every query is planned anew."""
    return server.connect(prepare_threshold=None, options=f"-c search_path={schema}")


def side(connection, schema: str) -> Side:
    return Side(schema, lambda sql: connection.execute(sql).fetchall())


def plan_of(connection, schema: str, sql: str) -> list[str]:
    """The nodes of a query's plan, from the top; a gathering node with the number of its workers."""
    connection.execute(f"SET search_path = {schema}")
    (plan,) = connection.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchone()
    workers = "Workers Planned"
    return [
        " ".join(str(node[part]) for part in ("Node Type", workers) if part in node) for node in nodes(plan[0]["Plan"])
    ]


def nodes(plan: dict) -> Iterator[dict]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def is_streamed(query: Query, plan: list[str]) -> bool:
    """Whether rows come out of the store that Postgres aggregates or sorts itself, or simply hands on."""
    return query.pushdown is None or not LEFT_TO_POSTGRES[query.pushdown].isdisjoint(plan)


def report(all_queries: list[Query], times: Times, plans: dict[str, dict[str, list[str]]]) -> dict:
    """Prints the table; returns medians, means and goals."""
    middle = medians(times)
    streamed = {query.name: is_streamed(query, plans[query.name]["store"]) for query in all_queries}
    rows = [["query", "store ms", "heap ms", "duckdb ms", "store / heap", "store / duckdb", "goal", "", ""]]
    goals = {}
    for query in all_queries:
        by = middle[query.name]
        goal, met = judge(query, by, streamed[query.name])
        goals[query.name] = {"goal": goal, "met": met}
        pushed = f"{query.pushdown} {'not yet ' if streamed[query.name] else ''}pushed down" if query.pushdown else ""
        cells = [milliseconds(by["store"]), milliseconds(by["heap"]), milliseconds(by["duckdb"])]
        ratios = [f"{by['store'] / by[other]:.2f}" for other in ("heap", "duckdb")]
        verdict = "" if met is None else "met" if met else "missed"
        rows.append([query.name, *cells, *ratios, goal, verdict, pushed])
    means = {}
    for title, kinds in (("geometric mean of the scans", {"scan"}), ("of all", {"scan", "pruned", "top-n"})):
        ratios = [mean(all_queries, middle, kinds, other) for other in ("heap", "duckdb")]
        means[title] = dict(zip(("store/heap", "store/duckdb"), ratios))
        rows.append([title, "", "", "", *(f"{ratio:.2f}" for ratio in ratios), "", "", ""])
    print_table(rows, left=frozenset({0, 6, 7, 8}))
    return {"median_seconds": middle, "geometric_means": means, "goals": goals, "streamed": streamed}


def judge(query: Query, by: dict[str, float], streamed: bool) -> tuple[str, bool | None]:
    """A query's goal and whether it is met."""
    if query.goal_ms is not None:
        return f"<= {query.goal_ms} ms", by["store"] * 1000 <= query.goal_ms
    if streamed:
        return f"<= {ROW_STREAM_GOAL} of the heap", by["store"] <= ROW_STREAM_GOAL * by["heap"]
    return "", None


def mean(all_queries: list[Query], middle: Medians, kinds: set[str], other: str) -> float:
    return geometric_mean([middle[q.name]["store"] / middle[q.name][other] for q in all_queries if q.kind in kinds])


def fresh_connections(server: PgServer, all_queries: list[Query], rounds: int, seed: int) -> dict[str, float]:
    """Times from connecting to the first answer, in a backend that has read nothing yet: the medians, printed."""
    (one_key,) = [query.sql for query in all_queries if query.name == "one key"]
    work = {"SELECT 1": ("public", "SELECT 1"), "store": ("store", one_key), "heap": ("heap", one_key)}

    def first_answer(schema: str, sql: str) -> None:
        with connect(server, schema) as connection:
            connection.execute(sql).fetchall()

    taken: dict[str, list[float]] = {name: [] for name in work}
    shuffled = random.Random(seed)
    for _ in range(rounds):
        for name in shuffled.sample(list(work), len(work)):
            taken[name].append(seconds(lambda: first_answer(*work[name])))
    middle = {name: statistics.median(values) for name, values in taken.items()}
    shown = ", ".join(f"{name} {milliseconds(value)} ms" for name, value in middle.items() if name != "SELECT 1")
    print(f"\none key over a fresh connection, from connecting to closing it: {shown}", flush=True)
    print(f"(the same with SELECT 1: {milliseconds(middle['SELECT 1'])} ms)", flush=True)
    return middle
