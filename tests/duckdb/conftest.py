"""Fixtures of the extension's own tests: a session with the extension loaded, and stores to read."""

from __future__ import annotations

import pytest

from duckdb_support import Store, connect


@pytest.fixture
def con():
    """A session with the extension loaded."""
    connection = connect()
    yield connection
    connection.close()


@pytest.fixture
def new_store(tmp_path):
    """Makes empty places for stores."""

    def make(name: str = "rows.soa") -> Store:
        return Store(tmp_path / name)

    return make
