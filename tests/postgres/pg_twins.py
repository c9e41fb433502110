"""Stores and copies of their rows in tables of the heap, and what compares them: in functions of the database, which also
compare the errors.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from pg_support import Database, rows

# The stores, and a column of each that tells its rows apart.
STORES = {
    "types": "id",
    "types_parquet": "id",
    "types_required": "id",
    "floats": "id",
    "days": "id",
    "places": "id",
    "rust_types": "id",
    "clocks": "id",
    "short_strings": "n",
    "sorted": "id",
    "orders": "order_id",
    "orders_by_status": "order_id",
}

# Runs a query and returns what it gives: its rows, or its error.
FUNCTIONS = """
CREATE FUNCTION answer(query text) RETURNS text LANGUAGE plpgsql AS $$ DECLARE found text; BEGIN
    EXECUTE query INTO found;
    RETURN coalesce(found, 'no rows');
    EXCEPTION WHEN OTHERS THEN RETURN SQLSTATE || ': ' || SQLERRM; END $$;
-- The queries that give other rows, `stored.` being a store's table and `heap.` its copy.
CREATE FUNCTION differing(queries text[])
    RETURNS TABLE (query text, ours text, theirs text) LANGUAGE plpgsql AS $$ BEGIN
    FOREACH query IN ARRAY queries LOOP
        ours := answer(query);
        theirs := answer(replace(query, 'stored.', 'heap.'));
        IF ours <> theirs THEN RETURN NEXT; END IF;
    END LOOP; END $$;
-- The same of statements that are prepared with one parameter, each executed with each value.
CREATE FUNCTION differing_prepared(kind text, queries text[], given text[])
    RETURNS TABLE (query text, value text, ours text, theirs text) LANGUAGE plpgsql AS $$ BEGIN
    FOREACH query IN ARRAY queries LOOP
        EXECUTE format('PREPARE on_stored(%s) AS %s', kind, query);
        EXECUTE format('PREPARE on_heap(%s) AS %s', kind, replace(query, 'stored.', 'heap.'));
        FOREACH value IN ARRAY given LOOP
            ours := answer(format('EXECUTE on_stored(%s)', value));
            theirs := answer(format('EXECUTE on_heap(%s)', value));
            IF ours <> theirs THEN RETURN NEXT; END IF;
        END LOOP;
        DEALLOCATE on_stored;
        DEALLOCATE on_heap;
    END LOOP; END $$;
"""


@contextmanager
def with_copies(pg, stores: Path) -> Iterator[Database]:
    """A database with the stores in the schema `stored` and copies of them in the schema `heap`."""
    with Database(pg, stores) as database:
        database.execute("CREATE SCHEMA stored; CREATE SCHEMA heap")
        limit = ", ".join(f'"{name}"' for name in STORES)
        database.execute(f'IMPORT FOREIGN SCHEMA "." LIMIT TO ({limit}) FROM SERVER stores INTO stored')
        for name in STORES:
            database.execute(f"CREATE TABLE heap.{name} AS SELECT * FROM stored.{name}")
        database.execute(FUNCTIONS)
        yield database


def listed(key: str) -> str:
    """All keys of the rows, and how many there are."""
    return f"count(*) || ' ' || coalesce(string_agg({key}::text, ',' ORDER BY {key}), '')"


def counted(query: str) -> str:
    """The same query, of which the store computes the answer if it can test the condition."""
    for key in sorted(set(STORES.values())):
        query = query.replace(f"SELECT {listed(key)}", f"SELECT count(*) || ' ' || coalesce(sum({key}), 0)")
    return query


def same(session: psycopg.Connection, queries: list[str], alike: Callable[[str, str], bool] = operator.eq) -> None:
    """Compares the answers to the queries with those of the heap; those that `alike` is true for may differ."""
    assert queries
    queries = list(dict.fromkeys([*queries, *map(counted, queries)]))
    found = rows(session, "SELECT * FROM differing(%s)", (queries,))
    found = [(query, ours, theirs) for query, ours, theirs in found if not alike(ours, theirs)]
    told = "\n".join(
        f"{query}\n    store: {ours[:300]}\n    heap:  {theirs[:300]}" for query, ours, theirs in found[:10]
    )
    assert not found, f"{len(found)} of {len(queries)} queries differ:\n{told}"
