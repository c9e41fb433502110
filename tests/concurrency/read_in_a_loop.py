"""One reader of tests/concurrency: queries a growing store until told to stop, and checks each answer.

`read_in_a_loop.py STORE ROWS STOP READY` touches the file READY after its first answer, goes on until the file STOP exists,
asks once more, and prints what it saw as JSON. A wrong answer or an error ends it with a message.

The store's batch b has ROWS rows with value = b * ROWS .. (b + 1) * ROWS - 1, so a state of whole batches, in order, is one
whose values are exactly 0 .. n - 1, n being a multiple of ROWS, and whose batches all have ROWS rows.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import support  # noqa: E402  (the path must be there first)


class Wrong(AssertionError):
    """An answer that no state of the store gives."""


def check(condition: bool, message: str) -> None:
    if not condition:
        raise Wrong(message)


def main() -> None:
    store, rows, stop, ready = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]), Path(sys.argv[4])
    connection = support.connect(threads=1)
    connection.execute(f"CREATE VIEW s AS FROM soa_scan({support.quote(store)})")
    connection.execute("PREPARE state AS SELECT count(*), max(value), sum(value), count(DISTINCT batch) FROM s")
    seen: list[int] = []
    rounds = 0
    last_round = False
    while True:
        last_round = last_round or stop.exists()
        _whole_batches(connection, rows, seen)
        _agreement(connection)
        _order(connection)
        rounds += 1
        ready.touch()
        if last_round:
            break
        last_round = stop.exists()
    print(json.dumps({"rounds": rounds, "states": sorted(set(seen)), "last": seen[-1]}))


def _whole_batches(connection, rows: int, seen: list[int]) -> None:
    count, highest, total, batches = connection.execute("EXECUTE state").fetchone()
    check(count % rows == 0, f"{count} rows are not whole batches of {rows}")
    check(batches * rows == count, f"{count} rows in {batches} batches of {rows}")
    check(highest == count - 1, f"{count} rows, but the highest value is {highest}")
    check(total == count * (count - 1) // 2, f"{count} rows, but the values add up to {total}")
    check(not seen or count >= seen[-1], f"{count} rows after {seen[-1:]}: the store became smaller")
    seen.append(count)


def _agreement(connection) -> None:
    """Several scans in one query see one state."""
    joined, left, right, united = connection.execute(
        "SELECT count(*), (SELECT count(*) FROM s), (SELECT count(*) FROM s WHERE value >= 0),"
        " (SELECT count(*) FROM (SELECT value FROM s UNION SELECT value FROM s))"
        " FROM s AS a JOIN s AS b ON a.value = b.value"
    ).fetchone()
    check(joined == left == right == united, f"one query saw {joined}, {left}, {right} and {united} rows")


def _order(connection) -> None:
    """The rows come in the order in which they were appended."""
    (misplaced,) = connection.execute(
        "SELECT count(*) FROM (SELECT value, row_number() OVER () - 1 AS place FROM s) WHERE value <> place"
    ).fetchone()
    check(misplaced == 0, f"{misplaced} rows are not in the order in which they were appended")


if __name__ == "__main__":
    try:
        main()
    except Wrong as error:
        sys.exit(f"wrong: {error}")
