"""Fixtures of the tests of the Postgres extension: the server that all tests share, and a database with every store."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

import pg_server
import support
from pg_support import Database
from pg_twins import with_copies


@pytest.fixture(scope="session")
def pg() -> pg_server.PgServer:
    """The server with the extension that all tests share."""
    return pg_server.shared(True)


@pytest.fixture(scope="session")
def all_stores(pg, stores: Path) -> Iterator[Database]:
    """A database with a foreign table for every store that tests/make_stores.py makes. Not to be changed."""
    with Database(pg, stores) as database:
        database.import_all()
        yield database


@pytest.fixture
def root() -> Iterator[Path]:
    """An empty folder for stores that the server's user may read."""
    with support.public_folder("soa-root-") as folder:
        yield folder


@pytest.fixture
def database(pg, root: Path) -> Iterator[Database]:
    """A new database with the extension, whose server `stores` has the folder `root`."""
    with Database(pg, root) as made:
        yield made


@pytest.fixture(scope="module")
def copied(pg, stores: Path) -> Iterator[Database]:
    """A database with stores in the schema `stored` and copies of them in the schema `heap`."""
    with with_copies(pg, stores) as database:
        yield database
