"""Paired comparison of two models on bins that neither learned from."""

import numpy as np
import pytest

from bincount.counts import Counts
from bincount.dataset.manifest import Record
from bincount.evaluate.bootstrap import bootstrap
from bincount.registry.comparison import clustered_error, compare
from bincount.registry.gate_rules import RecallPair

COUNTS = Counts.parse("1-5")


def record(number, recorded=1, *, group=None):
    name = f"{number:05d}"
    return Record(name, group or name, recorded, "test", 1, 300, 200, 1000, "", 0, 0)


def some(right, *, bins=200, seed=0):
    """Records of every count, and distributions that put `right` on one count: mostly the recorded one."""
    records = [record(number, 1 + number % 5) for number in range(bins)]
    truth = np.arange(bins) % 5
    probabilities = np.full((bins, 5), (1 - right) / 4)
    hit = np.random.default_rng(seed).random(bins) < right
    probabilities[np.arange(bins), np.where(hit, truth, (truth + 1) % 5)] = right
    return records, probabilities


def test_the_same_model_is_no_worse_than_itself():
    records, probabilities = some(0.7)
    comparison = compare("1", records, (probabilities, COUNTS), (probabilities, COUNTS))
    assert (comparison.rps_difference, comparison.standard_error) == (0, 0)
    assert all((pair.lost, pair.gained) == (0, 0) for pair in comparison.recalls.values())
    assert (comparison.bins, comparison.groups) == (200, 200)


def test_a_worse_model_is_found_out():
    records, good = some(0.9)
    _, bad = some(0.4)
    assert compare("1", records, (bad, COUNTS), (good, COUNTS)).bounds[0] > 0.1
    assert compare("1", records, (good, COUNTS), (bad, COUNTS)).bounds[1] < -0.1


def test_models_of_other_counts_are_compared_on_all_counts_either_has():
    wide = Counts.parse("0-5+")
    records, narrow = some(0.7)
    spread = np.hstack([np.zeros((200, 1)), narrow, np.zeros((200, 1))])
    assert compare("1", records, (narrow, COUNTS), (spread, wide)).rps_difference == pytest.approx(0)
    many = [record(number, 9) for number in range(30)]
    comparison = compare("1", many, (np.eye(7)[[6] * 30], wide), (np.eye(7)[[5] * 30], wide))
    assert comparison.recalls == {"6": RecallPair(30, 1, 0, 0, 1)}  # nine items are in the open class


def test_without_common_bins_nothing_is_compared():
    comparison = compare("3", [], (np.zeros((0, 5)), COUNTS), (np.zeros((0, 5)), COUNTS))
    assert comparison.bins == 0


def test_the_standard_error_counts_groups_not_photos():
    rng = np.random.default_rng(0)
    groups, values = np.repeat(np.arange(300), rng.integers(1, 4, 300)), rng.normal(size=300)
    values = values[groups] + 0.1 * rng.normal(size=len(groups))
    error = clustered_error(groups, values)
    assert error == pytest.approx(bootstrap(groups.astype(str), values[:, None]).std(), rel=0.08)
    assert error > 1.3 * values.std() / len(values) ** 0.5


def test_classes_with_a_gap_between_them_are_compared():
    """One model counts 0 to 2 and "3 or more", the other 6 to 8: neither has 4 or 5."""
    records = [Record(str(row), str(row), 6 + row % 2, "test", 1, 9, 9, 9, "", 0, 0) for row in range(30)]
    low, high = Counts.parse("0-2+"), Counts.parse("6-8")
    right = np.eye(3)[[row % 2 for row in range(30)]]
    comparison = compare("1", records, (right, high), (np.tile([0.0, 0, 0, 1], (30, 1)), low))
    assert comparison.rps_difference == pytest.approx(-3.5)  # 3 where 6 or 7 are
    assert {count: pair.lost for count, pair in comparison.recalls.items()} == {"6": 0.0, "7": 0.0}
    assert {count: pair.gained for count, pair in comparison.recalls.items()} == {"6": 1.0, "7": 1.0}
