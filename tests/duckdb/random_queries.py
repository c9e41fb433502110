"""Random queries over one table: the differential tests ask them of a store and of DuckDB's own table of the same rows."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

# Stands for the table in every query.
TABLE = "the_table"


@dataclass(frozen=True)
class Column:
    """What can be asked of a column: `value` gives SQL values around those that its rows have."""

    name: str
    kind: str  # number, float, text, bool, time, bytes, list or struct
    value: Callable[[random.Random], str]


@dataclass(frozen=True)
class Query:
    text: str
    is_ordered: bool = False
    # Of a prepared query: the values of each execution.
    executions: tuple[tuple[str, ...], ...] = ()


class RandomQueries:
    """Makes queries over a table with these columns. `key` is one without equal values; by `joined` rows are joined, which
    are so many that have the same value there; `in_order` says that the table's own order is the one of its rows."""

    def __init__(self, chance: random.Random, columns: list[Column], key: str, joined: list[str], in_order: bool):
        self.chance, self.columns, self.key, self.joined, self.in_order = chance, columns, key, joined, in_order
        self.plain = [column for column in columns if column.kind not in ("list", "struct")]

    def query(self) -> Query:
        families = [self.unions, self.joins, self.subqueries, self.ctes, self.windows, self.aggregates]
        if self.chance.random() < 0.8:
            return Query(self.chance.choice(self.chance.choice(families)()))
        return Query(self.chance.choice(self.ordered()), is_ordered=True)

    def prepared(self) -> Query:
        """A query with the parameters $1 and $2, and what to execute it with."""
        column = self.chance.choice(self.plain)
        test = self.chance.choice(
            (
                f"{column.name} {self.op()} $1 AND {column.name} {self.op()} $2",
                f"{column.name} {self.op()} $1 OR {column.name} = $2",
                f"{column.name} BETWEEN $1 AND $2",
                f"{column.name} NOT BETWEEN $1 AND $2",
                f"{column.name} IN ($1, {column.value(self.chance)}, $2)",
                f"{column.name} NOT IN ($1, $2)",
                f"{column.name} IS NOT DISTINCT FROM $1 OR {column.name} > $2",
            )
        )
        one, total, key = self.condition(depth=1), self.total(), self.key
        text = self.chance.choice(
            (
                f"SELECT {total}, count(*) FROM {TABLE} WHERE ({test}) AND {one}",
                f"SELECT {total} FROM {TABLE} WHERE {test} UNION ALL SELECT {total} FROM {TABLE} WHERE {one}",
                f"WITH c AS (FROM {TABLE} WHERE {test}) SELECT {total}, (SELECT count(*) FROM c WHERE {one}) FROM c",
                f"SELECT count(*) FROM {TABLE} WHERE {key} NOT IN (SELECT {key} FROM {TABLE} WHERE {test}) AND {one}",
                f"SELECT {key} FROM {TABLE} WHERE {test} ORDER BY {key} DESC LIMIT 5",
            )
        )
        value = lambda: "NULL" if self.chance.random() < 0.15 else column.value(self.chance)  # noqa: E731
        return Query(text, executions=tuple((value(), value()) for _ in range(4)))

    def op(self) -> str:
        return self.chance.choice(("=", "<>", "<", "<=", ">", ">="))

    def name(self) -> str:
        return self.chance.choice(self.plain).name

    def where(self) -> str:
        return self.chance.choice(("", f"WHERE {self.condition()}"))

    def condition(self, prefix: str = "", depth: int = 2) -> str:
        if depth and self.chance.random() < 0.45:
            parts = [self.condition(prefix, depth - 1) for _ in range(self.chance.choice((2, 2, 3)))]
            joined = f" {self.chance.choice(('AND', 'AND', 'OR'))} ".join(parts)
            return f"(NOT ({joined}))" if self.chance.random() < 0.2 else f"({joined})"
        column = self.chance.choice(self.columns)
        tests = self.tests_of_kind(column.kind, prefix + column.name)
        if column.kind not in ("list", "struct") and (not tests or self.chance.random() < 0.7):
            tests = self.tests(column, prefix)
        return f"({self.chance.choice(tests)})"

    def tests(self, column: Column, prefix: str) -> tuple[str, ...]:
        """Conditions that columns of every kind can have."""
        name, op = prefix + column.name, self.op()
        one, two, three = (column.value(self.chance) for _ in range(3))
        other = self.chance.choice(self.plain)
        return (
            f"{name} {op} {one}",
            f"{one} {op} {name}",
            f"{name} BETWEEN {one} AND {two}",
            f"{name} NOT BETWEEN {one} AND {two}",
            f"{name} IN ({one}, {two}, {three})",
            f"{name} NOT IN ({one}, {two}, {three})",
            f"{name} IN ({one}, NULL, {three})",
            f"{name} NOT IN ({one}, NULL)",
            f"{name} IS NULL",
            f"{name} IS NOT NULL",
            f"{name} IS DISTINCT FROM {one}",
            f"{name} IS NOT DISTINCT FROM {self.chance.choice((one, 'NULL'))}",
            f"{name} {op} NULL",
            f"coalesce({name}, {one}) {op} {two}",
            f"({name}, {prefix}{other.name}) IN (({one}, {other.value(self.chance)}), ({two}, {other.value(self.chance)}))",
            f"({name}, {prefix}{other.name}) {op} ({one}, {other.value(self.chance)})",
            f"CASE WHEN {name} {op} {one} THEN {prefix}{other.name} IS NULL ELSE {prefix}{other.name} > {other.value(self.chance)} END",
            self.chance.choice(("true", "false", "NULL", "1 = 0")),
        )

    def tests_of_kind(self, kind: str, name: str) -> tuple[str, ...]:
        """Conditions of this kind's own: casts, functions, and values that the column's type has not."""
        op, number, letter = self.op(), self.chance.randrange(-20, 820), self.chance.choice("abcdefghx")
        return {
            "number": (
                f"{name} {op} {number}.5", f"{name} + 1 {op} {number}", f"{name}::DOUBLE {op} {number}", f"{name} {op} -3",
                f"{name} {op} 1e10", f"{name}::VARCHAR LIKE '{number % 10}%'", f"{name} % 7 = {number % 7}",
                f"{name}::HUGEINT {op} {number}", f"{name} {op} (SELECT {number})", f"{name} {op} 99999999999999999999",
            ),
            "float": (
                f"{name} {op} 'nan'::DOUBLE", f"{name} {op} 0", f"{name} {op} -0.0", f"isnan({name})", f"{name} {op} 'inf'::DOUBLE",
                f"{name} {op} {number}::DECIMAL(9, 3)", f"{name} {op} {number}::FLOAT", f"{name}::FLOAT {op} {number / 8}",
            ),
            "text": (
                f"{name} LIKE '{letter}%'", f"{name} NOT LIKE '{letter}%'", f"{name} LIKE '{letter}_ of%{number % 10}'",
                f"{name} LIKE '%part {number % 8}'", f"{name} ILIKE '{letter.upper()}1%'", f"starts_with({name}, '{letter}{number % 5}')",
                f"NOT starts_with({name}, '{letter}')", f"{name} ^@ '{letter}3'", f"regexp_matches({name}, '^{letter}')",
                f"length({name}) {op} {number % 30}", f"{name}[1] {op} '{letter}'", f"{name} || 'z' {op} '{letter}z'",
                f"{name} {op} ''", f"contains({name}, ' of part {number % 8}')",
            ),
            "bool": (name, f"NOT {name}", f"{name} IS TRUE", f"{name} IS NOT FALSE", f"{name}::INTEGER {op} 1"),
            "time": (
                f"{name}::DATE {op} DATE '1970-01-01' + {number}", f"{name} {op} DATE '1970-02-01'", f"year({name}) {op} 1971",
                f"{name} + INTERVAL 1 DAY {op} TIMESTAMP '1970-01-20 10:00:00'", f"{name} {op} TIMESTAMP '1970-01-20 10:00:00.000019'",
                f"{name} {op} TIMESTAMPTZ '1970-01-12 10:00:00.5+02'", f"{name} {op} 'infinity'",
            ),
            "bytes": (f"octet_length({name}) {op} {number % 6}", f"{name} {op} ''::BLOB"),
            "list": (f"len({name}) {op} {number % 4}", f"list_contains({name}, {number})", f"{name} IS NULL", f"{name}[1] {op} {number}"),
            "struct": (f"{name}.n {op} {number}", f"{name}.s LIKE '{letter}%'", f"{name} IS NOT NULL", f"{name}.n IS NULL"),
        }[kind]  # fmt: skip

    def total(self, prefix: str = "") -> str:
        """An aggregate that does not depend on the order of rows."""
        name = prefix + self.name()
        sums = [f"sum({prefix}{column.name})" for column in self.columns if column.kind == "number"]
        key = prefix + self.key
        return self.chance.choice(
            (
                "count(*)", f"sum({key})", f"count({name})", f"max({name})", f"min({name})", f"count(DISTINCT {name})",
                self.chance.choice(sums), f"avg({key})", f"arg_max({name}, {key})", f"median({key})", f"count_if({name} IS NULL)",
                f"sum({key}) FILTER (WHERE {self.condition(prefix, 1)})", f"count(*) FILTER ({self.condition(prefix, 1)})",
                f"list({name} ORDER BY {key})[:3]", f"bit_xor(hash({name}))",
            )
        )  # fmt: skip

    def unions(self) -> tuple[str, ...]:
        key = self.key
        name, other, total, one, two = self.name(), self.name(), self.total(), self.condition(), self.condition()
        every = self.chance.choice(("", "ALL"))
        return (
            f"SELECT {total} FROM {TABLE} WHERE {one} UNION ALL SELECT {total} FROM {TABLE} {self.where()}",
            f"FROM {TABLE} WHERE {one} UNION ALL FROM {TABLE} WHERE {two}",
            f"SELECT {name}, {total} FROM (FROM {TABLE} WHERE {one} UNION ALL FROM {TABLE} WHERE {two} UNION ALL FROM {TABLE}) GROUP BY 1",
            f"SELECT {total} FROM (FROM {TABLE} WHERE {one} UNION ALL BY NAME SELECT {key}, {name} FROM {TABLE}) WHERE {two}"
            if name != key else f"SELECT DISTINCT {other} FROM {TABLE} WHERE {two}",
            f"SELECT {key}, {name} FROM {TABLE} WHERE {one} EXCEPT {every} SELECT {key}, {name} FROM {TABLE} {self.where()}",
            f"SELECT {name} FROM {TABLE} WHERE {one} INTERSECT {every} SELECT {name} FROM {TABLE} {self.where()}",
            f"SELECT arg_max({name}, {key}), {total} FROM (FROM {TABLE} WHERE {one} UNION FROM {TABLE} WHERE {two})",
            f"SELECT {total} FROM (SELECT DISTINCT * FROM {TABLE} {self.where()}) WHERE {one}",
        )  # fmt: skip

    def joins(self) -> tuple[str, ...]:
        key = self.key
        by = self.chance.choice(self.joined)
        x, y, total = self.condition("x."), self.condition("y."), self.total("y.")
        kind = self.chance.choice(("LEFT", "RIGHT", "FULL"))
        return (
            f"SELECT count(*), sum(x.{key}), {total} FROM {TABLE} x JOIN {TABLE} y USING ({by}) WHERE {x} AND {y}",
            f"SELECT count(*), {total} FROM {TABLE} x {kind} JOIN {TABLE} y ON x.{key} = y.{key} + 3 AND {y} WHERE {x}",
            f"SELECT count(*), {total} FROM (FROM {TABLE} x WHERE {x}) x {kind} JOIN (FROM {TABLE} y WHERE {y}) y ON x.{by} = y.{by}",
            f"SELECT count(*), {total} FROM {TABLE} x SEMI JOIN {TABLE} z USING ({by}) JOIN {TABLE} y USING ({key}) WHERE {x}",
            f"SELECT count(*), sum(x.{key}) FROM {TABLE} x ANTI JOIN (FROM {TABLE} y WHERE {y}) y USING ({by}) WHERE {x}",
            f"SELECT x.{key}, y.{key} FROM {TABLE} x ASOF LEFT JOIN (FROM {TABLE} y WHERE {y}) y"
            f" ON x.{key} > y.{key} WHERE {x}",
            f"SELECT count(*), {total} FROM {TABLE} x JOIN {TABLE} y ON x.{key} BETWEEN y.{key} AND y.{key} + 2 WHERE {x}",
            f"SELECT count(*), {total} FROM {TABLE} x JOIN {TABLE} y USING ({by}) JOIN {TABLE} z ON z.{key} = x.{key} WHERE {y}",
            f"SELECT {self.total('x.')}, {total} FROM {TABLE} x JOIN {TABLE} y USING ({key}) WHERE {y} AND {x}",
        )

    def subqueries(self) -> tuple[str, ...]:
        key = self.key
        name, by, op = self.name(), self.chance.choice(self.joined), self.op()
        one, two, x, y, total = self.condition(), self.condition(), self.condition("x."), self.condition("y."), self.total()
        no = self.chance.choice(("", "NOT"))
        return (
            f"SELECT count(*), {total} FROM {TABLE} WHERE {name} {no} IN (SELECT {name} FROM {TABLE} WHERE {one}) AND {two}",
            f"SELECT {key} FROM {TABLE} WHERE {by} {no} IN (SELECT {by} FROM {TABLE} WHERE {one})",
            f"SELECT {key}, {name} {no} IN (SELECT {name} FROM {TABLE} WHERE {one}) FROM {TABLE} WHERE {two}",
            f"SELECT count(*), sum({key}) FROM {TABLE} x WHERE {no} EXISTS (FROM {TABLE} y WHERE y.{by} = x.{by} AND {y}) AND {x}",
            f"SELECT (SELECT {total} FROM {TABLE} WHERE {one}), (SELECT {total} FROM {TABLE} WHERE {two}), (SELECT {total} FROM {TABLE})",
            f"SELECT x.{key}, (SELECT count(*) FROM {TABLE} y WHERE y.{by} = x.{by} AND {y}) FROM {TABLE} x WHERE {x}",
            f"SELECT {total} FROM {TABLE} WHERE {name} {op} (SELECT {self.chance.choice(('min', 'max'))}({name}) FROM {TABLE} WHERE {one})",
            f"SELECT {total} FROM {TABLE} WHERE {key} > (SELECT avg({key}) FROM {TABLE} WHERE {one}) AND {two}",
            f"SELECT count(*), sum(m) FROM {TABLE} x,"
            f" LATERAL (SELECT max(y.{key}) m FROM {TABLE} y WHERE y.{by} = x.{by} AND {y}) WHERE {x}",
            f"SELECT count(*) FROM {TABLE} x WHERE {no} x.{by} = ANY (SELECT y.{by} FROM {TABLE} y WHERE {y})",
        )  # fmt: skip

    def ctes(self) -> tuple[str, ...]:
        key = self.key
        name, one, two, total = self.name(), self.condition(), self.condition(), self.total()
        how = self.chance.choice(("", "MATERIALIZED", "NOT MATERIALIZED"))
        c = f"WITH c AS {how} (SELECT * FROM {TABLE} {self.where()})"
        by = self.chance.choice(self.joined)
        return (
            f"{c} SELECT count(*), sum(x.{key}) FROM c x JOIN c y ON x.{key} = y.{key} + 1 WHERE {self.condition('y.')}",
            f"{c} SELECT (SELECT {total} FROM c WHERE {one}), (SELECT {total} FROM c WHERE {two})",
            f"{c} SELECT {total} FROM c WHERE {one} UNION ALL SELECT {total} FROM c",
            f"{c} SELECT {total} FROM c WHERE {one} UNION ALL SELECT {total} FROM {TABLE} WHERE {two}",
            f"{c}, d AS (FROM c WHERE {one}), e AS {how} (FROM c WHERE {two})"
            f" SELECT (SELECT {total} FROM d), (SELECT {total} FROM e), {total} FROM c",
            f"{c} SELECT {key} FROM c WHERE {by} IN (SELECT {by} FROM c WHERE {one}) AND {two}",
            f"{c} SELECT {name}, count(*) FROM c WHERE {one} GROUP BY 1 HAVING count(*) > (SELECT count(*) // 50 FROM c WHERE {two})",
            f"WITH RECURSIVE r AS (SELECT min({key}) k FROM {TABLE} WHERE {one} UNION"
            f" SELECT (SELECT min({key}) FROM {TABLE} WHERE {key} > k AND {two}) FROM r WHERE k < 50) FROM r",
        )  # fmt: skip

    def windows(self) -> tuple[str, ...]:
        key = self.key
        name, other, one, two = self.name(), self.name(), self.condition(), self.condition()
        over = f"PARTITION BY {name} ORDER BY {other} {self.chance.choice(('', 'DESC'))}, {key}"
        number = self.chance.choice(("row_number()", "rank()", "dense_rank()", "ntile(3)"))
        return (
            f"SELECT {key}, {number} OVER ({over}), count(*) OVER (PARTITION BY {name}) FROM {TABLE} WHERE {one}",
            f"SELECT {key}, sum({key}) OVER ({over} ROWS BETWEEN 2 PRECEDING AND CURRENT ROW) FROM {TABLE} WHERE {one}",
            f"SELECT {key}, lag({other}) OVER ({over}), lead({other}, 2) OVER ({over}) FROM {TABLE} {self.where()}",
            f"SELECT {key}, first_value({other}) OVER ({over}), max({other}) OVER (PARTITION BY {name}) FROM {TABLE} WHERE {one}",
            f"SELECT {name}, {key}, row_number() OVER ({over}) AS n FROM {TABLE} WHERE {one} QUALIFY n <= {self.chance.choice((1, 3))}",
            f"SELECT {key} FROM {TABLE} WHERE {one} QUALIFY count(*) OVER (PARTITION BY {name}) > 4",
            f"SELECT * FROM (SELECT *, {number} OVER ({over}) AS n FROM {TABLE} WHERE {one}) WHERE {two} AND n < 5",
            f"SELECT count(*), sum(n) FROM (SELECT {key}, sum({key}) OVER (ORDER BY {key}) AS n FROM {TABLE} {self.where()})",
            f"SELECT DISTINCT {name}, count(*) OVER (PARTITION BY {name}) FROM {TABLE} WHERE {one}"
            f" UNION ALL SELECT {name}, 0 FROM {TABLE} WHERE {two}",
        )  # fmt: skip

    def aggregates(self) -> tuple[str, ...]:
        key = self.key
        name, other, total, one, two = self.name(), self.name(), self.total(), self.condition(), self.condition()
        sets = self.chance.choice(("ROLLUP ({0}, {1})", "CUBE ({0}, {1})", "GROUPING SETS (({0}), ({1}), ())")).format(name, other)
        return (
            f"SELECT {total} FROM {TABLE} WHERE {one}",
            f"SELECT {total}, {self.total()}, {self.total()} FROM {TABLE} {self.where()}",
            f"SELECT {name}, {total}, count(DISTINCT {other}) FILTER (WHERE {two}) FROM {TABLE} WHERE {one} GROUP BY {name}",
            f"SELECT {name}, {other}, {total} FROM {TABLE} WHERE {one} GROUP BY {sets}",
            f"SELECT {name}, {total} FROM {TABLE} WHERE {one} GROUP BY {name} HAVING count(*) > 3 AND min({key}) > 90",
            f"SELECT DISTINCT {name}, {other} FROM {TABLE} WHERE {one}",
            f"SELECT count(*), sum(n) FROM (SELECT {name}, count(*) AS n FROM {TABLE} WHERE {one} GROUP BY 1) WHERE n > 2",
            f"SELECT count(*) FROM {TABLE} WHERE {one}",
            f"SELECT {one}, {two}, count(*) FROM {TABLE} GROUP BY ALL",
        )  # fmt: skip

    def ordered(self) -> tuple[str, ...]:
        """Queries whose rows come in one order only."""
        key = self.key
        name, other, one, two, c = self.name(), self.name(), self.condition(), self.condition(), self.condition("c.")
        order = f"{name} {self.chance.choice(('', 'DESC'))} NULLS {self.chance.choice(('FIRST', 'LAST'))}, {key}"
        order += self.chance.choice(("", " DESC"))
        limit = f"LIMIT {self.chance.choice((1, 3, 10, 60))}"
        some = limit + self.chance.choice(("", f" OFFSET {self.chance.randrange(300)}"))
        return (
            f"SELECT {key}, {other} FROM {TABLE} WHERE {one} ORDER BY {order} {some}",
            f"SELECT * FROM {TABLE} {self.where()} ORDER BY {order} {some}",
            f"SELECT {key}, {name} FROM {TABLE} WHERE {one} ORDER BY {order}",
            f"SELECT DISTINCT ON ({name}) {name}, {key}, {other} FROM {TABLE} WHERE {one} ORDER BY {order}",
            f"SELECT * FROM (FROM {TABLE} WHERE {one} ORDER BY {order} {some}) c WHERE {c} ORDER BY {key}",
            f"FROM (SELECT {key} FROM {TABLE} WHERE {one} UNION ALL SELECT {key} + 7 FROM {TABLE} WHERE {two}) ORDER BY 1 {some}",
        ) + self.own_order(one, two, some) * self.in_order

    def own_order(self, one: str, two: str, some: str) -> tuple[str, ...]:
        """Queries whose rows come in the table's own order."""
        key = self.key
        return (
            f"SELECT * FROM {TABLE} WHERE {one} {some}",
            f"SELECT {self.name()}, {key} FROM {TABLE} {some}",
            f"FROM {TABLE} WHERE {one}",
            f"SELECT {key}, row_number() OVER () FROM {TABLE} WHERE {one} {some}",
            f"FROM {TABLE} WHERE {one} UNION ALL FROM {TABLE} WHERE {two} {some}",
            f"SELECT {key} FROM (FROM {TABLE} {some}) WHERE {two}",
        )
