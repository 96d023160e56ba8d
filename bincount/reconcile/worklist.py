"""The bins in the order in which to count them, and what counting them is expected to bring."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from bincount.dataset.split import part_of
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.verdicts import MATCH, MISMATCH, NOT_COUNTABLE, judge_records
from bincount.reconcile.state import ReconcileState

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
        verdict: Of `mismatch.verdicts`.
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


_DIGITS = 6
_JUDGED = ("verdict", "probability", "direction", "size", "low", "high", "cost", "learned")


def judge_worklist(
    work: ReconcileState,
    calibration: Calibration,
    *,
    error_rate: float,
    alpha: float,
    temperature: float,
    miss_cost: float,
    is_source: bool,
) -> None:
    """Gives every bin its verdict.

    Args:
        work: The bins, their photos counted.
        calibration: The model's.
        error_rate: Share of records that are wrong.
        alpha: Share of right records that may be called a mismatch.
        temperature: Of the model's probabilities, where records are weighed.
        miss_cost: What a wrong record that is not found costs by itself.
        is_source: Whether the model learned from bins of this very source.

    Raises:
        ConfigError: If `error_rate` or `alpha` is not above 0 and below 1.
    """
    columns = "id, recorded, unit_value, probabilities"
    for page in work.pages(columns, "1"):
        blank = [(NOT_COUNTABLE, None, "", None, None, None, None, 0, row[0]) for row in page]
        work.update(_JUDGED, blank)
        known = [row for row in page if row[4] is not None and row[2] is not None]
        if known:
            said = {"error_rate": error_rate, "alpha": alpha, "temperature": temperature}
            work.update(_JUDGED, _rows(known, calibration, said, miss_cost, is_source))


def _rows(
    page: list[tuple], calibration: Calibration, said: dict[str, float], miss_cost: float, is_source: bool
) -> Iterator[tuple]:
    places, ids, recorded, values, blobs = zip(*page, strict=True)
    probabilities = np.stack([np.frombuffer(blob) for blob in blobs])
    judged = judge_records(probabilities, np.asarray(recorded), calibration, **said)
    cost = cost_of(judged.probability, judged.size, np.asarray(values, dtype=float), miss_cost)
    for row, verdict in enumerate(judged.verdict):
        countable = verdict != NOT_COUNTABLE
        yield (
            verdict,
            round(float(judged.probability[row]), _DIGITS) if countable else None,
            judged.direction[row],
            round(float(judged.size[row]), _DIGITS) if countable else None,
            int(judged.low[row]),
            int(judged.high[row]),
            round(float(cost[row]), _DIGITS) if countable else None,
            int(is_source and part_of(ids[row]) != "test"),
            places[row],
        )
