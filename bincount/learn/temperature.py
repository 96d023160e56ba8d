"""Temperature scaling: calibrated probabilities from logits."""

from __future__ import annotations

import numpy as np

_SPREAD = 0.25
"""Standard deviation expected of a temperature's logarithm: a handful of bins moves it little, hundreds freely."""


def temperature_of(logits: np.ndarray, classes: np.ndarray) -> float:
    """Finds the temperature whose division of the logits makes them best calibrated.

    The NLL is convex in the inverse temperature; with the prior above it is
    the most probable one, found on a fine grid.

    Args:
        logits: (N, classes) of bins that took no part in training.
        classes: (N,) index of each bin's count.

    Returns:
        A temperature from 1/4 to 4, 1 leaving everything as it is.

    Source:
        Guo et al., On Calibration of Modern Neural Networks, 2017, section 4.2.

    Example:
        >>> sure = np.array([[4.0, 0.0]] * 400)  # 98 % sure, right in half of the cases
        >>> temperature_of(sure, np.arange(400) % 2)
        4.0
    """
    grid = np.exp(np.linspace(-np.log(4), np.log(4), 801))
    costs = [nll_of(logits / t, classes) * len(classes) + 0.5 * (np.log(t) / _SPREAD) ** 2 for t in grid]
    return round(float(grid[int(np.argmin(costs))]), 6)


def nll_of(logits: np.ndarray, classes: np.ndarray) -> float:
    """Mean negative log-likelihood in nats of logits (N, classes) for the true classes (N,)."""
    shifted = logits - logits.max(axis=1, keepdims=True)
    log_probabilities = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return float(-log_probabilities[np.arange(len(classes)), classes].mean())
