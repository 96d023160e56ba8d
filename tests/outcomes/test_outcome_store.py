"""Rows of an outcomes file, sound and hostile, and which of several counts holds."""

import contextlib
import itertools
from datetime import UTC, date, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bincount.dataset.table_reader import TableReader
from bincount.errors import DataError
from bincount.outcomes.outcome_store import OUTCOME_COLUMNS, Outcome, group_by_bin, latest_counts, outcome_rows, row_of

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def read_row(where="counts.csv, line 7", zone=UTC, **values):
    row = {"id": "00012", "counted": "3", "when": "2026-11-20", "by": "Ada", **values}
    return row_of(row, where=where, now=NOW, zone=zone)


def read(**values):
    return read_row(**values).outcome


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
    row = row_of({"id": "1", "counted": 0, "when": "2026-11-20"}, where="", now=NOW)
    assert row.outcome == Outcome("1", "2026-11-20T00:00:00+00:00", 0)


def test_a_bin_twice_on_one_day_may_be_two_parts_of_it():
    rows = [
        read_row("line 2"),
        read_row("line 3", when="2026-11-21"),
        read_row("line 4", when="2026-11-20T09:00"),
    ]
    assert [row.where for row in group_by_bin(rows[:2])["00012"]] == ["line 2", "line 3"]
    with pytest.raises(DataError, match=r"line 4: each bin must occur once a day.*'00012' again after line 2"):
        group_by_bin(rows)


def test_a_recount_with_a_later_time_of_the_same_day_replaces_the_first():
    times = ("2026-11-20T07:10", "2026-11-20T16:45", "2026-11-20T11:00")
    rows = [read_row(f"line {line}", when=when, counted=line) for line, when in enumerate(times, 2)]
    (counts,) = group_by_bin(rows).values()
    assert latest_counts([row.outcome for row in counts])[0][0].counted == 3
    with pytest.raises(DataError, match="line 5: each bin must occur once a day, or with the time of each count"):
        group_by_bin([*rows, read_row("line 5", when="2026-11-20T16:45", counted=4)])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("2026-11-19T23:40+09:00", "2026-11-20"),  # one day in UTC, two in Tokyo
        ("2026-11-18T20:15-08:00", "2026-11-19T08:00-08:00"),
        ("2026-11-18", "2026-11-19T00:30-08:00"),
    ],
)
def test_days_are_those_of_the_file_s_own_time_zone(first, second, tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text(f"id,counted,when\n00012,3,{first}\n00012,4,{second}\n")
    rows = group_by_bin(outcome_rows(TableReader(path, OUTCOME_COLUMNS), now=NOW))["00012"]
    assert latest_counts([row.outcome for row in rows])[0][0].counted == 4


def test_times_without_an_offset_among_several_offsets_are_refused(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("id,counted,when\n1,3,2026-10-24T09:00+02:00\n2,3,2026-10-26T09:00+01:00\n3,3,2026-10-27\n")
    table = TableReader(path, OUTCOME_COLUMNS)
    with pytest.raises(DataError, match=r"counts\.csv, line 4: when must have a UTC offset, got none .* 2 different"):
        list(outcome_rows(table, now=NOW))


@pytest.mark.parametrize(
    "counts",
    [["1.400", "2.000.000"], ["1.400", "2,0"]],  # the second of each proves that the point is between thousands
)
def test_points_between_thousands_are_settled_by_the_column(counts, tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("id;counted;when\n" + "".join(f"{row};{count};2026-11-20\n" for row, count in enumerate(counts)))
    rows = outcome_rows(TableReader(path, OUTCOME_COLUMNS), now=NOW)
    assert next(rows).outcome.counted == 1400


def test_a_count_that_may_be_thousands_is_refused_by_name(tmp_path):
    path = tmp_path / "counts.csv"
    path.write_text("id;counted;when\n00012;7;2026-11-20\n00013;2.000;2026-11-20\n")
    with pytest.raises(DataError, match=r"counts\.csv, line 3: counted must be .* it may be 2000 or 2\.000"):
        list(outcome_rows(TableReader(path, OUTCOME_COLUMNS), now=NOW))


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
