"""The benchmark's first half: DuckDB on a store, on a table of its own and on a Parquet file.

- `table`: a table in a DuckDB database file, checkpointed;
- `parquet`: read_parquet of one file that DuckDB wrote (zstd);
- `store`: soa_scan of a store, both forms on disk, so that the Arrow form is read;
- `store-parquet`: soa_scan of the same store without its Arrow form.
"""

from __future__ import annotations

import json
import random
import statistics
import sys
from pathlib import Path

import support
from measure import Medians, Side, Times, geometric_mean, measure, medians, milliseconds, print_table
from queries import Query, queries

SIDES = ("table", "parquet", "store", "store-parquet")
NEW_PROCESS = Path(__file__).with_name("new_process.py")
RATIOS = (("store", "table"), ("store", "parquet"), ("store-parquet", "parquet"), ("parquet", "table"))


def run(folder: Path, file: str, threads: int, names: tuple[str, ...], rounds: int, seed: int) -> dict:
    """Measures the queries of a file, prints and returns the results."""
    all_queries = queries(file)
    connection = connect(folder, threads, names)
    (version,) = connection.execute("SELECT version()").fetchone()
    check_types(connection, names)
    print(f"\nDuckDB {version}, {threads} threads, medians of {rounds} rounds\n", flush=True)
    times = measure([side(connection, name) for name in names], all_queries, rounds, seed)
    connection.close()
    results = report(all_queries, times, names) | {"seconds": times, "duckdb": version}
    few = [query for query in all_queries if query.goal_ms is not None]
    if few:
        report_goals(few, results["median_seconds"])
        results["new_process_seconds"] = new_processes(folder, few, threads, names, rounds, seed)
    return results


def connect(folder: Path, threads: int, names: tuple[str, ...]):
    """A connection in which every side is the table `orders` of a schema of its own."""
    return connect_sides(folder / "orders.duckdb", threads, orders(folder, names))


def orders(folder: Path, names: tuple[str, ...]) -> dict[str, dict[str, str]]:
    """The source of the table `orders` for every side."""
    sources = {
        "table": "file.orders",
        "parquet": f"read_parquet({support.quote(folder / 'orders.parquet')})",
        "store": f"soa_scan({support.quote(folder / 'orders.soa')})",
        "store-parquet": f"soa_scan({support.quote(folder / 'parquet-only.soa')})",
    }
    return {name: {"orders": sources[name]} for name in names}


def connect_sides(database: Path, threads: int, sides: dict[str, dict[str, str]]):
    """A connection with these sides."""
    connection = support.connect(threads=threads, load=any(name.startswith("store") for name in sides))
    add_sides(connection, database, sides)
    return connection


def add_sides(connection, database: Path, sides: dict[str, dict[str, str]]) -> None:
    """Makes every side a schema, in which its tables' sources have their names. Tables of the database file are called
    `file.NAME`."""
    if "table" in sides:
        connection.execute(f"ATTACH {support.quote(database)} AS file (READ_ONLY)")
    for name, tables in sides.items():
        connection.execute(f'CREATE SCHEMA "{name}"')
        for table, source in tables.items():
            connection.execute(f'CREATE VIEW "{name}".{table} AS FROM {source}')


def side(connection, name: str, label: str | None = None) -> Side:
    """A side with a cursor of its own, for which tables without a schema are those of its own."""
    cursor = connection.cursor()
    cursor.execute(f'USE memory."{name}"')
    return Side(label or name, lambda sql: cursor.execute(sql).fetchall())


def check_types(connection, names: tuple[str, ...], table: str = "orders") -> None:
    """All sides must have the types of DuckDB's own table."""
    types = {name: [row[:2] for row in side(connection, name).run(f"DESCRIBE {table}")] for name in names}
    for name in names:
        if types[name] != types["table"]:
            sys.exit(f"bench: the types of {name} are {types[name]}, those of DuckDB's own table {types['table']}")


def report(all_queries: list[Query], times: Times, names: tuple[str, ...]) -> dict:
    """Prints the table; returns medians, ratios and means."""
    middle = medians(times)
    kinds = {query.name: query.kind for query in all_queries}
    ratios = [(a, b) for a, b in RATIOS if a in names and b in names]
    rows = [["query", *(f"{name} ms" for name in names), *(f"{a} / {b}" for a, b in ratios)]]
    for name, by in middle.items():
        rows.append([name, *(milliseconds(by[s]) for s in names), *(f"{by[a] / by[b]:.2f}" for a, b in ratios)])
    means, worst = {}, {}
    for a, b in ratios:
        counted = {name: by[a] / by[b] for name, by in middle.items() if kinds[name] != "top-n"}
        means[f"{a}/{b}"] = geometric_mean(list(counted.values()))
        worst[f"{a}/{b}"] = max(counted, key=counted.get)
    rows.append(["geometric mean, no top-n", *("" for _ in names), *(f"{mean:.2f}" for mean in means.values())])
    print_table(rows)
    for pair, name in worst.items():
        print(f"worst of {pair}: {name}", flush=True)
    return {"median_seconds": middle, "geometric_means": means, "kinds": kinds}


def report_goals(few: list[Query], middle: Medians) -> None:
    """Prints whether what finds little is found as fast in the store as it must be."""
    for query in few:
        took = middle[query.name].get("store")
        if took is not None:
            verdict = "met" if took * 1000 <= query.goal_ms else "missed"
            print(f"{query.name}: the goal, {query.goal_ms} ms from the store, is {verdict}", flush=True)


def new_processes(
    folder: Path, few: list[Query], threads: int, names: tuple[str, ...], rounds: int, seed: int
) -> dict[str, dict[str, dict[str, float]]]:
    """Prints and returns the medians of the first and the second run of each query in a new process, and of loading
    DuckDB and the extension before them."""
    runs = [(query, name) for query in few for name in names]
    found: dict[tuple[str, str], list[dict]] = {(query.name, name): [] for query, name in runs}
    shuffled = random.Random(seed)
    for _ in range(rounds):
        for query, name in shuffled.sample(runs, len(runs)):
            printed = support.run_python(NEW_PROCESS, folder, name, threads, query.sql)
            found[query.name, name].append(json.loads(printed))
    rows = [["in a new process", "side", "load ms", "first ms", "second ms"]]
    middle: dict[str, dict[str, dict[str, float]]] = {}
    for (query_name, name), taken in found.items():
        times = {part: statistics.median(one[part] for one in taken) for part in taken[0]}
        rows.append([query_name, name, *map(milliseconds, times.values())])
        middle.setdefault(query_name, {})[name] = times
    print()
    print_table(rows, left=frozenset({0, 1}))
    return middle
