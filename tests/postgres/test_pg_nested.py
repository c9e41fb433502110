"""Arrays and jsonb as the extension writes them are those that Postgres itself makes of the same values: of every type of
element, of many elements, of long and odd texts, of floats at their ends, and in other encodings.
"""

from __future__ import annotations

import datetime
import decimal
import math
import uuid
from collections.abc import Iterator

import psycopg
import pyarrow as pa
import pytest

import make_stores
import support
from pg_support import Database, error, rows

FLOATS = [0.0, -0.0, 1.0, -1.5, 1e300, -1e-300, 5e-324, 1.7976931348623157e308, 0.1, 123456.789, 1e15, 1e16, 1e-5, 100.0, 12345678.0]
FLOATS += [math.nan, math.inf, -math.inf, None, 2.0**70, 1 / 3, 9999.0, 10000.0, 0.0001, 0.00001]
COUNTS = [0, 1, 2, 31, 32, 33, 64, 65, 1000]
NUMERIC = pa.decimal128(38, 10)
KINDS: dict[str, tuple[str, pa.DataType, list]] = {
    "flags": ("boolean", pa.bool_(), [True, None, False]),
    "i8s": ("smallint", pa.int8(), [-128, 127, None]),
    "i16s": ("smallint", pa.int16(), [-32768, None, 32767]),
    "i32s": ("integer", pa.int32(), [None, -(2**31), 2**31 - 1]),
    "i64s": ("bigint", pa.int64(), [-(2**63), 2**63 - 1]),
    "u8s": ("smallint", pa.uint8(), [0, 255]),
    "u64s": ("numeric", pa.uint64(), [0, 2**64 - 1, None]),
    "f32s": ("real", pa.float32(), [0.5, -0.25, None]),
    "f64s": ("double precision", pa.float64(), FLOATS),
    "numbers": ("numeric", NUMERIC, [decimal.Decimal("9" * 28 + "." + "9" * 10), decimal.Decimal("-0.0000000001"), None]),
    "texts": ("text", pa.string(), ["", "a", "Straße", "東京" * 500, 'quote " and \\ back', "\x01\n\t", None, "x" * 3]),
    "bytes": ("bytea", pa.binary(), [b"", b"\x00\xff", None, b"y" * 5000]),
    "days": ("date", pa.date32(), [datetime.date(1, 1, 1), datetime.date(9999, 12, 31), None, datetime.date(2024, 2, 29), datetime.date(1900, 2, 28)]),
    # Years that Python has not: 4714 BC, 1 BC, 10000.
    "far_days": ("date", pa.date32(), [-2440588, -719529, 2932897]),
    "far_walls": ("timestamp", pa.timestamp("us"), [-62167305600000001, 253402300800000000, -210866803200000000]),
    "midnights": ("time", pa.time64("us"), [86_400_000_000, 0]),
    "walls": ("timestamp", pa.timestamp("us"), [datetime.datetime(2024, 2, 29, 1, 2, 3, 456), None, datetime.datetime(1, 1, 1, 0, 0, 0, 500000)]),
    "instants": ("timestamptz", pa.timestamp("us", tz="UTC"), [datetime.datetime(1969, 12, 31, 23, 59, tzinfo=datetime.timezone.utc)]),
    "clocks": ("time", pa.time64("us"), [datetime.time(0, 0), None, datetime.time(23, 59, 59, 999999), datetime.time(1, 2, 3, 120000)]),
    "lengths": ("interval", pa.duration("us"), [datetime.timedelta(microseconds=-1), None, datetime.timedelta(hours=25)]),
    "ids": ("uuid", pa.uuid(), [uuid.UUID(int=0).bytes, None, uuid.UUID(int=2**128 - 1).bytes]),
}


def lists(values: list) -> list:
    """No list, an empty one, one of NULL, all values, and some of them many times."""
    return [None, [], [None], values, values[:1], *([values[k % len(values)] for k in range(count)] for count in COUNTS)]


def list_array(values: list, kind: pa.DataType) -> pa.Array:
    """The lists of these values as Arrow has them; pyarrow makes none of UUIDs by itself."""
    found = lists(values)
    if kind != pa.uuid():
        return pa.array(found, pa.list_(kind))
    plain = pa.array(found, pa.list_(pa.binary(16)))
    elements = pa.ExtensionArray.from_storage(kind, plain.values)
    return pa.ListArray.from_arrays(plain.offsets, elements, mask=plain.is_null())


@pytest.fixture(scope="module")
def nested(pg) -> Iterator[Database]:
    """Stores of lists of every type, and of structs and maps."""
    with support.public_folder("soa-nested-") as folder, Database(pg, folder) as database:
        count = len(lists([1]))
        columns = {"id": pa.array(range(count), pa.int32())}
        made = {name: list_array(values, kind) for name, (_, kind, values) in KINDS.items()}
        columns |= made
        support.soa("import", make_stores.write_table(pa.table(columns), folder / "lists.arrow"), folder / "lists.soa")
        first_is_null = pa.array([row == 0 for row in range(count)])
        structs = pa.StructArray.from_arrays(list(made.values()), names=list(made), mask=first_is_null)
        maps = [[(f"{'k' * (k % 7)}{k}", k) for k in range(size)] for size in (*COUNTS, *COUNTS)][:count]
        table = pa.table(
            {
                "id": pa.array(range(count), pa.int32()),
                "all": structs,
                "map": pa.array(maps, pa.map_(pa.string(), pa.int64())),
                "floats": pa.array([[{"f": value} for value in FLOATS]] * count, pa.list_(pa.struct([("f", pa.float64())]))),
            }
        )
        support.soa("import", make_stores.write_table(table, folder / "structs.arrow"), folder / "structs.soa")
        database.import_all()
        yield database


@pytest.fixture
def session(nested: Database) -> Iterator[psycopg.Connection]:
    with nested.connect() as connection:
        connection.execute("SET TimeZone = 'UTC'")
        connection.execute("SET extra_float_digits = 1")
        yield connection


@pytest.mark.parametrize("name", KINDS)
def test_arrays_are_those_that_postgres_makes(session, name):
    pg_type, kind, values = KINDS[name]
    declared = rows(session, f"SELECT format_type(atttypid, atttypmod) FROM pg_attribute WHERE attrelid = 'lists'::regclass AND attname = '{name}'")
    assert declared[0][0].startswith(pg_type.split("stamp")[0]) and declared[0][0].endswith("[]")
    # Equal as values, as texts, and to the last byte: what was written here, and what Postgres made of its text.
    own = f"SELECT id, \"{name}\" AS a, \"{name}\"::text::{pg_type}[] AS b FROM lists"
    wrong = rows(
        session,
        f"SELECT id FROM ({own}) x WHERE a IS DISTINCT FROM b OR a::text IS DISTINCT FROM b::text"
        " OR array_send(a) IS DISTINCT FROM array_send(b) OR pg_column_size(a) IS DISTINCT FROM pg_column_size(b)",
    )
    assert wrong == []
    lengths = rows(session, f'SELECT cardinality("{name}") FROM lists ORDER BY id')
    assert [length for (length,) in lengths] == [None if found is None else len(found) for found in lists(values)]
    taken_apart = rows(session, f'SELECT count(*), count(x) FROM (SELECT unnest("{name}") AS x FROM lists WHERE id = 3) y')
    assert taken_apart == [(len(values), sum(value is not None for value in values))]


def test_jsonb_is_that_which_postgres_makes(session):
    for column in ('"all"', "map", "floats"):
        wrong = rows(
            session,
            f"SELECT id FROM structs WHERE {column} IS DISTINCT FROM {column}::text::jsonb"
            f" OR {column}::text IS DISTINCT FROM {column}::text::jsonb::text"
            f" OR pg_column_size({column}) IS DISTINCT FROM pg_column_size({column}::text::jsonb)"
            f" OR jsonb_send({column}) IS DISTINCT FROM jsonb_send({column}::text::jsonb)",
        )
        assert wrong == [], column


def test_jsonb_has_what_to_jsonb_has(session):
    """The fields of the struct are the same lists as the columns of the other store."""
    for name in KINDS:
        if name == "bytes":
            continue  # to_jsonb writes as bytea_output says
        wrong = rows(
            session,
            f"SELECT s.id, s.\"all\"->'{name}', to_jsonb(l.\"{name}\") FROM structs s JOIN lists l USING (id)"
            f" WHERE s.id > 0 AND s.\"all\"->'{name}' IS DISTINCT FROM coalesce(to_jsonb(l.\"{name}\"), 'null')",
        )
        assert wrong == [], name


def test_every_key_of_a_large_map_is_found(session):
    found = rows(
        session,
        "SELECT count(*) FROM structs, jsonb_each(map) e WHERE map->e.key IS DISTINCT FROM e.value OR NOT map ? e.key",
    )
    assert found == [(0,)]
    assert rows(session, "SELECT max((SELECT count(*) FROM jsonb_object_keys(map))) FROM structs") == [(1000,)]


def test_what_cannot_be_converted_is_an_error(nested, session):
    nested.execute("CREATE FOREIGN TABLE narrow (u64s bigint[]) SERVER stores OPTIONS (path 'lists.soa')")
    assert error(session, "SELECT * FROM narrow").sqlstate == "22003"
    nested.execute("CREATE FOREIGN TABLE other (texts integer[]) SERVER stores OPTIONS (path 'lists.soa')")
    refused = error(session, "SELECT * FROM other")
    assert "list(string?)" in str(refused) and "text[]" in str(refused)
    nested.execute('CREATE FOREIGN TABLE flat ("all" text) SERVER stores OPTIONS (path \'structs.soa\')')
    assert "jsonb" in str(error(session, "SELECT * FROM flat"))


def test_another_encoding_has_texts_converted(pg, nested):
    with Database(pg, nested.root, "LATIN1") as latin:
        latin.import_all()
        with latin.connect(client_encoding="UTF8") as session:
            # 東京 is not of that encoding.
            assert error(session, "SELECT texts FROM lists WHERE id = 3").sqlstate == "22P05"
            assert rows(session, "SELECT texts[1] FROM lists WHERE id = 4") == [("",)]
            assert rows(session, "SELECT map->'k1' FROM structs WHERE id = 5") == [(1,)]
