"""The listener's side of one version's process."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx

from bincount.errors import BincountError, StoreError
from bincount.process.session_guard import guarded_command, kill_session
from bincount.serving.admission import RequestLimits
from bincount.serving.worker import LATER, READY, REFUSED, SOCKET, socket_client

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


async def start_worker(version: str, limits: RequestLimits) -> WorkerHandle:
    """Starts a version's process and waits until it is loaded, warmed and checked.

    Cancelling ends the process.

    Args:
        version: Its number.
        limits: Of each request.

    Raises:
        RefusedVersion: If it cannot be loaded or answers wrong.
        StoreError: If the registry does not answer.
    """
    folder = Path(tempfile.mkdtemp(prefix="bincount-serve-"))
    words = [version, str(folder), json.dumps(dataclasses.asdict(limits))]
    process = await asyncio.create_subprocess_exec(
        *guarded_command([sys.executable, "-m", "bincount.serving.worker", *words]),
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
        env=_ENV | dict(os.environ),
    )
    try:
        about = await _report_of(process)
        return WorkerHandle(version, folder, process, about["manifest"])
    except BaseException:
        await asyncio.shield(_end(process, folder))
        raise


async def _report_of(process: asyncio.subprocess.Process) -> dict:
    assert process.stdout is not None
    try:
        line = await asyncio.wait_for(process.stdout.readline(), _LOAD_S)
    except TimeoutError:
        raise RefusedVersion(f"it must load within {_LOAD_S} s, and did not.") from None
    try:
        report = json.loads(line)
    except ValueError:
        code = await process.wait()
        raise RefusedVersion(f"it must load, and its process ended with code {code}.") from None
    if LATER in report:
        raise StoreError(report[LATER])
    if REFUSED in report:
        raise RefusedVersion(report[REFUSED])
    return report[READY]


async def _end(process: asyncio.subprocess.Process, folder: Path) -> None:
    with contextlib.suppress(ProcessLookupError):
        process.kill()  # it holds nothing that must be written
    await process.wait()
    await asyncio.to_thread(kill_session, process.pid)
    await asyncio.to_thread(shutil.rmtree, folder, True)
