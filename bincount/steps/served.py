"""What a server of a model must answer, whoever started it."""

from __future__ import annotations

from bincount.core.answers import SAME_WITHIN, SAME_WITHIN_BFLOAT16, same_answer
from bincount.core.errors import DataError, StoreError
from bincount.edge.model_server import count_bins
from bincount.edge.registry import Version

Golden = list[tuple[str, bytes, dict]]

BFLOAT16 = "bincount.bfloat16"
"""Tag of a version: whether it may be served in bfloat16 ("true" or "false"); absent where that was not tried."""


def within_of(version: Version) -> float:
    """How far a version's served probabilities may be from the offline ones."""
    return SAME_WITHIN_BFLOAT16 if version.tags.get(BFLOAT16) == "true" else SAME_WITHIN


def wrong_with(url: str, golden: Golden, *, token: str | None, timeout_s: float, within: float) -> str | None:
    """Asks a server for golden bins, and about something that is no photo.

    Args:
        url: The server.
        golden: Id, photo and offline answer of each bin (`steps.golden`).
        token: What the server asks of its clients, None for nothing.
        timeout_s: How long to wait for one answer.
        within: How far its probabilities may be from the offline ones (`within_of`).

    Returns:
        What is wrong with its answers, None where nothing is.
    """
    for name, photo, expected in golden:
        try:
            (answer,) = count_bins(url, [photo], token=token, timeout_s=timeout_s)
        except (DataError, StoreError) as error:
            return str(error)
        try:
            same = same_answer(expected, answer, within=within)
        except (KeyError, TypeError):
            return f"bin {name} is answered with {answer!r:.200}."
        if not same:
            return f"bin {name} should be {said(expected)}, and is answered with {said(answer)}."
    try:
        taken = count_bins(url, [b"no photo"], token=token, timeout_s=timeout_s)
    except DataError as refusal:
        return f"its refusal shows a stack trace: {refusal}" if "Traceback" in str(refusal) else None
    except StoreError as error:
        return f"what is no photo should be refused with HTTP 400: {error}"
    return f"what is no photo is answered with {taken!r:.200}."


def said(answer: dict) -> str:
    """An answer in a few characters.

    Example:
        >>> said({"count": 3, "confidence": 0.61, "probabilities": {}})
        '3 (0.6100)'
    """
    return f"{answer['count']} ({answer['confidence']:.4f})"
