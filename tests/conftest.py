"""Fixtures of all tests: the stores, made once per run in a temporary folder, and a DuckDB session."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

import make_stores
import support

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


@pytest.fixture
def duck():
    """A DuckDB session with the extension loaded."""
    connection = support.connect()
    yield connection
    connection.close()
