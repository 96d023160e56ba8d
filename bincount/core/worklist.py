"""The bins in the order in which to count them, and what counting them is expected to bring."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bincount.core.verdicts import MATCH, MISMATCH, NOT_COUNTABLE

COLUMNS = (
    *("id", "location", "recorded", "predicted", "probabilities", "verdict", "mismatch_probability", "direction"),
    *("expected_cost", "reason", "photo", "model_version", "manifest"),
)
"""Of the worklist, in order."""

_POINTS = 200  # of a curve, at the most
_ASKS_TO_BE_RUN = ("=", "+", "-", "@", "\t", "\r")


def cost_of(probability: np.ndarray, size: np.ndarray, unit_value: np.ndarray, miss_cost: float) -> np.ndarray:
    """What it is expected to cost not to count each bin.

    Args:
        probability: (N,) that the record is wrong.
        size: (N,) items that it is off by if so.
        unit_value: (N,) worth of an item, NaN where nothing is said.
        miss_cost: What a wrong record that is not found costs by itself.

    Returns:
        (N,) probability x (miss_cost + size x unit_value).

    Example:
        >>> cost_of(np.array([0.5, 0.5]), np.array([2.0, 2.0]), np.array([3.0, np.nan]), 1.0)
        array([3.5, 0.5])
    """
    return probability * (miss_cost + size * np.nan_to_num(unit_value))


def reason_of(verdict: str, recorded: int, direction: str, low: str, high: str, *, counts: str, alpha: float) -> str:
    """Says in words why a bin stands where it stands.

    Args:
        verdict: Of `core.verdicts`.
        recorded: What the books say.
        direction: "fewer" or "more".
        low: Name of the least count of the prediction set.
        high: Name of the greatest.
        counts: What the model counts, such as "1-5".
        alpha: Share of right records that a set may miss.

    Example:
        >>> reason_of("mismatch", 5, "fewer", "1", "2", counts="1-5", alpha=0.05)
        'the photo leaves 1 to 2 possible (95 % sure): probably fewer than recorded'
    """
    if verdict == NOT_COUNTABLE:
        return f"the model counts {counts}: a record of {recorded} cannot be held against a photo"
    possible = low if low == high else f"{low} to {high}"
    leaves = f"the photo leaves {possible} possible ({100 * (1 - alpha):.4g} % sure)"
    says = {MISMATCH: f"probably {direction} than recorded", MATCH: "and speaks for the record"}
    return f"{leaves}: {says[verdict]}" if verdict in says else f"{leaves}, the record among them"


def neutral(text: str) -> str:
    """A CSV field that no spreadsheet takes for a formula: what begins like one gets an apostrophe before it.

    Source:
        OWASP, CSV injection.

    Example:
        >>> neutral("=1+1"), neutral("A-12")
        ("'=1+1", 'A-12')
    """
    return f"'{text}" if text.startswith(_ASKS_TO_BE_RUN) else text


def curve_of(probabilities: Sequence[float] | np.ndarray) -> list[tuple[int, float]]:
    """How many wrong records are expected to be found by counting the first bins of a list.

    Args:
        probabilities: (N,) of each bin's record being wrong, in the list's order.

    Returns:
        Rising numbers of bins with the records expected to be found, from (0, 0) to all; 200 at the most.

    Example:
        >>> curve_of([0.5, 0.25, 0.25])
        [(0, 0.0), (1, 0.5), (2, 0.75), (3, 1.0)]
    """
    found = np.concatenate([[0.0], np.cumsum(probabilities)])
    # Near the start, where the curve bends and people count, the points lie closest.
    places = np.unique(np.round((len(found) - 1) * np.linspace(0, 1, _POINTS) ** 2).astype(int))
    places = places if len(found) > _POINTS else np.arange(len(found))
    return [(int(place), round(float(found[place]), 6)) for place in places]
