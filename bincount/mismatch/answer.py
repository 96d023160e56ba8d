"""The served answer about one photo."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from bincount.counts import Counts
from bincount.mismatch.calibration import Calibration
from bincount.mismatch.verdicts import NOT_COUNTABLE, compare_records

SAME_WITHIN = 1e-4
"""Largest difference of a probability between two answers that are the same; their counts must be equal, too."""

SAME_WITHIN_BFLOAT16 = 0.02
"""Largest difference of a probability, as `SAME_WITHIN`, where one of the answers was computed in bfloat16."""


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


class Evidence(NamedTuple):
    """Evidence beside the bin's photo: an earlier photo of the bin, the products on its record, or both.

    Attributes:
        distribution: (C,) distribution over counts from the photo and this evidence; None where none of it is used.
        calibration: The model's calibration for such distributions; None with `distribution`.
        counted: The count that was confirmed with the earlier photo, None where none is used.
        missed: Bayes factor of a missed transaction, None where no products are used.
        unchanged: Whether the model knows bins in which nothing moved; otherwise it cannot tell that nothing did.
        problems: Why evidence that was sent, or a weight among it, is not used, by "before_problem" and
            "contents_problem".
    """

    distribution: np.ndarray | None
    calibration: Calibration | None
    counted: int | None
    missed: float | None
    unchanged: bool
    problems: Mapping[str, str]


def answers_of(
    probabilities: np.ndarray,
    counts: Counts,
    calibration: Calibration | None = None,
    recorded: Sequence[int | None] | None = None,
    evidence: Sequence[Evidence | None] | None = None,
) -> list[dict]:
    """Served answers for distributions, with verdicts where there are records.

    Args:
        probabilities: (N, C), each row summing to 1.
        counts: The C classes.
        calibration: The model's; None for one that was registered without.
        recorded: (N,) recorded counts, None for a bin without; None for no records at all.
        evidence: (N,) what else is known of a bin, None for one without; None for nothing at all.

    Returns:
        A dict for each bin with the fields of `answer_of`, and with

        - `low` and `high`, the 95 % prediction interval, if there is a calibration;
        - `mismatch_probability`, `direction` and `verdict` (`mismatch.verdicts`), if there is a record, too; the first
          two are None where the record is not countable;
        - `change`, the most probable difference to the count before, and `change_probabilities`, if an earlier photo
          is used: see `changes_of`;
        - `before_problem` or `contents_problem`, if evidence that was sent, or a weight among it, is not used: the
          reason.

        Where other evidence is used, all of them are computed from the photo and this evidence together.
    """
    records = [None] * len(probabilities) if recorded is None else list(recorded)
    answers = _answers(probabilities, counts, calibration, records)
    for row, more in enumerate(evidence or ()):
        if more is None:
            continue
        if more.distribution is not None:
            missed = None if more.missed is None else np.array([more.missed])
            (answers[row],) = _answers(more.distribution[None], counts, more.calibration, [records[row]], missed)
        if more.distribution is not None and more.counted is not None:
            answers[row] |= changes_of(more.distribution, counts, more.counted, unchanged=more.unchanged)
        answers[row] |= more.problems
    return answers


def changes_of(distribution: np.ndarray, counts: Counts, counted: int, *, unchanged: bool) -> dict:
    """The change since an earlier count.

    Args:
        distribution: (C,) distribution over the count now.
        counts: The C classes.
        counted: The earlier count.
        unchanged: Whether the model knows bins in which nothing moved. Otherwise no probability of that is given.

    Returns:
        `change`, the most probable one, None where the open class is and `counted` is in it, too; and
        `change_probabilities` by change, such as "-1", and "+2+" for two or more.

    Example:
        >>> changes_of(np.array([0.1, 0.2, 0.7]), Counts.parse("2-3+"), 2, unchanged=False)
        {'change': 2, 'change_probabilities': {'+1': 0.2, '+2+': 0.7}}
        >>> changes_of(np.array([0.1, 0.2, 0.7]), Counts.parse("2-3+"), 8, unchanged=True)
        {'change': None, 'change_probabilities': {'-6': 0.1, '-5': 0.2, '-4+': 0.7}}
    """
    changes = [value - counted for value in counts.values]
    best = int(np.argmax(distribution))
    in_open_class = counts.open_top and best == len(counts) - 1
    names = [
        f"{change:+d}{'+' if name.endswith('+') else ''}" for change, name in zip(changes, counts.names, strict=True)
    ]
    return {
        "change": None if in_open_class and changes[best] <= 0 else changes[best],
        "change_probabilities": {
            name: float(value) for name, value in zip(names, distribution, strict=True) if unchanged or name != "+0"
        },
    }


def _answers(
    probabilities: np.ndarray,
    counts: Counts,
    calibration: Calibration | None,
    records: Sequence[int | None],
    missed: np.ndarray | None = None,
) -> list[dict]:
    answers = [answer_of(row, counts) for row in probabilities]
    if calibration is None or not answers:
        return answers
    numbers = np.asarray([value or 0 for value in records])
    verdicts = compare_records(probabilities, numbers, calibration, missed=missed)
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

    Prediction interval and verdict are not compared: near a threshold a
    difference in the last digit of a probability may change them.

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
