"""What the store computes of groups of rows is what Postgres computes of a copy of them in a table of the heap: each
aggregate of each column, with FILTER and DISTINCT, grouped by each column that can be, of all rows, some and none.

A sum of floats depends on their order, in its last bits: of those the first digits are compared.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator

import psycopg
import pyarrow as pa
import pytest

import make_stores
import support
from pg_support import Database, plan, rows, scans
from pg_twins import STORES, same

QUERIES = int(os.environ.get("SOA_DIFFERENTIAL_QUERIES", "600"))
SEED = int(os.environ.get("SOA_DIFFERENTIAL_SEED", "11"))

# Per store: its columns by what can be done with them.
COLUMNS = {
    "types": {
        "numbers": "id i8 i16 i32 i64 u8 u16 u32 u64 dec4 dec9 dec18 dec38",
        "floats": "f32 f64",
        "others": "s bin d ts tz b",
    },
    "types_parquet": {"numbers": "id i8 i64 u64 dec9 dec38", "floats": "f64", "others": "s d ts b"},
    "types_required": {"numbers": "id i8 i64 dec18", "floats": "f64", "others": "s d b"},
    "floats": {"numbers": "id", "floats": "f g", "others": ""},
    "days": {"numbers": "id k", "floats": "", "others": "d t flag"},
    "rust_types": {"numbers": "id maybe_u8 maybe_i64", "floats": "maybe_f32", "others": "level maybe_level day wall"},
    "orders": {"numbers": "order_id quantity amount", "floats": "", "others": ""},
    "orders_by_status": {"numbers": "order_id quantity amount", "floats": "", "others": "status"},
    "sorted": {"numbers": "id", "floats": "", "others": "region"},
}


DEVIATIONS = ("variance", "var_pop", "var_samp", "stddev", "stddev_pop", "stddev_samp")


@pytest.fixture
def session(copied: Database) -> Iterator[psycopg.Connection]:
    with copied.connect() as connection:
        yield connection


def columns(store: str, kind: str) -> list[str]:
    return COLUMNS[store][kind].split()


def all_columns(store: str) -> list[str]:
    return [column for kind in COLUMNS[store] for column in columns(store, kind)]


def digits(number: str) -> str:
    """The first digits of a float."""
    return f"CASE WHEN {number} NOT IN ('NaN', 'Infinity', '-Infinity') THEN to_char({number}, '9.99999999EEEE') END"


def aggregates(store: str) -> list[str]:
    """Every aggregate of every column."""
    found = ["count(*)"]
    for column in all_columns(store):
        found += [f"count({column})", f"count(DISTINCT {column})"]
    for column in columns(store, "numbers"):
        found += [f"{function}({column})" for function in ("sum", "avg", "min", "max", *DEVIATIONS)]
        found += [f"sum(DISTINCT {column})", f"min(DISTINCT {column})"]
    for column in columns(store, "floats"):
        found += [digits(f"{function}({column})") for function in ("sum", "avg", *DEVIATIONS)]
        found += [f"min({column})", f"max({column})"]
    for column in columns(store, "others"):
        boolean = column in ("b", "flag")
        functions = ("bool_and", "bool_or", "every") if boolean else ("min", "max")
        found += [f"{function}({column})" for function in functions if column != "bin"]
    for column in columns(store, "others"):
        if column in ("s", "level", "maybe_level", "status", "region"):
            found += [f"sum(length({column}))", f"avg(length({column}))", f"max(char_length({column}))"]
            found.append(f"count(DISTINCT length({column}))")
    return list(dict.fromkeys(found))


def answer(store: str, what: str, rest: str) -> str:
    """A query for one text: the answers of all groups, ordered."""
    return f"SELECT string_agg(g, ';' ORDER BY g) FROM (SELECT ROW({what})::text AS g FROM stored.{store} {rest}) x"


@pytest.mark.parametrize("store", COLUMNS)
def test_each_aggregate_alone(session, store: str):
    key = STORES[store]
    wheres = ("", f"WHERE {key} > 3", f"WHERE {key} < -100", f"WHERE {key} IS NULL")
    same(session, [answer(store, one, where) for one in aggregates(store) for where in wheres])


@pytest.mark.parametrize("store", COLUMNS)
def test_each_group(session, store: str):
    key = STORES[store]
    queries = []
    for column in all_columns(store):
        queries.append(answer(store, f"{column}, count(*), count({key}), sum({key}), avg({key})", f"GROUP BY {column}"))
        queries.append(answer(store, f"{column}", f"GROUP BY {column} HAVING count(*) > 1"))
        queries.append(answer(store, f"{column}, max({key})", f"WHERE {key} > 2 GROUP BY {column}, {column} IS NULL"))
        queries.append(answer(store, f"count(*), min({key})", f"GROUP BY {column}, {key} % 3"))
        queries.append(answer(store, "count(*)", f"GROUP BY {column}, {key}"))
        if column in ("s", "level", "maybe_level", "status", "region"):
            queries.append(answer(store, f"length({column}), count(*)", f"GROUP BY length({column})"))
        queries.append(f"SELECT count(*) || '' FROM (SELECT DISTINCT {column} FROM stored.{store}) x")
    same(session, queries)


def test_filters(session):
    filters = (
        "i8 > 0",
        "i8 IS NULL",
        "NOT (b OR i8 > 1)",
        "s = 'plain' OR d < '2000-01-01'",
        "s LIKE 'p%'",
        "f64 >= 'NaN'",
        "dec9 IN (1.5, -0.01)",
        "id % 2 = 0",
        "false",
        "NULL",
    )
    aggregates = ("count(*)", "sum(i64)", "avg(dec18)", "max(f64)", "min(f32)", "bool_or(b)", "count(DISTINCT s)")
    queries = [
        answer("types", f"{one} FILTER (WHERE {condition}), count(*), {one}", rest)
        for one in aggregates
        for condition in filters
        for rest in ("", "WHERE id > 2", "GROUP BY b", "GROUP BY s HAVING count(*) FILTER (WHERE id > 1) > 0")
    ]
    same(session, queries)


def test_expressions_of_aggregates(session):
    queries = [
        answer("types", "sum(i8) + count(*) * 2, coalesce(max(s), 'none')", ""),
        answer("types", "b, sum(i32) / count(*)", "GROUP BY b"),
        answer("types", "count(*)", "GROUP BY b HAVING sum(i8) > 0 OR max(s) IS NULL"),
        answer("types", "i8 + 1, count(*)", "GROUP BY i8"),
        answer("types", "i8 + i16, count(*)", "GROUP BY i8 + i16"),
        answer("types", "i8 + i16, count(*)", "GROUP BY i8, i16"),
        answer("types", "count(*), (SELECT max(i16) FROM stored.types u WHERE u.i8 = types.i8)", "GROUP BY i8"),
        answer("types", "1", "HAVING true"),
        answer("types", "1", "HAVING count(*) > 1000"),
        answer("types", "b, s, count(*), sum(i8)", "GROUP BY GROUPING SETS ((b), (s), ())"),
        answer("types", "b, count(*)", "GROUP BY ROLLUP (b)"),
        answer("types", "max(s COLLATE \"C\"), min(s)", ""),
        answer("types", "string_agg(s, ',' ORDER BY id), count(*)", ""),
        answer("types", "sum(i8 + 0), sum(-i16), max(id * 2)", ""),
        answer("types", "rank() OVER (ORDER BY count(*) DESC), count(*)", "GROUP BY b"),
        answer("types", "count(*) FILTER (WHERE i8 > (SELECT 0))", ""),
        "SELECT string_agg(n || ':' || c, ',' ORDER BY n) FROM generate_series(-2, 5) n,"
        " LATERAL (SELECT count(*) AS c FROM stored.types WHERE i8 > n OFFSET 0) x",
        "SELECT string_agg(n || ':' || coalesce(c, 0), ',' ORDER BY n) FROM generate_series(-2, 5) n,"
        " LATERAL (SELECT sum(i16) AS c FROM stored.types WHERE i8 = n GROUP BY b ORDER BY b LIMIT 1) x",
        # A group by a constant is none where there are no rows.
        answer("types", "count(*), row_number() OVER ()", "WHERE id < 0 GROUP BY 'x'::text"),
        answer("types", "count(*), generate_series(1, 2)", "WHERE id < 0 GROUP BY 'x'::text"),
        answer("types", "count(*)", "WHERE id < 0 GROUP BY 'x'::text"),
        answer("types", "count(*)", "GROUP BY 'x'::text, b"),
        answer("types", "count(*)", 'GROUP BY s, s COLLATE "C"'),
        answer("types", "count(*)", "GROUP BY length(s), char_length(s)"),
        answer("types", "count(*)", "GROUP BY s, length(s)"),
        "SELECT count(*) || ' ' || sum(c) FROM (SELECT s, count(*) AS c FROM stored.types GROUP BY s"
        " UNION ALL SELECT NULL, count(*) FROM stored.types) x",
    ]
    same(session, queries)


# Numbers of the store `types` for arithmetic: of each type, and constants with and without digits after the point.
OPERANDS = (
    "i8 i16 i32 i64 u8 u32 u64 dec4 dec9 dec18 dec38 f32 f64 id 0 1 -1 7 100000 3000000000 0.5 -1.50 0.000 1e3"
    " 1.25::float8 2::bigint 3::smallint"
).split()


def arithmetic(rng: random.Random, depth: int = 2) -> str:
    if depth == 0 or rng.random() < 0.25:
        return rng.choice(OPERANDS)
    return f"({arithmetic(rng, depth - 1)} {rng.choice('+-*')} {arithmetic(rng, depth - 1)})"


def test_arithmetic(session):
    """Sums and products inside of aggregates: the same digits, and the same errors of overflow."""
    queries = []
    for left in OPERANDS:
        for right in OPERANDS:
            for op in "+-*":
                one = f"({left} {op} {right})"
                is_float = any(name in one for name in ("f32", "f64", "float8"))
                if is_float:
                    # Which zero is the least depends on the order of rows, and what is left of sums of very large numbers.
                    total = "" if "64" in one else digits(f"sum{one}") + ", "
                    queries.append(answer("types", f"{total}min{one} + 0, count{one}", ""))
                else:
                    queries.append(answer("types", f"sum{one}, min{one}, count{one}", ""))
    rng = random.Random(SEED)
    for _ in range(QUERIES):
        one, other = arithmetic(rng), arithmetic(rng)
        is_float = any(name in one for name in ("f32", "f64", "float8"))
        functions = ("min", "max", "count") if is_float else ("sum", "avg", "min", "max", "count", "count(DISTINCT", "stddev")
        function = rng.choice(functions)
        call = f"{function}({one})" if "(" not in function else f"{function} {one})"
        call = f"{call} + 0" if is_float else call
        filtered = f"{call} FILTER (WHERE id > 2)" if rng.random() < 0.1 and not is_float else call
        where = rng.choice(["", "WHERE id > 3", "WHERE i8 BETWEEN -20 AND 20", "WHERE abs(id) < 5"])
        group = rng.choice(["", "", "GROUP BY b", "GROUP BY id", f"GROUP BY {other}" if "i" in other else ""])
        queries.append(answer("types", filtered, f"{where} {group}"))
    # Where several numbers are too large, it depends on the order of rows which of them is met first.
    same(session, queries, lambda ours, theirs: all(answer.startswith("22003: ") for answer in (ours, theirs)))
    for sql, computed in {
        "SELECT sum(dec9 * (1 - dec4) * (1 + dec4)) FROM stored.types": "sum(((dec9 * (1 - dec4)) * (1 + dec4)))",
        "SELECT avg(i8 + 1), sum(f64 * i32) FROM stored.types WHERE id < 3": "avg((i8 + 1)), sum((f64 * i32))",
        "SELECT i8 * 2, count(*) FROM stored.types GROUP BY 1": "count(*) GROUP BY (i8 * 2)",
    }.items():
        assert plan(session, sql, analyze=False).get("SoA Computes") == computed, sql


def condition_on_groups(rng: random.Random, store: str, groups: list[str], depth: int = 0) -> str:
    """Some condition on groups. Sums of floats are not in it: their last bits depend on the order of rows."""
    kind = rng.random()
    if kind < 0.3 and depth < 2:
        one, other = (condition_on_groups(rng, store, groups, depth + 1) for _ in range(2))
        return rng.choice([f"({one} AND {other})", f"({one} OR {other})", f"NOT ({one})"])
    numbers = columns(store, "numbers")

    def value() -> str:
        number = rng.choice(numbers)
        choices = ["count(*)", f"count({number})", f"sum({number})", f"min({number})", f"max({number})", f"avg({number})"]
        choices += [f"count(DISTINCT {number})", f"sum({number}) FILTER (WHERE {numbers[0]} > 2)"]
        choices += [group for group in groups if group in numbers]
        choices += [f"max({rng.choice(columns(store, 'floats'))})"] if columns(store, "floats") else []
        return rng.choice(choices)

    if kind < 0.4:
        return f"{value()} IS {rng.choice(['', 'NOT '])}NULL"
    if kind < 0.5 and (booleans := [name for name in all_columns(store) if name in ("b", "flag")]):
        return rng.choice(["bool_and", "every", "bool_or"]) + f"({booleans[0]})"
    constants = ["0", "1", "2", "-1", "10", "0.5", "1.50", "100000", "-3.25", "9223372036854775807", "NULL"]
    other = value() if rng.random() < 0.3 else rng.choice(constants)
    return f"{value()} {rng.choice(['=', '<>', '<', '<=', '>', '>='])} {other}"


def test_deviations_of_many_numbers(session):
    """Of numbers that are close together, far apart, equal, and of many digits; of many, and of one and two."""
    numbers = ("order_id", "order_id * 0 + 7", "order_id * order_id", "quantity", "amount", "amount * 0.000001")
    numbers += ("amount * 10000000.001 + 9999999999999999", "amount * 0 + 0.333", "order_id * 1e-12 + 4")
    queries = [
        answer("orders", ", ".join(f"{function}({number})" for function in DEVIATIONS), rest)
        for number in numbers
        for rest in ("", "WHERE order_id <= 1", "WHERE order_id <= 2", "WHERE order_id < 5", "GROUP BY quantity")
    ]
    same(session, queries)
    sql = "SELECT stddev(amount * 0.000001) FROM stored.orders"
    assert plan(session, sql, analyze=False).get("SoA Computes") == "stddev_samp((amount * 0.000001))"


def test_conditions_on_groups(session):
    for condition, computed in {
        "sum(dec9) > 1.5": "sum(dec9) GROUP BY b HAVING (sum(dec9) > 1.5)",
        "count(*) > 1 AND NOT min(id) < max(i8)": "count(*), min(id), max(i8) GROUP BY b "
        "HAVING ((count(*) > 1) AND (min(id) >= max(i8)))",
        "sum(i64) IS NOT NULL OR bool_or(b)": "sum(i64), bool_or(b) GROUP BY b HAVING (NOT (sum(i64) IS NULL) OR bool_or(b))",
        # An average is divided in the end.
        "count(*) > 1 AND avg(i8) > 0": "count(*), avg(i8) GROUP BY b HAVING (count(*) > 1)",
    }.items():
        sql = f"SELECT b FROM stored.types GROUP BY b HAVING {condition}"
        assert plan(session, sql, analyze=False).get("SoA Computes") == computed, sql
    first = "SELECT id, sum(i64) FROM stored.types GROUP BY id HAVING sum(i64) > 0 ORDER BY sum(i64) DESC, id LIMIT 3"
    assert plan(session, first, analyze=False)["Node Type"] == "Foreign Scan"
    same(session, [f"SELECT string_agg(x::text, ' ') FROM ({first}) x"])


def test_numbers_of_very_many_digits(session):
    queries = [
        answer("types", "count(*)", f"WHERE {condition}")
        for tiny in ("1e-40", "1e-80", "1e-130", "1e-300")
        for condition in (f"dec4 + 1 > {tiny}::numeric", f"CASE WHEN i8 > 0 THEN {tiny}::numeric ELSE dec4 END > 0")
    ]
    queries += [answer("types", f"sum({tiny}::numeric), max({tiny}::numeric)", "") for tiny in ("1e-40", "1e-130")]
    wide, scaled = "dec38 * dec38", "dec18 * dec18 * dec18 * dec18"
    queries += [
        answer("types", "count(*)", f"WHERE {wide} > {scaled}"),
        answer("types", f"sum(CASE WHEN id > 0 THEN {wide} ELSE {scaled} END)", ""),
        "SELECT count(*)::text FROM stored.types a LEFT JOIN stored.types b"
        " ON a.dec38 * a.dec38 = b.dec18 * b.dec18 * b.dec18 * b.dec18",
        answer("types", "count(*)", f"WHERE dec38 + 0 > 0.{'0' * 50}1"),
    ]
    same(session, queries)


def test_sums_of_negative_zeros(database: Database):
    """What is -0 in every row has the sum -0, and with zero among it 0."""
    kinds = {0: [-0.0, -0.0], 1: [-0.0, 0.0, None], 2: [None], 3: [-0.0, 1.5, -1.5], 4: [-0.0, None], 5: [0.0]}
    values = [(kind, number) for _ in range(200) for kind, numbers in kinds.items() for number in numbers]
    groups, numbers = zip(*values, strict=True)
    content = pa.table({"k": pa.array(groups, pa.int32()), "f": pa.array(numbers, pa.float64())})
    support.soa("import", make_stores.write_table(content, database.root / "zeros.arrow"), database.root / "zeros.soa")
    database.import_all()
    with database.connect() as session:
        session.execute("CREATE TABLE copy AS SELECT * FROM zeros")
        parts = ["", *(f"WHERE k = {kind}" for kind in kinds), "WHERE k IN (0, 4)", "GROUP BY k", "WHERE k < 0"]
        for part in parts:
            sql = f"SELECT sum(f)::text, avg(f)::text, sum(f) FILTER (WHERE k = 0)::text, sum(-f)::text FROM zeros {part}"
            sql = sql.replace("(WHERE k = 0)::text", "(WHERE k = 0)")
            assert [scan["Node Type"] for scan in scans(plan(session, sql))] == ["Foreign Scan"]
            found = sorted(map(str, rows(session, sql)))
            assert found == sorted(map(str, rows(session, sql.replace("FROM zeros", "FROM copy")))), part
        assert rows(session, "SELECT sum(f)::text FROM zeros WHERE k = 0") == [("-0",)]


def test_deeply_nested_expressions(session):
    def chain(part: str, times: int) -> str:
        return " + ".join([part] * times)

    cases = [
        "".join(f"CASE WHEN i16 = {n} THEN {n} ELSE " for n in range(times)) + "0" + " END" * times for times in (5, 200)
    ]
    queries = [answer("types", f"sum({chain('i64 % 7', times)})", "") for times in (5, 20, 100)]
    queries += [answer("types", f"sum({chain('dec4', times)})", "") for times in (5, 20, 21, 100)]
    queries += [answer("types", f"sum({case}), count(*)", f"WHERE {case} >= 0") for case in cases]
    queries.append(answer("types", "count(*)", "WHERE " + " AND ".join(f"(i8 <> {n} OR i16 > i32)" for n in range(300))))
    same(session, queries)


def test_random_aggregations(session):
    """Some aggregates of some columns, grouped by some, filtered by some."""
    rng = random.Random(SEED)
    queries = []
    for _ in range(QUERIES):
        store = rng.choice(list(COLUMNS))
        key = STORES[store]
        groups = rng.sample(all_columns(store), rng.choice([0, 0, 1, 1, 2, 3]) if len(all_columns(store)) > 2 else 1)
        chosen = rng.sample(aggregates(store), rng.randint(1, 4))
        having = f"HAVING {condition_on_groups(rng, store, groups)}" if rng.random() < 0.4 else ""
        if any("DISTINCT" in one for one in [*chosen, having]):
            # For which the heap's rows are sorted; whether a sum overflows depends on their order.
            chosen = [one for one in chosen if not one.startswith("CASE")]
        chosen = [f"{one} FILTER (WHERE {key} % 2 = 0)" if "::" not in one and rng.random() < 0.1 else one for one in chosen]
        chosen = [f"{one} FILTER (WHERE {key} > 2)" if one.endswith(")") and rng.random() < 0.2 else one for one in chosen]
        where = rng.choice(["", f"WHERE {key} > {rng.randint(-1, 9)}", f"WHERE {key} BETWEEN 2 AND {rng.randint(1, 9)}"])
        group = f"GROUP BY {', '.join(groups)}" if groups else ""
        queries.append(answer(store, ", ".join(groups + chosen), f"{where} {group} {having}"))

    def alike(*answers: str) -> bool:
        """Postgres may sort rows to group them; whether it meets an infinity before finite floats overflow depends on it."""
        return any(answer.startswith("22003: value out of range: overflow") for answer in answers)

    same(session, queries, alike)


# A column of the store `types` that a row around it is compared with, and values for it: some that are there, some that are
# not or cannot be, and NULL.
LOOKED_UP = {
    "i8": "SELECT g::smallint FROM generate_series(-130, 130) g UNION ALL SELECT NULL UNION ALL SELECT 1",
    "i64": "SELECT i64 FROM stored.types UNION ALL SELECT g FROM generate_series(1, 9) g",
    "u64": "SELECT u64 FROM stored.types UNION ALL SELECT -1 UNION ALL SELECT 0.5 UNION ALL SELECT 1e30",
    "u8": "SELECT g FROM generate_series(-5, 300) g",
    "dec9": "SELECT dec9 FROM stored.types UNION ALL SELECT 1.50 UNION ALL SELECT 0.001 UNION ALL SELECT 'NaN'",
    "dec38": "SELECT dec38 FROM stored.types UNION ALL SELECT g FROM generate_series(1, 9) g",
    "d": "SELECT d FROM stored.types UNION ALL SELECT '1970-01-01'::date + g FROM generate_series(-3, 9) g",
    "s": "SELECT s FROM stored.types UNION ALL SELECT 'none' UNION ALL SELECT 'plain'",
    "f64": "SELECT f64 FROM stored.types UNION ALL SELECT 'NaN' UNION ALL SELECT 0",
    "b": "SELECT b FROM stored.types",
}


def correlated(values: str, what: str, where: str) -> str:
    """A query for one text: for each of these values `o.x` an aggregate of the rows that a condition on it leaves."""
    answer = f"(SELECT ROW({what})::text FROM stored.types WHERE {where})"
    return f"SELECT string_agg(y, ';' ORDER BY y) FROM (SELECT o.x::text || {answer} AS y FROM ({values}) o(x)) z"


def test_subqueries_for_the_values_of_outer_rows(session):
    """After some of them, all answers are computed at once: the same as one by one."""
    queries = []
    for column, values in LOOKED_UP.items():
        for what in ("count(*), sum(i64), max(s)", "avg(dec18), min(d)", "count(DISTINCT i8)", "bool_or(b)"):
            queries.append(correlated(values, what, f"{column} = o.x"))
            queries.append(correlated(values, what, f"{column} = o.x AND id > 2"))
            queries.append(correlated(values, what, f"{column} = o.x AND id IN (SELECT 3)"))
        queries.append(correlated(values, "count(*)", f"{column} = o.x AND i16 = o.x" if column == "i8" else "b"))
        queries.append(correlated(values, "count(*)", f"{column} = o.x OR id = 3"))
        queries.append(correlated(values, "sum(i64 * 1000000)", f"{column} = o.x"))
    subplans = plan(session, correlated(LOOKED_UP["i8"], "count(*)", "i8 = o.x"), analyze=False)
    assert [scan["SoA Computes"] for scan in scans(subplans) if "SoA Filter" in scan] == ["count(*)"]
    for where in ("i8 = a.i8 AND dec9 = b.dec9", "i8 = a.i8 AND id > b.id", "i8 = a.i8 AND i8 = b.i8", "i8 > a.i8"):
        # The other side changes as well.
        subquery = f"(SELECT count(*) FROM stored.types WHERE {where})"
        queries.append(
            "SELECT string_agg(y, ';' ORDER BY y) FROM (SELECT a.id || ' ' || b.id || ' ' || "
            f"{subquery} AS y FROM stored.types a, stored.types b) z"
        )
    same(session, queries)


def test_partitions_in_a_store_and_in_the_heap(session):
    """Each partition's groups are computed where its rows are."""
    listed = "SELECT attname FROM pg_attribute WHERE attrelid = 'stored.types'::regclass AND attnum > 0 ORDER BY attnum"
    names = [f"{name} + 100" if name == "id" else name for (name,) in rows(session, listed)]
    session.execute("BEGIN")
    session.execute("CREATE TABLE parent (LIKE stored.types) PARTITION BY RANGE (id)")
    session.execute("CREATE TABLE above PARTITION OF parent FOR VALUES FROM (100) TO (200)")
    session.execute(f"INSERT INTO parent SELECT {', '.join(names)} FROM stored.types")
    session.execute("ALTER TABLE parent ATTACH PARTITION stored.types FOR VALUES FROM (0) TO (100)")
    session.execute("CREATE TABLE together AS SELECT * FROM parent")
    queries = (
        "SELECT count(*), sum(i64), max(s) FROM parent WHERE i8 > 0",
        "SELECT s, count(*), avg(dec9) FROM parent GROUP BY s ORDER BY s",
        "SELECT id, sum(i8), avg(i64), min(d) FROM parent WHERE i8 > -5 GROUP BY id HAVING count(*) > 0 ORDER BY id",
    )
    for setting in ("off", "on"):
        session.execute(f"SET LOCAL enable_partitionwise_aggregate = {setting}")
        for query in queries:
            assert rows(session, query) == rows(session, query.replace("parent", "together")), query
    assert "SoA Computes" in str(plan(session, queries[-1], analyze=False))
    in_parts = [
        f"SELECT {aggregate} FROM parent {where} {group}"
        for aggregate in (
            "count(*), count(s)",
            "sum(i8), sum(i32), min(i64), max(dec9)",
            "min(s), max(d), min(f64), max(f32), bool_and(b), bool_or(b)",
            "count(*) FILTER (WHERE i8 > 0), min(id)",
            "avg(i8), sum(i64), stddev(i8), avg(dec9)",
        )
        for where in ("", "WHERE i8 < 50", "WHERE i8 > 1000")
        for group in ("", "GROUP BY b ORDER BY b", "GROUP BY s, b HAVING count(*) > 1 ORDER BY s, b")
    ]
    for query in in_parts:
        # NaN is not equal to itself.
        assert str(rows(session, query)) == str(rows(session, query.replace("parent", "together"))), query
    tree = plan(session, in_parts[1], analyze=False)
    assert "Finalize" in str(tree) and [scan.get("SoA Computes") for scan in scans(tree)] == ["count(*), count(s) GROUP BY b"]
    session.execute("ROLLBACK")


def test_names_of_columns(database: Database):
    """Whatever columns are called, no plan takes one for something else."""
    names = ["a0", "a1", "alias1", "group_alias_0", "t", "count"]
    table = pa.table({name: pa.array([n % 3 for n in range(20)], pa.int64()) for name in names})
    support.soa("import", make_stores.write_table(table, database.root / "names.arrow"), database.root / "names.soa")
    database.import_all()
    with database.connect() as session:
        for name in names:
            for other in names:
                sql = f'SELECT "{name}", count(DISTINCT "{other}"), avg("{other}"), max("{other}") FROM names GROUP BY 1'
                assert rows(session, f"{sql} ORDER BY 1") == [(n, 1, n, n) for n in range(3)], sql
                sql = f'SELECT "{name}", count(DISTINCT "{other}") FROM names GROUP BY 1 ORDER BY 1'
                assert rows(session, sql) == [(n, 1) for n in range(3)], sql


PUSHED = (
    "SELECT count(*) FROM stored.types",
    "SELECT sum(i64), avg(dec9), min(d), max(f64), bool_and(b), count(DISTINCT s) FROM stored.types WHERE i8 > 0",
    "SELECT s, count(*) FROM stored.types WHERE s LIKE 'p%' OR i8 IN (1, 2) GROUP BY s",
    "SELECT stddev(i8), var_pop(f32) FROM stored.types",
    "SELECT DISTINCT s, i8 FROM stored.types",
    "SELECT level, sum(maybe_i64) FILTER (WHERE maybe_u8 > 1) FROM stored.rust_types GROUP BY level",
)
LEFT_TO_POSTGRES = (
    "SELECT sum(f32) FROM stored.types",  # rounded to real row by row
    "SELECT f64, count(*) FROM stored.types GROUP BY f64",  # -0 and 0 are one group
    "SELECT count(*) FROM stored.types WHERE id % 2 = 0",
    "SELECT count(*) FROM stored.types WHERE s ~ 'n$'",
    "SELECT string_agg(s, ',') FROM stored.types",
    "SELECT stddev(dec38) FROM stored.types",  # its squares take too many digits
    'SELECT max(s COLLATE "unicode") FROM stored.types',
)


def test_what_is_computed(session):
    """These tests test what they are to test: what the store computes, and what it must not."""
    for query in PUSHED:
        node = plan(session, query, analyze=False)
        assert node["Node Type"] == "Foreign Scan" and "SoA Computes" in node, (query, node)
    for query in LEFT_TO_POSTGRES:
        if "unicode" in query and not rows(session, "SELECT 1 FROM pg_collation WHERE collname = 'unicode'"):
            continue
        node = plan(session, query, analyze=False)
        assert node["Node Type"] == "Aggregate" and "SoA Computes" not in str(node), (query, node)
    session.execute("SET soa_fdw.pushdown = off")
    for query in PUSHED:
        assert plan(session, query, analyze=False)["Node Type"] in ("Aggregate", "Unique")


WHY = {
    "SELECT count(*) FROM stored.types WHERE id % 2 = 0 AND lower(s) = 'x' AND i8 > 1": "WHERE: operator %; WHERE: function lower",
    "SELECT f64, count(*) FROM stored.types GROUP BY 1": "GROUP BY: a column of type double precision",
    "SELECT string_agg(s, ','), sum(i8) FROM stored.types": "aggregate string_agg",
    "SELECT sum(i8 + abs(id)) FROM stored.types": "function abs",
    "SELECT sum(DISTINCT i8) FROM stored.types": "aggregate sum of distinct values",
    "SELECT count(*) FROM stored.types t JOIN stored.types u ON t.id < u.id": "JOIN: nothing must be equal on both sides",
    "SELECT b, s, count(*) FROM stored.types GROUP BY GROUPING SETS ((b), (s))": "GROUPING SETS",
    "SELECT i8, count(*) FROM stored.types WHERE id > 1 GROUP BY 1": None,
    "SELECT * FROM stored.types WHERE id > 1": None,
}


def test_explain_says_why_something_is_left_to_postgres(session):
    for sql, why in WHY.items():
        (found,) = rows(session, f"EXPLAIN (VERBOSE, FORMAT JSON) {sql}")[0]
        told = {scan.get("SoA Leaves to Postgres") for scan in scans(found[0]["Plan"])}
        assert told == {why}, sql
        assert "Leaves to Postgres" not in str(rows(session, f"EXPLAIN {sql}"))
    session.execute("SET soa_fdw.pushdown = off")
    for sql in WHY:
        assert "Leaves to Postgres" not in str(rows(session, f"EXPLAIN VERBOSE {sql}"))
