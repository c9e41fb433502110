"""Fixtures of all tests: the stores, made once per run in a temporary folder, and a DuckDB session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import make_stores
import support
import tpch

# Files that the tests make can be read by every user; see `support.public_folder`.
os.umask(0o022)


@pytest.fixture(scope="session")
def files(tmp_path_factory) -> Path:
    """The folder with the rows as files and the manifest, without stores: needs no binary."""
    folder = tmp_path_factory.mktemp("files")
    make_stores.make(folder, run_import=False)
    return folder


@pytest.fixture(scope="session")
def made() -> Iterator[Path]:
    """The folder with everything that tests/make_stores.py makes: data, stores, manifest. Not to be changed."""
    with support.public_folder("soa-made-") as folder:
        make_stores.make(folder)
        yield folder


@pytest.fixture(scope="session")
def stores(made) -> Path:
    """The folder with the stores. Not to be changed."""
    return made / "stores"


@pytest.fixture(scope="session")
def tpch_made() -> Iterator[Path]:
    """The folder with TPC-H's tables at scale factor 0.01 as stores, and as DuckDB's own in tpch.duckdb."""
    with support.public_folder("soa-tpch-") as folder:
        tpch.generate(folder / "parquet", 0.01)
        tpch.import_stores(folder / "parquet", folder)
        tpch.fill_database(folder / "parquet", folder / "tpch.duckdb")
        yield folder


@pytest.fixture
def duck():
    """A DuckDB session with the extension loaded."""
    connection = support.connect()
    yield connection
    connection.close()
