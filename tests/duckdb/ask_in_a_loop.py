"""One process of the memory test: `ask_in_a_loop.py STORE WARM_UP QUERIES` asks small queries of all kinds, each in turn, and
prints as JSON the bytes of memory after the first WARM_UP and after all, and how many queries failed."""

from __future__ import annotations

import json
import sys
from itertools import cycle, islice
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import duckdb  # noqa: E402

import support  # noqa: E402  (the path must be there first)

PREPARED = {
    "one": "SELECT * FROM {0} WHERE id = $1",
    "few": "SELECT count(*), sum(id) FROM {0} WHERE id BETWEEN $1 AND $1 + 50 AND s LIKE 's1%'",
    "failing": "SELECT 1 / (id - $1), error(s) FROM {0}",
    "copying": "COPY (SELECT id, error(s)::VARCHAR AS s FROM {0} WHERE id = $1) TO {1} (FORMAT soa)",
}
ORDINARY = [
    "SELECT count(*), sum(v) FROM {0} WHERE id >= 900",
    "FROM {0} WHERE s = 's5' AND o IS NOT NULL",
    "SELECT count(*) FROM soa_scan({0}, version := 2)",
    "SELECT s, count(*), max(t) FROM stored GROUP BY s ORDER BY s LIMIT 5",
    "SELECT count(*) FROM {0} a JOIN {0} b USING (id) WHERE a.v > 500 AND b.s IN ('s1', 's2')",
    "WITH c AS MATERIALIZED (FROM {0}) SELECT (SELECT count(*) FROM c), (SELECT max(id) FROM c WHERE o IS NULL)",
    "SELECT id, row_number() OVER (PARTITION BY s ORDER BY id) FROM {0} WHERE id < 100 QUALIFY 1 < count(*) OVER (PARTITION BY s)",
    "FROM soa_segments({0})",
    "FROM soa_history({0})",
    "FROM soa_schema({0})",
    "FROM soa_verify({0})",
    "FROM soa_vacuum({0}, dry_run := true)",
    "EXPLAIN SELECT sum(id) FROM {0} WHERE t > now()",
    "SELECT DISTINCT ON (s) s, id FROM {0} ORDER BY s, id DESC",
    "EXECUTE one(77)",
    "EXECUTE one(NULL)",
    "EXECUTE few(300)",
]
FAILING = [
    "FROM {1}",
    "SELECT nothing FROM {0}",
    "SELECT error(s) FROM {0}",
    "SELECT s::INTEGER FROM {0} WHERE id > 5",
    "SELECT (SELECT id FROM {0}) FROM {0}",
    "FROM soa_scan({0}, version := 99)",
    "FROM soa_scan({0}, wrong := 1)",
    "FROM soa_segments({1})",
    "SET soa_session = 1",
    "EXECUTE failing(3)",
    "EXECUTE copying(3)",
    "COPY (SELECT 'x' AS id) TO {0} (FORMAT soa)",
]


def memory() -> int:
    """The bytes of this process' memory, mapped files among them."""
    (line,) = [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmRSS:")]
    return int(line.split()[1]) * 1024


def ask(con: duckdb.DuckDBPyConnection, statements: list[str], count: int) -> int:
    failed = 0
    for sql in islice(cycle(statements), count):
        try:
            con.execute(sql).fetchall()
        except duckdb.Error:
            failed += 1
    return failed


def main() -> None:
    store, warm_up, count = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    names = support.quote(store), support.quote(store.parent / "nothing.soa")
    with support.connect(threads=2) as con:
        con.execute(f"CREATE VIEW stored AS FROM {names[0]}")
        for name, sql in PREPARED.items():
            con.execute(f"PREPARE {name} AS {sql.format(*names)}")
        statements = [sql.format(*names) for sql in ORDINARY + FAILING]
        failed = ask(con, statements, warm_up)
        before = memory()
        failed += ask(con, statements, count - warm_up)
        print(json.dumps({"before": before, "after": memory(), "failed": failed}))


if __name__ == "__main__":
    main()
