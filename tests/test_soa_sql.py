"""`soa sql`: what it prints, in which form, and what it refuses."""

from __future__ import annotations

import collections
import csv
import decimal
import io
import json
import os
import pty
import shutil
import signal
import struct
import subprocess
from pathlib import Path

import pyarrow as pa
import pytest

import support
from damage import copy, listing
from make_stores import customers, orders, types_rows, write_table


def sql(*arguments: object, stdin: str | None = None, check: bool = True) -> subprocess.CompletedProcess:
    """Runs `soa sql`, its output no terminal."""
    command = [str(support.soa_binary()), "sql", *map(str, arguments)]
    done = subprocess.run(command, input=stdin or "", capture_output=True, text=True, timeout=300)
    if check and done.returncode != 0:
        raise RuntimeError(f"{command} ended with {done.returncode}:\n{done.stdout}{done.stderr}")
    return done


def rows(*arguments: object, stdin: str | None = None) -> list[list[str]]:
    """The rows of a query, without header."""
    return list(csv.reader(io.StringIO(sql(*arguments, "--csv", stdin=stdin).stdout)))[1:]


def objects(*arguments: object) -> list[dict]:
    text = sql(*arguments, "--json").stdout
    return [json.loads(line, parse_float=decimal.Decimal) for line in text.splitlines()]


def refuse(*arguments: object, says: list[str], stdin: str | None = None) -> str:
    """Runs `soa sql` and checks that it fails with one message and prints nothing else."""
    done = sql(*arguments, stdin=stdin, check=False)
    assert done.returncode == 1, done
    assert done.stdout == ""
    assert "panicked" not in done.stderr
    for text in says:
        assert text in done.stderr, f"the message does not hold {text!r}: {done.stderr}"
    return done.stderr


def test_a_store_is_a_table_named_like_its_folder(stores: Path):
    wanted = collections.Counter(status for status in orders(0, 10_000)["status"].to_pylist())
    query = "SELECT status, count(*) FROM orders GROUP BY status ORDER BY status"
    assert rows(stores / "orders.soa", query) == [[status, str(n)] for status, n in sorted(wanted.items())]
    # However its path is written, whatever its name ends with.
    assert rows(f"{stores}/../stores/orders.soa/", "SELECT count(*) FROM orders") == [["10000"]]
    assert rows("SELECT 1 + 1") == [["2"]]


def test_the_name_of_the_folder_that_one_is_in(stores: Path):
    command = [support.soa_binary(), "sql", ".", "SELECT count(*) FROM customers"]
    done = subprocess.run(command, cwd=stores / "customers.soa", capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout) == (0, "count(*)\n200\n"), done


def test_stores_are_joined(stores: Path):
    country = dict(zip(customers()["customer_id"].to_pylist(), customers()["country"].to_pylist()))
    wanted: dict[str, decimal.Decimal] = collections.defaultdict(decimal.Decimal)
    for row in orders(0, 10_000).to_pylist():
        if row["customer_id"] in country and row["status"] == "Shipped":
            wanted[country[row["customer_id"]] or ""] += row["amount"]
    query = """SELECT country, sum(amount) FROM orders JOIN customers USING (customer_id)
               WHERE status = 'Shipped' GROUP BY country"""
    found = {country: decimal.Decimal(total) for country, total in rows(stores / "orders.soa", stores / "customers.soa", query)}
    assert found == wanted


def test_a_store_under_a_name_of_ones_own(stores: Path, tmp_path: Path):
    folder = shutil.copytree(stores / "customers.soa", tmp_path / "a=b")
    query = "SELECT (SELECT count(*) FROM o) AS o, (SELECT count(*) FROM customers) AS c"
    assert rows("--table", f"o={stores}/orders.soa", stores / "customers.soa", query) == [["10000", "200"]]
    assert rows("--table", f"c={folder}", "SELECT count(*) FROM c") == [["200"]]
    refuse(stores / "orders.soa", "--table", f"orders={folder}", query, says=["table orders", "--table NAME="])
    for wrong in ("orders", "=x", "x="):
        refuse("--table", wrong, query, says=["NAME=STORE", f'"{wrong}"'])


def test_a_query_from_the_standard_input(stores: Path):
    query = "SELECT count(*)\nFROM orders -- all of them\n"
    for arguments in ([stores / "orders.soa"], [stores / "orders.soa", "-"]):
        assert rows(*arguments, stdin=query) == [["10000"]]
    for empty in ("", " \n", "-- nothing", ";;"):
        refuse(stores / "orders.soa", stdin=empty, says=["the query is empty"])


def test_several_statements(stores: Path):
    done = sql(stores / "customers.soa", "SELECT 1 AS a; SELECT count(*) AS n FROM customers;")
    assert done.stdout == "a\n1\nn\n200\n"
    done = sql(stores / "customers.soa", "SELECT 1 AS a; SELECT x FROM customers", check=False)
    assert (done.returncode, done.stdout) == (1, "a\n1\n")
    assert "x" in done.stderr


def test_every_value_comes_out_in_json_as_it_is(stores: Path):
    names = ("id", "b", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64", "f32", "f64", "dec4", "dec9", "dec18", "dec38",
             "s", "bin", "d", "ts", "tz")  # fmt: skip
    found = objects(stores / "types.soa", "SELECT * FROM types ORDER BY id")
    assert len(found) == len(types_rows()) + 1
    for row, wanted in zip(found, types_rows()):
        assert tuple(row) == names
        for name, value in zip(names, wanted):
            if name == "f32":
                row[name] = None if row[name] is None else to_f32(row[name])
                value = to_f32(value)
            assert same(row[name], value), f"{name} of row {wanted[0]}: {row[name]!r}, not {value!r}"
    assert found[-1] == {"id": 9} | dict.fromkeys(names[1:])


def to_f32(number) -> float:
    """The float of 32 bits that is nearest."""
    return struct.unpack("f", struct.pack("f", float(number)))[0]


def same(found, wanted) -> bool:
    """Whether JSON says what Python has: a float that is no number is null, bytes are hexadecimal, times are ISO 8601."""
    match wanted:
        case float() if wanted != wanted or wanted in (float("inf"), float("-inf")):
            return found is None
        case float():
            return float(found) == wanted
        case bytes():
            return found == wanted.hex()
        case decimal.Decimal():
            return decimal.Decimal(str(found)) == wanted
        case bool() | int() | str():
            return found == wanted and type(found) is type(wanted)
        case _:
            return found.removesuffix("Z") == wanted.isoformat().removesuffix("+00:00")


def test_csv_has_a_header_always_and_null_is_nothing(stores: Path):
    assert sql(stores / "orders.soa", "SELECT order_id, note FROM orders WHERE false").stdout == "order_id,note\n"
    done = sql(stores / "orders.soa", "SELECT order_id, note FROM orders WHERE order_id <= 1 ORDER BY 1")
    assert done.stdout == "order_id,note\n0,\n1,note 01 of order\n"
    quoted = "SELECT 'a,b' AS \"x,y\", 'say \"hi\"' AS q, 'two\nlines' AS l"
    assert list(csv.reader(io.StringIO(sql(quoted).stdout))) == [["x,y", "q", "l"], ["a,b", 'say "hi"', "two\nlines"]]


def test_columns_of_one_name_are_told_apart_in_json(stores: Path):
    query = "SELECT a.customer_id, b.customer_id, a.name FROM customers a JOIN customers b ON a.customer_id = b.customer_id + 1 WHERE b.customer_id = 4"
    assert objects(stores / "customers.soa", query) == [{"customer_id": 5, "customer_id_1": 4, "name": "Customer 005"}]


def test_an_aligned_table(stores: Path):
    query = """SELECT customer_id AS id, country, name FROM customers WHERE customer_id IN (17, 5, 107) ORDER BY name"""
    assert sql(stores / "customers.soa", "--aligned", query).stdout == (
        "  id | country | name\n"
        "-----+---------+--------------\n"
        "   5 | DE      | Customer 005\n"
        "  17 | NULL    | Customer 017\n"
        " 107 | US      | Customer 107\n"
        "(3 rows)\n"
    )
    done = sql("--aligned", "SELECT '東京' AS town, 'two\nlines' AS l, chr(27) || '[2J' AS c, TIMESTAMP '2024-02-29T12:34:56.5' AS t")
    assert done.stdout == (
        " town | l     | c         | t\n"
        "------+-------+-----------+-------------------------\n"
        " 東京 | two   | \\u{1b}[2J | 2024-02-29 12:34:56.500\n"
        "      | lines |           |\n"
        "(1 row)\n"
    )
    assert sql(stores / "customers.soa", "--aligned", "SELECT name FROM customers WHERE false").stdout == " name\n------\n(0 rows)\n"


def test_a_long_aligned_table_is_whole(stores: Path):
    lines = sql(stores / "rows_122881.soa", "--aligned", "SELECT id FROM rows_122881 ORDER BY id").stdout.splitlines()
    assert [int(line) for line in lines[2:-1]] == list(range(122_881))
    assert lines[-1] == "(122881 rows)"


def test_a_terminal_gets_an_aligned_table(stores: Path):
    ours, theirs = pty.openpty()
    command = [str(support.soa_binary()), "sql", str(stores / "customers.soa"), "SELECT count(*) AS n FROM customers"]
    subprocess.run(command, stdin=subprocess.DEVNULL, stdout=theirs, timeout=300, check=True)
    os.close(theirs)
    text = b""
    while True:
        try:
            read = os.read(ours, 4096)
        except OSError:  # EIO: nothing is left, and the other side is closed
            break
        if not read:
            break
        text += read
    os.close(ours)
    assert text.decode().splitlines() == ["   n", "-----", " 200", "(1 row)"]


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO customers VALUES (1, 'x', 'y')",
        "UPDATE customers SET name = 'x'",
        "DELETE FROM customers",
        "DROP TABLE customers",
        "CREATE TABLE x AS SELECT 1",
        "CREATE VIEW x AS SELECT 1",
        "SELECT * INTO x FROM customers",
        "CREATE EXTERNAL TABLE x STORED AS CSV LOCATION 'secret.csv'",
        "COPY customers TO 'out.csv'",
        "COPY (SELECT 1) TO 'out.csv' STORED AS CSV",
        "EXPLAIN ANALYZE INSERT INTO customers VALUES (1, 'x', 'y')",
        "SET datafusion.execution.batch_size = 1",
        "PREPARE p AS SELECT 1",
        "BEGIN TRANSACTION",
    ],
)
def test_only_what_reads_is_run(stores: Path, tmp_path: Path, statement: str):
    store = copy(stores / "customers.soa", tmp_path, "customers")
    before = listing(tmp_path)
    refuse(store, statement, says=["changes nothing"])
    assert listing(tmp_path) == before


@pytest.mark.parametrize("name", ["'secret.csv'", '"secret.csv"', "secret.csv", "'secret.parquet'"])
def test_a_file_is_no_table(tmp_path: Path, name: str):
    (tmp_path / "secret.csv").write_text("a\n42\n")
    command = [support.soa_binary(), "sql", f"SELECT * FROM {name}"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1 and "42" not in done.stdout + done.stderr, done


def test_what_reads_is_run(stores: Path):
    assert "orders" in sql(stores / "orders.soa", "SHOW TABLES").stdout
    described = rows(stores / "orders.soa", "DESCRIBE orders")
    assert [row[0] for row in described] == orders(0, 1).column_names
    plan = sql(stores / "orders.soa", "EXPLAIN SELECT order_id FROM orders WHERE order_id = 5000", "--aligned").stdout
    assert "segments=1/3" in plan and "columns=[order_id]" in plan, plan
    assert "units_read=1" in sql(stores / "orders.soa", "EXPLAIN ANALYZE SELECT sum(price) FROM orders WHERE order_id = 5000").stdout
    assert rows(stores / "orders.soa", "WITH a AS (SELECT 1 AS x) SELECT x FROM a UNION ALL VALUES (2)") in ([["1"], ["2"]], [["2"], ["1"]])


def test_errors_name_the_thing(stores: Path, tmp_path: Path):
    orders_store = stores / "orders.soa"
    refuse(tmp_path / "nothing.soa", "SELECT 1", says=["nothing.soa", "no such folder"])
    refuse(tmp_path, "SELECT 1", says=[str(tmp_path), "not a store"])
    refuse(orders_store, tmp_path / "ordrs.soa", says=["ordrs.soa", "neither the folder of a store nor a query"])
    refuse(orders_store, "SELECT * FROM ordrs", says=["no table ordrs", "the tables are orders"])
    refuse("SELECT * FROM orders", says=["no table orders", "no store was given"])
    refuse(orders_store, "SELECT custmer_id FROM orders", says=["custmer_id", "customer_id"])
    refuse(orders_store, "SELECT )", says=["not SQL", "Line: 1"])
    refuse(orders_store, "SELECT sqroot(price) FROM orders", says=["sqroot"])
    # Of all rows any may be the first: the segments are read at the same time.
    refuse(orders_store, "SELECT CAST(note AS INT) FROM orders WHERE order_id = 1", says=["note 01 of order"])
    refuse(orders_store, "SELECT order_id / (order_id - order_id) FROM orders", says=["ivide by zero"])
    refuse(orders_store, "SELECT " + "(" * 3000 + "1" + ")" * 3000, says=["nested too deeply"])
    shouted = shutil.copytree(stores / "customers.soa", tmp_path / "Customers.soa")
    refuse(shouted, "SELECT * FROM Customers", says=['write "Customers"'])
    assert rows(shouted, 'SELECT count(*) FROM "Customers"') == [["200"]]


def test_wrong_options_are_refused(stores: Path):
    for arguments in (["--threads", "0"], ["--threads", "many"], ["--csv", "--json"], ["--nothing"]):
        done = sql(stores / "orders.soa", "SELECT 1", *arguments, check=False)
        assert (done.returncode, done.stdout) == (2, ""), done
        assert arguments[0] in done.stderr
    done = sql(check=False)
    assert done.returncode == 2 and "Usage: soa sql" in done.stderr


def test_long_conditions_are_no_matter(stores: Path):
    many = " OR ".join(f"order_id = {n * 3}" for n in range(3_000))
    assert rows(stores / "orders.soa", f"SELECT count(*) FROM orders WHERE {many}") == [["3000"]]
    listed = ", ".join(str(n * 2) for n in range(20_000))
    assert rows(stores / "orders.soa", stdin=f"SELECT count(*) FROM orders WHERE order_id NOT IN ({listed})") == [["5000"]]


def test_damage_is_named(stores: Path, tmp_path: Path):
    store = copy(stores / "orders.soa", tmp_path, "orders")
    shutil.rmtree(store / "_soa")
    file = sorted(store.glob("*.parquet"))[0]
    file.unlink()
    refuse(store, "SELECT sum(price) FROM orders", says=[file.name])
    # What can be answered without that file still is.
    assert rows(store, "SELECT count(*) FROM orders") == [["10000"]]


@pytest.mark.parametrize("threads", [1, 2, 7])
def test_threads_change_no_answer(stores: Path, threads: int):
    query = "SELECT status, year, count(*), sum(amount), min(note) FROM orders_by_status GROUP BY 1, 2 ORDER BY 1, 2"
    store = stores / "orders_by_status.soa"
    assert sql(store, query, "--threads", threads).stdout == sql(store, query).stdout


def test_an_interrupt_ends_it(stores: Path):
    query = "SELECT 1 AS a; SELECT count(*) FROM orders a, orders b, orders c WHERE a.price + b.price + c.price < 0"
    command = [str(support.soa_binary()), "sql", str(stores / "orders.soa"), query]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        # The first statement has ended, and the second cannot.
        assert [process.stdout.readline(), process.stdout.readline()] == ["a\n", "1\n"]
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    finally:
        process.kill()
    assert (process.returncode, out, err) == (-signal.SIGINT, "", "")


def test_a_reader_that_has_seen_enough_is_no_failure(stores: Path):
    for form in ("--csv", "--json", "--aligned"):
        command = [str(support.soa_binary()), "sql", str(stores / "rows_122881.soa"), form, "SELECT * FROM rows_122881"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        assert process.stdout.readline()
        process.stdout.close()
        assert (process.wait(timeout=60), process.stderr.read()) == (0, "")
        process.stderr.close()


def test_a_statement_sees_what_was_committed_before_it(tmp_path: Path):
    store = tmp_path / "grows.soa"
    for commit in range(3):
        file = write_table(pa.table({"n": pa.array(range(10), pa.int64())}), tmp_path / f"{commit}.arrow")
        support.soa("import", file, store)
        query = "SELECT (SELECT count(*) FROM grows) AS n, (SELECT sum(a.n) FROM grows a JOIN grows b ON a.n = b.n) AS s"
        times = commit + 1
        assert rows(store, query) == [[str(10 * times), str(45 * times * times)]]


def test_values_inside_others(stores: Path, tmp_path: Path):
    """SQL reaches into lists, structs and maps; JSON has them, CSV cannot."""
    lists, nested = stores / "lists.soa", stores / "nested.soa"
    asked = "SELECT tags[1], place['name'], array_length(numbers) FROM lists JOIN nested USING (id) WHERE lists.id = 3"
    assert rows(lists, nested, asked) == [["tag 3", "place 3", "3"]]
    (row,) = objects(nested, "SELECT id, places, matrix FROM nested WHERE id = 4")
    assert row["matrix"] == [] and [place["name"] for place in row["places"]] == ["place 4"]
    refused = sql(nested, "SELECT place FROM nested", "--csv", check=False)
    assert refused.returncode != 0 and '"place"' in refused.stderr and "--json" in refused.stderr
    copy = tmp_path / "copy.parquet"
    support.soa("export", nested, copy)
    support.soa("import", copy, tmp_path / "again.soa")
    same = "SELECT count(*) FROM nested JOIN again USING (id) WHERE nested.place IS NOT DISTINCT FROM again.place"
    assert rows(nested, tmp_path / "again.soa", same) == [["1000"]]
    with pytest.raises(Exception, match='"place".*\\.parquet'):
        support.soa("export", nested, tmp_path / "copy.csv")
    support.soa("export", nested, tmp_path / "ids.csv", "--columns", "id")
