"""What the books say of bins, row by row of a file."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bincount.dataset.metadata import LARGEST_COUNT, is_bin_id
from bincount.errors import DataError

_NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "bin_id", "bin"),
    "recorded": ("recorded",),
    "location": ("location",),
    "unit_value": ("unit_value", "unit value"),
}
_NEEDED = ("id", "recorded")
_WHOLE = re.compile(r"[+]?([0-9]{1,9})(?:\.0{1,9})?")

_NUMBER = re.compile(r"[0-9]+(?:\.[0-9]+|,[0-9]{1,2}|,[0-9]{4,})?(?:[eE][+-]?[0-9]{1,2})?")


@dataclass(frozen=True, slots=True)
class InventoryRow:
    """One bin as the books have it.

    Attributes:
        id: The bin's id; text as it stands where it is none.
        recorded: The recorded count, None where `problem` says why.
        location: Where the bin is, "" where nothing is said.
        unit_value: What one item is worth on average, None where the file has no such column.
        problem: Why the row cannot be held against a photo, "" where it can.
    """

    id: str
    recorded: int | None
    location: str = ""
    unit_value: float | None = None
    problem: str = ""

    @property
    def has_photo(self) -> bool:
        """Whether there may be a photo to look at: the id names one."""
        return is_bin_id(self.id)


def columns_of(
    header: Sequence[object],
    *,
    name: str,
    names: Mapping[str, tuple[str, ...]] = _NAMES,
    needed: Sequence[str] = _NEEDED,
) -> dict[str, int]:
    """Finds the columns of a file, one of records unless other columns are named.

    Args:
        header: Titles; capitals and spaces around them do not matter.
        name: The file's name, for the message.
        names: By column, the titles that mean it.
        needed: Columns that must be there.

    Returns:
        Places of the columns that are there.

    Raises:
        DataError: If a needed column is missing, or one stands twice.

    Example:
        >>> columns_of(["Recorded", "bin_id", "aisle"], name="stock.csv")
        {'id': 1, 'recorded': 0}
    """
    titles = [str(title).strip().lower() for title in header]
    found = {}
    for column, known in names.items():
        places = [place for place, title in enumerate(titles) if title in known]
        if len(places) > 1 or (not places and column in needed):
            others = " and ".join(other for other in names if other not in needed)
            raise DataError(
                f"{name}: must have one column {column!r}, got {len(places)} among {', '.join(titles)[:200]!r}. "
                f"Name the columns in the first line: {', '.join(needed)} and, if you like, {others}."
            )
        if places:
            found[column] = places[0]
    return found


def row_of(values: Mapping[str, object], *, where: str) -> InventoryRow:
    """Reads one row. What is wrong with an id or a record is kept in it: every bin must be accounted for.

    Args:
        values: By column of `columns_of`; text, or numbers of a parquet file.
        where: File and line, for the message.

    Raises:
        DataError: If `unit_value` is no number >= 0: a worth of nothing would hide the bin.
    """
    bin_id = text_of(values["id"])
    recorded, problem = _recorded(values["recorded"])
    if not is_bin_id(bin_id):
        problem = "id is no bin's id"
    unit_value = _value(values["unit_value"], where) if "unit_value" in values else None
    return InventoryRow(bin_id, recorded, text_of(values.get("location")), unit_value, problem)


def text_of(value: object) -> str:
    """A field's text without the spaces around it, "" where there is nothing."""
    return "" if value is None else str(value).strip()


def count_of(value: object) -> int | None:
    """The whole number from 0 to `LARGEST_COUNT` that a field holds, None where it holds anything else.

    Example:
        >>> count_of(" 3.0 "), count_of("-1"), count_of("2.5"), count_of(True)
        (3, None, None, None)
    """
    match = _WHOLE.fullmatch(text_of(value))
    sound = match is not None and int(match[1]) <= LARGEST_COUNT and not isinstance(value, bool)
    return int(match[1]) if match is not None and sound else None


def _recorded(value: object) -> tuple[int | None, str]:
    text, count = text_of(value), count_of(value)
    if text in ("", "nan", "NaN", "None"):
        return None, "recorded count is missing"
    if count is None:
        return None, f"recorded count is no whole number from 0 to {LARGEST_COUNT}: {text[:20]}"
    return count, ""


def _value(value: object, where: str) -> float:
    text = text_of(value)
    # A comma is a decimal one, unless it may as well set thousands apart.
    sound = _NUMBER.fullmatch(text)
    number = float(text.replace(",", ".")) if sound else -1
    if not 0 <= number < 1e12:
        raise DataError(
            f"{where}: unit_value must be a number >= 0, got {text[:40]!r}. "
            "Fix it, or leave the column out: then every record counts the same."
        )
    return number
