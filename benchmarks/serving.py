"""Speed of counting photos over HTTP, against what a user would do instead.

    python -m benchmarks.serving [--seconds 8] [--repeats 3] [--quick] [--json FILE]

One untrained ResNet50 at 224 px, on the same cores in one run:
(a) logged with MLflow's Keras flavour, `mlflow models serve`, sent pixels as JSON;
(b) a plain pyfunc that calls `model.predict`, `mlflow models serve`, sent a photo as base64 in JSON;
(c) the network in TensorFlow in a loop, no server, at its best batch size;
ours: `bincount serve`, sent a photo as base64 in JSON, or 32 as parquet.
All run at the same time; one at a time gets requests, in an order that alternates between repeats. A client sends a
request, waits for the answer and sends the next one, on a kept connection.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks.measure import Ratio, machine, paired, parser_of, publish, spread
from benchmarks.serving_contenders import PHOTO, PX, free_port, looping, pack_all, server
from bincount.client import request_of

CLIENTS, SIZES, ROWS = (1, 8, 32), (1, 8, 32), 32
KERAS, PLAIN, LOOP, OURS, PARQUET = (
    "a: Keras flavour",
    "b: model.predict",
    "c: bare loop",
    "bincount",
    "bincount parquet",
)


@dataclass(frozen=True)
class Cell:
    """One contender under one load, once."""

    contender: str
    clients: int
    requests: int
    photos_per_s: float
    p50_ms: float
    p99_ms: float


def load(address: str, body: bytes, content_type: str, clients: int, seconds: float) -> list[tuple[float, float]]:
    """Sends requests until the time is over; returns when each answer came and how long it took."""
    taken: list[tuple[float, float]] = []
    until = time.monotonic() + seconds

    def send() -> None:
        connection = http.client.HTTPConnection(address, timeout=300)
        while time.monotonic() < until:
            began = time.monotonic()
            connection.request("POST", "/invocations", body, {"Content-Type": content_type})
            response = connection.getresponse()
            answer = response.read()
            if response.status != 200:
                raise SystemExit(f"{address}: HTTP {response.status}: {answer[:500]!r}")
            taken.append((time.monotonic(), time.monotonic() - began))
        connection.close()

    threads = [threading.Thread(target=send) for _ in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return taken


def measure(
    contender: str, address: str, body: bytes, content_type: str, clients: int, rows: int, seconds: float
) -> Cell:
    began = time.monotonic()
    taken = load(address, body, content_type, clients, seconds)
    wall_s = max(at for at, _ in taken) - began
    ms = sorted(1e3 * each for _, each in taken)
    rate = len(taken) * rows / wall_s
    return Cell(contender, clients, len(taken), rate, statistics.median(ms), ms[min(len(ms) - 1, int(0.99 * len(ms)))])


def run(folder: Path, seconds: float, repeats: int) -> list[Cell]:
    """Measures every contender under every load, `repeats` times."""
    settings = pack_all(folder)
    pixels = json.dumps({"inputs": np.random.default_rng(0).integers(0, 256, (1, PX, PX, 3)).tolist()}).encode()
    photo = json.dumps(
        {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(PHOTO).decode()]]}}
    ).encode()
    table, parquet = request_of([PHOTO] * ROWS)
    ports = [free_port() for _ in range(3)]
    mlflow = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager=local"]
    cells = []
    with contextlib.ExitStack() as up:
        addresses = []
        for name, port in zip(["keras", "plain"], ports[:2], strict=True):
            command = [*mlflow, f"--model-uri={folder / name}", f"--port={port}"]
            addresses.append(up.enter_context(server(command, port, "/ping", settings, folder / f"{name}.log")))
        ours = [sys.executable, "-m", "bincount", "serve", f"--port={ports[2]}", "--max-time-s=120"]
        addresses.append(up.enter_context(server(ours, ports[2], "/ready", settings, folder / "ours.log")))
        bare = up.enter_context(looping(folder))
        assert bare.stdin is not None
        assert bare.stdout is not None
        loads = [
            (KERAS, addresses[0], pixels, "application/json", 1),
            (PLAIN, addresses[1], photo, "application/json", 1),
            (OURS, addresses[2], photo, "application/json", 1),
            (PARQUET, addresses[2], table, parquet, ROWS),
        ]
        for _, address, body, kind, _ in loads:
            load(address, body, kind, 2, 2)  # warm
        for repeat in range(repeats):
            for clients in CLIENTS:
                for what in loads[::-1] if repeat % 2 else loads:
                    if what[0] == PARQUET and clients > 1:
                        continue  # further clients would only wait
                    cells.append(measure(*what[:4], clients, what[4], seconds))
                    print(f"  {cells[-1]}", flush=True)
                for size in SIZES:
                    bare.stdin.write(f"{size} {seconds / 2}\n")
                    bare.stdin.flush()
                    rate = float(bare.stdout.readline())
                    cells.append(Cell(f"{LOOP} of {size}", clients, 0, rate, 1e3 * size / rate, 0.0))
                    print(f"  {cells[-1]}", flush=True)
    return cells


def ratios_of(cells: Sequence[Cell]) -> list[Ratio]:
    """Ours against the others, repeat by repeat."""

    def of(contender: str, clients: int) -> list[Cell]:
        return [cell for cell in cells if (cell.contender, cell.clients) == (contender, clients)]

    def best(contenders: Sequence[str], clients: Sequence[int]) -> list[float]:
        """The highest rate of each repeat."""
        columns = [[cell.photos_per_s for cell in of(name, many)] for name in contenders for many in clients]
        return [max(repeat) for repeat in zip(*(column for column in columns if column), strict=True)]

    def p50(contender: str) -> list[float]:
        return [cell.p50_ms for cell in of(contender, 1)]

    loops = [f"{LOOP} of {size}" for size in SIZES]
    return [
        Ratio.of("p50 at 1 client, bincount / (a)", paired(p50(OURS), p50(KERAS)), "0.04 or less"),
        Ratio.of("p50 at 1 client, bincount / (b)", paired(p50(OURS), p50(PLAIN)), "0.12 or less"),
        Ratio.of("photos/s at 8 clients, bincount / (c)", paired(best([OURS], [8]), best(loops, [8])), "2.5 or more"),
        Ratio.of(
            "photos/s in parquet, bincount / (a)'s best",
            paired(best([PARQUET], [1]), best([KERAS], CLIENTS)),
            "5 or more",
        ),
    ]


def report(cells: Sequence[Cell]) -> str:
    """The figures behind the ratios."""
    lines = ["| contender | clients | photos/s | p50 ms | p99 ms |", "|---|---|---|---|---|"]
    for contender, clients in sorted({(cell.contender, cell.clients) for cell in cells}):
        repeats = [cell for cell in cells if (cell.contender, cell.clients) == (contender, clients)]
        if contender.startswith(LOOP):
            continue
        times = [spread([getattr(cell, name) for cell in repeats], ",.0f") for name in ("p50_ms", "p99_ms")]
        lines.append(f"| {contender} | {clients} | {spread([c.photos_per_s for c in repeats])} | {' | '.join(times)} |")
    for size in SIZES:
        rates = [cell.photos_per_s for cell in cells if cell.contender == f"{LOOP} of {size}"]
        lines.append(f"| {LOOP} of {size} | | {spread(rates)} | | |")
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load (default: 8)")
    parser.add_argument("--repeats", type=int, default=3, help="of everything (default: 3)")
    options = parser.parse_args()
    here = machine()
    if options.quick:
        options.seconds, options.repeats = 2.0, 1
    with tempfile.TemporaryDirectory(prefix="bench-serving-") as folder:
        cells = run(Path(folder), options.seconds, options.repeats)
    publish(options, ratios_of(cells), report(cells), [asdict(cell) for cell in cells], here)


if __name__ == "__main__":
    main()
