"""Memory of `bincount serve` over an hour of load.

    python -m benchmarks.soak [--minutes 60] [--rate 20] [--quick] [--json FILE]

An untrained EfficientNetLite0 at 224 px, with `--log`. One client asks for one photo at a time, at a steady rate; each
tenth request must be refused (no JSON, no photo, an unknown column). The resident memory of the server and of all its
processes is read each minute.
"""

from __future__ import annotations

import base64
import http.client
import json
import os
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from itertools import cycle
from pathlib import Path

from benchmarks.measure import Ratio, machine, parser_of, publish
from benchmarks.serving_contenders import PHOTO, free_port, server
from benchmarks.shadow import register_two
from benchmarks.worker import memory_mb

REFUSED = (
    b"no JSON",
    json.dumps({"dataframe_split": {"columns": ["image"], "data": [["bm8gcGhvdG8="]]}}).encode(),
    json.dumps({"dataframe_split": {"columns": ["picture"], "data": [["x"]]}}).encode(),
)


@dataclass(frozen=True)
class Minute:
    """Answers, times and memory of one part of the load."""

    minute: float
    answered: int
    refused: int
    failed: int
    p50_ms: float
    memory_mb: float


def ask(connection: http.client.HTTPConnection, body: bytes) -> int:
    """Asks once; returns the HTTP status."""
    connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
    response = connection.getresponse()
    response.read()
    return response.status


def load(address: str, minutes: float, every_s: float, rate: float) -> list[Minute]:
    """Asks for so many minutes and looks every so many seconds."""
    good = json.dumps(
        {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(PHOTO).decode()]]}}
    ).encode()
    bodies = cycle([good] * 9 + [REFUSED[0]] + [good] * 9 + [REFUSED[1]] + [good] * 9 + [REFUSED[2]])
    connection = http.client.HTTPConnection(address, timeout=60)
    began, found = time.monotonic(), []
    while time.monotonic() - began < 60 * minutes:
        until, taken_ms, statuses = time.monotonic() + every_s, [], []
        while (now := time.monotonic()) < until:
            statuses.append(ask(connection, next(bodies)))
            taken_ms.append(1e3 * (time.monotonic() - now))
            time.sleep(max(0.0, now + 1 / rate - time.monotonic()))
        found.append(
            Minute(
                round((time.monotonic() - began) / 60, 2),
                statuses.count(200),
                sum(400 <= status < 500 for status in statuses),
                sum(status >= 500 for status in statuses),
                statistics.median(taken_ms),
                memory_below(os.getpid()),
            )
        )
        print(f"  {found[-1]}", flush=True)
    return found


def memory_below(pid: int) -> float:
    """Resident memory of all processes that a process has started, and they, in MB."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    return sum(memory_mb(child) + memory_below(child) for child in children)


def report(minutes: list[Minute]) -> str:
    """Ten of the measurements."""
    lines = ["| minute | answered | refused | failed | p50 ms | memory MB |", "|---|---|---|---|---|---|"]
    for one in minutes[:: max(1, len(minutes) // 10)]:
        facts = f"{one.minute:.0f} | {one.answered} | {one.refused} | {one.failed}"
        lines.append(f"| {facts} | {one.p50_ms:.1f} | {one.memory_mb:.0f} |")
    total = [sum(getattr(one, name) for one in minutes) for name in ("answered", "refused", "failed")]
    return "\n".join([*lines, "", "In all {:,} answered, {:,} refused as they should be, {:,} failed.".format(*total)])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--minutes", type=float, default=60.0, help="of load (default: 60)")
    parser.add_argument("--rate", type=float, default=20.0, help="requests a second (default: 20)")
    options = parser.parse_args()
    here = machine()
    if options.quick:
        options.minutes = 0.5
    every_s = min(60.0, 60 * options.minutes / 10)
    with tempfile.TemporaryDirectory(prefix="bench-soak-") as name:
        folder, port = Path(name), free_port()
        settings = register_two(folder)
        command = [sys.executable, "-m", "bincount", "serve", f"--port={port}", f"--log={folder / 'log'}"]
        with server(command, port, "/ready", settings, folder / "server.log") as address:
            minutes = load(address, options.minutes, every_s, options.rate)
    fifth = max(1, len(minutes) // 5)
    memory = [one.memory_mb for one in minutes]
    ends = statistics.median(memory[-fifth:]) / statistics.median(memory[fifth : 2 * fifth])
    ratio = Ratio.of("memory, last fifth / second fifth of the load", [ends], "at most 1.05")
    publish(options, [ratio], report(minutes), [asdict(one) for one in minutes], here)


if __name__ == "__main__":
    main()
