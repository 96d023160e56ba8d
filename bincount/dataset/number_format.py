"""Numbers as spreadsheets of any country write them: decimal marks, and marks between thousands.

`1.250` is 1250 in Berlin and 1.25 in Boston. Such a number is read only where other numbers of its
column, or else of its file, show which mark is the decimal one.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from decimal import Decimal
from numbers import Real

_SPACED = re.compile(r"(?<=[0-9])[ \u00a0\u2009\u202f'\u2019](?=[0-9]{3}(?![0-9]))")
_SHAPE = re.compile(r"[+]?([0-9]+(?:[.,][0-9]+)*)([eE][+-]?[0-9]{1,2})?")
_GROUPED = re.compile(r"[1-9][0-9]{0,2}(?:[.,][0-9]{3})+")


class AmbiguousNumberError(ValueError):
    """A number such as "1.250" whose mark may be a decimal one or one between thousands."""

    @property
    def readings(self) -> tuple[str, str]:
        """The number if its mark is one between thousands, and if it is a decimal one: ("1250", "1.250")."""
        digits = str(self)
        return digits.replace(".", "").replace(",", ""), digits.replace(",", ".")


def decimal_mark_of(value: object) -> str | None:
    """The decimal mark that a number proves by its form, "." or ","; None where it proves none.

    Example:
        >>> [decimal_mark_of(text) for text in ("12,50", "1.234.567", "1,234.5", "0.250", "1.250", "7")]
        [',', ',', '.', '.', None, None]
    """
    if not isinstance(value, str) or not (parts := _parts_of(value)):
        return None
    digits, exponent = parts
    marks = re.sub("[0-9]", "", digits)
    if not marks:
        return None
    last = marks[-1]
    if len(set(marks)) == 2:
        return last if _is_grouped(digits.rpartition(last)[0]) else None
    other = "," if last == "." else "."
    if len(marks) > 1:
        return other if _is_grouped(digits) else None
    return None if _is_grouped(digits) and not exponent else last


def decimal_marks(proofs: Mapping[str, Iterable[str]]) -> dict[str, str | None]:
    """The decimal mark of each column: its own, or that of the file's other columns where it shows none.

    Args:
        proofs: By column, the marks that its numbers prove.

    Returns:
        "." or ",", None where nothing or a contradiction was found.

    Example:
        >>> decimal_marks({"recorded": [], "unit_value": [","]}), decimal_marks({"recorded": [".", ","]})
        ({'recorded': ',', 'unit_value': ','}, {'recorded': None})
    """
    every = {mark for marks in proofs.values() for mark in marks}
    return {column: _only(set(marks) or every) for column, marks in proofs.items()}


def number_of(value: object, mark: str | None = None) -> Decimal | None:
    """The number in a field; None where it holds none.

    Args:
        value: Text, or a number of a parquet file.
        mark: The column's decimal mark, None where it is not known.

    Raises:
        AmbiguousNumberError: If only `mark` could tell decimals from thousands, and it is None.

    Example:
        >>> number_of("1.250", ","), number_of("1.250", "."), number_of("1.250,5"), number_of("1'250")
        (Decimal('1250'), Decimal('1.250'), Decimal('1250.5'), Decimal('1250'))
    """
    if isinstance(value, bool):
        return None
    if isinstance(value, Decimal):
        return value if value.is_finite() else None
    if isinstance(value, Real):
        return Decimal(float(value) if not isinstance(value, int) else value) if math.isfinite(value) else None
    if not isinstance(value, str) or not (parts := _parts_of(value)):
        return None
    digits, exponent = parts
    if "." in digits or "," in digits:
        proved = decimal_mark_of(value)
        if proved is None and not _is_grouped(digits):
            return None
        mark = proved or mark
        if mark is None:
            raise AmbiguousNumberError(digits)
        digits = digits.replace("." if mark == "," else ",", "").replace(",", ".")
    return Decimal(digits + exponent)


def _parts_of(text: str) -> tuple[str, str] | None:
    match = _SHAPE.fullmatch(_SPACED.sub("", text.strip()))
    return (match[1], match[2] or "") if match else None


def _is_grouped(digits: str) -> bool:
    """True if each mark may stand between thousands, the same mark throughout."""
    return _GROUPED.fullmatch(digits) is not None and len(set(re.sub("[0-9]", "", digits))) == 1


def _only(marks: set[str]) -> str | None:
    return marks.pop() if len(marks) == 1 else None
