"""A proxy in front of an S3 server: it counts requests, takes its time, and fails on request.

Each rule matches requests by a pattern for "METHOD path?query"; from the Nth match on, it answers with an error, or the
server is gone for some seconds. Threads of this process serve it, or `python -m tests.s3_proxy ADDRESS LATENCY_MS`.
"""

from __future__ import annotations

import contextlib
import re
import socket
import socketserver
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urlsplit

ANSWERS = {
    "busy": (503, "SlowDown"),
    "denied": (403, "AccessDenied"),
    "full": (507, "XMinioStorageFull"),
    "quota": (403, "QuotaExceeded"),
}


@dataclass
class Rule:
    """What happens to requests that match, from the `since`-th on.

    Attributes:
        how: A name of `ANSWERS`, or "gone": every connection is closed at once.
        pattern: Matches somewhere in "METHOD path?query".
        for_s: How long it lasts after it has begun.
        hit: How many requests it has failed, or how often the server went.
    """

    how: str
    pattern: str = ""
    since: int = 1
    for_s: float = float("inf")
    matches: int = 0
    began_s: float | None = None
    hit: int = 0


class Proxy(socketserver.ThreadingTCPServer):
    """The running proxy; one connection is one request.

    Attributes:
        rules: How it fails.
        latency_s: How long each request waits.
        asked: "METHOD path?query" of each request in turn, with the bytes that it sent and got.
    """

    daemon_threads = True
    block_on_close = False
    allow_reuse_address = True
    request_queue_size = 512

    def __init__(self, upstream: str, latency_s: float = 0.0) -> None:
        super().__init__(("127.0.0.1", 0), _Connection)
        self.upstream = urlsplit(upstream)
        self.latency_s = latency_s
        self.rules: list[Rule] = []
        self.asked: list[tuple[str, int, int]] = []
        self.endpoint = f"http://127.0.0.1:{self.server_address[1]}"
        self._gone_until_s = 0.0
        self._choosing = threading.Lock()

    def fail(self, how: str, pattern: str = "", *, since: int = 1, for_s: float = float("inf")) -> Rule:
        """Adds a rule."""
        rule = Rule(how, pattern, since, for_s)
        self.rules.append(rule)
        return rule

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """No connection is answered while the server is gone."""
        return time.monotonic() >= self._gone_until_s

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Whoever was killed does not read its answer."""

    def failure_of(self, asked: str) -> str | None:
        """How a request fails."""
        now = time.monotonic()
        with self._choosing:
            for rule in self.rules:
                if not re.search(rule.pattern, asked):
                    continue
                rule.matches += 1
                if rule.matches >= rule.since and rule.began_s is None:
                    rule.began_s = now
                if rule.began_s is None or now - rule.began_s > rule.for_s:
                    continue
                rule.hit += 1
                if rule.how == "gone":
                    self._gone_until_s = now + rule.for_s
                return rule.how
        return None


class _Connection(socketserver.StreamRequestHandler):
    server: Proxy

    def handle(self) -> None:
        lines = []
        while (line := self.rfile.readline()) not in (b"\r\n", b""):
            lines.append(line)
        if not lines:
            return
        lengths = [line for line in lines if line.lower().startswith(b"content-length:")]
        sent = self.rfile.read(int(lengths[0].split(b":")[1])) if lengths else b""
        method, target, _ = lines[0].decode().split(" ", 2)
        asked = f"{method} {unquote(target)}"
        time.sleep(self.server.latency_s)
        how = self.server.failure_of(asked)
        if how == "gone":
            return
        got = self._refuse(how) if how else self._pass_on(lines, sent)
        self.server.asked.append((asked, len(sent), got))

    def _pass_on(self, lines: list[bytes], sent: bytes) -> int:
        url, got = self.server.upstream, 0
        kept = [line for line in lines if not line.lower().startswith(b"connection:")]
        with socket.create_connection((url.hostname or "", url.port or 80)) as upstream:
            upstream.sendall(b"".join([*kept, b"Connection: close\r\n\r\n"]))
            upstream.sendall(sent)
            while piece := upstream.recv(1 << 18):
                got += len(piece)
                self.request.sendall(piece)
        return got

    def _refuse(self, how: str) -> int:
        status, code = ANSWERS[how]
        body = f"<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
        head = f"HTTP/1.1 {status} {code}\r\nContent-Length: {len(body)}\r\nContent-Type: application/xml\r\n"
        self.request.sendall(f"{head}Connection: close\r\n\r\n".encode() + body)
        return len(body)


@contextlib.contextmanager
def run_proxy(upstream: str, *, latency_s: float = 0.0) -> Iterator[Proxy]:
    """Runs a proxy while the block lasts."""
    with Proxy(upstream, latency_s) as proxy:
        thread = threading.Thread(target=proxy.serve_forever, args=(0.05,), name="s3 proxy", daemon=True)
        thread.start()
        try:
            yield proxy
        finally:
            proxy.shutdown()
            thread.join()


def main() -> None:
    """Serves until it is killed; prints the port it took."""
    with Proxy(sys.argv[1], float(sys.argv[2]) / 1000) as proxy:
        print(proxy.server_address[1], flush=True)
        proxy.serve_forever()


if __name__ == "__main__":
    main()
