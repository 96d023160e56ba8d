"""The listener: one address, whichever version answers behind it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import time
from collections.abc import AsyncIterator, Coroutine
from typing import Any
from uuid import uuid4

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from bincount.evaluate.served_log import SERVED
from bincount.serving.admission import Admission, RequestLimits, RequestRefused, discard_rest
from bincount.serving.follower import Follower
from bincount.serving.log_writer import LoggedAnswer
from bincount.serving.metrics import CONTENT_TYPE, Metrics, ServerState
from bincount.serving.prediction_log import PredictionLog
from bincount.serving.shadow import Shadow
from bincount.serving.worker_handle import WorkerHandle

_log = logging.getLogger(__name__)

VERSION_HEADER = "X-Bincount-Version"
_DISCONNECTED = 499  # in metrics alone, nobody reads the answer; the number is nginx's


class Listener:
    """Answers requests; a request for counts goes to the version that is current once its body is complete.

    Attributes:
        app: The ASGI app; it starts and stops the follower.
    """

    def __init__(
        self,
        follower: Follower,
        alias: str | None,
        limits: RequestLimits,
        token: str | None,
        log: PredictionLog | None = None,
        shadow: Shadow | None = None,
    ) -> None:
        """Takes what answers and what is done with the answers.

        Args:
            follower: Keeps the version that answers.
            alias: The alias it follows, None for none.
            limits: Of requests.
            token: What clients must send, None for nothing.
            log: Where answers are logged, None for nowhere.
            shadow: What answers the same requests in the background, None for nothing.
        """
        self._log, self._shadow = log, shadow
        self._follower, self._alias, self._limits = follower, alias, limits
        self._admission, self._metrics = Admission(limits, token), Metrics()
        get = {
            "/ping": self._ping,
            "/health": self._ping,
            "/ready": self._ready,
            "/model": self._model,
            "/version": self._version,
            "/metrics": self._samples,
        }
        routes = [Route(path, answer, methods=["GET"]) for path, answer in get.items()]
        routes.append(Route("/invocations", self._invocations, methods=["POST"]))
        self.app = Starlette(
            routes=routes,
            lifespan=self._lifespan,
            exception_handlers={RequestRefused: _refusal, HTTPException: _http_error, Exception: _unexpected},
        )

    @contextlib.asynccontextmanager
    async def _lifespan(self, _: Starlette) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(each.run()) for each in (self._follower, self._shadow) if each]
        for task in tasks:
            task.add_done_callback(_log_failure)
        if self._log is not None:
            self._log.start()
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._log is not None:
            await self._log.close()

    async def _ping(self, _: Request) -> Response:
        return _json({"alive": True})

    async def _ready(self, _: Request) -> Response:
        self._current()
        return _json({"ready": True})

    async def _model(self, request: Request) -> Response:
        self._admission.check_token(request)
        about = _about(self._alias, self._follower)
        if self._shadow is not None:
            about["shadow"] = _about(self._shadow.name, self._shadow.follower)
        return _json(about)

    async def _version(self, request: Request) -> Response:
        self._admission.check_token(request)
        try:
            answer = await self._current().get("/version")
        except OSError:
            raise _gone() from None
        return Response(answer.content, answer.status_code, media_type=answer.headers["content-type"])

    async def _samples(self, request: Request) -> Response:
        self._admission.check_token(request)
        worker, batches, serving = self._follower.current, {}, {}
        if worker is not None:
            serving = {"version": worker.version, "alias": self._alias or "", "manifest": worker.manifest or ""}
            with contextlib.suppress(OSError):  # its process has just ended
                batches = (await worker.get("/batches")).json()
        state = ServerState(
            in_flight=self._admission.requests,
            serving=serving,
            refused=len(self._follower.refused),
            swaps=self._follower.swaps,
            batches={int(size): times for size, times in batches.items()},
            log_rows=self._log.rows if self._log is not None else {},
            shadow_requests=self._shadow.requests if self._shadow is not None else {},
        )
        return Response(self._metrics.text(state), media_type=CONTENT_TYPE)

    async def _invocations(self, request: Request) -> Response:
        started, headers = time.monotonic(), {}
        try:
            self._admission.check_token(request)
            self._current()  # before the body is read
            with self._admission.slot() as slot:
                body = await _in_time(slot.read(request), self._limits.time_s)
                worker = self._current()
                headers[VERSION_HEADER] = worker.version
                left_s = self._limits.time_s - (time.monotonic() - started)
                response = await self._ask(worker, body, request.headers.get("content-type", ""), left_s)
        except RequestRefused as refused:
            response = _refusal(request, refused)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(discard_rest(request), self._limits.time_s)
        except ClientDisconnect:
            response = Response(status_code=_DISCONNECTED)
        response.headers.update(headers)
        version = headers.get(VERSION_HEADER, "")
        self._metrics.request(version, response.status_code, time.monotonic() - started)
        return response

    async def _ask(self, worker: WorkerHandle, body: bytes, content_type: str, left_s: float) -> Response:
        asked_at, began = time.time(), time.monotonic()
        try:
            answer = await asyncio.wait_for(worker.ask(body, content_type), left_s)
        except TimeoutError:
            self._follower.note(worker, failed=True)
            raise RequestRefused(504, f"server: timed out after {self._limits.time_s:.0f} s; retry.") from None
        except OSError:
            self._follower.note(worker, failed=True)
            raise _gone() from None
        self._follower.note(worker, failed=answer.status_code >= 500)
        if answer.status_code == 200:
            latency_ms, predictions = 1e3 * (time.monotonic() - began), answer.json()["predictions"]
            self._metrics.predictions(worker.version, predictions)
            if self._log is not None:
                served = LoggedAnswer(
                    request=uuid4().hex,
                    asked_at=asked_at,
                    role=SERVED,
                    version=worker.version,
                    status=200,
                    rows=len(predictions),
                    latency_ms=latency_ms,
                    content_type=content_type,
                    body=body,
                    answer=answer.content,
                )
                self._log.add(served)
                if self._shadow is not None:
                    self._shadow.offer(served)
        return Response(answer.content, answer.status_code, media_type="application/json")

    def _current(self) -> WorkerHandle:
        if self._follower.current is None:
            raise RequestRefused(503, "server: a model must be loaded, got none yet. Ask again later.", retry_after_s=5)
        return self._follower.current


async def _in_time(reading: Coroutine[Any, Any, bytes], limit_s: float) -> bytes:
    try:
        return await asyncio.wait_for(reading, limit_s)
    except TimeoutError:
        raise RequestRefused(
            408, f"request: its body must come within {limit_s:.0f} s, and did not. Send it faster."
        ) from None


def _about(name: str | None, follower: Follower) -> dict[str, Any]:
    worker = follower.current
    return {
        "alias": name,
        "version": worker and worker.version,
        "manifest": worker and worker.manifest,
        "since": follower.since and follower.since.isoformat(),
        "loading": follower.loading,
        "refused": list(follower.refused.values()),
    }


def _gone() -> RequestRefused:
    return RequestRefused(503, "server: the model must answer, and its process ended. Ask again.", retry_after_s=1)


def _log_failure(following: asyncio.Task[None]) -> None:
    if not following.cancelled() and following.exception() is not None:
        _log.error("the alias is not followed any more", exc_info=following.exception())


def _json(answer: object) -> Response:
    return Response(json.dumps(answer), media_type="application/json")


def _refusal(_: Request, refused: Exception) -> Response:
    assert isinstance(refused, RequestRefused)
    return Response(refused.as_json(), refused.status, refused.headers, media_type="application/json")


def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    messages = {
        404: "path: must be a known one, got another. Try /invocations.",
        405: "method: must fit the path. Use it.",
    }
    refused = RequestRefused(
        error.status_code, messages.get(error.status_code, "request: must be whole. Send it again.")
    )
    refused.headers.update(error.headers or {})
    return _refusal(request, refused)


def _unexpected(request: Request, _: Exception) -> Response:
    return _refusal(request, RequestRefused(500, "server: an answer must succeed, got an error. See its log."))
