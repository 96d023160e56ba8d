"""Rows of an outcomes file, sound and hostile, and which of several counts holds."""

import contextlib
import itertools
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bincount.errors import DataError
from bincount.outcomes.outcome_store import Outcome, group_by_bin, latest_counts, outcome_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def read(**values):
    row = {"id": "00012", "counted": "3", "when": "2026-11-20", "by": "Ada", **values}
    return outcome_of(row, where="counts.csv, line 7", now=NOW)


@pytest.mark.parametrize(
    ("when", "utc"),
    [
        ("2026-11-20", "2026-11-20T00:00:00+00:00"),
        (" 2026-11-20 14:05 ", "2026-11-20T14:05:00+00:00"),
        ("2026-11-20T14:05:09Z", "2026-11-20T14:05:09+00:00"),
        ("2026-11-20T01:00+02:00", "2026-11-19T23:00:00+00:00"),
        (date(2026, 11, 20), "2026-11-20T00:00:00+00:00"),
        (datetime(2026, 11, 20, 14, tzinfo=timezone(timedelta(hours=2))), "2026-11-20T12:00:00+00:00"),
        ("2026-11-23", "2026-11-23T00:00:00+00:00"),  # it is tomorrow already somewhere
    ],
)
def test_times(when, utc):
    assert read(when=when).when == utc


@pytest.mark.parametrize(
    ("values", "rule"),
    [
        *(
            ({"id": bad}, "id must be a bin's id")
            for bad in ("../../x", "", None, "=cmd", "a b", "x" * 65, "00012.jpg", "<script>")
        ),
        *(
            ({"counted": bad}, "counted must be a whole number from 0 to 100000")
            for bad in ("-1", "2.5", "", None, "three", "1e3", "100001", True, float("nan"), "=1+1")
        ),
        *(
            ({"when": bad}, "when must be a date or time")
            for bad in ("", None, "yesterday", "20.11.2026", "2026-13-01", "2026-11-24", "0001-01-01T00:00+14:00")
        ),
        ({"by": "x" * 201}, "by must be a name"),
    ],
)
def test_anything_else_is_refused_with_its_row_and_rule(values, rule):
    with pytest.raises(DataError, match=rf"^counts\.csv, line 7: {rule}.*, got .*\. [A-Z]"):
        read(**values)


def test_nobody_has_to_be_named():
    assert outcome_of({"id": "1", "counted": 0, "when": "2026-11-20"}, where="", now=NOW) == Outcome(
        "1", "2026-11-20T00:00:00+00:00", 0
    )


def test_a_bin_twice_on_one_day_may_be_two_parts_of_it():
    rows = [("line 2", read()), ("line 3", read(when="2026-11-21")), ("line 4", read(when="2026-11-20T09:00"))]
    assert [where for where, _ in group_by_bin(rows[:2])["00012"]] == ["line 2", "line 3"]
    with pytest.raises(DataError, match=r"line 4: each bin must stand there once a day.*'00012' again after line 2"):
        group_by_bin(rows)


def test_the_latest_count_holds_and_a_tie_that_differs_is_nobody_s():
    first, second, third = (
        Outcome("1", f"2026-11-2{day}T00:00:00+00:00", day, by) for day, by in enumerate(("Ada", "Bo", "Ada"))
    )
    other = Outcome("1", third.when, 9, "Bo")
    again = Outcome("2", third.when, 4, "Bo")
    for rows in itertools.permutations([first, second, third, again]):
        assert latest_counts(rows) == ([third, again], [])
        assert latest_counts([*rows, other]) == ([again], ["1"])
    confirmed = Outcome("1", third.when, third.counted, "Bo")
    assert latest_counts([third, confirmed]) == ([third], [])
    later = Outcome("1", "2026-11-23T00:00:00+00:00", 5)
    assert latest_counts([third, other, later]) == ([later], [])


@given(st.text(), st.text(), st.text(), st.text())
def test_no_text_breaks_it(bin_id, counted, when, by):
    with contextlib.suppress(DataError):
        assert read(id=bin_id, counted=counted, when=when, by=by).counted >= 0
