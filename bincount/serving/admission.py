"""Admission of requests: only what can be answered soon and held in memory."""

from __future__ import annotations

import contextlib
import hmac
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus

from starlette.requests import ClientDisconnect, Request

from bincount.errors import DataError


class Admission:
    """Counts the requests that are being answered and the bytes that they hold."""

    def __init__(self, limits: RequestLimits, token: str | None) -> None:
        """Takes the limits, and the token that clients must send as "Authorization: Bearer TOKEN"; None for none."""
        self._limits, self._token = limits, token
        self._requests = self._held_bytes = 0

    @property
    def requests(self) -> int:
        """Requests that are being answered now."""
        return self._requests

    def check_token(self, request: Request) -> None:
        """Checks the token of a request.

        Raises:
            RequestRefused: If it is absent or wrong (401).
        """
        if self._token is None:
            return
        given = request.headers.get("authorization", "")
        # The whole header, in a time that does not depend on where it differs.
        if not hmac.compare_digest(given.encode("latin-1"), f"Bearer {self._token}".encode()):
            raise RequestRefused(
                401, "Authorization: must be Bearer and the server's token, got none or another. Send it."
            )

    @contextmanager
    def slot(self) -> Iterator[AdmissionSlot]:
        """A slot for one request.

        Raises:
            RequestRefused: If all are taken (429).
        """
        if self._requests >= self._limits.waiting:
            raise RequestRefused(429, "server: too many requests wait already. Ask again later.", retry_after_s=1)
        self._requests += 1
        slot = AdmissionSlot(self, self._limits)
        try:
            yield slot
        finally:
            self._requests -= 1
            self._held_bytes -= slot.held_bytes

    def hold(self, size: int) -> None:
        """Counts bytes that come in.

        Raises:
            RequestRefused: If there are too many already (503).
        """
        if self._held_bytes + size > self._limits.held_bytes:
            raise RequestRefused(503, "server: too much waits already. Ask again later.", retry_after_s=1)
        self._held_bytes += size


class AdmissionSlot:
    """The slot of one request; `held_bytes` of its body have come."""

    def __init__(self, admission: Admission, limits: RequestLimits) -> None:
        self.held_bytes = 0
        self._admission, self._limits = admission, limits

    async def read(self, request: Request) -> bytes:
        """The request's body.

        Raises:
            RequestRefused: If it is longer (413), encoded (415), or there is no room for it (503).
        """
        limits = self._limits
        if request.headers.get("content-encoding", "identity") != "identity":
            raise RequestRefused(415, "Content-Encoding: must be absent, got one. Photos are compressed already.")
        length = request.headers.get("content-length", "0")
        too_long = RequestRefused(
            413, f"request: its body must have at most {limits.body_mb} MB, got more. Send fewer rows."
        )
        if length.isdecimal() and int(length[:20]) > limits.body_bytes:
            raise too_long
        parts = []
        async for part in request.stream():
            if self.held_bytes + len(part) > limits.body_bytes:
                raise too_long
            self._admission.hold(len(part))
            self.held_bytes += len(part)
            parts.append(part)
        return b"".join(parts)


_DISCARDED_BYTES = 1_000_000_000


async def discard_rest(request: Request) -> None:
    """Reads and drops what is left of a refused request's body, up to 1 GB.

    A client that is still sending when the connection closes sees a reset and not the answer.
    """
    length = request.headers.get("content-length", "0")
    left = _DISCARDED_BYTES
    if length.isdecimal() and int(length[:20]) > left:
        return
    with contextlib.suppress(RuntimeError, ClientDisconnect):  # all of it is read already, or nobody waits
        async for part in request.stream():
            left -= len(part)
            if left < 0:
                return


SEND = 'Send {"dataframe_split": {"columns": ["image"], "data": [["<base64 of a JPEG or PNG>"]]}}.'


@dataclass(frozen=True)
class RequestLimits:
    """Bounds that keep one client from taking the server from the others.

    Attributes:
        body_mb: Largest body of a request; a bin's photo has 0.05 MB.
        rows: Most photos in one request.
        megapixels: Most pixels of one request's photos together; `dataset.photo_check.MOST_PIXELS` limits one photo.
        waiting: Most requests at a time, counted or waiting.
        time_s: Longest time for one request.
    """

    body_mb: int = 32
    rows: int = 256
    megapixels: int = 256
    waiting: int = 64
    time_s: float = 30.0

    @property
    def body_bytes(self) -> int:
        """Largest body of a request."""
        return self.body_mb * 1_000_000

    @property
    def held_bytes(self) -> int:
        """Most bytes of bodies held at a time."""
        return 8 * self.body_bytes


class RequestRefused(DataError):
    """A request that is not answered with counts; `status` is HTTP's."""

    def __init__(self, status: int, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}

    def as_json(self) -> bytes:
        """The answer's body, in the form of MLflow's own errors."""
        return json.dumps({"error_code": HTTPStatus(self.status).name, "message": str(self)}).encode()
