"""A version's process: time until it is ready, time of one photo, and memory.

    python -m benchmarks.worker [--seconds 5] [--repeats 3] [--quick] [--json FILE]

Untrained networks at 224 px, with the model at hand. Each repeat starts the process, waits for its
report, asks it with one client and then with eight on its socket, and reads how much memory it holds (RSS).
"""

from __future__ import annotations

import asyncio
import base64
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import Ratio, machine, parser_of, publish, spread
from benchmarks.serving_contenders import PHOTO, write_model
from bincount.serving.admission import RequestLimits
from bincount.serving.request_parser import JSON
from bincount.serving.worker import MODEL, READY, SOCKET
from bincount.serving.worker_handle import socket_client

CLIENTS = 8
GOALS = {"ResNet50": (None, 600), "EfficientNetLite0": (5, 350)}
"""Networks, with their largest p50 in ms and memory in MB."""
LARGEST_READY_S = 3


@dataclass(frozen=True)
class Measured:
    """One process, from its start to its end."""

    backbone: str
    ready_s: float
    ready_mb: float
    p50_ms: float
    photos_per_s: float
    loaded_mb: float


@contextmanager
def worker(prepared: Path) -> Iterator[tuple[Path, int, float]]:
    """A process on a copy of what it needs: its socket, its id, and the seconds until it was ready."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        shutil.copytree(prepared, folder / MODEL)
        command = [sys.executable, "-m", "bincount.serving.worker", "1", place, json.dumps(asdict(RequestLimits()))]
        began = time.monotonic()
        with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
            try:
                assert process.stdout is not None
                line = process.stdout.readline()
                taken = time.monotonic() - began
                if READY not in json.loads(line):
                    raise SystemExit(f"worker: must be ready, got {line!r}.")
                yield folder / SOCKET, process.pid, taken
            finally:
                process.kill()


async def ask(socket: Path, clients: int, seconds: float) -> list[float]:
    """Seconds that each answer took."""
    rows = [[base64.b64encode(PHOTO).decode()]]
    body = json.dumps({"dataframe_split": {"columns": ["image"], "data": rows}}).encode()
    taken: list[float] = []
    until = time.monotonic() + seconds

    async def one() -> None:
        while time.monotonic() < until:
            began = time.monotonic()
            answer = await client.post("/invocations", content=body, headers={"Content-Type": JSON})
            answer.raise_for_status()
            taken.append(time.monotonic() - began)

    async with socket_client(socket) as client:
        await asyncio.gather(*(one() for _ in range(clients)))
    return taken


def memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def measure(backbone: str, prepared: Path, seconds: float) -> Measured:
    with worker(prepared) as (socket, pid, ready_s):
        ready_mb = memory_mb(pid)
        alone = asyncio.run(ask(socket, 1, seconds))
        together = asyncio.run(ask(socket, CLIENTS, seconds))
        p50_ms = 1e3 * statistics.median(alone[len(alone) // 10 :])
        return Measured(backbone, ready_s, ready_mb, p50_ms, len(together) / seconds, memory_mb(pid))


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=5.0, help="of each load (default: 5)")
    parser.add_argument("--repeats", type=int, default=3, help="of everything (default: 3)")
    options = parser.parse_args()
    here, found = machine(), list[Measured]()
    if options.quick:
        options.seconds, options.repeats = 1.0, 1
    with tempfile.TemporaryDirectory(prefix="bench-worker-") as place:
        for backbone in GOALS:
            write_model(Path(place) / backbone, backbone)
        for _ in range(options.repeats):
            for backbone in GOALS:
                found.append(measure(backbone, Path(place) / backbone, options.seconds))
                print(f"  {found[-1]}", flush=True)
    lines = [
        "| network | ready s | MB when ready | p50 ms | photos/s at 8 clients | MB afterwards |",
        "|---|---|---|---|---|---|",
    ]
    ratios = []
    for backbone, (largest_ms, largest_mb) in GOALS.items():
        repeats = [each for each in found if each.backbone == backbone]
        columns = {name: [getattr(each, name) for each in repeats] for name in list(asdict(repeats[0]))[1:]}
        lines.append(f"| {backbone} | {' | '.join(spread(values) for values in columns.values())} |")
        ratios.append(Ratio.of(f"{backbone}: s until ready", columns["ready_s"], f"at most {LARGEST_READY_S}"))
        ratios.append(Ratio.of(f"{backbone}: MB after load", columns["loaded_mb"], f"at most {largest_mb}"))
        if largest_ms:
            ratios.append(Ratio.of(f"{backbone}: p50 ms of one photo", columns["p50_ms"], f"at most {largest_ms}"))
    publish(options, ratios, "\n".join(lines), [asdict(each) for each in found], here)


if __name__ == "__main__":
    main()
