"""The listener's side of one version's process."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import logging
import os
import shutil
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import httpx

from bincount.client import request_of
from bincount.errors import BincountError, ConfigError, DataError
from bincount.learn.engine import BFLOAT16
from bincount.mismatch.answer import SAME_WITHIN, SAME_WITHIN_BFLOAT16
from bincount.process.session_guard import guarded_command, kill_session
from bincount.registry.golden import Golden, difference_of, fetch_golden, golden_in
from bincount.serving.admission import RequestLimits
from bincount.serving.worker import MODEL, READY, REFUSED, SOCKET
from bincount.settings import Settings
from bincount.tracking import model_registry

_log = logging.getLogger(__name__)
_T = TypeVar("_T")

_GOLDEN = "golden"
FETCHING = "fetch"
"""Name of the thread that fetches a version."""
LOW_PRIORITY = 19
"""Niceness of background processes: they get only the processor time that no other process uses."""
_LOAD_S = 600  # on a busy machine; longer means that it hangs
_ENV = {
    # Two versions share one GPU for a moment: neither may take all of its memory.
    "TF_FORCE_GPU_ALLOW_GROWTH": "true",
    "TF_CPP_MIN_LOG_LEVEL": "2",
}


class RefusedVersion(BincountError):
    """A version that must not serve; its message may be shown to clients."""


class WorkerHandle:
    """A version in a process of its own, loaded and checked.

    A process and not a thread: loading holds the interpreter's lock, and only the
    end of a process gives its memory back.

    Attributes:
        version: Its number.
        manifest: Digest of the manifest it was trained on, None where its tags do not say.
        pid: Of its process, which leads its session.
        in_flight: Requests it is answering now.
        answered: Requests it has answered or failed to answer.
        failed: Those of them that ended in its own error.
    """

    def __init__(self, version: str, folder: Path, process: asyncio.subprocess.Process, manifest: str | None) -> None:
        """Takes over a process that has said that it is ready."""
        self.version, self.manifest, self.pid = version, manifest, process.pid
        self.in_flight = self.answered = self.failed = 0
        self._folder, self._process = folder, process
        self._client = socket_client(folder / SOCKET)

    @property
    def alive(self) -> bool:
        """True if its process runs."""
        return self._process.returncode is None

    async def ask(self, body: bytes, content_type: str) -> httpx.Response:
        """Sends one request to the process and waits for the answer.

        Raises:
            OSError: If the process is gone.
        """
        self.in_flight += 1
        try:
            return await self._send("POST", "/invocations", content=body, headers={"Content-Type": content_type})
        finally:
            self.in_flight -= 1

    async def check(self, golden: Golden, within: float) -> None:
        """Compares its answers about golden bins with the offline ones, and sends something that is no photo.

        Args:
            golden: The version's golden bins.
            within: Largest difference of probabilities.

        Raises:
            RefusedVersion: If an answer is another one, or the process ends.
        """
        try:
            await self._check(golden, within)
        except OSError:
            raise RefusedVersion("it must answer golden bins, and its process ended.") from None

    async def _check(self, golden: Golden, within: float) -> None:
        for name, photo, expected in golden:
            answer = await self.ask(*request_of([photo]))
            if answer.status_code != 200:
                raise RefusedVersion(f"golden bin {name} must be answered, got HTTP {answer.status_code}.")
            (got,) = answer.json()["predictions"]
            if wrong := difference_of(name, expected, got, within=within):
                raise RefusedVersion(f"golden {wrong}")
        answer = await self.ask(*request_of([b"no photo"]))
        if answer.status_code != 400:
            raise RefusedVersion(f"what is no photo must get HTTP 400, got {answer.status_code}.")

    async def get(self, path: str) -> httpx.Response:
        """The answer of "/version" (MLflow's) or "/batches".

        Raises:
            OSError: If the process is gone.
        """
        return await self._send("GET", path)

    async def _send(self, method: str, path: str, **request: Any) -> httpx.Response:
        try:
            return await self._client.request(method, path, **request)
        except httpx.TransportError as error:
            raise ConnectionResetError(f"the process ended before its answer ({error})") from None

    async def leave(self, *, timeout_s: float) -> None:
        """Lets it finish its requests, then ends its process and removes its files."""
        until = time.monotonic() + timeout_s
        while self.in_flight and time.monotonic() < until:
            await asyncio.sleep(0.02)
        await self._client.aclose()
        await _end(self._process, self._folder)


async def start_worker(settings: Settings, version: str, limits: RequestLimits, *, niceness: int = 0) -> WorkerHandle:
    """Fetches a version, starts its process and waits until it is loaded, warmed and checked.

    Cancelling ends the process.

    Args:
        settings: Names the registry.
        version: Its number.
        limits: Of each request.
        niceness: Of its process.

    Raises:
        RefusedVersion: If it cannot be loaded or answers wrong.
        StoreError: If the registry does not answer.
    """
    folder = Path(tempfile.mkdtemp(prefix="bincount-serve-"))
    process = limit = None
    try:
        manifest = await _in_daemon_thread(partial(_fetch, settings, version, folder))
        words = [version, str(folder), json.dumps(dataclasses.asdict(limits))]
        process = await asyncio.create_subprocess_exec(
            *guarded_command([sys.executable, "-m", "bincount.serving.worker", *words]),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
            env=_ENV | dict(os.environ),
        )
        if niceness:
            with contextlib.suppress(ProcessLookupError):
                os.setpriority(os.PRIO_PROCESS, process.pid, niceness)
        async with asyncio.timeout(_LOAD_S) as limit:
            precision = await _precision_when_ready(process)
            worker = WorkerHandle(version, folder, process, manifest)
            within = SAME_WITHIN_BFLOAT16 if precision == BFLOAT16 else SAME_WITHIN
            await worker.check(golden_in(folder / _GOLDEN), within)
    except BaseException:
        await asyncio.shield(_end(process, folder))
        if limit is not None and limit.expired():
            raise RefusedVersion(f"it must load within {_LOAD_S} s, and did not.") from None
        raise
    return worker


def _fetch(settings: Settings, version: str, folder: Path) -> str | None:
    """Fetches a version's model and golden bins into a folder; returns the digest of its manifest."""
    # Not downloaded into the folder itself: a caller that gives up deletes it while this thread still downloads.
    with tempfile.TemporaryDirectory(prefix="bincount-fetch-") as place:
        try:
            found = model_registry.version_of(settings, version)
            model = model_registry.fetch_model(settings, version, Path(place))
            fetch_golden(settings, found.run_id, Path(place) / _GOLDEN)
        except (ConfigError, DataError) as error:
            _log.error("version %s cannot be fetched: %s", version, error)
            raise RefusedVersion(f"it must load, got {type(error).__name__}. See the server's log.") from None
        model.rename(folder / MODEL)
        (Path(place) / _GOLDEN).rename(folder / _GOLDEN)
    return found.tags.get("bincount.manifest")


async def _in_daemon_thread(work: Callable[[], _T]) -> _T:
    """The result of work in a daemon thread; work that hangs delays neither the event loop nor the process's end."""
    future: Future[_T] = Future()

    def run() -> None:
        future.set_running_or_notify_cancel()
        try:
            future.set_result(work())
        except BaseException as error:
            future.set_exception(error)

    threading.Thread(target=run, name=FETCHING, daemon=True).start()
    return await asyncio.wrap_future(future)


async def _precision_when_ready(process: asyncio.subprocess.Process) -> str:
    assert process.stdout is not None
    try:
        report = json.loads(await process.stdout.readline())
    except ValueError:
        code = await process.wait()
        raise RefusedVersion(f"it must load, and its process ended with code {code}.") from None
    if REFUSED in report:
        raise RefusedVersion(report[REFUSED])
    return report[READY]


async def _end(process: asyncio.subprocess.Process | None, folder: Path) -> None:
    if process is not None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()  # it holds nothing that must be written
        await process.wait()
        await asyncio.to_thread(kill_session, process.pid)
    await asyncio.to_thread(shutil.rmtree, folder, True)


def socket_client(socket: Path) -> httpx.AsyncClient:
    """A client of the process that listens on a Unix socket; the listener limits the time of a request."""
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    transport = httpx.AsyncHTTPTransport(uds=str(socket), limits=limits)
    return httpx.AsyncClient(transport=transport, base_url="http://model", timeout=None, trust_env=False)  # noqa: S113 - the listener limits it
