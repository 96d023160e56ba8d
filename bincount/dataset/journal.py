"""Metadata kept on disk: what a killed ingest need not fetch again."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

from bincount.dataset.shards import frame_record, read_record
from bincount.errors import DataError

# A kill loses what is not written yet: some 30 metadata files. Writing each at once costs the
# thread that packs more than all else it does, since it waits for the interpreter after every call.
_BUFFER_BYTES = 64 << 10


class Journal:
    """An append-only file of metadata files, each under its bin's id.

    It holds only valid metadata: the next attempt fetches broken ones again, since
    they may have been repaired by then. Entries are
    framed with checksums, so that a torn last one is noticed and dropped.

    Attributes:
        path: The file.
        offsets: Byte at which each bin's entry starts.
    """

    def __init__(self, path: Path, on_append: Callable[[], None] = lambda: None) -> None:
        """Opens the journal and reads what is in it; `on_append` is called after each entry."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self.path = path
        self._on_append = on_append
        self._file = path.open("ab", buffering=_BUFFER_BYTES)
        self._end = 0
        self.offsets: dict[str, int] = {}
        with path.open("rb", buffering=_BUFFER_BYTES) as file:
            size = os.fstat(file.fileno()).st_size
            while self._end < size:
                try:
                    bin_id, _ = _split(read_record(file, self._end))
                except DataError:
                    break
                self.offsets[bin_id] = self._end
                self._end = file.tell()
        self._file.truncate(self._end)

    def append(self, bin_id: str, data: bytes) -> None:
        """Writes one bin's metadata."""
        framed = frame_record(bin_id.encode() + b"\n" + data)
        self._file.write(framed)
        self.offsets[bin_id] = self._end
        self._end += len(framed)
        self._on_append()

    def __enter__(self) -> Journal:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._file.close()


def open_entries(path: Path) -> BinaryIO:
    """Opens a journal for `read_entry`."""
    return path.open("rb", buffering=_BUFFER_BYTES)


def read_entry(file: BinaryIO, at: int) -> bytes:
    """Reads the metadata that `Journal.append` wrote at a byte offset.

    Raises:
        DataError: If they are damaged.
    """
    return _split(read_record(file, at))[1]


def _split(entry: bytes) -> tuple[str, bytes]:
    bin_id, _, data = entry.partition(b"\n")
    return bin_id.decode(), data
