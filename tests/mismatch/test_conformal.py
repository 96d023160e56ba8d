"""Prediction sets: cases by hand, and the coverage that is stated."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from bincount.counts import Counts
from bincount.errors import ConfigError, DataError
from bincount.mismatch.calibration import FILE, Calibration
from bincount.mismatch.conformal import bounds_of, conformal_scores, distances_of, thresholds_of

FIVE = Counts.parse("1-5")


def test_scores_by_hand():
    """0.1 0.2 0.4 0.2 0.1: the middle of each count lies at 0.05, 0.2, 0.5, 0.8, 0.95."""
    p = np.array([[0.1, 0.2, 0.4, 0.2, 0.1]])
    np.testing.assert_allclose(distances_of(p)[0], [0.45, 0.3, 0, 0.3, 0.45])
    scores = conformal_scores(np.repeat(p, 3, 0), np.array([1, 1, 4]), ["a", "a", "b"])
    assert [[len(group) for group in groups] for groups in scores] == [[], [2], [], [], [1]]
    assert 0.45 <= scores[4][0][0] <= 0.450001


def test_a_threshold_needs_19_groups_for_5_percent():
    nineteen = [[n / 100] for n in range(19)]
    thresholds, pooled = thresholds_of([nineteen, nineteen[:18]], alpha=0.05)
    assert thresholds[0] == 0.18  # the largest of 19: a 20th lies above it once in 20
    assert pooled == [1]
    assert thresholds[1] == 0.18  # 36.1 of 37 groups are wanted
    thresholds, pooled = thresholds_of([nineteen[:9], nineteen[:9]], alpha=0.05)
    assert np.isinf(thresholds).all()
    assert pooled == [0, 1]
    low, high = bounds_of(np.array([[0.999, 0.001]]), thresholds)
    assert (low[0], high[0]) == (0, 1)


def test_a_group_weighs_the_same_however_many_photos_it_has():
    few = [[0.1]] * 9
    assert thresholds_of([[*few, [0.4]], []], alpha=0.1)[0][0] == 0.4
    assert thresholds_of([[*few, [0.4] * 50], []], alpha=0.1)[0][0] == 0.4
    # Nine tenths of the last group's weight lie at 0.1: 9.9 of 11 in all.
    assert thresholds_of([[*few, [0.1] * 9 + [0.4]], []], alpha=0.1)[0][0] == 0.1
    assert thresholds_of([[*few, [0.1] * 9 + [0.4]], []], alpha=0.099)[0][0] == 0.4


@given(
    arrays.arrays(float, (4, 6), elements=st.floats(0, 1)).map(lambda a: (a + 1e-6) / (a + 1e-6).sum(1, keepdims=True)),
    arrays.arrays(float, 6, elements=st.floats(0, 0.5)),
)
def test_sets_are_contiguous_and_hold_the_answer(p, thresholds):
    low, high = bounds_of(p, thresholds)
    answered = p.argmax(1)
    assert ((low <= answered) & (answered <= high)).all()
    even = bounds_of(p, np.full(6, thresholds.max()))
    assert ((even[0] <= low) & (high <= even[1])).all()


def drawn(rng, groups, per_group=3, sharpness=1.5):
    """Groups of resembling photos: class indices, and overconfident distributions."""
    truth, p, names = [], [], []
    for group in range(groups):
        count, shift = rng.choice(5, p=[0.3, 0.25, 0.2, 0.15, 0.1]), rng.normal(0, 0.8)
        for _ in range(rng.integers(1, per_group + 1)):
            logits = -sharpness * (np.arange(5) - count - shift - rng.normal(0, 0.3)) ** 2
            e = np.exp(logits - logits.max())
            p.append(e / e.sum())
            truth.append(count)
            names.append(str(group))
    return np.array(p), np.array(truth), names


def test_coverage_over_groups_per_count():
    """One new bin of a new group, many times: held by its set as often as stated, for every count."""
    rng, covered = np.random.default_rng(0), [[] for _ in range(5)]
    for _ in range(60):
        thresholds, pooled = thresholds_of(conformal_scores(*drawn(rng, 400)), alpha=0.1)
        assert not pooled
        p, truth, _ = drawn(rng, 400, per_group=1)
        low, high = bounds_of(p, thresholds)
        for index in range(5):
            mine = truth == index
            covered[index] += ((low <= truth) & (truth <= high))[mine].tolist()
    for index, held in enumerate(covered):
        assert np.mean(held) > 0.9 - 3 * np.sqrt(0.09 / 60 / 40), index  # calibration draws vary, too
        assert np.mean(held) < 0.99


def test_the_file_gives_back_what_was_written(tmp_path):
    p, truth, groups = drawn(np.random.default_rng(1), 120)
    made = Calibration.of(p, truth, groups, [0, 0, 1, 4], FIVE)
    np.testing.assert_allclose(made.prior, np.array([3, 2, 1, 1, 2]) / 9)
    made.write(tmp_path)
    read = Calibration.read(tmp_path)
    assert read.counts == FIVE
    np.testing.assert_allclose(read.prior, made.prior, atol=1e-8)
    for one, other in zip(read.bounds(p, alpha=0.2), made.bounds(p, alpha=0.2), strict=True):
        assert (one == other).all()
    assert read.pooled(alpha=0.01) == list(FIVE.names)


def test_a_model_without_the_file_has_none_and_a_damaged_one_says_so(tmp_path):
    assert Calibration.read(tmp_path) is None
    (tmp_path / FILE).write_text('{"format": "other"}')
    with pytest.raises(DataError, match="must be a bincount-calibration-1, got KeyError"):
        Calibration.read(tmp_path)


def test_no_calibration_bin_excludes_nothing():
    made = Calibration.of(np.zeros((0, 5)), np.zeros(0, int), [], [0, 1], FIVE)
    low, high = made.bounds(np.array([[0.96, 0.01, 0.01, 0.01, 0.01]]))
    assert (low[0], high[0]) == (0, 4)
    assert made.pooled() == list(FIVE.names)


@pytest.mark.parametrize("alpha", [0, 1, -1, float("nan")])
def test_an_alpha_that_is_no_share_is_refused(alpha):
    with pytest.raises(ConfigError, match="--alpha"):
        thresholds_of([[[0.1]]], alpha=alpha)
