"""Names for things that are made of other things."""

from __future__ import annotations

import hashlib
import json


def digest_of(value: object) -> str:
    """Names a JSON-ready value: 16 hex digits of the SHA-256 of its canonical JSON.

    Equal values have equal names whatever the order of their keys.

    Raises:
        TypeError: If `value` holds what JSON does not know.
        ValueError: If it holds NaN or an infinity.

    Example:
        >>> digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
        True
    """
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
