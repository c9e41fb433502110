"""Measures DuckDB on a store, side by side with DuckDB's own table and with read_parquet.

What is compared: the same rows in the same order with the same types, as

- `table`: a table in a DuckDB database file, checkpointed;
- `parquet`: read_parquet of one file that DuckDB wrote (zstd);
- `store`: soa_scan of a store, both forms on disk, so that the Arrow form is read;
- `store-parquet`: soa_scan of the same store without its Arrow form.

The rows are 10 million orders; status and payment method are enums in the store and appear as text on every side. The queries
are in sql/bench/orders.sql. All sides are measured in one process, each query and side once per round in an order that is
shuffled for every round, after one round that is not measured and in which the sides' results are compared. Shown are the
medians over the rounds and their ratios. A side whose result differs is an error.

`make bench BENCH="--threads 1 --rows 1000000"` changes what its options say. Results are also written to data/bench/*.json.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import platform
import random
import re
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import support  # noqa: E402  (the path must be there first)

BENCH = support.DATA / "bench"
QUERIES = support.ROOT / "sql" / "bench" / "orders.sql"
SIDES = ("table", "parquet", "store", "store-parquet")

# Every value follows from the row's number and a hash of it.
ORDERS = """
SELECT order_id,
       (hash(order_id, 1) % 100000)::UBIGINT AS customer_id,
       (hash(order_id, 2) % 5000)::UBIGINT AS product_id,
       quantity,
       unit_price,
       quantity * unit_price AS total_amount,
       ['Pending', 'Processing', 'Shipped', 'Delivered', 'Cancelled'][(1 + hash(order_id, 5) % 5)::BIGINT] AS status,
       ['CreditCard', 'DebitCard', 'PayPal', 'BankTransfer'][(1 + hash(order_id, 6) % 4)::BIGINT] AS payment_method,
       ordered_at,
       ordered_at + to_microseconds((hash(order_id, 8) % 604800000000)::BIGINT) AS updated_at
FROM (SELECT range::UBIGINT AS order_id,
             (1 + hash(order_id, 3) % 10)::UINTEGER AS quantity,
             (100 + hash(order_id, 4) % 49900) / 100.0::DOUBLE AS unit_price,
             TIMESTAMPTZ '2023-01-01 00:00:00+00'
                 + to_microseconds((range * 3000000 + hash(order_id, 7) % 3000000)::BIGINT) AS ordered_at
      FROM range({rows}))
"""


@dataclass
class Query:
    """A query, and its kind: scan, pruned or top-n."""

    name: str
    kind: str
    sql: str


def queries() -> list[Query]:
    found: list[Query] = []
    for line in QUERIES.read_text(encoding="utf-8").splitlines():
        title = re.fullmatch(r"-- # (.+) \[(scan|pruned|top-n)\]", line)
        if title:
            found.append(Query(title[1], title[2], ""))
        elif line.strip() and not line.startswith("--"):
            found[-1].sql += line + "\n"
    return found


def say(text: str = "") -> None:
    print(text, flush=True)


def prepare(rows: int, fresh: bool, sides: tuple[str, ...]) -> Path:
    """Makes the four sides' files, unless they are there already. Returns their folder."""
    folder = BENCH / f"orders-{rows}"
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    parquet = folder / "orders.parquet"
    _make(parquet, "DuckDB writes the Parquet file", lambda path: _write_parquet(path, rows))
    _make(folder / "orders.duckdb", "DuckDB fills its own table", lambda path: _fill_table(path, parquet))
    if "store" in sides or "store-parquet" in sides:
        store = folder / "orders.soa"
        _make(store, "orders_store fills the store", lambda path: _fill_store(path, parquet))
        _make(folder / "parquet-only.soa", "The store is copied without its Arrow form", lambda path: _without_arrow(store, path))
    return folder


def _make(path: Path, what: str, make) -> None:
    if path.exists():
        return
    part = path.with_name("part-" + path.name)
    for left in (part, part.with_name(part.name + ".wal")):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    start = time.perf_counter()
    make(part)
    part.rename(path)
    say(f"{what}: {time.perf_counter() - start:.1f} s")


def _write_parquet(path: Path, rows: int) -> None:
    with support.connect(load=False) as connection:
        select = ORDERS.format(rows=rows)
        connection.execute(f"COPY ({select}) TO {support.quote(path)} (FORMAT parquet, COMPRESSION zstd)")


def _fill_table(path: Path, parquet: Path) -> None:
    with support.connect(str(path), load=False) as connection:
        connection.execute(f"CREATE TABLE orders AS FROM read_parquet({support.quote(parquet)})")
        connection.execute("CHECKPOINT")


def _fill_store(path: Path, parquet: Path) -> None:
    subprocess.run([support.example("orders_store"), parquet, path], check=True, stdin=subprocess.DEVNULL)


def _without_arrow(store: Path, path: Path) -> None:
    shutil.copytree(store, path, copy_function=os.link, ignore=shutil.ignore_patterns("arrow"))


def connect(folder: Path, threads: int, sides: tuple[str, ...]):
    """A connection in which every side is the table `orders` of a schema of its own."""
    connection = support.connect(threads=threads, load="store" in sides or "store-parquet" in sides)
    connection.execute(f"ATTACH {support.quote(folder / 'orders.duckdb')} AS file (READ_ONLY)")
    sources = {
        "table": "file.orders",
        "parquet": f"read_parquet({support.quote(folder / 'orders.parquet')})",
        "store": f"soa_scan({support.quote(folder / 'orders.soa')})",
        "store-parquet": f"soa_scan({support.quote(folder / 'parquet-only.soa')})",
    }
    for side in sides:
        connection.execute(f'CREATE SCHEMA "{side}"')
        connection.execute(f'CREATE VIEW "{side}".orders AS FROM {sources[side]}')
    return connection


def types_of(connection, side: str) -> list[tuple]:
    connection.execute(f'USE memory."{side}"')
    return [row[:2] for row in connection.execute("DESCRIBE orders").fetchall()]


def same(a, b) -> bool:
    """Whether two values are equal; sums of floats may differ in the order of their addition."""
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9)
    return type(a) is type(b) and a == b


def compare(query: Query, side: str, expected: list[tuple], actual: list[tuple]) -> None:
    equal = len(expected) == len(actual) and all(
        len(a) == len(b) and all(same(x, y) for x, y in zip(a, b)) for a, b in zip(expected, actual)
    )
    if not equal:
        sys.exit(f"bench: {query.name}: {side} gives {actual[:3]}..., DuckDB's own table {expected[:3]}...")


def run(connection, side: str, query: Query) -> tuple[float, list[tuple]]:
    connection.execute(f'USE memory."{side}"')
    start = time.perf_counter()
    rows = connection.execute(query.sql).fetchall()
    return time.perf_counter() - start, rows


def measure(connection, sides: tuple[str, ...], rounds: int, seed: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by query and side, a value per round."""
    all_queries = queries()
    types = types_of(connection, "table")
    for side in sides:
        if types_of(connection, side) != types:
            sys.exit(f"bench: the types of {side} are {types_of(connection, side)}, those of DuckDB's own table {types}")
    for query in all_queries:
        _, expected = run(connection, "table", query)
        for side in sides:
            compare(query, side, expected, run(connection, side, query)[1])
    times: dict[str, dict[str, list[float]]] = {query.name: {side: [] for side in sides} for query in all_queries}
    shuffled = random.Random(seed)
    for _ in range(rounds):
        runs = [(query, side) for query in all_queries for side in sides]
        shuffled.shuffle(runs)
        for query, side in runs:
            times[query.name][side].append(run(connection, side, query)[0])
    return times


def geometric_mean(numbers: list[float]) -> float:
    return math.exp(sum(map(math.log, numbers)) / len(numbers))


def report(times: dict, sides: tuple[str, ...]) -> dict:
    """Prints the table; returns medians, ratios and means."""
    medians = {name: {side: statistics.median(values) for side, values in by.items()} for name, by in times.items()}
    kinds = {query.name: query.kind for query in queries()}
    ratios = [(a, b) for a, b in RATIOS if a in sides and b in sides]
    heads = [*(f"{side} ms" for side in sides), *(f"{a} / {b}" for a, b in ratios)]
    widths = [max(len(head), 9) for head in heads]
    say("".join([f"{'query':26}", *(f"  {head:>{width}}" for head, width in zip(heads, widths))]))
    for name, by in medians.items():
        cells = [f"{by[side] * 1000:.2f}" for side in sides] + [f"{by[a] / by[b]:.2f}" for a, b in ratios]
        say("".join([f"{name:26}", *(f"  {cell:>{width}}" for cell, width in zip(cells, widths))]))
    means, worst = {}, {}
    for a, b in ratios:
        counted = {name: by[a] / by[b] for name, by in medians.items() if kinds[name] != "top-n"}
        means[f"{a}/{b}"] = geometric_mean(list(counted.values()))
        worst[f"{a}/{b}"] = max(counted, key=counted.get)
    say("".join([f"{'geometric mean, no top-n':26}", *("  " + " " * w for w in widths[: len(sides)]),
                 *(f"  {means[f'{a}/{b}']:>{w}.2f}" for (a, b), w in zip(ratios, widths[len(sides):]))]))  # fmt: skip
    for pair, name in worst.items():
        say(f"worst of {pair}: {name}")
    return {"median_seconds": medians, "geometric_means": means, "kinds": kinds}


RATIOS = (("store", "table"), ("store", "parquet"), ("store-parquet", "parquet"), ("parquet", "table"))


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file()) if path.is_dir() else path.stat().st_size


def sizes(folder: Path) -> dict[str, int]:
    """Bytes on disk: of the sides, and of the store's two forms."""
    found = {path.name: size(path) for path in sorted(folder.iterdir()) if path.name != "parquet-only.soa"}
    store = folder / "orders.soa"
    if store.exists():
        found["orders.soa, Arrow form"] = size(store / "_soa" / "arrow") if (store / "_soa" / "arrow").exists() else 0
        found["orders.soa, Parquet form"] = sum(file.stat().st_size for file in store.rglob("*.parquet"))
    return found


def main() -> int:
    parser = argparse.ArgumentParser(description="Measures DuckDB on a store, on its own table and on Parquet.")
    parser.add_argument("--rows", type=int, default=10_000_000)
    parser.add_argument("--rounds", type=int, default=9, help="measured rounds, at least 7")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=1, help="of the order in which queries and sides are run")
    parser.add_argument("--fresh", action="store_true", help="make the data again")
    parser.add_argument("--sides", default=",".join(SIDES), help="which sides are measured; `table` always is")
    arguments = parser.parse_args()
    if arguments.rounds < 7:
        parser.error("a median needs at least 7 rounds")
    asked = set(arguments.sides.split(",")) | {"table"}
    if not asked <= set(SIDES):
        parser.error(f"the sides are {', '.join(SIDES)}")
    sides = tuple(side for side in SIDES if side in asked)

    folder = prepare(arguments.rows, arguments.fresh, sides)
    connection = connect(folder, arguments.threads, sides)
    (version,) = connection.execute("SELECT version()").fetchone()
    say(f"\n{arguments.rows:,} orders, {arguments.threads} threads, {arguments.rounds} rounds, DuckDB {version}, medians\n")
    times = measure(connection, sides, arguments.rounds, arguments.seed)
    results = report(times, sides)
    results["bytes"] = sizes(folder)
    say("\nbytes on disk")
    for name, count in results["bytes"].items():
        say(f"  {name:26}  {count / 1e6:8.1f} MB")
    results |= {
        "seconds": times,
        "rows": arguments.rows,
        "threads": arguments.threads,
        "rounds": arguments.rounds,
        "seed": arguments.seed,
        "duckdb": version,
        "machine": f"{platform.machine()}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}",
        "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    path = BENCH / f"orders-{arguments.rows}-threads-{arguments.threads}.json"
    path.write_text(json.dumps(results, indent=1))
    say(f"\nwritten to {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
