"""Metadata of a bin: the recorded count and products, and which strings are ids."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from bincount.dataset.keys import metadata_key
from bincount.dataset.rejection import InvalidObject

_BIN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")
_WHOLE = re.compile(r"\+?([0-9]{1,9})(?:\.0*)?")
LARGEST_COUNT = 100_000
"""Larger numbers are not accepted as counts."""


@dataclass(frozen=True, slots=True)
class Metadata:
    """The recorded content of one bin.

    Attributes:
        recorded: Number of items that are recorded for the bin, >= 0.
        skus: Keys of the products recorded in it, sorted; empty for an empty bin.
    """

    recorded: int
    skus: tuple[str, ...]


def is_bin_id(text: str) -> bool:
    """True if `text` may be a bin's id: letters, digits, "-" and "_", 64 at most.

    Ids come from outside and name objects and files, so nothing that could
    leave a folder passes.

    Example:
        >>> is_bin_id("00523"), is_bin_id("../523"), is_bin_id("")
        (True, False, False)
    """
    return _BIN_ID.fullmatch(text) is not None


def parse_metadata(bin_id: str, data: bytes) -> Metadata:
    """Reads the bucket's metadata JSON of one bin.

    Counts are whole numbers, as numbers or as text: `15`, `15.0` and `"15"` are the same, as in inventory files.

    Args:
        bin_id: The bin's id, for the message.
        data: The file's bytes: UTF-8 JSON with ``EXPECTED_QUANTITY`` and ``BIN_FCSKU_DATA``.

    Raises:
        InvalidObject: If the JSON is broken, a count is not a whole number >= 0, or the recorded count is not the sum
            of its products' quantities.
    """
    try:
        document = json.loads(data)
    except (ValueError, RecursionError):
        raise _bad(bin_id, "metadata is no JSON", f"must be JSON, got {data[:40]!r}") from None
    if not isinstance(document, dict):
        raise _bad(bin_id, "metadata is no JSON object", f"must be a JSON object, got {type(document).__name__}")
    recorded = _count_of(document.get("EXPECTED_QUANTITY"))
    if recorded is None:
        rule = f"EXPECTED_QUANTITY must be a whole number >= 0, got {document.get('EXPECTED_QUANTITY')!r:.40}"
        raise _bad(bin_id, "recorded count is no count", rule)
    products = document.get("BIN_FCSKU_DATA")
    if not isinstance(products, dict):
        rule = f"BIN_FCSKU_DATA must be an object, got {type(products).__name__}"
        raise _bad(bin_id, "products are no object", rule)
    given = [product.get("quantity") if isinstance(product, dict) else None for product in products.values()]
    quantities = [quantity for value in given if (quantity := _count_of(value)) is not None]
    if len(quantities) < len(given):
        rule = f"every quantity must be a whole number >= 0, got {given!r:.80}"
        raise _bad(bin_id, "quantity is no count", rule)
    if sum(quantities) != recorded:
        rule = f"EXPECTED_QUANTITY must be the sum of its products' quantities {sum(quantities)}, got {recorded}"
        raise _bad(bin_id, "recorded count is not the sum of its products", rule)
    return Metadata(recorded, tuple(sorted(products)))


def _bad(bin_id: str, reason: str, rule: str) -> InvalidObject:
    aside = "Fix the file, or let ingest set it aside (it does by default)."
    return InvalidObject(reason, f"{metadata_key(bin_id)}: {rule}. {aside}")


def _count_of(value: object) -> int | None:
    if isinstance(value, str):
        value = int(match[1]) if (match := _WHOLE.fullmatch(value.strip())) else None
    elif isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= LARGEST_COUNT:
        return value
    return None
