"""Runs the SQL suite (tests/slt): every file on DuckDB with the extension, reading stores; what does not
name the extension also on DuckDB alone with the same rows in its own tables, which proves that the expected results are not ours.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from engines import DuckDB, Native
from slt_runner import Runner

SLT = Path(__file__).resolve().parent / "slt"


def slt_files(folder: str) -> list[Path]:
    found = sorted((SLT / folder).glob("*.slt"))
    assert found, f"there are no .slt files in {SLT / folder}"
    return found


# Of slt/duckdb, what does not name the extension's functions.
@pytest.mark.parametrize("path", [*slt_files("common"), SLT / "duckdb" / "sql.slt"], ids=lambda path: path.stem)
def test_expected_rows_on_native(path: Path, files: Path):
    assert Runner(Native, files / "stores", files / "data").run_file(path) > 0


@pytest.mark.parametrize("path", slt_files("common"), ids=lambda path: path.stem)
def test_common_on_stores(path: Path, made: Path):
    assert Runner(DuckDB, made / "stores", made / "data").run_file(path) > 0


@pytest.mark.parametrize("path", slt_files("duckdb"), ids=lambda path: path.stem)
def test_duckdb(path: Path, made: Path):
    assert Runner(DuckDB, made / "stores", made / "data").run_file(path) > 0
