"""Ways to damage a store, and to ask about it afterwards. Shared by the tests in this folder."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import support

PROBE = Path(__file__).resolve().parent / "probe.py"
# A sum over every column of the store `orders`, so that every byte of its files is looked at.
EVERYTHING = (
    "SELECT count(*), sum(order_id), sum(customer_id), sum(length(status)), count(DISTINCT status), sum(year),"
    " min(ordered_on), max(ordered_on), sum(amount), sum(quantity), sum(price), count(note), max(note), bit_xor(hash(note))"
    " FROM soa_scan({store})"
)


def everything(store: Path) -> str:
    return EVERYTHING.format(store=support.quote(store))


def copy(store: Path, folder: Path, name: str = "copy") -> Path:
    """A copy of a store that can be damaged."""
    return Path(shutil.copytree(store, folder / f"{name}.soa"))


def probe(statements: list[str], folder: Path) -> list[dict]:
    """The answers to SQL statements, all asked in one session of a process of its own; fails if that dies."""
    jobs = folder / "jobs.json"
    jobs.write_text(json.dumps(statements))
    answers = [json.loads(line) for line in support.run_python(PROBE, jobs).splitlines()]
    assert len(answers) == len(statements)
    return answers


def log_files(store: Path) -> list[Path]:
    return sorted((store / "_delta_log").glob("*.json"))


def segments(store: Path) -> list[Path]:
    return sorted(store.rglob("*.parquet"))


def arrow_forms(store: Path) -> list[Path]:
    return sorted((store / "_soa" / "arrow").rglob("*.arrow"))


def drop_arrow_forms(store: Path) -> None:
    shutil.rmtree(store / "_soa" / "arrow")


def flip(path: Path, position: int, bit: int = 0) -> None:
    """Turns one bit of a file over."""
    content = bytearray(path.read_bytes())
    content[position] ^= 1 << bit
    path.write_bytes(content)


def truncate(path: Path, size: int) -> None:
    path.write_bytes(path.read_bytes()[:size])


def edit_log(path: Path, edit) -> None:
    """Rewrites a commit: `edit` gets each action (a dict) and returns what is to stand there instead, or None."""
    actions = [edit(json.loads(line)) for line in path.read_text().splitlines() if line]
    path.write_text("".join(json.dumps(action) + "\n" for action in actions if action is not None))


def listing(folder: Path) -> dict[str, bytes]:
    """Every file below a folder and its content."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}
