"""Who may read what: a server's root is set by those who may read the server's files anyway; below it tables are for
whoever may use the server; and nothing leads out of it, not when a table is made and not when it is read.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

import support
from damage import arrow_forms, copy, edit_log, log_files, segments
from pg_support import PARALLEL, Database, error, notices, rows

DENIED = psycopg.errors.InsufficientPrivilege.sqlstate
ROLES = """
CREATE ROLE {0}_plain LOGIN;
CREATE ROLE {0}_reader LOGIN IN ROLE pg_read_server_files;
CREATE ROLE {0}_group IN ROLE pg_read_server_files;
CREATE ROLE {0}_member LOGIN IN ROLE {0}_group;
"""


@pytest.fixture
def open_root(database: Database, stores: Path) -> Database:
    """The database with copies of two stores in its root."""
    for name in ("orders", "types"):
        copy(stores / f"{name}.soa", database.root, name)
    database.execute(ROLES.format(database.name))
    database.execute("GRANT CREATE ON SCHEMA public TO PUBLIC")
    return database


@pytest.fixture
def roles(open_root: Database) -> Iterator[Database]:
    yield open_root
    for role in ("plain", "reader", "member", "group"):
        name = f"{open_root.name}_{role}"
        open_root.execute(f"DROP OWNED BY {name} CASCADE; DROP ROLE {name}")


def as_role(database: Database, role: str) -> psycopg.Connection:
    return database.connect(user=f"{database.name}_{role}")


def create_server(name: str, root: object) -> str:
    return f"CREATE SERVER {name} FOREIGN DATA WRAPPER soa_fdw OPTIONS (root {support.quote(root)})"


def test_who_may_set_a_root(roles: Database):
    with as_role(roles, "plain") as plain:
        assert error(plain, create_server("mine", roles.root)).sqlstate == DENIED
        roles.execute("GRANT USAGE ON FOREIGN DATA WRAPPER soa_fdw TO PUBLIC")
        refused = error(plain, create_server("mine", roles.root))
        assert refused.sqlstate == DENIED and "pg_read_server_files" in str(refused) and '"root"' in str(refused)
    for role in ("reader", "member"):
        with as_role(roles, role) as allowed:
            allowed.execute(create_server(f"of_{role}", roles.root))
            allowed.execute(f"ALTER SERVER of_{role} OPTIONS (SET root '/tmp')")
            allowed.execute(f"ALTER SERVER of_{role} OPTIONS (SET root {support.quote(roles.root)})")
    roles.execute(f"ALTER SERVER of_reader OWNER TO {roles.name}_plain")
    with as_role(roles, "plain") as plain:
        assert error(plain, "ALTER SERVER of_reader OPTIONS (SET root '/')").sqlstate == DENIED
        plain.execute("CREATE FOREIGN TABLE t (id int) SERVER of_reader OPTIONS (path 'types.soa')")
        assert rows(plain, "SELECT count(*) FROM t") == [(9,)]


def test_who_may_set_it_is_who_runs_the_statement(roles: Database):
    """SET ROLE gives up the privilege; a function of its owner has it."""
    roles.execute("GRANT USAGE ON FOREIGN DATA WRAPPER soa_fdw TO PUBLIC")
    roles.execute(
        f"CREATE FUNCTION make(name text) RETURNS void LANGUAGE plpgsql SECURITY DEFINER AS"
        f" $$ BEGIN EXECUTE format({support.quote(create_server('%I', roles.root))}, name); END $$"
    )
    with roles.connect() as superuser:
        superuser.execute(f"SET ROLE {roles.name}_plain")
        assert error(superuser, create_server("mine", roles.root)).sqlstate == DENIED
        superuser.execute("SELECT make('made')")
        superuser.execute("RESET ROLE")
        superuser.execute(create_server("mine", roles.root))


def test_use_of_a_server(roles: Database):
    make = "CREATE FOREIGN TABLE {} (id int, b boolean) SERVER stores OPTIONS (path 'types.soa')"
    bring = 'IMPORT FOREIGN SCHEMA "." LIMIT TO (orders) FROM SERVER stores INTO public'
    with as_role(roles, "plain") as plain:
        for sql in (make.format("t"), bring):
            assert error(plain, sql).sqlstate == DENIED
        roles.execute(f"GRANT USAGE ON FOREIGN SERVER stores TO {roles.name}_plain")
        plain.execute(make.format("t"))
        plain.execute(bring)
        assert rows(plain, "SELECT count(*) FROM t NATURAL JOIN (SELECT 1 AS id) x") == [(1,)]
        assert rows(plain, "SELECT count(*) FROM orders") == [(10_000,)]
        for path in ("../x", "/etc", "a/../../b", "..", "x\n", ""):
            refused = error(
                plain, f"CREATE FOREIGN TABLE u (id int) SERVER stores OPTIONS (path {support.quote(path)})"
            )
            assert refused.sqlstate == "HV024"
            assert error(plain, f"ALTER FOREIGN TABLE t OPTIONS (SET path {support.quote(path)})").sqlstate == "HV024"


def test_use_of_a_table(roles: Database):
    """Privileges on tables and columns, views and functions are as for every table."""
    roles.import_all()
    plain_role = f"{roles.name}_plain"
    roles.execute("CREATE VIEW seen AS SELECT order_id, note FROM orders WHERE order_id < 5")
    roles.execute(
        "CREATE VIEW checked WITH (security_invoker = false, security_barrier) AS SELECT order_id FROM orders WHERE"
        " year = 2022"
    )
    with as_role(roles, "plain") as plain:
        for sql in (
            "SELECT 1 FROM orders",
            "EXPLAIN SELECT 1 FROM orders",
            "SELECT count(*) FROM orders WHERE order_id = 3",
        ):
            assert error(plain, sql).sqlstate == DENIED
        roles.execute(
            f"GRANT SELECT (order_id, status) ON orders TO {plain_role}; GRANT SELECT ON seen, checked TO {plain_role}"
        )
        assert rows(plain, "SELECT status FROM orders WHERE order_id = 3") == [("Cancelled",)]
        for sql in (
            "SELECT note FROM orders",
            "SELECT 1 FROM orders WHERE note IS NULL",
            "SELECT orders FROM orders",
            "SELECT * FROM orders",
        ):
            assert error(plain, sql).sqlstate == DENIED
        assert rows(plain, "SELECT count(note) FROM seen") == [(4,)]
        # A function that tells what it is given must not see rows that a view hides.
        plain.execute(
            "CREATE FUNCTION pg_temp.tell(bigint) RETURNS boolean COST 0.0000001 LANGUAGE plpgsql AS"
            " $$ BEGIN IF $1 = 9998 THEN RAISE EXCEPTION 'saw it'; END IF; RETURN true; END $$"
        )
        year = roles.execute("SELECT year FROM orders WHERE order_id = 9998")
        assert year != [(2022,)]
        assert rows(plain, "SELECT count(*) FROM checked WHERE pg_temp.tell(order_id)")[0][0] > 1000
        plain.execute("ANALYZE orders")  # a warning, and nothing else
        assert rows(plain, "SELECT count(*) FROM pg_stats WHERE tablename = 'orders'") == [(0,)]


@pytest.fixture
def outside(stores: Path) -> Iterator[Path]:
    """A store in a folder that is not below the root, which the server's user could read."""
    with support.public_folder("soa-outside-") as folder:
        yield copy(stores / "types.soa", folder, "secret")


READS = ["SELECT * FROM t", "SELECT count(*) FROM t", "EXPLAIN SELECT * FROM t", "ANALYZE t"]


def check_refused(session: psycopg.Connection, outside: Path) -> None:
    for sql in READS:
        refused = error(session, sql)
        assert refused.sqlstate == DENIED, (sql, refused)
        assert "leads out of" in str(refused) and str(outside.parent) not in str(refused), refused


@pytest.mark.parametrize("path", ["link.soa", "folder/secret.soa", "chain.soa", "./link.soa/"])
def test_links_that_leave_the_root(open_root: Database, outside: Path, path: str):
    (open_root.root / "link.soa").symlink_to(outside)
    (open_root.root / "folder").symlink_to(outside.parent)
    (open_root.root / "chain.soa").symlink_to("link.soa")
    with open_root.connect() as session:
        session.execute(f"CREATE FOREIGN TABLE t (id int) SERVER stores OPTIONS (path '{path}')")
        check_refused(session, outside)


def test_links_within_the_root(open_root: Database):
    (open_root.root / "inner").mkdir()
    (open_root.root / "inner" / "link.soa").symlink_to(open_root.root / "types.soa")
    (open_root.root / "relative.soa").symlink_to("inner/link.soa")
    for path in ("inner/link.soa", "relative.soa"):
        open_root.execute(
            f"DROP FOREIGN TABLE IF EXISTS t; CREATE FOREIGN TABLE t (id int) SERVER stores OPTIONS (path '{path}')"
        )
        assert open_root.execute("SELECT count(*) FROM t") == [(9,)]


def test_a_root_that_is_a_link(open_root: Database):
    with support.public_folder("soa-link-") as folder:
        (folder / "root").symlink_to(open_root.root)
        open_root.execute(f"ALTER SERVER stores OPTIONS (SET root {support.quote(folder / 'root')})")
        open_root.execute("CREATE FOREIGN TABLE t (id int) SERVER stores OPTIONS (path 'types.soa')")
        assert open_root.execute("SELECT count(*) FROM t") == [(9,)]


def test_links_that_lead_nowhere(open_root: Database):
    (open_root.root / "dangling.soa").symlink_to("nothing.soa")
    (open_root.root / "loop.soa").symlink_to("loop.soa")
    with open_root.connect() as session:
        for path, state in (("dangling.soa", "58P01"), ("loop.soa", "58030")):
            session.execute(
                f"DROP FOREIGN TABLE IF EXISTS t; CREATE FOREIGN TABLE t (id int) SERVER stores OPTIONS (path '{path}')"
            )
            assert error(session, "SELECT * FROM t").sqlstate == state


@pytest.mark.parametrize("parallel", [False, True], ids=["serial", "parallel"])
def test_a_link_that_is_made_later(open_root: Database, outside: Path, parallel: bool):
    """A table whose folder becomes a link is checked again at each execution, also of a plan that was made before."""
    place = open_root.root / "types.soa"
    with open_root.connect() as session:
        if parallel:
            for setting in PARALLEL:
                session.execute(f"SET {setting}")
        session.execute("CREATE FOREIGN TABLE t (id int) SERVER stores OPTIONS (path 'types.soa')")
        session.execute("SET plan_cache_mode = force_generic_plan")
        session.execute("PREPARE counted AS SELECT count(*) FROM t")
        assert rows(session, "EXECUTE counted") == [(9,)]
        shutil.rmtree(place)
        place.symlink_to(outside)
        assert error(session, "EXECUTE counted").sqlstate == DENIED
        check_refused(session, outside)
        place.unlink()
        shutil.copytree(outside, place)
        assert rows(session, "EXECUTE counted") == [(9,)]


def test_an_import_passes_over_what_leaves_the_root(open_root: Database, outside: Path):
    (open_root.root / "link.soa").symlink_to(outside)
    (open_root.root / "folder").symlink_to(outside.parent)
    with open_root.connect() as session:
        told = notices(session)
        session.execute('IMPORT FOREIGN SCHEMA "." FROM SERVER stores INTO public')
        assert [(one.severity, one.sqlstate) for one in told] == [("WARNING", DENIED)], told
        assert "link.soa" in told[0].message
        assert rows(session, "SELECT count(*) FROM pg_foreign_table") == [(2,)]
        refused = error(session, 'IMPORT FOREIGN SCHEMA "." LIMIT TO (link) FROM SERVER stores INTO public')
        assert refused.sqlstate == DENIED
        assert error(session, "IMPORT FOREIGN SCHEMA folder FROM SERVER stores INTO public").sqlstate == DENIED


ESCAPES = ["../outside.parquet", "a/../../outside.parquet", "%2e%2e/outside.parquet", "{absolute}", "file://{absolute}"]


@pytest.mark.parametrize("path", ESCAPES)
def test_paths_in_a_log_that_leave_the_store(open_root: Database, path: str):
    """The file is there, in the root even, but not in the store; and it is not read."""
    store = open_root.root / "orders.soa"
    target = open_root.root / "outside.parquet"
    shutil.copy(segments(store)[0], target)

    def edit(action: dict) -> dict:
        if "add" in action:
            action["add"]["path"] = path.format(absolute=target)
        return action

    edit_log(log_files(store)[-1], edit)
    with open_root.connect() as session:
        session.execute("CREATE FOREIGN TABLE t (order_id bigint, note text) SERVER stores OPTIONS (path 'orders.soa')")
        for sql in READS:
            refused = error(session, sql)
            assert refused.sqlstate == "XX001" and "outside.parquet" in str(refused), (sql, refused)


@pytest.mark.parametrize("what", ["segment", "arrow form", "commit", "log", "arrow folder"])
def test_links_within_a_store_that_leave_the_root(open_root: Database, stores: Path, outside: Path, what: str):
    """A file of the store that is a link to a file elsewhere is not read: whoever can make links in the root could read
    whatever the server's user can."""
    store = open_root.root / "orders.soa"
    if what in ("segment", "log", "commit"):
        shutil.rmtree(store / "_soa" / "arrow")
    victim = {
        "segment": lambda: segments(store)[0],
        "arrow form": lambda: arrow_forms(store)[0],
        "commit": lambda: log_files(store)[-1],
        "log": lambda: store / "_delta_log",
        "arrow folder": lambda: store / "_soa" / "arrow",
    }[what]()
    moved = outside.parent / "moved"
    shutil.move(victim, moved)
    victim.symlink_to(moved)
    with open_root.connect() as session:
        session.execute("CREATE FOREIGN TABLE t (order_id bigint, note text) SERVER stores OPTIONS (path 'orders.soa')")
        if what.startswith("arrow"):
            # The other form has the same rows, and is in the store.
            assert rows(session, "SELECT count(*), count(note) FROM t") == [(10_000, 9_090)]
            (scan,) = [line for (line,) in rows(session, "EXPLAIN SELECT * FROM t") if "SoA Form" in line]
            assert "parquet" in scan
        else:
            refused = error(session, "SELECT * FROM t")
            assert refused.sqlstate in (DENIED, "XX001"), refused


def test_a_folder_that_may_not_be_entered(open_root: Database):
    place = open_root.root / "types.soa"
    mode = place.stat().st_mode
    with open_root.connect() as session:
        session.execute("CREATE FOREIGN TABLE t (id int) SERVER stores OPTIONS (path 'types.soa')")
        os.chmod(place, 0)
        try:
            refused = error(session, "SELECT * FROM t")
            assert refused.sqlstate == DENIED and "types.soa" in str(refused)
            assert refused.diag.message_hint and "user that the Postgres server runs as" in refused.diag.message_hint
        finally:
            os.chmod(place, mode)
        assert rows(session, "SELECT count(*) FROM t") == [(9,)]
