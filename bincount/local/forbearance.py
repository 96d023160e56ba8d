"""Bearing with servers that are slow because the machine is busy."""

from __future__ import annotations

import time
from types import TracebackType

from bincount.core.errors import StoreError


class Forbearance:
    """A context that swallows StoreErrors until nothing else has happened for a while.

    Args:
        seconds: How long; what goes well starts it anew.
    """

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._worn_since: float | None = None

    def __enter__(self) -> None:
        """Nothing to prepare."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool:
        """Says whether the error is borne with."""
        if not isinstance(error, StoreError):
            self._worn_since = None if error is None else self._worn_since
            return False
        now = time.monotonic()
        self._worn_since = now if self._worn_since is None else self._worn_since
        return now - self._worn_since < self._seconds
