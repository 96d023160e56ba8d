"""The listener's side of the log of served answers: a bounded queue, and the process that writes."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
from collections import Counter, deque
from typing import Generic, TypeVar

from bincount.serving.admission import RequestLimits
from bincount.serving.log_writer import FAILED, WRITTEN, LoggedAnswer, LogSettings, arguments_of
from bincount.serving.worker_handle import LOW_PRIORITY

_log = logging.getLogger(__name__)

_T = TypeVar("_T")

DROPPED = "dropped"
"""Key of the rows for which the queue had no room, beside `WRITTEN` and `FAILED`."""

_MOST_REQUESTS = 256
_CHUNK = 65_536
_PAUSE_S = 1.0
_END_S = 10.0


class RequestQueue(Generic[_T]):
    """Requests that wait, bounded by their number and by their bytes; what does not fit is not taken."""

    def __init__(self, most: int, most_bytes: int) -> None:
        """Takes the most requests, and the most bytes of them together."""
        self._most, self._most_bytes = most, most_bytes
        self._waiting: deque[tuple[_T, int]] = deque()
        self._bytes = 0
        self._changed, self._is_closed = asyncio.Event(), False

    def offer(self, request: _T, size: int) -> bool:
        """Adds a request of so many bytes, without waiting; False if there is no room."""
        if self._is_closed or len(self._waiting) >= self._most or self._bytes + size > self._most_bytes:
            return False
        self._waiting.append((request, size))
        self._bytes += size
        self._changed.set()
        return True

    async def take(self) -> _T | None:
        """The request that has waited longest; None once the queue is closed and empty."""
        while not self._waiting:
            if self._is_closed:
                return None
            self._changed.clear()
            await self._changed.wait()
        request, size = self._waiting.popleft()
        self._bytes -= size
        return request

    def close(self) -> None:
        """Takes no more requests."""
        self._is_closed = True
        self._changed.set()


class PredictionLog:
    """Hands answers to the process that writes them, without keeping anybody waiting.

    Attributes:
        rows: Number of rows by what became of them; those on their way are in none.
    """

    def __init__(self, settings: LogSettings, limits: RequestLimits) -> None:
        """Takes what to log, and the limits of a request."""
        self.rows: Counter[str] = Counter({DROPPED: 0, WRITTEN: 0, FAILED: 0})
        self._arguments = arguments_of(settings, limits)
        self._queue: RequestQueue[LoggedAnswer] = RequestQueue(_MOST_REQUESTS, 2 * limits.body_bytes)
        self._sent = 0  # rows that the running process has not reported yet
        self._process: asyncio.subprocess.Process | None = None
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Starts the process, within a running event loop."""
        self._task = asyncio.create_task(self._run())
        self._task.add_done_callback(_log_failure)

    def add(self, answer: LoggedAnswer) -> None:
        """Takes an answer, or drops it if too many wait."""
        if not self._queue.offer(answer, len(answer.body) + len(answer.answer)):
            self.rows[DROPPED] += answer.rows

    async def close(self) -> None:
        """Waits up to 10 s until the queued answers are written, then ends the process."""
        self._queue.close()
        if self._task is not None and not (await asyncio.wait({self._task}, timeout=_END_S))[0]:
            _log.error("the log could not be written in %.0f s; its last rows are lost", _END_S)
            self._task.cancel()
            if self._process is not None:
                with contextlib.suppress(ProcessLookupError):
                    self._process.kill()

    async def _run(self) -> None:
        is_done = False
        while not is_done:
            try:
                self._process = process = await asyncio.create_subprocess_exec(
                    *[sys.executable, "-m", "bincount.serving.log_writer", *self._arguments],
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    start_new_session=True,  # it ends with its input, not with Ctrl-C
                )
            except OSError as error:  # no memory, or no room for a process
                _log.error("the process that writes the log cannot be started: %s; it is tried again", error)
                await asyncio.sleep(_PAUSE_S)
                continue
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, process.pid, LOW_PRIORITY)
            assert process.stdin is not None
            assert process.stdout is not None
            reports = asyncio.create_task(self._read_reports(process.stdout))
            try:
                is_done = await self._feed(process.stdin)
            except OSError:
                _log.error("the process that writes the log ended; it is started again")
            process.stdin.close()
            await reports
            await process.wait()
            self.rows[FAILED] += self._sent
            self._sent = 0
            if not is_done:
                await asyncio.sleep(_PAUSE_S)

    async def _feed(self, pipe: asyncio.StreamWriter) -> bool:
        """Sends answers until the queue is closed.

        Raises:
            OSError: If the process is gone.
        """
        while (answer := await self._queue.take()) is not None:
            self._sent += answer.rows
            for part in answer.to_frame():
                view = memoryview(part)
                # In chunks: copying a large body at once would hold up the event loop.
                for start in range(0, len(view), _CHUNK):
                    pipe.write(view[start : start + _CHUNK])
                    await pipe.drain()
        return True

    async def _read_reports(self, pipe: asyncio.StreamReader) -> None:
        async for line in pipe:
            for outcome, rows in json.loads(line).items():
                self.rows[outcome] += rows
                self._sent -= rows


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()):
        _log.error("the log has ended", exc_info=error)
