"""Paired comparison of two models on bins that neither learned from."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bincount.counts import Counts
from bincount.dataset.manifest import Record
from bincount.evaluate import metrics
from bincount.registry.gate_rules import Comparison, RecallPair


def compare(
    champion: str,
    records: Sequence[Record],
    challenging: tuple[np.ndarray, Counts],
    defending: tuple[np.ndarray, Counts],
) -> Comparison:
    """Compares a challenger with the champion on the same bins.

    Models of different counts are compared on the whole range of counts that
    either has; a count that a model does not have gets probability 0.

    Args:
        champion: The champion's version.
        records: (N,) bins that neither learned from and both can count.
        challenging: The challenger's (N, C) distributions and its counts.
        defending: The champion's.
    """
    if not records:
        return Comparison(champion, 0, 0, 0.0, 0.0, {})
    values = [*challenging[1].values, *defending[1].values]
    axis = Counts(min(values), max(values))
    ours, theirs = (metrics.embed(rows, counts, axis.values) for rows, counts in (challenging, defending))
    truth = np.minimum([record.recorded for record in records], axis.high) - axis.low
    scored = [metrics.values_per_bin(each, truth, axis)["rps"] for each in (ours, theirs)]
    groups = np.asarray([record.group for record in records])
    difference = scored[0] - scored[1]
    right = [metrics.predicted_class(each) == truth for each in (ours, theirs)]
    recalls = {
        str(axis.values[index]): _recall_pair(groups[rows], right[0][rows], right[1][rows])
        for index in np.unique(truth)
        for rows in [truth == index]
    }
    number, error = len(np.unique(groups)), clustered_error(groups, difference)
    return Comparison(champion, len(records), number, float(difference.mean()), error, recalls)


def clustered_error(groups: Sequence[str] | np.ndarray, values: np.ndarray) -> float:
    """Standard error of a mean of (N,) values whose groups are independent; infinite for a single group.

    Source:
        Liang and Zeger, Longitudinal data analysis using generalized linear models, 1986 (sandwich estimator).

    Example:
        >>> clustered_error(["a", "b", "c", "d"], np.array([1.0, 2.0, 3.0, 4.0])).__round__(4)  # sd / sqrt(4)
        0.6455
    """
    _, member = np.unique(groups, return_inverse=True)
    sums = np.bincount(member, values - values.mean())
    number = len(sums)
    return float(np.sqrt(number / (number - 1) * (sums**2).sum()) / len(values)) if number > 1 else float("inf")


def _recall_pair(groups: np.ndarray, ours: np.ndarray, theirs: np.ndarray) -> RecallPair:
    shares = (ours, theirs, theirs & ~ours, ours & ~theirs)
    return RecallPair(len(np.unique(groups)), *(float(each.mean()) for each in shares))
