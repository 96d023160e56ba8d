"""The probability of a variance, against cases worked by hand."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bincount.counts import Counts
from bincount.errors import ConfigError
from bincount.mismatch.posterior import MISSED_MOVES, record_posterior

FIVE, OPEN = Counts.parse("1-5"), Counts.parse("0-5+")
EVEN = np.full(5, 0.2)


def one(p, recorded, counts=FIVE, prior=EVEN, **how):
    found = record_posterior(np.array([p]), np.array([recorded]), counts, np.asarray(prior), **how)
    return found.probability[0], found.direction[0], found.size[0], found.evidence[0]


def test_a_photo_that_says_nothing_leaves_the_error_rate():
    for recorded in range(1, 6):
        probability, _, _, evidence = one(EVEN, recorded, error_rate=0.03)
        assert probability == pytest.approx(0.03)
        assert evidence == pytest.approx(1)


def test_a_case_by_hand():
    """Recorded 3 of 1-5, errors of one item only, as often down as up, and a tenth anything.

    Likelihoods p / 0.2: 1, 2, 1, 0.5, 0.5. A wrong record: 0.45 + 0.025 for 2
    and 4 each, 0.025 for 1 and 5 each: fewer 0.475 * 2 + 0.025 * 1 = 0.975,
    more 0.475 * 0.5 + 0.025 * 0.5 = 0.25, together 1.225. Right: 1.
    """
    probability, direction, size, evidence = one([0.2, 0.4, 0.2, 0.1, 0.1], 3, error_rate=0.1, errors={-1: 0.5, 1: 0.5})
    assert evidence == pytest.approx(1.225)
    assert probability == pytest.approx(0.1 * 1.225 / (0.1 * 1.225 + 0.9))
    assert direction == -1
    # Items off: 0.475 * 2 + 0.475 * 0.5 at one item, 0.025 * 1 + 0.025 * 0.5 at two.
    assert size == pytest.approx((0.475 * 2.5 + 2 * 0.025 * 1.5) / 1.225)


def test_the_prior_is_taken_out():
    """The same photo says more for a rare count: 0.5 of a class of 0.8 is less than expected, 0.5 of 0.2 is more."""
    common, *_ = one([0.5, 0.5], 1, Counts.parse("1-2"), [0.8, 0.2], error_rate=0.5)
    assert common == pytest.approx(2.5 / (2.5 + 0.625))
    rare, *_ = one([0.5, 0.5], 2, Counts.parse("1-2"), [0.8, 0.2], error_rate=0.5)
    assert rare == pytest.approx(0.625 / (2.5 + 0.625))


def test_a_record_of_some_where_the_bin_is_seen_to_be_empty():
    prior = [0.03, 0.12, 0.17, 0.2, 0.17, 0.11, 0.2]
    empty = [0.99, 0.005, 0.001, 0.001, 0.001, 0.001, 0.001]
    for recorded in (1, 3, 6, 50, 100_000):
        probability, direction, _, _ = one(empty, recorded, OPEN, prior)
        assert probability > 0.65, recorded
        assert direction == -1
    assert one(empty, 0, OPEN, prior)[0] < 0.001


def test_what_an_open_class_hides_stays_as_probable_as_before():
    """A record of 50 and a photo of 6 or more: a slip by a few items is not to be seen."""
    prior = np.full(7, 1 / 7)
    many = [0, 0, 0, 0, 0, 0, 1.0]
    probability, direction, size, evidence = one(many, 50, OPEN, prior)
    assert evidence == pytest.approx(0.9)  # nine tenths of the errors stay within the class
    assert 0.015 < probability < 0.02
    assert direction == -1  # more is taken out than put in
    assert 1 < size < 2
    at_the_edge = one(many, 6, OPEN, prior)
    assert at_the_edge[3] < 0.45  # there most of them would leave it
    assert at_the_edge[1] == 1


@pytest.mark.parametrize("recorded", [0, 6, 17])
def test_a_record_outside_the_classes_is_not_judged(recorded):
    probability, direction, size, evidence = one([0.2, 0.2, 0.2, 0.2, 0.2], recorded)
    assert np.isnan([probability, size, evidence]).all()
    assert direction == 0


def test_a_certain_photo_is_certain():
    assert one([1, 0, 0, 0, 0], 1)[0] == 0
    assert one([0, 0, 0, 0, 1], 1)[0] == 1


@pytest.mark.parametrize("rate", [0, 1, -0.1, float("nan")])
def test_an_error_rate_that_is_no_share_is_refused(rate):
    with pytest.raises(ConfigError, match="--error-rate"):
        one(EVEN, 1, error_rate=rate)


def test_the_pattern_is_a_distribution_of_the_measured_moves():
    assert sum(MISSED_MOVES.values()) == pytest.approx(1)
    assert sum(weight for off, weight in MISSED_MOVES.items() if abs(off) == 1) == pytest.approx(0.67)
    assert sum(weight for off, weight in MISSED_MOVES.items() if off < 0) == pytest.approx(0.59)


@given(
    st.lists(st.floats(0.01, 1), min_size=7, max_size=7),
    st.integers(0, 1000),
    st.floats(0.001, 0.5),
)
def test_rows_are_judged_by_themselves_and_a_higher_rate_means_a_higher_probability(weights, recorded, rate):
    p = np.array(weights) / sum(weights)
    prior = np.full(7, 1 / 7)
    alone = record_posterior(p[None], np.array([recorded]), OPEN, prior, error_rate=rate)
    both = record_posterior(np.stack([np.full(7, 1 / 7), p]), np.array([3, recorded]), OPEN, prior, error_rate=rate)
    assert both.probability[1] == pytest.approx(alone.probability[0])
    assert 0 < alone.probability[0] < 1
    assert alone.size[0] >= 1
    higher = record_posterior(p[None], np.array([recorded]), OPEN, prior, error_rate=min(0.99, rate * 1.5))
    assert higher.probability[0] > alone.probability[0]
    assert higher.evidence[0] == pytest.approx(alone.evidence[0])
