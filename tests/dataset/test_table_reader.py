"""Tables as spreadsheets and programs write them."""

import pyarrow
import pytest
from pyarrow import parquet

from bincount.dataset.table_reader import TableReader
from bincount.errors import ConfigError, DataError

ROWS = [["00012", "3", "A-1"], ["523", "0", "Müller; Söhne"]]


def read(path):
    table = TableReader(path)
    return list(table.header), [list(row) for _, row in table.rows()]


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
        TableReader(path)


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


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match="must be a readable file"):
        TableReader(tmp_path / "none.csv")
