"""Writing through Postgres: the same statements on a store and on a heap table, both with a primary key, in turn.

- `store`: a foreign table of an updatable server, made by its first INSERT with the option `key`;
- `heap`: a table of Postgres' own with a primary key.

Every statement is a transaction of its own and durable when it returns: the server syncs (`fsync`, `synchronous_commit`), and so
does the store. Before a round both tables are emptied; after each statement both must have the same rows. Statements on single
rows are run one after the other, and their time is that of one.
"""

from __future__ import annotations

import shutil
import statistics
import sys
from pathlib import Path

import psycopg

import support
from measure import print_table, seconds
from pg_server import PgServer
from postgres_half import SETTINGS, describe

ROWS = 1_000_000
SINGLE = 50
DURABLE = SETTINGS | {"fsync": "on", "synchronous_commit": "on"}
COLUMNS = (
    "order_id bigint NOT NULL, customer_id bigint, product_id bigint, quantity integer, unit_price double precision, "
    "status text, ordered_at timestamptz"
)
# A new row in the place of each number.
MADE = """
SELECT g::bigint AS order_id, hashint8(g) & 65535 AS customer_id, hashint8(g + 1) & 4095 AS product_id,
    1 + (hashint8(g + 2) & 7) AS quantity, (hashint8(g + 3) & 65535) / 100.0::float8 AS unit_price,
    (ARRAY['Pending', 'Processing', 'Shipped', 'Delivered'])[1 + (hashint8(g + 4) & 3)] AS status,
    timestamptz '2023-01-01 00:00:00+00' + g * interval '3 seconds' AS ordered_at
FROM generate_series({first}, {last}) g
"""


def singles(text: str) -> list[str]:
    """A statement for each of some rows."""
    return [text.format(number=number * (ROWS // SINGLE) + 7, new=ROWS + number) for number in range(1, SINGLE + 1)]


def statements(file: Path) -> dict[str, list[str]]:
    """What is measured, in this order, and the statements that it takes. `orders` is the table."""
    return {
        "COPY of a million rows": [f"COPY orders FROM {support.quote(file)}"],
        "a tenth of them updated": ["UPDATE orders SET quantity = quantity + 1 WHERE order_id % 10 = 3"],
        "a day of them updated": [
            "UPDATE orders SET status = 'Shipped'"
            " WHERE ordered_at >= '2023-01-12 00:00:00+00' AND ordered_at < '2023-01-13 00:00:00+00'"
        ],
        "a tenth of them deleted": ["DELETE FROM orders WHERE order_id % 10 = 5"],
        "one row inserted": singles(f"INSERT INTO orders {MADE.format(first='{new}', last='{new}')}"),
        "one row updated by its key": singles("UPDATE orders SET quantity = 0 WHERE order_id = {number}"),
        "one row deleted by its key": singles("DELETE FROM orders WHERE order_id = {number}"),
        "all rows emptied": ["TRUNCATE orders"],
        "INSERT ... SELECT of a million rows": ["INSERT INTO orders SELECT * FROM public.made"],
    }


def run(folder: Path, rounds: int) -> dict:
    """Measures, prints and returns the results."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    folder.chmod(0o777)  # the server is another user
    found: dict[str, dict[str, list[float]]] = {}
    with PgServer(settings=DURABLE) as server, server.connect(prepare_threshold=None) as connection:
        connection.autocommit = True
        prepare(connection, folder)
        settings = describe(connection)
        for number in range(rounds + 1):
            for schema in ("store", "heap"):
                connection.execute(f"TRUNCATE {schema}.orders")
            connection.execute("VACUUM heap.orders")
            connection.execute("CHECKPOINT")
            for name, texts in statements(folder / "made.copy").items():
                times = {}
                # Who comes first changes from round to round.
                for schema in ("store", "heap") if number % 2 else ("heap", "store"):
                    connection.execute(f"SET search_path = {schema}")
                    times[schema] = seconds(lambda: [connection.execute(text) for text in texts]) / len(texts)
                compare(connection, name)
                # The first round is not measured.
                for schema, time in times.items() if number else ():
                    found.setdefault(name, {}).setdefault(schema, []).append(time)
    shutil.rmtree(folder)
    middle = {name: {schema: statistics.median(times) for schema, times in by.items()} for name, by in found.items()}
    print(f"\nWriting {ROWS:,} rows in {settings}; medians of {rounds} rounds\n", flush=True)
    table = [["", "store ms", "heap ms", "store / heap"]]
    for name, by in middle.items():
        ratio = by["store"] / by["heap"]
        table.append([name, f"{by['store'] * 1e3:.1f}", f"{by['heap'] * 1e3:.1f}", f"{ratio:.2f}"])
    print_table(table)
    return {"median_seconds": middle, "seconds": found, "settings": settings}


def prepare(connection: psycopg.Connection, folder: Path) -> None:
    """Makes both tables, and the rows that they get."""
    connection.execute("CREATE EXTENSION soa_fdw; CREATE SCHEMA store; CREATE SCHEMA heap")
    root = support.quote(folder)
    connection.execute(f"CREATE SERVER stores FOREIGN DATA WRAPPER soa_fdw OPTIONS (root {root}, updatable 'true')")
    connection.execute(
        f"CREATE FOREIGN TABLE store.orders ({COLUMNS}) SERVER stores OPTIONS (path 'orders.soa', key 'order_id')"
    )
    connection.execute(f"CREATE TABLE heap.orders ({COLUMNS}, PRIMARY KEY (order_id))")
    connection.execute(f"CREATE TABLE public.made AS {MADE.format(first=1, last=ROWS)}")
    connection.execute("VACUUM ANALYZE public.made")
    connection.execute(f"COPY public.made TO {support.quote(folder / 'made.copy')}")
    connection.execute("INSERT INTO store.orders SELECT * FROM public.made LIMIT 1")


def compare(connection: psycopg.Connection, name: str) -> None:
    """Both must have the same rows."""
    told = "SELECT count(*), sum(order_id), sum(quantity), sum(product_id), min(ordered_at), count(status) FROM {}.orders"
    ours, theirs = (connection.execute(told.format(schema)).fetchall() for schema in ("store", "heap"))
    if ours != theirs:
        sys.exit(f"bench: after {name} the store has {ours}, the heap {theirs}")
