"""Physical counts of bins: read from a file's rows, settled where several exist, and stored in append-only files."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime, timedelta, timezone, tzinfo

from bincount.dataset.inventory import count_of
from bincount.dataset.metadata import LARGEST_COUNT, is_bin_id
from bincount.dataset.table_reader import Columns, TableReader, text_of
from bincount.errors import ConfigError, DataError
from bincount.files import write_atomically
from bincount.outcomes.worklist_reader import Origin, Stated, WorklistRow
from bincount.settings import Settings
from bincount.store.workspace import open_workspace

OUTCOME_COLUMNS = Columns(
    titles={"id": ("id", "bin_id", "bin"), "counted": ("counted",), "when": ("when",), "by": ("by",)},
    required=("id", "counted", "when"),
    numeric=("counted",),
)

_FORMAT = "bincount-outcomes-1"
_LONGEST_NAME = 200
_LARGEST_OFFSET = timedelta(days=1)


@dataclass(frozen=True, slots=True, order=True)
class Outcome:
    """One blind count of one bin.

    Attributes:
        id: The bin's id.
        when: Time of the count, in UTC and ISO 8601, so that texts sort as times do.
        counted: Number of items.
        by: Who counted, "" if unknown.
    """

    id: str
    when: str
    counted: int
    by: str = ""


@dataclass(frozen=True, slots=True)
class JoinedOutcome:
    """A bin of a worklist and one count of it."""

    listed: WorklistRow
    outcome: Outcome


@dataclass(frozen=True, slots=True)
class FileRow:
    """A row of an outcomes file.

    Attributes:
        where: File and line.
        outcome: The count.
        day: Date of the count in the file's own time zone.
        has_time: Whether the file says more than the date.
    """

    where: str
    outcome: Outcome
    day: date
    has_time: bool


def outcome_rows(table: TableReader, *, now: datetime) -> Iterator[FileRow]:
    """Reads the rows of a file with `OUTCOME_COLUMNS`.

    Raises:
        DataError: As `row_of` and `zone_of`, or if the file is damaged.
    """
    marks = table.decimal_marks()
    zone = zone_of(table)
    for line, values in table.rows():
        yield row_of(values, where=f"{table.name}, line {line}", now=now, mark=marks["counted"], zone=zone)


def zone_of(table: TableReader) -> tzinfo:
    """The time zone of the file's times without one: the offset of its other times, UTC if none has any.

    Raises:
        DataError: If some have none, and the others differ.
    """
    offsets: dict[timedelta | None, str] = {}
    for line, values in table.rows():
        found, _ = _time_of(values["when"])
        if found is not None:
            offsets.setdefault(found.utcoffset(), f"{table.name}, line {line}")
    bare = offsets.pop(None, None)
    if bare and len(offsets) > 1:
        raise DataError(
            f"{bare}: when must have a UTC offset, got none in a file whose other times have {len(offsets)} different "
            "ones. Add it, such as 2026-11-20T14:05-05:00."
        )
    return next((timezone(offset) for offset in offsets if offset is not None), UTC)


def row_of(
    values: Mapping[str, object], *, where: str, now: datetime, mark: str | None = None, zone: tzinfo = UTC
) -> FileRow:
    """Reads one row.

    Args:
        values: By column of `OUTCOME_COLUMNS`; text, or values of a parquet file.
        where: File and line, for the message.
        now: The present time. A count may be dated up to a day later, since time zones differ.
        mark: Decimal mark of the column counted, None where it is not known.
        zone: Time zone of dates and times without one.

    Raises:
        DataError: If a field is invalid.

    Example:
        >>> row = {"id": "00523", "counted": "3", "when": "2026-11-20", "by": "Ada"}
        >>> row_of(row, where="counts.csv, line 2", now=datetime(2026, 11, 22, tzinfo=UTC)).outcome
        Outcome(id='00523', when='2026-11-20T00:00:00+00:00', counted=3, by='Ada')
    """
    bin_id, by = text_of(values["id"]), text_of(values.get("by"))
    if not is_bin_id(bin_id):
        raise DataError(f"{where}: id must be a bin's id, got {bin_id[:40]!r}. Copy it from the worklist.")
    counted = count_of(values["counted"], where=where, column="counted", mark=mark)
    if counted is None:
        raise DataError(
            f"{where}: counted must be a whole number from 0 to {LARGEST_COUNT}, "
            f"got {text_of(values['counted'])[:40]!r}. "
            "Write the total of all items in the bin, or remove the row if it was not counted."
        )
    if len(by) > _LONGEST_NAME:
        raise DataError(f"{where}: by must be a name of at most {_LONGEST_NAME} letters, got {len(by)}. Shorten it.")
    local, has_time = _time_of(values["when"])
    rule = "a date or time such as 2026-11-20 or 2026-11-20T14:05"
    with contextlib.suppress(OverflowError):  # a date at either end of the calendar
        if local is not None:
            local = local if local.tzinfo else local.replace(tzinfo=zone)
            when = local.astimezone(UTC)
            if when <= now + _LARGEST_OFFSET:
                outcome = Outcome(bin_id, when.isoformat(timespec="seconds"), counted, by)
                return FileRow(where, outcome, local.date(), has_time)
            rule = "a date or time that is not in the future"
    raise DataError(f"{where}: when must be {rule}, got {text_of(values['when'])[:40]!r}. Correct the row.")


def group_by_bin(rows: Iterable[FileRow]) -> dict[str, list[FileRow]]:
    """Groups the counts of one file by bin.

    A bin may occur again with another day or time: it was counted again, and the later count
    replaces the earlier. Twice on one day without telling which came later is refused: the
    two may be parts of one bin, whose counts would have to be summed.

    Raises:
        DataError: If the order of two counts of one bin and day is unknown.
    """
    found: dict[str, list[FileRow]] = {}
    by_day: dict[tuple[str, date], list[FileRow]] = defaultdict(list)
    for row in rows:
        same_day = by_day[row.outcome.id, row.day]
        for other in same_day:
            if not (row.has_time and other.has_time) or row.outcome.when == other.outcome.when:
                raise DataError(
                    f"{row.where}: each bin must occur once a day, or with the time of each count, got "
                    f"{row.outcome.id!r} again after {other.where}. "
                    "Sum the rows of one bin, keep the right count, or add the times."
                )
        same_day.append(row)
        found.setdefault(row.outcome.id, []).append(row)
    return found


def latest_counts(outcomes: Iterable[Outcome]) -> tuple[list[Outcome], list[str]]:
    """The latest count of each bin, which is the one used; the order of import does not matter.

    If several counts at the latest time differ, the bin is in conflict, and left out of
    every figure until a later count is imported.

    Returns:
        The counts used, by id, and the ids of the bins in conflict.

    Example:
        >>> early, late = Outcome("1", "2026-11-20T00:00:00+00:00", 3), Outcome("1", "2026-11-21T00:00:00+00:00", 4)
        >>> latest_counts([late, early])[0] == [late], latest_counts([late, Outcome("1", late.when, 5)])
        (True, ([], ['1']))
    """
    latest: dict[str, list[Outcome]] = {}
    for row in sorted(outcomes):
        rows = latest.get(row.id)
        if rows is None or row.when > rows[0].when:
            latest[row.id] = [row]
        else:
            rows.append(row)
    conflicts = [bin_id for bin_id, rows in latest.items() if len({row.counted for row in rows}) > 1]
    return [rows[0] for bin_id, rows in latest.items() if bin_id not in set(conflicts)], conflicts


class OutcomeStore:
    """A folder of outcomes; each file is named by the digest of its content.

    A file holds the new rows of one import. It is written under a temporary name and
    renamed, so it is complete or missing.
    """

    def __init__(self, settings: Settings) -> None:
        self._folder, self._shared = settings.outcomes, open_workspace(settings)

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Makes other imports wait, so that each reads what the one before has added.

        Raises:
            ConfigError: If the folder cannot be written.
        """
        with contextlib.ExitStack() as stack:
            try:
                stack.enter_context(self._shared.lock(self._folder / ".lock", "outcomes"))
                for left in self._folder.glob(".*.jsonl.*"):
                    left.unlink()  # of an import that was killed while it wrote
            except OSError as error:
                raise ConfigError(
                    f"{self._folder}: must be writable with free disk space, got {error}. Import again afterwards."
                ) from error
            yield

    def add(self, origin: Origin, rows: Sequence[JoinedOutcome]) -> int:
        """Adds the rows that are not stored yet, all or none; the store must be `locked`.

        Returns:
            The number of new rows.
        """
        stored = {row.outcome for row in self.read().get(origin, [])}
        new = sorted((row for row in rows if row.outcome not in stored), key=lambda row: row.outcome)
        if new:
            encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False).encode
            lines = [{"format": _FORMAT, **asdict(origin)}, *(_line_of(row) for row in new)]
            content = "".join(f"{encode(line)}\n" for line in lines).encode()
            path = self._folder / f"{_digest(content)}.jsonl"
            write_atomically(path, [content])
        self._shared.push(*self._folder.glob("[0-9a-f]*.jsonl"))  # those of an import that failed then, too
        return len(new)

    def read(self) -> dict[Origin, list[JoinedOutcome]]:
        """All outcomes by worklist, each once.

        Raises:
            DataError: If a file was changed.
        """
        self._shared.pull_folder(self._folder)
        found: dict[Origin, dict[Outcome, JoinedOutcome]] = {}
        for path in sorted(self._folder.glob("[0-9a-f]*.jsonl")):
            content = path.read_bytes()
            if _digest(content) != path.stem:
                raise DataError(
                    f"{path}: must have the digest in its name, got {_digest(content)}. "
                    "Delete it, and import the counts again."
                )
            head, *lines = map(json.loads, content.splitlines())
            del head["format"]
            origin = Origin(**{**head, "prior": tuple(head["prior"])})
            rows = found.setdefault(origin, {})
            for line in lines:
                row = _row_of_line(line)
                rows[row.outcome] = row
        return {origin: list(rows.values()) for origin, rows in found.items()}


def _digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _line_of(row: JoinedOutcome) -> dict:
    listed = asdict(row.listed)
    listed["learned"] = listed.pop("in_training")
    return {**listed, **asdict(row.outcome)}


def _row_of_line(line: dict) -> JoinedOutcome:
    probabilities = None if line["probabilities"] is None else tuple(line["probabilities"])
    stated = Stated(**line["stated"]) if line.get("stated") else None
    listed = WorklistRow(line["id"], line["place"], line["recorded"], probabilities, line["learned"], stated)
    return JoinedOutcome(listed, Outcome(line["id"], line["when"], line["counted"], line["by"]))


def _time_of(value: object) -> tuple[datetime | None, bool]:
    """Date or time in a field, None where it is none, and whether it has a time of day."""
    if isinstance(value, datetime):
        return value, True
    try:
        day = value if isinstance(value, date) else date.fromisoformat(text_of(value))
        return datetime(day.year, day.month, day.day), False
    except ValueError:
        pass
    try:
        return datetime.fromisoformat(text_of(value)), True
    except ValueError:
        return None, False
