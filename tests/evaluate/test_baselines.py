"""The baselines: hand-computed, and the hardest of their kind."""

import numpy as np
import pytest

from bincount.counts import Counts
from bincount.evaluate.metrics import FIGURES, baselines_of

TRUTH = np.array([0, 1, 1, 1, 2, 2, 4, 4, 4, 4])  # counts 1 to 5: one, three, two, none, four


def test_always_the_largest_class_is_a_certain_answer():
    found = baselines_of(TRUTH, Counts.parse("1-5"))["largest_class"]
    distance = np.array([4, 3, 3, 3, 2, 2, 0, 0, 0, 0])
    assert found["exact"] == found["within_one"] == pytest.approx(0.4)
    assert found["mae"] == found["rps"] == pytest.approx(distance.mean())
    assert found["rmse"] == pytest.approx(np.sqrt((distance**2).mean()))
    assert found["ece"] == pytest.approx(0.6)
    assert found["nll"] is None  # it was certain and wrong


def test_the_class_prior_is_calibrated_and_says_what_the_frequencies_say():
    found = baselines_of(TRUTH, Counts.parse("1-5"))["class_prior"]
    share = np.array([0.1, 0.3, 0.2, 0.4])
    assert set(found) == set(FIGURES)
    assert found["nll"] == pytest.approx(-(share * np.log(share)).sum())
    assert found["rmse"] == pytest.approx((TRUTH + 1).std())
    assert found["ece"] == pytest.approx(0, abs=1e-9)
    assert found["mae"] == pytest.approx(abs(TRUTH + 1 - 3).mean())  # 3 is the median


def test_bins_of_one_count_leave_nothing_to_be_wrong_about():
    found = baselines_of(np.array([2, 2]), Counts.parse("1-5"))
    assert found["largest_class"]["nll"] == found["class_prior"]["nll"] == 0
