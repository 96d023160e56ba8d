"""Whether a model is as sure as it is right: reliability diagram and calibration error."""

from __future__ import annotations

import numpy as np

from bincount.core.metrics import counted

_INTERVALS, _DRAWS = 10, 200


def calibration_per_bin(probabilities: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Puts each bin's confidence minus its being right into the interval its confidence lies in.

    The absolute column means sum up to the expected calibration error (ECE,
    Guo et al. 2017) over ten equal intervals of confidence.

    Args:
        probabilities: (N, C) predicted distribution over classes.
        truth: (N,) class index of each bin.

    Returns:
        (N, 10), zero but in one column a row.

    Example:
        >>> gaps = calibration_per_bin(np.array([[0.9, 0.1], [0.2, 0.8]]), np.array([0, 0]))
        >>> float(abs(gaps.mean(axis=0)).sum().round(2))  # (|0.9 - 1| + |0.8 - 0|) / 2
        0.45
    """
    confidence = probabilities.max(axis=1)
    gaps = np.zeros((len(truth), _INTERVALS))
    gaps[np.arange(len(truth)), _interval_of(confidence)] = confidence - (counted(probabilities) == truth)
    return gaps


def ece_by_chance(probabilities: np.ndarray) -> float:
    """The ECE that 95 % of perfectly calibrated models with these confidences would stay below.

    Few bins show a calibration error by chance alone: up to 0.16 for 60 bins.
    Here being right is drawn with the very probability claimed (consistency
    resampling, Broecker and Smith 2007), so an ECE above this is the model's.
    """
    confidence = probabilities.max(axis=1)
    member = np.eye(_INTERVALS)[_interval_of(confidence)]  # (N, 10)
    rng = np.random.default_rng(0)
    found = [
        abs((confidence - (rng.random(len(confidence)) < confidence)) @ member).sum() / len(confidence)
        for _ in range(_DRAWS)
    ]
    return float(np.quantile(found, 0.95))


def diagram_of(probabilities: np.ndarray, truth: np.ndarray) -> list[dict]:
    """The reliability diagram: a row for each interval of confidence that holds bins.

    Args:
        probabilities: (N, C) predicted distribution over classes.
        truth: (N,) class index of each bin.

    Returns:
        Rows with `from` (the interval's lower end), `bins`, and on average their `confidence` and share `right`.
    """
    confidence = probabilities.max(axis=1)
    right = counted(probabilities) == truth
    interval = _interval_of(confidence)
    return [
        {
            "from": index / _INTERVALS,
            "bins": int((interval == index).sum()),
            "confidence": float(confidence[interval == index].mean()),
            "right": float(right[interval == index].mean()),
        }
        for index in np.unique(interval)
    ]


def _interval_of(confidence: np.ndarray) -> np.ndarray:
    """(N,) which of the equal intervals each confidence lies in."""
    return np.minimum((confidence * _INTERVALS).astype(int), _INTERVALS - 1)
