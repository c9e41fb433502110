"""Makes the benchmark's rows: a Parquet file, DuckDB's own table and the store, kept for the next run.

There are three tables to choose from, all of them called `orders`: one of numbers, enums and times, the same in many
small segments, and one of texts and columns that may be NULL.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import support

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


TEXT_ORDERS = """
SELECT order_id,
       ['Ada', 'Alan', 'Barbara', 'Claude', 'Donald', 'Edsger', 'Frances', 'Grace', 'John', 'Kathleen', 'Margaret',
        'Niklaus', 'Radia', 'Tony'][(1 + hash(order_id, 1) % 14)::BIGINT] || ' '
           || ['Allen', 'Backus', 'Booth', 'Dijkstra', 'Hamilton', 'Hoare', 'Hopper', 'Knuth', 'Liskov', 'Lovelace',
               'Perlman', 'Shannon', 'Turing', 'Wirth'][(1 + hash(order_id, 2) % 14)::BIGINT] || ' '
           || hash(order_id, 3) % 500 AS customer,
       ['Please put it behind the green door and ring the bell twice', 'Leave it with the neighbour on the left',
        'Call before you come, the gate is locked', 'No hurry with this one, any day of the week will do'
       ][(1 + order_id % 4)::BIGINT] || ', it is order number ' || order_id AS note,
       CASE WHEN hash(order_id, 4) % 5 = 0 THEN
           ['Happy birthday', 'With love from all of us', 'Get well soon'][(1 + hash(order_id, 5) % 3)::BIGINT]
               || ', dear ' || hash(order_id, 6) % 1000 END AS gift_note,
       ['EUR', 'USD', 'GBP', 'JPY', 'CHF'][(1 + hash(order_id, 7) % 5)::BIGINT] AS currency,
       ((100 + hash(order_id, 8) % 99900) / 100)::DECIMAL(18, 2) AS price,
       CASE WHEN hash(order_id, 9) % 10 > 0 THEN (1 + hash(order_id, 10) % 10)::INTEGER END AS quantity,
       ordered_at,
       CASE WHEN hash(order_id, 11) % 20 > 0 THEN
           ordered_at + to_microseconds((hash(order_id, 12) % 604800000000)::BIGINT) END AS shipped_at
FROM (SELECT range AS order_id,
             TIMESTAMPTZ '2023-01-01 00:00:00+00'
                 + to_microseconds((range * 3000000 + hash(range, 13) % 3000000)::BIGINT) AS ordered_at
      FROM range({rows}))
"""


# Of the table in many segments.
SEGMENT_ROWS = 1_000


@dataclass(frozen=True)
class Table:
    """What the table `orders` is."""

    queries: str  # the file with its queries
    rows: int  # how many there are, where nothing else is asked for
    select: str
    fill_store: Callable[[Path, Path], object]  # makes the store of a Parquet file


def prepare(folder: Path, table: Table, rows: int, fresh: bool, store: bool, parquet_only: bool) -> None:
    """Makes what is missing in the folder: the Parquet file and DuckDB's table always, the store and its copy without
    an Arrow form where they are asked for."""
    if fresh:
        shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, exist_ok=True)
    parquet = folder / "orders.parquet"
    select = table.select.format(rows=rows)
    make(parquet, "DuckDB writes the Parquet file", lambda path: _write_parquet(path, select))
    make(folder / "orders.duckdb", "DuckDB fills its own table", lambda path: _fill_table(path, parquet))
    source = folder / "orders.soa"
    if store or parquet_only:
        make(source, "The store is filled", lambda path: table.fill_store(path, parquet))
    if parquet_only:
        copy = folder / "parquet-only.soa"
        make(copy, "The store is copied without its Arrow form", lambda path: _without_arrow(source, path))


def make(path: Path, what: str, work: Callable[[Path], object]) -> None:
    """Lets the work make something under another name, unless it is there, and gives it its name when it is whole."""
    if path.exists():
        return
    part = path.with_name("part-" + path.name)
    for left in (part, part.with_name(part.name + ".wal")):
        shutil.rmtree(left) if left.is_dir() else left.unlink(missing_ok=True)
    start = time.perf_counter()
    work(part)
    part.rename(path)
    print(f"{what}: {time.perf_counter() - start:.1f} s", flush=True)


def _write_parquet(path: Path, select: str) -> None:
    with support.connect(load=False) as connection:
        connection.execute(f"COPY ({select}) TO {support.quote(path)} (FORMAT parquet, COMPRESSION zstd)")


def _fill_table(path: Path, parquet: Path) -> None:
    with support.connect(str(path), load=False) as connection:
        connection.execute(f"CREATE TABLE orders AS FROM read_parquet({support.quote(parquet)})")
        connection.execute("CHECKPOINT")


def _fill_by_example(path: Path, parquet: Path) -> None:
    subprocess.run([support.example("orders_store"), parquet, path], check=True, stdin=subprocess.DEVNULL)


def _fill_by_copy(path: Path, parquet: Path) -> None:
    """The currency becomes an enum."""
    currency = "currency::ENUM ('EUR', 'USD', 'GBP', 'JPY', 'CHF') AS currency"
    with support.connect() as connection:
        select = f"SELECT * REPLACE ({currency}) FROM read_parquet({support.quote(parquet)})"
        connection.execute(f"COPY ({select}) TO {support.quote(path)} (FORMAT soa)")


def _fill_by_many_copies(path: Path, parquet: Path) -> None:
    """A segment, and a commit, for every SEGMENT_ROWS rows. Nobody joins them."""
    with support.connect() as connection:
        connection.execute(f"CREATE TABLE orders AS FROM read_parquet({support.quote(parquet)})")
        (rows,) = connection.execute("SELECT count(*) FROM orders").fetchone()
        for first in range(0, rows, SEGMENT_ROWS):
            select = f"FROM orders WHERE order_id >= {first} AND order_id < {first + SEGMENT_ROWS}"
            key = "" if first else ", KEY 'order_id'"
            connection.execute(f"COPY ({select}) TO {support.quote(path)} (FORMAT soa{key})")
            if first == 0:
                support.soa("alter", path, "--auto-compact", "false")


TABLES = {
    "orders": Table("orders", 10_000_000, ORDERS, _fill_by_example),
    "segments": Table("segments", 1000 * SEGMENT_ROWS, ORDERS, _fill_by_many_copies),
    "text": Table("text_orders", 5_000_000, TEXT_ORDERS, _fill_by_copy),
}


def _without_arrow(store: Path, path: Path) -> None:
    shutil.copytree(store, path, copy_function=os.link, ignore=shutil.ignore_patterns("arrow"))


def sizes(folder: Path) -> dict[str, int]:
    """Bytes on disk: of the sides, and of the store's two forms."""
    found = {path.name: _size(path) for path in sorted(folder.iterdir()) if path.name != "parquet-only.soa"}
    store = folder / "orders.soa"
    if store.exists():
        found["orders.soa, Arrow form"] = _size(store / "_soa" / "arrow") if (store / "_soa" / "arrow").exists() else 0
        found["orders.soa, Parquet form"] = sum(file.stat().st_size for file in store.rglob("*.parquet"))
    return found


def _size(path: Path) -> int:
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(file.stat().st_size for file in files if file.is_file())
