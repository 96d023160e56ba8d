"""Time of a served answer while answers are logged and a shadow answers the same requests, against neither.

    python -m benchmarks.shadow [--seconds 20] [--repeats 5] [--rate 5] [--quick] [--json FILE]

Two untrained EfficientNetLite0 at 224 px. One `bincount serve` has `--log` and `--shadow`, another one has neither;
both run all the time, and one at a time gets requests of one photo from one client at a steady rate, in an order that
alternates between repeats.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import statistics
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.measure import Ratio, machine, paired, parser_of, publish, spread
from benchmarks.serving_contenders import PHOTO, SERVING, free_port, server, write_golden, write_model
from bincount.client import about_server
from bincount.evaluate.served_comparison import compare_served
from bincount.settings import Settings
from bincount.tracking import model_registry, runs
from bincount.tracking.client import mlflow_client

PLAIN, SHADOWED = "neither", "--log --shadow"
START_S = 120


@dataclass(frozen=True)
class Cell:
    """One server under the load, once."""

    server: str
    requests: int
    p50_ms: float
    p95_ms: float


def register_two(work: Path) -> Settings:
    """A champion and a challenger."""
    settings = Settings(work / "data", f"sqlite:///{work / 'mlflow.db'}", work / "artifacts")
    model = work / "model"
    write_model(model, "EfficientNetLite0")
    write_golden(model, work / "golden")
    for alias in (model_registry.CHAMPION, model_registry.CHALLENGER):
        run_id = runs.open_run(settings)
        runs.log_artifacts(settings, run_id, work / "golden", "golden")
        package = model_registry.Package(SERVING / "model.py", model, ["mlflow"], PHOTO, {})
        version = model_registry.register(settings, run_id, package, {}, "")
        with mlflow_client(settings, alias) as client:
            client.set_registered_model_alias(model_registry.MODEL, alias, version)
    return settings


def measure(name: str, address: str, seconds: float, rate: float) -> Cell:
    """Asks for so long, at so many requests a second, fewer where answers take longer."""
    body = json.dumps({"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(PHOTO).decode()]]}})
    connection = http.client.HTTPConnection(address, timeout=60)
    began, taken_ms = time.monotonic(), []
    while (now := time.monotonic()) < began + seconds:
        connection.request("POST", "/invocations", body, {"Content-Type": "application/json"})
        response = connection.getresponse()
        said = response.read()
        if response.status != 200:
            raise SystemExit(f"{address}: HTTP {response.status}: {said[:500]!r}")
        taken_ms.append(1e3 * (time.monotonic() - now))
        time.sleep(max(0.0, now + 1 / rate - time.monotonic()))
    connection.close()
    taken_ms.sort()
    return Cell(name, len(taken_ms), statistics.median(taken_ms), taken_ms[int(0.95 * len(taken_ms))])


def run(folder: Path, seconds: float, repeats: int, rate: float) -> tuple[list[Cell], dict]:
    """Measures both servers, `repeats` times; also what the log says of served version and shadow."""
    settings, log = register_two(folder), folder / "log"
    flags = {PLAIN: [], SHADOWED: [f"--log={log}", "--shadow=challenger"]}
    cells = []
    with contextlib.ExitStack() as up:
        addresses = {}
        for name, more in flags.items():
            port = free_port()
            command = [sys.executable, "-m", "bincount", "serve", f"--port={port}", *more]
            addresses[name] = up.enter_context(server(command, port, "/ready", settings, folder / f"{port}.log"))
        until = time.monotonic() + START_S
        while about_server(f"http://{addresses[SHADOWED]}").get("shadow", {}).get("version") is None:
            if time.monotonic() > until:
                raise SystemExit(f"the shadow was not loaded in {START_S} s")
            time.sleep(0.5)
        for name, address in addresses.items():
            measure(name, address, 3, rate)  # warm
        for repeat in range(repeats):
            for name in list(addresses)[:: -1 if repeat % 2 else 1]:
                cells.append(measure(name, addresses[name], seconds, rate))
                print(f"  {cells[-1]}", flush=True)
    (pair,) = compare_served(log)["pairs"]
    return cells, pair


def report(cells: list[Cell], pair: dict) -> str:
    """The figures behind the ratio."""
    lines = ["| server | requests | p50 ms | p95 ms |", "|---|---|---|---|"]
    for name in (PLAIN, SHADOWED):
        repeats = [cell for cell in cells if cell.server == name]
        times = [spread([getattr(cell, what) for cell in repeats]) for what in ("p50_ms", "p95_ms")]
        lines.append(f"| {name} | {sum(cell.requests for cell in repeats)} | {' | '.join(times)} |")
    asked = sum(cell.requests for cell in cells if cell.server == SHADOWED)
    p50 = pair["latency_ms"]["shadow"]["p50"]
    said = (
        f"The shadow answered {pair['photos'] - pair['failed']} requests, the warm ones included, of {asked} measured; "
    )
    return "\n".join([*lines, "", said + f"its p50 at low priority is {p50:.1f} ms."])


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each load (default: 20)")
    parser.add_argument("--repeats", type=int, default=5, help="of both (default: 5)")
    parser.add_argument("--rate", type=float, default=5.0, help="requests a second (default: 5)")
    options = parser.parse_args()
    here = machine()
    if options.quick:
        options.seconds, options.repeats = 5.0, 2
    with tempfile.TemporaryDirectory(prefix="bench-shadow-") as folder:
        cells, pair = run(Path(folder), options.seconds, options.repeats, options.rate)
    of = {name: [cell.p50_ms for cell in cells if cell.server == name] for name in (PLAIN, SHADOWED)}
    ratio = Ratio.of(
        "p50 of the served answer, with / without log and shadow", paired(of[SHADOWED], of[PLAIN]), "below 1.1"
    )
    publish(options, [ratio], report(cells, pair), {"cells": [asdict(cell) for cell in cells], "log": pair}, here)


if __name__ == "__main__":
    main()
