"""A file that is hashed while it is written, both beside the thread that fills it."""

from __future__ import annotations

import hashlib
import os
from concurrent.futures import Future, ThreadPoolExecutor
from typing import BinaryIO

# Hashed and written at a time: fewer, larger pieces leave the interpreter to the other threads.
_PIECE_BYTES = 4 << 20


class HashedFile:
    """Writes what is appended, in order, a piece behind.

    Attributes:
        size_bytes: What was appended so far.
    """

    def __init__(self, file: BinaryIO) -> None:
        """Takes an unbuffered file, opened for writing."""
        self._file = file
        self._chunks: list[bytes] = []
        self._gathered = 0
        self._hashed = hashlib.sha256()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="write")
        self._last: Future[None] | None = None
        self.size_bytes = 0

    def append(self, chunk: bytes) -> None:
        """Adds a chunk.

        Raises:
            OSError: If an earlier piece could not be written.
        """
        self._chunks.append(chunk)
        self._gathered += len(chunk)
        self.size_bytes += len(chunk)
        if self._gathered >= _PIECE_BYTES:
            self._hand_over()

    def finish(self) -> str:
        """Writes the rest for good and returns the SHA-256 of the whole file.

        Raises:
            OSError: If it could not be written.
        """
        self._hand_over()
        if self._last is not None:
            self._last.result()
        os.fsync(self._file.fileno())
        return self._hashed.hexdigest()

    def close(self) -> None:
        """Ends the writing thread."""
        self._pool.shutdown()

    def _hand_over(self) -> None:
        # One piece under way and one being gathered: no more is held in memory.
        if self._last is not None:
            self._last.result()
        self._last = self._pool.submit(self._write, self._chunks)
        self._chunks, self._gathered = [], 0

    def _write(self, chunks: list[bytes]) -> None:
        piece = memoryview(b"".join(chunks))
        self._hashed.update(piece)
        while piece:  # a raw file may take less than it was given
            piece = piece[self._file.write(piece) :]
