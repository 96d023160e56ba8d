"""Follows an alias: loads the version that it names, switches to it, and takes it back if it fails."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime

from bincount.errors import BincountError, StoreError
from bincount.serving.admission import RequestLimits
from bincount.serving.worker_handle import RefusedVersion, WorkerHandle, start_worker
from bincount.settings import Settings

_log = logging.getLogger(__name__)

_STEP_S = 0.2
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0


@dataclass(frozen=True)
class FollowRules:
    """Limits beyond which a version is taken back.

    Attributes:
        probation_s: How long the version before stays loaded, to go back at once.
        max_errors: Share of a new version's answers that may be its own errors meanwhile.
        min_errors: Fewer errors than this are no reason yet.
        keeps_last: Whether the last version goes on answering once the alias names none.
    """

    probation_s: float = 60.0
    max_errors: float = 0.05
    min_errors: int = 3
    keeps_last: bool = True


@dataclass
class Follower:
    """Keeps the version that an alias names behind the listener.

    At most two versions are loaded at a time. Everything happens in one event
    loop, so a request sees one version from its beginning to its end.

    Attributes:
        settings: Name the registry.
        watch: Knows which version the alias names.
        limits: Of each request; the version's process applies them.
        rules: When a version is taken back.
        niceness: Of the versions' processes.
        current: The version that answers, None before the first.
        since: When it took over.
        loading: The version that is being loaded, None for none.
        refused: Versions that the alias named and that may not serve, each with the reason, by version.
        swaps: How often the answering version changed.
    """

    settings: Settings
    watch: AliasWatch
    limits: RequestLimits
    rules: FollowRules = field(default_factory=FollowRules)
    niceness: int = 0
    current: WorkerHandle | None = None
    since: datetime | None = None
    loading: str | None = None
    refused: dict[str, dict[str, str]] = field(default_factory=dict)
    swaps: int = 0

    def __post_init__(self) -> None:
        self._wanted: str | None = None
        self._before: WorkerHandle | None = None
        self._probation_ends = 0.0
        self._load: asyncio.Task[None] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._pause_s, self._not_before = _FIRST_PAUSE_S, 0.0

    async def run(self) -> None:
        """Follows until it is cancelled; then all processes have ended."""
        self.watch.start()
        try:
            while True:
                self._step()
                await asyncio.sleep(_STEP_S)
        finally:
            await self._stop()

    def note(self, worker: WorkerHandle, *, failed: bool) -> None:
        """Counts an answer of a version, and takes it back if too many were its own errors."""
        worker.answered += 1
        worker.failed += failed
        if not failed or worker is not self.current or not self._can_go_back():
            return
        if worker.failed >= self.rules.min_errors and worker.failed > self.rules.max_errors * worker.answered:
            self._take_back(f"{worker.failed} of its first {worker.answered} answers were errors.")

    def _step(self) -> None:
        now, wanted = time.monotonic(), self.watch.version
        if wanted != self._wanted:
            self._wanted, self._pause_s, self._not_before = wanted, _FIRST_PAUSE_S, 0.0
            self.refused.pop(wanted or "", None)  # named anew: it gets another chance
        if self.current is not None and not self.current.alive:
            self._lost()
        if self._before is not None and (now > self._probation_ends or not self._before.alive):
            self._stop_later(self._before)
            self._before = None
        if self.loading is not None and self.loading != wanted and self._load is not None:
            self._load.cancel()
        if wanted is None and self.current is not None and not self.rules.keeps_last:
            _log.info("version %s is named no more", self.current.version)
            self._stop_later(self.current)
            self.current = self.since = None
        if wanted is None or self._load is not None or (self.current and self.current.version == wanted):
            return
        if self._can_go_back() and self._before is not None and self._before.version == wanted:
            self._swap_to(self._before)
        elif now >= self._not_before and (wanted not in self.refused or self.current is None):
            self._begin_loading(wanted)

    def _begin_loading(self, version: str) -> None:
        if self._before is not None:  # never three versions in memory
            self._stop_later(self._before)
            self._before = None
        _log.info("loading version %s", version)
        self.loading = version
        self._load = asyncio.create_task(self._loaded(version))

    async def _loaded(self, version: str) -> None:
        try:
            worker = await start_worker(self.settings, version, self.limits, niceness=self.niceness)
            if self._wanted == version:
                self._swap_to(worker)
            else:
                self._stop_later(worker)
        except RefusedVersion as error:
            self._refuse(version, str(error))
            self._wait_longer()
        except (StoreError, OSError) as error:
            _log.warning("version %s cannot be loaded yet: %s", version, error)
            self._wait_longer()
        except Exception:
            _log.exception("version %s cannot be loaded", version)
            self._refuse(version, "it must load, got an error. See the server's log.")
            self._wait_longer()
        finally:
            self.loading = self._load = None

    def _wait_longer(self) -> None:
        self._not_before = time.monotonic() + self._pause_s
        self._pause_s = min(2 * self._pause_s, _LONGEST_PAUSE_S)

    def _swap_to(self, worker: WorkerHandle) -> None:
        before, self.current = self.current, worker
        worker.answered = worker.failed = 0
        self.since, self.swaps = datetime.now(UTC), self.swaps + 1
        self.refused.pop(worker.version, None)
        self._before, self._probation_ends = before, time.monotonic() + self.rules.probation_s
        self._pause_s = _FIRST_PAUSE_S
        _log.info("version %s answers now", worker.version)

    def _can_go_back(self) -> bool:
        return self._before is not None and self._before.alive and time.monotonic() <= self._probation_ends

    def _take_back(self, why: str) -> None:
        bad, good = self.current, self._before
        assert bad is not None
        assert good is not None
        self._refuse(bad.version, why)
        self._swap_to(good)
        self._before = None
        self._stop_later(bad)

    def _lost(self) -> None:
        assert self.current is not None
        if self._can_go_back():
            self._take_back("its process ended.")
            return
        _log.error("the process of version %s ended; loading it again", self.current.version)
        self._stop_later(self.current)
        self.current = self.since = None

    def _refuse(self, version: str, why: str) -> None:
        _log.error("version %s is refused: %s", version, why)
        self.refused[version] = {"version": version, "reason": why, "at": datetime.now(UTC).isoformat()}

    def _stop_later(self, worker: WorkerHandle) -> None:
        task = asyncio.create_task(worker.leave(timeout_s=self.limits.time_s + 1))
        self._leaving.add(task)
        task.add_done_callback(self._leaving.discard)

    async def _stop(self) -> None:
        self.watch.stop()
        if self._load is not None:
            self._load.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._load
        for worker in filter(None, (self.current, self._before)):
            self._stop_later(worker)
        self.current = None
        await asyncio.gather(*self._leaving, return_exceptions=True)


_POLL_S = 1.0


class AliasWatch:
    """Asks the registry in a thread of its own: a registry that hangs delays neither requests nor the server's end.

    Attributes:
        version: What was named last, None for no version; it stays while the registry does not answer.
    """

    def __init__(self, named: Callable[[], str | None]) -> None:
        """Takes the question; it may raise a BincountError."""
        self.version: str | None = None
        self._named, self._stopped = named, threading.Event()
        self._thread = threading.Thread(target=self._run, name="watch", daemon=True)

    def start(self) -> None:
        """Begins to ask."""
        self._thread.start()

    def stop(self) -> None:
        """Ends it, without waiting for an answer that may not come."""
        self._stopped.set()

    def _run(self) -> None:
        heard = True
        while not self._stopped.is_set():
            try:
                version = self._named()
            except BincountError as error:
                if heard:
                    _log.warning("the registry does not answer, so nothing changes: %s", error)
                heard = False
            else:
                if version != self.version:
                    _log.info("the alias names %s", f"version {version}" if version else "no version")
                self.version, heard = version, True
            self._stopped.wait(_POLL_S)
