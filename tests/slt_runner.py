"""Runs sqllogictest files: SQL statements, each with the result it must have.

A file is a list of records separated by blank lines; a line that begins with `#` is a comment.

    store NAME                       the store NAME can be queried as the table NAME
    store NAME copy                  the same with a copy of it, in ${SCRATCH}, that the file may change

    statement ok                     the SQL below must succeed
    statement error REGEX            it must fail, and the message must match

    query TYPES [SORT] [LABEL]       one letter per column, see below; the SQL, `----`, then the rows,
                                     columns separated by tabs
    query error REGEX                the same as `statement error`

    system ok soa ARGUMENTS          runs the `soa` command (only that one)
    system error REGEX soa ...       it must fail, and what it says must match; quote a REGEX with spaces

    foreach NAME VALUE ...           repeats the records up to `endloop` with ${NAME} replaced
    endloop

    skipif ENGINE / onlyif ENGINE    the next record is left out for / kept to that engine
    connection NAME                  the next record runs on the connection of that name

TYPES: I integer (from Postgres also a numeric without digits behind the point, its type for wide integers), R float
or decimal, T text, B boolean, D date or timestamp, X bytes. The letter is checked against the values, so that an engine
that answers with another type is noticed. A date or timestamp that Python cannot hold (BC, from year 10000 on) is text.
SORT: `nosort` (the default), `rowsort` (whole rows sorted), `valuesort` (all values sorted, one a line).
LABEL: queries of one label must have equal results.
Variables: ${STORES} the folder with the stores, ${DATA} the folder with files to import, ${SCRATCH} a folder of
the file's own.

It is strict: an unknown directive, an unknown variable, a missing `----` or a column too many is an error. It is written
here because the Python package index has no sqllogictest runner, and because of `store` and `system`.

`python tests/slt_runner.py --engine native STORES DATA FILE...` runs files by hand; `--write` puts the rows that came back
in place of the expected ones, to be read before they are committed.
"""

from __future__ import annotations

import argparse
import datetime
import decimal
import re
import shlex
import sys
from dataclasses import dataclass, field
from pathlib import Path

import support
import values
from engines import ENGINES, Engine, EngineError

SORTS = ("nosort", "rowsort", "valuesort")
KINDS: dict[str, tuple[type, ...]] = {
    "I": (int,),
    "R": (float, decimal.Decimal),
    "T": (str,),
    "B": (bool,),
    "D": (datetime.date, datetime.datetime),
    "X": (bytes, bytearray, memoryview),
}


class SltError(AssertionError):
    """A file that cannot be read, or a record whose result is not the expected one."""


@dataclass
class Record:
    """One record of a file."""

    kind: str  # "store", "statement", "query", "system", "foreach", "endloop"
    line: int
    arguments: list[str] = field(default_factory=list)
    regex: str | None = None  # what an error must match; None = it must succeed
    sql: str = ""
    types: str = ""
    sort: str = "nosort"
    label: str | None = None
    expected: list[str] = field(default_factory=list)
    expected_lines: tuple[int, int] = (0, 0)  # where the expected rows are in the file: first, past the last
    connection: str = "default"
    skipif: list[str] = field(default_factory=list)
    onlyif: list[str] = field(default_factory=list)

    def applies_to(self, engine: str) -> bool:
        return engine not in self.skipif and (not self.onlyif or engine in self.onlyif)


def parse(content: str, name: str = "<text>") -> list[Record]:
    """The records of a file."""
    return _Parser(content, name).records()


class _Parser:
    def __init__(self, content: str, name: str):
        self.lines = content.split("\n")
        self.name = name
        self.at = 0
        self.pending: dict = {}

    def fail(self, line: int, message: str) -> SltError:
        return SltError(f"{self.name}:{line + 1}: {message}")

    def records(self) -> list[Record]:
        found: list[Record] = []
        depth = 0
        while self.at < len(self.lines):
            line = self.lines[self.at].strip()
            if not line or line.startswith("#"):
                self.at += 1
                continue
            record = self._directive(line)
            if record is None:
                continue
            depth += {"foreach": 1, "endloop": -1}.get(record.kind, 0)
            if depth not in (0, 1):
                raise self.fail(record.line, "loops cannot be nested" if depth > 1 else "endloop without foreach")
            found.append(record)
        if depth:
            raise self.fail(self.at - 1, "foreach without endloop")
        if self.pending:
            raise self.fail(self.at - 1, f"nothing follows {', '.join(self.pending)}")
        return found

    def _directive(self, line: str) -> Record | None:
        start = self.at
        word, _, rest = line.partition(" ")
        rest = rest.strip()
        self.at += 1
        if word in ("skipif", "onlyif", "connection"):
            if len(rest.split()) != 1:
                raise self.fail(start, f"{word} takes one name")
            if word == "connection":
                self.pending["connection"] = rest
            else:
                if rest not in ENGINES:
                    raise self.fail(start, f"{word} names an unknown engine: {rest}")
                self.pending.setdefault(word, []).append(rest)
            return None
        record = Record(kind=word, line=start)
        for key, value in self.pending.items():
            setattr(record, key, value)
        self.pending = {}
        parse_rest = {
            "store": self._store,
            "statement": self._statement,
            "query": self._query,
            "system": self._system,
            "foreach": self._foreach,
            "endloop": self._endloop,
        }.get(word)
        if parse_rest is None:
            raise self.fail(start, f"unknown directive: {word}")
        parse_rest(record, rest)
        return record

    def _store(self, record: Record, rest: str) -> None:
        record.arguments = rest.split()
        if len(record.arguments) not in (1, 2) or record.arguments[1:] not in ([], ["copy"]):
            raise self.fail(record.line, "store takes a name and, perhaps, copy")

    def _foreach(self, record: Record, rest: str) -> None:
        record.arguments = rest.split()
        if len(record.arguments) < 2:
            raise self.fail(record.line, "foreach takes a name and its values")

    def _endloop(self, record: Record, rest: str) -> None:
        if rest:
            raise self.fail(record.line, "endloop takes nothing")

    def _statement(self, record: Record, rest: str) -> None:
        self._outcome(record, rest)
        record.sql = self._sql(record, until_rows=False)

    def _query(self, record: Record, rest: str) -> None:
        if rest.split(" ")[0] == "error":
            record.kind = "statement"
            self._statement(record, rest)
            return
        words = rest.split()
        if not words or not set(words[0]) <= set(KINDS):
            raise self.fail(record.line, f"query takes one letter per column, each one of {''.join(KINDS)}")
        record.types = words.pop(0)
        if words and words[0] in SORTS:
            record.sort = words.pop(0)
        if words:
            record.label = words.pop(0)
        if words:
            raise self.fail(record.line, f"query has a word too many: {words[0]}")
        record.sql = self._sql(record, until_rows=True)
        first = self.at
        while self.at < len(self.lines) and self.lines[self.at].strip("\r"):
            record.expected.append(self.lines[self.at])
            self.at += 1
        record.expected_lines = (first, self.at)

    def _system(self, record: Record, rest: str) -> None:
        words = shlex.split(rest)
        outcome = words.pop(0) if words else ""
        if outcome == "error" and words:
            record.regex = words.pop(0)
            self._check_regex(record)
        elif outcome != "ok":
            raise self.fail(record.line, "system takes `ok` or `error REGEX`, then the command")
        if not words or words[0] != "soa":
            raise self.fail(record.line, "system runs the soa command only")
        record.arguments = words[1:]

    def _outcome(self, record: Record, rest: str) -> None:
        word, _, regex = rest.partition(" ")
        if word == "error" and regex.strip():
            record.regex = regex.strip()
            self._check_regex(record)
        elif rest != "ok":
            raise self.fail(record.line, "a statement takes `ok` or `error REGEX`")

    def _check_regex(self, record: Record) -> None:
        try:
            re.compile(record.regex or "")
        except re.error as error:
            raise self.fail(record.line, f"not a regular expression: {error}") from None

    def _sql(self, record: Record, until_rows: bool) -> str:
        sql: list[str] = []
        while self.at < len(self.lines) and self.lines[self.at].strip():
            line = self.lines[self.at]
            self.at += 1
            if line.strip() == "----":
                if not until_rows:
                    raise self.fail(self.at - 1, "a statement has no rows")
                break
            sql.append(line)
        else:
            if until_rows:
                raise self.fail(record.line, "the query has no ----")
        if not sql:
            raise self.fail(record.line, "there is no SQL")
        return "\n".join(sql)


class Runner:
    """Runs files on an engine. Every file gets a session and a scratch folder of its own."""

    def __init__(self, engine: type[Engine], stores: Path, data: Path):
        self.engine_class = engine
        self.stores = stores
        self.data = data

    def run_file(self, path: Path, write: bool = False) -> int:
        """Runs a file; returns how many records ran. With `write`, expected rows are replaced by what came back."""
        content = path.read_text(encoding="utf-8")
        actual: dict[tuple[int, int], list[str]] | None = {} if write else None
        count = self.run(content, str(path), actual)
        if actual:
            lines = content.split("\n")
            for (first, last), rows in sorted(actual.items(), reverse=True):
                lines[first:last] = rows
            path.write_text("\n".join(lines), encoding="utf-8")
        return count

    def run(self, content: str, name: str = "<text>", actual: dict | None = None) -> int:
        """Runs the records of a text."""
        records = parse(content, name)
        with support.public_folder("soa-slt-") as scratch:
            engine = self.engine_class(self.stores, scratch)
            try:
                return _Run(self, engine, name, scratch, actual).records(records)
            finally:
                engine.close()


class _Run:
    """One pass over one file."""

    def __init__(self, runner: Runner, engine: Engine, name: str, scratch: Path, actual: dict | None):
        self.engine = engine
        self.name = name
        self.actual = actual
        self.variables = {"STORES": str(runner.stores), "DATA": str(runner.data), "SCRATCH": str(scratch)}
        self.labels: dict[str, tuple[list[str], int]] = {}

    def records(self, records: list[Record]) -> int:
        count = 0
        at = 0
        while at < len(records):
            record = records[at]
            at += 1
            if record.kind == "foreach":
                end = next(i for i in range(at, len(records)) if records[i].kind == "endloop")
                name, *loop_values = record.arguments
                if record.applies_to(self.engine.name):
                    for value in loop_values:
                        self.variables[name] = value
                        count += self.records(records[at:end])
                    del self.variables[name]
                at = end + 1
            elif record.applies_to(self.engine.name):
                self.record(record)
                count += 1
        return count

    def record(self, record: Record) -> None:
        run = {"store": self._store, "statement": self._statement, "query": self._query, "system": self._system}
        run[record.kind](record)

    def fail(self, record: Record, message: str) -> SltError:
        loop = {k: v for k, v in self.variables.items() if k not in ("STORES", "DATA", "SCRATCH")}
        where = f" with {loop}" if loop else ""
        sql = f"\n{record.sql}" if record.sql else ""
        return SltError(f"{self.name}:{record.line + 1}: [{self.engine.name}{where}] {message}{sql}")

    def expand(self, record: Record, content: str) -> str:
        def value(match: re.Match) -> str:
            if match[1] not in self.variables:
                raise self.fail(record, f"unknown variable: {match[0]}")
            return self.variables[match[1]]

        return re.sub(r"\$\{(\w+)\}", value, content)

    def _store(self, record: Record) -> None:
        name = self.expand(record, record.arguments[0])
        try:
            self.engine.attach(name, copy=record.arguments[1:] == ["copy"])
        except EngineError as error:
            raise self.fail(record, f"cannot attach the store {name}: {error}") from None

    def _statement(self, record: Record) -> None:
        sql = self.expand(record, record.sql)
        try:
            self.engine.execute(record.connection, sql)
        except EngineError as error:
            self._check_error(record, str(error))
            return
        if record.regex is not None:
            raise self.fail(record, f"it must fail with /{record.regex}/, but it succeeded")

    def _system(self, record: Record) -> None:
        arguments = [self.expand(record, argument) for argument in record.arguments]
        try:
            self.engine.soa(arguments)
        except EngineError as error:
            self._check_error(record, str(error))
            return
        if record.regex is not None:
            raise self.fail(record, f"it must fail with /{record.regex}/, but it succeeded")

    def _check_error(self, record: Record, message: str) -> None:
        if record.regex is None:
            raise self.fail(record, f"it failed: {message}")
        if not re.search(self.expand(record, record.regex), message):
            raise self.fail(record, f"it failed as it should, but the message does not match /{record.regex}/: {message}")

    def _query(self, record: Record) -> None:
        try:
            result = self.engine.execute(record.connection, self.expand(record, record.sql))
        except EngineError as error:
            raise self.fail(record, f"it failed: {error}") from None
        if len(result.singles) != len(record.types):
            raise self.fail(record, f"{len(record.types)} columns expected, {len(result.singles)} came")
        rows = []
        for row in result.rows:
            for column, (letter, value) in enumerate(zip(record.types, row)):
                if value is not None and not self._is(letter, value):
                    raise self.fail(
                        record, f"column {column + 1} is {type(value).__name__} ({value!r}), which is not {letter}"
                    )
            rows.append("\t".join(values.text(value, single) for value, single in zip(row, result.singles)))
        expected = [self.expand(record, line) for line in record.expected]
        if record.sort == "rowsort":
            rows.sort()
            expected.sort()
        elif record.sort == "valuesort":
            rows = sorted(value for row in rows for value in row.split("\t"))
        if self.actual is not None:
            self.actual.setdefault(record.expected_lines, rows)
        elif rows != expected:
            raise self.fail(record, _difference(expected, rows))
        self._check_label(record, rows)

    def _is(self, letter: str, value: object) -> bool:
        if letter == "I" and isinstance(value, decimal.Decimal):
            # 5 is, 5.0 is not, and neither is NaN, whose exponent is a letter.
            return self.engine.wide_integers_are_numeric and value.as_tuple().exponent == 0
        if letter == "I" and isinstance(value, bool):
            return False
        return isinstance(value, KINDS[letter])

    def _check_label(self, record: Record, rows: list[str]) -> None:
        if record.label is None:
            return
        first, line = self.labels.setdefault(record.label, (rows, record.line))
        if first != rows:
            raise self.fail(record, f"label {record.label}: the rows are not those of line {line + 1}")


def _difference(expected: list[str], actual: list[str]) -> str:
    shown = 20
    lines = [f"the rows differ: {len(expected)} expected, {len(actual)} came"]
    differing = [
        i
        for i in range(max(len(expected), len(actual)))
        if i >= len(expected) or i >= len(actual) or expected[i] != actual[i]
    ]
    for i in differing[:shown]:
        lines.append(f"  row {i + 1}: expected {expected[i] if i < len(expected) else '(no row)'!s}")
        lines.append(f"  {' ' * len(f'row {i + 1}')}       got {actual[i] if i < len(actual) else '(no row)'!s}")
    if len(differing) > shown:
        lines.append(f"  and {len(differing) - shown} more")
    return "\n".join(lines)


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs sqllogictest files on an engine.")
    parser.add_argument("--engine", choices=sorted(ENGINES), default="duckdb")
    parser.add_argument("--write", action="store_true", help="replace the expected rows by what came back")
    parser.add_argument("stores", type=Path, help="the folder that tests/make_stores.py wrote")
    parser.add_argument("files", type=Path, nargs="+")
    arguments = parser.parse_args()
    runner = Runner(ENGINES[arguments.engine], arguments.stores / "stores", arguments.stores / "data")
    failed = 0
    for path in arguments.files:
        try:
            print(f"{path}: {runner.run_file(path, arguments.write)} records")
        except SltError as error:
            failed += 1
            print(f"{path}: FAILED\n{error}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
