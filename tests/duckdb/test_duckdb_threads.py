"""Threads and databases come and go in a process; what the extension keeps for a thread goes with it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from duckdb_support import DIST

COPY_AND_READ = """
def use(number):
    con = connect(threads=1 + number % 2)
    con.execute("COPY (SELECT i, 'text ' || i AS t FROM range(5000) r(i)) TO '%d.soa' (FORMAT soa)" % number)
    assert con.execute("SELECT count(*), max(t) FROM '%d.soa'" % number).fetchone() == (5000, "text 999")
    con.close()
"""

PROGRAMS = {
    "the thread that loaded it ends": """
import ctypes
library = os.path.join(os.environ["SOA_DIST"], "soa.duckdb_extension")
first = threading.Thread(target=lambda: ctypes.CDLL(library, os.RTLD_LOCAL | os.RTLD_NOW))
first.start(), first.join()
for number in range(40):
    thread = threading.Thread(target=use, args=[number])
    thread.start(), thread.join()
""",
    "one database after the other": "for number in range(120): use(number)",
    "databases in many threads": """
threads = [threading.Thread(target=use, args=[number]) for number in range(16)]
for thread in threads: thread.start()
for thread in threads: thread.join()
""",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_threads_and_databases_come_and_go(tmp_path: Path, program: str):
    text = f"import os, threading\nfrom duckdb_support import connect\n{COPY_AND_READ}\n{PROGRAMS[program]}\nprint('whole')"
    path = os.pathsep.join([str(Path(__file__).parent), *filter(None, [os.environ.get("PYTHONPATH")])])
    done = subprocess.run(
        [sys.executable, "-c", text], cwd=tmp_path, capture_output=True, text=True, timeout=300,
        env=os.environ | {"SOA_DIST": str(DIST), "PYTHONPATH": path},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (0, "whole\n"), done.stderr
    # An exception in a thread ends no process.
    assert "Traceback" not in done.stderr, done.stderr
