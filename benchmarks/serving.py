"""How fast photos are counted over HTTP, against what a user would do instead.

    python -m benchmarks.serving [--seconds 8] [--repeats 2] [--json FILE]

One untrained ResNet50 at 224 px, on the same cores in one run:
(a) logged with MLflow's Keras flavour, `mlflow models serve`, sent pixels as JSON;
(b) a plain pyfunc that calls `model.predict`, `mlflow models serve`, sent a photo as base64 in JSON;
(c) bincount's predictor in a loop, no server, at its best batch size;
ours: `bincount serve`, sent a photo as base64 in JSON, or 32 as parquet.
All are up at the same time; one at a time is asked, in an order that alternates between repeats. A client asks, waits
for the answer and asks again, on a kept connection.
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import http.client
import json
import os
import platform
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import bincount.serving
from bincount.edge import packaging, registry, tracking
from bincount.edge.mlflow_door import door
from bincount.edge.model_server import _request
from bincount.edge.settings import Settings

SERVING = Path(bincount.serving.__file__).parent
PHOTO = (SERVING / "example.jpg").read_bytes()
PX, CLIENTS, ROWS = 224, (1, 8, 32), 32
KERAS, PLAIN, LOOP, OURS, PARQUET = (
    "a: Keras flavour",
    "b: model.predict",
    "c: bare loop",
    "bincount",
    "bincount parquet",
)
START_S = 300

PLAIN_CODE = """
import io, json
from pathlib import Path
import keras, numpy as np
from PIL import Image
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel

class Plain(PythonModel):
    def load_context(self, context):
        self.model = keras.saving.load_model(Path(context.artifacts["model"]) / "model.keras", compile=False)

    def predict(self, context, model_input, params=None):
        photos = [Image.open(io.BytesIO(each)).convert("RGB").resize((224, 224)) for each in model_input["image"]]
        return self.model.predict(np.stack([np.asarray(photo) for photo in photos]), verbose=0).tolist()

set_model(Plain())
"""


@dataclass(frozen=True)
class Cell:
    """One contender under one load, once."""

    contender: str
    clients: int
    requests: int
    photos_per_s: float
    p50_ms: float
    p99_ms: float


def write_model(folder: Path) -> None:
    """ResNet50 with a small head: stock layers, uint8 photos to probabilities."""
    import keras

    keras.utils.set_random_seed(0)
    photos = keras.Input((PX, PX, 3), dtype="uint8")
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(photos)
    features = keras.applications.ResNet50(include_top=False, weights=None, pooling="avg", input_shape=(PX, PX, 3))(
        scaled
    )
    folder.mkdir(parents=True)
    keras.Model(photos, keras.layers.Dense(5, "softmax")(features)).save(folder / "model.keras")
    facts = {
        "counts": "1-5",
        "fit": "pad",
        "image_px": PX,
        "backbone": "ResNet50",
        "weights": "none",
        "manifest": "0" * 16,
    }
    (folder / "model.json").write_text(json.dumps(facts))


def pack_all(place: Path) -> Settings:
    """Writes the models of all contenders; ours is registered, and champion."""
    import keras
    import mlflow.keras
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    from bincount.core.answers import answer_of
    from bincount.learn.predict import Predictor

    settings = Settings(place / "data", f"sqlite:///{place / 'mlflow.db'}", place / "artifacts")
    run_id = tracking.open_run(settings)
    folder = settings.run(run_id) / "model"
    write_model(folder)
    predictor = Predictor(folder)
    (place / "golden").mkdir()
    (place / "golden" / "0.photo").write_bytes(PHOTO)
    answer = answer_of(predictor.predict([PHOTO])[0], predictor.counts)
    (place / "golden" / "answers.json").write_text(json.dumps({"0": answer}))
    tracking.log_artifacts(settings, run_id, place / "golden", "golden")
    ours = packaging.Package(SERVING / "model.py", folder, ["mlflow"], PHOTO, {})
    version = packaging.register(settings, run_id, ours, {}, "")
    with door(settings, "champion") as client:
        client.set_registered_model_alias(registry.MODEL, registry.CHAMPION, version)

    pixels = Schema([TensorSpec(np.dtype("uint8"), (-1, PX, PX, 3))])
    out = Schema([TensorSpec(np.dtype("float32"), (-1, 5))])
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    mlflow.keras.save_model(model, str(place / "keras"), signature=ModelSignature(pixels, out))
    (place / "plain.py").write_text(PLAIN_CODE)
    from bincount.edge.packaging import _signature

    mlflow.pyfunc.save_model(
        str(place / "plain"),
        python_model=str(place / "plain.py"),
        artifacts={"model": str(folder)},
        pip_requirements=["mlflow"],
        signature=ModelSignature(_signature().inputs),
    )
    (place / "model").symlink_to(folder)
    return settings


@contextlib.contextmanager
def server(command: list[str], port: int, path: str, settings: Settings, log: Path) -> Iterator[str]:
    """Runs a server until it is ready, and ends it with all it started."""
    env = os.environ | {"MLFLOW_TRACKING_URI": settings.tracking_uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    with log.open("wb") as file:
        process = subprocess.Popen(command, env=env, stdout=file, stderr=file, start_new_session=True)
    try:
        until = time.monotonic() + START_S
        while not answers(port, path):
            if process.poll() is not None or time.monotonic() > until:
                raise SystemExit(f"{command}: did not start.\n{log.read_text()[-3000:]}")
            time.sleep(0.5)
        yield f"127.0.0.1:{port}"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(60)


def answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def load(address: str, body: bytes, content_type: str, clients: int, seconds: float) -> list[tuple[float, float]]:
    """Asks until the time is over; when each answer came and how long it took."""
    taken: list[tuple[float, float]] = []
    until = time.monotonic() + seconds

    def ask() -> None:
        connection = http.client.HTTPConnection(address, timeout=300)
        while time.monotonic() < until:
            began = time.monotonic()
            connection.request("POST", "/invocations", body, {"Content-Type": content_type})
            response = connection.getresponse()
            said = response.read()
            if response.status != 200:
                raise SystemExit(f"{address}: HTTP {response.status}: {said[:500]!r}")
            taken.append((time.monotonic(), time.monotonic() - began))
        connection.close()

    threads = [threading.Thread(target=ask) for _ in range(clients)]
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


def loop(folder: str) -> None:
    """The bare predictor: for each line of its input, photos/s at that batch size for those seconds."""
    from bincount.learn.predict import Predictor

    predictor = Predictor(Path(folder))
    print("ready", flush=True)
    for line in sys.stdin:
        size, seconds = int(line.split()[0]), float(line.split()[1])
        began, counted = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            predictor.predict([PHOTO] * size)
            counted += size
        print(counted / (time.monotonic() - began), flush=True)


@contextlib.contextmanager
def looping(place: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.serving", "--loop", str(place / "model")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


def run(seconds: float, repeats: int) -> list[Cell]:
    """Every contender under every load, as often as asked."""
    place = Path(tempfile.mkdtemp(prefix="bench-serving-"))
    settings = pack_all(place)
    pixels = json.dumps({"inputs": np.random.default_rng(0).integers(0, 256, (1, PX, PX, 3)).tolist()}).encode()
    photo = json.dumps(
        {"dataframe_split": {"columns": ["image"], "data": [[base64.b64encode(PHOTO).decode()]]}}
    ).encode()
    table, parquet = _request([PHOTO] * ROWS)
    ports = [free_port() for _ in range(3)]
    mlflow = [sys.executable, "-m", "mlflow", "models", "serve", "--env-manager=local"]
    cells = []
    with contextlib.ExitStack() as up:
        addresses = []
        for name, port in zip(["keras", "plain"], ports[:2], strict=True):
            command = [*mlflow, f"--model-uri={place / name}", f"--port={port}"]
            addresses.append(up.enter_context(server(command, port, "/ping", settings, place / f"{name}.log")))
        ours = [sys.executable, "-m", "bincount", "serve", f"--port={ports[2]}", "--max-time-s=120"]
        addresses.append(up.enter_context(server(ours, ports[2], "/ready", settings, place / "ours.log")))
        bare = up.enter_context(looping(place))
        asked = [
            (KERAS, addresses[0], pixels, "application/json", 1),
            (PLAIN, addresses[1], photo, "application/json", 1),
            (OURS, addresses[2], photo, "application/json", 1),
            (PARQUET, addresses[2], table, parquet, ROWS),
        ]
        for _, address, body, kind, _ in asked:
            load(address, body, kind, 2, 2)  # warm
        for repeat in range(repeats):
            for clients in CLIENTS:
                for what in asked[::-1] if repeat % 2 else asked:
                    if what[0] == PARQUET and clients > 1:
                        continue  # more would only wait
                    cells.append(measure(*what[:4], clients, what[4], seconds))
                    print(f"  {cells[-1]}", flush=True)
                for size in (1, 8, 32):
                    bare.stdin.write(f"{size} {seconds / 2}\n")
                    bare.stdin.flush()
                    rate = float(bare.stdout.readline())
                    cells.append(Cell(f"{LOOP} of {size}", clients, 0, rate, 1e3 * size / rate, float("nan")))
                    print(f"  {cells[-1]}", flush=True)
    return cells


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def report(cells: list[Cell]) -> dict[str, float]:
    """Prints ratios first, then every figure."""
    keys = dict.fromkeys((cell.contender, cell.clients) for cell in cells)
    of = {key: [cell for cell in cells if (cell.contender, cell.clients) == key] for key in keys}
    # The best of the repeats, of every contender: what else runs on the machine only takes away.
    best_of = {
        key: (max(c.photos_per_s for c in group), min(c.p50_ms for c in group), min(c.p99_ms for c in group))
        for key, group in of.items()
    }
    rates: dict[str, list[float]] = {}
    for cell in cells:
        if cell.contender.startswith(LOOP):
            rates.setdefault(cell.contender, []).append(cell.photos_per_s)
    best_loop = max(map(max, rates.values()))
    best = {
        name: max(best_of[name, clients][0] for clients in CLIENTS if (name, clients) in best_of)
        for name in (KERAS, PARQUET)
    }
    ratios = {
        "p50 at 1 client, bincount / (a), at most 0.2": best_of[OURS, 1][1] / best_of[KERAS, 1][1],
        "p50 at 1 client, bincount / (b), at most 0.4": best_of[OURS, 1][1] / best_of[PLAIN, 1][1],
        "photos/s at 8 clients, bincount / (c), at least 0.8": best_of[OURS, 8][0] / best_loop,
        "photos/s in parquet, bincount / (a)'s best, at least 5": best[PARQUET] / best[KERAS],
    }
    machine = f"{platform.machine()}, {os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}"
    print(f"\n{machine}, Python {platform.python_version()}\n")
    for name, ratio in ratios.items():
        print(f"{ratio:6.2f}  {name}")
    print(f"\n{'':20} clients  photos/s   p50 ms   p99 ms")
    for (contender, clients), (rate, p50, p99) in sorted(best_of.items()):
        if not contender.startswith(LOOP):
            print(f"{contender:20} {clients:7} {rate:9.1f} {p50:8.0f} {p99:8.0f}")
    for contender, each in sorted(rates.items()):
        print(f"{contender:20} {'':7} {max(each):9.1f}")
    return ratios


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=8.0, help="of each load (default: 8)")
    parser.add_argument("--repeats", type=int, default=2, help="of everything (default: 2)")
    parser.add_argument("--json", type=Path, help="where to write every figure")
    parser.add_argument("--loop", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.loop:
        loop(args.loop)
        return
    cells = run(args.seconds, args.repeats)
    ratios = report(cells)
    if args.json:
        args.json.write_text(json.dumps({"ratios": ratios, "cells": [asdict(cell) for cell in cells]}, indent=1))


if __name__ == "__main__":
    main()
