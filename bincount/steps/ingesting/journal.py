"""Metadata kept on disk: what a killed ingest need not fetch again."""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType

from bincount.core.errors import DataError
from bincount.core.shards import frame, read_record


class Journal:
    """An append-only file of metadata files, each under its bin's id.

    It holds only metadata that say what they should: what is broken is asked
    for again by the next attempt, since it may be mended by then. Entries are
    framed with checksums, so that a torn last one is noticed and dropped.
    """

    def __init__(self, path: Path) -> None:
        """Opens the journal and reads what is in it."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # Unbuffered: what is appended survives a kill at once.
        self._file = path.open("ab+", buffering=0)
        self._end = 0
        self.places: dict[str, int] = {}
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            while self._end < size:
                try:
                    bin_id, _ = _split(read_record(file, self._end))
                except DataError:
                    break
                self.places[bin_id] = self._end
                self._end = file.tell()
        self._file.truncate(self._end)

    def append(self, bin_id: str, data: bytes) -> int:
        """Writes one bin's metadata and returns where."""
        at = self._end
        framed = frame(bin_id.encode() + b"\n" + data)
        self._file.write(framed)
        self._end += len(framed)
        return at

    def read(self, at: int) -> bytes:
        """Reads the metadata written at a place.

        Raises:
            DataError: If they are damaged.
        """
        return _split(read_record(self._file, at))[1]

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def _split(entry: bytes) -> tuple[str, bytes]:
    bin_id, _, data = entry.partition(b"\n")
    return bin_id.decode(), data
