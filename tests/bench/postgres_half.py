"""The benchmark's second half: Postgres on a store and on a heap table, and DuckDB on its own table, query by query.

- `store`: the foreign table that IMPORT FOREIGN SCHEMA makes of the store, both forms on disk;
- `rows`: the same with soa_fdw.pushdown off, so that rows stream out of the store and Postgres aggregates and sorts
  them, as it does with wrappers that read files row by row;
- `heap`: a table of Postgres' own with the rows, types and order of the store, with a primary key, after VACUUM
  ANALYZE, all of it in shared_buffers;
- `duckdb`: DuckDB's own table, as in the first half.

All tables of Postgres are in one server, with Postgres' own settings but for SETTINGS, and so with its default number
of parallel workers. The time is the client's (psycopg over TCP): sending the query, planning it anew, fetching the
result.

The goals: of scans, `store` takes no longer than DuckDB and a twentieth of the heap's time, and `rows` at most 0.8 of
it, in the geometric mean; queries that find few rows have goals in milliseconds.
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
# The sides that are Postgres': what each is asked of, and with which setting.
SIDES = {"store": ("store", None), "rows": ("store", "soa_fdw.pushdown = off"), "heap": ("heap", None)}
SHOWN = ("shared_buffers", "work_mem", "max_parallel_workers_per_gather", "max_parallel_workers", "autovacuum")
# The nodes of a plan that are gone when the store does their work.
LEFT_TO_POSTGRES = {"aggregate": {"Aggregate"}, "order": {"Sort", "Incremental Sort", "Limit"}}
GOALS = {"store/duckdb": 1.0, "store/heap": 0.05, "rows/heap": 0.8}  # geometric means of the scans


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
        by_name = {name: opened.enter_context(connect(server, *of)) for name, of in SIDES.items()}
        sides = [duckdb_half.side(duckdb, "table", "duckdb"), *(side(by, name) for name, by in by_name.items())]
        plans = {query.name: {name: plan_of(by, query.sql) for name, by in by_name.items()} for query in all_queries}
        times = measure(sides, all_queries, rounds, seed)
        results = report(all_queries, times, plans)
        for name in SIDES:
            serial = [query for query, by in plans.items() if not any(node.startswith("Gather") for node in by[name])]
            print(f"without parallel workers ({name}): {', '.join(serial) or 'none'}", flush=True)
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


def connect(server: PgServer, schema: str, setting: str | None = None):
    """A connection for which `orders` is that schema's. Nothing is prepared: every query is planned anew."""
    connection = server.connect(prepare_threshold=None, options=f"-c search_path={schema}")
    if setting is not None:
        connection.execute(f"SET {setting}")
    return connection


def side(connection, name: str) -> Side:
    return Side(name, lambda sql: connection.execute(sql).fetchall())


def plan_of(connection, sql: str) -> list[str]:
    """The nodes of a query's plan, from the top; a gathering node with the number of its workers."""
    (plan,) = connection.execute(f"EXPLAIN (FORMAT JSON) {sql}").fetchone()
    workers = "Workers Planned"
    return [
        " ".join(str(node[part]) for part in ("Node Type", workers) if part in node) for node in nodes(plan[0]["Plan"])
    ]


def nodes(plan: dict) -> Iterator[dict]:
    yield plan
    for child in plan.get("Plans", []):
        yield from nodes(child)


def is_left(query: Query, plan: list[str]) -> bool:
    """Whether Postgres does itself what the store could do."""
    return query.pushdown is not None and not LEFT_TO_POSTGRES[query.pushdown].isdisjoint(plan)


def report(all_queries: list[Query], times: Times, plans: dict[str, dict[str, list[str]]]) -> dict:
    """Prints the table; returns medians, means and goals."""
    middle = medians(times)
    names = (*SIDES, "duckdb")
    ratios = ("store/heap", "store/duckdb", "rows/heap", "rows/store")
    rows = [["query", *(f"{name} ms" for name in names), *ratios, "goal", "", ""]]
    goals: dict[str, bool] = {}
    for query in all_queries:
        by = middle[query.name]
        goal = f"<= {query.goal_ms} ms" if query.goal_ms is not None else ""
        if query.goal_ms is not None:
            goals[query.name] = by["store"] * 1000 <= query.goal_ms
        left = "left to Postgres" if is_left(query, plans[query.name]["store"]) else ""
        cells = [milliseconds(by[name]) for name in names] + [f"{quotient(by, ratio):.2f}" for ratio in ratios]
        rows.append([query.name, *cells, goal, verdict(goals.get(query.name)), left])
    means = {}
    for title, kinds in (("geometric mean of the scans", {"scan"}), ("of all", {"scan", "pruned", "top-n"})):
        means[title] = {ratio: mean(all_queries, middle, kinds, ratio) for ratio in ratios}
        rows.append([title, *("" for _ in names), *(f"{mean:.2f}" for mean in means[title].values()), "", "", ""])
    print_table(rows, left=frozenset({0, 9, 10, 11}))
    for ratio, goal in GOALS.items():
        found = means["geometric mean of the scans"][ratio]
        goals[ratio] = found <= goal
        print(f"scans, {ratio}: {found:.3f}; the goal, at most {goal}, is {verdict(goals[ratio])}", flush=True)
    return {"median_seconds": middle, "geometric_means": means, "goals": goals}


def verdict(met: bool | None) -> str:
    return "" if met is None else "met" if met else "missed"


def quotient(by: dict[str, float], ratio: str) -> float:
    one, other = ratio.split("/")
    return by[one] / by[other]


def mean(all_queries: list[Query], middle: Medians, kinds: set[str], ratio: str) -> float:
    return geometric_mean([quotient(middle[query.name], ratio) for query in all_queries if query.kind in kinds])


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
