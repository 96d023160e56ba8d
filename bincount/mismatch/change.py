"""The change of a bin's count between two photos, learned from the difference of their features."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bincount.counts import Counts
from bincount.errors import DataError
from bincount.files import read_json

FILE = "change.json"
"""A model's change head, beside the model. It is absent where too few pairs were there to learn from."""

FEWEST_PAIRS = 100
"""With fewer pairs the head is not learned: its distribution would rest on a handful of each change."""

_PENALTIES = 10.0 ** np.arange(2, 6.5, 0.5)
_FOLDS = 5
_SMOOTHING = 0.5


@dataclass(frozen=True)
class ChangeHead:
    """P(count after | both photos, count before).

    Ridge regressions without intercept map the difference of features to two scores, of the change and of its
    direction, so that swapping the photos changes the signs of both. A logistic regression turns scores and count
    before into a distribution (docs/log/learn.md has what else was tried).

    Attributes:
        weights: (D, 2) of the difference of features; their products are the scores, of unit variance.
        changes: (K,) the changes that it tells apart, rising.
        coefficients: (K, 4 + 2 C) of the scores, the first one's square and magnitude, the count before as one of C
            classes, and the first score within each of these classes.
        intercepts: (K,).
        transitions: (C, C) P(count after | count before) without photos, the image-blind baseline.
        pairs: How many it was learned from.
    """

    weights: np.ndarray
    changes: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray
    transitions: np.ndarray
    pairs: int

    @classmethod
    def fit(
        cls, difference: np.ndarray, before: np.ndarray, after: np.ndarray, blocks: Sequence[str], counts: Counts
    ) -> ChangeHead | None:
        """Learns from pairs of photos.

        Args:
            difference: (N, D) features of the later photo minus those of the earlier one.
            before: (N,) class of the count before.
            after: (N,) class of the count after.
            blocks: (N,) name of each pair's block of ids. The distribution is learned from out-of-fold scores: those
                of a regression that was fitted on other blocks.
            counts: The C classes.

        Returns:
            None for fewer than `FEWEST_PAIRS` pairs, or fewer than five blocks.
        """
        if len(before) < FEWEST_PAIRS or len(set(blocks)) < _FOLDS or len(set(after - before)) < 2:
            return None
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.model_selection import GroupKFold, cross_val_predict

        change = (after - before).astype(float)
        scale = np.sqrt(np.square(difference, dtype=np.float64).mean(axis=0))
        scale = np.where(scale > 0, scale, 1.0)
        scaled = difference / scale
        weights, scores = [], []
        for target in (change, np.sign(change)):
            trials = {}
            for penalty in _PENALTIES:
                ridge = Ridge(alpha=penalty, fit_intercept=False)
                trials[penalty] = cross_val_predict(ridge, scaled, target, groups=blocks, cv=GroupKFold(_FOLDS))
            errors = {penalty: float(np.square(trial - target).mean()) for penalty, trial in trials.items()}
            best = min(errors, key=errors.__getitem__)
            spread = trials[best].std() or 1.0
            scores.append(trials[best] / spread)
            weights.append(Ridge(alpha=best, fit_intercept=False).fit(scaled, target).coef_ / scale / spread)
        inputs = _inputs(np.column_stack(scores), before, len(counts))
        logistic = LogisticRegression(max_iter=2000).fit(inputs, change.astype(int))
        coefficients, intercepts = logistic.coef_, logistic.intercept_
        if len(logistic.classes_) == 2:  # scikit-learn gives one row for both
            coefficients, intercepts = np.vstack([-coefficients, coefficients]) / 2, np.r_[-intercepts, intercepts] / 2
        transitions = np.full((len(counts), len(counts)), _SMOOTHING)
        np.add.at(transitions, (before, after), 1.0)
        return cls(
            weights=np.column_stack(weights),
            changes=logistic.classes_,
            coefficients=coefficients,
            intercepts=intercepts,
            transitions=transitions / transitions.sum(axis=1, keepdims=True),
            pairs=len(before),
        )

    def score(self, difference: np.ndarray) -> np.ndarray:
        """(N,) scores of the change for differences of features (N, D), positive where items were added."""
        return difference @ self.weights[:, 0]

    def counts_after(self, difference: np.ndarray, before: np.ndarray) -> np.ndarray:
        """P(count after | both photos, count before).

        Args:
            difference: (N, D) features of the later photo minus those of the earlier one.
            before: (N,) class of the count before.

        Returns:
            (N, C) distributions; counts that no known change leads to have the probability 0.0001.
        """
        inputs = _inputs(difference @ self.weights, before, len(self.transitions))
        logits = inputs @ self.coefficients.T + self.intercepts
        likely = np.exp(logits - logits.max(axis=1, keepdims=True))
        distribution = np.zeros((len(before), len(self.transitions)))
        for column, change in enumerate(self.changes):
            after = before + change
            rows = np.flatnonzero((after >= 0) & (after < distribution.shape[1]))
            distribution[rows, after[rows]] = likely[rows, column]
        distribution /= np.maximum(distribution.sum(axis=1, keepdims=True), 1e-12)
        distribution = np.maximum(distribution, 1e-4)
        return distribution / distribution.sum(axis=1, keepdims=True)

    def write(self, folder: Path) -> None:
        """Writes the head to a model's folder."""
        facts = {name: np.asarray(value).tolist() for name, value in vars(self).items()}
        (folder / FILE).write_text(json.dumps(facts))

    @classmethod
    def read(cls, folder: Path) -> ChangeHead | None:
        """Reads the head of a model, None where it has none.

        Raises:
            DataError: If the file is damaged.
        """
        if not (folder / FILE).exists():
            return None
        facts = read_json(folder / FILE)
        try:
            pairs = int(facts.pop("pairs"))  # type: ignore[union-attr]
            return cls(**{name: np.asarray(value) for name, value in facts.items()}, pairs=pairs)  # type: ignore[union-attr]
        except (AttributeError, KeyError, TypeError, ValueError):
            raise DataError(f"{FILE}: must be the change head of a model, got a damaged file.") from None


def _inputs(scores: np.ndarray, before: np.ndarray, classes: int) -> np.ndarray:
    """(N, 4 + 2 C) what the distribution of the change depends on."""
    change, known = scores[:, :1], np.eye(classes)[before]
    return np.hstack([scores, change**2, abs(change), known, known * change])
