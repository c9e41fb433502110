"""TPC-H's eight tables, generated as Parquet by tpchgen-cli, as stores and as tables of DuckDB's own."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import support

# Each table with its key, where that is one column.
KEYS = {
    "region": "r_regionkey",
    "nation": "n_nationkey",
    "supplier": "s_suppkey",
    "customer": "c_custkey",
    "part": "p_partkey",
    "partsupp": None,
    "orders": "o_orderkey",
    "lineitem": None,
}


def generate(folder: Path, scale: float = 1, tables: Iterable[str] = KEYS) -> None:
    """Makes a Parquet file of each table in the folder, if one of them is not there."""
    if all((folder / f"{table}.parquet").exists() for table in tables):
        return
    part = folder.with_name(folder.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    command = [str(Path(sys.executable).parent / "tpchgen-cli"), "parquet", "-s", f"{scale:g}"]
    subprocess.run(
        [*command, "--tables", ",".join(tables), "--output-dir", str(part)], check=True, stdin=subprocess.DEVNULL
    )
    shutil.rmtree(folder, ignore_errors=True)
    part.rename(folder)


def import_stores(source: Path, folder: Path) -> None:
    """Makes a store of each table, in the order of its file's rows."""
    folder.mkdir(parents=True, exist_ok=True)
    for table, key in KEYS.items():
        options = ["--key", key] if key else []
        support.soa("import", "--quiet", source / f"{table}.parquet", folder / f"{table}.soa", *options)


def fill_database(source: Path, path: Path) -> None:
    """Makes a DuckDB database file with all tables, in the order of their files' rows, and checkpoints it."""
    with support.connect(str(path), load=False) as connection:
        for table in KEYS:
            file = support.quote(source / f"{table}.parquet")
            connection.execute(f"CREATE TABLE {table} AS FROM read_parquet({file})")
        connection.execute("CHECKPOINT")
