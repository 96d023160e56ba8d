"""Posterior probability that a record is wrong, given the predicted distribution of its photo."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from bincount.counts import Counts
from bincount.errors import ConfigError

ERROR_RATE = 0.02
"""Assumed share of wrong records; warehouses with scanners plan with 1 to 5 %."""

MISSED_MOVES: Mapping[int, float] = {
    **dict(zip(range(-1, -6, -1), (0.39, 0.12, 0.04, 0.02, 0.02), strict=True)),
    **dict(zip(range(1, 6), (0.28, 0.08, 0.03, 0.01, 0.01), strict=True)),
}
"""Actual minus recorded count of a record that missed a move, by frequency: 67 % one item, 20 % two, the rest more;
59 % taken out, 41 % put in. From the 250 pairs of successive photos among the first 627 bins of aft-vbi-pds."""

_UNIFORM_SHARE = 0.1
"""Share of errors that no missed move explains (another bin's record, a typing error); all other counts are equally
likely then. Without it a record of 50 would be accepted for an empty bin."""


@dataclass(frozen=True)
class Posterior:
    """Posterior of N records; NaN and 0 where a record is none of the classes.

    Attributes:
        probability: (N,) that the record is wrong.
        direction: (N,) -1 if it is more probable that there are fewer items than recorded, 1 if more.
        size: (N,) expected absolute error of the record in items, if it is wrong.
        evidence: (N,) Bayes factor of the photo: wrong record against right
            record. It does not depend on the error rate.
    """

    probability: np.ndarray
    direction: np.ndarray
    size: np.ndarray
    evidence: np.ndarray

    def joined_with(self, evidence: np.ndarray, *, share: float, error_rate: float) -> Posterior:
        """The posterior where another kind of error is possible too.

        Args:
            evidence: (N,) Bayes factor of the photo: that kind of error against right record.
            share: Share of the wrong records that have it.
            error_rate: Prior share of wrong records.

        Example:
            >>> wrong = np.array([1.0])
            >>> quantity = Posterior(probability=wrong, direction=wrong, size=wrong, evidence=np.array([4.0]))
            >>> both = quantity.joined_with(np.array([8.0]), share=0.5, error_rate=0.1)
            >>> both.evidence, both.probability  # 0.1 * 6 / (0.1 * 6 + 0.9)
            (array([6.]), array([0.4]))
        """
        both = (1 - share) * self.evidence + share * np.asarray(evidence)
        return replace(self, evidence=both, probability=error_rate * both / (error_rate * both + 1 - error_rate))


def posterior_of(
    probabilities: np.ndarray,
    recorded: np.ndarray,
    counts: Counts,
    prior: np.ndarray,
    *,
    error_rate: float = ERROR_RATE,
    errors: Mapping[int, float] = MISSED_MOVES,
) -> Posterior:
    """Computes the posterior of each record by Bayes' rule.

    The likelihood of a count is the model's `probabilities / prior`. Without
    the prior, bins with many items would rank first merely because predictions
    for them are less confident. An error within an open top class is not
    detected, such as a record of 50 for a bin of 40 items.

    Args:
        probabilities: (N, C) calibrated distribution over classes.
        recorded: (N,) recorded counts, whole numbers >= 0.
        counts: The C classes.
        prior: (C,) class frequencies among the training bins, all > 0.
        error_rate: Prior share of wrong records; above 0 and below 1.
        errors: Frequency of actual minus recorded count among wrong records.

    Raises:
        ConfigError: If `error_rate` is out of range.

    Example:
        >>> posterior = posterior_of(np.array([[0.25, 0.75]]), np.array([1]), Counts.parse("1-2"), np.array([0.5, 0.5]))
        >>> posterior.probability.round(4), posterior.direction  # 0.02 * 1.5 / (0.02 * 1.5 + 0.98 * 0.5)
        (array([0.0577]), array([1]))
    """
    if not 0 < error_rate < 1:
        raise ConfigError(f"--error-rate: must be above 0 and below 1, got {error_rate!r}. Try {ERROR_RATE}.")
    values, place = np.unique(np.asarray(recorded), return_inverse=True)
    tables = np.stack([error_table(int(value), counts, errors) for value in values])  # (V, 3, C)
    own = np.asarray([-1 if (index := counts.index_of(int(value))) is None else index for value in values])[place]
    likelihood = np.asarray(probabilities, dtype=float) / prior
    fewer, more, items = np.einsum("nkc,nc->kn", tables[place], likelihood)
    wrong, right = fewer + more, likelihood[np.arange(len(own)), own]
    known = own >= 0
    with np.errstate(divide="ignore", invalid="ignore"):
        probability = error_rate * wrong / (error_rate * wrong + (1 - error_rate) * right)
        size, evidence = items / wrong, wrong / right
    return Posterior(
        probability=np.where(known, probability, np.nan),
        direction=np.where(known, np.where(more > fewer, 1, -1), 0),
        size=np.where(known, size, np.nan),
        evidence=np.where(known, evidence, np.nan),
    )


def error_table(recorded: int, counts: Counts, errors: Mapping[int, float] = MISSED_MOVES) -> np.ndarray:
    """(3, C): probability of each class for a wrong record: with fewer items, with more, times the absolute error."""
    table = np.zeros((3, len(counts)))
    own = counts.index_of(recorded)
    if own is None:
        return table

    def add(index: int, off: int, weight: float) -> None:
        table[int(off > 0), index] += weight
        table[2, index] += weight * abs(off)

    reachable = {off: index for off in errors if (index := counts.index_of(recorded + off)) is not None}
    total = sum(errors[off] for off in reachable)
    others = [index for index in range(len(counts)) if index != own]
    uniform = _UNIFORM_SHARE if total else 1.0
    for off, index in reachable.items():
        add(index, off, (1 - uniform) * errors[off] / total)
    for index in others:
        add(index, counts.values[index] - recorded, uniform / len(others))
    return table
