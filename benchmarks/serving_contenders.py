"""The servers that `benchmarks.serving` compares, and the models they serve."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

import bincount.serving
from bincount.settings import Settings
from bincount.tracking import model_registry, runs
from bincount.tracking.client import mlflow_client

SERVING = Path(bincount.serving.__file__).parent
CODE = SERVING / "mlflow_model.py"
"""The file by which MLflow loads a version."""
PHOTO = (SERVING / "example.jpg").read_bytes()
PX = 224
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


def write_model(folder: Path, backbone: str = "ResNet50") -> None:
    """An untrained ResNet50 or EfficientNetLite0 with a small head: uint8 photos to probabilities."""
    import keras

    from bincount.learn import efficientnet_lite
    from bincount.learn.engine import save_network
    from bincount.learn.images import decode

    keras.utils.set_random_seed(0)
    photos = keras.Input((PX, PX, 3), dtype="uint8")
    is_lite = backbone == efficientnet_lite.NAME
    build = efficientnet_lite.EfficientNetLite0 if is_lite else keras.applications.ResNet50
    network = build(include_top=False, weights=None, input_shape=(PX, PX, 3))
    scaled = keras.layers.Rescaling(1 / 127.5, offset=-1)(photos)
    features = keras.layers.GlobalAveragePooling2D()(network(scaled))
    folder.mkdir(parents=True)
    model = keras.Model(photos, keras.layers.Dense(5, "softmax")(features))
    save_network(model, folder / "model.keras", decode(PHOTO, image_px=PX, fit="pad")[None], scale=1.0)
    facts = {
        "counts": "1-5",
        "fit": "pad",
        "image_px": PX,
        "backbone": backbone,
        "weights": "none",
        "manifest": "0" * 16,
    }
    (folder / "model.json").write_text(json.dumps(facts))


def write_golden(model: Path, folder: Path) -> None:
    """One golden bin: the example photo with the model's answer."""
    from bincount.learn.predictor import Predictor
    from bincount.mismatch.answer import answer_of

    predictor = Predictor(model)
    folder.mkdir()
    (folder / "0.photo").write_bytes(PHOTO)
    answer = answer_of(predictor.predict([PHOTO])[0], predictor.counts)
    (folder / "answers.json").write_text(json.dumps({"0": answer}))


def pack_all(work: Path) -> Settings:
    """Writes the models of all contenders; ours is registered, and champion."""
    import keras
    import mlflow.keras
    import mlflow.pyfunc
    from mlflow.models import ModelSignature
    from mlflow.types import Schema, TensorSpec

    settings = Settings(work / "data", f"sqlite:///{work / 'mlflow.db'}", work / "artifacts")
    run_id = runs.open_run(settings)
    folder = settings.run(run_id) / "model"
    write_model(folder)
    write_golden(folder, work / "golden")
    runs.log_artifacts(settings, run_id, work / "golden", "golden")
    ours = model_registry.Package(CODE, folder, ["mlflow"], PHOTO, {})
    version = model_registry.register(settings, run_id, ours, {}, "")
    with mlflow_client(settings, "champion") as client:
        client.set_registered_model_alias(model_registry.MODEL, model_registry.CHAMPION, version)

    pixels = Schema([TensorSpec(np.dtype("uint8"), (-1, PX, PX, 3))])
    out = Schema([TensorSpec(np.dtype("float32"), (-1, 5))])
    model = keras.saving.load_model(folder / "model.keras", compile=False)
    mlflow.keras.save_model(model, str(work / "keras"), signature=ModelSignature(pixels, out))
    (work / "plain.py").write_text(PLAIN_CODE)
    from bincount.tracking.model_registry import _signature

    mlflow.pyfunc.save_model(
        str(work / "plain"),
        python_model=str(work / "plain.py"),
        artifacts={"model": str(folder)},
        pip_requirements=["mlflow"],
        signature=ModelSignature(_signature().inputs),
    )
    (work / "model").symlink_to(folder)
    return settings


@contextlib.contextmanager
def server(command: list[str], port: int, path: str, settings: Settings, log: Path) -> Iterator[str]:
    """Runs a server until it is ready, and ends it with all its processes."""
    env = os.environ | {"MLFLOW_TRACKING_URI": settings.tracking_uri, "MLFLOW_DISABLE_TELEMETRY": "true"}
    # `mlflow models serve` looks for uvicorn there, and `make bench` runs without the environment being entered.
    env["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}"
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


def loop(folder: str) -> None:
    """The bare TensorFlow network: for each line of its input, photos/s at that batch size for those seconds."""
    from bincount.learn.engine import KerasNetwork, load_keras
    from bincount.learn.images import decode

    network = KerasNetwork(load_keras(Path(folder) / "model.keras"))
    print("ready", flush=True)
    for line in sys.stdin:
        size, seconds = int(line.split()[0]), float(line.split()[1])
        began, counted = time.monotonic(), 0
        while time.monotonic() - began < seconds:
            network(np.stack([decode(PHOTO, image_px=PX, fit="pad") for _ in range(size)]))
            counted += size
        print(counted / (time.monotonic() - began), flush=True)


@contextlib.contextmanager
def looping(work: Path) -> Iterator[subprocess.Popen[str]]:
    command = [sys.executable, "-m", "benchmarks.serving_contenders", str(work / "model")]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.stdin.close()


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


if __name__ == "__main__":
    loop(sys.argv[1])
