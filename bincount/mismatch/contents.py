"""Judge of a record by the products on it and its photo: a wrong quantity, or a missed transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from bincount.counts import Counts
from bincount.dataset.contents import SUMS, Product, sums_of
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.conformal import ConformalScores, conformal_scores
from bincount.mismatch.model_file import read_part, write_part
from bincount.mismatch.posterior import posterior_of

FILE = "contents.json"
"""A model's judge of contents, beside the model. It is absent where too few records name products with sizes."""

FEWEST_BINS = 100
"""With fewer bins of known sizes, in training or in the calibration part, there is no judge."""

NO_JUDGE = "the model was not trained on enough records that name products with sizes"
"""Why products are not used."""

MISSED_SHARE = 0.5
"""Share of errors that are missed transactions; the others are wrong quantities of a right list."""

_MOST_PRODUCTS = 5  # longer lists share the columns of this length
_LOG_VOLUME = SUMS.index("log_volume")
_WEIGHTS = np.array([0.85, 0.6, 0.9])
"""Means of the normal priors of the exponents: a handful of calibration bins changes them little."""


@dataclass(frozen=True)
class ContentsJudge:
    """P(total | products without their quantities, photo), and the evidence of a missed transaction.

    The total's distribution is that of the list alone, times the photo's likelihood, times how well the volume that
    the photo shows fits so many products of this list, each with an exponent:

        P(n) ~ list(n)^a * (photo(n) / prior(n))^b * exp(-c * (log volume seen - log volume of n products)^2)

    Attributes:
        counts: The C classes.
        mean: (F,) of the features of a list.
        scale: (F,) their standard deviation.
        coefficients: (C, F) of the standardised features; a logistic regression gives P(total | list).
        intercepts: (C,).
        weights: (3,) the exponents a, b and c.
        missed: (3 + len(SUMS),) logistic regression of a missed transaction: intercept, log likelihood of the recorded
            count, its distance from the expected one, and the distances of the sums; all 0 if it was not learned.
        scores: Conformal scores of the calibration bins.

    Example:
        A list that says nothing of the total, and a photo that says nothing of the count but shows the volume of two:

        >>> says_nothing = np.zeros(65), np.ones(65), np.zeros((2, 65)), np.zeros(2)
        >>> weights, missed = np.array([1.0, 1.0, 2.0]), np.r_[0.0, -1.0, np.zeros(6)]
        >>> judge = ContentsJudge(Counts.parse("1-2"), *says_nothing, weights, missed, [[], []])
        >>> box, photo, prior = (4.0, 3.0, 2.0), np.array([[0.5, 0.5]]), np.array([0.5, 0.5])
        >>> seen = sums_of([Product(2, box, None)])[None]  # (log 49 - log 25)^2 = 0.453; exp(-2 * 0.453) = 0.404
        >>> judge.totals([[Product(1, box, None)]], photo, seen, prior).round(3)  # 0.404 : 1
        array([[0.288, 0.712]])

        A record of 1, which a photo makes half as probable as it was before:

        >>> judge.missed_evidence([[Product(1, box, None)]], np.array([0]), np.array([[0.25, 0.75]]), seen, prior)
        array([2.])
    """

    counts: Counts
    mean: np.ndarray
    scale: np.ndarray
    coefficients: np.ndarray
    intercepts: np.ndarray
    weights: np.ndarray
    missed: np.ndarray
    scores: ConformalScores

    @classmethod
    def fit(cls, contents: Sequence[Sequence[Product]], truth: np.ndarray, counts: Counts) -> ContentsJudge | None:
        """Learns P(total | list) from training bins; `calibrated` learns the rest.

        Args:
            contents: (N,) the products of each bin.
            truth: (N,) class of each bin's total.
            counts: The C classes.

        Returns:
            None for fewer than `FEWEST_BINS` bins of known sizes, or without a bin of some class.
        """
        known = np.array([has_sizes(products) for products in contents], bool)
        if known.sum() < FEWEST_BINS or len(set(truth[known])) < len(counts):
            return None
        from sklearn.linear_model import LogisticRegression

        features = _design([products for products, there in zip(contents, known, strict=True) if there])
        mean = np.nanmean(features, axis=0)
        scale = np.nanstd(features, axis=0)
        scale = np.where(scale > 1e-8, scale, 1.0)
        logistic = LogisticRegression(C=0.03, max_iter=1000)
        logistic.fit(np.nan_to_num((features - mean) / scale), truth[known])
        coefficients, intercepts = logistic.coef_, logistic.intercept_
        if len(coefficients) == 1:  # scikit-learn gives one row for two classes
            coefficients, intercepts = np.vstack([-coefficients, coefficients]) / 2, np.r_[-intercepts, intercepts] / 2
        unfitted = np.zeros(3 + len(SUMS))
        return cls(counts, mean, scale, coefficients, intercepts, _WEIGHTS, unfitted, [[] for _ in counts.values])

    def calibrated(
        self,
        contents: Sequence[Sequence[Product]],
        truth: np.ndarray,
        groups: Sequence[str],
        photo: np.ndarray,
        sums: np.ndarray,
        prior: np.ndarray,
        pairs: np.ndarray,
    ) -> ContentsJudge | None:
        """Learns exponents, evidence of a missed transaction and conformal scores from the calibration part.

        Args:
            contents: (N,) the products of each bin.
            truth: (N,) class of each bin's total.
            groups: (N,) group of each bin.
            photo: (N, C) what the model predicts from the photos.
            sums: (N, len(SUMS)) what it predicts of the sums.
            prior: (C,) class frequencies among training bins.
            pairs: (P, 2) rows of neighbouring photos of one bin: each has the other's record after a missed
                transaction.

        Returns:
            None for fewer than `FEWEST_BINS` bins of known sizes.
        """
        known = np.array([has_sizes(products) for products in contents], bool)
        rows: list[int] = np.flatnonzero(known).tolist()
        if len(rows) < FEWEST_BINS:
            return None
        from scipy.optimize import minimize
        from sklearn.linear_model import LogisticRegression

        terms = self._terms([contents[row] for row in rows], photo[rows], sums[rows], prior)
        own = np.arange(len(rows)), truth[rows]

        def cost(weights: np.ndarray) -> float:
            surprise = -np.log(_softmax(terms @ weights)[own]).sum()
            return float(surprise + ((weights - _WEIGHTS) ** 2).sum() / (2 * 0.2**2))

        weights = minimize(cost, _WEIGHTS, method="Nelder-Mead").x
        judge = replace(self, weights=np.maximum(weights, 0))
        totals = judge.totals([contents[row] for row in rows], photo[rows], sums[rows], prior)
        scores = conformal_scores(totals, truth[rows], [groups[row] for row in rows])
        usable = pairs[known[pairs].all(axis=1)] if len(pairs) else pairs
        missed = self.missed
        if len(usable) >= FEWEST_BINS // 2:
            seen, recorded = np.concatenate([usable, usable]).ravel(), np.concatenate([usable, usable[:, ::-1]]).ravel()
            inputs = self._inputs(
                [contents[row] for row in recorded.tolist()], truth[recorded], photo[seen], sums[seen], prior
            )
            logistic = LogisticRegression(C=0.1, max_iter=1000).fit(inputs, np.arange(len(seen)) >= usable.size)
            missed = np.r_[logistic.intercept_, logistic.coef_[0]]
        return replace(judge, missed=missed, scores=scores)

    def list_only(self, contents: Sequence[Sequence[Product]]) -> np.ndarray:
        """(N, C) P(total | list), the image-blind judge's; all sizes must be known (`has_sizes`)."""
        standardised = np.nan_to_num((_design(contents) - self.mean) / self.scale)
        return _softmax(standardised @ self.coefficients.T + self.intercepts)

    def totals(
        self, contents: Sequence[Sequence[Product]], photo: np.ndarray, sums: np.ndarray, prior: np.ndarray
    ) -> np.ndarray:
        """P(total | list, photo), valid as long as the list is right and at most a quantity is wrong.

        Args:
            contents: (N,) the products of each bin, all of known sizes.
            photo: (N, C) what the model predicts from the photos.
            sums: (N, len(SUMS)) what it predicts of the sums.
            prior: (C,) class frequencies among training bins.
        """
        return _softmax(self._terms(contents, photo, sums, prior) @ self.weights)

    def joint(
        self,
        contents: Sequence[Sequence[Product]],
        photo: np.ndarray,
        sums: np.ndarray,
        prior: np.ndarray,
        pairs: Sequence[np.ndarray | None],
    ) -> np.ndarray:
        """(N, C) P(total | all evidence).

        For a bin with one photo it is `totals`. For a bin with an earlier photo it is the distribution of the two
        photos, times (list(n) / prior(n))^a and the factor of the volume (see the class), normalised.

        Args:
            contents: (N,) the products of each bin, all of known sizes.
            photo: (N, C) what the model predicts from the photos.
            sums: (N, len(SUMS)) what it predicts of the sums.
            prior: (C,) class frequencies among training bins.
            pairs: (N,) the distribution (C,) of a bin's two photos (`ChangeHead.joint`), None for a bin with one.
        """
        without_photo = self._terms(contents, np.tile(prior, (len(sums), 1)), sums, prior)
        likelihood = np.exp(without_photo @ self.weights) / prior ** self.weights[0]
        joint = self.totals(contents, photo, sums, prior)
        for row, pair in enumerate(pairs):
            if pair is not None:
                joint[row] = pair * likelihood[row]
        return joint / joint.sum(axis=1, keepdims=True)

    def missed_evidence(
        self,
        contents: Sequence[Sequence[Product]],
        recorded: np.ndarray,
        photo: np.ndarray,
        sums: np.ndarray,
        prior: np.ndarray,
    ) -> np.ndarray:
        """(N,) Bayes factor of the photo: missed transaction against right record.

        It is learned from pairs of neighbouring photos of one bin: a photo with its own record is an example of a
        right record, a photo with its neighbour's record one of a missed transaction. Where the calibration part has
        too few pairs, it is the Bayes factor of the counts alone (`Posterior.evidence`).

        Args:
            contents: (N,) the products of each record, all of known sizes.
            recorded: (N,) class of each record's total.
            photo: (N, C) what the model predicts from the photos.
            sums: (N, len(SUMS)) what it predicts of the sums.
            prior: (C,) class frequencies among training bins.
        """
        if not self.missed.any():
            return posterior_of(photo, np.array(self.counts.values)[recorded], self.counts, prior).evidence
        inputs = self._inputs(contents, recorded, photo, sums, prior)
        return np.exp(np.clip(self.missed[0] + inputs @ self.missed[1:], -5, 5))

    @property
    def calibration(self) -> Calibration:
        """Calibration of `totals`."""
        return Calibration.of_joint(self.counts, self.scores)

    def _terms(
        self, contents: Sequence[Sequence[Product]], photo: np.ndarray, sums: np.ndarray, prior: np.ndarray
    ) -> np.ndarray:
        """(N, C, 3) the logarithms that the exponents multiply."""
        mean_volume = np.array([np.mean([product.volume for product in _there(each)]) for each in contents])
        expected = np.log1p(mean_volume[:, None] * np.array(self.counts.values))
        misfit = -((sums[:, [_LOG_VOLUME]] - expected) ** 2)
        return np.stack([np.log(self.list_only(contents)), np.log(np.maximum(photo, 1e-6) / prior), misfit], axis=-1)

    @staticmethod
    def _inputs(
        contents: Sequence[Sequence[Product]],
        recorded: np.ndarray,
        photo: np.ndarray,
        sums: np.ndarray,
        prior: np.ndarray,
    ) -> np.ndarray:
        classes = np.arange(photo.shape[1])
        likelihood = np.log(np.maximum(photo[np.arange(len(recorded)), recorded], 1e-6) / prior[recorded])
        distance = abs(photo @ classes - recorded)
        residual = np.nan_to_num(abs(np.array([sums_of(each) for each in contents]) - sums))
        return np.column_stack([likelihood, distance, residual])

    def write(self, folder: Path) -> None:
        """Writes the judge to a model's folder."""
        write_part(folder / FILE, {**vars(self), "counts": str(self.counts)})

    @classmethod
    def read(cls, folder: Path) -> ContentsJudge | None:
        """Reads the judge of a model, None where it has none.

        Raises:
            DataError: If the file is damaged.
        """

        def make(fields: dict[str, Any]) -> ContentsJudge:
            return cls(**{**fields, "counts": Counts.parse(fields["counts"])})

        return read_part(folder / FILE, make, plain=("counts", "scores"))


def problem_of(products: Sequence[Product], recorded: int, counts: Counts) -> str:
    """Why the products of a record cannot be used, "" where they can.

    Example:
        >>> boxes, unknown = Product(2, (4.0, 3.0, 2.0), 0.5), Product(1, None, None, "height must be …, got 0 'in'")
        >>> problem_of([boxes], 2, Counts.parse("1-5")), problem_of([boxes], 3, Counts.parse("1-5"))
        ('', 'its products sum to 2, the record says 3')
        >>> problem_of([boxes, unknown], 3, Counts.parse("1-5"))
        "product 2: height must be …, got 0 'in'"
    """
    total = sum(product.quantity for product in products)
    if total != recorded:
        return f"its products sum to {total}, the record says {recorded}"
    if counts.index_of(recorded) is None:
        return f"the model counts {counts}"
    if has_sizes(products):
        return ""
    return _first_of("size_problem", products) or "the size of a product is not known"


def weight_problem_of(products: Sequence[Product]) -> str:
    """The reason why a given weight is not used, "" where there is none; the products are used without it."""
    return _first_of("weight_problem", products)


def _first_of(field: str, products: Sequence[Product]) -> str:
    for number, product in enumerate(products, 1):
        if product.quantity and (problem := getattr(product, field)):
            return f"product {number}: {problem}"
    return ""


def has_sizes(products: Sequence[Product]) -> bool:
    """True if there is a product, and the size of each is known: what a judge of contents needs.

    Example:
        >>> sized, unsized, gone = Product(1, (4.0, 3.0, 2.0), None), Product(1, None, 0.5), Product(0, None, None)
        >>> has_sizes([sized, gone]), has_sizes([sized, unsized]), has_sizes([gone])
        (True, False, False)
    """
    there = _there(products)
    return bool(there) and all(product.sides_in for product in there)


def _there(products: Sequence[Product]) -> list[Product]:
    return [product for product in products if product.quantity]


def _design(contents: Sequence[Sequence[Product]]) -> np.ndarray:
    """(N, F) features of lists, in columns of their own for lists of one product, of two, and so on.

    They are NaN where a weight is not known.
    """
    rows = []
    for products in map(_there, contents):
        volumes, faces = ([getattr(product, name) for product in products] for name in ("volume", "face"))
        weights = [np.nan if product.weight_lb is None else product.weight_lb for product in products]
        figures = [1.0]
        for values in (volumes, weights, faces):
            figures += np.log1p([np.mean(values), np.min(values), np.max(values), np.sum(values)]).tolist()
        row = np.zeros((_MOST_PRODUCTS, len(figures)))
        row[min(len(products), _MOST_PRODUCTS) - 1] = figures
        rows.append(row.ravel())
    return np.array(rows)


def _softmax(logits: np.ndarray) -> np.ndarray:
    likely = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.maximum(likely / likely.sum(axis=-1, keepdims=True), 1e-6)
