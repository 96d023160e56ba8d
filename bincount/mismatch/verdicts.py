"""Verdicts on records: match, mismatch, unsure, or not countable."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

import numpy as np

from bincount.dataset.metadata import LARGEST_COUNT
from bincount.errors import DataError
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.conformal import ALPHA
from bincount.mismatch.contents import MISSED_SHARE
from bincount.mismatch.likelihood import apply_temperature
from bincount.mismatch.posterior import ERROR_RATE, posterior_of

MATCH, MISMATCH, UNSURE, NOT_COUNTABLE = "match", "mismatch", "unsure", "not_countable"

_LARGEST_EVIDENCE_OF_MATCH = 1 / 3
"""Bayes factor (`Posterior.evidence`) up to which a record matches: the photo is three times likelier if it is right.
Jeffreys (Theory of probability, 1961, appendix B) calls evidence "substantial" from about this factor on."""


@dataclass(frozen=True)
class Verdicts:
    """Verdicts on N records.

    Attributes:
        low: (N,) lowest count of the prediction interval.
        high: (N,) highest count of it; of an open class its lowest count.
        verdict: (N,) "mismatch": the record lies outside the prediction interval; at most a share `alpha` of the right
            records does. "match": it lies inside, and the photo is at least three times likelier if the record is
            right than if it is wrong. "unsure": it lies inside, and the photo is less clear.
            "not_countable": the model has no class for the record.
        probability: (N,) that the record is wrong, NaN where it is not countable.
        direction: (N,) "fewer" items than recorded or "more", "" where it is not countable.
        size: (N,) expected absolute error in items if the record is wrong, NaN where it is not countable.
    """

    low: np.ndarray
    high: np.ndarray
    verdict: list[str]
    probability: np.ndarray
    direction: list[str]
    size: np.ndarray


def compare_records(
    probabilities: np.ndarray,
    recorded: np.ndarray,
    calibration: Calibration,
    *,
    error_rate: float = ERROR_RATE,
    alpha: float = ALPHA,
    temperature: float = 1.0,
    missed: np.ndarray | None = None,
) -> Verdicts:
    """Compares records with predictions.

    Args:
        probabilities: (N, C) calibrated distribution over the model's classes.
        recorded: (N,) recorded counts, whole numbers >= 0.
        calibration: The model's.
        error_rate: Prior share of wrong records.
        alpha: Share of right records that may be called a mismatch.
        temperature: Applied to the distributions for probabilities and evidence;
            the prediction interval is calibrated on the untempered ones.
        missed: (N,) Bayes factors of a missed transaction (`ContentsJudge.missed_evidence`). They are needed where
            `probabilities` are those given the list of products, which detect wrong quantities only.

    Raises:
        ConfigError: If `error_rate` or `alpha` is not above 0 and below 1.
    """
    counts = calibration.counts
    low, high = calibration.bounds(probabilities, alpha=alpha)
    scaled = apply_temperature(probabilities, temperature)
    posterior = posterior_of(scaled, recorded, counts, calibration.prior, error_rate=error_rate)
    if missed is not None:
        posterior = posterior.joined_with(missed, share=MISSED_SHARE, error_rate=error_rate)
    classes = [counts.index_of(int(value)) for value in recorded]
    verdicts = []
    for row, index in enumerate(classes):
        if index is None:
            verdicts.append(NOT_COUNTABLE)
        elif not low[row] <= index <= high[row]:
            verdicts.append(MISMATCH)
        else:
            verdicts.append(MATCH if posterior.evidence[row] <= _LARGEST_EVIDENCE_OF_MATCH else UNSURE)
    values = np.asarray(counts.values)
    directions = [{-1: "fewer", 0: "", 1: "more"}[int(sign)] for sign in posterior.direction]
    return Verdicts(values[low], values[high], verdicts, posterior.probability, directions, posterior.size)


def count_of(value: object, name: str) -> int | None:
    """Parses a count of a request, such as the recorded one; whole numbers of any numeric type pass.

    Returns:
        The count; None for no value (null, NaN).

    Raises:
        DataError: If it is anything else.

    Example:
        >>> [count_of(value, "recorded") for value in (3, 3.0, None, float("nan"))]
        [3, 3, None, None]
    """
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return None
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if is_number and 0 <= value <= LARGEST_COUNT and value == int(value):  # type: ignore[operator,call-overload]
        return int(value)  # type: ignore[call-overload]
    shown = repr(value)[:40] if is_number else type(value).__name__
    raise DataError(f"{name} must be a whole number from 0 to {LARGEST_COUNT} or null, got {shown}.")
