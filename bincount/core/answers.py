"""What bincount answers about one photo."""

from __future__ import annotations

import numpy as np

from bincount.core.counts import Counts

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


def same_answer(one: dict, other: dict, *, within: float = SAME_WITHIN) -> bool:
    """Whether two answers say the same: equal counts, probabilities at most `within` apart.

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
