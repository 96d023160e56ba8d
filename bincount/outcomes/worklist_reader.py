"""A worklist that `reconcile` wrote, read again."""

from __future__ import annotations

import hashlib
import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from bincount.dataset.split import part_of
from bincount.errors import ConfigError, DataError

_PAGE = 2048


@dataclass(frozen=True)
class WorklistOrigin:
    """What is the same for every bin of a worklist.

    Attributes:
        worklist: 16 hex digits of the SHA-256 of `worklist.jsonl`.
        source: Where the photos are.
        model_version: The version that counted.
        manifest: Digest of the manifest that it learned from.
        counts: What it counts, such as "1-5".
        prior: Frequencies of the classes among the bins that it learned from.
        is_source: Whether it learned from bins of this very source.
    """

    worklist: str
    source: str
    model_version: str
    manifest: str
    counts: str
    prior: tuple[float, ...]
    is_source: bool


@dataclass(frozen=True, slots=True)
class ListedRecord:
    """A bin of a worklist.

    Attributes:
        id: The bin's id.
        place: Its place, from 1 on.
        recorded: What the books said, None where that was no count.
        probabilities: What the photo showed, None where the record was not held against it.
        learned: Whether the model may know its record by heart.
    """

    id: str
    place: int
    recorded: int | None
    probabilities: tuple[float, ...] | None
    learned: bool


class Worklist:
    """The folder that `reconcile --out` named.

    Attributes:
        origin: What is the same for every bin.
        summary: What stands in `summary.json`.
    """

    def __init__(self, folder: Path) -> None:
        """Reads the summary and checks that the list is the one it speaks of.

        Raises:
            ConfigError: If there is no worklist, or it was made before outcomes were taken back.
            DataError: If the list was changed since.
        """
        self._path = folder / "worklist.jsonl"
        try:
            with self._path.open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
            self.summary = json.loads((folder / "summary.json").read_bytes())
        except OSError as error:
            raise ConfigError(
                f"--worklist: {folder} must be a folder that `bincount reconcile --out` wrote, "
                f"got {error.strerror!r}. Name it."
            ) from None
        except ValueError as error:
            raise DataError(
                f"{folder}/summary.json: must be JSON, got {error}. Run `bincount reconcile` again."
            ) from None
        try:
            told = self.summary["worklist"]
            self.origin = WorklistOrigin(
                worklist=digest,
                **{name: self.summary[name] for name in ("source", "model_version", "manifest", "counts")},
                prior=tuple(self.summary["prior"]),
                is_source=self.summary["learned_from"] > 0,
            )
        except (KeyError, TypeError):
            raise ConfigError(
                f"--worklist: {folder} must be of a bincount that takes outcomes back, got an older one. "
                "Run `bincount reconcile` again."
            ) from None
        if told != digest:
            raise DataError(
                f"{self._path}: must be as `bincount reconcile` wrote it, got {digest} instead of {told}. "
                "Put it back, or run `bincount reconcile` again."
            )

    def pages(self) -> Iterator[list[ListedRecord]]:
        """The bins in the list's order, page by page."""
        with self._path.open(encoding="utf-8") as file:
            lines = enumerate(file, 1)
            while page := [self._listed(place, json.loads(line)) for place, line in itertools.islice(lines, _PAGE)]:
                yield page

    def _listed(self, place: int, row: dict) -> ListedRecord:
        countable = row["mismatch_probability"] is not None
        return ListedRecord(
            id=row["id"],
            place=place,
            recorded=row["recorded"],
            probabilities=tuple(row["probabilities"].values()) if countable else None,
            learned=self.origin.is_source and part_of(row["id"]) != "test",
        )
