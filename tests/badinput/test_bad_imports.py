"""An import that cannot succeed says why in one message, naming the file, column or value, and leaves no trace: no file in
the store is added or changed, and a store that was not there is not there afterwards.
"""

from __future__ import annotations

import csv
import decimal
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet
import pytest

import support
from damage import copy, listing, truncate
from make_stores import orders, rows, types, write_table


def refuse(tmp_path: Path, *arguments: object, says: list[str], store: Path | None = None, code: int | None = None) -> str:
    """Runs `soa import` into `store` (a new one if not given) and checks that it fails as it should."""
    target = store or tmp_path / "new.soa"
    before = listing(tmp_path)
    done = support.soa("import", *arguments[:1], *arguments[1:], check=False)
    assert done.returncode != 0, f"it succeeded: {done.stdout}"
    if code is not None:
        assert done.returncode == code, done
    assert "panicked" not in done.stderr, done.stderr
    for text in says:
        assert text.lower() in done.stderr.lower(), f"the message does not hold {text!r}: {done.stderr}"
    assert listing(tmp_path) == before, f"the import left a trace: {sorted(set(listing(tmp_path)) ^ set(before))}"
    if store is None:
        assert not target.exists(), "a store that cannot be filled was made"
    return done.stderr


@pytest.fixture
def new(tmp_path: Path) -> Path:
    """Where a store would be made."""
    return tmp_path / "new.soa"


@pytest.fixture
def there(stores: Path, tmp_path: Path) -> Path:
    """A store with 2,049 rows: id, v, s, o, t."""
    return copy(stores / "rows_2049.soa", tmp_path, "there")


@pytest.fixture
def keyed(stores: Path, tmp_path: Path) -> Path:
    """A store whose key is order_id."""
    return copy(stores / "orders_keyed.soa", tmp_path, "keyed")


def good(tmp_path: Path, name: str = "good.arrow") -> Path:
    return write_table(rows(100), tmp_path / name)


def test_missing_source(tmp_path: Path, new: Path):
    refuse(tmp_path, tmp_path / "nothing.parquet", new, says=["nothing.parquet"])


def test_source_of_an_unknown_kind(tmp_path: Path, new: Path):
    file = tmp_path / "rows.xlsx"
    file.write_bytes(b"PK\x03\x04")
    refuse(tmp_path, file, new, says=["rows.xlsx"])


@pytest.mark.parametrize("suffix", ["parquet", "arrow"])
@pytest.mark.parametrize("keep", [0, 3, 100, "half", "but one"])
def test_truncated_source(tmp_path: Path, new: Path, suffix: str, keep):
    file = write_table(rows(50_000), tmp_path / f"cut.{suffix}")
    size = file.stat().st_size
    truncate(file, {"half": size // 2, "but one": size - 1}.get(keep, keep))
    refuse(tmp_path, file, new, says=[f"cut.{suffix}"])


@pytest.mark.parametrize("suffix", ["parquet", "arrow", "csv"])
def test_truncated_second_source_of_an_append(tmp_path: Path, there: Path, suffix: str):
    """The first file is in order; nothing of it is kept."""
    broken = write_table(rows(50_000), tmp_path / f"cut.{suffix}")
    if suffix == "csv":
        broken.write_bytes(broken.read_bytes() + b"1,2\n")
    else:
        truncate(broken, broken.stat().st_size // 2)
    refuse(tmp_path, good(tmp_path), broken, there, says=[f"cut.{suffix}"], store=there)


def test_overwritten_bytes_in_parquet_source(tmp_path: Path, new: Path):
    file = tmp_path / "overwritten.parquet"
    pyarrow.parquet.write_table(rows(200_000), file, compression="zstd", use_dictionary=False)
    content = bytearray(file.read_bytes())
    # The header of the first page: bytes within a page that has no checksum nobody can judge.
    content[4:4096] = b"\xff" * 4092
    file.write_bytes(content)
    refuse(tmp_path, file, new, says=["overwritten.parquet"])


BROKEN_CSV = {
    "a row too short": "id,v\n" + "1,2\n" * 60_000 + "3\n" + "4,5\n" * 10,
    "a row too long": "id,v\n" + "1,2\n" * 60_000 + "3,4,5\n",
    "a quote never closed": 'id,v\n1,"two\n' + "3,4\n" * 60_000,
    "empty": "",
}


@pytest.mark.parametrize("how", BROKEN_CSV)
def test_broken_csv(tmp_path: Path, new: Path, how: str):
    file = tmp_path / "broken.csv"
    file.write_text(BROKEN_CSV[how])
    refuse(tmp_path, file, new, says=["broken.csv"])


def test_quotes_in_csv(tmp_path: Path, new: Path):
    """Delimiters, line ends and doubled quotes within quotes, and quotes that are none."""
    file = tmp_path / "quotes.csv"
    file.write_text('id,v\n1,"a,b\n""c"""\n2,5" pipe\n3,""\n')
    support.soa("import", file, new)
    out = tmp_path / "out.csv"
    support.soa("export", new, out)
    with out.open(newline="") as lines:
        assert list(csv.reader(lines)) == [["id", "v"], ["1", 'a,b\n"c"'], ["2", '5" pipe'], ["3", ""]]


def test_csv_with_text_where_the_store_has_numbers(tmp_path: Path, there: Path):
    """Far behind the rows that tell a CSV file's types, and in a column that is a number in the store."""
    file = tmp_path / "text.csv"
    row = "1,2,a,0.5,2020-01-01T00:00:00Z\n"
    file.write_text("id,v,s,o,t\n" + row * 60_000 + row.replace("2,", "two,", 1))
    refuse(tmp_path, file, there, says=["text.csv", "two"], store=there)


def test_csv_that_is_not_utf8(tmp_path: Path, new: Path):
    file = tmp_path / "latin1.csv"
    file.write_bytes("id,name\n1,Z\xfcrich\n".encode("latin-1"))
    refuse(tmp_path, file, new, says=["latin1.csv"])


UNSUPPORTED = {
    "list": pa.array([[(1, 2, 3)]], pa.list_(pa.month_day_nano_interval())),
    "struct": pa.array([{"a": None}]),
    "map": pa.array([[("k", None)]], pa.map_(pa.string(), pa.null())),
    "null": pa.array([None]),
    "interval": pa.array([(1, 2, 3)], pa.month_day_nano_interval()),
}


@pytest.mark.parametrize("kind", UNSUPPORTED)
def test_unsupported_type(tmp_path: Path, new: Path, kind: str):
    file = write_table(pa.table({"id": pa.array([1]), "odd_one": UNSUPPORTED[kind]}), tmp_path / "odd.arrow")
    refuse(tmp_path, file, new, says=["odd_one"])


UNFIT = {
    # a value that the column's type in the store cannot hold, in a file without a store yet
    "nanoseconds": (pa.array([1_700_000_000_000_000_001], pa.timestamp("ns")), []),
    "nanoseconds of a day": (pa.array([1], pa.time64("ns")), []),
    "nanoseconds of a duration": (pa.array([-1], pa.duration("ns")), []),
    "part of a day": (pa.array([1], pa.date64()), []),
    "39 digits": (pa.array([decimal.Decimal(10) ** 38], pa.decimal256(39, 0)), []),
}


@pytest.mark.parametrize("what", UNFIT)
def test_value_that_does_not_fit(tmp_path: Path, new: Path, what: str):
    values, options = UNFIT[what]
    if what == "part of a day":
        # pyarrow itself refuses such a value; the file's bytes are what another program could write.
        values = pa.Array.from_buffers(pa.date64(), 1, [None, pa.py_buffer((1).to_bytes(8, "little"))])
    file = write_table(pa.table({"id": pa.array([1]), "tight": values}), tmp_path / "unfit.arrow")
    refuse(tmp_path, file, new, *options, says=["tight"])


def other(column: str, values: pa.Array) -> pa.Table:
    """Rows for the store `there`, one column of another type."""
    table = rows(len(values))
    return table.set_column(table.column_names.index(column), column, values)


MISFITS = {
    "too large": ("v", pa.array([1, 3_000_000_000], pa.int64()), "3000000000"),
    "negative for unsigned": ("v", pa.array([2**63, 1], pa.uint64()), "v"),
    "text for a number": ("v", pa.array(["1", "two"]), "Utf8"),
    "fraction for a whole number": ("id", pa.array([1.0, 2.5]), "id"),
    "list": ("s", pa.array([["a"], ["b"]]), "s"),
}


@pytest.mark.parametrize("what", MISFITS)
def test_append_that_does_not_fit(tmp_path: Path, there: Path, what: str):
    column, values, says = MISFITS[what]
    file = write_table(other(column, values), tmp_path / "misfit.arrow")
    refuse(tmp_path, file, there, says=[column, says], store=there)


def test_append_without_a_column(tmp_path: Path, stores: Path):
    """A column that may not be NULL cannot be left out."""
    store = copy(stores / "types_required.soa", tmp_path, "required")
    file = write_table(types(nullable=False).drop_columns(["dec9"]), tmp_path / "fewer.arrow")
    refuse(tmp_path, file, store, says=['"dec9"'], store=store)


def test_null_where_the_store_has_none(tmp_path: Path, stores: Path):
    store = copy(stores / "types_required.soa", tmp_path, "required")
    file = write_table(types(nullable=True), tmp_path / "nulls.arrow")
    refuse(tmp_path, file, store, says=["null"], store=store)


def test_append_with_a_column_more(tmp_path: Path, there: Path):
    file = write_table(rows(5).append_column("one_more", pa.array(range(5))), tmp_path / "more.arrow")
    refuse(tmp_path, file, there, says=["one_more"], store=there)


@pytest.mark.parametrize("option", ["--key", "--partition-by", "--sort-by"])
def test_option_that_names_no_column(tmp_path: Path, new: Path, option: str):
    refuse(tmp_path, good(tmp_path), new, option, "nowhere", says=["nowhere"])


def test_unknown_option(tmp_path: Path, new: Path):
    refuse(tmp_path, good(tmp_path), new, "--no-such-option", says=["--no-such-option"], code=2)


@pytest.mark.parametrize(("option", "column"), [("--key", "o"), ("--partition-by", "o")])
def test_column_that_cannot_play_the_part(tmp_path: Path, new: Path, option: str, column: str):
    """A float is neither a key nor a partition."""
    refuse(tmp_path, good(tmp_path), new, option, column, says=[f'"{column}"'])


def test_key_that_occurs_twice_in_the_source(tmp_path: Path, new: Path):
    file = write_table(pa.concat_tables([orders(0, 500), orders(123, 1)]), tmp_path / "twice.arrow")
    refuse(tmp_path, file, new, "--key", "order_id", says=["order_id", "123"])


def test_key_that_exists(tmp_path: Path, keyed: Path):
    file = write_table(orders(9_999, 5), tmp_path / "again.arrow")
    refuse(tmp_path, file, keyed, says=["order_id", "9999"], store=keyed)


def test_key_that_is_null(tmp_path: Path, new: Path):
    file = write_table(pa.table({"k": pa.array([1, None]), "v": pa.array([1, 2])}), tmp_path / "null.arrow")
    refuse(tmp_path, file, new, "--key", "k", says=['"k"'])


def test_empty_text_in_a_partition_column(tmp_path: Path, new: Path):
    """Delta Lake reads it as NULL."""
    file = write_table(pa.table({"place": pa.array(["a", ""]), "v": pa.array([1, 2])}), tmp_path / "empty.arrow")
    refuse(tmp_path, file, new, "--partition-by", "place", says=["place"])


def test_two_columns_of_one_name(tmp_path: Path, new: Path):
    file = write_table(pa.table([pa.array([1]), pa.array([2])], names=["a", "A"]), tmp_path / "double.arrow")
    refuse(tmp_path, file, new, says=['"a"'])


def test_column_name_that_delta_forbids(tmp_path: Path, new: Path):
    file = write_table(pa.table({"two words": pa.array([1])}), tmp_path / "named.arrow")
    refuse(tmp_path, file, new, says=["two words"])


def test_store_path_that_is_a_file(tmp_path: Path):
    file = tmp_path / "taken.soa"
    file.write_text("not a folder")
    refuse(tmp_path, good(tmp_path), file, says=["taken.soa"], store=file)


def test_folder_that_holds_something_else(tmp_path: Path):
    folder = tmp_path / "photos.soa"
    folder.mkdir()
    (folder / "cat.jpg").write_bytes(b"\xff\xd8")
    done = support.soa("import", good(tmp_path), folder, check=False)
    # Whether it is refused or becomes a store, what was there stays.
    assert (folder / "cat.jpg").read_bytes() == b"\xff\xd8"
    assert "panicked" not in done.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ["info", "{missing}"],
        ["history", "{missing}"],
        ["verify", "{missing}"],
        ["export", "{missing}", "{out}/x.parquet"],
        ["export", "{store}", "{out}/x.xlsx"],
        ["export", "{store}", "{out}/no/such/folder/x.parquet"],
    ],
)
def test_other_commands(tmp_path: Path, there: Path, arguments: list[str]):
    names = {"missing": tmp_path / "missing.soa", "store": there, "out": tmp_path}
    before = listing(tmp_path)
    done = support.soa(*(argument.format(**names) for argument in arguments), check=False)
    assert done.returncode != 0 and "panicked" not in done.stderr
    assert "missing.soa" in done.stderr or "x.xlsx" in done.stderr or "x.parquet" in done.stderr, done.stderr
    assert listing(tmp_path) == before
