"""Confirmed counts: what was counted when, for the next reconciliation to compare photos with."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import NamedTuple

from bincount.dataset.inventory import InventoryRow, count_of
from bincount.dataset.keys import bin_id_of
from bincount.dataset.metadata import is_bin_id
from bincount.dataset.table_reader import Columns, TableReader, text_of
from bincount.errors import DataError
from bincount.files import write_atomically
from bincount.outcomes.outcome_store import Outcome

FILE = "confirmed.csv"
_TITLES = ("id", "location", "counted", "when", "photo")
CONFIRMED_COLUMNS = Columns(
    titles={name: (name,) for name in _TITLES}, required=("id", "counted", "when", "photo"), numeric=("counted",)
)


class Confirmed(NamedTuple):
    """A confirmed count: the id of the photo of that time, the number of items, and when they were counted."""

    photo: str
    counted: int
    when: str


def write_confirmed(folder: Path, outcomes: Iterable[Outcome], places: Mapping[str, tuple[str, str]]) -> None:
    """Writes `confirmed.csv`, a row a counted bin.

    Args:
        folder: The worklist's.
        outcomes: The count that is used of each bin.
        places: Location and address of the photo of each bin, by id.
    """
    text = io.StringIO()
    sheet = csv.writer(text, lineterminator="\n")
    sheet.writerow(_TITLES)
    for outcome in outcomes:
        location, photo = places.get(outcome.id, ("", ""))
        sheet.writerow((outcome.id, location, outcome.counted, outcome.when, photo))
    write_atomically(folder / FILE, [text.getvalue().encode()])


class ConfirmedCounts:
    """The confirmed counts of a file, joined to records by the id of the earlier photo or by location."""

    def __init__(self, path: Path) -> None:
        """Reads the file; of several counts of one bin the latest is used.

        Raises:
            ConfigError: If there is no such file.
            DataError: If a row is invalid.
        """
        table = TableReader(path, CONFIRMED_COLUMNS)
        self.digest, self._name = table.digest, table.name
        self._of_photo: dict[str, Confirmed] = {}
        self._at_location: dict[str, Confirmed] = {}
        marks = table.decimal_marks()
        for line, values in table.rows():
            where = f"{table.name}, line {line}"
            photo = bin_id_of(text_of(values.get("photo"))) or text_of(values["id"])
            counted = count_of(values["counted"], where=where, column="counted", mark=marks["counted"])
            if not is_bin_id(photo) or counted is None:
                raise DataError(
                    f"{where}: must hold a photo's id and a count, got {photo[:40]!r} and "
                    f"{text_of(values['counted'])[:40]!r}. `bincount outcomes import` writes such files."
                )
            confirmed = Confirmed(photo, counted, text_of(values["when"]))
            for place, key in ((self._of_photo, photo), (self._at_location, text_of(values.get("location")))):
                if key and (key not in place or place[key].when <= confirmed.when):
                    place[key] = confirmed
        self.used = 0

    def latest(self) -> list[Confirmed]:
        """The confirmed counts, one a photo, the latest first."""
        return sorted(self._of_photo.values(), key=lambda each: (each.when, each.photo), reverse=True)

    def join(self, rows: Iterable[InventoryRow]) -> Iterator[InventoryRow]:
        """The records, with an earlier photo and its count where these are confirmed and the record has none."""
        for row in rows:
            found = self._of_photo.get(row.before) if row.before else self._at_location.get(row.location)
            if row.counted_before is None and found and found.photo != row.id:
                self.used += 1
                yield replace(
                    row,
                    before=found.photo,
                    counted_before=found.counted,
                    counted_on=_day_of(found.when),
                    before_problem="",
                )
            else:
                yield row


def _day_of(when: str) -> str:
    try:
        return datetime.fromisoformat(when).date().isoformat()
    except ValueError:
        return ""
