"""One query sees one snapshot; the next one sees what was committed meanwhile."""

from __future__ import annotations

import threading

import duckdb
import pytest

from duckdb_support import connect, ids

ROWS = 1000

# Scans of one store in every place where a query can have them. Every column of the result must be the same number.
AGREEING = """
WITH once AS MATERIALIZED (SELECT id FROM {0}), twice AS (SELECT id FROM {0})
SELECT (SELECT count(*) FROM {0}),
       (SELECT count(*) FROM once),
       (SELECT count(*) FROM twice),
       (SELECT max(id) + 1 FROM soa_scan({0})),
       (SELECT sum(row_count) FROM soa_segments({0})),
       (SELECT count(*) FROM {0} a JOIN {0} b USING (id)),
       (SELECT count(*) FROM {0} a WHERE a.id IN (SELECT id FROM {0})),
       (SELECT count(*) FROM (FROM {0} UNION FROM {0})),
       (SELECT count(*) FROM {0} a LEFT JOIN {0} b ON a.id = b.id + 1)
"""

# The same, where a scan's rows are numbered, filtered in two ways, compared with themselves or read one by one.
AGREEING_PARTS = """
WITH once AS MATERIALIZED (SELECT id FROM {0} WHERE id % 2 = 0), twice AS (SELECT id FROM {0} WHERE id >= 0)
SELECT (SELECT count(*) FROM {0}),
       (SELECT max(n) FROM (SELECT row_number() OVER (ORDER BY id DESC) AS n FROM {0})),
       (SELECT max(n) FROM (SELECT count(*) OVER () AS n FROM {0}) JOIN (SELECT count(*) AS n FROM {0}) USING (n)),
       (SELECT count(*) FROM (SELECT id, lag(id) OVER (ORDER BY id) AS before FROM {0}) WHERE before IS NULL OR before = id - 1),
       (SELECT count(*) FROM (FROM {0} WHERE id < 700 UNION ALL FROM {0} WHERE id >= 700)),
       (SELECT 2 * count(*) FROM once a JOIN once b USING (id)),
       (SELECT count(*) + 1 FROM twice a JOIN twice b ON a.id = b.id + 1),
       (SELECT count(*) FROM once a RIGHT JOIN twice b USING (id)),
       (SELECT count(*) FROM {0} a WHERE EXISTS (FROM {0} b WHERE b.id = a.id AND b.id >= 0)),
       (SELECT count(*) + (SELECT count(*) FROM {0}) FROM {0} a WHERE NOT EXISTS (FROM {0} b WHERE b.id = a.id)),
       (SELECT count(*) + (SELECT max(id) + 1 FROM {0}) FROM (FROM {0} EXCEPT FROM {0})),
       (SELECT count(*) FROM (FROM {0} INTERSECT FROM {0} WHERE id >= 0)),
       (SELECT id + 1 FROM {0} ORDER BY id DESC LIMIT 1),
       (SELECT sum(n)::BIGINT FROM (SELECT id // 700, count(*) AS n FROM {0} GROUP BY ROLLUP (1)) WHERE n < (SELECT count(*) FROM {0})),
       (SELECT count(*) FROM {0} a, LATERAL (SELECT max(b.id) AS m FROM {0} b WHERE b.id = a.id) WHERE m = a.id)
"""


class Writer(threading.Thread):
    """Appends to a store, commit after commit, until it is told to stop."""

    def __init__(self, store, commits: int):
        super().__init__()
        self.store, self.commits, self.made, self.stopped = store, commits, 1, threading.Event()

    def run(self):
        while not self.stopped.is_set() and self.made < self.commits:
            self.store.commit(ids(self.made * ROWS, ROWS))
            self.made += 1

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stopped.set()
        self.join()


@pytest.fixture
def store(new_store):
    store = new_store()
    store.commit(ids(0, ROWS))
    return store


@pytest.mark.parametrize("query", [AGREEING, AGREEING_PARTS], ids=["whole", "parts"])
@pytest.mark.parametrize("locked", [False, True])
def test_a_query_agrees_with_itself_while_others_write(store, locked, query):
    con = connect(threads=4)
    if locked:
        # No setting can be written then, and none is needed.
        con.execute("SET lock_configuration = true")
    seen = set()
    with Writer(store, 200) as writer:
        while writer.is_alive() and len(seen) < 12:
            counts = con.execute(query.format(store.sql)).fetchone()
            assert len(set(counts)) == 1, counts
            assert counts[0] % ROWS == 0
            seen.add(counts[0])
    assert len(seen) > 3, "too few versions were seen for this to mean anything"


def test_recursion_sees_one_snapshot(con, store):
    query = f"""
        WITH RECURSIVE steps(n, rows) AS (
            SELECT 0, (SELECT count(*) FROM {store.sql})
            UNION ALL
            SELECT n + 1, c FROM steps, (SELECT count(*) AS c FROM {store.sql}) WHERE n < 50)
        SELECT count(DISTINCT rows) FROM steps"""
    with Writer(store, 30) as writer:
        while writer.is_alive():
            assert con.execute(query).fetchone() == (1,)


def test_prepared_statements_see_new_commits(con, store):
    con.execute(f"PREPARE everything AS SELECT count(*) FROM {store.sql}")
    con.execute(f"PREPARE filtered AS SELECT count(*) FROM {store.sql} WHERE id >= $1")
    for commits in range(1, 4):
        assert con.execute("EXECUTE everything").fetchone() == (commits * ROWS,)
        assert con.execute("EXECUTE filtered(500)").fetchone() == (commits * ROWS - 500,)
        assert con.execute("EXECUTE filtered(999999)").fetchone() == (0,)
        store.commit(ids(commits * ROWS, ROWS))


def test_an_open_result_keeps_its_snapshot_and_nobody_elses(con, store):
    other = con.cursor()
    store.commit(*(ids(n * ROWS, ROWS) for n in range(1, 200)))
    open_result = other.execute(f"SELECT id FROM {store.sql}")
    assert open_result.fetchone() == (0,)
    store.commit(ids(200 * ROWS, ROWS))
    assert con.execute(f"SELECT count(*) FROM {store.sql}").fetchone() == (201 * ROWS,)
    assert len(open_result.fetchall()) == 200 * ROWS - 1
    assert other.execute(f"SELECT count(*) FROM {store.sql}").fetchone() == (201 * ROWS,)


def test_a_transaction_does_not_hold_a_snapshot(con, store):
    con.execute("BEGIN")
    assert con.execute(f"SELECT count(*) FROM {store.sql}").fetchone() == (ROWS,)
    store.commit(ids(ROWS, ROWS))
    assert con.execute(f"SELECT count(*) FROM {store.sql}").fetchone() == (2 * ROWS,)
    con.execute("COMMIT")


def test_a_failed_query_lets_its_snapshot_go(con, store):
    with pytest.raises(duckdb.Error):
        con.execute(f"SELECT error(id::VARCHAR) FROM {store.sql}")
    store.commit(ids(ROWS, ROWS))
    assert con.execute(f"SELECT count(*) FROM {store.sql}").fetchone() == (2 * ROWS,)


def test_one_folder_under_two_names_is_one_store(con, store, tmp_path):
    (tmp_path / "link.soa").symlink_to(store.path)
    query = f"SELECT (SELECT count(*) FROM {store.sql}), (SELECT count(*) FROM '{tmp_path}/link.soa')"
    with Writer(store, 30) as writer:
        while writer.is_alive():
            one, two = con.execute(query).fetchone()
            assert one == two


def test_versions_and_times(con, store):
    store.commit(ids(ROWS, ROWS), ids(2 * ROWS, ROWS))
    counts = [con.execute(f"SELECT count(*) FROM soa_scan({store.sql}, version := {v})").fetchone()[0] for v in range(4)]
    assert counts == [0, ROWS, 2 * ROWS, 3 * ROWS]
    now = con.execute(f"SELECT count(*) FROM soa_scan({store.sql}, timestamp := TIMESTAMPTZ '2999-01-01 00:00:00+00')")
    assert now.fetchone() == (3 * ROWS,)
    for one in ("'1'", "1::TINYINT", "1::UINTEGER"):
        assert con.execute(f"SELECT count(*) FROM soa_scan({store.sql}, version := {one})").fetchone() == (ROWS,)
    both = f"SELECT (SELECT count(*) FROM soa_scan({store.sql}, version := 1)), (SELECT count(*) FROM {store.sql})"
    assert con.execute(both).fetchone() == (ROWS, 3 * ROWS)
    for arguments in ("version := 9", "version := -1", "timestamp := '1971-01-01'", "version := 1, timestamp := '2020-01-01'"):
        with pytest.raises(duckdb.Error, match="no version|not both"):
            con.execute(f"FROM soa_scan({store.sql}, {arguments})")


def test_the_session_setting_belongs_to_the_extension(con, store):
    con.execute(f"FROM {store.sql}").fetchall()
    for change in ("SET soa_session = 1", "RESET soa_session", "SET GLOBAL soa_session = 1"):
        with pytest.raises(duckdb.Error):
            con.execute(change)


def test_nobody_chooses_the_number_of_a_connection(store):
    fresh = connect()
    with pytest.raises(duckdb.Error, match="set by the extension"):
        fresh.execute("SET soa_session = 1")
    assert fresh.execute(f"SELECT count(*) FROM {store.sql}").fetchone() == (ROWS,)


def test_a_time_to_come_is_settled_when_the_statement_is_prepared(store):
    """Were it looked up for every execution, a limit that is above the rows of the first one would be lost."""
    con = connect()
    future = f"soa_scan({store.sql}, timestamp := 'infinity'::TIMESTAMPTZ)"
    con.execute(f"PREPARE few AS SELECT id FROM {future} LIMIT {ROWS + 100}")
    assert len(con.execute("EXECUTE few").fetchall()) == ROWS
    store.commit(ids(ROWS, ROWS))
    assert len(con.execute("EXECUTE few").fetchall()) in (ROWS, ROWS + 100)
    assert len(con.execute(f"SELECT id FROM {future}").fetchall()) == 2 * ROWS
