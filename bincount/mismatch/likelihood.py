"""Bins that were counted, and how probable it was to find what counting found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from bincount.counts import Counts
from bincount.mismatch.posterior import errors_of

MAX_MISMATCH_PROBABILITY = 1000.0
"""No photo is taken to speak more strongly than this for or against a record: a single odd one shall not decide."""

_LEAST = 1e-6  # what a worklist rounds to 0


def tempered(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Makes distributions less sure (temperature above 1) or surer (below), their order kept.

    Args:
        probabilities: (N, C), rows summing to 1.
        temperature: Divides their logarithms; 1 gives them back as they are.

    Example:
        >>> tempered(np.array([[0.8, 0.2]]), 2.0).round(3)  # the square roots' odds are 2 to 1
        array([[0.667, 0.333]])
    """
    if temperature == 1:
        return probabilities
    logs = np.log(np.maximum(probabilities, _LEAST)) / temperature
    raised = np.exp(logs - logs.max(axis=1, keepdims=True))
    return raised / raised.sum(axis=1, keepdims=True)


@dataclass(frozen=True)
class CountedBins:
    """N counted bins, as one model and the books had them, and what was there.

    Which bins were counted may depend on photo and record in any way: all
    that is computed here is *given* both, and given both, being chosen says
    nothing more of what is in a bin.

    Attributes:
        probabilities: (N, C) what the model said of their photos.
        recorded: (N,) what the books said, each one of the model's counts.
        counted: (N,) what was there, whole numbers >= 0, the model's or not.
        counts: The C classes.
        prior: (C,) frequencies of the classes among the bins that the model learned from.
    """

    probabilities: np.ndarray
    recorded: np.ndarray
    counted: np.ndarray
    counts: Counts
    prior: np.ndarray

    def __len__(self) -> int:
        return len(self.recorded)

    def part(self, rows: np.ndarray) -> CountedBins:
        """Some of the bins."""
        return CountedBins(self.probabilities[rows], self.recorded[rows], self.counted[rows], self.counts, self.prior)

    @cached_property
    def wrong(self) -> np.ndarray:
        """(N,) whether the record was wrong."""
        return np.asarray(self.counted) != np.asarray(self.recorded)

    def log_evidence(self, temperature: float) -> np.ndarray:
        """(N,) logarithm of how many times likelier each photo is if the record is wrong than if it is right.

        Args:
            temperature: By which the model's probabilities are to be tempered.
        """
        likelihood = tempered(self.probabilities, temperature) / self.prior
        right = likelihood[np.arange(len(self)), self._own]
        wrong = (self._wrong_as * likelihood).sum(axis=1)
        ratio = np.maximum(wrong, _LEAST) / np.maximum(right, _LEAST)
        return np.log(np.clip(ratio, 1 / MAX_MISMATCH_PROBABILITY, MAX_MISMATCH_PROBABILITY))

    def which(self, temperature: float) -> np.ndarray:
        """(N,) log probability of the count that was found, given that the record was wrong; 0 where it was right.

        It is 0, too, where the model has no class for what was found: then only that the record was wrong counts.
        """
        likelihood = self._wrong_as * tempered(self.probabilities, temperature) / self.prior
        share = likelihood[np.arange(len(self)), self._seen] / np.maximum(likelihood.sum(axis=1), _LEAST)
        return np.where(self.wrong & (self._seen >= 0), np.log(np.maximum(share, _LEAST)), 0)

    def log_likelihood(self, temperature: float, log_odds: float) -> np.ndarray:
        """(N,) log probability of what was found, given photo and record.

        Args:
            temperature: By which the model's probabilities are to be tempered.
            log_odds: Logarithm of the odds of a record being wrong, before any photo is seen.
        """
        odds = self.log_evidence(temperature) + log_odds
        return self.which(temperature) - np.logaddexp(0, np.where(self.wrong, -odds, odds))

    @cached_property
    def _own(self) -> np.ndarray:
        return self._classes_of(self.recorded)

    @cached_property
    def _seen(self) -> np.ndarray:
        return self._classes_of(self.counted)

    @cached_property
    def _wrong_as(self) -> np.ndarray:
        """(N, C): how probable each class is if the record is wrong."""
        values, place = np.unique(self.recorded, return_inverse=True)
        return np.stack([errors_of(int(value), self.counts)[:2].sum(axis=0) for value in values])[place]

    def _classes_of(self, numbers: Sequence[int] | np.ndarray) -> np.ndarray:
        return np.asarray([-1 if (index := self.counts.index_of(int(each))) is None else index for each in numbers])
