"""A store that is missing or damaged gives one clear error that names it, or right rows; never wrong rows, never a dead
session, never a crash.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

import support
from damage import (
    arrow_forms,
    copy,
    drop_arrow_forms,
    edit_log,
    everything,
    flip,
    log_files,
    probe,
    segments,
    truncate,
)


@pytest.fixture(scope="module")
def right(stores: Path, tmp_path_factory) -> list[list[str]]:
    """The right answer to `everything`."""
    (answer,) = probe([everything(stores / "orders.soa")], tmp_path_factory.mktemp("right"))
    assert answer["rows"][0][0] == "10000"
    return answer["rows"]


@pytest.fixture
def orders(stores: Path, tmp_path: Path) -> Path:
    """A copy of the store `orders`: three commits."""
    return copy(stores / "orders.soa", tmp_path)


def error_of(store: Path, folder: Path, names: str) -> str:
    """The one error that DuckDB and `soa info` give for a store, both naming it."""
    (answer,) = probe([everything(store)], folder)
    assert "error" in answer, f"no error, but {answer}"
    assert names in answer["error"], f"the error does not name {names}: {answer['error']}"
    assert "panicked" not in answer["error"] and "internal error" not in answer["error"].lower(), answer["error"]
    told = support.soa("info", store, check=False)
    assert told.returncode != 0 and names in told.stderr and "panicked" not in told.stderr, told
    return answer["error"]


def test_missing_folder(tmp_path: Path):
    assert "no such folder" in error_of(tmp_path / "nothing.soa", tmp_path, "nothing.soa")


def test_folder_that_is_no_store(tmp_path: Path):
    folder = tmp_path / "plain.soa"
    folder.mkdir()
    (folder / "readme.txt").write_text("nothing here")
    assert "is not a store" in error_of(folder, tmp_path, "plain.soa")


def test_folder_with_an_empty_log(tmp_path: Path):
    folder = tmp_path / "empty.soa"
    (folder / "_delta_log").mkdir(parents=True)
    error_of(folder, tmp_path, "empty.soa")


def test_file_instead_of_a_folder(tmp_path: Path):
    file = tmp_path / "file.soa"
    file.write_text("not a folder")
    error_of(file, tmp_path, "file.soa")


LOG_DAMAGE = {
    "cut": lambda path: truncate(path, path.stat().st_size // 2),
    "cut in the first line": lambda path: truncate(path, 20),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * 8),
    "no JSON": lambda path: path.write_text("this is not JSON\n"),
    "another JSON": lambda path: path.write_text("[1, 2, 3]\n"),
    "zeros": lambda path: path.write_bytes(bytes(path.stat().st_size)),
}


@pytest.mark.parametrize("which", ["first", "last"])
@pytest.mark.parametrize("how", LOG_DAMAGE)
def test_damaged_log_entry(orders: Path, tmp_path: Path, how: str, which: str):
    LOG_DAMAGE[how](log_files(orders)[0 if which == "first" else -1])
    error_of(orders, tmp_path, "copy.soa")


def test_missing_log_entry(orders: Path, tmp_path: Path):
    log_files(orders)[1].unlink()
    error_of(orders, tmp_path, "copy.soa")


def _metadata(change):
    """An edit that changes the commit's metaData action."""

    def edit(action: dict) -> dict:
        if "metaData" in action:
            change(action["metaData"])
        return action

    return edit


def _unknown_type(metadata: dict) -> None:
    schema = json.loads(metadata["schemaString"])
    schema["fields"][0]["metadata"]["soa.type"] = "u1024"
    metadata["schemaString"] = json.dumps(schema)


UNKNOWN = {
    "format version": _metadata(lambda m: m["configuration"].update({"soa.formatVersion": "2"})),
    "required feature": _metadata(lambda m: m["configuration"].update({"soa.requiredFeatures": '["time machine"]'})),
    "column type": _metadata(_unknown_type),
    "Delta reader version": lambda a: {"protocol": {"minReaderVersion": 99, "minWriterVersion": 99}} if "protocol" in a else a,
    "Delta reader feature": lambda a: (
        {
            "protocol": {
                "minReaderVersion": 3,
                "minWriterVersion": 7,
                "readerFeatures": ["timeMachine"],
                "writerFeatures": ["timeMachine"],
            }
        }
        if "protocol" in a
        else a
    ),
}


@pytest.mark.parametrize("what", UNKNOWN)
def test_what_is_unknown_is_refused(orders: Path, tmp_path: Path, what: str):
    edit_log(log_files(orders)[0], UNKNOWN[what])
    error_of(orders, tmp_path, "copy.soa")


ESCAPES = ["../outside.parquet", "a/../../outside.parquet", "%2e%2e/outside.parquet", "{absolute}", "file://{absolute}"]


@pytest.mark.parametrize("path", ESCAPES)
def test_path_in_the_log_that_leaves_the_folder(stores: Path, orders: Path, tmp_path: Path, path: str):
    """The log of a store from elsewhere must not make anyone read other files: they are there, and are not read."""
    outside = tmp_path / "outside.parquet"
    shutil.copy(segments(orders)[0], outside)
    leaving = path.format(absolute=outside)

    def edit(action: dict) -> dict:
        if "add" in action:
            action["add"]["path"] = leaving
        return action

    edit_log(log_files(orders)[-1], edit)
    error = error_of(orders, tmp_path, "outside.parquet")
    assert "copy.soa" in error


FILE_DAMAGE = {
    "empty": lambda path: path.write_bytes(b""),
    "cut to half": lambda path: truncate(path, path.stat().st_size // 2),
    "last byte missing": lambda path: truncate(path, path.stat().st_size - 1),
    "garbage": lambda path: path.write_bytes(bytes(range(256)) * (path.stat().st_size // 256 + 1)),
    "another file's content": lambda path: path.write_text("id,name\n1,a\n"),
    "missing": lambda path: path.unlink(),
}


@pytest.mark.parametrize("how", FILE_DAMAGE)
def test_damaged_parquet(orders: Path, tmp_path: Path, how: str):
    """Without the Arrow form, which would answer as well, the error names the file."""
    drop_arrow_forms(orders)
    victim = segments(orders)[1]
    FILE_DAMAGE[how](victim)
    (answer,) = probe([everything(orders)], tmp_path)
    assert victim.name in answer.get("error", ""), answer
    told = support.soa("verify", orders, check=False)
    assert told.returncode != 0 and victim.name in told.stdout + told.stderr, told


@pytest.mark.parametrize("how", FILE_DAMAGE)
def test_damaged_arrow_form(orders: Path, tmp_path: Path, right, how: str):
    """The Parquet form answers instead; `soa verify` names the damaged file (one that is missing is in order)."""
    victim = arrow_forms(orders)[1]
    FILE_DAMAGE[how](victim)
    (answer,) = probe([everything(orders)], tmp_path)
    assert answer == {"rows": right}
    told = support.soa("verify", orders, check=False)
    if how == "missing":
        assert told.returncode == 0, told
    else:
        assert told.returncode != 0 and victim.name in told.stdout + told.stderr, told


def positions(size: int, count: int) -> list[int]:
    """Places all over a file, more of them at its end, where the footer is."""
    spread = [i * (size - 1) // (count - 1) for i in range(count)]
    return sorted({*spread, *(size - 1 - i * 7 for i in range(count // 2) if i * 7 < size)})


def flipped_copies(store: Path, form, tmp_path: Path, count: int) -> list[tuple[Path, Path, int]]:
    """Copies of a store, each with one bit of one file turned over: the store, the file, the position."""
    copies = []
    size = form(store)[0].stat().st_size
    for i, position in enumerate(positions(size, count)):
        damaged = copy(store, tmp_path, f"flip-{position}")
        victim = form(damaged)[0]
        flip(victim, position, i % 8)
        copies.append((damaged, victim, position))
    return copies


def test_flipped_bits_in_parquet(stores: Path, tmp_path: Path, right):
    whole = copy(stores / "orders.soa", tmp_path, "whole")
    drop_arrow_forms(whole)
    copies = flipped_copies(whole, segments, tmp_path, 40)
    errors = 0
    for (_, victim, position), answer in zip(copies, probe([everything(store) for store, _, _ in copies], tmp_path)):
        if "error" in answer:
            errors += 1
            assert victim.name in answer["error"], f"bit at {position}: the error does not name the file: {answer}"
        else:
            assert answer["rows"] == right, f"bit at {position}: wrong rows and no error"
    assert errors > len(copies) // 2, f"only {errors} of {len(copies)} flipped bits were noticed"


def test_flipped_bits_in_the_arrow_form(stores: Path, tmp_path: Path, right):
    copies = flipped_copies(copy(stores / "orders.soa", tmp_path, "whole"), arrow_forms, tmp_path, 40)
    for (_, _, position), answer in zip(copies, probe([everything(store) for store, _, _ in copies], tmp_path)):
        assert answer == {"rows": right}, f"bit at {position}: {answer}"


def test_flipped_bits_in_the_log(stores: Path, tmp_path: Path, right):
    """JSON has no checksum: a flipped bit may go unnoticed where nobody looks, but the session lives and no row is
    made up."""
    copies = flipped_copies(copy(stores / "orders.soa", tmp_path, "whole"), lambda s: log_files(s)[-1:], tmp_path, 40)
    for (store, _, position), answer in zip(copies, probe([everything(store) for store, _, _ in copies], tmp_path)):
        if "error" in answer:
            assert store.name in answer["error"] or "part-" in answer["error"], f"bit at {position}: {answer}"
            assert "internal error" not in answer["error"].lower(), f"bit at {position}: {answer}"
        else:
            assert int(answer["rows"][0][0]) <= int(right[0][0]), f"bit at {position}: {answer}"


def test_file_that_vanishes_while_the_session_lives(orders: Path, tmp_path: Path):
    """A file that is open already is read on; otherwise the error names it. Either way the session goes on."""
    drop_arrow_forms(orders)
    connection = support.connect()
    sql = f"SELECT sum(order_id), count(note) FROM soa_scan({support.quote(orders)})"
    whole = connection.execute(sql).fetchone()
    victim = segments(orders)[0]
    moved = victim.rename(tmp_path / "moved.parquet")
    try:
        assert connection.execute(sql).fetchone() == whole
    except Exception as error:
        assert victim.name in str(error)
    moved.rename(victim)
    assert connection.execute(sql).fetchone() == whole
    connection.close()


@pytest.mark.parametrize(
    ("sql", "named"), [("SELECT nothing FROM soa_scan({})", "nothing"), ("FROM soa_scan({}, nothing := 1)", "soa_scan(path")]
)
def test_unknown_column_and_option(stores: Path, tmp_path: Path, sql: str, named: str):
    (answer,) = probe([sql.format(support.quote(stores / "orders.soa"))], tmp_path)
    assert named in answer["error"]
