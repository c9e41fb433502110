"""Runs the SQL suite (tests/slt): every file of slt/common on DuckDB and on Postgres with their extensions, reading the
same stores, and those of slt/duckdb and slt/pg on the one. What does not name an extension also runs on the engine
alone, with the same rows in its own tables, which proves that the expected results are not ours.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import DuckDB, Engine, Native, PgNative, Postgres
from slt_runner import Runner

SLT = Path(__file__).resolve().parent / "slt"


def slt_files(folder: str) -> list[Path]:
    found = sorted((SLT / folder).glob("*.slt"))
    assert found, f"there are no .slt files in {SLT / folder}"
    return found


def files_of(*cases: tuple[type[Engine], list[Path]]):
    """Runs a test on each file with the engine that it is listed with."""
    found = [pytest.param(engine, path, id=f"{engine.name}-{path.stem}") for engine, paths in cases for path in paths]
    return pytest.mark.parametrize(("engine", "path"), found)


# Of slt/duckdb and slt/pg, what does not name the extension.
SQL_OF_DUCKDB = [SLT / "duckdb" / "sql.slt"]
SQL_OF_POSTGRES = [
    SLT / "pg" / f"{name}.slt" for name in ("cursors", "joins", "parallel", "prepared", "snapshots", "subtransactions")
]


class PostgresInParallel(Postgres):
    """Postgres with the extension, which takes parallel workers for every query that can have them."""

    def _prepare(self) -> None:
        super()._prepare()
        costs = ("parallel_setup_cost", "parallel_tuple_cost", "min_parallel_table_scan_size")
        for setting in (*(f"{name} = 0" for name in costs), f"{self.server.parallel_setting} = on"):
            self.execute("default", f"ALTER DATABASE {self.database} SET {setting}")
        self.connections.pop("default").close()


@files_of((Native, slt_files("common") + SQL_OF_DUCKDB), (PgNative, slt_files("common") + SQL_OF_POSTGRES))
def test_expected_rows_on_the_engine_alone(engine: type[Engine], path: Path, files: Path):
    assert Runner(engine, files / "stores", files / "data").run_file(path) > 0


@files_of((DuckDB, slt_files("common")), (Postgres, slt_files("common")))
def test_common_on_stores(engine: type[Engine], path: Path, made: Path):
    assert Runner(engine, made / "stores", made / "data").run_file(path) > 0


# Without rows.slt, which counts on the order of rows: workers give theirs as they come.
@files_of((PostgresInParallel, [path for path in slt_files("common") if path.stem != "rows"]))
def test_common_in_parallel(engine: type[Engine], path: Path, made: Path):
    assert Runner(engine, made / "stores", made / "data").run_file(path) > 0


@files_of((DuckDB, slt_files("duckdb")), (Postgres, slt_files("pg")))
def test_one_engine_on_stores(engine: type[Engine], path: Path, made: Path):
    assert Runner(engine, made / "stores", made / "data").run_file(path) > 0
