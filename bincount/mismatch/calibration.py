"""Calibration of a model: class prior and conformal scores, kept with the model."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bincount.counts import Counts
from bincount.errors import DataError
from bincount.files import write_atomically
from bincount.mismatch.conformal import ALPHA, ConformalScores, bounds_of, conformal_scores, thresholds_of

FILE = "calibration.json"
_FORMAT = "bincount-calibration-1"


def prior_of(classes: Sequence[int] | np.ndarray, counts: Counts) -> np.ndarray:
    """(C,) class frequencies among training bins, with one added to each (Laplace)."""
    frequencies = np.bincount(np.asarray(classes, dtype=int), minlength=len(counts)) + 1
    return frequencies / frequencies.sum()


@dataclass(frozen=True)
class Calibration:
    """Turns a model's probabilities into prediction intervals and verdicts.

    Attributes:
        counts: The C classes.
        prior: (C,) of `prior_of`.
        scores: Conformal scores of the calibration bins, by class and group.
    """

    counts: Counts
    prior: np.ndarray
    scores: ConformalScores

    @classmethod
    def of(
        cls,
        probabilities: np.ndarray,
        truth: np.ndarray,
        groups: Sequence[str],
        training: Sequence[int],
        counts: Counts,
    ) -> Calibration:
        """Computes the calibration from the calibration part.

        Args:
            probabilities: (N, C) predicted distributions; N may be 0.
            truth: (N,) class index of each.
            groups: (N,) group of each.
            training: Class index of every training bin.
            counts: The C classes.
        """
        return cls(counts, prior_of(training, counts), conformal_scores(probabilities, truth, groups))

    @classmethod
    def of_joint(cls, counts: Counts, scores: ConformalScores) -> Calibration:
        """Calibration of the distributions of `ChangeHead.joint` and `ContentsJudge.joint`.

        They contain a prior of the bin itself, from the count before or the list of products. The class frequencies
        must not be divided out of them, so this calibration's prior is uniform.
        """
        return cls(counts, np.full(len(counts), 1 / len(counts)), scores)

    def bounds(self, probabilities: np.ndarray, *, alpha: float = ALPHA) -> tuple[np.ndarray, np.ndarray]:
        """Lowest and highest class of each prediction interval: `conformal.bounds_of`."""
        return bounds_of(probabilities, thresholds_of(self.scores, alpha=alpha)[0])

    def pooled(self, *, alpha: float = ALPHA) -> list[str]:
        """Names of the counts with too few groups for a threshold of their own."""
        return [self.counts.names[index] for index in thresholds_of(self.scores, alpha=alpha)[1]]

    def write(self, folder: Path) -> None:
        """Writes the calibration atomically into a model's folder."""
        content = {
            "format": _FORMAT,
            "counts": str(self.counts),
            "prior": [round(float(share), 8) for share in self.prior],
            "scores": dict(zip(self.counts.names, self.scores, strict=True)),
        }
        write_atomically(folder / FILE, [json.dumps(content).encode()])

    @classmethod
    def read(cls, folder: Path) -> Calibration | None:
        """Reads the calibration of a model's folder; None if it has none.

        Raises:
            DataError: If the file is damaged.
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
