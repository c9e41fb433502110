"""What the store computes of several tables that are joined is what Postgres computes of copies of them in tables of the
heap: every kind of join, of every type of keys, with conditions of every kind, chains of joins, and aggregates above them.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pyarrow.compute as pc
import pytest

import make_stores
import support
from pg_support import Database, error, notices, plan, rows, scans
from pg_twins import same

QUERIES = int(os.environ.get("SOA_DIFFERENTIAL_QUERIES", "600"))
SEED = int(os.environ.get("SOA_DIFFERENTIAL_SEED", "12"))

# Columns that may be compared with each other, by table.
FAMILIES = {
    "integers": {
        "types": "id i8 i16 i32 i64 u8 u16 u32 u64",
        "types_parquet": "id i8 i64 u64",
        "types_required": "id i8 i64",
        "floats": "id",
        "days": "id k",
        "rust_types": "id maybe_u8 maybe_i64",
        "clocks": "id",
    },
    "numerics": {"types": "dec4 dec9 dec18 dec38", "types_parquet": "dec9 dec38", "types_required": "dec18"},
    "floats": {"types": "f32 f64", "types_parquet": "f64", "types_required": "f64", "floats": "f g"},
    "texts": {"types": "s", "types_parquet": "s", "types_required": "s", "rust_types": "level maybe_level"},
    "dates": {"types": "d", "types_parquet": "d", "types_required": "d", "days": "d", "rust_types": "day"},
    "times": {"types": "ts", "types_parquet": "ts", "days": "t"},
    "booleans": {"types": "b", "types_parquet": "b", "types_required": "b", "days": "flag"},
    "bytes": {"types": "bin"},
    "uuids": {"clocks": "u"},
    "times of day": {"clocks": "t"},
}
TABLES = sorted({table for tables in FAMILIES.values() for table in tables})
# Of large tables only so many rows, so that what comes of a join stays small.
FEW = {"floats": "id < 60", "days": "id < 60", "rust_types": "id < 60", "clocks": "id < 60"}
JOINS = ("JOIN", "JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN")


@pytest.fixture
def session(copied: Database) -> Iterator[psycopg.Connection]:
    with copied.connect() as connection:
        yield connection


def listed(what: str, rest: str) -> str:
    """A query for one text: the rows, ordered."""
    return f"SELECT string_agg(g, ';' ORDER BY g) FROM (SELECT ROW({what})::text AS g {rest}) x"


def source(table: str, alias: str) -> str:
    few = f" WHERE {FEW[table]}" if table in FEW else ""
    return f"(SELECT * FROM stored.{table}{few}) {alias}"


def pairs() -> Iterator[tuple[str, str, str, str]]:
    """Two columns of a family, each with its table."""
    for tables in FAMILIES.values():
        columns = [(table, column) for table, names in tables.items() for column in names.split()]
        for place, first in enumerate(columns):
            for second in columns[place:]:
                yield *first, *second


def test_each_kind_of_join_of_each_pair_of_columns(session):
    queries = []
    for table, column, other_table, other in pairs():
        a, b = source(table, "a"), source(other_table, "b")
        on = f"a.{column} = b.{other}"
        for join in sorted(set(JOINS)):
            queries.append(listed("a.id, b.id", f"FROM {a} {join} {b} ON {on}"))
        queries.append(listed("a.id, b.id", f"FROM {a} LEFT JOIN {b} ON {on} AND a.id <> b.id WHERE b.id IS NULL"))
        nothing = "WHERE b.id IS NULL AND (b.id IS NULL OR a.id > 2) AND (coalesce(b.id, 1) = 1 OR a.id > 5)"
        queries.append(listed("a.id, b.id", f"FROM {a} LEFT JOIN {b} ON a.id = b.id AND {on} {nothing}"))
        exists = f"EXISTS (SELECT 1 FROM {b} WHERE {on})"
        other_exists = f"EXISTS (SELECT 1 FROM {b} WHERE {on} AND a.id > b.id)"
        for condition in (exists, f"NOT {exists}", other_exists, f"NOT {other_exists}"):
            queries.append(listed("a.id", f"FROM {a} WHERE {condition}"))
    same(session, queries)
    # Most of them are joined in the store.
    some = random.Random(SEED).sample(queries, 200)
    joined = sum("SoA Joins" in str(plan(session, query, analyze=False)) for query in some)
    assert joined > 150, joined


def comparison(rng: random.Random, first: list[tuple[str, str]], second: list[tuple[str, str]]) -> str | None:
    """A comparison of a column of one of the first tables with one of the second; both are (table, alias)."""
    found = []
    for tables in FAMILIES.values():
        left = [f"{alias}.{column}" for table, alias in first for column in tables.get(table, "").split()]
        right = [f"{alias}.{column}" for table, alias in second for column in tables.get(table, "").split()]
        if left and right:
            found.append((left, right))
    left, right = rng.choice(found)
    op = rng.choice(["=", "=", "<>", "<", ">=", ">"])
    return f"{rng.choice(left)} {op} {rng.choice(right)}"


def key(rng: random.Random, first: list[tuple[str, str]], second: tuple[str, str]) -> str:
    """Columns that must be equal, mostly ones with many values."""
    while True:
        found = comparison(rng, first, [second])
        if " = " in found and not (" b." in found and rng.random() < 0.5):
            return found


def single(rng: random.Random, table: str, alias: str) -> str:
    """A condition on one table."""
    conditions = [f"{alias}.id > {rng.randint(-1, 9)}", f"{alias}.id IN (1, 3, 5, 8)", f"{alias}.id IS NOT NULL"]
    if table.startswith("types"):
        conditions += [
            f"{alias}.s LIKE '%a%'",
            f"{alias}.s NOT LIKE 'p_a%n'",
            f"{alias}.s IS NULL",
            f"NOT ({alias}.i8 > 0 AND {alias}.b)",
            f"{alias}.i8 < {alias}.i64",
            f"({alias}.d < {alias}.d OR {alias}.f64 > 0)",
            f"EXTRACT(year FROM {alias}.d) > 1970",
        ]
    return rng.choice(conditions)


def unknown(rng: random.Random, tables: list[tuple[str, str]]) -> str:
    """A condition that the store cannot test, on one table or two."""
    first, second = (rng.choice(tables)[1] for _ in range(2))
    conditions = [
        f"md5({first}.id::text) < '8'",
        f"{first}.id / 2 % 2 = 0",
        f"{first}.id % 3 = {second}.id % 2",
        f"coalesce({first}.id, {second}.id, 0) / 3 >= 1",
        f"{first}.id >= (SELECT count(*) FROM stored.days z WHERE z.k < {second}.id)",
        f"({first}.id IN (SELECT z.id / 2 FROM stored.floats z WHERE z.id < 9) OR {second}.id = 5)",
        f"{first}.id NOT IN (SELECT z.id + 1 FROM stored.types z)",
    ]
    return rng.choice(conditions)


def condition(rng: random.Random, tables: list[tuple[str, str]]) -> str:
    kind = rng.random()
    if kind < 0.15:
        return unknown(rng, tables)
    if kind < 0.4:
        return single(rng, *rng.choice(tables))
    if kind < 0.7:
        return comparison(rng, tables, tables)
    parts = [condition(rng, tables) for _ in range(2)]
    return rng.choice([f"({parts[0]} OR {parts[1]})", f"({parts[0]} AND {parts[1]})", f"NOT ({parts[0]})"])


def random_join(rng: random.Random) -> str:
    tables = [(rng.choice(TABLES), "a")]
    text = f"FROM {source(*tables[0])}"
    for alias in "bcd"[: rng.choice([1, 1, 2, 2, 3])]:
        table = (rng.choice(TABLES), alias)
        on = key(rng, tables, table)
        join = rng.choice(JOINS)
        # FULL joins take nothing but what can be hashed or merged.
        if rng.random() < 0.3 and join != "FULL JOIN":
            on += f" AND {condition(rng, [*tables, table])}"
        text += f" {join} {source(*table)} ON {on}"
        tables.append(table)
    conditions = []
    if rng.random() < 0.5:
        conditions.append(condition(rng, tables))
    if rng.random() < 0.4:
        table = (rng.choice(TABLES), "e")
        inner = key(rng, tables, table)
        inner += f" AND {condition(rng, [*tables, table])}" if rng.random() < 0.3 else ""
        conditions.append(f"{rng.choice(['', 'NOT '])}EXISTS (SELECT 1 FROM {source(*table)} WHERE {inner})")
    text += f" WHERE {' AND '.join(conditions)}" if conditions else ""
    return choose_output(rng, text, tables)


def choose_output(rng: random.Random, text: str, tables: list[tuple[str, str]]) -> str:
    ids = ", ".join(f"{alias}.id" for _, alias in tables)
    kind = rng.random()
    if kind < 0.4:
        columns = [f"{alias}.{column}" for table, alias in tables for column in columns_of(table)]
        return listed(", ".join([ids, *rng.sample(columns, min(3, len(columns)))]), text)
    if kind < 0.5:
        return listed("x.*", f"FROM (SELECT {ids} {text} ORDER BY {ids} LIMIT {rng.randint(0, 20)}) x")
    numbers = [
        f"{alias}.{column}"
        for table, alias in tables
        for family in ("integers", "numerics")
        for column in FAMILIES[family].get(table, "").split()
    ]
    columns = [
        f"{alias}.{column}"
        for table, alias in tables
        for family in ("integers", "numerics", "texts", "dates", "booleans")
        for column in FAMILIES[family].get(table, "").split()
    ]
    number = rng.choice(numbers)
    tested = condition(rng, tables)
    aggregates = [
        "count(*)",
        f"count({rng.choice(columns)})",
        f"count(DISTINCT {rng.choice(columns)})",
        f"sum({number})",
        f"avg({number})",
        f"max({rng.choice(numbers)})",
        f"count(*) FILTER (WHERE {tested})",
        f"sum(CASE WHEN {tested} THEN {rng.choice(numbers)} ELSE 0 END)",
        f"sum(CASE WHEN {tested} THEN {rng.choice(numbers)}::numeric END)",
    ]
    chosen = ", ".join(rng.sample(aggregates, rng.randint(1, 4)))
    if rng.random() < 0.4:
        return listed(chosen, text)
    group = rng.choice(columns)
    having = rng.choice(["", "", " HAVING count(*) > 1"])
    return listed(f"{group}, {chosen}", f"{text} GROUP BY {group}{having}")


def columns_of(table: str) -> list[str]:
    return [column for tables in FAMILIES.values() for column in tables.get(table, "").split()]


def test_random_joins(session):
    rng = random.Random(SEED)
    queries = [random_join(rng) for _ in range(QUERIES)]
    session.execute("SET statement_timeout = '120s'")
    same(session, queries)
    joined = sum("SoA Joins" in str(plan(session, query, analyze=False)) for query in queries[:100])
    assert joined > 60, joined


def test_random_joins_that_are_prepared(session):
    """The values of conditions are known only when the plan runs."""
    rng = random.Random(SEED)
    queries = []
    for _ in range(QUERIES // 4):
        query = random_join(rng)
        queries.append(query.replace("WHERE id < 60", "WHERE id < 55 + $1").replace("stored.types)", "stored.types WHERE id > $1)"))
    session.execute("SET plan_cache_mode = force_generic_plan")
    prepared = [query for query in queries if "$1" in query]
    assert prepared
    assert rows(session, "SELECT * FROM differing_prepared('int', %s, %s)", (prepared, ["0", "3", "NULL"])) == []


def test_what_is_computed_of_rows(session):
    """Conditions between columns, LIKE, CASE and EXTRACT, of one table and of joined ones."""
    dates = ("d", "ts")
    queries = []
    for part in ("year", "quarter", "month", "day"):
        for column in dates:
            queries.append(listed(f"EXTRACT({part} FROM {column}), count(*)", "FROM stored.types GROUP BY 1".replace("1", f"EXTRACT({part} FROM {column})")))
            queries.append(listed(f"sum(EXTRACT({part} FROM {column})), max(EXTRACT({part} FROM {column}))", "FROM stored.types"))
    for pattern in ("%a%", "p%n", "_l%", "%", "", "plain", "%\\%", "a\\_b", "%ü%", "_"):
        for op in ("LIKE", "NOT LIKE", "~~", "!~~"):
            queries.append(listed("count(*), max(id)", f"FROM stored.types WHERE s {op} '{pattern}'"))
            queries.append(listed("count(*)", f"FROM stored.types WHERE NOT (s {op} '{pattern}' OR i8 > i16)"))
            queries.append(listed("count(*)", f"FROM stored.rust_types WHERE level {op} '{pattern}'"))
    values = ("dec9", "dec4 * dec9", "i8", "i64::numeric", "f64", "NULL", "0", "1.50", "dec18 - 1", "NULL::numeric")
    tests = ("i8 > 0", "b", "s LIKE '%a%'", "id > 100", "id < 3", "i8 < i16", "f64 IS NULL", "NOT b")
    for value in values:
        for other in values:
            for test in tests:
                case = f"CASE WHEN {test} THEN {value} ELSE {other} END"
                function = "max" if "f64" in case else "sum"
                if value != "NULL" or other not in ("NULL",):
                    queries.append(listed(f"{function}({case}), count({case})", "FROM stored.types"))
                    queries.append(listed(f"b, {function}({case})", "FROM stored.types GROUP BY b"))
    case = "CASE WHEN i8 > 5 THEN dec4 WHEN i8 > 0 THEN dec18 * dec18 WHEN b THEN 7 END"
    queries += [
        listed(f"sum({case}), avg({case}), min({case})", "FROM stored.types"),
        listed(f"sum({case})", "FROM stored.types WHERE i8 < 0"),
        listed(f"{case}, count(*)", f"FROM stored.types GROUP BY {case}"),
        listed("sum(CASE WHEN i8 <> 0 THEN 100 / i8 ELSE 0 END)", "FROM stored.types"),
        listed("sum(CASE i8 WHEN 1 THEN 2 ELSE 3 END)", "FROM stored.types"),
        listed("sum(CASE WHEN i8 > 100 THEN i32 * i32 ELSE 0 END)", "FROM stored.types"),
    ]
    for op in ("=", "<>", "<", "<=", ">", ">="):
        for left, right in (("i8", "i16"), ("dec4", "dec38"), ("f32", "f64"), ("i8 + i16", "i32"), ("d", "ts"), ("s", "s"), ("u64", "i64")):
            queries.append(listed("count(*), sum(id)", f"FROM stored.types WHERE {left} {op} {right}"))
            queries.append(listed("count(*), sum(id)", f"FROM stored.types WHERE NOT ({left} {op} {right}) OR i8 IS NULL"))
    same(session, queries)


PUSHED = (
    "SELECT count(*) FROM stored.types a JOIN stored.days b ON a.i8 = b.id",
    "SELECT a.s, sum(b.k) FROM stored.types a LEFT JOIN stored.days b ON a.i8 = b.id AND b.k > a.i8 GROUP BY a.s",
    "SELECT count(*) FROM stored.types a WHERE NOT EXISTS (SELECT FROM stored.days b WHERE b.id = a.id AND b.k <> a.i8)",
    "SELECT a.id FROM stored.types a JOIN stored.types b USING (s) ORDER BY a.i8, b.i8 LIMIT 3",
    "SELECT sum(CASE WHEN a.s LIKE '%a%' THEN b.k ELSE 0 END) FROM stored.types a JOIN stored.days b ON a.d = b.d",
)
LEFT_TO_POSTGRES = (
    "SELECT count(*) FROM stored.types a, stored.days b",  # nothing to look up by
    "SELECT count(*) FROM stored.types a JOIN stored.days b ON a.i8 < b.id",
    "SELECT count(*) FROM stored.types a JOIN stored.days b ON a.i8 = b.id AND random() < 2",
    "SELECT count(*) FROM stored.types a LEFT JOIN stored.days b ON a.i8 = b.id AND 100 / a.i8 > 1",
    "SELECT count(*) FROM stored.types a LEFT JOIN stored.days b ON a.i8 = b.id AND a.i8 * a.i16 > 1",  # may overflow
    "SELECT count(*) FROM stored.types a JOIN stored.days b ON a.i8 = b.id WHERE md5(a.s) < '8' AND random() < 2",
    "SELECT a.id FROM stored.types a WHERE NOT EXISTS (SELECT FROM stored.days b WHERE a.i8 = b.id AND b.k / 2 = 1)",
    "SELECT count(*) FROM stored.types a FULL JOIN (SELECT * FROM stored.days WHERE k / 2 = 0) b ON a.i8 = b.id",
    "SELECT count(*) FROM stored.types a JOIN stored.days b ON a.i8 = b.id WHERE md5(a::text) < '8'",  # whole rows
    "SELECT a FROM stored.types a JOIN stored.days b ON a.i8 = b.id",  # whole rows
    "SELECT a.tableoid FROM stored.types a JOIN stored.days b ON a.i8 = b.id",
    "SELECT count(*) FROM stored.types a JOIN heap.days b ON a.i8 = b.id",
    "SELECT a.id FROM stored.types a JOIN stored.days b ON a.i8 = b.id FOR SHARE OF a",
)


# The store joins, and Postgres tests a condition of what comes.
TESTED_BY_POSTGRES = (
    "SELECT count(*) FROM stored.types a JOIN stored.days b ON a.i8 = b.id AND 100 / (a.i8 + 1000) > -1",
    "SELECT b.k FROM stored.types a JOIN stored.days b ON a.i8 = b.id WHERE a.i8 % 2 = b.id % 2 AND md5(a.s) > '1'",
    "SELECT a.id FROM stored.types a LEFT JOIN stored.days b ON a.i8 = b.id WHERE md5(a.s) > '1' OR b.k / 2 = 7",
    "SELECT a.id FROM stored.types a WHERE md5(a.s) > '1' AND NOT EXISTS (SELECT FROM stored.days b WHERE a.i8 = b.id)",
    "SELECT a.id FROM stored.types a JOIN stored.days b ON a.i8 = b.id"
    " WHERE b.k < (SELECT count(*) FROM stored.floats f WHERE f.id > a.i8 + 200)",
    "SELECT count(*) FROM stored.types a JOIN stored.days b ON a.i8 = b.id JOIN stored.floats c ON b.id = c.id"
    " WHERE a.i8 / 2 <> 5 AND c.id / 3 <> 7 AND b.id % 7 <> 6",
)


def test_conditions_that_the_store_cannot_test_of_what_it_joins(session):
    # Of tables this small another plan may be as cheap.
    for setting in ("enable_nestloop", "enable_hashjoin", "enable_mergejoin"):
        session.execute(f"SET {setting} = off")
    same(session, [listed("x.*", f"FROM ({sql}) x") for sql in TESTED_BY_POSTGRES])
    for sql in TESTED_BY_POSTGRES:
        (scan,) = [scan for scan in scans(plan(session, sql, analyze=False)) if "SoA Joins" in scan]
        assert scan["Filter"] and "SoA Computes" not in scan, sql
    (found,) = rows(session, f"EXPLAIN (VERBOSE, FORMAT JSON) {TESTED_BY_POSTGRES[1]}")[0]
    (scan,) = scans(found[0]["Plan"])
    assert sorted(scan["SoA Leaves to Postgres"].split("; ")) == ["JOIN: operator %", "WHERE: function md5"]


def test_functions_of_users_see_no_hidden_rows(pg, stores: Path):
    """Where a view hides rows, a function that tells what it sees is called for none of them, joined or not."""
    with Database(pg, stores) as database:
        database.import_all()
        database.execute(
            "CREATE FUNCTION tell(v int) RETURNS boolean LANGUAGE plpgsql COST 0.001 AS"
            " $$ BEGIN RAISE NOTICE 'seen %', v; RETURN true; END $$"
        )
        database.execute("CREATE VIEW shown WITH (security_barrier) AS SELECT id, k FROM days WHERE md5(id::text) < '4'")
        with database.connect() as session:
            told = notices(session)
            sql = "SELECT v.id FROM shown v JOIN floats ON v.id = floats.id WHERE tell(v.id::int) AND floats.id / 2 >= 0"
            found = {row[0] for row in rows(session, sql)}
            seen = {int(notice.message.split()[1]) for notice in told}
            shown = {row[0] for row in rows(session, "SELECT id FROM shown")}
            hidden = {row[0] for row in rows(session, "SELECT id FROM days WHERE md5(id::text) >= '4'")}
            assert found and hidden and seen == found and seen <= shown


def test_what_is_left_to_postgres(session):
    left = list(LEFT_TO_POSTGRES)
    try:
        session.execute("CREATE COLLATION loose (provider = icu, locale = 'und-u-ks-level2', deterministic = false)")
        left.append("SELECT count(*) FROM stored.types a JOIN stored.types b ON a.s = b.s COLLATE loose")
    except psycopg.errors.FeatureNotSupported:
        session.rollback()
    session.execute("BEGIN")
    for sql in PUSHED:
        assert "SoA Joins" in str(plan(session, sql, analyze=False)), sql
    for sql in left:
        assert "SoA Joins" not in str(plan(session, sql, analyze=False)), sql
    session.execute("SET LOCAL soa_fdw.pushdown = off")
    for sql in PUSHED:
        assert "SoA Joins" not in str(plan(session, sql, analyze=False)), sql
    session.execute("ROLLBACK")
    session.execute("DROP COLLATION IF EXISTS loose")


def test_a_plan_names_each_table(session):
    sql = "SELECT a.s, count(*) FROM stored.types a JOIN stored.days b ON a.i8 = b.id WHERE b.id > 2 GROUP BY a.s"
    (scan,) = scans(plan(session, sql, analyze=False))
    assert scan["SoA Joins"] in ("a INNER JOIN b ON a.i8 = b.id", "b INNER JOIN a ON b.id = a.i8")
    tables = {table["SoA Table"]: table for table in scan["SoA Tables"]}
    assert tables["a"]["SoA Store"].endswith("types.soa") and tables["b"]["SoA Store"].endswith("days.soa")
    assert tables["b"]["SoA Filter"] == "id > 2" and "SoA Filter" not in tables["a"]
    assert tables["b"]["SoA Columns"]== "id"
    assert scan["SoA Computes"] == "count(*) GROUP BY a.s"


def test_subqueries_over_joins_for_the_values_of_outer_rows(session):
    subquery = "SELECT sum(b.k) FROM stored.types a JOIN stored.days b ON a.i8 = b.id WHERE a.id = o.x AND b.id > {}"
    queries = [
        f"SELECT string_agg(y, ';' ORDER BY y) FROM (SELECT o.x::text || ' ' || coalesce(({subquery.format(least)}), -1)"
        f" AS y FROM generate_series(-2, 40) o(x)) z"
        for least in (-100, 0, 3, "o.x")
    ]
    same(session, queries)


@pytest.fixture(scope="module")
def large(pg) -> Iterator[Database]:
    """Stores of which a join keeps far more than the least memory that can be set. Keys are there up to five times, some are
    NULL, and some have no partners."""
    count = 1_200_000
    with support.public_folder("soa-joins-") as root, Database(pg, root) as database:
        ids = pa.array(range(count), pa.int64())
        texts = pc.binary_join_element_wise("a text that takes some bytes of each row ", ids.cast(pa.string()), "")
        for name, step in (("left_side", 3), ("right_side", 7)):
            keys = pc.multiply(pc.divide(ids, 5 if step == 3 else 1), step)
            keys = pc.if_else(pc.equal(pc.bit_wise_and(ids, 63), 5), pa.scalar(None, pa.int64()), keys)
            table = pa.table({"id": ids, "k": keys, "f": pc.divide(keys.cast(pa.float64()), 2.0), "s": texts})
            support.soa("import", make_stores.write_table(table, root / f"{name}.arrow"), root / f"{name}.soa")
        database.import_all()
        yield database


def test_a_chain_of_many_joins(copied: Database):
    with copied.connect() as session:
        session.execute("SET join_collapse_limit = 1")
        for count in (5, 24, 30, 80):
            chain = "stored.types t0" + "".join(f" JOIN stored.types t{n} ON t{n}.id = t{n - 1}.id" for n in range(1, count))
            assert rows(session, f"SELECT count(*), sum(t0.id) FROM {chain}") == rows(
                session, "SELECT count(*), sum(id) FROM stored.types WHERE id IS NOT NULL"
            ), count


LARGE_JOINS = (
    "SELECT count(*), sum(l.id), max(r.s), min(l.s) FROM left_side l JOIN right_side r ON l.k = r.k",
    "SELECT count(*), count(r.id), sum(l.id), max(r.s), max(l.s) FROM left_side l LEFT JOIN right_side r ON l.k = r.k",
    "SELECT count(*), count(l.id), sum(r.id), max(r.s), max(l.s) FROM left_side l RIGHT JOIN right_side r ON l.f = r.f",
    "SELECT count(*), count(l.id), count(r.id), max(r.s), max(l.s) FROM left_side l FULL JOIN right_side r ON l.k = r.k",
    "SELECT count(*), max(l.s) FROM left_side l WHERE EXISTS (SELECT FROM right_side r WHERE r.k = l.k)",
    "SELECT count(*), max(l.s) FROM left_side l WHERE NOT EXISTS (SELECT FROM right_side r WHERE r.k = l.k"
    " AND r.id <> l.id)",
    "SELECT count(*), max(l.s), max(r.s), max(m.s) FROM left_side l JOIN right_side r ON l.s = r.s JOIN right_side m"
    " ON m.id = l.id AND m.f = r.f",
    "SELECT count(*), sum(n), max(t) FROM (SELECT r.id % 1000 AS g, count(*) AS n, max(l.s) AS t FROM left_side l"
    " JOIN right_side r ON l.k = r.k GROUP BY 1) x",
    "SELECT string_agg(s, ',') FROM (SELECT l.s FROM left_side l JOIN right_side r ON l.k = r.k ORDER BY l.id DESC LIMIT 5) x",
)


@pytest.mark.parametrize("sql", LARGE_JOINS)
def test_a_join_that_memory_does_not_suffice_for_is_done_in_pieces(large: Database, sql: str):
    with large.connect() as session:
        session.execute("SET soa_fdw.pushdown = off")
        expected = rows(session, sql)
        session.execute("SET soa_fdw.pushdown = on")
        for memory in ("2GB", "100MB", "40MB", "16MB"):
            session.execute(f"SET soa_fdw.work_mem = '{memory}'")
            assert "SoA Joins" in str(plan(session, sql, analyze=False)), memory
            assert rows(session, sql) == expected, memory


def test_a_join_sees_what_its_transaction_has_changed(pg):
    with support.public_folder("soa-joins-") as root, Database(pg, root) as database:
        table = pa.table({"id": pa.array(range(100), pa.int64()), "v": pa.array(range(100), pa.int64())})
        for name in ("one", "two"):
            support.soa("import", make_stores.write_table(table, root / f"{name}.arrow"), root / f"{name}.soa")
        database.import_all()
        database.execute("ALTER SERVER stores OPTIONS (ADD updatable 'true')")
        sql = "SELECT count(*), sum(two.v) FROM one JOIN two ON one.id = two.id"
        with database.connect() as session, database.connect() as other:
            session.execute("BEGIN")
            assert rows(session, sql) == [(100, 4950)]
            session.execute("DELETE FROM one WHERE id < 10")
            session.execute("INSERT INTO one VALUES (99, 0), (50, 0), (1000, 0)")
            session.execute("SET LOCAL soa_fdw.several_stores = on")
            session.execute("UPDATE two SET v = v + 1")
            assert "SoA Joins" in str(plan(session, sql, analyze=False))
            assert rows(session, sql) == [(92, sum(range(11, 101)) + 100 + 51)]
            assert rows(other, sql) == [(100, 4950)]
            # An INSERT reads joined rows, an UPDATE does not.
            session.execute("CREATE TEMP TABLE kept AS SELECT one.id FROM one JOIN two ON one.id = two.id")
            assert rows(session, "SELECT count(*) FROM kept") == [(92,)]
            session.execute("UPDATE one SET v = two.v FROM two WHERE one.id = two.id AND two.id = 20")
            assert rows(session, "SELECT v FROM one WHERE id = 20") == [(21,)]
            session.execute("ROLLBACK")


def test_each_table_of_a_join_needs_its_own_permission(copied: Database):
    copied.execute("CREATE ROLE half_reader; GRANT USAGE ON SCHEMA stored TO half_reader")
    copied.execute("GRANT SELECT ON stored.types TO half_reader; GRANT USAGE ON FOREIGN SERVER stores TO half_reader")
    copied.execute("CREATE VIEW both_tables AS SELECT b.k FROM stored.types a JOIN stored.days b ON a.i8 = b.id")
    copied.execute("GRANT SELECT ON both_tables TO half_reader")
    with copied.connect() as session:
        session.execute("SET ROLE half_reader")
        denied = error(session, "SELECT count(*) FROM stored.types a JOIN stored.days b ON a.i8 = b.id")
        assert denied.sqlstate == "42501" and "days" in str(denied)
        # The view's owner may read both.
        assert rows(session, "SELECT count(*) FROM both_tables")
        # What different users read is not joined by one of them.
        sql = "SELECT count(*) FROM stored.types a JOIN both_tables v ON a.i8 = v.k"
        assert rows(session, sql)
        session.execute("RESET ROLE")
    copied.execute("DROP VIEW both_tables; DROP OWNED BY half_reader; DROP ROLE half_reader")
