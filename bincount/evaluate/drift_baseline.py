"""Drift baseline: what test photos and predictions were like, kept in the model's folder."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from bincount.counts import Counts
from bincount.errors import DataError
from bincount.evaluate.drift import FACTS, Histogram
from bincount.files import write_atomically

FILE = "reference.json"
_FORMAT = "bincount-reference-1"
_COUNT_FACTS = ("predicted", "recorded")
_NOTHING = 1e-8


@dataclass(frozen=True)
class DriftBaseline:
    """Histograms of `drift.FACTS` on test bins, and the moments of the network's features.

    Attributes:
        histograms: By fact.
        center: (D,) mean of the network's features; empty where the model gives none.
        spread: (D,) their standard deviation.
    """

    histograms: Mapping[str, Histogram]
    center: np.ndarray = field(default_factory=lambda: np.zeros(0))
    spread: np.ndarray = field(default_factory=lambda: np.zeros(0))

    @classmethod
    def of(cls, facts: Mapping[str, np.ndarray], features: np.ndarray | None, counts: Counts) -> DriftBaseline:
        """Computes the baseline from N bins.

        Args:
            facts: (N,) values of each fact except `features`.
            features: (N, D) features of the network; None where it gives none.
            counts: The classes of the model.
        """
        center, spread = np.zeros(0), np.zeros(0)
        if features is not None:
            center, spread = _short(features.mean(0, dtype=np.float64)), _short(features.std(0, dtype=np.float64))
            facts = {**facts, "features": distance_of(features, center, spread)}
        edges = [value + 0.5 for value in counts.values[:-1]]
        histograms = {
            name: Histogram.of(facts[name], edges if name in _COUNT_FACTS else None) for name in FACTS if name in facts
        }
        return cls(histograms, center, spread)

    def distance(self, features: np.ndarray | None, number: int) -> np.ndarray:
        """(N,) of `distance_of`; NaN where there are no features."""
        if features is None or not len(self.center):
            return np.full(number, np.nan)
        return distance_of(features, self.center, self.spread)

    def write(self, folder: Path) -> None:
        """Writes the baseline atomically into a model's folder."""
        content = {
            "format": _FORMAT,
            "facts": {
                name: {"edges": each.edges, "seen": each.seen, "total": each.total}
                for name, each in self.histograms.items()
            },
            "features": {"center": self.center.tolist(), "spread": self.spread.tolist()},
        }
        write_atomically(folder / FILE, [json.dumps(content).encode()])

    @classmethod
    def read(cls, folder: Path) -> DriftBaseline | None:
        """Reads the baseline of a model's folder; None if it has none.

        Raises:
            DataError: If the file is damaged.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_bytes())
            if content["format"] != _FORMAT or set(content["facts"]) - set(FACTS):
                raise ValueError(content["format"])
            histograms = {
                name: Histogram(tuple(each["edges"]), tuple(each["seen"]), float(each["total"]))
                for name, each in content["facts"].items()
            }
            if any(len(each.seen) != len(each.edges) + 1 for each in histograms.values()):
                raise ValueError("edges and slots")
            center, spread = (np.asarray(content["features"][name], dtype=float) for name in ("center", "spread"))
            return cls(histograms, center, spread)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path.name}: must be a {_FORMAT}, got {error!r}. Delete it and run `bincount evaluate` again."
            ) from None


def distance_of(features: np.ndarray, center: np.ndarray, spread: np.ndarray) -> np.ndarray:
    """Distance of features from their mean, in standard deviations; 1 on average on the baseline bins.

    Args:
        features: (N, D).
        center: (D,) the mean.
        spread: (D,) the standard deviation; constant features are left out.

    Returns:
        (N,) root mean squares over the D features.

    Source:
        The Mahalanobis distance with a diagonal covariance, for photos unlike those learned: Lee et al., A Simple
        Unified Framework for Detecting Out-of-Distribution Samples, 2018, arXiv 1807.03888.
    """
    alive = spread > _NOTHING
    if not alive.any():
        return np.zeros(len(features))
    return np.sqrt((((features[:, alive] - center[alive]) / spread[alive]) ** 2).mean(axis=1))


def _short(values: np.ndarray) -> np.ndarray:
    """Values rounded to six digits, so that a file of thousands of features stays small."""
    return np.asarray([float(f"{value:.6g}") for value in values])
