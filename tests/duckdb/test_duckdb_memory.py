"""Thousands of queries in one process, ordinary ones, failing ones and prepared ones, leave its memory as it was."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from ask_in_a_loop import FAILING, ORDINARY
from duckdb_support import Store
from make_stores import rows
from support import run_python, soa

QUERIES = int(os.environ.get("SOA_MEMORY_QUERIES", "3000"))
WARM_UP = min(2000, QUERIES // 2)
GROWTH_MAX = 8 << 20
ASK_IN_A_LOOP = Path(__file__).resolve().parent / "ask_in_a_loop.py"


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_memory_stays_as_it_is(new_store, form: str):
    store: Store = new_store()
    store.commit(*(rows(1000).slice(first, 250) for first in range(0, 1000, 250)))
    soa("delete", store.path, "--where", "id BETWEEN 400 AND 420")
    if form == "parquet":
        soa("compact", store.path, "--arrow-bytes", 0)
    found = json.loads(run_python(ASK_IN_A_LOOP, store.path, WARM_UP, QUERIES))
    whole, rest = divmod(QUERIES, len(ORDINARY + FAILING))
    assert abs(found["failed"] - whole * len(FAILING)) <= rest
    print(f"{form}: {found['before'] >> 10} kB after {WARM_UP} queries, {found['after'] >> 10} kB after {QUERIES}")
    assert found["after"] - found["before"] <= GROWTH_MAX
