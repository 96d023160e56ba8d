"""The sums head: volume, faces, weight and number of a record's products, as far as a photo tells them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bincount.mismatch.model_file import read_part, write_part

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
        """(N, len(SUMS)) sums for features (N, D).

        Example:
            >>> head = SumsHead(weights=np.array([[1.0], [0.5]]), intercepts=np.array([0.2]))  # one sum, for brevity
            >>> head.predict(np.array([[2.0, 4.0]]))  # 2 * 1 + 4 * 0.5 + 0.2
            array([[4.2]])
        """
        return features @ self.weights + self.intercepts

    def write(self, folder: Path) -> None:
        """Writes the head to a model's folder."""
        write_part(folder / FILE, vars(self))

    @classmethod
    def read(cls, folder: Path) -> SumsHead | None:
        """Reads the head of a model, None where it has none.

        Raises:
            DataError: If the file is damaged.
        """
        return read_part(folder / FILE, lambda fields: cls(**fields))
