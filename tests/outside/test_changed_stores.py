"""Outside readers see the rows that DuckDB sees through the extension after everything that can be done to a store: rows replaced and
deleted, segments joined, the log checkpointed, old files removed, columns added, versions restored, stores copied. And what
delta-rs does to a store is seen through the extension.

delta-rs reads no deletion vectors through Arrow (`deltalake`): it is asked where files are rewritten instead.
"""

from __future__ import annotations

import json
import subprocess
import threading
from pathlib import Path

import pyarrow as pa
import pytest

import support
from make_stores import orders, write_table
from read_with import READERS
from test_readers import ORDERS, case, compare, read_with, through_extension

PARTITIONED = ("--partition-by", "status")
KEYED = ("--key", "order_id")
# By which readers can prune by partitions, by statistics of files with deleted rows, and by both; in the states that differ in that.
FILTERED = ("deleted", "compacted", "rated")
WHERE = [
    [["status", "=", "Shipped"]],
    [["order_id", ">=", 900], ["order_id", "<", 1100]],
    [["amount", ">", {"decimal": "995.00"}], ["status", "<>", "Pending"]],
    [["note", "is null"]],
]


class Changing:
    """A store that goes through everything. Each state is kept as a copy, so that each reader reads them all at once."""

    def __init__(self, folder: Path, name: str, has_vectors: bool, *layout: str):
        self.folder = folder
        self.name = name
        self.path = folder / f"{name}.soa"
        self.states: list[tuple[str, list[str]]] = []
        self.columns = list(ORDERS)
        support.soa("import", write_table(orders(0, 1500), folder / f"{name}.arrow"), self.path, *layout)
        if not has_vectors:
            support.soa("alter", self.path, "--deletion-vectors", "false")

    def write(self, table: pa.Table, *options: str) -> None:
        file = write_table(table, self.folder / f"{self.name}.arrow")
        command = [str(support.example("write_store")), str(self.path), *options, str(file)]
        subprocess.run(command, check=True, stdin=subprocess.DEVNULL, capture_output=True, timeout=600)

    def keep(self, name: str) -> None:
        support.soa("verify", self.path)
        subprocess.run(["cp", "-a", self.path, self.folder / f"{self.name}_{name}.soa"], check=True)
        self.states.append((f"{self.name}_{name}", list(self.columns)))

    def run(self) -> Changing:
        self.write(orders(1000, 800).set_column(6, "quantity", pa.array([77] * 800, pa.uint32())), "--upsert")
        self.keep("upserted")
        support.soa("delete", self.path, "--where", "status = 'Cancelled' OR quantity = 3 OR order_id BETWEEN 1040 AND 1059")
        self.keep("deleted")
        version = json.loads(support.soa("info", self.path, "--json").stdout)["version"]
        for start in range(2000, 2120, 10):
            self.write(orders(start, 10))
        assert list((self.path / "_delta_log").glob("*.checkpoint.parquet")), "there is no checkpoint"
        self.keep("checkpointed")
        support.soa("compact", self.path)
        self.keep("compacted")
        support.soa("delete", self.path, "--key", 905, 906, 1001, 2003)
        support.soa("vacuum", self.path, "--retention", "0s", "--force")
        self.keep("vacuumed")
        support.soa("alter", self.path, "--add-column", "rating:f64", "--add-column", "seen:timestamp")
        self.columns.append("rating")
        self.keep("widened")
        rated = orders(3000, 40).append_column("rating", pa.array([n / 8 for n in range(40)]))
        self.write(rated)
        self.write(rated.slice(0, 20).set_column(8, "note", pa.array(["anew"] * 20)), "--upsert")
        self.keep("rated")
        before = json.loads(support.soa("info", self.path, "--json").stdout)["version"]
        support.soa("delete", self.path, "--where", "rating IS NULL")
        self.keep("few")
        support.soa("restore", self.path, "--version", before)
        self.keep("restored")
        support.soa("clone", self.path, self.folder / f"{self.name}_cloned.soa")
        self.states.append((f"{self.name}_cloned", list(self.columns)))
        assert version < before
        return self


class Changed:
    """Two stores that have gone through everything."""

    def __init__(self, folder: Path, has_vectors: bool):
        self.folder = folder
        layouts = {"plain": (*KEYED, "--sort-by", "ordered_on,order_id"), "parted": (*KEYED, *PARTITIONED)}
        self.stores = [Changing(folder, name, has_vectors, *layout).run() for name, layout in layouts.items()]
        states = [state for store in self.stores for state in store.states]
        self.cases = [
            case(name, columns, *where)
            for name, columns in states
            for where in [[], *(WHERE if name.endswith(FILTERED) else [])]
        ]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory) -> Changed:
    """Stores whose rows are deleted by deletion vectors."""
    return Changed(tmp_path_factory.mktemp("vectors"), True)


@pytest.fixture(scope="module")
def rewritten(tmp_path_factory) -> Changed:
    """Stores whose files are written anew without the deleted rows."""
    return Changed(tmp_path_factory.mktemp("rewritten"), False)


def check(reader: str, changed: Changed, duck, tmp_path: Path) -> None:
    for asked, answer in zip(changed.cases, read_with(reader, changed.folder, changed.cases, tmp_path)):
        folder = changed.folder / f"{asked['store']}.soa"
        compare(through_extension(duck, folder, asked["columns"], asked["where"]), answer, reader, asked)


@pytest.mark.parametrize("reader", sorted(set(READERS) - {"deltalake"}))
def test_rows_are_equal_with_deletion_vectors(reader: str, vectors: Changed, duck, tmp_path: Path):
    check(reader, vectors, duck, tmp_path)


@pytest.mark.parametrize("reader", sorted(READERS))
def test_rows_are_equal_with_rewritten_files(reader: str, rewritten: Changed, duck, tmp_path: Path):
    check(reader, rewritten, duck, tmp_path)


@pytest.mark.parametrize("kind", ["vectors", "rewritten"])
def test_the_states_differ(kind: str, request, duck):
    """What is compared is what was to be: no state is empty, or the one before."""
    changed = request.getfixturevalue(kind)
    counts = {
        name.removeprefix("plain_"): duck.execute(
            f"SELECT count(*) FROM soa_scan({support.quote(changed.folder / f'{name}.soa')})"
        ).fetchone()[0]
        for name, _ in changed.stores[0].states
    }
    assert counts["upserted"] == 1800 and counts["few"] == 40 and counts["cloned"] == counts["restored"] == counts["rated"]
    assert 1000 < counts["deleted"] < 1800 and counts["checkpointed"] == counts["compacted"] == counts["deleted"] + 120
    assert counts["vacuumed"] < counts["compacted"] and counts["rated"] == counts["widened"] + 40


@pytest.fixture
def shared(tmp_path: Path) -> Path:
    """A store that files are rewritten in: delta-rs writes to no other."""
    path = tmp_path / "shared.soa"
    support.soa("import", write_table(orders(0, 1000), tmp_path / "a.arrow"), path, "--key", "order_id")
    support.soa("alter", path, "--deletion-vectors", "false")
    support.soa("import", write_table(orders(1000, 500), tmp_path / "b.arrow"), path)
    return path


def ids(duck, path: Path) -> list[int]:
    found = duck.execute(f"SELECT order_id FROM soa_scan({support.quote(path)}) ORDER BY order_id").fetchall()
    return [row[0] for row in found]


def test_what_delta_rs_does_is_seen(shared: Path, duck):
    import deltalake

    deltalake.DeltaTable(str(shared)).delete("order_id >= 200 AND order_id < 1100")
    left = [*range(200), *range(1100, 1500)]
    assert ids(duck, shared) == left
    deltalake.DeltaTable(str(shared)).update(predicate="order_id < 10", updates={"note": "'by delta-rs'"})
    noted = f"SELECT count(*) FROM soa_scan({support.quote(shared)}) WHERE note = 'by delta-rs'"
    assert (duck.execute(noted).fetchone(), ids(duck, shared)) == ((10,), left)
    table = deltalake.DeltaTable(str(shared))
    more = orders(1500, 300)
    signed = more.set_column(0, "order_id", more["order_id"].cast(pa.int64()))
    signed = signed.set_column(6, "quantity", more["quantity"].cast(pa.int64()))
    deltalake.write_deltalake(table, signed, mode="append")
    left += range(1500, 1800)
    assert ids(duck, shared) == left
    one = duck.execute(f"SELECT order_id, note, quantity FROM soa_scan({support.quote(shared)}) WHERE order_id = 1777")
    assert one.fetchall() == [(1777, more["note"][277].as_py(), more["quantity"][277].as_py())]
    deltalake.DeltaTable(str(shared)).optimize.compact()
    assert ids(duck, shared) == left
    deltalake.DeltaTable(str(shared)).create_checkpoint()
    # And by us again, on what it has written.
    support.soa("verify", shared)
    support.soa("delete", shared, "--key", 1777, 5)
    support.soa("import", write_table(orders(1800, 10), shared.parent / "c.arrow"), shared)
    support.soa("compact", shared)
    left = sorted({*left, *range(1800, 1810)} - {1777, 5})
    assert ids(duck, shared) == left
    assert sorted(deltalake.DeltaTable(str(shared)).to_pyarrow_table()["order_id"].to_pylist()) == left
    deltalake.DeltaTable(str(shared)).vacuum(retention_hours=0, enforce_retention_duration=False, dry_run=False)
    assert ids(duck, shared) == left
    support.soa("vacuum", shared, "--retention", "0s", "--force")
    assert ids(duck, shared) == left
    support.soa("verify", shared)


def test_delta_rs_and_we_write_at_once(shared: Path, duck):
    """Commits of both meet; none is lost."""
    import deltalake
    import deltalake.exceptions

    rounds, failed = 8, []

    def theirs() -> None:
        try:
            for number in range(rounds):
                more = orders(10_000 + number * 10, 10)
                signed = more.set_column(0, "order_id", more["order_id"].cast(pa.int64()))
                signed = signed.set_column(6, "quantity", more["quantity"].cast(pa.int64()))
                # It gives up, even an append, where somebody else deletes rows meanwhile.
                while True:
                    try:
                        deltalake.write_deltalake(str(shared), signed, mode="append")
                        break
                    except deltalake.exceptions.CommitFailedError as error:
                        assert "concurrent transaction deleted data" in str(error), error
        except Exception as error:  # the test shows it
            failed.append(error)

    other = threading.Thread(target=theirs)
    other.start()
    for number in range(rounds):
        support.soa("import", write_table(orders(20_000 + number * 10, 10), shared.parent / "d.arrow"), shared)
        support.soa("delete", shared, "--key", number)
    other.join()
    assert not failed, failed
    expected = [*range(rounds, 1500), *range(10_000, 10_000 + 10 * rounds), *range(20_000, 20_000 + 10 * rounds)]
    assert ids(duck, shared) == expected
    support.soa("compact", shared)
    assert ids(duck, shared) == expected
    support.soa("verify", shared)
