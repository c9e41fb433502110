"""Makes the stores that the SQL suite, the outside readers and the bad-input tests query.

`python tests/make_stores.py DIR` writes

    DIR/data/NAME.N.arrow     the rows, one file per commit (Parquet and CSV where a store is to come from those)
    DIR/data/log.N.arrow      batches that a test imports itself
    DIR/stores/NAME.soa       the stores, made by `soa import`; with --no-import they are left out
    DIR/manifest.json         for each store: its files, and how it was imported

Everything is computed from row numbers: two runs give the same rows.
"""

from __future__ import annotations

import argparse
import datetime
import decimal
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa
import pyarrow.csv
import pyarrow.ipc
import pyarrow.parquet

import support

UTC = datetime.timezone.utc
ROW_COUNTS = (0, 1, 2_047, 2_048, 2_049, 122_880, 122_881)
NAN, INF = float("nan"), float("inf")


@dataclass
class Spec:
    """A store: one table per commit, and how `soa import` is called."""

    tables: list[pa.Table]
    options: list[str] = field(default_factory=list)
    form: str = "arrow"  # the files that are imported: arrow, parquet or csv


def fields(*columns: tuple[str, pa.DataType], nullable: bool) -> pa.Schema:
    return pa.schema([pa.field(name, kind, nullable=nullable) for name, kind in columns])


def at(*parts: int, utc: bool = False) -> datetime.datetime:
    return datetime.datetime(*parts, tzinfo=UTC if utc else None)


TYPES = (
    ("id", pa.int32()),
    ("b", pa.bool_()),
    ("i8", pa.int8()),
    ("i16", pa.int16()),
    ("i32", pa.int32()),
    ("i64", pa.int64()),
    ("u8", pa.uint8()),
    ("u16", pa.uint16()),
    ("u32", pa.uint32()),
    ("u64", pa.uint64()),
    ("f32", pa.float32()),
    ("f64", pa.float64()),
    ("dec4", pa.decimal128(4, 1)),
    ("dec9", pa.decimal128(9, 2)),
    ("dec18", pa.decimal128(18, 6)),
    ("dec38", pa.decimal128(38, 10)),
    ("s", pa.string()),
    ("bin", pa.binary()),
    ("d", pa.date32()),
    ("ts", pa.timestamp("us")),
    ("tz", pa.timestamp("us", tz="UTC")),
)


def types_rows() -> list[tuple]:
    """The edges of every type, one kind of edge a row: ordinary, least, greatest, zero, awkward."""
    dec = decimal.Decimal
    return [
        (1, True, 1, 2, 3, 4, 5, 6, 7, 8, 0.5, 0.25, dec("1.5"), dec("2.25"), dec("3.125000"), dec("4.5"),
         "plain", b"\x01\x02", datetime.date(2024, 2, 29), at(2024, 2, 29, 12, 34, 56, 789012),
         at(2024, 2, 29, 12, 34, 56, 789012, utc=True)),
        (2, False, -128, -32768, -2147483648, -9223372036854775808, 0, 0, 0, 0, -3.4028234663852886e38,
         -1.7976931348623157e308, dec("-999.9"), dec("-9999999.99"), dec("-999999999999.999999"),
         dec("-9999999999999999999999999999.9999999999"), "", b"", datetime.date(1, 1, 1), at(1, 1, 1),
         at(1, 1, 1, utc=True)),
        (3, True, 127, 32767, 2147483647, 9223372036854775807, 255, 65535, 4294967295, 18446744073709551615,
         3.4028234663852886e38, 1.7976931348623157e308, dec("999.9"), dec("9999999.99"), dec("999999999999.999999"),
         dec("9999999999999999999999999999.9999999999"), "\U0010ffff\U0010ffff", b"\xff" * 13,
         datetime.date(9999, 12, 31), at(9999, 12, 31, 23, 59, 59, 999999), at(9999, 12, 31, 23, 59, 59, 999999, utc=True)),
        (4, False, 0, 0, 0, 0, 128, 32768, 2147483648, 9223372036854775808, -0.0, -0.0, dec("0.0"), dec("0.00"),
         dec("0.000000"), dec("0.0000000000"), "twelve bytes", b"\x00" * 12, datetime.date(1970, 1, 1), at(1970, 1, 1),
         at(1970, 1, 1, utc=True)),
        (5, True, -1, -1, -1, -1, 127, 32767, 2147483647, 9223372036854775807, NAN, NAN, dec("-0.1"), dec("-0.01"),
         dec("-0.000001"), dec("-0.0000000001"), "thirteen byte", b"\x00\xff\\'\"", datetime.date(1969, 12, 31),
         at(1969, 12, 31, 23, 59, 59, 999999), at(1969, 12, 31, 23, 59, 59, 999999, utc=True)),
        (6, False, 1, 1, 1, 1, 1, 1, 1, 1, INF, INF, dec("0.1"), dec("0.01"), dec("0.000001"), dec("0.0000000001"),
         "Straße 東京 🦆 ﬁn", "Straße".encode(), datetime.date(1582, 10, 15), at(1582, 10, 15, 0, 0, 0, 1),
         at(1582, 10, 15, 0, 0, 0, 1, utc=True)),
        (7, True, 2, 2, 2, 2, 2, 2, 2, 2, -INF, -INF, dec("2.0"), dec("2.00"), dec("2.000000"), dec("2.0000000000"),
         "quote ' \" back \\ tab \t line \n %_ end", b"\n\t\r", datetime.date(1900, 2, 28), at(1900, 2, 28, 1, 2, 3),
         at(1900, 2, 28, 1, 2, 3, utc=True)),
        (8, False, 3, 3, 3, 3, 3, 3, 3, 3, 1.401298464324817e-45, 5e-324, dec("3.3"), dec("3.33"), dec("3.333333"),
         dec("3.3333333333"), "x" * 1000, b"y" * 1000, datetime.date(2038, 1, 19), at(2038, 1, 19, 3, 14, 8),
         at(2038, 1, 19, 3, 14, 8, utc=True)),
    ]  # fmt: skip


def types(nullable: bool) -> pa.Table:
    rows = types_rows()
    if nullable:
        rows.append((9,) + (None,) * (len(TYPES) - 1))
    schema = fields(*TYPES, nullable=nullable)
    return pa.table([pa.array([row[i] for row in rows], kind) for i, (_, kind) in enumerate(TYPES)], schema=schema)


def rows(count: int) -> pa.Table:
    """`count` rows: id 0.., v = id % 1000, s = 's' and id % 97, o = id / 4 but NULL for every seventh, t = one a minute."""
    ids = range(count)
    start = int(at(2020, 1, 1, utc=True).timestamp()) * 1_000_000
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "v": pa.array([i % 1000 for i in ids], pa.int32()),
            "s": pa.array([f"s{i % 97}" for i in ids], pa.string()),
            "o": pa.array([None if i % 7 == 0 else i / 4 for i in ids], pa.float64()),
            "t": pa.array([start + i * 60_000_000 for i in ids], pa.timestamp("us", tz="UTC")),
        }
    )


STATUSES = ("Pending", "Processing", "Shipped", "Delivered", "Cancelled")


def orders(first: int, count: int) -> pa.Table:
    """Orders with a status, a year, an amount with cents and, for every eleventh, no note."""
    ids = range(first, first + count)
    day = datetime.date(2022, 1, 1)
    days = [day + datetime.timedelta(days=(i * 37) % 1095) for i in ids]
    return pa.table(
        {
            "order_id": pa.array(ids, pa.uint64()),
            "customer_id": pa.array([(i * 7919) % 211 for i in ids], pa.int64()),
            "status": pa.array([STATUSES[(i * 13 + i // 7) % 5] for i in ids], pa.string()),
            "year": pa.array([d.year for d in days], pa.int32()),
            "ordered_on": pa.array(days, pa.date32()),
            "amount": pa.array([decimal.Decimal((i * 104_729) % 100_000) / 100 for i in ids], pa.decimal128(12, 2)),
            "quantity": pa.array([i % 9 + 1 for i in ids], pa.uint32()),
            "price": pa.array([((i * 31) % 400) / 8 for i in ids], pa.float64()),
            "note": pa.array([None if i % 11 == 0 else f"note {i % 50:02} of order" for i in ids], pa.string()),
        }
    )


def customers() -> pa.Table:
    ids = range(200)
    return pa.table(
        {
            "customer_id": pa.array(ids, pa.int64()),
            "name": pa.array([f"Customer {i:03}" for i in ids], pa.string()),
            "country": pa.array([None if i % 17 == 0 else ("AT", "DE", "JP", "US")[i % 4] for i in ids], pa.string()),
        }
    )


# Text that is awkward as the name of a folder, and NULL.
PLACES = ("plain", "with space", "a/b", "a=b", "100%", "100%25", "Zürich", "東京", "q'uote", 'dq"', "back\\slash", "c:d", "..", None)


def places() -> pa.Table:
    ids = range(len(PLACES) * 3)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "place": pa.array([PLACES[i % len(PLACES)] for i in ids], pa.string()),
            "n": pa.array([i * i for i in ids], pa.int32()),
        }
    )


def days() -> pa.Table:
    """Partitioned by a date (some before 1970), an integer (some negative) and a boolean."""
    ids = range(120)
    return pa.table(
        {
            "id": pa.array(ids, pa.int32()),
            "d": pa.array([datetime.date(1969, 12, 30) + datetime.timedelta(days=i % 4) for i in ids], pa.date32()),
            "k": pa.array([i % 3 - 1 for i in ids], pa.int16()),
            "flag": pa.array([i % 2 == 0 for i in ids], pa.bool_()),
            "t": pa.array([at(1969, 12, 31, 23, 0) + datetime.timedelta(minutes=i) for i in ids], pa.timestamp("us")),
        }
    )


def floats(first: int, count: int, special: bool) -> pa.Table:
    """Floats in several commits: pruning by statistics must not lose NaN or infinities."""
    ids = range(first, first + count)
    awkward = (NAN, INF, -INF, -0.0, 0.0, None)
    number = [awkward[i % 6] if special and i % 5 == 0 else (i - 500) / 8 for i in ids]
    return pa.table({"id": pa.array(ids, pa.int64()), "f": pa.array(number, pa.float64()), "g": pa.array(number, pa.float32())})


def sorted_rows() -> pa.Table:
    """Rows in a scattered order, to be sorted by region and then time; regions are NULL for every thirteenth."""
    ids = [(i * 7_919) % 10_007 for i in range(10_007)]
    start = at(2021, 1, 1)
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "region": pa.array([None if i % 13 == 0 else f"region {i % 5}" for i in ids], pa.string()),
            "t": pa.array([start + datetime.timedelta(seconds=i) for i in ids], pa.timestamp("us")),
        }
    )


def names() -> pa.Table:
    """Column names that need quotes."""
    columns = {
        "select": [1, 2, 3],
        "Straße": ["a", "b", None],
        "MixedCase": [True, False, None],
        "a-b": [1.5, 2.5, 3.5],
        'quo"te': ["x", "y", "z"],
        "列": [10, 20, 30],
        "_leading": [7, 8, 9],
        "dot.ted": [4, 5, 6],
    }
    return pa.table(columns)


def wide() -> pa.Table:
    """Two hundred columns: c000 to c199, each row's values differing by the column's number."""
    return pa.table({f"c{c:03}": pa.array([c * 1000 + r for r in range(500)], pa.int32()) for c in range(200)})


def short_strings() -> pa.Table:
    """Strings of 0 to 40 bytes around the 12 that a view holds itself, and binary of the same bytes."""
    texts = [("abcdefghijklmnopqrstuvwxyz0123456789ABCD")[:n] for n in range(41)]
    return pa.table(
        {
            "n": pa.array(range(41), pa.int32()),
            "s": pa.array(texts, pa.large_string()),
            "bin": pa.array([t.encode() for t in texts], pa.large_binary()),
        }
    )


def encodings() -> pa.Table:
    """The same values in Arrow's other encodings, which an import casts."""
    seconds = [0, -1, 1_700_000_000]
    return pa.table(
        {
            "id": pa.array([1, 2, 3], pa.int32()),
            "dict_text": pa.array(["low", "high", "low"]).dictionary_encode(),
            "view_text": pa.array(["a", "a view longer than twelve", "c"], pa.string_view()),
            "large_text": pa.array(["x", "", "z"], pa.large_string()),
            "fixed_bin": pa.array([b"abc", b"def", b"ghi"], pa.binary(3)),
            "ts_s": pa.array(seconds, pa.timestamp("s")),
            "ts_ms": pa.array([s * 1000 + 1 for s in seconds], pa.timestamp("ms")),
            "ts_ns": pa.array([s * 1_000_000_000 + 1000 for s in seconds], pa.timestamp("ns")),
            "tz_vienna": pa.array([s * 1_000_000 for s in seconds], pa.timestamp("us", tz="Europe/Vienna")),
            "date64": pa.array([0, -86_400_000, 86_400_000], pa.date64()),
        }
    )


def encodings_plain() -> pa.Table:
    """What `encodings` must read as."""
    source = encodings()
    plain = {
        "dict_text": pa.string(),
        "view_text": pa.string(),
        "large_text": pa.string(),
        "fixed_bin": pa.binary(),
        "ts_s": pa.timestamp("us"),
        "ts_ms": pa.timestamp("us"),
        "ts_ns": pa.timestamp("us"),
        "tz_vienna": pa.timestamp("us", tz="UTC"),
        "date64": pa.date32(),
    }
    return pa.table({n: source[n].cast(plain.get(n, source[n].type)) for n in source.column_names})


def rust_types() -> pa.Table:
    """What the Rust example `make_test_stores` writes into the store `rust_types`: 1,000 rows of a derived struct."""
    ids = range(1000)
    levels = ("Low", "Medium", "High", "Äußerst")
    start = 1_600_000_000_000_000
    return pa.table(
        {
            "id": pa.array(ids, pa.uint64()),
            "level": pa.array([levels[i % 4] for i in ids], pa.string()),
            "maybe_level": pa.array([None if i % 3 == 0 else levels[i % 4] for i in ids], pa.string()),
            "flag": pa.array([i % 2 == 0 for i in ids], pa.bool_()),
            "maybe_flag": pa.array([None if i % 5 == 0 else i % 2 == 0 for i in ids], pa.bool_()),
            "maybe_u8": pa.array([None if i % 7 == 0 else i % 256 for i in ids], pa.uint8()),
            "maybe_i64": pa.array([None if i % 11 == 0 else -i for i in ids], pa.int64()),
            "maybe_f32": pa.array([None if i % 13 == 0 else i / 8 for i in ids], pa.float32()),
            "maybe_text": pa.array([None if i % 4 == 0 else f"text {i}" if i % 5 else "" for i in ids], pa.string()),
            "micros": pa.array([start + i * 1_000_001 for i in ids], pa.timestamp("us", tz="UTC")),
            "maybe_micros": pa.array([None if i % 2 == 0 else -i * 1_000_000 for i in ids], pa.timestamp("us", tz="UTC")),
            "day": pa.array([datetime.date(1969, 1, 1) + datetime.timedelta(days=i) for i in ids], pa.date32()),
            "wall": pa.array([at(1969, 12, 31) + datetime.timedelta(minutes=i * 7) for i in ids], pa.timestamp("us")),
            "instant": pa.array([at(2024, 1, 1, utc=True) + datetime.timedelta(hours=i) for i in ids],
                                pa.timestamp("us", tz="UTC")),
        }
    )  # fmt: skip


def clocks() -> pa.Table:
    """UUIDs, times of day and lengths of time, with the least and greatest that every engine has, and NULL."""
    day, ids = 86_400_000_000, range(1, 1_001)
    uuids = [(id * 0x9E3779B97F4A7C15F39CC0605CEDC835 % (1 << 128)).to_bytes(16, "big") for id in ids]
    uuids[1], uuids[2] = bytes(16), b"\xff" * 16
    times: list[int | None] = [id * 7_654_321_987 % day for id in ids]
    times[1:4] = [0, day - 1, None]
    lengths: list[int | None] = [(id - 500) * 123_456_789 for id in ids]
    lengths[1:5] = [0, -1, None, 90_061_000_001]
    return pa.table(
        {
            "id": pa.array(ids, pa.int32()),
            "u": pa.array(uuids, pa.uuid()),
            "t": pa.array(times, pa.time64("us")),
            "d": pa.array(lengths, pa.duration("us")),
        },
        schema=pa.schema(
            [
                pa.field("id", pa.int32(), nullable=False),
                pa.field("u", pa.uuid(), nullable=False),
                pa.field("t", pa.time64("us")),
                pa.field("d", pa.duration("us")),
            ]
        ),
    )


def lists() -> pa.Table:
    """Lists of any length and of one length: NULL, empty, with NULL in them, and of every kind of element."""
    ids = range(1, 1_001)

    def unless(divisor: int, values):
        return [None if id % divisor == 0 else value for id, value in zip(ids, values)]

    tags = [[f"tag {id + k}" if k < 3 else None for k in range(id % 5)] for id in ids]
    numbers = [[id * (k + 1) if (id + k) % 4 else None for k in range(id % 4)] for id in ids]
    columns = {
        "tags": (unless(7, tags), pa.list_(pa.string())),
        "numbers": (unless(11, numbers), pa.large_list(pa.int64())),
        "small": ([[id % 100, id % 7] for id in ids], pa.list_(pa.field("item", pa.int16(), nullable=False))),
        "large": ([[2**64 - id] * (id % 3) for id in ids], pa.list_(pa.uint64())),
        "vector": (unless(13, [[id / 4, -0.5, 0.25] for id in ids]), pa.list_(pa.float32(), 3)),
        "wide": ([[id / 8] * (id % 2) for id in ids], pa.list_(pa.float64())),
        "flags": ([[id % 2 == 0, None, True][: id % 4] for id in ids], pa.list_(pa.bool_())),
        "days": ([[datetime.date(1970, 1, 1) + datetime.timedelta(days=id)] * (id % 3) for id in ids], pa.list_(pa.date32())),
        "times": ([[at(2024, 1, 1) + datetime.timedelta(seconds=id)] for id in ids], pa.list_(pa.timestamp("us"))),
        "money": ([[decimal.Decimal(id) / 100, None] for id in ids], pa.list_(pa.decimal128(12, 2))),
        "raw": ([[bytes([id % 256]) * (id % 20)] for id in ids], pa.list_(pa.binary())),
    }
    required = {"small"}
    schema = [pa.field("id", pa.int32(), nullable=False)]
    schema += [pa.field(name, kind, nullable=name not in required) for name, (_, kind) in columns.items()]
    arrays = [pa.array(ids, pa.int32())] + [pa.array(values, kind) for values, kind in columns.values()]
    return pa.table(arrays, schema=pa.schema(schema))


def nested() -> pa.Table:
    """Structs, maps, and lists of them and of lists."""
    ids = range(1, 1_001)
    place = pa.struct(
        [
            pa.field("name", pa.string(), nullable=False),
            pa.field("lat", pa.float64()),
            pa.field("seen", pa.list_(pa.timestamp("us", tz="UTC"))),
            pa.field("id", pa.uint64(), nullable=False),
        ]
    )

    def row(id: int) -> dict:
        seen = [at(2024, 1, 1, utc=True) + datetime.timedelta(microseconds=id * 7_000_001 * k) for k in range(id % 3)]
        return {"name": f"place {id}", "lat": None if id % 4 == 0 else id / 8, "seen": seen, "id": 2**64 - 1 - id}

    stock = [None if id % 9 == 0 else [(f"item {k}", None if k == 2 else id * k) for k in range(id % 4)] for id in ids]
    numbers = [[(k, row(k)) for k in range(id % 3)] for id in ids]
    return pa.table(
        {
            "id": pa.array(ids, pa.int32()),
            "place": pa.array([None if id % 5 == 0 else row(id) for id in ids], place),
            "places": pa.array([[row(id + k) for k in range(id % 3)] for id in ids], pa.list_(place)),
            "stock": pa.array(stock, pa.map_(pa.string(), pa.int64())),
            "by_number": pa.array(numbers, pa.map_(pa.int32(), place)),
            "matrix": pa.array([[[id, k] for k in range(id % 4)] for id in ids], pa.list_(pa.list_(pa.int32()))),
        }
    )


def specs() -> dict[str, Spec]:
    """Every store that `soa import` makes."""
    made = {
        "types": Spec([types(nullable=True)]),
        "types_required": Spec([types(nullable=False)]),
        "types_parquet": Spec([types(nullable=True)], form="parquet"),
        "orders": Spec([orders(0, 4_000), orders(4_000, 3_000), orders(7_000, 3_000)]),
        "orders_by_status": Spec(
            [orders(0, 4_000), orders(4_000, 3_000), orders(7_000, 3_000)], ["--partition-by", "status,year"]
        ),
        "orders_keyed": Spec([orders(0, 10_000)], ["--key", "order_id", "--sort-by", "ordered_on,order_id"]),
        "customers": Spec([customers()], form="csv"),
        "places": Spec([places()], ["--partition-by", "place"]),
        "days": Spec([days()], ["--partition-by", "d,k,flag"]),
        "floats": Spec([floats(0, 400, False), floats(400, 300, True), floats(700, 300, False)]),
        "sorted": Spec([sorted_rows()], ["--sort-by", "region,t"]),
        "names": Spec([names()]),
        "clocks": Spec([clocks().slice(0, 600), clocks().slice(600)], ["--key", "u"]),
        "lists": Spec([lists().slice(0, 400), lists().slice(400)]),
        "nested": Spec([nested().slice(0, 700), nested().slice(700)], ["--sort-by", "id"]),
        "nested_parquet": Spec([nested()], form="parquet"),
        "wide": Spec([wide()], form="parquet"),
        "short_strings": Spec([short_strings()]),
        "log": Spec([rows(1)]),
    }
    for count in ROW_COUNTS:
        made[f"rows_{count}"] = Spec([rows(count)], form="parquet" if count % 2 else "arrow")
    return made


def read_table(path: Path) -> pa.Table:
    """The rows of a file that this script wrote."""
    if path.suffix == ".parquet":
        return pyarrow.parquet.read_table(path)
    with pa.ipc.open_file(path) as reader:
        return reader.read_all()


def write_table(table: pa.Table, path: Path) -> Path:
    """Writes a table in the form that the path's name asks for."""
    if path.suffix == ".parquet":
        pyarrow.parquet.write_table(table, path, compression="zstd")
    elif path.suffix == ".csv":
        pyarrow.csv.write_csv(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table, max_chunksize=50_000)
    return path


def make(folder: Path, run_import: bool = True) -> dict:
    """Writes the files, the manifest and, with `run_import`, the stores. Returns the manifest."""
    data, stores = folder / "data", folder / "stores"
    data.mkdir(parents=True, exist_ok=True)
    stores.mkdir(exist_ok=True)
    manifest = {}
    for name, spec in specs().items():
        files = []
        for i, table in enumerate(spec.tables):
            files.append(write_table(table, data / f"{name}.{i}.arrow").name)
            source = data / f"{name}.{i}.{spec.form}"
            if spec.form != "arrow":
                write_table(table, source)
            if run_import:
                support.soa("import", source, stores / f"{name}.soa", *spec.options)
        manifest[name] = {"files": files, "options": spec.options, "form": spec.form}
    _extra(data, stores, manifest, run_import)
    (folder / "manifest.json").write_text(json.dumps(manifest, indent=1))
    return manifest


def _extra(data: Path, stores: Path, manifest: dict, run_import: bool) -> None:
    """Stores whose rows are read otherwise than they were written, batches to import, and what Rust alone can make."""
    write_table(encodings_plain(), data / "encodings.0.arrow")
    source = write_table(encodings(), data / "encodings.source.arrow")
    manifest["encodings"] = {"files": ["encodings.0.arrow"], "options": [], "form": "arrow"}
    write_table(rust_types(), data / "rust_types.0.arrow")
    manifest["rust_types"] = {"files": ["rust_types.0.arrow"], "options": [], "form": "rust"}
    for i in range(1, 4):
        write_table(rows(3_000 * i + 1).slice(3_000 * (i - 1) + 1), data / f"log.{i}.arrow")
    if run_import:
        support.soa("import", source, stores / "encodings.soa")
        subprocess.run([support.example("make_test_stores"), stores], check=True, stdin=subprocess.DEVNULL)


def main() -> int:
    parser = argparse.ArgumentParser(description="Makes the stores that the tests query.")
    parser.add_argument("--no-import", action="store_true", help="write the files and the manifest only")
    parser.add_argument("folder", type=Path)
    arguments = parser.parse_args()
    manifest = make(arguments.folder, not arguments.no_import)
    print(f"{len(manifest)} stores in {arguments.folder}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
