"""HTTP to one process on this machine, through its Unix socket."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Answer(NamedTuple):
    """What a process answered."""

    status: int
    content_type: str
    body: bytes


class Wire:
    """Asks one process; connections are kept and used again.

    It takes no more of HTTP than uvicorn sends: a length with every answer.
    """

    def __init__(self, socket: Path) -> None:
        self._socket = str(socket)
        self._idle: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []

    async def ask(self, method: str, path: str, body: bytes = b"", content_type: str = "application/json") -> Answer:
        """Sends a request and waits for its answer; a cancelled one's connection is closed.

        Args:
            method: "GET" or "POST".
            path: What is asked for.
            body: What is sent.
            content_type: Of the body; printable ASCII.

        Raises:
            OSError: If the process is gone, or goes before its answer.
        """
        reader, writer = self._idle.pop() if self._idle else await asyncio.open_unix_connection(self._socket)
        try:
            head = f"{method} {path} HTTP/1.1\r\nHost: model\r\nContent-Type: {content_type}\r\n"
            writer.write(f"{head}Content-Length: {len(body)}\r\n\r\n".encode("latin-1"))
            writer.write(body)
            await writer.drain()
            status, headers = _head_of(await reader.readuntil(b"\r\n\r\n"))
            answer = await reader.readexactly(int(headers["content-length"]))
        except BaseException as error:
            writer.close()
            if isinstance(error, EOFError):
                raise ConnectionResetError("the process ended before its answer") from None
            raise
        self._idle.append((reader, writer))
        return Answer(status, headers.get("content-type", ""), answer)

    def close(self) -> None:
        """Closes the connections that are not in use."""
        while self._idle:
            self._idle.pop()[1].close()


def _head_of(head: bytes) -> tuple[int, Mapping[str, str]]:
    first, *lines = head.decode("latin-1").split("\r\n")
    fields = (line.partition(":") for line in lines if line)
    return int(first.split()[1]), {name.lower(): value.strip() for name, _, value in fields}
