"""What counting found, and what it would have found in another order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from bincount.core.counted import SUREST
from bincount.core.error_rate import Share


def differences_of(recorded: Sequence[int], counted: Sequence[int]) -> dict[str, dict[str, int]]:
    """Overs (more counted than recorded) and shorts (fewer), each by itself: one never makes up for the other.

    Returns:
        Of `overs` and `shorts` how many `bins` and by how many `items`.

    Example:
        >>> differences_of([3, 3, 3], [5, 1, 3])
        {'overs': {'bins': 1, 'items': 2}, 'shorts': {'bins': 1, 'items': 2}}
    """
    off = np.asarray(counted, dtype=int) - np.asarray(recorded, dtype=int)
    return {
        name: {"bins": int((sign * off > 0).sum()), "items": int((sign * off).clip(0).sum())}
        for name, sign in (("overs", 1), ("shorts", -1))
    }


@dataclass
class Tally:
    """Wrong records by what is recorded: found where a bin was counted, expected where it was not.

    Attributes:
        bins: Number of bins by recorded count.
        wrong: Wrong records among them, at the rate's estimate and at the ends of its interval.
    """

    rate: Share
    bins: dict[int, int] = field(default_factory=dict)
    wrong: dict[int, np.ndarray] = field(default_factory=dict)

    def add(self, recorded: np.ndarray, log_evidence: np.ndarray, wrong: np.ndarray) -> None:
        """Takes bins in.

        Args:
            recorded: (N,) what the books say.
            log_evidence: (N,) logarithm of what each photo says of its record.
            wrong: (N,) 1 or 0 where counting found it wrong or right, NaN where it was not counted.
        """
        evidence = np.exp(np.clip(log_evidence, -np.log(SUREST), np.log(SUREST)))
        rates = np.asarray([self.rate.estimate, self.rate.low, self.rate.high])
        odds = evidence[:, None] * rates / (1 - rates)
        chance = np.where(np.isnan(wrong)[:, None], odds / (1 + odds), wrong[:, None])
        values, place = np.unique(recorded, return_inverse=True)
        for index, value in enumerate(values.tolist()):
            self.bins[value] = self.bins.get(value, 0) + int((place == index).sum())
            self.wrong[value] = self.wrong.get(value, np.zeros(3)) + chance[place == index].sum(axis=0)

    def at_random(self, count: int) -> tuple[float, float, float]:
        """Wrong records expected among so many bins drawn at random; with an interval."""
        total = sum(self.wrong.values(), np.zeros(3))
        return _three(total * count / max(1, sum(self.bins.values())))

    def by_recorded(self, count: int) -> tuple[float, float, float]:
        """Wrong records expected among so many bins of the largest recorded counts; equal ones in no order."""
        left, found = count, np.zeros(3)
        for value in sorted(self.bins, reverse=True):
            taken = min(left, self.bins[value])
            found += self.wrong[value] * taken / self.bins[value]
            left -= taken
        return _three(found)


def saved_of(
    found: int, others: Mapping[str, tuple[float, float, float]], *, count_cost: float, miss_cost: float, counts: int
) -> dict:
    """What counting was worth.

    Args:
        found: Wrong records found.
        others: What as many counts would have found in other orders, with intervals.
        count_cost: What a count costs.
        miss_cost: What a wrong record that is not found costs.
        counts: How many bins were counted.

    Returns:
        `spent`, `saved` by finding, `net` of both, and of each other order how much
        more this one saved (`against_...`), as value, low and high.

    Example:
        >>> saved_of(3, {"random": (1.0, 0.5, 2.0)}, count_cost=2.0, miss_cost=10.0, counts=5)
        {'spent': 10.0, 'saved': 30.0, 'net': 20.0, 'against_random': [20.0, 10.0, 25.0]}
    """
    spent, saved = count_cost * counts, miss_cost * found
    against = {
        f"against_{name}": [round(miss_cost * (found - other), 2) for other in (middle, high, low)]
        for name, (middle, low, high) in others.items()
    }
    return {"spent": round(spent, 2), "saved": round(saved, 2), "net": round(saved - spent, 2), **against}


def _three(values: np.ndarray) -> tuple[float, float, float]:
    middle, low, high = (round(float(value), 3) for value in values)
    return middle, low, high
