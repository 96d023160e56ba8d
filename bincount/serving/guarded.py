"""MLflow's scoring app behind the guard: what it answers is ours to show."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

from bincount.serving.guard import check_request
from bincount.serving.limits import SEND, Limits, Refused

# The only errors of the model whose words are its own: a row's number, and no byte of the photo.
_OWN_WORDS = re.compile(r"row \d+: image: its pixels must be whole, got damaged ones\.")


class Guarded:
    """An ASGI app: MLflow's, with requests checked before it and errors reworded after it.

    MLflow's own errors quote the request and hold stack traces and paths.
    """

    def __init__(self, app: Callable[..., Any], limits: Limits, batches: Callable[[], Mapping[int, int]]) -> None:
        self._app, self._limits, self._batches = app, limits, batches

    async def __call__(self, scope: dict, receive: Callable[..., Any], send: Callable[..., Any]) -> None:
        """Answers one request."""
        if scope["path"] == "/batches":
            await _send(send, 200, json.dumps(self._batches()).encode())
            return
        if scope["path"] != "/invocations":
            await self._app(scope, receive, send)
            return
        body = await _read(receive)
        content_type = dict(scope["headers"]).get(b"content-type", b"").decode("latin-1")
        try:
            rows = await asyncio.to_thread(check_request, body, content_type, self._limits)
            status, answer = await self._ask(scope, receive, body)
            _check_answer(status, answer, rows)
        except Refused as refused:
            status, answer = refused.status, refused.as_json()
        await _send(send, status, answer)

    async def _ask(self, scope: dict, receive: Callable[..., Any], body: bytes) -> tuple[int, bytes]:
        sent: list[dict] = []
        left = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> dict:
            return left.pop() if left else await receive()

        async def keep(message: dict) -> None:
            sent.append(message)

        await self._app(scope, replay, keep)
        return sent[0]["status"], b"".join(message.get("body", b"") for message in sent[1:])


def _check_answer(status: int, answer: bytes, rows: int) -> None:
    if status == 200:
        try:
            if len(json.loads(answer)["predictions"]) == rows:
                return
        except (ValueError, KeyError, TypeError):
            pass
    elif status == 504:
        raise Refused(504, "server: a request must be answered in time, got too much to do. Send fewer photos.")
    elif status == 400:
        said = _said(answer)
        own = _OWN_WORDS.match(said)
        if own:
            raise Refused(400, f"{own[0]} Send the whole file.")
        if "unexpected error while evaluating the model" not in said:
            raise Refused(400, f"request: must be a table of photos, got another form. {SEND}")
    raise Refused(500, "server: counting must succeed, got an error. See its log.")


def _said(answer: bytes) -> str:
    try:
        return str(json.loads(answer)["message"])
    except (ValueError, KeyError, TypeError):
        return ""


async def _read(receive: Callable[..., Any]) -> bytes:
    parts, more = [], True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return b"".join(parts)


async def _send(send: Callable[..., Any], status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
