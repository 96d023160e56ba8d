"""What a photo says of a record: match, mismatch, unsure, or that it cannot be counted."""

from __future__ import annotations

import math
import numbers
from dataclasses import dataclass

import numpy as np

from bincount.dataset.metadata import LARGEST_COUNT
from bincount.errors import DataError
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.conformal import ALPHA
from bincount.mismatch.likelihood import tempered
from bincount.mismatch.posterior import ERROR_RATE, record_posterior

MATCH, MISMATCH, UNSURE, NOT_COUNTABLE = "match", "mismatch", "unsure", "not_countable"

_SPEAKS_FOR = 1 / 3
"""Largest evidence (`Variance.evidence`) of a match: the photo is three times likelier if the record is right.
Jeffreys (Theory of probability, 1961, appendix B) calls from there on "substantial"."""


@dataclass(frozen=True)
class RecordVerdict:
    """What is said of N records.

    Attributes:
        low: (N,) the least count of the photo's prediction set.
        high: (N,) the greatest one; of an open class its lowest count.
        verdict: (N,) "mismatch": the record lies outside the prediction set;
            alpha of right records do, too. "match": it lies inside, and the photo is three
            times likelier with it right than wrong. "unsure": neither.
            "not_countable": the model has no class for it.
        probability: (N,) that the record is wrong, NaN where it is not countable.
        direction: (N,) "fewer" items than recorded or "more", "" where it is not countable.
        size: (N,) items that the record is off on average if it is wrong, NaN where it is not countable.
    """

    low: np.ndarray
    high: np.ndarray
    verdict: list[str]
    probability: np.ndarray
    direction: list[str]
    size: np.ndarray


def judge_records(
    probabilities: np.ndarray,
    recorded: np.ndarray,
    calibration: Calibration,
    *,
    error_rate: float = ERROR_RATE,
    alpha: float = ALPHA,
    temperature: float = 1.0,
) -> RecordVerdict:
    """Holds records against what a model says of the bins' photos.

    Args:
        probabilities: (N, C) calibrated distribution over the model's classes.
        recorded: (N,) what the books say, whole numbers >= 0.
        calibration: The model's.
        error_rate: Share of records that are wrong, before any photo is seen.
        alpha: Share of right records that may be called a mismatch.
        temperature: Tempers the distributions where records are weighed; the
            bounds stay as they are, for they are calibrated on what the model says.

    Raises:
        ConfigError: If `error_rate` or `alpha` is not above 0 and below 1.
    """
    counts = calibration.counts
    low, high = calibration.bounds(probabilities, alpha=alpha)
    weighed = tempered(probabilities, temperature)
    variance = record_posterior(weighed, recorded, counts, calibration.prior, error_rate=error_rate)
    classes = [counts.index_of(int(value)) for value in recorded]
    verdicts = []
    for row, index in enumerate(classes):
        if index is None:
            verdicts.append(NOT_COUNTABLE)
        elif not low[row] <= index <= high[row]:
            verdicts.append(MISMATCH)
        else:
            verdicts.append(MATCH if variance.evidence[row] <= _SPEAKS_FOR else UNSURE)
    values = np.asarray(counts.values)
    directions = [{-1: "fewer", 0: "", 1: "more"}[int(sign)] for sign in variance.direction]
    return RecordVerdict(values[low], values[high], verdicts, variance.probability, directions, variance.size)


def recorded_of(value: object) -> int | None:
    """Takes a recorded count from a request: whole numbers pass, however they are stored.

    Returns:
        The count; None for no value (null, NaN).

    Raises:
        DataError: If it is anything else.

    Example:
        >>> recorded_of(3), recorded_of(3.0), recorded_of(None), recorded_of(float("nan"))
        (3, 3, None, None)
    """
    if value is None or (isinstance(value, float | np.floating) and math.isnan(value)):
        return None
    is_number = isinstance(value, numbers.Real) and not isinstance(value, bool)
    if is_number and 0 <= value <= LARGEST_COUNT and value == int(value):  # type: ignore[operator,call-overload]
        return int(value)  # type: ignore[call-overload]
    shown = repr(value)[:40] if is_number else type(value).__name__
    raise DataError(
        f"recorded must be a whole number from 0 to {LARGEST_COUNT} or null, got {shown}. "
        "Send what the books say, or leave it out."
    )
