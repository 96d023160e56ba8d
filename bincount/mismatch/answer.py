"""What bincount answers about one photo."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from bincount.counts import Counts
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.verdicts import NOT_COUNTABLE, compare_records

SAME_WITHIN = 1e-4
"""Two answers are the same if their counts are equal and no probability differs by more."""

SAME_WITHIN_BFLOAT16 = 0.02
"""The same where one of them was computed in bfloat16."""


def answer_of(probabilities: np.ndarray, counts: Counts) -> dict:
    """Words a distribution over counts as a served answer, in plain Python types.

    Args:
        probabilities: (C,) summing to 1.
        counts: The C classes.

    Returns:
        `count`, the most probable one (of an open class its lowest count),
        `confidence`, its probability, and `probabilities` by class name.

    Example:
        >>> answer_of(np.array([0.25, 0.5, 0.25]), Counts.parse("1-3"))
        {'count': 2, 'confidence': 0.5, 'probabilities': {'1': 0.25, '2': 0.5, '3': 0.25}}
    """
    best = int(np.argmax(probabilities))
    return {
        "count": counts.values[best],
        "confidence": float(probabilities[best]),
        "probabilities": {name: float(value) for name, value in zip(counts.names, probabilities, strict=True)},
    }


def answers_of(
    probabilities: np.ndarray,
    counts: Counts,
    calibration: Calibration | None = None,
    recorded: Sequence[int | None] | None = None,
) -> list[dict]:
    """Words distributions as served answers, and what they say of the records where there are any.

    Args:
        probabilities: (N, C), each row summing to 1.
        counts: The C classes.
        calibration: The model's; None for one that was registered without.
        recorded: (N,) what the books say, None where nothing is asked; None for no records at all.

    Returns:
        `answer_of` each. With a calibration also `low` and `high`, the counts
        that the photo leaves possible; and where there is a record `mismatch_probability`,
        `direction` and `verdict` (`mismatch.verdicts`); the first two are None where it is not countable.
    """
    answers = [answer_of(row, counts) for row in probabilities]
    if calibration is None or not answers:
        return answers
    asked = [None] * len(answers) if recorded is None else list(recorded)
    judged = compare_records(probabilities, np.asarray([value or 0 for value in asked]), calibration)
    for row, (answer, value) in enumerate(zip(answers, asked, strict=True)):
        answer |= {"low": int(judged.low[row]), "high": int(judged.high[row])}
        if value is not None:
            countable = judged.verdict[row] != NOT_COUNTABLE
            answer |= {
                "mismatch_probability": float(judged.probability[row]) if countable else None,
                "direction": judged.direction[row] if countable else None,
                "verdict": judged.verdict[row],
            }
    return answers


def same_answer(one: dict, other: dict, *, within: float = SAME_WITHIN) -> bool:
    """Whether two answers say the same: equal counts, probabilities at most `within` apart.

    What follows from the probabilities is not compared: at a threshold it may
    turn over with the last digit.

    Example:
        >>> one = answer_of(np.array([0.3, 0.7]), Counts.parse("1-2"))
        >>> same_answer(one, answer_of(np.array([0.30005, 0.69995]), Counts.parse("1-2")))
        True
        >>> same_answer(one, answer_of(np.array([0.31, 0.69]), Counts.parse("1-2")))
        False
    """
    ours, theirs = one["probabilities"], other["probabilities"]
    if one["count"] != other["count"] or ours.keys() != theirs.keys():
        return False
    return all(abs(ours[name] - theirs[name]) <= within for name in ours)
