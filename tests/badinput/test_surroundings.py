"""What surrounds a store rather than what is in it: odd names of folders, a user who may only read, a full disk, files taken away
by hand. Whatever cannot be done is said by name and loses nothing.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import duckdb
import pytest

import support
from damage import copy, listing, segments
from make_stores import rows, write_table

COUNT = "SELECT count(*) AS n FROM t"
ODD_NAMES = [
    "with space.soa",
    "it's a \"quoted\" one.soa",
    "Größe 東京 🦆.soa",
    "100% & #1? [a] {b};$HOME.soa",
    "back\\slash and\ttab.soa",
    "-n.soa",
]


@pytest.mark.parametrize("name", ODD_NAMES)
def test_a_folder_may_have_any_name(name: str, tmp_path: Path, duck):
    store = tmp_path / "über 'all'" / name
    store.parent.mkdir()
    source = write_table(rows(300), store.parent / "rows's.arrow")
    support.soa("import", source, store, "--key", "id")
    support.soa("delete", store, "--where", "id >= 200")
    support.soa("compact", store)
    support.soa("verify", store)
    assert support.soa("sql", f"--table=t={store}", "--csv", COUNT).stdout == "n\n200\n"
    copied = tmp_path / f"copy of {name}"
    support.soa("clone", store, copied)
    for path in (store, copied):
        for source in (f"soa_scan({support.quote(path)})", support.quote(path)):
            assert duck.execute(f"SELECT count(*), sum(id) FROM {source}").fetchall() == [(200, 19_900)], source


@pytest.fixture
def reader() -> Iterator[list[str]]:
    """The beginning of a command that runs as a user who may only read. Where the tests are not run by root, that is the user
    of the tests, and the folder's own modes keep it from writing.
    """
    yield ["runuser", "-u", "nobody", "--"] if os.geteuid() == 0 else []


def _take_write(store: Path) -> None:
    for path in [store, *store.rglob("*")]:
        path.chmod(path.stat().st_mode & ~0o222)


def _give_write(store: Path) -> None:
    for path in [store, *store.rglob("*")]:
        path.chmod(path.stat().st_mode | 0o200)


def test_who_may_only_read_reads_and_is_told_what_he_may_not(reader: list[str]):
    with support.public_folder("soa-read-") as folder:
        store = folder / "rows.soa"
        shutil.copy(support.soa_binary(), folder / "soa")
        for start in (0, 100):
            support.soa("import", write_table(rows(200).slice(start, 100), folder / "rows.arrow"), store, "--key", "id")
        _take_write(store)
        try:
            before = listing(store)

            def run(*arguments: object) -> subprocess.CompletedProcess:
                command = [*reader, str(folder / "soa"), *map(str, arguments)]
                return subprocess.run(command, capture_output=True, text=True, timeout=60, cwd=folder)

            for arguments in (("info", store), ("verify", store), ("history", store)):
                done = run(*arguments)
                assert done.returncode == 0, done
            assert run("sql", f"--table=t={store}", "--csv", COUNT).stdout == "n\n200\n"
            for arguments in (
                ("import", folder / "rows.arrow", store),
                ("delete", store, "--where", "id = 3"),
                ("compact", store),
                ("restore", store, "--version", "1"),
            ):
                done = run(*arguments)
                assert done.returncode == 1 and "panicked" not in done.stderr, done
                assert "Permission denied" in done.stderr and "rows.soa" in done.stderr, done
            assert listing(store) == before
        finally:
            _give_write(store)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root makes file systems")
def test_a_full_disk_loses_nothing(tmp_path: Path, duck):
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(disk)], capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"no file system can be made here: {mounted.stderr}")
    try:
        store = disk / "rows.soa"
        source = write_table(rows(20_000), tmp_path / "rows.arrow")
        stored = 0
        for _ in range(100):
            done = support.soa("import", source, store, check=False)
            if done.returncode != 0:
                break
            stored += 20_000
        assert stored > 0 and done.returncode == 1, done
        assert "No space left on device" in done.stderr and "rows.soa" in done.stderr, done.stderr
        count = f"SELECT count(*) FROM soa_scan({support.quote(store)})"
        assert duck.execute(count).fetchall() == [(stored,)]
        support.soa("verify", store)
        # There is room again.
        subprocess.run(["mount", "-o", "remount,size=64m", str(disk)], check=True)
        support.soa("import", source, store)
        assert duck.execute(count).fetchall() == [(stored + 20_000,)]
    finally:
        duck.close()
        subprocess.run(["umount", "-l", str(disk)], check=True)


def test_a_segment_that_was_taken_away_is_named(tmp_path: Path, duck):
    store = tmp_path / "rows.soa"
    for start in (0, 100):
        support.soa("import", write_table(rows(200).slice(start, 100), tmp_path / "rows.arrow"), store)
    parquet = segments(store)[0]
    stem = parquet.stem
    # The Arrow form alone is enough to read, and `verify` tells.
    aside = copy(store, tmp_path, "aside")
    parquet.unlink()
    assert duck.execute(f"SELECT count(*), sum(id) FROM soa_scan({support.quote(store)})").fetchall() == [(200, 19_900)]
    done = support.soa("verify", store, check=False)
    assert done.returncode == 1 and parquet.name in done.stdout + done.stderr, done
    for path in aside.rglob(f"{stem}.*"):
        path.unlink()
    with pytest.raises(duckdb.Error, match=parquet.name):
        duck.execute(f"SELECT sum(id) FROM soa_scan({support.quote(aside)})").fetchall()


def test_two_stores_in_one_folder_are_two(tmp_path: Path, duck):
    outer = tmp_path / "outer.soa"
    support.soa("import", write_table(rows(100), tmp_path / "rows.arrow"), outer)
    inner = outer / "inner.soa"
    support.soa("import", write_table(rows(50), tmp_path / "fifty.arrow"), inner)
    support.soa("compact", outer)
    support.soa("vacuum", outer, "--retention", "0s", "--force")
    for path, count in ((outer, 100), (inner, 50)):
        support.soa("verify", path)
        assert duck.execute(f"SELECT count(*) FROM soa_scan({support.quote(path)})").fetchall() == [(count,)]
