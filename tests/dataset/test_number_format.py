"""Numbers with decimal marks and marks between thousands of any country."""

from decimal import Decimal

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bincount.dataset.number_format import AmbiguousNumberError, decimal_mark_of, decimal_marks, number_of


@pytest.mark.parametrize(
    ("text", "mark"),
    [
        ("3,5", ","), ("3.5", "."), ("0,125", ","), ("0.125", "."), ("1250,500", ","), ("1250.500", "."),
        ("2.345.678", ","), ("2,345,678", "."), ("2.345,6", ","), ("2,345.678", "."), ("7,1234", ","),
        ("4.000e2", "."), ("2.345", None), ("2,345", None), ("2345", None), ("2.34.5", None), ("x", None), (2.5, None),
    ],
)  # fmt: skip
def test_what_a_number_proves_by_its_form(text, mark):
    assert decimal_mark_of(text) == mark


@pytest.mark.parametrize(
    ("value", "mark", "number"),
    [
        ("2.345", ",", 2345), ("2.345", ".", 2.345), ("2,345", ".", 2345), ("2,345", ",", 2.345),
        ("2.345.678", None, 2345678), ("2.345,75", None, 2345.75), ("2,345.75", None, 2345.75), ("3,50", None, 3.5),
        ("12 500", None, 12500), ("12\u202f500,25", None, 12500.25), ("12'500.5", None, 12500.5), ("1.5e3", None, 1500),
        (Decimal("12.000"), None, 12), (np.float16(2.5), None, 2.5), (np.uint8(200), None, 200), (7, None, 7),
    ],
)  # fmt: skip
def test_numbers_are_read_by_the_column_s_mark_unless_their_form_is_proof(value, mark, number):
    assert number_of(value, mark) == Decimal(str(number))


@pytest.mark.parametrize("text", ["", "-1", "1.2,5", "12 50", "1,00,000", "1..5", ".5", "5.", "1e400", "\u0665"])
def test_anything_else_is_no_number(text):
    assert number_of(text) is None


@pytest.mark.parametrize("value", [True, None, float("nan"), float("inf"), Decimal("NaN"), [3]])
def test_values_of_parquet_that_are_no_numbers(value):
    assert number_of(value) is None


@pytest.mark.parametrize("text", ["2.345", "2,345", "500.000"])
def test_without_a_mark_nothing_is_guessed(text):
    with pytest.raises(AmbiguousNumberError):
        number_of(text)


def test_a_column_decides_before_its_file_and_a_contradiction_decides_nothing():
    assert decimal_marks({"a": {"."}, "b": {","}, "c": set()}) == {"a": ".", "b": ",", "c": None}
    assert decimal_marks({"a": {".", ","}, "b": set()}) == {"a": None, "b": None}
    assert decimal_marks({"a": {","}, "b": set()}) == {"a": ",", "b": ","}


@given(st.decimals(min_value=0, max_value=10**9, places=2), st.sampled_from([".", ","]))
def test_what_a_spreadsheet_formats_is_read_back(number, mark):
    american = f"{number:,.2f}"
    text = american if mark == "." else american.translate(str.maketrans(",.", ".,"))
    assert number_of(text, mark) == number


@given(st.text())
def test_no_text_breaks_it(text):
    try:
        number_of(text)
    except AmbiguousNumberError:
        assert decimal_mark_of(text) is None
