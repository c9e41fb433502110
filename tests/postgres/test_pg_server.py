"""Tests of the server that other tests start: it answers, survives a kill, runs from a copy, and never stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest

import support
from pg_server import PgServer, ServerError

TESTS = Path(__file__).resolve().parent.parent
# Starts a server, tells where it is, and waits to be killed.
VICTIM = """
import sys
sys.path.insert(0, sys.argv[1])
from pg_server import PgServer
server = PgServer(extension=False)
server.start()
print(server.folder, server.pid, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def server():
    with PgServer(extension=False) as running:
        yield running


def test_it_answers_over_tcp_and_the_socket(server: PgServer):
    assert server.execute("SELECT current_setting('server_version_num')::int / 10000") == [(server.major,)]
    assert server.psql("-At", "-c", "SHOW timezone") == "UTC\n"
    with server.connect(host=str(server.sockets)) as connection:
        assert connection.execute("SELECT inet_client_addr()").fetchone() == (None,)
    with psycopg.connect(server.url()) as connection:
        assert connection.execute("SELECT host(inet_client_addr())").fetchone() == ("127.0.0.1",)


def test_psql_tells_what_failed(server: PgServer):
    with pytest.raises(ServerError, match='relation "nowhere" does not exist'):
        server.psql("-c", "SELECT * FROM nowhere")
    assert 'relation "nowhere" does not exist' in server.psql("-c", "SELECT * FROM nowhere", check=False)
    assert 'relation "nowhere" does not exist' in server.log_text()


def test_settings_and_environment_reach_it():
    name = "a 'b' $c"  # what a shell or a configuration file would take apart
    settings = {"work_mem": "7MB", "cluster_name": name}
    with PgServer(extension=False, settings=settings, environment={"FOR_THE_TEST": "x"}) as server:
        assert server.execute("SELECT current_setting('work_mem'), current_setting('cluster_name')") == [("7MB", name)]
        environment = Path(f"/proc/{server.pid}/environ").read_bytes().split(b"\0")
        assert b"FOR_THE_TEST=x" in environment


def test_it_is_not_run_by_root(server: PgServer):
    owner = Path(f"/proc/{server.pid}").stat().st_uid
    assert owner != 0
    assert os.geteuid() in (0, owner)


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGQUIT, signal.SIGKILL])
def test_it_starts_again(server: PgServer, how: signal.Signals):
    server.execute("CREATE TABLE kept AS SELECT 42 AS a")
    connection = server.connect()
    if how == signal.SIGKILL:
        server.kill()
    else:
        server.stop(how)
    with pytest.raises(psycopg.OperationalError):
        connection.execute("SELECT 1")
    with pytest.raises(psycopg.OperationalError):
        server.connect()
    server.start()
    assert server.execute("SELECT a FROM kept") == [(42,)]


def test_it_runs_from_a_copy(monkeypatch):
    """What happens where the server's user cannot enter the folder of the installation."""
    monkeypatch.setattr(PgServer, "_can_enter", lambda self, path: False)
    with PgServer(extension=False) as server:
        assert server.installation.bin.is_relative_to(server.folder)
        program = os.readlink(f"/proc/{server.pid}/exe")
        assert Path(program).is_relative_to(server.folder)
        # A module, a time zone and a text search dictionary: files of the folders `lib` and `share`.
        asia = "to_char(TIMESTAMPTZ '2024-07-01 00:00:00+00' AT TIME ZONE 'Asia/Tokyo', 'HH24')"
        assert server.execute(f"SELECT {asia}, to_tsvector('english', 'rows')::text") == [("09", "'row':1")]
        server.execute("DO $$ BEGIN PERFORM 1; END $$")


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_it_ends_with_the_process_that_started_it(how: signal.Signals):
    command = [sys.executable, "-c", VICTIM, str(TESTS)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as victim:
        folder, pid = victim.stdout.readline().split()
        assert Path(folder).is_dir() and Path(f"/proc/{pid}").is_dir()
        victim.send_signal(how)
        victim.wait()
    give_up = time.monotonic() + 60
    while (Path(folder).exists() or Path(f"/proc/{pid}").exists()) and time.monotonic() < give_up:
        time.sleep(0.05)
    assert not Path(folder).exists()
    assert not Path(f"/proc/{pid}").exists()


def test_closing_leaves_nothing(server: PgServer):
    folder, pid, guard = server.folder, server.pid, server.guard
    server.close()
    assert not folder.exists() and not Path(f"/proc/{pid}").exists()
    assert guard.poll() == 0
    server.close()


def test_what_is_not_there_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(support, "DIST", tmp_path)
    with pytest.raises(support.Missing, match=r"soa_fdw\.so; run `make dist`"):
        PgServer()
