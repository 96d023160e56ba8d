"""Says how far a long step is."""

from __future__ import annotations

import logging
import sys
import time

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

_log = logging.getLogger(__name__)

_LOG_EVERY_S, _DRAW_EVERY_S = 5.0, 0.2


class ProgressLog:
    """A bar in a terminal, or a line every few seconds in a log."""

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
        columns = (
            "{task.description}",
            BarColumn(),
            MofNCompleteColumn(),
            "{task.fields[note]}",
            TimeRemainingColumn(),
        )
        self._bar = Bar(*columns, console=Console(stderr=True), disable=not self._draws)
        self._task = self._bar.add_task(what, total=total, note="")

    def step(self, size_bytes: int = 0, rejected: bool = False) -> None:
        """Counts one more; its size where something is transferred."""
        self._done += 1
        self._bytes += size_bytes
        self._rejected += rejected
        if time.monotonic() - self._said_s >= (_DRAW_EVERY_S if self._draws else _LOG_EVERY_S):
            self._say()

    def _say(self) -> None:
        self._said_s = time.monotonic()
        spent_s = max(1e-6, self._said_s - self._started_s)
        note = ""
        if self._bytes or self._rejected:
            note = f"{self._bytes / 1e6 / spent_s:.1f} MB/s, {self._rejected:,} rejected"
        self._bar.update(self._task, completed=self._done, note=note)
        if not self._draws:
            left_s = spent_s / self._done * max(0, self._total - self._done)
            told = (f"{self._done:,} of {self._total:,}", *([note] if note else []), f"{left_s:.0f} s left")
            _log.info("%s: %s", self._what, ", ".join(told))

    def __enter__(self) -> ProgressLog:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._done:
            self._say()
        self._bar.stop()
