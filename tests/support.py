"""What every test, the demo and the benchmark share: where things are, and how to start them.

Nothing here skips: a missing binary is an error that says which make target builds it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = Path(os.environ.get("SOA_DIST", ROOT / "dist"))
DATA = Path(os.environ.get("SOA_DATA", ROOT / "data"))


class Missing(RuntimeError):
    """Something that `make` builds is not there."""


def soa_binary() -> Path:
    """The `soa` command."""
    return _built(DIST / "bin" / "soa")


def extension() -> Path:
    """The DuckDB extension, stamped."""
    return _built(DIST / "soa.duckdb_extension")


def pg_extension(major: int) -> Path:
    """The folder with the Postgres extension for that major version: lib/soa_fdw.so, share/extension/soa_fdw.control."""
    folder = DIST / f"pg{major}"
    _built(folder / "lib" / "soa_fdw.so")
    _built(folder / "share" / "extension" / "soa_fdw.control")
    return folder


def example(name: str) -> Path:
    """A Rust example: a program that writes a store with the library."""
    return _built(DIST / "examples" / name)


def delta_python() -> Path:
    """The Python that has DuckDB 1.5.5 and its own Delta extension."""
    path = ROOT / ".venv-delta" / "bin" / "python"
    if not path.exists():
        raise Missing(f"there is no {path}; run `make venv`")
    return path


def _built(path: Path) -> Path:
    if not path.exists():
        raise Missing(f"there is no {path}; run `make dist`")
    return path


def soa(*args: object, check: bool = True, timeout: float = 600) -> subprocess.CompletedProcess:
    """Runs the `soa` command. With `check`, a failure raises and shows what the command said."""
    command = [str(soa_binary()), *map(str, args)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    if check and done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def connect(database: str = ":memory:", threads: int | None = None, load: bool = True):
    """A DuckDB connection with the extension loaded and times in UTC."""
    import duckdb

    config = {"allow_unsigned_extensions": "true"}
    if threads is not None:
        config["threads"] = str(threads)
    connection = duckdb.connect(database, config=config)
    connection.execute("SET GLOBAL TimeZone = 'UTC'")
    if load:
        connection.execute(f"LOAD {quote(extension())}")
    return connection


@contextmanager
def public_folder(prefix: str) -> Iterator[Path]:
    """A temporary folder that every user may enter: run by root, a Postgres server that reads stores is another user."""
    with tempfile.TemporaryDirectory(prefix=prefix, dir="/tmp") as name:
        folder = Path(name)
        folder.chmod(0o755)
        yield folder


def quote(value: object) -> str:
    """An SQL string literal."""
    return "'" + str(value).replace("'", "''") + "'"


def run_python(script: Path, *args: object, python: Path | None = None, timeout: float = 600) -> str:
    """Runs a Python script in a process of its own and returns what it printed; a failure raises."""
    command = [str(python or sys.executable), str(script), *map(str, args)]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done.stdout
