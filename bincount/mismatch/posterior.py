"""How probable it is that a record is wrong, from what a photo says of the count."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from bincount.counts import Counts
from bincount.errors import ConfigError

ERROR_RATE = 0.02
"""Share of wrong records assumed where none is known; 1 to 5 % is what warehouses with scanners plan with."""

MISSED_MOVES: Mapping[int, float] = {
    **dict(zip(range(-1, -6, -1), (0.39, 0.12, 0.04, 0.02, 0.02), strict=True)),
    **dict(zip(range(1, 6), (0.28, 0.08, 0.03, 0.01, 0.01), strict=True)),
}
"""Actual minus recorded count of a record that missed a move, by frequency: 67 % one item, 20 % two, the rest more;
59 % taken out, 41 % put in. From the 250 pairs of successive photos among the first 627 bins of aft-vbi-pds."""

_ANYTHING = 0.1
"""Share of errors that have nothing to do with a move: another bin's record, a slip of the pen. Any count is as likely.
Without it a record of 50 would be believed of a bin that is seen to be empty."""


@dataclass(frozen=True)
class RecordPosterior:
    """What is known of N records; NaN and 0 where a record is none of the classes.

    Attributes:
        probability: (N,) that the record is wrong.
        direction: (N,) -1 if it is more probable that there are fewer items than recorded, 1 if more.
        size: (N,) by how many items the record is off on average if it is wrong.
        evidence: (N,) Bayes factor: how many times likelier this photo is if
            the record is wrong than if it is right. It knows nothing of the error rate.
    """

    probability: np.ndarray
    direction: np.ndarray
    size: np.ndarray
    evidence: np.ndarray


def record_posterior(
    probabilities: np.ndarray,
    recorded: np.ndarray,
    counts: Counts,
    prior: np.ndarray,
    *,
    error_rate: float = ERROR_RATE,
    errors: Mapping[int, float] = MISSED_MOVES,
) -> RecordPosterior:
    """Weighs each record against its photo.

    Bayes' rule, with the likelihood of a count taken from the model as
    `probabilities / prior`. Without the prior, bins with many items would come
    first only because the model is never sure of them. Counts within an open
    top class look the same: a record of 50 where 40 are is not seen to be wrong.

    Args:
        probabilities: (N, C) calibrated distribution over classes.
        recorded: (N,) what the books say, whole numbers >= 0.
        counts: The C classes.
        prior: (C,) frequencies of the classes among the bins that the model learned from, all > 0.
        error_rate: Share of records that are wrong, before any photo is seen; above 0 and below 1.
        errors: How often actual minus recorded is what, among wrong records.

    Raises:
        ConfigError: If `error_rate` is no such share.

    Example:
        >>> found = record_posterior(np.array([[0.25, 0.75]]), np.array([1]), Counts.parse("1-2"), np.array([0.5, 0.5]))
        >>> found.probability.round(4), found.direction  # 0.02 * 1.5 / (0.02 * 1.5 + 0.98 * 0.5)
        (array([0.0577]), array([1]))
    """
    if not 0 < error_rate < 1:
        raise ConfigError(f"--error-rate: must be above 0 and below 1, got {error_rate!r}. Try {ERROR_RATE}.")
    values, place = np.unique(np.asarray(recorded), return_inverse=True)
    tables = np.stack([errors_of(int(value), counts, errors) for value in values])  # (V, 3, C)
    own = np.asarray([-1 if (index := counts.index_of(int(value))) is None else index for value in values])[place]
    likelihood = np.asarray(probabilities, dtype=float) / prior
    fewer, more, items = np.einsum("nkc,nc->kn", tables[place], likelihood)
    wrong, right = fewer + more, likelihood[np.arange(len(own)), own]
    known = own >= 0
    with np.errstate(divide="ignore", invalid="ignore"):
        probability = error_rate * wrong / (error_rate * wrong + (1 - error_rate) * right)
        size, evidence = items / wrong, wrong / right
    return RecordPosterior(
        probability=np.where(known, probability, np.nan),
        direction=np.where(known, np.where(more > fewer, 1, -1), 0),
        size=np.where(known, size, np.nan),
        evidence=np.where(known, evidence, np.nan),
    )


def errors_of(recorded: int, counts: Counts, errors: Mapping[int, float] = MISSED_MOVES) -> np.ndarray:
    """(3, C): how probable each class is for a wrong record, there being fewer or more items, and times how many."""
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
    anything = _ANYTHING if total else 1.0
    for off, index in reachable.items():
        add(index, off, (1 - anything) * errors[off] / total)
    for index in others:
        add(index, counts.values[index] - recorded, anything / len(others))
    return table
