"""Rows of a records file, sound and hostile."""

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bincount.dataset.inventory import RECORD_COLUMNS, inventory_rows, row_of
from bincount.dataset.table_reader import TableReader
from bincount.errors import DataError


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("3", 3),
        (" 3 ", 3),
        ("3.0", 3),
        ("0", 0),
        (4, 4),
        (4.0, 4),
        ("+2", 2),
        ("007", 7),
        ("100000", 100_000),
        ("5.00000000000000000000", 5),
        ("8,0", 8),
    ],
)
def test_whole_numbers_are_records(text, count):
    row = row_of({"id": "00012", "recorded": text}, where="f, line 2")
    assert (row.recorded, row.problem) == (count, "")


@pytest.mark.parametrize("text", ["-1", "2.5", "1e3", "1,5", "=1+1", "three", "100001", "9" * 400, True, "inf", -2])
def test_anything_else_is_kept_with_its_reason(text):
    row = row_of({"id": "00012", "recorded": text}, where="f, line 2")
    assert row.recorded is None
    assert row.problem.startswith("recorded count is no whole number from 0 to 100000: ")
    assert len(row.problem) < 80
    assert row.has_photo


@pytest.mark.parametrize("text", ["", "  ", None, "NaN"])
def test_a_missing_record_says_so(text):
    assert row_of({"id": "00012", "recorded": text}, where="").problem == "recorded count is missing"


@pytest.mark.parametrize("bin_id", ["../../x", "", "/etc/passwd", "a b", "=cmd", "x" * 65, "00012.jpg", None, "\x00"])
def test_an_id_that_could_name_another_file_names_none(bin_id):
    row = row_of({"id": bin_id, "recorded": "3"}, where="")
    assert row.problem == "id is no bin's id"
    assert not row.has_photo


def test_location_and_value():
    row = row_of({"id": "523", "recorded": "3", "location": " A-12 ", "unit_value": "2,50"}, where="")
    assert (row.location, row.unit_value) == ("A-12", 2.5)
    assert row_of({"id": "523", "recorded": "3"}, where="").unit_value is None


@pytest.mark.parametrize("text", ["", "NaN", float("nan"), "None", None])
def test_a_missing_location_is_none(text):
    assert row_of({"id": "523", "recorded": "3", "location": text}, where="").location == ""


def test_what_is_written_to_a_list_has_no_line_breaks():
    row = row_of({"id": "5\r=1+1", "recorded": "3\r\n=1+1", "location": "A  1\r=1+1"}, where="")
    assert (row.id, row.location) == ("5 =1+1", "A  1 =1+1")
    assert row_of({"id": "5", "recorded": "3\r\n=1+1"}, where="").problem.endswith(": 3 =1+1")


@pytest.mark.parametrize("value", ["", "-1", "nan", "inf", "1.000.50", "1,000", "x", None])
def test_a_worth_that_is_none_is_refused_with_its_line(value):
    with pytest.raises(DataError, match=r"stock\.csv, line 7: unit_value must be a number >= 0"):
        row_of({"id": "523", "recorded": "3", "unit_value": value}, where="stock.csv, line 7")


@pytest.mark.parametrize("header", [["id"], ["recorded"], ["id", "recorded", "ID"], ["id", "bin", "recorded"], []])
def test_a_header_that_is_not_clear_is_refused(header):
    with pytest.raises(DataError, match="must have one column"):
        RECORD_COLUMNS.positions_in(header, name="stock.csv")


def rows_of(tmp_path, text):
    path = tmp_path / "stock.csv"
    path.write_text(text)
    return [(row.recorded, row.unit_value) for row in inventory_rows(TableReader(path, RECORD_COLUMNS))]


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        # The column itself decides.
        ("id;recorded;unit_value\n1;2;8.750\n2;3;0,25\n", [(2, 8750.0), (3, 0.25)]),
        ("id;recorded;unit_value\n1;2;8.750\n2;3;0.25\n", [(2, 8.75), (3, 0.25)]),
        ("id;recorded;unit_value\n1;2;4.600\n2;3;1.204.600\n", [(2, 4600.0), (3, 1204600.0)]),
        ('id,recorded,unit_value\n1,2,"4,600"\n2,3,"1,204.6"\n', [(2, 4600.0), (3, 1204.6)]),
        # Or else the file's other column.
        ("id;recorded;unit_value\n1;3.000;7,5\n2;3;8\n", [(3000, 7.5), (3, 8.0)]),
        ("id;recorded;unit_value\n1;3.000;7.5\n2;3;8\n", [(3, 7.5), (3, 8.0)]),
        ("id;recorded;unit_value\n1;3.0;2.500\n2;3.0;8\n", [(3, 2.5), (3, 8.0)]),
    ],
)
def test_the_rest_of_the_file_settles_the_decimal_mark(tmp_path, text, rows):
    assert rows_of(tmp_path, text) == rows


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("id;recorded\n1;2\n2;6.000\n", r"line 3: recorded must be a whole number .* got '6\.000': it may be 6000 or"),
        ("id;recorded;unit_value\n1;2;4.600\n", r"line 2: unit_value must be a number >= 0 .* Write 4600, or 4\.6\."),
        # Two marks that contradict each other decide nothing.
        ("id;recorded;unit_value\n1;2;1,5\n2;2;1.5\n3;2;4,600\n", "line 4: unit_value must be a number >= 0"),
    ],
)
def test_a_number_that_nothing_settles_is_refused_by_file_row_and_column(tmp_path, text, words):
    with pytest.raises(DataError, match=rf"^stock\.csv, {words}"):
        rows_of(tmp_path, text)


@given(st.text(), st.text())
def test_no_text_is_lost_or_breaks_it(bin_id, recorded):
    with contextlib.suppress(DataError):  # a number whose decimal mark is not certain
        row = row_of({"id": bin_id, "recorded": recorded}, where="")
        assert (row.recorded is None) <= bool(row.problem)
