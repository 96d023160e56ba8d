"""Tables as spreadsheets and programs write them."""

from decimal import Decimal

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet

from bincount.dataset.inventory import RECORD_COLUMNS, inventory_rows
from bincount.dataset.table_reader import TableReader
from bincount.errors import ConfigError, DataError

ROWS = [["00012", "3", "A-1"], ["523", "0", "Müller; Söhne"]]


def read(path, columns=RECORD_COLUMNS):
    table = TableReader(path, columns)
    return list(table.header), [list(row.values()) for _, row in table.rows()]


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ('id,recorded,location\n00012,3,A-1\n523,0,"Müller; Söhne"\n', "utf-8"),
        ('id,recorded,location\r\n00012,3,A-1\r\n\r\n523,0,"Müller; Söhne"\r\n', "utf-8-sig"),
        ('id;recorded;location\n00012;3;A-1\n523;0;"Müller; Söhne"', "utf-8-sig"),
        ('sep=;\nid;recorded;location\n00012;3;A-1\n523;0;"Müller; Söhne"', "utf-8"),
        ("id\trecorded\tlocation\n00012\t3\tA-1\n523\t0\tMüller; Söhne\n", "utf-16"),
    ],
)
def test_text_in_the_ways_of_spreadsheets(tmp_path, text, encoding):
    path = tmp_path / "stock.csv"
    path.write_bytes(text.encode(encoding))
    assert read(path) == (["id", "recorded", "location"], ROWS)


def test_parquet(tmp_path):
    path = tmp_path / "stock.parquet"
    table = pyarrow.table({"id": ["00012", "523"], "recorded": [3, None]})
    parquet.write_table(table, path)
    assert read(path) == (["id", "recorded"], [["00012", 3], ["523", None]])
    dictionary = table.set_column(0, "id", table["id"].dictionary_encode())
    parquet.write_table(dictionary, path)
    assert read(path)[1][1] == ["523", None]


def test_ids_that_are_numbers_have_lost_their_zeros(tmp_path):
    path = tmp_path / "stock.parquet"
    parquet.write_table(pyarrow.table({"ID": [12, 523], "recorded": [3, 0]}), path)
    with pytest.raises(DataError, match="ids must be text, got int64"):
        TableReader(path, RECORD_COLUMNS)


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "got an empty file"),
        (b"\n\n", "got an empty file"),
        (b"id,recorded\n1,M\xfcller\n", "must be text in UTF-8"),
        (b"id,recorded\n1,2\n3,4,5\n", "line 3: must have 2 fields as the first line has, got 3"),
        (b'id,recorded\n1,"2\n', "must be CSV"),
        (b"id,recorded\n1," + b"9" * 200_000 + b"\n", "must be CSV, got field larger"),
        (b"PAR1" + bytes(100), "must be a whole parquet file"),
    ],
)
def test_anything_else_says_where_it_breaks(tmp_path, content, words):
    path = tmp_path / "stock.csv"
    path.write_bytes(content)
    with pytest.raises(DataError, match=words):
        read(path)


def test_parquet_whose_values_python_cannot_hold_is_refused(tmp_path):
    ends = pyarrow.py_buffer(np.array([0, 2], np.int32))
    no_text = pyarrow.Array.from_buffers(pyarrow.string(), 1, [None, ends, pyarrow.py_buffer(b"\xff\xfe")])
    path = tmp_path / "stock.parquet"
    for column in (no_text, pyarrow.array([10**12], pyarrow.timestamp("s"))):
        parquet.write_table(pyarrow.table({"id": ["1"], "recorded": [3], "seen": column}), path)
        with pytest.raises(DataError, match=r"stock\.parquet: must be a whole parquet file, got "):
            read(path)
    parquet.write_table(pyarrow.table({"id": ["1"], "recorded": [3], "seen": [1]}), path, store_schema=False)
    path.write_bytes(path.read_bytes().replace(b"seen", b"\xff\xfe\xff\xfe"))
    with pytest.raises(DataError, match=r"stock\.parquet: must be a whole parquet file, got "):
        read(path)


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match="must be a readable file"):
        TableReader(tmp_path / "none.csv", RECORD_COLUMNS)


@pytest.mark.parametrize(
    ("text", "location"),
    [
        ("id;recorded;Shelf (hall, row, level, side)\n00012;3;A\n", None),
        ('"Zone | aisle";id;recorded;location\nx;00012;3;A, left\n', "A, left"),
        ('id,recorded,"Shelf; old; new; other",location\n00012,3,x,A\n', "A"),
        ('id|recorded|"Remark,\nin two lines, with commas"|location\n00012|3|x|A\n', "A"),
        ("sep=|\r\nid|recorded|a,b,c,d|location\r\n00012|3|x|A\r\n", "A"),
    ],
)
def test_the_separator_is_the_one_under_which_the_columns_exist(tmp_path, text, location):
    path = tmp_path / "stock.csv"
    path.write_bytes(text.encode())
    ((_, row),) = TableReader(path, RECORD_COLUMNS).rows()
    assert (row["id"], row["recorded"], row.get("location")) == ("00012", "3", location)


def test_blank_rows_are_skipped_and_counted(tmp_path):
    path = tmp_path / "stock.csv"
    path.write_text("id;recorded\n\n;\n00012;3\n  ; \n;;;;\n")
    table = TableReader(path, RECORD_COLUMNS)
    assert [line for line, _ in table.rows()] == [4]
    assert table.blank_rows == 4
    parquet.write_table(pyarrow.table({"id": [None, "7", ""], "recorded": [None, 2, None]}), tmp_path / "a.parquet")
    table = TableReader(tmp_path / "a.parquet", RECORD_COLUMNS)
    assert ([line for line, _ in table.rows()], table.blank_rows) == ([2], 2)


INTEGERS = [getattr(pyarrow, f"{sign}int{bits}")() for sign in ("", "u") for bits in (8, 16, 32, 64)]
FLOATS = [pyarrow.float32(), pyarrow.float64()]
DECIMALS = [
    pyarrow.decimal128(9, 0),
    pyarrow.decimal128(20, 12),
    pyarrow.decimal128(38, 30),
    pyarrow.decimal256(60, 40),
]


@pytest.mark.parametrize("kind", [*INTEGERS, *FLOATS, *DECIMALS], ids=str)
def test_counts_of_every_numeric_type(tmp_path, kind):
    counts = pyarrow.array(
        [Decimal(12), None, Decimal(0), Decimal(100)] if kind in DECIMALS else [12, None, 0, 100], kind
    )
    ids = pyarrow.array(["00001", "00002", "00003", "x"], pyarrow.large_string())
    table = pyarrow.table({"id": ids, "recorded": counts})
    parquet.write_table(table, tmp_path / "a.parquet")
    rows = list(inventory_rows(TableReader(tmp_path / "a.parquet", RECORD_COLUMNS)))
    assert [row.recorded for row in rows] == [12, None, 0, 100]
    assert rows[1].problem == "recorded count is missing"


@pytest.mark.parametrize("as_text", [True, False])
def test_dictionaries_of_texts_and_numbers(tmp_path, as_text):
    """As pandas writes categories."""
    counts = pyarrow.array(["4,0", "1.500", None] if as_text else [4, 1500, None]).dictionary_encode()
    values = pyarrow.array(["3,75", "1.250", "0"]).dictionary_encode()
    ids = pyarrow.array(["00001", "00002", "00003"]).dictionary_encode()
    parquet.write_table(pyarrow.table({"id": ids, "recorded": counts, "unit_value": values}), tmp_path / "a.parquet")
    rows = list(inventory_rows(TableReader(tmp_path / "a.parquet", RECORD_COLUMNS)))
    assert [(row.id, row.recorded, row.unit_value) for row in rows] == [
        ("00001", 4, 3.75),
        ("00002", 1500, 1250.0),
        ("00003", None, 0.0),
    ]


def test_ids_in_a_dictionary_of_numbers_are_refused(tmp_path):
    ids = pyarrow.array([12, 523]).dictionary_encode()
    parquet.write_table(pyarrow.table({"id": ids, "recorded": [3, 0]}), tmp_path / "a.parquet")
    with pytest.raises(DataError, match="ids must be text, got int64"):
        TableReader(tmp_path / "a.parquet", RECORD_COLUMNS)
