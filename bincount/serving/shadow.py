"""A version that answers the same requests in the background, to be compared with the one that serves."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from dataclasses import replace

from bincount.evaluate.served_log import SHADOW
from bincount.serving.admission import RequestLimits
from bincount.serving.follower import Follower
from bincount.serving.log_writer import FAILED, LoggedAnswer
from bincount.serving.prediction_log import DROPPED, PredictionLog, RequestQueue

ANSWERED = "answered"
"""Key of the answered requests, beside `FAILED` (no answer, or a refusal) and `DROPPED` (no room, or no version)."""

_MOST_REQUESTS = 64


class Shadow:
    """Copies requests to another version, one at a time, after they were answered.

    Attributes:
        name: The alias or version that it follows.
        follower: Keeps its version loaded, in a process of low priority.
        requests: Number of requests by version and what became of them.
    """

    def __init__(self, name: str, follower: Follower, limits: RequestLimits, log: PredictionLog) -> None:
        """Takes the alias or version, its follower, the limits of a request, and the log for the answers."""
        self.name, self.follower = name, follower
        self.requests: Counter[tuple[str, str]] = Counter()
        self._limits, self._log = limits, log
        self._queue: RequestQueue[LoggedAnswer] = RequestQueue(_MOST_REQUESTS, 2 * limits.body_bytes)

    def offer(self, served: LoggedAnswer) -> None:
        """Takes a request that was answered, or drops it; a version is not compared with itself."""
        worker = self.follower.current
        if worker is not None and worker.version == served.version:
            return
        if worker is None or not self._queue.offer(served, len(served.body)):
            self.requests["" if worker is None else worker.version, DROPPED] += 1

    async def run(self) -> None:
        """Follows and answers until it is cancelled; then all its processes have ended."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.follower.run())
            tasks.create_task(self._answer_all())

    async def _answer_all(self) -> None:
        while (served := await self._queue.take()) is not None:
            await self._answer(served)

    async def _answer(self, served: LoggedAnswer) -> None:
        worker = self.follower.current
        if worker is None or worker.version == served.version:  # another one is loaded now
            self.requests["", DROPPED] += 1
            return
        began, status, content = time.monotonic(), 503, b""
        try:
            answer = await asyncio.wait_for(worker.ask(served.body, served.content_type), self._limits.time_s)
            status, content = answer.status_code, answer.content
        except TimeoutError:
            status = 504
        except OSError:
            pass  # its process has ended; the follower starts another one
        self.follower.note(worker, failed=status >= 500)
        self.requests[worker.version, ANSWERED if status == 200 else FAILED] += 1
        latency_ms = 1e3 * (time.monotonic() - began)
        shadowed = replace(
            served, role=SHADOW, version=worker.version, status=status, latency_ms=latency_ms, answer=content
        )
        self._log.add(shadowed)
