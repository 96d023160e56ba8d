"""What follows from the photos for the records."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from bincount.core.calibration import Calibration
from bincount.core.split import part_of
from bincount.core.verdicts import NOT_COUNTABLE, judge_records
from bincount.core.worklist import cost_of
from bincount.steps.reconciling.work import Work

_DIGITS = 6
_JUDGED = ("verdict", "probability", "direction", "size", "low", "high", "cost", "learned")


def judge(
    work: Work,
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
