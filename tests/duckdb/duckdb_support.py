"""What the extension's own tests share."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import duckdb
import pyarrow as pa
import pyarrow.ipc

ROOT = Path(__file__).resolve().parents[2]
DIST = Path(os.environ.get("SOA_DIST", ROOT / "dist"))


def quote(value: object) -> str:
    """An SQL string literal."""
    return "'" + str(value).replace("'", "''") + "'"


def connect(**config: object):
    """A database in memory with the extension loaded."""
    connection = duckdb.connect(config={"allow_unsigned_extensions": "true"} | {k: str(v) for k, v in config.items()})
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    connection.execute(f"LOAD {quote(DIST / 'soa.duckdb_extension')}")
    return connection


class Store:
    """A store that a test fills, commit by commit."""

    def __init__(self, path: Path):
        self.path = path
        self.sql = quote(path)

    def commit(self, *tables: pa.Table, options: tuple[str, ...] = ()) -> None:
        """Appends each table in a commit of its own."""
        files = []
        for number, table in enumerate(tables):
            file = self.path.parent / f"{self.path.name}.{number}.arrow"
            with pa.ipc.new_file(file, table.schema) as writer:
                writer.write_table(table)
            files.append(str(file))
        command = [str(DIST / "examples" / "write_store"), str(self.path), *options, *files]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}"


def ids(first: int, count: int) -> pa.Table:
    """Rows with the numbers from `first` on."""
    return pa.table({"id": pa.array(range(first, first + count), pa.int64())})
