"""A few rows of other tables are joined to a large store by looking each of them up: by the key, or by a column whose values are in
order."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pyarrow as pa
import pytest

import make_stores
import support
from pg_support import Database, nodes, plan, rows

COUNT = 800_000


@pytest.fixture(scope="module")
def large(pg) -> Iterator[Database]:
    """Stores with a key of integers, with one of texts, and with none but with values in order, in several units; and a few
    rows in the heap."""
    ids = range(COUNT)
    content = pa.table(
        {
            "id": pa.array([number * 3 for number in ids], pa.int64()),
            "name": pa.array([f"n{number * 7 % COUNT:07}" for number in ids]),
            "ordered": pa.array([number // 4 for number in ids], pa.int32()),
            "v": pa.array([None if number % 13 == 0 else number % 100 for number in ids], pa.int32()),
        }
    )
    with support.public_folder("soa-lookups-") as root, Database(pg, root) as database:
        file = make_stores.write_table(content, root / "content.arrow")
        support.soa("import", file, root / "by_id.soa", "--key", "id")
        support.soa("import", file, root / "by_name.soa", "--key", "name")
        support.soa("import", file, root / "unkeyed.soa")
        database.import_all()
        database.execute("CREATE TABLE few (n int, big bigint, small smallint, name text, other numeric)")
        database.execute(
            "INSERT INTO few SELECT g, g * 2999, g, 'n' || to_char(g * 11, 'FM0000000'), g * 3 FROM generate_series(1, 40) g"
        )
        database.execute("INSERT INTO few VALUES (NULL, NULL, NULL, NULL, NULL), (-5, 9223372036854775807, 3, '', 'NaN')")
        database.execute("ANALYZE few; CREATE TABLE copy AS SELECT * FROM by_id; ANALYZE copy")
        yield database


@pytest.fixture
def session(large: Database) -> Iterator[psycopg.Connection]:
    with large.connect() as connection:
        connection.execute("BEGIN")
        yield connection
        connection.execute("ROLLBACK")


LOOKED_UP = (
    "SELECT f.n, t.* FROM few f JOIN by_id t ON t.id = f.big",
    "SELECT f.n, t.name FROM few f JOIN by_id t ON t.id = f.n AND t.v > 5",
    "SELECT f.n, t.name FROM few f LEFT JOIN by_id t ON t.id = f.n AND t.v < f.n",
    "SELECT f.n, t.id FROM few f JOIN by_name t ON t.name = f.name",
    "SELECT f.n FROM few f WHERE EXISTS (SELECT FROM by_id t WHERE t.id = f.n)",
    "SELECT f.n FROM few f WHERE NOT EXISTS (SELECT FROM by_id t WHERE t.id = f.n AND t.v IS NOT NULL)",
    "SELECT f.n, t.id FROM few f JOIN unkeyed t ON t.ordered = f.n WHERE t.v BETWEEN 1 AND 90",
    "SELECT f.n, t.id FROM few f JOIN unkeyed t ON t.ordered = f.small",
    "SELECT f.n, t.id, u.v FROM few f JOIN by_id t ON t.id = f.n JOIN by_name u ON u.name = f.name",
    "SELECT f.n, g.n, t.id FROM few f JOIN few g ON f.n = g.n JOIN by_id t ON t.id = f.n AND t.v < g.small",
    "SELECT f.n, x.* FROM few f, LATERAL (SELECT t.id, t.v + f.n AS w FROM by_id t WHERE t.id = f.n) x",
)
SCANNED = (
    # Values that are not in order, as many rows as the store has, and operators that are no equality.
    "SELECT f.n, t.id FROM few f JOIN unkeyed t ON t.name = f.name",
    "SELECT count(*) FROM copy c JOIN by_id t ON t.id = c.id",
    "SELECT count(*) FROM few f JOIN unkeyed t ON t.ordered < f.n",
    # What may be an error is not computed for rows that it might not be asked for.
    "SELECT f.n, t.name FROM few f JOIN by_id t ON t.id = f.small * 3 + 3",
    "SELECT f.n, t.id FROM few f JOIN by_name t ON t.name = f.name || ''",
)


def looks_up(tree: dict) -> bool:
    below = [node for node in nodes(tree) if node["Node Type"] == "Nested Loop"]
    return any(" = (expression)" in str(node) for node in below)


@pytest.mark.parametrize("sql", LOOKED_UP)
def test_a_few_rows_are_looked_up(large: Database, session, sql: str):
    tree = plan(session, sql, analyze=False)
    assert looks_up(tree), tree
    found = sorted(map(str, rows(session, sql)))
    session.execute("SET LOCAL enable_nestloop = off")
    assert found == sorted(map(str, rows(session, sql))) and len(found) > 3
    session.execute("PREPARE again AS " + sql)
    session.execute("SET LOCAL enable_nestloop = on")
    session.execute(f"SET LOCAL {large.server.parallel_setting} = on")
    assert found == sorted(map(str, rows(session, "EXECUTE again")))
    session.execute("DEALLOCATE again")


@pytest.mark.parametrize("sql", SCANNED)
def test_others_are_scanned(session, sql: str):
    assert not looks_up(plan(session, sql, analyze=False))
    assert rows(session, sql)


def test_what_a_transaction_has_changed_is_looked_up(large: Database):
    large.execute("ALTER SERVER stores OPTIONS (ADD updatable 'true')")
    with large.connect() as session:
        sql = "SELECT f.n, t.v FROM few f JOIN by_id t ON t.id = f.n ORDER BY f.n"
        session.execute("BEGIN")
        before = rows(session, sql)
        assert (9, 3) in before and (10, -10) not in before
        session.execute("DELETE FROM by_id WHERE id = 9")
        session.execute("INSERT INTO by_id VALUES (10, 'ten', 0, -10)")
        # A statement that changes a store finds its rows by a scan, and those of others by lookups.
        session.execute("UPDATE by_id SET v = -12 FROM few WHERE few.n = by_id.id AND few.n = 12")
        assert looks_up(plan(session, sql, analyze=False))
        after = rows(session, sql)
        assert (9, 3) not in after and (10, -10) in after and (12, -12) in after
        session.execute("ROLLBACK")
        assert rows(session, sql) == before
    large.execute("ALTER SERVER stores OPTIONS (DROP updatable)")


HALF = 300_000


@pytest.fixture
def partitioned(pg) -> Iterator[psycopg.Connection]:
    """Two stores as the partitions of one table, a few rows in the partitions of another, and a copy of all rows."""
    with support.public_folder("soa-partitions-") as root, Database(pg, root) as database:
        for number in range(2):
            ids = range(number * HALF, (number + 1) * HALF)
            content = {"id": pa.array(ids, pa.int64()), "v": pa.array([id % 100 for id in ids], pa.int32())}
            file = make_stores.write_table(pa.table(content), root / f"half{number}.arrow")
            support.soa("import", file, root / f"half{number}.soa", "--key", "id")
        database.import_all()
        with database.connect() as session:
            session.execute("CREATE TABLE halves (id bigint, v int) PARTITION BY RANGE (id)")
            session.execute("CREATE TABLE few (id bigint, x int) PARTITION BY RANGE (id)")
            for number in range(2):
                bounds = f"FOR VALUES FROM ({number * HALF}) TO ({(number + 1) * HALF})"
                session.execute(f"ALTER TABLE halves ATTACH PARTITION half{number} {bounds}")
                session.execute(f"CREATE TABLE few{number} PARTITION OF few {bounds}")
            session.execute("INSERT INTO few SELECT g * 1000, g FROM generate_series(0, 599, 40) g")
            session.execute("CREATE TABLE copy AS SELECT * FROM halves; ANALYZE few; ANALYZE copy")
            yield session


PARTITIONED = (
    "SELECT few.id, x, halves.v FROM few JOIN halves ON halves.id = few.id",
    "SELECT few.id, x, halves.v FROM few LEFT JOIN halves ON halves.id = few.id AND halves.v < few.x",
    "SELECT few.id, y.* FROM few, LATERAL (SELECT halves.v, halves.v + few.x AS w FROM halves WHERE halves.id = few.id) y",
    "SELECT few.id FROM few WHERE EXISTS (SELECT FROM halves WHERE halves.id = few.id AND halves.v < 3)",
)


@pytest.mark.parametrize("partitionwise", ["off", "on"])
@pytest.mark.parametrize("pushdown", ["off", "on"])
def test_partitions_are_looked_up(partitioned: psycopg.Connection, partitionwise: str, pushdown: str):
    """A lookup gets its values from a partition where the planner joins two tables partition by partition."""
    partitioned.execute(f"SET enable_partitionwise_join = {partitionwise}")
    partitioned.execute(f"SET soa_fdw.pushdown = {pushdown}")
    for sql in PARTITIONED:
        tree = plan(partitioned, sql, analyze=False)
        assert looks_up(tree), sql
        joins = [node for node in nodes(tree) if node["Node Type"] == "Nested Loop"]
        assert len(joins) == (2 if partitionwise == "on" else 1), sql
        found = sorted(map(str, rows(partitioned, sql)))
        assert found == sorted(map(str, rows(partitioned, sql.replace("halves", "copy")))) and found, sql
