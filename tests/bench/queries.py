"""The benchmark's queries, read from sql/bench; orders.sql says what the words in their titles' brackets mean."""

from __future__ import annotations

import re
from dataclasses import dataclass

import support

FOLDER = support.ROOT / "sql" / "bench"
TITLE = re.compile(
    r"-- # (?P<name>[^][]+)( \[(?P<kind>scan|pruned|top-n)(, (?P<pushdown>aggregate|order))?(, (?P<ms>\d+) ms)?\])?"
)


@dataclass
class Query:
    """A query and what is known of it."""

    name: str
    kind: str  # scan (where the title has no brackets), pruned or top-n
    pushdown: str | None  # what Postgres could leave to the store beside the filter: aggregate or order
    goal_ms: int | None  # how fast it must be answered from the store; None: as orders.sql says
    sql: str = ""


def queries(name: str = "orders") -> list[Query]:
    """All queries of a file, in its order."""
    file = FOLDER / f"{name}.sql"
    found: list[Query] = []
    for line in file.read_text(encoding="utf-8").splitlines():
        if line.startswith("-- # "):
            title = TITLE.fullmatch(line)
            if title is None:
                raise ValueError(f"{file}: cannot read the title {line!r}")
            goal_ms = int(title["ms"]) if title["ms"] else None
            found.append(Query(title["name"], title["kind"] or "scan", title["pushdown"], goal_ms))
        elif line.strip() and not line.startswith("--"):
            found[-1].sql += line + "\n"
    return found
