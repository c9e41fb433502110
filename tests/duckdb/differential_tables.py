"""The stores that the differential tests query, each beside a table of DuckDB's own with the same rows."""

from __future__ import annotations

import datetime
import decimal
import random
import shutil
from dataclasses import dataclass
from pathlib import Path

import duckdb
import pyarrow as pa

import support
from duckdb_support import Store, connect, quote
from random_queries import Column, RandomQueries

PARTS, PART_ROWS = 9, 100
LETTERS = "abcdefghi"
BIG_ROWS = 300_000
KINDS = ("a", "bb", "d", "cc of part 3", "g")
# Rows that are deleted, in every store of these rows.
GONE = "id BETWEEN 130 AND 170 OR s LIKE 'e1%' OR id = 555 OR (b = 9 AND flag = true)"


@dataclass
class Table:
    """A store and DuckDB's table `native` with its rows; `forms` are ways to name the store in a query."""

    kind: str
    con: duckdb.DuckDBPyConnection
    forms: list[str]
    columns: list[Column]
    key: str = "id"
    joined: tuple[str, ...] = ("id", "a", "b", "s", "d", "e", "late")
    in_order: bool = True
    is_big: bool = False

    def queries(self, chance: random.Random) -> RandomQueries:
        return RandomQueries(chance, self.columns, self.key, list(self.joined), self.in_order)


def number(chance: random.Random) -> int:
    return chance.randrange(-20, PARTS * PART_ROWS + 20)


COLUMNS = [
    Column("id", "number", lambda chance: str(number(chance))),
    Column("a", "number", lambda chance: str(number(chance) // 50)),
    Column("b", "number", lambda chance: str(chance.randrange(20))),
    Column("u", "number", lambda chance: str(number(chance) + 20 + chance.choice((0, 1 << 63)))),
    Column("p", "number", lambda chance: f"{number(chance) / 4}"),
    Column("w", "number", lambda chance: f"{number(chance)}000000000000000000.000001::DECIMAL(38, 6)"),
    Column("f", "float", lambda chance: chance.choice((str(number(chance) / 8), "'nan'::DOUBLE", "'-inf'::DOUBLE", "0.0"))),
    Column("s", "text", lambda chance: quote(chance.choice(("", "ä", *(f"{first}{chance.randrange(5)} of part 3" for first in LETTERS))))),
    Column("e", "text", lambda chance: quote(chance.choice((*KINDS, "", "b", "zz")))),
    Column("d", "time", lambda chance: f"(DATE '1970-01-01' + {number(chance)})"),
    Column("ts", "time", lambda chance: f"make_timestamp({number(chance) * 3_600_000_019})"),
    Column("tz", "time", lambda chance: f"make_timestamp({number(chance) * 3_600_000_019})::TIMESTAMPTZ"),
    Column("flag", "bool", lambda chance: chance.choice(("true", "false"))),
    Column("x", "bytes", lambda chance: f"unhex('{chance.randrange(256):02x}')" if chance.random() < 0.5 else "'\\x00\\xFF'::BLOB"),
    Column("l", "list", lambda _: "NULL"),
    Column("r", "struct", lambda _: "NULL"),
    Column("late", "number", lambda chance: str(chance.randrange(8))),
]


def rows(part: int, chance: random.Random) -> pa.Table:
    """Rows whose values lie apart from those of other parts, so that most filters leave some parts out."""
    numbers = range(part * PART_ROWS, (part + 1) * PART_ROWS)
    letter, above = LETTERS[part], [0, 1 << 63][part % 3 == 1]

    def column(value, kind: pa.DataType) -> pa.Array:
        return pa.array([None if chance.random() < 0.1 else value(n) for n in numbers], kind)

    columns = {
        "id": pa.array(numbers, pa.int64()),
        "a": column(lambda n: n // 50, pa.int32()),
        "b": column(lambda n: n % 7 + part, pa.uint8()),
        "u": column(lambda n: n + (above if part % 3 < 2 or n % 2 else 1 << 63), pa.uint64()),
        "p": column(lambda n: decimal.Decimal(n) / 4, pa.decimal128(9, 2)),
        "w": column(lambda n: decimal.Decimal(n) * 10**18, pa.decimal128(38, 6)),
        # No 0.0 beside -0.0: they are equal, and which of them a group shows is open.
        "f": column(lambda n: float("nan") if n % 41 == 7 else float("-inf") if n == 250 else n / 8 or -0.0, pa.float64()),
        "s": column(lambda n: "" if n % 50 == 9 else "ä" if n % 50 == 8 else f"{letter}{n % 5} of part {part}", pa.string()),
        "e": pa.DictionaryArray.from_arrays(column(lambda n: n % 5 if part % 2 else part % 5, pa.uint8()), pa.array(KINDS)),
        "d": column(lambda n: n, pa.date32()),
        "ts": column(lambda n: n * 3_600_000_019, pa.timestamp("us")),
        "tz": column(lambda n: n * 3_600_000_019, pa.timestamp("us", tz="UTC")),
        "flag": column(lambda n: n % 3 == 0 if part % 4 else bool(part), pa.bool_()),
        "x": column(lambda n: b"\x00\xff" if n % 9 == 0 else bytes([n % 256]) * (n % 5), pa.binary()),
        "l": column(lambda n: [n, None, 3][: n % 4], pa.list_(pa.int32())),
        "r": column(lambda n: {"n": n if n % 3 else None, "s": f"{letter}{n}"}, pa.struct([("n", pa.int32()), ("s", pa.string())])),
    }  # fmt: skip
    if part == PARTS - 1:
        columns["late"] = column(lambda n: n % 8, pa.int64())
    table = pa.table(columns)
    return table.cast(table.schema.set(0, table.field("id").with_nullable(False)))


def fill(store: Store, parts: list[pa.Table], options: tuple[str, ...] = ()) -> None:
    """Commits all parts, the last of which has a column more, and deletes rows."""
    store.commit(*parts[:-1], options=options)
    support.soa("alter", store.path, "--add-column", "late:i64")
    store.commit(parts[-1], options=options)
    support.soa("delete", store.path, "--where", GONE)


def native(con: duckdb.DuckDBPyConnection, parts: list[pa.Table]) -> None:
    con.register("arrow_rows", pa.concat_tables(parts, promote_options="default"))
    con.execute(f"CREATE TABLE native AS FROM arrow_rows; DELETE FROM native WHERE {GONE}")


def make(kind: str, folder: Path, seed: int) -> Table:
    """Makes one of `TABLES`."""
    store = Store(folder / "rows.soa")
    con = connect(threads=4)
    if kind in OTHERS:
        return OTHERS[kind](con, store)
    chance = random.Random(seed)
    parts = [rows(part, chance) for part in range(PARTS)]
    native(con, parts)
    FILLED[kind](store, parts)
    return Table(kind, con, forms(con, store), COLUMNS, in_order=kind not in ("partitioned", "keyed"))


def forms(con: duckdb.DuckDBPyConnection, store: Store) -> list[str]:
    con.execute(f"CREATE VIEW stored AS FROM {store.sql}")
    return [store.sql, f"soa_scan({store.sql})", "stored"]


def parquet(store: Store, parts: list[pa.Table]) -> None:
    fill(store, parts)
    shutil.rmtree(store.path / "_soa" / "arrow")


def mixed(store: Store, parts: list[pa.Table]) -> None:
    fill(store, parts)
    for file in sorted((store.path / "_soa" / "arrow").rglob("*.arrow"))[::2]:
        file.unlink()


def partitioned(store: Store, parts: list[pa.Table]) -> None:
    fill(store, parts, ("--partition-by", "e", "--sort-by", "f,id"))


def compacted(store: Store, parts: list[pa.Table]) -> None:
    fill(store, parts)
    support.soa("compact", store.path, "--segment-rows", 300)


def keyed(store: Store, parts: list[pa.Table]) -> None:
    """The rows take the place of others, and come in another order."""
    options = ("--key", "id")
    store.commit(*(rows(part, random.Random(part)) for part in range(PARTS - 1)), options=options)
    fill(store, [parts[n] for n in (3, 1, 7, 0, 5, 2, 6, 4, 8)], ("--upsert",))


def with_log(con: duckdb.DuckDBPyConnection, store: Store) -> Table:
    """Orders of which some are published and some, with changes of others, in the log that a writer has left behind."""
    writer = support.LogWriter(store.path)
    published = ("batch 0 400", "flush", "batch 400 650", "flush")
    for command in (*published, "batch 600 900", "delete 100 150", "batch 40 60", "add 140 145", "delete 880 890"):
        writer.tell(command)
    writer.end()
    exported = store.path.parent / "exported.parquet"
    support.soa("export", store.path, exported)
    con.execute(f"CREATE TABLE native AS FROM {quote(exported)}")
    statuses = ("Pending", "Processing", "Shipped", "Delivered", "Cancelled")
    whole = {"order_id": 900, "customer_id": 100_000, "product_id": 10_000, "quantity": 12}
    columns = [Column(name, "number", lambda chance, end=end: str(chance.randrange(end))) for name, end in whole.items()]
    columns += [Column(name, "float", lambda chance: f"{chance.randrange(100_000) / 100}") for name in ("unit_price", "total_amount")]
    columns += [
        Column("status", "text", lambda chance: quote(chance.choice((*statuses, "", "P")))),
        Column("payment_method", "text", lambda chance: quote(chance.choice(("CreditCard", "PayPal", "Cash", "None")))),
        Column("ordered_at", "time", lambda chance: f"TIMESTAMPTZ '2024-01-01' + to_seconds({chance.randrange(3000)})"),
        Column("updated_at", "time", lambda chance: f"TIMESTAMPTZ '2024-01-01' + to_seconds({chance.randrange(600_000)})"),
    ]  # fmt: skip
    return Table("log", con, forms(con, store), columns, "order_id", ("order_id", "customer_id", "quantity", "status"))


def big(con: duckdb.DuckDBPyConnection, store: Store) -> Table:
    """Segments of several units: threads share them, and some units have no row that a filter leaves."""
    con.execute(
        f"CREATE TABLE native AS SELECT i AS id, CASE WHEN i % 7 > 0 THEN i // 3 END AS k, (hash(i) % 1000)::INTEGER AS n,"
        f" (i // 50000)::VARCHAR || '-' || i % 5 AS s, i % 100000 < 7 AS flag FROM range({BIG_ROWS}) r(i)"
    )
    for first, last in ((0, 250_000), (250_000, BIG_ROWS)):
        con.execute(f"COPY (FROM native WHERE id >= {first} AND id < {last}) TO {store.sql} (FORMAT soa)")
    support.soa("delete", store.path, "--where", "id < 1000 OR n = 7")
    con.execute("DELETE FROM native WHERE id < 1000 OR n = 7")
    columns = [
        Column("id", "number", lambda chance: str(chance.randrange(BIG_ROWS))),
        Column("k", "number", lambda chance: str(chance.randrange(BIG_ROWS // 3))),
        Column("n", "number", lambda chance: str(chance.randrange(1000))),
        Column("s", "text", lambda chance: quote(f"{chance.randrange(6)}-{chance.randrange(5)}")),
        Column("flag", "bool", lambda chance: chance.choice(("true", "false"))),
    ]
    return Table("big", con, forms(con, store), columns, joined=("id", "k"), is_big=True)


FILLED = {"segments": fill, "parquet": parquet, "mixed": mixed, "partitioned": partitioned, "compacted": compacted, "keyed": keyed}
OTHERS = {"log": with_log, "big": big}
TABLES = [*FILLED, *OTHERS]
