"""Cluster bootstrap: 95 % intervals of means over groups of bins."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

DRAWS = 2000

_COVERED_PERCENT = 95
_CELLS_AT_ONCE = 4_000_000


def bootstrap(groups: Sequence[str], values: np.ndarray, *, draws: int = DRAWS, seed: int = 0) -> np.ndarray:
    """Means of values per bin over resampled groups.

    Photos of one bin resemble each other, so whole groups are drawn with
    replacement, as many as there are. All columns share the draws, so
    differences between columns are paired.

    Args:
        groups: (N,) the group of each bin.
        values: (N, M) values per bin.
        draws: Number of resamples.
        seed: Of the draws.

    Returns:
        (draws, M) means.

    Example:
        >>> means = bootstrap(["a", "a", "b"], np.array([[1.0], [1.0], [0.0]]), draws=4000)
        >>> sorted(set(means[:, 0].round(2).tolist()))  # b twice, one of each, a twice
        [0.0, 0.67, 1.0]
    """
    _, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    count = int(member.max()) + 1
    sums = np.zeros((count, values.shape[1] + 1))  # the last column counts the bins
    np.add.at(sums, member, np.column_stack([values, np.ones(len(values))]))
    rng = np.random.default_rng(seed)
    at_once = max(1, _CELLS_AT_ONCE // count)
    drawn = [
        rng.multinomial(count, np.full(count, 1 / count), size=min(at_once, draws - done)) @ sums
        for done in range(0, draws, at_once)
    ]
    totals = np.concatenate(drawn)
    return totals[:, :-1] / totals[:, -1:]


def interval(samples: np.ndarray) -> tuple[float, float]:
    """The middle 95 % of samples: their 2.5th and 97.5th percentile."""
    outside = (100 - _COVERED_PERCENT) / 2
    low, high = np.percentile(samples, [outside, 100 - outside])
    return float(low), float(high)
