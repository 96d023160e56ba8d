"""The change of a bin's count between two photos, learned from the difference of their features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from bincount.counts import Counts
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.conformal import ConformalScores, conformal_scores
from bincount.mismatch.model_file import read_part, write_part

FILE = "change.json"
"""A model's change head, beside the model. It is absent where too few pairs were there to learn from."""

FEWEST_PAIRS = 100
"""With fewer pairs the head is not learned: its distribution would rest on a handful of each change."""

FEWEST_UNCHANGED = 30
"""With fewer pairs in which nothing moved the head cannot tell that nothing did."""

SAME_COUNT = "the record says what was counted before, and the model knows too few bins in which nothing moved"
OTHER_BIN = "the earlier photo differs so much that it probably shows another bin"
SAME_PHOTO = "the earlier photo is the same as this one"
NO_HEAD = "the model was not trained on enough pairs of photos to use the earlier one"
"""Why an earlier photo is not used."""

_PHOTO_SHARE = 0.3
"""Mean of the normal prior of `photo_share`: a few calibration pairs change it little, hundreds freely."""
_SAME_BIN = 0.99
"""Share of training pairs that `problems_of` takes for photos of one bin."""

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
        centre: (D,) mean of the features of the pairs' photos.
        spread: (D,) their standard deviation.
        nearest: Smallest distance of two different photos; a smaller one means that a photo was sent twice. The
            distance is 1 minus the correlation of the standardised features.
        farthest: Largest distance of two photos that are taken for photos of one bin.
        photo_share: Weight of the photo's own distribution beside that of the pair, 0 to 1.
        scores: Conformal scores of the calibration pairs; empty lists where there were none.
        unchanged: How many pairs were of bins in which nothing moved; fewer than `FEWEST_UNCHANGED` were left out.
    """

    weights: np.ndarray
    changes: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray
    transitions: np.ndarray
    pairs: int
    centre: np.ndarray
    spread: np.ndarray
    nearest: float
    farthest: float
    photo_share: float
    scores: ConformalScores
    unchanged: int = 0

    @property
    def knows_unchanged(self) -> bool:
        """True if it was learned from bins in which nothing moved, too; otherwise P(no change) means nothing."""
        return self.unchanged >= FEWEST_UNCHANGED

    @classmethod
    def fit(
        cls,
        earlier: np.ndarray,
        later: np.ndarray,
        before: np.ndarray,
        after: np.ndarray,
        blocks: Sequence[str],
        counts: Counts,
        *,
        width: int | None = None,
    ) -> ChangeHead | None:
        """Learns from pairs of photos.

        Args:
            earlier: (N, D) features of the earlier photos.
            later: (N, D) features of the later ones.
            before: (N,) class of the count before.
            after: (N,) class of the count after.
            blocks: (N,) name of each pair's block of ids. The distribution is learned from out-of-fold scores: those
                of a regression that was fitted on other blocks.
            counts: The C classes.
            width: How many of the first features the scores depend on; all D for None.

        Returns:
            None for fewer than `FEWEST_PAIRS` pairs, or fewer than five blocks.
        """
        still = is_unchanged(before, after, counts)
        if still.sum() < FEWEST_UNCHANGED:
            earlier, later, before, after = (each[~still] for each in (earlier, later, before, after))
            blocks = [block for block, left_out in zip(blocks, still, strict=True) if not left_out]
        if len(before) < FEWEST_PAIRS or len(set(blocks)) < _FOLDS or len(set(after - before)) < 2:
            return None
        from sklearn.linear_model import LogisticRegression, Ridge
        from sklearn.model_selection import GroupKFold, cross_val_predict

        change, difference = (after - before).astype(float), (later - earlier)[:, :width]
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
        both = np.concatenate([earlier, later])
        centre, deviation = both.mean(axis=0), both.std(axis=0)
        deviation = np.where(deviation > 1e-8, deviation, np.inf)
        distance = _distance((earlier - centre) / deviation, (later - centre) / deviation)
        return cls(
            weights=np.pad(np.column_stack(weights), [(0, earlier.shape[1] - difference.shape[1]), (0, 0)]),
            changes=logistic.classes_,
            coefficients=coefficients,
            intercepts=intercepts,
            transitions=transitions / transitions.sum(axis=1, keepdims=True),
            pairs=len(before),
            centre=centre,
            spread=deviation,
            nearest=float(distance.min()) / 10,
            farthest=float(np.quantile(distance, _SAME_BIN)),
            photo_share=_PHOTO_SHARE,
            scores=[[] for _ in counts.values],
            unchanged=int(still.sum()),
        )

    def calibrated(
        self,
        earlier: np.ndarray,
        later: np.ndarray,
        before: np.ndarray,
        after: np.ndarray,
        groups: Sequence[str],
        photo: np.ndarray,
        prior: np.ndarray,
    ) -> ChangeHead:
        """The same head with the photo's share and the conformal scores from the calibration part.

        Args:
            earlier: (N, D) features of the earlier photos.
            later: (N, D) features of the later ones.
            before: (N,) class of the count before.
            after: (N,) class of the count after.
            groups: (N,) the group of each pair.
            photo: (N, C) what the model predicts from the later photo alone.
            prior: (C,) class frequencies among training bins.
        """
        if not len(before):
            return self
        shares = np.linspace(0, 1, 21)
        pair = self.counts_after(later - earlier, before)
        joint = [joint_distribution(pair, photo, prior, share) for share in shares]
        costs = [-np.log(each[np.arange(len(after)), after]).sum() for each in joint]
        # The second term is the normal prior of the share, with a standard deviation of 0.2.
        best = int(np.argmin(costs + (shares - _PHOTO_SHARE) ** 2 / (2 * 0.2**2)))
        scores = conformal_scores(joint[best], after, groups)
        return replace(self, photo_share=float(shares[best]), scores=scores)

    def calibration(self, counts: Counts) -> Calibration:
        """Calibration of `joint`."""
        return Calibration.of_joint(counts, self.scores)

    def joint(
        self, earlier: np.ndarray, later: np.ndarray, before: np.ndarray, photo: np.ndarray, prior: np.ndarray
    ) -> np.ndarray:
        """P(count after | both photos, count before, what the model predicts from the later photo), (N, C)."""
        return joint_distribution(self.counts_after(later - earlier, before), photo, prior, self.photo_share)

    def problems_of(self, earlier: np.ndarray, later: np.ndarray) -> list[str]:
        """Why each of N pairs of photos cannot be used as one bin before and after a transaction; "" for one that can.

        A pair whose distance is larger than that of 99 % of the training pairs probably shows two bins. Not every pair
        of two bins is found: some have a smaller distance.

        Args:
            earlier: (N, D) features of the earlier photos.
            later: (N, D) features of the later ones.
        """
        distance = _distance((earlier - self.centre) / self.spread, (later - self.centre) / self.spread)
        return [SAME_PHOTO if each < self.nearest else OTHER_BIN if each > self.farthest else "" for each in distance]

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
        write_part(folder / FILE, vars(self))

    @classmethod
    def read(cls, folder: Path) -> ChangeHead | None:
        """Reads the head of a model, None where it has none.

        Raises:
            DataError: If the file is damaged.
        """
        plain = ("pairs", "nearest", "farthest", "photo_share", "scores", "unchanged")
        return read_part(folder / FILE, lambda fields: cls(**fields), plain=plain)


def is_unchanged(before: np.ndarray, after: np.ndarray, counts: Counts) -> np.ndarray:
    """(N,) whether nothing moved between two classes; an open class holds bins that changed, too.

    Example:
        >>> is_unchanged(np.array([1, 1, 6]), np.array([1, 2, 6]), Counts.parse("0-5+"))
        array([ True, False, False])
    """
    return (before == after) & (after < len(counts) - counts.open_top)


def joint_distribution(pair: np.ndarray, photo: np.ndarray, prior: np.ndarray, share: float) -> np.ndarray:
    """Joins what a pair of photos and what the later one alone tell of a count.

    Args:
        pair: (N, C) P(count | both photos, count before).
        photo: (N, C) P(count | later photo).
        prior: (C,) class frequencies; the photo's likelihood is its distribution over them.
        share: The exponent of that likelihood: both see the later photo, so that it counts in part.

    Example:
        >>> joint_distribution(np.array([[0.5, 0.5]]), np.array([[0.2, 0.8]]), np.array([0.5, 0.5]), 0.5).round(3)
        array([[0.333, 0.667]])
    """
    joint = pair * (np.maximum(photo, 1e-6) / prior) ** share
    return joint / joint.sum(axis=1, keepdims=True)


def _distance(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    """(N,) 1 minus the correlation of the rows."""
    one, other = one - one.mean(axis=1, keepdims=True), other - other.mean(axis=1, keepdims=True)
    norms = np.linalg.norm(one, axis=1) * np.linalg.norm(other, axis=1)
    return 1 - (one * other).sum(axis=1) / np.maximum(norms, 1e-12)


def _inputs(scores: np.ndarray, before: np.ndarray, classes: int) -> np.ndarray:
    """(N, 4 + 2 C) what the distribution of the change depends on."""
    change, known = scores[:, :1], np.eye(classes)[before]
    return np.hstack([scores, change**2, abs(change), known, known * change])
