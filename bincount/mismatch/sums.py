"""What a photo tells of the sums of its record's products: volume, faces, weight, number of products."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bincount.dataset.contents import SUMS
from bincount.errors import DataError
from bincount.files import read_json

FILE = "sums.json"
"""A model's sums head, beside the model. It is absent where the records it learned from have no sizes."""

FEWEST_BINS = 100
"""With fewer bins of known sizes the head is not learned."""

_PENALTIES = 10.0 ** np.arange(2, 5)
_FOLDS = 3


@dataclass(frozen=True)
class SumsHead:
    """A linear map from a photo's features to the sums of its record's products.

    Attributes:
        weights: (D, len(SUMS)).
        intercepts: (len(SUMS),).
    """

    weights: np.ndarray
    intercepts: np.ndarray

    @classmethod
    def fit(cls, features: np.ndarray, sums: np.ndarray, blocks: Sequence[str]) -> SumsHead | None:
        """Learns by ridge regression, its penalty chosen by cross-validation over blocks.

        Args:
            features: (N, D), both views averaged.
            sums: (N, len(SUMS)), NaN where one is not known; such bins are not learned from.
            blocks: (N,) name of each bin's block of ids.

        Returns:
            None for fewer than `FEWEST_BINS` bins, or fewer than three blocks.
        """
        known = np.isfinite(sums).all(axis=1)
        features, sums, names = features[known], sums[known], np.array(blocks)[known]
        if len(names) < FEWEST_BINS or len(set(names)) < _FOLDS:
            return None
        from sklearn.linear_model import Ridge
        from sklearn.model_selection import GroupKFold

        mean, scale = features.mean(axis=0), features.std(axis=0)
        scale = np.where(scale > 1e-8, scale, 1.0)
        scaled = (features - mean) / scale
        errors = np.zeros(len(_PENALTIES))
        for train, test in GroupKFold(_FOLDS).split(scaled, groups=names):
            for number, penalty in enumerate(_PENALTIES):
                predicted = Ridge(alpha=penalty).fit(scaled[train], sums[train]).predict(scaled[test])
                errors[number] += np.square(predicted - sums[test]).sum()
        ridge = Ridge(alpha=_PENALTIES[int(np.argmin(errors))]).fit(scaled, sums)
        weights = ridge.coef_.T / scale[:, None]
        return cls(weights, ridge.intercept_ - mean @ weights)

    def predict(self, features: np.ndarray) -> np.ndarray:
        """(N, len(SUMS)) sums for features (N, D)."""
        return features @ self.weights + self.intercepts

    def write(self, folder: Path) -> None:
        """Writes the head to a model's folder."""
        (folder / FILE).write_text(json.dumps({name: value.tolist() for name, value in vars(self).items()}))

    @classmethod
    def read(cls, folder: Path) -> SumsHead | None:
        """Reads the head of a model, None where it has none.

        Raises:
            DataError: If the file is damaged.
        """
        if not (folder / FILE).exists():
            return None
        facts = read_json(folder / FILE) or {}
        try:
            head = cls(np.array(facts["weights"], float), np.array(facts["intercepts"], float))
            if head.weights.ndim == 2 and head.weights.shape[1:] == head.intercepts.shape == (len(SUMS),):
                return head
        except (KeyError, TypeError, ValueError):
            pass
        raise DataError(f"{FILE}: must be the sums head of a model, got a damaged file.")
