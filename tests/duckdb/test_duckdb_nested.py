"""Enums inside lists, structs and maps: texts to DuckDB, whatever a chunk of rows has of them."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pytest

import make_stores
import support
from duckdb_support import connect

ROWS = 10_000
KINDS = {
    "list(enum(a,b)?)": lambda value: [value],
    "list(list(enum(a,b)))": lambda value: [[value], []],
    "array(enum(a,b)?, 2)": lambda value: [value, "b"],
    "struct(l: list(enum(a,b)), e: enum(a,b)?)": lambda value: {"l": [value], "e": value},
    "map(string, list(enum(a,b)))": lambda value: {"k": [value]},
}


def arrow_type(kind: str) -> pa.DataType:
    text = pa.string()
    return {
        "list(enum(a,b)?)": pa.list_(text),
        "list(list(enum(a,b)))": pa.list_(pa.list_(pa.field("element", text, nullable=False))),
        "array(enum(a,b)?, 2)": pa.list_(text, 2),
        "struct(l: list(enum(a,b)), e: enum(a,b)?)": pa.struct([("l", pa.list_(pa.field("element", text, nullable=False))), ("e", text)]),
        "map(string, list(enum(a,b)))": pa.map_(text, pa.list_(pa.field("element", text, nullable=False))),
    }[kind]


@pytest.mark.parametrize("kind", KINDS)
def test_enums_inside_others_are_texts(tmp_path: Path, kind: str):
    """Chunks without any value, with one, and with many; rows of before there was such a column."""
    store = tmp_path / "s.soa"
    ids = pa.table({"id": pa.array(range(ROWS), pa.int64())})
    support.soa("import", make_stores.write_table(ids, tmp_path / "ids.arrow"), store)
    support.soa("alter", store, "--add-column", f"c:{kind}")
    values = [None] * (ROWS - 1) + ["a"] + ["ab"[n % 2] if n % 3 else None for n in range(ROWS)]
    made = [None if value is None else KINDS[kind](value) for value in values]
    more = pa.table({"id": pa.array(range(ROWS, ROWS + len(values)), pa.int64()), "c": pa.array(made, arrow_type(kind))})
    support.soa("import", make_stores.write_table(more, tmp_path / "more.arrow"), store)
    support.soa("delete", store, "--where", f"id = 7 OR id = {ROWS + 1} OR id = {2 * ROWS + 5}")
    expected = [(id, None) for id in range(ROWS)] + list(zip(range(ROWS, ROWS + len(made)), made))
    expected = [row for row in expected if row[0] not in (7, ROWS + 1, 2 * ROWS + 5)]
    with connect() as connection:
        found = connection.execute(f"SELECT id, c FROM soa_scan({support.quote(store)}) ORDER BY id").fetchall()
        assert [(id, list(c) if isinstance(c, tuple) else c) for id, c in found] == expected
        counted = connection.execute(f"SELECT count(c), count(*) FROM soa_scan({support.quote(store)}) WHERE c IS NOT NULL")
        present = sum(c is not None for _, c in expected)
        assert counted.fetchall() == [(present, present)]
