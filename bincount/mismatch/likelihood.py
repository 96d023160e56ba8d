"""Likelihood of counting results, given photos and records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bincount.counts import Counts
from bincount.mismatch.posterior import error_table

LARGEST_EVIDENCE = 1000.0
"""Bound of the Bayes factor of one photo, for or against its record, so that a single outlier does not decide."""

_LEAST = 1e-6  # a worklist rounds smaller probabilities to 0


def apply_temperature(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Softens distributions (temperature above 1) or sharpens them (below); the order of the classes is kept.

    Args:
        probabilities: (N, C), rows summing to 1.
        temperature: Divides their logarithms; 1 returns them unchanged.

    Example:
        >>> apply_temperature(np.array([[0.8, 0.2]]), 2.0).round(3)  # the square roots' odds are 2 to 1
        array([[0.667, 0.333]])
    """
    if temperature == 1:
        return probabilities
    # numpy alone: a served version carries this module
    powers = np.maximum(probabilities, _LEAST) ** (1 / temperature)
    return powers / powers.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class CountedBins:
    """N bins with the model's prediction, the recorded and the counted number of items.

    Everything here is conditional on photo and record, so the choice of the
    bins that were counted may depend on both without bias.

    Attributes:
        probabilities: (N, C) predicted distributions.
        recorded: (N,) recorded counts, each one of the model's counts.
        counted: (N,) counted numbers of items, >= 0, among the model's counts or not.
        counts: The C classes.
        prior: (C,) class frequencies among the training bins.
    """

    probabilities: np.ndarray
    recorded: np.ndarray
    counted: np.ndarray
    counts: Counts
    prior: np.ndarray

    def __len__(self) -> int:
        return len(self.recorded)

    def subset(self, rows: np.ndarray) -> CountedBins:
        """The bins of some rows."""
        return CountedBins(self.probabilities[rows], self.recorded[rows], self.counted[rows], self.counts, self.prior)

    @cached_property
    def wrong(self) -> np.ndarray:
        """(N,) whether the record was wrong."""
        return np.asarray(self.counted) != np.asarray(self.recorded)

    def log_evidence(self, temperature: float) -> np.ndarray:
        """(N,) log Bayes factor of each photo: wrong record against right record.

        Args:
            temperature: Applied to the predicted distributions.
        """
        likelihood = apply_temperature(self.probabilities, temperature) / self.prior
        right = likelihood[np.arange(len(self)), self._recorded_class]
        wrong = (self._error_distribution * likelihood).sum(axis=1)
        ratio = np.maximum(wrong, _LEAST) / np.maximum(right, _LEAST)
        return np.log(np.clip(ratio, 1 / LARGEST_EVIDENCE, LARGEST_EVIDENCE))

    def log_count_given_error(self, temperature: float) -> np.ndarray:
        """(N,) log probability of the counted class, given that the record is wrong; 0 where it is right.

        It is also 0 where the model has no class for the counted number: such a bin contributes to the likelihood only
        that its record is wrong.
        """
        likelihood = self._error_distribution * apply_temperature(self.probabilities, temperature) / self.prior
        share = likelihood[np.arange(len(self)), self._counted_class] / np.maximum(likelihood.sum(axis=1), _LEAST)
        return np.where(self.wrong & (self._counted_class >= 0), np.log(np.maximum(share, _LEAST)), 0)

    def coverage_given_error(self, low: np.ndarray, high: np.ndarray, temperature: float) -> np.ndarray:
        """(N,) probability that the count is in a range of classes, given that the record is wrong.

        Args:
            low: (N,) lowest class index of the range.
            high: (N,) highest class index of it.
            temperature: Applied to the predicted distributions.
        """
        likelihood = self._error_distribution * apply_temperature(self.probabilities, temperature) / self.prior
        classes = np.arange(len(self.counts))
        inside = (low[:, None] <= classes) & (classes <= high[:, None])
        return (likelihood * inside).sum(axis=1) / np.maximum(likelihood.sum(axis=1), _LEAST)

    def log_likelihood(self, temperature: float, log_odds: float) -> np.ndarray:
        """(N,) log probability of the counting result, given photo and record.

        Args:
            temperature: Applied to the predicted distributions.
            log_odds: Prior log odds that a record is wrong.
        """
        odds = self.log_evidence(temperature) + log_odds
        return self.log_count_given_error(temperature) - np.logaddexp(0, np.where(self.wrong, -odds, odds))

    @cached_property
    def _recorded_class(self) -> np.ndarray:
        return self._classes_of(self.recorded)

    @cached_property
    def _counted_class(self) -> np.ndarray:
        return self._classes_of(self.counted)

    @cached_property
    def _error_distribution(self) -> np.ndarray:
        """(N, C): distribution over classes if the record is wrong."""
        values, place = np.unique(self.recorded, return_inverse=True)
        return np.stack([error_table(int(value), self.counts)[:2].sum(axis=0) for value in values])[place]

    def _classes_of(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        return np.asarray([-1 if (index := self.counts.index_of(int(each))) is None else index for each in numbers])
