"""The engines that the SQL test suite runs on, each behind the same small class.

`duckdb` is DuckDB with the extension, reading stores. `native` is DuckDB without it, with the same rows in tables of its
own: it proves that the expected results are DuckDB's own, and that the files say nothing that only a store would.
Postgres joins by a class of its own here (a foreign table per store) and an entry in ENGINES.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path

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
        manifest = json.loads((self.stores.parent / "manifest.json").read_text())
        if name not in manifest:
            raise EngineError(f"the manifest has no store {name}")
        files = [self.stores.parent / "data" / file for file in manifest[name]["files"]]
        for i, file in enumerate(files):
            verb = f'INSERT INTO "{name}"' if i else f'CREATE OR REPLACE TABLE "{name}" AS'
            self._take(verb, file)

    def soa(self, arguments: list[str]) -> None:
        if arguments[:1] != ["import"]:
            raise EngineError(f"the native engine knows only `soa import`, not `soa {' '.join(arguments)}`")
        *files, store = arguments[1:]
        for file in files:
            self._take(f'INSERT INTO "{Path(store).stem}"', Path(file))

    def _take(self, verb: str, file: Path) -> None:
        from make_stores import read_table

        cursor = self.database.cursor()
        cursor.register("incoming", read_table(file))
        cursor.execute(f"{verb} FROM incoming")
        cursor.unregister("incoming")
        cursor.close()


ENGINES: dict[str, type[Engine]] = {engine.name: engine for engine in (DuckDB, Native)}
