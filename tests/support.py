"""What every test, the demo and the benchmark share: where things are, and how to start them.

Nothing here skips: a missing binary is an error that says which make target builds it.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DIST = Path(os.environ.get("SOA_DIST", ROOT / "dist"))
DATA = Path(os.environ.get("SOA_DATA", ROOT / "data"))


class Missing(RuntimeError):
    """Something that `make` builds is not there."""


def public_data(name: str) -> Path:
    """The folder for data `name` with stores that a Postgres server reads as well: data/NAME, if it can enter that.

    Started by root, the server runs as another user, who may not enter this clone (in root's home, for one). The folder
    is then one in /tmp that is kept from run to run. What root makes from now on can be read by everyone.
    """
    folder = DATA.resolve() / name
    if os.geteuid() != 0:
        return _made(folder)
    os.umask(0o022)
    if all(parent.stat().st_mode & 0o001 for parent in (folder, *folder.parents) if parent.exists()):
        return _made(folder)
    path_digest = hashlib.sha256(str(ROOT).encode()).hexdigest()[:8]
    public = _made(Path("/tmp") / f"soa-store-{name}-{path_digest}")
    if public.is_symlink() or public.stat().st_uid != os.geteuid():
        raise RuntimeError(f"{public} belongs to somebody else")
    print(f"The Postgres server's user cannot enter {folder}; {public} is used instead", flush=True)
    return public


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


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


def wait_until(is_so: Callable[[], bool], seconds: float = 20) -> None:
    """Waits for something that comes a moment later; an error if it does not."""
    end = time.monotonic() + seconds
    while not is_so():
        if time.monotonic() > end:
            raise TimeoutError(f"after {seconds} s it is not so")
        time.sleep(0.01)


class LogWriter:
    """A process that owns the log of a store of orders and does what it is told to (the example `write_log`)."""

    def __init__(self, path: Path):
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        self.process = subprocess.Popen([str(example("write_log")), str(path)], text=True, **pipes)

    def tell(self, command: str) -> int:
        """Sends one line; returns the number of the answer."""
        assert self.process.stdin and self.process.stdout and self.process.stderr
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline().split()
        assert answer[:1] == ["ok"], f"{command}: {answer} {self.process.stderr.read()}"
        return int(answer[1])

    def abandon(self) -> None:
        """Ends the process as a crash would."""
        assert self.process.stdin
        self.process.stdin.write("abandon\n")
        self.process.stdin.flush()
        assert self.process.wait(60) != 0

    def end(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.communicate()


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
