"""The outcomes that were brought back, for good: files that are only ever added."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from bincount.core.errors import ConfigError, DataError
from bincount.core.files import write_whole
from bincount.core.outcomes import Outcome
from bincount.edge import disk
from bincount.steps.outcomes.listed import Listed, Origin

_FORMAT = "bincount-outcomes-1"


@dataclass(frozen=True, slots=True)
class Kept:
    """A bin of a worklist and one count of it."""

    listed: Listed
    outcome: Outcome


class Outcomes:
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
                held.enter_context(disk.alone(self._folder / ".lock", "outcomes"))
                for left in self._folder.glob(".*.jsonl.*"):
                    left.unlink()  # of an import that was killed while it wrote
            except OSError as error:
                raise ConfigError(
                    f"{self._folder}: must be writable and have room, got {error}. Free some room, then import again."
                ) from error
            yield

    def add(self, origin: Origin, rows: Sequence[Kept]) -> int:
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
            write_whole(self._folder / f"{_name(content)}.jsonl", [content])
        return len(new)

    def read(self) -> dict[Origin, list[Kept]]:
        """All outcomes by worklist, each once.

        Raises:
            DataError: If a file is not what it was.
        """
        found: dict[Origin, dict[Outcome, Kept]] = {}
        for path in sorted(self._folder.glob("[0-9a-f]*.jsonl")):
            content = path.read_bytes()
            if _name(content) != path.stem:
                raise DataError(
                    f"{path}: must hold what its name is the digest of, got {_name(content)}. "
                    "Delete it, and import the counts again."
                )
            head, *lines = map(json.loads, content.splitlines())
            del head["format"]
            origin = Origin(**{**head, "prior": tuple(head["prior"])})
            rows = found.setdefault(origin, {})
            for line in lines:
                row = _kept(line)
                rows[row.outcome] = row
        return {origin: list(rows.values()) for origin, rows in found.items()}


def _name(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _line(row: Kept) -> dict:
    return {**asdict(row.listed), **asdict(row.outcome)}


def _kept(line: dict) -> Kept:
    shown = line["probabilities"]
    listed = Listed(
        line["id"], line["place"], line["recorded"], None if shown is None else tuple(shown), line["learned"]
    )
    return Kept(listed, Outcome(line["id"], line["when"], line["counted"], line["by"]))
