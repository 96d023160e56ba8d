"""Time of a served answer while answers are logged and a shadow answers the same requests, against neither.

    python -m benchmarks.shadow [--seconds 20] [--repeats 5] [--rate 5] [--quick] [--json FILE]

Two untrained EfficientNetLite0 at 224 px. One `bincount serve` has `--log` and `--shadow`, another one has neither;
both run all the time, and one at a time gets requests of one photo from one client at a steady rate. They take turns of
two seconds, so that what else the machine does falls on both alike.
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
from benchmarks.serving_contenders import CODE, PHOTO, free_port, server, write_golden, write_model
from bincount.client import about_server
from bincount.evaluate.served_comparison import compare_served
from bincount.settings import Settings
from bincount.tracking import model_registry, runs
from bincount.tracking.client import mlflow_client

PLAIN, SHADOWED = "neither", "--log --shadow"
START_S, TURN_S = 120, 2.0


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
        package = model_registry.Package(CODE, model, ["mlflow"], PHOTO, {})
        version = model_registry.register(settings, run_id, package, {}, "")
        with mlflow_client(settings, alias) as client:
            client.set_registered_model_alias(model_registry.MODEL, alias, version)
    return settings


def ask(address: str, seconds: float, rate: float) -> list[float]:
    """Asks for so long, at so many requests a second, fewer where answers take longer; returns their times in ms."""
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
    return taken_ms


def measure(addresses: dict[str, str], seconds: float, rate: float) -> list[Cell]:
    """Both servers in turns, each for so many seconds."""
    taken_ms: dict[str, list[float]] = {name: [] for name in addresses}
    for turn in range(round(seconds / TURN_S)):
        for name in list(addresses)[:: -1 if turn % 2 else 1]:
            taken_ms[name] += ask(addresses[name], TURN_S, rate)
    return [
        Cell(name, len(times), statistics.median(times), sorted(times)[int(0.95 * len(times))])
        for name, times in taken_ms.items()
    ]


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
        measure(addresses, 2 * TURN_S, rate)  # warm
        for _ in range(repeats):
            cells += measure(addresses, seconds, rate)
            print(f"  {cells[-2:]}", flush=True)
    (pair,) = compare_served(log)["pairs"]
    return cells, pair


def report(cells: list[Cell], pair: dict) -> str:
    """The figures behind the ratio."""
    lines = ["| server | requests | p50 ms | p95 ms |", "|---|---|---|---|"]
    for name in (PLAIN, SHADOWED):
        repeats = [cell for cell in cells if cell.server == name]
        times = [spread([getattr(cell, what) for cell in repeats]) for what in ("p50_ms", "p95_ms")]
        lines.append(f"| {name} | {sum(cell.requests for cell in repeats)} | {' | '.join(times)} |")
    answered, p50 = pair["photos"] - pair["failed"], pair["latency_ms"]["shadow"]["p50"]
    lines += ["", f"The shadow answered {answered} requests, those to warm up included, with a p50 of {p50:.1f} ms."]
    return "\n".join(lines)


def main() -> None:
    parser = parser_of(__doc__)
    parser.add_argument("--seconds", type=float, default=20.0, help="of each server in a repeat (default: 20)")
    parser.add_argument("--repeats", type=int, default=5, help="of both (default: 5)")
    parser.add_argument("--rate", type=float, default=5.0, help="requests a second (default: 5)")
    options = parser.parse_args()
    here = machine()
    if options.quick:
        options.seconds, options.repeats = 4.0, 2
    with tempfile.TemporaryDirectory(prefix="bench-shadow-") as folder:
        cells, pair = run(Path(folder), options.seconds, options.repeats, options.rate)
    of = {name: [cell.p50_ms for cell in cells if cell.server == name] for name in (PLAIN, SHADOWED)}
    ratio = Ratio.of(
        "p50 of the served answer, with / without log and shadow", paired(of[SHADOWED], of[PLAIN]), "below 1.1"
    )
    publish(options, [ratio], report(cells, pair), {"cells": [asdict(cell) for cell in cells], "log": pair}, here)


if __name__ == "__main__":
    main()
