"""Which counts a photo leaves possible: prediction sets that hold the recorded count as often as stated."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bincount.errors import ConfigError

ALPHA = 0.05
"""Share of right records that a prediction set may miss."""

ConformalScores = Sequence[Sequence[Sequence[float]]]
"""By class, then by group of photos of one bin: the scores of the calibration bins that record this class."""


def distances_of(probabilities: np.ndarray) -> np.ndarray:
    """How far each count lies from the middle of a photo's distribution.

    The score is |F - 1/2|, with F the probability of fewer items plus half
    that of just as many. It grows to both sides of the median, so the counts
    below any threshold are neighbours.

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
    """Scores calibration bins, which nothing else may have been learned from.

    Args:
        probabilities: (N, C) what the model says of them.
        truth: (N,) class index of each bin's record.
        groups: (N,) the group of each bin.

    Returns:
        `ConformalScores`, ordered, rounded up to six digits.
    """
    distances = distances_of(probabilities)
    found: list[dict[str, list[float]]] = [{} for _ in range(probabilities.shape[1])]
    for row, (index, group) in enumerate(zip(truth.tolist(), groups, strict=True)):
        # Up: a threshold that is rounded down would leave out the very bin it comes from.
        found[index].setdefault(group, []).append(float(np.ceil(distances[row, index] * 1e6) / 1e6))
    return [sorted(map(sorted, by_group.values())) for by_group in found]


def thresholds_of(scores: ConformalScores, *, alpha: float = ALPHA) -> tuple[np.ndarray, list[int]]:
    """The largest distance that a prediction set reaches, by class.

    A bin of a new group has its recorded count within the threshold of that
    count with a probability of 1 - alpha at least: of the calibration groups of
    the count, each weighs alike however many photos it has, and the new one is
    taken for the farthest of all. Where a count has too few groups for that
    (19 are needed for 5 %), the groups of all counts are pooled and the share
    holds over all counts together; where these are too few, nothing is
    excluded. (Pooled, a group's photos of two counts weigh as two groups.)

    Args:
        scores: What `conformal_scores` found.
        alpha: Share of right records that may lie outside, above 0 and below 1.

    Returns:
        (C,) thresholds, infinite where nothing is excluded; and the classes that were pooled.

    Raises:
        ConfigError: If `alpha` is no such share.

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
    """The least and the greatest class of each photo's prediction set.

    Every class between is in the set, and so is the most probable one, which
    can only add to the coverage.

    Args:
        probabilities: (N, C) what the model says.
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
    """The least score that 1 - alpha of the weight does not exceed, the new group's lying at infinity."""
    if not groups:
        return np.inf
    scores = np.concatenate([np.asarray(group, dtype=float) for group in groups])
    weights = np.concatenate([np.full(len(group), 1 / len(group)) for group in groups]) / (len(groups) + 1)
    order = np.argsort(scores, kind="stable")
    reached = weights[order].cumsum() >= 1 - alpha - 1e-9
    return float(scores[order][reached.argmax()]) if reached.any() else np.inf
