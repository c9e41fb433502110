"""The benchmark's third part: orders appended to a new store in one commit (`Store::append`, durable when it returns),
against writing and syncing as many bytes as that makes to a file on the same disk.

The example append_speed measures both in turn, after a round that does not count.
"""

from __future__ import annotations

import json
import statistics
import subprocess
from pathlib import Path

import support
from measure import milliseconds

GOAL = 2.0  # times the time of the write


def run(folder: Path, rows: int, rounds: int) -> dict:
    """Measures, prints and returns the results."""
    folder.mkdir(parents=True, exist_ok=True)
    command = [support.example("append_speed"), folder, rows, rounds]
    done = subprocess.run(list(map(str, command)), check=True, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
    results = json.loads(done.stdout)
    append, write = (statistics.median(results[part]) for part in ("append_seconds", "write_seconds"))
    print(f"\n{rows:,} orders appended in one commit, {results['bytes'] / 1e6:.1f} MB; medians of {rounds} rounds")
    print(f"  append                        {milliseconds(append):>8} ms")
    print(f"  writing and syncing the bytes {milliseconds(write):>8} ms")
    verdict = "met" if append <= GOAL * write else "missed"
    print(f"  ratio {append / write:.2f}, goal <= {GOAL}: {verdict}", flush=True)
    results["appended_rows"] = results.pop("rows")
    return results | {"ratio": append / write, "goal": GOAL}
