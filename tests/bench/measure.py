"""What both halves of the benchmark share: measuring sides in turn, comparing their results, printing a table."""

from __future__ import annotations

import decimal
import math
import random
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from queries import Query

# Seconds by query and side, a value per round.
Times = dict[str, dict[str, list[float]]]
Medians = dict[str, dict[str, float]]


@dataclass
class Side:
    """One of what is compared: its name and how it runs a query and fetches the result."""

    name: str
    run: Callable[[str], list[tuple]]


def measure(sides: list[Side], queries: list[Query], rounds: int, seed: int) -> Times:
    """Runs every query on every side once per round, in an order that is shuffled for every round. A round before them
    is not measured; in it, every side's results must be the first side's."""
    for query in queries:
        expected = sides[0].run(query.sql)
        for side in sides[1:]:
            compare(query, sides[0], expected, side, side.run(query.sql))
    times: Times = {query.name: {side.name: [] for side in sides} for query in queries}
    shuffled = random.Random(seed)
    for _ in range(rounds):
        runs = [(query, side) for query in queries for side in sides]
        shuffled.shuffle(runs)
        for query, side in runs:
            times[query.name][side.name].append(seconds(lambda: side.run(query.sql)))
    return times


def seconds(work: Callable[[], object]) -> float:
    """How long it takes."""
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def compare(query: Query, first: Side, expected: list[tuple], side: Side, actual: list[tuple]) -> None:
    equal = len(expected) == len(actual) and all(
        len(a) == len(b) and all(same(x, y) for x, y in zip(a, b)) for a, b in zip(expected, actual)
    )
    if not equal:
        sys.exit(f"bench: {query.name}: {side.name} gives {actual[:3]}..., {first.name} {expected[:3]}...")


def same(a: object, b: object) -> bool:
    """Whether two values are equal. Numbers are compared by value, because Postgres' sums and averages of integers are
    decimals; with a float among them to nine digits, because sums depend on the order of their additions."""
    if isinstance(a, (int, float, decimal.Decimal)) and isinstance(b, (int, float, decimal.Decimal)):
        if isinstance(a, float) or isinstance(b, float):
            return math.isclose(float(a), float(b), rel_tol=1e-9)
        return a == b
    return type(a) is type(b) and a == b


def medians(times: Times) -> Medians:
    return {name: {side: statistics.median(values) for side, values in by.items()} for name, by in times.items()}


def geometric_mean(numbers: list[float]) -> float:
    return math.exp(sum(map(math.log, numbers)) / len(numbers))


def print_table(rows: list[list[str]], left: frozenset[int] = frozenset({0})) -> None:
    """Prints rows of cells, the first of them the heads, right-aligned but in the columns named by `left`."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        cells = [cell.ljust(w) if i in left else cell.rjust(w) for i, (cell, w) in enumerate(zip(row, widths))]
        print("  ".join(cells).rstrip(), flush=True)


def milliseconds(duration: float) -> str:
    return f"{duration * 1000:.2f}"
