"""What other orders would have found, by hand."""

import numpy as np
import pytest

from bincount.outcomes.count_yield import CountYield, differences_of, saved_of
from bincount.outcomes.error_rate import RateEstimate

RATE = RateEstimate(0.1, 0.05, 0.2)


def tally():
    """Four bins: two records of 5 (one found wrong, one not counted), two of 1 (one found right, one not counted)."""
    made = CountYield(RATE)
    made.add(np.array([5, 1]), np.zeros(2), np.array([1.0, np.nan]))
    made.add(np.array([5, 1]), np.log([9.0, 1.0]), np.array([np.nan, 0.0]))
    return made


def test_overs_never_make_up_for_shorts():
    found = differences_of([5, 5, 5, 0], [8, 2, 5, 1])
    assert found == {"overs": {"bins": 2, "items": 4}, "shorts": {"bins": 1, "items": 3}}
    assert differences_of([], []) == {"overs": {"bins": 0, "items": 0}, "shorts": {"bins": 0, "items": 0}}


def test_what_was_counted_is_known_and_the_rest_expected():
    """Not counted: 0.1 without evidence; with odds 1/9 and evidence 9 it is 1/2. Together 1 + 1/2 + 0.1 of four."""
    middle, low, high = tally().at_random(2)
    assert middle == pytest.approx(1.6 / 2)
    assert low < middle < high


def test_the_largest_records_first():
    found = tally()
    assert found.by_recorded(2)[0] == pytest.approx(1.5)
    assert found.by_recorded(1)[0] == pytest.approx(0.75)  # which of the two, nobody says
    assert found.by_recorded(3)[0] == pytest.approx(1.5 + 0.05)
    assert found.by_recorded(4)[0] == found.at_random(4)[0] == pytest.approx(1.6)


def test_costs():
    found = saved_of(3, {"recorded": (2.0, 1.0, 3.0)}, count_cost=1.0, miss_cost=20.0, counts=10)
    assert found == {"spent": 10.0, "saved": 60.0, "net": 50.0, "against_recorded": [20.0, 0.0, 40.0]}
