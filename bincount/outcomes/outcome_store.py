"""The outcomes that were brought back, for good: files that are only ever added."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

from bincount import locks
from bincount.dataset.inventory import count_of, text_of
from bincount.dataset.metadata import LARGEST_COUNT, is_bin_id
from bincount.errors import ConfigError, DataError
from bincount.files import write_atomically
from bincount.outcomes.worklist_reader import ListedRecord, WorklistOrigin

_FORMAT = "bincount-outcomes-1"


@dataclass(frozen=True, slots=True)
class StoredOutcomes:
    """A bin of a worklist and one count of it."""

    listed: ListedRecord
    outcome: Outcome


class OutcomeStore:
    """A folder of outcomes; each file is named by the digest of what is in it.

    A file holds what one import brought that was not there yet. It is written
    beside and renamed, so it is there whole or not at all.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Keeps other imports waiting, so that each sees what the one before has brought.

        Raises:
            ConfigError: If the folder cannot be written.
        """
        with contextlib.ExitStack() as held:
            try:
                held.enter_context(locks.exclusive_lock(self._folder / ".lock", "outcomes"))
                for left in self._folder.glob(".*.jsonl.*"):
                    left.unlink()  # of an import that was killed while it wrote
            except OSError as error:
                raise ConfigError(
                    f"{self._folder}: must be writable and have room, got {error}. Free some room, then import again."
                ) from error
            yield

    def add(self, origin: WorklistOrigin, rows: Sequence[StoredOutcomes]) -> int:
        """Adds what is not there yet, all or nothing; call it `alone`.

        Returns:
            How many rows were new.
        """
        there = {row.outcome for row in self.read().get(origin, [])}
        new = sorted((row for row in rows if row.outcome not in there), key=lambda row: row.outcome)
        if new:
            encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
            lines = [{"format": _FORMAT, **asdict(origin)}, *(_line(row) for row in new)]
            content = "".join(f"{encode(line)}\n" for line in lines).encode()
            write_atomically(self._folder / f"{_name(content)}.jsonl", [content])
        return len(new)

    def read(self) -> dict[WorklistOrigin, list[StoredOutcomes]]:
        """All outcomes by worklist, each once.

        Raises:
            DataError: If a file is not what it was.
        """
        found: dict[WorklistOrigin, dict[Outcome, StoredOutcomes]] = {}
        for path in sorted(self._folder.glob("[0-9a-f]*.jsonl")):
            content = path.read_bytes()
            if _name(content) != path.stem:
                raise DataError(
                    f"{path}: must hold what its name is the digest of, got {_name(content)}. "
                    "Delete it, and import the counts again."
                )
            head, *lines = map(json.loads, content.splitlines())
            del head["format"]
            origin = WorklistOrigin(**{**head, "prior": tuple(head["prior"])})
            rows = found.setdefault(origin, {})
            for line in lines:
                row = _kept(line)
                rows[row.outcome] = row
        return {origin: list(rows.values()) for origin, rows in found.items()}


def _name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _line(row: StoredOutcomes) -> dict:
    return {**asdict(row.listed), **asdict(row.outcome)}


def _kept(line: dict) -> StoredOutcomes:
    shown = line["probabilities"]
    listed = ListedRecord(
        line["id"], line["place"], line["recorded"], None if shown is None else tuple(shown), line["learned"]
    )
    return StoredOutcomes(listed, Outcome(line["id"], line["when"], line["counted"], line["by"]))


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
