"""The engines that the SQL test suite runs on, each behind the same small class.

`duckdb` is DuckDB with the extension, reading stores; `postgres` is Postgres with its extension, a foreign table per
store. `native` and `pgnative` are the two without extensions, with the same rows in tables of their own: they prove
that the expected results are the engines' own, and that the files say nothing that only a store would.

Text is compared byte by byte in both: DuckDB does that always, and the databases made here have the collation "C".
"""

from __future__ import annotations

import datetime
import functools
import itertools
import json
import shutil
from dataclasses import dataclass
from pathlib import Path

import pg_server
import support


class EngineError(Exception):
    """An engine, or the `soa` command, refused; the message is the engine's own."""


@dataclass
class Result:
    """Rows of Python values; `singles` says per column whether it is a float of 32 bits."""

    rows: list[tuple]
    singles: list[bool]


class Engine:
    """A database session in which stores appear as tables."""

    name: str
    # Whether integers of more than 64 bits, such as a sum of bigint, are numbers of the type numeric.
    wide_integers_are_numeric = False

    def __init__(self, stores: Path, scratch: Path):
        self.stores = stores
        self.scratch = scratch

    def attach(self, name: str, copy: bool) -> None:
        """Makes the store `name` a table of that name; with `copy`, a copy of it in the scratch folder."""
        raise NotImplementedError

    def execute(self, connection: str, sql: str) -> Result:
        """Runs SQL on the connection of that name (opened when first named)."""
        raise NotImplementedError

    def soa(self, arguments: list[str]) -> None:
        """Runs the `soa` command."""
        done = support.soa(*arguments, check=False)
        if done.returncode != 0:
            raise EngineError(done.stderr + done.stdout)

    def close(self) -> None:
        """Ends the session."""
        raise NotImplementedError

    def files(self, name: str) -> list[Path]:
        """The files with the rows of a store, one per commit."""
        folder = self.stores.parent
        manifest = json.loads((folder / "manifest.json").read_text())
        if name not in manifest:
            raise EngineError(f"the manifest has no store {name}")
        return [folder / "data" / file for file in manifest[name]["files"]]

    def place(self, name: str, copy: bool) -> Path:
        """The folder of a store, copied first where asked for."""
        folder = self.stores / f"{name}.soa"
        if not folder.is_dir():
            raise EngineError(f"there is no store {folder}; tests/make_stores.py makes them")
        if copy:
            target = self.scratch / f"{name}.soa"
            shutil.copytree(folder, target)
            return target
        return folder


class DuckDB(Engine):
    """DuckDB with the extension: a store is a view over soa_scan."""

    name = "duckdb"

    def __init__(self, stores: Path, scratch: Path):
        super().__init__(stores, scratch)
        self.database = self._open()
        self.connections: dict = {}

    def _open(self):
        return support.connect()

    def attach(self, name: str, copy: bool) -> None:
        folder = self.place(name, copy)
        self.execute("default", f'CREATE OR REPLACE VIEW "{name}" AS FROM soa_scan({support.quote(folder)})')

    def execute(self, connection: str, sql: str) -> Result:
        import duckdb

        if connection not in self.connections:
            self.connections[connection] = self.database.cursor()
        cursor = self.connections[connection]
        try:
            done = cursor.execute(sql)
            if done.description is None:
                return Result([], [])
            singles = [str(column[1]) == "FLOAT" for column in done.description]
            return Result(done.fetchall(), singles)
        except duckdb.Error as error:
            raise EngineError(str(error)) from None

    def close(self) -> None:
        for cursor in self.connections.values():
            cursor.close()
        self.database.close()


class Native(DuckDB):
    """DuckDB alone: a store's rows in a table, taken from the files the store was made of."""

    name = "native"

    def _open(self):
        return support.connect(load=False)

    def attach(self, name: str, copy: bool) -> None:
        for i, file in enumerate(self.files(name)):
            verb = f'INSERT INTO "{name}"' if i else f'CREATE OR REPLACE TABLE "{name}" AS'
            self._take(verb, file)

    def soa(self, arguments: list[str]) -> None:
        files, table = import_arguments(arguments)
        for file in files:
            self._take(f'INSERT INTO "{table}"', file)

    def _take(self, verb: str, file: Path) -> None:
        from make_stores import read_table

        cursor = self.database.cursor()
        cursor.register("incoming", read_table(file))
        cursor.execute(f"{verb} FROM incoming")
        cursor.unregister("incoming")
        cursor.close()


class Postgres(Engine):
    """Postgres with the extension: a store is a foreign table. Every session has a database of its own."""

    name = "postgres"
    wide_integers_are_numeric = True
    extension = True
    numbers = itertools.count(1)

    def __init__(self, stores: Path, scratch: Path):
        super().__init__(stores, scratch)
        self.server = pg_server.shared(self.extension)
        self.database = f"slt_{next(self.numbers)}"
        self.server.execute(f"CREATE DATABASE {self.database} TEMPLATE template0 LC_COLLATE 'C'")
        self.connections: dict = {}
        self._prepare()

    def _prepare(self) -> None:
        self.execute("default", "CREATE EXTENSION soa_fdw")
        for server, root in (("stores", self.stores), ("scratch", self.scratch)):
            options = f"OPTIONS (root {support.quote(root)})"
            self.execute("default", f"CREATE SERVER {server} FOREIGN DATA WRAPPER soa_fdw {options}")

    def attach(self, name: str, copy: bool) -> None:
        self.place(name, copy)
        self.execute("default", f'DROP FOREIGN TABLE IF EXISTS "{name}"')
        server = "scratch" if copy else "stores"
        self.execute("default", f'IMPORT FOREIGN SCHEMA "." LIMIT TO ("{name}") FROM SERVER {server} INTO public')

    def connection(self, name: str):
        """The psycopg connection of that name, opened when first named."""
        if name not in self.connections:
            # Only what a file prepares is prepared.
            connection = self.server.connect(self.database, prepare_threshold=None)
            for kind, loader in _loaders().items():
                connection.adapters.register_loader(kind, loader)
            self.connections[name] = connection
        return self.connections[name]

    def execute(self, connection: str, sql: str) -> Result:
        import psycopg

        try:
            cursor = self.connection(connection).execute(sql)
            if cursor.description is None:
                return Result([], [])
            return Result(cursor.fetchall(), [column.type_code == FLOAT4 for column in cursor.description])
        except psycopg.Error as error:
            raise EngineError(f"{error.sqlstate or type(error).__name__}: {error}") from None

    def close(self) -> None:
        for connection in self.connections.values():
            connection.close()
        self.server.execute(f"DROP DATABASE {self.database} WITH (FORCE)")


class PgNative(Postgres):
    """Postgres alone: a store's rows in a table, taken from the files the store was made of."""

    name = "pgnative"
    extension = False

    def _prepare(self) -> None:
        pass

    def attach(self, name: str, copy: bool) -> None:
        from make_stores import read_table

        tables = [read_table(file) for file in self.files(name)]
        columns = ", ".join(f"{_identifier(field.name)} {_column_type(field, tables)}" for field in tables[0].schema)
        self.execute("default", f'DROP TABLE IF EXISTS "{name}"')
        self.execute("default", f'CREATE TABLE "{name}" ({columns})')
        for table in tables:
            self._take(name, table)

    def soa(self, arguments: list[str]) -> None:
        from make_stores import read_table

        files, table = import_arguments(arguments)
        for file in files:
            self._take(table, read_table(file))

    def _take(self, name: str, table) -> None:
        with self.connection("default").cursor().copy(f'COPY "{name}" FROM STDIN') as copy:
            for batch in table.to_batches(10_000):
                for row in zip(*(column.to_pylist() for column in batch.columns)):
                    copy.write_row([_interval(value) if isinstance(value, datetime.timedelta) else value for value in row])


def _interval(length: datetime.timedelta) -> str:
    """A length of time without days: to Postgres a day is something else than 24 hours."""
    return f"{length // datetime.timedelta(microseconds=1)} microseconds"


FLOAT4 = 700  # the type's number in Postgres' catalogue


@functools.cache
def _loaders() -> dict[str, type]:
    """How dates and times are read that Python's types cannot hold: as text, in DuckDB's notation."""
    import psycopg
    from psycopg.types import datetime as stock

    def wider(loader: type) -> type:
        class Wider(loader):
            def load(self, data):
                try:
                    return super().load(data)
                except psycopg.DataError:
                    day, *rest = bytes(data).decode().split(" ")
                    if rest[-1:] == ["BC"]:
                        day, rest = f"{day} (BC)", rest[:-1]
                    return " ".join([day, *rest])

        return Wider

    return {
        "date": wider(stock.DateLoader),
        "timestamp": wider(stock.TimestampLoader),
        "timestamptz": wider(stock.TimestamptzLoader),
    }


def import_arguments(arguments: list[str]) -> tuple[list[Path], str]:
    """The files and the table of a `soa import`, the only command that an engine without stores knows."""
    if arguments[:1] != ["import"]:
        raise EngineError(f"an engine without stores knows only `soa import`, not `soa {' '.join(arguments)}`")
    *files, store = map(Path, arguments[1:])
    return files, store.stem


def _identifier(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _column_type(field, tables: list) -> str:
    """The type that the extension gives such a column when it imports the store."""
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_list(field.type) or pa.types.is_large_list(field.type) or pa.types.is_fixed_size_list(field.type):
        element = field.type.value_field.with_nullable(True)
        name = "numeric(20,0)[]" if pa.types.is_uint64(element.type) else f"{_column_type(element, [])}[]"
    elif pa.types.is_uint64(field.type):
        greatest = max((pc.max(table[field.name]).as_py() or 0 for table in tables), default=0)
        name = "bigint" if greatest < 2**63 else "numeric(20,0)"
    elif pa.types.is_decimal(field.type):
        name = f"numeric({field.type.precision},{field.type.scale})"
    elif pa.types.is_timestamp(field.type):
        name = "timestamptz" if field.type.tz else "timestamp"
    else:
        name = PG_TYPES[str(field.type)]
    return name if field.nullable else f"{name} NOT NULL"


PG_TYPES = {
    "bool": "boolean",
    "int8": "smallint",
    "int16": "smallint",
    "int32": "integer",
    "int64": "bigint",
    "uint8": "smallint",
    "uint16": "integer",
    "uint32": "bigint",
    "float": "real",
    "double": "double precision",
    "string": "text",
    "large_string": "text",
    "binary": "bytea",
    "large_binary": "bytea",
    "extension<arrow.uuid>": "uuid",
    "time64[us]": "time",
    "duration[us]": "interval",
    "date32[day]": "date",
}

ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (DuckDB, Native, Postgres, PgNative)}
