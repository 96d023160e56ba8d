"""How often records are wrong, from bins that were counted, however these were chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from bincount.mismatch.likelihood import CountedBins

ENOUGH_FOR_RATE, WIDEST = 30, 0.2
"""A rate is worth more than an assumption if it rests on so many counted bins at least and its interval is no wider."""

TEMPERATURES = np.exp(np.linspace(-np.log(4), np.log(4), 33))
"""How sure a model may turn out to be; 1, the one in the middle, is as it says."""
_SPREAD = 0.5
"""Standard deviation expected of a temperature's logarithm: wider than where models are trained, for bins are
not what they were then. With 0.25 the interval held the rate less often where a model was too sure."""
TEMPERATURE_COSTS = (np.log(TEMPERATURES) / _SPREAD) ** 2 / 2

_STEP = 0.02
_GRID = np.arange(-800, 401) * _STEP
"""Logarithm of the odds of a record being wrong, before any photo is seen."""
_EVIDENCE = np.arange(-347, 348) * _STEP
"""Logarithm of what a photo may say: that of `SUREST` and a little more to both sides."""
_ODDS = _GRID[0] + _EVIDENCE[0] + np.arange(len(_GRID) + len(_EVIDENCE) - 1) * _STEP
_CHANCE = 1 / (1 + np.exp(-_ODDS))


@dataclass(frozen=True)
class RateEstimate:
    """A share with its 95 % interval; all three lie above 0 and below 1."""

    estimate: float
    low: float
    high: float

    def is_known_by(self, bins: int) -> bool:
        """Whether so many counted bins make it worth more than an assumption."""
        return bins >= ENOUGH_FOR_RATE and self.high - self.low <= WIDEST


def share_of(wrong: int, bins: int) -> RateEstimate:
    """The share of wrong records among bins such as those counted.

    Args:
        wrong: How many were wrong.
        bins: How many were counted, above 0.

    Source:
        Jeffreys' interval: Brown, Cai, DasGupta, Interval estimation for a binomial proportion, 2001, section 3.1.

    Example:
        >>> share = share_of(2, 20)  # (2 + 1/2) / (20 + 1)
        >>> round(share.estimate, 3), round(share.low, 3), round(share.high, 3)
        (0.119, 0.021, 0.284)
    """
    chance = 1 / (1 + np.exp(-_GRID))
    likelihood = wrong * _GRID - bins * np.logaddexp(0, _GRID)
    return _share(likelihood + np.log(bins * chance * (1 - chance)) / 2)


def rate_of(versions: Sequence[CountedBins]) -> tuple[RateEstimate, list[float]]:
    """Estimates how often records are wrong, however the counted bins were chosen by photo and record.

    Bins at the top of a list are wrong far more often than others, so their
    share is no error rate. Here each bin is only asked what the rate must be for
    what was found to be probable *given its photo and record*, by which it
    was chosen: a logistic regression with the logarithm of the photo's
    evidence as offset. The worst bins and bins drawn at random
    then give the same rate. How sure each model may be taken is sought beside it, and
    the interval is wider for it: were a model too sure, the rate would come out too small.
    A photo that leaves no doubt says nothing of the rate, so the better the model the wider the interval, too.

    Args:
        versions: The counted bins of each model, at least one bin together, none of which it learned from.

    Returns:
        The rate, and each model's most probable temperature.

    Source:
        Jeffreys' prior in logistic regression: Firth, Bias reduction of maximum likelihood estimates, 1993.
    """
    curve, information = np.zeros(len(_GRID)), np.zeros(len(_GRID))
    by_temperature = []
    for bins in versions:
        cells, known = zip(*(_curves(bins, each) for each in TEMPERATURES), strict=True)
        likelihood = np.stack(cells) - TEMPERATURE_COSTS[:, None]  # (temperatures, grid)
        most = likelihood.max(axis=0)
        weight = np.exp(likelihood - most)
        curve += most + np.log(weight.sum(axis=0))
        information += (weight * np.stack(known)).sum(axis=0) / weight.sum(axis=0)
        by_temperature.append(likelihood)
    posterior = curve + np.log(information) / 2
    at = int(posterior.argmax())
    return _share(posterior), [float(TEMPERATURES[cells[:, at].argmax()]) for cells in by_temperature]


def _curves(bins: CountedBins, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihood and Fisher information along the grid."""
    evidence = bins.log_evidence(temperature)
    # How many bins have which evidence; each is shared by the two places it lies between. With places as far from each
    # other as those of the grid, a sum over bins is a convolution, and a million of them take no longer than ten.
    place = (evidence - _EVIDENCE[0]) / _STEP
    below = np.floor(place).astype(int)
    share = place - below
    bins_at = np.bincount(below, 1 - share, len(_EVIDENCE)) + np.bincount(below + 1, share, len(_EVIDENCE))
    information = np.correlate(_CHANCE * (1 - _CHANCE), bins_at, "valid")
    found = bins.which(temperature).sum() + bins.wrong.sum() * _GRID + (bins.wrong * evidence).sum()
    return found - np.correlate(np.logaddexp(0, _ODDS), bins_at, "valid"), information


def _share(posterior: np.ndarray) -> RateEstimate:
    """From a log posterior along the grid: its top (by a parabola through three points) and its middle 95 %."""
    weight = np.exp(posterior - posterior.max())
    reached = np.concatenate([[0], ((weight[1:] + weight[:-1]) / 2).cumsum()])
    low, high = np.interp([0.025 * reached[-1], 0.975 * reached[-1]], reached, _GRID)
    place = int(np.clip(posterior.argmax(), 1, len(_GRID) - 2))
    before, at, after = posterior[place - 1 : place + 2]
    top = _GRID[place] + _STEP * (before - after) / (2 * (before - 2 * at + after))
    return RateEstimate(*(float(1 / (1 + np.exp(-odds))) for odds in (top, low, high)))
