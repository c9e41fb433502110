"""The demo's two engines behind the same method: `ask` runs SQL and gives the rows as text, and the time it took."""

from __future__ import annotations

import csv
import re
import subprocess
import tempfile
import time
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation

import support
import values
from pg_server import Installation, PgServer, pg_config


@dataclass
class Answer:
    """What a query gave, in the words of tests/values.py."""

    names: list[str]
    rows: list[list[str]]
    seconds: float

    def lines(self) -> list[str]:
        return [" | ".join(row) for row in self.rows]

    def equals(self, other: Answer) -> bool:
        """The same columns and rows; numbers by value, because 10.0 is 10 where a float has no decimals."""
        return (
            self.names == other.names
            and len(self.rows) == len(other.rows)
            and all(map(same, sum(self.rows, []), sum(other.rows, [])))
        )


def same(a: str, b: str) -> bool:
    if a == b:
        return True
    try:
        return Decimal(a) == Decimal(b)
    except InvalidOperation:
        return False


class DuckDB:
    """DuckDB in this process, with the extension loaded."""

    name = "DuckDB"

    def __init__(self):
        self.connection = support.connect()

    def ask(self, sql: str) -> Answer:
        start = time.perf_counter()
        done = self.connection.execute(sql)
        rows = done.fetchall()
        took = time.perf_counter() - start
        names = [column[0] for column in done.description]
        return Answer(names, [[values.text(value) for value in row] for row in rows], took)


class Psql:
    """Postgres through its own psql, one session over TCP. The time is what psql's \\timing shows."""

    name = "Postgres"
    END = "end of the answer"

    def __init__(self, server: PgServer):
        where = server.parameters()
        self.command = ["psql", "-h", where["host"], "-p", str(where["port"]), "-U", where["user"], where["dbname"]]
        quiet = ["-X", "-q", "--csv", "-P", "null=NULL", "-v", "ON_ERROR_STOP=1"]
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [Installation.of(pg_config()).bin / "psql", *quiet, *self.command[1:]],
            env=server.environment | {"PGCLIENTENCODING": "UTF8", "LC_ALL": "C"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            encoding="utf-8",
        )
        self.ask("\\timing on")

    def ask(self, sql: str) -> Answer:
        """Runs one or several statements; the rows are the last one's."""
        assert self.process.stdin and self.process.stdout
        try:
            self.process.stdin.write(f"{sql}\n\\echo {self.END}\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            pass  # psql has ended, and its output does too
        lines = []
        while (line := self.process.stdout.readline()) != f"{self.END}\n":
            if not line:
                self.errors.seek(0)
                raise RuntimeError(f"psql ended with {self.process.wait()}: {self.errors.read().strip()}\n{sql}")
            lines.append(line)
        times = [float(found[1]) for line in lines if (found := re.match(r"Time: ([\d.]+) ms", line))]
        table = list(csv.reader(line for line in lines if not re.match(r"Time: |Timing is ", line)))
        return Answer(table[0] if table else [], table[1:], sum(times) / 1000)

    def __enter__(self) -> Psql:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.kill()
        self.process.communicate()
        self.errors.close()
