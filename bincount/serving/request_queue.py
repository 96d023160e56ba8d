"""A bounded queue of requests for what is done about them in the background."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Generic, TypeVar

_T = TypeVar("_T")


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
