"""What once went wrong and must not again: files that stayed open or were none, errors of others that were made anew,
processes of one query that know different things of a store, declarations that Postgres plans by.
"""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pyarrow as pa
import pytest

import make_stores
import support
from damage import arrow_forms, drop_arrow_forms, log_files, segments
from pg_server import PgServer
from pg_support import PARALLEL, Database, Growing, Running, error, nodes, notices, plan, rows, scans

N = Growing.ROWS
SEGMENTS = 75
UNIT = 122_880
# What is not answered by then waits for ever.
HANG_SECONDS = 10
SYSTEM_COLUMNS = ("ctid", "xmin", "cmin", "xmax", "cmax", "tableoid")


@pytest.fixture
def session(database: Database) -> Iterator[psycopg.Connection]:
    with database.connect() as connection:
        yield connection


def add(database: Database, name: str, table: pa.Table) -> Path:
    """Appends the rows to the store, and makes it if there is none."""
    source = make_stores.write_table(table, database.root / "source.arrow")
    support.soa("import", source, database.root / f"{name}.soa")
    source.unlink()
    return database.root / f"{name}.soa"


def heap_copy(session: psycopg.Connection, store: str) -> None:
    """Makes the table of a store `stored.STORE`, and a copy of its rows `heap.STORE`."""
    session.execute("CREATE SCHEMA stored; CREATE SCHEMA heap")
    session.execute(f'IMPORT FOREIGN SCHEMA "." LIMIT TO ({store}) FROM SERVER stores INTO stored')
    session.execute(f"CREATE TABLE heap.{store} AS SELECT * FROM stored.{store}")


def on_both(session: psycopg.Connection, ask) -> tuple:
    """What `ask()` gives with the store's table and with the heap's, the text of the statements being the same."""
    found = []
    for schema in ("stored", "heap"):
        session.execute(f"SET search_path = {schema}, public")
        found.append(ask())
    return tuple(found)


# Open files


def open_files(session: psycopg.Connection, folder: Path) -> list[str]:
    """The files below a folder that the session's process has open."""
    found = []
    for number in Path(f"/proc/{session.info.backend_pid}/fd").iterdir():
        try:
            found.append(os.readlink(number))
        except FileNotFoundError:  # closed meanwhile
            continue
    return [path for path in found if path.startswith(str(folder))]


class Small(Growing):
    ROWS = 5


@pytest.fixture(scope="module")
def many_segments() -> Iterator[Path]:
    """A folder with a store of many segments without Arrow forms."""
    with support.public_folder("soa-many-") as root:
        store = Small(root, "many")
        # They are to stay many.
        support.soa("alter", store.path, "--auto-compact", "false")
        store.append(SEGMENTS - 1)
        shutil.rmtree(store.path / "_soa")
        assert len(list(store.path.glob("*.parquet"))) == SEGMENTS
        yield root


EVERY_SEGMENT = "SELECT count(*), sum(value), max(length(text)) FROM many"
OF_EVERY_SEGMENT = [(375, 70_125, len("value 374 of batch 74"))]


def test_segments_are_not_kept_open(pg: PgServer, many_segments: Path):
    with Database(pg, many_segments) as database, database.connect() as session:
        database.import_all()
        assert rows(session, EVERY_SEGMENT) == OF_EVERY_SEGMENT
        assert open_files(session, many_segments) == []
        session.execute("BEGIN; DECLARE c CURSOR FOR SELECT value FROM many")
        assert len(rows(session, "FETCH 370 FROM c")) == 370
        # The one that is read may be.
        assert len(open_files(session, many_segments)) <= 1
        session.execute("COMMIT")
        assert open_files(session, many_segments) == []


class FewFiles(PgServer):
    """A server whose processes may have few files open; a dozen less would be too few for Postgres itself."""

    LIMIT = 70

    def _as_user(self, command: list[object]) -> list[str]:
        return super()._as_user(["/bin/sh", "-c", f'ulimit -n {self.LIMIT} && exec "$@"', "sh", *command])


def test_more_segments_than_files_may_be_open(many_segments: Path):
    with FewFiles() as server, Database(server, many_segments) as database, database.connect() as session:
        limits = Path(f"/proc/{session.info.backend_pid}/limits").read_text()
        assert re.search(rf"Max open files +{FewFiles.LIMIT} ", limits), limits
        database.import_all()
        for _ in range(2):
            assert rows(session, EVERY_SEGMENT) == OF_EVERY_SEGMENT
        kept = len(list(Path(f"/proc/{session.info.backend_pid}/fd").iterdir()))
        assert kept + SEGMENTS > FewFiles.LIMIT, "the segments would fit"


@contextmanager
def pipe_at(path: Path) -> Iterator[None]:
    """A pipe that nobody writes to in a file's place. Whoever waits for a writer is let go in the end."""
    content = path.read_bytes()
    path.unlink()
    os.mkfifo(path)
    path.chmod(0o644)
    try:
        yield
    finally:
        os.close(os.open(path, os.O_RDWR | os.O_NONBLOCK))
        path.unlink()
        path.write_bytes(content)


def outcome(session: psycopg.Connection, sql: str, let_go: Path) -> list[tuple] | psycopg.Error:
    """The rows or the error of a statement, which must come without a wait. What waits is let go."""
    running = Running(session, sql)
    running.join(HANG_SECONDS)
    waits = running.is_alive()
    while running.is_alive():
        os.close(os.open(let_go, os.O_RDWR | os.O_NONBLOCK))
        running.join(0.1)
    assert not waits, f"no answer within {HANG_SECONDS} seconds: {sql}"
    try:
        return running.answer()
    except psycopg.Error as failed:
        return failed


PLACES = {
    "Parquet": lambda store: segments(store)[-1],
    "Arrow form": lambda store: arrow_forms(store)[-1],
    "first log file": lambda store: log_files(store)[0],
}


@pytest.mark.parametrize("which", PLACES)
def test_a_pipe_in_place_of_a_file(database: Database, which: str):
    store = Growing(database.root)
    store.append()
    database.import_all()
    if which == "Parquet":
        drop_arrow_forms(store.path)
    place = PLACES[which](store.path)
    sql = "SELECT count(*), sum(value), max(text) IS NOT NULL FROM growing"
    right = [(2 * N, 499_500, True)]
    for statement in (sql, "ANALYZE growing"):
        # A session of its own: one that has read the file may remember what was in it.
        with database.connect() as session:
            with pipe_at(place):
                found = outcome(session, statement, place)
            if which == "Arrow form":
                # The Parquet form answers.
                assert found == (right if statement == sql else [])
            else:
                assert isinstance(found, psycopg.Error) and found.sqlstate in ("XX001", "58030"), found
                assert "growing.soa" in str(found)
            assert rows(session, sql) == right


# Versions


def test_a_cursor_that_failed_in_a_savepoint_holds_no_version(database: Database, session: psycopg.Connection):
    """The cursor stays, its scan is over; the statements after it see what is new."""
    store = Growing(database.root)
    database.import_all()
    for batches in range(1, 4):
        session.execute("BEGIN")
        assert rows(session, "SELECT count(*) FROM growing") == [(batches * N,)]
        session.execute("DECLARE c CURSOR FOR SELECT 1 / (value - 10) FROM growing")
        session.execute("SAVEPOINT s")
        assert error(session, "FETCH ALL FROM c").sqlstate == "22012"
        session.execute("ROLLBACK TO s")
        store.append()
        for _ in range(3):
            assert rows(session, "SELECT count(*) FROM growing") == [((batches + 1) * N,)]
        session.execute("COMMIT")


# Errors of others


DIAGNOSTICS = (
    "RETURNED_SQLSTATE COLUMN_NAME CONSTRAINT_NAME PG_DATATYPE_NAME MESSAGE_TEXT TABLE_NAME SCHEMA_NAME"
    " PG_EXCEPTION_DETAIL PG_EXCEPTION_HINT PG_EXCEPTION_CONTEXT"
).split()
RAISING = f"""
CREATE FUNCTION boom() RETURNS bigint LANGUAGE plpgsql AS $$ BEGIN
    RAISE EXCEPTION 'boom' USING ERRCODE = 'ZZ123', CONSTRAINT = 'a constraint', TABLE = 'a table',
        SCHEMA = 'a schema', COLUMN = 'a column', DATATYPE = 'a type', DETAIL = 'a detail', HINT = 'a hint'; END $$;
CREATE FUNCTION diagnosed(query text) RETURNS text[] LANGUAGE plpgsql AS $$
    DECLARE {" ".join(f"d{i} text;" for i in range(len(DIAGNOSTICS)))} BEGIN
        EXECUTE query;
        RETURN NULL;
    EXCEPTION WHEN OTHERS THEN
        GET STACKED DIAGNOSTICS {", ".join(f"d{i} = {name}" for i, name in enumerate(DIAGNOSTICS))};
        RETURN ARRAY[{", ".join(f"d{i}" for i in range(len(DIAGNOSTICS)))}]; END $$;
CREATE TABLE many AS SELECT unnest(ARRAY[1, 2]) AS a;
"""


OF_PARTITIONS = """
GRANT USAGE ON SCHEMA heap TO PUBLIC;
CREATE FUNCTION boom_of(bigint) RETURNS bigint LANGUAGE plpgsql STABLE AS 'BEGIN RETURN boom(); END';
CREATE TABLE heap.parts (id bigint) PARTITION BY RANGE (id);
CREATE TABLE heap.parts_1 PARTITION OF heap.parts FOR VALUES FROM (0) TO (10);
CREATE TABLE heap.parts_2 PARTITION OF heap.parts FOR VALUES FROM (10) TO (20);
GRANT SELECT ON heap.parts TO PUBLIC;
"""


def told(failed: psycopg.Error) -> dict[str, str | None]:
    """All that the server says of an error, where in its source it was raised included."""
    return {name: getattr(failed.diag, name) for name in dir(failed.diag) if not name.startswith("_")}


@pytest.fixture
def raising(database: Database, session: psycopg.Connection) -> psycopg.Connection:
    """A session of a database with a store, its copy, and what raises errors."""
    Growing(database.root)
    heap_copy(session, "growing")
    session.execute(RAISING)
    return session


@pytest.mark.parametrize(
    ("value", "state"),
    [("SELECT boom()", "ZZ123"), ("SELECT 1 / (SELECT 0)", "22012"), ("SELECT a FROM many", "21000")],
)
def test_an_error_of_a_subquery_is_as_on_the_heap(raising: psycopg.Connection, value: str, state: str):
    sql = f"SELECT count(*) FROM growing WHERE value = ({value})"
    ours, theirs = on_both(raising, lambda: told(error(raising, sql)))
    assert ours == theirs and ours["sqlstate"] == state
    ours, theirs = on_both(raising, lambda: rows(raising, "SELECT diagnosed(%s)", (sql,))[0][0])
    assert ours == theirs and ours[0] == state
    if state == "ZZ123":
        assert ours[1:4] == ["a column", "a constraint", "a type"]
        assert ours[4:9] == ["boom", "a table", "a schema", "a detail", "a hint"]
        assert "PL/pgSQL function boom()" in ours[9]


def test_errors_of_other_tables_are_as_ever(database: Database, raising: psycopg.Connection):
    """In a session that has read a store, the start of every query passes through the extension."""
    raising.execute(OF_PARTITIONS)
    queries = [
        # Raised when the query starts, which is when partitions are left out.
        "EXPLAIN EXECUTE pruned(1)",
        "SELECT count(*) FROM heap.growing",
        "SELECT diagnosed('SELECT count(*) FROM heap.growing')",
        "SELECT boom()",
        "SELECT public.boom() FROM generate_series(1, 3)",
        "SELECT 1 / (g - 2) FROM generate_series(1, 3) g",
    ]
    def ask(session: psycopg.Connection) -> list:
        session.execute("SET ROLE pg_read_all_settings; SET plan_cache_mode = force_generic_plan")
        session.execute("PREPARE pruned(bigint) AS SELECT * FROM heap.parts WHERE id = boom_of($1)")
        found = []
        for sql in queries:
            diagnosed = "diagnosed" in sql
            found.append(rows(session, sql)[0][0] if diagnosed else told(error(session, sql)))
        session.execute("RESET ROLE")
        return found

    assert rows(raising, "SELECT count(*) FROM stored.growing") == [(N,)]
    with database.connect() as other:
        ours, theirs = ask(raising), ask(other)
    assert ours == theirs
    pruned, denied, denied_within, *_ = ours
    assert (pruned["sqlstate"], pruned["constraint_name"]) == ("ZZ123", "a constraint")
    assert "PL/pgSQL function boom()" in pruned["context"]
    assert (denied["sqlstate"], denied["message_detail"], denied["message_hint"]) == ("42501", None, None)
    assert denied["message_primary"] == "permission denied for table growing"
    assert denied_within[0] == "42501"


def test_what_the_heap_would_not_come_to_is_not_run(raising: psycopg.Connection):
    """A subquery behind an OR whose first arm decides: its error must not come."""
    always = "SELECT count(*) FROM growing WHERE value >= 0 OR value = (SELECT a FROM many)"
    assert on_both(raising, lambda: rows(raising, always)) == ([(N,)], [(N,)])
    nested = "SELECT count(*) FROM growing WHERE value < 7 AND (value >= 0 OR (batch = 0 AND value = (SELECT boom())))"
    assert on_both(raising, lambda: rows(raising, nested)) == ([(7,)], [(7,)])
    # Where it does not decide, the error comes.
    sometimes = "SELECT count(*) FROM growing WHERE value > 0 OR value = (SELECT a FROM many)"
    ours, theirs = on_both(raising, lambda: told(error(raising, sometimes)))
    assert ours == theirs and ours["sqlstate"] == "21000"


# Processes of one query


@pytest.fixture(scope="module")
def units(pg: PgServer) -> Iterator[Database]:
    """A store of one segment with five units, which only its zone maps tell apart, and its copy."""
    ids = range(5 * UNIT)
    with support.public_folder("soa-units-") as root, Database(pg, root) as database, database.connect() as session:
        table = {"id": pa.array(ids, pa.int64()), "v": pa.array([i % 97 for i in ids])}
        assert len(segments(add(database, "units", pa.table(table)))) == 1
        heap_copy(session, "units")
        yield database


@pytest.mark.parametrize("leader", ["parquet", "arrow"])
def test_a_leader_and_workers_that_know_different_forms(units: Database, leader: str):
    """Zone maps are in the Arrow forms: who has none reads more units."""
    forms, hidden = units.root / "units.soa" / "_soa", units.root / "units.soa" / "_hidden"
    try:
        with units.connect() as session:
            session.execute("SET search_path = heap")
            right = [rows(session, sql) for sql in OF_SOME_UNITS]
            if leader == "parquet":
                forms.rename(hidden)
            session.execute("SET search_path = stored; SET max_parallel_workers_per_gather = 0")
            assert [rows(session, sql) for sql in OF_SOME_UNITS] == right
            if leader == "parquet":
                hidden.rename(forms)
            else:
                forms.rename(hidden)
            ask_with_workers(session, leader, right)
    finally:
        if hidden.exists():
            hidden.rename(forms)


OF_SOME_UNITS = [
    f"SELECT count(*), sum(id), sum(v) FROM units WHERE {condition}"
    for condition in (
        "id BETWEEN 130000 AND 260000",
        "id < 1000 OR id > 600000",
        f"id = {3 * UNIT}",
        f"id >= {4 * UNIT}",
        "id > (SELECT 500000)",
    )
]


def ask_with_workers(session: psycopg.Connection, leader: str, right: list[list[tuple]]) -> None:
    """The same answers from several processes, of which the leader reads this form and the others the other."""
    for setting in (*PARALLEL, "max_parallel_workers_per_gather = 2"):
        session.execute(f"SET {setting}")
    (scan,) = scans(plan(session, "SELECT * FROM units", analyze=False))
    assert scan["SoA Form"] == leader
    for participation in ("on", "off"):
        session.execute(f"SET parallel_leader_participation = {participation}")
        tree = plan(session, OF_SOME_UNITS[0])
        assert any(node.get("Workers Launched") for node in nodes(tree)), tree
        for _ in range(4):
            assert [rows(session, sql) for sql in OF_SOME_UNITS] == right


def test_a_function_that_reads_a_store_in_a_worker(database: Database, session: psycopg.Connection):
    """A worker does not know which version the statement sees, so it must say so instead of taking any."""
    Growing(database.root)
    database.import_all()
    session.execute(
        "CREATE FUNCTION counted() RETURNS bigint LANGUAGE plpgsql STABLE PARALLEL SAFE AS"
        " 'BEGIN RETURN (SELECT count(*) FROM growing); END'"
    )
    assert rows(session, "SELECT counted()") == [(N,)]
    session.execute(f"SET {database.server.parallel_setting} = on")
    session.execute("CREATE TABLE one AS SELECT 1 AS a")
    for sql in ("SELECT counted()", "SELECT counted() FROM one"):
        failed = error(session, sql)
        assert failed.sqlstate == "0A000" and "parallel worker" in failed.diag.message_primary, failed
        assert "PARALLEL RESTRICTED" in (failed.diag.message_hint or "")
    session.execute("ALTER FUNCTION counted() PARALLEL RESTRICTED")
    assert rows(session, "SELECT counted()") == [(N,)]
    assert rows(session, "SELECT counted() FROM one") == [(N,)]


# Columns


def test_columns_with_names_that_every_table_has(database: Database, session: psycopg.Connection):
    """They are passed over with a warning, and do not keep the other stores out."""
    add(database, "fine", pa.table({"id": [1, 2]}))
    for name in SYSTEM_COLUMNS:
        add(database, f"has_{name}", pa.table({"id": [1, 2], name: [3, 4]}))
    warned = notices(session)
    session.execute('IMPORT FOREIGN SCHEMA "." FROM SERVER stores INTO public')
    assert rows(session, "SELECT foreign_table_name FROM information_schema.foreign_tables") == [("fine",)]
    assert rows(session, "SELECT sum(id) FROM fine") == [(3,)]
    assert sorted(one.message.split('"')[1] for one in warned) == sorted(f"has_{name}.soa" for name in SYSTEM_COLUMNS)
    for name in SYSTEM_COLUMNS:
        (one,) = (one for one in warned if f'"{name}"' in one.message)
        assert (one.severity, one.sqlstate) == ("WARNING", "42701") and "column_name" in (one.hint or ""), one
    refused = error(session, 'IMPORT FOREIGN SCHEMA "." LIMIT TO (has_ctid) FROM SERVER stores INTO public')
    assert refused.sqlstate == "42701"
    session.execute(
        "CREATE FOREIGN TABLE renamed (c bigint OPTIONS (column_name 'ctid'))"
        " SERVER stores OPTIONS (path 'has_ctid.soa')"
    )
    assert rows(session, "SELECT c FROM renamed") == [(3,), (4,)]


def test_virtual_columns(database: Database, session: psycopg.Connection):
    """Postgres computes them; the store need not have them."""
    Growing(database.root)
    create = (
        "CREATE FOREIGN TABLE doubled"
        " (batch bigint, value bigint, twice bigint GENERATED ALWAYS AS (value * 2) VIRTUAL)"
        " SERVER stores OPTIONS (path 'growing.soa')"
    )
    if database.server.major < 18:
        assert error(session, create).sqlstate == "42601", "this version has virtual columns"
        return
    session.execute(create)
    assert rows(session, "SELECT sum(twice), count(*) FROM doubled WHERE twice >= 4") == [(249_498, 498)]
    assert rows(session, "SELECT * FROM doubled WHERE value = 3") == [(0, 3, 6)]
    assert rows(session, "SELECT d::text FROM doubled d WHERE twice = 6") == [("(0,3,6)",)]
    session.execute("ANALYZE doubled")
    assert rows(session, "SELECT attname FROM pg_stats WHERE tablename = 'doubled' ORDER BY 1") == [
        ("batch",),
        ("value",),
    ]
    assert rows(session, "SELECT reltuples FROM pg_class WHERE relname = 'doubled'") == [(N,)]
    session.execute("ALTER FOREIGN TABLE doubled DROP COLUMN batch")
    session.execute("ANALYZE doubled")
    assert rows(session, "SELECT * FROM doubled WHERE twice = 6") == [(3, 6)]


def test_not_null_is_about_the_rows(database: Database, session: psycopg.Connection):
    """A column that might have NULLs and has none may be declared NOT NULL, until it has one."""
    columns = {"id": pa.int64(), "v": pa.int32()}

    def append(ids: range, v: list[int | None]) -> None:
        add(database, "loose", pa.table([list(ids), v], pa.schema(columns)))

    append(range(3), [1, 2, 3])
    append(range(3, 5), [4, 5])
    session.execute('IMPORT FOREIGN SCHEMA "." FROM SERVER stores INTO public')
    declared = "SELECT attnotnull FROM pg_attribute WHERE attrelid = 'loose'::regclass AND attname = 'v'"
    assert rows(session, declared) == [(False,)]
    session.execute(
        "CREATE FOREIGN TABLE strict (id bigint NOT NULL, v int NOT NULL) SERVER stores OPTIONS (path 'loose.soa');"
        "CREATE TABLE parent (id bigint NOT NULL, v int NOT NULL) PARTITION BY RANGE (id);"
        "CREATE TABLE others PARTITION OF parent FOR VALUES FROM (100) TO (200);"
        "INSERT INTO parent VALUES (100, 6);"
        "CREATE FOREIGN TABLE part PARTITION OF parent FOR VALUES FROM (0) TO (100)"
        " SERVER stores OPTIONS (path 'loose.soa')"
    )
    right = {
        "SELECT count(*), sum(v) FROM strict": (5, 15),
        "SELECT count(*), sum(v) FROM parent": (6, 21),
        "SELECT count(*), sum(id) FROM strict WHERE v IS NOT NULL": (5, 10),
        "SELECT count(*), sum(id) FROM parent WHERE v IS NOT NULL": (6, 110),
    }
    session.execute("SET plan_cache_mode = force_generic_plan")
    for i, (sql, answer) in enumerate(right.items()):
        session.execute(f"PREPARE q{i} AS {sql}")
        assert rows(session, sql) == rows(session, f"EXECUTE q{i}") == [answer], sql
    append(range(5, 7), [7, None])
    for i, sql in enumerate(right):
        for statement in (sql, f"EXECUTE q{i}"):
            failed = error(session, statement)
            assert failed.sqlstate == "HV004" and '"v"' in str(failed), failed
            assert "DROP NOT NULL" in (failed.diag.message_hint or "")
    assert rows(session, "SELECT count(*), count(v) FROM loose") == [(7, 6)]
    session.execute("ALTER FOREIGN TABLE strict ALTER COLUMN v DROP NOT NULL")
    assert rows(session, "SELECT count(*), count(v) FROM strict") == [(7, 6)]


TRUTHS = [f"IS {a}{b}" for a in ("", "NOT ") for b in ("TRUE", "FALSE", "UNKNOWN")]


def test_truth_of_flags(database: Database, session: psycopg.Connection):
    """Segments and units whose flags are all true, all false, all NULL, and mixed; also under NOT and beside others."""
    kinds = [[True], [False], [None], [True, False], [True, None], [False, None], [True, False, None]]
    for number, kind in enumerate(kinds):
        flags = [kind[i % len(kind)] for i in range(30)]
        table = {"id": pa.array(range(30 * number, 30 * number + 30), pa.int64()), "flag": pa.array(flags, pa.bool_())}
        add(database, "flags", pa.table(table))
    heap_copy(session, "flags")
    asked = 0
    for truth in TRUTHS:
        for condition in (
            f"flag {truth}",
            f"NOT (flag {truth})",
            f"(NOT flag) {truth}",
            f"(flag OR id < 45) {truth}",
            f"(flag AND id < 45) {truth}",
            f"flag {truth} AND id >= 45",
            f"flag {truth} OR id = 3",
        ):
            sql = f"SELECT count(*), sum(id) FROM flags WHERE {condition}"
            ours, theirs = on_both(session, lambda: rows(session, sql))
            assert ours == theirs, condition
            asked += ours[0][0] > 0
    assert asked >= 40, "hardly a condition has found a row"
