"""Reads Delta tables with one outside reader; run in a process of its own.

`read_with.py READER JOBS` reads the list of jobs in the JSON file JOBS, each `{"folder", "columns", "where"}`, and prints
for each one line of JSON: `{"rows": [...]}`, sorted, as the texts that tests/values.py defines, or `{"error": TEXT}`. A
process per reader, because the readers bring their own copies of the same libraries, and one of them runs in another
Python environment.

`where` is a list of conditions that must all hold, `[COLUMN, OPERATOR, VALUE...]`; a value is JSON, or
`{"date" | "timestamp" | "instant" | "decimal": TEXT}`. Each reader gets the conditions in its own form and applies them
itself, so that its own pruning by partitions and by the log's statistics is at work.
"""

from __future__ import annotations

import datetime
import decimal
import json
import os
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import values  # noqa: E402  (the path must be there first)

UTC = datetime.timezone.utc


def python_value(value):
    """A condition's value as Python's own type."""
    if not isinstance(value, dict):
        return value
    ((kind, text),) = value.items()
    if kind == "date":
        return datetime.date.fromisoformat(text)
    if kind == "timestamp":
        return datetime.datetime.fromisoformat(text)
    if kind == "instant":
        return datetime.datetime.fromisoformat(text).replace(tzinfo=UTC)
    if kind == "decimal":
        return decimal.Decimal(text)
    raise ValueError(f"unknown kind of value: {kind}")


def sql(where: list, literal, quoted) -> str:
    """The conditions as SQL."""
    parts = []
    for column, operator, *operands in where:
        right = [literal(operand) for operand in operands]
        if operator == "in":
            parts.append(f"{quoted(column)} IN ({', '.join(right)})")
        else:
            parts.append(" ".join([quoted(column), operator, *right]))
    return f" WHERE {' AND '.join(parts)}" if parts else ""


def literal(value) -> str:
    """An SQL literal as DuckDB and DataFusion take it."""
    if isinstance(value, dict):
        ((kind, text),) = value.items()
        types = {"date": "DATE", "timestamp": "TIMESTAMP", "instant": "TIMESTAMPTZ"}
        if kind == "decimal":
            # A bare number is a float to DataFusion.
            return f"CAST('{text}' AS DECIMAL(18, {len(text.partition('.')[2])}))"
        return f"{types[kind]} '{text}+00'" if kind == "instant" else f"{types[kind]} '{text}'"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return repr(value)


def clickhouse_literal(value) -> str:
    if isinstance(value, dict):
        ((kind, text),) = value.items()
        if kind == "date":
            return f"toDate32('{text}')"
        if kind in ("timestamp", "instant"):
            return f"toDateTime64('{text}', 6, 'UTC')"
        digits = len(text.partition(".")[2])
        return f"toDecimal128('{text}', {digits})"
    if isinstance(value, str):
        return "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"
    return literal(value)


def double_quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def back_quoted(name: str) -> str:
    return "`" + name.replace("\\", "\\\\").replace("`", "\\`") + "`"


def expression(where: list, column_of, valued, both):
    """The conditions as an expression object of Polars or Arrow."""
    whole = None
    for name, operator, *operands in where:
        column, right = column_of(name), [valued(operand) for operand in operands]
        part = {
            "=": lambda: column == right[0],
            "<>": lambda: column != right[0],
            "<": lambda: column < right[0],
            "<=": lambda: column <= right[0],
            ">": lambda: column > right[0],
            ">=": lambda: column >= right[0],
            "in": lambda: both["in"](column, right),
            "is null": lambda: column.is_null(),
            "is not null": lambda: ~column.is_null(),
        }[operator]()
        whole = part if whole is None else whole & part
    return whole


def polars(job: dict):
    import polars as pl

    frame = pl.scan_delta(job["folder"])
    if job["where"]:
        frame = frame.filter(expression(job["where"], pl.col, python_value, {"in": lambda c, right: c.is_in(right)}))
    table = frame.select(job["columns"]).collect()
    return table.rows(), [kind == pl.Float32 for kind in table.dtypes]


def polars_read(job: dict):
    """The same, the table read whole and then filtered."""
    import polars as pl

    table = pl.read_delta(job["folder"])
    if job["where"]:
        table = table.filter(expression(job["where"], pl.col, python_value, {"in": lambda c, right: c.is_in(right)}))
    table = table.select(job["columns"])
    return table.rows(), [kind == pl.Float32 for kind in table.dtypes]


def deltalake(job: dict):
    """delta-rs through Arrow's dataset, filtered by Arrow afterwards.

    Not through the argument `filters`: with it, delta-rs 1.6.6 leaves out every file whose statistics have bounds for some
    columns but not for the filter's (booleans, floats with NaN), as if that meant that there is no value.
    """
    import deltalake as dl
    import pyarrow.compute as pc

    table = dl.DeltaTable(job["folder"]).to_pyarrow_table()
    if job["where"]:
        table = table.filter(expression(job["where"], pc.field, python_value, {"in": lambda c, right: c.isin(right)}))
    return _arrow_rows(table.select(job["columns"]))


def deltalake_sql(job: dict):
    """delta-rs' own query engine, DataFusion."""
    import deltalake as dl
    import pyarrow as pa

    builder = dl.QueryBuilder().register("t", dl.DeltaTable(job["folder"]))
    names = ", ".join(map(double_quoted, job["columns"]))
    query = f"SELECT {names} FROM t{sql(job['where'], literal, double_quoted)}"
    return _arrow_rows(pa.table(builder.execute(query).read_all()))


def clickhouse(job: dict):
    import chdb
    import pyarrow as pa

    os.chdir(Path(job["folder"]).parent)  # ClickHouse reads nothing outside its working directory
    names = ", ".join(map(back_quoted, job["columns"]))
    where = sql(job["where"], clickhouse_literal, back_quoted)
    settings = "SETTINGS output_format_arrow_string_as_string = 0, session_timezone = 'UTC'"
    folder = clickhouse_literal(job["folder"])
    answer = chdb.query(f"SELECT {names} FROM deltaLakeLocal({folder}){where} {settings}", "ArrowStream")
    with pa.ipc.open_stream(answer.bytes()) as reader:
        return _arrow_rows(reader.read_all())


def duckdb_delta(job: dict):
    """DuckDB's own Delta extension; this Python has DuckDB 1.5.5."""
    import duckdb
    import duckdb_extension_delta

    package = Path(duckdb_extension_delta.__file__).parent
    (library,) = package.glob("extensions/*/delta.duckdb_extension")
    connection = duckdb.connect()
    connection.execute(f"LOAD '{library}'")
    connection.execute("SET TimeZone = 'UTC'")
    names = ", ".join(map(double_quoted, job["columns"]))
    where = sql(job["where"], literal, double_quoted)
    done = connection.execute(f"SELECT {names} FROM delta_scan({literal(job['folder'])}){where}")
    return done.fetchall(), [str(column[1]) == "FLOAT" for column in done.description]


def _arrow_rows(table):
    import pyarrow as pa

    singles = [kind == pa.float32() for kind in table.schema.types]
    return list(zip(*(column.to_pylist() for column in table.columns))), singles


READERS = {
    reader.__name__: reader for reader in (polars, polars_read, deltalake, deltalake_sql, clickhouse, duckdb_delta)
}


def texts(rows, singles) -> list[list[str]]:
    """Sorted rows of texts, in which some types that not every reader has become one: bytes that are text are text,
    times with and without a zone look alike, a boolean is 0 or 1, and decimals lose the zeros at their end. Of what has
    others inside, a struct and a map look alike, and an integer from 2^63 on is the negative one of the same 64 bits."""
    return sorted([_text(value, single) for value, single in zip(row, singles)] for row in rows)


def _text(value, single: bool) -> str:
    if isinstance(value, (list, tuple, dict)):
        return _nested(value)
    return _plain(value, values.text(value, single))


def _nested(value) -> str:
    entries = None
    if isinstance(value, dict):
        entries = value.items()
    elif isinstance(value, list) and value and all(isinstance(item, tuple) and len(item) == 2 for item in value):
        entries = value
    elif isinstance(value, list) and value and all(isinstance(item, dict) and set(item) == {"key", "value"} for item in value):
        entries = [(item["key"], item["value"]) for item in value]
    if entries:
        return "{" + ", ".join(sorted(f"{_inner(key)}: {_inner(item)}" for key, item in entries)) + "}"
    return "[" + ", ".join(map(_inner, value)) + "]"


def _inner(value) -> str:
    if isinstance(value, int) and value >= 2**63:
        value -= 2**64
    return _text(value, False)


def _plain(value, text: str) -> str:
    if isinstance(value, bytes):
        try:
            return values.text(value.decode())
        except UnicodeDecodeError:
            return text
    if isinstance(value, datetime.datetime) and value.tzinfo:
        return text.removesuffix("+00")
    if isinstance(value, bool):
        return str(int(value))
    if isinstance(value, decimal.Decimal) and "." in text:
        return text.rstrip("0").rstrip(".")
    return text


def main() -> None:
    reader, jobs = sys.argv[1:]
    for job in json.loads(Path(jobs).read_text()):
        try:
            answer = {"rows": texts(*READERS[reader](job))}
        except Exception as error:  # each reader has its own; the test shows the text
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)
    # Two of the readers leave threads behind that abort the process while Python ends.
    os._exit(0)


if __name__ == "__main__":
    main()
