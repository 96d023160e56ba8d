"""Inventory records: the count that is recorded for each bin, read from the rows of a file."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

from bincount.dataset.ids import check_padding, counterpart_of
from bincount.dataset.metadata import LARGEST_COUNT, is_bin_id
from bincount.dataset.number_format import AmbiguousNumberError, number_of
from bincount.dataset.table_reader import Columns, TableReader, text_of
from bincount.errors import DataError

RECORD_COLUMNS = Columns(
    titles={
        "id": ("id", "bin_id", "bin"),
        "recorded": ("recorded",),
        "location": ("location",),
        "unit_value": ("unit_value", "unit value"),
        "before": ("before",),
        "counted_before": ("counted_before", "counted before"),
    },
    required=("id", "recorded"),
    numeric=("recorded", "unit_value", "counted_before"),
)

_MISSING = ("", "nan", "none", "null", "<na>")


@dataclass(frozen=True, slots=True)
class InventoryRow:
    """The record of one bin.

    Attributes:
        id: The bin's id; where it is none, the text as it is in the file.
        recorded: The recorded count, None if there is a `problem`.
        location: Where the bin is, "" where it is unknown.
        unit_value: Average value of an item, None where the file has no such column.
        problem: Why the record cannot be compared with a photo, "" where it can.
        before: Id of an earlier photo of the bin, "" where none is named.
        counted_before: The count that was confirmed then, None where it is not known.
        before_problem: Why the earlier photo cannot be used, "" where it can, or where none is named.
        counted_on: The day of the earlier count, such as "2026-11-20", "" where it is not known.
    """

    id: str
    recorded: int | None
    location: str = ""
    unit_value: float | None = None
    problem: str = ""
    before: str = ""
    counted_before: int | None = None
    before_problem: str = ""
    counted_on: str = ""

    @property
    def has_photo(self) -> bool:
        """True if there may be a photo: the id is a valid one."""
        return is_bin_id(self.id)


def inventory_rows(table: TableReader) -> Iterator[InventoryRow]:
    """Reads the rows of a file with `RECORD_COLUMNS`.

    Raises:
        DataError: As `row_of`, or if the file is damaged.
    """
    marks = table.decimal_marks()
    for line, values in table.rows():
        yield row_of(values, where=f"{table.name}, line {line}", marks=marks)


def row_of(values: Mapping[str, object], *, where: str, marks: Mapping[str, str | None] | None = None) -> InventoryRow:
    """Reads one row. A wrong id or record is kept with its problem: every bin must be accounted for.

    Args:
        values: By column of `RECORD_COLUMNS`; text, or numbers of a parquet file.
        where: File and line, for the message.
        marks: Decimal mark by column, as `TableReader.decimal_marks` finds it.

    Raises:
        DataError: If `unit_value` is no number >= 0 (a value of nothing would hide the bin), or a number's mark
            may be a decimal one or one between thousands.
    """
    marks = marks or {}
    bin_id = text_of(values["id"])
    recorded, problem = _recorded(values["recorded"], where, marks.get("recorded"))
    if not is_bin_id(bin_id):
        problem = "id is no bin's id"
    unit_value = _unit_value(values["unit_value"], where, marks.get("unit_value")) if "unit_value" in values else None
    before, counted, before_problem = _history(bin_id, values, where, marks.get("counted_before"))
    location = text_of(values.get("location"))
    location = "" if location.lower() in _MISSING else location  # otherwise all bins without one would be at one place
    return InventoryRow(bin_id, recorded, location, unit_value, problem, before, counted, before_problem)


def count_of(value: object, *, where: str, column: str, mark: str | None = None) -> int | None:
    """The whole number from 0 to `LARGEST_COUNT` in a field, None where it holds anything else.

    Args:
        value: Text, or a number of a parquet file.
        where: File and line, for the message.
        column: The field's column, likewise.
        mark: The column's decimal mark, None where it is not known.

    Raises:
        DataError: If the number's mark may be a decimal one or one between thousands.

    Example:
        >>> [count_of(value, where="f", column="c") for value in (" 3.0 ", "-1", "2.5", True)]
        [3, None, None, None]
    """
    if isinstance(value, str) and "e" in value.lower():
        return None
    try:
        number = number_of(value, mark)
    except AmbiguousNumberError as error:
        raise _ambiguous(where, column, "whole number", error) from None
    if number is None or not 0 <= number <= LARGEST_COUNT or number != int(number):
        return None
    return int(number)


def check_id_spelling(table: TableReader, ids: Collection[str], existing: Collection[str], *, zeros: bool) -> None:
    """Refuses a file whose ids may have lost their leading zeros in a spreadsheet.

    Beside ids that exist only in their other spelling, a CSV is refused in which no id has leading zeros while the
    source has the padded counterparts of most: nothing shows which bins are meant. A parquet file's ids are text.

    Args:
        table: The file.
        ids: Its ids, or a sample of them.
        existing: Those of `ids` and of their counterparts that exist in the source.
        zeros: Whether any id of the file has leading zeros.

    Raises:
        DataError: If it is refused.
    """
    check_padding(ids, existing, table.name)
    pairs = [(bin_id, other) for bin_id in ids if (other := counterpart_of(bin_id)) and not bin_id.startswith("0")]
    both = [(bin_id, other) for bin_id, other in pairs if other in existing]
    if not zeros and not table.is_parquet and 2 * len(both) > len(pairs):
        examples = ", ".join(f"{bin_id!r} (the source has {other!r}, too)" for bin_id, other in both[:3])
        raise DataError(
            f"{table.name}: ids must show which bins they name, got none with leading zeros: {examples}. 523 and 00523 "
            "are different bins. Spreadsheets drop leading zeros: format the column as text before the file is opened "
            "or imported. If the ids are right, write the file as parquet with ids as text."
        )


def _recorded(value: object, where: str, mark: str | None) -> tuple[int | None, str]:
    text, count = text_of(value), count_of(value, where=where, column="recorded", mark=mark)
    if text.lower() in _MISSING:
        return None, "recorded count is missing"
    if count is None:
        return None, f"recorded count is no whole number from 0 to {LARGEST_COUNT}: {text[:20]}"
    return count, ""


def _history(bin_id: str, values: Mapping[str, object], where: str, mark: str | None) -> tuple[str, int | None, str]:
    """The earlier photo, its count, and why they cannot be used."""
    before, counted = text_of(values.get("before")), text_of(values.get("counted_before"))
    before, counted = ("" if text.lower() in _MISSING else text for text in (before, counted))
    if not before:
        return "", None, "before is missing, counted_before is not" if counted else ""
    if not is_bin_id(before):
        return "", None, "before is no photo's id"
    if before == bin_id:
        return "", None, "before is the bin's own photo"
    if not counted:
        return before, None, "counted_before is missing, before is not"
    count = count_of(values.get("counted_before"), where=where, column="counted_before", mark=mark)
    if count is None:
        return before, None, f"counted_before is no whole number from 0 to {LARGEST_COUNT}: {counted[:20]}"
    return before, count, ""


def _unit_value(value: object, where: str, mark: str | None) -> float:
    try:
        number = number_of(value, mark)
    except AmbiguousNumberError as error:
        raise _ambiguous(where, "unit_value", "number >= 0", error) from None
    if number is None or not 0 <= number < 10**12:
        raise DataError(
            f"{where}: unit_value must be a number >= 0, got {text_of(value)[:40]!r}. "
            "Fix it, or leave the column out: then every record counts the same."
        )
    return float(number)


def _ambiguous(where: str, column: str, kind: str, error: AmbiguousNumberError) -> DataError:
    thousands, decimal = error.readings
    return DataError(
        f"{where}: {column} must be a {kind} whose decimal mark is certain, got '{error}': it may be {thousands} or "
        f"{decimal}, and no other number of the file decides. Write {thousands}, or {decimal.rstrip('0').rstrip('.')}."
    )
