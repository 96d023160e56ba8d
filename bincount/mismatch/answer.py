"""The served answer about one photo."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from bincount.counts import Counts
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.verdicts import NOT_COUNTABLE, compare_records

SAME_WITHIN = 1e-4
"""Two answers are the same if their counts are equal and no probability differs by more."""

SAME_WITHIN_BFLOAT16 = 0.02
"""The same where one of them was computed in bfloat16."""


def answer_of(probabilities: np.ndarray, counts: Counts) -> dict:
    """The served answer for a distribution over counts, in plain Python types.

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


class History(NamedTuple):
    """What an earlier photo of a bin adds to its answer.

    Attributes:
        counted: The count that was confirmed then.
        joint: (C,) distribution over counts from both photos; None where the earlier one is not used.
        problem: Why it is not used, "" where it is.
    """

    counted: int
    joint: np.ndarray | None
    problem: str = ""


def answers_of(
    probabilities: np.ndarray,
    counts: Counts,
    calibration: Calibration | None = None,
    recorded: Sequence[int | None] | None = None,
    history: Sequence[History | None] | None = None,
    joint_calibration: Calibration | None = None,
) -> list[dict]:
    """Served answers for distributions, with verdicts where there are records.

    Args:
        probabilities: (N, C), each row summing to 1.
        counts: The C classes.
        calibration: The model's; None for one that was registered without.
        recorded: (N,) recorded counts, None for a bin without; None for no records at all.
        history: (N,) what earlier photos add, None for a bin without; None for no earlier photo at all.
        joint_calibration: The model's for distributions from two photos.

    Returns:
        `answer_of` each. With a calibration also `low` and `high`, the 95 %
        prediction interval; and where there is a record `mismatch_probability`, `direction`
        and `verdict` (`mismatch.verdicts`); the first two are None where it is not countable.
        Where an earlier photo is used, all of it is from both photos, beside `change`, the most probable
        difference to the count before, and `change_probabilities`; where it is not, `before_problem` says why.
    """
    records = [None] * len(probabilities) if recorded is None else list(recorded)
    answers = _single_answers(probabilities, counts, calibration, records)
    for row, earlier in enumerate(history or ()):
        if earlier is not None and earlier.joint is not None:
            (answers[row],) = _single_answers(earlier.joint[None], counts, joint_calibration, [records[row]])
            changes = {
                f"{value - earlier.counted:+d}": share
                for value, share in zip(counts.values, earlier.joint, strict=True)
            }
            answers[row] |= {
                "change": answers[row]["count"] - earlier.counted,
                "change_probabilities": {name: float(share) for name, share in changes.items()},
            }
        elif earlier is not None:
            answers[row]["before_problem"] = earlier.problem
    return answers


def _single_answers(
    probabilities: np.ndarray, counts: Counts, calibration: Calibration | None, records: Sequence[int | None]
) -> list[dict]:
    answers = [answer_of(row, counts) for row in probabilities]
    if calibration is None or not answers:
        return answers
    verdicts = compare_records(probabilities, np.asarray([value or 0 for value in records]), calibration)
    for row, (answer, value) in enumerate(zip(answers, records, strict=True)):
        answer |= {"low": int(verdicts.low[row]), "high": int(verdicts.high[row])}
        if value is not None:
            countable = verdicts.verdict[row] != NOT_COUNTABLE
            answer |= {
                "mismatch_probability": float(verdicts.probability[row]) if countable else None,
                "direction": verdicts.direction[row] if countable else None,
                "verdict": verdicts.verdict[row],
            }
    return answers


def same_answer(one: dict, other: dict, *, within: float = SAME_WITHIN) -> bool:
    """True if two answers have equal counts and probabilities at most `within` apart.

    What is derived from the probabilities is not compared: at a threshold the
    last digit may change it.

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
