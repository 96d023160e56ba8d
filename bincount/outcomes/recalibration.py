"""Recalibration of a model by the counts of bins that it was not trained on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq  # type: ignore[import-untyped]
from scipy.special import expit  # type: ignore[import-untyped]

from bincount.evaluate.bootstrap import bootstrap, interval
from bincount.mismatch.likelihood import CountedBins
from bincount.outcomes.error_rate import TEMPERATURE_PENALTIES, TEMPERATURES

MIN_BINS_TO_RECALIBRATE = 200
"""Least number of counted bins from which a temperature is fitted."""

_FOLDS = 5
_LARGEST_LOG_ODDS = 40.0


@dataclass(frozen=True)
class TemperatureFit:
    """A temperature for a model's probabilities.

    Attributes:
        temperature: The best fit to all counted bins; above 1 the model is overconfident.
        gain: Mean increase of the held-out log likelihood, in nats per bin.
        low: Lower end of the gain's 95 % interval.
        high: Upper end.
    """

    temperature: float
    gain: float
    low: float
    high: float

    @property
    def improves(self) -> bool:
        """True if the gain is significant: its interval is above 0."""
        return self.low > 0


def fit_temperature(bins: CountedBins, groups: Sequence[str]) -> TemperatureFit:
    """Fits the temperature with the largest likelihood of the counts.

    The likelihood is that of the count *given photo and record*; the error rate is fitted along
    with the temperature. The likelihood given the photo alone would be biased: bins are at the
    top of a worklist because photo and record disagree, and mostly the record is right, so any
    model looks overconfident on them.

    Args:
        bins: Bins that the model was not trained on, at least two groups.
        groups: (N,) names of groups of similar bins.

    Returns:
        The temperature fitted to all bins. Its gain over temperature 1 is measured by
        cross-validation with five folds of whole groups, and the interval by a
        bootstrap over groups.
    """
    names, member = np.unique(np.asarray(groups, dtype=str), return_inverse=True)
    fold = np.random.default_rng(0).permutation(len(names))[member] % _FOLDS
    gains = np.zeros(len(bins))
    for left_out in np.unique(fold):
        others, held = bins.subset(fold != left_out), bins.subset(fold == left_out)
        fitted = _best(others)
        # Each of the two temperatures has its own fitted error rate.
        at_fitted, at_one = (held.log_likelihood(each, _log_odds(others, each)) for each in (fitted, 1.0))
        gains[fold == left_out] = at_fitted - at_one
    low, high = interval(bootstrap(groups, gains[:, None])[:, 0])
    return TemperatureFit(round(_best(bins), 4), float(gains.mean()), low, high)


def _best(bins: CountedBins) -> float:
    costs = [
        cost - bins.log_likelihood(each, _log_odds(bins, each)).sum()
        for each, cost in zip(TEMPERATURES, TEMPERATURE_PENALTIES, strict=True)
    ]
    return float(TEMPERATURES[int(np.argmin(costs))])


def _log_odds(bins: CountedBins, temperature: float) -> float:
    """Log odds of a wrong record at which the expected number of wrong records is the one found.

    At least half a bin counts as wrong and as right, which keeps the odds finite.
    """
    evidence = bins.log_evidence(temperature)
    found = np.clip(bins.wrong.sum(), 0.5, len(bins) - 0.5)
    return float(
        brentq(lambda odds: expit(evidence + odds).sum() - found, -_LARGEST_LOG_ODDS, _LARGEST_LOG_ODDS, xtol=1e-10)
    )
