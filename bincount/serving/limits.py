"""What one request may ask of the model server, and how it is told that it may not."""

from __future__ import annotations

import json
from dataclasses import dataclass
from http import HTTPStatus

from bincount.core.errors import DataError

SEND = 'Send {"dataframe_split": {"columns": ["image"], "data": [["<base64 of a JPEG or PNG>"]]}}.'


@dataclass(frozen=True)
class Limits:
    """Bounds that keep one client from taking the server from the others.

    Attributes:
        body_mb: Largest body of a request; a bin's photo has 0.05 MB.
        rows: Most photos in one request.
        megapixels: Most pixels of one request's photos together; one photo's own limit is `core.photos.MOST_PIXELS`.
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


class Refused(DataError):
    """A request that is not answered with counts; `status` is HTTP's."""

    def __init__(self, status: int, message: str, *, retry_after_s: int | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.headers = {} if retry_after_s is None else {"Retry-After": str(retry_after_s)}

    def as_json(self) -> bytes:
        """The answer's body, in the form of MLflow's own errors."""
        return json.dumps({"error_code": HTTPStatus(self.status).name, "message": str(self)}).encode()
