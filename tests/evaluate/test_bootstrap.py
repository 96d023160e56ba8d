"""Intervals over groups."""

import numpy as np
import pytest

from bincount.evaluate.bootstrap import bootstrap, interval


def test_groups_are_drawn_whole():
    values = np.array([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    means = bootstrap(["a", "a", "b"], values, draws=300)
    assert means.sum(axis=1) == pytest.approx(1)  # columns share their draws
    assert {round(mean, 3) for mean in means[:, 0]} == {0.0, 0.667, 1.0}


def test_the_interval_is_as_wide_as_theory_says():
    rng = np.random.default_rng(1)
    values = rng.normal(size=(400, 1))
    low, high = interval(bootstrap([str(i) for i in range(400)], values))
    error = values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - 1.96 * error, values.mean() + 1.96 * error), abs=0.015)


def test_siblings_widen_the_interval():
    values = np.repeat(np.random.default_rng(2).normal(size=(100, 1)), 4, axis=0)
    alone = interval(bootstrap([str(i) for i in range(400)], values))
    together = interval(bootstrap([str(i // 4) for i in range(400)], values))
    assert together[1] - together[0] > 1.7 * (alone[1] - alone[0])  # twice, but for chance


def test_the_same_seed_draws_the_same_in_any_number_of_pieces(monkeypatch):
    values = np.random.default_rng(3).normal(size=(50, 2))
    groups = [str(i // 2) for i in range(50)]
    whole = bootstrap(groups, values, draws=100)
    monkeypatch.setattr("bincount.evaluate.bootstrap._CELLS_AT_ONCE", 200)
    assert np.array_equal(whole, bootstrap(groups, values, draws=100))
    assert not np.array_equal(whole, bootstrap(groups, values, draws=100, seed=1))
