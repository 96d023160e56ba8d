"""Estimates of how often records are wrong, from counted bins, however these were chosen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import betaincinv, expit  # type: ignore[import-untyped]

from bincount.mismatch.likelihood import CountedBins

MIN_BINS_FOR_RATE, MAX_INTERVAL_WIDTH = 30, 0.2
"""Fewest counted bins, and largest width of the interval, with which an estimate replaces the default error rate."""

TEMPERATURES = np.exp(np.linspace(-np.log(4), np.log(4), 33))
"""Candidates for a model's temperature; the middle one, 1, leaves its probabilities as they are."""
_SPREAD = 0.5
"""Prior standard deviation of a temperature's logarithm: wider than between training runs, since photos and records
have changed since. With 0.25 the interval's coverage was too low for overconfident models."""
TEMPERATURE_PENALTIES = (np.log(TEMPERATURES) / _SPREAD) ** 2 / 2

_STEP = 0.02
_GRID = np.arange(-800, 401) * _STEP
"""Log odds of a record being wrong, before any photo."""
_EVIDENCE = np.arange(-347, 348) * _STEP
"""Log evidence of a photo: the range of `LARGEST_EVIDENCE`, and a little more on both sides."""
_POSTERIOR_GRID = _GRID[0] + _EVIDENCE[0] + np.arange(len(_GRID) + len(_EVIDENCE) - 1) * _STEP
_PROBABILITY = expit(_POSTERIOR_GRID)


@dataclass(frozen=True)
class RateInterval:
    """A rate with its 95 % interval; all three are above 0 and below 1."""

    estimate: float
    low: float
    high: float

    def is_usable(self, bins: int) -> bool:
        """True if it is precise enough, and from enough counted bins, to replace the default."""
        return bins >= MIN_BINS_FOR_RATE and self.high - self.low <= MAX_INTERVAL_WIDTH


def binomial_interval(wrong: int, bins: int) -> RateInterval:
    """Share of wrong records among bins chosen like the counted ones, with Jeffreys' interval.

    Args:
        wrong: How many were wrong.
        bins: How many were counted, above 0.

    Source:
        Brown, Cai, DasGupta, Interval estimation for a binomial proportion, 2001, section 3.1.

    Example:
        >>> share = binomial_interval(2, 20)  # (2 + 1/2) / (20 + 1)
        >>> round(share.estimate, 3), round(share.low, 3), round(share.high, 3)
        (0.119, 0.021, 0.284)
    """
    low, high = betaincinv(wrong + 0.5, bins - wrong + 0.5, [0.025, 0.975])
    return RateInterval((wrong + 0.5) / (bins + 1), float(low), float(high))


def estimate_error_rate(versions: Sequence[CountedBins]) -> tuple[RateInterval, list[float]]:
    """Estimates how often records are wrong, however the counted bins were chosen by photo and record.

    Records at the top of a worklist are wrong far more often than others, so the share among
    them is no error rate. The likelihood used here is that of each count *given photo and
    record*, which decided the choice: a logistic regression on a constant, with the photo's log
    evidence as offset. Top bins and random bins then give the same rate. Each model's
    temperature is integrated out, which widens the interval: for an overconfident model the rate
    would come out too small. Photos that leave no doubt contain no information on the rate, so
    the interval widens as the model improves, too.

    Args:
        versions: The counted bins of each model, at least one bin in all, none of which it was trained on.

    Returns:
        The rate, and each model's most probable temperature.

    Source:
        Jeffreys' prior in logistic regression: Firth, Bias reduction of maximum likelihood estimates, 1993.
    """
    curve, information = np.zeros(len(_GRID)), np.zeros(len(_GRID))
    by_temperature = []
    for bins in versions:
        likelihoods, informations = zip(*(_curves(bins, each) for each in TEMPERATURES), strict=True)
        likelihood = np.stack(likelihoods) - TEMPERATURE_PENALTIES[:, None]  # (temperatures, grid)
        most = likelihood.max(axis=0)
        weight = np.exp(likelihood - most)
        curve += most + np.log(weight.sum(axis=0))
        information += (weight * np.stack(informations)).sum(axis=0) / weight.sum(axis=0)
        by_temperature.append(likelihood)
    posterior = curve + np.log(information) / 2
    at = int(posterior.argmax())
    temperatures = [float(TEMPERATURES[likelihood[:, at].argmax()]) for likelihood in by_temperature]
    return _interval_of(posterior), temperatures


def _curves(bins: CountedBins, temperature: float) -> tuple[np.ndarray, np.ndarray]:
    """Log likelihood and Fisher information along the grid."""
    evidence = bins.log_evidence(temperature)
    # A histogram of the evidence; each bin is shared by the two nearest slots. As slots are as wide as the grid's
    # steps, a sum over bins is a convolution, and a million of them take no longer than ten.
    place = (evidence - _EVIDENCE[0]) / _STEP
    below = np.floor(place).astype(int)
    share = place - below
    bins_at = np.bincount(below, 1 - share, len(_EVIDENCE)) + np.bincount(below + 1, share, len(_EVIDENCE))
    information = np.correlate(_PROBABILITY * (1 - _PROBABILITY), bins_at, "valid")
    found = bins.log_count_given_error(temperature).sum() + bins.wrong.sum() * _GRID + (bins.wrong * evidence).sum()
    return found - np.correlate(np.logaddexp(0, _POSTERIOR_GRID), bins_at, "valid"), information


def _interval_of(posterior: np.ndarray) -> RateInterval:
    """Mode (by a parabola through three points) and middle 95 % of a log posterior along the grid."""
    weight = np.exp(posterior - posterior.max())
    reached = np.concatenate([[0], ((weight[1:] + weight[:-1]) / 2).cumsum()])
    low, high = np.interp([0.025 * reached[-1], 0.975 * reached[-1]], reached, _GRID)
    place = int(np.clip(posterior.argmax(), 1, len(_GRID) - 2))
    before, at, after = posterior[place - 1 : place + 2]
    top = _GRID[place] + _STEP * (before - after) / (2 * (before - 2 * at + after))
    return RateInterval(*expit([top, low, high]).tolist())
