"""Conformal prediction intervals over counts, with group-aware thresholds."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bincount.errors import ConfigError

ALPHA = 0.05
"""Share of right records outside their prediction interval: coverage is 95 %."""

ConformalScores = Sequence[Sequence[Sequence[float]]]
"""By class, then by group: the scores of the calibration bins that record this class."""


def distances_of(probabilities: np.ndarray) -> np.ndarray:
    """Distance of each count from the median of a predicted distribution.

    The score is |F - 1/2|, with F the probability of fewer items plus half
    that of just as many. It grows to both sides of the median, so the counts
    below a threshold form an interval.

    Args:
        probabilities: (N, C) distribution over classes in rising order.

    Returns:
        (N, C), from 0 to 1/2.

    Source:
        Chernozhukov, Wuethrich, Zhu, Distributional conformal prediction, PNAS 2021.

    Example:
        >>> distances_of(np.array([[0.25, 0.5, 0.25]]))
        array([[0.375, 0.   , 0.375]])
    """
    below = probabilities.cumsum(axis=1) - probabilities
    return abs(below + probabilities / 2 - 0.5)


def conformal_scores(probabilities: np.ndarray, truth: np.ndarray, groups: Sequence[str]) -> list[list[list[float]]]:
    """Conformal scores of calibration bins, from which nothing else was learned.

    Args:
        probabilities: (N, C) predicted distributions.
        truth: (N,) class index of each bin's record.
        groups: (N,) the group of each bin.

    Returns:
        `ConformalScores`, ordered, rounded up to six digits.
    """
    distances = distances_of(probabilities)
    scores: list[dict[str, list[float]]] = [{} for _ in range(probabilities.shape[1])]
    for row, (index, group) in enumerate(zip(truth.tolist(), groups, strict=True)):
        # Rounded up: a threshold that is rounded down would exclude the bin it comes from.
        scores[index].setdefault(group, []).append(float(np.ceil(distances[row, index] * 1e6) / 1e6))
    return [sorted(map(sorted, by_group.values())) for by_group in scores]


def thresholds_of(scores: ConformalScores, *, alpha: float = ALPHA) -> tuple[np.ndarray, list[int]]:
    """Thresholds of the conformal score, by class.

    The recorded count of a bin of a new group is within the threshold of that
    count with probability 1 - alpha at least. Each calibration group of the
    count has equal weight, however many photos it has. The new group counts as
    one more, with an infinite score.

    Counts with too few groups (19 are needed for 5 %) share a threshold that is
    computed from the groups of all counts; its coverage holds over all counts
    together. A group that has photos of two counts is weighted there as two
    groups. Where even all groups are too few, nothing is excluded.

    Args:
        scores: Of `conformal_scores`.
        alpha: Share of right records outside, above 0 and below 1.

    Returns:
        (C,) thresholds, infinite where nothing is excluded; and the classes that were pooled.

    Raises:
        ConfigError: If `alpha` is out of range.

    Source:
        Mondrian: Vovk et al., Algorithmic learning in a random world, 2005, 4.5. Groups:
        Lee, Barber, Willett, Distribution-free inference with hierarchical data, 2023 (HCP).
    """
    if not 0 < alpha < 1:
        raise ConfigError(f"--alpha: must be above 0 and below 1, got {alpha!r}. Try {ALPHA}.")
    thresholds = np.asarray([_quantile(groups, alpha) for groups in scores])
    pooled = np.flatnonzero(np.isinf(thresholds)).tolist()
    thresholds[pooled] = _quantile([group for groups in scores for group in groups], alpha)
    return thresholds, pooled


def bounds_of(probabilities: np.ndarray, thresholds: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Lowest and highest class of each prediction interval.

    The most probable class is always included, which can only raise the
    coverage.

    Args:
        probabilities: (N, C) predicted distributions.
        thresholds: (C,) of `thresholds_of`.

    Returns:
        Two (N,) arrays of class indices.

    Example:
        >>> low, high = bounds_of(np.array([[0.05, 0.15, 0.6, 0.2], [1, 0, 0, 0]]), np.full(4, 0.4))
        >>> low.tolist(), high.tolist()
        ([1, 0], [3, 0])
    """
    inside = distances_of(probabilities) <= thresholds
    inside[np.arange(len(inside)), probabilities.argmax(axis=1)] = True
    return inside.argmax(axis=1), inside.shape[1] - 1 - inside[:, ::-1].argmax(axis=1)


def _quantile(groups: Sequence[Sequence[float]], alpha: float) -> float:
    """Weighted 1 - alpha quantile of the scores; the weight of the new group is at infinity."""
    if not groups:
        return np.inf
    scores = np.concatenate([np.asarray(group, dtype=float) for group in groups])
    weights = np.concatenate([np.full(len(group), 1 / len(group)) for group in groups]) / (len(groups) + 1)
    order = np.argsort(scores, kind="stable")
    reached = weights[order].cumsum() >= 1 - alpha - 1e-9
    return float(scores[order][reached.argmax()]) if reached.any() else np.inf
