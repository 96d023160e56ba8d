"""Drift of photos and predictions from a model's baseline, by the population stability index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields

import numpy as np
from scipy import special

from bincount.config import DriftLimits

FACTS = tuple(field.name for field in fields(DriftLimits))
"""Names of the compared facts."""


@dataclass(frozen=True)
class Histogram:
    """Histogram of a fact.

    Attributes:
        edges: (E,) rising; value v is in the slot of the first edge >= v, or in the last.
        seen: (E + 1,) number of values in each slot.
        total: Sum of all values.
    """

    edges: tuple[float, ...]
    seen: tuple[int, ...]
    total: float = 0.0

    @classmethod
    def of(cls, values: np.ndarray, edges: Sequence[float] | None = None) -> Histogram:
        """Counts (N,) values; without edges the slots are their deciles, and two outside of them.

        Edges are observed values, so that frequent equal values (all photos
        640 px wide) have a slot of their own.
        """
        values = np.asarray(values, dtype=float)
        if edges is None:
            tenths = np.quantile(values, np.linspace(0.1, 1, 10), method="nearest") if len(values) else []
            least = [np.nextafter(values.min(), -np.inf)] if len(values) else []
            edges = np.unique([*least, *tenths]).tolist()
        return cls(tuple(edges), (0,) * (len(edges) + 1)).plus(values)

    def plus(self, values: np.ndarray) -> Histogram:
        """The histogram with (N,) further values."""
        more = np.bincount(np.searchsorted(self.edges, values), minlength=len(self.seen))
        seen = tuple(int(count) for count in np.add(self.seen, more))
        return Histogram(self.edges, seen, self.total + float(np.sum(values)))

    def emptied(self) -> Histogram:
        """An empty histogram with the same edges."""
        return Histogram(self.edges, (0,) * len(self.seen))

    @property
    def number(self) -> int:
        """Number of values."""
        return sum(self.seen)

    @property
    def mean(self) -> float:
        """Mean of all values; NaN if there is none."""
        return self.total / self.number if self.number else float("nan")


def psi(then: Sequence[int], now: Sequence[int]) -> float:
    """The population stability index of two histograms, in nats; 0 where their shares are the same.

    Half a value is added to each slot, so that empty ones have a logarithm.

    Args:
        then: (S,) number of values in each slot.
        now: (S,) the same of other values.

    Source:
        Kullback and Leibler's divergence J(1, 2), 1951; the name and its limits are credit scoring's.
    """
    shares = [(np.asarray(seen, dtype=float) + 0.5) / (np.sum(seen) + 0.5 * len(seen)) for seen in (then, now)]
    return float(((shares[1] - shares[0]) * np.log(shares[1] / shares[0])).sum())


def psi_by_chance(slots: int, then: int, now: int) -> float:
    """99.9 % quantile of the index of two samples of one distribution.

    Args:
        slots: Slots of the histograms.
        then: Number of values in one.
        now: Number of values in the other.

    Source:
        Yurdakul, Statistical Properties of Population Stability Index, 2018: it is distributed as
        (1/then + 1/now) chi-square with slots - 1 degrees of freedom.

    Example:
        >>> round(psi_by_chance(12, 800, 300), 2)
        0.14
    """
    return float(special.chdtri(max(1, slots - 1), 0.001)) * (1 / max(1, then) + 1 / max(1, now))


def drift_of(then: Mapping[str, Histogram], now: Mapping[str, Histogram], limits: DriftLimits) -> dict:
    """Compares current facts with a model's baseline.

    Args:
        then: The baseline's, by fact.
        now: The current ones in the same slots.
        limits: Largest index of each fact.

    Returns:
        JSON-ready: `compared` bins with `reference` bins, `facts` (by name
        their `psi`, its `limit`, the means `then` and `now`) and `beyond`, the
        names of those above their limit.
    """
    facts = {}
    for name in FACTS:
        if name not in then or not now[name].number:
            continue
        before, after = then[name], now[name]
        chance = psi_by_chance(len(before.seen), before.number, after.number)
        facts[name] = {
            "psi": round(psi(before.seen, after.seen), 4),
            "limit": round(max(getattr(limits, name), chance), 4),
            "then": float(f"{before.mean:.4g}"),
            "now": float(f"{after.mean:.4g}"),
        }
    return {
        "compared": max((now[name].number for name in facts), default=0),
        "reference": max((each.number for each in then.values()), default=0),
        "facts": facts,
        "beyond": [name for name, fact in facts.items() if fact["psi"] > fact["limit"]],
    }


def sentence_of(name: str, fact: Mapping[str, float]) -> str:
    """A fact of `drift_of` as a sentence.

    Example:
        >>> sentence_of("brightness", {"psi": 1.2, "limit": 0.25, "then": 112.0, "now": 71.0})
        'brightness is 71 on average, was 112 (PSI 1.20, limit 0.25)'
    """
    psi_of, limit = fact["psi"], fact["limit"]
    return f"{name} is {fact['now']:g} on average, was {fact['then']:g} (PSI {psi_of:.2f}, limit {limit:.2f})"
