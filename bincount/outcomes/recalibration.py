"""Whether counted bins show that a model is too sure or not sure enough."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bincount.evaluate.bootstrap import bootstrap, interval
from bincount.mismatch.likelihood import CountedBins
from bincount.outcomes.error_rate import TEMPERATURE_COSTS, TEMPERATURES

ENOUGH_TO_RECALIBRATE = 200
"""Least number of counted bins from which a temperature is sought."""

_FOLDS = 5
_HALVINGS = 40


@dataclass(frozen=True)
class Recalibration:
    """A temperature for a model's probabilities.

    Attributes:
        temperature: The one that fits the counted bins best; above 1 the model is too sure.
        gain: Nats a bin by which it foretells what is counted better, on bins that it was not fitted on.
        low: Lower end of the gain's 95 % interval.
        high: Upper end.
    """

    temperature: float
    gain: float
    low: float
    high: float

    @property
    def helps(self) -> bool:
        """Whether the gain is beyond chance: its interval excludes 0."""
        return self.low > 0


def recalibrate(bins: CountedBins, groups: Sequence[str]) -> Recalibration:
    """Finds the temperature under which what was counted is most probable.

    What is made probable is the count *given photo and record*, with the error
    rate fitted beside. The likelihood of the count given the photo alone would
    be wrong here: bins at the top of a list are there because photo and record
    disagree, and the record is mostly right, so any model looks too sure of them.

    Args:
        bins: Bins that the model did not learn from, at least two groups.
        groups: (N,) names of groups of bins that resemble each other.

    Returns:
        The temperature from all of them; its gain over 1 is that of bins left
        out while it was fitted on the others, groups kept together (five
        folds), and so is the interval (bootstrap over groups).
    """
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(names))[member] % _FOLDS
    gains = np.zeros(len(bins))
    for left_out in np.unique(fold):
        others, held = bins.part(fold != left_out), bins.part(fold == left_out)
        fitted = _best(others)
        # The rate belongs to the fit: each of the two temperatures has its own.
        at_fitted, at_one = (held.log_likelihood(each, _log_odds(others, each)) for each in (fitted, 1.0))
        gains[fold == left_out] = at_fitted - at_one
    low, high = interval(bootstrap(groups, gains[:, None])[:, 0])
    return Recalibration(round(_best(bins), 4), float(gains.mean()), low, high)


def _best(bins: CountedBins) -> float:
    costs = [
        cost - bins.log_likelihood(each, _log_odds(bins, each)).sum()
        for each, cost in zip(TEMPERATURES, TEMPERATURE_COSTS, strict=True)
    ]
    return float(TEMPERATURES[int(np.argmin(costs))])


def _log_odds(bins: CountedBins, temperature: float) -> float:
    """Log odds of a wrong record under which as many are expected as were found; half a bin keeps it finite."""
    evidence = bins.log_evidence(temperature)
    found = np.clip(bins.wrong.sum(), 0.5, len(bins) - 0.5)
    low, high = -20.0, 20.0
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        if (1 / (1 + np.exp(-evidence - middle))).sum() < found:
            low = middle
        else:
            high = middle
    return middle
