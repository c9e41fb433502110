"""Outside readers see the rows that DuckDB sees through the extension: the same folders, read by Polars, by delta-rs
(through Arrow and with its own engine), by ClickHouse and by DuckDB's own Delta extension; whole and under filters that let
them prune by partition and by the log's statistics; unpartitioned, partitioned, sorted, empty, and after several commits.

Where a reader cannot show a value, the case leaves that out and says why here:
- nobody else has unsigned 64-bit integers: from 2^63 on they read the same 64 bits as a negative number;
- ClickHouse's dates end at 1900 and 2299;
- ClickHouse has no list, map or struct that is NULL: it reads one without elements;
- to ClickHouse and to Arrow's comparisons NaN is not above everything, as it is to the others.
"""

from __future__ import annotations

import functools
import json
from pathlib import Path

import pytest

import support
from make_stores import TYPES
from read_with import READERS, double_quoted, literal, sql, texts

READ_WITH = Path(__file__).resolve().parent / "read_with.py"
ALL_TYPES = [name for name, _ in TYPES]
# Rows of `types` whose dates ClickHouse has: see the module's docstring.
MODERN = ["id", "in", 1, 4, 5, 7, 8, 9]
NAN_IS_NOT_ABOVE = ("clickhouse", "deltalake")
ORDERS = ["order_id", "customer_id", "status", "year", "ordered_on", "amount", "quantity", "price", "note"]
ROWS = ["id", "v", "s", "o", "t"]


def case(store: str, columns: list[str], *where: list, without: tuple[str, ...] = ()) -> dict:
    """What is read from a store; `without` names readers for which it is left out."""
    return {"store": store, "columns": columns, "where": list(where), "without": without}


def _orders(store: str) -> list[dict]:
    return [
        case(store, ORDERS),
        case(store, ["order_id", "amount"], ["status", "=", "Shipped"]),
        case(store, ["order_id"], ["status", "in", "Pending", "Cancelled"], ["year", "=", 2023]),
        case(store, ["order_id", "status"], ["year", "<>", 2023], ["quantity", ">=", 8]),
        case(store, ["order_id"], ["order_id", ">", 6998], ["order_id", "<=", 7002]),
        case(store, ["order_id"], ["order_id", "=", 4242]),
        case(store, ["order_id"], ["order_id", "=", 99999]),
        case(store, ["order_id"], ["ordered_on", "<", {"date": "2022-01-05"}]),
        case(store, ["order_id"], ["amount", ">", {"decimal": "995.00"}]),
        case(store, ["order_id"], ["price", "=", 12.5]),
        case(store, ["order_id"], ["note", "is null"], ["status", "=", "Delivered"]),
        case(store, ["order_id"], ["note", "=", "note 07 of order"]),
        case(store, ["order_id"], ["status", "=", "NoSuchStatus"]),
    ]


def _types(store: str) -> list[dict]:
    return [
        case(store, ALL_TYPES, without=("clickhouse",)),
        case(store, ALL_TYPES, MODERN),
        case(store, ["id"], ["b", "=", True]),
        case(store, ["id"], ["i8", "=", -128]),
        case(store, ["id"], ["i64", "=", 9223372036854775807]),
        case(store, ["id"], ["u8", ">", 127]),
        case(store, ["id"], ["u16", "=", 65535]),
        case(store, ["id"], ["u32", ">", 2147483647]),
        case(store, ["id"], ["f64", ">", 1e300], without=NAN_IS_NOT_ABOVE),
        case(store, ["id"], ["f64", "<", -1e300]),
        case(store, ["id"], ["f64", "=", 0.0]),
        case(store, ["id"], ["f32", "=", 0.5]),
        case(store, ["id"], ["dec9", "=", {"decimal": "-0.01"}]),
        case(store, ["id"], ["dec18", ">=", {"decimal": "999999999999.999999"}]),
        case(store, ["id"], ["s", "=", ""]),
        case(store, ["id"], ["s", "=", "Straße 東京 🦆 ﬁn"]),
        case(store, ["id"], ["s", "is null"]),
        case(store, ["id"], ["d", "<", {"date": "1970-01-01"}], MODERN),
        case(store, ["id"], ["ts", "=", {"timestamp": "1969-12-31 23:59:59.999999"}]),
        case(store, ["id"], ["tz", ">=", {"instant": "2024-02-29 12:34:56.789012"}], MODERN),
    ]


CASES = [
    *_orders("orders"),
    *_orders("orders_by_status"),
    *_orders("orders_keyed"),
    *_types("types"),
    *_types("types_parquet"),
    case("types_required", ALL_TYPES, ["id", "in", 1, 4, 5, 7, 8]),
    case("rows_0", ROWS),
    case("rows_1", ROWS),
    case("rows_2049", ROWS),
    case("rows_122881", ROWS),
    case("rows_122881", ["id"], ["id", ">=", 122879]),
    case("rows_122881", ["id", "s"], ["t", "<", {"instant": "2020-01-01 00:05:00"}]),
    case("places", ["id", "place", "n"]),
    case("places", ["id"], ["place", "=", "a/b"]),
    case("places", ["id"], ["place", "=", "100%25"]),
    case("places", ["id"], ["place", "in", "東京", "with space", ".."]),
    case("places", ["id"], ["place", "is null"]),
    case("days", ["id", "d", "k", "flag", "t"]),
    case("days", ["id"], ["d", "=", {"date": "1969-12-31"}], ["k", "=", -1]),
    case("days", ["id"], ["flag", "=", True], ["k", ">=", 0]),
    case("floats", ["id", "f", "g"]),
    case("floats", ["id"], ["f", ">", 40.0], without=NAN_IS_NOT_ABOVE),
    case("floats", ["id"], ["f", "<", -60.0]),
    case("floats", ["id"], ["f", "=", 0.0]),
    case("floats", ["id"], ["f", "is null"]),
    case("sorted", ["id", "region", "t"]),
    case("sorted", ["id"], ["region", "=", "region 3"], ["t", "<", {"timestamp": "2021-01-01 00:10:00"}]),
    case("names", ["select", "Straße", "MixedCase", "a-b", "列", "_leading"]),
    case("wide", ["c199", "c000", "c050"], ["c120", ">", 120_490]),
    case("customers", ["customer_id", "name", "country"]),
    case("short_strings", ["n", "s", "bin"]),
    case("encodings", ["id", "dict_text", "ts_s", "ts_ns", "tz_vienna", "date64"]),
    case("rust_types", ["id", "level", "maybe_level", "maybe_text", "micros", "maybe_micros", "day", "wall"]),
    case("lists", ["id", "tags", "numbers", "small", "vector", "wide", "flags", "money"], without=("clickhouse",)),
    case("lists", ["id", "small", "wide", "days", "times", "raw"]),
    case("lists", ["id", "tags"], ["id", "<=", 3]),
    case("nested", ["id", "places", "matrix", "by_number"]),
    case("nested", ["id", "place", "stock"], without=("clickhouse",)),
    case("nested", ["id", "place"], ["id", "in", 1, 2, 999]),
    case("nested_parquet", ["id", "place", "places", "stock", "by_number", "matrix"], without=("clickhouse",)),
    case("rust_types", ["id"], ["level", "=", "Äußerst"], ["maybe_u8", ">", 100]),
]


def through_extension(connection, folder: Path, columns: list[str], where: list) -> list[list[str]]:
    """The rows that the extension gives, in the form in which the readers' rows come."""
    names = ", ".join(map(double_quoted, columns))
    scan = f"SELECT {names} FROM soa_scan({support.quote(folder)})"
    done = connection.execute(scan + sql(where, literal, double_quoted))
    singles = [str(column[1]) == "FLOAT" for column in done.description]
    unsigned = [str(column[1]) == "UBIGINT" for column in done.description]
    rows = [
        tuple(v - 2**64 if u and v is not None and v >= 2**63 else v for v, u in zip(row, unsigned))
        for row in done.fetchall()
    ]
    return texts(rows, singles)


def read_with(reader: str, folder: Path, cases: list[dict], tmp_path: Path) -> list[dict]:
    """What the outside reader answers in each case: `{"rows": ...}` or `{"error": ...}`."""
    jobs = [{"folder": str(folder / f"{c['store']}.soa"), "columns": c["columns"], "where": c["where"]} for c in cases]
    path = tmp_path / f"{reader}.json"
    path.write_text(json.dumps(jobs))
    python = support.delta_python() if reader == "duckdb_delta" else None
    answers = [json.loads(line) for line in support.run_python(READ_WITH, reader, path, python=python).splitlines()]
    assert len(answers) == len(cases)
    return answers


def compare(expected: list[list[str]], answer: dict, reader: str, asked: dict) -> None:
    """Fails with the first rows that differ."""
    if "error" in answer:
        pytest.fail(f"{reader}, {asked}: {answer['error']}")
    actual = answer["rows"]
    if expected == actual:
        return
    missing = [row for row in expected if row not in actual][:3]
    extra = [row for row in actual if row not in expected][:3]
    pytest.fail(
        f"{reader}, {asked}: {len(expected)} rows through the extension, {len(actual)} here\n"
        f"only through the extension: {missing}\nonly here: {extra}"
    )


@pytest.fixture(scope="session")
def answers(stores: Path, tmp_path_factory):
    """The answers of a reader to all cases, by the case's place in CASES; one process per reader."""
    folder = tmp_path_factory.mktemp("jobs")

    @functools.cache
    def of(reader: str) -> dict[int, dict]:
        places = [i for i, c in enumerate(CASES) if reader not in c["without"]]
        return dict(zip(places, read_with(reader, stores, [CASES[i] for i in places], folder)))

    return of


@pytest.mark.parametrize("store", sorted({c["store"] for c in CASES}))
@pytest.mark.parametrize("reader", sorted(READERS))
def test_rows_are_equal(reader: str, store: str, stores: Path, duck, answers):
    for i, answer in answers(reader).items():
        asked = CASES[i]
        if asked["store"] == store:
            expected = through_extension(duck, stores / f"{store}.soa", asked["columns"], asked["where"])
            compare(expected, answer, reader, asked)


@pytest.mark.parametrize("reader", sorted(READERS))
def test_rows_are_equal_after_every_commit(reader: str, made: Path, duck, tmp_path: Path):
    """A store that grows: each reader sees each commit."""
    store = tmp_path / "log.soa"
    asked = [case("log", ROWS), case("log", ["id"], ["id", ">", 2_990], ["id", "<", 6_010])]
    for i in range(4):
        support.soa("import", made / "data" / f"log.{i}.arrow", store)
        assert duck.execute(f"SELECT count(*) FROM soa_scan({support.quote(store)})").fetchone() == (3_000 * i + 1,)
        for one, answer in zip(asked, read_with(reader, tmp_path, asked, tmp_path)):
            compare(through_extension(duck, store, one["columns"], one["where"]), answer, reader, one)
