"""Versions in a registry without training: tiny models with golden bins, good ones and bad ones."""

import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np

import bincount.serving
from bincount.counts import Counts
from bincount.mismatch.answer import answer_of
from bincount.mismatch.calibration import Calibration
from bincount.tracking import model_registry, runs
from bincount.tracking.client import mlflow_client
from tests.processes import free_ports
from tests.tiny import photo, write_change_head, write_contents_judge, write_model

CODE = Path(bincount.serving.__file__).with_name("mlflow_model.py")
PHOTOS = [photo(items=items, seed=items) for items in range(1, 6)]


def register_version(settings, *, seed=0, write=write_model, golden=None, calibrated=False, broken=False):
    """Registers a tiny model. Returns its version and its answers to PHOTOS.

    `write` writes another model, `golden` changes the answers that are kept with it, `broken` leaves its facts out;
    without `calibrated` it has no bounds and judges a photo alone.
    """
    from bincount.learn.predictor import Predictor

    run_id = runs.open_run(settings)
    folder = settings.run(run_id) / "model"
    write(folder, seed=seed, sharpness=4.0)
    if calibrated:
        Calibration.of(np.zeros((0, 5)), np.zeros(0, int), [], [], Counts.parse("1-5")).write(folder)
        write_change_head(folder)
        write_contents_judge(folder)
    predictor = Predictor(folder)
    answers = [answer_of(predictor.predict([each])[0], predictor.counts) for each in PHOTOS]
    with tempfile.TemporaryDirectory() as place:
        for row, each in enumerate(PHOTOS):
            (Path(place) / f"{row}.photo").write_bytes(each)
        kept = {str(row): answer for row, answer in enumerate(answers)}
        (Path(place) / "answers.json").write_text(json.dumps(golden(kept) if golden else kept))
        runs.log_artifacts(settings, run_id, Path(place), "golden")
    if broken:
        (folder / "model.json").write_text('{"counts": "1-5"}')
    package = model_registry.Package(CODE, folder, ["mlflow"], PHOTOS[0], {})
    version = model_registry.register(settings, run_id, package, {"bincount.manifest": f"{seed:016d}"}, "")
    return version, answers


def name(settings, version, alias=model_registry.CHAMPION):
    """Points an alias at a version."""
    with mlflow_client(settings, "tests") as client:
        client.set_registered_model_alias(model_registry.MODEL, alias, version)


@contextlib.contextmanager
def serving(settings, *flags, **env):
    """`bincount serve` as anyone starts it: its address and its process. Its log is printed when a test fails."""
    port = free_ports(1)[0]
    named = {"MLFLOW_TRACKING_URI": settings.tracking_uri, "MLFLOW_DISABLE_TELEMETRY": "true", **env}
    with tempfile.NamedTemporaryFile("r") as log, open(log.name, "w") as written:
        process = subprocess.Popen(
            [sys.executable, "-m", "bincount", "serve", f"--port={port}", *flags],
            env=os.environ | named,
            stdout=subprocess.DEVNULL,
            stderr=written,
        )
        process.log = Path(log.name)
        try:
            yield f"http://127.0.0.1:{port}", process
        except BaseException:
            print(log.read())
            raise
        finally:
            if process.poll() is None:
                process.terminate()
            process.wait(60)


def workers_of(process):
    """Ids of the processes that serve a version for a listener."""
    mine = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/stat") as stat, open(f"/proc/{pid}/cmdline") as words:
                if int(stat.read().rpartition(")")[2].split()[1]) == process.pid and "worker" in words.read():
                    mine.append(int(pid))
        except OSError:
            continue
    return mine


def get(url, path, **headers):
    """Status and body of a GET, whatever they are."""
    request = urllib.request.Request(url + path, headers=headers)  # noqa: S310 http
    try:
        with urllib.request.urlopen(request, timeout=10) as response:  # noqa: S310 http
            return response.status, response.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read()


def about(url):
    """What /model says."""
    return json.loads(get(url, "/model")[1])


def wait_until(what, timeout_s=120):
    """Waits until `what()` is true; servers that do not listen yet count as false."""
    until = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(OSError):
            if found := what():
                return found
        assert time.monotonic() < until, "waited too long"
        time.sleep(0.1)
