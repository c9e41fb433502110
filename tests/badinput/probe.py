"""Asks DuckDB, with the extension, about stores that are not as they should be; run in a process of its own, so that a crash
is that process's end and not the tests'.

`probe.py JOBS` runs the SQL statements in the JSON list of the file JOBS, all in one session, and prints for each a line of
JSON: `{"rows": [...]}` or `{"error": TEXT}`. After each it asks for 42: a session that cannot answer that is dead, and the
process ends with a message.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import duckdb  # noqa: E402  (the path must be there first)
import support  # noqa: E402
import values  # noqa: E402


def main() -> None:
    connection = support.connect()
    for sql in json.loads(Path(sys.argv[1]).read_text()):
        try:
            rows = connection.execute(sql).fetchall()
            answer = {"rows": [[values.text(value) for value in row] for row in rows]}
        except duckdb.Error as error:
            answer = {"error": str(error)}
        print(json.dumps(answer), flush=True)
        if connection.execute("SELECT 42").fetchone() != (42,):
            sys.exit(f"the session is dead after {sql}")


if __name__ == "__main__":
    main()
