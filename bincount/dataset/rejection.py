"""Bins that are set aside, with their reasons.

This is no list of all reasons: most are worded where the fault is found. `photo_check` words those of a photo's file,
`metadata` those of a metadata file, and `bin_reader` those of an object that the store does not deliver. `candidates`
and `plan` use the reasons defined here: half of a bin is missing, or a sibling is in another part.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Iterable
from dataclasses import astuple, dataclass

from bincount.errors import DataError

SIBLING = "sibling in another part"
NO_PHOTO, NO_METADATA = "photo is missing", "metadata is missing"
"""Reasons that code elsewhere compares with; the others are only shown. For a missing object `bin_reader` forms the
text of `NO_PHOTO` or `NO_METADATA`, too."""


class InvalidObject(DataError):
    """A photo or a metadata file that is not what it should be.

    Attributes:
        reason: The kind of fault in a few words, the same for every object that has it.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Rejection:
    """One bin that was set aside.

    Attributes:
        id: The bin's id.
        reason: The kind of fault, such as "photo is cut short".
        detail: Details of the problem, "" where the reason is enough.
    """

    id: str
    reason: str
    detail: str = ""

    @property
    def is_fault(self) -> bool:
        """True if the object is at fault: a sibling is set aside for the split's sake only."""
        return self.reason != SIBLING


def count_reasons(rejected: Iterable[Rejection]) -> dict[str, int]:
    """Counts what was set aside by reason, the most frequent first."""
    counted = Counter(one.reason for one in rejected)
    return dict(sorted(counted.items(), key=lambda entry: (-entry[1], entry[0])))


def rejected_csv(rejected: Iterable[Rejection]) -> str:
    """Writes the table beside a manifest: CSV with the columns id, reason and detail."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(["id", "reason", "detail"])
    table.writerows(astuple(one) for one in rejected)
    return text.getvalue()
