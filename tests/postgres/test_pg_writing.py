"""Stores are changed from Postgres as tables of the heap are: statement by statement, with savepoints, all of a transaction at
once or nothing of it; and others' changes are met with an error, never with a lost row.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

import make_stores
import support
from damage import copy
from pg_server import PgServer
from pg_support import PARALLEL, Database, error, nodes, plan, rows, scans
from support import LogWriter

STEPS = int(os.environ.get("SOA_WRITING_STEPS", "250"))
SEED = int(os.environ.get("SOA_DIFFERENTIAL_SEED", "11"))
KILLS = int(os.environ.get("SOA_WRITING_KILLS", "8"))

SERIALIZATION, TAKEN, RANGE = "40001", "23505", "22003"
# Per store: how it is imported, and whether the heap's twin has a primary key.
STORES = {
    "plain": [],
    "keyed": ["--key", "id"],
    "parts": ["--partition-by", "region"],
    "sorted": ["--sort-by", "v", "--key", "id"],
    "rewritten": ["--key", "id", "--partition-by", "region"],
}
REGIONS = ("north", "south", "east")


def table(ids: range) -> pa.Table:
    return pa.table(
        {
            "id": pa.array(ids, pa.int64()),
            "v": pa.array([number * 37 % 1000 if number % 11 else None for number in ids], pa.int32()),
            "region": pa.array([REGIONS[number % 3] for number in ids]),
            "note": pa.array([None if number % 5 == 0 else "n" * (number % 40) for number in ids]),
        }
    )


def make(root: Path, name: str, content: pa.Table, *options: str) -> Path:
    """A store of these rows that the server's user may write."""
    store = root / f"{name}.soa"
    support.soa("import", make_stores.write_table(content, root / f"{name}.arrow"), store, *options)
    return public(store)


def public(store: Path) -> Path:
    for folder, _, files in os.walk(store):
        os.chmod(folder, 0o777)
        for file in files:
            os.chmod(Path(folder) / file, 0o666)
    return store


def updatable(database: Database) -> Database:
    database.execute("ALTER SERVER stores OPTIONS (ADD updatable 'true')")
    database.import_all()
    return database


@pytest.fixture
def twins(database: Database) -> Database:
    """Stores in the schema `public`, and tables of the heap with the same rows in the schema `heap`."""
    for name, options in STORES.items():
        store = make(database.root, name, table(range(300)), *options)
        if name == "rewritten":
            support.soa("alter", store, "--deletion-vectors", "false")
            public(store)
    updatable(database)
    database.execute("CREATE SCHEMA heap")
    for name, options in STORES.items():
        database.execute(f"CREATE TABLE heap.{name} AS SELECT * FROM {name}")
        if "--key" in options:
            database.execute(f"ALTER TABLE heap.{name} ADD PRIMARY KEY (id)")
    return database


@pytest.fixture
def orders(database: Database) -> Database:
    """One store with the keys 0 to 99."""
    make(database.root, "keyed", table(range(100)), "--key", "id")
    return updatable(database)


@pytest.fixture
def session(orders: Database) -> Iterator[psycopg.Connection]:
    with orders.connect(autocommit=True) as connection:
        yield connection


@pytest.fixture
def other(orders: Database) -> Iterator[psycopg.Connection]:
    with orders.connect(autocommit=True) as connection:
        yield connection


def verify(database: Database) -> None:
    for store in database.root.glob("*.soa"):
        assert "all is well" in support.soa("verify", store).stdout


def ids(session: psycopg.Connection, where: str = "true", name: str = "keyed") -> list[int]:
    return [number for (number,) in rows(session, f"SELECT id FROM {name} WHERE {where} ORDER BY id")]


def statement(rng: random.Random, name: str) -> str:
    """A random statement on `{0}name`."""
    low = rng.randint(-20, 400)
    span = rng.choice([0, 1, 5, 40, 400])
    some = f"id BETWEEN {low} AND {low + span}"
    value = rng.choice(["v + 1", "NULL", str(rng.randint(-5, 5)), "id % 100", "coalesce(v, 0) * 2"])
    region = rng.choice([*REGIONS, "west"])
    fresh = rng.randint(400, 100_000)
    return rng.choice(
        [
            f"INSERT INTO {{0}}{name} VALUES ({fresh}, 1, '{region}', 'new'), ({fresh + 1}, NULL, '{region}', NULL)",
            f"INSERT INTO {{0}}{name} VALUES ({low}, 2, '{region}', 'maybe taken')",
            f"INSERT INTO {{0}}{name} (id, region) SELECT id + {fresh}, region FROM {{0}}{name} WHERE {some}",
            f"INSERT INTO {{0}}{name} SELECT g, g, '{region}', g::text FROM generate_series({fresh}, {fresh + span}) g",
            f"INSERT INTO {{0}}{name} SELECT g % 150, g, '{region}', 'maybe' FROM generate_series({low}, {low + span}) g"
            " ON CONFLICT DO NOTHING",
            f"UPDATE {{0}}{name} SET v = {value} WHERE {some}",
            f"UPDATE {{0}}{name} SET note = note || '!', region = '{region}' WHERE v % 7 = {rng.randint(0, 6)}",
            f"UPDATE {{0}}{name} SET id = id + {fresh * 1000} WHERE {some}",
            f"UPDATE {{0}}{name} t SET v = x.n FROM generate_series({low}, {low + span}) x(n) WHERE x.n = t.id",
            f"DELETE FROM {{0}}{name} WHERE {some}",
            f"DELETE FROM {{0}}{name} WHERE region = '{region}' AND v < {low}",
            f"DELETE FROM {{0}}{name} t USING generate_series({low}, {low + span}, 3) x(n) WHERE x.n = t.id",
            f"WITH gone AS (DELETE FROM {{0}}{name} WHERE {some} RETURNING *)"
            f" INSERT INTO {{0}}{name} SELECT id + {fresh}, v, region, note FROM gone",
            f"TRUNCATE {{0}}{name}" if rng.random() < 0.2 else f"DELETE FROM {{0}}{name} WHERE note IS NULL AND {some}",
        ]
    )


@pytest.mark.parametrize("name", STORES)
def test_random_transactions(twins: Database, name: str):
    """The same statements on a store and in the heap: the same rows, counts and errors, inside transactions and after."""
    rng = random.Random(f"{SEED} {name}")
    with twins.connect(autocommit=True) as session, twins.connect(autocommit=True) as outside:

        def both(sql: str) -> tuple:
            """What comes of a statement: of the one on the store and of the one in the heap."""
            outcomes = []
            for schema in ("public.", "heap."):
                try:
                    done = session.execute(sql.format(schema))
                    outcomes.append((done.statusmessage, sorted(map(str, done.fetchall())) if done.description else None))
                except psycopg.Error as failed:
                    outcomes.append((failed.sqlstate, None))
                    if in_transaction:
                        session.execute("ROLLBACK TO each")
            return tuple(outcomes)

        content = f"SELECT * FROM {{}}.{name} ORDER BY id, v, region, note"
        in_transaction, is_locked, depth = False, False, 0
        outside.execute("SET lock_timeout = '20s'")
        committed = rows(outside, content.format("heap"))
        for _ in range(STEPS):
            step = rng.random()
            if not in_transaction:
                session.execute(rng.choice(["BEGIN", "BEGIN ISOLATION LEVEL REPEATABLE READ"]))
                in_transaction, is_locked, depth = True, False, 0
            elif step < 0.1:
                session.execute(rng.choice(["COMMIT", "COMMIT", "ROLLBACK"]))
                in_transaction = is_locked = False
                committed = rows(outside, content.format("heap"))
            elif step < 0.2:
                depth += 1
                session.execute(f"SAVEPOINT s{depth}")
            elif step < 0.3 and depth:
                session.execute(f"{rng.choice(['ROLLBACK TO', 'RELEASE'])} s{depth}")
                depth -= 1
            if in_transaction:
                session.execute("SAVEPOINT each")
                sql = statement(rng, name)
                if rng.random() < 0.3 and not sql.startswith(("TRUNCATE", "WITH")):
                    sql += " RETURNING *"
                ours, theirs = both(sql)
                assert ours == theirs, sql
                is_locked |= sql.startswith("TRUNCATE")
                session.execute("RELEASE each")
            assert rows(session, content.format("public")) == rows(session, content.format("heap"))
            # Who truncates a table lets nobody else look at it.
            if not is_locked:
                assert rows(outside, content.format("public")) == committed
        session.execute("COMMIT")
        assert rows(outside, content.format("public")) == rows(outside, content.format("heap"))
    verify(twins)


@pytest.mark.parametrize("name", ["types", "types_required", "rust_types", "floats", "days", "clocks", "lists", "encodings"])
def test_every_type_comes_back(database: Database, stores: Path, name: str):
    """All rows of a store, written by Postgres into another one of the same columns."""
    copy(stores / f"{name}.soa", database.root, name)
    public(database.root / f"{name}.soa")
    updatable(database)
    with database.connect(autocommit=True) as session:
        session.execute(f"CREATE TABLE before AS SELECT * FROM {name}")
        assert rows(session, "SELECT count(*) > 0 FROM before") == [(True,)]
        session.execute(f"TRUNCATE {name}")
        assert rows(session, f"SELECT count(*) FROM {name}") == [(0,)]
        session.execute(f"INSERT INTO {name} SELECT * FROM before")
        order = "ORDER BY x::text"
        assert rows(session, f"SELECT x::text FROM {name} x {order}") == rows(session, f"SELECT x::text FROM before x {order}")
    verify(database)


def test_values_that_a_store_cannot_hold(database: Database, stores: Path):
    copy(stores / "types.soa", database.root, "types")
    public(database.root / "types.soa")
    store = make(database.root, "nested", pa.table({"id": [1], "s": [{"a": 1}]}))
    updatable(database)
    with database.connect(autocommit=True) as session:
        before = rows(session, "SELECT count(*) FROM types")
        for column, value in {
            "i8": "300",
            "u8": "-1",
            "u64": "-1",
            "dec4": "'NaN'",
            "d": "'infinity'",
            "ts": "'-infinity'",
        }.items():
            failed = error(session, f"INSERT INTO types (id, {column}) VALUES (77, {value})")
            assert failed.sqlstate == RANGE and f'"{column}"' in str(failed), (column, failed)
        assert rows(session, "SELECT count(*) FROM types") == before
        failed = error(session, "INSERT INTO nested VALUES (2, '{\"a\": 1}')")
        assert failed.sqlstate == "0A000" and '"s"' in str(failed) and failed.diag.message_hint
        session.execute("INSERT INTO nested VALUES (2, NULL)")
        assert rows(session, "SELECT id, s FROM nested ORDER BY id") == [(1, {"a": 1}), (2, None)]
        assert store.exists()


def test_rows_that_two_sessions_change(session, other):
    session.execute("BEGIN")
    session.execute("UPDATE keyed SET v = 1 WHERE id = 5")
    other.execute("UPDATE keyed SET v = 2 WHERE id = 5")
    failed = error(session, "SELECT count(*) FROM keyed")
    assert failed.sqlstate == SERIALIZATION and "try the transaction again" in str(failed)
    session.execute("ROLLBACK")
    session.execute("BEGIN")
    session.execute("DELETE FROM keyed WHERE id = 6")
    other.execute("DELETE FROM keyed WHERE id = 6")
    assert error(session, "COMMIT").sqlstate == SERIALIZATION
    assert rows(other, "SELECT id, v FROM keyed WHERE id IN (5, 6)") == [(5, 2)]
    # Other rows, even of one file.
    session.execute("BEGIN")
    session.execute("DELETE FROM keyed WHERE id = 7")
    other.execute("DELETE FROM keyed WHERE id = 8")
    session.execute("COMMIT")
    assert ids(other, "id BETWEEN 5 AND 10") == [5, 9, 10]


def test_keys_that_two_sessions_add(session, other):
    session.execute("BEGIN")
    session.execute("INSERT INTO keyed (id, region) VALUES (1000, 'a')")
    other.execute("INSERT INTO keyed (id, region) VALUES (1000, 'b'), (1001, 'b')")
    assert error(session, "INSERT INTO keyed (id, region) VALUES (1001, 'a')").sqlstate == TAKEN
    session.execute("ROLLBACK")
    session.execute("BEGIN")
    session.execute("INSERT INTO keyed (id, region) VALUES (1002, 'a')")
    other.execute("INSERT INTO keyed (id, region) VALUES (1002, 'b')")
    assert error(session, "COMMIT").sqlstate == TAKEN
    assert rows(other, "SELECT id, region FROM keyed WHERE id >= 1000 ORDER BY id") == [
        (1000, "b"),
        (1001, "b"),
        (1002, "b"),
    ]


def test_keys_that_are_left_out(twins: Database):
    """ON CONFLICT DO NOTHING leaves out, counts and returns what it does in the heap."""
    with twins.connect(autocommit=True) as session:
        for schema in ("public", "heap"):
            session.execute(
                f"CREATE TABLE {schema}.seen (id bigint);"
                f"CREATE FUNCTION {schema}.see() RETURNS trigger LANGUAGE plpgsql AS"
                f" $$ BEGIN INSERT INTO {schema}.seen VALUES (NEW.id); RETURN NULL; END $$;"
                f"CREATE TRIGGER late AFTER INSERT ON {schema}.sorted FOR EACH ROW EXECUTE FUNCTION {schema}.see();"
                f"CREATE VIEW {schema}.small AS SELECT * FROM {schema}.keyed WHERE v < 100 WITH CHECK OPTION"
            )
        for sql in (
            # More rows than keys are looked up at once, some of them twice.
            "INSERT INTO {0}.keyed SELECT g / 2 * 3, g, 'x', 'new' FROM generate_series(0, 5000) g ON CONFLICT DO NOTHING",
            "INSERT INTO {0}.keyed SELECT g, g, 'x', 'newer' FROM generate_series(-100, 9000) g ON CONFLICT DO NOTHING",
            "INSERT INTO {0}.keyed SELECT g, g, 'x', 'newest' FROM generate_series(-100, 9000) g ON CONFLICT DO NOTHING",
            "INSERT INTO {0}.keyed VALUES (1, 1), (9500, 1), (9500, 2), (2, 2), (9501, 3) ON CONFLICT DO NOTHING RETURNING *",
            "INSERT INTO {0}.small VALUES (1, 1), (9600, 1), (9600, 200) ON CONFLICT DO NOTHING",
            "INSERT INTO {0}.small VALUES (9601, 200) ON CONFLICT DO NOTHING",
            "INSERT INTO {0}.sorted VALUES (1, 1), (9600, 1), (9600, 2), (9601, 1) ON CONFLICT DO NOTHING",
            "INSERT INTO {0}.plain VALUES (1, 1), (1, 1) ON CONFLICT DO NOTHING",
            "DELETE FROM {0}.keyed WHERE id = 9500",
            "WITH added AS (INSERT INTO {0}.keyed VALUES (9500, 3), (9501, 3) ON CONFLICT DO NOTHING RETURNING id)"
            " SELECT * FROM added",
            "SELECT * FROM {0}.keyed ORDER BY id",
            "SELECT * FROM {0}.sorted ORDER BY id",
            "SELECT * FROM {0}.seen ORDER BY id",
            "SELECT count(*) FROM {0}.plain",
        ):
            outcomes = []
            for schema in ("public", "heap"):
                try:
                    done = session.execute(sql.format(schema))
                    outcomes.append((done.statusmessage, done.fetchall() if done.description else None))
                except psycopg.Error as failed:
                    outcomes.append(failed.sqlstate)
            assert outcomes[0] == outcomes[1], sql
        shown = plan(session, "INSERT INTO keyed VALUES (1) ON CONFLICT DO NOTHING")
        assert shown["Conflict Resolution"] == "NOTHING"
    verify(twins)


def test_keys_that_are_left_out_of_partitions(orders: Database):
    make(orders.root, "old", pa.table({"id": [f"-{n}" for n in range(50)], "v": pa.array(range(50), pa.int32())}), "--key", "id")
    orders.execute('IMPORT FOREIGN SCHEMA "." LIMIT TO (old) FROM SERVER stores INTO public')
    with orders.connect(autocommit=True) as session:
        session.execute(
            "CREATE TABLE texts (id text, v int) PARTITION BY RANGE (v);"
            "CREATE TABLE young (id text PRIMARY KEY, v int);"
            "ALTER TABLE texts ATTACH PARTITION old FOR VALUES FROM (0) TO (1000);"
            "ALTER TABLE texts ATTACH PARTITION young FOR VALUES FROM (1000) TO (2000)"
        )
        sql = "INSERT INTO texts SELECT '-' || g / 2, g % 2 * 1000 FROM generate_series(0, 3999) g ON CONFLICT DO NOTHING"
        assert session.execute(sql).statusmessage == "INSERT 0 3950"
        assert session.execute(sql).statusmessage == "INSERT 0 0"
        assert rows(session, "SELECT count(*), count(DISTINCT id), sum(v) FROM old") == [(2000, 2000, 49 * 25)]


def test_keys_that_come_while_others_are_left_out(session, other):
    """Nobody waits: who is later repeats the transaction, and leaves the key out then."""
    sql = "INSERT INTO keyed (id, region) VALUES (5, 'a'), (1000, 'a') ON CONFLICT DO NOTHING"
    session.execute("BEGIN")
    assert session.execute(sql).statusmessage == "INSERT 0 1"
    other.execute("INSERT INTO keyed (id, region) VALUES (1000, 'b')")
    failed = error(session, "COMMIT")
    assert failed.sqlstate == SERIALIZATION and "1000" in str(failed)
    assert session.execute(sql).statusmessage == "INSERT 0 0"
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert rows(session, "SELECT count(*) FROM keyed") == [(101,)]
    other.execute("INSERT INTO keyed (id, region) VALUES (1001, 'b')")
    sql = sql.replace("1000", "1001")
    assert error(session, sql).sqlstate == SERIALIZATION
    session.execute("ROLLBACK")
    assert session.execute(sql).statusmessage == "INSERT 0 0"
    assert rows(session, "SELECT DISTINCT region FROM keyed WHERE id >= 1000") == [("b",)]


def test_what_others_see(session, other):
    other.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert rows(other, "SELECT count(*) FROM keyed") == [(100,)]
    session.execute("BEGIN")
    session.execute("DELETE FROM keyed WHERE id < 50")
    session.execute("INSERT INTO keyed (id, region) VALUES (500, 'a')")
    assert rows(session, "SELECT count(*) FROM keyed") == [(51,)]
    assert rows(other, "SELECT count(*) FROM keyed") == [(100,)]
    session.execute("COMMIT")
    assert rows(other, "SELECT count(*) FROM keyed") == [(100,)]
    # What this transaction changes it sees, and what others have changed it does not.
    other.execute("INSERT INTO keyed (id, region) VALUES (600, 'b')")
    assert ids(other, "id >= 99") == [99, 600]
    other.execute("COMMIT")
    assert ids(other, "id >= 99") == [99, 500, 600]


def test_many_sessions_at_once(orders: Database):
    """Each of them counts a row up, and tries again when another one was faster: no step is lost."""
    orders.execute("UPDATE keyed SET v = 0 WHERE id = 1")
    failures: list[BaseException] = []
    retries = [0]

    def count_up() -> None:
        try:
            with orders.connect(autocommit=True) as session:
                done = 0
                while done < 10:
                    try:
                        session.execute("UPDATE keyed SET v = v + 1 WHERE id = 1")
                        done += 1
                    except psycopg.errors.SerializationFailure:
                        retries[0] += 1
        except BaseException as failed:  # looked at by the test's own thread
            failures.append(failed)

    threads = [threading.Thread(target=count_up) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures, failures[0]
    assert orders.execute("SELECT v FROM keyed WHERE id = 1") == [(40,)]
    verify(orders)


def test_workers_do_not_miss_what_was_changed(database: Database):
    make(database.root, "plain", table(range(400_000)))
    updatable(database)
    with database.connect(autocommit=True) as session:
        for setting in PARALLEL:
            session.execute(f"SET {setting}")
        session.execute("SET plan_cache_mode = force_generic_plan")
        session.execute("PREPARE counted AS SELECT count(*), sum(id) FROM plain")
        (before,) = rows(session, "EXECUTE counted")
        assert any(node["Node Type"] == "Gather" for node in nodes(plan(session, "EXECUTE counted")))
        session.execute("BEGIN")
        session.execute("INSERT INTO plain (id, region) SELECT g, 'x' FROM generate_series(1000000, 1000999) g")
        session.execute("DELETE FROM plain WHERE id < 1000")
        expected = (before[0], before[1] + sum(range(1_000_000, 1_001_000)) - sum(range(1000)))
        assert rows(session, "EXECUTE counted") == [expected]
        assert rows(session, "SELECT count(*), sum(id) FROM plain") == [expected]
        session.execute("SAVEPOINT s")
        session.execute("SET LOCAL parallel_leader_participation = off")
        assert error(session, "EXECUTE counted").sqlstate == "0A000"
        session.execute("ROLLBACK TO s")
        session.execute("SET LOCAL soa_fdw.pushdown = on")
        assert rows(session, "SELECT count(*), sum(id) FROM plain") == [expected]
        assert rows(session, "SELECT id FROM plain ORDER BY id DESC LIMIT 1") == [(1_000_999,)]
        session.execute("COMMIT")
        assert rows(session, "EXECUTE counted") == [expected]


def test_copy(session, orders):
    with session.cursor() as cursor, cursor.copy("COPY keyed (id, v, region) FROM STDIN") as copied:
        for number in range(1000, 31_000):
            copied.write_row((number, number % 7, "copied"))
    assert rows(session, "SELECT count(*), sum(v) FROM keyed WHERE region = 'copied'") == [
        (30_000, sum(number % 7 for number in range(1000, 31_000)))
    ]
    with pytest.raises(psycopg.errors.InvalidTextRepresentation), session.cursor() as cursor:
        with cursor.copy("COPY keyed (id, region) FROM STDIN") as copied:
            copied.write("50000\tnorth\nfifty\tnorth\n")
    with pytest.raises(psycopg.errors.UniqueViolation), session.cursor() as cursor:
        with cursor.copy("COPY keyed (id, region) FROM STDIN") as copied:
            copied.write("50001\tnorth\n50001\tnorth\n")
    assert ids(session, "id >= 31000") == []
    verify(orders)


def test_triggers_views_and_defaults(session):
    session.execute(
        "ALTER FOREIGN TABLE keyed ALTER note SET DEFAULT 'by default';"
        "CREATE TABLE seen (what text);"
        "CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO seen VALUES (TG_WHEN || ' ' || TG_OP || ' ' || coalesce(OLD.id::text, '-') || ' ' ||"
        "  coalesce(NEW.v::text, '-'));"
        " IF TG_WHEN = 'BEFORE' AND TG_OP <> 'DELETE' THEN NEW.v := NEW.v + 100; RETURN NEW; END IF;"
        " RETURN CASE TG_OP WHEN 'DELETE' THEN OLD ELSE NEW END; END $$;"
        "CREATE TRIGGER early BEFORE INSERT OR UPDATE OR DELETE ON keyed FOR EACH ROW EXECUTE FUNCTION see();"
        "CREATE TRIGGER late AFTER INSERT OR UPDATE OR DELETE ON keyed FOR EACH ROW EXECUTE FUNCTION see();"
        "CREATE VIEW north AS SELECT id, v, note FROM keyed WHERE region = 'north' WITH LOCAL CHECK OPTION"
    )
    session.execute("INSERT INTO keyed (id, v, region) VALUES (200, 1, 'north')")
    session.execute("UPDATE north SET v = 5 WHERE id = 200")
    assert rows(session, "SELECT * FROM north WHERE id = 200") == [(200, 105, "by default")]
    session.execute("DELETE FROM north WHERE id = 200")
    assert [what for (what,) in rows(session, "SELECT what FROM seen")] == [
        "BEFORE INSERT - 1",
        "AFTER INSERT - 101",
        "BEFORE UPDATE 200 5",
        "AFTER UPDATE 200 105",
        "BEFORE DELETE 200 -",
        "AFTER DELETE 200 -",
    ]


def test_partitions(orders: Database):
    """A partitioned table with a store and a table of the heap: rows go where they belong."""
    with orders.connect(autocommit=True) as session:
        session.execute(
            "CREATE TABLE all_rows (id bigint, v int, region text, note text) PARTITION BY RANGE (id);"
            "CREATE TABLE young PARTITION OF all_rows FOR VALUES FROM (1000) TO (MAXVALUE);"
            "ALTER TABLE all_rows ATTACH PARTITION keyed FOR VALUES FROM (MINVALUE) TO (1000)"
        )
        session.execute("INSERT INTO all_rows SELECT g, 1, 'x' FROM generate_series(990, 1010) g")
        assert rows(session, "SELECT count(*) FROM keyed WHERE id >= 990") == [(10,)]
        assert rows(session, "SELECT count(*) FROM young") == [(11,)]
        session.execute("UPDATE all_rows SET v = v + 1 WHERE id BETWEEN 995 AND 1004")
        assert rows(session, "SELECT count(*), sum(v) FROM all_rows WHERE id >= 990") == [(21, 31)]
        session.execute("DELETE FROM all_rows WHERE id >= 990")
        assert rows(session, "SELECT count(*), max(id) FROM all_rows") == [(100, 99)]
        # Out of the heap into the store.
        session.execute("INSERT INTO all_rows (id, region) VALUES (2000, 'x')")
        session.execute("UPDATE all_rows SET id = 500 WHERE id = 2000")
        assert rows(session, "SELECT tableoid::regclass::text, id FROM all_rows WHERE id >= 500") == [("keyed", 500)]


def test_what_is_refused(session, orders):
    # What a key is Postgres does not know.
    for action in ("DO NOTHING", "DO UPDATE SET v = 1"):
        assert error(session, f"INSERT INTO keyed (id) VALUES (1) ON CONFLICT (id) {action}").sqlstate == "42P10"
    session.execute("BEGIN")
    session.execute("DELETE FROM keyed WHERE id = 1")
    assert error(session, "PREPARE TRANSACTION 'x'").sqlstate == "0A000"
    session.execute("ROLLBACK")
    make(orders.root, "second", table(range(5)))
    session.execute('IMPORT FOREIGN SCHEMA "." LIMIT TO (second) FROM SERVER stores INTO public')
    session.execute("BEGIN")
    session.execute("DELETE FROM keyed WHERE id = 1")
    assert ids(session, name="second") == [0, 1, 2, 3, 4]
    failed = error(session, "TRUNCATE second")
    assert failed.sqlstate == "0A000" and "several_stores" in str(failed.diag.message_hint)
    session.execute("ROLLBACK")
    session.execute("SET soa_fdw.several_stores = on")
    session.execute("BEGIN")
    session.execute("DELETE FROM keyed WHERE id = 1")
    session.execute("TRUNCATE second")
    session.execute("COMMIT")
    assert (ids(session, "id < 3"), ids(session, name="second")) == ([0, 2], [])
    # An error of a statement undoes it alone, as far as there is a savepoint.
    session.execute("BEGIN")
    session.execute("DELETE FROM keyed WHERE id = 2")
    session.execute("SAVEPOINT s")
    error(session, "UPDATE keyed SET v = 1 / (id - 50)")
    session.execute("ROLLBACK TO s")
    session.execute("COMMIT")
    assert ids(session, "id < 5") == [0, 3, 4]


def test_several_stores_in_one_statement(orders: Database):
    """As with several statements: refused before the second store is changed, whichever way the statement comes to it."""
    make(orders.root, "old", table(range(-100, 0)))
    orders.execute('IMPORT FOREIGN SCHEMA "." LIMIT TO (old) FROM SERVER stores INTO public')
    with orders.connect(autocommit=True) as session:
        session.execute(
            "CREATE TABLE all_rows (id bigint, v int, region text, note text) PARTITION BY RANGE (id);"
            "ALTER TABLE all_rows ATTACH PARTITION keyed FOR VALUES FROM (0) TO (1000);"
            "ALTER TABLE all_rows ATTACH PARTITION old FOR VALUES FROM (MINVALUE) TO (0)"
        )
        before = rows(session, "SELECT count(*), sum(v) FROM all_rows")
        statements = (
            "UPDATE all_rows SET v = 1",
            "DELETE FROM all_rows WHERE id BETWEEN -3 AND 3",
            "INSERT INTO all_rows (id) VALUES (-1000), (999)",
            "TRUNCATE all_rows",
            "WITH gone AS (DELETE FROM old) UPDATE keyed SET v = 1",
            "WITH gone AS (DELETE FROM old WHERE id = -1 RETURNING *) INSERT INTO keyed SELECT 999, v FROM gone",
        )
        for sql in statements:
            failed = error(session, sql)
            assert failed.sqlstate == "0A000" and "several_stores" in str(failed.diag.message_hint), sql
            assert rows(session, "SELECT count(*), sum(v) FROM all_rows") == before, sql
        with pytest.raises(psycopg.errors.FeatureNotSupported), session.cursor().copy("COPY all_rows (id) FROM STDIN") as into:
            into.write("-1000\n999\n")
        # A statement that changes nothing leaves the choice.
        session.execute("BEGIN")
        session.execute("DELETE FROM old WHERE v < -1")
        session.execute("UPDATE keyed SET v = 1 WHERE id = 3")
        assert error(session, "DELETE FROM old WHERE id = -5").sqlstate == "0A000"
        session.execute("ROLLBACK")
        # And one store is one, by whatever partitions it is met.
        session.execute("UPDATE all_rows SET v = -7 WHERE id = 3")
        session.execute("SET soa_fdw.several_stores = on")
        for sql in statements:
            session.execute("BEGIN")
            session.execute(sql)
            session.execute("ROLLBACK")
        session.execute("UPDATE all_rows SET v = -7 WHERE id BETWEEN -3 AND 3")
        assert rows(session, "SELECT array_agg(id ORDER BY id) FROM all_rows WHERE v = -7") == [([-3, -2, -1, 0, 1, 2, 3],)]
    verify(orders)


def test_what_a_table_declares(orders: Database):
    """NOT NULL, CHECK and a partition's bounds: the planner takes them for true, so no statement may make them false."""
    make(orders.root, "plain", table(range(100)))
    orders.execute('IMPORT FOREIGN SCHEMA "." LIMIT TO (plain) FROM SERVER stores INTO public')
    with orders.connect(autocommit=True) as session:
        session.execute(
            "ALTER FOREIGN TABLE plain ALTER region SET NOT NULL;"
            "ALTER FOREIGN TABLE plain ADD CONSTRAINT positive CHECK (id >= 0), ADD CONSTRAINT short CHECK (length(note) < 50)"
        )
        before = rows(session, "SELECT count(*), sum(v), sum(id) FROM plain")
        for sql, state, name in (
            ("INSERT INTO plain (id) VALUES (1000)", "23502", "region"),
            ("INSERT INTO plain VALUES (1000, 1, 'x'), (1001, 1, NULL)", "23502", "region"),
            ("UPDATE plain SET region = NULL WHERE id = 3", "23502", "region"),
            ("INSERT INTO plain VALUES (-1, 1, 'x')", "23514", "positive"),
            ("UPDATE plain SET id = id - 50", "23514", "positive"),
            ("UPDATE plain SET note = repeat('n', 50) WHERE id = 7", "23514", "short"),
            ("INSERT INTO plain SELECT g, g, 'x' FROM generate_series(3, -3, -1) g", "23514", "positive"),
        ):
            failed = error(session, sql)
            assert failed.sqlstate == state, sql
            assert name in (failed.diag.column_name, failed.diag.constraint_name), sql
        with pytest.raises(psycopg.errors.CheckViolation), session.cursor().copy("COPY plain (id, region) FROM STDIN") as into:
            into.write("5000\tx\n-5\tx\n")
        assert rows(session, "SELECT count(*), sum(v), sum(id) FROM plain") == before
        session.execute("INSERT INTO plain VALUES (1000, 1, 'x', NULL); UPDATE plain SET note = 'n' WHERE id = 1000")
        # What the store declares counts as well.
        session.execute("ALTER FOREIGN TABLE keyed ALTER id DROP NOT NULL")
        for sql in ("INSERT INTO keyed (v) VALUES (1)", "UPDATE keyed SET id = NULL WHERE id = 3"):
            failed = error(session, sql)
            assert failed.sqlstate == "23502" and '"id"' in str(failed), sql

        session.execute(
            "CREATE TABLE all_rows (id bigint, v int, region text, note text) PARTITION BY RANGE (id);"
            "ALTER TABLE all_rows ATTACH PARTITION keyed FOR VALUES FROM (0) TO (1000);"
            "CREATE TABLE young PARTITION OF all_rows FOR VALUES FROM (1000) TO (2000)"
        )
        for sql in (
            "INSERT INTO keyed (id) VALUES (1500)",
            "UPDATE keyed SET id = 1500 WHERE id = 5",
            "UPDATE all_rows SET id = 1500 WHERE id = 5",
            "INSERT INTO all_rows (id) VALUES (2500)",
        ):
            assert error(session, sql).sqlstate == "23514", sql
        # A trigger may move a row that was sent to the right place.
        session.execute(
            "CREATE FUNCTION away() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.id := 1500; RETURN NEW; END $$;"
            "CREATE TRIGGER away BEFORE INSERT ON keyed FOR EACH ROW EXECUTE FUNCTION away()"
        )
        assert error(session, "INSERT INTO all_rows (id) VALUES (500)").sqlstate in ("0A000", "23514")
        assert rows(session, "SELECT count(*) FROM all_rows WHERE id + 0 >= 100") == [(0,)]


def test_places_of_rows(orders: Database):
    """A `ctid` that was read before others' rows came and went names its row, or none."""
    make(orders.root, "plain", table(range(10)))
    orders.execute('IMPORT FOREIGN SCHEMA "." LIMIT TO (plain) FROM SERVER stores INTO public')
    with orders.connect(autocommit=True) as session:
        for first in (100, 200):
            session.execute(f"INSERT INTO plain SELECT g, g FROM generate_series({first}, {first + 9}) g")
        known = rows(session, "SELECT ctid, id FROM plain ORDER BY id")
        assert len({place for place, _ in known}) == 30
        for place, number in known:
            gone = rows(session, f"DELETE FROM plain WHERE ctid = '{place}' RETURNING id")
            assert gone in ([(number,)], []), number
            if not gone:
                session.execute(f"DELETE FROM plain WHERE id = {number}")
        assert ids(session, name="plain") == []
        session.execute("INSERT INTO plain SELECT g, g FROM generate_series(300, 320) g")
        session.execute(
            "CREATE FUNCTION remove_some() RETURNS void LANGUAGE plpgsql AS $$ DECLARE r record; BEGIN"
            " FOR r IN SELECT ctid AS place, id FROM plain WHERE id % 2 = 0 LOOP"
            "  DELETE FROM plain WHERE ctid = r.place; UPDATE plain SET v = v + 1 WHERE id = 301;"
            " END LOOP; END $$"
        )
        session.execute("SELECT remove_some()")
        assert ids(session, name="plain") == [*range(301, 321, 2)]
        # Workers number nothing for themselves.
        session.execute(f"SET {orders.server.parallel_setting} = on; SET parallel_setup_cost = 0; SET parallel_tuple_cost = 0")
        session.execute("DELETE FROM plain WHERE ctid IN (SELECT ctid FROM plain WHERE id < 305)")
        assert ids(session, name="plain") == [*range(305, 321, 2)]


def test_a_function_that_catches_errors(session):
    session.execute(
        "CREATE FUNCTION fill() RETURNS void LANGUAGE plpgsql AS $$ BEGIN FOR i IN 200..240 LOOP BEGIN"
        " INSERT INTO keyed (id, region) VALUES (i, 'f'); DELETE FROM keyed WHERE id = i - 200;"
        " BEGIN UPDATE keyed SET v = 7 WHERE id = i; IF i % 3 = 0 THEN RAISE EXCEPTION 'inner'; END IF;"
        "  EXCEPTION WHEN raise_exception THEN NULL; END;"
        " IF i % 2 = 0 THEN RAISE EXCEPTION 'outer'; END IF; EXCEPTION WHEN raise_exception THEN NULL; END; END LOOP; END $$"
    )
    session.execute("SELECT fill()")
    odd = [number for number in range(200, 241) if number % 2]
    assert ids(session, "id >= 200") == odd
    assert ids(session, "id >= 200 AND v = 7") == [number for number in odd if number % 3]
    assert ids(session, "id < 41") == [number for number in range(41) if number % 2 == 0]


def test_who_may_change_what(orders: Database):
    role = f"{orders.name}_writer"
    orders.execute(f"CREATE ROLE {role} LOGIN IN ROLE pg_read_server_files")
    orders.execute(f"GRANT USAGE ON FOREIGN DATA WRAPPER soa_fdw TO {role}; GRANT CREATE ON SCHEMA public TO {role}")
    try:
        with orders.connect(user=role, autocommit=True) as plain:
            made = f"CREATE SERVER {role} FOREIGN DATA WRAPPER soa_fdw OPTIONS (root {support.quote(orders.root)}{{}})"
            refused = error(plain, made.format(", updatable 'true'"))
            assert refused.sqlstate == "42501" and "pg_write_server_files" in str(refused)
            plain.execute(made.format(", updatable 'false'"))
            assert error(plain, f"ALTER SERVER {role} OPTIONS (SET updatable 'on')").sqlstate == "42501"
            plain.execute(f"CREATE FOREIGN TABLE own (id bigint) SERVER {role} OPTIONS (path 'keyed.soa', updatable 'true')")
            assert error(plain, "INSERT INTO own VALUES (1000)").sqlstate == "55000"
            assert error(plain, "TRUNCATE own").sqlstate == "55000"
            assert error(plain, "INSERT INTO keyed (id) VALUES (1000)").sqlstate == "42501"
            orders.execute(f"GRANT pg_write_server_files TO {role}")
            plain.execute(f"ALTER SERVER {role} OPTIONS (SET updatable 'on')")
            plain.execute("INSERT INTO own VALUES (1000)")
            plain.execute("ALTER FOREIGN TABLE own OPTIONS (SET updatable 'no')")
            assert error(plain, "DELETE FROM own").sqlstate == "55000"
            plain.execute("ALTER FOREIGN TABLE own OPTIONS (DROP updatable, ADD version '0')")
            assert error(plain, "DELETE FROM own").sqlstate == "55000"
            assert error(plain, "ALTER FOREIGN TABLE own OPTIONS (ADD updatable 'maybe')").sqlstate == "HV024"
        assert orders.execute("SELECT count(*) FROM keyed") == [(101,)]
    finally:
        orders.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_a_folder_that_cannot_be_written(orders: Database):
    for folder, _, _ in os.walk(orders.root / "keyed.soa"):
        os.chmod(folder, 0o755)
    with orders.connect(autocommit=True) as session:
        failed = error(session, "INSERT INTO keyed (id) VALUES (1000)")
        assert failed.sqlstate == "42501" and "keyed.soa" in str(failed), failed
        assert ids(session, "id > 90") == list(range(91, 100))


def test_a_store_with_a_write_ahead_log(database: Database):
    store = database.root / "orders.soa"
    writer = LogWriter(store)
    writer.tell("add 0 10")
    public(store)
    updatable(database)
    with database.connect(autocommit=True) as session:
        failed = error(session, "DELETE FROM orders WHERE order_id = 3")
        assert failed.sqlstate == SERIALIZATION and "write-ahead log" in str(failed)
        assert rows(session, "SELECT count(*) FROM orders") == [(10,)]
        writer.abandon()
        public(store)
        # What is left without an owner is published first.
        session.execute("DELETE FROM orders WHERE order_id = 3")
        assert rows(session, "SELECT count(*), max(order_id) FROM orders") == [(9, 9)]
    verify(database)


def test_backends_that_are_killed(database: Database):
    """At a random moment of a statement that commits: afterwards all of its rows are there, or none."""
    make(database.root, "plain", table(range(1000)))
    database.execute("ALTER SERVER stores OPTIONS (ADD updatable 'true')")
    database.import_all()
    rng = random.Random(SEED)
    count = database.execute("SELECT count(*) FROM plain")[0][0]
    outcomes = set()
    for kill in range(KILLS):
        sql = "INSERT INTO plain SELECT g, 1, 'x', repeat('k', 20) FROM generate_series(1, 60000) g"
        session = database.connect(autocommit=True)
        session.execute("SELECT count(*) FROM plain")
        victim = session.info.backend_pid
        timer = threading.Timer(rng.uniform(0.0, 0.35), lambda pid=victim: os.kill(pid, signal.SIGKILL))
        timer.start()
        try:
            session.execute(sql)
            acknowledged = True
        except psycopg.OperationalError:
            acknowledged = False
        timer.join()
        session.close()
        found = 0
        for _ in range(100):
            try:
                found = database.execute("SELECT count(*) FROM plain")[0][0]
                break
            except psycopg.OperationalError:
                time.sleep(0.1)
        assert found in ((count + 60_000,) if acknowledged else (count, count + 60_000)), kill
        outcomes.add((acknowledged, found > count))
        count = found
    verify(database)


@pytest.mark.parametrize("step", ["modify", "commit"])
def test_panics(stores: Path, step: str):
    """One while rows are changed, or committed: nothing of the transaction is there, and the session goes on."""
    with support.public_folder("soa-root-") as root, PgServer(environment={"SOA_TEST_PANIC": "1"}) as server:
        with Database(server, root) as database:
            make(root, "keyed", table(range(100)), "--key", "id")
            updatable(database)
            with database.connect(autocommit=True) as session:
                session.execute("SELECT count(*) FROM keyed")
                for sql in ("DELETE FROM keyed WHERE id < 50", "INSERT INTO keyed (id) VALUES (777)", "TRUNCATE keyed"):
                    with pytest.raises(psycopg.errors.InternalError_, match="soa_fdw.test_panic"), session.transaction():
                        session.execute(f"SET LOCAL soa_fdw.test_panic = '{step}'")
                        session.execute(sql)
                    assert rows(session, "SELECT count(*) FROM keyed") == [(100,)]
                session.execute("DELETE FROM keyed WHERE id < 50")
                assert rows(session, "SELECT count(*) FROM keyed") == [(50,)]
            verify(database)


def test_explain_changes_nothing(session):
    for sql in ("DELETE FROM keyed", "INSERT INTO keyed (id) VALUES (1000)", "UPDATE keyed SET v = 1"):
        assert rows(session, f"EXPLAIN {sql}")
    assert len(ids(session)) == 100
    (scan,) = scans(plan(session, "DELETE FROM keyed WHERE id = 4"))
    assert scan["SoA Filter"] == "id = 4"
    assert len(ids(session)) == 99


def test_columns_that_the_table_lacks(session, orders):
    """A row is replaced as a whole: not through a table that would lose values. Rows can be added and deleted."""
    session.execute("CREATE FOREIGN TABLE few (id bigint, v int) SERVER stores OPTIONS (path 'keyed.soa')")
    refused = error(session, "UPDATE few SET v = 1 WHERE id = 4")
    assert refused.sqlstate == "55000" and '"region"' in str(refused) and refused.diag.message_hint
    session.execute("INSERT INTO few VALUES (400, 4)")
    session.execute("DELETE FROM few WHERE id = 5")
    assert rows(session, "SELECT id, v, region FROM keyed WHERE id IN (5, 400)") == [(400, 4, None)]
    session.execute("CREATE FOREIGN TABLE wrong (id bigint, region bytea) SERVER stores OPTIONS (path 'keyed.soa')")
    assert error(session, "INSERT INTO wrong VALUES (500, 'x')").sqlstate == "HV004"


def test_columns_that_somebody_adds(session, orders):
    for change in ("INSERT INTO keyed (id) VALUES (1000)", "DELETE FROM keyed WHERE id = 3"):
        session.execute("BEGIN")
        session.execute(change)
        support.soa("alter", orders.root / "keyed.soa", "--add-column", f"extra{len(change)}:i64")
        public(orders.root / "keyed.soa")
        assert error(session, "COMMIT").sqlstate == SERIALIZATION
        session.execute("ROLLBACK")
        assert len(ids(session)) == 100
    verify(orders)


@pytest.mark.parametrize("isolation", ["READ COMMITTED", "REPEATABLE READ"])
def test_what_functions_and_triggers_see(twins: Database, isolation: str):
    """What they see in the heap: STABLE functions what there was before the statement, AFTER triggers what there is then."""
    with twins.connect(autocommit=True) as session:
        found = []
        for name in ("public.keyed", "heap.keyed"):
            schema = name.split(".")[0]
            session.execute(
                f"CREATE FUNCTION {schema}.counted() RETURNS int STABLE LANGUAGE plpgsql AS"
                f" $$ BEGIN RETURN (SELECT count(*) + coalesce(sum(v), 0) FROM {name}); END $$;"
                f"CREATE TABLE {schema}.seen (what text);"
                f"CREATE FUNCTION {schema}.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO {schema}.seen"
                f" SELECT TG_OP || TG_LEVEL || count(*) || ' ' || coalesce(sum(v), 0) FROM {name}; RETURN NULL; END $$;"
                f"CREATE TRIGGER late AFTER INSERT OR UPDATE OR DELETE ON {name} EXECUTE FUNCTION {schema}.see();"
                f"CREATE TRIGGER each AFTER INSERT OR UPDATE OR DELETE ON {name} FOR EACH ROW"
                f" EXECUTE FUNCTION {schema}.see()"
            )
            session.execute(f"BEGIN ISOLATION LEVEL {isolation}")
            session.execute(f"INSERT INTO {name} (id, v, region) VALUES (1000, 7, 'x'), (1001, {schema}.counted(), 'y')")
            session.execute(f"UPDATE {name} SET v = {schema}.counted() WHERE id < 4")
            session.execute(f"DELETE FROM {name} WHERE v = {schema}.counted() OR id = 50")
            session.execute("COMMIT")
            found.append(
                (
                    rows(session, f"SELECT what FROM {schema}.seen"),
                    rows(session, f"SELECT id, v FROM {name} WHERE id < 5 OR id >= 1000 ORDER BY id"),
                )
            )
        assert found[0] == found[1]
        assert len(found[0][0]) > 5


def test_what_triggers_see_of_changes_in_a_with(twins: Database):
    """All of them, though the query reads none or some of what they return."""
    with twins.connect(autocommit=True) as session:
        found = []
        for schema in ("public", "heap"):
            session.execute(
                f"CREATE TABLE {schema}.seen (what text);"
                f"CREATE FUNCTION {schema}.see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN INSERT INTO {schema}.seen"
                f" SELECT TG_OP || ' ' || count(*) || ' ' || coalesce(sum(v), 0) FROM {schema}.keyed; RETURN NULL; END $$;"
                f"CREATE TRIGGER late AFTER INSERT OR UPDATE OR DELETE ON {schema}.keyed EXECUTE FUNCTION {schema}.see();"
                f"CREATE FUNCTION {schema}.again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
                f" UPDATE {schema}.keyed SET note = 'seen' WHERE id = NEW.id; RETURN NULL; END $$;"
                f"CREATE TRIGGER again AFTER UPDATE OF v ON {schema}.keyed FOR EACH ROW EXECUTE FUNCTION {schema}.again()"
            )
            results = [
                rows(session, sql.replace("keyed", f"{schema}.keyed"))
                for sql in (
                    "WITH a AS (DELETE FROM keyed WHERE id BETWEEN 20 AND 25) SELECT 1",
                    "WITH a AS (INSERT INTO keyed VALUES (1000, 1, 'q', 'q')), b AS (UPDATE keyed SET v = 1 WHERE id = 30) SELECT 2",
                    "WITH a AS (DELETE FROM keyed WHERE id BETWEEN 40 AND 45 RETURNING id) SELECT count(*) FROM (SELECT FROM a LIMIT 1) one",
                    "WITH a AS (UPDATE keyed SET v = -1 WHERE id IN (3, 4) RETURNING id) SELECT count(*) FROM (SELECT FROM a LIMIT 1) one",
                )
            ]
            session.execute(
                f"WITH a AS (DELETE FROM {schema}.keyed WHERE id BETWEEN 50 AND 55 RETURNING *)"
                f" INSERT INTO {schema}.keyed SELECT 2000, v, region, note FROM a LIMIT 1"
            )
            session.execute(f"EXPLAIN WITH a AS (DELETE FROM {schema}.keyed) SELECT 1")
            results.append(rows(session, f"SELECT what FROM {schema}.seen"))
            results.append(rows(session, f"SELECT id, v, note FROM {schema}.keyed WHERE id < 60 ORDER BY id"))
            found.append(results)
        assert found[0] == found[1]
        assert len(found[0][-2]) > 6
    verify(twins)


def test_returning_from_partitions(orders: Database):
    make(orders.root, "old", table(range(-100, 0)).select(["id", "v", "region", "note"]))
    orders.execute('IMPORT FOREIGN SCHEMA "." LIMIT TO (old) FROM SERVER stores INTO public')
    with orders.connect(autocommit=True) as session:
        session.execute(
            "CREATE TABLE all_rows (id bigint, v int, region text, note text) PARTITION BY RANGE (id);"
            "CREATE TABLE young PARTITION OF all_rows FOR VALUES FROM (1000) TO (MAXVALUE);"
            "ALTER TABLE all_rows ATTACH PARTITION keyed FOR VALUES FROM (0) TO (1000);"
            "ALTER TABLE all_rows ATTACH PARTITION old FOR VALUES FROM (MINVALUE) TO (0);"
            "INSERT INTO all_rows VALUES (1000, 1, 'x'); SET soa_fdw.several_stores = on"
        )
        where = "WHERE id IN (-5, 5, 1000)"
        changed = rows(session, f"UPDATE all_rows SET v = id {where} RETURNING tableoid::regclass::text, id, v")
        assert sorted(changed) == [("keyed", 5, 5), ("old", -5, -5), ("young", 1000, 1000)]
        gone = rows(session, f"DELETE FROM all_rows {where} RETURNING id, region")
        assert sorted(gone) == [(-5, REGIONS[-5 % 3]), (5, REGIONS[5 % 3]), (1000, "x")]
        assert rows(session, "SELECT count(*) FROM all_rows") == [(198,)]


def test_rows_that_are_changed_twice(session):
    """By a join that finds a row twice: the first one counts. By a trigger of the same statement: an error, as in the heap."""
    session.execute("UPDATE keyed SET v = x FROM (VALUES (1), (2)) t(x) WHERE id = 4")
    assert rows(session, "SELECT count(*), min(v) IN (1, 2) FROM keyed WHERE id = 4") == [(1, True)]
    session.execute(
        "CREATE FUNCTION meddle() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN DELETE FROM keyed WHERE id = OLD.id; RETURN NEW; END $$;"
        "CREATE TRIGGER early BEFORE UPDATE ON keyed FOR EACH ROW EXECUTE FUNCTION meddle()"
    )
    assert error(session, "UPDATE keyed SET v = 3 WHERE id = 4").sqlstate == "27000"
    assert rows(session, "SELECT count(*) FROM keyed") == [(100,)]


def test_locks_are_refused(session):
    for clause in ("FOR UPDATE", "FOR SHARE"):
        refused = error(session, f"SELECT id FROM keyed WHERE id = 3 {clause}")
        assert refused.sqlstate == "0A000" and refused.diag.message_hint


def test_an_error_caught_within_an_update(session):
    """By a function that is called for each row, in a transaction that has rows of its own."""
    session.execute(
        "CREATE FUNCTION caught(n bigint) RETURNS int LANGUAGE plpgsql AS $$ BEGIN"
        " BEGIN INSERT INTO keyed (id) VALUES (n + 5000), (n); EXCEPTION WHEN unique_violation THEN RETURN 1; END;"
        " RETURN 2; END $$"
    )
    session.execute("BEGIN")
    session.execute("INSERT INTO keyed (id, v) SELECT g, 0 FROM generate_series(200, 220) g")
    session.execute("UPDATE keyed SET v = caught(id) WHERE id >= 195 OR id < 5")
    assert rows(session, "SELECT count(*), min(v), max(v) FROM keyed WHERE id >= 195 OR id < 5") == [(26, 1, 1)]
    session.execute("COMMIT")
    assert len(ids(session)) == 121


def test_truncate_and_what_others_add(session, other):
    """What was added since a transaction looked first is not its own to remove."""
    session.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
    assert len(ids(session)) == 100
    other.execute("INSERT INTO keyed (id) VALUES (1000)")
    session.execute("TRUNCATE keyed")
    assert ids(session) == []
    session.execute("COMMIT")
    assert ids(session) == [1000]
