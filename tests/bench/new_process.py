"""Runs a query twice, in a process that has queried nothing yet, and prints as JSON how many seconds it took: loading
DuckDB and the extension, the first run with opening what is read, and the second.

`new_process.py FOLDER SIDE THREADS SQL`
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import duckdb_half  # noqa: E402  (the path must be there first)
import support  # noqa: E402


def main() -> None:
    folder, name, threads, sql = sys.argv[1:]
    moments = [time.perf_counter()]
    connection = support.connect(threads=int(threads), load=name.startswith("store"))
    moments.append(time.perf_counter())
    duckdb_half.add_sides(connection, Path(folder) / "orders.duckdb", duckdb_half.orders(Path(folder), (name,)))
    run = duckdb_half.side(connection, name).run
    for _ in range(2):
        run(sql)
        moments.append(time.perf_counter())
    taken = [end - start for start, end in zip(moments, moments[1:])]
    print(json.dumps(dict(zip(("load", "first", "second"), taken))))


main()
