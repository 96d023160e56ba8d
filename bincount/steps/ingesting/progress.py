"""Says how far a long step is."""

from __future__ import annotations

import logging
import sys
import time
from types import TracebackType

log = logging.getLogger(__name__)

_LOG_EVERY_S, _DRAW_EVERY_S = 5.0, 0.2


class Progress:
    """One line in a terminal, or a line every few seconds in a log."""

    def __init__(self, what: str, total: int) -> None:
        """Starts counting.

        Args:
            what: What is counted, such as "photos".
            total: How many there will be.
        """
        self._what, self._total = what, total
        self._done = self._bytes = self._rejected = 0
        self._started_s = self._said_s = time.monotonic()
        self._draws = sys.stderr.isatty()

    def step(self, size_bytes: int, rejected: bool = False) -> None:
        """Counts one more."""
        self._done += 1
        self._bytes += size_bytes
        self._rejected += rejected
        now_s = time.monotonic()
        if now_s - self._said_s >= (_DRAW_EVERY_S if self._draws else _LOG_EVERY_S):
            self._said_s = now_s
            self._say()

    def _say(self) -> None:
        if self._draws:
            print(f"\r{self}\x1b[K", end="", file=sys.stderr, flush=True)
        else:
            log.info("%s", self)

    def __str__(self) -> str:
        spent_s = max(1e-6, time.monotonic() - self._started_s)
        left_s = spent_s / self._done * max(0, self._total - self._done) if self._done else 0
        return (
            f"{self._what}: {self._done:,} of {self._total:,}, {self._bytes / 1e6 / spent_s:.1f} MB/s, "
            f"{self._rejected:,} rejected, {left_s:.0f} s left"
        )

    def __enter__(self) -> Progress:
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._draws and self._done:
            self._say()
            print(file=sys.stderr)
        elif self._done:
            log.info("%s", self)
