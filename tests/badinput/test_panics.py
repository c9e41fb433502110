"""A panic in any callback of the extension becomes an error of the query that met it, and the session goes on.

The extension panics where the environment variable SOA_TEST_PANIC says, if it was set when the extension was loaded. Each
place is tried in a process of its own.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import support

SESSION = """
import os, shutil, sys, tempfile
sys.path.insert(0, sys.argv[1])
import duckdb, support

step, store = sys.argv[2:]
os.environ["SOA_TEST_PANIC"] = "nowhere"
if step == "load":
    os.environ["SOA_TEST_PANIC"] = "load"
    connection = support.connect(load=False)
    try:
        connection.execute(f"LOAD {support.quote(support.extension())}")
        sys.exit("the extension was loaded in spite of the panic")
    except duckdb.Error as error:
        print("error:", error)
    assert connection.execute("SELECT 42").fetchone() == (42,)
    sys.exit()

connection = support.connect()
# A bar that is not shown but computed: DuckDB asks for the progress only then.
connection.execute("SET enable_progress_bar = true")
connection.execute("SET enable_progress_bar_print = false")
connection.execute("SET progress_bar_time = 0")
sql = f"SELECT count(*), sum(v) FROM {support.quote(store)} WHERE id >= 0 AND s LIKE 's%'"
ordered = f"CREATE OR REPLACE TABLE t AS SELECT id, o FROM {support.quote(store)} WHERE v > 1"
written = os.path.join(tempfile.mkdtemp(), "written.soa")
copied = f"COPY (FROM {support.quote(store)}) TO {support.quote(written)} (FORMAT soa)"
right = connection.execute(sql).fetchall()
connection.execute(ordered)
os.environ["SOA_TEST_PANIC"] = step
errors = 0
for _ in range(3):
    for statement in (sql, ordered, copied):
        try:
            answer = connection.execute(statement).fetchall()
            if statement == sql:
                assert answer == right, answer
            if statement == copied:
                shutil.rmtree(written)
        except duckdb.Error as error:
            errors += 1
            print("error:", error)
        assert connection.execute("SELECT 42").fetchone() == (42,)
os.environ["SOA_TEST_PANIC"] = "nowhere"
assert connection.execute(sql).fetchall() == right
# DuckDB's threads let go of a statement a moment after it has failed.
support.wait_until(lambda: not os.path.exists(written))
connection.execute(copied)
assert connection.execute(sql.replace(support.quote(store), support.quote(written))).fetchall() == right
shutil.rmtree(os.path.dirname(written))
print("errors:", errors)
"""

# No query fails for what a progress bar shows.
SCAN = ["load", "bind", "filter", "init", "init_local", "scan", "partition", "replacement", "progress"]
STEPS = SCAN + ["copy_bind", "copy_init", "copy_batch", "copy_flush", "copy_finalize"]


@pytest.mark.parametrize("step", STEPS)
def test_panic_becomes_an_error(step: str, stores: Path):
    tests = Path(support.__file__).parent
    command = [sys.executable, "-c", SESSION, str(tests), step, str(stores / "rows_122881.soa")]
    environment = os.environ | {"RUST_BACKTRACE": "0"}
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, stdin=subprocess.DEVNULL)
    assert done.returncode == 0, f"the session did not go on:\n{done.stdout}{done.stderr}"
    if step == "progress":
        assert "errors: 0" in done.stdout, done.stdout
    else:
        assert "SOA_TEST_PANIC" in done.stdout and "errors: 0" not in done.stdout, done.stdout
