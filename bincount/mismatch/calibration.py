"""What the calibration part says about a model: how sure its answers may be taken."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bincount.counts import Counts
from bincount.errors import DataError
from bincount.files import write_atomically
from bincount.mismatch.conformal import ALPHA, Scores, bounds_of, scores_of, thresholds_of

FILE = "calibration.json"
_FORMAT = "bincount-calibration-1"


def prior_of(learned: Sequence[int] | np.ndarray, counts: Counts) -> np.ndarray:
    """(C,) frequencies of the classes among bins that were learned from; each counts one more than it has."""
    seen = np.bincount(np.asarray(learned, dtype=int), minlength=len(counts)) + 1
    return seen / seen.sum()


@dataclass(frozen=True)
class Calibration:
    """What turns a model's probabilities into bounds and verdicts.

    Attributes:
        counts: The C classes.
        prior: (C,) of `prior_of`.
        scores: Distances of the calibration bins, by class and group.
    """

    counts: Counts
    prior: np.ndarray
    scores: Scores

    @classmethod
    def of(
        cls,
        probabilities: np.ndarray,
        truth: np.ndarray,
        groups: Sequence[str],
        learned: Sequence[int],
        counts: Counts,
    ) -> Calibration:
        """Scores the calibration part.

        Args:
            probabilities: (N, C) what the model says of its bins; N may be 0.
            truth: (N,) class index of each.
            groups: (N,) group of each.
            learned: Class index of every bin of the training part.
            counts: The C classes.
        """
        return cls(counts, prior_of(learned, counts), scores_of(probabilities, truth, groups))

    def bounds(self, probabilities: np.ndarray, *, alpha: float = ALPHA) -> tuple[np.ndarray, np.ndarray]:
        """Least and greatest class of each photo's prediction set: `conformal.bounds_of`."""
        return bounds_of(probabilities, thresholds_of(self.scores, alpha=alpha)[0])

    def pooled(self, *, alpha: float = ALPHA) -> list[str]:
        """Names of the counts that have too few groups for a threshold of their own."""
        return [self.counts.names[index] for index in thresholds_of(self.scores, alpha=alpha)[1]]

    def write(self, folder: Path) -> None:
        """Writes it into a model's folder, whole or not at all."""
        content = {
            "format": _FORMAT,
            "counts": str(self.counts),
            "prior": [round(float(share), 8) for share in self.prior],
            "scores": dict(zip(self.counts.names, self.scores, strict=True)),
        }
        write_atomically(folder / FILE, [json.dumps(content).encode()])

    @classmethod
    def read(cls, folder: Path) -> Calibration | None:
        """Reads it from a model's folder; None in one that was registered before there were any.

        Raises:
            DataError: If the file is not what it should be.
        """
        path = folder / FILE
        if not path.exists():
            return None
        try:
            content = json.loads(path.read_bytes())
            counts = Counts.parse(content["counts"])
            prior = np.asarray(content["prior"], dtype=float)
            if content["format"] != _FORMAT or len(prior) != len(counts) or not (prior > 0).all():
                raise ValueError(content["format"])
            return cls(counts, prior, [content["scores"][name] for name in counts.names])
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise DataError(
                f"{path.name}: must be a {_FORMAT}, got {error!r}. Delete it and run `bincount register` again."
            ) from None
