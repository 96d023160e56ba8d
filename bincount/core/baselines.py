"""What answers without looking would reach: no figure says anything without it."""

from __future__ import annotations

import numpy as np

from bincount.core.counts import Counts
from bincount.core.metrics import summary_of, values_per_bin
from bincount.core.reliability import calibration_per_bin

FIGURES = ("exact", "within_one", "mae", "rmse", "nll", "rps", "ece")
"""What a model is judged by."""


def baselines_of(truth: np.ndarray, counts: Counts) -> dict[str, dict[str, float | None]]:
    """The same figures of what answers without looking: the hardest such baselines, told these bins' frequencies.

    Args:
        truth: (N,) class index of each bin.
        counts: The C classes.

    Returns:
        exact, within_one, mae, rmse, nll, rps and ece of "largest_class", which
        claims the largest class with certainty (so its nll is infinite: None),
        and of "class_prior", which claims the class frequencies.

    Example:
        >>> baselines_of(np.array([0, 0, 1]), Counts.parse("1-2"))["largest_class"]["exact"]
        0.6666666666666666
    """
    frequency = np.bincount(truth, minlength=len(counts)) / len(truth)
    answers = {"largest_class": np.eye(len(counts))[frequency.argmax()], "class_prior": frequency}
    figures: dict[str, dict[str, float | None]] = {}
    for name, row in answers.items():
        rows = np.tile(row, (len(truth), 1))
        found = summary_of(values_per_bin(rows, truth, counts), calibration_per_bin(rows, truth))
        figures[name] = {figure: found[figure] for figure in FIGURES}
    if frequency.max() < 1:
        figures["largest_class"]["nll"] = None
    return figures
