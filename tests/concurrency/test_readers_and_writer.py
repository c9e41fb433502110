"""Twenty processes read a store in a loop, through the DuckDB extension, while one appends 200 batches. Every reader sees
whole batches only, in order, never fewer than before; the scans of one query agree with each other; nobody gets an error;
and in the end all see everything.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import support

READERS = 20
BATCHES = 200
ROWS = 500
READ_IN_A_LOOP = Path(__file__).resolve().parent / "read_in_a_loop.py"


def append(store: Path, batches: int) -> list[str]:
    """The command that appends so many batches, numbered on from those that are there."""
    return [str(support.example("append_batches")), str(store), "--batches", str(batches), "--rows", str(ROWS)]


def start_reader(store: Path, stop: Path, ready: Path) -> subprocess.Popen:
    command = [sys.executable, str(READ_IN_A_LOOP), str(store), str(ROWS), str(stop), str(ready)]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, text=True, **pipes)


def wait_until_ready(readers: list[subprocess.Popen], ready: list[Path]) -> None:
    deadline = time.monotonic() + 120
    while not all(path.exists() for path in ready):
        assert time.monotonic() < deadline, "the readers did not start within two minutes"
        for reader in readers:
            assert reader.poll() is None, reader.communicate()[1]
        time.sleep(0.05)


def test_twenty_readers_see_whole_batches_in_order(tmp_path: Path):
    store, stop = tmp_path / "growing.soa", tmp_path / "stop"
    ready = [tmp_path / f"ready-{i}" for i in range(READERS)]
    subprocess.run(append(store, 1), check=True, stdin=subprocess.DEVNULL, timeout=60)
    readers = [start_reader(store, stop, path) for path in ready]
    try:
        wait_until_ready(readers, ready)
        subprocess.run(append(store, BATCHES - 1), check=True, stdin=subprocess.DEVNULL, timeout=600)
        stop.touch()
        answers = [reader.communicate(timeout=300) for reader in readers]
    finally:
        for reader in readers:
            if reader.poll() is None:
                reader.kill()
                reader.wait()
    failed = [errors for reader, (_, errors) in zip(readers, answers) if reader.returncode != 0]
    assert not failed, f"{len(failed)} of {READERS} readers failed; the first: {failed[0]}"
    seen = [json.loads(output) for output, _ in answers]
    assert [one["last"] for one in seen] == [BATCHES * ROWS] * READERS
    # It proves nothing unless they read while the store grew.
    states = set().union(*(one["states"] for one in seen))
    assert len(states) >= 20, f"the readers saw only {len(states)} states of {BATCHES}"
    assert all(len(one["states"]) >= 3 for one in seen), [len(one["states"]) for one in seen]
