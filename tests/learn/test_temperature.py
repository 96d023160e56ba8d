"""A temperature that mends over- and underconfidence, and leaves well alone."""

import numpy as np
import pytest

from bincount.learn.temperature import nll_of, temperature_of


def drawn(n, sharpness, seed=0):
    """Logits, and classes drawn from the probabilities they would have at `sharpness` times their size."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(n, 5)) * 2
    probabilities = np.exp(sharpness * logits)
    probabilities /= probabilities.sum(axis=1, keepdims=True)
    return logits, np.array([rng.choice(5, p=p) for p in probabilities])


@pytest.mark.parametrize(("sharpness", "expected"), [(1.0, 1.0), (0.5, 2.0), (2.0, 0.5)])
def test_the_true_temperature_is_found(sharpness, expected):
    logits, classes = drawn(5000, sharpness)
    assert temperature_of(logits, classes) == pytest.approx(expected, rel=0.08)


def test_calibration_lowers_the_nll():
    logits, classes = drawn(500, 0.5)
    assert nll_of(logits / temperature_of(logits, classes), classes) < nll_of(logits, classes) - 0.05


def test_a_handful_of_bins_moves_it_little():
    logits, classes = drawn(5, 0.5)
    assert 0.7 < temperature_of(logits, classes) < 1.4


def test_nll_is_that_of_the_softmax():
    logits, classes = drawn(50, 1.0)
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert nll_of(logits, classes) == pytest.approx(-np.log(probabilities[np.arange(50), classes]).mean())
    assert nll_of(logits + 1e4, classes) == pytest.approx(nll_of(logits, classes))
