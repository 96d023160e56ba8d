"""Figures worked by hand, and what holds for any prediction."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bincount.counts import Counts
from bincount.errors import DataError
from bincount.evaluate import metrics

ONE_TO_THREE = Counts.parse("1-3")

# Four bins with 1..3 items; the last row's two best classes are equal.
PROBABILITIES = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6], [0.25, 0.5, 0.25], [0.4, 0.2, 0.4]])
TRUTH = np.array([0, 0, 1, 2])


def figures_of(probabilities, truth, counts):
    return metrics.summary_of(
        metrics.values_per_bin(probabilities, truth, counts), metrics.calibration_per_bin(probabilities, truth)
    )


def test_figures_worked_by_hand():
    figures = figures_of(PROBABILITIES, TRUTH, ONE_TO_THREE)
    assert figures["exact"] == 2 / 4  # answers 1, 3, 2, 1 to 1, 1, 2, 3
    assert figures["within_one"] == 2 / 4
    assert figures["mae"] == (0 + 2 + 0 + 1) / 4  # medians 1, 3, 2, 2
    assert figures["rmse"] == pytest.approx(math.sqrt((0.4**2 + 1.5**2 + 0 + 1) / 4))  # means 1.4, 2.5, 2, 2
    assert figures["nll"] == pytest.approx(-(math.log(0.7) + math.log(0.1) + math.log(0.5) + math.log(0.4)) / 4)
    rps = [0.3**2 + 0.1**2, 0.9**2 + 0.6**2, 0.25**2 + 0.25**2, 0.4**2 + 0.6**2]
    assert figures["rps"] == pytest.approx(sum(rps) / 4)
    assert figures["largest_class"] == 2 / 4  # always "1"
    assert figures["prior_nll"] == pytest.approx(-(2 * math.log(1 / 2) + 2 * math.log(1 / 4)) / 4)
    # Confidences 0.7 right, 0.6 wrong, 0.5 right, 0.4 wrong: each alone in its interval.
    assert figures["ece"] == pytest.approx((0.3 + 0.6 + 0.5 + 0.4) / 4)


def test_the_open_class_counts_as_its_lowest_count():
    counts = Counts.parse("0-5+")
    probabilities = np.eye(7)[[6]]
    values = metrics.values_per_bin(probabilities, np.array([4]), counts)
    assert values["squared"] == 4
    assert values["mae"] == 2
    assert metrics.values_per_bin(probabilities, np.array([5]), counts)["within_one"] == 1


def test_the_table_per_count_worked_by_hand():
    one, two, three = metrics.table_per_count(PROBABILITIES, TRUTH, ONE_TO_THREE)
    assert one == {
        "count": "1",
        "bins": 2,
        "answered": 2,
        "recall": 0.5,
        "precision": 0.5,
        "within_one": 0.5,
        "mean": pytest.approx((1.4 + 2.5) / 2),
    }
    assert (two["recall"], two["precision"]) == (1, 1)
    assert (three["recall"], three["precision"]) == (0, 0)
    assert metrics.confusion_of(PROBABILITIES, TRUTH, ONE_TO_THREE).tolist() == [[1, 0, 1], [0, 1, 0], [1, 0, 0]]


def test_a_count_nobody_records_has_no_recall():
    rows = metrics.table_per_count(np.eye(3)[[0, 1]], np.array([0, 0]), ONE_TO_THREE)
    assert rows[1]["recall"] is None
    assert rows[2]["precision"] is None


def test_certainty_about_the_wrong_count_costs_much_but_not_infinitely():
    assert figures_of(np.eye(3)[[0]], np.array([2]), ONE_TO_THREE)["nll"] == pytest.approx(16.1, abs=0.1)


@pytest.mark.parametrize(
    ("probabilities", "message"),
    [
        (np.zeros((0, 3)), r"at least one row of 3 a bin, got \(0, 3\) for 0 bins"),
        (np.ones((1, 2)) / 2, r"got \(1, 2\) for 1 bins"),
        (np.array([[0.5, 0.1, 0.1]]), "sum to 1, got .* in row 0"),
        (np.array([[1.5, -0.5, 0.0]]), ">= 0"),
    ],
)
def test_what_is_no_prediction_is_refused(probabilities, message):
    with pytest.raises(DataError, match=message):
        metrics.values_per_bin(probabilities, np.zeros(len(probabilities), dtype=int), ONE_TO_THREE)


def predictions():
    def draw(arguments):
        seed, bins = arguments
        rng = np.random.default_rng(seed)
        return rng.dirichlet(np.full(7, 0.5), size=bins), rng.integers(7, size=bins)

    return st.tuples(st.integers(0, 2**32 - 1), st.integers(1, 40)).map(draw)


@given(predictions())
@settings(deadline=None)
def test_what_holds_for_any_prediction(prediction):
    probabilities, truth = prediction
    counts = Counts.parse("0-5+")
    figures = figures_of(probabilities, truth, counts)
    assert 0 <= figures["exact"] <= figures["within_one"] <= 1
    assert 0 <= figures["ece"] <= 1
    assert 0 <= figures["rps"] <= 6
    assert figures["mae"] <= 6
    assert figures["rmse"] <= 6
    assert figures["prior_nll"] <= math.log(7) + 1e-9  # the prior is at least as good as no idea at all
    perfect = figures_of(np.eye(7)[truth], truth, counts)
    assert (perfect["exact"], perfect["rps"], perfect["rmse"], perfect["ece"]) == (1, 0, 0, 0)
    confusion = metrics.confusion_of(probabilities, truth, counts)
    assert confusion.trace() / len(truth) == pytest.approx(figures["exact"])


def test_the_prior_scores_the_priors_nll():
    truth = np.array([0, 0, 1, 2])
    prior = np.tile([0.5, 0.25, 0.25], (4, 1))
    figures = figures_of(prior, truth, ONE_TO_THREE)
    assert figures["nll"] == pytest.approx(figures["prior_nll"])


def test_few_bins_show_a_calibration_error_by_chance():
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet(np.ones(5), size=3000)
    truth = (probabilities.cumsum(axis=1) < rng.random((3000, 1))).sum(axis=1)  # perfectly calibrated
    for bins, least, most in ((60, 0.06, 0.2), (3000, 0.0, 0.03)):
        chance = metrics.ece_by_chance(probabilities[:bins])
        assert least < chance < most
        found = abs(metrics.calibration_per_bin(probabilities[:bins], truth[:bins]).mean(axis=0)).sum()
        assert found - chance < 0.05
