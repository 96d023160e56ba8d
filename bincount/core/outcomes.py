"""What counting found, bin by bin, and which of several counts of a bin holds."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

from bincount.core.errors import DataError
from bincount.core.inventory import count_of, text_of
from bincount.core.records import LARGEST_COUNT, is_bin_id

NAMES: Mapping[str, tuple[str, ...]] = {
    "id": ("id", "bin_id", "bin"),
    "counted": ("counted",),
    "when": ("when",),
    "by": ("by",),
}
NEEDED = ("id", "counted", "when")
"""Columns of an outcomes file, by the titles that mean them, and those that must be there."""

_LONGEST_NAME = 200
_TIME_ZONES = timedelta(days=1)


@dataclass(frozen=True, slots=True, order=True)
class Outcome:
    """One blind count of one bin.

    Attributes:
        id: The bin's id.
        when: When it was counted, in UTC and ISO 8601, so that texts follow one another as times do.
        counted: How many items there were.
        by: Who counted, "" where nothing is said.
    """

    id: str
    when: str
    counted: int
    by: str = ""


def outcome_of(values: Mapping[str, object], *, where: str, now: datetime) -> Outcome:
    """Reads one row.

    Args:
        values: By column of `NAMES`; text, or values of a parquet file.
        where: File and line, for the message.
        now: No count can be of later than a day from then (time zones differ).

    Raises:
        DataError: If the row is not what it should be.

    Example:
        >>> row = {"id": "00523", "counted": "3", "when": "2026-11-20", "by": "Ada"}
        >>> outcome_of(row, where="counts.csv, line 2", now=datetime(2026, 11, 22, tzinfo=UTC))
        Outcome(id='00523', when='2026-11-20T00:00:00+00:00', counted=3, by='Ada')
    """
    bin_id, by = text_of(values["id"]), text_of(values.get("by"))
    if not is_bin_id(bin_id):
        raise DataError(f"{where}: id must be a bin's id, got {bin_id[:40]!r}. Copy it from the worklist.")
    counted = count_of(values["counted"])
    if counted is None:
        raise DataError(
            f"{where}: counted must be a whole number from 0 to {LARGEST_COUNT}, "
            f"got {text_of(values['counted'])[:40]!r}. "
            "Write the total of all items in the bin, or leave the row out if it was not counted."
        )
    if len(by) > _LONGEST_NAME:
        raise DataError(f"{where}: by must be a name of at most {_LONGEST_NAME} letters, got {len(by)}. Shorten it.")
    when = _time(values["when"])
    if when is None or when > now + _TIME_ZONES:
        rule = (
            "a date or time that is not in the future"
            if when
            else "a date or time such as 2026-11-20 or 2026-11-20T14:05"
        )
        raise DataError(f"{where}: when must be {rule}, got {text_of(values['when'])[:40]!r}. Fix it.")
    return Outcome(bin_id, when.isoformat(timespec="seconds"), counted, by)


def gather(rows: Iterable[tuple[str, Outcome]]) -> dict[str, list[tuple[str, Outcome]]]:
    """Collects the counts of one file by bin.

    A bin may stand there again with a later day: it was counted again. Twice
    on one day is refused, for it may as well be two parts of one bin, whose counts would have to be summed.

    Args:
        rows: Each with its file and line.

    Returns:
        Rows as they came, by id.

    Raises:
        DataError: If a bin stands twice on one day.
    """
    days: dict[tuple[str, str], str] = {}
    found: dict[str, list[tuple[str, Outcome]]] = {}
    for where, row in rows:
        before = days.setdefault((row.id, row.when[:10]), where)
        if before != where:
            raise DataError(
                f"{where}: each bin must stand there once a day with its total, got {row.id!r} again after {before}. "
                "Sum the rows of one bin, or keep the count that holds."
            )
        found.setdefault(row.id, []).append((where, row))
    return found


def settle(outcomes: Iterable[Outcome]) -> tuple[list[Outcome], list[str]]:
    """Decides which count of each bin holds, in whatever order they came.

    The latest does. If several at that very time differ, nobody can
    tell: the bin is left out of every figure until a later count decides.

    Returns:
        The counts that hold, in the order of their ids, and the ids of the bins in conflict.

    Example:
        >>> early, late = Outcome("1", "2026-11-20T00:00:00+00:00", 3), Outcome("1", "2026-11-21T00:00:00+00:00", 4)
        >>> settle([late, early])[0] == [late], settle([late, Outcome("1", late.when, 5)])
        (True, ([], ['1']))
    """
    latest: dict[str, list[Outcome]] = {}
    for row in sorted(outcomes):
        held = latest.get(row.id)
        if held is None or row.when > held[0].when:
            latest[row.id] = [row]
        else:
            held.append(row)
    agreed = {bin_id: len({row.counted for row in rows}) == 1 for bin_id, rows in latest.items()}
    return [rows[0] for bin_id, rows in latest.items() if agreed[bin_id]], [each for each in latest if not agreed[each]]


def _time(value: object) -> datetime | None:
    try:
        if isinstance(value, date) and not isinstance(value, datetime):
            value = datetime(value.year, value.month, value.day)
        found = value if isinstance(value, datetime) else datetime.fromisoformat(text_of(value))
        return (found if found.tzinfo else found.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
